//! Subscriptions: who of this shard is a member, in which class, and what the directory knows of it.

use std::sync::Arc;

use crate::access::Action;
use crate::clock::Instant;
use crate::delivery::{Outlet, StreamId};
use crate::directory::{Creation, Topic};
use crate::encoding::Encoding;
use crate::ids::{RealmId, RoleId, SessionId, ShardId, SubscriptionId};
use crate::inner::InnerMember;
use crate::meta::{Change, EntryDetails, EntryEvent, EntryKind, News};
use crate::mutation::{self, Mutation, planted};
use crate::session::{Refusal, error};
use crate::shard::Shard;
use crate::topics::GAP_TOPIC;
use crate::uri::{self, MatchPolicy};

/// One subscription entry, as far as this shard has members of it.
#[derive(Debug)]
pub(crate) struct LocalSubscription {
    pub(crate) topic: Arc<Topic>,
    pub(crate) streams: Streams,
    /// Those that are no sessions; hardly any subscription has one.
    #[allow(clippy::box_collection, reason = "8 bytes instead of 24 for each of a million subscriptions")]
    pub(crate) inner: Option<Box<Vec<InnerMember>>>,
    congested_streams: u32,
    paused_streams: u32,
}

/// The members' classes: who gets the same bytes, and may get them.
#[derive(Debug)]
pub(crate) enum Streams {
    /// Everybody's role was asked when they subscribed to the very topic.
    Exact(RoleStreams),
    /// What a pattern brings is asked for each topic, so roles are apart.
    Pattern(Vec<(RoleId, RoleStreams)>),
}

/// The streams of those who may have the same.
#[derive(Debug, Default)]
pub(crate) struct RoleStreams {
    pub(crate) alike: ByEncoding,
    /// Of those who have a name of their own for the topic, and of encodings without a place of their own. Few: most call it
    /// the same.
    pub(crate) named: Vec<NamedStream>,
}

/// By [`Encoding::index`].
pub(crate) type ByEncoding = [Option<StreamId>; Encoding::ALIKE];

/// The stream of those who are told this name with each event, if any.
#[derive(Debug)]
pub(crate) struct NamedStream {
    pub(crate) name: Option<Arc<str>>,
    pub(crate) encoding: Encoding,
    pub(crate) stream: StreamId,
}

/// What makes the bytes of a session's events, and whether it may have them.
#[derive(Clone, Copy, Debug)]
struct Class<'a> {
    role: RoleId,
    encoding: Encoding,
    /// What it calls the topic, in protocols that tell it so.
    name: Option<&'a Arc<str>>,
}

impl Streams {
    fn new(policy: MatchPolicy) -> Self {
        match policy {
            MatchPolicy::Exact => Self::Exact(RoleStreams::default()),
            MatchPolicy::Prefix | MatchPolicy::Wildcard => Self::Pattern(Vec::new()),
        }
    }

    /// The streams of the class's role.
    fn of(&mut self, class: Class<'_>) -> &mut RoleStreams {
        match self {
            Self::Exact(streams) => streams,
            Self::Pattern(roles) => {
                let role = if planted(Mutation::RolesShareStreams) { RoleId::new(0) } else { class.role };
                let at = roles.iter().position(|(known, _)| *known == role).unwrap_or_else(|| {
                    roles.push((role, RoleStreams::default()));
                    roles.len() - 1
                });
                &mut roles[at].1
            }
        }
    }

    /// The stream of a class that has sessions.
    fn get(&mut self, class: Class<'_>) -> StreamId {
        self.of(class).get_or_make(class, || unreachable!("a member's class has a stream"))
    }

    /// Forgets roles without streams; whether nothing is left.
    fn tidy(&mut self) -> bool {
        match self {
            Self::Exact(streams) => streams.is_empty(),
            Self::Pattern(roles) => {
                roles.retain(|(_, streams)| !streams.is_empty());
                roles.is_empty()
            }
        }
    }
}

