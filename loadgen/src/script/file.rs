//! The file of `--target`: its shape, and what is wrong with it.

use std::collections::BTreeMap;
use std::path::Path;

use serde::Deserialize;

use super::{Capture, Piece, Publish, Script, Step, Template, http};
use crate::failure::Failure;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    name: String,
    url: Option<String>,
    subprotocol: Option<String>,
    #[serde(default)]
    headers: BTreeMap<String, String>,
    #[serde(default)]
    binary: bool,
    #[serde(default)]
    connect: StepFile,
    #[serde(default)]
    subscribe: StepFile,
    publish: PublishFile,
    #[serde(default)]
    answer: Vec<AnswerFile>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct StepFile {
    #[serde(default)]
    send: Vec<String>,
    ready: Option<String>,
    capture: Option<CaptureFile>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct CaptureFile {
    after: String,
    until: String,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct PublishFile {
    send: Option<String>,
    post: Option<String>,
    body: Option<String>,
    #[serde(default)]
    headers: BTreeMap<String, String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct AnswerFile {
    to: String,
    send: String,
}

/// Reads a target's file.
pub fn read(path: &Path) -> Result<Script, Failure> {
    let name = path.display();
    let text = std::fs::read_to_string(path)
        .map_err(|error| Failure::usage(format!("--target {name}: cannot be read: {error}")))?;
    parse(&text).map_err(|words| {
        Failure::usage(format!(
            "--target {name}: {words}\n(docs/loadgen.md says what such a file may have in it)"
        ))
    })
}

fn parse(text: &str) -> Result<Script, String> {
    let file: File = toml::from_str(text).map_err(|error| error.to_string())?;
    let templates = |texts: &[String]| texts.iter().map(|text| Template::parse(text)).collect();
    let step = |key: &str, step: StepFile| -> Result<Step, String> {
        let ready = step.ready.map(|text| bytes(&format!("{key}.ready"), &text)).transpose()?;
        Ok(Step { send: templates(&step.send), ready })
    };
    let publish = publish(file.publish)?;
    let posts = matches!(publish, Publish::Post(_));
    let topic_in_url = file.url.as_deref().is_some_and(|url| url.contains("{topic}"));
    if topic_in_url && !posts {
        return Err(
            "url has a {topic}: then a publisher would be a subscriber too; publish by post".to_owned()
        );
    }
    if file.subscribe.capture.is_some() {
        return Err("capture belongs to [connect]".to_owned());
    }
    let capture = capture(&file.connect)?;
    Ok(Script {
        name: file.name,
        url: file.url,
        subprotocol: file.subprotocol.filter(|subprotocol| !subprotocol.is_empty()),
        headers: file.headers.into_iter().collect(),
        is_binary: file.binary,
        connect: step("connect", file.connect)?,
        capture,
        subscribe: step("subscribe", file.subscribe)?,
        publish,
        answers: file
            .answer
            .into_iter()
            .map(|answer| Ok((bytes("answer.to", &answer.to)?, Template::parse(&answer.send))))
            .collect::<Result<_, String>>()?,
    })
}

fn capture(connect: &StepFile) -> Result<Option<Capture>, String> {
    let Some(CaptureFile { after, until }) = &connect.capture else { return Ok(None) };
    if connect.ready.is_none() {
        return Err("connect.capture needs a connect.ready: the message that it is in".to_owned());
    }
    if until.is_empty() {
        return Err("connect.capture.until must not be empty".to_owned());
    }
    let (after, until) = (bytes("connect.capture.after", after)?, bytes("connect.capture.until", until)?);
    Ok(Some(Capture { after, until }))
}

/// What is compared with bytes of the server; it may have bytes in hexadecimal in it, but no other places.
fn bytes(key: &str, text: &str) -> Result<Vec<u8>, String> {
    let template = Template::parse(text);
    template.plain().map(<[u8]>::to_vec).ok_or_else(|| format!("{key} can have no places in it"))
}

fn publish(file: PublishFile) -> Result<Publish, String> {
    let with_payload = |key: &str, text: &str| {
        let template = Template::parse(text);
        match template.has(&Piece::Payload) {
            true => Ok(template),
            false => {
                Err(format!("publish.{key} has no {{payload}}: nothing of what is sent could be recognised"))
            }
        }
    };
    match (file.send, file.post) {
        (Some(send), None) if file.body.is_none() && file.headers.is_empty() => {
            Ok(Publish::Frame(with_payload("send", &send)?))
        }
        (Some(_), None) => Err("publish.body and publish.headers belong to publish.post".to_owned()),
        (None, Some(post)) => {
            let body = with_payload("body", file.body.as_deref().unwrap_or("{payload}"))?;
            Ok(Publish::Post(http::Post::new(&post, body, &file.headers)?))
        }
        _ => Err("publish needs either send (a frame) or post (an http:// address)".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_files_that_come_with_it_are_right() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("targets");
        let mut count = 0;
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.extension().is_some_and(|extension| extension == "toml") {
                read(&path).unwrap();
                count += 1;
            }
        }
        assert!(count >= 3, "{count}");
    }

    #[test]
    fn what_is_wrong_is_said() {
        for (text, words) in [
            ("name = 'x'", "missing field `publish`"),
            ("name = 'x'\n[publish]\nsend = 'a'", "no {payload}"),
            ("name = 'x'\n[publish]", "either send"),
            ("name = 'x'\nbogus = 1\n[publish]\nsend = '{payload}'", "unknown field `bogus`"),
            ("name = 'x'\n[publish]\npost = 'ftp://x'", "http://"),
            ("name = 'x'\n[connect]\nready = '{n}'\n[publish]\nsend = '{payload}'", "no places"),
            (
                "name = 'x'\n[connect]\ncapture = { after = 'a', until = 'b' }\n[publish]\nsend = '{payload}'",
                "needs a connect.ready",
            ),
            ("name = 'x'\nurl = 'ws://x/{topic}'\n[publish]\nsend = '{payload}'", "publish by post"),
        ] {
            let error = parse(text).unwrap_err();
            assert!(error.contains(words), "{text}: {error}");
        }
    }
}
