//! Locks on processes that die or stand still while they hold one: what each `lock.impl` makes of it, on both tiers.
#![allow(clippy::unwrap_used, reason = "tests whose bodies run on two tiers are functions")]

#[macro_use]
mod world;

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use nix::sys::signal::Signal::{SIGCONT, SIGSTOP};
use redis::aio::MultiplexedConnection;
use reference_system::Tier;
use reference_system::audit::{AuditReport, Verdict};
use serde_json::{Value, json};
use tokio::task::JoinHandle;
use world::{World, eventually, id_of, key, kill, signal, verdict_of};

on_both_tiers! {
    each_way_of_locking_shows_what_it_is_worth
}

/// Who takes locks.
const POOLS: &[&str] = &["eos-c", "eos-m"];

/// What a request may take where nobody has made timeouts longer for the sake of tests.
const REQUEST_MS: u64 = 1_200;
const TOO_BUSY: &str = "this machine is too busy to stop a process within half a second";

struct Subject {
    world: World,
    server: MultiplexedConnection,
    /// The process behind it.
    process: &'static str,
}

async fn each_way_of_locking_shows_what_it_is_worth(tier: Tier) {
    let world = World::on(tier).await;
    let process = if tier == Tier::Real { "redis-lock-1" } else { "kv-lock-1" };
    a_server_that_dies_costs_nobody_an_error(&world, process).await;
    let url = world.system.state().key_values["kv-lock"].clone();
    let server = redis::Client::open(url).unwrap().get_multiplexed_async_connection().await.unwrap();
    let mut subject = Subject { world, server, process };
    subject.every_pool_has_found_it_again().await;
    subject.a_lock_that_somebody_keeps_is_told().await;
    subject.a_server_that_hangs_stops_only_those_who_believe_locks().await;
    subject.world.switch("lock.section", "500ms", POOLS).await;
    subject.one_of_two_wins_with_a_lock_and_without().await;
    subject.the_lock_of_a_dead_holder_ends_or_stays().await;
    subject.a_late_holder_is_refused_by_its_fence().await;
    subject.a_late_holder_without_a_fence_writes_too().await;
    subject.world.system.stop().await.unwrap();
}

/// By default; while orders are being made and cancelled.
async fn a_server_that_dies_costs_nobody_an_error(world: &World, process: &str) {
    let mut baskets = Vec::new();
    for user in 370..402 {
        baskets.push(world.basket(user, 37, Some(user)).await);
    }
    let done = AtomicUsize::new(0);
    let done = &done;
    let shoppers = baskets.chunks(8).map(|part| async move {
        for basket in part {
            let id = id_of(&world.ok("/orders", basket.clone()).await);
            world.ok(&format!("/orders/{id}/cancel"), Value::Null).await;
            done.fetch_add(1, Ordering::Relaxed);
        }
    });
    let before = world.pid(process).unwrap();
    let killer = async {
        eventually("some are done", || async { (done.load(Ordering::Relaxed) >= 3).then_some(()) }).await;
        kill(before);
        done.load(Ordering::Relaxed)
    };
    let (_, at) = tokio::join!(futures::future::join_all(shoppers), killer);
    assert!(at < baskets.len(), "it died when all was over");
    eventually("it is back", || async {
        let url = world.system.state().key_values["kv-lock"].clone();
        let mut server = redis::Client::open(url).ok()?.get_multiplexed_async_connection().await.ok()?;
        let answers = redis::cmd("PING").query_async::<String>(&mut server).await.is_ok();
        (answers && world.pid(process).is_some_and(|pid| pid != before)).then_some(())
    })
    .await;
}

impl Subject {
    async fn locks(&self, value: &str) {
        self.world.switch("lock.impl", value, POOLS).await;
    }

    async fn ask<T: redis::FromRedisValue>(&mut self, words: &[&str]) -> T {
        redis::cmd(words[0]).arg(&words[1..]).query_async(&mut self.server).await.unwrap()
    }

    async fn holder(&mut self, lock: &str) -> Option<String> {
        self.ask(&["GET", lock]).await
    }

    /// All locks that are held.
    async fn left(&mut self) -> Vec<String> {
        let (_, locks): (String, _) = self.ask(&["SCAN", "0", "MATCH", "lock:*", "COUNT", "10000"]).await;
        locks
    }

