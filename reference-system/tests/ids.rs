//! Order IDs and kitchen numbers on both tiers, while the server that counts them is away, and after it went back in time:
//! the fixed design never repeats one, the historic one does and nobody but the audit notices.
#![allow(clippy::unwrap_used, reason = "tests whose bodies run on two tiers are functions")]

#[macro_use]
mod world;

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use nix::sys::signal::Signal;
use reference_system::Tier;
use reference_system::audit::{Verdict, audit_files};
use reference_system::ids::{IdLayout, OrderId, RestaurantId, SlotHash, Slots, UserId, group, shard};
use serde_json::{Value, json};
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{ConnectOptions as _, Connection as _};
use world::{World, copy_of, eventually, id_of, kill, obeyed, runs, set, signal, verdict_of};

on_both_tiers! {
    numbers_outlive_the_server_that_counts_them_and_the_flawed_ones_do_not
    orders_of_both_layouts_live_beside_each_other
}

const HASH: SlotHash = SlotHash::Mix64;
const CREATORS: [&str; 2] = ["eos-c-1", "eos-c-2"];
const KITCHENS: [&str; 2] = ["st-r0-1", "st-r1-1"];

/// The process that counts.
fn counter(tier: Tier) -> &'static str {
    match tier {
        Tier::Embedded => "kv-id-1",
        Tier::Real => "redis-id-1",
    }
}

fn number_of(id: &str) -> OrderId {
    OrderId(id.parse().unwrap())
}

async fn turn(world: &World, name: &str, value: &str, instances: &[&str]) {
    set(world, name, Some(value), None).await;
    obeyed(world, name, value, instances).await;
}

/// Kills the process and waits until a new one serves. What it had not saved is gone.
async fn again(world: &World, instance: &str, before: u32) {
    kill(before);
    eventually("it is back", || async { world.pid(instance).filter(|pid| *pid != before && runs(*pid)) }).await;
    let client = redis::Client::open(world.system.state().key_values["kv-id"].as_str()).unwrap();
    eventually("it answers", || async {
        let mut connection = client.get_multiplexed_async_connection().await.ok()?;
        redis::cmd("PING").query_async::<String>(&mut connection).await.ok()
    })
    .await;
}

/// Restarts an order pool and waits until it is called again.
async fn restart(world: &World, instance: &str) {
    let before = world.pid(instance).unwrap();
    kill(before);
    eventually("it is back", || async { world.pid(instance).filter(|pid| *pid != before && runs(*pid)) }).await;
    let url = format!("http://{}/readyz", world.address(instance));
    eventually("it is ready", || async {
        world.http.get(&url).send().await.ok().filter(|answer| answer.status().is_success()).map(drop)
    })
    .await;
}

/// The ID that one instance of the order pool gives a new order, as soon as it has numbers.
async fn created_at(world: &World, instance: &str, user: i64, restaurant: i64) -> String {
    let basket = world.basket(user, restaurant, None).await;
    let (url, key) = (format!("http://{}/orders", world.address(instance)), world::key());
    eventually("an order is made", || async {
        let (status, order) = world.send("POST", url.clone(), Some(basket.clone()), &key).await;
        assert!(status == 200 || order["code"] == "no_order_number", "{order}");
        (status == 200).then(|| id_of(&order))
    })
    .await
}

/// The kitchen number of an order that waits for its merchant.
async fn numbered(world: &World, id: &str) -> i64 {
    world.ok(&format!("/orders/{id}/pay"), Value::Null).await;
    world.status_is(id, 0).await["number"].as_i64().unwrap()
}

