//! Text from a document: cleaned of what neither a screen nor a database takes, and cut where it is too long.

use std::borrow::Cow;

/// Text that keeps its beginning and its end when it grows beyond a limit.
#[derive(Debug, Clone)]
pub(crate) struct Captured {
    head: String,
    tail: String,
    /// Bytes kept of both, at most; the head takes half of them.
    limit: usize,
    left_out: usize,
}

impl Captured {
    pub(crate) fn new(limit: usize) -> Self {
        Self { head: String::new(), tail: String::new(), limit, left_out: 0 }
    }

    /// Adds text as it is.
    pub(crate) fn push(&mut self, text: &str) {
        let mut text = text;
        let half = self.limit / 2;
        if self.tail.is_empty() && self.head.len() < half {
            let at = text.floor_char_boundary(half - self.head.len());
            self.head.push_str(&text[..at]);
            text = &text[at..];
        }
        self.tail.push_str(text);
        // Not at every line: what is cut off is moved.
        if self.tail.len() > 2 * self.limit {
            self.cut();
        }
    }

    /// Adds a line or lines on their own.
    pub(crate) fn push_line(&mut self, text: &str) {
        if text.is_empty() {
            return;
        }
        if !self.is_empty() {
            self.push("\n");
        }
        self.push(text);
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.head.is_empty() && self.tail.is_empty()
    }

    fn cut(&mut self) {
        // A character that did not fit the head leaves its room to the tail.
        let room = self.limit - self.head.len();
        if self.tail.len() > room {
            let at = self.tail.ceil_char_boundary(self.tail.len() - room);
            self.left_out += at;
            self.tail.drain(..at);
        }
    }

    /// The text, with a note where its middle was left out.
    pub(crate) fn into_text(mut self) -> String {
        self.cut();
        if self.left_out > 0 {
            self.head.push_str(&format!("\n[… {} bytes left out …]\n", self.left_out));
        }
        self.head.push_str(&self.tail);
        let text = self.head.trim_end();
        // Blank lines before the first that says something; that one keeps its indentation.
        let blank = text.len() - text.trim_start().len();
        let start = text[..blank].rfind('\n').map_or(0, |at| at + 1);
        clean(&text[start..]).into_owned()
    }
}

/// The text without terminal colours and without control characters other than line breaks and tabs.
pub(crate) fn clean(text: &str) -> Cow<'_, str> {
    let is_bad = |c: char| c.is_control() && !matches!(c, '\n' | '\t');
    if !text.contains(is_bad) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len());
    let mut rest = text.chars().peekable();
    while let Some(c) = rest.next() {
        match c {
            '\u{1b}' if rest.peek() == Some(&'[') => {
                rest.next();
                // ECMA-48: parameters and intermediates, then one final byte.
                while rest.next_if(|c| matches!(c, ' '..='?')).is_some() {}
                rest.next_if(|c| matches!(c, '@'..='~'));
            }
            '\r' => {
                if rest.peek() != Some(&'\n') {
                    out.push('\n');
                }
            }
            c if is_bad(c) => out.push('\u{FFFD}'),
            c => out.push(c),
        }
    }
    Cow::Owned(out)
}

/// At most `limit` bytes of a text, with `…` where it was cut.
pub(crate) fn clip(text: &str, limit: usize) -> Cow<'_, str> {
    if text.len() <= limit {
        return Cow::Borrowed(text);
    }
    let at = text.floor_char_boundary(limit.saturating_sub('…'.len_utf8()));
    Cow::Owned(format!("{}…", &text[..at]))
}

/// The first line that says something.
pub(crate) fn first_line(text: &str) -> &str {
    text.lines().map(str::trim).find(|line| !line.is_empty()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn colours_and_control_characters_are_taken_out() {
        assert_eq!(clean("\u{1b}[1;31mred\u{1b}[0m\0 \u{1b}x\r\nnext\rline"), "red\u{FFFD} \u{FFFD}x\nnext\nline");
    }

    #[test]
    fn long_text_keeps_its_beginning_and_its_end() {
        let mut captured = Captured::new(20);
        for n in 0..1000 {
            captured.push_line(&format!("line {n}"));
        }
        let text = captured.into_text();
        assert!(text.starts_with("line 0") && text.ends_with("line 999"), "{text}");
        assert!(text.contains("bytes left out") && text.len() < 70, "{text}");
    }

    #[test]
    fn a_character_that_straddles_the_middle_cuts_nothing() {
        let whole = format!("{}€{}", "a".repeat(9), "b".repeat(8));
        let mut captured = Captured::new(20);
        captured.push(&whole);
        assert_eq!(captured.into_text(), whole);
    }

    proptest! {
        #[test]
        fn short_text_stays_and_long_text_stays_within_its_limit(parts in prop::collection::vec("\\PC{0,30}", 0..20)) {
            let whole = parts.concat();
            let mut captured = Captured::new(200);
            parts.iter().for_each(|part| captured.push(part));
            let text = captured.into_text();
            if whole.len() <= 200 {
                prop_assert_eq!(&text, whole.trim_end());
            }
            prop_assert!(text.len() <= 200 + 60);
        }
    }
}
