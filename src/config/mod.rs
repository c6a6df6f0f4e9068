//! Configuration: what may be written, where it is read from, what is refused.
//!
//! ```text
//! defaults → preset → file (TOML) → environment (FANWIRE__A__B) → flags (--set a.b=v, --bind, …)
//! ```
//!
//! [`Sources::load`] gives a [`Config`] that may be started, or all that is wrong with it. Every [`Problem`](problem::Problem) names the place,
//! the key, the value and what is allowed. Nothing but this module reads the environment or the file; nothing here touches a
//! socket. Read [`schema`] first.

pub mod api;
pub mod bind;
pub mod center;
pub mod changes;
pub mod check;
pub mod describe;
pub mod echo;
pub mod hooks;
pub mod jwt;
pub mod load;
pub mod lua;
pub mod presets;
pub mod problem;
pub mod redis;
pub mod reference;
pub mod roles;
pub mod schema;
pub mod show;
pub mod tick;
mod tls;
pub mod topics;
pub mod units;
pub mod users;
pub mod wamp1;

pub use load::{Flag, Loaded, Sources};
pub use problem::Problems;
pub use schema::Config;

#[cfg(test)]
mod tests;
