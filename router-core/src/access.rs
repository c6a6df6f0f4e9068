//! Who may do what: realms, their roles, and [`Access`], which every request and every delivery asks.
//!
//! A role's permissions are rules over URIs. The most specific rule that covers a URI decides alone, whether it allows
//! or denies, in the precedence of [`uri`].
//! Where no rule covers the URI, the answer is no.
//!
//! What this module does not do: it knows no session and no password. It is built from the configuration and shared; a changed
//! configuration makes another one ([`Access::renewed`]), in which all ids mean what they meant before.

use crate::{
    hooks::{HookRule, HookScope, RealmHooks},
    ids::{RealmId, RoleId},
    login::LoginMethod,
    rules::Rules,
    topics::{GAP_TOPIC, Handling, HistoryBounds, TopicRules},
    uri::{self, MatchPolicy, UriError, UriRule},
};
use hashbrown::HashMap;
use std::fmt;
use std::hash::BuildHasher;
use std::time::Duration;

/// One realm, as configured.
#[derive(Clone, Debug)]
pub struct RealmConfig {
    /// Its URI, such as `realm1`.
    pub name: String,
    /// Its roles.
    pub roles: Vec<RoleConfig>,
    /// The role of sessions that bring no credentials. `None`: they are refused.
    pub anonymous_role: Option<String>,
    /// How sessions may log in that bring credentials.
    pub login_methods: Vec<LoginMethod>,
    /// Whether a ticket can say whose it is, as tokens do.
    pub tickets_say_who: bool,
    /// How long a login is remembered by its connection's cookie; `None`: not at all.
    pub cookie_time: Option<Duration>,
    /// How events wait for slow subscribers.
    pub topics: TopicRules,
}

impl RealmConfig {
    /// A realm in which anonymous sessions may do everything: for a router that only its own machine can reach.
    pub fn open(name: &str) -> Self {
        let everything = Permission {
            uri: String::new(),
            match_policy: MatchPolicy::Prefix,
            publish: true,
            subscribe: true,
            call: true,
            register: true,
            disclose: Disclosure::OnRequest,
            trust: None,
        };
        // By name: what throws others out is in no rule that is about everything.
        let meta = Permission { uri: META_PREFIX.to_owned(), ..everything.clone() };
        let permissions = vec![everything, meta];
        Self {
            name: name.to_owned(),
            roles: vec![RoleConfig { name: "anonymous".to_owned(), permissions }],
            anonymous_role: Some("anonymous".to_owned()),
            login_methods: Vec::new(),
            tickets_say_who: false,
            cookie_time: None,
            topics: TopicRules::default(),
        }
    }
}

/// One role of a realm, as configured.
#[derive(Clone, Debug)]
pub struct RoleConfig {
    /// Its name, sent to the client as `authrole`.
    pub name: String,
    /// Its rules. Their order does not matter.
    pub permissions: Vec<Permission>,
}

/// One rule of a role, as configured: what it may do with the URIs that the rule covers.
#[derive(Clone, Debug)]
pub struct Permission {
    /// The URI or the pattern.
    pub uri: String,
    /// How `uri` is compared.
    pub match_policy: MatchPolicy,
    /// May publish to it.
    pub publish: bool,
    /// May subscribe to it.
    pub subscribe: bool,
    /// May call it.
    pub call: bool,
    /// May register it.
    pub register: bool,
    /// Whether others are told who publishes to it or calls it.
    pub disclose: Disclosure,
    /// How far those are trusted who do; `None`: nothing is said of it.
    pub trust: Option<TrustLevel>,
}

/// How far subscribers and callees may trust who publishes or calls, 0 the least (WAMP, "Publication Trust Levels" and "Call Trust
/// Levels"). What it means is the application's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TrustLevel(pub u32);

/// What others are told of who does something that it may.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Permit {
    /// Whether they are told who it is.
    pub disclosure: Disclosure,
    /// How far they may trust it.
    pub trust: Option<TrustLevel>,
}

/// Whether subscribers and callees are told who publishes or calls (WAMP, "Publisher Identification" and "Caller
/// Identification").
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Disclosure {
    /// If the publisher or caller asks for it.
    #[default]
    OnRequest,
    /// Whatever it asks for.
    Always,
    /// Never: who asks for it is refused.
    Never,
}

