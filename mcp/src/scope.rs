//! Which part of the memory a client sees: a namespace and all below it.

use crate::failure::Failure;
use memstone::memory::{Item, ItemId, MemoryError, Namespace};
use serde_json::Value;

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

    /// The namespace with this path from the root of all, if the client may see it.
    pub(crate) fn absolute(&self, path: &str) -> Result<Namespace, MemoryError> {
        let namespace: Namespace = path.parse()?;
        if self.sees(&namespace) {
            return Ok(namespace);
        }
        Err(MemoryError::Invalid {
            what: "namespace",
            reason: format!("{path:?} is outside of this part of the memory"),
        })
    }

    /// Whether the client may see what is in a namespace.
    pub(crate) fn sees(&self, namespace: &Namespace) -> bool {
        namespace.is_within(&self.0)
    }

    /// The namespace that a call concerns: what those that its arguments name have in common, or the client's own.
    pub(crate) fn of_call(&self, arguments: &Value) -> Namespace {
        let named = |value: &Value| self.namespace(value.get("namespace").and_then(Value::as_str)).ok();
        let memories = arguments.get("memories").and_then(Value::as_array).filter(|memories| !memories.is_empty());
        let all: Option<Vec<Namespace>> = match memories {
            Some(memories) => memories.iter().map(named).collect(),
            None => named(arguments).map(|one| vec![one]),
        };
        let common = |one: Namespace, other: Namespace| {
            let parts = one.parts().iter().zip(other.parts()).take_while(|(one, other)| one == other);
            Namespace::new(parts.map(|(part, _)| part.clone())).unwrap_or_default()
        };
        all.and_then(|all| all.into_iter().reduce(common)).unwrap_or_else(|| self.0.clone())
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
        Ok(item.filter(|item| self.sees(&item.namespace)))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;
    use serde_json::json;

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

    #[test]
    fn a_call_concerns_what_its_namespaces_have_in_common() {
        let scope = Scope::new("ada".parse().unwrap());
        let of = |arguments: Value| scope.of_call(&arguments).to_string();
        assert_eq!(of(json!({})), "ada");
        assert_eq!(of(json!({ "namespace": "chat/2026", "memories": [] })), "ada/chat/2026");
        assert_eq!(of(json!({ "memories": [{ "namespace": "chat/a" }, { "namespace": "chat/b" }] })), "ada/chat");
        assert_eq!(of(json!({ "memories": [{ "namespace": "chat" }, {}] })), "ada");
        for odd in [json!({ "namespace": "a//b" }), json!({ "memories": [{ "namespace": "/" }] }), json!([7])] {
            assert_eq!(of(odd), "ada");
        }
    }
}
