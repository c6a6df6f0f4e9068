//! `POST /v1/mesh/publish`, `/v1/mesh/send` and `/v1/conn/disconnect`, and what tells clients where else to ask.

use bytes::Bytes;
use fanwire_codec::http::RequestHead;
use fanwire_codec::payload::OwnedPayload;
use fanwire_codec::wamp2::ReceiverLists;
use fanwire_core::api::{ApiAnswer, ApiPublication, ApiRefusal, Ask, CLOSE_KILLED, Order, Receipt};
use fanwire_core::api::{SessionCursor, SessionFilter};
use fanwire_core::ids::{SessionId, ShardId};
use serde::Serialize;

use super::super::connection::{Connection, Failure, Response};
use super::super::error::{ApiError, Code};
use super::super::keys::Principal;
use super::super::publish::json;
use super::super::{ANSWER_TIME, Api, Caller, Reply, fields, figures};
use super::words::{self, Answer, Target};

/// What `GET /version` says: the versions of the API that are spoken.
pub(in crate::api) const VERSION: &str = r#"{"apis":["v1"]}"#;

#[derive(Serialize)]
struct Nodes<'a> {
    nodes: [Node<'a>; 1],
}

#[derive(Serialize)]
struct Node<'a> {
    id: u64,
    api_server: &'a str,
}

/// What `GET /v1/nodes` says: this node, where the client has found it.
pub(in crate::api) fn nodes(head: &RequestHead<'_>) -> Bytes {
    json(&Nodes { nodes: [Node { id: words::NODE, api_server: head.host().unwrap_or_default() }] })
}

impl Api {
    pub(in crate::api) async fn mesh_publish(
        &self,
        connection: &mut Connection,
        caller: &Caller<'_>,
        head: &RequestHead<'_>,
    ) -> Result<Reply, Failure> {
        let (key, body) = self.request(connection, caller, head).await?;
        let work = async {
            let (topic, payload) = words::publication(fields::text(&body)?)?;
            let publication = self.mesh_publication(caller.principal, topic, payload)?;
            let mut outcomes = self.give(caller, vec![publication]).await?;
            let reached = reached(outcomes.pop().expect("one for each"))?;
            figures::add(&self.figures.publications, 1);
            Ok(Answer::Reached(reached).body().freeze())
        };
        self.once(key, b"mesh.publish", &body, work).await
    }

    /// A publication. The counts of answers are those of receipts.
    pub(super) fn mesh_publication(
        &self,
        principal: &Principal,
        topic: Box<str>,
        payload: OwnedPayload,
    ) -> Result<ApiPublication, ApiError> {
        Ok(ApiPublication {
            actor: self.mesh_actor(principal)?,
            topic,
            payload,
            plain: true,
            receivers: ReceiverLists::default(),
            conflate_key: None,
            retain: false,
            receipt: true,
            from: None,
        })
    }

    pub(in crate::api) async fn mesh_send(
        &self,
        connection: &mut Connection,
        caller: &Caller<'_>,
        head: &RequestHead<'_>,
    ) -> Result<Reply, Failure> {
        let (key, body) = self.request(connection, caller, head).await?;
        let work = async {
            let (client, kind, bytes) = words::sending(fields::text(&body)?)?;
            self.check_manages(caller.principal)?;
            self.order(client, Order::Send { kind, bytes }).await?;
            Ok(Answer::Done.body().freeze())
        };
        self.once(key, b"mesh.send", &body, work).await
    }

    /// Sends clients away: one, or all of a user.
    pub(in crate::api) async fn conn_disconnect(
        &self,
        connection: &mut Connection,
        caller: &Caller<'_>,
        head: &RequestHead<'_>,
    ) -> Result<Reply, Failure> {
        let (_, body) = self.request(connection, caller, head).await?;
        let target = words::target(fields::text(&body)?)?;
        self.check_manages(caller.principal)?;
        let count = match target {
            Target::User(uid) => self.disconnect_user(&uid).await?,
            Target::Client(client) => {
                self.order(client, Order::Dismiss).await?;
                1
            }
        };
        Ok(Reply::Whole(Response::ok(Answer::Reached(count).body().freeze())))
    }

    async fn disconnect_user(&self, uid: &str) -> Result<u64, ApiError> {
        let realm = Some(self.mesh_realm());
        let filter = SessionFilter { realm, authid: Some(uid.into()), ..SessionFilter::default() };
        let mut count = 0;
        for shard in (0..self.shards.count()).filter_map(|index| ShardId::new(u8::try_from(index).ok()?)) {
            let mut after = Some(SessionCursor::default());
            while let Some(cursor) = after {
                let ask = Ask::Sessions { filter: filter.clone(), after: cursor, limit: PAGE };
                let ApiAnswer::Sessions { page, next } = self.ask(shard, ask, ANSWER_TIME).await? else {
                    unreachable!("sessions are answered as such")
                };
                for info in page {
                    count += u64::from(self.send_away(shard, info.session).await?);
                }
                after = next;
            }
        }
        Ok(count)
    }

    /// False: it has gone by itself meanwhile.
    async fn send_away(&self, shard: ShardId, session: SessionId) -> Result<bool, ApiError> {
        let ask = Ask::Disconnect { session, reason: CLOSE_KILLED.into() };
        Ok(matches!(self.ask(shard, ask, ANSWER_TIME).await?, ApiAnswer::Disconnected(true)))
    }
}

/// Sessions of one answer of a shard.
const PAGE: usize = 1_000;

/// How many a publication has reached.
pub(super) fn reached(outcome: Result<Receipt, ApiRefusal>) -> Result<u64, ApiError> {
    let receipt = outcome.map_err(|refusal| ApiError::from(refusal).field("c"))?;
    receipt.matched.ok_or_else(|| {
        let words = "it was published, but a part of the router has not said in time how many it reached";
        ApiError::new(Code::Timeout, words)
    })
}
