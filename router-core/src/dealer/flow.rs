//! Flow control of calls and results in parts.
//!
//! Of parts there is any number, and whoever takes them may be slower than whoever sends them, with nobody at fault. So a part
//! goes into an outbox only while little waits there:
//!
//! * Where both are on one shard, the sender is parked until there is room in the receiver's outbox.
//! * Else the sender is parked while [`WINDOW_BYTES`] of this call are under way. What finds no room on the receiver's shard
//!   is held there, with all that follows it for the same call; what was taken is told to the sender's shard.
//!
//! Parts that wait too long end their call, never their receiver's connection. For that a receiver must take what waits, up to a
//! quarter of an outbox and one part, within half of the age at which it would be cut. So who trickles stops no sender for long either.

use std::collections::VecDeque;
use std::mem::take;

use fanwire_codec::wamp2::{Payload, Serializer};
use hashbrown::HashMap;

use super::calls::Standing;
use crate::broker::Origin;
use crate::clock::Instant;
use crate::delivery::Outlet;
use crate::ids::ShardId;
use crate::lanes::Item;
use crate::mutation::{Mutation, planted};
use crate::parcel::{Answer, CallKey, Credit, Errand, Failure, Invocation, Outcome, Parcel, Sender};
use crate::session::error;
use crate::shard::Shard;

/// Parts of one call, in one direction, that are on their way to another shard. Larger: a held call keeps more memory. Smaller: one
/// call in parts waits more often for an answer of the other shard, some 10 us on a busy machine.
const WINDOW_BYTES: usize = 128 << 10;
/// What a part counts beside its payload, so that empty ones are bounded too.
const PART_BYTES: usize = 256;
/// What one shard holds of parts, of all calls. Beyond that a call whose parts find no room ends at once.
const HELD_BYTES_MAX: usize = 32 << 20;
/// Of that, for one receiver: one that takes little must not use up what all others need. A single part may be larger.
const HELD_OF_RECEIVER_MAX: usize = HELD_BYTES_MAX / 8;
/// Held calls looked at in one turn.
const HELD_PER_TURN: usize = 64;
/// And their parcels: those of calls that have ended need no room.
const PARCELS_PER_TURN: usize = 256;

/// What is under way to another shard of one call's parts.
#[derive(Clone, Copy, Default, Debug)]
pub(crate) struct Window {
    under_way: usize,
    /// Of that, what the other shard was not asked to confirm yet.
    unasked: usize,
}

impl Window {
    fn is_open(self) -> bool {
        self.under_way < WINDOW_BYTES
    }

    /// A part leaves. Returns the bytes that the other shard is to confirm when it has taken this part.
    fn send(&mut self, payload_bytes: usize) -> usize {
        self.under_way += payload_bytes + PART_BYTES;
        self.unasked += payload_bytes + PART_BYTES;
        // What is never asked about must leave the window open.
        if self.unasked < WINDOW_BYTES / 4 { 0 } else { take(&mut self.unasked) }
    }

    fn confirm(&mut self, bytes: usize) {
        self.under_way = self.under_way.saturating_sub(bytes);
    }
}

/// Parts from other shards that found no room, in the order in which their calls began to wait.
#[derive(Debug, Default)]
pub(crate) struct HeldParts {
    calls: HashMap<CallKey, HeldCall, foldhash::fast::FixedState>,
    order: VecDeque<CallKey>,
    bytes: usize,
    /// The same by receiver, where it is not 0.
    of_receivers: HashMap<Outlet, usize, foldhash::fast::FixedState>,
}

#[derive(Debug)]
struct HeldCall {
    /// For whom the first one was. Its number may be another's by now, who then waits a moment longer.
    receiver: Outlet,
    /// A part first, then whatever followed it.
    parcels: VecDeque<Box<Parcel>>,
    /// Since when the first one waits.
    since: Instant,
}

impl HeldParts {
    pub(crate) fn is_empty(&self) -> bool {
        self.order.is_empty()
    }

    /// Whether this may be held too. What has no payload is so little, and comes so seldom, that it always may.
    fn has_room(&self, receiver: Outlet, parcel: &Parcel) -> bool {
        let has_payload = matches!(parcel.errand(), Some(Errand::Invoke(_) | Errand::Answer(_)));
        let bytes = parcel.len() + PART_BYTES;
        let before = self.of_receivers.get(&receiver).copied().unwrap_or(0);
        // The share counts where others may want the room.
        let is_scarce = self.bytes + bytes > HELD_BYTES_MAX / 2;
        let fits = before == 0 || before + bytes <= HELD_OF_RECEIVER_MAX || !is_scarce;
        !has_payload || fits && self.bytes + bytes <= HELD_BYTES_MAX
    }

    fn push(&mut self, now: Instant, key: CallKey, receiver: Outlet, parcel: Box<Parcel>) {
        let bytes = parcel.len() + PART_BYTES;
        self.bytes += bytes;
        let held = self.calls.entry(key).or_insert_with(|| {
            self.order.push_back(key);
            HeldCall { receiver, parcels: VecDeque::new(), since: now }
        });
        *self.of_receivers.entry(held.receiver).or_default() += bytes;
        held.parcels.push_back(parcel);
    }

