//! What commands mean: one client's state, without its socket.
//!
//! ```text
//! not known ── AUTH, or HELLO with AUTH ──▶ known ── SUBSCRIBE ──▶ subscribed (version 2 allows little else)
//!   (HELLO, AUTH, QUIT alone)                ▲ └── all unsubscribed ──┘
//! ```
//!
//! A command is answered at once, or becomes a [`Question`] for the shard, whose answer has its place among the others.

use std::sync::Arc;

use fanwire_codec::payload::OwnedPayload;
use fanwire_codec::resp::{
    Glob, Version, write_array_head, write_bulk, write_error, write_integer, write_map_head, write_null,
    write_simple,
};

use super::names::Names;
use super::output::Output;
use super::pubsub::Subscriptions;
use super::{PROCESS_KEY, Password, RespFigures, process_name};

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

/// The state of one client.
pub(super) struct Session {
    pub(super) output: Output,
    pub(super) questions: Vec<Question>,
    /// Nothing more is read; the connection ends when all is said.
    pub(super) closing: bool,
    /// It speaks HTTP: a web page, maybe, that was made to send commands. Nothing more is done for it.
    pub(super) is_foreign: bool,
    number: u64,
    pub(super) version: Version,
    is_known: bool,
    password: Option<Password>,
    name: Vec<u8>,
    pub(super) subscriptions: Subscriptions,
    pub(super) figures: Arc<RespFigures>,
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
            is_foreign: false,
            number,
            version: Version::Resp2,
            is_known: password.is_none(),
            password,
            name: Vec::new(),
            subscriptions: Subscriptions::new(names),
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
        if matches!(&name[..], b"post" | b"host:") {
            self.is_foreign = true;
            return;
        }
        if !self.is_known && !matches!(&name[..], b"auth" | b"hello" | b"quit") {
            return self.refuse("NOAUTH Authentication required.");
        }
        if self.is_listening_in_version_2() && !is_for_subscribers(&name) {
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
            (b"echo", [text]) => self.output.say(|out| write_bulk(out, text)),
            (b"info", _) => self.info(),
            // Clients complete words by it, and do without.
            (b"command", [what, ..]) if what.eq_ignore_ascii_case(b"docs") => self.say_empty_map(),
            (b"command", _) => self.output.say(|out| write_array_head(out, 0)),
            (b"config", [what, names @ ..]) if what.eq_ignore_ascii_case(b"get") => self.settings(names),
            (b"quit", _) => {
                self.output.say(|out| write_simple(out, "OK"));
                self.closing = true;
            }
            (
                b"ping" | b"publish" | b"subscribe" | b"psubscribe" | b"pubsub" | b"auth" | b"select"
                | b"client" | b"echo",
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
        self.version == Version::Resp2 && !self.subscriptions.is_empty()
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
            write_map_head(out, version, 8);
            for (key, value) in [("server", "fanwire"), ("version", env!("CARGO_PKG_VERSION"))] {
                write_bulk(out, key.as_bytes());
                write_bulk(out, value.as_bytes());
            }
            write_bulk(out, b"proto");
            write_integer(out, if version == Version::Resp3 { 3 } else { 2 });
            write_bulk(out, b"id");
            write_integer(out, id);
            for (key, value) in [("mode", "standalone"), ("role", "master"), (PROCESS_KEY, process_name())] {
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

    /// What libraries look at before they begin: whether the data is loaded, and who answers.
    fn info(&mut self) {
        let text = format!(
            "# Server\r\nredis_version:{REDIS_VERSION}\r\nredis_mode:standalone\r\nfanwire_version:{}\r\n\
             # Clients\r\nconnected_clients:{}\r\n# Persistence\r\nloading:0\r\n# Replication\r\nrole:master\r\n",
            env!("CARGO_PKG_VERSION"),
            self.figures.connections.load(std::sync::atomic::Ordering::Relaxed)
        );
        self.output.say(|out| write_bulk(out, text.as_bytes()));
    }

    /// The two that benchmarks print: nothing is stored here.
    fn settings(&mut self, names: &[&[u8]]) {
        let known = [("save", ""), ("appendonly", "no")];
        let is_asked = |name: &str| names.iter().any(|asked| asked.eq_ignore_ascii_case(name.as_bytes()));
        let asked: Vec<_> = known.into_iter().filter(|(name, _)| is_asked(name)).collect();
        let version = self.version;
        self.output.say(|out| {
            write_map_head(out, version, asked.len());
            for word in asked.iter().flat_map(|(name, value)| [name, value]) {
                write_bulk(out, word.as_bytes());
            }
        });
    }

    fn say_empty_map(&mut self) {
        let version = self.version;
        self.output.say(|out| write_map_head(out, version, 0));
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
            (b"no-evict" | b"no-touch", [_]) => self.output.say(|out| write_simple(out, "OK")),
            (b"id", []) => {
                let id = self.number;
                self.output.say(|out| write_integer(out, id));
            }
            (other, _) => {
                let words = format!(
                    "ERR unknown subcommand or wrong number of arguments for '{}'. There are CLIENT SETNAME, GETNAME, SETINFO, \
                     ID, NO-EVICT and NO-TOUCH",
                    shown(other)
                );
                self.refuse(&words);
            }
        }
    }
}

/// What a subscriber in version 2 may still say.
fn is_for_subscribers(name: &[u8]) -> bool {
    matches!(name, b"subscribe" | b"psubscribe" | b"unsubscribe" | b"punsubscribe" | b"ping" | b"quit")
}

/// A word of the client's in an error: short, and no control characters.
pub(super) fn shown(word: &[u8]) -> String {
    String::from_utf8_lossy(&word[..word.len().min(SHOWN_BYTES_MAX)])
        .chars()
        .filter(|c| !c.is_control())
        .collect()
}

const SHOWN_BYTES_MAX: usize = 64;
/// What libraries may rely on here, of what Redis has: publish and subscribe of this version.
const REDIS_VERSION: &str = "7.0.0";

#[cfg(test)]
mod tests {
    use fanwire_core::api::{ApiRefusal, Receipt};
    use fanwire_core::ids::PublicationId;

    use super::*;

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
            ("ECHO x", "$1\r\nx\r\n"),
            ("COMMAND", "*0\r\n"),
            ("COMMAND DOCS", "*0\r\n"),
            ("CONFIG GET save", "*2\r\n$4\r\nsave\r\n$0\r\n\r\n"),
            ("CONFIG GET maxmemory", "*0\r\n"),
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
            say(&mut client, "HELLO 3 AUTH default secret SETNAME x").starts_with("%8\r\n$6\r\nserver\r\n")
        );
        assert_eq!(say(&mut client, "CLIENT GETNAME"), "$1\r\nx\r\n");
        assert!(say(&mut session(None), "AUTH x").starts_with("-ERR AUTH called without any password"));
        assert_eq!(say(&mut session(None), "HELLO 4"), "-NOPROTO unsupported protocol version\r\n");
    }

