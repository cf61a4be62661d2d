//! What keeps a sick dependency from taking its caller along: a breaker and a bulkhead for each, as `breaker` and
//! `rpc.bulkhead` say.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Mutex, MutexGuard, PoisonError};

use serde_json::{Value, json};
use tokio::time::Instant;

use super::breaker::Breaker;
use crate::switches::InForce;

/// The guards of one caller, by dependency.
#[derive(Debug, Default)]
pub(crate) struct Guards {
    by_service: Mutex<HashMap<String, Guard>>,
}

#[derive(Debug, Default)]
struct Guard {
    breaker: Breaker,
    under_way: usize,
    refused: u64,
}

/// Why a call is not made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kept {
    /// Too many failed lately.
    Open,
    /// Too many are under way.
    Full,
}

/// A call that was let through; it counts as under way until this is dropped.
#[derive(Debug)]
pub(crate) struct Admitted<'a> {
    guards: &'a Guards,
    service: &'a str,
}

impl Guards {
    fn guards(&self) -> MutexGuard<'_, HashMap<String, Guard>> {
        self.by_service.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets a call through or says why not.
    pub(crate) fn admit<'a>(
        &'a self,
        service: &'a str,
        in_force: &InForce,
        now: Instant,
    ) -> Result<Admitted<'a>, Kept> {
        let mut guards = self.guards();
        if !guards.contains_key(service) {
            guards.insert(service.to_owned(), Guard::default());
        }
        let Some(guard) = guards.get_mut(service) else { return Err(Kept::Open) };
        let kept = if in_force.bulkhead_per_dependency && guard.under_way >= in_force.compartment() {
            Some(Kept::Full)
        } else if in_force.breaker_window.is_some() && !guard.breaker.admits(now) {
            Some(Kept::Open)
        } else {
            None
        };
        match kept {
            Some(kept) => {
                guard.refused += 1;
                Err(kept)
            }
            None => {
                guard.under_way += 1;
                drop(guards);
                Ok(Admitted { guards: self, service })
            }
        }
    }

    /// What is known of each dependency, for `/debug/state`.
    pub(crate) fn describe(&self) -> Value {
        let guards = self.guards();
        let all: BTreeMap<&String, Value> = guards
            .iter()
            .map(|(service, guard)| {
                let (openings, open) = guard.breaker.describe();
                let about = json!({
                    "open": open, "openings": openings, "under_way": guard.under_way, "refused": guard.refused,
                });
                (service, about)
            })
            .collect();
        json!(all)
    }
}

impl Admitted<'_> {
    /// Notes how the call went.
    pub(crate) fn ended(self, succeeded: bool, in_force: &InForce, now: Instant) {
        if let (Some(window), Some(guard)) = (in_force.breaker_window, self.guards.guards().get_mut(self.service)) {
            guard.breaker.note(succeeded, window, now);
        }
    }
}

impl Drop for Admitted<'_> {
    fn drop(&mut self) {
        if let Some(guard) = self.guards.guards().get_mut(self.service) {
            guard.under_way = guard.under_way.saturating_sub(1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_compartment_is_full_only_for_its_own_dependency() {
        let (guards, now) = (Guards::default(), Instant::now());
        let apart = InForce::default();
        let held: Vec<_> = (0..apart.compartment()).map(|_| guards.admit("eps", &apart, now).unwrap()).collect();
        assert_eq!(guards.admit("eps", &apart, now).unwrap_err(), Kept::Full);
        assert!(guards.admit("ers", &apart, now).is_ok());
        let shared = InForce { bulkhead_per_dependency: false, ..apart };
        assert!(guards.admit("eps", &shared, now).is_ok());
        drop(held);
        assert!(guards.admit("eps", &apart, now).is_ok());
        assert_eq!(guards.describe()["eps"]["under_way"], 0);
    }

    #[tokio::test]
    async fn without_a_breaker_failures_are_no_reason() {
        let (guards, now) = (Guards::default(), Instant::now());
        let off = InForce { breaker_window: None, ..InForce::default() };
        for (in_force, admitted) in [(off, true), (InForce::default(), false)] {
            for _ in 0..40 {
                if let Ok(call) = guards.admit("eps", &in_force, now) {
                    call.ended(false, &in_force, now);
                }
            }
            assert_eq!(guards.admit("eps", &in_force, now).is_ok(), admitted);
        }
    }
}
