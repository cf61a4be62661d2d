//! What is wrong with a channel, a rule or a setting as somebody wrote it, field by field.

use std::fmt;

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FieldProblem {
    /// The field, as the API calls it; parts of a nested one are joined by a dot.
    pub field: &'static str,
    /// What was given, what is expected and what to do.
    pub message: String,
}

/// Everything that is wrong, at least one thing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct FieldProblems(pub Vec<FieldProblem>);

impl fmt::Display for FieldProblems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let lines: Vec<String> =
            self.0.iter().map(|problem| format!("{}: {}", problem.field, problem.message)).collect();
        f.write_str(&lines.join("; "))
    }
}

/// Collects problems while something is read.
#[derive(Debug, Default)]
pub(crate) struct Findings(Vec<FieldProblem>);

impl Findings {
    pub(crate) fn add(&mut self, field: &'static str, message: impl Into<String>) {
        self.0.push(FieldProblem { field, message: message.into() });
    }

    /// What was read, unless something is wrong.
    pub(crate) fn or<T>(self, value: impl FnOnce() -> T) -> Result<T, FieldProblems> {
        if self.0.is_empty() { Ok(value()) } else { Err(FieldProblems(self.0)) }
    }

    /// What is there, or that it is wrong.
    pub(crate) fn take<T>(&mut self, field: &'static str, read: Result<T, String>) -> Option<T> {
        read.map_err(|message| self.add(field, message)).ok()
    }
}
