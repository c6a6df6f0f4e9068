//! Who may log in to which realm, as which role, and with which ticket.

use std::collections::HashMap;

use fanwire_core::ids::{RealmId, RoleId};
use fanwire_core::login::Proof;
use fanwire_core::question::{Denial, Grant, Question, Subject};

use super::hash::TicketHash;

/// All users, as configured.
#[derive(Debug)]
pub struct Users {
    realms: Vec<RealmUsers>,
}

#[derive(Debug)]
struct RealmUsers {
    name: Box<str>,
    by_name: HashMap<Box<str>, User>,
    /// Compared with the tickets of users that do not exist, so that they take as long.
    decoy: TicketHash,
}

/// One user of one realm.
#[derive(Clone, Debug)]
pub struct User {
    /// The role of its sessions.
    pub role: RoleId,
    /// The hash of its ticket.
    pub ticket: TicketHash,
}

/// Why a login was not granted, for the operator; the client learns less.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// No user of this name in the realm.
    UnknownUser,
    /// The user has another ticket.
    WrongTicket,
    /// Not enough memory for the derivation.
    NoMemory,
    /// What was brought cannot be verified here.
    UnknownProof,
    /// The derivation panicked: a bug of ours.
    Panicked,
}

impl Why {
    /// For the log.
    pub fn words(self) -> &'static str {
        match self {
            Self::UnknownUser => "no such user",
            Self::WrongTicket => "another ticket",
            Self::NoMemory => "no memory for the key derivation",
            Self::UnknownProof => "nothing here verifies such a proof",
            Self::Panicked => "the key derivation panicked",
        }
    }

    /// For the client.
    pub fn denial(self) -> Denial {
        match self {
            Self::UnknownUser | Self::WrongTicket => Denial::Refused,
            Self::NoMemory | Self::UnknownProof | Self::Panicked => Denial::Failed,
        }
    }
}

impl Users {
    /// The users of the realms, in the order of the realms' ids. `random` makes the decoys.
    pub fn new(
        realms: impl IntoIterator<Item = (String, HashMap<Box<str>, User>)>,
        mut random: impl FnMut() -> u64,
    ) -> Self {
        let realm = |(name, by_name): (String, HashMap<Box<str>, User>)| {
            let mut bytes = [0; 32];
            bytes.chunks_exact_mut(8).for_each(|chunk| chunk.copy_from_slice(&random().to_ne_bytes()));
            // As costly as the costliest user. Hashes of `fanwire passwd` all cost the same; where others are mixed in,
            // whoever is faster exists, and that is all one can learn.
            let like = by_name.values().map(|user| &user.ticket).max_by_key(|ticket| ticket.cost());
            let decoy = TicketHash::decoy_like(like, bytes);
            RealmUsers { name: name.into(), by_name, decoy }
        };
        Self { realms: realms.into_iter().map(realm).collect() }
    }

    /// Whether the proof is good. Does one key derivation, for users that do not exist too.
    pub fn verify(&self, question: &Question) -> Result<Grant, Why> {
        let Subject::Login { authid, proof: Proof::Ticket(ticket) } = &question.subject else {
            return Err(Why::UnknownProof);
        };
        let realm = self.realm(question.realm).ok_or(Why::UnknownUser)?;
        let user = authid.as_deref().and_then(|authid| realm.by_name.get(authid));
        let hash = user.map_or(&realm.decoy, |user| &user.ticket);
        let matches = hash.matches(ticket.expose()).map_err(|_| Why::NoMemory)?;
        match user {
            Some(user) if matches => Ok(Grant::of_user(user.role)),
            Some(_) => Err(Why::WrongTicket),
            None => Err(Why::UnknownUser),
        }
    }

    /// The name of a realm, for the log.
    pub fn realm_name(&self, realm: RealmId) -> &str {
        self.realm(realm).map_or("", |realm| &realm.name)
    }

    fn realm(&self, realm: RealmId) -> Option<&RealmUsers> {
        self.realms.get(realm.index())
    }
}
