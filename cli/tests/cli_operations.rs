//! Every command that the page on operations names within its text. (Those in blocks are run, block by block, by
//! `cli_backup` and `cli_snapshot`.)
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Command;

/// In the order in which they are run, with the exit code that the page promises.
const COMMANDS: [(&str, i32); 27] = [
    ("memstone doctor memory.mst --backups .", 6),
    // (Where the folder for temporary files lies in memory, that alone needs attention.)
    ("memstone doctor memory.mst --full; [ $? -ne 4 ]", 0),
    ("memstone stat memory.mst", 0),
    ("memstone stat memory.mst --prometheus", 0),
    ("memstone top memory.mst --count 1", 0),
    ("memstone tables memory.mst", 0),
    ("memstone locks memory.mst", 0),
    ("memstone scan memory.mst", 0),
    ("memstone snapshot list memory.mst", 0),
    ("memstone journal memory.mst on && memstone journal memory.mst off", 0),
    ("memstone check memory.mst", 0),
    ("store-check memory.mst", 0),
    ("memstone backup memory.mst copy.mst", 0),
    ("memstone backup memory.mst full.mst", 0),
    ("memstone backup memory.mst monday.incr --since full.mst", 0),
    ("memstone backup memory.mst - --compress > memory.stream", 0),
    ("memstone backup memory.mst --dir backups", 0),
    ("memstone backups backups --verify", 0),
    ("rm memory.mst", 0),
    ("memstone restore memory.stream memory.mst", 0),
    ("damage", 0),
    ("memstone doctor memory.mst", 4),
    ("store-check memory.mst", 4),
    ("store-check --repair memory.mst", 1),
    ("store-check --repair --unproven --output older.mst memory.mst", 1),
    ("cp memory.mst damaged.mst && mv memory.mst memory.mst.damaged && mv memory.mst.repaired memory.mst", 0),
    ("mv damaged.mst memory.mst && store-check --repair --in-place memory.mst", 1),
];

/// What the page leaves to its reader: another machine, other programs' files, or only part of a command.
const TOLD: [&str; 7] = [
    "memstone --debug VERB …",
    "memstone backup memory.mst - --compress | ssh host 'cat > memory.stream'",
    "mv new.mst memory.mst",
    "cp copy memory.mst",
    "cp old memory.mst-shm",
    "store-check",
    "mv memory.mst memory.mst.damaged",
];

fn named_in_the_page() -> BTreeSet<String> {
    let text = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/OPERATIONS.md")).unwrap();
    let prose: String = text.split("```").step_by(2).collect();
    let is_command = |words: &&str| {
        let first = words.split(' ').next().unwrap();
        ["memstone", "store-check", "mv", "cp", "rm"].contains(&first)
    };
    prose.split('`').skip(1).step_by(2).filter(is_command).map(|words| words.replace("FILE", "memory.mst")).collect()
}

/// Destroys a page without which there still is a way to every row.
fn damage(file: &Path) {
    let bytes = fs::read(file).unwrap();
    for page in bytes.chunks(4096).enumerate().skip(2).filter(|(_, page)| page.iter().any(|byte| *byte != 0)) {
        let at = page.0 * 4096;
        let mut damaged = bytes.clone();
        damaged[at..at + 4096].fill(0xa5);
        fs::write(file, damaged).unwrap();
        let is_damaged = !memstone::check(file, &memstone::CheckOptions::new()).unwrap().is_clean();
        let output = file.with_extension("tried");
        let repaired = memstone::repair(file, &memstone::RepairOptions::new().output(&output)).unwrap();
        fs::remove_file(output).unwrap();
        if is_damaged && repaired.is_complete() {
            return;
        }
    }
    panic!("there is no such page");
}

#[test]
fn each_command_within_the_text_does_what_it_says() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("memory.mst");
    let store = memstone::Store::open(&file).unwrap();
    let table = memstone::Table::<&str, String>::new("default");
    store
        .write(|tx| (0..200).try_for_each(|n| tx.table(table)?.put(format!("key {n}").as_str(), "v".repeat(n))))
        .unwrap();
    store.close().unwrap();
    let binaries = Path::new(env!("CARGO_BIN_EXE_memstone")).parent().unwrap();
    let path = std::env::join_paths([binaries, "/usr/bin".as_ref(), "/bin".as_ref()]).unwrap();
    for (command, code) in COMMANDS {
        if command == "damage" {
            damage(&file);
            continue;
        }
        let out = Command::new("sh").args(["-c", command]).current_dir(dir.path()).env("PATH", &path).output().unwrap();
        assert_eq!(out.status.code(), Some(code), "{command}: {out:?}");
    }
    let content = memstone::Store::open(&file).unwrap().read().unwrap().table(table).unwrap().len().unwrap();
    assert_eq!(content, 200);
}

#[test]
fn no_command_of_the_page_goes_untried() {
    let tried: Vec<&str> = COMMANDS.iter().flat_map(|(command, _)| command.split(" && ")).collect();
    for command in named_in_the_page() {
        let is_begun = |tried: &&str| tried.starts_with(&command);
        assert!(tried.iter().any(is_begun) || TOLD.contains(&&*command), "`{command}` is run by no test");
    }
}
