//! The queue's promises: one holder per target, the order people asked for, and no lock that outlives its holder.

use std::time::Duration;

use jiff::SignedDuration;
use proptest::prelude::*;
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::*;

const DEADLINE: Duration = Duration::from_secs(20);

fn queue() -> Arc<Queue> {
    Arc::new(Queue::new(Happenings::default(), BTreeMap::new()))
}

fn job(name: &str, targets: &[&str]) -> Job {
    let targets = targets.iter().map(|target| (*target).to_owned()).collect();
    Job::new(RunId::new(), QueueKind::Experiment, name.to_owned(), targets)
}

/// Waits for its turn in the background; tells its name when it has it and lets go at once.
fn join(waiters: &mut JoinSet<String>, queue: &Arc<Queue>, job: Job) {
    let (queue, name) = (Arc::clone(queue), job.name.clone());
    waiters.spawn(async move {
        drop(queue.turn(job).await);
        name
    });
}

async fn until_waiting(queue: &Queue, count: usize) {
    let mut changed = queue.changed.subscribe();
    let enough = async {
        while queue.state().waiting.len() != count {
            tokio::select! {
                _ = changed.changed() => {}
                () = tokio::time::sleep(Duration::from_millis(5)) => {}
            }
        }
    };
    timeout(DEADLINE, enough).await.expect("not as many wait");
}

fn names(queue: &Queue) -> Vec<String> {
    queue.view(Timestamp::now(), |_| None).waiting.into_iter().map(|entry| entry.name).collect()
}

#[tokio::test]
async fn a_lock_does_not_outlive_a_holder_that_panics() {
    let queue = queue();
    let holder = tokio::spawn({
        let queue = Arc::clone(&queue);
        async move {
            let _turn = queue.turn(job("doomed", &["shop"])).await;
            panic!("the holder fails");
        }
    });
    assert!(holder.await.unwrap_err().is_panic());
    timeout(DEADLINE, queue.turn(job("next", &["shop"]))).await.expect("the target stays locked");
}

#[tokio::test]
async fn a_job_that_gives_up_leaves_the_queue() {
    let queue = queue();
    let held = queue.turn(job("first", &["shop"])).await;
    let impatient = timeout(Duration::from_millis(20), queue.turn(job("impatient", &["shop"]))).await;
    assert!(impatient.is_err());
    assert!(names(&queue).is_empty());
    drop(held);
}

#[tokio::test]
async fn higher_priority_goes_first_and_the_front_goes_before_all() {
    let queue = queue();
    let held = queue.turn(job("holder", &["shop"])).await;
    let mut waiters = JoinSet::new();
    let (a, b, c) = (job("a", &["shop"]), Job { priority: 5, ..job("b", &["shop"]) }, job("c", &["shop"]));
    let last = c.id;
    for (at, job) in [a, b, c].into_iter().enumerate() {
        join(&mut waiters, &queue, job);
        until_waiting(&queue, at + 1).await;
    }
    assert_eq!(names(&queue), ["b", "a", "c"]);
    assert_eq!(queue.move_to_front(last), Some(1));
    assert_eq!(names(&queue), ["c", "b", "a"]);
    assert_eq!(queue.move_to_front(RunId::new()), None, "only what waits can be moved");
    drop(held);
    let mut order = Vec::new();
    while let Some(name) = timeout(DEADLINE, waiters.join_next()).await.expect("somebody waits for ever") {
        order.push(name.unwrap());
    }
    // They let go at once, so the order in which they finish is that in which they went.
    assert_eq!(order.first().map(String::as_str), Some("c"), "{order:?}");
}

#[tokio::test]
async fn the_order_is_the_same_whatever_the_order_of_coming_back() {
    let (first, second, third) = (job("first", &["shop"]), job("second", &["shop"]), job("third", &["shop"]));
    let queue = Arc::new(Queue::new(Happenings::default(), BTreeMap::from([(third.id, 1)])));
    let _held = queue.turn(job("holder", &["shop"])).await;
    let mut waiters = JoinSet::new();
    for job in [second, third, first] {
        join(&mut waiters, &queue, job);
    }
    until_waiting(&queue, 3).await;
    assert_eq!(names(&queue), ["third", "first", "second"]);
}

