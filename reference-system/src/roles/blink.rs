//! The bridge to couriers: translates between orders and deliveries, forwards, and keeps nothing.

use axum::extract::State;
use axum::routing::post;
use axum::{Json, Router};
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::extract::{At, Body};
use crate::frame::{Frame, RoleError};
use crate::ids::{OrderId, RestaurantId, mix64};
use crate::orders::{ASSIGNED, DELIVERED, Order, PICKED};
use crate::rpc::{Budget, Caller, Failure};

/// How many couriers there are.
const COURIERS: u64 = 500;
/// The most jobs in one request.
const MOST: usize = 1_000;

/// A meal to be fetched.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Job {
    pub(crate) order_id: OrderId,
    pub(crate) restaurant_id: RestaurantId,
}

/// Who fetches it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Assignment {
    pub(crate) order_id: OrderId,
    pub(crate) courier_id: u64,
    pub(crate) delivery_status: i64,
}

/// Where a delivery has come to, as the order service is told.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Delivery {
    pub(crate) order_id: OrderId,
    pub(crate) delivery_status: i64,
}

pub(super) async fn run(frame: Frame) -> Result<(), RoleError> {
    let routes = Router::new()
        .route("/dispatch", post(dispatch))
        .route("/courier/{id}/picked", post(async |caller, budget, at| tell(caller, budget, at, PICKED).await))
        .route("/courier/{id}/done", post(async |caller, budget, at| tell(caller, budget, at, DELIVERED).await))
        .with_state(frame.caller.clone());
    frame.serve(routes, Box::new(|| json!({})), frame.wait_for(&["eos-m"])).await
}

/// Finds a courier for each meal: the same one, however often it is asked.
async fn dispatch(Body(jobs): Body<Vec<Job>>) -> Result<Json<Vec<Assignment>>, Failure> {
    if jobs.len() > MOST {
        return Err(Failure::invalid(format!("at most {MOST} jobs at a time")));
    }
    let assign = |job: Job| Assignment {
        order_id: job.order_id,
        courier_id: mix64(job.order_id.0 as u64) % COURIERS + 1,
        delivery_status: ASSIGNED,
    };
    Ok(Json(jobs.into_iter().map(assign).collect()))
}

async fn tell(
    State(caller): State<Caller>,
    budget: Budget,
    At(order_id): At<OrderId>,
    delivery_status: i64,
) -> Result<Json<Order>, Failure> {
    let delivery = Delivery { order_id, delivery_status };
    Ok(Json(caller.post("eos-m", "/internal/delivery", &delivery, &budget).await?))
}
