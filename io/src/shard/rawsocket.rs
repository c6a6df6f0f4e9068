//! The handshake of WAMP over RawSocket: a connection whose first byte is none of HTTP's.
//!
//! ```text
//! first byte ─┬ 0x7F, where the listener takes RawSocket ─▶ 4 bytes ─┬▶ 4 bytes, open
//!             │                                                      └▶ 4 bytes with a reason, then half-close
//!             └ other ─▶ request head
//! ```

use fanwire_codec::rawsocket::{HANDSHAKE_BYTES, MAGIC, MaxLength, Refusal, Request};
use fanwire_codec::ws::Kind;
use fanwire_core::Outlet;

use super::Shard;
use crate::pressure::Level;
use crate::service::Service;
use crate::slots::{CloseReason, Stage, flag};
use crate::transport::{Input, Lengths};

impl<S: Service> Shard<S> {
    /// Whether the connection's first bytes, of which these are the next, begin a RawSocket.
    pub(super) fn begins_raw(&self, slot: u32, input: &[u8]) -> bool {
        let listener = usize::from(self.slots.hot[slot as usize].listener);
        if self.config.listeners[listener].rawsocket.is_none() {
            return false;
        }
        let carried = self.slots.cold[slot as usize].extra.as_ref().and_then(|extra| extra.carry.first());
        carried.or_else(|| input.first()) == Some(&MAGIC)
    }

    /// Input of a RawSocket whose handshake is not complete. Returns how much of it belongs to that.
    pub(super) fn raw_handshake(&mut self, slot: u32, input: &[u8]) -> usize {
        let extra = &mut self.slots.cold[slot as usize].extra;
        let carried = extra.as_ref().map_or(0, |extra| extra.carry.len());
        let count = input.len().min(HANDSHAKE_BYTES - carried);
        let carry = &mut extra.get_or_insert_default().carry;
        carry.extend_from_slice(&input[..count]);
        if let Ok(bytes) = <[u8; HANDSHAKE_BYTES]>::try_from(&carry[..]) {
            *extra = None;
            match self.shake_hands(slot, bytes) {
                Ok(()) => {
                    self.links.counters.rawsocket_accepted.add(1);
                    self.links.counters.rawsocket_connections.add(1);
                }
                Err(refusal) => self.refuse_raw(slot, refusal, CloseReason::Refused),
            }
        }
        count
    }

    fn shake_hands(&mut self, slot: u32, bytes: [u8; HANDSHAKE_BYTES]) -> Result<(), Refusal> {
        let listener = usize::from(self.slots.hot[slot as usize].listener);
        let endpoint = self.config.listeners[listener].rawsocket.expect("the caller looked");
        let request = Request::decode(bytes)?;
        if request.max_length < LENGTH_LEAST {
            return Err(Refusal::LengthUnacceptable);
        }
        if !self.service.takes_rawsocket(endpoint, request.serializer) {
            return Err(Refusal::SerializerUnsupported);
        }
        if self.memory.level() >= Level::Refuse {
            return Err(Refusal::TooManyConnections);
        }
        let ours = MaxLength::at_most(self.config.message_bytes_max);
        let kind = if request.serializer.is_text() { Kind::Text } else { Kind::Binary };
        let outlet = Outlet(slot);
        let reply = Request { max_length: ours, ..request };
        self.service.push(self.now, outlet, &reply.encode());
        let lengths = Lengths { ours, peers: request.max_length };
        self.slots.cold[slot as usize].input = Input::raw_socket(kind, lengths);
        let hot = &mut self.slots.hot[slot as usize];
        hot.stage = Stage::Open;
        hot.set(flag::UPGRADED);
        self.enter_open_deadlines(slot);
        self.service.open_rawsocket(self.now, outlet, endpoint, request);
        self.bind_channel(slot);
        Ok(())
    }

    /// Ends a RawSocket that is none yet.
    pub(super) fn refuse_raw(&mut self, slot: u32, refusal: Refusal, why: CloseReason) {
        let counters = &self.links.counters;
        let counter = match refusal {
            Refusal::SerializerUnsupported => &counters.rawsocket_serializer,
            Refusal::LengthUnacceptable => &counters.rawsocket_length,
            Refusal::ReservedBits => &counters.rawsocket_reserved,
            Refusal::TooManyConnections => &counters.rawsocket_full,
        };
        counter.add(1);
        self.service.push(self.now, Outlet(slot), &refusal.encode());
        self.service.finish(Outlet(slot));
        self.slots.hot[slot as usize].set(flag::DISCARD);
        self.slots.cold[slot as usize].extra = None;
        self.begin_closing(slot, why);
    }
}

/// A client that takes no more than 512 bytes could not take most errors, nor hardly any WELCOME.
const LENGTH_LEAST: MaxLength = MaxLength::at_most(1024);
