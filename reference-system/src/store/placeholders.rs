//! The places of a statement's values, for as many values as there are.

/// `$first`, `$first+1`, …
pub(super) fn places(first: usize, count: usize) -> String {
    (first..first + count).map(|n| format!("${n}")).collect::<Vec<_>>().join(", ")
}
