//! The experiments that ship with Kennel, embedded in the binary.

/// An experiment of the library.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LibraryFile {
    /// Its short name.
    pub name: &'static str,
    /// What it is for, in a sentence.
    pub description: &'static str,
    /// The file's text.
    pub source: &'static str,
}

/// Every experiment of the library.
pub const EXPERIMENTS: &[LibraryFile] = &[LibraryFile {
    name: "demo",
    description: "A minute of orders on the reference system while a link slows down, an order service dies and another vanishes from the registry",
    source: include_str!("../library/experiments/demo.yaml"),
}];
