//! Goose scenarios made of Kennel's: one transaction per iteration, the client kept as the user's session data.

use std::sync::Arc;

use goose::goose::{GooseUser, GooseUserData, Scenario, Transaction, TransactionFunction};
use kennel_model::scenario as model;

use crate::builtin::Builtin;
use crate::client::Client;
use crate::declared::{BadHeader, Declared};

/// A scenario that is ready to run: what it does and the names of its requests.
#[derive(Debug, Clone)]
pub enum Script {
    /// A compiled one.
    Builtin(Builtin),
    /// Steps from a file.
    Declared(Arc<Declared>),
}

/// Why a scenario cannot be run.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ScriptError {
    /// The file names a compiled scenario that this version does not have.
    #[error("scenario `{scenario}` wants the built-in `{builtin}`, which this version does not have")]
    UnknownBuiltin {
        /// Name of the scenario.
        scenario: String,
        /// What it asked for.
        builtin: String,
    },
    /// A header of a step cannot be sent.
    #[error(transparent)]
    BadHeader(#[from] BadHeader),
}

impl Script {
    /// Makes a scenario of a file ready to run.
    ///
    /// # Errors
    /// When its built-in is unknown or a header is malformed.
    pub fn of(scenario: &model::Scenario) -> Result<Self, ScriptError> {
        match &scenario.builtin {
            Some(name) => Builtin::named(name)
                .map(Self::Builtin)
                .ok_or_else(|| ScriptError::UnknownBuiltin { scenario: scenario.name.clone(), builtin: name.clone() }),
            None => Ok(Self::Declared(Arc::new(Declared::of(scenario)?))),
        }
    }

    /// Names of the requests it sends; [`crate::client::Request::name`] is an index into them.
    #[must_use]
    pub fn requests(&self) -> Vec<String> {
        match self {
            Self::Builtin(builtin) => builtin.requests(),
            Self::Declared(declared) => declared.requests(),
        }
    }

    async fn iterate<C: Client>(&self, client: &mut C) {
        // An abandoned iteration was counted where it failed; there is nothing more to do about it here.
        let _ = match self {
            Self::Builtin(builtin) => builtin.iterate(client).await,
            Self::Declared(declared) => declared.iterate(client).await,
        };
    }
}

/// A Goose scenario whose `users` users each run `script` again and again, every one with a client of its own.
pub fn goose_scenario<C, F>(name: &str, users: usize, script: Script, make_client: F) -> Scenario
where
    C: Client + GooseUserData + Clone,
    F: Fn() -> C + Send + Sync + 'static,
{
    let start: TransactionFunction = Arc::new(move |user: &mut GooseUser| {
        user.set_session_data(make_client());
        Box::pin(async { Ok(()) })
    });
    let script = Arc::new(script);
    let iterate: TransactionFunction = Arc::new(move |user: &mut GooseUser| {
        let script = script.clone();
        Box::pin(async move {
            if let Some(client) = user.get_session_data_mut::<C>() {
                client.next_iteration().await;
                script.iterate(client).await;
            }
            Ok(())
        })
    });
    // Goose hands out users in proportion to weights; with the pool's size as weight, each scenario gets its pool.
    let scenario = Scenario::new(name)
        .register_transaction(Transaction::new(start).set_on_start())
        .register_transaction(Transaction::new(iterate));
    match scenario.clone().set_weight(users.max(1)) {
        Ok(weighted) => weighted,
        Err(_) => scenario,
    }
}
