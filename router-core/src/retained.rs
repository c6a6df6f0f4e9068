//! Retained events (WAMP, "Event Retention"): how they are kept, and how they come to those who ask for them.
//!
//! ```text
//! PUBLISH retain          the directory keeps it, then it is routed as any
//! SUBSCRIBE get_retained  interest, SUBSCRIBED ─▶ a replay: what is kept up to this version, a page in each turn
//! an event for a subscription with replays        ─▶ first what the replays still owe its topic, then the event
//! ```
//!
//! A subscriber hears of each topic its retained event first and what is newer then, however many topics there are and
//! however slowly it reads: a replay goes on while its connection has room, and whatever comes by the stream meanwhile pulls
//! its own topic's retained event forward.
//!
//! What was kept and is still on the way from another shard would come twice. So each such publication carries its version,
//! and whoever had a replay up to a version does not get what has an older one by the stream, for some seconds. Where something
//! else of that topic has come in between, it does: in the publisher's order that is the newer one.

use std::collections::VecDeque;
use std::hash::BuildHasher;
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use hashbrown::{HashMap, HashSet};

use crate::access::{Action, TrustLevel};
use crate::broker::{DIRECT_BYTES_MAX, Origin};
use crate::clock::Instant;
use crate::counters::DropReason;
use crate::delivery::{Known, Named, Outlet, StreamId};
use crate::directory::{Kept, PatternMatches, Retained, RetainedPage, RetentionFull, Topic, newest_for};
use crate::encoding::Source;
use crate::ids::{PublicationId, RealmId, SessionId, SubscriptionId};
#[cfg(feature = "mutations")]
use crate::mutation;
use crate::mutation::{Mutation, planted};
use crate::receivers::{Audience, Receivers};
use crate::session::{Refusal, error};
use crate::shard::Shard;
use crate::uri::MatchPolicy;

use fanwire_codec::wamp2::ReceiverLists;

/// A publication that is kept: its id, which it has before it is routed, and its place in the order of all of them.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Keeping {
    pub(crate) id: PublicationId,
    /// 0: it is kept no more.
    pub(crate) version: u64,
}

/// What is to be kept.
#[derive(Clone, Copy)]
pub(crate) struct ToKeep<'a> {
    pub(crate) origin: Origin,
    pub(crate) realm: RealmId,
    pub(crate) uri: &'a str,
    pub(crate) receivers: Option<&'a ReceiverLists<'a>>,
    /// The publisher does not hear itself.
    pub(crate) exclude_me: bool,
    pub(crate) disclosed: bool,
    pub(crate) trust: Option<TrustLevel>,
    /// Who published waits for an answer.
    pub(crate) is_answered: bool,
}

/// Replays of a shard, under way or just over.
#[derive(Debug, Default)]
pub(crate) struct Replays {
    watched: HashMap<SubscriptionId, Watched, foldhash::fast::FixedState>,
    /// Those under way by their tickets, each in its turn.
    queue: VecDeque<(SubscriptionId, u64)>,
    last_ticket: u64,
    /// Sessions in `watched`.
    count: usize,
    /// Bytes that replays may still say in this turn.
    allowance: usize,
    /// How many in a row, over all turns, were found with a full connection.
    idle: usize,
    /// All of them were: when they are looked at again.
    retry_at: Option<Instant>,
    /// Events that were pulled forward, in all.
    pub(crate) pulled: u64,
    /// When those that are over are looked for.
    sweep_at: Option<Instant>,
}

/// A subscription with replays.
#[derive(Debug, Default)]
struct Watched {
    /// In the order of their versions.
    watches: Vec<Watch>,
    disturbed: Disturbed,
}

/// Hashes of topics of which something came that was not kept: twins are not told apart any more. Forgotten as late as those are, by
/// the sweep but one.
#[derive(Debug, Default)]
struct Disturbed {
    newer: HashSet<u64, foldhash::fast::FixedState>,
    older: HashSet<u64, foldhash::fast::FixedState>,
}

/// One session's replay of one subscription.
#[derive(Debug)]
struct Watch {
    outlet: Outlet,
    session: SessionId,
    /// Which replay this is: a session may ask for the same one again.
    ticket: u64,
    /// What is newer comes by the stream.
    version: u64,
    progress: Progress,
}

