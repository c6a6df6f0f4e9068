//! Logins by ticket, with the test in the place of whoever knows the users.

use fanwire_codec::wamp2::Serializer;
use fanwire_core::login::{LoginMethod, Proof};
use fanwire_core::question::{Denial, Subject};
use fanwire_core::{Arrival, Effect, Flow, LoginOutcome};

use crate::session::assert_aborted;
use crate::support::{Client, Router, number};

const AUTHENTICATE: &str = r#"[5,"secret!!!",{}]"#;

fn logins(router: &Router, outcome: LoginOutcome) -> u64 {
    router.shards[0].counters().logins[outcome.index()]
}

/// A client that has sent its ticket.
fn verifying(router: &mut Router, authid: &str) -> Client {
    let client = router.challenged(0, "named", authid);
    assert_eq!(router.say(client, AUTHENTICATE), Flow::Pause);
    client
}

#[test]
fn the_right_ticket_is_welcomed_with_the_users_role() {
    let mut router = Router::new(1);
    let alice = verifying(&mut router, "alice");
    assert_eq!(router.hear(alice), [""; 0], "no answer before the verdict");
    assert_eq!(router.directory.session_count(), 0);
    let request = router.question(0);
    let Subject::Login { authid, proof: Proof::Ticket(ticket), .. } = &request.subject else {
        panic!("{request:?}")
    };
    assert_eq!((authid.as_deref(), ticket.expose(), request.is_wanted()), (Some("alice"), "secret!!!", true));
    assert!(!format!("{request:?}").contains("secret"), "a ticket is never shown");
    router.grant(0, &request, 1);
    assert!(!request.is_wanted(), "it is decided");
    let welcome = router.hear_one(alice);
    for part in [
        r#""authid":"alice""#,
        r#""authrole":"operator""#,
        r#""authmethod":"ticket""#,
        r#""authprovider":"static""#,
        r#""realm":"named""#,
    ] {
        assert!(welcome.contains(part), "{part} in {welcome}");
    }
    assert_eq!(router.effects, [(0, Effect::Established(alice.1)), (0, Effect::Resume(alice.1))]);
    assert_eq!(router.say(alice, r#"[32,1,{},"a.b"]"#), Flow::Continue);
    assert!(router.hear_one(alice).starts_with("[33,1,"));
    assert_eq!(
        (
            router.directory.session_count(),
            logins(&router, LoginOutcome::of(LoginMethod::Ticket, Arrival::Welcomed))
        ),
        (1, 1)
    );
}

#[test]
fn each_denial_has_its_reason() {
    for (denial, reason, code, outcome) in [
        (
            Denial::Refused,
            "wamp.error.authentication_denied",
            1008,
            LoginOutcome::of(LoginMethod::Ticket, Arrival::Denied),
        ),
        (
            Denial::Busy,
            "wamp.error.authentication_failed",
            1013,
            LoginOutcome::of(LoginMethod::Ticket, Arrival::Unavailable),
        ),
        (
            Denial::Failed,
            "wamp.error.authentication_failed",
            1011,
            LoginOutcome::of(LoginMethod::Ticket, Arrival::Unavailable),
        ),
    ] {
        let mut router = Router::new(1);
        let alice = verifying(&mut router, "alice");
        let request = router.question(0);
        router.shards[0].handle_verdict(router.now, request.verdict(Err(denial)));
        assert_aborted(&router.hear(alice), reason, code);
        assert_eq!((router.directory.session_count(), logins(&router, outcome)), (0, 1));
        assert_eq!(logins(&router, LoginOutcome::of(LoginMethod::Ticket, Arrival::Abandoned)), 0);
        assert_eq!(router.effects, [(0, Effect::Resume(alice.1)), (0, Effect::Finished(alice.1))]);
    }
}

#[test]
fn the_clients_list_decides_between_the_methods_that_the_realm_offers() {
    for (methods, answer) in [
        (r#"["ticket","anonymous"]"#, "[4,"),
        (r#"["wampcra","ticket"]"#, "[4,"),
        (r#"["anonymous","ticket"]"#, "[2,"),
        ("[]", "[2,"),
    ] {
        let mut router = Router::new(1);
        let alice = router.connect(0, Serializer::Json);
        let hello =
            format!(r#"[1,"both",{{"roles":{{"caller":{{}}}},"authmethods":{methods},"authid":"alice"}}]"#);
        router.say(alice, &hello);
        let heard = router.hear_one(alice);
        assert!(heard.starts_with(answer), "{methods}: {heard}");
    }
    // Without an authid there is nobody to log in as; the next method of the list is as good.
    let mut router = Router::new(1);
    let alice = router.connect(0, Serializer::Json);
    router.say(alice, r#"[1,"both",{"roles":{"caller":{}},"authmethods":["ticket","anonymous"]}]"#);
    let heard = router.hear_one(alice);
    assert!(heard.contains(r#""authid":"anonymous-"#), "{heard}");
}

#[test]
fn a_challenge_is_answered_by_authenticate_only() {
    for message in [
        r#"[1,"named",{"roles":{"caller":{}}}]"#,
        r#"[32,1,{},"a.b"]"#,
        r#"[6,{},"wamp.close.normal"]"#,
        r#"[4,"ticket",{}]"#,
        r#"[5]"#,
        r#"[5,7,{}]"#,
        "no JSON",
    ] {
        let mut router = Router::new(1);
        let alice = router.challenged(0, "named", "alice");
        assert_eq!(router.say(alice, message), Flow::Closing, "{message}");
        assert_aborted(&router.hear(alice), "wamp.error.protocol_violation", 1002);
        assert_eq!(router.shards[0].questions().len(), 0);
        assert_eq!(logins(&router, LoginOutcome::of(LoginMethod::Ticket, Arrival::Abandoned)), 1);
    }
    let mut router = Router::new(1);
    let alice = router.challenged(0, "named", "alice");
    assert_eq!(router.say(alice, r#"[3,{},"wamp.close.normal"]"#), Flow::Closing);
    assert_eq!(router.hear(alice), ["close 1000"]);
}

#[test]
fn a_verdict_for_who_has_left_harms_nobody() {
    let mut router = Router::new(1);
    let alice = verifying(&mut router, "alice");
    let late = router.question(0);
    router.vanish(alice);
    assert!(!late.is_wanted());
    router.shards[0].release(router.now, alice.1);
    router.grant(0, &late, 1);
    // The outlet belongs to another one now, in each state that a session can be in.
    let reuse = |router: &mut Router| {
        router.shards[0].attach(router.now, alice.1);
        router.shards[0].open(router.now, alice.1, Serializer::Json);
    };
    reuse(&mut router);
    router.grant(0, &late, 1);
    let hello =
        r#"[1,"named",{"roles":{"publisher":{}},"authmethods":["ticket"],"authid":"mallory"}]"#.to_owned();
    router.say(alice, &hello);
    router.grant(0, &late, 1);
    router.say(alice, AUTHENTICATE);
    router.grant(0, &late, 1);
    assert_eq!(router.hear(alice), [r#"[4,"ticket",{}]"#]);
    assert_eq!(router.directory.session_count(), 0);
    let request = router.question(0);
    router.grant(0, &request, 0);
    router.grant(0, &request, 1);
    router.grant(0, &late, 1);
    let welcome = router.hear_one(alice);
    assert!(welcome.contains(r#""authid":"mallory","authrole":"user""#), "{welcome}");
}

#[test]
fn a_login_that_is_closed_meanwhile_is_not_wanted_any_more() {
    let close = |router: &mut Router, client: Client| {
        router.shards[0].close(router.now, client.1, 1008, "no login within 10 s");
    };
    let shut_down = |router: &mut Router, client: Client| router.shards[0].shut_down(router.now, client.1);
    for (end, code) in [(&close as &dyn Fn(&mut Router, Client), 1008), (&shut_down, 1001)] {
        let mut router = Router::new(1);
        let alice = verifying(&mut router, "alice");
        let request = router.question(0);
        end(&mut router, alice);
        assert!(!request.is_wanted());
        router.grant(0, &request, 1);
        assert_eq!(router.hear(alice), [format!("close {code}")]);
        assert!(router.effects.contains(&(0, Effect::Resume(alice.1))), "its close frame must be read");
        assert_eq!(logins(&router, LoginOutcome::of(LoginMethod::Ticket, Arrival::Abandoned)), 1);
        assert_eq!(logins(&router, LoginOutcome::of(LoginMethod::Ticket, Arrival::Welcomed)), 0);
    }
}

#[test]
fn disclosure_names_the_user() {
    let mut router = Router::new(2);
    let bob = router.challenged(1, "named", "bob");
    router.say(bob, AUTHENTICATE);
    let request = router.question(1);
    router.grant(1, &request, 0);
    router.hear_one(bob);
    router.say(bob, r#"[32,1,{},"a.b"]"#);
    router.say(bob, r#"[64,2,{},"p.q"]"#);
    router.hear(bob);
    let alice = verifying(&mut router, "alice");
    let request = router.question(0);
    router.grant(0, &request, 1);
    let session = number(&router.hear_one(alice), 1);
    router.say(alice, r#"[16,1,{"disclose_me":true},"a.b"]"#);
    router.say(alice, r#"[48,2,{"disclose_me":true},"p.q"]"#);
    let heard = router.hear(bob);
    assert!(
        heard[0].ends_with(&format!(
            r#"{{"publisher":{session},"publisher_authid":"alice","publisher_authrole":"operator"}}]"#
        )),
        "{heard:?}"
    );
    assert!(
        heard[1].ends_with(&format!(
            r#"{{"caller":{session},"caller_authid":"alice","caller_authrole":"operator"}}]"#
        )),
        "{heard:?}"
    );
}