impl RoleStreams {
    /// The stream of a class's sessions; `make` makes the first one's.
    fn get_or_make(&mut self, class: Class<'_>, make: impl FnOnce() -> StreamId) -> StreamId {
        let Self { alike, named } = self;
        if let Some(index) = class.encoding.index() {
            return *alike[index].get_or_insert_with(make);
        }
        let known = named.iter().find(|named| named.is_of(class)).map(|named| named.stream);
        known.unwrap_or_else(|| {
            let stream = make();
            // One for nearly all topics, of which there may be millions.
            named.reserve_exact(1);
            named.push(NamedStream { name: class.name.cloned(), encoding: class.encoding, stream });
            stream
        })
    }

    fn remove(&mut self, class: Class<'_>) {
        match class.encoding.index() {
            Some(index) => self.alike[index] = None,
            None => self.named.retain(|named| !named.is_of(class)),
        }
    }

    fn is_empty(&self) -> bool {
        self.alike.iter().all(Option::is_none) && self.named.is_empty()
    }

    /// All of them.
    pub(crate) fn all(&self) -> impl Iterator<Item = StreamId> {
        self.alike.iter().copied().flatten().chain(self.named.iter().map(|named| named.stream))
    }
}

impl NamedStream {
    fn is_of(&self, class: Class<'_>) -> bool {
        let is_name = class.name == self.name.as_ref()
            || class.name.is_some() && self.name.is_some() && planted(Mutation::NamesShareStreams);
        self.encoding == class.encoding && is_name
    }
}

impl Shard {
    /// Subscribes a session to a topic or pattern. Subscribing twice is the same subscription.
    pub(crate) fn subscribe(
        &mut self,
        outlet: Outlet,
        policy: MatchPolicy,
        uri: &str,
    ) -> Result<SubscriptionId, Refusal> {
        self.subscribe_as(outlet, policy, uri, None)
    }

    /// The same, under the name that events of the topic are to have for it.
    pub(crate) fn subscribe_as(
        &mut self,
        outlet: Outlet,
        policy: MatchPolicy,
        uri: &str,
        name: Option<&Arc<str>>,
    ) -> Result<SubscriptionId, Refusal> {
        let session = self.session(outlet).expect("an open session subscribes");
        let (realm, role, encoding, by) = (session.realm, session.role, session.encoding, session.id);
        uri::check_pattern(uri, policy, encoding.uri_rule())
            .map_err(|why| Refusal::new(error::INVALID_URI, why.to_string()))?;
        if !self.config.access.authorize_pattern(realm, role, Action::Subscribe, policy, uri) {
            return Err(self.not_authorized(realm, role, Action::Subscribe, policy, uri));
        }
        let known = self.local_subscription(realm, policy, uri);
        if let Some(id) = known
            && session_has(self, outlet, id)
        {
            return Ok(id);
        }
        let session = self.session(outlet).expect("as above");
        if session.subscriptions.len() >= self.config.limits.subscriptions_max {
            return Err(Refusal::new(
                error::UNAVAILABLE,
                format!(
                    "this session has {} subscriptions, the most allowed (limits.subscriptions_per_session)",
                    session.subscriptions.len()
                ),
            ));
        }
        if policy != MatchPolicy::Exact {
            let (held, most) = (session.patterns, self.config.limits.patterns_per_session);
            if held as usize >= most {
                return Err(too_many_patterns(held));
            }
        }
        let id = match known {
            Some(id) => id,
            None => self.create_subscription(realm, policy, uri, Some(by))?,
        };
        self.join_class(outlet, id, Class { role, encoding, name });
        if is_own_gaps(&self.subscriptions[&id].topic) {
            self.delivery.tell_gaps(outlet, Some(id));
        }
        let session = self.session_mut(outlet).expect("as above");
        session.patterns += u32::from(policy != MatchPolicy::Exact);
        let place = session.subscriptions.partition_point(|held| *held < id);
        session.subscriptions.insert(place, id);
        if let Some(name) = name {
            session.note_name(id, name);
        }
        self.delivery.counters.subscriptions += 1;
        self.announce_attached(outlet, EntryKind::Subscription, id.get(), (realm, uri));
        Ok(id)
    }

