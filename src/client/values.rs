//! Arguments as people type and read them, JSON always, whatever is spoken with the router.

use bytes::BytesMut;
use fanwire_codec::json;
use fanwire_codec::payload::OwnedPayload;
use fanwire_codec::wamp2::{Payload, Serializer, encode_string};

use super::failure::Failure;

/// Arguments as JSON texts: a list and a dictionary.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Values {
    /// `[…]`, or nothing.
    pub args: Option<Vec<u8>>,
    /// `{…}`, or nothing.
    pub kwargs: Option<Vec<u8>>,
}

impl Values {
    /// From the command line.
    pub fn from_words(args: &[String], kw: &[String]) -> Result<Self, Failure> {
        let mut dictionary: Vec<(&str, Vec<u8>)> = Vec::new();
        for pair in kw {
            let Some((key, value)) = pair.split_once('=') else {
                return Err(Failure::Usage(format!("--kw {pair}: there is no value; write --kw name=value")));
            };
            if dictionary.iter().any(|(other, _)| *other == key) {
                return Err(Failure::Usage(format!("--kw {pair}: {key} is given twice")));
            }
            dictionary.push((key, json_of(value)));
        }
        let entries = dictionary.iter().map(|(key, value)| [&json_string(key)[..], b":", value].concat());
        Ok(Self {
            args: (!args.is_empty()).then(|| wrap(b'[', args.iter().map(|word| json_of(word)), b']')),
            kwargs: (!kw.is_empty()).then(|| wrap(b'{', entries, b'}')),
        })
    }

    /// From what a program wrote: one JSON value, or a text.
    pub fn from_output(output: &[u8]) -> Self {
        let text = String::from_utf8_lossy(output);
        let text = text.trim_ascii();
        let args = (!text.is_empty()).then(|| wrap(b'[', [json_of(text)].into_iter(), b']'));
        Self { args, kwargs: None }
    }

    /// From a message.
    pub fn from_payload(serializer: Serializer, payload: &Payload<'_>) -> Result<Self, Failure> {
        let json = OwnedPayload::copy_from(serializer, payload)
            .transcode(Serializer::Json)
            .map_err(|error| Failure::Refused(format!("the payload has no form in JSON: {error}")))?;
        let view = json.view();
        Ok(Self { args: view.args.map(one_line), kwargs: view.kwargs.map(one_line) })
    }

    /// For a message.
    pub fn to_payload(&self, serializer: Serializer) -> Result<OwnedPayload, Failure> {
        // WAMP: whoever sends keyword arguments sends a list before them, be it empty.
        let args = self.args.as_deref().or(self.kwargs.as_ref().map(|_| &b"[]"[..]));
        let json = Payload { args, kwargs: self.kwargs.as_deref(), ..Payload::EMPTY };
        OwnedPayload::copy_from(Serializer::Json, &json)
            .transcode(serializer)
            .map_err(|error| Failure::Usage(format!("the arguments have no form in {serializer}: {error}")))
    }

    /// For a person: the only argument alone, else list and dictionary.
    pub fn for_people(&self) -> String {
        let args = self.args.as_deref().filter(|args| *args != b"[]");
        let words = match (args, &self.kwargs) {
            (Some(args), None) => only_element(args).unwrap_or(args).to_vec(),
            (Some(args), Some(kwargs)) => [args, b" ", kwargs].concat(),
            (None, Some(kwargs)) => kwargs.clone(),
            (None, None) => Vec::new(),
        };
        String::from_utf8_lossy(&words).into_owned()
    }

    /// For a program: `"args":[…],"kwargs":{…}`, to be put into an object.
    pub fn members(&self) -> String {
        let args = self.args.as_deref().unwrap_or(b"[]");
        let kwargs = self.kwargs.as_deref().unwrap_or(b"{}");
        format!("\"args\":{},\"kwargs\":{}", String::from_utf8_lossy(args), String::from_utf8_lossy(kwargs))
    }
}

/// A word as JSON: as it is if it is JSON, else as a string.
fn json_of(word: &str) -> Vec<u8> {
    let trimmed = word.trim_ascii();
    if json::validate(trimmed.as_bytes(), json::DEPTH_MAX).is_ok() {
        trimmed.as_bytes().to_vec()
    } else {
        json_string(word)
    }
}

/// A string with quotes and escapes.
pub fn json_string(text: &str) -> Vec<u8> {
    let mut out = BytesMut::new();
    encode_string(Serializer::Json, text, &mut out);
    out.to_vec()
}

