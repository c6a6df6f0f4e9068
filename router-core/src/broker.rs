//! Publish and subscribe.
//!
//! A publication goes straight from its publisher's shard to every shard with subscribers, one item each; the members
//! of a subscription live on their shards alone. It is never routed by topic owner: that would break the order of one
//! publisher's events across topics (WAMP, "Ordering Guarantees").

use std::hash::BuildHasher;
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use fanwire_codec::wamp2::{Payload, ReceiverLists};

use crate::access::{Access, Action, Disclosure, Permit, TrustLevel};
use crate::clock::Instant;
use crate::counters::DropReason;
use crate::delivery::{Delivery, Known, Named, Outlet, StreamId};
use crate::directory::{PatternMatches, Topic};
use crate::encoding::{self, Encoding, Source};
use crate::hooks::Hooked;
use crate::ids::{PublicationId, RealmId, RoleId, SessionId, ShardId, SubscriptionId};
use crate::inner::{InnerId, InnerOffer};
use crate::lanes::{Item, Publication};
use crate::mutation::{Mutation, planted};
use crate::parcel::Parcel;
use crate::receivers::{Audience, Receivers};
use crate::retained::{Keeping, ToKeep};
use crate::session::{Provenance, Refusal, error};
use crate::shard::Shard;
use crate::subscription::{ByEncoding, LocalSubscription, NamedStream, RoleStreams, Streams};
use crate::uri::{self, MatchPolicy, UriRule};

/// Who asks for a publication or a call.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Origin {
    Session {
        outlet: Outlet,
        session: SessionId,
    },
    /// The request by API that the shard works on.
    Api,
}

/// A request that waits for room, in a ring or in a stream. Its session's input is not read meanwhile, and no other request
/// by API is begun, so nothing of the same origin passes it.
#[derive(Debug)]
pub(crate) struct Parked {
    origin: Origin,
    since: Instant,
    /// Since when a full ring, and not only a congested stream, is the reason.
    ring_since: Option<Instant>,
    what: Waiting,
}

#[derive(Debug)]
enum Waiting {
    Publication {
        publication: Arc<Publication>,
        /// The exact subscription; those by patterns are in the publication.
        exact: Option<Arc<Topic>>,
        /// The shards that do not have it yet.
        left: u64,
        except: Option<Outlet>,
        /// The request to acknowledge.
        acknowledge: Option<u64>,
    },
    Call {
        to: ShardId,
        parcel: Option<Box<Parcel>>,
        number: u64,
    },
    /// A part of a call or of a result.
    Part {
        to: ShardId,
        parcel: Option<Box<Parcel>>,
    },
}

impl Parked {
    fn payload_bytes(&self) -> usize {
        match &self.what {
            Waiting::Publication { publication, .. } => {
                let lists = publication.receivers.as_ref().map_or(0, |receivers| receivers.bytes());
                publication.payload.original().len() + lists
            }
            Waiting::Call { .. } | Waiting::Part { .. } => 0,
        }
    }
}

/// What a session asks for when it publishes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PublishRequest<'a> {
    /// The request to answer when it is done later than now.
    pub(crate) acknowledge: Option<u64>,
    pub(crate) exclude_me: bool,
    pub(crate) disclose_me: bool,
    /// Whom it is for, unless for all subscribers.
    pub(crate) receivers: Option<&'a ReceiverLists<'a>>,
    /// What it is about, for subscribers that want only the newest of each.
    pub(crate) conflate_key: Option<&'a str>,
    /// It is kept for later subscribers.
    pub(crate) retain: bool,
    pub(crate) uri: &'a str,
    pub(crate) payload: Payload<'a>,
    /// The payload is one string, or bytes, that came without structure.
    pub(crate) plain: bool,
}

