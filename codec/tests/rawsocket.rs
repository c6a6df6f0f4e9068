//! The same bytes give the same things however they are cut, and the same as a reader that takes one frame at a time.

use bytes::BytesMut;
use fanwire_codec::rawsocket::{FrameKind, HEAD_BYTES, ProtocolError, Received, Receiver, head, write_frame};
use proptest::prelude::*;

const BYTES_MAX: u64 = 1 << 16;

#[derive(Clone, PartialEq, Eq, Debug)]
enum Event {
    Message(Vec<u8>),
    Ping(Vec<u8>),
    Pong(Vec<u8>),
    Failed(ProtocolError),
}

impl From<Received<'_>> for Event {
    fn from(received: Received<'_>) -> Self {
        match received {
            Received::Message(payload) => Self::Message(payload.to_vec()),
            Received::Ping(payload) => Self::Ping(payload.to_vec()),
            Received::Pong(payload) => Self::Pong(payload.to_vec()),
        }
    }
}

/// Frame by frame, in the plainest way there is.
fn reference(mut bytes: &[u8], is_text: bool) -> Vec<Event> {
    let mut events = Vec::new();
    while bytes.len() >= HEAD_BYTES {
        let (first, low) = (bytes[0], u32::from_be_bytes([0, bytes[1], bytes[2], bytes[3]]));
        let length = if first & 8 != 0 { 1 << 24 } else { low };
        let failure = if first >> 4 != 0 {
            Some(ProtocolError::ReservedBits { bits: first >> 4 })
        } else if first & 7 > 2 {
            Some(ProtocolError::ReservedKind { kind: first & 7 })
        } else if first & 8 != 0 && low != 0 {
            Some(ProtocolError::LengthOutOfRange { rest: low })
        } else if u64::from(length) > BYTES_MAX {
            Some(ProtocolError::TooLong { bytes: length.into(), bytes_max: BYTES_MAX })
        } else {
            None
        };
        if let Some(failure) = failure {
            events.push(Event::Failed(failure));
            return events;
        }
        let Some(payload) = bytes.get(HEAD_BYTES..HEAD_BYTES + length as usize) else { return events };
        let flaw = std::str::from_utf8(payload).err().filter(|_| is_text && first & 7 == 0);
        if let Some(flaw) = flaw {
            let offset_bytes = flaw.valid_up_to() as u64;
            events.push(Event::Failed(ProtocolError::InvalidUtf8 { offset_bytes }));
            return events;
        }
        let payload_owned = payload.to_vec();
        events.push(match first & 7 {
            0 => Event::Message(payload_owned),
            1 => Event::Ping(payload_owned),
            _ => Event::Pong(payload_owned),
        });
        bytes = &bytes[HEAD_BYTES + payload.len()..];
    }
    events
}

/// Reads of these sizes, then the rest in one; where there is room in a message, every second one goes straight there.
fn cut(bytes: &[u8], is_text: bool, sizes: &[usize]) -> Vec<Event> {
    let mut receiver = Receiver::new(is_text);
    let mut events = Vec::new();
    let mut rest = bytes;
    for (index, size) in sizes.iter().chain(std::iter::repeat(&4096)).enumerate() {
        if rest.is_empty() {
            break;
        }
        let (mut read, later) = rest.split_at((*size).min(rest.len()));
        if index % 2 == 0
            && let Some(room) = receiver.direct_room()
        {
            let count = read.len().min(room.bytes.len());
            room.bytes[..count].copy_from_slice(&read[..count]);
            read = &read[count..];
            match receiver.direct_filled(count) {
                Ok(received) => events.extend(received.map(Event::from)),
                Err(error) => events.push(Event::Failed(error)),
            }
        }
        let mut read = read.to_vec();
        let mut at = 0;
        while at < read.len() {
            match receiver.receive(&mut read[at..], BYTES_MAX) {
                Ok((consumed, received)) => {
                    assert!(consumed > 0, "bytes are there, and none is consumed");
                    at += consumed;
                    events.extend(received.map(Event::from));
                }
                Err(error) => {
                    events.push(Event::Failed(error));
                    at = read.len();
                }
            }
        }
        receiver.recycle();
        let held = receiver.held_bytes();
        assert!(held <= 2 * bytes.len().max(4096), "{held} bytes are held of {} that came", bytes.len());
        rest = later;
    }
    events
}

