//! How many connections each shard has, and which shard takes a new one.
//!
//! The kernel spreads connections over the shards' listening sockets by a hash of their addresses. With few connections,
//! or few addresses that they come from, one shard may get most of them. So the shard that accepted one asks here:
//!
//! ```text
//! mine ≤ fewest + fewest / 32 ─▶ keep it             (fewest: over the other shards)
//! else                        ─▶ it goes to the shard that has the fewest
//! ```
//!
//! Up to 31 connections per shard that is exact: any two shards differ by one at most, if nobody leaves. Above, the
//! kernel's own spreading is nearly always within the bound, and of connections that come one by one few have to move.
//! In a burst more do (a quarter to a half), since the shard that runs first accepts what waits for it while the others
//! have not begun: the counts know nothing of the kernel's queues. A move costs no more CPU time than the noise of measuring.
//!
//! A claim counts the connection at once, with one compare-and-swap on the count that it was decided by: shards that
//! accept at the same moment cannot all choose the same one. A count therefore includes what is on its way to the shard,
//! and a shard that stops taking connections ([`Loads::retire`]) can tell when none is under way any more.
//!
//! What is not here: how a connection gets to the other shard (`shard/arrivals.rs`).

use crossbeam_utils::CachePadded;

use crate::sync::{AtomicU32, Ordering};

/// Open connections of each shard, with those on their way to it. Each on a cache line of its own: all shards read them
/// when they accept, and write them when a connection begins or ends.
pub(crate) struct Loads(Box<[CachePadded<AtomicU32>]>);

/// Who takes a new connection. It is counted there already.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Claim {
    /// The shard that accepted it.
    Keep,
    /// The shard with this index.
    HandTo(usize),
    /// Nobody has room. Not counted.
    Full,
}

impl Loads {
    pub(crate) fn new(shards: usize) -> Self {
        Self((0..shards).map(|_| CachePadded::new(AtomicU32::new(0))).collect())
    }

    /// Decides who takes the connection that shard `own` has accepted, where a shard has room for `max`.
    pub(crate) fn claim(&self, own: usize, max: u32) -> Claim {
        loop {
            let mine = self.load(own);
            let fewest = self.fewest_but(own);
            let (shard, count) = match fewest {
                Some((_, fewest)) if mine < max && mine <= fewest + fewest / SLACK => (own, mine),
                Some((other, fewest)) if fewest < max => (other, fewest),
                _ if mine < max => (own, mine),
                _ => return Claim::Full,
            };
            if self.count_one(shard, count) {
                return if shard == own { Claim::Keep } else { Claim::HandTo(shard) };
            }
            // Somebody was quicker: the counts have changed, and with them perhaps the choice.
        }
    }

    /// Claims the connection for shard `own`, whatever the others have. False = it has no room.
    pub(crate) fn claim_own(&self, own: usize, max: u32) -> bool {
        loop {
            let mine = self.load(own);
            if mine >= max {
                return false;
            }
            if self.count_one(own, mine) {
                return true;
            }
        }
    }

    /// A connection of this shard has ended, or does not come after all.
    pub(crate) fn release(&self, shard: usize) {
        let before = self.0[shard].fetch_sub(1, Ordering::Relaxed);
        debug_assert_ne!(before & !RETIRED, 0, "a connection that was not counted");
    }

    /// Nobody hands anything to this shard any more. What was claimed for it before is still on its way.
    pub(crate) fn retire(&self, shard: usize) {
        self.0[shard].fetch_or(RETIRED, Ordering::Relaxed);
    }

    /// Connections of this shard, with those on their way to it.
    pub(crate) fn of(&self, shard: usize) -> u32 {
        self.load(shard) & !RETIRED
    }

    /// Whether no shard has connections, nor will have one: all have retired.
    pub(crate) fn are_over(&self) -> bool {
        (0..self.0.len()).all(|shard| self.load(shard) == RETIRED)
    }

    // Relaxed throughout: a decision hangs on one count, which the compare-and-swap looks at again, and all changes of one
    // count have one order. What belongs to a connection travels by its queue, which orders its own content.
    fn load(&self, shard: usize) -> u32 {
        self.0[shard].load(Ordering::Relaxed)
    }

    fn count_one(&self, shard: usize, count: u32) -> bool {
        self.0[shard].compare_exchange(count, count + 1, Ordering::Relaxed, Ordering::Relaxed).is_ok()
    }

    /// The other shard with the fewest connections; the next one after `own` among equals, so that shards that accept at
    /// the same moment do not all try for the same.
    fn fewest_but(&self, own: usize) -> Option<(usize, u32)> {
        let (before, after) = (0..own, own + 1..self.0.len());
        let others = after.chain(before).map(|shard| (shard, self.load(shard)));
        others.filter(|(_, count)| count & RETIRED == 0).min_by_key(|(_, count)| *count)
    }
}

