//! Why a document could not be read.

use std::io;

use crate::Format;

/// Why a document could not be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// There is nothing in it.
    #[error("the document is empty; expected JUnit XML, Robot Framework output.xml or output.json")]
    Empty,
    /// It is something else.
    #[error(
        "the document is {found}, not {}; expected the root element <testsuites>, <testsuite> or <robot>, or Robot's output.json",
        asked.map_or("a format that Kennel knows", Format::title)
    )]
    WrongFormat {
        /// What was asked for.
        asked: Option<Format>,
        /// What begins the document.
        found: String,
    },
    /// It breaks the rules of XML.
    #[error("line {line} (byte {offset}): {why}")]
    Malformed {
        /// Where, from 1.
        line: u64,
        /// Where, in bytes from the beginning.
        offset: u64,
        /// What is wrong.
        why: String,
    },
    /// It ends too early.
    #[error("line {line}: the document ends within <{element}>; it was cut off, or its tool still writes to it")]
    Truncated {
        /// The last line.
        line: u64,
        /// The innermost open element.
        element: String,
    },
    /// It declares a document type.
    #[error(
        "line {line}: <!DOCTYPE> is refused: it may declare entities; remove it, no tool that writes results needs it"
    )]
    Doctype {
        /// Where.
        line: u64,
    },
    /// It refers to an entity other than the five that XML has by itself.
    #[error(
        "line {line}: the entity &{name}; is refused; only &amp; &lt; &gt; &quot; &apos; and character numbers are read"
    )]
    Entity {
        /// Where.
        line: u64,
        /// The entity's name.
        name: String,
    },
    /// It is in an encoding that is not read.
    #[error("the document says that it is in {encoding}; save it as UTF-8")]
    Encoding {
        /// The encoding's name.
        encoding: String,
    },
    /// Elements lie too deep in each other.
    #[error("line {line}: more than {limit} elements within each other")]
    TooDeep {
        /// Where.
        line: u64,
        /// The most that are read.
        limit: usize,
    },
    /// An element has too many attributes.
    #[error("line {line}: more than {limit} attributes on one element")]
    TooManyAttributes {
        /// Where.
        line: u64,
        /// The most that are read.
        limit: usize,
    },
    /// It is too large.
    #[error("the document has more than {} MB; split it by suite", limit / 1_000_000)]
    TooLarge {
        /// The most bytes that are read.
        limit: u64,
    },
    /// It holds too many results.
    #[error("the document has more than {limit} results; split it by suite")]
    TooManyCases {
        /// The most that are read.
        limit: usize,
    },
    /// Its JSON cannot be read.
    #[error("line {line}, column {column}: {why}")]
    Json {
        /// Where, from 1.
        line: usize,
        /// Where, from 1.
        column: usize,
        /// What is wrong.
        why: String,
    },
    /// It could not be read from where it lies.
    #[error("the document could not be read: {0}")]
    Io(#[from] io::Error),
}
