//! Logging in with name and password, slowly for those who guess, and changing one's own password.

use std::net::IpAddr;
use std::time::Instant;

use kennel_accounts::password::{self, Checked};
use kennel_accounts::secret::Secret;
use kennel_accounts::throttle::{Key, Wait};
use kennel_model::Role;
use kennel_model::api::{AccountView, Password};

use super::PeopleError;
use crate::{Caller, Controller};

/// Longest name that is looked at: a longer one is nobody's, and need not be remembered.
const LONGEST_NAME: usize = 100;

impl Controller {
    /// Checks name and password. Whether the account exists, is disabled or has no password makes no difference to
    /// the answer, nor to the time that it takes.
    ///
    /// # Errors
    /// When they do not belong together, or too many attempts were made lately.
    pub async fn log_in(
        &self,
        name: &str,
        password: Password,
        address: Option<IpAddr>,
    ) -> Result<AccountView, PeopleError> {
        let name: String = name.trim().to_lowercase().chars().take(LONGEST_NAME).collect();
        let keys: Vec<Key> = [Key::Account(name.clone())].into_iter().chain(address.map(Key::Address)).collect();
        self.attempt(&keys)?;
        let account = self.inner.store.account(&name).await?;
        let account = account.filter(|account| !account.view.disabled);
        let kept = account.as_ref().and_then(|account| account.password.clone());
        let checked = self.inner.people.hasher.check(Secret::new(password.0), kept).await?;
        let from = address.map(|address| format!("from {address}")).unwrap_or_default();
        let subject = format!("account {name}");
        match (account, checked) {
            (Some(account), Checked::Right { rehashed }) => {
                self.succeed(&keys);
                if let Some(hash) = rehashed {
                    self.inner.store.rehash(&name, &hash).await?;
                }
                self.inner.store.logged_in(&name).await?;
                let caller = Caller { name, role: account.view.role };
                self.record(&caller, "log in", &subject, &from).await?;
                Ok(account.view)
            }
            _ => {
                let nobody = Caller { name: "nobody".to_owned(), role: Role::Viewer };
                self.record(&nobody, "fail to log in", &subject, &from).await?;
                Err(PeopleError::WrongLogin)
            }
        }
    }

    /// Changes one's own password. Every session of the account ends.
    ///
    /// # Errors
    /// When the present password is wrong, the new one is weak, or too many attempts were made lately.
    pub async fn change_own_password(
        &self,
        caller: &Caller,
        present: Password,
        new: Password,
    ) -> Result<(), PeopleError> {
        let name = caller.name.clone();
        let account = self.inner.store.account(&name).await?;
        let account = account.ok_or_else(|| PeopleError::NoAccount { name: name.clone() })?;
        let new = Secret::new(new.0);
        password::check(&name, &new)?;
        // Whoever comes from a sign-on provider has no password yet, and has shown to it who they are.
        if let Some(kept) = account.password {
            let keys = [Key::Account(name.clone())];
            self.attempt(&keys)?;
            if self.inner.people.hasher.check(Secret::new(present.0), Some(kept)).await? == Checked::Wrong {
                return Err(PeopleError::WrongPassword);
            }
            self.succeed(&keys);
        }
        let hash = self.inner.people.hasher.hash(new).await?;
        self.inner.store.set_password(&name, &hash).await?;
        self.inner.people.rights_changed();
        self.record(caller, "change own password", &format!("account {name}"), "").await?;
        Ok(())
    }

    fn attempt(&self, keys: &[Key]) -> Result<(), Wait> {
        let mut throttle = self.inner.people.throttle.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        throttle.attempt(keys, Instant::now())
    }

    fn succeed(&self, keys: &[Key]) {
        self.inner.people.throttle.lock().unwrap_or_else(std::sync::PoisonError::into_inner).succeed(keys);
    }
}
