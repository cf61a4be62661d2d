//! Where an order's rows lie, and what a statement must name for a store to find them: the one place that knows both
//! layouts of order IDs.
//!
//! A statement names the order ID, or keys. A composed ID carries the slots of both keys; a bare one carries none, and
//! its caller has them from the mapping tables. A read may name the key of the store's own dimension alone. A write that
//! names the key of one dimension alone would leave the other behind, and is refused.

use std::collections::BTreeMap;

use axum::extract::{FromRequest, Request};
use http::StatusCode;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::Order;
use super::service::{Orders, user_store};
use crate::extract::body_of;
use crate::ids::{OrderId, RestaurantId, SlotHash, Slots, UserId, group, shard};
use crate::rpc::{Budget, CallError, Failure};

/// By whom rows are placed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Dimension {
    /// By user.
    User,
    /// By restaurant.
    Merchant,
}

impl Dimension {
    /// The key of the rows, as statements name it.
    const fn key(self) -> &'static str {
        match self {
            Self::User => "user_id",
            Self::Merchant => "restaurant_id",
        }
    }
}

/// What a statement names.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Named {
    #[serde(default)]
    pub(crate) order_id: Option<OrderId>,
    #[serde(default)]
    pub(crate) user_id: Option<UserId>,
    #[serde(default)]
    pub(crate) restaurant_id: Option<RestaurantId>,
}

/// Why no row can be found by what a statement names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Unroutable {
    #[error(
        "the statement names no key, so every shard would have to be asked: name order_id, or {}",
        .dimension.key()
    )]
    NoKey { dimension: Dimension },
    #[error("rows lie here by {}: by {} alone every shard would have to be asked", .dimension.key(), .named)]
    OtherDimension { dimension: Dimension, named: &'static str },
    #[error("a write that names {named} alone would leave the other dimension behind: name order_id, or both keys")]
    OneDimension { named: &'static str },
    #[error("order ID {order_id} carries no keys: name user_id and restaurant_id, as the mapping tables know them")]
    BareId { order_id: OrderId },
    #[error("order ID {order_id} carries the {key} slot {carried}, but {key} {id} has the slot {slot}")]
    OtherKey { order_id: OrderId, key: &'static str, carried: u16, id: i64, slot: u16 },
    #[error("a write names order_id, or user_id and restaurant_id")]
    NothingToWrite,
}

impl From<Unroutable> for Failure {
    fn from(unroutable: Unroutable) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "unroutable", unroutable.to_string())
    }
}

impl Named {
    /// An order at hand: its ID and both keys.
    pub(crate) fn of(order: &Order) -> Self {
        Self { order_id: Some(order.order_id), user_id: Some(order.user_id), restaurant_id: Some(order.restaurant_id) }
    }

    /// The slots of the keys, as far as they are named or carried; refused where the two differ.
    fn slots(&self, hash: SlotHash) -> Result<(Option<u16>, Option<u16>), Unroutable> {
        let carried = self.order_id.and_then(OrderId::slots);
        let resolve = |key, id: Option<i64>, carried: Option<u16>| match (id, carried) {
            (Some(id), Some(carried)) if hash.slot(id) != carried => Err(Unroutable::OtherKey {
                order_id: self.order_id.unwrap_or(OrderId(0)),
                key,
                carried,
                id,
                slot: hash.slot(id),
            }),
            (Some(id), _) => Ok(Some(hash.slot(id))),
            (None, carried) => Ok(carried),
        };
        Ok((
            resolve("user_id", self.user_id.map(|id| id.0), carried.map(|slots| slots.user))?,
            resolve("restaurant_id", self.restaurant_id.map(|id| id.0), carried.map(|slots| slots.merchant))?,
        ))
    }

    /// The shard of a dimension in which a read finds its rows.
    pub(crate) fn read_shard(&self, dimension: Dimension, hash: SlotHash) -> Result<u16, Unroutable> {
        let (user, merchant) = self.slots(hash)?;
        let (own, other) = match dimension {
            Dimension::User => (user, merchant.map(|_| "restaurant_id")),
            Dimension::Merchant => (merchant, user.map(|_| "user_id")),
        };
        match (own, self.order_id, other) {
            (Some(slot), ..) => Ok(shard(slot)),
            (None, Some(order_id), _) => Err(Unroutable::BareId { order_id }),
            (None, None, Some(named)) => Err(Unroutable::OtherDimension { dimension, named }),
            (None, None, None) => Err(Unroutable::NoKey { dimension }),
        }
    }

    /// The shard of a dimension in which a write has its row, if the write can reach both dimensions.
    pub(crate) fn write_shard(&self, dimension: Dimension, hash: SlotHash) -> Result<u16, Unroutable> {
        match (self.slots(hash)?, self.order_id) {
            ((Some(user), Some(merchant)), _) => Ok(shard(match dimension {
                Dimension::User => user,
                Dimension::Merchant => merchant,
            })),
            ((None, None), Some(order_id)) => Err(Unroutable::BareId { order_id }),
            ((Some(_), None), _) => Err(Unroutable::OneDimension { named: "user_id" }),
            ((None, Some(_)), _) => Err(Unroutable::OneDimension { named: "restaurant_id" }),
            ((None, None), None) => Err(Unroutable::NothingToWrite),
        }
    }
}

