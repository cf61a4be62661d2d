//! Muted tests, and tests joined with those that they were before they were renamed.

use std::collections::BTreeSet;

use kennel_model::api::{MuteView, TestView};
use kennel_results::history::{Mark, STRIP, Standing};
use sqlx::Row as _;

use super::{Store, StoreError};

impl Store {
    /// Mutes a test, or mutes it otherwise.
    pub(crate) async fn mute(&self, test: i64, mute: &MuteView) -> Result<(), StoreError> {
        sqlx::query(
            "INSERT INTO mutes (test, reason, owner, expires_at, created_at, created_by) VALUES ($1, $2, $3, $4, $5, $6)
             ON CONFLICT (test) DO UPDATE SET reason = excluded.reason, owner = excluded.owner, \
             expires_at = excluded.expires_at, created_at = excluded.created_at, created_by = excluded.created_by",
        )
        .bind(test)
        .bind(&mute.reason)
        .bind(&mute.owner)
        .bind(&mute.expires_at)
        .bind(&mute.created_at)
        .bind(&mute.created_by)
        .execute(&self.writer)
        .await
        .map(|_| ())
        .map_err(StoreError::database("mute a test"))
    }

    /// Ends a mute; answers whether there was one.
    pub(crate) async fn unmute(&self, test: i64, now: &str) -> Result<bool, StoreError> {
        let failed = || StoreError::database("unmute a test");
        let deleted = sqlx::query("DELETE FROM mutes WHERE test = $1 AND expires_at > $2")
            .bind(test)
            .bind(now)
            .execute(&self.writer)
            .await
            .map_err(failed())?;
        Ok(deleted.rows_affected() > 0)
    }

    /// Numbers of the tests of a suite that are muted at a moment.
    pub(crate) async fn muted_tests(&self, suite: &str, now: &str) -> Result<BTreeSet<i64>, StoreError> {
        let muted: Vec<i64> = sqlx::query_scalar(
            "SELECT m.test FROM mutes m JOIN tests t ON t.id = m.test WHERE t.suite = $1 AND m.expires_at > $2",
        )
        .bind(suite)
        .bind(now)
        .fetch_all(&self.reader)
        .await
        .map_err(StoreError::database("read muted tests"))?;
        Ok(muted.into_iter().collect())
    }

    /// Numbers of the tests that did not pass in a run, by step.
    pub(crate) async fn failures_of_run(&self, run: kennel_model::RunId) -> Result<Vec<(String, i64)>, StoreError> {
        let doing = "read a run's failures";
        let rows = sqlx::query(
            "SELECT DISTINCT r.step, r.test FROM test_results r
             JOIN test_history h ON h.suite_run = r.suite_run AND h.test = r.test
             WHERE r.suite_run = $1 AND h.outcome IN ('failed', 'error') AND r.outcome IN ('failed', 'error')
             ORDER BY r.step, r.test",
        )
        .bind(run.to_string())
        .fetch_all(&self.reader)
        .await
        .map_err(StoreError::database(doing))?;
        rows.iter()
            .map(|row| Ok((row.try_get(0)?, row.try_get(1)?)))
            .collect::<Result<_, sqlx::Error>>()
            .map_err(StoreError::database(doing))
    }

    /// Makes the history of `earlier` the history of `test`, and results under the earlier name results of it. Where
    /// both have results in one run, those of `test` stay.
    pub(crate) async fn join_tests(&self, test: &TestView, earlier: &TestView) -> Result<(), StoreError> {
        let doing = "join two tests";
        let failed = || StoreError::database(doing);
        let mut transaction = self.writer.begin().await.map_err(failed())?;
        sqlx::query(
            "INSERT INTO test_aliases (suite, class, name, parameters, test) VALUES ($1, $2, $3, $4, $5)
             ON CONFLICT (suite, class, name, parameters) DO UPDATE SET test = excluded.test",
        )
        .bind(&earlier.suite)
        .bind(&earlier.class)
        .bind(&earlier.name)
        .bind(&earlier.parameters)
        .bind(test.id)
        .execute(&mut *transaction)
        .await
        .map_err(failed())?;
        for statement in [
            "UPDATE test_aliases SET test = $1 WHERE test = $2",
            "DELETE FROM test_results WHERE test = $2 AND suite_run IN (SELECT suite_run FROM test_history WHERE test = $1)",
            "DELETE FROM test_history WHERE test = $2 AND suite_run IN (SELECT suite_run FROM test_history WHERE test = $1)",
            "UPDATE test_results SET test = $1 WHERE test = $2",
            "UPDATE test_history SET test = $1 WHERE test = $2",
            "UPDATE notes SET subject = CAST($1 AS TEXT) WHERE kind = 'test' AND subject = CAST($2 AS TEXT)",
            "DELETE FROM test_standings WHERE test = $2 AND $1 <> $2",
            "DELETE FROM mutes WHERE test = $2 AND $1 <> $2",
        ] {
            sqlx::query(statement).bind(test.id).bind(earlier.id).execute(&mut *transaction).await.map_err(failed())?;
        }
        let rows = sqlx::query(
            "SELECT h.suite_run, h.outcome, h.on_retry FROM test_history h WHERE h.test = $1 ORDER BY h.suite_run",
        )
        .bind(test.id)
        .fetch_all(&mut *transaction)
        .await
        .map_err(failed())?;
        let mut standing = Standing::default();
        for row in &rows {
            let run: String = row.try_get(0).map_err(failed())?;
            let outcome: String = row.try_get(1).map_err(failed())?;
            standing.take(Mark {
                run: run.parse().map_err(StoreError::broken("run id"))?,
                outcome: outcome.parse().map_err(StoreError::broken("outcome"))?,
                on_retry: row.try_get::<i64, _>(2).map_err(failed())? != 0,
            });
        }
        debug_assert!(standing.strip.len() <= STRIP);
        let failure = sqlx::query(
            "SELECT fingerprint, substr(message, 1, 250) AS message FROM test_results \
             WHERE test = $1 AND outcome IN ('failed', 'error') ORDER BY suite_run DESC, attempt DESC LIMIT 1",
        )
        .bind(test.id)
        .fetch_optional(&mut *transaction)
        .await
        .map_err(failed())?;
        let (fingerprint, message): (Option<String>, String) = match &failure {
            Some(row) => (row.try_get(0).map_err(failed())?, row.try_get(1).map_err(failed())?),
            None => (None, String::new()),
        };
        super::results::write_standing(
            &mut transaction,
            test.id,
            &test.suite,
            &standing,
            fingerprint.as_deref(),
            &message,
        )
        .await?;
        transaction.commit().await.map_err(failed())
    }

    /// Names that a test had before.
    pub(crate) async fn earlier_names(&self, test: i64) -> Result<Vec<TestView>, StoreError> {
        let rows = sqlx::query(
            "SELECT t.id, t.suite, t.class, t.name, t.parameters FROM test_aliases a JOIN tests t ON t.suite = a.suite \
             AND t.class = a.class AND t.name = a.name AND t.parameters = a.parameters WHERE a.test = $1 ORDER BY t.id",
        )
        .bind(test)
        .fetch_all(&self.reader)
        .await
        .map_err(StoreError::database("read a test's earlier names"))?;
        rows.iter().map(super::standings::test_view).collect()
    }
}
