//! What two failures have in common: their message without what changes from run to run.
//!
//! Left out are numbers, hexadecimal ids, UUIDs, moments, network addresses, the folders of paths, and quoted parts
//! that look like data (with a digit, a path or an address in them, or long). Words stay.

use sha2::{Digest as _, Sha256};

use crate::captured::{clean, clip};

/// Lines of a message that count: further ones are stack and context.
const LINES: usize = 4;
/// Bytes of a normalised message that count.
const LONGEST: usize = 600;
/// Quoted parts longer than this are data.
const LONG_QUOTE: usize = 40;

/// The fingerprint of a failure's message: equal for messages that differ in nothing but variable parts.
#[must_use]
pub fn fingerprint(message: &str) -> String {
    digest(&normalised(message))
}

/// Sixteen hexadecimal digits of a text's SHA-256.
pub(crate) fn digest(text: &str) -> String {
    Sha256::digest(text.as_bytes()).iter().take(8).map(|byte| format!("{byte:02x}")).collect()
}

/// A message without its variable parts.
#[must_use]
pub fn normalised(message: &str) -> String {
    let text = clean(message);
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty()).take(LINES);
    let lines: Vec<String> = lines.map(|line| normalised_line(&clip(line, 4 * LONGEST))).collect();
    clip(&lines.join("\n"), LONGEST).into_owned()
}

fn normalised_line(line: &str) -> String {
    let mut out = String::with_capacity(line.len());
    let mut rest = line;
    let mut before = ' ';
    while let Some(c) = rest.chars().next() {
        if !before.is_alphanumeric()
            && let Some((quoted, after)) = quoted(rest)
        {
            let inner = &quoted[c.len_utf8()..quoted.len() - c.len_utf8()];
            if looks_like_data(inner) {
                out.push_str("'…'");
            } else {
                out.push(c);
                out.push_str(&normalised_line(inner));
                out.push(c);
            }
            (rest, before) = (after, c);
        } else if is_separator(c) {
            if !(c.is_whitespace() && out.ends_with(' ')) {
                out.push(if c.is_whitespace() { ' ' } else { c });
            }
            (rest, before) = (&rest[c.len_utf8()..], c);
        } else {
            let end = rest.find(is_separator).unwrap_or(rest.len());
            let (word, after) = rest.split_at(end);
            let word_out = normalised_word(word);
            // A date and a time of day are one moment.
            if word_out.starts_with("<time>") && out.ends_with("<time> ") {
                out.truncate(out.len() - "<time> ".len());
            }
            out.push_str(&word_out);
            // Some write a comma before the fraction of a second.
            let after = match after.strip_prefix(',') {
                Some(more) if word_out.ends_with("<time>") && more.starts_with(|c: char| c.is_ascii_digit()) => {
                    more.trim_start_matches(|c: char| c.is_ascii_digit())
                }
                _ => after,
            };
            (rest, before) = (after, word.chars().next_back().unwrap_or(' '));
        }
    }
    out
}

fn is_separator(c: char) -> bool {
    c.is_whitespace()
        || matches!(c, ',' | ';' | '(' | ')' | '[' | ']' | '{' | '}' | '<' | '>' | '"' | '\'' | '`' | '=' | '|')
}

/// The quoted part that a text begins with, and what follows it.
fn quoted(text: &str) -> Option<(&str, &str)> {
    let quote = text.chars().next().filter(|c| matches!(c, '"' | '\'' | '`'))?;
    let inner = &text[1..];
    let mut from = 0;
    loop {
        let at = from + inner[from..].find(quote)?;
        let after = &inner[at + 1..];
        // Not the apostrophe of a word.
        if !after.starts_with(char::is_alphanumeric) {
            return Some((&text[..at + 2], after));
        }
        from = at + 1;
    }
}

fn looks_like_data(quoted: &str) -> bool {
    quoted.len() > LONG_QUOTE || quoted.contains(|c: char| c.is_ascii_digit() || matches!(c, '/' | '\\' | '@' | '…'))
}

