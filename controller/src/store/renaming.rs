//! A file under another name, and everything that knows it by its name: versions, runs, tests with their mutes, schedules,
//! rules and what is remembered for them, other files that refer to it.

use kennel_model::api::FileKind;
use kennel_model::naming;
use sqlx::{Sqlite, Transaction};

use super::files::{Change, Draft, append, current, last_version, version_of};
use super::{Store, StoreError};

const DOING: &str = "rename a file";

/// Statements that carry a suite's history, `$1` to `$2`.
const SUITE: &[&str] = &[
    "UPDATE suite_runs SET suite = $2 WHERE suite = $1",
    "UPDATE tests SET suite = $2 WHERE suite = $1",
    "UPDATE test_aliases SET suite = $2 WHERE suite = $1",
    "UPDATE test_standings SET suite = $2 WHERE suite = $1",
    "UPDATE schedules SET draft = json_set(draft, '$.subject', $2) \
     WHERE json_extract(draft, '$.kind') = 'suite' AND json_extract(draft, '$.subject') = $1",
    "UPDATE notification_rules SET rule = json_set(rule, '$.only.suite', $2) \
     WHERE json_extract(rule, '$.only.suite') = $1",
    // What is remembered under the new name is of no run that is kept.
    "UPDATE OR REPLACE notification_standings SET name = $2 WHERE kind = 'suite' AND name = $1",
    "UPDATE notification_events SET name = $2 WHERE kind = 'suite' AND name = $1",
];

/// As [`SUITE`], of an experiment.
const EXPERIMENT: &[&str] = &[
    "UPDATE runs SET name = $2 WHERE name = $1",
    "UPDATE schedules SET draft = json_set(draft, '$.subject', $2) \
     WHERE json_extract(draft, '$.kind') = 'experiment' AND json_extract(draft, '$.subject') = $1",
    "UPDATE notification_rules SET rule = json_set(rule, '$.only.experiment', $2) \
     WHERE json_extract(rule, '$.only.experiment') = $1",
    "UPDATE OR REPLACE notification_standings SET name = $2 WHERE kind = 'experiment' AND name = $1",
    "UPDATE notification_events SET name = $2 WHERE kind = 'experiment' AND name = $1",
];

/// As [`SUITE`], of a target.
const TARGET: &[&str] = &["UPDATE runs SET target = $2 WHERE target = $1"];

/// How a kind of file is found in what is kept by its name.
struct Traces {
    /// Whether a run under the name `$1` is not over.
    under_way: &'static str,
    /// Whether anything is kept under the name `$1`.
    history: &'static str,
    carry: &'static [&'static str],
}

fn traces(kind: FileKind) -> Traces {
    match kind {
        FileKind::Suite => Traces {
            under_way: "SELECT EXISTS (SELECT 1 FROM suite_runs WHERE suite = $1 AND state <> 'ended')",
            history: "SELECT EXISTS (SELECT 1 FROM suite_runs WHERE suite = $1) \
                      OR EXISTS (SELECT 1 FROM tests WHERE suite = $1)",
            carry: SUITE,
        },
        FileKind::Experiment => Traces {
            under_way: "SELECT EXISTS (SELECT 1 FROM runs WHERE name = $1 AND state <> 'judged')",
            history: "SELECT EXISTS (SELECT 1 FROM runs WHERE name = $1)",
            carry: EXPERIMENT,
        },
        FileKind::Target => Traces {
            under_way: "SELECT EXISTS (SELECT 1 FROM runs WHERE target = $1 AND state <> 'judged')",
            history: "SELECT EXISTS (SELECT 1 FROM runs WHERE target = $1)",
            carry: TARGET,
        },
    }
}

impl Store {
    /// Moves a file with all its versions and its history to another name and keeps a new version there. Files that
    /// refer to it follow, each with a new version of its own.
    pub(crate) async fn rename_file(
        &self,
        kind: FileKind,
        (from, to): (&str, &str),
        draft: Draft<'_>,
        expected: Option<u32>,
    ) -> Result<Change, StoreError> {
        let failed = || StoreError::database(DOING);
        let mut transaction = self.writer.begin().await.map_err(failed())?;
        let old = current(&mut transaction, kind, from).await?;
        if old.is_none() || expected.is_some_and(|expected| expected != version_of(old.as_ref())) {
            return Ok(Change::Stale(old));
        }
        if current(&mut transaction, kind, to).await?.is_some() {
            return Ok(Change::Taken);
        }
        let traces = traces(kind);
        if is_so(&mut transaction, traces.under_way, from).await? {
            return Ok(Change::UnderWay);
        }
        if is_so(&mut transaction, traces.history, to).await? {
            return Ok(Change::InHistory);
        }
        sqlx::query("DELETE FROM files WHERE kind = $1 AND name = $2")
            .bind(kind.word())
            .bind(from)
            .execute(&mut *transaction)
            .await
            .map_err(failed())?;
        // Versions of a removed file of the new name stay; the moved ones follow them.
        let before = last_version(&mut transaction, kind, to).await?;
        sqlx::query("UPDATE file_versions SET name = $3, version = version + $4 WHERE kind = $1 AND name = $2")
            .bind(kind.word())
            .bind(from)
            .bind(to)
            .bind(before)
            .execute(&mut *transaction)
            .await
            .map_err(failed())?;
        if kind == FileKind::Suite && before > 0 {
            sqlx::query("UPDATE suite_runs SET version = version + $2 WHERE suite = $1")
                .bind(from)
                .bind(before)
                .execute(&mut *transaction)
                .await
                .map_err(failed())?;
        }
        for &statement in traces.carry {
            sqlx::query(statement).bind(from).bind(to).execute(&mut *transaction).await.map_err(failed())?;
        }
        let saved = append(&mut transaction, kind, to, draft).await?;
        let followed = follow(&mut transaction, kind, (from, to), draft.author).await?;
        transaction.commit().await.map_err(failed())?;
        Ok(Change::Renamed { saved, followed })
    }
}

async fn is_so(
    transaction: &mut Transaction<'_, Sqlite>,
    question: &'static str,
    name: &str,
) -> Result<bool, StoreError> {
    sqlx::query_scalar(question).bind(name).fetch_one(&mut **transaction).await.map_err(StoreError::database(DOING))
}

/// Keeps a new version of every file that refers to the renamed one; tells which.
async fn follow(
    transaction: &mut Transaction<'_, Sqlite>,
    kind: FileKind,
    (from, to): (&str, &str),
    author: &str,
) -> Result<Vec<(FileKind, String)>, StoreError> {
    let files: Vec<(String, String, String)> = sqlx::query_as(
        "SELECT kind, name, source FROM files f JOIN file_versions v USING (kind, name, version) ORDER BY kind, name",
    )
    .fetch_all(&mut **transaction)
    .await
    .map_err(StoreError::database(DOING))?;
    let mut followed = Vec::new();
    let message = format!("{kind} `{from}` is now `{to}`");
    for (other, name, source) in files {
        let other: FileKind = other.parse().map_err(StoreError::broken("kind of file"))?;
        let Some(source) = naming::referring_to(&source, other, kind, (from, to)) else { continue };
        append(transaction, other, &name, Draft { source: &source, author, message: &message }).await?;
        followed.push((other, name));
    }
    Ok(followed)
}
