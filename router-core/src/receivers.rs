//! Whom a publication is for: the lists of a PUBLISH, made ready to be asked (WAMP, "Subscriber Black- and Whitelisting").
//!
//! A subscriber gets the event if each list of eligible ones that is there has it, and no list of excluded ones does.
//! So exclusion beats eligibility, several lists of eligible ones must all have it, and an empty one means nobody.
//!
//! Built once where the publication comes in and shared by all shards. Names of roles become numbers then, because roles
//! are there from the start; authids stay strings, because a session may take one while the publication is on its way.

use std::borrow::Cow;
use std::hash::BuildHasher;
use std::sync::Arc;

use fanwire_codec::wamp2::ReceiverLists;
use foldhash::fast::FixedState;
use hashbrown::HashSet;

use crate::access::Access;
use crate::directory::Directory;
use crate::ids::{RealmId, RoleId, SessionId};
use crate::mutation::{Mutation, planted};
use crate::session::{Label, anonymous_session};

/// The lists of one publication; at least one of them says something.
///
/// They are compared and measured under locks that others wait for, so what that takes a walk over all names is found out before.
#[derive(Clone, Debug)]
pub(crate) struct Receivers {
    /// A hash of the lists, the same in whatever order they came.
    print: u64,
    /// What they take in memory.
    bytes: usize,
    excluded: Lists,
    eligible: Lists,
}

/// Whom a publication is for, as far as its lists alone can tell.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Audience {
    Everybody,
    Nobody,
    Some(Arc<Receivers>),
}

/// `None`: there is no such list. Numbers are sorted; strings are hashed, because sorting 65,536 of them takes tens of
/// milliseconds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Lists {
    sessions: Option<Vec<SessionId>>,
    authids: Option<Authids>,
    roles: Option<Vec<crate::ids::RoleId>>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Authids {
    names: HashSet<Box<str>, FixedState>,
    /// The sessions whose authid is among them because it follows from their id.
    anonymous: Vec<SessionId>,
}

impl Audience {
    /// The lists of a publication in `realm`.
    pub(crate) fn new(lists: &ReceiverLists<'_>, access: &Access, realm: RealmId) -> Self {
        let excluded =
            Lists::new(&lists.exclude, &lists.exclude_authid, &lists.exclude_authrole, access, realm);
        let mut eligible =
            Lists::new(&lists.eligible, &lists.eligible_authid, &lists.eligible_authrole, access, realm);
        if planted(Mutation::EmptyEligibleIsEverybody) {
            eligible = eligible.without_empty_ones();
        }
        if eligible.has_an_empty_one() {
            return Self::Nobody;
        }
        let excluded = excluded.without_empty_ones();
        if excluded == Lists::default() && eligible == Lists::default() {
            return Self::Everybody;
        }
        Self::Some(Arc::new(Receivers::new(excluded, eligible)))
    }
}

impl PartialEq for Receivers {
    fn eq(&self, other: &Self) -> bool {
        // Lists that differ nearly always differ in their print, so names are looked at of the same ones alone.
        self.print == other.print && self.excluded == other.excluded && self.eligible == other.eligible
    }
}

impl Eq for Receivers {}

impl Receivers {
    fn new(excluded: Lists, eligible: Lists) -> Self {
        let bytes = size_of::<Self>() + excluded.heap_bytes() + eligible.heap_bytes();
        Self { print: excluded.print().rotate_left(1) ^ eligible.print(), bytes, excluded, eligible }
    }

    /// Whether the event is for this session. Takes a few searches, some 20 ns.
    pub(crate) fn admit(&self, label: &Label) -> bool {
        let Self { excluded, eligible, .. } = self;
        if planted(Mutation::AnyEligibleListSuffices) && eligible.has(label).contains(&Some(true)) {
            return true;
        }
        !eligible.has(label).contains(&Some(false)) && !excluded.has(label).contains(&Some(true))
    }

    /// These sessions, and nobody else.
    pub(crate) fn only(sessions: impl Iterator<Item = SessionId>) -> Self {
        let eligible = Lists { sessions: Some(sorted(sessions)), ..Lists::default() };
        Self::new(Lists::default(), eligible)
    }

    /// The same lists, if there are any, but not for these sessions.
    pub(crate) fn also_excluding(lists: Option<&Self>, sessions: Vec<SessionId>) -> Self {
        let (mut excluded, eligible) =
            lists.map_or_else(Default::default, |lists| (lists.excluded.clone(), lists.eligible.clone()));
        let before = excluded.sessions.take().unwrap_or_default();
        excluded.sessions = Some(sorted(before.into_iter().chain(sessions)));
        Self::new(excluded, eligible)
    }

