//! Logins by cookie: the test hands out the cookies, and is in the place of whoever knows the users.

use std::time::Duration;

use fanwire_codec::wamp2::Serializer;
use fanwire_core::api::SessionFilter;
use fanwire_core::directory::{Cookie, CookieId};
use fanwire_core::hooks::HookEvent;
use fanwire_core::ids::RoleId;
use fanwire_core::login::LoginMethod;
use fanwire_core::question::{Grant, Remember, Subject};
use fanwire_core::{Arrival, Effect, Limits, LoginOutcome};

use crate::hooks::rule;
use crate::meta::{dismiss, dismissal};
use crate::session::assert_aborted;
use crate::support::{Client, Router};

/// A connection that was given this cookie, or brought it.
fn connect(router: &mut Router, shard: usize, number: u8, is_fresh: bool) -> Client {
    let client = router.connect(shard, Serializer::Json);
    let cookie = Cookie { id: CookieId([number; 32]), is_fresh };
    router.shards[shard].bind_cookie(client.1, cookie);
    client
}

fn hello(methods: &str, authid: &str) -> String {
    format!(r#"[1,"remembered",{{"roles":{{"caller":{{}}}},"authmethods":[{methods}],"authid":"{authid}"}}]"#)
}

/// Logs in by ticket.
fn log_in(router: &mut Router, client: Client, authid: &str) {
    router.say(client, &hello(r#""cookie","ticket""#, authid));
    assert_eq!(router.hear_one(client), r#"[4,"ticket",{}]"#);
    router.say(client, r#"[5,"secret!!!",{}]"#);
    let request = router.question(client.0);
    router.grant(client.0, &request, 1);
    assert!(router.hear_one(client).contains(r#""authmethod":"ticket""#));
}

/// A client that was let in by its cookie.
fn come_back(router: &mut Router, shard: usize, number: u8) -> Client {
    let client = connect(router, shard, number, false);
    router.say(client, &hello(r#""ticket","cookie""#, ""));
    let welcome = router.hear_one(client);
    for part in [r#""authid":"joe""#, r#""authrole":"operator""#, r#""authmethod":"cookie""#] {
        assert!(welcome.starts_with("[2,") && welcome.contains(part), "{part} in {welcome}");
    }
    client
}

#[test]
fn who_has_logged_in_is_let_in_by_the_cookie_of_its_connection() {
    let mut router = Router::new(2);
    let first = connect(&mut router, 0, 1, true);
    log_in(&mut router, first, "joe");
    let back = come_back(&mut router, 1, 1);
    assert!(router.effects.contains(&(1, Effect::Established(back.1))));
    let welcomed = LoginOutcome::of(LoginMethod::Cookie, Arrival::Welcomed);
    assert_eq!(router.shards[1].counters().logins[welcomed.index()], 1);
    router.say(back, r#"[32,1,{},"a.b"]"#);
    assert!(router.hear_one(back).starts_with("[33,1,"), "its role may");
}

#[test]
fn a_cookie_that_is_nobodys_lets_nobody_in() {
    let mut router = Router::new(1);
    let first = connect(&mut router, 0, 1, true);
    log_in(&mut router, first, "joe");
    let required = "wamp.error.authentication_required";
    // Another cookie, none at all, and one that is somebody else's than the client says.
    let other = connect(&mut router, 0, 2, false);
    let none = router.connect(0, Serializer::Json);
    for (client, authid) in [(other, ""), (none, "")] {
        router.say(client, &hello(r#""cookie""#, authid));
        let heard = router.hear(client);
        assert!(heard[0].contains("no login is remembered by the cookie"), "{heard:?}");
        assert_aborted(&heard, required, 1008);
    }
    let ann = connect(&mut router, 0, 1, false);
    router.say(ann, &hello(r#""cookie""#, "ann"));
    assert_aborted(&router.hear(ann), required, 1008);
    // Who does not ask for it is not let in by it.
    let silent = connect(&mut router, 0, 1, false);
    router.say(silent, &hello("", ""));
    assert_aborted(&router.hear(silent), required, 1008);
}

#[test]
fn a_realm_that_remembers_nobody_is_as_before() {
    let mut router = Router::new(1);
    let client = connect(&mut router, 0, 1, true);
    router.say(client, &hello(r#""cookie","ticket""#, "joe").replace("remembered", "named"));
    router.hear(client);
    router.say(client, r#"[5,"secret!!!",{}]"#);
    let request = router.question(0);
    router.grant(0, &request, 1);
    router.hear(client);
    assert!(!router.shards[0].knows_cookie(router.now, CookieId([1; 32])));
}

#[test]
fn a_login_is_over_after_its_time() {
    let mut router = Router::new(1);
    let first = connect(&mut router, 0, 1, true);
    log_in(&mut router, first, "joe");
    router.pass(Duration::from_secs(3_599));
    come_back(&mut router, 0, 1);
    router.pass(Duration::from_secs(1));
    let late = connect(&mut router, 0, 1, false);
    router.say(late, &hello(r#""cookie""#, ""));
    assert_aborted(&router.hear(late), "wamp.error.authentication_required", 1008);
}

#[test]
fn logging_out_ends_all_sessions_of_the_login_on_all_shards() {
    let mut router = Router::new(2);
    let first = connect(&mut router, 0, 1, true);
    log_in(&mut router, first, "joe");
    let [near, far] = [0, 1].map(|shard| come_back(&mut router, shard, 1));
    let elsewhere = connect(&mut router, 1, 2, true);
    log_in(&mut router, elsewhere, "joe");
    router.say(near, r#"[6,{},"wamp.close.logout"]"#);
    let heard = router.hear(near);
    assert_eq!(heard, [r#"[6,{},"wamp.close.goodbye_and_out"]"#, "close 1000"]);
    for client in [first, far] {
        let heard = router.hear_one(client);
        assert!(heard.starts_with("[6,") && heard.contains("wamp.close.logout"), "{heard}");
        assert!(router.effects.contains(&(client.0, Effect::Dismissed(client.1))));
    }
    assert_eq!(router.hear(elsewhere), [""; 0], "another browser of the same user");
    let back = connect(&mut router, 1, 1, false);
    router.say(back, &hello(r#""cookie""#, ""));
    assert_aborted(&router.hear(back), "wamp.error.authentication_required", 1008);
}

#[test]
fn an_ordinary_goodbye_forgets_nothing() {
    let mut router = Router::new(1);
    let first = connect(&mut router, 0, 1, true);
    log_in(&mut router, first, "joe");
    router.say(first, r#"[6,{},"wamp.close.close_realm"]"#);
    router.hear(first);
    come_back(&mut router, 0, 1);
}

#[test]
fn who_logs_in_as_another_is_not_let_in_as_the_one_before() {
    let mut router = Router::new(1);
    let first = connect(&mut router, 0, 1, true);
    log_in(&mut router, first, "joe");
    let other = connect(&mut router, 0, 1, false);
    log_in(&mut router, other, "ann");
    let back = connect(&mut router, 0, 1, false);
    router.say(back, &hello(r#""cookie""#, ""));
    assert_aborted(&router.hear(back), "wamp.error.authentication_required", 1008);
}

#[test]
fn a_login_that_is_not_to_be_remembered_is_not() {
    let mut router = Router::new(1);
    let client = connect(&mut router, 0, 1, true);
    router.say(client, &hello(r#""cookie","ticket""#, "joe"));
    router.hear(client);
    router.say(client, r#"[5,"secret!!!",{}]"#);
    let request = router.question(0);
    let grant = Grant { remember: None, ..Grant::of_user(RoleId::new(1)) };
    router.shards[0].handle_verdict(router.now, request.verdict(Ok(grant)));
    assert!(router.hear_one(client).starts_with("[2,"));
    assert!(!router.shards[0].knows_cookie(router.now, CookieId([1; 32])));
}

/// The hook says each time what the user comes in as; what is remembered is who it is.
#[test]
fn a_connect_hook_is_asked_each_time_and_a_logout_meanwhile_counts() {
    let hooks = [rule(&[HookEvent::Connect], "")];
    let mut router = Router::hooked(1, Limits::default(), &hooks);
    let answer = |router: &mut Router, grant: Grant| {
        let request = router.question(0);
        assert!(matches!(request.subject, Subject::Connect { .. } | Subject::Login { .. }), "{request:?}");
        router.shards[0].handle_verdict(router.now, request.verdict(Ok(grant)));
    };
    let first = connect(&mut router, 0, 1, true);
    router.say(first, &hello(r#""cookie","ticket""#, "joe"));
    router.hear(first);
    router.say(first, r#"[5,"secret!!!",{}]"#);
    answer(&mut router, Grant { remember: Some(Remember::default()), ..Grant::of_user(RoleId::new(1)) });
    answer(&mut router, Grant { authid: Some("joe-at-home".into()), ..Grant::default() });
    assert!(router.hear_one(first).contains("joe-at-home"));
    let back = connect(&mut router, 0, 1, false);
    router.say(back, &hello(r#""cookie""#, ""));
    let request = router.question(0);
    let Subject::Connect { authid, method, .. } = &request.subject else { panic!("{request:?}") };
    assert_eq!((authid.as_deref(), *method), (Some("joe"), LoginMethod::Cookie));
    router.say(first, r#"[6,{},"wamp.close.logout"]"#);
    router.shards[0].handle_verdict(router.now, request.verdict(Ok(Grant::default())));
    let heard = router.hear(back);
    assert!(heard[1].contains("wamp.close.logout"), "{heard:?}");
}

#[test]
fn changed_users_are_not_remembered() {
    let mut router = Router::new(1);
    let first = connect(&mut router, 0, 1, true);
    log_in(&mut router, first, "joe");
    // Looked at before the change, decided after it.
    let slow = connect(&mut router, 0, 2, true);
    router.say(slow, &hello(r#""cookie","ticket""#, "ann"));
    router.hear(slow);
    router.say(slow, r#"[5,"secret!!!",{}]"#);
    let request = router.question(0);
    router.directory.cookies().retain(|login| &*login.authid != "joe");
    router.grant(0, &request, 1);
    let known = [1, 2].map(|number| router.shards[0].knows_cookie(router.now, CookieId([number; 32])));
    assert_eq!(known, [false, false]);
}

/// What it would leave behind could be used by nobody, or by whoever has its browser next.
#[test]
fn who_does_not_ask_for_it_is_not_remembered() {
    let mut router = Router::new(1);
    let client = connect(&mut router, 0, 1, true);
    router.say(client, &hello(r#""ticket""#, "joe"));
    router.hear(client);
    router.say(client, r#"[5,"secret!!!",{}]"#);
    let request = router.question(0);
    router.grant(0, &request, 1);
    assert!(router.hear_one(client).starts_with("[2,"));
    assert!(!router.shards[0].knows_cookie(router.now, CookieId([1; 32])));
}

#[test]
fn who_is_sent_away_as_logged_out_is_forgotten() {
    let mut router = Router::new(2);
    let first = connect(&mut router, 0, 1, true);
    log_in(&mut router, first, "joe");
    let other = come_back(&mut router, 1, 1);
    let send_away = |router: &mut Router, reason: &str| {
        let mut order =
            dismissal(SessionFilter { authid: Some("joe".into()), ..SessionFilter::default() }, None);
        (order.filter.realm, order.reason) = (None, reason.into());
        assert_eq!(dismiss(router, 0, order).len(), 1);
    };
    send_away(&mut router, "wamp.close.killed");
    assert!(router.hear_one(first).contains("wamp.close.killed"));
    let back = come_back(&mut router, 0, 1);
    send_away(&mut router, "wamp.close.logout");
    assert!(router.hear_one(back).contains("wamp.close.logout"));
    assert!(router.hear_one(other).contains("wamp.close.logout"), "by the same login");
    assert!(!router.shards[0].knows_cookie(router.now, CookieId([1; 32])));
}

#[test]
fn a_login_with_all_its_sessions_is_left_for_another_method() {
    let mut router = Router::new(1);
    let first = connect(&mut router, 0, 1, true);
    log_in(&mut router, first, "joe");
    for _ in 1..32 {
        come_back(&mut router, 0, 1);
    }
    let next = connect(&mut router, 0, 1, false);
    log_in(&mut router, next, "joe");
}
