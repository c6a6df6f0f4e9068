//! Tickets that are JSON Web Tokens: signed by somebody whose keys are known here (RFC 7515, RFC 7517, RFC 7519).
//!
//! ```text
//! ticket ─▶ header: which key ─▶ key set (a file, or a URL) ─▶ signature ─▶ claims: issuer, audience, times ─▶ user and role
//! ```
//!
//! Which algorithms a key is for is said by the key and by the configuration, never by the token: one that names another is
//! refused. What is told of a token is told only after its signature was found good.

use std::collections::HashMap;
use std::fmt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use arc_swap::ArcSwap;
use fanwire_core::ANONYMOUS_AUTHID_PREFIX;
use fanwire_core::ids::RoleId;
use fanwire_core::question::Grant;
pub use jsonwebtoken::Algorithm;
use jsonwebtoken::errors::ErrorKind;
use jsonwebtoken::jwk::{AlgorithmParameters, EllipticCurve, Jwk, PublicKeyUse};
use jsonwebtoken::{DecodingKey, Validation, decode, decode_header};
use serde_json::{Map, Value};
use tokio::time::Instant;

use super::users::Why;
use crate::calendar;
use crate::hooks::HookUrl;

/// Whose tokens are good, and what they say.
#[derive(Clone, Debug, PartialEq)]
pub struct TokenConfig {
    /// For the log.
    pub name: String,
    /// Where the keys are.
    pub source: KeySource,
    /// Those that keys may be used with.
    pub algorithms: Vec<Algorithm>,
    /// The claim `iss`, if it is to be checked.
    pub issuer: Option<String>,
    /// One of these must be in the claim `aud`; if there are none, it is not looked at.
    pub audience: Vec<String>,
    /// The claim that is the user's name.
    pub authid_claim: String,
    /// The claim that names the role, or a list of which the first known one counts.
    pub role_claim: Option<String>,
    /// The role of tokens that name none.
    pub role: Option<RoleId>,
    /// The realm's roles.
    pub roles: HashMap<String, RoleId>,
    /// How far clocks may differ.
    pub leeway: Duration,
    /// Whether a session ends with its token.
    pub ends_session: bool,
    /// After this time a key set of a URL is asked for again.
    pub refresh: Duration,
}

/// Where a key set comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KeySource {
    /// Read with the configuration.
    File(PathBuf, KeySet),
    /// Fetched when it is needed.
    Url(HookUrl),
}

/// One issuer, with the keys that are known of it now.
#[derive(Debug)]
pub struct Tokens {
    config: TokenConfig,
    keys: ArcSwap<KeySet>,
    asked: Mutex<Asked>,
}

/// When the URL was asked.
#[derive(Debug, Default)]
struct Asked {
    last: Option<Instant>,
    had: Option<Instant>,
}

/// Keys that tokens may be signed with.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KeySet(Vec<Key>);

#[derive(Clone)]
struct Key {
    jwk: Jwk,
    algorithms: Vec<Algorithm>,
    key: DecodingKey,
}

/// A URL is not asked more often than that, whatever clients send.
const ASK_AGAIN: Duration = Duration::from_secs(30);
/// In one set.
const KEYS_MAX: usize = 100;
/// Of a user's name.
const AUTHID_BYTES_MAX: usize = 255;
/// Of a shared secret: shorter ones are guessed.
const SECRET_BYTES_MIN: usize = 32;

impl KeySet {
    /// Reads a JWK set. Keys that are for encryption, or for none of these algorithms, are left out.
    ///
    /// # Errors
    ///
    /// In words, if it is no such set or has no key that can be used.
    pub fn parse(text: &str, algorithms: &[Algorithm]) -> Result<Self, String> {
        let set: Value = serde_json::from_str(text).map_err(|error| format!("it is no JSON: {error}"))?;
        let keys =
            set.get("keys").and_then(Value::as_array).ok_or("it is no key set: it has no list \"keys\"")?;
        if keys.len() > KEYS_MAX {
            return Err(format!("it has {} keys; {KEYS_MAX} are the most", keys.len()));
        }
        let keys: Vec<Key> = keys.iter().filter_map(|key| Key::read(key, algorithms)).collect();
        if keys.is_empty() {
            return Err(format!("none of its keys is for one of the algorithms {algorithms:?}"));
        }
        Ok(Self(keys))
    }
}

