//! The published scenarios between clients and a router, played with the real process: `../shared/vectors/wamp/multisession`
//! beside the workspace, or below `FANWIRE_VECTORS`. Those of single messages are tested in `codec/tests/wamp_vectors.rs`.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value, json};

use crate::support::{Client, Launch, Router};

/// The elements of a message behind its type, by the names of the scenarios; those of the payload may be absent.
fn elements(name: &str) -> (u64, &'static [&'static str]) {
    match name {
        "PUBLISH" => (16, &["request_id", "options", "topic", "args", "kwargs"]),
        "PUBLISHED" => (17, &["request_id", "publication_id"]),
        "SUBSCRIBE" => (32, &["request_id", "options", "topic"]),
        "SUBSCRIBED" => (33, &["request_id", "subscription_id"]),
        "EVENT" => (36, &["subscription_id", "publication_id", "details", "args", "kwargs"]),
        "CALL" => (48, &["request_id", "options", "procedure", "args", "kwargs"]),
        "RESULT" => (50, &["request_id", "details", "args", "kwargs"]),
        "REGISTER" => (64, &["request_id", "options", "procedure"]),
        "REGISTERED" => (65, &["request_id", "registration_id"]),
        "INVOCATION" => (68, &["request_id", "registration_id", "details", "args", "kwargs"]),
        "YIELD" => (70, &["request_id", "options", "args", "kwargs"]),
        other => panic!("a scenario has {other}, which nobody has needed so far: add it"),
    }
}

/// What the router draws: the first time it stands for what came, later it must be the same.
const DRAWN: [&str; 3] = ["subscription_id", "publication_id", "registration_id"];

/// The message of a step, as its sender sends it.
fn message(step: &Map<String, Value>, drawn: &HashMap<(String, u64), Value>) -> Value {
    let (code, names) = elements(step["type"].as_str().expect("a name"));
    let mut list = vec![json!(code)];
    for name in names {
        let Some(value) = step.get(*name) else { continue };
        let known = value.as_u64().and_then(|id| drawn.get(&((*name).to_owned(), id)));
        list.push(known.unwrap_or(value).clone());
    }
    Value::Array(list)
}

fn check(step: &Map<String, Value>, heard: &Value, drawn: &mut HashMap<(String, u64), Value>) {
    let (code, names) = elements(step["type"].as_str().expect("a name"));
    assert_eq!(heard[0], code, "{heard}");
    for (index, name) in names.iter().enumerate() {
        let (expected, found) = (step.get(*name), heard.get(index + 1));
        match expected {
            Some(expected) if DRAWN.contains(name) => {
                let id = expected.as_u64().expect("an id");
                let found = found.unwrap_or_else(|| panic!("no {name} in {heard}"));
                let known = drawn.entry(((*name).to_owned(), id)).or_insert_with(|| found.clone());
                assert_eq!(found, known, "{name} in {heard}");
            }
            expected => assert_eq!(found, expected, "{name} in {heard}"),
        }
    }
}

fn play(router: &Router, scenario: &Value) {
    let name = scenario["description"].as_str().expect("a description");
    let mut clients: HashMap<&str, Client> = HashMap::new();
    for session in scenario["sessions"].as_array().expect("a list") {
        let id = session["session_id"].as_str().expect("a name");
        clients.insert(id, Client::join(router.wamp));
    }
    let mut drawn = HashMap::new();
    for step in scenario["sequence"].as_array().expect("a list") {
        let said = step["message"].as_object().expect("a message");
        match (step["from"].as_str().expect("a name"), step["to"].as_str().expect("a name")) {
            ("router", to) => check(said, &clients.get_mut(to).expect("a session").expect(), &mut drawn),
            (from, _) => clients.get_mut(from).expect("a session").send(message(said, &drawn)),
        }
        println!("{name}: {}", step["description"]);
    }
    // Nothing came that is not in the scenario: the next thing is the answer to this.
    for client in clients.values_mut() {
        let answer = client.ask(json!([16, 4_000, {"acknowledge": true}, "com.fanwire.vectors.end"]));
        assert_eq!((&answer[0], &answer[1]), (&json!(17), &json!(4_000)), "{name}: {answer}");
    }
}

fn scenarios(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display())) {
        let path = entry.expect("readable").path();
        if path.is_dir() {
            found.extend(scenarios(&path));
        } else if path.extension().is_some_and(|extension| extension == "json") {
            found.push(path);
        }
    }
    found
}

on_both_drivers! {
    fn published_scenarios_happen_as_they_are_written(driver: &str) {
        let folder = std::env::var_os("FANWIRE_VECTORS").map_or_else(
            || Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/vectors/wamp"),
            PathBuf::from,
        );
        if !folder.is_dir() {
            let in_ci = std::env::var("CI").is_ok_and(|value| value == "true" || value == "1");
            assert!(!in_ci, "no WAMP vectors in {}: set FANWIRE_VECTORS", folder.display());
            println!("SKIPPED: no WAMP vectors in {}; FANWIRE_VECTORS names another place", folder.display());
            return;
        }
        let found = scenarios(&folder.join("multisession"));
        assert!(!found.is_empty(), "the folder has scenarios");
        let router = Launch::on(driver).start();
        for path in found {
            let text = fs::read(&path).expect("readable");
            play(&router, &serde_json::from_slice(&text).expect("JSON"));
        }
    }
}
