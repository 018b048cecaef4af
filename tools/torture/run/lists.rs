//! Histories of lists that are only appended to, judged for strict serializability: each read of a list shows the
//! order of all appends before it, so the order of versions follows, and with it what must have come before what.
//! The cycles in it are found by the crate `adya`, whose verdicts `judge_tests.rs` checks.

use adya::history::{Interner, Mop, Op, OpType, ReadValue, Scalar};
use adya::{History, Opts, Valid, Workload, check};
use std::collections::HashSet;
use std::time::Duration;

/// Beyond what naming a cycle takes; whether there is one is not a matter of time.
const NAMING: Duration = Duration::from_secs(5);

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    Append(u64, u64),
    Read(u64, Vec<u64>),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// When it was told.
    Done(u64),
    /// It certainly did not happen.
    Failed,
    /// It may have happened, then or later.
    Unknown,
}

#[derive(Clone, Debug)]
pub struct Transaction {
    pub call: u64,
    pub outcome: Outcome,
    pub steps: Vec<Step>,
    pub name: String,
}

/// The violations of a history; none if it is strictly serializable.
pub fn violations(transactions: &[Transaction]) -> Vec<String> {
    let mut wrong = strangers(transactions);
    let report = check(&history(transactions), Workload::ListAppend, &Opts { timeout: NAMING, ..Opts::default() });
    // Without any dependency there is nothing to be wrong.
    let kinds = report.anomalies.into_iter().filter(|(kind, _)| report.valid == Valid::False || is_doubt(kind));
    for (kind, cases) in kinds {
        for case in cases {
            let of = |number: &u64| Some(transactions.get(usize::try_from(*number).ok()?)?.name.as_str());
            let names: Vec<_> = case.ops.iter().filter_map(of).collect();
            wrong.push(format!("{kind}, {} of them: {}\n{}", names.len(), names.join(", "), case.explanation));
        }
    }
    wrong
}

fn is_doubt(kind: &str) -> bool {
    kind != "empty-transaction-graph"
}

/// Elements that no transaction appended, or appended to another list: the crate overlooks them.
fn strangers(transactions: &[Transaction]) -> Vec<String> {
    let steps = || transactions.iter().flat_map(|transaction| transaction.steps.iter().map(move |s| (transaction, s)));
    let appended: HashSet<(u64, u64)> = steps()
        .filter_map(|(_, step)| if let Step::Append(list, element) = step { Some((*list, *element)) } else { None })
        .collect();
    let mut told = HashSet::new();
    let mut wrong = Vec::new();
    for (transaction, step) in steps() {
        let Step::Read(list, elements) = step else { continue };
        for element in elements {
            if !appended.contains(&(*list, *element)) && told.insert((*list, *element)) {
                let name = &transaction.name;
                wrong.push(format!("nobody's, {name} read {element:x} in list {list}, which nobody put there"));
            }
        }
    }
    wrong
}

/// The events in the order of time. Each transaction is a process of its own, and its number is the index of both.
fn history(transactions: &[Transaction]) -> History {
    let mut names = Interner::default();
    let ops = events(transactions).into_iter().map(|(_, at, ends)| {
        let transaction = &transactions[at];
        let kind = match transaction.outcome {
            _ if !ends => OpType::Invoke,
            Outcome::Done(_) => OpType::Ok,
            Outcome::Failed => OpType::Fail,
            Outcome::Unknown => OpType::Info,
        };
        let mut name = |number: u64| names.intern(Scalar::Int(number.cast_signed()));
        let value = transaction.steps.iter().map(|step| match step {
            Step::Append(list, element) => Mop::Append { key: name(*list), value: name(*element) },
            Step::Read(list, elements) => Mop::Read {
                key: name(*list),
                value: match kind {
                    OpType::Ok => ReadValue::List(elements.iter().map(|element| name(*element)).collect()),
                    _ => ReadValue::Nil,
                },
            },
        });
        Op { index: at as u64, kind, process: i64::try_from(at).ok(), value: value.collect(), time: None }
    });
    let ops = ops.collect();
    History::from_ops(ops, names)
}

/// When, which transaction, and whether it ends there. What is unknown ends when all is over. Of what happens in the
/// same moment the beginnings come first: neither is before the other.
fn events(transactions: &[Transaction]) -> Vec<(u64, usize, bool)> {
    let mut events: Vec<_> = transactions
        .iter()
        .enumerate()
        .flat_map(|(at, transaction)| {
            let end = if let Outcome::Done(ret) = transaction.outcome { ret } else { u64::MAX };
            [(transaction.call, at, false), (end, at, true)]
        })
        .collect();
    events.sort_by_key(|(time, at, ends)| (*time, *ends, *at));
    events
}
