//! `fanwire sub --stats`: how much arrives, each second.

use std::time::{Duration, Instant};

const INTERVAL: Duration = Duration::from_secs(1);

/// Counts messages, and says each second how many they were.
pub struct Stats {
    started: Instant,
    /// Begin of the second that is counted.
    since: Instant,
    messages: u64,
    bytes: u64,
    messages_in_all: u64,
}

impl Stats {
    /// Begins to count.
    pub fn new(now: Instant) -> Self {
        Self { started: now, since: now, messages: 0, bytes: 0, messages_in_all: 0 }
    }

    /// When the next line is due.
    pub fn due(&self) -> Instant {
        self.since + INTERVAL
    }

    /// A message has arrived.
    pub fn count(&mut self, bytes: usize) {
        self.messages += 1;
        self.messages_in_all += 1;
        self.bytes += bytes as u64;
    }

    /// The line about the last second, if it is over.
    pub fn line(&mut self, now: Instant) -> Option<String> {
        if now < self.due() {
            return None;
        }
        // Whoever was stopped or waited for the terminal looks late: the rate is over the time that it was.
        let seconds = (now - self.since).as_secs_f64();
        let messages = self.messages as f64 / seconds;
        let bytes = readable_bytes(self.bytes as f64 / seconds);
        (self.since, self.messages, self.bytes) = (now, 0, 0);
        Some(format!("{messages:.0} messages/s, {bytes}/s, {} in all", self.messages_in_all))
    }

    /// The line about the whole time.
    pub fn summary(&self, now: Instant) -> String {
        let seconds = (now - self.started).as_secs_f64();
        let rate = if seconds > 0.0 { self.messages_in_all as f64 / seconds } else { 0.0 };
        format!("{} messages in {seconds:.1} s, {rate:.0} messages/s", self.messages_in_all)
    }
}

fn readable_bytes(bytes: f64) -> String {
    match bytes {
        bytes if bytes < 1024.0 => format!("{bytes:.0} B"),
        bytes if bytes < 1024.0 * 1024.0 => format!("{:.1} KiB", bytes / 1024.0),
        bytes => format!("{:.1} MiB", bytes / (1024.0 * 1024.0)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_second_has_a_line_about_itself() {
        let start = Instant::now();
        let mut stats = Stats::new(start);
        (0..300).for_each(|_| stats.count(1024));
        assert_eq!(stats.line(start + Duration::from_millis(999)), None);
        let second = start + Duration::from_secs(1);
        assert_eq!(stats.line(second).as_deref(), Some("300 messages/s, 300.0 KiB/s, 300 in all"));
        assert_eq!(stats.due(), second + INTERVAL);
        let late = second + Duration::from_secs(2);
        (0..10).for_each(|_| stats.count(10));
        assert_eq!(stats.line(late).as_deref(), Some("5 messages/s, 50 B/s, 310 in all"));
        assert_eq!(stats.summary(late), "310 messages in 3.0 s, 103 messages/s");
        assert_eq!(stats.line(late + INTERVAL).as_deref(), Some("0 messages/s, 0 B/s, 310 in all"));
    }

    #[test]
    fn nothing_in_no_time_is_no_rate() {
        let now = Instant::now();
        assert_eq!(Stats::new(now).summary(now), "0 messages in 0.0 s, 0 messages/s");
    }
}
