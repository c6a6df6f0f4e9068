//! Which room a connection is in, by the path that it asked for, and what its messages become.

use std::borrow::Cow;
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
    /// The parameters of the query that it asks for, in its order; `None`: it asks for no query.
    parameters: Option<Box<[Box<str>]>>,
    topic: Name,
}

impl RoomRule {
    /// A rule from its two sides: paths, maybe with captures, such as `/room/{room}` and `/chat?room={room}`, or `*` for all of
    /// them; and the topic that is the room, such as `room:{room}`. A path without a query is that whatever the query. Where there is
    /// one, other parameters and their order are of no account.
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
        let parameters = path.split_once('?').map(|(_, query)| query.split('&').map(name_of_parameter));
        let parameters: Option<Box<[Box<str>]>> =
            parameters.map(|parameters| parameters.map(Into::into).collect());
        if let Some(name) =
            parameters.iter().flatten().find(|name| name.is_empty() || name.contains(['{', '}']))
        {
            return Err((Side::Match, TemplateError::Parameter(name.to_string())));
        }
        Ok(Self { text: path.into(), pattern: (path != EVERY_PATH).then_some(pattern), parameters, topic })
    }

    fn find(&self, asked: &Asked) -> Option<String> {
        let Some(pattern) = &self.pattern else { return self.topic.fill(&Default::default(), |_| None).ok() };
        let said = match &self.parameters {
            None => Cow::Borrowed(asked.path.as_deref()?),
            Some(parameters) => Cow::Owned(asked.with(parameters)?),
        };
        self.topic.fill(&pattern.find(&said)?, |_| None).ok()
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
        self.topic_of(&Asked::read(target))
    }

    /// Paths that lead to a room, as they are configured.
    pub fn paths(&self) -> impl Iterator<Item = &str> {
        self.rooms.iter().map(|room| &*room.text)
    }

    /// The same, with what its client is called.
    pub(crate) fn place(&self, target: &str) -> Option<Place> {
        let asked = Asked::read(target);
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
    /// `None`: it is not UTF-8 behind its percent signs.
    path: Option<String>,
    /// Those of the query that are. One with `&` in it could be mistaken for two, and fits nowhere.
    parameters: Vec<String>,
    /// What the client wants to be called, if that is a name.
    name: Option<String>,
}

impl Asked {
    fn read(target: &str) -> Self {
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        let parameters = query.split('&').filter_map(|parameter| decode(&parameter.replace('+', " ")));
        let parameters: Vec<String> = parameters.filter(|parameter| !parameter.contains('&')).collect();
        let said =
            parameters.iter().filter_map(|parameter| parameter.strip_prefix(NAME_PARAMETER)).next_back();
        let name = said.filter(|said| is_name(said)).map(str::to_owned);
        Self { path: decode(path), parameters, name }
    }

    /// The path with these parameters of the query; `None`: one of them is not there.
    fn with(&self, parameters: &[Box<str>]) -> Option<String> {
        let mut said = self.path.clone().filter(|path| !path.contains('?'))?;
        for (index, name) in parameters.iter().enumerate() {
            said.push(if index == 0 { '?' } else { '&' });
            said += self.parameters.iter().find(|parameter| name_of_parameter(parameter) == &**name)?;
        }
        Some(said)
    }
}

fn name_of_parameter(parameter: &str) -> &str {
    parameter.split_once('=').map_or(parameter, |(name, _)| name)
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
    parts: Box<[Part]>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    Text(Box<str>),
    Name,
    Payload,
}

const PAYLOAD: &str = "{payload}";
const NAME: &str = "{name}";

impl MessageTemplate {
    /// Reads it; `None`: `{payload}` is not there, or there twice.
    pub fn parse(text: &str) -> Option<Self> {
        let (before, behind) = text.split_once(PAYLOAD)?;
        if behind.contains(PAYLOAD) {
            return None;
        }
        let mut parts = Vec::new();
        for (side, end) in [(before, Some(Part::Payload)), (behind, None)] {
            for (index, text) in side.split(NAME).enumerate() {
                parts.extend((index > 0).then_some(Part::Name));
                parts.extend((!text.is_empty()).then(|| Part::Text(text.into())));
            }
            parts.extend(end);
        }
        Some(Self { parts: parts.into() })
    }

    /// Appends the arguments of the publication, in MessagePack: a string of text, binary of binary.
    pub(super) fn write(&self, name: &str, is_binary: bool, payload: &[u8], out: &mut BytesMut) {
        let parts = self.parts.iter().map(|part| match part {
            Part::Text(text) => text.as_bytes(),
            Part::Name => name.as_bytes(),
            Part::Payload => payload,
        });
        write_packed_plain(out, is_binary, parts);
    }
}

impl Default for MessageTemplate {
    /// The message as it is.
    fn default() -> Self {
        Self { parts: [Part::Payload].into() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rooms(rules: &[(&str, &str)]) -> EchoRooms {
        let rule = |(path, topic): &(&str, &str)| RoomRule::new(path, topic).expect("a rule");
        EchoRooms { rooms: rules.iter().map(rule).collect(), ..EchoRooms::default() }
    }

    fn rooms_of_two() -> EchoRooms {
        rooms(&[("/?a={a}&b={b}", "{a}.{b}")])
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
            ("/chat?room=7&x=1", Some("chat:7")),
            ("/chat?x=100%&room=7", Some("chat:7")),
            ("/chat?roomy=8&room=7&room=9", Some("chat:7")),
            ("/chat?room=a%26b", None),
            ("/chat?room", None),
            ("/chat%3Froom=7?room=8", None),
            ("/other", None),
        ] {
            assert_eq!(rooms.topic(target).as_deref(), topic, "{target}");
        }
        for target in ["/any/path?x=1", "/caf%E9", "/?q=100%", "/?name=%"] {
            assert_eq!(EchoRooms::default().topic(target).as_deref(), Some("echo"), "{target}");
        }
        let two = rooms_of_two();
        assert_eq!(two.topic("/?b=2&a=1&c=3").as_deref(), Some("1.2"), "in any order");
        assert_eq!((two.topic("/?a=1"), two.topic("/?a=1%26b=2")), (None, None));
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
            ("/?{a}=1", "{a}", Side::Match),
            ("/chat?", "a", Side::Match),
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
        assert_eq!(
            said("{name}{name}{payload}{name}", false, b"{name}"),
            b"\x91\xb8\xe5\x8c\xbf\xe5\x90\x8d\xe5\x8c\xbf\xe5\x90\x8d{name}\xe5\x8c\xbf\xe5\x90\x8d"
        );
        assert_eq!(said("{payload}", false, b""), b"\x91\xa0");
        assert!(MessageTemplate::parse("none").is_none());
        assert!(MessageTemplate::parse("{payload}{payload}").is_none());
    }
}
