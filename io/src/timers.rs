//! The timer wheel of one shard: one entry per connection, linked through the slots by index.
//!
//! ```text
//! slot      0    1    2   …  2047          one slot = 16 ms, the wheel = 32.8 s
//!           │         │
//!           ▼         ▼
//!          c7 ⇄ c2   c9                    c = slab slot of a connection
//! ```
//!
//! A connection has several deadlines but one entry, at the earliest of them; when it fires, its owner looks which is
//! due and enters the next one. So a deadline that moves later (a ping that is not needed because the peer spoke) costs
//! nothing, and one beyond the wheel's horizon simply fires early once and is entered again. Entries never fire before
//! their time and at most one slot after it.
//!
//! The wheel knows no clock and no timer: the shard passes `now` and arms its timerfd with [`Wheel::next`].
//! It is only touched when a deadline changes or fires, never per message.

use fanwire_core::Outlet;
use fanwire_core::clock::Instant;

/// See the module's picture.
pub(crate) struct Wheel {
    /// First entry of each slot, or [`NONE`].
    heads: Box<[u32]>,
    /// One bit per slot that has entries.
    occupied: [u64; SLOTS / 64],
    /// By key. Grows with the largest key ever entered.
    links: Vec<Link>,
    /// The last tick whose slot was emptied by [`expire`](Self::expire).
    tick: u64,
    /// Entries in the wheel.
    len: usize,
}

#[derive(Clone, Copy)]
struct Link {
    next: u32,
    prev: u32,
    /// The slot that the entry is in, or [`UNLINKED`].
    slot: u16,
}

impl Wheel {
    /// An empty wheel that starts at `now`.
    pub(crate) fn new(now: Instant) -> Self {
        Self {
            heads: vec![NONE; SLOTS].into_boxed_slice(),
            occupied: [0; SLOTS / 64],
            links: Vec::with_capacity(Outlet::FORESEEN),
            tick: now.as_nanos() / TICK_NANOS,
            len: 0,
        }
    }

    /// Sees to it that `key` fires at `at` or earlier: enters it, moves it forward, or leaves an earlier entry alone.
    pub(crate) fn enter(&mut self, now: Instant, key: u32, at: Instant) {
        let index = key as usize;
        if index >= self.links.len() {
            self.links.resize(index + 1, Link { next: NONE, prev: NONE, slot: UNLINKED });
        }
        if self.len == 0 {
            // An empty wheel does not turn; there is nothing to pass over between its old tick and now.
            self.tick = self.tick.max(now.as_nanos() / TICK_NANOS);
        }
        let earliest = self.tick + 1;
        let latest = self.tick + SLOTS as u64 - 1;
        let wanted = at.as_nanos().div_ceil(TICK_NANOS).max(earliest);
        // What fires early only to be entered again does it together with others.
        let tick = if wanted > latest { latest - latest % TICKS_TOGETHER } else { wanted };
        let slot = (tick % SLOTS as u64) as u16;
        let present = self.links[index].slot;
        if present != UNLINKED {
            if self.distance(present) <= self.distance(slot) {
                return;
            }
            self.cancel(key);
        }
        let head = self.heads[slot as usize];
        self.links[index] = Link { next: head, prev: NONE, slot };
        if head != NONE {
            self.links[head as usize].prev = key;
        }
        self.heads[slot as usize] = key;
        self.occupied[slot as usize / 64] |= 1 << (slot % 64);
        self.len += 1;
    }

    /// Removes the entry of `key`, if there is one.
    pub(crate) fn cancel(&mut self, key: u32) {
        let Some(link) = self.links.get(key as usize).copied().filter(|link| link.slot != UNLINKED) else {
            return;
        };
        match link.prev {
            NONE => self.heads[link.slot as usize] = link.next,
            prev => self.links[prev as usize].next = link.next,
        }
        if link.next != NONE {
            self.links[link.next as usize].prev = link.prev;
        }
        if self.heads[link.slot as usize] == NONE {
            self.occupied[link.slot as usize / 64] &= !(1 << (link.slot % 64));
        }
        self.links[key as usize].slot = UNLINKED;
        self.len -= 1;
    }

    /// Moves the keys of all entries that are due into `due`. Each must be looked at and, if wanted, entered again.
    pub(crate) fn expire(&mut self, now: Instant, due: &mut Vec<u32>) {
        let target = now.as_nanos() / TICK_NANOS;
        while self.tick < target {
            let Some(distance) = self.next_distance() else {
                self.tick = target;
                return;
            };
            if self.tick + distance > target {
                self.tick = target;
                return;
            }
            self.tick += distance;
            let slot = (self.tick % SLOTS as u64) as usize;
            let mut key = std::mem::replace(&mut self.heads[slot], NONE);
            self.occupied[slot / 64] &= !(1 << (slot % 64));
            while key != NONE {
                let link = &mut self.links[key as usize];
                link.slot = UNLINKED;
                self.len -= 1;
                due.push(key);
                key = link.next;
            }
        }
    }

    /// When the next entry fires.
    pub(crate) fn next(&self) -> Option<Instant> {
        self.next_distance().map(|distance| Instant::from_nanos((self.tick + distance) * TICK_NANOS))
    }

    /// Ticks from the present one to `slot`, 1..=SLOTS.
    fn distance(&self, slot: u16) -> u64 {
        let here = self.tick % SLOTS as u64;
        let distance = (u64::from(slot) + SLOTS as u64 - here) % SLOTS as u64;
        if distance == 0 { SLOTS as u64 } else { distance }
    }

