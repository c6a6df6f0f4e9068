//! A message's bytes to what it says.

use std::borrow::Cow;

use super::error::{DecodeError, Refused, Violation};
use super::{Message, code};
use crate::json;
use crate::malformed::Malformed;
use crate::wamp2::{Items, JsonReader, Kind, RECEIVERS_MAX, Reader, ReceiverLists};

/// Reads one message.
///
///     use fanwire_codec::wamp1::{Message, decode};
///     let call = decode(br#"[2, "7DK6TdN4", "calc:sum", [9, 1], 3]"#);
///     let args = &b"[9, 1], 3"[..];
///     assert_eq!(call, Ok(Message::Call { call_id: "7DK6TdN4".into(), procedure: "calc:sum".into(), args }));
///
/// # Errors
///
/// What breaks the protocol, and what can be refused alone.
pub fn decode(bytes: &[u8]) -> Result<Message<'_>, DecodeError<'_>> {
    // Arguments and events are put into a list, which is one level more.
    let mut elements = Elements {
        reader: JsonReader::new(bytes, json::DEPTH_MAX - 1),
        items: Items(0),
        of: 0,
        ended: false,
    };
    let message = elements.message(bytes)?;
    elements.end()?;
    Ok(message)
}

/// The first of a call's arguments, a list in JSON that was validated, where it is a text or nothing; `Err`: it is something else.
///
///     use fanwire_codec::wamp1::first_text;
///     assert_eq!(first_text(br#"["joe", {}]"#), Ok(Some("joe".into())));
///     assert_eq!((first_text(b"[]"), first_text(b"[null]")), (Ok(None), Ok(None)));
///     assert!(first_text(b"[7]").is_err());
///
/// # Errors
///
/// The words for whoever has called.
pub fn first_text(list: &[u8]) -> Result<Option<Cow<'_, str>>, &'static str> {
    let wrong = "the first argument is neither a string nor null";
    let mut reader = JsonReader::new(list, json::DEPTH_MAX);
    let read = |reader: &mut JsonReader<'_>| -> Result<Option<Kind>, Malformed> {
        let mut items = reader.list()?;
        if reader.next_element(&mut items)? { reader.kind().map(Some) } else { Ok(None) }
    };
    match read(&mut reader).map_err(|_| wrong)? {
        None | Some(Kind::Absent) => Ok(None),
        Some(Kind::String) => reader.string().map(Some).map_err(|_| wrong),
        Some(_) => Err(wrong),
    }
}

/// The elements of one message, taken from left to right.
struct Elements<'a> {
    reader: JsonReader<'a>,
    items: Items,
    /// The message's type.
    of: u64,
    /// The end of the list was met; it must not be asked for more.
    ended: bool,
}

impl<'a> Elements<'a> {
    fn message(&mut self, bytes: &'a [u8]) -> Result<Message<'a>, DecodeError<'a>> {
        if self.reader.kind()? != Kind::List {
            return Err(Violation::NoArray.into());
        }
        self.items = self.reader.list()?;
        if self.next()? != Some(Kind::Number) {
            return Err(Violation::NoType.into());
        }
        self.of = self.reader.integer()?.ok_or(Violation::NoType)?;
        match self.of {
            code::PREFIX => Ok(Message::Prefix { prefix: self.string("prefix")?, uri: self.string("URI")? }),
            code::CALL => {
                let call_id = self.string("callID")?;
                let procedure = self.string("procURI")?;
                match self.args(bytes) {
                    Ok(args) => Ok(Message::Call { call_id, procedure, args }),
                    Err(malformed) => Err(refuse(malformed, Some(call_id))),
                }
            }
            code::SUBSCRIBE => Ok(Message::Subscribe { topic: self.string("topicURI")? }),
            code::UNSUBSCRIBE => Ok(Message::Unsubscribe { topic: self.string("topicURI")? }),
            code::PUBLISH => self.publish(),
            code @ (code::WELCOME | code::CALLRESULT | code::CALLERROR | code::EVENT) => {
                Err(Violation::OfServers(code).into())
            }
            code => Err(Violation::UnknownType(code).into()),
        }
    }