impl Disclosure {
    /// Whether the session is disclosed that asks for it or not; `None`: its request must be refused.
    pub const fn decide(self, asked: bool) -> Option<bool> {
        match (self, asked) {
            (Self::OnRequest, asked) => Some(asked),
            (Self::Always, _) => Some(true),
            (Self::Never, false) => Some(false),
            (Self::Never, true) => None,
        }
    }
}

/// What a session wants to do with a URI.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Action {
    /// Publish to the topic.
    Publish,
    /// Subscribe to the topic or pattern.
    Subscribe,
    /// Call the procedure.
    Call,
    /// Register the procedure or pattern.
    Register,
}

impl Action {
    /// The verb, for the words of an error.
    pub const fn verb(self) -> &'static str {
        match self {
            Action::Publish => "publish",
            Action::Subscribe => "subscribe",
            Action::Call => "call",
            Action::Register => "register",
        }
    }
}

/// A mistake of the configuration; stops start-up.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum AccessError {
    /// The realm's name is no URI.
    RealmName {
        /// The name.
        realm: String,
        /// What is wrong with it.
        why: UriError,
    },
    /// Two realms, or two roles of a realm, or two rules of a role are the same.
    Twice {
        /// Which, in words.
        what: String,
    },
    /// `anonymous_role` names no role of the realm.
    NoSuchRole {
        /// The realm.
        realm: String,
        /// The role that is missing.
        role: String,
    },
    /// The URI of a rule is not valid under its policy.
    PermissionUri {
        /// The realm.
        realm: String,
        /// The role.
        role: String,
        /// The URI.
        uri: String,
        /// What is wrong with it.
        why: UriError,
    },
    /// The URI of a topic's rule is not valid under its policy.
    TopicUri {
        /// The realm.
        realm: String,
        /// The URI.
        uri: String,
        /// What is wrong with it.
        why: UriError,
    },
    /// The realms are not those that there were.
    OtherRealms,
    /// More realms than 2^32 or more roles than 2^16.
    TooMany {
        /// Which, in words.
        what: &'static str,
    },
}

impl fmt::Display for AccessError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            AccessError::RealmName { realm, why } => write!(f, "realm {realm:?}: {why}"),
            AccessError::Twice { what } => write!(f, "{what} is configured twice; keep one"),
            AccessError::NoSuchRole { realm, role } => {
                write!(f, "realm {realm:?}: anonymous_role is {role:?}, which is not one of its roles")
            }
            AccessError::PermissionUri { realm, role, uri, why } => {
                write!(f, "realm {realm:?}, role {role:?}, permission for {uri:?}: {why}")
            }
            AccessError::TopicUri { realm, uri, why } => {
                write!(f, "realm {realm:?}, topic rule for {uri:?}: {why}")
            }
            AccessError::OtherRealms => f.write_str("realms come and go with a restart only"),
            AccessError::TooMany { what } => write!(f, "too many {what}"),
        }
    }
}

impl std::error::Error for AccessError {}

/// All realms with their roles, ready to be asked.
#[derive(Debug)]
pub struct Access {
    by_name: HashMap<Box<str>, RealmId, foldhash::fast::FixedState>,
    realms: Vec<Realm>,
    /// How often it was renewed: what is remembered of its verdicts holds for one of them.
    generation: u32,
}

#[derive(Debug)]
struct Realm {
    name: Box<str>,
    roles: Vec<Role>,
    anonymous_role: Option<RoleId>,
    login_methods: Vec<LoginMethod>,
    tickets_say_who: bool,
    cookie_time: Option<Duration>,
    handling: Handling,
    topics: Rules<Handling>,
    /// Of the rules that say something of it. `None`: there is none.
    histories: Option<Rules<HistoryBounds>>,
    hooks: RealmHooks,
}

#[derive(Debug)]
struct Role {
    name: Box<str>,
    rules: Rules<Allowed>,
}

/// What a rule says of the URIs that it decides on.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Allowed {
    /// One bit per [`Action`], and [`EXPRESS`].
    actions: u8,
    permit: Permit,
}

