//! Logins by ticket: who is let in, what it costs, and what becomes of those who do not wait.

use std::io::Write;
use std::time::Duration;

use fanwire_control::login::prover::Prover;
use serde_json::{Value, json};

use crate::passwd::done;
use crate::support::{CHEAP_HASH, CHEAP_TICKET, Client, Folder, Heard, Launch, Router, eventually};

/// Takes seconds and 64 MiB, and is nobody's: whoever logs in against it waits, and is denied.
const SLOW_HASH: &str =
    "$argon2id$v=19$m=65536,t=32,p=1$c29tZXNhbHRzb21lc2FsdA$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";

/// A good half second.
const WEARY_HASH: &str =
    "$argon2id$v=19$m=65536,t=8,p=1$c29tZXNhbHRzb21lc2FsdA$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";

/// Joe is a member and may publish, ann an operator and may do everything. Realm `slow` is for those who wait.
fn launch(driver: &str, folder: &Folder) -> Launch {
    folder.write("users.txt", &format!("joe:member:{CHEAP_HASH}\nann:operator:{CHEAP_HASH}\n"));
    folder.write("slow.txt", &format!("slow:member:{SLOW_HASH}\nweary:member:{WEARY_HASH}\n"));
    let text = r#"
[[realm]]
name = "realm1"
anonymous_role = "none"
users_file = "users.txt"
[[realm.role]]
name = "member"
[[realm.role.permission]]
uri = "com."
match = "prefix"
allow = ["publish"]
[[realm.role]]
name = "operator"
[[realm.role.permission]]
uri = ""
match = "prefix"
allow = ["publish", "subscribe", "call", "register"]
[[realm]]
name = "slow"
anonymous_role = "none"
users_file = "slow.txt"
[[realm.role]]
name = "member"
[[realm]]
name = "both"
anonymous_role = "member"
users_file = "users.txt"
[[realm.role]]
name = "member"
[[realm.role]]
name = "operator"
"#;
    Launch::on(driver).argument("--config").argument(&folder.write("fanwire.toml", text))
}

fn hello(realm: &str, methods: &[&str], user: &str) -> Value {
    let roles = json!({"publisher": {}, "subscriber": {}, "caller": {}, "callee": {}});
    json!([1, realm, {"roles": roles, "authmethods": methods, "authid": user}])
}

/// A client that is challenged.
fn challenged(router: &Router, realm: &str, user: &str) -> Client {
    let mut client = Client::connect(router.wamp);
    let challenge = client.ask(hello(realm, &["ticket"], user));
    assert_eq!(challenge, json!([4, "ticket", {}]));
    client
}

/// A client that has sent its ticket.
pub fn logging_in(router: &Router, realm: &str, user: &str, ticket: &str) -> Client {
    let mut client = challenged(router, realm, user);
    client.send(json!([5, ticket, {}]));
    client
}

/// A client that is welcome, and the details of its WELCOME.
pub fn logged_in(router: &Router, realm: &str, user: &str) -> (Client, Value) {
    let mut client = logging_in(router, realm, user, CHEAP_TICKET);
    let mut welcome = client.expect();
    assert_eq!(welcome[0], 2, "{welcome}");
    (client, welcome[2].take())
}

/// Which ABORT a client gets, with its words.
pub fn aborted(client: &mut Client, code: u16) -> (String, String) {
    let abort = client.expect();
    assert_eq!(abort[0], 3, "{abort}");
    client.expect_close(code);
    let text = |value: &Value| value.as_str().expect("a string").to_owned();
    (text(&abort[2]), text(&abort[1]["message"]))
}

/// Shards publish their figures a little later than they answer.
fn eventually_counted(router: &Router, outcome: &str, count: f64) {
    let method = if outcome == "refused" { "none" } else { "ticket" };
    let labels = format!("method=\"{method}\",outcome=\"{outcome}\"");
    eventually(&labels, || router.metric("fanwire_logins_total", &labels) == count);
}

