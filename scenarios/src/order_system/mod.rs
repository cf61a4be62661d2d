//! Journeys on the reference order system: a customer, a merchant, a whole lunch, virtual goods, and the list polls of
//! open apps.

pub mod customer;
pub mod list_polls;
pub mod lunch;
pub mod merchant;
pub mod virtual_goods;

use std::sync::LazyLock;
use std::sync::atomic::{AtomicU64, Ordering};

use http::{HeaderName, HeaderValue};
use rand::Rng;
use rand::rngs::SmallRng;

use crate::client::Abandon;

/// Users of the seeded population are numbered 1 to this.
const USERS: u32 = 5_000;
/// Restaurants of the seeded population are numbered 1 to this.
const RESTAURANTS: u32 = 2_000;
/// Coupons of the seeded population that each user owns: those of the user's own number, plus a multiple of [`USERS`].
const COUPONS_EACH: u32 = 4;
/// Dishes on a menu are numbered from the restaurant's own number, 1 to this.
const DISHES: u32 = 20;

/// A key for a write: this process's own prefix, by which an audit tells its orders from everybody else's, and a number.
fn write_key() -> String {
    static PREFIX: LazyLock<u128> = LazyLock::new(rand::random);
    static NUMBER: AtomicU64 = AtomicU64::new(1);
    format!("{:032x}-{}", *PREFIX, NUMBER.fetch_add(1, Ordering::Relaxed))
}

/// The header that carries the key of a write.
fn keyed(key: &str) -> Result<[(HeaderName, HeaderValue); 1], Abandon> {
    let key = HeaderValue::try_from(key).map_err(|_| Abandon)?;
    Ok([(HeaderName::from_static("x-req-id"), key)])
}

/// A user, all alike.
fn any_user(random: &mut SmallRng) -> u32 {
    random.random_range(1..=USERS)
}

/// A restaurant by Zipf-like popularity (exponent 1): the inverse of the continuous distribution on [1, n + 1).
fn popular_restaurant(random: &mut SmallRng) -> u32 {
    let share: f64 = random.random();
    let place = (f64::from(RESTAURANTS + 1).ln() * share).exp();
    // In range by construction; the cast floors.
    (place as u32).clamp(1, RESTAURANTS)
}

/// The identity of the dish at a place of a restaurant's menu.
fn any_dish(restaurant: u32, random: &mut SmallRng) -> u32 {
    restaurant * 100 + random.random_range(1..=DISHES)
}

/// One of the coupons that a user owns; it may be used already.
fn any_coupon_of(user: u32, random: &mut SmallRng) -> u32 {
    user + random.random_range(0..COUPONS_EACH) * USERS
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::SeedableRng as _;

    #[test]
    fn popularity_falls_with_the_rank() {
        let mut random = SmallRng::seed_from_u64(1);
        let mut orders = vec![0_u32; RESTAURANTS as usize + 1];
        for _ in 0..100_000 {
            orders[popular_restaurant(&mut random) as usize] += 1;
        }
        let share = f64::from(orders[1]) / 100_000.0;
        assert!((0.07..0.12).contains(&share), "the busiest restaurant has {share} of all orders");
        assert!(orders[1] > orders[10] && orders[10] > orders[100]);
        assert_eq!(orders[0], 0);
    }
}
