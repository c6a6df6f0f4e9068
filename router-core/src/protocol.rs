//! What a session is told, in its own protocol's words.
//!
//! Whoever decides something of a session (logins, hooks, an operator) says here what it is; the session's protocol knows how
//! that is said.

use fanwire_codec::message_center::AUTH_BYTES_MAX;
use fanwire_codec::payload::OwnedPayload;
use fanwire_codec::wamp2::{Payload, Revoked, code};

use crate::clock::Instant;
use crate::delivery::Outlet;
use crate::encoding::Encoding;
use crate::login::LoginMethod;
use crate::question::Denial;
use crate::shard::Shard;

impl Shard {
    /// Its WebSocket is open.
    pub(crate) fn greet(&mut self, now: Instant, outlet: Outlet) {
        match self.spoken(outlet) {
            // The client begins, with HELLO.
            Some(Encoding::Wamp2(..)) | None => {}
            // The end of the handshake begins, see `enter_room` and `enter_wamp`.
            Some(Encoding::Echo(_) | Encoding::Wamp1(_) | Encoding::Handled(_)) => {}
            Some(Encoding::MessageCenter(_)) => self.greet_message_center(now, outlet),
        }
    }

    /// It is open, for whoever it proved to be by this method. `extra`: what was said of that user; `context`: what was said of it
    /// by others, for protocols whose names for topics hang on it.
    pub(crate) fn welcome(
        &mut self,
        now: Instant,
        outlet: Outlet,
        method: LoginMethod,
        extra: Option<&OwnedPayload>,
        context: Vec<(Box<str>, Box<str>)>,
    ) {
        match self.spoken(outlet) {
            Some(Encoding::Wamp2(..)) => self.welcome_wamp2(outlet, method, extra),
            Some(Encoding::MessageCenter(_)) => {
                self.welcome_message_center(now, outlet, method, extra, context);
            }
            Some(Encoding::Echo(_)) => self.join_room(now, outlet),
            Some(Encoding::Wamp1(_)) => self.welcome_wamp1(outlet),
            Some(Encoding::Handled(_)) => self.welcome_handled(now, outlet),
            None => {}
        }
    }

    /// It has to show who it is. Only protocols with methods are ever told.
    pub(crate) fn say_challenge(
        &mut self,
        now: Instant,
        outlet: Outlet,
        method: LoginMethod,
        extra: &OwnedPayload,
    ) {
        match self.spoken(outlet) {
            Some(Encoding::Wamp2(..)) => self.say_challenge_wamp2(now, outlet, method, extra),
            Some(Encoding::Wamp1(_)) => self.answer_login_call(outlet, extra.view()),
            // Nobody else offers methods.
            Some(_) | None => self.deny_login(now, outlet, true, &Denial::Failed),
        }
    }

    /// It is not let in. `was_verified`: because of how it wanted to show who it is.
    pub(crate) fn deny_login(&mut self, now: Instant, outlet: Outlet, was_verified: bool, denial: &Denial) {
        match self.spoken(outlet) {
            Some(Encoding::Wamp2(..)) => self.deny_login_wamp2(now, outlet, was_verified, denial),
            Some(Encoding::MessageCenter(_)) => self.deny_login_message_center(now, outlet, denial),
            Some(Encoding::Echo(_)) => self.deny_login_echo(now, outlet, denial),
            Some(Encoding::Wamp1(_)) => self.deny_login_wamp1(now, outlet, denial),
            Some(Encoding::Handled(_)) => self.deny_login_handled(now, outlet, denial),
            None => {}
        }
    }