    /// Whether it is for a user of this role and name, in whatever session.
    pub(crate) fn admit_user(&self, role: RoleId, authid: &str) -> bool {
        let has = |lists: &Lists| {
            [
                lists.authids.as_ref().map(|authids| authids.names.contains(authid)),
                lists.roles.as_ref().map(|roles| roles.binary_search(&role).is_ok()),
            ]
        };
        !has(&self.eligible).contains(&Some(false)) && !has(&self.excluded).contains(&Some(true))
    }

    /// Whether the lists name single sessions.
    pub(crate) fn names_sessions(&self) -> bool {
        self.eligible.sessions.is_some() || self.excluded.sessions.is_some()
    }

    /// Whether it is for somebody of this role who is no session and no user.
    pub(crate) fn admit_role(&self, role: RoleId) -> bool {
        let Self { excluded, eligible, .. } = self;
        let has = |roles: &Vec<RoleId>| roles.binary_search(&role).is_ok();
        eligible.sessions.is_none()
            && eligible.authids.is_none()
            && eligible.roles.as_ref().is_none_or(has)
            && !excluded.roles.as_ref().is_some_and(has)
    }

    /// The sessions that alone are eligible, if there is such a list.
    pub(crate) fn eligible_sessions(&self) -> Option<&[SessionId]> {
        self.eligible.sessions.as_deref()
    }

    /// The excluded sessions, if nothing else decides.
    pub(crate) fn only_excluded_sessions(&self) -> Option<&[SessionId]> {
        let Lists { sessions, authids: None, roles: None } = &self.excluded else { return None };
        sessions.as_deref().filter(|_| self.eligible == Lists::default())
    }

    /// The shards where somebody may be eligible: all of them, unless a few sessions alone are. Takes a lock for each.
    pub(crate) fn shards(&self, directory: &Directory) -> u64 {
        match self.eligible_sessions() {
            Some(ids) if ids.len() <= LOOKED_UP_MAX => ids
                .iter()
                .filter_map(|id| directory.session(*id))
                .fold(0, |mask, entry| mask | entry.shard.bit()),
            _ => u64::MAX,
        }
    }

    /// What it takes in memory, for the bounds of whatever holds it.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }
}

impl Lists {
    fn new(
        sessions: &Option<Vec<u64>>,
        authids: &Option<Vec<Cow<'_, str>>>,
        roles: &Option<Vec<Cow<'_, str>>>,
        access: &Access,
        realm: RealmId,
    ) -> Self {
        let role = |name: &Cow<'_, str>| access.role(realm, name);
        Self {
            sessions: sessions.as_ref().map(|ids| sorted(ids.iter().copied().filter_map(SessionId::new))),
            authids: authids.as_ref().map(|names| Authids::new(names, access.hasher())),
            roles: roles.as_ref().map(|names| sorted(names.iter().filter_map(role))),
        }
    }

    /// For each list that is there, whether it has this session.
    fn has(&self, label: &Label) -> [Option<bool>; 3] {
        [
            self.sessions.as_ref().map(|sessions| sessions.binary_search(&label.session).is_ok()),
            self.authids.as_ref().map(|authids| authids.has(label)),
            self.roles.as_ref().map(|roles| roles.binary_search(&label.role).is_ok()),
        ]
    }

    fn has_an_empty_one(&self) -> bool {
        self.sessions.as_ref().is_some_and(Vec::is_empty)
            || self.authids.as_ref().is_some_and(|authids| authids.names.is_empty())
            || self.roles.as_ref().is_some_and(Vec::is_empty)
    }

    /// An empty list of excluded ones says nothing.
    fn without_empty_ones(self) -> Self {
        Self {
            sessions: self.sessions.filter(|sessions| !sessions.is_empty()),
            authids: self.authids.filter(|authids| !authids.names.is_empty()),
            roles: self.roles.filter(|roles| !roles.is_empty()),
        }
    }

