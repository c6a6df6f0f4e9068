//! Inner subscribers: what is subscribed without being a session, such as a bridge or a server of another protocol that
//! runs on the control thread.
//!
//! ```text
//! control ── Ask::Subscribe ──▶ one shard: interest, a member of the subscription
//!    ▲                                          │ while routing, one reference to the payload each
//!    └────────── InnerOutbox::offer ◀───────────┘ full: dropped there and then, counted, and the outbox's owner knows
//! ```
//!
//! An inner subscriber lives on one shard, as a session does, and is one more member of that shard's subscriptions. So
//! nothing else changes: interest, permissions, order of each publisher and receipts are those of everybody. It has no
//! event stream, because it wants no frames: it gets the publisher's own payload, shared and not encoded.
//!
//! There is one policy at the bound of its outbox: what comes while there is no room is dropped. Nobody waits for it; a
//! subscriber that must have everything makes its outbox large enough or reads faster.
//!
//! Invariant: a subscription of an inner subscriber is in the list of its
//! [`LocalSubscription`](crate::subscription::LocalSubscription) and in its own, or in none.

use std::fmt;
use std::num::NonZeroU64;
use std::sync::Arc;

use fanwire_codec::payload::SharedPayload;

use crate::access::{Access, Action};
use crate::api::{Actor, ApiRefusal};
use crate::counters::{Counters, DropReason};
use crate::directory::{PatternMatches, Topic};
use crate::encoding::Source;
use crate::ids::{PublicationId, RoleId, SubscriptionId};
use crate::mutation::{Mutation, planted};
use crate::receivers::Receivers;
use crate::session::{Refusal, error};
use crate::shard::Shard;
use crate::subscription::too_many_patterns;
use crate::uri::{self, MatchPolicy, UriRule};

/// One inner subscriber. Its number is chosen by whoever makes it, and is used once in the life of the process.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct InnerId(NonZeroU64);

impl InnerId {
    /// The subscriber with this number, which is not 0.
    pub const fn new(number: u64) -> Option<Self> {
        match NonZeroU64::new(number) {
            Some(number) => Some(Self(number)),
            None => None,
        }
    }
}

/// Where the events of an inner subscriber go. Bounded by whoever makes it.
pub trait InnerOutbox: Send + Sync {
    /// Takes an event, in the order in which it was routed. Called on the shard's thread while it routes: it must not block,
    /// and should not wake anybody who is awake.
    ///
    /// # Errors
    ///
    /// The event, where there is no room. It is dropped and counted; the outbox remembers for its owner that it was.
    fn offer(&self, event: InnerEvent) -> Result<(), InnerEvent>;

    /// Newer permissions forbid the subscription with this tag: nothing of it follows.
    fn withdrawn(&self, tag: u32);
}

/// Which topics of a pattern are wanted, where the pattern says less than the subscriber means. Asked for each event.
pub type WantsTopic = Arc<dyn Fn(&str) -> bool + Send + Sync>;

/// One subscription of an inner subscriber.
#[derive(Clone)]
pub struct InnerSubscription {
    /// Whose it is.
    pub subscriber: InnerId,
    /// Comes back with each event. Each of a subscriber's subscriptions has its own.
    pub tag: u32,
    /// Whose permissions count.
    pub actor: Actor,
    /// How `uri` is compared.
    pub match_policy: MatchPolicy,
    /// The topic or pattern.
    pub uri: Box<str>,
    /// `None`: all that the pattern matches.
    pub wants: Option<WantsTopic>,
    /// Where the events go.
    pub outbox: Arc<dyn InnerOutbox>,
}

impl fmt::Debug for InnerSubscription {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("InnerSubscription")
            .field("subscriber", &self.subscriber)
            .field("tag", &self.tag)
            .field("match_policy", &self.match_policy)
            .field("uri", &self.uri)
            .finish_non_exhaustive()
    }
}

/// One event for an inner subscriber. Cloning shares the payload.
#[derive(Clone, Debug)]
pub struct InnerEvent {
    /// Which of its subscriptions it is for.
    pub tag: u32,
    /// The publication, the same for each of them.
    pub publication: PublicationId,
    /// As it was published, and with translations that all subscribers of a shard share.
    pub payload: Arc<SharedPayload>,
    topic: EventTopic,
}

