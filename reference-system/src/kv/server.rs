//! The embedded key-value server: a RESP2 port in front of a [`Keyspace`], in the process of its role.

use std::io::Read as _;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::BytesMut;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::commands::{Identity, execute};
use super::keyspace::Keyspace;
use super::{resp, snapshot};
use crate::config::now_ms;

/// How often a server that keeps a snapshot writes it.
const SNAPSHOT_EVERY: Duration = Duration::from_secs(10);

/// A server's keys and who it is.
pub(crate) struct Server {
    keyspace: Mutex<Keyspace>,
    identity: Identity,
    /// Where its snapshot is, if it keeps one.
    snapshot: Option<PathBuf>,
}

impl Server {
    /// A server with what its snapshot holds.
    pub(crate) fn open(snapshot: Option<PathBuf>) -> std::io::Result<Self> {
        let mut random = [0_u8; 20];
        std::fs::File::open("/dev/urandom")?.read_exact(&mut random)?;
        let run_id = random.iter().map(|byte| format!("{byte:02x}")).collect();
        let mut keyspace = Keyspace::default();
        if let Some(path) = &snapshot {
            snapshot::read(path, &mut keyspace)?;
        }
        Ok(Self { keyspace: Mutex::new(keyspace), identity: Identity { run_id }, snapshot })
    }

    /// Answers on `listener` until told to stop.
    pub(crate) fn serve(self, listener: TcpListener, tracker: &TaskTracker, stop: CancellationToken) {
        let server = Arc::new(self);
        if server.snapshot.is_some() {
            tracker.spawn(Arc::clone(&server).keep_snapshot(stop.clone()));
        }
        let connections = tracker.clone();
        tracker.spawn(async move {
            loop {
                let accepted = tokio::select! {
                    accepted = listener.accept() => accepted,
                    () = stop.cancelled() => return,
                };
                match accepted {
                    Ok((stream, from)) => {
                        let (server, stop) = (Arc::clone(&server), stop.clone());
                        connections.spawn(async move {
                            tokio::select! {
                                () = server.converse(stream, from) => {}
                                () = stop.cancelled() => {}
                            }
                        });
                    }
                    Err(error) => {
                        tracing::warn!(%error, "a connection was not accepted");
                        tokio::time::sleep(Duration::from_millis(50)).await;
                    }
                }
            }
        });
    }

    fn keyspace(&self) -> MutexGuard<'_, Keyspace> {
        self.keyspace.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn converse(&self, mut stream: TcpStream, from: SocketAddr) {
        // Small answers must not wait for an acknowledgement.
        let _ = stream.set_nodelay(true);
        let (mut arrived, mut out) = (BytesMut::new(), BytesMut::new());
        loop {
            match stream.read_buf(&mut arrived).await {
                Ok(0) => return,
                Ok(_) => {}
                Err(error) => {
                    tracing::debug!(%error, %from, "a connection broke");
                    return;
                }
            }
            let sound = loop {
                match resp::take_command(&mut arrived) {
                    Ok(Some(words)) => {
                        resp::write(&execute(&mut self.keyspace(), &self.identity, &words, now_ms()), &mut out);
                    }
                    Ok(None) => break true,
                    Err(malformed) => {
                        resp::write(&resp::Answer::Error(malformed.to_string()), &mut out);
                        break false;
                    }
                }
            };
            if stream.write_all_buf(&mut out).await.is_err() || !sound {
                return;
            }
        }
    }

    async fn keep_snapshot(self: Arc<Self>, stop: CancellationToken) {
        let Some(path) = &self.snapshot else { return };
        let mut goes_on = true;
        while goes_on {
            goes_on = tokio::select! {
                () = tokio::time::sleep(SNAPSHOT_EVERY) => true,
                () = stop.cancelled() => false,
            };
            if let Err(error) = snapshot::write(path, &self.keyspace()) {
                tracing::error!(%error, path = %path.display(), "no snapshot");
            }
        }
    }
}