impl Allowed {
    fn new(rule: &Permission) -> Self {
        let bit = |allowed: bool, action: Action| u8::from(allowed) << action as u8;
        let actions = bit(rule.publish, Action::Publish)
            | bit(rule.subscribe, Action::Subscribe)
            | bit(rule.call, Action::Call)
            | bit(rule.register, Action::Register);
        let express = if rule.uri.starts_with(META_PREFIX) { EXPRESS } else { 0 };
        let permit = Permit { disclosure: rule.disclose, trust: rule.trust };
        Self { actions: actions | express, permit }
    }

    fn contains(self, action: Action) -> bool {
        self.actions & (1 << action as u8) != 0
    }
}

/// Of a rule that is about the router's own procedures and topics, and about nothing else.
const EXPRESS: u8 = 1 << 7;
/// Begins the URIs of WAMP's own procedures and topics.
const META_PREFIX: &str = "wamp.";

impl Access {
    /// Checks the configuration and builds the tables. `seed` keys them, so that a client cannot aim at one hash chain.
    pub fn new(realms: &[RealmConfig], seed: u64) -> Result<Self, AccessError> {
        Self::build(realms, foldhash::fast::FixedState::with_seed(seed), None)
    }

    /// The same realms with other roles, permissions, logins and rules for topics.
    ///
    /// Ids stay what they are, also those of roles that are gone: their sessions may do nothing any more.
    ///
    /// # Errors
    ///
    /// A mistake of the configuration, or realms that are not the same in the same order.
    pub fn renewed(&self, realms: &[RealmConfig]) -> Result<Self, AccessError> {
        let names = |(realm, config): (&Realm, &RealmConfig)| *realm.name == *config.name;
        if self.realms.len() != realms.len() || !self.realms.iter().zip(realms).all(names) {
            return Err(AccessError::OtherRealms);
        }
        Self::build(realms, self.hasher().clone(), Some(self))
    }

    fn build(
        realms: &[RealmConfig],
        hasher: foldhash::fast::FixedState,
        before: Option<&Self>,
    ) -> Result<Self, AccessError> {
        let generation = before.map_or(0, |before| before.generation.wrapping_add(1));
        let mut access =
            Self { by_name: HashMap::with_hasher(hasher.clone()), realms: Vec::new(), generation };
        for config in realms {
            let id =
                u32::try_from(access.realms.len()).map_err(|_| AccessError::TooMany { what: "realms" })?;
            uri::check_topic(&config.name, UriRule::Loose)
                .map_err(|why| AccessError::RealmName { realm: config.name.clone(), why })?;
            if access.by_name.insert(config.name.as_str().into(), RealmId::new(id)).is_some() {
                return Err(AccessError::Twice { what: format!("realm {:?}", config.name) });
            }
            let known = before.map_or(&[][..], |before| &before.realms[id as usize].roles);
            access.realms.push(Realm::new(config, known, &hasher)?);
        }
        Ok(access)
    }

    /// Which of the renewals this is; at the start 0.
    pub(crate) fn generation(&self) -> u32 {
        self.generation
    }

    /// Of each realm's roles, whether it may do other things than it might `before`, which this one was renewed from.
    pub(crate) fn changed_roles(&self, before: &Self) -> Vec<Vec<bool>> {
        let changed = |(now, before): (&Realm, &Realm)| {
            let is_changed = |(index, role): (usize, &Role)| {
                before.roles.get(index).is_none_or(|before| before.rules != role.rules)
            };
            now.roles.iter().enumerate().map(is_changed).collect()
        };
        self.realms.iter().zip(&before.realms).map(changed).collect()
    }

    /// Whether there is such a role. Who learns of new ones before this one does must ask.
    pub(crate) fn has_role(&self, realm: RealmId, role: RoleId) -> bool {
        self.realms.get(realm.index()).is_some_and(|realm| role.index() < realm.roles.len())
    }

    /// The realm of this name.
    pub fn realm(&self, name: &str) -> Option<RealmId> {
        self.by_name.get(name).copied()
    }

    /// How many realms there are; their ids are dense.
    pub fn realm_count(&self) -> usize {
        self.realms.len()
    }

