//! Passwords: what makes a good enough one, and their argon2id hashes.
//!
//! Hashing is slow on purpose and needs 19 MiB each time (OWASP Password Storage Cheat Sheet, argon2id), so it happens
//! on the blocking pool and only few at once.

use std::sync::Arc;

use argon2::password_hash::phc::PasswordHash;
use argon2::{Algorithm, Argon2, Params, PasswordHasher as _, PasswordVerifier as _, Version};
use tokio::sync::Semaphore;
use tokio::task::spawn_blocking;

use crate::secret::Secret;

/// Fewest characters of a password.
pub const SHORTEST: usize = 10;
/// Most characters of a password: longer ones only cost time.
pub const LONGEST: usize = 256;

/// Hashes that are computed at the same time.
const AT_ONCE: usize = 2;

/// Beginnings of the most used passwords (those shorter than [`SHORTEST`] are refused anyway).
const COMMON: [&str; 16] = [
    "password",
    "passw0rd",
    "p@ssw0rd",
    "1234567890",
    "0123456789",
    "qwertyuiop",
    "qwerty",
    "letmein",
    "iloveyou",
    "administrator",
    "changeme",
    "welcome",
    "abcdefghij",
    "1q2w3e4r",
    "kennelkennel",
    "adminadmin",
];

/// A password that is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WeakPassword {
    /// Too short.
    #[error("a password needs at least {SHORTEST} characters; this one has {length}")]
    TooShort {
        /// Characters given.
        length: usize,
    },
    /// Too long.
    #[error("a password has at most {LONGEST} characters; this one has {length}")]
    TooLong {
        /// Characters given.
        length: usize,
    },
    /// It holds the account's name.
    #[error("this password holds the account's name; choose one that does not")]
    HoldsName,
    /// Everybody tries it first.
    #[error("this password is among the first that everybody tries; choose a few unrelated words instead")]
    Common,
}

/// Whether a password is good enough for an account.
///
/// # Errors
/// What is wrong with it; the password itself is not in the message.
pub fn check(account: &str, password: &Secret) -> Result<(), WeakPassword> {
    let text = password.reveal();
    let length = text.chars().count();
    if length < SHORTEST {
        return Err(WeakPassword::TooShort { length });
    }
    if length > LONGEST {
        return Err(WeakPassword::TooLong { length });
    }
    let plain = text.to_lowercase();
    if account.chars().count() > 2 && plain.contains(account) {
        return Err(WeakPassword::HoldsName);
    }
    let first = plain.chars().next();
    // A common word with a few digits after it is as common.
    let is_common = COMMON
        .iter()
        .any(|common| plain.strip_prefix(common).is_some_and(|rest| rest.chars().all(|c| !c.is_alphabetic())));
    if is_common || plain.chars().all(|c| Some(c) == first) {
        return Err(WeakPassword::Common);
    }
    Ok(())
}

/// A password could not be hashed.
#[derive(Debug, thiserror::Error)]
#[error("could not hash a password: {why}")]
pub struct HashError {
    why: String,
}

/// What checking a password came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Checked {
    /// It is wrong, or there is no such account.
    Wrong,
    /// It is right.
    Right {
        /// A new hash to keep, where the kept one was made with other parameters than today's.
        rehashed: Option<String>,
    },
}

/// Hashes and checks passwords. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Hasher {
    params: Params,
    turns: Arc<Semaphore>,
}

impl Default for Hasher {
    fn default() -> Self {
        Self::with(Params::DEFAULT)
    }
}

impl Hasher {
    /// A hasher with parameters of its own.
    #[must_use]
    pub fn with(params: Params) -> Self {
        Self { params, turns: Arc::new(Semaphore::new(AT_ONCE)) }
    }

    /// The hash to keep of a password, in the PHC string format.
    ///
    /// # Errors
    /// When it cannot be computed.
    pub async fn hash(&self, password: Secret) -> Result<String, HashError> {
        self.work(move |argon2| hash(argon2, &password)).await?
    }

