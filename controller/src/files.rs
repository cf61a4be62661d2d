//! Files that Kennel keeps: each change is checked whole, becomes a version, and is recorded with its author.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use kennel_model::api::{
    DiffLine, DiffRow, FileDiff, FileKind, FileSummary, FileVersion, KnownExperiment, KnownFault, KnownParameter,
    KnownScenario, LibraryEntry, LineChange, RestoreFile, SaveFile, SurroundingsView, ValidView,
};
use kennel_model::document::{Document, PlacedProblem, Problem, Problems};
use kennel_model::experiment;
use kennel_model::fault::{FaultKind, SelectorKind};
use kennel_model::naming::{self, NAME_EXPECTED, NameError};
use similar::{ChangeTag, DiffOp, TextDiff};

use crate::caller::Caller;
use crate::controller::{Controller, Inner};
use crate::happenings::Happening;
use crate::store::{Change, Draft, StoreError, summary_of};

/// Longest message of a version, in characters; the rest is cut off.
const LONGEST_MESSAGE: usize = 500;

/// How long two texts are compared before the difference becomes a coarse one.
const DIFF_TIME: Duration = Duration::from_millis(500);

/// A file could not be read or changed.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// It is not valid, so it was not saved.
    #[error("{0}")]
    Invalid(Problems),
    /// No file can have this name.
    #[error(transparent)]
    Name(#[from] NameError),
    /// The text says another name than the one it was to be saved under.
    #[error("the text says `name: {written}`, but was to be saved as `{wanted}`; make the two agree")]
    OtherName {
        /// The name that the text says.
        written: String,
        /// The name that was asked for.
        wanted: String,
    },
    /// There is none.
    #[error("no {kind} named `{name}` is kept here{}", version.map(|v| format!(" in version {v}")).unwrap_or_default())]
    NotFound {
        /// What was asked for.
        kind: FileKind,
        /// Its name.
        name: String,
        /// Which version of it.
        version: Option<u32>,
    },
    /// Somebody else changed it since it was read.
    #[error("{}", conflict_sentence(*kind, name, current.as_deref()))]
    Conflict {
        /// What was to be changed.
        kind: FileKind,
        /// Its name.
        name: String,
        /// What is kept now, if it was not removed.
        current: Option<Box<FileVersion>>,
        /// What was to be saved.
        yours: String,
    },
    /// The new name belongs to another file.
    #[error("another {kind} is named `{name}`; choose another name or remove that one first")]
    Taken {
        /// What was to be renamed.
        kind: FileKind,
        /// The name.
        name: String,
    },
    /// The new name is that of runs that are not its own.
    #[error("runs of another {kind} named `{name}` are kept, and the two histories would mix; choose another name")]
    InHistory {
        /// What was to be renamed.
        kind: FileKind,
        /// The name.
        name: String,
    },
    /// It is in use.
    #[error("a run of the {kind} `{name}` waits or is under way; rename it once that is over, or cancel the run")]
    UnderWay {
        /// What was to be renamed.
        kind: FileKind,
        /// Its name.
        name: String,
    },
    /// The file's name stands where it cannot be replaced by itself.
    #[error("the {kind} `{name}` does not say its name in one place; change `name` in its text instead")]
    NoPlainName {
        /// What was to be renamed.
        kind: FileKind,
        /// Its name.
        name: String,
    },
    /// The store could not be asked.
    #[error(transparent)]
    Store(#[from] StoreError),
}

fn conflict_sentence(kind: FileKind, name: &str, current: Option<&FileVersion>) -> String {
    match current {
        Some(current) => format!(
            "{} saved version {} of the {kind} `{name}` in the meantime; look at both and save again on top of it",
            current.author, current.version
        ),
        None => format!("the {kind} `{name}` is not there any more, or not yet; save it as a new one"),
    }
}

/// An experiment found by name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FoundExperiment {
    /// Its text.
    pub source: String,
    /// Its version, if Kennel keeps it; those that ship with Kennel have none.
    pub version: Option<u32>,
}

