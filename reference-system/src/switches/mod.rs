//! The switches of the system: which design runs, the fixed one or one of the historic flaws. The registry keeps their
//! values, every instance watches them, and tells in its metrics which value is in force there.

mod in_force;
mod list;

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

pub(crate) use in_force::{
    CacheDesign, Callbacks, Choice, ConnectRetry, DimensionWrite, Emit, Generator, InForce, LockImpl, OnError,
    Promotion,
};
pub use list::SWITCHES;

/// A switch. Every default is the fixed design.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Switch {
    /// Its name.
    pub name: &'static str,
    /// What it may be set to.
    pub values: &'static [&'static str],
    /// What it is unless somebody sets it.
    pub default: &'static str,
    /// What it decides.
    pub meaning: &'static str,
    /// The labs (historic incidents) in which it is turned.
    pub labs: &'static [&'static str],
}

/// The switch of a name.
#[must_use]
pub fn switch(name: &str) -> Option<&'static Switch> {
    SWITCHES.iter().find(|switch| switch.name == name)
}

/// Why a switch cannot be set so.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadSwitch {
    /// There is none of this name.
    #[error("there is no switch `{name}`; expected one of {}", names())]
    Unknown {
        /// What was asked for.
        name: String,
    },
    /// It has no such value.
    #[error("`{value}` is no value of `{name}`; expected one of {}", .values.join(", "))]
    Value {
        /// The switch.
        name: &'static str,
        /// What was asked for.
        value: String,
        /// What it may be.
        values: &'static [&'static str],
    },
}

fn names() -> String {
    SWITCHES.iter().map(|switch| switch.name).collect::<Vec<_>>().join(", ")
}

/// Checks a name and a value.
///
/// # Errors
///
/// [`BadSwitch`], which names what would do.
pub fn check(name: &str, value: &str) -> Result<(&'static Switch, &'static str), BadSwitch> {
    let switch = switch(name).ok_or_else(|| BadSwitch::Unknown { name: name.to_owned() })?;
    let known = switch.values.iter().find(|known| **known == value).copied();
    let bad = || BadSwitch::Value { name: switch.name, value: value.to_owned(), values: switch.values };
    Ok((switch, known.ok_or_else(bad)?))
}

/// What a switch is set to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Setting {
    /// Rises with every change of any switch.
    pub version: u64,
    /// The value everywhere; `None` for the default.
    pub value: Option<String>,
    /// Values of single instances, which go before it.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub instances: BTreeMap<String, String>,
}

/// What is set, by switch. What is not in it has its default.
pub type Settings = BTreeMap<String, Setting>;

/// The value of a switch at an instance.
#[must_use]
pub fn value_at<'a>(settings: &'a Settings, switch: &Switch, instance: &str) -> &'a str
where
    'static: 'a,
{
    let setting = settings.get(switch.name);
    let of_instance = setting.and_then(|setting| setting.instances.get(instance));
    of_instance.or_else(|| setting.and_then(|setting| setting.value.as_ref())).map_or(switch.default, String::as_str)
}

/// A switch and what it is set to, as the registry tells it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SwitchView {
    /// Its name.
    pub name: String,
    /// The value everywhere.
    pub value: String,
    /// Values of single instances, which go before it.
    pub instances: BTreeMap<String, String>,
    /// What it is unless somebody sets it.
    pub default: String,
    /// What it may be set to.
    pub values: Vec<String>,
    /// What it decides.
    pub meaning: String,
    /// The labs (historic incidents) in which it is turned.
    #[serde(default)]
    pub labs: Vec<String>,
}

impl SwitchView {
    pub(crate) fn of(switch: &'static Switch, settings: &Settings) -> Self {
        Self {
            name: switch.name.to_owned(),
            value: value_at(settings, switch, "").to_owned(),
            instances: settings.get(switch.name).map(|setting| setting.instances.clone()).unwrap_or_default(),
            default: switch.default.to_owned(),
            values: switch.values.iter().map(|value| (*value).to_owned()).collect(),
            meaning: switch.meaning.to_owned(),
            labs: switch.labs.iter().map(|lab| (*lab).to_owned()).collect(),
        }
    }
}

/// The lines of `/metrics`: one per switch, with its value at this instance.
pub(crate) fn metrics(settings: &Settings, instance: &str, out: &mut impl fmt::Write) -> fmt::Result {
    writeln!(out, "# TYPE switch_active gauge")?;
    for switch in SWITCHES {
        let value = value_at(settings, switch, instance);
        writeln!(out, "switch_active{{name=\"{}\",value=\"{value}\",instance=\"{instance}\"}} 1", switch.name)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn switches_are_in_order_and_their_defaults_are_values() {
        assert!(SWITCHES.is_sorted_by_key(|switch| switch.name));
        for switch in SWITCHES {
            assert!(switch.values.contains(&switch.default), "{}", switch.name);
            assert!(switch.values.len() > 1, "{} decides nothing", switch.name);
        }
    }

    #[test]
    fn every_value_of_every_switch_is_obeyed() {
        for switch in SWITCHES {
            let obeyed: Vec<InForce> = switch
                .values
                .iter()
                .map(|value| {
                    let setting = Setting { version: 1, value: Some((*value).to_owned()), instances: BTreeMap::new() };
                    InForce::at(&[(switch.name.to_owned(), setting)].into(), "a-1")
                })
                .collect();
            for (n, one) in obeyed.iter().enumerate() {
                assert!(!obeyed[..n].contains(one), "two values of {} are the same", switch.name);
            }
        }
    }

    #[test]
    fn an_instance_can_differ_from_the_others() {
        let setting = Setting {
            version: 1,
            value: Some("rr".to_owned()),
            instances: [("a-1".to_owned(), "p2c_ewma".to_owned())].into(),
        };
        let settings: Settings = [("lb".to_owned(), setting)].into();
        assert_eq!(InForce::at(&settings, "a-1").choice, Choice::PowerOfTwo);
        assert_eq!(InForce::at(&settings, "a-2").choice, Choice::RoundRobin);
    }

    #[test]
    fn what_would_do_is_named() {
        assert_eq!(check("lb", "rr").map(|(switch, value)| (switch.name, value)), Ok(("lb", "rr")));
        let wrong = check("lb", "random").unwrap_err().to_string();
        assert_eq!(wrong, "`random` is no value of `lb`; expected one of rr, p2c_ewma");
        assert!(check("lbx", "rr").unwrap_err().to_string().contains("lb, lb.connect_retry"));
    }
}
