//! A list poll: an open app asks for its user's latest orders.

use super::any_user;
use crate::client::{Abandon, Client, Request};

/// The one request name.
pub const REQUESTS: &[&str] = &["list orders"];

/// Asks once.
///
/// # Errors
/// [`Abandon`] when the request failed or the load is over.
pub async fn iterate<C: Client>(client: &mut C) -> Result<(), Abandon> {
    let user = any_user(client.random());
    client.send(Request::get(0, &format!("/users/{user}/orders?limit=20"))).await.map(|_| ())
}
