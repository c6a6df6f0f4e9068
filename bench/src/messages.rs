//! What is sent in the benchmarks.

use bytes::BytesMut;
use fanwire_codec::payload::OwnedPayload;
use fanwire_codec::wamp2::{Message, Payload, Serializer, encode};

/// `[16, 77, {}, "a.topic"]` and this payload, which is in the same serializer.
pub fn publish(serializer: Serializer, payload: Payload<'_>) -> Vec<u8> {
    let message =
        Message::Publish { request: 77, options: Default::default(), topic: "a.topic".into(), payload };
    let mut out = BytesMut::new();
    encode(&message, serializer, &mut out);
    out.to_vec()
}

/// A JSON list in another serializer.
pub fn transcoded(list: &[u8], serializer: Serializer) -> Vec<u8> {
    let payload = Payload { args: Some(list), kwargs: None, ..Payload::EMPTY };
    let transcoded = OwnedPayload::copy_from(Serializer::Json, &payload).transcode(serializer);
    let transcoded = transcoded.expect("the list is sound");
    transcoded.view().args.expect("it has arguments").to_vec()
}

/// A JSON list of so many objects of about 44 bytes: short keys, whole numbers, fractions, short strings.
pub fn objects(count: u32) -> Vec<u8> {
    let object = |number: u32| {
        let (x, y) = (number * 37 % 1000, number * 91 % 1000);
        format!("{{\"id\":{number},\"x\":{x}.25,\"y\":-{y},\"name\":\"item {number}\"}}")
    };
    let objects: Vec<String> = (0..count).map(object).collect();
    format!("[{}]", objects.join(",")).into_bytes()
}