fn frames() -> impl Strategy<Value = Vec<u8>> {
    let kind = prop::sample::select(vec![FrameKind::Message, FrameKind::Ping, FrameKind::Pong]);
    let payload = prop_oneof![
        6 => "[a-zé€𝄞 ]{0,60}".prop_map(String::into_bytes),
        1 => (0..60_000_usize).prop_map(|count| "aé€𝄞".bytes().cycle().take(count).collect()),
        1 => (60_000..70_000_usize).prop_map(|count| vec![b'x'; count]),
        1 => prop::collection::vec(any::<u8>(), 0..8),
    ];
    let sound = (kind, payload).prop_map(|(kind, payload)| {
        let mut out = BytesMut::new();
        write_frame(&mut out, kind, &payload);
        out.to_vec()
    });
    let odd = any::<[u8; HEAD_BYTES]>().prop_map(Vec::from);
    prop::collection::vec(prop_oneof![12 => sound, 1 => odd], 0..6).prop_map(|frames| frames.concat())
}

proptest! {
    #[test]
    fn any_chunking_gives_the_same(
        bytes in frames(),
        is_text: bool,
        sizes in prop::collection::vec(prop_oneof![3 => 1..9_usize, 1 => 1..20_000_usize], 0..40),
    ) {
        prop_assert_eq!(cut(&bytes, is_text, &sizes), reference(&bytes, is_text));
    }

    #[test]
    fn one_byte_at_a_time_gives_the_same(bytes in frames(), is_text: bool) {
        let bytes = &bytes[..bytes.len().min(2_000)];
        prop_assert_eq!(cut(bytes, is_text, &vec![1; bytes.len()]), reference(bytes, is_text));
    }
}

#[test]
fn each_first_byte_of_a_head_is_known_or_refused() {
    for first in 0..=u8::MAX {
        let mut bytes = vec![first, 0, 0, 1, b'x'];
        let events = cut(&bytes, true, &[]);
        assert_eq!(events, reference(&bytes, true), "{first:#x}");
        let expected_kinds = usize::from(first <= 2);
        let failed = events.iter().any(|event| matches!(event, Event::Failed(_)));
        assert_eq!((events.len() - usize::from(failed), failed), (expected_kinds, expected_kinds == 0));
        bytes.truncate(3);
        assert_eq!(cut(&bytes, true, &[]), [], "a head that is not complete says nothing");
    }
}

#[test]
fn a_length_alone_reserves_nothing() {
    let mut receiver = Receiver::new(false);
    let mut bytes = head(FrameKind::Message, 1 << 24);
    assert!(matches!(receiver.receive(&mut bytes, u64::MAX), Ok((4, None))));
    assert!(receiver.held_bytes() <= 4096, "{}", receiver.held_bytes());
    assert!(receiver.is_mid_message());
    receiver.discard();
    assert!(!receiver.is_mid_message() && receiver.held_bytes() == 0);
}

#[test]
fn a_message_of_16_mib_comes_through() {
    let payload: Vec<u8> = (0..1 << 24).map(|index: u32| index as u8).collect();
    let mut out = BytesMut::new();
    write_frame(&mut out, FrameKind::Message, &payload);
    let mut receiver = Receiver::new(false);
    let mut rest = &out[..];
    let mut seen = false;
    while !rest.is_empty() {
        if let Some(room) = receiver.direct_room() {
            let count = room.bytes.len().min(rest.len());
            room.bytes[..count].copy_from_slice(&rest[..count]);
            rest = &rest[count..];
            if let Some(Received::Message(message)) = receiver.direct_filled(count).expect("it is sound") {
                seen = message == payload;
            }
            continue;
        }
        let count = rest.len().min(65_536);
        let mut read = rest[..count].to_vec();
        rest = &rest[count..];
        assert!(matches!(receiver.receive(&mut read, 1 << 24), Ok((_, None))));
    }
    assert!(seen);
}
