//! Publish and subscribe as clients of WAMP version 1 see it, beside all others of the realm.

use fanwire_codec::wamp2::Serializer;
use fanwire_codec::ws::deflate::{Agreement, Direction};
use fanwire_core::echo::{EchoRooms, RoomRule};
use fanwire_core::message_center::{ChannelRule, MessageCenter, OnError};
use fanwire_core::{Flow, Limits};

use crate::support::{Client, Router, number};

/// Clients of version 1 are in this realm.
pub fn router_of(shards: u8, realm: &str, names: &[(&str, &str)]) -> Router {
    let nothing = |_: &_| (MessageCenter::default(), EchoRooms::default());
    Router::with_version_1(shards, Limits::default(), &[], realm, names, nothing)
}

/// A client of version 1 that is welcome, and the id that it was told.
pub fn enter(router: &mut Router, shard: usize) -> (Client, String) {
    let (client, flow) = router.connect_version_1(shard, None);
    assert_eq!(flow, Flow::Continue);
    let welcome = router.hear_one(client);
    let id = welcome.strip_prefix("[0,\"").and_then(|rest| rest.strip_suffix("\",1,\"fanwire-test\"]"));
    (client, id.unwrap_or_else(|| panic!("{welcome}")).to_owned())
}

/// It subscribes, of which it hears nothing.
fn subscribe(router: &mut Router, client: Client, topic: &str) {
    assert_eq!(router.say(client, &format!(r#"[5,"{topic}"]"#)), Flow::Continue);
    assert!(router.hear(client).is_empty());
}

/// A client of version 2 that is subscribed, in this serializer.
fn version_2(router: &mut Router, shard: usize, serializer: Serializer, topic: &str) -> Client {
    let client = router.join(shard);
    assert_eq!(serializer, Serializer::Json, "the tests write JSON");
    router.say(client, &format!(r#"[32,1,{{}},"{topic}"]"#));
    assert!(router.hear_one(client).starts_with("[33,1,"));
    client
}

/// What follows the publication's id in an EVENT of version 2.
fn tail(event: &str) -> &str {
    assert!(event.starts_with("[36,"), "{event}");
    event.splitn(4, ',').nth(3).expect("details")
}

#[test]
fn welcome_says_the_sessions_id() {
    let mut router = router_of(2, "realm1", &[]);
    for shard in 0..2 {
        let (client, id) = enter(&mut router, shard);
        assert_eq!(router.session_id(client).expect("it is open").get().to_string(), id);
        let counters = router.shards[shard].counters();
        assert_eq!((counters.sessions, counters.wamp1.sessions, counters.wamp1.sessions_opened), (1, 1, 1));
        router.vanish(client);
        assert_eq!(router.shards[shard].counters().wamp1.sessions, 0);
    }
}

#[test]
fn an_event_is_one_value_and_a_list_of_one_argument() {
    for shards in [1, 2] {
        let far = usize::from(shards) - 1;
        let mut router = router_of(shards, "realm1", &[]);
        let (old, _) = enter(&mut router, 0);
        subscribe(&mut router, old, "a.b");
        let new = version_2(&mut router, far, Serializer::Json, "a.b");
        // From version 2 to version 1.
        for (published, event) in [
            (r#",["hi"]"#, r#""hi""#),
            (r#",[{"a": 1.50}]"#, r#"{"a": 1.50}"#),
            (",[[1,2]]", "[1,2]"),
            (",[null]", "null"),
            (",[]", "null"),
            ("", "null"),
            (",[1,2]", r#"{"args":[1,2],"kwargs":{}}"#),
            (r#",[],{"k":1}"#, r#"{"args":[],"kwargs":{"k":1}}"#),
            (r#",["a"],{"k":1}"#, r#"{"args":["a"],"kwargs":{"k":1}}"#),
            (r#",["\u0000AAFi"]"#, r#""\u0000AAFi""#),
        ] {
            router.say(new, &format!(r#"[16,2,{{}},"a.b"{published}]"#));
            assert_eq!(router.hear_one(old), format!(r#"[8,"a.b",{event}]"#), "{published}");
        }
        // And back.
        for event in
            [r#""hi""#, "null", r#"{"a": [1, 2]}"#, "[1, [2]]", "1.50", r#""\u0000AAFi""#, "9007199254740993"]
        {
            router.say(old, &format!(r#"[7,"a.b",{event}]"#));
            assert_eq!(tail(&router.hear_one(new)), format!("{{}},[{event}]]"));
            assert!(router.hear(old).is_empty(), "who publishes does not get it");
        }
    }
}

#[test]
fn packed_arguments_become_json() {
    let mut router = router_of(2, "realm1", &[]);
    let (old, _) = enter(&mut router, 0);
    subscribe(&mut router, old, "a");
    let new = router.connect(1, Serializer::MsgPack);
    let say = |router: &mut Router, bytes: &[u8]| {
        router.say_bytes(new, fanwire_codec::ws::Kind::Binary, bytes);
    };
    say(&mut router, b"\x93\x01\xa6realm1\x81\xa5roles\x81\xa9publisher\x80");
    router.hear_one(new);
    say(&mut router, b"\x95\x10\x01\x80\xa1a\x91\xc4\x03\0\x01b");
    assert_eq!(router.hear_one(old), r#"[8,"a","\u0000AAFi"]"#);
    // NaN has no form in JSON: the event is dropped and counted.
    say(&mut router, b"\x95\x10\x02\x80\xa1a\x91\xca\x7f\xc0\0\0");
    assert!(router.hear(old).is_empty());
    assert_eq!(router.shards[0].counters().dropped.iter().sum::<u64>(), 1);
}

#[test]
fn who_gets_an_event_is_said_by_lists_of_session_ids() {
    for shards in [1, 2] {
        let mut router = router_of(shards, "realm1", &[]);
        let far = usize::from(shards) - 1;
        let (a, a_id) = enter(&mut router, 0);
        let (b, b_id) = enter(&mut router, 0);
        let (c, c_id) = enter(&mut router, far);
        let new = router.join(far);
        let new_id = router.session_id(new).expect("it is open").get();
        for client in [a, b, c] {
            subscribe(&mut router, client, "t");
        }
        router.say(new, r#"[32,1,{},"t"]"#);
        router.hear_one(new);
        for (who, expected) in [
            (String::new(), [false, true, true, true]),
            (",true".to_owned(), [false, true, true, true]),
            (",false".to_owned(), [true, true, true, true]),
            (",null".to_owned(), [false, true, true, true]),
            (",[]".to_owned(), [true, true, true, true]),
            (format!(",[\"{b_id}\"]"), [true, false, true, true]),
            (format!(",[\"{a_id}\",\"{c_id}\",\"nobody\"]"), [false, true, false, true]),
            (format!(",[],[\"{b_id}\",\"{new_id}\"]"), [false, true, false, true]),
            (format!(",[\"{b_id}\"],[\"{b_id}\",\"{c_id}\"]"), [false, false, true, false]),
            (format!(",[],[\"{a_id}\"]"), [true, false, false, false]),
            (",[],[]".to_owned(), [false; 4]),
            (",[],[\"nobody\",\"0\"]".to_owned(), [false; 4]),
            (format!(",[\"0{b_id}\"]"), [true, true, true, true]),
        ] {
            router.say(a, &format!(r#"[7,"t",1{who}]"#));
            let heard = [a, b, c, new].map(|client| router.hear(client).len());
            assert_eq!(heard, expected.map(usize::from), "{who} of {shards} shards");
        }
        // Version 2 excludes sessions of version 1 by the same numbers.
        router.say(new, &format!(r#"[16,2,{{"exclude":[{b_id}]}},"t",[1]]"#));
        assert_eq!([a, b, c].map(|client| router.hear(client).len()), [1, 0, 1]);
    }
}

#[test]
fn curies_stand_for_what_their_prefixes_say() {
    let mut router = router_of(2, "realm1", &[]);
    let (a, _) = enter(&mut router, 0);
    let (b, _) = enter(&mut router, 1);
    router.say(a, r#"[1,"event","http://example.com/event#"]"#);
    // Once, whatever it is called.
    subscribe(&mut router, a, "event:chat");
    subscribe(&mut router, a, "http://example.com/event#chat");
    router.say(b, r#"[7,"http://example.com/event#chat","hi"]"#);
    assert_eq!(
        router.hear_one(a),
        r#"[8,"http://example.com/event#chat","hi"]"#,
        "in full, which all can read"
    );
    // Prefixes are the session's own.
    router.say(b, r#"[7,"event:chat","hi"]"#);
    assert!(router.hear(a).is_empty());
    router.say(b, r#"[1,"event","http://example.com/"]"#);
    router.say(b, r#"[1,"event","http://example.com/event#"]"#);
    router.say(b, r#"[7,"event:chat",2]"#);
    assert_eq!(router.hear_one(a), r#"[8,"http://example.com/event#chat",2]"#);
    router.say(a, r#"[6,"event:chat"]"#);
    router.say(b, r#"[7,"event:chat",3]"#);
    assert!(router.hear(a).is_empty());
    assert_eq!(router.shards[0].counters().subscriptions, 0);
}

#[test]
fn names_with_a_fragment_are_for_version_1_and_for_patterns() {
    let mut router = router_of(2, "realm1", &[]);
    let (old, _) = enter(&mut router, 0);
    subscribe(&mut router, old, "http://example.com/x#e");
    let new = router.join(1);
    router.say(new, r#"[32,1,{},"http://example.com/x#e"]"#);
    assert!(router.hear_one(new).contains("wamp.error.invalid_uri"));
    router.say(new, r#"[16,2,{"acknowledge":true},"http://example.com/x#e"]"#);
    assert!(router.hear_one(new).contains("wamp.error.invalid_uri"));
    router.say(new, r#"[32,3,{"match":"prefix"},"http://example.com/"]"#);
    router.hear_one(new);
    let (publisher, _) = enter(&mut router, 1);
    router.say(publisher, r#"[7,"http://example.com/x#e",1]"#);
    assert_eq!(router.hear_one(old), r#"[8,"http://example.com/x#e",1]"#);
    assert_eq!(tail(&router.hear_one(new)), r#"{"topic":"http://example.com/x#e"},[1]]"#);
    // Names without one are the same for both.
    router.say(new, r#"[16,4,{},"http://example.com/y",["b"]]"#);
    assert!(router.hear(old).is_empty());
    subscribe(&mut router, old, "http://example.com/y");
    router.say(new, r#"[16,5,{},"http://example.com/y",["b"]]"#);
    assert_eq!(router.hear_one(old), r#"[8,"http://example.com/y","b"]"#);
}

#[test]
fn configured_names_lead_to_topics_of_version_2() {
    let names = [("http://example.com/event#", "com.example.event.")];
    let mut router = router_of(2, "realm1", &names);
    let (a, _) = enter(&mut router, 0);
    let (b, _) = enter(&mut router, 0);
    subscribe(&mut router, a, "http://example.com/event#chat");
    subscribe(&mut router, b, "com.example.event.chat");
    let new = version_2(&mut router, 1, Serializer::Json, "com.example.event.chat");
    router.say(new, r#"[16,2,{"exclude_me":false},"com.example.event.chat",["hi"]]"#);
    assert_eq!(router.hear_one(a), r#"[8,"http://example.com/event#chat","hi"]"#);
    assert_eq!(router.hear_one(b), r#"[8,"com.example.event.chat","hi"]"#);
    assert_eq!(router.hear(new).len(), 1);
    router.say(a, r#"[7,"http://example.com/event#chat",1,false]"#);
    assert_eq!(router.hear_one(a), r#"[8,"http://example.com/event#chat",1]"#);
    assert_eq!(router.hear_one(b), r#"[8,"com.example.event.chat",1]"#);
    assert_eq!(tail(&router.hear_one(new)), "{},[1]]");
    assert_eq!(router.shards[0].counters().streams, 2, "one for each name");
    // Of two names the newer one holds, and only that one ends it.
    subscribe(&mut router, a, "com.example.event.chat");
    router.say(new, r#"[16,3,{},"com.example.event.chat",[2]]"#);
    assert_eq!(router.hear_one(a), r#"[8,"com.example.event.chat",2]"#);
    assert_eq!(router.shards[0].counters().streams, 1);
    router.hear(b);
    router.say(a, r#"[6,"http://example.com/event#chat"]"#);
    router.say(new, r#"[16,4,{},"com.example.event.chat",[3]]"#);
    assert_eq!((router.hear(a).len(), router.hear(b).len()), (1, 1));
    subscribe(&mut router, a, "http://example.com/event#chat");
    router.say(a, r#"[6,"http://example.com/event#chat"]"#);
    router.say(new, r#"[16,5,{},"com.example.event.chat",[4]]"#);
    assert_eq!((router.hear(a).len(), router.hear(b).len()), (0, 1));
    assert_eq!(router.shards[0].counters().subscriptions, 1);
}

#[test]
fn other_protocols_hear_it_and_are_heard() {
    let built = |access: &fanwire_core::access::Access| {
        let realm = access.realm("realm1").expect("it is there");
        let rule = ChannelRule::new("@{name}", "room.{name}", false).expect("a rule");
        let room = RoomRule::new("/room/{room}", "room.{room}").expect("a rule");
        let rooms = EchoRooms { realm, rooms: [room].into(), ..EchoRooms::default() };
        (MessageCenter::new(realm, OnError::Keep, vec![rule]), rooms)
    };
    let mut router = Router::with_version_1(2, Limits::default(), &[], "realm1", &[], built);
    let (old, _) = enter(&mut router, 0);
    subscribe(&mut router, old, "room.1");
    let center = router.connect_to_center(1);
    router.say(center, r#"{"op":"subscribe","channel":"@1"}"#);
    router.hear_one(center);
    let (echo, _) = router.connect_to_room(0, "/room/1", None);
    router.say(old, r#"[7,"room.1","hi"]"#);
    assert_eq!(router.hear_one(center), r#"{"event":"@1","data":"hi"}"#);
    assert_eq!(router.hear_one(echo), "hi");
    router.say(old, r#"[7,"room.1",{"n": 1}]"#);
    assert_eq!(router.hear_one(center), r#"{"event":"@1","data":{"n": 1}}"#);
    assert_eq!(router.hear_one(echo), r#"{"n": 1}"#);
    // What is said in a room is a string here, and never a frame of its own.
    router.say(echo, "a \"b\"");
    assert_eq!(router.hear_one(old), r#"[8,"room.1","a \"b\""]"#);
    router.say_bytes(echo, fanwire_codec::ws::Kind::Binary, b"b");
    assert_eq!(router.hear_one(old), r#"[8,"room.1","\u0000Yg=="]"#);
}

#[test]
fn all_who_call_a_topic_alike_share_its_frames() {
    let mut router = router_of(1, "realm1", &[]);
    let direction = Direction { window_bits: 15, takeover: false };
    let agreement = Agreement { server: direction, client: direction };
    let mut clients: Vec<Client> = (0..20).map(|_| enter(&mut router, 0).0).collect();
    for _ in 0..5 {
        let (client, flow) = router.connect_version_1(0, Some(&agreement));
        assert_eq!((flow, router.hear(client).len()), (Flow::Continue, 1));
        clients.push(client);
    }
    for client in &clients {
        subscribe(&mut router, *client, "http://example.com/x#e");
    }
    assert_eq!(router.shards[0].counters().streams, 2, "plain and compressed");
    let publisher = clients[0];
    router.say(publisher, r#"[7,"http://example.com/x#e","a",false]"#);
    for client in &clients {
        assert_eq!(router.hear_one(*client), r#"[8,"http://example.com/x#e","a"]"#);
    }
    clients.iter().for_each(|client| router.vanish(*client));
    router.settle();
    let counters = router.shards[0].counters();
    assert_eq!((counters.streams, counters.subscriptions, counters.sessions), (0, 0, 0));
}

#[test]
fn lost_events_are_told_like_any_others() {
    let mut router = router_of(1, "realm1", &[]);
    let (old, _) = enter(&mut router, 0);
    subscribe(&mut router, old, "fanwire.gap");
    let new = router.join(0);
    router.say(new, r#"[32,1,{},"fanwire.gap"]"#);
    assert!(number(&router.hear_one(new), 2) > 0);
    // Nobody publishes there.
    router.say(old, r#"[7,"fanwire.gap",1,false]"#);
    assert!(router.hear(old).is_empty() && router.hear(new).is_empty());
    assert_eq!(router.shards[0].counters().requests_refused, 1);
}
