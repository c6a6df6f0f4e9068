//! The names of topics, procedures and patterns, what covers what, and who may have what: written down once more, without
//! the core's matcher and permissions, so that the judges do not believe what they judge.
//!
//! A name is a number. The top bit is the realm, so that the same URI in two realms is two names; the next one says
//! pattern.

use super::{history::ClientId, plan::disclosure};
pub use fanwire_codec::wamp2::MatchPolicy;
use fanwire_core::access::{Permission, RealmConfig, RoleConfig};
use fanwire_core::login::LoginMethod;
use fanwire_core::topics::{GAP_TOPIC, TopicRules};

/// The realm's part of a name.
pub const REALM_BIT: u8 = 0x80;
/// Set in the names of patterns.
pub const PATTERN_BIT: u8 = 0x40;

/// The topic of a session's own gaps, in each realm.
pub const GAPS: u8 = 0x3f;

/// The first of the topics at which the router itself publishes.
pub const META_FIRST: u8 = 0x30;

const META: [[&str; 3]; 10] = [
    ["wamp", "session", "on_join"],
    ["wamp", "session", "on_leave"],
    ["wamp", "subscription", "on_create"],
    ["wamp", "subscription", "on_subscribe"],
    ["wamp", "subscription", "on_unsubscribe"],
    ["wamp", "subscription", "on_delete"],
    ["wamp", "registration", "on_create"],
    ["wamp", "registration", "on_register"],
    ["wamp", "registration", "on_unregister"],
    ["wamp", "registration", "on_delete"],
];

pub const META_COUNT: usize = META.len();

/// The roles of each realm; the first one may do everything.
pub const ROLES: [&str; 3] = ["anonymous", "limited", "feeder"];

/// Beginnings, as components; `*` is any. A last component in brackets is the beginning of one.
const PATTERNS: [&[&str]; 10] = [
    &["…"],
    &["top", "…"],
    &["top", "a…"],
    &["top", "a", "…"],
    &["top", "ab", "…"],
    &["top", "*", "*"],
    &["*", "a", "*"],
    &["top", "*", "1"],
    &["top", "ab", "*"],
    &["*", "*"],
];

pub const PATTERN_COUNT: usize = PATTERNS.len();

/// The components of a topic or procedure: `top.a.0`, `top.b.1`, `top.ab.2`, `top.a.3` and so on.
fn components(name: u8) -> [String; 3] {
    let number = usize::from(name & !REALM_BIT);
    if is_meta(name) {
        return META[number - usize::from(META_FIRST)].map(str::to_owned);
    }
    ["top".to_owned(), ["a", "b", "ab"][number % 3].to_owned(), number.to_string()]
}

pub fn is_pattern(name: u8) -> bool {
    name & PATTERN_BIT != 0
}

/// Whether the router itself publishes at it.
pub fn is_meta(name: u8) -> bool {
    let number = name & !REALM_BIT;
    (META_FIRST..META_FIRST + META_COUNT as u8).contains(&number)
}

/// What is asked for so, without a realm.
pub fn named(policy: MatchPolicy, uri: &str) -> Option<u8> {
    let patterns = (0..PATTERN_COUNT as u8).map(|number| PATTERN_BIT | number);
    let exact = (0..NAMES_MAX).chain(META_FIRST..META_FIRST + META_COUNT as u8).chain([GAPS]);
    exact.chain(patterns).find(|name| request(*name) == (policy, uri.to_owned()))
}

pub fn is_gaps(name: u8) -> bool {
    name & !REALM_BIT == GAPS
}

pub fn uri(name: u8) -> String {
    if is_gaps(name) {
        return GAP_TOPIC.to_owned();
    }
    components(name).join(".")
}

fn pattern(name: u8) -> &'static [&'static str] {
    PATTERNS[usize::from(name & !(REALM_BIT | PATTERN_BIT))]
}

/// How a subscription or registration of this name is asked for.
pub fn request(name: u8) -> (MatchPolicy, String) {
    if !is_pattern(name) {
        return (MatchPolicy::Exact, uri(name));
    }
    let joined = pattern(name).join(".");
    match joined.strip_suffix('…') {
        Some(prefix) => (MatchPolicy::Prefix, prefix.to_owned()),
        None => (MatchPolicy::Wildcard, joined.replace('*', "")),
    }
}

