//! How one role calls another: budgets, the caller, and the client side of the registry.

mod breaker;
pub(crate) mod budget;
pub(crate) mod caller;
pub(crate) mod directory;
pub(crate) mod failure;
mod guards;
pub(crate) mod resending;

pub(crate) use budget::Budget;
pub(crate) use caller::{CallError, Caller};
pub(crate) use directory::Directory;
pub(crate) use failure::Failure;
