//! `wamp.session.*`: who is there, and who has to go.

use fanwire_codec::wamp2::Serializer;
use fanwire_core::api::{ApiAnswer, Ask, CLOSE_KILLED, Dismissal, SessionCursor, SessionFilter, SessionInfo};
use fanwire_core::directory::SessionEntry;
use fanwire_core::ids::{RoleId, SessionId, ShardId};
use serde::Serialize;

use super::words::{Arguments, Refused, Said, error};
use super::{Caller, Desk, breathe};

/// Ids of one list. A caller that wants more than this can count, and use the HTTP API's pages.
pub(super) const LIST_MAX: usize = 100_000;
/// Sessions that a shard sends away in one go.
const DISMISSED_AT_ONCE: usize = 256;

/// What others are told of a session (WAMP, "Session Meta API").
#[derive(Serialize)]
pub(super) struct SessionDetails<'a> {
    pub(super) session: u64,
    pub(super) authid: &'a str,
    pub(super) authrole: &'a str,
    pub(super) authmethod: &'static str,
    pub(super) authprovider: &'static str,
    pub(super) transport: Transport,
}

#[derive(Serialize)]
pub(super) struct Transport {
    pub(super) protocol: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) serializer: Option<&'static str>,
    /// Only for who may do more than ask.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) peer: Option<String>,
}

impl Desk {
    pub(super) async fn count_sessions(
        &self,
        caller: Caller,
        arguments: &Arguments<'_>,
    ) -> Result<Said, Refused> {
        let mut count = 0_u64;
        self.visit_sessions(caller, arguments, |_| {
            count += 1;
            true
        })
        .await?;
        Ok(Said::one(&count))
    }

    pub(super) async fn list_sessions(
        &self,
        caller: Caller,
        arguments: &Arguments<'_>,
    ) -> Result<Said, Refused> {
        let mut ids = Vec::new();
        let has_room = |session: SessionId| {
            ids.push(session.get());
            ids.len() <= LIST_MAX
        };
        self.visit_sessions(caller, arguments, has_room).await?;
        check_length(ids.len(), "sessions")?;
        Ok(Said::one(&ids))
    }

    /// Shows the sessions of the caller's realm that have one of the roles of the filter, until `each` has enough.
    async fn visit_sessions(
        &self,
        caller: Caller,
        arguments: &Arguments<'_>,
        mut each: impl FnMut(SessionId) -> bool,
    ) -> Result<(), Refused> {
        arguments.expect(1, &[])?;
        let roles = arguments.texts(0, "filter_authroles")?;
        // As many as the realm has at most, however long the caller's list is: each session is compared with them.
        let roles = roles.map(|names| {
            let mut roles: Vec<RoleId> =
                names.iter().filter_map(|name| self.role(caller.realm, name)).collect();
            roles.sort_unstable();
            roles.dedup();
            roles
        });
        let directory = self.shards.directory();
        let mut wants_more = true;
        for part in 0..directory.session_parts() {
            directory.visit_sessions(part, |session, entry| {
                let is_meant = entry.realm == caller.realm
                    && roles.as_ref().is_none_or(|roles| roles.contains(&entry.role));
                wants_more = wants_more && (!is_meant || each(session));
            });
            if !wants_more {
                break;
            }
            breathe().await;
        }
        Ok(())
    }

    pub(super) async fn get_session(
        &self,
        caller: Caller,
        arguments: &Arguments<'_>,
    ) -> Result<Said, Refused> {
        arguments.expect(1, &[])?;
        let id = arguments.id(0, "session")?;
        let (session, entry) = self.session_of(caller, id)?;
        let filter =
            SessionFilter { realm: Some(caller.realm), session: Some(session), ..SessionFilter::default() };
        let ask = Ask::Sessions { filter, after: SessionCursor::default(), limit: 1 };
        let ApiAnswer::Sessions { page, .. } = self.ask(entry.shard, ask).await? else {
            unreachable!("sessions are answered as such")
        };
        // It may have left meanwhile.
        let info = page.into_iter().next().ok_or_else(|| no_such_session(id))?;
        let core = self.core.load();
        Ok(Said::one(&details(&info, core.access.role_name(info.realm, info.role), caller.is_express)))
    }

    /// A session of the caller's realm. Those of others are as if they were not there.
    pub(super) fn session_of(&self, caller: Caller, id: u64) -> Result<(SessionId, SessionEntry), Refused> {
        let session = SessionId::new(id);
        let entry = session.and_then(|session| Some((session, self.shards.directory().session(session)?)));
        entry.filter(|(_, entry)| entry.realm == caller.realm).ok_or_else(|| no_such_session(id))
    }

