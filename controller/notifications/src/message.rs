//! What a notification says, and the forms in which it is said: plain text, HTML for mail, Slack's blocks, and JSON
//! for programs. Whatever a suite or a test is named is text in each of them, never markup.

use askama::Template;
use kennel_model::RunId;
use kennel_model::api::{MessageSection, NotificationEvent, NotificationSubject};
use serde_json::{Value, json};

/// Version of the JSON that webhooks get; it grows when a field goes or changes its meaning, not when one comes.
pub const SCHEMA: u32 = 1;
/// Longest text that is told of one thing, in characters.
const LONGEST: usize = 500;
/// Most lines of a section in a chat or a mail.
const MOST_LINES: usize = 50;
/// Slack's limits: characters of a header, characters of a section.
const SLACK_HEADER: usize = 150;
const SLACK_TEXT: usize = 2_900;

/// What a notification says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// What happened.
    pub event: NotificationEvent,
    /// When, RFC 3339 in UTC.
    pub at: String,
    /// What kind of thing it is about.
    pub subject_kind: NotificationSubject,
    /// Name of what it is about.
    pub subject: String,
    /// The branch of the suite's run; empty for none.
    pub branch: String,
    /// The run that it is about.
    pub run: Option<RunId>,
    /// How the run ended.
    pub verdict: Option<kennel_model::Verdict>,
    /// The first line.
    pub title: String,
    /// What there is to say, a sentence each.
    pub sentences: Vec<String>,
    /// Lists of things.
    pub sections: Vec<MessageSection>,
    /// Where there is more, as a path on this server.
    pub link: Option<String>,
}

/// The address of a path, where people's address of this server is known.
fn address(public_url: Option<&str>, path: Option<&String>) -> Option<String> {
    Some(format!("{}{}", public_url?.trim_end_matches('/'), path?))
}

/// On one line, without control characters, and not too long.
#[must_use]
pub fn line(text: &str) -> String {
    shortened(
        &text
            .split(|c: char| c.is_whitespace() || c.is_control())
            .filter(|part| !part.is_empty())
            .collect::<Vec<_>>()
            .join(" "),
        LONGEST,
    )
}

fn shortened(text: &str, longest: usize) -> String {
    if text.chars().count() <= longest {
        return text.to_owned();
    }
    let mut short: String = text.chars().take(longest.saturating_sub(1)).collect();
    short.push('…');
    short
}

#[derive(Template)]
#[template(path = "mail.html")]
struct Mail<'a> {
    message: &'a Message,
    sections: Vec<MailSection<'a>>,
    link: Option<String>,
    settings: Option<String>,
}

struct MailSection<'a> {
    heading: &'a str,
    lines: Vec<(String, Option<String>)>,
    more: usize,
}

impl Message {
    fn link(&self, public_url: Option<&str>) -> Option<String> {
        address(public_url, self.link.as_ref())
    }

    /// As plain text.
    #[must_use]
    pub fn text(&self, public_url: Option<&str>) -> String {
        let mut text = format!("{}\n", line(&self.title));
        for sentence in &self.sentences {
            text.push_str(&format!("\n{}", line(sentence)));
        }
        for section in &self.sections {
            text.push_str(&format!("\n\n{}\n", line(&section.heading)));
            for entry in section.lines.iter().take(MOST_LINES) {
                text.push_str(&format!("- {}\n", line(&entry.text)));
                if let Some(address) = address(public_url, entry.link.as_ref()) {
                    text.push_str(&format!("  {address}\n"));
                }
            }
            if section.lines.len() > MOST_LINES {
                text.push_str(&format!("and {} more\n", section.lines.len() - MOST_LINES));
            }
        }
        if let Some(address) = self.link(public_url) {
            text.push_str(&format!("\n{address}\n"));
        }
        text
    }

    /// As HTML for mail.
    ///
    /// # Errors
    /// When the template fails, which no message makes it do.
    pub fn html(&self, public_url: Option<&str>) -> Result<String, askama::Error> {
        let sections = self.sections.iter().map(|section| MailSection {
            heading: &section.heading,
            lines: section
                .lines
                .iter()
                .take(MOST_LINES)
                .map(|entry| (line(&entry.text), address(public_url, entry.link.as_ref())))
                .collect(),
            more: section.lines.len().saturating_sub(MOST_LINES),
        });
        let settings = "/notifications".to_owned();
        Mail {
            message: self,
            sections: sections.collect(),
            link: self.link(public_url),
            settings: address(public_url, Some(&settings)),
        }
        .render()
    }

    /// As Slack's incoming webhooks take it; `text` is what others than Slack and notifications on a phone show.
    #[must_use]
    pub fn slack(&self, public_url: Option<&str>) -> Value {
        let mut blocks = vec![json!({
            "type": "header",
            "text": {"type": "plain_text", "text": shortened(&line(&self.title), SLACK_HEADER), "emoji": false},
        })];
        let mut markdown = |text: String| {
            if !text.is_empty() {
                blocks.push(json!({"type": "section", "text": {"type": "mrkdwn", "text": text}}));
            }
        };
        let sentences: Vec<String> = self.sentences.iter().map(|sentence| slack_text(sentence)).collect();
        markdown(within(sentences));
        for section in &self.sections {
            let mut lines = vec![format!("*{}*", slack_text(&section.heading))];
            for entry in section.lines.iter().take(MOST_LINES) {
                lines.push(match address(public_url, entry.link.as_ref()) {
                    Some(address) => format!("• <{address}|{}>", slack_text(&entry.text)),
                    None => format!("• {}", slack_text(&entry.text)),
                });
            }
            if section.lines.len() > MOST_LINES {
                lines.push(format!("and {} more", section.lines.len() - MOST_LINES));
            }
            markdown(within(lines));
        }
        if let Some(address) = self.link(public_url) {
            blocks.push(json!({
                "type": "actions",
                "elements": [{"type": "button", "url": address, "text": {"type": "plain_text", "text": "Open in Kennel"}}],
            }));
        }
        json!({"text": slack_text(&self.title), "blocks": blocks})
    }

