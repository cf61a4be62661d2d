//! A visitor who keeps cookies and looks at each redirect before following it, so that a test can bring back something
//! else than it was given.
#![allow(dead_code, unreachable_pub, clippy::unwrap_used, reason = "each test uses its own part")]

use std::collections::BTreeMap;

use reqwest::header::{COOKIE, LOCATION, SET_COOKIE};
use url::Url;

/// Most redirects that lead to a page.
const FARTHEST: usize = 20;

/// A browser without a screen. As in one, cookies of a host go to every port of it.
pub struct Visitor {
    http: reqwest::Client,
    cookies: BTreeMap<String, String>,
    /// Every address that was asked for.
    pub asked: Vec<Url>,
}

/// What a visitor was answered.
pub struct Answer {
    pub status: u16,
    pub url: Url,
    /// Where it leads on to.
    pub location: Option<Url>,
    pub text: String,
}

impl Answer {
    /// The first text between two others; what is on a page is written as HTML.
    pub fn between(&self, before: &str, after: &str) -> String {
        let found = self.text.split_once(before).and_then(|(_, rest)| rest.split_once(after));
        let (found, _) = found.unwrap_or_else(|| panic!("no {before}…{after} in\n{}", self.text));
        ["&amp;=&", "&quot;=\"", "&lt;=<", "&gt;=>", "&#39;='", "&#34;=\"", "&#x27;=\'"].iter().fold(
            found.to_owned(),
            |text, pair| {
                let (written, meant) = pair.split_once('=').unwrap();
                text.replace(written, meant)
            },
        )
    }

    /// What the page says went wrong.
    pub fn error(&self) -> String {
        self.between("role=\"alert\" id=\"error\">", "</p>")
    }
}

impl Visitor {
    pub fn new() -> Self {
        let http = reqwest::Client::builder().no_proxy().redirect(reqwest::redirect::Policy::none()).build().unwrap();
        Self { http, cookies: BTreeMap::new(), asked: Vec::new() }
    }

    /// What a cookie holds, whose name begins so.
    pub fn cookie(&self, name: &str) -> Option<&str> {
        let found = self.cookies.iter().find(|(cookie, _)| cookie.starts_with(name));
        found.map(|(_, value)| value.as_str())
    }

    pub async fn get(&mut self, url: &str) -> Answer {
        self.send(self.http.get(url)).await
    }

    /// Opens something that goes on, by cookie or by token.
    pub async fn stream(&self, url: &str, token: Option<&str>) -> reqwest::Response {
        let request = self.http.get(url).header(COOKIE, self.cookies());
        let answer = token.into_iter().fold(request, reqwest::RequestBuilder::bearer_auth).send().await.unwrap();
        assert_eq!(answer.status(), 200);
        answer
    }

    fn cookies(&self) -> String {
        let cookies: Vec<String> = self.cookies.iter().map(|(name, value)| format!("{name}={value}")).collect();
        cookies.join("; ")
    }

    /// Sends a form.
    pub async fn send_form(&mut self, url: &str, fields: &[(&str, &str)]) -> Answer {
        let mut body = url::form_urlencoded::Serializer::new(String::new());
        body.extend_pairs(fields);
        let request = self.http.post(url).header("content-type", "application/x-www-form-urlencoded");
        self.send(request.body(body.finish())).await
    }

    /// Follows redirects until a page, or one that leads to a path in which `stop` occurs.
    pub async fn follow(&mut self, mut answer: Answer, stop: &str) -> Answer {
        for _ in 0..FARTHEST {
            match &answer.location {
                Some(next) if stop.is_empty() || !next.path().contains(stop) => {
                    let next = next.to_string();
                    answer = self.get(&next).await;
                }
                _ => return answer,
            }
        }
        panic!("led around in circles: {:?}", self.asked);
    }

    async fn send(&mut self, request: reqwest::RequestBuilder) -> Answer {
        let request = request.header(COOKIE, self.cookies()).build().unwrap();
        let url = request.url().clone();
        self.asked.push(url.clone());
        let answer = self.http.execute(request).await.unwrap();
        for cookie in answer.headers().get_all(SET_COOKIE) {
            let (name, rest) = cookie.to_str().unwrap().split_once('=').unwrap();
            let value = rest.split(';').next().unwrap();
            if value.is_empty() {
                self.cookies.remove(name);
            } else {
                self.cookies.insert(name.to_owned(), value.to_owned());
            }
        }
        let location = answer.headers().get(LOCATION).map(|next| url.join(next.to_str().unwrap()).unwrap());
        Answer { status: answer.status().as_u16(), url, location, text: answer.text().await.unwrap() }
    }
}
