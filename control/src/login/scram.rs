//! SCRAM: both sides show that they know what was made of a password, and neither says it (WAMP, "Salted Challenge Response
//! Authentication"; RFC 5802, RFC 7677).
//!
//! ```text
//! SaltedPassword = KDF(password, salt)
//! ClientKey = HMAC(SaltedPassword, "Client Key")    StoredKey = SHA-256(ClientKey)     is kept
//! ServerKey = HMAC(SaltedPassword, "Server Key")                                       is kept
//! proof     = ClientKey XOR HMAC(StoredKey, messages)            from the client, in AUTHENTICATE
//! verifier  = HMAC(ServerKey, messages)                          from the router, in WELCOME
//! ```
//!
//! There are two dialects. `wamp-scram` is the specification's. `scram` is what Autobahn speaks: the derivation is called
//! `argon2id-13`, its output is used as unpadded base64, the password is not normalised, names are not escaped, there is no channel
//! binding (`c=` is empty), AUTHENTICATE says no nonce, and the verifier is `scram_server_signature`. Since the salted passwords
//! differ, keys are kept for both. Autobahn fails over PBKDF2 by itself, so such users are not offered that dialect.

use std::fmt;
use std::str::FromStr;

use argon2::{Algorithm, Argon2, Params, Version};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD};
use fanwire_core::login::ChannelId;
use hmac::{Hmac, KeyInit, Mac};
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq as _;
use zeroize::Zeroizing;

use super::cryptosign::{unhex, unhex_all};
use super::exchange::{Binding, text_of};
use super::hash::{DerivationFailed, MEMORY_KIB_MAX, PASSES_MAX};
use super::users::Why;

/// What is kept of a password. Its text is `$scram$argon2id,m=KIB,t=PASSES$SALT$` or `$scram$pbkdf2,i=ROUNDS$SALT$`, then
/// `StoredKey$ServerKey`, and for Argon2 those of Autobahn's dialect.
#[derive(Clone, PartialEq, Eq)]
pub struct ScramKeys {
    kdf: Kdf,
    /// In base64, as it is sent.
    salt: String,
    standard: Keys,
    autobahn: Option<Keys>,
}

/// How a password becomes a key. The client does it at each login, the router never.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, PartialOrd, Ord)]
pub enum Kdf {
    /// Argon2id of version 1.3, with parallelism 1.
    Argon2id {
        /// Memory in KiB.
        memory_kib: u32,
        /// Passes over it.
        passes: u32,
    },
    /// PBKDF2 with HMAC-SHA-256.
    Pbkdf2 {
        /// Iterations.
        rounds: u32,
    },
}

impl Kdf {
    /// As costly as for tickets: 19 MiB, two passes.
    pub const ARGON2ID: Self =
        Self::Argon2id { memory_kib: Params::DEFAULT_M_COST, passes: Params::DEFAULT_T_COST };
    /// A tenth of a second natively.
    pub const PBKDF2: Self = Self::Pbkdf2 { rounds: super::cra::ROUNDS };
}

/// Which words are spoken.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Dialect {
    Standard,
    Autobahn,
}

#[derive(Clone, Copy, PartialEq, Eq)]
struct Keys {
    stored: [u8; 32],
    server: [u8; 32],
}

/// A login that has been challenged.
pub(super) struct ScramStep {
    dialect: Dialect,
    keys: Keys,
    /// Of both sides.
    nonce: String,
    binding: Option<Binding>,
    /// The first two of the messages that are signed.
    said: String,
}

/// RFC 7677, section 4.
pub const PBKDF2_ROUNDS_MIN: u32 = 4096;
const NONCE_BYTES_MAX: usize = 256;
const PREFIX: &str = "$scram$";