#[derive(Debug)]
enum Progress {
    /// The topics behind `after` are to come, less those that were pulled forward.
    UnderWay { after: Option<Arc<str>>, pulled: HashSet<Arc<str>, foldhash::fast::FixedState> },
    /// Nothing more comes, and twins are expected until then.
    Over { until: Instant },
}

/// A retained event, and who waits for it.
type Due<'a> = (&'a Arc<Retained>, Vec<(Outlet, SessionId)>);

/// How a page of a replay ended.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Page {
    Last,
    More,
    /// Its connection has no room for the next one.
    Blocked,
}

impl Progress {
    /// Whether this topic's event is still to come.
    fn owes(&self, uri: &str) -> bool {
        match self {
            Self::UnderWay { after, pulled } => {
                after.as_deref().is_none_or(|after| uri > after) && !pulled.contains(uri)
            }
            Self::Over { .. } => false,
        }
    }
}

impl Replays {
    /// Whether events must be looked at before they are delivered.
    pub(crate) fn is_watching(&self) -> bool {
        self.count != 0
    }

    /// How many have more to say.
    pub(crate) fn under_way(&self) -> usize {
        self.queue.len()
    }

    /// When they go on.
    pub(crate) fn next_deadline(&self) -> Option<Instant> {
        let next = (!self.queue.is_empty()).then(|| self.retry_at.unwrap_or(Instant::START));
        next.into_iter().chain(self.sweep_at).min()
    }

    fn watch(&mut self, subscription: SubscriptionId, mut watch: Watch) {
        self.end(watch.outlet, subscription);
        self.count += 1;
        self.last_ticket += 1;
        watch.ticket = self.last_ticket;
        (self.idle, self.retry_at) = (0, None);
        self.queue.push_back((subscription, watch.ticket));
        self.watched.entry(subscription).or_default().watches.push(watch);
    }

    /// The session has left the subscription.
    pub(crate) fn end(&mut self, outlet: Outlet, subscription: SubscriptionId) {
        let Some(watched) = self.watched.get_mut(&subscription) else { return };
        let before = watched.watches.len();
        watched.watches.retain(|watch| watch.outlet != outlet);
        self.count -= before - watched.watches.len();
        if watched.watches.is_empty() {
            self.watched.remove(&subscription);
        }
    }

    /// Forgets those that are over. Where streams are `congested` nobody knows for how long what was kept will be on its way, because
    /// acknowledged publications wait for as long as it takes: none is forgotten then.
    fn sweep(&mut self, now: Instant, congested: bool) {
        self.sweep_at = (self.count > 0).then(|| now + TWINS_EXPECTED);
        if congested {
            for watch in self.watched.values_mut().flat_map(|watched| &mut watched.watches) {
                if let Progress::Over { until } = &mut watch.progress {
                    *until = now + TWINS_EXPECTED;
                }
            }
            return;
        }
        let is_kept = |watch: &Watch| match watch.progress {
            Progress::UnderWay { .. } => true,
            Progress::Over { until } => until > now,
        };
        self.watched.retain(|_, watched| {
            watched.watches.retain(is_kept);
            !watched.watches.is_empty()
        });
        self.count = self.watched.values().map(|watched| watched.watches.len()).sum();
        if self.count == 0 {
            self.sweep_at = None;
        }
        for watched in self.watched.values_mut() {
            // What came that long ago is older than whatever may still come.
            let newer = std::mem::take(&mut watched.disturbed.newer);
            watched.disturbed.older = newer;
        }
    }
}

impl Disturbed {
    fn insert(&mut self, topic: u64) {
        if self.newer.len() < DISTURBED_MAX {
            self.newer.insert(topic);
        }
    }

    fn has(&self, topic: u64) -> bool {
        [&self.newer, &self.older]
            .iter()
            .any(|topics| topics.len() >= DISTURBED_MAX || topics.contains(&topic))
    }
}

