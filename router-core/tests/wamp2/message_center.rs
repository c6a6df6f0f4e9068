//! The message center as its clients see it, beside WAMP clients of the same realm; the test is in the place of the hook.

use fanwire_codec::message_center::ErrorCode;
use fanwire_codec::payload::OwnedPayload;
use fanwire_codec::wamp2::Serializer;
use fanwire_codec::ws::Kind;
use fanwire_core::hooks::{HookEvent, HookId, HookRule, HookScope};
use fanwire_core::ids::RoleId;
use fanwire_core::login::Proof;
use fanwire_core::message_center::{ChannelRule, MessageCenter, OnError};
use fanwire_core::question::{Denial, Grant, Subject};
use fanwire_core::uri::MatchPolicy;
use fanwire_core::{Flow, Limits};

use crate::support::{Client, Router};

pub const DONE: &str = r#"{"result":true}"#;
pub const NOT_AUTH: &str = r#"{"code":1,"msg":"Not Auth"}"#;
const INVALID_CHANNEL: &str = r#"{"code":4,"msg":"Invalid channel"}"#;

/// The examples' rules, and some that lead elsewhere.
const RULES: [(&str, &str, bool); 7] = [
    ("@user", "user:{ctx.uid}", true),
    ("me", "user:{ctx.uid}", true),
    ("@team", "team:{ctx.team}", true),
    ("{video}@video", "video:{video}", false),
    ("@{kind:balance|order}", "ex:{ctx.uid}@{kind}", true),
    ("{symbol}@{kind:depth|trades}", "ex:{symbol}@{kind}", false),
    ("{a}/{b}", "ok.{a}.{b}", false),
];

/// Two shards with a message center in this realm, and a hook for its logins beside these.
pub fn center(realm: &str, on_error: OnError, limits: Limits, hooks: &[HookRule]) -> Router {
    let hooks = [hooks, &[hook(LOGINS, HookEvent::Authenticate, "")]].concat();
    Router::centered(2, limits, &hooks, |access| {
        let rule = |(pattern, channel, auth): (&str, &str, bool)| {
            ChannelRule::new(pattern, channel, auth).expect("a rule")
        };
        let realm = access.realm(realm).expect("there is such a realm");
        MessageCenter::new(realm, on_error, RULES.into_iter().map(rule).collect())
    })
}

/// One that is asked about this, of topics that begin so.
pub fn hook(number: u16, event: HookEvent, prefix: &str) -> HookRule {
    HookRule {
        hook: HookId::new(number),
        events: vec![event],
        realms: Vec::new(),
        uri: prefix.to_owned(),
        match_policy: MatchPolicy::Prefix,
        payload: false,
        scope: HookScope::default(),
    }
}

const LOGINS: u16 = 7;

/// In the realm `both`, where one needs not log in.
pub fn open_center() -> Router {
    center("both", OnError::Keep, Limits::default(), &[])
}

impl Router {
    /// Says it, and gives the one answer.
    fn ask_center(&mut self, client: Client, message: &str) -> String {
        assert_eq!(self.say(client, message), Flow::Continue, "{message}");
        self.hear_one(client)
    }