    /// The name of a realm.
    pub fn realm_name(&self, realm: RealmId) -> &str {
        &self.realms[realm.index()].name
    }

    /// The role of sessions of this realm that bring no credentials.
    pub fn anonymous_role(&self, realm: RealmId) -> Option<RoleId> {
        self.realms[realm.index()].anonymous_role
    }

    /// Whether sessions of this realm may log in by this method.
    pub fn offers(&self, realm: RealmId, method: LoginMethod) -> bool {
        let realm = &self.realms[realm.index()];
        let has_role = method == LoginMethod::Anonymous && realm.anonymous_role.is_some();
        has_role || method == LoginMethod::Cookie && realm.cookie_time.is_some() || realm.offers(method)
    }

    /// How long a login to this realm is remembered by its connection's cookie.
    pub(crate) fn cookie_time(&self, realm: RealmId) -> Option<Duration> {
        self.realms[realm.index()].cookie_time
    }

    /// The same of the realm where it is the longest. `None`: none is remembered anywhere.
    pub fn longest_cookie_time(&self) -> Option<Duration> {
        self.realms.iter().filter_map(|realm| realm.cookie_time).max()
    }

    /// Whether any realm has logins that can be bound to a connection.
    pub(crate) fn offers_bound_logins(&self) -> bool {
        let bound = [LoginMethod::WampScram, LoginMethod::Cryptosign];
        self.realms.iter().any(|realm| bound.iter().any(|method| realm.offers(*method)))
    }

    /// Whether a ticket can be shown without saying whose it is: a hook, or a token, tells.
    pub(crate) fn tickets_say_who(&self, realm: RealmId) -> bool {
        let realm = &self.realms[realm.index()];
        realm.tickets_say_who || realm.hooks.login_methods.contains(&LoginMethod::Ticket)
    }

    /// What is kept of a publication's `x_conflate_key`.
    pub(crate) fn conflate_key(&self, key: &str) -> u64 {
        self.hasher().hash_one(key)
    }

    /// From now on these hooks are asked. A realm whose logins one of them decides on offers its methods.
    pub fn set_hooks(&mut self, rules: &[HookRule]) {
        for realm in &mut self.realms {
            realm.hooks = RealmHooks::new(rules, &realm.name, |scope| realm.spared_by(scope));
        }
    }

    /// The hooks of a realm.
    #[inline]
    pub(crate) fn hooks(&self, realm: RealmId) -> &RealmHooks {
        &self.realms[realm.index()].hooks
    }

    /// Whether somebody is asked who may subscribe to this topic or pattern, beside the permissions.
    pub fn asks_about_subscription(
        &self,
        realm: RealmId,
        role: RoleId,
        policy: MatchPolicy,
        uri: &str,
    ) -> bool {
        self.hooks(realm).of_pattern(Action::Subscribe, role, policy, uri).is_some()
    }

    /// The same of publishing, calling, subscribing to or registering exactly this.
    pub fn asks_about(&self, realm: RealmId, role: RoleId, action: Action, uri: &str) -> bool {
        let hooks = self.hooks(realm);
        match action {
            Action::Publish => hooks.of_publication(role, uri).is_some(),
            Action::Call => hooks.of_call(role, uri).is_some(),
            Action::Subscribe | Action::Register => {
                hooks.of_pattern(action, role, MatchPolicy::Exact, uri).is_some()
            }
        }
    }

    /// A hasher that no client can aim at.
    pub(crate) fn hasher(&self) -> &foldhash::fast::FixedState {
        self.by_name.hasher()
    }

    /// The role of this name in a realm.
    pub fn role(&self, realm: RealmId, name: &str) -> Option<RoleId> {
        self.realms[realm.index()].role(name)
    }

    /// The name of a role, for the `authrole` of WELCOME; empty if there is none.
    pub fn role_name(&self, realm: RealmId, role: RoleId) -> &str {
        self.realms[realm.index()].roles.get(role.index()).map_or("", |role| &role.name)
    }

