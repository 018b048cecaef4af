//! Which part of the memory a client sees: a namespace and all below it.

use crate::failure::Failure;
use memstone::memory::{Item, ItemId, MemoryError, Namespace};

/// The part of the memory that a client is kept within. Its namespaces are relative to it, in arguments and answers, and
/// items elsewhere do not exist for it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Scope(Namespace);

impl Scope {
    pub(crate) fn new(namespace: Namespace) -> Scope {
        Scope(namespace)
    }

    /// Whether it is all of the memory. What has no namespace is for such clients alone: the graph, and the care for the
    /// file.
    pub(crate) fn is_whole(&self) -> bool {
        self.0.parts().is_empty()
    }

    /// The namespace that a client calls so; none: its own.
    pub(crate) fn namespace(&self, relative: Option<&str>) -> Result<Namespace, Failure> {
        let below: Namespace = relative.unwrap_or_default().parse()?;
        Ok(Namespace::new([self.0.parts(), below.parts()].concat())?)
    }

    /// How the client calls a namespace within its part.
    pub(crate) fn shown(&self, namespace: &Namespace) -> String {
        namespace.parts().get(self.0.parts().len()..).unwrap_or_default().join("/")
    }

    /// The item with this id, which `get` looks up.
    pub(crate) fn item(
        &self,
        id: &str,
        get: impl FnOnce(ItemId) -> Result<Option<Item>, MemoryError>,
    ) -> Result<Option<Item>, Failure> {
        let item = get(id.parse()?)?;
        Ok(item.filter(|item| item.namespace.is_within(&self.0)))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;

    #[test]
    fn names_are_relative_both_ways_and_none_leads_out() {
        let scope = Scope::new("ada/coder".parse().unwrap());
        for (relative, absolute) in
            [("", "ada/coder"), ("a", "ada/coder/a"), ("a/b", "ada/coder/a/b"), ("..", "ada/coder/..")]
        {
            let namespace = scope.namespace(Some(relative)).unwrap();
            assert_eq!((namespace.to_string().as_str(), scope.shown(&namespace).as_str()), (absolute, relative));
        }
        assert_eq!(scope.namespace(None).unwrap(), "ada/coder".parse().unwrap());
        assert!(scope.namespace(Some("/")).is_err());
        assert!(Scope::default().is_whole() && !scope.is_whole());
    }
}
