//! What a connection is due: gathered from its streams and replies in routing order, kept in its backlog where the socket
//! does not take it, dropped and counted where it cannot be kept.

use super::stream::{FRAME_SHARES_CHUNK, Member};
use super::{Delivery, Membership, Notice, Outlet, Run, flag};
use crate::clock::Instant;
use crate::counters::DropReason;
use crate::mutation::{Mutation, planted};

impl Delivery {
    /// Moves everything due to a connection into its backlog, in routing order.
    pub(super) fn collect(&mut self, now: Instant, outlet: Outlet) {
        if self.is_closed(outlet) {
            return self.forget_due(outlet, DropReason::ConnectionGone);
        }
        self.gather(outlet);
        let runs = std::mem::take(&mut self.runs);
        for run in &runs {
            self.keep(now, outlet, *run, 0);
        }
        self.runs = runs;
        if let Some(outbox) = self.outlets[outlet.index()].outbox.as_mut() {
            outbox.clear_replies();
        }
    }

    /// Lists what a connection is due in `runs`, by sequence, and moves its positions to the end.
    pub(super) fn gather(&mut self, outlet: Outlet) {
        self.runs.clear();
        let state = &mut self.outlets[outlet.index()];
        let mut sources = 0;
        if let Some(outbox) = &mut state.outbox {
            let runs = &mut self.runs;
            outbox.take_replies(|sequence, from, to, event_of| {
                sources = 1;
                runs.push(Run { sequence, source: None, from, to, event_of });
            });
        }
        if planted(Mutation::PullForwardLeftOut) && !self.runs.is_empty() {
            return;
        }
        let mut from_stream = |membership: &Membership| {
            let stream =
                self.streams[membership.stream.index()].as_mut().expect("members keep streams alive");
            let end = stream.end();
            let member = stream.members[membership.index as usize];
            if member.pos == end {
                return;
            }
            stream.members[membership.index as usize] = Member { pos: end, outlet, excepted: false };
            sources += 1;
            let source = Some(membership.stream);
            let mut due = |from, to| {
                let sequence = stream.mark(from).sequence;
                self.runs.push(Run { sequence, source, from, to, event_of: source });
            };
            if stream.is_choosy(&member) {
                let uncounted = stream.for_each_due(&member, &self.labels[outlet.index()], due);
                self.counters.matched += uncounted;
                self.counters.queued += uncounted;
                self.asked += end - member.pos;
            } else {
                due(member.pos, end);
            }
        };
        // Whichever is fewer: a connection with a thousand subscriptions meets few active streams.
        if state.memberships.len() <= WALK_MEMBERSHIPS.max(self.active.len()) {
            state.memberships.iter().for_each(from_stream);
        } else {
            for id in &self.active {
                if let Ok(at) = state.memberships.binary_search_by_key(id, |membership| membership.stream) {
                    from_stream(&state.memberships[at]);
                }
            }
        }
        if sources > 1 && !planted(Mutation::MergeLeftOut) {
            self.interleave(outlet);
        }
    }

    /// Cuts the runs of several sources into frames and puts them into routing order.
    fn interleave(&mut self, outlet: Outlet) {
        let count = self.runs.len();
        for at in 0..count {
            let run = self.runs[at];
            for frame in run.from..run.to {
                let sequence = match run.source {
                    Some(id) => self.stream(id).mark(frame).sequence,
                    None => {
                        let outbox = self.outlets[outlet.index()].outbox.as_ref().expect("it has replies");
                        outbox.marks[frame as usize].sequence
                    }
                };
                self.runs.push(Run { sequence, from: frame, to: frame + 1, ..run });
            }
        }
        self.runs.drain(..count);
        self.runs.sort_unstable();
        self.runs.dedup_by(|next, run| {
            let joins = (next.source, next.event_of) == (run.source, run.event_of) && next.from == run.to;
            if joins {
                run.to = next.to;
            }
            joins
        });
    }

    /// Appends a run to the backlog, less its first `skip` bytes; or cuts the connection where that would be too much.
    pub(super) fn keep(&mut self, now: Instant, outlet: Outlet, run: Run, skip: usize) {
        let index = outlet.index();
        let bytes = self.run_bytes(outlet, &run) - skip;
        let done = match run.source {
            _ if skip == 0 => 0,
            Some(id) => self.stream(id).frames_within(run.from, run.to, skip),
            None => self.outlets[index]
                .outbox
                .as_ref()
                .map_or(0, |outbox| outbox.replies_within(run.from, run.to, skip)),
        };
        let messages = run.to - run.from - done;
        let is_event = run.event_of.is_some();
        let events = if is_event { messages } else { 0 };
        if is_event {
            self.counters.delivered += done;
            self.counters.queued -= done;
        }
        if self.flags[index] & flag::CLOSED != 0 {
            self.counters.queued -= events;
            self.counters.drop_events(DropReason::ConnectionGone, events);
            return;
        }
        if let Some(id) = run.event_of.filter(|id| self.has_rule(outlet, *id)) {
            return self.keep_by_rule(now, outlet, id, run, done, skip);
        }
        if planted(Mutation::ReplyDropped) && !is_event && self.waits(outlet) {
            return;
        }
        if let Err(reason) = self.make_room(outlet, bytes, is_event) {
            self.counters.queued -= events;
            self.counters.drop_events(reason, events);
            return self.cut(outlet, reason);
        }
        self.push_run(now, outlet, run, skip);
        // An encoder counts them itself, frame by frame.
        if self.flags[index] & flag::ENCODED == 0
            && let Some(outbox) = self.outlets[index].outbox.as_mut()
        {
            outbox.credit(events, messages);
        }
    }

