//! Both sides of a migration in the audit: which stores hold the master rows, and I23: the sides agree as far as their
//! phase says.

use std::collections::{BTreeMap, BTreeSet};

use sqlx::{Connection, Row};

use super::Finding;
use super::reading::each;
use crate::ids::SHARDS_PER_GROUP;
use crate::migration::course::Course;
use crate::migration::{Phase, Side};
use crate::roles::mig;
use crate::store::copying::Position;
use crate::store::{Places, migration_tables as tables};

/// A row of either side.
#[derive(Debug, Clone, Copy)]
struct SideRow {
    position: Position,
    created_at_ms: i64,
    updated_at_ms: i64,
    /// (status, version, total).
    facts: (i64, i64, i64),
}

/// Both sides, and how far the migration has come.
pub(crate) struct Sides {
    course: Course,
    /// By order.
    old: BTreeMap<i64, SideRow>,
    new: BTreeMap<i64, SideRow>,
    /// Orders that the side which decides has yet to hand over.
    logged: BTreeSet<i64>,
}

/// How far the migration of these stores has come; `None` where there never was an old table.
pub(super) async fn course(stores: &Places) -> Result<Option<Course>, sqlx::Error> {
    if !stores.has(mig::STORE).await? {
        return Ok(None);
    }
    let mut file = stores.of(mig::STORE).reader().await?;
    let kept = tables::read(&mut file, mig::COURSE).await.map_err(|error| sqlx::Error::Decode(error.into()))?;
    file.close().await?;
    // Until somebody asks for more, nothing is kept.
    let Some(kept) = kept else { return Ok(Some(Course::at_start(0))) };
    serde_json::from_str(&kept).map(Some).map_err(|error| sqlx::Error::Decode(error.into()))
}

/// The stores that decide about orders, each with the shards that it holds.
pub(super) async fn masters(stores: &Places) -> Result<Vec<&'static str>, sqlx::Error> {
    let side = course(stores).await?.map_or(Side::New, |course| course.decider());
    Ok(side.stores().to_vec())
}

/// The group of a row: an old order table holds both.
pub(super) fn group_in(store: &str, shard: i64) -> u16 {
    match Side::of(store) {
        Side::Old => u16::from(shard >= i64::from(SHARDS_PER_GROUP)),
        Side::New => u16::from(store.ends_with('1')),
    }
}

/// How many changes wait to be handed over, and steps between two phases.
pub(super) async fn under_way(stores: &Places) -> Result<i64, sqlx::Error> {
    let Some(course) = course(stores).await? else { return Ok(0) };
    let mut all = i64::from(course.step.is_some());
    for store in course.decider().stores() {
        let mut file = stores.of(store).reader().await?;
        let (waiting, _) = tables::depth(&mut file).await.map_err(|error| sqlx::Error::Decode(error.into()))?;
        file.close().await?;
        all += waiting;
    }
    Ok(all)
}

pub(super) async fn read(stores: &Places) -> Result<Option<Sides>, sqlx::Error> {
    // Before the rows: what is behind its mark was copied before.
    let Some(course) = course(stores).await? else { return Ok(None) };
    let mut logged = BTreeSet::new();
    for store in course.decider().stores() {
        let mut file = stores.of(store).reader().await?;
        let orders: Vec<i64> = sqlx::query_scalar("SELECT order_id FROM failure_log").fetch_all(&mut file).await?;
        logged.extend(orders);
        file.close().await?;
    }
    let (old, new) = (read_side(stores, Side::Old).await?, read_side(stores, Side::New).await?);
    Ok(Some(Sides { course, old, new, logged }))
}

async fn read_side(stores: &Places, side: Side) -> Result<BTreeMap<i64, SideRow>, sqlx::Error> {
    let mut all = BTreeMap::new();
    for store in side.stores() {
        let mut file = stores.of(store).reader().await?;
        let rows =
            sqlx::query("SELECT order_id, shard, created_at_ms, updated_at_ms, status, version, total_fen FROM orders");
        each(rows, &mut file, |row| {
            let order_id = row.try_get(0)?;
            let read = SideRow {
                position: Position { shard: row.try_get(1)?, order_id },
                created_at_ms: row.try_get(2)?,
                updated_at_ms: row.try_get(3)?,
                facts: (row.try_get(4)?, row.try_get(5)?, row.try_get(6)?),
            };
            all.insert(order_id, read);
            Ok(())
        })
        .await?;
        file.close().await?;
    }
    Ok(all)
}

