//! Names of accounts: one spelling for each, harmless in logs, addresses and pages.

/// Longest name, in bytes.
pub const LONGEST: usize = 64;

/// Names that the audit log uses for those who are no account.
const RESERVED: [&str; 6] = ["local", "nobody", "anonymous", "kennel", "system", "schedule"];

/// A text that can be no account's name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WrongName {
    /// Empty or too long.
    #[error("a name has 1 to {LONGEST} characters; this one has {length}")]
    Length {
        /// Characters given.
        length: usize,
    },
    /// Something that no name holds.
    #[error(
        "a name begins with a letter or digit and holds letters, digits and . _ - + @ only, which `{}` does not",
        text.escape_debug()
    )]
    Characters {
        /// What was given.
        text: String,
    },
    /// A name with a meaning of its own.
    #[error("`{name}` is what the audit log calls those without an account; choose another name")]
    Reserved {
        /// The name.
        name: String,
    },
}

/// Brings a name into its one spelling: without spaces around it, in lower case.
///
/// # Errors
/// When it is no name that an account may have.
pub fn spell(text: &str) -> Result<String, WrongName> {
    let name = text.trim().to_lowercase();
    let length = name.chars().count();
    if length == 0 || name.len() > LONGEST {
        return Err(WrongName::Length { length });
    }
    let plain = |c: char| c.is_ascii_alphanumeric();
    if !name.starts_with(plain) || !name.chars().all(|c| plain(c) || "._-+@".contains(c)) {
        return Err(WrongName::Characters { text: text.to_owned() });
    }
    if RESERVED.contains(&name.as_str()) {
        return Err(WrongName::Reserved { name });
    }
    Ok(name)
}

/// A name made of what a sign-on provider calls somebody; what no name may hold becomes a dash.
#[must_use]
pub fn made_from(text: &str) -> String {
    let kept = text.trim().to_lowercase();
    let kept: String =
        kept.chars().map(|c| if c.is_ascii_alphanumeric() || "._-+@".contains(c) { c } else { '-' }).collect();
    let kept: String =
        kept.trim_start_matches(|c: char| !c.is_ascii_alphanumeric()).chars().take(LONGEST - 4).collect();
    match spell(&kept) {
        Ok(name) => name,
        Err(WrongName::Reserved { name }) => format!("{name}-1"),
        Err(_) => "person".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_name_has_one_spelling() {
        for text in ["Ann", " ann ", "ANN"] {
            assert_eq!(spell(text).unwrap(), "ann");
        }
        assert_eq!(spell("ann.lee+qa@example.org").unwrap(), "ann.lee+qa@example.org");
    }

    #[test]
    fn what_is_no_name_is_told_with_what_was_given() {
        assert_eq!(spell(" ").unwrap_err().to_string(), "a name has 1 to 64 characters; this one has 0");
        for text in ["a b", "<b>", "a\nb", "-a", "../a", "a/b", "ä", "a\u{202e}b"] {
            assert!(matches!(spell(text), Err(WrongName::Characters { .. })), "{text:?}");
        }
        assert!(spell("a\nb").unwrap_err().to_string().contains("`a\\nb`"), "control characters are not echoed raw");
        assert!(spell("Local").unwrap_err().to_string().contains("choose another name"));
    }

    proptest! {
        #[test]
        fn whatever_a_provider_says_becomes_a_name(text in ".{0,100}") {
            let name = made_from(&text);
            prop_assert_eq!(spell(&name).unwrap(), name);
        }
    }
}
