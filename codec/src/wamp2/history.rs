//! Events of before, as `wamp.subscription.get_events` answers them (WAMP, "Event History").

use bytes::BytesMut;

use super::Serializer;
use super::encode::{Both, about};
use super::message::Payload;
use super::options::EventDetails;
use super::write::{CborWriter, JsonWriter, MsgPackWriter, Pairs, Writer, write_dict};

/// One event of before.
#[derive(Clone, Debug)]
pub struct PastEvent<'a> {
    /// When it was published, as RFC 3339 writes it.
    pub timestamp: &'a str,
    /// The subscription that was asked for.
    pub subscription: u64,
    /// The publication.
    pub publication: u64,
    /// As they were told.
    pub details: EventDetails<'a>,
    /// In the serializer of the answer.
    pub payload: Payload<'a>,
}

/// Appends one event. A list of them is what a call's result has as its only argument: see [`history_arguments`].
pub fn write_past_event(serializer: Serializer, event: &PastEvent<'_>, is_first: bool, out: &mut BytesMut) {
    let pairs = InSerializer { event, serializer };
    match serializer {
        Serializer::Json => {
            if !is_first {
                out.extend_from_slice(b",");
            }
            write_dict(&mut JsonWriter::new(out), &pairs);
        }
        Serializer::MsgPack => write_dict(&mut MsgPackWriter::new(out), &pairs),
        Serializer::Cbor => write_dict(&mut CborWriter::new(out), &pairs),
    }
}

/// The arguments of a result: a list whose only element is the list of these events, which are written already.
///
///     use fanwire_codec::wamp2::{PastEvent, Payload, Serializer, history_arguments, write_past_event};
///     let mut events = bytes::BytesMut::new();
///     let payload = Payload { args: Some(b"[1]"), ..Payload::EMPTY };
///     let event = PastEvent { timestamp: "2026-01-01T00:00:00.000Z", subscription: 7, publication: 9, details: Default::default(), payload };
///     write_past_event(Serializer::Json, &event, true, &mut events);
///     assert_eq!(
///         &history_arguments(Serializer::Json, 1, &events)[..],
///         br#"[[{"timestamp":"2026-01-01T00:00:00.000Z","subscription":7,"publication":9,"details":{},"args":[1]}]]"#
///     );
pub fn history_arguments(serializer: Serializer, count: u32, events: &[u8]) -> BytesMut {
    let mut out = BytesMut::with_capacity(events.len() + 16);
    match serializer {
        Serializer::Json => {
            out.extend_from_slice(b"[[");
            out.extend_from_slice(events);
            out.extend_from_slice(b"]]");
        }
        Serializer::MsgPack => begin_lists(&mut MsgPackWriter::new(&mut out), count, events),
        Serializer::Cbor => begin_lists(&mut CborWriter::new(&mut out), count, events),
    }
    out
}

fn begin_lists(writer: &mut impl Writer, count: u32, events: &[u8]) {
    writer.begin_list(1);
    writer.begin_list(count);
    writer.raw(events);
}

struct InSerializer<'a, 'e> {
    event: &'a PastEvent<'e>,
    serializer: Serializer,
}

impl Pairs for InSerializer<'_, '_> {
    fn write(&self, writer: &mut impl Writer) {
        let PastEvent { timestamp, subscription, publication, details, payload } = self.event;
        writer.key("timestamp");
        writer.str(timestamp);
        writer.key("subscription");
        writer.uint(*subscription);
        writer.key("publication");
        writer.uint(*publication);
        writer.key("details");
        match about(self.serializer, payload) {
            None => write_dict(writer, details),
            Some(about) => write_dict(writer, &Both(details, about)),
        }
        for (key, part) in [("args", payload.args), ("kwargs", payload.kwargs)] {
            if let Some(part) = part {
                writer.key(key);
                writer.raw(part);
            }
        }
    }
}