/// A publication that its origin may make, on its way to whoever is interested.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Routing<'a> {
    pub(crate) origin: Origin,
    pub(crate) realm: RealmId,
    pub(crate) uri: &'a str,
    /// The payload is one string, or bytes, that came without structure.
    pub(crate) plain: bool,
    pub(crate) receivers: Option<&'a ReceiverLists<'a>>,
    /// Who does not get it though it is subscribed.
    pub(crate) except: Option<Outlet>,
    /// Whether its publisher's session is told to subscribers.
    pub(crate) disclosed: bool,
    /// How far they may trust it, if they are told that.
    pub(crate) trust: Option<TrustLevel>,
    /// The request to answer when it is done later than now.
    pub(crate) acknowledge: Option<u64>,
    /// The number under which this shard counts who it matched.
    pub(crate) receipt: Option<u64>,
    /// A hash of what it is about, where its publisher says so.
    pub(crate) key: Option<u64>,
    /// The inner subscriber that it came from.
    pub(crate) except_inner: Option<InnerId>,
    /// It was kept for later subscribers, under this id.
    pub(crate) keeping: Option<Keeping>,
}

/// What became of a publication.
#[derive(Debug)]
pub(crate) enum Published {
    /// Every interested shard has it.
    Done(PublicationId),
    /// It waits; PUBLISHED is sent when it is done.
    Parked,
}

impl Shard {
    // --- publications ------------------------------------------------------------------------------------------

    /// Publishes.
    pub(crate) fn publish(
        &mut self,
        now: Instant,
        outlet: Outlet,
        request: PublishRequest<'_>,
    ) -> Result<Published, Refusal> {
        let PublishRequest {
            acknowledge,
            exclude_me,
            disclose_me,
            receivers,
            conflate_key,
            retain,
            uri,
            payload,
            plain,
        } = request;
        let session = self.session(outlet).expect("an open session publishes");
        let (realm, role, encoding, session) = (session.realm, session.role, session.encoding, session.id);
        let permit = self.permit_as(encoding.uri_rule(), realm, role, Action::Publish, uri)?;
        let mut disclosed = self.discloses(realm, role, permit.disclosure, disclose_me, uri)?;
        if self.config.access.hooks(realm).of_publication(role, uri).is_some() {
            match self.ask_about_publication(now, outlet, &request) {
                Hooked::Asked => return Ok(Published::Parked),
                Hooked::Allowed { disclose } => disclosed = disclose.unwrap_or(disclosed),
                Hooked::Free => {}
            }
        }
        let (origin, source) =
            (Origin::Session { outlet, session }, Source::borrowed(encoding.serializer(), payload));
        let mut keeping = None;
        if retain {
            let is_answered = acknowledge.is_some();
            let trust = permit.trust;
            let to_keep = ToKeep { origin, realm, uri, receivers, exclude_me, disclosed, trust, is_answered };
            keeping = Some(self.keep_event(to_keep, &source)?);
        }
        let routing = Routing {
            origin,
            realm,
            uri,
            plain,
            receivers,
            // WAMP, "Publisher Exclusion": the publisher is skipped unless `exclude_me` is false.
            except: (exclude_me && !planted(Mutation::ExcludedPublisherServed)).then_some(outlet),
            disclosed,
            trust: permit.trust,
            acknowledge,
            receipt: None,
            key: conflate_key.map(|key| self.config.access.conflate_key(key)),
            except_inner: None,
            keeping,
        };
        Ok(self.route(now, routing, &source))
    }

    /// What the role's permission says of who does this, where it allows it at all.
    pub(crate) fn permit(
        &self,
        realm: RealmId,
        role: RoleId,
        action: Action,
        uri: &str,
    ) -> Result<Permit, Refusal> {
        self.permit_as(UriRule::Loose, realm, role, action, uri)
    }

    /// The same where other names are allowed.
    pub(crate) fn permit_as(
        &self,
        rule: UriRule,
        realm: RealmId,
        role: RoleId,
        action: Action,
        uri: &str,
    ) -> Result<Permit, Refusal> {
        uri::check_topic(uri, rule).map_err(|why| Refusal::new(error::INVALID_URI, why.to_string()))?;
        let permitted = self.config.access.permit(realm, role, action, uri);
        permitted.ok_or_else(|| self.not_authorized(realm, role, action, MatchPolicy::Exact, uri))
    }

