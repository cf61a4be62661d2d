//! What people are told when something about accounts, logins or tokens is not possible.

use axum::http::StatusCode;
use kennel_accounts::name::WrongName;
use kennel_accounts::password::{HashError, WeakPassword};
use kennel_accounts::sign_on::SignOnError;
use kennel_accounts::throttle::Wait;
use kennel_model::Role;

use crate::StoreError;

/// Something about accounts, logins or tokens is not possible.
#[derive(Debug, thiserror::Error)]
pub enum PeopleError {
    /// No account may have this name.
    #[error(transparent)]
    Name(#[from] WrongName),
    /// The password is not good enough.
    #[error(transparent)]
    Password(#[from] WeakPassword),
    /// The name is somebody else's.
    #[error("there is an account `{name}` already; choose another name")]
    Taken {
        /// The name.
        name: String,
    },
    /// There is no such account.
    #[error("there is no account `{}`; `kennel user list` lists them", name.escape_debug())]
    NoSuchAccount {
        /// What was asked for.
        name: String,
    },
    /// Nobody could change anything any more.
    #[error("`{name}` is the only admin; make somebody else an admin first")]
    LastAdmin {
        /// The account.
        name: String,
    },
    /// Somebody else than an admin would be first.
    #[error("the first account must be an admin; somebody has to be able to add the others")]
    FirstIsAdmin,
    /// There is an admin already.
    #[error("Kennel is set up already; log in, or ask an admin for an account")]
    AlreadySetUp,
    /// Name or password is wrong; which one is not told.
    #[error("this name and password do not belong together; check both and try again")]
    WrongLogin,
    /// The password one has is not what was given.
    #[error("this is not your present password")]
    WrongPassword,
    /// The caller has no account of its own.
    #[error("`{name}` is no account; this is for people who are logged in")]
    NoAccount {
        /// Who asked.
        name: String,
    },
    /// Too many attempts.
    #[error(transparent)]
    Wait(#[from] Wait),
    /// The invitation is used, old or made up.
    #[error("this invitation was used already or is too old; ask an admin for another one")]
    InvitationGone,
    /// There is no such token.
    #[error("there is no token `{}` of yours that still works; `kennel token list` lists them", id.escape_debug())]
    NoSuchToken {
        /// What was asked for.
        id: String,
    },
    /// A token cannot be called that.
    #[error("a token's name says what it is for in 1 to 60 characters without control characters")]
    TokenName,
    /// A token would be able to do more than its maker.
    #[error("a token may do no more than its maker: your role is {has}, not {wanted}")]
    TokenRole {
        /// The maker's.
        has: Role,
        /// The token's.
        wanted: Role,
    },
    /// A token would last too long.
    #[error("a token works for 1 to 3650 days (0 for ever); {days} was given")]
    TokenDays {
        /// What was given.
        days: u32,
    },
    /// Single sign-on did not work.
    #[error(transparent)]
    SignOn(#[from] SignOnError),
    /// Nobody set single sign-on up.
    #[error("single sign-on is not set up; log in with a password")]
    NoSignOn,
    /// Single sign-on was given on the command line and is changed there.
    #[error("single sign-on is set by `kennel serve --oidc-issuer …` and can only be changed there")]
    SignOnGiven,
    /// A password could not be hashed.
    #[error(transparent)]
    Hash(#[from] HashError),
    /// The session could not be kept.
    #[error("the session could not be kept: {why}")]
    Session {
        /// Why.
        why: String,
    },
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl PeopleError {
    /// Status of the answer.
    #[must_use]
    pub fn status(&self) -> StatusCode {
        match self {
            Self::Name(_)
            | Self::Password(_)
            | Self::TokenName
            | Self::TokenDays { .. }
            | Self::WrongPassword
            | Self::SignOn(SignOnError::Settings { .. }) => StatusCode::UNPROCESSABLE_ENTITY,
            Self::Taken { .. }
            | Self::LastAdmin { .. }
            | Self::FirstIsAdmin
            | Self::AlreadySetUp
            | Self::SignOnGiven
            | Self::NoAccount { .. } => StatusCode::CONFLICT,
            Self::NoSuchAccount { .. } | Self::NoSuchToken { .. } | Self::NoSignOn => StatusCode::NOT_FOUND,
            Self::InvitationGone => StatusCode::GONE,
            Self::WrongLogin => StatusCode::UNAUTHORIZED,
            Self::SignOn(SignOnError::Provider { .. } | SignOnError::Client { .. }) => StatusCode::BAD_GATEWAY,
            Self::TokenRole { .. } | Self::SignOn(_) => StatusCode::FORBIDDEN,
            Self::Wait(_) => StatusCode::TOO_MANY_REQUESTS,
            Self::Hash(_) | Self::Session { .. } | Self::Store(_) => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }

    /// Seconds to wait before another attempt, where that is the matter.
    #[must_use]
    pub fn retry_after_s(&self) -> Option<u64> {
        match self {
            Self::Wait(wait) => Some(wait.wait.as_secs().max(1)),
            _ => None,
        }
    }
}
