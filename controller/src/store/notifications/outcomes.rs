//! What notifications are about: runs that ended and were not told of yet, how things stood before, what changed.

use std::collections::BTreeSet;

use kennel_model::api::{NotificationEvent, NotificationSubject};
use kennel_model::{RunId, Verdict};
use kennel_notifications::change::Standing;
use sqlx::sqlite::SqliteRow;

use super::{NewDelivery, get};
use crate::store::{Store, StoreError, count, from_json, now, to_json};

/// Runs looked at in one go.
const BATCH: i64 = 200;

/// A run that ended, as far as notifications ask.
#[derive(Debug, Clone)]
pub(crate) struct Outcome {
    pub(crate) kind: NotificationSubject,
    pub(crate) run: RunId,
    pub(crate) name: String,
    pub(crate) verdict: Verdict,
    pub(crate) reasons: Vec<String>,
    pub(crate) labels: Vec<String>,
    pub(crate) ended_at: String,
    /// Whether it ran as a step of a suite.
    pub(crate) is_step: bool,
}

/// Something that is wrong in a suite's run: a test or a step.
#[derive(Debug, Clone)]
pub(crate) struct Fault {
    /// A name that stays from run to run.
    pub(crate) key: String,
    /// As people read it.
    pub(crate) text: String,
    pub(crate) link: Option<String>,
}

/// What is remembered of a suite or an experiment.
#[derive(Debug, Clone)]
pub(crate) struct StandingRow {
    pub(crate) kind: NotificationSubject,
    pub(crate) name: String,
    pub(crate) branch: String,
    pub(crate) is_step: bool,
    pub(crate) standing: Standing,
}

/// Something that happened.
#[derive(Debug, Clone)]
pub(crate) struct NewEvent {
    pub(crate) at: String,
    pub(crate) event: NotificationEvent,
    pub(crate) kind: NotificationSubject,
    pub(crate) name: String,
    pub(crate) labels: Vec<String>,
    pub(crate) is_step: bool,
    pub(crate) title: String,
    pub(crate) link: Option<String>,
}

/// Something that happened, as it was kept.
pub(crate) type StoredEvent = NewEvent;

/// How often something ran, and how its runs ended.
#[derive(Debug, Clone)]
pub(crate) struct Tally {
    pub(crate) kind: NotificationSubject,
    pub(crate) name: String,
    pub(crate) labels: Vec<String>,
    pub(crate) is_step: bool,
    pub(crate) verdict: Verdict,
}

/// Occurrences of a schedule at which nothing ran: after a long pause of Kennel's there may be hundreds.
#[derive(Debug, Clone)]
pub(crate) struct MissedOccurrences {
    pub(crate) schedule: String,
    pub(crate) name: String,
    /// When they were due, oldest first; at least one.
    pub(crate) due_at: Vec<String>,
    /// Why the last of them did not run.
    pub(crate) reason: String,
    /// When that was noted.
    pub(crate) noted_at: String,
}

const IS_STEP: &str = "EXISTS (SELECT 1 FROM steps s WHERE s.run = r.id) AS is_step";

impl Store {
    /// Runs that ended and were not told of yet, of suites and of experiments, in the order in which they ended.
    pub(crate) async fn untold_outcomes(&self) -> Result<Vec<Outcome>, StoreError> {
        let failed = || StoreError::database("find runs to tell of");
        let suites = sqlx::query(
            "SELECT id, suite AS name, verdict, reasons, labels, ended_at, 0 AS is_step FROM suite_runs \
             WHERE notified = 0 AND state = 'ended' ORDER BY ended_at, id LIMIT $1",
        );
        let suites = suites.bind(BATCH).fetch_all(&self.reader).await.map_err(failed())?;
        let statement = format!(
            "SELECT r.id, r.name, r.verdict, r.reasons, r.labels, r.ended_at, {IS_STEP} FROM runs r \
             WHERE r.notified = 0 AND r.state = 'judged' ORDER BY r.ended_at, r.id LIMIT $1"
        );
        let runs = sqlx::query(sqlx::AssertSqlSafe(statement)).bind(BATCH);
        let runs = runs.fetch_all(&self.reader).await.map_err(failed())?;
        let mut outcomes = Vec::with_capacity(suites.len() + runs.len());
        for row in &suites {
            outcomes.push(outcome(row, NotificationSubject::Suite)?);
        }
        for row in &runs {
            outcomes.push(outcome(row, NotificationSubject::Experiment)?);
        }
        outcomes.sort_by(|a, b| (&a.ended_at, a.run).cmp(&(&b.ended_at, b.run)));
        Ok(outcomes)
    }

