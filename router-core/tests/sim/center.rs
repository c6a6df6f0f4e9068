//! The message center as the modelled clients speak it. Its answers name no request, and its events neither publication nor
//! subscription: what they are about follows from their order and from the client's own names, and is told to the judges so.

use super::{
    echo,
    history::{ClientId, NOT_TOLD, Op, Person, Seen},
    messages,
    names::{self, NAMES_MAX},
    orders::{self, Word},
    speech::{self, RIGHT_TICKET},
};
use fanwire_codec::{wamp2::code, ws::Kind};
use fanwire_core::message_center::ChannelRule;
use std::collections::{BTreeMap, VecDeque};

/// Two names for each topic.
const ALIASES: [char; 2] = ['a', 'b'];

/// In the place of one of them: who was subscribed by a backend knows the topic as it is.
const BY_ITS_OWN_NAME: char = '=';

/// The rules of the channels.
pub fn rules() -> Vec<ChannelRule> {
    let rule = |alias| ChannelRule::new(&format!("{{topic}}@{alias}"), "{topic}", false).expect("a rule");
    ALIASES.map(rule).into()
}

/// The bytes of an operation; none for those that the protocol does not have.
pub fn speak(client: ClientId, op: &Op) -> Option<Vec<u8>> {
    let text = match op {
        Op::Authenticate { right } => {
            let token = if *right { RIGHT_TICKET } else { "another" };
            format!(r#"{{"op":"auth","token":"{token}"}}"#)
        }
        Op::Subscribe { request, topic, .. } => {
            format!(r#"{{"op":"subscribe","channel":"{}"}}"#, channel(*topic, alias(client, Some(*request))))
        }
        Op::Unsubscribe { topic: Some(topic), .. } => {
            format!(r#"{{"op":"unsubscribe","channel":"{}"}}"#, channel(*topic, alias(client, None)))
        }
        Op::Say { request, say } => messages::message(client, *request, *say),
        _ => return None,
    };
    Some(text.into_bytes())
}

/// Now and then a client subscribes by the other name; it unsubscribes by its own, which may be another one then.
fn alias(client: ClientId, request: Option<u64>) -> char {
    let other = request.is_some_and(|request| request % 4 == 0);
    ALIASES[(client.0 as usize + usize::from(other)) % 2]
}

fn channel(topic: u8, alias: char) -> String {
    match alias {
        BY_ITS_OWN_NAME => names::uri(topic),
        _ => format!("{}@{alias}", names::uri(topic)),
    }
}

/// What a client must remember to understand what it is told.
pub struct Ear {
    client: ClientId,
    /// What waits for its answer.
    asked: VecDeque<Op>,
    /// What backends have done in its place, and it was not told yet.
    ordered: BTreeMap<u64, Op>,
    /// What it is subscribed to, and by which name.
    held: BTreeMap<u8, char>,
    welcomed: bool,
    /// The name and role that it logs in with.
    role: u8,
}

impl Ear {
    pub fn new(client: ClientId, role: u8) -> Self {
        Self {
            client,
            asked: VecDeque::new(),
            ordered: BTreeMap::new(),
            held: BTreeMap::new(),
            welcomed: false,
            role,
        }
    }

    /// The client says this. Who needs no login is in at once, and not told so.
    pub fn said(&mut self, op: &Op) -> Option<Seen> {
        match op {
            Op::Hello { by_ticket: None, .. } => {
                self.welcomed = true;
                let authid = format!("anonymous-at-the-center-{}", self.client.0);
                Some(self.welcome(authid, 0))
            }
            _ => {
                if speak(self.client, op).is_some() {
                    self.asked.push_back(op.clone());
                }
                None
            }
        }
    }

    /// Its session has an id that it is never told; here it has one like no other's.
    fn welcome(&self, authid: String, role: u8) -> Seen {
        let session = (1 << 54) + u64::from(self.client.0);
        Seen::Welcome(Person { session, authid, authrole: names::ROLES[usize::from(role)].to_owned() })
    }

    pub fn understand(&mut self, kind: Kind, bytes: &[u8]) -> Result<Seen, String> {
        let text = std::str::from_utf8(bytes).map_err(|_| "the message center said what is no text")?;
        match orders::read(text, kind).transpose()? {
            Some(Word::Sent(seen)) => return Ok(seen),
            Some(Word::Done(request)) => {
                let op = self.ordered.remove(&request);
                return Ok(self.was_ordered(&op.ok_or_else(|| format!("nobody ordered {request}"))?));
            }
            None => {}
        }
        // What came as plain bytes comes as it is.
        if kind != Kind::Text || !text.starts_with('{') {
            let seen = echo::hear(kind, bytes)?;
            return match &seen {
                Seen::Event { tag, .. } if self.held.contains_key(&tag.name) => Ok(seen),
                Seen::Bare { .. } => Ok(seen),
                _ => Err(format!("{:?} was told {text}, and has {:?}", self.client, self.held)),
            };
        }
        if let Some(event) = text.strip_prefix(r#"{"event":""#) {
            return self.event(event);
        }
        let op = self.asked.pop_front().ok_or_else(|| format!("an answer to nothing: {text}"))?;
        if let Op::Say { request, .. } = op
            && let Some(said) = messages::read_answer(text)
        {
            return Ok(messages::answered(request, Ok(Some(said))));
        }
        if text == r#"{"result":true}"# {
            return Ok(self.done(&op));
        }
        let number = text.strip_prefix(r#"{"code":"#).and_then(|rest| rest.split(',').next());
        let number = number.and_then(|number| number.parse::<u16>().ok());
        if self.welcomed && matches!(op, Op::Authenticate { .. }) && matches!(number, Some(5 | 6)) {
            return Ok(Seen::Stayed);
        }
        refused(&op, number.ok_or_else(|| format!("neither answer nor event: {text}"))?)
    }

    /// A backend has done this in the client's place.
    pub fn ordered(&mut self, request: u64, op: &Op) {
        self.ordered.insert(request, op.clone());
    }

    fn was_ordered(&mut self, op: &Op) -> Seen {
        match op {
            // Whoever has a name for it keeps that.
            Op::Subscribe { request, topic, .. } => {
                self.held.entry(*topic).or_insert(BY_ITS_OWN_NAME);
                Seen::Subscribed { request: *request, subscription: subscription(*topic) }
            }
            Op::Unsubscribe { request, topic: Some(topic), .. } if self.held.remove(topic).is_some() => {
                Seen::Unsubscribed { request: *request }
            }
            Op::Unsubscribe { request, .. } => not_subscribed(*request),
            _ => unreachable!("nothing else is ordered so"),
        }
    }

    fn done(&mut self, op: &Op) -> Seen {
        match op {
            Op::Subscribe { request, topic, .. } => {
                self.held.insert(*topic, alias(self.client, Some(*request)));
                Seen::Subscribed { request: *request, subscription: subscription(*topic) }
            }
            Op::Unsubscribe { request, topic: Some(topic), .. } => {
                if self.held.get(topic) == Some(&alias(self.client, None)) {
                    self.held.remove(topic);
                    return Seen::Unsubscribed { request: *request };
                }
                not_subscribed(*request)
            }
            Op::Say { request, .. } => messages::answered(*request, Ok(None)),
            _ if std::mem::replace(&mut self.welcomed, true) => Seen::Stayed,
            _ => self.welcome(speech::authid(self.client), self.role),
        }
    }

    fn event(&self, text: &str) -> Result<Seen, String> {
        let (name, data) =
            text.split_once(r#"","data":"#).ok_or_else(|| format!("an event without data: {text}"))?;
        let mut topics = 0..NAMES_MAX;
        let is_held = |topic: &u8| self.held.get(topic).is_some_and(|alias| channel(*topic, *alias) == name);
        let topic = topics
            .find(is_held)
            .ok_or_else(|| format!("{:?} was told of {name:?} and has {:?}", self.client, self.held))?;
        if matches!(data, "null}" | r#"{"args":[]}}"#) {
            return Ok(Seen::Bare { subscription: Some(subscription(topic)), topic: None });
        }
        let tag =
            speech::read_tag(data.as_bytes()).ok_or_else(|| format!("data was lost or changed: {text}"))?;
        let subscription = subscription(topic);
        Ok(Seen::Event {
            subscription,
            publication: NOT_TOLD,
            topic: None,
            tag,
            publisher: None,
            heard: None,
            retained: false,
        })
    }
}

/// The judges want a number.
pub fn subscription(topic: u8) -> u64 {
    (1 << 54) + u64::from(topic)
}

/// Done, as there was nothing to do. Others are told so.
fn not_subscribed(request: u64) -> Seen {
    let uri = "wamp.error.no_such_subscription".to_owned();
    Seen::Error { request_type: code::UNSUBSCRIBE, request, uri, tag: None }
}

fn refused(op: &Op, number: u16) -> Result<Seen, String> {
    let error = |request_type, request: &u64, uri: &str| {
        Ok(Seen::Error { request_type, request: *request, uri: uri.to_owned(), tag: None })
    };
    match (op, number) {
        (Op::Say { request, .. }, number) => Ok(messages::answered(*request, Err(number))),
        (Op::Authenticate { .. }, 5) => {
            Ok(Seen::Abort { reason: "wamp.error.authentication_denied".to_owned() })
        }
        (Op::Authenticate { .. }, 6) => {
            Ok(Seen::Abort { reason: "wamp.error.authentication_failed".to_owned() })
        }
        (Op::Subscribe { request, .. }, 6) => {
            error(code::SUBSCRIBE, request, "wamp.error.authorization_failed")
        }
        (Op::Subscribe { request, .. }, 7) => error(code::SUBSCRIBE, request, "wamp.error.unavailable"),
        (Op::Subscribe { request, .. }, 8) => error(code::SUBSCRIBE, request, "wamp.error.not_authorized"),
        _ => Err(format!("error {number} is none for {op:?}")),
    }
}
