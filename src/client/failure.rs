//! How a small client ends when it does not end well: words for the person, a status for the script.

use std::fmt;

/// Why a command failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Failure {
    /// The command line does not make sense.
    Usage(String),
    /// The router cannot be reached, or what answers is no such router.
    Connect(String),
    /// It did not answer in time.
    Timeout(String),
    /// It refused, or broke off.
    Refused(String),
    /// Nobody reads our output any more: not worth a word.
    OutputClosed,
}

impl Failure {
    /// The process's exit status.
    pub fn exit_status(&self) -> u8 {
        match self {
            Self::OutputClosed => 0,
            Self::Refused(_) => 1,
            Self::Usage(_) => 2,
            Self::Connect(_) => 3,
            Self::Timeout(_) => 4,
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Usage(words) | Self::Connect(words) | Self::Timeout(words) | Self::Refused(words) => {
                f.write_str(words)
            }
            Self::OutputClosed => Ok(()),
        }
    }
}