    /// What is remembered of a suite or an experiment.
    pub(crate) async fn standing(
        &self,
        kind: NotificationSubject,
        name: &str,
        branch: &str,
    ) -> Result<Option<Standing>, StoreError> {
        let text: Option<String> = sqlx::query_scalar(
            "SELECT standing FROM notification_standings WHERE kind = $1 AND name = $2 AND branch = $3",
        )
        .bind(kind.word())
        .bind(name)
        .bind(branch)
        .fetch_optional(&self.reader)
        .await
        .map_err(StoreError::database("read how something stands"))?;
        text.map(|text| from_json("standing", &text)).transpose()
    }

    /// Everything that is failing, by name.
    pub(crate) async fn failing_standings(&self) -> Result<Vec<StandingRow>, StoreError> {
        let rows = sqlx::query("SELECT * FROM notification_standings WHERE failing = 1 ORDER BY name, branch, kind")
            .fetch_all(&self.reader)
            .await
            .map_err(StoreError::database("read what is failing"))?;
        let read = |row: &SqliteRow| {
            let (kind, standing): (String, String) = (get(row, "kind")?, get(row, "standing")?);
            Ok(StandingRow {
                kind: kind.parse().map_err(StoreError::broken("kind of a standing"))?,
                name: get(row, "name")?,
                branch: get(row, "branch")?,
                is_step: get::<i64>(row, "is_step")? != 0,
                standing: from_json("standing", &standing)?,
            })
        };
        rows.iter().map(read).collect()
    }

    /// Keeps that a run was told of, with everything that comes of it: all or, on an error, nothing.
    pub(crate) async fn keep_told(
        &self,
        outcome: &Outcome,
        standing: Option<&StandingRow>,
        events: &[NewEvent],
        deliveries: &[NewDelivery],
    ) -> Result<(), StoreError> {
        let failed = || StoreError::database("keep what a run means");
        let mut transaction = self.writer.begin().await.map_err(failed())?;
        let statement = match outcome.kind {
            NotificationSubject::Suite => "UPDATE suite_runs SET notified = 1 WHERE id = $1",
            _ => "UPDATE runs SET notified = 1 WHERE id = $1",
        };
        sqlx::query(statement).bind(outcome.run.to_string()).execute(&mut *transaction).await.map_err(failed())?;
        if let Some(row) = standing {
            sqlx::query(
                "INSERT INTO notification_standings (kind, name, branch, standing, failing, is_step) VALUES ($1, $2, $3, $4, $5, $6) \
                 ON CONFLICT (kind, name, branch) DO UPDATE SET standing = excluded.standing, \
                 failing = excluded.failing, is_step = excluded.is_step",
            )
            .bind(row.kind.word())
            .bind(&row.name)
            .bind(&row.branch)
            .bind(to_json("standing", &row.standing)?)
            .bind(i64::from(row.standing.failing_since.is_some()))
            .bind(i64::from(row.is_step))
            .execute(&mut *transaction)
            .await
            .map_err(failed())?;
        }
        keep_news(&mut transaction, events, deliveries).await?;
        transaction.commit().await.map_err(failed())
    }

