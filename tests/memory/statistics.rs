//! What a handle counts, what it leaves to the store, and what it warns of.

use crate::support::{Fixture, SECOND};
use memstone::memory::{
    Draft, Limits, Memory, MemoryError, MemoryOptions, Meter, Operation, Outcome, Query, Thresholds, Watched,
};
use std::time::Duration;

/// Namespace, kind, operations, refused, failed.
fn counts(memory: &Memory) -> Vec<(String, Operation, [u64; 3])> {
    let operations = memory.statistics().unwrap().operations;
    let count = |of: memstone::memory::OperationStatistics| {
        assert!(of.p50 <= of.p95 && of.p95 <= of.p99 && of.p99 <= of.longest && of.longest <= of.total);
        (of.namespace.unwrap().to_string(), of.operation, [of.count, of.refused, of.failed])
    };
    operations.into_iter().map(count).collect()
}

#[test]
fn operations_are_counted_by_kind_and_namespace() {
    let f = Fixture::new();
    f.memory.set_limits("ada", Limits::new().items(2).at_once(1)).unwrap();
    let id = f.memory.add("ada/chat", "1").unwrap().id;
    f.memory.add("ada/chat", "2").unwrap();
    assert!(f.memory.add("ada/chat", "3").is_err());
    f.memory.add("bob", Draft::new("4").expires_in(SECOND)).unwrap();
    f.memory.find(&Query::new().under("ada")).unwrap();
    f.memory.update(id, |item| item.content.push('!')).unwrap();
    f.memory
        .edit(id, |item| {
            item.content.push('!');
            Ok::<_, MemoryError>(())
        })
        .unwrap();
    assert!(f.memory.patch(id, &serde_json::json!({"other": 1})).is_err());
    assert!(f.memory.remove(id).unwrap() && !f.memory.remove(id).unwrap());
    f.memory.get(id).unwrap();
    let permit = f.memory.enter("ada", SECOND).unwrap();
    assert!(f.memory.enter("ada", SECOND).is_err());
    drop(permit);
    f.memory.write(|tx| tx.add("carl", "5")).unwrap();
    f.pass(SECOND);
    f.memory.sweep(10).unwrap();
    f.memory.clear("carl").unwrap();
    f.is_clean();
    let clone = f.memory.clone();
    let expected = [
        ("", Operation::Get, [1, 0, 0]),
        ("", Operation::Update, [1, 0, 1]),
        ("", Operation::Remove, [1, 0, 0]),
        ("", Operation::Sweep, [1, 0, 0]),
        ("", Operation::Transaction, [1, 0, 0]),
        ("", Operation::Check, [1, 0, 0]),
        ("ada", Operation::Find, [1, 0, 0]),
        ("ada", Operation::Enter, [2, 1, 0]),
        ("ada/chat", Operation::Add, [3, 1, 0]),
        ("ada/chat", Operation::Get, [1, 0, 0]),
        ("ada/chat", Operation::Update, [2, 0, 0]),
        ("ada/chat", Operation::Remove, [1, 0, 0]),
        ("bob", Operation::Add, [1, 0, 0]),
        ("carl", Operation::Clear, [1, 0, 0]),
    ];
    assert_eq!(counts(&clone), expected.map(|(namespace, kind, counts)| (namespace.to_owned(), kind, counts)));
    // Another handle counts for itself; the store counts for all.
    let other = Memory::new(f.memory.store().clone());
    assert!(counts(&other).is_empty());
    let (ours, theirs) = (f.memory.statistics().unwrap(), other.statistics().unwrap());
    assert!(ours.writer.acquisitions == theirs.writer.acquisitions && ours.writer.acquisitions >= 12);
    assert_eq!((ours.rows_read > 0, theirs.rows_written, ours.running), (true, 0, 0));
    let pid = std::process::id();
    assert!(ours.locks.processes.iter().any(|of| of.process.pid == pid && of.locks.commits > 0));
    let json = serde_json::to_value(&ours).unwrap();
    assert_eq!(
        (&json["operations"][8]["operation"], &json["operations"][8]["namespace"]),
        (&serde_json::json!("add"), &serde_json::json!("ada/chat"))
    );
    assert!(json["writer"]["last_acquired"].is_object() && json["locks"]["waiting"].is_array());
}

