//! A YAML document with the place of every value, so that each error can say file, line, column and field.

use std::collections::BTreeMap;
use std::fmt;

use jsonschema::ValidationError;
use jsonschema::error::{TypeKind, ValidationErrorKind};
use saphyr::{LoadableYamlNode, MarkedYaml, Scalar, YamlData};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// Something wrong with a document, by JSON pointer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Problem {
    /// JSON pointer to the field (`/faults/0/start`); empty for the document itself.
    pub pointer: String,
    /// What is wrong, with the value.
    pub message: String,
    /// What would be accepted.
    pub expected: String,
}

impl Problem {
    /// A problem at `pointer`.
    pub fn new(pointer: impl Into<String>, message: impl Into<String>, expected: impl Into<String>) -> Self {
        Self { pointer: pointer.into(), message: message.into(), expected: expected.into() }
    }
}

/// A problem with its place in a file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct PlacedProblem {
    /// Line, from 1; 0 where what was sent is no text with lines.
    pub line: usize,
    /// Column, from 1; 0 as the line.
    pub column: usize,
    /// The field as people write it (`faults[0].start`).
    pub field: String,
    /// What is wrong, with the value.
    pub message: String,
    /// What would be accepted.
    pub expected: String,
}

impl PlacedProblem {
    /// A problem with a field of something that was not sent as a text.
    pub fn of_field(field: impl Into<String>, message: impl Into<String>, expected: impl Into<String>) -> Self {
        Self { line: 0, column: 0, field: field.into(), message: message.into(), expected: expected.into() }
    }

    fn is_placed(&self) -> bool {
        self.line > 0
    }
}

impl fmt::Display for PlacedProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_placed() {
            write!(f, "{}:{}: ", self.line, self.column)?;
        }
        if !self.field.is_empty() {
            write!(f, "{}: ", self.field)?;
        }
        f.write_str(&self.message)?;
        if !self.expected.is_empty() {
            write!(f, "; expected {}", self.expected)?;
        }
        Ok(())
    }
}

/// Every problem of one file, in the order in which they stand in it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, thiserror::Error)]
pub struct Problems {
    /// Name of the file.
    pub file: String,
    /// The problems; never empty.
    pub problems: Vec<PlacedProblem>,
}

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, problem) in self.problems.iter().enumerate() {
            if at > 0 {
                writeln!(f)?;
            }
            let gap = if problem.is_placed() { "" } else { " " };
            write!(f, "{}:{gap}{problem}", self.file)?;
        }
        Ok(())
    }
}

/// A parsed YAML document: its value as JSON, and where each part of it stands.
#[derive(Debug)]
pub struct Document {
    file: String,
    value: Value,
    /// Line and column (from 1) of keys (for fields of mappings) and items (of sequences), by JSON pointer.
    places: BTreeMap<String, (usize, usize)>,
}

impl Document {
    /// Reads YAML (or JSON, which is YAML).
    ///
    /// # Errors
    /// A syntax error, a duplicate key, or a document that is empty or not the only one.
    pub fn parse(file: &str, source: &str) -> Result<Self, Problems> {
        let fail = |line: usize, column: usize, message: String, expected: &str| Problems {
            file: file.to_owned(),
            problems: vec![PlacedProblem {
                line,
                column,
                field: String::new(),
                message,
                expected: expected.to_owned(),
            }],
        };
        let nodes = MarkedYaml::load_from_str(source).map_err(|e| {
            let (line, column) = (e.marker().line(), e.marker().col() + 1);
            let rest = source.lines().nth(line.saturating_sub(1)).map(|l| l.chars().skip(column - 1).collect());
            match rest.as_ref().and_then(|rest: &String| rest.split_once(':')) {
                Some((key, _)) if e.info().contains("duplicated key") => {
                    fail(line, column, format!("a second `{}` in this mapping", key.trim()), "each key once")
                }
                _ => fail(line, column, format!("not YAML: {}", e.info()), ""),
            }
        })?;
        let [node] = nodes.as_slice() else {
            let expected = "one YAML document";
            return Err(fail(1, 1, format!("the file holds {} documents", nodes.len()), expected));
        };
        let mut document = Self { file: file.to_owned(), value: Value::Null, places: BTreeMap::new() };
        let mut problems = Vec::new();
        document.places.insert(String::new(), (1, 1));
        document.value = document.convert(node, "", &mut problems);
        if problems.is_empty() { Ok(document) } else { Err(document.place(problems)) }
    }

