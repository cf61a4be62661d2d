//! The audit log: who did what; rows are only ever added.

use kennel_model::api::ActView;
use sqlx::Row as _;

use super::{Store, StoreError, now};

/// Longest text of a column, in characters: enough to understand, too little to flood.
const LONGEST: usize = 2000;

/// Which lines of the audit log are asked for; what is empty or absent leaves none out.
#[derive(Debug, Clone, Default)]
pub struct ActFilter {
    /// By whom.
    pub who: Option<String>,
    /// Whose action, subject or detail holds this text.
    pub text: Option<String>,
    /// From this moment on (RFC 3339 text in UTC, or its beginning).
    pub from: Option<String>,
    /// Before this moment.
    pub to: Option<String>,
    /// Older than this line.
    pub before: Option<i64>,
}

impl Store {
    /// Adds a line. Characters that could forge further lines, or hide what stands here, are written as escapes.
    pub(crate) async fn record_act(
        &self,
        who: &str,
        action: &str,
        subject: &str,
        detail: &str,
    ) -> Result<(), StoreError> {
        sqlx::query("INSERT INTO audit_log (at, who, action, subject, detail) VALUES ($1, $2, $3, $4, $5)")
            .bind(now())
            .bind(visible(who))
            .bind(visible(action))
            .bind(visible(subject))
            .bind(visible(detail))
            .execute(&self.writer)
            .await
            .map_err(StoreError::database("write the audit log"))?;
        Ok(())
    }

    /// Lines of the audit log, newest first.
    pub(crate) async fn acts(&self, filter: &ActFilter, limit: u32) -> Result<Vec<ActView>, StoreError> {
        let rows = sqlx::query(
            "SELECT id, at, who, action, subject, detail FROM audit_log
             WHERE ($1 IS NULL OR who = $1) AND ($2 IS NULL OR at >= $2) AND ($3 IS NULL OR at < $3)
               AND ($4 IS NULL OR id < $4)
               AND ($5 IS NULL OR LOWER(action || ' ' || subject || ' ' || detail) LIKE $5 ESCAPE '\\')
             ORDER BY id DESC LIMIT $6",
        )
        .bind(&filter.who)
        .bind(&filter.from)
        .bind(&filter.to)
        .bind(filter.before)
        .bind(filter.text.as_deref().map(like))
        .bind(i64::from(limit))
        .fetch_all(&self.reader)
        .await
        .map_err(StoreError::database("read the audit log"))?;
        let broken = |error: sqlx::Error| StoreError::broken("line of the audit log")(error);
        let acts = rows.iter().map(|row| {
            Ok(ActView {
                id: row.try_get("id").map_err(broken)?,
                at: row.try_get("at").map_err(broken)?,
                who: row.try_get("who").map_err(broken)?,
                action: row.try_get("action").map_err(broken)?,
                subject: row.try_get("subject").map_err(broken)?,
                detail: row.try_get("detail").map_err(broken)?,
            })
        });
        acts.collect()
    }

    /// Everybody who stands in the audit log.
    pub(crate) async fn actors(&self) -> Result<Vec<String>, StoreError> {
        sqlx::query_scalar("SELECT DISTINCT who FROM audit_log ORDER BY who")
            .fetch_all(&self.reader)
            .await
            .map_err(StoreError::database("read the audit log"))
    }
}

/// A pattern for texts that hold this one, whatever it holds itself.
fn like(text: &str) -> String {
    let mut pattern = String::from("%");
    for c in text.to_lowercase().chars() {
        if matches!(c, '%' | '_' | '\\') {
            pattern.push('\\');
        }
        pattern.push(c);
    }
    pattern.push('%');
    pattern
}

/// A text on one line, in reading order, and not endless.
fn visible(text: &str) -> String {
    let mut shown = String::new();
    for c in text.chars().take(LONGEST) {
        // Beside control characters: line separators, and those that turn the reading direction around.
        let hides = c.is_control()
            || matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}');
        if hides { shown.extend(c.escape_default()) } else { shown.push(c) }
    }
    if text.chars().nth(LONGEST).is_some() {
        shown.push('…');
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_could_forge_a_line_is_written_as_an_escape() {
        assert_eq!(visible("ann\r\n2026-01-01 bob"), "ann\\r\\n2026-01-01 bob");
        assert_eq!(visible("a\u{202e}b\u{0}c\u{1b}[31m\u{2028}"), "a\\u{202e}b\\u{0}c\\u{1b}[31m\\u{2028}");
        assert_eq!(visible("Ünïcode <b> stays"), "Ünïcode <b> stays");
        assert_eq!(visible(&"x".repeat(5000)).chars().count(), LONGEST + 1);
    }

    #[test]
    fn a_search_finds_what_it_says_and_no_pattern() {
        assert_eq!(like("100%_\\A"), "%100\\%\\_\\\\a%");
    }
}
