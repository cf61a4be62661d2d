//! Which store of the user dimension is asked: by group, and in a system with an old table by phase first. The one place
//! that knows.

use std::time::Duration;

use http::{Method, StatusCode};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::OLD_STORE;
use crate::config::SystemConfig;
use crate::ids::GROUPS;
use crate::orders::service::user_store;
use crate::rpc::{Budget, CallError, Caller, Failure};

/// The code of a store's answer when the other side decides: nothing was done.
pub(crate) const NOT_DECIDING: &str = "not_deciding";
/// Pause when neither side decides, which is so for a moment while one takes over.
const PAUSE: Duration = Duration::from_millis(20);

/// A store's answer when the other side decides.
pub(crate) fn not_deciding() -> Failure {
    let why = "the other side of the migration decides, or is about to; try again";
    Failure::new(StatusCode::MISDIRECTED_REQUEST, NOT_DECIDING, why)
}

/// The stores of the user dimension whose task rows and outboxes are to be worked on.
pub(crate) fn stores_with_work(config: &SystemConfig) -> Vec<&'static str> {
    let old = config.migration.then_some(OLD_STORE);
    (0..GROUPS).map(user_store).chain(old).collect()
}

/// Reads from the store that decides about a group's orders.
pub(crate) async fn get<T: DeserializeOwned>(
    caller: &Caller,
    group: u16,
    path: &str,
    budget: &Budget,
) -> Result<T, CallError> {
    ask_the_decider(caller, group, Method::GET, path, &(), budget).await
}

/// Posts to the store that decides about a group's orders.
pub(crate) async fn post<B: Serialize + Sync, T: DeserializeOwned>(
    caller: &Caller,
    group: u16,
    path: &str,
    body: &B,
    budget: &Budget,
) -> Result<T, CallError> {
    ask_the_decider(caller, group, Method::POST, path, body, budget).await
}

/// Asks first whom the switch names, as this instance knows it, and then the other one: the switch may be older than
/// what the stores know. A refusal for this reason has done nothing, so that asking again is safe.
async fn ask_the_decider<B: Serialize + Sync, T: DeserializeOwned>(
    caller: &Caller,
    group: u16,
    method: Method,
    path: &str,
    body: &B,
    budget: &Budget,
) -> Result<T, CallError> {
    let first = caller.in_force().phase.decider();
    let mut side = first;
    loop {
        let store = side.store(group);
        let answer = if method == Method::GET {
            caller.get(store, path, budget).await
        } else {
            caller.post(store, path, body, budget).await
        };
        match answer {
            Err(CallError::Answer { body, .. }) if body.code == NOT_DECIDING && budget.left() > PAUSE => {}
            answer => return answer,
        }
        side = side.other();
        if side == first {
            tokio::time::sleep(PAUSE).await;
        }
    }
}
