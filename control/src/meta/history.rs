//! `wamp.subscription.get_events`: what was published before (WAMP, "Event History").
//!
//! ```text
//! id ─▶ topic or pattern ─▶ pages of the directory ─▶ what the caller may hear ─▶ filters ─▶ at most LIMIT events, or BYTES
//! ```
//!
//! A filter by a publication needs its place in the order, which is looked for first. What the caller may not hear is, for it,
//! not there: no filter finds it.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::BytesMut;
use fanwire_codec::payload::OwnedPayload;
use fanwire_codec::wamp2::{
    EventDetails, ID_MAX, PastEvent, Payload, Serializer, history_arguments, write_past_event,
};
use fanwire_core::access::{Access, Action};
use fanwire_core::api::{ApiAnswer, Ask, SessionCursor, SessionFilter, SessionInfo};
use fanwire_core::directory::{HistoryCursor, PastPublication, TopicInfo};
use fanwire_core::ids::{RoleId, SubscriptionId};
use fanwire_core::uri::{self, MatchPolicy, UriRule};

use super::words::{Arguments, Refused, Said, error, parse, whole};
use super::{Caller, Desk, breathe};
use crate::calendar;

/// Events of one answer, and of one that asks for more.
const LIMIT: usize = 1_000;
/// Bytes of one answer, but for the last event. A caller's outbox has a mebibyte by default.
const BYTES: usize = 256 << 10;
/// By how much a publication may be said to be older than one that was kept before: shards look at the clock once in a turn.
const SKEW: Duration = Duration::from_secs(2);
/// Events of one look into the directory.
const PAGE: usize = 256;

const KEYWORDS: [&str; 11] = [
    "reverse",
    "limit",
    "from_time",
    "after_time",
    "before_time",
    "until_time",
    "topic",
    "from_publication",
    "after_publication",
    "before_publication",
    "until_publication",
];

/// What is asked for, of the events of a subscription.
#[derive(Debug, Default, PartialEq, Eq)]
struct Query {
    reverse: bool,
    limit: Option<usize>,
    times: Times,
    topic: Option<String>,
    from: Option<u64>,
    after: Option<u64>,
    before: Option<u64>,
    until: Option<u64>,
}

/// To the millisecond where events are compared, as they are told.
#[derive(Debug, Default, PartialEq, Eq)]
struct Times {
    from: Option<SystemTime>,
    after: Option<SystemTime>,
    before: Option<SystemTime>,
    until: Option<SystemTime>,
}

/// Which numbers are meant, both included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Span {
    first: u64,
    last: u64,
}

impl Query {
    fn read(arguments: &Arguments<'_>) -> Result<Self, Refused> {
        arguments.expect(1, &KEYWORDS)?;
        let boolean = || "reverse must be true or false".to_owned();
        let reverse: Option<bool> =
            arguments.keyword("reverse").map(|value| parse(value, boolean)).transpose()?;
        let topic = || "topic must be a URI, a string".to_owned();
        let topic: Option<String> =
            arguments.keyword("topic").map(|value| parse(value, topic)).transpose()?;
        if let Some(topic) = &topic {
            uri::check_topic(topic, UriRule::Loose)
                .map_err(|why| Refused::new(error::INVALID_URI, format!("topic {topic:?}: {why}")))?;
        }
        let limit = positive(arguments, "limit")?.map(|limit| usize::try_from(limit).unwrap_or(usize::MAX));
        Ok(Self {
            reverse: reverse.unwrap_or(false),
            limit,
            times: Times {
                from: time(arguments, "from_time")?,
                after: time(arguments, "after_time")?,
                before: time(arguments, "before_time")?,
                until: time(arguments, "until_time")?,
            },
            topic,
            from: positive(arguments, "from_publication")?,
            after: positive(arguments, "after_publication")?,
            before: positive(arguments, "before_publication")?,
            until: positive(arguments, "until_publication")?,
        })
    }

    /// The publications whose places in the order are needed.
    fn anchors(&self) -> impl Iterator<Item = u64> {
        [self.from, self.after, self.before, self.until].into_iter().flatten()
    }

    /// Which numbers are meant, once those of the publications are known. `None`: there cannot be any.
    fn span(&self, number_of: impl Fn(u64) -> u64) -> Option<Span> {
        let first = [self.from.map(&number_of), self.after.map(|after| number_of(after) + 1)];
        let last = [self.until.map(&number_of), self.before.map(|before| number_of(before) - 1)];
        let first = first.into_iter().flatten().max().unwrap_or(0);
        let last = last.into_iter().flatten().min().unwrap_or(u64::MAX);
        (first <= last).then_some(Span { first, last })
    }
}

