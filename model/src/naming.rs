//! The `name` within a file, under which it is kept: which names do, reading it, and writing another in its place.

use saphyr::{LoadableYamlNode as _, MarkedYaml, Scalar, YamlData};

use crate::api::FileKind;

/// Longest name, in characters.
pub const LONGEST_NAME: usize = 200;

/// What a name must be; shown to users beside a bad one.
pub const NAME_EXPECTED: &str =
    "1 to 200 printable characters on one line, without spaces at the ends, and neither `.` nor `..`";

/// Why a file cannot be kept under a name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{name:?} cannot be the name of a file: expected {NAME_EXPECTED}")]
pub struct NameError {
    /// The name.
    pub name: String,
}

/// Checks that a file can be kept, found by its address and read on a screen under this name.
///
/// # Errors
/// When it is empty, too long, a step in a path, or holds what no screen shows.
pub fn check_name(name: &str) -> Result<(), NameError> {
    let hidden = |c: char| {
        c.is_control()
            // Marks that turn the direction of text, and marks without width: two names would look the same.
            || matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}')
    };
    let unfit = name.is_empty()
        || name.chars().count() > LONGEST_NAME
        || name.trim() != name
        || matches!(name, "." | "..")
        || name.chars().any(hidden);
    if unfit { Err(NameError { name: name.to_owned() }) } else { Ok(()) }
}

/// The text of a field at the top of a file, if it is there.
#[must_use]
pub fn field(source: &str, field: &str) -> Option<String> {
    let nodes = MarkedYaml::load_from_str(source).ok()?;
    text(value(nodes.first()?, field)?)
}

/// The file with another `name`; everything else, comments too, stays as it is. `None` when it has no plain name.
#[must_use]
pub fn renamed(source: &str, name: &str) -> Option<String> {
    let nodes = MarkedYaml::load_from_str(source).ok()?;
    let node = value(nodes.first()?, "name")?;
    text(node)?;
    replaced(source, node, name)
}

/// A file of kind `holder` that refers to the file `from` of `kind` as it says `to` instead; everything else stays as it
/// is. `None` when it does not refer to it.
#[must_use]
pub fn referring_to(source: &str, holder: FileKind, kind: FileKind, (from, to): (&str, &str)) -> Option<String> {
    let nodes = MarkedYaml::load_from_str(source).ok()?;
    let top = nodes.first()?;
    let mut found = Vec::new();
    match (holder, kind) {
        (FileKind::Experiment | FileKind::Suite, FileKind::Target) => found.extend(value(top, "target")),
        (FileKind::Suite, FileKind::Experiment) => steps(top, &mut found),
        _ => {}
    }
    found.retain(|node| text(node).as_deref() == Some(from));
    // From the end, so that the places of those before it stay.
    found.sort_by_key(|node| std::cmp::Reverse(node.span.start.index()));
    let mut changed = (!found.is_empty()).then(|| source.to_owned())?;
    for node in found {
        changed = replaced(&changed, node, to)?;
    }
    Some(changed)
}

/// What the steps below a node say for `experiment`.
fn steps<'a, 'input>(node: &'a MarkedYaml<'input>, found: &mut Vec<&'a MarkedYaml<'input>>) {
    for part in ["set_up", "steps", "parallel", "tear_down"] {
        let Some(YamlData::Sequence(listed)) = value(node, part).map(|node| &node.data) else { continue };
        for step in listed {
            found.extend(value(step, "experiment"));
            steps(step, found);
        }
    }
}

/// The text with another scalar in a node's place.
fn replaced(source: &str, node: &MarkedYaml<'_>, name: &str) -> Option<String> {
    let place = |index: usize| source.char_indices().nth(index).map_or(source.len(), |(at, _)| at);
    let (start, end) = (place(node.span.start.index()), place(node.span.end.index()));
    // A scalar's span may reach over the space and the comment behind it.
    let spanned = source.get(start..end)?;
    let end = start + quoted_length(spanned).unwrap_or_else(|| spanned.trim_end().len());
    // JSON text is YAML text; it needs no quotes in the eyes of a reader only when it is a plain word.
    let plain = name.starts_with(|c: char| c.is_alphabetic())
        && name.chars().all(|c| c.is_alphanumeric() || "-_. ".contains(c))
        && MarkedYaml::load_from_str(name).ok()?.first().and_then(text).is_some_and(|read| read == name);
    let written = if plain { name.to_owned() } else { serde_json::Value::from(name).to_string() };
    Some(format!("{}{written}{}", &source[..start], &source[end..]))
}

