//! Requests under way: publications that are worked off, and whom they matched.
//!
//! ```text
//! handle_api ─▶ current: one batch of publications ──▶ all of it offered ─┬ no receipts open ──▶ answered
//!                  │ parked: nothing else is begun                        └ batches: until the last receipt, or too late
//! ```
//!
//! One request at a time, and of a batch one publication at a time: so a source's publications are routed in its order,
//! like those of a session that is not read while one of its own waits.

use std::collections::{BTreeSet, VecDeque};
use std::time::Duration;

use fanwire_codec::payload::SharedPayload;
use fanwire_codec::wamp2::{RECEIVERS_MAX, ReceiverLists};

use super::sessions::BY_ADMINISTRATOR;
use super::{ApiAnswer, ApiPublication, ApiRefusal, ApiReply, ApiRequest, Ask, PeerOf, Receipt};
use crate::access::Action;
use crate::broker::{Origin, Published, Routing, Tried};
use crate::clock::Instant;
use crate::encoding::Source;
use crate::ids::{PublicationId, RoleId, ShardId};
use crate::mutation::{Mutation, planted};
use crate::retained::ToKeep;
use crate::session::{IdMap, Refusal, error};
use crate::shard::Shard;

/// What a shard has to do for requests by API.
#[derive(Default)]
pub(crate) struct Desk {
    current: Option<Batch>,
    /// A publication of `current`, or a call, waits for room.
    pub(crate) is_parked: bool,
    /// Wholly offered; receipts are still to come.
    batches: IdMap<Batch>,
    receipts: IdMap<PendingReceipt>,
    /// Oldest first: all wait equally long.
    receipt_deadlines: VecDeque<(Instant, u64)>,
    pub(super) calls: IdMap<(Instant, ApiReply)>,
    pub(super) call_deadlines: BTreeSet<(Instant, u64)>,
    last_number: u64,
    /// What may still be done in this turn, see [`cost`].
    allowance: usize,
}

/// Whether a shard takes another request.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Readiness {
    /// At once.
    Now,
    /// It has done enough for this turn, and goes on in the next one, which should follow at once.
    NextTurn,
    /// What it works on waits for others: go on when something comes, or at the next deadline.
    Later,
}

struct Batch {
    number: u64,
    rest: std::vec::IntoIter<ApiPublication>,
    /// It waits for no subscriber that asks for time.
    is_announced: bool,
    answers: Vec<Result<Receipt, ApiRefusal>>,
    /// Receipts that are awaited.
    open: usize,
    reply: ApiReply,
}

/// Whom a publication has matched so far.
struct PendingReceipt {
    batch: u64,
    /// Its place in the batch's answers, once it was offered to all.
    place: Option<usize>,
    /// The shards that have it and have not said.
    waiting: u64,
    matched: u64,
}

impl Desk {
    fn readiness(&self) -> Readiness {
        if self.is_parked || self.receipts.len() >= RECEIPTS_MAX {
            Readiness::Later
        } else if self.current.is_some() || self.allowance == 0 {
            Readiness::NextTurn
        } else {
            Readiness::Now
        }
    }

    /// Whether a batch that was begun is not answered.
    fn is_publishing(&self) -> bool {
        self.current.is_some() || !self.batches.is_empty()
    }

    /// Whether the publication in hand waits for no subscriber that asks for time.
    pub(crate) fn announces(&self) -> bool {
        self.current.as_ref().is_some_and(|batch| batch.is_announced)
    }

    /// When [`Shard::expire_requests`] has something to do.
    pub(crate) fn next_deadline(&self) -> Option<Instant> {
        let receipt = self.receipt_deadlines.front().map(|(at, _)| *at);
        let call = self.call_deadlines.first().map(|(at, _)| *at);
        receipt.into_iter().chain(call).min()
    }

    /// The next publication of the request in hand, if it may be begun now.
    fn next_publication(&mut self) -> Option<ApiPublication> {
        if self.is_parked || self.allowance == 0 || self.receipts.len() >= RECEIPTS_MAX {
            return None;
        }
        let publication = self.current.as_mut()?.rest.next()?;
        self.allowance = self.allowance.saturating_sub(cost(publication.payload.len()));
        Some(publication)
    }

    /// Answers the request in hand if all of it is done.
    fn end_batch(&mut self) {
        if self.is_parked || !self.current.as_ref().is_some_and(|batch| batch.rest.as_slice().is_empty()) {
            return;
        }
        let batch = self.current.take().expect("just seen");
        if batch.open == 0 {
            batch.answer();
        } else {
            self.batches.insert(batch.number, batch);
        }
    }

    fn next_number(&mut self) -> u64 {
        self.last_number += 1;
        self.last_number
    }