/// The rows that one store holds: a group of the shards of a dimension, or all of them.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Holding {
    pub(crate) dimension: Dimension,
    /// `None` is every group.
    pub(crate) group: Option<u16>,
    pub(crate) slot_hash: SlotHash,
}

impl Holding {
    /// The shard that a read looks at.
    ///
    /// # Errors
    ///
    /// 400 where the statement names no way to it, 421 where it lies in the other group.
    pub(crate) fn read(&self, named: &Named) -> Result<u16, Failure> {
        self.own(named.read_shard(self.dimension, self.slot_hash)?)
    }

    /// The shard that a write changes.
    ///
    /// # Errors
    ///
    /// As [`Self::read`].
    pub(crate) fn write(&self, named: &Named) -> Result<u16, Failure> {
        self.own(named.write_shard(self.dimension, self.slot_hash)?)
    }

    /// The shard, if it is one of this group.
    pub(crate) fn own(&self, shard: u16) -> Result<u16, Failure> {
        let owner = group(shard);
        match self.group {
            Some(own) if own != owner => Err(Failure::new(
                StatusCode::MISDIRECTED_REQUEST,
                "wrong_group",
                format!("group {own} was asked for a row of group {owner}"),
            )),
            _ => Ok(shard),
        }
    }
}

/// The predicates of a query, by name.
#[derive(Debug)]
pub(crate) struct Predicates {
    pub(crate) named: Named,
    pub(crate) req_id: Option<String>,
    pub(crate) status: Option<i64>,
    pub(crate) since: Option<i64>,
    pub(crate) limit: i64,
}

impl Predicates {
    /// The most rows of an answer, and how many there are unless the query says.
    const MOST: i64 = 200;

    /// Reads them from a query's text.
    pub(crate) fn parse(query: &BTreeMap<String, String>) -> Result<Self, Failure> {
        let number = |name: &str| match query.get(name).map(|text| text.parse::<i64>()) {
            None => Ok(None),
            Some(Ok(number)) => Ok(Some(number)),
            Some(Err(_)) => Err(Failure::invalid(format!("{name} is a number"))),
        };
        let named = Named {
            order_id: number("order_id")?.map(OrderId),
            user_id: number("user_id")?.map(UserId),
            restaurant_id: number("restaurant_id")?.map(RestaurantId),
        };
        let limit = number("limit")?.unwrap_or(Self::MOST);
        if !(1..=Self::MOST).contains(&limit) {
            return Err(Failure::invalid(format!("limit is 1 to {}", Self::MOST)));
        }
        Ok(Self {
            named,
            req_id: query.get("req_id").cloned(),
            status: number("status")?,
            since: number("since")?,
            limit,
        })
    }

    /// Refuses what no store can look for.
    pub(crate) fn refuse_others(query: &BTreeMap<String, String>) -> Result<(), Failure> {
        const KNOWN: [&str; 7] = ["order_id", "user_id", "restaurant_id", "req_id", "status", "since", "limit"];
        match query.keys().find(|name| !KNOWN.contains(&name.as_str())) {
            None => Ok(()),
            Some(other) => Err(Failure::new(
                StatusCode::BAD_REQUEST,
                "unroutable",
                format!("{other} is no predicate of a store; it knows {}", KNOWN.join(", ")),
            )),
        }
    }
}

/// A JSON body that is a statement: where it does not fit, it is first of all told what its keys lack.
pub(crate) struct Statement<T>(pub(crate) T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for Statement<T> {
    type Rejection = Failure;

    async fn from_request(request: Request, state: &S) -> Result<Self, Failure> {
        let bytes = body_of(request, state).await?;
        serde_json::from_slice(&bytes).map(Self).map_err(|error| match serde_json::from_slice(&bytes) {
            Ok(body) => lacks_keys(&body)
                .map_or_else(|| Failure::invalid(format!("the body does not fit: {error}")), Failure::from),
            Err(_) => Failure::invalid(format!("the body does not fit: {error}")),
        })
    }
}

/// What a write's body lacks, as far as its fields tell; of a list, the first item that lacks something.
fn lacks_keys(body: &Value) -> Option<Unroutable> {
    if let Value::Array(items) = body {
        return items.iter().find_map(lacks_keys);
    }
    // A new order comes with its tasks.
    let body = body.get("order").unwrap_or(body);
    let named: Named = serde_json::from_value(body.clone()).ok().filter(|_| body.is_object())?;
    if named.order_id.is_some() {
        return None;
    }
    // Slots of an order that is named by keys alone depend on no hash as far as this goes.
    named.write_shard(Dimension::User, SlotHash::default()).err()
}

/// The keys of an order with a bare ID, as the mapping tables know them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Mapping {
    pub(crate) order_id: OrderId,
    pub(crate) user_id: UserId,
    pub(crate) restaurant_id: RestaurantId,
}

