//! The atomics of this crate: `std` in the program, `loom` in the model checks (`--cfg loom`).
//!
//! Only [`ring`](crate::ring), [`doorbell`](crate::doorbell) and [`loads`](crate::loads) are modelled; the counters are single-writer and
//! need no ordering, so they name `std` themselves.

#[cfg(not(loom))]
pub(crate) use std::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering, fence};

#[cfg(loom)]
pub(crate) use loom::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering, fence};
