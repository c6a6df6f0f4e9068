//! The flush: from streams and outboxes to the wire.

use std::io::IoSlice;

use super::outbox::Outbox;
use super::stream::{Member, Queue};
use super::{Delivery, FlushBudget, Notice, Outlet, Run, Sent, StreamId, Wire, flag};
use crate::clock::Instant;
use crate::counters::DropReason;
use crate::mutation::{Mutation, planted};

impl Delivery {
    /// Dirty connections, small streams, one slice of a large stream. Returns whether work is left.
    pub fn flush(&mut self, now: Instant, wire: &mut impl Wire, budget: &FlushBudget) -> bool {
        self.flush_dirty(now, wire);
        self.flush_small(now, wire, budget);
        self.flush_slice(now, wire, budget.slice_sends);
        self.has_work()
    }

    /// Whether a flush would send something.
    pub fn has_work(&self) -> bool {
        !(self.dirty.is_empty() && self.small.is_empty() && self.big.is_empty())
    }

    /// Writes every connection with replies or a writable backlog.
    pub fn flush_dirty(&mut self, now: Instant, wire: &mut impl Wire) {
        for _ in 0..self.dirty.len() {
            let Some(outlet) = self.dirty.pop_front() else { break };
            self.flags[outlet.index()] &= !flag::DIRTY;
            self.write_out(now, outlet, wire);
        }
    }

    /// Visits each small stream once, until `small_sends` are used up. One that has a single frame is visited whole. Where there
    /// are several, more are on their way: it is visited in slices, and what comes between two of them shares their sends.
    pub fn flush_small(&mut self, now: Instant, wire: &mut impl Wire, budget: &FlushBudget) {
        let slice = budget.slice_sends.div_ceil(SMALL_SLICES);
        let mut spent = 0;
        for _ in 0..self.small.len() {
            if spent >= budget.small_sends * SEND_COSTS {
                break;
            }
            let Some(id) = self.small.pop_front() else { break };
            if self.is_deleted(id) {
                continue;
            }
            let sends = if self.stream(id).frame_count() > 1 { slice } else { WHOLE };
            let (ended, cost) = self.scan(now, id, sends * SEND_COSTS, wire);
            spent += cost;
            if ended {
                self.retire_scan(id);
            } else {
                self.small.push_back(id);
            }
        }
    }

    /// Visits members of one large stream until `sends` are used up or its scan ends.
    pub fn flush_slice(&mut self, now: Instant, wire: &mut impl Wire, sends: usize) {
        while let Some(id) = self.big.pop_front() {
            if self.is_deleted(id) {
                continue;
            }
            match self.scan(now, id, sends * SEND_COSTS, wire) {
                (true, _) => {
                    self.retire_scan(id);
                    self.order_members(id);
                }
                (false, _) => self.big.push_back(id),
            }
            return;
        }
    }

    /// Whether a queued stream was deleted meanwhile; its number is free for another one from now on.
    fn is_deleted(&mut self, id: StreamId) -> bool {
        let deleted = self.streams[id.index()].is_none();
        if deleted {
            self.free_streams.push(id);
        }
        deleted
    }

    /// The stream owes nobody anything.
    pub(super) fn retire_scan(&mut self, id: StreamId) {
        let stream = self.streams[id.index()].as_mut().expect("queued streams are alive");
        stream.queue = Queue::Idle;
        let at = stream.active_at;
        self.active.swap_remove(at);
        if let Some(moved) = self.active.get(at) {
            self.streams[moved.index()].as_mut().expect("active streams are alive").active_at = at;
        }
    }

    /// Connections that came one after the other have their sockets side by side in the kernel's memory. Visits in that order
    /// cost less than visits in any other, 0.91 for 1,000 members and 0.70 for 10,000; so members that did not join in it are put
    /// into it at times. Slots are given out in that order while none is used again.
    fn order_members(&mut self, id: StreamId) {
        let stream = self.streams[id.index()].as_mut().expect("the stream is alive");
        if !stream.is_disordered() {
            return;
        }
        stream.order_members();
        for (index, member) in (0u32..).zip(&stream.members) {
            let memberships = &mut self.outlets[member.outlet.index()].memberships;
            let place = memberships.partition_point(|membership| membership.stream < id);
            if !planted(Mutation::OldPlacesAfterOrdering) {
                memberships[place].index = index;
            }
        }
    }

