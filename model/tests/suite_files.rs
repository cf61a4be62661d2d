//! Suite files: every error is listed, placed, and says what was expected.

#![allow(clippy::unwrap_used, reason = "a test may fail at any line")]

use std::collections::BTreeMap;

use kennel_model::experiment::{Builtin, Surroundings, parse_target};
use kennel_model::suite::{parse, parse_with};
use kennel_model::target::Target;

struct World;

impl Surroundings for World {
    fn target(&self, name: &str) -> Result<Target, String> {
        let target = "{name: shop, base_url: 'http://127.0.0.1:8080', allowed_hosts: ['127.0.0.1:8080']}";
        if name == "shop" { Ok(parse_target("shop.yaml", target).unwrap()) } else { Err("one of `shop`".to_owned()) }
    }

    fn builtins(&self) -> Vec<Builtin> {
        Vec::new()
    }

    fn experiment(&self, name: &str) -> Result<String, String> {
        let source = "{version: 1, name: load, target: shop, load: {model: open, stages: [{rate: 5/s, duration: 5s}]}, \
                      scenarios: [{name: s, steps: [{name: r, path: /}]}]}";
        if name == "load" { Ok(source.to_owned()) } else { Err("one of `load`".to_owned()) }
    }

    fn commands(&self, labels: &[String]) -> Option<Vec<String>> {
        Some(if labels == ["robot"] { vec!["acceptance".to_owned()] } else { Vec::new() })
    }
}

const GOOD: &str = "
version: 1
name: nightly
target: shop
agents: [robot]
parameters:
  - {name: path, default: /orders}
  - {name: rate, type: number, default: '7'}
set_up:
  - {name: seed, command: acceptance, arguments: [--seed, '${rate}']}
steps:
  - name: answers
    check: {url: '${path}/1', expect: {status: 2xx, json: {/rate: '${rate}'}, within: 1s}}
    retries: 2
    retry_delay: 100ms
  - name: together
    parallel:
      - {name: load it, experiment: load, with: {/load/stages/0/rate: '${rate}'}}
      - {name: breathe, wait: 1s}
tear_down:
  - {name: clean, check: {method: DELETE, url: 'http://127.0.0.1:8080/all'}, continue_on_failure: true}
";

fn errors(source: &str) -> Vec<String> {
    let problems = parse("x.yaml", source, &World).expect_err("the file is bad");
    problems.to_string().lines().map(str::to_owned).collect()
}

fn assert_tells(found: &[String], expected: &[&str]) {
    for part in expected {
        assert!(found.iter().any(|line| line.contains(part)), "missing: {part}\n{}", found.join("\n"));
    }
    assert_eq!(found.len(), expected.len(), "each problem once:\n{}", found.join("\n"));
}

#[test]
fn parameters_are_put_in_their_places() {
    let valid = parse("good.yaml", GOOD, &World).unwrap_or_else(|e| panic!("{e}"));
    assert_eq!(valid.suite().steps[0].check.as_ref().unwrap().url, "/orders/1");
    assert_eq!(valid.suite().steps[0].check.as_ref().unwrap().expect.json["/rate"], serde_json::json!(7));
    let load = valid.experiment("steps/1/parallel/0").unwrap();
    assert_eq!(load.experiment().load.peak_rate().unwrap().get(), 7.0);
    let given = BTreeMap::from([("path".to_owned(), "/menu".to_owned())]);
    let valid = parse_with("good.yaml", GOOD, &given, &World).unwrap();
    assert_eq!(valid.suite().steps[0].check.as_ref().unwrap().url, "/menu/1");
    assert_eq!(valid.parameters()["rate"], "7");
    assert_eq!(valid.targets().into_iter().collect::<Vec<_>>(), ["shop"]);
}

#[test]
fn a_refused_value_is_told_at_its_parameter() {
    let given = BTreeMap::from([("rate".to_owned(), "fast".to_owned()), ("speed".to_owned(), "1".to_owned())]);
    let found = parse_with("x.yaml", GOOD, &given, &World).unwrap_err().to_string();
    assert!(found.contains(":8:5: parameters[1]: parameter `rate`: `fast` is not a value of type number"), "{found}");
    assert!(
        found.contains("parameter `speed`: the suite has no such parameter; expected one of `path`, `rate`"),
        "{found}"
    );
}