impl Orders {
    /// The store that knows the keys of an order with a bare ID.
    fn mapping_store(&self, order_id: OrderId) -> &'static str {
        user_store(group(self.slot_hash().mapping_shard(order_id)))
    }

    /// The group that holds an order's master row, and the path of the row there.
    pub(super) async fn way_to(&self, order_id: OrderId, budget: &Budget) -> Result<(u16, String), CallError> {
        if let Some(Slots { user, .. }) = order_id.slots() {
            return Ok((group(shard(user)), format!("/orders/{order_id}")));
        }
        let Mapping { user_id, restaurant_id, .. } =
            self.caller.get(self.mapping_store(order_id), &format!("/mapping/{order_id}"), budget).await?;
        let path = format!("/orders/{order_id}?user_id={user_id}&restaurant_id={restaurant_id}");
        Ok((self.group_of(user_id), path))
    }

    /// Writes whose order this is, where the ID does not say so itself. Must come before the order: an order that nobody
    /// finds by its ID would be worse than keys of an order that was never made.
    pub(crate) async fn map(&self, mapping: &Mapping, budget: &Budget) -> Result<(), CallError> {
        if mapping.order_id.slots().is_some() {
            return Ok(());
        }
        let store = self.mapping_store(mapping.order_id);
        self.caller.post::<_, Value>(store, "/mapping", mapping, budget).await.map(drop)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HASH: SlotHash = SlotHash::Mix64;
    const USER: UserId = UserId(7);
    const RESTAURANT: RestaurantId = RestaurantId(11);

    fn composed() -> OrderId {
        OrderId::compose(2, 5, Slots { user: HASH.slot(USER.0), merchant: HASH.slot(RESTAURANT.0) })
    }

    fn named(order: Option<OrderId>, user: Option<UserId>, restaurant: Option<RestaurantId>) -> Named {
        Named { order_id: order, user_id: user, restaurant_id: restaurant }
    }

    #[test]
    fn a_write_names_the_order_id_or_both_keys() {
        let both = (HASH.user_shard(USER), HASH.merchant_shard(RESTAURANT));
        let bare = OrderId(5);
        for reaches in [
            named(Some(composed()), None, None),
            named(Some(composed()), Some(USER), None),
            named(None, Some(USER), Some(RESTAURANT)),
            named(Some(bare), Some(USER), Some(RESTAURANT)),
        ] {
            let shards = [Dimension::User, Dimension::Merchant].map(|dimension| reaches.write_shard(dimension, HASH));
            assert_eq!(shards, [Ok(both.0), Ok(both.1)], "{reaches:?}");
        }
        for (lacks, why) in [
            (
                named(None, Some(USER), None),
                "a write that names user_id alone would leave the other dimension behind: name order_id, or both keys",
            ),
            (
                named(Some(bare), None, Some(RESTAURANT)),
                "a write that names restaurant_id alone would leave the other dimension behind: name order_id, or both keys",
            ),
            (
                named(Some(bare), None, None),
                "order ID 5 carries no keys: name user_id and restaurant_id, as the mapping tables know them",
            ),
            (named(None, None, None), "a write names order_id, or user_id and restaurant_id"),
        ] {
            assert_eq!(lacks.write_shard(Dimension::User, HASH).unwrap_err().to_string(), why);
        }
    }

    #[test]
    fn a_read_names_the_order_id_or_the_key_of_the_dimension() {
        let read = |named: Named, dimension| named.read_shard(dimension, HASH).map_err(|error| error.to_string());
        assert_eq!(read(named(None, Some(USER), None), Dimension::User), Ok(HASH.user_shard(USER)));
        assert_eq!(read(named(Some(composed()), None, None), Dimension::Merchant), Ok(HASH.merchant_shard(RESTAURANT)));
        for (lacks, dimension, why) in [
            (
                named(None, Some(USER), None),
                Dimension::Merchant,
                "rows lie here by restaurant_id: by user_id alone every shard would have to be asked",
            ),
            (
                named(None, None, None),
                Dimension::User,
                "the statement names no key, so every shard would have to be asked: name order_id, or user_id",
            ),
            (
                named(Some(OrderId(5)), None, None),
                Dimension::User,
                "order ID 5 carries no keys: name user_id and restaurant_id, as the mapping tables know them",
            ),
        ] {
            assert_eq!(read(lacks, dimension), Err(why.to_owned()));
        }
    }

    #[test]
    fn keys_that_the_id_does_not_carry_are_refused() {
        let other = named(Some(composed()), Some(UserId(8)), None);
        let why = other.read_shard(Dimension::User, HASH).unwrap_err().to_string();
        let (own, others) = (HASH.slot(7), HASH.slot(8));
        let id = composed();
        assert_eq!(why, format!("order ID {id} carries the user_id slot {own}, but user_id 8 has the slot {others}"));
    }
}
