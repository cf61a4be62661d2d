//! Money in the audit: both books as one ledger, and the invariants and cross sums over it.

use std::collections::{BTreeMap, HashMap, HashSet};

use super::Finding;
use super::books::{
    LedgerLine, OrderRow, RefundRow, RequestRow, SettlementBook, SettlementRow, UserDimension, Wallets,
};
use crate::orders::REFUND_SUCCEEDED;
use crate::orders::change::{MoneyState, RefundSource};
use crate::orders::lifecycle::Status;
use crate::population::OPENING_WALLET_FEN;
use crate::roles::ledger::SUBSIDY;

const OK: i64 = MoneyState::Ok as i64;
const FROM_ESCROW: i64 = RefundSource::Escrow as i64;

/// The two books.
pub(crate) struct Money<'a> {
    pub(crate) wallets: &'a Wallets,
    pub(crate) settled: &'a SettlementBook,
}

type Sums = HashMap<i64, i64>;

fn sum_by_order(rows: impl Iterator<Item = (i64, i64)>) -> Sums {
    let mut sums = Sums::new();
    for (order, amount) in rows {
        *sums.entry(order).or_default() += amount;
    }
    sums
}

fn of(sums: &Sums, order: i64) -> i64 {
    sums.get(&order).copied().unwrap_or(0)
}

fn paid(users: &UserDimension) -> Sums {
    sum_by_order(users.payments.iter().filter(|row| row.state == OK).map(|row| (row.order_id, row.amount_fen)))
}

fn refunded(users: &UserDimension, which: impl Fn(&RefundRow) -> bool) -> Sums {
    let done = users.refunds.iter().filter(|row| row.state == OK && which(row));
    sum_by_order(done.map(|row| (row.order_id, row.amount_fen)))
}

fn is_dead(row: &OrderRow) -> bool {
    Status::from_code(row.status).is_some_and(Status::is_dead)
}