on_both_drivers! {
    fn the_right_ticket_gives_the_users_role(driver: &str) {
        let folder = Folder::new(&format!("right-{driver}"));
        let router = launch(driver, &folder).start();
        let (mut ann, details) = logged_in(&router, "realm1", "ann");
        for (key, value) in
            [("authid", "ann"), ("authrole", "operator"), ("authmethod", "ticket"), ("authprovider", "static")]
        {
            assert_eq!(details[key], value, "{details}");
        }
        ann.subscribe("com.topic");
        let (mut joe, details) = logged_in(&router, "realm1", "joe");
        assert_eq!(details["authrole"], "member");
        let refused = joe.ask(json!([32, 1, {}, "com.topic"]));
        assert_eq!((&refused[0], &refused[4]), (&json!(8), &json!("wamp.error.not_authorized")), "{refused}");
        joe.send(json!([16, 2, {"disclose_me": true}, "com.topic", ["hi"]]));
        let event = ann.expect();
        assert_eq!(event[4], json!(["hi"]));
        assert_eq!((&event[3]["publisher_authid"], &event[3]["publisher_authrole"]), (&json!("joe"), &json!("member")));
        eventually_counted(&router, "welcomed", 2.0);
    }

    fn an_unknown_user_and_a_wrong_ticket_are_told_the_same_and_cost_the_same(driver: &str) {
        let folder = Folder::new(&format!("wrong-{driver}"));
        let router = launch(driver, &folder).start();
        let mut told = Vec::new();
        for (number, (user, ticket)) in
            [("joe", "wrong secret"), ("nobody", CHEAP_TICKET), ("joe", ""), ("JOE", CHEAP_TICKET)].iter().enumerate()
        {
            told.push(aborted(&mut logging_in(&router, "realm1", user, ticket), 1008));
            assert_eq!(told[number].0, "wamp.error.authentication_denied");
            assert_eq!(told[number], told[0], "{user}");
            // Nobody is spared the work, so the time tells nothing either.
            assert_eq!(router.metric("fanwire_login_derivations_total", ""), number as f64 + 1.0);
        }
        eventually_counted(&router, "denied", 4.0);
        eventually("the refusals being logged", || router.said().matches("login refused").count() == 4);
        let said = router.said();
        assert!(said.contains("nobody") && said.contains("no such user") && said.contains("another ticket"), "{said}");
        assert!(!said.contains("secret"), "a ticket was logged: {said}");
        logged_in(&router, "realm1", "joe");
    }

    fn hello_decides_the_method(driver: &str) {
        let folder = Folder::new(&format!("method-{driver}"));
        let router = launch(driver, &folder).start();
        let (_, details) = logged_in(&router, "both", "ann");
        assert_eq!(details["authrole"], "operator");
        let mut anonymous = Client::connect(router.wamp);
        let welcome = anonymous.ask(hello("both", &["wampcra", "anonymous", "ticket"], "ann"));
        assert_eq!((&welcome[0], &welcome[2]["authrole"]), (&json!(2), &json!("member")), "{welcome}");
        let roles = json!({"caller": {}});
        for (hello, reason) in [
            (json!([1, "realm1", {"roles": roles}]), "wamp.error.authentication_required"),
            (json!([1, "realm1", {"roles": roles, "authmethods": ["ticket"]}]), "wamp.error.authentication_required"),
            (hello("realm1", &["anonymous"], "joe"), "wamp.error.no_matching_auth_method"),
            (hello("realm1", &["wampcra"], "joe"), "wamp.error.no_matching_auth_method"),
            (hello("nowhere", &["ticket"], "joe"), "wamp.error.no_such_realm"),
        ] {
            let mut client = Client::connect(router.wamp);
            client.send(hello);
            assert_eq!(aborted(&mut client, 1008).0, reason);
        }
        eventually_counted(&router, "refused", 5.0);
    }

    /// What is sent behind AUTHENTICATE is kept until the verdict and then done.
    fn what_follows_a_ticket_waits_for_the_verdict(driver: &str) {
        let folder = Folder::new(&format!("follows-{driver}"));
        let router = launch(driver, &folder).start();
        let frames = |ticket: &str| {
            let authenticate = Client::frame(&json!([5, ticket, {}]));
            [authenticate, Client::frame(&json!([32, 1, {}, "com.topic"])), Client::frame(&json!([6, {}, "wamp.close.normal"]))]
                .concat()
        };
        let mut ann = challenged(&router, "realm1", "ann");
        ann.send_bytes(&frames(CHEAP_TICKET));
        assert_eq!([ann.expect()[0].take(), ann.expect()[0].take(), ann.expect()[0].take()], [2, 33, 6]);
        ann.expect_close(1000);
        let mut ann = challenged(&router, "realm1", "ann");
        ann.send_bytes(&frames("wrong"));
        assert_eq!(aborted(&mut ann, 1008).0, "wamp.error.authentication_denied");
        eventually("nothing being left", || router.metric("fanwire_subscriptions", "") == 0.0);
    }

    fn authenticate_is_for_the_challenged_only(driver: &str) {
        let folder = Folder::new(&format!("unasked-{driver}"));
        let router = launch(driver, &folder).start();
        let mut early = Client::connect(router.wamp);
        early.send(json!([5, CHEAP_TICKET, {}]));
        let mut twice = challenged(&router, "realm1", "joe");
        twice.send(hello("realm1", &["ticket"], "joe"));
        let (mut late, _) = logged_in(&router, "realm1", "joe");
        late.send(json!([5, CHEAP_TICKET, {}]));
        let mut impatient = challenged(&router, "realm1", "joe");
        impatient.send(json!([16, 1, {}, "com.topic"]));
        for client in [&mut early, &mut twice, &mut late, &mut impatient] {
            assert_eq!(aborted(client, 1002).0, "wamp.error.protocol_violation");
        }
    }

    /// One derivation at once and one that waits: everybody else is told to come again, at once.
    fn too_many_logins_are_told_to_come_again(driver: &str) {
        let folder = Folder::new(&format!("busy-{driver}"));
        let router =
            launch(driver, &folder).set("limits.logins_at_once", "1").set("limits.logins_waiting", "1").start();
        // All are challenged first, so that their tickets come together.
        let mut clients: Vec<_> = (0..12).map(|_| challenged(&router, "slow", "weary")).collect();
        for client in &mut clients {
            client.send(json!([5, "x", {}]));
        }
        let (mut busy, mut denied) = (0, 0);
        for mut client in clients {
            let abort = client.expect();
            match abort[2].as_str() {
                Some("wamp.error.authentication_denied") => {
                    client.expect_close(1008);
                    denied += 1;
                }
                Some("wamp.error.authentication_failed") => {
                    let words = abort[1]["message"].as_str().expect("words");
                    assert!(words.contains("try again later"), "{words}");
                    client.expect_close(1013);
                    busy += 1;
                }
                _ => panic!("{abort}"),
            }
        }
        assert!(busy > 0 && denied > 0, "{busy} busy, {denied} denied");
        eventually_counted(&router, "unavailable", f64::from(busy));
        eventually_counted(&router, "denied", f64::from(denied));
        logged_in(&router, "realm1", "joe");
    }

    /// The login deadline holds for who does not answer the challenge, and for who waits for the verdict; and nobody
    /// works for those who have been sent away.
    fn a_login_has_its_deadline(driver: &str) {
        let folder = Folder::new(&format!("deadline-{driver}"));
        let router =
            launch(driver, &folder).set("limits.logins_at_once", "1").set("limits.login_time", "700ms").start();
        // The derivation takes seconds even on the fastest machine; theirs all wait behind the first one's.
        let mut waiting: Vec<_> = (0..5).map(|_| logging_in(&router, "slow", "slow", "x")).collect();
        let mut silent = challenged(&router, "realm1", "joe");
        silent.expect_close(1008);
        for client in &mut waiting {
            client.expect_close(1008);
        }
        eventually("deadlines being counted", || {
            router.metric("fanwire_connections_closed_total", "login_timeout") == 6.0
        });
        eventually_counted(&router, "abandoned", 6.0);
        eventually("the first derivation ending", || router.metric("fanwire_login_derivations_total", "") == 1.0);
        eventually("the others being skipped", || router.metric("fanwire_logins_waiting", "") == 0.0);
        assert_eq!(router.metric("fanwire_login_derivations_total", ""), 1.0);
        eventually_counted(&router, "denied", 0.0);
        eventually("all being gone", || router.metric("fanwire_connections_open", "") == 0.0);
    }

    /// Who guesses tickets keeps only those waiting who log in by tickets.
    fn a_login_by_challenge_waits_for_no_ticket(driver: &str) {
        let folder = Folder::new(&format!("quick-{driver}"));
        let launch = launch(driver, &folder).set("limits.logins_at_once", "1").set("limits.logins_waiting", "2");
        done(&[&folder.path("users.txt"), "ann", "--method", "wampcra", "--rounds", "1000"], "her secret");
        let router = launch.start();
        // It takes seconds even on the fastest machine.
        let first = logging_in(&router, "slow", "slow", "x");
        let waiting: Vec<_> = (0..2).map(|_| logging_in(&router, "slow", "slow", "x")).collect();
        eventually("the others waiting", || router.metric("fanwire_logins_waiting", "") >= 1.0);
        let mut ann = Client::connect(router.wamp);
        let challenge = ann.ask(hello("realm1", &["wampcra"], "ann"));
        let mut prover = Prover::with_password("ann", "her secret", [7; 16]);
        let shown = challenge[2].as_object().unwrap_or_else(|| panic!("{challenge}"));
        let (signature, extra) = prover.answer("wampcra", shown).expect("it can");
        let welcome = ann.ask(json!([5, signature, extra]));
        assert_eq!(welcome[0], 2, "{welcome}");
        assert_eq!(router.metric("fanwire_login_derivations_total", ""), 0.0, "no ticket was verified yet");
        drop((first, waiting));
    }

    fn who_leaves_while_it_is_verified_leaves_nothing_behind(driver: &str) {
        let folder = Folder::new(&format!("leaves-{driver}"));
        let router = launch(driver, &folder).start();
        for number in 0..40 {
            let mut client = logging_in(&router, "realm1", "ann", CHEAP_TICKET);
            match number % 4 {
                0 => drop(client),
                1 => client.close(1000),
                2 => client.send(json!([3, {}, "wamp.close.normal"])),
                _ => {
                    // A reset, with the verdict on its way.
                    let stream = client.into_stream();
                    rustix::net::sockopt::set_socket_linger(&stream, Some(Duration::ZERO)).expect("a TCP socket");
                }
            }
        }
        for gauge in ["fanwire_connections_open", "fanwire_sessions"] {
            eventually(&format!("{gauge} being 0"), || router.metric(gauge, "") == 0.0);
        }
        logged_in(&router, "realm1", "ann");
    }

    /// The process ends in its time while logins wait.
    fn a_drain_does_not_wait_for_verdicts(driver: &str) {
        let folder = Folder::new(&format!("drain-{driver}"));
        let mut router = launch(driver, &folder).set("limits.logins_at_once", "1").start();
        let mut clients: Vec<_> = (0..4).map(|_| logging_in(&router, "slow", "slow", "x")).collect();
        eventually("the first being worked on", || router.metric("fanwire_logins_waiting", "") >= 2.0);
        router.signal(rustix::process::Signal::TERM);
        for client in &mut clients {
            loop {
                match client.hear() {
                    Heard::Close(1001 | 1008, _) => break,
                    Heard::Message(abort) if abort[0] == 3 => {}
                    other => panic!("{other:?}"),
                }
            }
        }
        drop(clients);
        assert!(router.wait(crate::support::PATIENCE).success());
    }
}

/// A message before the login may be 16 KiB, the ticket included.
#[test]
fn a_ticket_of_a_book_is_not_taken() {
    let folder = Folder::new("book");
    let router = launch("epoll", &folder).start();
    let mut client = challenged(&router, "realm1", "joe");
    let frame = Client::frame(&json!([5, "x".repeat(20 << 10), {}]));
    // The router may have closed before the last byte was sent.
    let _ = client.writer().write_all(&frame);
    client.expect_close(1009);
    assert_eq!(router.metric("fanwire_login_derivations_total", ""), 0.0);
}