    /// Gives a publication to every interested shard, this one too, or parks it.
    pub(crate) fn route(&mut self, now: Instant, routing: Routing<'_>, source: &Source<'_>) -> Published {
        let Routing {
            origin,
            realm,
            uri,
            plain,
            receivers,
            except,
            disclosed,
            trust,
            acknowledge,
            receipt,
            key,
            except_inner,
            keeping,
        } = routing;
        self.delivery.counters.publications += 1;
        let Keeping { id, version } = match keeping {
            None => Keeping { id: PublicationId::from_random((self.random)()), version: 0 },
            Some(keeping) => keeping,
        };
        if self.config.access.keeps_history(realm) {
            self.record(now, id, &routing, source);
        }
        let found = self.topics.get(&self.directory, realm, uri);
        let mut interest = found.interest();
        if interest == 0 {
            return Published::Done(id);
        }
        let congested = found.congested();
        let subscription = found.exact.map(|topic| topic.id());
        let receivers = match receivers.map(|lists| Audience::new(lists, &self.config.access, realm)) {
            None | Some(Audience::Everybody) => None,
            Some(Audience::Nobody) => return Published::Done(id),
            Some(Audience::Some(receivers)) => Some(receivers),
        };
        if let Some(receivers) = &receivers {
            interest &= receivers.shards(&self.directory);
        }
        let here = self.id.bit();
        if interest & !here == 0 && congested & interest == 0 {
            if interest & here != 0 {
                let patterns = found.patterns.cloned();
                let publisher = self.provenance(origin, disclosed, trust);
                let named = self.name_receivers(receivers.as_ref(), source);
                let (publisher, named) = (publisher.as_ref(), named.as_ref());
                let event = Event {
                    publication: id,
                    publisher,
                    source,
                    plain,
                    except,
                    named,
                    key,
                    except_inner,
                    version,
                };
                self.deliver(subscription, patterns.as_ref(), event);
            }
            return Published::Done(id);
        }
        let (exact, patterns) = (found.exact.cloned(), found.patterns.cloned());
        let publisher = self.provenance(origin, disclosed, trust);
        let payload = source.to_shared();
        let publication = Arc::new(Publication {
            id,
            subscription,
            patterns,
            payload,
            plain,
            publisher,
            receivers,
            receipt,
            key,
            except_inner,
            version,
        });
        let left = self.offer(&publication, exact.as_ref(), interest, except);
        if left == 0 {
            return Published::Done(id);
        }
        let too_early = planted(Mutation::PublishedBeforePush) && origin != Origin::Api;
        let acknowledge = acknowledge.filter(|_| !too_early);
        self.park(now, origin, Waiting::Publication { publication, exact, left, except, acknowledge });
        if too_early { Published::Done(id) } else { Published::Parked }
    }

    /// Gives a publication to the shards of `left` that have room for it; returns the others. One item per shard, however
    /// many subscriptions it matches there.
    fn offer(
        &mut self,
        publication: &Arc<Publication>,
        exact: Option<&Arc<Topic>>,
        left: u64,
        except: Option<Outlet>,
    ) -> u64 {
        let mut waiting = left & publication.found(exact).congested();
        for to in ShardId::in_mask(left & !waiting) {
            if to == self.id {
                self.deliver_publication(publication, except);
            } else if self.lanes.has_room(to) {
                self.lanes.stage(to, Item::Publish(Arc::clone(publication)));
            } else {
                waiting |= to.bit();
            }
        }
        if let Some(number) = publication.receipt {
            self.desk.await_receipts(number, left & !waiting & !self.id.bit());
        }
        waiting
    }

