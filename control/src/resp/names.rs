//! Who of this port is subscribed to what: what PUBSUB tells.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use fanwire_codec::resp::Glob;

/// Channels and patterns with the number of their subscribers. Shared by all connections, which are tasks of one thread.
#[derive(Debug, Default)]
pub(super) struct Names(Mutex<Counts>);

#[derive(Debug, Default)]
struct Counts {
    channels: BTreeMap<Vec<u8>, u64>,
    patterns: BTreeMap<Vec<u8>, u64>,
}

impl Counts {
    fn of(&mut self, is_pattern: bool) -> &mut BTreeMap<Vec<u8>, u64> {
        if is_pattern { &mut self.patterns } else { &mut self.channels }
    }
}

impl Names {
    pub(super) fn add(&self, is_pattern: bool, name: &[u8]) {
        *self.lock().of(is_pattern).entry(name.to_vec()).or_default() += 1;
    }

    pub(super) fn remove(&self, is_pattern: bool, name: &[u8]) {
        let mut counts = self.lock();
        let names = counts.of(is_pattern);
        if let Some(count) = names.get_mut(name) {
            *count -= 1;
            if *count == 0 {
                names.remove(name);
            }
        }
    }

    /// Channels that somebody is subscribed to by name, and that the pattern matches; `None` if their names have more bytes.
    pub(super) fn channels(&self, pattern: Option<&Glob>, bytes_max: usize) -> Option<Vec<Vec<u8>>> {
        let (mut found, mut bytes) = (Vec::new(), 0);
        let counts = self.lock();
        for name in counts.channels.keys().filter(|name| pattern.is_none_or(|pattern| pattern.matches(name)))
        {
            bytes += name.len() + BULK_BYTES;
            if bytes > bytes_max {
                return None;
            }
            found.push(name.clone());
        }
        Some(found)
    }

    pub(super) fn subscribers(&self, channel: &[u8]) -> u64 {
        self.lock().channels.get(channel).copied().unwrap_or_default()
    }

    /// How many different patterns there are.
    pub(super) fn patterns(&self) -> usize {
        self.lock().patterns.len()
    }

    fn lock(&self) -> MutexGuard<'_, Counts> {
        // Nothing panics with it.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What RESP puts around a name, about.
const BULK_BYTES: usize = 10;
