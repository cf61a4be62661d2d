//! Single sign-on: which provider is asked, and the account that somebody who comes from it has here.

use std::time::{Duration, Instant};

use kennel_accounts::name;
use kennel_accounts::sign_on::{Begun, Brought, Identity, Provider, Settings, SignOnError};
use kennel_model::Role;
use kennel_model::api::AccountView;

use super::{Entrance, PeopleError};
use crate::store::{StoreError, Unchanged};
use crate::{Caller, Controller};

/// A provider is asked again how it works after this time: its keys change.
const KNOWN_FOR: Duration = Duration::from_secs(15 * 60);
/// Names that are tried for somebody new.
const TRIES: u32 = 50;

/// A provider that was asked a while ago.
#[derive(Debug, Clone)]
pub(crate) struct Known {
    settings: Settings,
    provider: Provider,
    asked: Instant,
}

impl Controller {
    /// How single sign-on is set up, if it is: as given at start, else as an admin set it.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn sign_on(&self, entrance: &Entrance) -> Result<Option<Settings>, PeopleError> {
        if let Some(settings) = &entrance.sign_on {
            return Ok(Some(settings.clone()));
        }
        let Some(text) = self.inner.store.sign_on().await? else { return Ok(None) };
        let settings = serde_json::from_str(&text);
        Ok(Some(settings.map_err(crate::StoreError::broken("sign-on setting"))?))
    }

    /// Sets single sign-on up, or removes it. The provider is asked before anything is kept.
    ///
    /// # Errors
    /// When it was given at start, a setting is wrong, or the provider does not answer as one.
    pub async fn set_sign_on(
        &self,
        caller: &Caller,
        entrance: &Entrance,
        settings: Option<Settings>,
    ) -> Result<(), PeopleError> {
        if entrance.sign_on.is_some() {
            return Err(PeopleError::SignOnGiven);
        }
        let detail = match &settings {
            Some(settings) => {
                Provider::discover(settings.clone(), entrance.client_secret.clone()).await?;
                format!("provider {}", settings.issuer)
            }
            None => "removed".to_owned(),
        };
        let text = settings.map(|settings| serde_json::to_string(&settings)).transpose();
        let text = text.map_err(crate::StoreError::broken("sign-on setting"))?;
        self.inner.store.set_sign_on(text.as_deref()).await?;
        *self.inner.people.provider.lock().await = None;
        self.record(caller, "change sign-on", "single sign-on", &detail).await?;
        Ok(())
    }

    /// The provider, asked lately how it works.
    pub(super) async fn provider(&self, entrance: &Entrance) -> Result<Provider, PeopleError> {
        let settings = self.sign_on(entrance).await?.ok_or(PeopleError::NoSignOn)?;
        if let Some(known) = self.asked_lately(&settings).await
            && known.asked.elapsed() < KNOWN_FOR
        {
            return Ok(known.provider);
        }
        // Not under the lock: one that does not answer keeps nobody else waiting.
        let provider = Provider::discover(settings.clone(), entrance.client_secret.clone()).await;
        let provider = provider.inspect_err(|error| tracing::warn!(%error, "nobody can sign on"))?;
        let known = Known { settings, provider: provider.clone(), asked: Instant::now() };
        *self.inner.people.provider.lock().await = Some(known);
        Ok(provider)
    }

    /// The provider as it was asked last, however long ago; it is not asked now.
    pub(super) async fn known_provider(&self, entrance: &Entrance) -> Option<Provider> {
        let settings = self.sign_on(entrance).await.ok()??;
        self.asked_lately(&settings).await.map(|known| known.provider)
    }

    async fn asked_lately(&self, settings: &Settings) -> Option<Known> {
        self.inner.people.provider.lock().await.clone().filter(|known| known.settings == *settings)
    }

    /// Takes in what a browser brings back from the provider.
    pub(super) async fn finish_sign_on(
        &self,
        entrance: &Entrance,
        begun: Begun,
        brought: Brought,
        back: &str,
    ) -> Result<AccountView, PeopleError> {
        let provider = self.provider(entrance).await?;
        let follows = self.sign_on(entrance).await?.is_some_and(|settings| settings.maps_roles());
        let entered = match provider.finish(begun, brought, back).await {
            Ok(identity) => self.enter(identity, follows).await,
            Err(error) => Err(error.into()),
        };
        if let Err(PeopleError::SignOn(error)) = &entered {
            self.record_failure(error).await?;
        }
        entered
    }

    /// Notes in the audit log that somebody was not let in. What a stranger can cause without the provider is not noted
    /// there: it would be a way to fill it.
    async fn record_failure(&self, error: &SignOnError) -> Result<(), StoreError> {
        let subject = match error {
            SignOnError::NotBegun | SignOnError::Settings { .. } => return Ok(()),
            SignOnError::NoRole { name } => format!("person {name}"),
            SignOnError::Disabled { name } => format!("account {name}"),
            _ => "single sign-on".to_owned(),
        };
        let nobody = Caller { name: "nobody".to_owned(), role: Role::Viewer };
        self.record(&nobody, "fail to sign on", &subject, &error.to_string()).await
    }

    /// The account of somebody whom the provider vouches for, made if there is none.
    async fn enter(&self, identity: Identity, roles_follow: bool) -> Result<AccountView, PeopleError> {
        let Identity { issuer, subject, name: called, role } = identity;
        let Some(known) = self.inner.store.account_of(&issuer, &subject).await? else {
            return self.take_in(&issuer, &subject, &called, role).await;
        };
        let mut account = known.view;
        if account.disabled {
            return Err(SignOnError::Disabled { name: account.name }.into());
        }
        let caller = Caller { name: account.name.clone(), role };
        if roles_follow && account.role != role {
            match self.inner.store.change_account(&account.name, role, false).await? {
                Ok(()) => {
                    let detail = format!("from {} to {role}, as the provider says", account.role);
                    self.record(&caller, "change role", &format!("account {}", account.name), &detail).await?;
                    self.close_to_strangers(role);
                    self.inner.people.rights_changed();
                    account.role = role;
                }
                Err(Unchanged::LastAdmin) => {
                    tracing::warn!(
                        account = account.name,
                        "stays an admin against what the provider says: it is the only one"
                    );
                }
                Err(Unchanged::NoSuchAccount) => return Err(PeopleError::NoSuchAccount { name: account.name }),
            }
        }
        self.inner.store.logged_in(&account.name).await?;
        self.record(&caller, "sign on", &format!("account {}", account.name), &format!("by {issuer}")).await?;
        Ok(account)
    }

    /// Makes an account for somebody new. A name that is taken is never taken over: it may be somebody else's.
    async fn take_in(&self, issuer: &str, subject: &str, called: &str, role: Role) -> Result<AccountView, PeopleError> {
        let wanted = name::made_from(called);
        for number in 1..=TRIES {
            let name = if number == 1 { wanted.clone() } else { format!("{wanted}-{number}") };
            if !self.inner.store.insert_account(&name, role, None, Some((issuer, subject))).await? {
                // Their other browser may have been quicker.
                if let Some(known) = self.inner.store.account_of(issuer, subject).await? {
                    return Ok(known.view);
                }
                continue;
            }
            self.close_to_strangers(role);
            self.inner.store.logged_in(&name).await?;
            let caller = Caller { name: name.clone(), role };
            self.record(&caller, "sign on", &format!("account {name}"), &format!("new, role {role}, by {issuer}"))
                .await?;
            return self.account(&name).await;
        }
        Err(PeopleError::Taken { name: wanted })
    }
}
