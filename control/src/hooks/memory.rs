//! Equal questions: those that are being asked, and answers that still hold.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use fanwire_core::ids::RealmId;
use fanwire_core::login::Proof;
use fanwire_core::question::{Question, Subject};
use sha2::{Digest, Sha256};
use tokio::time::Instant;

use super::reply::Reply;

/// What is kept of the answers of one hook; beyond it the oldest is forgotten.
const GRANTS_MAX: Bound = Bound { count: 10_000, bytes: 4 << 20 };
/// Fewer denials, in a place of their own: anybody can bring them about, with made-up tickets, and they must not drive out
/// what was granted to others.
const DENIALS_MAX: Bound = Bound { count: 1_000, bytes: 1 << 20 };
/// Who is denied should not have to wait long after it was put right.
const DENIAL_TIME_MAX: Duration = Duration::from_secs(1);
/// A key, twice, and times, beside what the answer itself takes.
const ENTRY_BYTES: usize = 200;

/// What equal questions have in common, as a hash: tickets are not kept.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(super) struct Key([u8; 32]);

impl Key {
    /// `None`: each such question is asked for itself, because it is about one publication, or tells of one session, or is
    /// about somebody who does not say who it is: two of these are not one user.
    ///
    /// Sessions are not told apart: an answer holds for the user, in its role. But who is told which session asks (`by_session`)
    /// may answer each as it likes.
    pub(super) fn of(question: &Question, by_session: bool) -> Option<Self> {
        Self::of_subject(question.realm, &question.subject, by_session)
    }

    fn of_subject(realm: RealmId, subject: &Subject, by_session: bool) -> Option<Self> {
        let mut hash = Sha256::new();
        // The length first, so that two parts cannot look like two others.
        let mut add = |part: &[u8]| {
            hash.update((part.len() as u64).to_le_bytes());
            hash.update(part);
        };
        let name = subject.event().name();
        add(name.as_bytes());
        add(&(realm.index() as u64).to_le_bytes());
        let session = subject.who().filter(|_| by_session).map_or(0, |who| who.session.get());
        add(&session.to_le_bytes());
        let or_nobody = |authid: &Option<Box<str>>| match authid {
            Some(authid) => format!("={authid}"),
            None => String::new(),
        };
        match subject {
            Subject::Login { authid, proof: Proof::Ticket(ticket), extra } => {
                add(or_nobody(authid).as_bytes());
                add(ticket.expose().as_bytes());
                // In whatever form it came: at worst two that say the same are asked about twice.
                let said = extra.as_deref().and_then(|extra| extra.view().kwargs);
                add(said.unwrap_or_default());
            }
            Subject::Connect { authid: None, .. } => return None,
            Subject::Connect { authid: Some(authid), role, method } => {
                add(authid.as_bytes());
                add(&(role.index() as u64).to_le_bytes());
                add(method.name().as_bytes());
            }
            Subject::Call { who, uri } => {
                [&*who.authid, &*who.authrole, &**uri].iter().for_each(|part| add(part.as_bytes()));
            }
            Subject::Subscribe { who, uri, policy } | Subject::Register { who, uri, policy } => {
                [&*who.authid, &*who.authrole, &**uri, policy.name()]
                    .iter()
                    .for_each(|part| add(part.as_bytes()));
            }
            Subject::Publish { who, uri, payload: None } => {
                [&*who.authid, &*who.authrole, &**uri].iter().for_each(|part| add(part.as_bytes()));
            }
            _ => return None,
        }
        Some(Self(hash.finalize().into()))
    }
}

/// What one hook knows of equal questions. `T` is what waits.
#[derive(Debug)]
pub(super) struct Memory<T> {
    asked: HashMap<Key, Vec<T>>,
    grants: Answers,
    denials: Answers,
}

impl<T> Memory<T> {
    /// One that remembers for this time; zero: only what is being asked.
    pub(super) fn new(time: Duration) -> Self {
        Self {
            asked: HashMap::new(),
            grants: Answers::new(time, GRANTS_MAX),
            denials: Answers::new(time.min(DENIAL_TIME_MAX), DENIALS_MAX),
        }
    }

    /// An answer that holds.
    pub(super) fn find(&mut self, key: &Key, now: Instant) -> Option<&Reply> {
        let grant = self.grants.find(key, now);
        grant.or_else(|| self.denials.find(key, now))
    }