    /// A publication of the request in hand asks for a receipt.
    fn open_receipt(&mut self) -> u64 {
        let number = self.next_number();
        let batch = self.current.as_ref().expect("its publication is being routed").number;
        let receipt = PendingReceipt { batch, place: None, waiting: 0, matched: 0 };
        self.receipts.insert(number, receipt);
        number
    }

    /// The publication was given to these shards, who will say whom they matched.
    pub(crate) fn await_receipts(&mut self, number: u64, shards: u64) {
        if let Some(receipt) = self.receipts.get_mut(&number)
            && !planted(Mutation::ReceiptNotAwaited)
        {
            receipt.waiting |= shards;
        }
    }

    /// It has matched so many here.
    pub(crate) fn count_matched(&mut self, number: u64, matched: u64) {
        if let Some(receipt) = self.receipts.get_mut(&number) {
            receipt.matched += matched;
            receipt.matched += if planted(Mutation::ReceiptCountedTwice) { matched } else { 0 };
        }
    }

    /// The publication in hand is where it should be, or refused.
    fn publication_done(
        &mut self,
        now: Instant,
        receipt: Option<u64>,
        outcome: Result<PublicationId, ApiRefusal>,
    ) {
        let Some(batch) = &mut self.current else { return };
        let place = batch.answers.len();
        let is_done = outcome.is_ok();
        batch.answers.push(outcome.map(|publication| Receipt { publication, matched: None }));
        let Some(number) = receipt else { return };
        let Some(pending) = self.receipts.get_mut(&number).filter(|_| is_done) else {
            self.receipts.remove(&number);
            return;
        };
        batch.open += 1;
        pending.place = Some(place);
        if pending.waiting == 0 {
            self.settle_receipt(number, true);
        } else {
            self.receipt_deadlines.push_back((now + RECEIPT_WAIT_MAX, number));
        }
    }

    /// A receipt is complete, or nobody waits for the rest of it any more.
    fn settle_receipt(&mut self, number: u64, is_complete: bool) {
        let Some(receipt) = self.receipts.remove(&number) else { return };
        let place = receipt.place.expect("it was offered to all");
        let is_current = |batch: &&mut Batch| batch.number == receipt.batch;
        let current = self.current.as_mut().filter(is_current);
        let Some(batch) = current.or_else(|| self.batches.get_mut(&receipt.batch)) else { return };
        batch.open -= 1;
        if let Ok(answer) = &mut batch.answers[place] {
            answer.matched = is_complete.then_some(receipt.matched);
        }
        if batch.open == 0
            && let Some(batch) = self.batches.remove(&receipt.batch)
        {
            batch.answer();
        }
        let is_over = |(_, number): &(Instant, u64)| !self.receipts.contains_key(number);
        while self.receipt_deadlines.front().is_some_and(is_over) {
            self.receipt_deadlines.pop_front();
        }
    }
}

impl Batch {
    fn answer(self) {
        (self.reply)(ApiAnswer::Published(self.answers));
    }
}

impl Shard {
    /// Whether [`handle_api`](Self::handle_api) may be called now.
    pub fn readiness(&self) -> Readiness {
        self.desk.readiness()
    }

    /// Whether publications that were begun by [`handle_api`](Self::handle_api) are not answered yet: some of them may have reached
    /// somebody.
    pub fn is_publishing(&self) -> bool {
        self.desk.is_publishing()
    }

    /// The shard ends: its publications are answered with what is known of each. What was not begun is refused, and so is what waits
    /// for room, which some may have got.
    pub fn give_up_publishing(&mut self) {
        let offered = |(number, receipt): (&u64, &PendingReceipt)| receipt.place.map(|_| *number);
        let receipts: Vec<u64> = self.desk.receipts.iter().filter_map(offered).collect();
        for number in receipts {
            self.desk.settle_receipt(number, false);
        }
        let is_parked = std::mem::take(&mut self.desk.is_parked);
        let Some(mut batch) = self.desk.current.take() else { return };
        let refused = batch.rest.len() + usize::from(is_parked);
        batch.answers.extend((0..refused).map(|_| {
            let words = "the router ends; publish it again when it is back".to_owned();
            Err(Refusal::new(error::UNAVAILABLE, words).into())
        }));
        batch.answer();
    }