/// Length in bytes of the quoted scalar that a text begins with, quotes included; `None` for a plain one.
fn quoted_length(text: &str) -> Option<usize> {
    let quote = text.chars().next().filter(|first| ['"', '\''].contains(first))?;
    let mut rest = text.char_indices().skip(1).peekable();
    while let Some((at, c)) = rest.next() {
        if c == '\\' && quote == '"' {
            rest.next();
        } else if c == quote {
            // Within single quotes a doubled one stands for itself.
            if quote == '\'' && rest.peek().is_some_and(|(_, next)| *next == quote) {
                rest.next();
            } else {
                return Some(at + 1);
            }
        }
    }
    None
}

fn value<'a, 'input>(node: &'a MarkedYaml<'input>, field: &str) -> Option<&'a MarkedYaml<'input>> {
    let YamlData::Mapping(fields) = &node.data else { return None };
    fields.iter().find(|(key, _)| text(key).as_deref() == Some(field)).map(|(_, value)| value)
}

fn text(node: &MarkedYaml<'_>) -> Option<String> {
    match &node.data {
        YamlData::Value(Scalar::String(text)) => Some(text.to_string()),
        YamlData::Representation(text, ..) => Some(text.to_string()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn names_that_cannot_be_addressed_or_seen_are_refused() {
        for name in ["", " ", " a", "a ", ".", "..", "a\nb", "a\u{0}", "a\u{202e}b", &"x".repeat(201)] {
            assert!(check_name(name).is_err(), "{name:?}");
        }
        for name in ["a", "a/b", "../etc/passwd", "été 7 %2F", "<script>", "🐕", "a?b#c&d", &"é".repeat(200)] {
            assert_eq!(check_name(name), Ok(()), "{name:?}");
        }
    }

    #[test]
    fn another_name_leaves_the_rest_as_it_was() {
        let source = "# é first\nversion: 1\nname:   old one   # why\ndescription: name\n";
        assert_eq!(
            renamed(source, "new one").as_deref(),
            Some("# é first\nversion: 1\nname:   new one   # why\ndescription: name\n")
        );
        assert_eq!(renamed("{name: 'a', x: 1}", "b: c").as_deref(), Some("{name: \"b: c\", x: 1}"));
        assert_eq!(renamed("name: x", "true").as_deref(), Some("name: \"true\""));
        assert_eq!(renamed("x: 1", "b"), None);
        assert_eq!(renamed("name: [a]", "b"), None);
    }

    #[test]
    fn a_field_is_read_from_a_file_that_is_not_valid() {
        assert_eq!(field("name: a\ndescription: >-\n  two\n  lines\n", "description").as_deref(), Some("two lines"));
        assert_eq!(field("name: [", "name"), None);
    }

    #[test]
    fn what_refers_to_a_file_follows_its_name() {
        let suite = "name: pay\ntarget: pay\nset_up: [{experiment: 'pay'}]\nsteps:\n  - {name: pay, experiment: pay} # pay\n  \
                     - parallel:\n      - experiment: \"pay\" # é\n      - {experiment: other}\n  - {name: w, command: pay}\n";
        let follow = |kind| referring_to(suite, FileKind::Suite, kind, ("pay", "pay: now"));
        assert_eq!(
            follow(FileKind::Experiment).unwrap(),
            "name: pay\ntarget: pay\nset_up: [{experiment: \"pay: now\"}]\nsteps:\n  - {name: pay, experiment: \"pay: now\"} # pay\n  \
             - parallel:\n      - experiment: \"pay: now\" # é\n      - {experiment: other}\n  - {name: w, command: pay}\n"
        );
        assert!(follow(FileKind::Target).unwrap().starts_with("name: pay\ntarget: \"pay: now\"\nset_up"));
        assert_eq!(follow(FileKind::Suite), None);
        assert_eq!(referring_to(suite, FileKind::Suite, FileKind::Experiment, ("none", "b")), None);
        assert_eq!(referring_to("target: {name: a}\n", FileKind::Experiment, FileKind::Target, ("a", "b")), None);
    }

    proptest! {
        #[test]
        fn a_new_name_reads_back(old in "[a-z'\" é]{1,12}", new in "\\PC{1,30}") {
            prop_assume!(check_name(&new).is_ok() && !old.trim().is_empty());
            let source = format!("# top\nversion: 1\nname: {} # end\nlast: 2\n", serde_json::Value::from(old));
            let changed = renamed(&source, &new).expect("a name");
            prop_assert_eq!(field(&changed, "name"), Some(new));
            prop_assert!(changed.starts_with("# top\nversion: 1\nname: ") && changed.ends_with(" # end\nlast: 2\n"));
        }
    }
}