    fn convert(&mut self, node: &MarkedYaml<'_>, pointer: &str, problems: &mut Vec<Problem>) -> Value {
        match &node.data {
            YamlData::Value(Scalar::Null) => Value::Null,
            YamlData::Value(Scalar::Boolean(value)) => (*value).into(),
            YamlData::Value(Scalar::Integer(value)) => (*value).into(),
            YamlData::Value(Scalar::FloatingPoint(value)) => value.into_inner().into(),
            YamlData::Value(Scalar::String(text)) => text.as_ref().into(),
            YamlData::Representation(text, ..) => text.as_ref().into(),
            YamlData::Tagged(_, inner) => self.convert(inner, pointer, problems),
            YamlData::Sequence(items) => {
                let mut list = Vec::with_capacity(items.len());
                for (at, item) in items.iter().enumerate() {
                    let pointer = format!("{pointer}/{at}");
                    self.places.insert(pointer.clone(), place(item));
                    list.push(self.convert(item, &pointer, problems));
                }
                Value::Array(list)
            }
            YamlData::Mapping(fields) => {
                let mut object = Map::new();
                for (key, value) in fields {
                    let name = match self.convert(key, pointer, problems) {
                        Value::String(name) => name,
                        other => other.to_string(),
                    };
                    let pointer = format!("{pointer}/{}", escape(&name));
                    self.places.insert(pointer.clone(), place(key));
                    let value = self.convert(value, &pointer, problems);
                    object.insert(name, value);
                }
                Value::Object(object)
            }
            YamlData::Alias(_) | YamlData::BadValue => {
                problems.push(Problem::new(pointer, "a value that cannot be read", "a plain YAML value"));
                Value::Null
            }
        }
    }

    /// The document's value.
    #[must_use]
    pub fn value(&self) -> &Value {
        &self.value
    }

    /// Everything that `schema` and the grammars of single values have against a value.
    #[must_use]
    pub fn violations(&self, value: &Value, schema: &Value) -> Vec<Problem> {
        let mut problems = Vec::new();
        match jsonschema::validator_for(schema) {
            Ok(validator) => {
                for error in validator.iter_errors(value) {
                    describe(&error, schema, &mut problems);
                }
            }
            Err(error) => problems.push(Problem::new("", format!("the schema itself is broken: {error}"), "")),
        }
        problems.extend(objective_problems(value));
        problems
    }

    /// Checks the document against `schema` and decodes it.
    ///
    /// # Errors
    /// Every violation of the schema and of the grammars of single values; or what the decoder says.
    pub fn decode<T: DeserializeOwned>(&self, schema: &Value) -> Result<T, Vec<Problem>> {
        let problems = self.violations(&self.value, schema);
        if !problems.is_empty() {
            return Err(problems);
        }
        serde_json::from_value(self.value.clone()).map_err(|error| vec![Problem::new("", error.to_string(), "")])
    }

    /// Gives `value` back when there are no problems.
    ///
    /// # Errors
    /// The problems, placed.
    pub fn finish<T>(&self, value: T, problems: Vec<Problem>) -> Result<T, Problems> {
        if problems.is_empty() { Ok(value) } else { Err(self.place(problems)) }
    }

