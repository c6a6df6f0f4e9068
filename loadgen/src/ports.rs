//! Local ports of connections whose source address we choose.
//!
//! Left to itself, the kernel takes a port at `bind` that is free for all destinations, and a port in its wait time is not.
//! So the ports are chosen here, with SO_REUSEADDR: whether (source, port, destination) is free is then decided at
//! `connect`, as it is for connections without a source of their own. Each thread goes round its share of the range.

use std::fs;

/// `net.ipv4.ip_local_port_range` where it cannot be read: Linux's default.
const RANGE: (u16, u16) = (32_768, 60_999);

/// One thread's way through the range.
#[derive(Clone, Debug)]
pub struct Ports {
    low: u16,
    count: u32,
    next: u32,
    step: u32,
}

impl Ports {
    /// For `thread` of `threads`, in the system's range.
    pub fn new(thread: usize, threads: usize) -> Self {
        Self::within(system_range(), thread, threads)
    }

    fn within((low, high): (u16, u16), thread: usize, threads: usize) -> Self {
        Self { low, count: u32::from(high - low) + 1, next: thread as u32, step: threads as u32 }
    }

    /// The next one to try.
    pub fn take(&mut self) -> u16 {
        let port = self.low + (self.next % self.count) as u16;
        self.next = self.next.wrapping_add(self.step);
        port
    }

    /// How often it makes sense to try.
    pub fn tries(&self) -> u32 {
        self.count.div_ceil(self.step).min(4_096)
    }
}

/// Connections that one source address can have to one destination: a tenth of the range is left to others.
pub fn connections_per_source() -> usize {
    let (low, high) = system_range();
    ((usize::from(high - low) + 1) * 9 / 10).max(1)
}

fn system_range() -> (u16, u16) {
    let text = fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range").unwrap_or_default();
    parse(&text).unwrap_or(RANGE)
}

fn parse(text: &str) -> Option<(u16, u16)> {
    let mut numbers = text.split_whitespace().map(str::parse::<u16>);
    let (low, high) = (numbers.next()?.ok()?, numbers.next()?.ok()?);
    (0 < low && low <= high).then_some((low, high))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn threads_share_the_range_and_go_round_it() {
        let (mut first, mut second) = (Ports::within((100, 105), 0, 2), Ports::within((100, 105), 1, 2));
        assert_eq!([0; 4].map(|_| first.take()), [100, 102, 104, 100]);
        assert_eq!([0; 4].map(|_| second.take()), [101, 103, 105, 101]);
        assert_eq!(first.tries(), 3);
    }

    #[test]
    fn the_range_is_read() {
        assert_eq!(parse("32768\t60999\n"), Some((32_768, 60_999)));
        assert_eq!([parse(""), parse("5 4"), parse("1 99999")], [None; 3]);
        assert!(connections_per_source() > 0);
    }
}