#[tokio::test]
async fn whoever_waits_is_told_why_and_until_when() {
    let queue = queue();
    let minutes = |count: u64| Some(Duration::from_secs(60 * count));
    let held = queue.turn(Job { expected: minutes(10), ..job("nightly", &["shop"]) }).await;
    let mut waiters = JoinSet::new();
    for (at, name) in ["b", "c"].into_iter().enumerate() {
        join(&mut waiters, &queue, Job { expected: minutes(5), ..job(name, &["shop"]) });
        until_waiting(&queue, at + 1).await;
    }
    join(&mut waiters, &queue, job("wide", &["shop", "bank"]));
    until_waiting(&queue, 3).await;
    let now = queue.state().seated.values().next().unwrap().since + SignedDuration::from_mins(3);
    let view = queue.view(now, |_| None);
    let reasons: Vec<&str> = view.waiting.iter().map(|entry| entry.reason.as_str()).collect();
    let short = queue.state().seated.keys().next().unwrap().short();
    let used = format!("target `shop` is used by experiment `nightly`, run {short} (since 3 min)");
    assert_eq!(reasons, [used.clone(), format!("{used}; 1 ahead of it"), format!("{used}; 2 ahead of it")]);
    let starts: Vec<i64> = view
        .waiting
        .iter()
        .map(|entry| {
            entry.expected_start_at.as_ref().unwrap().parse::<Timestamp>().unwrap().duration_since(now).as_secs()
        })
        .collect();
    assert_eq!(starts, [420, 720, 1020]);
    assert_eq!(view.waiting.iter().map(|entry| entry.position).collect::<Vec<_>>(), [1, 2, 3]);
    assert_eq!(view.running[0].expected_left_s, Some(420.0));
    drop(held);
}

#[tokio::test]
async fn a_run_that_lacks_an_agent_stays_on_the_list_with_the_reason() {
    let queue = queue();
    let turn = queue.turn(job("lonely", &["shop"])).await;
    turn.awaits_agent(true);
    let view = queue.view(Timestamp::now(), |job| Some(format!("no agent takes {}", job.name)));
    assert_eq!(view.waiting[0].reason, "no agent takes lonely");
    assert!(view.running.is_empty());
    turn.awaits_agent(false);
    let view = queue.view(Timestamp::now(), |_| None);
    assert!(view.waiting.is_empty() && view.running.len() == 1);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn no_target_has_two_holders_and_everybody_gets_a_turn(
        wants in prop::collection::vec((prop::collection::btree_set(0_u8..4, 0..4), -2_i32..3, any::<bool>()), 1..24)
    ) {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        runtime.block_on(async {
            let queue = queue();
            let in_use: Arc<Mutex<BTreeSet<u8>>> = Arc::default();
            let mut tasks = JoinSet::new();
            for (targets, priority, moved) in wants {
                let names = targets.iter().map(|target| format!("t{target}")).collect();
                let wanted = Job { targets: names, priority, ..job("j", &[]) };
                let (queue, in_use) = (Arc::clone(&queue), Arc::clone(&in_use));
                tasks.spawn(async move {
                    let id = wanted.id;
                    let turn = queue.turn(wanted).await;
                    if moved {
                        let other = queue.state().waiting.last().map(|job| job.id);
                        other.and_then(|other| queue.move_to_front(other));
                    }
                    for target in &targets {
                        assert!(in_use.lock().unwrap().insert(*target), "{id}: t{target} has two holders");
                    }
                    tokio::task::yield_now().await;
                    for target in &targets {
                        in_use.lock().unwrap().remove(target);
                    }
                    drop(turn);
                });
            }
            while let Some(ended) = timeout(DEADLINE, tasks.join_next()).await.expect("somebody waits for ever") {
                ended.unwrap();
            }
        });
    }
}
