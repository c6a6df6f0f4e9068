//! MessagePack as a router needs it: where does a value end, and is it well-formed? No tree is ever built.
//!
//! Declared lengths are never trusted: nothing is reserved from them, and one that promises more elements than there are
//! bytes left is refused on the spot. Strings must be UTF-8 (many decoders insist on it), the reserved byte `0xc1` is
//! refused, extension types pass through unread.
//!
//! Start with [`validate`]; `skip` is the grammar, `write` the way out.

mod skip;
mod write;

pub use skip::{DEPTH_MAX, validate};

pub(crate) use skip::{Head, read_head, skip_value};
pub(crate) use write::{
    write_binary_head, write_bool, write_dict_head, write_f64, write_i64, write_list_head, write_nil,
    write_string, write_string_head, write_u64,
};
