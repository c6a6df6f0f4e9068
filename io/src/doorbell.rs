//! How a shard that sleeps learns of an item in one of its rings, or of an order in its mailbox.
//!
//! ```text
//! producer                               consumer
//! push item                              parked = true
//! fence                                  fence
//! parked? ─ no ─▶ done                   anything to pop? ─ yes ─▶ parked = false, work
//!    └ yes, and I was the one            └ no ─▶ sleep until the bell
//!      who cleared it ─▶ bell
//! ```
//!
//! Of the two fences one comes first in the single order of all SeqCst fences. If the producer's does, the consumer's
//! check sees the item; if the consumer's does, the producer sees `parked`. So no wake-up is lost, an awake shard costs
//! a producer one load, and however many producers come, one of them pays for the wake-up (5–12 µs on a parked core).
//! `tests::no_wake_up_is_lost` lets loom try every interleaving.

use crossbeam_utils::CachePadded;

use crate::sync::{AtomicBool, Ordering, fence};

/// What wakes the sleeping thread: an eventfd in the program, a notifier in the model.
pub(crate) trait Bell {
    /// Makes the consumer's wait end, now or when it begins. Must not block.
    fn signal(&self);
}

/// The doorbell of one shard, shared with all who push to it.
pub(crate) struct Doorbell<B> {
    /// True from the moment the shard announces its sleep until somebody, it or a producer, ends it. On a cache line of
    /// its own: every producer reads it once a turn.
    parked: CachePadded<AtomicBool>,
    bell: B,
}

impl<B: Bell> Doorbell<B> {
    /// A doorbell of an awake shard.
    pub(crate) fn new(bell: B) -> Self {
        Self { parked: CachePadded::new(AtomicBool::new(false)), bell }
    }

    /// The bell itself, for the consumer to wait on.
    pub(crate) fn bell(&self) -> &B {
        &self.bell
    }

    /// Whether the shard sleeps, or is about to. A guess: nothing may rest on it.
    pub(crate) fn is_parked(&self) -> bool {
        self.parked.load(Ordering::Relaxed)
    }

    /// Producer, after pushing: wakes the shard if it sleeps. Returns whether this call rang.
    pub(crate) fn ring(&self) -> bool {
        // Pairs with the fence in `park`: either the shard's check sees what was pushed, or the load sees `parked`.
        fence(Ordering::SeqCst);
        if !self.parked.load(Ordering::Relaxed) {
            return false;
        }
        // The swap elects one of several producers.
        if !self.parked.swap(false, Ordering::AcqRel) {
            return false;
        }
        self.bell.signal();
        true
    }

    /// Consumer, before sleeping: announces the sleep, then asks `has_work` once more. True = sleep until the bell (or
    /// anything else); false = there is work, stay awake.
    #[must_use]
    pub(crate) fn park(&self, has_work: impl FnOnce() -> bool) -> bool {
        // A swap, so that it comes after the swap of a producer that rang for the last sleep and was slow about it. (A
        // plain store would be ordered after it too, but loom does not know that.)
        self.parked.swap(true, Ordering::AcqRel);
        // Pairs with the fence in `ring`.
        fence(Ordering::SeqCst);
        if has_work() {
            self.unpark();
            return false;
        }
        true
    }