    /// A request of the control thread. `peer` tells the other end of a connection, where the driver knows it.
    ///
    /// # Errors
    ///
    /// The request, unless the shard is [ready](Self::readiness): try it again later, before any other.
    pub fn handle_api(
        &mut self,
        now: Instant,
        request: ApiRequest,
        peer: PeerOf<'_>,
    ) -> Result<(), ApiRequest> {
        if self.desk.readiness() != Readiness::Now {
            return Err(request);
        }
        let ApiRequest { ask, reply } = request;
        match ask {
            Ask::Publish(publications) => self.begin_batch(now, publications, false, reply),
            Ask::Announce(publications) => self.begin_batch(now, publications, true, reply),
            Ask::Call(call) => {
                self.desk.allowance = self.desk.allowance.saturating_sub(cost(call.payload.len()));
                self.call_for_api(now, call, reply);
            }
            Ask::Sessions { filter, after, limit } => {
                self.desk.allowance = self.desk.allowance.saturating_sub(LISTING_COST);
                let (page, next) = self.list_sessions(now, &filter, after, limit, peer);
                reply(ApiAnswer::Sessions { page, next });
            }
            Ask::Subscribe(subscription) => {
                self.desk.allowance = self.desk.allowance.saturating_sub(cost(0));
                reply(ApiAnswer::Subscribed(self.subscribe_inner(subscription)));
            }
            Ask::Unsubscribe { subscriber, tag } => {
                self.desk.allowance = self.desk.allowance.saturating_sub(cost(0));
                reply(ApiAnswer::Unsubscribed(self.unsubscribe_inner(subscriber, tag)));
            }
            Ask::Leave { subscriber } => {
                self.desk.allowance = self.desk.allowance.saturating_sub(cost(0));
                self.remove_inner(subscriber);
                reply(ApiAnswer::Unsubscribed(true));
            }
            Ask::Slow { limit } => {
                self.desk.allowance = self.desk.allowance.saturating_sub(LISTING_COST);
                reply(ApiAnswer::Slow(self.slow_sessions(now, limit, peer)));
            }
            Ask::Revoke(revocation) => {
                self.desk.allowance = self.desk.allowance.saturating_sub(cost(0));
                reply(ApiAnswer::Revoked(self.revoke_on_request(now, &revocation)));
            }
            Ask::Testament { session, realm, order } => {
                self.desk.allowance = self.desk.allowance.saturating_sub(cost(order.bytes()));
                let outcome = self.change_testaments(session, realm, order);
                reply(ApiAnswer::Ordered(outcome.map_err(ApiRefusal::from)));
            }
            Ask::Dismiss(dismissal) => {
                self.desk.allowance = self.desk.allowance.saturating_sub(LISTING_COST);
                let (sessions, next) = self.dismiss_all(now, &dismissal);
                reply(ApiAnswer::Dismissed { sessions, next });
            }
            Ask::Disconnect { session, reason } => {
                self.desk.allowance = self.desk.allowance.saturating_sub(cost(0));
                reply(ApiAnswer::Disconnected(self.dismiss(now, session, &reason, BY_ADMINISTRATOR)));
            }
            Ask::Order { client, realm, order } => {
                self.desk.allowance = self.desk.allowance.saturating_sub(cost(order.bytes()));
                let outcome = self.carry_out(now, client, realm, order);
                reply(ApiAnswer::Ordered(outcome.map_err(ApiRefusal::from)));
            }
        }
        self.apply_notices(now);
        Ok(())
    }

    /// The beginning of a turn: goes on with what the last one left.
    pub(crate) fn continue_requests(&mut self, now: Instant) {
        self.desk.allowance = TURN_ALLOWANCE;
        if self.desk.current.is_some() {
            self.continue_batch(now);
        }
    }

    /// Requests whose time is over.
    pub(crate) fn expire_requests(&mut self, now: Instant) {
        while let Some((at, number)) = self.desk.receipt_deadlines.front().copied()
            && at <= now
        {
            // What has been counted so far would look like the whole.
            self.desk.settle_receipt(number, false);
        }
        self.expire_calls(now);
    }

    /// A shard has said how many it matched.
    pub(crate) fn receipt_came(&mut self, number: u64, from: ShardId, matched: u32) {
        // None: it came too late.
        let Some(receipt) = self.desk.receipts.get_mut(&number) else { return };
        receipt.waiting &= !from.bit();
        receipt.matched += u64::from(matched);
        if receipt.waiting == 0 && receipt.place.is_some() {
            self.desk.settle_receipt(number, true);
        }
    }

    /// The publication that was parked is where it should be, or given up.
    pub(crate) fn api_publication_done(
        &mut self,
        now: Instant,
        id: PublicationId,
        receipt: Option<u64>,
        tried: Tried,
    ) {
        if planted(Mutation::ApiUnanswered) {
            self.desk.current = None;
        }
        let outcome = match tried {
            Tried::Done => Ok(id),
            Tried::GivenUp(reason) => {
                let words = format!(
                    "not every subscriber gets it: a part of the router had no room for it in time ({})",
                    reason.as_str()
                );
                Err(Refusal::new(error::UNAVAILABLE, words).into())
            }
        };
        self.desk.publication_done(now, receipt, outcome);
        self.desk.end_batch();
    }

