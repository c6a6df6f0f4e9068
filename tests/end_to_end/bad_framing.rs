//! What comes of bad framing, a row a case: of batches and of RawSocket frames; and of one flaw of a message in every framing.

use fanwire_codec::wamp2::Serializer;
use fanwire_codec::ws::Kind;
use serde_json::{Value, json};

use crate::support::{Framed, FramedHeard as Heard, Framing, Launch, Router, batch};

/// The rows of the table that the core is tested with.
const TABLE: &str = include_str!("../../router-core/tests/wamp2/bad_input.txt");

/// Bytes, and what ABORT says of them before HELLO and in a session.
type Row<'a> = (&'a [u8], [(&'a str, &'a str); 2]);

/// A sound request, which is answered by PUBLISHED.
fn sound(request: u64) -> Value {
    json!([16, request, {"acknowledge": true}, "a.sound"])
}

/// All that comes until the connection ends, without what is a matter of chance.
fn rest(client: &mut Framed) -> Vec<String> {
    let mut heard = Vec::new();
    loop {
        heard.push(match client.next() {
            Heard::Message(message) => match message[0].as_u64() {
                // Ids of publications, subscriptions, registrations and sessions are drawn.
                Some(code @ (17 | 33 | 65)) => format!("[{code},{}]", message[1]),
                Some(code @ (2 | 36)) => format!("[{code}]"),
                _ => message.to_string(),
            },
            Heard::Close(code, words) => format!("close {code} {words}").trim_end().to_owned(),
            Heard::End => return heard,
        });
    }
}

