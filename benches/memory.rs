//! The memory layer: searches over many items, and what an operation costs in small and large memories.
//!
//! `cargo bench --features memory --bench memory -- [words] [vectors] [operations] [graph] [jobs]` (all of them, if none is named)
//!
//! `operations` writes its figures to `docs/results/operations.tsv`, and draws them: `operations.svg` beside it. `plot` draws the figures
//! that are there.

#![allow(missing_docs, clippy::unwrap_used, clippy::indexing_slicing, reason = "a program that measures")]
#![allow(clippy::cast_possible_truncation, clippy::cast_precision_loss, reason = "numbers that it chose")]

#[path = "common/plot.rs"]
mod plot;
#[path = "../tests/common/random.rs"]
mod random;

use memstone::memory::graph::{Entity, GraphMut, GraphView, Relation};
use memstone::memory::jobs::{Job, JobError, Jobs};
use memstone::memory::{Draft, Format, ItemId, Limits, Memory, MemoryError, MemoryOptions, Metric, Query, Space};
use memstone::{Durability, Store, WriteOptions};
use plot::Line;
use random::Random;
use std::hint::black_box;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

const DIMENSION: u32 = 768;
const VOCABULARY: f64 = 30_000.0;

fn main() {
    let asked: Vec<String> = std::env::args().skip(1).filter(|word| !word.starts_with('-')).collect();
    let wants = |name: &str| asked.is_empty() || asked.iter().any(|word| word == name);
    if wants("words") {
        words(100_000);
    }
    if wants("vectors") {
        vectors(100_000);
    }
    if wants("operations") {
        operations(&[1_000, 10_000, 100_000, 1_000_000]);
    }
    if asked.iter().any(|word| word == "plot") {
        draw(&plot::read(&std::fs::read_to_string(results("operations.tsv")).unwrap()));
    }
    if wants("graph") {
        graph(&[10_000, 100_000]);
    }
    if wants("jobs") {
        jobs(&[1_000, 10_000, 100_000]);
    }
}

fn memory() -> (tempfile::TempDir, Memory) {
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let options = MemoryOptions::new().writing(WriteOptions::new().durability(Durability::Relaxed));
    let memory = Memory::with(Store::open(dir.path().join("memory.mst")).unwrap(), options);
    (dir, memory)
}

/// A word as often as Zipf's law has it: the first is in most texts.
fn word(random: &mut Random) -> String {
    let share = random.next() as f64 / u64::MAX as f64;
    format!("word{}", VOCABULARY.powf(share) as u32)
}

fn text(random: &mut Random, words: usize) -> String {
    (0..words).map(|_| word(random)).collect::<Vec<_>>().join(" ")
}

fn fill(memory: &Memory, from: u32, to: u32, draft: impl Fn(&mut Random, u32) -> (String, Draft)) -> Vec<ItemId> {
    let mut ids = Vec::new();
    let mut random = Random(u64::from(from) + 1);
    for start in (from..to).step_by(1000) {
        let batch = memory.write(|tx| {
            (start..to.min(start + 1000))
                .map(|n| {
                    let (namespace, draft) = draft(&mut random, n);
                    Ok::<_, MemoryError>(tx.add(namespace, draft)?.id)
                })
                .collect::<Result<Vec<_>, MemoryError>>()
        });
        ids.extend(batch.unwrap());
    }
    memory.store().checkpoint().unwrap();
    ids
}

/// The median, the value that 95 of 100 do not exceed, and the greatest.
fn figures(mut times: Vec<Duration>) -> String {
    times.sort_unstable();
    let at = |share: usize| times[(times.len() - 1) * share / 100].as_secs_f64() * 1000.0;
    format!("median {:.2} ms, p95 {:.2} ms, longest {:.2} ms", at(50), at(95), at(100))
}

fn timed(rounds: usize, mut body: impl FnMut()) -> Vec<Duration> {
    let time = |()| {
        let started = Instant::now();
        body();
        started.elapsed()
    };
    std::iter::repeat_n((), rounds).map(time).collect()
}

fn words(items: u32) {
    for namespaces in [1, 100] {
        let (_dir, memory) = memory();
        let started = Instant::now();
        fill(&memory, 0, items, |random, n| (format!("user{}", n % namespaces), Draft::new(text(random, 60))));
        println!(
            "{items} items of 60 words in {namespaces} namespaces: filled in {:.1} s",
            started.elapsed().as_secs_f64()
        );
        let mut random = Random(99);
        let mut search = |kind: &str, query: &mut dyn FnMut(&mut Random) -> Query| {
            let times = timed(300, || drop(black_box(memory.find(&query(&mut random)).unwrap())));
            println!("  {kind}: {}", figures(times));
        };
        search("three words", &mut |random| Query::new().words(text(random, 3)));
        search("the three words that most items have", &mut |_| Query::new().words("word1 word2 word3"));
        search("five words", &mut |random| Query::new().words(text(random, 5)));
        search("a phrase of two words", &mut |random| Query::new().words(format!("\"{}\"", text(random, 2))));
        search("a beginning (word12*)", &mut |_| Query::new().words("word12*"));
        if namespaces > 1 {
            search("three words in one namespace", &mut |random| Query::new().under("user7").words(text(random, 3)));
        }
    }
}

