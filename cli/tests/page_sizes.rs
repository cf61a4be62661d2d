//! What pages weigh on the wire with a well filled store: each stays below 150 kB with everything that its first view
//! loads. `bench/run pages` measures the same at full scale, and times.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test may fail at any line")]

mod support;

use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Command, Output};

use serde_json::Value;
use support::{HttpProcess, Kennel, text};

/// Most bytes of a page with its style sheets and scripts, compressed.
const BOUND_BYTES: u64 = 150_000;

fn bench(arguments: &[&str]) -> Output {
    let program = Path::new(env!("CARGO_MANIFEST_DIR")).join("../bench/pages.py");
    let output = Command::new("python3").arg("-B").arg(program).args(arguments).output().unwrap();
    assert!(output.status.success(), "{}\n{}", text(&output.stdout), text(&output.stderr));
    output
}

#[test]
fn every_page_of_a_filled_house_stays_light() {
    let (kennel, server) = (Kennel::new(), HttpProcess::start());
    kennel.experiment(
        0,
        &format!(
            "version: 1
name: model
target: {}
load: {{ model: open, stages: [{{ rate: 20/s, duration: 2s }}] }}
scenarios: [{{ name: visitors, steps: [{{ name: version, path: /version }}] }}]
objectives: ['p50 < 5s']
",
            server.target("")
        ),
    );
    let data = kennel.dir().to_str().unwrap();
    bench(&["fill", data, "--runs", "600", "--suites", "60", "--tests", "25"]);
    let serving = kennel.serve();
    let output = bench(&["sizes", &serving.url, data]);
    let sizes: BTreeMap<String, Value> = serde_json::from_slice(&output.stdout).unwrap();
    assert!(sizes.contains_key("/"), "{sizes:?}");
    let heavy: Vec<_> = sizes.iter().filter(|(_, size)| size["total"].as_u64().unwrap() > BOUND_BYTES).collect();
    assert!(heavy.is_empty(), "heavier than {BOUND_BYTES} bytes: {heavy:?}");
    // A page that shows what is stored weighs something.
    assert!(sizes.values().all(|size| size["page"].as_u64().unwrap() > 500), "{sizes:?}");
}
