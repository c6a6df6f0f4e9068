//! What commands mean: one client's state, without its socket.
//!
//! ```text
//! not known ── AUTH, or HELLO with AUTH ──▶ known ── SUBSCRIBE ──▶ subscribed (version 2 allows little else)
//!   (HELLO, AUTH, QUIT alone)                ▲ └── all unsubscribed ──┘
//! ```
//!
//! A command is answered at once, or becomes a [`Question`] for the shard, whose answer has its place among the others.

use std::collections::HashMap;
use std::sync::Arc;

use bytes::BytesMut;
use fanwire_codec::payload::OwnedPayload;
use fanwire_codec::resp::{
    Glob, Version, write_array_head, write_bulk, write_error, write_integer, write_map_head, write_message,
    write_null, write_pattern_message, write_simple, write_subscription,
};
use fanwire_core::api::{ApiRefusal, Receipt};
use fanwire_core::inner::InnerEvent;

use super::names::Names;
use super::output::Output;
use super::{Password, RespFigures};

/// What a shard is to be asked.
#[derive(Debug)]
pub(super) enum Question {
    /// Publishes; [`Session::published`] takes the outcome.
    Publish { slot: u64, channel: Box<str>, payload: OwnedPayload },
    /// Subscribes; [`Session::subscribed`] takes the outcome.
    Subscribe { slot: u64, tag: u32, names: Wanted },
    /// Ends a subscription; [`Session::unsubscribed`] takes the outcome.
    Unsubscribe { slot: u64, tag: u32 },
}

/// What somebody subscribes to.
#[derive(Debug)]
pub(super) enum Wanted {
    Channel(Box<str>),
    Pattern(Glob),
}

/// One subscription.
#[derive(Debug)]
struct Held {
    is_pattern: bool,
    name: Vec<u8>,
    /// Counted among what the client is subscribed to, from the confirmation on.
    confirmed: bool,
}

/// The state of one client.
pub(super) struct Session {
    pub(super) output: Output,
    pub(super) questions: Vec<Question>,
    /// Nothing more is read; the connection ends when all is said.
    pub(super) closing: bool,
    number: u64,
    version: Version,
    is_known: bool,
    password: Option<Password>,
    name: Vec<u8>,
    held: HashMap<u32, Held>,
    /// Tags by pattern or channel, and name.
    tags: HashMap<(bool, Vec<u8>), u32>,
    confirmed: usize,
    last_tag: u32,
    names: Arc<Names>,
    figures: Arc<RespFigures>,
}

impl Session {
    pub(super) fn new(
        number: u64,
        password: Option<Password>,
        names: Arc<Names>,
        figures: Arc<RespFigures>,
    ) -> Self {
        Self {
            output: Output::default(),
            questions: Vec::new(),
            closing: false,
            number,
            version: Version::Resp2,
            is_known: password.is_none(),
            password,
            name: Vec::new(),
            held: HashMap::new(),
            tags: HashMap::new(),
            confirmed: 0,
            last_tag: 0,
            names,
            figures,
        }
    }

    /// Whether it has said its password, if there is one.
    pub(super) fn is_known(&self) -> bool {
        self.is_known
    }

