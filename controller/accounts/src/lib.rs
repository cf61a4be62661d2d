//! Who may do what: passwords, tokens, roles and single sign-on.
//!
//! Modules in the order in which a login passes them: a [`name`] is brought into its one spelling, a [`throttle`] makes
//! guessing slow, [`password`]s are hashed and checked, [`secret`]s are drawn and compared, and [`sign_on`] asks an
//! OpenID Connect provider instead. Nothing here keeps anything: the controller's store does.

pub mod name;
pub mod password;
pub mod secret;
pub mod sign_on;
pub mod throttle;