    /// Occurrences at which nothing ran though something should have, and that were not told of yet, by schedule.
    pub(crate) async fn untold_missed(&self) -> Result<Vec<MissedOccurrences>, StoreError> {
        let rows = sqlx::query(
            "SELECT o.schedule, s.name, o.due_at, o.reason, o.noted_at FROM occurrences o \
             JOIN schedules s ON s.id = o.schedule WHERE o.state IN ('missed', 'failed') AND NOT EXISTS \
             (SELECT 1 FROM notified_occurrences n WHERE n.schedule = o.schedule AND n.due_at = o.due_at) \
             ORDER BY o.schedule, o.due_at",
        )
        .fetch_all(&self.reader)
        .await
        .map_err(StoreError::database("find missed occurrences"))?;
        let mut missed: Vec<MissedOccurrences> = Vec::new();
        for row in &rows {
            let (schedule, due_at): (String, String) = (get(row, "schedule")?, get(row, "due_at")?);
            let (reason, noted_at) = (get(row, "reason")?, get(row, "noted_at")?);
            match missed.last_mut().filter(|last| last.schedule == schedule) {
                Some(last) => {
                    last.due_at.push(due_at);
                    (last.reason, last.noted_at) = (reason, noted_at);
                }
                None => {
                    let (name, due_at) = (get(row, "name")?, vec![due_at]);
                    missed.push(MissedOccurrences { schedule, name, due_at, reason, noted_at });
                }
            }
        }
        Ok(missed)
    }

    /// Keeps that missed occurrences were told of.
    pub(crate) async fn keep_missed(
        &self,
        missed: &MissedOccurrences,
        event: &NewEvent,
        deliveries: &[NewDelivery],
    ) -> Result<(), StoreError> {
        let failed = || StoreError::database("keep what missed occurrences mean");
        let mut transaction = self.writer.begin().await.map_err(failed())?;
        for due_at in &missed.due_at {
            sqlx::query("INSERT INTO notified_occurrences (schedule, due_at) VALUES ($1, $2)")
                .bind(&missed.schedule)
                .bind(due_at)
                .execute(&mut *transaction)
                .await
                .map_err(failed())?;
        }
        keep_news(&mut transaction, std::slice::from_ref(event), deliveries).await?;
        transaction.commit().await.map_err(failed())
    }

    /// Keeps that a rule's digest was made, and when the next one is due.
    pub(crate) async fn keep_digest(
        &self,
        rule: i64,
        told_up_to: &str,
        next: Option<&str>,
        delivery: &NewDelivery,
    ) -> Result<(), StoreError> {
        let failed = || StoreError::database("keep a digest");
        let mut transaction = self.writer.begin().await.map_err(failed())?;
        sqlx::query("UPDATE notification_rules SET digest_from = $2, next_digest_at = $3 WHERE id = $1")
            .bind(rule)
            .bind(told_up_to)
            .bind(next)
            .execute(&mut *transaction)
            .await
            .map_err(failed())?;
        Self::insert_delivery_in(&mut transaction, delivery).await?;
        transaction.commit().await.map_err(failed())
    }

    /// What happened in a stretch of time, oldest first.
    pub(crate) async fn events_between(&self, from: &str, to: &str) -> Result<Vec<StoredEvent>, StoreError> {
        let rows = sqlx::query("SELECT * FROM notification_events WHERE at > $1 AND at <= $2 ORDER BY at, id")
            .bind(from)
            .bind(to)
            .fetch_all(&self.reader)
            .await
            .map_err(StoreError::database("read what happened"))?;
        let read = |row: &SqliteRow| {
            let (event, kind, labels): (String, String, String) =
                (get(row, "event")?, get(row, "kind")?, get(row, "labels")?);
            Ok(StoredEvent {
                at: get(row, "at")?,
                event: event.parse().map_err(StoreError::broken("event"))?,
                kind: kind.parse().map_err(StoreError::broken("kind of an event"))?,
                name: get(row, "name")?,
                labels: from_json("labels", &labels)?,
                is_step: get::<i64>(row, "is_step")? != 0,
                title: get(row, "title")?,
                link: get(row, "link")?,
            })
        };
        rows.iter().map(read).collect()
    }