    /// One command. `words` has at least one.
    pub(super) fn handle(&mut self, words: &[&[u8]]) {
        RespFigures::add(&self.figures.commands, 1);
        let (name, args) = words.split_first().expect("a command has a name");
        let name = name.to_ascii_lowercase();
        if !self.is_known && !matches!(&name[..], b"auth" | b"hello" | b"quit") {
            return self.refuse("NOAUTH Authentication required.");
        }
        if self.version == Version::Resp2 && self.confirmed > 0 && !is_for_subscribers(&name) {
            let words = format!(
                "ERR Can't execute '{}': only (P|S)SUBSCRIBE / (P|S)UNSUBSCRIBE / PING / QUIT are allowed in this context",
                shown(&name)
            );
            return self.refuse(&words);
        }
        match (&name[..], args) {
            (b"ping", []) if self.is_listening_in_version_2() => self.pong_for_subscribers(b""),
            (b"ping", [text]) if self.is_listening_in_version_2() => self.pong_for_subscribers(text),
            (b"ping", []) => self.output.say(|out| write_simple(out, "PONG")),
            (b"ping", [text]) => self.output.say(|out| write_bulk(out, text)),
            (b"publish", [channel, payload]) => self.publish(channel, payload),
            (b"subscribe", [_, ..]) => args.iter().for_each(|name| self.subscribe(false, name)),
            (b"psubscribe", [_, ..]) => args.iter().for_each(|name| self.subscribe(true, name)),
            (b"unsubscribe", _) => self.unsubscribe(false, args),
            (b"punsubscribe", _) => self.unsubscribe(true, args),
            (b"pubsub", [what, args @ ..]) => self.pubsub(what, args),
            (b"hello", _) => self.hello(args),
            (b"auth", [password]) => _ = self.auth(b"default", password, true),
            (b"auth", [user, password]) => _ = self.auth(user, password, true),
            // Channels are the same in each database, in Redis too.
            (b"select", [index]) => match std::str::from_utf8(index).map(str::parse::<u8>) {
                Ok(Ok(_)) => self.output.say(|out| write_simple(out, "OK")),
                _ => self.refuse("ERR invalid DB index"),
            },
            (b"client", [what, args @ ..]) => self.client(what, args),
            (b"quit", _) => {
                self.output.say(|out| write_simple(out, "OK"));
                self.closing = true;
            }
            (
                b"ping" | b"publish" | b"subscribe" | b"psubscribe" | b"pubsub" | b"auth" | b"select"
                | b"client",
                _,
            ) => {
                let words = format!("ERR wrong number of arguments for '{}' command", shown(&name));
                self.refuse(&words);
            }
            _ => {
                let words = format!(
                    "ERR unknown command '{}'; this is Fanwire, which has publish and subscribe alone",
                    shown(&name)
                );
                self.refuse(&words);
            }
        }
    }

    fn is_listening_in_version_2(&self) -> bool {
        self.version == Version::Resp2 && self.confirmed > 0
    }

    fn pong_for_subscribers(&mut self, text: &[u8]) {
        self.output.say(|out| {
            write_array_head(out, 2);
            write_bulk(out, b"pong");
            write_bulk(out, text);
        });
    }

    /// An error: its code and words.
    pub(super) fn refuse(&mut self, words: &str) {
        RespFigures::add(&self.figures.errors, 1);
        self.output.say(|out| write_error(out, words));
    }

    // --- who it is ---------------------------------------------------------------------------------------------

    fn hello(&mut self, args: &[&[u8]]) {
        let mut rest = args;
        let mut version = self.version;
        if let [wanted, behind @ ..] = rest {
            version = match *wanted {
                b"2" => Version::Resp2,
                b"3" => Version::Resp3,
                _ => return self.refuse("NOPROTO unsupported protocol version"),
            };
            rest = behind;
        }
        let mut name = None;
        while let [option, behind @ ..] = rest {
            rest = match (&option.to_ascii_lowercase()[..], behind) {
                (b"auth", [user, password, behind @ ..]) => {
                    if !self.auth(user, password, false) {
                        return;
                    }
                    behind
                }
                (b"setname", [given, behind @ ..]) => {
                    name = Some(given.to_vec());
                    behind
                }
                _ => {
                    let words = format!("ERR Syntax error in HELLO option '{}'", shown(option));
                    return self.refuse(&words);
                }
            };
        }
        if !self.is_known {
            return self.refuse(
                "NOAUTH HELLO must be called with the client already authenticated, otherwise the HELLO <proto> AUTH \
                 <user> <pass> option can be used to authenticate the client and select the RESP protocol version at the \
                 same time",
            );
        }
        if let Some(name) = name {
            self.name = name;
        }
        self.version = version;
        let id = self.number;
        self.output.say(|out| {
            write_map_head(out, version, 7);
            for (key, value) in [("server", "fanwire"), ("version", env!("CARGO_PKG_VERSION"))] {
                write_bulk(out, key.as_bytes());
                write_bulk(out, value.as_bytes());
            }
            write_bulk(out, b"proto");
            write_integer(out, if version == Version::Resp3 { 3 } else { 2 });
            write_bulk(out, b"id");
            write_integer(out, id);
            for (key, value) in [("mode", "standalone"), ("role", "master")] {
                write_bulk(out, key.as_bytes());
                write_bulk(out, value.as_bytes());
            }
            write_bulk(out, b"modules");
            write_array_head(out, 0);
        });
    }

