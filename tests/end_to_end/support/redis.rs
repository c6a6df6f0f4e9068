//! A real `redis-server`, and a client that speaks RESP as it is on the wire.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};

use super::{PATIENCE, Router, eventually};

/// A `redis-server` on a port of this machine. Dropping it kills it.
pub struct Redis {
    process: Option<Child>,
    pub port: u16,
    options: Vec<String>,
}

impl Redis {
    /// Starts one on a port that was free just now, with further options.
    pub fn start(options: &[&str]) -> Self {
        let mut redis = Self::absent(options);
        redis.start_again();
        redis
    }

    /// Only a port, for now.
    pub fn absent(options: &[&str]) -> Self {
        let port = TcpListener::bind("127.0.0.1:0")
            .and_then(|listener| listener.local_addr())
            .expect("a port")
            .port();
        Self { process: None, port, options: options.iter().map(|option| (*option).to_owned()).collect() }
    }

    /// Starts it at its port.
    pub fn start_again(&mut self) {
        let port = self.port.to_string();
        let mut command = Command::new("redis-server");
        command.args(["--port", &port, "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]);
        command.args(&self.options).stdout(Stdio::null()).stderr(Stdio::null());
        self.process = Some(command.spawn().expect("redis-server is installed: apt install redis-server"));
        eventually("a Redis that answers", || TcpStream::connect(("127.0.0.1", self.port)).is_ok());
    }

    /// Starts one that also speaks TLS, at the port that is returned and replaces `TLS` in the options. `None`: it cannot.
    pub fn start_with_tls(options: &[&str]) -> Option<(Self, u16)> {
        let port = Self::absent(&[]).port;
        let mut redis = Self::absent(options);
        redis
            .options
            .iter_mut()
            .filter(|option| *option == "TLS")
            .for_each(|option| *option = port.to_string());
        redis.start_again();
        Some((redis, port)).filter(|_| TcpStream::connect(("127.0.0.1", port)).is_ok())
    }

    pub fn address(&self) -> SocketAddr {
        ([127, 0, 0, 1], self.port).into()
    }

    /// Kills it without a word.
    pub fn kill(&mut self) {
        if let Some(mut process) = self.process.take() {
            _ = process.kill();
            _ = process.wait();
        }
    }

    pub fn client(&self) -> Resp {
        Resp::connect(self.address())
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        self.kill();
    }
}

/// A value of RESP, as far as these tests meet it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    Simple(String),
    Error(String),
    Integer(i64),
    Bulk(Vec<u8>),
    Null,
    Array(Vec<Value>),
    /// Of RESP3.
    Push(Vec<Value>),
    /// Of RESP3: keys and values in turns.
    Map(Vec<Value>),
}

/// The words as a value.
pub fn bulk(text: &str) -> Value {
    Value::Bulk(text.as_bytes().to_vec())
}

/// One connection.
pub struct Resp {
    reader: BufReader<TcpStream>,
}

impl Resp {
    /// Where the Redis port of a router is.
    pub fn port_of(router: &Router) -> SocketAddr {
        eventually("the line of the Redis port", || router.said().contains("redis://"));
        let said = router.said();
        let address =
            said.split("redis://").nth(1).and_then(|rest| rest.split_whitespace().next()).expect(&said);
        address.parse().expect("an address")
    }

    pub fn connect(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).expect("it listens");
        stream.set_read_timeout(Some(PATIENCE)).expect("a valid timeout");
        Self { reader: BufReader::new(stream) }
    }

    /// `None`: nobody listens.
    pub fn try_connect(address: SocketAddr) -> Option<Self> {
        let stream = TcpStream::connect(address).ok()?;
        stream.set_read_timeout(Some(PATIENCE)).ok()?;
        Some(Self { reader: BufReader::new(stream) })
    }

    /// One line of words, and the line of an answer; `None`: the connection has ended.
    pub fn try_ask(&mut self, line: &str) -> Option<Value> {
        self.reader.get_mut().write_all(format!("{line}\r\n").as_bytes()).ok()?;
        let mut answer = String::new();
        self.reader.read_line(&mut answer).ok().filter(|_| answer.ends_with("\r\n"))?;
        match answer.trim_end().split_at(1) {
            (":", number) => Some(Value::Integer(number.parse().ok()?)),
            (_, words) => Some(Value::Error(words.to_owned())),
        }
    }

    pub fn send_bytes(&mut self, bytes: &[u8]) {
        // A server that has heard enough may have ended the connection.
        _ = self.reader.get_mut().write_all(bytes);
    }

    /// Nothing more is sent.
    pub fn end_output(&mut self) {
        self.reader.get_mut().shutdown(Shutdown::Write).expect("a socket");
    }

    /// Reads whatever is there; whether more may come.
    pub fn hears_more(&mut self) -> bool {
        matches!(self.reader.read(&mut [0; 4096]), Ok(1..))
    }

    pub fn send(&mut self, words: &[&[u8]]) {
        let mut out = format!("*{}\r\n", words.len()).into_bytes();
        for word in words {
            out.extend_from_slice(format!("${}\r\n", word.len()).as_bytes());
            out.extend_from_slice(word);
            out.extend_from_slice(b"\r\n");
        }
        self.reader.get_mut().write_all(&out).expect("sent");
    }

    /// Words between blanks; one answer.
    pub fn ask(&mut self, line: &str) -> Value {
        let words: Vec<&[u8]> = line.split(' ').map(str::as_bytes).collect();
        self.send(&words);
        self.hear()
    }

    pub fn hear(&mut self) -> Value {
        let mut line = String::new();
        self.reader.read_line(&mut line).expect("an answer in time");
        assert!(line.ends_with("\r\n"), "the connection ended: {line:?}");
        let (kind, rest) = line.trim_end().split_at(1);
        let number = || rest.parse::<i64>().expect("a number");
        let mut values = |count: i64| (0..count).map(|_| self.hear()).collect();
        match kind {
            "+" => Value::Simple(rest.to_owned()),
            "-" => Value::Error(rest.to_owned()),
            ":" => Value::Integer(number()),
            "_" => Value::Null,
            "$" if number() < 0 => Value::Null,
            "$" => {
                let mut bytes = vec![0; number() as usize + 2];
                self.reader.read_exact(&mut bytes).expect("the rest in time");
                bytes.truncate(bytes.len() - 2);
                Value::Bulk(bytes)
            }
            "*" => Value::Array(values(number())),
            ">" => Value::Push(values(number())),
            "%" => Value::Map(values(2 * number())),
            other => panic!("{other}{rest} is no value of RESP"),
        }
    }

    /// What a subscriber in version 2 hears of a channel.
    pub fn expect_message(&mut self, channel: &str, payload: &[u8]) {
        let expected = vec![bulk("message"), bulk(channel), Value::Bulk(payload.to_vec())];
        assert_eq!(self.hear(), Value::Array(expected));
    }

    /// Whether nothing has come: what is published by another connection and heard there was not heard here.
    pub fn has_nothing(&mut self) -> bool {
        self.send(&[b"PING"]);
        self.hear() == Value::Array(vec![bulk("pong"), bulk("")])
    }
}