impl InnerEvent {
    /// The topic that was published to.
    pub fn topic(&self) -> &str {
        match &self.topic {
            EventTopic::Exact(topic) => topic.uri(),
            EventTopic::Matched(matches) => matches.uri(),
        }
    }
}

/// Shared with the directory: a name costs no allocation.
#[derive(Clone, Debug)]
enum EventTopic {
    Exact(Arc<Topic>),
    Matched(Arc<PatternMatches<Topic>>),
}

/// One member of a subscription of this shard.
pub(crate) struct InnerMember {
    subscriber: InnerId,
    tag: u32,
    role: RoleId,
    wants: Option<WantsTopic>,
    outbox: Arc<dyn InnerOutbox>,
}

impl fmt::Debug for InnerMember {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("InnerMember")
            .field("subscriber", &self.subscriber)
            .field("tag", &self.tag)
            .finish_non_exhaustive()
    }
}

/// What of an event concerns inner subscribers.
#[derive(Clone, Copy)]
pub(crate) struct InnerOffer<'a> {
    pub(crate) publication: PublicationId,
    pub(crate) source: &'a Source<'a>,
    pub(crate) receivers: Option<&'a Receivers>,
    /// The one that it came from.
    pub(crate) except: Option<InnerId>,
}

impl InnerOffer<'_> {
    /// Gives the event to the members of an exact subscription.
    pub(crate) fn exact(self, members: &[InnerMember], topic: &Arc<Topic>, counters: &mut Counters) {
        self.give(members, counters, |_| true, || EventTopic::Exact(Arc::clone(topic)));
    }

    /// Gives it to the members of a subscription by pattern, where their roles may have what was published.
    pub(crate) fn matched(
        self,
        members: &[InnerMember],
        entry: &Topic,
        matches: &Arc<PatternMatches<Topic>>,
        counters: &mut Counters,
        access: &Access,
    ) {
        let may = |role: RoleId| {
            let authorize = || access.authorize(entry.realm(), role, Action::Subscribe, matches.uri());
            matches.permits(access.generation(), role, authorize)
        };
        self.give(members, counters, may, || EventTopic::Matched(Arc::clone(matches)));
    }

    fn give(
        self,
        members: &[InnerMember],
        counters: &mut Counters,
        may: impl Fn(RoleId) -> bool,
        topic: impl FnOnce() -> EventTopic,
    ) {
        let topic = topic();
        let uri = match &topic {
            EventTopic::Exact(topic) => topic.uri(),
            EventTopic::Matched(matches) => matches.uri(),
        };
        let mut payload = None;
        for member in members {
            if self.except == Some(member.subscriber) || !self.admits(member) {
                continue;
            }
            if member.wants.as_ref().is_some_and(|wants| !wants(uri)) {
                continue;
            }
            if !may(member.role) {
                counters.events_withheld += 1;
                continue;
            }
            let payload = Arc::clone(payload.get_or_insert_with(|| Arc::new(self.source.to_shared())));
            let event =
                InnerEvent { tag: member.tag, publication: self.publication, payload, topic: topic.clone() };
            counters.matched += 1;
            match member.outbox.offer(event) {
                Ok(()) => counters.delivered += 1,
                Err(_) if planted(Mutation::InnerRefusalDelivered) => counters.delivered += 1,
                Err(_) => counters.drop_events(DropReason::InnerOutboxFull, 1),
            }
        }
    }

    /// Lists of receivers name sessions and users, and this is neither; its role may be named.
    fn admits(self, member: &InnerMember) -> bool {
        self.receivers.is_none_or(|receivers| receivers.admit_role(member.role))
    }
}

impl Shard {
    /// Makes an inner subscriber a member of a topic or pattern. A tag that it uses already is refused.
    pub(crate) fn subscribe_inner(&mut self, subscription: InnerSubscription) -> Result<(), ApiRefusal> {
        self.try_subscribe_inner(subscription).map_err(|refusal| {
            self.delivery.counters.requests_refused += 1;
            refusal.into()
        })
    }

