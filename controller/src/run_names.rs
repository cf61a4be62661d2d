//! How people name a run: by its id, the id's unique beginning or end, `last`, or `last-N`.

use kennel_model::RunId;

use crate::FindError;

/// What a text says of a run.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Named {
    /// So many runs before the last one.
    Back(u32),
    /// Some of the id's digits.
    Digits(String),
}

/// Reads what names a run.
pub(crate) fn read(text: &str) -> Result<Named, FindError> {
    let text = text.trim();
    let not_found = || FindError::NotFound { text: text.to_owned() };
    match text.strip_prefix("last") {
        Some("") => return Ok(Named::Back(0)),
        Some(rest) => {
            let back = rest.strip_prefix('-').and_then(|n| n.parse().ok());
            return back.map(Named::Back).ok_or_else(not_found);
        }
        None => {}
    }
    let digits = text.replace('-', "").to_ascii_lowercase();
    if digits.is_empty() || !digits.bytes().all(|digit| digit.is_ascii_hexdigit()) {
        return Err(not_found());
    }
    Ok(Named::Digits(digits))
}

/// The one run that a text names, of those that it could be.
pub(crate) fn only(text: &str, matches: Vec<RunId>) -> Result<RunId, FindError> {
    match matches.as_slice() {
        [] => Err(FindError::NotFound { text: text.trim().to_owned() }),
        [run] => Ok(*run),
        _ => Err(FindError::Ambiguous { text: text.trim().to_owned(), matches }),
    }
}
