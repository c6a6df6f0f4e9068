//! The session of an endpoint with a handler: what happens to the connection is handed to a program beside the shards, and that
//! says what is to be done.
//!
//! ```text
//! WebSocket ─▶ may it come in? ─▶ Begins ─▶ Says, Says, … ─▶ Ends
//!                                   │          │  each a question; the verdict brings what is to be done
//!                                   └──────────┴─ while one is open nothing is read, so they come one after another
//! ```
//!
//! The protocol has no words of its own: messages are whatever client and handler agree on, and publications to topics that the
//! handler has subscribed the client to are the plain bytes of their payloads, as in echo rooms. What a backend wants known of the
//! client is handed on as well ([`Happening::Told`]), since nobody but the handler has a use for it.
//!
//! A handler that has no room or says no ends the connection, one that fails does or not ([`OnFailure`]); that is said with the
//! close codes of RFC 6455.

use std::net::SocketAddr;

use fanwire_codec::ws;

use crate::clock::Instant;
use crate::delivery::Outlet;
use crate::ids::{RealmId, RoleId};
use crate::login::Entrance;
use crate::question::{Answer, Denial, Grant, Matter, Subject};
use crate::session::{Refusal, State};
use crate::shard::{Flow, Shard};

/// A handler: its place in [`CoreConfig::handlers`](crate::CoreConfig::handlers).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct HandlerId(pub u8);

/// What the core knows of a handler.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Handler {
    /// Where its clients are.
    pub realm: RealmId,
    /// Whose permissions its clients' subscriptions need.
    pub role: RoleId,
    /// What becomes of a connection over which it fails.
    pub on_failure: OnFailure,
}

/// What becomes of a connection over which its handler fails.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum OnFailure {
    /// It is closed: 1011.
    Close,
    /// It goes on, as if nothing had been said.
    Keep,
}

/// What happens to a connection.
#[derive(Debug)]
pub enum Happening {
    /// It is open.
    Begins(Box<Beginning>),
    /// It says something.
    Says {
        /// Text or binary.
        kind: ws::Kind,
        /// What.
        bytes: Box<[u8]>,
    },
    /// A backend wants these things known of it. Nobody waits for an answer.
    Told(Vec<(Box<str>, Box<str>)>),
    /// It is gone. Nobody waits for an answer.
    Ends,
}

/// How a connection came.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Beginning {
    /// The path and query of its request, as written.
    pub target: Box<str>,
    /// The fields of its request.
    pub fields: Vec<(Box<str>, Box<str>)>,
    /// The other end.
    pub peer: Option<SocketAddr>,
}

/// What a session with a handler has beside others.
#[derive(Debug)]
pub(crate) struct Handled {
    pub(crate) handler: HandlerId,
    /// Until the handler is told.
    beginning: Option<Box<Beginning>>,
}

impl Happening {
    /// What a client can make large.
    pub fn bytes(&self) -> usize {
        let pairs =
            |pairs: &[(Box<str>, Box<str>)]| pairs.iter().map(|(key, value)| key.len() + value.len()).sum();
        match self {
            Self::Begins(beginning) => beginning.target.len() + pairs(&beginning.fields),
            Self::Says { bytes, .. } => bytes.len(),
            Self::Told(values) => pairs(values),
            Self::Ends => 0,
        }
    }
}

impl Shard {
    /// The client asked for the endpoint of this handler. It comes in at once, or when a hook has allowed it.
    pub fn enter_handled(
        &mut self,
        now: Instant,
        outlet: Outlet,
        handler: HandlerId,
        beginning: Beginning,
    ) -> Flow {
        let Handler { realm, role, .. } = self.config.handlers[usize::from(handler.0)];
        let Some(session) = self.session_mut(outlet) else { return Flow::Closing };
        let handled = Handled { handler, beginning: Some(Box::new(beginning)) };
        session.words.get_or_insert_default().handled = Some(handled);
        self.let_in(now, outlet, Entrance::anonymous(realm, role));
        self.apply_notices(now);
        match self.session(outlet) {
            Some(session) if session.parked => Flow::Pause,
            Some(session) if session.state != State::Over => Flow::Continue,
            _ => Flow::Closing,
        }
    }

