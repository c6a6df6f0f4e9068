//! Bodies in chunks (RFC 9112, 7.1), read strictly.

use bytes::{BufMut, BytesMut};

use super::HttpError;

/// Reads a body in chunks while it trickles in. Holds no bytes.
///
/// Strict as [`parse_request`](super::parse_request) is: lines end in CR LF, a size has 1 to 15 hexadecimal digits and nothing
/// around it. Extensions and trailer fields are passed over, as the RFC wants it, up to [`PASSED_OVER_BYTES_MAX`] in all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ChunkedBody {
    state: State,
    passed_over: u32,
}

/// Bytes of extensions and trailer fields in one body; beyond it the answer is 400. They carry nothing that we read.
pub const PASSED_OVER_BYTES_MAX: u32 = 16 << 10;

/// ```text
/// Size ─▶ [Extension ─▶] SizeEnd ─▶ Data ─▶ DataCr ─▶ DataLf ─▶ Size …
///                            └ size 0 ─▶ Trailer ─▶ [TrailerField ─▶ TrailerLf ─▶ Trailer …] ─▶ End ─▶ Done
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// In the digits of a size.
    Size {
        digits: u8,
        size: u64,
    },
    /// Behind a size, before the CR.
    Extension {
        size: u64,
    },
    /// Behind the CR of a size.
    SizeEnd {
        size: u64,
    },
    /// So many bytes of the chunk are missing.
    Data {
        left: u64,
    },
    DataCr,
    DataLf,
    /// At the first byte of a line behind the last chunk.
    Trailer,
    TrailerField,
    TrailerLf,
    /// Behind the CR of the empty line.
    End,
    Done,
}

/// 60 bits: more than anybody sends, and no overflow.
const SIZE_DIGITS_MAX: u8 = 15;

impl Default for ChunkedBody {
    fn default() -> Self {
        Self { state: State::SIZE, passed_over: 0 }
    }
}

impl ChunkedBody {
    /// Reads from `bytes`, appends the body's own bytes to `out` until that holds `out_bytes_max`, and tells how many of
    /// `bytes` were used up. Call again with the others and what came after them, unless [`is_done`](Self::is_done).
    ///
    /// # Errors
    ///
    /// 400: where the body ends is not known, so answer and close.
    pub fn read(
        &mut self,
        bytes: &[u8],
        out: &mut BytesMut,
        out_bytes_max: usize,
    ) -> Result<usize, HttpError> {
        let mut at = 0;
        while at < bytes.len() && self.state != State::Done {
            if let State::Data { left } = self.state {
                let room = out_bytes_max.saturating_sub(out.len());
                let take = room.min(bytes.len() - at).min(usize::try_from(left).unwrap_or(usize::MAX));
                if take == 0 {
                    break;
                }
                out.put_slice(&bytes[at..at + take]);
                at += take;
                let left = left - take as u64;
                self.state = if left == 0 { State::DataCr } else { State::Data { left } };
            } else {
                self.state = self.step(bytes[at])?;
                at += 1;
            }
        }
        Ok(at)
    }

    /// Whether the last chunk and the empty line behind it were read.
    pub fn is_done(&self) -> bool {
        self.state == State::Done
    }

    fn step(&mut self, byte: u8) -> Result<State, HttpError> {
        Ok(match (self.state, byte) {
            (State::Size { digits, size }, _) if byte.is_ascii_hexdigit() && digits < SIZE_DIGITS_MAX => {
                let digit = (byte as char).to_digit(16).expect("it is one");
                State::Size { digits: digits + 1, size: size << 4 | u64::from(digit) }
            }
            (State::Size { digits: 1.., size }, b'\r') => State::SizeEnd { size },
            (State::Size { digits: 1.., size }, b';') => State::Extension { size },
            (State::Extension { size }, b'\r') => State::SizeEnd { size },
            (State::Extension { .. }, byte) if is_text(byte) => self.pass_over()?,
            (State::SizeEnd { size: 0 }, b'\n') => State::Trailer,
            (State::SizeEnd { size }, b'\n') => State::Data { left: size },
            (State::DataCr, b'\r') => State::DataLf,
            (State::DataLf, b'\n') => State::SIZE,
            (State::Trailer, b'\r') => State::End,
            (State::Trailer | State::TrailerField, byte) if is_text(byte) => {
                self.pass_over()?;
                State::TrailerField
            }
            (State::TrailerField, b'\r') => State::TrailerLf,
            (State::TrailerLf, b'\n') => State::Trailer,
            (State::End, b'\n') => State::Done,
            _ => {
                return Err(HttpError::bad_request(
                    "the chunked body is malformed; each chunk is its size in hexadecimal, CR LF, so many bytes, CR LF",
                ));
            }
        })
    }

