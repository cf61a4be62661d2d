//! The dead letters of a consumer's queue, for people: looked at, and put back once their cause is mended.

use axum::extract::State;
use axum::routing::{get, post};
use axum::{Json, Router};
use serde::{Deserialize, Serialize};

use super::{Bus, BusError, Message};
use crate::extract::Ask;
use crate::rpc::Failure;

/// The most letters that one request puts back.
const MOST: u64 = 1_000;
/// The most letters in an answer.
const SHOWN: usize = 100;

#[derive(Clone)]
struct Letters {
    bus: Bus,
    queue: &'static str,
}

/// What a look shows.
#[derive(Debug, Serialize)]
struct Shown {
    queue: &'static str,
    dead: usize,
    /// The oldest of them.
    letters: Vec<Message>,
}

#[derive(Debug, Serialize)]
struct Replayed {
    queue: &'static str,
    replayed: u64,
}

#[derive(Debug, Deserialize)]
struct Limit {
    limit: Option<u64>,
}

impl From<BusError> for Failure {
    fn from(error: BusError) -> Self {
        Self::unavailable("bus_away", error.to_string())
    }
}

/// `GET /dead-letters` and `POST /dead-letters/replay` of a consumer's role.
pub(crate) fn routes(bus: Bus, queue: &'static str) -> Router {
    Router::new()
        .route("/dead-letters", get(show))
        .route("/dead-letters/replay", post(replay))
        .with_state(Letters { bus, queue })
}

async fn show(State(letters): State<Letters>) -> Result<Json<Shown>, Failure> {
    let mut dead = letters.bus.dead_letters(letters.queue).await?;
    let count = dead.len();
    dead.truncate(SHOWN);
    Ok(Json(Shown { queue: letters.queue, dead: count, letters: dead }))
}

/// Puts dead letters back into their queue, as if they had never failed.
async fn replay(State(letters): State<Letters>, Ask(Limit { limit }): Ask<Limit>) -> Result<Json<Replayed>, Failure> {
    let limit = limit.unwrap_or(MOST);
    if !(1..=MOST).contains(&limit) {
        return Err(Failure::invalid(format!("limit is 1 to {MOST}")));
    }
    let replayed = letters.bus.replay(letters.queue, limit).await?;
    Ok(Json(Replayed { queue: letters.queue, replayed }))
}
