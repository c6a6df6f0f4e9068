//! Who is told who publishes and calls (WAMP, "Publisher Identification" and "Caller Identification").

use fanwire_codec::wamp2::Serializer;

use crate::support::{Client, Router, number};

const REFUSED: &str = "wamp.error.option_disallowed.disclose_me";

/// A session of the realm `discreet`, and its id.
fn joined(router: &mut Router, shard: usize) -> (Client, u64) {
    let client = router.connect(shard, Serializer::Json);
    router.say(client, r#"[1,"discreet",{"roles":{"publisher":{}}}]"#);
    (client, number(&router.hear_one(client), 1))
}

/// What the other side is told of `session`, whose role in the message is `what`.
fn details(session: u64, what: &str) -> String {
    format!(
        r#"{{"{what}":{session},"{what}_authid":"anonymous-{session:x}","{what}_authrole":"anonymous"}},["x"]]"#
    )
}

#[test]
fn the_rule_of_the_topic_discloses_the_publisher_or_forbids_it() {
    for shard in [0, 1] {
        let mut router = Router::new(2);
        let ((alice, session), (bob, _)) = (joined(&mut router, 0), joined(&mut router, shard));
        for topic in ["told.a", "secret.a", "other.a"] {
            router.say(bob, &format!(r#"[32,1,{{}},"{topic}"]"#));
            router.hear(bob);
        }
        let told = details(session, "publisher");
        for (topic, options, expected) in [
            ("told.a", "", Some(&*told)),
            ("told.a", r#","disclose_me":true"#, Some(&*told)),
            ("told.a", r#","disclose_me":false"#, Some(&*told)),
            ("other.a", "", Some(r#",{},["x"]]"#)),
            ("other.a", r#","disclose_me":true"#, Some(&*told)),
            ("secret.a", "", Some(r#",{},["x"]]"#)),
            ("secret.a", r#","disclose_me":false"#, Some(r#",{},["x"]]"#)),
            ("secret.a", r#","disclose_me":true"#, None),
        ] {
            router.say(alice, &format!(r#"[16,5,{{"acknowledge":true{options}}},"{topic}",["x"]]"#));
            let (answer, events) = (router.hear_one(alice), router.hear(bob));
            match expected {
                Some(end) => {
                    assert!(answer.starts_with("[17,5,"), "{topic} {options}: {answer}");
                    assert!(events.len() == 1 && events[0].ends_with(end), "{topic} {options}: {events:?}");
                }
                None => {
                    let begin =
                        format!(r#"[8,16,5,{{}},"{REFUSED}",["role \"anonymous\" is never disclosed"#);
                    assert!(answer.starts_with(&begin) && answer.contains(topic), "{answer}");
                    assert_eq!(events, [""; 0]);
                }
            }
        }
        router.say(alice, r#"[16,6,{"disclose_me":true},"secret.a"]"#);
        assert!(router.hear(alice).is_empty() && router.hear(bob).is_empty(), "refused without a word");
    }
}

#[test]
fn the_rule_of_the_procedure_discloses_the_caller_or_forbids_it() {
    for shard in [0, 1] {
        let mut router = Router::new(2);
        let ((alice, session), (bob, _)) = (joined(&mut router, 0), joined(&mut router, shard));
        for procedure in ["told.p", "secret.p"] {
            router.say(bob, &format!(r#"[64,1,{{}},"{procedure}"]"#));
            router.hear(bob);
        }
        router.say(alice, r#"[48,1,{},"told.p",["x"]]"#);
        router.settle();
        let invocation = router.hear_one(bob);
        assert!(invocation.ends_with(&details(session, "caller")), "{invocation}");
        router.say(alice, r#"[48,2,{},"secret.p",["x"]]"#);
        router.settle();
        let invocation = router.hear_one(bob);
        assert!(invocation.ends_with(r#",{},["x"]]"#), "{invocation}");
        router.say(alice, r#"[48,3,{"disclose_me":true},"secret.p",["x"]]"#);
        let error = router.hear_one(alice);
        assert!(error.starts_with(&format!(r#"[8,48,3,{{}},"{REFUSED}","#)), "{error}");
        assert!(router.hear(bob).is_empty());
    }
}

#[test]
fn a_callee_may_ask_who_calls() {
    for shard in [0, 1] {
        let mut router = Router::new(2);
        let ((alice, session), (bob, _)) = (joined(&mut router, 0), joined(&mut router, shard));
        for procedure in ["other.p", "secret.p"] {
            router.say(bob, &format!(r#"[64,1,{{"disclose_caller":true}},"{procedure}"]"#));
            router.hear(bob);
        }
        router.say(alice, r#"[48,1,{},"other.p",["x"]]"#);
        router.settle();
        let invocation = router.hear_one(bob);
        assert!(invocation.ends_with(&details(session, "caller")), "{invocation}");
        router.say(alice, r#"[48,2,{},"secret.p",["x"]]"#);
        router.settle();
        let invocation = router.hear_one(bob);
        assert!(invocation.ends_with(r#",{},["x"]]"#), "the caller's permission forbids it: {invocation}");
    }
}