    /// How the events of this subscription wait for slow subscribers: what the most specific rule says that covers all that
    /// the subscription may bring, or the realm's default.
    pub(crate) fn handling(&self, realm: RealmId, policy: MatchPolicy, uri: &str) -> Handling {
        let realm = &self.realms[realm.index()];
        let rule = match policy {
            MatchPolicy::Exact if uri == GAP_TOPIC => return Handling::default(),
            MatchPolicy::Exact => realm.topics.get(uri),
            MatchPolicy::Prefix | MatchPolicy::Wildcard => realm.topics.covering(policy, uri),
        };
        rule.unwrap_or(realm.handling)
    }

    /// Whether publications are kept in this realm at all.
    #[inline]
    pub(crate) fn keeps_history(&self, realm: RealmId) -> bool {
        self.realms[realm.index()].histories.is_some()
    }

    /// How much is kept of publications to this topic: what the most specific rule says that says something of it.
    pub fn history(&self, realm: RealmId, uri: &str) -> Option<HistoryBounds> {
        let rules = self.realms[realm.index()].histories.as_ref()?;
        rules.get(uri).filter(|bounds| bounds.events > 0 && !uri::is_reserved(uri))
    }

    /// True if a session of this role may do this with this URI.
    ///
    /// Nobody publishes or registers below `wamp.` and `fanwire.`, whatever the rules say: those are the router's own.
    pub fn authorize(&self, realm: RealmId, role: RoleId, action: Action, uri: &str) -> bool {
        self.permit(realm, role, action, uri).is_some()
    }

    /// The same, and what others are told of who does it.
    pub fn permit(&self, realm: RealmId, role: RoleId, action: Action, uri: &str) -> Option<Permit> {
        if matches!(action, Action::Publish | Action::Register) && uri::is_reserved(uri) {
            return None;
        }
        let rule = self.realms[realm.index()].roles.get(role.index())?.rules.get(uri)?;
        rule.contains(action).then_some(rule.permit)
    }

    /// The role's rules about exact URIs and prefixes, in the order of their URIs: URI, whether it is a prefix, and what the rule allows.
    pub(crate) fn permissions(
        &self,
        realm: RealmId,
        role: RoleId,
    ) -> Vec<(&str, bool, impl Fn(Action) -> bool)> {
        let rules = self.realms[realm.index()].roles.get(role.index()).map(|role| role.rules.all());
        let rules = rules.into_iter().flatten().filter(|(policy, ..)| *policy != MatchPolicy::Wildcard);
        let told = |(policy, uri, rule): (_, _, Allowed)| {
            (uri, policy == MatchPolicy::Prefix, move |action| rule.contains(action))
        };
        rules.map(told).collect()
    }

    /// Whether it may do this by a rule whose own URI begins with `wamp.`: what ends other sessions, subscriptions and
    /// registrations needs such a rule, so that who may call everything does not get it along with that.
    pub fn permits_expressly(&self, realm: RealmId, role: RoleId, action: Action, uri: &str) -> bool {
        let rule = self.realms[realm.index()].roles.get(role.index()).and_then(|role| role.rules.get(uri));
        rule.is_some_and(|rule| rule.contains(action) && rule.actions & EXPRESS != 0)
    }

    /// True if a session of this role may subscribe or register under this policy.
    ///
    /// A rule covers a pattern if it covers every URI that the pattern covers; the most specific one that does decides. That
    /// is no promise for each of those URIs: narrower rules may deny some. So what a pattern brings is asked for once more,
    /// with the URI that was published or called ([`Self::authorize`]), and a session never gets by a pattern what it could
    /// not have asked for by name.
    pub fn authorize_pattern(
        &self,
        realm: RealmId,
        role: RoleId,
        action: Action,
        policy: MatchPolicy,
        uri: &str,
    ) -> bool {
        if policy == MatchPolicy::Exact {
            // What was lost of its own events concerns each session, and nobody else.
            let is_own_gaps = action == Action::Subscribe && uri == GAP_TOPIC;
            return is_own_gaps || self.authorize(realm, role, action, uri);
        }
        if action == Action::Register && uri::is_reserved(uri) {
            return false;
        }
        let role = &self.realms[realm.index()].roles[role.index()];
        role.rules.covering(policy, uri).is_some_and(|rule| rule.contains(action))
    }
}

