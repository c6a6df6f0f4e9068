//! The echo-room session: what a client says, all in its room hear.
//!
//! ```text
//! WebSocket, path ─▶ room ─▶ may it come in? ─▶ may it subscribe? ─▶ Open: each message is a publication to the room's topic
//!                      └ none: 404             └──── no: closed ────┘
//! ```
//!
//! A room is a topic of the realm, and what is said in it a plain publication: one string, or bytes that came as binary. So other
//! protocols are in the room by subscribing to its topic, and are heard by publishing to it. The protocol has no words of its own:
//! who may not do what its path or its messages mean is closed with 1008 and words.
//!
//! While a hook is asked nothing comes in. A message that a hook does not allow is not said and counted; one that its role may
//! never say ends the connection. The sender waits for room like somebody who wants an acknowledgement, so what was said is given
//! up only if its sender leaves meanwhile.

mod rooms;

use std::sync::Arc;

use bytes::BytesMut;
use fanwire_codec::wamp2::{Payload, code};
use fanwire_codec::ws;

use crate::access::Action;
use crate::broker::PublishRequest;
use crate::clock::Instant;
use crate::delivery::Outlet;
use crate::login::Entrance;
use crate::mutation::{Mutation, planted};
use crate::question::Denial;
use crate::session::{Refusal, State, error};
use crate::shard::{Flow, Shard};
use crate::uri::MatchPolicy;

pub use crate::template::{Side, TemplateError};
pub use rooms::{EchoRooms, MessageTemplate, RoomRule};

pub(crate) use rooms::Place;

impl Shard {
    /// The client asked for this path and query. It enters the room to which they lead, at once or when hooks have allowed it.
    pub fn enter_room(&mut self, now: Instant, outlet: Outlet, target: &str) -> Flow {
        let place = self.config.echo.place(target);
        let Some(session) = self.session_mut(outlet) else { return Flow::Closing };
        session.words.get_or_insert_default().place = place;
        let realm = self.config.echo.realm;
        match self.config.access.anonymous_role(realm) {
            Some(role) => self.let_in(now, outlet, Entrance::anonymous(realm, role)),
            None => {
                self.close(now, outlet, 1008, "here nobody may come in without a login, and there is none")
            }
        }
        self.apply_notices(now);
        self.entered(outlet)
    }

    /// Whether to listen to a connection whose handshake is over.
    pub(crate) fn entered(&self, outlet: Outlet) -> Flow {
        match self.session(outlet) {
            Some(session) if session.parked => Flow::Pause,
            Some(session) if session.state != State::Over => Flow::Continue,
            _ => Flow::Closing,
        }
    }

    /// It may come in: subscribes it to its room.
    pub(crate) fn join_room(&mut self, now: Instant, outlet: Outlet) {
        let place = self.session(outlet).and_then(|session| session.place());
        let Some(room) = place.map(|place| Arc::clone(&place.topic)) else {
            return self.close(now, outlet, 1008, "this path leads to no room");
        };
        if !planted(Mutation::EchoDoorUnasked)
            && self.ask_about_pattern(now, outlet, NO_REQUEST, (Action::Subscribe, MatchPolicy::Exact, &room))
        {
            return;
        }
        if let Err(refusal) = self.subscribe(outlet, MatchPolicy::Exact, &room) {
            self.delivery.counters.requests_refused += 1;
            if !planted(Mutation::EchoStrangerStays) {
                self.close(now, outlet, 1008, &refusal.words);
            }
        }
    }

    /// One transport message of an echo session: says it in its room.
    pub(crate) fn receive_echo(&mut self, now: Instant, outlet: Outlet, kind: ws::Kind, bytes: &[u8]) {
        // What a hook has allowed is handled for the second time.
        self.delivery.counters.echo.messages_received += u64::from(self.in_hand_allowed.is_none());
        let session = self.session(outlet).expect("the caller looked");
        let Some(Place { topic, name }) = session.place().filter(|_| session.state == State::Open).cloned()
        else {
            return;
        };
        let mut args = std::mem::take(&mut self.said);
        args.clear();
        let echo = &self.config.echo;
        let name = if planted(Mutation::EchoNamesForgotten) { &echo.default_name } else { &name };
        let is_binary = kind == ws::Kind::Binary && !planted(Mutation::EchoBinaryIsText);
        echo.template.write(name, is_binary, bytes, &mut args);
        let request = PublishRequest {
            acknowledge: Some(NO_REQUEST),
            exclude_me: !echo.include_sender && !planted(Mutation::EchoSenderServed),
            disclose_me: false,
            receivers: None,
            conflate_key: None,
            retain: false,
            uri: &topic,
            payload: Payload { args: Some(&args), kwargs: None, ..Payload::EMPTY },
            plain: true,
        };
        let published = self.publish(now, outlet, request);
        self.keep_said(args);
        if let Err(refusal) = published {
            self.delivery.counters.requests_refused += 1;
            if planted(Mutation::EchoTrespasserStays) {
                return;
            }
            self.close(now, outlet, 1008, &refusal.words);
        }
    }

    /// What was put together for a publication or a call is used again.
    pub(crate) fn keep_said(&mut self, buffer: BytesMut) {
        if buffer.capacity() <= SAID_KEPT_BYTES_MAX {
            self.said = buffer;
        }
    }

    /// It is not let in.
    pub(crate) fn deny_login_echo(&mut self, now: Instant, outlet: Outlet, denial: &Denial) {
        let (_, words, code) = Refusal::of_entrance(denial);
        self.close(now, outlet, code, words);
    }

    /// The verdict on its room, or on what it said; that is counted already.
    pub(crate) fn refuse_request_echo(
        &mut self,
        now: Instant,
        outlet: Outlet,
        kind: u64,
        uri: &str,
        words: &str,
    ) {
        if kind == code::SUBSCRIBE {
            // RFC 6455, 7.4 and its registry: 1013 means "try again later".
            let code = if uri == error::AUTHORIZATION_FAILED { 1013 } else { 1008 };
            self.close(now, outlet, code, words);
        }
    }
}

/// Nothing is answered here.
const NO_REQUEST: u64 = 0;

/// A larger buffer is not kept for the next message.
const SAID_KEPT_BYTES_MAX: usize = 64 << 10;
