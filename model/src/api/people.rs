//! Accounts, sessions, tokens and the audit log.

use std::fmt;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::role::Role;
use crate::words::words;

words! {
    /// What a token may be used for, within its role.
    TokenScope {
        /// Everything that its role may do.
        All = "all",
        /// Reading only.
        Read = "read",
        /// Posting results of other systems only.
        Import = "import",
    }
}

/// A password on its way in. It is never answered, and `Debug` does not show it.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(transparent)]
#[schema(value_type = String, format = "password")]
pub struct Password(pub String);

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Password(…)")
    }
}

/// Who asks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct CallerView {
    /// Name in the audit log.
    pub name: String,
    /// What they may do.
    pub role: Role,
    /// Whether Kennel has no accounts yet, so that anyone on this machine may do everything.
    pub open: bool,
}

/// An account.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct AccountView {
    /// Name to log in with.
    pub name: String,
    /// What it may do.
    pub role: Role,
    /// Whether it may not log in.
    pub disabled: bool,
    /// Whether it has a password.
    pub has_password: bool,
    /// The sign-on provider that it comes from.
    pub provider: Option<String>,
    /// When it was made.
    pub created_at: String,
    /// When it was last logged in to.
    pub last_login_at: Option<String>,
    /// Until when an unused invitation can be used.
    pub invited_until: Option<String>,
}

/// A request to make an account.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewAccount {
    /// Name to log in with.
    pub name: String,
    /// What it may do.
    pub role: Role,
    /// Its password; without one the answer holds a link with which its owner chooses one.
    #[serde(default)]
    pub password: Option<Password>,
}

/// An invitation: whoever opens the link first chooses the account's password.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Invitation {
    /// The account.
    pub account: String,
    /// Path of the page behind the link; shown this once.
    pub path: String,
    /// Until when it can be used.
    pub expires_at: String,
}

/// Answer to a new account.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct AddedAccount {
    /// The account.
    pub account: AccountView,
    /// How its owner chooses a password, where none was given.
    pub invitation: Option<Invitation>,
}

/// A request to change an account; what is absent stays.
#[derive(Debug, Clone, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ChangeAccount {
    /// What it may do from now on.
    #[serde(default)]
    pub role: Option<Role>,
    /// Whether it may not log in from now on.
    #[serde(default)]
    pub disabled: Option<bool>,
}

/// A request to give an account a password.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SetPassword {
    /// The new password.
    pub password: Password,
}

/// A session of a browser.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct SessionView {
    /// When it was logged in.
    pub created_at: String,
    /// When it was last used, to the minute.
    pub seen_at: String,
    /// When it ends at the latest if it is not used.
    pub expires_at: String,
    /// The browser, as it calls itself.
    pub browser: String,
    /// The address that it came from at login.
    pub address: String,
    /// Whether it is the one that asks.
    pub current: bool,
}

/// Answer to ended sessions.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct EndedSessions {
    /// How many were ended.
    pub ended: u64,
}

/// An API token.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct TokenView {
    /// Its identity; no secret.
    pub id: String,
    /// What it is for.
    pub name: String,
    /// Whose it is; it may never do more than they.
    pub owner: String,
    /// What it may do at most.
    pub role: Role,
    /// What it may be used for, within its role.
    pub scope: TokenScope,
    /// When it was made.
    pub created_at: String,
    /// When it stops working; absent for never.
    pub expires_at: Option<String>,
    /// When it was last used, to the minute.
    pub last_used_at: Option<String>,
    /// When it was revoked.
    pub revoked_at: Option<String>,
}

/// A request to make a token.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewToken {
    /// What it is for.
    pub name: String,
    /// What it may do at most; its maker's role unless given.
    #[serde(default)]
    pub role: Option<Role>,
    /// What it may be used for, within its role.
    pub scope: TokenScope,
    /// Days until it stops working; 90 unless given, 0 for never.
    #[serde(default)]
    pub days: Option<u32>,
}

/// Answer to a new token.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct CreatedToken {
    /// The token.
    #[serde(flatten)]
    pub token: TokenView,
    /// What to send as `Authorization: Bearer …`; shown this once.
    pub secret: String,
}

/// A line of the audit log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ActView {
    /// Its number; later lines have higher ones.
    pub id: i64,
    /// When.
    pub at: String,
    /// Who.
    pub who: String,
    /// What they did.
    pub action: String,
    /// To what.
    pub subject: String,
    /// More about it.
    pub detail: String,
}
