//! The exit status and the output of `store-check`.
#![expect(clippy::expect_used, clippy::indexing_slicing, reason = "a test may fail")]

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

fn run(args: &[&str], files: &[&Path]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_store-check")).args(args).args(files).output().expect("store-check runs")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn usage_and_foreign_files() {
    let dir = tempfile::tempdir().expect("a directory");
    assert_eq!(run(&[], &[]).status.code(), Some(2));
    assert_eq!(run(&["--no-such-option"], &[]).status.code(), Some(2));

    let missing = run(&[], &[&dir.path().join("missing")]);
    assert_eq!(missing.status.code(), Some(5));
    assert!(text(&missing.stderr).contains("missing"));

    let foreign = dir.path().join("notes.txt");
    fs::write(&foreign, "shopping list").expect("written");
    let output = run(&["--json"], &[&foreign]);
    assert_eq!(output.status.code(), Some(5));
    let json: serde_json::Value = serde_json::from_slice(&output.stdout).expect("one object");
    assert!(json["error"].as_str().is_some_and(|error| error.contains("not a memstone store")), "{json}");
    assert_eq!(fs::read(&foreign).expect("read"), b"shopping list", "it was not touched");
    assert_eq!(fs::read_dir(dir.path()).expect("listed").count(), 1, "nothing was created");
}

#[test]
fn damage_is_told_with_its_place_and_outweighs_failures() {
    let dir = tempfile::tempdir().expect("a directory");
    let broken = dir.path().join("broken.mst");
    let mut bytes = vec![0; 3 * 4096];
    for copy in [0, 2048, 4096, 6144] {
        bytes[copy..copy + 8].copy_from_slice(b"memstone");
    }
    fs::write(&broken, &bytes).expect("written");
    let output = run(&[], &[&broken, &dir.path().join("missing")]);
    assert_eq!(output.status.code(), Some(4));
    let told = text(&output.stdout);
    assert!(told.contains("broken.mst: damage at byte 2048: this copy of the root slot is broken"), "{told}");
    assert!(told.contains("no root slot is whole") && told.contains("DAMAGED: 5 findings"), "{told}");

    let output = run(&["--json", "--max-findings", "2"], &[&broken]);
    assert_eq!(output.status.code(), Some(4));
    let json: serde_json::Value = serde_json::from_slice(&output.stdout).expect("one object");
    assert_eq!(json["damage"], 5);
    assert_eq!(json["findings"].as_array().map(Vec::len), Some(2));
    assert_eq!(json["findings"][1]["offset"], 2048);
    assert_eq!(json["findings"][1]["severity"], "damage");
    assert_eq!(fs::read(&broken).expect("read"), bytes, "it was not touched");
}

/// A closed store with branches and leaves, and the number of its pages of a kind (1 leaf, 2 branch) with one of them, or all, destroyed.
fn damaged(dir: &Path, kind: u8, most: usize) -> std::path::PathBuf {
    let path = dir.join("store.mst");
    let store = memstone::Store::open(&path).expect("opened");
    let fill = store.write(|tx| (0..2000_u32).try_for_each(|n| tx.raw("rows")?.put(&n.to_be_bytes(), &[7; 100])));
    fill.and_then(|()| store.close()).expect("written");
    let mut bytes = fs::read(&path).expect("read");
    for page in bytes.chunks_mut(4096).skip(2).filter(|page| page[12] == kind && page[24] == 16).take(most) {
        page[200..300].fill(0xee);
    }
    fs::write(&path, bytes).expect("written");
    path
}

#[test]
fn a_repair_tells_by_its_status_what_came_of_it() {
    for (kind, most, code) in [(1, 0, 0), (2, 9, 1), (1, 1, 4)] {
        let dir = tempfile::tempdir().expect("a directory");
        let path = damaged(dir.path(), kind, most);
        assert_eq!(run(&[], &[&path]).status.code(), Some(if most == 0 { 0 } else { 4 }));
        let output = run(&["--repair"], &[&path]);
        let told = text(&output.stdout);
        assert_eq!(output.status.code(), Some(code), "{told}");
        assert!(told.contains("store.mst.repaired") && told.contains("LOST") == (code == 4), "{told}");
        assert_eq!(run(&[], &[&dir.path().join("store.mst.repaired")]).status.code(), Some(0));
        // There is one already.
        assert_eq!(run(&["--repair"], &[&path]).status.code(), Some(5));
        let other = dir.path().join("other.mst");
        let output = run(&["--repair", "--json", "--output", &other.to_string_lossy()], &[&path]);
        let json: serde_json::Value = serde_json::from_slice(&output.stdout).expect("one object");
        assert_eq!(json["complete"], code != 4, "{json}");
        assert_eq!(json["tables"][0]["name"], "rows");
        let in_place = run(&["--repair", "--in-place"], &[&path]);
        assert_eq!(in_place.status.code(), Some(code), "{}", text(&in_place.stdout));
        assert_eq!(run(&["--quiet"], &[&path]).status.code(), Some(0));
    }
}