/// ABORT, and a close frame.
fn aborted(words: &str) -> Vec<String> {
    vec![format!(r#"[3,{{"message":"{words}"}},"wamp.error.protocol_violation"]"#), "close 1002".to_owned()]
}

/// Somebody who must notice nothing.
struct Bystander(Framed);

impl Bystander {
    fn new(router: &Router) -> Self {
        Self(Framed::join(router.wamp, Framing::WebSocket, Serializer::Json))
    }

    fn notices_nothing(&mut self) {
        self.0.send(&[sound(999)]);
        let heard = self.0.expect();
        assert_eq!((&heard[0], &heard[1]), (&json!(17), &json!(999)));
    }
}

on_both_drivers! {
    /// The messages of a batch before what is wrong count, those behind it do not.
    fn what_is_no_batch(driver: &str) {
        let router = Launch::on(driver).start();
        let mut bystander = Bystander::new(&router);
        let empty = "close 1002 a batch has one message at least, this one is empty";
        let open_end = "close 1002 each message of a batch ends with the byte 0x1E, the last one does not";
        let before: &[u64] = &[1, 2];
        // Which messages come before, what follows them in the same WebSocket message, what is heard of that.
        let text: [(&[u64], &str, Vec<String>); 9] = [
            (&[], "", vec![empty.into()]),
            (&[], " ", vec![open_end.into()]),
            (&[], "[16,9,{}", vec![open_end.into()]),
            (before, " ", vec![open_end.into()]),
            (before, "[16,9,{\"acknowledge\":true},\"a\"]", vec![open_end.into()]),
            (&[], "\x1e", aborted("the message has an end where a value is due at byte 0")),
            (before, "\x1e[16,9,{\"acknowledge\":true},\"a\"]\x1e", aborted("the message has an end where a value is due at byte 0")),
            (before, " \n\x1e", aborted("the message has an end where a value is due at byte 2")),
            (before, "[99]\x1e[16,9,{\"acknowledge\":true},\"a\"]\x1e", aborted("99 is no message type")),
        ];
        let cut = |length: u32, rest: usize| vec![format!("close 1002 a message of a batch is said to have {length} bytes, but {rest} are left")];
        let cut_length = |rest: usize| vec![format!("close 1002 {rest} bytes follow the last message of a batch; a length has 4")];
        let binary: [(&[u64], &[u8], Vec<String>); 10] = [
            (&[], b"", vec![empty.into()]),
            (&[], &[0], cut_length(1)),
            (&[], &[0, 0, 1], cut_length(3)),
            (before, &[0, 0], cut_length(2)),
            (&[], &[0, 0, 0, 1], cut(1, 0)),
            (&[], &[0, 0, 0, 3, 0x90, 0x90], cut(3, 2)),
            (before, &[0xFF, 0xFF, 0xFF, 0xFF, 0x90], cut(u32::MAX, 1)),
            (before, &[0x80, 0, 0, 0], cut(1 << 31, 0)),
            (&[], &[0, 0, 0, 0], aborted("the message has an end where a value is due at byte 0")),
            (before, &[0, 0, 0, 0, 0, 0, 0, 1, 0x90], aborted("the message has an end where a value is due at byte 0")),
        ];
        let rows = text.map(|(before, behind, heard)| (Serializer::Json, before, behind.as_bytes(), heard)).into_iter();
        let rows = rows.chain(binary.iter().flat_map(|(before, behind, heard)| {
            [Serializer::MsgPack, Serializer::Cbor].map(|serializer| (serializer, *before, *behind, heard.clone()))
        }));
        let mut wrong = Vec::new();
        for (serializer, before, behind, heard) in rows {
            let mut client = Framed::join(router.wamp, Framing::Batches, serializer);
            let kind = client.kind();
            let messages: Vec<_> = before.iter().map(|request| client.written(&sound(*request).to_string()).expect("it has a form")).collect();
            client.send_whole(kind, &[&batch(kind, &messages), behind].concat());
            let expected: Vec<_> = before.iter().map(|request| format!("[17,{request}]")).chain(heard).collect();
            let found = rest(&mut client);
            if found != expected {
                wrong.push(format!("{serializer}, {before:?} and {behind:x?}: {found:?} instead of {expected:?}"));
            }
            bystander.notices_nothing();
        }
        assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    }

    /// Text where binary messages are due, and the other way round, in batches as without.
    fn messages_of_the_wrong_kind(driver: &str) {
        let router = Launch::on(driver).start();
        for serializer in Serializer::ALL {
            for framing in [Framing::WebSocket, Framing::Batches] {
                for is_in in [false, true] {
                    let mut client = if is_in { Framed::join(router.wamp, framing, serializer) } else { Framed::connect(router.wamp, framing, serializer) };
                    let (kind, due) = if serializer.is_text() { (Kind::Binary, "text") } else { (Kind::Text, "binary") };
                    client.send_whole(kind, b"[16,1,{},\"a\"]\x1e");
                    let words = format!("close 1003 {} messages are {due}", serializer.subprotocol());
                    assert_eq!(rest(&mut client), [words], "{framing:?}, {is_in}");
                }
            }
        }
    }

    fn bad_frames_of_rawsocket(driver: &str) {
        let router = Launch::on(driver).start();
        let mut bystander = Bystander::new(&router);
        let violation = "wamp.error.protocol_violation";
        let too_long = "wamp.error.payload_size_exceeded";
        let rows: [Row; 14] = [
            (&[0x10, 0, 0, 1, b'x'], [("reserved bits 0b0001 of a frame's head are set; they must be 0", violation); 2]),
            (&[0x80, 0, 0, 0], [("reserved bits 0b1000 of a frame's head are set; they must be 0", violation); 2]),
            (&[0xF0, 0, 0, 0], [("reserved bits 0b1111 of a frame's head are set; they must be 0", violation); 2]),
            (&[0xFF, 0xFF, 0xFF, 0xFF], [("reserved bits 0b1111 of a frame's head are set; they must be 0", violation); 2]),
            (&[3, 0, 0, 0], [("frame type 3 is reserved; use 0 (message), 1 (ping) or 2 (pong)", violation); 2]),
            (&[7, 0, 0, 2, 1, 2], [("frame type 7 is reserved; use 0 (message), 1 (ping) or 2 (pong)", violation); 2]),
            (&[8, 0, 0, 1], [("bit 25 of a frame's length stands for exactly 16777216 bytes: the others must be 0, not 1", violation); 2]),
            (&[8, 0, 0, 0], [("the frame has 16777216 bytes, at most 16384 are accepted", too_long), ("the frame has 16777216 bytes, at most 1048576 are accepted", too_long)]),
            (&[9, 0, 0, 0], [("the frame has 16777216 bytes, at most 16384 are accepted", too_long), ("the frame has 16777216 bytes, at most 1048576 are accepted", too_long)]),
            (&[0, 0x10, 0, 1], [("the frame has 1048577 bytes, at most 16384 are accepted", too_long), ("the frame has 1048577 bytes, at most 1048576 are accepted", too_long)]),
            (&[1, 0x10, 0, 1], [("the frame has 1048577 bytes, at most 16384 are accepted", too_long), ("the frame has 1048577 bytes, at most 1048576 are accepted", too_long)]),
            (&[2, 0x10, 0, 1], [("the frame has 1048577 bytes, at most 16384 are accepted", too_long), ("the frame has 1048577 bytes, at most 1048576 are accepted", too_long)]),
            (&[0, 0xFF, 0xFF, 0xFF], [("the frame has 16777215 bytes, at most 16384 are accepted", too_long), ("the frame has 16777215 bytes, at most 1048576 are accepted", too_long)]),
            (&[0, 0, 0, 0], [("the message has an end where a value is due at byte 0", violation); 2]),
        ];
        let mut wrong = Vec::new();
        for serializer in Serializer::ALL {
            for (bytes, aborts) in rows {
                for (is_in, (words, uri)) in [false, true].into_iter().zip(aborts) {
                    let mut expected = Vec::new();
                    let mut client = Framed::connect(router.wamp, Framing::RawSocket, serializer);
                    if is_in {
                        client = Framed::join(router.wamp, Framing::RawSocket, serializer);
                        // What comes before counts.
                        client.send(&[sound(1)]);
                        expected.push("[17,1]".to_owned());
                    }
                    client.send_bytes(bytes);
                    expected.push(format!(r#"[3,{{"message":"{words}"}},"{uri}"]"#));
                    let found = rest(&mut client);
                    if found != expected {
                        wrong.push(format!("{serializer} {bytes:x?} {is_in}: {found:?}"));
                    }
                }
            }
            bystander.notices_nothing();
        }
        assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    }

    /// Between two sound requests, in one batch, in one write of RawSocket frames, and as WebSocket messages.
    fn a_flaw_of_a_message_is_the_same_in_every_framing(driver: &str) {
        let router = Launch::on(driver).start();
        let mut bystander = Bystander::new(&router);
        let flaws = TABLE.lines().filter(|line| !line.starts_with('#')).filter_map(|line| {
            let mut columns = line.split(" | ");
            let (state, flaw) = (columns.next()?, columns.next()?);
            // Of these the answer may come behind what follows.
            let is_asked = flaw.contains("\"wamp.");
            (state == "open" && !flaw.contains('@') && !is_asked).then_some(flaw)
        });
        let (mut wrong, mut ended, mut went_on) = (Vec::new(), 0, 0);
        for flaw in flaws {
            for serializer in Serializer::ALL {
                let mut said = Framing::ALL.map(|framing| {
                    let mut client = Framed::join(router.wamp, framing, serializer);
                    let flaw = client.written(flaw)?;
                    let written = |message: Value| client.written(&message.to_string()).expect("it has a form");
                    let goodbye = json!([6, {}, "wamp.close.normal"]);
                    client.send_written(&[written(sound(901)), flaw, written(sound(902)), written(goodbye)]);
                    let mut heard = rest(&mut client);
                    assert_eq!(heard[0], "[17,901]");
                    // RawSocket has no close frames.
                    heard.pop_if(|last| last.starts_with("close "));
                    Some(heard)
                });
                if said[0].is_none() {
                    continue;
                }
                let [plain, batches, raw] = said.each_mut().map(|heard| heard.take().expect("it has a form in all"));
                if plain != batches || plain != raw {
                    wrong.push(format!("{serializer} {flaw}: {plain:?}, {batches:?}, {raw:?}"));
                }
                let is_over = !plain.contains(&"[17,902]".to_owned());
                // Nobody ends without a word, but who ends by itself.
                let is_told = plain.last().is_some_and(|last| last.starts_with("[3,{\"message\""));
                assert!(!is_over || is_told || flaw.starts_with("[3,") || flaw.starts_with("[6,"), "{flaw}: {plain:?}");
                *if is_over { &mut ended } else { &mut went_on } += 1;
            }
        }
        bystander.notices_nothing();
        assert!(wrong.is_empty(), "{}", wrong.join("\n"));
        assert!(ended > 300 && went_on > 300, "{ended} ended, {went_on} went on");
    }
}
