//! What the runs met: a simulation that never fills a ring proves nothing about full rings.

mod retained;

use super::{
    history::{
        Answerer, Asked, ClientId, Decision, Event, Inner, NOT_TOLD, Offer, Op, Order, Protocol, Ruling,
        Seen, Wants,
    },
    meta::{Becomes, News},
    names,
};
use fanwire_codec::wamp2::{CancelMode, InvokePolicy};
use fanwire_core::login::LoginMethod;
use fanwire_core::{Arrival, Counters, DropReason, LoginOutcome};
use std::collections::{BTreeMap, BTreeSet};

/// How often each kind of thing happened.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Coverage(BTreeMap<&'static str, u64>);

impl Coverage {
    pub fn of<'a>(log: &[Event], counters: impl Iterator<Item = &'a Counters>) -> Self {
        let mut coverage = Self::default();
        // What never happens is a gap too.
        let all = MUST_HAPPEN.iter().chain(retained::MUST_HAPPEN);
        coverage.0.extend(all.map(|name| (*name, 0)));
        let mut rooms = BTreeSet::new();
        for event in log {
            if let Event::Opened { client, protocol: Protocol::Echo, .. } = event {
                rooms.insert(*client);
            }
            coverage.add(name(event, &rooms), 1);
            retained::names(event).iter().for_each(|name| coverage.add(name, 1));
        }
        for counters in counters {
            for reason in DropReason::ALL {
                coverage.add(reason.as_str(), counters.dropped[reason as usize]);
            }
            let abandoned =
                counters.logins[LoginOutcome::of(LoginMethod::Ticket, Arrival::Abandoned).index()];
            coverage.add("logins abandoned", abandoned);
            coverage.add("calls for another callee", counters.calls_rerouted);
            coverage.add("kept: no room", counters.not_retained.iter().sum());
            coverage.add("publications that histories have had", counters.recorded);
            coverage.add("publications too large for histories", counters.history_too_large);
            coverage.add("publications displaced from histories", counters.history_displaced);
            coverage.add("short sends", counters.sends_short);
            coverage.add("parked requests", counters.parked);
            coverage.add("held connections", counters.held);
            coverage.add("publishers paused", counters.pauses);
            coverage.add("slow consumers cut", counters.slow_consumers_cut);
            coverage.add("events from other shards", counters.publications_forwarded_in);
            coverage.add("events delivered", counters.delivered);
            coverage.add("events withheld", counters.events_withheld);
            coverage.add("frames compressed for all", counters.deflated_frames);
            coverage.add("frames compressed for one", counters.deflated_frames_alone);
        }
        coverage
    }

    pub fn merge(&mut self, other: &Self) {
        for (name, count) in &other.0 {
            self.add(name, *count);
        }
    }

    /// What never happened, or hardly ever, less what is known not to be met: tags translate into every serializer.
    pub fn gaps(&self, at_least: u64, known: &[&str]) -> Vec<&'static str> {
        let rare = self.0.iter().filter(|(name, count)| **count < at_least && !known.contains(name));
        rare.map(|(name, _)| *name).collect()
    }

    fn add(&mut self, name: &'static str, count: u64) {
        *self.0.entry(name).or_default() += count;
    }
}

impl std::fmt::Display for Coverage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.iter().try_for_each(|(name, count)| writeln!(f, "{count:>10}  {name}"))
    }
}