    /// Delivers what was shared between shards.
    pub(crate) fn deliver_publication(&mut self, publication: &Publication, except: Option<Outlet>) {
        let Publication {
            id,
            subscription,
            patterns,
            payload,
            plain,
            publisher,
            receivers,
            receipt: _,
            key,
            except_inner,
            version,
        } = publication;
        let source = Source::Shared(payload);
        let receivers = receivers.as_ref().filter(|_| !planted(Mutation::ListsLostInRing));
        let named = self.name_receivers(receivers, &source);
        let (publisher, named) = (publisher.as_ref(), named.as_ref());
        let except_inner = except_inner.filter(|_| !planted(Mutation::InnerHearsItself));
        let (plain, key, version) = (*plain, *key, *version);
        let event = Event {
            publication: *id,
            publisher,
            source: &source,
            plain,
            except,
            named,
            key,
            except_inner,
            version,
        };
        self.deliver(*subscription, patterns.as_ref(), event);
    }

    /// Appends an event to each stream that has members here: of the exact subscription, and of each pattern.
    fn deliver(
        &mut self,
        exact: Option<SubscriptionId>,
        patterns: Option<&Arc<PatternMatches<Topic>>>,
        event: Event<'_>,
    ) {
        if self.replays.is_watching() {
            return self.deliver_beside_replays(exact, patterns, event);
        }
        self.deliver_to_streams(exact, patterns, event);
    }

    #[cold]
    fn deliver_beside_replays(
        &mut self,
        exact: Option<SubscriptionId>,
        patterns: Option<&Arc<PatternMatches<Topic>>>,
        event: Event<'_>,
    ) {
        let receivers = event.named.map(|named| &*named.receivers);
        let before = self.delivery.counters.matched;
        let without_twins = self.before_event(exact, patterns, event.version, receivers, event.source);
        self.replays.pulled += self.delivery.counters.matched - before;
        let event = Event { named: without_twins.as_ref().or(event.named), ..event };
        self.deliver_to_streams(exact, patterns, event);
    }

    fn deliver_to_streams(
        &mut self,
        exact: Option<SubscriptionId>,
        patterns: Option<&Arc<PatternMatches<Topic>>>,
        event: Event<'_>,
    ) {
        // None: the last member left while the item was on its way.
        let local = exact.and_then(|id| self.subscriptions.get(&id));
        if let Some(LocalSubscription { topic, streams: Streams::Exact(streams), .. }) = local {
            event.append(&mut self.delivery, topic.id(), None, &streams.alike, &self.config.access);
            for NamedStream { name, encoding, stream } in &streams.named {
                let access = &self.config.access;
                let name = match encoding {
                    Encoding::Echo(_) | Encoding::Handled(_) => {
                        event.append_echo_to(&mut self.delivery, *stream, access);
                        continue;
                    }
                    Encoding::MessageCenter(_)
                        if event.plain && event.append_plain_to(&mut self.delivery, *stream, access) =>
                    {
                        continue;
                    }
                    // They are told by name what it is, and many have no other one for it than the router.
                    Encoding::Wamp1(_) => Some(name.as_deref().unwrap_or(topic.uri())),
                    _ => name.as_deref(),
                };
                event.append_to(&mut self.delivery, topic.id(), name, *encoding, *stream, access);
            }
        }
        if let Some(LocalSubscription { topic, inner: Some(members), .. }) = local {
            event.inner().exact(members, topic, &mut self.delivery.counters);
        }
        let Some(matches) = patterns else { return };
        if local.is_some() && planted(Mutation::ExactHidesPatterns) {
            return;
        }
        // The look-up is for those alone that have members here; who has none is seen in its word.
        let here = |topic: &&Arc<Topic>| topic.interest() & self.id.bit() != 0;
        for topic in matches.entries().iter().filter(here) {
            let local = self.subscriptions.get(&topic.id());
            let Some(LocalSubscription { streams: Streams::Pattern(roles), inner, .. }) = local else {
                continue;
            };
            if let Some(members) = inner {
                let access = &self.config.access;
                event.inner().matched(members, topic, matches, &mut self.delivery.counters, access);
            }
            for (role, streams) in roles {
                let authorize =
                    || self.config.access.authorize(topic.realm(), *role, Action::Subscribe, matches.uri());
                let generation = self.config.access.generation();
                if matches.permits(generation, *role, authorize) || planted(Mutation::PatternUnchecked) {
                    let (delivery, access) = (&mut self.delivery, &self.config.access);
                    let uri = Some(matches.uri());
                    event.append(delivery, topic.id(), uri, &streams.alike, access);
                    for NamedStream { encoding, stream, .. } in &streams.named {
                        event.append_to(delivery, topic.id(), uri, *encoding, *stream, access);
                    }
                } else {
                    withhold(&mut self.delivery, streams);
                }
            }
            if planted(Mutation::OnePatternOnly) {
                return;
            }
        }
    }

