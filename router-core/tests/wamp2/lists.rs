//! Lists of receivers: who a publication is for (WAMP, "Subscriber Black- and Whitelisting").

use fanwire_codec::wamp2::Serializer;
use fanwire_codec::ws::Kind;
use fanwire_core::DropReason;

use crate::support::{Client, Router, number};

/// A subscriber of `a.b`, and its session.
fn subscriber(router: &mut Router, shard: usize) -> (Client, u64) {
    let (client, session) = joined(router, shard);
    router.say(client, r#"[32,1,{},"a.b"]"#);
    assert!(router.hear_one(client).starts_with("[33,1,"));
    (client, session)
}

fn joined(router: &mut Router, shard: usize) -> (Client, u64) {
    let client = router.connect(shard, Serializer::Json);
    router.say(client, r#"[1,"realm1",{"roles":{"publisher":{}}}]"#);
    (client, number(&router.hear_one(client), 1))
}

/// A user of the realm `named`, whose roles are `user` and `operator`.
fn log_in(router: &mut Router, shard: usize, name: &str, role: u16) -> Client {
    let client = router.challenged(shard, "named", name);
    let _ = router.say(client, r#"[5,"secret!!!",{}]"#);
    let request = router.question(shard);
    router.grant(shard, &request, role);
    assert!(router.hear_one(client).starts_with("[2,"));
    client
}

/// Publishes with these options and says which of the clients heard it.
fn heard_by(router: &mut Router, publisher: Client, options: &str, clients: &[Client]) -> Vec<usize> {
    router.say(publisher, &format!(r#"[16,7,{{"acknowledge":true{options}}},"a.b",["x"]]"#));
    let mut heard = Vec::new();
    for (index, client) in clients.iter().enumerate() {
        let events: Vec<_> =
            router.hear(*client).into_iter().filter(|message| !message.starts_with("[17,7,")).collect();
        for event in &events {
            assert!(
                event.starts_with("[36,") && event.ends_with(r#",{},["x"]]"#),
                "no word of the lists: {event}"
            );
        }
        assert!(events.len() <= 1, "{events:?}");
        heard.extend((!events.is_empty()).then_some(index));
    }
    router.hear(publisher);
    heard
}

#[test]
fn sessions_are_excluded_and_eligible_on_all_shards() {
    let mut router = Router::new(2);
    let people: Vec<_> = (0..4).map(|index| subscriber(&mut router, index % 2)).collect();
    let (clients, ids): (Vec<_>, Vec<_>) = people.into_iter().unzip();
    let publisher = router.join(0);
    let [a, b, c, d] = ids[..] else { panic!("there are four") };
    for (options, expected) in [
        (String::new(), vec![0, 1, 2, 3]),
        (format!(r#","exclude":[{a},{d}]"#), vec![1, 2]),
        (format!(r#","eligible":[{a},{d}.0,12345]"#), vec![0, 3]),
        (format!(r#","eligible":[{a},{b},{c}],"exclude":[{b}]"#), vec![0, 2]),
        (r#","eligible":[]"#.to_owned(), vec![]),
        (r#","exclude":[]"#.to_owned(), vec![0, 1, 2, 3]),
        (format!(r#","eligible_authid":["anonymous-{b:x}","anonymous-0{c:x}"]"#), vec![1]),
        (format!(r#","exclude_authid":["anonymous-{b:x}"]"#), vec![0, 2, 3]),
        (r#","eligible_authid":[]"#.to_owned(), vec![]),
        (r#","eligible_authrole":["anonymous"]"#.to_owned(), vec![0, 1, 2, 3]),
        (r#","eligible_authrole":["staff"]"#.to_owned(), vec![]),
        (r#","exclude_authrole":["staff"]"#.to_owned(), vec![0, 1, 2, 3]),
        (r#","exclude_authrole":["staff","anonymous"]"#.to_owned(), vec![]),
        (
            format!(r#","eligible":[{a},{b}],"eligible_authid":["anonymous-{b:x}","anonymous-{c:x}"]"#),
            vec![1],
        ),
        (format!(r#","eligible":[{a}],"eligible_authrole":["staff"]"#), vec![]),
    ] {
        assert_eq!(heard_by(&mut router, publisher, &options, &clients), expected, "{options}");
    }
    let balances: Vec<_> = router.shards.iter().map(|shard| shard.counters().balance()).collect();
    assert_eq!(balances, [0, 0]);
}

#[test]
fn the_publisher_is_excluded_as_ever() {
    let mut router = Router::new(2);
    let (publisher, own) = subscriber(&mut router, 0);
    let (other, id) = subscriber(&mut router, 1);
    let clients = [publisher, other];
    for (options, expected) in [
        (format!(r#","eligible":[{own},{id}]"#), vec![1]),
        (format!(r#","eligible":[{own},{id}],"exclude_me":false"#), vec![0, 1]),
        (format!(r#","exclude":[{own}],"exclude_me":false"#), vec![1]),
        (format!(r#","exclude":[{id}],"exclude_me":false"#), vec![0]),
        (r#","eligible_authrole":["anonymous"]"#.to_owned(), vec![1]),
        (r#","eligible_authrole":["anonymous"],"exclude_me":false"#.to_owned(), vec![0, 1]),
    ] {
        assert_eq!(heard_by(&mut router, publisher, &options, &clients), expected, "{options}");
    }
}

#[test]
fn an_eligible_session_that_is_not_subscribed_gets_nothing() {
    let mut router = Router::new(2);
    let (alice, id) = joined(&mut router, 1);
    let (_, _) = subscriber(&mut router, 1);
    let publisher = router.join(0);
    router.say(publisher, &format!(r#"[16,1,{{"eligible":[{id}]}},"a.b"]"#));
    assert!(router.hear(alice).is_empty());
    // The other realm's topic of the same name is another one.
    let stranger = router.join_realm(1, "closed");
    router.say(stranger, r#"[32,1,{},"ok.a"]"#);
    router.hear(stranger);
    router.say(alice, r#"[32,1,{},"ok.a"]"#);
    router.hear(alice);
    router.say(publisher, r#"[16,2,{"eligible_authrole":["anonymous"]},"ok.a"]"#);
    assert_eq!((router.hear(alice).len(), router.hear(stranger).len()), (1, 0));
}

#[test]
fn users_go_by_their_name_and_role() {
    let mut router = Router::new(2);
    let people = [("peter", 0, 0), ("peter", 1, 1), ("anna", 1, 0)];
    let clients: Vec<_> = people
        .iter()
        .map(|(name, role, shard)| {
            let client = log_in(&mut router, *shard, name, *role);
            router.say(client, r#"[32,1,{},"a.b"]"#);
            assert!(router.hear_one(client).starts_with("[33,1,"));
            client
        })
        .collect();
    let publisher = log_in(&mut router, 0, "paula", 0);
    for (options, expected) in [
        (r#","eligible_authid":["peter"]"#, vec![0, 1]),
        (r#","exclude_authid":["peter"]"#, vec![2]),
        (r#","eligible_authrole":["operator"]"#, vec![1, 2]),
        (r#","exclude_authrole":["operator"]"#, vec![0]),
        (r#","eligible_authid":["peter"],"eligible_authrole":["operator"]"#, vec![1]),
        (r#","eligible_authid":["Peter","pete","peter "]"#, vec![]),
        (r#","eligible_authrole":["operator"],"exclude_authid":["anna"]"#, vec![1]),
    ] {
        assert_eq!(heard_by(&mut router, publisher, options, &clients), expected, "{options}");
    }
}

#[test]
fn wrong_lists_are_refused_and_the_session_goes_on() {
    let mut router = Router::new(1);
    let alice = router.join(0);
    for (options, key) in [
        (r#""exclude":7"#, "exclude"),
        (r#""exclude":["7"]"#, "exclude"),
        (r#""eligible":[0]"#, "eligible"),
        (r#""eligible":[1.5]"#, "eligible"),
        (r#""exclude_authid":"peter""#, "exclude_authid"),
        (r#""exclude_authrole":[1]"#, "exclude_authrole"),
        (r#""eligible_authid":{}"#, "eligible_authid"),
        (r#""eligible_authrole":[null]"#, "eligible_authrole"),
    ] {
        router.say(alice, &format!(r#"[16,5,{{"acknowledge":true,{options}}},"a.b"]"#));
        let error = router.hear_one(alice);
        let begin = format!(r#"[8,16,5,{{}},"wamp.error.invalid_argument",["PUBLISH: \"{key}\" must be "#);
        assert!(error.starts_with(&begin), "{options}: {error}");
        router.say(alice, &format!(r#"[16,5,{{{options}}},"a.b"]"#));
        assert!(router.hear(alice).is_empty(), "no acknowledgement was asked for");
    }
    let many = (1..=65_537).map(|id| id.to_string()).collect::<Vec<_>>().join(",");
    router.say(alice, &format!(r#"[16,6,{{"acknowledge":true,"exclude":[{many}]}},"a.b"]"#));
    assert!(router.hear_one(alice).contains("at most 65536 entries"));
    router.say(alice, r#"[16,7,{"acknowledge":true,"exclude":null},"a.b"]"#);
    assert!(router.hear_one(alice).starts_with("[17,7,"));
}

#[test]
fn events_of_lists_keep_the_publishers_order() {
    let mut router = Router::new(2);
    let (local, one) = subscriber(&mut router, 0);
    let (remote, two) = subscriber(&mut router, 1);
    let publisher = router.join(0);
    let options = [
        String::new(),
        format!(r#""eligible":[{one},{two}]"#),
        r#""eligible_authrole":["anonymous"]"#.to_owned(),
        r#""exclude":[5]"#.to_owned(),
        format!(r#""eligible_authid":["anonymous-{one:x}","anonymous-{two:x}"]"#),
    ];
    for number in 0..40 {
        let options = &options[number % options.len()];
        router.say(publisher, &format!(r#"[16,{},{{{options}}},"a.b",[{number}]]"#, number + 1));
    }
    for client in [local, remote] {
        let heard = router.hear(client);
        assert_eq!(heard.len(), 40);
        for (number, event) in heard.iter().enumerate() {
            assert!(event.ends_with(&format!("[{number}]]")), "{heard:?}");
        }
    }
}

#[test]
fn lists_wait_with_their_publication() {
    let limits = fanwire_core::Limits { ring_capacity: 2, ..fanwire_core::Limits::default() };
    let mut router = Router::with(2, limits);
    let (meant, id) = subscriber(&mut router, 1);
    let (other, _) = subscriber(&mut router, 1);
    let publisher = router.join(0);
    let mut sent = 0;
    while router
        .say(publisher, &format!(r#"[16,{},{{"acknowledge":true,"eligible":[{id}]}},"a.b"]"#, sent + 1))
        == fanwire_core::Flow::Continue
    {
        sent += 1;
        assert!(sent < 10, "two slots");
    }
    assert_eq!(router.hear(meant).len(), sent + 1);
    assert!(router.hear(other).is_empty());
}

#[test]
fn every_serializer_has_lists() {
    let mut router = Router::new(2);
    let (alice, one) = subscriber(&mut router, 0);
    let (bob, _) = subscriber(&mut router, 1);
    // [1, "realm1", {"roles": {"publisher": {}}}] and [16, 1, {"eligible": [one]}, "a.b"], the id as a float
    let float = (one as f64).to_be_bytes();
    let hello = b"\x93\x01\xa6realm1\x81\xa5roles\x81\xa9publisher\x80";
    let publish = [&b"\x94\x10\x01\x81\xa8eligible\x91\xcb"[..], &float, b"\xa3a.b"].concat();
    publish_raw(&mut router, Serializer::MsgPack, hello, &publish);
    assert_eq!((router.hear(alice).len(), router.hear(bob).len()), (1, 0));
    let hello = b"\x83\x01\x66realm1\xa1\x65roles\xa1\x69publisher\xa0";
    let publish = [&b"\x84\x10\x01\xa1\x67exclude\x9f\xfb"[..], &float, b"\xff\x63a.b"].concat();
    publish_raw(&mut router, Serializer::Cbor, hello, &publish);
    assert_eq!((router.hear(alice).len(), router.hear(bob).len()), (0, 1));
}

fn publish_raw(router: &mut Router, serializer: Serializer, hello: &[u8], publish: &[u8]) {
    let client = router.connect(0, serializer);
    router.say_bytes(client, Kind::Binary, hello);
    router.say_bytes(client, Kind::Binary, publish);
    assert_eq!(router.hear(client).len(), 1, "WELCOME");
}

#[test]
fn events_without_a_form_are_counted_for_those_that_are_meant() {
    let mut router = Router::new(1);
    let (_, one) = subscriber(&mut router, 0);
    subscriber(&mut router, 0);
    // [1, "realm1", {"roles": {"publisher": {}}}] and a PUBLISH whose argument, an extension, has no form in JSON.
    let hello = b"\x93\x01\xa6realm1\x81\xa5roles\x81\xa9publisher\x80";
    let publish = [
        &b"\x95\x10\x01\x81\xa8eligible\x91\xcb"[..],
        &(one as f64).to_be_bytes(),
        b"\xa3a.b\x91\xd4\x05\x00",
    ]
    .concat();
    publish_raw(&mut router, Serializer::MsgPack, hello, &publish);
    let counters = router.shards[0].counters();
    assert_eq!((counters.matched, counters.dropped[DropReason::Untranslatable as usize]), (1, 1));
}
