//! Real-time order: what begins after something has ended sees at least as much as that showed.

/// Something that was done between two moments: how much it found there, and how much there was once it was told of.
/// A read that saw `n` has both at `n`, the write that made it `n` goes from `n - 1` to `n`.
pub struct Done {
    pub call: u64,
    /// `None`: it was never told of (killed, or its outcome is unknown), and orders nothing that comes later.
    pub ret: Option<u64>,
    pub found: u64,
    pub left: u64,
    pub what: String,
}

/// The transaction that knew too early, or saw too late, as far as the sentence tells.
pub fn kind(wrong: &str) -> &'static str {
    let (found, told) = wrong.split_once(" after ").unwrap_or((wrong, ""));
    match (found, told) {
        (_, told) if told.contains("a write that writes nothing") => "real time, a write that wrote nothing knew more",
        (_, told) if told.contains("just opened") => "real time, one that had just opened knew more",
        (found, _) if found.contains("just opened") => "real time, one that had just opened knew less",
        (found, _) if found.contains("a write that writes nothing") => {
            "real time, a write that wrote nothing knew less"
        }
        (found, _) if found.starts_with("transaction") => "real time, a write on an older state",
        (_, told) if told.starts_with("transaction") => "real time, after a commit",
        _ => "real time, between snapshots",
    }
}

/// One sentence for each that found less than something else had left that ended before it began.
pub fn out_of_order(done: &[Done]) -> Vec<String> {
    let mut begun: Vec<&Done> = done.iter().collect();
    begun.sort_by_key(|done| done.call);
    let mut ended: Vec<(u64, &Done)> = done.iter().filter_map(|done| Some((done.ret?, done))).collect();
    ended.sort_by_key(|(ret, _)| *ret);
    let (mut next, mut most): (usize, Option<(u64, &Done)>) = (0, None);
    let mut wrong = Vec::new();
    for later in begun {
        while let Some((ret, earlier)) = ended.get(next).filter(|(ret, _)| *ret < later.call) {
            if most.is_none_or(|(_, most)| earlier.left > most.left) {
                most = Some((*ret, earlier));
            }
            next += 1;
        }
        if let Some((ret, earlier)) = most.filter(|(_, most)| most.left > later.found) {
            let late = (later.call - ret) / 1000;
            wrong.push(format!(
                "{} found {}, {late} µs after {} had told of {}",
                later.what, later.found, earlier.what, earlier.left
            ));
        }
    }
    wrong
}

#[cfg(test)]
mod tests {
    use super::*;

    fn done(call: u64, ret: impl Into<Option<u64>>, found: u64, left: u64) -> Done {
        Done { call, ret: ret.into(), found, left, what: format!("{call}") }
    }

    #[test]
    fn later_ones_see_what_earlier_ones_showed() {
        let wrong = |done: &[Done]| out_of_order(done).len();
        assert_eq!(wrong(&[done(0, 1, 0, 1), done(2, 3, 1, 1), done(4, 5, 1, 2)]), 0);
        assert_eq!(wrong(&[done(0, 1, 0, 1), done(2, 3, 0, 0)]), 1, "a stale read");
        assert_eq!(wrong(&[done(0, 2, 0, 1), done(2, 3, 0, 0)]), 0, "at once: either order");
        assert_eq!(
            wrong(&[done(0, 9, 0, 1), done(2, 3, 1, 1), done(4, 5, 0, 0)]),
            1,
            "seen before it is told, then gone"
        );
        assert_eq!(wrong(&[done(0, None, 0, 1), done(2, 3, 0, 0)]), 0, "nobody was told");
        assert_eq!(
            wrong(&[done(0, None, 0, 1), done(2, 3, 1, 1), done(4, None, 0, 1)]),
            1,
            "a write on an older state"
        );
        assert_eq!(wrong(&[done(0, 5, 0, 1), done(1, 6, 0, 1), done(7, 8, 1, 1)]), 0);
    }
}
