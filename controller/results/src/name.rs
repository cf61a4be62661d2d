//! Which test a result belongs to.

use crate::TestName;
use crate::captured::clean;
use crate::fingerprint::digest;

/// Longest name, class or parameters, in bytes; longer ones end in a digest of the whole.
const LONGEST: usize = 1_000;

impl TestName {
    /// A test's name from what its tool says; `name[parameters]` is taken apart.
    pub(crate) fn new(class: &str, name: &str) -> Self {
        let name = tidy(name);
        let (name, parameters) = match parameters(&name) {
            Some((name, parameters)) => (name.to_owned(), parameters.to_owned()),
            None => (name, String::new()),
        };
        Self { class: fit(tidy(class)), name: fit(name), parameters: fit(parameters) }
    }

    /// The name as its tool would write it.
    #[must_use]
    pub fn full_name(&self) -> String {
        if self.parameters.is_empty() { self.name.clone() } else { format!("{}[{}]", self.name, self.parameters) }
    }
}

/// One line without what a screen cannot show.
fn tidy(text: &str) -> String {
    let text = clean(text.trim());
    if text.contains(['\n', '\t']) { text.split_whitespace().collect::<Vec<_>>().join(" ") } else { text.into_owned() }
}

/// Cuts a text that is too long, so that different texts stay different.
fn fit(mut text: String) -> String {
    if text.len() > LONGEST {
        let digest = digest(&text);
        text.truncate(text.floor_char_boundary(LONGEST - 20));
        text.push('…');
        text.push_str(&digest);
    }
    text
}

/// Takes `name[parameters]` apart: at the bracket that the last one closes, or at the first where they do not match.
fn parameters(name: &str) -> Option<(&str, &str)> {
    let inner = name.strip_suffix(']')?;
    let mut depth = 0_usize;
    let mut start = inner.find('[')?;
    for (at, c) in inner.char_indices().rev() {
        match c {
            ']' => depth += 1,
            '[' if depth == 0 => {
                start = at;
                break;
            }
            '[' => depth -= 1,
            _ => {}
        }
    }
    let (before, after) = (&inner[..start], &inner[start + 1..]);
    // A word in brackets after a sentence is part of the sentence.
    (!before.is_empty() && !after.is_empty() && !before.ends_with(char::is_whitespace)).then_some((before, after))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn parameters_are_taken_apart_from_the_name() {
        for (written, name, parameters) in [
            ("test_add[1-2-3]", "test_add", "1-2-3"),
            ("test_add", "test_add", ""),
            ("test_path[a[0]]", "test_path", "a[0]"),
            ("adds(int, int)[1]", "adds(int, int)", "1"),
            ("[3] x=1", "[3] x=1", ""),
            ("[only]", "[only]", ""),
            ("refuses bad input [smoke]", "refuses bad input [smoke]", ""),
            ("test_text[]", "test_text[]", ""),
        ] {
            let test = TestName::new("c", written);
            assert_eq!((test.name.as_str(), test.parameters.as_str()), (name, parameters), "{written}");
        }
    }

    #[test]
    fn long_names_are_cut_and_stay_apart() {
        let (a, b) = (TestName::new("", &"x".repeat(5_000)), TestName::new("", &"x".repeat(5_001)));
        assert!(a.name.len() <= LONGEST + 10);
        assert_ne!(a, b);
    }

    proptest! {
        #[test]
        fn taking_apart_loses_nothing(name in "[a-z \\[\\]]{1,20}") {
            let name = name.trim().to_owned();
            let test = TestName::new("", &name);
            prop_assert_eq!(test.full_name(), name);
        }
    }
}
