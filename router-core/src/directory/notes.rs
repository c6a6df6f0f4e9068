//! What becomes of registrations, for whoever wants to hear of it.
//!
//! Callees of one registration live on several shards, and one may force out those of others. So what happened, and in which
//! order, is known under the entry's lock alone: there numbers are drawn for all of it. With subscriptions a shard knows by itself
//! who of its sessions comes and goes.

use std::sync::Arc;

use super::{Directory, Registration};
use crate::ids::SessionId;
use crate::meta::EntryEvent;
use crate::mutation::{Mutation, planted};

/// Which events somebody wants to hear of. A set.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Heard(u8);

impl Heard {
    /// With this one too, if somebody `wants` it.
    #[must_use]
    pub const fn with(self, event: EntryEvent, wants: bool) -> Self {
        if wants { Self(self.0 | 1 << event as u8) } else { self }
    }

    const fn has(self, event: EntryEvent) -> bool {
        self.0 & 1 << event as u8 != 0
    }
}

/// Something that happened to a registration and that somebody wants to hear of: who gets it must tell.
#[derive(Clone, Debug)]
pub struct Note {
    /// Its place in the order of all that is told (see [`Directory::next_news`]).
    pub number: u64,
    /// What.
    pub event: EntryEvent,
    /// The callee that came or left.
    pub session: SessionId,
    /// To which one.
    pub registration: Arc<Registration>,
}

/// Notes as they are made, under the lock of the entry.
pub(super) struct Notes<'a> {
    directory: &'a Directory,
    heard: Heard,
    all: Vec<Note>,
}

impl<'a> Notes<'a> {
    pub(super) fn new(directory: &'a Directory, heard: Heard) -> Self {
        Self { directory, heard, all: Vec::new() }
    }

    pub(super) fn add(&mut self, event: EntryEvent, session: SessionId, registration: &Arc<Registration>) {
        if self.heard.has(event) {
            let (number, registration) = (self.directory.next_news(), Arc::clone(registration));
            self.all.push(Note { number, event, session, registration });
        }
    }

    /// All its callees lose it at once.
    pub(super) fn add_end(&mut self, registration: &Arc<Registration>) {
        for callee in registration.callees() {
            self.add(EntryEvent::Detached, callee.session, registration);
        }
        if let Some(last) = registration.callees().last() {
            self.add(EntryEvent::Deleted, last.session, registration);
        }
    }

    pub(super) fn into_all(mut self) -> Vec<Note> {
        if let [.., before, last] = &mut self.all[..]
            && last.event == EntryEvent::Deleted
            && planted(Mutation::DeletedFirst)
        {
            std::mem::swap(&mut before.number, &mut last.number);
        }
        self.all
    }
}
