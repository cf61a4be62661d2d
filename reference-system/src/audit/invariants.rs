//! The invariants over the books, as pure functions. Each is a query that must find nothing.

use std::collections::{BTreeMap, HashMap, HashSet};

use super::books::{Books, EventRow, OrderRow, UserDimension};
use super::events::Events;
use super::money::{self, Money};
use super::told::Told;
use super::{
    Design, Finding, History, Verdict, cache, coupons, dimensions, events, identity, liveness, locks, migration,
    promises, registry, stock, told, virtual_goods,
};

use crate::orders::lifecycle::{self, Status};
use crate::orders::routing::Dimension;

/// A row may be stamped this long before it is committed.
pub(super) const READ_MARGIN_MS: i64 = 1_000;

/// A rule over events: what happened, what was told, what arrived.
type EventRule<'a> = dyn Fn(&mut Finding, &UserDimension, &Told, &Events) + 'a;

/// Checks everything that this slice can check.
pub(crate) fn check(books: &Books, design: Design, history: Option<&History>, quiet: bool) -> Vec<Finding> {
    let slot_hash = design.slot_hash;
    let users = books.users.as_ref();
    let merchants = books.merchants.as_ref();
    let with_users = |id: &str, title: &str, rule: &dyn Fn(&mut Finding, &UserDimension)| match users {
        Ok(users) => {
            let mut finding = Finding::new(id, title);
            rule(&mut finding, users);
            finding
        }
        Err(why) => Finding::unknown(id, title, why),
    };
    let with_both = |id: &str, title: &str, rule: &dyn Fn(&mut Finding, &UserDimension)| match &books.merchants {
        Ok(_) => with_users(id, title, rule),
        Err(why) => Finding::unknown(id, title, why),
    };
    let with_money =
        |id: &str, title: &str, rule: &dyn Fn(&mut Finding, &UserDimension, &Money<'_>)| match books.money() {
            Ok(money) => with_users(id, title, &|finding, users| rule(finding, users, &money)),
            Err(why) => Finding::unknown(id, title, why),
        };
    let with_events = |id: &str, title: &str, rule: &EventRule<'_>| match (&books.bus, &books.told) {
        (Ok(bus), Ok(told)) => with_users(id, title, &|finding, users| rule(finding, users, told, bus)),
        (Err(why), _) | (_, Err(why)) => Finding::unknown(id, title, why),
    };
    vec![
        with_users("I3", "One request, one order", &identity::one_request_one_order),
        with_both("I4", "Routing is true", &|finding, users| {
            for row in &users.orders {
                identity::routing(finding, row, slot_hash, Dimension::User);
                // The table that knows it may have been read before it was there.
                if quiet || row.updated_at_ms < users.read_at_ms - READ_MARGIN_MS {
                    identity::is_mapped(finding, users, row, slot_hash);
                }
            }
            for row in merchants.into_iter().flat_map(|merchants| &merchants.orders) {
                identity::routing(finding, row, slot_hash, Dimension::Merchant);
            }
        }),
        with_both("I5", "Both dimensions agree", &|finding, users| {
            if let Ok(merchants) = merchants {
                dimensions::agree(finding, users, &merchants.orders, slot_hash, quiet);
            }
        }),
        with_users("I6", "Legal life", &legal_life),
        with_users("I7", "Terminals stay", &terminals_stay),
        match books.money() {
            Ok(money) => {
                let mut finding = Finding::new("I9", "Books balance");
                money.balance(&mut finding);
                finding
            }
            Err(why) => Finding::unknown("I9", "Books balance", why),
        },
        with_money("I10", "Escrow identity", &|finding, users, money| money.escrow(finding, users, quiet)),
        match (&books.requests, &books.wallets) {
            (Ok(requests), Ok(wallets)) => {
                with_users("I11", "Paid and cancelled means refunded, once", &|finding, users| {
                    money::refunded_once(finding, users, requests);
                    if quiet {
                        money::refunds_arrive(finding, users, wallets);
                    }
                })
            }
            (Err(why), _) | (_, Err(why)) => Finding::unknown("I11", "Paid and cancelled means refunded, once", why),
        },
        with_money("I12", "Settlement only after completion", &|finding, users, money| {
            money.settled_after_completion(finding, users);
        }),
        match &books.coupons {
            Ok(rows) => with_users("I13", "A coupon is used at most once", &|finding, users| {
                coupons::used_once(finding, users, rows, quiet);
            }),
            Err(why) => Finding::unknown("I13", "A coupon is used at most once", why),
        },
        match &books.stock {
            Ok(stock) => with_users("I14", "Stock identity", &|finding, users| {
                stock::identity(finding, users, stock, quiet);
            }),
            Err(why) => Finding::unknown("I14", "Stock identity", why),
        },
        match merchants {
            Ok(merchants) => {
                let mut finding = Finding::new("I15", "Kitchen numbers are unique");
                identity::kitchen_numbers(&mut finding, &merchants.orders);
                if let (Some(history), true) = (history, quiet) {
                    identity::kitchen_gaps(&mut finding, merchants, history.creates_not_ok());
                }
                finding
            }
            Err(why) => Finding::unknown("I15", "Kitchen numbers are unique", why),
        },
        with_events("I16", "Every event reaches every subscriber or is a dead letter", &|finding, _, told, bus| {
            // What is on its way is the matter of I24.
            if quiet {
                events::nothing_lost(finding, told, bus);
            }
        }),
        with_events("I17", "Effects happen once", &events::effects_once),
        with_events("I18", "No ghost events", &events::no_ghosts),
        with_events("I19", "Events of one thing arrive in order", &|finding, _, _, bus| events::in_order(finding, bus)),
        match &books.locks {
            Ok(history) => {
                let mut finding = Finding::new("I21", "Lock safety and liveness");
                locks::safety(&mut finding, history);
                finding
            }
            Err(why) => Finding::unknown("I21", "Lock safety and liveness", why),
        },
        match &books.cached {
            Ok(cached) => with_users("I22", "Caches are coherent", &|finding, users| {
                cache::coherent(finding, users, cached);
                if let Some(history) = history {
                    cache::own_writes_are_read(finding, history);
                }
            }),
            Err(why) => Finding::unknown("I22", "Caches are coherent", why),
        },
        match &books.sides {
            Ok(sides) => with_users("I23", "Both sides of the migration agree", &|finding, users| {
                let moving_since_ms = (!quiet).then_some(users.read_at_ms - READ_MARGIN_MS);
                if let Some(sides) = sides {
                    migration::parity(finding, sides, moving_since_ms);
                }
            }),
            Err(why) => Finding::unknown("I23", "Both sides of the migration agree", why),
        },
        match &books.watched {
            Ok(watched) => {
                let mut finding = registry::finding();
                registry::check(&mut finding, &watched.looks);
                finding
            }
            Err(why) => Finding { verdict: Verdict::Unknown, examples: vec![why.clone()], ..registry::finding() },
        },
        liveness::check(books, &design.timers, quiet),
        match (&books.virtual_goods, &books.wallets) {
            (Ok(goods), Ok(wallets)) => with_users("I25", "Virtual goods are delivered once", &|finding, users| {
                virtual_goods::check(finding, goods, wallets, users.read_at_ms, quiet);
                if let Some(history) = history {
                    promises::virtual_orders_survive(finding, goods, history);
                }
            }),
            (Err(why), _) | (_, Err(why)) => Finding::unknown("I25", "Virtual goods are delivered once", why),
        },
        with_users("I26", "Price truth", &price_truth),
        match merchants {
            Ok(merchants) => {
                let mut finding = Finding::new("C1", "Kitchens counted what they printed");
                identity::counted(&mut finding, merchants);
                finding
            }
            Err(why) => Finding::unknown("C1", "Kitchens counted what they printed", why),
        },
        match merchants {
            Ok(merchants) => {
                with_money("C2", "What restaurants sold is settled or in escrow", &|finding, users, money| {
                    if quiet {
                        money.sales_by_restaurant(finding, users, &merchants.orders);
                    }
                })
            }
            Err(why) => Finding::unknown("C2", "What restaurants sold is settled or in escrow", why),
        },
        with_money("C3", "What came in went out or is in escrow", &|finding, users, money| {
            if quiet {
                money.in_and_out(finding, users);
            }
        }),
        with_events("C5", "Of each kind: marks, events, copies", &|finding, users, told, bus| {
            if quiet {
                told::marks_events_copies(finding, users, told, bus);
            }
        }),
    ]
}

