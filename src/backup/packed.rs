//! What a backup says of itself, as bytes: MessagePack, maps with the names of fields. Written and read without serde,
//! so that backups do not depend on a feature.

use crate::backup::manifest::{BackupBase, BackupKind, End, Manifest, TableManifest};
use crate::disk::format::take;

/// A thing that is kept in this way.
pub(super) trait Packed: Sized {
    fn pack(&self, out: &mut Packer);
    /// `None`: it is something else. Fields that are not known are passed over, as they are of a newer program.
    fn unpack(part: &Part<'_>) -> Option<Self>;
}

/// The bytes of a thing.
pub(super) fn pack(value: &impl Packed) -> Vec<u8> {
    let mut out = Packer(Vec::new());
    value.pack(&mut out);
    out.0
}

/// The thing that these bytes are, which may be anything.
pub(super) fn unpack<T: Packed>(mut bytes: &[u8]) -> Option<T> {
    T::unpack(&part(&mut bytes, DEEPEST)?)
}

pub(super) struct Packer(Vec<u8>);

impl Packer {
    /// A length or a number: `short` if it lies in the marker itself, otherwise behind one of the markers, the first of
    /// which is for one byte. (Lists and maps have none for one byte.)
    fn sized(&mut self, number: u64, short: Option<u8>, markers: [Option<u8>; 4]) {
        if let Some(marker) = short {
            return self.0.push(marker);
        }
        let bytes = number.to_be_bytes();
        for (marker, width) in markers.into_iter().zip([1_usize, 2, 4, 8]) {
            let (high, low) = bytes.split_at(8 - width);
            if let Some(marker) = marker.filter(|_| high.iter().all(|byte| *byte == 0)) {
                self.0.push(marker);
                return self.0.extend_from_slice(low);
            }
        }
    }

    fn below(number: u64, limit: u8, base: u8) -> Option<u8> {
        u8::try_from(number).ok().filter(|number| *number < limit).map(|number| base | number)
    }

    fn text(&mut self, text: &str) {
        let len = text.len() as u64;
        self.sized(len, Packer::below(len, 32, 0xA0), [Some(0xD9), Some(0xDA), Some(0xDB), None]);
        self.0.extend_from_slice(text.as_bytes());
    }

    fn list(&mut self, len: usize) {
        let len = len as u64;
        self.sized(len, Packer::below(len, 16, 0x90), [None, Some(0xDC), Some(0xDD), None]);
    }

    fn map(&mut self, fields: usize) {
        let fields = fields as u64;
        self.sized(fields, Packer::below(fields, 16, 0x80), [None, Some(0xDE), Some(0xDF), None]);
    }
}

/// How deeply parts may be nested: a manifest needs four levels.
const DEEPEST: usize = 16;

/// An item of MessagePack, as far as a manifest has such.
pub(super) enum Part<'b> {
    Nil,
    Number(u64),
    Text(&'b str),
    List(Vec<Part<'b>>),
    Map(Vec<(Part<'b>, Part<'b>)>),
    Other,
}

impl<'b> Part<'b> {
    /// A field; `Nil` if there is none, as an optional field may be left out.
    fn field(&self, name: &str) -> &Part<'b> {
        let Part::Map(fields) = self else { return &Part::Nil };
        let found = fields.iter().find(|(key, _)| matches!(key, Part::Text(text) if *text == name));
        found.map_or(&Part::Nil, |(_, value)| value)
    }
}

/// Takes an item off the front.
fn part<'b>(rest: &mut &'b [u8], deeper: usize) -> Option<Part<'b>> {
    let deeper = deeper.checked_sub(1)?;
    let marker = u8::try_from(number(rest, 1)?).ok()?;
    let low = u64::from(marker);
    Some(match marker {
        0x00..=0x7F => Part::Number(low),
        0x80..=0x8F => map(rest, low & 0x0F, deeper)?,
        0x90..=0x9F => list(rest, low & 0x0F, deeper)?,
        0xA0..=0xBF => text(rest, low & 0x1F)?,
        0xC0 => Part::Nil,
        0xC1 => return None,
        0xCC..=0xCF => Part::Number(number(rest, 1 << (marker - 0xCC))?),
        0xD9..=0xDB => {
            let len = number(rest, 1 << (marker - 0xD9))?;
            text(rest, len)?
        }
        0xDC | 0xDD => {
            let len = number(rest, 2 << (marker - 0xDC))?;
            list(rest, len, deeper)?
        }
        0xDE | 0xDF => {
            let len = number(rest, 2 << (marker - 0xDE))?;
            map(rest, len, deeper)?
        }
        _ => {
            let len = match marker {
                0xC4..=0xC6 => number(rest, 1 << (marker - 0xC4))?,
                0xC7..=0xC9 => number(rest, 1 << (marker - 0xC7))? + 1,
                0xCA | 0xCB => 4 << (marker - 0xCA),
                0xD0..=0xD3 => 1 << (marker - 0xD0),
                0xD4..=0xD8 => (1 << (marker - 0xD4)) + 1,
                _ => 0,
            };
            taken(rest, len)?;
            Part::Other
        }
    })
}

