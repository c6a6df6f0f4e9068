//! Calls that end before their callee has answered: cancelled, timed out, or left behind.

use std::time::Duration;

use fanwire_core::{Flow, Limits};

use crate::session::assert_aborted;
use crate::support::{Client, Router};

/// Callee and caller on one shard, and on two.
const PLACES: [(usize, usize); 2] = [(0, 0), (0, 1)];
const CANCELED: &str = r#"[8,48,1,{},"wamp.error.canceled""#;
const TIMEOUT: &str = r#"[8,48,1,{},"wamp.error.timeout""#;

/// A callee with these features that is asked for `p` in this way, and its caller.
fn called(places: (usize, usize), callee: &[&str], options: &str) -> (Router, Client, Client) {
    let mut router = Router::new(2);
    let (callee, caller) = (router.join_able(places.0, &[], callee), router.join(places.1));
    router.say(callee, r#"[64,1,{},"p"]"#);
    router.hear_one(callee);
    router.say(caller, &format!(r#"[48,1,{options},"p"]"#));
    assert!(router.hear_one(callee).starts_with("[68,1,"));
    (router, callee, caller)
}

fn asserted_canceled(router: &mut Router, caller: Client) {
    let error = router.hear_one(caller);
    assert!(error.starts_with(CANCELED), "{error}");
}

#[test]
fn a_callee_that_can_be_interrupted_is_killed_as_the_caller_says() {
    for places in PLACES {
        for (cancel, interrupt) in [
            (r#"[49,1,{}]"#, Some(r#"[69,1,{"mode":"killnowait"}]"#)),
            (r#"[49,1,{"mode":"killnowait"}]"#, Some(r#"[69,1,{"mode":"killnowait"}]"#)),
            (r#"[49,1,{"mode":"skip"}]"#, None),
        ] {
            let (mut router, callee, caller) = called(places, &["call_canceling"], "{}");
            router.say(caller, cancel);
            asserted_canceled(&mut router, caller);
            assert_eq!(router.hear(callee), Vec::from_iter(interrupt), "{cancel}");
            assert_eq!(router.calls_pending(), u64::from(interrupt.is_none()), "{cancel}");
            // It had answered before it knew.
            assert_eq!(router.say(callee, r#"[70,1,{},["late"]]"#), Flow::Continue);
            assert!(router.hear(caller).is_empty() && router.hear(callee).is_empty());
            assert_eq!(router.calls_pending(), 0);
        }
    }
}

#[test]
fn what_a_killed_callee_says_is_the_answer() {
    for places in PLACES {
        for (says, hears) in [
            (
                r#"[8,68,1,{},"app.stopped",["half"],{"at":7}]"#,
                r#"[8,48,1,{},"app.stopped",["half"],{"at":7}]"#,
            ),
            (r#"[70,1,{},["done"]]"#, r#"[50,1,{},["done"]]"#),
        ] {
            let (mut router, callee, caller) = called(places, &["call_canceling"], "{}");
            router.say(caller, r#"[49,1,{"mode":"kill"}]"#);
            router.say(caller, r#"[49,1,{"mode":"kill"}]"#);
            assert_eq!(router.hear(callee), [r#"[69,1,{"mode":"kill"}]"#], "once");
            assert!(router.hear(caller).is_empty(), "the callee has the word");
            router.say(callee, says);
            assert_eq!(router.hear(caller), [hears]);
            assert_eq!(router.calls_pending(), 0);
        }
    }
}

#[test]
fn who_waits_for_a_killed_callee_may_lose_patience() {
    for places in PLACES {
        let (mut router, callee, caller) = called(places, &["call_canceling"], "{}");
        router.say(caller, r#"[49,1,{"mode":"kill"}]"#);
        router.say(caller, r#"[49,1,{"mode":"killnowait"}]"#);
        asserted_canceled(&mut router, caller);
        assert_eq!(router.hear(callee), [r#"[69,1,{"mode":"kill"}]"#, r#"[69,1,{"mode":"killnowait"}]"#]);
        router.say(callee, r#"[8,68,1,{},"wamp.error.canceled"]"#);
        assert!(router.hear(caller).is_empty());
    }
}

#[test]
fn a_callee_that_cannot_be_interrupted_is_left_alone() {
    for places in PLACES {
        for mode in ["skip", "kill", "killnowait"] {
            let (mut router, callee, caller) = called(places, &[], "{}");
            router.say(caller, &format!(r#"[49,1,{{"mode":"{mode}"}}]"#));
            asserted_canceled(&mut router, caller);
            assert!(router.hear(callee).is_empty(), "{mode}");
            router.say(callee, "[70,1,{}]");
            assert!(router.hear(caller).is_empty() && router.hear(callee).is_empty(), "{mode}");
        }
    }
}

#[test]
fn callers_that_leave_interrupt_their_callees() {
    for places in PLACES {
        let (mut router, callee, caller) = called(places, &["call_canceling"], "{}");
        router.vanish(caller);
        assert_eq!(router.hear(callee), [r#"[69,1,{"mode":"killnowait"}]"#]);
        assert_eq!(router.calls_pending(), 0);
        assert_eq!(router.say(callee, r#"[8,68,1,{},"wamp.error.canceled"]"#), Flow::Continue);
        assert!(router.hear(callee).is_empty(), "its last word came late");
        // A handler that cannot be stopped goes on behind its library's ERROR.
        assert_eq!(router.say(callee, r#"[70,1,{"progress":true}]"#), Flow::Continue);
        assert_eq!(router.say(callee, "[70,1,{}]"), Flow::Continue);
        assert!(router.hear(callee).is_empty(), "all that it says is late");
        router.say(callee, "[70,2,{}]");
        assert_aborted(&router.hear(callee), "wamp.error.protocol_violation", 1002);
    }
}

#[test]
fn interrupted_calls_count_for_a_second() {
    for places in PLACES {
        let mut router = Router::with(2, Limits { calls_max: 3, ..Limits::default() });
        let (callee, caller) = (router.join_able(places.0, &[], &["call_canceling"]), router.join(places.1));
        router.say(callee, r#"[64,1,{},"p"]"#);
        router.hear_one(callee);
        for request in 1..=3 {
            router.say(caller, &format!(r#"[48,{request},{{}},"p"]"#));
            router.say(caller, &format!("[49,{request},{{}}]"));
        }
        assert_eq!((router.hear(caller).len(), router.calls_pending()), (3, 0));
        assert_eq!(router.hear(callee).len(), 6);
        router.say(caller, r#"[48,4,{},"p"]"#);
        let error = router.hear_one(caller);
        assert!(error.starts_with(r#"[8,48,4,{},"wamp.error.unavailable""#), "{error}");
        router.pass(Duration::from_millis(1_001));
        router.say(caller, r#"[48,5,{},"p"]"#);
        assert_eq!(router.hear(callee).len(), 1);
    }
}

#[test]
fn call_cancel_and_leave_do_not_overtake_each_other() {
    let mut router = Router::new(2);
    let (callee, caller) = (router.join_able(0, &[], &["call_canceling"]), router.join(1));
    router.say(callee, r#"[64,1,{},"p"]"#);
    router.hear_one(callee);
    router.say(caller, r#"[48,1,{},"p"]"#);
    router.say(caller, "[49,1,{}]");
    router.say(caller, r#"[48,2,{},"p"]"#);
    router.vanish(caller);
    let heard = router.hear(callee);
    let kinds: Vec<&str> = heard.iter().map(|message| &message[..6]).collect();
    assert_eq!(kinds, ["[68,1,", "[69,1,", "[68,2,", "[69,2,"], "{heard:?}");
}

#[test]
fn a_cancel_that_fits_nothing_is_answered_as_it_deserves() {
    let mut router = Router::new(1);
    let alice = router.join(0);
    router.say(alice, "[49,77,{}]");
    assert!(router.hear(alice).is_empty(), "CANCEL and RESULT may cross");
    router.say(alice, r#"[49,1,{"mode":"maim"}]"#);
    assert_aborted(&router.hear(alice), "wamp.error.protocol_violation", 1002);
}

#[test]
fn a_call_ends_when_its_time_is_over() {
    for places in PLACES {
        for (features, interrupt) in
            [(&["call_canceling"][..], Some(r#"[69,1,{"mode":"killnowait"}]"#)), (&[], None)]
        {
            let (mut router, callee, caller) = called(places, features, r#"{"timeout":500}"#);
            router.pass(Duration::from_millis(498));
            assert!(router.hear(caller).is_empty());
            router.pass(Duration::from_millis(2));
            let error = router.hear_one(caller);
            assert!(error.starts_with(TIMEOUT), "{error}");
            assert_eq!(router.hear(callee), Vec::from_iter(interrupt));
            router.say(callee, "[70,1,{}]");
            assert!(router.hear(caller).is_empty() && router.hear(callee).is_empty());
            assert_eq!(router.calls_pending(), 0);
        }
    }
}

#[test]
fn a_timeout_ends_a_kill_too() {
    let (mut router, callee, caller) = called((0, 1), &["call_canceling"], r#"{"timeout":500}"#);
    router.say(caller, r#"[49,1,{"mode":"kill"}]"#);
    assert_eq!(router.hear(callee), [r#"[69,1,{"mode":"kill"}]"#]);
    router.pass(Duration::from_millis(500));
    assert!(router.hear_one(caller).starts_with(TIMEOUT));
    assert_eq!(router.hear(callee), [r#"[69,1,{"mode":"killnowait"}]"#]);
}

#[test]
fn the_time_of_a_skipped_call_does_not_hide_it_from_its_callers_end() {
    for places in PLACES {
        let (mut router, callee, caller) = called(places, &["call_canceling"], r#"{"timeout":500}"#);
        router.say(caller, r#"[49,1,{"mode":"skip"}]"#);
        asserted_canceled(&mut router, caller);
        router.pass(Duration::from_millis(500));
        assert!(router.hear(caller).is_empty() && router.hear(callee).is_empty());
        assert_eq!(router.calls_pending(), 1, "its callee works on");
        router.vanish(caller);
        assert_eq!(router.hear(callee), [r#"[69,1,{"mode":"killnowait"}]"#]);
        assert_eq!(router.calls_pending(), 0);
    }
}

#[test]
fn an_answered_call_leaves_no_timer() {
    for places in PLACES {
        for options in [r#"{"timeout":500}"#, r#"{"timeout":0}"#, r#"{"timeout":9007199254740992}"#] {
            let (mut router, callee, caller) = called(places, &["call_canceling"], options);
            router.say(callee, "[70,1,{}]");
            assert_eq!(router.hear_one(caller), "[50,1,{}]");
            assert!(router.shards.iter().all(|shard| shard.next_deadline().is_none()), "{options}");
            router.pass(Duration::from_secs(1));
            assert!(router.hear(caller).is_empty() && router.hear(callee).is_empty());
        }
    }
}

#[test]
fn a_callee_that_wants_the_timeout_gets_it() {
    for places in PLACES {
        for (features, wish, details) in [
            (&["call_timeout"][..], r#"{"forward_timeout":true}"#, r#"{"timeout":500}"#),
            (&["call_timeout"], "{}", "{}"),
            (&[], r#"{"forward_timeout":true}"#, "{}"),
        ] {
            let mut router = Router::new(2);
            let (callee, caller) = (router.join_able(places.0, &[], features), router.join(places.1));
            router.say(callee, &format!(r#"[64,1,{wish},"p"]"#));
            router.hear_one(callee);
            router.say(caller, r#"[48,1,{"timeout":500},"p"]"#);
            let invocation = router.hear_one(callee);
            assert!(invocation.ends_with(&format!(",{details}]")), "{invocation}");
            router.pass(Duration::from_millis(500));
            let is_own = details != "{}";
            assert_eq!(router.hear(caller).is_empty(), is_own, "{features:?} {wish}");
            if is_own {
                router.say(callee, r#"[8,68,1,{},"wamp.error.timeout"]"#);
                assert_eq!(router.hear_one(caller), r#"[8,48,1,{},"wamp.error.timeout"]"#);
            }
        }
    }
}

/// The ring is full: the call waits on the caller's shard, and is over before it can leave.
#[test]
fn a_call_that_could_not_leave_in_its_time_never_does() {
    let limits = Limits { ring_capacity: 4, ..Limits::default() };
    let mut router = Router::with(2, limits);
    let (callee, caller) = (router.join_able(0, &[], &["call_canceling"]), router.join(1));
    router.say(callee, r#"[64,1,{},"p"]"#);
    router.hear_one(callee);
    let mut request = 0;
    while {
        request += 1;
        router.say(caller, &format!(r#"[48,{request},{{"timeout":500}},"p"]"#)) == Flow::Continue
    } {
        router.exchange(1);
    }
    let sent = request - 1;
    router.now = router.now + Duration::from_millis(500);
    router.shards[1].handle_timeout(router.now);
    assert_eq!(router.hear(caller).len(), request, "each has its answer");
    let heard = router.hear(callee);
    let count = |kind: &str| heard.iter().filter(|message| message.starts_with(kind)).count();
    assert_eq!((count("[68,"), count("[69,")), (sent, sent), "{heard:?}");
    assert_eq!(router.calls_pending(), 0);
}

#[test]
fn of_many_calls_the_right_one_is_interrupted() {
    for places in PLACES {
        let mut router = Router::new(2);
        let (callee, caller) = (router.join_able(places.0, &[], &["call_canceling"]), router.join(places.1));
        router.say(callee, r#"[64,1,{},"p"]"#);
        router.hear_one(callee);
        for request in 1..=200 {
            router.say(caller, &format!(r#"[48,{request},{{}},"p"]"#));
        }
        assert_eq!(router.hear(callee).len(), 200);
        router.say(callee, "[70,150,{}]");
        assert_eq!(router.hear_one(caller), "[50,150,{}]");
        for request in [7, 150, 199] {
            router.say(caller, &format!("[49,{request},{{}}]"));
        }
        let modes = [7, 199].map(|request| format!(r#"[69,{request},{{"mode":"killnowait"}}]"#));
        assert_eq!(router.hear(callee), modes);
        assert_eq!(router.hear(caller).len(), 2);
    }
}
