//! Hooks, with the test in the place of the program that is asked.

use std::io::IoSlice;
use std::time::Duration;

use fanwire_codec::payload::OwnedPayload;
use fanwire_codec::wamp2::Serializer;
use fanwire_core::hooks::{HookEvent, HookId, HookRule, HookScope};
use fanwire_core::login::{Challenge, LoginMethod};
use fanwire_core::question::{Denial, Grant, Question, Subject, Told};
use fanwire_core::uri::MatchPolicy;
use fanwire_core::{Arrival, Effect, Flow, FlushBudget, Limits, LoginOutcome, Outlet, Sent, Wire};

use crate::session::assert_aborted;
use crate::support::{Client, Router};

pub fn rule(events: &[HookEvent], uri: &str) -> HookRule {
    HookRule {
        hook: HookId::new(0),
        events: events.to_vec(),
        realms: Vec::new(),
        uri: uri.to_owned(),
        match_policy: MatchPolicy::Prefix,
        payload: true,
        scope: HookScope::default(),
    }
}

fn hooked(events: &[HookEvent], uri: &str) -> Router {
    Router::hooked(2, Limits::default(), &[rule(events, uri)])
}

fn answer(router: &mut Router, shard: usize, question: &Question, outcome: Result<Grant, Denial>) {
    let now = router.now;
    router.shards[shard].handle_verdict(now, question.verdict(outcome));
}

fn allow(router: &mut Router, shard: usize, question: &Question) {
    answer(router, shard, question, Ok(Grant::default()));
}

