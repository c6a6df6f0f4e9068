//! When bytes move: shards, sockets, timers, rings.
//!
//! ```text
//! control thread ──orders──▶ mailbox ┐                        ┌▶ socket
//!                                    ▼                        │
//! socket ─▶ epoll set ─▶ recv ─▶ codec ─▶ Service ─▶ flush ───┴▶ socket
//!                                    ▲      │
//!                 ring of each other shard  └─▶ ring to each other shard
//! ```
//!
//! [`start`] runs one thread per shard; each is pinned to a CPU, owns its connections for life and drives one
//! [`Service`], which says what messages mean. The crate holds no routing rule, and nothing outside it knows the
//! runtime underneath: one task per shard waits for the shard's own epoll set, on io_uring or on epoll, and everything
//! else is direct non-blocking system calls (the module `shard` has the loop).
//!
//! What is not here: other transports than WebSocket, RawSocket and HTTP long-polling; tasks, buffers or timers per connection.
//!
//! Read first: [`Service`], [`Config`], [`start`], then the module `shard`.

// The tests' service names the crate as its users do.
#[cfg(all(test, not(loom)))]
extern crate self as fanwire_io;

#[cfg(not(loom))]
mod addresses;
#[cfg(not(loom))]
mod affinity;
#[cfg(not(loom))]
pub mod cgroup;
#[cfg(not(loom))]
mod clock;
#[cfg(not(loom))]
mod config;
#[cfg(not(loom))]
mod cookies;
#[cfg(not(loom))]
pub mod counters;
#[cfg_attr(loom, allow(dead_code, reason = "the model uses a part of it"))]
mod doorbell;
#[cfg(not(loom))]
mod endpoints;
#[cfg(not(loom))]
mod engine;
#[cfg(not(loom))]
mod handover;
#[cfg(not(loom))]
mod listen;
#[cfg_attr(loom, allow(dead_code, reason = "the model uses a part of it"))]
mod loads;
#[cfg(not(loom))]
mod park;
#[cfg(not(loom))]
mod posts;
#[cfg(not(loom))]
mod pressure;
#[cfg(not(loom))]
mod rate;
#[cfg(not(loom))]
mod request;
#[cfg_attr(loom, allow(dead_code, reason = "the model uses a part of it"))]
mod ring;
#[cfg(not(loom))]
mod router;
#[cfg(not(loom))]
mod service;
#[cfg(not(loom))]
mod shard;
#[cfg(not(loom))]
mod slots;
#[cfg(not(loom))]
mod socket;
#[cfg(not(loom))]
mod socket_file;
#[cfg(not(loom))]
mod start;
mod sync;
#[cfg(not(loom))]
mod tcp_info;
#[cfg(not(loom))]
mod timers;
#[cfg(not(loom))]
pub mod tls;
#[cfg(not(loom))]
mod transport;

#[cfg(not(loom))]
pub use affinity::Machine;
#[cfg(not(loom))]
pub use clock::{now, random_source, wall_clock};
#[cfg(not(loom))]
pub use config::{
    Config, Deadlines, Driver, Endpoint, EndpointId, ListenAddress, Listener, ListenerTls, Origins,
    SHARDS_MAX, TurnBudget,
};
#[cfg(not(loom))]
pub use cookies::{CookieCase, CookieRule, SameSite};
#[cfg(not(loom))]
pub use counters::{Metric, ShardCounters};
#[cfg(not(loom))]
pub use endpoints::{WAMP_RULES_MAX, WampEndpoints, WampRules};
#[cfg(not(loom))]
pub use engine::{DriverReport, Rung};
#[cfg(not(loom))]
pub use handover::HandedOver;
#[cfg(not(loom))]
pub use pressure::Level;
#[cfg(not(loom))]
pub use rate::Rate;
#[cfg(not(loom))]
pub use request::is_loopback_authority;
// For the benchmarks.
#[cfg(not(loom))]
#[doc(hidden)]
pub use ring::Ring;
#[cfg(not(loom))]
pub use router::{HandOver, Router, SubmitQuestion};
#[cfg(not(loom))]
pub use service::{Effect, Flow, Polling, Service};
#[cfg(not(loom))]
pub use start::{RenewalError, Running, ShardReport, StartError, start};
