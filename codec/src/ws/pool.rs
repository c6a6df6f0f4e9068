//! Buffers for what is incomplete, kept from one connection to the next.

use super::deflate::{Inflated, Inflater};
use super::mask::Unmasker;
use super::partial::Partial;

/// Bounded free list of message buffers, and what inflates compressed messages; one per shard.
///
/// Worst case memory at rest: buffers × bytes of each; 64 × 64 KiB = 4 MiB with [`Pool::default`]. A buffer that has
/// grown beyond the bound is freed instead of kept, so that one large message costs nothing later. From the first
/// compressed message on, 48 KiB more.
#[derive(Debug)]
pub struct Pool {
    // Boxed, because a Receiver holds its buffer by one pointer and the box itself is reused.
    #[expect(clippy::vec_box, reason = "the box travels between the pool and a Receiver")]
    free: Vec<Box<Partial>>,
    buffers_max: usize,
    buffer_bytes_max: usize,
    unmasker: Unmasker,
    inflater: Option<Box<Inflater>>,
}

impl Pool {
    /// A pool that keeps at most `buffers_max` buffers of at most `buffer_bytes_max` bytes each.
    pub fn new(buffers_max: usize, buffer_bytes_max: usize) -> Self {
        Self { free: Vec::new(), buffers_max, buffer_bytes_max, unmasker: Unmasker::detect(), inflater: None }
    }

    /// Buffers at rest here.
    pub fn free_count(&self) -> usize {
        self.free.len()
    }

    /// What was inflated with this pool so far.
    pub fn inflated(&self) -> Inflated {
        self.inflater.as_ref().map_or_else(Inflated::default, |inflater| inflater.done)
    }

    /// Frees the buffers at rest.
    pub fn drop_spares(&mut self) {
        self.free = Vec::new();
    }

    pub(super) fn inflater(&mut self) -> &mut Inflater {
        self.inflater.get_or_insert_default()
    }

    pub(super) fn unmasker(&self) -> Unmasker {
        self.unmasker
    }

    pub(super) fn take(&mut self) -> Box<Partial> {
        self.free.pop().unwrap_or_else(|| Box::new(Partial::new(self.unmasker)))
    }

    pub(super) fn give(&mut self, mut partial: Box<Partial>) {
        if self.free.len() < self.buffers_max {
            partial.reset(self.buffer_bytes_max);
            self.free.push(partial);
        }
    }
}

impl Default for Pool {
    fn default() -> Self {
        Self::new(64, 64 * 1024)
    }
}