async fn numbers_outlive_the_server_that_counts_them_and_the_flawed_ones_do_not(tier: Tier) {
    let world = World::start_with(|options| {
        options.tier = tier;
        options.respawn_after = Duration::from_millis(300);
    })
    .await;
    let kitchen = 31;
    let first = id_of(&world.create(100, kitchen, None).await);
    assert_eq!(numbered(&world, &first).await, 1);

    // Stopped, it answers nobody: blocks and the store go on, a counter for each order cannot.
    let before = world.pid(counter(tier)).unwrap();
    signal(before, Signal::SIGSTOP);
    let mut made = vec![first];
    for user in 101..107 {
        made.push(id_of(&world.create(user, kitchen, None).await));
    }
    assert_eq!(numbered(&world, &made[1]).await, 2, "the store goes on where the counter was");
    turn(&world, "id.gen", "incr", &CREATORS).await;
    let (status, answer) = world.post("/orders", world.basket(107, kitchen, None).await).await;
    assert_eq!((status, &answer["code"]), (503, &json!("no_order_number")), "{answer}");
    let why = answer["error"].as_str().unwrap();
    assert!(why.starts_with("there is no number for the order: kv-id "), "{why}");
    turn(&world, "id.number", "counter", &KITCHENS).await;
    world.ok(&format!("/orders/{}/pay", made[2]), Value::Null).await;
    world.status_is(&made[2], -2).await;
    turn(&world, "id.number", "reseeded", &KITCHENS).await;
    turn(&world, "id.gen", "block", &CREATORS).await;
    assert_eq!(world.status_is(&made[2], 0).await["number"], 3);

    // Killed, it comes back with what it had saved, if anything. New blocks are of a new epoch, and numbers go on.
    again(&world, counter(tier), before).await;
    restart(&world, "eos-c-1").await;
    made.push(created_at(&world, "eos-c-1", 108, kitchen).await);
    let epochs = |ids: &[String]| ids.iter().map(|id| number_of(id).epoch()).collect::<BTreeSet<_>>();
    let (earlier, later) = (epochs(&made[..7]), epochs(&made[7..]));
    assert!(earlier.iter().all(|epoch| later.iter().all(|later| later > epoch)), "{earlier:?}, {later:?}");
    assert_eq!(made.iter().collect::<BTreeSet<_>>().len(), made.len(), "an ID came twice: {made:?}");
    assert_eq!(numbered(&world, &made[7]).await, 4);
    world.assert_valid().await;

    // The historic design: one number after the other, which the killed server gives again.
    turn(&world, "id.gen", "incr", &CREATORS).await;
    turn(&world, "id.layout", "seq", &CREATORS).await;
    turn(&world, "id.number", "counter", &KITCHENS).await;
    // A copy would go on showing the first of two orders.
    turn(&world, "cache.design", "none", &CREATORS).await;
    // Users of other shards: within one shard an index would notice.
    let mut users = (200..).filter(|user| HASH.user_shard(UserId(*user)) < 60);
    let mut others = (200..).filter(|user| HASH.user_shard(UserId(*user)) >= 60);
    let mut kitchens = (300..).step_by(7);
    // Where the server saves between the number and its death, there is no harm: one of these tries has none.
    let mut repeated = false;
    for _ in 0..5 {
        let (user, other, kitchen) = (users.next().unwrap(), others.next().unwrap(), kitchens.next().unwrap());
        turn(&world, "id.gen", "block", &CREATORS).await;
        let paid = [user, other].map(|user| created_at(&world, "eos-c-1", user, kitchen));
        let paid = futures::future::join_all(paid).await;
        turn(&world, "id.gen", "incr", &CREATORS).await;
        let id = created_at(&world, "eos-c-1", user, kitchen).await;
        assert_eq!(number_of(&id).layout(), IdLayout::Bare);
        let number = numbered(&world, &paid[0]).await;
        again(&world, counter(tier), world.pid(counter(tier)).unwrap()).await;
        let second = created_at(&world, "eos-c-1", other, kitchen).await;
        if (second == id, numbered(&world, &paid[1]).await == number) == (true, true) {
            let (status, order) = world.get(&format!("/orders/{id}")).await;
            let owner = json!(other.to_string());
            assert_eq!((status, &order["user_id"]), (200, &owner), "the first is not found any more");
            repeated = true;
            break;
        }
    }
    assert!(repeated, "the server saved each time before it died");
    let report = world.audit().await;
    for broken in ["I3", "I15", "C1"] {
        assert_eq!(verdict_of(&report, broken), Verdict::Invalid, "{report:#?}");
    }
    let ids = report.invariants.iter().find(|finding| finding.id == "I3").unwrap();
    assert!(ids.examples.iter().any(|told| told.contains("exists twice")), "{ids:?}");
    assert!(ids.examples.iter().any(|told| told.contains("is not found by its ID")), "{ids:?}");
    world.system.stop().await.unwrap();
}

async fn orders_of_both_layouts_live_beside_each_other(tier: Tier) {
    let world = World::on(tier).await;
    let composed = id_of(&world.create(40, 41, None).await);
    turn(&world, "id.layout", "seq", &CREATORS).await;
    let bare = world.settled(40, 41, Some(40)).await;
    let refunded = world.accepted(42, 41, None).await;
    turn(&world, "id.layout", "composed", &CREATORS).await;
    assert_eq!(number_of(&composed).layout(), IdLayout::Composed);
    assert_eq!((number_of(&bare).layout(), number_of(&refunded).layout()), (IdLayout::Bare, IdLayout::Bare));
    // Cancelling after acceptance goes through the reverse flow, which knows the order by its ID alone.
    let (status, answer) = world.post(&format!("/orders/{refunded}/cancel"), Value::Null).await;
    assert_eq!(status, 202, "{answer}");
    world.ok(&format!("/orders/{composed}/pay"), Value::Null).await;
    world.status_is(&composed, 0).await;
    let (_, list) = world.get("/users/40/orders").await;
    let listed: BTreeSet<&str> =
        list.as_array().unwrap().iter().map(|order| order["order_id"].as_str().unwrap()).collect();
    assert_eq!(listed, BTreeSet::from([composed.as_str(), bare.as_str()]));
    assert_eq!(world.get("/orders/999999").await.0, 404);
    refusals(&world, &composed, &bare).await;
    world.assert_valid().await;
    world.system.stop().await.unwrap();
}

