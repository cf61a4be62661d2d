//! The rules of a suite file that its types alone cannot express: names, parameters, and what lies outside the file.

use std::collections::{BTreeMap, BTreeSet};

use super::parameters::{Substitution, values};
use super::step_rules::{Around, check_step};
use super::{ParameterKind, Section, Step, Suite};
use crate::document::Problem;
use crate::experiment::{Surroundings, TargetReference, ValidExperiment, check_target};
use crate::target::Target;

/// A suite with its parameters in their places, and everything that is wrong with it.
pub(super) struct Checked {
    pub(super) suite: Suite,
    pub(super) target: Option<Target>,
    pub(super) experiments: BTreeMap<String, ValidExperiment>,
    pub(super) parameters: BTreeMap<String, String>,
    pub(super) problems: Vec<Problem>,
}

/// Runs every rule. `forgiving` says that parameters were cut out, so that unknown names mean nothing.
pub(super) fn check(
    mut suite: Suite,
    given: &BTreeMap<String, String>,
    surroundings: &dyn Surroundings,
    forgiving: bool,
) -> Checked {
    let mut problems = Vec::new();
    check_words(&suite, &mut problems);
    check_parameters(&suite, &mut problems);
    check_names(&suite, &mut problems);
    let parameters = match values(&suite.parameters, given) {
        Ok(values) => values,
        Err(bad) => {
            problems.extend(bad.into_iter().map(|bad| {
                let pointer = bad.at.map_or_else(|| "/parameters".to_owned(), |at| format!("/parameters/{at}"));
                Problem::new(pointer, format!("parameter `{}`: {}", bad.name, bad.problem), bad.expected)
            }));
            suite.parameters.iter().map(|parameter| (parameter.name.clone(), parameter.default.clone())).collect()
        }
    };
    let target = check_own_target(&suite, surroundings, &mut problems);
    substitute(&mut suite, &parameters, forgiving, &mut problems);
    let mut experiments = BTreeMap::new();
    let around = Around {
        target: target.as_ref(),
        has_target: suite.target.is_some(),
        surroundings,
        commands: surroundings.commands(&suite.agents),
    };
    for (path, step) in suite.all_steps() {
        if let Some(experiment) = check_step(step, &path, &around, &mut problems) {
            experiments.insert(path, experiment);
        }
    }
    Checked { suite, target, experiments, parameters, problems }
}

fn check_words(suite: &Suite, problems: &mut Vec<Problem>) {
    for (field, list) in [("labels", &suite.labels), ("agents", &suite.agents)] {
        for (at, word) in list.iter().enumerate() {
            if word.trim().is_empty() || word.trim() != word || word.len() > 100 {
                problems.push(Problem::new(
                    format!("/{field}/{at}"),
                    format!("`{word}` is no label"),
                    "a word or a few, at most 100 bytes, without spaces around them",
                ));
            } else if list[..at].contains(word) {
                problems.push(Problem::new(format!("/{field}/{at}"), format!("a second label `{word}`"), "each once"));
            }
        }
    }
}

fn check_parameters(suite: &Suite, problems: &mut Vec<Problem>) {
    let mut seen = BTreeSet::new();
    for (at, parameter) in suite.parameters.iter().enumerate() {
        let path = format!("/parameters/{at}");
        let plain = !parameter.name.starts_with(|c: char| c.is_ascii_digit())
            && parameter.name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
        if !plain {
            problems.push(Problem::new(
                format!("{path}/name"),
                format!("`{}` cannot name a parameter", parameter.name),
                "letters, digits and `_`, not beginning with a digit",
            ));
        }
        if !seen.insert(parameter.name.as_str()) {
            problems.push(Problem::new(
                format!("{path}/name"),
                format!("a second parameter named `{}`", parameter.name),
                "a name of its own for each parameter",
            ));
        }
        match (parameter.kind, parameter.choices.is_empty()) {
            (ParameterKind::Choice, true) => problems.push(Problem::new(
                path.clone(),
                format!("`{}` leaves nothing to choose from", parameter.name),
                "`choices: […]` with at least one",
            )),
            (ParameterKind::Choice, false) | (_, true) => {}
            (kind, false) => problems.push(Problem::new(
                format!("{path}/choices"),
                format!("a parameter of type {kind} takes no choices"),
                "`type: choice`",
            )),
        }
        let choiceless = parameter.kind == ParameterKind::Choice && parameter.choices.is_empty();
        if let (false, Some((problem, expected))) = (choiceless, parameter.refuses(&parameter.default)) {
            problems.push(Problem::new(format!("{path}/default"), problem, expected));
        }
    }
}

fn check_names(suite: &Suite, problems: &mut Vec<Problem>) {
    let mut seen = BTreeSet::new();
    for (path, step) in suite.all_steps() {
        let pointer = format!("/{path}/name");
        if step.name.trim().is_empty() {
            problems.push(Problem::new(
                pointer,
                "a name of nothing but spaces",
                "a name that tells what the step is for",
            ));
        } else if !seen.insert(step.name.as_str()) {
            problems.push(Problem::new(
                pointer,
                format!("a second step named `{}`", step.name),
                "a name of its own for each step, set-up and tear-down included",
            ));
        } else if step.name.contains("${") {
            problems.push(Problem::new(
                pointer,
                "a step's name is the same in every run, and takes no parameter",
                "a fixed name",
            ));
        }
    }
}

fn check_own_target(suite: &Suite, surroundings: &dyn Surroundings, problems: &mut Vec<Problem>) -> Option<Target> {
    match suite.target.as_ref()? {
        TargetReference::Inline(target) => {
            check_target(target, "/target", problems);
            Some((**target).clone())
        }
        TargetReference::Name(name) => match surroundings.target(name) {
            Ok(target) => Some(target),
            Err(why) => {
                problems.push(Problem::new("/target", format!("unknown target `{name}`"), why));
                None
            }
        },
    }
}

fn substitute(suite: &mut Suite, values: &BTreeMap<String, String>, forgiving: bool, problems: &mut Vec<Problem>) {
    let parameters = suite.parameters.clone();
    let known: Vec<String> = parameters.iter().map(|parameter| format!("`${{{}}}`", parameter.name)).collect();
    let expected = if known.is_empty() {
        "a parameter that the suite declares under `parameters:`; it declares none".to_owned()
    } else {
        format!("one of {}", known.join(", "))
    };
    let mut one = |step: &mut Step, path: String| {
        let mut substitution = Substitution { parameters: &parameters, values, unknown: BTreeSet::new() };
        substitution.step(step);
        if forgiving {
            return;
        }
        for (below, name) in substitution.unknown {
            problems.push(Problem::new(
                format!("/{path}{below}"),
                format!("`${{{name}}}` names no parameter"),
                expected.clone(),
            ));
        }
    };
    for section in Section::ALL {
        let steps = match section {
            Section::SetUp => &mut suite.set_up,
            Section::Steps => &mut suite.steps,
            Section::TearDown => &mut suite.tear_down,
        };
        for (at, step) in steps.iter_mut().enumerate() {
            let path = format!("{}/{at}", section.word());
            for (within, inner) in step.parallel.iter_mut().flatten().enumerate() {
                one(inner, format!("{path}/parallel/{within}"));
            }
            one(step, path);
        }
    }
}
