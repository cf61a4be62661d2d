//! Why a command ended without doing its work, and the exit code for it.

use std::io::Write as _;
use std::process::ExitCode;

use kennel_model::document::PlacedProblem;

/// Exit code of an interrupted command: 128 + SIGINT, as shells have it.
pub(crate) const INTERRUPTED: u8 = 130;

/// Why a command ended without doing its work.
#[derive(Debug)]
pub(crate) struct Failure {
    code: u8,
    message: String,
    problems: Vec<PlacedProblem>,
}

impl Failure {
    /// Wrong usage or bad input.
    pub(crate) fn bad_input(message: impl Into<String>, problems: Vec<PlacedProblem>) -> Self {
        Self { code: 2, message: message.into(), problems }
    }

    /// Whether it is so cannot be told.
    pub(crate) fn inconclusive(message: impl Into<String>) -> Self {
        Self { code: 3, message: message.into(), problems: Vec::new() }
    }

    /// It could not be done.
    pub(crate) fn could_not_run(message: impl Into<String>) -> Self {
        Self { code: 5, message: message.into(), problems: Vec::new() }
    }

    /// Says it on standard error and gives the exit code.
    pub(crate) fn tell(self) -> ExitCode {
        let mut out = std::io::stderr().lock();
        let _ = writeln!(out, "kennel: {}", self.message);
        for problem in &self.problems {
            let _ = writeln!(out, "  {problem}");
        }
        ExitCode::from(self.code)
    }
}
