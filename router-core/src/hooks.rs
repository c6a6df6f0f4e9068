//! Hooks: which events a program of the operator's is asked about, and requests that wait for its answer.
//!
//! ```text
//! PUBLISH ─▶ its role may ─▶ does a hook want to know? ─ no ─▶ done
//!                                   │ yes
//!                                   ▼
//!             the message is kept, a Question goes out ─ allowed ─▶ the message is handled once more, and done
//!                                                      └ denied, or no answer ─▶ ERROR
//! ```
//!
//! This module knows no URL: what a hook is, and how it is asked, is the control thread's. A realm without hooks pays one
//! look at an empty list for each publication.

mod allowed;

use std::fmt;

use fanwire_codec::payload::OwnedPayload;
use fanwire_codec::wamp2::code;
use fanwire_codec::ws;

use crate::access::Action;
use crate::broker::PublishRequest;
use crate::clock::Instant;
use crate::dealer::CallRequest;
use crate::delivery::Outlet;
use crate::ids::{RealmId, RoleId};
use crate::login::LoginMethod;
use crate::mutation::{Mutation, planted};
use crate::question::{Denial, Grant, Matter, Subject};
use crate::session::{Refusal, error};
use crate::shard::{Effect, Flow, Shard};
use crate::uri::{self, MatchPolicy};

pub(crate) use allowed::AllowedFor;

/// Index of a hook in the configuration, 0-based; dense, so it can index arrays.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct HookId(u16);

impl HookId {
    /// The hook of this index.
    pub const fn new(index: u16) -> Self {
        Self(index)
    }

    /// Its index.
    pub const fn index(self) -> usize {
        self.0 as usize
    }
}

/// What a hook can be asked about, or told of.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub enum HookEvent {
    /// A session is about to be welcomed, however it logged in.
    Connect,
    /// A client logs in by a method that the hook decides on.
    Authenticate,
    /// A session subscribes, and its role may.
    Subscribe,
    /// A session publishes, and its role may.
    Publish,
    /// A session calls, and its role may.
    Call,
    /// A session registers, and its role may.
    Register,
    /// A client of the message center says something that is no request of its protocol.
    Message,
    /// A procedure is called that the hook answers, and the caller's role may.
    Rpc,
    /// A session has ended. Told, not asked.
    Disconnect,
}

impl HookEvent {
    /// All of them.
    pub const ALL: [Self; 9] = [
        Self::Connect,
        Self::Authenticate,
        Self::Subscribe,
        Self::Publish,
        Self::Call,
        Self::Register,
        Self::Message,
        Self::Rpc,
        Self::Disconnect,
    ];

    /// Its name, in the configuration and in requests.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Connect => "connect",
            Self::Authenticate => "authenticate",
            Self::Subscribe => "subscribe",
            Self::Publish => "publish",
            Self::Call => "call",
            Self::Register => "register",
            Self::Message => "message",
            Self::Rpc => "rpc",
            Self::Disconnect => "disconnect",
        }
    }
}

impl fmt::Display for HookEvent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// When a hook is asked, as configured. Of several that would be asked about the same, the first one is.
#[derive(Clone, Debug)]
pub struct HookRule {
    /// The hook.
    pub hook: HookId,
    /// About what.
    pub events: Vec<HookEvent>,
    /// Names of the realms where; empty: everywhere.
    pub realms: Vec<String>,
    /// For what is done with a URI: the URI or the pattern that it is asked about.
    pub uri: String,
    /// How `uri` is compared. A pattern is asked about if any URI could match both.
    pub match_policy: MatchPolicy,
    /// Whether it is told what is published.
    pub payload: bool,
    /// About whom, and who answers.
    pub scope: HookScope,
}

/// Whom a hook is asked about; by default everybody, and tickets alone where it decides on logins.
#[derive(Clone, Debug, Default)]
pub struct HookScope {
    /// How clients may log in that it decides on; empty: by tickets.
    pub methods: Vec<LoginMethod>,
    /// Names of the roles whose requests it is asked about; empty: all.
    pub roles: Vec<String>,
    /// The realm and the URI of the procedure that answers, if it is one. Whoever may register that could answer itself, and is not
    /// asked about: or the answer could wait for itself.
    pub procedure: Option<(String, String)>,
}

