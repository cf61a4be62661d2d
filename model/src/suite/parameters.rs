//! Parameters of suites: their values, and `${name}` in the texts of steps.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::{Parameter, ParameterKind, Step};

/// A value that a parameter does not take.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("parameter `{name}`: {problem}; expected {expected}")]
pub struct BadParameter {
    /// Name of the parameter.
    pub name: String,
    /// Where it is declared; `None` when it is not.
    pub at: Option<usize>,
    /// What is wrong with the value.
    pub problem: String,
    /// What would do.
    pub expected: String,
}

impl Parameter {
    /// What is wrong with a value, and what would do.
    #[must_use]
    pub fn refuses(&self, value: &str) -> Option<(String, String)> {
        let expected = match self.kind {
            ParameterKind::Text => return None,
            ParameterKind::Number if value.parse::<f64>().is_ok_and(f64::is_finite) => return None,
            ParameterKind::Number => "a number".to_owned(),
            ParameterKind::Boolean if matches!(value, "true" | "false") => return None,
            ParameterKind::Boolean => "`true` or `false`".to_owned(),
            ParameterKind::Choice if self.choices.iter().any(|choice| choice == value) => return None,
            ParameterKind::Choice => {
                let choices: Vec<String> = self.choices.iter().map(|choice| format!("`{choice}`")).collect();
                format!("one of {}", choices.join(", "))
            }
        };
        Some((format!("`{value}` is not a value of type {}", self.kind), expected))
    }

    /// A value as it stands in JSON when it stands alone.
    fn typed(&self, value: &str) -> Value {
        match self.kind {
            ParameterKind::Number => serde_json::from_str(value).unwrap_or_else(|_| value.into()),
            ParameterKind::Boolean => (value == "true").into(),
            ParameterKind::Text | ParameterKind::Choice => value.into(),
        }
    }
}

/// Every parameter's value: what was given, else its default.
pub(super) fn values(
    parameters: &[Parameter],
    given: &BTreeMap<String, String>,
) -> Result<BTreeMap<String, String>, Vec<BadParameter>> {
    let mut bad: Vec<BadParameter> = given
        .keys()
        .filter(|name| !parameters.iter().any(|parameter| parameter.name == **name))
        .map(|name| {
            let known: Vec<String> = parameters.iter().map(|parameter| format!("`{}`", parameter.name)).collect();
            BadParameter {
                name: name.clone(),
                at: None,
                problem: "the suite has no such parameter".to_owned(),
                expected: if known.is_empty() {
                    "none: it declares none".to_owned()
                } else {
                    format!("one of {}", known.join(", "))
                },
            }
        })
        .collect();
    let mut values = BTreeMap::new();
    for (at, parameter) in parameters.iter().enumerate() {
        if let Some(value) = given.get(&parameter.name)
            && let Some((problem, expected)) = parameter.refuses(value)
        {
            bad.push(BadParameter { name: parameter.name.clone(), at: Some(at), problem, expected });
        }
        let value = given.get(&parameter.name).unwrap_or(&parameter.default);
        values.insert(parameter.name.clone(), value.clone());
    }
    if bad.is_empty() { Ok(values) } else { Err(bad) }
}

/// Puts values where `${name}` stands in a step's texts, and notes names that have none.
pub(super) struct Substitution<'a> {
    pub(super) parameters: &'a [Parameter],
    pub(super) values: &'a BTreeMap<String, String>,
    /// Names without a value, with the place below the step.
    pub(super) unknown: BTreeSet<(String, String)>,
}

