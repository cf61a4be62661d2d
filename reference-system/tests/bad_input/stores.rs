//! Every row of every store, and what the registry tells: read beside the roles, so that a test sees what a request has
//! left behind.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection};
use sqlx::{AssertSqlSafe, ConnectOptions};

/// Tables that move by themselves.
const RESTLESS: [&str; 2] = [
    // The latest sign that refunds arrive.
    "eus.canaries",
    // How often the auditor has looked at the registry.
    "audit.registry_looks",
];

/// The rows of a store, by table.
type Tables = BTreeMap<String, Vec<String>>;

struct File {
    name: String,
    connection: SqliteConnection,
    /// Another one whenever somebody else has written to the file.
    version: i64,
    tables: Tables,
}

/// The stores as they were last seen.
pub(crate) struct Stores {
    files: Vec<File>,
}

impl Stores {
    /// Opens every store of a system on files.
    pub(crate) async fn open(data: &Path) -> Self {
        let mut files = Vec::new();
        for entry in std::fs::read_dir(data).expect("the stores") {
            let path = entry.expect("a file").path();
            if path.extension().is_none_or(|ending| ending != "db") {
                continue;
            }
            let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
            let options = SqliteConnectOptions::new().filename(&path).read_only(true);
            let connection = options.connect().await.unwrap_or_else(|error| panic!("{name}: {error}"));
            files.push(File { name, connection, version: -1, tables: Tables::new() });
        }
        assert!(files.len() > 10, "only {} stores", files.len());
        let mut stores = Self { files };
        stores.changes().await;
        stores
    }

    /// What is not as it was at the last look, a line for each row.
    pub(crate) async fn changes(&mut self) -> Vec<String> {
        let mut changes = Vec::new();
        for file in &mut self.files {
            let version = file.version().await;
            if version == file.version {
                continue;
            }
            let tables = file.read().await;
            changes.extend(differences(&file.name, &file.tables, &tables));
            (file.version, file.tables) = (version, tables);
        }
        changes
    }

    /// Whether there is work on orders that somebody does soon.
    pub(crate) async fn has_tasks_within(&mut self, time: Duration) -> bool {
        let sql = format!(
            "SELECT CAST(count(*) AS TEXT) FROM tasks WHERE due_at_ms < 1000 * unixepoch() + {}",
            time.as_millis()
        );
        for file in self.files.iter_mut().filter(|file| file.tables.contains_key("tasks")) {
            if file.texts(sql.clone()).await != ["0"] {
                return true;
            }
        }
        false
    }

    /// A text of a store.
    pub(crate) async fn text(&mut self, store: &str, sql: &'static str) -> String {
        let file = self.files.iter_mut().find(|file| file.name == store).unwrap_or_else(|| panic!("no {store}"));
        sqlx::query_scalar(sql).fetch_one(&mut file.connection).await.unwrap_or_else(|error| panic!("{sql}: {error}"))
    }
}

impl File {
    async fn version(&mut self) -> i64 {
        let version = sqlx::query_scalar("PRAGMA data_version").fetch_one(&mut self.connection).await;
        version.unwrap_or_else(|error| panic!("{}: {error}", self.name))
    }

    async fn texts(&mut self, sql: String) -> Vec<String> {
        let found = sqlx::query_scalar(AssertSqlSafe(sql.clone())).fetch_all(&mut self.connection).await;
        found.unwrap_or_else(|error| panic!("{}: {sql}: {error}", self.name))
    }

    async fn read(&mut self) -> Tables {
        let mut tables = Tables::new();
        let named = "SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite_%'";
        for table in self.texts(named.to_owned()).await {
            if RESTLESS.contains(&format!("{}.{table}", self.name).as_str()) {
                continue;
            }
            let columns = self.texts(format!("SELECT name FROM pragma_table_info('{table}')")).await;
            let row = columns.iter().map(|column| format!("quote(\"{column}\")")).collect::<Vec<_>>().join("||','||");
            let rows = self.texts(format!("SELECT {row} FROM \"{table}\" ORDER BY 1")).await;
            tables.insert(table, rows);
        }
        tables
    }
}

fn differences(store: &str, before: &Tables, after: &Tables) -> Vec<String> {
    let mut told = Vec::new();
    for (table, rows) in after {
        let none = Vec::new();
        let known = before.get(table).unwrap_or(&none);
        let line =
            |sign: char, row: &String| format!("{store}.{table} {sign} {}", row.chars().take(200).collect::<String>());
        told.extend(rows.iter().filter(|row| known.binary_search(row).is_err()).map(|row| line('+', row)));
        told.extend(known.iter().filter(|row| rows.binary_search(row).is_err()).map(|row| line('-', row)));
    }
    told
}
