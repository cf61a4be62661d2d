//! Every value of every switch has a test that shows what it changes, and a word in the documentation.
//!
//! A new switch needs its rows in [`PROOFS`]: which test turns it to which value and sees a difference.
#![allow(clippy::unwrap_used, reason = "helpers of tests")]

mod world;

use reference_system::switches::SWITCHES;
use world::sources::{TestFile, test_files};

/// (switch, values, file and test that shows what they change). The test names the switch and the value; a default may be
/// what another value is compared with.
const PROOFS: &[(&str, &[&str], &str)] = &[
    (
        "breaker",
        &["off", "window10"],
        "resilience.rs::a_breaker_refuses_calls_to_a_failing_service_at_once_and_lets_them_through_when_it_is_well",
    ),
    (
        "breaker",
        &["window10", "window400"],
        "switch_effects.rs::a_breaker_that_looks_back_long_does_not_open_where_a_short_one_does",
    ),
    ("bus.confirm", &["off", "on"], "events.rs::without_confirmation_the_relay_marks_what_never_arrived"),
    (
        "bus.emit",
        &["off", "inline", "inline_sync", "outbox"],
        "events.rs::who_publishes_decides_what_a_dead_broker_costs",
    ),
    (
        "cache.design",
        &["none", "api_sliding", "object_index"],
        "cache.rs::each_design_has_its_hit_rate_its_memory_and_its_reads_of_the_store",
    ),
    ("consumer.mode", &["poll_get", "consume"], "events.rs::how_a_consumer_takes_messages_is_a_switch"),
    (
        "consumer.on_error",
        &["requeue", "ack_drop", "retry_dlq"],
        "events.rs::what_a_consumer_does_with_messages_it_cannot_read_is_a_switch",
    ),
    ("consumer.prefetch", &["1", "50"], "events.rs::how_a_consumer_takes_messages_is_a_switch"),
    (
        "dim.write",
        &["fire_forget", "both_sync", "task"],
        "dimensions.rs::a_merchant_sees_every_order_only_by_task_rows_and_half_orders_are_told_by_the_audit",
    ),
    (
        "gw.resend",
        &["blind", "off"],
        "switch_effects.rs::a_gateway_that_sends_slow_writes_again_makes_two_orders_of_one_wish",
    ),
    ("id.gen", &["incr", "block"], "ids.rs::numbers_outlive_the_server_that_counts_them_and_the_flawed_ones_do_not"),
    ("id.layout", &["seq", "composed"], "ids.rs::orders_of_both_layouts_live_beside_each_other"),
    (
        "id.number",
        &["counter", "reseeded"],
        "ids.rs::numbers_outlive_the_server_that_counts_them_and_the_flawed_ones_do_not",
    ),
    (
        "kv.layout",
        &["shared", "split"],
        "cache.rs::a_full_cache_is_never_believed_beyond_what_it_was_told_and_takes_locks_with_it_on_one_server",
    ),
    ("kv.maxmem", &["4mb", "16mb", "64mb"], "kv.rs::what_a_full_server_does_and_when_it_is_full_are_switches"),
    (
        "kv.policy",
        &["noeviction", "lru", "by_purpose"],
        "kv.rs::what_a_full_server_does_and_when_it_is_full_are_switches",
    ),
    (
        "lb",
        &["rr", "p2c_ewma"],
        "switch_effects.rs::under_load_turns_go_to_a_slow_instance_and_the_better_of_two_spares_it",
    ),
    ("lb.connect_retry", &["off", "reads", "all"], "switches.rs::refused_calls_are_tried_elsewhere_as_the_switch_says"),
    ("lb.eject", &["off", "on"], "switch_effects.rs::an_instance_that_refuses_is_left_alone_only_while_ejection_is_on"),
    (
        "lock.impl",
        &["none", "setnx", "setnx_ttl_blind", "token", "token_fence"],
        "locks.rs::each_way_of_locking_shows_what_it_is_worth",
    ),
    ("lock.section", &["quick", "500ms"], "locks.rs::each_way_of_locking_shows_what_it_is_worth"),
    (
        "mig.backfill_guard",
        &["off", "on"],
        "migration_flaws.rs::a_copy_that_is_older_than_what_is_there_is_kept_out_only_by_its_guard",
    ),
    (
        "mig.gate",
        &["off", "on"],
        "migration_flaws.rs::without_failure_log_guard_and_gate_orders_are_lost_and_go_back_and_the_audit_tells",
    ),
    (
        "mig.log_failures",
        &["off", "on"],
        "migration_flaws.rs::what_the_new_side_lacks_is_repaired_and_nothing_crosses_over_before",
    ),
    (
        "mig.phase",
        &["P0", "P1", "P2", "P3", "P4", "P5", "P6"],
        "migration.rs::each_phase_does_what_it_says_and_leads_back_where_that_is_safe",
    ),
    (
        "mq.noise",
        &["quiet", "storm"],
        "events.rs::a_storm_of_another_tenant_reaches_the_broker_of_the_orders_only_where_they_share_it",
    ),
    (
        "mq.tenancy",
        &["shared", "dedicated"],
        "events.rs::a_storm_of_another_tenant_reaches_the_broker_of_the_orders_only_where_they_share_it",
    ),
    (
        "panic",
        &["isolated", "exit"],
        "resilience.rs::a_handler_that_panics_costs_its_request_or_its_process_which_comes_back_later_each_time",
    ),
    ("pay.callback", &["prompt", "doubled"], "payments.rs::a_callback_that_comes_twice_books_one_payment"),
    ("pay.callback", &["late"], "payments.rs::a_callback_that_comes_after_the_order_was_given_up_is_refunded"),
    ("pay.callback", &["lost"], "payments.rs::a_callback_that_is_lost_comes_when_the_charge_is_asked_for_again"),
    (
        "pay.outcome",
        &["succeed", "some_fail"],
        "payments.rs::a_payment_that_fails_closes_its_order_and_frees_what_it_held",
    ),
    (
        "promo",
        &["none", "tenth_off"],
        "promo.rs::a_promotion_on_one_instance_makes_prices_that_nobody_was_shown_unless_it_has_a_version_for_all",
    ),
    (
        "promo.binding",
        &["unversioned", "versioned"],
        "promo.rs::a_promotion_on_one_instance_makes_prices_that_nobody_was_shown_unless_it_has_a_version_for_all",
    ),
    (
        "refund.address",
        &["stale", "current"],
        "compensation.rs::refunds_to_a_stale_address_leave_no_trace_but_in_the_audit_and_the_canary_tells",
    ),
    (
        "refund.canary",
        &["off", "on"],
        "compensation.rs::refunds_to_a_stale_address_leave_no_trace_but_in_the_audit_and_the_canary_tells",
    ),
    (
        "reg.client_cache",
        &["off", "on"],
        "switch_effects.rs::without_its_registry_a_caller_goes_on_only_with_what_it_kept",
    ),
    (
        "reg.lease_ms",
        &["0", "30000", "3000"],
        "resilience.rs::the_dead_stay_listed_for_their_lease_which_follows_its_switch",
    ),
    (
        "reg.register_at",
        &["listen", "ready"],
        "resilience.rs::an_instance_that_registers_when_it_listens_is_called_before_it_can_serve",
    ),
    (
        "reg.stop",
        &["abrupt", "drain"],
        "switches.rs::an_instance_that_stops_abruptly_stays_listed_until_its_lease_ends",
    ),
    (
        "rpc.bulkhead",
        &["shared", "per_dep"],
        "resilience.rs::a_hanging_service_holds_its_own_compartment_and_without_one_every_worker",
    ),
    ("rpc.timeout", &["soft", "hard"], "switches.rs::a_soft_timeout_lets_a_request_go_on_and_a_hard_one_cuts_it_off"),
    (
        "rpc.workers",
        &["8", "32", "128"],
        "resilience.rs::a_hanging_service_holds_its_own_compartment_and_without_one_every_worker",
    ),
    (
        "settle.basis",
        &["accepted_timer", "completed"],
        "money.rs::settlement_by_a_timer_after_acceptance_comes_before_completion_and_the_auditor_tells",
    ),
    (
        "store.write_cap",
        &["off", "10"],
        "switch_effects.rs::a_shard_with_a_cap_lets_its_writes_wait_for_each_other_and_those_of_other_shards_not",
    ),
    ("timer.hold", &["rows", "unacked"], "consumers.rs::a_reminder_waits_as_a_row_or_as_a_message_that_nobody_settles"),
    (
        "warm_up",
        &["none", "5s"],
        "resilience.rs::an_instance_that_registers_when_it_listens_is_called_before_it_can_serve",
    ),
];

