//! A small HTTP/1.1 client that keeps its connection, so that a test sees each response as it is.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};

use serde_json::Value;

use super::dial;

/// One connection.
pub struct Http {
    stream: TcpStream,
    reader: BufReader<TcpStream>,
    /// Sent with each request: lines with their ends.
    pub fields: String,
}

/// One response.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub fields: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Http {
    /// Connects.
    pub fn connect(address: SocketAddr) -> Self {
        let stream = dial(address);
        let reader = BufReader::new(stream.try_clone().expect("a descriptor is left"));
        Self { stream, reader, fields: format!("Host: {address}\r\n") }
    }

    /// With one more field in each request.
    pub fn with(mut self, field: &str) -> Self {
        self.fields.push_str(field);
        self.fields.push_str("\r\n");
        self
    }

    /// Sends bytes as they are.
    pub fn send(&mut self, bytes: &[u8]) {
        // A server that refuses early may close before the last byte has left.
        let _ = self.stream.write_all(bytes);
    }

    /// A request without a body.
    pub fn ask(&mut self, method: &str, target: &str) -> Answer {
        self.send(format!("{method} {target} HTTP/1.1\r\n{}\r\n", self.fields).as_bytes());
        self.answer(method)
    }

    /// The head of a POST with these fields, whose body comes later. When this returns, the head was read.
    pub fn begin(&mut self, target: &str, fields: &str) {
        let own = &self.fields;
        let head = format!("POST {target} HTTP/1.1\r\n{own}{fields}\r\nExpect: 100-continue\r\n\r\n");
        self.send(head.as_bytes());
        assert_eq!(self.answer("POST").status, 100);
    }

    /// A request with a body of some type.
    pub fn post_as(&mut self, target: &str, media_type: &str, body: &str) -> Answer {
        let head = format!(
            "POST {target} HTTP/1.1\r\n{}Content-Type: {media_type}\r\nContent-Length: {}\r\n\r\n",
            self.fields,
            body.len()
        );
        self.send(format!("{head}{body}").as_bytes());
        self.answer("POST")
    }

    /// A request with JSON.
    pub fn post(&mut self, target: &str, body: &Value) -> Answer {
        self.post_as(target, "application/json", &body.to_string())
    }

    /// The next response.
    pub fn answer(&mut self, method: &str) -> Answer {
        let status_line = self.line();
        let status = super::status(&status_line);
        assert_ne!(status, 0, "no status line: {status_line:?}");
        let mut fields = Vec::new();
        loop {
            let line = self.line();
            let Some((name, value)) = line.split_once(": ") else { break };
            fields.push((name.to_ascii_lowercase(), value.to_owned()));
        }
        let mut answer = Answer { status, fields, body: Vec::new() };
        if method == "HEAD" || status == 100 {
        } else if answer.field("transfer-encoding") == Some("chunked") {
            while let Some(chunk) = self.chunk() {
                answer.body.extend(chunk);
            }
        } else {
            let length = answer.field("content-length").map_or(0, |text| text.parse().expect("a number"));
            answer.body.resize(length, 0);
            self.reader.read_exact(&mut answer.body).expect("as long as it says");
        }
        answer
    }

    /// The next chunk of a response that was begun; none at the end.
    pub fn chunk(&mut self) -> Option<Vec<u8>> {
        let size = usize::from_str_radix(&self.line(), 16).expect("a size");
        let mut chunk = vec![0; size];
        self.reader.read_exact(&mut chunk).expect("as long as it says");
        assert_eq!(self.line(), "");
        (size > 0).then_some(chunk)
    }

    /// The next line of a head, without its end.
    pub fn line(&mut self) -> String {
        let mut line = String::new();
        self.reader.read_line(&mut line).expect("the router answers");
        line.trim_end_matches("\r\n").to_owned()
    }

    /// Whether the server ends the connection here.
    pub fn has_ended(&mut self) -> bool {
        !matches!(self.reader.read(&mut [0]), Ok(1))
    }
}

impl Answer {
    /// A field of the head.
    pub fn field(&self, name: &str) -> Option<&str> {
        self.fields.iter().find(|(other, _)| other == name).map(|(_, value)| value.as_str())
    }

    /// The body, which is JSON.
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// The body, which has JSON in each line.
    pub fn lines(&self) -> Vec<Value> {
        let lines = self.body.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
        lines.map(|line| serde_json::from_slice(line).expect("JSON")).collect()
    }

    /// Status, code and field of an error.
    pub fn error(&self) -> (u16, String, Option<String>) {
        let body = self.json();
        let text = |name: &str| body["error"][name].as_str().map(str::to_owned);
        assert!(text("message").is_some_and(|words| words.len() > 10), "{body}");
        (self.status, text("code").expect("a code"), text("field"))
    }
}