fn events_by_order(users: &UserDimension) -> BTreeMap<i64, Vec<&EventRow>> {
    let mut lives: BTreeMap<i64, Vec<&EventRow>> = BTreeMap::new();
    for event in &users.events {
        lives.entry(event.order_id).or_default().push(event);
    }
    for life in lives.values_mut() {
        life.sort_by_key(|event| event.version);
    }
    lives
}

fn legal_life(finding: &mut Finding, users: &UserDimension) {
    let lives = events_by_order(users);
    for row in &users.orders {
        finding.checked += 1;
        let life = lives.get(&row.order_id).map_or(&[][..], Vec::as_slice);
        if let Some(why) = flaw(row, life) {
            finding.violate(|| format!("order {}: {why}", row.order_id));
        }
    }
    let known: HashSet<i64> = users.orders.iter().map(|row| row.order_id).collect();
    for order_id in lives.keys().filter(|order_id| !known.contains(order_id)) {
        finding.violate(|| format!("order {order_id} has events and no row"));
    }
}

fn flaw(row: &OrderRow, life: &[&EventRow]) -> Option<String> {
    let mut at = None;
    for (event, version) in life.iter().zip(1..) {
        if event.version != version {
            return Some(format!("event {version} is missing"));
        }
        if event.from != at {
            return Some(format!("event {version} starts at {:?}, not at {at:?}", event.from));
        }
        let from = event.from.and_then(Status::from_code);
        let legal = Status::from_code(event.to).is_some_and(|to| lifecycle::is_legal(from, to));
        if !legal {
            return Some(format!("event {version} goes from {at:?} to {}", event.to));
        }
        at = Some(event.to);
    }
    if (at, life.len() as i64) != (Some(row.status), row.version) {
        return Some(format!(
            "the row has status {} and version {}, its {} events end at {at:?}",
            row.status,
            row.version,
            life.len()
        ));
    }
    None
}

