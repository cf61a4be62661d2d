//! Sessions of browsers: what a cookie stands for, kept in the store, rotated at login, over after a while.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use axum::extract::{ConnectInfo, FromRequestParts};
use axum::http::header;
use axum::http::request::Parts;
use jiff::{SignedDuration, Timestamp};
use kennel_accounts::secret;
use kennel_accounts::sign_on::{Begun, Brought, SignOnError};
use kennel_model::api::{AccountView, SessionView};
use tower_sessions::cookie::time::OffsetDateTime;
use tower_sessions::session::{Id, Record};
use tower_sessions::session_store::{Error, Result as StoreResult};
use tower_sessions::{Session, SessionStore};
use url::Url;

use super::accounts::later;
use super::{Entrance, PeopleError, Visit, Why};
use crate::Controller;
use crate::store::{Store, StoreError, StoredSession, now};

/// A session ends when it is not used for this long.
const IDLE: Duration = Duration::from_secs(12 * 60 * 60);
/// A session ends this long after its login, used or not.
pub(super) const LONGEST: Duration = Duration::from_secs(7 * 24 * 60 * 60);
/// A login that was begun at a provider has to come back within this time.
const BEGUN: Duration = Duration::from_secs(15 * 60);
/// A use is noted again after this time.
const NOTED_EVERY: SignedDuration = SignedDuration::from_secs(60);
/// Longest name of a browser that is kept.
const LONGEST_NAME: usize = 200;

/// What a session holds.
const ACCOUNT: &str = "account";
const CSRF: &str = "csrf";
const AGENT: &str = "browser";
const ADDRESS: &str = "address";
const SIGN_ON: &str = "sign-on";
const NEXT: &str = "next";

/// The store as the session layer sees it.
#[derive(Debug, Clone)]
pub(super) struct Sessions(pub(super) Store);

/// What is kept of a session's identity.
pub(super) fn digest(id: &Id) -> String {
    secret::digest(&id.to_string())
}

/// The sooner of two moments.
fn sooner(a: String, b: String) -> String {
    match (a.parse::<Timestamp>(), b.parse::<Timestamp>()) {
        (Ok(first), Ok(second)) if second < first => b,
        _ => a,
    }
}

fn failed(error: StoreError) -> Error {
    tracing::error!(%error, "the store failed");
    Error::Backend(error.to_string())
}

fn account_in(record: &Record) -> Option<String> {
    record.data.get(ACCOUNT).and_then(|value| value.as_str()).map(str::to_owned)
}

#[async_trait]
impl SessionStore for Sessions {
    async fn create(&self, record: &mut Record) -> StoreResult<()> {
        let data = serde_json::to_string(&record.data).map_err(|error| Error::Encode(error.to_string()))?;
        loop {
            let account = account_in(record);
            let lasts = if account.is_some() { IDLE } else { BEGUN };
            let session = StoredSession {
                digest: digest(&record.id),
                account,
                data: data.clone(),
                created_at: now(),
                seen_at: now(),
                expires_at: later(lasts),
            };
            if self.0.insert_session(&session).await.map_err(failed)? {
                return Ok(());
            }
            record.id = Id::default();
        }
    }

    async fn save(&self, record: &Record) -> StoreResult<()> {
        let data = serde_json::to_string(&record.data).map_err(|error| Error::Encode(error.to_string()))?;
        self.0.update_session(&digest(&record.id), account_in(record).as_deref(), &data).await.map_err(failed)
    }

    async fn load(&self, id: &Id) -> StoreResult<Option<Record>> {
        let Some(session) = self.0.session(&digest(id)).await.map_err(failed)? else { return Ok(None) };
        let data: HashMap<String, serde_json::Value> =
            serde_json::from_str(&session.data).map_err(|error| Error::Decode(error.to_string()))?;
        let moment = |text: &str| text.parse::<Timestamp>().ok();
        let noted = moment(&session.seen_at);
        if session.account.is_some()
            && noted.is_none_or(|noted| Timestamp::now().duration_since(noted) >= NOTED_EVERY)
            && let Some(created) = moment(&session.created_at)
        {
            let expires_at = sooner(later(IDLE), (created + LONGEST).to_string());
            self.0.session_seen(&session.digest, &expires_at).await.map_err(failed)?;
        }
        let ends = moment(&session.expires_at).map_or(0, Timestamp::as_second);
        let expiry_date =
            OffsetDateTime::from_unix_timestamp(ends).map_err(|error| Error::Decode(error.to_string()))?;
        Ok(Some(Record { id: *id, data, expiry_date }))
    }

    async fn delete(&self, id: &Id) -> StoreResult<()> {
        self.0.delete_session(&digest(id)).await.map_err(failed)
    }
}

/// The browser that asks: its session, and how it came in.
#[derive(Debug, Clone)]
pub struct Browser {
    session: Session,
    entrance: Arc<Entrance>,
    address: Option<IpAddr>,
    agent: String,
    origin: String,
}

impl<S: Sync> FromRequestParts<S> for Browser {
    type Rejection = Why;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Why> {
        let header = |name| parts.headers.get(name).and_then(|value| value.to_str().ok());
        Ok(Self {
            session: parts.extensions.get::<Session>().cloned().ok_or(Why::NotLoggedIn)?,
            entrance: parts.extensions.get::<Arc<Entrance>>().cloned().ok_or(Why::NotLoggedIn)?,
            address: address(parts.extensions.get()),
            agent: header(header::USER_AGENT).unwrap_or("unknown").chars().take(LONGEST_NAME).collect(),
            origin: parts.extensions.get::<Visit>().ok_or(Why::NotLoggedIn)?.origin().to_owned(),
        })
    }
}