#[test]
fn every_rule_is_told_at_its_place() {
    let found = errors(
        "
version: 1
name: bad
target: shop
labels: [' x']
parameters:
  - {name: 1st, default: ''}
  - {name: n, type: number, default: many}
  - {name: n, type: choice, default: a}
steps:
  - {name: nothing}
  - {name: both, wait: 1s, command: x}
  - {name: both, wait: 0s, retries: 1}
  - {name: far, check: {method: FETCH, url: 'http://elsewhere/', expect: {status: 9xx, json: {items: 1}}}}
  - {name: named, check: {url: '/${nobody}', body: a, json: {}}}
  - {name: lost, experiment: gone}
  - {name: changed, experiment: load, with: {/load/nowhere/deep: 1}}
  - {name: broken, experiment: load, with: {/load/stages/0/rate: fast}}
  - {name: nested, parallel: [{name: in, parallel: [{name: deep, wait: 1s}]}]}
  - {name: late, wait: 1s, retry_delay: 1s, arguments: [a], with: {/a: 1}}
",
    );
    assert_tells(
        &found,
        &[
            "x.yaml:5:10: labels[0]: ` x` is no label",
            "x.yaml:7:6: parameters[0].name: `1st` cannot name a parameter",
            "parameters[1].default: `many` is not a value of type number; expected a number",
            "parameters[2].name: a second parameter named `n`",
            "parameters[2]: `n` leaves nothing to choose from",
            "steps[0]: step `nothing` does nothing; expected exactly one of `experiment`",
            "steps[1]: step `both` does several things: command, wait",
            "steps[1].command: no agent for this suite offers a command `x`",
            "steps[2].name: a second step named `both`",
            "steps[2].wait: a wait of no length",
            "steps[2].retries: a wait cannot fail",
            "steps[3].check.method: `FETCH` is no method",
            "steps[3].check.url: `elsewhere:80` is not among the allowed_hosts of target `shop`",
            "steps[3].check.expect.status: `9xx` is no status",
            "steps[3].check.expect.json.items: `items` is no JSON pointer",
            "steps[4].check.url: `${nobody}` names no parameter; expected one of `${1st}`, `${n}`",
            "steps[4].check.json: a request has one body",
            "steps[5].experiment: unknown experiment `gone`; expected one of `load`",
            "steps[6].with./load/nowhere/deep: the experiment has nothing at `/load/nowhere/deep`",
            "steps[7].with: experiment `load` is not valid here: load.stages[0].rate: `fast` is not valid here",
            "steps[8].parallel[0].parallel: steps in parallel within steps in parallel",
            "steps[9].retry_delay: a pause before tries that never happen",
            "steps[9].arguments: `arguments` are a command's",
            "steps[9].with: `with` changes an experiment",
        ],
    );
}

#[test]
fn errors_of_form_do_not_hide_broken_rules() {
    let found = errors(
        "
version: 2
name: bad
target: nowhere
stepz: []
steps:
  - {name: late, wait: 5 parsecs}
  - {check: {url: /}}
  - {name: twice, wait: 1s, retries: 21}
  - {name: twice, wait: 1s}
  - {name: far, check: {url: 'gopher:/x', expcet: {}}}
",
    );
    assert_tells(
        &found,
        &[
            ":2:1: version: `2` is not valid here",
            ":4:1: target: unknown target `nowhere`; expected one of `shop`",
            ":5:1: stepz: unknown field `stepz`; expected one of version, name,",
            "steps[0].wait: `5 parsecs` is not valid here; expected a duration",
            "steps[1]: missing field `name`",
            "steps[2].retries: `21` is not valid here; expected at most 20",
            "steps[3].name: a second step named `twice`",
            "steps[4].check.url: `gopher:/x` is neither a path nor a URL",
            "steps[4].check.expcet: unknown field `expcet`",
        ],
    );
}

#[test]
fn a_check_without_a_target_has_nowhere_to_go() {
    let found = errors("version: 1\nname: x\nsteps: [{name: a, check: {url: /}}]\n");
    assert_tells(&found, &[":3:27: steps[0].check.url: the suite names no target"]);
}