impl Money<'_> {
    fn lines(&self) -> impl Iterator<Item = &LedgerLine> {
        self.wallets.ledger.iter().chain(&self.settled.ledger)
    }

    fn open_escrow(&self) -> Sums {
        sum_by_order(self.lines().filter_map(|(_, account, amount)| {
            let order = account.strip_prefix("escrow:")?.parse().ok()?;
            Some((order, *amount))
        }))
    }

    fn settlements(&self) -> HashMap<i64, &SettlementRow> {
        self.settled.settlements.iter().map(|row| (row.order_id, row)).collect()
    }

    /// I9.
    pub(super) fn balance(&self, finding: &mut Finding) {
        let mut users: HashMap<&str, i64> = HashMap::new();
        for book in [&self.wallets.ledger, &self.settled.ledger] {
            let mut transactions: BTreeMap<&str, i64> = BTreeMap::new();
            for (transaction, account, amount) in book {
                *transactions.entry(transaction).or_default() += amount;
                *users.entry(account).or_default() += amount;
            }
            for (transaction, sum) in transactions {
                finding.checked += 1;
                if sum != 0 {
                    finding.violate(|| format!("transaction {transaction} sums to {sum} fen"));
                }
            }
        }
        for (user, balance) in &self.wallets.balances {
            finding.checked += 1;
            let moved = users.get(format!("user:{user}").as_str()).copied().unwrap_or(0);
            if OPENING_WALLET_FEN + moved != *balance {
                finding.violate(|| {
                    format!("user {user} has {balance} fen; opening and ledger give {}", OPENING_WALLET_FEN + moved)
                });
            }
        }
    }

    /// I10.
    pub(super) fn escrow(&self, finding: &mut Finding, users: &UserDimension, quiet: bool) {
        let mut escrow = self.open_escrow();
        let (paid, refunded) = (paid(users), refunded(users, |row| row.source == FROM_ESCROW));
        let settlements = self.settlements();
        for row in &users.orders {
            let id = row.order_id;
            let held = escrow.remove(&id).unwrap_or(0);
            if users.in_motion.contains(&id) {
                continue;
            }
            finding.checked += 1;
            if held < 0 {
                finding.violate(|| format!("order {id} (status {}) has {held} fen in escrow", row.status));
                continue;
            }
            if !quiet {
                // Orders move while several stores are read.
                continue;
            }
            let (paid, refunded) = (of(&paid, id), of(&refunded, id));
            // The coupon's discount came with the payment and goes back with it.
            let subsidy = |moved: i64| if moved > 0 { row.discount_fen } else { 0 };
            let settled = settlements.get(&id).map_or(0, |settlement| settlement.shares_fen);
            let expected = paid + subsidy(paid) - refunded - subsidy(refunded) - settled;
            if held != expected {
                finding.violate(|| {
                    format!("order {id} has {held} fen in escrow; payment, refund and settlement give {expected}")
                });
            } else if held != 0 && (is_dead(row) || row.settled_at_ms.is_some()) {
                finding.violate(|| format!("order {id} (status {}) has ended with {held} fen in escrow", row.status));
            }
        }
        // Without rest, these are orders that were made after the user dimension was read.
        for (order_id, held) in escrow.into_iter().filter(|(_, held)| quiet && *held != 0) {
            finding.violate(|| format!("{held} fen are in escrow for order {order_id}, which is none"));
        }
    }

    /// I12.
    pub(super) fn settled_after_completion(&self, finding: &mut Finding, users: &UserDimension) {
        let settlements = self.settlements();
        let mut transactions: HashMap<&str, HashSet<&str>> = HashMap::new();
        for (transaction, account, _) in &self.settled.ledger {
            if account.starts_with("escrow:") {
                transactions.entry(account).or_default().insert(transaction);
            }
        }
        let mut completed: HashMap<i64, i64> = HashMap::new();
        for event in users.events.iter().filter(|event| event.to == Status::Completed.code()) {
            let at_ms = completed.entry(event.order_id).or_insert(event.at_ms);
            *at_ms = event.at_ms.min(*at_ms);
        }
        let paid = paid(users);
        for row in &users.orders {
            finding.checked += 1;
            let id = row.order_id;
            if let Some(settled_at_ms) = row.settled_at_ms {
                match completed.get(&id) {
                    _ if row.status != Status::Completed.code() => {
                        finding.violate(|| format!("order {id} is settled and has status {}", row.status));
                    }
                    Some(at_ms) if *at_ms <= settled_at_ms => {}
                    at_ms => finding
                        .violate(|| format!("order {id} was settled at {settled_at_ms} and completed at {at_ms:?}")),
                }
            }
            let account = format!("escrow:{id}");
            if transactions.get(account.as_str()).is_some_and(|all| all.len() > 1) {
                finding.violate(|| format!("order {id} was settled twice"));
            }
            if let Some(settlement) = settlements.get(&id) {
                let gross = of(&paid, id) + row.discount_fen;
                if settlement.shares_fen != gross || settlement.gross_fen != gross {
                    finding.violate(|| {
                        format!("order {id} brought {gross} fen and was settled with {}", settlement.shares_fen)
                    });
                }
            }
        }
    }

    /// C2, at rest: payment and subsidy of what each restaurant has completed are settled or still in escrow.
    pub(super) fn sales_by_restaurant(&self, finding: &mut Finding, users: &UserDimension, merchants: &[OrderRow]) {
        let done = |row: &&OrderRow| row.status == Status::Completed.code();
        let sold = sum_by_order(
            merchants.iter().filter(done).map(|row| (row.restaurant_id, row.total_fen + row.discount_fen)),
        );
        let escrow = self.open_escrow();
        let open = users.orders.iter().filter(done).map(|row| (row.restaurant_id, of(&escrow, row.order_id)));
        let settled = self.settled.settlements.iter().map(|row| (row.restaurant_id, row.gross_fen));
        let booked = sum_by_order(open.chain(settled));
        let restaurants: HashSet<&i64> = sold.keys().chain(booked.keys()).collect();
        for restaurant in restaurants {
            finding.checked += 1;
            let (sold, booked) = (of(&sold, *restaurant), of(&booked, *restaurant));
            if sold != booked {
                finding.violate(|| format!("restaurant {restaurant} sold for {sold} fen; the books have {booked}"));
            }
        }
    }

    /// C3, at rest.
    pub(super) fn in_and_out(&self, finding: &mut Finding, users: &UserDimension) {
        finding.checked += 1;
        let mut subsidy = [0, 0];
        for (_, _, amount) in self.lines().filter(|(_, account, _)| **account == *SUBSIDY) {
            subsidy[usize::from(*amount > 0)] += amount.abs();
        }
        let total = |sums: Sums| sums.values().sum::<i64>();
        let came_in = total(paid(users)) + subsidy[0];
        let refunds = total(refunded(users, |row| row.source == FROM_ESCROW)) + subsidy[1];
        let settled: i64 = self.settled.settlements.iter().map(|row| row.shares_fen).sum();
        let open = total(self.open_escrow());
        if came_in != refunds + settled + open {
            finding.violate(|| {
                format!("{came_in} fen came in; {refunds} went back, {settled} were settled, {open} are in escrow")
            });
        }
    }
}