impl ScramKeys {
    /// Of a password. As slow as for a client.
    ///
    /// # Errors
    ///
    /// In words: it has characters that no password may have, or there is not enough memory.
    pub fn of(password: &str, kdf: Kdf, salt: [u8; 16]) -> Result<Self, String> {
        let no_memory = |_| "there is not enough memory to derive the key".to_owned();
        // WAMP, "Username/Password String Normalization".
        let normal = stringprep::saslprep(password)
            .map_err(|_| "it has characters that no SCRAM password may have (RFC 4013)".to_owned())?;
        let salted = kdf.derive(&normal, &salt).map_err(no_memory)?;
        let autobahn = match kdf {
            Kdf::Argon2id { .. } => {
                let raw = if normal == password {
                    salted.clone()
                } else {
                    kdf.derive(password, &salt).map_err(no_memory)?
                };
                Some(Keys::of(Zeroizing::new(STANDARD_NO_PAD.encode(*raw)).as_bytes()))
            }
            Kdf::Pbkdf2 { .. } => None,
        };
        Ok(Self { kdf, salt: STANDARD.encode(salt), standard: Keys::of(&*salted), autobahn })
    }

    /// Of what somebody else has made of a password: `keys` are StoredKey and ServerKey, in hexadecimal digits or base64, and
    /// the salt is written like them. For one dialect, `autobahn` or the specification's; `cost` are iterations and KiB.
    ///
    /// # Errors
    ///
    /// In words: what cannot be so.
    pub(super) fn told(
        autobahn: bool,
        kdf: &str,
        cost: (Option<u32>, Option<u32>),
        salt: &str,
        keys: (&str, &str),
    ) -> Result<Self, String> {
        let kdf = match (kdf, cost) {
            ("argon2id-13", (Some(passes), Some(memory_kib))) if autobahn => {
                Kdf::Argon2id { memory_kib, passes }
            }
            ("argon2id13", (Some(passes), Some(memory_kib))) if !autobahn => {
                Kdf::Argon2id { memory_kib, passes }
            }
            ("pbkdf2", (Some(rounds), _)) if !autobahn => Kdf::Pbkdf2 { rounds },
            ("argon2id-13" | "argon2id13" | "pbkdf2", (Some(_), None)) => {
                return Err("\"memory\" is missing, or this dialect of SCRAM has another \"kdf\"".into());
            }
            ("argon2id-13" | "argon2id13" | "pbkdf2", (None, _)) => {
                return Err("\"iterations\" is missing".into());
            }
            _ => return Err("this dialect of SCRAM has another \"kdf\"".into()),
        };
        let is_right = match kdf {
            Kdf::Argon2id { memory_kib, passes } => passes > 0 && (8..=MEMORY_KIB_MAX).contains(&memory_kib),
            Kdf::Pbkdf2 { rounds } => (PBKDF2_ROUNDS_MIN..=super::cra::ROUNDS_MAX).contains(&rounds),
        };
        if !is_right {
            return Err("\"iterations\" or \"memory\" is out of range".into());
        }
        let is_hex = keys.0.len() == 64;
        let key = |text: &str| {
            let bytes = || STANDARD.decode(text).ok().and_then(|bytes| bytes.try_into().ok());
            let key = if is_hex { unhex::<32>(text) } else { bytes() };
            key.ok_or_else(|| "a key is not 32 bytes, all in hexadecimal digits or all in base64".to_owned())
        };
        let keys = Keys { stored: key(keys.0)?, server: key(keys.1)? };
        let salt = if is_hex { unhex_all(salt) } else { STANDARD.decode(salt).ok() };
        let salt = salt
            .filter(|salt| salt.len() >= 8)
            .ok_or("\"salt\" is not 8 bytes at least, written like the keys")?;
        Ok(Self { kdf, salt: STANDARD.encode(salt), standard: keys, autobahn: autobahn.then_some(keys) })
    }

    /// Like these, and nobody's.
    pub(super) fn decoy_like(&self, chance: impl Fn(&str) -> [u8; 32]) -> Self {
        let length = STANDARD.decode(&self.salt).map_or(16, |salt| salt.len());
        let salt: Vec<u8> = (0..).flat_map(|part| chance(&format!("salt {part}"))).take(length).collect();
        let key = chance("key");
        let keys = Keys { stored: key, server: key };
        Self {
            kdf: self.kdf,
            salt: STANDARD.encode(salt),
            standard: keys,
            autobahn: self.autobahn.map(|_| keys),
        }
    }