    fn try_subscribe_inner(&mut self, subscription: InnerSubscription) -> Result<(), Refusal> {
        let InnerSubscription { subscriber, tag, actor, match_policy, uri, wants, outbox } = subscription;
        let Actor { realm, role } = actor;
        uri::check_pattern(&uri, match_policy, UriRule::Loose)
            .map_err(|why| Refusal::new(error::INVALID_URI, why.to_string()))?;
        if !self.config.access.authorize_pattern(realm, role, Action::Subscribe, match_policy, &uri) {
            return Err(self.not_authorized(realm, role, Action::Subscribe, match_policy, &uri));
        }
        let held = self.inner.get(&subscriber).map_or(&[][..], Vec::as_slice);
        if held.iter().any(|(other, _)| *other == tag) {
            let words = format!("this subscriber has a subscription with the tag {tag} already");
            return Err(Refusal::new(error::INVALID_ARGUMENT, words));
        }
        let most = self.config.limits.subscriptions_max;
        if held.len() >= most {
            let words = format!("this subscriber has {most} subscriptions, the most allowed");
            return Err(Refusal::new(error::UNAVAILABLE, words));
        }
        if match_policy != MatchPolicy::Exact {
            let is_pattern = |(_, id): &&(u32, SubscriptionId)| {
                self.subscriptions[id].topic.policy() != MatchPolicy::Exact
            };
            let patterns = held.iter().filter(is_pattern).count();
            if patterns >= self.config.limits.patterns_per_session {
                return Err(too_many_patterns(patterns as u32));
            }
        }
        let id = self.enter_subscription(realm, match_policy, &uri)?;
        let member = InnerMember { subscriber, tag, role, wants, outbox };
        let local = self.subscriptions.get_mut(&id).expect("just entered");
        local.inner.get_or_insert_default().push(member);
        self.inner.entry(subscriber).or_default().push((tag, id));
        self.delivery.counters.subscriptions += 1;
        Ok(())
    }

    /// Ends one subscription of an inner subscriber; false if it has none with this tag.
    pub(crate) fn unsubscribe_inner(&mut self, subscriber: InnerId, tag: u32) -> bool {
        let Some(held) = self.inner.get_mut(&subscriber) else { return false };
        let Some(place) = held.iter().position(|(other, _)| *other == tag) else { return false };
        let (_, id) = held.swap_remove(place);
        if held.is_empty() {
            self.inner.remove(&subscriber);
        }
        self.part_inner(id, subscriber, tag);
        true
    }

    /// Ends all subscriptions of an inner subscriber.
    pub(crate) fn remove_inner(&mut self, subscriber: InnerId) {
        for (tag, id) in self.inner.remove(&subscriber).unwrap_or_default() {
            self.part_inner(id, subscriber, tag);
        }
    }

    fn part_inner(&mut self, id: SubscriptionId, subscriber: InnerId, tag: u32) {
        let local = self.subscriptions.get_mut(&id).expect("a held subscription is here");
        let members = local.inner.as_mut().expect("it has this member");
        members.retain(|member| (member.subscriber, member.tag) != (subscriber, tag));
        if members.is_empty() {
            local.inner = None;
        }
        self.delivery.counters.subscriptions -= 1;
        self.leave_subscription(id, None);
    }

    /// Withdraws what newer permissions forbid, and tells the outboxes.
    pub(crate) fn withdraw_forbidden_inner(&mut self) {
        let access = &self.config.access;
        let mut lost: Vec<(InnerId, u32)> = Vec::new();
        for (subscriber, held) in &self.inner {
            for (tag, id) in held {
                let local = &self.subscriptions[id];
                let members = local.inner.iter().flat_map(|members| members.iter());
                let mut own = members.filter(|member| (member.subscriber, member.tag) == (*subscriber, *tag));
                let member = own.next().expect("it is in both lists");
                let topic = &local.topic;
                let action = Action::Subscribe;
                if !access.authorize_pattern(topic.realm(), member.role, action, topic.policy(), topic.uri())
                {
                    member.outbox.withdrawn(*tag);
                    lost.push((*subscriber, *tag));
                }
            }
        }
        // No map's order reaches an output.
        lost.sort_unstable();
        for (subscriber, tag) in lost {
            self.unsubscribe_inner(subscriber, tag);
            self.delivery.counters.withdrawn += 1;
        }
    }
}