/// The hooks of one realm.
#[derive(Clone, Debug, Default)]
pub(crate) struct RealmHooks {
    pub(crate) connect: Option<HookId>,
    pub(crate) authenticate: Option<HookId>,
    /// How clients can log in that it decides on.
    pub(crate) login_methods: Vec<LoginMethod>,
    pub(crate) message: Option<HookId>,
    pub(crate) disconnect: Option<HookId>,
    rpc: Vec<TopicHook>,
    subscribe: Vec<TopicHook>,
    publish: Vec<TopicHook>,
    call: Vec<TopicHook>,
    register: Vec<TopicHook>,
}

#[derive(Clone, Debug)]
pub(crate) struct TopicHook {
    pub(crate) hook: HookId,
    pub(crate) payload: bool,
    policy: MatchPolicy,
    uri: Box<str>,
    /// By role, those that it is not asked about.
    spared: Box<[bool]>,
}

impl TopicHook {
    fn asks_about(&self, role: RoleId) -> bool {
        !self.spared.get(role.index()).is_some_and(|spared| *spared)
    }
}

impl RealmHooks {
    /// Those of `rules` that are for the realm of this name. `spared`: by role, whom a hook is not asked about.
    pub(crate) fn new(rules: &[HookRule], realm: &str, spared: impl Fn(&HookScope) -> Box<[bool]>) -> Self {
        let mut hooks = Self::default();
        for rule in rules {
            if !rule.realms.is_empty() && !rule.realms.iter().any(|name| name == realm) {
                continue;
            }
            let topics = || TopicHook {
                hook: rule.hook,
                payload: rule.payload,
                policy: rule.match_policy,
                uri: rule.uri.as_str().into(),
                spared: spared(&rule.scope),
            };
            for event in &rule.events {
                match event {
                    HookEvent::Connect => _ = hooks.connect.get_or_insert(rule.hook),
                    HookEvent::Authenticate if hooks.authenticate.is_some() => {}
                    HookEvent::Authenticate => {
                        hooks.authenticate = Some(rule.hook);
                        let methods = &rule.scope.methods;
                        hooks.login_methods =
                            if methods.is_empty() { vec![LoginMethod::Ticket] } else { methods.clone() };
                    }
                    HookEvent::Message => _ = hooks.message.get_or_insert(rule.hook),
                    HookEvent::Rpc => hooks.rpc.push(topics()),
                    HookEvent::Disconnect => _ = hooks.disconnect.get_or_insert(rule.hook),
                    HookEvent::Subscribe => hooks.subscribe.push(topics()),
                    HookEvent::Publish => hooks.publish.push(topics()),
                    HookEvent::Call => hooks.call.push(topics()),
                    HookEvent::Register => hooks.register.push(topics()),
                }
            }
        }
        hooks
    }

    /// Who is asked about publications to this topic.
    #[inline]
    pub(crate) fn of_publication(&self, role: RoleId, uri: &str) -> Option<&TopicHook> {
        first_about(&self.publish, role, uri)
    }

    /// Who is asked about calls of this procedure.
    #[inline]
    pub(crate) fn of_call(&self, role: RoleId, uri: &str) -> Option<&TopicHook> {
        first_about(&self.call, role, uri)
    }

    /// Who answers calls of this procedure.
    #[inline]
    pub(crate) fn of_rpc(&self, uri: &str) -> Option<HookId> {
        self.rpc.iter().find(|calls| uri::matches(calls.policy, &calls.uri, uri)).map(|calls| calls.hook)
    }

    /// Who is asked about subscriptions to this topic or pattern, or registrations.
    pub(crate) fn of_pattern(
        &self,
        action: Action,
        role: RoleId,
        policy: MatchPolicy,
        uri: &str,
    ) -> Option<&TopicHook> {
        let hooks = if action == Action::Register { &self.register } else { &self.subscribe };
        let is_meant = |topics: &&TopicHook| {
            topics.asks_about(role) && uri::overlaps((topics.policy, &topics.uri), (policy, uri))
        };
        hooks.iter().find(is_meant)
    }
}

#[inline]
fn first_about<'a>(hooks: &'a [TopicHook], role: RoleId, uri: &str) -> Option<&'a TopicHook> {
    hooks.iter().find(|topics| topics.asks_about(role) && uri::matches(topics.policy, &topics.uri, uri))
}

/// A request that waits for the verdict on it.
pub(crate) struct HeldRequest {
    /// What it wants.
    action: Action,
    policy: MatchPolicy,
    /// What an ERROR would answer; `None`: nobody wants to hear of one.
    request: Option<u64>,
    uri: Box<str>,
    /// A call of which more parts may follow.
    in_parts: bool,
    /// The message as it came, to be handled once more. Kept by [`Shard::keep_message`].
    message: Option<(ws::Kind, Box<[u8]>)>,
}

