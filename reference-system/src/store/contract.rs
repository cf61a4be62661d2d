//! What holds for every store, on a file and in PostgreSQL: each test runs on both.

use std::collections::HashSet;

use sqlx::Connection;
use tokio_util::task::TaskTracker;

use super::sequence::{BlockClaim, BlockGrant, claim, sequence_tables};
use super::{Place, Places, Store, StoreError};
use crate::ids::MAX_EPOCH;
use crate::servers::PostgresOfATest;

/// A test for each promise on files, and one of all promises on a server: each has databases of its own there.
macro_rules! on_both_tiers {
    ($($name:ident)*) => {
        mod on_files {
            $(
                #[tokio::test]
                async fn $name() {
                    let dir = tempfile::tempdir().unwrap();
                    super::$name(&super::Places::Files(dir.path().to_owned())).await;
                }
            )*
        }

        #[tokio::test]
        async fn all_of_it_on_postgresql() {
            let server = PostgresOfATest::start().await;
            for (nth, name) in (0..).zip([$(stringify!($name)),*]) {
                eprintln!("{nth}: {name}");
                let stores = server.stores(&format!("promise_{nth}"));
                match name {
                    $(stringify!($name) => $name(&stores).await,)*
                    _ => unreachable!(),
                }
            }
        }
    };
}

on_both_tiers! {
    concurrent_writes_are_all_answered_and_survive_reopening
    a_failed_write_leaves_no_trace_and_the_next_one_works
    what_a_write_has_looked_at_is_still_so_when_it_writes_whoever_else_writes
    several_may_open_a_store_at_the_same_moment
    a_reader_sees_one_moment_and_changes_nothing
    rows_are_numbered_in_order_and_no_number_comes_again
    a_store_is_there_once_it_was_opened
    no_block_is_given_twice_however_the_counter_goes_back
}

const SCHEMA: &str = "CREATE TABLE IF NOT EXISTS n (v BIGINT PRIMARY KEY) WITHOUT ROWID";

async fn open(place: &Place, schema: &str) -> Store {
    Store::open(place, schema, &TaskTracker::new()).await.unwrap()
}

async fn insert(store: &Store, v: i64) -> Result<i64, StoreError> {
    store
        .write(move |connection| {
            Box::pin(async move {
                sqlx::query("INSERT INTO n VALUES ($1)").bind(v).execute(connection).await?;
                Ok(v)
            })
        })
        .await
}

async fn count(store: &Store) -> i64 {
    sqlx::query_scalar("SELECT count(*) FROM n").fetch_one(store.readers()).await.unwrap()
}

async fn concurrent_writes_are_all_answered_and_survive_reopening(stores: &Places) {
    let (place, tracker) = (stores.of("n"), TaskTracker::new());
    let store = Store::open(&place, SCHEMA, &tracker).await.unwrap();
    let answers = futures::future::join_all((0..200).map(|v| insert(&store, v))).await;
    assert!(answers.iter().all(Result::is_ok));
    drop(store);
    tracker.close();
    tracker.wait().await;
    assert_eq!(count(&open(&place, SCHEMA).await).await, 200);
}

async fn a_failed_write_leaves_no_trace_and_the_next_one_works(stores: &Places) {
    let store = open(&stores.of("n"), SCHEMA).await;
    insert(&store, 1).await.unwrap();
    let failed = store
        .write(|connection| {
            Box::pin(async move {
                sqlx::query("INSERT INTO n VALUES (2)").execute(&mut *connection).await?;
                sqlx::query("INSERT INTO n VALUES (1)").execute(connection).await?;
                Ok(())
            })
        })
        .await;
    assert!(matches!(failed, Err(StoreError::Sql(_))), "{failed:?}");
    assert_eq!(count(&store).await, 1, "what was written before the failure is gone with it");
    insert(&store, 3).await.unwrap();
    assert_eq!(count(&store).await, 2);
}

/// Counts one further than it finds.
async fn count_up(store: &Store) -> Result<(), StoreError> {
    store
        .write(|connection| {
            Box::pin(async move {
                let last: i64 =
                    sqlx::query_scalar("SELECT coalesce(max(v), 0) FROM n").fetch_one(&mut *connection).await?;
                tokio::task::yield_now().await;
                sqlx::query("INSERT INTO n VALUES ($1)").bind(last + 1).execute(connection).await?;
                Ok(())
            })
        })
        .await
}

async fn what_a_write_has_looked_at_is_still_so_when_it_writes_whoever_else_writes(stores: &Places) {
    // As two instances have it.
    let (one, other) = (open(&stores.of("n"), SCHEMA).await, open(&stores.of("n"), SCHEMA).await);
    let turns = |store: Store| async move {
        for _ in 0..40 {
            count_up(&store).await?;
        }
        Ok::<_, StoreError>(())
    };
    let (ones, others) = tokio::join!(turns(one.clone()), turns(other));
    ones.and(others).expect("nobody writes what another has written");
    assert_eq!(count(&one).await, 80);
}