    /// Finds the place of each problem: its field's key, or the nearest one above it.
    #[must_use]
    pub fn place(&self, problems: Vec<Problem>) -> Problems {
        let mut placed: Vec<PlacedProblem> = problems
            .into_iter()
            .map(|problem| {
                let mut pointer = problem.pointer.as_str();
                let (line, column) = loop {
                    if let Some(place) = self.places.get(pointer) {
                        break *place;
                    }
                    match pointer.rfind('/') {
                        Some(at) => pointer = &pointer[..at],
                        None => break (1, 1),
                    }
                };
                let field = field_name(&problem.pointer);
                PlacedProblem { line, column, field, message: problem.message, expected: problem.expected }
            })
            .collect();
        placed.sort_by(|a, b| (a.line, a.column, &a.field).cmp(&(b.line, b.column, &b.field)));
        placed.dedup();
        Problems { file: self.file.clone(), problems: placed }
    }
}

/// What is wrong with the objectives of a document, whose grammar a schema cannot express.
fn objective_problems(value: &Value) -> Vec<Problem> {
    let mut problems = Vec::new();
    for field in ["objectives", "steady_state", "guards"] {
        for (at, text) in value[field].as_array().into_iter().flatten().enumerate() {
            if let Some(Err(error)) = text.as_str().map(str::parse::<crate::objective::Objective>) {
                problems.push(Problem::new(
                    format!("/{field}/{at}"),
                    format!("`{}`: {}", error.text, error.problem),
                    crate::objective::OBJECTIVE_EXPECTED,
                ));
            }
        }
    }
    problems
}

fn place(node: &MarkedYaml<'_>) -> (usize, usize) {
    (node.span.start.line(), node.span.start.col() + 1)
}

fn escape(key: &str) -> String {
    key.replace('~', "~0").replace('/', "~1")
}

/// `/faults/0/start` as people write it: `faults[0].start`.
fn field_name(pointer: &str) -> String {
    let mut name = String::new();
    for part in pointer.split('/').skip(1) {
        if !name.is_empty() && part.parse::<usize>().is_ok() {
            name.push_str(&format!("[{part}]"));
        } else {
            if !name.is_empty() {
                name.push('.');
            }
            name.push_str(&part.replace("~1", "/").replace("~0", "~"));
        }
    }
    name
}

/// Turns one schema violation into problems a person understands.
fn describe(error: &ValidationError<'_>, schema: &Value, problems: &mut Vec<Problem>) {
    let pointer = error.instance_path().as_str().to_owned();
    let instance = error.instance();
    let here = schema_at(schema, error.schema_path().as_str());
    match error.kind() {
        ValidationErrorKind::OneOfNotValid { context } | ValidationErrorKind::AnyOf { context } => {
            // The branch that was meant: the one whose tag or type fits, else the one with the fewest complaints.
            let meant = context.iter().min_by_key(|errors| {
                let wrong_kind = errors.iter().any(|e| is_tag_or_type(e, &pointer));
                (wrong_kind, errors.len())
            });
            let tag_is_wrong = meant.is_none_or(|errors| errors.iter().any(|e| is_tag_or_type(e, &pointer)));
            if tag_is_wrong {
                let tags = here.map(model_tags).unwrap_or_default();
                let untagged = instance.is_object() && instance.get("model").is_none();
                let expected = if untagged && !tags.is_empty() { tags } else { alternatives(context) };
                let (pointer, message) = tag_problem(context, &pointer, instance);
                problems.push(Problem::new(pointer, message, expected));
            } else {
                for error in meant.into_iter().flatten() {
                    describe(error, schema, problems);
                }
            }
        }
        ValidationErrorKind::AdditionalProperties { unexpected } => {
            let known: Vec<String> = here
                .and_then(|s| s.get("properties").or_else(|| s.pointer("/../properties")))
                .and_then(Value::as_object)
                .map(|fields| fields.keys().cloned().collect())
                .unwrap_or_default();
            for field in unexpected {
                let expected = if known.is_empty() {
                    "a field of the format (`kennel schema` prints it)".to_owned()
                } else {
                    format!("one of {}", known.join(", "))
                };
                problems.push(Problem::new(
                    format!("{pointer}/{}", escape(field)),
                    format!("unknown field `{field}`"),
                    expected,
                ));
            }
        }
        ValidationErrorKind::Required { property } => {
            let name = property.as_str().unwrap_or_default();
            let expected = here
                .and_then(|s| s.pointer(&format!("/properties/{}", escape(name))))
                .map_or_else(|| format!("`{name}: …`"), |s| expected_of_missing(name, s, schema));
            problems.push(Problem::new(pointer, format!("missing field `{name}`"), expected));
        }
        kind => {
            let expected = here.and_then(|s| expected_by(s, schema)).unwrap_or_default();
            let expected = match kind {
                ValidationErrorKind::Enum { options } => options_list(options),
                ValidationErrorKind::Constant { expected_value } => format!("{expected_value}"),
                ValidationErrorKind::Minimum { limit } => format!("at least {limit}"),
                ValidationErrorKind::Maximum { limit } => format!("at most {limit}"),
                ValidationErrorKind::MinItems { limit } => format!("at least {limit} item"),
                ValidationErrorKind::MinLength { .. } => "some text".to_owned(),
                ValidationErrorKind::Type { kind } if expected.is_empty() || is_prose(&expected) => type_name(kind),
                ValidationErrorKind::Pattern { pattern } if pattern == "^/" => "a path that starts with `/`".to_owned(),
                _ => expected,
            };
            problems.push(Problem::new(pointer.as_str(), not_valid(&pointer, instance), expected));
        }
    }
}

