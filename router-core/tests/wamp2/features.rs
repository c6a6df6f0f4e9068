//! What is announced, what is documented, and what becomes of what clients announce.

use std::collections::BTreeSet;

use fanwire_codec::wamp2::{Feature, Serializer};

use crate::support::Router;

const PAGE: &str = include_str!("../../../docs/wamp.md");

/// The names in the second column of the first table.
fn documented() -> BTreeSet<String> {
    let (_, rest) = PAGE.split_once("## Features\n").expect("there is a section of features");
    let (section, _) = rest.split_once("\n## ").expect("others follow");
    let rows = section.lines().filter(|line| line.starts_with('|')).skip(2);
    rows.flat_map(|row| {
        let announced = row.split('|').nth(2).unwrap_or_else(|| panic!("no name in {row}"));
        let names: Vec<String> = announced.split('`').skip(1).step_by(2).map(str::to_owned).collect();
        assert!(!names.is_empty(), "nothing is announced by {row}");
        names
    })
    .collect()
}

/// The features of a role in a WELCOME.
fn features<'a>(welcome: &'a str, role: &str) -> BTreeSet<&'a str> {
    let (_, rest) = welcome.split_once(&format!("\"{role}\":{{\"features\":{{")).expect("it has the role");
    let (features, _) = rest.split_once('}').expect("a dictionary ends");
    let pairs = features.split(',').map(|pair| pair.split_once(':').expect("a pair"));
    pairs
        .map(|(name, value)| {
            assert_eq!(value, "true", "{name}");
            name.trim_matches('"')
        })
        .collect()
}

#[test]
fn welcome_announces_what_is_documented_and_nothing_else() {
    let mut router = Router::new(1);
    let client = router.connect(0, Serializer::Json);
    router.say(client, r#"[1,"realm1",{"roles":{"caller":{}}}]"#);
    let welcome = router.hear_one(client);
    let (broker, dealer) = (features(&welcome, "broker"), features(&welcome, "dealer"));
    let announced: BTreeSet<String> = broker.union(&dealer).map(|name| (*name).to_owned()).collect();
    let documented = documented();
    let missing: Vec<_> = announced.symmetric_difference(&documented).collect();
    assert!(missing.is_empty(), "announced, or in docs/wamp.md, but not both: {missing:?}");
    for name in &announced {
        assert!(Feature::from_name(name).is_some(), "{name}");
    }
    // Roles of clients are none of the router's.
    for role in ["publisher", "subscriber", "caller", "callee"] {
        assert!(!welcome.contains(&format!("\"{role}\"")), "{welcome}");
    }
}

/// A callee that announces a feature alone is treated as one that has it, and one that announces all others is not.
#[test]
fn a_callee_is_asked_as_it_has_announced() {
    const ALL: [&str; 4] =
        ["call_canceling", "call_timeout", "progressive_call_results", "payload_passthru_mode"];
    let asked = |callee: &[&str], options: &str, register: &str| {
        let mut router = Router::new(2);
        let caller_has = ["progressive_call_invocations", "payload_passthru_mode"];
        let (callee, caller) = (router.join_able(0, &[], callee), router.join_able(1, &caller_has, &[]));
        router.say(callee, &format!(r#"[64,1,{register},"p"]"#));
        router.hear_one(callee);
        router.say(caller, &format!(r#"[48,1,{options},"p"]"#));
        router.settle();
        router.say(caller, r#"[49,1,{"mode":"kill"}]"#);
        (router.hear(callee).join(" "), router.hear(caller).join(" "))
    };
    for (feature, options, register, sign) in [
        ("call_canceling", "{}", "{}", "[69,1,"),
        ("call_timeout", r#"{"timeout":60000}"#, r#"{"forward_timeout":true}"#, r#""timeout":60000"#),
        ("progressive_call_results", r#"{"receive_progress":true}"#, "{}", r#""receive_progress":true"#),
        ("payload_passthru_mode", r#"{"ppt_scheme":"x"}"#, "{}", r#""ppt_scheme":"x""#),
    ] {
        let (with, _) = asked(&[feature], options, register);
        assert!(with.contains(sign), "{feature}: {with}");
        let others: Vec<&str> = ALL.into_iter().filter(|other| *other != feature).collect();
        let (without, told) = asked(&others, options, register);
        assert!(!without.contains(sign), "{feature}: {without}");
        // The caller has its answer all the same, by cancelling or because nobody could be asked.
        assert!(told.contains("[8,48,1,") || without.contains("[69,1,"), "{feature}: {told}");
    }
}
