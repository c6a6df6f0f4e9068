//! The mapping between serializers, row by row of the table in `payload`.

mod wamp_support;

use fanwire_codec::payload::{OwnedPayload, TranscodeError};
use fanwire_codec::wamp2::{Payload, Serializer};

fn transcode(from: Serializer, value: &[u8]) -> Result<Vec<u8>, TranscodeError> {
    let to = if from == Serializer::Json { Serializer::MsgPack } else { Serializer::Json };
    transcode_to(from, to, value)
}

fn transcode_to(from: Serializer, to: Serializer, value: &[u8]) -> Result<Vec<u8>, TranscodeError> {
    let list = match from {
        Serializer::Json => [b"[", value, b"]"].concat(),
        Serializer::MsgPack => [b"\x91", value].concat(),
        Serializer::Cbor => [b"\x81", value].concat(),
    };
    let payload =
        OwnedPayload::checked(from, Some(&list), None).unwrap_or_else(|e| panic!("{value:02x?}: {e}"));
    let list = payload.transcode(to)?.view().args.unwrap().to_vec();
    Ok(match to {
        Serializer::Json => list[1..list.len() - 1].to_vec(),
        Serializer::MsgPack | Serializer::Cbor => list[1..].to_vec(),
    })
}

/// Pairs that are each other's translation.
#[test]
fn both_ways() {
    for (json, packed) in [
        ("null", &b"\xc0"[..]),
        ("true", b"\xc3"),
        ("false", b"\xc2"),
        ("0", b"\x00"),
        ("127", b"\x7f"),
        ("128", b"\xcc\x80"),
        ("-1", b"\xff"),
        ("-33", b"\xd0\xdf"),
        ("9007199254740993", b"\xcf\x00\x20\x00\x00\x00\x00\x00\x01"),
        ("18446744073709551615", b"\xcf\xff\xff\xff\xff\xff\xff\xff\xff"),
        ("-9223372036854775808", b"\xd3\x80\x00\x00\x00\x00\x00\x00\x00"),
        ("1.0", b"\xcb\x3f\xf0\x00\x00\x00\x00\x00\x00"),
        ("0.1", b"\xcb\x3f\xb9\x99\x99\x99\x99\x99\x9a"),
        ("-0.0", b"\xcb\x80\x00\x00\x00\x00\x00\x00\x00"),
        ("5e-324", b"\xcb\x00\x00\x00\x00\x00\x00\x00\x01"),
        ("\"\"", b"\xa0"),
        ("\"h\u{e9}\"", b"\xa3h\xc3\xa9"),
        (r#""a\"\\\n\u0001b""#, b"\xa6a\"\\\n\x01b"),
        (r#""\u0000""#, b"\xc4\x00"),
        (r#""\u0000AQI=""#, b"\xc4\x02\x01\x02"),
        ("[]", b"\x90"),
        ("[[],[1],[{}]]", b"\x93\x90\x91\x01\x91\x80"),
        (r#"{"b":1,"a":{"c":[]}}"#, b"\x82\xa1b\x01\xa1a\x81\xa1c\x90"),
        (r#"{"\u0000AQI=":"\u0000AQI="}"#, b"\x81\xa5\0AQI=\xc4\x02\x01\x02"),
        (
            "[1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1]",
            b"\xdc\x00\x10\x01\x01\x01\x01\x01\x01\x01\x01\x01\x01\x01\x01\x01\x01\x01\x01",
        ),
    ] {
        assert_eq!(transcode(Serializer::Json, json.as_bytes()).as_deref(), Ok(packed), "{json}");
        let text = transcode(Serializer::MsgPack, packed).unwrap();
        assert_eq!(String::from_utf8(text).unwrap(), json);
    }
}

#[test]
fn json_only() {
    for (json, packed) in [
        ("-0", &b"\xcb\x80\x00\x00\x00\x00\x00\x00\x00"[..]),
        ("1e2", b"\xcb\x40\x59\x00\x00\x00\x00\x00\x00"),
        ("1.50", b"\xcb\x3f\xf8\x00\x00\x00\x00\x00\x00"),
        ("18446744073709551616", b"\xcb\x43\xf0\x00\x00\x00\x00\x00\x00"),
        ("-9223372036854775809", b"\xcb\xc3\xe0\x00\x00\x00\x00\x00\x00"),
        (r#""\u00e9\/\ud83d\ude00""#, b"\xa7\xc3\xa9/\xf0\x9f\x98\x80"),
        (r#""\u0000AQI""#, b"\xc4\x02\x01\x02"),
        (" [ 1 , { \"a\" : \"b\" } ] ", b"\x92\x01\x81\xa1a\xa1b"),
    ] {
        assert_eq!(transcode(Serializer::Json, json.as_bytes()).as_deref(), Ok(packed), "{json}");
    }
    for json in [r#""\u0000""#, r#"{"k":["\u0000A"]}"#, r#""\u0000A*==""#, r#""\u0000AA AA""#] {
        let expected = if json == r#""\u0000""# { None } else { Some(TranscodeError::Base64) };
        assert_eq!(transcode(Serializer::Json, json.as_bytes()).err(), expected, "{json}");
    }
}

#[test]
fn msgpack_only() {
    for (packed, json) in [
        (&b"\xd3\x00\x00\x00\x00\x00\x00\x00\x05"[..], "5"),
        (b"\xca\x3f\x80\x00\x00", "1.0"),
        (b"\xca\x3d\xcc\xcc\xcd", "0.10000000149011612"),
        (b"\xd4\x00\x00", "null"),
        (b"\xd9\x01a", "\"a\""),
        (b"\xdc\x00\x01\x01", "[1]"),
        (b"\x83\x01\x02\xff\x03\xa1a\x04", r#"{"1":2,"-1":3,"a":4}"#),
        (b"\xa2a\0", r#""a\u0000""#),
        (b"\x81\xa1\0\x01", r#"{"\u0000":1}"#),
    ] {
        let text = transcode(Serializer::MsgPack, packed).unwrap();
        assert_eq!(String::from_utf8(text).unwrap(), json);
    }
    for (packed, error) in [
        (&b"\xcb\x7f\xf8\x00\x00\x00\x00\x00\x00"[..], TranscodeError::NotFinite),
        (b"\xcb\xff\xf0\x00\x00\x00\x00\x00\x00", TranscodeError::NotFinite),
        (b"\xca\x7f\x80\x00\x00", TranscodeError::NotFinite),
        (b"\x91\xa1\0", TranscodeError::NulString),
        (b"\xa5\0AQI=", TranscodeError::NulString),
        (b"\xd6\xff\x00\x00\x00\x00", TranscodeError::Extension(-1)),
        (b"\xd5\x00\x00\x00", TranscodeError::Extension(0)),
        (b"\x81\xc0\x01", TranscodeError::Key),
        (b"\x81\xc3\x01", TranscodeError::Key),
        (b"\x81\xca\x3f\x80\x00\x00\x01", TranscodeError::Key),
        (b"\x81\xc4\x01a\x01", TranscodeError::Key),
        (b"\x81\x90\x01", TranscodeError::NestedKey),
        (b"\x81\xd4\x00\x00\x01", TranscodeError::Key),
    ] {
        assert_eq!(transcode(Serializer::MsgPack, packed), Err(error), "{packed:02x?}");
        assert!(!error.to_string().is_empty());
    }
}

#[test]
fn depth_survives() {
    let deepest = ["[".repeat(127), "]".repeat(127)].concat();
    let packed = transcode(Serializer::Json, deepest.as_bytes()).unwrap();
    assert_eq!(transcode(Serializer::MsgPack, &packed).unwrap(), deepest.as_bytes());
    let cbor = transcode_to(Serializer::MsgPack, Serializer::Cbor, &packed).unwrap();
    assert_eq!(transcode(Serializer::Cbor, &cbor).unwrap(), deepest.as_bytes());
    let open = [vec![0x9f; 127], vec![0xff; 127]].concat();
    assert_eq!(transcode(Serializer::Cbor, &open).unwrap(), deepest.as_bytes());
}

#[test]
fn absent_elements_stay_absent() {
    for (args, kwargs) in [(None, None), (Some(&b"[]"[..]), None), (None, Some(&b"{}"[..]))] {
        let payload = OwnedPayload::checked(Serializer::Json, args, kwargs).unwrap();
        let packed = payload.transcode(Serializer::MsgPack).unwrap();
        let kwargs = kwargs.map(|_| &b"\x80"[..]);
        let expected = Payload { args: args.map(|_| &b"\x90"[..]), kwargs, ..Payload::EMPTY };
        assert_eq!(packed.view(), expected);
        assert_eq!(packed.transcode(Serializer::Json).unwrap(), payload);
    }
}

#[test]
fn payloads_from_elsewhere_are_checked() {
    for (serializer, args, kwargs) in [
        (Serializer::Json, Some(&b"[1,]"[..]), None),
        (Serializer::Json, Some(b"{}"), None),
        (Serializer::Json, Some(b""), None),
        (Serializer::Json, None, Some(&b"[]"[..])),
        (Serializer::MsgPack, Some(b"\x80"), None),
        (Serializer::MsgPack, Some(b"\x90\x90"), None),
        (Serializer::MsgPack, None, Some(b"\x81\xa1a")),
        (Serializer::Cbor, Some(b"\xa0"), None),
        (Serializer::Cbor, Some(b"\xc1\x80"), None),
        (Serializer::Cbor, Some(b"\x80\x80"), None),
        (Serializer::Cbor, Some(b"\x9f"), None),
        (Serializer::Cbor, None, Some(b"\xa1\x61a")),
    ] {
        assert!(OwnedPayload::checked(serializer, args, kwargs).is_err());
    }
}

#[test]
fn payloads_that_nobody_checked_do_no_harm() {
    for text in ["1\"rue{\"", "tru{", "[1", "}", "{\"a\"", "\"", "[\"\\u0000A\"", "1true{\"", "-", "[[[,,,]"]
    {
        let payload = Payload { args: Some(text.as_bytes()), kwargs: None, ..Payload::EMPTY };
        // Some error or some bytes, but never a panic.
        for to in Serializer::ALL {
            let _ = OwnedPayload::copy_from(Serializer::Json, &payload).transcode(to);
        }
    }
}

/// Pairs of JSON and CBOR that are each other's translation.
#[test]
fn both_ways_in_cbor() {
    for (json, cbor) in [
        ("null", &b"\xf6"[..]),
        ("true", b"\xf5"),
        ("false", b"\xf4"),
        ("0", b"\x00"),
        ("23", b"\x17"),
        ("24", b"\x18\x18"),
        ("-1", b"\x20"),
        ("-25", b"\x38\x18"),
        ("9007199254740993", b"\x1b\x00\x20\x00\x00\x00\x00\x00\x01"),
        ("18446744073709551615", b"\x1b\xff\xff\xff\xff\xff\xff\xff\xff"),
        ("-9223372036854775808", b"\x3b\x7f\xff\xff\xff\xff\xff\xff\xff"),
        ("-9223372036854775809", b"\x3b\x80\x00\x00\x00\x00\x00\x00\x00"),
        ("-18446744073709551616", b"\x3b\xff\xff\xff\xff\xff\xff\xff\xff"),
        ("1.0", b"\xfb\x3f\xf0\x00\x00\x00\x00\x00\x00"),
        ("-0.0", b"\xfb\x80\x00\x00\x00\x00\x00\x00\x00"),
        ("\"h\u{e9}\"", b"\x63h\xc3\xa9"),
        (r#""\u0000""#, b"\x40"),
        (r#""\u0000AQI=""#, b"\x42\x01\x02"),
        ("[[],[1],[{}]]", b"\x83\x80\x81\x01\x81\xa0"),
        (r#"{"b":1,"a":{"c":[]}}"#, b"\xa2\x61b\x01\x61a\xa1\x61c\x80"),
        (r#"{"\u0000AQI=":"\u0000AQI="}"#, b"\xa1\x65\0AQI=\x42\x01\x02"),
    ] {
        let there = transcode_to(Serializer::Json, Serializer::Cbor, json.as_bytes());
        assert_eq!(there.as_deref(), Ok(cbor), "{json}");
        assert_eq!(String::from_utf8(transcode(Serializer::Cbor, cbor).unwrap()).unwrap(), json);
    }
    let huge = transcode_to(Serializer::Json, Serializer::Cbor, b"-18446744073709551617").unwrap();
    assert_eq!(huge, b"\xfb\xc3\xf0\x00\x00\x00\x00\x00\x00");
}

/// Pairs of MessagePack and CBOR that are each other's translation, most of which JSON has no word for.
#[test]
fn both_ways_between_binary_serializers() {
    for (packed, cbor) in [
        (&b"\xc0"[..], &b"\xf6"[..]),
        (b"\xff", b"\x20"),
        (b"\xd3\x80\x00\x00\x00\x00\x00\x00\x00", b"\x3b\x7f\xff\xff\xff\xff\xff\xff\xff"),
        (b"\xcb\x7f\xf8\x00\x00\x00\x00\x00\x00", b"\xfb\x7f\xf8\x00\x00\x00\x00\x00\x00"),
        (b"\xcb\xff\xf0\x00\x00\x00\x00\x00\x00", b"\xfb\xff\xf0\x00\x00\x00\x00\x00\x00"),
        (b"\xa5\0AQI=", b"\x65\0AQI="),
        (b"\xc4\x02\x01\x02", b"\x42\x01\x02"),
        (b"\x82\x01\x02\xff\x03", b"\xa2\x01\x02\x20\x03"),
        (b"\x82\xc0\x01\xc3\xa1a", b"\xa2\xf6\x01\xf5\x61a"),
        (b"\x81\xc4\x01a\x90", b"\xa1\x41a\x80"),
    ] {
        assert_eq!(transcode_to(Serializer::MsgPack, Serializer::Cbor, packed).as_deref(), Ok(cbor));
        assert_eq!(transcode_to(Serializer::Cbor, Serializer::MsgPack, cbor).as_deref(), Ok(packed));
    }
}

#[test]
fn cbor_only() {
    for (cbor, json, packed) in [
        (&b"\xf7"[..], "null", &b"\xc0"[..]),
        (b"\x19\x00\x05", "5", b"\x05"),
        (b"\xf9\x3e\x00", "1.5", b"\xcb\x3f\xf8\x00\x00\x00\x00\x00\x00"),
        (b"\xfa\x3f\xc0\x00\x00", "1.5", b"\xcb\x3f\xf8\x00\x00\x00\x00\x00\x00"),
        (b"\xd8\x40\x42\x01\x02", r#""\u0000AQI=""#, b"\xc4\x02\x01\x02"),
        (b"\x5f\x41\x01\x40\x41\x02\xff", r#""\u0000AQI=""#, b"\xc4\x02\x01\x02"),
        (b"\x7f\xff", "\"\"", b"\xa0"),
        (b"\x7f\x61h\x62\xc3\xa9\xff", "\"h\u{e9}\"", b"\xa3h\xc3\xa9"),
        (b"\x9f\xff", "[]", b"\x90"),
        (b"\xbf\xff", "{}", b"\x80"),
        (b"\x9f\x01\x9f\x02\x03\xff\xbf\xff\xff", "[1,[2,3],{}]", b"\x93\x01\x92\x02\x03\x80"),
        // Some side by side, within lists that have a length.
        (
            b"\x83\x9f\x01\xff\x81\x9f\xff\x9f\x02\x03\xff",
            "[[1],[[]],[2,3]]",
            b"\x93\x91\x01\x91\x90\x92\x02\x03",
        ),
        (
            b"\xbf\x7f\x61a\x61b\xff\xbf\x61c\x9f\x01\xff\xff\x01\x02\xff",
            r#"{"ab":{"c":[1]},"1":2}"#,
            b"\x82\xa2ab\x81\xa1c\x91\x01\x01\x02",
        ),
    ] {
        assert_eq!(String::from_utf8(transcode(Serializer::Cbor, cbor).unwrap()).unwrap(), json);
        let to_msgpack = transcode_to(Serializer::Cbor, Serializer::MsgPack, cbor);
        assert_eq!(to_msgpack.as_deref(), Ok(packed), "{json}");
    }
    let any = [Serializer::Json, Serializer::MsgPack];
    let (json, msgpack) = any.split_at(1);
    for (cbor, receivers, error) in [
        (&b"\xf9\x7e\x00"[..], json, TranscodeError::NotFinite),
        (b"\xfa\x7f\x80\x00\x00", json, TranscodeError::NotFinite),
        (b"\x65\0AQI=", json, TranscodeError::NulString),
        (b"\x7f\x61\0\x61A\xff", json, TranscodeError::NulString),
        (b"\xa1\xf6\x01", json, TranscodeError::Key),
        (b"\xa1\x41a\x01", json, TranscodeError::Key),
        (b"\x3b\x80\x00\x00\x00\x00\x00\x00\x00", msgpack, TranscodeError::Integer),
        (b"\xa1\x80\x01", &any, TranscodeError::NestedKey),
        (b"\xa1\xbf\xff\x01", &any, TranscodeError::NestedKey),
        (b"\xc1\x00", &any, TranscodeError::Tag(1)),
        (b"\xc2\x49\x01\x00\x00\x00\x00\x00\x00\x00\x00", &any, TranscodeError::Tag(2)),
        (b"\xd8\x40\x80", &any, TranscodeError::Tag(64)),
        (b"\x9f\xc1\x9f\x01\xff\xff", &any, TranscodeError::Tag(1)),
        (b"\xe0", &any, TranscodeError::Simple(0)),
        (b"\xf8\xff", &any, TranscodeError::Simple(255)),
    ] {
        for &to in receivers {
            assert_eq!(transcode_to(Serializer::Cbor, to, cbor), Err(error), "{cbor:02x?} to {to}");
            assert!(!error.to_string().is_empty());
        }
    }
    for (packed, error) in [
        (&b"\xd6\xff\x00\x00\x00\x00"[..], TranscodeError::Extension(-1)),
        (b"\x81\x90\x01", TranscodeError::NestedKey),
    ] {
        assert_eq!(transcode_to(Serializer::MsgPack, Serializer::Cbor, packed), Err(error));
    }
    assert_eq!(transcode_to(Serializer::MsgPack, Serializer::Cbor, b"\xd4\x00\x00").unwrap(), b"\xf6");
}
