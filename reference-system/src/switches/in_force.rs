//! The switches as one instance obeys them: their values as types.

use std::time::Duration;

use super::{Settings, switch, value_at};
use crate::bus::Taking;
use crate::ids::IdLayout;
use crate::kv::Purpose;
use crate::kv::keyspace::Policy;
use crate::migration::Phase;

/// How orders are cached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum CacheDesign {
    /// Not at all.
    None,
    /// Answers, by all arguments and the current second.
    ApiSliding,
    /// Objects by ID, and an index per user.
    ObjectIndex,
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

/// How locks are taken and released.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum LockImpl {
    /// Not at all.
    None,
    /// A key for ever, removed by whoever comes to the end.
    SetNx,
    /// The same with a life.
    SetNxTtlBlind,
    /// A life, and a token by which a holder removes only its own.
    Token,
    /// The same, and a number by which a store knows who came later.
    TokenFence,
}

impl LockImpl {
    /// Whether work goes on when the server of locks is away.
    pub(crate) fn fails_open(self) -> bool {
        !matches!(self, Self::SetNx | Self::SetNxTtlBlind)
    }

    /// Whether a holder takes it for granted that it is the only one.
    pub(crate) fn is_believed(self) -> bool {
        matches!(self, Self::SetNx | Self::SetNxTtlBlind | Self::Token)
    }
}

/// How an order gets its number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Generator {
    /// One by one.
    Incr,
    /// In blocks.
    Block,
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

/// The promotion of the day, as one instance knows of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Promotion {
    /// Whether this instance was told of a tenth off.
    pub(crate) here: bool,
    /// Whether that holds for all.
    pub(crate) everywhere: bool,
    /// Rises with each change.
    pub(crate) version: u64,
    /// How many instances were told something else than all.
    pub(crate) instances_apart: usize,
    /// Whether what holds for all makes prices, and a quote binds them.
    pub(crate) is_versioned: bool,
}

impl Promotion {
    fn at(settings: &Settings, here: bool, is_versioned: bool) -> Self {
        const TENTH_OFF: &str = "tenth_off";
        let setting = settings.get("promo");
        let common = setting.and_then(|setting| setting.value.as_deref()).unwrap_or("none");
        let apart = setting.map_or(0, |setting| setting.instances.values().filter(|value| *value != common).count());
        Self {
            here,
            everywhere: common == TENTH_OFF,
            version: setting.map_or(0, |setting| setting.version),
            instances_apart: apart,
            is_versioned,
        }
    }

    /// What is off, of so much that is eaten.
    pub(crate) fn off(self, items_fen: i64) -> i64 {
        let holds = if self.is_versioned { self.everywhere } else { self.here };
        if holds { items_fen / 10 } else { 0 }
    }
}

