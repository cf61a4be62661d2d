//! Who asks: a person, a token, or whoever sits at this machine while there are no accounts.

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use kennel_model::Role;

use crate::people::Why;

/// Who asks, and what they may do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caller {
    /// Name for the audit log and the pages.
    pub name: String,
    /// What they may do.
    pub role: Role,
}

impl Caller {
    /// Whoever sits at this machine while there are no accounts.
    #[must_use]
    pub fn local() -> Self {
        Self { name: "local".to_owned(), role: Role::Admin }
    }
}

impl<S: Sync> FromRequestParts<S> for Caller {
    type Rejection = Why;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Self::Rejection> {
        parts.extensions.get::<Self>().cloned().ok_or(Why::NotLoggedIn)
    }
}