    pub(super) fn shape(&self) -> Kdf {
        self.kdf
    }

    /// Keys of nobody's password.
    pub(super) fn decoy(kdf: Kdf, salt: &[u8; 32], key: &[u8; 32]) -> Self {
        let keys = Keys { stored: *key, server: *key };
        let autobahn = matches!(kdf, Kdf::Argon2id { .. }).then_some(keys);
        Self { kdf, salt: STANDARD.encode(&salt[..16]), standard: keys, autobahn }
    }

    fn keys(&self, dialect: Dialect) -> Option<Keys> {
        match dialect {
            Dialect::Standard => Some(self.standard),
            Dialect::Autobahn => self.autobahn,
        }
    }

    /// CHALLENGE's `Extra`, and what its answer is compared with. `hello`: the client's `authextra`.
    pub(super) fn challenge(
        &self,
        dialect: Dialect,
        authid: &str,
        hello: &Map<String, Value>,
        channel: Option<&ChannelId>,
        random: &[u8; 18],
    ) -> Result<(Value, ScramStep), Why> {
        let keys = self.keys(dialect).ok_or(Why::UnknownProof)?;
        let nonce = text_of(hello, "nonce")?.ok_or(Why::Malformed("authextra has no nonce"))?;
        // In base64: so it has no comma, which would make two attributes of one.
        let is_base64 = |byte: u8| byte.is_ascii_alphanumeric() || b"+/=".contains(&byte);
        if nonce.is_empty() || nonce.len() > NONCE_BYTES_MAX || !nonce.bytes().all(is_base64) {
            return Err(Why::Malformed("the nonce in authextra is not base64 of 1 to 256 characters"));
        }
        let binding = match dialect {
            Dialect::Standard => Binding::wanted(hello, channel)?,
            Dialect::Autobahn => None,
        };
        let both = format!("{nonce}{}", STANDARD.encode(random));
        let (iterations, memory) = match self.kdf {
            Kdf::Argon2id { memory_kib, passes } => (passes, Some(memory_kib)),
            Kdf::Pbkdf2 { rounds } => (rounds, None),
        };
        let kdf = match (self.kdf, dialect) {
            (Kdf::Argon2id { .. }, Dialect::Standard) => "argon2id13",
            (Kdf::Argon2id { .. }, Dialect::Autobahn) => "argon2id-13",
            (Kdf::Pbkdf2 { .. }, _) => "pbkdf2",
        };
        let mut extra = json!({ "nonce": both, "salt": self.salt, "kdf": kdf, "iterations": iterations });
        // Autobahn takes null for a number.
        if memory.is_some() || dialect == Dialect::Standard {
            extra["memory"] = memory.into();
        }
        let said = match dialect {
            Dialect::Standard => first_messages(authid, nonce, &both, &self.salt, iterations),
            Dialect::Autobahn => format!("n={authid},r={nonce},r={both},s={},i={iterations}", self.salt),
        };
        Ok((extra, ScramStep { dialect, keys, nonce: both, binding, said }))
    }
}

