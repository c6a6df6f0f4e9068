//! `/slow`: which clients do not read as fast as they are sent to, those with most bytes waiting first.

use std::fmt::Write;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use fanwire_core::CoreConfig;
use fanwire_core::api::{ApiAnswer, ApiRequest, Ask, SlowSession};
use fanwire_core::ids::ShardId;
use serde::Serialize;
use tokio::sync::oneshot;
use tokio::time::{Instant, timeout_at};

use crate::Shards;

/// Clients that are listed if nobody says how many, and the most that may be asked for.
const LISTED: usize = 20;
const LISTED_MAX: usize = 1_000;
/// Shards that do not answer by then are left out.
const ANSWER_TIME: Duration = Duration::from_secs(2);

/// Why there is no list.
pub enum NoList {
    /// The query cannot be understood.
    Query(String),
    /// Shards did not answer, so that it would be incomplete, and nobody who reads JSON would see it.
    Silent(String),
}

/// Asks the shards.
pub struct SlowList {
    shards: Arc<dyn Shards>,
    core: Arc<ArcSwap<CoreConfig>>,
}

/// One client, as JSON says it.
#[derive(Serialize)]
struct Row<'a> {
    session: u64,
    realm: &'a str,
    authid: &'a str,
    authrole: &'a str,
    peer: Option<String>,
    shard: u8,
    bytes: u64,
    messages: u32,
    waiting_seconds: Option<f64>,
    dropped: u64,
    policy: &'static str,
}

impl SlowList {
    /// `core` has the names of realms and roles.
    pub fn new(shards: Arc<dyn Shards>, core: Arc<ArcSwap<CoreConfig>>) -> Self {
        Self { shards, core }
    }

    /// What `query` asks for, `limit=N` and `format=text`: the type of the answer and the answer. A text says which shards are
    /// missing.
    ///
    /// # Errors
    ///
    /// Words for a query that cannot be understood, and for a list in JSON that would be incomplete.
    pub async fn answer(&self, query: &str) -> Result<(&'static str, String), NoList> {
        let (limit, as_text) = understand(query).map_err(NoList::Query)?;
        let (slow, silent) = self.gather(limit).await;
        let silence = match silent {
            0 => String::new(),
            _ => format!("{silent} of {} shards did not answer\n", self.shards.count()),
        };
        let core = self.core.load_full();
        let rows: Vec<Row<'_>> = slow.iter().map(|slow| row(&core, slow)).collect();
        if as_text {
            let table = if rows.is_empty() && silent > 0 { String::new() } else { table(&rows) };
            Ok(("text/plain; charset=utf-8", table + &silence))
        } else if silent > 0 {
            Err(NoList::Silent(silence))
        } else {
            let json = serde_json::to_string_pretty(&rows).expect("rows are plain values");
            Ok(("application/json", json + "\n"))
        }
    }

    /// All shards are asked at once. Also says how many did not answer in time, or had no room for the question.
    async fn gather(&self, limit: usize) -> (Vec<SlowSession>, usize) {
        let mut answers = Vec::new();
        for shard in (0..self.shards.count()).filter_map(|index| ShardId::new(u8::try_from(index).ok()?)) {
            let (answer, answered) = oneshot::channel();
            let reply = Box::new(move |said| drop(answer.send(said)));
            if self.shards.ask(shard, ApiRequest { ask: Ask::Slow { limit }, reply }).is_ok() {
                answers.push(answered);
            }
        }
        let deadline = Instant::now() + ANSWER_TIME;
        let (mut slow, mut answered) = (Vec::new(), 0);
        for answer in answers {
            if let Ok(Ok(ApiAnswer::Slow(sessions))) = timeout_at(deadline, answer).await {
                slow.extend(sessions);
                answered += 1;
            }
        }
        slow.sort_by_key(|slow| (std::cmp::Reverse(slow.session.outbox_bytes), slow.session.session.get()));
        slow.truncate(limit);
        (slow, self.shards.count() - answered)
    }
}

fn row<'a>(core: &'a CoreConfig, slow: &'a SlowSession) -> Row<'a> {
    let session = &slow.session;
    Row {
        session: session.session.get(),
        realm: core.access.realm_name(session.realm),
        authid: &session.authid,
        authrole: core.access.role_name(session.realm, session.role),
        peer: session.peer.map(|peer| peer.to_string()),
        shard: session.shard.get(),
        bytes: session.outbox_bytes,
        messages: slow.messages,
        waiting_seconds: slow.waiting_for.map(|time| time.as_secs_f64()),
        dropped: slow.dropped,
        policy: slow.policy.name(),
    }
}

/// How many to list, and whether as text.
fn understand(query: &str) -> Result<(usize, bool), String> {
    let (mut limit, mut as_text) = (LISTED, false);
    for part in query.split('&').filter(|part| !part.is_empty()) {
        match part.split_once('=') {
            Some(("limit", number)) => {
                let most = number.parse().ok().filter(|limit| (1..=LISTED_MAX).contains(limit));
                limit = most.ok_or_else(|| format!("limit={number}: a number from 1 to {LISTED_MAX}"))?;
            }
            Some(("format", "text")) => as_text = true,
            Some(("format", "json")) => as_text = false,
            _ => return Err(format!("{part}: only limit=N and format=json or format=text are known")),
        }
    }
    Ok((limit, as_text))
}

/// For people.
fn table(rows: &[Row<'_>]) -> String {
    if rows.is_empty() {
        return "nobody is slow\n".to_owned();
    }
    let mut out = String::new();
    let head = ("BYTES", "MESSAGES", "WAITING", "DROPPED", "POLICY", "SESSION", "REALM", "AUTHID");
    let (bytes, messages, waiting, dropped, policy, session, realm, authid) = head;
    let mut line =
        |row: std::fmt::Arguments<'_>| writeln!(out, "{row}").expect("writing to a string succeeds");
    line(format_args!(
        "{bytes:>10} {messages:>8} {waiting:>8} {dropped:>9} {policy:<15} {session:>16} {realm:<16} {authid:<24} PEER"
    ));
    for row in rows {
        let Row { bytes, messages, dropped, policy, session, realm, authid, .. } = row;
        let waiting = row.waiting_seconds.map_or_else(|| "-".to_owned(), |seconds| format!("{seconds:.1}s"));
        let peer = row.peer.as_deref().unwrap_or("-");
        line(format_args!(
            "{bytes:>10} {messages:>8} {waiting:>8} {dropped:>9} {policy:<15} {session:>16} {realm:<16} {authid:<24} {peer}"
        ));
    }
    out
}