fn terminals_stay(finding: &mut Finding, users: &UserDimension) {
    for event in &users.events {
        finding.checked += 1;
        let from = event.from.and_then(Status::from_code);
        let left = from.is_some_and(Status::is_dead)
            || (from == Some(Status::Completed) && event.to != Status::Completed.code());
        if left {
            finding.violate(|| format!("order {} left {:?} for {}", event.order_id, event.from, event.to));
        }
    }
}

fn price_truth(finding: &mut Finding, users: &UserDimension) {
    let mut quotes: HashMap<i64, (u64, i64)> = HashMap::new();
    for event in users.events.iter().filter(|event| event.from.is_none()) {
        if let Some(quote) = event.quote {
            quotes.insert(event.order_id, quote);
        }
    }
    let mut shown: HashMap<u64, i64> = HashMap::new();
    for row in &users.orders {
        finding.checked += 1;
        let total = row.items_fen + row.delivery_fee_fen - row.discount_fen;
        if total != row.total_fen || row.lines_fen != row.items_fen {
            finding.violate(|| {
                format!(
                    "order {} costs {} fen, its parts {total}; its dishes {} fen, its lines {}",
                    row.order_id, row.total_fen, row.items_fen, row.lines_fen
                )
            });
        }
        // An order without a creation is the matter of I6.
        let Some((quote, quoted_fen)) = quotes.get(&row.order_id) else { continue };
        if *quoted_fen != row.total_fen {
            finding.violate(|| {
                format!("order {} costs {} fen and was quoted at {quoted_fen}", row.order_id, row.total_fen)
            });
        } else if shown.insert(*quote, *quoted_fen).is_some_and(|other| other != *quoted_fen) {
            finding.violate(|| format!("quote {quote:016x} of order {} has shown several totals", row.order_id));
        }
    }
}
