//! What backends send to clients: messages that say whom they are for, and where in a client's stream an order was done.
//!
//! An order leaves no trace of its own in what its client reads. So each one that is done is followed by a message that says
//! so, and the judges count it from there.

use super::history::{ClientId, Seen};
use fanwire_codec::ws::Kind;

/// Set in the numbers of requests that a backend made in the place of the client.
pub const ORDERED: u64 = 1 << 40;

/// What a client finds out about a message of a backend.
pub enum Word {
    Sent(Seen),
    /// The order that counts as this request of the client's was done before.
    Done(u64),
}

const BEGINNING: &str = r#"{"order":"#;

/// Some are binary.
pub fn kind(number: u64) -> Kind {
    if number.is_multiple_of(3) { Kind::Binary } else { Kind::Text }
}

pub fn message(to: ClientId, number: u32) -> String {
    format!(r#"{BEGINNING}"sent","to":{},"number":{number}}}"#, to.0)
}

pub fn done(to: ClientId, request: u64) -> String {
    format!(r#"{BEGINNING}"done","to":{},"number":{request}}}"#, to.0)
}

/// A message of a backend; `None` if it is none.
pub fn read(text: &str, kind_read: Kind) -> Option<Result<Word, String>> {
    let rest = text.strip_prefix(BEGINNING)?;
    let read = || {
        let (what, rest) = rest.split_once(r#","to":"#)?;
        let (to, number) = rest.split_once(r#","number":"#)?;
        let number: u64 = number.strip_suffix('}')?.parse().ok()?;
        let to = ClientId(to.parse().ok()?);
        let word = match what {
            r#""sent""# => Word::Sent(Seen::Sent { to, number: number.try_into().ok()? }),
            r#""done""# => Word::Done(number),
            _ => return None,
        };
        (kind(number) == kind_read).then_some(word)
    };
    Some(read().ok_or_else(|| format!("no backend has sent this, or not so: {text}")))
}