    /// What ended in a stretch of time, one entry per run, by name.
    pub(crate) async fn tallies_between(&self, from: &str, to: &str) -> Result<Vec<Tally>, StoreError> {
        let failed = || StoreError::database("read what ran");
        let suites = sqlx::query(
            "SELECT suite AS name, verdict, labels, 0 AS is_step FROM suite_runs \
             WHERE state = 'ended' AND ended_at > $1 AND ended_at <= $2 ORDER BY suite",
        );
        let suites = suites.bind(from).bind(to).fetch_all(&self.reader).await.map_err(failed())?;
        let statement = format!(
            "SELECT r.name, r.verdict, r.labels, {IS_STEP} FROM runs r \
             WHERE r.state = 'judged' AND r.ended_at > $1 AND r.ended_at <= $2 ORDER BY r.name"
        );
        let runs = sqlx::query(sqlx::AssertSqlSafe(statement)).bind(from).bind(to);
        let runs = runs.fetch_all(&self.reader).await.map_err(failed())?;
        let kinds = [(NotificationSubject::Suite, &suites), (NotificationSubject::Experiment, &runs)];
        let rows = kinds.into_iter().flat_map(|(kind, rows)| rows.iter().map(move |row| (kind, row)));
        rows.map(|(kind, row)| {
            let labels: String = get(row, "labels")?;
            Ok(Tally {
                kind,
                name: get(row, "name")?,
                labels: from_json("labels", &labels)?,
                is_step: get::<i64>(row, "is_step")? != 0,
                verdict: verdict(row)?,
            })
        })
        .collect()
    }

    /// Tests of a suite's run that failed and are not muted.
    pub(crate) async fn tests_at_fault(&self, run: RunId) -> Result<Vec<Fault>, StoreError> {
        let rows = sqlx::query(
            "SELECT t.id, t.class, t.name, t.parameters, (SELECT r.message FROM test_results r \
             WHERE r.suite_run = h.suite_run AND r.test = h.test AND r.outcome IN ('failed', 'error') \
             ORDER BY r.attempt DESC LIMIT 1) AS message FROM test_history h JOIN tests t ON t.id = h.test \
             WHERE h.suite_run = $1 AND h.outcome IN ('failed', 'error') \
             AND NOT EXISTS (SELECT 1 FROM mutes m WHERE m.test = h.test AND m.expires_at > $2) \
             ORDER BY t.class, t.name, t.parameters",
        )
        .bind(run.to_string())
        .bind(now())
        .fetch_all(&self.reader)
        .await
        .map_err(StoreError::database("read failed tests"))?;
        let read = |row: &SqliteRow| {
            let id: i64 = get(row, "id")?;
            let parts = [get::<String>(row, "class")?, get(row, "name")?, get(row, "parameters")?];
            let parts: Vec<String> = parts.into_iter().filter(|part| !part.is_empty()).collect();
            let mut text = parts.join(" › ");
            let message: String = get::<Option<String>>(row, "message")?.unwrap_or_default();
            if let Some(first) = message.lines().find(|line| !line.trim().is_empty()) {
                text.push_str(&format!(": {}", first.trim()));
            }
            Ok(Fault { key: format!("test {id}"), text, link: Some(format!("/tests/{id}")) })
        };
        rows.iter().map(read).collect()
    }

    /// Steps of a suite's run that failed at their last attempt and that no failed test stands for.
    pub(crate) async fn steps_at_fault(&self, run: RunId) -> Result<Vec<Fault>, StoreError> {
        let rows = sqlx::query(
            "SELECT s.name, s.message FROM steps s WHERE s.suite_run = $1 AND s.outcome IN ('failed', 'error') \
             AND s.kind <> 'parallel' \
             AND s.attempt = (SELECT MAX(l.attempt) FROM steps l WHERE l.suite_run = s.suite_run AND l.path = s.path) \
             AND NOT EXISTS (SELECT 1 FROM test_results t WHERE t.suite_run = s.suite_run AND t.step = s.path \
             AND t.outcome IN ('failed', 'error')) ORDER BY s.position",
        )
        .bind(run.to_string())
        .fetch_all(&self.reader)
        .await
        .map_err(StoreError::database("read failed steps"))?;
        let read = |row: &SqliteRow| {
            let (name, message): (String, String) = (get(row, "name")?, get(row, "message")?);
            let first = message.lines().find(|line| !line.trim().is_empty()).unwrap_or_default();
            let text = if first.is_empty() { format!("step {name}") } else { format!("step {name}: {}", first.trim()) };
            Ok(Fault { key: format!("step {name}"), text, link: None })
        };
        rows.iter().map(read).collect()
    }

