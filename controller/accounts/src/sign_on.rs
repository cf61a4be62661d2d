//! Single sign-on: the OpenID Connect code flow with PKCE, state and nonce, and what a provider's claims mean here.
//!
//! OpenID Connect Core 1.0 §3.1, RFC 7636 (PKCE), RFC 9700 (OAuth 2.0 security best current practice).

use std::time::Duration;

use kennel_model::Role;
use openidconnect::core::{
    CoreAuthDisplay, CoreAuthPrompt, CoreAuthenticationFlow, CoreErrorResponseType, CoreGenderClaim, CoreJsonWebKey,
    CoreJweContentEncryptionAlgorithm, CoreJwsSigningAlgorithm, CoreRevocableToken, CoreRevocationErrorResponse,
    CoreTokenIntrospectionResponse, CoreTokenType,
};
use openidconnect::{
    AccessTokenHash, AdditionalClaims, AuthorizationCode, Client, ClientId, ClientSecret, CsrfToken,
    EmptyExtraTokenFields, EndpointMaybeSet, EndpointNotSet, EndpointSet, HttpRequest, HttpResponse, IdTokenFields,
    IssuerUrl, Nonce, OAuth2TokenResponse as _, PkceCodeChallenge, PkceCodeVerifier, ProviderMetadataWithLogout,
    RedirectUrl, Scope, StandardErrorResponse, StandardTokenResponse, TokenResponse as _, UserInfoClaims,
};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use url::Url;

use crate::secret::{self, Secret};

/// How long a provider may take to answer.
const PATIENCE: Duration = Duration::from_secs(10);
/// Largest answer that is read.
const ANSWER_LIMIT_BYTES: usize = 1 << 20;

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
fn values<'a>(claims: &'a Map<String, Value>, claim: &str) -> Vec<&'a str> {
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

/// Signing on did not work.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SignOnError {
    /// A setting is missing or wrong.
    #[error("the sign-on setting `{field}` is `{given}`; expected is {expected}")]
    Settings {
        /// Which.
        field: &'static str,
        /// What would do.
        expected: &'static str,
        /// What was given.
        given: String,
    },
    /// The provider does not answer as one.
    #[error("the sign-on provider {issuer} cannot be used: {why}; ask whoever runs it, or log in with a password")]
    Provider {
        /// Its address.
        issuer: String,
        /// What happened.
        why: String,
    },
    /// The provider, or the person there, refused.
    #[error("the sign-on provider refused: {}; log in again", why.escape_debug())]
    Refused {
        /// What it said.
        why: String,
    },
    /// What came back does not belong to a login that was begun here.
    #[error("this login was not begun in this browser, or too long ago; log in again")]
    NotBegun,
    /// What came back proves nothing.
    #[error("the sign-on provider's answer is not to be trusted: {why}; log in again")]
    Untrusted {
        /// Why not.
        why: String,
    },
    /// The claims give no role.
    #[error("`{}` is in no group that may use this Kennel; ask an administrator", name.escape_debug())]
    NoRole {
        /// Who.
        name: String,
    },
}

/// A login that was begun; kept in the session until the provider sends the browser back.
#[derive(Clone, Serialize, Deserialize)]
pub struct Begun {
    state: String,
    nonce: String,
    verifier: String,
}

/// Who logged in, as the provider says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// The provider.
    pub issuer: String,
    /// Who it is there; never given to anybody else.
    pub subject: String,
    /// What to call them: preferred name, address or subject.
    pub name: String,
    /// What they may do.
    pub role: Role,
}

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
struct OtherClaims {
    #[serde(flatten)]
    claims: Map<String, Value>,
}

impl AdditionalClaims for OtherClaims {}

type Tokens = StandardTokenResponse<
    IdTokenFields<
        OtherClaims,
        EmptyExtraTokenFields,
        CoreGenderClaim,
        CoreJweContentEncryptionAlgorithm,
        CoreJwsSigningAlgorithm,
    >,
    CoreTokenType,
