//! Which room a connection is in, by the path that it asked for, and what its messages become.

use std::sync::Arc;

use bytes::BytesMut;
use fanwire_codec::payload::write_packed_plain;

use crate::ids::RealmId;
use crate::template::{Name, Pattern, Side, TemplateError};
use crate::uri::{self, UriRule};

/// The echo rooms of a router, as configured.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EchoRooms {
    /// Where their clients' sessions are.
    pub realm: RealmId,
    /// Whether who says something hears it too.
    pub include_sender: bool,
    /// What clients are called that say no name.
    pub default_name: Arc<str>,
    /// What a message becomes.
    pub template: MessageTemplate,
    /// Of several that fit, the first one decides.
    pub rooms: Vec<RoomRule>,
}

impl Default for EchoRooms {
    /// One room for all, `echo`.
    fn default() -> Self {
        Self {
            realm: RealmId::new(0),
            include_sender: true,
            default_name: "anonymous".into(),
            template: MessageTemplate::default(),
            rooms: vec![RoomRule::new("*", "echo").expect("a topic for every path")],
        }
    }
}

/// Which paths lead to which room.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RoomRule {
    /// As it was written.
    text: Box<str>,
    /// `None`: every path.
    pattern: Option<Pattern>,
    topic: Name,
}

impl RoomRule {
    /// A rule from its two sides: paths, maybe with captures, such as `/room/{room}` and `/chat?room={room}`, or `*` for all of
    /// them; and the topic that is the room, such as `room:{room}`. A path without a query is that whatever the query.
    ///
    /// # Errors
    ///
    /// What is wrong, and on which side.
    pub fn new(path: &str, topic: &str) -> Result<Self, (Side, TemplateError)> {
        let pattern = Pattern::parse(path).map_err(|why| (Side::Match, why))?;
        let topic = Name::parse(topic, &pattern).map_err(|why| (Side::Channel, why))?;
        if let Some(key) = topic.context().next() {
            return Err((Side::Channel, TemplateError::NoContext(key.to_owned())));
        }
        Ok(Self { text: path.into(), pattern: (path != EVERY_PATH).then_some(pattern), topic })
    }

    fn find(&self, asked: &Asked) -> Option<String> {
        let captures = match &self.pattern {
            None => Default::default(),
            Some(pattern) if self.text.contains('?') => pattern.find(&asked.with_query)?,
            Some(pattern) => pattern.find(&asked.path)?,
        };
        self.topic.fill(&captures, |_| None).ok()
    }
}

/// In the place of a path: all of them.
const EVERY_PATH: &str = "*";

/// Who enters where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    /// The room.
    pub(crate) topic: Arc<str>,
    /// What the client is called.
    pub(crate) name: Arc<str>,
}

impl EchoRooms {
    /// The topic to which a request's path and query lead.
    pub fn topic(&self, target: &str) -> Option<String> {
        self.topic_of(&Asked::read(target)?)
    }

    /// Paths that lead to a room, as they are configured.
    pub fn paths(&self) -> impl Iterator<Item = &str> {
        self.rooms.iter().map(|room| &*room.text)
    }

    /// The same, with what its client is called.
    pub(crate) fn place(&self, target: &str) -> Option<Place> {
        let asked = Asked::read(target)?;
        let topic = self.topic_of(&asked)?.into();
        let name = asked.name.as_deref().map_or_else(|| Arc::clone(&self.default_name), Arc::from);
        Some(Place { topic, name })
    }

    fn topic_of(&self, asked: &Asked) -> Option<String> {
        let topic = self.rooms.iter().find_map(|room| room.find(asked))?;
        // What was filled in may make it too long, or the router's own.
        let is_sound = uri::check_topic(&topic, UriRule::Loose).is_ok() && !uri::is_reserved(&topic);
        is_sound.then_some(topic)
    }
}

/// The path and query of a request, decoded.
struct Asked {
    path: String,
    /// With what follows the question mark, less what is called.
    with_query: String,
    /// What the client wants to be called, if that is a name.
    name: Option<String>,
}

impl Asked {
    /// `None`: it is not UTF-8 behind its percent signs.
    fn read(target: &str) -> Option<Self> {
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        let path = decode(path)?;
        let mut with_query = format!("{path}?");
        let mut name = None;
        for parameter in query.split('&').filter(|parameter| !parameter.is_empty()) {
            let parameter = decode(&parameter.replace('+', " "))?;
            match parameter.strip_prefix(NAME_PARAMETER) {
                Some(said) => name = Some(said.to_owned()).filter(|said| is_name(said)),
                None => {
                    if !with_query.ends_with('?') {
                        with_query.push('&');
                    }
                    with_query.push_str(&parameter);
                }
            }
        }
        Some(Self { path, with_query, name })
    }
}

/// In the query: what the client wants to be called.
const NAME_PARAMETER: &str = "name=";
/// Characters of a client's name.
const NAME_CHARACTERS_MAX: usize = 64;

fn is_name(said: &str) -> bool {
    (1..=NAME_CHARACTERS_MAX).contains(&said.chars().count()) && !said.chars().any(is_unseen)
}

/// Controls, and what changes how a line looks without being seen: format characters, line and paragraph separators.
fn is_unseen(character: char) -> bool {
    const FORMATS: [std::ops::RangeInclusive<char>; 4] =
        ['\u{200b}'..='\u{200f}', '\u{2028}'..='\u{202e}', '\u{2060}'..='\u{206f}', '\u{feff}'..='\u{feff}'];
    character.is_control() || FORMATS.iter().any(|range| range.contains(&character))
}

