//! A decoder that takes one byte at a time, written from RFC 6455 without regard to speed: what ours must agree with.

use super::Event;
use fanwire_codec::ws::{ProtocolError, Role};

pub struct Reference {
    role: Role,
    bytes_max: u64,
    header: Vec<u8>,
    /// Opcode, FIN, key, length of the frame whose payload is awaited.
    frame: Option<(u8, bool, [u8; 4], u64)>,
    payload: Vec<u8>,
    message: Option<(u8, Vec<u8>)>,
    empty_run: u32,
    pub over: bool,
}

impl Reference {
    pub fn new(role: Role, bytes_max: u64) -> Self {
        let (header, payload) = (Vec::new(), Vec::new());
        Self { role, bytes_max, header, frame: None, payload, message: None, empty_run: 0, over: false }
    }

    pub fn byte(&mut self, byte: u8) -> Option<Event> {
        if self.over {
            return None;
        }
        let event = self.try_byte(byte).unwrap_or_else(|error| Some(Event::Failed(error)));
        self.over |= matches!(event, Some(Event::Failed(_) | Event::Close(_)));
        event
    }

    fn try_byte(&mut self, byte: u8) -> Result<Option<Event>, ProtocolError> {
        if let Some((opcode, _, key, _)) = self.frame {
            let plain = byte ^ key[self.payload.len() % 4];
            self.payload.push(plain);
            if opcode < 8 {
                let (kind, text) = self.message.as_mut().unwrap();
                text.push(plain);
                if *kind == 1
                    && let Utf8::Broken(offset) = utf8(text)
                {
                    return Err(ProtocolError::InvalidUtf8 { offset_bytes: offset as u64 });
                }
            }
        } else {
            self.header.push(byte);
            self.check_header()?;
        }
        match self.frame {
            Some((opcode, fin, _, length)) if self.payload.len() as u64 == length => {
                self.frame = None;
                let payload = std::mem::take(&mut self.payload);
                self.frame_ended(opcode, fin, payload)
            }
            _ => Ok(None),
        }
    }

    fn check_header(&mut self) -> Result<(), ProtocolError> {
        let header = &self.header[..];
        let (opcode, fin) = (header[0] & 15, header[0] >= 128);
        if header.len() == 1 {
            if header[0] & 0x70 != 0 {
                return Err(ProtocolError::ReservedBits { bits: header[0] >> 4 & 7 });
            }
            return match opcode {
                3..=7 | 11..=15 => Err(ProtocolError::ReservedOpcode { opcode }),
                8..=10 if !fin => Err(ProtocolError::FragmentedControl),
                0 if self.message.is_none() => Err(ProtocolError::UnexpectedContinuation),
                1 | 2 if self.message.is_some() => Err(ProtocolError::UnfinishedMessage),
                _ => Ok(()),
            };
        }
        let (masked, short) = (header[1] >= 128, header[1] & 127);
        let length_bytes = match short {
            126 => 2,
            127 => 8,
            _ => 0,
        };
        if header.len() == 2 {
            match (self.role, masked) {
                (Role::Server, false) => return Err(ProtocolError::NotMasked),
                (Role::Client, true) => return Err(ProtocolError::Masked),
                _ if opcode >= 8 && short > 125 => return Err(ProtocolError::ControlTooLong),
                _ => {}
            }
        }
        let mut length = u64::from(short);
        if length_bytes > 0 && header.len() >= 2 + length_bytes {
            length = header[2..2 + length_bytes].iter().fold(0, |sum, &byte| sum << 8 | u64::from(byte));
            if length >= 1 << 63 {
                return Err(ProtocolError::LengthOutOfRange);
            }
            if length < if length_bytes == 2 { 126 } else { 65536 } {
                return Err(ProtocolError::LengthNotMinimal { length });
            }
        }
        let size = 2 + length_bytes + if masked { 4 } else { 0 };
        if header.len() < size {
            return Ok(());
        }
        let key = if masked { header[size - 4..].try_into().unwrap() } else { [0; 4] };
        if opcode < 8 {
            let have = self.message.as_ref().map_or(0, |(_, bytes)| bytes.len() as u64);
            if have + length > self.bytes_max {
                return Err(ProtocolError::MessageTooLarge {
                    bytes: have + length,
                    bytes_max: self.bytes_max,
                });
            }
            if opcode > 0 {
                self.message = Some((opcode, Vec::new()));
                self.empty_run = 0;
            }
            if length > 0 {
                self.empty_run = 0;
            } else if !fin {
                self.empty_run += 1;
                if self.empty_run > 1024 {
                    return Err(ProtocolError::EmptyFragments);
                }
            }
        }
        self.frame = Some((opcode, fin, key, length));
        self.header.clear();
        Ok(())
    }

    fn frame_ended(
        &mut self,
        opcode: u8,
        fin: bool,
        payload: Vec<u8>,
    ) -> Result<Option<Event>, ProtocolError> {
        Ok(Some(match opcode {
            8 => Event::Close(match payload.len() {
                0 => None,
                1 => return Err(ProtocolError::CloseBodyOfOneByte),
                _ => {
                    let code = u16::from(payload[0]) << 8 | u16::from(payload[1]);
                    if code < 1000 || matches!(code, 1004..=1006 | 1015..=2999 | 5000..) {
                        return Err(ProtocolError::InvalidCloseCode { code });
                    }
                    let Ok(reason) = String::from_utf8(payload[2..].to_vec()) else {
                        return Err(ProtocolError::InvalidCloseReason);
                    };
                    Some((code, reason))
                }
            }),
            9 => Event::Ping(payload),
            10 => Event::Pong(payload),
            _ if !fin => return Ok(None),
            _ => match self.message.take().unwrap() {
                (1, text) => match utf8(&text) {
                    Utf8::Whole => Event::Text(text),
                    Utf8::Cut(offset) | Utf8::Broken(offset) => {
                        return Err(ProtocolError::InvalidUtf8 { offset_bytes: offset as u64 });
                    }
                },
                (_, bytes) => Event::Binary(bytes),
            },
        }))
    }
}

pub enum Utf8 {
    Whole,
    Cut(usize),
    Broken(usize),
}

/// The table of well-formed sequences (Unicode, table 3-7), read off one character after the other. Starts near the
/// end, because everything before has been looked at when it came.
pub fn utf8(text: &[u8]) -> Utf8 {
    let mut at = text.len().saturating_sub(8);
    while at > 0 && text[at] & 0xC0 == 0x80 {
        at -= 1;
    }
    while let Some(&lead) = text.get(at) {
        let seconds = match lead {
            0x00..=0x7F => {
                at += 1;
                continue;
            }
            0xE0 => 0xA0..=0xBF,
            0xED => 0x80..=0x9F,
            0xF0 => 0x90..=0xBF,
            0xF4 => 0x80..=0x8F,
            0xC2..=0xDF | 0xE1..=0xEC | 0xEE | 0xEF | 0xF1..=0xF3 => 0x80..=0xBF,
            _ => return Utf8::Broken(at),
        };
        let size = match lead {
            0xF0.. => 4,
            0xE0.. => 3,
            _ => 2,
        };
        for offset in 1..size {
            match text.get(at + offset) {
                None => return Utf8::Cut(at),
                Some(byte) if offset == 1 && seconds.contains(byte) => {}
                Some(0x80..=0xBF) if offset > 1 => {}
                Some(_) => return Utf8::Broken(at),
            }
        }
        at += size;
    }
    Utf8::Whole
}
