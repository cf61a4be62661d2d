//! Texts that many rows name: each is in memory once.

use std::collections::HashSet;
use std::sync::Arc;

/// The texts that were read so far.
#[derive(Default)]
pub(super) struct Names(HashSet<Arc<str>>);

impl Names {
    /// The one copy of a text.
    pub(super) fn of(&mut self, text: &str) -> Arc<str> {
        if let Some(known) = self.0.get(text) {
            return Arc::clone(known);
        }
        let name: Arc<str> = text.into();
        self.0.insert(Arc::clone(&name));
        name
    }
}
