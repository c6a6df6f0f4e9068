//! The configurations that come with the program, as they are but for ports that are free and programs that are here.

use std::net::SocketAddr;

use serde_json::json;

use crate::support::{Client, HookServer, Http, Launch, Program, Reply};

/// Where the banner says that something is.
fn address(said: &str, name: &str) -> SocketAddr {
    let line = said.lines().find(|line| line.trim_start().starts_with(name)).expect("the banner has it");
    let (_, rest) = line.split_once("://").expect("a URL");
    rest.split('/').next().and_then(|address| address.parse().ok()).expect("an address")
}

on_both_drivers! {
    fn the_message_center_tells_users_what_programs_of_this_machine_publish(driver: &str) {
        let hook = HookServer::start(|asked| {
            // Nothing else is told.
            let is_as_it_should = asked.body == r#"{"token":"***"}"#;
            if is_as_it_should { Reply::json(&json!({"uid": 1001})) } else { Reply::deny() }
        });
        let router = Launch::on(driver)
            .argument("--preset")
            .argument("message-center")
            .set("hook.0.url", &hook.url())
            .set("listener.1.bind", "127.0.0.1:0")
            .start();
        let mut joe = Client::connect_to_center(router.wamp, "/message-center");
        let done = json!({"result": true});
        assert_eq!(joe.ask(json!({"op": "auth", "token": "***"})), done);
        assert_eq!(joe.ask(json!({"op": "subscribe", "channel": "@user"})), done);
        let event = json!({"uid": 1001, "msg": "Hello,World!"});
        let api = address(&router.said(), "api ");
        Http::connect(api).post("/v1/publish", &json!({"topic": "user:1001", "args": [event]}));
        assert_eq!(joe.expect(), json!({"event": "@user", "data": event}));
        // As backends say it that were written for CONNMIX.
        let verbatim = json!({"event": "@user", "data": "as it is"});
        let publication = json!({"c": "user:1001", "d": verbatim.to_string()});
        Http::connect(api).post("/v1/mesh/publish", &publication);
        assert_eq!(joe.expect(), verbatim);
    }
}

#[test]
fn s2_15_an_api_that_other_machines_reach_needs_a_key() {
    let arguments =
        ["config", "check", "--preset", "message-center", "--set", "listener.1.bind=0.0.0.0:6789"];
    let (status, _, error) = Program::start(&arguments).finish();
    assert_eq!(status.code(), Some(2), "{error}");
    assert!(error.contains("http_api.key") || error.contains("[[http_api.key]]"), "{error}");
}

#[test]
fn a_preset_is_a_text_to_start_from() {
    for name in ["echo", "message-center"] {
        let (status, text, _) = Program::start(&["config", "preset", name]).finish();
        assert!(status.success() && text.starts_with("# "), "{text}");
        let folder = crate::support::Folder::new(&format!("preset-{name}"));
        let file = folder.write("fanwire.toml", &text);
        let shown = |arguments: &[&str]| {
            let (status, shown, error) = Program::start(&[&["config", "show"], arguments].concat()).finish();
            assert!(status.success(), "{error}");
            // Where each was written differs.
            shown
                .lines()
                .map(|line| line.split(" # ").next().unwrap_or_default().trim_end().to_owned())
                .collect()
        };
        let (of_file, of_preset): (Vec<String>, Vec<String>) = (shown(&[&file]), shown(&["--preset", name]));
        assert_eq!(of_file, of_preset);
    }
}