    pub(super) async fn kill(&self, caller: Caller, arguments: &Arguments<'_>) -> Result<Said, Refused> {
        arguments.expect(1, &REASON)?;
        let id = arguments.id(0, "session")?;
        let (reason, message) = arguments.reason(CLOSE_KILLED)?;
        let (session, entry) = self.session_of(caller, id)?;
        let filter = SessionFilter { session: Some(session), ..SessionFilter::default() };
        let killed = self.dismiss_on(entry.shard, self.dismissal(caller, filter, reason, message)).await?;
        // It was the caller, or has left meanwhile.
        if killed.is_empty() { Err(no_such_session(id)) } else { Ok(Said::NOTHING) }
    }

    pub(super) async fn kill_by_authid(
        &self,
        caller: Caller,
        arguments: &Arguments<'_>,
    ) -> Result<Said, Refused> {
        arguments.expect(1, &REASON)?;
        let authid = Some(arguments.text(0, "the authid")?.into());
        let (reason, message) = arguments.reason(CLOSE_KILLED)?;
        let filter = SessionFilter { authid, ..SessionFilter::default() };
        let killed = self.dismiss_everywhere(self.dismissal(caller, filter, reason, message)).await?;
        Ok(Said::one(&killed.iter().map(|session| session.get()).collect::<Vec<_>>()))
    }

    pub(super) async fn kill_by_authrole(
        &self,
        caller: Caller,
        arguments: &Arguments<'_>,
    ) -> Result<Said, Refused> {
        arguments.expect(1, &REASON)?;
        let role = self.role(caller.realm, &arguments.text(0, "the authrole")?);
        let (reason, message) = arguments.reason(CLOSE_KILLED)?;
        // A role that there is not has no sessions.
        let Some(role) = role else { return Ok(Said::one(&0)) };
        let filter = SessionFilter { role: Some(role), ..SessionFilter::default() };
        let killed = self.dismiss_everywhere(self.dismissal(caller, filter, reason, message)).await?;
        Ok(Said::one(&killed.len()))
    }

    pub(super) async fn kill_all(&self, caller: Caller, arguments: &Arguments<'_>) -> Result<Said, Refused> {
        arguments.expect(0, &REASON)?;
        let (reason, message) = arguments.reason(CLOSE_KILLED)?;
        let dismissal = self.dismissal(caller, SessionFilter::default(), reason, message);
        // WAMP, "Session Meta API": nobody remains who would hear of it.
        let dismissal = Dismissal { quietly: true, ..dismissal };
        Ok(Said::one(&self.dismiss_everywhere(dismissal).await?.len()))
    }

    fn dismissal(
        &self,
        caller: Caller,
        filter: SessionFilter,
        reason: Box<str>,
        message: Option<Box<str>>,
    ) -> Dismissal {
        let (after, limit) = (SessionCursor::default(), DISMISSED_AT_ONCE);
        let filter = SessionFilter { realm: Some(caller.realm), ..filter };
        Dismissal { filter, except: caller.session, reason, message, quietly: false, after, limit }
    }

    async fn dismiss_everywhere(&self, dismissal: Dismissal) -> Result<Vec<SessionId>, Refused> {
        let mut all = Vec::new();
        for shard in self.each_shard() {
            all.extend(self.dismiss_on(shard, dismissal.clone()).await?);
        }
        Ok(all)
    }

    async fn dismiss_on(&self, shard: ShardId, mut dismissal: Dismissal) -> Result<Vec<SessionId>, Refused> {
        let mut all = Vec::new();
        loop {
            let ask = Ask::Dismiss(Box::new(dismissal.clone()));
            let ApiAnswer::Dismissed { sessions, next } = self.ask(shard, ask).await? else {
                unreachable!("dismissals are answered as such")
            };
            all.extend(sessions);
            match next {
                Some(after) => dismissal.after = after,
                None => return Ok(all),
            }
        }
    }
}

/// What is told to who has to go.
const REASON: [&str; 2] = ["reason", "message"];

fn details<'a>(info: &'a SessionInfo, authrole: &'a str, tells_peer: bool) -> SessionDetails<'a> {
    SessionDetails {
        session: info.session.get(),
        authid: &info.authid,
        authrole,
        authmethod: info.method.name(),
        authprovider: info.provider,
        transport: Transport {
            protocol: info.protocol,
            serializer: info.serializer.map(Serializer::name),
            peer: info.peer.filter(|_| tells_peer).map(|peer| peer.to_string()),
        },
    }
}

fn no_such_session(id: u64) -> Refused {
    Refused::new(error::NO_SUCH_SESSION, format!("there is no other session {id} in this realm"))
}

/// Refuses a list that is longer than a message should be.
pub(super) fn check_length(length: usize, what: &str) -> Result<(), Refused> {
    if length <= LIST_MAX {
        return Ok(());
    }
    let words = format!("there are more than {LIST_MAX} {what}, the most that a list has");
    Err(Refused::new(error::PAYLOAD_SIZE_EXCEEDED, words))
}
