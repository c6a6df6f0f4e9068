//! The bounded FIFO ring of one ordered pair of shards: exactly one producer, exactly one consumer.
//!
//! ```text
//! shard A ──push──▶ ring A→B ──pop──▶ shard B
//! shard B ──push──▶ ring B→A ──pop──▶ shard A
//! ```
//!
//! A ring never blocks and never grows: a full ring hands the item back, and the core keeps it, in order, until there
//! is room (DESIGN §4). Who waits for items is told by the [doorbell](crate::doorbell), not by the ring.
//!
//! Read first: [`Ring`], then [`Mesh`], which holds all the rings of the process.

use std::sync::Arc;

use crossbeam_utils::CachePadded;

use crate::sync::{AtomicUsize, Ordering};

#[cfg(not(loom))]
use crossbeam_queue::ArrayQueue as Slots;
#[cfg(loom)]
use modelled::Slots;

/// One direction between two shards. Clones share the ring.
pub struct Ring<T>(Arc<Shared<T>>);

struct Shared<T> {
    slots: Slots<T>,
    /// Payload bytes that ever went in; written by the producer alone, when it has pushed.
    bytes_in: CachePadded<AtomicUsize>,
    /// Payload bytes that were handled; written by the consumer alone. Both wrap around.
    bytes_out: CachePadded<AtomicUsize>,
}

impl<T> Clone for Ring<T> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<T> Ring<T> {
    /// An empty ring for `capacity` items.
    pub fn new(capacity: usize) -> Self {
        Self(Arc::new(Shared {
            slots: Slots::new(capacity),
            bytes_in: CachePadded::new(AtomicUsize::new(0)),
            bytes_out: CachePadded::new(AtomicUsize::new(0)),
        }))
    }

    /// Appends `item`, or hands it back if the ring is full.
    ///
    /// The item is visible to the consumer before a [`ring`](crate::doorbell::Doorbell::ring) that follows.
    pub fn push(&self, item: T) -> Result<(), T> {
        self.0.slots.push(item)
    }

    /// The oldest item.
    pub fn pop(&self) -> Option<T> {
        self.0.slots.pop()
    }

    /// Whether there is nothing to pop.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.slots.is_empty()
    }

    /// Items in the ring; exact for neither side while the other works, never more than were pushed.
    #[cfg(not(loom))]
    pub(crate) fn len(&self) -> usize {
        self.0.slots.len()
    }

    /// Slots that the producer may still fill; never too many, since only the producer fills them.
    #[cfg(not(loom))]
    pub(crate) fn free(&self) -> usize {
        self.0.slots.capacity() - self.0.slots.len()
    }

    /// Producer: so many payload bytes were pushed.
    pub(crate) fn add_bytes(&self, bytes: usize) {
        let Shared { bytes_in, .. } = &*self.0;
        // A load and a store: there is one writer.
        bytes_in.store(bytes_in.load(Ordering::Relaxed).wrapping_add(bytes), Ordering::Relaxed);
    }

    /// Consumer: so many payload bytes were handled.
    pub(crate) fn remove_bytes(&self, bytes: usize) {
        let Shared { bytes_out, .. } = &*self.0;
        bytes_out.store(bytes_out.load(Ordering::Relaxed).wrapping_add(bytes), Ordering::Relaxed);
    }

    /// Payload bytes in the ring. For the producer never too few, since only it adds some. Nothing else is decided by it, so
    /// the two counts need no order.
    pub(crate) fn bytes(&self) -> usize {
        let Shared { bytes_in, bytes_out, .. } = &*self.0;
        let bytes = bytes_in.load(Ordering::Relaxed).wrapping_sub(bytes_out.load(Ordering::Relaxed));
        // The consumer may have handled an item before it was added here.
        bytes.cast_signed().max(0).cast_unsigned()
    }
}

/// All rings of the process, by (from, to).
pub(crate) struct Mesh<T> {
    shards: usize,
    rings: Vec<Ring<T>>,
}

impl<T> Mesh<T> {
    /// Rings of `capacity` items for every ordered pair of `shards`.
    pub(crate) fn new(shards: usize, capacity: usize) -> Self {
        // The pair (i, i) exists and stays empty: one slot is cheaper than an `Option` in every loop.
        let ring = |i: usize| Ring::new(if i / shards == i % shards { 1 } else { capacity });
        Self { shards, rings: (0..shards * shards).map(ring).collect() }
    }

    /// The rings that `shard` reads, by producer.
    pub(crate) fn inbound(&self, shard: usize) -> Vec<Ring<T>> {
        (0..self.shards).map(|from| self.rings[from * self.shards + shard].clone()).collect()
    }

