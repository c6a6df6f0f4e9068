//! The protocol of Redis (RESP), versions 2 and 3, as far as its publish and subscribe need it; the server's side.
//!
//! ```text
//! bytes ─ read_command ─▶ words of a command          reply, push, error ─ write_* ─▶ bytes
//! ```
//!
//! Reading keeps no state: it is called again with what came before and more behind it. A command that is not complete is
//! walked by its lengths alone, so that costs nothing worth a state.
//!
//! What is not here: what commands mean, and the client's side. [`Glob`] is how Redis's patterns are compared.

mod glob;
mod read;
mod write;

pub use glob::{GLOB_BYTES_MAX, Glob, GlobTooLong};
pub use read::{CommandLimits, RespError, read_command};
pub use write::{
    Version, write_array_head, write_bulk, write_error, write_integer, write_map_head, write_message,
    write_null, write_pattern_message, write_push_head, write_simple, write_subscription,
};
