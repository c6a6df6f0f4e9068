//! Users whom a program knows, and not the configuration: what it says of one of them becomes a challenge.
//!
//! ```text
//! HELLO ─▶ the program says role and secret ─▶ CHALLENGE, and what its answer must be ─▶ AUTHENTICATE ─▶ WELCOME or ABORT
//!               └ nobody, or no answer ──────▶ CHALLENGE like that of some known one, which no answer is good for
//! ```

use std::collections::HashMap;
use std::sync::Arc;

use fanwire_codec::payload::OwnedPayload;
use fanwire_core::ids::{RealmId, RoleId};
use fanwire_core::login::LoginMethod;
use fanwire_core::question::{Grant, Question, Subject};
use serde_json::{Map, Value};

use super::cra::CraSecret;
use super::credentials::{Credential, Credentials, KEYS_MAX};
use super::cryptosign::PublicKey;
use super::decoys::chance;
use super::exchange::{Greeting, Vouched, challenge, object, random};
use super::scram::ScramKeys;
use super::users::{User, Why};

/// What a program says of somebody who wants to log in.
pub(crate) struct Told {
    /// Who it is; `None`: whom the client says.
    pub(crate) authid: Option<Box<str>>,
    pub(crate) role: RoleId,
    pub(crate) role_name: Box<str>,
    /// For WELCOME.
    pub(crate) extra: Option<OwnedPayload>,
    pub(crate) credentials: Credentials,
}

/// Reads the secret for a method from what a program says.
///
/// # Errors
///
/// In words, what is missing or wrong.
pub(crate) fn credentials(method: LoginMethod, said: &Map<String, Value>) -> Result<Credentials, String> {
    let mut credentials = Credentials::default();
    match method {
        LoginMethod::WampCra => credentials.add(Credential::Cra(cra(said)?))?,
        LoginMethod::WampScram | LoginMethod::Scram => {
            credentials.add(Credential::Scram(scram(method, said)?))?;
        }
        LoginMethod::Cryptosign => {
            let listed = said.get("authorized_keys").and_then(Value::as_array).into_iter().flatten();
            let keys: Vec<&str> =
                said.get("pubkey").into_iter().chain(listed).filter_map(Value::as_str).collect();
            if keys.is_empty() {
                return Err("it has neither \"pubkey\" nor \"authorized_keys\"".to_owned());
            }
            if keys.len() > KEYS_MAX {
                return Err(format!("it has more than {KEYS_MAX} keys"));
            }
            for key in keys {
                credentials.set(Credential::Key(PublicKey::from_hex(key)?))?;
            }
        }
        _ => return Err(format!("{} has no challenge", method.name())),
    }
    Ok(credentials)
}

fn cra(said: &Map<String, Value>) -> Result<CraSecret, String> {
    let secret = text(said, "secret")?.filter(|secret| !secret.is_empty()).ok_or("it has no \"secret\"")?;
    match text(said, "salt")? {
        None => Ok(CraSecret::plain(secret)),
        Some(salt) => CraSecret::derived(secret, salt, number(said, "iterations")?, number(said, "keylen")?),
    }
}

fn scram(method: LoginMethod, said: &Map<String, Value>) -> Result<ScramKeys, String> {
    let needed = |key: &str, other: &str| {
        let found = text(said, key)?.or(text(said, other)?);
        found.ok_or_else(|| format!("it has no {key:?}"))
    };
    let (kdf, salt) = (needed("kdf", "kdf")?, needed("salt", "salt")?);
    let cost = (number(said, "iterations")?, number(said, "memory")?);
    let keys = (needed("stored-key", "stored_key")?, needed("server-key", "server_key")?);
    ScramKeys::told(method == LoginMethod::Scram, kdf, cost, salt, keys)
}

fn text<'a>(said: &'a Map<String, Value>, key: &str) -> Result<Option<&'a str>, String> {
    match said.get(key) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => Ok(Some(text)),
        Some(_) => Err(format!("{key:?} is not a string")),
    }
}

fn number(said: &Map<String, Value>, key: &str) -> Result<Option<u32>, String> {
    match said.get(key) {
        None | Some(Value::Null) => Ok(None),
        Some(value) => {
            let number = value.as_u64().and_then(|number| u32::try_from(number).ok());
            number.map(Some).ok_or_else(|| format!("{key:?} is not an integer"))
        }
    }
}

/// How those appear whom a program does not know: like one of those whom it knew, by realm and method. Which one, and their salts,
/// follow from their names and a key that nobody has, so that each is the same whenever somebody asks, whoever came meanwhile.
pub(crate) struct Likeness {
    key: [u8; 32],
    /// As many as there are realms and methods, with different looks each.
    looks: HashMap<(RealmId, LoginMethod), Vec<Look>>,
}

