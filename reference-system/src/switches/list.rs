//! The list of the switches: what each decides, what it may be and what it is by default. A new one needs its row here, in
//! [`super::InForce`], in the documentation and in the test of every switch.

use super::Switch;

/// Every switch, by name.
pub const SWITCHES: &[Switch] = &[
    Switch {
        name: "breaker",
        values: &["off", "window400", "window10"],
        default: "window10",
        meaning: "over how many seconds a caller looks back before it refuses calls to a failing service at once",
        labs: &["L03", "L16"],
    },
    Switch {
        name: "bus.confirm",
        values: &["off", "on"],
        default: "on",
        meaning: "whether an event counts as published only when the broker has confirmed it",
        labs: &["L09"],
    },
    Switch {
        name: "bus.emit",
        values: &["off", "inline", "inline_sync", "outbox"],
        default: "outbox",
        meaning: "who publishes an event: nobody, its writer after the commit, the same before it answers, or a relay \
                  that reads what was committed with the change",
        labs: &["L09", "L10"],
    },
    Switch {
        name: "cache.design",
        values: &["none", "api_sliding", "object_index"],
        default: "object_index",
        meaning: "what is cached of orders: nothing, whole answers by all arguments and the current second, or each \
                  order by its ID and the latest IDs of each user",
        labs: &["L04"],
    },
    Switch {
        name: "consumer.mode",
        values: &["poll_get", "consume"],
        default: "consume",
        meaning: "whether consumers ask for one message after the other, or have them sent",
        labs: &["L10"],
    },
    Switch {
        name: "consumer.on_error",
        values: &["requeue", "ack_drop", "retry_dlq"],
        default: "retry_dlq",
        meaning: "what becomes of a message that a consumer cannot handle: handed out again at once, dropped, or \
                  tried again after 1, 5 and 30 s and kept as a dead letter then",
        labs: &["L11"],
    },
    Switch {
        name: "consumer.prefetch",
        values: &["1", "50"],
        default: "50",
        meaning: "how many unsettled messages a consumer holds",
        labs: &["L10"],
    },
    Switch {
        name: "dim.write",
        values: &["fire_forget", "both_sync", "task"],
        default: "task",
        meaning: "how a change of an order reaches its merchant: in the background and once, before the answer, or by a \
                  task row that is committed with it and tried until it succeeds",
        labs: &["L08"],
    },
    Switch {
        name: "gw.resend",
        values: &["blind", "off"],
        default: "off",
        meaning: "what the gateway does with a write that takes longer than a second, which the order service may: send it \
                  again without its idempotency key while the first one goes on, or wait for the answer as long as the \
                  client does",
        labs: &["L02"],
    },
    Switch {
        name: "id.gen",
        values: &["incr", "block"],
        default: "block",
        meaning: "how an order gets its number: one by one from a counter that may go back, or from blocks that are put \
                  down durably, in an epoch that is raised whenever the counter starts",
        labs: &["L07"],
    },
    Switch {
        name: "id.layout",
        values: &["seq", "composed"],
        default: "composed",
        meaning: "whether an order's ID is its number alone, with tables that know whose it is, or carries the slots of \
                  user and restaurant",
        labs: &["L07"],
    },
    Switch {
        name: "id.number",
        values: &["counter", "reseeded"],
        default: "reseeded",
        meaning: "whether kitchens print what a bare counter says, or the counter is set right from the numbers that \
                  are out, of which no two may be the same",
        labs: &["L07"],
    },
    Switch {
        name: "kv.layout",
        values: &["shared", "split"],
        default: "split",
        meaning: "whether locks and counters are kept on the server of the caches, or each on a server of its own",
        labs: &["L05"],
    },
    Switch {
        name: "kv.maxmem",
        values: &["4mb", "16mb", "64mb"],
        default: "64mb",
        meaning: "how much memory a key-value server may use",
        labs: &["L04", "L05"],
    },
    Switch {
        name: "kv.policy",
        values: &["noeviction", "lru", "by_purpose"],
        default: "by_purpose",
        meaning: "what a full key-value server does: refuse writes, drop what was not used for long, or drop only caches",
        labs: &["L05"],
    },
    Switch {
        name: "lb",
        values: &["rr", "p2c_ewma"],
        default: "p2c_ewma",
        meaning: "how a caller chooses an instance: in turn, or the less busy and quicker one of two",
        labs: &["L01", "L12"],
    },
    Switch {
        name: "lb.connect_retry",
        values: &["off", "reads", "all"],
        default: "reads",
        meaning: "which calls are tried once more on another instance when a connection is refused",
        labs: &["L01"],
    },
    Switch {
        name: "lb.eject",
        values: &["off", "on"],
        default: "on",
        meaning: "whether an instance that failed several times in a row is left alone for a while",
        labs: &["L01"],
    },
    Switch {
        name: "lock.impl",
        values: &["none", "setnx", "setnx_ttl_blind", "token", "token_fence"],
        default: "token_fence",
        meaning: "how work on a user's submission, a coupon or an order is locked: not at all, by a key for ever, by a key \
                  that ends after 2 s and that anybody removes, by one that only its holder removes, or so and with a \
                  number by which the store refuses a late holder",
        labs: &["L05", "L06"],
    },
    Switch {
        name: "lock.section",
        values: &["quick", "500ms"],
        default: "quick",
        meaning: "how long work under a lock takes between what it reads and what it writes",
        labs: &["L06"],
    },
    Switch {
        name: "mig.backfill_guard",
        values: &["off", "on"],
        default: "on",
        meaning: "whether a copy of an older order is kept out when a newer row is there already",
        labs: &["L18"],
    },
    Switch {
        name: "mig.gate",
        values: &["off", "on"],
        default: "on",
        meaning: "whether the new stores take over only when both sides are equal and no write has failed",
        labs: &["L18"],
    },
    Switch {
        name: "mig.log_failures",
        values: &["off", "on"],
        default: "on",
        meaning: "whether writes that the other side of a migration did not take are kept and tried again, or dropped",
        labs: &["L18"],
    },
    Switch {
        name: "mig.phase",
        values: &["P0", "P1", "P2", "P3", "P4", "P5", "P6"],
        default: "P6",
        meaning: "how far the migration from one old order table to the sharded stores has come; moved by `system migrate`",
        labs: &["L18"],
    },
    Switch {
        name: "mq.noise",
        values: &["quiet", "storm"],
        default: "quiet",
        meaning: "what another tenant of the company's brokers does: nothing, or publish 3,000 messages of 1 KiB a second \
                  and take them again in the way of `consumer.mode`",
        labs: &["L10"],
    },
    Switch {
        name: "mq.tenancy",
        values: &["shared", "dedicated"],
        default: "dedicated",
        meaning: "whether the other tenant is on the broker of the orders or on one of its own",
        labs: &["L10"],
    },
    Switch {
        name: "panic",
        values: &["exit", "isolated"],
        default: "isolated",
        meaning: "whether a handler that panics takes its process along, or costs its own request only",
        labs: &["L19"],
    },
    Switch {
        name: "pay.callback",
        values: &["prompt", "late", "doubled", "lost"],
        default: "prompt",
        meaning: "how the payment service calls back: at once, after six seconds, twice, or only when asked again",
        labs: &["L20"],
    },
    Switch {
        name: "pay.outcome",
        values: &["succeed", "some_fail"],
        default: "succeed",
        meaning: "whether every payment succeeds, or a quarter of them fails, always the same ones",
        labs: &[],
    },
    Switch {
        name: "promo",
        values: &["none", "tenth_off"],
        default: "none",
        meaning: "the promotion of the day: none, or a tenth off what is eaten, which the platform pays",
        labs: &["L13"],
    },
    Switch {
        name: "promo.binding",
        values: &["unversioned", "versioned"],
        default: "versioned",
        meaning: "how a promotion makes prices: each instance by what it was set to itself, when a price is shown and again when \
                  the order is made, or by the version that holds for all, and once, in the quote",
        labs: &["L13"],
    },
    Switch {
        name: "refund.address",
        values: &["stale", "current"],
        default: "current",
        meaning: "where the money of a dead order is sent: to an intake that takes it and that nobody empties any more, or to \
                  the wallet",
        labs: &["L15"],
    },
    Switch {
        name: "refund.canary",
        values: &["off", "on"],
        default: "on",
        meaning: "whether a refund of nothing goes the way of all refunds every few seconds, and an alarm is raised when it \
                  does not arrive",
        labs: &["L15"],
    },
    Switch {
        name: "reg.client_cache",
        values: &["off", "on"],
        default: "on",
        meaning: "whether callers go on with the list they knew when the registry has lost its own",
        labs: &["L01"],
    },
    Switch {
        name: "reg.lease_ms",
        values: &["0", "30000", "3000"],
        default: "3000",
        meaning: "how long a registration outlives its instance; 0: until somebody removes it",
        labs: &["L01"],
    },
    Switch {
        name: "reg.register_at",
        values: &["listen", "ready"],
        default: "ready",
        meaning: "whether an instance registers as soon as it listens, or when it can serve",
        labs: &["L01"],
    },
    Switch {
        name: "reg.stop",
        values: &["abrupt", "drain"],
        default: "drain",
        meaning: "whether an instance that is told to stop takes its registration back first",
        labs: &["L01"],
    },
    Switch {
        name: "rpc.bulkhead",
        values: &["shared", "per_dep"],
        default: "per_dep",
        meaning: "whether calls to one dependency may take all workers of an instance, or at most their compartment",
        labs: &["L03"],
    },
    Switch {
        name: "rpc.timeout",
        values: &["soft", "hard"],
        default: "hard",
        meaning: "whether a request is cut off when its time is over, or only logged afterwards",
        labs: &["L03"],
    },
    Switch {
        name: "rpc.workers",
        values: &["8", "32", "128"],
        default: "32",
        meaning: "how many requests an instance serves at the same time; three quarters of them at most wait for one \
                  dependency",
        labs: &["L03"],
    },
    Switch {
        name: "settle.basis",
        values: &["accepted_timer", "completed"],
        default: "completed",
        meaning: "whether merchant, platform and rider are paid a while after acceptance, or on completion",
        labs: &["L14"],
    },
    Switch {
        name: "store.write_cap",
        values: &["off", "10"],
        default: "off",
        meaning: "how many writes of orders a shard of the user dimension takes per second; more wait for their turn, and are \
                  refused if it comes too late",
        labs: &["L17"],
    },
    Switch {
        name: "timer.hold",
        values: &["unacked", "rows"],
        default: "rows",
        meaning: "where a reminder waits until it is due: as a message that its consumer holds unsettled, or as a row",
        labs: &[],
    },
    Switch {
        name: "warm_up",
        values: &["none", "5s"],
        default: "none",
        meaning: "how long an instance needs after its start before it can serve",
        labs: &["L01"],
    },
];
