//! The load worker as its agent sees it: started ahead of time, told to go, read line by line, killed to halt.

use std::ffi::OsString;
use std::process::Stdio;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};

use crate::worker::{WorkerAssignment, WorkerOrder, WorkerReport};

/// How long a worker may take until all its users are up.
const READY_WITHIN: Duration = Duration::from_secs(30);

/// A running load worker.
#[derive(Debug)]
pub struct LoadWorker {
    child: Child,
    input: ChildStdin,
    output: Lines<BufReader<ChildStdout>>,
}

/// Why there is no load worker.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// It could not be started or talked to.
    #[error("cannot {action} the load worker: {cause}")]
    Process {
        /// What was tried.
        action: &'static str,
        /// What the system said.
        cause: std::io::Error,
    },
    /// It says that it cannot do its work.
    #[error("the load worker refused: {0}")]
    Refused(String),
    /// It did not get ready.
    #[error("the load worker was not ready within {READY_WITHIN:?}")]
    NotReady,
}

fn process(action: &'static str) -> impl Fn(std::io::Error) -> LoadError {
    move |cause| LoadError::Process { action, cause }
}

impl LoadWorker {
    /// Starts a worker and waits until its users are up.
    ///
    /// # Errors
    /// When it cannot be started, refuses its assignment or does not get ready in time.
    pub async fn prepare(command: &[OsString], assignment: &WorkerAssignment) -> Result<Self, LoadError> {
        let missing = || process("start")(std::io::Error::other("no command is configured"));
        let (program, arguments) = command.split_first().ok_or_else(missing)?;
        let mut child = Command::new(program)
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            // A Ctrl-C in the terminal is for the agent, which stops its worker in its own way.
            .process_group(0)
            .kill_on_drop(true)
            .spawn()
            .map_err(process("start"))?;
        let (Some(input), Some(output)) = (child.stdin.take(), child.stdout.take()) else { return Err(missing()) };
        let mut worker = Self { child, input, output: BufReader::new(output).lines() };
        worker.write(assignment).await?;
        match tokio::time::timeout(READY_WITHIN, worker.next()).await {
            Ok(Some(WorkerReport::Ready)) => Ok(worker),
            Ok(Some(WorkerReport::Failed(problem))) => Err(LoadError::Refused(problem)),
            Ok(Some(_)) => Err(LoadError::Refused("it spoke out of turn".to_owned())),
            Ok(None) => Err(LoadError::Refused(format!("it ended at once ({})", worker.exit_status().await))),
            Err(_) => Err(LoadError::NotReady),
        }
    }

    async fn write<T: serde::Serialize>(&mut self, message: &T) -> Result<(), LoadError> {
        let mut line = serde_json::to_vec(message).map_err(|e| process("write to")(e.into()))?;
        line.push(b'\n');
        self.input.write_all(&line).await.map_err(process("write to"))?;
        self.input.flush().await.map_err(process("write to"))
    }

    /// Lets the load begin.
    ///
    /// # Errors
    /// When the worker is gone.
    pub async fn start(&mut self) -> Result<(), LoadError> {
        self.write(&WorkerOrder::Start).await
    }

    /// The next thing it says; `None` when it is gone. Cancelling the wait loses nothing.
    pub async fn next(&mut self) -> Option<WorkerReport> {
        loop {
            let line = self.output.next_line().await.ok()??;
            match serde_json::from_str(&line) {
                Ok(report) => return Some(report),
                // Goose may print despite being told to be quiet.
                Err(_) => tracing::debug!("the load worker printed: {line}"),
            }
        }
    }

    /// Ends it at once.
    pub async fn kill(&mut self) {
        let _ = self.child.kill().await;
    }

    /// How it ended, in words.
    pub async fn exit_status(&mut self) -> String {
        match tokio::time::timeout(Duration::from_secs(2), self.child.wait()).await {
            Ok(Ok(status)) => status.to_string(),
            _ => "no exit status".to_owned(),
        }
    }
}