impl Shard {
    /// How many events publications have matched so far, without those that they have pulled forward.
    #[inline]
    pub(crate) fn matched_by_publications(&self) -> u64 {
        self.delivery.counters.matched - self.replays.pulled
    }

    // --- publishers --------------------------------------------------------------------------------------------

    /// Keeps an event that its origin may publish, before it is routed. Without arguments it is nothing to be kept: the topic
    /// has no retained event any more.
    ///
    /// # Errors
    ///
    /// There is no room, and who published waits for an answer. Who does not is told nothing: its event is routed all the
    /// same, and the topic has none, because an older one would look like the newest.
    pub(crate) fn keep_event(
        &mut self,
        to_keep: ToKeep<'_>,
        source: &Source<'_>,
    ) -> Result<Keeping, Refusal> {
        let ToKeep { origin, realm, uri, receivers, exclude_me, disclosed, trust, is_answered } = to_keep;
        let id = PublicationId::from_random((self.random)());
        let receivers = match receivers.map(|lists| Audience::new(lists, &self.config.access, realm)) {
            None | Some(Audience::Everybody) => None,
            Some(Audience::Nobody) => return Ok(Keeping { id, version: 0 }),
            Some(Audience::Some(receivers)) => Some(receivers),
        };
        let payload = source.to_owned_payload();
        if payload.has_no_arguments() {
            if planted(Mutation::RetainedEndIgnored) {
                return Ok(Keeping { id, version: 0 });
            }
            self.directory.forget_retained(realm, uri, receivers.as_deref());
            return Ok(Keeping { id, version: 0 });
        }
        let except = match origin {
            Origin::Session { session, .. } if exclude_me => Some(session),
            _ => None,
        };
        let publisher = self.provenance(origin, disclosed, trust);
        let event = Retained { publication: id, payload, publisher, except, receivers: receivers.clone() };
        let limits = self.config.limits.retention;
        #[cfg(feature = "mutations")]
        if planted(Mutation::KeptLate) {
            let (directory, uri) = (Arc::clone(&self.directory), uri.to_owned());
            mutation::later(move || {
                let _ = directory.retain(realm, &uri, event, &limits);
            });
            return Ok(Keeping { id, version: 0 });
        }
        match self.directory.retain(realm, uri, event, &limits) {
            Ok(version) => {
                self.delivery.counters.retained += 1;
                Ok(Keeping { id, version })
            }
            Err(full) => {
                self.delivery.counters.not_retained[full as usize] += 1;
                if is_answered {
                    return Err(Refusal::new(error::UNAVAILABLE, self.words_of_full(full)));
                }
                if !planted(Mutation::OlderOutlivesRefusal) {
                    self.directory.forget_retained(realm, uri, receivers.as_deref());
                }
                Ok(Keeping { id, version: 0 })
            }
        }
    }

    fn words_of_full(&self, full: RetentionFull) -> String {
        let limits = &self.config.limits.retention;
        let (what, most, key) = match full {
            RetentionFull::RealmEvents => {
                ("retained events in the realm", limits.events_per_realm, "retained_per_realm")
            }
            RetentionFull::RealmBytes => {
                ("bytes of retained events in the realm", limits.bytes_per_realm, "retained_bytes_per_realm")
            }
            RetentionFull::Bytes => ("bytes of retained events", limits.bytes, "retained_bytes"),
        };
        format!(
            "there is no room to retain this event, which is not published: {most} {what} are the most allowed \
             (limits.{key}). A publication with retain and without arguments frees its topic's"
        )
    }

    // --- subscribers -------------------------------------------------------------------------------------------

    /// Gives a session the retained events of a subscription that it has just been told of, now or in later turns.
    pub(crate) fn replay_retained(&mut self, now: Instant, outlet: Outlet, subscription: SubscriptionId) {
        let Some(local) = self.subscriptions.get(&subscription) else { return };
        // After the interest, which is shown already.
        let version = self.directory.retained_version(local.topic.realm());
        let version = version - u64::from(planted(Mutation::ReplayVersionStale) && version > 0);
        let Some(session) = self.session(outlet).map(|session| session.id) else { return };
        let progress = Progress::UnderWay { after: None, pulled: HashSet::default() };
        self.replays.watch(subscription, Watch { outlet, session, ticket: 0, version, progress });
        self.replays.sweep_at.get_or_insert(now + TWINS_EXPECTED);
        self.continue_replays(now);
    }