    /// Appends the bytes of a run, less its first `skip`, to what waits, as something that is not dropped.
    pub(super) fn push_run(&mut self, now: Instant, outlet: Outlet, run: Run, skip: usize) {
        let index = outlet.index();
        let bytes = self.run_bytes(outlet, &run) - skip;
        let outbox =
            self.outlets[index].outbox.get_or_insert_with(|| self.outboxes.pop().unwrap_or_default());
        if self.flags[index] & flag::ENCODED != 0 {
            debug_assert_eq!(skip, 0, "frames for its encoder are not sent as they lie");
            return self.encode(now, outlet, run);
        }
        self.counters.outbox_bytes += bytes as u64;
        let ages = run.event_of.is_some();
        match run.source {
            None => {
                // Split borrow: the replies lie in the outbox that they are appended to.
                let replies = std::mem::take(&mut outbox.replies);
                let start = if run.from == 0 { 0 } else { outbox.marks[run.from as usize - 1].end };
                outbox.push_copy(&replies[start + skip..outbox.marks[run.to as usize - 1].end], ages, now);
                outbox.replies = replies;
            }
            Some(id) => {
                let stream = self.streams[id.index()].as_mut().expect("the stream is alive");
                if bytes <= FRAME_SHARES_CHUNK {
                    stream.for_each_slice(run.from, run.to, skip, |piece| outbox.push_copy(piece, ages, now));
                } else {
                    stream.share(run.from, run.to, skip, |piece| outbox.push_shared(piece, ages, now));
                }
            }
        }
    }

    /// The connection passed a limit: it gets nothing more, and the owner is told.
    pub(super) fn cut(&mut self, outlet: Outlet, reason: DropReason) {
        if self.flags[outlet.index()] & flag::CLOSED == 0 {
            self.condemn(outlet, reason);
            if reason != DropReason::ConnectionGone {
                self.counters.slow_consumers_cut += 1;
            }
            self.notices.push(Notice::Cut(outlet, reason));
        }
    }

    /// Drops everything that a connection has not had. Its memberships stay until [`Self::detach`], which must not
    /// happen inside a scan.
    pub(super) fn condemn(&mut self, outlet: Outlet, reason: DropReason) {
        let index = outlet.index();
        self.forget_due(outlet, reason);
        if self.flags[index] & flag::CLOSED != 0 {
            return;
        }
        if self.flags[index] & flag::BLOCKED != 0 {
            self.counters.blocked -= 1;
        }
        // DIRTY and LISTED stay: their lists still name the slot.
        self.flags[index] = (self.flags[index] & (flag::DIRTY | flag::LISTED)) | flag::CLOSED;
        if let Some(mut outbox) = self.outlets[index].outbox.take() {
            self.end_pauses(&mut outbox);
            let events = outbox.waiting_events();
            self.counters.queued -= events;
            if !planted(Mutation::CutNotCounted) {
                self.counters.drop_events(reason, events);
            }
            self.counters.outbox_bytes -= outbox.backlog_bytes() as u64;
            self.recycle(outbox);
        }
    }

    /// Drops what the streams owe a connection.
    pub(super) fn forget_due(&mut self, outlet: Outlet, reason: DropReason) {
        let Some(state) = self.outlets.get(outlet.index()) else { return };
        for membership in &state.memberships {
            let stream =
                self.streams[membership.stream.index()].as_mut().expect("members keep streams alive");
            let end = stream.end();
            let member = stream.members[membership.index as usize];
            let mut due = end - member.pos;
            if stream.is_choosy(&member) {
                due = 0;
                let label = &self.labels[outlet.index()];
                let uncounted = stream.for_each_due(&member, label, |from, to| due += to - from);
                self.counters.matched += uncounted;
                self.counters.queued += uncounted;
            }
            stream.members[membership.index as usize] = Member { pos: end, outlet, excepted: false };
            self.counters.queued -= due;
            self.counters.drop_events(reason, due);
        }
    }
}

/// Memberships up to which walking them beats looking the active streams up in them.
const WALK_MEMBERSHIPS: usize = 8;
