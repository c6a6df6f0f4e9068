//! The edge to whoever owns the sockets.

use std::io::IoSlice;

/// A connection of this shard, as a slot number chosen by the driver. The core has no descriptors. A slot may be used
/// again only after [`release`](crate::Shard::release).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Outlet(pub u32);

impl Outlet {
    /// Tables by outlet are made with room for so many. They take address space only, 12 MiB a shard, and as memory what
    /// is used of it. Tables that grow while connections come are copied, and leave about 170 bytes per connection of
    /// outgrown ones with the allocator.
    pub const FORESEEN: usize = 1 << 16;

    /// The slot as an array index.
    pub const fn index(self) -> usize {
        self.0 as usize
    }
}

/// Takes bytes for connections. Implemented by `io` on sockets, by tests on buffers.
pub trait Wire {
    /// Offers `pieces`, in order, to the socket of `outlet`. Never blocks.
    fn send(&mut self, outlet: Outlet, pieces: &[IoSlice<'_>]) -> Sent;
}

/// What became of an offer.
#[must_use]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Sent {
    /// So many bytes were taken. Fewer than offered: the socket is full until `writable` is called.
    Took(usize),
    /// The socket is dead.
    Broken,
}
