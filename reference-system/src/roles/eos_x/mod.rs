//! The asynchronous pool of the order service: drives task rows until each has succeeded, relays the orders' events,
//! and keeps timers.
//!
//! One driver per store of the user dimension. A round takes the tasks that are due, brings the
//! merchant dimension up to date first, then does everything else, and writes the outcome (new
//! transitions, finished and postponed tasks) in one transaction.

mod canary;
mod orphans;
mod timers;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use self::canary::Canary;
use self::timers::Reminders;
use super::blink::Job;
use super::eps::{CouponSettlement, CouponStep};
use super::eus::{AfterSales, Settlement, WalletStep};
use super::ledger::Escrow;
use super::st_u::TaskOutcome;
use crate::bus::relay::{Outbox, Relay};
use crate::bus::{dead_letters, topology};
use crate::config::now_ms;
use crate::frame::{Frame, RoleError};
use crate::ids::OrderId;
use crate::migration::routing::stores_with_work;
use crate::orders::change::{Change, TaskKind};
use crate::orders::lifecycle::{Status, Trigger};
use crate::orders::plan::{self, Refusal};
use crate::orders::service::Orders;
use crate::orders::{ASSIGNED, Order};
use crate::rpc::{Budget, CallError};
use crate::store::slips::{NumberAnswer, NumberRequest};
use crate::store::tasks::{DueTask, Retry};

/// The name of the store of timers.
pub(crate) const STORE: &str = "timers";
/// Its name in the inbox.
pub(crate) const CONSUMER: &str = "eos-x";

/// The most tasks in a round.
const ROUND: usize = 100;
/// How long the store may hold the question for due tasks.
const POLL: Duration = Duration::from_secs(1);
/// The time for the calls of a round.
const ROUND_BUDGET: Duration = Duration::from_secs(2);
/// The longest pause before a failed task is tried again.
const LONGEST_PAUSE_MS: i64 = 2_000;
const DAY_MS: i64 = 86_400_000;

pub(super) async fn run(frame: Frame) -> Result<(), RoleError> {
    let orders = Orders { caller: frame.caller.clone(), config: Arc::clone(&frame.config) };
    let finished = Arc::new(AtomicU64::new(0));
    let bus = frame.bus();
    for store in stores_with_work(&frame.config) {
        let driver = Driver { orders: orders.clone(), store, finished: Arc::clone(&finished) };
        frame.tracker.spawn(driver.run(frame.stop.clone()));
        let outbox = Outbox::Of { caller: frame.caller.clone(), service: store };
        let relay = Relay { outbox, directory: frame.directory(), bus: bus.clone() };
        frame.tracker.spawn(relay.run(frame.stop.clone()));
    }
    let store = frame.open_store(STORE, timers::SCHEMA).await?;
    let mut subscription = frame.subscription(topology::TIMER, CONSUMER, &store, timers::effect(frame.config.timers));
    subscription.hold = Some(timers::hold(frame.config.timers));
    let (letters, counts) = (subscription.bus.clone(), Arc::clone(&subscription.counts));
    frame.tracker.spawn(subscription.run(frame.stop.clone()));
    frame.tracker.spawn(Reminders { orders: orders.clone(), store }.run(frame.stop.clone()));
    let canary = Arc::new(Canary::new(orders.clone(), &frame.plan.instance));
    frame.tracker.spawn(Arc::clone(&canary).run(frame.stop.clone()));
    frame.tell_more(Box::new(move |out| canary.write(out)));
    frame.tracker.spawn(orphans::sweep(orders, frame.stop.clone()));
    let describe =
        Box::new(move || json!({ "tasks_finished": finished.load(Ordering::Relaxed), "timers": counts.describe() }));
    let needs = ["st-u0", "st-u1", "st-r0", "st-r1", "eus", "ers", "eps", "pay", "ledger", "blink"];
    let prepare = async {
        frame.wait_for(&needs).await;
        frame.wait_for_bus(&bus).await;
    };
    frame.serve(dead_letters::routes(letters, topology::TIMER), describe, prepare).await
}

struct Driver {
    orders: Orders,
    store: &'static str,
    finished: Arc<AtomicU64>,
}

impl Driver {
    async fn run(self, stop: CancellationToken) {
        let pause = Duration::from_millis(self.orders.config.task_round_ms);
        loop {
            let next = Instant::now() + pause;
            tokio::select! {
                () = self.round() => {}
                // A round cut short is done again by the next driver.
                () = stop.cancelled() => return,
            }
            tokio::select! {
                () = tokio::time::sleep_until(next) => {}
                () = stop.cancelled() => return,
            }
        }
    }