fn normalised_word(word: &str) -> String {
    if let Some((scheme, _)) = word.split_once("://")
        && !scheme.is_empty()
        && scheme.bytes().all(|byte| byte.is_ascii_alphanumeric())
    {
        return "<url>".to_owned();
    }
    let separator = if word.contains('/') { '/' } else { '\\' };
    if word.matches(separator).count() >= 3 && !is_dated(word) {
        let (_, last) = word.rsplit_once(separator).unwrap_or(("", word));
        return format!("<path>/{}", variable_parts(last));
    }
    variable_parts(word)
}

fn is_dated(word: &str) -> bool {
    moment(word.as_bytes()) > 0
}

/// Replaces the variable parts within a word.
fn variable_parts(word: &str) -> String {
    let bytes = word.as_bytes();
    let mut out = String::with_capacity(word.len());
    let mut at = 0;
    while at < bytes.len() {
        let rest = &bytes[at..];
        let fresh = at == 0 || !bytes[at - 1].is_ascii_alphanumeric();
        let matched = if fresh { larger(rest) } else { None };
        let matched = matched.or_else(|| match digits(rest) {
            0 => None,
            whole => Some((whole + fraction(&rest[whole..]), "<n>")),
        });
        if let Some((length, mark)) = matched {
            out.push_str(mark);
            at += length;
        } else {
            let c = word[at..].chars().next().unwrap_or(' ');
            out.push(c);
            at += c.len_utf8();
        }
    }
    out
}

/// What begins here and is more than a number: its length, and what is written for it.
fn larger(bytes: &[u8]) -> Option<(usize, &'static str)> {
    let uuid = uuid(bytes);
    if uuid > 0 {
        return Some((uuid, "<id>"));
    }
    let moment = moment(bytes);
    if moment > 0 {
        return Some((moment, "<time>"));
    }
    let address = address(bytes);
    if address > 0 {
        return Some((address, "<address>"));
    }
    if bytes.starts_with(b"0x") || bytes.starts_with(b"0X") {
        let length = run(&bytes[2..], u8::is_ascii_hexdigit);
        if length > 0 {
            return Some((length + 2, "<hex>"));
        }
    }
    // Eight or more hexadecimal digits as a word of their own, with a digit among them (not `deadbeef`, not `defaced`).
    let length = run(bytes, u8::is_ascii_hexdigit);
    let alone = !bytes.get(length).is_some_and(u8::is_ascii_alphanumeric);
    let word = &bytes[..length];
    let mixed = word.iter().any(u8::is_ascii_digit) && word.iter().any(u8::is_ascii_alphabetic);
    (length >= 7 && alone && mixed).then_some((length, "<hex>"))
}

fn run(bytes: &[u8], is: impl Fn(&u8) -> bool) -> usize {
    bytes.iter().take_while(|byte| is(byte)).count()
}

fn digits(bytes: &[u8]) -> usize {
    run(bytes, u8::is_ascii_digit)
}

/// `.5` and `e-3` behind a number.
fn fraction(bytes: &[u8]) -> usize {
    let mut length = 0;
    if bytes.first() == Some(&b'.') && digits(&bytes[1..]) > 0 {
        length = 1 + digits(&bytes[1..]);
    }
    let rest = &bytes[length..];
    if matches!(rest, [b'e' | b'E', b'+' | b'-', digit, ..] if digit.is_ascii_digit()) {
        length += 2 + digits(&rest[2..]);
    }
    length
}

fn uuid(bytes: &[u8]) -> usize {
    let mut at = 0;
    for (index, length) in [8, 4, 4, 4, 12].into_iter().enumerate() {
        if index > 0 {
            if bytes.get(at) != Some(&b'-') {
                return 0;
            }
            at += 1;
        }
        if run(&bytes[at..], u8::is_ascii_hexdigit) != length {
            return 0;
        }
        at += length;
    }
    at
}

/// `2026-11-23`, `2026-11-23T10:00:00.123+01:00`, `10:00:00`, `10:00:00.123`.
fn moment(bytes: &[u8]) -> usize {
    let mut at = 0;
    if digits(bytes) == 4
        && let [b'-' | b'/', a, b, b'-' | b'/', c, d, ..] = bytes[4..]
        && [a, b, c, d].iter().all(u8::is_ascii_digit)
        && !bytes.get(10).is_some_and(u8::is_ascii_digit)
    {
        at = 10;
        match bytes.get(at) {
            Some(b'T' | b'_' | b't') => at += 1,
            _ => return at,
        }
    }
    let time = time_of_day(&bytes[at..]);
    if time == 0 { at.saturating_sub(1) } else { at + time }
}