    /// A request that has waited is not done. `request`: what it was, and its number.
    pub(crate) fn refuse_request(
        &mut self,
        now: Instant,
        outlet: Outlet,
        (kind, request): (u64, u64),
        uri: &str,
        words: &str,
    ) {
        match self.spoken(outlet) {
            Some(Encoding::Wamp2(..)) => self.refuse_request_wamp2(outlet, kind, request, uri, words),
            Some(Encoding::MessageCenter(_)) => self.refuse_request_message_center(now, outlet, uri),
            Some(Encoding::Echo(_)) => self.refuse_request_echo(now, outlet, kind, uri, words),
            Some(Encoding::Wamp1(_)) if kind == code::CALL => {
                self.tell_call_refusal_wamp1(outlet, request, uri, words);
            }
            // It has no words for that, and is counted already; or requests nothing.
            Some(Encoding::Wamp1(_) | Encoding::Handled(_)) | None => {}
        }
    }

    /// The result of a call of this session's. False: it is longer than the client takes, and nothing was said.
    pub(crate) fn tell_result(
        &mut self,
        outlet: Outlet,
        encoding: Encoding,
        request: u64,
        payload: Payload<'_>,
    ) -> bool {
        if let Encoding::Wamp1(_) = encoding {
            self.tell_result_wamp1(outlet, request, payload);
            return true;
        }
        self.delivery.try_reply(outlet, |out| encoding.write_result(request, payload, out))
    }

    /// The error of a call of this session's, of the callee's making; the same.
    pub(crate) fn tell_call_error(
        &mut self,
        outlet: Outlet,
        encoding: Encoding,
        request: u64,
        error: &str,
        payload: Payload<'_>,
    ) -> bool {
        if let Encoding::Wamp1(_) = encoding {
            self.tell_call_error_wamp1(outlet, request, error, payload);
            return true;
        }
        self.delivery.try_reply(outlet, |out| encoding.write_call_error(request, error, payload, out))
    }

    /// An error of the router's making.
    pub(crate) fn tell_call_refusal(
        &mut self,
        outlet: Outlet,
        encoding: Encoding,
        request: u64,
        uri: &str,
        words: &str,
    ) {
        match encoding {
            Encoding::Wamp1(_) => self.tell_call_refusal_wamp1(outlet, request, uri, words),
            _ => self.delivery.reply(outlet, |out| encoding.write_call_refusal(request, uri, words, out)),
        }
    }

    /// It has to go, for this reason. The driver closes its connection if it takes too long.
    pub(crate) fn say_goodbye(
        &mut self,
        now: Instant,
        outlet: Outlet,
        reason: &str,
        words: &str,
        close_code: u16,
    ) {
        match self.spoken(outlet) {
            Some(Encoding::Wamp2(..)) => self.say_goodbye_wamp2(now, outlet, reason, words, close_code),
            // There is no farewell but the WebSocket's own.
            Some(
                Encoding::MessageCenter(_) | Encoding::Echo(_) | Encoding::Wamp1(_) | Encoding::Handled(_),
            ) => self.close(now, outlet, close_code, words),
            None => {}
        }
    }

    /// Its connection ends for the reason that a WebSocket's close frame would have: said so, where there are no such frames.
    pub(crate) fn say_last_words(&mut self, outlet: Outlet, close_code: u16, words: &str) {
        if self.spoken(outlet).is_some_and(Encoding::is_raw) && !words.is_empty() {
            self.say_last_words_wamp2(outlet, close_code, words);
        }
    }

    /// A subscription or registration was taken from it. Only who has announced that it understands that is told.
    pub(crate) fn tell_revoked(&mut self, outlet: Outlet, what: Revoked, reason: &str) {
        // The other protocols have no words for it.
        if let Some(Encoding::Wamp2(..)) = self.spoken(outlet) {
            self.tell_revoked_wamp2(outlet, what, reason);
        }
    }

    /// How long a message may be that it needs to come in, where its protocol has such; else nothing.
    pub fn login_bytes_max(&self, outlet: Outlet) -> usize {
        match self.spoken(outlet) {
            Some(Encoding::MessageCenter(_)) => AUTH_BYTES_MAX,
            Some(Encoding::Wamp2(..) | Encoding::Echo(_) | Encoding::Wamp1(_) | Encoding::Handled(_))
            | None => 0,
        }
    }

    fn spoken(&self, outlet: Outlet) -> Option<Encoding> {
        self.session(outlet).map(|session| session.encoding)
    }
}
