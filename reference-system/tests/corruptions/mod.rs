//! A system's stores spoilt, one way at a time, and audited: exactly the invariants that a corruption names must tell.
#![allow(dead_code, unreachable_pub, clippy::unwrap_used, reason = "a module of tests, of which each file uses a part")]

pub mod seeded;

use std::collections::BTreeMap;

use nix::sys::signal::Signal;
use reference_system::Tier;
use reference_system::audit::{AuditReport, Verdict, audit_databases, audit_files};
use reference_system::bus::Bus;
use sqlx::{Connection, PgConnection};

use crate::world::{World, copy_of, eventually, kill, runs, signal, spoil};

/// A way to spoil the rows of a store, and the invariants that must tell.
pub struct Corruption {
    /// Its name; `?` stands for each group.
    pub store: &'static str,
    pub breaks: &'static [&'static str],
    /// On files and in PostgreSQL.
    pub sql: &'static str,
}

/// Spoils a world's stores in each of these ways, and ends the world.
pub async fn spoils(world: World, tier: Tier, corruptions: impl IntoIterator<Item = &'static Corruption>) {
    let corruptions: Vec<&Corruption> = corruptions.into_iter().collect();
    let mut wrong = Vec::new();
    match tier {
        Tier::Embedded => {
            let data = world.data();
            let World { system, dir, .. } = world;
            system.stop().await.unwrap();
            let clean = audit_files(&data, None).await;
            assert_eq!(clean.verdict, Verdict::Valid, "{clean:#?}");
            for (n, corruption) in corruptions.iter().enumerate() {
                let copy = copy_of(&data, dir.path().join(format!("copy-{n}")));
                for store in corruption.stores() {
                    spoil(&copy.join(format!("{store}.db")), corruption.sql).await;
                }
                wrong.extend(corruption.compare(&audit_files(&copy, None).await));
                std::fs::remove_dir_all(&copy).unwrap();
            }
        }
        Tier::Real => {
            let mut copies = Databases::of(&world).await;
            let clean = copies.audit().await;
            assert_eq!(clean.verdict, Verdict::Valid, "{clean:#?}");
            for corruption in &corruptions {
                for store in corruption.stores() {
                    copies.spoil(&store, corruption.sql).await;
                }
                wrong.extend(corruption.compare(&copies.audit().await));
                for store in corruption.stores() {
                    copies.mend(&store).await;
                }
            }
            copies.end(&world).await;
        }
    }
    assert!(
        wrong.is_empty(),
        "{} of {} are not told as they should be:\n{}",
        wrong.len(),
        corruptions.len(),
        wrong.join("\n")
    );
}

impl Corruption {
    fn stores(&self) -> Vec<String> {
        let groups: &[&str] = if self.store.contains('?') { &["0", "1"] } else { &[""] };
        groups.iter().map(|group| self.store.replace('?', group)).collect()
    }

    /// What is wrong with a report on rows that are spoilt so.
    fn compare(&self, report: &AuditReport) -> Option<String> {
        let invalid = report.invariants.iter().filter(|finding| finding.verdict == Verdict::Invalid);
        let mut broken: Vec<&str> = invalid.clone().map(|finding| finding.id.as_str()).collect();
        broken.sort_unstable();
        let mut breaks = self.breaks.to_vec();
        breaks.sort_unstable();
        let Self { store, sql, .. } = self;
        let examples: Vec<_> = invalid
            .filter(|finding| !breaks.contains(&finding.id.as_str()))
            .map(|finding| format!("    {}: {:?}", finding.id, finding.examples))
            .collect();
        (broken != breaks)
            .then(|| format!("{store}: {sql}\n  breaks {broken:?}, not {breaks:?}\n{}", examples.join("\n")))
    }
}

/// The databases of a system of which nothing runs any more but its servers.
struct Databases {
    /// Of each store.
    stores: BTreeMap<String, Spoilable>,
    server: String,
    prefix: String,
    bus: Bus,
}

/// A database that can be put back to what it was.
struct Spoilable {
    connection: PgConnection,
    /// Statements that put back every row and every index.
    mend: String,
}

