//! Faults on purpose: a proxy that mistreats connections, and scenarios in which a router must lose nobody who behaves.
//!
//! ```text
//! runner ──▶ scenario ──▶ Router (a process of its own)
//!               │            ▲        ▲
//!               ├─ control ──┘        │     a healthy publisher and healthy subscribers, who must notice nothing
//!               └─ mischief ─ Proxy ──┘     clients that are stuck, slow, cut, many, damaged
//! ```
//!
//! Read first: [`scenario`], then one of [`scenarios`]. [`testbed`] is also what the process tests of the router use;
//! [`proxy`] is the program `fanwire-faultproxy` as well.

#![forbid(unsafe_code)]
#![allow(clippy::disallowed_methods, reason = "real time in real processes; no shard is near")]

pub mod control;
pub mod crowd;
pub mod proxy;
pub mod random;
pub mod runner;
pub mod scenario;
pub mod scenarios;
pub mod testbed;
