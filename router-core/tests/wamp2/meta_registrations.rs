//! What the core tells of registrations, and how one is taken from its callee.

use fanwire_core::api::{ApiAnswer, Ask, Revocation, Revoked};
use fanwire_core::ids::RealmId;
use fanwire_core::meta::{Change, EntryKind, News};
use fanwire_core::uri::InvokePolicy;

use crate::meta::{REALM1, ask, news};
use crate::support::{Client, Router, number};

/// A session that hears of all that becomes of registrations.
fn observe(router: &mut Router, shard: usize) {
    let observer = router.join(shard);
    router.say(observer, r#"[32,1,{"match":"prefix"},"wamp.registration."]"#);
    router.hear_one(observer);
}

fn register(router: &mut Router, client: Client, options: &str) -> u64 {
    router.say(client, &format!(r#"[64,1,{options},"com.p"]"#));
    number(&router.hear_one(client), 2)
}

/// What all shards have told, in the order of the numbers, which begin with `first`: event, session, registration.
fn told(router: &mut Router, first: u64) -> Vec<(&'static str, u64, u64)> {
    let mut all: Vec<(u64, News)> = Vec::new();
    for shard in 0..router.shards.len() {
        all.extend(news(router, shard));
    }
    all.sort_by_key(|(number, _)| *number);
    let numbers: Vec<u64> = all.iter().map(|(number, _)| *number).collect();
    assert_eq!(numbers, (first..first + all.len() as u64).collect::<Vec<_>>(), "each number is told");
    let event = |(_, news): (u64, News)| match news {
        News::Entry { kind: EntryKind::Registration, change, session: Some(session), id } => {
            (change.topic(EntryKind::Registration), session.get(), id)
        }
        other => panic!("{other:?}"),
    };
    all.into_iter().map(event).collect()
}

const ON_CREATE: &str = "wamp.registration.on_create";
const ON_REGISTER: &str = "wamp.registration.on_register";
const ON_UNREGISTER: &str = "wamp.registration.on_unregister";
const ON_DELETE: &str = "wamp.registration.on_delete";

#[test]
fn what_becomes_of_registrations_is_numbered_across_shards() {
    let mut router = Router::new(2);
    let unheard = router.join(0);
    register(&mut router, unheard, "{}");
    router.vanish(unheard);
    assert!(!router.shards[0].has_questions(), "nobody listens");
    observe(&mut router, 1);
    let (one, other) = (router.join(0), router.join(1));
    let [a, b] = [one, other].map(|client| router.session_id(client).expect("it is open").get());
    let id = register(&mut router, one, r#"{"invoke":"random"}"#);
    assert_eq!(register(&mut router, other, r#"{"invoke":"random"}"#), id);
    router.say(one, r#"[64,2,{"invoke":"random"},"com.p"]"#);
    assert!(router.hear_one(one).contains("procedure_already_exists"), "what is refused is no news");
    router.say(one, &format!("[66,3,{id}]"));
    router.vanish(other);
    let expected = [
        (ON_CREATE, a, id),
        (ON_REGISTER, a, id),
        (ON_REGISTER, b, id),
        (ON_UNREGISTER, a, id),
        (ON_UNREGISTER, b, id),
        (ON_DELETE, b, id),
    ];
    assert_eq!(told(&mut router, 1), expected);
}

#[test]
fn what_is_told_of_a_new_registration() {
    let mut router = Router::new(1);
    observe(&mut router, 0);
    let callee = router.join(0);
    router.say(callee, r#"[64,1,{"match":"prefix","invoke":"roundrobin"},"com."]"#);
    let told = news(&mut router, 0);
    let (1, News::Entry { change: Change::Created(details), .. }) = &told[0] else { panic!("{told:?}") };
    assert_eq!((&*details.uri, details.policy.name()), ("com.", "prefix"));
    assert_eq!(details.invoke, Some(InvokePolicy::RoundRobin));
}

#[test]
fn who_is_forced_out_is_told_and_so_are_those_who_listen() {
    let mut router = Router::new(2);
    observe(&mut router, 1);
    let knowing = router.join_able(0, &[], &["registration_revocation"]);
    let plain = router.join(1);
    let shared = r#"{"invoke":"first"}"#;
    let old = register(&mut router, knowing, shared);
    register(&mut router, plain, shared);
    let usurper = router.join(1);
    let [a, b, c] = [knowing, plain, usurper].map(|client| router.session_id(client).expect("open").get());
    assert_eq!(told(&mut router, 1).len(), 3);
    let new = register(&mut router, usurper, r#"{"force_reregister":true}"#);
    let revoked = format!(r#"[67,0,{{"registration":{old},"reason":"wamp.error.unregistered"}}]"#);
    assert_eq!(router.hear(knowing), [revoked]);
    assert_eq!(router.hear(plain), Vec::<String>::new(), "it would not understand");
    let expected = [
        (ON_UNREGISTER, a, old),
        (ON_UNREGISTER, b, old),
        (ON_DELETE, b, old),
        (ON_CREATE, c, new),
        (ON_REGISTER, c, new),
    ];
    assert_eq!(told(&mut router, 4), expected);
    router.vanish(knowing);
    router.vanish(plain);
    assert_eq!(told(&mut router, 9), [], "they had lost it already");
}

#[test]
fn a_revoked_registration_is_not_asked_any_more_and_what_it_was_asked_is_answered_once() {
    for on in [0, 1] {
        let mut router = Router::new(2);
        let callees = [router.join_able(on, &[], &["registration_revocation"]), router.join(on)];
        let caller = router.join(0);
        for (place, callee) in callees.into_iter().enumerate() {
            let id = register(&mut router, callee, "{}");
            router.say(caller, &format!(r#"[48,{},{{}},"com.p"]"#, 2 * place + 1));
            assert!(router.hear_one(callee).starts_with("[68,1,"));
            let session = router.session_id(callee).expect("it is open");
            let revocation = |realm| {
                let (realm, what) = (RealmId::new(realm), Revoked::Registration(id));
                Ask::Revoke(Box::new(Revocation { session, realm, what, reason: "com.enough".into() }))
            };
            assert!(
                matches!(ask(&mut router, on, revocation(2)), ApiAnswer::Revoked(false)),
                "another realm"
            );
            assert!(matches!(ask(&mut router, on, revocation(REALM1)), ApiAnswer::Revoked(true)));
            assert!(matches!(ask(&mut router, on, revocation(REALM1)), ApiAnswer::Revoked(false)), "gone");
            let revoked = format!(r#"[67,0,{{"registration":{id},"reason":"com.enough"}}]"#);
            let expected = if place == 0 { vec![revoked] } else { vec![] };
            assert_eq!(router.hear(callee), expected);
            router.say(caller, &format!(r#"[48,{},{{}},"com.p"]"#, 2 * place + 2));
            assert!(router.hear_one(caller).contains("no_such_procedure"));
            router.say(callee, "[70,1,{},[7]]");
            assert_eq!(router.hear(caller), [format!("[50,{},{{}},[7]]", 2 * place + 1)]);
            router.vanish(callee);
            assert_eq!(router.hear(caller), Vec::<String>::new(), "one answer is all");
        }
        assert_eq!((router.calls_pending(), router.directory.registration_count()), (0, 0));
        assert_eq!(router.shards[on].counters().withdrawn, 2);
    }
}