impl Realm {
    /// `known`: the roles that there were, whose ids stay theirs.
    fn new(
        config: &RealmConfig,
        known: &[Role],
        hasher: &foldhash::fast::FixedState,
    ) -> Result<Self, AccessError> {
        let mut realm = Self {
            name: config.name.as_str().into(),
            roles: Vec::new(),
            anonymous_role: None,
            login_methods: config.login_methods.clone(),
            tickets_say_who: config.tickets_say_who,
            cookie_time: config.cookie_time,
            handling: config.topics.default,
            topics: topic_rules(&config.name, &config.topics, hasher)?,
            histories: history_rules(&config.topics, hasher),
            hooks: RealmHooks::default(),
        };
        for known in known {
            let gone = RoleConfig { name: known.name.to_string(), permissions: Vec::new() };
            let role = config.roles.iter().find(|role| *role.name == *known.name).unwrap_or(&gone);
            realm.roles.push(Role::new(&config.name, role, hasher)?);
        }
        for (index, role) in config.roles.iter().enumerate() {
            if config.roles[..index].iter().any(|other| other.name == role.name) {
                return Err(AccessError::Twice {
                    what: format!("role {:?} of realm {:?}", role.name, config.name),
                });
            }
            if realm.role(&role.name).is_none() {
                realm.roles.push(Role::new(&config.name, role, hasher)?);
            }
        }
        if realm.roles.len() > usize::from(u16::MAX) {
            return Err(AccessError::TooMany { what: "roles" });
        }
        if let Some(name) = &config.anonymous_role {
            let role = realm.role(name).filter(|_| config.roles.iter().any(|role| role.name == *name));
            realm.anonymous_role =
                Some(role.ok_or_else(|| AccessError::NoSuchRole {
                    realm: config.name.clone(),
                    role: name.clone(),
                })?);
        }
        Ok(realm)
    }

    /// By role, whom a hook of this scope is not asked about.
    fn spared_by(&self, scope: &HookScope) -> Box<[bool]> {
        let answers = scope.procedure.as_ref().filter(|(realm, _)| **realm == *self.name);
        let may_answer = |role: &Role| {
            let rule = answers.and_then(|(_, uri)| role.rules.get(uri));
            rule.is_some_and(|rule| rule.contains(Action::Register))
        };
        let is_other =
            |role: &Role| !scope.roles.is_empty() && !scope.roles.iter().any(|name| **name == *role.name);
        self.roles.iter().map(|role| is_other(role) || may_answer(role)).collect()
    }

    /// Whether its users, or a hook, know this method.
    fn offers(&self, method: LoginMethod) -> bool {
        self.login_methods.contains(&method) || self.hooks.login_methods.contains(&method)
    }

    fn role(&self, name: &str) -> Option<RoleId> {
        let index = self.roles.iter().position(|role| &*role.name == name)?;
        Some(RoleId::new(u16::try_from(index).expect("the number of roles was checked")))
    }
}

impl Role {
    fn new(
        realm: &str,
        config: &RoleConfig,
        hasher: &foldhash::fast::FixedState,
    ) -> Result<Self, AccessError> {
        let mut rules = Rules::new(hasher.clone());
        for rule in &config.permissions {
            uri::check_pattern(&rule.uri, rule.match_policy, UriRule::Version1).map_err(|why| {
                AccessError::PermissionUri {
                    realm: realm.to_owned(),
                    role: config.name.clone(),
                    uri: rule.uri.clone(),
                    why,
                }
            })?;
            if !rules.insert(rule.match_policy, &rule.uri, Allowed::new(rule)) {
                let what = format!(
                    "the {:?} permission for {:?} of role {:?} in realm {realm:?}",
                    rule.match_policy, rule.uri, config.name
                );
                return Err(AccessError::Twice { what });
            }
        }
        rules.sort();
        Ok(Self { name: config.name.as_str().into(), rules })
    }
}

