//! The end of a run: everything comes to rest, everybody leaves, and nothing is left.

use super::{Verdict, World};
use crate::{check::accounting, client, plan::Act};
use fanwire_core::{FlushBudget, Readiness};
use std::time::Duration;

impl World {
    /// No new wishes: everything on its way arrives, everybody reads and answers, until nothing moves.
    pub(super) fn settle(&mut self) -> Verdict {
        self.come_to_rest(true)
    }

    /// The same, but that no callee says anything, and that the time of each call passes.
    pub(super) fn hush(&mut self) -> Verdict {
        self.come_to_rest(false)?;
        self.now = self.now + Duration::from_millis(2 * client::TIMEOUT_MAX_MS);
        for at in 0..self.homes.len() {
            self.fire(at)?;
            self.obey()?;
        }
        self.come_to_rest(false)?;
        self.jury.facts.losses = self.losses();
        self.jury.hushed()
    }

    fn come_to_rest(&mut self, callees_answer: bool) -> Verdict {
        for home in &mut self.homes {
            home.sockets.short_writes = 0;
        }
        self.plan.early_full = 0;
        let mut idle_rounds = 0;
        for _ in 0..ROUNDS_MAX {
            let before = self.moves;
            let sends_before: u64 = self.homes.iter().map(|home| home.sockets.bytes_taken).sum();
            self.now = self.now + Duration::from_micros(10);
            for at in 0..self.homes.len() {
                self.show_ring_space(at);
                for from in 0..self.homes.len() {
                    self.deliver(from, at, usize::MAX);
                }
                self.homes[at].shard.retry_parked(self.now);
                self.hand_requests(at, usize::MAX)?;
                self.push(at)?;
                let home = &mut self.homes[at];
                let work_left = home.shard.flush(self.now, &mut home.sockets, &FlushBudget::default());
                self.moves += u64::from(work_left);
                self.obey()?;
                self.reap(at)?;
                self.obey()?;
            }
            for _ in 0..self.questions.len() {
                self.decide()?;
                self.obey()?;
            }
            self.give_up_questions()?;
            for client in self.live.clone() {
                if !self.live.contains(&client) {
                    continue;
                }
                self.writable(client);
                self.read(client, usize::MAX)?;
                let state = &mut self.clients[client.0 as usize];
                while callees_answer && state.joined && state.has_invocations() && state.pipeline.len() < 16 {
                    state.act(Act::Answer, &self.plan, &[], &mut self.rng);
                }
                self.hand(client, usize::MAX)?;
                self.obey()?;
            }
            let sends: u64 = self.homes.iter().map(|home| home.sockets.bytes_taken).sum();
            // Several rounds, because a modelled socket may say EAGAIN for no reason.
            idle_rounds = if self.moves == before && sends == sends_before { idle_rounds + 1 } else { 0 };
            if idle_rounds >= 20 && self.homes.iter().any(|home| home.shard.replays() > 0) {
                // They look after a while whether their connections have room again.
                self.now = self.now + Duration::from_millis(10);
                idle_rounds = 0;
            }
            if idle_rounds >= 20 {
                self.is_at_rest()?;
                self.news_are_complete()?;
                return if callees_answer { self.api.are_answered() } else { Ok(()) };
            }
        }
        Err(format!("the world does not come to rest in {ROUNDS_MAX} rounds"))
    }

    /// As time passes, each shard comes to wait for nothing.
    fn nothing_is_awaited(&mut self) -> Verdict {
        for at in 0..self.homes.len() {
            let mut deadlines = 0;
            while let Some(deadline) = self.homes[at].shard.next_deadline() {
                deadlines += 1;
                if deadlines > DEADLINES_MAX {
                    return Err(format!("everybody has gone, and shard {at} waits until {deadline:?}"));
                }
                self.now = self.now.max(deadline);
                self.fire(at)?;
                self.obey()?;
            }
        }
        Ok(())
    }

    /// Nothing moves: then nothing may be waiting either.
    pub(super) fn is_at_rest(&self) -> Verdict {
        for (at, home) in self.homes.iter().enumerate() {
            let counters = home.shard.counters();
            if counters.queued != 0 || counters.outbox_bytes != 0 || home.shard.has_work() {
                return Err(format!("shard {at} is at rest with something queued: {counters:?}"));
            }
            if home.shard.readiness() == Readiness::Later {
                return Err(format!("shard {at} is at rest with a request by API in hand"));
            }
            if home.shard.staged_items() != 0 {
                return Err(format!("shard {at} is at rest with items for other shards"));
            }
        }
        for client in &self.live {
            let state = &self.clients[client.0 as usize];
            if state.paused && !state.deaf {
                return Err(format!("{client:?} was paused and never resumed"));
            }
            if self.jury.facts.is_leaving(*client) {
                return Err(format!("{client:?} was to leave, and nobody finishes its connection"));
            }
        }
        Ok(())
    }

    pub(super) fn everybody_leaves(&mut self) -> Verdict {
        for client in self.live.clone() {
            match self.rng.below(3) {
                0 => self.vanish(client)?,
                1 => self.drain(client)?,
                _ => {
                    self.clients[client.0 as usize].act(Act::Goodbye, &self.plan, &[], &mut self.rng);
                    self.hand(client, usize::MAX)?;
                }
            }
            self.obey()?;
        }
        self.settle()?;
        // Who never said HELLO, or was at its last words, has nothing to leave with.
        for client in self.live.clone() {
            self.vanish(client)?;
        }
        self.settle()?;
        self.all_inners_leave()?;
        for (at, home) in self.homes.iter().enumerate() {
            accounting::empty(at, home.shard.counters())?;
            accounting::empty_tables(at, &home.shard.table_sizes())?;
        }
        self.all_ends_are_told()?;
        self.nothing_is_awaited()?;
        accounting::empty_directory(&self.directory)
    }
}

/// More rounds than any plan can need: a round moves at least one message of each queue.
const ROUNDS_MAX: usize = 100_000;
/// Deadlines that one shard may still have when everybody has gone: of questions, receipts and connections that went.
const DEADLINES_MAX: usize = 1_000;
