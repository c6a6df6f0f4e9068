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
        Self { key, shapes: some_of(shapes.collect(), &key), ticket }
    }

    /// The user that this name seems to be, and the first of these methods that it seems to have. `None`: nobody has the first
    /// one. `own`: what a user of this name has; if that is none of the methods, it is answered as an unknown name of that kind.
    pub(super) fn user(
        &self,
        name: &str,
        own: Option<Shape>,
        methods: &[LoginMethod],
    ) -> Option<(User, LoginMethod)> {
        let first_of = |shape: Shape| methods.iter().copied().find(|method| shape.offers(*method));
        // Picked for those who exist too, so that it takes as long.
        let picked = self.pick(name, |_| true)?;
        let (shape, method) = match first_of(own.unwrap_or(picked.0)).and_then(|_| first_of(picked.0)) {
            Some(method) => (picked, method),
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

/// As many of them as names are given. Chosen by chance, as names are, and some of each method that there is: who has none of the kind
/// that is asked for would be told from those who have.
fn some_of(mut shapes: Vec<(Shape, RoleId, Box<str>)>, key: &[u8; 32]) -> Vec<(Shape, RoleId, Box<str>)> {
    if shapes.len() <= SHAPES_MAX {
        return shapes;
    }
    shapes.sort_by_cached_key(|(shape, _, role)| chance(key, "", &format!("kept {shape:?} {role}")));
    let first_of = |method: LoginMethod| shapes.iter().position(|(shape, ..)| shape.offers(method));
    let needed: Vec<usize> = LoginMethod::ALL.into_iter().filter_map(first_of).collect();
    let mut others = SHAPES_MAX - LoginMethod::ALL.len();
    let mut at = 0;
    shapes.retain(|_| {
        let is_kept = needed.contains(&at) || others > 0;
        others -= usize::from(is_kept && !needed.contains(&at));
        at += 1;
        is_kept
    });
    shapes
}

/// Bytes that nobody can foresee without the key.
pub(super) fn chance(key: &[u8; 32], name: &str, what: &str) -> [u8; 32] {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("any length is a key");
    [what, "\0", name].iter().for_each(|part| mac.update(part.as_bytes()));
    mac.finalize().into_bytes().into()
}

#[cfg(test)]
mod tests {
    use super::super::cra::CraSecret;
    use super::super::credentials::Credentials;
    use super::super::cryptosign::PublicKey;
    use super::super::scram::{Kdf, ScramKeys};
    use super::*;

    const METHODS: [LoginMethod; 3] = [LoginMethod::WampCra, LoginMethod::WampScram, LoginMethod::Cryptosign];

    /// Three users, each with another kind of secret.
    fn users() -> HashMap<Box<str>, Arc<User>> {
        let key = "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a";
        let kinds = [
            Credential::Cra(CraSecret::salted("x", 1_000, [1; 16])),
            Credential::Scram(ScramKeys::of("x", Kdf::Pbkdf2 { rounds: 4_096 }, [2; 16]).expect("keys")),
            Credential::Key(PublicKey::from_hex(key).expect("a key")),
        ];
        let user = |(number, kind)| {
            let mut credentials = Credentials::default();
            credentials.add(kind).expect("the first");
            let user = User { role: RoleId::new(0), role_name: "member".into(), credentials };
            (format!("user{number}").into(), Arc::new(user))
        };
        kinds.into_iter().enumerate().map(user).collect()
    }

    /// Whatever is asked for in whatever order: what is answered for a user could be said of some unknown name.
    #[test]
    fn a_user_is_not_told_by_methods_that_it_does_not_have() {
        let users = users();
        let decoys = Decoys::new(&users, [7; 32]);
        let orders: Vec<Vec<LoginMethod>> = METHODS
            .iter()
            .flat_map(|one| METHODS.iter().map(move |other| vec![*one, *other]))
            .filter(|pair| pair[0] != pair[1])
            .collect();
        let of_unknown = |name: &str| -> Vec<LoginMethod> {
            orders.iter().map(|methods| decoys.user(name, None, methods).expect("a decoy").1).collect()
        };
        let unknown: Vec<_> = (0..64).map(|number| of_unknown(&format!("nobody{number}"))).collect();
        for (name, user) in &users {
            let shape = user.credentials.shape();
            let answer = |methods: &Vec<LoginMethod>| {
                let own = methods.iter().copied().find(|method| shape.offers(*method));
                own.unwrap_or_else(|| decoys.user(name, Some(shape), methods).expect("a decoy").1)
            };
            let told: Vec<_> = orders.iter().map(answer).collect();
            assert!(unknown.contains(&told), "{name}: {told:?}");
        }
    }
    /// However many roles there are: of each method somebody is there to be like.
    #[test]
    fn no_method_is_crowded_out_by_roles() {
        let mut users = users();
        let cra = users["user0"].credentials.clone();
        for number in 0..200 {
            let role_name = format!("tenant{number}").into();
            let user = User { role: RoleId::new(0), role_name, credentials: cra.clone() };
            users.insert(format!("tenant{number}").into(), Arc::new(user));
        }
        let decoys = Decoys::new(&users, [7; 32]);
        assert!(decoys.shapes.len() <= SHAPES_MAX, "{}", decoys.shapes.len());
        for method in METHODS {
            assert!(decoys.user("nobody", None, &[method]).is_some(), "{method:?}");
        }
    }
}
