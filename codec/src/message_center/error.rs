//! What can go wrong, as clients are told it.

use crate::malformed::Malformed;

/// An error by its number. Clients that know only the first still see that there is no `result`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
#[non_exhaustive]
pub enum ErrorCode {
    /// The channel is for those who have logged in.
    NotAuth = 1,
    /// The message is no JSON object, or has a field twice.
    InvalidJson = 2,
    /// `op` is missing or none of those that there are.
    UnknownOp = 3,
    /// `channel` is missing, or no rule knows it.
    InvalidChannel = 4,
    /// The token is missing, or not accepted.
    AuthFailed = 5,
    /// Who decides cannot be asked now: the client may come again.
    AuthUnavailable = 6,
    /// The connection has as many subscriptions as it may have.
    LimitExceeded = 7,
    /// Its role may not have the channel, or whoever decides says no.
    PermissionDenied = 8,
    /// The message is binary.
    TextOnly = 9,
}

impl ErrorCode {
    /// All of them, in the order of their numbers.
    pub const ALL: [Self; 9] = [
        Self::NotAuth,
        Self::InvalidJson,
        Self::UnknownOp,
        Self::InvalidChannel,
        Self::AuthFailed,
        Self::AuthUnavailable,
        Self::LimitExceeded,
        Self::PermissionDenied,
        Self::TextOnly,
    ];

    /// Its number, from 1 on.
    pub const fn number(self) -> u8 {
        self as u8
    }

    /// Its words. They need no escapes in JSON.
    pub const fn words(self) -> &'static str {
        match self {
            Self::NotAuth => "Not Auth",
            Self::InvalidJson => "Invalid JSON",
            Self::UnknownOp => "Unknown op",
            Self::InvalidChannel => "Invalid channel",
            Self::AuthFailed => "Auth failed",
            Self::AuthUnavailable => "Auth backend unavailable",
            Self::LimitExceeded => "Limit exceeded",
            Self::PermissionDenied => "Permission denied",
            Self::TextOnly => "Text frames only",
        }
    }

    /// The WebSocket close code for a connection that ends by it: 4001 and so on (RFC 6455, 7.4.2: for private use).
    pub const fn close_code(self) -> u16 {
        4000 + self as u16
    }
}

impl From<Malformed> for ErrorCode {
    fn from(_: Malformed) -> Self {
        Self::InvalidJson
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_dense_and_words_are_plain() {
        for (index, code) in ErrorCode::ALL.into_iter().enumerate() {
            assert_eq!(usize::from(code.number()), index + 1);
            assert_eq!(usize::from(code.close_code()), 4001 + index);
            assert!(code.words().bytes().all(|byte| byte.is_ascii_alphabetic() || byte == b' '));
        }
    }
}
