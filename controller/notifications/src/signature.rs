//! Signatures of webhooks, by the Standard Webhooks specification (standardwebhooks.com): HMAC-SHA-256 over
//! `id.timestamp.body`, so that a receiver knows who sent it, that nothing was changed, and when. Libraries for a
//! dozen languages verify them.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit as _, Mac as _};
use jiff::Timestamp;
use sha2::Sha256;

/// What a secret begins with.
const PREFIX: &str = "whsec_";

/// A key to sign with.
#[derive(Clone, PartialEq, Eq)]
pub struct Key(Vec<u8>);

/// A secret that cannot be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "a signing secret is `whsec_` and 24 to 64 random bytes in base64; make one with \
     `echo whsec_$(openssl rand -base64 32)`"
)]
pub struct UnusableSecret;

impl Key {
    /// Reads a secret as it is written.
    ///
    /// # Errors
    /// When it is no base64 or too short or long.
    pub fn read(secret: &str) -> Result<Self, UnusableSecret> {
        let encoded = secret.trim().strip_prefix(PREFIX).ok_or(UnusableSecret)?;
        let bytes = STANDARD.decode(encoded).map_err(|_| UnusableSecret)?;
        if (24..=64).contains(&bytes.len()) { Ok(Self(bytes)) } else { Err(UnusableSecret) }
    }

    /// The value of the header `webhook-signature`.
    #[must_use]
    pub fn sign(&self, id: &str, at: Timestamp, body: &str) -> String {
        format!("v1,{}", STANDARD.encode(self.mac(id, at, body).finalize().into_bytes()))
    }

    /// Whether one of the signatures in a header is right. Says nothing about the age of the timestamp.
    #[must_use]
    pub fn verifies(&self, header: &str, id: &str, at: Timestamp, body: &str) -> bool {
        header.split_ascii_whitespace().filter_map(|part| part.strip_prefix("v1,")).any(|part| {
            STANDARD.decode(part).is_ok_and(|signature| self.mac(id, at, body).verify_slice(&signature).is_ok())
        })
    }

    fn mac(&self, id: &str, at: Timestamp, body: &str) -> Hmac<Sha256> {
        let mut mac = Hmac::<Sha256>::new_from_slice(&self.0).expect("HMAC takes keys of any length");
        mac.update(format!("{id}.{}.", at.as_second()).as_bytes());
        mac.update(body.as_bytes());
        mac
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_signs_as_the_specification_says() {
        // The example of the reference libraries.
        let key = Key::read("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").unwrap();
        let at = Timestamp::from_second(1_614_265_330).unwrap();
        let signature = key.sign("msg_p5jXN8AQM9LWM0D4loKWxJek", at, r#"{"test": 2432232314}"#);
        assert_eq!(signature, "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
        assert!(key.verifies(
            &format!("v1,bm9uZQ== {signature}"),
            "msg_p5jXN8AQM9LWM0D4loKWxJek",
            at,
            r#"{"test": 2432232314}"#
        ));
        assert!(!key.verifies(&signature, "msg_p5jXN8AQM9LWM0D4loKWxJek", at, r#"{"test": 2432232315}"#));
        assert!(!key.verifies(&signature, "msg_other", at, r#"{"test": 2432232314}"#));
    }

    #[test]
    fn secrets_that_anybody_could_guess_are_refused() {
        for secret in [
            "",
            "hunter2",
            "whsec_",
            "whsec_c2hvcnQ=",
            "whsec_not base64 at all, is it",
            "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
        ] {
            assert_eq!(Key::read(secret).err(), Some(UnusableSecret), "{secret}");
        }
    }
}
