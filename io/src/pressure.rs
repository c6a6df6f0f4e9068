//! How short of memory the process is: said by the control thread, read by each shard once a turn.

use std::sync::atomic::{AtomicU64, Ordering};

/// How much of its memory the process uses, in steps that each ask for something.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
#[repr(u8)]
pub enum Level {
    /// Enough is left.
    #[default]
    Normal,
    /// What is only kept to be used again is given back.
    Trim,
    /// Requests for an upgrade are answered 503, and who has not logged in is closed with 1013.
    Refuse,
    /// Connections are refused as they come, and the largest outboxes are given up.
    Shed,
}

/// One word, so that a turn that finds nothing new costs one load.
///
/// ```text
/// | bytes to give up, in KiB: 40 bits | order: 16 bits | times said: 6 bits | level: 2 bits |
/// ```
///
/// Whatever is said, also the same again, is news: shards then give freed memory back to the system.
#[derive(Debug, Default)]
pub(crate) struct Pressure(AtomicU64);

impl Pressure {
    /// What is said now. One writer.
    pub(crate) fn set(&self, level: Level, shed_bytes: u64) {
        let before = self.0.load(Ordering::Relaxed);
        let times = ((before >> 2) + 1) & 0x3F;
        let (order, kib) = match shed_bytes {
            // The last order stands, for a shard that has not obeyed it yet.
            0 => ((before >> 8) & 0xFFFF, before >> 24),
            bytes => (((before >> 8) + 1) & 0xFFFF, bytes.div_ceil(1024).min((1 << 40) - 1)),
        };
        // Relaxed: nothing else is published by it, and the doorbell's fence comes before a shard sleeps on an older one.
        self.0.store(kib << 24 | order << 8 | times << 2 | level as u64, Ordering::Relaxed);
    }

    pub(crate) fn said(&self) -> Said {
        Said(self.0.load(Ordering::Relaxed))
    }
}

/// What was said at one moment.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Said(u64);

impl Said {
    pub(crate) fn level(self) -> Level {
        match self.0 & 3 {
            0 => Level::Normal,
            1 => Level::Trim,
            2 => Level::Refuse,
            _ => Level::Shed,
        }
    }

    /// What to give up, if that was not asked for before.
    pub(crate) fn shed_bytes(self, before: Self) -> usize {
        let is_new = (self.0 >> 8) & 0xFFFF != (before.0 >> 8) & 0xFFFF;
        if is_new { ((self.0 >> 24) << 10) as usize } else { 0 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_order_is_obeyed_once_and_a_level_stays() {
        let pressure = Pressure::default();
        let first = pressure.said();
        assert_eq!((first.level(), first.shed_bytes(Said::default())), (Level::Normal, 0));
        pressure.set(Level::Shed, 5_000);
        let second = pressure.said();
        assert_eq!((second.level(), second.shed_bytes(first)), (Level::Shed, 5 << 10));
        pressure.set(Level::Shed, 0);
        let again = pressure.said();
        assert_ne!(again, second);
        assert_eq!((again.level(), again.shed_bytes(second)), (Level::Shed, 0));
        pressure.set(Level::Refuse, 0);
        let third = pressure.said();
        assert_eq!((third.level(), third.shed_bytes(second)), (Level::Refuse, 0));
        // A shard that slept through the order still has it to do.
        assert_eq!(third.shed_bytes(first), 5 << 10);
        pressure.set(Level::Shed, 5_000);
        assert_eq!(pressure.said().shed_bytes(third), 5 << 10);
    }
}