/// Names of what some protocols alone do, which none may do without.
const MUST_HAPPEN: &[&str] = &[
    "connects to a room",
    "says something in a room",
    "enters a room",
    "heard in a room, text",
    "heard in a room, binary",
    "heard at the message center, plain",
    "sent out of a room, and may not be there",
    "sent out of a room, and may come again",
    "messages to a queue",
    "messages to the hook",
    "messages without room in their queue",
    "calls for the hook",
    "calls by API for the hook",
    "calls answered by the hook",
    "calls refused by the hook",
    "calls that the hook failed to answer",
    "says something at the message center",
    "saw the answer to a message",
    "saw a message refused before the login",
    "saw a message that is for nobody",
    "saw a message denied",
    "closed after an error",
    "order: send",
    "order: subscribe",
    "order: unsubscribe",
    "order: dismiss",
    "order for who is not there",
    "order that cannot be done",
    "order that the client's role may not have",
    "order refused for want of room",
    "several clients found by uid",
    "saw a message of a backend",
    "CALL in parts",
    "CALL with timeout",
    "CALL for a result in parts",
    "CALL of another part",
    "CALL of a last part",
    "CANCEL",
    "CANCEL by skip",
    "CANCEL by kill",
    "CANCEL by killnowait",
    "YIELD of a part",
    "saw INVOCATION with timeout",
    "saw INVOCATION in parts",
    "saw INVOCATION for a result in parts",
    "saw INTERRUPT by kill",
    "saw INTERRUPT",
    "saw a part of a result",
    "saw a call time out",
    "saw feature_not_supported",
    "REGISTER by force",
    "REGISTER with a limit",
    "REGISTER shared, in turns",
    "REGISTER shared, by chance",
    "REGISTER shared, first",
    "REGISTER shared, last",
    "REGISTER shared, by load",
    "ERROR by which a callee passes on",
    "saw no_available_callee",
    "calls for another callee",
    "news of sessions",
    "news of a subscription that was created",
    "news of a subscriber",
    "news of a subscriber that has left",
    "news of a subscription that was deleted",
    "news of a registration that was created",
    "news of a callee",
    "news of a callee that has left",
    "news of a registration that was deleted",
    "saw EVENT of the router's own",
    "testaments",
    "testaments refused",
    "testaments taken back",
    "testaments published",
    "subscriptions taken away",
    "registrations taken away",
    "sessions sent away",
    "sessions sent away with all others",
    "saw that a subscription was taken away",
    "saw that a registration was taken away",
    "connects in version 1",
    "PREFIX",
    "saw EVENT of version 1",
];