impl Key {
    fn read(key: &Value, allowed: &[Algorithm]) -> Option<Self> {
        let jwk: Jwk = serde_json::from_value(key.clone()).ok()?;
        if matches!(jwk.common.public_key_use, Some(PublicKeyUse::Encryption)) {
            return None;
        }
        let mut algorithms = match jwk.common.key_algorithm {
            Some(named) => vec![Algorithm::try_from(named).ok()?],
            None => fitting(&jwk.algorithm),
        };
        let fits = fitting(&jwk.algorithm);
        algorithms.retain(|algorithm| allowed.contains(algorithm) && fits.contains(algorithm));
        let key = DecodingKey::from_jwk(&jwk).ok().filter(|_| !algorithms.is_empty())?;
        let is_weak = matches!(jwk.algorithm, AlgorithmParameters::OctetKey(_))
            && key.try_get_as_bytes().map_or(0, <[u8]>::len) < SECRET_BYTES_MIN;
        (!is_weak).then_some(Self { jwk, algorithms, key })
    }
}

/// What a key of this kind can be used with.
fn fitting(parameters: &AlgorithmParameters) -> Vec<Algorithm> {
    use Algorithm::{ES256, ES384, EdDSA, HS256, HS384, HS512, PS256, PS384, PS512, RS256, RS384, RS512};
    match parameters {
        AlgorithmParameters::RSA(_) => vec![RS256, RS384, RS512, PS256, PS384, PS512],
        AlgorithmParameters::EllipticCurve(curve) => match curve.curve {
            EllipticCurve::P256 => vec![ES256],
            EllipticCurve::P384 => vec![ES384],
            _ => Vec::new(),
        },
        AlgorithmParameters::OctetKeyPair(pair) if pair.curve == EllipticCurve::Ed25519 => vec![EdDSA],
        AlgorithmParameters::OctetKey(_) => vec![HS256, HS384, HS512],
        _ => Vec::new(),
    }
}

impl PartialEq for Key {
    fn eq(&self, other: &Self) -> bool {
        self.jwk == other.jwk && self.algorithms == other.algorithms
    }
}

impl Eq for Key {}

/// There are secrets among keys.
impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Key").field("id", &self.jwk.common.key_id).finish_non_exhaustive()
    }
}

/// Whether a ticket looks like a token: no ticket that `fanwire passwd` is given by chance does.
pub(super) fn is_token(ticket: &str) -> bool {
    ticket.starts_with("eyJ") && ticket.bytes().filter(|byte| *byte == b'.').count() == 2
}

impl Tokens {
    /// With the keys of a file, or none yet.
    pub fn new(config: TokenConfig) -> Self {
        let keys = match &config.source {
            KeySource::File(_, keys) => keys.clone(),
            KeySource::Url(_) => KeySet::default(),
        };
        Self { config, keys: ArcSwap::from_pointee(keys), asked: Mutex::default() }
    }

    pub(super) fn is_as_configured_as(&self, other: &Self) -> bool {
        self.config == other.config
    }

    /// The same issuer as configured before keeps the keys that were fetched.
    pub fn keep_keys_of(&self, before: &Self) {
        if matches!(self.config.source, KeySource::Url(_)) && self.config.source == before.config.source {
            self.keys.store(before.keys.load_full());
        }
    }

    /// Who the token says it is for, and which role it gives. `authid`: who the client says it is.
    pub(super) fn verify(&self, token: &str, authid: Option<&str>) -> Result<Grant, Why> {
        let header = decode_header(token).map_err(|_| Why::WrongSecret)?;
        let keys = self.keys.load();
        let is_named = |key: &&Key| header.kid.is_none() || key.jwk.common.key_id == header.kid;
        let mut outcome = Err(Why::UnknownKey);
        for key in keys.0.iter().filter(is_named).filter(|key| key.algorithms.contains(&header.alg)) {
            outcome = self.claims(token, key).and_then(|claims| self.grant(&claims, authid));
            if !matches!(outcome, Err(Why::WrongSecret)) {
                break;
            }
        }
        outcome
    }

