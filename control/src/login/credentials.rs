//! What a user can show who it is by, and what of it can be seen from outside.

use std::fmt;
use std::str::FromStr;

use fanwire_core::login::LoginMethod;

use super::cra::{CraSecret, CraShape};
use super::cryptosign::PublicKey;
use super::hash::TicketHash;
use super::scram::{Kdf, ScramKeys};

/// One thing that a user can show who it is by, as it is written in a file of users.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Credential {
    /// The hash of a ticket: `$argon2id$…`.
    Ticket(TicketHash),
    /// For `wampcra`: `$wampcra$…`.
    Cra(CraSecret),
    /// For `wamp-scram` and `scram`: `$scram$…`.
    Scram(ScramKeys),
    /// For `cryptosign`: `$ed25519$…`.
    Key(PublicKey),
}

/// All of one user.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Credentials {
    pub(super) ticket: Option<TicketHash>,
    pub(super) cra: Option<CraSecret>,
    pub(super) scram: Option<ScramKeys>,
    pub(super) keys: Vec<PublicKey>,
}

/// Keys that one user can have.
pub const KEYS_MAX: usize = 16;

impl Credential {
    /// What it is, in words.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Ticket(_) => "ticket",
            Self::Cra(_) => "secret for wampcra",
            Self::Scram(_) => "password for SCRAM",
            Self::Key(_) => "key for cryptosign",
        }
    }
}

impl FromStr for Credential {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let kind = text.split('$').nth(1).filter(|_| text.starts_with('$'));
        match kind {
            Some("wampcra") => text.parse().map(Self::Cra),
            Some("scram") => text.parse().map(Self::Scram),
            Some("ed25519") => text.parse().map(Self::Key),
            _ => text.parse().map(Self::Ticket),
        }
    }
}

impl fmt::Display for Credential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ticket(hash) => hash.fmt(f),
            Self::Cra(secret) => secret.fmt(f),
            Self::Scram(keys) => keys.fmt(f),
            Self::Key(key) => key.fmt(f),
        }
    }
}

impl Credentials {
    /// With one more.
    ///
    /// # Errors
    ///
    /// In words, if there is one of that kind already; of keys there may be several.
    pub fn add(&mut self, credential: Credential) -> Result<(), String> {
        let kind = credential.kind();
        let was_there = match credential {
            Credential::Ticket(hash) => self.ticket.replace(hash).is_some(),
            Credential::Cra(secret) => self.cra.replace(secret).is_some(),
            Credential::Scram(keys) => self.scram.replace(keys).is_some(),
            Credential::Key(key) if self.keys.contains(&key) => true,
            Credential::Key(_) if self.keys.len() == KEYS_MAX => {
                return Err(format!("a user has at most {KEYS_MAX} keys"));
            }
            Credential::Key(key) => {
                self.keys.push(key);
                false
            }
        };
        if was_there { Err(format!("there is a second {kind}; a user has one")) } else { Ok(()) }
    }

    /// With this one, in place of another one of its kind; a key is one more.
    pub fn set(&mut self, credential: Credential) -> Result<(), String> {
        match &credential {
            Credential::Ticket(_) => self.ticket = None,
            Credential::Cra(_) => self.cra = None,
            Credential::Scram(_) => self.scram = None,
            Credential::Key(key) => self.keys.retain(|known| known != key),
        }
        self.add(credential)
    }

    /// Without what the user logs in with by this method.
    ///
    /// # Errors
    ///
    /// In words, if there is nothing of the kind.
    pub fn remove(&mut self, method: LoginMethod) -> Result<(), String> {
        let was_there = match method {
            LoginMethod::Ticket => self.ticket.take().is_some(),
            LoginMethod::WampCra => self.cra.take().is_some(),
            LoginMethod::WampScram | LoginMethod::Scram => self.scram.take().is_some(),
            LoginMethod::Cryptosign => !std::mem::take(&mut self.keys).is_empty(),
            _ => false,
        };
        if was_there { Ok(()) } else { Err(format!("there is nothing for {}", method.name())) }
    }

    /// All of them, in the order in which they are written.
    pub fn all(&self) -> impl Iterator<Item = Credential> {
        let ticket = self.ticket.clone().map(Credential::Ticket).into_iter();
        let cra = self.cra.clone().map(Credential::Cra);
        let scram = self.scram.clone().map(Credential::Scram);
        ticket.chain(cra).chain(scram).chain(self.keys.iter().copied().map(Credential::Key))
    }

    /// Whether the user can log in so.
    pub fn offers(&self, method: LoginMethod) -> bool {
        self.shape().offers(method)
    }

    /// Whether there are none: then nobody can log in as this user.
    pub fn is_empty(&self) -> bool {
        self.all().next().is_none()
    }

    /// Of the same kinds with the same costs, and nobody's. `chance` gives the same for the same words.
    pub(super) fn decoy(&self, chance: impl Fn(&str) -> [u8; 32]) -> Self {
        let cra = self.cra.as_ref().map(|cra| cra.decoy_like(|what| chance(&format!("cra {what}"))));
        let scram = self.scram.as_ref().map(|keys| keys.decoy_like(|what| chance(&format!("scram {what}"))));
        Self { ticket: None, cra, scram, keys: Vec::new() }
    }

    pub(super) fn shape(&self) -> Shape {
        Shape {
            ticket: self.ticket.is_some(),
            cra: self.cra.as_ref().map(CraSecret::shape),
            scram: self.scram.as_ref().map(ScramKeys::shape),
            key: !self.keys.is_empty(),
        }
    }
}

/// What can be told from outside of what a user has, but for what is drawn by chance.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Shape {
    ticket: bool,
    cra: Option<CraShape>,
    scram: Option<Kdf>,
    key: bool,
}

impl Shape {
    pub(super) fn offers(self, method: LoginMethod) -> bool {
        match method {
            LoginMethod::Ticket => self.ticket,
            LoginMethod::WampCra => self.cra.is_some(),
            LoginMethod::WampScram => self.scram.is_some(),
            LoginMethod::Scram => self.scram.is_some_and(|kdf| matches!(kdf, Kdf::Argon2id { .. })),
            LoginMethod::Cryptosign => self.key,
            _ => false,
        }
    }

    /// Of the same shape, and nobody's. `chance` gives the same for the same words.
    pub(super) fn decoy(self, ticket: &TicketHash, chance: impl Fn(&str) -> [u8; 32]) -> Credentials {
        Credentials {
            ticket: self.ticket.then(|| ticket.clone()),
            cra: self.cra.map(|shape| CraSecret::decoy(shape, &chance("cra salt"), &chance("cra key"))),
            scram: self.scram.map(|kdf| ScramKeys::decoy(kdf, &chance("scram salt"), &chance("scram key"))),
            // Whichever key the client brings is none of its own.
            keys: Vec::new(),
        }
    }
}
