use fanwire_codec::wamp2::Serializer;
use fanwire_codec::ws::Kind;
use fanwire_core::{Effect, Flow, LoginOutcome};

use crate::support::Router;

const HELLO: &str = r#"[1,"realm1",{"roles":{"subscriber":{}}}]"#;

/// ABORT with this reason, then a close frame with this code, and nothing else.
pub fn assert_aborted(heard: &[String], reason: &str, code: u16) {
    assert_eq!(heard.len(), 2, "{heard:?}");
    assert!(heard[0].starts_with("[3,{\"message\":\""), "{heard:?}");
    assert!(heard[0].ends_with(&format!(",\"{reason}\"]")), "{heard:?}");
    assert_eq!(heard[1], format!("close {code}"));
}

#[test]
fn hello_is_welcomed_with_roles_and_identity() {
    let mut router = Router::new(1);
    let alice = router.connect(0, Serializer::Json);
    assert_eq!(router.say(alice, HELLO), Flow::Continue);
    let welcome = router.hear_one(alice);
    assert!(welcome.starts_with("[2,"), "{welcome}");
    for part in [
        r#""realm":"realm1""#,
        r#""authrole":"anonymous""#,
        r#""authmethod":"anonymous""#,
        r#""broker":{"features":{"event_history":true,"event_retention":true,"pattern_based_subscription":true,"payload_passthru_mode":true,"publication_trustlevels":true,"publisher_exclusion":true,"publisher_identification":true,"session_meta_api":true,"subscriber_blackwhite_listing":true,"subscription_meta_api":true,"subscription_revocation":true,"topic_reflection":true}}"#,
        r#""dealer":{"features":{"call_canceling":true,"call_reroute":true,"call_timeout":true,"call_trustlevels":true,"caller_identification":true,"pattern_based_registration":true,"payload_passthru_mode":true,"procedure_reflection":true,"progressive_call_invocations":true,"progressive_call_results":true,"registration_meta_api":true,"registration_revocation":true,"session_meta_api":true,"shared_registration":true,"testament_meta_api":true}}"#,
        r#""agent":"fanwire-test""#,
    ] {
        assert!(welcome.contains(part), "{part} in {welcome}");
    }
    assert_eq!(router.effects, [(0, Effect::Established(alice.1))]);
    assert_eq!(router.directory.session_count(), 1);
}

