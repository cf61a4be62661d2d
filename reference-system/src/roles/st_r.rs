//! The data-access role of the merchant dimension: owns one group's file, keeps copies of orders by
//! restaurant and issues kitchen numbers.

use std::sync::Arc;

use axum::extract::State;
use axum::routing::post;
use axum::{Json, Router};
use serde_json::{Value, json};

use super::dal;
use crate::frame::{Frame, RoleError};
use crate::orders::Order;
use crate::orders::kitchen::Kitchens;
use crate::orders::routing::{self, Holding, Named, Statement};
use crate::rpc::Failure;
use crate::store::Store;
use crate::store::merchant_dimension as rows;
use crate::store::slips::{NumberAnswer, NumberRequest};

struct Dimension {
    store: Store,
    holding: Holding,
    kitchens: Kitchens,
}

pub(super) async fn run(frame: Frame) -> Result<(), RoleError> {
    let service = frame.plan.service.clone();
    let store = frame.open_store(&service, rows::SCHEMA).await?;
    let dimension = Arc::new(Dimension {
        holding: Holding {
            dimension: routing::Dimension::Merchant,
            group: Some(super::group_of(&service)),
            slot_hash: frame.config.slot_hash,
        },
        kitchens: Kitchens::new(frame.caller.clone(), frame.kv.clone(), store.clone()),
        store,
    });
    let routes = Router::new()
        .route("/orders/apply", post(apply))
        .route("/numbers", post(numbers))
        .with_state(Arc::clone(&dimension))
        .merge(dal::reads(dimension.store.clone(), dimension.holding, None));
    let describe = Box::new(move || json!({ "dimension": "merchant", "group": dimension.holding.group }));
    frame.serve(routes, describe, std::future::ready(())).await
}

async fn apply(
    State(dimension): State<Arc<Dimension>>,
    Statement(orders): Statement<Vec<Order>>,
) -> Result<Json<Value>, Failure> {
    let mut routed = Vec::with_capacity(orders.len());
    for order in orders {
        routed.push((dimension.holding.write(&Named::of(&order))?, order));
    }
    dimension
        .store
        .write(move |connection| {
            Box::pin(async move {
                for (shard, order) in &routed {
                    rows::apply(connection, *shard, order).await?;
                }
                Ok(())
            })
        })
        .await?;
    Ok(Json(json!({})))
}

async fn numbers(
    State(dimension): State<Arc<Dimension>>,
    Statement(requests): Statement<Vec<NumberRequest>>,
) -> Result<Json<Vec<NumberAnswer>>, Failure> {
    let mut routed = Vec::with_capacity(requests.len());
    for request in requests {
        routed.push((dimension.holding.write(&request.named())?, request));
    }
    Ok(Json(dimension.kitchens.number(&routed).await?))
}
