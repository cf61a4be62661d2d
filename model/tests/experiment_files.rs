//! Experiment files: every error is listed, placed, and says what was expected.

#![allow(clippy::unwrap_used, reason = "a test may fail at any line")]

use kennel_model::experiment::{Builtin, Surroundings, parse, parse_target};
use kennel_model::target::Target;

struct World;

impl Surroundings for World {
    fn target(&self, name: &str) -> Result<Target, String> {
        if name == "shop" { Ok(parse_target("shop.yaml", TARGET).unwrap()) } else { Err("one of `shop`".to_owned()) }
    }

    fn builtins(&self) -> Vec<Builtin> {
        vec![Builtin { name: "order-system/customer".into(), requests: vec!["create order".into()] }]
    }
}

const TARGET: &str = "
name: shop
base_url: http://127.0.0.1:8080
allowed_hosts: ['127.0.0.1']
services:
  - name: eos-c
    instances:
      - {name: eos-c-1, process: {pid_file: run/eos-c-1.pid, supervised: true}}
      - {name: eos-c-2}
links:
  - {from: gw, to: eos-c, instance: eos-c-1, listen: '127.0.0.1:1', upstream: '127.0.0.1:2'}
registry: {kind: reference-system, url: 'http://127.0.0.1:7'}
audits: [{name: books, url: 'http://127.0.0.1:9/audit'}]
limits: {max_rate: 500/s, faults: [latency, kill]}
";

const GOOD: &str = "
version: 1
name: demo
target: shop
load:
  model: open
  stages: [{rate: 100/s, duration: 60s}]
scenarios:
  - {name: orders, builtin: order-system/customer}
faults:
  - name: slow
    kind: latency
    selector: {link: gw -> eos-c}
    parameters: {latency: 200ms}
    start: 10s
    duration: 5s
objectives: ['p99(create order) < 150ms during fault', 'p50 < 1s during slow']
guards: ['error_rate < 50% over 5s']
audits: [books]
";

fn errors(source: &str) -> Vec<String> {
    let problems = parse("x.yaml", source, &World).expect_err("the file is bad");
    problems.to_string().lines().map(str::to_owned).collect()
}

#[test]
fn a_good_file_is_accepted() {
    let valid = parse("good.yaml", GOOD, &World).unwrap_or_else(|e| panic!("{e}"));
    assert_eq!(valid.experiment().faults[0].describe(), "latency 200ms on gw -> eos-c");
    assert_eq!(valid.target().name, "shop");
}

#[test]
fn every_structural_error_is_listed_with_its_place() {
    let found = errors(
        "version: 2
name: demo
targt: shop
load: {model: open, stages: [{rate: fast, duration: 5 parsecs}]}
scenarios: []
faults:
  - {name: a, kind: latencee, selector: {}, start: 1s}
",
    );
    let expected = [
        "x.yaml:1:1: missing field `target`; expected `target: …`",
        "x.yaml:1:1: version: `2` is not valid here; expected at most 1",
        "x.yaml:3:1: targt: unknown field `targt`; expected one of version, name, description, target",
        "x.yaml:4:31: load.stages[0].rate: `fast` is not valid here; expected a rate such as 150/s or 600/m",
        "x.yaml:4:43: load.stages[0].duration: `5 parsecs` is not valid here; expected a duration such as 200ms",
        "x.yaml:5:1: scenarios: a list is not valid here; expected at least 1 item",
        "x.yaml:7:15: faults[0].kind: `latencee` is not valid here; expected one of `latency`, `kill`, `pause`, `registry-gap`",
    ];
    for (found, expected) in found.iter().zip(expected) {
        assert!(found.starts_with(expected), "\n   found {found}\nexpected {expected}");
    }
    assert_eq!(found.len(), expected.len(), "{found:#?}");
}