    /// Checks a password against the kept hash. Without one (there is no such account, or it has no password) it takes
    /// as long and is wrong.
    ///
    /// # Errors
    /// When it cannot be computed, or the kept hash cannot be read.
    pub async fn check(&self, password: Secret, kept: Option<String>) -> Result<Checked, HashError> {
        let params = self.params.clone();
        self.work(move |argon2| {
            let Some(kept) = kept else {
                let _ = hash(argon2, &password);
                return Ok(Checked::Wrong);
            };
            let parsed = PasswordHash::new(&kept).map_err(|error| HashError { why: error.to_string() })?;
            if argon2.verify_password(password.reveal().as_bytes(), &parsed).is_err() {
                return Ok(Checked::Wrong);
            }
            let made_with = Params::try_from(&parsed).ok();
            let same = made_with.is_some_and(|made| {
                (made.m_cost(), made.t_cost(), made.p_cost()) == (params.m_cost(), params.t_cost(), params.p_cost())
            });
            let rehashed = if same { None } else { Some(hash(argon2, &password)?) };
            Ok(Checked::Right { rehashed })
        })
        .await?
    }

    async fn work<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Argon2<'_>) -> T + Send + 'static,
    ) -> Result<T, HashError> {
        let turn =
            Arc::clone(&self.turns).acquire_owned().await.map_err(|error| HashError { why: error.to_string() })?;
        let params = self.params.clone();
        let task = spawn_blocking(move || {
            let _turn = turn;
            work(&Argon2::new(Algorithm::Argon2id, Version::V0x13, params))
        });
        task.await.map_err(|error| HashError { why: error.to_string() })
    }
}

fn hash(argon2: &Argon2<'_>, password: &Secret) -> Result<String, HashError> {
    let hash = argon2.hash_password(password.reveal().as_bytes());
    hash.map(|hash| hash.to_string()).map_err(|error| HashError { why: error.to_string() })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn quick(t_cost: u32) -> Hasher {
        Hasher::with(Params::new(64, t_cost, 1, None).unwrap())
    }

    #[test]
    fn a_weak_password_is_refused_with_the_reason() {
        let refused = |password: &str| check("ann-lee", &Secret::new(password)).map_err(|error| error.to_string());
        assert_eq!(refused("short").unwrap_err(), "a password needs at least 10 characters; this one has 5");
        assert!(refused("ANN-LEE is here").unwrap_err().contains("holds the account's name"));
        for common in ["password1234", "Qwertyuiop", "aaaaaaaaaaaa", "1234567890123", "changeme!!!!"] {
            assert!(refused(common).unwrap_err().contains("unrelated words"), "{common}");
        }
        assert!(refused(&"x y".repeat(200)).unwrap_err().contains("at most 256"));
        for good in ["correct horse battery", "pässwörtér", "passwordless logins rock"] {
            assert_eq!(refused(good), Ok(()), "{good}");
        }
    }

    #[tokio::test]
    async fn only_the_right_password_is_right() {
        let hasher = quick(1);
        let kept = hasher.hash(Secret::new("correct horse")).await.unwrap();
        assert!(kept.starts_with("$argon2id$v=19$m=64,t=1,p=1$"), "{kept}");
        let check = |password: &str, kept: Option<String>| hasher.check(Secret::new(password), kept);
        assert_eq!(check("correct horse", Some(kept.clone())).await.unwrap(), Checked::Right { rehashed: None });
        assert_eq!(check("correct horsE", Some(kept.clone())).await.unwrap(), Checked::Wrong);
        assert_eq!(check("correct horse", None).await.unwrap(), Checked::Wrong);
        assert!(check("correct horse", Some("no hash".into())).await.is_err());
        let again = hasher.hash(Secret::new("correct horse")).await.unwrap();
        assert_ne!(kept, again, "each hash has its own salt");
    }

    #[tokio::test]
    async fn a_hash_of_old_parameters_is_made_anew() {
        let kept = quick(1).hash(Secret::new("correct horse")).await.unwrap();
        let Checked::Right { rehashed: Some(anew) } =
            quick(2).check(Secret::new("correct horse"), Some(kept)).await.unwrap()
        else {
            panic!("no new hash")
        };
        let checked = quick(2).check(Secret::new("correct horse"), Some(anew)).await.unwrap();
        assert_eq!(checked, Checked::Right { rehashed: None });
    }
}
