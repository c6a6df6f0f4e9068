//! `POST /v1/publish` and `POST /v1/publish/batch`, and what they share with streams.

use std::marker::PhantomData;

use bytes::Bytes;
use fanwire_codec::http::RequestHead;
use fanwire_core::api::{ApiAnswer, ApiPublication, ApiRefusal, Ask, Receipt};
use serde::Serialize;
use serde::de::{Deserializer, SeqAccess, Visitor};
use serde_json::value::RawValue;
use sha2::{Digest, Sha256};
use tokio::time::Instant;

use super::connection::{Connection, Failure, Response};
use super::error::{ApiError, Code};
use super::idempotency::{Begun, OwnedKey, Stored};
use super::{ANSWER_TIME, Api, Caller, Reply, check_json, fields, figures, media_type, publication};

/// Whether the body is a publication a line.
pub(super) fn is_stream(head: &RequestHead<'_>) -> bool {
    media_type(head).is_ok_and(|given| STREAM_TYPES.iter().any(|known| given.eq_ignore_ascii_case(known)))
}

/// The name of the field of a stream's own type, and how some write it.
const STREAM_TYPES: [&str; 3] = ["application/x-ndjson", "application/ndjson", "application/jsonl"];

/// What became of a publication, as it is answered.
#[derive(Serialize)]
#[serde(untagged)]
pub(super) enum Outcome {
    Published(Published),
    Refused { error: ApiError },
}

/// A publication that was taken.
#[derive(Serialize)]
pub(super) struct Published {
    publication: u64,
    /// Only where it was asked for, and known.
    #[serde(skip_serializing_if = "Option::is_none")]
    matched: Option<u64>,
}

impl Published {
    pub(super) fn new(receipt: Receipt) -> Self {
        Self { publication: receipt.publication.get(), matched: receipt.matched }
    }
}

#[derive(Serialize)]
struct BatchAnswer {
    results: Vec<Outcome>,
    published: usize,
    failed: usize,
}

impl Api {
    pub(super) async fn publish(
        &self,
        connection: &mut Connection,
        caller: &Caller<'_>,
        head: &RequestHead<'_>,
    ) -> Result<Reply, Failure> {
        let (key, body) = self.request(connection, caller, head).await?;
        self.once(key, b"publish", &body, self.publish_one(caller, &body)).await
    }

    pub(super) async fn publish_batch(
        &self,
        connection: &mut Connection,
        caller: &Caller<'_>,
        head: &RequestHead<'_>,
    ) -> Result<Reply, Failure> {
        let (key, body) = self.request(connection, caller, head).await?;
        self.once(key, b"batch", &body, self.publish_several(caller, &body)).await
    }

    /// The idempotency key, if there is one, and the body. What the head has wrong is said before the body is read.
    pub(super) async fn request(
        &self,
        connection: &mut Connection,
        caller: &Caller<'_>,
        head: &RequestHead<'_>,
    ) -> Result<(Option<OwnedKey>, Bytes), Failure> {
        check_json(head)?;
        let key = idempotency_key(caller, head)?;
        let body = connection.whole_body(self.config.limits.body_bytes_max).await?;
        self.check_still(caller)?;
        Ok((key, body))
    }

    async fn publish_one(&self, caller: &Caller<'_>, body: &[u8]) -> Result<Bytes, ApiError> {
        let access = self.access();
        let publication = publication::read(fields::text(body)?, caller.principal, access)?;
        let mut outcomes = self.give(caller, vec![publication]).await?;
        let outcome = outcomes.pop().expect("one for each");
        let receipt = outcome.map_err(about_topic)?;
        figures::add(&self.figures.publications, 1);
        Ok(json(&Published::new(receipt)))
    }

    async fn publish_several(&self, caller: &Caller<'_>, body: &[u8]) -> Result<Bytes, ApiError> {
        let text = fields::text(body)?;
        let items = items(text, self.config.limits.batch_max)?;
        let mut results: Vec<Option<Outcome>> = Vec::with_capacity(items.len());
        let mut publications = Vec::with_capacity(items.len());
        for (index, item) in items.iter().enumerate() {
            match publication::read(item.get(), caller.principal, self.access()) {
                Ok(publication) => {
                    publications.push(publication);
                    results.push(None);
                }
                Err(error) => results.push(Some(self.refused(index, error))),
            }
        }
        let mut outcomes = self.give(caller, publications).await?.into_iter();
        let mut published = 0;
        let results: Vec<Outcome> = results
            .into_iter()
            .enumerate()
            .map(|(index, result)| {
                result.unwrap_or_else(|| match outcomes.next().expect("one for each") {
                    Ok(receipt) => {
                        published += 1;
                        Outcome::Published(Published::new(receipt))
                    }
                    Err(refusal) => self.refused(index, about_topic(refusal)),
                })
            })
            .collect();
        figures::add(&self.figures.publications, published as u64);
        let failed = results.len() - published;
        Ok(json(&BatchAnswer { results, published, failed }))
    }

    fn refused(&self, index: usize, mut error: ApiError) -> Outcome {
        self.figures.refused(error.code);
        // Counted from the beginning of the element, which nobody sees.
        error.position = None;
        Outcome::Refused { error: error.inside(&format!("[{index}]")) }
    }