    /// This one is held no more.
    fn forget(&mut self, receiver: Outlet, parcel: &Parcel) {
        let bytes = parcel.len() + PART_BYTES;
        self.bytes -= bytes;
        if let Some(held) = self.of_receivers.get_mut(&receiver) {
            *held -= bytes;
            if *held == 0 {
                self.of_receivers.remove(&receiver);
            }
        }
    }
}

/// Whether a part may be said to its receiver.
enum Room {
    Free,
    Full,
    /// It has been full for too long.
    Stuck,
}

impl Shard {
    // --- the sender's side -------------------------------------------------------------------------------------

    /// Sends a part to its receiver, on this shard or another one; its sender is not read until there is room.
    pub(super) fn send_part(&mut self, now: Instant, origin: Origin, to: ShardId, parcel: Box<Parcel>) {
        if let Err(parcel) = self.try_part(now, now, origin, to, parcel)
            && !planted(Mutation::PartLost)
        {
            self.park_part(now, origin, to, parcel);
        }
    }

    /// The same for one that waits `since`; gives it back if it has to wait on.
    pub(crate) fn try_part(
        &mut self,
        now: Instant,
        since: Instant,
        origin: Origin,
        to: ShardId,
        mut parcel: Box<Parcel>,
    ) -> Result<(), Box<Parcel>> {
        if to == self.id {
            match self.room_for(now, since, &parcel) {
                Room::Full => return Err(parcel),
                Room::Stuck => self.fail_stuck(now, &parcel),
                Room::Free => {}
            }
            self.open_parcel(now, parcel);
            return Ok(());
        }
        if !self.lanes.has_room(to) {
            return Err(parcel);
        }
        match self.window_of(origin, &parcel) {
            Some(window) if !window.is_open() => return Err(parcel),
            Some(window) => {
                parcel.credit = window.send(parcel.len());
                self.lanes.stage(to, Item::Call(parcel));
            }
            None => self.discard_part(parcel),
        }
        Ok(())
    }

    /// What is under way of a call that still wants parts.
    fn window_of(&mut self, origin: Origin, parcel: &Parcel) -> Option<&mut Window> {
        match parcel.errand()? {
            Errand::Invoke(invocation) => {
                let number = invocation.call.number;
                self.calls.get(&number).filter(|call| call.standing == Standing::Waiting)?;
                Some(&mut self.extras_of(number).window)
            }
            Errand::Answer(Answer { outcome: Outcome::Progress { invocation }, .. }) => {
                let Origin::Session { outlet, .. } = origin else { return None };
                self.session_mut(outlet)?.invocations.window_of(*invocation)
            }
            _ => None,
        }
    }

    /// The call ended while this part waited.
    fn discard_part(&mut self, parcel: Box<Parcel>) {
        let counters = &mut self.delivery.counters;
        match parcel.errand() {
            Some(Errand::Answer(_)) => counters.results_discarded += 1,
            _ => counters.call_parts_discarded += 1,
        }
        self.spares.keep(parcel);
    }

    /// Another shard has taken parts that this one sent.
    pub(super) fn confirm_parts(&mut self, credit: Credit) {
        let window = match credit.sender {
            Sender::Caller { number } => self.call_extras.get_mut(&number).map(|extras| &mut extras.window),
            Sender::Callee { session, invocation } => {
                let Some(&outlet) = self.outlets.get(&session) else { return };
                self.session_mut(outlet).and_then(|session| session.invocations.window_of(invocation))
            }
        };
        if let Some(window) = window {
            window.confirm(credit.bytes);
        }
    }

    // --- the receiver's side -----------------------------------------------------------------------------------

    /// What came from another shard: a call, what became of one, or what a callee there says. It is opened at once unless it has
    /// to wait for room, or behind what does.
    #[inline]
    pub(crate) fn handle_parcel(&mut self, now: Instant, parcel: Box<Parcel>) {
        if self.held_parts.is_empty() && !parcel.is_part() {
            return self.open_parcel(now, parcel);
        }
        self.open_or_hold(now, parcel);
    }

    fn open_or_hold(&mut self, now: Instant, parcel: Box<Parcel>) {
        let Some(key) = parcel.call(self.id) else { return self.open_parcel(now, parcel) };
        if let Some(HeldCall { receiver, .. }) = self.held_parts.calls.get(&key) {
            let receiver = *receiver;
            if self.held_parts.has_room(receiver, &parcel) {
                return self.held_parts.push(now, key, receiver, parcel);
            }
            // The call ends. What this would have waited behind finds that when it is looked at next.
            self.fail_stuck(now, &parcel);
            return self.open_parcel(now, parcel);
        }
        let Some(receiver) = self.receiver_of(&parcel) else { return self.open_parcel(now, parcel) };
        match self.room_of(now, now, receiver, (parcel.serializer(), parcel.len())) {
            Room::Full if self.held_parts.has_room(receiver, &parcel) => {
                return self.held_parts.push(now, key, receiver, parcel);
            }
            Room::Full | Room::Stuck => self.fail_stuck(now, &parcel),
            Room::Free => {}
        }
        self.open_parcel(now, parcel);
    }

