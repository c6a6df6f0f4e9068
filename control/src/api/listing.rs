//! `GET /v1/sessions`, `DELETE /v1/sessions/{id}` and `GET /v1/topics`.

use std::borrow::Cow;

use fanwire_codec::http::RequestHead;
use fanwire_core::api::{ApiAnswer, Ask, CLOSE_KILLED, SessionFilter};
use fanwire_core::directory::{TopicCursor, TopicFilter};
use fanwire_core::ids::{RealmId, SessionId};
use serde::Serialize;

use super::connection::{Failure, Response};
use super::error::{ApiError, Code};
use super::publication::no_such_realm;
use super::publish::json;
use super::{ANSWER_TIME, Api, Caller, Reply};
use crate::sessions::{Cursor, LOOKS_MAX, PAGE, PAGE_MAX, Row, page};

#[derive(Serialize)]
struct SessionPage<'a> {
    sessions: Vec<Row<'a>>,
    next: Option<String>,
}

#[derive(Serialize)]
struct TopicPage<'a> {
    topics: Vec<Topic<'a>>,
    next: Option<String>,
}

#[derive(Serialize)]
struct Topic<'a> {
    topic: Box<str>,
    realm: &'a str,
    #[serde(rename = "match")]
    policy: &'static str,
    subscription: u64,
    shards: u32,
}

#[derive(Serialize)]
struct Disconnected {
    disconnected: bool,
}

impl Api {
    pub(super) async fn sessions(
        &self,
        caller: &Caller<'_>,
        head: &RequestHead<'_>,
    ) -> Result<Reply, Failure> {
        let query = Query::read(head, &["realm", "role", "authid", "limit", "cursor"])?;
        let realm = self.managed_realm(caller, &query)?;
        let role = query.get("role").map(|name| self.role(realm, name)).transpose()?;
        let authid = query.get("authid").map(Box::from);
        let filter = SessionFilter { realm: Some(realm), role, authid, ..SessionFilter::default() };
        let limit = query.limit()?;
        let from =
            query.get("cursor").map_or(Ok(Cursor::default()), str::parse).map_err(|()| bad_cursor())?;
        let ask = |shard, ask| self.ask(shard, ask, ANSWER_TIME);
        let (found, next) = page(self.shards.count(), filter, from, limit, ask).await?;
        let sessions = found.into_iter().map(|info| Row::of(info, self.access())).collect();
        let page = SessionPage { sessions, next: next.map(|cursor| cursor.to_string()) };
        Ok(Reply::Whole(Response::ok(json(&page))))
    }

    pub(super) fn topics(&self, caller: &Caller<'_>, head: &RequestHead<'_>) -> Result<Reply, Failure> {
        let query = Query::read(head, &["realm", "prefix", "limit", "cursor"])?;
        let realm = self.managed_realm(caller, &query)?;
        let filter = TopicFilter { realm: Some(realm), prefix: query.get("prefix").unwrap_or_default() };
        let limit = query.limit()?;
        let mut after = match query.get("cursor") {
            Some(text) => cursor(text)
                .and_then(|[bucket, after]| Some(TopicCursor { bucket: u32::try_from(bucket).ok()?, after }))
                .ok_or_else(bad_cursor)?,
            None => TopicCursor::default(),
        };
        let mut topics = Vec::new();
        let mut next = None;
        for look in 0.. {
            let page = self.shards.directory().topics(filter, after, limit - topics.len());
            topics.extend(page.topics);
            let Some(cursor) = page.next else { break };
            after = cursor;
            if topics.len() >= limit || look >= LOOKS_MAX {
                next = Some(format!("{}-{}", after.bucket, after.after));
                break;
            }
        }
        let name = self.access().realm_name(realm);
        let topics = topics
            .into_iter()
            .map(|info| Topic {
                topic: info.uri,
                realm: name,
                policy: info.policy.name(),
                subscription: info.id.get(),
                shards: info.interest.count_ones(),
            })
            .collect();
        Ok(Reply::Whole(Response::ok(json(&TopicPage { topics, next }))))
    }

    pub(super) async fn disconnect(
        &self,
        caller: &Caller<'_>,
        head: &RequestHead<'_>,
        id: &str,
    ) -> Result<Reply, Failure> {
        let query = Query::read(head, &["reason"])?;
        let reason = query.get("reason").unwrap_or(CLOSE_KILLED);
        check_reason(reason)?;
        let id = id.parse().ok().and_then(SessionId::new).ok_or_else(|| {
            let words = format!(
                "{id:?} is no session id; they are whole numbers from 1 to 2^53, as /v1/sessions tells them"
            );
            ApiError::new(Code::InvalidQuery, words).field("id")
        })?;
        // One of a realm that the key has nothing to do with is none, or ids could be tried.
        let entry = self
            .shards
            .directory()
            .session(id)
            .filter(|entry| caller.principal.grant(entry.realm).is_some_and(|grant| grant.manages));
        let disconnected = match entry {
            None => false,
            Some(entry) => {
                let ask = Ask::Disconnect { session: id, reason: reason.into() };
                matches!(self.ask(entry.shard, ask, ANSWER_TIME).await?, ApiAnswer::Disconnected(true))
            }
        };
        if !disconnected {
            let words = format!(
                "there is no session {} in a realm that {} may manage",
                id.get(),
                caller.principal.name
            );
            return Err(ApiError::new(Code::NoSuchSession, words).field("id").into());
        }
        Ok(Reply::Whole(Response::ok(json(&Disconnected { disconnected }))))
    }

