//! Caches of orders: what each design costs and gives, that nobody reads what is older than what he knows, that a cache
//! which is away costs nobody an error, and that the audit tells one that lies.
#![allow(clippy::unwrap_used, reason = "tests whose bodies run on two tiers are functions")]

#[macro_use]
mod world;

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::SystemTime;

use nix::sys::signal::Signal::{SIGCONT, SIGSTOP};
use redis::aio::MultiplexedConnection;
use reference_system::Tier;
use reference_system::audit::Verdict;
use reference_system::ids::{OrderId, Slots};
use serde_json::{Value, json};
use world::{World, eventually, id_of, kill, runs, set, signal, verdict_of};

on_both_tiers! {
    a_cache_that_hangs_or_dies_costs_no_error_and_the_audit_tells_one_that_lies
    what_was_acknowledged_while_the_cache_hung_is_read_when_it_is_back
}

/// Reads and writes of one client, which must all succeed, and never show less than what the client was told of its
/// writes. A change that nobody was told of yet may be seen and gone again while the cache hangs.
struct Client<'a> {
    world: &'a World,
    user: i64,
}

impl Client<'_> {
    async fn reads(&self, id: &str, known: &Value) {
        let (status, read) = self.world.get(&format!("/orders/{id}")).await;
        assert_eq!(status, 200, "{read}");
        for part in ["version", "revision"] {
            assert!(read[part].as_i64() >= known[part].as_i64(), "knows {known}, reads {read}");
        }
        let (status, list) = self.world.get(&format!("/users/{}/orders", self.user)).await;
        assert_eq!(status, 200, "{list}");
        let listed = list.as_array().unwrap().iter().find(|order| order["order_id"] == id);
        let listed = listed.unwrap_or_else(|| panic!("{id} is not in {list}"));
        assert!(listed["revision"].as_i64() >= known["revision"].as_i64(), "knows {known}, is listed {listed}");
    }

    /// An order from its creation to its completion, or to its cancellation.
    async fn order(&self, completed: bool) {
        let world = self.world;
        let order = world.create(self.user, 31, None).await;
        let id = id_of(&order);
        self.reads(&id, &order).await;
        if !completed {
            let cancelled = world.ok(&format!("/orders/{id}/cancel"), Value::Null).await;
            self.reads(&id, &cancelled).await;
            return;
        }
        let mut known = world.ok(&format!("/orders/{id}/pay"), Value::Null).await;
        self.reads(&id, &known).await;
        world.status_is(&id, 0).await;
        for step in ["/restaurants/31/orders/ID/accept", "/orders/ID/delivered", "/orders/ID/confirm"] {
            self.reads(&id, &known).await;
            known = world.ok(&step.replace("ID", &id), Value::Null).await;
        }
        self.reads(&id, &known).await;
    }
}

/// The sum of a count over both instances of the order pool.
async fn count(world: &World, name: &str) -> u64 {
    let mut sum = 0;
    for instance in ["eos-c-1", "eos-c-2"] {
        let text = world.metrics(instance).await;
        let counts = text.lines().filter(|line| line.strip_prefix(name).is_some_and(|rest| rest.starts_with('{')));
        sum += counts.map(|line| line.rsplit(' ').next().unwrap().parse::<u64>().unwrap()).sum::<u64>();
    }
    sum
}

