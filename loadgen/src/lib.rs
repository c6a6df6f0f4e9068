//! The load generator: drives a WAMP router, proves that nothing is lost, reordered or doubled, and measures the cost.
//!
//! ```text
//! run (coordinator) ──phases──▶ worker (one per thread: epoll set, connections)
//!    │  gauges, slices ◀──────────   │ session: TCP, WebSocket, HELLO, SUBSCRIBE / REGISTER; or script, by a file
//!    ▼                               │ scenario_fanout | _rpc | _mixed (both, and _toggle) | _idle | _connect
//! report ─▶ table, outputs, html     └ stamp ─▶ reader ─▶ verify, latency, flow (window) or schedule (rate)
//!    ▲
//! sweep: a run for each value of an option
//! ```
//!
//! What it does not do: it never trusts the server under test. Every payload says who sent it, which one it is and when
//! it was meant to leave; the counts of the report come from these marks alone.
//!
//! Read first: [`run`], then [`worker`], then [`scenario_fanout`].

#![forbid(unsafe_code)]
#![allow(clippy::disallowed_methods, reason = "the generator is no shard: it reads the clock and may sleep")]

pub mod args;
pub mod compare;
pub mod connection;
pub mod expect;
pub mod failure;
pub mod familiar;
pub mod flow;
pub mod html;
pub mod latency;
pub mod limits;
pub mod machine;
pub mod meter;
pub mod outputs;
pub mod plan;
pub mod ports;
pub mod progress;
pub mod reader;
pub mod report;
pub mod run;
pub mod scenario;
pub mod scenario_connect;
pub mod scenario_fanout;
pub mod scenario_idle;
pub mod scenario_mixed;
pub mod scenario_probe;
pub mod scenario_rpc;
pub mod scenario_toggle;
pub mod schedule;
pub mod script;
pub mod server_stats;
pub mod session;
pub mod shared;
pub mod stamp;
pub mod sweep;
pub mod table;
pub mod target;
pub mod timeline;
pub mod topics;
pub mod units;
pub mod verify;
pub mod visits;
pub mod wire;
mod worker;