    /// A hash of what is in them, in whatever order.
    fn print(&self) -> u64 {
        let hasher = FixedState::default();
        let sessions = self.sessions.iter().flatten().map(|id| hasher.hash_one((0, id.get())));
        let roles = self.roles.iter().flatten().map(|role| hasher.hash_one((1, role.index())));
        let authids = self
            .authids
            .iter()
            .flat_map(|authids| authids.names.iter().map(|name| authids.names.hasher().hash_one(&**name)));
        sessions.chain(roles).chain(authids).fold(0, u64::wrapping_add)
    }

    fn heap_bytes(&self) -> usize {
        let sessions = self.sessions.as_ref().map_or(0, |sessions| size_of_val(&sessions[..]));
        let authids = self.authids.as_ref().map_or(0, |authids| {
            let texts: usize = authids.names.iter().map(|name| name.len()).sum();
            texts + authids.names.allocation_size() + size_of_val(&authids.anonymous[..])
        });
        sessions + authids + self.roles.as_ref().map_or(0, |roles| size_of_val(&roles[..]))
    }
}

impl Authids {
    fn new(names: &[Cow<'_, str>], hasher: &FixedState) -> Self {
        let mut set = HashSet::with_capacity_and_hasher(names.len(), hasher.clone());
        for name in names {
            // Twins cost no allocation.
            set.get_or_insert_with(&**name, |name: &str| Box::from(name));
        }
        Self { names: set, anonymous: sorted(names.iter().filter_map(|name| anonymous_session(name))) }
    }

    fn has(&self, label: &Label) -> bool {
        match &label.principal {
            Some(principal) => self.names.contains(&principal.authid),
            None => self.anonymous.binary_search(&label.session).is_ok(),
        }
    }
}

fn sorted<T: Ord>(values: impl Iterator<Item = T>) -> Vec<T> {
    let mut values: Vec<T> = values.collect();
    values.sort_unstable();
    values.dedup();
    values.shrink_to_fit();
    values
}

/// Sessions that are looked up in the directory before a publication is routed: a few microseconds.
const LOOKED_UP_MAX: usize = 64;

#[cfg(test)]
mod tests {
    use proptest::option;
    use proptest::prelude::*;

    use super::*;
    use crate::access::{RealmConfig, RoleConfig};
    use crate::login::LoginMethod;
    use crate::session::Principal;

    const ROLES: [&str; 3] = ["guest", "staff", "boss"];

    fn access() -> Access {
        let roles = ROLES.map(|name| RoleConfig { name: name.to_owned(), permissions: Vec::new() });
        let realm = RealmConfig { roles: roles.to_vec(), anonymous_role: None, ..RealmConfig::open("r") };
        Access::new(&[realm], 1).expect("it is sound")
    }

    /// A session, and what its client was told of it.
    fn somebody(session: u64, authid: Option<&str>, role: usize) -> (Label, (u64, String, &'static str)) {
        let id = SessionId::new(session).expect("an id");
        let principal = authid.map(|authid| {
            Arc::new(Principal { authid: authid.into(), method: LoginMethod::Ticket, provider: "static" })
        });
        let told = authid.map_or_else(|| format!("anonymous-{session:x}"), str::to_owned);
        (
            Label { session: id, role: crate::ids::RoleId::new(role as u16), principal },
            (session, told, ROLES[role]),
        )
    }

    /// Word for word what the specification lists.
    fn is_meant(lists: &ReceiverLists<'_>, (session, authid, authrole): &(u64, String, &str)) -> bool {
        let names = |list: &Option<Vec<Cow<'_, str>>>, name: &str| {
            list.as_ref().map(|list| list.iter().any(|one| one == name))
        };
        let ids = |list: &Option<Vec<u64>>| list.as_ref().map(|list| list.contains(session));
        ids(&lists.eligible) != Some(false)
            && names(&lists.eligible_authid, authid) != Some(false)
            && names(&lists.eligible_authrole, authrole) != Some(false)
            && ids(&lists.exclude) != Some(true)
            && names(&lists.exclude_authid, authid) != Some(true)
            && names(&lists.exclude_authrole, authrole) != Some(true)
    }