    /// Makes a session a member of its class's stream.
    fn join_class(&mut self, outlet: Outlet, id: SubscriptionId, class: Class<'_>) {
        let subscription = self.subscriptions.get_mut(&id).expect("found or inserted by the caller");
        let topic = &subscription.topic;
        let stream = subscription.streams.of(class).get_or_make(class, || {
            let stream = self.delivery.create_stream_in(id.get(), class.encoding.framing());
            let handling = self.config.access.handling(topic.realm(), topic.policy(), topic.uri());
            if !handling.is_plain() {
                self.delivery.set_rule(stream, id, class.encoding, handling);
            }
            stream
        });
        self.delivery.join(outlet, stream);
    }

    /// The stream that brings a session the events of a subscription that it holds.
    pub(crate) fn stream_of(&mut self, outlet: Outlet, id: SubscriptionId) -> Option<StreamId> {
        let session = self.session(outlet).filter(|_| session_has(self, outlet, id))?;
        let (role, encoding, name) = (session.role, session.encoding, session.name_of(id));
        let class = Class { role, encoding, name: name.as_ref() };
        Some(self.subscriptions.get_mut(&id)?.streams.get(class))
    }

    /// From now on events have another name for the topic of a subscription that the session has under another one. It
    /// is a member all the while, so nothing is lost and nothing comes twice.
    pub(crate) fn rename_subscription(
        &mut self,
        now: Instant,
        outlet: Outlet,
        id: SubscriptionId,
        name: Option<&Arc<str>>,
    ) {
        self.delivery.settle_due(now, outlet);
        let session = self.session_mut(outlet).expect("an open session subscribes");
        let (role, encoding) = (session.role, session.encoding);
        let before = session.forget_name(id);
        if let Some(name) = name {
            session.note_name(id, name);
        }
        self.join_class(outlet, id, Class { role, encoding, name });
        self.leave_class(now, outlet, id, Class { role, encoding, name: before.as_ref() });
    }

    /// Takes a session, to which nothing is due, out of its class's stream. Whether that has ended with its last member.
    fn leave_class(&mut self, now: Instant, outlet: Outlet, id: SubscriptionId, class: Class<'_>) -> bool {
        let subscription = self.subscriptions.get_mut(&id).expect("a held subscription is here");
        let stream = subscription.streams.get(class);
        self.delivery.part(now, outlet, stream);
        let ends_with_one =
            matches!(class.encoding, Encoding::Echo(_)) && planted(Mutation::EchoRoomEndsWithOne);
        if self.delivery.member_count(stream) > 0 && !ends_with_one {
            return false;
        }
        subscription.streams.of(class).remove(class);
        self.delivery.delete_stream(stream);
        if planted(Mutation::InterestLostWithEncoding) {
            self.directory.unsubscribe(&subscription.topic, self.id);
        }
        true
    }

    /// The subscription of this topic or pattern, if this shard has members of it.
    fn local_subscription(
        &mut self,
        realm: RealmId,
        policy: MatchPolicy,
        uri: &str,
    ) -> Option<SubscriptionId> {
        let here = match policy {
            MatchPolicy::Exact => self.topics.get_exact(&self.directory, realm, uri).map(|topic| topic.id()),
            _ => self.directory.lookup(realm, policy, uri).map(|topic| topic.id()),
        };
        here.filter(|id| self.subscriptions.contains_key(id))
    }

    /// What a session calls a topic that it is subscribed to under a name of its own.
    pub(crate) fn name_of(&mut self, outlet: Outlet, uri: &str) -> Option<(SubscriptionId, Arc<str>)> {
        let realm = self.session(outlet)?.realm;
        let id = self.local_subscription(realm, MatchPolicy::Exact, uri)?;
        Some((id, self.session(outlet)?.name_of(id)?))
    }

    /// The session's subscription to a topic, and what it calls that if it has a name of its own for it.
    pub(crate) fn subscription_to(
        &mut self,
        outlet: Outlet,
        uri: &str,
    ) -> Option<(SubscriptionId, Option<Arc<str>>)> {
        let realm = self.session(outlet)?.realm;
        let id = self.local_subscription(realm, MatchPolicy::Exact, uri)?;
        session_has(self, outlet, id).then(|| (id, self.session(outlet).and_then(|held| held.name_of(id))))
    }

