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
#[derive(Clone, Debug, PartialEq)]
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
    /// The user was changed again and again while it logged in.
    Changed,
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
            Self::Changed => "changed while it logged in",
            Self::NoMemory => "no memory for the key derivation",
            Self::UnknownProof => "nothing here verifies such a proof",
            Self::Panicked => "the key derivation panicked",
        }
    }

    /// For the client.
    pub fn denial(self) -> Denial {
        match self {
            Self::UnknownUser | Self::WrongTicket => Denial::Refused,
            Self::Changed => Denial::Busy,
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

    /// Whether the others would say the same of this login.
    pub(super) fn agree(&self, others: &Self, question: &Question) -> bool {
        let Subject::Login { authid: Some(authid), .. } = &question.subject else { return true };
        self.user(question.realm, authid) == others.user(question.realm, authid)
    }

    fn user(&self, realm: RealmId, authid: &str) -> Option<&User> {
        self.realm(realm)?.by_name.get(authid)
    }

    /// Whether the others are the same ones. Decoys are nobody.
    pub fn are_the_same(&self, others: &Self) -> bool {
        let is_same =
            |(one, other): (&RealmUsers, &RealmUsers)| one.name == other.name && one.by_name == other.by_name;
        self.realms.len() == others.realms.len() && self.realms.iter().zip(&others.realms).all(is_same)
    }

    /// The name of a realm, for the log.
    pub fn realm_name(&self, realm: RealmId) -> &str {
        self.realm(realm).map_or("", |realm| &realm.name)
    }

    fn realm(&self, realm: RealmId) -> Option<&RealmUsers> {
        self.realms.get(realm.index())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn users(realm: &str, tickets: &[(&str, u8)]) -> Users {
        let access = fanwire_core::access::Access::new(&[fanwire_core::access::RealmConfig::open("r")], 1)
            .expect("an open realm is right");
        let id = access.realm("r").expect("it is there");
        let role = access.anonymous_role(id).expect("an open one has one");
        let user = |(name, ticket): &(&str, u8)| {
            let ticket = TicketHash::decoy_like(None, [*ticket; 32]);
            ((*name).into(), User { role, ticket })
        };
        let mut random = 0;
        Users::new([(realm.to_owned(), tickets.iter().map(user).collect())], || {
            random += 1;
            random
        })
    }

    #[test]
    fn users_are_the_same_whatever_their_decoys_are() {
        let one = users("r", &[("joe", 1), ("ann", 2)]);
        assert!(one.are_the_same(&users("r", &[("ann", 2), ("joe", 1)])));
        for (realm, others) in [
            ("r", &[("joe", 1)][..]),
            ("r", &[("joe", 1), ("ann", 3)]),
            ("r", &[("joe", 1), ("eve", 2)]),
            ("s", &[("joe", 1), ("ann", 2)]),
        ] {
            assert!(!one.are_the_same(&users(realm, others)), "{realm} {others:?}");
        }
    }

    #[test]
    fn a_user_is_another_one_with_another_ticket_or_none() {
        let realm = RealmId::new(0);
        let (one, other) = (users("r", &[("joe", 1), ("ann", 2)]), users("r", &[("joe", 1), ("ann", 3)]));
        assert_eq!(one.user(realm, "joe"), other.user(realm, "joe"));
        assert_ne!(one.user(realm, "ann"), other.user(realm, "ann"));
        assert_ne!(one.user(realm, "ann"), users("r", &[]).user(realm, "ann"));
        assert_eq!(one.user(realm, "eve"), None);
    }
}
