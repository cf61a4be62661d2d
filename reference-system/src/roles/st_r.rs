//! The data-access role of the merchant dimension: owns one group's file, keeps copies of orders by
//! restaurant and issues kitchen numbers.

use std::sync::Arc;

use axum::extract::State;
use axum::routing::{get, post};
use axum::{Json, Router};
use http::StatusCode;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::extract::{Ask, At, Body};
use crate::frame::{Frame, RoleError};
use crate::ids::{OrderId, RestaurantId, SlotHash, group, shard};
use crate::orders::Order;
use crate::orders::lifecycle::Status;
use crate::rpc::Failure;
use crate::store::Store;
use crate::store::merchant_dimension::{self as rows, NumberAnswer, NumberRequest};
use crate::store::user_dimension::by_id;

struct Dimension {
    store: Store,
    group: u16,
    slot_hash: SlotHash,
}

pub(super) async fn run(frame: Frame) -> Result<(), RoleError> {
    let service = frame.plan.service.clone();
    let dimension = Arc::new(Dimension {
        store: frame.open_store(&service, rows::SCHEMA).await?,
        group: super::group_of(&service),
        slot_hash: frame.config.slot_hash,
    });
    let routes = Router::new()
        .route("/orders/apply", post(apply))
        .route("/orders/{id}", get(read))
        .route("/restaurants/{restaurant}/orders", get(list))
        .route("/numbers", post(numbers))
        .with_state(Arc::clone(&dimension));
    let describe = Box::new(move || json!({ "dimension": "merchant", "group": dimension.group }));
    frame.serve(routes, describe, std::future::ready(())).await
}

impl Dimension {
    fn owns(&self, owner: u16) -> Result<(), Failure> {
        if owner == self.group {
            return Ok(());
        }
        Err(Failure::new(
            StatusCode::MISDIRECTED_REQUEST,
            "wrong_group",
            format!("group {} was asked for a row of group {owner}", self.group),
        ))
    }
}

async fn apply(
    State(dimension): State<Arc<Dimension>>,
    Body(orders): Body<Vec<Order>>,
) -> Result<Json<Value>, Failure> {
    for order in &orders {
        dimension.owns(order.order_id.merchant_group())?;
    }
    dimension
        .store
        .write(move |connection| {
            Box::pin(async move {
                for order in &orders {
                    rows::apply(connection, order).await?;
                }
                Ok(())
            })
        })
        .await?;
    Ok(Json(json!({})))
}

async fn read(State(dimension): State<Arc<Dimension>>, At(order_id): At<OrderId>) -> Result<Json<Order>, Failure> {
    dimension.owns(order_id.merchant_group())?;
    by_id(dimension.store.readers(), order_id.merchant_shard(), order_id)
        .await?
        .map(Json)
        .ok_or_else(|| Failure::not_found(format!("there is no order {order_id}")))
}

#[derive(Deserialize)]
struct Page {
    state: Status,
    limit: i64,
}

async fn list(
    State(dimension): State<Arc<Dimension>>,
    At(restaurant_id): At<RestaurantId>,
    Ask(page): Ask<Page>,
) -> Result<Json<Vec<Order>>, Failure> {
    let shard = shard(dimension.slot_hash.slot(restaurant_id.0));
    dimension.owns(group(shard))?;
    let store = dimension.store.readers();
    Ok(Json(rows::by_restaurant(store, shard, restaurant_id, page.state, page.limit).await?))
}

async fn numbers(
    State(dimension): State<Arc<Dimension>>,
    Body(requests): Body<Vec<NumberRequest>>,
) -> Result<Json<Vec<NumberAnswer>>, Failure> {
    for request in &requests {
        dimension.owns(request.order_id.merchant_group())?;
    }
    let answers = dimension
        .store
        .write(move |connection| {
            Box::pin(async move {
                let mut answers = Vec::with_capacity(requests.len());
                for request in &requests {
                    answers.push(rows::number(connection, request).await?);
                }
                Ok(answers)
            })
        })
        .await?;
    Ok(Json(answers))
}
