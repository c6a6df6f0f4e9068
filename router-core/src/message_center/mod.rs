//! The message-center session: JSON requests in, the broker's verbs out.
//!
//! | in \ state | Waiting | Open, nobody in particular | Open, a user |
//! |---|---|---|---|
//! | auth | verified | verified; the subscriptions stay | verified; they stay if it is the same user |
//! | subscribe | Not Auth | by the first rule that fits | by the first rule that fits |
//! | unsubscribe | Not Auth | done, subscribed or not | done, subscribed or not |
//! | anything else | an error | an error | an error |
//!
//! Where the realm has a role for anonymous clients, a connection is Open from its beginning, unless a hook wants to know who
//! connects. While a token is verified, or a hook is asked about a subscription, nothing comes in: the session is not read, so
//! answers come in the order of requests. A token that is not accepted leaves the session what it was.
//!
//! After an error the connection goes on or is closed, as configured ([`OnError`]); after some tokens in a row that were not
//! accepted it is closed in any case.

pub(crate) mod frames;
mod messages;
mod overlap;
mod rules;

use std::sync::Arc;

use fanwire_codec::message_center::{ErrorCode, Op, TOKEN_BYTES_MAX, decode, scalars};
use fanwire_codec::payload::OwnedPayload;
use fanwire_codec::wamp2::Serializer;
use fanwire_codec::ws;

use crate::access::Action;
use crate::clock::Instant;
use crate::delivery::Outlet;
use crate::encoding::Encoding;
use crate::ids::SubscriptionId;
use crate::login::{Entrance, LoginMethod, Proof, Ticket};
use crate::mutation::{Mutation, planted};
use crate::question::Denial;
use crate::session::{Refusal, Session, State, error};
use crate::shard::Shard;
use crate::uri::{MatchPolicy, URI_BYTES_MAX};

pub use crate::template::{CAPTURES_MAX, Side, TemplateError};
pub use overlap::{Overlap, overlaps};
pub use rules::{ChannelRule, MessageCenter, OnError, QueueRule};

use rules::{Channel, Known};

/// When a request is answered.
enum Answer {
    Now,
    /// With the verdict on it.
    Later,
}

impl Shard {
    /// Lets in who needs not say who it is.
    pub(crate) fn greet_message_center(&mut self, now: Instant, outlet: Outlet) {
        let realm = self.config.message_center.realm;
        let access = &self.config.access;
        if let Some(role) = access.anonymous_role(realm)
            && access.hooks(realm).connect.is_none()
        {
            self.let_in(now, outlet, Entrance::anonymous(realm, role));
        }
    }

    /// One transport message of a message-center session.
    pub(crate) fn receive_message_center(
        &mut self,
        now: Instant,
        outlet: Outlet,
        kind: ws::Kind,
        bytes: &[u8],
    ) {
        let state = self.session(outlet).expect("the caller looked").state;
        // What a hook has allowed is handled for the second time.
        self.delivery.counters.message_center.messages_received += u64::from(self.in_hand_allowed.is_none());
        if !matches!(state, State::Waiting | State::Open) {
            return;
        }
        if self.in_hand_allowed.is_none() && self.hand_to_backend(now, outlet, kind, bytes) {
            return;
        }
        if kind != ws::Kind::Text {
            return self.tell_error(now, outlet, ErrorCode::TextOnly);
        }
        let Some(decoded) = self.decode(now, outlet, || decode(bytes)) else { return };
        let done = decoded.and_then(|op| match op {
            Op::Auth { token } => self.log_in(now, outlet, &token),
            _ if state == State::Waiting => Err(ErrorCode::NotAuth),
            Op::Subscribe { channel } => self.subscribe_to_channel(now, outlet, &channel),
            Op::Unsubscribe { channel } => self.unsubscribe_from_channel(now, outlet, &channel),
        });
        match done {
            Ok(Answer::Now) => self.delivery.reply(outlet, frames::done),
            Ok(Answer::Later) => {}
            Err(code) => {
                self.delivery.counters.requests_refused += 1;
                self.tell_error(now, outlet, code);
            }
        }
    }