#[test]
fn errors_of_form_hide_no_errors_of_meaning() {
    let source = "version: 1
name: demo
target: nope
bogus: 1
load: { model: open, stages: [{ rate: 5/s, duration: 20s }] }
scenarios:
  - { name: orders, builtin: order-system/custmer, weight: 0 }
faults:
  - { name: a, kind: latency, selector: { link: gw -> eos-c }, parameters: { latency: 1ms }, start: 18s, duration: 5s, why: x }
objectives: ['p99(nope) < 5s', 'p99 < 5', 'p99 < 5s during b']
";
    let found = errors(source).join("\n");
    for expected in [
        "x.yaml:3:1: target: unknown target `nope`",
        "x.yaml:4:1: bogus: unknown field `bogus`",
        "scenarios[0].weight: `0` is not valid here; expected at least 1",
        "scenarios[0].builtin: unknown built-in scenario `order-system/custmer`",
        "faults[0].why: unknown field `why`",
        "faults[0].start: `a` would end",
        "objectives[0]: no scenario sends a request named `nope`",
        "objectives[1]: `p99 < 5`",
        "objectives[2]: `during b` names neither",
    ] {
        assert!(found.contains(expected), "missing: {expected}\nin:\n{found}");
    }
    assert_eq!(found.lines().count(), 9, "{found}");

    // What was cut out for its form breaks no rule of meaning.
    let found = errors(&GOOD.replace("kind: latency", "kind: latencee").replace("model: open", "model: opne"));
    assert_eq!(found.len(), 2, "{found:#?}");
    let found = errors("name: x\naudits: [nope]\ntarget: shop\n").join("\n");
    assert!(found.contains("offers no audit `nope`") && found.contains("missing field `load`"), "{found}");
}

#[test]
fn every_broken_rule_is_listed_with_its_place() {
    let found = errors(
        "version: 1
name: demo
target: shop
load:
  model: open
  stages: [{rate: 900/s, duration: 20s}]
  warm_up: 20s
scenarios:
  - {name: orders, builtin: order-system/custmer}
  - {name: orders, steps: [{name: list, path: /orders}]}
faults:
  - {name: a, kind: latency, selector: {link: gw -> nowhere}, start: 1s, duration: 5s}
  - {name: a, kind: pause, selector: {service: eos-c, instance: eos-c-2}, start: 18s, duration: 5s}
  - {name: c, kind: kill, selector: {service: eos-c, instance: eos-c-9}, start: 1s, duration: 5s}
objectives: ['p99(lists) < 5ms', 'p99 < 5ms during b']
audits: [bookz]
",
    )
    .join("\n");
    for expected in [
        "x.yaml:6:3: load.stages: a peak of 900/s passes the target's limit; expected at most 500/s",
        "x.yaml:7:3: load.warm_up: warm-up is as long as the whole load",
        "scenarios[0].builtin: unknown built-in scenario `order-system/custmer`; expected one of `order-system/customer`",
        "scenarios[1].name: a second scenario named `orders`",
        "faults[0].selector.link: target `shop` declares no link `gw -> nowhere`; expected one of `gw -> eos-c`",
        "faults[0].parameters: `a` does not say how much latency",
        "faults[1].name: a second fault named `a`",
        "faults[1].kind: target `shop` does not allow pause faults; expected one of `latency`, `kill`",
        "faults[1].start: `a` would end 23s after the start",
        "faults[1].selector.instance: `eos-c/eos-c-2` does not say how to find its process",
        "faults[2].duration: `kill` takes no duration",
        "faults[2].selector: target `shop` declares no instance `eos-c/eos-c-9`; expected one of `eos-c/eos-c-1`, `eos-c/eos-c-2`",
        "objectives[0]: no scenario sends a request named `lists`; expected one of `list`",
        "objectives[1]: `during b` names neither a phase nor a fault",
        "audits[0]: target `shop` offers no audit `bookz`; expected one of `books`",
    ] {
        assert!(found.contains(expected), "missing: {expected}\nin:\n{found}");
    }
}

