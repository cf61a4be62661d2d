//! What can still be checked of a suite file whose form is wrong: the wrong parts are cut out of a copy, and the rules run
//! on the rest, so that one reading lists every error.

use serde_json::{Value, json};

use super::Suite;
use crate::document::{Document, Problem};

/// Rounds of cutting: a field, then the item that misses it, then what that leaves.
const ROUNDS: usize = 4;

/// A suite with neutral values where the file was wrong.
pub(super) struct Salvaged {
    pub(super) suite: Suite,
    pub(super) cuts: Cuts,
}

/// Where something was cut out, by JSON pointer.
#[derive(Debug, Default)]
pub(super) struct Cuts {
    /// Replaced as a whole: nothing within says anything.
    whole: Vec<String>,
    /// Miss a field: rules about the thing itself say nothing, those about its other fields do.
    hurt: Vec<String>,
}

impl Cuts {
    /// Whether parameters are missing that steps may rightly name.
    pub(super) fn touch_parameters(&self) -> bool {
        self.whole.iter().any(|cut| cut.starts_with("/parameters"))
    }

    /// Whether a rule broken at a place says nothing.
    pub(super) fn cover(&self, pointer: &str) -> bool {
        let within = |cut: &String| {
            pointer.strip_prefix(cut.as_str()).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        };
        self.whole.iter().any(within) || self.hurt.iter().any(|hurt| hurt == pointer)
    }
}

/// Cuts out what is wrong until the rest can be decoded; `None` when nothing sensible is left.
pub(super) fn salvage(document: &Document, schema: &Value) -> Option<Salvaged> {
    let mut value = document.value().clone();
    if !value.is_object() {
        return None;
    }
    let mut cuts = Cuts::default();
    for round in 0..ROUNDS {
        let problems = document.violations(&value, schema);
        if problems.is_empty() {
            return Some(Salvaged { suite: serde_json::from_value(value).ok()?, cuts });
        }
        for problem in &problems {
            cut(&mut value, problem, round, &mut cuts);
        }
    }
    None
}

fn cut(value: &mut Value, problem: &Problem, round: usize, cuts: &mut Cuts) {
    let parts: Vec<&str> = problem.pointer.split('/').skip(1).collect();
    let Some(section) = parts.first().copied() else { return fill(value, cuts) };
    let (parent, field) = problem.pointer.rsplit_once('/').unwrap_or_default();
    // First only the field itself: it may be unknown, or one that can be done without.
    if round == 0
        && parts.len() > 1
        && let Some(Value::Object(fields)) = value.pointer_mut(parent)
        && fields.shift_remove(&field.replace("~1", "/").replace("~0", "~")).is_some()
    {
        cuts.hurt.push(item_of(&parts).unwrap_or_else(|| parent.to_owned()));
        return;
    }
    let (pointer, neutral) = match (section, item_of(&parts)) {
        ("steps" | "set_up" | "tear_down", Some(item)) => {
            let neutral = json!({ "name": format!("\u{1}{item}"), "wait": "1s" });
            (item, neutral)
        }
        ("parameters", Some(item)) => {
            let name = format!("cut_{}", parts.get(1).copied().unwrap_or_default());
            (item, json!({ "name": name, "default": "" }))
        }
        ("steps", None) => ("/steps".to_owned(), neutral_steps()),
        ("version", _) => ("/version".to_owned(), json!(1)),
        ("name", _) => ("/name".to_owned(), json!("-")),
        _ => {
            // A section that can be done without, or one that does not exist.
            if let Some(fields) = value.as_object_mut()
                && fields.shift_remove(&section.replace("~1", "/").replace("~0", "~")).is_some()
            {
                cuts.whole.push(format!("/{section}"));
            }
            return;
        }
    };
    if let Some(place) = value.pointer_mut(&pointer) {
        *place = neutral;
        cuts.whole.push(pointer);
    }
}

/// The step or parameter that a place lies in.
fn item_of(parts: &[&str]) -> Option<String> {
    match parts {
        [section, at, "parallel", within, ..] => Some(format!("/{section}/{at}/parallel/{within}")),
        [section @ ("steps" | "set_up" | "tear_down" | "parameters"), at, ..] => Some(format!("/{section}/{at}")),
        _ => None,
    }
}

/// Puts neutral values where the file misses a section.
fn fill(value: &mut Value, cuts: &mut Cuts) {
    let Some(fields) = value.as_object_mut() else { return };
    for (section, neutral) in [("version", json!(1)), ("name", json!("-")), ("steps", neutral_steps())] {
        if !fields.contains_key(section) {
            fields.insert(section.to_owned(), neutral);
            cuts.whole.push(format!("/{section}"));
        }
    }
}

fn neutral_steps() -> Value {
    json!([{ "name": "\u{1}", "wait": "1s" }])
}
