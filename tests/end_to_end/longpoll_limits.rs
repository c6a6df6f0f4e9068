//! WAMP over HTTP long-polling: what ends requests and sessions, and what is bounded.

use std::time::Duration;

use rustix::process::Signal;
use serde_json::json;

use crate::longpoll::{Polled, ended, launch};
use crate::support::{Client, Http, Launch, PATIENCE, Router, eventually};

const TOPIC: &str = "com.fanwire.polled.limits";

on_both_drivers! {
    fn a_request_that_waits_is_answered_in_time(driver: &str) {
        let router = launch(driver).set("limits.poll_wait", "200ms").start();
        let mut polled = Polled::join(router.wamp);
        for _ in 0..3 {
            let answer = polled.receive();
            assert_eq!((answer.status, answer.body.len()), (204, 0));
        }
        polled.subscribe(TOPIC);
    }

    fn a_second_request_ends_the_first(driver: &str) {
        let router = launch(driver).set("limits.poll_wait", "300s").start();
        let mut polled = Polled::join(router.wamp);
        polled.subscribe(TOPIC);
        polled.begin_receive();
        let mut second = Http::connect(router.wamp);
        // Whichever comes first is the first one.
        second.send(format!("POST {}/receive HTTP/1.1\r\nHost: a\r\n\r\n", polled.base).as_bytes());
        let asked = || router.metric("fanwire_longpoll_requests_total", "kind=\"receive\"");
        eventually("both", || asked() == 4.0);
        Client::join(router.wamp).publish(TOPIC, json!(["once"]));
        let mut answers = [polled.asking.answer("POST"), second.answer("POST")];
        answers.sort_by_key(|answer| answer.status);
        assert_eq!((answers[0].status, answers[1].status), (200, 204));
        assert_eq!(answers[0].json()[4], json!(["once"]));
    }

    fn who_does_not_ask_any_more_is_gone(driver: &str) {
        let times = [("poll_idle", "500ms"), ("poll_wait", "100ms"), ("close_time", "500ms")];
        let set = |launch: Launch, (key, time): &(&str, &str)| launch.set(&format!("limits.{key}"), time);
        let router = times.iter().fold(launch(driver), set).start();
        let mut web = Client::join(router.wamp);
        web.subscribe("wamp.session.on_leave");
        let mut polled = Polled::join(router.wamp);
        // As long as it asks it stays.
        for _ in 0..10 {
            assert_eq!(polled.receive().status, 204);
        }
        let _left = web.expect_event();
        assert_eq!(ended(&router, "idle"), 1.0);
        assert_eq!(Http::connect(router.wamp).ask("POST", &format!("{}/receive", polled.base)).status, 404);
        assert!(polled.asking.has_ended(), "an idle connection is closed too");
        eventually("all of them", || router.metric("fanwire_http_connections", "") == 0.0);
        assert!(router.metric("fanwire_connections_closed_total", "reason=\"idle\"") >= 1.0);
    }

    /// What waits is in the outbox, with the limits that all have.
    fn who_does_not_fetch_what_waits_is_cut_and_it_is_counted(driver: &str) {
        let router = launch(driver).set("limits.outbox", "64KiB").start();
        let mut polled = Polled::join(router.wamp);
        polled.subscribe(TOPIC);
        let mut web = Client::join(router.wamp);
        for _ in 0..40 {
            web.publish(TOPIC, json!(["x".repeat(4 << 10)]));
        }
        eventually("the cut", || ended(&router, "slow_consumer") == 1.0);
        assert!(router.metric("fanwire_events_dropped_total", "reason=\"slow_consumer_bytes\"") >= 1.0);
        assert_eq!(polled.receive().status, 404);
    }

    /// Nothing is taken for a connection that is gone.
    fn what_was_asked_for_by_a_lost_connection_is_fetched_by_the_next_one(driver: &str) {
        for _ in 0..4 {
            let router = launch(driver).set("limits.poll_wait", "300s").start();
            let mut polled = Polled::join(router.wamp);
            polled.subscribe(TOPIC);
            let open = || router.metric("fanwire_http_connections", "");
            eventually("two connections", || open() == 2.0);
            polled.begin_receive();
            let asked = || router.metric("fanwire_longpoll_requests_total", "kind=\"receive\"");
            eventually("the request", || asked() == 3.0);
            polled.asking = Http::connect(router.wamp);
            eventually("the loss", || open() == 1.0);
            // The session's shard hears of it by the queue that other requests come by.
            polled.say(&json!([32, 5, {}, "com.fanwire.polled.other"]));
            Client::join(router.wamp).publish(TOPIC, json!(["kept"]));
            let mut heard = [polled.hear(), polled.hear()];
            heard.sort_by_key(|message| message[0].as_u64());
            assert_eq!((&heard[0][0], &heard[1][4]), (&json!(33), &json!(["kept"])));
        }
    }

    /// A proxy may bring all its clients by one connection.
    fn sessions_are_spread_over_the_shards_whatever_they_are_opened_by(driver: &str) {
        let router = launch(driver).argument("--shards").argument("2").start();
        let mut client = Http::connect(router.wamp);
        for _ in 0..20 {
            assert_eq!(client.post("/poll/open", &json!({ "protocols": ["wamp.2.json"] })).status, 200);
        }
        let on = |shard| router.metric("fanwire_longpoll_sessions", &format!("shard=\"{shard}\""));
        eventually("all of them", || on(0) + on(1) == 20.0);
        assert!((9.0..=11.0).contains(&on(0)), "{} and {}", on(0), on(1));
    }

    fn sessions_count_as_connections_of_their_shard(driver: &str) {
        let router = launch(driver).argument("--shards").argument("1").set("limits.connections_per_shard", "8").start();
        let mut client = Http::connect(router.wamp);
        let mut open = || client.post("/poll/open", &json!({ "protocols": ["wamp.2.json"] }));
        for _ in 0..7 {
            assert_eq!(open().status, 200);
        }
        let refused = open();
        assert_eq!(refused.status, 503);
        assert!(refused.field("retry-after").is_some());
    }

    fn before_login_long_bodies_are_refused_before_they_are_read(driver: &str) {
        let router = launch(driver).argument("--shards").argument("1").start();
        let mut polled = Polled::open(router.wamp, "wamp.2.json");
        let head = format!("POST {}/send HTTP/1.1\r\nHost: a\r\nContent-Length: 100000\r\n\r\n", polled.base);
        let mut early = Http::connect(router.wamp);
        early.send(head.as_bytes());
        let refused = early.answer("POST");
        assert_eq!(refused.status, 413);
        assert!(String::from_utf8_lossy(&refused.body).contains("before_login"));
        polled.say(&json!([1, "realm1", { "roles": { "publisher": {} } }]));
        assert_eq!(polled.hear()[0], 2);
        let message = json!([16, 1, {}, TOPIC, ["x".repeat(100_000)]]);
        polled.say(&message);
    }

    fn who_does_not_log_in_is_told_so(driver: &str) {
        let router = launch(driver).set("limits.login_time", "300ms").start();
        let mut polled = Polled::open(router.wamp, "wamp.2.json");
        let abort = polled.hear();
        assert_eq!((&abort[0], &abort[2]), (&json!(3), &json!("wamp.error.timeout")));
        assert_eq!(polled.receive().status, 404);
        eventually("the count", || ended(&router, "login_timeout") == 1.0);
    }

    fn a_router_that_stops_says_goodbye(driver: &str) {
        let mut router = launch(driver).set("limits.poll_wait", "300s").set("limits.close_time", "500ms").start();
        let mut polled = Polled::join(router.wamp);
        polled.begin_receive();
        let asked = || router.metric("fanwire_longpoll_requests_total", "kind=\"receive\"");
        eventually("the request", || asked() == 2.0);
        router.signal(Signal::TERM);
        let goodbye = polled.asking.answer("POST").json();
        assert_eq!((&goodbye[0], &goodbye[2]), (&json!(6), &json!("wamp.close.system_shutdown")));
        assert!(router.wait(Duration::from_secs(20)).success());
    }

    /// Nobody is left on the session's shard; its client still has questions, which come by connections of the other one.
    fn who_asks_for_a_session_that_has_ended_is_answered_and_the_stop_goes_on(driver: &str) {
        let mut router = launch(driver)
            .argument("--shards")
            .argument("2")
            .set("limits.poll_wait", "300s")
            .set("limits.message_time", "300s")
            .set("shutdown.drain_time", "300s")
            .start();
        let polled = Polled::join(router.wamp);
        let base = polled.base.clone();
        let [mut asking, mut saying, mut sending, mut closing] = connections_elsewhere(&router, &polled);
        asking.send(format!("POST {base}/receive HTTP/1.1\r\nHost: a\r\n\r\n").as_bytes());
        let goodbye = json!([6, {}, "wamp.close.goodbye_and_out"]).to_string();
        // They are under way, so they do not end before they are answered.
        saying.begin(&format!("{base}/send"), &format!("Content-Length: {}", goodbye.len()));
        sending.begin(&format!("{base}/send"), "Content-Length: 1");
        closing.begin(&format!("{base}/close"), "Content-Length: 1");
        drop(polled);
        router.signal(Signal::TERM);
        assert_eq!(asking.answer("POST").json()[2], "wamp.close.system_shutdown");
        saying.send(goodbye.as_bytes());
        assert_eq!(saying.answer("POST").status, 204);
        closing.send(b"x");
        assert_eq!(closing.answer("POST").status, 204, "it is over, as it should be");
        sending.send(b"x");
        assert_eq!(sending.answer("POST").status, 404);
        drop((asking, saying, sending, closing));
        assert!(router.wait(PATIENCE).success(), "{}", router.said());
    }

    /// Thirty clients, each with its rounds of questions and answers by connections of all shards.
    fn many_sessions_share_shards_and_connections(driver: &str) {
        let router = launch(driver).start();
        let address = router.wamp;
        let rounds = |number: u32| {
            move || {
                let topic = format!("{TOPIC}.{number}");
                let mut polled = Polled::join(address);
                polled.subscribe(&topic);
                for round in 0..20 {
                    let options = json!({ "exclude_me": false });
                    polled.say(&json!([16, round + 2, options, topic, [round]]));
                    assert_eq!(polled.hear()[4], json!([round]));
                }
                assert_eq!(polled.close().status, 204);
            }
        };
        let threads: Vec<_> = (0..30).map(|number| std::thread::spawn(rounds(number))).collect();
        threads.into_iter().for_each(|thread| thread.join().expect("it heard all"));
        eventually("the end of all", || ended(&router, "client") == 30.0);
    }
}

/// Connections that are not of the session's shard.
fn connections_elsewhere<const COUNT: usize>(router: &Router, polled: &Polled) -> [Http; COUNT] {
    let forwarded = || router.metric("fanwire_http_requests_forwarded_total", "outcome=\"sent\"");
    let mut elsewhere = Vec::new();
    // Kept until all are found, so that each shard gets some.
    let mut others = Vec::new();
    for request in 1.. {
        let before = forwarded();
        let mut connection = Http::connect(router.wamp);
        let message = json!([16, request, {}, TOPIC]);
        assert_eq!(connection.post(&format!("{}/send", polled.base), &message).status, 204);
        if forwarded() > before {
            elsewhere.push(connection)
        } else {
            others.push(connection)
        }
        if elsewhere.len() == COUNT {
            break;
        }
    }
    elsewhere.try_into().unwrap_or_else(|_| unreachable!("so many"))
}
