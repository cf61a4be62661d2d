//! What the frame around every page needs to know.

use std::sync::Arc;

/// The frame around a page: header, navigation, footer.
#[derive(Debug, Clone)]
pub(crate) struct Layout {
    /// Digest of all assets, part of their addresses.
    digest: Arc<str>,
    /// Which entry of the navigation is the current page.
    place: &'static str,
}

impl Layout {
    /// The frame of pages whose assets have this digest.
    pub(crate) fn new(digest: String) -> Self {
        Self { digest: digest.into(), place: "" }
    }

    /// The same frame with an entry of the navigation marked as current.
    pub(crate) fn at(&self, place: &'static str) -> Self {
        Self { digest: Arc::clone(&self.digest), place }
    }

    /// Whether that entry is the current one.
    pub(crate) fn is_at(&self, place: &str) -> bool {
        self.place == place
    }

    /// Address of an asset; another one whenever any asset changes, so browsers may keep it for good.
    pub(crate) fn asset(&self, path: &str) -> String {
        format!("/static/{}/{path}", self.digest)
    }

    /// Version of Kennel.
    pub(crate) fn version(&self) -> &'static str {
        env!("CARGO_PKG_VERSION")
    }
}