/// What becomes of a request where hooks are asked.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Hooked {
    /// No hook wants to know.
    Free,
    /// A hook has allowed it. `disclose`: whether others are told whose it is, if the hook decides on that, too.
    Allowed { disclose: Option<bool> },
    /// It waits for the verdict.
    Asked,
}

/// What a hook has allowed, for the message in hand.
#[derive(Debug)]
pub(crate) struct AllowedNow {
    uri: Box<str>,
    disclose: Option<bool>,
}

impl Shard {
    /// Asks about a publication that the session's role may make.
    pub(crate) fn ask_about_publication(
        &mut self,
        now: Instant,
        outlet: Outlet,
        request: &PublishRequest<'_>,
    ) -> Hooked {
        let session = self.session(outlet).expect("it publishes");
        let (realm, serializer) = (session.realm, session.encoding.serializer());
        let hook = self.config.access.hooks(realm).of_publication(session.role, request.uri);
        let Some(&TopicHook { hook, payload, .. }) = hook else { return Hooked::Free };
        let wish = (Action::Publish, MatchPolicy::Exact, request.uri);
        if let Some(disclose) = self.was_allowed(outlet, wish) {
            return Hooked::Allowed { disclose };
        }
        let subject = Subject::Publish {
            who: session.identity(&self.config.access),
            uri: request.uri.into(),
            payload: payload.then(|| OwnedPayload::copy_from(serializer, &request.payload)),
        };
        self.hold_request(now, outlet, hook, wish, request.acknowledge, subject)
    }

    /// Asks about a call that the session's role may make.
    pub(crate) fn ask_about_call(&mut self, now: Instant, outlet: Outlet, call: &CallRequest<'_>) -> Hooked {
        let (request, uri) = (call.request, call.uri);
        let session = self.session(outlet).expect("it calls");
        let access = &self.config.access;
        let hook = access.hooks(session.realm).of_call(session.role, uri);
        let Some(hook) = hook.map(|topics| topics.hook) else { return Hooked::Free };
        let wish = (Action::Call, MatchPolicy::Exact, uri);
        if let Some(disclose) = self.was_allowed(outlet, wish) {
            return Hooked::Allowed { disclose };
        }
        let subject = Subject::Call { who: session.identity(access), uri: uri.into() };
        let hooked = self.hold_request(now, outlet, hook, wish, Some(request), subject);
        if call.more
            && let Some(asking) = self.session_mut(outlet).and_then(|session| session.asking.as_deref_mut())
            && let Matter::Request(held) = &mut asking.matter
        {
            held.in_parts = true;
        }
        hooked
    }

    /// Asks about a subscription, or a registration, if somebody is to be asked and the session's role may have it. False: it is
    /// to be done now.
    pub(crate) fn ask_about_pattern(
        &mut self,
        now: Instant,
        outlet: Outlet,
        request: u64,
        wish @ (action, policy, uri): (Action, MatchPolicy, &str),
    ) -> bool {
        let session = self.session(outlet).expect("it subscribes or registers");
        let (access, realm, role) = (&self.config.access, session.realm, session.role);
        let hook = access.hooks(realm).of_pattern(action, role, policy, uri).map(|topics| topics.hook);
        let Some(hook) = hook.filter(|_| self.was_allowed(outlet, wish).is_none()) else { return false };
        // What is refused anyway needs no question.
        if uri::check_pattern(uri, policy, session.encoding.uri_rule()).is_err()
            || !access.authorize_pattern(realm, role, action, policy, uri)
        {
            return false;
        }
        let (who, uri) = (session.identity(access), uri.into());
        let subject = match action {
            Action::Register => Subject::Register { who, uri, policy },
            _ => Subject::Subscribe { who, uri, policy },
        };
        self.hold_request(now, outlet, hook, wish, Some(request), subject);
        true
    }

    fn hold_request(
        &mut self,
        now: Instant,
        outlet: Outlet,
        hook: HookId,
        (action, policy, uri): (Action, MatchPolicy, &str),
        request: Option<u64>,
        subject: Subject,
    ) -> Hooked {
        let realm = self.session(outlet).expect("it wants something").realm;
        let held = HeldRequest { action, policy, request, uri: uri.into(), in_parts: false, message: None };
        self.ask(now, outlet, (Some(hook), realm), subject, Matter::Request(held));
        Hooked::Asked
    }

