//! Calls of clients of WAMP version 1, answered by callees of version 2.

use fanwire_core::hooks::{HookEvent, HookId, HookRule, HookScope};
use fanwire_core::question::{Denial, Grant, Subject};
use fanwire_core::uri::MatchPolicy;
use fanwire_core::{Flow, Limits};

use crate::support::{Client, Router, number};
use crate::version_1::{enter, router_of};

/// A callee that has registered this.
fn callee(router: &mut Router, shard: usize, procedure: &str) -> Client {
    let client = router.join(shard);
    router.say(client, &format!(r#"[64,1,{{}},"{procedure}"]"#));
    assert!(router.hear_one(client).starts_with("[65,1,"));
    client
}

/// What follows the details of an INVOCATION, and its number.
fn invoked(router: &mut Router, callee: Client) -> (u64, String) {
    let message = router.hear_one(callee);
    assert!(message.starts_with("[68,"), "{message}");
    let rest = message.split_once(",{}").expect("no details").1;
    (
        number(&message, 1),
        rest.trim_end_matches(']').to_owned() + &"]".repeat(usize::from(!rest.starts_with(']'))),
    )
}

#[test]
fn arguments_and_results_are_lists_in_version_2() {
    for shards in [1, 2] {
        let mut router = router_of(shards, "realm1", &[]);
        let (old, _) = enter(&mut router, 0);
        let callee = callee(&mut router, usize::from(shards) - 1, "calc.add");
        for (args, invoked) in [
            ("", "[]"),
            (",null", "[null]"),
            (",23, 99", "[23, 99]"),
            (",[9,1,3,4]", "[[9,1,3,4]]"),
            (r#",{"a":1} ,"x" "#, r#"[{"a":1} ,"x"]"#),
            (r#","\u0000AAFi""#, r#"["\u0000AAFi"]"#),
        ] {
            router.say(old, &format!(r#"[2,"id","calc.add"{args}]"#));
            let message = router.hear_one(callee);
            assert!(message.ends_with(&format!(",{{}},{invoked}]")), "{args}: {message}");
            router.say(callee, &format!("[70,{},{{}}]", number(&message, 1)));
            assert_eq!(router.hear_one(old), r#"[3,"id",null]"#);
        }
        for (said, result) in [
            ("", "null"),
            (",[]", "null"),
            (",[122]", "122"),
            (",[[1, 2]]", "[1, 2]"),
            (",[1,2]", r#"{"args":[1,2],"kwargs":{}}"#),
            (r#",[],{"k":1}"#, r#"{"args":[],"kwargs":{"k":1}}"#),
        ] {
            router.say(old, r#"[2,"0.0ub4\"scz","calc.add"]"#);
            let (invocation, _) = invoked(&mut router, callee);
            router.say(callee, &format!("[70,{invocation},{{}}{said}]"));
            assert_eq!(router.hear_one(old), format!(r#"[3,"0.0ub4\"scz",{result}]"#), "{said}");
        }
        for (said, error) in [
            ("", r#""com.x""#),
            (r#",["bad"]"#, r#""bad""#),
            (r#",["bad",1000]"#, r#""bad",1000"#),
            (r#",["bad",1,2]"#, r#""bad",{"args":[1,2],"kwargs":{}}"#),
            (r#",["bad"],{"k":1}"#, r#""bad",{"args":[],"kwargs":{"k":1}}"#),
            (",[7]", r#""com.x",7"#),
        ] {
            router.say(old, r#"[2,"","calc.add"]"#);
            let (invocation, _) = invoked(&mut router, callee);
            router.say(callee, &format!(r#"[8,68,{invocation},{{}},"com.x"{said}]"#));
            assert_eq!(router.hear_one(old), format!(r#"[4,"","com.x",{error}]"#), "{said}");
        }
        for shard in 0..usize::from(shards) {
            assert_eq!(router.shards[shard].counters().calls_pending, 0);
        }
    }
}

#[test]
fn answers_come_in_their_own_order_and_once() {
    let mut router = router_of(2, "realm1", &[]);
    let (old, _) = enter(&mut router, 0);
    let callee = callee(&mut router, 1, "p");
    for id in ["a", "b", "c"] {
        router.say(old, &format!(r#"[2,"{id}","p","{id}"]"#));
    }
    let invocations: Vec<u64> = router.hear(callee).iter().map(|message| number(message, 1)).collect();
    for index in [2, 0] {
        router.say(callee, &format!("[70,{},{{}},[{index}]]", invocations[index]));
    }
    assert_eq!(router.hear(old), [r#"[3,"c",2]"#, r#"[3,"a",0]"#]);
    // The id of an answered call may be used again, that of a waiting one not.
    router.say(old, r#"[2,"b","p"]"#);
    assert_eq!(
        router.hear_one(old),
        r#"[4,"b","wamp.error.invalid_argument","a call with this callID has no answer yet"]"#
    );
    router.say(old, r#"[2,"c","p"]"#);
    assert_eq!(router.hear(callee).len(), 1);
    // The callee leaves: both that wait are answered.
    router.vanish(callee);
    let mut heard = router.hear(old);
    heard.sort();
    let gone = |id: &str| format!(r#"[4,"{id}","wamp.error.canceled","the callee left before it answered"]"#);
    assert_eq!(heard, [gone("b"), gone("c")]);
    router.say(old, r#"[2,"b","p"]"#);
    assert_eq!(
        router.hear_one(old),
        r#"[4,"b","http://api.wamp.ws/error#NoSuchRPCEndpoint","nobody has registered p"]"#
    );
    // Who leaves is not missed.
    let (leaver, _) = enter(&mut router, 0);
    let callee = self::callee(&mut router, 1, "p");
    router.say(leaver, r#"[2,"x","p"]"#);
    let invocation = invoked(&mut router, callee).0;
    router.vanish(leaver);
    router.say(callee, &format!("[70,{invocation},{{}}]"));
    router.settle();
    assert_eq!(router.shards[0].counters().calls_pending, 0);
}

#[test]
fn procedures_and_errors_have_configured_names_too() {
    let names = [("http://example.com/calc#", "com.calc.")];
    let mut router = router_of(2, "realm1", &names);
    let (old, _) = enter(&mut router, 0);
    let callee = callee(&mut router, 1, "com.calc.add");
    router.say(old, r#"[1,"calc","http://example.com/calc#"]"#);
    for procedure in ["calc:add", "http://example.com/calc#add", "com.calc.add"] {
        router.say(old, &format!(r#"[2,"id","{procedure}",1]"#));
        let invocation = invoked(&mut router, callee).0;
        router.say(callee, &format!(r#"[8,68,{invocation},{{}},"com.calc.too_big",["no"]]"#));
        assert_eq!(router.hear_one(old), r#"[4,"id","http://example.com/calc#too_big","no"]"#);
    }
}

#[test]
fn a_pattern_is_told_the_name_that_was_called() {
    let mut router = router_of(1, "realm1", &[]);
    let (old, _) = enter(&mut router, 0);
    let callee = router.join(0);
    router.say(callee, r#"[64,1,{"match":"prefix"},"http://example.com/"]"#);
    router.hear_one(callee);
    router.say(old, r#"[2,"id","http://example.com/calc#add",1]"#);
    let message = router.hear_one(callee);
    assert!(message.ends_with(r#",{"procedure":"http://example.com/calc#add"},[1]]"#), "{message}");
}

#[test]
fn a_hook_answers_like_a_callee() {
    let hook = HookRule {
        hook: HookId::new(0),
        events: vec![HookEvent::Rpc],
        realms: Vec::new(),
        uri: "p".to_owned(),
        match_policy: MatchPolicy::Exact,
        payload: true,
        scope: HookScope::default(),
    };
    let nothing = |_: &_| Default::default();
    let mut router = Router::with_version_1(1, Limits::default(), &[hook], "realm1", &[], nothing);
    let (old, _) = enter(&mut router, 0);
    assert_eq!(router.say(old, r#"[2,"id","p", 1]"#), Flow::Continue, "others go on meanwhile");
    let question = router.question(0);
    let Subject::Rpc { payload, .. } = &question.subject else { panic!("{question:?}") };
    assert_eq!(payload.view().args, Some(&b"[1]"[..]));
    router.shards[0].handle_verdict(router.now, question.verdict(Ok(Grant::default())));
    assert_eq!(router.hear_one(old), r#"[3,"id",null]"#);
    router.say(old, r#"[2,"id","p"]"#);
    let question = router.question(0);
    router.shards[0].handle_verdict(router.now, question.verdict(Err(Denial::Refused)));
    assert_eq!(
        router.hear_one(old),
        r#"[4,"id","wamp.error.not_authorized","the hook does not allow this call"]"#
    );
}