fn taken<'b>(rest: &mut &'b [u8], len: u64) -> Option<&'b [u8]> {
    take(rest, usize::try_from(len).ok()?)
}

fn number(rest: &mut &[u8], width: u64) -> Option<u64> {
    taken(rest, width).map(|bytes| bytes.iter().fold(0, |number, byte| number << 8 | u64::from(*byte)))
}

fn text<'b>(rest: &mut &'b [u8], len: u64) -> Option<Part<'b>> {
    taken(rest, len).map(|bytes| str::from_utf8(bytes).map_or(Part::Other, Part::Text))
}

// The length is not believed: each item has a byte at least.
fn list<'b>(rest: &mut &'b [u8], len: u64, deeper: usize) -> Option<Part<'b>> {
    (0..len).map(|_| part(rest, deeper)).collect::<Option<_>>().map(Part::List)
}

fn map<'b>(rest: &mut &'b [u8], len: u64, deeper: usize) -> Option<Part<'b>> {
    (0..len).map(|_| Some((part(rest, deeper)?, part(rest, deeper)?))).collect::<Option<_>>().map(Part::Map)
}

impl Packed for u64 {
    fn pack(&self, out: &mut Packer) {
        out.sized(*self, Packer::below(*self, 0x80, 0), [Some(0xCC), Some(0xCD), Some(0xCE), Some(0xCF)]);
    }

    fn unpack(part: &Part<'_>) -> Option<u64> {
        if let Part::Number(number) = part { Some(*number) } else { None }
    }
}

impl Packed for u32 {
    fn pack(&self, out: &mut Packer) {
        u64::from(*self).pack(out);
    }

    fn unpack(part: &Part<'_>) -> Option<u32> {
        u64::unpack(part)?.try_into().ok()
    }
}

impl Packed for String {
    fn pack(&self, out: &mut Packer) {
        out.text(self);
    }

    fn unpack(part: &Part<'_>) -> Option<String> {
        if let Part::Text(text) = part { Some((*text).to_owned()) } else { None }
    }
}

impl Packed for BackupKind {
    fn pack(&self, out: &mut Packer) {
        out.text(match self {
            BackupKind::Full => "full",
            BackupKind::Increment => "increment",
        });
    }

    fn unpack(part: &Part<'_>) -> Option<BackupKind> {
        match part {
            Part::Text("full") => Some(BackupKind::Full),
            Part::Text("increment") => Some(BackupKind::Increment),
            _ => None,
        }
    }
}

impl<T: Packed> Packed for Option<T> {
    fn pack(&self, out: &mut Packer) {
        match self {
            None => out.0.push(0xC0),
            Some(value) => value.pack(out),
        }
    }

    fn unpack(part: &Part<'_>) -> Option<Option<T>> {
        if let Part::Nil = part { Some(None) } else { T::unpack(part).map(Some) }
    }
}

impl<T: Packed> Packed for Vec<T> {
    fn pack(&self, out: &mut Packer) {
        out.list(self.len());
        self.iter().for_each(|item| item.pack(out));
    }

    fn unpack(part: &Part<'_>) -> Option<Vec<T>> {
        if let Part::List(parts) = part { parts.iter().map(T::unpack).collect() } else { None }
    }
}

macro_rules! packed_tuples {
    ($(($len:literal, $($part:ident: $type:ident),+))+) => {
        $(impl<$($type: Packed),+> Packed for ($($type),+) {
            fn pack(&self, out: &mut Packer) {
                let ($($part),+) = self;
                out.list($len);
                $($part.pack(out);)+
            }

            fn unpack(part: &Part<'_>) -> Option<Self> {
                let Part::List(parts) = part else { return None };
                let [$($part),+] = parts.as_slice() else { return None };
                Some(($($type::unpack($part)?),+))
            }
        })+
    };
}

packed_tuples! {
    (2, a: A, b: B)
    (3, a: A, b: B, c: C)
}

