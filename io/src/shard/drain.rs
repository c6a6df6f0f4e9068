//! The end of the process: everybody is told, a few at a time.

use std::collections::VecDeque;
use std::time::Duration;

use fanwire_core::{Instant, Outlet};

use super::Shard;
use crate::service::Service;
use crate::slots::{CloseReason, Stage, flag};

/// Goodbyes under way.
pub(super) struct Drain {
    /// Who has not been told yet.
    queue: VecDeque<u32>,
    /// When the next one is told.
    next_at: Instant,
    step: Duration,
    /// When whoever is left is cut.
    end_at: Instant,
    /// Nobody is left here: when it is looked again whether somebody is elsewhere.
    look_at: Option<Instant>,
    /// Nobody is left anywhere: until when the last answers to the control thread are waited for.
    answers_by: Option<Instant>,
}

impl Drain {
    /// Whether only last answers are waited for.
    pub(super) fn is_nobody_left(&self) -> bool {
        self.answers_by.is_some()
    }

    pub(super) fn next_at(&self) -> Instant {
        let sooner = self.answers_by.or(self.look_at);
        let end_at = sooner.map_or(self.end_at, |at| at.min(self.end_at));
        if self.queue.is_empty() { end_at } else { self.next_at.min(end_at) }
    }
}

impl<S: Service> Shard<S> {
    /// Stops listening and begins to say goodbye.
    pub(super) fn start_draining(&mut self) {
        if self.drain.is_some() {
            return;
        }
        self.acceptor.close();
        self.links.spread.loads.retire(usize::from(self.id.get()));
        let mut all: Vec<u32> = self.slots.all().collect();
        // Their goodbyes go out by HTTP connections.
        all.sort_by_key(|slot| self.slots.hot[*slot as usize].stage == Stage::Http);
        let queue = VecDeque::from(all);
        let time = self.config.drain_time;
        // The last quarter of the time is for the last ones' answers.
        let window = time - time / 4;
        let step = (window / u32::try_from(queue.len().max(1)).unwrap_or(u32::MAX)).min(STEP_MAX);
        self.drain = Some(Drain {
            queue,
            next_at: self.now,
            step,
            end_at: self.now + time,
            look_at: None,
            answers_by: None,
        });
    }

    pub(super) fn continue_draining(&mut self) {
        let now = self.now;
        while let Some(drain) = &mut self.drain
            && drain.next_at <= now
            && let Some(slot) = drain.queue.pop_front()
        {
            drain.next_at = drain.next_at + drain.step;
            self.say_goodbye(slot);
        }
    }

    fn say_goodbye(&mut self, slot: u32) {
        match self.slots.hot[slot as usize].stage {
            Stage::Head if self.awaits_handshake(slot) => self.lose(slot, CloseReason::Drain),
            Stage::Head => {
                // It has not asked for anything yet, or not completely.
                let is_raw = self.begins_raw(slot, &[]);
                self.links.counters.rawsocket_draining.add(u64::from(is_raw));
                self.service.finish(Outlet(slot));
                self.slots.hot[slot as usize].set(flag::DISCARD);
                self.begin_closing(slot, CloseReason::Drain);
            }
            Stage::Http => self.drain_http(slot),
            Stage::Open => {
                self.await_goodbye(slot, CloseReason::Drain);
                self.service.shut_down(self.now, Outlet(slot));
            }
            Stage::Free | Stage::Dead | Stage::Closing | Stage::Lingering => {}
        }
    }

    /// Whether the drain has come to its end: nobody is left on any shard, or the time is over. Those who are left elsewhere may need
    /// this one: it publishes for the control thread what they leave behind, and serves that thread's own subscribers.
    pub(super) fn drain_ended(&mut self) -> bool {
        let Some(drain) = &mut self.drain else { return false };
        if self.now >= drain.end_at {
            self.stop();
            return true;
        }
        // Not the slots alone: another shard may be about to hand one over.
        let loads = &self.links.spread.loads;
        if !loads.are_over() {
            let is_idle = loads.of(usize::from(self.id.get())) == 0;
            drain.look_at = is_idle.then(|| self.now + LOOK_INTERVAL);
            return false;
        }
        let answers_by = *drain.answers_by.get_or_insert(self.now + LAST_ANSWERS_TIME);
        // Whoever has published learns whether it is published.
        !self.service.is_publishing() || self.now >= answers_by
    }

    /// Cuts everybody now.
    pub(super) fn stop(&mut self) {
        self.acceptor.close();
        self.drop_arrivals();
        let all: Vec<u32> = self.slots.all().collect();
        for slot in all {
            self.lose(slot, CloseReason::Drain);
        }
        self.bury();
    }

    /// Nobody is left, and there is no next turn: who waits for an answer learns that there is none, and who was left something is woken.
    pub(super) fn end(&mut self) {
        self.service.give_up_publishing();
        self.drop_requests();
        self.ring_touched();
        self.publish_counters();
    }

    /// Nobody will handle what the control thread still asks for: whoever asked learns it by that.
    pub(super) fn drop_requests(&mut self) {
        while self.links.mailbox.requests.pop().is_some() {}
    }
}

/// How often who has nobody left looks at the others.
const LOOK_INTERVAL: Duration = Duration::from_millis(20);
/// For what other shards say of the last publications, which takes them a turn or two if they have not ended.
const LAST_ANSWERS_TIME: Duration = Duration::from_millis(500);

/// A handful of connections is gone within the second; many are spread over the drain time.
const STEP_MAX: Duration = Duration::from_millis(50);