    async fn round(&self) {
        let store = self.store;
        let path = format!("/tasks?limit={ROUND}&wait_ms={}", POLL.as_millis());
        let long_poll = Budget::of_long_poll(ROUND_BUDGET, POLL);
        let tasks: Vec<DueTask> = match self.orders.caller.get(store, &path, &long_poll).await {
            Ok(tasks) => tasks,
            Err(error) => {
                tracing::debug!(%error, "no tasks");
                return;
            }
        };
        if tasks.is_empty() {
            return;
        }
        let outcome = self.work(&tasks, &Budget::of(ROUND_BUDGET)).await;
        let budget = Budget::of(ROUND_BUDGET);
        let answer: Result<Value, CallError> = self.orders.caller.post(store, "/tasks/settle", &outcome, &budget).await;
        match answer {
            Ok(_) => {
                self.finished.fetch_add(outcome.done.len() as u64, Ordering::Relaxed);
            }
            // The tasks stay due; all of their effects may be repeated.
            Err(error) => tracing::warn!(%error, "the outcome of a round was not taken"),
        }
    }

    async fn work(&self, tasks: &[DueTask], budget: &Budget) -> TaskOutcome {
        let stale = self.copy_rows(tasks, budget).await;
        let ((wallet, refunded), given_back, settled, coupons, sold, released, couriers, kitchen, charges) = tokio::join!(
            self.settle_wallets(tasks, budget),
            self.give_back(tasks, budget),
            self.settle_escrow(tasks, budget),
            self.settle_coupons(tasks, budget),
            self.settle_stock(tasks, TaskKind::StockCommit, "/stock/commit", budget),
            self.settle_stock(tasks, TaskKind::StockRelease, "/stock/release", budget),
            self.find_couriers(tasks, budget),
            self.number(tasks, &stale, budget),
            self.charge_again(tasks, budget),
        );
        let mut round = Round { outcome: TaskOutcome::default(), now_ms: now_ms() };
        for task in tasks {
            let order = &task.order;
            let timers = &self.orders.config.timers;
            let now_ms = round.now_ms;
            match task.kind {
                TaskKind::MerchantRow => {
                    round.finish_if(task, !stale.contains(&order.order_id));
                }
                TaskKind::Capture | TaskKind::ReleaseHold => round.finish_if(task, wallet),
                TaskKind::Refund => {
                    if refunded {
                        round.outcome.changes.extend(plan::refunded(order, now_ms));
                    }
                    round.finish_if(task, refunded);
                }
                TaskKind::AfterSales => {
                    if given_back {
                        round.outcome.changes.extend(plan::refunded(order, now_ms));
                    }
                    round.finish_if(task, given_back);
                }
                TaskKind::Settle => {
                    if settled && plan::may_settle(order) {
                        round.outcome.changes.extend(plan::settled(order, now_ms));
                    }
                    round.finish_if(task, settled);
                }
                TaskKind::CouponUse | TaskKind::CouponReturn => round.finish_if(task, coupons),
                TaskKind::Courier => {
                    if couriers {
                        let change = plan::delivery(order, ASSIGNED, timers, now_ms);
                        round.outcome.changes.extend(change.ok().flatten());
                    }
                    round.finish_if(task, couriers);
                }
                TaskKind::StockCommit => round.finish_if(task, sold),
                TaskKind::StockRelease => round.finish_if(task, released),
                TaskKind::Charge if order.status == Status::Paying => {
                    // Nobody answers for as long as an order may stay unpaid: a late success is given back.
                    let given_up = now_ms - order.updated_at_ms >= timers.unpaid_ms;
                    if given_up || charges.get(&order.order_id) == Some(&Charged::Refused) {
                        let payment = plan::payment_id(order.order_id);
                        let change = plan::payment_result(order, &payment, false, order.total_fen, timers, now_ms);
                        round.outcome.changes.extend(change.ok().flatten());
                        round.finish_if(task, true);
                    } else {
                        // Until the callback has come.
                        round.again(task, now_ms + timers.charge_again_ms);
                    }
                }
                TaskKind::Charge => round.finish_if(task, true),
                TaskKind::Dispatch if order.status == Status::Paid => match kitchen.get(&order.order_id) {
                    Some(kitchen) => {
                        round.step(plan::dispatch(order, *kitchen, timers, now_ms));
                        round.finish_if(task, true);
                    }
                    None => round.finish_if(task, false),
                },
                TaskKind::Dispatch => round.finish_if(task, true),
                TaskKind::CloseUnpaid => round.timer(task, Trigger::UnpaidTimeout, self),
                TaskKind::RejectUnanswered => round.timer(task, Trigger::Reject, self),
                TaskKind::Complete => round.timer(task, Trigger::Complete, self),
            }
        }
        round.outcome
    }