/// Where a request comes from, where the server was told.
pub(super) fn address(connection: Option<&ConnectInfo<SocketAddr>>) -> Option<IpAddr> {
    connection.map(|ConnectInfo(address)| address.ip().to_canonical())
}

fn unkept(error: tower_sessions::session::Error) -> PeopleError {
    PeopleError::Session { why: error.to_string() }
}

/// Who is logged in by a session, and what its forms must send.
pub(super) async fn held(session: &Session) -> Result<Option<(String, String)>, PeopleError> {
    let account = session.get::<String>(ACCOUNT).await.map_err(unkept)?;
    let csrf = session.get::<String>(CSRF).await.map_err(unkept)?;
    Ok(account.zip(csrf))
}

impl Browser {
    /// What the server knows of how it is reached.
    #[must_use]
    pub fn entrance(&self) -> &Entrance {
        &self.entrance
    }

    /// Where the browser is, where the server was told.
    #[must_use]
    pub fn address(&self) -> Option<IpAddr> {
        self.address
    }

    /// This Kennel's address as the browser knows it.
    #[must_use]
    pub fn origin(&self) -> &str {
        &self.origin
    }

    /// Logs the browser in. Its session gets a new identity, so that one that somebody planted is worth nothing.
    ///
    /// # Errors
    /// When the session cannot be kept.
    pub async fn enter(&self, account: &AccountView) -> Result<(), PeopleError> {
        self.session.clear().await;
        let address = self.address.map(|address| address.to_string()).unwrap_or_default();
        for (key, value) in
            [(ACCOUNT, &account.name), (CSRF, &secret::random()), (AGENT, &self.agent), (ADDRESS, &address)]
        {
            self.session.insert(key, value).await.map_err(unkept)?;
        }
        self.session.cycle_id().await.map_err(unkept)
    }

    /// Logs the browser out.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn leave(&self, controller: &Controller) -> Result<(), PeopleError> {
        self.session.flush().await.map_err(unkept)?;
        controller.inner.people.rights_changed();
        Ok(())
    }

    /// Begins a login at the provider: where to send the browser. It comes back to `/login/sign-on/back`.
    ///
    /// # Errors
    /// When single sign-on is not set up, or the provider does not answer.
    pub async fn begin_sign_on(&self, controller: &Controller, next: &str) -> Result<Url, PeopleError> {
        let provider = controller.provider(&self.entrance).await?;
        let (url, begun) = provider.begin(&self.back())?;
        self.session.insert(SIGN_ON, begun).await.map_err(unkept)?;
        self.session.insert(NEXT, next).await.map_err(unkept)?;
        Ok(url)
    }

    /// Ends a login at the provider: logs the browser in, and says where it wanted to go.
    ///
    /// # Errors
    /// When it was not begun in this browser, the provider refuses, or its answer proves nothing.
    pub async fn finish_sign_on(&self, controller: &Controller, brought: Brought) -> Result<String, PeopleError> {
        // Taken out, so that a code is tried only once.
        let begun = self.session.remove::<Begun>(SIGN_ON).await.map_err(unkept)?;
        let next = self.session.remove::<String>(NEXT).await.map_err(unkept)?.unwrap_or_default();
        let begun = begun.ok_or(SignOnError::NotBegun)?;
        let account = controller.finish_sign_on(&self.entrance, begun, brought, &self.back()).await?;
        self.enter(&account).await?;
        Ok(next)
    }

    /// Where to log out at the provider too, if it said so.
    pub async fn end_session(&self, controller: &Controller) -> Option<Url> {
        controller.known_provider(&self.entrance).await?.end_session()
    }

    fn back(&self) -> String {
        format!("{}/login/sign-on/back", self.origin())
    }

    fn own_digest(&self) -> Option<String> {
        self.session.id().map(|id| digest(&id))
    }
}

impl Controller {
    /// Sessions of an account, the one used last first.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn sessions(&self, account: &str, browser: Option<&Browser>) -> Result<Vec<SessionView>, PeopleError> {
        let own = browser.and_then(Browser::own_digest);
        let sessions = self.inner.store.sessions_of(account).await?;
        let views = sessions.into_iter().map(|session| {
            let data: HashMap<String, serde_json::Value> = serde_json::from_str(&session.data).unwrap_or_default();
            let text = |key: &str| data.get(key).and_then(|value| value.as_str()).unwrap_or_default().to_owned();
            SessionView {
                current: Some(&session.digest) == own.as_ref(),
                browser: text(AGENT),
                address: text(ADDRESS),
                created_at: session.created_at,
                seen_at: session.seen_at,
                expires_at: session.expires_at,
            }
        });
        Ok(views.collect())
    }

    /// Ends every session of an account but the one that asks; how many those were.
    ///
    /// # Errors
    /// When the store cannot be written.
    pub async fn end_sessions(
        &self,
        caller: &crate::Caller,
        account: &str,
        browser: Option<&Browser>,
    ) -> Result<u64, PeopleError> {
        let own = browser.and_then(Browser::own_digest);
        let ended = self.inner.store.end_sessions_of(account, own.as_deref()).await?;
        self.inner.people.rights_changed();
        self.record(caller, "end sessions", &format!("account {account}"), &format!("{ended} ended")).await?;
        Ok(ended)
    }
}
