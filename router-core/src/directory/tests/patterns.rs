//! Patterns against a naive matcher, and their bounds.

use super::*;
use crate::uri;
use proptest::prelude::*;

const MANY: usize = 1_000_000;

fn subscribe_pattern(
    directory: &Directory,
    policy: MatchPolicy,
    uri: &str,
    on: u8,
) -> Result<Arc<Topic>, TooManyPatterns> {
    directory.subscribe_pattern(REALM, policy, uri, shard(on), MANY)
}

fn covering(cache: &mut TopicCache, directory: &Directory, uri: &str) -> Vec<(MatchPolicy, String)> {
    let found = cache.get(directory, REALM, uri);
    let entries = found.patterns.map_or(&[][..], |matches| matches.entries());
    entries.iter().map(|topic| (topic.policy(), topic.uri().to_owned())).collect()
}

#[test]
fn a_topic_without_exact_subscribers_reaches_those_of_patterns() {
    let directory = Directory::new(1);
    let mut cache = TopicCache::new(16);
    assert_eq!(cache.get(&directory, REALM, "a.b.c").interest(), 0);
    let prefix = subscribe_pattern(&directory, MatchPolicy::Prefix, "a.b", 1).unwrap();
    let wildcard = subscribe_pattern(&directory, MatchPolicy::Wildcard, "a..c", 2).unwrap();
    assert_eq!(cache.get(&directory, REALM, "a.b.c").interest(), 0b110);
    assert_eq!(cache.get(&directory, RealmId::new(1), "a.b.c").interest(), 0, "another realm");
    assert_eq!(
        cache.get(&directory, RealmId::new(64), "a.b.c").interest(),
        0,
        "another one of the same slot"
    );
    directory.unsubscribe(&prefix, shard(1));
    assert_eq!(cache.get(&directory, REALM, "a.b.c").interest(), 0b100);
    directory.unsubscribe(&wildcard, shard(2));
    assert_eq!(cache.get(&directory, REALM, "a.b.c").interest(), 0);
    assert_eq!(directory.topic_count(), 0);
}

#[test]
fn an_exact_subscription_hides_no_pattern() {
    let directory = Directory::new(1);
    let mut cache = TopicCache::new(16);
    subscribe(&directory, "a.b", 0);
    subscribe_pattern(&directory, MatchPolicy::Prefix, "", 1).unwrap();
    subscribe_pattern(&directory, MatchPolicy::Prefix, "a.", 2).unwrap();
    subscribe_pattern(&directory, MatchPolicy::Wildcard, ".", 3).unwrap();
    assert_eq!(cache.get(&directory, REALM, "a.b").interest(), 0b1111);
    assert_eq!(cache.get(&directory, REALM, "b.a").interest(), 0b1010);
}

#[test]
fn a_pattern_counts_once_however_many_shards_subscribe() {
    let directory = Directory::new(1);
    let (exact, max) = (MatchPolicy::Exact, 2);
    let subscribe = |uri, on| directory.subscribe_pattern(REALM, MatchPolicy::Prefix, uri, shard(on), max);
    let first = subscribe("a", 0).unwrap();
    assert!(Arc::ptr_eq(&first, &subscribe("a", 1).unwrap()));
    let second = subscribe("b", 0).unwrap();
    assert_eq!(subscribe("c", 0).unwrap_err(), TooManyPatterns::InRealm { patterns_max: 2 });
    assert!(subscribe("b", 3).is_ok(), "what there is may be joined");
    assert!(directory.lookup(REALM, exact, "b").is_none());
    directory.unsubscribe(&first, shard(0));
    directory.unsubscribe(&first, shard(1));
    assert!(subscribe("c", 0).is_ok(), "what has gone counts no more");
    assert!(directory.subscribe_pattern(RealmId::new(64), MatchPolicy::Prefix, "c", shard(0), max).is_ok());
    drop(second);
}