    /// Whether the password is right. `say`: an OK is due; an error always is.
    fn auth(&mut self, user: &[u8], password: &[u8], say: bool) -> bool {
        let Some(own) = &self.password else {
            self.refuse("ERR AUTH called without any password configured (resp.password_file): leave it out");
            return false;
        };
        // Both are looked at whatever the first says.
        let (is_user, is_password) = (user == b"default", own.is(password));
        if !(is_user && is_password) {
            self.refuse("WRONGPASS invalid username-password pair or user is disabled.");
            return false;
        }
        self.is_known = true;
        if say {
            self.output.say(|out| write_simple(out, "OK"));
        }
        true
    }

    fn client(&mut self, what: &[u8], args: &[&[u8]]) {
        match (&what.to_ascii_lowercase()[..], args) {
            (b"setname", [name]) => {
                self.name = name.to_vec();
                self.output.say(|out| write_simple(out, "OK"));
            }
            // Libraries tell their name and version; nobody here asks for it.
            (b"setinfo", [_, _]) => self.output.say(|out| write_simple(out, "OK")),
            (b"getname", []) => {
                let (name, version) = (std::mem::take(&mut self.name), self.version);
                self.output.say(|out| {
                    if name.is_empty() { write_null(out, version) } else { write_bulk(out, &name) }
                });
                self.name = name;
            }
            (b"id", []) => {
                let id = self.number;
                self.output.say(|out| write_integer(out, id));
            }
            (other, _) => {
                let words = format!(
                    "ERR unknown subcommand or wrong number of arguments for '{}'. There are CLIENT SETNAME, GETNAME, SETINFO \
                     and ID",
                    shown(other)
                );
                self.refuse(&words);
            }
        }
    }

    // --- publish and subscribe ---------------------------------------------------------------------------------

    fn publish(&mut self, channel: &[u8], payload: &[u8]) {
        let Ok(channel) = std::str::from_utf8(channel) else { return self.refuse(NO_CHANNEL) };
        let slot = self.output.reserve();
        let question =
            Question::Publish { slot, channel: channel.into(), payload: OwnedPayload::from_plain(payload) };
        self.questions.push(question);
    }

    /// What became of a publication: how many have it. Where the router cannot tell in time the client is told none.
    pub(super) fn published(&mut self, slot: u64, outcome: &Result<Receipt, ApiRefusal>) {
        match outcome {
            Ok(receipt) => {
                let count = receipt.matched.unwrap_or_default();
                self.output.fill(slot, |out| write_integer(out, count));
            }
            Err(refusal) => self.fill_refusal(slot, refusal),
        }
    }

    fn fill_refusal(&mut self, slot: u64, refusal: &ApiRefusal) {
        RespFigures::add(&self.figures.errors, 1);
        let code = match refusal.error {
            "wamp.error.not_authorized" => "NOPERM",
            "wamp.error.unavailable" => "TRYAGAIN",
            _ => "ERR",
        };
        let words = format!("{code} {}", refusal.words);
        self.output.fill(slot, |out| write_error(out, &words));
    }

    fn subscribe(&mut self, is_pattern: bool, name: &[u8]) {
        let slot = self.output.reserve();
        if let Some(tag) = self.tags.get(&(is_pattern, name.to_vec())).copied() {
            // It is asked for once; the confirmation counts what there is by then.
            return self.subscribed(slot, tag, &Ok(()));
        }
        let wanted = if is_pattern {
            match Glob::new(name) {
                Ok(glob) => Wanted::Pattern(glob),
                Err(error) => return self.fill_error(slot, &format!("ERR {error}")),
            }
        } else {
            match std::str::from_utf8(name) {
                Ok(name) => Wanted::Channel(name.into()),
                Err(_) => return self.fill_error(slot, NO_CHANNEL),
            }
        };
        self.last_tag += 1;
        let tag = self.last_tag;
        self.tags.insert((is_pattern, name.to_vec()), tag);
        self.held.insert(tag, Held { is_pattern, name: name.to_vec(), confirmed: false });
        self.questions.push(Question::Subscribe { slot, tag, names: wanted });
    }

    fn fill_error(&mut self, slot: u64, words: &str) {
        RespFigures::add(&self.figures.errors, 1);
        self.output.fill(slot, |out| write_error(out, words));
    }

    /// The shard has answered. A subscription that it refuses is none, and its events are not sent.
    pub(super) fn subscribed(&mut self, slot: u64, tag: u32, outcome: &Result<(), ApiRefusal>) {
        if let Err(refusal) = outcome {
            self.forget(tag);
            return self.fill_refusal(slot, refusal);
        }
        let Some(held) = self.held.get_mut(&tag) else {
            return self.fill_error(slot, "ERR the subscription was ended meanwhile");
        };
        if !held.confirmed {
            held.confirmed = true;
            self.confirmed += 1;
            self.names.add(held.is_pattern, &held.name);
        }
        let kind = if held.is_pattern { "psubscribe" } else { "subscribe" };
        let (version, count) = (self.version, self.confirmed);
        let name = &held.name;
        self.output.fill(slot, |out| write_subscription(out, version, kind, Some(name), count));
    }

