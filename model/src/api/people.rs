//! Accounts, sessions, tokens and the audit log.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::role::Role;

/// An account.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct AccountView {
    /// Name to log in with.
    pub name: String,
    /// What it may do.
    pub role: Role,
}
