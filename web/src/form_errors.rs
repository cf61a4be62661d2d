//! What is wrong with a form, field by field, for the page that shows it again.

use kennel_model::api::FieldProblem;

/// What is wrong with a form; empty when nothing is.
#[derive(Debug, Clone, Default)]
pub(crate) struct FormErrors(Vec<FieldProblem>);

impl From<Vec<FieldProblem>> for FormErrors {
    fn from(problems: Vec<FieldProblem>) -> Self {
        Self(problems)
    }
}

impl FromIterator<(&'static str, String)> for FormErrors {
    fn from_iter<T: IntoIterator<Item = (&'static str, String)>>(problems: T) -> Self {
        let problem = |(field, message): (&str, String)| FieldProblem {
            field: field.to_owned(),
            message,
            expected: String::new(),
        };
        Self(problems.into_iter().map(problem).collect())
    }
}

impl FormErrors {
    /// What is wrong with a field; empty when nothing is.
    pub(crate) fn at(&self, field: &str) -> String {
        let found = self.0.iter().filter(|problem| problem.field == field);
        let sentences = found.map(|problem| match problem.expected.as_str() {
            "" => problem.message.clone(),
            expected => format!("{}; expected {expected}", problem.message),
        });
        sentences.collect::<Vec<_>>().join(" ")
    }

    pub(crate) fn count(&self) -> usize {
        self.0.len()
    }

    /// What belongs to no field of which `is_shown` is true.
    pub(crate) fn elsewhere(&self, is_shown: impl Fn(&str) -> bool) -> Vec<String> {
        self.0.iter().filter(|problem| !is_shown(&problem.field)).map(ToString::to_string).collect()
    }

    /// What is wrong below a field: what its parts are called within it, and the problem.
    pub(crate) fn within(&self, prefix: &str) -> Vec<String> {
        let problems = self.0.iter().filter_map(|problem| Some((problem.field.strip_prefix(prefix)?, problem)));
        let named = problems.map(|(field, problem)| FieldProblem { field: field.to_owned(), ..problem.clone() });
        named.map(|problem| problem.to_string()).collect()
    }
}