    /// The realm of the query, or the only one; whose sessions and topics the caller may see.
    fn managed_realm(&self, caller: &Caller<'_>, query: &Query<'_>) -> Result<RealmId, ApiError> {
        let access = self.access();
        let managed = || caller.principal.grants.iter().filter(|grant| grant.manages);
        match query.get("realm") {
            Some(name) => access
                .realm(name)
                .filter(|realm| managed().any(|grant| grant.realm == *realm))
                .ok_or_else(|| no_such_realm(name, caller.principal, access)),
            None => {
                let mut realms = managed();
                match (realms.next(), realms.next()) {
                    (Some(only), None) => Ok(only.realm),
                    (None, _) => {
                        let words = "without a key, only realms whose anonymous role may do everything can be looked into; \
                                     configure one ([[http_api.key]])";
                        Err(ApiError::new(Code::Forbidden, words).field("realm"))
                    }
                    _ => {
                        let names: Vec<&str> =
                            managed().map(|grant| access.realm_name(grant.realm)).collect();
                        let words =
                            format!("the parameter realm must be there; it can be: {}", names.join(", "));
                        Err(ApiError::new(Code::InvalidQuery, words).field("realm"))
                    }
                }
            }
        }
    }

    fn role(&self, realm: RealmId, name: &str) -> Result<fanwire_core::ids::RoleId, ApiError> {
        self.access().role(realm, name).ok_or_else(|| {
            let words = format!("the realm has no role {name:?}");
            ApiError::new(Code::InvalidQuery, words).field("role")
        })
    }
}

/// It goes into a GOODBYE, where URIs stand.
fn check_reason(reason: &str) -> Result<(), ApiError> {
    let is_uri = !reason.is_empty()
        && reason.len() <= URI_BYTES_MAX
        && reason.split('.').all(|part| !part.is_empty())
        && !reason.chars().any(|c| c.is_whitespace() || c.is_control() || c == '#');
    if is_uri {
        return Ok(());
    }
    let words = format!("{reason:?} is no URI; write one such as \"com.example.banned\"");
    Err(ApiError::new(Code::InvalidQuery, words).field("reason"))
}

const URI_BYTES_MAX: usize = 255;

/// The two numbers of a cursor.
fn cursor(text: &str) -> Option<[u64; 2]> {
    let (one, other) = text.split_once('-')?;
    Some([one.parse().ok()?, other.parse().ok()?])
}

fn bad_cursor() -> ApiError {
    ApiError::new(Code::InvalidQuery, "this is no cursor; take the one in \"next\" of the page before")
        .field("cursor")
}

/// The parameters of a request, each known and there once.
pub(super) struct Query<'a>(Vec<(Cow<'a, str>, Cow<'a, str>)>);

impl<'a> Query<'a> {
    pub(super) fn read(head: &RequestHead<'a>, known: &[&str]) -> Result<Self, ApiError> {
        let mut parameters: Vec<(Cow<'a, str>, Cow<'a, str>)> = Vec::new();
        for (name, value) in form_urlencoded::parse(head.query().unwrap_or_default().as_bytes()) {
            let wrong = if !known.contains(&&*name) {
                format!("there is no parameter {name:?} here; known: {}", known.join(", "))
            } else if parameters.iter().any(|(other, _)| *other == name) {
                format!("the parameter {name:?} is there twice; send it once")
            } else {
                parameters.push((name, value));
                continue;
            };
            return Err(ApiError::new(Code::InvalidQuery, wrong).field(name));
        }
        Ok(Self(parameters))
    }

    pub(super) fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(other, _)| other == name).map(|(_, value)| &**value)
    }

    fn limit(&self) -> Result<usize, ApiError> {
        let Some(text) = self.get("limit") else { return Ok(PAGE) };
        text.parse().ok().filter(|limit| (1..=PAGE_MAX).contains(limit)).ok_or_else(|| {
            ApiError::new(Code::InvalidQuery, format!("limit must be a whole number from 1 to {PAGE_MAX}"))
                .field("limit")
        })
    }
}

#[cfg(test)]
mod tests {
    use fanwire_codec::http::{HeadLimits, parse_request};

    use super::*;

    fn query(target: &str) -> Result<Vec<(String, String)>, ApiError> {
        let head = format!("GET {target} HTTP/1.1\r\nHost: a\r\n\r\n");
        let head = parse_request(head.as_bytes(), &HeadLimits::default()).expect("a head");
        let Query(parameters) = Query::read(&head, &["realm", "limit"])?;
        Ok(parameters.into_iter().map(|(name, value)| (name.into(), value.into())).collect())
    }

    #[test]
    fn parameters_are_known_and_there_once() {
        assert_eq!(query("/v1/topics").expect("none"), []);
        let read = query("/v1/topics?realm=a%2eb+c&limit=").expect("right");
        assert_eq!(read, [("realm".into(), "a.b c".into()), ("limit".into(), String::new())]);
        assert_eq!(query("/v1/topics?real=a").expect_err("unknown").field.as_deref(), Some("real"));
        assert_eq!(query("/v1/topics?realm=a&realm=b").expect_err("twice").field.as_deref(), Some("realm"));
    }

    #[test]
    fn cursors_are_two_numbers() {
        assert_eq!(cursor("3-17"), Some([3, 17]));
        for wrong in ["", "3", "3-", "-1-2", "a-b", "3-99999999999999999999"] {
            assert_eq!(cursor(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn reasons_are_uris() {
        for (reason, right) in [
            ("wamp.close.killed", true),
            ("x", true),
            ("", false),
            ("a..b", false),
            ("a b", false),
            ("a\r\nb", false),
        ] {
            assert_eq!(check_reason(reason).is_ok(), right, "{reason:?}");
        }
    }
}
