//! Order IDs and routing: slots, shards and the two layouts of an ID, as pure functions.
//!
//! The composed layout:
//!
//! ```text
//! bit 63    : 0 (sign)
//! bits 55-62: epoch   raised whenever the counter store starts
//! bits 20-54: sequence
//! bits 10-19: user slot
//! bits  0-9 : merchant slot
//! ```
//!
//! An order is found by its ID alone in either dimension, so there is no mapping table and no
//! fan-out. The ID holds slots, not shard numbers, so that [`SHARDS`] may change without
//! renumbering orders.
//!
//! The bare layout (`id.layout = seq`) is epoch and sequence alone, in the low 43 bits; tables know its keys. A composed
//! ID has an epoch of at least 1 in its high bits, so the two are told apart by size.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Slots per dimension (ten bits).
pub const SLOTS: u16 = 1024;
/// Shards per dimension.
pub const SHARDS: u16 = 120;
/// Shards that one database group holds.
pub const SHARDS_PER_GROUP: u16 = 60;
/// Database groups per dimension: `st-u0`, `st-u1` and `st-r0`, `st-r1`.
pub const GROUPS: u16 = SHARDS / SHARDS_PER_GROUP;

const EPOCH_SHIFT: u32 = 55;
const SEQUENCE_SHIFT: u32 = 20;
const SEQUENCE_BITS: u32 = 35;
const USER_SLOT_SHIFT: u32 = 10;
const SLOT_MASK: i64 = 0x3ff;
/// The largest sequence number that fits in an ID.
pub const MAX_SEQUENCE: i64 = (1 << SEQUENCE_BITS) - 1;
/// The largest epoch that fits in an ID.
pub const MAX_EPOCH: i64 = 255;

/// How a user or restaurant ID becomes a slot. Rows lie by it, so a system keeps the one that it began with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum SlotHash {
    /// A 64-bit mixer (the finaliser of SplitMix64): even over dense IDs.
    #[default]
    Mix64,
    /// The historic base-31 polynomial over the decimal text: skewed over dense IDs.
    Legacy31,
}

impl fmt::Display for SlotHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Mix64 => "mix64",
            Self::Legacy31 => "legacy31",
        })
    }
}

impl SlotHash {
    /// The slot (0…1023) of a user or restaurant ID.
    pub fn slot(self, id: i64) -> u16 {
        match self {
            Self::Mix64 => (mix64(id as u64) >> 54) as u16,
            Self::Legacy31 => legacy31(id),
        }
    }

    /// The shard of the user dimension that holds a user's orders.
    pub fn user_shard(self, user_id: UserId) -> u16 {
        shard(self.slot(user_id.0))
    }

    /// The shard of the merchant dimension that holds a restaurant's orders.
    pub fn merchant_shard(self, restaurant_id: RestaurantId) -> u16 {
        shard(self.slot(restaurant_id.0))
    }

    /// The shard of the user dimension whose group knows the keys of an order with a bare ID.
    pub fn mapping_shard(self, order_id: OrderId) -> u16 {
        shard(self.slot(order_id.0))
    }
}

/// The finaliser of SplitMix64 (Steele, Lea, Flood 2014): a bijection that scatters every bit.
pub fn mix64(value: u64) -> u64 {
    let mut z = value.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

fn legacy31(id: i64) -> u16 {
    let hash = id.to_string().bytes().fold(0_i64, |hash, byte| hash.wrapping_mul(31).wrapping_add(i64::from(byte)));
    (hash.unsigned_abs() % u64::from(SLOTS)) as u16
}

/// The shard (0…119) that owns a slot.
pub fn shard(slot: u16) -> u16 {
    (u32::from(slot) * u32::from(SHARDS) / u32::from(SLOTS)) as u16
}

/// The database group (0 or 1) that holds a shard.
pub fn group(shard: u16) -> u16 {
    shard / SHARDS_PER_GROUP
}

macro_rules! text_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        ///
        /// Text in JSON, because 63 bits exceed what a browser's number holds exactly; a JSON
        /// integer is accepted on input.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name(pub i64);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(&self.0)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                deserializer.deserialize_any(IdVisitor).map(Self)
            }
        }
    };
}

