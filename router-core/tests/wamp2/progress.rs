//! Results in parts, and calls in parts.

use std::time::Duration;

use fanwire_codec::wamp2::Serializer;
use fanwire_codec::ws::Kind;
use fanwire_core::{Effect, Flow, Limits};

use crate::session::assert_aborted;
use crate::support::{Client, Router, number};

/// Callee and caller on one shard, and on two.
pub const PLACES: [(usize, usize); 2] = [(0, 0), (0, 1)];
pub const RESULTS: &[&str] = &["progressive_call_results"];
pub const PARTS: &[&str] = &["progressive_call_invocations"];
pub const TAKES_PARTS: &[&str] =
    &["progressive_call_invocations", "progressive_call_results", "call_canceling"];

/// A callee of `p` with these features, its registration, and a caller.
pub fn registered(places: (usize, usize), callee: &[&str], limits: Limits) -> (Router, Client, u64, Client) {
    let mut router = Router::with(2, limits);
    let callee = router.join_able(places.0, &[], callee);
    let caller = router.join_able(places.1, PARTS, &[]);
    router.say(callee, r#"[64,1,{},"p"]"#);
    let registration = number(&router.hear_one(callee), 2);
    (router, callee, registration, caller)
}

#[test]
fn a_result_in_parts_comes_in_order() {
    for places in PLACES {
        let (mut router, callee, registration, caller) = registered(places, RESULTS, Limits::default());
        router.say(caller, r#"[48,1,{"receive_progress":true},"p",["x"]]"#);
        let invocation = format!(r#"[68,1,{registration},{{"receive_progress":true}},["x"]]"#);
        assert_eq!(router.hear_one(callee), invocation);
        for said in
            [r#"{"progress":true},[1]"#, r#"{"progress":true}"#, r#"{"progress":true},[],{"k":2}"#, "{},[3]"]
        {
            router.say(callee, &format!("[70,1,{said}]"));
        }
        let expected = [
            r#"[50,1,{"progress":true},[1]]"#,
            r#"[50,1,{"progress":true}]"#,
            r#"[50,1,{"progress":true},[],{"k":2}]"#,
            "[50,1,{},[3]]",
        ];
        assert_eq!(router.hear(caller), expected);
        assert_eq!(router.shards[places.1].counters().results_in_parts, 3);
        router.say(callee, r#"[70,1,{"progress":true}]"#);
        assert_aborted(&router.hear(callee), "wamp.error.protocol_violation", 1002);
        assert!(router.hear(caller).is_empty());
    }
}

#[test]
fn parts_may_end_in_an_error_or_with_their_callee() {
    for places in PLACES {
        for leaves in [false, true] {
            let (mut router, callee, _, caller) = registered(places, RESULTS, Limits::default());
            router.say(caller, r#"[48,1,{"receive_progress":true},"p"]"#);
            router.hear_one(callee);
            router.say(callee, r#"[70,1,{"progress":true},[1]]"#);
            if leaves {
                router.vanish(callee);
            } else {
                router.say(callee, r#"[8,68,1,{},"app.broken"]"#);
            }
            let heard = router.hear(caller);
            assert_eq!((heard.len(), &*heard[0]), (2, r#"[50,1,{"progress":true},[1]]"#));
            let error = if leaves { "wamp.error.canceled" } else { "app.broken" };
            assert!(heard[1].starts_with(&format!(r#"[8,48,1,{{}},"{error}""#)), "{heard:?}");
        }
    }
}

#[test]
fn parts_that_nobody_asked_for_are_dropped() {
    for places in PLACES {
        let (mut router, callee, _, caller) = registered(places, RESULTS, Limits::default());
        router.say(caller, r#"[48,1,{},"p"]"#);
        assert!(router.hear_one(callee).ends_with(",{}]"));
        assert_eq!(router.say(callee, r#"[70,1,{"progress":true},[1]]"#), Flow::Continue);
        router.say(callee, "[70,1,{},[2]]");
        assert_eq!(router.hear(caller), ["[50,1,{},[2]]"]);
        assert!(router.hear(callee).is_empty(), "its session lives on");
        assert_eq!(router.shards[places.0].counters().results_discarded, 1);
    }
}

/// As those of Wampy are, which answers in parts all the same.
#[test]
fn who_did_not_announce_it_is_not_asked_for_parts_and_may_send_them() {
    for places in PLACES {
        let (mut router, callee, _, caller) = registered(places, &[], Limits::default());
        router.say(caller, r#"[48,1,{"receive_progress":true},"p"]"#);
        assert!(router.hear_one(callee).ends_with(",{}]"));
        router.say(callee, r#"[70,1,{"progress":true},[1]]"#);
        router.say(callee, "[70,1,{}]");
        assert_eq!(router.hear(caller), [r#"[50,1,{"progress":true},[1]]"#, "[50,1,{}]"]);
    }
}

#[test]
fn parts_end_with_their_caller() {
    for places in PLACES {
        for cancels in [false, true] {
            let (mut router, callee, _, caller) = registered(places, RESULTS, Limits::default());
            router.say(caller, r#"[48,1,{"receive_progress":true},"p"]"#);
            router.hear_one(callee);
            if cancels {
                router.say(caller, "[49,1,{}]");
                assert!(router.hear_one(caller).contains("wamp.error.canceled"));
            } else {
                router.vanish(caller);
            }
            router.settle();
            for said in [r#"[70,1,{"progress":true}]"#, r#"[70,1,{"progress":true}]"#, "[70,1,{}]"] {
                assert_eq!(router.say(callee, said), Flow::Continue);
            }
            assert!(router.hear(callee).is_empty() && router.hear(caller).is_empty());
            assert_eq!(router.shards[places.0].counters().results_discarded, 2, "on the callee's shard");
            assert_eq!(router.calls_pending(), 0);
        }
    }
}

#[test]
fn each_part_gives_the_next_one_the_whole_time() {
    for places in PLACES {
        let (mut router, callee, _, caller) = registered(places, TAKES_PARTS, Limits::default());
        router.say(caller, r#"[48,1,{"receive_progress":true,"timeout":500},"p"]"#);
        router.hear_one(callee);
        for _ in 0..3 {
            router.pass(Duration::from_millis(400));
            router.say(callee, r#"[70,1,{"progress":true}]"#);
            assert_eq!(router.hear(caller).len(), 1);
        }
        router.pass(Duration::from_millis(500));
        assert!(router.hear_one(caller).starts_with(r#"[8,48,1,{},"wamp.error.timeout""#));
        assert_eq!(router.hear(callee), [r#"[69,1,{"mode":"killnowait"}]"#]);
    }
}

#[test]
fn a_callee_whose_parts_find_no_room_is_not_read_meanwhile() {
    let limits = Limits { ring_capacity: 4, ..Limits::default() };
    let (mut router, callee, _, caller) = registered((0, 1), RESULTS, limits);
    router.say(caller, r#"[48,1,{"receive_progress":true},"p"]"#);
    router.hear_one(callee);
    let mut parts = 0;
    while {
        parts += 1;
        router.say(callee, &format!(r#"[70,1,{{"progress":true}},[{parts}]]"#)) == Flow::Continue
    } {
        router.exchange(0);
    }
    assert!(parts <= 5, "{parts}");
    router.settle();
    assert!(router.effects.contains(&(0, Effect::Resume(callee.1))));
    router.say(callee, "[70,1,{}]");
    let mut expected: Vec<String> =
        (1..=parts).map(|part| format!(r#"[50,1,{{"progress":true}},[{part}]]"#)).collect();
    expected.push("[50,1,{}]".to_owned());
    assert_eq!(router.hear(caller), expected);
}

/// Half of a surrogate pair would end the caller's session.
#[test]
fn a_part_that_not_everybody_can_read_ends_the_call_alone() {
    for places in PLACES {
        for (features, interrupt) in [(TAKES_PARTS, Some(r#"[69,1,{"mode":"killnowait"}]"#)), (RESULTS, None)]
        {
            let (mut router, callee, _, caller) = registered(places, features, Limits::default());
            router.say(caller, r#"[48,1,{"receive_progress":true},"p"]"#);
            router.hear_one(callee);
            router.say(callee, r#"[70,1,{"progress":true},["\ud83d"]]"#);
            assert_eq!(router.hear_one(caller), r#"[8,48,1,{},"wamp.error.invalid_argument"]"#);
            assert_eq!(router.hear(callee), Vec::from_iter(interrupt));
            router.say(callee, r#"[70,1,{"progress":true},[2]]"#);
            router.say(callee, "[70,1,{}]");
            assert!(router.hear(caller).is_empty() && router.hear(callee).is_empty());
        }
    }
}

#[test]
fn a_part_that_has_no_form_for_the_caller_ends_the_call() {
    for places in PLACES {
        let mut router = Router::new(2);
        let callee = router.connect(places.0, Serializer::MsgPack);
        // {"roles": {"callee": {"features": {"call_canceling": true}}}}
        let hello =
            b"\x93\x01\xa6realm1\x81\xa5roles\x81\xa6callee\x81\xa8features\x81\xaecall_canceling\xc3";
        router.say_bytes(callee, Kind::Binary, hello);
        router.say_bytes(callee, Kind::Binary, b"\x94\x40\x01\x80\xa1p");
        assert_eq!(router.hear(callee).len(), 2);
        let caller = router.join(places.1);
        router.say(caller, r#"[48,1,{"receive_progress":true},"p"]"#);
        router.hear_one(callee);
        // Not a number, of 8 bytes: JSON has no form for it.
        router.say_bytes(
            callee,
            Kind::Binary,
            b"\x94\x46\x01\x81\xa8progress\xc3\x91\xcb\x7f\xf8\0\0\0\0\0\0",
        );
        assert!(router.hear_one(caller).starts_with(r#"[8,48,1,{},"wamp.error.invalid_argument""#));
        assert!(router.hear_one(callee).starts_with("934501"), "INTERRUPT");
    }
}

// --- calls in parts ------------------------------------------------------------------------------------------------

#[test]
fn a_call_in_parts_is_one_invocation() {
    for places in PLACES {
        let (mut router, callee, registration, caller) = registered(places, TAKES_PARTS, Limits::default());
        router.say(caller, r#"[48,7,{"progress":true,"receive_progress":true},"p",[1]]"#);
        router.say(caller, r#"[48,8,{},"p",["other"]]"#);
        // What else it asks for now does not matter.
        router.say(caller, r#"[48,7,{"progress":true,"disclose_me":true,"timeout":1},"p",[2]]"#);
        router.say(caller, r#"[48,7,{},"p",[3]]"#);
        let both = r#""receive_progress":true,"progress":true"#;
        let expected = [
            format!("[68,1,{registration},{{{both}}},[1]]"),
            format!(r#"[68,2,{registration},{{}},["other"]]"#),
            format!("[68,1,{registration},{{{both}}},[2]]"),
            format!(r#"[68,1,{registration},{{"receive_progress":true}},[3]]"#),
        ];
        assert_eq!(router.hear(callee), expected);
        router.pass(Duration::from_secs(1));
        router.say(callee, r#"[70,1,{"progress":true},[0]]"#);
        router.say(callee, "[70,1,{},[6]]");
        assert_eq!(router.hear(caller), [r#"[50,7,{"progress":true},[0]]"#, "[50,7,{},[6]]"]);
        assert_eq!(router.shards[places.1].counters().calls, 2);
    }
}

#[test]
fn who_calls_in_parts_is_named_in_each() {
    for places in PLACES {
        let mut router = Router::new(2);
        let callee = router.join_able(places.0, &[], TAKES_PARTS);
        let caller = router.join_able(places.1, PARTS, &[]);
        router.say(callee, r#"[64,1,{"match":"prefix"},"p."]"#);
        router.hear_one(callee);
        router.say(caller, r#"[48,1,{"progress":true,"disclose_me":true},"p.x"]"#);
        router.say(caller, r#"[48,1,{},"p.x"]"#);
        let heard = router.hear(callee);
        assert_eq!(heard.len(), 2);
        for invocation in heard {
            assert!(invocation.contains(r#""procedure":"p.x","caller":"#), "{invocation}");
        }
    }
}

#[test]
fn parts_that_come_too_late_are_ignored() {
    for places in PLACES {
        for ending in ["[70,1,{}]", r#"[8,68,1,{},"app.enough"]"#] {
            let (mut router, callee, _, caller) = registered(places, TAKES_PARTS, Limits::default());
            router.say(caller, r#"[48,1,{"progress":true},"p"]"#);
            router.hear_one(callee);
            router.say(callee, ending);
            assert_eq!(router.hear(caller).len(), 1);
            router.say(caller, r#"[48,1,{"progress":true},"p"]"#);
            router.say(caller, r#"[48,1,{},"p"]"#);
            assert!(router.hear(caller).is_empty() && router.hear(callee).is_empty(), "{ending}");
            assert_eq!(router.shards[places.1].counters().call_parts_discarded, 2);
            router.say(caller, r#"[48,2,{},"p"]"#);
            assert!(router.hear_one(callee).starts_with("[68,2,"), "the next call is one");
        }
    }
}

#[test]
fn parts_cross_the_answer_on_their_way() {
    let (mut router, callee, _, caller) = registered((0, 1), TAKES_PARTS, Limits::default());
    router.say(caller, r#"[48,1,{"progress":true},"p"]"#);
    router.hear_one(callee);
    router.say(caller, r#"[48,1,{"progress":true},"p"]"#);
    router.say(callee, "[70,1,{}]");
    assert_eq!(router.hear(caller), ["[50,1,{}]"]);
    assert!(router.hear(callee).is_empty());
}

#[test]
fn parts_of_what_was_cancelled_or_refused_are_ignored() {
    for places in PLACES {
        for mode in ["skip", "kill", "killnowait"] {
            let (mut router, callee, _, caller) = registered(places, TAKES_PARTS, Limits::default());
            router.say(caller, r#"[48,1,{"progress":true},"p"]"#);
            router.hear_one(callee);
            router.say(caller, &format!(r#"[49,1,{{"mode":"{mode}"}}]"#));
            router.hear(callee);
            let answers = router.hear(caller).len();
            assert_eq!(answers, usize::from(mode != "kill"));
            router.say(caller, r#"[48,1,{"progress":true},"p"]"#);
            router.say(caller, r#"[48,1,{},"p"]"#);
            assert!(router.hear(caller).is_empty() && router.hear(callee).is_empty(), "{mode}");
            router.say(callee, "[70,1,{}]");
            assert_eq!(router.hear(caller).len() + answers, 1, "{mode}: one final answer");
        }
    }
    let (mut router, callee, _, caller) = registered((0, 1), TAKES_PARTS, Limits::default());
    router.say(caller, r#"[48,1,{"progress":true},"no.such"]"#);
    assert!(router.hear_one(caller).contains("wamp.error.no_such_procedure"));
    router.say(caller, r#"[48,1,{"progress":true},"p"]"#);
    router.say(caller, r#"[48,1,{},"p"]"#);
    assert!(router.hear(caller).is_empty() && router.hear(callee).is_empty());
}

#[test]
fn who_cannot_take_a_call_in_parts_gets_none() {
    for places in PLACES {
        for features in [&[][..], PARTS, &["call_canceling"]] {
            let (mut router, callee, _, caller) = registered(places, features, Limits::default());
            router.say(caller, r#"[48,1,{"progress":true},"p"]"#);
            let refused = router.hear_one(caller);
            assert!(refused.starts_with(r#"[8,48,1,{},"wamp.error.feature_not_supported""#), "{refused}");
            assert!(router.hear(callee).is_empty());
        }
    }
}

#[test]
fn calls_in_parts_that_break_the_rules_end_the_session() {
    let (mut router, callee, _, caller) = registered((0, 1), TAKES_PARTS, Limits::default());
    let plain = router.join(1);
    router.say(plain, r#"[48,1,{"progress":true},"p"]"#);
    assert_aborted(&router.hear(plain), "wamp.error.protocol_violation", 1002);
    // Another procedure under the same id is no part of the call.
    router.say(caller, r#"[48,1,{"progress":true},"p"]"#);
    router.say(caller, r#"[48,1,{"progress":true},"q"]"#);
    assert_eq!(router.hear(callee).len(), 1);
    // The last part has come.
    router.say(caller, r#"[48,1,{},"p"]"#);
    router.say(caller, r#"[48,1,{},"p"]"#);
    assert_aborted(&router.hear(caller), "wamp.error.protocol_violation", 1002);
    let heard = router.hear(callee);
    assert_eq!((heard.len(), &heard[1][..6]), (2, "[69,1,"), "{heard:?}");
}

#[test]
fn a_request_id_in_use_ends_the_session() {
    let (mut router, _, _, caller) = registered((0, 0), &[], Limits::default());
    router.say(caller, r#"[48,1,{},"p"]"#);
    router.say(caller, r#"[48,1,{},"p"]"#);
    assert_aborted(&router.hear(caller), "wamp.error.protocol_violation", 1002);
}

#[test]
fn callers_and_callees_of_calls_in_parts_may_leave() {
    for places in PLACES {
        let (mut router, callee, _, caller) = registered(places, TAKES_PARTS, Limits::default());
        router.say(caller, r#"[48,1,{"progress":true},"p"]"#);
        router.say(caller, r#"[48,2,{"progress":true},"p"]"#);
        assert_eq!(router.hear(callee).len(), 2);
        router.vanish(callee);
        let heard = router.hear(caller);
        assert!(
            heard.len() == 2 && heard.iter().all(|error| error.contains("wamp.error.canceled")),
            "{heard:?}"
        );
        router.say(caller, r#"[48,1,{},"p"]"#);
        assert!(router.hear(caller).is_empty());

        let (mut router, callee, _, caller) = registered(places, TAKES_PARTS, Limits::default());
        router.say(caller, r#"[48,1,{"progress":true},"p"]"#);
        router.hear_one(callee);
        router.vanish(caller);
        assert_eq!(router.hear(callee), [r#"[69,1,{"mode":"killnowait"}]"#]);
        assert_eq!(router.calls_pending(), 0);
    }
}

#[test]
fn a_caller_whose_parts_find_no_room_is_not_read_meanwhile() {
    let limits = Limits { ring_capacity: 4, ..Limits::default() };
    let (mut router, callee, _, caller) = registered((0, 1), TAKES_PARTS, limits);
    let mut parts = 0;
    while {
        parts += 1;
        router.say(caller, &format!(r#"[48,1,{{"progress":true}},"p",[{parts}]]"#)) == Flow::Continue
    } {
        router.exchange(1);
    }
    router.settle();
    router.say(caller, r#"[48,1,{},"p",["last"]]"#);
    let heard = router.hear(callee);
    assert_eq!(heard.len(), parts + 1);
    for (place, invocation) in heard[..parts].iter().enumerate() {
        assert!(invocation.ends_with(&format!(",[{}]]", place + 1)), "{heard:?}");
    }
}