impl Controller {
    /// Checks a file of any kind whole and tells what it comes to.
    ///
    /// # Errors
    /// Every problem in it.
    pub async fn check_file(&self, kind: FileKind, file: &str, source: &str) -> Result<ValidView, Problems> {
        let surroundings = &*self.inner.config.surroundings;
        match kind {
            FileKind::Experiment => {
                let valid = experiment::parse(file, source, surroundings)?;
                Ok(ValidView {
                    kind,
                    name: valid.experiment().name.clone(),
                    target: valid.target().name.clone(),
                    planned_s: valid.experiment().load.duration().as_secs_f64(),
                })
            }
            FileKind::Target => {
                let target = experiment::parse_target(file, source)?;
                Ok(ValidView { kind, name: target.name.clone(), target: target.name, planned_s: 0.0 })
            }
            FileKind::Suite => self.check_suite(file, source).await,
        }
    }

    /// The files of a kind that ship with Kennel: templates to begin with.
    #[must_use]
    pub fn shipped(&self, kind: FileKind) -> &[LibraryEntry] {
        match kind {
            FileKind::Experiment => &self.inner.config.library,
            FileKind::Suite => &self.inner.config.suites,
            FileKind::Target => &[],
        }
    }

    /// The current version of every file of a kind, by name.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn files(&self, kind: FileKind) -> Result<Vec<FileSummary>, StoreError> {
        Ok(described(self.inner.store.files(kind).await?))
    }

    /// The last version of every removed file of a kind, by name.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn removed_files(&self, kind: FileKind) -> Result<Vec<FileSummary>, StoreError> {
        Ok(described(self.inner.store.removed_files(kind).await?))
    }

    /// The current version of a file.
    ///
    /// # Errors
    /// When there is none, or the store cannot be read.
    pub async fn file(&self, kind: FileKind, name: &str) -> Result<FileVersion, FileError> {
        let file = self.inner.store.file(kind, name).await?;
        file.ok_or_else(|| FileError::NotFound { kind, name: name.to_owned(), version: None })
    }

    /// A version of a file, also of a removed one.
    ///
    /// # Errors
    /// When there is none, or the store cannot be read.
    pub async fn file_version(&self, kind: FileKind, name: &str, version: u32) -> Result<FileVersion, FileError> {
        let file = self.inner.store.file_version(kind, name, version).await?;
        file.ok_or_else(|| FileError::NotFound { kind, name: name.to_owned(), version: Some(version) })
    }

    /// Every version of a file, newest first; also of a removed one.
    ///
    /// # Errors
    /// When there never was such a file, or the store cannot be read.
    pub async fn file_versions(&self, kind: FileKind, name: &str) -> Result<Vec<FileSummary>, FileError> {
        let versions = self.inner.store.file_versions(kind, name).await?;
        if versions.is_empty() {
            return Err(FileError::NotFound { kind, name: name.to_owned(), version: None });
        }
        Ok(versions)
    }

    /// An experiment by name: one that Kennel keeps, or one that ships with it.
    ///
    /// # Errors
    /// When there is none, or the store cannot be read.
    pub async fn experiment_file(&self, name: &str) -> Result<FoundExperiment, FileError> {
        match self.file(FileKind::Experiment, name).await {
            Ok(file) => Ok(FoundExperiment { source: file.source, version: Some(file.version) }),
            Err(error @ FileError::NotFound { .. }) => {
                let shipped = self.library().iter().find(|entry| entry.name == name);
                let shipped = shipped.map(|entry| FoundExperiment { source: entry.source.clone(), version: None });
                shipped.ok_or(error)
            }
            Err(error) => Err(error),
        }
    }

    /// Saves a valid file under the name that it says. With `editing`, it is a new version of that file, and another
    /// name renames it.
    ///
    /// # Errors
    /// When it is not valid, its name is no name or taken, it was changed in the meantime, or the store failed.
    pub async fn save_file(
        &self,
        caller: &Caller,
        kind: FileKind,
        editing: Option<&str>,
        request: SaveFile,
    ) -> Result<FileVersion, FileError> {
        let label = editing.map_or_else(|| kind.word().to_owned(), ToOwned::to_owned);
        let name = self.check_file(kind, &label, &request.source).await.map_err(FileError::Invalid)?.name;
        if naming::check_name(&name).is_err() {
            return Err(FileError::Invalid(bad_name(&label, &request.source, &name)));
        }
        let message = cut(&request.message);
        let draft = Draft { source: &request.source, author: &caller.name, message: &message };
        let store = &self.inner.store;
        let renamed = match editing {
            Some(old) if old != name && store.file(kind, old).await?.is_some() => Some(old),
            _ => None,
        };
        let change = match renamed {
            Some(old) if kind == FileKind::Target && self.inner.queue.wants(old) => Change::UnderWay,
            Some(old) => store.rename_file(kind, (old, &name), draft, request.expected).await?,
            None => store.save_file(kind, &name, draft, request.expected).await?,
        };
        let followed = match &change {
            Change::Renamed { followed, .. } => followed.clone(),
            _ => Vec::new(),
        };
        let saved = made(change, kind, editing.unwrap_or(&name), &name, &request.source)?;
        let what = renamed.map_or_else(|| "save".to_owned(), |old| format!("rename from `{old}`"));
        self.tell_file(caller, kind, &saved.name, &what, &format!("version {} {message}", saved.version)).await?;
        if let Some(old) = renamed {
            self.inner.happenings.tell(Happening::FileChanged(kind, old.to_owned()));
            self.inner.happenings.tell(Happening::SchedulesChanged);
            for (kind, name) in followed {
                let why = format!("follow `{old}`");
                self.tell_file(caller, kind, &name, &why, &format!("is now `{}`", saved.name)).await?;
            }
        }
        Ok(saved)
    }

    /// Gives a file another name: its versions, its runs, and whatever knows it by name go with it, and a version with the
    /// new name follows.
    ///
    /// # Errors
    /// When there is no such file, the name is no name or taken, runs of another file have it, a run is under way, or the
    /// file was changed in the meantime.
    pub async fn rename_file(
        &self,
        caller: &Caller,
        kind: FileKind,
        name: &str,
        to: &str,
        (message, expected): (String, Option<u32>),
    ) -> Result<FileVersion, FileError> {
        naming::check_name(to)?;
        let current = self.file(kind, name).await?;
        let source = naming::renamed(&current.source, to)
            .ok_or_else(|| FileError::NoPlainName { kind, name: name.to_owned() })?;
        // Between the reading above and the saving below nobody may have been.
        let expected = expected.or(Some(current.version));
        self.save_file(caller, kind, Some(name), SaveFile { source, message, expected }).await
    }

    /// Removes a file. Its versions stay, so that it can be brought back.
    ///
    /// # Errors
    /// When there is no such file, it was changed in the meantime, or the store failed.
    pub async fn remove_file(
        &self,
        caller: &Caller,
        kind: FileKind,
        name: &str,
        expected: Option<u32>,
    ) -> Result<(), FileError> {
        match self.inner.store.remove_file(kind, name, expected).await? {
            Change::Stale(None) => Err(FileError::NotFound { kind, name: name.to_owned(), version: None }),
            change => {
                let removed = made(change, kind, name, name, "")?;
                self.tell_file(caller, kind, name, "remove", &format!("version {}", removed.version)).await
            }
        }
    }

    /// Makes an earlier version the current one again by saving its text as a new version; also of a removed file.
    ///
    /// # Errors
    /// When there is no such version, its text is no longer valid, or the store failed.
    pub async fn restore_file(
        &self,
        caller: &Caller,
        kind: FileKind,
        name: &str,
        request: RestoreFile,
    ) -> Result<FileVersion, FileError> {
        let version = match request.version {
            Some(version) => version,
            None => self.file_versions(kind, name).await?.first().map_or(0, |last| last.version),
        };
        let old = self.file_version(kind, name, version).await?;
        let message = if request.message.is_empty() { format!("version {version} restored") } else { request.message };
        // It may come from the time before the file was renamed.
        let source = match naming::field(&old.source, "name") {
            Some(written) if written != name => naming::renamed(&old.source, name).unwrap_or(old.source),
            _ => old.source,
        };
        self.save_file(caller, kind, Some(name), SaveFile { source, message, expected: None }).await
    }

    /// What changed between two versions; 0 is the empty file.
    ///
    /// # Errors
    /// When there is no such version, or the store cannot be read.
    pub async fn file_diff(&self, kind: FileKind, name: &str, from: u32, to: u32) -> Result<FileDiff, FileError> {
        let text = async |version: u32| match version {
            0 => Ok(String::new()),
            version => self.file_version(kind, name, version).await.map(|file| file.source),
        };
        let (left, right) = (text(from).await?, text(to).await?);
        self.text_diff(kind, name, (from, left), (to, right)).await
    }

    /// What differs between two texts of a file, each with the version it is or would be.
    ///
    /// # Errors
    /// When Kennel is shutting down.
    pub async fn text_diff(
        &self,
        kind: FileKind,
        name: &str,
        (from, left): (u32, String),
        (to, right): (u32, String),
    ) -> Result<FileDiff, FileError> {
        let name = name.to_owned();
        let compared = tokio::task::spawn_blocking(move || difference(kind, name, (from, &left), (to, &right))).await;
        compared.map_err(|error| FileError::Store(StoreError::broken("difference of two texts")(error)))
    }

    /// What files may refer to.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn surroundings(&self) -> Result<SurroundingsView, StoreError> {
        let surroundings = &self.inner.config.surroundings;
        let targets = surroundings.targets().iter().map(serde_json::to_value).collect::<Result<_, _>>();
        let mut experiments: Vec<KnownExperiment> = self
            .files(FileKind::Experiment)
            .await?
            .into_iter()
            .map(|file| KnownExperiment { name: file.name, description: file.description, kept: true })
            .collect();
        for entry in self.library() {
            if !experiments.iter().any(|known| known.name == entry.name) {
                let (name, description) = (entry.name.clone(), entry.description.clone());
                experiments.push(KnownExperiment { name, description, kept: false });
            }
        }
        let scenarios = surroundings.builtins().into_iter();
        Ok(SurroundingsView {
            targets: targets.map_err(StoreError::broken("target"))?,
            experiments,
            scenarios: scenarios.map(|known| KnownScenario { name: known.name, requests: known.requests }).collect(),
            faults: FaultKind::ALL.iter().copied().map(known_fault).collect(),
        })
    }

    /// Keeps the known targets and whoever listens up to date, and the audit log.
    async fn tell_file(
        &self,
        caller: &Caller,
        kind: FileKind,
        name: &str,
        what: &str,
        detail: &str,
    ) -> Result<(), FileError> {
        let inner: &Arc<Inner> = &self.inner;
        if kind == FileKind::Target {
            inner.kept_targets.set(&inner.store.files(kind).await?);
        }
        inner.happenings.tell(Happening::FileChanged(kind, name.to_owned()));
        self.record(caller, &format!("{kind}: {what}"), name, detail.trim()).await?;
        Ok(())
    }
}

