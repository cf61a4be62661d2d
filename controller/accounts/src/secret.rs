//! Secrets: drawn at random, kept only as digests, compared without telling by time how much of them was right.

use std::fmt::{self, Write as _};

use rand::Rng as _;
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;

/// What every API token begins with, so that scanners for leaked secrets know one when they see it.
pub const TOKEN_PREFIX: &str = "kennel_";

/// A text that is never shown: not by `Debug`, and it has no `Display`.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Keeps a text secret.
    #[must_use]
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The text, for the one place that needs it.
    #[must_use]
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

/// 256 random bits, as 64 hexadecimal digits.
#[must_use]
pub fn random() -> String {
    let mut bytes = [0_u8; 32];
    rand::rng().fill(&mut bytes);
    hexadecimal(&bytes)
}

/// A new API token.
#[must_use]
pub fn token() -> Secret {
    Secret(format!("{TOKEN_PREFIX}{}", random()))
}

/// What is kept of a secret with 256 random bits. A plain digest does: there is nothing to guess.
#[must_use]
pub fn digest(secret: &str) -> String {
    hexadecimal(&Sha256::digest(secret.as_bytes()))
}

/// Whether two secrets are the same, in a time that depends on neither.
#[must_use]
pub fn same(a: &str, b: &str) -> bool {
    Sha256::digest(a.as_bytes()).as_slice().ct_eq(Sha256::digest(b.as_bytes()).as_slice()).into()
}

fn hexadecimal(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len() * 2);
    for byte in bytes {
        let _ = write!(text, "{byte:02x}");
    }
    text
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn a_token_has_256_bits_and_its_digest_is_sha256() {
        let tokens: BTreeSet<String> = (0..100).map(|_| token().reveal().to_owned()).collect();
        assert_eq!(tokens.len(), 100);
        assert!(tokens.iter().all(|token| token.len() == TOKEN_PREFIX.len() + 64 && token.starts_with(TOKEN_PREFIX)));
        assert_eq!(digest("abc"), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    }

    #[test]
    fn only_equal_secrets_are_the_same() {
        assert!(same("kennel_1", "kennel_1") && same("", ""));
        for other in ["kennel_2", "kennel_", "kennel_11", "", "Kennel_1"] {
            assert!(!same("kennel_1", other), "{other}");
        }
    }

    #[test]
    fn a_secret_does_not_show_itself() {
        assert!(!format!("{:?}", Secret::new("hunter2")).contains("hunter2"));
    }
}
