//! Plain publications: what came without structure, among clients of both protocols.

use fanwire_codec::payload::OwnedPayload;
use fanwire_codec::wamp2::{ReceiverLists, Serializer};
use fanwire_core::Limits;
use fanwire_core::api::{Actor, ApiPublication, Ask};
use fanwire_core::ids::RoleId;
use fanwire_core::message_center::OnError;

use crate::api::{ask, outcomes};
use crate::message_center::{DONE, center, granted};
use crate::support::Router;

/// From shard 1 to `video:1`; says how many it was for.
fn publish(
    router: &mut Router,
    payload: OwnedPayload,
    plain: bool,
    receivers: ReceiverLists<'static>,
) -> Option<u64> {
    let realm = router.shards[1].config().access.realm("both").expect("it is there");
    let publication = ApiPublication {
        actor: Actor { realm, role: RoleId::new(0) },
        topic: "video:1".into(),
        payload,
        plain,
        receivers,
        conflate_key: None,
        retain: false,
        receipt: true,
        from: None,
    };
    let answer = ask(router, 1, Ask::Publish(vec![publication]));
    router.settle();
    outcomes(answer.try_recv().expect("it was answered"))[0].expect("it was published")
}

#[test]
fn s2_09_what_came_without_structure_goes_without_it() {
    let mut router = center("both", OnError::Keep, Limits::default(), &[]);
    // One on the publisher's shard, and one that it reaches by a ring.
    let clients = [0, 1].map(|shard| router.connect_to_center(shard));
    for client in clients {
        assert_eq!(router.subscribe_to(client, "1@video"), DONE);
    }
    let wamp = router.join_realm(0, "both");
    router.say(wamp, r#"[32,1,{},"video:1"]"#);
    assert!(router.hear_one(wamp).starts_with("[33,1,"));
    let article = r#"{"event":"@user","data":{"uid":1001,"msg":"Hello,World!"}}"#;
    let string = r#""{\"event\":\"@user\",\"data\":{\"uid\":1001,\"msg\":\"Hello,World!\"}}""#;
    for (text, string) in [
        (article, string),
        ("", r#""""#),
        ("a\n\"\\ é", r#""a\n\"\\ é""#),
        (" { } ", r#"" { } ""#),
        ("9007199254740993", r#""9007199254740993""#),
    ] {
        let payload = OwnedPayload::from_plain(text.as_bytes());
        assert_eq!(publish(&mut router, payload, true, ReceiverLists::default()), Some(3));
        for client in clients {
            assert_eq!(router.hear(client), [text], "it is no more and no less than that");
        }
        assert!(router.hear_one(wamp).ends_with(&format!(",{{}},[{string}]]")), "{text}");
    }
    for (bytes, heard) in [(&b"hi"[..], "6869"), (b"\0\x01b", "000162"), (b"\xff", "ff")] {
        let payload = OwnedPayload::from_plain_binary(bytes);
        assert_eq!(publish(&mut router, payload, true, ReceiverLists::default()), Some(3));
        for client in clients {
            assert_eq!(router.hear(client), [heard], "a binary frame");
        }
        assert!(router.hear_one(wamp).contains(r#"["\u0000"#), "{heard}");
    }
}

#[test]
fn s2_09_whoever_is_excluded_gets_nothing_plain_either() {
    let mut router = center("both", OnError::Keep, Limits::default(), &[]);
    let [joe, ann] = ["joe", "ann"].map(|uid| {
        let client = router.connect_to_center(0);
        assert_eq!(router.log_in(client, granted(uid, "{}")), DONE);
        assert_eq!(router.subscribe_to(client, "1@video"), DONE);
        client
    });
    let receivers = ReceiverLists { exclude_authid: Some(vec!["joe".into()]), ..ReceiverLists::default() };
    publish(&mut router, OwnedPayload::from_plain(b"not for Joe"), true, receivers);
    publish(&mut router, OwnedPayload::from_plain(b"for all"), true, ReceiverLists::default());
    assert_eq!(router.hear(joe), ["for all"]);
    assert_eq!(router.hear(ann), ["not for Joe", "for all"]);
}

#[test]
fn the_same_payload_that_is_not_plain_is_an_event() {
    let mut router = center("both", OnError::Keep, Limits::default(), &[]);
    let client = router.connect_to_center(0);
    assert_eq!(router.subscribe_to(client, "1@video"), DONE);
    publish(&mut router, OwnedPayload::from_plain(b"hi"), false, ReceiverLists::default());
    assert_eq!(router.hear(client), [r#"{"event":"1@video","data":"hi"}"#]);
    // What says that it is plain, and is not, is told as what it is.
    let payload = OwnedPayload::checked(Serializer::Json, Some(b"[1, 2]"), None).expect("a list");
    publish(&mut router, payload, true, ReceiverLists::default());
    assert_eq!(router.hear(client), [r#"{"event":"1@video","data":{"args":[1, 2],"kwargs":{}}}"#]);
}
