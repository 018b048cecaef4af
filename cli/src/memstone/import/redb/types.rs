//! The types of redb's that have a form here, and reading a table of any of them.

use std::cell::Cell;
use std::cmp::Ordering;

use memstone::{AsKey, Place};
use redb::TypeName;

use super::super::source::packed;

/// A type of redb's that has a form here.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(super) enum Type {
    Bytes,
    Str,
    String,
    Bool,
    Char,
    Unit,
    U8,
    U16,
    U32,
    U64,
    U128,
    I8,
    I16,
    I32,
    I64,
    I128,
    F32,
    F64,
}

/// What is done with a type, in one place for all of them.
macro_rules! each_number {
    ($self:expr, $of:ident, $other:expr) => {
        match $self {
            Type::U8 => $of!(u8),
            Type::U16 => $of!(u16),
            Type::U32 => $of!(u32),
            Type::U64 => $of!(u64),
            Type::U128 => $of!(u128),
            Type::I8 => $of!(i8),
            Type::I16 => $of!(i16),
            Type::I32 => $of!(i32),
            Type::I64 => $of!(i64),
            Type::I128 => $of!(i128),
            other => $other(other),
        }
    };
}

impl Type {
    pub(super) const ALL: [Type; 18] = [
        Type::Bytes,
        Type::Str,
        Type::String,
        Type::Bool,
        Type::Char,
        Type::Unit,
        Type::U8,
        Type::U16,
        Type::U32,
        Type::U64,
        Type::U128,
        Type::I8,
        Type::I16,
        Type::I32,
        Type::I64,
        Type::I128,
        Type::F32,
        Type::F64,
    ];

    /// The name that redb records with a table.
    pub(super) fn redb_name(self) -> TypeName {
        use redb::Value as _;
        macro_rules! name {
            ($number:ty) => {
                <$number>::type_name()
            };
        }
        each_number!(self, name, |other| match other {
            Type::Str => <&str>::type_name(),
            Type::String => String::type_name(),
            Type::Bool => bool::type_name(),
            Type::Char => char::type_name(),
            Type::Unit => <()>::type_name(),
            Type::F32 => f32::type_name(),
            Type::F64 => f64::type_name(),
            _ => <&[u8]>::type_name(),
        })
    }

    fn width(self) -> Option<usize> {
        use redb::Value as _;
        macro_rules! width {
            ($number:ty) => {
                Some(size_of::<$number>())
            };
        }
        each_number!(self, width, |other| match other {
            Type::Bool => bool::fixed_width(),
            Type::Char => char::fixed_width(),
            Type::Unit => <()>::fixed_width(),
            Type::F32 => f32::fixed_width(),
            Type::F64 => f64::fixed_width(),
            _ => None,
        })
    }

    pub(super) fn is_key(self) -> bool {
        !matches!(self, Type::F32 | Type::F64)
    }

    /// The type of our keys.
    pub(super) fn key_name(self) -> &'static str {
        macro_rules! name {
            ($number:ident) => {
                stringify!($number)
            };
        }
        each_number!(self, name, |other| match other {
            Type::Str | Type::String => "str",
            Type::Bool => "bool",
            Type::Char => "char",
            Type::Unit => "()",
            _ => "bytes",
        })
    }

    /// The type of our values.
    pub(super) fn value_name(self) -> &'static str {
        if self == Type::Bytes { "bytes" } else { "msgpack" }
    }

    /// Puts a key of redb's into the key encoding.
    pub(super) fn key(self, bytes: &[u8], place: Place, out: &mut Vec<u8>) -> Result<(), String> {
        macro_rules! number {
            ($number:ty) => {
                Ok(<$number>::from_le_bytes(exactly(bytes)?).encode(place, out))
            };
        }
        each_number!(self, number, |other| {
            match other {
                Type::Str | Type::String => text(bytes)?.encode(place, out),
                Type::Bool => flag(bytes)?.encode(place, out),
                Type::Char => letter(bytes)?.encode(place, out),
                Type::Unit => {}
                Type::F32 | Type::F64 => return Err("a float is no key".to_owned()),
                _ => AsKey::<Vec<u8>>::encode(&bytes, place, out),
            }
            Ok(())
        })
    }

    /// A value of redb's as ours.
    pub(super) fn value(self, bytes: &[u8]) -> Result<Vec<u8>, String> {
        macro_rules! number {
            ($number:ty) => {
                packed(&<$number>::from_le_bytes(exactly(bytes)?))
            };
        }
        each_number!(self, number, |other| match other {
            Type::Str | Type::String => packed(&text(bytes)?.to_owned()),
            Type::Bool => packed(&flag(bytes)?),
            Type::Char => packed(&letter(bytes)?),
            Type::Unit => packed(&()),
            Type::F32 => packed(&f32::from_le_bytes(exactly(bytes)?)),
            Type::F64 => packed(&f64::from_le_bytes(exactly(bytes)?)),
            _ => Ok(bytes.to_vec()),
        })
    }
}

fn exactly<const N: usize>(bytes: &[u8]) -> Result<[u8; N], String> {
    bytes.try_into().map_err(|_| format!("{} bytes as a number of {N}", bytes.len()))
}

fn text(bytes: &[u8]) -> Result<&str, String> {
    str::from_utf8(bytes).map_err(|_| "text that is not UTF-8".to_owned())
}

fn flag(bytes: &[u8]) -> Result<bool, String> {
    match bytes {
        [0] => Ok(false),
        [1] => Ok(true),
        _ => Err("neither true nor false".to_owned()),
    }
}

fn letter(bytes: &[u8]) -> Result<char, String> {
    let [a, b, c] = exactly(bytes)?;
    char::from_u32(u32::from_le_bytes([a, b, c, 0])).ok_or_else(|| "no character".to_owned())
}

thread_local! {
    /// redb asks a type, not a value, for its name and its width. So what the table that is read next has lies here.
    static READ_AS: Cell<(Type, Type)> = const { Cell::new((Type::Bytes, Type::Bytes)) };
}

/// Keys of the type that is read next, as their bytes.
#[derive(Debug)]
pub(super) struct AnyKey;

/// Values of the type that is read next, as their bytes.
#[derive(Debug)]
pub(super) struct AnyValue;

macro_rules! as_bytes {
    ($any:ty, $which:tt) => {
        impl redb::Value for $any {
            type SelfType<'a> = &'a [u8];
            type AsBytes<'a> = &'a [u8];

            fn fixed_width() -> Option<usize> {
                READ_AS.get().$which.width()
            }

            fn from_bytes<'a>(data: &'a [u8]) -> &'a [u8]
            where
                Self: 'a,
            {
                data
            }

            fn as_bytes<'a, 'b: 'a>(value: &'a Self::SelfType<'b>) -> &'a [u8]
            where
                Self: 'b,
            {
                value
            }

            fn type_name() -> TypeName {
                READ_AS.get().$which.redb_name()
            }
        }

        /// A table is only walked from its first row on; no key is looked for.
        impl redb::Key for $any {
            fn compare(left: &[u8], right: &[u8]) -> Ordering {
                left.cmp(right)
            }
        }
    };
}

as_bytes!(AnyKey, 0);
as_bytes!(AnyValue, 1);

/// From here on, on this thread, tables are opened and read as of these types.
pub(super) fn read_as(key: Type, value: Type) {
    READ_AS.set((key, value));
}
