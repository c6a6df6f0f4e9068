//! Requests that ended before the peer could know: what it still says of them is ignored, and not taken for a violation.

use std::collections::VecDeque;

/// Ids of requests that ended early, of one peer and of one kind.
#[derive(Debug, Default)]
pub(crate) struct LateIds {
    /// The newest, oldest first.
    known: VecDeque<u64>,
    /// The greatest id that found no room any more. Ids are counted up, so those up to it are all old.
    forgotten: u64,
}

impl LateIds {
    /// This one has ended.
    pub(crate) fn add(&mut self, id: u64) {
        if self.known.len() == KNOWN_MAX
            && let Some(oldest) = self.known.pop_front()
        {
            self.forgotten = self.forgotten.max(oldest);
        }
        self.known.push_back(id);
    }

    /// Whether it is one of them. After the peer's final word it is none any more.
    pub(crate) fn meets(&mut self, id: u64, is_final: bool) -> bool {
        let Some(place) = self.known.iter().position(|known| *known == id) else {
            return id <= self.forgotten;
        };
        if is_final {
            self.known.remove(place);
        }
        true
    }
}

/// Half a KiB for a peer that never says its last word; it may not have to (WAMP, "Ignoring Results after Cancel").
const KNOWN_MAX: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_met_until_its_last_word() {
        let mut late = LateIds::default();
        late.add(5);
        assert!(late.meets(5, false) && late.meets(5, true) && !late.meets(5, true));
    }

    #[test]
    fn of_many_the_oldest_are_known_by_their_order() {
        let mut late = LateIds::default();
        for id in 1..=KNOWN_MAX as u64 + 10 {
            late.add(2 * id);
        }
        assert_eq!(late.known.len(), KNOWN_MAX);
        assert!(late.meets(20, true) && late.meets(20, true), "forgotten, but old");
        assert!(late.meets(22, true) && !late.meets(23, false));
    }
}