>;

type Asking = Client<
    OtherClaims,
    CoreAuthDisplay,
    CoreGenderClaim,
    CoreJweContentEncryptionAlgorithm,
    CoreJsonWebKey,
    CoreAuthPrompt,
    StandardErrorResponse<CoreErrorResponseType>,
    Tokens,
    CoreTokenIntrospectionResponse,
    CoreRevocableToken,
    CoreRevocationErrorResponse,
    EndpointSet,
    EndpointNotSet,
    EndpointNotSet,
    EndpointNotSet,
    EndpointMaybeSet,
    EndpointMaybeSet,
>;

/// A provider that was asked how it works.
#[derive(Debug, Clone)]
pub struct Provider {
    settings: Settings,
    secret: Option<Secret>,
    metadata: ProviderMetadataWithLogout,
    http: reqwest::Client,
}

impl Provider {
    /// Asks the provider how it works (OpenID Connect Discovery 1.0).
    ///
    /// # Errors
    /// When the settings are wrong or the provider does not answer as one.
    pub async fn discover(settings: Settings, secret: Option<Secret>) -> Result<Self, SignOnError> {
        settings.check()?;
        let failed = |why: String| SignOnError::Provider { issuer: settings.issuer.clone(), why };
        // Following redirects would let a provider reach what only this machine may.
        let http = reqwest::Client::builder().timeout(PATIENCE).redirect(reqwest::redirect::Policy::none()).build();
        let http = http.map_err(|error| failed(error.to_string()))?;
        let issuer = IssuerUrl::new(settings.issuer.clone()).map_err(|error| failed(error.to_string()))?;
        let asking = |request| ask(http.clone(), request);
        let metadata = ProviderMetadataWithLogout::discover_async(issuer, &asking).await;
        let metadata = metadata.map_err(|error| failed(whole(&error)))?;
        Ok(Self { settings, secret, metadata, http })
    }

    /// Where to send somebody who logged out here, to log out there too.
    #[must_use]
    pub fn end_session(&self) -> Option<Url> {
        self.metadata.additional_metadata().end_session_endpoint.as_ref().map(|url| url.url().clone())
    }

    /// Begins a login: where to send the browser, and what to remember until it comes back to `back`.
    ///
    /// # Errors
    /// When `back` is no address.
    pub fn begin(&self, back: &str) -> Result<(Url, Begun), SignOnError> {
        let client = self.client(back)?;
        let (challenge, verifier) = PkceCodeChallenge::new_random_sha256();
        let asked = client.authorize_url(
            CoreAuthenticationFlow::AuthorizationCode,
            || CsrfToken::new(secret::random()),
            || Nonce::new(secret::random()),
        );
        let asked = asked.add_scopes(self.settings.scopes.iter().cloned().map(Scope::new));
        let (url, state, nonce) = asked.set_pkce_challenge(challenge).url();
        let begun =
            Begun { state: state.secret().clone(), nonce: nonce.secret().clone(), verifier: verifier.secret().clone() };
        Ok((url, begun))
    }