    /// Consumer, awake again, for whatever reason: nobody needs to ring.
    pub(crate) fn unpark(&self) {
        // A producer may have rung just before: then the bell is stale, and the shard finds nothing and sleeps again.
        self.parked.store(false, Ordering::Relaxed);
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use std::cell::Cell;

    struct Count(Cell<u32>);
    impl Bell for Count {
        fn signal(&self) {
            self.0.set(self.0.get() + 1);
        }
    }

    #[test]
    fn an_awake_shard_is_not_rung() {
        let bell = Doorbell::new(Count(Cell::new(0)));
        assert!(!bell.ring());
        assert_eq!(bell.bell().0.get(), 0);
    }

    #[test]
    fn a_sleeping_shard_is_rung_once() {
        let bell = Doorbell::new(Count(Cell::new(0)));
        assert!(bell.park(|| false));
        assert!(bell.ring());
        assert!(!bell.ring());
        assert_eq!(bell.bell().0.get(), 1);
    }

    #[test]
    fn a_shard_with_work_does_not_sleep() {
        let bell = Doorbell::new(Count(Cell::new(0)));
        assert!(!bell.park(|| true));
        assert!(!bell.ring());
    }
}

/// `RUSTFLAGS="--cfg loom" cargo test -p fanwire-io --lib --release doorbell`
#[cfg(all(test, loom))]
mod model {
    use super::*;
    use crate::ring::Ring;
    use loom::sync::{Arc, Condvar, Mutex};
    use loom::thread;

    /// The eventfd of the model: remembers a signal until it is waited for.
    #[derive(Default)]
    struct Signal {
        rung: Mutex<bool>,
        changed: Condvar,
    }

    impl Signal {
        fn wait(&self) {
            let mut rung = self.rung.lock().unwrap();
            while !*rung {
                rung = self.changed.wait(rung).unwrap();
            }
            *rung = false;
        }
    }

    impl Bell for Signal {
        fn signal(&self) {
            *self.rung.lock().unwrap() = true;
            self.changed.notify_one();
        }
    }

    fn consume(doorbell: &Doorbell<Signal>, rings: &[Ring<u32>], count: usize) -> Vec<u32> {
        let mut got = Vec::new();
        while got.len() < count {
            let before = got.len();
            got.extend(rings.iter().filter_map(Ring::pop));
            if got.len() > before {
                continue;
            }
            if doorbell.park(|| rings.iter().any(|ring| !ring.is_empty())) {
                doorbell.bell().wait();
                doorbell.unpark();
            }
        }
        got
    }

    /// All interleavings with at most three forced switches: seconds instead of minutes, and each planted bug (a fence
    /// or the second look left out) is found.
    fn check(model: impl Fn() + Sync + Send + 'static) {
        let mut builder = loom::model::Builder::new();
        builder.preemption_bound = Some(3);
        builder.check(model);
    }

    /// A lost wake-up leaves the consumer asleep with an item in a ring: loom reports the deadlock.
    #[test]
    fn no_wake_up_is_lost() {
        check(|| {
            let doorbell = Arc::new(Doorbell::new(Signal::default()));
            let rings = [Ring::new(2), Ring::new(2)];
            let producers: Vec<_> = (0..2u32)
                .map(|i| {
                    let (doorbell, ring) = (doorbell.clone(), rings[i as usize].clone());
                    thread::spawn(move || {
                        ring.push(i).expect("the ring has room");
                        doorbell.ring();
                    })
                })
                .collect();
            let mut got = consume(&doorbell, &rings, 2);
            got.sort_unstable();
            assert_eq!(got, [0, 1]);
            producers.into_iter().for_each(|producer| producer.join().unwrap());
        });
    }

    /// One ring, two items, a ring after each: order is kept and both arrive.
    #[test]
    fn one_producer_that_rings_twice_is_heard() {
        check(|| {
            let doorbell = Arc::new(Doorbell::new(Signal::default()));
            let rings = [Ring::new(1)];
            let producer = {
                let (doorbell, ring) = (doorbell.clone(), rings[0].clone());
                thread::spawn(move || {
                    let mut pending = 0..2u32;
                    let mut next = pending.next();
                    while let Some(item) = next {
                        match ring.push(item) {
                            Ok(()) => {
                                doorbell.ring();
                                next = pending.next();
                            }
                            Err(_) => thread::yield_now(),
                        }
                    }
                })
            };
            assert_eq!(consume(&doorbell, &rings, 2), [0, 1]);
            producer.join().unwrap();
        });
    }
}
