//! Ids of items: UUIDs of version 7.

use crate::memory::error::{MemoryError, Result};
use crate::memory::time::Timestamp;
use std::fmt;
use std::str::FromStr;

/// The id of an item: 16 bytes, by default a UUID of version 7 (RFC 9562), which begins with the time in milliseconds.
///
/// ```
/// use memstone::memory::{ItemId, MemoryError, Timestamp};
/// let id = ItemId::new(Timestamp::now())?;
/// assert_eq!(id.to_string().parse::<ItemId>()?, id);
/// assert_eq!(ItemId::from_bytes(*id.as_bytes()), id);
/// assert_eq!(id.to_string().as_bytes()[14], b'7');
/// # Ok::<(), MemoryError>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ItemId([u8; 16]);

impl ItemId {
    /// A new id, of this time.
    ///
    /// # Errors
    /// [`MemoryError::Store`] if the system gives no random bytes.
    pub fn new(time: Timestamp) -> Result<ItemId> {
        let mut bytes = [0; 16];
        getrandom::fill(&mut bytes)
            .map_err(|error| MemoryError::Store(crate::Error::Internal(format!("no random bytes: {error}"))))?;
        let millis = (time.as_micros() / 1000).to_be_bytes();
        let [time @ .., version, _, variant, _, _, _, _, _, _, _] = &mut bytes;
        // The last six of eight bytes.
        time.iter_mut().zip(millis.iter().skip(2)).for_each(|(place, byte)| *place = *byte);
        *version = 0x70 | (*version & 0x0f);
        *variant = 0x80 | (*variant & 0x3f);
        Ok(ItemId(bytes))
    }

    /// An id from any 16 bytes.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 16]) -> ItemId {
        ItemId(bytes)
    }

    /// Its bytes.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }
}

impl fmt::Display for ItemId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, byte) in self.0.iter().enumerate() {
            if matches!(at, 4 | 6 | 8 | 10) {
                f.write_str("-")?;
            }
            write!(f, "{byte:02x}")?;
        }
        Ok(())
    }
}

impl fmt::Debug for ItemId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// 32 hexadecimal digits, with or without hyphens.
impl FromStr for ItemId {
    type Err = MemoryError;

    fn from_str(text: &str) -> Result<ItemId> {
        let wrong = || MemoryError::invalid("id", format!("{text:?} is not a UUID"));
        let digits = text.chars().filter(|c| *c != '-').map(|c| c.to_digit(16)).collect::<Option<Vec<u32>>>();
        let digits = digits.filter(|digits| digits.len() == 32).ok_or_else(wrong)?;
        let mut bytes = [0; 16];
        for (byte, pair) in bytes.iter_mut().zip(digits.as_chunks::<2>().0) {
            *byte = u8::try_from(pair[0] * 16 + pair[1]).map_err(|_| wrong())?;
        }
        Ok(ItemId(bytes))
    }
}

impl serde::Serialize for ItemId {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> serde::Deserialize<'de> for ItemId {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<ItemId, D::Error> {
        let text = <std::borrow::Cow<'de, str>>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}
