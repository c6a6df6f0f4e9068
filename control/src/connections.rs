//! `/connections`: who is connected, in all realms; a page at a time.

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use fanwire_core::CoreConfig;
use fanwire_core::api::{ApiAnswer, ApiRequest, Ask, SessionCursor, SessionFilter, SessionInfo};
use fanwire_core::ids::ShardId;
use serde::Serialize;
use tokio::sync::oneshot;
use tokio::time::timeout;

use crate::Shards;

/// Entries of a page if nobody says how many, and the most that may be asked for.
const PAGE: usize = 100;
const PAGE_MAX: usize = 1_000;
/// Questions to shards for one page: what is rare may come on several.
const LOOKS_MAX: usize = 256;
/// For each of them.
const ANSWER_TIME: Duration = Duration::from_secs(2);

/// Why there is no page.
pub enum NoPage {
    /// The query cannot be understood.
    Query(String),
    /// A shard did not answer.
    Silent(String),
}

/// Asks the shards.
pub struct Connections {
    shards: Arc<dyn Shards>,
    core: Arc<ArcSwap<CoreConfig>>,
}

#[derive(Serialize)]
struct Page<'a> {
    connections: Vec<Row<'a>>,
    next: Option<String>,
}

/// One of them, as JSON says it.
#[derive(Serialize)]
struct Row<'a> {
    session: u64,
    name: Option<Box<str>>,
    protocol: &'static str,
    realm: &'a str,
    authid: Box<str>,
    authrole: &'a str,
    peer: Option<String>,
    shard: u8,
    open_seconds: f64,
    subscriptions: usize,
}

struct Wanted {
    limit: usize,
    shard: u8,
    after: SessionCursor,
}

impl Connections {
    /// `core` has the names of realms and roles.
    pub fn new(shards: Arc<dyn Shards>, core: Arc<ArcSwap<CoreConfig>>) -> Self {
        Self { shards, core }
    }

    /// What `query` asks for, `limit=N` and `cursor=C`, as JSON.
    ///
    /// # Errors
    ///
    /// Words for a query that cannot be understood, and where a shard does not answer.
    pub async fn answer(&self, query: &str) -> Result<String, NoPage> {
        let Wanted { limit, mut shard, mut after } = understand(query).map_err(NoPage::Query)?;
        let (mut found, mut next) = (Vec::new(), None);
        for look in 0.. {
            let id = ShardId::new(shard).filter(|id| id.index() < self.shards.count());
            let Some(id) = id else { break };
            if found.len() >= limit || look >= LOOKS_MAX {
                next = Some(format!("{shard}-{}", after.0));
                break;
            }
            let (page, more) = self.ask(id, after, limit - found.len()).await?;
            found.extend(page);
            (shard, after) = more.map_or((shard + 1, SessionCursor::default()), |more| (shard, more));
        }
        let core = self.core.load_full();
        let connections = found.into_iter().map(|info| row(&core, info)).collect();
        let json = serde_json::to_string(&Page { connections, next }).expect("rows are plain values");
        Ok(json + "\n")
    }

    async fn ask(
        &self,
        shard: ShardId,
        after: SessionCursor,
        limit: usize,
    ) -> Result<(Vec<SessionInfo>, Option<SessionCursor>), NoPage> {
        let silent = || NoPage::Silent(format!("shard {} did not answer\n", shard.get()));
        let (answer, answered) = oneshot::channel();
        let reply = Box::new(move |said| drop(answer.send(said)));
        let ask = Ask::Sessions { filter: SessionFilter::default(), after, limit };
        self.shards.ask(shard, ApiRequest { ask, reply }).map_err(|_| silent())?;
        match timeout(ANSWER_TIME, answered).await {
            Ok(Ok(ApiAnswer::Sessions { page, next })) => Ok((page, next)),
            _ => Err(silent()),
        }
    }
}

fn row(core: &CoreConfig, info: SessionInfo) -> Row<'_> {
    Row {
        session: info.session.get(),
        name: info.name,
        protocol: info.protocol,
        realm: core.access.realm_name(info.realm),
        authid: info.authid,
        authrole: core.access.role_name(info.realm, info.role),
        peer: info.peer.map(|peer| peer.to_string()),
        shard: info.shard.get(),
        open_seconds: info.open_for.as_millis() as f64 / 1e3,
        subscriptions: info.subscriptions,
    }
}

fn understand(query: &str) -> Result<Wanted, String> {
    let mut wanted = Wanted { limit: PAGE, shard: 0, after: SessionCursor::default() };
    for part in query.split('&').filter(|part| !part.is_empty()) {
        match part.split_once('=') {
            Some(("limit", number)) => {
                let limit = number.parse().ok().filter(|limit| (1..=PAGE_MAX).contains(limit));
                wanted.limit =
                    limit.ok_or_else(|| format!("limit={number}: a number from 1 to {PAGE_MAX}"))?;
            }
            Some(("cursor", text)) => {
                let parts = text.split_once('-').and_then(|(shard, after)| {
                    Some((shard.parse().ok()?, SessionCursor(after.parse().ok()?)))
                });
                (wanted.shard, wanted.after) =
                    parts.ok_or_else(|| format!("cursor={text}: take it from the page before"))?;
            }
            _ => return Err(format!("{part}: only limit=N and cursor=C are known")),
        }
    }
    Ok(wanted)
}
