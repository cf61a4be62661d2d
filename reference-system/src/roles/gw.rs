//! The gateway: the one door for clients. Routes by path, bounds by time, passes answers on.

use axum::Router;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodRouter, get, post};
use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{HeaderValue, Method, Uri};
use serde_json::json;

use crate::extract::At;
use crate::frame::{Frame, RoleError};
use crate::rpc::resending::send_blindly;
use crate::rpc::{Budget, Caller, Failure};

/// The services behind it.
const NEEDS: [&str; 8] = ["eps", "eos-c", "eos-m", "eus", "ers", "rev", "blink", "vgo"];

pub(super) async fn run(frame: Frame) -> Result<(), RoleError> {
    let routes = Router::new()
        .route("/quote", write("eps"))
        .route("/orders", write("eos-c"))
        .route("/orders/{id}", read("eos-c"))
        .route("/orders/{id}/pay", write("eos-c"))
        .route("/orders/{id}/cancel", write("eos-c"))
        .route("/orders/{id}/delivered", write("eos-m"))
        .route("/orders/{id}/confirm", write("eos-m"))
        .route("/courier/{id}/picked", write("blink"))
        .route("/courier/{id}/done", write("blink"))
        .route("/refunds", write("rev"))
        .route("/refunds/{refund}", read("rev"))
        .route("/refunds/{refund}/approve", write("rev"))
        .route("/refunds/{refund}/reject", write("rev"))
        .route("/refunds/{refund}/arbitrate", write("rev"))
        .route("/vorders", write("vgo"))
        .route("/vorders/{id}", read("vgo"))
        .route("/vorders/{id}/pay", write("vgo"))
        .route("/vorders/{id}/cancel", write("vgo"))
        .route("/users/{user}", read("eus"))
        .route("/users/{user}/orders", read("eos-c"))
        .route("/restaurants/{restaurant}/menu", read("ers"))
        .route("/restaurants/{restaurant}/orders", read("eos-m"))
        .route("/restaurants/{restaurant}/orders/{id}/accept", write("eos-m"))
        .route("/restaurants/{restaurant}/orders/{id}/reject", write("eos-m"))
        .route("/debug/panic/{service}", post(panic_at))
        .with_state(frame.caller.clone());
    frame.serve(routes, Box::new(|| json!({})), frame.wait_for(&NEEDS)).await
}

/// Has an instance of a service panic over a request, chosen as for any other request.
async fn panic_at(
    caller: State<Caller>,
    budget: Budget,
    At(service): At<String>,
    body: Bytes,
) -> Result<Response, Failure> {
    let known = NEEDS.iter().find(|need| **need == service);
    let Some(service) = known else {
        let why = format!("there is no service {service} behind the gateway; expected one of {}", NEEDS.join(", "));
        return Err(Failure::not_found(why));
    };
    forward(caller, service, Method::POST, budget, Uri::from_static("/debug/panic"), body).await
}

fn read(service: &'static str) -> MethodRouter<Caller> {
    get(move |caller: State<Caller>, budget: Budget, uri: Uri| async move {
        forward(caller, service, Method::GET, budget, uri, Bytes::new()).await
    })
}

fn write(service: &'static str) -> MethodRouter<Caller> {
    post(move |caller: State<Caller>, budget: Budget, uri: Uri, body: Bytes| async move {
        forward(caller, service, Method::POST, budget, uri, body).await
    })
}

async fn forward(
    State(caller): State<Caller>,
    service: &'static str,
    method: Method,
    budget: Budget,
    uri: Uri,
    body: Bytes,
) -> Result<Response, Failure> {
    let path = uri.path_and_query().map_or("/", |path| path.as_str());
    let (status, answer) = if method == Method::POST && caller.in_force().resends_blindly {
        send_blindly(&caller, service, path, body, budget).await?
    } else {
        caller.send(service, method, path, body, &budget).await?
    };
    let json = [(CONTENT_TYPE, HeaderValue::from_static("application/json"))];
    Ok((status, json, answer).into_response())
}