impl Substitution<'_> {
    /// All texts of one step; those within `parallel` are steps of their own.
    pub(super) fn step(&mut self, step: &mut Step) {
        if let Some(experiment) = &mut step.experiment {
            self.text(experiment, "/experiment");
        }
        for (pointer, value) in &mut step.with {
            self.value(value, &format!("/with/{}", escaped(pointer)));
        }
        if let Some(check) = &mut step.check {
            self.text(&mut check.method, "/check/method");
            self.text(&mut check.url, "/check/url");
            for (name, value) in &mut check.headers {
                self.text(value, &format!("/check/headers/{}", escaped(name)));
            }
            if let Some(body) = &mut check.body {
                self.text(body, "/check/body");
            }
            if let Some(json) = &mut check.json {
                self.value(json, "/check/json");
            }
            for (name, value) in &mut check.expect.headers {
                self.text(value, &format!("/check/expect/headers/{}", escaped(name)));
            }
            for (field, texts) in [("contains", &mut check.expect.contains), ("lacks", &mut check.expect.lacks)] {
                for (at, text) in texts.iter_mut().enumerate() {
                    self.text(text, &format!("/check/expect/{field}/{at}"));
                }
            }
            for (pointer, value) in &mut check.expect.json {
                self.value(value, &format!("/check/expect/json/{}", escaped(pointer)));
            }
        }
        if let Some(command) = &mut step.command {
            self.text(command, "/command");
        }
        for (at, argument) in step.arguments.iter_mut().enumerate() {
            self.text(argument, &format!("/arguments/{at}"));
        }
    }

    fn text(&mut self, text: &mut String, at: &str) {
        let mut out = String::new();
        let mut rest = text.as_str();
        while let Some(start) = rest.find("${") {
            let (before, from) = rest.split_at(start);
            let Some(end) = from.find('}') else { break };
            let name = &from[2..end];
            if let Some(escaped) = before.strip_suffix('$') {
                // `$${name}` is `${name}` itself.
                out.push_str(escaped);
                out.push_str(&from[..=end]);
            } else {
                out.push_str(before);
                match self.values.get(name) {
                    Some(value) => out.push_str(value),
                    None => {
                        self.unknown.insert((at.to_owned(), name.to_owned()));
                        out.push_str(&from[..=end]);
                    }
                }
            }
            rest = &from[end + 1..];
        }
        out.push_str(rest);
        *text = out;
    }

    fn value(&mut self, value: &mut Value, at: &str) {
        match value {
            Value::String(text) => {
                let whole = text.strip_prefix("${").and_then(|rest| rest.strip_suffix('}'));
                let alone = whole.and_then(|name| self.parameters.iter().find(|parameter| parameter.name == name));
                match alone.and_then(|parameter| Some((parameter, self.values.get(&parameter.name)?))) {
                    Some((parameter, given)) => *value = parameter.typed(given),
                    None => self.text(text, at),
                }
            }
            Value::Array(items) => {
                for (index, item) in items.iter_mut().enumerate() {
                    self.value(item, &format!("{at}/{index}"));
                }
            }
            Value::Object(fields) => {
                for (name, field) in fields.iter_mut() {
                    self.value(field, &format!("{at}/{}", escaped(name)));
                }
            }
            Value::Null | Value::Bool(_) | Value::Number(_) => {}
        }
    }
}

/// A key as JSON pointers have it (RFC 6901).
pub(super) fn escaped(key: &str) -> String {
    key.replace('~', "~0").replace('/', "~1")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    fn parameter(name: &str, kind: ParameterKind, default: &str) -> Parameter {
        Parameter {
            name: name.into(),
            description: String::new(),
            kind,
            default: default.into(),
            choices: vec!["a".into()],
        }
    }

    fn substituted(value: Value) -> Value {
        let parameters = [
            parameter("n", ParameterKind::Number, "7"),
            parameter("on", ParameterKind::Boolean, "true"),
            parameter("t", ParameterKind::Text, "soup"),
        ];
        let values = values(&parameters, &BTreeMap::new()).unwrap();
        let mut substitution = Substitution { parameters: &parameters, values: &values, unknown: BTreeSet::new() };
        let mut value = value;
        substitution.value(&mut value, "");
        assert_eq!(substitution.unknown, BTreeSet::new());
        value
    }

    #[test]
    fn a_value_that_stands_alone_keeps_its_type() {
        assert_eq!(
            substituted(json!({"a": "${n}", "b": "${on}", "c": ["${t}"], "d": "x${n}y", "e": "$${n}"})),
            json!({"a": 7, "b": true, "c": ["soup"], "d": "x7y", "e": "${n}"})
        );
    }

    #[test]
    fn a_value_of_the_wrong_type_says_what_would_do() {
        let parameters = [parameter("n", ParameterKind::Number, "7"), parameter("c", ParameterKind::Choice, "a")];
        let given = BTreeMap::from([("n".into(), "many".into()), ("c".into(), "b".into()), ("x".into(), "1".into())]);
        let told: Vec<String> = values(&parameters, &given).unwrap_err().iter().map(ToString::to_string).collect();
        assert_eq!(
            told,
            [
                "parameter `x`: the suite has no such parameter; expected one of `n`, `c`",
                "parameter `n`: `many` is not a value of type number; expected a number",
                "parameter `c`: `b` is not a value of type choice; expected one of `a`",
            ]
        );
    }

    proptest! {
        #[test]
        fn a_text_without_parameters_stays_as_it_is(text in "[^$]*") {
            prop_assert_eq!(substituted(json!(text.clone())), json!(text));
        }
    }
}
