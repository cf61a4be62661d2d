//! The JSON Schemas of Kennel's files, made from the types that read them.

use schemars::generate::SchemaSettings;
use serde_json::Value;

use crate::command::AgentFile;
use crate::experiment::Experiment;
use crate::suite::Suite;
use crate::target::Target;

/// JSON Schema (draft 2020-12) of an experiment file, version 1.
#[must_use]
pub fn experiment() -> Value {
    SchemaSettings::draft2020_12().into_generator().into_root_schema_for::<Experiment>().to_value()
}

/// JSON Schema (draft 2020-12) of a target file.
#[must_use]
pub fn target() -> Value {
    SchemaSettings::draft2020_12().into_generator().into_root_schema_for::<Target>().to_value()
}

/// JSON Schema (draft 2020-12) of a suite file, version 1.
#[must_use]
pub fn suite() -> Value {
    SchemaSettings::draft2020_12().into_generator().into_root_schema_for::<Suite>().to_value()
}

/// JSON Schema (draft 2020-12) of an agent's configuration.
#[must_use]
pub fn agent() -> Value {
    SchemaSettings::draft2020_12().into_generator().into_root_schema_for::<AgentFile>().to_value()
}
