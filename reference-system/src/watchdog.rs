//! Ends a process whose event loop is blocked, so that its supervisor starts it again: a timeout that waits for its turn
//! on a loop cannot help when the loop itself stands still (`rpc.timeout`).

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::rpc::Directory;

/// How often the loop shows that it lives, and how often that is looked at.
const BEAT: Duration = Duration::from_millis(500);
/// Looks without a beat in between after which the process ends: two seconds of its own time, so that a process that was
/// paused as a whole is not taken for blocked.
const MISSED: u32 = 4;

/// Watches the loop on which this is called.
pub(crate) fn watch(directory: Arc<Directory>, tracker: &TaskTracker, stop: CancellationToken) {
    let beats = Arc::new(AtomicU32::new(0));
    let (beating, stopping) = (Arc::clone(&beats), stop.clone());
    tracker.spawn(async move {
        let mut tick = tokio::time::interval(BEAT);
        loop {
            tokio::select! {
                _ = tick.tick() => {}
                // Whoever stops has its own bound.
                () = stopping.cancelled() => return,
            }
            beating.fetch_add(1, Ordering::Relaxed);
        }
    });
    #[expect(clippy::disallowed_methods, reason = "a role holds no faults and no children, and its loop cannot end it")]
    let look = move || {
        let (mut seen, mut missed) = (0, 0);
        loop {
            std::thread::sleep(BEAT);
            if stop.is_cancelled() {
                return;
            }
            let beat = beats.load(Ordering::Relaxed);
            missed = if beat == seen { missed + 1 } else { 0 };
            seen = beat;
            if missed >= MISSED && directory.in_force().hard_timeout {
                tracing::error!("the event loop has been blocked for two seconds: ending");
                std::process::exit(1);
            }
        }
    };
    // Without the thread the process works, only unwatched.
    if let Err(error) = std::thread::Builder::new().name("watchdog".to_owned()).stack_size(64 << 10).spawn(look) {
        tracing::warn!(%error, "no watchdog");
    }
}
