//! What an operator may know of sessions, and how one is sent away.

use super::{Dismissal, PeerOf, SessionCursor, SessionFilter, SessionInfo, SlowSession};
use crate::clock::Instant;
use crate::delivery::{Outlet, SlowConnection};
use crate::ids::SessionId;
use crate::login::LoginMethod;
use crate::mutation::{Mutation, planted};
use crate::session::{Session, State, error};
use crate::shard::{Effect, Shard};

impl Shard {
    /// Open sessions that `filter` admits, in the order of their connections' numbers, which they keep for life.
    pub(super) fn list_sessions(
        &self,
        now: Instant,
        filter: &SessionFilter,
        after: SessionCursor,
        limit: usize,
        peer: PeerOf<'_>,
    ) -> (Vec<SessionInfo>, Option<SessionCursor>) {
        if let Some(session) = filter.session {
            let known = self.outlets.get(&session).filter(|_| after == SessionCursor::default());
            let info = known.and_then(|outlet| self.session_info(now, filter, *outlet, peer));
            return (info.into_iter().collect(), None);
        }
        self.outlets_from(after, limit, |outlet| self.session_info(now, filter, outlet, peer))
    }

    /// What `look` has of connections, in the order of their numbers, `limit` at most.
    fn outlets_from<T>(
        &self,
        after: SessionCursor,
        limit: usize,
        look: impl Fn(Outlet) -> Option<T>,
    ) -> (Vec<T>, Option<SessionCursor>) {
        let mut page = Vec::new();
        let end = self.outlet_count();
        let last = end.min(after.0.saturating_add(LOOKED_AT_MAX));
        for index in after.0..last {
            if page.len() >= limit {
                return (page, Some(SessionCursor(index)));
            }
            page.extend(look(Outlet(index)));
        }
        (page, (last < end).then_some(SessionCursor(last)))
    }

    /// Open sessions that are meant, by their connections' numbers.
    fn dismissed(&self, dismissal: &Dismissal) -> (Vec<SessionId>, Option<SessionCursor>) {
        let Dismissal { filter, except, after, limit, .. } = dismissal;
        let meant = |outlet| {
            let session = self.session(outlet).filter(|session| filter.admits(session))?;
            (Some(session.id) != *except || planted(Mutation::KillerKilled)).then_some(session.id)
        };
        if let Some(session) = filter.session {
            let outlet = self.outlets.get(&session).filter(|_| *after == SessionCursor::default());
            return (outlet.and_then(|outlet| meant(*outlet)).into_iter().collect(), None);
        }
        self.outlets_from(*after, *limit, meant)
    }

    /// Sends them away.
    pub(super) fn dismiss_all(
        &mut self,
        now: Instant,
        dismissal: &Dismissal,
    ) -> (Vec<SessionId>, Option<SessionCursor>) {
        let (sessions, next) = self.dismissed(dismissal);
        self.is_hushed = dismissal.quietly;
        for session in &sessions {
            self.dismiss(now, *session, &dismissal.reason, dismissal.message.as_deref().unwrap_or_default());
        }
        self.is_hushed = false;
        (sessions, next)
    }

    /// The open sessions that most bytes wait for, the largest first.
    pub(super) fn slow_sessions(&self, now: Instant, limit: usize, peer: PeerOf<'_>) -> Vec<SlowSession> {
        let every = SessionFilter::default();
        let slowest = self.delivery.slowest(limit).into_iter();
        let told = |slow: SlowConnection| {
            Some(SlowSession {
                session: self.session_info(now, &every, slow.outlet, peer)?,
                messages: slow.messages,
                waiting_for: slow.since.map(|since| now.since(since)),
                dropped: slow.dropped,
                policy: slow.policy,
            })
        };
        slowest.filter_map(told).collect()
    }

    fn session_info(
        &self,
        now: Instant,
        filter: &SessionFilter,
        outlet: Outlet,
        peer: PeerOf<'_>,
    ) -> Option<SessionInfo> {
        let session = self.session(outlet).filter(|session| filter.admits(session))?;
        Some(SessionInfo {
            session: session.id,
            client: self.client_id(outlet),
            realm: session.realm,
            role: session.role,
            authid: session.authid().into(),
            method: session.principal.as_ref().map_or(LoginMethod::Anonymous, |principal| principal.method),
            provider: session.provider(),
            shard: self.id,
            protocol: session.encoding.protocol(),
            name: session.place().map(|place| Box::from(&*place.name)),
            serializer: session.encoding.named_serializer(),
            peer: peer(outlet),
            open_for: now.since(session.since),
            subscriptions: session.subscriptions.len(),
            registrations: session.registrations.len(),
            outbox_bytes: self.delivery.waiting_bytes(outlet) as u64,
        })
    }

    /// GOODBYE to a session of this shard, with words for people or none; false if there is none such. By the reason of a logout it is
    /// logged out first.
    pub(crate) fn dismiss(&mut self, now: Instant, session: SessionId, reason: &str, words: &str) -> bool {
        let Some(outlet) = self.outlets.get(&session).copied() else { return false };
        if reason == error::CLOSE_LOGOUT {
            self.log_out(now, outlet);
        }
        self.say_goodbye(now, outlet, reason, words, 1000);
        self.effects.push(Effect::Dismissed(outlet));
        true
    }
}

impl SessionFilter {
    fn admits(&self, session: &Session) -> bool {
        session.state == State::Open
            && self.realm.is_none_or(|realm| realm == session.realm || planted(Mutation::KilledElsewhere))
            && self.role.is_none_or(|role| role == session.role)
            && self.subscription.is_none_or(|id| session.subscriptions.binary_search(&id).is_ok())
            && self.registration.is_none_or(|id| session.registers(id))
            && self.authid.as_ref().is_none_or(|authid| **authid == *session.authid())
    }
}

/// What is told to who is sent away by a program or an operator.
pub(super) const BY_ADMINISTRATOR: &str = "an administrator ended this session";
/// Connections that one page looks at, open or not: a fraction of a millisecond.
const LOOKED_AT_MAX: u32 = 4_096;
