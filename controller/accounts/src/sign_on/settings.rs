//! How single sign-on is set up: the provider, and which of its groups gives which role.

use kennel_model::Role;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use url::Url;

use super::SignOnError;

/// How to reach a provider, and what its claims mean here.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// The provider's address, under which `/.well-known/openid-configuration` lies.
    pub issuer: String,
    /// What the provider calls this Kennel.
    pub client_id: String,
    /// What the login page's button calls the provider.
    #[serde(default)]
    pub label: String,
    /// Scopes asked for beside `openid`.
    #[serde(default)]
    pub scopes: Vec<String>,
    /// The claim that holds groups or roles; dots lead into objects (`realm_access.roles`).
    #[serde(default)]
    pub claim: String,
    /// Values of the claim that make an admin.
    #[serde(default)]
    pub admins: Vec<String>,
    /// Values of the claim that make an operator.
    #[serde(default)]
    pub operators: Vec<String>,
    /// Values of the claim that make a viewer.
    #[serde(default)]
    pub viewers: Vec<String>,
    /// The role of everybody else; without one they may not log in.
    #[serde(default)]
    pub others: Option<Role>,
}

impl Settings {
    /// Whether they can be used at all.
    ///
    /// # Errors
    /// What is missing or wrong.
    pub fn check(&self) -> Result<(), SignOnError> {
        let wrong = |field: &'static str, expected: &'static str, given: &str| {
            Err(SignOnError::Settings { field, expected, given: given.to_owned() })
        };
        let expected = "an https address such as https://sso.example.org/realms/qa (http only on this machine)";
        let Ok(issuer) = Url::parse(&self.issuer) else { return wrong("issuer", expected, &self.issuer) };
        let is_here = match issuer.host() {
            Some(url::Host::Domain(name)) => name == "localhost" || name.ends_with(".localhost"),
            Some(url::Host::Ipv4(address)) => address.is_loopback(),
            Some(url::Host::Ipv6(address)) => address.is_loopback(),
            None => false,
        };
        if issuer.scheme() != "https" && !(issuer.scheme() == "http" && is_here) {
            return wrong("issuer", expected, &self.issuer);
        }
        if self.client_id.trim().is_empty() {
            return wrong("client id", "the name that the provider gave this Kennel", &self.client_id);
        }
        let maps = [&self.admins, &self.operators, &self.viewers].iter().any(|values| !values.is_empty());
        if maps && self.claim.trim().is_empty() {
            return wrong("claim", "the claim that holds groups or roles, such as `groups`", &self.claim);
        }
        if !maps && self.others.is_none() {
            return wrong("roles", "a group that gives a role, or a role for everybody: nobody could log in", "");
        }
        Ok(())
    }

    /// The highest role that the claims give, if any.
    #[must_use]
    pub fn role(&self, claims: &Map<String, Value>) -> Option<Role> {
        let values = values(claims, &self.claim);
        let holds = |wanted: &[String]| wanted.iter().any(|wanted| values.contains(&wanted.as_str()));
        if holds(&self.admins) {
            Some(Role::Admin)
        } else if holds(&self.operators) {
            Some(Role::Operator)
        } else if holds(&self.viewers) {
            Some(Role::Viewer)
        } else {
            self.others
        }
    }

    /// Whether roles follow the provider, so that each login sets them anew.
    #[must_use]
    pub fn maps_roles(&self) -> bool {
        [&self.admins, &self.operators, &self.viewers].iter().any(|values| !values.is_empty())
    }

    /// What the login page calls the provider.
    #[must_use]
    pub fn shown_as(&self) -> &str {
        if self.label.is_empty() { "single sign-on" } else { &self.label }
    }
}

/// What a claim holds: one text or several.
pub(super) fn values<'a>(claims: &'a Map<String, Value>, claim: &str) -> Vec<&'a str> {
    // Names with dots of their own (`https://example.org/groups`) come first.
    let found = claims.get(claim).or_else(|| {
        let mut parts = claim.split('.');
        let first = claims.get(parts.next()?)?;
        parts.try_fold(first, |value, part| value.get(part))
    });
    match found {
        Some(Value::String(text)) => vec![text],
        Some(Value::Array(list)) => list.iter().filter_map(Value::as_str).collect(),
        _ => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings() -> Settings {
        let list = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect();
        Settings {
            issuer: "https://sso.example.org".to_owned(),
            client_id: "kennel".to_owned(),
            label: String::new(),
            scopes: Vec::new(),
            claim: "groups".to_owned(),
            admins: list(&["qa-leads"]),
            operators: list(&["qa", "sre"]),
            viewers: list(&["staff"]),
            others: None,
        }
    }

    fn claims(json: &str) -> Map<String, Value> {
        serde_json::from_str(json).unwrap()
    }

    #[test]
    fn the_highest_role_of_all_groups_counts() {
        let role = |json: &str| settings().role(&claims(json));
        assert_eq!(role(r#"{"groups": ["staff", "qa"]}"#), Some(Role::Operator));
        assert_eq!(role(r#"{"groups": ["staff", "qa-leads", "qa"]}"#), Some(Role::Admin));
        assert_eq!(role(r#"{"groups": "staff"}"#), Some(Role::Viewer));
        for none in [r#"{"groups": ["QA", "q"]}"#, r#"{"groups": {"qa": true}}"#, r#"{"other": ["qa"]}"#, "{}"] {
            assert_eq!(role(none), None, "{none}");
        }
    }

    #[test]
    fn a_claim_may_lie_within_another_or_have_dots_in_its_name() {
        let within = Settings { claim: "realm_access.roles".to_owned(), ..settings() };
        assert_eq!(within.role(&claims(r#"{"realm_access": {"roles": ["qa"]}}"#)), Some(Role::Operator));
        let dotted = Settings { claim: "https://example.org/groups".to_owned(), ..settings() };
        assert_eq!(dotted.role(&claims(r#"{"https://example.org/groups": ["qa"]}"#)), Some(Role::Operator));
    }

    #[test]
    fn settings_that_cannot_work_are_refused_with_what_would() {
        assert_eq!(settings().check(), Ok(()));
        for here in ["http://127.0.0.1:3000", "http://localhost:3000", "http://[::1]:3000"] {
            assert_eq!(Settings { issuer: here.to_owned(), ..settings() }.check(), Ok(()), "{here}");
        }
        for wrong in
            ["http://sso.example.org", "sso.example.org", "", "ftp://127.0.0.1", "http://127.0.0.1.evil.example"]
        {
            let error = Settings { issuer: wrong.to_owned(), ..settings() }.check().unwrap_err().to_string();
            assert!(error.contains("an https address"), "{wrong}: {error}");
        }
        assert!(Settings { client_id: " ".to_owned(), ..settings() }.check().is_err());
        assert!(Settings { claim: String::new(), ..settings() }.check().is_err());
        let nobody = Settings { admins: vec![], operators: vec![], viewers: vec![], ..settings() };
        assert!(nobody.check().unwrap_err().to_string().contains("nobody could log in"));
    }
}
