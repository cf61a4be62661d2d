//! The steps that bring the tables of a store up to date, in order. A step that was published is never changed: stores
//! keep a checksum of each.

use sqlx::SqlSafeStr;
use sqlx::migrate::{Migration, MigrationType, Migrator};

/// Number, name and statements of each step: the files under `migrations/`. The list is written out because the macro
/// that reads the folder builds every driver of SQLx a second time, for the compiler.
const STEPS: &[(i64, &str, &str)] = &[
    (1, "runs", include_str!("../../migrations/0001_runs.sql")),
    (2, "judgements", include_str!("../../migrations/0002_judgements.sql")),
    (3, "suites", include_str!("../../migrations/0003_suites.sql")),
    (4, "results", include_str!("../../migrations/0004_results.sql")),
    (5, "suites", include_str!("../../migrations/0005_suites.sql")),
    (6, "schedules", include_str!("../../migrations/0006_schedules.sql")),
    (7, "people", include_str!("../../migrations/0007_people.sql")),
    (8, "notifications", include_str!("../../migrations/0008_notifications.sql")),
    (9, "ends", include_str!("../../migrations/0009_ends.sql")),
];

/// What brings a store up to date.
pub(super) fn migrator() -> Migrator {
    let step = |&(version, name, sql): &(i64, &'static str, &'static str)| {
        Migration::new(version, name.into(), MigrationType::Simple, sql.into_sql_str(), false)
    };
    Migrator::with_migrations(STEPS.iter().map(step).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_file_is_a_step() {
        let folder = std::fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/migrations")).unwrap();
        let mut files: Vec<_> = folder.map(|file| file.unwrap().file_name().into_string().unwrap()).collect();
        files.sort();
        let steps: Vec<_> = STEPS.iter().map(|(version, name, _)| format!("{version:04}_{name}.sql")).collect();
        assert_eq!(files, steps);
    }
}
