//! Single sign-on: the OpenID Connect code flow with PKCE, state and nonce, and what a provider's claims mean here.
//!
//! OpenID Connect Core 1.0 §3.1, RFC 7636 (PKCE), RFC 9700 (OAuth 2.0 security best current practice).

mod settings;

use std::time::Duration;

use kennel_model::Role;
use openidconnect::core::{
    CoreAuthDisplay, CoreAuthPrompt, CoreAuthenticationFlow, CoreClientAuthMethod, CoreErrorResponseType,
    CoreGenderClaim, CoreJsonWebKey, CoreJweContentEncryptionAlgorithm, CoreJwsSigningAlgorithm, CoreRevocableToken,
    CoreRevocationErrorResponse, CoreTokenIntrospectionResponse, CoreTokenType,
};
use openidconnect::{
    AccessTokenHash, AdditionalClaims, AuthType, AuthorizationCode, ClaimsVerificationError, Client, ClientId,
    ClientSecret, CsrfToken, EmptyExtraTokenFields, EndpointMaybeSet, EndpointNotSet, EndpointSet, HttpRequest,
    HttpResponse, IdTokenFields, IssuerUrl, Nonce, OAuth2TokenResponse as _, PkceCodeChallenge, PkceCodeVerifier,
    ProviderMetadataWithLogout, RedirectUrl, RequestTokenError, Scope, SignatureVerificationError,
    StandardErrorResponse, StandardTokenResponse, TokenResponse as _, UserInfoClaims, UserInfoError,
};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use url::Url;

pub use settings::Settings;

use self::settings::values;
use crate::secret::{self, Secret};

/// How long a provider may take to answer.
const PATIENCE: Duration = Duration::from_secs(10);
/// Largest answer that is read.
const ANSWER_LIMIT_BYTES: usize = 1 << 20;

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
    /// The provider does not know this Kennel.
    #[error(
        "the sign-on provider does not accept this Kennel: {}; its client id or client secret is wrong: tell an administrator",
        why.escape_debug()
    )]
    Client {
        /// What it said.
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
    /// They may no longer log in here.
    #[error("the account `{name}` is disabled; ask an administrator")]
    Disabled {
        /// Whose it is.
        name: String,
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

/// What a browser brings back from the provider.
#[derive(Clone)]
pub struct Brought {
    /// What the login was begun with.
    pub state: String,
    /// What can be traded for proof, or why there is none.
    pub code: Result<String, String>,
    /// Which provider says so, where it says that.
    pub issuer: Option<String>,
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

type ExchangeError = RequestTokenError<AskError, StandardErrorResponse<CoreErrorResponseType>>;

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
    /// When what was brought does not belong to the login that was begun, the provider refuses, its answer proves
    /// nothing, or its claims give no role.
    pub async fn finish(&self, begun: Begun, brought: Brought, back: &str) -> Result<Identity, SignOnError> {
        if !secret::same(&begun.state, &brought.state) {
            return Err(SignOnError::NotBegun);
        }
        let untrusted = |why: String| SignOnError::Untrusted { why };
        // RFC 9207: an answer that was meant for a login at another provider.
        if brought.issuer.as_ref().is_some_and(|issuer| *issuer != self.metadata.issuer().to_string()) {
            return Err(untrusted("it comes from another provider".to_owned()));
        }
        let code = brought.code.map_err(|why| SignOnError::Refused { why })?;
        let client = self.client(back)?;
        let http = self.http.clone();
        let asking = |request| ask(http.clone(), request);
        let exchange = client.exchange_code(AuthorizationCode::new(code));
        let exchange = exchange.map_err(|error| self.failed(error.to_string()))?;
        let exchange = exchange.set_pkce_verifier(PkceCodeVerifier::new(begun.verifier));
        let tokens: Tokens = exchange.request_async(&asking).await.map_err(|error| self.not_exchanged(&error))?;
        let id_token = tokens.id_token().ok_or_else(|| untrusted("it sent no ID token".to_owned()))?;
        let nonce = Nonce::new(begun.nonce);
        let unknown_key = matches!(
            id_token.claims(&client.id_token_verifier(), &nonce),
            Err(ClaimsVerificationError::SignatureVerification(SignatureVerificationError::NoMatchingKey))
        );
        // Providers change their keys now and then: it is asked once which ones it has today.
        let client = if unknown_key {
            Self::discover(self.settings.clone(), self.secret.clone()).await?.client(back)?
        } else {
            client
        };
        let verifier = client.id_token_verifier();
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
            let told = asked.request_async(&asking).await.map_err(|error| match error {
                UserInfoError::Request(_) => self.failed(whole(&error)),
                error => untrusted(whole(&error)),
            });
            let told: UserInfoClaims<OtherClaims, CoreGenderClaim> = told?;
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

    /// Why a code was not traded for tokens.
    fn not_exchanged(&self, error: &ExchangeError) -> SignOnError {
        match error {
            RequestTokenError::ServerResponse(said) => {
                let why = said.to_string();
                match said.error() {
                    CoreErrorResponseType::InvalidClient | CoreErrorResponseType::UnauthorizedClient => {
                        SignOnError::Client { why }
                    }
                    _ => SignOnError::Refused { why },
                }
            }
            // What it answered is not repeated: it may hold tokens.
            RequestTokenError::Parse(error, _) => {
                self.failed(format!("it answered no tokens (see `{}`)", error.path()))
            }
            error => self.failed(whole(error)),
        }
    }

    fn client(&self, back: &str) -> Result<Asking, SignOnError> {
        let back = RedirectUrl::new(back.to_owned()).map_err(|error| self.failed(error.to_string()))?;
        let id = ClientId::new(self.settings.client_id.clone());
        let secret = self.secret.as_ref().map(|secret| ClientSecret::new(secret.reveal().to_owned()));
        // Unless the provider says otherwise, it takes the secret in a header (OpenID Connect Discovery 1.0 §3).
        let ways = self.metadata.token_endpoint_auth_methods_supported();
        let by_header = ways.is_none_or(|ways| ways.contains(&CoreClientAuthMethod::ClientSecretBasic));
        let way = if by_header { AuthType::BasicAuth } else { AuthType::RequestBody };
        let client = Asking::from_provider_metadata(self.metadata.clone(), id, secret);
        Ok(client.set_redirect_uri(back).set_auth_type(way))
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
