//! Registrations that several callees share, limits of concurrency, and calls that another callee is asked.

use std::time::Duration;

use fanwire_codec::rawsocket::MaxLength;
use fanwire_codec::wamp2::Serializer;
use fanwire_core::encoding::Framing;
use fanwire_core::ids::RealmId;
use fanwire_core::uri::MatchPolicy;
use fanwire_core::{Encoding, Flow, Limits};

use crate::support::{Client, Router, number};

const REROUTES: &[&str] = &["call_reroute"];

/// So many callees of `p`, on the shards in turn, and a caller on the second one.
fn shared(options: &str, features: &[&str], count: usize) -> (Router, Vec<Client>, Client) {
    shared_within(Limits::default(), options, features, count)
}

fn shared_within(
    limits: Limits,
    options: &str,
    features: &[&str],
    count: usize,
) -> (Router, Vec<Client>, Client) {
    let mut router = Router::with(2, limits);
    let callees: Vec<Client> = (0..count).map(|place| router.join_able(place % 2, &[], features)).collect();
    let ids: Vec<u64> = callees.iter().map(|callee| register(&mut router, *callee, options)).collect();
    assert!(ids.iter().all(|id| *id == ids[0]), "it is one registration");
    let caller = router.join(1);
    (router, callees, caller)
}

