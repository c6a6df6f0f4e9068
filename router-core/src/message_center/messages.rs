//! What clients say beside the requests of the protocol, and whom that is for.
//!
//! ```text
//! message ─┬ a queue takes its op ─▶ the queue ─▶ {"result":true}, or Limit exceeded
//!          │      └ op is auth: the client waits until a backend says its uid
//!          ├ op is unknown, and there is a hook ─▶ the hook ─▶ the hook's answer, as it is
//!          └ else: the protocol's own
//! ```
//!
//! While it is on its way the session is not read, so its messages keep their order and it hears the answers in it.

use bytes::BytesMut;
use fanwire_codec::message_center::{ErrorCode, is_op, op};
use fanwire_codec::ws;

use super::frames;
use crate::clock::Instant;
use crate::delivery::Outlet;
use crate::login::{Entrance, LoginMethod};
use crate::mutation::{Mutation, planted};
use crate::question::{Denial, Grant, Matter, Subject};
use crate::session::State;
use crate::shard::Shard;

/// What a client says to log in.
const AUTH: &str = "auth";

impl Shard {
    /// Gives a message to the queue or the hook that takes it. False: nobody does.
    pub(super) fn hand_to_backend(
        &mut self,
        now: Instant,
        outlet: Outlet,
        kind: ws::Kind,
        bytes: &[u8],
    ) -> bool {
        let config = &self.config;
        let (realm, has_queues) = (config.message_center.realm, config.message_center.has_queues());
        let hook = config.access.hooks(realm).message;
        if !has_queues && hook.is_none() {
            return false;
        }
        let read = || if kind == ws::Kind::Text { op(bytes) } else { None };
        // None: the connection ends.
        let Some(op) = self.decode(now, outlet, read) else { return true };
        let op = op.as_deref();
        let is_known = op.is_some_and(is_op);
        let queue = self.config.message_center.queue_of(op, is_known);
        let hook = hook.filter(|_| queue.is_none() && op.is_some() && !is_known);
        if queue.is_none() && hook.is_none() {
            return false;
        }
        let waits_for_uid = queue.is_some() && op == Some(AUTH);
        let session = self.session(outlet).expect("it says something");
        let is_open = session.state == State::Open;
        if !is_open && !waits_for_uid && !planted(Mutation::MessageBeforeLogin) {
            self.refuse_message(now, outlet, ErrorCode::NotAuth);
            return true;
        }
        let who = is_open.then(|| session.identity(&self.config.access));
        let client = self.client_id(outlet);
        let subject = Subject::Message { who, client, kind, bytes: bytes.into(), waits_for_uid };
        let matter = if waits_for_uid {
            let mut entrance = Entrance::to_be_proved(realm, LoginMethod::Ticket, None);
            entrance.waits_for_uid = true;
            Matter::Entrance(entrance)
        } else {
            Matter::Message
        };
        self.ask(now, outlet, (hook, realm), subject, matter);
        let queue = if planted(Mutation::MessageToWrongQueue) { queue.map(|_| 1) } else { queue };
        self.questions.last_mut().expect("just asked").queue = queue;
        !planted(Mutation::MessageHandledTwice)
    }

    /// What becomes of a message.
    pub(crate) fn decide_message(&mut self, now: Instant, outlet: Outlet, outcome: Result<Grant, Denial>) {
        let unsaid = self.delivery.unsaid(outlet);
        if planted(Mutation::MessageUnanswered) {
            return self.listen_again(outlet);
        }
        let outcome = if planted(Mutation::MessageRefusalForgotten) { Ok(Grant::default()) } else { outcome };
        match outcome {
            Ok(grant) => match grant.payload() {
                Some(answer) => {
                    let mut text = Vec::new();
                    // It was made of text.
                    _ = answer.write_plain(&mut text);
                    let write = |out: &mut BytesMut| ws::write_message(out, ws::Kind::Text, &[&text]);
                    self.delivery.reply(outlet, write);
                }
                None => self.delivery.reply(outlet, frames::done),
            },
            Err(denial) => {
                let code = match denial {
                    Denial::Busy => ErrorCode::LimitExceeded,
                    Denial::Refused | Denial::Told(_) => ErrorCode::PermissionDenied,
                    Denial::Failed | Denial::Unavailable => ErrorCode::AuthUnavailable,
                };
                self.refuse_message(now, outlet, code);
            }
        }
        // As after any request: who does not read the answers is held back.
        if let Some(before) = unsaid {
            self.delivery.hold(outlet, before);
        }
        self.listen_again(outlet);
    }

    fn refuse_message(&mut self, now: Instant, outlet: Outlet, code: ErrorCode) {
        self.delivery.counters.requests_refused += 1;
        self.tell_error(now, outlet, code);
    }
}
