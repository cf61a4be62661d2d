//! The quote: prices bound in a token, so that an order costs what was shown.

use serde::{Deserialize, Serialize};

use super::Line;
use crate::ids::{CouponId, RestaurantId, UserId, mix64};

/// What an order would cost.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Quote {
    pub(crate) user_id: UserId,
    pub(crate) restaurant_id: RestaurantId,
    pub(crate) lines: Vec<Line>,
    pub(crate) coupon_id: Option<CouponId>,
    pub(crate) items_fen: i64,
    pub(crate) delivery_fee_fen: i64,
    pub(crate) discount_fen: i64,
    pub(crate) total_fen: i64,
    /// The version of the promotion that made the price.
    #[serde(default)]
    pub(crate) promo_version: u64,
    pub(crate) expires_at_ms: i64,
}

/// What an order keeps of the quote that it was made under, so that an audit can tell whether it costs what was shown.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Quoted {
    /// Tells quotes apart: the checksum of the token.
    pub(crate) quote: String,
    /// What was shown.
    pub(crate) total_fen: i64,
}

impl Quoted {
    /// Of a token that was [opened](open).
    pub(crate) fn of(token: &str, quote: &Quote) -> Self {
        Self { quote: token.chars().take(16).collect(), total_fen: quote.total_fen }
    }
}

/// The token of a quote: its JSON and a checksum keyed by the seed. It guards against stale and
/// mixed-up quotes in a system under test; it is no defence against a forger.
pub(crate) fn seal(quote: &Quote, seed: u64) -> String {
    let text = serde_json::to_string(quote).unwrap_or_default();
    format!("{:016x}{text}", checksum(&text, seed))
}

/// The quote in a token, or why it is none.
pub(crate) fn open(token: &str, seed: u64, now_ms: i64) -> Result<Quote, &'static str> {
    const BROKEN: &str = "the quote token is broken";
    let (sum, text) = token.split_at_checked(16).ok_or(BROKEN)?;
    if u64::from_str_radix(sum, 16) != Ok(checksum(text, seed)) {
        return Err(BROKEN);
    }
    let quote: Quote = serde_json::from_str(text).map_err(|_| BROKEN)?;
    if quote.expires_at_ms < now_ms { Err("the quote has expired") } else { Ok(quote) }
}

fn checksum(text: &str, seed: u64) -> u64 {
    text.bytes().fold(mix64(seed), |sum, byte| mix64(sum ^ u64::from(byte)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn quote() -> Quote {
        Quote {
            user_id: UserId(1),
            restaurant_id: RestaurantId(2),
            lines: Vec::new(),
            coupon_id: None,
            items_fen: 10,
            delivery_fee_fen: 1,
            discount_fen: 0,
            total_fen: 11,
            promo_version: 0,
            expires_at_ms: 100,
        }
    }

    #[test]
    fn a_token_gives_its_quote_back_until_it_expires() {
        let token = seal(&quote(), 7);
        assert_eq!(open(&token, 7, 100), Ok(quote()));
        assert_eq!(open(&token, 7, 101), Err("the quote has expired"));
    }

    #[test]
    fn a_changed_token_or_another_seed_is_refused() {
        let token = seal(&quote(), 7);
        assert!(open(&token, 8, 0).is_err());
        assert!(open(&token.replace(":11,", ":10,"), 7, 0).is_err());
        assert!(open("short", 7, 0).is_err());
        assert!(open("", 7, 0).is_err());
        assert!(open("ääääääääääääääääääää", 7, 0).is_err());
    }
}
