//! What backends do with one client: they send to it, subscribe it, say things of it, or send it away.
//!
//! A client is a connection, known by its [`ClientId`] from its beginning to its end. Its messages and channels are for
//! protocols whose clients have no requests of their own for that; a WAMP session is published to instead.

use fanwire_codec::ws;

use super::CLOSE_KILLED;
use super::sessions::BY_ADMINISTRATOR;
use crate::clock::Instant;
use crate::delivery::Outlet;
use crate::encoding::Encoding;
use crate::handled::Happening;
use crate::ids::{ClientId, RealmId};
use crate::mutation::{Mutation, planted};
use crate::question::{Grant, Matter};
use crate::session::{ANONYMOUS_AUTHID_PREFIX, Refusal, State, error};
use crate::shard::Shard;
use crate::uri::MatchPolicy;

/// What is to be done with a client.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Order {
    /// It gets this message, as it is.
    Send {
        /// Text must be UTF-8.
        kind: ws::Kind,
        /// What it gets.
        bytes: Box<[u8]>,
    },
    /// It is subscribed to these topics, to all of them or, where its role may not have one or there is no room, to none. It
    /// knows each by the topic's own name.
    Subscribe(Vec<Box<str>>),
    /// It is subscribed to these topics no more, whoever subscribed it.
    Unsubscribe(Vec<Box<str>>),
    /// These things are known of it from now on, in place of what was known by the same names.
    SetContext(Vec<(Box<str>, Box<str>)>),
    /// It has to go.
    Dismiss,
    /// Its connection is closed, with a code and words of a close frame (RFC 6455, 7.4).
    Close {
        /// One that may be sent.
        code: u16,
        /// For people; at most 123 bytes are sent.
        words: Box<str>,
    },
    /// All of these, until one of them cannot be done.
    All(Vec<Order>),
}

impl Order {
    /// Bytes of what it brings.
    pub(super) fn bytes(&self) -> usize {
        match self {
            Self::Send { bytes, .. } => bytes.len(),
            Self::Subscribe(names) | Self::Unsubscribe(names) => names.iter().map(|name| name.len()).sum(),
            Self::SetContext(values) => values.iter().map(|(key, value)| key.len() + value.len()).sum(),
            Self::Dismiss => 0,
            Self::Close { words, .. } => words.len(),
            Self::All(orders) => orders.iter().map(Self::bytes).sum(),
        }
    }
}

impl Shard {
    pub(super) fn carry_out(
        &mut self,
        now: Instant,
        client: ClientId,
        realm: RealmId,
        order: Order,
    ) -> Result<(), Refusal> {
        let is_in =
            |outlet: &Outlet| self.realm_of(*outlet) == Some(realm) || planted(Mutation::OrderFromElsewhere);
        let here = self.client(client).filter(is_in);
        let Some(outlet) = here else {
            let words = format!("there is no client {}: it has gone, or never was here", client.get());
            return Err(Refusal::new(error::NO_SUCH_SESSION, words));
        };
        self.obey(now, outlet, order)
    }

    /// Does it with a client of this shard.
    pub(crate) fn obey(&mut self, now: Instant, outlet: Outlet, order: Order) -> Result<(), Refusal> {
        match order {
            Order::Dismiss => self.send_away(now, outlet),
            Order::Close { code, words } => self.close(now, outlet, code, &words),
            Order::All(orders) => {
                for order in orders {
                    // One of them may have been the last that it hears.
                    if self.session(outlet).is_none_or(|session| session.state == State::Over) {
                        break;
                    }
                    self.obey(now, outlet, order)?;
                }
            }
            order if let Some(words) = self.why_not(outlet, &order) => {
                return Err(Refusal::new(error::INVALID_ARGUMENT, words));
            }
            Order::Send { .. }
                if planted(Mutation::OrderToWaitingLost)
                    && self.session(outlet).is_some_and(|session| session.parked) => {}
            Order::Send { kind, bytes } => {
                self.delivery.reply(outlet, |out| ws::write_message(out, kind, &[&bytes]));
            }
            Order::Subscribe(topics) => return self.place(now, outlet, &topics),
            Order::Unsubscribe(topics) => {
                for topic in &topics {
                    if let Some((id, _)) = self.subscription_to(outlet, topic)
                        && (!planted(Mutation::OrderedEndIgnored)
                            || self.name_of(outlet, topic).is_some_and(|(_, name)| *name == **topic))
                    {
                        self.unsubscribe(now, outlet, id.get())?;
                    }
                }
            }
            Order::SetContext(values) if self.is_handled(outlet) => {
                check_values(&values)?;
                self.tell_handler(outlet, Happening::Told(values));
            }
            Order::SetContext(values) => {
                self.set_context(now, outlet, values)?;
                // What its names lead to may hang on what is known of it now.
                self.withdraw_lost_channels_of(now, outlet);
            }
        }
        Ok(())
    }

