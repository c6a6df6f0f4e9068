//! The handshake: 4 bytes each way.
//!
//! ```text
//! 0x7F │ LLLL SSSS │ 0 │ 0      the client: the longest message that it takes, its serializer; the router's yes, likewise
//! 0x7F │ EEEE 0000 │ 0 │ 0      the router's no
//! ```

use std::fmt;

use thiserror::Error;

use crate::wamp2::Serializer;

/// First byte of either side. No HTTP request and no TLS connection begins with it.
pub const MAGIC: u8 = 0x7F;
/// Bytes of either side's handshake.
pub const HANDSHAKE_BYTES: usize = 4;

/// The longest message that a side takes: 2^9 to 2^24 bytes, by powers of two.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct MaxLength(u8);

impl MaxLength {
    /// 512 bytes.
    pub const LEAST: Self = Self(0);
    /// 16 MiB.
    pub const MOST: Self = Self(15);

    /// By the number that stands for it in the handshake, 0 to 15.
    pub const fn from_number(number: u8) -> Option<Self> {
        if number <= Self::MOST.0 { Some(Self(number)) } else { None }
    }

    /// The greatest that is not above `bytes`; [`Self::LEAST`] where that is less.
    pub const fn at_most(bytes: u64) -> Self {
        let mut number = 0;
        while number < Self::MOST.0 && (1 << (number + 10)) <= bytes {
            number += 1;
        }
        Self(number)
    }

    /// The number that stands for it in the handshake.
    pub const fn number(self) -> u8 {
        self.0
    }

    /// Bytes of a message, without its head.
    pub const fn bytes(self) -> usize {
        1 << (self.0 + 9)
    }
}

impl fmt::Display for MaxLength {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.bytes().fmt(f)
    }
}

/// What a client asks for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Request {
    /// What it speaks.
    pub serializer: Serializer,
    /// The longest message that it takes.
    pub max_length: MaxLength,
}

/// Why a router refuses.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Error)]
pub enum Refusal {
    /// Number 1, also where the client named none.
    #[error("the router does not speak this serializer here")]
    SerializerUnsupported,
    /// Number 2.
    #[error("the router cannot keep its messages as short as the client asks")]
    LengthUnacceptable,
    /// Number 3.
    #[error("reserved bits are set, which mean nothing yet")]
    ReservedBits,
    /// Number 4.
    #[error("the router takes no more connections now")]
    TooManyConnections,
}

impl Refusal {
    /// All of them, in the order of their numbers.
    pub const ALL: [Self; 4] =
        [Self::SerializerUnsupported, Self::LengthUnacceptable, Self::ReservedBits, Self::TooManyConnections];

    /// The number that stands for it in the handshake, from 1 on.
    pub const fn number(self) -> u8 {
        self as u8 + 1
    }

    /// The bytes that say so.
    pub const fn encode(self) -> [u8; HANDSHAKE_BYTES] {
        [MAGIC, self.number() << 4, 0, 0]
    }
}

impl Request {
    /// Reads a client's handshake, whose first byte is [`MAGIC`].
    ///
    /// # Errors
    ///
    /// What to refuse it with. Of several reasons, reserved bits come first: what else is there may mean something else.
    pub fn decode(bytes: [u8; HANDSHAKE_BYTES]) -> Result<Self, Refusal> {
        debug_assert_eq!(bytes[0], MAGIC, "somebody else's bytes");
        if bytes[2..] != [0, 0] {
            return Err(Refusal::ReservedBits);
        }
        let serializer = serializer(bytes[1] & 0x0F).ok_or(Refusal::SerializerUnsupported)?;
        Ok(Self { serializer, max_length: MaxLength(bytes[1] >> 4) })
    }

    /// The bytes that a client sends, and a router's yes: there `max_length` is what the router takes.
    pub fn encode(self) -> [u8; HANDSHAKE_BYTES] {
        [MAGIC, self.max_length.0 << 4 | number(self.serializer), 0, 0]
    }
}

/// What a router answered.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
pub enum Reply {
    /// It speaks what was asked for, and takes messages of this length at most.
    #[error("the router takes messages of up to {0} bytes")]
    Accepted(MaxLength),
    /// It does not want to.
    #[error("{0}")]
    Refused(Refusal),
    /// It refuses for a reason that has no meaning yet.
    #[error("the router refuses with the unknown number {0}")]
    Unknown(u8),
    /// That is no RawSocket, or not what was asked for.
    #[error("the answer is none of WAMP over RawSocket; is this the right port?")]
    Nonsense,
}