    fn log_in(&mut self, now: Instant, outlet: Outlet, token: &str) -> Result<Answer, ErrorCode> {
        let realm = self.config.message_center.realm;
        // Who it is comes with the verdict, never from the client: a file of users could only refuse, at the price of a
        // derivation.
        if self.config.access.hooks(realm).authenticate.is_none() || token.len() > TOKEN_BYTES_MAX {
            return Err(ErrorCode::AuthFailed);
        }
        let entrance = Entrance::to_be_proved(realm, LoginMethod::Ticket, None);
        self.verify(now, outlet, entrance, Proof::Ticket(Ticket::new(token)));
        Ok(Answer::Later)
    }

    fn subscribe_to_channel(
        &mut self,
        now: Instant,
        outlet: Outlet,
        said: &str,
    ) -> Result<Answer, ErrorCode> {
        let Channel { topic, name } = self.find_channel(outlet, said)?;
        if self.ask_about_pattern(now, outlet, NO_REQUEST, (Action::Subscribe, MatchPolicy::Exact, &topic)) {
            return Ok(Answer::Later);
        }
        // Each event comes once: of two names for one topic the newer one holds.
        if let Some((id, before)) = self.name_of(outlet, &topic) {
            if before != name && !planted(Mutation::NameKept) {
                self.rename_subscription(now, outlet, id, Some(&name));
            }
            return Ok(Answer::Now);
        }
        let subscribed = self.subscribe_as(outlet, MatchPolicy::Exact, &topic, Some(&name));
        subscribed.map(|_| Answer::Now).map_err(|refusal| refusal.code())
    }

    fn unsubscribe_from_channel(
        &mut self,
        now: Instant,
        outlet: Outlet,
        said: &str,
    ) -> Result<Answer, ErrorCode> {
        let Channel { topic, name } = self.find_channel(outlet, said)?;
        if let Some((id, held)) = self.name_of(outlet, &topic)
            && held == name
            && !planted(Mutation::ChannelKept)
        {
            self.unsubscribe(now, outlet, id.get()).map_err(|refusal| refusal.code())?;
        }
        Ok(Answer::Now)
    }

    /// Where there are other rules: withdraws what clients would not get any more under the names that they have for it. Some
    /// connections each time, since all of a shard would hold up its turn.
    pub(crate) fn withdraw_lost_channels(&mut self, now: Instant) {
        let Some(Outlet(from)) = self.renamed_from.take() else { return };
        let mut left = NAMES_PER_TURN;
        for outlet in (from..self.outlet_count()).map(Outlet) {
            if left == 0 {
                self.renamed_from = Some(outlet);
                return;
            }
            let words = self.session(outlet).and_then(|session| session.words.as_ref());
            left = left.saturating_sub(1 + words.map_or(0, |words| words.names.len()));
            self.withdraw_lost_channels_of(now, outlet);
        }
    }

    /// The same for one of them, of which something else may be known than before.
    pub(crate) fn withdraw_lost_channels_of(&mut self, now: Instant, outlet: Outlet) {
        let speaks = |session: &&Session| matches!(session.encoding, Encoding::MessageCenter(_));
        let words = self.session(outlet).filter(speaks).and_then(|session| session.words.as_ref());
        let Some(words) = words.filter(|words| !words.names.is_empty()) else { return };
        let is_lost = |(id, name): &&(SubscriptionId, Arc<str>)| {
            if words.placed.contains(id) {
                return false;
            }
            let topic = self.subscriptions[id].topic.uri();
            !self.find_channel(outlet, name).is_ok_and(|channel| channel.topic == topic)
        };
        let lost = words.names.iter().filter(is_lost).map(|(id, _)| id.get()).collect();
        self.withdraw(now, outlet, lost, None);
    }

    fn find_channel(&self, outlet: Outlet, said: &str) -> Result<Channel, ErrorCode> {
        let session = self.session(outlet).expect("it asks for something");
        let context = session.words.as_ref().map_or(&[][..], |words| words.context.as_slice());
        let known = session.principal.as_ref().map(|principal| Known { uid: &principal.authid, context });
        self.config.message_center.find(said, known)
    }

