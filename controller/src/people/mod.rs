//! People: who may use this Kennel, how they show who they are, and what each may do.
//!
//! A request meets, in this order, the [`gate`] (is this a name of this Kennel, who asks, may they, and does it come
//! from these pages), the [`browser`] session it belongs to, and then what [`accounts`], [`login`], [`tokens`] and
//! [`sign_on`] know.

mod accounts;
mod browser;
mod csrf;
mod entrance;
mod error;
mod gate;
mod live;
mod login;
mod public_url;
mod sign_on;
mod tokens;

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use kennel_accounts::password::Hasher;
use kennel_accounts::throttle::Throttle;
use kennel_model::Role;
use kennel_model::api::ActView;
use tokio::sync::watch;

pub use kennel_accounts::secret::{Secret, TOKEN_PREFIX, random as random_secret};
pub use kennel_accounts::sign_on::{Brought, Settings as SignOnSettings, SignOnError};

pub use browser::Browser;
pub use entrance::Entrance;
pub use error::PeopleError;
pub use gate::{Refuse, Refused, Visit, Why, guard, loggable};
pub(crate) use public_url::KnownUrl;
pub use public_url::{PublicUrl, PublicUrlError, WrongUrl};

use crate::Controller;
use crate::store::{ActFilter, StoreError};

/// Lines of the audit log on one page.
pub const ACTS_PAGE: u32 = 100;

/// What is remembered of people while Kennel runs.
#[derive(Debug)]
pub(crate) struct People {
    /// Whether somebody is an admin. Never becomes false again: the last admin cannot be taken away.
    has_admin: AtomicBool,
    hasher: Hasher,
    throttle: Mutex<Throttle>,
    provider: tokio::sync::Mutex<Option<sign_on::Known>>,
    /// Told whenever somebody's session or token may have ended, or their role may be another.
    rights: watch::Sender<()>,
}

impl People {
    pub(crate) fn new(has_admin: bool) -> Self {
        Self {
            has_admin: AtomicBool::new(has_admin),
            hasher: Hasher::default(),
            throttle: Mutex::default(),
            provider: tokio::sync::Mutex::default(),
            rights: watch::Sender::new(()),
        }
    }

    fn rights_changed(&self) {
        self.rights.send_replace(());
    }

    fn watch_rights(&self) -> watch::Receiver<()> {
        self.rights.subscribe()
    }
}

impl Controller {
    /// Whether nobody is an admin yet, so that anyone on this machine may do everything.
    #[must_use]
    pub fn is_open(&self) -> bool {
        !self.inner.people.has_admin.load(Ordering::Acquire)
    }

    fn close_to_strangers(&self, role: Role) {
        if role == Role::Admin {
            self.inner.people.has_admin.store(true, Ordering::Release);
            self.inner.people.rights_changed();
        }
    }

    /// Lines of the audit log, newest first.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn acts(&self, filter: &ActFilter, limit: u32) -> Result<Vec<ActView>, StoreError> {
        self.inner.store.acts(filter, limit).await
    }

    /// Everybody who stands in the audit log.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn actors(&self) -> Result<Vec<String>, StoreError> {
        self.inner.store.actors().await
    }
}
