//! Files that Kennel keeps: experiments, suites and targets, each with its versions.

use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;

use super::ValidView;
use crate::document::PlacedProblem;
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

/// A version of a file in a list: all but its text.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct FileSummary {
    /// What the file says.
    pub kind: FileKind,
    /// Its name.
    pub name: String,
    /// Version, from 1.
    pub version: u32,
    /// What it is for: the `description` within it.
    pub description: String,
    /// Who wrote this version.
    pub author: String,
    /// Why, in the author's words; may be empty.
    pub message: String,
    /// When.
    pub saved_at: String,
}

/// A request to save a file.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SaveFile {
    /// The text. Its `name` is the file's name; another one than the file has renames it.
    pub source: String,
    /// Why, in the author's words.
    #[serde(default)]
    pub message: String,
    /// The version that was edited, 0 for a file that must not exist yet. Another current version refuses the save.
    /// Whatever is there is followed when absent.
    #[serde(default)]
    pub expected: Option<u32>,
}

/// A request to rename a file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RenameFile {
    /// The new name.
    pub to: String,
    /// Why, in the author's words.
    #[serde(default)]
    pub message: String,
    /// The version that was seen; another current one refuses the renaming.
    #[serde(default)]
    pub expected: Option<u32>,
}

/// A request to bring back an earlier version, or a removed file.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RestoreFile {
    /// Which version; the last one when absent. Its text becomes a new version.
    #[serde(default)]
    pub version: Option<u32>,
    /// Why, in the author's words.
    #[serde(default)]
    pub message: String,
}

/// Why a file was not saved: somebody else was faster. Both texts, to choose or to merge.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct FileConflict {
    /// What went wrong, in a sentence.
    pub error: String,
    /// What is kept now; absent when the file was removed.
    pub current: Option<FileVersion>,
    /// What was to be saved.
    pub yours: String,
}

/// What changed between two versions of a file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct FileDiff {
    /// What the file says.
    pub kind: FileKind,
    /// Its name.
    pub name: String,
    /// The earlier version, or the one named first; 0 is the empty file.
    pub from: u32,
    /// The other.
    pub to: u32,
    /// Lines that were added.
    pub added: u32,
    /// Lines that were removed.
    pub removed: u32,
    /// The difference as `diff -u` writes it; empty when there is none.
    pub unified: String,
    /// The difference side by side, every line of both.
    pub rows: Vec<DiffRow>,
}

words! {
    /// What happened to a line.
    LineChange {
        /// Nothing.
        Same = "same",
        /// It was written anew.
        Changed = "changed",
        /// It is gone.
        Removed = "removed",
        /// It is new.
        Added = "added",
    }
}

/// One row of two texts side by side.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct DiffRow {
    /// What happened here.
    pub change: LineChange,
    /// The line on the left.
    pub left: Option<DiffLine>,
    /// The line on the right.
    pub right: Option<DiffLine>,
}

/// A line of a text.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct DiffLine {
    /// Its number, from 1.
    pub number: u32,
    /// Its text without the line's end.
    pub text: String,
}

/// A request to check a file without saving or running it: its text as `source`, or as `experiment` for an experiment.
#[derive(Debug, Clone, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ValidateFile {
    /// What the file says; an experiment unless told otherwise.
    #[serde(default)]
    pub kind: Option<FileKind>,
    /// The file's text.
    #[serde(default)]
    pub source: Option<String>,
    /// The file's text, under the name that a run's request has for it.
    #[serde(default)]
    pub experiment: Option<String>,
    /// Name of the file, for error messages.
    #[serde(default)]
    pub file: Option<String>,
}

/// What a check of a file found.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct CheckReport {
    /// What the file comes to; absent when it is not valid.
    pub valid: Option<ValidView>,
    /// Every problem of it.
    pub problems: Vec<PlacedProblem>,
}

/// What files may refer to, for editors that offer choices.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct SurroundingsView {
    /// Declared targets, as in their files.
    #[schema(value_type = Vec<Object>)]
    pub targets: Vec<Value>,
    /// Experiments known by name.
    pub experiments: Vec<KnownExperiment>,
    /// Compiled scenarios.
    pub scenarios: Vec<KnownScenario>,
    /// Kinds of faults.
    pub faults: Vec<KnownFault>,
}

/// An experiment known by name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct KnownExperiment {
    /// Its name.
    pub name: String,
    /// What it is for.
    pub description: String,
    /// Whether Kennel keeps it; the others ship with Kennel.
    pub kept: bool,
}

/// A compiled scenario.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct KnownScenario {
    /// The name used in `builtin:`.
    pub name: String,
    /// Names of the requests it sends.
    pub requests: Vec<String>,
}

/// A kind of fault.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct KnownFault {
    /// The word used in `kind:`.
    pub kind: String,
    /// What it works on: `link` or `instance`.
    pub selects: String,
    /// Whether it lasts, and so needs a duration.
    pub lasts: bool,
    /// Its parameters; all are durations.
    pub parameters: Vec<KnownParameter>,
}

/// A parameter of a kind of fault.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct KnownParameter {
    /// Its field.
    pub name: String,
    /// Whether the fault is not valid without.
    pub required: bool,
}
