//! The rules in `tests/mutations/` fit the source: each place that they break is found there, once.
//! `cargo run --bin mutations` breaks them, and shows which test notices.

#![allow(clippy::expect_used, clippy::indexing_slicing, clippy::panic, clippy::unwrap_used, reason = "a test")]

#[path = "mutations/format.rs"]
mod format;

use std::path::Path;

#[test]
fn every_rule_is_found_where_it_is_to_be_broken() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mutations = format::read_all(&root.join("tests/mutations")).unwrap();
    assert!(mutations.len() >= 220, "only {} rules", mutations.len());
    let changed = format::apply(root, &mutations).unwrap();
    let document = std::fs::read_to_string(root.join("docs/results/TESTING.md")).unwrap();
    for mutation in &mutations {
        assert!(!mutation.tests.is_empty() && !format::CHOICE.is_empty());
        for place in &mutation.places {
            let choice = format!("crate::broken(\"{}\")", mutation.name);
            assert!(changed[&place.file].contains(&choice), "{}: {}", mutation.name, place.file);
        }
        assert!(document.contains(&mutation.rule), "docs/results/TESTING.md lacks: {}", mutation.rule);
    }
}
