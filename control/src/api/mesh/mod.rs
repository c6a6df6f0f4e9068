//! The server API in the words of CONNMIX: requests of a few one-letter fields, by HTTP and by a WebSocket.
//!
//! ```text
//! POST /v1/mesh/publish ─┐
//! POST /v1/mesh/send     ├─▶ words ─▶ Ask::Publish, Ask::Order ─▶ the router ─▶ {"E":null,"r":{…}}
//! /ws/v1 ─▶ Socket ──────┘
//! ```
//!
//! Clients are known by their [`ClientId`](fanwire_core::ids::ClientId), users by who they proved to be. All of it happens in
//! one realm, that of the setting `http_api.realm`. Publications are plain: whoever speaks plain text gets them as they are.
//!
//! What this module does not do: it keeps to the API's own connections, keys, limits and order, and has no others. Read
//! [`words`], then [`http`] and [`socket`].

mod http;
pub(super) use http::{VERSION, nodes};
mod requests;
pub(super) mod socket;
pub(super) mod words;

use fanwire_core::api::{Actor, ApiAnswer, Ask, Order};
use fanwire_core::ids::{ClientId, RealmId};

use super::error::{ApiError, Code};
use super::keys::{Grant, Principal, Right};
use super::publication::no_such_realm;
use super::{ANSWER_TIME, Api, Caller};

impl Api {
    fn mesh_realm(&self) -> RealmId {
        self.config.mesh_realm
    }

    /// What the principal is in the realm of this API.
    fn mesh_grant<'p>(&self, principal: &'p Principal) -> Result<&'p Grant, ApiError> {
        let realm = self.mesh_realm();
        principal.grant(realm).ok_or_else(|| {
            let error = no_such_realm(self.access().realm_name(realm), principal, self.access());
            ApiError { field: None, ..error }
        })
    }

    /// As whom the principal publishes here.
    fn mesh_actor(&self, principal: &Principal) -> Result<Actor, ApiError> {
        let grant = self.mesh_grant(principal)?;
        Ok(Actor { realm: grant.realm, role: grant.role })
    }

    /// Refuses whoever may not do this to the clients of the realm.
    fn check_manages(&self, principal: &Principal) -> Result<(), ApiError> {
        if self.mesh_grant(principal)?.manages {
            return Ok(());
        }
        let words = "without a key, only clients of a realm whose anonymous role may do everything can be reached one by \
                     one; configure a key ([[http_api.key]])";
        Err(ApiError::new(Code::Forbidden, words))
    }

    /// Has something done with a client.
    async fn order(&self, client: ClientId, order: Order) -> Result<(), ApiError> {
        let ask = Ask::Order { client, realm: self.mesh_realm(), order };
        match self.ask(self.shard_of(client)?, ask, ANSWER_TIME).await? {
            ApiAnswer::Ordered(outcome) => Ok(outcome?),
            _ => unreachable!("an order is answered as one"),
        }
    }

    /// Where the client lives, if such a one can.
    fn shard_of(&self, client: ClientId) -> Result<fanwire_core::ids::ShardId, ApiError> {
        let shard = client.shard();
        if usize::from(shard.get()) < self.shards.count() {
            return Ok(shard);
        }
        let words = format!("there is no client {}: it has gone, or never was here", client.get());
        Err(ApiError::new(Code::NoSuchSession, words).field("c"))
    }
}

/// Refuses what the key is not for.
pub(super) fn check_right(caller: &Caller<'_>, right: Right) -> Result<(), ApiError> {
    if caller.principal.rights.contains(&right) {
        return Ok(());
    }
    let (name, right) = (&caller.principal.name, right.name());
    Err(ApiError::new(Code::Forbidden, format!("{name} may not {right}; its key must allow {right:?}")))
}
