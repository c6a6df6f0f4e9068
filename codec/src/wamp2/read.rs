//! What the decoder needs from a serializer: a cursor over one message.

use std::borrow::Cow;

use crate::malformed::Malformed;

/// The type of the value that comes next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Null, nil or *undefined*.
    Absent,
    Bool,
    Number,
    String,
    List,
    Dict,
    /// Binary, an extension or a tag: nothing that an envelope has.
    Other,
}

/// Position inside a list or dictionary; meaning is the serializer's.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Items(pub u32);

/// A cursor over the bytes of one message. Except [`kind`](Reader::kind) and [`skip`](Reader::skip), a method is called
/// only after `kind` has said that its type comes next.
pub(crate) trait Reader<'a> {
    /// What comes next.
    fn kind(&mut self) -> Result<Kind, Malformed>;

    /// Enters a list.
    fn list(&mut self) -> Result<Items, Malformed>;
    /// Moves to the next element; false: there is none, and the list is left.
    fn next_element(&mut self, items: &mut Items) -> Result<bool, Malformed>;

    /// Enters a dictionary.
    fn dict(&mut self) -> Result<Items, Malformed>;
    /// Moves to the value of the next pair; `None`: there is none, and the dictionary is left. The outer error is a
    /// breach of the grammar; a key that is no string is reported as one.
    fn next_key(&mut self, items: &mut Items) -> Result<Option<Cow<'a, str>>, Malformed>;

    /// Reads a boolean.
    fn bool(&mut self) -> Result<bool, Malformed>;
    /// Reads a number; `None` if it is not a non-negative integer up to 2^53. Integral floats are integers.
    fn integer(&mut self) -> Result<Option<u64>, Malformed>;
    /// Reads a string, borrowed unless it has escapes.
    fn string(&mut self) -> Result<Cow<'a, str>, Malformed>;

    /// Validates any value and returns its bytes.
    fn skip(&mut self) -> Result<&'a [u8], Malformed>;
    /// Checks that nothing follows.
    fn finish(&mut self) -> Result<(), Malformed>;

    /// Where the cursor is; [`rewind`](Reader::rewind) goes back to it.
    fn position(&self) -> usize;
    /// Goes back to a position.
    fn rewind(&mut self, position: usize);
}

/// The integer that a double stands for.
pub(super) fn integral(value: f64) -> Option<u64> {
    let in_range = (0.0..=super::ID_MAX as f64).contains(&value);
    (in_range && value.fract() == 0.0).then_some(value as u64)
}
