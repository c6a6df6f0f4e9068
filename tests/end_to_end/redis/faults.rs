//! Redis that is away, killed, or does not know us; and the ways to it that are guarded.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde_json::json;

use super::{bridged, bridged_by, is_up};
use crate::support::redis::{Redis, Resp, Value};
use crate::support::{Authority, Client, Folder, Heard, Launch, eventually};

on_both_drivers! {
    fn s1_09_without_redis_everything_else_goes_on_and_it_comes_back_by_itself(driver: &str) {
        let mut redis = Redis::absent(&[]);
        let (_folder, router) = bridged(driver, "away", &redis, "notices = \"notices\"\nmap = [{ channel = \"channel\", direction = \"both\" }]");
        assert!(!is_up(&router));
        let (mut alice, mut bob) = (Client::join(router.wamp), Client::join(router.wamp));
        let mut observer = Client::join(router.wamp);
        alice.subscribe("channel");
        observer.subscribe("notices");
        bob.publish("channel", json!(["local"]));
        assert_eq!(alice.expect_event(), json!(["local"]));
        for round in 0..3 {
            redis.start_again();
            eventually("a bridge that is up", || is_up(&router));
            assert_eq!(observer.expect_event()[0]["state"], "up");
            assert_eq!(redis.client().ask(&format!("PUBLISH channel round-{round}")), Value::Integer(1));
            assert_eq!(alice.expect_event(), json!([format!("round-{round}")]), "once");
            redis.kill();
            eventually("a bridge that is down", || !is_up(&router));
            assert_eq!(observer.expect_event()[0]["state"], "down");
        }
        assert_eq!(alice.hear_within(Duration::from_millis(100)), None);
        assert!(router.metric("fanwire_bridge_gaps_total", "redis") >= 3.0);
        let said = router.said();
        assert!(said.contains("look at bridge.url"), "{said}");
    }

    fn s1_09_a_wrong_password_is_told_once_and_the_right_one_acts_without_a_restart(driver: &str) {
        let redis = Redis::start(&["--requirepass", "right"]);
        let folder = Folder::new(&format!("redis-password-{driver}"));
        let password = folder.write("redis.password", "wrong\n");
        let text = format!(
            "[[bridge]]\nname = \"redis\"\nurl = \"redis://127.0.0.1:{}\"\npassword_file = \"redis.password\"\nmap = [{{ channel = \"channel\" }}]\n",
            redis.port
        );
        let file = folder.write("fanwire.toml", &text);
        let router = Launch::on(driver).argument("--config").argument(&file).start();
        assert!(!is_up(&router));
        eventually("a second attempt", || router.metric("fanwire_bridge_failures_total", "redis") >= 3.0);
        assert_eq!(router.said().matches("bridge.password_file").count(), 1, "{}", router.said());
        std::fs::write(password, "right\n").expect("written");
        eventually("a bridge that is up", || is_up(&router));
        assert!(!router.said().contains("right"), "a password was logged");
    }

    fn s1_09_redis_is_killed_twenty_times_under_load(driver: &str) {
        let mut redis = Redis::start(&[]);
        let keys = "notices = \"notices\"\nmap = [{ channel = \"in\" }, { channel = \"out\", direction = \"out\" }]";
        let (_folder, router) = bridged(driver, "killed", &redis, keys);
        let (mut reader, mut talker, mut observer) =
            (Client::join(router.wamp), Client::join(router.wamp), Client::join(router.wamp));
        reader.subscribe("in");
        reader.subscribe("out");
        observer.subscribe("notices");
        let stop = Arc::new(AtomicBool::new(false));
        let backend = backend(redis.address(), Arc::clone(&stop));
        let (mut local, mut heard) = (0_u64, Witness::default());
        for _ in 0..20 {
            let came = heard.from_redis.len();
            // Both directions are busy when it dies.
            while heard.from_redis.len() < came + 150 {
                talker.publish("out", json!([format!("local {local}")]));
                local += 1;
                heard.take(&mut reader);
            }
            redis.kill();
            eventually("a bridge that is down", || !is_up(&router));
            talker.publish("out", json!([format!("local {local}")]));
            local += 1;
            redis.start_again();
            eventually("a bridge that is up", || is_up(&router));
        }
        stop.store(true, Ordering::Relaxed);
        let reached = backend.join().expect("the backend goes on");
        while heard.local < local {
            heard.take(&mut reader);
        }
        // What Redis had given to us arrived, but for what was on its way when it died.
        let missing = reached.difference(&heard.from_redis).count();
        assert!(missing <= 20 * IN_FLIGHT_MAX, "{missing} of {} are missing", reached.len());
        assert_eq!(router.metric("fanwire_bridge_gaps_total", "redis"), 20.0);
        assert_eq!(router.metric("fanwire_bridge_connects_total", "redis"), 21.0);
        for _ in 0..20 {
            assert_eq!(observer.expect_event()[0]["state"], "down");
            assert_eq!(observer.expect_event()[0], json!({"bridge": "redis", "state": "up", "gap": true}));
        }
        eventually("each of ours to have an end", || {
            let told = |name, label| router.metric(name, label);
            let out = told("fanwire_bridge_messages_total", "direction=\"out\"")
                + told("fanwire_bridge_lost_total", "direction=\"out\"");
            out == local as f64
        });
    }

    fn s1_15_tls_and_a_user_with_few_rights(driver: &str) {
        let authority = Authority::new();
        let folder = Folder::new(&format!("redis-tls-{driver}"));
        let (certificate, key) = authority.certify(&["localhost", "127.0.0.1"]);
        let (certificate, key) = (folder.write("redis.pem", &certificate), folder.write("redis.key", &key));
        let ca = folder.write("ca.pem", &authority.pem());
        let users = folder.write(
            "users.acl",
            "user default on nopass ~* &* +@all\n\
             user fanwire on >sesame resetchannels &channel &n.* -@all +subscribe +psubscribe +publish +ping +hello +client\n",
        );
        let tls = ["--tls-port", "TLS", "--tls-cert-file", &certificate, "--tls-key-file", &key, "--tls-auth-clients", "no"];
        let Some((redis, port)) = Redis::start_with_tls(&[&tls[..], &["--tls-ca-cert-file", &ca, "--aclfile", &users]].concat()) else {
            return eprintln!("SKIPPED: this redis-server has no TLS");
        };
        folder.write("redis.password", "sesame\n");
        let text = format!(
            "[[bridge]]\nname = \"redis\"\nurl = \"rediss://localhost:{port}\"\nuser = \"fanwire\"\n\
             password_file = \"redis.password\"\nca_file = \"ca.pem\"\n\
             map = [{{ channel = \"channel\", direction = \"both\" }}, {{ pattern = \"n.*\" }}, {{ channel = \"secret\", direction = \"out\" }}]\n"
        );
        let file = folder.write("fanwire.toml", &text);
        let router = Launch::on(driver).argument("--config").argument(&file).start();
        assert!(is_up(&router), "{}", router.said());
        let mut client = Client::join(router.wamp);
        client.subscribe("channel");
        client.subscribe("n.x");
        let mut backend = redis.client();
        assert_eq!(backend.ask("PUBLISH channel hello"), Value::Integer(1));
        assert_eq!(client.expect_event(), json!(["hello"]));
        assert_eq!(backend.ask("PUBLISH n.x hello"), Value::Integer(1));
        assert_eq!(client.expect_event(), json!(["hello"]));
        // What its user may not do there is lost alone, counted, and said once with what is missing.
        let mut publisher = Client::join(router.wamp);
        publisher.publish("secret", json!(["x"]));
        publisher.publish("channel", json!(["y"]));
        eventually("the refused one", || router.metric("fanwire_bridge_lost_total", "reason=\"refused\"") == 1.0);
        eventually("the other one", || router.metric("fanwire_bridge_messages_total", "direction=\"out\"") == 1.0);
        eventually("the reason", || router.said().contains("the channels of bridge.map"));
        // An authority that Redis's certificate is not of.
        let stranger = folder.write("ca.pem", &Authority::new().pem());
        let other = Launch::on(driver).argument("--config").argument(&file).start();
        assert!(!is_up(&other));
        eventually("the cause", || other.said().contains("look at bridge.url"));
        drop(stranger);
    }

    fn a_bridge_to_the_routers_own_port_does_not_connect(driver: &str) {
        let port = Redis::absent(&[]);
        let launch = Launch::on(driver).set("resp.bind", &format!("127.0.0.1:{}", port.port));
        let (_folder, router) = bridged_by(launch, driver, "own", &port, "map = [{ channel = \"channel\" }]");
        eventually("the cause", || router.said().contains("the Redis port of this very process"));
        let mut client = Client::join(router.wamp);
        client.subscribe("channel");
        assert_eq!(port.client().ask("PUBLISH channel once"), Value::Integer(1));
        assert_eq!(client.expect_event(), json!(["once"]));
        assert!(!is_up(&router));
    }
}

