//! Answers and events, appended to a buffer.

use bytes::BytesMut;

use super::ErrorCode;
use crate::json;
use crate::payload::write_value;
use crate::wamp2::Payload;

/// The answer to a request that is done.
pub fn encode_done(out: &mut BytesMut) {
    out.extend_from_slice(br#"{"result":true}"#);
}

/// The answer to one that is not.
pub fn encode_error(code: ErrorCode, out: &mut BytesMut) {
    out.extend_from_slice(br#"{"code":"#);
    json::write_u64(out, code.number().into());
    out.extend_from_slice(br#","msg":""#);
    out.extend_from_slice(code.words().as_bytes());
    out.extend_from_slice(b"\"}");
}

/// An event of the channel that its receivers call `name`. The payload is JSON that was validated.
///
/// One argument and no keywords is the data itself, in the publisher's own bytes; no argument at all is `null`; whatever
/// else there may be is `{"args":[…],"kwargs":{…}}`.
pub fn encode_event(name: &str, payload: &Payload<'_>, out: &mut BytesMut) {
    out.extend_from_slice(br#"{"event":"#);
    json::write_string(out, name);
    out.extend_from_slice(br#","data":"#);
    write_value(payload, out);
    out.extend_from_slice(b"}");
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(args: Option<&str>, kwargs: Option<&str>) -> String {
        let payload =
            Payload { args: args.map(str::as_bytes), kwargs: kwargs.map(str::as_bytes), ..Payload::EMPTY };
        written(|out| encode_event("@user", &payload, out))
    }

    fn written(write: impl FnOnce(&mut BytesMut)) -> String {
        let mut out = BytesMut::new();
        write(&mut out);
        String::from_utf8(out.to_vec()).expect("JSON is text")
    }

    #[test]
    fn answers_are_the_articles() {
        assert_eq!(written(encode_done), r#"{"result":true}"#);
        assert_eq!(written(|out| encode_error(ErrorCode::NotAuth, out)), r#"{"code":1,"msg":"Not Auth"}"#);
    }

    #[test]
    fn one_argument_is_the_data_byte_for_byte() {
        let data = r#"{"uid":1001,"msg":"Hello,World!"}"#;
        let expected = format!(r#"{{"event":"@user","data":{data}}}"#);
        assert_eq!(event(Some(&format!("[{data}]")), None), expected);
        assert_eq!(event(Some(&format!(" [ {data}\n]")), Some(" { } ")), expected);
        for data in ["9007199254740993", "18446744073709551615", "1.50", r#""\u0041""#, "[1, [2]]", "null"] {
            let expected = format!(r#"{{"event":"@user","data":{data}}}"#);
            assert_eq!(event(Some(&format!("[{data}]")), Some("{}")), expected);
        }
    }

    #[test]
    fn anything_else_says_what_it_is() {
        for (args, kwargs, data) in [
            (None, None, "null"),
            (Some("[]"), None, "null"),
            (Some("[ ]"), Some("{}"), "null"),
            (Some("[1,2]"), None, r#"{"args":[1,2],"kwargs":{}}"#),
            (Some("[1]"), Some(r#"{"a":1}"#), r#"{"args":[1],"kwargs":{"a":1}}"#),
            (None, Some(r#"{"a":1}"#), r#"{"args":[],"kwargs":{"a":1}}"#),
        ] {
            assert_eq!(event(args, kwargs), format!(r#"{{"event":"@user","data":{data}}}"#));
        }
    }
}
