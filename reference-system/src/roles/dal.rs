//! What the data-access roles of both dimensions answer alike: one order by its ID, and orders by what a query names.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::extract::State;
use axum::routing::get;
use axum::{Json, Router};
use serde::Deserialize;

use crate::extract::{Ask, At};
use crate::ids::{OrderId, RestaurantId, UserId};
use crate::migration::part::{self, Part};
use crate::orders::Order;
use crate::orders::routing::{Dimension, Holding, Named, Predicates};
use crate::rpc::Failure;
use crate::store::Store;
use crate::store::user_dimension::{by_id, find};

struct Rows {
    store: Store,
    holding: Holding,
    part: Option<Arc<Part>>,
}

/// The routes of reads. `part` is the store's in a migration, where only the side that decides answers.
pub(super) fn reads(store: Store, holding: Holding, part: Option<Arc<Part>>) -> Router {
    let rows = Arc::new(Rows { store, holding, part });
    Router::new().route("/orders", get(query)).route("/orders/{id}", get(read)).with_state(rows)
}

/// The keys that a read by order ID may name beside it.
#[derive(Deserialize)]
struct Keys {
    user_id: Option<UserId>,
    restaurant_id: Option<RestaurantId>,
}

async fn read(
    State(rows): State<Arc<Rows>>,
    At(order_id): At<OrderId>,
    Ask(keys): Ask<Keys>,
) -> Result<Json<Order>, Failure> {
    let named = Named { order_id: Some(order_id), user_id: keys.user_id, restaurant_id: keys.restaurant_id };
    let shard = rows.holding.read(&named)?;
    part::decides(rows.part.as_deref())?;
    let order = by_id(rows.store.readers(), shard, order_id)
        .await?
        .ok_or_else(|| Failure::not_found(format!("there is no order {order_id}")))?;
    if let Some(part) = &rows.part {
        part.compare(&rows.store, shard, &order);
    }
    Ok(Json(order))
}

/// A user sees the newest first, a kitchen the oldest.
async fn query(
    State(rows): State<Arc<Rows>>,
    Ask(pairs): Ask<Vec<(String, String)>>,
) -> Result<Json<Vec<Order>>, Failure> {
    let mut query = BTreeMap::new();
    for (name, value) in pairs {
        if query.insert(name.clone(), value).is_some() {
            return Err(Failure::invalid(format!("{name} comes twice")));
        }
    }
    let predicates = Predicates::parse(&query)?;
    let shard = rows.holding.read(&predicates.named)?;
    Predicates::refuse_others(&query)?;
    part::decides(rows.part.as_deref())?;
    let direction = match rows.holding.dimension {
        Dimension::User => "DESC",
        Dimension::Merchant => "ASC",
    };
    Ok(Json(find(rows.store.readers(), shard, &predicates, direction).await?))
}