    fn publish(&mut self) -> Result<Message<'a>, DecodeError<'a>> {
        let topic = self.string("topicURI")?;
        self.next()?.ok_or(self.missing("event"))?;
        let event = self.reader.skip().map_err(|malformed| refuse(malformed, None))?;
        // One more than it may have: none is left where there are too many.
        let mut room = RECEIVERS_MAX + 1;
        let (mut exclude_me, mut exclude) = (true, None);
        match self.next()? {
            None => {}
            // It counts as not there.
            Some(Kind::Absent) => _ = self.reader.skip()?,
            Some(Kind::Bool) => {
                exclude_me = self.reader.bool()?;
                return self.published(topic, event, exclude_me, None);
            }
            // Exactly those are excluded that are listed.
            Some(Kind::List) => (exclude_me, exclude) = (false, Some(self.sessions("exclude", &mut room)?)),
            Some(_) => {
                return Err(self.wrong("excludeMe", "true, false, or a list of session ids").into());
            }
        }
        let eligible = match self.next()? {
            None => None,
            Some(Kind::Absent) => self.reader.skip().map(|_| None)?,
            Some(Kind::List) => Some(self.sessions("eligible", &mut room)?),
            Some(_) => return Err(self.wrong("eligible", LIST).into()),
        };
        if room == 0 {
            return Err(DecodeError::Request { call_id: None, why: Refused::TooManyReceivers });
        }
        let is_listed = exclude.is_some() || eligible.is_some();
        let lists = ReceiverLists { exclude, eligible, ..ReceiverLists::default() };
        self.published(topic, event, exclude_me, is_listed.then(|| Box::new(lists)))
    }

    fn published(
        &mut self,
        topic: Cow<'a, str>,
        event: &'a [u8],
        exclude_me: bool,
        receivers: Option<Box<ReceiverLists<'static>>>,
    ) -> Result<Message<'a>, DecodeError<'a>> {
        if self.next()?.is_some() {
            return Err(Violation::TooLong.into());
        }
        Ok(Message::Publish { topic, event, exclude_me, receivers })
    }

    /// The ids of a list that can be ids of ours; others are nobody's.
    fn sessions(&mut self, element: &'static str, room: &mut usize) -> Result<Vec<u64>, Violation> {
        let mut sessions = Vec::new();
        let mut items = self.reader.list()?;
        while self.reader.next_element(&mut items)? {
            if self.reader.kind()? != Kind::String {
                return Err(self.wrong(element, LIST));
            }
            let id = self.reader.string()?;
            *room = room.saturating_sub(1);
            if *room > 0 {
                sessions.extend(session_id(&id));
            }
        }
        Ok(sessions)
    }

    /// All that follows, as it is written.
    fn args(&mut self, bytes: &'a [u8]) -> Result<&'a [u8], Malformed> {
        let mut written = 0..0;
        while self.next()?.is_some() {
            if written.is_empty() {
                written.start = self.reader.position();
            }
            self.reader.skip()?;
            written.end = self.reader.position();
        }
        Ok(&bytes[written])
    }

    fn string(&mut self, element: &'static str) -> Result<Cow<'a, str>, Violation> {
        match self.next()? {
            Some(Kind::String) => Ok(self.reader.string()?),
            Some(_) => Err(self.wrong(element, "a string")),
            None => Err(self.missing(element)),
        }
    }

    /// Moves to the next element, if there is one.
    fn next(&mut self) -> Result<Option<Kind>, Malformed> {
        if self.ended || !self.reader.next_element(&mut self.items)? {
            self.ended = true;
            return Ok(None);
        }
        self.reader.kind().map(Some)
    }

    /// Reads what nobody asks for, to know that it is JSON too.
    fn end(&mut self) -> Result<(), Violation> {
        while self.next()?.is_some() {
            self.reader.skip()?;
        }
        Ok(self.reader.finish()?)
    }

    #[cold]
    fn missing(&self, element: &'static str) -> Violation {
        Violation::Missing { of: self.of, element }
    }

    #[cold]
    fn wrong(&self, element: &'static str, expected: &'static str) -> Violation {
        Violation::Wrong { of: self.of, element, expected }
    }
}

const LIST: &str = "a list of session ids, which are strings";

/// What is wrong in something that is only passed on.
#[cold]
fn refuse(malformed: Malformed, call_id: Option<Cow<'_, str>>) -> DecodeError<'_> {
    if malformed.is_only_unportable() {
        return DecodeError::Request { call_id, why: Refused::Unportable(malformed) };
    }
    malformed.into()
}

/// The number that a session id of WELCOME stands for.
fn session_id(text: &str) -> Option<u64> {
    text.parse().ok().filter(|id: &u64| id.to_string() == text)
}
