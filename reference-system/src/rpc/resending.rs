//! The historic way of a gateway with slow requests (L02): it waits for less long than the service behind it works, sends
//! the request again as a new one, and answers with whatever comes of that; the first one still goes on.

use bytes::Bytes;
use http::{Method, StatusCode};
use tokio::task::JoinHandle;

use super::{Budget, CallError, Caller};

/// How the key of a request ends that the gateway has sent again.
const RESENT: &str = "#resent";

/// The client's key of a request, whoever sent it.
pub(crate) fn request_of(key: &str) -> &str {
    key.strip_suffix(RESENT).unwrap_or(key)
}

/// Sends, and sends again as a new request when there is no answer within [`Caller::patience`].
pub(crate) async fn send_blindly(
    caller: &Caller,
    service: &'static str,
    path: &str,
    body: Bytes,
    budget: Budget,
) -> Result<(StatusCode, Bytes), CallError> {
    let mut first = start(caller, service, path, body.clone(), budget.clone());
    if let Ok(Ok(sent)) = tokio::time::timeout(caller.patience(), &mut first).await {
        return sent;
    }
    let again = match budget.request_id() {
        Some(key) => budget.clone().with_request_id(&format!("{key}{RESENT}")),
        None => budget.clone(),
    };
    let late = || CallError::Timeout { service: service.to_owned() };
    start(caller, service, path, body, again).await.unwrap_or_else(|_| Err(late()))
}

/// A call that goes on when nobody waits for it any more.
fn start(
    caller: &Caller,
    service: &'static str,
    path: &str,
    body: Bytes,
    budget: Budget,
) -> JoinHandle<Result<(StatusCode, Bytes), CallError>> {
    let (caller, path) = (caller.clone(), path.to_owned());
    tokio::spawn(async move { caller.send(service, Method::POST, &path, body, &budget).await })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_that_was_sent_again_is_the_same_request() {
        assert_eq!(request_of("load-17"), "load-17");
        assert_eq!(request_of("load-17#resent"), "load-17");
        assert_eq!(request_of(""), "");
    }
}