    /// The beginning of a turn: replays may say as much again.
    pub(crate) fn resume_replays(&mut self, now: Instant) {
        self.replays.allowance = TURN_BYTES;
        if self.replays.sweep_at.is_some_and(|at| at <= now) {
            self.replays.sweep(now, self.delivery.is_congested());
        }
        if !self.replays.queue.is_empty() && self.replays.retry_at.is_none_or(|at| at <= now) {
            self.continue_replays(now);
        }
    }

    /// Goes on with those whose connections have room, a page each in turn.
    fn continue_replays(&mut self, now: Instant) {
        self.replays.retry_at = None;
        while self.replays.allowance > 0 && self.replays.idle < self.replays.queue.len() {
            let Some((subscription, ticket)) = self.replays.queue.pop_front() else { break };
            let Some(mut watched) = self.replays.watched.remove(&subscription) else { continue };
            let page = watched.watches.iter_mut().find(|watch| watch.ticket == ticket).map(|watch| {
                debug_assert!(matches!(watch.progress, Progress::UnderWay { .. }), "it stands in the queue");
                self.replay_page(now, subscription, watch)
            });
            self.replays.watched.insert(subscription, watched);
            match page {
                // The session has left, or asked once more.
                None => continue,
                Some(Page::Blocked) if planted(Mutation::BlockedReplayEnds) => continue,
                Some(Page::Blocked) => self.replays.idle += 1,
                Some(_) => self.replays.idle = 0,
            }
            if page != Some(Page::Last) {
                self.replays.queue.push_back((subscription, ticket));
            }
        }
        if self.replays.queue.is_empty() {
            self.replays.idle = 0;
        } else if self.replays.idle >= self.replays.queue.len() {
            (self.replays.idle, self.replays.retry_at) = (0, Some(now + STUCK_RETRY));
        }
    }

    /// Says the next of a replay's events.
    fn replay_page(&mut self, now: Instant, subscription: SubscriptionId, watch: &mut Watch) -> Page {
        let Some(local) = self.subscriptions.get(&subscription) else { return Page::Last };
        let entry = Arc::clone(&local.topic);
        let (realm, policy) = (entry.realm(), entry.policy());
        let Progress::UnderWay { after, pulled } = &mut watch.progress else { return Page::Last };
        // Without a look into the directory: there may be very many of these.
        if !self.has_room_for(watch.outlet, 0) {
            self.replays.allowance = self.replays.allowance.saturating_sub(BLOCKED_COST);
            return Page::Blocked;
        }
        self.replays.allowance = self.replays.allowance.saturating_sub(PAGE_COST);
        let page = match policy {
            MatchPolicy::Exact => {
                let kept = self.directory.retained(realm, entry.uri());
                RetainedPage { topics: vec![(entry.uri().into(), kept)], next: None }
            }
            _ => self.directory.retained_page(realm, (policy, entry.uri()), after.as_deref(), PAGE_TOPICS),
        };
        for (uri, kept) in page.topics {
            if self.replays.allowance == 0 {
                // The rest in the next turn: what it is may be another one by then.
                return Page::More;
            }
            let longest = kept.iter().map(|kept| kept.event.payload.len()).max().unwrap_or(0);
            if !self.has_room_for(watch.outlet, longest) {
                return Page::Blocked;
            }
            if !pulled.remove(&*uri) {
                let found = self.retained_for((watch.outlet, watch.version), &entry, &uri, &kept);
                if let Some((stream, event)) = found {
                    self.say_retained(stream, event, &entry, &uri, &[(watch.outlet, watch.session)]);
                }
            }
            *after = Some(uri);
        }
        if page.next.is_some() {
            *after = page.next;
            return Page::More;
        }
        watch.progress = Progress::Over { until: now + TWINS_EXPECTED };
        Page::Last
    }