impl ScramStep {
    /// WELCOME's `authextra` if the proof is that of who knows the password. `extra`: of AUTHENTICATE.
    pub(super) fn verify(&self, proof: &str, extra: &Map<String, Value>) -> Result<Option<Value>, Why> {
        match text_of(extra, "nonce")? {
            Some(nonce) if nonce == self.nonce => {}
            // It is in the proof all the same.
            None if self.dialect == Dialect::Autobahn => {}
            None => return Err(Why::Malformed("AUTHENTICATE says no nonce")),
            Some(_) => return Err(Why::Malformed("AUTHENTICATE says another nonce than CHALLENGE")),
        }
        let bound = match self.dialect {
            Dialect::Standard => STANDARD.encode(self.binding_input(extra)?),
            Dialect::Autobahn => String::new(),
        };
        let messages = format!("{},c={bound},r={}", self.said, self.nonce);
        let Some(proof) = STANDARD.decode(proof).ok().and_then(|proof| <[u8; 32]>::try_from(proof).ok())
        else {
            return Ok(None);
        };
        let mut client_key = hmac(&self.keys.stored, messages.as_bytes());
        client_key.iter_mut().zip(proof).for_each(|(byte, proof)| *byte ^= proof);
        let is_right: bool = Sha256::digest(client_key)[..].ct_eq(&self.keys.stored).into();
        let verifier = STANDARD.encode(hmac(&self.keys.server, messages.as_bytes()));
        let key = match self.dialect {
            Dialect::Standard => "verifier",
            Dialect::Autobahn => "scram_server_signature",
        };
        Ok(is_right.then(|| json!({ key: verifier })))
    }

    /// RFC 5802, section 7: the flag, no other name to act for, and the data of the channel.
    fn binding_input(&self, extra: &Map<String, Value>) -> Result<Vec<u8>, Why> {
        let wanted = self.binding.as_ref().map(|_| Binding::NAME);
        if text_of(extra, "channel_binding")? != wanted {
            return Err(Why::Malformed("AUTHENTICATE says another channel_binding than HELLO"));
        }
        let said = text_of(extra, "cbind_data")?;
        match (&self.binding, said) {
            (None, None) => Ok(b"n,,".to_vec()),
            (None, Some(_)) => Err(Why::Malformed("AUTHENTICATE has cbind_data without a channel_binding")),
            (Some(_), None) => Err(Why::Malformed("AUTHENTICATE has no cbind_data")),
            (Some(Binding(channel)), Some(said)) => {
                let said = STANDARD.decode(said).unwrap_or_default();
                if !bool::from(said[..].ct_eq(channel)) {
                    return Err(Why::Malformed("cbind_data is not that of this connection"));
                }
                Ok([Binding::FLAG.as_bytes(), channel].concat())
            }
        }
    }
}

impl Keys {
    fn of(salted: &[u8]) -> Self {
        let client = Zeroizing::new(hmac(salted, b"Client Key"));
        Self { stored: Sha256::digest(*client).into(), server: hmac(salted, b"Server Key") }
    }
}

impl Kdf {
    fn derive(self, password: &str, salt: &[u8]) -> Result<Zeroizing<[u8; 32]>, DerivationFailed> {
        let mut salted = Zeroizing::new([0; 32]);
        match self {
            Self::Argon2id { memory_kib, passes } => {
                let params = Params::new(memory_kib, passes, 1, Some(32)).map_err(|_| DerivationFailed)?;
                Argon2::new(Algorithm::Argon2id, Version::V0x13, params)
                    .hash_password_into(password.as_bytes(), salt, &mut *salted)
                    .map_err(|_| DerivationFailed)?;
            }
            Self::Pbkdf2 { rounds } => {
                pbkdf2::pbkdf2_hmac::<Sha256>(password.as_bytes(), salt, rounds, &mut *salted);
            }
        }
        Ok(salted)
    }

    fn parse(text: &str) -> Result<Self, String> {
        let parts: Vec<&str> = text.split(',').collect();
        let number =
            |part: &str, key: &str| part.strip_prefix(key).and_then(|value| value.parse::<u32>().ok());
        match parts[..] {
            ["argon2id", memory, passes] => {
                let (memory, passes) = (number(memory, "m="), number(passes, "t="));
                let memory = memory.filter(|memory| (8..=MEMORY_KIB_MAX).contains(memory));
                let passes = passes.filter(|passes| (1..=PASSES_MAX).contains(passes));
                let (Some(memory_kib), Some(passes)) = (memory, passes) else {
                    return Err(format!("its costs are not m=8 to {MEMORY_KIB_MAX} and t=1 to {PASSES_MAX}"));
                };
                Ok(Self::Argon2id { memory_kib, passes })
            }
            ["pbkdf2", rounds] => {
                let known = PBKDF2_ROUNDS_MIN..=super::cra::ROUNDS_MAX;
                let rounds = number(rounds, "i=").filter(|rounds| known.contains(rounds));
                let wrong = || format!("its rounds are not i={} to {}", known.start(), known.end());
                rounds.map(|rounds| Self::Pbkdf2 { rounds }).ok_or_else(wrong)
            }
            _ => Err("its key derivation is neither argon2id nor pbkdf2".into()),
        }
    }
}

