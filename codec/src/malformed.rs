//! The one way in which bytes can fail to be JSON, MessagePack or CBOR: what is wrong, and where.

use std::fmt;

/// Bytes that are not well-formed in their serializer. Carries none of them: it is shown to peers and logged.
///
/// Eight bytes, so that the results of the validators travel in registers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Malformed {
    flaw: Flaw,
    offset: u32,
}

const _: () = assert!(size_of::<Result<usize, Malformed>>() <= 16, "two registers");

/// What is wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
#[non_exhaustive]
#[allow(missing_docs, reason = "the words are in `Display`, side by side")]
pub enum Flaw {
    ArgsNoList,
    Break,
    Chunk,
    ControlCharacter,
    CutShort,
    KeyNoString,
    KwargsNoDict,
    LengthBeyondEnd,
    LoneSurrogate,
    NoColon,
    NoComma,
    NoDigits,
    NoJson,
    NotUtf8,
    NoValue,
    NumberTooLarge,
    OpenBracket,
    OpenString,
    OtherType,
    ReservedByte,
    ReservedHead,
    SimpleValue,
    TooDeep,
    Trailing,
    TrailingComma,
    UnicodeEscape,
    UnknownEscape,
}

impl Malformed {
    /// Built on cold paths only, hence never inlined into the scanners.
    #[cold]
    pub(crate) fn new(flaw: Flaw, offset_bytes: usize) -> Self {
        Self { flaw, offset: u32::try_from(offset_bytes).unwrap_or(u32::MAX) }
    }

    /// What is wrong.
    pub fn flaw(self) -> Flaw {
        self.flaw
    }

    /// Well-formed by RFC 8259, but nothing that every receiver can read: strict parsers refuse it, so whoever sent it on
    /// would break their sessions.
    pub fn is_only_unportable(self) -> bool {
        matches!(self.flaw, Flaw::LoneSurrogate | Flaw::NumberTooLarge)
    }

    /// Where it was noticed, counted from the first byte of the message or value.
    pub fn offset_bytes(self) -> usize {
        self.offset as usize
    }
}

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} at byte {}", self.flaw, self.offset)
    }
}

impl std::error::Error for Malformed {}

impl fmt::Display for Flaw {
    /// The end of the sentence "the message has …".
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::ArgsNoList => "arguments that are no list",
            Self::Break => "a break where a value is due",
            Self::Chunk => "a string chunk of another type",
            Self::ControlCharacter => "a control character in a string",
            Self::CutShort => "a value cut short",
            Self::KeyNoString => "a dictionary key that is no string",
            Self::KwargsNoDict => "keyword arguments that are no dictionary",
            Self::LengthBeyondEnd => "a length beyond its end",
            Self::LoneSurrogate => "a lone surrogate in a string",
            Self::NoColon => "a key without colon",
            Self::NoComma => "something else than a comma or a closing bracket",
            Self::NoDigits => "a number without digits",
            Self::NoJson => "something that is no JSON value",
            Self::NotUtf8 => "a string that is not UTF-8",
            Self::NoValue => "an end where a value is due",
            Self::NumberTooLarge => "a number too large for a double",
            Self::OpenBracket => "an unclosed bracket",
            Self::OpenString => "a string without end",
            Self::OtherType => "a value of another type",
            Self::ReservedByte => "the reserved byte 0xc1",
            Self::ReservedHead => "a reserved initial byte",
            Self::SimpleValue => "a simple value below 32 in two bytes",
            Self::TooDeep => "too many nested levels",
            Self::Trailing => "something behind its end",
            Self::TrailingComma => "a comma before a closing bracket",
            Self::UnicodeEscape => "a \\u escape without four hex digits",
            Self::UnknownEscape => "an unknown escape in a string",
        })
    }
}