/// Maps with the names of fields.
macro_rules! packed {
    ($($thing:ident { $($field:ident),+ })+) => {
        $(impl Packed for $thing {
            fn pack(&self, out: &mut Packer) {
                out.map([$(stringify!($field)),+].len());
                $(
                    out.text(stringify!($field));
                    self.$field.pack(out);
                )+
            }

            fn unpack(part: &Part<'_>) -> Option<$thing> {
                Some($thing { $($field: Packed::unpack(part.field(stringify!($field)))?),+ })
            }
        })+
    };
}

packed! {
    Manifest {
        id, kind, base, store_id, store_file, root_sequence, lsn, time_us, page_size, next_table, application_id,
        user_version, tables, content_hash
    }
    BackupBase { id, file, root_sequence }
    TableManifest { id, name, key_type, value_type, rows, schema, schema_version, flags }
    End { content_hash, tables, touched }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn manifest(tables: u32) -> Manifest {
        let table = |id| TableManifest {
            id,
            name: "n".repeat(id as usize),
            key_type: "str".to_owned(),
            value_type: "é".repeat(100),
            rows: 1 << id.min(63),
            schema: "s".repeat(300),
            schema_version: u64::MAX,
            flags: 0x1_0000,
        };
        Manifest {
            id: "ab".repeat(16),
            kind: BackupKind::Increment,
            base: Some(BackupBase { id: String::new(), file: "full".to_owned(), root_sequence: 0x80 }),
            store_id: "x".repeat(31),
            store_file: (127, 0xFFFF),
            root_sequence: 128,
            lsn: 256,
            time_us: 0x1_0000_0000,
            page_size: 65_536,
            next_table: u32::MAX,
            application_id: 255,
            user_version: 65_535,
            tables: (0..tables).map(table).collect(),
            content_hash: None,
        }
    }

    fn ends() -> [End; 2] {
        let table = |id: u32| (id, u64::from(id) * 1000, u64::from(id));
        let hash = Some("cd".repeat(32));
        [End::default(), End { content_hash: hash, tables: (0..20).map(table).collect(), touched: Some((7, 1 << 40)) }]
    }

    /// The bytes that earlier builds wrote, with serde.
    #[cfg(feature = "msgpack")]
    #[test]
    fn the_bytes_are_those_of_serde() {
        for tables in [0, 3, 15, 16, 40] {
            let manifest = manifest(tables);
            assert_eq!(pack(&manifest), rmp_serde::to_vec_named(&manifest).unwrap(), "{tables} tables");
        }
        for end in ends() {
            assert_eq!(pack(&end), rmp_serde::to_vec_named(&end).unwrap());
        }
        assert_eq!(pack(&Manifest::default()), rmp_serde::to_vec_named(&Manifest::default()).unwrap());
    }

    #[test]
    fn they_are_read_again() {
        for manifest in [Manifest::default(), manifest(0), manifest(40)] {
            assert_eq!(unpack::<Manifest>(&pack(&manifest)), Some(manifest));
        }
        for end in ends() {
            let again = unpack::<End>(&pack(&end)).unwrap();
            assert_eq!((again.content_hash, again.tables, again.touched), (end.content_hash, end.tables, end.touched));
        }
    }

    #[test]
    fn fields_of_a_newer_program_are_passed_over() {
        let bytes = pack(&manifest(1));
        let more = b"\xA1a\xC7\x02\x07ab\xA1b\x92\xCB12345678\xD0\xFF\xA1c\xC4\x01x\xA1d\xC3\xA1e\x81\x01\xA1x";
        // A map of 16 has its length behind a marker.
        let newer = [&b"\xDE\x00\x13"[..], more, &bytes[1..]].concat();
        assert_eq!(unpack::<Manifest>(&newer), Some(manifest(1)));
        assert_eq!(unpack::<BackupBase>(b"\x82\xA2id\xA0\xA4file\xA0"), None, "a field that is not optional");
    }

    #[test]
    fn hostile_bytes_are_nothing() {
        let bytes = pack(&manifest(2));
        assert!((0..bytes.len()).all(|len| unpack::<Manifest>(&bytes[..len]).is_none()));
        assert!(unpack::<End>(&[0x91; 100_000]).is_none(), "nested without end");
        assert!(unpack::<End>(b"\xDF\xFF\xFF\xFF\xFF").is_none(), "a length beyond the bytes");
        assert!(unpack::<End>(b"\xC1").is_none() && unpack::<End>(b"").is_none());
    }

    proptest::proptest! {
        #[test]
        fn any_bytes(bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..60)) {
            let _ = unpack::<Manifest>(&bytes);
            let _ = unpack::<End>(&bytes);
        }
    }
}
