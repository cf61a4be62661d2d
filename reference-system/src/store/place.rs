//! Where a system keeps its rows: one SQLite file per store, or one database per store on a PostgreSQL server. The
//! statements are the same; what differs is said here.

use std::path::{Path, PathBuf};
use std::sync::Once;
use std::time::Duration;

use crate::servers::Tier;
use serde::{Deserialize, Serialize};
use sqlx::any::{AnyConnectOptions, AnyPoolOptions};
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{AnyConnection, AnyPool, AssertSqlSafe, ConnectOptions, Connection};

/// How long a read waits for a connection.
const ACQUIRE: Duration = Duration::from_secs(1);
/// How often a store's preparation is tried, and the pause in between.
const PREPARATIONS: u32 = 6;
const PREPARE_AGAIN: Duration = Duration::from_millis(50);

/// All stores of one system.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Places {
    /// SQLite files in this folder.
    Files(PathBuf),
    /// Databases of a PostgreSQL server.
    Postgres {
        /// Such as `postgres://user:password@127.0.0.1:5432`.
        server: String,
        /// How the names of this system's databases begin.
        prefix: String,
    },
}

/// One store.
#[derive(Debug, Clone)]
pub(crate) enum Place {
    File(PathBuf),
    Database {
        /// The server.
        server: String,
        name: String,
    },
}

impl Places {
    /// The place of the store with this name.
    pub(crate) fn of(&self, name: &str) -> Place {
        match self {
            Self::Files(folder) => Place::File(folder.join(format!("{name}.db"))),
            Self::Postgres { server, prefix } => {
                Place::Database { server: server.clone(), name: format!("{prefix}_{}", name.replace('-', "_")) }
            }
        }
    }
}

impl Places {
    /// Whether there is a store of this name, or was one.
    pub(crate) async fn has(&self, name: &str) -> Result<bool, sqlx::Error> {
        match self.of(name) {
            Place::File(path) => Ok(path.exists()),
            Place::Database { server, name } => {
                let mut connection = connect(&format!("{server}/postgres")).await?;
                let exists = database_exists(&mut connection, &name).await?;
                connection.close().await?;
                Ok(exists)
            }
        }
    }

    /// Removes every database of the system from its server; files go with their folder.
    pub(crate) async fn remove(&self) -> Result<(), sqlx::Error> {
        let Self::Postgres { server, prefix } = self else { return Ok(()) };
        let mut connection = connect(&format!("{server}/postgres")).await?;
        let named = "SELECT CAST(datname AS TEXT) FROM pg_database WHERE starts_with(datname, $1)";
        let names: Vec<String> =
            sqlx::query_scalar(named).bind(format!("{prefix}_")).fetch_all(&mut connection).await?;
        for name in names {
            // A connection of a process that is dead may not have been noticed yet.
            let drop = format!("DROP DATABASE IF EXISTS {name} WITH (FORCE)");
            sqlx::query(AssertSqlSafe(drop)).execute(&mut connection).await?;
        }
        connection.close().await
    }

    /// The tier that keeps rows so.
    pub(crate) fn tier(&self) -> Tier {
        match self {
            Self::Files(_) => Tier::Embedded,
            Self::Postgres { .. } => Tier::Real,
        }
    }

    /// Whether the server behind the stores answers; files always do.
    pub(crate) async fn answers(&self) -> bool {
        let Self::Postgres { server, .. } = self else { return true };
        let ask = async {
            let mut connection = connect(&format!("{server}/postgres")).await?;
            connection.ping().await?;
            connection.close().await
        };
        tokio::time::timeout(ACQUIRE, ask).await.is_ok_and(|asked| asked.is_ok())
    }
}

impl Place {
    /// Makes the store if it is missing, and applies `schema`, which must be repeatable. Several instances of a service
    /// may do so at the same moment: whoever finds the other half-way tries again.
    pub(crate) async fn prepare(&self, schema: &str) -> Result<(), sqlx::Error> {
        for _ in 1..PREPARATIONS {
            match self.prepare_once(schema).await {
                Err(sqlx::Error::Database(_)) => tokio::time::sleep(PREPARE_AGAIN).await,
                done => return done,
            }
        }
        self.prepare_once(schema).await
    }

