//! The real servers of the real tier: killed under traffic, they come back, and nothing that was acknowledged is lost.

mod world;

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use reference_system::Tier;
use world::{World, eventually, kill, runs};

#[tokio::test]
async fn a_killed_database_comes_back_and_no_acknowledged_order_is_lost() {
    let world = World::on(Tier::Real).await;
    let (stop, answered) = (AtomicBool::new(false), Mutex::new(Vec::new()));
    let traffic = world.make_orders(&stop, &answered);
    let count = || answered.lock().unwrap().len();
    let drill = async {
        for _ in 0..3 {
            let before = count();
            eventually("traffic flows", || async { (count() > before + 5).then_some(()) }).await;
            let server = world.pid("postgres-1").unwrap();
            kill(server);
            eventually("the server is back with another pid", || async {
                world.pid("postgres-1").filter(|pid| *pid != server && runs(*pid))
            })
            .await;
        }
        let before = count();
        eventually("traffic flows again", || async { (count() > before + 5).then_some(()) }).await;
        stop.store(true, Ordering::Relaxed);
    };
    tokio::join!(traffic, drill);
    let report = world.assert_valid().await;
    let answered = answered.into_inner().unwrap();
    assert!(report.orders > answered.len() as u64, "{} orders, {} answered", report.orders, answered.len());
    for id in &answered {
        let (status, order) = world.get(&format!("/orders/{id}")).await;
        assert_eq!(status, 200, "an acknowledged order is gone: {id} {order}");
    }
    let servers = world.pid("postgres-1").unwrap();
    world.system.stop().await.unwrap();
    assert!(!runs(servers), "the database outlives its system");
}
