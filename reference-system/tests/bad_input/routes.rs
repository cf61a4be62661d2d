//! The routes that the sources name.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// A role, a method and a path as in the router.
pub(crate) type Route = (String, String, String);

/// Routes that several roles have: how their sources say so, and where the routes are.
const SHARED: [(&str, &str); 4] = [
    ("dead_letters::routes(", "bus/dead_letters.rs"),
    (".merge(inbox(", "bus/subscription.rs"),
    ("dal::reads(", "roles/dal.rs"),
    ("endpoints::routes(", "migration/endpoints.rs"),
];
const FRAME: &str = "frame.rs";

fn source(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn files(folder: &Path, all: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).expect("the sources") {
        let path = entry.expect("a file").path();
        if path.is_dir() {
            files(&path, all);
        } else if path.extension().is_some_and(|ending| ending == "rs") {
            all.push(path);
        }
    }
}

/// What runs: no test.
fn running(text: &str) -> &str {
    text.split("#[cfg(test)]").next().unwrap_or_default()
}

/// Every route of every role. Those of every role are the frame's.
pub(crate) fn in_the_sources() -> BTreeSet<Route> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut all = Vec::new();
    files(&root, &mut all);
    let mut routes = BTreeSet::new();
    for path in all {
        let text = source(&path);
        let name = path.strip_prefix(&root).expect("below src").to_string_lossy().replace('\\', "/");
        let role = if name == FRAME {
            "frame".to_owned()
        } else if SHARED.iter().any(|(_, shared)| *shared == name) {
            continue;
        } else if let Some(role) = name.strip_prefix("roles/") {
            role.split(['/', '.']).next().unwrap_or_default().replace('_', "-")
        } else {
            assert!(!running(&text).contains(".route("), "{name} has routes: whose are they?");
            continue;
        };
        let of_role = |(method, path)| (role.clone(), method, path);
        routes.extend(named_in(&text).into_iter().map(of_role));
        for (merged, shared) in SHARED {
            if text.contains(merged) {
                routes.extend(named_in(&source(&root.join(shared))).into_iter().map(of_role));
            }
        }
    }
    routes
}

/// Methods and paths in `.route("PATH", get(…).put(…))`.
fn named_in(text: &str) -> Vec<(String, String)> {
    let mut routes = Vec::new();
    for call in running(text).split(".route(").skip(1) {
        let path = call.trim_start().strip_prefix('"').and_then(|rest| rest.split_once('"'));
        let (path, rest) =
            path.unwrap_or_else(|| panic!("a route without a path: {}", call.chars().take(40).collect::<String>()));
        let mut depth = 1;
        let end = rest.find(|c| {
            depth += i32::from(c == '(') - i32::from(c == ')');
            depth == 0
        });
        let handlers = &rest[..end.unwrap_or(rest.len())];
        let before = routes.len();
        for part in handlers.split('(') {
            let word = part.rsplit(|c: char| !c.is_alphanumeric() && c != '_').next().unwrap_or_default();
            // The last two are what the gateway does with a request.
            let method = match word {
                "get" | "read" => "GET",
                "post" | "write" => "POST",
                "put" => "PUT",
                "delete" => "DELETE",
                _ => continue,
            };
            routes.push((method.to_owned(), path.to_owned()));
        }
        assert!(routes.len() > before, "{path} is routed by no method that is known here: {handlers}");
    }
    routes
}
