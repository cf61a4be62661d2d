//! The tests of this crate as text: which there are, and what each one writes out, so that a test can tell what no other
//! one proves.

use std::collections::{BTreeMap, BTreeSet};

/// The tests of one file.
pub struct TestFile {
    /// For example `kv.rs`.
    pub name: String,
    text: String,
}

/// Every file of tests, by name.
pub fn test_files() -> Vec<TestFile> {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests");
    let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let mut files: Vec<TestFile> = entries
        .filter(|path| path.extension().is_some_and(|ending| ending == "rs"))
        .map(|path| TestFile {
            name: path.file_name().unwrap().to_string_lossy().into_owned(),
            text: std::fs::read_to_string(&path).unwrap(),
        })
        .collect();
    files.sort_by(|a, b| a.name.cmp(&b.name));
    files
}

impl TestFile {
    /// The functions that run as tests.
    pub fn tests(&self) -> BTreeSet<&str> {
        let functions = self.functions();
        let both: Vec<&str> = self
            .text
            .split("on_both_tiers! {")
            .skip(1)
            .filter_map(|rest| rest.split('}').next())
            .flat_map(str::split_whitespace)
            .collect();
        functions
            .keys()
            .copied()
            .filter(|name| both.contains(name) || self.text.contains(&format!("test]\nasync fn {name}(")))
            .collect()
    }

    /// What a test writes out, itself and through the functions of its file that it names.
    pub fn written_out(&self, test: &str) -> String {
        let functions = self.functions();
        let (mut seen, mut waiting, mut text) = (BTreeSet::new(), vec![test], String::new());
        while let Some(name) = waiting.pop() {
            let Some(body) = functions.get(name).filter(|_| seen.insert(name)) else { continue };
            text.push_str(body);
            waiting.extend(
                body.split(|c: char| !c.is_alphanumeric() && c != '_').filter(|word| functions.contains_key(word)),
            );
        }
        text
    }

    /// Each function by name, those of `impl` blocks too: rustfmt ends it with a brace below its first letter.
    fn functions(&self) -> BTreeMap<&str, &str> {
        let (mut found, mut at) = (BTreeMap::new(), 0);
        for line in self.text.split_inclusive('\n') {
            let words = line.trim_start();
            let margin = &line[..line.len() - words.len()];
            let head = words.split('(').next().unwrap_or_default();
            if let Some((before, name)) = head.split_once("fn ")
                && before.split_whitespace().all(|word| ["pub", "async", "const"].contains(&word))
            {
                let name = name.split('<').next().unwrap_or_default();
                let rest = &self.text[at..];
                let end = rest.find(&format!("\n{margin}}}")).map_or(rest.len(), |end| end + margin.len() + 2);
                found.insert(name, &rest[..end]);
            }
            at += line.len();
        }
        found
    }
}