/// Set in the count of a shard that takes no more.
const RETIRED: u32 = 1 << 31;
/// "Noticeably more" is more than one in so many. Shares of ten thousand connections that a hash spreads over four shards
/// stray by 5 % (three standard deviations): a smaller allowance would only move connections about.
const SLACK: u32 = 32;

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    const ANY: u32 = u32::MAX;

    /// A generator that is good enough for choosing shards.
    fn dice(state: &mut u64) -> usize {
        *state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (*state >> 33) as usize
    }

    fn counts(loads: &Loads) -> Vec<u32> {
        (0..loads.0.len()).map(|shard| loads.of(shard)).collect()
    }

    #[test]
    fn few_connections_are_spread_exactly_wherever_they_come_in() {
        for shards in [1, 2, 4, 8, 63] {
            for seed in 0..20 {
                let (loads, mut state) = (Loads::new(shards), seed);
                for _ in 0..2 * shards {
                    // The worst that a hash can do, or any.
                    let own = if seed == 0 { 0 } else { dice(&mut state) % shards };
                    assert_ne!(loads.claim(own, ANY), Claim::Full);
                }
                assert_eq!(counts(&loads), vec![2; shards]);
            }
        }
    }

    #[test]
    fn many_connections_are_within_the_slack_and_hardly_move() {
        let (loads, mut state) = (Loads::new(4), 7);
        let mut moved = 0;
        for _ in 0..10_000 {
            moved += u32::from(loads.claim(dice(&mut state) % 4, ANY) != Claim::Keep);
        }
        let (least, most) = (*counts(&loads).iter().min().unwrap(), *counts(&loads).iter().max().unwrap());
        assert!(most <= least + least / SLACK + 1, "{:?}", counts(&loads));
        assert!(moved < 1_000, "{moved} of 10,000 moved");
    }

    /// All from one address, say: one shard accepts everything.
    #[test]
    fn the_bound_holds_for_the_worst_hash() {
        let loads = Loads::new(4);
        for _ in 0..1_000 {
            loads.claim(2, ANY);
            let (least, most) =
                (*counts(&loads).iter().min().unwrap(), *counts(&loads).iter().max().unwrap());
            assert!(most <= least + least / SLACK + 1, "{:?}", counts(&loads));
        }
    }

    #[test]
    fn whoever_lost_connections_gets_the_next_ones() {
        let loads = Loads::new(2);
        (0..40).for_each(|_| assert_ne!(loads.claim(0, ANY), Claim::Full));
        (0..10).for_each(|_| loads.release(1));
        assert_eq!(counts(&loads), [20, 10]);
        (0..10).for_each(|_| assert_eq!(loads.claim(0, ANY), Claim::HandTo(1)));
        assert_eq!(loads.claim(0, ANY), Claim::Keep);
    }

    #[test]
    fn the_router_is_full_when_every_shard_is() {
        let loads = Loads::new(2);
        assert_eq!(
            [0, 0, 0, 0, 0].map(|own| loads.claim(own, 2)),
            [Claim::Keep, Claim::HandTo(1), Claim::Keep, Claim::HandTo(1), Claim::Full,]
        );
        assert!(!loads.claim_own(0, 2));
        loads.release(1);
        assert!(!loads.claim_own(0, 2));
        assert_eq!(loads.claim(0, 2), Claim::HandTo(1));
    }

    #[test]
    fn all_is_over_once_all_have_retired_and_nobody_is_left() {
        let loads = Loads::new(2);
        assert!(loads.claim_own(1, 8));
        loads.retire(0);
        assert!(!loads.are_over());
        loads.release(1);
        assert!(!loads.are_over(), "the other one still accepts");
        loads.retire(1);
        assert!(loads.are_over());
    }

    #[test]
    fn a_shard_that_ends_is_handed_nothing() {
        let loads = Loads::new(2);
        assert_eq!(loads.claim(0, ANY), Claim::Keep);
        assert_eq!(loads.claim(0, ANY), Claim::HandTo(1));
        loads.retire(1);
        (0..100).for_each(|_| assert_eq!(loads.claim(0, 200), Claim::Keep));
        assert_eq!(loads.of(1), 1);
        loads.release(1);
        assert_eq!(loads.of(1), 0);
    }
}

/// `RUSTFLAGS="--cfg loom" cargo test -p fanwire-io --lib --release loads`
#[cfg(all(test, loom))]
mod model {
    use super::*;
    use crate::ring::Ring;
    use loom::sync::Arc;
    use loom::thread;

    /// Three shards accept at the same moment, two of them two connections: nobody has two more than another.
    #[test]
    fn claims_of_one_moment_are_spread() {
        let mut builder = loom::model::Builder::new();
        builder.preemption_bound = Some(3);
        builder.check(|| {
            let loads = Arc::new(Loads::new(3));
            let claim = |own, times| {
                let loads = loads.clone();
                move || (0..times).for_each(|_| assert_ne!(loads.claim(own, u32::MAX), Claim::Full))
            };
            let others = [thread::spawn(claim(0, 2)), thread::spawn(claim(1, 1))];
            claim(2, 1)();
            others.into_iter().for_each(|other| other.join().unwrap());
            let counts = [0, 1, 2].map(|shard| loads.of(shard));
            assert_eq!(counts.iter().sum::<u32>(), 4);
            assert!(counts.iter().all(|count| (1..=2).contains(count)), "{counts:?}");
        });
    }

    /// A shard that ends while another hands it a connection: it stays until that has come, or is not handed it.
    #[test]
    fn a_shard_ends_after_the_last_that_was_claimed_for_it() {
        loom::model(|| {
            let loads = Arc::new(Loads::new(2));
            let queue = Ring::new(1);
            let giver = {
                let (loads, queue) = (loads.clone(), queue.clone());
                thread::spawn(move || {
                    // Shard 0 has one, so that the next goes to shard 1 if that still takes it.
                    assert!(loads.claim_own(0, 2));
                    match loads.claim(0, 2) {
                        Claim::HandTo(1) => queue.push("a connection").expect("the queue is empty"),
                        Claim::Keep => {}
                        other => panic!("{other:?}"),
                    }
                })
            };
            loads.retire(1);
            let mut taken = 0;
            while loads.of(1) > 0 {
                match queue.pop() {
                    Some(_) => {
                        taken += 1;
                        loads.release(1);
                    }
                    None => thread::yield_now(),
                }
            }
            giver.join().unwrap();
            assert!(queue.pop().is_none(), "left behind");
            assert_eq!(loads.of(0) + taken, 2);
        });
    }
}
