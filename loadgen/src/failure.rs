//! How a run can end without a report: which exit code, and words that say what, where and what to do.

use std::fmt;

/// Exit codes of the program. Scripts rely on them: they never change meaning.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// Everything that was asked for happened and every check held.
    Ok,
    /// The run took place, but a delivery was lost, reordered, doubled or damaged, or a connection was cut.
    FailedCheck,
    /// The command line cannot be carried out as written.
    Usage,
    /// The server could not be reached or did not open the sessions.
    CannotConnect,
    /// Something that had to happen did not happen in time.
    Timeout,
    /// A threshold of `--expect` was missed.
    ExpectationMissed,
}

impl Exit {
    /// The number that the process ends with.
    pub fn code(self) -> u8 {
        match self {
            Exit::Ok => 0,
            Exit::FailedCheck => 1,
            Exit::Usage => 2,
            Exit::CannotConnect => 3,
            Exit::Timeout => 4,
            Exit::ExpectationMissed => 5,
        }
    }
}

/// Why there is no report.
#[derive(Clone, Debug)]
pub struct Failure {
    /// The exit code that this kind of failure has.
    pub exit: Exit,
    /// What happened, where, and what to do about it.
    pub words: String,
}

impl Failure {
    /// The command line cannot be carried out.
    pub fn usage(words: impl Into<String>) -> Self {
        Self { exit: Exit::Usage, words: words.into() }
    }

    /// The server could not be reached or refused the sessions.
    pub fn cannot_connect(words: impl Into<String>) -> Self {
        Self { exit: Exit::CannotConnect, words: words.into() }
    }

    /// Something did not happen in time.
    pub fn timeout(words: impl Into<String>) -> Self {
        Self { exit: Exit::Timeout, words: words.into() }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.words)
    }
}

impl std::error::Error for Failure {}