    /// What a hook has said if it has allowed what the message in hand wants, or for as long as the session lasts. Where names of
    /// topics come from rules, the same message may be about another topic by the time of the verdict.
    fn was_allowed(
        &self,
        outlet: Outlet,
        (action, policy, uri): (Action, MatchPolicy, &str),
    ) -> Option<Option<bool>> {
        let in_hand = self.in_hand_allowed.as_ref().filter(|allowed| *allowed.uri == *uri);
        in_hand.map(|allowed| allowed.disclose).or_else(|| {
            let words = self.session(outlet)?.words.as_deref()?;
            words.allowed.as_deref()?.get(action, policy, uri)
        })
    }

    /// The message that was just handled is needed again if its request waits for a verdict.
    #[cold]
    pub(crate) fn keep_message(&mut self, outlet: Outlet, kind: ws::Kind, message: &[u8]) {
        let asking = self.session_mut(outlet).and_then(|session| session.asking.as_deref_mut());
        let Some(asking) = asking else { return };
        let number = asking.number;
        let Matter::Request(held) = &mut asking.matter else { return };
        if held.message.is_some() {
            return;
        }
        held.message = Some((kind, message.into()));
        // Questions go out after their message was handled, so it is still here.
        if let Some(question) = self.questions.iter_mut().rev().find(|asked| asked.key.number == number) {
            question.held = message.len();
        }
    }

    /// The verdict on a request: it is handled as if it came now, or refused.
    pub(crate) fn decide_request(
        &mut self,
        now: Instant,
        outlet: Outlet,
        held: HeldRequest,
        outcome: Result<Grant, Denial>,
    ) {
        let outcome = if planted(Mutation::HookDenialForgotten) { Ok(Grant::default()) } else { outcome };
        match outcome {
            Ok(grant) => {
                if grant.keep
                    && let Some(session) = self.session_mut(outlet)
                {
                    let allowed = session.words.get_or_insert_default().allowed.get_or_insert_default();
                    allowed.keep(held.action, held.policy, &held.uri, grant.disclose);
                }
                self.in_hand_allowed = Some(AllowedNow { uri: held.uri, disclose: grant.disclose });
                let flow = match held.message {
                    Some((kind, mut message)) => {
                        // It was counted when it came.
                        self.delivery.counters.messages_received -= 1;
                        self.receive(now, outlet, kind, &mut message)
                    }
                    // Its path has asked.
                    None => {
                        self.join_room(now, outlet);
                        Flow::Continue
                    }
                };
                self.in_hand_allowed = None;
                if flow != Flow::Pause && !planted(Mutation::VerdictNotResumed) {
                    self.effects.push(Effect::Resume(outlet));
                }
            }
            Err(denial) => {
                self.delivery.counters.requests_refused += 1;
                let unsaid = self.delivery.unsaid(outlet);
                self.delivery.counters.call_errors += u64::from(held.action == Action::Call);
                if let Some(request) = held.request {
                    if held.in_parts {
                        // What else there is of it may be on its way already.
                        self.note_late_parts(outlet, request);
                    }
                    let (verb, kind) = match held.action {
                        Action::Publish => ("publish", code::PUBLISH),
                        Action::Subscribe => ("subscribe to", code::SUBSCRIBE),
                        Action::Call => ("call", code::CALL),
                        Action::Register => ("register", code::REGISTER),
                    };
                    let (uri, words) = words(&denial, verb, &held.uri);
                    self.refuse_request(now, outlet, (kind, request), uri, &words);
                }
                // As after a request that is refused at once: who does not read the answers is held back.
                if let Some(before) = unsaid {
                    self.delivery.hold(outlet, before);
                }
                let is_deaf = planted(Mutation::EchoDeafAfterDenial)
                    && self.session(outlet).is_some_and(|session| session.place().is_some());
                if !is_deaf && !planted(Mutation::VerdictNotResumed) {
                    self.listen_again(outlet);
                }
            }
        }
    }

    /// Tells the realm's hook that a session has ended.
    pub(crate) fn tell_end(&mut self, outlet: Outlet, realm: RealmId) {
        let Some(hook) = self.config.access.hooks(realm).disconnect else { return };
        let session = self.session(outlet).expect("it ends now");
        let who = session.identity(&self.config.access);
        self.tell(outlet, Some(hook), realm, Subject::Disconnect { who });
    }
}

