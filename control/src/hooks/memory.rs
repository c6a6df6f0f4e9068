//! Equal questions: those that are being asked, and answers that still hold.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use fanwire_core::login::Proof;
use fanwire_core::question::{Question, Subject};
use sha2::{Digest, Sha256};
use tokio::time::Instant;

use super::reply::Reply;

/// Answers that are kept by one hook; beyond it the oldest is forgotten. Some 200 bytes each.
const ANSWERS_MAX: usize = 10_000;

/// What equal questions have in common, as a hash: tickets are not kept.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(super) struct Key([u8; 32]);

impl Key {
    /// `None`: each such question is asked for itself, because it is about one publication, or tells of one session.
    ///
    /// Sessions are not told apart: an answer holds for the user, in its role.
    pub(super) fn of(question: &Question) -> Option<Self> {
        let mut hash = Sha256::new();
        // The length first, so that two parts cannot look like two others.
        let mut add = |part: &[u8]| {
            hash.update((part.len() as u64).to_le_bytes());
            hash.update(part);
        };
        let name = question.subject.event().name();
        add(name.as_bytes());
        add(&(question.realm.index() as u64).to_le_bytes());
        let or_nobody = |authid: &Option<Box<str>>| match authid {
            Some(authid) => format!("={authid}"),
            None => String::new(),
        };
        match &question.subject {
            Subject::Login { authid, proof: Proof::Ticket(ticket) } => {
                add(or_nobody(authid).as_bytes());
                add(ticket.expose().as_bytes());
            }
            Subject::Connect { authid, role, method } => {
                add(or_nobody(authid).as_bytes());
                add(&(role.index() as u64).to_le_bytes());
                add(method.name().as_bytes());
            }
            Subject::Subscribe { who, uri, policy } => {
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
    answers: HashMap<Key, (Reply, Instant)>,
    /// In the order of their times.
    oldest: VecDeque<(Key, Instant)>,
    /// How long an answer holds.
    time: Duration,
}

impl<T> Memory<T> {
    pub(super) fn new(time: Duration) -> Self {
        Self { asked: HashMap::new(), answers: HashMap::new(), oldest: VecDeque::new(), time }
    }

    /// An answer that holds.
    pub(super) fn find(&mut self, key: &Key, now: Instant) -> Option<&Reply> {
        self.forget(now);
        self.answers.get(key).map(|(reply, _)| reply)
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
        if let Some(reply) = reply.filter(|_| !self.time.is_zero()) {
            self.answers.insert(key, (reply.clone(), now));
            self.oldest.push_back((key, now));
            self.forget(now);
        }
        self.asked.remove(&key).unwrap_or_default()
    }

    fn forget(&mut self, now: Instant) {
        while let Some(&(key, since)) = self.oldest.front()
            && (now.duration_since(since) >= self.time || self.oldest.len() > ANSWERS_MAX)
        {
            self.oldest.pop_front();
            // A later answer to the same has a place of its own further behind.
            if self.answers.get(&key).is_some_and(|(_, at)| *at == since) {
                self.answers.remove(&key);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
        assert!(memory.answers.is_empty() && memory.oldest.is_empty());
    }

    #[test]
    fn answers_have_a_bound() {
        let (mut memory, start) = (Memory::<()>::new(Duration::from_secs(2)), Instant::now());
        for number in 0..ANSWERS_MAX as u64 + 5 {
            memory.end(key(number), Some(&Reply::default()), start);
        }
        assert_eq!((memory.answers.len(), memory.oldest.len()), (ANSWERS_MAX, ANSWERS_MAX));
        assert!(memory.find(&key(4), start).is_none() && memory.find(&key(5), start).is_some());
    }
}