/// How somebody who is known appears.
struct Look {
    credentials: Credentials,
    role_name: Box<str>,
}

impl Look {
    /// All that can be seen, but for what is drawn by chance.
    fn is_like(&self, other: &Self) -> bool {
        let plain = |look: &Self| look.credentials.decoy(|_| [0; 32]);
        self.role_name == other.role_name && plain(self) == plain(other)
    }
}

/// Different looks of one realm and method. Programs have one or two.
const LOOKS_MAX: usize = 16;

impl Default for Likeness {
    fn default() -> Self {
        Self { key: random(), looks: HashMap::new() }
    }
}

impl Likeness {
    /// The challenge for somebody of whom this was told; `None`: for nobody. `role`: what a role is called until one is known.
    pub(crate) fn challenge(
        &mut self,
        question: &Question,
        method: LoginMethod,
        told: Option<Told>,
        role: &str,
    ) -> Result<Grant, Why> {
        let Subject::Hello { authid, extra, session, channel, version_1, .. } = &question.subject else {
            return Err(Why::UnknownProof);
        };
        let hello = object(extra)?;
        let (session, channel, version_1) = (session.get(), channel.as_deref(), *version_1);
        let greeting = Greeting { extra: &hello, session, channel, version_1 };
        let by_key = || PublicKey::of_hello(&hello).map(|key| key.to_hex().into());
        let name: Box<str> = match authid {
            Some(authid) => authid.clone(),
            None => by_key()?,
        };
        let place = (question.realm, method);
        // Made for those who exist too, so that it takes as long.
        let decoy = self.decoy(place, &name, role);
        let Some(told) = told else {
            let vouched = Vouched { authid: name.clone(), user: None, extra: None };
            return challenge(method, &name, &decoy, vouched, &greeting);
        };
        self.learn(place, Look { credentials: told.credentials.clone(), role_name: told.role_name.clone() });
        let user = User { role: told.role, role_name: told.role_name, credentials: told.credentials };
        let user = Arc::new(user);
        let authid = told.authid.unwrap_or_else(|| name.clone());
        let vouched = Vouched { authid, user: Some(Arc::clone(&user)), extra: told.extra };
        challenge(method, &name, &user, vouched, &greeting)
    }

    /// Somebody is known who looks like this.
    fn learn(&mut self, place: (RealmId, LoginMethod), look: Look) {
        let looks = self.looks.entry(place).or_default();
        if looks.len() < LOOKS_MAX && !looks.iter().any(|known| known.is_like(&look)) {
            looks.push(look);
        }
    }

    /// How somebody unknown of this name looks.
    fn decoy(&self, place: (RealmId, LoginMethod), name: &str, role: &str) -> User {
        let chance = |what: &str| chance(&self.key, name, what);
        let looks = self.looks.get(&place).map_or(&[][..], Vec::as_slice);
        let like = looks.iter().enumerate().min_by_key(|(index, _)| chance(&format!("look {index}")));
        let like = like.map(|(_, look)| look);
        let credentials =
            like.map_or_else(|| first_decoy(place.1, chance), |look| look.credentials.decoy(chance));
        let role_name = like.map_or(role, |look| &look.role_name).into();
        User { role: RoleId::new(0), role_name, credentials }
    }
}