/// Messages that Redis may have given to the connection that ends: what [`backend`] says in a fifth of a second.
const IN_FLIGHT_MAX: usize = 200;

/// What somebody heard who is subscribed to both sides.
#[derive(Default)]
struct Witness {
    from_redis: BTreeSet<u64>,
    local: u64,
}

impl Witness {
    /// Whatever is there; nothing twice, and both in their order.
    fn take(&mut self, reader: &mut Client) {
        while let Some(heard) = reader.hear_within(Duration::from_millis(1)) {
            let Heard::Message(message) = heard else { panic!("the client was cut: {heard:?}") };
            let text = message[4][0].as_str().expect("a text").to_owned();
            match text.strip_prefix("local ") {
                Some(number) => {
                    assert_eq!(number.parse(), Ok(self.local), "local messages miss nothing");
                    self.local += 1;
                }
                None => {
                    let number = text.parse().expect("a number");
                    assert!(
                        self.from_redis.last().is_none_or(|last| number > *last),
                        "{number} came twice, or late"
                    );
                    self.from_redis.insert(number);
                }
            }
        }
    }
}

/// Publishes a thousand numbers a second at most, for as long as it can; returns those that had a receiver.
fn backend(address: std::net::SocketAddr, stop: Arc<AtomicBool>) -> std::thread::JoinHandle<BTreeSet<u64>> {
    std::thread::spawn(move || {
        let (mut reached, mut number) = (BTreeSet::new(), 0_u64);
        let mut client: Option<Resp> = None;
        while !stop.load(Ordering::Relaxed) {
            let Some(known) = &mut client else {
                client = Resp::try_connect(address);
                std::thread::sleep(Duration::from_millis(1));
                continue;
            };
            number += 1;
            match known.try_ask(&format!("PUBLISH in {number}")) {
                Some(Value::Integer(1)) => _ = reached.insert(number),
                Some(_) => {}
                None => client = None,
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        reached
    })
}