    /// The rings that `shard` writes, by consumer.
    pub(crate) fn outbound(&self, shard: usize) -> Vec<Ring<T>> {
        (0..self.shards).map(|to| self.rings[shard * self.shards + to].clone()).collect()
    }
}

/// Items of one ring: 8,192 over the number of shards, at least 128. 64 shards: 4,032 rings of 128 items of 32 bytes
/// are 16.5 MB; 8 shards: 56 rings of 1,024 are 1.8 MB.
pub(crate) fn capacity_for(shards: usize) -> usize {
    (8192 / shards.max(1)).max(128)
}

/// A single-producer, single-consumer queue on loom's atomics with the weakest orderings that carry the items. It
/// stands in for crossbeam's queue, which loom cannot see into: whatever the real one orders more strongly, the
/// doorbell does not rely on.
#[cfg(loom)]
mod modelled {
    use crate::sync::{AtomicUsize, Ordering};
    use loom::cell::UnsafeCell;

    pub(super) struct Slots<T> {
        head: AtomicUsize,
        tail: AtomicUsize,
        slots: Vec<UnsafeCell<Option<T>>>,
    }

    // SAFETY: each slot is touched by the producer before `tail` passes it and by the consumer before `head` passes
    // it; the release store of each is what the other acquires (and loom checks every access).
    unsafe impl<T: Send> Sync for Slots<T> {}

    impl<T> Slots<T> {
        pub(super) fn new(capacity: usize) -> Self {
            let slots = (0..capacity).map(|_| UnsafeCell::new(None)).collect();
            Self { head: AtomicUsize::new(0), tail: AtomicUsize::new(0), slots }
        }

        pub(super) fn push(&self, item: T) -> Result<(), T> {
            let tail = self.tail.load(Ordering::Relaxed);
            if tail - self.head.load(Ordering::Acquire) == self.slots.len() {
                return Err(item);
            }
            // SAFETY: only the one producer is here, and the consumer has not been shown this slot yet.
            self.slots[tail % self.slots.len()].with_mut(|slot| unsafe { *slot = Some(item) });
            self.tail.store(tail + 1, Ordering::Release);
            Ok(())
        }

        pub(super) fn pop(&self) -> Option<T> {
            let head = self.head.load(Ordering::Relaxed);
            if head == self.tail.load(Ordering::Acquire) {
                return None;
            }
            // SAFETY: only the one consumer is here, and the producer cannot reuse the slot before `head` moves.
            let item = self.slots[head % self.slots.len()].with_mut(|slot| unsafe { (*slot).take() });
            self.head.store(head + 1, Ordering::Release);
            item
        }

        pub(super) fn is_empty(&self) -> bool {
            self.head.load(Ordering::Relaxed) == self.tail.load(Ordering::Relaxed)
        }
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn items_come_out_in_order_and_a_full_ring_hands_back() {
        let ring = Ring::new(2);
        assert_eq!(ring.push(1), Ok(()));
        assert_eq!(ring.push(2), Ok(()));
        assert_eq!(ring.free(), 0);
        assert_eq!(ring.push(3), Err(3));
        assert_eq!(ring.pop(), Some(1));
        assert_eq!(ring.push(3), Ok(()));
        assert_eq!((ring.pop(), ring.pop(), ring.pop()), (Some(2), Some(3), None));
    }

    #[test]
    fn bytes_are_those_pushed_and_not_yet_handled() {
        let ring = Ring::new(2);
        ring.push("four").unwrap();
        ring.add_bytes(4);
        let theirs = ring.clone();
        assert_eq!(theirs.pop(), Some("four"));
        assert_eq!(ring.bytes(), 4, "still in memory");
        theirs.remove_bytes(4);
        assert_eq!(ring.bytes(), 0);
    }

    #[test]
    fn each_ordered_pair_has_its_own_ring() {
        let mesh = Mesh::new(3, 4);
        mesh.outbound(0)[2].push("0 to 2").unwrap();
        mesh.outbound(2)[0].push("2 to 0").unwrap();
        assert_eq!(mesh.inbound(2)[0].pop(), Some("0 to 2"));
        assert_eq!(mesh.inbound(0)[2].pop(), Some("2 to 0"));
        assert!(mesh.inbound(1).iter().all(Ring::is_empty));
    }

    #[test]
    fn ring_capacity_follows_the_number_of_shards() {
        assert_eq!([1, 2, 8, 63].map(capacity_for), [8192, 4096, 1024, 130]);
    }
}
