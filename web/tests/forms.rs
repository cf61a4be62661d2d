//! Every form and every script that changes something shows that it comes from these pages.

use std::fs;
use std::path::{Path, PathBuf};

/// Files under a folder of this crate with this ending.
fn files(folder: &str, ending: &str) -> Vec<PathBuf> {
    fn walk(folder: &Path, ending: &str, found: &mut Vec<PathBuf>) {
        for entry in fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("an entry").path()) {
            if entry.is_dir() {
                walk(&entry, ending, found);
            } else if entry.extension().is_some_and(|found| found == ending) {
                found.push(entry);
            }
        }
    }
    let mut found = Vec::new();
    walk(&Path::new(env!("CARGO_MANIFEST_DIR")).join(folder), ending, &mut found);
    assert!(!found.is_empty(), "no .{ending} file in {folder}");
    found
}

const INCLUDE: &str = "{% include \"parts/csrf.html\" %}";

/// What is wrong with the forms of a template.
fn faults(template: &str) -> Vec<String> {
    let mut faults = Vec::new();
    for form in template.split("<form").skip(1) {
        let (tag, rest) = form.split_once('>').unwrap_or((form, ""));
        if !tag.to_ascii_lowercase().contains("method=\"post\"") {
            continue;
        }
        let body = rest.split("</form>").next().unwrap_or(rest).trim_start();
        if !body.starts_with(INCLUDE) {
            faults.push(format!("<form{tag}> must begin with {INCLUDE}"));
        }
    }
    faults
}

#[test]
fn every_form_that_posts_begins_with_the_token() {
    let mut wrong = Vec::new();
    for path in files("templates", "html") {
        let text = fs::read_to_string(&path).expect("a template");
        wrong.extend(faults(&text).into_iter().map(|fault| format!("{}: {fault}", path.display())));
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn a_form_without_the_token_is_found() {
    assert_eq!(faults("<form method=\"get\"></form>"), Vec::<String>::new());
    assert_eq!(faults(&format!("<form action=\"/a\" method=\"post\">\n{INCLUDE}<button>Go</button></form>")).len(), 0);
    assert_eq!(faults(&format!("<form method=\"post\"><button>Go</button></form><form>{INCLUDE}</form>")).len(), 1);
    assert_eq!(faults(&format!("<form method=\"POST\"><input name=\"a\">{INCLUDE}</form>")).len(), 1);
}

#[test]
fn every_script_that_changes_something_sends_the_token() {
    let writes = ["POST", "PUT", "PATCH", "DELETE"].map(|method| format!("method: \"{method}\""));
    for path in files("static", "js") {
        let text = fs::read_to_string(&path).expect("a script");
        let code = text.lines().filter(|line| !line.trim_start().starts_with("//"));
        for line in code.filter(|line| writes.iter().any(|write| line.contains(write))) {
            assert!(
                text.contains("/csrf.js\""),
                "{}: `{}` must send `headers: csrf()` of ./csrf.js",
                path.display(),
                line.trim()
            );
        }
    }
}
