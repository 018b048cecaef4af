//! The key encoding of [`Reverse`]: descending order.

use std::borrow::Cow;
use std::cmp::Reverse;

use super::key::{AsKey, CodecError, Key, Place};

/// The bytes of the key, inverted. It delimits itself also at the end of a key: of two keys one of which begins with
/// the other, inverting would not swap the order.
impl<K: Key> Key for Reverse<K> {
    type Owned = Reverse<K::Owned>;

    fn type_name() -> Cow<'static, str> {
        Cow::Owned(format!("reverse<{}>", K::type_name()))
    }

    fn decode(_: Place, bytes: &mut &[u8]) -> Result<Reverse<K::Owned>, CodecError> {
        let inverted: Vec<u8> = bytes.iter().map(|byte| !byte).collect();
        let mut rest = inverted.as_slice();
        let key = K::decode(Place::Inner, &mut rest)?;
        let used = inverted.len() - rest.len();
        *bytes = bytes.get(used..).unwrap_or_default();
        Ok(Reverse(key))
    }
}

impl<O, Q: AsKey<O>> AsKey<Reverse<O>> for Reverse<Q> {
    fn encode(&self, _: Place, out: &mut Vec<u8>) {
        let start = out.len();
        self.0.encode(Place::Inner, out);
        out.iter_mut().skip(start).for_each(|byte| *byte = !*byte);
    }
}