    fn lists() -> impl Strategy<Value = ReceiverLists<'static>> {
        let ids = || option::weighted(0.3, prop::collection::vec(1..12u64, 0..6));
        let names = |names: &'static [&str]| {
            let name = prop::sample::select(names).prop_map(Cow::Borrowed);
            option::weighted(0.3, prop::collection::vec(name, 0..5))
        };
        let authids = || {
            names(&["peter", "anna", "anonymous-1", "anonymous-b", "anonymous-0b", "anonymous-", "", "guest"])
        };
        let roles = || names(&["guest", "staff", "boss", "nobody", ""]);
        (ids(), authids(), roles(), ids(), authids(), roles()).prop_map(
            |(exclude, exclude_authid, exclude_authrole, eligible, eligible_authid, eligible_authrole)| {
                ReceiverLists {
                    exclude,
                    exclude_authid,
                    exclude_authrole,
                    eligible,
                    eligible_authid,
                    eligible_authrole,
                }
            },
        )
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn everybody_is_judged_as_by_the_letter(
            lists in lists(),
            session in 1..14u64,
            authid in option::of(prop::sample::select(vec!["peter", "anna", "guest"])),
            role in 0..3usize,
        ) {
            let access = access();
            let realm = access.realm("r").expect("it is there");
            let (label, told) = somebody(session, authid, role);
            let admitted = match Audience::new(&lists, &access, realm) {
                Audience::Everybody => true,
                Audience::Nobody => false,
                Audience::Some(receivers) => receivers.admit(&label),
            };
            prop_assert_eq!(admitted, is_meant(&lists, &told), "{:?} for {:?}", lists, told);
        }
    }

    #[test]
    fn lists_that_say_nothing_cost_nothing() {
        let access = access();
        let realm = access.realm("r").expect("it is there");
        let audience = |lists: ReceiverLists<'_>| Audience::new(&lists, &access, realm);
        let nothing = ReceiverLists {
            exclude: Some(vec![]),
            exclude_authid: Some(vec![]),
            exclude_authrole: Some(vec!["unknown".into()]),
            ..ReceiverLists::default()
        };
        assert_eq!(audience(nothing), Audience::Everybody);
        for lists in [
            ReceiverLists { eligible: Some(vec![]), ..ReceiverLists::default() },
            ReceiverLists { eligible_authid: Some(vec![]), ..ReceiverLists::default() },
            ReceiverLists { eligible_authrole: Some(vec!["unknown".into()]), ..ReceiverLists::default() },
            ReceiverLists { eligible: Some(vec![]), exclude: Some(vec![7]), ..ReceiverLists::default() },
        ] {
            assert_eq!(audience(lists), Audience::Nobody);
        }
    }

    #[test]
    fn lists_are_the_same_in_whatever_order_they_came() {
        let access = access();
        let realm = access.realm("r").expect("it is there");
        let made = |exclude: &[u64], authids: &[&'static str], excluded_authids: &[&'static str]| {
            let names = |names: &[&'static str]| Some(names.iter().map(|name| Cow::from(*name)).collect());
            let lists = ReceiverLists {
                exclude: Some(exclude.to_vec()),
                eligible_authid: names(authids),
                exclude_authid: names(excluded_authids),
                ..ReceiverLists::default()
            };
            let Audience::Some(receivers) = Audience::new(&lists, &access, realm) else {
                panic!("it has entries")
            };
            receivers
        };
        let one = made(&[1, 2], &["a", "b", "c"], &["x"]);
        assert_eq!(one, made(&[2, 1, 1], &["c", "a", "b", "b"], &["x"]));
        for other in [
            made(&[1, 3], &["a", "b", "c"], &["x"]),
            made(&[1, 2], &["a", "b", "d"], &["x"]),
            made(&[1, 2], &["a", "b", "x"], &["c"]),
        ] {
            assert_ne!(one, other);
            assert_ne!(one.print, other.print, "it is seen without a look at each name");
        }
        let again = Receivers::also_excluding(Some(&one), vec![SessionId::new(9).expect("an id")]);
        assert_eq!(Receivers::also_excluding(Some(&again), Vec::new()), again);
        assert!(again.bytes() > one.bytes());
    }

    #[test]
    fn what_lists_hold_is_known() {
        let access = access();
        let realm = access.realm("r").expect("it is there");
        let lists = ReceiverLists {
            exclude: Some((1..=1_000).chain(1..=1_000).collect()),
            eligible_authid: Some(vec!["x".repeat(500).into(); 3]),
            ..ReceiverLists::default()
        };
        let Audience::Some(receivers) = Audience::new(&lists, &access, realm) else {
            panic!("it has entries")
        };
        let bytes = receivers.bytes() - size_of::<Receivers>();
        assert!((8_500..8_700).contains(&bytes), "twins count once: {bytes}");
        assert_eq!(receivers.eligible_sessions(), None);
        assert_eq!(receivers.only_excluded_sessions(), None, "the authids decide too");
    }
}