    /// Why this cannot be done with a client of its protocol.
    fn why_not(&self, outlet: Outlet, order: &Order) -> Option<&'static str> {
        match (self.session(outlet)?.encoding, order) {
            (Encoding::MessageCenter(_) | Encoding::Handled(_), _)
            | (Encoding::Echo(_), Order::Send { .. }) => None,
            (Encoding::Echo(_), _) => Some("the client is in an echo room, and in no channel beside it"),
            (Encoding::Wamp2(..) | Encoding::Wamp1(_), _) => Some(
                "the client speaks WAMP, in which it asks for itself: publish to it, with the option eligible",
            ),
        }
    }

    /// Where a client is, or will be once it is let in.
    fn realm_of(&self, outlet: Outlet) -> Option<RealmId> {
        let session = self.session(outlet)?;
        match session.encoding {
            _ if session.state == State::Open => Some(session.realm),
            Encoding::MessageCenter(_) => Some(self.config.message_center.realm),
            Encoding::Wamp2(..) | Encoding::Echo(_) | Encoding::Wamp1(_) | Encoding::Handled(_) => None,
        }
    }

    fn is_handled(&self, outlet: Outlet) -> bool {
        self.session(outlet).is_some_and(|session| matches!(session.encoding, Encoding::Handled(_)))
    }

    fn send_away(&mut self, now: Instant, outlet: Outlet) {
        let session = self.session(outlet).expect("it is here");
        match session.state {
            State::Open => _ = self.dismiss(now, session.id, CLOSE_KILLED, BY_ADMINISTRATOR),
            _ => self.close(now, outlet, 1000, BY_ADMINISTRATOR),
        }
    }

    /// Subscribes a client to all of these topics, or to none of them.
    fn place(&mut self, now: Instant, outlet: Outlet, topics: &[Box<str>]) -> Result<(), Refusal> {
        if self.session(outlet).is_none_or(|session| session.state != State::Open) {
            let words = "the client has not logged in yet, and only who has can be subscribed";
            return Err(Refusal::new(error::NOT_AUTHORIZED, words));
        }
        // Events of those with a handler say no name.
        let is_named = !self.is_handled(outlet);
        let mut placed = Vec::new();
        for topic in topics {
            if self.subscription_to(outlet, topic).is_some() || planted(Mutation::OrderedInVain) {
                continue;
            }
            let name = is_named.then(|| (&**topic).into());
            match self.subscribe_as(outlet, MatchPolicy::Exact, topic, name.as_ref()) {
                Ok(id) => placed.push(id),
                Err(refusal) => {
                    placed.retain(|_| !planted(Mutation::RefusedOrderHalfDone));
                    for id in placed {
                        self.unsubscribe(now, outlet, id.get())?;
                    }
                    return Err(refusal);
                }
            }
        }
        if is_named {
            let session = self.session_mut(outlet).expect("as above");
            session.words.get_or_insert_default().placed.extend(placed);
        }
        Ok(())
    }

    fn set_context(
        &mut self,
        now: Instant,
        outlet: Outlet,
        mut values: Vec<(Box<str>, Box<str>)>,
    ) -> Result<(), Refusal> {
        check_values(&values)?;
        let uid = values.iter().position(|(key, _)| **key == *UID).map(|place| values.remove(place).1);
        let context = self.context(outlet).expect("it is here");
        let is_new = |(key, _): &&(Box<str>, Box<str>)| context.iter().all(|(known, _)| known != key);
        if context.len() + values.iter().filter(is_new).count() > VALUES_MAX {
            let words = format!("{VALUES_MAX} values may be known of a client");
            return Err(Refusal::new(error::UNAVAILABLE, words));
        }
        let before = context.clone();
        for (key, value) in values {
            match context.iter().position(|(known, _)| *known == key) {
                Some(place) => context[place].1 = value,
                None => context.push((key, value)),
            }
        }
        // Behind the others, which it is let in with.
        let Some(uid) = uid else { return Ok(()) };
        let told = self.set_uid(now, outlet, uid);
        if told.is_err()
            && let Some(context) = self.context(outlet)
        {
            *context = before;
        }
        told
    }

    /// What is known of a client, or will be once it is in.
    fn context(&mut self, outlet: Outlet) -> Option<&mut Vec<(Box<str>, Box<str>)>> {
        let session = self.session_mut(outlet)?;
        match session.asking.as_deref_mut().map(|asking| &mut asking.matter) {
            Some(Matter::Entrance(entrance)) => Some(&mut entrance.context),
            _ => Some(&mut session.words.get_or_insert_default().context),
        }
    }
}

impl Shard {
    /// Lets a client in that waits to be told who it is.
    fn set_uid(&mut self, now: Instant, outlet: Outlet, uid: Box<str>) -> Result<(), Refusal> {
        let is_name = !uid.is_empty()
            && uid.len() <= UID_BYTES_MAX
            && !uid.chars().any(char::is_control)
            && !uid.starts_with(ANONYMOUS_AUTHID_PREFIX);
        if !is_name {
            let words =
                "a uid has 1 to 255 bytes, no control characters, and does not begin with \"anonymous-\"";
            return Err(Refusal::new(error::INVALID_ARGUMENT, words));
        }
        let role = self.config.message_center.role;
        let grant = Grant { role, authid: Some(uid), provider: "backend", ..Grant::default() };
        if role.is_some() && self.tell_uid(now, outlet, grant) {
            return Ok(());
        }
        let words = "the client does not wait to be told its uid: it has not asked to log in, or was answered already";
        Err(Refusal::new(error::INVALID_ARGUMENT, words))
    }
}

fn check_values(values: &[(Box<str>, Box<str>)]) -> Result<(), Refusal> {
    if values.iter().all(|(key, value)| key.len() + value.len() <= VALUE_BYTES_MAX) {
        return Ok(());
    }
    let words = format!("a key and its value may have {VALUE_BYTES_MAX} bytes together");
    Err(Refusal::new(error::INVALID_ARGUMENT, words))
}

/// Of a name.
const UID_BYTES_MAX: usize = 255;
/// Who it is: that comes with a login alone.
const UID: &str = "uid";
/// What may be known of one client: some 8 KiB at most.
const VALUES_MAX: usize = 16;
const VALUE_BYTES_MAX: usize = 512;
