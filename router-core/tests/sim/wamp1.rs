//! WAMP version 1 as the modelled clients speak it. Nothing but calls has an answer, and an event names the topic as its
//! subscriber did: what became of a subscription the world finds out, and by which names events may come, `check::wamp1` knows.
//!
//! ```text
//! topic ─ full_name ─▶ http://sim/a#3 ─ PREFIX ─▶ p:3            EVENT ─ topic_of ─▶ topic
//! ```

use super::{
    center,
    history::{ClientId, Lists, NOT_TOLD, Op, Person, Seen, Tag},
    names::{self, NAMES_MAX},
    speech,
};
use fanwire_codec::{wamp2::code, ws::Kind};
use fanwire_core::{
    ids::RealmId,
    wamp1::{NameMap, Wamp1},
};
use std::collections::BTreeMap;

/// As the router is told: the longer one of two that fit decides.
const RULES: [(&str, &str); 3] =
    [("http://sim/", "top."), ("http://sim/a#", "top.a."), ("http://sim/error#", "sim.error.")];

/// What prefixes stand for.
const BEGINNINGS: [&str; 4] = ["http://sim/a#", "http://sim/", "top.", "top.b."];
pub const BEGINNING_COUNT: usize = BEGINNINGS.len();

const PREFIXES: [&str; 2] = ["p", "q"];
pub const PREFIX_COUNT: usize = PREFIXES.len();

/// The name that version 1 is never told.
pub const UNKNOWN_AUTHID: &str = "anonymous-in-version-1";

pub fn configured(realm: RealmId) -> Wamp1 {
    Wamp1 { realm: Some(realm), names: NameMap::new(RULES) }
}

/// What a client calls a topic: as the router does, or by its own name.
pub fn full_name(client: ClientId, request: u64, topic: u8) -> String {
    let uri = names::uri(topic);
    // Each mostly sticks to its way.
    let is_other = request.is_multiple_of(4);
    if client.0.is_multiple_of(2) != is_other {
        return uri;
    }
    match uri.strip_prefix("top.a.") {
        Some(rest) => format!("http://sim/a#{rest}"),
        None => uri.replacen("top.", "http://sim/", 1),
    }
}

/// Which topic is meant by a name in full.
fn topic_of(name: &str) -> Option<u8> {
    let uri = match (name.strip_prefix("http://sim/a#"), name.strip_prefix("http://sim/")) {
        (Some(rest), _) => format!("top.a.{rest}"),
        (None, Some(rest)) => format!("top.{rest}"),
        (None, None) => name.to_owned(),
    };
    (0..NAMES_MAX).find(|topic| names::uri(*topic) == uri)
}

/// What one client's router knows of it.
#[derive(Debug, Default)]
pub struct Known {
    /// By prefix: what it stands for.
    prefixes: [Option<usize>; PREFIX_COUNT],
    /// Its subscriptions, by the names that it has given them last.
    held: BTreeMap<u8, String>,
    /// A SUBSCRIBE on which a hook has to decide.
    pub waiting: Option<(u64, u8)>,
}

