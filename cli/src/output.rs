//! What commands write: results on standard output, news on standard error.

use std::io::Write as _;

use serde::Serialize;

/// Prints a result on standard output. A closed pipe is the reader's choice.
pub(crate) fn print(text: &str) {
    let _ = writeln!(std::io::stdout().lock(), "{text}");
}

/// Tells a person what is going on; results go to standard output.
pub(crate) fn say(text: &str) {
    let _ = writeln!(std::io::stderr().lock(), "{text}");
}

/// Prints a result as JSON.
pub(crate) fn print_json<T: Serialize>(value: &T) {
    print(&serde_json::to_string_pretty(value).unwrap_or_default());
}