    fn unsubscribe(&mut self, is_pattern: bool, names: &[&[u8]]) {
        let mut all: Vec<Vec<u8>> = Vec::new();
        if names.is_empty() {
            let own = self.held.iter().filter(|(_, held)| held.is_pattern == is_pattern);
            let mut tags: Vec<u32> = own.map(|(tag, _)| *tag).collect();
            tags.sort_unstable();
            all.extend(tags.iter().map(|tag| self.held[tag].name.clone()));
        }
        all.extend(names.iter().map(|name| name.to_vec()));
        let kind = kind_of_end(is_pattern);
        if all.is_empty() {
            let (version, count) = (self.version, self.confirmed);
            return self.output.say(|out| write_subscription(out, version, kind, None, count));
        }
        for name in all {
            let slot = self.output.reserve();
            match self.tags.get(&(is_pattern, name.clone())).copied() {
                Some(tag) => self.questions.push(Question::Unsubscribe { slot, tag }),
                None => {
                    let (version, count) = (self.version, self.confirmed);
                    self.output.fill(slot, |out| write_subscription(out, version, kind, Some(&name), count));
                }
            }
        }
    }

    /// The shard has ended a subscription: nothing of it follows.
    pub(super) fn unsubscribed(&mut self, slot: u64, tag: u32) {
        let (version, held) = (self.version, self.forget(tag));
        let count = self.confirmed;
        match held {
            Some(held) => {
                let kind = kind_of_end(held.is_pattern);
                self.output.fill(slot, |out| write_subscription(out, version, kind, Some(&held.name), count));
            }
            // It was asked for twice before the first answer.
            None => {
                self.output.fill(slot, |out| write_subscription(out, version, "unsubscribe", None, count))
            }
        }
    }

    /// Newer permissions have ended a subscription.
    pub(super) fn withdrawn(&mut self, tag: u32) {
        let version = self.version;
        if let Some(held) = self.forget(tag) {
            let count = self.confirmed;
            let kind = kind_of_end(held.is_pattern);
            self.output.say(|out| write_subscription(out, version, kind, Some(&held.name), count));
        }
    }

    fn forget(&mut self, tag: u32) -> Option<Held> {
        let held = self.held.remove(&tag)?;
        self.tags.remove(&(held.is_pattern, held.name.clone()));
        if held.confirmed {
            self.confirmed -= 1;
            self.names.remove(held.is_pattern, &held.name);
        }
        Some(held)
    }

    /// A message of one of the subscriptions.
    pub(super) fn message(&mut self, event: &InnerEvent) {
        let Some(held) = self.held.get(&event.tag).filter(|held| held.confirmed) else { return };
        let mut payload = Vec::with_capacity(event.payload.len());
        if event.payload.write_plain(&mut payload).is_err() {
            // NaN among several arguments, for example: Redis has no word for it, and neither has JSON.
            return RespFigures::add(&self.figures.errors, 1);
        }
        RespFigures::add(&self.figures.messages, 1);
        let (version, topic) = (self.version, event.topic().as_bytes());
        self.output.say(|out| match held.is_pattern {
            true => write_pattern_message(out, version, &held.name, topic, &payload),
            false => write_message(out, version, topic, &payload),
        });
    }

    fn pubsub(&mut self, what: &[u8], args: &[&[u8]]) {
        let list = |out: &mut BytesMut, names: &[Vec<u8>]| {
            write_array_head(out, names.len());
            names.iter().for_each(|name| write_bulk(out, name));
        };
        match (&what.to_ascii_lowercase()[..], args) {
            (b"channels", []) => {
                let names = self.names.channels(None);
                self.output.say(|out| list(out, &names));
            }
            (b"channels", [pattern]) => match Glob::new(pattern) {
                Ok(glob) => {
                    let names = self.names.channels(Some(&glob));
                    self.output.say(|out| list(out, &names));
                }
                Err(error) => self.refuse(&format!("ERR {error}")),
            },
            (b"numsub", channels) => {
                let counts: Vec<u64> =
                    channels.iter().map(|channel| self.names.subscribers(channel)).collect();
                self.output.say(|out| {
                    write_array_head(out, 2 * channels.len());
                    for (channel, count) in channels.iter().zip(counts) {
                        write_bulk(out, channel);
                        write_integer(out, count);
                    }
                });
            }
            (b"numpat", []) => {
                let count = self.names.patterns() as u64;
                self.output.say(|out| write_integer(out, count));
            }
            (other, _) => {
                let words = format!(
                    "ERR unknown subcommand or wrong number of arguments for '{}'. There are PUBSUB CHANNELS, NUMSUB and NUMPAT",
                    shown(other)
                );
                self.refuse(&words);
            }
        }
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        for held in self.held.values().filter(|held| held.confirmed) {
            self.names.remove(held.is_pattern, &held.name);
        }
    }
}