fn topic_rules(
    realm: &str,
    config: &TopicRules,
    hasher: &foldhash::fast::FixedState,
) -> Result<Rules<Handling>, AccessError> {
    let mut rules = Rules::new(hasher.clone());
    for rule in &config.rules {
        uri::check_pattern(&rule.uri, rule.match_policy, UriRule::Version1)
            .map_err(|why| AccessError::TopicUri { realm: realm.to_owned(), uri: rule.uri.clone(), why })?;
        if !rules.insert(rule.match_policy, &rule.uri, rule.handling) {
            let what =
                format!("the {:?} topic rule for {:?} in realm {realm:?}", rule.match_policy, rule.uri);
            return Err(AccessError::Twice { what });
        }
    }
    rules.sort();
    Ok(rules)
}

/// The rules were checked by [`topic_rules`].
fn history_rules(config: &TopicRules, hasher: &foldhash::fast::FixedState) -> Option<Rules<HistoryBounds>> {
    let mut rules = Rules::new(hasher.clone());
    let mut is_any = false;
    for rule in &config.rules {
        let Some(bounds) = rule.history else { continue };
        let is_new = rules.insert(rule.match_policy, &rule.uri, bounds);
        debug_assert!(is_new, "the rules differ in what they are for");
        is_any |= bounds.events > 0;
    }
    rules.sort();
    is_any.then_some(rules)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(uri: &str, match_policy: MatchPolicy, actions: &[Action]) -> Permission {
        let may = |action| actions.contains(&action);
        Permission {
            uri: uri.to_owned(),
            match_policy,
            publish: may(Action::Publish),
            subscribe: may(Action::Subscribe),
            call: may(Action::Call),
            register: may(Action::Register),
            disclose: Disclosure::OnRequest,
            trust: None,
        }
    }

    fn realm_with(permissions: Vec<Permission>) -> RealmConfig {
        RealmConfig {
            name: "r".to_owned(),
            roles: vec![RoleConfig { name: "guest".to_owned(), permissions }],
            anonymous_role: Some("guest".to_owned()),
            login_methods: Vec::new(),
            tickets_say_who: false,
            cookie_time: None,
            topics: TopicRules::default(),
        }
    }

    fn may(permissions: Vec<Permission>, action: Action, uri: &str) -> bool {
        let access = Access::new(&[realm_with(permissions)], 1).unwrap();
        let realm = access.realm("r").unwrap();
        access.authorize(realm, access.anonymous_role(realm).unwrap(), action, uri)
    }

    #[test]
    fn nothing_is_allowed_without_a_rule() {
        assert!(!may(vec![], Action::Subscribe, "a.b"));
        assert!(!may(vec![rule("a.b", MatchPolicy::Exact, &[Action::Publish])], Action::Subscribe, "a.b"));
    }

    #[test]
    fn exact_beats_prefix_beats_wildcard() {
        use Action::Publish;
        use MatchPolicy::{Exact, Prefix, Wildcard};
        let rules = || {
            vec![
                rule("a..c", Wildcard, &[Publish]),
                rule("a.", Prefix, &[]),
                rule("a.b.", Prefix, &[Publish]),
                rule("a.b.x", Exact, &[]),
                rule("..c", Wildcard, &[Publish]),
                rule(".b.c", Wildcard, &[]),
                rule("z..", Wildcard, &[]),
            ]
        };
        assert!(!may(rules(), Publish, "a.b.x"), "exact denies");
        assert!(may(rules(), Publish, "a.b.y"), "the longer prefix allows");
        assert!(!may(rules(), Publish, "a.c.c"), "a prefix beats the wildcard");
        assert!(may(rules(), Publish, "x.y.c"), "only the wildcard covers it");
        assert!(!may(rules(), Publish, "x.b.c"), "the more specific wildcard denies");
        assert!(!may(rules(), Publish, "z.b.c"), "an earlier name is more specific than a later one");
        assert!(!may(rules(), Publish, "x.y.d"), "no rule");
    }

    #[test]
    fn the_rule_that_permits_decides_on_disclosure_and_trust() {
        let saying = |uri: &str, (disclosure, trust): (Disclosure, Option<u32>), actions: &[Action]| {
            let trust = trust.map(TrustLevel);
            Permission { disclose: disclosure, trust, ..rule(uri, MatchPolicy::Prefix, actions) }
        };
        let (always, never) = ((Disclosure::Always, Some(2)), (Disclosure::Never, None));
        let rules = vec![
            saying("", always, &[Action::Publish, Action::Call]),
            saying("secret.", never, &[Action::Publish]),
        ];
        let access = Access::new(&[realm_with(rules)], 1).unwrap();
        let realm = access.realm("r").unwrap();
        let role = access.anonymous_role(realm).unwrap();
        let permit = |action, uri| access.permit(realm, role, action, uri);
        let permitted = |(disclosure, trust): (Disclosure, Option<u32>)| {
            Some(Permit { disclosure, trust: trust.map(TrustLevel) })
        };
        assert_eq!(permit(Action::Publish, "a.b"), permitted(always));
        assert_eq!(permit(Action::Publish, "secret.b"), permitted(never));
        assert_eq!(permit(Action::Call, "secret.b"), None, "the narrower rule does not permit it");
    }

    #[test]
    fn disclosure_is_asked_for_granted_or_refused() {
        use Disclosure::{Always, Never, OnRequest};
        let decided =
            [OnRequest, Always, Never].map(|disclose| [false, true].map(|asked| disclose.decide(asked)));
        assert_eq!(decided, [[Some(false), Some(true)], [Some(true), Some(true)], [Some(false), None]]);
    }

    #[test]
    fn the_routers_own_uris_are_not_for_clients() {
        let rules = || RealmConfig::open("r").roles.remove(0).permissions;
        assert!(may(rules(), Action::Publish, "wampum.x"));
        assert!(!may(rules(), Action::Publish, "wamp.session.on_join"));
        assert!(!may(rules(), Action::Register, "wamp.session.count"));
        assert!(may(rules(), Action::Call, "wamp.session.count"));
        assert!(may(rules(), Action::Subscribe, "wamp.session.on_join"));
    }

    #[test]
    fn ids_survive_a_renewal_and_who_lost_its_role_may_nothing() {
        let everything = || RealmConfig::open("r").roles.remove(0).permissions;
        let role = |name: &str| RoleConfig { name: name.to_owned(), permissions: everything() };
        let realm = |roles: &[&str]| RealmConfig {
            roles: roles.iter().map(|name| role(name)).collect(),
            anonymous_role: Some("guest".to_owned()),
            ..realm_with(Vec::new())
        };
        let first = Access::new(&[realm(&["guest", "old"])], 1).unwrap();
        let second = first.renewed(&[realm(&["new", "guest"])]).unwrap();
        let id = first.realm("r").unwrap();
        let may = |access: &Access, role| access.authorize(id, role, Action::Publish, "a");
        let [guest, old] = ["guest", "old"].map(|name| first.role(id, name).unwrap());
        let new = second.role(id, "new").unwrap();
        assert_eq!(["guest", "old"].map(|name| second.role(id, name).unwrap()), [guest, old]);
        assert!(new != guest && new != old);
        assert!(may(&first, old) && !may(&second, old) && may(&second, new) && may(&second, guest));
        assert_eq!(second.changed_roles(&first), [[false, true, true]], "guest, old, new");
        assert!(!first.has_role(id, new) && second.has_role(id, new));
        let third = second.renewed(&[realm(&["guest", "old"])]).unwrap();
        assert!(may(&third, old), "a role that is back is the same one");
        assert_eq!(second.renewed(&[]).unwrap_err(), AccessError::OtherRealms);
        assert!(second.renewed(&[RealmConfig::open("s")]).is_err());
    }

    #[test]
    fn mistakes_are_named() {
        let error = |realms: &[RealmConfig]| Access::new(realms, 1).unwrap_err().to_string();
        assert!(
            error(&[RealmConfig::open("r"), RealmConfig::open("r")])
                .contains("realm \"r\" is configured twice")
        );
        let mut config = RealmConfig::open("r");
        config.anonymous_role = Some("nobody".to_owned());
        assert!(error(&[config]).contains("nobody"));
        assert!(error(&[RealmConfig::open("a b")]).contains("whitespace"));
        let double = vec![rule("a", MatchPolicy::Exact, &[]), rule("a", MatchPolicy::Exact, &[])];
        assert!(error(&[realm_with(double)]).contains("twice"));
        assert!(
            error(&[realm_with(vec![rule("a..b", MatchPolicy::Prefix, &[])])]).contains("empty component")
        );
    }
}