#[test]
fn the_shapes_of_long_wildcards_are_bounded_and_those_of_short_ones_are_not() {
    let directory = Directory::new(1);
    let wildcard = |shape: usize, components: usize| {
        let names: Vec<_> = (0..components).map(|at| if shape >> at & 1 == 0 { "x" } else { "" }).collect();
        names.join(".")
    };
    for shape in 0..64 {
        subscribe_pattern(&directory, MatchPolicy::Wildcard, &wildcard(shape, 6), 0).unwrap();
        subscribe_pattern(&directory, MatchPolicy::Wildcard, &wildcard(shape, 7), 0).unwrap();
    }
    let refused = subscribe_pattern(&directory, MatchPolicy::Wildcard, &wildcard(64, 7), 0);
    assert_eq!(refused.unwrap_err(), TooManyPatterns::Shapes { components: 7 });
    let same_shape = wildcard(63, 7).replace('x', "y");
    assert!(subscribe_pattern(&directory, MatchPolicy::Wildcard, &same_shape, 0).is_ok());
    assert!(subscribe_pattern(&directory, MatchPolicy::Wildcard, &wildcard(64, 8), 0).is_ok());
    let mut cache = TopicCache::new(16);
    assert_eq!(covering(&mut cache, &directory, "x.x.x.x.x.x").len(), 64);
}

#[test]
fn a_call_finds_exact_before_longest_prefix_before_wildcard() {
    let directory = Directory::new(1);
    let mut cache = RegistrationCache::new(16);
    use MatchPolicy::{Exact, Prefix, Wildcard};
    // The examples of WAMP, "Pattern-based Registrations". There, the prefixes end with whole components; but a prefix is
    // any beginning (same section), so here they have the dot that says so.
    let registered = [
        (Exact, "a1.b2.c3.d4.e55"),
        (Prefix, "a1.b2.c3."),
        (Prefix, "a1.b2.c3.d4."),
        (Wildcard, "a1.b2..d4.e5"),
        (Wildcard, "a1.b2.c33..e5"),
        (Wildcard, "a1.b2..d4.e5..g7"),
        (Wildcard, "a1.b2..d4..f6.g7"),
    ];
    for (number, (policy, uri)) in (1..).zip(registered) {
        directory.register(REALM, policy, uri, callee(number), &Offer::default(), MANY).unwrap();
    }
    let mut picked = |uri| match cache.get(&directory, REALM, uri) {
        Candidates::Nobody => 0,
        Candidates::Exact(registration) => registration.callee().session.get(),
        Candidates::Patterns(matches) => matches.entries()[0].callee().session.get(),
    };
    assert_eq!(picked("a1.b2.c3.d4.e55"), 1);
    assert_eq!(picked("a1.b2.c3.d98.e74"), 2);
    assert_eq!(picked("a1.b2.c3.d4.e325"), 3);
    assert_eq!(picked("a1.b2.c55.d4.e5"), 4);
    assert_eq!(picked("a1.b2.c33.d4.e5"), 5);
    assert_eq!(picked("a1.b2.c88.d4.e5.f6.g7"), 6);
    assert_eq!(picked("a2.b2.c2.d2.e2"), 0);
}

#[test]
fn a_refused_registration_leaves_no_trace() {
    let directory = Directory::new(1);
    let mut cache = RegistrationCache::new(16);
    let register = |uri, session| {
        let registered =
            directory.register(REALM, MatchPolicy::Prefix, uri, callee(session), &Offer::default(), 1);
        registered.map(|registered| registered.registration)
    };
    let first = register("a.", 1).unwrap();
    assert_eq!(
        register("b.", 2).unwrap_err(),
        RegisterError::TooManyPatterns(TooManyPatterns::InRealm { patterns_max: 1 })
    );
    directory.unregister(&first, callee(1).session, Heard::default());
    directory.unregister(&first, callee(1).session, Heard::default());
    assert!(matches!(cache.get(&directory, REALM, "a.x"), Candidates::Nobody));
    let second = register("b.", 2).unwrap();
    assert!(matches!(cache.get(&directory, REALM, "b.x"), Candidates::Patterns(_)));
    directory.unregister(&second, callee(2).session, Heard::default());
    assert_eq!(directory.registration_count(), 0);
}

