//! A suite over its runs: tests × runs, trends, and two runs side by side.

use kennel_model::RunId;
use kennel_model::api::{
    ChangeCount, MatrixRow, MatrixView, SuiteComparison, SuiteRunSummary, TestChange, TestDifference, TestFilter,
    TrendPoint,
};
use kennel_results::difference::{SLOWER_BY_MS, SLOWER_RATIO, Side, change};

use crate::{Controller, StoreError};

/// Differences in one answer; a comparison with more says so.
const MOST_DIFFERENCES: usize = 2_000;

impl Controller {
    /// One page of a suite's tests × runs: the filter's limit and offset count tests, `runs` and `skip_runs` count runs
    /// from the newest.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn matrix(
        &self,
        suite: &str,
        filter: &TestFilter,
        runs: u32,
        skip_runs: u32,
    ) -> Result<MatrixView, StoreError> {
        let store = &self.inner.store;
        let filter = TestFilter { suite: Some(suite.to_owned()), ..filter.clone() };
        let (tests, total_tests) = store.tests(&filter).await?;
        let (runs, total_runs) = store.runs_of_suite(suite, runs, skip_runs).await?;
        let ids: Vec<i64> = tests.iter().map(|test| test.test.id).collect();
        let cells = store.cells(&ids, &runs).await?;
        let rows = tests.into_iter().map(|test| MatrixRow {
            cells: runs.iter().map(|run| cells.get(&(test.test.id, *run)).copied()).collect(),
            flaky: test.flaky,
            muted: test.mute.is_some(),
            test: test.test,
        });
        Ok(MatrixView {
            rows: rows.collect(),
            suite: suite.to_owned(),
            runs: store.suite_run_summaries(&runs).await?,
            total_runs,
            total_tests,
        })
    }

    /// The last `limit` runs of a suite that are over, oldest first.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn trend(&self, suite: &str, limit: u32) -> Result<Vec<TrendPoint>, StoreError> {
        self.inner.store.trend(suite, limit).await
    }

    /// A run of a suite in a few words.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn suite_run_summary(&self, id: RunId) -> Result<Option<SuiteRunSummary>, StoreError> {
        Ok(self.inner.store.suite_run_summaries(&[id]).await?.pop())
    }

    /// Two runs of suites, test by test; absent when one of them is none.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn compare_suite_runs(&self, a: RunId, b: RunId) -> Result<Option<SuiteComparison>, StoreError> {
        let store = &self.inner.store;
        let (Some(a), Some(b)) = (self.suite_run_summary(a).await?, self.suite_run_summary(b).await?) else {
            return Ok(None);
        };
        let pairs = store.pairs(a.id, b.id).await?;
        let mut counts: Vec<ChangeCount> =
            TestChange::ALL.iter().map(|change| ChangeCount { change: *change, tests: 0 }).collect();
        let mut tests = Vec::new();
        for pair in pairs {
            let side = |cell: Option<kennel_model::api::MatrixCell>| {
                cell.map(|cell| Side { outcome: cell.outcome, duration_ms: cell.duration_ms })
            };
            let Some(change) = change(side(pair.a), side(pair.b)) else { continue };
            if let Some(count) = counts.iter_mut().find(|count| count.change == change) {
                count.tests += 1;
            }
            if change == TestChange::Same {
                continue;
            }
            let ratio = match (pair.a, pair.b) {
                (Some(a), Some(b)) if a.duration_ms > 0.0 => Some(b.duration_ms / a.duration_ms),
                _ => None,
            };
            tests.push(TestDifference { test: pair.test, change, a: pair.a, b: pair.b, ratio, message: String::new() });
        }
        tests.sort_by_key(|test| test.change);
        let mut warnings = warnings(&a, &b);
        if tests.len() > MOST_DIFFERENCES {
            warnings.push(format!("{} tests differ; the first {MOST_DIFFERENCES} are listed", tests.len()));
            tests.truncate(MOST_DIFFERENCES);
        }
        let failing: Vec<i64> = tests
            .iter()
            .filter(|test| test.b.is_some_and(|cell| kennel_results::history::is_failure(cell.outcome)))
            .map(|test| test.test.id)
            .collect();
        let mut messages = store.messages_of(b.id, &failing).await?;
        for test in &mut tests {
            test.message = messages.remove(&test.test.id).unwrap_or_default();
        }
        let slower_definition = format!(
            "slower: passed in both, and took at least {SLOWER_RATIO} times as long and {SLOWER_BY_MS} ms more; faster \
             the other way round"
        );
        Ok(Some(SuiteComparison { a, b, warnings, counts, tests, slower_definition }))
    }
}

/// What makes two runs hard to compare.
fn warnings(a: &SuiteRunSummary, b: &SuiteRunSummary) -> Vec<String> {
    let mut warnings = Vec::new();
    if a.suite != b.suite {
        warnings.push(format!(
            "these are runs of two suites, {} and {}: a test belongs to one suite, so every test is added or removed",
            a.suite, b.suite
        ));
    } else if a.version != b.version {
        let version = |run: &SuiteRunSummary| run.version.map_or("none".to_owned(), |version| version.to_string());
        warnings.push(format!("the suite's file changed in between: version {} and {}", version(a), version(b)));
    }
    if a.parameters != b.parameters {
        warnings.push("the runs had other parameters".to_owned());
    }
    for run in [a, b] {
        if run.ended_at.is_none() {
            warnings.push(format!("run {} is not over", run.id.short()));
        }
    }
    warnings
}