    fn claims(&self, token: &str, key: &Key) -> Result<Map<String, Value>, Why> {
        let mut rules = Validation::new(key.algorithms[0]);
        rules.algorithms.clone_from(&key.algorithms);
        rules.leeway = self.config.leeway.as_secs();
        rules.validate_nbf = true;
        rules.validate_aud = !self.config.audience.is_empty();
        let mut required = vec!["exp"];
        if !self.config.audience.is_empty() {
            rules.set_audience(&self.config.audience);
            required.push("aud");
        }
        if let Some(issuer) = &self.config.issuer {
            rules.set_issuer(&[issuer]);
            required.push("iss");
        }
        rules.set_required_spec_claims(&required);
        let decoded = decode::<Map<String, Value>>(token, &key.key, &rules);
        decoded.map(|decoded| decoded.claims).map_err(|error| match error.kind() {
            ErrorKind::ExpiredSignature => Why::Token("the token has expired"),
            ErrorKind::ImmatureSignature => Why::Token("the token is not good yet"),
            ErrorKind::InvalidIssuer => Why::Token("the token is of another issuer"),
            ErrorKind::InvalidAudience => Why::Token("the token is for another audience"),
            ErrorKind::MissingRequiredClaim(_) | ErrorKind::InvalidClaimFormat(_) => Why::Token(
                "the token lacks a claim that is needed: exp, and iss and aud where they are checked",
            ),
            _ => Why::WrongSecret,
        })
    }

    fn grant(&self, claims: &Map<String, Value>, authid: Option<&str>) -> Result<Grant, Why> {
        let name = claims.get(&self.config.authid_claim).and_then(Value::as_str);
        let is_name = |name: &&str| {
            !name.is_empty() && name.len() <= AUTHID_BYTES_MAX && !name.starts_with(ANONYMOUS_AUTHID_PREFIX)
        };
        let name = name.filter(is_name).ok_or(Why::Token("the token does not say whose it is"))?;
        if authid.is_some_and(|authid| authid != name) {
            return Err(Why::Token("the token is another user's"));
        }
        let claim = self.config.role_claim.as_ref().and_then(|claim| claims.get(claim));
        let named: Vec<&str> = match claim {
            Some(Value::String(role)) => vec![role],
            Some(Value::Array(roles)) => roles.iter().filter_map(Value::as_str).collect(),
            _ => Vec::new(),
        };
        let known = named.iter().find_map(|role| self.config.roles.get(*role)).copied();
        let role = known.or(self.config.role).ok_or(Why::Token("the token gives no role in this realm"))?;
        let ends_after = self.config.ends_session.then(|| self.rest_of(claims)).flatten();
        Ok(Grant {
            role: Some(role),
            authid: Some(name.into()),
            provider: "jwt",
            ends_after,
            ..Grant::default()
        })
    }

    /// How long it is still good.
    fn rest_of(&self, claims: &Map<String, Value>) -> Option<Duration> {
        let end = Duration::try_from_secs_f64(claims.get("exp")?.as_f64()?).ok()? + self.config.leeway;
        Some(end.saturating_sub(calendar::since_1970()))
    }

    /// Whether the keys are to be asked for before a token is verified, or because it has an unknown one.
    pub(super) fn is_stale(&self, for_unknown_key: bool) -> bool {
        let asked = self.asked.lock().expect("nobody panics with it");
        let is_url = matches!(self.config.source, KeySource::Url(_));
        let is_old = asked.had.is_none_or(|had| had.elapsed() >= self.config.refresh);
        is_url && (for_unknown_key || is_old) && asked.last.is_none_or(|last| last.elapsed() >= ASK_AGAIN)
    }

    /// Asks for the keys, which takes seconds at most. Those that are known stay if it fails.
    pub(super) async fn refresh(self: Arc<Self>) {
        let KeySource::Url(url) = &self.config.source else { return };
        self.asked.lock().expect("nobody panics with it").last = Some(Instant::now());
        let name = &self.config.name;
        let text = match crate::hooks::fetch(url.clone()).await {
            Ok(text) => text,
            Err(why) => return tracing::warn!("keys of {name:?} cannot be had from {url}: {why}"),
        };
        match KeySet::parse(&text, &self.config.algorithms) {
            Ok(keys) => {
                tracing::debug!("keys of {name:?}: {} from {url}", keys.0.len());
                self.keys.store(Arc::new(keys));
                self.asked.lock().expect("nobody panics with it").had = Some(Instant::now());
            }
            Err(why) => tracing::warn!("keys of {name:?} from {url} cannot be used: {why}"),
        }
    }
}

#[cfg(test)]
#[path = "jwt_tests.rs"]
mod tests;