#[test]
fn a_repair_waits_for_nobody_and_refuses_nonsense() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = damaged(dir.path(), 2, 0);
    let writer = memstone::Store::open(&path).expect("opened");
    let output = run(&["--repair"], &[&path]);
    assert_eq!(output.status.code(), Some(3), "{}", text(&output.stderr));
    drop(writer);
    assert_eq!(run(&["--repair"], &[&dir.path().join("missing")]).status.code(), Some(5));
    for usage in [&["--in-place"][..], &["--unproven"], &["--repair", "--in-place", "--output", "x"]] {
        assert_eq!(run(usage, &[&path]).status.code(), Some(2), "{usage:?}");
    }
    assert_eq!(run(&["--repair", "--output", "x"], &[&path, &path]).status.code(), Some(2));
    let foreign = dir.path().join("notes.txt");
    fs::write(&foreign, "shopping list").expect("written");
    assert_eq!(run(&["--repair"], &[&foreign]).status.code(), Some(5));
    assert!(!dir.path().join("notes.txt.repaired").exists());
}

#[test]
fn memstone_check_tells_the_same_in_short() {
    for (kind, most, code) in [(1, 0, 0), (2, 9, 4)] {
        let dir = tempfile::tempdir().expect("a directory");
        let path = damaged(dir.path(), kind, most);
        let memstone = |args: &[&str]| {
            let mut command = Command::new(env!("CARGO_BIN_EXE_memstone"));
            command.arg("check").arg(&path).args(args).output().expect("memstone runs")
        };
        let output = memstone(&["--values"]);
        assert_eq!(output.status.code(), Some(code), "{}", text(&output.stdout));
        let json: serde_json::Value = serde_json::from_slice(&memstone(&["--json"]).stdout).expect("one object");
        assert_eq!(json["damage"].as_u64().is_some_and(|damage| damage > 0), code == 4);
    }
}

#[test]
fn what_is_inside_can_be_looked_at() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = damaged(dir.path(), 1, 0);
    let json = |args: &[&str]| {
        let output = run(&[&["--json"], args].concat(), &[&path]);
        assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
        let lines = text(&output.stdout);
        lines.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect::<Vec<serde_json::Value>>()
    };
    let roots = json(&["--roots"]);
    assert_eq!(roots.len(), 4);
    let root = roots.iter().max_by_key(|root| root["sequence"].as_u64()).expect("four");
    assert!(root["broken"].is_null() && root["catalog"].as_u64() > Some(1), "{root}");
    let catalog = json(&["--dump-page", &root["catalog"].to_string()]);
    assert_eq!((&catalog[0]["kind"], &catalog[0]["table"]), (&"leaf".into(), &0.into()));
    assert_eq!(catalog[0]["entries"].as_array().map(Vec::len), Some(2), "names, and one table");
    let map = json(&["--dump-page", &root["free_map"].to_string()]);
    assert_eq!(map[0]["kind"], "free directory");
    let free = json(&["--free"]);
    assert!(free[0]["free"].as_array().is_some_and(|ranges| !ranges.is_empty()), "{free:?}");
    assert_eq!(json(&["--dump-log"]).len(), 0, "it was closed, so all is in the tree");
    let store = memstone::Store::open(&path).expect("opened");
    store.write(|tx| tx.raw("rows")?.put(b"one", b"more")).expect("written");
    let frames = json(&["--dump-log"]);
    assert_eq!((frames.len(), &frames[0]["operations"]), (1, &1.into()));
    assert_eq!(run(&["--dump-page", "999999999"], &[&path]).status.code(), Some(2));
    assert!(text(&run(&["--roots", "--free"], &[&path]).stdout).contains("  sequence: "));
    // A damaged page is shown as what it was.
    drop(store);
    let path = damaged(
        &{
            let other = dir.path().join("other");
            fs::create_dir(&other).expect("made");
            other
        },
        2,
        9,
    );
    let bytes = fs::read(&path).expect("read");
    let page = bytes.chunks(4096).skip(2).position(|page| page[12] == 2).expect("a branch") + 2;
    let shown = text(&run(&["--dump-page", &page.to_string()], &[&path]).stdout);
    assert!(shown.contains("branch, damaged: its bytes do not match its CRC"), "{shown}");
}