    /// Waits until somebody has the lock.
    async fn held(&mut self, lock: &str) -> String {
        let deadline = Instant::now() + Duration::from_secs(20);
        loop {
            if let Some(holder) = self.holder(lock).await {
                return holder;
            }
            assert!(Instant::now() < deadline, "nobody takes {lock}");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    async fn ends(&mut self, lock: &str) {
        let deadline = Instant::now() + Duration::from_secs(20);
        while let Some(holder) = self.holder(lock).await {
            assert!(Instant::now() < deadline, "{holder} keeps {lock}");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// Posts to an instance itself, in the background.
    fn post(&self, instance: &str, path: &str, body: &Value) -> JoinHandle<Option<(u16, Value)>> {
        self.post_within(instance, path, body, 6_000)
    }

    fn post_within(
        &self,
        instance: &str,
        path: &str,
        body: &Value,
        deadline_ms: u64,
    ) -> JoinHandle<Option<(u16, Value)>> {
        let url = format!("http://{}{path}", self.world.address(instance));
        let request = self.world.http.post(url).header("x-req-id", key()).header("x-deadline-ms", deadline_ms);
        let request = request.body(body.to_string());
        tokio::spawn(async move {
            let response = request.send().await.ok()?;
            let status = response.status().as_u16();
            Some((status, serde_json::from_slice(&response.bytes().await.ok()?).unwrap_or(Value::Null)))
        })
    }

    fn pid(&self, instance: &str) -> u32 {
        self.world.pid(instance).unwrap()
    }

    /// An order that waits for its merchant.
    async fn waiting(&self, user: i64, restaurant: i64) -> String {
        let id = id_of(&self.world.create(user, restaurant, None).await);
        self.world.ok(&format!("/orders/{id}/pay"), Value::Null).await;
        self.world.status_is(&id, 0).await;
        id
    }

    /// A counter of both pools together.
    async fn counted(&self, name: &str, of: &str) -> u64 {
        let mut sum = 0;
        let state = self.world.system.state();
        for one in state.instances.iter().filter(|one| POOLS.contains(&one.service.as_str())) {
            let answer = self.world.http.get(format!("http://{}/metrics", one.address)).send().await.unwrap();
            let text = answer.text().await.unwrap();
            let line = format!("{name}{{instance=\"{}\",use=\"{of}\"}} ", one.instance);
            let told =
                text.lines().find_map(|told| told.strip_prefix(&line)).unwrap_or_else(|| panic!("{line}: {text}"));
            sum += told.parse::<u64>().unwrap();
        }
        sum
    }

    /// The first call on a connection to a server that has died since is lost.
    async fn every_pool_has_found_it_again(&self) {
        for one in self.world.system.state().instances.iter().filter(|one| POOLS.contains(&one.service.as_str())) {
            let path = if one.service == "eos-c" { "/orders/77/cancel" } else { "/restaurants/31/orders/77/accept" };
            eventually("a lock is taken", || async {
                let before = self.counted("lock_acquired_total", "order").await;
                let (status, answer) = self.post(&one.instance, path, &Value::Null).await.unwrap().expect("an answer");
                assert_eq!(status, 404, "there is no such order: {answer}");
                (self.counted("lock_acquired_total", "order").await > before).then_some(())
            })
            .await;
        }
    }

    async fn a_lock_that_somebody_keeps_is_told(&mut self) {
        let world = &self.world;
        let order = self.waiting(300, 31).await;
        let (tapped, coupon) = (world.basket(301, 31, None).await, world.basket(302, 31, Some(302)).await);
        let locks = [format!("lock:order:{order}"), "lock:submit:301".to_owned(), "lock:coupon:302".to_owned()];
        for lock in &locks {
            self.ask::<()>(&["SET", lock, "somebody", "PX", "60000"]).await;
        }
        let world = &self.world;
        let (cancel, accept) = (format!("/orders/{order}/cancel"), format!("/restaurants/31/orders/{order}/accept"));
        let answers = tokio::join!(
            world.post(&cancel, Value::Null),
            world.post(&accept, Value::Null),
            world.post("/orders", tapped.clone()),
            world.post("/orders", coupon.clone()),
        );
        for (status, answer) in [answers.0, answers.1, answers.2, answers.3] {
            assert_eq!((status, &answer["code"]), (409, &json!("locked")), "{answer}");
            assert!(answer["error"].as_str().unwrap().ends_with("try again in a moment"), "{answer}");
        }
        assert!(self.counted("lock_contended_total", "order").await >= 2);
        for lock in &locks {
            assert_eq!(self.holder(lock).await.as_deref(), Some("somebody"), "it is not theirs to release");
            self.ask::<()>(&["DEL", lock]).await;
        }
        let world = &self.world;
        world.ok(&accept, Value::Null).await;
        world.ok("/orders", tapped).await;
        world.ok("/orders", coupon).await;
        assert!(self.counted("lock_acquired_total", "coupon").await >= 1);
        let left = self.left().await;
        assert!(left.is_empty(), "{left:?}");
    }

    async fn a_server_that_hangs_stops_only_those_who_believe_locks(&mut self) {
        let orders = [self.waiting(310, 32).await, self.waiting(311, 32).await];
        let mut baskets = Vec::new();
        for user in 312..316 {
            baskets.push(self.world.basket(user, 32, Some(user)).await);
        }
        let hung = self.pid(self.process);
        signal(hung, SIGSTOP);
        let errors = self.counted("lock_errors_total", "order").await;
        for (value, order, basket) in [("token_fence", &orders[0], &baskets[0]), ("token", &orders[1], &baskets[1])] {
            self.locks(value).await;
            self.world.ok("/orders", basket.clone()).await;
            self.world.ok(&format!("/restaurants/32/orders/{order}/accept"), Value::Null).await;
        }
        assert!(self.counted("lock_errors_total", "order").await >= errors + 2);
        let report = self.world.audit().await;
        assert_eq!(verdict_of(&report, "I21"), Verdict::Unknown, "{report:#?}");
        for (value, basket) in [("setnx", &baskets[2]), ("setnx_ttl_blind", &baskets[3])] {
            self.locks(value).await;
            let (status, answer) = self.world.post("/orders", basket.clone()).await;
            assert_eq!((status, &answer["code"]), (503, &json!("lock_away")), "{answer}");
        }
        self.locks("token_fence").await;
        signal(hung, SIGCONT);
        // Whatever was asked meanwhile is done now, though nobody waits for it any more.
        eventually("it answers", || {
            let mut server = self.server.clone();
            async move { redis::cmd("PING").query_async::<String>(&mut server).await.ok() }
        })
        .await;
    }

    async fn one_of_two_wins_with_a_lock_and_without(&mut self) {
        for (value, user) in [("token_fence", 320), ("none", 321)] {
            self.locks(value).await;
            let order = self.waiting(user, 33).await;
            let before = (
                self.counted("lock_acquired_total", "order").await,
                self.counted("lock_contended_total", "order").await,
            );
            let (cancel, reject) =
                (format!("/orders/{order}/cancel"), format!("/restaurants/33/orders/{order}/reject"));
            let began = Instant::now();
            let (world, mut server) = (&self.world, self.server.clone());
            let (cancelled, rejected, seen) =
                tokio::join!(world.post(&cancel, Value::Null), world.post(&reject, Value::Null), async move {
                    // Less than a section lasts.
                    let mut seen = false;
                    for _ in 0..20 {
                        let lock = format!("lock:order:{order}");
                        seen |= redis::cmd("EXISTS").arg(lock).query_async::<bool>(&mut server).await.unwrap();
                        tokio::time::sleep(Duration::from_millis(20)).await;
                    }
                    seen
                });
            assert!(began.elapsed() >= Duration::from_millis(500), "the section is slow");
            let mut statuses = [cancelled.0, rejected.0];
            statuses.sort_unstable();
            assert_eq!(statuses, [200, 409], "{value}: {cancelled:?} {rejected:?}");
            let after = (
                self.counted("lock_acquired_total", "order").await,
                self.counted("lock_contended_total", "order").await,
            );
            let takings = if value == "none" { (0, 0) } else { (2, 1) };
            assert_eq!(
                (after.0 - before.0, after.1 - before.1, seen),
                (takings.0, takings.1, takings.0 > 0),
                "{value}"
            );
        }
    }

    /// Kills a consumer pool while it cancels an order, and gives the lock that it held.
    async fn killed_while_cancelling(&mut self, order: &str) -> String {
        let lock = format!("lock:order:{order}");
        let pid = self.pid("eos-c-1");
        let lost = self.post("eos-c-1", &format!("/orders/{order}/cancel"), &Value::Null);
        self.held(&lock).await;
        kill(pid);
        assert_eq!(lost.await.unwrap(), None, "nobody answers");
        let world = &self.world;
        eventually("it is back", || async {
            let ready = format!("http://{}/readyz", world.address("eos-c-1"));
            let back = world.pid("eos-c-1").is_some_and(|new| new != pid);
            world.http.get(ready).send().await.ok().filter(|answer| back && answer.status().is_success()).map(drop)
        })
        .await;
        lock
    }

    async fn the_lock_of_a_dead_holder_ends_or_stays(&mut self) {
        self.locks("token_fence").await;
        let order = self.waiting(330, 34).await;
        let lock = self.killed_while_cancelling(&order).await;
        self.ends(&lock).await;
        self.world.ok(&format!("/restaurants/34/orders/{order}/reject"), Value::Null).await;

        // What was asked of the server while it hung.
        for stale in self.left().await {
            self.ask::<()>(&["DEL", &stale]).await;
        }
        self.world.assert_valid().await;
        self.locks("setnx").await;
        let order = self.waiting(331, 34).await;
        let lock = self.killed_while_cancelling(&order).await;
        assert_eq!(self.ask::<i64>(&["PTTL", &lock]).await, -1, "it has no end");
        let reject = format!("/restaurants/34/orders/{order}/reject");
        let (status, answer) = self.world.post(&reject, Value::Null).await;
        assert_eq!((status, &answer["code"]), (409, &json!("locked")), "{answer}");
        let report = self.world.audit().await;
        assert_eq!(broken(&report), ["I21"], "{report:#?}");
        let finding = report.invariants.iter().find(|finding| finding.id == "I21").unwrap();
        assert!(finding.examples[0].starts_with(&format!("{lock} is held for ever by eos-c-1/")), "{finding:?}");
        // Until somebody removes it.
        self.ask::<()>(&["DEL", &lock]).await;
        self.world.ok(&reject, Value::Null).await;
        self.world.assert_valid().await;
    }

    /// Two orders of one user for one coupon: the first stands still under its lock until that has ended and a second
    /// holder has it, who stands still until the first has come to its end. Gives both answers, and whether the second
    /// had its lock for as long as it stood still.
    async fn overtaken(&mut self, users: std::ops::Range<i64>, soft: bool) -> ((u16, Value), (u16, Value), bool) {
        for user in users {
            let (one, two) =
                (self.world.basket(user, 35, Some(user)).await, self.world.basket(user, 36, Some(user)).await);
            let lock = format!("lock:coupon:{user}");
            let (first_pid, second_pid) = (self.pid("eos-c-1"), self.pid("eos-c-2"));
            let first = self.post_within("eos-c-1", "/orders", &one, REQUEST_MS);
            let holder = self.held(&lock).await;
            signal(first_pid, SIGSTOP);
            if !is_in_section(&holder) {
                signal(first_pid, SIGCONT);
                first.await.unwrap();
                continue;
            }
            self.ends(&lock).await;
            let second = self.post("eos-c-2", "/orders", &two);
            let holder = self.held(&lock).await;
            let since = Instant::now();
            signal(second_pid, SIGSTOP);
            let still = is_in_section(&holder);
            signal(first_pid, SIGCONT);
            let first = first.await.unwrap().expect("an answer");
            // Its last act is the release.
            let kept = self.holder(&lock).await.as_deref() == Some(&holder);
            let in_time = since.elapsed() < Duration::from_millis(1_500);
            signal(second_pid, SIGCONT);
            let second = second.await.unwrap().expect("an answer");
            // Who was stopped before he had looked at the coupon tells of that call instead, or sees what the other did.
            let first_looked = first.1["error"] != "eps did not answer in time" || !soft;
            let second_looked = second.1["code"] != "coupon_taken";
            if still && in_time && first_looked && second_looked {
                return (first, second, kept);
            }
        }
        panic!("{TOO_BUSY}");
    }

    /// A coupon, a submission and an order, each of which somebody else has worked on when a paused pool goes on.
    async fn a_late_holder_is_refused_by_its_fence(&mut self) {
        self.locks("token_fence").await;
        for user in [340, 342, 344] {
            let other = user + 1;
            let order = self.waiting(user, 35).await;
            let world = &self.world;
            let baskets = [
                world.basket(user, 35, Some(user)).await,
                world.basket(user, 36, Some(user)).await,
                world.basket(other, 35, None).await,
                world.basket(other, 36, None).await,
            ];
            let locks = [format!("lock:coupon:{user}"), format!("lock:submit:{other}"), format!("lock:order:{order}")];
            let lost = self.counted("lock_lost_total", "order").await;
            let pid = self.pid("eos-c-1");
            let late = [
                self.post("eos-c-1", "/orders", &baskets[0]),
                self.post("eos-c-1", "/orders", &baskets[2]),
                self.post("eos-c-1", &format!("/orders/{order}/cancel"), &Value::Null),
            ];
            let mut holders = Vec::new();
            for lock in &locks {
                holders.push(self.held(lock).await);
            }
            signal(pid, SIGSTOP);
            let still = holders.iter().all(|holder| is_in_section(holder));
            if still {
                for lock in &locks {
                    self.ends(lock).await;
                }
                let accept = format!("/restaurants/35/orders/{order}/accept");
                let (one, two) =
                    (self.post("eos-c-2", "/orders", &baskets[1]), self.post("eos-c-2", "/orders", &baskets[3]));
                self.world.ok(&accept, Value::Null).await;
                for second in [one, two] {
                    let (status, answer) = second.await.unwrap().expect("an answer");
                    assert_eq!(status, 200, "{answer}");
                }
            }
            signal(pid, SIGCONT);
            for late in late {
                let (status, answer) = late.await.unwrap().expect("an answer");
                assert!(!still || (status, &answer["code"]) == (409, &json!("fenced")), "{status} {answer}");
            }
            if still {
                assert!(self.counted("lock_lost_total", "order").await > lost);
                return;
            }
        }
        panic!("{TOO_BUSY}");
    }

    async fn a_late_holder_without_a_fence_writes_too(&mut self) {
        // A request that is cut off when its time is over never comes late: its lock lives longer.
        self.locks("token").await;
        let (late, second, _) = self.overtaken(346..349, false).await;
        assert_eq!((late.0, second.0), (504, 200), "{late:?} {second:?}");
        self.world.assert_valid().await;
        self.world.switch("rpc.timeout", "soft", POOLS).await;
        let mut before = 0;
        for (value, users, keeps) in [("token", 350..356, true), ("setnx_ttl_blind", 360..366, false)] {
            self.locks(value).await;
            let (late, second, kept) = self.overtaken(users, true).await;
            assert_eq!((late.0, second.0), (200, 200), "{value}: {late:?} {second:?}");
            assert_ne!(late.1["order_id"], second.1["order_id"]);
            assert_eq!(kept, keeps, "{value}: whether the late one released the other's lock");
            let report = self.world.audit().await;
            assert_eq!(broken(&report), ["I13", "I21"], "{report:#?}");
            let finding = report.invariants.iter().find(|finding| finding.id == "I21").unwrap();
            assert!(finding.examples.iter().any(|example| example.contains("held coupon:")), "{finding:?}");
            assert!(finding.violations > before, "{value}");
            before = finding.violations;
        }
    }
}

/// Whether a holder can have written nothing yet. Otherwise this test was not scheduled for too long.
fn is_in_section(token: &str) -> bool {
    let at_ms: u128 = token.split('/').nth(2).unwrap().parse().unwrap();
    let now_ms = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_millis();
    now_ms < at_ms + 450
}

fn broken(report: &AuditReport) -> Vec<&str> {
    let invalid = report.invariants.iter().filter(|finding| finding.verdict == Verdict::Invalid);
    invalid.map(|finding| finding.id.as_str()).collect()
}
