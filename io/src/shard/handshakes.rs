//! Which TLS handshakes of a shard may be under way, and who waits for one of those places.
//!
//! ```text
//! enter ─┬ a free place, and nobody waits ─▶ silent ──▶ answered ──▶ end
//!        └ otherwise ─▶ waiting ─admit─▶ admitted ─enter─▶ silent …
//! ```
//!
//! A connection that waits is not read, so it costs its slot and a number here. Places are given in the order of arrival. A
//! handshake that makes no progress gives its place up if others wait ([`Handshakes::gives_way`]): early while it has sent no
//! whole greeting, which takes no more than its segments' way, and later where the client has to answer.

use std::collections::VecDeque;
use std::time::Duration;

use fanwire_core::Instant;

/// See the module's picture.
#[derive(Debug)]
pub(super) struct Handshakes {
    /// Most that are under way.
    places: usize,
    /// Under way and without an answer of ours, the oldest first.
    silent: VecDeque<(u32, Instant)>,
    /// Under way and answered, those first that were answered first.
    answered: VecDeque<(u32, Instant)>,
    /// Who waits, in order; and some that have left.
    queue: VecDeque<u32>,
    /// Who has been let in and has not begun.
    admitted: usize,
    /// By slot, as far as one ever waited.
    waits: Vec<Wait>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Wait {
    No,
    Waiting,
    Admitted,
}

/// What becomes of a connection that wants to begin.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Entered {
    /// It has a place.
    Begins,
    /// It waits for one from now on.
    Queued,
    /// It waits for one already.
    Waits,
}

impl Handshakes {
    /// With room for so many at once.
    pub(super) fn new(places: u32) -> Self {
        Self {
            places: places as usize,
            silent: VecDeque::new(),
            answered: VecDeque::new(),
            queue: VecDeque::new(),
            admitted: 0,
            waits: Vec::new(),
        }
    }

    /// From now on so many at once. Those that are under way go on.
    pub(super) fn set_places(&mut self, places: u32) {
        self.places = places as usize;
    }

    fn free_places(&self) -> usize {
        self.places.saturating_sub(self.silent.len() + self.answered.len() + self.admitted)
    }

    fn wait(&self, slot: u32) -> Wait {
        self.waits.get(slot as usize).copied().unwrap_or(Wait::No)
    }

    /// A connection wants to begin.
    pub(super) fn enter(&mut self, slot: u32, now: Instant) -> Entered {
        match self.wait(slot) {
            Wait::Waiting => return Entered::Waits,
            Wait::Admitted => {
                self.leave(slot);
            }
            Wait::No if self.free_places() == 0 || !self.queue.is_empty() => {
                let index = slot as usize;
                if self.waits.len() <= index {
                    self.waits.resize(index + 1, Wait::No);
                }
                self.waits[index] = Wait::Waiting;
                self.queue.push_back(slot);
                return Entered::Queued;
            }
            Wait::No => {}
        }
        self.silent.push_back((slot, now));
        Entered::Begins
    }

    /// A step was made, and the client has to make the next one.
    pub(super) fn answered(&mut self, slot: u32, now: Instant) {
        if remove(&mut self.silent, slot) {
            self.answered.push_back((slot, now));
        }
    }

    /// Whether the handshake was under way; it is not any more.
    pub(super) fn end(&mut self, slot: u32) -> bool {
        remove(&mut self.silent, slot) || remove(&mut self.answered, slot)
    }

    /// Whether the connection is in the queue.
    pub(super) fn is_waiting(&self, slot: u32) -> bool {
        self.wait(slot) == Wait::Waiting
    }

    /// The connection waits no longer. Tells whether it did, or had been let in and had not begun.
    pub(super) fn leave(&mut self, slot: u32) -> bool {
        let Some(wait) = self.waits.get_mut(slot as usize) else { return false };
        let was = std::mem::replace(wait, Wait::No);
        self.admitted -= usize::from(was == Wait::Admitted);
        was != Wait::No
    }

    /// The next one of the queue, if there is a place for it, which is kept for it.
    pub(super) fn admit(&mut self) -> Option<u32> {
        self.forget_those_who_left();
        if self.free_places() == 0 {
            return None;
        }
        let slot = self.queue.pop_front()?;
        self.waits[slot as usize] = Wait::Admitted;
        self.admitted += 1;
        Some(slot)
    }