#[test]
fn who_writes_and_who_waits_is_active() {
    let f = Fixture::new();
    let tx = f.memory.store().begin_write().unwrap();
    let options = MemoryOptions::new().writing(memstone::WriteOptions::new().timeout(Duration::ZERO));
    let impatient = Memory::with(f.memory.store().clone(), options);
    let refused = std::thread::scope(|scope| scope.spawn(|| impatient.add("ada", "1")).join().unwrap());
    assert!(matches!(refused, Err(MemoryError::Store(memstone::Error::Busy { .. }))), "{refused:?}");
    let statistics = impatient.statistics().unwrap();
    assert_eq!((statistics.active, statistics.writer.failures), (1, 1));
    assert_eq!((statistics.operations[0].failed, statistics.operations[0].refused), (1, 0));
    tx.rollback();
    assert_eq!(impatient.statistics().unwrap().active, 0);
}

#[test]
fn what_reaches_its_threshold_is_told_with_what_to_do() {
    let f = Fixture::new();
    // However long anything takes.
    let mut patient = Thresholds::default();
    (patient.average_wait, patient.p99_wait, patient.writer_held) = (Duration::MAX, Duration::MAX, Duration::MAX);
    (patient.read_p99, patient.write_p99) = (Duration::MAX, Duration::MAX);
    let memory = Memory::with(f.memory.store().clone(), f.options().thresholds(patient));
    memory.set_limits("ada", Limits::new().items(10).bytes(10_000)).unwrap();
    for n in 0..8 {
        memory.add("ada", Draft::new(n.to_string()).expires_in(SECOND * 60)).unwrap();
    }
    let warnings = |memory: &Memory| memory.statistics().unwrap().warnings;
    assert!(warnings(&memory).is_empty());
    memory.add("ada/chat", "9").unwrap();
    let quota = warnings(&memory).remove(0);
    assert_eq!((quota.watched, quota.measured, quota.threshold, quota.unit), (Watched::Quota, 0.9, 0.9, "share"));
    let text = "a quota is nearly used up in \"ada\" (items): 90.0 %, and 90.0 % is the threshold; remove or sweep items of \
                the namespace, or raise its limit";
    assert_eq!(quota.to_string(), text);
    f.pass(SECOND * 60 + Duration::from_secs(86_400) - Duration::from_micros(1));
    assert_eq!(warnings(&memory), [quota]);
    f.pass(Duration::from_micros(1));
    let due: Vec<_> = warnings(&memory).iter().map(|warning| (warning.watched, warning.measured)).collect();
    assert_eq!(due, [(Watched::Unswept, 86_400.0), (Watched::Quota, 0.9)]);
    memory.sweep(100).unwrap();
    assert!(warnings(&memory).is_empty());
    let mut thresholds = patient;
    (thresholds.read_p99, thresholds.write_p99) = (Duration::ZERO, Duration::ZERO);
    let strict = Memory::with(f.memory.store().clone(), f.options().thresholds(thresholds));
    strict.find(&Query::new()).unwrap();
    strict.add("ada", "10").unwrap();
    let of = |warning: memstone::memory::Warning| {
        (warning.watched, warning.operation, warning.namespace.unwrap().to_string())
    };
    let found: Vec<_> = warnings(&strict).into_iter().map(of).collect();
    assert_eq!(
        found,
        [
            (Watched::ReadLatency, Some(Operation::Find), String::new()),
            (Watched::WriteLatency, Some(Operation::Add), "ada".to_owned()),
        ]
    );
}

#[test]
fn handles_with_one_meter_measure_together() {
    let f = Fixture::new();
    let meter = Meter::new();
    let handle = || Memory::with(f.memory.store().clone(), f.options().meter(meter.clone()));
    let id = handle().add("ada", "likes tea").unwrap().id;
    handle().get(id).unwrap();
    let measuring = meter.begin();
    assert_eq!(handle().statistics().unwrap().running, 1);
    measuring.end(Operation::Writing("import"), &"bob".parse().unwrap(), Outcome::Refused);
    drop(meter.begin());
    let expected = [
        ("ada".to_owned(), Operation::Add, [1, 0, 0]),
        ("ada".to_owned(), Operation::Get, [1, 0, 0]),
        ("bob".to_owned(), Operation::Writing("import"), [1, 1, 0]),
    ];
    assert_eq!(counts(&handle()), expected);
    assert!(handle().work().rows_written > 0 && f.memory.work().rows_written == 0);
    let since = handle().statistics().unwrap().since;
    assert_eq!(meter.reset(), 3);
    let after = handle().statistics().unwrap();
    assert!(after.operations.is_empty() && after.since >= since && after.rows_written == 0 && after.running == 0);
}