/// `rooms`: who is in one.
fn name(event: &Event, rooms: &BTreeSet<ClientId>) -> &'static str {
    if let Some(name) = name_in_room(event, rooms) {
        return name;
    }
    match event {
        Event::Opened { protocol: Protocol::Wamp1, .. } => "connects in version 1",
        Event::Opened { .. } => "connects",
        Event::Draining { .. } => "drains",
        Event::Decided { verdict: Decision::Granted(_), .. } => "logins granted",
        Event::Decided { verdict: Decision::Refused, .. } => "logins refused",
        Event::Decided { verdict: Decision::Busy, .. } => "logins refused for want of room",
        Event::Ruled { ruling: Ruling::Allowed, .. } => "requests allowed by the hook",
        Event::Ruled { ruling: Ruling::Denied, .. } => "requests denied by the hook",
        Event::Ruled { ruling: Ruling::Failed, .. } => "requests that the hook failed to answer",
        Event::Asked { answerer: Answerer::Queue(_), .. } => "messages to a queue",
        Event::Asked { .. } => "messages to the hook",
        Event::AskedToAnswer { session: Some(_), .. } => "calls for the hook",
        Event::AskedToAnswer { .. } => "calls by API for the hook",
        Event::AnsweredCall { ruling: Ruling::Allowed, .. } => "calls answered by the hook",
        Event::AnsweredCall { ruling: Ruling::Denied, .. } => "calls refused by the hook",
        Event::AnsweredCall { .. } => "calls that the hook failed to answer",
        Event::Ruled { ruling: Ruling::Full, .. } => "messages without room in their queue",
        Event::Ordered { outcome: Err(uri), .. } => match uri.as_str() {
            "wamp.error.no_such_session" => "order for who is not there",
            "wamp.error.invalid_argument" => "order that cannot be done",
            "wamp.error.not_authorized" => "order that the client's role may not have",
            _ => "order refused for want of room",
        },
        Event::Ordered { order, .. } => match order {
            Order::Send { .. } => "order: send",
            Order::Subscribe(_) => "order: subscribe",
            Order::Unsubscribe(_) => "order: unsubscribe",
            Order::Dismiss => "order: dismiss",
        },
        Event::Found { clients, .. } if clients.len() > 1 => "several clients found by uid",
        Event::Found { .. } => "client found by uid, or none",
        Event::News { news: News::Joined { .. } | News::Left { .. }, .. } => "news of sessions",
        Event::News { news: News::Testaments(_), .. } => "testaments published",
        Event::News { news: News::Entry { is_subscription: true, what, .. }, .. } => match what {
            Becomes::Created(_) => "news of a subscription that was created",
            Becomes::Attached => "news of a subscriber",
            Becomes::Detached => "news of a subscriber that has left",
            Becomes::Deleted => "news of a subscription that was deleted",
        },
        Event::News { news: News::Entry { what, .. }, .. } => match what {
            Becomes::Created(_) => "news of a registration that was created",
            Becomes::Attached => "news of a callee",
            Becomes::Detached => "news of a callee that has left",
            Becomes::Deleted => "news of a registration that was deleted",
        },
        Event::Testament { outcome: Ok(()), .. } => "testaments",
        Event::Testament { .. } => "testaments refused",
        Event::Flushed { .. } => "testaments taken back",
        Event::Revoked { is_subscription: true, .. } => "subscriptions taken away",
        Event::Revoked { .. } => "registrations taken away",
        Event::Killed { quietly: true, .. } => "sessions sent away with all others",
        Event::Killed { .. } => "sessions sent away",
        Event::Recalled { found, .. } if found.is_empty() => "looks into histories that have nothing",
        Event::Recalled { asked, .. } if names::is_pattern(*asked) => "looks into histories by pattern",
        Event::Recalled { .. } => "looks into histories",
        Event::Told { .. } => "ends told to the hook",
        Event::Inner { what, .. } => match what {
            Inner::Made { .. } => "inner subscribers",
            Inner::Subscribed { asked, .. } if names::is_pattern(*asked) => "inner subscriptions by pattern",
            Inner::Subscribed { .. } => "inner subscriptions",
            Inner::Unsubscribed { .. } => "ends of inner subscriptions",
            Inner::Says { .. } => "publications of inner subscribers",
            Inner::Heard { .. } => "events for inner subscribers",
            Inner::Lost { .. } => "events without room for inner subscribers",
        },
        Event::Ended { .. } => "ends",
        Event::Did { op, .. } => match op {
            Op::Hello { .. } => "HELLO",
            Op::Authenticate { .. } => "AUTHENTICATE",
            Op::Subscribe { topic, .. } if names::is_pattern(*topic) => "SUBSCRIBE by pattern",
            Op::Subscribe { .. } => "SUBSCRIBE",
            Op::Unsubscribe { .. } => "UNSUBSCRIBE",
            Op::Publish { receipt: true, .. } => "PUBLISH by API with receipt",
            Op::Publish { key: Some(_), .. } => "PUBLISH with a key",
            Op::Publish { lists: Some(_), .. } => "PUBLISH with lists of receivers",
            Op::Publish { acknowledge: true, .. } => "PUBLISH with acknowledge",
            Op::Publish { .. } => "PUBLISH",
            Op::Register { offer: Offer { force: true, .. }, .. } => "REGISTER by force",
            Op::Register { offer: Offer { concurrency: Some(_), .. }, .. } => "REGISTER with a limit",
            Op::Register { offer, .. } if offer.invoke != InvokePolicy::Single => match offer.invoke {
                InvokePolicy::RoundRobin => "REGISTER shared, in turns",
                InvokePolicy::Random => "REGISTER shared, by chance",
                InvokePolicy::First => "REGISTER shared, first",
                InvokePolicy::Last => "REGISTER shared, last",
                _ => "REGISTER shared, by load",
            },
            Op::Register { procedure, .. } if names::is_pattern(*procedure) => "REGISTER by pattern",
            Op::Register { .. } => "REGISTER",
            Op::Unregister { .. } => "UNREGISTER",
            Op::Call { wants: Wants { more: true, .. }, .. } => "CALL in parts",
            Op::Call { wants: Wants { timeout_ms: Some(_), .. }, .. } => "CALL with timeout",
            Op::Call { wants: Wants { progress: true, .. }, .. } => "CALL for a result in parts",
            Op::Call { .. } => "CALL",
            Op::CallOn { more: true, .. } => "CALL of another part",
            Op::CallOn { .. } => "CALL of a last part",
            Op::Cancel { mode: None, .. } => "CANCEL",
            Op::Cancel { mode: Some(CancelMode::Skip), .. } => "CANCEL by skip",
            Op::Cancel { mode: Some(CancelMode::Kill), .. } => "CANCEL by kill",
            Op::Cancel { mode: Some(CancelMode::KillNoWait), .. } => "CANCEL by killnowait",
            Op::YieldPart { .. } => "YIELD of a part",
            Op::Yield { .. } => "YIELD",
            Op::Fail { .. } => "ERROR of a callee",
            Op::PassOn { .. } => "ERROR by which a callee passes on",
            Op::Say { .. } => "says something at the message center",
            Op::Prefix { .. } => "PREFIX",
            Op::Goodbye => "GOODBYE",
            Op::Violate => "violations",
        },
        Event::Saw { seen, .. } => match seen {
            Seen::Challenge => "saw CHALLENGE",
            Seen::Welcome(_) => "saw WELCOME",
            Seen::Abort { .. } => "saw ABORT",
            Seen::Goodbye { .. } => "saw GOODBYE",
            Seen::Subscribed { .. } => "saw SUBSCRIBED",
            Seen::Unsubscribed { .. } => "saw UNSUBSCRIBED",
            Seen::Published { matched: Some(_), .. } => "saw a receipt",
            Seen::Published { .. } => "saw PUBLISHED",
            Seen::Event { heard: Some(_), .. } => "heard at the message center, plain",
            Seen::Event { tag, .. } if names::is_meta(tag.name) => "saw EVENT of the router's own",
            Seen::Event { publication: NOT_TOLD, topic: Some(_), .. } => "saw EVENT of version 1",
            Seen::Event { publication: NOT_TOLD, .. } => "saw an event of a channel",
            Seen::Event { topic: Some(_), .. } => "saw EVENT by pattern",
            Seen::Event { .. } => "saw EVENT",
            Seen::Bare { .. } => "saw EVENT without arguments",
            Seen::Gap { .. } => "saw a gap",
            Seen::Registered { .. } => "saw REGISTERED",
            Seen::Unregistered { .. } => "saw UNREGISTERED",
            Seen::Invocation { asked: Asked { timeout_ms: Some(_), .. }, .. } => {
                "saw INVOCATION with timeout"
            }
            Seen::Invocation { asked: Asked { more: true, .. }, .. } => "saw INVOCATION in parts",
            Seen::Invocation { asked: Asked { progress: true, .. }, .. } => {
                "saw INVOCATION for a result in parts"
            }
            Seen::Interrupt { mode: CancelMode::Kill, .. } => "saw INTERRUPT by kill",
            Seen::Interrupt { .. } => "saw INTERRUPT",
            Seen::Part { .. } => "saw a part of a result",
            Seen::Invocation { procedure: Some(_), .. } => "saw INVOCATION by pattern",
            Seen::Invocation { .. } => "saw INVOCATION",
            Seen::Result { .. } => "saw RESULT",
            Seen::Error { uri, .. } => match uri.as_str() {
                "wamp.error.no_such_procedure" => "saw no_such_procedure",
                "wamp.error.option_disallowed.disclose_me" => "saw disclose_me refused",
                "timed out" => "saw a call by API time out",
                "wamp.error.canceled" => "saw canceled",
                "wamp.error.timeout" => "saw a call time out",
                "wamp.error.feature_not_supported" => "saw feature_not_supported",
                "wamp.error.not_authorized" => "saw not_authorized",
                "wamp.error.authorization_failed" => "saw authorization_failed",
                "wamp.error.no_available_callee" => "saw no_available_callee",
                "wamp.error.unavailable" => "saw unavailable",
                "wamp.error.procedure_already_exists" => "saw procedure_already_exists",
                _ => "saw other errors",
            },
            Seen::Revoked { is_subscription: true, .. } => "saw that a subscription was taken away",
            Seen::Revoked { .. } => "saw that a registration was taken away",
            Seen::Sent { .. } => "saw a message of a backend",
            Seen::Answered { answer: Ok(_), .. } => "saw the answer to a message",
            Seen::Answered { answer: Err(1), .. } => "saw a message refused before the login",
            Seen::Answered { answer: Err(3), .. } => "saw a message that is for nobody",
            Seen::Answered { .. } => "saw a message denied",
            Seen::Stayed => "stayed, logging in once more",
            Seen::Ping => "saw ping",
            Seen::Close { code: Some(4000..) } => "closed after an error",
            Seen::Close { .. } => "saw close",
        },
    }
}

fn name_in_room(event: &Event, rooms: &BTreeSet<ClientId>) -> Option<&'static str> {
    match event {
        Event::Opened { protocol: Protocol::Echo, .. } => Some("connects to a room"),
        Event::Did { client, op: Op::Publish { .. } } if rooms.contains(client) => {
            Some("says something in a room")
        }
        Event::Saw { client, seen } if rooms.contains(client) => match seen {
            Seen::Subscribed { .. } => Some("enters a room"),
            Seen::Event { heard: Some(heard), .. } if heard.is_binary => Some("heard in a room, binary"),
            Seen::Event { .. } => Some("heard in a room, text"),
            Seen::Close { code: Some(1008) } => Some("sent out of a room, and may not be there"),
            Seen::Close { code: Some(1013) } => Some("sent out of a room, and may come again"),
            _ => None,
        },
        _ => None,
    }
}