fn known_fault(kind: FaultKind) -> KnownFault {
    let selects = match kind.selects() {
        SelectorKind::Link => "link",
        SelectorKind::Process | SelectorKind::RegistryEntry => "instance",
    };
    let parameters = kind.parameters().iter();
    KnownFault {
        kind: kind.word().to_owned(),
        selects: selects.to_owned(),
        lasts: kind.lasts(),
        parameters: parameters.map(|&(name, required)| KnownParameter { name: name.to_owned(), required }).collect(),
    }
}

fn described(files: Vec<FileVersion>) -> Vec<FileSummary> {
    let described = files.into_iter().map(|file| {
        let description = naming::field(&file.source, "description").unwrap_or_default();
        summary_of(file, description)
    });
    described.collect()
}

/// What a change came to, for whoever asked for it.
fn made(change: Change, kind: FileKind, edited: &str, name: &str, yours: &str) -> Result<FileVersion, FileError> {
    match change {
        Change::Made(version) => Ok(version),
        Change::Stale(current) => Err(FileError::Conflict {
            kind,
            name: edited.to_owned(),
            current: current.map(Box::new),
            yours: yours.to_owned(),
        }),
        Change::Renamed { saved, .. } => Ok(saved),
        Change::Taken => Err(FileError::Taken { kind, name: name.to_owned() }),
        Change::InHistory => Err(FileError::InHistory { kind, name: name.to_owned() }),
        Change::UnderWay => Err(FileError::UnderWay { kind, name: edited.to_owned() }),
    }
}

