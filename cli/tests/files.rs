//! `kennel file …`: kept files from the command line.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test may fail at any line")]

mod support;

use support::{Kennel, text};

const TARGET: &str = "# ours\nname: 'shop / eu'\nbase_url: http://127.0.0.1:9\nallowed_hosts: ['127.0.0.1']\n";

#[test]
fn files_are_put_listed_read_and_compared_from_the_command_line() {
    let kennel = Kennel::new();
    let first = kennel.file("first.yaml", TARGET);
    let second = kennel.file("second.yaml", &format!("{TARGET}limits: {{ max_rate: 5/s }}\n"));
    assert_eq!(kennel.expect(0, &["file", "list", "target"]).trim(), "none");
    let said = kennel.expect(0, &["file", "put", "target", "shop / eu", first.to_str().unwrap(), "-m", "begin"]);
    assert_eq!(said.trim(), "saved target `shop / eu` as version 1");
    let second = second.to_str().unwrap();
    kennel.expect(0, &["file", "put", "target", "shop / eu", second, "--expected", "1"]);
    let again = kennel.run(&["file", "put", "target", "shop / eu", first.to_str().unwrap(), "--expected", "1"]);
    assert_ne!(again.status.code(), Some(0));
    assert!(text(&again.stderr).contains("saved version 2"), "{}", text(&again.stderr));

    let list = kennel.expect(0, &["file", "list", "target"]);
    assert!(list.contains("shop / eu") && list.contains('2'), "{list}");
    assert!(kennel.expect(0, &["file", "get", "target", "shop / eu"]).contains("max_rate"));
    assert_eq!(kennel.expect(0, &["file", "get", "target", "shop / eu", "--version", "1"]).trim(), TARGET.trim());
    let history = kennel.expect(0, &["file", "history", "target", "shop / eu"]);
    assert!(history.contains("begin"), "{history}");
    let diff = kennel.expect(0, &["file", "diff", "target", "shop / eu"]);
    assert!(diff.contains("+limits: { max_rate: 5/s }"), "{diff}");

    let wrong = kennel.file("wrong.yaml", "name: wrong\nbase_url: nowhere\nallowed_hosts: ['127.0.0.1']\n");
    let refused = kennel.run(&["file", "put", "target", "wrong", wrong.to_str().unwrap()]);
    assert_eq!(refused.status.code(), Some(2));
    assert!(text(&refused.stderr).contains("2:1: base_url"), "{}", text(&refused.stderr));
    let missing = kennel.run(&["file", "get", "target", "nothing"]);
    assert_eq!(missing.status.code(), Some(2));
    assert!(text(&missing.stderr).contains("no target named `nothing`"), "{}", text(&missing.stderr));
}