    /// Looks the sessions up that lists of receivers name, if they are few: one look-up each, and none per subscriber.
    pub(crate) fn name_receivers(
        &self,
        receivers: Option<&Arc<Receivers>>,
        source: &Source<'_>,
    ) -> Option<Named> {
        let receivers = Arc::clone(receivers?);
        let here = |ids: &[SessionId]| {
            let found = ids.iter().filter_map(|id| self.outlets.get(id).copied()).take(NAMED_MAX + 1);
            Some(found.collect::<Vec<Outlet>>()).filter(|found| found.len() <= NAMED_MAX)
        };
        let few = |ids: &&[SessionId]| ids.len() <= LOOKED_UP_MAX;
        let known = if let Some(excluded) = receivers.only_excluded_sessions().filter(few).and_then(here) {
            Known::Excluded(excluded)
        } else if let Some(mut eligible) = receivers.eligible_sessions().filter(few).and_then(here) {
            eligible.retain(|outlet| {
                self.session(*outlet).is_some_and(|session| receivers.admit(&session.label()))
            });
            if eligible.len() * source.bytes() <= DIRECT_BYTES_MAX {
                Known::Eligible(eligible)
            } else {
                Known::Unknown
            }
        } else {
            Known::Unknown
        };
        Some(Named { receivers, known })
    }

    // --- parking -----------------------------------------------------------------------------------------------

    fn park(&mut self, now: Instant, origin: Origin, what: Waiting) {
        self.delivery.counters.parked += 1;
        match origin {
            Origin::Session { outlet, .. } => {
                self.session_mut(outlet).expect("its request is being routed").parked =
                    !planted(Mutation::ParkedStillRead);
            }
            Origin::Api => self.desk.is_parked = !planted(Mutation::ApiPassesParked),
        }
        self.parked.push_back(Parked { origin, since: now, ring_since: None, what });
    }

    /// Parks a call until the ring to its callee's shard has room.
    pub(crate) fn park_call(
        &mut self,
        now: Instant,
        origin: Origin,
        to: ShardId,
        parcel: Box<Parcel>,
        number: u64,
    ) {
        self.park(now, origin, Waiting::Call { to, parcel: Some(parcel), number });
    }

    /// Parks a part of a call or of a result until there is room for it on its way and at its receiver.
    pub(crate) fn park_part(&mut self, now: Instant, origin: Origin, to: ShardId, parcel: Box<Parcel>) {
        self.park(now, origin, Waiting::Part { to, parcel: Some(parcel) });
    }