    fn pass_over(&mut self) -> Result<State, HttpError> {
        self.passed_over += 1;
        if self.passed_over > PASSED_OVER_BYTES_MAX {
            return Err(HttpError::bad_request(format!(
                "the chunked body has over {PASSED_OVER_BYTES_MAX} bytes of extensions and trailer fields; send none"
            )));
        }
        Ok(self.state)
    }
}

impl State {
    const SIZE: Self = Self::Size { digits: 0, size: 0 };
}

fn is_text(byte: u8) -> bool {
    byte == b'\t' || (byte >= 0x20 && byte != 0x7F)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(bytes: &[u8]) -> Result<(Vec<u8>, usize, bool), HttpError> {
        let (mut body, mut out) = (ChunkedBody::default(), BytesMut::new());
        let used = body.read(bytes, &mut out, usize::MAX)?;
        Ok((out.to_vec(), used, body.is_done()))
    }

    #[test]
    fn chunks_are_put_together() {
        let wire = b"3\r\nabc\r\nA;name=\"v\"\r\n0123456789\r\n0\r\nField: value\r\n\r\nGET / HTTP/1.1";
        let (body, used, done) = read(wire).expect("well-formed");
        assert_eq!((&body[..], &wire[used..], done), (&b"abc0123456789"[..], &b"GET / HTTP/1.1"[..], true));
        assert_eq!(read(b"0\r\n\r\n").expect("empty"), (Vec::new(), 5, true));
        assert_eq!(read(b"5\r\nab").expect("not complete"), (b"ab".to_vec(), 5, false));
    }

    #[test]
    fn what_parsers_differ_about_is_refused() {
        for wire in [
            "\r\n",
            "g\r\n",
            " 3\r\nabc\r\n",
            "3 \r\nabc\r\n",
            "+3\r\nabc\r\n",
            "0x3\r\nabc\r\n",
            "-1\r\n",
            "3\nabc\r\n",
            "3\r\nabcd\r\n",
            "3\r\nabc\n",
            "3\r\nabcX\n",
            "0\r\n\n",
            "0\n\r\n",
            "0000000000000001\r\na\r\n",
            "3;\x01\r\nabc\r\n",
            "3;a\n",
            "0\r\na: b\n\r\n",
            "ffffffffffffffff\r\n",
            ";\r\n",
        ] {
            assert!(read(wire.as_bytes()).is_err(), "{wire:?}");
        }
    }

    #[test]
    fn what_is_passed_over_is_bounded() {
        let extension = |bytes: usize| format!("1;{}\r\na\r\n0\r\n\r\n", "x".repeat(bytes));
        let most = PASSED_OVER_BYTES_MAX as usize;
        assert!(read(extension(most).as_bytes()).is_ok());
        assert!(read(extension(most + 1).as_bytes()).is_err());
        let trailers: String = (0..5_000).map(|_| "a:b\r\n").collect();
        assert!(read(format!("0\r\n{trailers}\r\n").as_bytes()).expect("below").2);
        assert!(read(format!("0\r\n{trailers}{trailers}\r\n").as_bytes()).is_err());
    }

    proptest! {
        /// Any chunks, in any pieces, with any room for the output, give the same body.
        #[test]
        fn any_split_gives_the_same_body(
            chunks in prop::collection::vec(prop::collection::vec(any::<u8>(), 1..40), 0..8),
            pieces in prop::collection::vec(1_usize..20, 1..200),
            room in 1_usize..30,
        ) {
            let mut wire = Vec::new();
            for chunk in &chunks {
                wire.extend_from_slice(format!("{:x}\r\n", chunk.len()).as_bytes());
                wire.extend_from_slice(chunk);
                wire.extend_from_slice(b"\r\n");
            }
            wire.extend_from_slice(b"0\r\n\r\n");
            let mut body = ChunkedBody::default();
            let (mut read, mut at, mut got) = (Vec::new(), 0, 0);
            let mut pieces = pieces.into_iter().cycle();
            while !body.is_done() {
                got = wire.len().min(got.max(at) + pieces.next().expect("endless"));
                let mut out = BytesMut::new();
                at += body.read(&wire[at..got], &mut out, room).expect("well-formed");
                prop_assert!(out.len() <= room);
                read.extend_from_slice(&out);
            }
            prop_assert_eq!(at, wire.len());
            prop_assert_eq!(read, chunks.concat());
        }

        /// Whatever comes, it is read or refused, and never more than it was given.
        #[test]
        fn anything_is_read_or_refused(bytes in prop::collection::vec(prop::sample::select(b"0159aF;\r\n x\x00".to_vec()), 0..60)) {
            let mut out = BytesMut::new();
            if let Ok(used) = ChunkedBody::default().read(&bytes, &mut out, usize::MAX) {
                prop_assert!(used <= bytes.len() && out.len() <= used);
            }
        }
    }
}
