//! JSON (RFC 8259) as a router needs it: where does a value end, and is it well-formed? No tree is ever built.
//!
//! A payload is validated once, when it comes in, and then forwarded byte for byte; so the validator is as strict as the
//! strictest parser that may receive it. Beyond the grammar it refuses what common parsers refuse: strings that are not
//! UTF-8, lone surrogates (`"\ud800"`), and numbers too large for a finite double (`1e400`).
//!
//! Start with [`validate`]; `skip` is the grammar, `text` the inside of strings, `write` the way out.

mod find;
mod skip;
mod text;
mod write;

pub use skip::{DEPTH_MAX, validate};

pub(crate) use skip::{skip_number, skip_value, skip_whitespace};
pub(crate) use text::{plain_string, scan_string, skip_string, unescape};
pub(crate) use write::{write_base64, write_f64, write_i64, write_next_u64};
pub use write::{write_string, write_u64};
