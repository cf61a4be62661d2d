//! What the requests of the list are about: an order that has seen everything, and what came with it.

use reference_system::ids::{OrderId, RestaurantId, SlotHash, UserId, group};
use serde_json::{Value, json};

use crate::world::{World, eventually, id_of};

/// Things that are there.
#[derive(Debug, Default)]
pub(crate) struct Known {
    /// A user and a restaurant whose rows lie in the first group.
    pub(crate) user: i64,
    pub(crate) restaurant: i64,
    /// The body that made the order.
    pub(crate) basket: Value,
    /// An order that was settled and has given something back: its ID, what it cost, its row.
    pub(crate) id: String,
    pub(crate) total: i64,
    pub(crate) order: Value,
    /// Its refund.
    pub(crate) refund: String,
    /// A virtual order that is done.
    pub(crate) vorder: String,
    /// An ID without slots of which the first group knows the keys.
    pub(crate) bare_id: String,
    /// A life of the counter store that has its numbers.
    pub(crate) life: String,
    /// In a migration, the order as one side hands it to the other.
    pub(crate) whole: Value,
}

impl Known {
    pub(crate) const ORDER_KEY: &str = "the-order";
    pub(crate) const REFUND_KEY: &str = "the-refund";
    pub(crate) const VORDER_KEY: &str = "the-goods";
    pub(crate) const GIVEN_BACK_FEN: i64 = 100;

    /// Names without anything behind them.
    pub(crate) fn named() -> Self {
        const HASH: SlotHash = SlotHash::Mix64;
        let first = |in_first: fn(i64) -> bool| (100..2_000).find(|id| in_first(*id)).unwrap_or_default();
        Self {
            user: first(|id| group(HASH.user_shard(UserId(id))) == 0),
            restaurant: first(|id| group(HASH.merchant_shard(RestaurantId(id))) == 0),
            bare_id: first(|id| group(HASH.mapping_shard(OrderId(id))) == 0).to_string(),
            ..Self::default()
        }
    }

    pub(crate) fn refund_wish(&self) -> Value {
        json!({ "order_id": self.id, "amount_fen": Self::GIVEN_BACK_FEN, "reason": "cold" })
    }

    /// Makes an order and brings it to its end.
    async fn ordered(world: &World) -> Self {
        let mut known = Self::named();
        known.basket = world.basket(known.user, known.restaurant, None).await;
        let (status, order) = world.post_as(Self::ORDER_KEY, "/orders", known.basket.clone()).await;
        assert_eq!(status, 200, "{order}");
        known.id = id_of(&order);
        let id = &known.id;
        world.ok(&format!("/orders/{id}/pay"), Value::Null).await;
        world.status_is(id, 0).await;
        world.ok(&format!("/restaurants/{}/orders/{id}/accept", known.restaurant), Value::Null).await;
        world.ok(&format!("/orders/{id}/delivered"), Value::Null).await;
        world.ok(&format!("/orders/{id}/confirm"), Value::Null).await;
        known.order = world.is_settled(id).await;
        known.total = known.order["total_fen"].as_i64().unwrap_or_default();
        known
    }

    /// An order, a refund of it, and virtual goods.
    pub(crate) async fn of(world: &World) -> Self {
        let mut known = Self::ordered(world).await;
        let refund = world.post_as(Self::REFUND_KEY, "/refunds", known.refund_wish()).await.1;
        known.refund = refund["refund_no"].to_string();
        world.ok(&format!("/refunds/{}/approve", known.refund), Value::Null).await;
        known.order = eventually("the refund has come", || async {
            let (_, order) = world.get(&format!("/orders/{}", known.id)).await;
            (order["refund_status"] == 6).then_some(order)
        })
        .await;
        let goods = json!({ "user_id": known.user, "product": "breakfast_ticket", "quantity": 1 });
        known.vorder = world.post_as(Self::VORDER_KEY, "/vorders", goods).await.1["vorder_id"].to_string();
        world.ok(&format!("/vorders/{}/pay", known.vorder), Value::Null).await;
        eventually("the goods have come", || async {
            (world.get(&format!("/vorders/{}", known.vorder)).await.1["state"] == 9).then_some(())
        })
        .await;
        world.assert_valid().await;
        // The row may have moved on since: its revision counts.
        known.order = world.ask("GET", "st-u0", &format!("/orders/{}", known.id), None).await.1;
        known
    }

    /// An order in the old table of a migration that has not begun.
    pub(crate) async fn before_a_migration(world: &World) -> Self {
        let mut known = Self::ordered(world).await;
        world.assert_valid().await;
        let path = "/migration/older?created_until_ms=9000000000000&shard=-1&order_id=0&limit=100";
        let all = world.ask("GET", "st-old", path, None).await.1;
        let of_order = |whole: &&Value| whole["order"]["order_id"] == known.id.as_str();
        let whole = all.as_array().and_then(|all| all.iter().find(of_order)).cloned();
        known.whole = whole.unwrap_or_else(|| panic!("the order is not among {all}"));
        known
    }
}
