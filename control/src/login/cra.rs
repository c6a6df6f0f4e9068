//! WAMP-CRA: the client shows that it knows a secret by a keyed hash of what it is sent (WAMP, "Challenge Response
//! Authentication").
//!
//! ```text
//! key = Base64(PBKDF2-HMAC-SHA-256(password, salt))      signature = Base64(HMAC-SHA-256(key, challenge))
//! ```
//!
//! The key is kept in place of the password. Whoever steals it can log in with it, but not find out the password easily. Without a
//! salt the password itself is the key, and has to be kept.

use std::fmt;
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit, Mac};
use serde_json::{Value, json};
use sha2::Sha256;
use subtle::ConstantTimeEq as _;
use zeroize::Zeroizing;

use crate::calendar;

/// What is kept of a secret. Its text is `$wampcra$i=ROUNDS$SALT$KEY`, or `$wampcra$plain$` and the secret in base64.
#[derive(Clone, PartialEq, Eq)]
pub struct CraSecret {
    salting: Option<Salting>,
    /// What signs.
    key: Zeroizing<String>,
}

/// What the client has to do with its password first.
#[derive(Clone, PartialEq, Eq, Hash, Debug, PartialOrd, Ord)]
struct Salting {
    rounds: u32,
    salt: String,
}

/// How secrets of this kind are made: what a client can see of them, but for the salt.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, PartialOrd, Ord)]
pub(super) struct CraShape(Option<u32>);

/// Rounds of PBKDF2 for new secrets. Clients do them at each login: a tenth of a second natively, several in some browsers.
pub const ROUNDS: u32 = 100_000;
/// Least that is made or read.
pub const ROUNDS_MIN: u32 = 1_000;
/// Most: a mistake in a file must not occupy every client.
pub const ROUNDS_MAX: u32 = 10_000_000;
/// Of a derived key.
const KEY_BYTES: usize = 32;
const PREFIX: &str = "$wampcra$";

impl CraSecret {
    /// Of a password. Takes as long as it takes a client.
    pub fn salted(password: &str, rounds: u32, salt: [u8; 16]) -> Self {
        let salt = STANDARD.encode(salt);
        let key = derive(password, &salt, rounds);
        Self { salting: Some(Salting { rounds, salt }), key }
    }

    /// The secret itself, for clients that cannot derive keys.
    pub fn plain(secret: &str) -> Self {
        Self { salting: None, key: Zeroizing::new(secret.to_owned()) }
    }

    /// Of the key that somebody else has derived, in base64. `key_bytes`: how long he says it is.
    ///
    /// # Errors
    ///
    /// In words: what cannot be so.
    pub(super) fn derived(
        key: &str,
        salt: &str,
        rounds: Option<u32>,
        key_bytes: Option<u32>,
    ) -> Result<Self, String> {
        let rounds = rounds.filter(|rounds| (1..=ROUNDS_MAX).contains(rounds));
        let rounds = rounds.ok_or_else(|| format!("\"iterations\" is not 1 to {ROUNDS_MAX}"))?;
        let length =
            STANDARD.decode(key).map_err(|_| "\"secret\" is no derived key: it is not base64")?.len();
        if length == 0 || key_bytes.is_some_and(|said| said as usize != length) {
            return Err(format!("\"keylen\" is not the {length} bytes that \"secret\" has"));
        }
        let salting = Salting { rounds, salt: salt.to_owned() };
        Ok(Self { salting: Some(salting), key: Zeroizing::new(key.to_owned()) })
    }

    /// Like this one, and nobody's. `chance` gives the same for the same words.
    pub(super) fn decoy_like(&self, chance: impl Fn(&str) -> [u8; 32]) -> Self {
        let like = |what: &str, length: usize| {
            let text = (0..).flat_map(|part| STANDARD.encode(chance(&format!("{what} {part}"))).into_bytes());
            text.filter(|byte| *byte != b'=').take(length).map(char::from).collect::<String>()
        };
        let salting = self.salting.as_ref();
        let salting =
            salting.map(|like_it| Salting { rounds: like_it.rounds, salt: like("salt", like_it.salt.len()) });
        let key: Vec<u8> = chance("key").into_iter().cycle().take(self.key_bytes()).collect();
        Self { salting, key: Zeroizing::new(STANDARD.encode(key)) }
    }

