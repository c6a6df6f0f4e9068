//! Pages of sessions, as the HTTP API and the admin port list them.

use std::fmt;
use std::str::FromStr;

use fanwire_codec::wamp2::Serializer;
use fanwire_core::access::Access;
use fanwire_core::api::{ApiAnswer, Ask, SessionCursor, SessionFilter, SessionInfo};
use fanwire_core::ids::ShardId;
use serde::Serialize;

/// Entries of a page if nobody says how many, and the most that may be asked for.
pub(crate) const PAGE: usize = 100;
pub(crate) const PAGE_MAX: usize = 1_000;
/// Questions to shards, or looks into the directory, for one page: what is rare may come on several.
pub(crate) const LOOKS_MAX: usize = 256;

/// Where a page begins: a shard, and a place there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Cursor {
    shard: u8,
    after: SessionCursor,
}

impl fmt::Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.shard, self.after.0)
    }
}

impl FromStr for Cursor {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let (shard, after) = text.split_once('-').ok_or(())?;
        let (shard, after) = (shard.parse().map_err(drop)?, after.parse().map_err(drop)?);
        Ok(Self { shard, after: SessionCursor(after) })
    }
}

/// Sessions from a place on, and where the next page begins, if there may be more.
///
/// # Errors
///
/// That of `ask`, which asks a shard.
pub(crate) async fn page<E, F: Future<Output = Result<ApiAnswer, E>>>(
    shards: usize,
    filter: SessionFilter,
    mut from: Cursor,
    limit: usize,
    ask: impl Fn(ShardId, Ask) -> F,
) -> Result<(Vec<SessionInfo>, Option<Cursor>), E> {
    let mut found = Vec::new();
    for look in 0.. {
        let Some(shard) = ShardId::new(from.shard).filter(|shard| shard.index() < shards) else { break };
        if found.len() >= limit || look >= LOOKS_MAX {
            return Ok((found, Some(from)));
        }
        let question =
            Ask::Sessions { filter: filter.clone(), after: from.after, limit: limit - found.len() };
        let ApiAnswer::Sessions { page, next } = ask(shard, question).await? else {
            unreachable!("sessions are answered as such")
        };
        found.extend(page);
        from = match next {
            Some(after) => Cursor { after, ..from },
            None => Cursor { shard: from.shard + 1, after: SessionCursor::default() },
        };
    }
    Ok((found, None))
}

/// A session as JSON says it.
#[derive(Serialize)]
pub(crate) struct Row<'a> {
    session: u64,
    client: String,
    realm: &'a str,
    authid: Box<str>,
    authrole: &'a str,
    authmethod: &'static str,
    protocol: &'static str,
    name: Option<Box<str>>,
    serializer: Option<&'static str>,
    peer: Option<String>,
    shard: u8,
    open_seconds: f64,
    subscriptions: usize,
    registrations: usize,
    outbox_bytes: u64,
}

impl<'a> Row<'a> {
    pub(crate) fn of(info: SessionInfo, access: &'a Access) -> Self {
        Self {
            session: info.session.get(),
            client: info.client.get().to_string(),
            realm: access.realm_name(info.realm),
            authid: info.authid,
            authrole: access.role_name(info.realm, info.role),
            authmethod: info.method.name(),
            protocol: info.protocol,
            name: info.name,
            serializer: info.serializer.map(Serializer::name),
            peer: info.peer.map(|peer| peer.to_string()),
            shard: info.shard.get(),
            // Milliseconds are enough, and shorter.
            open_seconds: info.open_for.as_millis() as f64 / 1e3,
            subscriptions: info.subscriptions,
            registrations: info.registrations,
            outbox_bytes: info.outbox_bytes,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cursors_are_two_numbers() {
        let cursor = Cursor { shard: 3, after: SessionCursor(17) };
        assert_eq!((cursor.to_string().as_str(), "3-17".parse()), ("3-17", Ok(cursor)));
        for wrong in ["", "3", "3-", "-1-2", "a-b", "256-1", "3-99999999999999999999"] {
            assert_eq!(wrong.parse::<Cursor>(), Err(()), "{wrong}");
        }
    }
}
