//! Carrying out a step from one phase to another: stances of the stores, the hand-over of what waits, the switch. Every
//! part can be done again, and is, when whoever did it was killed.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use http::Method;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use serde_json::Value;
use tokio::time::Instant;

use super::endpoints::{Changed, Done, StoreState, Unsent};
use super::stance::Stance;
use super::{OLD_STORE, Phase, ROLE, Side};
use crate::rpc::caller::exchange;
use crate::rpc::{Budget, CallError, Caller};
use crate::store::outbox::Waiting;

/// How long a store or the registry may take.
const CALL: Duration = Duration::from_secs(2);
/// How long orders wait at most for the last writes to reach the other side.
const DRAIN: Duration = Duration::from_secs(2);
const POLL: Duration = Duration::from_millis(10);
/// Rows of an outbox that are handed over at once.
const ROWS: usize = 500;

/// Why a part was not done; it is tried again.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Stuck {
    #[error("{store} does not follow: {error}")]
    Store { store: &'static str, error: CallError },
    #[error("the registry does not take the phase")]
    Registry,
}

/// How a hand-over went.
pub(crate) enum Handed {
    /// The other side has everything and may decide.
    Over,
    /// The side that decided goes on deciding.
    GivenUp(String),
}

/// What it takes to carry out a step.
#[derive(Clone)]
pub(crate) struct Crossing {
    pub(crate) caller: Caller,
    pub(crate) registry: SocketAddr,
    pub(crate) client: Client<HttpConnector, http_body_util::Full<Bytes>>,
}

impl Crossing {
    /// To a phase in which the same side decides. Gives the moment from which the old side follows it.
    ///
    /// A side that is to take copies knows of it before the other one hands any out.
    pub(crate) async fn go(&self, from: Phase, to: Phase) -> Result<i64, Stuck> {
        let sides = if to > from { [Side::New, Side::Old] } else { [Side::Old, Side::New] };
        let mut at_ms = 0;
        for side in sides {
            let changed = self.set_stances(side, Stance { phase: to, fenced: false }).await?;
            if side == Side::Old {
                at_ms = changed;
            }
        }
        if to == Phase::P6 {
            let dropped = self.caller.post(OLD_STORE, "/migration/drop", &(), &Budget::of(CALL)).await;
            let _: Value = dropped.map_err(|error| Stuck::Store { store: OLD_STORE, error })?;
        }
        self.set_switch(to).await?;
        Ok(at_ms)
    }

    /// Stops the side that decides, and hands everything over. `drain`: only if the other side has every write.
    pub(crate) async fn hand_over(&self, phase: Phase, drain: bool) -> Result<Handed, Stuck> {
        match self.fence_and_hand_over(phase.decider(), phase, drain).await {
            Ok(()) => Ok(Handed::Over),
            Err(why) => {
                self.set_stances(phase.decider(), Stance { phase, fenced: false }).await?;
                Ok(Handed::GivenUp(why))
            }
        }
    }

    async fn fence_and_hand_over(&self, from: Side, phase: Phase, drain: bool) -> Result<(), String> {
        let failed = |stuck: Stuck| stuck.to_string();
        self.set_stances(from, Stance { phase, fenced: true }).await.map_err(failed)?;
        if drain {
            self.drained(from).await?;
        }
        for store in from.stores() {
            self.hand_over_outbox(store, from.other()).await.map_err(failed)?;
        }
        Ok(())
    }

    /// Waits until the other side has every write.
    async fn drained(&self, from: Side) -> Result<(), String> {
        let deadline = Instant::now() + DRAIN;
        loop {
            let mut left = 0;
            for store in from.stores() {
                let state: StoreState = self.ask(store, "/migration/state").await.map_err(|stuck| stuck.to_string())?;
                left += state.log;
            }
            if left == 0 {
                return Ok(());
            }
            if Instant::now() >= deadline {
                return Err(format!("{left} writes did not reach the other side within {DRAIN:?}"));
            }
            tokio::time::sleep(POLL).await;
        }
    }

    /// What the bus was not told yet is told by the side that takes over, before anything that comes later.
    async fn hand_over_outbox(&self, from: &'static str, to: Side) -> Result<(), Stuck> {
        loop {
            let unsent: Vec<Unsent> = self.ask(from, &format!("/migration/outbox?limit={ROWS}")).await?;
            if unsent.is_empty() {
                return Ok(());
            }
            let sent = unsent.iter().map(|unsent| unsent.row.outbox_id).collect();
            let mut by_store: BTreeMap<&'static str, Vec<Waiting>> = BTreeMap::new();
            for Unsent { group, row } in unsent {
                by_store.entry(to.store(group)).or_default().push(row);
            }
            for (store, rows) in by_store {
                let _: Value = self.tell(store, "/migration/outbox", &rows).await?;
            }
            let _: Value = self.tell(from, "/migration/outbox/done", &Done { sent }).await?;
        }
    }

    /// Lets the other side decide, once it has everything.
    pub(crate) async fn open(&self, to: Phase) -> Result<(), Stuck> {
        let stance = Stance { phase: to, fenced: false };
        self.set_stances(to.decider(), stance).await?;
        self.set_stances(to.decider().other(), stance).await?;
        self.set_switch(to).await
    }

    /// Gives the latest moment of change.
    async fn set_stances(&self, side: Side, stance: Stance) -> Result<i64, Stuck> {
        let mut at_ms = 0;
        for store in side.stores() {
            let changed: Changed = self.tell(store, "/migration/stance", &stance).await?;
            at_ms = at_ms.max(changed.at_ms);
        }
        Ok(at_ms)
    }

    async fn ask<T: serde::de::DeserializeOwned>(&self, store: &'static str, path: &str) -> Result<T, Stuck> {
        self.caller.get(store, path, &Budget::of(CALL)).await.map_err(|error| Stuck::Store { store, error })
    }

    async fn tell<B: serde::Serialize + Sync, T: serde::de::DeserializeOwned>(
        &self,
        store: &'static str,
        path: &str,
        body: &B,
    ) -> Result<T, Stuck> {
        self.caller.post(store, path, body, &Budget::of(CALL)).await.map_err(|error| Stuck::Store { store, error })
    }

    /// Tells every instance whom to ask first.
    pub(crate) async fn set_switch(&self, phase: Phase) -> Result<(), Stuck> {
        let uri = format!("http://{}/switch/mig.phase?by={ROLE}", self.registry);
        let body = Bytes::from(format!("\"{phase}\""));
        let put = exchange(&self.client, Method::PUT, &uri, body, |_| {});
        match tokio::time::timeout(CALL, put).await {
            Ok(Ok((status, _))) if status.is_success() => Ok(()),
            _ => Err(Stuck::Registry),
        }
    }
}