impl Times {
    fn admit(&self, at: SystemTime) -> bool {
        let Self { from, after, before, until } = self;
        from.is_none_or(|from| at >= from)
            && after.is_none_or(|after| at > after)
            && before.is_none_or(|before| at < before)
            && until.is_none_or(|until| at <= until)
    }

    /// Whether none of these times comes any more behind an event of this one.
    fn are_past(&self, at: SystemTime, reverse: bool) -> bool {
        let Self { from, after, before, until } = self;
        if reverse {
            [from, after].into_iter().flatten().any(|first| at + SKEW < *first)
        } else {
            [before, until].into_iter().flatten().any(|last| at > *last + SKEW)
        }
    }
}

fn positive(arguments: &Arguments<'_>, name: &str) -> Result<Option<u64>, Refused> {
    let words = || format!("{name} must be a whole number from 1 to 2^53");
    let Some(value) = arguments.keyword(name) else { return Ok(None) };
    let number = whole(value.get()).filter(|number| (1..=ID_MAX).contains(number));
    number.map(Some).ok_or_else(|| Refused::argument(words()))
}

fn time(arguments: &Arguments<'_>, name: &str) -> Result<Option<SystemTime>, Refused> {
    let Some(value) = arguments.keyword(name) else { return Ok(None) };
    let words = || format!("{name} must be a point of time such as \"2026-11-22T07:15:00.000Z\" (RFC 3339)");
    let text: String = parse(value, words)?;
    calendar::read(&text).map(Some).ok_or_else(|| Refused::argument(words()))
}

/// When it was published, as it is told.
fn time_of(event: &PastPublication) -> SystemTime {
    let since = fanwire_io::wall_clock(event.at).duration_since(UNIX_EPOCH).unwrap_or_default();
    UNIX_EPOCH + Duration::from_millis(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}

/// Who asks, as far as lists of receivers go.
struct Listener<'a> {
    access: &'a Access,
    caller: Caller,
    role: RoleId,
    /// `None`: a program, by API.
    authid: Option<Box<str>>,
    now: fanwire_core::Instant,
}

impl Listener<'_> {
    /// Whether it may hear this.
    fn may_hear(&self, event: &PastPublication) -> bool {
        let Self { access, caller, role, .. } = self;
        let kept = access.history(caller.realm, &event.topic);
        kept.is_some_and(|bounds| !bounds.is_over(event.at, self.now))
            && access.authorize(caller.realm, *role, Action::Subscribe, &event.topic)
            && event.is_for(*role, self.authid.as_deref())
    }
}

/// The events of an answer, in the caller's serializer.
struct Answer {
    serializer: Serializer,
    subscription: u64,
    /// Whether events are told which topic they are of.
    tells_topic: bool,
    events: BytesMut,
    count: u32,
}

impl Answer {
    fn add(&mut self, event: &PastPublication) {
        // What has no form for the caller it would not have heard either.
        let Ok(payload) = event.payload.transcode(self.serializer) else { return };
        let publisher = event.publisher.as_ref();
        let details = EventDetails {
            topic: self.tells_topic.then(|| (&*event.topic).into()),
            publisher: publisher.map(|identity| identity.session.get()),
            publisher_authid: publisher.map(|identity| (&*identity.authid).into()),
            publisher_authrole: publisher.map(|identity| (&*identity.authrole).into()),
            trust_level: event.trust.map(|level| u64::from(level.0)),
            ..EventDetails::default()
        };
        let past = PastEvent {
            timestamp: &calendar::to_the_millisecond(time_of(event)),
            subscription: self.subscription,
            publication: event.publication.get(),
            details,
            payload: payload.view(),
        };
        write_past_event(self.serializer, &past, self.count == 0, &mut self.events);
        self.count += 1;
    }

    fn said(self, more: bool) -> Said {
        let args = history_arguments(self.serializer, self.count, &self.events);
        let args = Some(&args[..]);
        // {"more": true}
        let kwargs = more.then_some(match self.serializer {
            Serializer::Json => &br#"{"more":true}"#[..],
            Serializer::MsgPack => b"\x81\xa4more\xc3",
            Serializer::Cbor => b"\xa1\x64more\xf5",
        });
        Said(Some(OwnedPayload::copy_from(self.serializer, &Payload { args, kwargs, passthru: None })))
    }
}