/// The problem of a name under which nothing can be kept, at its place.
fn bad_name(file: &str, source: &str, name: &str) -> Problems {
    let message = format!("{name:?} cannot be the name of a file");
    let problem = Problem::new("/name", message.clone(), NAME_EXPECTED);
    match Document::parse(file, source) {
        Ok(document) => document.place(vec![problem]),
        Err(_) => Problems {
            file: file.to_owned(),
            problems: vec![PlacedProblem {
                line: 1,
                column: 1,
                field: "name".to_owned(),
                message,
                expected: NAME_EXPECTED.to_owned(),
            }],
        },
    }
}

fn cut(message: &str) -> String {
    message.trim().chars().map(|c| if c.is_control() { ' ' } else { c }).take(LONGEST_MESSAGE).collect()
}

fn difference(kind: FileKind, name: String, (from, left): (u32, &str), (to, right): (u32, &str)) -> FileDiff {
    let diff = TextDiff::configure().timeout(DIFF_TIME).diff_lines(left, right);
    let line = |text: Option<&str>, index: usize| {
        text.map(|text| DiffLine {
            number: u32::try_from(index + 1).unwrap_or(u32::MAX),
            text: text.trim_end_matches(['\n', '\r']).to_owned(),
        })
    };
    let old = |index: usize| line(diff.old_slice(index), index);
    let new = |index: usize| line(diff.new_slice(index), index);
    let mut rows = Vec::new();
    for op in diff.ops() {
        match *op {
            DiffOp::Equal { old_index, new_index, len } => rows.extend((0..len).map(|at| DiffRow {
                change: LineChange::Same,
                left: old(old_index + at),
                right: new(new_index + at),
            })),
            DiffOp::Delete { old_index, old_len, .. } => rows.extend((0..old_len).map(|at| DiffRow {
                change: LineChange::Removed,
                left: old(old_index + at),
                right: None,
            })),
            DiffOp::Insert { new_index, new_len, .. } => rows.extend((0..new_len).map(|at| DiffRow {
                change: LineChange::Added,
                left: None,
                right: new(new_index + at),
            })),
            DiffOp::Replace { old_index, old_len, new_index, new_len } => {
                rows.extend((0..old_len.max(new_len)).map(|at| {
                    let left = (at < old_len).then(|| old(old_index + at)).flatten();
                    let right = (at < new_len).then(|| new(new_index + at)).flatten();
                    let change = match (&left, &right) {
                        (Some(_), Some(_)) => LineChange::Changed,
                        (Some(_), None) => LineChange::Removed,
                        _ => LineChange::Added,
                    };
                    DiffRow { change, left, right }
                }));
            }
        }
    }
    let of = |tag: ChangeTag| u32::try_from(diff.iter_all_changes().filter(|c| c.tag() == tag).count());
    let unified = diff.unified_diff().header(&format!("version {from}"), &format!("version {to}")).to_string();
    FileDiff {
        kind,
        name,
        from,
        to,
        added: of(ChangeTag::Insert).unwrap_or(u32::MAX),
        removed: of(ChangeTag::Delete).unwrap_or(u32::MAX),
        unified,
        rows,
    }
}

impl Controller {
    /// Checks a suite whole: its form, its target, its experiments, and the commands that attached agents offer.
    async fn check_suite(&self, file: &str, source: &str) -> Result<ValidView, Problems> {
        let known = self.known(true).await.map_err(|error| Problems {
            file: file.to_owned(),
            problems: vec![PlacedProblem {
                line: 1,
                column: 1,
                field: String::new(),
                message: format!("what the suite refers to cannot be read: {error}"),
                expected: String::new(),
            }],
        })?;
        let valid = known.read(file, source, &BTreeMap::new())?;
        let target = valid.target().map(|target| target.name.clone()).unwrap_or_default();
        Ok(ValidView { kind: FileKind::Suite, name: valid.suite().name.clone(), target, planned_s: 0.0 })
    }
}
