//! The rules of one step: exactly one action, and what each action asks for.

use serde_json::Value;

use super::parameters::escaped;
use super::{Check, MOST_PARALLEL, StatusRule, Step};
use crate::document::{Document, Problem, Problems};
use crate::experiment::{self, Surroundings, ValidExperiment, host_and_port};
use crate::target::Target;
use crate::units::DURATION_EXPECTED;

/// Methods that a check may use.
const METHODS: [&str; 7] = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"];

/// What the rules of a step need to know of the rest.
pub(super) struct Around<'a> {
    /// The suite's target, if it is known.
    pub(super) target: Option<&'a Target>,
    /// Whether the suite names one at all.
    pub(super) has_target: bool,
    pub(super) surroundings: &'a dyn Surroundings,
    /// Commands that agents offer; `None` when nobody knows.
    pub(super) commands: Option<Vec<String>>,
}

/// Checks a step; gives its experiment if it runs one.
pub(super) fn check_step(
    step: &Step,
    path: &str,
    around: &Around<'_>,
    problems: &mut Vec<Problem>,
) -> Option<ValidExperiment> {
    let path = format!("/{path}");
    check_actions(step, &path, problems);
    check_repetition(step, &path, problems);
    if let Some(wait) = step.wait
        && wait.get().is_zero()
    {
        problems.push(Problem::new(format!("{path}/wait"), "a wait of no length", DURATION_EXPECTED));
    }
    if let Some(command) = &step.command {
        check_command(command, &path, around, problems);
    }
    if let Some(check) = &step.check {
        check_request(check, &format!("{path}/check"), around, problems);
        check_expectation(check, &format!("{path}/check/expect"), problems);
    }
    check_parallel(step, &path, problems);
    let name = step.experiment.as_ref()?;
    resolve_experiment(name, step, &path, around.surroundings, problems)
}

fn check_actions(step: &Step, path: &str, problems: &mut Vec<Problem>) {
    let actions: Vec<&str> = [
        ("experiment", step.experiment.is_some()),
        ("check", step.check.is_some()),
        ("command", step.command.is_some()),
        ("wait", step.wait.is_some()),
        ("parallel", step.parallel.is_some()),
    ]
    .into_iter()
    .filter_map(|(action, is_there)| is_there.then_some(action))
    .collect();
    let expected = "exactly one of `experiment`, `check`, `command`, `wait` and `parallel`";
    match actions.as_slice() {
        [_] => {}
        [] => problems.push(Problem::new(path, format!("step `{}` does nothing", step.name), expected)),
        several => problems.push(Problem::new(
            path,
            format!("step `{}` does several things: {}", step.name, several.join(", ")),
            expected,
        )),
    }
    if !step.with.is_empty() && step.experiment.is_none() {
        problems.push(Problem::new(format!("{path}/with"), "`with` changes an experiment", "a step with `experiment`"));
    }
    if !step.arguments.is_empty() && step.command.is_none() {
        problems.push(Problem::new(
            format!("{path}/arguments"),
            "`arguments` are a command's",
            "a step with `command`",
        ));
    }
}

fn check_repetition(step: &Step, path: &str, problems: &mut Vec<Problem>) {
    if step.timeout.is_some_and(|timeout| timeout.get().is_zero()) {
        problems.push(Problem::new(format!("{path}/timeout"), "a timeout of no length", DURATION_EXPECTED));
    }
    if step.retry_delay.is_some() && step.retries == 0 {
        problems.push(Problem::new(
            format!("{path}/retry_delay"),
            "a pause before tries that never happen",
            "`retries` above 0",
        ));
    }
    if step.retries > 0 && (step.wait.is_some() || step.parallel.is_some()) {
        let what =
            if step.wait.is_some() { "a wait cannot fail" } else { "steps in parallel are tried again one by one" };
        problems.push(Problem::new(
            format!("{path}/retries"),
            what,
            "`retries` on an experiment, a check or a command",
        ));
    }
}

fn check_command(command: &str, path: &str, around: &Around<'_>, problems: &mut Vec<Problem>) {
    if command.trim().is_empty() {
        problems.push(Problem::new(format!("{path}/command"), "a command without a name", "the name of a command"));
        return;
    }
    if let Some(known) = &around.commands
        && !known.iter().any(|offered| offered == command)
    {
        let expected = if known.is_empty() {
            "a command that the agent's configuration (agent.yaml) names; it names none".to_owned()
        } else {
            let listed: Vec<String> = known.iter().map(|name| format!("`{name}`")).collect();
            format!("one of {}, as the agents' configurations name them", listed.join(", "))
        };
        problems.push(Problem::new(
            format!("{path}/command"),
            format!("no agent for this suite offers a command `{command}`"),
            expected,
        ));
    }
}

