//! Keys by `#[derive(Key)]`: the contract of the key encoding, and what their tables accept.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]
#![cfg(feature = "derive")]

use memstone::{AsKey, Error, Key, KeyPrefix, Place, Store, Table};
use proptest::prelude::*;
use std::cmp::Reverse;

#[derive(Key, Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Visit {
    user: String,
    newest: Reverse<u16>,
    tag: Vec<u8>,
}

#[derive(Key, Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Pair(i8, Vec<u8>);

#[derive(Key, Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Id(String);

#[derive(Key, Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Nothing;

#[derive(Key, Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Spot {
    Nowhere,
    Named(String),
    At { x: i8, label: Vec<u8> },
    Within(Cell, Option<Id>),
}

#[derive(Key, Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Cell(Pair, Nothing);

#[derive(Key, Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[key(name = "level")]
enum Level {
    High = 200,
    Low = 10,
    Lower,
}

fn tricky() -> impl Strategy<Value = Vec<u8>> {
    prop::collection::vec(prop_oneof![3 => Just(0), 2 => Just(1), 2 => Just(0xFF), 1 => any::<u8>()], 0..4)
}

fn text() -> impl Strategy<Value = String> {
    "[\0\u{1}ab\u{ffff}]{0,4}"
}

fn pair() -> impl Strategy<Value = Pair> {
    (-2..2i8, tricky()).prop_map(|(number, bytes)| Pair(number, bytes))
}

fn place() -> impl Strategy<Value = Spot> {
    prop_oneof![
        Just(Spot::Nowhere),
        text().prop_map(Spot::Named),
        (-2..2i8, tricky()).prop_map(|(x, label)| Spot::At { x, label }),
        (pair(), prop::option::of(text())).prop_map(|(pair, id)| Spot::Within(Cell(pair, Nothing), id.map(Id))),
    ]
}

/// The bytes sort as the values do, in both places; they give the value back; inside, none begins with another; and
/// bytes that decode are the one encoding of what they decode to.
fn contract<T: Key<Owned = T> + AsKey<T> + Ord + std::fmt::Debug>(
    a: &T,
    b: &T,
    hostile: &[u8],
) -> Result<(), TestCaseError> {
    prop_assert_eq!(a.to_key().cmp(&b.to_key()), a.cmp(b), "{:?} {:?}", a, b);
    let (mut inner_a, mut inner_b) = (Vec::new(), Vec::new());
    a.encode(Place::Inner, &mut inner_a);
    b.encode(Place::Inner, &mut inner_b);
    prop_assert_eq!(inner_a.cmp(&inner_b), a.cmp(b), "{:?} {:?} inside", a, b);
    prop_assert!(a == b || !inner_a.starts_with(&inner_b));
    prop_assert_eq!(&T::from_key(&a.to_key()).unwrap(), a);
    inner_a.extend_from_slice(&inner_b);
    let mut both = inner_a.as_slice();
    prop_assert_eq!(&T::decode(Place::Inner, &mut both).unwrap(), a);
    prop_assert_eq!(&T::decode(Place::Inner, &mut both).unwrap(), b);
    prop_assert!(both.is_empty());
    if let Ok(key) = T::from_key(hostile) {
        prop_assert_eq!(&*key.to_key(), hostile);
    }
    Ok(())
}

proptest! {
    #[test]
    fn structs(a in (text(), 0..3u16, tricky()), b in (text(), 0..3u16, tricky()), bytes in tricky()) {
        let visit = |(user, newest, tag)| Visit { user, newest: Reverse(newest), tag };
        let (a, b) = (visit(a), visit(b));
        contract(&a, &b, &bytes)?;
        // As the tuple, by its forms, and by the leading ones as a prefix.
        let tuple = (a.user.as_str(), a.newest, a.tag.as_slice());
        prop_assert_eq!(AsKey::<(String, Reverse<u16>, Vec<u8>)>::to_key(&tuple), a.to_key());
        prop_assert_eq!(AsKey::<Visit>::to_key(&tuple), a.to_key());
        let mut prefix = Vec::new();
        KeyPrefix::<Visit>::encode_prefix(&(a.user.as_str(), a.newest), &mut prefix);
        prop_assert_eq!(b.to_key().starts_with(&prefix), (&a.user, a.newest) == (&b.user, b.newest));
    }

    #[test]
    fn tuple_structs(a in pair(), b in pair(), bytes in tricky()) {
        contract(&a, &b, &bytes)?;
        contract(&Cell(a, Nothing), &Cell(b, Nothing), &bytes)?;
    }

    #[test]
    fn newtypes(a in text(), b in text(), bytes in tricky()) {
        prop_assert_eq!(AsKey::<Id>::to_key(&Id(a.clone())).into_owned(), a.as_bytes());
        contract(&Id(a), &Id(b), &bytes)?;
    }

    #[test]
    fn enums(a in place(), b in place(), bytes in tricky()) {
        contract(&a, &b, &bytes)?;
    }
}

#[test]
fn discriminants_decide_the_order() {
    let levels = [Level::Low, Level::Lower, Level::High];
    let bytes = levels.map(|level| level.to_key().into_owned());
    assert_eq!(bytes, [[10], [11], [200]]);
    assert!(levels.is_sorted() && bytes.is_sorted());
    assert_eq!(Level::from_key(&[12]).unwrap_err().to_string(), "12 as a variant of Level");
    assert!(Level::from_key(&[]).is_err() && Level::from_key(&[10, 0]).is_err());
}

#[test]
fn the_recorded_names() {
    assert_eq!(Visit::type_name(), "(str,reverse<u16>,bytes)");
    assert_eq!(Id::type_name(), "str");
    assert_eq!(Nothing::type_name(), "()");
    assert_eq!(Spot::type_name(), "enum<Spot>");
    assert_eq!(<(Level, Cell)>::type_name(), "(enum<level>,((i8,bytes),()))");
}

/// A struct and the tuple of its fields open each other's tables.
#[test]
fn tables_of_structs_and_of_tuples() -> Result<(), Error> {
    const VISITS: Table<Visit, u32> = Table::new("visits");
    const TUPLES: Table<(&str, Reverse<u16>, &[u8]), u32> = Table::new("visits");
    const LEVELS: Table<(Level, u64), u32> = Table::new("levels");
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path().join("memory.mst"))?;
    let visit = |user: &str, newest| Visit { user: user.to_owned(), newest: Reverse(newest), tag: vec![1] };
    store.write(|tx| {
        let visits = tx.table(VISITS)?;
        visits.put(visit("ada", 1), 1)?;
        visits.put(visit("ada", 2), 2)?;
        visits.put(("bob", Reverse(9), [1]), 3)?;
        tx.table(LEVELS)?.put((Level::Low, 7), 4)
    })?;
    let snapshot = store.read()?;
    let visits = snapshot.table(VISITS)?;
    assert_eq!(visits.get(visit("bob", 9))?, Some(3));
    let of_ada = visits.prefix(("ada",))?.values().collect::<Result<Vec<_>, _>>()?;
    assert_eq!(of_ada, [2, 1], "newest first");
    assert_eq!(visits.range(visit("ada", 1)..)?.count(), 2);
    assert_eq!(snapshot.table(TUPLES)?.get(("ada", Reverse(2), &[1_u8][..]))?, Some(2));
    assert_eq!(snapshot.table(LEVELS)?.first()?, Some(((Level::Low, 7), 4)));
    assert!(matches!(snapshot.table(Table::<(u8, u64), u32>::new("levels")), Err(Error::TypeMismatch { .. })));
    Ok(())
}
