//! Accounts: the first admin, adding, changing and inviting people.

use std::time::Duration;

use jiff::Timestamp;
use kennel_accounts::{name, password, secret};
use kennel_model::Role;
use kennel_model::api::{AccountView, AddedAccount, ChangeAccount, Invitation, NewAccount, Password};

use super::PeopleError;
use crate::store::{StoreError, Unchanged};
use crate::{Caller, Controller};

/// How long an invitation can be used.
const INVITED_FOR: Duration = Duration::from_secs(7 * 24 * 60 * 60);

impl Controller {
    /// Makes the first admin.
    ///
    /// # Errors
    /// When there is an admin already, the name is none, or the password is weak.
    pub async fn set_up(&self, name: &str, password: Password) -> Result<AccountView, PeopleError> {
        let name = name::spell(name)?;
        let password = secret::Secret::new(password.0);
        password::check(&name, &password)?;
        if !self.is_open() {
            return Err(PeopleError::AlreadySetUp);
        }
        let hash = self.inner.people.hasher.hash(password).await?;
        // The store decides: two may have come this far at the same moment.
        if !self.inner.store.insert_first_admin(&name, &hash).await? {
            return Err(PeopleError::AlreadySetUp);
        }
        self.close_to_strangers(Role::Admin);
        let caller = Caller { name: name.clone(), role: Role::Admin };
        self.record(&caller, "set up", &format!("account {name}"), "the first admin").await?;
        self.account(&name).await
    }

    /// Everybody who may use this Kennel, by name.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn accounts(&self) -> Result<Vec<AccountView>, StoreError> {
        self.inner.store.accounts().await
    }

    /// One account.
    ///
    /// # Errors
    /// When there is none of that name, or the store cannot be read.
    pub async fn account(&self, name: &str) -> Result<AccountView, PeopleError> {
        let account = self.inner.store.account(&name.trim().to_lowercase()).await?;
        account.map(|account| account.view).ok_or_else(|| PeopleError::NoSuchAccount { name: name.to_owned() })
    }

    /// Makes an account; without a password its owner is invited to choose one.
    ///
    /// # Errors
    /// When the name is none or taken, the password is weak, or it would be the first account and no admin.
    pub async fn add_account(&self, caller: &Caller, new: NewAccount) -> Result<AddedAccount, PeopleError> {
        let name = name::spell(&new.name)?;
        if self.is_open() && new.role != Role::Admin {
            return Err(PeopleError::FirstIsAdmin);
        }
        let hash = match new.password {
            Some(password) => {
                let password = secret::Secret::new(password.0);
                password::check(&name, &password)?;
                Some(self.inner.people.hasher.hash(password).await?)
            }
            None => None,
        };
        if !self.inner.store.insert_account(&name, new.role, hash.as_deref(), None).await? {
            return Err(PeopleError::Taken { name });
        }
        self.close_to_strangers(new.role);
        self.record(caller, "add account", &format!("account {name}"), &format!("role {}", new.role)).await?;
        let invitation = if hash.is_none() { Some(self.invite(caller, &name).await?) } else { None };
        Ok(AddedAccount { account: self.account(&name).await?, invitation })
    }

    /// Makes a link with which an account's owner chooses a password, instead of any earlier one.
    ///
    /// # Errors
    /// When there is no such account, or the store cannot be written.
    pub async fn invite(&self, caller: &Caller, name: &str) -> Result<Invitation, PeopleError> {
        let account = self.account(name).await?;
        let secret = secret::random();
        let expires_at = later(INVITED_FOR);
        self.inner.store.insert_invitation(&secret::digest(&secret), &account.name, &caller.name, &expires_at).await?;
        self.record(caller, "invite", &format!("account {}", account.name), &format!("until {expires_at}")).await?;
        Ok(Invitation { account: account.name, path: format!("/invitations/{secret}"), expires_at })
    }

    /// Whom an invitation is for.
    ///
    /// # Errors
    /// When it can no longer be used.
    pub async fn invited(&self, secret: &str) -> Result<String, PeopleError> {
        self.inner.store.invited(&secret::digest(secret)).await?.ok_or(PeopleError::InvitationGone)
    }

    /// Takes an invitation: its account has this password from now on.
    ///
    /// # Errors
    /// When it can no longer be used, or the password is weak (then it still can).
    pub async fn accept_invitation(&self, secret: &str, password: Password) -> Result<AccountView, PeopleError> {
        let name = self.invited(secret).await?;
        let password = secret::Secret::new(password.0);
        password::check(&name, &password)?;
        let hash = self.inner.people.hasher.hash(password).await?;
        let taken = self.inner.store.take_invitation(&secret::digest(secret)).await?;
        let name = taken.ok_or(PeopleError::InvitationGone)?;
        self.inner.store.set_password(&name, &hash).await?;
        self.inner.people.rights_changed();
        let account = self.account(&name).await?;
        let caller = Caller { name: name.clone(), role: account.role };
        self.record(&caller, "accept invitation", &format!("account {name}"), "").await?;
        Ok(account)
    }

    /// Changes an account's role, or whether it is disabled. Its sessions end.
    ///
    /// # Errors
    /// When there is no such account, or no admin would be left.
    pub async fn change_account(
        &self,
        caller: &Caller,
        name: &str,
        change: &ChangeAccount,
    ) -> Result<AccountView, PeopleError> {
        let old = self.account(name).await?;
        let (role, disabled) = (change.role.unwrap_or(old.role), change.disabled.unwrap_or(old.disabled));
        if (role, disabled) == (old.role, old.disabled) {
            return Ok(old);
        }
        let name = old.name;
        match self.inner.store.change_account(&name, role, disabled).await? {
            Ok(()) => self.inner.people.rights_changed(),
            Err(Unchanged::NoSuchAccount) => return Err(PeopleError::NoSuchAccount { name }),
            Err(Unchanged::LastAdmin) => return Err(PeopleError::LastAdmin { name }),
        }
        let subject = format!("account {name}");
        if role != old.role {
            self.record(caller, "change role", &subject, &format!("from {} to {role}", old.role)).await?;
        }
        if disabled != old.disabled {
            self.record(caller, if disabled { "disable account" } else { "enable account" }, &subject, "").await?;
        }
        self.account(&name).await
    }

    /// Gives an account a password. Its sessions end.
    ///
    /// # Errors
    /// When there is no such account, or the password is weak.
    pub async fn set_password(&self, caller: &Caller, name: &str, password: Password) -> Result<(), PeopleError> {
        let account = self.account(name).await?;
        let password = secret::Secret::new(password.0);
        password::check(&account.name, &password)?;
        let hash = self.inner.people.hasher.hash(password).await?;
        self.inner.store.set_password(&account.name, &hash).await?;
        self.inner.people.rights_changed();
        self.record(caller, "set password", &format!("account {}", account.name), "").await?;
        Ok(())
    }
}

/// A moment from now, as text.
pub(super) fn later(by: Duration) -> String {
    let then = Timestamp::now() + by;
    then.round(jiff::Unit::Millisecond).unwrap_or(then).to_string()
}