    /// Tries some of the parked requests, oldest first; those that still wait go to the back. An origin has one at most,
    /// so their order among each other means nothing.
    ///
    /// Bounded, because a crowd of publishers may wait for one stream, and the turns must serve that stream. What a pass
    /// releases is bounded too: other shards say that they are congested only after they had it.
    pub(crate) fn try_parked(&mut self, now: Instant) {
        let mut released = 0;
        for _ in 0..self.parked.len().min(PARKED_PER_TURN) {
            if released > self.config.limits.stream_congested_bytes {
                break;
            }
            let Some(mut entry) = self.parked.pop_front() else { break };
            if let Origin::Session { outlet, session } = entry.origin
                && self.outlets.get(&session) != Some(&outlet)
            {
                self.drop_orphan(&entry);
                continue;
            }
            let matched = self.matched_by_publications();
            let Some(tried) = self.try_one(now, &mut entry) else {
                self.count_local_receipt(&entry, matched);
                self.parked.push_back(entry);
                continue;
            };
            released += entry.payload_bytes();
            match entry.origin {
                Origin::Session { outlet, .. } => {
                    self.session_mut(outlet).expect("its id is known").parked = false;
                    self.listen_again(outlet);
                }
                Origin::Api => {
                    self.count_local_receipt(&entry, matched);
                    self.api_request_unparked(now, &entry, tried);
                }
            }
            // At once: a stream that is congested again must stop the next one.
            self.apply_notices(now);
        }
    }

    /// Counts whom this shard has matched since `before` for a publication that asks for it.
    fn count_local_receipt(&mut self, entry: &Parked, before: u64) {
        if let Waiting::Publication { publication, .. } = &entry.what
            && let Some(number) = publication.receipt
        {
            self.desk.count_matched(number, self.matched_by_publications() - before);
        }
    }

    /// The request by API goes on that was parked.
    fn api_request_unparked(&mut self, now: Instant, entry: &Parked, tried: Tried) {
        self.desk.is_parked = false;
        if let Waiting::Publication { publication, .. } = &entry.what {
            self.api_publication_done(now, publication.id, publication.receipt, tried);
        }
    }

    /// Says how the request ended; `None`: it waits on.
    fn try_one(&mut self, now: Instant, entry: &mut Parked) -> Option<Tried> {
        match &mut entry.what {
            Waiting::Publication { publication, exact, left, except, acknowledge } => {
                // Who lost its last subscriber meanwhile needs it no more.
                *left &= publication.found(exact.as_ref()).interest();
                *left = self.offer(publication, exact.as_ref(), *left, *except);
                if *left == 0 {
                    if let (Some(request), Origin::Session { outlet, .. }) = (*acknowledge, entry.origin) {
                        let id = publication.id;
                        let encoding = self.session(outlet).expect("checked by the caller").encoding;
                        self.delivery.reply(outlet, |out| encoding.write_published(request, id, out));
                    }
                    return Some(Tried::Done);
                }
                let limits = &self.config.limits;
                let found = publication.found(exact.as_ref());
                let is_asked = *left & found.paused() != 0;
                let (since, limit, reason) = if *left & !found.congested() == 0 {
                    entry.ring_since = None;
                    // Who asks for too much time is cut, so it ends. One request by API waits for no subscriber that long:
                    // all others of the shard wait behind it.
                    let patience = match entry.origin {
                        Origin::Session { .. } if is_asked => limits.park_congested_max + limits.pause_max,
                        // Nor does what the router tells: other realms would wait for it too.
                        Origin::Api if is_asked && self.desk.announces() => Duration::ZERO,
                        _ => limits.park_congested_max,
                    };
                    (entry.since, patience, DropReason::StreamCongested)
                } else {
                    (*entry.ring_since.get_or_insert(now), limits.park_max, DropReason::RingFull)
                };
                // An acknowledged publication waits for as long as it takes; its publisher knows.
                if acknowledge.is_none() && now.since(since) >= limit {
                    self.delivery.counters.drop_events(reason, u64::from(left.count_ones()));
                    return Some(Tried::GivenUp(reason));
                }
                None
            }
            // Its caller waits no more: it was given up before it could leave.
            Waiting::Call { number, .. } if self.forget_ended_call(*number) => Some(Tried::Done),
            Waiting::Part { to, parcel } => {
                if let Some(waiting) = parcel.take() {
                    *parcel = self.try_part(now, entry.since, entry.origin, *to, waiting).err();
                }
                parcel.is_none().then_some(Tried::Done)
            }
            Waiting::Call { to, parcel, .. } => {
                if !self.lanes.has_room(*to) {
                    return None;
                }
                if let Some(parcel) = parcel.take() {
                    self.lanes.stage(*to, Item::Call(parcel));
                }
                Some(Tried::Done)
            }
        }
    }