    /// The subscription's entry on this shard, made if there is none. Whoever enters must become a member, or leave again.
    pub(crate) fn enter_subscription(
        &mut self,
        realm: RealmId,
        policy: MatchPolicy,
        uri: &str,
    ) -> Result<SubscriptionId, Refusal> {
        match self.local_subscription(realm, policy, uri) {
            Some(id) => Ok(id),
            None => self.create_subscription(realm, policy, uri, None),
        }
    }

    fn create_subscription(
        &mut self,
        realm: RealmId,
        policy: MatchPolicy,
        uri: &str,
        by: Option<SessionId>,
    ) -> Result<SubscriptionId, Refusal> {
        // The interest must be visible to every shard before SUBSCRIBED is sent.
        let is_news = self.hears_of(EntryKind::Subscription, EntryEvent::Created, realm, uri);
        let creation = Creation { at: self.turn_at, is_news };
        let (topic, number) = self.enter_interest(realm, policy, uri, creation)?;
        if let Some(number) = number {
            let details = EntryDetails { uri: uri.into(), policy, invoke: None, created: topic.created() };
            let change = Change::Created(Box::new(details));
            let news =
                News::Entry { kind: EntryKind::Subscription, session: by, id: topic.id().get(), change };
            self.tell_news(realm, number, news);
        }
        if planted(Mutation::InterestAfterSubscribed) {
            topic.forget_interest_for_now(self.id);
        }
        let (id, streams) = (topic.id(), Streams::new(policy));
        let local =
            LocalSubscription { topic, streams, inner: None, congested_streams: 0, paused_streams: 0 };
        self.subscriptions.insert(id, local);
        Ok(id)
    }

    /// Takes the interest back if the last member of this shard has left.
    pub(crate) fn leave_subscription(&mut self, id: SubscriptionId, by: Option<SessionId>) {
        let local = self.subscriptions.get_mut(&id).expect("somebody has just left it");
        let is_held = local.inner.is_some() && !planted(Mutation::InnerForgottenWithSessions);
        if local.streams.tidy() && !is_held {
            let local = self.subscriptions.remove(&id).expect("it was here");
            let (realm, kind) = (local.topic.realm(), EntryKind::Subscription);
            let is_news = self.hears_of(kind, EntryEvent::Deleted, realm, local.topic.uri());
            if let Some(number) = self.directory.unsubscribe_noting(&local.topic, self.id, is_news) {
                let news = News::Entry { kind, session: by, id: id.get(), change: Change::Deleted };
                self.tell_news(realm, number, news);
            }
        }
    }

    fn enter_interest(
        &self,
        realm: RealmId,
        policy: MatchPolicy,
        uri: &str,
        creation: Creation,
    ) -> Result<(Arc<Topic>, Option<u64>), Refusal> {
        if policy == MatchPolicy::Exact {
            return Ok(self.directory.subscribe_noting(realm, uri, self.id, creation));
        }
        let patterns_max = self.config.limits.patterns_per_realm;
        self.directory
            .subscribe_pattern_noting(realm, policy, uri, self.id, patterns_max, creation)
            .map_err(|why| Refusal::new(error::UNAVAILABLE, why.to_string()))
    }

    #[cfg(feature = "mutations")]
    pub(crate) fn holds_subscription(&self, outlet: Outlet, number: u64) -> bool {
        SubscriptionId::new(number).is_some_and(|id| session_has(self, outlet, id))
    }

    /// Ends a subscription: what is due is given first, and nothing follows.
    pub(crate) fn unsubscribe(&mut self, now: Instant, outlet: Outlet, number: u64) -> Result<(), Refusal> {
        let session = self.session_mut(outlet).expect("an open session unsubscribes");
        let (encoding, role) = (session.encoding, session.role);
        let held = SubscriptionId::new(number)
            .and_then(|id| session.subscriptions.binary_search(&id).ok().map(|place| (id, place)));
        let Some((id, place)) = held else {
            return Err(Refusal::new(
                error::NO_SUCH_SUBSCRIPTION,
                format!("this session has no subscription {number}"),
            ));
        };
        session.subscriptions.remove(place);
        self.delivery.settle_due(now, outlet);
        if self.part_subscription(now, outlet, role, encoding, id) != MatchPolicy::Exact {
            self.session_mut(outlet).expect("as above").patterns -= 1;
        }
        Ok(())
    }