fn vectors(items: u32) {
    for (format, metric) in [
        (Format::F32, Metric::Dot),
        (Format::F32, Metric::Cosine),
        (Format::F32, Metric::L2),
        (Format::F16, Metric::Cosine),
        (Format::I8, Metric::Cosine),
    ] {
        let (_dir, memory) = memory();
        memory.declare_space("s", Space::new(DIMENSION).format(format).metric(metric)).unwrap();
        let vector = |random: &mut Random| -> Vec<f32> {
            (0..DIMENSION).map(|_| random.next() as u32 as f32 / u32::MAX as f32 - 0.5).collect()
        };
        let started = Instant::now();
        fill(&memory, 0, items, |random, n| {
            let tag = if n % 100 == 0 { "rare" } else { "usual" };
            ("a".to_owned(), Draft::new(format!("{n}")).tags([tag]).vector("s", vector(random)))
        });
        println!("{items} vectors {format:?}: filled in {:.1} s", started.elapsed().as_secs_f64());
        // As many bytes of memory, read once each, in the same rounds.
        let bytes = match format {
            Format::F32 => DIMENSION * 4,
            Format::F16 => DIMENSION * 2,
            _ => DIMENSION + 4,
        } as usize;
        let plain = vec![1_u64; items as usize * bytes / 8];
        let mut random = Random(5);
        let (mut reading, mut finding, mut filtered) = (Vec::new(), Vec::new(), Vec::new());
        for _ in 0..15 {
            reading
                .extend(timed(1, || assert_ne!(black_box(plain.iter().fold(0_u64, |sum, x| sum.wrapping_add(*x))), 0)));
            let query = Query::new().vector("s", vector(&mut random)).limit(10);
            finding.extend(timed(1, || drop(black_box(memory.find(&query).unwrap()))));
            let query = query.tag("rare");
            filtered.extend(timed(1, || drop(black_box(memory.find(&query).unwrap()))));
        }
        let median = |mut times: Vec<Duration>| {
            times.sort_unstable();
            times[times.len() / 2].as_secs_f64() * 1000.0
        };
        let (reading, finding, filtered) = (median(reading), median(finding), median(filtered));
        println!(
            "  {DIMENSION} {format:?}, {metric:?}: {finding:.1} ms; reading {:.0} MB of memory {reading:.1} ms: {:.2} x; among 1 % by tag {filtered:.2} ms",
            (items as usize * bytes) as f64 / 1e6,
            finding / reading,
        );
    }
}

fn results(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/results").join(name)
}

fn draw(lines: &[Line]) {
    let title = "Memory layer: the time of an operation, by the number of items";
    std::fs::write(results("operations.svg"), plot::svg(title, lines)).unwrap();
    let slopes = lines.iter().map(|line| format!("{} {:.3}", line.name, line.slope()));
    println!("slopes of log time over log size: {}", slopes.collect::<Vec<_>>().join(", "));
}

fn operations(sizes: &[u32]) {
    let (_dir, memory) = memory();
    let mut ids: Vec<ItemId> = Vec::new();
    let draft = |random: &mut Random, n: u32| {
        ("ada/chat".to_owned(), Draft::new(format!("n{n} {}", text(random, 20))).tags(["usual"]).metadata("n", n))
    };
    memory.declare_field("n").unwrap();
    memory.set_limits("bob", Limits::new().rate(1 << 40, Duration::from_secs(3600)).at_once(8)).unwrap();
    println!("medians of 500, not flushed:");
    let mut lines: Vec<Line> = Vec::new();
    for size in sizes {
        ids.extend(fill(&memory, ids.len() as u32, *size, draft));
        let mut random = Random(3);
        let mut at = 0;
        let mut next = || {
            at = (at + 7919) % ids.len();
            ids[at]
        };
        let mut line = Vec::new();
        let mut measure = |name: &str, body: &mut dyn FnMut(usize)| {
            let mut n = 0;
            let mut times = timed(500, || {
                body(n);
                n += 1;
            });
            times.sort_unstable();
            let median = times[times.len() / 2].as_secs_f64() * 1e6;
            line.push(format!("{name} {median:.1} µs"));
            let point = (f64::from(*size), median);
            match lines.iter_mut().find(|line| line.name == name) {
                Some(line) => line.points.push(point),
                None => lines.push(Line { name: name.to_owned(), points: vec![point] }),
            }
        };
        let drafts: Vec<Draft> = (0..500).map(|n| draft(&mut random, size + n).1).collect();
        let mut added = Vec::new();
        measure("add", &mut |n| added.push(memory.add("ada/chat", drafts[n].clone()).unwrap().id));
        measure("add the same content again", &mut |n| {
            assert!(memory.add("ada/chat", drafts[n].clone()).unwrap().duplicate)
        });
        measure("get", &mut |_| drop(black_box(memory.get(next()).unwrap())));
        measure("the newest ten", &mut |_| drop(black_box(memory.find(&Query::new().under("ada")).unwrap())));
        measure("find by a field", &mut |n| drop(black_box(memory.find(&Query::new().field("n", n)).unwrap())));
        measure("patch", &mut |n| drop(memory.patch(added[n], &serde_json::json!({"tags": ["other"]})).unwrap()));
        measure("remove", &mut |n| assert!(memory.remove(added[n]).unwrap()));
        measure("usage of a namespace", &mut |_| drop(black_box(memory.usage("ada").unwrap())));
        let rare: Vec<String> = (0..500).map(|n| format!("n{}", n * (size / 500) + 1)).collect();
        measure("find by a word of one item", &mut |n| {
            drop(black_box(memory.find(&Query::new().words(&*rare[n])).unwrap()))
        });
        measure("take a token of a rate", &mut |_| memory.charge("bob", 1).unwrap());
        measure("enter and leave", &mut |_| drop(memory.enter("bob", Duration::from_secs(60)).unwrap()));
        println!("  {size} items: {}", line.join(", "));
    }
    std::fs::write(results("operations.tsv"), plot::write(&lines)).unwrap();
    draw(&lines);
}