fn kind_of_end(is_pattern: bool) -> &'static str {
    if is_pattern { "punsubscribe" } else { "unsubscribe" }
}

/// What a subscriber in version 2 may still say.
fn is_for_subscribers(name: &[u8]) -> bool {
    matches!(name, b"subscribe" | b"psubscribe" | b"unsubscribe" | b"punsubscribe" | b"ping" | b"quit")
}

/// A word of the client's in an error: short, and no control characters.
fn shown(word: &[u8]) -> String {
    String::from_utf8_lossy(&word[..word.len().min(SHOWN_BYTES_MAX)])
        .chars()
        .filter(|c| !c.is_control())
        .collect()
}

const SHOWN_BYTES_MAX: usize = 64;
const NO_CHANNEL: &str = "ERR a channel here is a topic: its name is UTF-8";

#[cfg(test)]
mod tests {
    use super::*;
    use fanwire_core::ids::PublicationId;

    fn session(password: Option<&str>) -> Session {
        let password = password.map(|password| Password::from_file(password.as_bytes()));
        Session::new(7, password, Arc::default(), Arc::default())
    }

    fn say(session: &mut Session, line: &str) -> String {
        let words: Vec<&[u8]> = line.split(' ').map(str::as_bytes).collect();
        session.handle(&words);
        said(session)
    }

    fn said(session: &mut Session) -> String {
        String::from_utf8(session.output.out.split().to_vec()).expect("text")
    }

    /// The one question, answered with yes.
    fn agree(session: &mut Session) -> String {
        for question in std::mem::take(&mut session.questions) {
            match question {
                Question::Subscribe { slot, tag, .. } => session.subscribed(slot, tag, &Ok(())),
                Question::Unsubscribe { slot, tag } => session.unsubscribed(slot, tag),
                Question::Publish { slot, .. } => {
                    let publication = PublicationId::new(1).expect("an id");
                    session.published(slot, &Ok(Receipt { publication, matched: Some(3) }));
                }
            }
        }
        said(session)
    }

    #[test]
    fn plain_commands() {
        let mut client = session(None);
        for (line, answer) in [
            ("PING", "+PONG\r\n"),
            ("ping hi", "$2\r\nhi\r\n"),
            ("SELECT 1", "+OK\r\n"),
            ("SELECT x", "-ERR invalid DB index\r\n"),
            ("CLIENT SETINFO LIB-NAME x", "+OK\r\n"),
            ("CLIENT GETNAME", "$-1\r\n"),
            ("CLIENT SETNAME me", "+OK\r\n"),
            ("CLIENT GETNAME", "$2\r\nme\r\n"),
            ("CLIENT ID", ":7\r\n"),
            ("PUBLISH a", "-ERR wrong number of arguments for 'publish' command\r\n"),
            ("SUBSCRIBE", "-ERR wrong number of arguments for 'subscribe' command\r\n"),
            ("PUBSUB NUMPAT", ":0\r\n"),
            ("UNSUBSCRIBE", "*3\r\n$11\r\nunsubscribe\r\n$-1\r\n:0\r\n"),
        ] {
            assert_eq!(say(&mut client, line), answer, "{line}");
        }
        assert!(say(&mut client, "GET x").starts_with("-ERR unknown command 'get'"));
        assert_eq!(say(&mut client, "QUIT"), "+OK\r\n");
        assert!(client.closing);
    }