    /// Whether a connection has room for a retained event of so many bytes: a quarter of its outbox is for replays, and an
    /// empty outbox takes an event of any size.
    fn has_room_for(&self, outlet: Outlet, bytes: usize) -> bool {
        let waiting = self.delivery.waiting_bytes(outlet);
        waiting == 0 || waiting + bytes <= self.config.limits.outbox_bytes_max / 4
    }

    /// The retained event of a topic for one session, if its role may hear it, and the stream beside which it comes.
    fn retained_for<'a>(
        &mut self,
        (outlet, version): (Outlet, u64),
        entry: &Topic,
        uri: &str,
        kept: &'a [Kept],
    ) -> Option<(StreamId, &'a Arc<Retained>)> {
        self.replays.allowance = self.replays.allowance.saturating_sub(LOOK_COST);
        let session = self.session(outlet)?;
        let role = session.role;
        let event = newest_for(kept, version, &session.label())?;
        // Who asked for the very topic was asked about then.
        if entry.policy() != MatchPolicy::Exact
            && !planted(Mutation::RetainedPatternUnchecked)
            && !self.config.access.authorize(entry.realm(), role, Action::Subscribe, uri)
        {
            self.delivery.counters.events_withheld += 1;
            return None;
        }
        Some((self.stream_of(outlet, entry.id())?, event))
    }

    /// Says a topic's retained event to some members of one stream: into their outboxes where that copies little, else once, as a
    /// frame of the stream that is for them.
    fn say_retained(
        &mut self,
        stream: StreamId,
        event: &Retained,
        entry: &Topic,
        uri: &str,
        to: &[(Outlet, SessionId)],
    ) {
        let Some(encoding) =
            to.first().and_then(|(outlet, _)| self.session(*outlet)).map(|session| session.encoding)
        else {
            return;
        };
        self.replays.allowance = self.replays.allowance.saturating_sub(event.payload.len());
        self.delivery.counters.retained_said += to.len() as u64;
        let Ok(payload) = event.payload.transcode(encoding.serializer()) else {
            self.delivery.counters.matched += to.len() as u64;
            return self.delivery.counters.drop_events(DropReason::Untranslatable, to.len() as u64);
        };
        let topic = (entry.policy() != MatchPolicy::Exact).then_some(uri);
        let write = |out: &mut BytesMut| {
            let publisher = event.publisher.as_ref();
            encoding.write_retained(entry.id(), event.publication, topic, publisher, payload.view(), out);
        };
        if to.len() == 1 || to.len() * (event.payload.len() + FRAME_BYTES) <= DIRECT_BYTES_MAX {
            let outlets: Vec<Outlet> = to.iter().map(|(outlet, _)| *outlet).collect();
            return self.delivery.append_direct(stream, None, &outlets, write);
        }
        if self.delivery.conflates(stream) {
            self.delivery.conflate_by(self.config.access.hasher().hash_one((topic, None::<u64>)));
        }
        let receivers = Arc::new(Receivers::only(to.iter().map(|(_, session)| *session)));
        self.delivery.append_listed(stream, None, &Named { receivers, known: Known::Unknown }, write);
    }

    // --- what comes meanwhile ----------------------------------------------------------------------------------

    /// An event is about to be delivered. What replays owe its topic comes first; and who has had this very event by a replay
    /// is left out: these are the lists to deliver it by then.
    #[cold]
    pub(crate) fn before_event(
        &mut self,
        exact: Option<SubscriptionId>,
        patterns: Option<&Arc<PatternMatches<Topic>>>,
        version: u64,
        receivers: Option<&Receivers>,
        source: &Source<'_>,
    ) -> Option<Named> {
        let matched =
            patterns.into_iter().flat_map(|matches| matches.entries().iter().map(|entry| entry.id()));
        let matched: Vec<SubscriptionId> = exact.into_iter().chain(matched).collect();
        let mut twins: Vec<(Outlet, SessionId)> = Vec::new();
        for id in &matched {
            let Some(mut watched) = self.replays.watched.remove(id) else { continue };
            if let Some(local) = self.subscriptions.get(id) {
                let entry = Arc::clone(&local.topic);
                let uri =
                    patterns.filter(|_| exact != Some(*id)).map_or(entry.uri(), |matches| matches.uri());
                self.pull_forward(&mut watched, &entry, uri);
                twins.extend(self.twins(&mut watched, uri, version));
            }
            self.replays.watched.insert(*id, watched);
        }
        // Who has it by another subscription too, which had no replay, must have it there.
        let holds = |outlet: Outlet| {
            let session = self.session(outlet);
            let holds = |id: &&SubscriptionId| {
                session.is_some_and(|session| session.subscriptions.binary_search(id).is_ok())
            };
            matched.iter().filter(holds).count()
        };
        let mut had: HashMap<SessionId, (Outlet, usize), foldhash::fast::FixedState> = HashMap::default();
        for (outlet, session) in twins {
            had.entry(session).or_insert((outlet, 0)).1 += 1;
        }
        let spared: Vec<SessionId> = had
            .into_iter()
            .filter(|(_, (outlet, count))| *count == holds(*outlet))
            .map(|(session, _)| session)
            .collect();
        if spared.is_empty() {
            return None;
        }
        let receivers = Arc::new(Receivers::also_excluding(receivers, spared));
        self.name_receivers(Some(&receivers), source)
    }

    fn pull_forward(&mut self, watched: &mut Watched, entry: &Topic, uri: &str) {
        let is_owed = watched.watches.iter().any(|watch| watch.progress.owes(uri));
        if !is_owed || planted(Mutation::ReplayOvertaken) {
            return;
        }
        let kept = self.directory.retained(entry.realm(), uri);
        if kept.is_empty() {
            return;
        }
        // Very many may wait for it, as after a reconnect of all: one frame for all that hear the same.
        let mut due: HashMap<(StreamId, PublicationId), Due<'_>, foldhash::fast::FixedState> =
            HashMap::default();
        let shared: Arc<str> = uri.into();
        for watch in &mut watched.watches {
            if !watch.progress.owes(uri) {
                continue;
            }
            let found = self.retained_for((watch.outlet, watch.version), entry, uri, &kept);
            if let (Some((stream, event)), Progress::UnderWay { pulled, .. }) = (found, &mut watch.progress) {
                let (_, to) = due.entry((stream, event.publication)).or_insert_with(|| (event, Vec::new()));
                to.push((watch.outlet, watch.session));
                pulled.insert(Arc::clone(&shared));
            }
        }
        for ((stream, _), (event, to)) in due {
            self.say_retained(stream, event, entry, uri, &to);
        }
    }

    /// Those who have had an event of this version already.
    fn twins(&self, watched: &mut Watched, uri: &str, version: u64) -> Vec<(Outlet, SessionId)> {
        if planted(Mutation::TwinsUnknown) {
            return Vec::new();
        }
        let topic = self.config.access.hasher().hash_one(uri);
        if version == 0 {
            watched.disturbed.insert(topic);
            return Vec::new();
        }
        if watched.disturbed.has(topic) {
            return Vec::new();
        }
        let known = watched.watches.iter().rev().take_while(|watch| watch.version >= version);
        // To whom its topic is owed still, nothing was said: it was forgotten meanwhile, or made room.
        known.filter(|watch| !watch.progress.owes(uri)).map(|watch| (watch.outlet, watch.session)).collect()
    }
}

/// Bytes that the replays of a shard say in one turn.
const TURN_BYTES: usize = 256 << 10;
/// What an event has beside its payload, about.
const FRAME_BYTES: usize = 64;
/// What it takes of that to look for an event, whatever its size.
const LOOK_COST: usize = 512;
/// To find that a connection is full.
const BLOCKED_COST: usize = 64;
/// And to read a page of the directory.
const PAGE_COST: usize = 4 << 10;
/// Topics of one page of a replay.
const PAGE_TOPICS: usize = 64;
/// How long what was kept may be on its way, in the ring or parked, and still be known for what a replay has said. As long as
/// subscribers may make publishers wait.
const TWINS_EXPECTED: Duration = Duration::from_secs(5);
/// Topics of a subscription that are remembered as disturbed; beyond it all are.
const DISTURBED_MAX: usize = 1_024;
/// How often full connections are looked at that wait for more retained events.
const STUCK_RETRY: Duration = Duration::from_millis(10);
