//! What a run of a suite will do: its steps laid out with their places, and those that were asked for. Pure.

use kennel_model::api::{PlannedStep, StepKind};
use kennel_model::suite::{Check, Section, Step, Suite};
use kennel_model::units::format_duration;

/// A step at its place.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Node {
    /// Where it stands (`steps/3/parallel/0`).
    pub(crate) path: String,
    /// Order of display.
    pub(crate) position: usize,
    pub(crate) step: Step,
    /// The steps that run at the same time, for a step that is `parallel`.
    pub(crate) inner: Vec<Node>,
}

/// The steps of a run, by section.
#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) struct Plan {
    pub(crate) set_up: Vec<Node>,
    pub(crate) steps: Vec<Node>,
    pub(crate) tear_down: Vec<Node>,
}

impl Plan {
    /// All steps of a suite, or of its own steps only those in `only`.
    pub(crate) fn new(suite: &Suite, only: &[String]) -> Self {
        let mut position = 0;
        let mut section = |section: Section| -> Vec<Node> {
            let steps = suite.section(section).iter().enumerate();
            steps.map(|(at, step)| node(step, format!("{}/{at}", section.word()), &mut position)).collect()
        };
        let set_up = section(Section::SetUp);
        let mut steps = section(Section::Steps);
        let tear_down = section(Section::TearDown);
        if !only.is_empty() {
            let wanted = |node: &Node| only.contains(&node.path);
            for node in &mut steps {
                if !wanted(node) {
                    node.inner.retain(wanted);
                }
            }
            steps.retain(|node| wanted(node) || !node.inner.is_empty());
        }
        Self { set_up, steps, tear_down }
    }

    /// Every step, in the order of display.
    pub(crate) fn all(&self) -> impl Iterator<Item = &Node> {
        let outer = self.set_up.iter().chain(&self.steps).chain(&self.tear_down);
        outer.flat_map(|node| std::iter::once(node).chain(&node.inner))
    }
}

fn node(step: &Step, path: String, position: &mut usize) -> Node {
    let own = *position;
    *position += 1;
    let inner = step.parallel.iter().flatten().enumerate();
    let inner = inner.map(|(at, step)| node(step, format!("{path}/parallel/{at}"), position)).collect();
    Node { path, position: own, step: step.clone(), inner }
}

/// Paths in `only` that no step of the suite's own stands at.
pub(crate) fn unknown_paths<'a>(suite: &Suite, only: &'a [String]) -> Vec<&'a str> {
    let plan = Plan::new(suite, &[]);
    let known = |path: &str| {
        plan.steps.iter().any(|node| node.path == path || node.inner.iter().any(|inner| inner.path == path))
    };
    only.iter().map(String::as_str).filter(|path| !known(path)).collect()
}

/// A suite's steps as its page shows them.
pub(crate) fn planned(suite: &Suite) -> Vec<PlannedStep> {
    let told = suite.all_steps().into_iter().map(|(path, step)| PlannedStep {
        path,
        name: step.name.clone(),
        kind: step.kind(),
        what: what(step),
    });
    told.collect()
}

fn what(step: &Step) -> String {
    let mut told = match step.kind() {
        StepKind::Experiment => step.experiment.clone().unwrap_or_default(),
        StepKind::Check => step.check.as_ref().map(request).unwrap_or_default(),
        StepKind::Command => {
            let words = step.command.iter().chain(&step.arguments).map(String::as_str);
            words.collect::<Vec<_>>().join(" ")
        }
        StepKind::Wait => step.wait.map(|wait| format_duration(wait.get())).unwrap_or_default(),
        StepKind::Parallel => match step.parallel.as_ref().map_or(0, Vec::len) {
            1 => "1 step".to_owned(),
            many => format!("{many} steps at the same time"),
        },
        StepKind::Import => String::new(),
    };
    match step.retries {
        0 => {}
        1 => told.push_str(", tried again once"),
        many => told.push_str(&format!(", tried again up to {many} times")),
    }
    if let Some(timeout) = step.timeout {
        told.push_str(&format!(", at most {timeout}"));
    }
    if step.continue_on_failure {
        told.push_str(", goes on when it fails");
    }
    told
}

fn request(check: &Check) -> String {
    format!("{} {}", check.method, check.url)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn wait(name: String) -> Step {
        Step { name, wait: Some(kennel_model::units::Span::from_secs(1)), ..Step::default() }
    }

    fn suite(shape: &[usize]) -> Suite {
        let steps = shape.iter().enumerate().map(|(at, inner)| match inner {
            0 => wait(format!("s{at}")),
            many => Step {
                name: format!("s{at}"),
                parallel: Some((0..*many).map(|within| wait(format!("s{at}.{within}"))).collect()),
                ..Step::default()
            },
        });
        let text = serde_json::json!({"version": 1, "name": "x", "steps": [{"name": "s", "wait": "1s"}]});
        let mut suite: Suite = serde_json::from_value(text).unwrap();
        suite.steps = steps.collect();
        suite.set_up = vec![wait("up".into())];
        suite.tear_down = vec![wait("down".into())];
        suite
    }

    fn paths(plan: &Plan) -> Vec<String> {
        plan.all().map(|node| node.path.clone()).collect()
    }

    #[test]
    fn one_of_several_parallel_steps_can_be_asked_for() {
        let plan = Plan::new(&suite(&[0, 2, 0]), &["steps/1/parallel/1".to_owned()]);
        assert_eq!(paths(&plan), ["set_up/0", "steps/1", "steps/1/parallel/1", "tear_down/0"]);
        assert_eq!(
            unknown_paths(&suite(&[0]), &["steps/1".into(), "set_up/0".into(), "steps/0".into()]),
            ["steps/1", "set_up/0"]
        );
    }

    proptest! {
        #[test]
        fn every_step_is_planned_once_in_order(shape in proptest::collection::vec(0_usize..4, 1..6)) {
            let suite = suite(&shape);
            let plan = Plan::new(&suite, &[]);
            let all: Vec<String> = suite.all_steps().into_iter().map(|(path, _)| path).collect();
            prop_assert_eq!(paths(&plan), all);
            let positions: Vec<usize> = plan.all().map(|node| node.position).collect();
            prop_assert!(positions.is_sorted());
        }
    }
}