    #[test]
    fn a_password_comes_before_everything_else() {
        let mut client = session(Some("secret\n"));
        assert_eq!(say(&mut client, "PING"), "-NOAUTH Authentication required.\r\n");
        assert!(say(&mut client, "HELLO 3").starts_with("-NOAUTH "));
        assert!(say(&mut client, "AUTH wrong").starts_with("-WRONGPASS "));
        assert!(say(&mut client, "AUTH other secret").starts_with("-WRONGPASS "));
        assert!(!client.is_known());
        assert_eq!(say(&mut client, "AUTH secret"), "+OK\r\n");
        assert_eq!(say(&mut client, "PING"), "+PONG\r\n");
        let mut client = session(Some("secret"));
        assert!(
            say(&mut client, "HELLO 3 AUTH default secret SETNAME x").starts_with("%7\r\n$6\r\nserver\r\n")
        );
        assert_eq!(say(&mut client, "CLIENT GETNAME"), "$1\r\nx\r\n");
        assert!(say(&mut session(None), "AUTH x").starts_with("-ERR AUTH called without any password"));
        assert_eq!(say(&mut session(None), "HELLO 4"), "-NOPROTO unsupported protocol version\r\n");
    }

    #[test]
    fn subscriptions_are_confirmed_in_their_order_with_their_count() {
        let mut client = session(None);
        assert_eq!(say(&mut client, "SUBSCRIBE a b a"), "");
        assert_eq!(client.questions.len(), 2, "a is asked for once");
        let confirmed = |kind: &str, name: &str, count: usize| {
            format!("*3\r\n${}\r\n{kind}\r\n${}\r\n{name}\r\n:{count}\r\n", kind.len(), name.len())
        };
        let answer = agree(&mut client);
        // The second `a` was confirmed while its first was on the way.
        assert!(answer.contains(&confirmed("subscribe", "b", 2)), "{answer}");
        assert_eq!(answer.matches("$1\r\na\r\n").count(), 2);
        assert!(say(&mut client, "PUBLISH x y").starts_with("-ERR Can't execute 'publish'"));
        assert_eq!(say(&mut client, "PING"), "*2\r\n$4\r\npong\r\n$0\r\n\r\n");
        say(&mut client, "PSUBSCRIBE n.*");
        assert_eq!(agree(&mut client), confirmed("psubscribe", "n.*", 3));
        say(&mut client, "UNSUBSCRIBE");
        let ended = [confirmed("unsubscribe", "a", 2), confirmed("unsubscribe", "b", 1)].concat();
        assert_eq!(agree(&mut client), ended);
        say(&mut client, "PUNSUBSCRIBE n.*");
        assert_eq!(agree(&mut client), confirmed("punsubscribe", "n.*", 0));
        say(&mut client, "PUBLISH x y");
        assert_eq!(agree(&mut client), ":3\r\n");
    }

    #[test]
    fn a_refused_subscription_is_an_error_and_is_forgotten() {
        let mut client = session(None);
        say(&mut client, "SUBSCRIBE a");
        let Some(Question::Subscribe { slot, tag, .. }) = client.questions.pop() else { panic!("it asks") };
        let refusal = ApiRefusal { error: "wamp.error.not_authorized", words: "role x may not".to_owned() };
        client.subscribed(slot, tag, &Err(refusal));
        assert_eq!(said(&mut client), "-NOPERM role x may not\r\n");
        assert!(client.held.is_empty() && client.tags.is_empty());
        assert_eq!(say(&mut client, "PING"), "+PONG\r\n");
    }

    #[test]
    fn the_names_of_all_clients_are_told_until_they_leave() {
        let names = Arc::new(Names::default());
        let mut one = Session::new(1, None, Arc::clone(&names), Arc::default());
        let mut two = Session::new(2, None, Arc::clone(&names), Arc::default());
        for client in [&mut one, &mut two] {
            say(client, "SUBSCRIBE a");
            agree(client);
        }
        say(&mut two, "PSUBSCRIBE b.*");
        agree(&mut two);
        let mut asks = Session::new(3, None, Arc::clone(&names), Arc::default());
        assert_eq!(say(&mut asks, "PUBSUB NUMSUB a c"), "*4\r\n$1\r\na\r\n:2\r\n$1\r\nc\r\n:0\r\n");
        assert_eq!(say(&mut asks, "PUBSUB CHANNELS"), "*1\r\n$1\r\na\r\n");
        assert_eq!(say(&mut asks, "PUBSUB CHANNELS x*"), "*0\r\n");
        drop(two);
        assert_eq!(say(&mut asks, "PUBSUB NUMSUB a"), "*2\r\n$1\r\na\r\n:1\r\n");
        assert_eq!(say(&mut asks, "PUBSUB NUMPAT"), ":0\r\n");
    }
}