    async fn prepare_once(&self, schema: &str) -> Result<(), sqlx::Error> {
        if let Self::Database { server, name } = self {
            let mut connection = connect(&format!("{server}/postgres")).await?;
            if !database_exists(&mut connection, name).await? {
                // Names come from this program's own list of roles.
                sqlx::query(AssertSqlSafe(format!("CREATE DATABASE {name}"))).execute(&mut connection).await?;
            }
            connection.close().await?;
        }
        let mut connection = self.writer().await?;
        sqlx::raw_sql(AssertSqlSafe(self.dialect(schema))).execute(&mut connection).await?;
        connection.close().await
    }

    /// The schema as this kind of server writes it.
    fn dialect(&self, schema: &str) -> String {
        match self {
            Self::File(_) => schema.replace("IDENTITY", "INTEGER PRIMARY KEY AUTOINCREMENT"),
            Self::Database { .. } => schema
                .replace("IDENTITY", "BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY")
                .replace(" WITHOUT ROWID", ""),
        }
    }

    /// The one connection that writes.
    pub(crate) async fn writer(&self) -> Result<AnyConnection, sqlx::Error> {
        match self {
            Self::File(path) => {
                let mut connection = connect_file(path, false).await?;
                sqlx::raw_sql("PRAGMA busy_timeout = 2000; PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL;")
                    .execute(&mut connection)
                    .await?;
                Ok(connection)
            }
            Self::Database { server, name } => {
                let mut connection = connect(&format!("{server}/{name}")).await?;
                sqlx::raw_sql("SET lock_timeout = 2000").execute(&mut connection).await?;
                Ok(connection)
            }
        }
    }

    /// A connection that only reads, for the auditor.
    pub(crate) async fn reader(&self) -> Result<AnyConnection, sqlx::Error> {
        match self {
            Self::File(path) => {
                let mut connection = connect_file(path, true).await?;
                sqlx::raw_sql("PRAGMA busy_timeout = 2000").execute(&mut connection).await?;
                Ok(connection)
            }
            Self::Database { server, name } => {
                let mut connection = connect(&format!("{server}/{name}")).await?;
                // As a SQLite file gives it: every transaction sees one moment, and changes nothing.
                sqlx::raw_sql("SET SESSION CHARACTERISTICS AS TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
                    .execute(&mut connection)
                    .await?;
                Ok(connection)
            }
        }
    }

    /// Connections that only read, for a role. Each is made when it is first needed: a server that is busy with the start of
    /// all others delays a read then, and does not end the role.
    pub(crate) fn readers(&self) -> Result<AnyPool, sqlx::Error> {
        let (url, is_server) = match self {
            Self::File(path) => (file_url(path, true), false),
            Self::Database { server, name } => (format!("{server}/{name}"), true),
        };
        let pool = AnyPoolOptions::new()
            .max_connections(2)
            // A server may have been restarted; a file is always there.
            .test_before_acquire(is_server)
            .acquire_timeout(ACQUIRE)
            .idle_timeout(None)
            .max_lifetime(None)
            .connect_lazy_with(options(&url)?);
        Ok(pool)
    }

    /// How a transaction that writes begins: the only one at its store, whichever instance writes. So what a write has
    /// looked at is still so when it writes.
    pub(crate) fn begin(&self) -> &'static str {
        match self {
            Self::File(_) => "BEGIN IMMEDIATE",
            // The number is any that nobody else uses in this database.
            Self::Database { .. } => "BEGIN; SELECT pg_advisory_xact_lock(1)",
        }
    }
}

async fn database_exists(connection: &mut AnyConnection, name: &str) -> Result<bool, sqlx::Error> {
    let exists: Option<i64> = sqlx::query_scalar("SELECT 1::BIGINT FROM pg_database WHERE datname = $1")
        .bind(name.to_owned())
        .fetch_optional(connection)
        .await?;
    Ok(exists.is_some())
}

fn options(url: &str) -> Result<AnyConnectOptions, sqlx::Error> {
    static DRIVERS: Once = Once::new();
    DRIVERS.call_once(sqlx::any::install_default_drivers);
    url.parse()
}

async fn connect(url: &str) -> Result<AnyConnection, sqlx::Error> {
    AnyConnection::connect_with(&options(url)?).await
}

async fn connect_file(path: &Path, read_only: bool) -> Result<AnyConnection, sqlx::Error> {
    connect(&file_url(path, read_only)).await
}

fn file_url(path: &Path, read_only: bool) -> String {
    let options = SqliteConnectOptions::new().filename(path).read_only(read_only).create_if_missing(!read_only);
    options.to_url_lossy().into()
}
