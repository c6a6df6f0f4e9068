//! What is kept of publications, where a rule of their topic says so (WAMP, "Event History").

use std::time::Duration;

use fanwire_core::directory::{HistoryCursor, HistoryLimits, HistoryPage};
use fanwire_core::ids::{RealmId, RoleId};
use fanwire_core::topics::{Handling, HistoryBounds, TopicRule, TopicRules};
use fanwire_core::uri::MatchPolicy;
use fanwire_core::{Limits, access::RealmConfig};

use crate::support::{Client, Router, realms};

const BOUNDS: HistoryBounds = HistoryBounds { events: 5, bytes: 100_000, age: None };

fn rule(uri: &str, bounds: Option<HistoryBounds>) -> TopicRule {
    let (uri, handling) = (uri.to_owned(), Handling::default());
    TopicRule { uri, match_policy: MatchPolicy::Prefix, handling, history: bounds }
}

/// The realms, with these rules in the first and the fourth.
fn with_rules(rules: &[TopicRule]) -> [RealmConfig; 10] {
    let mut realms = realms();
    for realm in [0, 3] {
        realms[realm].topics = TopicRules { rules: rules.to_vec(), ..TopicRules::default() };
    }
    realms
}

fn give(router: &mut Router, rules: &[TopicRule], limits: Limits) {
    for shard in 0..router.shards.len() {
        let config = router.renewed(shard, &with_rules(rules), limits.clone());
        router.renew(shard, &config);
    }
    let access = &router.shards[0].config().access;
    router.directory.prune_histories(router.now, |realm, topic| access.history(realm, topic));
}

fn router(shards: u8, rules: &[TopicRule]) -> Router {
    let mut router = Router::new(shards);
    give(&mut router, rules, Limits::default());
    router
}

