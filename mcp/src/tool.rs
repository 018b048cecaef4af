//! What a tool is: its name, what it takes and returns, and the function that does its work.

use crate::care::Care;
use crate::failure::Failure;
use crate::items::{Recall, Record};
use crate::shape::Shape;
use memstone::memory::Operation;
use memstone::memory::graph::{GraphMut, GraphView};
use rmcp::model::{Tool as Listed, ToolAnnotations};
use serde::Serialize;
use serde_json::Value;
use std::sync::Arc;

/// A tool.
pub(crate) struct Tool {
    pub(crate) name: &'static str,
    pub(crate) title: &'static str,
    pub(crate) about: &'static str,
    pub(crate) input: Shape,
    pub(crate) output: Shape,
    pub(crate) effect: Effect,
    pub(crate) work: Work,
}

/// What a tool does to the memory.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Effect {
    /// Nothing.
    Reads,
    /// None on the memory, but on what is kept beside it.
    Keeps,
    /// It only adds.
    Adds,
    /// It removes or replaces; doing it twice changes no more.
    Removes,
}

/// The function of a tool. Its arguments are of the tool's shape.
pub(crate) enum Work {
    /// On a snapshot of the graph.
    Read(fn(&GraphView<'_>, &Value) -> Result<Answer, Failure>),
    /// In a write transaction, which is rolled back if the function fails.
    Edit(fn(&GraphMut<'_>, &Value) -> Result<Answer, Failure>),
    /// On a state of the client's items.
    Recall(fn(&Recall<'_>, &Value) -> Result<Answer, Failure>),
    /// On the client's items in a write transaction, which is rolled back if the function fails.
    Record(fn(&Record<'_>, &Value) -> Result<Answer, Failure>),
    /// On the store.
    Care(fn(&Care<'_>, &Value) -> Result<Answer, Failure>),
}

/// What a tool answers: the same as text and as structured content, which may differ in form.
pub(crate) struct Answer {
    pub(crate) text: String,
    pub(crate) content: Value,
}

impl Answer {
    /// As text, `text` as indented JSON.
    pub(crate) fn json(text: &impl Serialize, content: Value) -> Result<Answer, Failure> {
        Ok(Answer { text: serde_json::to_string_pretty(text)?, content })
    }

    /// The same in both forms.
    pub(crate) fn of(content: Value) -> Result<Answer, Failure> {
        Ok(Answer { text: serde_json::to_string_pretty(&content)?, content })
    }
}

impl Tool {
    /// The tool as clients see it in the list.
    pub(crate) fn listed(&self) -> Listed {
        let annotations = ToolAnnotations::new()
            .read_only(self.effect == Effect::Reads)
            .destructive(self.effect == Effect::Removes)
            .idempotent(matches!(self.effect, Effect::Reads | Effect::Removes))
            .open_world(false);
        Listed::new(self.name, self.about, Arc::new(self.input.of_input()))
            .with_title(self.title)
            .with_raw_output_schema(Arc::new(self.output.of_output()))
            .with_annotations(annotations)
    }

    /// Whether it changes the memory.
    pub(crate) fn changes(&self) -> bool {
        matches!(self.effect, Effect::Adds | Effect::Removes)
    }

    /// As which operation it is measured.
    pub(crate) fn operation(&self) -> Operation {
        match self.work {
            Work::Care(_) => Operation::Lengthy(self.name),
            _ if self.changes() => Operation::Writing(self.name),
            _ => Operation::Reading(self.name),
        }
    }

    /// Whether it may change the graph.
    pub(crate) fn changes_graph(&self) -> bool {
        self.changes() && !matches!(self.work, Work::Record(_))
    }

    /// Whether it is one of the tools that change the graph, as the reference server has them: its clients are told of
    /// each call.
    pub(crate) fn is_of_graph(&self) -> bool {
        matches!(self.work, Work::Edit(_))
    }

    /// Whether its work is one write transaction.
    pub(crate) fn is_transaction(&self) -> bool {
        matches!(self.work, Work::Edit(_) | Work::Record(_))
    }

    /// Whether the arguments are of the tool's shape.
    pub(crate) fn check(&self, arguments: &Value) -> Result<(), Failure> {
        let mistakes = self.input.mistakes(arguments);
        if mistakes.is_empty() { Ok(()) } else { Err(Failure::Input { tool: self.name, mistakes }) }
    }
}
