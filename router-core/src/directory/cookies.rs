//! Logins that connections are remembered by: whose cookie is whose.
//!
//! ```text
//! cookie's hash ─▶ Kept { who logged in with it, until when, sessions that are open by it }
//! ```
//!
//! A cookie is nobody's until somebody logs in by another method on the connection that was given it. Nobody can plant one: a
//! cookie that a client brings and that is nobody's is not remembered but replaced, and one that is somebody's does not become
//! somebody else's ([`remember`](Cookies::remember)). All of it is in memory: a restart forgets it.
//!
//! What is kept is bounded, for one user in number ([`OF_USER_MAX`]) and for all in bytes. Beyond that the oldest login goes, however long
//! it would have lasted: else those of a realm with a short time would always make room for the others.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use fanwire_codec::payload::OwnedPayload;
use hashbrown::HashMap;

use super::sync::{Mutex, lock};
use crate::clock::Instant;
use crate::ids::{RealmId, RoleId, SessionId};

/// What a cookie is known by: a hash of its value, from which the value cannot be found.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct CookieId(pub [u8; 32]);

/// A connection's cookie.
#[derive(Clone, Copy, Debug)]
pub struct Cookie {
    /// Which one.
    pub id: CookieId,
    /// The connection was given it and did not bring it: nobody else can know it.
    pub is_fresh: bool,
}

/// Who logged in, by another method than its cookie.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RememberedLogin {
    /// Where.
    pub realm: RealmId,
    /// As what.
    pub role: RoleId,
    /// Who it is.
    pub authid: Box<str>,
    /// Who vouched for it, as `authprovider` says it.
    pub provider: &'static str,
    /// What WELCOME tells as `authextra`.
    pub extra: Option<Box<OwnedPayload>>,
}

impl RememberedLogin {
    /// Whether it is the same one, whatever is told of it.
    fn is_of(&self, other: &Self) -> bool {
        self.realm == other.realm && self.role == other.role && self.authid == other.authid
    }

    fn bytes(&self) -> usize {
        LOGIN_BYTES + 2 * self.authid.len() + self.extra.as_deref().map_or(0, OwnedPayload::len)
    }
}

/// How much is remembered.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct CookieUsage {
    /// Logins.
    pub logins: usize,
    /// Their bytes.
    pub bytes: usize,
    /// Logins so far that were forgotten before their time, because the bytes were needed.
    pub displaced: u64,
}

/// All of them. One lock: it is taken at handshakes, logins and ends of sessions that have a cookie, and never else.
#[derive(Debug, Default)]
pub struct Cookies(Mutex<Logins>);

#[derive(Debug, Default)]
struct Logins {
    /// The keys are hashes of random texts: no client can aim at a bucket.
    by_cookie: HashMap<CookieId, Kept, foldhash::fast::FixedState>,
    by_end: BTreeSet<(Instant, CookieId)>,
    by_beginning: BTreeSet<(Instant, CookieId)>,
    /// The oldest first.
    of_user: BTreeMap<(RealmId, Box<str>), VecDeque<CookieId>>,
    bytes: usize,
    displaced: u64,
    /// How often logins were [withdrawn](Cookies::retain).
    epoch: u64,
}

#[derive(Debug)]
struct Kept {
    login: Arc<RememberedLogin>,
    began: Instant,
    ends: Instant,
    sessions: Vec<SessionId>,
}

impl Cookies {
    /// Whether it is somebody's.
    pub fn knows(&self, id: CookieId, now: Instant) -> bool {
        lock(&self.0).by_cookie.get(&id).is_some_and(|kept| kept.ends > now)
    }

    /// Whose it is, in this realm, if another session by it has room.
    pub(crate) fn find(&self, id: CookieId, realm: RealmId, now: Instant) -> Option<Arc<RememberedLogin>> {
        let logins = lock(&self.0);
        let kept = logins.by_cookie.get(&id)?;
        let has_room = kept.sessions.len() < SESSIONS_MAX;
        (kept.ends > now && kept.login.realm == realm && has_room).then(|| Arc::clone(&kept.login))
    }

    /// The session is open by this login; false if it is not remembered any more, or has too many.
    pub(crate) fn join(&self, id: CookieId, login: &Arc<RememberedLogin>, session: SessionId) -> bool {
        let mut logins = lock(&self.0);
        let kept = logins.by_cookie.get_mut(&id);
        // The same user may have logged in anew meanwhile.
        let Some(kept) = kept.filter(|kept| kept.login.is_of(login)) else { return false };
        let has_room = kept.sessions.len() < SESSIONS_MAX;
        if has_room {
            kept.sessions.push(session);
        }
        has_room
    }