impl Desk {
    /// `serializer`: the caller's, in which the answer is written, so that payloads need no detour.
    pub(super) async fn get_events(
        &self,
        caller: Caller,
        role: RoleId,
        serializer: Serializer,
        arguments: &Arguments<'_>,
    ) -> Result<Said, Refused> {
        let query = Query::read(arguments)?;
        let info = self.subscription(caller, arguments)?;
        let core = self.core.load_full();
        let access = &core.access;
        if !access.authorize_pattern(caller.realm, role, Action::Subscribe, info.policy, &info.uri) {
            let role = access.role_name(caller.realm, role);
            let words = format!(
                "role \"{role}\" may not subscribe to {}, and so not ask what was published",
                info.uri
            );
            return Err(Refused::new(error::NOT_AUTHORIZED, words));
        }
        if access.asks_about_subscription(caller.realm, role, info.policy, &info.uri)
            && self.session_info(caller, Some(info.id)).await?.is_none()
        {
            let words = format!("a hook decides who may subscribe to {}: subscribe before you ask", info.uri);
            return Err(Refused::new(error::NOT_AUTHORIZED, words));
        }
        let authid = self.session_info(caller, None).await?.map(|session| session.authid);
        let listener = Listener { access, caller, role, authid, now: fanwire_io::now() };
        let numbers = self.find(&info, &listener, query.anchors().collect()).await?;
        let number_of =
            |anchor| numbers.iter().find(|(known, _)| *known == anchor).map_or(0, |(_, number)| *number);
        let answer = Answer {
            serializer,
            subscription: info.id.get(),
            tells_topic: info.policy != MatchPolicy::Exact,
            events: BytesMut::new(),
            count: 0,
        };
        match query.span(number_of) {
            None => Ok(answer.said(false)),
            Some(span) => Ok(self.collect(&info, &listener, &query, span, answer).await),
        }
    }

    /// What the shards know of the caller, if it is a session, and if it holds this subscription.
    async fn session_info(
        &self,
        caller: Caller,
        subscription: Option<SubscriptionId>,
    ) -> Result<Option<SessionInfo>, Refused> {
        let Some(session) = caller.session else { return Ok(None) };
        let gone = || Refused::new(error::NO_SUCH_SESSION, "the caller has left".to_owned());
        let entry = self.shards.directory().session(session).ok_or_else(gone)?;
        let filter = SessionFilter { session: Some(session), subscription, ..SessionFilter::default() };
        let ask = Ask::Sessions { filter, after: SessionCursor::default(), limit: 1 };
        let ApiAnswer::Sessions { page, .. } = self.ask(entry.shard, ask).await? else {
            unreachable!("sessions are answered as such")
        };
        Ok(page.into_iter().next())
    }

    /// The numbers of publications, if the caller may know of them. All are looked for at once: it takes a walk over what is kept.
    async fn find(
        &self,
        info: &TopicInfo,
        listener: &Listener<'_>,
        mut wanted: Vec<u64>,
    ) -> Result<Vec<(u64, u64)>, Refused> {
        wanted.sort_unstable();
        wanted.dedup();
        let mut found = Vec::new();
        let mut from = Some(HistoryCursor::Newest);
        while let Some(cursor) = from.filter(|_| !wanted.is_empty()) {
            let page = self.shards.directory().history(info.realm, (info.policy, &info.uri), cursor, PAGE);
            for (number, event) in &page.events {
                let publication = event.publication.get();
                if let Some(place) = wanted.iter().position(|wanted| *wanted == publication)
                    && listener.may_hear(event)
                {
                    wanted.swap_remove(place);
                    found.push((publication, *number));
                }
            }
            from = page.next;
            breathe().await;
        }
        match wanted.first() {
            None => Ok(found),
            Some(missing) => {
                let subscription = info.id.get();
                let words = format!(
                    "publication {missing} is not in the history of subscription {subscription}, or not any more"
                );
                Err(Refused::new(error::NO_SUCH_PUBLICATION, words))
            }
        }
    }