/// RFC 3986, 2.1: `%` and two hexadecimal digits are one byte.
fn decode(text: &str) -> Option<String> {
    let mut pieces = text.split('%');
    let mut bytes = pieces.next()?.as_bytes().to_vec();
    for piece in pieces {
        let digits = piece.get(..2).filter(|digits| digits.bytes().all(|digit| digit.is_ascii_hexdigit()))?;
        bytes.push(u8::from_str_radix(digits, 16).ok()?);
        bytes.extend_from_slice(&piece.as_bytes()[2..]);
    }
    String::from_utf8(bytes).ok()
}

/// What a message becomes: text with `{payload}` once, and maybe `{name}`, what its sender is called. All else stands for itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MessageTemplate {
    before: Box<str>,
    behind: Box<str>,
}

const PAYLOAD: &str = "{payload}";
const NAME: &str = "{name}";

impl MessageTemplate {
    /// Reads it; `None`: `{payload}` is not there, or there twice.
    pub fn parse(text: &str) -> Option<Self> {
        let (before, behind) = text.split_once(PAYLOAD)?;
        (!behind.contains(PAYLOAD)).then(|| Self { before: before.into(), behind: behind.into() })
    }

    /// Appends the arguments of the publication, in MessagePack: a string of text, binary of binary.
    pub(super) fn write(&self, name: &str, is_binary: bool, payload: &[u8], out: &mut BytesMut) {
        if !self.before.contains(NAME) && !self.behind.contains(NAME) {
            return write_packed_plain(
                out,
                is_binary,
                &[self.before.as_bytes(), payload, self.behind.as_bytes()],
            );
        }
        let [before, behind] = [&self.before, &self.behind].map(|text| text.replace(NAME, name));
        write_packed_plain(out, is_binary, &[before.as_bytes(), payload, behind.as_bytes()]);
    }
}

impl Default for MessageTemplate {
    /// The message as it is.
    fn default() -> Self {
        Self { before: "".into(), behind: "".into() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rooms(rules: &[(&str, &str)]) -> EchoRooms {
        let rule = |(path, topic): &(&str, &str)| RoomRule::new(path, topic).expect("a rule");
        EchoRooms { rooms: rules.iter().map(rule).collect(), ..EchoRooms::default() }
    }

    #[test]
    fn the_path_says_the_room() {
        let rooms =
            rooms(&[("/room/{room}", "room:{room}"), ("/chat?room={room}", "chat:{room}"), ("/", "all")]);
        for (target, topic) in [
            ("/room/1", Some("room:1")),
            ("/room/1?x=1", Some("room:1")),
            ("/room/%E7%9B%B4", Some("room:直")),
            ("/chat?room=7", Some("chat:7")),
            ("/chat?name=Ann&room=7", Some("chat:7")),
            ("/", Some("all")),
            ("/?x=1", Some("all")),
            ("/room/", None),
            ("/room/a%20b", None),
            ("/room/%ff", None),
            ("/room/%4", None),
            ("/room/%+1", None),
            ("/chat", None),
            ("/chat?room=7&x=1", Some("chat:7&x=1")),
            ("/other", None),
        ] {
            assert_eq!(rooms.topic(target).as_deref(), topic, "{target}");
        }
        assert_eq!(EchoRooms::default().topic("/any/path?x=1").as_deref(), Some("echo"));
        let odd = super::tests::rooms(&[("/{room}", "{room}")]);
        assert_eq!(
            (odd.topic("/wamp.x"), odd.topic("/fanwire.gap"), odd.topic("/a.b")),
            (None, None, Some("a.b".into()))
        );
    }

    #[test]
    fn mistakes_are_refused_with_their_side() {
        for (path, topic, side) in [
            ("/{", "a", Side::Match),
            ("/{room}", "a", Side::Channel),
            ("/", "a..b", Side::Channel),
            ("/", "wamp.a", Side::Channel),
            ("/", "user:{ctx.uid}", Side::Channel),
            ("*", "{room}", Side::Channel),
        ] {
            assert_eq!(RoomRule::new(path, topic).expect_err(path).0, side, "{path} {topic}");
        }
    }

    #[test]
    fn a_client_says_what_it_is_called() {
        let rooms = rooms(&[("*", "a")]);
        let long = format!("/?name={}", "x".repeat(65));
        for (target, name) in [
            ("/", "anonymous"),
            ("/?name=Ann", "Ann"),
            ("/?x=1&name=Ann+B", "Ann B"),
            ("/?name=%E7%9B%B4", "直"),
            ("/?name=", "anonymous"),
            ("/?name=a%0Ab", "anonymous"),
            (&long, "anonymous"),
        ] {
            assert_eq!(&*rooms.place(target).expect("a room").name, name, "{target}");
        }
    }

    #[test]
    fn a_template_is_filled_in_once() {
        let said = |template: &str, is_binary, payload: &[u8]| {
            let mut out = BytesMut::new();
            MessageTemplate::parse(template).expect(template).write("匿名", is_binary, payload, &mut out);
            out.to_vec()
        };
        assert_eq!(said("RECEIVED: {payload}", false, b"{payload}"), b"\x91\xb3RECEIVED: {payload}");
        assert_eq!(said("RECEIVED: {payload}", true, b"\0\x01b"), b"\x91\xc4\x0dRECEIVED: \0\x01b");
        assert_eq!(said("{name}: {payload}!", false, b"a"), [b"\x91\xaa", "匿名: a!".as_bytes()].concat());
        assert_eq!(said("{payload}", false, b""), b"\x91\xa0");
        assert!(MessageTemplate::parse("none").is_none());
        assert!(MessageTemplate::parse("{payload}{payload}").is_none());
    }
}
