//! An agent's own configuration: the labels it carries, and the test commands that it may run and nothing else may name.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::str::FromStr;

use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use utoipa::ToSchema;

use crate::document::{Document, Problem, Problems};
use crate::units::Span;

/// Stands for a fresh folder of each attempt, in arguments, environment values and patterns.
pub const OUTPUT: &str = "${output}";

/// An agent's configuration as written in a file, version 1.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(title = "Kennel agent")]
pub struct AgentFile {
    /// Version of this format.
    #[schemars(range(min = 1, max = 1))]
    pub version: u32,
    /// Words by which suites choose agents.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub labels: Vec<String>,
    /// Test commands that suites may name.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub commands: Vec<TestCommand>,
}

/// A test command: what runs, where, under which limits, and which files tell how it went.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TestCommand {
    /// Name by which suites call it.
    #[schemars(length(min = 1, max = 100))]
    pub name: String,
    /// What it does, for whoever writes a suite.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub description: String,
    /// The program: a path, or a name to look up in PATH. No shell is involved.
    #[schemars(length(min = 1))]
    pub program: String,
    /// Its first arguments; a suite's are appended, each as one argument. `${output}` stands for a fresh folder of each
    /// attempt.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub arguments: Vec<String>,
    /// Where it runs; the fresh folder itself when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub directory: Option<String>,
    /// Variables beside PATH, HOME, LANG and TZ of the agent. `KENNEL_OUTPUT` is the fresh folder.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub environment: BTreeMap<String, String>,
    /// Files that tell how each test went (JUnit XML or Robot output), as patterns with `*`, `?` and `**`, relative to the
    /// directory. Files older than the attempt are not believed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub results: Vec<String>,
    /// Files to keep with the run, as patterns.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub artifacts: Vec<String>,
    /// How long it may take; 1h unless given. A suite may ask for less.
    #[serde(default = "an_hour")]
    pub timeout: Span,
    /// What each of its processes may use.
    #[serde(default)]
    pub limits: Limits,
}

/// What each process of a command may use (setrlimit(2)); without a limit where none is given.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Limits {
    /// Address space.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory: Option<Bytes>,
    /// Time on a processor.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpu_time: Option<Span>,
    /// Size of each file that it writes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file_size: Option<Bytes>,
    /// Processes of the agent's user, all together. The kernel does not hold root to it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub processes: Option<u32>,
}

/// A size as people write it: `512MiB`, `2GB`, or a plain number of bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Bytes(pub u64);

/// What a size must look like; shown to users beside a bad one.
pub const BYTES_EXPECTED: &str = "a size such as 512MiB, 2GiB or a number of bytes";

impl FromStr for Bytes {
    type Err = crate::units::QuantityError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let fail = || crate::units::QuantityError { value: text.to_owned(), expected: BYTES_EXPECTED };
        let trimmed = text.trim();
        let digits = trimmed.find(|c: char| !c.is_ascii_digit()).unwrap_or(trimmed.len());
        let number: u64 = trimmed[..digits].parse().map_err(|_| fail())?;
        let unit: u64 = match trimmed[digits..].trim() {
            "" | "B" => 1,
            "kB" => 1000,
            "KiB" => 1 << 10,
            "MB" => 1_000_000,
            "MiB" => 1 << 20,
            "GB" => 1_000_000_000,
            "GiB" => 1 << 30,
            _ => return Err(fail()),
        };
        number.checked_mul(unit).map(Self).ok_or_else(fail)
    }
}

impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            whole if whole >= 1 << 30 && whole.is_multiple_of(1 << 30) => write!(f, "{}GiB", whole >> 30),
            whole if whole >= 1 << 20 && whole.is_multiple_of(1 << 20) => write!(f, "{}MiB", whole >> 20),
            whole if whole >= 1 << 10 && whole.is_multiple_of(1 << 10) => write!(f, "{}KiB", whole >> 10),
            whole => write!(f, "{whole}"),
        }
    }
}

impl Serialize for Bytes {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Bytes {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Written {
            Number(u64),
            Text(String),
        }
        match Written::deserialize(deserializer)? {
            Written::Number(number) => Ok(Self(number)),
            Written::Text(text) => text.parse().map_err(serde::de::Error::custom),
        }
    }
}

impl JsonSchema for Bytes {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Bytes".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({
            "description": BYTES_EXPECTED,
            "type": ["integer", "string"],
            "minimum": 0,
            "pattern": r"^\s*[0-9]{1,18}\s*(B|kB|KiB|MB|MiB|GB|GiB)?\s*$",
        })
    }
}

/// A test command as others than its agent know it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct OfferedCommand {
    /// Its name.
    pub name: String,
    /// What it does.
    pub description: String,
}

impl From<&TestCommand> for OfferedCommand {
    fn from(command: &TestCommand) -> Self {
        Self { name: command.name.clone(), description: command.description.clone() }
    }
}

/// Reads and checks an agent's configuration.
///
/// # Errors
/// Every problem in it, placed.
pub fn parse(file: &str, source: &str) -> Result<AgentFile, Problems> {
    let document = Document::parse(file, source)?;
    let agent: AgentFile = document.decode(&crate::schema::agent()).map_err(|problems| document.place(problems))?;
    let mut problems = Vec::new();
    for (at, label) in agent.labels.iter().enumerate() {
        if label.trim().is_empty() || label.trim() != label {
            problems.push(Problem::new(format!("/labels/{at}"), format!("`{label}` is no label"), "a word or a few"));
        }
    }
    let mut seen = BTreeSet::new();
    for (at, command) in agent.commands.iter().enumerate() {
        let path = format!("/commands/{at}");
        if !seen.insert(command.name.as_str()) {
            problems.push(Problem::new(
                format!("{path}/name"),
                format!("a second command named `{}`", command.name),
                "a name of its own for each command",
            ));
        }
        if command.timeout.get().is_zero() {
            problems.push(Problem::new(format!("{path}/timeout"), "a command of no time", "a time above 0s"));
        }
        if command.directory.as_ref().is_some_and(|directory| !directory.starts_with('/')) {
            problems.push(Problem::new(
                format!("{path}/directory"),
                "the agent may be started anywhere, so this could mean any folder",
                "a path that begins with `/`",
            ));
        }
        for name in command.environment.keys() {
            if name.is_empty() || name.contains(['=', '\0']) {
                problems.push(Problem::new(
                    format!("{path}/environment"),
                    format!("`{name}` is no variable's name"),
                    "letters, digits and `_`",
                ));
            }
        }
    }
    document.finish(agent, problems)
}

fn an_hour() -> Span {
    Span::from_secs(3600)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn every_problem_of_a_configuration_is_listed() {
        let source = "
version: 1
labels: ['']
commands:
  - {name: a, program: x, directory: here, limits: {memory: much}}
  - {name: a, program: x, timeout: 0s}
";
        let told = parse("agent.yaml", source).unwrap_err().to_string();
        assert!(
            told.contains("commands[0].limits.memory: `much` is not valid here; expected a size such as"),
            "{told}"
        );
        let source = source.replace("much", "1MiB");
        let told = parse("agent.yaml", &source).unwrap_err().to_string();
        for part in ["labels[0]", "a second command named `a`", "begins with `/`", "above 0s"] {
            assert!(told.contains(part), "{part} is missing:\n{told}");
        }
    }

    proptest! {
        #[test]
        fn a_written_size_reads_back_the_same(bytes in 0_u64..1 << 60) {
            prop_assert_eq!(Bytes(bytes).to_string().parse(), Ok(Bytes(bytes)));
        }
    }
}
