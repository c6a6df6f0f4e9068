//! Logins by several steps, with the test in the place of whoever knows the users.

use fanwire_codec::payload::OwnedPayload;
use fanwire_codec::wamp2::Serializer;
use fanwire_core::ids::RoleId;
use fanwire_core::login::{Challenge, Exchange, LoginMethod, Proof};
use fanwire_core::question::{Denial, Grant, Question, Subject};
use fanwire_core::{Arrival, Effect, Flow, LoginOutcome};

use crate::session::assert_aborted;
use crate::support::{Client, Router, number};

fn hello(methods: &str, more: &str) -> String {
    format!(r#"[1,"every",{{"roles":{{"caller":{{}}}},"authmethods":{methods}{more}}}]"#)
}

/// A client that waits for its challenge.
fn waiting(router: &mut Router, methods: &str, more: &str) -> Client {
    let client = router.connect(0, Serializer::Json);
    assert_eq!(router.say(client, &hello(methods, more)), Flow::Pause);
    client
}

fn challenge(method: LoginMethod, extra: &str, exchange: Option<Exchange>) -> Grant {
    let extra = OwnedPayload::checked(Serializer::Json, None, Some(extra.as_bytes())).expect("it is right");
    let challenge = Some(Box::new(Challenge { method, extra, exchange }));
    Grant { challenge, ..Grant::default() }
}

fn decide(router: &mut Router, question: &Question, outcome: Result<Grant, Denial>) {
    router.shards[0].handle_verdict(router.now, question.verdict(outcome));
}

fn logins(router: &Router, method: LoginMethod, arrival: Arrival) -> u64 {
    router.shards[0].counters().logins[LoginOutcome::of(method, arrival).index()]
}

const ANN: &str = r#","authid":"ann","authextra":{"nonce":"AAAA"}"#;

#[test]
fn who_knows_the_users_is_asked_for_a_challenge_and_then_for_the_verdict() {
    let mut router = Router::new(1);
    let ann = waiting(&mut router, r#"["nonsense","scram","wampcra","scram"]"#, ANN);
    assert_eq!(router.hear(ann), [""; 0]);
    let question = router.question(0);
    let Subject::Hello { authid, methods, extra, session, channel, version_1: false } = &question.subject
    else {
        panic!("{question:?}")
    };
    assert_eq!(authid.as_deref(), Some("ann"));
    assert_eq!(methods[..], [LoginMethod::Scram, LoginMethod::WampCra], "the client's order, each once");
    assert_eq!(extra.view().kwargs, Some(br#"{"nonce":"AAAA"}"#.as_slice()));
    assert_eq!(*channel, None);
    let grant = challenge(LoginMethod::WampCra, r#"{"challenge":"sign"}"#, Some(Exchange::new(17_u32)));
    decide(&mut router, &question, Ok(grant));
    assert_eq!(router.hear(ann), [r#"[4,"wampcra",{"challenge":"sign"}]"#]);
    assert_eq!(router.effects, [(0, Effect::Resume(ann.1))]);
    assert_eq!(router.say(ann, r#"[5,"signed",{"more":1}]"#), Flow::Pause);
    let answered = router.question(0);
    let Subject::Login { authid, proof: Proof::Answer(answer), .. } = &answered.subject else {
        panic!("{answered:?}")
    };
    assert_eq!((authid.as_deref(), answer.signature.expose()), (Some("ann"), "signed"));
    assert_eq!(answer.extra.view().kwargs, Some(br#"{"more":1}"#.as_slice()));
    assert_eq!(answer.exchange.get::<u32>(), Some(&17));
    assert!(!format!("{answered:?}").contains("signed"), "a proof is never shown");
    let promised = session.get();
    decide(&mut router, &answered, Ok(Grant::of_user(RoleId::new(0))));
    let welcome = router.hear_one(ann);
    assert_eq!(number(&welcome, 1), promised, "the id that the challenge may say");
    assert!(
        welcome.contains(r#""authid":"ann""#) && welcome.contains(r#""authmethod":"wampcra""#),
        "{welcome}"
    );
    assert_eq!(logins(&router, LoginMethod::WampCra, Arrival::Welcomed), 1);
}

#[test]
fn there_may_be_several_steps() {
    let mut router = Router::new(1);
    let ann = waiting(&mut router, r#"["wampcra","ticket"]"#, ANN);
    for method in [LoginMethod::WampCra, LoginMethod::Ticket, LoginMethod::WampCra] {
        let question = router.question(0);
        let exchange = (method != LoginMethod::Ticket).then(|| Exchange::new(()));
        decide(&mut router, &question, Ok(challenge(method, "{}", exchange)));
        assert_eq!(router.hear(ann), [format!(r#"[4,"{}",{{}}]"#, method.name())]);
        assert_eq!(router.say(ann, r#"[5,"step",{}]"#), Flow::Pause);
    }
    let question = router.question(0);
    decide(&mut router, &question, Err(Denial::Refused));
    assert_aborted(&router.hear(ann), "wamp.error.authentication_denied", 1008);
    assert_eq!(logins(&router, LoginMethod::WampCra, Arrival::Denied), 1);
    // A ticket's answer is a ticket.
    let bob = waiting(&mut router, r#"["wampcra","ticket"]"#, ANN);
    let question = router.question(0);
    decide(&mut router, &question, Ok(challenge(LoginMethod::Ticket, "{}", None)));
    router.hear(bob);
    router.say(bob, r#"[5,"secret",{}]"#);
    let Subject::Login { proof: Proof::Ticket(ticket), .. } = &router.question(0).subject else { panic!() };
    assert_eq!(ticket.expose(), "secret");
}

#[test]
fn a_key_says_who_it_is_and_other_methods_do_not() {
    let mut router = Router::new(1);
    let ann = waiting(&mut router, r#"["ticket","cryptosign","wampcra"]"#, "");
    let question = router.question(0);
    let Subject::Hello { authid: None, methods, .. } = &question.subject else { panic!("{question:?}") };
    assert_eq!(methods[..], [LoginMethod::Cryptosign]);
    let grant = challenge(LoginMethod::Cryptosign, "{}", Some(Exchange::new(())));
    decide(&mut router, &question, Ok(Grant { authid: Some("ann".into()), ..grant }));
    router.hear(ann);
    router.say(ann, r#"[5,"signed",{}]"#);
    let question = router.question(0);
    let Subject::Login { authid, .. } = &question.subject else { panic!("{question:?}") };
    assert_eq!(authid.as_deref(), Some("ann"));
    let nameless = router.connect(0, Serializer::Json);
    router.say(nameless, &hello(r#"["ticket","wampcra"]"#, ""));
    assert_aborted(&router.hear(nameless), "wamp.error.authentication_required", 1008);
}

#[test]
fn nobody_becomes_anonymous_who_could_have_logged_in() {
    let mut router = Router::new(1);
    waiting(&mut router, r#"["wampcra","anonymous","scram"]"#, ANN);
    let question = router.question(0);
    let Subject::Hello { methods, .. } = &question.subject else { panic!("{question:?}") };
    assert_eq!(methods[..], [LoginMethod::WampCra]);
    let anonymous = router.connect(0, Serializer::Json);
    router.say(anonymous, &hello(r#"["nonsense","anonymous","wampcra"]"#, ANN));
    assert!(router.hear_one(anonymous).contains(r#""authmethod":"anonymous""#));
}

/// In each step: the client leaves, says something else, or is denied.
#[test]
fn a_login_that_breaks_off_leaves_nothing_behind() {
    for after_challenge in [false, true] {
        let mut router = Router::new(1);
        let ann = waiting(&mut router, r#"["wampcra"]"#, ANN);
        let question = router.question(0);
        if after_challenge {
            decide(
                &mut router,
                &question,
                Ok(challenge(LoginMethod::WampCra, "{}", Some(Exchange::new(())))),
            );
            router.hear(ann);
        }
        router.vanish(ann);
        assert!(!question.is_wanted());
        decide(&mut router, &question, Ok(challenge(LoginMethod::WampCra, "{}", None)));
        assert_eq!(router.directory.session_count(), 0);
        assert_eq!(logins(&router, LoginMethod::WampCra, Arrival::Abandoned), 1);
    }
    for (message, uri, code) in [
        (r#"[1,"every",{"roles":{"caller":{}}}]"#, "wamp.error.protocol_violation", 1002),
        (r#"[16,1,{},"a.b"]"#, "wamp.error.protocol_violation", 1002),
        (r#"[5]"#, "wamp.error.protocol_violation", 1002),
        (r#"[5,1,{}]"#, "wamp.error.protocol_violation", 1002),
        (r#"[5,"x",[]]"#, "wamp.error.protocol_violation", 1002),
    ] {
        let mut router = Router::new(1);
        let ann = waiting(&mut router, r#"["wampcra"]"#, ANN);
        let question = router.question(0);
        decide(&mut router, &question, Ok(challenge(LoginMethod::WampCra, "{}", Some(Exchange::new(())))));
        router.hear(ann);
        router.say(ann, message);
        assert_aborted(&router.hear(ann), uri, code);
    }
    let mut router = Router::new(1);
    let ann = waiting(&mut router, r#"["wampcra"]"#, ANN);
    let question = router.question(0);
    decide(&mut router, &question, Err(Denial::Busy));
    assert_aborted(&router.hear(ann), "wamp.error.authentication_failed", 1013);
    assert_eq!(logins(&router, LoginMethod::WampCra, Arrival::Unavailable), 1);
}

/// An answer is asked about once: a second one is a violation, and a verdict on the first is none on it.
#[test]
fn a_challenge_is_answered_once() {
    let mut router = Router::new(1);
    let ann = waiting(&mut router, r#"["wampcra"]"#, ANN);
    let first = router.question(0);
    decide(&mut router, &first, Ok(challenge(LoginMethod::WampCra, "{}", Some(Exchange::new(())))));
    router.hear(ann);
    router.say(ann, r#"[5,"signed",{}]"#);
    // The verdict on HELLO comes again, and would let it in.
    decide(&mut router, &first, Ok(Grant::of_user(RoleId::new(0))));
    assert_eq!(router.hear(ann), [""; 0]);
    let answered = router.question(0);
    decide(&mut router, &answered, Ok(Grant::of_user(RoleId::new(0))));
    assert!(router.hear_one(ann).starts_with("[2,"));
    router.say(ann, r#"[5,"signed",{}]"#);
    assert_aborted(&router.hear(ann), "wamp.error.protocol_violation", 1002);
}

#[test]
fn what_a_connection_alone_has_goes_with_the_question_once() {
    let mut router = Router::new(1);
    assert!(router.shards[0].wants_channels());
    let ann = router.connect(0, Serializer::Json);
    router.shards[0].bind_channel(ann.1, [7; 32]);
    router.say(ann, &hello(r#"["cryptosign"]"#, ""));
    let question = router.question(0);
    let Subject::Hello { channel, .. } = &question.subject else { panic!("{question:?}") };
    assert_eq!(channel.as_deref(), Some(&[7; 32]));
    // Too late for this one.
    router.shards[0].bind_channel(ann.1, [8; 32]);
}