impl Known {
    /// The bytes of an operation, and what it does to the names.
    pub fn speak(&mut self, client: ClientId, op: &Op, padding: usize) -> Option<(Kind, Vec<u8>)> {
        let text = match op {
            Op::Prefix { prefix, beginning } => {
                self.prefixes[*prefix] = Some(*beginning);
                format!(r#"[1,"{}","{}"]"#, PREFIXES[*prefix], BEGINNINGS[*beginning])
            }
            Op::Call { request, tag, .. } => {
                let procedure = self.spelt(client, *request, tag.name);
                format!(r#"[2,"c{request}","{procedure}","{}"]"#, speech::tagged(tag, padding))
            }
            Op::Subscribe { request, topic, .. } => {
                format!(r#"[5,"{}"]"#, self.spelt(client, *request, *topic))
            }
            Op::Unsubscribe { request, topic: Some(topic), .. } => {
                format!(r#"[6,"{}"]"#, self.spelt(client, *request, *topic))
            }
            Op::Publish { request, tag, exclude_me, lists, .. } => {
                let topic = self.spelt(client, *request, tag.name);
                let receivers = receivers(tag, *exclude_me, lists.as_deref());
                format!(r#"[7,"{topic}","{}"{receivers}]"#, speech::tagged(tag, padding))
            }
            // Only routers say that.
            Op::Violate => r#"[0,"1",1,"sim"]"#.to_owned(),
            _ => return None,
        };
        Some((Kind::Text, text.into_bytes()))
    }

    /// By a prefix, where one fits.
    fn spelt(&self, client: ClientId, request: u64, topic: u8) -> String {
        let name = full_name(client, request, topic);
        let short = (0..PREFIX_COUNT).find_map(|prefix| {
            let rest = name.strip_prefix(BEGINNINGS[self.prefixes[prefix]?])?;
            Some(format!("{}:{rest}", PREFIXES[prefix]))
        });
        short.filter(|_| !request.is_multiple_of(3)).unwrap_or(name)
    }

    /// It was subscribed, or its subscription has this name now.
    pub fn subscribed(&mut self, client: ClientId, request: u64, topic: u8) -> Seen {
        self.held.insert(topic, full_name(client, request, topic));
        Seen::Subscribed { request, subscription: center::subscription(topic) }
    }

    /// Who knows the topic by another name unsubscribes from nothing.
    pub fn unsubscribed(&mut self, client: ClientId, request: u64, topic: u8) -> Seen {
        if self.held.get(&topic) == Some(&full_name(client, request, topic)) {
            self.held.remove(&topic);
            return Seen::Unsubscribed { request };
        }
        refused(code::UNSUBSCRIBE, request, "wamp.error.no_such_subscription")
    }
}

/// What was not done, and for which reason; clients are never told.
pub fn refused(request_type: u64, request: u64, uri: &str) -> Seen {
    Seen::Error { request_type, request, uri: uri.to_owned(), tag: None }
}

/// The elements behind the event, in each of the ways in which that can be said.
fn receivers(tag: &Tag, exclude_me: bool, lists: Option<&Lists>) -> String {
    let list = |ids: &Vec<u64>| {
        let ids: Vec<String> = ids.iter().map(|id| format!("\"{id}\"")).collect();
        format!("[{}]", ids.join(","))
    };
    let eligible = lists.and_then(|lists| lists.eligible.as_ref()).map(list);
    let exclude = lists.and_then(|lists| lists.exclude.as_ref()).map(list);
    match (exclude, eligible) {
        (Some(exclude), Some(eligible)) => format!(",{exclude},{eligible}"),
        (Some(exclude), None) => format!(",{exclude}"),
        // The short form, with a truth value, ends there.
        (None, Some(eligible)) if exclude_me => format!(",null,{eligible}"),
        (None, Some(eligible)) => format!(",[],{eligible}"),
        (None, None) if exclude_me => ["", ",true", ",null"][tag.number as usize % 3].to_owned(),
        (None, None) => ",false".to_owned(),
    }
}

/// What one message says, or why no router should have sent it.
pub fn understand(kind: Kind, bytes: &[u8]) -> Result<Seen, String> {
    let text = std::str::from_utf8(bytes).map_err(|_| "version 1 is no text")?;
    let odd = || format!("no message of version 1: {text}");
    let body = text.strip_suffix(']').filter(|_| kind == Kind::Text).ok_or_else(odd)?;
    let (head, rest) = body.split_once(",\"").ok_or_else(odd)?;
    let (first, rest) = rest.split_once("\",").ok_or_else(odd)?;
    match head {
        "[0" => welcome(first, rest),
        "[3" => Ok(Seen::Result { request: call(first)?, tag: tag_in(rest).ok_or_else(odd)? }),
        "[4" => {
            let (uri, description) = rest.split_once("\",").ok_or_else(odd)?;
            let uri = uri.strip_prefix('"').ok_or_else(odd)?;
            let (request_type, request) = (code::CALL, call(first)?);
            Ok(Seen::Error { request_type, request, uri: in_version_2(uri), tag: tag_in(description) })
        }
        "[8" => {
            let topic = topic_of(first).ok_or_else(|| format!("an event of no topic: {text}"))?;
            if matches!(rest, "null" | r#"{"args":[]}"#) {
                return Ok(Seen::Bare { subscription: None, topic: None });
            }
            Ok(Seen::Event {
                subscription: center::subscription(topic),
                publication: NOT_TOLD,
                topic: Some(first.to_owned()),
                tag: tag_in(rest).ok_or_else(|| format!("an event was lost or changed: {text}"))?,
                publisher: None,
                heard: None,
                retained: false,
            })
        }
        _ => Err(odd()),
    }
}

fn welcome(session: &str, rest: &str) -> Result<Seen, String> {
    let session = session.parse().map_err(|_| format!("WELCOME with session {session:?}"))?;
    if !rest.starts_with("1,\"") {
        return Err(format!("WELCOME of another version: {rest}"));
    }
    let authrole = names::ROLES[0].to_owned();
    Ok(Seen::Welcome(Person { session, authid: UNKNOWN_AUTHID.to_owned(), authrole }))
}

/// The request of a call, by the name that its caller gave it.
fn call(id: &str) -> Result<u64, String> {
    let number = id.strip_prefix('c').and_then(|number| number.parse().ok());
    number.ok_or_else(|| format!("the answer to no call: {id:?}"))
}

/// A value as if it were a list's only one.
fn tag_in(value: &str) -> Option<Tag> {
    speech::read_tag(format!("[{value}]").as_bytes())
}

/// What everybody else calls an error.
fn in_version_2(uri: &str) -> String {
    match uri.strip_prefix("http://sim/error#") {
        Some(rest) => format!("sim.error.{rest}"),
        None if uri == "http://api.wamp.ws/error#NoSuchRPCEndpoint" => {
            "wamp.error.no_such_procedure".to_owned()
        }
        // Each of these has another name here.
        None if uri.starts_with("sim.error.") => format!("untranslated: {uri}"),
        None => uri.to_owned(),
    }
}
