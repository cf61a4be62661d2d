//! API tokens: made, listed, revoked, and recognised when one is sent.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use kennel_accounts::secret;
use kennel_model::Role;
use kennel_model::api::{CreatedToken, NewToken, TokenScope, TokenView};
use kennel_model::run::RunId;

use super::accounts::later;
use super::{PeopleError, Visit};
use crate::store::{StoreError, now};
use crate::{Caller, Controller};

/// Days that a token works unless said otherwise.
const USUAL_DAYS: u32 = 90;
/// Most days that a token works, unless for ever.
const MOST_DAYS: u32 = 3650;
/// Longest name.
const LONGEST_NAME: usize = 60;
/// A use is noted again after this time.
const NOTED_EVERY: SignedDuration = SignedDuration::from_secs(60);
/// Owner of tokens that were made without an account; also what an account is never called.
pub(super) const LOCAL: &str = "local";

/// What became of a token that was sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Recognised {
    /// It works.
    Works {
        /// Who asks by it.
        caller: Caller,
        /// Whose it is.
        owner: String,
        /// What it may be used for.
        scope: TokenScope,
    },
    /// Nobody made it.
    Unknown,
    /// It worked once.
    Over {
        /// Why it does no longer.
        why: &'static str,
    },
}

impl Controller {
    /// Makes a token for whoever asks.
    ///
    /// # Errors
    /// When it would do more than its maker, or its name or length of life make no sense.
    pub async fn create_token(&self, visit: &Visit, new: NewToken) -> Result<CreatedToken, PeopleError> {
        let caller = visit.caller();
        let name = new.name.trim().to_owned();
        if name.is_empty() || name.chars().count() > LONGEST_NAME || name.chars().any(char::is_control) {
            return Err(PeopleError::TokenName);
        }
        let role = new.role.unwrap_or(caller.role);
        if role > caller.role {
            return Err(PeopleError::TokenRole { has: caller.role, wanted: role });
        }
        let expires_at = match new.days.unwrap_or(USUAL_DAYS) {
            0 => None,
            days if days <= MOST_DAYS => Some(later(Duration::from_secs(u64::from(days) * 24 * 60 * 60))),
            days => return Err(PeopleError::TokenDays { days }),
        };
        let secret = secret::token();
        let token = TokenView {
            id: RunId::new().short(),
            name,
            owner: visit.owner().to_owned(),
            role,
            scope: new.scope,
            created_at: now(),
            expires_at,
            last_used_at: None,
            revoked_at: None,
        };
        self.inner.store.insert_token(&secret::digest(secret.reveal()), &token).await?;
        let detail = format!("“{}”, role {role}, scope {}", token.name, token.scope);
        self.record(caller, "create token", &format!("token {}", token.id), &detail).await?;
        Ok(CreatedToken { token, secret: secret.reveal().to_owned() })
    }

    /// Tokens: all for an admin, one's own for everybody else; newest first.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn tokens(&self, visit: &Visit) -> Result<Vec<TokenView>, StoreError> {
        let all = visit.caller().role == Role::Admin;
        self.inner.store.tokens(if all { None } else { Some(visit.owner()) }).await
    }

    /// Revokes a token, one's own or as an admin anybody's; it stops working at once.
    ///
    /// # Errors
    /// When there is no such token, or it is somebody else's.
    pub async fn revoke_token(&self, visit: &Visit, id: &str) -> Result<TokenView, PeopleError> {
        let no_such = || PeopleError::NoSuchToken { id: id.to_owned() };
        let caller = visit.caller();
        let token = self.inner.store.token(id).await?.ok_or_else(no_such)?;
        if caller.role != Role::Admin && token.owner != visit.owner() {
            return Err(no_such());
        }
        if !self.inner.store.revoke_token(id).await? {
            return Err(no_such());
        }
        self.inner.people.rights_changed();
        self.record(caller, "revoke token", &format!("token {id}"), &format!("“{}”", token.name)).await?;
        self.inner.store.token(id).await?.ok_or_else(no_such)
    }

    /// Whose token this is and what it may do: never more than its owner may today.
    pub(super) async fn recognise(&self, secret: &str) -> Result<Recognised, StoreError> {
        let Some(token) = self.inner.store.token_of(&secret::digest(secret)).await? else {
            return Ok(Recognised::Unknown);
        };
        if token.revoked_at.is_some() {
            return Ok(Recognised::Over { why: "was revoked" });
        }
        let now = Timestamp::now();
        let passed = |moment: &str| moment.parse::<Timestamp>().is_ok_and(|moment| moment <= now);
        if token.expires_at.as_deref().is_some_and(passed) {
            return Ok(Recognised::Over { why: "has expired" });
        }
        let role = if token.owner == LOCAL {
            token.role
        } else {
            match self.inner.store.account(&token.owner).await? {
                Some(owner) if !owner.view.disabled => token.role.min(owner.view.role),
                _ => return Ok(Recognised::Over { why: "belongs to an account that is disabled" }),
            }
        };
        let noted = token.last_used_at.as_deref().and_then(|moment| moment.parse::<Timestamp>().ok());
        if noted.is_none_or(|noted| now.duration_since(noted) >= NOTED_EVERY) {
            self.inner.store.token_used(&token.id).await?;
        }
        let caller = Caller { name: format!("{} (token {})", token.owner, token.name), role };
        Ok(Recognised::Works { caller, owner: token.owner, scope: token.scope })
    }
}
