//! `#[derive(Key)]` for [memstone](https://docs.rs/memstone), which re-exports it: use it as `memstone::Key`.
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking"))]

mod code;
mod shape;

use proc_macro::TokenStream;

/// Makes a struct or an enum a type of keys: implements `memstone::Key`, and `memstone::AsKey` for it.
///
/// A **struct** is encoded as the tuple of its fields, in their order, and recorded by the name of that tuple; with one
/// field, as that field. So it sorts as `#[derive(Ord)]` does, may open the tables of the tuple, and its name and the
/// names of its fields may change. A tuple of forms of the fields may be passed for it, and its leading parts as a prefix:
///
/// ```
/// use memstone::{Key, Store, Table};
///
/// #[derive(Key, Debug, PartialEq)]
/// struct Visit {
///     user: String,
///     day: u32,
/// }
///
/// const VISITS: Table<Visit, String> = Table::new("visits");
///
/// # let dir = tempfile::tempdir().unwrap();
/// # let store = Store::open(dir.path().join("memory.mst"))?;
/// store.write(|tx| {
///     let visits = tx.table(VISITS)?;
///     visits.put(Visit { user: "ada".to_owned(), day: 3 }, "first")?;
///     visits.put(("ada", 9), "second") // a tuple of forms: the name is not copied
/// })?;
/// let visits = store.read()?;
/// let visits = visits.table(VISITS)?;
/// assert_eq!(visits.get(&Visit { user: "ada".to_owned(), day: 9 })?.unwrap(), "second");
/// let (last, _) = visits.prefix(("ada",))?.next_back().unwrap()?;
/// assert_eq!(last, Visit { user: "ada".to_owned(), day: 9 });
/// # Ok::<(), memstone::Error>(())
/// ```
///
/// An **enum** is encoded as a byte for the variant and the tuple of its fields. The byte is the variant's
/// discriminant: 0, 1, 2 … in their order, or what is written behind a `=`, up to 255. So it sorts as
/// `#[derive(Ord)]` does. It is recorded as `enum<Name>`, whatever its variants are, so that variants may be added;
/// those that exist keep their discriminants and fields. If the enum is renamed, `#[key(name = "Name")]` keeps the
/// recorded name; if a variant changes its fields, give the enum a new one.
///
/// ```
/// use memstone::{AsKey, Key};
///
/// #[derive(Key, Debug, PartialEq)]
/// #[key(name = "Priority")]
/// #[repr(u8)] // Rust asks for it where some variants have fields and some have a number
/// enum Urgency {
///     High = 10, // room for a variant before it, and between them
///     Low = 20,
///     At { day: u32 },
/// }
///
/// assert_eq!(Urgency::type_name(), "enum<Priority>");
/// assert_eq!(*Urgency::High.to_key(), [10]);
/// assert_eq!(*Urgency::At { day: 7 }.to_key(), [21, 0, 0, 0, 7]);
/// assert_eq!(Urgency::from_key(&[20]), Ok(Urgency::Low));
/// assert!(Urgency::from_key(&[0]).is_err());
/// # #[derive(Key)]
/// # enum Plain { A }
/// # assert_eq!(*Plain::A.to_key(), [0]);
/// ```
///
/// A key owns its parts: a type with lifetimes or other generics is refused, and so is a union.
///
/// ```compile_fail
/// #[derive(memstone::Key)]
/// struct Pair<T> {
///     parts: (T, T),
/// }
/// ```
///
/// ```compile_fail
/// #[derive(memstone::Key)]
/// struct Borrowed {
///     name: &'static str,
/// }
/// ```
///
/// Each field is a key itself:
///
/// ```compile_fail
/// #[derive(memstone::Key)]
/// struct Note {
///     words: std::collections::HashMap<String, u32>,
/// }
/// ```
#[proc_macro_derive(Key, attributes(key))]
pub fn derive_key(input: TokenStream) -> TokenStream {
    let input = syn::parse_macro_input!(input as syn::DeriveInput);
    shape::Keyed::of(&input).map_or_else(|error| error.into_compile_error(), |keyed| code::of(&keyed)).into()
}
