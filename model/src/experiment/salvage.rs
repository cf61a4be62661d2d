//! What can still be checked of an experiment file whose form is wrong: the wrong parts are cut out of a copy, and the
//! rules run on the rest, so that one reading lists every error.

use serde_json::{Value, json};

use super::Experiment;
use crate::document::{Document, Problem};

/// The sections whose items can be cut out one by one.
const LISTS: [&str; 6] = ["scenarios", "faults", "objectives", "steady_state", "guards", "audits"];

/// Rounds of cutting: a field, what misses it, and what that one's neutral value may still collide with.
const ROUNDS: usize = 4;

/// An experiment with neutral values where the file was wrong.
pub(super) struct Salvaged {
    pub(super) experiment: Experiment,
    pub(super) cuts: Cuts,
}

/// Where something was cut out, by JSON pointer.
#[derive(Debug, Default)]
pub(super) struct Cuts(Vec<String>);

impl Cuts {
    /// Whether something was cut out of a section.
    pub(super) fn touch(&self, section: &str) -> bool {
        let within = format!("/{section}/");
        self.0.iter().any(|cut| cut[1..] == *section || cut.starts_with(&within))
    }

    /// Whether a place lies within something that was cut out, so that a rule broken there says nothing.
    pub(super) fn cover(&self, pointer: &str) -> bool {
        self.0
            .iter()
            .any(|cut| pointer.strip_prefix(cut.as_str()).is_some_and(|rest| rest.is_empty() || rest.starts_with('/')))
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
            let experiment = serde_json::from_value(value).ok()?;
            return Some(Salvaged { experiment, cuts });
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
    let at_root = parts.len() == 1;
    let (parent, field) = problem.pointer.rsplit_once('/').unwrap_or_default();
    // First only the field itself: it may be unknown, or one that can be done without.
    if (round == 0 && !at_root || neutral(section).is_none())
        && let Some(Value::Object(fields)) = value.pointer_mut(parent)
        && fields.shift_remove(&field.replace("~1", "/").replace("~0", "~")).is_some()
    {
        return;
    }
    let (pointer, replacement) = match (LISTS.contains(&section), parts.get(1)) {
        (true, Some(item)) => (format!("/{section}/{item}"), neutral_item(section, item)),
        _ => (format!("/{section}"), neutral(section).unwrap_or_default()),
    };
    if let Some(place) = value.pointer_mut(&pointer) {
        *place = replacement;
        cuts.0.push(pointer);
    }
}

/// Puts neutral values where the file misses a section.
fn fill(value: &mut Value, cuts: &mut Cuts) {
    let Some(fields) = value.as_object_mut() else { return };
    for section in ["version", "name", "target", "load", "scenarios"] {
        if let (false, Some(neutral)) = (fields.contains_key(section), neutral(section)) {
            fields.insert(section.to_owned(), neutral);
            cuts.0.push(format!("/{section}"));
        }
    }
}

/// A value for a whole section that breaks no rule outside of it.
fn neutral(section: &str) -> Option<Value> {
    Some(match section {
        "version" => json!(1),
        "name" | "target" => json!("-"),
        "description" => json!(""),
        "load" => json!({ "model": "closed", "users": 100_000, "duration": "720h" }),
        "scenarios" => json!([neutral_item("scenarios", "0")]),
        section if LISTS.contains(&section) => json!([]),
        _ => return None,
    })
}

fn neutral_item(section: &str, item: &str) -> Value {
    // A name that no file has by chance.
    let name = format!("\u{1}{item}");
    match section {
        "scenarios" => json!({ "name": name, "steps": [{ "name": name, "path": "/" }] }),
        "faults" => json!({ "name": name, "kind": "kill", "selector": {}, "start": "0s" }),
        "audits" => json!(name),
        _ => json!("max < 720h"),
    }
}