/// I11, of the wallets, at rest: what the book calls a refund of a payment has come to its user. That there is one at all
/// is the matter of I10.
pub(super) fn refunds_arrive(finding: &mut Finding, users: &UserDimension, wallets: &Wallets) {
    let mut arrived: HashMap<&str, i64> = HashMap::new();
    for (transaction, account, amount) in &wallets.ledger {
        let payment = transaction.strip_suffix(":refund").or_else(|| transaction.strip_suffix(":release"));
        if let Some(payment) = payment {
            let came = arrived.entry(payment).or_default();
            *came += if account.starts_with("user:") { *amount } else { 0 };
        }
    }
    let done = |row: &&RefundRow| row.state == OK && row.source == FROM_ESCROW;
    for refund in users.refunds.iter().filter(done).filter(|row| !users.in_motion.contains(&row.order_id)) {
        let Some(came) = arrived.get(refund.payment_id.as_str()) else { continue };
        finding.checked += 1;
        if *came != refund.amount_fen {
            finding.violate(|| {
                format!(
                    "order {}: a refund of {} fen is done, and {came} fen came to the user's wallet",
                    refund.order_id, refund.amount_fen
                )
            });
        }
    }
}

/// I11.
pub(super) fn refunded_once(finding: &mut Finding, users: &UserDimension, requests: &[RequestRow]) {
    let (paid, refunded) = (paid(users), refunded(users, |_| true));
    for row in &users.orders {
        if users.in_motion.contains(&row.order_id) {
            continue;
        }
        finding.checked += 1;
        let (paid, refunded) = (of(&paid, row.order_id), of(&refunded, row.order_id));
        if (is_dead(row) && paid != refunded) || refunded > paid {
            finding.violate(|| {
                format!("order {} (status {}): paid {paid} fen, refunded {refunded} fen", row.order_id, row.status)
            });
        }
    }
    let payments: HashSet<&str> = users.payments.iter().map(|row| row.payment_id.as_str()).collect();
    for refund in users.refunds.iter().filter(|row| !payments.contains(row.payment_id.as_str())) {
        finding.violate(|| format!("a refund of {} has no payment", refund.payment_id));
    }
    // What the reverse flow calls done must have reached the user.
    let done = |row: &&RequestRow| row.state == REFUND_SUCCEEDED && row.mirrored;
    let promised = sum_by_order(requests.iter().filter(done).map(|row| (row.order_id, row.amount_fen)));
    for row in requests.iter().filter(done) {
        finding.checked += 1;
        let (promised, refunded) = (of(&promised, row.order_id), of(&refunded, row.order_id));
        if promised > refunded {
            finding.violate(|| {
                format!(
                    "refund {} of order {} has succeeded: {promised} fen were granted, {refunded} given back",
                    row.refund_no, row.order_id
                )
            });
        }
    }
}
