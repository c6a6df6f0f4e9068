//! The same request twice is done once: answers are kept for a while under the key that the client chose.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use bytes::Bytes;
use tokio::time::Instant;

use super::keys::KeyHash;

/// Whose key it is (`None`: who needs none), and the key.
pub type OwnedKey = (Option<KeyHash>, Box<str>);
/// What the request was.
pub type Fingerprint = [u8; 32];

/// An answer that is given again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stored {
    /// Its status.
    pub status: u16,
    /// Its body.
    pub body: Bytes,
}

/// What is known of a request.
#[derive(Debug, PartialEq, Eq)]
pub enum Begun {
    /// Nothing: do it, then say [`Idempotency::finish`] or [`Idempotency::forget`] with this number.
    New(u64),
    /// It was done.
    Done(Stored),
    /// It is being done.
    InProgress,
    /// The key was used for another request.
    Differs,
}

/// The answers of a while, bounded in number and bytes: beyond them the oldest is forgotten, and counted.
#[derive(Debug)]
pub struct Idempotency {
    window: Duration,
    entries_max: usize,
    bytes_max: usize,
    entries: HashMap<OwnedKey, Entry>,
    /// By age. Those whose number is not that of the entry any more are of one that is gone.
    order: VecDeque<(Instant, OwnedKey, u64)>,
    bytes: usize,
    last: u64,
    forgotten_early: u64,
}

#[derive(Debug)]
struct Entry {
    number: u64,
    fingerprint: Fingerprint,
    answer: Option<Stored>,
}

impl Entry {
    fn bytes(&self) -> usize {
        self.answer.as_ref().map_or(0, |answer| answer.body.len())
    }
}

impl Idempotency {
    /// An empty table.
    pub fn new(window: Duration, entries_max: usize, bytes_max: usize) -> Self {
        Self {
            window,
            entries_max,
            bytes_max,
            entries: HashMap::new(),
            order: VecDeque::new(),
            bytes: 0,
            last: 0,
            forgotten_early: 0,
        }
    }

    /// From now on these bounds hold.
    pub fn set_bounds(&mut self, window: Duration, entries_max: usize) {
        (self.window, self.entries_max) = (window, entries_max);
    }

    /// What is known of this request. [`Begun::New`] notes it.
    pub fn begin(&mut self, now: Instant, key: OwnedKey, fingerprint: Fingerprint) -> Begun {
        self.make_room(now, 1);
        if let Some(entry) = self.entries.get(&key) {
            return match &entry.answer {
                _ if entry.fingerprint != fingerprint => Begun::Differs,
                Some(answer) => Begun::Done(answer.clone()),
                None => Begun::InProgress,
            };
        }
        self.last += 1;
        let number = self.last;
        self.order.push_back((now, key.clone(), number));
        self.entries.insert(key, Entry { number, fingerprint, answer: None });
        Begun::New(number)
    }

    /// Keeps the answer.
    pub fn finish(&mut self, now: Instant, key: &OwnedKey, number: u64, answer: Stored) {
        if let Some(entry) = self.entries.get_mut(key).filter(|entry| entry.number == number) {
            self.bytes += answer.body.len();
            entry.answer = Some(answer);
        }
        self.make_room(now, 0);
    }

    /// Nothing was done: it may be tried again.
    pub fn forget(&mut self, key: &OwnedKey, number: u64) {
        if self.entries.get(key).is_some_and(|entry| entry.number == number) {
            self.remove(key);
        }
        if self.order.len() > 2 * self.entries.len() + STALE_MAX {
            let entries = &self.entries;
            self.order
                .retain(|(_, key, number)| entries.get(key).is_some_and(|entry| entry.number == *number));
        }
    }

    /// Answers that were forgotten before their time, because there was no room.
    pub fn forgotten_early(&self) -> u64 {
        self.forgotten_early
    }

    /// Requests that are known.
    #[cfg(test)]
    fn len(&self) -> usize {
        self.entries.len()
    }

    fn make_room(&mut self, now: Instant, wanted: usize) {
        while let Some((began, key, number)) = self.order.front() {
            let is_there = self.entries.get(key).is_some_and(|entry| entry.number == *number);
            let is_old = now.saturating_duration_since(*began) >= self.window;
            let is_full = self.entries.len() + wanted > self.entries_max || self.bytes > self.bytes_max;
            if is_there && !is_old && !is_full {
                return;
            }
            let (_, key, _) = self.order.pop_front().expect("it was looked at");
            if is_there {
                self.remove(&key);
                self.forgotten_early += u64::from(!is_old);
            }
        }
    }