    /// Brings the merchant rows of these orders up to date. Gives those that could not be.
    async fn copy_rows(&self, tasks: &[DueTask], budget: &Budget) -> BTreeSet<OrderId> {
        let mut stores: BTreeMap<&str, BTreeMap<OrderId, &Order>> = BTreeMap::new();
        for task in tasks.iter().filter(|task| task.kind == TaskKind::MerchantRow) {
            let store = self.orders.merchant_store_of(task.order.restaurant_id);
            stores.entry(store).or_default().insert(task.order.order_id, &task.order);
        }
        let copies = stores.into_iter().map(|(store, orders)| async move {
            let rows: Vec<&Order> = orders.values().copied().collect();
            let answer: Result<Value, CallError> = self.orders.caller.post(store, "/orders/apply", &rows, budget).await;
            match answer {
                Ok(_) => Vec::new(),
                Err(error) => {
                    tracing::warn!(%error, rows = rows.len(), "merchant rows wait");
                    orders.into_keys().collect()
                }
            }
        });
        futures::future::join_all(copies).await.into_iter().flatten().collect()
    }

    /// Whether captures and releases were booked, and whether refunds were. What is to be refunded is captured first.
    async fn settle_wallets(&self, tasks: &[DueTask], budget: &Budget) -> (bool, bool) {
        let (mut settlements, mut refunds) = (Vec::new(), Vec::new());
        for task in tasks {
            let (step, list) = match task.kind {
                TaskKind::Capture => (WalletStep::Capture, &mut settlements),
                TaskKind::ReleaseHold => (WalletStep::Return, &mut settlements),
                TaskKind::Refund => (WalletStep::Return, &mut refunds),
                _ => continue,
            };
            if let Some(payment_id) = task.order.payment_id.clone() {
                list.push(Settlement { payment_id, step, subsidy_fen: task.order.discount_fen });
            }
        }
        let settled = self.post_all("eus", canary::WALLET, &settlements, budget).await;
        let way = canary::way_of_refunds(&self.orders);
        (settled, settled && self.post_all("eus", way, &refunds, budget).await)
    }

    /// Merchants pay back what was granted after completion.
    async fn give_back(&self, tasks: &[DueTask], budget: &Budget) -> bool {
        let granted: Vec<AfterSales> = tasks
            .iter()
            .filter(|task| task.kind == TaskKind::AfterSales)
            .map(|task| AfterSales {
                order_id: task.order.order_id,
                user_id: task.order.user_id,
                restaurant_id: task.order.restaurant_id,
                refunded_fen: task.order.refunded_fen,
            })
            .collect();
        self.post_all("eus", "/wallet/after-sales", &granted, budget).await
    }

    /// Merchant, platform and rider get their shares.
    async fn settle_escrow(&self, tasks: &[DueTask], budget: &Budget) -> bool {
        let due: Vec<Escrow> = tasks
            .iter()
            .filter(|task| task.kind == TaskKind::Settle && plan::may_settle(&task.order))
            .map(|task| Escrow {
                order_id: task.order.order_id,
                restaurant_id: task.order.restaurant_id,
                gross_fen: task.order.paid_fen + task.order.discount_fen,
                delivery_fee_fen: task.order.delivery_fee_fen,
            })
            .collect();
        self.post_all("ledger", "/settlements", &due, budget).await
    }

    /// The bridge finds a courier for each meal that has none.
    async fn find_couriers(&self, tasks: &[DueTask], budget: &Budget) -> bool {
        let jobs: Vec<Job> = tasks
            .iter()
            .filter(|task| task.kind == TaskKind::Courier && task.order.delivery_status < ASSIGNED)
            .map(|task| Job { order_id: task.order.order_id, restaurant_id: task.order.restaurant_id })
            .collect();
        self.post_all("blink", "/dispatch", &jobs, budget).await
    }

    async fn settle_coupons(&self, tasks: &[DueTask], budget: &Budget) -> bool {
        let settlements: Vec<CouponSettlement> = tasks
            .iter()
            .filter_map(|task| {
                let step = match task.kind {
                    TaskKind::CouponUse => CouponStep::Use,
                    TaskKind::CouponReturn => CouponStep::Return,
                    _ => return None,
                };
                let coupon_id = task.order.coupon_id?;
                Some(CouponSettlement { coupon_id, order_id: task.order.order_id, step })
            })
            .collect();
        self.post_all("eps", "/coupons/settle", &settlements, budget).await
    }