fn wrap(open: u8, elements: impl Iterator<Item = Vec<u8>>, close: u8) -> Vec<u8> {
    let mut out = vec![open];
    for (index, element) in elements.enumerate() {
        if index > 0 {
            out.push(b',');
        }
        out.extend(element);
    }
    out.push(close);
    out
}

/// The same JSON on one line and without characters that steer a terminal.
///
/// Line breaks stand only between tokens, and C1 controls only in strings, since the text is valid JSON.
fn one_line(json: &[u8]) -> Vec<u8> {
    let mut out = String::with_capacity(json.len());
    for character in String::from_utf8_lossy(json).chars() {
        match character {
            '\n' | '\r' | '\t' => out.push(' '),
            '\u{7f}'..='\u{9f}' => out.push_str(&format!("\\u{:04x}", u32::from(character))),
            other => out.push(other),
        }
    }
    out.into_bytes()
}

/// The element of a list that has exactly one.
fn only_element(list: &[u8]) -> Option<&[u8]> {
    let inside = list.strip_prefix(b"[")?.strip_suffix(b"]")?;
    let (mut depth, mut in_string, mut escaped) = (0_u32, false, false);
    for byte in inside {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_string => escaped = true,
            b'"' => in_string = !in_string,
            _ if in_string => {}
            b'[' | b'{' => depth += 1,
            b']' | b'}' => depth -= 1,
            b',' if depth == 0 => return None,
            _ => {}
        }
    }
    Some(inside.trim_ascii()).filter(|element| !element.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn values(args: &[&str], kw: &[&str]) -> Values {
        let owned = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();
        Values::from_words(&owned(args), &owned(kw)).expect("they make sense")
    }

    #[test]
    fn a_word_is_json_if_it_can_be() {
        let values =
            values(&["1", " true ", "hello", "{\"a\":[1,2]}", "[1,", "", "\"x\""], &["a=1", "b=x=y"]);
        assert_eq!(
            values.members(),
            r#""args":[1,true,"hello",{"a":[1,2]},"[1,","","x"],"kwargs":{"a":1,"b":"x=y"}"#
        );
    }

    #[test]
    fn keywords_need_a_value_and_one_only() {
        let words = |kw: &[&str]| {
            let kw: Vec<String> = kw.iter().map(|word| (*word).to_owned()).collect();
            Values::from_words(&[], &kw).expect_err("it makes no sense").to_string()
        };
        assert_eq!(words(&["a"]), "--kw a: there is no value; write --kw name=value");
        assert_eq!(words(&["a=1", "a=2"]), "--kw a=2: a is given twice");
    }

    #[test]
    fn people_see_one_argument_alone() {
        assert_eq!(values(&["5"], &[]).for_people(), "5");
        assert_eq!(values(&["[1,2]"], &[]).for_people(), "[1,2]");
        assert_eq!(values(&[r#"a,"b],c"#], &[]).for_people(), r#""a,\"b],c""#);
        assert_eq!(values(&["5", "6"], &[]).for_people(), "[5,6]");
        assert_eq!(values(&["5"], &["k=v"]).for_people(), r#"[5] {"k":"v"}"#);
        assert_eq!(values(&[], &["k=v"]).for_people(), r#"{"k":"v"}"#);
        assert_eq!(values(&[], &[]).for_people(), "");
    }

    #[test]
    fn what_is_received_stays_on_its_line() {
        let payload =
            Payload { args: Some("[\n\"a\u{9b}31m\\n\"\r]".as_bytes()), kwargs: None, ..Payload::EMPTY };
        let values = Values::from_payload(Serializer::Json, &payload).expect("it is JSON");
        assert_eq!(values.for_people(), "\"a\\u009b31m\\n\"");
    }

    #[test]
    fn arguments_survive_messagepack() {
        let there = values(&["1", "x", "{\"a\":[1.5,null]}"], &["k=true"]);
        let payload = there.to_payload(Serializer::MsgPack).expect("it has a form");
        let back = Values::from_payload(Serializer::MsgPack, &payload.view()).expect("it has a form");
        assert_eq!(back, there);
    }

    #[test]
    fn a_program_answers_with_json_or_text() {
        assert_eq!(Values::from_output(b"5\n").for_people(), "5");
        assert_eq!(Values::from_output(b"two words\n").for_people(), "\"two words\"");
        assert_eq!(Values::from_output(b"\n"), Values::default());
    }
}