    async fn collect(
        &self,
        info: &TopicInfo,
        listener: &Listener<'_>,
        query: &Query,
        span: Span,
        mut answer: Answer,
    ) -> Said {
        // A topic alone has a list of its own.
        let meant = match &query.topic {
            Some(topic) if !uri::matches(info.policy, &info.uri, topic) => return answer.said(false),
            Some(topic) => (MatchPolicy::Exact, topic.as_str()),
            None => (info.policy, &*info.uri),
        };
        let wanted = query.limit.unwrap_or(usize::MAX);
        let mut from = Some(match (query.reverse, span) {
            (false, Span { first: 0, .. }) => HistoryCursor::Oldest,
            (false, Span { first, .. }) => HistoryCursor::After(first - 1),
            (true, Span { last: u64::MAX, .. }) => HistoryCursor::Newest,
            (true, Span { last, .. }) => HistoryCursor::Before(last + 1),
        });
        while let Some(cursor) = from {
            let page = self.shards.directory().history(info.realm, meant, cursor, PAGE);
            for (number, event) in &page.events {
                let at = time_of(event);
                if *number < span.first || *number > span.last || query.times.are_past(at, query.reverse) {
                    return answer.said(false);
                }
                if !query.times.admit(at) || !listener.may_hear(event) {
                    continue;
                }
                if answer.count as usize >= wanted {
                    return answer.said(false);
                }
                if answer.count as usize >= LIMIT || answer.events.len() >= BYTES {
                    return answer.said(true);
                }
                answer.add(event);
            }
            from = page.next;
            breathe().await;
        }
        answer.said(false)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn query(kwargs: &str) -> Result<Query, Refused> {
        let kwargs = Some(kwargs.as_bytes());
        let payload = OwnedPayload::checked(Serializer::Json, Some(b"[7]"), kwargs).expect("a dictionary");
        Query::read(&Arguments::read(&payload).expect("they are there"))
    }

    /// By the letter, for the numbers of five events.
    #[test]
    fn spans_are_what_all_filters_by_publication_admit() {
        let values = [None, Some(1), Some(2), Some(3), Some(4), Some(5)];
        for from in values {
            for after in values {
                for before in values {
                    for until in values {
                        let query = Query { from, after, before, until, ..Query::default() };
                        let span = query.span(|number| number);
                        for number in 1..=5 {
                            let is_meant = from.is_none_or(|from| number >= from)
                                && after.is_none_or(|after| number > after)
                                && before.is_none_or(|before| number < before)
                                && until.is_none_or(|until| number <= until);
                            let is_in = span.is_some_and(|span| (span.first..=span.last).contains(&number));
                            assert_eq!(is_in, is_meant, "{number} of {query:?}");
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn times_include_what_they_say() {
        let at = |text| calendar::read(text).expect("a time");
        let query = query(
            r#"{"from_time":"2026-01-01T00:00:00Z","until_time":"2026-01-01T01:00:02.500+01:00","reverse":false}"#,
        )
        .expect("it is right");
        for (text, is_meant) in [
            ("2025-12-31T23:59:59.999Z", false),
            ("2026-01-01T00:00:00.000Z", true),
            ("2026-01-01T00:00:02.500Z", true),
            ("2026-01-01T00:00:02.501Z", false),
        ] {
            assert_eq!(query.times.admit(at(text)), is_meant, "{text}");
        }
        let open = Times {
            after: Some(at("2026-01-01T00:00:00Z")),
            before: Some(at("2026-01-01T00:00:01Z")),
            ..Times::default()
        };
        for (text, forward, back) in [
            ("2025-12-31T23:59:57.999Z", false, true),
            ("2025-12-31T23:59:58.000Z", false, false),
            ("2026-01-01T00:00:00.500Z", false, false),
            ("2026-01-01T00:00:03.000Z", false, false),
            ("2026-01-01T00:00:03.001Z", true, false),
        ] {
            assert_eq!(open.are_past(at(text), false), forward, "{text}");
            assert_eq!(open.are_past(at(text), true), back, "{text}");
        }
        for (text, is_meant) in [
            ("2026-01-01T00:00:00.000Z", false),
            ("2026-01-01T00:00:00.001Z", true),
            ("2026-01-01T00:00:00.999Z", true),
            ("2026-01-01T00:00:01.000Z", false),
        ] {
            assert_eq!(open.admit(at(text)), is_meant, "{text}");
        }
    }

    #[test]
    fn what_is_no_filter_is_refused() {
        for kwargs in [
            r#"{"limit":0}"#,
            r#"{"limit":9007199254740993}"#,
            r#"{"limit":[1]}"#,
            r#"{"reverse":"yes"}"#,
            r#"{"after_time":"2026-01-01"}"#,
            r#"{"after_time":"2026-13-01T00:00:00Z"}"#,
            r#"{"after_publication":"1"}"#,
            r#"{"unknown":1}"#,
        ] {
            assert_eq!(query(kwargs).expect_err(kwargs).uri, error::INVALID_ARGUMENT, "{kwargs}");
        }
        assert_eq!(query(r#"{"topic":"a b"}"#).expect_err("a space").uri, error::INVALID_URI);
        assert_eq!(query("{}"), Ok(Query::default()));
        let large =
            query(r#"{"limit":2.0,"after_publication":6120943881170022.0}"#).expect("doubles of JavaScript");
        assert_eq!((large.limit, large.after), (Some(2), Some(6_120_943_881_170_022)));
    }
}
