//! Publishing by HTTP/1.1: requests one after the other on a connection that stays open, and their answers.

use std::collections::BTreeMap;

use bytes::BytesMut;

use super::{Template, Values};

/// The head of an answer at most.
const HEAD_BYTES_MAX: usize = 16 * 1024;

/// A request that publishes.
#[derive(Clone, Debug)]
pub struct Post {
    /// `http://host:port`, without the path.
    pub origin: String,
    path: Template,
    body: Template,
    /// All fields but the length, as they are written.
    fields: Vec<u8>,
}

impl Post {
    /// To an `http://` address; its path may have places in it.
    pub fn new(url: &str, body: Template, headers: &BTreeMap<String, String>) -> Result<Self, String> {
        let rest = url
            .strip_prefix("http://")
            .ok_or_else(|| format!("publish.post = '{url}' is no http:// address"))?;
        let (host, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
        let is_bad = |text: &str| text.bytes().any(|byte| byte < b' ' || byte == 0x7f);
        if host.is_empty() || is_bad(url) || path.contains(' ') {
            return Err(format!("publish.post = '{url}' is no usable address"));
        }
        let mut fields = format!("Host: {host}\r\n");
        for (name, value) in headers {
            if is_bad(name) || is_bad(value) || name.contains([':', ' ']) {
                return Err(format!("publish.headers: '{name}' cannot be sent"));
            }
            fields.push_str(&format!("{name}: {value}\r\n"));
        }
        let path = Template::parse(if path.is_empty() { "/" } else { path });
        Ok(Self { origin: format!("http://{host}"), path, body, fields: fields.into_bytes() })
    }

    /// Appends a request.
    pub fn write(&self, out: &mut BytesMut, values: Values<'_>, scratch: &mut BytesMut) {
        scratch.clear();
        self.body.write(scratch, values);
        out.extend_from_slice(b"POST ");
        self.path.write(out, values);
        out.extend_from_slice(b" HTTP/1.1\r\n");
        out.extend_from_slice(&self.fields);
        out.extend_from_slice(format!("Content-Length: {}\r\n\r\n", scratch.len()).as_bytes());
        out.extend_from_slice(scratch);
    }
}

/// Where in the answers a connection is.
#[derive(Debug, Default)]
pub struct Answers {
    head: Vec<u8>,
    body: Body,
    /// The server ends the connection after the present answer.
    is_last: bool,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Body {
    /// The next thing is a head.
    #[default]
    None,
    /// So many bytes to come.
    Length(u64),
    /// A line with a chunk's length.
    ChunkLine,
    /// Bytes of a chunk and its line end.
    Chunk(u64),
    /// Lines up to an empty one.
    Trailer,
}

impl Answers {
    /// Takes bytes of the server and tells `seen` the status of each answer whose head is whole.
    ///
    /// # Errors
    ///
    /// Words: what came is no HTTP, or the server has ended the connection by announcing it.
    pub fn receive(&mut self, mut input: &[u8], mut seen: impl FnMut(u16)) -> Result<(), String> {
        while !input.is_empty() {
            match self.body {
                Body::Length(left) | Body::Chunk(left) => {
                    let take = left.min(input.len() as u64);
                    input = &input[take as usize..];
                    self.body = match (self.body, left - take) {
                        (Body::Length(_), 0) => Body::None,
                        (Body::Length(_), left) => Body::Length(left),
                        (_, 0) => Body::ChunkLine,
                        (_, left) => Body::Chunk(left),
                    };
                }
                _ => {
                    self.head.push(input[0]);
                    input = &input[1..];
                    self.handle_head(&mut seen)?;
                }
            }
            if self.body == Body::None && self.is_last && self.head.is_empty() {
                return Err(
                    "the server ends the HTTP connection after so many requests: raise its limit (nginx: \
                            keepalive_requests)"
                        .to_owned(),
                );
            }
        }
        Ok(())
    }

