//! What the threads of a run share: the phase, the clock's zero, the windows, the gauges and a doorbell each.

use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicU8, AtomicU32, AtomicU64, Ordering};
use std::sync::{Mutex, OnceLock};
use std::time::Instant;

use rustix::event::{EventfdFlags, eventfd};

use crate::failure::Failure;
use crate::flow::Flows;
use crate::meter::{Gauges, Timing};

/// Where the run is. It only ever goes forward.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Phase {
    /// Connections are opened.
    Connect,
    /// The load runs; the times are set.
    Load,
    /// Nothing is sent any more; what is under way may arrive.
    Drain,
    /// Say good-bye and end.
    Close,
}

/// How far a flow from one to one is.
#[derive(Debug, Default)]
pub struct Probed {
    /// Messages sent; final once its thread has seen [`Phase::Drain`].
    pub sent: AtomicU32,
    /// Messages that have come; counted of the flood only.
    pub arrived: AtomicU64,
}

/// Shared by all threads.
#[derive(Debug)]
pub struct Shared {
    epoch: Instant,
    phase: AtomicU8,
    start_ns: AtomicU64,
    from_ns: AtomicU64,
    to_ns: AtomicU64,
    doorbells: Vec<OwnedFd>,
    /// One per thread.
    pub gauges: Vec<Gauges>,
    /// Windows of the closed loop of a fan-out.
    pub flows: Option<Flows>,
    /// Software of the server, as the first WELCOME names it.
    pub agent: OnceLock<String>,
    /// Connections on which compression was agreed, and on which it was offered in vain.
    pub compressed: AtomicU64,
    /// See `compressed`.
    pub uncompressed: AtomicU64,
    /// What the server said to a connection that was not ready, and that was not understood.
    pub last_words: Mutex<Option<String>>,
    /// Of each probe's flow, and of the flood's, which is the last.
    pub probed: Vec<Probed>,
    /// What was sent of each flow, see [`crate::topics`]; final once its thread has seen [`Phase::Drain`].
    pub sent: Vec<AtomicU32>,
}

impl Shared {
    /// For `threads` threads and `senders` publishers or callers.
    pub fn new(threads: usize, senders: usize, probes: usize, flows: Option<Flows>) -> Result<Self, Failure> {
        let doorbells = (0..threads)
            .map(|_| eventfd(0, EventfdFlags::NONBLOCK | EventfdFlags::CLOEXEC))
            .collect::<Result<_, _>>()
            .map_err(|error| Failure::usage(format!("no eventfd for the generator's threads: {error}")))?;
        Ok(Self {
            epoch: Instant::now(),
            phase: AtomicU8::new(Phase::Connect as u8),
            start_ns: AtomicU64::new(0),
            from_ns: AtomicU64::new(0),
            to_ns: AtomicU64::new(0),
            doorbells,
            gauges: (0..threads).map(|_| Gauges::default()).collect(),
            flows,
            agent: OnceLock::new(),
            compressed: AtomicU64::new(0),
            uncompressed: AtomicU64::new(0),
            last_words: Mutex::new(None),
            probed: (0..probes).map(|_| Probed::default()).collect(),
            sent: (0..senders).map(|_| AtomicU32::new(0)).collect(),
        })
    }

    /// Nanoseconds since the run's epoch.
    #[inline]
    pub fn now_ns(&self) -> u64 {
        self.epoch.elapsed().as_nanos() as u64
    }

    /// The phase now.
    pub fn phase(&self) -> Phase {
        match self.phase.load(Ordering::Acquire) {
            0 => Phase::Connect,
            1 => Phase::Load,
            2 => Phase::Drain,
            _ => Phase::Close,
        }
    }

    /// The times of the load; valid from [`Phase::Load`] on.
    pub fn timing(&self) -> Timing {
        Timing {
            start_ns: self.start_ns.load(Ordering::Relaxed),
            from_ns: self.from_ns.load(Ordering::Relaxed),
            to_ns: self.to_ns.load(Ordering::Relaxed),
        }
    }

    /// Begins the load at the times given.
    pub fn begin(&self, timing: Timing) {
        self.start_ns.store(timing.start_ns, Ordering::Relaxed);
        self.from_ns.store(timing.from_ns, Ordering::Relaxed);
        self.to_ns.store(timing.to_ns, Ordering::Relaxed);
        self.enter(Phase::Load);
    }

    /// Goes to `phase` and wakes everybody. Release: who sees the phase sees the times too.
    pub fn enter(&self, phase: Phase) {
        self.phase.store(phase as u8, Ordering::Release);
        (0..self.doorbells.len()).for_each(|thread| self.ring(thread));
    }

    /// The server has answered an offer to compress.
    pub fn count_compression(&self, is_agreed: bool) {
        let counter = if is_agreed { &self.compressed } else { &self.uncompressed };
        counter.fetch_add(1, Ordering::Relaxed);
    }

    /// Wakes a thread.
    pub fn ring(&self, thread: usize) {
        // A full counter means that it is awake anyway.
        let _ = rustix::io::write(&self.doorbells[thread], &1u64.to_ne_bytes());
    }

    /// The descriptor that becomes readable when `thread` is rung.
    pub fn doorbell(&self, thread: usize) -> &OwnedFd {
        &self.doorbells[thread]
    }

    /// Silences the doorbell again.
    pub fn hush(&self, thread: usize) {
        let _ = rustix::io::read(&self.doorbells[thread], &mut [0u8; 8]);
    }
}
