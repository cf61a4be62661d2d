//! The fault timeline as pure functions: which faults would own the same thing at the same time.

use std::time::Duration;

use kennel_model::fault::Fault;

/// How long after its end a fault may still be busy reverting.
const SETTLE: Duration = Duration::from_secs(1);

/// A stretch of time in which a fault owns a thing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claim {
    /// Name of the fault.
    pub fault: String,
    /// What it owns, as [`crate::faults::Injection::owns`] words it.
    pub thing: String,
    /// When it starts, counted from the start of the load.
    pub from: Duration,
    /// When it is certainly reverted.
    pub until: Duration,
}

impl Claim {
    /// The claim of a fault on a thing. A fault that ends by itself is taken to last a minute.
    #[must_use]
    pub fn of(fault: &Fault, thing: String) -> Self {
        let from = fault.start.get();
        let length = fault.duration.map_or(Duration::from_secs(60), |span| span.get());
        Self { fault: fault.name.clone(), thing, from, until: from + length + SETTLE }
    }

    fn overlaps(&self, other: &Self) -> bool {
        self.fault != other.fault && self.thing == other.thing && self.from < other.until && other.from < self.until
    }
}

/// Every pair of faults that would own the same thing at the same time, in a sentence each.
#[must_use]
pub fn conflicts(claims: &[Claim]) -> Vec<String> {
    let mut found = Vec::new();
    for (at, one) in claims.iter().enumerate() {
        for other in claims.iter().skip(at + 1).filter(|other| one.overlaps(other)) {
            found.push(format!(
                "faults `{}` and `{}` would both work on {} at the same time; leave a second between them",
                one.fault, other.fault, one.thing
            ));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn claim(fault: &str, thing: &str, from: u64, until: u64) -> Claim {
        let (from, until) = (Duration::from_secs(from), Duration::from_secs(until));
        Claim { fault: fault.into(), thing: thing.into(), from, until }
    }

    #[test]
    fn one_after_the_other_is_no_conflict() {
        assert!(conflicts(&[claim("a", "x", 0, 5), claim("b", "x", 5, 9)]).is_empty());
        assert!(conflicts(&[claim("a", "x", 0, 5), claim("b", "y", 0, 5)]).is_empty());
    }

    #[test]
    fn a_conflict_names_both_faults_and_the_thing() {
        let found = conflicts(&[claim("a", "link x", 0, 5), claim("b", "link x", 4, 9)]);
        assert_eq!(
            found,
            ["faults `a` and `b` would both work on link x at the same time; leave a second between them"]
        );
    }

    proptest! {
        #[test]
        fn without_conflicts_no_moment_has_two_owners(spans in prop::collection::vec((0_u64..50, 1_u64..10), 1..8)) {
            let claims: Vec<Claim> = spans.iter().enumerate().map(|(at, (from, length))| claim(&at.to_string(), "x", *from, from + length)).collect();
            let doubly_owned = (0_u64..60).any(|t| {
                let t = Duration::from_secs(t);
                claims.iter().filter(|c| c.from <= t && t < c.until).count() > 1
            });
            prop_assert_eq!(!conflicts(&claims).is_empty(), doubly_owned);
        }
    }
}