fn check_request(check: &Check, path: &str, around: &Around<'_>, problems: &mut Vec<Problem>) {
    if !METHODS.contains(&check.method.as_str()) {
        problems.push(Problem::new(
            format!("{path}/method"),
            format!("`{}` is no method that a check can use", check.method),
            format!("one of {}", METHODS.join(", ")),
        ));
    }
    if !around.has_target {
        problems.push(Problem::new(
            format!("{path}/url"),
            "the suite names no target, so no host is allowed",
            "`target:` at the top of the file",
        ));
    }
    check_url(&check.url, &format!("{path}/url"), around.target, problems);
    if check.body.is_some() && check.json.is_some() {
        problems.push(Problem::new(format!("{path}/json"), "a request has one body", "either `body` or `json`"));
    }
    for (name, value) in &check.headers {
        check_header(name, value, &format!("{path}/headers/{}", escaped(name)), problems);
    }
}

fn check_url(url: &str, path: &str, target: Option<&Target>, problems: &mut Vec<Problem>) {
    // What a parameter left open is told by the rule for parameters.
    if url.contains("${") {
        return;
    }
    if url.starts_with('/') && !url.starts_with("//") {
        return;
    }
    match (host_and_port(url), target) {
        (None, _) => problems.push(Problem::new(
            path,
            format!("`{url}` is neither a path nor a URL"),
            "a path such as /orders/7, or a URL that begins with http:// or https://",
        )),
        (Some((host, port)), Some(target)) => {
            let rules = target.host_rules();
            let allowed = |host: &str, port: u16| {
                rules.iter().any(|rule| rule.host.eq_ignore_ascii_case(host) && rule.port.is_none_or(|own| own == port))
            };
            if !allowed(&host, port) {
                let listed: Vec<String> = target.allowed_hosts.iter().map(|host| format!("`{host}`")).collect();
                problems.push(Problem::new(
                    path,
                    format!("`{host}:{port}` is not among the allowed_hosts of target `{}`", target.name),
                    format!("one of {}", listed.join(", ")),
                ));
            }
        }
        (Some(_), None) => {}
    }
}

fn check_header(name: &str, value: &str, path: &str, problems: &mut Vec<Problem>) {
    // Token characters of RFC 9110, section 5.6.2.
    let token = !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b));
    if !token {
        problems.push(Problem::new(path, format!("`{name}` is no header's name"), "letters, digits and `-`"));
    }
    if value.chars().any(|c| c.is_control() && c != '\t') {
        problems.push(Problem::new(path, format!("the value of `{name}` has control characters"), "one line of text"));
    }
}

fn check_expectation(check: &Check, path: &str, problems: &mut Vec<Problem>) {
    let expect = &check.expect;
    let bad_status = match &expect.status {
        Some(StatusRule::Exact(status)) => !(100..=599).contains(status),
        Some(StatusRule::Class(class)) => !matches!(class.as_bytes(), [b'1'..=b'5', b'x' | b'X', b'x' | b'X']),
        None => false,
    };
    if let (true, Some(status)) = (bad_status, &expect.status) {
        problems.push(Problem::new(
            format!("{path}/status"),
            format!("`{status}` is no status"),
            "a number from 100 to 599, or one of 1xx, 2xx, 3xx, 4xx, 5xx",
        ));
    }
    for (name, value) in &expect.headers {
        check_header(name, value, &format!("{path}/headers/{}", escaped(name)), problems);
    }
    for pointer in expect.json.keys() {
        check_pointer(pointer, &format!("{path}/json/{}", escaped(pointer)), problems);
    }
    for (field, texts) in [("contains", &expect.contains), ("lacks", &expect.lacks)] {
        for (at, text) in texts.iter().enumerate() {
            if text.is_empty() {
                problems.push(Problem::new(format!("{path}/{field}/{at}"), "every body contains nothing", "some text"));
            }
        }
    }
    if expect.within.is_some_and(|within| within.get().is_zero()) {
        problems.push(Problem::new(format!("{path}/within"), "no answer comes in no time", DURATION_EXPECTED));
    }
}

