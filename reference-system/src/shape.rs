//! How the system's modules are spread over processes: how many instances there are of each, and which of them live in
//! one process.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use clap::ValueEnum;
use serde::{Deserialize, Serialize};

use crate::config::ROLES;
use crate::migration::{OLD_STORE, ROLE};

/// The one process of a monolith: its role, and its name as an instance.
pub(crate) const MONOLITH: (&str, &str) = ("monolith", "monolith-1");

/// What the monolith holds: every module of the order platform itself, as before the split. The gateway stands before
/// it as a load balancer would, payment is somebody else's, and the auditor judges from outside; stores, key-value
/// servers, broker and registry are servers in either shape.
const HELD: [&str; 11] = ["eos-c", "eos-m", "eos-x", "eus", "ers", "eps", "sms", "ledger", "rev", "blink", "vgo"];

/// Services of which there can be several instances: they keep nothing but in their stores.
const SEVERAL: [&str; 6] = ["blink", "eos-c", "eos-m", "eps", "ers", "eus"];
/// The most instances of a service.
const MOST: u16 = 8;

/// How modules are spread over processes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Shape {
    /// One process for each instance.
    #[default]
    Services,
    /// The modules of the order platform in one process: one event loop, one fate.
    Monolith,
}

impl Shape {
    /// The process, by its role and its name, in which an instance of a service lives.
    pub(crate) fn process_of<'a>(self, service: &'a str, instance: &'a str) -> (&'a str, &'a str) {
        if self == Self::Monolith && HELD.contains(&service) { MONOLITH } else { (service, instance) }
    }
}

impl fmt::Display for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Services => "services",
            Self::Monolith => "monolith",
        })
    }
}

/// How many instances there shall be, for services that shall have another number than usual: `eos-c=4,ers=1`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct InstanceCounts(BTreeMap<String, u16>);

/// Why a list of counts makes no sense.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadCounts {
    /// Not of the form `SERVICE=NUMBER`.
    #[error("`{part}` is no count; write for example eos-c=4,ers=2")]
    Form {
        /// The part that was read.
        part: String,
    },
    /// Nothing of which there can be several.
    #[error("there cannot be several instances of `{service}`; expected one of {}", SEVERAL.join(", "))]
    Service {
        /// What was named.
        service: String,
    },
    /// Too few or too many.
    #[error("{service}={count}: there can be 1 to {MOST} instances of a service")]
    Number {
        /// The service.
        service: String,
        /// How many were asked for.
        count: u64,
    },
    /// Counted twice.
    #[error("`{service}` is named twice")]
    Twice {
        /// The service.
        service: String,
    },
}

impl FromStr for InstanceCounts {
    type Err = BadCounts;

    fn from_str(text: &str) -> Result<Self, BadCounts> {
        let mut counts = BTreeMap::new();
        for part in text.split(',').map(str::trim) {
            let form = || BadCounts::Form { part: part.to_owned() };
            let (service, number) = part.split_once('=').ok_or_else(form)?;
            let (service, count) = (service.trim().to_owned(), number.trim().parse::<u64>().map_err(|_| form())?);
            if !SEVERAL.contains(&service.as_str()) {
                return Err(BadCounts::Service { service });
            }
            let fits = u16::try_from(count).ok().filter(|count| (1..=MOST).contains(count));
            let Some(fits) = fits else { return Err(BadCounts::Number { service, count }) };
            if counts.insert(service.clone(), fits).is_some() {
                return Err(BadCounts::Twice { service });
            }
        }
        Ok(Self(counts))
    }
}

impl InstanceCounts {
    /// Whether a system has what was counted here. `of` tells how many it has of a service.
    pub(crate) fn fit(&self, of: impl Fn(&str) -> usize) -> bool {
        self.0.iter().all(|(service, count)| of(service) == usize::from(*count))
    }

    /// The names of all instances, in the order in which they start: (service, instance). Those that a migration needs only
    /// if there is one.
    pub(crate) fn names(&self, migration: bool) -> Vec<(String, String)> {
        let count = |service: &str, usual: u16| self.0.get(service).copied().unwrap_or(usual);
        ROLES
            .iter()
            .filter(|(service, _)| migration || ![OLD_STORE, ROLE].contains(service))
            .flat_map(|(service, usual)| {
                (1..=count(service, *usual)).map(move |n| ((*service).to_owned(), format!("{service}-{n}")))
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names_of(counts: &str, service: &str) -> Vec<String> {
        let all = counts.parse::<InstanceCounts>().unwrap().names(false);
        all.into_iter().filter(|(of, _)| of == service).map(|(_, instance)| instance).collect()
    }

    #[test]
    fn counts_change_what_they_name_and_nothing_else() {
        assert_eq!(names_of("eos-c=4, ers=1", "eos-c"), ["eos-c-1", "eos-c-2", "eos-c-3", "eos-c-4"]);
        assert_eq!(names_of("eos-c=4, ers=1", "ers"), ["ers-1"]);
        assert_eq!(names_of("eos-c=4, ers=1", "eos-m"), ["eos-m-1", "eos-m-2"]);
    }

    #[test]
    fn a_wrong_count_is_told() {
        for (wrong, told) in [
            ("", "`` is no count; write for example eos-c=4,ers=2"),
            ("eos-c", "`eos-c` is no count; write for example eos-c=4,ers=2"),
            ("eos-c=many", "`eos-c=many` is no count; write for example eos-c=4,ers=2"),
            ("eos-c=0", "eos-c=0: there can be 1 to 8 instances of a service"),
            ("eos-c=9", "eos-c=9: there can be 1 to 8 instances of a service"),
            ("ers=2,ers=3", "`ers` is named twice"),
            ("reg=2", "there cannot be several instances of `reg`; expected one of blink, eos-c, eos-m, eps, ers, eus"),
        ] {
            assert_eq!(wrong.parse::<InstanceCounts>().unwrap_err().to_string(), told);
        }
    }

    #[test]
    fn whatever_can_be_several_or_is_held_is_a_role() {
        let is_role = |name: &&str| ROLES.iter().any(|(service, _)| service == name);
        assert!(SEVERAL.iter().all(&is_role));
        assert!(HELD.iter().all(&is_role));
        assert_eq!(Shape::Monolith.process_of("eos-c", "eos-c-2"), MONOLITH);
        assert_eq!(Shape::Monolith.process_of("reg", "reg-1"), ("reg", "reg-1"));
        assert_eq!(Shape::Services.process_of("eos-c", "eos-c-2"), ("eos-c", "eos-c-2"));
    }
}