    async fn settle_stock(&self, tasks: &[DueTask], kind: TaskKind, path: &str, budget: &Budget) -> bool {
        let orders: Vec<OrderId> =
            tasks.iter().filter(|task| task.kind == kind).map(|task| task.order.order_id).collect();
        self.post_all("ers", path, &orders, budget).await
    }

    async fn post_all<T: serde::Serialize + Sync>(
        &self,
        service: &str,
        path: &str,
        items: &[T],
        budget: &Budget,
    ) -> bool {
        if items.is_empty() {
            return true;
        }
        let answer: Result<Value, CallError> = self.orders.caller.post(service, path, &items, budget).await;
        answer.inspect_err(|error| tracing::warn!(%error, path, "settlements wait")).is_ok()
    }

    /// Kitchen numbers for the paid orders whose merchant row is visible.
    async fn number(
        &self,
        tasks: &[DueTask],
        stale: &BTreeSet<OrderId>,
        budget: &Budget,
    ) -> BTreeMap<OrderId, (i64, i64)> {
        let mut stores: BTreeMap<&str, Vec<NumberRequest>> = BTreeMap::new();
        for task in tasks {
            let order = &task.order;
            let wanted = task.kind == TaskKind::Dispatch && order.status == Status::Paid;
            if wanted && !stale.contains(&order.order_id) {
                let store = self.orders.merchant_store_of(order.restaurant_id);
                stores.entry(store).or_default().push(NumberRequest {
                    order_id: order.order_id,
                    user_id: Some(order.user_id),
                    restaurant_id: Some(order.restaurant_id),
                    version: order.version,
                    day: now_ms() / DAY_MS,
                });
            }
        }
        let asked = stores.into_iter().map(|(store, requests)| async move {
            let answer: Result<Vec<NumberAnswer>, CallError> =
                self.orders.caller.post(store, "/numbers", &requests, budget).await;
            answer.inspect_err(|error| tracing::warn!(%error, "dispatch waits")).unwrap_or_default()
        });
        futures::future::join_all(asked)
            .await
            .into_iter()
            .flatten()
            .filter_map(|answer| Some((answer.order_id, answer.kitchen?)))
            .collect()
    }

    async fn charge_again(&self, tasks: &[DueTask], budget: &Budget) -> BTreeMap<OrderId, Charged> {
        let paying = tasks.iter().filter(|task| task.kind == TaskKind::Charge && task.order.status == Status::Paying);
        let charges = paying.map(|task| async move {
            let charged = match self.orders.charge(&task.order, budget).await {
                Ok(()) => Charged::Asked,
                Err(error) if error.status() == Some(http::StatusCode::CONFLICT) => Charged::Refused,
                Err(error) => {
                    tracing::warn!(%error, order = %task.order.order_id, "a charge waits");
                    Charged::Asked
                }
            };
            (task.order.order_id, charged)
        });
        futures::future::join_all(charges).await.into_iter().collect()
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Charged {
    Asked,
    Refused,
}

struct Round {
    outcome: TaskOutcome,
    now_ms: i64,
}

impl Round {
    fn step(&mut self, change: Result<Change, Refusal>) {
        // A refusal says that the order has gone another way.
        self.outcome.changes.extend(change.ok());
    }

    fn timer(&mut self, task: &DueTask, trigger: Trigger, driver: &Driver) {
        let timers = &driver.orders.config.timers;
        self.step(plan::step(&task.order, trigger, timers, self.now_ms));
        self.finish_if(task, true);
    }

    fn finish_if(&mut self, task: &DueTask, succeeded: bool) {
        if succeeded {
            self.outcome.done.push(task.task_id);
        } else {
            self.again(task, self.now_ms + pause_ms(task.attempts));
        }
    }

    fn again(&mut self, task: &DueTask, due_at_ms: i64) {
        self.outcome.retry.push(Retry { task_id: task.task_id, due_at_ms });
    }
}

/// The pause after a failure that follows so many others.
fn pause_ms(attempts: i64) -> i64 {
    (50_i64 << attempts.clamp(0, 10)).min(LONGEST_PAUSE_MS)
}

/// All pauses of a task that has failed so often.
pub(crate) fn pauses_before(attempts: i64) -> i64 {
    const SHORT: i64 = 6;
    let long = (attempts - SHORT).max(0).saturating_mul(LONGEST_PAUSE_MS);
    (0..attempts.min(SHORT)).map(pause_ms).sum::<i64>().saturating_add(long)
}
