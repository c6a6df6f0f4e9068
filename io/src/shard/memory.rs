//! What a shard does when the process is short of memory ([`Level`]): slices of it at the start of each turn.

use std::cmp::Reverse;

use fanwire_codec::http::HttpError;

use super::Shard;
use crate::pressure::{Level, Said};
use crate::service::Service;
use crate::slots::{CloseReason, Stage, flag};

/// What is known and under way.
#[derive(Debug, Default)]
pub(super) struct Memory {
    said: Said,
    /// Bytes to be given up still.
    to_shed: usize,
    /// The slot from which on those that have not logged in are still to be closed.
    closing_from: Option<u32>,
    /// Something was freed: the allocator should give it back, once the dead are buried.
    release: bool,
    /// How often somebody was told when to try again.
    refused: u64,
}

impl Memory {
    pub(super) fn level(&self) -> Level {
        self.said.level()
    }
}

impl<S: Service> Shard<S> {
    /// Whether the control thread has said something since.
    pub(super) fn has_memory_news(&self) -> bool {
        self.links.pressure.said() != self.memory.said
    }

    /// Does a slice of what is to be done about memory. True = there is more.
    #[inline]
    pub(super) fn relieve_memory(&mut self) -> bool {
        let Memory { to_shed, closing_from, release, .. } = &self.memory;
        if !self.has_memory_news() && *to_shed == 0 && closing_from.is_none() && !release {
            return false;
        }
        self.relieve_memory_now()
    }

    #[cold]
    fn relieve_memory_now(&mut self) -> bool {
        let said = self.links.pressure.said();
        let before = std::mem::replace(&mut self.memory.said, said);
        if said.level() > before.level() {
            self.pool.drop_spares();
            self.service.drop_spares();
        }
        // What connections that ended have freed is with the allocator still.
        self.memory.release |= said != before;
        if said.level() < Level::Refuse {
            self.memory.closing_from = None;
        } else if before.level() < Level::Refuse {
            self.memory.closing_from = Some(0);
        }
        // Only what is asked for now: what was not found before is not there.
        self.memory.to_shed = match said.shed_bytes(before) {
            _ if said.level() < Level::Shed => 0,
            0 => self.memory.to_shed,
            bytes => bytes,
        };
        if std::mem::take(&mut self.memory.release)
            && let Some(release) = self.config.release_memory
        {
            release();
        }
        self.close_strangers();
        self.shed();
        self.memory.to_shed > 0 || self.memory.closing_from.is_some() || self.memory.release
    }

    /// Closes those that are upgraded and have not logged in, a slice of them.
    fn close_strangers(&mut self) {
        let Some(from) = self.memory.closing_from.take() else { return };
        let end = self.slots.hot.len() as u32;
        let mut closed = 0;
        for slot in from..end {
            if closed == SLICE {
                self.memory.closing_from = Some(slot);
                return;
            }
            let hot = &self.slots.hot[slot as usize];
            if hot.stage == Stage::Open && !hot.has(flag::ESTABLISHED | flag::LEAVING) {
                self.close(slot, 1013, WORDS, CloseReason::Memory);
                closed += 1;
            }
        }
    }

    /// Gives up outboxes; where no socket is full, incomplete messages.
    fn shed(&mut self) {
        let to_shed = self.memory.to_shed;
        if to_shed == 0 {
            return;
        }
        let mut freed = self.service.shed(self.now, to_shed);
        if freed == 0 {
            freed = self.shed_incomplete(to_shed);
        }
        self.memory.to_shed = if freed == 0 { 0 } else { to_shed.saturating_sub(freed) };
        self.memory.release |= freed > 0;
    }

    /// Ends the connections with the largest incomplete messages, a slice of them. Returns the bytes that these held.
    fn shed_incomplete(&mut self, bytes: usize) -> usize {
        let held = |slot: u32| {
            let cold = &self.slots.cold[slot as usize];
            let carried = cold.extra.as_ref().map_or(0, |extra| extra.held_bytes());
            let polled = if self.polls.is_empty() { 0 } else { self.polled_bytes(slot) };
            (slot, cold.input.held_bytes() + carried + polled + self.tls.incomplete_bytes(slot))
        };
        let is_open = |slot: &u32| matches!(self.slots.hot[*slot as usize].stage, Stage::Open | Stage::Http);
        let mut largest: Vec<(u32, usize)> =
            self.slots.all().filter(is_open).map(held).filter(|(_, held)| *held >= WORTH_IT_BYTES).collect();
        largest.sort_unstable_by_key(|(slot, held)| (Reverse(*held), *slot));
        let mut freed = 0;
        for (slot, held) in largest.into_iter().take(SLICE) {
            if freed >= bytes {
                break;
            }
            freed += held;
            let hot = &self.slots.hot[slot as usize];
            if hot.stage == Stage::Http || hot.socket.is_none() {
                self.lose(slot, CloseReason::Memory);
                continue;
            }
            self.close(slot, 1013, WORDS, CloseReason::Memory);
            let cold = &mut self.slots.cold[slot as usize];
            cold.input.discard(&mut self.pool);
            cold.extra = None;
            self.tls.forget_incomplete(slot);
            self.slots.hot[slot as usize].set(flag::DISCARD);
        }
        self.pool.drop_spares();
        freed
    }

    /// The answer to an upgrade while there is no memory for another connection.
    pub(super) fn memory_refusal(&mut self) -> HttpError {
        HttpError::new(503, WORDS).with_headers(self.retry_after())
    }

    /// When to try again: 1 to 30 s, so that those who are refused together do not all come back together.
    pub(super) fn retry_after(&mut self) -> &'static [(&'static str, &'static str)] {
        self.memory.refused = self.memory.refused.wrapping_add(1);
        // Only to spread them: nobody gains by knowing it.
        let seed = self.now.as_nanos() ^ self.memory.refused;
        let mixed = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 32;
        &RETRY_AFTER[mixed as usize % RETRY_AFTER.len()]
    }
}

/// Said with 503 and 1013; a close frame has room for 123 bytes.
const WORDS: &str = "the router is short of memory (limits.memory) and takes nobody new; try again later";
const _: () = assert!(WORDS.len() <= 123);
/// Connections closed in a turn, as many as are cut for their age.
const SLICE: usize = 64;
/// Connections that hold less are spared.
const WORTH_IT_BYTES: usize = 4 << 10;

macro_rules! retry_after {
    ($($seconds:literal)*) => {
        [$([("Retry-After", $seconds)]),*]
    };
}
static RETRY_AFTER: [[(&str, &str); 1]; 30] = retry_after!(
    "1" "2" "3" "4" "5" "6" "7" "8" "9" "10" "11" "12" "13" "14" "15" "16" "17" "18" "19" "20" "21" "22" "23" "24" "25"
    "26" "27" "28" "29" "30"
);
