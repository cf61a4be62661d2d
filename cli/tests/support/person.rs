//! What a person does who knows a page only by what it says: chooses buttons and links by their words, fields by their
//! labels.
#![allow(dead_code, unreachable_pub, clippy::unwrap_used, clippy::expect_used, reason = "each test uses its own part")]

use std::time::Duration;

use fantoccini::Locator;
use fantoccini::elements::Element;
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::browser::Browser;

/// How long a person looks for something.
const PATIENCE: Duration = Duration::from_secs(20);

/// Marks the one element that is meant. `within` is a selector of the part of the page that is looked at; an open dialog
/// is looked at before the page beneath it. What is said exactly wins over
/// what only begins so, and that over what only holds it.
const MARK: &str = "
    const [kind, name, within] = arguments;
    for (const old of document.querySelectorAll('[data-meant]')) old.removeAttribute('data-meant');
    const scope = within ? document.querySelector(within) : document.querySelector('dialog[open]') ?? document.body;
    if (!scope) return null;
    const plain = (text) => (text ?? '').replace(/\\s+/g, ' ').trim().toLowerCase();
    const selector = kind === 'field' ? 'input:not([type=hidden]), textarea, select, [role=textbox], [contenteditable]' : 'a[href], button, summary, [role=button], [role=tab], input[type=submit]';
    const names = (element) => kind === 'field'
      ? [...(element.labels ?? [])].map((label) => label.firstChild?.nodeType === 3 ? label.firstChild.data : label.innerText).concat([...(element.labels ?? [])].map((label) => label.innerText), [element.getAttribute('aria-label')])
      : [element.getAttribute('aria-label'), element.innerText, element.value];
    const wanted = plain(name);
    const seen = [...scope.querySelectorAll(selector)].filter((element) => element.checkVisibility() && !element.disabled);
    const exact = seen.find((element) => names(element).some((said) => plain(said) === wanted));
    const meant = exact
      ?? seen.find((element) => names(element).some((said) => plain(said).startsWith(wanted)))
      ?? seen.find((element) => names(element).some((said) => plain(said).includes(wanted)));
    if (!meant) return seen.map((element) => names(element).map(plain).find((said) => said)).filter((said) => said);
    meant.setAttribute('data-meant', '');
    return true;";

impl Browser {
    async fn meant(&self, kind: &str, name: &str, within: &str) -> Element {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let within = if within.is_empty() { Value::Null } else { json!(within) };
            let seen =
                self.client.execute(MARK, vec![json!(kind), json!(name), within.clone()]).await.unwrap_or_default();
            if seen == true
                && let Ok(element) = self.client.find(Locator::Css("[data-meant]")).await
            {
                return element;
            }
            if Instant::now() >= deadline {
                let address = self.client.current_url().await.unwrap();
                panic!("no {kind} says `{name}` in {within} of {address}; there are: {seen}");
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Chooses the button or link that says this.
    pub async fn choose(&self, name: &str) {
        self.choose_in("", name).await;
    }

    /// As [`Self::choose`], in the part of the page that a selector names.
    pub async fn choose_in(&self, within: &str, name: &str) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            // A part that keeps itself fresh may replace the element just when it is clicked.
            match self.meant("button", name, within).await.click().await {
                Ok(()) => return,
                Err(error) => assert!(Instant::now() < deadline, "`{name}` cannot be clicked: {error}"),
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Types into the field with this label, in place of what it held.
    pub async fn enter(&self, label: &str, text: &str) {
        self.enter_in("", label, text).await;
    }

    /// As [`Self::enter`], in the part of the page that a selector names.
    pub async fn enter_in(&self, within: &str, label: &str, text: &str) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let field = self.meant("field", label, within).await;
            let typed = async {
                if field.tag_name().await? == "select" {
                    return field.select_by_label(text).await;
                }
                // All that is there is selected and typed over, as a person would.
                field.send_keys("\u{E009}a\u{E009}").await?;
                field.send_keys(text).await
            };
            match typed.await {
                Ok(()) => return,
                Err(error) => assert!(Instant::now() < deadline, "`{label}` cannot be filled: {error}"),
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Waits until the page says this somewhere where it can be seen.
    pub async fn reads(&self, text: &str, within: Duration) {
        let quoted = serde_json::to_string(text).unwrap();
        let script = format!("return document.querySelector('main').innerText.includes({quoted})");
        self.until(&format!("the page says `{text}`"), within, &script).await;
    }
}