    /// The session is over.
    pub(crate) fn leave(&self, id: CookieId, session: SessionId) {
        if let Some(kept) = lock(&self.0).by_cookie.get_mut(&id) {
            kept.sessions.retain(|other| *other != session);
        }
    }

    /// What [`remember`](Self::remember) wants to know of before the login was looked at.
    pub(crate) fn epoch(&self) -> u64 {
        lock(&self.0).epoch
    }

    /// Somebody has logged in by another method on the cookie's connection, whose login was looked at in `epoch`.
    ///
    /// A cookie that is another one's is forgotten in place of that: whoever planted it would become the one who logs in.
    pub(crate) fn remember(
        &self,
        cookie: Cookie,
        login: RememberedLogin,
        session: SessionId,
        epoch: u64,
        now: Instant,
        bounds: CookieBounds,
    ) {
        let mut logins = lock(&self.0);
        let known = logins.by_cookie.get(&cookie.id);
        let is_same = known.map(|kept| kept.login.is_of(&login));
        let sessions = match is_same {
            None if !cookie.is_fresh => return,
            None => Vec::new(),
            Some(is_same) => {
                let sessions = logins.remove(cookie.id).map(|kept| kept.sessions).unwrap_or_default();
                if !is_same {
                    return;
                }
                sessions
            }
        };
        // Users were changed meanwhile: perhaps this one.
        if logins.epoch != epoch || login.bytes() > bounds.bytes_max {
            return;
        }
        let mut kept = Kept { login: Arc::new(login), began: now, ends: now + bounds.time, sessions };
        if kept.sessions.len() < SESSIONS_MAX {
            kept.sessions.push(session);
        }
        logins.insert(cookie.id, kept);
        logins.make_room(now, bounds.bytes_max);
    }

    /// The session of this user logs out: its login is forgotten. Gives the others that are open by it.
    pub(crate) fn log_out(
        &self,
        id: CookieId,
        (realm, authid): (RealmId, &str),
        session: SessionId,
    ) -> Vec<SessionId> {
        let mut logins = lock(&self.0);
        // By its list where a hook has given the session another name; by its user where the list was full.
        let is_open_by_it = |kept: &Kept| {
            kept.sessions.contains(&session) || kept.login.realm == realm && *kept.login.authid == *authid
        };
        if !logins.by_cookie.get(&id).is_some_and(is_open_by_it) {
            return Vec::new();
        }
        let mut others = logins.remove(id).map(|kept| kept.sessions).unwrap_or_default();
        others.retain(|other| *other != session);
        others
    }

    /// Forgets all others. To be called after users were changed: who was looked at before is not remembered afterwards.
    pub fn retain(&self, keep: impl Fn(&RememberedLogin) -> bool) {
        let mut logins = lock(&self.0);
        logins.epoch += 1;
        let lost: Vec<CookieId> =
            logins.by_cookie.iter().filter(|(_, kept)| !keep(&kept.login)).map(|(id, _)| *id).collect();
        for id in lost {
            logins.remove(id);
        }
    }

    /// How much is remembered.
    pub fn usage(&self) -> CookieUsage {
        let logins = lock(&self.0);
        CookieUsage { logins: logins.by_cookie.len(), bytes: logins.bytes, displaced: logins.displaced }
    }
}

/// How long a login is remembered, and how many bytes all may take.
#[derive(Clone, Copy, Debug)]
pub(crate) struct CookieBounds {
    pub(crate) time: Duration,
    pub(crate) bytes_max: usize,
}

impl Logins {
    fn insert(&mut self, id: CookieId, kept: Kept) {
        self.bytes += kept.login.bytes();
        self.by_end.insert((kept.ends, id));
        self.by_beginning.insert((kept.began, id));
        let user = self.of_user.entry((kept.login.realm, kept.login.authid.clone())).or_default();
        user.push_back(id);
        let oldest = if user.len() > OF_USER_MAX { user.front().copied() } else { None };
        self.by_cookie.insert(id, kept);
        if let Some(oldest) = oldest {
            self.displaced += 1;
            self.remove(oldest);
        }
    }

    fn remove(&mut self, id: CookieId) -> Option<Kept> {
        let kept = self.by_cookie.remove(&id)?;
        self.bytes -= kept.login.bytes();
        self.by_end.remove(&(kept.ends, id));
        self.by_beginning.remove(&(kept.began, id));
        let user = (kept.login.realm, kept.login.authid.clone());
        if let Some(ids) = self.of_user.get_mut(&user) {
            ids.retain(|other| *other != id);
            if ids.is_empty() {
                self.of_user.remove(&user);
            }
        }
        Some(kept)
    }

