//! The way of refunds, and the canary on it: a refund of nothing that goes where all refunds go. A path that is needed
//! seldom is broken by a change elsewhere, and everybody who takes something there still says yes; so what counts is
//! what has arrived.

use std::fmt::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::time::Duration;

use serde_json::Value;
use tokio_util::sync::CancellationToken;

use crate::config::now_ms;
use crate::orders::service::Orders;
use crate::roles::eus::{self, CanarySeen};
use crate::rpc::{Budget, CallError};

/// Where the user service settles payments.
pub(super) const WALLET: &str = "/wallet/settle";
/// Where refunds went in its first version.
const FIRST_INTAKE: &str = "/wallet/refunds";

/// How often the canary flies.
const EVERY: Duration = Duration::from_secs(5);
/// The time for a flight.
const FLIGHT: Duration = Duration::from_secs(2);
/// Without an arrival for so long, whatever the reason, there is an alarm: three flights, and a bit.
const SILENCE_MS: i64 = 18_000;

/// Where refunds are sent.
pub(super) fn way_of_refunds(orders: &Orders) -> &'static str {
    if orders.caller.in_force().refunds_go_astray { FIRST_INTAKE } else { WALLET }
}

/// The canary, and what became of its flights.
pub(super) struct Canary {
    orders: Orders,
    instance: String,
    alarm: AtomicBool,
    /// When one arrived, or when there was nothing to wait for; in milliseconds since 1970.
    well_at_ms: AtomicI64,
}

impl Canary {
    pub(super) fn new(orders: Orders, instance: &str) -> Self {
        let instance = instance.to_owned();
        Self { orders, instance, alarm: AtomicBool::new(false), well_at_ms: AtomicI64::new(now_ms()) }
    }

    /// Flies until told to stop.
    pub(super) async fn run(self: Arc<Self>, stop: CancellationToken) {
        loop {
            tokio::select! {
                () = tokio::time::sleep(EVERY) => {}
                () = stop.cancelled() => return,
            }
            if !self.orders.caller.in_force().refund_canary {
                self.is_well();
                continue;
            }
            match self.fly().await {
                Ok(true) => self.is_well(),
                Ok(false) => self.raise("what is sent is taken and does not arrive"),
                Err(error) if now_ms() - self.well_at_ms.load(Ordering::Relaxed) > SILENCE_MS => {
                    self.raise(&error.to_string());
                }
                // A service that is away for a moment loses nothing: refunds wait, too.
                Err(error) => tracing::debug!(%error, "no canary has flown"),
            }
        }
    }

    /// Whether it arrived.
    async fn fly(&self) -> Result<bool, CallError> {
        let (round, budget) = (now_ms(), Budget::of(FLIGHT));
        let caller = &self.orders.caller;
        let _: Value = caller.post("eus", way_of_refunds(&self.orders), &[eus::canary(round)], &budget).await?;
        let seen: CanarySeen = caller.get("eus", "/wallet/canary", &budget).await?;
        Ok(seen.round >= round)
    }

    fn is_well(&self) {
        self.well_at_ms.store(now_ms(), Ordering::Relaxed);
        if self.alarm.swap(false, Ordering::Relaxed) {
            tracing::info!(instance = self.instance, "the alarm about refunds is over");
        }
    }

    fn raise(&self, why: &str) {
        if !self.alarm.swap(true, Ordering::Relaxed) {
            let way = way_of_refunds(&self.orders);
            tracing::error!(instance = self.instance, way, why, "refunds do not reach their users");
        }
    }

    /// The lines of `/metrics`.
    pub(super) fn write(&self, out: &mut String) {
        let alarm = u8::from(self.alarm.load(Ordering::Relaxed));
        let age_s = (now_ms() - self.well_at_ms.load(Ordering::Relaxed)) as f64 / 1_000.0;
        let instance = &self.instance;
        // Writing to a String cannot fail.
        let _ =
            writeln!(out, "# TYPE refund_canary_alarm gauge\nrefund_canary_alarm{{instance=\"{instance}\"}} {alarm}");
        let name = "refund_canary_age_seconds";
        let _ = writeln!(out, "# TYPE {name} gauge\n{name}{{instance=\"{instance}\"}} {age_s:.3}");
    }
}
