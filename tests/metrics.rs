//! Metrics as Prometheus reads them, held against a strict parser of the text format; and rates.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
#![allow(clippy::cast_possible_truncation)]

use memstone::Store;
use std::collections::BTreeMap;

/// A family: its type, and its samples by their labels.
#[derive(Debug, Default)]
struct Family {
    kind: String,
    samples: BTreeMap<BTreeMap<String, String>, f64>,
}

fn is_name(name: &str) -> bool {
    name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
}

/// Reads labels up to the closing brace; gives what is left.
fn labels(mut rest: &str) -> (BTreeMap<String, String>, &str) {
    let mut labels = BTreeMap::new();
    loop {
        let (name, after) = rest.split_once("=\"").expect("a label");
        assert!(is_name(name), "{name}");
        let (mut value, mut chars) = (String::new(), after.char_indices());
        let end = loop {
            match chars.next().expect("an open label") {
                (at, '"') => break at + 1,
                (_, '\\') => value.push(match chars.next().unwrap().1 {
                    'n' => '\n',
                    c @ ('\\' | '"') => c,
                    other => panic!("the escape {other:?}"),
                }),
                (_, c) => value.push(c),
            }
        };
        assert!(labels.insert(name.to_owned(), value).is_none(), "{name} twice");
        match after[end..].chars().next() {
            Some(',') => rest = &after[end + 1..],
            Some('}') => return (labels, &after[end + 1..]),
            other => panic!("{other:?} after a label"),
        }
    }
}

/// The exposition format 0.0.4, as it must be: each family once, HELP, then TYPE, then its samples, none twice.
fn parse(text: &str) -> BTreeMap<String, Family> {
    assert!(text.ends_with('\n'));
    let mut families: BTreeMap<String, Family> = BTreeMap::new();
    let (mut helped, mut current) = (None::<&str>, String::new());
    for line in text.lines() {
        if let Some(help) = line.strip_prefix("# HELP ") {
            let (name, words) = help.split_once(' ').expect("words of help");
            assert!(is_name(name) && !words.is_empty() && !families.contains_key(name) && helped.is_none(), "{line}");
            helped = Some(name);
        } else if let Some(kind) = line.strip_prefix("# TYPE ") {
            let (name, kind) = kind.split_once(' ').unwrap();
            assert_eq!(helped.take(), Some(name), "{line}");
            assert!(["gauge", "counter"].contains(&kind), "{line}");
            assert_eq!(kind == "counter", name.ends_with("_total"), "{line}");
            current = name.to_owned();
            families.insert(current.clone(), Family { kind: kind.to_owned(), ..Family::default() });
        } else {
            let (name, rest) = line.split_once('{').expect("labels");
            assert_eq!(name, current, "a sample of another family");
            let (labels, rest) = labels(rest);
            let value: f64 = rest.strip_prefix(' ').expect("a value").parse().unwrap();
            assert!(value.is_finite() && families.get_mut(name).unwrap().samples.insert(labels, value).is_none());
        }
    }
    assert_eq!(helped, None);
    families
}

#[test]
fn the_text_is_valid_whatever_the_names() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a \"store\"\\\n.mst");
    let store = Store::open(&path).unwrap();
    let odd = "a \"table\" \\ with\nlines";
    store.write(|tx| tx.raw(odd)?.put(b"k", b"v")).unwrap();
    store.create_snapshot("s").unwrap();
    let families = parse(&store.sample().unwrap().to_prometheus(&path));
    let shown = path.to_str().unwrap();
    for (name, family) in &families {
        assert!(name.starts_with("memstone_"));
        assert!(family.samples.keys().all(|labels| labels["store"] == shown), "{name}");
        // Units stand in the names.
        let unitless = ["lsn", "sequence", "versions", "held", "running", "waiting", "failed", "stopped", "entries"];
        let units = ["bytes", "seconds", "total"];
        assert!(units.iter().chain(&unitless).any(|unit| name.ends_with(unit)), "{name}");
    }
    let value = |name: &str| *families[name].samples.values().next().unwrap();
    assert_eq!(value("memstone_file_size_bytes"), std::fs::metadata(&path).unwrap().len() as f64);
    assert_eq!(value("memstone_process_commits_total"), 1.0, "a snapshot's name is none");
    let (labels, entries) = families["memstone_table_entries"].samples.iter().next().unwrap();
    assert_eq!((labels["table"].as_str(), *entries), (odd, 1.0));
    assert_eq!(families["memstone_process_commits_total"].kind, "counter");
    let process = families["memstone_process_commits_total"].samples.keys().next().unwrap();
    assert_eq!(process["pid"], std::process::id().to_string());
}

#[test]
fn rates_are_those_between_two_looks() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path().join("memory.mst")).unwrap();
    let put = || store.write(|tx| tx.raw("t")?.put(b"k", b"v")).unwrap();
    (0..5).for_each(|_| put());
    let before = store.sample().unwrap();
    (0..10).for_each(|_| put());
    let after = store.sample().unwrap();
    let rates = after.rates_since(&before);
    let count = |rate: f64| (rate * rates.interval.as_secs_f64()).round();
    assert_eq!((count(rates.commits), count(rates.turns), count(rates.failures)), (10.0, 10.0, 0.0));
    // A checkpoint may have come in between, which has an LSN, too.
    assert!(count(rates.lsns) >= 10.0);
    assert_eq!(count(rates.log_bytes), (after.stats.log.position - before.stats.log.position) as f64);
    assert!(count(rates.log_bytes) > 640.0 && rates.average_wait.is_some());
    let flushes = count(rates.flushes);
    assert!(flushes >= 1.0 && rates.commits_per_flush == Some(10.0 / flushes), "{rates:?}");
    let nothing = after.rates_since(&after);
    assert_eq!((nothing.commits, nothing.commits_per_flush, nothing.average_wait), (0.0, None, None));
}