    /// Goes on with a stream's scan until `budget` is spent; says whether it came to its end, and what it spent.
    ///
    /// A visit that only moves bytes into the backlog of a full socket costs too, or many of those would hold up all else.
    fn scan(&mut self, now: Instant, id: StreamId, budget: usize, wire: &mut impl Wire) -> (bool, usize) {
        let mut spent = 0;
        loop {
            let stream = self.streams[id.index()].as_mut().expect("queued streams are alive");
            if stream.left == 0 {
                let end = stream.end();
                stream.round = end;
                self.trim(id, end);
                return (true, spent);
            }
            if spent >= budget {
                return (false, spent);
            }
            let (cost, stop) = self.stride(id, budget - spent, wire);
            spent += cost;
            let kept = self.kept;
            match stop {
                Stop::Reached => {}
                Stop::Uncommon(outlet) => spent += self.visit_slowly(now, outlet, wire),
                Stop::Pieces(index) => spent += self.visit_pieces(now, id, index, wire),
                Stop::Short(index, from, sent) => self.note_short(now, id, index, from, sent),
            }
            spent += (self.kept - kept) as usize / KEPT_PER_VISIT;
            self.note_passing(id);
        }
    }

    /// Where the cursor has come to the end of the members, it goes on at the first, and what all have had may go.
    fn note_passing(&mut self, id: StreamId) {
        let stream = self.streams[id.index()].as_mut().expect("a visit deletes no stream");
        if stream.cursor < stream.members.len() {
            return;
        }
        stream.cursor = 0;
        // Everybody was visited since the last passing of zero and has at least what there was then.
        let safe = if planted(Mutation::TrimmedTooEarly) { stream.end() } else { stream.round };
        stream.round = stream.end();
        self.trim(id, safe);
    }

    fn trim(&mut self, id: StreamId, frame: u64) {
        let stream = self.streams[id.index()].as_mut().expect("the stream is alive");
        stream.trim(frame, &mut self.chunks);
        if stream.congested && stream.held_bytes() <= self.limits.stream_congested_bytes / 2 {
            stream.congested = false;
            self.notices.push(Notice::Congested { tag: stream.tag, congested: false });
        }
        if stream.brimming && stream.held_bytes() < self.limits.stream_bytes_max / 2 {
            stream.brimming = false;
            self.brimming -= 1;
        }
    }

    /// Visits members from the cursor on while they are the common case: member of one stream, nothing waiting, everything
    /// due and in one piece, and the socket takes it. The stream's own bytes go as they are. Says what that cost, and why it
    /// stopped; the member that it stopped at is the caller's, and the cursor is past it.
    ///
    /// This is all that most deliveries cost, so it looks at each member once and at the stream only where positions differ.
    fn stride(&mut self, id: StreamId, budget: usize, wire: &mut impl Wire) -> (usize, Stop) {
        let Self { streams, flags, counters, .. } = self;
        let stream = streams[id.index()].as_mut().expect("queued streams are alive");
        let (start, end) = (stream.cursor, stream.end());
        let reach = stream.left.min(stream.members.len() - start);
        // Apart, so that bytes of the stream can be held while positions change.
        let mut members = std::mem::take(&mut stream.members);
        let (mut bytes, mut bytes_from): (&[u8], u64) = (&[], end);
        let (mut visited, mut sends, mut sent_bytes, mut events) = (0, 0, 0, 0);
        let mut stop = Stop::Reached;
        for (index, member) in (start..).zip(&mut members[start..start + reach]) {
            if sends * SEND_COSTS >= budget {
                break;
            }
            visited += 1;
            if member.pos == end {
                continue;
            }
            if flags[member.outlet.index()] != 0 || stream.is_choosy(member) {
                stop = Stop::Uncommon(member.outlet);
                break;
            }
            if member.pos != bytes_from && (bytes.is_empty() || !planted(Mutation::NeighboursBytes)) {
                let Some(piece) = stream.one_piece(member.pos, end) else {
                    stop = Stop::Pieces(index);
                    break;
                };
                (bytes, bytes_from) = (piece, member.pos);
            }
            member.pos = end;
            sends += 1;
            match wire.send(member.outlet, &[IoSlice::new(bytes)]) {
                Sent::Took(taken) if taken == bytes.len() => {
                    sent_bytes += taken as u64;
                    events += end - bytes_from;
                }
                sent => {
                    stop = Stop::Short(index, bytes_from, sent);
                    break;
                }
            }
        }
        stream.members = members;
        stream.cursor += visited;
        stream.left -= visited;
        counters.sends += sends as u64;
        counters.sent_bytes += sent_bytes;
        counters.delivered += events;
        counters.queued -= events;
        (sends * SEND_COSTS, stop)
    }

