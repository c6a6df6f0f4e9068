//! The message center below its words: compressed, through TLS, and with messages as long as a login may need.

use fanwire_codec::ws::deflate::Offer;
use serde_json::{Value, json};

use crate::message_center::{configuration, done, users};
use crate::support::{Authority, Client, Folder, Heard, HookServer, Http, Launch, Reply, Router, Tunnel};

const PATH: &str = "/message-center";

/// With takeover both ways, as browsers offer it.
const TAKEOVER: Offer = Offer {
    server_no_context_takeover: false,
    client_no_context_takeover: false,
    server_max_window_bits: None,
    client_max_window_bits: true,
};

fn log_in(client: &mut Client, uid: u32) {
    assert_eq!(client.ask(json!({"op": "auth", "token": format!("token of {uid}")})), done());
    assert_eq!(client.ask(json!({"op": "subscribe", "channel": "@user"})), done());
}

/// Enough to be compressed, and another one each time.
fn news(number: u32) -> Value {
    let lines: Vec<Value> =
        (0..60).map(|line| json!({"line": line, "about": "prices", "at": number})).collect();
    json!({"number": number, "news": lines})
}

on_both_drivers! {
    fn compressed_clients_hear_the_same_as_others(driver: &str) {
        for takeover in ["false", "true"] {
            let hook = users();
            let folder = Folder::new(&format!("center-deflated-{takeover}-{driver}"));
            let file = folder.write("fanwire.toml", &configuration(&hook.url(), "", ""));
            let launch = Launch::on(driver).argument("--config").argument(&file);
            let router = launch.set("compression.takeover", takeover).start();
            let small_window = Offer { server_max_window_bits: Some(10), ..Offer::default() };
            let mut clients = vec![Client::connect_to_center(router.wamp, PATH)];
            for offer in [Offer::default(), Offer::default(), TAKEOVER, TAKEOVER, small_window] {
                let client = Client::connect_to_center_with(router.wamp, PATH, Some(&offer));
                assert!(client.is_compressed());
                clients.push(client);
            }
            for client in &mut clients {
                log_in(client, 1001);
            }
            // What they say may be compressed too.
            let public = json!({"op": "subscribe", "channel": "1@video", "padding": "x".repeat(2_000)});
            for client in &mut clients[1..] {
                client.send_compressed(&public);
                assert_eq!(client.expect(), done());
            }
            let mut api = Http::connect(router.wamp);
            for number in 0..20 {
                api.post("/v1/publish", &json!({"topic": "user:1001", "args": [news(number)]}));
            }
            for (index, client) in clients.iter_mut().enumerate() {
                for number in 0..20 {
                    let event = json!({"event": "@user", "data": news(number)});
                    assert_eq!(client.expect(), event, "client {index}, takeover {takeover}");
                }
                // Who is another user now is so in its encoding too, and hears nothing of the other one.
                log_in(client, 1002);
            }
            api.post("/v1/publish", &json!({"topic": "user:1001", "args": [news(98)]}));
            api.post("/v1/publish", &json!({"topic": "user:1002", "args": [news(99)]}));
            for client in &mut clients {
                assert_eq!(client.expect(), json!({"event": "@user", "data": news(99)}));
            }
            let bytes = |layer: &str| router.metric("fanwire_deflated_bytes_total", &format!("layer=\"{layer}\""));
            assert!(bytes("wire") > 0.0 && bytes("wire") < bytes("payload") / 3.0);
            assert_eq!(router.metric("fanwire_sessions", "protocol=\"message_center\""), 6.0);
        }
    }

    fn a_user_behind_tls_hears_what_is_published_for_it(driver: &str) {
        let hook = users();
        let folder = Folder::new(&format!("center-tls-{driver}"));
        let authority = Authority::new();
        authority.write(&folder, "a", &["localhost", "127.0.0.1"]);
        let secure = "[[listener]]\nendpoints = { \"/message-center\" = \"message-center\" }\nbind = \"127.0.0.1:0\"\n\
                      [listener.tls]\ncert = \"a.pem\"\nkey = \"a.key\"\n";
        let file = folder.write("fanwire.toml", &configuration(&hook.url(), "", secure));
        let router = Launch::on(driver).argument("--config").argument(&file).start();
        let tunnel = Tunnel::to(crate::tls::address(&router), &authority.client());
        let mut plain = Client::connect_to_center(router.wamp, PATH);
        let mut secured = Client::connect_to_center(tunnel.address, PATH);
        let mut compressed = Client::connect_to_center_with(tunnel.address, PATH, Some(&TAKEOVER));
        let mut clients = [&mut plain, &mut secured, &mut compressed];
        clients.iter_mut().for_each(|client| log_in(client, 1001));
        let mut api = Http::connect(router.wamp);
        for number in 0..10 {
            api.post("/v1/publish", &json!({"topic": "user:1001", "args": [news(number)]}));
        }
        for client in clients {
            for number in 0..10 {
                assert_eq!(client.expect(), json!({"event": "@user", "data": news(number)}));
            }
        }
    }

    /// Others have `limits.before_login`, 16 KiB.
    fn s2_02_a_token_of_64_kib_is_taken_where_a_login_comes_first(driver: &str) {
        let hook = HookServer::start(|_| Reply::json(&json!({"uid": 1001})));
        let folder = Folder::new(&format!("center-long-{driver}"));
        let closed = "[[realm]]\nname = \"realm1\"\nanonymous_role = \"none\"\n[[realm.role]]\nname = \"anonymous\"\n\
                      [[realm.role.permission]]\nuri = \"user:\"\nmatch = \"prefix\"\nallow = [\"subscribe\"]\n";
        let file = folder.write("fanwire.toml", &configuration(&hook.url(), "", closed));
        let router = Launch::on(driver).argument("--config").argument(&file).start();
        let auth = |bytes: usize| json!({"op": "auth", "token": "\"".repeat(bytes)});
        let mut client = Client::connect_to_center(router.wamp, PATH);
        assert_eq!(client.ask(auth((64 << 10) + 1)), json!({"code": 5, "msg": "Auth failed"}));
        assert_eq!(hook.asked().len(), 0, "the router decides on that");
        assert_eq!(client.ask(auth(64 << 10)), done());
        let asked: Value = serde_json::from_str(&hook.asked()[0].body).expect("JSON");
        assert_eq!(asked["token"].as_str().map(str::len), Some(64 << 10));
        assert_eq!(client.ask(json!({"op": "subscribe", "channel": "@user"})), done());
        // No more than a token needs, and for others nothing at all.
        let mut client = Client::connect_to_center(router.wamp, PATH);
        client.send(json!({"op": "auth", "token": "x", "padding": "x".repeat(200 << 10)}));
        assert!(matches!(client.hear(), Heard::Close(1009, _)));
        too_long_for_wamp(&router);
    }
}

fn too_long_for_wamp(router: &Router) {
    let mut client = Client::connect(router.wamp);
    client.send(json!([1, "realm1", {"roles": {"subscriber": {}}, "padding": "x".repeat(17 << 10)}]));
    assert!(matches!(client.hear(), Heard::Close(1009, _)));
}
