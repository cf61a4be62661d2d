//! Asking for pages and sending forms as a browser without scripts does; where an answer leads is looked at, not followed.

use std::time::Duration;

use reqwest::header::HeaderMap;
use reqwest::redirect::Policy;
use reqwest::{Client, RequestBuilder, StatusCode};

use super::House;

/// What came back.
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    /// Where it leads; empty where it does not.
    pub(crate) location: String,
    pub(crate) headers: HeaderMap,
    pub(crate) body: String,
}

impl Answer {
    #[track_caller]
    pub(crate) fn holds(&self, parts: &[&str]) -> &Self {
        for part in parts {
            assert!(self.body.contains(part), "`{part}` is missing in\n{}", self.body);
        }
        self
    }

    #[track_caller]
    pub(crate) fn lacks(&self, parts: &[&str]) -> &Self {
        for part in parts {
            assert!(!self.body.contains(part), "`{part}` should not be in\n{}", self.body);
        }
        self
    }

    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().expect("a header of text"))
    }
}

pub(crate) fn client() -> Client {
    let client = Client::builder().redirect(Policy::none()).no_proxy().timeout(Duration::from_secs(30));
    client.build().expect("a client")
}

pub(crate) async fn read(request: RequestBuilder) -> Answer {
    let response = request.send().await.expect("an answer");
    let (status, headers) = (response.status(), response.headers().clone());
    let location = headers.get("location").map_or("", |value| value.to_str().expect("text")).to_owned();
    Answer { status, location, headers, body: response.text().await.expect("a body of text") }
}

pub(crate) async fn get(house: &House, path: &str) -> Answer {
    read(client().get(house.url(path))).await
}

/// Sends a form.
pub(crate) async fn submit(house: &House, path: &str, form: &[(&str, &str)]) -> Answer {
    read(client().post(house.url(path)).form(form)).await
}
