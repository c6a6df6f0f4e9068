//! Subscriptions: who of this shard is a member, in which class, and what the directory knows of it.

use std::sync::Arc;

use crate::access::Action;
use crate::clock::Instant;
use crate::delivery::{Outlet, StreamId};
use crate::directory::Topic;
use crate::encoding::Encoding;
use crate::ids::{RealmId, RoleId, ShardId, SubscriptionId};
use crate::mutation::{self, Mutation, planted};
use crate::session::{Refusal, error};
use crate::shard::Shard;
use crate::topics::GAP_TOPIC;
use crate::uri::{self, MatchPolicy, UriRule};

/// One subscription entry, as far as this shard has members of it.
#[derive(Debug)]
pub(crate) struct LocalSubscription {
    pub(crate) topic: Arc<Topic>,
    pub(crate) streams: Streams,
    congested_streams: u32,
    paused_streams: u32,
}

/// The members' classes: who gets the same bytes, and may get them.
#[derive(Debug)]
pub(crate) enum Streams {
    /// Everybody's role was asked when they subscribed to the very topic.
    Exact(ByEncoding),
    /// What a pattern brings is asked for each topic, so roles are apart.
    Pattern(Vec<(RoleId, ByEncoding)>),
}

pub(crate) type ByEncoding = [Option<StreamId>; Encoding::COUNT];

impl Streams {
    fn new(policy: MatchPolicy) -> Self {
        match policy {
            MatchPolicy::Exact => Self::Exact([None; Encoding::COUNT]),
            MatchPolicy::Prefix | MatchPolicy::Wildcard => Self::Pattern(Vec::new()),
        }
    }

    /// The place of the stream of sessions with this role and encoding.
    fn slot(&mut self, role: RoleId, encoding: Encoding) -> &mut Option<StreamId> {
        match self {
            Self::Exact(streams) => &mut streams[encoding.index()],
            Self::Pattern(roles) => {
                let role = if planted(Mutation::RolesShareStreams) { RoleId::new(0) } else { role };
                let at = roles.iter().position(|(known, _)| *known == role).unwrap_or_else(|| {
                    roles.push((role, [None; Encoding::COUNT]));
                    roles.len() - 1
                });
                &mut roles[at].1[encoding.index()]
            }
        }
    }

    /// Forgets roles without streams; whether nothing is left.
    fn tidy(&mut self) -> bool {
        let is_empty = |streams: &ByEncoding| streams.iter().all(Option::is_none);
        match self {
            Self::Exact(streams) => is_empty(streams),
            Self::Pattern(roles) => {
                roles.retain(|(_, streams)| !is_empty(streams));
                roles.is_empty()
            }
        }
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
        uri::check_pattern(uri, policy, UriRule::Loose)
            .map_err(|why| Refusal::new(error::INVALID_URI, why.to_string()))?;
        let session = self.session(outlet).expect("an open session subscribes");
        let (realm, role, encoding) = (session.realm, session.role, session.encoding);
        if !self.config.access.authorize_pattern(realm, role, Action::Subscribe, policy, uri) {
            return Err(self.not_authorized(realm, role, Action::Subscribe, policy, uri));
        }
        let here = match policy {
            MatchPolicy::Exact => self.topics.get_exact(&self.directory, realm, uri).map(|topic| topic.id()),
            _ => self.directory.lookup(realm, policy, uri).map(|topic| topic.id()),
        };
        let known = here.filter(|id| self.subscriptions.contains_key(id));
        if let Some(id) = known
            && session_has(self, outlet, id)
        {
            return Ok(id);
        }
        let session = self.session(outlet).expect("as above");
        if session.subscriptions.len() >= self.config.limits.subscriptions_max {
            return Err(Refusal::new(
                error::UNAVAILABLE,
                format!("this session has {} subscriptions, the most allowed", session.subscriptions.len()),
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
            None => {
                // The interest must be visible to every shard before SUBSCRIBED is sent.
                let topic = self.enter_interest(realm, policy, uri)?;
                if planted(Mutation::InterestAfterSubscribed) {
                    topic.forget_interest_for_now(self.id);
                }
                let id = topic.id();
                let streams = Streams::new(policy);
                self.subscriptions.insert(
                    id,
                    LocalSubscription { topic, streams, congested_streams: 0, paused_streams: 0 },
                );
                id
            }
        };
        let subscription = self.subscriptions.get_mut(&id).expect("found or inserted above");
        let stream = *subscription.streams.slot(role, encoding).get_or_insert_with(|| {
            let stream = self.delivery.create_stream_in(id.get(), encoding.is_deflated());
            let handling = self.config.access.handling(realm, policy, uri);
            if !handling.is_plain() {
                self.delivery.set_rule(stream, id, encoding, handling);
            }
            stream
        });
        self.delivery.join(outlet, stream);
        if is_own_gaps(&subscription.topic) {
            self.delivery.tell_gaps(outlet, Some(id));
        }
        let session = self.session_mut(outlet).expect("as above");
        session.patterns += u32::from(policy != MatchPolicy::Exact);
        let place = session.subscriptions.partition_point(|held| *held < id);
        session.subscriptions.insert(place, id);
        self.delivery.counters.subscriptions += 1;
        Ok(id)
    }

    fn enter_interest(&self, realm: RealmId, policy: MatchPolicy, uri: &str) -> Result<Arc<Topic>, Refusal> {
        if policy == MatchPolicy::Exact {
            return Ok(self.directory.subscribe(realm, uri, self.id));
        }
        let patterns_max = self.config.limits.patterns_per_realm;
        self.directory
            .subscribe_pattern(realm, policy, uri, self.id, patterns_max)
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
        let subscription = self.subscriptions.get_mut(&id).expect("a held subscription is here");
        let policy = subscription.topic.policy();
        if is_own_gaps(&subscription.topic) {
            self.delivery.tell_gaps(outlet, None);
        }
        let slot = subscription.streams.slot(role, encoding);
        let stream = slot.expect("a member's class has a stream");
        self.delivery.part(now, outlet, stream);
        if self.delivery.member_count(stream) > 0 {
            return policy;
        }
        *slot = None;
        self.delivery.delete_stream(stream);
        if planted(Mutation::InterestLostWithEncoding) {
            self.directory.unsubscribe(&subscription.topic, self.id);
        }
        if subscription.streams.tidy() {
            let subscription = self.subscriptions.remove(&id).expect("it was here");
            self.directory.unsubscribe(&subscription.topic, self.id);
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
