//! One virtual user as the load worker sees it: waits for its turn, sends over its own connection, measures.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::{Duration, Instant};

use kennel_scenarios::client::{Abandon, Answer, Client, Request};
use rand::SeedableRng as _;
use rand::rngs::SmallRng;
use tokio::sync::watch;

use super::connection::{Connection, Destination};
use super::history::History;
use super::recorder;

/// How long a request may take before it counts as a timeout.
pub(super) const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);

/// When users take their turns.
#[derive(Debug, Clone)]
pub(super) enum Turns {
    /// Open model: the moments at which iterations were due, handed out by the pacer.
    Arrivals {
        /// Due times that nobody took yet.
        queue: flume::Receiver<Instant>,
        /// How late an arrival may be taken.
        patience: Duration,
    },
    /// Closed model: again and again.
    Always {
        /// Pause between two iterations.
        think_time: Duration,
        /// Delay of a user's first turn after its predecessor's.
        stagger: Duration,
    },
}

/// What all users of one scenario share.
#[derive(Debug)]
pub(super) struct Pool {
    /// Index of the scenario.
    pub(super) scenario: usize,
    /// Index of its first request name among all names.
    pub(super) first_name: usize,
    pub(super) destination: Destination,
    pub(super) turns: Turns,
    pub(super) seed: u64,
    /// Number of the next user to be made.
    pub(super) next_user: AtomicU32,
    /// When the load started, once it did.
    pub(super) start: watch::Receiver<Option<Instant>>,
    /// Where writes are noted, if an audit wants that.
    pub(super) history: Option<Arc<History>>,
    /// Set when the load is over: running iterations send nothing more.
    pub(super) over: Arc<AtomicBool>,
}

/// One virtual user.
#[derive(Debug)]
pub(super) struct User {
    pool: Arc<Pool>,
    number: u32,
    connection: Connection,
    random: SmallRng,
    /// When the next request was meant to be sent, where that is not simply now.
    intended: Option<Instant>,
    busy: bool,
    first_turn: bool,
}

impl User {
    pub(super) fn new(pool: Arc<Pool>) -> Self {
        let number = pool.next_user.fetch_add(1, Ordering::Relaxed);
        // Distinct streams per scenario and user from one seed.
        let stream = pool.seed ^ ((pool.scenario as u64 + 1) << 40) ^ (u64::from(number) << 8);
        Self {
            number,
            connection: Connection::new(pool.destination.clone()),
            random: SmallRng::seed_from_u64(stream),
            intended: None,
            busy: false,
            first_turn: true,
            pool,
        }
    }

    fn over(&self) -> bool {
        self.pool.over.load(Ordering::Relaxed)
    }

    /// Waits for ever once the load is over: Goose calls again and again until it is stopped.
    async fn rest(&self) {
        std::future::pending::<()>().await;
    }

    async fn started(&mut self) -> Instant {
        let mut start = self.pool.start.clone();
        match start.wait_for(Option::is_some).await.map(|at| *at) {
            Ok(Some(at)) => at,
            _ => {
                self.rest().await;
                Instant::now()
            }
        }
    }

    fn take(&mut self, due: Instant, waited: bool, patience: Duration) -> bool {
        let late = Instant::now().saturating_duration_since(due);
        if !waited && late > patience {
            recorder::dropped(self.pool.scenario, 1);
            return false;
        }
        recorder::started(self.pool.scenario, waited.then_some(late));
        self.busy = true;
        self.intended = Some(due);
        true
    }
}

/// Goose asks for session data that can be cloned; a clone is another user with a connection of its own.
impl Clone for User {
    fn clone(&self) -> Self {
        Self::new(self.pool.clone())
    }
}

impl Client for User {
    async fn next_iteration(&mut self) {
        if std::mem::take(&mut self.busy) {
            recorder::finished();
        }
        let pool = self.pool.clone();
        match &pool.turns {
            Turns::Arrivals { queue, patience } => loop {
                let (due, waited) = match queue.try_recv() {
                    Ok(due) => (due, false),
                    Err(flume::TryRecvError::Empty) => match queue.recv_async().await {
                        Ok(due) => (due, true),
                        Err(flume::RecvError::Disconnected) => return self.rest().await,
                    },
                    Err(flume::TryRecvError::Disconnected) => return self.rest().await,
                };
                if self.take(due, waited, *patience) {
                    return;
                }
            },
            Turns::Always { think_time, stagger } => {
                if std::mem::take(&mut self.first_turn) {
                    let start = self.started().await;
                    tokio::time::sleep_until((start + *stagger * self.number).into()).await;
                } else if !think_time.is_zero() {
                    tokio::time::sleep(*think_time).await;
                }
                if self.over() {
                    return self.rest().await;
                }
                recorder::started(self.pool.scenario, None);
                self.busy = true;
                self.intended = None;
            }
        }
    }

    async fn send(&mut self, request: Request<'_>) -> Result<Answer, Abandon> {
        let intended = self.intended.take();
        if self.over() && intended.is_none() {
            return Err(Abandon);
        }
        let history = self.pool.history.clone().filter(|history| history.wants(&request));
        let request = Request { keep_body: request.keep_body || history.is_some(), ..request };
        let sent = Instant::now();
        let answer = match tokio::time::timeout(REQUEST_TIMEOUT, self.connection.send(&request)).await {
            Ok(answer) => answer,
            Err(_) => {
                // What is in flight on this connection would be taken for the next answer.
                self.connection = Connection::new(self.pool.destination.clone());
                Err("timeout".to_owned())
            }
        };
        let ended = Instant::now();
        if let Some(history) = history {
            history.add(&request, ended - sent, &answer);
        }
        let (result, bytes, failure) = match answer {
            Ok(response) => {
                let expected = match request.expect_status {
                    [] => response.status < 400,
                    list => list.contains(&response.status),
                };
                let failure = (!expected).then(|| format!("status {}", response.status));
                let result =
                    if expected { Ok(Answer { status: response.status, body: response.body }) } else { Err(Abandon) };
                (result, response.bytes, failure)
            }
            Err(kind) => (Err(Abandon), 0, Some(kind)),
        };
        recorder::request(self.pool.first_name + request.name, intended.unwrap_or(sent), sent, ended, bytes, failure);
        result
    }

    async fn think(&mut self, pause: Duration) -> Result<(), Abandon> {
        tokio::time::sleep(pause).await;
        if self.over() { Err(Abandon) } else { Ok(()) }
    }

    fn random(&mut self) -> &mut SmallRng {
        &mut self.random
    }
}
