//! What `figures` and `compare` have in common: servers and load on CPUs of their own, and what they tell.

pub mod cpu;
pub mod load;
pub mod machine;
pub mod metrics;
pub mod priority;
pub mod router;
pub mod statistics;

/// CPU of the servers.
pub const SERVER_CPU: &str = "0";
/// CPU of the load generator.
pub const LOAD_CPU: &str = "1";
