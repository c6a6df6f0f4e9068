//! What `figures` and `compare` have in common: servers and load on CPUs of their own, what they tell, and pages whose
//! tables are written by a command.

pub mod cpu;
pub mod load;
pub mod machine;
pub mod metrics;
pub mod page;
pub mod router;
pub mod statistics;

/// CPU of the servers.
pub const SERVER_CPU: &str = "0";
/// CPU of the load generator.
pub const LOAD_CPU: &str = "1";