/// A store answers only what names a way to its rows.
async fn refusals(world: &World, composed: &str, bare: &str) {
    let (user, restaurant) = (UserId(40), RestaurantId(41));
    let users = |own: bool| {
        let group = group(HASH.user_shard(user));
        if (group == 0) == own { "st-u0" } else { "st-u1" }
    };
    let merchants = if group(HASH.merchant_shard(restaurant)) == 0 { "st-r0" } else { "st-r1" };
    let change = |keys: Value| {
        let mut change = json!({
            "expected_status": 9, "expected_version": 1, "expected_refund": [null, 0], "step": null, "paid_fen": null,
            "refund_status": null, "refunded_fen": null, "refund_no": null, "settled_at_ms": null,
            "delivery_status": null, "kitchen": null, "payment": null, "refund": null, "tasks": [],
        });
        change.as_object_mut().unwrap().extend(keys.as_object().unwrap().clone());
        Some(change)
    };
    let (_, mut lying) = world.ask("GET", users(true), &format!("/orders/{composed}"), None).await;
    assert_eq!(lying["order_id"], composed);
    lying["user_id"] = json!("41");
    let lying = json!([lying]);
    let wrong = OrderId::compose(2, 1, Slots { user: HASH.slot(41), merchant: HASH.slot(41) });
    let one_dimension = "would leave the other dimension behind: name order_id, or both keys";
    for (method, store, path, body, status, why) in [
        ("GET", users(true), "/orders?status=0".to_owned(), None, 400, "names no key"),
        ("GET", users(true), "/orders?req_id=x".to_owned(), None, 400, "names no key"),
        ("GET", users(true), "/orders?restaurant_id=41".to_owned(), None, 400, "rows lie here by user_id"),
        ("GET", merchants, "/orders?user_id=40".to_owned(), None, 400, "rows lie here by restaurant_id"),
        ("GET", users(true), "/orders?user_id=40&address=x".to_owned(), None, 400, "address is no predicate"),
        ("GET", users(false), "/orders?user_id=40".to_owned(), None, 421, "was asked for a row of group"),
        ("GET", users(false), format!("/orders/{composed}"), None, 421, "was asked for a row of group"),
        ("GET", users(true), format!("/orders/{bare}"), None, 400, "carries no keys"),
        ("GET", users(true), format!("/orders/{wrong}?user_id=40"), None, 400, "carries the user_id slot"),
        ("POST", users(true), "/changes".to_owned(), change(json!({ "order_id": bare })), 400, "carries no keys"),
        ("POST", users(true), "/changes".to_owned(), change(json!({ "user_id": "40" })), 400, one_dimension),
        (
            "POST",
            users(true),
            "/changes".to_owned(),
            change(json!({ "order_id": bare, "user_id": "40" })),
            400,
            one_dimension,
        ),
        (
            "POST",
            users(false),
            "/changes".to_owned(),
            change(json!({ "order_id": composed })),
            421,
            "was asked for a row",
        ),
        ("POST", merchants, "/orders/apply".to_owned(), Some(lying), 400, "carries the user_id slot"),
        ("POST", merchants, "/numbers".to_owned(), Some(json!([{ "restaurant_id": "41" }])), 400, one_dimension),
    ] {
        let (answered, told) = world.ask(method, store, &path, body).await;
        let told = told["error"].as_str().unwrap_or_default();
        assert_eq!(answered, status, "{method} {path}: {told}");
        assert!(told.contains(why), "{method} {path}: {told}");
    }
    // With both keys beside it a bare ID is as good as a composed one.
    let by_keys = format!("/orders/{bare}?user_id=40&restaurant_id=41");
    for store in [users(true), merchants] {
        let (status, order) = world.ask("GET", store, &by_keys, None).await;
        assert_eq!((status, &order["order_id"]), (200, &json!(bare)), "{order}");
    }
    let (_, found) = world.ask("GET", merchants, "/orders?restaurant_id=41&status=9", None).await;
    assert_eq!(found[0]["order_id"], json!(bare));
}

