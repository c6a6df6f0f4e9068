//! What a peer can do wrong on the framing level.

use thiserror::Error;

/// The peer broke RFC 6455 or one of our limits. The connection ends with [`close_code`](Self::close_code).
///
/// The text is meant for the close frame and the peer's developer: what came, and what was expected instead.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum ProtocolError {
    /// RSV1–3 set although no extension that uses them was negotiated (RFC 6455, 5.2).
    #[error("reserved bits {bits:#05b} are set, but no extension that uses them was negotiated")]
    ReservedBits {
        /// RSV1, RSV2 and RSV3 as one number.
        bits: u8,
    },
    /// RSV1 on a control frame or on a later fragment (RFC 7692, 6.1).
    #[error("RSV1 belongs on the first frame of a compressed message only")]
    MisplacedRsv1,
    /// A compressed message came while none is accepted ([`Receiver::hold_compressed`](super::Receiver::hold_compressed)).
    #[error("compressed messages are accepted after login only")]
    CompressedTooEarly,
    /// What is said to be compressed cannot be inflated (RFC 7692, 7.2.2).
    #[error("the compressed message is no DEFLATE data")]
    InvalidDeflate,
    /// Opcode 3–7 or 11–15 (RFC 6455, 5.2).
    #[error("opcode {opcode:#x} is reserved; use 0x0-0x2 or 0x8-0xA")]
    ReservedOpcode {
        /// The opcode that came.
        opcode: u8,
    },
    /// Control frame without FIN (RFC 6455, 5.5).
    #[error("a control frame must not be fragmented")]
    FragmentedControl,
    /// Control frame of more than 125 bytes (RFC 6455, 5.5).
    #[error("a control frame carries at most 125 bytes")]
    ControlTooLong,
    /// A client's frame came without a mask (RFC 6455, 5.1).
    #[error("a client must mask its frames")]
    NotMasked,
    /// A server's frame came with a mask (RFC 6455, 5.1).
    #[error("a server must not mask its frames")]
    Masked,
    /// The length would have fitted in fewer bytes (RFC 6455, 5.2).
    #[error("length {length} must be written in the fewest bytes")]
    LengthNotMinimal {
        /// The length that was written too long.
        length: u64,
    },
    /// A 64-bit length with its top bit set (RFC 6455, 5.2).
    #[error("the top bit of a 64-bit length must be 0")]
    LengthOutOfRange,
    /// Continuation frame, but no message is open (RFC 6455, 5.4).
    #[error("a continuation frame came, but no message is unfinished")]
    UnexpectedContinuation,
    /// New data frame inside an unfinished message (RFC 6455, 5.4).
    #[error("a new message began before the last one was finished; continue it with opcode 0x0")]
    UnfinishedMessage,
    /// More than 1,024 empty fragments one after the other. Not against RFC 6455, but nothing else than a flood.
    #[error("more than 1024 empty fragments in a row")]
    EmptyFragments,
    /// The message is longer than the receiver's limit (RFC 6455, 10.4), inflated where it is compressed.
    #[error("the message has at least {bytes} bytes, at most {bytes_max} are accepted")]
    MessageTooLarge {
        /// What has been announced or inflated so far.
        bytes: u64,
        /// The limit.
        bytes_max: u64,
    },
    /// A text message is not UTF-8 (RFC 6455, 8.1).
    #[error("the text message is not UTF-8 at byte {offset_bytes}")]
    InvalidUtf8 {
        /// Where in the message the first broken sequence begins.
        offset_bytes: u64,
    },
    /// Close frame with a code that must not be sent (RFC 6455, 7.4).
    #[error("close code {code} must not be sent; use 1000-1003, 1007-1014 or 3000-4999")]
    InvalidCloseCode {
        /// The code that came.
        code: u16,
    },
    /// Close frame with half a code (RFC 6455, 5.5.1).
    #[error("the body of a close frame is empty or begins with a code of 2 bytes")]
    CloseBodyOfOneByte,
    /// The reason in a close frame is not UTF-8 (RFC 6455, 5.5.1 and 8.1).
    #[error("the close reason is not UTF-8")]
    InvalidCloseReason,
}

impl ProtocolError {
    /// The code of the close frame that answers this (RFC 6455, 7.4.1).
    pub const fn close_code(&self) -> u16 {
        match self {
            Self::InvalidUtf8 { .. } | Self::InvalidCloseReason | Self::InvalidDeflate => 1007,
            Self::EmptyFragments | Self::CompressedTooEarly => 1008,
            Self::MessageTooLarge { .. } => 1009,
            _ => 1002,
        }
    }
}
