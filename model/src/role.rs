//! What a person or a token may do.

use crate::words::words;

words! {
    /// What a person or a token may do; each role may do everything that the ones before it may.
    Role {
        /// See everything except accounts and secrets.
        Viewer = "viewer",
        /// Start and halt runs, change suites, schedules and notes.
        Operator = "operator",
        /// Everything: people, tokens, notification channels, settings.
        Admin = "admin",
    }
}