text_id!(
    /// One order.
    OrderId
);
text_id!(
    /// One user, 1…5000 in the seeded population.
    UserId
);
text_id!(
    /// One restaurant, 1…2000 in the seeded population.
    RestaurantId
);
text_id!(
    /// One dish on a restaurant's menu.
    DishId
);
text_id!(
    /// One coupon.
    CouponId
);

struct IdVisitor;

impl serde::de::Visitor<'_> for IdVisitor {
    type Value = i64;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an ID: decimal text or a non-negative integer")
    }

    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<i64, E> {
        match text.parse::<i64>() {
            Ok(id) if id >= 0 => Ok(id),
            _ => Err(E::invalid_value(serde::de::Unexpected::Str(text), &self)),
        }
    }

    fn visit_u64<E: serde::de::Error>(self, id: u64) -> Result<i64, E> {
        i64::try_from(id).map_err(|_| E::invalid_value(serde::de::Unexpected::Unsigned(id), &self))
    }

    fn visit_i64<E: serde::de::Error>(self, id: i64) -> Result<i64, E> {
        if id >= 0 { Ok(id) } else { Err(E::invalid_value(serde::de::Unexpected::Signed(id), &self)) }
    }
}

/// How an order's ID is laid out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IdLayout {
    /// Epoch, sequence and both slots: it routes by itself.
    Composed,
    /// Epoch and sequence: tables know whose it is.
    Bare,
}

/// The slots that a composed ID carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Slots {
    /// Of the order's user.
    pub user: u16,
    /// Of the order's restaurant.
    pub merchant: u16,
}

impl OrderId {
    /// Composes an ID from its four parts. `epoch` is at least 1.
    ///
    /// Parts beyond their width are cut to it; the sequence allocator never hands such out.
    pub fn compose(epoch: i64, sequence: i64, slots: Slots) -> Self {
        Self(
            ((epoch & MAX_EPOCH) << EPOCH_SHIFT)
                | ((sequence & MAX_SEQUENCE) << SEQUENCE_SHIFT)
                | (i64::from(slots.user % SLOTS) << USER_SLOT_SHIFT)
                | i64::from(slots.merchant % SLOTS),
        )
    }

    /// A bare ID. In epoch 0 it is the counter itself.
    pub fn bare(epoch: i64, sequence: i64) -> Self {
        Self(((epoch & MAX_EPOCH) << SEQUENCE_BITS) | (sequence & MAX_SEQUENCE))
    }

    /// How this ID is laid out.
    pub fn layout(self) -> IdLayout {
        if self.0 >> EPOCH_SHIFT == 0 { IdLayout::Bare } else { IdLayout::Composed }
    }

    /// The epoch of the counter that issued the ID.
    pub fn epoch(self) -> i64 {
        match self.layout() {
            IdLayout::Composed => (self.0 >> EPOCH_SHIFT) & MAX_EPOCH,
            IdLayout::Bare => (self.0 >> SEQUENCE_BITS) & MAX_EPOCH,
        }
    }

    /// The sequence number within the epoch.
    pub fn sequence(self) -> i64 {
        match self.layout() {
            IdLayout::Composed => (self.0 >> SEQUENCE_SHIFT) & MAX_SEQUENCE,
            IdLayout::Bare => self.0 & MAX_SEQUENCE,
        }
    }