    /// As programs read it.
    #[must_use]
    pub fn json(&self, id: &str, public_url: Option<&str>) -> Value {
        let sections: Vec<Value> = self
            .sections
            .iter()
            .map(|section| {
                let lines: Vec<Value> = section
                    .lines
                    .iter()
                    .map(|entry| json!({"text": entry.text, "url": address(public_url, entry.link.as_ref())}))
                    .collect();
                json!({"heading": section.heading, "lines": lines})
            })
            .collect();
        json!({
            "schema": SCHEMA,
            "id": id,
            "type": self.event,
            "timestamp": self.at,
            "data": {
                "title": self.title,
                "subject": {"kind": self.subject_kind, "name": self.subject, "branch": self.branch},
                "run": self.run,
                "verdict": self.verdict,
                "sentences": self.sentences,
                "sections": sections,
                "url": self.link(public_url),
            },
        })
    }
}

/// Lines joined, as many as Slack takes.
fn within(lines: Vec<String>) -> String {
    let mut text = String::new();
    for line in lines {
        if text.chars().count() + line.chars().count() + 1 > SLACK_TEXT {
            text.push_str("\n…");
            break;
        }
        if !text.is_empty() {
            text.push('\n');
        }
        text.push_str(&line);
    }
    text
}

/// Text in which Slack finds no markup: neither its own escapes nor the signs for bold, code and links do anything.
fn slack_text(text: &str) -> String {
    let escaped = line(text).replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
    // A zero-width space keeps a sign from pairing up with another.
    escaped.chars().fold(String::with_capacity(escaped.len()), |mut text, c| {
        text.push(c);
        if matches!(c, '*' | '_' | '~' | '`') {
            text.push('\u{200b}');
        }
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use kennel_model::Verdict;
    use kennel_model::api::MessageLine;

    const HOSTILE: &str = "<script>alert(1)</script>\r\nBcc: x@y & <!channel> *bold*";

    fn message(lines: usize) -> Message {
        let entry =
            |index: usize| MessageLine { text: format!("{HOSTILE} {index}"), link: Some(format!("/tests/{index}")) };
        Message {
            event: NotificationEvent::FirstFailure,
            at: "2026-01-02T03:04:05Z".to_owned(),
            subject_kind: NotificationSubject::Suite,
            subject: HOSTILE.to_owned(),
            branch: "main".to_owned(),
            run: Some(RunId::new()),
            verdict: Some(Verdict::Failed),
            title: format!("{HOSTILE} failed"),
            sentences: vec![HOSTILE.to_owned()],
            sections: vec![MessageSection {
                heading: "Newly failing".to_owned(),
                lines: (0..lines).map(entry).collect(),
            }],
            link: Some("/suite-runs/1".to_owned()),
        }
    }

    #[test]
    fn names_are_text_in_every_form() {
        let message = message(2);
        let html = message.html(Some("https://k.example/")).unwrap();
        assert!(!html.contains("<script>") && html.contains("&#60;script&#62;"), "{html}");
        let text = message.text(Some("https://k.example/"));
        assert!(text.starts_with("<script>alert(1)</script> Bcc: x@y & <!channel> *bold* failed\n"), "{text}");
        let slack = message.slack(Some("https://k.example"));
        let marked = slack["blocks"].as_array().unwrap().iter().filter(|block| block["text"]["type"] == "mrkdwn");
        let marked: Vec<&str> = marked.filter_map(|block| block["text"]["text"].as_str()).collect();
        assert_eq!(marked.len(), 2);
        for text in marked.into_iter().chain(slack["text"].as_str()) {
            assert!(
                text.contains("&lt;!channel&gt;") && !text.contains("<!channel>") && !text.contains("*bold*"),
                "{text}"
            );
        }
    }

    #[test]
    fn links_lead_to_the_public_address_and_are_left_out_without_one() {
        let message = message(1);
        let forms = |url: Option<&str>| {
            let html = message.html(url).unwrap();
            [message.text(url), html, message.slack(url).to_string(), message.json("id", url).to_string()]
        };
        for form in forms(Some("https://k.example/")) {
            assert!(
                form.contains("https://k.example/suite-runs/1") && form.contains("https://k.example/tests/0"),
                "{form}"
            );
        }
        for form in forms(None) {
            assert!(!form.contains("/suite-runs/1"), "{form}");
        }
    }

    #[test]
    fn long_messages_stay_within_what_receivers_take() {
        let message = message(5_000);
        let slack = message.slack(Some("https://k.example"));
        for block in slack["blocks"].as_array().unwrap() {
            let text = block["text"]["text"].as_str().unwrap_or_default();
            assert!(text.chars().count() <= 3_000, "{}", text.len());
        }
        assert!(message.text(None).contains("and 4950 more"));
        assert_eq!(message.json("id", None)["data"]["sections"][0]["lines"].as_array().unwrap().len(), 5_000);
    }

    #[test]
    fn programs_get_a_version_a_type_and_the_same_id_as_the_header() {
        let json = message(0).json("0198", None);
        assert_eq!(
            (json["schema"].as_u64(), json["type"].as_str(), json["id"].as_str()),
            (Some(1), Some("first-failure"), Some("0198"))
        );
        assert_eq!(json["data"]["subject"]["kind"], "suite");
        assert_eq!(json["data"]["verdict"], "failed");
    }
}
