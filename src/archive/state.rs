//! What an archive has come to, and whether a checkpoint connects to it.

use crate::disk::format::{get_u32, get_u64, put_u32, put_u64};
use crate::disk::root::Root;

/// Bytes of a [`State`].
pub(crate) const STATE: usize = 128;

/// What an archive holds up to some place. All of it lies in the record that ends a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct State {
    /// The log is kept up to this LSN, and that frame's CRC.
    pub(crate) lsn: u64,
    pub(crate) crc: u32,
    /// Something was kept.
    pub(crate) started: bool,
    /// The newest transaction that is kept, and the one before the first.
    pub(crate) last_commit: u64,
    pub(crate) first_commit: u64,
    /// The root that the last batch was kept for: its sequence and time.
    pub(crate) sequence: u64,
    pub(crate) time: u64,
    /// All transactions with an earlier time are kept, in microseconds since 1970.
    pub(crate) covered: u64,
    /// The latest time of any transaction.
    pub(crate) latest: u64,
    /// How many gaps there are, and the last of them: transactions after the first number, up to the second, are missing.
    pub(crate) gaps: u64,
    pub(crate) gap: (u64, u64),
    /// A transaction that was too large for the log, and is committed if its root is there; and the root's time.
    pub(crate) pending: Option<(u64, u64)>,
    /// When it was found that the store has another history than the archive.
    pub(crate) closed: Option<u64>,
}

const STARTED: u32 = 1;
const PENDING: u32 = 2;
const CLOSED: u32 = 4;

impl State {
    pub(crate) fn encode(&self) -> [u8; STATE] {
        let mut out = [0; STATE];
        let (pending, closed) = (self.pending.unwrap_or_default(), self.closed.unwrap_or_default());
        let flag = |set, flag| if set { flag } else { 0 };
        let flags =
            flag(self.started, STARTED) | flag(self.pending.is_some(), PENDING) | flag(self.closed.is_some(), CLOSED);
        put_u32(&mut out, 0, flags);
        put_u32(&mut out, 4, self.crc);
        let numbers = [
            self.lsn,
            self.last_commit,
            self.first_commit,
            self.sequence,
            self.time,
            self.covered,
            self.latest,
            self.gaps,
            self.gap.0,
            self.gap.1,
            pending.0,
            pending.1,
            closed,
        ];
        for (at, number) in numbers.into_iter().enumerate() {
            put_u64(&mut out, 8 + 8 * at, number);
        }
        out
    }

    /// `None`: it has flags that this program does not know.
    pub(crate) fn decode(bytes: &[u8]) -> Option<State> {
        let flags = get_u32(bytes, 0);
        let number = |at: usize| get_u64(bytes, 8 + 8 * at);
        (bytes.len() >= STATE && flags & !(STARTED | PENDING | CLOSED) == 0).then(|| State {
            lsn: number(0),
            crc: get_u32(bytes, 4),
            started: flags & STARTED != 0,
            last_commit: number(1),
            first_commit: number(2),
            sequence: number(3),
            time: number(4),
            covered: number(5),
            latest: number(6),
            gaps: number(7),
            gap: (number(8), number(9)),
            pending: (flags & PENDING != 0).then(|| (number(10), number(11))),
            closed: (flags & CLOSED != 0).then(|| number(12)),
        })
    }

    /// Whether the last transaction that was too large for the log is committed, by the root that a checkpoint builds on.
    /// `None`: that cannot be told any more.
    pub(crate) fn is_committed(&self, base: &Root) -> Option<bool> {
        let (lsn, time) = self.pending?;
        if base.checkpoint_lsn == lsn && base.last_commit == lsn && base.time == time {
            return Some(true);
        }
        // Without its root its LSN is given to another one.
        (base.last_commit < lsn).then_some(false)
    }

    /// Whether the frames that follow a root connect to what is kept.
    pub(crate) fn connects(&self, base: &Root) -> Connection {
        if !self.started {
            return Connection::Begins;
        }
        let behind = base.last_commit > self.last_commit;
        match base.checkpoint_lsn.cmp(&self.lsn) {
            // The checkpoint for which the last batch was kept did not complete its root.
            std::cmp::Ordering::Less if behind => Connection::Contradicts,
            std::cmp::Ordering::Less => Connection::Ahead,
            std::cmp::Ordering::Equal if base.log_crc != self.crc || behind => Connection::Contradicts,
            std::cmp::Ordering::Equal => Connection::Follows,
            std::cmp::Ordering::Greater if behind => Connection::Gap { from: self.last_commit, to: base.last_commit },
            // Marks, or LSNs that were passed over: no transaction is missing.
            std::cmp::Ordering::Greater if base.last_commit == self.last_commit => Connection::Follows,
            std::cmp::Ordering::Greater => Connection::Contradicts,
        }
    }

    /// With a gap of transactions after `from`, up to `to`.
    pub(crate) fn with_gap(self, from: u64, to: u64) -> State {
        State { gaps: self.gaps + 1, gap: (from, to), last_commit: to, ..self }
    }
}

/// How the frames after a root stand to what is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Connection {
    /// Nothing is kept yet.
    Begins,
    Follows,
    /// Some of them are kept already; the last of those must be found among them.
    Ahead,
    /// Transactions after the first number, up to the second, were applied by a checkpoint and not kept.
    Gap {
        from: u64,
        to: u64,
    },
    /// The store has another history.
    Contradicts,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::platform::Disk as _;
    use crate::disk::root::read_slots;
    use crate::disk::sim::{Free, Image, World};
    use crate::engine::open::create;
    use std::sync::Arc;

    /// A root up to an LSN, with that frame's CRC, and its newest transaction.
    fn root(checkpoint_lsn: u64, log_crc: u32, last_commit: u64) -> Root {
        let disk = World::new(Image::default(), Arc::new(Free)).disk(0);
        create(&*disk, 4096, [7; 16]).unwrap();
        let mut slots = vec![0; 8192];
        disk.read_at(&mut slots, 0).unwrap();
        Root { checkpoint_lsn, log_crc, last_commit, time: 50, ..read_slots(&slots, disk.path()).unwrap().newest }
    }

    #[test]
    fn a_checkpoint_connects_or_it_does_not() {
        let state = State { started: true, lsn: 10, crc: 77, last_commit: 9, ..State::default() };
        let connects = |lsn, crc, commit| state.connects(&root(lsn, crc, commit));
        assert_eq!(State::default().connects(&root(5, 1, 4)), Connection::Begins);
        assert_eq!(connects(10, 77, 9), Connection::Follows);
        assert_eq!(connects(10, 78, 9), Connection::Contradicts, "another frame has that LSN");
        assert_eq!(connects(12, 5, 9), Connection::Follows, "marks, or LSNs that were passed over");
        assert_eq!(connects(12, 5, 11), Connection::Gap { from: 9, to: 11 });
        assert_eq!(connects(12, 5, 8), Connection::Contradicts, "it has lost a transaction");
        assert_eq!(connects(6, 5, 5), Connection::Ahead, "that checkpoint did not complete its root");
    }

    #[test]
    fn a_large_transaction_counts_with_its_root() {
        let state = State { started: true, lsn: 10, last_commit: 9, pending: Some((11, 50)), ..State::default() };
        assert_eq!(state.is_committed(&root(11, 1, 11)), Some(true));
        assert_eq!(State { pending: Some((11, 51)), ..state }.is_committed(&root(11, 1, 11)), None, "of another root");
        assert_eq!(state.is_committed(&root(10, 1, 9)), Some(false));
        assert_eq!(state.is_committed(&root(14, 1, 13)), None, "what was applied since is unknown");
    }
}