    /// Ticks to the first slot with entries.
    fn next_distance(&self) -> Option<u64> {
        if self.len == 0 {
            return None;
        }
        let words = SLOTS / 64;
        let start = ((self.tick + 1) % SLOTS as u64) as usize;
        let first = self.occupied[start / 64] & (!0 << (start % 64));
        let mut found = None;
        if first != 0 {
            found = Some(start / 64 * 64 + first.trailing_zeros() as usize);
        } else {
            for step in 1..=words {
                let word = (start / 64 + step) % words;
                if self.occupied[word] != 0 {
                    found = Some(word * 64 + self.occupied[word].trailing_zeros() as usize);
                    break;
                }
            }
        }
        found.map(|slot| self.distance(slot as u16))
    }
}

/// 16 ms: all deadlines are seconds, and a coarse slot wakes an idle router less often.
const TICK_NANOS: u64 = 16_000_000;
/// 2,048 slots = 32.8 s: every default deadline fits.
const SLOTS: usize = 2048;
/// 1 s.
const TICKS_TOGETHER: u64 = 64;
const NONE: u32 = u32::MAX;
const UNLINKED: u16 = u16::MAX;
const _: () = assert!(SLOTS < UNLINKED as usize && SLOTS.is_multiple_of(64));

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: u64) -> Instant {
        Instant::from_nanos(ms * 1_000_000)
    }

    fn fire(wheel: &mut Wheel, ms: u64) -> Vec<u32> {
        let mut due = Vec::new();
        wheel.expire(at(ms), &mut due);
        due.sort_unstable();
        due
    }

    #[test]
    fn an_entry_fires_not_before_its_time_and_within_one_tick() {
        let mut wheel = Wheel::new(at(0));
        wheel.enter(at(0), 3, at(100));
        assert_eq!(fire(&mut wheel, 99), []);
        assert_eq!(fire(&mut wheel, 112), [3]);
        assert_eq!(fire(&mut wheel, 10_000), []);
        assert_eq!(wheel.next(), None);
    }

    #[test]
    fn an_earlier_entry_stays_and_a_later_one_moves_forward() {
        let mut wheel = Wheel::new(at(0));
        wheel.enter(at(0), 1, at(500));
        wheel.enter(at(0), 1, at(900));
        assert_eq!(fire(&mut wheel, 512), [1]);
        wheel.enter(at(512), 1, at(5000));
        wheel.enter(at(512), 1, at(600));
        assert_eq!(fire(&mut wheel, 608), [1]);
        assert_eq!(fire(&mut wheel, 30_000), []);
    }

    #[test]
    fn beyond_the_horizon_it_fires_early_and_is_entered_again() {
        let mut wheel = Wheel::new(at(0));
        wheel.enter(at(0), 1, at(100_000));
        let mut fired = 0;
        for ms in (0..100_000).step_by(500) {
            for key in fire(&mut wheel, ms) {
                fired += 1;
                wheel.enter(at(ms), key, at(100_000));
            }
        }
        assert_eq!(fired, 3, "each 32.7 s");
        assert_eq!(fire(&mut wheel, 100_016), [1]);
    }

    #[test]
    fn what_is_beyond_the_horizon_fires_early_together() {
        let mut wheel = Wheel::new(at(0));
        for key in 0..60 {
            let ms = 16 * u64::from(key + 1);
            assert_eq!(fire(&mut wheel, ms), []);
            wheel.enter(at(ms), key, at(60_000));
        }
        assert_eq!(fire(&mut wheel, 32_767), []);
        assert_eq!(fire(&mut wheel, 32_768).len(), 60);
    }

    #[test]
    fn after_a_long_idle_time_an_empty_wheel_takes_entries_at_their_time() {
        let mut wheel = Wheel::new(at(0));
        wheel.enter(at(3_590_000), 1, at(3_600_000));
        let next = wheel.next().unwrap();
        assert!(next >= at(3_600_000) && next <= at(3_600_016), "{next:?}");
        assert_eq!(fire(&mut wheel, 3_599_999), []);
        assert_eq!(fire(&mut wheel, 3_600_016), [1]);
    }

    #[test]
    fn it_agrees_with_a_sorted_list() {
        // A small linear congruential generator: the test must be the same each time.
        let mut state = 1u64;
        let mut random = move |below: u64| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) % below
        };
        let mut wheel = Wheel::new(at(0));
        let mut model = std::collections::HashMap::<u32, u64>::new();
        let mut now = 0;
        for _ in 0..20_000 {
            let key = random(50) as u32;
            match random(4) {
                0 | 1 => {
                    let due = now + 1 + random(20_000);
                    wheel.enter(at(now), key, at(due));
                    let entry = model.entry(key).or_insert(due);
                    *entry = (*entry).min(due);
                }
                2 => {
                    wheel.cancel(key);
                    model.remove(&key);
                }
                _ => {
                    now += random(100);
                    for key in fire(&mut wheel, now) {
                        let due = model.remove(&key).expect("only what was entered fires");
                        assert!(due <= now, "{key} fired {} ms early", due - now);
                    }
                    assert!(model.values().all(|&due| due + 16 > now), "all that is due has fired");
                }
            }
            assert_eq!(wheel.len, model.len());
            if let Some(next) = wheel.next() {
                let first = model.values().min().unwrap();
                assert!(next.as_nanos() / 1_000_000 >= *first && next.as_nanos() / 1_000_000 < first + 17);
            }
        }
    }
}