fn publish(router: &mut Router, client: Client, options: &str, topic: &str, text: &str) {
    router.say(client, &format!(r#"[16,1,{{{options}}},"{topic}",["{text}"]]"#));
}

fn history(router: &Router, realm: u32, policy: MatchPolicy, pattern: &str) -> HistoryPage {
    router.directory.history(RealmId::new(realm), (policy, pattern), HistoryCursor::Oldest, 1_000)
}

/// The texts that are kept, oldest first.
fn texts(router: &Router, policy: MatchPolicy, pattern: &str) -> Vec<String> {
    let text = |event: &fanwire_core::directory::PastPublication| {
        let args = String::from_utf8(event.payload.view().args.expect("a list").to_vec()).expect("JSON");
        args.trim_matches(['[', ']', '"']).to_owned()
    };
    history(router, 0, policy, pattern).events.iter().map(|(_, event)| text(event)).collect()
}

#[test]
fn the_last_publications_are_kept_whether_anybody_listens_or_not() {
    let mut router = router(
        2,
        &[rule("log.", Some(BOUNDS)), rule("log.not.", Some(HistoryBounds { events: 0, ..BOUNDS }))],
    );
    let (alice, bob) = (router.join(0), router.join(1));
    router.say(alice, r#"[32,1,{},"log.a"]"#);
    router.hear(alice);
    for number in 0..8 {
        let client = if number % 2 == 0 { alice } else { bob };
        publish(&mut router, client, "", "log.a", &number.to_string());
        publish(&mut router, client, "", "other", &number.to_string());
        publish(&mut router, client, "", "log.not.this", &number.to_string());
    }
    publish(&mut router, bob, "", "log.b", "b");
    publish(&mut router, bob, r#""eligible":[]"#, "log.b", "for nobody");
    assert_eq!(texts(&router, MatchPolicy::Exact, "log.a"), ["3", "4", "5", "6", "7"]);
    assert_eq!(texts(&router, MatchPolicy::Prefix, "lo"), ["3", "4", "5", "6", "7", "b"]);
    assert_eq!(texts(&router, MatchPolicy::Wildcard, ".b"), ["b"]);
    assert!(texts(&router, MatchPolicy::Exact, "other").is_empty());
    assert!(texts(&router, MatchPolicy::Prefix, "log.not").is_empty());
    assert_eq!(router.directory.history_usage().events, 6);
    let recorded: u64 = router.shards.iter().map(|shard| shard.counters().recorded).sum();
    assert_eq!(recorded, 9);
}

#[test]
fn lists_are_kept_but_what_names_sessions_is_not() {
    let mut router = router(1, &[rule("", Some(BOUNDS))]);
    let alice = router.join(0);
    publish(&mut router, alice, r#""exclude":[77]"#, "a", "not for one session");
    publish(&mut router, alice, r#""eligible":[77]"#, "a", "for one session");
    publish(&mut router, alice, r#""exclude":[]"#, "a", "an empty list says nothing");
    publish(&mut router, alice, r#""eligible_authid":["peter"]"#, "a", "peter");
    publish(&mut router, alice, r#""exclude_authrole":["anonymous"]"#, "a", "somebody");
    publish(&mut router, alice, "", "wamp.session.on_join", "denied");
    let page = history(&router, 0, MatchPolicy::Prefix, "");
    let role = RoleId::new(0);
    let is_for: Vec<_> = page
        .events
        .iter()
        .map(|(_, event)| [Some("peter"), Some("anna"), None].map(|authid| event.is_for(role, authid)))
        .collect();
    assert_eq!(is_for, [[true, true, true], [true, false, false], [false, false, false]]);
    assert!(page.events.iter().all(|(_, event)| event.publisher.is_none()));
}

#[test]
fn rules_bound_bytes_and_age_and_limits_bound_them_all() {
    let bounds = HistoryBounds { bytes: 2_000, age: Some(Duration::from_secs(60)), ..BOUNDS };
    let mut router = router(1, &[rule("", Some(bounds))]);
    let alice = router.join(0);
    for name in ["a", "b", "c"] {
        publish(&mut router, alice, "", "t", &name.repeat(600));
    }
    assert_eq!(history(&router, 0, MatchPolicy::Exact, "t").events.len(), 2, "bytes");
    publish(&mut router, alice, "", "t", &"d".repeat(2_000));
    assert_eq!(router.shards[0].counters().history_too_large, 1);
    router.pass(Duration::from_secs(61));
    publish(&mut router, alice, "", "t", "young");
    assert_eq!(texts(&router, MatchPolicy::Exact, "t"), ["young"]);
    let history_limits = HistoryLimits { bytes_per_realm: 1_000, ..HistoryLimits::default() };
    let limits = Limits { history: history_limits, ..Limits::default() };
    give(&mut router, &[rule("", Some(bounds))], limits);
    for topic in ["u", "v", "w", "x"] {
        publish(&mut router, alice, "", topic, topic);
    }
    assert_eq!(texts(&router, MatchPolicy::Prefix, ""), ["v", "w", "x"], "the oldest of the realm has gone");
    assert_eq!(router.shards[0].counters().history_displaced, 2);
    assert!(router.directory.history_usage().bytes <= 1_000);
}

#[test]
fn what_has_no_rule_any_more_goes() {
    let mut router = router(2, &[rule("a.", Some(BOUNDS)), rule("b.", Some(BOUNDS))]);
    let alice = router.join(1);
    publish(&mut router, alice, "", "a.x", "1");
    publish(&mut router, alice, "", "b.x", "2");
    give(&mut router, &[rule("a.", None), rule("b.", Some(BOUNDS))], Limits::default());
    assert_eq!(texts(&router, MatchPolicy::Prefix, ""), ["2"]);
    give(&mut router, &[], Limits::default());
    assert_eq!(router.directory.history_usage(), fanwire_core::directory::HistoryUsage::default());
    publish(&mut router, alice, "", "b.x", "3");
    assert!(texts(&router, MatchPolicy::Prefix, "").is_empty());
}