fn time_of_day(bytes: &[u8]) -> usize {
    let [a, b, b':', c, d, b':', e, f, ..] = *bytes else { return 0 };
    if ![a, b, c, d, e, f].iter().all(u8::is_ascii_digit) {
        return 0;
    }
    let mut at = 8;
    if matches!(bytes.get(at), Some(b'.' | b',')) && digits(&bytes[at + 1..]) > 0 {
        at += 1 + digits(&bytes[at + 1..]);
    }
    match bytes.get(at) {
        Some(b'Z' | b'z') => at + 1,
        Some(b'+' | b'-') if digits(&bytes[at + 1..]) >= 2 => {
            at += 1 + digits(&bytes[at + 1..]);
            if bytes.get(at) == Some(&b':') { at + 1 + digits(&bytes[at + 1..]) } else { at }
        }
        _ => at,
    }
}

/// `127.0.0.1`, with or without a port.
fn address(bytes: &[u8]) -> usize {
    let mut at = 0;
    for index in 0..4 {
        if index > 0 {
            if bytes.get(at) != Some(&b'.') {
                return 0;
            }
            at += 1;
        }
        let length = digits(&bytes[at..]);
        if length == 0 || length > 3 {
            return 0;
        }
        at += length;
    }
    if bytes.get(at) == Some(&b':') && digits(&bytes[at + 1..]) > 0 {
        at += 1 + digits(&bytes[at + 1..]);
    }
    at
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_changes_from_run_to_run_is_left_out() {
        for (message, expected) in [
            ("expected 200 but got 503", "expected <n> but got <n>"),
            ("timed out after 1.5s (3 of 10)", "timed out after <n>s (<n> of <n>)"),
            ("order 7f3a91c2 is lost", "order <hex> is lost"),
            ("object at 0x7ffde01", "object at <hex>"),
            ("id=019ab4c6-6f0e-7cc1-8a43-0f6a1c2a7b11 missing", "id=<id> missing"),
            ("at 2026-11-23T10:00:00.123Z: late", "at <time>: late"),
            ("at 2026-11-23 10:00:00,123 late", "at <time> late"),
            ("cannot connect to 127.0.0.1:8080", "cannot connect to <address>"),
            ("GET http://shop.test:81/orders/7 failed", "GET <url> failed"),
            ("no such file: /tmp/tmpx8f2k/a/out.txt", "no such file: <path>/out.txt"),
            ("POST /orders/7 answered 503", "POST /orders/<n> answered <n>"),
            ("KeyError: 'order-7'", "KeyError: '…'"),
            ("no element `submit`", "no element `submit`"),
            ("user's cart isn't full", "user's cart isn't full"),
            ("defaced deadbeef", "defaced deadbeef"),
            ("  two   spaces\n\n  and lines ", "two spaces\nand lines"),
        ] {
            assert_eq!(normalised(message), expected, "{message}");
        }
    }

    #[test]
    fn different_words_are_different_failures() {
        assert_ne!(fingerprint("no element `submit`"), fingerprint("no element `cancel`"));
        assert_ne!(fingerprint("refused"), fingerprint("timed out"));
        assert_eq!(fingerprint("order 1 of 7 lost\nat a\nb\nc\nd"), fingerprint("order 2 of 9 lost\nat a\nb\nc\ne"));
    }

    proptest! {
        #[test]
        fn numbers_never_matter(words in prop::collection::vec("[a-z]{1,8}", 1..6), a in 0_u32..99_999, b in 0_u32..99_999) {
            let message = |n: u32| words.iter().map(|word| format!("{word} {n}")).collect::<Vec<_>>().join(", ");
            prop_assert_eq!(fingerprint(&message(a)), fingerprint(&message(b)));
        }

        #[test]
        fn nothing_is_left_to_normalise(message in "[a-f0-9x:/. TZ-]{0,60}|[^'\"`\\p{C}]{0,60}") {
            let once = normalised(&message);
            prop_assert_eq!(normalised(&once), once);
        }

        #[test]
        fn no_text_is_too_strange(message in "(?s).{0,300}") {
            prop_assert!(normalised(&message).len() <= LONGEST);
        }
    }
}