#[test]
fn verdicts_are_asked_for_once_per_role() {
    let directory = Directory::new(1);
    subscribe_pattern(&directory, MatchPolicy::Prefix, "", 0).unwrap();
    let mut cache = TopicCache::new(16);
    let matches = Arc::clone(cache.get(&directory, REALM, "a").patterns.unwrap());
    for role in [0, 19] {
        assert!(!matches.permits(0, RoleId::new(role), || false));
        assert!(!matches.permits(0, RoleId::new(role), || unreachable!("it is known")));
        assert!(matches.permits(0, RoleId::new(role - role / 2 + 1), || true));
        assert!(matches.permits(0, RoleId::new(role - role / 2 + 1), || unreachable!("it is known")));
    }
    assert!(matches.permits(0, RoleId::new(500), || true) && !matches.permits(0, RoleId::new(500), || false));
    // Other permissions: nothing of it holds any more, for no role.
    let (first, last) = (RoleId::new(0), RoleId::new(19));
    assert!(matches.permits(1, first, || true) && matches.permits(1, first, || unreachable!("it is known")));
    assert!(matches.permits(1, last, || true));
    assert!(!matches.permits(0, first, || false), "a shard that has the old ones yet");
    assert!(!matches.permits(1, last, || false));
}

fn pattern() -> impl Strategy<Value = (MatchPolicy, String)> {
    let policy = prop_oneof![Just(MatchPolicy::Prefix), Just(MatchPolicy::Wildcard)];
    let component = prop_oneof![Just(""), Just("a"), Just("b"), Just("ab"), Just("ä")];
    let uri = prop::collection::vec(component, 1..6).prop_map(|components| components.join("."));
    (policy, uri)
        .prop_filter("valid", |(policy, uri)| uri::check_pattern(uri, *policy, uri::UriRule::Loose).is_ok())
}

fn topic() -> impl Strategy<Value = String> {
    let component = prop_oneof![Just("a"), Just("b"), Just("ab"), Just("ä"), Just("äa"), Just("ba")];
    prop::collection::vec(component, 1..6).prop_map(|components| components.join("."))
}

/// The precedence as WAMP words it: longest first; then the longer portion before each wildcard.
fn precedence((policy, uri): &(MatchPolicy, String)) -> (MatchPolicy, std::cmp::Reverse<Vec<usize>>) {
    let rank = match policy {
        MatchPolicy::Wildcard => {
            let mut portions = vec![0];
            for component in uri.split('.') {
                match component {
                    "" => portions.push(0),
                    _ => *portions.last_mut().unwrap() += 1,
                }
            }
            portions
        }
        _ => vec![uri.len()],
    };
    (*policy, std::cmp::Reverse(rank))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]
    /// Patterns come and go between publications; a tiny cache; all in the written precedence.
    #[test]
    fn finds_what_a_naive_matcher_finds(
        steps in prop::collection::vec((pattern(), topic(), any::<bool>(), 0..3u8), 1..60)
    ) {
        let directory = Directory::new(1);
        let mut cache = TopicCache::new(4);
        let mut standing: BTreeMap<(MatchPolicy, String), BTreeMap<u8, Arc<Topic>>> = BTreeMap::new();
        for ((policy, uri), topic, comes, on) in steps {
            let name = (policy, uri.clone());
            if comes {
                let entry = subscribe_pattern(&directory, policy, &uri, on).unwrap();
                standing.entry(name).or_default().insert(on, entry);
            } else if let Some(shards) = standing.get_mut(&name) {
                if let Some(entry) = shards.remove(&on) {
                    directory.unsubscribe(&entry, shard(on));
                }
                if shards.is_empty() {
                    standing.remove(&name);
                }
            }
            let covers = |name: &&(MatchPolicy, String)| uri::matches(name.0, &name.1, &topic);
            let mut expected: Vec<_> = standing.keys().filter(covers).cloned().collect();
            expected.sort_by_key(precedence);
            prop_assert_eq!(covering(&mut cache, &directory, &topic), expected);
        }
        for (_, shards) in standing {
            for (on, entry) in shards {
                directory.unsubscribe(&entry, shard(on));
            }
        }
        prop_assert_eq!(directory.topic_count(), 0);
    }
}