    /// The slots that it carries, if it does.
    pub fn slots(self) -> Option<Slots> {
        let slots =
            Slots { user: ((self.0 >> USER_SLOT_SHIFT) & SLOT_MASK) as u16, merchant: (self.0 & SLOT_MASK) as u16 };
        (self.layout() == IdLayout::Composed).then_some(slots)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_golden_vectors_hold() {
        let (user, restaurant) = (SlotHash::Legacy31.slot(123), SlotHash::Legacy31.slot(456));
        assert_eq!((user, shard(user)), (562, 65));
        assert_eq!((restaurant, shard(restaurant)), (469, 54));
        let slots = Slots { user, merchant: restaurant };
        let id = OrderId::compose(1, 1, slots);
        assert_eq!(id, OrderId(36_028_797_020_588_501));
        assert_eq!(id.slots(), Some(slots));
        assert_eq!((group(shard(user)), group(shard(restaurant))), (1, 0));
        assert_eq!(SlotHash::Legacy31.user_shard(UserId(123)), 65);
        assert_eq!(SlotHash::Legacy31.merchant_shard(RestaurantId(456)), 54);
    }

    #[test]
    fn a_bare_id_of_epoch_0_is_its_counter() {
        assert_eq!((OrderId::bare(0, 7), OrderId(7).layout(), OrderId(7).slots()), (OrderId(7), IdLayout::Bare, None));
    }

    #[test]
    fn the_published_sample_slot_110_lies_in_shard_12() {
        assert_eq!(shard(110), 12);
    }

    #[test]
    fn shards_own_eight_or_nine_slots_and_groups_sixty_shards() {
        let mut slots = [0_u16; SHARDS as usize];
        for slot in 0..SLOTS {
            slots[usize::from(shard(slot))] += 1;
        }
        assert_eq!(slots.iter().filter(|n| **n == 9).count(), 64);
        assert_eq!(slots.iter().filter(|n| **n == 8).count(), 56);
        assert_eq!((group(59), group(60), group(119)), (0, 1, 1));
    }

    #[test]
    fn the_mixer_is_even_where_the_historic_hash_is_not() {
        let fullest = |hash: SlotHash| {
            let mut load = [0_u32; SHARDS as usize];
            for id in 1..=100_000 {
                load[usize::from(shard(hash.slot(id)))] += 1;
            }
            f64::from(*load.iter().max().unwrap()) * f64::from(SHARDS) / 100_000.0
        };
        assert!(fullest(SlotHash::Mix64) < 1.25, "{}", fullest(SlotHash::Mix64));
        assert!(fullest(SlotHash::Legacy31) > 1.8, "{}", fullest(SlotHash::Legacy31));
    }

    #[test]
    fn ids_are_text_in_json_and_integers_are_understood() {
        assert_eq!(serde_json::to_string(&OrderId(7)).unwrap(), "\"7\"");
        assert_eq!(serde_json::from_str::<UserId>("\"42\"").unwrap(), UserId(42));
        assert_eq!(serde_json::from_str::<UserId>("42").unwrap(), UserId(42));
        for wrong in ["\"-1\"", "-1", "\"x\"", "1.5", "null"] {
            assert!(serde_json::from_str::<UserId>(wrong).is_err(), "{wrong}");
        }
    }

    proptest! {
        #[test]
        fn composing_and_taking_apart_agree(
            epoch in 1..=MAX_EPOCH, sequence in 0..=MAX_SEQUENCE, user in 0..SLOTS, merchant in 0..SLOTS,
        ) {
            let slots = Slots { user, merchant };
            let id = OrderId::compose(epoch, sequence, slots);
            prop_assert!(id.0 >= 0);
            prop_assert_eq!((id.layout(), id.epoch(), id.sequence()), (IdLayout::Composed, epoch, sequence));
            prop_assert_eq!(id.slots(), Some(slots));
        }

        #[test]
        fn a_bare_id_is_never_taken_for_a_composed_one(epoch in 0..=MAX_EPOCH, sequence in 0..=MAX_SEQUENCE) {
            let id = OrderId::bare(epoch, sequence);
            prop_assert_eq!((id.layout(), id.epoch(), id.sequence()), (IdLayout::Bare, epoch, sequence));
            prop_assert_eq!(id.slots(), None);
        }

        #[test]
        fn every_id_has_a_shard_in_range(id in any::<i64>()) {
            for hash in [SlotHash::Mix64, SlotHash::Legacy31] {
                let slot = hash.slot(id);
                prop_assert!(slot < SLOTS && shard(slot) < SHARDS && group(shard(slot)) < GROUPS);
            }
        }
    }
}
