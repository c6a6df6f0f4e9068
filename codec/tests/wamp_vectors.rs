//! The published WAMP test vectors, read from where they lie: `../shared/vectors/wamp` beside the workspace, or
//! `FANWIRE_VECTORS`. In CI their absence is a failure; elsewhere the test says that it was skipped.
//! `wamp_messages.rs` covers the same messages from tables in the tree.

mod wamp_support;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use fanwire_codec::wamp2::{DecodeError, Serializer, code};
use serde_json::{Map, Value, json};
use wamp_support::{as_json, decoded, encoded, from_hex, serialized};

/// Samples whose options or details have one of these keys are left out, for the reason given.
const LATER_FEATURES: [(&str, &str); 4] = [
    // The samples have no `ppt_` options, which took its place and are tested in `wamp_passthru.rs`.
    (
        "enc_algo",
        "a dialect of one implementation with a bare payload in the list's place, not in the specification",
    ),
    ("forward_for", "links between routers come with clustering"),
    ("transaction_hash", "an extension of one implementation, not in the specification"),
    ("x_acknowledged_delivery", "acknowledged delivery is provisional in the specification"),
];

/// Message types that are left out, for the reason given.
const LATER_MESSAGES: [(u64, &str); 1] = [(337, "EVENT_RECEIVED is provisional in the specification")];

/// Serializers of the vectors that we do not speak (yet).
const LATER_SERIALIZERS: [(&str, &str); 2] =
    [("ubjson", "no client of ours uses it"), ("flatbuffers", "no client of ours uses it")];

#[test]
fn published_vectors_decode_and_encode() {
    let Some(directory) = vectors() else { return };
    let mut tally = Tally::default();
    for folder in ["basic", "advanced"] {
        for path in json_files(&directory.join("singlemessage").join(folder)) {
            let file: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
            for sample in file["samples"].as_array().expect("a list of samples") {
                let name =
                    format!("{}: {}", path.file_name().unwrap().to_string_lossy(), sample["description"]);
                match &sample["wmsg"] {
                    Value::Null => check_serialization(&name, sample, &mut tally),
                    message => check_validation(&name, message, &sample["expected_error"], &mut tally),
                }
            }
        }
    }
    tally.print();
    // A change of the vectors or of the walk must not go unnoticed.
    assert!(tally.serialized >= 28 * 3, "{} checks of serialized samples", tally.serialized);
    assert!(tally.validated >= 45, "{} checks of validation samples", tally.validated);
}

/// One sample in several serializers: each variant decodes to the expected attributes, and encodes to one of them.
fn check_serialization(name: &str, sample: &Value, tally: &mut Tally) {
    let expected = &sample["expected_attributes"];
    if let Some(reason) =
        later(expected["message_type"].as_u64(), &[&expected["options"], &expected["details"]])
    {
        return tally.skip(name, reason);
    }
    for (serializer_name, variants) in sample["serializers"].as_object().unwrap() {
        let serializer = match serializer_name.as_str() {
            "json" => Serializer::Json,
            "msgpack" => Serializer::MsgPack,
            "cbor" => Serializer::Cbor,
            other => {
                let reason = LATER_SERIALIZERS.iter().find(|(later, _)| *later == other);
                tally.skip(serializer_name, reason.expect("a serializer that the list knows").1);
                continue;
            }
        };
        let variants: Vec<_> = variants
            .as_array()
            .unwrap()
            .iter()
            .map(|variant| from_hex(variant["bytes_hex"].as_str().unwrap()))
            .collect();
        for bytes in &variants {
            let message = decoded(serializer, bytes).unwrap_or_else(|error| panic!("{name}: {error}"));
            let attributes = attributes(&as_json(&message, serializer));
            for (attribute, value) in expected.as_object().unwrap() {
                if attribute == "payload" && value.is_null() {
                    continue;
                }
                let ours =
                    attributes.get(attribute.as_str()).unwrap_or_else(|| panic!("{name}: no {attribute}"));
                assert_eq!(ours, value, "{name}: {attribute}");
            }
            let again = encoded(&message, serializer);
            assert!(variants.contains(&again), "{name}: {serializer} encodes to {again:02x?}");
        }
        tally.serialized += 1;
    }
}

/// A message that must be taken, or refused with words that name the key.
fn check_validation(name: &str, message: &Value, expected_error: &Value, tally: &mut Tally) {
    if let Some(reason) = later(message[0].as_u64(), &[&message[2], &message[3]]) {
        return tally.skip(name, reason);
    }
    for serializer in Serializer::ALL {
        let bytes = serialized(serializer, message);
        match (decoded(serializer, &bytes), expected_error) {
            (Ok(_), Value::Null) => {}
            // The vectors call any refusal a protocol violation. For a request we answer with
            // wamp.error.invalid_argument instead, which leaves the session alone; both name the key.
            (Err(error @ (DecodeError::Violation(_) | DecodeError::Request(_))), Value::Object(expected)) => {
                let words = error.to_string();
                let contains = expected["contains"].as_str().unwrap();
                assert!(words.contains(contains), "{name}: {words}");
            }
            (result, _) => panic!("{name}: {result:?}"),
        }
    }
    tally.validated += 1;
}

