//! Trust levels: what the configuration says of who publishes or calls is told to subscribers and callees.

use fanwire_codec::payload::OwnedPayload;
use fanwire_codec::wamp2::{ReceiverLists, Serializer};
use fanwire_core::Limits;
use fanwire_core::access::{Permission, TrustLevel};
use fanwire_core::api::{Actor, ApiCall, ApiPublication, ApiRequest, Ask};
use fanwire_core::ids::{RealmId, RoleId};
use fanwire_core::uri::MatchPolicy;

use crate::meta::{REALM1, ask};
use crate::support::{Client, Router, number, realms};

/// Sessions of `realm1` are trusted as far as 3 below `deep.`, not at all below `flat.`, and elsewhere nothing is said.
fn trusting() -> Router {
    let mut realms = realms().to_vec();
    let rules = &mut realms[0].roles[0].permissions;
    for (uri, level) in [("deep.", 3), ("flat.", 0)] {
        let trust = Some(TrustLevel(level));
        rules.push(Permission { uri: uri.to_owned(), trust, ..rules[0].clone() });
    }
    let mut router = Router::new(2);
    let config = router.renewed(0, &realms, Limits::default());
    (0..2).for_each(|shard| router.renew(shard, &config));
    router
}

const TOLD: [(&str, &str); 3] =
    [("deep.a", r#"{"trustlevel":3}"#), ("flat.a", r#"{"trustlevel":0}"#), ("else.a", "{}")];

fn subscribe(router: &mut Router, client: Client, policy: MatchPolicy, uri: &str) {
    router.say(client, &format!(r#"[32,1,{{"match":"{}"}},"{uri}"]"#, policy.name()));
    assert!(router.hear_one(client).starts_with("[33,1,"));
}

/// The details of the one event, or invocation, that it hears.
fn details(router: &mut Router, client: Client) -> String {
    let heard = router.hear_one(client);
    let from = heard.find('{').expect("details");
    let to = heard[from..].find('}').expect("an end");
    heard[from..=from + to].to_owned()
}

#[test]
fn events_say_how_far_their_publisher_is_trusted() {
    for on in [0, 1] {
        for (topic, told) in TOLD {
            let mut router = trusting();
            let publisher = router.join(0);
            let (exact, by_pattern) = (router.join(on), router.join(on));
            subscribe(&mut router, exact, MatchPolicy::Exact, topic);
            subscribe(&mut router, by_pattern, MatchPolicy::Prefix, &topic[..5]);
            router.say(publisher, &format!(r#"[16,1,{{}},"{topic}"]"#));
            assert_eq!(details(&mut router, exact), told, "{topic}");
            let expected = format!(r#"{{"topic":"{topic}","#) + &told[1..];
            assert_eq!(details(&mut router, by_pattern), expected.replace(",}", "}"));
            router.say(publisher, &format!(r#"[16,2,{{"disclose_me":true}},"{topic}"]"#));
            let disclosed = details(&mut router, exact);
            assert!(disclosed.starts_with(r#"{"publisher":"#), "{disclosed}");
            assert!(disclosed.ends_with(&told[1..]), "both are told: {disclosed}");
        }
    }
}

#[test]
fn what_was_kept_says_how_far_its_publisher_was_trusted() {
    let mut router = trusting();
    let (publisher, late) = (router.join(0), router.join(1));
    router.say(publisher, r#"[16,1,{"retain":true},"deep.a",[1]]"#);
    router.say(late, r#"[32,1,{"get_retained":true},"deep.a"]"#);
    let heard = router.hear(late);
    assert!(heard[1].contains(r#"{"retained":true,"trustlevel":3}"#), "{heard:?}");
}

#[test]
fn invocations_say_how_far_their_caller_is_trusted() {
    for on in [0, 1] {
        for (procedure, told) in TOLD {
            let mut router = trusting();
            let caller = router.join_able(0, &["progressive_call_invocations"], &[]);
            let able = ["progressive_call_invocations", "call_canceling", "call_reroute"];
            let callees = [router.join_able(on, &[], &able), router.join_able(1 - on, &[], &able)];
            for callee in callees {
                router.say(callee, &format!(r#"[64,1,{{"invoke":"first"}},"{procedure}"]"#));
                assert!(router.hear_one(callee).starts_with("[65,1,"));
            }
            router.say(caller, &format!(r#"[48,1,{{}},"{procedure}"]"#));
            assert_eq!(details(&mut router, callees[0]), told, "{procedure}");
            router.say(callees[0], r#"[8,68,1,{},"wamp.error.unavailable"]"#);
            assert_eq!(details(&mut router, callees[1]), told, "{procedure}, by the second callee");
            for (more, part) in [(true, "true"), (false, "false")] {
                router.say(caller, &format!(r#"[48,2,{{"progress":{part}}},"{procedure}"]"#));
                let expected = if more { r#"{"progress":true,"# } else { "{" }.to_owned() + &told[1..];
                assert_eq!(details(&mut router, callees[0]), expected.replace(",}", "}"));
            }
        }
    }
}

#[test]
fn what_programs_do_is_trusted_as_their_role_says() {
    let mut router = trusting();
    let actor = Actor { realm: RealmId::new(REALM1), role: RoleId::new(0) };
    let payload = || OwnedPayload::checked(Serializer::Json, Some(b"[1]"), None).expect("JSON");
    let other = router.join(1);
    subscribe(&mut router, other, MatchPolicy::Exact, "deep.a");
    router.say(other, r#"[64,2,{},"deep.p"]"#);
    assert_eq!(number(&router.hear_one(other), 1), 2);
    let publication = ApiPublication {
        actor,
        topic: "deep.a".into(),
        payload: payload(),
        plain: false,
        receivers: ReceiverLists::default(),
        conflate_key: None,
        retain: false,
        receipt: false,
        from: None,
    };
    ask(&mut router, 0, Ask::Publish(vec![publication]));
    assert_eq!(details(&mut router, other), r#"{"trustlevel":3}"#);
    let timeout = std::time::Duration::from_secs(5);
    let call = ApiCall { actor, procedure: "deep.p".into(), payload: payload(), timeout };
    let request = ApiRequest { ask: Ask::Call(call), reply: Box::new(drop) };
    router.shards[0].handle_api(router.now, request, &|_| None).expect("it is ready");
    assert_eq!(details(&mut router, other), r#"{"trustlevel":3}"#);
}