#[test]
fn the_wrong_model_and_a_bad_objective_are_explained() {
    let found = errors(&GOOD.replace("model: open", "model: opne").replace("p50 < 1s", "p50 ! 1s")).join("\n");
    assert!(found.contains("load.model: `opne` is not valid here; expected `open` or `closed`"), "{found}");
    assert!(found.contains("objectives[1]: `p50 ! 1s during slow`: no comparison"), "{found}");
    let found = errors(&GOOD.replace("target: shop", "target: shopp")).join("\n");
    assert!(found.contains("x.yaml:4:1: target: unknown target `shopp`; expected one of `shop`"), "{found}");
}

#[test]
fn syntax_errors_are_placed() {
    let found = errors("version: 1\nname: [demo\n").join("\n");
    assert!(found.starts_with("x.yaml:") && found.contains("not YAML"), "{found}");
    let found = errors("version: 1\nload: {}\nname: a\nload: {}\n").join("\n");
    assert!(found.contains("x.yaml:4:1: a second `load` in this mapping; expected each key once"), "{found}");
    let found = errors("").join("\n");
    assert!(found.contains("x.yaml:1:1"), "{found}");
}

#[test]
fn a_target_must_allow_the_hosts_it_names() {
    let problems =
        parse_target("t.yaml", &TARGET.replace("http://127.0.0.1:7", "http://10.9.8.7:80")).unwrap_err().to_string();
    assert!(problems.contains("registry.url: `10.9.8.7:80` is not among the target's allowed_hosts"), "{problems}");
}

#[test]
fn names_stand_once_in_a_target() {
    let twice = TARGET
        .replace("{name: eos-c-2}", "{name: eos-c-1}\n  - {name: eos-c}")
        .replace(
            "links:",
            "links:\n  - {from: gw, to: eos-c, instance: eos-c-1, listen: '127.0.0.1:3', upstream: '127.0.0.1:4'}",
        )
        .replace("audits: [", "audits: [{name: books, url: 'http://127.0.0.1:9/b'}, ");
    let found = parse_target("t.yaml", &twice).unwrap_err().to_string();
    for expected in [
        "t.yaml:9:10: services[0].instances[1].name: a second instance named `eos-c/eos-c-1`",
        "t.yaml:10:6: services[1].name: a second service named `eos-c`",
        "t.yaml:13:5: links[1]: a second link named `gw -> eos-c-1`",
        "audits[1].name: a second audit named `books`",
    ] {
        assert!(found.contains(expected), "missing: {expected}\nin:\n{found}");
    }
    assert_eq!(found.lines().count(), 4, "{found}");
}

#[test]
fn audits_want_their_history_under_one_header() {
    let audit = |name: &str, header: &str| {
        format!("{{name: {name}, url: 'http://127.0.0.1:9/{name}', history: {{key_header: '{header}'}}}}, ")
    };
    let with = |audits: &[String]| TARGET.replace("audits: [", &format!("audits: [{}", audits.concat()));
    let same = with(&[audit("a", "X-Req-Id"), audit("b", "x-req-id")]);
    parse_target("t.yaml", &same).unwrap();
    let wrong = with(&[audit("a", "x-req-id"), audit("b", "x-key"), audit("c", "x key")]);
    let found = parse_target("t.yaml", &wrong).unwrap_err().to_string();
    for expected in [
        "audits[1].history.key_header: `x-key` is not the header that another audit of the target names; \
         expected `x-req-id`, as there",
        "audits[2].history.key_header: `x key` is not the name of a header",
    ] {
        assert!(found.contains(expected), "missing: {expected}\nin:\n{found}");
    }
    assert_eq!(found.lines().count(), 2, "{found}");
}