    /// Some of those go whose time is over, and then the oldest ones.
    fn make_room(&mut self, now: Instant, bytes_max: usize) {
        for _ in 0..EXPIRED_AT_ONCE {
            let Some(&(_, id)) = self.by_end.first().filter(|(ends, _)| *ends <= now) else { break };
            self.remove(id);
        }
        while self.bytes > bytes_max
            && let Some(&(_, id)) = self.by_beginning.first()
        {
            self.displaced += u64::from(self.remove(id).is_some_and(|kept| kept.ends > now));
        }
    }
}

/// Open by one login: a browser has no more tabs than that. The next one has to log in by itself.
const SESSIONS_MAX: usize = 32;
/// Browsers of one user that are remembered.
const OF_USER_MAX: usize = 64;
/// Logins whose time is over go when others come, so many for one: the lock is not held for long, and they get fewer.
const EXPIRED_AT_ONCE: usize = 64;
/// What a login takes beside its texts: its entries, and its sessions.
const LOGIN_BYTES: usize = 640;

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    const NOW: Instant = Instant::START;
    const HOUR: Duration = Duration::from_secs(3_600);
    const BOUNDS: CookieBounds = CookieBounds { time: HOUR, bytes_max: 1 << 20 };

    /// Who is told by the list of sessions alone.
    const NOBODY: (RealmId, &str) = (RealmId::new(0), "");

    fn cookie(number: u8, is_fresh: bool) -> Cookie {
        Cookie { id: CookieId([number; 32]), is_fresh }
    }

    fn session(number: u64) -> SessionId {
        SessionId::new(number).expect("an id")
    }

    fn login(authid: &str) -> RememberedLogin {
        let (realm, role) = (RealmId::new(0), RoleId::new(0));
        RememberedLogin { realm, role, authid: authid.into(), provider: "static", extra: None }
    }

    fn whose(cookies: &Cookies, number: u8, now: Instant) -> Option<Box<str>> {
        let found = cookies.find(CookieId([number; 32]), RealmId::new(0), now);
        found.map(|login| login.authid.clone())
    }

    #[test]
    fn a_login_is_remembered_for_its_time_in_its_realm() {
        let cookies = Cookies::default();
        cookies.remember(cookie(1, true), login("joe"), session(1), 0, NOW, BOUNDS);
        assert_eq!(whose(&cookies, 1, NOW).as_deref(), Some("joe"));
        assert!(cookies.find(CookieId([1; 32]), RealmId::new(1), NOW).is_none());
        assert_eq!(whose(&cookies, 2, NOW), None);
        let end = NOW + HOUR;
        assert!(whose(&cookies, 1, end).is_none() && !cookies.knows(CookieId([1; 32]), end));
        cookies.remember(cookie(2, true), login("ann"), session(2), 0, end, BOUNDS);
        assert_eq!(cookies.usage().logins, 1, "what is over goes when another one comes");
        assert_eq!(cookies.usage().displaced, 0);
    }

    #[test]
    fn a_planted_cookie_becomes_nobodys() {
        let cookies = Cookies::default();
        cookies.remember(cookie(1, false), login("joe"), session(1), 0, NOW, BOUNDS);
        assert_eq!(whose(&cookies, 1, NOW), None, "who brings it may not be the only one who knows it");
        cookies.remember(cookie(1, true), login("eve"), session(1), 0, NOW, BOUNDS);
        cookies.remember(cookie(1, false), login("joe"), session(2), 0, NOW, BOUNDS);
        assert_eq!(whose(&cookies, 1, NOW), None, "eve does not become joe, and joe not eve");
        assert_eq!(cookies.usage(), CookieUsage::default());
    }

    #[test]
    fn who_logs_in_again_is_remembered_anew() {
        let cookies = Cookies::default();
        cookies.remember(cookie(1, true), login("joe"), session(1), 0, NOW, BOUNDS);
        let later = NOW + HOUR / 2;
        cookies.remember(cookie(1, false), login("joe"), session(2), 0, later, BOUNDS);
        assert!(whose(&cookies, 1, NOW + HOUR).is_some());
        assert_eq!(cookies.log_out(CookieId([1; 32]), NOBODY, session(2)), [session(1)]);
    }

    #[test]
    fn logging_out_forgets_the_login_and_names_the_others() {
        let cookies = Cookies::default();
        cookies.remember(cookie(1, true), login("joe"), session(1), 0, NOW, BOUNDS);
        let found = cookies.find(CookieId([1; 32]), RealmId::new(0), NOW).expect("joe");
        assert!([2, 3].into_iter().all(|number| cookies.join(CookieId([1; 32]), &found, session(number))));
        cookies.leave(CookieId([1; 32]), session(2));
        assert!(cookies.log_out(CookieId([1; 32]), NOBODY, session(9)).is_empty(), "it is not open by it");
        assert_eq!(cookies.log_out(CookieId([1; 32]), NOBODY, session(3)), [session(1)]);
        assert!(whose(&cookies, 1, NOW).is_none());
        assert!(!cookies.join(CookieId([1; 32]), &found, session(4)), "it was found before");
        assert_eq!(cookies.usage(), CookieUsage::default());
    }

    #[test]
    fn a_login_has_so_many_sessions_at_most() {
        let cookies = Cookies::default();
        cookies.remember(cookie(1, true), login("joe"), session(1), 0, NOW, BOUNDS);
        let found = cookies.find(CookieId([1; 32]), RealmId::new(0), NOW).expect("joe");
        let joined = (2..100).filter(|number| cookies.join(CookieId([1; 32]), &found, session(*number)));
        assert_eq!(joined.count(), SESSIONS_MAX - 1);
        assert_eq!(whose(&cookies, 1, NOW), None, "the next one has to log in by itself");
        cookies.remember(cookie(1, false), login("joe"), session(100), 0, NOW, BOUNDS);
        let joe = (RealmId::new(0), "joe");
        assert_eq!(
            cookies.log_out(CookieId([1; 32]), joe, session(100)).len(),
            SESSIONS_MAX,
            "and logs all out"
        );
        assert_eq!(cookies.usage(), CookieUsage::default());
    }

    #[test]
    fn a_user_displaces_nobody_else() {
        let cookies = Cookies::default();
        cookies.remember(cookie(255, true), login("ann"), session(1), 0, NOW, BOUNDS);
        for number in 0..100 {
            cookies.remember(cookie(number, true), login("joe"), session(1), 0, NOW, BOUNDS);
        }
        assert_eq!(cookies.usage().logins, OF_USER_MAX + 1);
        assert_eq!(cookies.usage().displaced, 100 - OF_USER_MAX as u64);
        assert!(whose(&cookies, 255, NOW).is_some() && whose(&cookies, 99, NOW).is_some());
        assert_eq!(whose(&cookies, 0, NOW), None, "the oldest of its own");
    }

    #[test]
    fn changed_users_are_forgotten_also_those_who_are_on_their_way() {
        let cookies = Cookies::default();
        let epoch = cookies.epoch();
        cookies.remember(cookie(1, true), login("joe"), session(1), epoch, NOW, BOUNDS);
        cookies.remember(cookie(2, true), login("ann"), session(2), epoch, NOW, BOUNDS);
        cookies.retain(|login| &*login.authid != "joe");
        assert!(whose(&cookies, 1, NOW).is_none() && whose(&cookies, 2, NOW).is_some());
        cookies.remember(cookie(3, true), login("joe"), session(3), epoch, NOW, BOUNDS);
        assert!(whose(&cookies, 3, NOW).is_none(), "looked at before the change");
        cookies.remember(cookie(4, true), login("eve"), session(4), cookies.epoch(), NOW, BOUNDS);
        assert!(whose(&cookies, 4, NOW).is_some());
    }

    #[test]
    fn bytes_are_bounded_and_the_oldest_goes() {
        let cookies = Cookies::default();
        let bounds = CookieBounds { bytes_max: 3 * (LOGIN_BYTES + 6), ..BOUNDS };
        for (number, hours) in [(1, 4), (2, 1), (3, 3), (4, 2)] {
            let bounds = CookieBounds { time: HOUR * hours, ..bounds };
            let now = NOW + Duration::from_secs(number.into());
            cookies.remember(cookie(number, true), login("joe"), session(1), 0, now, bounds);
        }
        let known: Vec<u8> = (1..5).filter(|number| whose(&cookies, *number, NOW).is_some()).collect();
        assert_eq!(known, [2, 3, 4], "a short time is no disadvantage");
        assert_eq!(cookies.usage(), CookieUsage { logins: 3, bytes: bounds.bytes_max, displaced: 1 });
        let long = login(&"x".repeat(bounds.bytes_max));
        cookies.remember(cookie(5, true), long, session(1), 0, NOW, bounds);
        assert_eq!(cookies.usage().logins, 3, "one that never fits drives nobody out");
    }
}
