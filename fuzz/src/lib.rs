//! The fuzz targets, as functions of bytes: libFuzzer calls them on nightly, `examples/stable.rs`
//! on a stable compiler.

mod commands;
mod key_codec;
mod repair;
/// The test `handles` plays a short form of it.
#[path = "../../tests/handles/model/mod.rs"]
mod model;
mod moves;
mod open;
mod rows;

// Where the verbs look for each other.
use commands::{access, dump, failure, keys, load, msgpack, new_store, output, text, values};
pub use key_codec::key_codec;
pub use moves::dump_load;
pub use open::{open_bytes, open_mutated};

/// Every target by name.
pub const TARGETS: [(&str, fn(&[u8])); 7] = [
    ("open_bytes", open_bytes),
    ("open_mutated", open_mutated),
    ("frame_scan", frame_scan),
    ("node_decode", node_decode),
    ("key_codec", key_codec),
    ("operations", operations),
    ("dump_load", dump_load),
];

/// The log: two bytes of offset, one of flags, then the ring's bytes. Short input is repeated at
/// the start of each block, so that few bytes make many frames.
pub fn frame_scan(data: &[u8]) {
    let Some(([a, b, flags], rest)) = data.split_first_chunk::<3>() else { return };
    let blocks = 2 + usize::from(flags >> 4);
    let mut log = vec![0; 4096 * blocks];
    if flags & 2 == 0 {
        let n = rest.len().min(log.len());
        log[..n].copy_from_slice(&rest[..n]);
    } else {
        for block in log.chunks_mut(4096) {
            let n = rest.len().min(block.len());
            block[..n].copy_from_slice(&rest[..n]);
        }
    }
    let repair = flags & 1 == 1;
    memstone::fuzzing::walk_log(&log, u16::from_le_bytes([*a, *b]), repair);
}

/// One byte that says how long the key is, the key, and the node's bytes from its level on. A
/// short rest is followed by zeros.
pub fn node_decode(data: &[u8]) {
    let Some((len, rest)) = data.split_first() else { return };
    let (key, rest) = rest.split_at(usize::from(*len).min(rest.len()));
    memstone::fuzzing::read_node(rest, key);
}

/// Operations on a store and on a model, with handles that are kept. The first byte says the page size, and how long the journal is.
pub fn operations(data: &[u8]) {
    model::operations(data, &scratch().join(format!("model-{}.mst", std::process::id())));
}

/// A directory of this process, in memory where there is such a place.
fn scratch() -> &'static std::path::Path {
    static DIR: std::sync::LazyLock<tempfile::TempDir> = std::sync::LazyLock::new(|| {
        tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).expect("a directory to write to")
    });
    DIR.path()
}