    /// Asks this about a channel; nothing is sent yet.
    pub fn say_of(&mut self, client: Client, op: &str, channel: &str) {
        let message = format!(r#"{{"op":"{op}","channel":"{channel}"}}"#);
        assert_eq!(self.say(client, &message), Flow::Continue, "{message}");
    }

    pub fn subscribe_to(&mut self, client: Client, channel: &str) -> String {
        self.ask_center(client, &format!(r#"{{"op":"subscribe","channel":"{channel}"}}"#))
    }

    pub fn unsubscribe_from(&mut self, client: Client, channel: &str) -> String {
        self.ask_center(client, &format!(r#"{{"op":"unsubscribe","channel":"{channel}"}}"#))
    }

    /// Sends a token, and gives the answer to that verdict.
    pub fn log_in(&mut self, client: Client, verdict: Result<Grant, Denial>) -> String {
        self.decide_login(client, verdict);
        let mut heard = self.hear(client);
        assert!(!heard.is_empty(), "there is an answer");
        heard.remove(0)
    }

    /// The same; nothing is sent yet.
    pub fn decide_login(&mut self, client: Client, verdict: Result<Grant, Denial>) {
        assert_eq!(self.say(client, r#"{"op":"auth","token":"a \"token\""}"#), Flow::Pause);
        let question = self.question(client.0);
        assert_eq!(question.hook, Some(HookId::new(LOGINS)));
        let Subject::Login { authid: None, proof: Proof::Ticket(ticket), .. } = &question.subject else {
            panic!("{question:?}")
        };
        assert_eq!(ticket.expose(), "a \"token\"");
        self.shards[client.0].handle_verdict(self.now, question.verdict(verdict));
    }

    /// A client that has logged in as this user.
    fn user(&mut self, shard: usize, uid: &str) -> Client {
        let client = self.connect_to_center(shard);
        assert_eq!(self.log_in(client, granted(uid, "{}")), DONE);
        client
    }

    /// From a WAMP client of the same realm, on shard 1.
    pub fn publish(&mut self, topic: &str, payload: &str) {
        let publisher = self.join_realm(1, "both");
        self.say(publisher, &format!(r#"[16,1,{{"acknowledge":true}},"{topic}",{payload}]"#));
        assert!(self.hear_one(publisher).starts_with("[17,"), "{topic}");
        self.vanish(publisher);
    }

    fn errors(&self, code: ErrorCode) -> u64 {
        let number = usize::from(code.number()) - 1;
        self.shards.iter().map(|shard| shard.counters().message_center_errors[number]).sum()
    }
}

pub fn granted(uid: &str, extra: &str) -> Result<Grant, Denial> {
    let extra = OwnedPayload::checked(Serializer::Json, None, Some(extra.as_bytes())).expect("JSON");
    let (role, authid) = (Some(RoleId::new(0)), Some(uid.into()));
    Ok(Grant { role, authid, provider: "hook", extra: Some(Box::new(extra)), ..Grant::default() })
}

#[test]
fn a_user_logs_in_and_hears_what_is_for_it() {
    let mut router = open_center();
    let client = router.connect_to_center(0);
    assert_eq!(router.subscribe_to(client, "@user"), NOT_AUTH);
    assert_eq!(router.unsubscribe_from(client, "@user"), NOT_AUTH);
    assert_eq!(router.log_in(client, granted("1001", "{}")), DONE);
    assert_eq!(router.subscribe_to(client, "@user"), DONE);
    router.publish("user:1001", r#"[{"uid":1001,"msg":"Hello,World!"}]"#);
    let event = r#"{"event":"@user","data":{"uid":1001,"msg":"Hello,World!"}}"#;
    assert_eq!(router.hear(client), [event]);
    assert_eq!(router.unsubscribe_from(client, "@user"), DONE);
    assert_eq!(router.unsubscribe_from(client, "@user"), DONE, "there is nothing left to do");
    router.publish("user:1001", "[1]");
    assert_eq!(router.hear(client), [""; 0]);
    assert_eq!(router.errors(ErrorCode::NotAuth), 2);
}

#[test]
fn all_devices_of_a_user_hear_and_nobody_else() {
    let mut router = open_center();
    let devices = [router.user(0, "1001"), router.user(1, "1001"), router.user(0, "1001")];
    let other = router.user(0, "1002");
    for client in devices.into_iter().chain([other]) {
        assert_eq!(router.subscribe_to(client, "@user"), DONE);
        assert_eq!(router.subscribe_to(client, "@user"), DONE, "twice is once");
    }
    for said in ["user:1001", "1001@user", "@users", ""] {
        assert_eq!(router.subscribe_to(other, said), INVALID_CHANNEL, "{said}");
    }
    router.publish("user:1001", "[9007199254740993]");
    for client in devices {
        assert_eq!(router.hear(client), [r#"{"event":"@user","data":9007199254740993}"#]);
    }
    assert_eq!(router.hear(other), [""; 0]);
}

#[test]
fn long_and_odd_uids_keep_every_character() {
    let mut router = open_center();
    for uid in ["9007199254740993", "18446744073709551615", "u-01", "日本"] {
        let client = router.user(0, uid);
        assert_eq!(router.subscribe_to(client, "@user"), DONE);
        router.publish(&format!("user:{uid}"), "[]");
        assert_eq!(router.hear(client), [r#"{"event":"@user","data":null}"#], "{uid}");
    }
    let client = router.user(0, "a b");
    let denied = r#"{"code":8,"msg":"Permission denied"}"#;
    assert_eq!(router.subscribe_to(client, "@user"), denied, "no topic is named so");
}

#[test]
fn each_serializer_and_shape_reaches_the_channel() {
    let mut router = open_center();
    let client = router.connect_to_center(0);
    assert_eq!(router.subscribe_to(client, "100001@video"), DONE);
    router.publish("video:100001", r#"[1,"two"],{"three":3}"#);
    let event = r#"{"event":"100001@video","data":{"args":[1,"two"],"kwargs":{"three":3}}}"#;
    assert_eq!(router.hear(client), [event]);
    // [1,"both",{"roles":{"publisher":{}}}] and [16,1,{},"video:100001",["x"]] in MessagePack.
    let packed = router.connect(1, Serializer::MsgPack);
    let hello = b"\x93\x01\xa4both\x81\xa5roles\x81\xa9publisher\x80";
    assert_eq!(router.say_bytes(packed, Kind::Binary, hello), Flow::Continue);
    let publish = b"\x95\x10\x01\x80\xacvideo:100001\x91\xa1x";
    assert_eq!(router.say_bytes(packed, Kind::Binary, publish), Flow::Continue);
    assert_eq!(router.hear(client), [r#"{"event":"100001@video","data":"x"}"#]);
}

#[test]
fn wamp_subscribers_hear_the_same_publication() {
    let mut router = open_center();
    let client = router.connect_to_center(0);
    let wamp = router.join_realm(0, "both");
    assert_eq!(router.subscribe_to(client, "BTCUSDT@depth"), DONE);
    router.say(wamp, r#"[32,1,{},"ex:BTCUSDT@depth"]"#);
    assert!(router.hear_one(wamp).starts_with("[33,1,"));
    router.publish("ex:BTCUSDT@depth", "[[1,2]]");
    assert_eq!(router.hear(client), [r#"{"event":"BTCUSDT@depth","data":[1,2]}"#]);
    assert!(router.hear_one(wamp).ends_with(",{},[[1,2]]]"));
    // Each leaves for itself.
    router.vanish(wamp);
    router.publish("ex:BTCUSDT@depth", "[3]");
    assert_eq!(router.hear(client), [r#"{"event":"BTCUSDT@depth","data":3}"#]);
    router.vanish(client);
    assert_eq!(router.shards[0].counters().streams, 0);
    assert_eq!(router.shards[0].counters().subscriptions, 0);
}

#[test]
fn a_login_keeps_public_channels_and_another_user_none() {
    let mut router = open_center();
    let client = router.connect_to_center(0);
    assert_eq!(router.subscribe_to(client, "1@video"), DONE);
    assert_eq!(router.log_in(client, granted("1001", "{}")), DONE);
    assert_eq!(router.directory.session_count(), 1, "one connection is one session");
    assert_eq!(router.subscribe_to(client, "@user"), DONE);
    assert_eq!(router.log_in(client, granted("1001", "{}")), DONE, "a newer token of the same user");
    router.publish("video:1", "[1]");
    router.publish("user:1001", "[2]");
    let events = [r#"{"event":"1@video","data":1}"#, r#"{"event":"@user","data":2}"#];
    assert_eq!(router.hear(client), events);
    assert_eq!(router.log_in(client, granted("1002", "{}")), DONE);
    router.publish("video:1", "[3]");
    router.publish("user:1001", "[4]");
    assert_eq!(router.hear(client), [""; 0]);
    assert_eq!(router.subscribe_to(client, "@user"), DONE);
    router.publish("user:1002", "[5]");
    assert_eq!(router.hear(client), [r#"{"event":"@user","data":5}"#]);
    assert_eq!(router.shards[0].counters().sessions, 1);
}

#[test]
fn a_token_that_is_not_accepted_changes_nothing() {
    let mut router = open_center();
    let client = router.user(0, "1001");
    assert_eq!(router.subscribe_to(client, "@user"), DONE);
    for (denial, answer) in [
        (Denial::Refused, r#"{"code":5,"msg":"Auth failed"}"#),
        (Denial::Busy, r#"{"code":6,"msg":"Auth backend unavailable"}"#),
        (Denial::Failed, r#"{"code":6,"msg":"Auth backend unavailable"}"#),
        (Denial::Unavailable, r#"{"code":6,"msg":"Auth backend unavailable"}"#),
    ] {
        assert_eq!(router.log_in(client, Err(denial)), answer);
        router.publish("user:1001", "[1]");
        assert_eq!(router.hear(client), [r#"{"event":"@user","data":1}"#]);
    }
    assert_eq!((router.errors(ErrorCode::AuthFailed), router.errors(ErrorCode::AuthUnavailable)), (1, 3));
}

#[test]
fn where_nobody_is_anonymous_a_login_comes_first() {
    let mut router = center("named", OnError::Keep, Limits::default(), &[]);
    let client = router.connect_to_center(0);
    assert_eq!(router.directory.session_count(), 0);
    assert_eq!(router.subscribe_to(client, "1@video"), NOT_AUTH, "a public channel too");
    assert_eq!(router.log_in(client, Err(Denial::Refused)), r#"{"code":5,"msg":"Auth failed"}"#);
    assert_eq!(router.subscribe_to(client, "1@video"), NOT_AUTH);
    assert_eq!(router.log_in(client, granted("1001", "{}")), DONE);
    assert_eq!(router.subscribe_to(client, "1@video"), DONE);
}

#[test]
fn a_channel_may_have_what_the_hook_said_of_the_user() {
    let mut router = open_center();
    let client = router.connect_to_center(0);
    assert_eq!(router.log_in(client, granted("1001", r#"{"team":9007199254740993,"more":"x"}"#)), DONE);
    assert_eq!(router.subscribe_to(client, "@team"), DONE);
    router.publish("team:9007199254740993", "[1]");
    assert_eq!(router.hear(client), [r#"{"event":"@team","data":1}"#]);
    let other = router.user(0, "1002");
    assert_eq!(router.subscribe_to(other, "@team"), r#"{"code":8,"msg":"Permission denied"}"#);
}

#[test]
fn each_client_is_told_its_own_name_for_a_topic() {
    let mut router = open_center();
    let (one, other) = (router.user(0, "1"), router.user(0, "1"));
    assert_eq!(router.subscribe_to(one, "@user"), DONE);
    assert_eq!(router.subscribe_to(other, "me"), DONE);
    router.publish("user:1", "[1]");
    assert_eq!(router.hear(one), [r#"{"event":"@user","data":1}"#]);
    assert_eq!(router.hear(other), [r#"{"event":"me","data":1}"#]);
    // The newer name of one client holds, and the older one's end is nothing.
    assert_eq!(router.subscribe_to(one, "me"), DONE);
    assert_eq!(router.unsubscribe_from(one, "@user"), DONE);
    router.publish("user:1", "[2]");
    assert_eq!(router.hear(one), [r#"{"event":"me","data":2}"#]);
    assert_eq!(router.shards[0].counters().streams, 1, "they share one stream");
}

#[test]
fn each_mistake_is_answered_and_counted() {
    let mut router = open_center();
    let client = router.connect_to_center(0);
    for (message, answer) in [
        ("hello", r#"{"code":2,"msg":"Invalid JSON"}"#),
        (r#"{"op":"join"}"#, r#"{"code":3,"msg":"Unknown op"}"#),
        (r#"{"op":"subscribe"}"#, INVALID_CHANNEL),
        (r#"{"op":"auth"}"#, r#"{"code":5,"msg":"Auth failed"}"#),
    ] {
        assert_eq!(router.ask_center(client, message), answer);
    }
    assert_eq!(router.say_bytes(client, Kind::Binary, br#"{"op":"auth","token":"x"}"#), Flow::Continue);
    assert_eq!(router.hear(client), [r#"{"code":9,"msg":"Text frames only"}"#]);
    assert_eq!(router.subscribe_to(client, "1@video"), DONE, "the connection goes on");
    use ErrorCode::{AuthFailed, InvalidChannel, InvalidJson, TextOnly, UnknownOp};
    for code in [InvalidJson, UnknownOp, InvalidChannel, AuthFailed, TextOnly] {
        assert_eq!(router.errors(code), 1, "{code:?}");
    }
}

#[test]
fn where_errors_close_the_connection_they_are_told_first() {
    for (message, answer, close) in [
        ("hello", r#"{"code":2,"msg":"Invalid JSON"}"#, "close 4002"),
        (r#"{"op":"subscribe","channel":"@user"}"#, NOT_AUTH, "close 4001"),
        (r#"{"op":"subscribe","channel":"user:1"}"#, INVALID_CHANNEL, "close 4004"),
    ] {
        let mut router = center("both", OnError::Close, Limits::default(), &[]);
        let client = router.connect_to_center(0);
        assert_eq!(router.say(client, message), Flow::Closing);
        assert_eq!(router.hear(client), [answer, close]);
        assert_eq!(router.directory.session_count(), 0);
    }
    let mut router = center("both", OnError::Close, Limits::default(), &[]);
    let client = router.connect_to_center(0);
    assert_eq!(router.say(client, r#"{"op":"auth","token":"x"}"#), Flow::Pause);
    let question = router.question(0);
    let now = router.now;
    router.shards[0].handle_verdict(now, question.verdict(Err(Denial::Refused)));
    assert_eq!(router.hear(client), [r#"{"code":5,"msg":"Auth failed"}"#, "close 4005"]);
}

#[test]
fn limits_and_permissions_have_their_errors() {
    let limits = Limits { subscriptions_max: 2, ..Limits::default() };
    let mut router = center("both", OnError::Keep, limits, &[]);
    let client = router.connect_to_center(0);
    assert_eq!(
        [router.subscribe_to(client, "1@video"), router.subscribe_to(client, "2@video")],
        [DONE, DONE]
    );
    assert_eq!(router.subscribe_to(client, "3@video"), r#"{"code":7,"msg":"Limit exceeded"}"#);
    assert_eq!(router.subscribe_to(client, "2@video"), DONE, "it has that one");
    // Nothing but `ok.*` is allowed there.
    let mut router = center("closed", OnError::Keep, Limits::default(), &[]);
    let client = router.connect_to_center(0);
    assert_eq!(router.subscribe_to(client, "1@video"), r#"{"code":8,"msg":"Permission denied"}"#);
    assert_eq!(router.subscribe_to(client, "a/b"), DONE);
}

#[test]
fn a_hook_may_decide_on_a_subscription() {
    let hook = hook(0, HookEvent::Subscribe, "video:");
    let mut router = center("both", OnError::Keep, Limits::default(), &[hook]);
    let client = router.connect_to_center(0);
    for (verdict, answer) in [
        (Err(Denial::Refused), r#"{"code":8,"msg":"Permission denied"}"#),
        (Err(Denial::Unavailable), r#"{"code":6,"msg":"Auth backend unavailable"}"#),
        (Ok(Grant::default()), DONE),
    ] {
        assert_eq!(router.say(client, r#"{"op":"subscribe","channel":"1@video"}"#), Flow::Pause);
        let question = router.question(0);
        let Subject::Subscribe { uri, .. } = &question.subject else { panic!("{question:?}") };
        assert_eq!(&**uri, "video:1");
        let now = router.now;
        router.shards[0].handle_verdict(now, question.verdict(verdict));
        assert_eq!(router.hear(client), [answer]);
    }
    router.publish("video:1", "[1]");
    assert_eq!(router.hear(client), [r#"{"event":"1@video","data":1}"#]);
}

#[test]
fn it_is_in_the_lists_of_receivers_by_its_name() {
    let mut router = open_center();
    let (one, other) = (router.user(0, "1"), router.user(1, "2"));
    for client in [one, other] {
        assert_eq!(router.subscribe_to(client, "1@video"), DONE);
    }
    let publisher = router.join_realm(1, "both");
    router.say(publisher, r#"[16,1,{"eligible_authid":["2"]},"video:1",[1]]"#);
    assert_eq!(router.hear(other), [r#"{"event":"1@video","data":1}"#]);
    assert_eq!(router.hear(one), [""; 0]);
}

#[test]
fn the_router_says_goodbye_with_a_close_frame() {
    let mut router = open_center();
    let client = router.user(0, "1");
    assert_eq!(router.subscribe_to(client, "@user"), DONE);
    let now = router.now;
    router.shards[0].shut_down(now, client.1);
    assert_eq!(router.hear(client), ["close 1001"]);
    assert_eq!(router.directory.session_count(), 0);
}