    /// Who asked has left.
    fn drop_orphan(&mut self, entry: &Parked) {
        match &entry.what {
            Waiting::Publication { left, .. } => {
                let count = u64::from(left.count_ones());
                self.delivery.counters.drop_events(DropReason::PublisherGone, count);
            }
            // It may count for its callee, which will never have it.
            Waiting::Call { number, .. } => {
                self.forget_ended_call(*number);
            }
            Waiting::Part { .. } => {}
        }
    }

    /// Whether the session is disclosed for what it does with this URI (WAMP, "Publisher Identification" and "Caller
    /// Identification"): its role's permission decides, and may leave it to the session.
    pub(crate) fn discloses(
        &self,
        realm: RealmId,
        role: RoleId,
        disclosure: Disclosure,
        disclose_me: bool,
        uri: &str,
    ) -> Result<bool, Refusal> {
        let left = match disclosure {
            Disclosure::Always => planted(Mutation::DisclosureLeftToRequest),
            Disclosure::Never => planted(Mutation::DisclosureNotRefused),
            Disclosure::OnRequest => false,
        };
        let disclosure = if left { Disclosure::OnRequest } else { disclosure };
        disclosure.decide(disclose_me).ok_or_else(|| {
            let role = self.config.access.role_name(realm, role);
            let words = format!("role \"{role}\" is never disclosed at {uri}: leave disclose_me out");
            Refusal::new(error::DISCLOSE_ME_DISALLOWED, words)
        })
    }

    /// What is told of who asks: who it is, if it is to be disclosed, and how far it is trusted. These fields are written here
    /// alone, never taken from a client.
    pub(crate) fn provenance(
        &self,
        origin: Origin,
        disclosed: bool,
        trust: Option<TrustLevel>,
    ) -> Option<Provenance> {
        let identity = match origin {
            Origin::Session { outlet, .. } if disclosed => self.session(outlet),
            _ => None,
        };
        let identity = identity.map(|session| session.identity(&self.config.access));
        (identity.is_some() || trust.is_some()).then_some(Provenance { identity, trust })
    }

    /// The words for a request that the role does not allow.
    pub(crate) fn not_authorized(
        &self,
        realm: RealmId,
        role: RoleId,
        action: Action,
        policy: MatchPolicy,
        uri: &str,
    ) -> Refusal {
        let role = self.config.access.role_name(realm, role);
        let verb = action.verb();
        let words = if uri::is_reserved(uri) {
            format!(
                "URIs that begin with \"wamp.\" or \"fanwire.\" are the router's own: no client may {verb} {uri}"
            )
        } else if policy == MatchPolicy::Exact {
            format!("role \"{role}\" may not {verb} {uri}")
        } else {
            let policy = policy.name();
            format!("no permission of role \"{role}\" to {verb} covers all that {policy} \"{uri}\" matches")
        };
        Refusal::new(error::NOT_AUTHORIZED, words)
    }
}

/// How a parked request ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Tried {
    /// It is where it should be.
    Done,
    /// Not every shard has it, and none will have it later.
    GivenUp(DropReason),
}

/// One event on its way into the streams of this shard.
#[derive(Clone, Copy)]
struct Event<'a> {
    publication: PublicationId,
    publisher: Option<&'a Provenance>,
    source: &'a Source<'a>,
    /// Whoever knows plain bytes gets it as it is.
    plain: bool,
    except: Option<Outlet>,
    named: Option<&'a Named>,
    /// A hash of what it is about, where its publisher says so.
    key: Option<u64>,
    /// The inner subscriber that it came from.
    except_inner: Option<InnerId>,
    /// Where it stands among all that was kept; 0: it was not.
    version: u64,
}

