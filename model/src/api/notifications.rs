//! Channels, rules and deliveries.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// A place where notifications go.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ChannelView {
    /// Its number.
    pub id: i64,
    /// Its name.
    pub name: String,
}
