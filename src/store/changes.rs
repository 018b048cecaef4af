//! The change feed of a store.

use super::Store;
use crate::disk::format::SETTING_JOURNAL;
use crate::error::Result;
use crate::txn::changes::{Cursor, Feed};

impl Store {
    /// What was committed after a cursor, up to now: [`Snapshot::changes`](crate::Snapshot::changes) of a new snapshot.
    /// Waits for no writer. [`Store::wait_for_change`] waits for the next commit of any process.
    ///
    /// A reader that follows a store for long:
    ///
    /// ```
    /// # let store = memstone::Store::in_memory()?;
    /// use memstone::Feed;
    /// use std::time::Duration;
    ///
    /// let mut cursor = store.read()?.end()?;
    /// # let other = store.clone();
    /// # let writer = std::thread::spawn(move || other.write(|tx| tx.raw("notes")?.put(b"a", b"1")));
    /// # let mut rounds = 0;
    /// loop {
    ///     store.wait_for_change(cursor.lsn(), Duration::from_secs(60))?;
    ///     let now = store.read()?;
    ///     match now.changes(cursor)? {
    ///         Feed::Changes(commits) => {
    ///             for commit in commits {
    ///                 commit?.changes().for_each(|change| println!("{change:?}"));
    /// #               rounds += 1;
    ///             }
    ///         }
    ///         gap => println!("read all of {now:?} anew: {gap:?}"),
    ///     }
    ///     cursor = now.end()?;
    /// #   if rounds > 0 { break }
    /// }
    /// # writer.join().unwrap()?;
    /// # Ok::<(), memstone::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`Store::read`].
    pub fn changes(&self, since: Cursor) -> Result<Feed> {
        self.read()?.changes(since)
    }

    /// Gives the store a journal of up to so many bytes, or takes it away (`None`). It is kept in the file, in the
    /// store's own pages: what each commit changed, without the values. A checkpoint adds to it what it applies, and
    /// removes the oldest beyond the bound. So a reader of [`Store::changes`] that was away gets no [`Gap`](crate::Gap)
    /// as long as what was committed meanwhile fits. A commit takes 16 bytes, 7 and the name for each of its tables,
    /// and 3 and the key for each key that it changed; and 12 for every 2 KiB.
    ///
    /// This is a commit like any other. The first commit that the journal covers comes after the first checkpoint
    /// behind it at the latest. A journal of 0 bytes holds no commits; but the feed then notices every change of
    /// history. A clone has the journal, too; a restored backup and a loaded dump have none.
    ///
    /// ```
    /// # let store = memstone::Store::in_memory()?;
    /// use memstone::Feed;
    /// store.set_journal(Some(1 << 20))?;
    /// let seen = store.read()?.end()?;
    /// store.write(|tx| tx.raw("notes")?.put(b"a", b"1"))?;
    /// store.checkpoint()?;
    /// let Feed::Changes(commits) = store.changes(seen)? else { panic!("a journal has them") };
    /// assert_eq!(commits.count(), 1);
    /// assert_eq!(store.journal()?, Some(1 << 20));
    /// # Ok::<(), memstone::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`Store::write`].
    pub fn set_journal(&self, bytes: Option<u64>) -> Result<()> {
        let row = bytes.map(u64::to_le_bytes);
        self.write(|tx| tx.put_setting(SETTING_JOURNAL, row.as_ref().map(|row| &row[..])))
    }

    /// How many bytes the journal may have; `None`: the store has none. See [`Store::set_journal`].
    ///
    /// # Errors
    /// As [`Store::read`].
    pub fn journal(&self) -> Result<Option<u64>> {
        self.in_file(self.read()?.view().journal_bound())
    }
}
