//! The switches of the system: which design runs, the fixed one or one of the historic flaws. The registry keeps their
//! values, every instance watches them, and tells in its metrics which value is in force there.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::bus::Taking;
use crate::kv::Purpose;
use crate::kv::keyspace::Policy;

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
}

/// Every switch, by name.
pub const SWITCHES: &[Switch] = &[
    Switch {
        name: "breaker",
        values: &["off", "window400", "window10"],
        default: "window10",
        meaning: "over how many seconds a caller looks back before it refuses calls to a failing service at once",
    },
    Switch {
        name: "bus.confirm",
        values: &["off", "on"],
        default: "on",
        meaning: "whether an event counts as published only when the broker has confirmed it",
    },
    Switch {
        name: "bus.emit",
        values: &["off", "inline", "inline_sync", "outbox"],
        default: "outbox",
        meaning: "who publishes an event: nobody, its writer after the commit, the same before it answers, or a relay \
                  that reads what was committed with the change",
    },
    Switch {
        name: "consumer.mode",
        values: &["poll_get", "consume"],
        default: "consume",
        meaning: "whether consumers ask for one message after the other, or have them sent",
    },
    Switch {
        name: "consumer.on_error",
        values: &["requeue", "ack_drop", "retry_dlq"],
        default: "retry_dlq",
        meaning: "what becomes of a message that a consumer cannot handle: handed out again at once, dropped, or \
                  tried again after 1, 5 and 30 s and kept as a dead letter then",
    },
    Switch {
        name: "consumer.prefetch",
        values: &["1", "50"],
        default: "50",
        meaning: "how many unsettled messages a consumer holds",
    },
    Switch {
        name: "dim.write",
        values: &["fire_forget", "both_sync", "task"],
        default: "task",
        meaning: "how a change of an order reaches its merchant: in the background and once, before the answer, or by a \
                  task row that is committed with it and tried until it succeeds",
    },
    Switch {
        name: "kv.maxmem",
        values: &["4mb", "16mb", "64mb"],
        default: "64mb",
        meaning: "how much memory a key-value server may use",
    },
    Switch {
        name: "kv.policy",
        values: &["noeviction", "lru", "by_purpose"],
        default: "by_purpose",
        meaning: "what a full key-value server does: refuse writes, drop what was not used for long, or drop only caches",
    },
    Switch {
        name: "lb",
        values: &["rr", "p2c_ewma"],
        default: "p2c_ewma",
        meaning: "how a caller chooses an instance: in turn, or the less busy and quicker one of two",
    },
    Switch {
        name: "lb.connect_retry",
        values: &["off", "reads", "all"],
        default: "reads",
        meaning: "which calls are tried once more on another instance when a connection is refused",
    },
    Switch {
        name: "lb.eject",
        values: &["off", "on"],
        default: "on",
        meaning: "whether an instance that failed several times in a row is left alone for a while",
    },
    Switch {
        name: "pay.callback",
        values: &["prompt", "late", "doubled", "lost"],
        default: "prompt",
        meaning: "how the payment service calls back: at once, after six seconds, twice, or only when asked again",
    },
    Switch {
        name: "pay.outcome",
        values: &["succeed", "some_fail"],
        default: "succeed",
        meaning: "whether every payment succeeds, or a quarter of them fails, always the same ones",
    },
    Switch {
        name: "reg.client_cache",
        values: &["off", "on"],
        default: "on",
        meaning: "whether callers go on with the list they knew when the registry has lost its own",
    },
    Switch {
        name: "reg.lease_ms",
        values: &["0", "30000", "3000"],
        default: "3000",
        meaning: "how long a registration outlives its instance; 0: until somebody removes it",
    },
    Switch {
        name: "reg.register_at",
        values: &["listen", "ready"],
        default: "ready",
        meaning: "whether an instance registers as soon as it listens, or when it can serve",
    },
    Switch {
        name: "reg.stop",
        values: &["abrupt", "drain"],
        default: "drain",
        meaning: "whether an instance that is told to stop takes its registration back first",
    },
    Switch {
        name: "rpc.bulkhead",
        values: &["shared", "per_dep"],
        default: "per_dep",
        meaning: "whether calls to one dependency may take all workers of an instance, or at most their compartment",
    },
    Switch {
        name: "rpc.timeout",
        values: &["soft", "hard"],
        default: "hard",
        meaning: "whether a request is cut off when its time is over, or only logged afterwards",
    },
    Switch {
        name: "settle.basis",
        values: &["accepted_timer", "completed"],
        default: "completed",
        meaning: "whether merchant, platform and rider are paid a while after acceptance, or on completion",
    },
    Switch {
        name: "warm_up",
        values: &["none", "5s"],
        default: "none",
        meaning: "how long an instance needs after its start before it can serve",
    },
];

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
        }
    }
}

/// How a caller chooses among instances.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Choice {
    /// In turn.
    RoundRobin,
    /// The better of two that are drawn: fewer calls under way, weighted by how long calls took lately.
    PowerOfTwo,
}

/// Which calls are tried once more on another instance.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ConnectRetry {
    /// None.
    Off,
    /// Reads.
    Reads,
    /// Reads and writes.
    All,
}

/// What a full key-value server does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum KvPolicy {
    /// Each the same.
    Everywhere(Policy),
    /// Caches give way, locks and counters never.
    ByPurpose,
}