fn check_pointer(pointer: &str, path: &str, problems: &mut Vec<Problem>) {
    if !pointer.is_empty() && !pointer.starts_with('/') {
        problems.push(Problem::new(
            path,
            format!("`{pointer}` is no JSON pointer"),
            "one that begins with `/`, such as /items/0/name",
        ));
    }
}

fn check_parallel(step: &Step, path: &str, problems: &mut Vec<Problem>) {
    let Some(inner) = &step.parallel else { return };
    let pointer = format!("{path}/parallel");
    if inner.is_empty() {
        problems.push(Problem::new(pointer.clone(), "nothing runs in parallel here", "at least one step"));
    }
    if inner.len() > MOST_PARALLEL {
        let many = format!("{} steps at the same time", inner.len());
        problems.push(Problem::new(pointer.clone(), many, format!("at most {MOST_PARALLEL}")));
    }
    for (at, step) in inner.iter().enumerate() {
        if step.parallel.is_some() {
            problems.push(Problem::new(
                format!("{pointer}/{at}/parallel"),
                "steps in parallel within steps in parallel",
                "one level of `parallel`",
            ));
        }
    }
    if inner.iter().filter(|step| step.experiment.is_some()).count() > 1 {
        problems.push(Problem::new(
            pointer,
            "two experiments at the same time would spoil each other's measurements",
            "at most one experiment in `parallel`",
        ));
    }
}

fn resolve_experiment(
    name: &str,
    step: &Step,
    path: &str,
    surroundings: &dyn Surroundings,
    problems: &mut Vec<Problem>,
) -> Option<ValidExperiment> {
    let source = match surroundings.experiment(name) {
        Ok(source) => source,
        Err(why) => {
            problems.push(Problem::new(format!("{path}/experiment"), format!("unknown experiment `{name}`"), why));
            return None;
        }
    };
    let count = problems.len();
    for pointer in step.with.keys() {
        check_pointer(pointer, &format!("{path}/with/{}", escaped(pointer)), problems);
    }
    if problems.len() > count {
        return None;
    }
    let source = if step.with.is_empty() { source } else { changed(&source, step, path, problems)? };
    match experiment::parse(name, &source, surroundings) {
        Ok(valid) => Some(valid),
        Err(found) => {
            let field = if step.with.is_empty() { "experiment" } else { "with" };
            let message = format!("experiment `{name}` is not valid here: {}", in_a_line(&found));
            problems.push(Problem::new(
                format!("{path}/{field}"),
                message,
                "an experiment that `kennel validate` accepts",
            ));
            None
        }
    }
}

/// The experiment's text with the step's values in place of its own.
fn changed(source: &str, step: &Step, path: &str, problems: &mut Vec<Problem>) -> Option<String> {
    // A broken file is told when it is parsed as an experiment.
    let Ok(document) = Document::parse("experiment", source) else { return Some(source.to_owned()) };
    let mut value = document.value().clone();
    let count = problems.len();
    for (pointer, replacement) in &step.with {
        if !put(&mut value, pointer, replacement.clone()) {
            problems.push(Problem::new(
                format!("{path}/with/{}", escaped(pointer)),
                format!("the experiment has nothing at `{pointer}`"),
                "a JSON pointer to a field whose mapping or list is there",
            ));
        }
    }
    (problems.len() == count).then(|| serde_json::to_string_pretty(&value).unwrap_or_default())
}

/// Replaces what stands at a pointer, or adds a field to the mapping that is there.
fn put(value: &mut Value, pointer: &str, replacement: Value) -> bool {
    if let Some(place) = value.pointer_mut(pointer) {
        *place = replacement;
        return true;
    }
    let Some((parent, field)) = pointer.rsplit_once('/') else { return false };
    match value.pointer_mut(parent) {
        Some(Value::Object(fields)) => {
            fields.insert(field.replace("~1", "/").replace("~0", "~"), replacement);
            true
        }
        _ => false,
    }
}

fn in_a_line(problems: &Problems) -> String {
    let told: Vec<String> = problems
        .problems
        .iter()
        .map(|problem| match problem.field.as_str() {
            "" => problem.message.clone(),
            field => format!("{field}: {}", problem.message),
        })
        .collect();
    told.join("; ")
}