    /// Waits with the equal question that is being asked; gives `waiting` back if there is none.
    pub(super) fn join(&mut self, key: &Key, waiting: T) -> Result<(), T> {
        match self.asked.get_mut(key) {
            Some(all) => {
                all.push(waiting);
                Ok(())
            }
            None => Err(waiting),
        }
    }

    /// The question is asked from now on.
    pub(super) fn begin(&mut self, key: Key) {
        self.asked.entry(key).or_default();
    }

    /// It was answered, or failed: gives those that waited with it.
    pub(super) fn end(&mut self, key: Key, reply: Option<&Reply>, now: Instant) -> Vec<T> {
        if let Some(reply) = reply {
            let (same, other) = match reply.is_allowed() {
                true => (&mut self.grants, &mut self.denials),
                false => (&mut self.denials, &mut self.grants),
            };
            other.remove(&key);
            same.keep(key, reply, now);
        }
        self.asked.remove(&key).unwrap_or_default()
    }
}

/// How much is kept.
#[derive(Clone, Copy, Debug)]
struct Bound {
    count: usize,
    bytes: usize,
}

/// Answers that still hold.
#[derive(Debug)]
struct Answers {
    kept: HashMap<Key, Kept>,
    /// In the order of their times.
    oldest: VecDeque<(Key, Instant)>,
    bytes: usize,
    /// How long an answer holds.
    time: Duration,
    max: Bound,
}

#[derive(Debug)]
struct Kept {
    reply: Reply,
    since: Instant,
}

impl Kept {
    fn bytes(&self) -> usize {
        ENTRY_BYTES + self.reply.bytes()
    }
}

impl Answers {
    fn new(time: Duration, max: Bound) -> Self {
        Self { kept: HashMap::new(), oldest: VecDeque::new(), bytes: 0, time, max }
    }

    fn find(&mut self, key: &Key, now: Instant) -> Option<&Reply> {
        self.forget(now);
        self.kept.get(key).map(|kept| &kept.reply)
    }

    fn keep(&mut self, key: Key, reply: &Reply, now: Instant) {
        if self.time.is_zero() {
            return;
        }
        let kept = Kept { reply: reply.clone(), since: now };
        self.bytes += kept.bytes();
        self.bytes -= self.kept.insert(key, kept).map_or(0, |before| before.bytes());
        self.oldest.push_back((key, now));
        self.forget(now);
    }

    fn forget(&mut self, now: Instant) {
        while let Some(&(key, since)) = self.oldest.front()
            && (now.duration_since(since) >= self.time
                || self.oldest.len() > self.max.count
                || self.bytes > self.max.bytes)
        {
            self.oldest.pop_front();
            // A later answer to the same has a place of its own further behind.
            if self.kept.get(&key).is_some_and(|kept| kept.since == since) {
                self.remove(&key);
            }
        }
    }

