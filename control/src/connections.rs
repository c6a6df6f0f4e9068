//! `/connections`: who is connected, in all realms; a page at a time.

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use fanwire_core::CoreConfig;
use fanwire_core::api::{ApiAnswer, ApiRequest, Ask, SessionFilter};
use fanwire_core::ids::ShardId;
use serde::Serialize;
use tokio::sync::oneshot;
use tokio::time::timeout;

use crate::Shards;
use crate::sessions::{Cursor, PAGE, PAGE_MAX, Row, page};

/// For each shard that is asked.
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
        let (limit, from) = understand(query).map_err(NoPage::Query)?;
        let (count, filter) = (self.shards.count(), SessionFilter::default());
        let (found, next) = page(count, filter, from, limit, |shard, ask| self.ask(shard, ask)).await?;
        let core = self.core.load_full();
        let connections = found.into_iter().map(|info| Row::of(info, &core.access)).collect();
        let page = Page { connections, next: next.map(|cursor| cursor.to_string()) };
        Ok(serde_json::to_string(&page).expect("rows are plain values") + "\n")
    }

    async fn ask(&self, shard: ShardId, ask: Ask) -> Result<ApiAnswer, NoPage> {
        let silent = || NoPage::Silent(format!("shard {} did not answer\n", shard.get()));
        let (answer, answered) = oneshot::channel();
        let reply = Box::new(move |said| drop(answer.send(said)));
        self.shards.ask(shard, ApiRequest { ask, reply }).map_err(|_| silent())?;
        timeout(ANSWER_TIME, answered).await.ok().and_then(Result::ok).ok_or_else(silent)
    }
}

/// How many, and from where on.
fn understand(query: &str) -> Result<(usize, Cursor), String> {
    let mut wanted = (PAGE, Cursor::default());
    for part in query.split('&').filter(|part| !part.is_empty()) {
        match part.split_once('=') {
            Some(("limit", number)) => {
                let limit = number.parse().ok().filter(|limit| (1..=PAGE_MAX).contains(limit));
                wanted.0 = limit.ok_or_else(|| format!("limit={number}: a number from 1 to {PAGE_MAX}"))?;
            }
            Some(("cursor", text)) => {
                wanted.1 =
                    text.parse().map_err(|()| format!("cursor={text}: take it from the page before"))?;
            }
            _ => return Err(format!("{part}: only limit=N and cursor=C are known")),
        }
    }
    Ok(wanted)
}