/// I23. `moving_since_ms`: what changed since is on its way, because the system is not at rest.
pub(super) fn parity(finding: &mut Finding, sides: &Sides, moving_since_ms: Option<i64>) {
    let Sides { course, old, new, logged } = sides;
    let moves = |row: &SideRow| moving_since_ms.is_some_and(|since| row.updated_at_ms >= since);
    let orders: BTreeSet<i64> = old.keys().chain(new.keys()).copied().collect();
    for order_id in orders {
        let (there, copy) = (old.get(&order_id), new.get(&order_id));
        if logged.contains(&order_id) || there.is_some_and(moves) || copy.is_some_and(moves) {
            continue;
        }
        let Some(flaw) = flaw(course, there, copy) else {
            finding.checked += 1;
            continue;
        };
        finding.checked += 1;
        finding.violate(|| {
            format!(
                "order {order_id} in {}: {flaw}: old {}, new {} (status, version, total)",
                course.phase,
                told(there),
                told(copy)
            )
        });
    }
}

fn told(row: Option<&SideRow>) -> String {
    row.map_or_else(|| "has none".to_owned(), |row| format!("{:?}", row.facts))
}

/// What is wrong with one order.
fn flaw(course: &Course, old: Option<&SideRow>, new: Option<&SideRow>) -> Option<&'static str> {
    match (course.phase, old, new) {
        // The new side is not written yet, or was left behind when the way led back.
        (Phase::P0, ..) | (_, None, None) => None,
        // An older order is copied when its turn comes, and written to both sides when it changes before.
        (Phase::P1 | Phase::P2, Some(old), new) => {
            let due = course.backfill.is_some_and(|progress| {
                old.created_at_ms > progress.created_until_ms || progress.done || old.position <= progress.after
            });
            match new {
                _ if !due => None,
                None => Some("missing"),
                Some(new) => (old.facts != new.facts).then_some("different"),
            }
        }
        (Phase::P3 | Phase::P4, Some(old), Some(new)) => (old.facts != new.facts).then_some("different"),
        (Phase::P1 | Phase::P2 | Phase::P3 | Phase::P4, ..) => Some("missing"),
        (Phase::P5 | Phase::P6, Some(_), None) => Some("lost"),
        (Phase::P5 | Phase::P6, Some(old), Some(new)) => (new.facts.1 < old.facts.1).then_some("gone back"),
        // What came after the old side was written for the last time.
        (Phase::P5 | Phase::P6, None, Some(_)) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::migration::backfill::Progress;

    fn row(version: i64, created_at_ms: i64) -> SideRow {
        let position = Position { shard: 5, order_id: 1 };
        SideRow { position, created_at_ms, updated_at_ms: 0, facts: (0, version, 100) }
    }

    fn course(phase: Phase, after: Position) -> Course {
        let progress = Progress { after, ..Progress::at_start(1_000, 1) };
        Course { phase, backfill: Some(progress), ..Course::at_start(0) }
    }

    #[test]
    fn each_phase_promises_more() {
        let (old, newer, ahead) = (row(2, 500), row(2, 2_000), row(3, 500));
        let of = |phase, after, old: Option<&SideRow>, new: Option<&SideRow>| flaw(&course(phase, after), old, new);
        let (start, end) = (Position::START, Position::END);
        assert_eq!(of(Phase::P0, start, Some(&old), None), None);
        assert_eq!(of(Phase::P1, start, Some(&old), None), None, "its turn has not come");
        assert_eq!(of(Phase::P1, start, Some(&newer), None), Some("missing"), "it was written to both sides");
        assert_eq!(of(Phase::P1, start, Some(&newer), Some(&ahead)), Some("different"));
        assert_eq!(of(Phase::P2, end, Some(&old), None), Some("missing"));
        assert_eq!(of(Phase::P3, end, Some(&old), None), Some("missing"));
        assert_eq!(of(Phase::P3, end, Some(&old), Some(&ahead)), Some("different"));
        assert_eq!(of(Phase::P4, end, None, Some(&old)), Some("missing"));
        assert_eq!(of(Phase::P5, end, None, Some(&old)), None);
        assert_eq!(of(Phase::P5, end, Some(&old), Some(&ahead)), None, "the old side is written no more");
        assert_eq!(of(Phase::P5, end, Some(&ahead), Some(&old)), Some("gone back"));
        assert_eq!(of(Phase::P5, end, Some(&old), None), Some("lost"));
    }
}