/// The switches as one instance obeys them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct InForce {
    pub(crate) cache_design: CacheDesign,
    /// Whether one key-value server has every purpose.
    pub(crate) kv_on_one: bool,
    pub(crate) kv_most_bytes: u64,
    pub(crate) kv_policy: KvPolicy,
    pub(crate) choice: Choice,
    pub(crate) connect_retry: ConnectRetry,
    pub(crate) eject: bool,
    pub(crate) client_cache: bool,
    pub(crate) drain: bool,
    pub(crate) hard_timeout: bool,
    /// Whether the gateway sends a slow write again as a new request.
    pub(crate) resends_blindly: bool,
    pub(crate) settle_on_accept: bool,
    pub(crate) callbacks: Callbacks,
    pub(crate) some_payments_fail: bool,
    pub(crate) promotion: Promotion,
    /// Whether refunds go where nobody looks any more.
    pub(crate) refunds_go_astray: bool,
    /// Whether somebody looks if refunds arrive.
    pub(crate) refund_canary: bool,
    /// How far back breakers look; `None` without breakers.
    pub(crate) breaker_window: Option<Duration>,
    pub(crate) bulkhead_per_dependency: bool,
    /// How many requests an instance serves at the same time.
    pub(crate) workers: usize,
    /// Whether a handler that panics takes its process along.
    pub(crate) panic_exits: bool,
    /// 0: until removed.
    pub(crate) lease_ms: u64,
    pub(crate) register_when_listening: bool,
    pub(crate) warm_up: Duration,
    pub(crate) emit: Emit,
    pub(crate) confirm: bool,
    pub(crate) taking: Taking,
    /// Whether the other tenant of the brokers makes a storm.
    pub(crate) noise: bool,
    /// Whether it makes it on the broker of the orders.
    pub(crate) shared_broker: bool,
    pub(crate) on_error: OnError,
    pub(crate) dimension_write: DimensionWrite,
    pub(crate) lock: LockImpl,
    pub(crate) lock_section: Duration,
    /// Whether reminders wait as messages that nobody has settled.
    pub(crate) timers_unacked: bool,
    /// How far the migration from the old order table has come.
    pub(crate) phase: Phase,
    pub(crate) log_failures: bool,
    pub(crate) backfill_guard: bool,
    pub(crate) migration_gate: bool,
    pub(crate) generator: Generator,
    pub(crate) id_layout: IdLayout,
    /// How many writes of orders a shard of the user dimension takes per second, if that is bounded.
    pub(crate) write_cap: Option<u32>,
    /// Whether the merchant store has the last word on kitchen numbers.
    pub(crate) reseed_numbers: bool,
}

impl InForce {
    /// The most calls under way to one dependency, with compartments: fewer than there are workers, so that one
    /// dependency cannot hold them all.
    pub(crate) fn compartment(&self) -> usize {
        self.workers * 3 / 4
    }

    /// What is in force at an instance.
    pub(crate) fn at(settings: &Settings, instance: &str) -> Self {
        let of = |name: &str| switch(name).map_or("", |switch| value_at(settings, switch, instance));
        let is = |name: &str, value: &str| of(name) == value;
        Self {
            cache_design: match of("cache.design") {
                "none" => CacheDesign::None,
                "api_sliding" => CacheDesign::ApiSliding,
                _ => CacheDesign::ObjectIndex,
            },
            kv_on_one: is("kv.layout", "shared"),
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
            resends_blindly: is("gw.resend", "blind"),
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
            promotion: Promotion::at(settings, is("promo", "tenth_off"), is("promo.binding", "versioned")),
            refunds_go_astray: is("refund.address", "stale"),
            refund_canary: is("refund.canary", "on"),
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
            noise: is("mq.noise", "storm"),
            shared_broker: is("mq.tenancy", "shared"),
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
            lock: match of("lock.impl") {
                "none" => LockImpl::None,
                "setnx" => LockImpl::SetNx,
                "setnx_ttl_blind" => LockImpl::SetNxTtlBlind,
                "token" => LockImpl::Token,
                _ => LockImpl::TokenFence,
            },
            lock_section: if is("lock.section", "500ms") { Duration::from_millis(500) } else { Duration::ZERO },
            timers_unacked: is("timer.hold", "unacked"),
            phase: of("mig.phase").parse().unwrap_or(Phase::P6),
            log_failures: is("mig.log_failures", "on"),
            backfill_guard: is("mig.backfill_guard", "on"),
            migration_gate: is("mig.gate", "on"),
            generator: if is("id.gen", "incr") { Generator::Incr } else { Generator::Block },
            id_layout: if is("id.layout", "seq") { IdLayout::Bare } else { IdLayout::Composed },
            reseed_numbers: is("id.number", "reseeded"),
            write_cap: of("store.write_cap").parse().ok(),
            breaker_window: match of("breaker") {
                "off" => None,
                "window400" => Some(Duration::from_secs(400)),
                _ => Some(Duration::from_secs(10)),
            },
            bulkhead_per_dependency: is("rpc.bulkhead", "per_dep"),
            workers: of("rpc.workers").parse().unwrap_or(32),
            panic_exits: is("panic", "exit"),
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