    /// Ends a login: trades the code that the browser brought for proof of who it is.
    ///
    /// # Errors
    /// When the state is not the one that was begun with, the provider refuses, its answer proves nothing, or its
    /// claims give no role.
    pub async fn finish(&self, begun: Begun, state: &str, code: &str, back: &str) -> Result<Identity, SignOnError> {
        if !secret::same(&begun.state, state) {
            return Err(SignOnError::NotBegun);
        }
        let untrusted = |why: String| SignOnError::Untrusted { why };
        let client = self.client(back)?;
        let http = self.http.clone();
        let asking = |request| ask(http.clone(), request);
        let exchange = client.exchange_code(AuthorizationCode::new(code.to_owned()));
        let exchange = exchange.map_err(|error| self.failed(error.to_string()))?;
        let exchange = exchange.set_pkce_verifier(PkceCodeVerifier::new(begun.verifier));
        let tokens = exchange.request_async(&asking).await;
        let tokens: Tokens = tokens.map_err(|error| SignOnError::Refused { why: whole(&error) })?;
        let id_token = tokens.id_token().ok_or_else(|| untrusted("it sent no ID token".to_owned()))?;
        let verifier = client.id_token_verifier();
        let nonce = Nonce::new(begun.nonce);
        let claims = id_token.claims(&verifier, &nonce).map_err(|error| untrusted(whole(&error)))?;
        if let Some(expected) = claims.access_token_hash() {
            let made = id_token.signing_alg().ok().zip(id_token.signing_key(&verifier).ok());
            let made = made
                .and_then(|(algorithm, key)| AccessTokenHash::from_token(tokens.access_token(), algorithm, key).ok());
            if made.as_ref() != Some(expected) {
                return Err(untrusted("its access token is another than the ID token's".to_owned()));
            }
        }
        let text = |value: Option<String>| value.filter(|text| !text.trim().is_empty());
        let mut known = claims.additional_claims().claims.clone();
        let mut name = text(claims.preferred_username().map(|name| name.to_string()))
            .or_else(|| text(claims.email().map(|email| email.to_string())));
        let has_claim = self.settings.claim.is_empty() || !values(&known, &self.settings.claim).is_empty();
        // Many providers keep all but the subject for their user-info endpoint.
        if (name.is_none() || !has_claim)
            && let Ok(asked) = client.user_info(tokens.access_token().clone(), Some(claims.subject().clone()))
        {
            let told: UserInfoClaims<OtherClaims, CoreGenderClaim> =
                asked.request_async(&asking).await.map_err(|error| untrusted(whole(&error)))?;
            name = name
                .or_else(|| text(told.preferred_username().map(|name| name.to_string())))
                .or_else(|| text(told.email().map(|email| email.to_string())));
            for (claim, value) in &told.additional_claims().claims {
                known.entry(claim.clone()).or_insert_with(|| value.clone());
            }
        }
        let subject = claims.subject().to_string();
        let name = name.unwrap_or_else(|| subject.clone());
        let role = self.settings.role(&known).ok_or_else(|| SignOnError::NoRole { name: name.clone() })?;
        Ok(Identity { issuer: self.settings.issuer.clone(), subject, name, role })
    }

    fn failed(&self, why: String) -> SignOnError {
        SignOnError::Provider { issuer: self.settings.issuer.clone(), why }
    }

    fn client(&self, back: &str) -> Result<Asking, SignOnError> {
        let back = RedirectUrl::new(back.to_owned()).map_err(|error| self.failed(error.to_string()))?;
        let id = ClientId::new(self.settings.client_id.clone());
        let secret = self.secret.as_ref().map(|secret| ClientSecret::new(secret.reveal().to_owned()));
        Ok(Asking::from_provider_metadata(self.metadata.clone(), id, secret).set_redirect_uri(back))
    }
}

/// An error with its causes, in a sentence.
fn whole(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let more = error.to_string();
        if !text.contains(&more) {
            text = format!("{text}: {more}");
        }
        cause = error.source();
    }
    text
}

/// The provider could not be asked.
#[derive(Debug, thiserror::Error)]
enum AskError {
    #[error(transparent)]
    Http(#[from] reqwest::Error),
    #[error("it answered more than {ANSWER_LIMIT_BYTES} bytes")]
    TooLong,
}

/// One request to the provider.
async fn ask(http: reqwest::Client, request: HttpRequest) -> Result<HttpResponse, AskError> {
    let mut answer = http.execute(request.try_into()?).await?;
    let mut body = Vec::new();
    while let Some(chunk) = answer.chunk().await? {
        body.extend_from_slice(&chunk);
        if body.len() > ANSWER_LIMIT_BYTES {
            return Err(AskError::TooLong);
        }
    }
    let mut told = HttpResponse::new(body);
    *told.status_mut() = answer.status();
    *told.headers_mut() = answer.headers().clone();
    Ok(told)
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
