//! Files that Kennel keeps: experiments, suites and targets, each with its versions.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::words::words;

words! {
    /// What a kept file says.
    FileKind {
        /// An experiment.
        Experiment = "experiment",
        /// A suite.
        Suite = "suite",
        /// A target.
        Target = "target",
    }
}

/// A version of a file that Kennel keeps.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct FileVersion {
    /// What the file says.
    pub kind: FileKind,
    /// Its name: the `name` within it.
    pub name: String,
    /// Version, from 1.
    pub version: u32,
    /// The text.
    pub source: String,
    /// Who wrote this version.
    pub author: String,
    /// Why, in the author's words; may be empty.
    pub message: String,
    /// When.
    pub saved_at: String,
}
