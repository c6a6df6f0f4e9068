//! Echo rooms as the modelled clients know them: a path, what they say, and what they hear.
//!
//! A room is the topic of its name in the first realm. What is heard names neither subscription nor publication; which it
//! is follows from the tag, and is told to the judges so.

use super::{
    center,
    history::{ClientId, Heard, NOT_TOLD, Seen, Tag},
    names,
    orders::{self, Word},
    rng::Rng,
    speech,
};
use fanwire_codec::ws::Kind;
use fanwire_core::{
    echo::{EchoRooms, MessageTemplate, RoomRule},
    ids::RealmId,
};

/// What the seed decides of the rooms.
#[derive(Clone, Copy, Debug)]
pub struct Rooms {
    /// Who says something hears it too.
    pub includes_sender: bool,
    /// What is said comes with its sender's name before it.
    pub named: bool,
}

/// Everybody's request for its room, as judges and hooks count it.
pub const ROOM_REQUEST: u64 = 1;

impl Rooms {
    pub fn new(rng: &mut Rng) -> Self {
        Self { includes_sender: rng.chance(50), named: rng.chance(50) }
    }

    /// As a router has them.
    pub fn configured(&self, realm: RealmId) -> EchoRooms {
        let rule = |(path, topic): (&str, &str)| RoomRule::new(path, topic).expect("a rule");
        let everywhere = names::uri(0);
        let rules = [("/room/{room}", "{room}"), ("/chat?room={room}", "{room}"), ("*", &everywhere)];
        let template = if self.named { "[{name}] {payload}" } else { "{payload}" };
        EchoRooms {
            realm,
            include_sender: self.includes_sender,
            default_name: name(NAMELESS).into(),
            template: MessageTemplate::parse(template).expect("a template"),
            rooms: rules.map(rule).into(),
        }
    }
}

/// A source, which is in no room: who says no name is called like it.
const NAMELESS: ClientId = ClientId(0);

fn name(client: ClientId) -> String {
    format!("n{}", client.0)
}

fn says_a_name(client: ClientId) -> bool {
    !client.0.is_multiple_of(3)
}

/// Whose name stands before what this client says.
pub fn named(client: ClientId) -> ClientId {
    if says_a_name(client) { client } else { NAMELESS }
}

/// The path and query by which a client enters the room.
pub fn target(client: ClientId, room: u8) -> String {
    let name = if says_a_name(client) { format!("name={}", name(client)) } else { String::new() };
    let uri = names::uri(room);
    match client.0 % 4 {
        0 => format!("/chat?{name}&room={uri}"),
        1 => format!("/chat?room={uri}&{name}"),
        2 if room == 0 => format!("/elsewhere?{name}"),
        _ => format!("/room/{uri}?{name}"),
    }
}

/// Some of what is said is binary.
pub fn is_binary(tag: &Tag) -> bool {
    tag.number.is_multiple_of(3)
}

pub fn say(tag: &Tag, padding: usize) -> (Kind, Vec<u8>) {
    let kind = if is_binary(tag) { Kind::Binary } else { Kind::Text };
    (kind, speech::tagged(tag, padding).into_bytes())
}

/// A publication without arguments, as a receiver of plain bytes has it.
const NOTHING: [&str; 2] = ["", r#"{"args":[]}"#];

/// What a receiver of plain bytes makes of a message: a name perhaps, the tag, and nothing but padding.
pub fn hear(kind: Kind, bytes: &[u8]) -> Result<Seen, String> {
    let text = std::str::from_utf8(bytes).map_err(|_| "what was heard is no text, and nobody said such")?;
    if let Some(Word::Sent(seen)) = orders::read(text, kind).transpose()? {
        return Ok(seen);
    }
    if NOTHING.contains(&text) {
        return Ok(Seen::Bare { subscription: None, topic: None });
    }
    let odd = || format!("nobody said this: {text}");
    let (before, tagged) = text.split_at(text.find('<').ok_or_else(odd)?);
    let tag = speech::read_tag(tagged.as_bytes()).ok_or_else(odd)?;
    let (_, padding) = tagged.split_once('>').ok_or_else(odd)?;
    if padding.bytes().any(|byte| byte != b'x') {
        return Err(odd());
    }
    let named = match before {
        "" => None,
        _ => {
            let number = before.strip_prefix("[n").and_then(|rest| rest.strip_suffix("] "));
            Some(ClientId(number.and_then(|number| number.parse().ok()).ok_or_else(odd)?))
        }
    };
    let heard = Heard { named, is_binary: kind == Kind::Binary };
    Ok(Seen::Event {
        subscription: center::subscription(tag.name),
        publication: NOT_TOLD,
        topic: None,
        tag,
        publisher: None,
        heard: Some(heard),
        retained: false,
    })
}