/// The first two of the messages that are signed: the client's nonce, and the one of both.
pub(super) fn first_messages(authid: &str, nonce: &str, both: &str, salt: &str, iterations: u32) -> String {
    let name = authid.replace('=', "=3D").replace(',', "=2C");
    format!("n={name},r={nonce},r={both},s={salt},i={iterations}")
}

/// The client's proof, and what the router has to show in turn.
pub(super) fn prove(
    password: &str,
    kdf: Kdf,
    salt: &str,
    messages: &str,
) -> Result<(String, String), String> {
    let salt = STANDARD.decode(salt).map_err(|_| "the salt is not base64")?;
    let normal =
        stringprep::saslprep(password).map_err(|_| "the password has characters that none may have")?;
    let salted =
        kdf.derive(&normal, &salt).map_err(|_| "the key cannot be derived at the costs of the challenge")?;
    let keys = Keys::of(&*salted);
    let mut proof = hmac(&*salted, b"Client Key");
    let signature = hmac(&keys.stored, messages.as_bytes());
    proof.iter_mut().zip(signature).for_each(|(byte, other)| *byte ^= other);
    Ok((STANDARD.encode(proof), STANDARD.encode(hmac(&keys.server, messages.as_bytes()))))
}

fn hmac(key: &[u8], message: &[u8]) -> [u8; 32] {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("any length is a key");
    mac.update(message);
    mac.finalize().into_bytes().into()
}

impl FromStr for ScramKeys {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let rest = text.strip_prefix(PREFIX).ok_or("they are no keys for SCRAM")?;
        let parts: Vec<&str> = rest.split('$').collect();
        let [kdf, salt, keys @ ..] = &parts[..] else { return Err("they are no keys for SCRAM".into()) };
        let kdf = Kdf::parse(kdf)?;
        if STANDARD.decode(salt).map_or(0, |salt| salt.len()) < 8 {
            return Err("the salt is not base64 of at least 8 bytes".into());
        }
        let key = |text: &str| {
            let bytes = STANDARD.decode(text).ok().and_then(|bytes| bytes.try_into().ok());
            bytes.ok_or_else(|| "a key is not base64 of 32 bytes".to_owned())
        };
        let pair =
            |stored: &str, server: &str| Ok::<_, String>(Keys { stored: key(stored)?, server: key(server)? });
        let (standard, autobahn) = match (keys, kdf) {
            ([stored, server], Kdf::Pbkdf2 { .. }) => (pair(stored, server)?, None),
            ([stored, server, other, others], Kdf::Argon2id { .. }) => {
                (pair(stored, server)?, Some(pair(other, others)?))
            }
            _ => return Err("there are too few or too many keys".into()),
        };
        Ok(Self { kdf, salt: (*salt).to_owned(), standard, autobahn })
    }
}

impl fmt::Display for ScramKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.kdf {
            Kdf::Argon2id { memory_kib, passes } => write!(f, "{PREFIX}argon2id,m={memory_kib},t={passes}")?,
            Kdf::Pbkdf2 { rounds } => write!(f, "{PREFIX}pbkdf2,i={rounds}")?,
        }
        write!(f, "${}", self.salt)?;
        [Some(self.standard), self.autobahn].into_iter().flatten().try_for_each(|keys| {
            write!(f, "${}${}", STANDARD.encode(keys.stored), STANDARD.encode(keys.server))
        })
    }
}

impl fmt::Debug for ScramKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ScramKeys(…)")
    }
}

#[cfg(test)]
#[path = "scram_tests.rs"]
mod tests;
