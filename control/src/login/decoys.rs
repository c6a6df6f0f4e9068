//! Users who do not exist, as they appear to who asks for them.
//!
//! A realm's users have a few kinds of secrets, with these or those costs. An unknown name is given one of the kinds, and salts, as
//! if it had always had them: all of it follows from the name and from a key that only the router has. The key is made of the
//! hash of one user's ticket, the same one as long as that one stays, so that it survives a restart and is the same on all routers
//! with these users. What other methods keep would not do: it follows from the password and from what the challenge tells, so
//! whoever has seen the salts of a decoy could try passwords at home.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use fanwire_core::ids::RoleId;
use fanwire_core::login::LoginMethod;
use hmac::{Hmac, KeyInit, Mac};
use sha2::{Digest, Sha256};

use super::credentials::{Credential, Shape};
use super::hash::TicketHash;
use super::users::User;

/// How a realm's unknown users look.
#[derive(Debug)]
pub(super) struct Decoys {
    key: [u8; 32],
    /// With the role that such a user would have.
    shapes: Vec<(Shape, RoleId, Box<str>)>,
    /// Compared with the tickets of users that do not exist, so that they take as long.
    pub(super) ticket: TicketHash,
}

/// Kinds of users that are told apart. What a login costs goes by it.
const SHAPES_MAX: usize = 64;

impl Decoys {
    /// Like these users. `random`: the key of who has no users with tickets.
    pub(super) fn new(users: &HashMap<Box<str>, Arc<User>>, random: [u8; 32]) -> Self {
        let shape = |user: &Arc<User>| ((user.credentials.shape(), user.role_name.clone()), user.role);
        let shapes: BTreeMap<_, _> = users.values().map(shape).collect();
        let shapes = shapes.into_iter().map(|((shape, name), role)| (shape, role, name));
        let secrets = users.values().flat_map(|user| user.credentials.all());
        let secrets = secrets.filter(|credential| matches!(credential, Credential::Ticket(_)));
        let digest = |credential: Credential| {
            Sha256::new().chain_update("fanwire decoy").chain_update(credential.to_string()).finalize()
        };
        let key = secrets.map(digest).min().map_or(random, Into::into);
        // As costly as the costliest user. Hashes of `fanwire passwd` all cost the same; where others are mixed in,
        // whoever is faster exists, and that is all one can learn.
        let tickets = users.values().filter_map(|user| user.credentials.ticket.as_ref());
        let like = tickets.max_by_key(|ticket| ticket.cost());
        let ticket = TicketHash::decoy_like(like, chance(&random, "", "ticket"));
        Self { key, shapes: shapes.take(SHAPES_MAX).collect(), ticket }
    }

    /// The user that this name seems to be, and the first of these methods that it seems to have. `None`: nobody has the first
    /// one.
    pub(super) fn user(&self, name: &str, methods: &[LoginMethod]) -> Option<(User, LoginMethod)> {
        let first_of = |shape: Shape| methods.iter().copied().find(|method| shape.offers(*method));
        let own = self.pick(name, |_| true)?;
        let (shape, method) = match first_of(own.0) {
            Some(method) => (own, method),
            None => (self.pick(name, |shape| shape.offers(methods[0]))?, methods[0]),
        };
        let (shape, role, role_name) = shape;
        let credentials = shape.decoy(&self.ticket, |what| chance(&self.key, name, what));
        Some((User { role: *role, role_name: role_name.clone(), credentials }, method))
    }

    /// One of the shapes: another one only if that one goes or a new one comes that would have been picked before it.
    fn pick(&self, name: &str, fits: impl Fn(Shape) -> bool) -> Option<&(Shape, RoleId, Box<str>)> {
        let weight = |(shape, _, role): &(Shape, RoleId, Box<str>)| {
            chance(&self.key, name, &format!("shape {shape:?} {role}"))
        };
        self.shapes.iter().filter(|(shape, ..)| fits(*shape)).min_by_key(|shape| weight(shape))
    }
}

/// Bytes that nobody can foresee without the key.
pub(super) fn chance(key: &[u8; 32], name: &str, what: &str) -> [u8; 32] {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("any length is a key");
    [what, "\0", name].iter().for_each(|part| mac.update(part.as_bytes()));
    mac.finalize().into_bytes().into()
}
