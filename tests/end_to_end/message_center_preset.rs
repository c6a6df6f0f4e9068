//! The message center's article, followed line by line at what `--preset message-center` starts.

use std::io::Read;
use std::net::SocketAddr;

use serde_json::json;

use crate::message_center::{done, users};
use crate::server_api::{CURL, reached, shell};
use crate::support::{Client, HookServer, Http, Launch, Router, eventually};

/// As the preset has it, but at free ports, and with this program as the backend. The second address is that of the API.
fn preset(driver: &str, hook: &HookServer) -> (Router, SocketAddr) {
    let url = hook.url().replace("/hook", "/websocket_auth");
    let launch = Launch::on(driver).argument("--preset").argument("message-center");
    let router = launch.set("listener.1.bind", "127.0.0.1:0").set("hook.0.url", &url).start();
    eventually("the line of the API", || router.said().contains("/v1/publish"));
    let said = router.said();
    let (before, _) = said.split_once("/v1/publish").expect("as above");
    let (_, address) = before.rsplit_once("http://").expect("a URL");
    (router, address.parse().expect("an address"))
}

/// The bytes of the next message, and whether it is text: one frame, shorter than 126 bytes.
fn frame(stream: &mut impl Read) -> (bool, Vec<u8>) {
    let mut head = [0; 2];
    stream.read_exact(&mut head).expect("a frame");
    assert!(matches!(head[0], 0x81 | 0x82) && head[1] < 126, "{head:?}");
    let mut payload = vec![0; head[1].into()];
    stream.read_exact(&mut payload).expect("all of it");
    (head[0] == 0x81, payload)
}

on_both_drivers! {
    fn s2_01_the_test_section_line_by_line(driver: &str) {
        let hook = users();
        let (router, api) = preset(driver, &hook);
        let mut client = Client::connect_to_center(router.wamp, "/message-center");
        assert_eq!(client.ask(json!({"op": "auth", "token": "token of 1001"})), done());
        assert_eq!(client.ask(json!({"op": "subscribe", "channel": "@user"})), done());
        assert_eq!(hook.asked()[0].body, r#"{"token":"token of 1001"}"#);
        let request = CURL.replace("127.0.0.1:6789", &api.to_string()).replace("curl ", "curl -sS ");
        assert_eq!(shell(&request), reached(1));
        let event = br#"{"event":"@user","data":{"uid":1001,"msg":"Hello,World!"}}"#;
        let mut stream = client.into_stream();
        assert_eq!(frame(&mut stream), (true, event.to_vec()));
        // By the HTTP API's own words too, which know of no frame.
        let publication = r#"{"topic":"user:1001","args":[{"uid":1001,"msg":"Hello,World!"}]}"#;
        let answer = Http::connect(api).post_as("/v1/publish", "application/json", publication);
        assert_eq!(answer.status, 200, "{:?}", answer.body);
        assert_eq!(frame(&mut stream), (true, event.to_vec()));
    }

    fn s2_09_what_the_api_is_given_is_delivered_byte_for_byte(driver: &str) {
        let hook = users();
        let (router, api) = preset(driver, &hook);
        let mut client = Client::connect_to_center(router.wamp, "/message-center");
        assert_eq!(client.ask(json!({"op": "auth", "token": "token of u-01"})), done());
        assert_eq!(client.ask(json!({"op": "subscribe", "channel": "@user"})), done());
        let mut stream = client.into_stream();
        let mut api = Http::connect(api);
        for (d, t, is_text, heard) in [
            (r#"" { \"a\" :1.50 }\n""#, "", true, &b" { \"a\" :1.50 }\n"[..]),
            (r#""\u00e9\ud83d\ude00""#, "", true, "é\u{1f600}".as_bytes()),
            (r#"{ "b" : [ 1.50 , 9007199254740993 ], "a":"\u0041" }"#, "", true, br#"{"b":[1.50,9007199254740993],"a":"\u0041"}"#),
            (r#""AAFi""#, r#","t":"binary""#, false, b"\0\x01b"),
            (r#""aGk=""#, r#","t":"binary""#, false, b"hi"),
        ] {
            let answer = api.post_as("/v1/mesh/publish", "application/json", &format!(r#"{{"c":"user:u-01","d":{d}{t}}}"#));
            assert_eq!(String::from_utf8_lossy(&answer.body), reached(1));
            assert_eq!(frame(&mut stream), (is_text, heard.to_vec()), "{d}");
        }
    }
}