/// The words among which `model` chooses, as they would be written.
fn model_tags(at: &Value) -> String {
    let branches = at["oneOf"].as_array().into_iter().flatten();
    let words = branches.filter_map(|branch| branch.pointer("/properties/model/const").and_then(Value::as_str));
    words.map(|word| format!("`model: {word}`")).collect::<Vec<_>>().join(" or ")
}

/// What a missing field would look like: its words, its quantity, or at least its kind.
fn expected_of_missing(name: &str, at: &Value, schema: &Value) -> String {
    let at = follow(at, schema);
    let words: Vec<Value> =
        at["oneOf"].as_array().into_iter().flatten().filter_map(|word| word.get("const").cloned()).collect();
    if !words.is_empty() {
        return options_list(&words.into());
    }
    match (at["type"].as_str(), expected_by(at, schema)) {
        (_, Some(quantity)) if !is_prose(&quantity) => quantity,
        (Some("object"), _) => format!("`{name}: …`, a mapping"),
        (Some("array"), _) => format!("`{name}: …`, a list"),
        (Some("string"), _) => format!("`{name}: …`, text"),
        (Some("integer"), _) => format!("`{name}: …`, a whole number"),
        _ => format!("`{name}: …`"),
    }
}

fn not_valid(pointer: &str, value: &Value) -> String {
    match (value, pointer.rsplit('/').next()) {
        (Value::Null, Some(field)) if !field.is_empty() => format!("`{field}` is empty"),
        _ => format!("{} is not valid here", shown(value)),
    }
}

/// Field descriptions say what a field is for; only those of quantities say what it looks like.
fn is_prose(expected: &str) -> bool {
    !(expected.starts_with("a ") || expected.starts_with("an "))
}

fn is_tag_or_type(error: &ValidationError<'_>, pointer: &str) -> bool {
    let at = error.instance_path().as_str();
    match error.kind() {
        ValidationErrorKind::Constant { .. } => {
            at.strip_prefix(pointer).is_some_and(|rest| rest.matches('/').count() <= 1)
        }
        ValidationErrorKind::Type { .. } => at == pointer,
        ValidationErrorKind::Required { property } => at == pointer && property.as_str() == Some("model"),
        _ => false,
    }
}