impl<'a> Event<'a> {
    /// As inner subscribers get it.
    fn inner(self) -> InnerOffer<'a> {
        let receivers = self.named.map(|named| &*named.receivers);
        let Self { publication, source, except_inner, .. } = self;
        InnerOffer { publication, source, receivers, except: except_inner }
    }

    /// Appends it to the streams of one class; `topic` is for subscribers by pattern, who could not know.
    fn append(
        &self,
        delivery: &mut Delivery,
        subscription: SubscriptionId,
        topic: Option<&str>,
        streams: &ByEncoding,
        access: &Access,
    ) {
        for (index, stream) in streams.iter().enumerate() {
            if let Some(stream) = *stream {
                let encoding = crate::wamp2::ENCODINGS[index];
                self.append_to(delivery, subscription, topic, encoding, stream, access);
            }
        }
    }

    /// Appends it to one stream.
    ///
    /// Encoding and stream are two parameters, no pair: rustc 1.95 packs one of 2 and 4 bytes into a register, and LLVM loads the
    /// 2 bytes into it without clearing what is above them, which is then added to the stream's number.
    #[inline]
    fn append_to(
        &self,
        delivery: &mut Delivery,
        subscription: SubscriptionId,
        topic: Option<&str>,
        encoding: Encoding,
        stream: StreamId,
        access: &Access,
    ) {
        let Self { publication, publisher, source, key, .. } = *self;
        if delivery.conflates(stream) {
            // The topic, which subscribers by pattern get several of, and the key.
            delivery.conflate_by(access.hasher().hash_one((topic, key)));
        }
        match source.get(encoding.serializer()) {
            Ok(payload) => self.append_written(delivery, stream, |out| {
                encoding.write_event(subscription, publication, topic, publisher, payload, out);
            }),
            Err(_) => {
                let receivers = self.named.map(|named| &named.receivers);
                delivery.drop_event(stream, self.except, receivers, DropReason::Untranslatable);
            }
        }
    }

    /// Appends it to one stream of receivers of plain bytes, as it is. False: it is not plain.
    fn append_plain_to(self, delivery: &mut Delivery, stream: StreamId, access: &Access) -> bool {
        let Some(plain) = self.source.plain() else { return false };
        if delivery.conflates(stream) {
            delivery.conflate_by(access.hasher().hash_one((None::<&str>, self.key)));
        }
        self.append_written(delivery, stream, |out| encoding::write_plain(&plain, out));
        true
    }

    /// Appends it to one stream of receivers that know nothing but plain bytes.
    fn append_echo_to(self, delivery: &mut Delivery, stream: StreamId, access: &Access) {
        if delivery.conflates(stream) {
            delivery.conflate_by(access.hasher().hash_one((None::<&str>, self.key)));
        }
        match self.source.as_plain() {
            Ok(plain) => self.append_written(delivery, stream, |out| encoding::write_plain(&plain, out)),
            Err(_) => {
                let receivers = self.named.map(|named| &named.receivers);
                delivery.drop_event(stream, self.except, receivers, DropReason::Untranslatable);
            }
        }
    }

    #[inline]
    fn append_written(&self, delivery: &mut Delivery, stream: StreamId, write: impl FnOnce(&mut BytesMut)) {
        match self.named {
            None => drop(delivery.append(stream, self.except, write)),
            Some(named) => delivery.append_listed(stream, self.except, named, write),
        }
    }
}

/// The members of this class may not have an event: it counts as not matched.
fn withhold(delivery: &mut Delivery, streams: &RoleStreams) {
    for stream in streams.all() {
        delivery.counters.events_withheld += delivery.member_count(stream) as u64;
    }
}

/// Sessions that lists of receivers may name and that are looked up: some 20 us.
const LOOKED_UP_MAX: usize = 1_024;
/// Connections that are served, or marked, one by one for a publication.
const NAMED_MAX: usize = 64;
/// What one publication may copy into outboxes; beyond that its one frame in the stream is cheaper.
pub(crate) const DIRECT_BYTES_MAX: usize = 64 << 10;
/// Parked requests looked at in one turn: a few microseconds' worth.
const PARKED_PER_TURN: usize = 256;
