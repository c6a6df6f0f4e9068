//! What can be done to a connection.

use std::num::{NonZeroU64, NonZeroUsize};
use std::time::Duration;

/// What is done to the bytes of one direction. The default is nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Faults {
    /// Every byte comes this much later.
    pub latency: Duration,
    /// And up to this much later still; the order stays.
    pub jitter: Duration,
    /// Bytes that pass in a second at most.
    pub bandwidth: Option<NonZeroU64>,
    /// Bytes that are written at once at most; each piece is a segment of its own.
    pub slice: Option<NonZeroUsize>,
    /// Both sides get a reset when this many bytes have passed.
    pub reset_at: Option<u64>,
    /// The receiver gets the end of the stream when this many bytes have passed; what comes later is swallowed.
    pub half_close_at: Option<u64>,
    /// What comes after this many bytes is swallowed, the end of the stream too.
    pub blackhole_after: Option<u64>,
    /// These bits are flipped: the first bit of the first byte has the number 0.
    pub corrupt_bits: Vec<u64>,
    /// A random bit of about every so many bytes is flipped.
    pub corrupt_every: Option<NonZeroU64>,
}

impl Faults {
    /// How many more bytes may pass before one of the cuts, when `passed` have.
    pub(super) fn until_cut(&self, passed: u64) -> u64 {
        [self.reset_at, self.half_close_at, self.blackhole_after]
            .into_iter()
            .flatten()
            .map(|at| at.saturating_sub(passed))
            .min()
            .unwrap_or(u64::MAX)
    }
}

/// Both directions of a connection.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Line {
    /// From the client to the server.
    pub up: Faults,
    /// From the server to the client.
    pub down: Faults,
    /// Receive buffer towards the server, in bytes: with a small one the server soon sees that nobody reads.
    pub receive_buffer: Option<u32>,
}

impl Line {
    /// Does this to what the client sends.
    pub fn up(faults: Faults) -> Self {
        Self { up: faults, ..Self::default() }
    }

    /// Does this to what the server sends.
    pub fn down(faults: Faults) -> Self {
        Self { down: faults, ..Self::default() }
    }

    /// Does this to both directions.
    pub fn both(faults: Faults) -> Self {
        Self { up: faults.clone(), down: faults, receive_buffer: None }
    }

    /// With this receive buffer towards the server.
    pub fn receive_buffer(mut self, bytes: u32) -> Self {
        self.receive_buffer = Some(bytes);
        self
    }
}