    fn begin_batch(
        &mut self,
        now: Instant,
        publications: Vec<ApiPublication>,
        is_announced: bool,
        reply: ApiReply,
    ) {
        let answers = Vec::with_capacity(publications.len());
        let (number, rest) = (self.desk.next_number(), publications.into_iter());
        self.desk.current = Some(Batch { number, rest, is_announced, answers, open: 0, reply });
        self.continue_batch(now);
    }

    fn continue_batch(&mut self, now: Instant) {
        while let Some(publication) = self.desk.next_publication() {
            self.publish_for_api(now, publication);
            // At once: a stream that is congested now must stop the next one.
            self.apply_notices(now);
        }
        self.desk.end_batch();
    }

    fn publish_for_api(&mut self, now: Instant, publication: ApiPublication) {
        let ApiPublication { actor, topic, payload, plain, receivers, conflate_key, retain, receipt, from } =
            publication;
        let permitted = if actor.role == RoleId::ROUTER {
            Ok(None)
        } else {
            self.permit(actor.realm, actor.role, Action::Publish, &topic).map(|permit| permit.trust)
        };
        let permitted = permitted
            .or_else(|refusal| if planted(Mutation::ApiUnauthorized) { Ok(None) } else { Err(refusal) });
        let trust = match permitted.and_then(|trust| check_length(&receivers).map(|()| trust)) {
            Ok(trust) => trust,
            Err(refusal) => {
                self.delivery.counters.requests_refused += 1;
                return self.desk.publication_done(now, None, Err(refusal.into()));
            }
        };
        let receivers = Some(&receivers).filter(|lists| **lists != ReceiverLists::default());
        let source = SharedPayload::new(payload);
        let source = Source::Shared(&source);
        let mut keeping = None;
        if retain {
            let (origin, realm, uri) = (Origin::Api, actor.realm, &*topic);
            // Its answer says whether it was kept.
            let to_keep = ToKeep {
                origin,
                realm,
                uri,
                receivers,
                exclude_me: false,
                disclosed: false,
                trust,
                is_answered: true,
            };
            keeping = match self.keep_event(to_keep, &source) {
                Ok(keeping) => Some(keeping),
                Err(refusal) => {
                    self.delivery.counters.requests_refused += 1;
                    return self.desk.publication_done(now, None, Err(refusal.into()));
                }
            };
        }
        // Whom lists admit is known when each subscriber's turn comes, which no receipt waits for.
        let receipt = (receipt && receivers.is_none()).then(|| self.desk.open_receipt());
        let routing = Routing {
            origin: Origin::Api,
            realm: actor.realm,
            uri: &topic,
            plain,
            receivers,
            except: None,
            disclosed: false,
            trust,
            acknowledge: None,
            receipt,
            key: conflate_key.map(|key| self.config.access.conflate_key(&key)),
            except_inner: from,
            keeping,
        };
        let before = self.matched_by_publications();
        let published = self.route(now, routing, &source);
        if let Some(number) = receipt {
            self.desk.count_matched(number, self.matched_by_publications() - before);
        }
        if let Published::Done(id) = published {
            self.desk.publication_done(now, receipt, Ok(id));
        }
    }
}

fn check_length(receivers: &ReceiverLists<'_>) -> Result<(), Refusal> {
    let ids = [&receivers.exclude, &receivers.eligible].map(|list| list.as_ref().map_or(0, Vec::len));
    let names = [
        &receivers.exclude_authid,
        &receivers.exclude_authrole,
        &receivers.eligible_authid,
        &receivers.eligible_authrole,
    ]
    .map(|list| list.as_ref().map_or(0, Vec::len));
    let entries: usize = ids.iter().chain(&names).sum();
    if entries <= RECEIVERS_MAX {
        return Ok(());
    }
    let words = format!("lists of receivers have {entries} entries, more than {RECEIVERS_MAX}");
    Err(Refusal::new(error::INVALID_ARGUMENT, words))
}

impl From<Refusal> for ApiRefusal {
    fn from(refusal: Refusal) -> Self {
        Self { error: refusal.uri, words: refusal.words }
    }
}

/// What a request takes of a turn: its payload, and a kilobyte, which takes about as long as what does not depend on it.
fn cost(payload_bytes: usize) -> usize {
    (1 << 10) + payload_bytes
}

/// Requests of one turn: 256 small publications, or 256 KiB, like what is received from clients.
const TURN_ALLOWANCE: usize = 256 << 10;
/// A listing looks at thousands of sessions.
const LISTING_COST: usize = 64 << 10;
/// Publications whose receipts are not complete. Each is one item in each ring back, in the worst case.
const RECEIPTS_MAX: usize = 4_096;
/// For how long other shards may keep a receipt waiting: as long as they may be busy with one congested stream.
const RECEIPT_WAIT_MAX: Duration = Duration::from_secs(1);