/// Why a row of [`PROOFS`] proves nothing.
fn flaw(files: &[TestFile], (name, values, place): &(&str, &[&str], &str)) -> Option<String> {
    let Some(switch) = SWITCHES.iter().find(|switch| switch.name == *name) else {
        return Some(format!("there is no switch `{name}`: take its row out of PROOFS"));
    };
    let found = place.split_once("::").and_then(|(file, test)| {
        let file = files.iter().find(|known| known.name == file)?;
        file.tests().contains(test).then(|| file.written_out(test))
    });
    let Some(text) = found else { return Some(format!("`{name}`: there is no test {place}")) };
    let says = |word: &str| text.contains(&format!("\"{word}\""));
    if !says(name) {
        return Some(format!("{place} does not turn `{name}`"));
    }
    let others = |value: &str| switch.values.iter().any(|other| *other != value && says(other));
    values.iter().find_map(|value| {
        if !switch.values.contains(value) {
            return Some(format!("`{value}` is no value of `{name}`"));
        }
        let turned = says(value) || (*value == switch.default && others(value));
        (!turned).then(|| format!("{place} does not turn `{name}` to `{value}`"))
    })
}

#[test]
fn every_value_of_every_switch_has_a_test_that_shows_what_it_changes() {
    let files = test_files();
    let mut flaws: Vec<String> = PROOFS.iter().filter_map(|proof| flaw(&files, proof)).collect();
    for switch in SWITCHES {
        let proven =
            |value: &&&str| PROOFS.iter().any(|(name, values, _)| *name == switch.name && values.contains(*value));
        flaws.extend(switch.values.iter().filter(|value| !proven(value)).map(|value| {
            format!(
                "nothing proves what `{}` = `{value}` changes: write a test in reference-system/tests that turns it and \
                 sees the difference, and name it in PROOFS of tests/every_switch.rs",
                switch.name
            )
        }));
    }
    assert!(flaws.is_empty(), "{}", flaws.join("\n"));
}

#[test]
fn every_switch_stands_in_the_documentation_with_its_default_first() {
    let docs = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/reference-system.md")).unwrap();
    for switch in SWITCHES {
        let row = docs.lines().find(|line| line.starts_with(&format!("| `{}` | `", switch.name)));
        let row = row.unwrap_or_else(|| panic!("`{}` has no row in docs/reference-system.md", switch.name));
        assert!(
            row.starts_with(&format!("| `{}` | `{}`", switch.name, switch.default)),
            "the default comes first: {row}"
        );
        for value in switch.values {
            assert!(row.contains(&format!("`{value}`")), "{value} is missing: {row}");
        }
        for lab in switch.labs {
            assert!(row.contains(lab), "{lab} is missing: {row}");
        }
    }
}