impl Reply {
    /// Reads the answer to `asked`.
    pub fn decode(bytes: [u8; HANDSHAKE_BYTES], asked: Serializer) -> Self {
        let (high, low) = (bytes[1] >> 4, bytes[1] & 0x0F);
        match (bytes[0], low) {
            (MAGIC, 0) => match Refusal::ALL.into_iter().find(|refusal| refusal.number() == high) {
                Some(refusal) => Self::Refused(refusal),
                None => Self::Unknown(high),
            },
            (MAGIC, number) if serializer(number) == Some(asked) && bytes[2..] == [0, 0] => {
                Self::Accepted(MaxLength(high))
            }
            _ => Self::Nonsense,
        }
    }
}

fn number(serializer: Serializer) -> u8 {
    match serializer {
        Serializer::Json => 1,
        Serializer::MsgPack => 2,
        Serializer::Cbor => 3,
    }
}

fn serializer(number: u8) -> Option<Serializer> {
    Serializer::ALL.into_iter().find(|serializer| self::number(*serializer) == number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_are_powers_of_two_and_rounded_down() {
        assert_eq!((MaxLength::LEAST.bytes(), MaxLength::MOST.bytes()), (512, 16 << 20));
        for (bytes, number) in [
            (0, 0),
            (512, 0),
            (1023, 0),
            (1024, 1),
            (1 << 20, 11),
            ((1 << 20) + 1, 11),
            ((1 << 24) - 1, 14),
            (1 << 24, 15),
            (u64::MAX, 15),
        ] {
            assert_eq!(MaxLength::at_most(bytes).number(), number, "{bytes}");
        }
        assert_eq!(MaxLength::from_number(15), Some(MaxLength::MOST));
        assert_eq!(MaxLength::from_number(16), None);
    }

    #[test]
    fn every_second_byte_is_a_request_or_refused_for_its_serializer() {
        for second in 0..=u8::MAX {
            let decoded = Request::decode([MAGIC, second, 0, 0]);
            let known = match second & 0x0F {
                1 => Some(Serializer::Json),
                2 => Some(Serializer::MsgPack),
                3 => Some(Serializer::Cbor),
                _ => None,
            };
            match known {
                Some(serializer) => {
                    let request = decoded.expect("its serializer is known");
                    assert_eq!(request.serializer, serializer);
                    assert_eq!(request.max_length.bytes(), 1 << ((second >> 4) + 9));
                    assert_eq!(request.encode(), [MAGIC, second, 0, 0]);
                }
                None => assert_eq!(decoded, Err(Refusal::SerializerUnsupported), "{second:#x}"),
            }
        }
    }

    #[test]
    fn reserved_bits_are_refused_whatever_else_is_asked_for() {
        for bit in 0..16 {
            let reserved = (1_u16 << bit).to_be_bytes();
            for second in [0xF1, 0xF0, 0x0F] {
                let bytes = [MAGIC, second, reserved[0], reserved[1]];
                assert_eq!(Request::decode(bytes), Err(Refusal::ReservedBits), "{bytes:x?}");
            }
        }
    }

    #[test]
    fn refusals_have_the_numbers_of_the_text() {
        let bytes: Vec<_> = Refusal::ALL.iter().map(|refusal| refusal.encode()).collect();
        assert_eq!(bytes, [[0x7F, 0x10, 0, 0], [0x7F, 0x20, 0, 0], [0x7F, 0x30, 0, 0], [0x7F, 0x40, 0, 0]]);
    }

    #[test]
    fn a_client_understands_each_answer() {
        let json = Serializer::Json;
        for refusal in Refusal::ALL {
            assert_eq!(Reply::decode(refusal.encode(), json), Reply::Refused(refusal));
        }
        let yes = Request { serializer: json, max_length: MaxLength::MOST };
        assert_eq!(Reply::decode(yes.encode(), json), Reply::Accepted(MaxLength::MOST));
        for (bytes, reply) in [
            (yes.encode(), Serializer::Cbor),
            (*b"HTTP", json),
            ([MAGIC, 0xF1, 0, 1], json),
            ([MAGIC, 0xF4, 0, 0], json),
        ]
        .map(|(bytes, asked)| (bytes, Reply::decode(bytes, asked)))
        {
            assert_eq!(reply, Reply::Nonsense, "{bytes:x?}");
        }
        assert_eq!(Reply::decode([MAGIC, 0x00, 0, 0], json), Reply::Unknown(0));
        assert_eq!(Reply::decode([MAGIC, 0x90, 0, 0], json), Reply::Unknown(9));
    }
}