/// What a newer version writes is no damage: it says so in the slots, by its version or by a feature's bit.
#[test]
fn a_newer_format_is_told_apart_from_damage() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("newer.mst");
    for (field, len) in [(8, 4), (56, 8)] {
        let _ = fs::remove_file(&path);
        memstone::Store::open(&path).expect("made").close().expect("closed");
        let mut bytes = fs::read(&path).expect("read");
        for copy in [0, 2048, 4096, 6144] {
            if bytes[copy..copy + 8] == *b"memstone" {
                bytes[copy + field + len - 1] |= 0x40;
                for (covered, place) in [(0..16, 16), (52..2048, 20)] {
                    let crc = crc32fast::hash(&bytes[copy + covered.start..copy + covered.end]);
                    bytes[copy + place..copy + place + 4].copy_from_slice(&crc.to_le_bytes());
                }
            }
        }
        fs::write(&path, &bytes).expect("written");
        for args in [&[][..], &["--repair"]] {
            let output = run(args, &[&path]);
            let told = text(&output.stderr);
            assert_eq!(output.status.code(), Some(5), "{args:?}: {told}");
            assert!(told.contains("newer"), "{args:?}: {told}");
        }
        assert!(!dir.path().join("newer.mst.repaired").exists());
        assert!(matches!(memstone::Store::open(&path), Err(memstone::Error::Format { .. })));
        assert_eq!(fs::read(&path).expect("read"), bytes, "it was not touched");
    }
}

/// What other programs wrote into the tables of a layer is told of with table and row, on request.
#[cfg(feature = "memory")]
#[test]
fn the_tables_of_layers_are_compared() {
    use memstone::memory::graph::{Entity, GraphMut};
    use memstone::memory::{Draft, Memory};
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("store.mst");
    let memory = Memory::open(&path).expect("opened");
    let added = memory.add("ada", Draft::new("likes tea").tags(["habits"]));
    added.expect("added");
    let store = memory.store();
    let graph = store
        .write(|tx| Ok(GraphMut::new(tx)?.create_entities(&[Entity::new("ada", "person", ["reads"])]).map(drop)?));
    graph.expect("created");
    let jobs = memstone::memory::jobs::Jobs::of(&memory);
    jobs.enqueue("ada", memstone::memory::jobs::Job::new("embed", "note 1")).expect("enqueued");
    let sound = run(&["--values", "--json"], &[&path]);
    assert_eq!(sound.status.code(), Some(0), "{}", text(&sound.stdout));
    let json: serde_json::Value = serde_json::from_slice(&sound.stdout).expect("one object");
    assert_eq!(
        (&json["layers"], &json["contradictions"]),
        (&serde_json::json!(["memory", "jobs", "graph"]), &serde_json::json!([]))
    );

    let spoil = store.write(|tx| {
        tx.raw("memory.tags")?.clear()?;
        tx.raw("jobs.waiting")?.clear()?;
        tx.untyped("graph.entities.by_name")?.clear()
    });
    spoil.expect("written");
    assert_eq!(run(&[], &[&path]).status.code(), Some(0), "the pages are sound");
    let output = run(&["--values", "--quiet"], &[&path]);
    assert_eq!(output.status.code(), Some(4));
    let told = text(&output.stdout);
    for line in [
        "contradiction in table \"memory.tags\", row \\x00\\x00\\x00\\x01habits\\x00\\x00\\x00\\x00\\x00: missing, for item ",
        "contradiction in table \"memory.tags\": 0 rows, and the items give 1",
        "contradiction in table \"jobs.waiting\": 0 rows, and the jobs give 1",
        "contradiction in table \"graph.entities.by_name\", row entity 0: missing, for its name \"ada\"",
        "contradiction in table \"graph.entities.by_name\": 0 entries for 1 rows",
    ] {
        assert!(told.contains(line), "{line} is not in {told}");
    }
    let output = run(&["--values"], &[&path]);
    assert!(
        text(&output.stdout).contains("CONTRADICTORY: 6 in the tables of memory, jobs, graph"),
        "{}",
        text(&output.stdout)
    );
    let output = run(&["--values", "--json"], &[&path]);
    let json: serde_json::Value = serde_json::from_slice(&output.stdout).expect("one object");
    assert_eq!(
        (output.status.code(), &json["contradictions"][1]["table"]),
        (Some(4), &serde_json::json!("memory.tags"))
    );
}