/// Searches of a knowledge graph with three observations and a relation for each entity.
fn graph(sizes: &[u32]) {
    let (_dir, memory) = memory();
    let store = memory.store();
    let mut random = Random(11);
    let mut filled = 0;
    for size in sizes {
        for start in (filled..*size).step_by(1000) {
            let end = (start + 1000).min(*size);
            let numbers = start..end;
            let entity = |n: u32, random: &mut Random| {
                Entity::new(format!("Entity {n}"), "Thing", (0..3).map(|_| text(random, 8)).collect::<Vec<_>>())
            };
            let entities: Vec<Entity> = numbers.clone().map(|n| entity(n, &mut random)).collect();
            let relation = |n: u32| Relation::new(format!("Entity {n}"), format!("Entity {}", n / 2), "follows");
            let relations: Vec<Relation> = numbers.map(relation).collect();
            store
                .write(|tx| {
                    let graph = GraphMut::new(tx)?;
                    graph.create_entities(&entities)?;
                    Ok(graph.create_relations(&relations).map(drop)?)
                })
                .unwrap();
        }
        filled = *size;
        store.checkpoint().unwrap();
        let snapshot = store.read().unwrap();
        let graph = GraphView::new(&snapshot).unwrap();
        println!("a graph of {size} entities:");
        for (kind, query) in [
            ("in one entity", "ENTITY 7777".to_owned()),
            ("in none", "Nothing of it".to_owned()),
            ("in some", "word2999".to_owned()),
            ("in all", "entity".to_owned()),
        ] {
            let found = graph.search(&query).unwrap();
            let times = timed(15, || drop(black_box(graph.search(&query).unwrap())));
            println!("  {kind} ({}): {}", found.entities.len(), figures(times));
        }
    }
}

/// Jobs of 100 namespaces that wait, and as many that are delayed; the rest of a queue does not matter to one job.
fn jobs(sizes: &[u32]) {
    let (_dir, memory) = memory();
    let jobs = Jobs::of(&memory);
    let lease = Duration::from_secs(3600);
    println!("medians of 500, not flushed:");
    let mut from = 0;
    for size in sizes {
        for start in (from..*size).step_by(1000) {
            let batch = jobs.write(|tx| {
                (start..start + 1000).try_for_each(|n| {
                    let job = Job::new("q", vec![7_u8; 100]);
                    let job = if n % 2 == 0 { job } else { job.delay(lease) };
                    tx.enqueue(format!("user{}", n % 100), job).map(drop)
                })
            });
            batch.map_err(|error: JobError| error).unwrap();
        }
        from = *size;
        jobs.store().checkpoint().unwrap();
        let mut line = Vec::new();
        let mut measure = |name: &str, body: &mut dyn FnMut()| {
            let mut times = timed(500, body);
            times.sort_unstable();
            line.push(format!("{name} {:.1} µs", times[times.len() / 2].as_secs_f64() * 1e6));
        };
        let mut claims = Vec::new();
        measure("enqueue", &mut || assert!(jobs.enqueue("user7", Job::new("q", vec![7_u8; 100])).is_ok()));
        measure("claim", &mut || claims.push(jobs.claim("worker", &["q"], lease).unwrap().unwrap()));
        measure("heartbeat", &mut || assert!(jobs.heartbeat(&claims[0], lease).is_ok()));
        measure("finish", &mut || jobs.finish(&claims.pop().unwrap()).unwrap());
        measure("claim and finish", &mut || {
            let claim = jobs.claim("worker", &["q"], lease).unwrap().unwrap();
            jobs.finish(&claim).unwrap();
        });
        measure("claim of nothing", &mut || assert!(jobs.claim("worker", &["none"], lease).unwrap().is_none()));
        // As many as before.
        (0..500).for_each(|_| assert!(jobs.enqueue("user7", Job::new("q", vec![7_u8; 100])).is_ok()));
        println!("  {size} jobs: {}", line.join(", "));
    }
}
