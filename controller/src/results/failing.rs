//! What broke since the last green, grouped by what the failures have in common.

use kennel_model::api::{FailingView, FailureGroup, TestFilter, TestOrder};

use crate::{Controller, StoreError};

/// Tests shown of each group; the rest is a click away.
const MEMBERS: u32 = 5;

impl Controller {
    /// Failing tests grouped by fingerprint, the newest breakage first; the filter's limit and offset count groups.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn failing(&self, filter: &TestFilter) -> Result<FailingView, StoreError> {
        let store = &self.inner.store;
        let (stored, total_groups, total_tests) = store.failure_groups(filter).await?;
        let ends: Vec<_> = stored.iter().flat_map(|group| [group.failing_since, group.newest_since]).collect();
        let moments = store.run_moments(&ends).await?;
        let moment = |run| moments.get(&run).cloned().unwrap_or_default();
        let mut groups = Vec::with_capacity(stored.len());
        for group in stored {
            let of_group = TestFilter {
                fingerprint: Some(group.fingerprint.clone()).filter(|fingerprint| !fingerprint.is_empty()),
                failing: true,
                order: TestOrder::Newest,
                limit: MEMBERS,
                offset: 0,
                ..filter.clone()
            };
            let members = store.listed_tests(&of_group).await?;
            groups.push(FailureGroup {
                message: members.first().map(|test| test.message.clone()).unwrap_or_default(),
                tests: group.tests,
                muted: group.muted,
                suites: group.suites,
                failing_since_at: moment(group.failing_since),
                newest_since_at: moment(group.newest_since),
                failing_since: group.failing_since,
                newest_since: group.newest_since,
                failing_runs: group.failing_runs,
                fingerprint: group.fingerprint,
                members,
            });
        }
        Ok(FailingView { groups, total_groups, total_tests })
    }
}