    /// One more byte of a head, of a chunk's line or of a trailer.
    fn handle_head(&mut self, seen: &mut impl FnMut(u16)) -> Result<(), String> {
        if self.head.len() > HEAD_BYTES_MAX {
            return Err("the server's HTTP answer has no end of its head".to_owned());
        }
        match self.body {
            Body::None if self.head.ends_with(b"\r\n\r\n") => {
                let head = std::mem::take(&mut self.head);
                let (status, body, is_last) = read_head(&head).ok_or_else(|| {
                    let words: String = String::from_utf8_lossy(&head).chars().take(100).collect();
                    format!("the server's answer to a POST is no HTTP/1.1: {words}")
                })?;
                // An interim answer is none.
                if status >= 200 {
                    seen(status);
                }
                (self.body, self.is_last) = (body, is_last);
            }
            Body::ChunkLine if self.head.ends_with(b"\r\n") => {
                let line = String::from_utf8_lossy(&std::mem::take(&mut self.head)).into_owned();
                let digits = line.split([';', '\r']).next().unwrap_or("").trim();
                let length = u64::from_str_radix(digits, 16)
                    .map_err(|_| format!("a chunk of the server's answer has the length '{digits}'"))?;
                // The line end behind the chunk's bytes is theirs.
                self.body = if length == 0 { Body::Trailer } else { Body::Chunk(length.saturating_add(2)) };
            }
            Body::Trailer if self.head.ends_with(b"\r\n") => {
                let was_empty = self.head.len() == 2;
                self.head.clear();
                if was_empty {
                    self.body = Body::None;
                }
            }
            _ => {}
        }
        Ok(())
    }
}

/// Status, form of the body, and whether the connection ends.
fn read_head(head: &[u8]) -> Option<(u16, Body, bool)> {
    let text = std::str::from_utf8(head).ok()?;
    let mut lines = text.split("\r\n");
    let mut first = lines.next()?.splitn(3, ' ');
    let version = first.next().filter(|version| version.starts_with("HTTP/1."))?;
    let status: u16 = first.next()?.parse().ok()?;
    let (mut length, mut is_chunked, mut is_last) = (0, false, version == "HTTP/1.0");
    for (name, value) in lines.filter_map(|line| line.split_once(':')) {
        match name.to_ascii_lowercase().as_str() {
            "content-length" => length = value.trim().parse().ok()?,
            "transfer-encoding" => is_chunked = value.to_ascii_lowercase().contains("chunked"),
            "connection" if value.to_ascii_lowercase().contains("close") => is_last = true,
            _ => {}
        }
    }
    let body = match (status, is_chunked, length) {
        // RFC 9112, 6.3: these have no body, whatever the fields say.
        (100..=199 | 204 | 304, ..) => Body::None,
        (_, true, _) => Body::ChunkLine,
        (_, _, 0) => Body::None,
        (_, _, length) => Body::Length(length),
    };
    Some((status, body, is_last))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_counted_in_any_chunking() {
        let stream = b"HTTP/1.1 201 Created\r\nContent-Length: 5\r\n\r\nhelloHTTP/1.1 202 Accepted\r\n\r\n\
            HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3;a=b\r\nabc\r\n1\r\nx\r\n0\r\nT: 1\r\n\r\n\
            HTTP/1.1 204 No\r\ncontent-length: 7\r\n\r\nHTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n";
        for chunk in 1..stream.len() {
            let (mut answers, mut seen) = (Answers::default(), Vec::new());
            for part in stream.chunks(chunk) {
                answers.receive(part, |status| seen.push(status)).unwrap();
            }
            assert_eq!(seen, [201, 202, 200, 204, 503], "{chunk}");
        }
    }

    #[test]
    fn the_end_of_the_connection_and_nonsense_are_said() {
        let receive = |bytes: &[u8]| Answers::default().receive(bytes, |_| {});
        let words =
            receive(b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 1\r\n\r\nx").unwrap_err();
        assert!(words.contains("keepalive_requests"), "{words}");
        assert!(receive(b"SSH-2.0\r\n\r\n").unwrap_err().contains("no HTTP"), "no HTTP");
    }

    #[test]
    fn a_request_is_whole() {
        let post = Post::new(
            "http://h:1/pub?id={topic}",
            Template::parse("<{payload}>"),
            &BTreeMap::from([("A".to_owned(), "b".to_owned())]),
        )
        .unwrap();
        let (mut out, mut scratch) = (BytesMut::new(), BytesMut::new());
        post.write(&mut out, Values { topic: "t", payload: b"fw", ..Values::default() }, &mut scratch);
        let text = String::from_utf8_lossy(&out).into_owned();
        assert_eq!(text, "POST /pub?id=t HTTP/1.1\r\nHost: h:1\r\nA: b\r\nContent-Length: 4\r\n\r\n<fw>");
    }
}