    /// Gives publications to the caller's shard, and waits for what becomes of each.
    pub(super) async fn give(
        &self,
        caller: &Caller<'_>,
        publications: Vec<ApiPublication>,
    ) -> Result<Vec<Result<Receipt, ApiRefusal>>, ApiError> {
        if publications.is_empty() {
            return Ok(Vec::new());
        }
        let count = publications.len();
        match self.ask(caller.shard, Ask::Publish(publications), ANSWER_TIME).await? {
            ApiAnswer::Published(outcomes) if outcomes.len() == count => Ok(outcomes),
            _ => unreachable!("a publication is answered as one"),
        }
    }

    /// Does what `work` does, unless it was done before under this key.
    pub(super) async fn once(
        &self,
        key: Option<OwnedKey>,
        route: &[u8],
        body: &[u8],
        work: impl Future<Output = Result<Bytes, ApiError>>,
    ) -> Result<Reply, Failure> {
        let Some(key) = key else { return Ok(Reply::Whole(Response::ok(work.await?))) };
        let fingerprint =
            Sha256::new().chain_update(route).chain_update(b"\n").chain_update(body).finalize().into();
        let begun = self.idempotency().begin(Instant::now(), key.clone(), fingerprint);
        let number = match begun {
            Begun::New(number) => number,
            Begun::Done(Stored { status, body }) => {
                figures::add(&self.figures.repeated, 1);
                let headers = vec![("Idempotent-Replayed", "true".to_owned())];
                return Ok(Reply::Whole(Response { status, headers, body }));
            }
            Begun::InProgress => {
                let words = "the request with this idempotency key is being done; ask again for its answer";
                return Err(ApiError::new(Code::IdempotencyInProgress, words).into());
            }
            Begun::Differs => {
                let words = "this idempotency key was used for a request with another body; use a new one";
                return Err(ApiError::new(Code::IdempotencyConflict, words).into());
            }
        };
        // A connection's task is not ended in the middle of a request, so one of the two is always said.
        let outcome = work.await;
        let mut table = self.idempotency();
        match &outcome {
            Ok(body) => {
                table.finish(Instant::now(), &key, number, Stored { status: 200, body: body.clone() })
            }
            Err(_) => table.forget(&key, number),
        }
        self.figures.forgotten.store(table.forgotten_early(), std::sync::atomic::Ordering::Relaxed);
        drop(table);
        Ok(Reply::Whole(Response::ok(outcome?)))
    }
}

/// A refusal of the router, about the field that it is about.
pub(super) fn about_topic(refusal: ApiRefusal) -> ApiError {
    ApiError::from(refusal).field("topic")
}

pub(super) fn json(value: &impl Serialize) -> Bytes {
    serde_json::to_vec(value).expect("strings and numbers are written").into()
}

/// The header that says which request this is, if it is there.
fn idempotency_key(caller: &Caller<'_>, head: &RequestHead<'_>) -> Result<Option<OwnedKey>, ApiError> {
    let Some(key) = head.headers().unique("idempotency-key")? else { return Ok(None) };
    if key.is_empty() || key.len() > KEY_BYTES_MAX || !key.bytes().all(|byte| byte.is_ascii_graphic()) {
        let words = format!(
            "the field Idempotency-Key must be 1 to {KEY_BYTES_MAX} visible characters of ASCII, such as a UUID"
        );
        return Err(ApiError::new(Code::InvalidField, words).field("Idempotency-Key"));
    }
    Ok(Some((caller.key, key.into())))
}

const KEY_BYTES_MAX: usize = 255;

/// Refuses an idempotency key where it would not be kept.
pub(super) fn no_idempotency_key(head: &RequestHead<'_>) -> Result<(), ApiError> {
    match head.header("idempotency-key") {
        None => Ok(()),
        Some(_) => {
            let words = "idempotency keys are for /v1/publish with one publication, and for /v1/publish/batch; leave it out";
            Err(ApiError::new(Code::InvalidField, words).field("Idempotency-Key"))
        }
    }
}

/// The elements of a batch, of which there are not too many.
fn items(text: &str, count_max: usize) -> Result<Vec<&RawValue>, ApiError> {
    let mut deserializer = serde_json::Deserializer::from_str(text);
    let what = "a list of publications";
    let items = deserializer
        .deserialize_seq(Items { count_max, lifetime: PhantomData })
        .map_err(|error| fields::explain(&error, what))?;
    let Some(items) = items else {
        let words = format!(
            "a batch has at most {count_max} publications (http_api.batch); send several, or a stream of lines"
        );
        return Err(ApiError::new(Code::TooLarge, words));
    };
    deserializer.end().map_err(|error| fields::explain(&error, what))?;
    Ok(items)
}

struct Items<'a> {
    count_max: usize,
    lifetime: PhantomData<&'a ()>,
}

impl<'de: 'a, 'a> Visitor<'de> for Items<'a> {
    /// `None`: there are too many.
    type Value = Option<Vec<&'a RawValue>>;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a list")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Self::Value, A::Error> {
        let mut items = Vec::new();
        let mut count = 0;
        while let Some(item) = list.next_element()? {
            count += 1;
            if count <= self.count_max {
                items.push(item);
            }
        }
        Ok((count <= self.count_max).then_some(items))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn batches_are_lists_of_so_many() {
        assert_eq!(items("[1, {}]", 2).expect("two").len(), 2);
        assert_eq!(items(" [ ] ", 2).expect("none").len(), 0);
        for (text, code) in [
            ("[1,2,3]", Code::TooLarge),
            ("{}", Code::InvalidJson),
            ("[1,2", Code::InvalidJson),
            ("[] x", Code::InvalidJson),
            ("", Code::InvalidJson),
        ] {
            assert_eq!(items(text, 2).expect_err(text).code, code, "{text}");
        }
    }
}