async fn a_cache_that_hangs_or_dies_costs_no_error_and_the_audit_tells_one_that_lies(tier: Tier) {
    let world = World::start_with(|options| {
        options.tier = tier;
        // No write may fail, however busy the machine is.
        options.timeout_scale = 10;
    })
    .await;
    let server = if tier == Tier::Real { "redis-cache-1" } else { "kv-cache-1" };
    let (stop, done) = (AtomicBool::new(false), AtomicU64::new(0));
    let clients = (0..4).map(|n| {
        let (client, stop, done) = (Client { world: &world, user: 300 + n }, &stop, &done);
        async move {
            while !stop.load(Ordering::Relaxed) {
                client.order(n == 0).await;
                done.fetch_add(1, Ordering::Relaxed);
            }
        }
    });
    let goes_on = || async {
        let before = done.load(Ordering::Relaxed);
        eventually("orders go on", || async { (done.load(Ordering::Relaxed) > before + 4).then_some(()) }).await;
    };
    let hits = || async {
        let before = count(&world, "cache_hits_total").await;
        eventually("the cache answers", || async {
            (count(&world, "cache_hits_total").await > before + 10).then_some(())
        })
        .await;
    };
    let drill = async {
        hits().await;
        let pid = world.pid(server).unwrap();
        signal(pid, SIGSTOP);
        goes_on().await;
        signal(pid, SIGCONT);
        goes_on().await;
        hits().await;
        // A process that was asleep for long may have been taken for stuck.
        let pid = eventually("it runs", || async { world.pid(server).filter(|pid| runs(*pid)) }).await;
        kill(pid);
        goes_on().await;
        eventually("it is back", || async { world.pid(server).filter(|new| *new != pid && runs(*new)) }).await;
        hits().await;
        stop.store(true, Ordering::Relaxed);
    };
    tokio::join!(futures::future::join_all(clients), drill);
    assert!(count(&world, "cache_errors_total").await > 0, "nobody noticed");
    let report = world.assert_valid().await;
    let finding = report.invariants.iter().find(|finding| finding.id == "I22").unwrap();
    assert!(finding.checked > 8, "{finding:#?}");
    lies_are_told(&world, server).await;
    world.system.stop().await.unwrap();
}

/// What a reader at this instance of the order pool sees.
async fn read_at(world: &World, instance: &str, id: &str) -> Value {
    let url = format!("http://{}/orders/{id}", world.address(instance));
    let (status, order) = world.send("GET", url, None, "read").await;
    assert_eq!(status, 200, "{order}");
    order
}

async fn what_was_acknowledged_while_the_cache_hung_is_read_when_it_is_back(tier: Tier) {
    const READERS: [&str; 2] = ["eos-c-1", "eos-c-2"];
    let world = World::on(tier).await;
    let server = world.pid(if tier == Tier::Real { "redis-cache-1" } else { "kv-cache-1" }).unwrap();
    for user in 320..328 {
        let order = world.create(user, 31, None).await;
        let id = id_of(&order);
        // The cache has the order as it is now, and neither reader will know that it hung.
        eventually("it is copied", || async {
            let before = count(&world, "cache_hits_total").await;
            for reader in READERS {
                read_at(&world, reader, &id).await;
            }
            (count(&world, "cache_hits_total").await >= before + 2).then_some(())
        })
        .await;
        signal(server, SIGSTOP);
        // With this the store learns that the cache is away: what follows is not even sent there.
        world.create(user, 31, None).await;
        let cancelled = world.post(&format!("/orders/{id}/cancel"), Value::Null).await;
        signal(server, SIGCONT);
        assert_eq!(cancelled.0, 200, "{}", cancelled.1);
        let seen = futures::future::join_all(READERS.map(|reader| read_at(&world, reader, &id))).await;
        for (reader, seen) in READERS.iter().zip(seen) {
            assert!(seen["revision"].as_i64() >= cancelled.1["revision"].as_i64(), "{reader} shows {seen}");
        }
    }
    world.assert_valid().await;
    world.system.stop().await.unwrap();
}

async fn write(cache: &mut MultiplexedConnection, key: &str, value: &str) {
    let _: () = redis::cmd("SET").arg(key).arg(value).arg("PX").arg(60_000).query_async(cache).await.unwrap();
}