/// A subscriber of `a.b` on the other shard.
fn listener(router: &mut Router) -> Client {
    let client = router.join(1);
    router.say(client, r#"[32,1,{},"a.b"]"#);
    assert!(router.hear_one(client).starts_with("[33,"));
    client
}

#[test]
fn a_publication_waits_for_its_verdict_and_so_does_what_follows() {
    let mut router = hooked(&[HookEvent::Publish], "a.");
    let (alice, bob) = (router.join(0), listener(&mut router));
    assert_eq!(router.say(alice, r#"[16,1,{"acknowledge":true},"a.b",["one"],{"k":1}]"#), Flow::Pause);
    assert_eq!((router.hear(alice), router.hear(bob)), (vec![], vec![]));
    let question = router.question(0);
    let Subject::Publish { who, uri, payload: Some(payload) } = &question.subject else {
        panic!("{question:?}")
    };
    assert_eq!((&**uri, &*who.authrole, question.hook), ("a.b", "anonymous", Some(HookId::new(0))));
    assert_eq!(payload.view().args, Some(&br#"["one"]"#[..]));
    assert!(question.is_wanted());
    let received = router.shards[0].counters().messages_received;
    allow(&mut router, 0, &question);
    assert!(!question.is_wanted());
    assert!(router.hear_one(bob).ends_with(r#",{},["one"],{"k":1}]"#));
    assert!(router.hear_one(alice).starts_with("[17,1,"));
    assert_eq!(router.effects.last(), Some(&(0, Effect::Resume(alice.1))));
    assert_eq!(router.shards[0].counters().messages_received, received, "it came once");
    // A second answer is no second publication.
    allow(&mut router, 0, &question);
    assert_eq!((router.hear(alice), router.hear(bob)), (vec![], vec![]));
}

#[test]
fn a_question_says_how_many_bytes_wait_for_it() {
    let events = [HookEvent::Publish, HookEvent::Call, HookEvent::Subscribe, HookEvent::Register];
    let mut router = hooked(&events, "a.");
    let large = "x".repeat(10_000);
    for message in [
        format!(r#"[16,1,{{}},"a.b",["{large}"]]"#),
        format!(r#"[48,1,{{}},"a.b",["{large}"]]"#),
        format!(r#"[32,1,{{"x_more":"{large}"}},"a.b"]"#),
        format!(r#"[64,1,{{"x_more":"{large}"}},"a.b"]"#),
    ] {
        let [first, second] = [router.join(0), router.join(0)];
        router.say(first, &message);
        router.say(second, r#"[48,1,{},"a.b"]"#);
        let held: Vec<_> = router.shards[0].questions().map(|question| question.held).collect();
        assert_eq!(held, [message.len(), r#"[48,1,{},"a.b"]"#.len()], "each has its own");
    }
}

#[test]
fn other_topics_and_other_sessions_are_not_asked_about() {
    let mut router = hooked(&[HookEvent::Publish], "a.");
    let (alice, bob, carol) = (router.join(0), listener(&mut router), router.join(0));
    assert_eq!(router.say(alice, r#"[16,1,{},"b.a",[]]"#), Flow::Continue);
    assert_eq!(router.say(alice, r#"[32,2,{},"a.b"]"#), Flow::Continue, "only publications are asked about");
    assert_eq!(router.say(alice, r#"[16,3,{},"a.b",["late"]]"#), Flow::Pause);
    assert_eq!(router.say(carol, r#"[16,1,{},"a.b",["early"]]"#), Flow::Pause);
    let questions: Vec<_> = router.shards[0].questions().collect();
    allow(&mut router, 0, &questions[1]);
    assert!(router.hear_one(bob).contains("early"));
    allow(&mut router, 0, &questions[0]);
    assert!(router.hear_one(bob).contains("late"));
}

#[test]
fn each_denial_of_a_request_has_its_error() {
    let told = Told { error: Some("com.full".into()), message: Some("no room".into()) };
    for (denial, error) in [
        (Denial::Refused, r#""wamp.error.not_authorized",["the hook does not allow to subscribe to a.b"]"#),
        (Denial::Told(Box::new(told)), r#""com.full",["no room"]"#),
        (Denial::Busy, r#""wamp.error.authorization_failed",["too many questions wait"#),
        (
            Denial::Unavailable,
            r#""wamp.error.authorization_failed",["the hook that decides who may subscribe to a.b could not"#,
        ),
    ] {
        let mut router = hooked(&[HookEvent::Subscribe, HookEvent::Publish], "");
        let alice = router.join(0);
        assert_eq!(router.say(alice, r#"[32,7,{},"a.b"]"#), Flow::Pause);
        let question = router.question(0);
        assert!(
            matches!(&question.subject, Subject::Subscribe { uri, policy: MatchPolicy::Exact, .. } if &**uri == "a.b")
        );
        answer(&mut router, 0, &question, Err(denial.clone()));
        let heard = router.hear_one(alice);
        assert!(heard.starts_with("[8,32,7,{},") && heard.contains(error), "{heard}");
        // Who asked for no acknowledgement hears nothing.
        assert_eq!(router.say(alice, r#"[16,8,{},"a.b",[]]"#), Flow::Pause);
        let question = router.question(0);
        answer(&mut router, 0, &question, Err(denial));
        assert_eq!(router.hear(alice), [""; 0]);
        assert_eq!(router.shards[0].counters().requests_refused, 2);
        assert_eq!(router.shards[0].counters().publications, 0);
    }
}

/// A socket whose peer does not read.
struct Full;

impl Wire for Full {
    fn send(&mut self, _: Outlet, _: &[IoSlice<'_>]) -> Sent {
        Sent::Took(0)
    }
}

#[test]
fn who_does_not_read_what_the_hook_denies_is_held_back() {
    let limits = Limits { reply_reserve_bytes: 1_000, ..Limits::default() };
    let mut router = Router::hooked(1, limits, &[rule(&[HookEvent::Subscribe], "")]);
    let alice = router.join(0);
    let mut asked = 0;
    let resumed = loop {
        asked += 1;
        assert!(asked < 100, "it is never held back");
        assert_eq!(router.say(alice, r#"[32,7,{},"a.b"]"#), Flow::Pause);
        let question = router.question(0);
        answer(&mut router, 0, &question, Err(Denial::Refused));
        router.shards[0].flush(router.now, &mut Full, &FlushBudget::default());
        let effects: Vec<_> = router.shards[0].effects().collect();
        if !effects.contains(&Effect::Resume(alice.1)) {
            break asked - 1;
        }
    };
    assert!((5..20).contains(&resumed), "{resumed} answers of some 100 bytes");
    assert_eq!(router.shards[0].counters().held, 1);
    // It reads them all.
    router.shards[0].writable(alice.1);
    assert_eq!(router.hear_now(alice).len(), asked);
    assert!(router.shards[0].effects().any(|effect| effect == Effect::Resume(alice.1)));
}

#[test]
fn what_the_role_may_not_have_is_refused_without_a_question() {
    let mut router = hooked(&[HookEvent::Subscribe, HookEvent::Publish], "");
    let alice = router.join_realm(0, "closed");
    for request in [r#"[32,1,{},"no"]"#, r#"[16,1,{"acknowledge":true},"no"]"#, r#"[32,1,{},"a b"]"#] {
        assert_eq!(router.say(alice, request), Flow::Continue);
        assert!(router.hear_one(alice).starts_with("[8,"));
        assert!(!router.shards[0].has_questions());
    }
}

#[test]
fn a_pattern_that_could_bring_such_topics_is_asked_about() {
    let mut router = hooked(&[HookEvent::Subscribe], "a.b.");
    let alice = router.join(0);
    assert_eq!(router.say(alice, r#"[32,1,{"match":"prefix"},"b."]"#), Flow::Continue);
    for pattern in [r#"{"match":"prefix"},"""#, r#"{"match":"wildcard"},"a..c""#] {
        assert_eq!(router.say(alice, &format!("[32,2,{pattern}]")), Flow::Pause, "{pattern}");
        let question = router.question(0);
        allow(&mut router, 0, &question);
    }
    let heard = router.hear(alice);
    assert!(heard.len() == 3 && heard.iter().all(|message| message.starts_with("[33,")), "{heard:?}");
}

#[test]
fn who_leaves_meanwhile_leaves_nothing() {
    let mut router = hooked(&[HookEvent::Publish], "");
    let (alice, bob) = (router.join(0), listener(&mut router));
    router.say(alice, r#"[16,1,{},"a.b",["never"]]"#);
    let question = router.question(0);
    router.vanish(alice);
    assert!(!question.is_wanted());
    allow(&mut router, 0, &question);
    router.shards[0].release(router.now, alice.1);
    // The outlet belongs to another one, which is asked about too.
    router.shards[0].attach(router.now, alice.1);
    router.shards[0].open(router.now, alice.1, Serializer::Json);
    router.say(alice, r#"[1,"realm1",{"roles":{"publisher":{}}}]"#);
    router.hear_one(alice);
    router.say(alice, r#"[16,1,{},"a.b",["mine"]]"#);
    let mine = router.question(0);
    allow(&mut router, 0, &question);
    assert_eq!(router.hear(bob), [""; 0], "that was another one's verdict");
    allow(&mut router, 0, &mine);
    assert!(router.hear_one(bob).contains("mine"));
}

#[test]
fn a_question_that_nobody_answers_has_its_time() {
    let limits = Limits { question_max: Duration::from_secs(3), ..Limits::default() };
    let mut router = Router::hooked(1, limits, &[rule(&[HookEvent::Subscribe], "")]);
    let (alice, carol) = (router.join(0), router.join(0));
    let began = router.now;
    router.say(alice, r#"[32,1,{},"a.b"]"#);
    router.say(carol, r#"[32,1,{},"a.b"]"#);
    let questions: Vec<_> = router.shards[0].questions().collect();
    assert_eq!(router.shards[0].next_deadline(), Some(began + Duration::from_secs(3)));
    allow(&mut router, 0, &questions[1]);
    router.now = began + Duration::from_secs(3);
    let now = router.now;
    router.shards[0].handle_timeout(now);
    assert!(router.hear_one(carol).starts_with("[33,1,"));
    assert!(router.hear_one(alice).contains("wamp.error.authorization_failed"));
    assert_eq!(router.shards[0].next_deadline(), None, "nothing is awaited");
    allow(&mut router, 0, &questions[0]);
    assert_eq!(router.hear(alice), [""; 0]);
    assert_eq!(router.say(alice, r#"[34,2,5]"#), Flow::Continue, "it is listened to again");
}

#[test]
fn connect_is_asked_before_the_welcome_and_may_change_who_it_is() {
    let mut router = hooked(&[HookEvent::Connect], "");
    let alice = router.connect(0, Serializer::MsgPack);
    let hello: Vec<u8> = [&b"\x93\x01\xa6realm1\x81\xa5roles\x81\xa6caller\x80"[..]].concat();
    assert_eq!(router.say_bytes(alice, fanwire_codec::ws::Kind::Binary, &hello), Flow::Pause);
    let question = router.question(0);
    let Subject::Connect { authid: None, method: LoginMethod::Anonymous, .. } = &question.subject else {
        panic!("{question:?}")
    };
    assert_eq!((router.hear(alice), router.directory.session_count()), (vec![], 0));
    let extra = OwnedPayload::checked(Serializer::Json, None, Some(br#"{"n":1}"#)).expect("JSON");
    let grant = Grant {
        authid: Some("alice".into()),
        provider: "hook",
        extra: Some(Box::new(extra)),
        ..Grant::default()
    };
    answer(&mut router, 0, &question, Ok(grant));
    let welcome = router.hear_one(alice);
    let hex = |text: &str| text.bytes().map(|byte| format!("{byte:02x}")).collect::<String>();
    for text in ["alice", "hook", "authextra\u{81}\u{a1}n\u{1}"] {
        let hex = hex(text).replace("c281", "81").replace("c2a1", "a1");
        assert!(welcome.contains(&hex), "{text:?} in {welcome}");
    }
    assert_eq!(
        router.shards[0].counters().logins
            [LoginOutcome::of(LoginMethod::Anonymous, Arrival::Welcomed).index()],
        1
    );
}

#[test]
fn connect_may_be_denied_or_fail() {
    for (denial, reason, code, outcome) in [
        (
            Denial::Refused,
            "wamp.error.not_authorized",
            1008,
            LoginOutcome::of(LoginMethod::Anonymous, Arrival::Denied),
        ),
        (
            Denial::Busy,
            "wamp.error.authentication_failed",
            1013,
            LoginOutcome::of(LoginMethod::Anonymous, Arrival::Unavailable),
        ),
        (
            Denial::Unavailable,
            "wamp.error.authentication_failed",
            1013,
            LoginOutcome::of(LoginMethod::Anonymous, Arrival::Unavailable),
        ),
    ] {
        let mut router = hooked(&[HookEvent::Connect, HookEvent::Disconnect], "");
        let alice = router.connect(0, Serializer::Json);
        router.say(alice, r#"[1,"realm1",{"roles":{"caller":{}}}]"#);
        let question = router.question(0);
        answer(&mut router, 0, &question, Err(denial));
        assert_aborted(&router.hear(alice), reason, code);
        assert_eq!(router.shards[0].counters().logins[outcome.index()], 1);
        assert!(!router.shards[0].has_questions(), "who was never welcomed does not leave");
    }
    let mut router = hooked(&[HookEvent::Connect], "");
    let alice = router.connect(0, Serializer::Json);
    router.say(alice, r#"[1,"realm1",{"roles":{"caller":{}}}]"#);
    router.vanish(alice);
    assert_eq!(
        router.shards[0].counters().logins
            [LoginOutcome::of(LoginMethod::Anonymous, Arrival::Abandoned).index()],
        1
    );
}

#[test]
fn a_login_by_hook_needs_no_authid_and_connect_comes_after_it() {
    let mut router = hooked(&[HookEvent::Authenticate, HookEvent::Connect], "");
    let alice = router.connect(0, Serializer::Json);
    let hello = r#"[1,"realm1",{"roles":{"caller":{}},"authmethods":["ticket"]}]"#;
    assert_eq!(router.say(alice, hello), Flow::Continue);
    assert_eq!(router.hear_one(alice), r#"[4,"ticket",{}]"#);
    assert_eq!(router.say(alice, r#"[5,"secret!!!",{}]"#), Flow::Pause);
    let login = router.question(0);
    assert!(login.hook.is_some() && matches!(&login.subject, Subject::Login { authid: None, .. }));
    let role = Some(fanwire_core::ids::RoleId::new(0));
    let grant = Grant { role, authid: Some("1001".into()), provider: "hook", ..Grant::default() };
    answer(&mut router, 0, &login, Ok(grant));
    assert_eq!(router.hear(alice), [""; 0]);
    let connect = router.question(0);
    let Subject::Connect { authid: Some(authid), method: LoginMethod::Ticket, .. } = &connect.subject else {
        panic!("{connect:?}")
    };
    assert_eq!(&**authid, "1001");
    // The answer to the first question is none to the second.
    allow(&mut router, 0, &login);
    assert_eq!(router.directory.session_count(), 0);
    allow(&mut router, 0, &connect);
    let welcome = router.hear_one(alice);
    for part in [r#""authid":"1001""#, r#""authmethod":"ticket""#, r#""authprovider":"hook""#] {
        assert!(welcome.contains(part), "{part} in {welcome}");
    }
    assert_eq!(router.effects, [(0, Effect::Established(alice.1)), (0, Effect::Resume(alice.1))]);
}

/// A hook that decides on tickets is told what HELLO says beside them; one that does not is not asked about them.
#[test]
fn a_tickets_hook_is_told_what_hello_says() {
    let hello = |methods: &str| {
        format!(
            r#"[1,"both",{{"roles":{{"caller":{{}}}},"authid":"joe","authmethods":[{methods}],"authextra":{{"device":7}}}}]"#
        )
    };
    for methods in [r#""ticket""#, r#""wampcra","ticket""#] {
        let mut scope = HookScope::default();
        scope.methods.extend([LoginMethod::WampCra, LoginMethod::Ticket]);
        let rule = HookRule { scope, ..rule(&[HookEvent::Authenticate], "") };
        let mut router = Router::hooked(1, Limits::default(), &[rule]);
        let joe = router.connect(0, Serializer::Json);
        router.say(joe, &hello(methods));
        if methods.contains("wampcra") {
            let asked = router.question(0);
            let extra = OwnedPayload::checked(Serializer::Json, None, Some(b"{}")).expect("JSON");
            let challenge = Challenge { method: LoginMethod::Ticket, extra, exchange: None };
            let grant = Grant { challenge: Some(Box::new(challenge)), ..Grant::default() };
            answer(&mut router, 0, &asked, Ok(grant));
        }
        assert_eq!(router.hear_one(joe), r#"[4,"ticket",{}]"#, "{methods}");
        router.say(joe, r#"[5,"secret!!!",{}]"#);
        let asked = router.question(0);
        let Subject::Login { extra: Some(extra), .. } = &asked.subject else { panic!("{asked:?}") };
        assert_eq!((asked.hook.is_some(), extra.view().kwargs), (true, Some(&br#"{"device":7}"#[..])));
    }
    let mut scope = HookScope::default();
    scope.methods.push(LoginMethod::WampCra);
    let rule = HookRule { scope, ..rule(&[HookEvent::Authenticate], "") };
    let mut router = Router::hooked(1, Limits::default(), &[rule]);
    let joe = router.challenged(0, "both", "joe");
    router.say(joe, r#"[5,"secret!!!",{}]"#);
    let asked = router.question(0);
    assert!(
        asked.hook.is_none() && matches!(&asked.subject, Subject::Login { extra: None, .. }),
        "{asked:?}"
    );
}

#[test]
fn a_grant_without_name_or_role_lets_nobody_in() {
    for grant in [Grant::default(), Grant { authid: Some("x".into()), ..Grant::default() }] {
        let mut router = hooked(&[HookEvent::Authenticate], "");
        let alice = router.challenged(0, "realm1", "alice");
        router.say(alice, r#"[5,"secret!!!",{}]"#);
        let login = router.question(0);
        answer(&mut router, 0, &login, Ok(grant));
        assert_aborted(&router.hear(alice), "wamp.error.authentication_failed", 1011);
    }
}

/// A way in which a session ends.
type End<'a> = &'a dyn Fn(&mut Router, Client);

#[test]
fn the_end_of_each_session_is_told_once() {
    let mut router = hooked(&[HookEvent::Disconnect], "");
    let ends: [End<'_>; 4] = [
        &|router, client| router.vanish(client),
        &|router, client| _ = router.say(client, r#"[6,{},"wamp.close.normal"]"#),
        &|router, client| _ = router.say(client, "no JSON"),
        &|router, client| router.shards[client.0].shut_down(router.now, client.1),
    ];
    for end in ends {
        let alice = router.join(0);
        end(&mut router, alice);
        let told = router.question(0);
        assert!(matches!(&told.subject, Subject::Disconnect { who } if who.authid.starts_with("anonymous-")));
        assert!(!told.is_wanted());
        router.vanish(alice);
        assert!(!router.shards[0].has_questions());
        // An answer, if there were one, means nothing.
        allow(&mut router, 0, &told);
    }
}

#[test]
fn calls_and_registrations_wait_for_their_verdicts() {
    let mut router = hooked(&[HookEvent::Call, HookEvent::Register], "a.");
    let (alice, bob) = (router.join(0), router.join(1));
    assert_eq!(router.say(bob, r#"[64,1,{"match":"prefix"},"a.b"]"#), Flow::Pause);
    let question = router.question(1);
    let Subject::Register { who, uri, policy: MatchPolicy::Prefix } = &question.subject else {
        panic!("{question:?}")
    };
    assert_eq!((&**uri, &*who.authrole), ("a.b", "anonymous"));
    allow(&mut router, 1, &question);
    assert!(router.hear_one(bob).starts_with("[65,1,"));
    // What is called before is done before.
    assert_eq!(router.say(alice, r#"[48,1,{},"a.bc",[1]]"#), Flow::Pause);
    let question = router.question(0);
    assert!(matches!(&question.subject, Subject::Call { uri, .. } if &**uri == "a.bc"), "{question:?}");
    assert_eq!(router.hear(bob), [""; 0]);
    allow(&mut router, 0, &question);
    let invocation = router.hear_one(bob);
    assert!(invocation.starts_with("[68,1,") && invocation.ends_with(",[1]]"), "{invocation}");
    router.say(bob, "[70,1,{},[2]]");
    assert!(router.hear_one(alice).starts_with("[50,1,"));
    for (shard, client, message, error) in
        [(0, alice, r#"[48,2,{},"a.b"]"#, "[8,48,2,"), (1, bob, r#"[64,2,{},"a.c"]"#, "[8,64,2,")]
    {
        for (denial, uri) in [
            (Denial::Refused, "wamp.error.not_authorized"),
            (Denial::Unavailable, "wamp.error.authorization_failed"),
        ] {
            assert_eq!(router.say(client, message), Flow::Pause);
            let question = router.question(shard);
            answer(&mut router, shard, &question, Err(denial));
            let heard = router.hear_one(client);
            assert!(heard.starts_with(error) && heard.contains(uri), "{heard}");
        }
    }
    assert_eq!((router.hear(alice), router.hear(bob)), (vec![], vec![]));
}

#[test]
fn what_is_allowed_for_a_session_is_asked_about_once() {
    let keep = || Ok(Grant { keep: true, ..Grant::default() });
    let mut router =
        hooked(&[HookEvent::Publish, HookEvent::Subscribe, HookEvent::Call, HookEvent::Register], "a.");
    let alice = router.join(0);
    for (number, message) in [
        r#"[16,1,{"acknowledge":true},"a.b",[]]"#,
        r#"[32,2,{},"a.b"]"#,
        r#"[32,3,{"match":"prefix"},"a.b"]"#,
        r#"[64,4,{},"a.b"]"#,
        r#"[48,5,{},"a.b"]"#,
    ]
    .into_iter()
    .enumerate()
    {
        assert_eq!(router.say(alice, message), Flow::Pause, "{message}");
        let question = router.question(0);
        answer(&mut router, 0, &question, keep());
        assert!(!router.hear(alice).is_empty(), "{message}");
        let again = message.replacen(&format!(",{},", number + 1), &format!(",{},", number + 101), 1);
        assert_eq!(router.say(alice, &again), Flow::Continue, "{again}");
        router.hear(alice);
    }
    // Other names, other sessions, and what was allowed once alone.
    assert_eq!(router.say(alice, r#"[16,7,{},"a.c",[]]"#), Flow::Pause);
    let question = router.question(0);
    allow(&mut router, 0, &question);
    assert_eq!(router.say(alice, r#"[16,8,{},"a.c",[]]"#), Flow::Pause);
    let bob = router.join(0);
    assert_eq!(router.say(bob, r#"[16,1,{},"a.b",[]]"#), Flow::Pause);
}

#[test]
fn what_is_remembered_of_a_session_is_bounded() {
    let mut router = hooked(&[HookEvent::Publish], "a.");
    let alice = router.join(0);
    for number in 0..300 {
        assert_eq!(router.say(alice, &format!(r#"[16,{},{{}},"a.t{number}",[]]"#, number + 1)), Flow::Pause);
        let question = router.question(0);
        answer(&mut router, 0, &question, Ok(Grant { keep: true, ..Grant::default() }));
    }
    assert_eq!(router.say(alice, r#"[16,400,{},"a.t299",[]]"#), Flow::Continue);
    assert_eq!(router.say(alice, r#"[16,401,{},"a.t0",[]]"#), Flow::Pause, "it was forgotten");
}

#[test]
fn a_verdict_decides_on_disclosure() {
    for (disclose, publishes, expected) in [
        (None, r#"[16,1,{},"a.b",[]]"#, false),
        (None, r#"[16,1,{"disclose_me":true},"a.b",[]]"#, true),
        (Some(true), r#"[16,1,{},"a.b",[]]"#, true),
        (Some(false), r#"[16,1,{"disclose_me":true},"a.b",[]]"#, false),
    ] {
        let mut router = hooked(&[HookEvent::Publish, HookEvent::Call], "a.");
        let (alice, bob) = (router.join(0), listener(&mut router));
        router.say(bob, r#"[64,2,{},"a.b"]"#);
        router.hear_one(bob);
        let calls = publishes.replace("[16,", "[48,");
        for message in [publishes, &calls] {
            assert_eq!(router.say(alice, message), Flow::Pause);
            let question = router.question(0);
            answer(&mut router, 0, &question, Ok(Grant { disclose, ..Grant::default() }));
            let heard = router.hear_one(bob);
            assert_eq!(heard.contains("anonymous"), expected, "{disclose:?} {message}: {heard}");
        }
    }
}

#[test]
fn who_may_answer_is_not_asked_about() {
    let scope = |realm: &str, roles: &[&str]| HookScope {
        roles: roles.iter().map(|&role| role.to_owned()).collect(),
        procedure: Some((realm.to_owned(), "com.authorize".to_owned())),
        ..HookScope::default()
    };
    // The anonymous role of the realm may register everything.
    for (scope, flow) in [
        (scope("realm1", &[]), Flow::Continue),
        (scope("other", &[]), Flow::Pause),
        (scope("other", &["anonymous"]), Flow::Pause),
        (scope("other", &["member"]), Flow::Continue),
        (HookScope::default(), Flow::Pause),
    ] {
        let words = format!("{scope:?}");
        let rule = HookRule { scope, ..rule(&[HookEvent::Publish, HookEvent::Call], "a.") };
        let mut router = Router::hooked(2, Limits::default(), &[rule]);
        for message in [r#"[16,1,{},"a.b",[]]"#, r#"[48,2,{},"a.b"]"#] {
            let alice = router.join(0);
            assert_eq!(router.say(alice, message), flow, "{words} {message}");
        }
    }
}

#[test]
fn a_call_in_parts_that_is_denied_has_one_error() {
    let mut router = hooked(&[HookEvent::Call], "a.");
    let alice = router.connect(0, Serializer::Json);
    router.say(
        alice,
        r#"[1,"realm1",{"roles":{"caller":{"features":{"progressive_call_invocations":true}}}}]"#,
    );
    router.hear_one(alice);
    assert_eq!(router.say(alice, r#"[48,1,{"progress":true},"a.b",[1]]"#), Flow::Pause);
    let question = router.question(0);
    answer(&mut router, 0, &question, Err(Denial::Refused));
    assert!(router.hear_one(alice).starts_with("[8,48,1,"));
    assert_eq!(router.say(alice, r#"[48,1,{"progress":true},"a.b",[2]]"#), Flow::Continue);
    assert_eq!(router.say(alice, r#"[48,1,{},"a.b",[3]]"#), Flow::Continue);
    assert_eq!(router.hear(alice), [""; 0]);
    // The next one is a call of its own.
    assert_eq!(router.say(alice, r#"[48,2,{},"a.b",[1]]"#), Flow::Pause);
}
