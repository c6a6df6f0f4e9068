//! Calls and results in parts between clients of which one is slow.

use std::time::Duration;

use fanwire_core::{Effect, Flow, Limits};

use crate::progress::{PARTS, PLACES, RESULTS, TAKES_PARTS, registered};
use crate::support::{Client, Router};

/// A quarter of it is four parts.
fn limits() -> Limits {
    Limits { outbox_bytes_max: 8_000, reply_reserve_bytes: 2_000, ..Limits::default() }
}

/// More parts than a call may have under way between two shards.
const MANY: usize = 1_000;

fn part(place: usize) -> String {
    format!(r#"[{place},"{}"]"#, "x".repeat(500))
}

/// Says parts until it is not listened to any more; how many.
fn say_parts(router: &mut Router, sender: Client, head: &str) -> usize {
    for place in 0..MANY {
        if router.say(sender, &format!("{head}{}]", part(place))) == Flow::Pause {
            return place + 1;
        }
        router.turns(2);
    }
    panic!("{MANY} parts are taken by a socket that takes nothing");
}

fn nobody_is_cut(router: &Router) {
    let aborted = router.effects.iter().find(|(_, effect)| matches!(effect, Effect::Abort(..)));
    assert_eq!(aborted, None);
}

fn is_read_again(router: &Router, client: Client) -> bool {
    router.effects.contains(&(client.0, Effect::Resume(client.1)))
}

/// Whether all of these messages end in their parts, in order.
fn assert_parts(heard: &[String], count: usize) {
    assert_eq!(heard.len(), count);
    for (place, message) in heard.iter().enumerate() {
        assert!(message.ends_with(&format!("{}]", part(place))), "{place}: {message}");
    }
}

#[test]
fn a_callee_waits_for_a_slow_caller() {
    for places in PLACES {
        let (mut router, callee, _, caller) = registered(places, RESULTS, limits());
        router.say(caller, r#"[48,1,{"receive_progress":true},"p"]"#);
        router.hear_one(callee);
        router.fill(caller, true);
        let parts = say_parts(&mut router, callee, r#"[70,1,{"progress":true},"#);
        router.turns(5);
        assert!(!is_read_again(&router, callee));
        router.fill(caller, false);
        router.turns(MANY);
        assert!(is_read_again(&router, callee));
        router.say(callee, "[70,1,{}]");
        let mut heard = router.hear(caller);
        assert_eq!(heard.pop().as_deref(), Some("[50,1,{}]"));
        assert_parts(&heard, parts);
        nobody_is_cut(&router);
    }
}

#[test]
fn a_caller_waits_for_a_slow_callee() {
    for places in PLACES {
        let (mut router, callee, _, caller) = registered(places, TAKES_PARTS, limits());
        router.say(caller, r#"[48,1,{"progress":true},"p"]"#);
        router.hear_one(callee);
        router.fill(callee, true);
        let parts = say_parts(&mut router, caller, r#"[48,1,{"progress":true},"p","#);
        router.fill(callee, false);
        router.turns(MANY);
        assert!(is_read_again(&router, caller));
        router.say(caller, r#"[48,1,{},"p",["last"]]"#);
        let mut heard = router.hear(callee);
        assert!(heard.pop().is_some_and(|last| last.ends_with(r#",{},["last"]]"#)));
        assert_parts(&heard, parts);
        nobody_is_cut(&router);
    }
}

#[test]
fn a_result_that_its_caller_does_not_take_ends_alone() {
    for places in PLACES {
        for (features, interrupt) in [(TAKES_PARTS, Some(r#"[69,1,{"mode":"killnowait"}]"#)), (RESULTS, None)]
        {
            let (mut router, callee, _, caller) = registered(places, features, limits());
            router.say(caller, r#"[48,1,{"receive_progress":true},"p"]"#);
            router.hear_one(callee);
            router.fill(caller, true);
            let parts = say_parts(&mut router, callee, r#"[70,1,{"progress":true},"#);
            router.pass(Duration::from_secs(6));
            router.turns(5);
            assert!(is_read_again(&router, callee));
            assert_eq!(router.hear(callee), Vec::from_iter(interrupt));
            // It may not have heard of it yet.
            for said in [r#"[70,1,{"progress":true}]"#, "[70,1,{}]"] {
                assert_eq!(router.say(callee, said), Flow::Continue);
            }
            router.fill(caller, false);
            let mut heard = router.hear(caller);
            let error = heard.pop().expect("it is told");
            assert!(error.starts_with(r#"[8,48,1,{},"wamp.error.unavailable""#), "{error}");
            assert!(heard.len() < parts);
            assert_parts(&heard, heard.len());
            assert_eq!(router.calls_pending(), 0);
            nobody_is_cut(&router);
        }
    }
}

#[test]
fn a_call_that_its_callee_does_not_take_ends_alone() {
    for places in PLACES {
        let (mut router, callee, _, caller) = registered(places, TAKES_PARTS, limits());
        router.say(caller, r#"[48,1,{"progress":true},"p"]"#);
        router.say(caller, r#"[48,2,{},"p",["other"]]"#);
        router.hear(callee);
        router.fill(callee, true);
        let parts = say_parts(&mut router, caller, r#"[48,1,{"progress":true},"p","#);
        router.pass(Duration::from_secs(6));
        router.turns(5);
        let error = router.hear_one(caller);
        assert!(error.starts_with(r#"[8,48,1,{},"wamp.error.unavailable""#), "{error}");
        assert!(is_read_again(&router, caller));
        // The rest of it is ignored.
        router.say(caller, r#"[48,1,{"progress":true},"p"]"#);
        router.fill(callee, false);
        let mut heard = router.hear(callee);
        assert_eq!(heard.pop().as_deref(), Some(r#"[69,1,{"mode":"killnowait"}]"#));
        assert!(heard.len() < parts);
        assert_parts(&heard, heard.len());
        router.say(callee, "[70,2,{}]");
        assert_eq!(router.hear(caller), ["[50,2,{}]"], "its other calls live on");
        assert_eq!(router.calls_pending(), 0);
        nobody_is_cut(&router);
    }
}

#[test]
fn many_callers_in_parts_do_not_cut_their_callee() {
    for places in PLACES {
        let (mut router, callee, _, first) = registered(places, TAKES_PARTS, limits());
        let others: Vec<Client> = (0..8).map(|_| router.join_able(places.1, PARTS, &[])).collect();
        router.fill(callee, true);
        for caller in others.iter().chain([&first]) {
            for place in 0..20 {
                if router.say(*caller, &format!(r#"[48,1,{{"progress":true}},"p",{}]"#, part(place)))
                    == Flow::Pause
                {
                    break;
                }
                router.turns(1);
            }
        }
        nobody_is_cut(&router);
        router.fill(callee, false);
        router.turns(MANY);
        for caller in others.iter().chain([&first]) {
            router.say(*caller, r#"[48,1,{},"p",["last"]]"#);
        }
        let lasts = router.hear(callee).iter().filter(|heard| heard.ends_with(r#",{},["last"]]"#)).count();
        assert_eq!(lasts, others.len() + 1);
        nobody_is_cut(&router);
    }
}

#[test]
fn the_last_answer_does_not_pass_parts_that_wait() {
    let (mut router, callee, _, caller) = registered((0, 1), RESULTS, limits());
    for request in 1..=2 {
        router.say(caller, &format!(r#"[48,{request},{{"receive_progress":true}},"p"]"#));
        router.hear_one(callee);
    }
    router.fill(caller, true);
    for place in 0..20 {
        assert_eq!(
            router.say(callee, &format!(r#"[70,1,{{"progress":true}},{}]"#, part(place))),
            Flow::Continue
        );
        router.turns(1);
    }
    router.say(callee, "[70,1,{},[20]]");
    router.say(callee, "[70,2,{},[0]]");
    router.turns(3);
    router.fill(caller, false);
    let heard = router.hear(caller);
    let (of_2, mut of_1): (Vec<_>, Vec<_>) = heard.into_iter().partition(|heard| heard.starts_with("[50,2,"));
    assert_eq!(of_2, ["[50,2,{},[0]]"]);
    assert_eq!(of_1.pop().as_deref(), Some("[50,1,{},[20]]"));
    assert_parts(&of_1, 20);
}

/// Whoever ends it, nothing of a call in parts is left, and its other side is heard again.
#[test]
fn what_waits_ends_with_its_call() {
    for places in PLACES {
        for ending in 0..4 {
            let (mut router, callee, _, caller) = registered(places, TAKES_PARTS, limits());
            router.say(caller, r#"[48,1,{"receive_progress":true,"progress":true},"p"]"#);
            router.hear_one(callee);
            let (slow, sender) = if ending < 2 { (caller, callee) } else { (callee, caller) };
            router.fill(slow, true);
            let head =
                if ending < 2 { r#"[70,1,{"progress":true},"# } else { r#"[48,1,{"progress":true},"p","# };
            say_parts(&mut router, sender, head);
            match ending {
                0 => drop(router.say(caller, "[49,1,{}]")),
                2 => drop(router.say(callee, "[70,1,{}]")),
                _ => router.vanish(slow),
            }
            router.turns(10);
            assert!(is_read_again(&router, sender), "{places:?} {ending}");
            router.fill(slow, false);
            router.settle();
            assert_eq!(router.calls_pending(), 0, "{places:?} {ending}");
            nobody_is_cut(&router);
        }
    }
}

#[test]
fn what_is_held_of_all_calls_is_bounded_final_answers_too() {
    const CALLS: usize = 60;
    let limits = Limits { outbox_bytes_max: 16 << 20, ..limits() };
    let across = *PLACES.last().expect("there are some");
    let (mut router, callee, _, caller) = registered(across, RESULTS, limits);
    for call in 1..=CALLS {
        router.say(caller, &format!(r#"[48,{call},{{"receive_progress":true}},"p"]"#));
        router.hear(callee);
    }
    let other = router.join_able(across.1, PARTS, &[]);
    router.say(other, r#"[48,1,{"receive_progress":true},"p"]"#);
    router.hear(callee);
    router.fill(caller, true);
    router.fill(other, true);
    let mebibyte = format!(r#"["{}"]"#, "x".repeat((1 << 20) - 200));
    for call in 1..=CALLS {
        // A quarter of the outbox is full after the first ones.
        router.say(callee, &format!(r#"[70,{call},{{"progress":true}},{mebibyte}]"#));
        router.turns(3);
        if call > 6 {
            router.say(callee, &format!("[70,{call},{{}},{mebibyte}]"));
            router.turns(3);
        }
    }
    let pending = router.calls_pending() - 1;
    assert!(pending < CALLS as u64 - 20, "{pending} calls, and two mebibytes of each");
    assert!(pending >= 6, "{pending} calls fit");
    // Who takes nothing has used up its own share alone.
    for _ in 0..6 {
        router.say(callee, &format!(r#"[70,{},{{"progress":true}},{mebibyte}]"#, CALLS + 1));
        router.turns(3);
    }
    router.fill(other, false);
    router.turns(10);
    let heard = router.hear_now(other);
    assert!(heard.len() >= 5 && heard.iter().all(|part| part.starts_with("[50,1,")), "{}", heard.len());
    nobody_is_cut(&router);
}

/// Nobody stops a sender for long, taking a little now and then.
#[test]
fn who_trickles_ends_its_calls_and_not_the_work_of_their_callee() {
    for places in PLACES {
        let (mut router, callee, _, caller) = registered(places, TAKES_PARTS, limits());
        router.say(caller, r#"[48,1,{"receive_progress":true},"p"]"#);
        router.hear_one(callee);
        router.trickle(caller, 0);
        say_parts(&mut router, callee, r#"[70,1,{"progress":true},"#);
        for _ in 0..100 {
            if is_read_again(&router, callee)
                && router.say(callee, r#"[70,1,{"progress":true},[0]]"#) == Flow::Pause
            {
                router.effects.retain(|(_, effect)| !matches!(effect, Effect::Resume(_)));
            }
            router.pass(Duration::from_millis(100));
            router.trickle(caller, 20);
            router.turns(2);
            if router.calls_pending() == 0 {
                break;
            }
        }
        assert_eq!(router.calls_pending(), 0, "{places:?}: ten seconds are enough");
        assert!(is_read_again(&router, callee));
        nobody_is_cut(&router);
    }
}