/// What ERROR says.
fn words<'a>(denial: &'a Denial, verb: &str, uri: &str) -> (&'a str, String) {
    match denial {
        Denial::Refused => (error::NOT_AUTHORIZED, format!("the hook does not allow to {verb} {uri}")),
        Denial::Told(told) => {
            let words = || format!("the hook does not allow to {verb} {uri}");
            let message = told.message.as_deref().map_or_else(words, str::to_owned);
            (told.error.as_deref().unwrap_or(error::NOT_AUTHORIZED), message)
        }
        Denial::Busy => {
            let words = format!("too many questions wait for the hook that decides who may {verb} {uri}");
            (error::AUTHORIZATION_FAILED, words + ": try again later")
        }
        Denial::Failed | Denial::Unavailable => {
            let words = format!("the hook that decides who may {verb} {uri} could not be asked");
            (error::AUTHORIZATION_FAILED, words + ": try again later")
        }
    }
}

impl Refusal {
    /// For whoever comes in and a hook denies it.
    pub(crate) fn of_entrance(denial: &Denial) -> (&str, &str, u16) {
        match denial {
            Denial::Refused => (error::NOT_AUTHORIZED, "the hook does not let this session in", 1008),
            Denial::Told(told) => {
                let words = told.message.as_deref().unwrap_or("the hook does not let this session in");
                (told.error.as_deref().unwrap_or(error::NOT_AUTHORIZED), words, 1008)
            }
            // RFC 6455, 7.4 and its registry: 1013 means "try again later", 1011 an error of the server.
            Denial::Busy => (error::AUTHENTICATION_FAILED, BUSY, 1013),
            Denial::Unavailable => (error::AUTHENTICATION_FAILED, UNAVAILABLE, 1013),
            Denial::Failed => {
                (error::AUTHENTICATION_FAILED, "the router could not verify who comes in", 1011)
            }
        }
    }
}

/// For a login or a session that cannot be decided on now.
const BUSY: &str = "too many logins are being verified: try again later";
const UNAVAILABLE: &str = "who decides on logins cannot be asked now: try again later";

#[cfg(test)]
mod tests {
    use super::*;

    const ROLE: RoleId = RoleId::new(0);

    fn rule(hook: u16, events: &[HookEvent], realms: &[&str], uri: &str) -> HookRule {
        HookRule {
            hook: HookId::new(hook),
            events: events.to_vec(),
            realms: realms.iter().map(|&name| name.to_owned()).collect(),
            uri: uri.to_owned(),
            match_policy: MatchPolicy::Prefix,
            payload: false,
            scope: HookScope::default(),
        }
    }

    #[test]
    fn the_first_hook_that_is_meant_is_asked() {
        use HookEvent::{Connect, Publish, Subscribe};
        let rules = [
            rule(0, &[Publish], &["other"], ""),
            rule(1, &[Publish], &["here"], "a."),
            rule(2, &[Publish, Subscribe, Connect], &[], ""),
            rule(3, &[Connect], &["here"], ""),
        ];
        let hooks = RealmHooks::new(&rules, "here", |_| Box::default());
        let publish = |uri| hooks.of_publication(ROLE, uri).map(|topics| topics.hook.index());
        assert_eq!((publish("a.b"), publish("b.a")), (Some(1), Some(2)));
        assert_eq!(hooks.connect, Some(HookId::new(2)));
        assert_eq!(hooks.authenticate, None);
        let hooks = RealmHooks::new(&rules[..2], "nowhere", |_| Box::default());
        assert!(
            hooks.of_publication(ROLE, "a.b").is_none()
                && hooks.of_pattern(Action::Subscribe, ROLE, MatchPolicy::Prefix, "").is_none()
        );
    }

    #[test]
    fn a_pattern_does_not_go_round_a_hook() {
        let hooks =
            RealmHooks::new(&[rule(0, &[HookEvent::Subscribe], &[], "a.b.")], "here", |_| Box::default());
        let asked = |policy, uri| hooks.of_pattern(Action::Subscribe, ROLE, policy, uri).is_some();
        use MatchPolicy::{Exact, Prefix, Wildcard};
        assert!(asked(Exact, "a.b.c") && !asked(Exact, "a.c.b"));
        assert!(
            asked(Prefix, "") && asked(Prefix, "a.") && asked(Prefix, "a.b.c.d") && !asked(Prefix, "a.c")
        );
        assert!(
            asked(Wildcard, "a..c")
                && asked(Wildcard, "..")
                && !asked(Wildcard, "a.c.")
                && !asked(Wildcard, ".")
        );
    }
}