    /// Visits a member whose frames lie in several pieces; says what that cost.
    #[inline(never)]
    fn visit_pieces(&mut self, now: Instant, id: StreamId, index: usize, wire: &mut impl Wire) -> usize {
        let stream = self.streams[id.index()].as_mut().expect("the stream is alive");
        let Member { pos, outlet, .. } = stream.members[index];
        let end = stream.end();
        stream.members[index].pos = end;
        let mut slices = [IoSlice::new(&[]); SLICES];
        let used = stream.fill(pos, end, 0, &mut slices, 0);
        let due_bytes = stream.byte_count(pos, end);
        self.counters.sends += 1;
        match wire.send(outlet, &slices[..used]) {
            Sent::Took(taken) if taken == due_bytes => {
                self.counters.sent_bytes += taken as u64;
                self.counters.delivered += end - pos;
                self.counters.queued -= end - pos;
            }
            // All that was offered, but more pieces than one send has: the rest is tried by the next flush.
            Sent::Took(taken) if taken == slices[..used].iter().map(|slice| slice.len()).sum() => {
                self.make_dirty(outlet);
                self.keep_rest(now, id, index, pos, taken);
            }
            sent => self.note_short(now, id, index, pos, sent),
        }
        SEND_COSTS
    }

    /// Visits a member that must be asked, merged, encoded or spared; says what that cost.
    #[inline(never)]
    fn visit_slowly(&mut self, now: Instant, outlet: Outlet, wire: &mut impl Wire) -> usize {
        let (sends, asked) = (self.counters.sends, self.asked);
        let encoded = self.counters.deflated_frames_alone;
        self.write_out(now, outlet, wire);
        let spent = if self.counters.sends > sends { SEND_COSTS } else { 1 };
        spent
            + (self.asked - asked) as usize / ASKED_PER_VISIT
            + (self.counters.deflated_frames_alone - encoded) as usize * ENCODE_COSTS
    }

    /// The socket of member `index` did not take all of the frames `from..`, or broke.
    #[cold]
    fn note_short(&mut self, now: Instant, id: StreamId, index: usize, from: u64, sent: Sent) {
        let outlet = self.stream(id).members[index].outlet;
        match sent {
            Sent::Took(taken) => {
                self.block(now, outlet);
                self.keep_rest(now, id, index, from, taken);
            }
            Sent::Broken => {
                let due = self.stream(id).end() - from;
                self.counters.queued -= due;
                self.counters.drop_events(DropReason::ConnectionGone, due);
                self.cut(outlet, DropReason::ConnectionGone);
            }
        }
    }

    /// Keeps the frames `from..` of member `index`, less the `taken` bytes that its socket took.
    fn keep_rest(&mut self, now: Instant, id: StreamId, index: usize, from: u64, taken: usize) {
        let stream = self.stream(id);
        let (outlet, to) = (stream.members[index].outlet, stream.end());
        self.counters.sent_bytes += taken as u64;
        self.keep(now, outlet, Run { sequence: 0, source: Some(id), from, to, event_of: Some(id) }, taken);
        if planted(Mutation::PositionNotMoved) {
            self.streams[id.index()].as_mut().expect("it was visited").members[index].pos = from;
        }
    }

    /// Writes everything due to a connection: backlog first, then what its streams owe it and its replies, merged.
    fn write_out(&mut self, now: Instant, outlet: Outlet, wire: &mut impl Wire) {
        let index = outlet.index();
        if self.flags[index] & flag::CLOSED != 0 {
            return self.forget_due(outlet, DropReason::ConnectionGone);
        }
        if self.flags[index] & flag::BLOCKED != 0 {
            return self.collect(now, outlet);
        }
        // The socket is asked before any limit is tested: who reads is not slow, however much is due at once.
        self.send_backlog(now, outlet, wire);
        if self.anyone_hears_gaps()
            && !planted(Mutation::GapAfterWhatFollows)
            && self.tell_last_gaps(now, outlet)
        {
            self.send_backlog(now, outlet, wire);
        }
        if self.flags[index] & (flag::BLOCKED | flag::CLOSED) != 0 {
            return self.collect(now, outlet);
        }
        if self.flags[index] & flag::ENCODED != 0 {
            self.collect(now, outlet);
            self.send_backlog(now, outlet, wire);
        } else {
            self.gather(outlet);
            self.send_runs(now, outlet, wire);
        }
        if self.anyone_hears_gaps() && self.tell_last_gaps(now, outlet) {
            self.send_backlog(now, outlet, wire);
        }
        self.settle(outlet);
    }

