//! The seeded population: users, restaurants, dishes and coupons as pure functions of one seed.
//!
//! Nothing is stored: a role asks the function, and the store keeps only what changes. A load
//! generator uses the same functions to choose IDs that exist.

use crate::ids::{CouponId, DishId, RestaurantId, UserId, mix64};

/// Users are 1…=USERS.
pub const USERS: i64 = 5_000;
/// Restaurants are 1…=RESTAURANTS.
pub const RESTAURANTS: i64 = 2_000;
/// Dishes on each menu.
pub const DISHES_PER_RESTAURANT: i64 = 20;
/// Coupons are 1…=COUPONS.
pub const COUPONS: i64 = 20_000;
/// What each user's wallet holds at first, in fen.
pub const OPENING_WALLET_FEN: i64 = 10_000 * 100;

/// The population of one seed.
#[derive(Debug, Clone)]
pub struct Population {
    seed: u64,
    /// Cumulative Zipf(1.0) weights by popularity rank, ending in 1.0.
    popularity: Vec<f64>,
    /// The restaurant at each popularity rank.
    by_rank: Vec<RestaurantId>,
}

/// A user as seeded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct User {
    /// The ID.
    pub user_id: UserId,
    /// A display name.
    pub name: String,
}

/// A dish as seeded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dish {
    /// The ID.
    pub dish_id: DishId,
    /// A display name.
    pub name: String,
    /// The price of one, in fen.
    pub price_fen: i64,
}

/// A restaurant as seeded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Restaurant {
    /// The ID.
    pub restaurant_id: RestaurantId,
    /// A display name.
    pub name: String,
    /// What delivery costs, in fen.
    pub delivery_fee_fen: i64,
}

/// A coupon as seeded: one use, by its owner.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Coupon {
    /// The ID.
    pub coupon_id: CouponId,
    /// Who may use it.
    pub owner: UserId,
    /// What it takes off, in fen.
    pub amount_fen: i64,
}

#[derive(Clone, Copy)]
enum Stream {
    Fee = 1,
    Price = 2,
    Coupon = 3,
    Rank = 4,
    Stock = 5,
    Past = 6,
}

impl Population {
    /// The population of `seed`.
    pub fn new(seed: u64) -> Self {
        let total: f64 = (1..=RESTAURANTS).map(|rank| 1.0 / rank as f64).sum();
        let mut cumulative = 0.0;
        let popularity = (1..=RESTAURANTS)
            .map(|rank| {
                cumulative += 1.0 / rank as f64 / total;
                cumulative
            })
            .collect();
        let mut population = Self { seed, popularity, by_rank: Vec::new() };
        let mut by_rank: Vec<RestaurantId> = (1..=RESTAURANTS).map(RestaurantId).collect();
        by_rank.sort_by_key(|restaurant| population.draw(Stream::Rank, restaurant.0));
        population.by_rank = by_rank;
        population
    }

    /// The seed of this population.
    pub fn seed(&self) -> u64 {
        self.seed
    }

    fn draw(&self, stream: Stream, id: i64) -> u64 {
        mix64(mix64(self.seed ^ (stream as u64) << 56) ^ id as u64)
    }

    /// What is drawn for a past order, at a place of its own for each question.
    pub(crate) fn draw_past(&self, number: u64, place: u64) -> u64 {
        self.draw(Stream::Past, mix64(number.wrapping_mul(16) + place) as i64)
    }

    fn draw_in(&self, stream: Stream, id: i64, low: i64, high: i64) -> i64 {
        low + (self.draw(stream, id) % (high - low + 1) as u64) as i64
    }

    /// The user, if the ID exists.
    pub fn user(&self, user_id: UserId) -> Option<User> {
        (1..=USERS).contains(&user_id.0).then(|| User { user_id, name: format!("User {user_id}") })
    }

    /// The restaurant, if the ID exists.
    pub fn restaurant(&self, restaurant_id: RestaurantId) -> Option<Restaurant> {
        (1..=RESTAURANTS).contains(&restaurant_id.0).then(|| Restaurant {
            restaurant_id,
            name: format!("Restaurant {restaurant_id}"),
            delivery_fee_fen: self.draw_in(Stream::Fee, restaurant_id.0, 0, 6) * 100,
        })
    }

