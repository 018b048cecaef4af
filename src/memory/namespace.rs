//! Namespaces: paths of parts.

use crate::memory::error::{MemoryError, Result};
use std::fmt;
use std::str::FromStr;

/// No namespace has more parts.
pub(super) const MAX_PARTS: usize = 16;
/// No part has more bytes.
const MAX_PART: usize = 200;

/// A place for items: a path of parts, such as user, agent and project, written `ada/coder/website`. The empty path is
/// the root, above all others. Parts are not empty, have at most 200 bytes, and neither `/` nor control characters;
/// there are at most 16.
///
/// ```
/// use memstone::memory::{MemoryError, Namespace};
/// let namespace = Namespace::new(["ada", "coder"])?;
/// assert_eq!(namespace, "ada/coder".parse()?);
/// assert!(namespace.is_within(&"ada".parse()?) && !namespace.is_within(&"ad".parse()?));
/// assert_eq!(namespace.parent(), Some("ada".parse()?));
/// assert_eq!((namespace.parts(), Namespace::root().child("ada")?), (&["ada".to_owned(), "coder".to_owned()][..], "ada".parse()?));
/// assert!("ada//coder".parse::<Namespace>().is_err());
/// # Ok::<(), MemoryError>(())
/// ```
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Namespace {
    parts: Vec<String>,
}

impl Namespace {
    /// The namespace above all others.
    #[must_use]
    pub fn root() -> Namespace {
        Namespace::default()
    }

    /// A namespace from its parts.
    ///
    /// # Errors
    /// [`MemoryError::Invalid`] for a part that may not be one, or too many parts.
    pub fn new<P: Into<String>>(parts: impl IntoIterator<Item = P>) -> Result<Namespace> {
        let parts: Vec<String> = parts.into_iter().map(Into::into).collect();
        let wrong = |reason: String| Err(MemoryError::invalid("namespace", reason));
        if parts.len() > MAX_PARTS {
            return wrong(format!("{} parts, and {MAX_PARTS} are the limit", parts.len()));
        }
        for part in &parts {
            if part.is_empty() || part.len() > MAX_PART {
                return wrong(format!("part {part:?} has {} bytes, not 1 to {MAX_PART}", part.len()));
            }
            if part.chars().any(|c| c == '/' || c.is_control()) {
                return wrong(format!("part {part:?} has a slash or a control character"));
            }
        }
        Ok(Namespace { parts })
    }

    /// Its parts.
    #[must_use]
    pub fn parts(&self) -> &[String] {
        &self.parts
    }

    /// The namespace above this; `None` for the root.
    #[must_use]
    pub fn parent(&self) -> Option<Namespace> {
        let (_, above) = self.parts.split_last()?;
        Some(Namespace { parts: above.to_vec() })
    }

    /// A namespace below this.
    ///
    /// # Errors
    /// As [`Namespace::new`].
    pub fn child(&self, part: impl Into<String>) -> Result<Namespace> {
        Namespace::new(self.parts.iter().cloned().chain([part.into()]))
    }

    /// Whether this is `other`, or lies below it.
    #[must_use]
    pub fn is_within(&self, other: &Namespace) -> bool {
        self.parts.starts_with(&other.parts)
    }

    /// This namespace and all above it, the root first.
    pub(super) fn lineage(&self) -> impl Iterator<Item = Namespace> + '_ {
        (0..=self.parts.len()).map(|len| Namespace { parts: self.parts.iter().take(len).cloned().collect() })
    }

    /// The path as a key: each part with a byte of 0 behind it, so that what lies below a namespace starts with its
    /// key, and follows it.
    pub(super) fn key(&self) -> Vec<u8> {
        self.parts.iter().flat_map(|part| part.bytes().chain([0])).collect()
    }

    /// The namespace with this key.
    pub(super) fn from_key(key: &[u8]) -> Option<Namespace> {
        let text = std::str::from_utf8(key).ok()?;
        let Some(text) = text.strip_suffix('\0') else {
            return text.is_empty().then(Namespace::root);
        };
        Namespace::new(text.split('\0')).ok()
    }
}

/// The parts, with slashes between them; nothing for the root.
impl fmt::Display for Namespace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, part) in self.parts.iter().enumerate() {
            write!(f, "{}{part}", if at == 0 { "" } else { "/" })?;
        }
        Ok(())
    }
}

impl fmt::Debug for Namespace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{self}\"")
    }
}

impl FromStr for Namespace {
    type Err = MemoryError;

    fn from_str(text: &str) -> Result<Namespace> {
        if text.is_empty() { Ok(Namespace::root()) } else { Namespace::new(text.split('/')) }
    }
}

impl TryFrom<&str> for Namespace {
    type Error = MemoryError;

    fn try_from(text: &str) -> Result<Namespace> {
        text.parse()
    }
}

impl TryFrom<&String> for Namespace {
    type Error = MemoryError;

    fn try_from(text: &String) -> Result<Namespace> {
        text.parse()
    }
}

impl TryFrom<String> for Namespace {
    type Error = MemoryError;

    fn try_from(text: String) -> Result<Namespace> {
        text.parse()
    }
}

impl From<&Namespace> for Namespace {
    fn from(namespace: &Namespace) -> Namespace {
        namespace.clone()
    }
}

impl serde::Serialize for Namespace {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> serde::Deserialize<'de> for Namespace {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Namespace, D::Error> {
        let text = <std::borrow::Cow<'de, str>>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}