    /// Sends the gathered runs as they lie; what the socket does not take becomes the backlog.
    fn send_runs(&mut self, now: Instant, outlet: Outlet, wire: &mut impl Wire) {
        if self.runs.is_empty() {
            return;
        }
        let runs = std::mem::take(&mut self.runs);
        // The first run not sent yet, and how much of it was.
        let (mut at, mut part) = (0, 0);
        while at < runs.len() && self.flags[outlet.index()] & (flag::BLOCKED | flag::CLOSED) == 0 {
            let (sent, offered) = self.offer_runs(outlet, &runs[at..], part, wire);
            self.counters.sends += 1;
            let Sent::Took(mut taken) = sent else {
                self.cut(outlet, DropReason::ConnectionGone);
                break;
            };
            if taken < offered {
                self.block(now, outlet);
            }
            self.counters.sent_bytes += taken as u64;
            while at < runs.len() {
                let rest = self.run_bytes(outlet, &runs[at]) - part;
                if taken < rest {
                    part += taken;
                    break;
                }
                taken -= rest;
                part = 0;
                if runs[at].event_of.is_some() {
                    self.counters.delivered += runs[at].to - runs[at].from;
                    self.counters.queued -= runs[at].to - runs[at].from;
                }
                at += 1;
            }
        }
        for run in &runs[at..] {
            self.keep(now, outlet, *run, part);
            part = 0;
        }
        if let Some(outbox) = self.outlets[outlet.index()].outbox.as_mut() {
            outbox.clear_replies();
        }
        self.runs = runs;
    }

    /// One send of as many runs as fit, less the first `skip` bytes of the first; also says how much was offered.
    fn offer_runs(&self, outlet: Outlet, runs: &[Run], skip: usize, wire: &mut impl Wire) -> (Sent, usize) {
        // Mostly there are replies alone, which lie in one piece: to prepare a list of pieces costs more than all the rest.
        if let [Run { source: None, from, to, .. }] = *runs {
            let outbox = self.outlets[outlet.index()].outbox.as_ref().expect("it has replies");
            let bytes = outbox.reply_bytes(from, to, skip);
            return (wire.send(outlet, &[IoSlice::new(bytes)]), bytes.len());
        }
        self.offer_pieces(outlet, runs, skip, wire)
    }

    #[inline(never)]
    fn offer_pieces(&self, outlet: Outlet, runs: &[Run], skip: usize, wire: &mut impl Wire) -> (Sent, usize) {
        let mut slices = [IoSlice::new(&[]); SLICES];
        let (mut used, mut skip) = (0, skip);
        for run in runs {
            if used == SLICES {
                break;
            }
            used = match run.source {
                Some(id) => self.stream(id).fill(run.from, run.to, skip, &mut slices, used),
                None => {
                    let outbox = self.outlets[outlet.index()].outbox.as_ref().expect("it has replies");
                    slices[used] = IoSlice::new(outbox.reply_bytes(run.from, run.to, skip));
                    used + 1
                }
            };
            skip = 0;
        }
        let offered = slices[..used].iter().map(|slice| slice.len()).sum();
        (wire.send(outlet, &slices[..used]), offered)
    }

    pub(super) fn run_bytes(&self, outlet: Outlet, run: &Run) -> usize {
        match run.source {
            Some(id) => self.stream(id).byte_count(run.from, run.to),
            None => self.outlets[outlet.index()]
                .outbox
                .as_ref()
                .map_or(0, |outbox| outbox.reply_bytes(run.from, run.to, 0).len()),
        }
    }

