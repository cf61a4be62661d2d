//! A suite's run as JUnit XML, for whatever else reads such reports.

use std::time::Duration;

use kennel_model::RunId;
use kennel_model::api::Outcome;
use quick_junit::{NonSuccessKind, Report, TestCase, TestCaseStatus, TestRerun, TestSuite};

use crate::Controller;
use crate::store::{StoreError, StoredResult};

impl Controller {
    /// A run's tests as JUnit XML: a suite of tests for each step, earlier attempts as reruns. `None` when there is no such
    /// run.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn suite_run_junit(&self, run: RunId) -> Result<Option<String>, StoreError> {
        let Some(detail) = self.suite_run(run).await? else { return Ok(None) };
        let results = self.inner.store.step_results(run).await?;
        let mut report = Report::new(detail.summary.suite.as_str());
        report.set_uuid(run.0);
        let mut steps: Vec<&str> = Vec::new();
        for step in &detail.steps {
            if !steps.contains(&step.path.as_str()) {
                steps.push(&step.path);
            }
        }
        for path in steps {
            let name = detail.steps.iter().find(|step| step.path == path).map_or(path, |step| step.name.as_str());
            let mut suite = TestSuite::new(name);
            let of_step: Vec<&StoredResult> = results.iter().filter(|result| result.step == path).collect();
            for attempts in of_step.chunk_by(|a, b| a.test == b.test) {
                suite.add_test_case(case(attempts));
            }
            if !of_step.is_empty() {
                report.add_test_suite(suite);
            }
        }
        report.to_string().map(Some).map_err(StoreError::broken("set of results"))
    }
}

/// All attempts of one test as one case.
fn case(attempts: &[&StoredResult]) -> TestCase {
    let Some((last, earlier)) = attempts.split_last() else {
        return TestCase::new("", TestCaseStatus::skipped());
    };
    let status = match kind(last.outcome) {
        None if last.outcome == Outcome::Skipped => {
            let mut status = TestCaseStatus::skipped();
            if !last.message.is_empty() {
                status.set_message(last.message.as_str());
            }
            status
        }
        None => {
            let mut status = TestCaseStatus::success();
            if let TestCaseStatus::Success { flaky_runs } = &mut status {
                flaky_runs.extend(earlier.iter().filter_map(|attempt| rerun(attempt)));
            }
            status
        }
        Some(kind) => {
            let mut status = TestCaseStatus::non_success(kind);
            status.set_message(last.message.as_str());
            status.set_description(last.detail.as_str());
            for attempt in earlier {
                if let Some(rerun) = rerun(attempt) {
                    status.add_rerun(rerun);
                }
            }
            status
        }
    };
    let name = match last.parameters.as_str() {
        "" => last.name.clone(),
        parameters => format!("{} [{parameters}]", last.name),
    };
    let mut case = TestCase::new(name, status);
    if !last.class.is_empty() {
        case.set_classname(last.class.as_str());
    }
    case.set_time(Duration::try_from_secs_f64(last.duration_ms / 1e3).unwrap_or_default());
    case
}

fn kind(outcome: Outcome) -> Option<NonSuccessKind> {
    match outcome {
        Outcome::Failed => Some(NonSuccessKind::Failure),
        Outcome::Error => Some(NonSuccessKind::Error),
        Outcome::Passed | Outcome::Skipped => None,
    }
}

fn rerun(attempt: &StoredResult) -> Option<TestRerun> {
    let mut rerun = TestRerun::new(kind(attempt.outcome)?);
    rerun.set_message(attempt.message.as_str());
    rerun.set_description(attempt.detail.as_str());
    rerun.set_time(Duration::try_from_secs_f64(attempt.duration_ms / 1e3).unwrap_or_default());
    Some(rerun)
}
