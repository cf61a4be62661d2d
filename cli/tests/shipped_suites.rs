//! The suites of the library: what they need is told, and they run on the real reference system.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test may fail at any line")]

mod support;

use serde_json::Value;
use support::Kennel;

fn listed(kennel: &Kennel, name: &str) -> Value {
    let list: Value = serde_json::from_str(&kennel.expect(0, &["suite", "list", "--json"])).unwrap();
    let found = list.as_array().unwrap().iter().find(|suite| suite["name"] == name).cloned();
    found.unwrap_or_else(|| panic!("no `{name}`: {list:#}"))
}

#[test]
fn a_shipped_suite_says_what_it_needs_and_runs_once_that_is_there() {
    let kennel = Kennel::new();
    for (name, labels) in [("smoke", "quick"), ("nightly", "nightly")] {
        let suite = listed(&kennel, name);
        assert_eq!(suite["problem"], Value::Null, "it is not wrong, it only needs something: {suite:#}");
        assert_eq!(
            suite["needs"],
            "target `reference-system`, which is not declared here; `kennel system up` starts and declares it"
        );
        assert!(suite["labels"].to_string().contains(labels) && suite["steps"].as_u64().unwrap() > 3, "{suite:#}");
    }
    let told = kennel.expect(0, &["suite", "list"]);
    assert!(told.contains("`kennel system up` starts and declares it") && !told.contains("cannot run"), "{told}");
    kennel
        .refuses(&["suite", "run", "smoke"], &["6:1: target: unknown target `reference-system`", "`kennel system up`"]);

    let _system = kennel.system();
    for name in ["smoke", "nightly"] {
        let suite = listed(&kennel, name);
        assert_eq!((&suite["problem"], &suite["needs"]), (&Value::Null, &Value::Null), "{suite:#}");
    }
    let run = kennel.expect(0, &["suite", "run", "smoke", "--set", "restaurant=7", "--set", "user=42", "--json"]);
    let run: Value = serde_json::from_str(&run).unwrap();
    assert_eq!((&run["verdict"], &run["tests"]["failed"]), (&"passed".into(), &0.into()), "{run:#}");
    assert_eq!(run["tests"]["passed"], 5, "{run:#}");
}