    /// Keys of the tests and steps of a suite's run that passed.
    pub(crate) async fn sound_keys(&self, run: RunId) -> Result<BTreeSet<String>, StoreError> {
        let failed = || StoreError::database("read passed tests");
        let tests: Vec<i64> =
            sqlx::query_scalar("SELECT test FROM test_history WHERE suite_run = $1 AND outcome = 'passed'")
                .bind(run.to_string())
                .fetch_all(&self.reader)
                .await
                .map_err(failed())?;
        let steps: Vec<String> =
            sqlx::query_scalar("SELECT s.name FROM steps s WHERE s.suite_run = $1 AND s.outcome = 'passed'")
                .bind(run.to_string())
                .fetch_all(&self.reader)
                .await
                .map_err(failed())?;
        let tests = tests.into_iter().map(|id| format!("test {id}"));
        Ok(tests.chain(steps.into_iter().map(|name| format!("step {name}"))).collect())
    }

    /// How many tests of a suite's run ended how: passed, and failed or could not be carried out.
    pub(crate) async fn test_counts(&self, run: RunId) -> Result<(u64, u64), StoreError> {
        let row = sqlx::query("SELECT passed, failed + error AS failed FROM suite_runs WHERE id = $1")
            .bind(run.to_string())
            .fetch_one(&self.reader)
            .await
            .map_err(StoreError::database("read counts of tests"))?;
        Ok((count(get(&row, "passed")?), count(get(&row, "failed")?)))
    }
}

async fn keep_news(
    transaction: &mut sqlx::SqliteConnection,
    events: &[NewEvent],
    deliveries: &[NewDelivery],
) -> Result<(), StoreError> {
    for event in events {
        sqlx::query(
            "INSERT INTO notification_events (at, event, kind, name, labels, is_step, title, link) \
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8)",
        )
        .bind(&event.at)
        .bind(event.event.word())
        .bind(event.kind.word())
        .bind(&event.name)
        .bind(to_json("labels", &event.labels)?)
        .bind(i64::from(event.is_step))
        .bind(&event.title)
        .bind(&event.link)
        .execute(&mut *transaction)
        .await
        .map_err(StoreError::database("keep what happened"))?;
    }
    for delivery in deliveries {
        Store::insert_delivery_in(transaction, delivery).await?;
    }
    Ok(())
}

fn verdict(row: &SqliteRow) -> Result<Verdict, StoreError> {
    let word: Option<String> = get(row, "verdict")?;
    // A run that is over without a verdict was cut off before one was found.
    word.map_or(Ok(Verdict::Error), |word| word.parse().map_err(StoreError::broken("verdict")))
}

fn outcome(row: &SqliteRow, kind: NotificationSubject) -> Result<Outcome, StoreError> {
    let (id, reasons, labels): (String, String, String) = (get(row, "id")?, get(row, "reasons")?, get(row, "labels")?);
    Ok(Outcome {
        kind,
        run: id.parse().map_err(StoreError::broken("run id"))?,
        name: get(row, "name")?,
        verdict: verdict(row)?,
        reasons: from_json("list of reasons", &reasons)?,
        labels: from_json("labels", &labels)?,
        ended_at: get::<Option<String>>(row, "ended_at")?.unwrap_or_default(),
        is_step: get::<i64>(row, "is_step")? != 0,
    })
}