impl KvPolicy {
    /// At the server for a purpose.
    pub(crate) fn of(self, purpose: Purpose) -> Policy {
        match self {
            Self::Everywhere(policy) => policy,
            Self::ByPurpose if purpose == Purpose::Cache => Policy::AllKeysLru,
            Self::ByPurpose => Policy::NoEviction,
        }
    }
}

/// How the payment service calls back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Callbacks {
    /// At once.
    Prompt,
    /// When an order may have been given up.
    Late,
    /// Twice.
    Doubled,
    /// Not before it is asked again.
    Lost,
}

/// Who publishes events.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Emit {
    /// Nobody.
    Off,
    /// Whoever wrote them, afterwards and once.
    Inline,
    /// Whoever wrote them, before the answer.
    InlineSync,
    /// The relay.
    Outbox,
}

/// How a change of an order reaches the merchant dimension.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum DimensionWrite {
    /// In the background, once.
    FireForget,
    /// Before the answer, once.
    BothSync,
    /// By a task row.
    Task,
}

/// What becomes of a message that cannot be handled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum OnError {
    /// Handed out again at once.
    Requeue,
    /// Gone.
    Drop,
    /// Tried again later, kept as a dead letter in the end.
    RetryThenDead,
}

/// The switches as one instance obeys them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct InForce {
    pub(crate) kv_most_bytes: u64,
    pub(crate) kv_policy: KvPolicy,
    pub(crate) choice: Choice,
    pub(crate) connect_retry: ConnectRetry,
    pub(crate) eject: bool,
    pub(crate) client_cache: bool,
    pub(crate) drain: bool,
    pub(crate) hard_timeout: bool,
    pub(crate) settle_on_accept: bool,
    pub(crate) callbacks: Callbacks,
    pub(crate) some_payments_fail: bool,
    /// How far back breakers look; `None` without breakers.
    pub(crate) breaker_window: Option<Duration>,
    pub(crate) bulkhead_per_dependency: bool,
    /// 0: until removed.
    pub(crate) lease_ms: u64,
    pub(crate) register_when_listening: bool,
    pub(crate) warm_up: Duration,
    pub(crate) emit: Emit,
    pub(crate) confirm: bool,
    pub(crate) taking: Taking,
    pub(crate) on_error: OnError,
    pub(crate) dimension_write: DimensionWrite,
}

impl InForce {
    /// What is in force at an instance.
    pub(crate) fn at(settings: &Settings, instance: &str) -> Self {
        let of = |name: &str| switch(name).map_or("", |switch| value_at(settings, switch, instance));
        let is = |name: &str, value: &str| of(name) == value;
        Self {
            kv_most_bytes: if is("kv.maxmem", "4mb") {
                4 << 20
            } else if is("kv.maxmem", "16mb") {
                16 << 20
            } else {
                64 << 20
            },
            kv_policy: if is("kv.policy", "noeviction") {
                KvPolicy::Everywhere(Policy::NoEviction)
            } else if is("kv.policy", "lru") {
                KvPolicy::Everywhere(Policy::AllKeysLru)
            } else {
                KvPolicy::ByPurpose
            },
            choice: if is("lb", "rr") { Choice::RoundRobin } else { Choice::PowerOfTwo },
            connect_retry: if is("lb.connect_retry", "off") {
                ConnectRetry::Off
            } else if is("lb.connect_retry", "all") {
                ConnectRetry::All
            } else {
                ConnectRetry::Reads
            },
            eject: is("lb.eject", "on"),
            client_cache: is("reg.client_cache", "on"),
            drain: is("reg.stop", "drain"),
            hard_timeout: is("rpc.timeout", "hard"),
            settle_on_accept: is("settle.basis", "accepted_timer"),
            callbacks: if is("pay.callback", "late") {
                Callbacks::Late
            } else if is("pay.callback", "doubled") {
                Callbacks::Doubled
            } else if is("pay.callback", "lost") {
                Callbacks::Lost
            } else {
                Callbacks::Prompt
            },
            some_payments_fail: is("pay.outcome", "some_fail"),
            emit: match of("bus.emit") {
                "off" => Emit::Off,
                "inline" => Emit::Inline,
                "inline_sync" => Emit::InlineSync,
                _ => Emit::Outbox,
            },
            confirm: is("bus.confirm", "on"),
            taking: if is("consumer.mode", "poll_get") {
                Taking::Get
            } else {
                Taking::Consume { prefetch: of("consumer.prefetch").parse().unwrap_or(50) }
            },
            on_error: match of("consumer.on_error") {
                "requeue" => OnError::Requeue,
                "ack_drop" => OnError::Drop,
                _ => OnError::RetryThenDead,
            },
            dimension_write: match of("dim.write") {
                "fire_forget" => DimensionWrite::FireForget,
                "both_sync" => DimensionWrite::BothSync,
                _ => DimensionWrite::Task,
            },
            breaker_window: match of("breaker") {
                "off" => None,
                "window400" => Some(Duration::from_secs(400)),
                _ => Some(Duration::from_secs(10)),
            },
            bulkhead_per_dependency: is("rpc.bulkhead", "per_dep"),
            lease_ms: of("reg.lease_ms").parse().unwrap_or(3_000),
            register_when_listening: is("reg.register_at", "listen"),
            warm_up: if is("warm_up", "5s") { Duration::from_secs(5) } else { Duration::ZERO },
        }
    }
}

impl Default for InForce {
    fn default() -> Self {
        Self::at(&Settings::new(), "")
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
