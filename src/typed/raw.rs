//! The codec of bytes as they are.

use std::borrow::Cow;

use super::codec::{Codec, codec_values};
use super::key::CodecError;
use crate::bytes::Bytes;

/// Bytes and text, stored as they are; recorded as `"bytes"`.
///
/// | values | reading gives |
/// |---|---|
/// | `[u8]` | [`Bytes`], not copied where possible |
/// | `Vec<u8>` | `Vec<u8>`, a copy |
/// | `[u8; N]` | `[u8; N]`; bytes of another length are an error |
/// | `str`, `String` | `String`: a copy, which nobody can change while it is checked and used as UTF-8 |
/// | `()` | `()`: a set of keys |
///
/// ```
/// use memstone::{Raw, Store, Table};
///
/// const FILES: Table<&str, [u8], Raw> = Table::new("files");
/// const HASHES: Table<&str, [u8; 4], Raw> = Table::new("hashes");
///
/// # let dir = tempfile::tempdir().unwrap();
/// # let store = Store::open(dir.path().join("memory.mst"))?;
/// store.write(|tx| {
///     tx.table(HASHES)?.put("a", [1, 2, 3, 4])?;
///     tx.table(FILES)?.put("a", b"content")
/// })?;
/// let snapshot = store.read()?;
/// assert_eq!(snapshot.table(FILES)?.get("a")?.unwrap(), b"content");
/// assert_eq!(snapshot.table(HASHES)?.get("a")?, Some([1, 2, 3, 4]));
/// # Ok::<(), memstone::Error>(())
/// ```
#[derive(Debug, Clone, Copy)]
pub struct Raw;

codec_values! { Raw, "bytes":
    [] [u8] => Bytes<'a>, as_it_is, Ok;
    [] Vec<u8> => Vec<u8>, as_it_is, |bytes| Ok(bytes.to_vec());
    [] str => String, as_it_is, text;
    [] String => String, as_it_is, text;
    [const N: usize] [u8; N] => [u8; N], as_it_is, |bytes| {
        let exact = <[u8; N]>::try_from(&*bytes);
        exact.map_err(|_| CodecError::new(format!("{} bytes where {N} are needed", bytes.len())))
    };
    [] () => (), |()| Ok(Cow::Borrowed(&[])), |bytes| match bytes.len() {
        0 => Ok(()),
        size => Err(CodecError::new(format!("{size} bytes too many"))),
    };
}

fn as_it_is<V: AsRef<[u8]> + ?Sized>(value: &V) -> Result<Cow<'_, [u8]>, CodecError> {
    Ok(Cow::Borrowed(value.as_ref()))
}

// Copied before it is called a string: see `ReadMap`.
fn text(bytes: Bytes<'_>) -> Result<String, CodecError> {
    String::from_utf8(bytes.to_vec()).map_err(|error| CodecError::new(error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::super::codec::AsValue;
    use super::*;

    fn read<V: ?Sized>(bytes: &[u8]) -> Result<<Raw as Codec<V>>::Value<'_>, CodecError>
    where
        Raw: Codec<V>,
    {
        <Raw as Codec<V>>::decode(Bytes::borrowed(bytes))
    }

    #[test]
    fn bytes_are_stored_as_they_are_in_every_form() {
        fn stored<V: ?Sized>(form: impl AsValue<V, Raw>) -> Vec<u8> {
            form.to_value().unwrap().into_owned()
        }
        assert_eq!(stored::<[u8]>(b"a\0"), b"a\0");
        assert_eq!(stored::<[u8]>(*b"a\0"), b"a\0");
        assert_eq!(stored::<[u8]>(&b"a\0"[..]), b"a\0");
        assert_eq!(stored::<[u8]>(vec![1, 2]), [1, 2]);
        assert_eq!(stored::<[u8]>(&vec![1, 2]), [1, 2]);
        assert_eq!(stored::<[u8]>(Bytes::borrowed(b"a")), b"a");
        assert_eq!(stored::<Vec<u8>>(&b"a\0"[..]), b"a\0");
        assert_eq!(stored::<Vec<u8>>(b"a\0"), b"a\0");
        assert_eq!(stored::<[u8; 2]>([1, 2]), [1, 2]);
        assert_eq!(stored::<str>("né"), "né".as_bytes());
        assert_eq!(stored::<str>("né".to_owned()), "né".as_bytes());
        assert_eq!(stored::<String>("né"), "né".as_bytes());
        assert_eq!(stored::<()>(()), b"");
        assert!(matches!(AsValue::<[u8], Raw>::to_value(&b"a"), Ok(Cow::Borrowed(_))), "not copied");
        assert_eq!(<Raw as Codec<str>>::name(), "bytes");
    }

    #[test]
    fn bytes_are_given_back_and_wrong_ones_are_errors() {
        assert_eq!(read::<[u8]>(b"xy").unwrap(), b"xy");
        assert_eq!(read::<Vec<u8>>(b"xy"), Ok(b"xy".to_vec()));
        assert_eq!(read::<str>("né".as_bytes()), Ok("né".to_owned()));
        assert_eq!(read::<[u8; 2]>(b"xy"), Ok(*b"xy"));
        assert_eq!(read::<()>(b""), Ok(()));
        assert!(read::<String>(b"\xFF").unwrap_err().to_string().contains("utf-8"));
        assert_eq!(read::<[u8; 2]>(b"xyz").unwrap_err().to_string(), "3 bytes where 2 are needed");
        assert!(read::<()>(b"x").is_err());
    }
}