/// Before the program has known anybody.
fn first_decoy(method: LoginMethod, chance: impl Fn(&str) -> [u8; 32]) -> Credentials {
    let mut credentials = Credentials::default();
    let (salt, key) = (chance("first salt"), chance("first key"));
    let credential = match method {
        LoginMethod::WampScram | LoginMethod::Scram => {
            Some(Credential::Scram(ScramKeys::decoy(super::scram::Kdf::ARGON2ID, &salt, &key)))
        }
        LoginMethod::WampCra => Some(Credential::Cra(CraSecret::plain(&super::cryptosign::hex(&key)))),
        // Whichever key the client brings is nobody's.
        _ => None,
    };
    credential.into_iter().for_each(|credential| credentials.add(credential).expect("the first"));
    credentials
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn who_is_unknown_looks_the_same_whoever_came_before() {
        let mut likeness = Likeness::default();
        let place = (RealmId::new(0), LoginMethod::WampCra);
        let look = |rounds: u32| Look {
            credentials: read(
                LoginMethod::WampCra,
                json!({"secret": "prq7+YkJ1/KlW1X0YczMHw==", "salt": "salt123", "iterations": rounds}),
            )
            .expect("right"),
            role_name: "member".into(),
        };
        let names: Vec<String> = (0..64).map(|number| format!("nobody-{number}")).collect();
        let shapes = |likeness: &Likeness| -> Vec<_> {
            names.iter().map(|name| likeness.decoy(place, name, "member").credentials).collect()
        };
        [1_000, 2_000].into_iter().for_each(|rounds| likeness.learn(place, look(rounds)));
        let first = shapes(&likeness);
        for rounds in [2_000, 1_000, 1_000, 2_000] {
            likeness.learn(place, look(rounds));
            assert!(first == shapes(&likeness), "after one with {rounds}");
        }
        let like = |rounds| look(rounds).credentials.shape();
        for rounds in [1_000, 2_000] {
            assert!(first.iter().any(|decoy| decoy.shape() == like(rounds)), "some look like {rounds}");
        }
        (3_000..3_100).for_each(|rounds| likeness.learn(place, look(rounds)));
        assert_eq!(likeness.looks[&place].len(), LOOKS_MAX);
    }

    fn read(method: LoginMethod, said: Value) -> Result<Credentials, String> {
        credentials(method, said.as_object().expect("an object"))
    }

    #[test]
    fn secrets_are_read_as_programs_for_crossbar_write_them() {
        let (hex, base64) = ("ab".repeat(32), format!("{}=", "A".repeat(43)));
        for (method, said) in [
            (LoginMethod::WampCra, json!({"secret": "s"})),
            (
                LoginMethod::WampCra,
                json!({"secret": "prq7+YkJ1/KlW1X0YczMHw==", "salt": "salt123", "iterations": 1000, "keylen": 16}),
            ),
            (LoginMethod::WampCra, json!({"secret": "s", "salt": null})),
            // What autobahn.wamp.auth.derive_scram_credential makes.
            (
                LoginMethod::Scram,
                json!({"kdf": "argon2id-13", "memory": 512, "iterations": 4096, "salt": "ab".repeat(16), "stored-key": hex, "server-key": hex}),
            ),
            (
                LoginMethod::WampScram,
                json!({"kdf": "pbkdf2", "iterations": 4096, "salt": "c2FsdHNhbHQ=", "stored_key": base64, "server_key": base64}),
            ),
            (
                LoginMethod::Cryptosign,
                json!({"pubkey": "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a"}),
            ),
        ] {
            let read = read(method, said.clone()).unwrap_or_else(|why| panic!("{said}: {why}"));
            assert!(read.offers(method), "{said}");
        }
        for (method, said, why) in [
            (LoginMethod::WampCra, json!({"role": "r"}), "no \"secret\""),
            (LoginMethod::WampCra, json!({"secret": 5}), "\"secret\" is not a string"),
            (LoginMethod::WampCra, json!({"secret": "s", "salt": "x"}), "iterations"),
            (
                LoginMethod::WampCra,
                json!({"secret": "AAAA", "salt": "x", "iterations": 1000, "keylen": 32}),
                "keylen",
            ),
            (
                LoginMethod::Scram,
                json!({"kdf": "argon2id13", "memory": 512, "iterations": 2, "salt": "c2FsdHNhbHQ=", "stored-key": hex, "server-key": hex}),
                "kdf",
            ),
            (
                LoginMethod::Scram,
                json!({"kdf": "argon2id-13", "iterations": 2, "salt": "ab".repeat(8), "stored-key": hex, "server-key": hex}),
                "memory",
            ),
            (
                LoginMethod::WampScram,
                json!({"kdf": "pbkdf2", "iterations": 2, "salt": "c2FsdHNhbHQ=", "stored-key": hex, "server-key": hex}),
                "iterations",
            ),
            (
                LoginMethod::WampScram,
                json!({"kdf": "pbkdf2", "iterations": 4096, "salt": "c2FsdHNhbHQ=", "stored-key": "x", "server-key": hex}),
                "key",
            ),
            (LoginMethod::Cryptosign, json!({}), "authorized_keys"),
            (LoginMethod::Cryptosign, json!({"pubkey": "00"}), "hexadecimal"),
        ] {
            let told = read(method, said.clone()).expect_err(&said.to_string());
            assert!(told.contains(why), "{said}: {told}");
        }
    }

    #[test]
    fn who_is_unknown_has_the_last_ones_costs_and_a_salt_of_his_own() {
        let hex = "ab".repeat(32);
        let said = json!({"kdf": "argon2id-13", "memory": 512, "iterations": 4096, "salt": "ab".repeat(16), "stored-key": hex, "server-key": hex});
        for (method, said) in [
            (
                LoginMethod::WampCra,
                json!({"secret": "prq7+YkJ1/KlW1X0YczMHw==", "salt": "salt123", "iterations": 1000, "keylen": 16}),
            ),
            (LoginMethod::Scram, said),
        ] {
            let known = read(method, said).expect("right");
            let of = |name: &'static str| known.decoy(|what| chance(&[7; 32], name, what));
            assert_eq!(of("joe"), of("joe"));
            assert_ne!(of("joe"), of("ann"));
            assert_ne!(of("joe"), known);
            assert_eq!(of("joe").shape(), known.shape());
            assert!(of("joe").offers(method));
        }
    }
}
