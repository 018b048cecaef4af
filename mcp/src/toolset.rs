//! Which tools clients have.

use crate::scope::Scope;
use crate::tool::Tool;
use crate::{
    admin_tools, care_tools, exchange_tools, graph_tools, job_tools, metrics_tools, recall_tools, record_tools,
    work_tools,
};

/// A group of tools.
struct Group {
    name: &'static str,
    /// Whether clients that see a part of the memory may have it. The graph has no parts, and the care is for the file.
    of_parts: bool,
    tools: &'static [&'static [Tool]],
}

const GROUPS: &[Group] = &[
    Group { name: "graph", of_parts: false, tools: &[graph_tools::TOOLS] },
    Group { name: "memory", of_parts: true, tools: &[record_tools::TOOLS, recall_tools::TOOLS] },
    Group { name: "jobs", of_parts: true, tools: &[job_tools::TOOLS] },
    Group { name: "work", of_parts: true, tools: &[work_tools::TOOLS] },
    Group {
        name: "care",
        of_parts: false,
        tools: &[care_tools::TOOLS, exchange_tools::TOOLS, metrics_tools::TOOLS, admin_tools::TOOLS],
    },
];

/// Which groups of tools there are, a bit each.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Toolset(u32);

impl Toolset {
    /// The groups with these names, separated by commas; `all` is all of them.
    pub(crate) fn parse(names: &str) -> Option<Toolset> {
        let mut bits = 0;
        for name in names.split(',').map(str::trim) {
            match GROUPS.iter().position(|group| group.name == name) {
                Some(at) => bits |= 1 << at,
                None if name == "all" => bits = u32::MAX,
                None => return None,
            }
        }
        Some(Toolset(bits))
    }

    /// The tools of a client with this scope. One that sees a part of the memory has those for memories in any case, and no
    /// others than those that are for parts.
    pub(crate) fn tools(self, scope: &Scope) -> Vec<&'static Tool> {
        let is_in = |(at, group): &(usize, &Group)| {
            let asked = self.0 & (1 << at) != 0;
            if scope.is_whole() { asked } else { group.of_parts && (asked || group.name == "memory") }
        };
        let groups = GROUPS.iter().enumerate().filter(is_in);
        groups.flat_map(|(_, group)| group.tools.iter().copied().flatten()).collect()
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
        assert_eq!([Toolset::parse("some"), Toolset::parse("graph,")], [None, None]);
        let names_of = |set: Toolset, part: &str| -> Vec<&str> {
            set.tools(&Scope::new(part.parse().unwrap())).into_iter().map(|tool| tool.name).collect()
        };
        let names = |part: &str| names_of(all, part);
        assert_eq!(names_of(Toolset::parse("work, memory,jobs,care,graph").unwrap(), ""), names(""));
        assert_eq!(names("").len(), names("").into_iter().collect::<BTreeSet<_>>().len());
        let memories = record_tools::TOOLS.len() + recall_tools::TOOLS.len();
        let of_part = names("ada");
        assert!(of_part.contains(&"search_memories") && of_part.contains(&"claim_job"));
        assert_eq!(of_part.len(), memories + job_tools::TOOLS.len() + work_tools::TOOLS.len());
        assert_eq!(names_of(Toolset::parse("graph,care").unwrap(), "ada").len(), memories);
    }
}
