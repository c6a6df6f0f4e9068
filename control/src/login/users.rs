//! Who may log in to which realm, as which role, and how.

use std::collections::HashMap;
use std::sync::Arc;

use fanwire_core::ids::{RealmId, RoleId};
use fanwire_core::login::Proof;
use fanwire_core::question::{Denial, Question, Subject, Told};

use super::credentials::Credentials;
use super::cryptosign::PublicKey;
use super::decoys::Decoys;
use super::exchange::object;
use super::jwt::{TokenConfig, Tokens, is_token};

/// All users, as configured.
#[derive(Debug)]
pub struct Users {
    realms: Vec<RealmUsers>,
}

#[derive(Debug)]
pub(super) struct RealmUsers {
    name: Box<str>,
    by_name: HashMap<Box<str>, Arc<User>>,
    /// Whose key it is; `None`: several users'.
    by_key: HashMap<PublicKey, Option<Box<str>>>,
    /// Whose tokens are good.
    pub(super) tokens: Vec<Arc<Tokens>>,
    pub(super) decoys: Decoys,
}

/// One user of one realm.
#[derive(Clone, Debug, PartialEq)]
pub struct User {
    /// The role of its sessions.
    pub role: RoleId,
    /// The role's name, as challenges say it.
    pub role_name: Box<str>,
    /// What it can show who it is by.
    pub credentials: Credentials,
}

/// Why a login was not granted, for the operator; the client learns less.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// No user of this name in the realm.
    UnknownUser,
    /// The user has another ticket, secret or key.
    WrongSecret,
    /// The user was changed again and again while it logged in.
    Changed,
    /// Not enough memory for the derivation.
    NoMemory,
    /// What was brought cannot be verified here.
    UnknownProof,
    /// No key that is known has signed the token.
    UnknownKey,
    /// The token was signed by a known key, and is not good all the same. The client is told why.
    Token(&'static str),
    /// Something is missing or wrong in what the client says, whoever it is. It is told what.
    Malformed(&'static str),
    /// The derivation panicked: a bug of ours.
    Panicked,
}

impl Why {
    /// For the log.
    pub fn words(self) -> &'static str {
        match self {
            Self::UnknownUser => "no such user",
            Self::WrongSecret => "another ticket, password or key",
            Self::Changed => "changed while it logged in",
            Self::Malformed(words) | Self::Token(words) => words,
            Self::UnknownKey => "no known key has signed the token",
            Self::NoMemory => "no memory for the key derivation",
            Self::UnknownProof => "nothing here verifies such a proof",
            Self::Panicked => "the key derivation panicked",
        }
    }

    /// For the client.
    pub fn denial(self) -> Denial {
        match self {
            Self::UnknownUser | Self::WrongSecret | Self::UnknownKey => Denial::Refused,
            Self::Token(words) => Denial::Told(Box::new(Told { error: None, message: Some(words.into()) })),
            Self::Malformed(words) => Denial::Told(Box::new(Told {
                error: Some("wamp.error.authentication_failed".into()),
                message: Some(words.into()),
            })),
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
            let by_name = by_name.into_iter().map(|(name, user)| (name, Arc::new(user))).collect();
            let decoys = Decoys::new(&by_name, bytes);
            RealmUsers { name: name.into(), by_key: by_key(&by_name), by_name, tokens: Vec::new(), decoys }
        };
        Self { realms: realms.into_iter().map(realm).collect() }
    }

    /// The same, and the tokens of these issuers are good, in the order of the realms. Keys that `before` has fetched are kept.
    pub fn with_tokens(
        mut self,
        tokens: impl IntoIterator<Item = Vec<TokenConfig>>,
        before: Option<&Self>,
    ) -> Self {
        for (index, (realm, tokens)) in self.realms.iter_mut().zip(tokens).enumerate() {
            realm.tokens = tokens.into_iter().map(|config| Arc::new(Tokens::new(config))).collect();
            let before =
                before.and_then(|before| before.realms.get(index)).map_or(&[][..], |realm| &realm.tokens);
            realm.tokens.iter().for_each(|now| before.iter().for_each(|before| now.keep_keys_of(before)));
        }
        self
    }

    /// Asks for the keys of issuers that are old, or lack the one that a token was signed with. Whether any was asked.
    pub(super) async fn refresh_tokens(&self, question: &Question, for_unknown_key: bool) -> bool {
        let Subject::Login { proof: Proof::Ticket(ticket), .. } = &question.subject else { return false };
        let Some(realm) = self.realm(question.realm).filter(|_| is_token(ticket.expose())) else {
            return false;
        };
        let stale: Vec<_> = realm.tokens.iter().filter(|tokens| tokens.is_stale(for_unknown_key)).collect();
        for tokens in &stale {
            Arc::clone(tokens).refresh().await;
        }
        !stale.is_empty()
    }

    /// Whether the others would say the same of this login.
    pub(super) fn agree(&self, others: &Self, question: &Question) -> bool {
        let Subject::Login { authid: Some(authid), .. } = &question.subject else { return true };
        let user = |users: &'_ Self| Some(Arc::clone(users.realm(question.realm)?.user(authid)?));
        user(self) == user(others)
    }

    /// Whether there is such a user.
    pub fn has(&self, realm: RealmId, authid: &str) -> bool {
        self.realm(realm).is_some_and(|users| users.user(authid).is_some())
    }

    /// Whether this user is one of the others too, with the same role and the same secrets.
    pub fn is_same_in(&self, others: &Self, realm: RealmId, authid: &str) -> bool {
        let user = |users: &'_ Self| Some(Arc::clone(users.realm(realm)?.user(authid)?));
        let known = user(self);
        known.is_some() && known == user(others)
    }

    /// Whether the others are the same ones. Decoys are nobody.
    pub fn are_the_same(&self, others: &Self) -> bool {
        let is_same = |(one, other): (&RealmUsers, &RealmUsers)| {
            let is_same = |(one, other): (&Arc<Tokens>, &Arc<Tokens>)| one.is_as_configured_as(other);
            let tokens =
                one.tokens.len() == other.tokens.len() && one.tokens.iter().zip(&other.tokens).all(is_same);
            one.name == other.name && one.by_name == other.by_name && tokens
        };
        self.realms.len() == others.realms.len() && self.realms.iter().zip(&others.realms).all(is_same)
    }

    /// Whether somebody who says who it is is one of them, or brings a token of theirs.
    pub(super) fn knows(&self, question: &Question) -> bool {
        let Some(realm) = self.realm(question.realm) else { return false };
        match &question.subject {
            Subject::Login { authid, proof: Proof::Ticket(ticket), .. } => {
                let is_user = authid.as_deref().is_some_and(|name| realm.user(name).is_some());
                is_user || !realm.tokens.is_empty() && is_token(ticket.expose())
            }
            Subject::Hello { authid: Some(authid), .. } => realm.user(authid).is_some(),
            // By a key alone.
            Subject::Hello { authid: None, extra, .. } if !realm.by_key.is_empty() => {
                let key = object(extra).and_then(|hello| PublicKey::of_hello(&hello));
                key.is_ok_and(|key| realm.by_key(key).1.is_some())
            }
            _ => false,
        }
    }

    /// Whether the user whom it knows can log in by one of the client's methods.
    pub(super) fn offers(&self, question: &Question) -> bool {
        let Subject::Hello { authid: Some(authid), methods, .. } = &question.subject else { return true };
        let user = self.realm(question.realm).and_then(|realm| realm.user(authid));
        user.is_some_and(|user| methods.iter().any(|method| user.credentials.offers(*method)))
    }

    /// The name of a realm, for the log.
    pub fn realm_name(&self, realm: RealmId) -> &str {
        self.realm(realm).map_or("", |realm| &realm.name)
    }

    pub(super) fn realm(&self, realm: RealmId) -> Option<&RealmUsers> {
        self.realms.get(realm.index())
    }
}