fn register(router: &mut Router, callee: Client, options: &str) -> u64 {
    router.say(callee, &format!(r#"[64,1,{options},"p"]"#));
    let registered = router.hear_one(callee);
    assert!(registered.starts_with("[65,1,"), "{registered}");
    number(&registered, 2)
}

/// The registration for `p`.
fn registered(router: &Router) -> u64 {
    let registration = router.directory.registration(RealmId::new(0), MatchPolicy::Exact, "p");
    registration.expect("it is registered").id().get()
}

/// Takes back its registration for `p`, which all share.
fn unregister(router: &mut Router, callee: Client, request: u64) {
    let id = registered(router);
    router.say(callee, &format!("[66,{request},{id}]"));
}

/// Which of the callees is invoked now, and its request.
fn invoked(router: &mut Router, callees: &[Client]) -> Vec<(usize, u64)> {
    let heard = callees.iter().map(|callee| router.hear(*callee)).enumerate();
    heard.flat_map(|(place, heard)| heard.into_iter().map(move |words| (place, words))).fold(
        Vec::new(),
        |mut all, (place, words)| {
            assert!(words.starts_with("[68,"), "{words}");
            all.push((place, number(&words, 1)));
            all
        },
    )
}

/// Calls and answers so often, and says who has answered.
fn answering(router: &mut Router, callees: &[Client], caller: Client, count: u64) -> Vec<usize> {
    let mut call = |request| {
        router.say(caller, &format!(r#"[48,{request},{{}},"p"]"#));
        let [(place, invocation)] = invoked(router, callees)[..] else { panic!("one of them is asked") };
        router.say(callees[place], &format!("[70,{invocation},{{}}]"));
        assert_eq!(router.hear_one(caller), format!("[50,{request},{{}}]"));
        place
    };
    (1..=count).map(|number| call(1_000 * count + number)).collect()
}

fn invoke(policy: &str) -> String {
    format!(r#"{{"invoke":"{policy}"}}"#)
}

#[test]
fn each_policy_picks_its_callee() {
    for (policy, expected) in [
        ("roundrobin", [0, 1, 2, 0, 1, 2]),
        ("first", [0; 6]),
        ("last", [2; 6]),
        ("queue_least_loaded", [0, 1, 2, 0, 1, 2]),
    ] {
        let (mut router, callees, caller) = shared(&invoke(policy), &[], 3);
        assert_eq!(answering(&mut router, &callees, caller, 6), expected, "{policy}");
    }
    let (mut router, callees, caller) = shared(&invoke("random"), &[], 3);
    let mut picked = answering(&mut router, &callees, caller, 60);
    picked.sort_unstable();
    picked.dedup();
    assert_eq!(picked, [0, 1, 2]);
}

#[test]
fn callees_come_and_go() {
    let (mut router, callees, caller) = shared(&invoke("first"), &[], 3);
    router.vanish(callees[0]);
    assert_eq!(answering(&mut router, &callees[1..], caller, 1), [0]);
    unregister(&mut router, callees[1], 2);
    assert_eq!(router.hear(callees[1]), ["[67,2]"]);
    assert_eq!(answering(&mut router, &callees[2..], caller, 2), [0, 0]);
    register(&mut router, callees[1], &invoke("first"));
    assert_eq!(answering(&mut router, &callees[1..], caller, 3), [1, 1, 1], "it is the last one now");
    let before = registered(&router);
    unregister(&mut router, callees[2], 3);
    unregister(&mut router, callees[1], 3);
    assert_eq!(callees[1..].iter().map(|callee| router.hear(*callee).len()).sum::<usize>(), 2);
    router.say(caller, r#"[48,9999,{},"p"]"#);
    assert!(router.hear_one(caller).contains("wamp.error.no_such_procedure"));
    assert_eq!(router.directory.registration_count(), 0);
    let id = register(&mut router, callees[2], "{}");
    assert_ne!(id, before, "it is another registration");
}

#[test]
fn who_does_not_fit_in_is_told_why() {
    for (first, second, words) in [
        ("{}", "{}", "is registered already\""),
        ("{}", r#"{"invoke":"first"}"#, "is registered already\""),
        (r#"{"invoke":"first"}"#, "{}", "is registered already\""),
        (r#"{"invoke":"first"}"#, r#"{"invoke":"last"}"#, r#"with invoke=\"first\""#),
        (r#"{"concurrency":5}"#, "{}", "is registered already\""),
    ] {
        let (mut router, _, other) = shared(first, &[], 1);
        router.say(other, &format!(r#"[64,7,{second},"p"]"#));
        let error = router.hear_one(other);
        assert!(error.starts_with(r#"[8,64,7,{},"wamp.error.procedure_already_exists""#), "{error}");
        assert!(error.contains(words), "{error}");
    }
    let (mut router, callees, _) = shared(&invoke("first"), &[], 1);
    router.say(callees[0], r#"[64,7,{"invoke":"first"},"p"]"#);
    let error = router.hear_one(callees[0]);
    assert!(
        error.contains("wamp.error.procedure_already_exists") && error.contains("this session"),
        "{error}"
    );
}

#[test]
fn the_least_loaded_is_asked() {
    let (mut router, callees, caller) = shared(&invoke("queue_least_loaded"), &[], 2);
    for request in 1..=4 {
        router.say(caller, &format!(r#"[48,{request},{{}},"p"]"#));
    }
    let all = invoked(&mut router, &callees);
    assert_eq!(all.iter().filter(|(place, _)| *place == 0).count(), 2);
    // The second one is ready with both.
    for (_, invocation) in all.iter().filter(|(place, _)| *place == 1) {
        router.say(callees[1], &format!("[70,{invocation},{{}}]"));
    }
    assert_eq!(router.hear(caller).len(), 2);
    for request in 5..=6 {
        router.say(caller, &format!(r#"[48,{request},{{}},"p"]"#));
        router.settle();
    }
    let places: Vec<usize> = invoked(&mut router, &callees).iter().map(|(place, _)| *place).collect();
    assert_eq!(places, [1, 1]);
}

#[test]
fn nobody_works_on_more_than_it_wants() {
    for policy in ["single", "roundrobin", "first", "random", "queue_least_loaded"] {
        let count = if policy == "single" { 1 } else { 2 };
        let options = format!(r#"{{"invoke":"{policy}","concurrency":2}}"#);
        let (mut router, callees, caller) = shared(&options, &[], count);
        for request in 1..=5 {
            router.say(caller, &format!(r#"[48,{request},{{}},"p"]"#));
        }
        let all = invoked(&mut router, &callees);
        assert_eq!(all.len(), 2 * count, "{policy}");
        let refused = router.hear(caller);
        assert_eq!(refused.len(), 5 - 2 * count, "{policy}");
        assert!(refused.iter().all(|error| error.contains("wamp.error.no_available_callee")), "{refused:?}");
        // An answer makes room; a cancelled call does not before its callee has answered, nor one whose caller left.
        let (place, invocation) = all[0];
        router.say(callees[place], &format!("[70,{invocation},{{}}]"));
        router.settle();
        router.say(caller, r#"[48,6,{},"p"]"#);
        assert_eq!(invoked(&mut router, &callees).len(), 1, "{policy}");
        router.hear(caller);
        router.say(caller, "[49,6,{}]");
        assert_eq!(router.hear(caller).len(), 1);
        router.vanish(caller);
        let other = router.join(0);
        router.say(other, r#"[48,1,{},"p"]"#);
        assert!(router.hear_one(other).contains("wamp.error.no_available_callee"), "{policy}");
        let (place, invocation) = all[1];
        router.say(callees[place], &format!("[70,{invocation},{{}}]"));
        router.settle();
        router.say(other, r#"[48,2,{},"p"]"#);
        assert_eq!(invoked(&mut router, &callees).len(), 1, "{policy}");
        for callee in callees {
            router.vanish(callee);
        }
        router.settle();
        assert_eq!(router.calls_pending(), 0);
    }
}

#[test]
fn an_interrupted_callee_has_room_at_once() {
    let (mut router, callees, caller) = shared(r#"{"concurrency":1}"#, &["call_canceling"], 1);
    router.say(caller, r#"[48,1,{"timeout":500},"p"]"#);
    assert_eq!(invoked(&mut router, &callees), [(0, 1)]);
    router.pass(Duration::from_millis(500));
    assert!(router.hear_one(caller).contains("wamp.error.timeout"));
    assert_eq!(router.hear(callees[0]).len(), 1);
    router.say(caller, r#"[48,2,{},"p"]"#);
    assert_eq!(invoked(&mut router, &callees), [(0, 2)]);
    router.vanish(caller);
    assert_eq!(router.hear(callees[0]).len(), 1);
    let other = router.join(0);
    assert_eq!(answering(&mut router, &callees, other, 1), [0]);
}

#[test]
fn shared_patterns_are_shared_by_those_who_may() {
    let mut router = Router::new(2);
    let callees = [router.join(0), router.join(1)];
    for callee in callees {
        router.say(callee, r#"[64,1,{"match":"prefix","invoke":"roundrobin"},"p."]"#);
        assert!(router.hear_one(callee).starts_with("[65,1,"));
    }
    let caller = router.join(0);
    for request in 1..=4 {
        router.say(caller, &format!(r#"[48,{request},{{}},"p.{request}"]"#));
    }
    let mut places: Vec<usize> = invoked(&mut router, &callees).iter().map(|(place, _)| *place).collect();
    places.sort_unstable();
    assert_eq!(places, [0, 0, 1, 1]);
    router.vanish(callees[0]);
    router.hear(caller);
    router.say(caller, r#"[48,5,{},"p.1"]"#);
    assert_eq!(invoked(&mut router, &callees[1..]).len(), 1);
    router.vanish(callees[1]);
    assert_eq!(router.directory.registration_count(), 0);
}

// --- re-routing ----------------------------------------------------------------------------------------------------

const UNAVAILABLE: &str = r#"{},"wamp.error.unavailable",["busy"]]"#;

#[test]
fn who_is_not_available_is_passed_by_in_the_order_of_the_policy() {
    for (policy, order) in [("first", [0, 1, 2]), ("last", [2, 1, 0]), ("roundrobin", [0, 1, 2])] {
        let (mut router, callees, caller) = shared(&invoke(policy), REROUTES, 3);
        router.say(caller, r#"[48,1,{},"p",["x"]]"#);
        for place in order {
            let asked = invoked(&mut router, &callees);
            assert_eq!(asked, [(place, 1)], "{policy}");
            router.say(callees[place], &format!("[8,68,1,{UNAVAILABLE}"));
        }
        assert_eq!(router.hear(caller), [r#"[8,48,1,{},"wamp.error.no_available_callee",["busy"]]"#]);
        assert_eq!(router.calls_pending(), 0);
        assert_eq!(router.shards[1].counters().calls_rerouted, 2);
    }
}

#[test]
fn the_next_callee_gets_the_whole_call() {
    let (mut router, callees, caller) = shared(&invoke("first"), REROUTES, 2);
    router.say(caller, r#"[48,1,{"disclose_me":true,"timeout":500},"p",["x"],{"k":1}]"#);
    let first = router.hear_one(callees[0]);
    router.say(callees[0], &format!("[8,68,1,{UNAVAILABLE}"));
    assert_eq!(router.hear_one(callees[1]), first);
    router.say(callees[1], "[70,1,{},[2]]");
    assert_eq!(router.hear(caller), ["[50,1,{},[2]]"]);
    assert!(router.shards[1].next_deadline().is_none(), "no timer is left");
}

#[test]
fn who_means_nothing_by_it_is_understood() {
    for (features, error) in
        [(&[][..], "wamp.error.unavailable"), (REROUTES, "wamp.error.no_available_callee")]
    {
        let (mut router, callees, caller) = shared("{}", features, 1);
        router.say(caller, r#"[48,1,{},"p"]"#);
        router.hear_one(callees[0]);
        router.say(callees[0], &format!("[8,68,1,{UNAVAILABLE}"));
        assert_eq!(router.hear(caller), [format!(r#"[8,48,1,{{}},"{error}",["busy"]]"#)]);
    }
    let (mut router, callees, caller) = shared(&invoke("first"), &[], 2);
    router.say(caller, r#"[48,1,{},"p"]"#);
    router.hear_one(callees[0]);
    router.say(callees[0], &format!("[8,68,1,{UNAVAILABLE}"));
    assert_eq!(router.hear(caller), [r#"[8,48,1,{},"wamp.error.unavailable",["busy"]]"#]);
    assert!(router.hear(callees[1]).is_empty());
}

#[test]
fn nobody_is_asked_again_after_a_part_of_the_result_or_a_cancel() {
    let (mut router, callees, caller) = shared(&invoke("first"), REROUTES, 2);
    router.say(caller, r#"[48,1,{"receive_progress":true},"p"]"#);
    router.hear_one(callees[0]);
    router.say(callees[0], r#"[70,1,{"progress":true},[1]]"#);
    router.say(callees[0], &format!("[8,68,1,{UNAVAILABLE}"));
    assert_eq!(router.hear(caller).len(), 2);
    assert!(router.hear(callees[1]).is_empty());
    router.say(caller, r#"[48,2,{},"p"]"#);
    router.hear_one(callees[0]);
    router.say(caller, "[49,2,{}]");
    assert_eq!(router.hear(caller).len(), 1);
    assert_eq!(router.say(callees[0], &format!("[8,68,2,{UNAVAILABLE}")), Flow::Continue);
    assert!(router.hear(caller).is_empty() && router.hear(callees[1]).is_empty());
    assert_eq!(router.calls_pending(), 0);
}

#[test]
fn a_call_under_way_to_a_callee_that_leaves_goes_to_another() {
    for unregisters in [false, true] {
        let (mut router, callees, caller) = shared(&invoke("first"), REROUTES, 2);
        router.say(caller, r#"[48,1,{},"p"]"#);
        router.exchange(1);
        if unregisters {
            unregister(&mut router, callees[0], 2);
        } else {
            router.vanish(callees[0]);
        }
        assert_eq!(invoked(&mut router, &callees[1..]), [(0, 1)]);
        router.say(callees[1], "[70,1,{}]");
        assert_eq!(router.hear(caller), ["[50,1,{}]"]);
    }
    // It has begun: nobody knows what it has done.
    let (mut router, callees, caller) = shared(&invoke("first"), REROUTES, 2);
    router.say(caller, r#"[48,1,{},"p"]"#);
    router.hear_one(callees[0]);
    router.vanish(callees[0]);
    assert!(router.hear_one(caller).contains("wamp.error.canceled"));
    assert!(router.hear(callees[1]).is_empty());
}

#[test]
fn eight_others_are_asked_at_most() {
    let (mut router, callees, caller) = shared(&invoke("first"), REROUTES, 12);
    router.say(caller, r#"[48,1,{},"p"]"#);
    for place in 0..9 {
        assert_eq!(invoked(&mut router, &callees), [(place, 1)]);
        router.say(callees[place], &format!("[8,68,1,{UNAVAILABLE}"));
    }
    assert!(router.hear_one(caller).contains("wamp.error.no_available_callee"));
    assert!(invoked(&mut router, &callees).is_empty());
    assert_eq!(router.calls_pending(), 0);
}

#[test]
fn those_who_cannot_take_a_call_are_passed_by_at_once() {
    let mut router = Router::with(1, Limits { invocations_max: 1, ..Limits::default() });
    let callees: Vec<Client> = (0..12).map(|_| router.join_able(0, &[], REROUTES)).collect();
    for (place, callee) in callees.iter().enumerate() {
        register(&mut router, *callee, &invoke("first"));
        router.say(*callee, &format!(r#"[64,2,{{}},"own.{place}"]"#));
        router.hear_one(*callee);
    }
    let caller = router.join(0);
    for place in 0..8 {
        router.say(caller, &format!(r#"[48,{},{{}},"own.{place}"]"#, place + 1));
    }
    assert_eq!(invoked(&mut router, &callees).len(), 8);
    router.say(caller, r#"[48,100,{},"p"]"#);
    assert_eq!(invoked(&mut router, &callees), [(8, 1)]);
    assert_eq!(router.shards[0].counters().calls_rerouted, 8);
    router.say(caller, r#"[48,101,{},"p"]"#);
    let error = router.hear_one(caller);
    assert!(error.starts_with(r#"[8,48,101,{},"wamp.error.unavailable""#), "{error}");
    assert!(invoked(&mut router, &callees).is_empty());
    assert_eq!(router.calls_pending(), 9);
}

#[test]
fn a_call_that_is_too_long_for_its_callee_goes_to_nobody_else() {
    let mut router = Router::new(1);
    let short = Encoding::Wamp2(Serializer::Json, Framing::Raw(MaxLength::at_most(2048)));
    let callees = [router.connect(0, short), router.connect(0, Serializer::Json)];
    for callee in callees {
        let hello = r#"[1,"realm1",{"roles":{"caller":{},"callee":{"features":{"call_reroute":true}}}}]"#;
        router.say(callee, hello);
        assert!(router.hear_one(callee).starts_with("[2,"));
        register(&mut router, callee, &invoke("first"));
    }
    let caller = router.join(0);
    router.say(caller, &format!(r#"[48,1,{{}},"p",["{}"]]"#, "x".repeat(3_000)));
    assert!(router.hear_one(caller).contains("wamp.error.payload_size_exceeded"));
    assert!(router.hear(callees[1]).is_empty());
}

/// Another session makes calls from shard 1 to shard 0 until there is no room on the way.
fn fill_the_ring(router: &mut Router) -> Client {
    let (callee, filler) = (router.join(0), router.join(1));
    router.say(callee, r#"[64,1,{},"filler"]"#);
    router.hear_one(callee);
    let full = (1..100).any(|request| {
        router.exchange(1);
        router.say(filler, &format!(r#"[48,{request},{{}},"filler"]"#)) == Flow::Pause
    });
    assert!(full, "the ring is small");
    filler
}

fn narrow() -> Limits {
    Limits { ring_capacity: 4, ..Limits::default() }
}

#[test]
fn another_callee_without_room_on_the_way_is_not_asked() {
    let (mut router, callees, caller) = shared_within(narrow(), &invoke("last"), REROUTES, 2);
    router.say(caller, r#"[48,1,{},"p"]"#);
    assert_eq!(invoked(&mut router, &callees), [(1, 1)]);
    fill_the_ring(&mut router);
    router.say(callees[1], &format!("[8,68,1,{UNAVAILABLE}"));
    let error = router.hear_one(caller);
    assert!(error.starts_with(r#"[8,48,1,{},"wamp.error.unavailable""#), "{error}");
    assert!(error.contains("is full"), "{error}");
    assert!(router.hear(callees[0]).is_empty());
}

#[test]
fn a_parked_call_whose_caller_leaves_counts_no_more() {
    let (mut router, callees, caller) = shared_within(narrow(), r#"{"concurrency":1}"#, &[], 1);
    let filler = fill_the_ring(&mut router);
    assert_eq!(router.say(caller, r#"[48,1,{},"p"]"#), Flow::Pause);
    router.vanish(caller);
    router.vanish(filler);
    assert!(router.hear(callees[0]).is_empty(), "it has never left");
    assert_eq!(router.calls_pending(), 0);
    let other = router.join(1);
    assert_eq!(answering(&mut router, &callees, other, 1), [0]);
}

#[test]
fn parts_for_a_caller_that_has_left_are_dropped_where_they_are_said() {
    let (mut router, callees, caller) = shared(r#"{"concurrency":1}"#, &[], 1);
    router.say(caller, r#"[48,1,{"receive_progress":true},"p"]"#);
    assert_eq!(invoked(&mut router, &callees), [(0, 1)]);
    router.vanish(caller);
    router.settle();
    router.say(callees[0], r#"[70,1,{"progress":true},[1]]"#);
    router.settle();
    let discarded: Vec<u64> = router.shards.iter().map(|shard| shard.counters().results_discarded).collect();
    assert_eq!(discarded, [1, 0]);
    router.say(callees[0], "[70,1,{}]");
    router.settle();
    assert_eq!(router.calls_pending(), 0);
}

#[test]
fn long_arguments_are_the_first_callees_alone() {
    for (length, goes_on) in [(60 * 1024, true), (65 * 1024, false)] {
        let (mut router, callees, caller) = shared(&invoke("first"), REROUTES, 2);
        router.say(caller, &format!(r#"[48,1,{{}},"p",["{}"]]"#, "x".repeat(length)));
        router.hear_one(callees[0]);
        router.say(callees[0], &format!("[8,68,1,{UNAVAILABLE}"));
        assert_eq!(router.hear(callees[1]).len(), usize::from(goes_on));
        assert_eq!(router.hear(caller).len(), usize::from(!goes_on));
    }
}

#[test]
fn what_is_kept_for_other_callees_is_bounded() {
    const CALLS: usize = 600;
    let (mut router, callees, caller) = shared(&invoke("first"), REROUTES, 2);
    let long = "x".repeat(60 * 1024);
    for request in 1..=CALLS {
        router.say(caller, &format!(r#"[48,{request},{{}},"p",["{long}"]]"#));
        router.hear_one(callees[0]);
    }
    let mut asked = 0;
    for invocation in 1..=CALLS {
        router.say(callees[0], &format!("[8,68,{invocation},{UNAVAILABLE}"));
        asked += router.hear(callees[1]).len();
    }
    assert_eq!(asked, 32 * 1024 * 1024 / (long.len() + 2));
    assert_eq!(router.hear(caller).len(), CALLS - asked);
    // An answer makes room.
    router.say(callees[1], "[70,1,{}]");
    router.hear_one(caller);
    router.say(caller, &format!(r#"[48,{},{{}},"p",["{long}"]]"#, CALLS + 1));
    router.hear_one(callees[0]);
    router.say(callees[0], &format!("[8,68,{},{UNAVAILABLE}", CALLS + 1));
    assert_eq!(router.hear(callees[1]).len(), 1);
}

#[test]
fn each_callee_is_asked_in_its_own_way() {
    const BOTH: &[&str] = &["call_reroute", "call_timeout"];
    for (first, second) in [(0, 1), (1, 0)] {
        let mut router = Router::new(2);
        let callees = [router.join_able(0, &[], BOTH), router.join_able(1, &[], BOTH)];
        let eager = r#"{"invoke":"first","disclose_caller":true,"forward_timeout":true}"#;
        for place in [first, second] {
            register(&mut router, callees[place], if place == 0 { eager } else { r#"{"invoke":"first"}"# });
        }
        let caller = router.join(1);
        router.say(caller, r#"[48,1,{"timeout":500},"p"]"#);
        let check = |words: &str, place: usize| {
            assert_eq!(words.contains(r#""timeout":500"#), place == 0, "{words}");
            assert_eq!(words.contains(r#""caller":"#), place == 0, "{words}");
        };
        check(&router.hear_one(callees[first]), first);
        router.say(callees[first], &format!("[8,68,1,{UNAVAILABLE}"));
        check(&router.hear_one(callees[second]), second);
        router.pass(Duration::from_millis(500));
        let heard = router.hear(caller);
        assert_eq!(heard.len(), usize::from(second == 1), "who is told the time keeps it: {heard:?}");
        assert!(heard.iter().all(|error| error.contains("wamp.error.timeout")), "{heard:?}");
    }
}

// --- taking over ---------------------------------------------------------------------------------------------------

#[test]
fn who_forces_its_way_in_has_the_procedure_alone() {
    for policy in ["single", "first"] {
        let count = if policy == "single" { 1 } else { 2 };
        let (mut router, callees, caller) = shared(&invoke(policy), &[], count);
        router.say(caller, r#"[48,1,{},"p"]"#);
        assert_eq!(invoked(&mut router, &callees), [(0, 1)]);
        let (usurper, before) = (router.join(1), registered(&router));
        let id = register(&mut router, usurper, r#"{"force_reregister":true}"#);
        assert_ne!(id, before);
        assert_eq!(answering(&mut router, &[usurper], caller, 2), [0, 0]);
        // What was asked before is still answered.
        router.say(callees[0], "[70,1,{}]");
        assert_eq!(router.hear(caller), ["[50,1,{}]"]);
        for callee in callees {
            router.say(callee, &format!("[66,9,{before}]"));
            assert!(router.hear_one(callee).contains("wamp.error.no_such_registration"));
        }
        router.vanish(usurper);
        assert_eq!(router.directory.registration_count(), 0);
        let registrations: u64 = router.shards.iter().map(|shard| shard.counters().registrations).sum();
        assert_eq!(registrations, 0);
    }
}

#[test]
fn nobody_takes_what_another_role_has() {
    // Nor does who wants to have it alone share it instead.
    for policy in ["single", "roundrobin"] {
        let mut router = Router::new(2);
        let user = router.challenged(0, "named", "u");
        let operator = router.challenged(1, "named", "o");
        for (place, (client, role)) in [(user, 0), (operator, 1)].into_iter().enumerate() {
            router.say(client, r#"[5,"secret",{}]"#);
            let question = router.question(place);
            router.grant(place, &question, role);
            assert!(router.hear_one(client).starts_with("[2,"));
        }
        register(&mut router, operator, &invoke(policy));
        router.say(user, &format!(r#"[64,1,{{"force_reregister":true,"invoke":"{policy}"}},"p"]"#));
        let error = router.hear_one(user);
        assert!(error.contains("wamp.error.procedure_already_exists"), "{error}");
    }
}