/// Spoils the cache of a system at rest: exactly I22 must tell.
async fn lies_are_told(world: &World, server: &str) {
    let id = id_of(&world.create(310, 31, None).await);
    let order = world.ok(&format!("/orders/{id}/cancel"), Value::Null).await;
    world.assert_valid().await;
    let mut cache = world.key_values("kv-cache").await;
    let now_ms = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_millis() as i64;
    let (fresh, old) = (now_ms - 2_000, now_ms - 400_000);
    let with = |version: i64, revision: i64, status: i64, at_ms: i64| {
        let mut order = order.clone();
        (order["version"], order["revision"], order["status"]) = (version.into(), revision.into(), status.into());
        format!("{revision} {}", json!({ "at_ms": at_ms, "order": order }))
    };
    let (version, revision) = (order["version"].as_i64().unwrap(), order["revision"].as_i64().unwrap());
    let (copy, index) = (format!("o:{id}"), "ul:310".to_owned());
    for (what, key, value, told) in [
        ("rewound, and older than it may get", &copy, with(version - 1, revision - 1, -5, old), true),
        ("late, as it may be for a while", &copy, with(version - 1, revision - 1, -5, fresh), false),
        ("ahead of the store", &copy, with(version + 1, revision + 1, -1, fresh), true),
        ("another of the same revision", &copy, with(version, revision, 9, fresh), true),
        ("missing for too long", &copy, format!("0 {}", json!({ "at_ms": old, "order": null })), true),
        ("an order of nobody", &"o:1".to_owned(), with(version, revision, -1, fresh), true),
        ("an index without an order", &index, json!({ "at_ms": fresh, "orders": [] }).to_string(), true),
        ("an index with another's order", &index, json!({ "at_ms": fresh, "orders": [id, "1"] }).to_string(), true),
        ("the index as it is", &index, json!({ "at_ms": fresh, "orders": [id] }).to_string(), false),
        ("a lease", &index, "lease:eos-c-1:1".to_owned(), false),
    ] {
        write(&mut cache, key, &value).await;
        // Who makes an order may not be looked at in the first second.
        let report = eventually(what, || async {
            let report = world.audit().await;
            (!told || report.verdict == Verdict::Invalid).then_some(report)
        })
        .await;
        for finding in &report.invariants {
            let expected = if told && finding.id == "I22" { Verdict::Invalid } else { Verdict::Valid };
            assert_eq!(finding.verdict, expected, "{what}: {finding:#?}");
        }
        let _: i64 = redis::cmd("DEL").arg(key).query_async(&mut cache).await.unwrap();
    }
    let pid = world.pid(server).unwrap();
    signal(pid, SIGSTOP);
    let report = world.audit().await;
    signal(pid, SIGCONT);
    assert_eq!((report.verdict, verdict_of(&report, "I22")), (Verdict::Unknown, Verdict::Unknown), "{report:#?}");
}

/// What the cache's server tells: keys, memory, and questions so far.
async fn told(cache: &mut MultiplexedConnection) -> (u64, u64, u64) {
    let keys: u64 = redis::cmd("DBSIZE").query_async(cache).await.unwrap();
    let text: String = redis::cmd("INFO").query_async(cache).await.unwrap();
    let number = |name: &str| -> u64 {
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        line.unwrap().trim().parse().unwrap()
    };
    (keys, number("used_memory"), number("keyspace_hits") + number("keyspace_misses"))
}

/// How often both stores of the user dimension were asked at a route.
async fn asked(world: &World, route: &str) -> u64 {
    let mut sum = 0;
    for instance in ["st-u0-1", "st-u1-1"] {
        let text = world.metrics(instance).await;
        let (name, route) = ("http_request_seconds_count{", format!("route=\"{route}\""));
        let lines = text.lines().filter(|line| line.starts_with(name) && line.contains(&route));
        sum += lines.map(|line| line.rsplit(' ').next().unwrap().parse::<u64>().unwrap()).sum::<u64>();
    }
    sum
}

#[tokio::test]
async fn an_audit_asks_a_cache_that_was_restarted_once_more() {
    let world = World::start().await;
    world.create(330, 31, None).await;
    // From now on the auditor has a connection, which ends with the server.
    world.assert_valid().await;
    let pid = world.pid("kv-cache-1").unwrap();
    kill(pid);
    eventually("another one answers", || async {
        world.pid("kv-cache-1").filter(|new| *new != pid && runs(*new))?;
        tokio::net::TcpStream::connect(world.address("kv-cache-1")).await.ok()
    })
    .await;
    let report = world.audit().await;
    assert_eq!(verdict_of(&report, "I22"), Verdict::Valid, "{report:#?}");
    world.system.stop().await.unwrap();
}

const LISTS: &str = "/users/{user}/orders";