    /// The restaurant's dishes; empty if there is no such restaurant.
    pub fn menu(&self, restaurant_id: RestaurantId) -> Vec<Dish> {
        (1..=DISHES_PER_RESTAURANT)
            .filter_map(|place| self.dish(restaurant_id, dish_id(restaurant_id, place)))
            .collect()
    }

    /// The dish, if this restaurant has it.
    pub fn dish(&self, restaurant_id: RestaurantId, dish_id: DishId) -> Option<Dish> {
        let exists = (1..=RESTAURANTS).contains(&restaurant_id.0)
            && dish_id.0 / 100 == restaurant_id.0
            && (1..=DISHES_PER_RESTAURANT).contains(&(dish_id.0 % 100));
        exists.then(|| Dish {
            dish_id,
            name: format!("Dish {dish_id}"),
            price_fen: self.draw_in(Stream::Price, dish_id.0, 8, 48) * 100,
        })
    }

    /// How many of a dish there are at first: far more than any load here orders.
    pub fn opening_stock(&self, dish_id: DishId) -> i64 {
        self.draw_in(Stream::Stock, dish_id.0, 900, 1_100) * 1_000
    }

    /// The coupon, if the ID exists.
    pub fn coupon(&self, coupon_id: CouponId) -> Option<Coupon> {
        (1..=COUPONS).contains(&coupon_id.0).then(|| Coupon {
            coupon_id,
            owner: UserId((coupon_id.0 - 1) % USERS + 1),
            amount_fen: self.draw_in(Stream::Coupon, coupon_id.0, 2, 7) * 100,
        })
    }

    /// The coupons that a user owns.
    pub fn coupons_of(&self, user_id: UserId) -> impl Iterator<Item = CouponId> {
        (0..COUPONS / USERS).map(move |n| CouponId(user_id.0 + n * USERS))
    }

    /// The restaurant that the point `share` (0.0…1.0) of all orders goes to: popularity is
    /// Zipf with exponent 1, so the busiest restaurant has about 12 % of the orders.
    pub fn restaurant_at(&self, share: f64) -> RestaurantId {
        let rank = self.popularity.partition_point(|end| *end < share);
        self.by_rank[rank.min(self.by_rank.len() - 1)]
    }
}

/// The ID of the dish at a place (1…=20) of a restaurant's menu.
pub fn dish_id(restaurant_id: RestaurantId, place: i64) -> DishId {
    DishId(restaurant_id.0 * 100 + place)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_seed_gives_one_population_and_another_gives_another() {
        let menus = |seed| Population::new(seed).menu(RestaurantId(17));
        assert_eq!(menus(1), menus(1));
        assert_ne!(menus(1), menus(2));
        let stock = |seed| Population::new(seed).opening_stock(dish_id(RestaurantId(17), 1));
        assert_eq!(stock(1), stock(1));
        assert_ne!(stock(1), stock(2));
    }

    #[test]
    fn ids_outside_the_population_do_not_exist() {
        let population = Population::new(1);
        assert!(population.user(UserId(0)).is_none());
        assert!(population.user(UserId(USERS + 1)).is_none());
        assert!(population.restaurant(RestaurantId(RESTAURANTS + 1)).is_none());
        assert!(population.menu(RestaurantId(0)).is_empty());
        assert!(population.dish(RestaurantId(2), dish_id(RestaurantId(3), 1)).is_none());
        assert!(population.dish(RestaurantId(2), dish_id(RestaurantId(2), 21)).is_none());
        assert!(population.coupon(CouponId(COUPONS + 1)).is_none());
    }

    #[test]
    fn each_user_owns_four_coupons() {
        let population = Population::new(9);
        let own: Vec<_> = population.coupons_of(UserId(5_000)).collect();
        assert_eq!(own.len(), 4);
        for coupon in own {
            assert_eq!(population.coupon(coupon).unwrap().owner, UserId(5_000));
        }
    }

    #[test]
    fn the_busiest_restaurant_gets_an_eighth_of_the_orders() {
        let population = Population::new(3);
        let busiest = population.restaurant_at(0.0);
        let hits = (0..10_000).filter(|n| population.restaurant_at(f64::from(*n) / 10_000.0) == busiest).count();
        assert!((1_100..1_350).contains(&hits), "{hits}");
        assert!(population.restaurant(population.restaurant_at(1.0)).is_some());
    }
}