    /// A handshake that has had its time while somebody waits and there is no place.
    pub(super) fn gives_way(&mut self, now: Instant) -> Option<u32> {
        self.forget_those_who_left();
        if self.queue.is_empty() || self.free_places() > 0 {
            return None;
        }
        self.first_stalled().filter(|(_, at)| *at <= now).map(|(slot, _)| slot)
    }

    /// When something is to be done for those that wait: a handshake gives way, or there is a place.
    pub(super) fn next_deadline(&self) -> Option<Instant> {
        self.queue.front()?;
        if self.free_places() > 0 {
            return Some(Instant::START);
        }
        self.first_stalled().map(|(_, at)| at)
    }

    /// Which handshake gives way first, and when.
    fn first_stalled(&self) -> Option<(u32, Instant)> {
        let silent = self.silent.front().map(|(slot, since)| (*slot, *since + SILENT_MAX));
        let answered = self.answered.front().map(|(slot, since)| (*slot, *since + ANSWER_MAX));
        silent.into_iter().chain(answered).min_by_key(|(_, at)| *at)
    }

    /// At the front of the queue. Those further behind are found when it is their turn.
    fn forget_those_who_left(&mut self) {
        while self.queue.front().is_some_and(|slot| !self.is_waiting(*slot)) {
            self.queue.pop_front();
        }
    }
}

fn remove(list: &mut VecDeque<(u32, Instant)>, slot: u32) -> bool {
    let place = list.iter().position(|(other, _)| *other == slot);
    place.and_then(|place| list.remove(place)).is_some()
}

/// A greeting comes in two segments at most, but for a client with a long chain of something; a lost one comes again after
/// 200 ms or more.
const SILENT_MAX: Duration = Duration::from_millis(250);
/// A client answers within a round trip or two.
const ANSWER_MAX: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: u64) -> Instant {
        Instant::START + Duration::from_millis(millis)
    }

    #[test]
    fn places_are_given_in_the_order_of_arrival() {
        let mut shakes = Handshakes::new(2);
        assert_eq!([0, 1].map(|slot| shakes.enter(slot, at(0))), [Entered::Begins; 2]);
        assert_eq!([7, 8, 9].map(|slot| shakes.enter(slot, at(0))), [Entered::Queued; 3]);
        assert_eq!(shakes.enter(8, at(0)), Entered::Waits);
        assert_eq!(shakes.admit(), None);
        assert!(shakes.end(1) && !shakes.end(1));
        // The place is the first one's of those that wait, not a newcomer's.
        assert_eq!(shakes.next_deadline(), Some(Instant::START));
        assert_eq!(shakes.enter(3, at(1)), Entered::Queued);
        assert_eq!((shakes.admit(), shakes.admit()), (Some(7), None));
        assert_eq!(shakes.enter(4, at(1)), Entered::Queued);
        assert_eq!(shakes.enter(7, at(1)), Entered::Begins);
        assert!(shakes.leave(8), "it is gone");
        assert!(shakes.end(0) && shakes.end(7));
        assert_eq!([(); 3].map(|()| shakes.admit()), [Some(9), Some(3), None]);
        // One that was let in and left gives its place back.
        assert!(shakes.leave(9) && !shakes.leave(9));
        assert_eq!(shakes.admit(), Some(4));
        assert_eq!([3, 4].map(|slot| shakes.enter(slot, at(2))), [Entered::Begins; 2]);
        assert_eq!((shakes.admit(), shakes.next_deadline()), (None, None));
    }

    #[test]
    fn who_makes_no_progress_gives_way_to_who_waits() {
        let mut shakes = Handshakes::new(2);
        shakes.enter(0, at(0));
        shakes.enter(1, at(100));
        shakes.answered(0, at(10));
        assert_eq!((shakes.gives_way(at(9_000)), shakes.next_deadline()), (None, None), "nobody waits");
        shakes.enter(2, at(200));
        assert_eq!(shakes.next_deadline(), Some(at(100) + SILENT_MAX));
        assert_eq!(shakes.gives_way(at(349)), None);
        assert_eq!(shakes.gives_way(at(350)), Some(1));
        shakes.answered(1, at(350));
        assert_eq!(shakes.gives_way(at(1_009)), None);
        assert_eq!(shakes.gives_way(at(1_010)), Some(0));
        assert!(shakes.leave(2));
        assert_eq!(shakes.gives_way(at(1_010)), None, "it did not want to wait");
        assert_eq!(shakes.next_deadline(), None);
    }
}
