//! Progress on the standard error: one line that is rewritten on a terminal, plain lines elsewhere.

use std::io::{IsTerminal, Write};
use std::time::Duration;

/// Says how far the run has come.
#[derive(Debug)]
pub struct Progress {
    quiet: bool,
    is_terminal: bool,
    last_second: u64,
}

impl Progress {
    /// Silent if `quiet`.
    pub fn new(quiet: bool) -> Self {
        Self { quiet, is_terminal: std::io::stderr().is_terminal(), last_second: 0 }
    }

    /// A line at most once a second of `now`.
    pub fn each_second(&mut self, now: Duration, words: impl FnOnce() -> String) {
        if now.as_secs() != self.last_second {
            self.last_second = now.as_secs();
            self.line(&words());
        }
    }

    /// A line.
    pub fn line(&mut self, words: &str) {
        if self.quiet {
            return;
        }
        let mut stderr = std::io::stderr().lock();
        // Progress that nobody can see is no reason to fail.
        let _ = if self.is_terminal {
            write!(stderr, "\r\x1b[K{words}").and_then(|()| stderr.flush())
        } else {
            writeln!(stderr, "{words}")
        };
    }

    /// Leaves a terminal's line empty.
    pub fn clear(&mut self) {
        if !self.quiet && self.is_terminal {
            let _ = write!(std::io::stderr().lock(), "\r\x1b[K");
        }
    }
}