fn later(message_type: Option<u64>, dictionaries: &[&Value]) -> Option<&'static str> {
    if let Some((_, reason)) = LATER_MESSAGES.iter().find(|(code, _)| Some(*code) == message_type) {
        return Some(reason);
    }
    let keys = || dictionaries.iter().filter_map(|value| value.as_object()).flat_map(Map::keys);
    LATER_FEATURES.iter().find(|(later, _)| keys().any(|key| key == later)).map(|(_, reason)| *reason)
}

/// The elements of a message by the names of the vectors.
fn attributes(message: &Value) -> BTreeMap<&'static str, Value> {
    const PAYLOAD: [&str; 2] = ["args", "kwargs"];
    let names: &[&str] = match message[0].as_u64().unwrap() {
        code::HELLO => &["realm", "details"],
        code::WELCOME => &["session_id", "details"],
        code::ABORT | code::GOODBYE => &["details", "reason"],
        code::CHALLENGE => &["method", "extra"],
        code::AUTHENTICATE => &["signature", "extra"],
        code::ERROR => &["request_type", "request_id", "details", "error", "args", "kwargs"],
        code::PUBLISH => &["request_id", "options", "topic", "args", "kwargs"],
        code::PUBLISHED => &["request_id", "publication_id"],
        code::SUBSCRIBE => &["request_id", "options", "topic"],
        code::SUBSCRIBED | code::UNSUBSCRIBE => &["request_id", "subscription_id"],
        code::UNSUBSCRIBED | code::UNREGISTERED => &["request_id"],
        code::EVENT => &["subscription", "publication", "details", "args", "kwargs"],
        code::CALL => &["request_id", "options", "procedure", "args", "kwargs"],
        code::CANCEL | code::INTERRUPT => &["request_id", "options"],
        code::RESULT => &["request_id", "details", "args", "kwargs"],
        code::REGISTER => &["request_id", "options", "procedure"],
        code::REGISTERED | code::UNREGISTER => &["request_id", "registration_id"],
        code::INVOCATION => &["request_id", "registration_id", "details", "args", "kwargs"],
        code::YIELD => &["request_id", "options", "args", "kwargs"],
        other => panic!("no names for {other}"),
    };
    let mut attributes = BTreeMap::from([("message_type", message[0].clone())]);
    for (index, name) in names.iter().enumerate() {
        let value = message.get(index + 1).cloned();
        if value.is_none() {
            assert!(PAYLOAD.contains(name), "only the payload may be absent");
        }
        attributes.insert(name, value.unwrap_or(Value::Null));
    }
    if let Some(roles) = attributes.get("details").and_then(|details| details.get("roles")).cloned() {
        attributes.insert("roles", roles);
    }
    attributes
}

#[derive(Default)]
struct Tally {
    serialized: usize,
    validated: usize,
    skipped: BTreeMap<&'static str, Vec<String>>,
}

impl Tally {
    fn skip(&mut self, name: &str, reason: &'static str) {
        self.skipped.entry(reason).or_default().push(name.to_owned());
    }

    fn print(&self) {
        println!("{} serialized and {} validation samples checked", self.serialized, self.validated);
        for (reason, names) in &self.skipped {
            println!("{} skipped, {reason}", names.len());
        }
    }
}

fn json_files(directory: &Path) -> Vec<PathBuf> {
    let mut files: Vec<_> = fs::read_dir(directory)
        .unwrap_or_else(|error| panic!("{}: {error}", directory.display()))
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "json"))
        .collect();
    files.sort();
    files
}

/// Where the vectors are. `None`: nowhere, and that is allowed here.
fn vectors() -> Option<PathBuf> {
    let directory = std::env::var_os("FANWIRE_VECTORS").map_or_else(
        || Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/vectors/wamp"),
        PathBuf::from,
    );
    if directory.is_dir() {
        return Some(directory);
    }
    let in_ci = std::env::var("CI").is_ok_and(|value| value == "true" || value == "1");
    assert!(!in_ci, "no WAMP vectors in {}: set FANWIRE_VECTORS", directory.display());
    println!("skipped: no WAMP vectors in {}; FANWIRE_VECTORS names another place", directory.display());
    None
}

#[test]
fn skip_list_leaves_the_basic_profile_in() {
    assert!(later(Some(16), &[&json!({"exclude_me": false, "exclude_authid": []})]).is_none());
    assert!(later(Some(16), &[&json!({"forward_for": []})]).is_some());
}
