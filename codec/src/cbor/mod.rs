//! CBOR (RFC 8949) as a router needs it: where does a value end, and is it well-formed? No tree is ever built.
//!
//! Declared lengths are never trusted: nothing is reserved from them, and one that promises more elements than there are
//! bytes left is refused on the spot. Definite and indefinite lengths are the same to us. Text must be UTF-8, each chunk
//! by itself (RFC 8949, 3.2.3). Tags and simple values without meaning pass through unread; a tag counts as a level of
//! nesting, because receivers recurse into it.
//!
//! Start with [`validate`]; `skip` is the grammar, `write` the way out.

mod skip;
mod write;

pub use skip::{DEPTH_MAX, validate};

pub(crate) use skip::{BREAK, Head, chunks, read_head, skip_value};
pub(crate) use write::{
    write_binary_head, write_bool, write_dict_head, write_f64, write_list_head, write_negative, write_null,
    write_string, write_u64,
};