    /// Opens what was held and has room now. Part of every turn's beginning.
    pub(crate) fn try_held(&mut self, now: Instant) {
        let mut left = PARCELS_PER_TURN;
        for _ in 0..self.held_parts.order.len().min(HELD_PER_TURN) {
            if left == 0 {
                break;
            }
            let Some(key) = self.held_parts.order.pop_front() else { break };
            let Some(mut held) = self.held_parts.calls.remove(&key) else { continue };
            while left > 0
                && let Some(parcel) = held.parcels.pop_front()
            {
                left -= 1;
                match self.room_for(now, held.since, &parcel) {
                    Room::Full => {
                        held.parcels.push_front(parcel);
                        break;
                    }
                    // All that follows finds that the call has ended.
                    Room::Stuck => self.fail_stuck(now, &parcel),
                    Room::Free => {}
                }
                self.held_parts.forget(held.receiver, &parcel);
                held.since = now;
                self.open_parcel(now, parcel);
            }
            if !held.parcels.is_empty() {
                self.held_parts.calls.insert(key, held);
                self.held_parts.order.push_back(key);
            }
        }
    }

    /// Whether a part that waits `since` may be said. What nobody wants needs no room, nor does what is no part.
    fn room_for(&mut self, now: Instant, since: Instant, parcel: &Parcel) -> Room {
        match self.receiver_of(parcel) {
            Some(outlet) => self.room_of(now, since, outlet, (parcel.serializer(), parcel.len())),
            None => Room::Free,
        }
    }

    fn room_of(&mut self, now: Instant, since: Instant, outlet: Outlet, part: (Serializer, usize)) -> Room {
        if self.takes_part(outlet, part) {
            return Room::Free;
        }
        let age_max = self.config.limits.outbox_age_max;
        let is_stuck = |oldest: Instant| now.since(oldest) >= age_max / 2;
        if now.since(since) >= age_max || self.delivery.oldest_byte(outlet).is_some_and(is_stuck) {
            Room::Stuck
        } else {
            Room::Full
        }
    }

    /// Whether a part of so many bytes in this serializer may be said to this connection now.
    pub(super) fn takes_part(&self, outlet: Outlet, (serializer, bytes): (Serializer, usize)) -> bool {
        // The worst that its own serializer makes of it: of a `false` of MessagePack six characters, of a number of three characters nine bytes.
        let growth = match self.session(outlet).map(|session| session.encoding.serializer()) {
            Some(same) if same == serializer => 1,
            Some(Serializer::Json) => 8,
            _ => 3,
        };
        self.delivery.has_room_for_part(outlet, bytes.saturating_mul(growth))
    }

    /// Who is to be told a part; `None`: it is no part, or its call has ended.
    fn receiver_of(&mut self, parcel: &Parcel) -> Option<Outlet> {
        match parcel.errand()? {
            Errand::Invoke(invocation) if invocation.asks.continues => {
                let (call, outlet) = (invocation.call, *self.outlets.get(&invocation.callee)?);
                self.session_mut(outlet)?.invocations.find(call).map(|_| outlet)
            }
            Errand::Answer(Answer { number, outcome: Outcome::Progress { .. } }) => {
                self.calls.get(number).filter(|call| call.wants_parts())?.caller.outlet()
            }
            _ => None,
        }
    }

    /// The receiver takes nothing, or too slowly: the call ends with that.
    #[cold]
    fn fail_stuck(&mut self, now: Instant, parcel: &Parcel) {
        match parcel.errand() {
            Some(Errand::Invoke(Invocation { call, callee, .. })) => {
                self.stop_invocation_of(*call, *callee);
                self.send_failure(*call, Failure::Stuck);
            }
            Some(Errand::Answer(answer)) => {
                let words = "this client takes results in parts too slowly";
                self.give_up_call(now, answer.number, error::UNAVAILABLE, words);
            }
            _ => debug_assert!(false, "only parts wait for room"),
        }
    }

    /// Tells the sender's shard that parts were taken, where it wants to know.
    pub(super) fn tell_taken(&mut self, to: ShardId, sender: Sender, bytes: usize) {
        if bytes > 0 {
            let errand = Errand::Credit(Credit { sender, bytes });
            let parcel = self.spares.pack(errand, Serializer::Json, Payload::default());
            self.lanes.stage(to, Item::Call(parcel));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_window_opens_again_when_all_that_was_asked_is_confirmed() {
        for part_bytes in [0, 1, 1_000, WINDOW_BYTES / 4, WINDOW_BYTES, 3 * WINDOW_BYTES] {
            let mut window = Window::default();
            for _ in 0..5 {
                let (mut asked, mut parts) = (0, 0);
                while window.is_open() {
                    asked += window.send(part_bytes);
                    parts += 1;
                }
                assert!(parts <= WINDOW_BYTES / (part_bytes + PART_BYTES) + 1, "{part_bytes}: {parts}");
                window.confirm(asked);
                assert!(window.is_open() && parts > 0, "{part_bytes}");
            }
        }
    }
}