#[test]
fn hello_that_cannot_be_met_is_aborted_with_its_reason() {
    for (hello, reason) in [
        (r#"[1,"nowhere",{"roles":{"caller":{}}}]"#, "wamp.error.no_such_realm"),
        (r#"[1,"shut",{"roles":{"caller":{}}}]"#, "wamp.error.no_matching_auth_method"),
        (r#"[1,"named",{"roles":{"caller":{}}}]"#, "wamp.error.authentication_required"),
        (
            r#"[1,"named",{"roles":{"caller":{}},"authmethods":["anonymous","x"]}]"#,
            "wamp.error.no_matching_auth_method",
        ),
        (
            r#"[1,"named",{"roles":{"caller":{}},"authmethods":["ticket"]}]"#,
            "wamp.error.authentication_required",
        ),
        (
            r#"[1,"named",{"roles":{"caller":{}},"authmethods":["ticket"],"authid":""}]"#,
            "wamp.error.authentication_required",
        ),
        (
            r#"[1,"realm1",{"roles":{"caller":{}},"authmethods":["ticket"]}]"#,
            "wamp.error.no_matching_auth_method",
        ),
    ] {
        let mut router = Router::new(1);
        let alice = router.connect(0, Serializer::Json);
        assert_eq!(router.say(alice, hello), Flow::Closing);
        assert_aborted(&router.hear(alice), reason, 1008);
        assert_eq!(router.directory.session_count(), 0);
        assert_eq!(router.shards[0].counters().logins[LoginOutcome::REFUSED.index()], 1);
    }
}

#[test]
fn anything_but_hello_first_is_a_violation() {
    for message in [
        r#"[16,1,{},"a.b"]"#,
        r#"[32,1,{},"a.b"]"#,
        r#"[6,{},"wamp.close.normal"]"#,
        r#"[5,"signature",{}]"#,
        r#"[2,1,{}]"#,
        "[]",
        "{}",
        "[1]",
        "[1,\"realm1\"]",
        r#"[1,"realm1",{}]"#,
        r#"[1,7,{"roles":{"caller":{}}}]"#,
        "no JSON",
        "[999]",
        "[\"1\"]",
    ] {
        let mut router = Router::new(1);
        let alice = router.connect(0, Serializer::Json);
        assert_eq!(router.say(alice, message), Flow::Closing, "{message}");
        assert_aborted(&router.hear(alice), "wamp.error.protocol_violation", 1002);
    }
}

#[test]
fn violations_of_an_open_session_end_it() {
    for message in [
        HELLO,
        r#"[2,1,{}]"#,
        r#"[17,1,2]"#,
        r#"[33,1,2]"#,
        r#"[36,1,2,{}]"#,
        r#"[50,1,{}]"#,
        r#"[68,1,2,{}]"#,
        r#"[5,"signature",{}]"#,
        r#"[4,"ticket",{}]"#,
        r#"[16,0,{},"a.b"]"#,
        r#"[16,9007199254740993,{},"a.b"]"#,
        r#"[16,"1",{},"a.b"]"#,
        r#"[16,1,{}]"#,
        r#"[16,1,{},"a.b",[],{},7]"#,
        r#"[16,1,{},7]"#,
        r#"[16,1,{"acknowledge":true,"acknowledge":false},"a.b"]"#,
        r#"[16,1,{},"a.b",[1,]]"#,
        r#"[70,1,{}]"#,
        r#"[8,68,1,{},"no.invocation"]"#,
        r#"[8,48,1,{},"not.an.invocation"]"#,
        r#"[123456]"#,
    ] {
        let mut router = Router::new(1);
        let alice = router.join(0);
        let bob = router.join(0);
        assert_eq!(router.say(alice, message), Flow::Closing, "{message}");
        assert_aborted(&router.hear(alice), "wamp.error.protocol_violation", 1002);
        assert_eq!(router.directory.session_count(), 1, "{message}");
        router.say(bob, r#"[32,1,{},"a.b"]"#);
        assert!(router.hear_one(bob).starts_with("[33,1,"), "nobody else is harmed by {message}");
    }
}

#[test]
fn the_wrong_frame_type_is_refused_by_the_websocket() {
    let mut router = Router::new(1);
    let alice = router.join(0);
    assert_eq!(router.say_bytes(alice, Kind::Binary, HELLO.as_bytes()), Flow::Closing);
    assert_eq!(router.hear(alice), ["close 1003"]);
}

#[test]
fn goodbye_is_answered_and_is_the_last_message() {
    let mut router = Router::new(1);
    let alice = router.join(0);
    router.say(alice, r#"[32,1,{},"a.b"]"#);
    router.say(alice, r#"[6,{},"wamp.close.normal"]"#);
    let heard = router.hear(alice);
    assert_eq!(heard[1..], [r#"[6,{},"wamp.close.goodbye_and_out"]"#, "close 1000"]);
    assert!(router.effects.contains(&(0, Effect::Finished(alice.1))));
    assert_eq!((router.directory.session_count(), router.directory.topic_count()), (0, 0));
}

#[test]
fn shut_down_says_goodbye_and_closes_when_it_is_answered() {
    let mut router = Router::new(1);
    let alice = router.join(0);
    let stranger = router.connect(0, Serializer::Json);
    for client in [alice, stranger] {
        router.shards[0].shut_down(router.now, client.1);
    }
    assert_eq!(router.hear(stranger), ["close 1001"]);
    assert_eq!(router.hear_one(alice), r#"[6,{"message":"the router stops"},"wamp.close.system_shutdown"]"#);
    assert_eq!(router.say(alice, r#"[16,1,{},"a.b"]"#), Flow::Continue, "it crossed our GOODBYE");
    assert!(router.hear(alice).is_empty());
    router.say(alice, r#"[6,{},"wamp.close.goodbye_and_out"]"#);
    assert_eq!(router.hear(alice), ["close 1001"]);
    assert_eq!(router.shards[0].counters().sessions, 0);
}

#[test]
fn shut_down_does_not_wait_for_ever() {
    let mut router = Router::new(1);
    let alice = router.join(0);
    router.shards[0].shut_down(router.now, alice.1);
    router.shards[0].close(router.now, alice.1, 1001, "the router stops");
    assert_eq!(router.hear(alice).last().map(String::as_str), Some("close 1001"));
}

#[test]
fn who_vanishes_leaves_nothing_behind() {
    let mut router = Router::new(2);
    let alice = router.join(1);
    router.say(alice, r#"[32,1,{},"a.b"]"#);
    router.say(alice, r#"[64,2,{},"p.q"]"#);
    router.vanish(alice);
    router.settle();
    let directory = &router.directory;
    assert_eq!(
        (directory.session_count(), directory.topic_count(), directory.registration_count()),
        (0, 0, 0)
    );
    let counters = router.shards[1].counters();
    assert_eq!(
        (counters.sessions, counters.subscriptions, counters.registrations, counters.streams),
        (0, 0, 0, 0)
    );
}

#[test]
#[cfg(feature = "mutations")]
fn a_panic_while_decoding_ends_one_session() {
    use fanwire_core::mutation::{Mutation, plant};

    let mut router = Router::new(1);
    let (alice, bob) = (router.join(0), router.join(0));
    plant(Some(Mutation::DecoderPanics));
    assert_eq!(router.say(alice, r#"[16,1,{},"a.b"]"#), Flow::Closing);
    plant(None);
    assert_eq!(router.hear(alice), ["close 1011"]);
    assert_eq!(router.shards[0].counters().decoder_panics, 1);
    router.say(bob, r#"[32,1,{},"a.b"]"#);
    assert!(router.hear_one(bob).starts_with("[33,1,"), "nobody else is harmed");
}