    fn confirmed(kind: &str, name: &str, count: usize) -> String {
        format!("*3\r\n${}\r\n{kind}\r\n${}\r\n{name}\r\n:{count}\r\n", kind.len(), name.len())
    }

    #[test]
    fn subscriptions_are_confirmed_in_their_order_with_their_count() {
        let mut client = session(None);
        assert_eq!(say(&mut client, "SUBSCRIBE a b a"), "");
        assert_eq!(client.questions.len(), 2, "a is asked for once");
        let subscribed =
            [("a", 1), ("b", 2), ("a", 2)].map(|(name, count)| confirmed("subscribe", name, count));
        assert_eq!(agree(&mut client), subscribed.concat());
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
    fn what_is_pipelined_means_what_it_means_one_by_one() {
        let nothing = |kind: &str, count| format!("*3\r\n${}\r\n{kind}\r\n$-1\r\n:{count}\r\n", kind.len());
        for (lines, answers) in [
            // Left and entered again: a subscription of its own.
            (
                &["SUBSCRIBE a", "UNSUBSCRIBE a", "SUBSCRIBE a"][..],
                vec![
                    confirmed("subscribe", "a", 1),
                    confirmed("unsubscribe", "a", 0),
                    confirmed("subscribe", "a", 1),
                ],
            ),
            (
                &["SUBSCRIBE a", "UNSUBSCRIBE x", "PUNSUBSCRIBE"],
                vec![
                    confirmed("subscribe", "a", 1),
                    confirmed("unsubscribe", "x", 1),
                    nothing("punsubscribe", 1),
                ],
            ),
            (
                &["SUBSCRIBE a", "PSUBSCRIBE b", "UNSUBSCRIBE", "PUNSUBSCRIBE b", "PUNSUBSCRIBE b"],
                vec![
                    confirmed("subscribe", "a", 1),
                    confirmed("psubscribe", "b", 2),
                    confirmed("unsubscribe", "a", 1),
                    confirmed("punsubscribe", "b", 0),
                    confirmed("punsubscribe", "b", 0),
                ],
            ),
            (
                &["SUBSCRIBE a", "PING", "UNSUBSCRIBE", "PUBLISH x y"],
                vec![
                    confirmed("subscribe", "a", 1),
                    "*2\r\n$4\r\npong\r\n$0\r\n\r\n".to_owned(),
                    confirmed("unsubscribe", "a", 0),
                    ":3\r\n".to_owned(),
                ],
            ),
        ] {
            let mut client = session(None);
            for line in lines {
                client.handle(&line.split(' ').map(str::as_bytes).collect::<Vec<_>>());
            }
            assert_eq!(agree(&mut client), answers.concat(), "{lines:?}");
        }
        let mut client = session(None);
        say(&mut client, "SUBSCRIBE a");
        agree(&mut client);
        let [first, second] = ["UNSUBSCRIBE a", "SUBSCRIBE a"].map(|line| {
            say(&mut client, line);
            client.questions.len()
        });
        assert_eq!((first, second), (1, 2), "the shard is asked for both");
    }

    #[test]
    fn a_subscription_that_is_refused_is_refused_to_all_who_wish_it_and_counts_nowhere() {
        let mut client = session(None);
        say(&mut client, "SUBSCRIBE a a b");
        let refusal = || Err(ApiRefusal { error: "wamp.error.not_authorized", words: "no".to_owned() });
        for question in std::mem::take(&mut client.questions) {
            let Question::Subscribe { slot, tag, names } = question else { panic!("it asks") };
            let is_a = matches!(&names, Wanted::Channel(name) if &**name == "a");
            client.subscribed(slot, tag, &if is_a { refusal() } else { Ok(()) });
        }
        let expected = ["-NOPERM no\r\n", "-NOPERM no\r\n", &confirmed("subscribe", "b", 1)].concat();
        assert_eq!(said(&mut client), expected);
    }

    #[test]
    fn what_speaks_http_is_heard_no_further() {
        for line in ["POST / HTTP/1.1", "Host: 127.0.0.1:6379"] {
            let mut client = session(Some("secret"));
            say(&mut client, line);
            assert!(client.is_foreign, "{line}");
        }
    }

    #[test]
    fn a_refused_subscription_is_an_error_and_is_forgotten() {
        let mut client = session(None);
        say(&mut client, "SUBSCRIBE a");
        let Some(Question::Subscribe { slot, tag, .. }) = client.questions.pop() else { panic!("it asks") };
        let refusal = ApiRefusal { error: "wamp.error.not_authorized", words: "role x may not".to_owned() };
        client.subscribed(slot, tag, &Err(refusal));
        assert_eq!(said(&mut client), "-NOPERM role x may not\r\n");
        assert!(client.subscriptions.is_empty());
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