/// Whether what is published or called as `name` concerns who asked for `asked`.
pub fn covers(asked: u8, name: u8) -> bool {
    if asked & REALM_BIT != name & REALM_BIT {
        return false;
    }
    if !is_pattern(asked) {
        return asked == name;
    }
    let (pattern, components) = (pattern(asked), components(name));
    if !pattern.iter().any(|component| component.ends_with('…')) && pattern.len() != components.len() {
        return false;
    }
    pattern.iter().zip(&components).all(|(wanted, given)| match wanted.strip_suffix('…') {
        Some(beginning) => given.starts_with(beginning),
        None => *wanted == "*" || wanted == given,
    })
}

/// Where two that cover one procedure are registered, the greater one is called.
pub fn precedence(asked: u8) -> (u8, Vec<u8>) {
    if !is_pattern(asked) {
        return (2, Vec::new());
    }
    let pattern = pattern(asked);
    let specific = |component: &&str| match *component {
        "*" => 0,
        // The longer beginning; whole components weigh more than any part of one.
        part if part.ends_with('…') => part.len() as u8 - '…'.len_utf8() as u8,
        _ => 100,
    };
    let is_prefix = pattern.iter().any(|component| component.ends_with('…'));
    (u8::from(is_prefix), pattern.iter().map(specific).collect())
}

/// Whether a session of this role may subscribe to this topic, or register this procedure, by its own name.
pub fn may_have(role: u8, name: u8) -> bool {
    let [_, group, number] = components(name);
    role == 0 || !(group == "ab" || number == "0")
}

/// The role of a source by API, by index in [`ROLES`]: that which may do everything, or that of feeders.
pub fn source_role(source: ClientId) -> u8 {
    [0, 2][source.0 as usize % 2]
}

/// Feeders may not publish or call everything.
pub fn may_send(role: u8, name: u8) -> bool {
    role != 2 || components(name)[1] != "b"
}

/// Whether it is allowed to ask for the name. The limited role may ask for any pattern but those that lie wholly in what it
/// may not have.
pub fn may_ask(role: u8, asked: u8) -> bool {
    if is_gaps(asked) {
        return true;
    }
    if is_pattern(asked) { role == 0 || !pattern(asked).contains(&"ab") } else { may_have(role, asked) }
}

/// The topics that a hook is asked about.
pub const HOOKED_PREFIX: &str = "top.b.";

/// Whether the hook is asked about a topic, or about a subscription to a topic or pattern.
pub fn is_hooked(asked: u8) -> bool {
    let realm = asked & REALM_BIT;
    let hooked = |name: &u8| components(*name)[1] == "b";
    (0..NAMES_MAX).filter(hooked).any(|name| covers(asked, realm | name))
}

/// The realm with both roles. Each name has a rule of its own, which says who is disclosed there; patterns are decided on by
/// the two others.
pub fn realm(name: &str, topics: &TopicRules) -> RealmConfig {
    let mut realm = RealmConfig::open(name);
    let everything = realm.roles[0].permissions[0].clone();
    let hidden =
        Permission { uri: "top.ab.".to_owned(), subscribe: false, register: false, ..everything.clone() };
    realm.roles = (0u8..)
        .zip(ROLES)
        .map(|(role, role_name)| {
            let own = |name| {
                let is_allowed = may_have(role, name);
                Permission {
                    uri: uri(name),
                    match_policy: MatchPolicy::Exact,
                    subscribe: is_allowed,
                    register: is_allowed,
                    publish: may_send(role, name),
                    call: may_send(role, name),
                    disclose: disclosure(name),
                    trust: None,
                }
            };
            let wide = [Some(everything.clone()), (role == 1).then(|| hidden.clone())].into_iter().flatten();
            let permissions = wide.chain((0..NAMES_MAX).map(own)).collect();
            RoleConfig { name: role_name.to_owned(), permissions }
        })
        .collect();
    RealmConfig { login_methods: vec![LoginMethod::Ticket], topics: topics.clone(), ..realm }
}

/// More than any plan has.
pub const NAMES_MAX: u8 = 32;