    /// How long the client has to make the key.
    fn key_bytes(&self) -> usize {
        STANDARD.decode(&*self.key).map_or(KEY_BYTES, |key| key.len())
    }

    pub(super) fn shape(&self) -> CraShape {
        CraShape(self.salting.as_ref().map(|salting| salting.rounds))
    }

    /// One that nobody knows.
    pub(super) fn decoy(shape: CraShape, salt: &[u8; 32], key: &[u8; 32]) -> Self {
        let salting = shape.0.map(|rounds| Salting { rounds, salt: STANDARD.encode(&salt[..16]) });
        Self { salting, key: Zeroizing::new(STANDARD.encode(key)) }
    }

    /// CHALLENGE's `Extra`, and the text in it that is to be signed.
    pub(super) fn challenge(
        &self,
        authid: &str,
        role: &str,
        session: u64,
        nonce: &[u8; 16],
    ) -> (Value, String) {
        let text = json!({
            "authid": authid,
            "authrole": role,
            "authmethod": "wampcra",
            // Whoever vouches for it: that is told once it has shown who it is.
            "authprovider": "static",
            "nonce": STANDARD.encode(nonce),
            "timestamp": calendar::to_the_millisecond(calendar::now()),
            "session": session,
        })
        .to_string();
        let mut extra = json!({ "challenge": text });
        if let Some(Salting { rounds, salt }) = &self.salting {
            extra["salt"] = salt.as_str().into();
            extra["iterations"] = (*rounds).into();
            extra["keylen"] = self.key_bytes().into();
        }
        (extra, text)
    }

    /// The text that a client of WAMP version 1 has to sign.
    pub(super) fn challenge_of_version_1(&self, name: &str, session: u64, nonce: &[u8; 16]) -> String {
        let mut challenge = json!({
            "authid": STANDARD.encode(nonce),
            "authkey": name,
            "timestamp": calendar::to_the_millisecond(calendar::now()),
            "sessionid": session.to_string(),
            "extra": {},
            // What it may do is told to those who are in.
            "permissions": { "pubsub": [], "rpc": [] },
        });
        if let Some(Salting { rounds, salt }) = &self.salting {
            challenge["authextra"] =
                json!({ "salt": salt, "iterations": rounds, "keylen": self.key_bytes() });
        }
        challenge.to_string()
    }

    /// Whether the signature is that of `challenge` by this secret. Takes the same time wherever the first difference is.
    pub(super) fn has_signed(&self, challenge: &str, signature: &str) -> bool {
        sign(&self.key, challenge).as_bytes().ct_eq(signature.as_bytes()).into()
    }
}

pub(super) fn derive(password: &str, salt: &str, rounds: u32) -> Zeroizing<String> {
    let mut key = Zeroizing::new([0; KEY_BYTES]);
    pbkdf2::pbkdf2_hmac::<Sha256>(password.as_bytes(), salt.as_bytes(), rounds, &mut *key);
    Zeroizing::new(STANDARD.encode(*key))
}

/// The signature of a challenge, in base64.
pub(super) fn sign(key: &str, challenge: &str) -> String {
    let mut mac = Hmac::<Sha256>::new_from_slice(key.as_bytes()).expect("any length is a key");
    mac.update(challenge.as_bytes());
    STANDARD.encode(mac.finalize().into_bytes())
}

impl FromStr for CraSecret {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let rest = text.strip_prefix(PREFIX).ok_or("it is no secret for wampcra")?;
        let parts: Vec<&str> = rest.split('$').collect();
        match parts[..] {
            ["plain", secret] => {
                let secret = STANDARD.decode(secret).ok().and_then(|bytes| String::from_utf8(bytes).ok());
                let secret = secret.filter(|secret| !secret.is_empty());
                secret
                    .map(|secret| Self::plain(&secret))
                    .ok_or_else(|| "its secret is no text in base64".into())
            }
            [rounds, salt, key] => {
                let rounds = rounds.strip_prefix("i=").and_then(|rounds| rounds.parse().ok());
                let rounds = rounds.filter(|rounds| (ROUNDS_MIN..=ROUNDS_MAX).contains(rounds));
                let rounds =
                    rounds.ok_or_else(|| format!("its rounds are not i={ROUNDS_MIN} to {ROUNDS_MAX}"))?;
                if salt.is_empty() {
                    return Err("its salt is missing".into());
                }
                if STANDARD.decode(key).map_or(0, |key| key.len()) != KEY_BYTES {
                    return Err(format!("its key is not {KEY_BYTES} bytes in base64"));
                }
                let salting = Some(Salting { rounds, salt: salt.to_owned() });
                Ok(Self { salting, key: Zeroizing::new(key.to_owned()) })
            }
            _ => Err("it is no secret for wampcra".into()),
        }
    }
}

