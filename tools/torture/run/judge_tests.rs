//! The judges are judged: small histories whose verdicts are known, and thousands of random ones
//! compared with a search through all orders.

use super::lists::{Outcome, Step, Transaction, violations};
use crate::random::Random;
use Outcome::{Done, Failed, Unknown};
use Step::{Append, Read};

fn txn(call: u64, outcome: Outcome, steps: &[Step]) -> Transaction {
    Transaction { call, outcome, steps: steps.to_vec(), name: format!("at {call}") }
}

/// Whether some order of all that was done, and of some of what is unknown, explains every read and keeps to the times.
fn explained(transactions: &[Transaction], placed: u32, lists: &[Vec<u64>]) -> bool {
    let is_placed = |at: usize| placed >> at & 1 == 1;
    let done = |transaction: &Transaction| matches!(transaction.outcome, Done(_));
    let left = || transactions.iter().enumerate().filter(|(at, _)| !is_placed(*at));
    if left().all(|(_, transaction)| !done(transaction)) {
        return true;
    }
    left().filter(|(_, transaction)| transaction.outcome != Failed).any(|(at, transaction)| {
        let must_wait = left().any(|(_, other)| matches!(other.outcome, Done(ret) if ret < transaction.call));
        let mut lists = lists.to_vec();
        let fits = transaction.steps.iter().all(|step| match step {
            Append(list, element) => {
                lists[*list as usize].push(*element);
                true
            }
            Read(list, elements) => !done(transaction) || lists[*list as usize] == *elements,
        });
        !must_wait && fits && explained(transactions, placed | 1 << at, &lists)
    })
}

fn agree(what: &str, transactions: &[Transaction]) -> bool {
    let (found, expected) = (violations(transactions), explained(transactions, 0, &vec![Vec::new(); 3]));
    assert_eq!(found.is_empty(), expected, "{what}: {found:#?} of {transactions:#?}");
    expected
}

#[test]
fn known_histories_are_judged_right() {
    let read = |list, elements: &[u64]| Read(list, elements.to_vec());
    let (a, b) = (|| Append(0, 1), || Append(1, 2));
    let good = [
        ("in order", vec![txn(0, Done(1), &[a()]), txn(2, Done(3), &[read(0, &[1])])]),
        ("at once", vec![txn(0, Done(5), &[a()]), txn(2, Done(3), &[read(0, &[])])]),
        ("in one moment", vec![txn(0, Done(2), &[a()]), txn(2, Done(3), &[read(0, &[])])]),
        ("unknown, and there", vec![txn(0, Unknown, &[a()]), txn(2, Done(3), &[read(0, &[1])])]),
        ("unknown, and not there", vec![txn(0, Unknown, &[a()]), txn(2, Done(3), &[read(0, &[])])]),
        ("failed, and not there", vec![txn(0, Failed, &[a()]), txn(2, Done(3), &[read(0, &[])])]),
    ];
    let bad = [
        ("stale read", vec![txn(0, Done(1), &[a()]), txn(2, Done(3), &[read(0, &[])])]),
        (
            "seen by one, then not by another",
            vec![txn(0, Done(9), &[a()]), txn(2, Done(3), &[read(0, &[1])]), txn(4, Done(5), &[read(0, &[])])],
        ),
        (
            "unknown, seen by one, then not by another",
            vec![txn(0, Unknown, &[a()]), txn(2, Done(3), &[read(0, &[1])]), txn(4, Done(5), &[read(0, &[])])],
        ),
        (
            "lost append",
            vec![txn(0, Done(5), &[a()]), txn(1, Done(6), &[Append(0, 9)]), txn(7, Done(8), &[read(0, &[9])])],
        ),
        (
            "lost update",
            vec![
                txn(0, Done(5), &[read(0, &[]), a()]),
                txn(1, Done(6), &[read(0, &[]), Append(0, 9)]),
                txn(7, Done(8), &[read(0, &[1, 9])]),
            ],
        ),
        (
            "write skew",
            vec![
                txn(0, Done(5), &[read(1, &[]), a()]),
                txn(1, Done(6), &[read(0, &[]), b()]),
                txn(7, Done(8), &[read(0, &[1]), read(1, &[2])]),
            ],
        ),
        ("half of a transaction", vec![txn(0, Done(9), &[a(), b()]), txn(2, Done(3), &[read(0, &[1]), read(1, &[])])]),
        (
            "two orders",
            vec![
                txn(0, Done(9), &[a()]),
                txn(0, Done(9), &[Append(0, 9)]),
                txn(1, Done(2), &[read(0, &[1, 9])]),
                txn(1, Done(2), &[read(0, &[9, 1])]),
            ],
        ),
        ("failed, and there", vec![txn(0, Failed, &[a()]), txn(2, Done(3), &[read(0, &[1])])]),
        ("nobody's", vec![txn(0, Done(1), &[a()]), txn(2, Done(3), &[read(0, &[1, 77])])]),
        ("another list's", vec![txn(0, Done(1), &[a(), b()]), txn(2, Done(3), &[read(0, &[1, 2])])]),
    ];
    good.iter().for_each(|(what, history)| assert!(agree(what, history), "{what}"));
    bad.iter().for_each(|(what, history)| assert!(!agree(what, history), "{what}"));
}

/// A history of a store that now and then works on an older state than the newest.
fn random_history(random: &mut Random) -> Vec<Transaction> {
    let mut order: Vec<(u64, Transaction)> = (0..3 + random.below(4))
        .map(|_| {
            let call = random.below(20);
            let ret = call + 1 + random.below(8);
            let outcome = [Failed, Unknown].into_iter().nth(random.below(10) as usize).unwrap_or(Done(ret * 2 + 1));
            (call + random.below(ret - call + 1), txn(call * 2, outcome, &[]))
        })
        .collect();
    order.sort_by_key(|(at, _)| *at);
    let mut states = vec![vec![Vec::new(); 3]];
    let mut element = 0;
    for (_, transaction) in &mut order {
        let newest = states[states.len() - 1].clone();
        let stale = random.below(5) == 0;
        let base = if stale { states[random.below(states.len() as u64) as usize].clone() } else { newest.clone() };
        let (mut shown, mut after) = (base, newest);
        for _ in 0..1 + random.below(3) {
            let list = random.below(3);
            if random.below(2) == 0 {
                element += 1;
                shown[list as usize].push(element);
                after[list as usize].push(element);
                transaction.steps.push(Append(list, element));
            } else {
                transaction.steps.push(Read(list, shown[list as usize].clone()));
            }
        }
        if matches!(transaction.outcome, Done(_)) || transaction.outcome == Unknown && random.below(2) == 0 {
            states.push(after);
        }
    }
    let last = &states[states.len() - 1];
    let mut history: Vec<_> = order.into_iter().map(|(_, transaction)| transaction).collect();
    if random.below(2) == 0 {
        history.push(txn(200, Done(201), &[0, 1, 2].map(|list| Read(list, last[list as usize].clone()))));
    }
    history
}

#[test]
fn random_histories_are_judged_as_a_search_through_all_orders_does() {
    let mut random = Random(1);
    let histories = if std::env::var_os("MEMSTONE_LONG").is_some() { 400_000 } else { 20_000 };
    let good = (0..histories).filter(|n| agree(&format!("history {n}"), &random_history(&mut random))).count();
    println!("{good} of {histories} histories were strictly serializable");
    assert!(good > histories / 2 && good < histories * 19 / 20, "{good}");
}
