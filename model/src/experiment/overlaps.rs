//! Faults that would own the same link, process or registry entry at the same time.

use std::time::Duration;

use super::select_links;
use crate::document::Problem;
use crate::fault::{Fault, SelectorKind};
use crate::target::Target;

/// How long after its end a fault may still be busy reverting.
const SETTLE: Duration = Duration::from_secs(1);

/// How long a fault that ends by itself (a kill) is taken to last.
const UNKNOWN_LENGTH: Duration = Duration::from_secs(60);

/// Lists each pair of faults that would work on the same thing at once, at the later one's start.
pub(super) fn check_overlaps(faults: &[Fault], target: &Target, problems: &mut Vec<Problem>) {
    let mut in_order: Vec<(usize, &Fault)> = faults.iter().enumerate().collect();
    in_order.sort_by_key(|(at, fault)| (fault.start, *at));
    for (earlier, (_, one)) in in_order.iter().enumerate() {
        let owned = things(one, target);
        for (at, other) in in_order.iter().skip(earlier + 1).filter(|(_, other)| other.start.get() < until(one)) {
            if let Some(thing) = things(other, target).into_iter().find(|thing| owned.contains(thing)) {
                problems.push(Problem::new(
                    format!("/faults/{at}/start"),
                    format!("faults `{}` and `{}` would both work on {thing} at the same time", one.name, other.name),
                    "a start at least 1s after the other's end",
                ));
            }
        }
    }
}

/// When the fault is certainly reverted, counted from the start of the load.
fn until(fault: &Fault) -> Duration {
    fault.start.get() + fault.duration.map_or(UNKNOWN_LENGTH, |span| span.get()) + SETTLE
}

/// What a fault owns while it lasts. An instance's registry entry is not its process.
fn things(fault: &Fault, target: &Target) -> Vec<String> {
    let selector = &fault.selector;
    let instance = |what: &str| match (&selector.service, &selector.instance) {
        (Some(service), Some(instance)) => vec![format!("{what} {service}/{instance}")],
        _ => Vec::new(),
    };
    match fault.kind.selects() {
        SelectorKind::Link => {
            let links = selector.link.iter().flat_map(|link| select_links(target, link));
            links.map(|link| format!("link {}", link.name())).collect()
        }
        SelectorKind::Process => instance("process"),
        SelectorKind::RegistryEntry => instance("registry entry"),
    }
}