#[test]
fn faults_on_the_same_thing_must_not_overlap() {
    let second = |kind: &str, start: &str| {
        let (name, rest) = match kind {
            "latency" => ("{link: gw -> eos-c-1}", "parameters: {latency: 1ms}, duration: 1s"),
            _ => ("{service: eos-c, instance: eos-c-1}", "duration: 1s"),
        };
        format!("faults:\n  - {{name: other, kind: {kind}, selector: {name}, start: {start}, {rest}}}")
    };
    let on_link = errors(&GOOD.replace("faults:", &second("latency", "15500ms"))).join("\n");
    assert!(
        on_link.contains(
            "faults[0].start: faults `slow` and `other` would both work on link gw -> eos-c-1 at the same time; \
             expected a start at least 1s after the other's end"
        ),
        "{on_link}"
    );
    assert!(parse("x.yaml", &GOOD.replace("faults:", &second("latency", "16s")), &World).is_ok());
    let kill = "faults:\n  - {name: gone, kind: kill, selector: {service: eos-c, instance: eos-c-1}, start: 1s}";
    let both = second("pause", "50s").replace("faults:", kill);
    let on_process = errors(&GOOD.replace("faults:", &both)).join("\n");
    assert!(on_process.contains("`gone` and `other` would both work on process eos-c/eos-c-1"), "{on_process}");
    let both = second("registry-gap", "50s").replace("faults:", kill);
    let on_registry = errors(&GOOD.replace("faults:", &both)).join("\n");
    assert!(!on_registry.contains("would both work"), "{on_registry}");
}

#[test]
fn the_end_of_a_fault_is_not_rounded_away() {
    let late = GOOD.replace("start: 10s", "start: 10s300ms").replace("duration: 60s", "duration: 15s");
    let found = errors(&late).join("\n");
    assert!(
        found.contains(
            "`slow` would end 15300ms after the start, when the load is over; expected an end within the load's 15s"
        ),
        "{found}"
    );
}

#[test]
fn endless_durations_are_refused() {
    let found = errors(&GOOD.replace(
        "{rate: 100/s, duration: 60s}",
        "{rate: 1/s, duration: 10000000000000000000s}, {rate: 1/s, duration: 10000000000000000000s}",
    ))
    .join("\n");
    assert!(found.contains("`10000000000000000000s` is not a duration of at most 720h"), "{found}");
}

#[test]
fn missing_and_empty_fields_say_what_belongs_there() {
    let found = errors(&GOOD.replace("    kind: latency\n", "").replace("    start: 10s\n", "")).join("\n");
    assert!(found.contains("missing field `kind`; expected one of `latency`, `kill`, `pause`"), "{found}");
    assert!(found.contains("missing field `start`; expected a duration such as 200ms"), "{found}");
    let found = errors(&GOOD.replace("kind: latency", "kind:").replace("name: demo\n", "")).join("\n");
    assert!(found.contains("faults[0].kind: `kind` is empty; expected one of `latency`, `kill`"), "{found}");
    assert!(found.contains("missing field `name`; expected `name: …`, text"), "{found}");
    let found = errors(&GOOD.replace("  model: open\n", "")).join("\n");
    assert!(found.contains("missing field `model`; expected `model: open` or `model: closed`"), "{found}");
}

/// Editors and other tools use the committed file; `kennel schema` prints the same.
#[test]
fn the_committed_schemas_are_those_of_the_types() {
    for (name, schema) in [
        ("experiment", kennel_model::schema::experiment()),
        ("target", kennel_model::schema::target()),
        ("suite", kennel_model::schema::suite()),
        ("agent", kennel_model::schema::agent()),
    ] {
        let path = format!("{}/../docs/schema/{name}.json", env!("CARGO_MANIFEST_DIR"));
        let committed: serde_json::Value = serde_json::from_str(&std::fs::read_to_string(&path).unwrap()).unwrap();
        let hint = if name == "experiment" { "kennel schema".to_owned() } else { format!("kennel schema --{name}") };
        assert_eq!(committed, schema, "docs/schema/{name}.json is stale: write the output of `{hint}` there");
    }
}