impl Databases {
    /// Kills every role, so that nobody mends, tells or reacts to what is spoilt; its supervisor must not start them again.
    async fn of(world: &World) -> Self {
        let (server, prefix) = world.databases();
        let bus = Bus::of_orders(&world.system.state().dir).unwrap();
        let mut admin = PgConnection::connect(&format!("{server}/postgres")).await.unwrap();
        // An audit comes with two dozen connections, and proving a password each time takes longer than all the rest.
        let rules = world.data().join("postgres").join("pg_hba.conf");
        std::fs::write(rules, "host all all 127.0.0.1/32 trust\n").unwrap();
        run(&mut admin, "SELECT pg_reload_conf()").await;
        // A system at rest still has timers: whoever dies with one in hand leaves work that is due.
        eventually("no role has anything in hand", || async {
            let supervisor = world.system.state().supervisor_pid;
            let roles = world.system.state().instances.iter().filter(|instance| !instance.is_server);
            let roles: Vec<u32> = roles.filter_map(|role| world.pid(&role.instance)).collect();
            let all = |what| std::iter::once(supervisor).chain(roles.iter().copied()).for_each(|pid| signal(pid, what));
            all(Signal::SIGSTOP);
            if audit_databases(&server, &prefix, &bus, None).await.verdict != Verdict::Valid {
                all(Signal::SIGCONT);
                return None;
            }
            roles.into_iter().for_each(kill);
            Some(())
        })
        .await;
        let names: Vec<String> = sqlx::query_scalar("SELECT datname FROM pg_database WHERE starts_with(datname, $1)")
            .bind(format!("{prefix}_"))
            .fetch_all(&mut admin)
            .await
            .unwrap();
        let mut stores = BTreeMap::new();
        for name in names {
            let store = name.strip_prefix(&format!("{prefix}_")).unwrap().replace('_', "-");
            stores.insert(store, Spoilable::of(&format!("{server}/{name}")).await);
        }
        assert!(stores.len() > 10, "{:?}", stores.keys());
        Self { stores, server, prefix, bus }
    }

    async fn spoil(&mut self, store: &str, sql: &str) {
        run(&mut self.stores.get_mut(store).unwrap().connection, sql).await;
    }

    async fn mend(&mut self, store: &str) {
        let store = self.stores.get_mut(store).unwrap();
        run(&mut store.connection, &store.mend).await;
    }

    /// Stops the database in good order, so that it leaves nothing in the kernel; everything else ends with its supervisor.
    async fn end(self, world: &World) {
        let database = world.pid("postgres-1").unwrap();
        signal(database, Signal::SIGINT);
        eventually("the database has stopped", || async { (!runs(database)).then_some(()) }).await;
        kill(world.system.state().supervisor_pid);
    }

    async fn audit(&self) -> AuditReport {
        audit_databases(&self.server, &self.prefix, &self.bus, None).await
    }
}

impl Spoilable {
    /// Keeps a copy of each table, and how each index that is no table's key was made.
    async fn of(url: &str) -> Self {
        let mut connection = PgConnection::connect(url).await.unwrap();
        let tables: Vec<String> =
            sqlx::query_scalar("SELECT tablename::text FROM pg_tables WHERE schemaname = 'public'")
                .fetch_all(&mut connection)
                .await
                .unwrap();
        let indexes: Vec<String> = sqlx::query_scalar(
            "SELECT indexdef FROM pg_indexes i WHERE schemaname = 'public' \
             AND NOT EXISTS (SELECT 1 FROM pg_constraint WHERE conname = i.indexname)",
        )
        .fetch_all(&mut connection)
        .await
        .unwrap();
        let keep = tables.iter().map(|table| format!("CREATE TABLE kept.{table} AS TABLE {table};"));
        run(&mut connection, &format!("CREATE SCHEMA kept; {}", keep.collect::<String>())).await;
        let rows = tables.iter().map(|table| {
            format!("DELETE FROM {table}; INSERT INTO {table} OVERRIDING SYSTEM VALUE SELECT * FROM kept.{table};")
        });
        let indexes = indexes.iter().map(|made| made.replace(" INDEX ", " INDEX IF NOT EXISTS ") + ";");
        Self { connection, mend: rows.chain(indexes).collect() }
    }
}

async fn run(connection: &mut PgConnection, sql: &str) {
    let done = sqlx::raw_sql(sqlx::AssertSqlSafe(sql.to_owned())).execute(connection).await;
    done.unwrap_or_else(|error| panic!("{sql}: {error}"));
}