async fn several_may_open_a_store_at_the_same_moment(stores: &Places) {
    let place = stores.of("n");
    let opened = futures::future::join_all((0..4).map(|_| open(&place, SCHEMA))).await;
    for (store, v) in opened.iter().zip(0..) {
        insert(store, v).await.unwrap();
    }
    assert_eq!(count(&opened[0]).await, 4, "it is one store");
}

async fn a_reader_sees_one_moment_and_changes_nothing(stores: &Places) {
    let place = stores.of("n");
    let store = open(&place, SCHEMA).await;
    insert(&store, 1).await.unwrap();
    let mut reader = place.reader().await.unwrap();
    let mut moment = reader.begin().await.unwrap();
    for written in [2, 3] {
        let seen: i64 = sqlx::query_scalar("SELECT count(*) FROM n").fetch_one(&mut *moment).await.unwrap();
        assert_eq!(seen, 1, "it sees what was written after it began");
        insert(&store, written).await.unwrap();
    }
    moment.rollback().await.unwrap();
    let seen: i64 = sqlx::query_scalar("SELECT count(*) FROM n").fetch_one(&mut reader).await.unwrap();
    assert_eq!(seen, 3);
    let refused = sqlx::query("DELETE FROM n").execute(&mut reader).await.unwrap_err().to_string();
    assert!(refused.contains("read-only") || refused.contains("readonly"), "{refused}");
    assert_eq!(count(&store).await, 3);
}

async fn rows_are_numbered_in_order_and_no_number_comes_again(stores: &Places) {
    const NUMBERED: &str = "CREATE TABLE IF NOT EXISTS n (nth IDENTITY, v BIGINT NOT NULL)";
    let store = open(&stores.of("n"), NUMBERED).await;
    let add = async || {
        let added = store.write(|connection| {
            Box::pin(async move {
                let nth: i64 =
                    sqlx::query_scalar("INSERT INTO n (v) VALUES (7) RETURNING nth").fetch_one(connection).await?;
                Ok(nth)
            })
        });
        added.await.unwrap()
    };
    let first = [add().await, add().await, add().await];
    assert_eq!(first, [1, 2, 3]);
    let removed = store.write(|connection| {
        Box::pin(async move {
            sqlx::query("DELETE FROM n WHERE nth = 3").execute(connection).await?;
            Ok(())
        })
    });
    removed.await.unwrap();
    assert!(add().await > 3);
}

async fn a_store_is_there_once_it_was_opened(stores: &Places) {
    assert!(!stores.has("n").await.unwrap());
    open(&stores.of("n"), SCHEMA).await;
    assert!(stores.has("n").await.unwrap());
    assert!(!stores.has("m").await.unwrap());
    let missing = stores.of("m").reader().await.map(drop);
    assert!(missing.is_err(), "who only reads makes no store");
}

async fn ask(store: &Store, life: &str, first: i64) -> BlockGrant {
    let asked = BlockClaim { life: life.to_owned(), first };
    store.write(move |c| Box::pin(async move { claim(c, &asked).await })).await.unwrap()
}

async fn no_block_is_given_twice_however_the_counter_goes_back(stores: &Places) {
    let store = open(&stores.of("n"), sequence_tables!()).await;
    let granted = |epoch| BlockGrant::Granted { epoch };
    assert_eq!(ask(&store, "a", 1).await, granted(2));
    // Two who ask at the same time may claim in any order.
    assert_eq!(ask(&store, "a", 2_001).await, granted(2));
    assert_eq!(ask(&store, "a", 1_001).await, granted(2));
    // It was started again with what it had saved; a claim of its earlier life may still come.
    assert_eq!(ask(&store, "b", 1_001).await, granted(3));
    assert_eq!(ask(&store, "a", 3_001).await, granted(2));
    // Its key was evicted.
    assert_eq!(ask(&store, "b", 1).await, granted(3));
    assert_eq!(ask(&store, "b", 1_001).await, granted(4));
    // Somebody set it.
    assert_eq!(ask(&store, "b", 1_500).await, BlockGrant::Behind { next: 2_001 });

    let mut seen = HashSet::new();
    for life in 0..300 {
        let life = format!("life-{life}");
        let mut first = 1;
        let epoch = loop {
            match ask(&store, &life, first).await {
                BlockGrant::Granted { epoch } => break epoch,
                BlockGrant::Behind { next } => first = next,
            }
        };
        assert!((2..=MAX_EPOCH).contains(&epoch));
        assert!(seen.insert((epoch, first)), "{life} got block {first} of epoch {epoch} again");
    }
}
