//! Past orders of a seed, put into a running system.

mod world;

use std::process::{Command, Stdio};
use std::time::Duration;

use reference_system::seeding::{Seeded, seed};
use world::{World, eventually, launcher};

#[tokio::test]
async fn past_orders_are_put_in_once_whatever_cuts_it_short() {
    const ORDERS: u64 = 60;
    let world = World::start_with(|options| options.respawn_after = Duration::from_millis(200)).await;
    let dir = world.system.state().dir.clone();
    let made = seed(&dir, None, |_| {}).await.unwrap();
    assert_eq!(made.users, 5_000);
    assert!(made.orders.is_none());

    let mut command = Command::new(launcher().program);
    command.args(["seed", "--json", "--orders", &ORDERS.to_string(), "--dir"]).arg(&dir).stderr(Stdio::null());
    let mut cut = command.stdout(Stdio::null()).spawn().unwrap();
    let now = format!("{}/audit?quiesce_ms=0", world.system.state().auditor);
    eventually("some orders are there", || async {
        let (_, report) = world.send("GET", now.clone(), None, "look").await;
        (report["orders"].as_u64()? > 4).then_some(())
    })
    .await;
    cut.kill().unwrap();
    cut.wait().unwrap();

    let output = command.stdout(Stdio::piped()).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let seeded: Seeded = serde_json::from_slice(&output.stdout).unwrap();
    let orders = seeded.orders.unwrap();
    assert_eq!((orders.made + orders.found, orders.refused.len()), (ORDERS, 0), "{orders:?}");
    assert!(orders.by_status[&9] > ORDERS * 8 / 10, "{orders:?}");
    assert_eq!(world.assert_valid().await.orders, ORDERS + 1);

    let again = seed(&dir, Some(ORDERS), |_| {}).await.unwrap().orders.unwrap();
    assert_eq!((again.made, again.found, &again.by_status), (0, ORDERS, &orders.by_status));
    assert_eq!(world.assert_valid().await.orders, ORDERS + 1);

    world.system.stop().await.unwrap();
    let told = seed(&dir, None, |_| {}).await.unwrap();
    assert_eq!(told, made, "a system that is down has the same seed");
    let error = seed(&dir, Some(1), |_| {}).await.unwrap_err().to_string();
    assert!(error.starts_with("no system runs in"), "{error}");
}
