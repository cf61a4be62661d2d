//! The API as commands use it: of the Kennel that owns the data directory, or of one started for the occasion.

use std::net::SocketAddr;
use std::time::Duration;

use kennel_model::api::ApiProblem;
use kennel_model::run::RunId;
use reqwest::{Method, RequestBuilder, Response, StatusCode};
use serde::Serialize;
use serde::de::DeserializeOwned;

use kennel_controller::people::Secret;

use crate::failure::Failure;
use crate::places::Places;
use crate::server::{Server, ServerFile};

/// How long a Kennel may take to say that it is there.
const PROBE_TIMEOUT: Duration = Duration::from_secs(2);

/// A connection to a Kennel.
pub(crate) struct Client {
    http: reqwest::Client,
    url: String,
    /// What browsers call it, where that is something else.
    public_url: Option<String>,
    /// What shows who asks: the local server's secret, or a token.
    secret: Option<Secret>,
    /// Whether the server is on another machine.
    remote: bool,
    /// Set when this process started the server itself.
    own: Option<Server>,
}

impl Client {
    /// The API of a server in this process.
    pub(crate) fn of(server: &Server) -> Result<Self, Failure> {
        Ok(Self { secret: Some(server.secret.clone()), ..Self::at(&server.url)? })
    }

    /// The API at `url`.
    fn at(url: &str) -> Result<Self, Failure> {
        let builder = reqwest::Client::builder().no_proxy();
        // What is not encrypted needs no certificates of this machine, which may have none.
        let builder = if url.starts_with("https://") { builder } else { builder.tls_certs_only([]) };
        let http = builder.build();
        let http = http.map_err(|e| Failure::could_not_run(format!("cannot make an HTTP client: {e}")))?;
        Ok(Self { http, url: url.to_owned(), public_url: None, secret: None, remote: false, own: None })
    }

    /// The Kennel that was named, or the one that owns the data directory, if one is running.
    pub(crate) async fn running(places: &Places) -> Result<Option<Self>, Failure> {
        if let Some(remote) = places.remote() {
            return Ok(Some(Self { secret: remote.token.clone(), remote: true, ..Self::at(&remote.url)? }));
        }
        let Ok(text) = std::fs::read_to_string(places.server()) else { return Ok(None) };
        let Ok(file) = serde_json::from_str::<ServerFile>(&text) else { return Ok(None) };
        let secret = file.secret.map(Secret::new);
        let client = Self { secret, public_url: file.public_url, ..Self::at(&file.url)? };
        let probe = client.http.get(format!("{}/api/v1/health", client.url)).timeout(PROBE_TIMEOUT);
        let alive = probe.send().await;
        Ok(alive.is_ok_and(|answer| answer.status().is_success()).then_some(client))
    }

    /// The Kennel that owns the data directory, or one started in this process on a free port.
    pub(crate) async fn open(places: &Places) -> Result<Self, Failure> {
        if let Some(client) = Self::running(places).await? {
            return Ok(client);
        }
        let address = SocketAddr::from(([127, 0, 0, 1], 0));
        let file = crate::agent_file::read(places, None)?;
        let server = Server::start(places, address, Vec::new(), file).await;
        let server = server.map_err(|e| Failure::could_not_run(e.to_string()))?;
        let client = Self::of(&server)?;
        Ok(Self { own: Some(server), ..client })
    }

    /// Base URL of the Kennel.
    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    /// The page at a path, if it will still be served when this command is over.
    pub(crate) fn page_at(&self, path: &str) -> Option<String> {
        self.own.is_none().then(|| format!("{}{path}", self.public_url.as_ref().unwrap_or(&self.url)))
    }

    /// A page of the Kennel as a link; without its host where this process is the Kennel and soon gone.
    pub(crate) fn link(&self, path: &str) -> String {
        self.page_at(path).unwrap_or_else(|| path.to_owned())
    }

    /// The page of a run, if it will still be served when this command is over.
    pub(crate) fn page(&self, run: RunId) -> Option<String> {
        self.page_at(&format!("/runs/{run}"))
    }

    /// Ends the connection, and the server if it is this process's own.
    pub(crate) async fn close(self) {
        if let Some(server) = self.own {
            server.stop().await;
        }
    }

    /// Asks and decodes the answer.
    pub(crate) async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, Failure> {
        self.decode(self.send(Method::GET, path, None::<&()>).await?).await
    }

