use fanwire_codec::wamp2::Serializer;
use fanwire_core::{Flow, Limits};

use crate::support::{Client, Router, number};

fn register(router: &mut Router, client: Client, procedure: &str) -> u64 {
    router.say(client, &format!(r#"[64,1,{{}},"{procedure}"]"#));
    let registered = router.hear_one(client);
    assert!(registered.starts_with("[65,1,"), "{registered}");
    number(&registered, 2)
}

/// Callee and caller on one shard, and on two.
const PLACES: [(usize, usize); 2] = [(0, 0), (0, 1)];

#[test]
fn a_call_is_invoked_and_its_result_comes_back() {
    for (callee_shard, caller_shard) in PLACES {
        let mut router = Router::new(2);
        let (callee, caller) = (router.join(callee_shard), router.join(caller_shard));
        let registration = register(&mut router, callee, "add.two");
        for request in [11, 12] {
            router.say(caller, &format!(r#"[48,{request},{{}},"add.two",[2,3],{{"k":1}}]"#));
            let invocation = router.hear_one(callee);
            let expected = format!(r#"[68,{},{registration},{{}},[2,3],{{"k":1}}]"#, request - 10);
            assert_eq!(invocation, expected, "invocations are counted per callee");
            router.say(callee, &format!("[70,{},{{}},[5]]", request - 10));
            assert_eq!(router.hear_one(caller), format!("[50,{request},{{}},[5]]"));
        }
        assert_eq!(router.shards[caller_shard].counters().calls_pending, 0);
    }
}

#[test]
fn an_error_of_the_callee_reaches_the_caller_as_it_is() {
    for (callee_shard, caller_shard) in PLACES {
        let mut router = Router::new(2);
        let (callee, caller) = (router.join(callee_shard), router.join(caller_shard));
        register(&mut router, callee, "div");
        router.say(caller, r#"[48,3,{},"div",[1,0]]"#);
        router.hear_one(callee);
        router.say(callee, r#"[8,68,1,{},"math.zero",["by zero"],{"at":1}]"#);
        assert_eq!(router.hear_one(caller), r#"[8,48,3,{},"math.zero",["by zero"],{"at":1}]"#);
    }
}

#[test]
fn calls_that_cannot_be_met_get_their_error() {
    let mut router = Router::new(1);
    let alice = router.join(0);
    for (message, kind, uri) in [
        (r#"[48,5,{},"no.such"]"#, 48, "wamp.error.no_such_procedure"),
        (r#"[48,5,{},"a..b"]"#, 48, "wamp.error.invalid_uri"),
        (r#"[48,5,{"timeout":"soon"},"a.b"]"#, 48, "wamp.error.invalid_argument"),
        (r#"[64,5,{},"a b"]"#, 64, "wamp.error.invalid_uri"),
        (r#"[64,5,{},"wamp.own"]"#, 64, "wamp.error.not_authorized"),
        (r#"[64,5,{"match":"prefix"},"a..b"]"#, 64, "wamp.error.invalid_uri"),
        (r#"[64,5,{"match":"prefix"},"wamp."]"#, 64, "wamp.error.not_authorized"),
        (r#"[64,5,{"match":"glob"},"a.*"]"#, 64, "wamp.error.invalid_argument"),
        (r#"[64,5,{"invoke":"all"},"a.b"]"#, 64, "wamp.error.invalid_argument"),
        (r#"[64,5,{"concurrency":0},"a.b"]"#, 64, "wamp.error.invalid_argument"),
        (r#"[66,5,77]"#, 66, "wamp.error.no_such_registration"),
    ] {
        router.say(alice, message);
        let error = router.hear_one(alice);
        assert!(error.starts_with(&format!("[8,{kind},5,{{}},\"{uri}\",[\"")), "{message}: {error}");
    }
}

#[test]
fn a_procedure_is_registered_once() {
    let mut router = Router::new(2);
    let (alice, bob) = (router.join(0), router.join(1));
    let registration = register(&mut router, alice, "p");
    router.say(bob, r#"[64,9,{},"p"]"#);
    assert!(router.hear_one(bob).starts_with(r#"[8,64,9,{},"wamp.error.procedure_already_exists""#));
    router.say(alice, &format!("[66,2,{registration}]"));
    assert_eq!(router.hear_one(alice), "[67,2]");
    assert_ne!(register(&mut router, bob, "p"), registration);
}

#[test]
fn no_invocation_comes_after_unregistered() {
    let mut router = Router::new(2);
    let (callee, caller) = (router.join(0), router.join(1));
    let registration = register(&mut router, callee, "p");
    router.say(caller, r#"[48,1,{},"p"]"#);
    router.exchange(1);
    router.say(callee, &format!("[66,2,{registration}]"));
    assert_eq!(router.hear(callee), ["[67,2]"]);
    assert!(router.hear_one(caller).contains("wamp.error.no_such_procedure"));
}

#[test]
fn a_callee_that_leaves_cancels_its_calls() {
    for (callee_shard, caller_shard) in PLACES {
        let mut router = Router::new(2);
        let (callee, caller) = (router.join(callee_shard), router.join(caller_shard));
        register(&mut router, callee, "p");
        router.say(caller, r#"[48,1,{},"p"]"#);
        router.hear_one(callee);
        router.vanish(callee);
        assert!(router.hear_one(caller).starts_with(r#"[8,48,1,{},"wamp.error.canceled""#));
        router.say(caller, r#"[48,2,{},"p"]"#);
        assert!(router.hear_one(caller).contains("wamp.error.no_such_procedure"));
    }
}

#[test]
fn an_answer_for_a_caller_that_left_is_dropped() {
    for (callee_shard, caller_shard) in PLACES {
        let mut router = Router::new(2);
        let (callee, caller) = (router.join(callee_shard), router.join(caller_shard));
        register(&mut router, callee, "p");
        router.say(caller, r#"[48,1,{},"p"]"#);
        router.hear_one(callee);
        router.vanish(caller);
        assert_eq!(router.say(callee, "[70,1,{}]"), Flow::Continue);
        assert!(router.hear(callee).is_empty());
    }
}

#[test]
fn a_cancelled_call_ends_at_once_and_its_answer_is_dropped() {
    let mut router = Router::new(1);
    let (callee, caller) = (router.join(0), router.join(0));
    register(&mut router, callee, "p");
    router.say(caller, r#"[48,1,{},"p"]"#);
    router.say(caller, "[49,1,{}]");
    assert!(router.hear_one(caller).starts_with(r#"[8,48,1,{},"wamp.error.canceled""#));
    router.say(callee, "[70,1,{}]");
    assert!(router.hear(caller).is_empty());
    router.say(caller, "[49,1,{}]");
    assert!(router.hear(caller).is_empty(), "CANCEL and RESULT may cross");
}

#[test]
fn a_session_may_call_itself() {
    let mut router = Router::new(1);
    let alice = router.join(0);
    register(&mut router, alice, "p");
    router.say(alice, r#"[48,1,{},"p",["x"]]"#);
    router.hear_one(alice);
    router.say(alice, r#"[70,1,{},["y"]]"#);
    assert_eq!(router.hear_one(alice), r#"[50,1,{},["y"]]"#);
}

#[test]
fn pending_calls_are_bounded_on_both_sides() {
    let limits = Limits { calls_max: 2, invocations_max: 3, ..Limits::default() };
    let mut router = Router::with(2, limits);
    let callee = router.join(0);
    register(&mut router, callee, "p");
    let callers = [router.join(0), router.join(1)];
    for caller in callers {
        for request in 1..=3 {
            router.say(caller, &format!(r#"[48,{request},{{}},"p"]"#));
        }
    }
    router.settle();
    assert!(router.hear_one(callers[0]).starts_with(r#"[8,48,3,{},"wamp.error.unavailable""#));
    let heard = router.hear(callers[1]);
    assert_eq!(heard.len(), 2, "the third of its own, the fourth of the callee: {heard:?}");
    assert!(heard.iter().all(|error| error.contains("wamp.error.unavailable")));
}

#[test]
fn the_caller_is_named_only_if_it_asks_for_it() {
    for (callee_shard, caller_shard) in PLACES {
        let mut router = Router::new(2);
        let callee = router.join(callee_shard);
        let registration = register(&mut router, callee, "p");
        let caller = router.connect(caller_shard, Serializer::Json);
        router.say(caller, r#"[1,"realm1",{"roles":{"caller":{}}}]"#);
        let session = number(&router.hear_one(caller), 1);
        router.say(caller, r#"[48,1,{"caller":7},"p"]"#);
        assert_eq!(router.hear_one(callee), format!("[68,1,{registration},{{}}]"));
        router.say(caller, r#"[48,2,{"disclose_me":true},"p"]"#);
        let named = format!(
            r#"{{"caller":{session},"caller_authid":"anonymous-{session:x}","caller_authrole":"anonymous"}}"#
        );
        assert_eq!(router.hear_one(callee), format!("[68,2,{registration},{named}]"));
    }
}

#[test]
fn cancelled_calls_count_until_their_callee_has_answered() {
    let mut router = Router::with(1, Limits { calls_max: 2, ..Limits::default() });
    let (callee, caller) = (router.join(0), router.join(0));
    register(&mut router, callee, "p");
    for request in 1..=3 {
        router.say(caller, &format!(r#"[48,{request},{{}},"p"]"#));
        router.say(caller, &format!("[49,{request},{{}}]"));
    }
    let heard = router.hear(caller);
    assert_eq!(heard.len(), 3, "{heard:?}");
    assert!(heard[2].contains("wamp.error.unavailable"), "{heard:?}");
    assert_eq!(router.hear(callee).len(), 2);
    router.say(callee, "[70,1,{}]");
    router.say(caller, r#"[48,4,{},"p"]"#);
    assert_eq!(router.hear(callee).len(), 1, "an answer made room");
    assert!(router.hear(caller).is_empty());
}
