//! How much may wait for a hook, in questions and in bytes.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use fanwire_core::login::Proof;
use fanwire_core::question::Subject;

/// What the questions of one hook may hold of messages, payloads and tickets, until they are answered. The shard keeps about
/// as much again, and what is under way is there as JSON, too.
const BYTES_MAX: usize = 32 << 20;

/// The room of one hook. Shards take places in it, and the thread gives them back.
#[derive(Debug, Default)]
pub(crate) struct Room {
    questions: AtomicUsize,
    bytes: AtomicUsize,
}

/// The place of one question, given back when it is dropped.
#[derive(Debug)]
pub(crate) struct Place {
    room: Arc<Room>,
    bytes: usize,
    waits: bool,
}

impl Room {
    /// A place for a question of so many bytes, if fewer than `questions_max` wait. One that is too large for any room gets
    /// the whole of it.
    pub(crate) fn enter(self: &Arc<Self>, bytes: usize, questions_max: usize) -> Option<Place> {
        let one_more = |count: usize| (count < questions_max).then(|| count + 1);
        self.questions.fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_more).ok()?;
        let mut place = Place { room: Arc::clone(self), bytes: 0, waits: true };
        let fits = |held: usize| (held == 0 || held + bytes <= BYTES_MAX).then(|| held + bytes);
        self.bytes.fetch_update(Ordering::Relaxed, Ordering::Relaxed, fits).ok()?;
        place.bytes = bytes;
        Some(place)
    }
}

impl Place {
    /// It is being asked: others may wait in its place, though its bytes are still there.
    pub(super) fn leave_queue(&mut self) {
        if std::mem::take(&mut self.waits) {
            self.room.questions.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.leave_queue();
        self.room.bytes.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

/// What a client can make large.
pub(super) fn bytes_of(subject: &Subject) -> usize {
    match subject {
        Subject::Login { authid, proof: Proof::Ticket(ticket) } => {
            ticket.expose().len() + authid.as_deref().map_or(0, str::len)
        }
        Subject::Publish { uri, payload, .. } => {
            uri.len() + payload.as_ref().map_or(0, |payload| payload.len())
        }
        Subject::Message { bytes, .. } => bytes.len(),
        Subject::Rpc { uri, payload, .. } => uri.len() + payload.len(),
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn room_is_bounded_in_questions_and_in_bytes() {
        let room = Arc::new(Room::default());
        let mut one = room.enter(10, 2).expect("the first");
        let two = room.enter(BYTES_MAX - 10, 2).expect("the second");
        assert!(room.enter(0, 2).is_none(), "two wait");
        one.leave_queue();
        assert!(room.enter(1, 2).is_none(), "all bytes are held");
        let three = room.enter(0, 2).expect("it holds nothing");
        drop((one, two, three));
        let large = room.enter(2 * BYTES_MAX, 2).expect("there is nobody else");
        assert!(room.enter(1, 2).is_none());
        drop(large);
        assert_eq!((room.questions.load(Ordering::Relaxed), room.bytes.load(Ordering::Relaxed)), (0, 0));
    }
}
