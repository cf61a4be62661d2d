//! What is summed up while a run goes is what its stored frames come to, however late frames and reports are.

use kennel_model::Phase;
use kennel_model::fault::FaultState;
use proptest::prelude::*;
use tempfile::TempDir;
use tokio::runtime::Runtime;

use super::*;
use crate::judge::tests::{FAULT, Load, fault_steps, frame, loads, step, valid};
use crate::runs::account::Account;

const OBJECTIVES: &str = "
objectives: ['p99 < 400ms', 'p90(buy) < 300ms during fault', 'error_rate < 60% during slow', 'rate > 3/s']
steady_state: ['p90 < 300ms', 'error_rate(look) < 50%']
guards: ['p90(buy) < 100s over 7s', 'rate > 0/s']
";

/// A logbook of a run whose load has started, its store, and the directory to keep.
async fn started() -> (Logbook, Store, TempDir) {
    let dir = TempDir::new().unwrap();
    let store = Store::open(&dir.path().join("kennel.db")).await.unwrap();
    let experiment = Arc::new(valid(&format!("{OBJECTIVES}{FAULT}")));
    let summary = store.insert_run(RunId::new(), &experiment).await.unwrap();
    let account = OpenAccount::new(Account::new(experiment, summary));
    let mut logbook = Logbook::new(store.clone(), broadcast::channel(16).0, account);
    logbook.enter(RunState::Preparing).await.unwrap();
    logbook.start().await.unwrap();
    (logbook, store, dir)
}

/// Something that an agent sends.
#[derive(Debug, Clone)]
enum Sent {
    Frame(Load),
    Step(FaultStep),
}

impl Sent {
    /// When it is sent: frames at the end of their second.
    fn at_ms(&self) -> u64 {
        match self {
            Self::Frame(load) => u64::from(load.second) * 1_000 + 1_000,
            Self::Step(step) => step.at_ms,
        }
    }
}

async fn take(logbook: &mut Logbook, sent: &Sent) {
    match sent {
        Sent::Frame(load) => drop(logbook.frame(frame(logbook.run(), load)).await.unwrap()),
        Sent::Step(FaultStep { fault, state, at_ms, detail }) => {
            let (fault, detail) = (fault.clone(), detail.clone());
            let report = FaultReport { run: logbook.run(), fault, state: *state, at_ms: *at_ms, detail };
            logbook.fault(report).await.unwrap();
        }
    }
}

/// What an agent sends, most of it nearly at once, some of it long after.
fn sent() -> impl Strategy<Value = Vec<Sent>> {
    let late = prop_oneof![4 => 0_u64..900, 1 => 900_u64..20_000];
    (loads(), fault_steps(), prop::collection::vec(late, 40)).prop_map(|(loads, steps, late)| {
        let sent = loads.into_iter().map(Sent::Frame).chain(steps.into_iter().map(Sent::Step));
        let mut sent: Vec<(u64, Sent)> = sent.zip(late).map(|(sent, late)| (sent.at_ms() + late, sent)).collect();
        sent.sort_by_key(|(heard_ms, _)| *heard_ms);
        sent.into_iter().map(|(_, sent)| sent).collect()
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(16))]

    #[test]
    fn a_live_run_reads_as_its_stored_frames_come_to(sent in sent(), look in 0_usize..30) {
        Runtime::new().unwrap().block_on(async {
            let (mut logbook, store, _dir) = started().await;
            let (run, open) = (logbook.run(), logbook.account.clone());
            for (at, sent) in sent.iter().enumerate() {
                take(&mut logbook, sent).await;
                if at == look {
                    same(&open.copy(), &store, run).await?;
                }
            }
            same(&open.copy(), &store, run).await?;
            logbook.finish(Ending::Completed).await.unwrap();
            let stored = reading::account(&store, run).await.unwrap().unwrap();
            let detail = stored.detail(stored.assess().unwrap());
            prop_assert_eq!(store.judged_detail(run).await.unwrap(), Some(detail));
            let series = store.judged_series(run).await.unwrap();
            prop_assert_eq!(series.as_ref(), Some(stored.recording.series()));
            store.close().await;
            Ok(())
        })?;
    }
}

/// Whether an account says what the store's frames come to.
async fn same(open: &Account, store: &Store, run: RunId) -> Result<(), TestCaseError> {
    let stored = reading::account(store, run).await.unwrap().unwrap();
    prop_assert_eq!(&open.timeline, &stored.timeline);
    prop_assert_eq!(open.recording.series(), stored.recording.series());
    prop_assert_eq!(open.assess().unwrap(), stored.assess().unwrap());
    prop_assert_eq!(&open.summary, &stored.summary);
    Ok(())
}

#[tokio::test]
async fn a_fault_reported_long_after_its_seconds_moves_them_to_its_phase() {
    let (mut logbook, store, _dir) = started().await;
    let load = |second| Load { second, request: "buy", count: 10, failed: 0, ms: 20 };
    for second in 0..15 {
        take(&mut logbook, &Sent::Frame(load(second))).await;
    }
    let count = |logbook: &Logbook, phase| {
        let rows = logbook.account.copy().assess().unwrap().requests;
        rows.iter().find(|row| row.request == "buy" && row.phase == phase).map(|row| row.count)
    };
    assert_eq!((count(&logbook, Some(Phase::Steady)), count(&logbook, None)), (Some(130), Some(130)));
    take(&mut logbook, &Sent::Step(step(FaultState::Active, 4_200))).await;
    assert_eq!(count(&logbook, Some(Phase::Fault)), Some(110));
    take(&mut logbook, &Sent::Step(step(FaultState::Reverted, 6_000))).await;
    let phases = [Phase::Steady, Phase::Fault, Phase::Recovery];
    assert_eq!(phases.map(|phase| count(&logbook, Some(phase))), [Some(20), Some(20), Some(90)]);
    store.close().await;
}

#[tokio::test]
async fn a_run_that_was_shown_is_shown_anew_after_every_write() {
    let (mut logbook, store, _dir) = started().await;
    let open = logbook.account.clone();
    for second in 0..6 {
        take(&mut logbook, &Sent::Frame(Load { second, request: "buy", count: 10, failed: 0, ms: 20 })).await;
        for _ in 0..2 {
            let shown = open.detail().await.unwrap();
            let account = open.copy();
            assert_eq!(shown, account.detail(account.assess().unwrap()));
            assert_eq!(shown.summary.measured_s, second + 1);
        }
    }
    store.close().await;
}

#[tokio::test]
async fn a_judgement_that_cannot_be_read_is_made_again() {
    let (mut logbook, store, _dir) = started().await;
    for second in 0..20 {
        take(&mut logbook, &Sent::Frame(Load { second, request: "buy", count: 10, failed: 1, ms: 20 })).await;
    }
    let run = logbook.run();
    logbook.finish(Ending::Completed).await.unwrap();
    let judged = reading::detail(&store, run).await.unwrap().unwrap();
    let series = reading::series(&store, run).await.unwrap().unwrap();
    store.spoil_judgement(run).await;
    assert_eq!(reading::detail(&store, run).await.unwrap().unwrap(), judged);
    // That kept it anew.
    assert_eq!(store.judged_detail(run).await.unwrap(), Some(judged));
    assert_eq!(store.judged_series(run).await.unwrap(), Some(series));
    store.close().await;
}