/// Asks for the lists of ten users. Gives hits and misses of the callers, and questions to the stores.
async fn polls(world: &World, rounds: u64, in_other_seconds: bool) -> (u64, u64, u64) {
    let before =
        (count(world, "cache_hits_total").await, count(world, "cache_misses_total").await, asked(world, LISTS).await);
    for _ in 0..rounds {
        for user in 400..410 {
            let (status, list) = world.get(&format!("/users/{user}/orders")).await;
            assert_eq!((status, list.as_array().unwrap().len()), (200, usize::from(user < 405)), "{list}");
        }
        let second = || SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs();
        let now = second();
        if in_other_seconds {
            eventually("another second", || async { (second() > now).then_some(()) }).await;
        }
    }
    (
        count(world, "cache_hits_total").await - before.0,
        count(world, "cache_misses_total").await - before.1,
        asked(world, LISTS).await - before.2,
    )
}

#[tokio::test]
async fn each_design_has_its_hit_rate_its_memory_and_its_reads_of_the_store() {
    let world = World::start().await;
    let mut cache = world.key_values("kv-cache").await;
    let mut created = 0;
    for user in 400..405 {
        created = world.create(user, 32, None).await["created_at_ms"].as_i64().unwrap();
    }
    // Rounded down to five minutes, so that it is this order's, or an earlier one.
    let since = format!("/users/404/orders?since={}", created + 1);
    let rounded = usize::from((created + 1) / 300_000 * 300_000 <= created);

    let (hits, misses, reads) = polls(&world, 10, false).await;
    assert!(misses <= 10 && reads <= 10, "each once: {misses} misses, {reads} reads");
    assert!(hits >= 90, "{hits}");
    assert_eq!(world.get(&since).await.1.as_array().unwrap().len(), rounded);
    let (keys, memory, _) = told(&mut cache).await;
    polls(&world, 10, false).await;
    assert_eq!((told(&mut cache).await.0, told(&mut cache).await.1), (keys, memory), "it does not grow");

    let everybody = ["eos-c", "st-u0", "st-u1", "kv-cache"];
    let cleared = async |design: &str| {
        let mut cache = world.key_values("kv-cache").await;
        world.switch("cache.design", design, &everybody).await;
        is_cleared(&world).await;
        told(&mut cache).await
    };
    let (_, memory, _) = cleared("api_sliding").await;
    let mut memories = vec![memory];
    for round in 1..=3 {
        let (hits, misses, reads) = polls(&world, 1, true).await;
        assert_eq!((hits, misses, reads), (0, 10, 10));
        let (keys, memory, _) = told(&mut cache).await;
        assert_eq!(keys, 10 * round);
        memories.push(memory);
    }
    assert!(memories.is_sorted_by(|less, more| less < more), "{memories:?}");

    let (_, _, questions) = cleared("none").await;
    let (hits, misses, reads) = polls(&world, 3, false).await;
    assert_eq!((hits, misses, reads), (0, 0, 30));
    let id = id_of(&world.create(411, 32, None).await);
    assert_eq!(world.get(&format!("/orders/{id}")).await.0, 200);
    assert_eq!(told(&mut cache).await, (0, told(&mut cache).await.1, questions), "nobody asks or tells it");
    assert_eq!(world.get(&since).await.1, json!([]), "to the millisecond");

    // Nothing of before is believed.
    world.ok(&format!("/orders/{id}/cancel"), Value::Null).await;
    set(&world, "cache.design", None, None).await;
    world::obeyed(&world, "cache.design", "object_index", &["eos-c-1", "eos-c-2", "st-u0-1", "st-u1-1"]).await;
    assert_eq!(world.get(&format!("/orders/{id}")).await.1["status"], -1);
    world.assert_valid().await;
    is_cleared(&world).await;
    eventually("the stores vouch again", || async {
        let mut cache = world.key_values("kv-cache").await;
        let vouchers: i64 =
            redis::cmd("EXISTS").arg("vouch:st-u0").arg("vouch:st-u1").query_async(&mut cache).await.unwrap();
        (vouchers == 2).then_some(())
    })
    .await;
    one_read_serves_many_and_few_are_under_way(&world).await;
    world.system.stop().await.unwrap();
}

/// Waits until the copies of another design are gone, those of late instances, too.
async fn is_cleared(world: &World) {
    eventually("another design's keys are gone", || async {
        let (_, state) = world.ask("GET", "kv-cache", "/debug/state", None).await;
        (state["role"]["clearing"] == false).then_some(())
    })
    .await;
}