fn alternatives(context: &[Vec<ValidationError<'static>>]) -> String {
    let mut words: Vec<String> = Vec::new();
    for error in context.iter().flatten() {
        let word = match error.kind() {
            ValidationErrorKind::Constant { expected_value } => format!("`{}`", expected_value.as_str().unwrap_or("…")),
            ValidationErrorKind::Type { kind } => type_name(kind),
            ValidationErrorKind::Enum { options } => options_list(options),
            _ => continue,
        };
        if !words.contains(&word) {
            words.push(word);
        }
    }
    if words.iter().any(|word| word.starts_with('`')) {
        words.retain(|word| word != "text");
    }
    match words.as_slice() {
        [_, _, _, ..] => format!("one of {}", words.join(", ")),
        _ => words.join(" or "),
    }
}

fn tag_problem(context: &[Vec<ValidationError<'static>>], pointer: &str, instance: &Value) -> (String, String) {
    let tag = context.iter().flatten().find_map(|error| match error.kind() {
        ValidationErrorKind::Constant { .. } => {
            let at = error.instance_path().as_str();
            Some((at.to_owned(), not_valid(at, error.instance())))
        }
        _ => None,
    });
    match tag {
        Some(found) => found,
        None => match context.iter().flatten().find_map(|error| match error.kind() {
            ValidationErrorKind::Required { property } => property.as_str(),
            _ => None,
        }) {
            Some(missing) if instance.is_object() => (pointer.to_owned(), format!("missing field `{missing}`")),
            _ => (pointer.to_owned(), not_valid(pointer, instance)),
        },
    }
}

fn options_list(options: &Value) -> String {
    let words = options.as_array().into_iter().flatten().map(|word| format!("`{}`", word.as_str().unwrap_or("…")));
    format!("one of {}", words.collect::<Vec<_>>().join(", "))
}

fn type_name(kind: &TypeKind) -> String {
    let name = |t: &jsonschema::JsonType| match t {
        jsonschema::JsonType::Array => "a list",
        jsonschema::JsonType::Boolean => "true or false",
        jsonschema::JsonType::Integer => "a whole number",
        jsonschema::JsonType::Null => "nothing",
        jsonschema::JsonType::Number => "a number",
        jsonschema::JsonType::Object => "a mapping",
        jsonschema::JsonType::String => "text",
    };
    match kind {
        TypeKind::Single(single) => name(single).to_owned(),
        TypeKind::Multiple(several) => {
            let words: Vec<&str> =
                several.iter().filter(|t| *t != jsonschema::JsonType::Null).map(|t| name(&t)).collect();
            words.join(" or ")
        }
    }
}

fn shown(value: &Value) -> String {
    match value {
        Value::String(text) => format!("`{text}`"),
        Value::Object(_) => "a mapping".to_owned(),
        Value::Array(_) => "a list".to_owned(),
        Value::Null => "nothing".to_owned(),
        other => format!("`{other}`"),
    }
}

/// The schema object that holds the keyword at `path` (`/properties/load/oneOf` gives the schema of `load`).
fn schema_at<'a>(schema: &'a Value, path: &str) -> Option<&'a Value> {
    let (parent, _keyword) = path.rsplit_once('/')?;
    let mut at = schema;
    for part in parent.split('/').skip(1) {
        let part = part.replace("~1", "/").replace("~0", "~");
        at = match at {
            Value::Object(object) => object.get(&part)?,
            Value::Array(items) => items.get(part.parse::<usize>().ok()?)?,
            _ => return None,
        };
        at = follow(at, schema);
    }
    Some(at)
}

fn follow<'a>(at: &'a Value, schema: &'a Value) -> &'a Value {
    match at.get("$ref").and_then(Value::as_str).and_then(|r| r.strip_prefix('#')) {
        Some(pointer) => schema.pointer(pointer).unwrap_or(at),
        None => at,
    }
}

/// What a schema says its values look like.
fn expected_by(at: &Value, schema: &Value) -> Option<String> {
    let at = follow(at, schema);
    at.get("description").and_then(Value::as_str).map(str::to_owned)
}
