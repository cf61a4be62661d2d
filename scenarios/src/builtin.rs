//! The list of compiled scenarios.

use crate::client::{Abandon, Client};
use crate::order_system::{customer, list_polls, lunch, merchant, virtual_goods};

/// A compiled scenario.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Builtin {
    /// Orders a meal, pays, looks at the order, sometimes cancels.
    Customer,
    /// Looks at the kitchen's waiting orders and takes one through to completion.
    Merchant,
    /// Looks at a user's list of orders.
    ListPolls,
    /// One order from its quote to its completion, with everybody who has a hand in it.
    Lunch,
    /// Buys virtual goods and waits for them.
    VirtualGoods,
}

impl Builtin {
    /// Every compiled scenario.
    pub const ALL: &'static [Self] =
        &[Self::Customer, Self::Merchant, Self::ListPolls, Self::Lunch, Self::VirtualGoods];

    /// The name used in `builtin:`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Customer => "order-system/customer",
            Self::Merchant => "order-system/merchant",
            Self::ListPolls => "order-system/list-polls",
            Self::Lunch => "order-system/lunch",
            Self::VirtualGoods => "order-system/virtual-goods",
        }
    }

    /// The compiled scenario of this name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|builtin| builtin.name() == name)
    }

    /// Names of the requests it sends.
    #[must_use]
    pub fn requests(self) -> Vec<String> {
        let names: &[&str] = match self {
            Self::Customer => customer::REQUESTS,
            Self::Merchant => merchant::REQUESTS,
            Self::ListPolls => list_polls::REQUESTS,
            Self::Lunch => lunch::REQUESTS,
            Self::VirtualGoods => virtual_goods::REQUESTS,
        };
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    /// Runs it once.
    ///
    /// # Errors
    /// [`Abandon`] when a request failed or the load is over.
    pub async fn iterate<C: Client>(self, client: &mut C) -> Result<(), Abandon> {
        match self {
            Self::Customer => customer::iterate(client).await,
            Self::Merchant => merchant::iterate(client).await,
            Self::ListPolls => list_polls::iterate(client).await,
            Self::Lunch => lunch::iterate(client).await,
            Self::VirtualGoods => virtual_goods::iterate(client).await,
        }
    }
}

/// The compiled scenarios as the model's validation wants to know them.
#[must_use]
pub fn described() -> Vec<kennel_model::experiment::Builtin> {
    Builtin::ALL
        .iter()
        .map(|builtin| kennel_model::experiment::Builtin {
            name: builtin.name().to_owned(),
            requests: builtin.requests(),
        })
        .collect()
}