/// Orders that do not exist, of the first group of users: nobody has them cached.
fn unknown(n: i64) -> OrderId {
    OrderId::compose(1, 9_000_000 + n, Slots { user: 7, merchant: 7 })
}

async fn one_read_serves_many_and_few_are_under_way(world: &World) {
    let detail = |n: i64| async move {
        let url = format!("http://{}/orders/{}", world.address("eos-c-1"), unknown(n));
        world.send("GET", url, None, "read").await
    };
    let before = asked(world, "/orders/{id}").await;
    let answers = futures::future::join_all((0..20).map(|_| detail(0))).await;
    assert!(answers.iter().all(|(status, _)| *status == 404), "{answers:?}");
    let read = asked(world, "/orders/{id}").await - before;
    assert!((1..10).contains(&read), "{read} reads for twenty at once");
    detail(0).await;
    assert_eq!(asked(world, "/orders/{id}").await - before, read, "that there is none is known for a while");

    let store = world.pid("st-u0-1").unwrap();
    signal(store, SIGSTOP);
    let refused = || async {
        let text = world.metrics("eos-c-1").await;
        let line = text.lines().find(|line| line.starts_with("cache_store_reads_refused_total{"));
        line.unwrap().rsplit(' ').next().unwrap().parse::<u64>().unwrap()
    };
    let asks = futures::future::join_all((1..=30).map(detail));
    let store_goes_on = async {
        eventually("some are refused", || async { (refused().await > 0).then_some(()) }).await;
        signal(store, SIGCONT);
    };
    let (answers, ()) = tokio::join!(asks, store_goes_on);
    let with = |code: &str| answers.iter().filter(|(_, answer)| answer["code"] == code).count();
    assert!(with("too_many_reads") >= 1, "{answers:?}");
    assert!(with("not_found") >= 16, "those that had their turn: {answers:?}");
    eventually("the store is asked again", || async { (detail(99).await.0 == 404).then_some(()) }).await;
}

#[tokio::test]
async fn a_full_cache_is_never_believed_beyond_what_it_was_told_and_takes_locks_with_it_on_one_server() {
    let world = World::start().await;
    world.switch("kv.policy", "noeviction", &["kv-cache"]).await;
    world.switch("kv.maxmem", "4mb", &["kv-cache"]).await;
    let order = world.create(420, 33, None).await;
    let id = id_of(&order);
    assert_eq!(world.get(&format!("/orders/{id}")).await.0, 200);
    let mut cache = world.key_values("kv-cache").await;
    let kept: bool = redis::cmd("EXISTS").arg(format!("o:{id}")).query_async(&mut cache).await.unwrap();
    assert!(kept);
    let fenced = async |user: i64| {
        let mut cache = cache.clone();
        world.create(user, 33, None).await;
        redis::cmd("EXISTS").arg("fence").query_async::<bool>(&mut cache).await.unwrap()
    };
    assert!(!fenced(421).await, "locks have a server of their own");
    world.switch("kv.layout", "shared", &["eos-c"]).await;
    assert!(fenced(422).await, "locks are on the server of the caches");
    let filler = "x".repeat(200_000);
    eventually("it is full", || {
        let (mut cache, filler) = (cache.clone(), &filler);
        async move {
            for n in 0..30 {
                let written: Result<(), _> =
                    redis::cmd("SET").arg(format!("filler:{n}")).arg(filler).query_async(&mut cache).await;
                if written.is_err() {
                    return Some(());
                }
            }
            None
        }
    })
    .await;
    let client = Client { world: &world, user: 420 };
    let cancelled = world.ok(&format!("/orders/{id}/cancel"), Value::Null).await;
    client.reads(&id, &cancelled).await;
    client.order(true).await;
    assert!(count(&world, "cache_errors_total").await > 0, "it refused nothing");
    let locks_failed = count(&world, "lock_errors_total").await;
    assert!(locks_failed > 0, "locks had no room, either");
    world.switch("kv.layout", "split", &["eos-c"]).await;
    world.create(423, 33, None).await;
    assert_eq!(count(&world, "lock_errors_total").await, locks_failed, "they have a server of their own again");
    world.assert_valid().await;
    world.system.stop().await.unwrap();
}