    /// Remembers what the rules want to know of the user, and says that it is let in, if it asked.
    pub(crate) fn welcome_message_center(
        &mut self,
        now: Instant,
        outlet: Outlet,
        method: LoginMethod,
        extra: Option<&OwnedPayload>,
        said: Vec<(Box<str>, Box<str>)>,
    ) {
        if method == LoginMethod::Anonymous {
            return;
        }
        let extra = extra.and_then(|extra| extra.transcode(Serializer::Json).ok());
        let known = extra.as_ref().and_then(|extra| extra.view().kwargs).unwrap_or(b"{}");
        let mut context = remembered(known, &self.config.message_center);
        // Who vouches for the user has the last word.
        let news = said.into_iter().filter(|(key, _)| context.iter().all(|(known, _)| known != key));
        context.extend(news.collect::<Vec<_>>());
        let session = self.session_mut(outlet).expect("it is welcome");
        let words = session.words.get_or_insert_default();
        (words.context, words.refused_tokens) = (context, 0);
        // What its names lead to may hang on what is known of it now.
        self.withdraw_lost_channels_of(now, outlet);
        self.delivery.reply(outlet, frames::done);
    }

    /// It stays what it was.
    pub(crate) fn deny_login_message_center(&mut self, now: Instant, outlet: Outlet, denial: &Denial) {
        let session = self.session_mut(outlet).expect("it wants to log in");
        if session.state == State::Admitting {
            session.state = State::Waiting;
        }
        let code = match denial {
            Denial::Refused | Denial::Told(_) => ErrorCode::AuthFailed,
            Denial::Busy | Denial::Failed | Denial::Unavailable => ErrorCode::AuthUnavailable,
        };
        let words = session.words.get_or_insert_default();
        words.refused_tokens += u8::from(code == ErrorCode::AuthFailed);
        let guesses = words.refused_tokens == REFUSED_TOKENS_MAX;
        self.tell_error(now, outlet, code);
        if guesses {
            self.close(now, outlet, code.close_code(), code.words());
        }
    }

    /// The verdict on a subscription, as the URI of an error.
    pub(crate) fn refuse_request_message_center(&mut self, now: Instant, outlet: Outlet, uri: &str) {
        let code = match uri {
            error::AUTHORIZATION_FAILED => ErrorCode::AuthUnavailable,
            _ => ErrorCode::PermissionDenied,
        };
        self.tell_error(now, outlet, code);
    }

    fn tell_error(&mut self, now: Instant, outlet: Outlet, code: ErrorCode) {
        self.delivery.counters.message_center_errors[usize::from(code.number()) - 1] += 1;
        self.delivery.reply(outlet, |out| frames::error(code, out));
        let closes = self.config.message_center.on_error == OnError::Close;
        if closes && !planted(Mutation::ErrorDoesNotClose) {
            self.close(now, outlet, code.close_code(), code.words());
        }
    }
}

impl Refusal {
    /// The same in this protocol's numbers.
    fn code(&self) -> ErrorCode {
        match self.uri {
            error::INVALID_URI => ErrorCode::InvalidChannel,
            error::UNAVAILABLE => ErrorCode::LimitExceeded,
            _ => ErrorCode::PermissionDenied,
        }
    }
}

/// What is kept of what was said of a user: all that the rules want, and of the rest what there is room for, since other rules may
/// come and clients do not log in again for that. What is too long for any topic is left out.
fn remembered(extra: &[u8], center: &MessageCenter) -> Vec<(Box<str>, Box<str>)> {
    let mut room = CONTEXT_BYTES_MAX;
    let mut is_kept = |key: &str, value: &str| {
        let left = room.checked_sub(key.len() + value.len());
        let is_wanted = center.wants(key);
        if let (Some(left), false) = (left, is_wanted) {
            room = left;
        }
        value.len() <= URI_BYTES_MAX && (is_wanted || left.is_some())
    };
    let known = scalars(extra).into_iter();
    known.filter(|(key, value)| is_kept(key, value)).map(|(key, value)| (key.into(), value.into())).collect()
}

/// Names that are looked up in one turn, and connections without any: a shard with a million of them goes on serving.
const NAMES_PER_TURN: usize = 4_096;

/// In a row: who goes on guessing must connect again, which can be limited and is seen.
const REFUSED_TOKENS_MAX: u8 = 10;

/// Of each connection, beside what the rules of now want.
const CONTEXT_BYTES_MAX: usize = 1 << 10;

/// Answers name no request here.
const NO_REQUEST: u64 = 0;