impl fmt::Display for CraSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.salting {
            Some(Salting { rounds, salt }) => write!(f, "{PREFIX}i={rounds}${salt}${}", *self.key),
            None => write!(f, "{PREFIX}plain${}", STANDARD.encode(self.key.as_bytes())),
        }
    }
}

impl fmt::Debug for CraSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("CraSecret(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Calculated by Autobahn|Python (`derive_key`, `compute_wcs`).
    #[test]
    fn keys_and_signatures_are_those_of_others() {
        let key = derive("L3L1YUE8Txlw", "salt123", 1000);
        assert_eq!(*key, DERIVED);
        assert_eq!(sign("L3L1YUE8Txlw", CHALLENGE), SIGNED);
        assert_eq!(sign(&key, CHALLENGE), SIGNED_DERIVED);
    }

    const CHALLENGE: &str = r#"{"nonce":"LHRTC9zeOIrt_9U3","authid":"peter"}"#;
    const DERIVED: &str = "qzcdsr9uu/L5hnss3kjNTRe490ETgA70ZBaB5rvnJ5Y=";
    const SIGNED: &str = "RL20I6Yxp3IKNFsf7OClpRv7PTuWSsJou+YoyvkSgSQ=";
    const SIGNED_DERIVED: &str = "FUomsxw47pRQmmCACo0PcXw5nKYjfK539P2gSCRX7G0=";

    #[test]
    fn a_secret_is_read_as_written_and_never_shown() {
        for secret in [CraSecret::salted("swordfish", 1000, [7; 16]), CraSecret::plain("sword:fish$")] {
            let text = secret.to_string();
            assert!(!text.contains("fish") && !text.contains(':'), "{text}");
            assert_eq!(text.parse::<CraSecret>().as_ref(), Ok(&secret));
            assert_eq!(format!("{secret:?}"), "CraSecret(…)");
        }
    }

    #[test]
    fn who_knows_the_secret_signs_and_nobody_else() {
        for (secret, key) in [
            (
                CraSecret::salted("swordfish", 1000, [7; 16]),
                derive("swordfish", &STANDARD.encode([7; 16]), 1000),
            ),
            (CraSecret::plain("swordfish"), Zeroizing::new("swordfish".to_owned())),
        ] {
            let (extra, text) = secret.challenge("ann \"x\"", "member", 17, &[1; 16]);
            assert_eq!(extra["challenge"], text.as_str());
            assert_eq!(extra.get("salt").is_some(), secret.salting.is_some());
            let said: Value = serde_json::from_str(&text).expect("it is JSON");
            assert_eq!((&said["authid"], &said["session"]), (&json!("ann \"x\""), &json!(17)));
            let signature = sign(&key, &text);
            assert!(secret.has_signed(&text, &signature));
            let (_, other) = secret.challenge("ann \"x\"", "member", 17, &[2; 16]);
            for (text, signature) in
                [(&other, &*signature), (&text, ""), (&text, &signature[1..]), (&text, "é")]
            {
                assert!(!secret.has_signed(text, signature), "{signature}");
            }
        }
    }

    #[test]
    fn what_is_no_secret_is_refused_in_words() {
        for (text, words) in [
            ("swordfish", "no secret for wampcra"),
            ("$wampcra$", "no secret"),
            ("$wampcra$plain$", "base64"),
            ("$wampcra$plain$???", "base64"),
            ("$wampcra$i=999$a$b", "rounds"),
            ("$wampcra$i=99999999$a$b", "rounds"),
            ("$wampcra$i=1000$$b", "salt"),
            ("$wampcra$i=1000$a$AAAA", "32 bytes"),
            ("$wampcra$i=1000$a$b$c", "no secret"),
        ] {
            let error = text.parse::<CraSecret>().expect_err(text);
            assert!(error.contains(words), "{text}: {error}");
        }
    }
}
