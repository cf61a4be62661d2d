//! Tells somebody at a terminal why a run waits in the queue, until it begins.

use std::convert::Infallible;
use std::time::Duration;

use kennel_model::RunId;
use kennel_model::api::{QueueEntry, QueueView};

use crate::client::Client;

/// How often the queue is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// Looks without the run in the queue after which it is taken to have begun: a run that was just handed in is not there
/// yet.
const LOOKS: u32 = 4;

/// What a wait was last told by.
#[derive(PartialEq)]
struct Told {
    position: u32,
    held_by: Option<RunId>,
    /// Only where no run holds the target: that reason has no moment in it, and changes when something does.
    reason: Option<String>,
}

impl Told {
    fn of(entry: &QueueEntry) -> Self {
        let reason = entry.held_by.is_none().then(|| entry.reason.clone());
        Self { position: entry.position, held_by: entry.held_by, reason }
    }
}

/// Says each reason for which the run waits, once; never resolves, so that it goes on beside what follows the run.
pub(crate) async fn tell(client: &Client, run: RunId, say: impl Fn(&str)) -> Infallible {
    let mut last = None;
    let mut absent = 0;
    while absent < LOOKS {
        // Not at once: what begins at once does not wait.
        tokio::time::sleep(LOOK_EVERY).await;
        // A queue that cannot be read is for whatever follows the run to notice.
        let queue: QueueView = client.get("/queue").await.unwrap_or_default();
        match queue.waiting.iter().find(|entry| entry.id == run) {
            Some(entry) => {
                absent = 0;
                let told = Told::of(entry);
                if last.as_ref() != Some(&told) {
                    say(&line(entry));
                    last = Some(told);
                }
            }
            None => absent += 1,
        }
    }
    std::future::pending().await
}

fn line(entry: &QueueEntry) -> String {
    let start = entry.expected_start_at.as_ref().map_or_else(String::new, |at| format!("; starts about {at}"));
    format!("waits, place {} in the queue: {}{start}", entry.position, entry.reason)
}
