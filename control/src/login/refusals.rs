//! Log lines about refused logins: what an operator needs, and not more of them than the log can bear.

use std::sync::Mutex;
use std::time::Duration;

use tokio::time::Instant;

/// Lines within one [`WINDOW`]; whoever tries passwords must not fill the disk.
const LINES_MAX: u32 = 10;
const WINDOW: Duration = Duration::from_secs(1);
/// Of the client's words for itself.
const NAME_CHARACTERS_MAX: usize = 64;

/// The lines of the present window.
#[derive(Debug, Default)]
pub(crate) struct Refusals(Mutex<Option<Lines>>);

#[derive(Debug)]
struct Lines {
    since: Instant,
    count: u32,
}

impl Refusals {
    /// Writes a line, or counts it. The user's name is as the client gave it; a ticket is never written.
    pub(crate) fn log(&self, realm: &str, user: &str, why: &str) {
        let (may_write, left_out) = self.count(Instant::now());
        if left_out > 0 {
            tracing::info!("{left_out} more logins were refused");
        }
        if may_write {
            let user: String = user.chars().take(NAME_CHARACTERS_MAX).collect();
            tracing::info!(realm, ?user, why, "login refused");
        }
    }

    /// Whether this one may be written, and how many of the last window were not.
    fn count(&self, now: Instant) -> (bool, u32) {
        let mut lines = self.0.lock().expect("nobody panics with it");
        let mut left_out = 0;
        let lines = match &mut *lines {
            Some(lines) if now.duration_since(lines.since) < WINDOW => lines,
            over => {
                left_out = over.take().map_or(0, |lines| lines.count.saturating_sub(LINES_MAX));
                over.insert(Lines { since: now, count: 0 })
            }
        };
        lines.count += 1;
        (lines.count <= LINES_MAX, left_out)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_becomes_a_number() {
        let (refusals, start) = (Refusals::default(), Instant::now());
        let written = (0..100).filter(|_| refusals.count(start).0).count();
        assert_eq!(written, LINES_MAX as usize);
        assert_eq!(refusals.count(start + WINDOW), (true, 90));
        assert_eq!(refusals.count(start + 3 * WINDOW), (true, 0));
    }
}