    fn remove(&mut self, key: &OwnedKey) {
        self.bytes -= self.entries.remove(key).map_or(0, |entry| entry.bytes());
    }
}

/// Places of requests that were forgotten, which are cleared away together.
const STALE_MAX: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;

    fn table() -> Idempotency {
        Idempotency::new(Duration::from_secs(60), 3, 100)
    }

    fn key(name: &str) -> OwnedKey {
        (None, name.into())
    }

    fn answer(bytes: usize) -> Stored {
        Stored { status: 200, body: vec![b'x'; bytes].into() }
    }

    fn done(table: &mut Idempotency, now: Instant, name: &str, bytes: usize) {
        let Begun::New(number) = table.begin(now, key(name), [1; 32]) else { panic!("{name} is known") };
        table.finish(now, &key(name), number, answer(bytes));
    }

    #[test]
    fn the_same_request_has_the_same_answer() {
        let (mut table, now) = (table(), Instant::now());
        let Begun::New(number) = table.begin(now, key("a"), [1; 32]) else { panic!("it is new") };
        assert_eq!(table.begin(now, key("a"), [1; 32]), Begun::InProgress);
        table.finish(now, &key("a"), number, answer(5));
        assert_eq!(table.begin(now, key("a"), [1; 32]), Begun::Done(answer(5)));
        assert_eq!(table.begin(now, key("a"), [2; 32]), Begun::Differs);
        assert!(
            matches!(table.begin(now, (Some(KeyHash::of("fwk_")), "a".into()), [2; 32]), Begun::New(_)),
            "another client's key"
        );
    }

    #[test]
    fn what_was_not_done_may_be_tried_again() {
        let (mut table, now) = (table(), Instant::now());
        let Begun::New(number) = table.begin(now, key("a"), [1; 32]) else { panic!("it is new") };
        table.forget(&key("a"), number);
        assert!(matches!(table.begin(now, key("a"), [2; 32]), Begun::New(_)));
    }

    #[test]
    fn answers_are_kept_for_the_window_alone() {
        let (mut table, now) = (table(), Instant::now());
        done(&mut table, now, "a", 5);
        let later = now + Duration::from_secs(60);
        assert!(matches!(table.begin(later, key("a"), [2; 32]), Begun::New(_)));
        assert_eq!(table.forgotten_early(), 0);
    }

    #[test]
    fn number_and_bytes_are_bounded() {
        let (mut table, now) = (table(), Instant::now());
        for name in ["a", "b", "c", "d"] {
            done(&mut table, now, name, 1);
        }
        assert_eq!((table.len(), table.forgotten_early()), (3, 1));
        assert!(matches!(table.begin(now, key("a"), [1; 32]), Begun::New(_)), "the oldest is forgotten");
        done(&mut table, now, "large", 100);
        assert!(table.bytes <= 100 && table.begin(now, key("large"), [1; 32]) == Begun::Done(answer(100)));
        for _ in 0..10_000 {
            let Begun::New(number) = table.begin(now, key("again"), [1; 32]) else { panic!("it is new") };
            table.forget(&key("again"), number);
        }
        assert!(table.order.len() < 2 * 3 + 2 * STALE_MAX, "{}", table.order.len());
    }

    #[test]
    fn one_that_was_forgotten_meanwhile_is_not_mixed_up() {
        let (mut table, now) = (table(), Instant::now());
        let Begun::New(first) = table.begin(now, key("a"), [1; 32]) else { panic!("it is new") };
        let later = now + Duration::from_secs(61);
        let Begun::New(second) = table.begin(later, key("a"), [2; 32]) else { panic!("it was forgotten") };
        table.finish(later, &key("a"), first, answer(1));
        table.forget(&key("a"), first);
        assert_eq!(table.begin(later, key("a"), [2; 32]), Begun::InProgress);
        table.finish(later, &key("a"), second, answer(2));
        assert_eq!(table.begin(later, key("a"), [2; 32]), Begun::Done(answer(2)));
    }
}
