//! Which tools clients have.

use crate::scope::Scope;
use crate::tool::Tool;
use crate::{admin_tools, care_tools, graph_tools, recall_tools, record_tools};

/// Groups of tools.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Toolset {
    graph: bool,
    memory: bool,
    care: bool,
}

impl Toolset {
    /// The groups with these names, separated by commas; `all` is all of them.
    pub(crate) fn parse(names: &str) -> Option<Toolset> {
        let mut set = Toolset { graph: false, memory: false, care: false };
        for name in names.split(',').map(str::trim) {
            match name {
                "graph" => set.graph = true,
                "memory" => set.memory = true,
                "care" => set.care = true,
                "all" => set = Toolset { graph: true, memory: true, care: true },
                _ => return None,
            }
        }
        Some(set)
    }

    /// The tools of a client with this scope. One that sees a part of the memory has those for memories alone: the graph has no
    /// parts, and the care is for the file.
    pub(crate) fn tools(self, scope: &Scope) -> Vec<&'static Tool> {
        let of_all = scope.is_whole();
        let groups = [
            (self.graph && of_all, graph_tools::TOOLS),
            (self.memory || !of_all, record_tools::TOOLS),
            (self.memory || !of_all, recall_tools::TOOLS),
            (self.care && of_all, care_tools::TOOLS),
            (self.care && of_all, admin_tools::TOOLS),
        ];
        groups.into_iter().filter(|(is_in, _)| *is_in).flat_map(|(_, tools)| tools).collect()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn a_client_of_a_part_has_no_tool_for_the_whole() {
        let all = Toolset::parse("all").unwrap();
        assert_eq!(Toolset::parse("memory, care,graph"), Some(all));
        assert_eq!([Toolset::parse("some"), Toolset::parse("graph,")], [None, None]);
        let names = |part: &str| -> Vec<&str> {
            all.tools(&Scope::new(part.parse().unwrap())).into_iter().map(|tool| tool.name).collect()
        };
        assert_eq!(names("").len(), names("").into_iter().collect::<BTreeSet<_>>().len());
        let of_part = names("ada");
        assert!(
            of_part.contains(&"search_memories")
                && of_part.len() == record_tools::TOOLS.len() + recall_tools::TOOLS.len()
        );
    }
}