impl RealmUsers {
    /// The user of this name.
    pub(super) fn user(&self, name: &str) -> Option<&Arc<User>> {
        self.by_name.get(name)
    }

    /// The one user who has this key, or the name under which nobody has it.
    pub(super) fn by_key(&self, key: PublicKey) -> (Box<str>, Option<&Arc<User>>) {
        match self.by_key.get(&key) {
            Some(Some(name)) => (name.clone(), self.user(name)),
            _ => (key.to_hex().into(), None),
        }
    }
}

fn by_key(users: &HashMap<Box<str>, Arc<User>>) -> HashMap<PublicKey, Option<Box<str>>> {
    let mut by_key = HashMap::new();
    for (name, user) in users {
        for key in &user.credentials.keys {
            let owner = by_key.entry(*key).or_insert_with(|| Some(name.clone()));
            owner.take_if(|owner| owner != name);
        }
    }
    by_key
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::login::credentials::Credential;
    use crate::login::hash::TicketHash;

    fn users(realm: &str, tickets: &[(&str, u8)]) -> Users {
        let access = fanwire_core::access::Access::new(&[fanwire_core::access::RealmConfig::open("r")], 1)
            .expect("an open realm is right");
        let id = access.realm("r").expect("it is there");
        let role = access.anonymous_role(id).expect("an open one has one");
        let user = |(name, ticket): &(&str, u8)| {
            let mut credentials = Credentials::default();
            let ticket = TicketHash::decoy_like(None, [*ticket; 32]);
            credentials.add(Credential::Ticket(ticket)).expect("the first");
            ((*name).into(), User { role, role_name: "anonymous".into(), credentials })
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
        let (one, other) = (users("r", &[("joe", 1), ("ann", 2)]), users("r", &[("joe", 1), ("ann", 3)]));
        let user = |users: &Users, name: &str| {
            users.realm(RealmId::new(0)).expect("it is there").user(name).cloned()
        };
        assert_eq!(user(&one, "joe"), user(&other, "joe"));
        assert_ne!(user(&one, "ann"), user(&other, "ann"));
        assert_ne!(user(&one, "ann"), user(&users("r", &[]), "ann"));
        assert_eq!(user(&one, "eve"), None);
        let is_same = |name| one.is_same_in(&other, RealmId::new(0), name);
        assert!(is_same("joe") && !is_same("ann") && !is_same("eve"));
        assert!(one.has(RealmId::new(0), "joe") && !one.has(RealmId::new(0), "eve"));
    }
}
