//! What a message means: realms, sessions, broker, dealer, the directory of topics and procedures, and the event
//! streams that carry publications to their subscribers.
//!
//! The crate is sans-IO. There is no socket, thread, clock, environment or global randomness in it: messages and the
//! time go in, effects and bytes for outlets come out. One [`Shard`] is the whole state of one core's connections;
//! shards share nothing but the [`directory`] and the ring items that one hands to another.
//!
//! Read first: [`Shard`] for the driving contract, [`delivery`] for how bytes reach connections in order.
#![forbid(unsafe_code)]

pub mod access;
pub mod api;
pub mod clock;
pub mod config;
pub mod counters;
pub mod delivery;
pub mod directory;
pub mod echo;
pub mod encoding;
mod ending;
pub mod handled;
mod history;
pub mod hooks;
pub mod ids;
pub mod inner;
pub mod login;
pub mod message_center;
pub mod meta;
pub mod question;
pub mod topics;
pub mod uri;
pub mod wamp1;

mod announced;
mod broker;
mod cookies;
mod dealer;
mod invocations;
mod lanes;
mod late;
#[cfg(feature = "mutations")]
pub mod mutation;
#[cfg(not(feature = "mutations"))]
mod mutation;
mod parcel;
mod protocol;
mod receivers;
mod renewal;
mod retained;
mod rules;
mod session;
mod shard;
mod subscription;
mod template;
mod wamp2;

pub use api::Readiness;
pub use clock::Instant;
pub use config::{Compression, CoreConfig, Limits};
pub use counters::{Arrival, Counters, DropReason, LoginOutcome};
pub use delivery::{FlushBudget, Outlet, Sent, Wire};
pub use encoding::Encoding;
pub use lanes::{RingItem, RingSpace};
pub use session::ANONYMOUS_AUTHID_PREFIX;
pub use shard::{Effect, Flow, Shard};