    fn send_backlog(&mut self, now: Instant, outlet: Outlet, wire: &mut impl Wire) {
        while self.flags[outlet.index()] & (flag::BLOCKED | flag::CLOSED) == 0 {
            let Some(outbox) = self.outlets[outlet.index()].outbox.as_mut() else { return };
            if outbox.waiting.is_some() {
                self.commit(now, outlet);
            }
            let Some(outbox) =
                self.outlets[outlet.index()].outbox.as_mut().filter(|outbox| outbox.has_backlog())
            else {
                return;
            };
            let (sent, offered) = {
                let mut slices = [IoSlice::new(&[]); SLICES];
                let used = outbox.fill(&mut slices);
                let offered: usize = slices[..used].iter().map(|slice| slice.len()).sum();
                (wire.send(outlet, &slices[..used]), offered)
            };
            self.counters.sends += 1;
            match sent {
                Sent::Took(taken) => {
                    let (events, relieved) = outbox.taken(taken);
                    self.counters.sent_bytes += taken as u64;
                    self.counters.outbox_bytes -= taken as u64;
                    self.counters.delivered += events;
                    self.counters.queued -= events;
                    if relieved {
                        self.notices.push(Notice::Relieved(outlet));
                    }
                    if taken < offered {
                        self.block(now, outlet);
                    }
                }
                Sent::Broken => self.cut(outlet, DropReason::ConnectionGone),
            }
        }
    }

    /// Returns an empty outbox to the pool and says when a finishing connection is done.
    fn settle(&mut self, outlet: Outlet) {
        let index = outlet.index();
        if self.flags[index] & flag::CLOSED != 0
            || self.outlets[index].outbox.as_ref().is_some_and(|outbox| !outbox.is_empty())
        {
            return;
        }
        if let Some(mut outbox) = self.outlets[index].outbox.take() {
            // What is compressed for it alone is less than what it was held for.
            if outbox.release() {
                self.notices.push(Notice::Relieved(outlet));
            }
            self.recycle(outbox);
        }
        if self.flags[index] & (flag::FINISHING | flag::FINISHED) == flag::FINISHING {
            self.flags[index] |= flag::FINISHED;
            self.notices.push(Notice::Finished(outlet));
        }
    }

    pub(super) fn recycle(&mut self, mut outbox: Box<Outbox>) {
        if self.outboxes.len() < POOL_OUTBOXES {
            outbox.reset();
            self.outboxes.push(outbox);
        }
    }

    fn block(&mut self, now: Instant, outlet: Outlet) {
        let flags = &mut self.flags[outlet.index()];
        if *flags & (flag::CLOSED | flag::BLOCKED) != 0 {
            return;
        }
        *flags |= flag::BLOCKED;
        self.counters.blocked += 1;
        self.counters.sends_short += 1;
        if *flags & flag::LISTED == 0 {
            *flags |= flag::LISTED;
            if self.blocked.is_empty() {
                self.age_check = now + self.age_interval();
            }
            self.blocked.push(outlet);
        }
    }
}

/// Why a stride of the scan ended.
enum Stop {
    /// At the end of the members or of the budget.
    Reached,
    /// This one must be asked, merged, encoded or spared.
    Uncommon(Outlet),
    /// The frames of the member at this place lie in several pieces.
    Pieces(usize),
    /// The socket of the member at this place did not take all of the frames from this one on.
    Short(usize, u64, Sent),
}

/// What a send costs in units of a visit that sends nothing: about 4 us against less than 1 us.
const SEND_COSTS: usize = 4;
/// More sends than a small stream has members.
const WHOLE: usize = usize::MAX / SEND_COSTS;
/// A small stream's slice is this part of a large one's. A topic with 100 subscribers and 16 publications in flight coalesces 12
/// messages per send visited whole, 13 to 16 with slices of 64 sends, 17 to 20 with slices of 32.
const SMALL_SLICES: usize = 2;
/// Frames whose lists are asked for one member, that together cost as much as a visit that sends nothing.
const ASKED_PER_VISIT: usize = 32;
/// Frames that are kept one by one for a slow member, because its topic has a rule, that together cost as much.
const KEPT_PER_VISIT: usize = 4;
/// What compressing a frame for one connection costs in the same units, about.
const ENCODE_COSTS: usize = 8;
/// Pieces of one send. More than this many wait for the next.
const SLICES: usize = 64;
/// Outboxes kept for connections that have something to say next.
const POOL_OUTBOXES: usize = 256;