    /// It may come in: its handler is told.
    pub(crate) fn welcome_handled(&mut self, now: Instant, outlet: Outlet) {
        let handled = self.session_mut(outlet).and_then(|session| session.words.as_mut()?.handled.as_mut());
        let beginning = handled.and_then(|handled| handled.beginning.take());
        self.ask_handler(now, outlet, Happening::Begins(beginning.unwrap_or_default()));
    }

    /// It is not let in.
    pub(crate) fn deny_login_handled(&mut self, now: Instant, outlet: Outlet, denial: &Denial) {
        let (_, words, code) = Refusal::of_entrance(denial);
        self.close(now, outlet, code, words);
    }

    /// One transport message.
    pub(crate) fn receive_handled(&mut self, now: Instant, outlet: Outlet, kind: ws::Kind, bytes: &[u8]) {
        self.delivery.counters.handled.messages_received += 1;
        if self.session(outlet).is_some_and(|session| session.state == State::Open) {
            self.ask_handler(now, outlet, Happening::Says { kind, bytes: bytes.into() });
        }
    }

    fn ask_handler(&mut self, now: Instant, outlet: Outlet, happening: Happening) {
        let Some((handler, realm)) = self.handler_of(outlet) else { return };
        let begins = matches!(happening, Happening::Begins(_));
        let subject = Subject::Handled { client: self.client_id(outlet), happening };
        self.ask(now, outlet, (None, realm), subject, Matter::Handled { begins });
        self.questions.last_mut().expect("just asked").handler = Some(handler);
    }

    /// Tells the handler of a session, if it has one.
    pub(crate) fn tell_handler(&mut self, outlet: Outlet, happening: Happening) {
        let Some((handler, realm)) = self.handler_of(outlet) else { return };
        let subject = Subject::Handled { client: self.client_id(outlet), happening };
        self.tell(outlet, None, realm, subject);
        self.questions.last_mut().expect("just told").handler = Some(handler);
    }

    fn handler_of(&self, outlet: Outlet) -> Option<(HandlerId, RealmId)> {
        let session = self.session(outlet)?;
        Some((session.words.as_ref()?.handled.as_ref()?.handler, session.realm))
    }

    /// The handler has done its work on what happened, or failed to.
    pub(crate) fn decide_handled(
        &mut self,
        now: Instant,
        outlet: Outlet,
        begins: bool,
        outcome: Result<Grant, Denial>,
    ) {
        let unsaid = self.delivery.unsaid(outlet);
        match outcome {
            Ok(grant) => {
                if let Some(Answer::Order(order)) = grant.answer.map(|answer| *answer)
                    && let Err(refusal) = self.obey(now, outlet, order)
                {
                    self.delivery.counters.requests_refused += 1;
                    self.close(now, outlet, 1011, &refusal.words);
                }
            }
            Err(denial) => self.handler_failed(now, outlet, begins, &denial),
        }
        // As after any request: who does not read the answers is held back.
        if let Some(before) = unsaid {
            self.delivery.hold(outlet, before);
        }
        self.listen_again(outlet);
    }

    fn handler_failed(&mut self, now: Instant, outlet: Outlet, begins: bool, denial: &Denial) {
        self.delivery.counters.requests_refused += 1;
        let Some((handler, _)) = self.handler_of(outlet) else { return };
        let on_failure = self.config.handlers[usize::from(handler.0)].on_failure;
        // RFC 6455, 7.4.1 and its registry.
        match denial {
            // Its handler may never have heard of it.
            Denial::Busy => self.close(now, outlet, 1013, "the endpoint has too much to do: try again later"),
            Denial::Refused | Denial::Told(_) => {
                self.close(now, outlet, 1008, "the endpoint refuses this connection");
            }
            // Nobody comes in by an outage of what would have checked it.
            Denial::Failed | Denial::Unavailable if begins || on_failure == OnFailure::Close => {
                self.close(now, outlet, 1011, "the endpoint's handler failed");
            }
            Denial::Failed | Denial::Unavailable => {}
        }
    }
}
