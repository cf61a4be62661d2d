//! What pages weigh on the wire with a well filled store: each stays below 150 kB with everything that its first view
//! loads. `bench/run pages` measures the same at full scale, and times.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test may fail at any line")]

mod support;

use std::collections::BTreeMap;

use serde_json::Value;
use support::{Kennel, bench, fill};

/// Most bytes of a page with its style sheets and scripts, compressed.
const BOUND_BYTES: u64 = 150_000;

#[test]
fn every_page_of_a_filled_house_stays_light() {
    let kennel = Kennel::new();
    fill(&kennel, 600, 60, 25);
    let data = kennel.dir().to_str().unwrap();
    let serving = kennel.serve();
    let output = bench(&["sizes", &serving.url, data]);
    let sizes: BTreeMap<String, Value> = serde_json::from_slice(&output.stdout).unwrap();
    assert!(sizes.contains_key("/"), "{sizes:?}");
    let heavy: Vec<_> = sizes.iter().filter(|(_, size)| size["total"].as_u64().unwrap() > BOUND_BYTES).collect();
    assert!(heavy.is_empty(), "heavier than {BOUND_BYTES} bytes: {heavy:?}");
    // A page that shows what is stored weighs something.
    assert!(sizes.values().all(|size| size["page"].as_u64().unwrap() > 500), "{sizes:?}");
}
