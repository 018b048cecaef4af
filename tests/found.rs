//! Every fault that the corruption tests and the fuzz targets found, as a test of its own.

mod damage;

use damage::scratch;
use memstone::{Options, Store};

/// The file grew for the value, and the root did not know: after a crash, and for other processes,
/// the value lay beyond the end of the file as they saw it.
#[test]
fn a_long_value_that_only_the_log_points_at_is_read_after_a_crash() {
    let dir = scratch();
    let path = dir.path().join("live.mst");
    let store = Store::open(&path).unwrap();
    let value = vec![7; 40_000];
    store.write(|tx| tx.raw("t")?.put(b"k", &value)).unwrap();
    let crashed = dir.path().join("crashed.mst");
    std::fs::copy(&path, &crashed).unwrap();
    for options in [Options::new(), Options::new().read_only(true), Options::new().memory_map(false)] {
        let copy = options.open(&crashed).unwrap();
        assert_eq!(copy.read().unwrap().raw("t").unwrap().get(b"k").unwrap().unwrap(), value[..]);
        // The last handle to go must not fold the log before the next way of reading is tried.
        drop(copy);
        std::fs::copy(&path, &crashed).unwrap();
    }
    // Another description of the same file, as another process has it.
    let other = Options::new().read_only(true).open(&path).unwrap();
    let longer = vec![8; 90_000];
    store.write(|tx| tx.raw("t")?.put(b"l", &longer)).unwrap();
    assert_eq!(other.read().unwrap().raw("t").unwrap().get(b"l").unwrap().unwrap(), longer[..]);
}