    fn remove(&mut self, key: &Key) {
        self.bytes -= self.kept.remove(key).map_or(0, |kept| kept.bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use fanwire_codec::payload::OwnedPayload;
    use fanwire_codec::wamp2::Serializer;
    use fanwire_core::ids::{RoleId, SessionId};
    use fanwire_core::login::LoginMethod;
    use fanwire_core::question::{Denial, Grant, Identity};

    fn key(number: u64) -> Key {
        let mut bytes = [0; 32];
        bytes[..8].copy_from_slice(&number.to_le_bytes());
        Key(bytes)
    }

    #[test]
    fn equal_questions_wait_for_one_answer() {
        let (mut memory, now) = (Memory::new(Duration::ZERO), Instant::now());
        assert_eq!(memory.join(&key(1), 'a'), Err('a'));
        memory.begin(key(1));
        assert_eq!((memory.join(&key(1), 'b'), memory.join(&key(2), 'c')), (Ok(()), Err('c')));
        assert_eq!(memory.end(key(1), Some(&Reply::default()), now), ['b']);
        assert_eq!(memory.join(&key(1), 'd'), Err('d'));
        assert!(memory.find(&key(1), now).is_none(), "nothing is kept where nothing is to be");
    }

    #[test]
    fn an_answer_holds_for_its_time_and_failures_do_not_count() {
        let (mut memory, start) = (Memory::<()>::new(Duration::from_secs(2)), Instant::now());
        let at = |millis| start + Duration::from_millis(millis);
        memory.end(key(1), Some(&Reply::default()), start);
        memory.end(key(2), None, start);
        assert!(memory.find(&key(1), at(1_999)).is_some() && memory.find(&key(2), start).is_none());
        memory.end(key(1), Some(&Reply::default()), at(1_500));
        assert!(memory.find(&key(1), at(3_000)).is_some(), "asked anew it holds anew");
        assert!(memory.find(&key(1), at(3_500)).is_none());
        let left = &memory.grants;
        assert!(left.kept.is_empty() && left.oldest.is_empty() && left.bytes == 0);
    }

    /// Some answer of this size.
    fn reply(bytes: usize) -> Reply {
        let extra = format!("{{\"a\":\"{}\"}}", "x".repeat(bytes));
        let extra = OwnedPayload::checked(Serializer::Json, None, Some(extra.as_bytes())).expect("JSON");
        Reply::from(Ok(Grant { extra: Some(Box::new(extra)), ..Grant::default() }))
    }

    #[test]
    fn answers_have_a_bound_in_number_and_in_bytes() {
        let (mut memory, start) = (Memory::<()>::new(Duration::from_secs(2)), Instant::now());
        let max = GRANTS_MAX.count as u64;
        for number in 0..max + 5 {
            memory.end(key(number), Some(&Reply::default()), start);
        }
        assert_eq!(
            (memory.grants.kept.len(), memory.grants.oldest.len()),
            (GRANTS_MAX.count, GRANTS_MAX.count)
        );
        assert!(memory.find(&key(4), start).is_none() && memory.find(&key(5), start).is_some());
        for number in 0..200 {
            memory.end(key(number), Some(&reply(60_000)), start);
            assert!(memory.grants.bytes <= GRANTS_MAX.bytes, "{}", memory.grants.bytes);
        }
        assert!(memory.find(&key(199), start).is_some() && memory.grants.kept.len() < 100);
    }

    #[test]
    fn denials_hold_for_a_second_and_drive_out_no_grant() {
        let (mut memory, start) = (Memory::<()>::new(Duration::from_secs(60)), Instant::now());
        let no = Reply::from(Err(Denial::Refused));
        memory.end(key(0), Some(&Reply::default()), start);
        for number in 1..20_000 {
            memory.end(key(number), Some(&no), start);
        }
        assert_eq!(
            (memory.denials.kept.len(), memory.find(&key(19_999), start)),
            (DENIALS_MAX.count, Some(&no))
        );
        let later = start + DENIAL_TIME_MAX;
        assert!(
            memory.find(&key(0), later).is_some_and(Reply::is_allowed)
                && memory.find(&key(19_999), later).is_none()
        );
        // Who is denied is not what it was granted before.
        let soon = start + Duration::from_millis(1);
        memory.end(key(0), Some(&no), soon);
        assert_eq!(memory.find(&key(0), soon), Some(&no));
    }

    #[test]
    fn those_who_do_not_say_who_they_are_are_not_equal() {
        let connect = |authid: Option<&str>| Subject::Connect {
            authid: authid.map(Into::into),
            role: RoleId::new(0),
            method: LoginMethod::Anonymous,
        };
        let of = |authid| Key::of_subject(RealmId::new(0), &connect(authid), false);
        assert_eq!(of(None), None);
        assert!(
            of(Some("joe")).is_some()
                && of(Some("joe")) == of(Some("joe"))
                && of(Some("ann")) != of(Some("joe"))
        );
    }
    #[test]
    fn who_is_told_the_session_answers_for_that_session_alone() {
        let call = |session: u64| Subject::Call {
            who: Identity {
                session: SessionId::new(session).expect("an id"),
                authid: "joe".into(),
                authrole: "member".into(),
            },
            uri: "com.shop.sell".into(),
        };
        let of = |session, by_session| Key::of_subject(RealmId::new(0), &call(session), by_session);
        assert!(of(1, true).is_some() && of(1, true) == of(1, true));
        assert_ne!(of(1, true), of(2, true));
        assert_eq!(of(1, false), of(2, false));
    }
}