#[tokio::test]
async fn a_directory_keeps_its_slot_hash_and_is_audited_by_it() {
    let world = World::start_with(|options| options.slot_hash = SlotHash::Legacy31).await;
    let (user, restaurant) = (123, 456);
    let id = number_of(&world.settled(user, restaurant, None).await);
    let by_history = Slots { user: 562, merchant: 469 };
    assert_eq!(id.slots(), Some(by_history), "the published vectors");
    let store = format!("st-u{}", group(shard(by_history.user)));
    assert_eq!(world.ask("GET", &store, &format!("/orders?user_id={user}"), None).await.0, 200);
    world.assert_valid().await;
    let dir = world.system.state().dir.clone();
    let World { system, dir: _keep, .. } = world;
    system.stop().await.unwrap();

    let audit =
        Command::new(env!("CARGO_BIN_EXE_reference-system")).arg("audit").arg("--dir").arg(&dir).output().unwrap();
    assert_eq!(audit.status.code(), Some(0), "{}", String::from_utf8_lossy(&audit.stdout));
    let up = Command::new(env!("CARGO_BIN_EXE_reference-system")).arg("up").arg("--dir").arg(&dir).output().unwrap();
    assert!(!up.status.success());
    let told = String::from_utf8(up.stderr).unwrap();
    assert!(
        told.contains("lie by the slot hash legacy31, not mix64; give --slot-hash legacy31 or another directory"),
        "{told}"
    );
}

/// An ID with its slots the other way round.
fn swapped(id: OrderId) -> OrderId {
    let Slots { user, merchant } = id.slots().unwrap();
    OrderId::compose(id.epoch(), id.sequence(), Slots { user: merchant, merchant: user })
}

/// Calls an order by another ID in these stores, wherever it is named: in numbers and in texts.
async fn rename(data: &Path, stores: &str, from: OrderId, to: OrderId) {
    for entry in std::fs::read_dir(data).unwrap().map(Result::unwrap) {
        let name = entry.file_name().into_string().unwrap();
        if !(name.starts_with(stores) && name.ends_with(".db")) {
            continue;
        }
        let mut file = SqliteConnectOptions::new().filename(entry.path()).connect().await.unwrap();
        let columns: Vec<(String, String)> = sqlx::query_as(
            "SELECT t.name, c.name FROM sqlite_master t, pragma_table_info(t.name) c \
             WHERE t.type = 'table' AND t.name NOT LIKE 'sqlite_%'",
        )
        .fetch_all(&mut file)
        .await
        .unwrap();
        for (table, column) in columns {
            let renamed = format!(
                "UPDATE \"{table}\" SET \"{column}\" = {to} WHERE \"{column}\" = {from}; \
                 UPDATE \"{table}\" SET \"{column}\" = replace(\"{column}\", '{from}', '{to}') \
                 WHERE typeof(\"{column}\") = 'text' AND instr(\"{column}\", '{from}') > 0"
            );
            sqlx::raw_sql(sqlx::AssertSqlSafe(renamed)).execute(&mut file).await.unwrap();
        }
        file.close().await.unwrap();
    }
}

#[tokio::test]
async fn swapped_slots_in_an_id_are_told_by_routing_even_if_every_store_agrees_on_the_id() {
    let world = World::start().await;
    world.settled(20, 15, Some(20)).await;
    let id = number_of(&world.settled(21, 15, Some(21)).await);
    assert_ne!(swapped(id), id, "both slots are the same");
    world.assert_valid().await;
    let data = world.data();
    let World { system, dir, .. } = world;
    system.stop().await.unwrap();
    let Slots { user, merchant } = id.slots().unwrap();
    let told = format!("order {} carries slots ({merchant}, {user}), its keys have ({user}, {merchant})", swapped(id));
    // In both dimensions alike, or in the merchant's alone: then its copy is no order's, and the order has none.
    for (stores, rows, broken) in [("", 2, &["I4"][..]), ("st-r", 1, &["I4", "I5"])] {
        let copy = copy_of(&data, dir.path().join(format!("swapped-{rows}")));
        rename(&copy, stores, id, swapped(id)).await;
        let report = audit_files(&copy, None).await;
        let invalid: Vec<_> = report.invariants.iter().filter(|finding| finding.verdict == Verdict::Invalid).collect();
        let ids: Vec<&str> = invalid.iter().map(|finding| finding.id.as_str()).collect();
        assert_eq!(ids, broken, "{report:#?}");
        assert_eq!(invalid[0].examples, vec![told.clone(); rows], "{report:#?}");
    }
}