    /// Asks for an answer that is text.
    pub(crate) async fn text(&self, path: &str) -> Result<String, Failure> {
        let answer = self.send(Method::GET, path, None::<&()>).await?;
        answer.text().await.map_err(|e| Failure::could_not_run(format!("Kennel at {} broke off: {e}", self.url)))
    }

    /// Posts and decodes the answer.
    pub(crate) async fn post<B: Serialize, T: DeserializeOwned>(&self, path: &str, body: &B) -> Result<T, Failure> {
        self.decode(self.send(Method::POST, path, Some(body)).await?).await
    }

    /// Puts and decodes the answer.
    pub(crate) async fn put<B: Serialize, T: DeserializeOwned>(&self, path: &str, body: &B) -> Result<T, Failure> {
        self.decode(self.send(Method::PUT, path, Some(body)).await?).await
    }

    /// Posts a document as it is and decodes the answer.
    pub(crate) async fn post_document<T: DeserializeOwned>(
        &self,
        path: &str,
        query: &[(&str, &str)],
        document: Vec<u8>,
    ) -> Result<T, Failure> {
        let request = self.request(Method::POST, path).query(query);
        let request = request.header("content-type", "application/octet-stream").body(document);
        self.decode(self.answered(request).await?).await
    }

    /// Posts; the answer has nothing to say.
    pub(crate) async fn tell(&self, path: &str) -> Result<(), Failure> {
        self.send(Method::POST, path, None::<&()>).await.map(|_| ())
    }

    /// Removes what is at a path.
    pub(crate) async fn remove(&self, path: &str) -> Result<(), Failure> {
        self.send(Method::DELETE, path, None::<&()>).await.map(|_| ())
    }

    /// Opens an event stream.
    pub(crate) async fn stream(&self, path: &str) -> Result<Response, Failure> {
        self.send(Method::GET, path, None::<&()>).await
    }

    /// Puts; the answer has nothing to say.
    pub(crate) async fn set<B: Serialize>(&self, path: &str, body: &B) -> Result<(), Failure> {
        self.send(Method::PUT, path, Some(body)).await.map(|_| ())
    }

    /// Patches and decodes the answer.
    pub(crate) async fn patch<B: Serialize, T: DeserializeOwned>(&self, path: &str, body: &B) -> Result<T, Failure> {
        self.decode(self.send(Method::PATCH, path, Some(body)).await?).await
    }

    /// Deletes and decodes the answer.
    pub(crate) async fn delete<T: DeserializeOwned>(&self, path: &str) -> Result<T, Failure> {
        self.decode(self.send(Method::DELETE, path, None::<&()>).await?).await
    }

    async fn send<B: Serialize>(&self, method: Method, path: &str, body: Option<&B>) -> Result<Response, Failure> {
        let mut request = self.request(method, path);
        if let Some(body) = body {
            request = request.json(body);
        }
        self.answered(request).await
    }

    fn request(&self, method: Method, path: &str) -> RequestBuilder {
        let request = self.http.request(method, format!("{}/api/v1{path}", self.url));
        match &self.secret {
            Some(secret) => request.bearer_auth(secret.reveal()),
            None => request,
        }
    }

    /// The answer, if it is no refusal.
    async fn answered(&self, request: RequestBuilder) -> Result<Response, Failure> {
        let answer = request
            .send()
            .await
            .map_err(|e| Failure::could_not_run(format!("Kennel at {} did not answer: {e}", self.url)))?;
        if answer.status().is_success() {
            return Ok(answer);
        }
        let status = answer.status();
        let problem: ApiProblem = answer
            .json()
            .await
            .unwrap_or(ApiProblem { error: format!("Kennel answered {status}"), problems: Vec::new() });
        if matches!(status, StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN) {
            let next = if self.remote && self.secret.is_none() {
                "; put a token for it into the environment variable KENNEL_TOKEN"
            } else {
                ""
            };
            return Err(Failure::could_not_run(format!("Kennel at {} refused: {}{next}", self.url, problem.error)));
        }
        let is_usage = matches!(
            status,
            StatusCode::BAD_REQUEST
                | StatusCode::NOT_FOUND
                | StatusCode::PAYLOAD_TOO_LARGE
                | StatusCode::UNPROCESSABLE_ENTITY
        );
        Err(if is_usage {
            Failure::bad_input(problem.error, problem.problems)
        } else {
            Failure::could_not_run(problem.error)
        })
    }

    async fn decode<T: DeserializeOwned>(&self, answer: Response) -> Result<T, Failure> {
        answer.json().await.map_err(|e| {
            Failure::could_not_run(format!("Kennel at {} answered something else than expected: {e}", self.url))
        })
    }
}