    /// Ends all subscriptions of a session: what is due stays due, and nothing follows.
    pub(crate) fn part_all_subscriptions(&mut self, now: Instant, outlet: Outlet) {
        let session = self.session_mut(outlet).expect("it has subscriptions");
        let subscriptions = std::mem::take(&mut session.subscriptions);
        let (encoding, role) = (session.encoding, session.role);
        if !subscriptions.is_empty() {
            // Once for all of them: nothing is appended in between.
            self.delivery.settle_due(now, outlet);
        }
        // From the end: so nothing moves in what the session calls them.
        for subscription in subscriptions.into_iter().rev() {
            if self.part_subscription(now, outlet, role, encoding, subscription) != MatchPolicy::Exact {
                self.session_mut(outlet).expect("as above").patterns -= 1;
            }
        }
    }

    /// Takes a session, to which nothing is due, out of a subscription's stream; the last member of the shard takes the
    /// interest back. Says which policy the subscription has.
    pub(crate) fn part_subscription(
        &mut self,
        now: Instant,
        outlet: Outlet,
        role: RoleId,
        encoding: Encoding,
        id: SubscriptionId,
    ) -> MatchPolicy {
        mutation::do_later();
        self.delivery.counters.subscriptions -= 1;
        if self.replays.is_watching() {
            self.replays.end(outlet, id);
        }
        let name = self.session_mut(outlet).and_then(|session| session.forget_name(id));
        let class = Class { role, encoding, name: name.as_ref() };
        let subscription = self.subscriptions.get_mut(&id).expect("a held subscription is here");
        let policy = subscription.topic.policy();
        if is_own_gaps(&subscription.topic) {
            self.delivery.tell_gaps(outlet, None);
        }
        let topic = Arc::clone(&subscription.topic);
        self.announce_detached(outlet, EntryKind::Subscription, id.get(), (topic.realm(), topic.uri()));
        if self.leave_class(now, outlet, id, class) {
            let by = self.session(outlet).map(|session| session.id);
            self.leave_subscription(id, by);
        }
        policy
    }

    /// A stream of the subscription `tag` became congested or is no longer: its publishers look at the topic's word.
    pub(crate) fn note_congestion(&mut self, tag: u64, congested: bool) {
        let Some(subscription) = SubscriptionId::new(tag).and_then(|id| self.subscriptions.get_mut(&id))
        else {
            return;
        };
        let count = &mut subscription.congested_streams;
        *count = if congested { *count + 1 } else { count.saturating_sub(1) };
        subscription.show_congestion(self.id);
    }

    /// A member of a stream of the subscription `tag` asks for time, or none does any more.
    pub(crate) fn note_pause(&mut self, tag: u64, paused: bool) {
        let Some(subscription) = SubscriptionId::new(tag).and_then(|id| self.subscriptions.get_mut(&id))
        else {
            return;
        };
        let count = &mut subscription.paused_streams;
        *count = if paused { *count + 1 } else { count.saturating_sub(1) };
        subscription.show_congestion(self.id);
    }
}

impl LocalSubscription {
    fn show_congestion(&self, shard: ShardId) {
        self.topic.set_paused(shard, self.paused_streams > 0);
        self.topic.set_congested(shard, self.congested_streams + self.paused_streams > 0);
    }
}

/// Whether its subscribers are told which of their own events were lost.
fn is_own_gaps(topic: &Topic) -> bool {
    topic.policy() == MatchPolicy::Exact && topic.uri() == GAP_TOPIC
}

/// The words for a session that has as many prefixes and wildcards as it may have.
pub(crate) fn too_many_patterns(held: u32) -> Refusal {
    let words = format!(
        "this session has {held} subscriptions and registrations by prefix or wildcard, the most allowed \
         (limits.patterns_per_session)"
    );
    Refusal::new(error::UNAVAILABLE, words)
}

fn session_has(shard: &Shard, outlet: Outlet, id: SubscriptionId) -> bool {
    shard.session(outlet).is_some_and(|session| session.subscriptions.binary_search(&id).is_ok())
}
