//! One HTTP/1.1 connection: heads by the strict parser that the shards use too, bodies whole or in pieces, responses.
//!
//! A connection comes from a shard with the bytes that were read there. Two parsers of one connection would disagree about
//! something, which is what request smuggling lives on; hence the codec's, and no other.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use fanwire_codec::http::{
    self, Body, ChunkedBody, HeadLimits, HeadScanner, HttpError, RequestHead, Version, reason_phrase,
};
use tokio::net::{TcpStream, UnixStream};
use tokio::time::{timeout, timeout_at};

use super::error::{ApiError, Code};

/// How long a peer may take.
#[derive(Clone, Copy, Debug)]
pub struct Times {
    /// From the first byte of a head to its last.
    pub head: Duration,
    /// For a whole body; in a stream, from one piece to the next. For the peer to take a response, from one piece to the next.
    pub body: Duration,
    /// From a response to the next request.
    pub idle: Duration,
}

/// The peer has gone, or takes too long to read. There is nobody to be told.
#[derive(Debug)]
pub struct Gone;

impl From<io::Error> for Gone {
    fn from(_: io::Error) -> Self {
        Self
    }
}

/// Why a request was not answered by its handler.
#[derive(Debug)]
pub enum Failure {
    /// To be told to the peer.
    Refused(ApiError),
    /// Nobody is there.
    Gone(Gone),
}

impl From<ApiError> for Failure {
    fn from(error: ApiError) -> Self {
        Self::Refused(error)
    }
}

impl From<Gone> for Failure {
    fn from(gone: Gone) -> Self {
        Self::Gone(gone)
    }
}

/// One connection.
#[derive(Debug)]
pub struct Connection {
    socket: Socket,
    /// Came and was not looked at: of this request's body, then of the next request.
    input: BytesMut,
    output: BytesMut,
    body: BodyLeft,
    /// The peer waits for `100 Continue` before it sends the body.
    expects_continue: bool,
    times: Times,
}

/// What a connection has done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exchanged {
    /// Some of its output went out.
    Sent,
    /// There is more input.
    Received,
    /// The peer has ended its side.
    Ended,
}

/// What of the body has not been given to the handler.
#[derive(Clone, Copy, Debug)]
enum BodyLeft {
    Nothing,
    Length(u64),
    Chunked(ChunkedBody),
}

impl Connection {
    /// Takes over a connection of which `read` has arrived.
    pub fn new(fd: OwnedFd, read: &[u8], times: Times) -> io::Result<Self> {
        Ok(Self {
            socket: Socket::new(fd)?,
            input: BytesMut::from(read),
            output: BytesMut::new(),
            body: BodyLeft::Nothing,
            expects_continue: false,
            times,
        })
    }

    /// The next head, with its empty line. `None`: the peer has ended the connection, or `ending` has come, between two
    /// requests.
    pub async fn head(
        &mut self,
        limits: &HeadLimits,
        ending: impl Future<Output = ()>,
    ) -> Result<Option<Bytes>, Failure> {
        if self.input.is_empty() {
            // An idle connection holds no buffers.
            (self.input, self.output) = (BytesMut::new(), BytesMut::new());
            let idle = self.times.idle;
            let has_begun = tokio::select! {
                biased;
                begun = timeout(idle, self.receive(RECEIVE_HEAD_BYTES)) => matches!(begun, Ok(Ok(true))),
                () = ending => false,
            };
            if !has_begun {
                return Ok(None);
            }
        }
        let deadline = tokio::time::Instant::now() + self.times.head;
        let mut scanner = HeadScanner::new();
        loop {
            let end =
                scanner.find_end(&self.input, limits).map_err(|error| Failure::Refused(error.into()))?;
            if let Some(end) = end {
                return Ok(Some(self.input.split_to(end).freeze()));
            }
            match timeout_at(deadline, self.receive(RECEIVE_HEAD_BYTES)).await {
                Ok(Ok(true)) => {}
                Ok(_) => return Err(Gone.into()),
                Err(_) => {
                    let words = format!("the request head was not complete within {:?}", self.times.head);
                    return Err(ApiError::new(Code::RequestTimeout, words).into());
                }
            }
        }
    }

    /// Notes what follows this head.
    pub fn begin_body(&mut self, head: &RequestHead<'_>) -> Result<(), ApiError> {
        self.body = match head.body() {
            Body::None => BodyLeft::Nothing,
            Body::Length(bytes) => BodyLeft::Length(bytes),
            Body::Chunked => BodyLeft::Chunked(ChunkedBody::default()),
        };
        let expects = head.headers().unique("expect")?;
        if let Some(other) = expects.filter(|expected| !expected.eq_ignore_ascii_case("100-continue")) {
            let words = format!("Expect: {other:?} is not known here; leave it out, or send 100-continue");
            return Err(ApiError::new(Code::ExpectationFailed, words));
        }
        self.expects_continue = expects.is_some() && head.version() == Version::Http11;
        Ok(())
    }

    /// The whole body, of at most so many bytes.
    pub async fn whole_body(&mut self, bytes_max: usize) -> Result<Bytes, Failure> {
        let too_large = || {
            let words = format!(
                "the body is over {bytes_max} bytes (http_api.body); send less at once, or a stream of lines"
            );
            ApiError::new(Code::TooLarge, words)
        };
        if let BodyLeft::Length(bytes) = self.body {
            if bytes > bytes_max as u64 {
                return Err(too_large().into());
            }
            let bytes = bytes as usize;
            if self.input.len() >= bytes {
                self.body = BodyLeft::Nothing;
                return Ok(self.input.split_to(bytes).freeze());
            }
        }
        let deadline = tokio::time::Instant::now() + self.times.body;
        let mut body = BytesMut::new();
        loop {
            match timeout_at(deadline, self.body_piece(&mut body, bytes_max + 1)).await {
                Ok(Ok(_)) if body.len() > bytes_max => return Err(too_large().into()),
                Ok(Ok(true)) => {}
                Ok(Ok(false)) => return Ok(body.freeze()),
                Ok(Err(failure)) => return Err(failure),
                Err(_) => {
                    let words = format!(
                        "the body was not complete within {:?} (limits.message_time)",
                        self.times.body
                    );
                    return Err(ApiError::new(Code::RequestTimeout, words).into());
                }
            }
        }
    }

    /// Appends what comes of the body until `out` holds `bytes_max`. False: that was the last of it. Waits for bytes only if
    /// there are none. May be dropped while it waits: nothing is lost.
    pub async fn body_piece(&mut self, out: &mut BytesMut, bytes_max: usize) -> Result<bool, Failure> {
        if self.input.is_empty() && !matches!(self.body, BodyLeft::Nothing) {
            self.continue_if_expected().await?;
            if !self.receive(RECEIVE_BODY_BYTES).await? {
                return Err(Gone.into());
            }
        }
        self.take_body(out, bytes_max).map_err(|error| Failure::Refused(error.into()))
    }

    fn take_body(&mut self, out: &mut BytesMut, bytes_max: usize) -> Result<bool, HttpError> {
        let room = bytes_max.saturating_sub(out.len());
        match &mut self.body {
            BodyLeft::Nothing => {}
            BodyLeft::Length(left) => {
                let take = self.input.len().min(room).min(usize::try_from(*left).unwrap_or(usize::MAX));
                out.extend_from_slice(&self.input[..take]);
                self.input.advance(take);
                *left -= take as u64;
                if *left == 0 {
                    self.body = BodyLeft::Nothing;
                }
            }
            BodyLeft::Chunked(chunked) => {
                let used = chunked.read(&self.input, out, bytes_max)?;
                self.input.advance(used);
                if chunked.is_done() {
                    self.body = BodyLeft::Nothing;
                }
            }
        }
        Ok(!matches!(self.body, BodyLeft::Nothing))
    }

    /// Asks for the body, where the peer waits to be asked (RFC 9110, 10.1.1). Call before a response is begun.
    pub async fn continue_if_expected(&mut self) -> Result<(), Gone> {
        if std::mem::take(&mut self.expects_continue) {
            self.output.extend_from_slice(b"HTTP/1.1 100 Continue\r\n\r\n");
            self.flush().await?;
        }
        Ok(())
    }

    /// Passes over what is left of the body if it is here already. False: it is not, so where the next request begins is
    /// not worth waiting for.
    pub fn skip_body(&mut self) -> bool {
        // Who waits for 100 Continue may send the body all the same, or not: nobody knows.
        if self.expects_continue {
            return matches!(self.body, BodyLeft::Nothing);
        }
        let mut out = BytesMut::new();
        matches!(self.take_body(&mut out, usize::MAX), Ok(false))
    }

    /// Writes a response. `is_head`: without its body, to HEAD.
    pub fn write(&mut self, response: &Response, close: bool, is_head: bool) {
        let mut headers: Vec<(&str, &str)> = Vec::with_capacity(response.headers.len() + 3);
        headers.push(("Content-Type", "application/json"));
        headers.push(("Cache-Control", "no-store"));
        headers.push(("X-Content-Type-Options", "nosniff"));
        headers.extend(response.headers.iter().map(|(name, value)| (*name, &**value)));
        let before = self.output.len();
        http::write_response(&mut self.output, response.status, &headers, &response.body, close)
            .expect("no header that we make holds control bytes");
        if is_head {
            self.output.truncate(self.output.len() - response.body.len());
            debug_assert!(self.output.len() > before);
        }
    }

    /// Begins a response of status 200 whose length is not known.
    pub fn begin_stream(&mut self, content_type: &str, close: bool) {
        let close = if close { "Connection: close\r\n" } else { "" };
        self.output.extend_from_slice(
            format!(
                "HTTP/1.1 200 {}\r\nContent-Type: {content_type}\r\nCache-Control: no-store\r\n\
                 X-Content-Type-Options: nosniff\r\nTransfer-Encoding: chunked\r\n{close}\r\n",
                reason_phrase(200)
            )
            .as_bytes(),
        );
    }

    /// Adds to the response that was begun.
    pub fn write_chunk(&mut self, bytes: &[u8]) {
        if !bytes.is_empty() {
            self.output.extend_from_slice(format!("{:x}\r\n", bytes.len()).as_bytes());
            self.output.extend_from_slice(bytes);
            self.output.extend_from_slice(b"\r\n");
        }
    }

    /// Ends the response that was begun.
    pub fn end_stream(&mut self) {
        self.output.extend_from_slice(b"0\r\n\r\n");
    }

    /// Sends all that was written.
    pub async fn flush(&mut self) -> Result<(), Gone> {
        while !self.output.is_empty() {
            let sent = timeout(self.times.body, self.socket.send(&self.output)).await.map_err(|_| Gone)??;
            self.output.advance(sent);
        }
        Ok(())
    }

    /// What came and was not looked at, and what is to be sent: for what is spoken after an upgrade.
    pub fn buffers(&mut self) -> (&mut BytesMut, &mut BytesMut) {
        (&mut self.input, &mut self.output)
    }

    /// Waits until something was sent, or came if `reads`. May be dropped while it waits: nothing is lost.
    pub async fn exchange(&mut self, reads: bool) -> Result<Exchanged, Gone> {
        let Self { socket, input, output, .. } = self;
        let writes = !output.is_empty();
        tokio::select! {
            sent = socket.send(output), if writes => {
                output.advance(sent?);
                Ok(Exchanged::Sent)
            }
            received = socket.receive(input, RECEIVE_BODY_BYTES), if reads => match received? {
                0 => Ok(Exchanged::Ended),
                _ => Ok(Exchanged::Received),
            },
            () = std::future::pending(), if !writes && !reads => unreachable!("it never ends"),
        }
    }

    /// Ends the connection so that the peer can read the last response: a socket closed on bytes that nobody read is reset,
    /// and the response is lost with it (RFC 9112, 9.6).
    pub async fn close(mut self) {
        self.socket.shutdown();
        let patience = tokio::time::sleep(LINGER_TIME);
        tokio::pin!(patience);
        let mut left = LINGER_BYTES;
        while left > 0 {
            self.input.clear();
            let came = tokio::select! {
                came = self.receive(RECEIVE_BODY_BYTES) => came,
                () = &mut patience => return,
            };
            if !matches!(came, Ok(true)) {
                return;
            }
            left = left.saturating_sub(self.input.len());
        }
    }

    /// False: the peer has ended its side.
    async fn receive(&mut self, bytes_max: usize) -> Result<bool, Gone> {
        Ok(self.socket.receive(&mut self.input, bytes_max).await? > 0)
    }
}

/// What one receive may take: most requests are small, most bodies that are not here with their head are not.
const RECEIVE_HEAD_BYTES: usize = 8 << 10;
const RECEIVE_BODY_BYTES: usize = 64 << 10;
const LINGER_TIME: Duration = Duration::from_secs(2);
/// Who sends on is not listening.
const LINGER_BYTES: usize = 4 << 20;

/// A response whose body is JSON and all there.
#[derive(Debug)]
pub struct Response {
    /// Its status.
    pub status: u16,
    /// Besides those that every response has.
    pub headers: Vec<(&'static str, String)>,
    /// JSON.
    pub body: Bytes,
}

impl Response {
    /// 200.
    pub fn ok(body: impl Into<Bytes>) -> Self {
        Self { status: 200, headers: Vec::new(), body: body.into() }
    }

    /// Of an error, with the fields that its status asks for.
    pub fn of(error: &ApiError) -> Self {
        let headers = match error.code {
            Code::Unauthorized => vec![("WWW-Authenticate", "Bearer realm=\"fanwire\"".to_owned())],
            Code::Overloaded | Code::ShuttingDown | Code::IdempotencyInProgress => {
                vec![("Retry-After", "1".to_owned())]
            }
            _ => Vec::new(),
        };
        Self { status: error.status(), headers, body: error.body().into() }
    }
}

#[derive(Debug)]
enum Socket {
    Tcp(TcpStream),
    Unix(UnixStream),
}

impl Socket {
    fn new(fd: OwnedFd) -> io::Result<Self> {
        if rustix::net::sockopt::socket_domain(&fd)? == rustix::net::AddressFamily::UNIX {
            let stream = std::os::unix::net::UnixStream::from(fd);
            stream.set_nonblocking(true)?;
            return Ok(Self::Unix(UnixStream::from_std(stream)?));
        }
        let stream = std::net::TcpStream::from(fd);
        stream.set_nonblocking(true)?;
        stream.set_nodelay(true)?;
        Ok(Self::Tcp(TcpStream::from_std(stream)?))
    }

    /// Waits for bytes without a buffer for them. Nothing is lost if it is dropped while it waits.
    async fn receive(&self, buffer: &mut BytesMut, bytes_max: usize) -> io::Result<usize> {
        loop {
            match self {
                Self::Tcp(stream) => stream.readable().await?,
                Self::Unix(stream) => stream.readable().await?,
            }
            buffer.reserve(bytes_max);
            let result = match self {
                Self::Tcp(stream) => stream.try_read_buf(buffer),
                Self::Unix(stream) => stream.try_read_buf(buffer),
            };
            match result {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                result => return result,
            }
        }
    }

    async fn send(&self, bytes: &[u8]) -> io::Result<usize> {
        loop {
            let result = match self {
                Self::Tcp(stream) => {
                    stream.writable().await?;
                    stream.try_write(bytes)
                }
                Self::Unix(stream) => {
                    stream.writable().await?;
                    stream.try_write(bytes)
                }
            };
            match result {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                result => return result,
            }
        }
    }

    fn shutdown(&self) {
        // What cannot be shut down is gone.
        _ = match self {
            Self::Tcp(stream) => rustix::net::shutdown(stream, rustix::net::Shutdown::Write),
            Self::Unix(stream) => rustix::net::shutdown(stream, rustix::net::Shutdown::Write),
        };
    }
}

/// Whether only this machine can be at the other end. `None`: it is a Unix socket's.
pub fn is_local(peer: Option<SocketAddr>) -> bool {
    peer.is_none_or(|peer| peer.ip().to_canonical().is_loopback())
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use fanwire_codec::http::parse_request;

    use super::*;

    const TIMES: Times =
        Times { head: Duration::from_secs(60), body: Duration::from_secs(60), idle: Duration::from_secs(60) };

    fn run<T>(work: impl Future<Output = T>) -> T {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        runtime.expect("a descriptor is left").block_on(work)
    }

    /// A connection whose peer sends this in pieces of `step` bytes, the first of which a shard has read.
    fn connection(wire: &[u8], step: usize) -> Connection {
        let (ours, mut theirs) = std::os::unix::net::UnixStream::pair().expect("a descriptor is left");
        let (first, rest) = wire.split_at(step.min(wire.len()));
        let (rest, step) = (rest.to_vec(), step);
        std::thread::spawn(move || {
            for piece in rest.chunks(step) {
                // Whoever refuses early may be gone.
                let _ = theirs.write_all(piece);
            }
        });
        Connection::new(ours.into(), first, TIMES).expect("a socket")
    }

    /// The paths and bodies of all requests, until the peer ends.
    async fn requests(
        connection: &mut Connection,
        bytes_max: usize,
    ) -> Result<Vec<(String, Bytes)>, Failure> {
        let mut requests = Vec::new();
        let limits = HeadLimits::default();
        while let Some(head) = connection.head(&limits, std::future::pending()).await? {
            let head = parse_request(&head, &limits).map_err(ApiError::from)?;
            connection.begin_body(&head)?;
            let body = connection.whole_body(bytes_max).await?;
            requests.push((head.path().to_owned(), body));
        }
        Ok(requests)
    }

    #[test]
    fn requests_are_the_same_however_their_bytes_come() {
        let wire = b"POST /a HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n\r\nhello\
                     POST /b HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nwo\r\n3;x=y\r\nrld\r\n0\r\n\r\n\
                     GET /c HTTP/1.1\r\nHost: h\r\n\r\n\
                     POST /d HTTP/1.1\r\nHost: h\r\nContent-Length: 1\r\n\r\n!";
        for step in (1..40).chain([wire.len()]) {
            let found =
                run(async { requests(&mut connection(wire, step), 5).await }).expect("all can be read");
            let found: Vec<(&str, &[u8])> = found.iter().map(|(path, body)| (&**path, &**body)).collect();
            let wanted: [(&str, &[u8]); 4] = [("/a", b"hello"), ("/b", b"world"), ("/c", b""), ("/d", b"!")];
            assert_eq!(found, wanted, "in pieces of {step}");
        }
    }

    #[test]
    fn bodies_are_bounded_whatever_they_claim() {
        for framing in [
            "Content-Length: 6\r\n\r\nhello!",
            "Content-Length: 18446744073709551615\r\n\r\nhello!",
            "Transfer-Encoding: chunked\r\n\r\n6\r\nhello!\r\n0\r\n\r\n",
            "Transfer-Encoding: chunked\r\n\r\nfffffffffff\r\nhello!",
        ] {
            let wire = format!("POST /a HTTP/1.1\r\nHost: h\r\n{framing}");
            let outcome = run(async { requests(&mut connection(wire.as_bytes(), 7), 5).await });
            assert!(
                matches!(outcome, Err(Failure::Refused(error)) if error.code == Code::TooLarge),
                "{framing}"
            );
        }
    }

    #[test]
    fn what_is_left_of_a_body_is_passed_over_if_it_is_here() {
        let skip = |wire: &str, step: usize| {
            run(async {
                let mut connection = connection(wire.as_bytes(), step);
                let limits = HeadLimits::default();
                let Ok(Some(head)) = connection.head(&limits, std::future::pending()).await else {
                    panic!("there is a head")
                };
                connection
                    .begin_body(&parse_request(&head, &limits).expect("well-formed"))
                    .expect("no Expect");
                connection.skip_body()
            })
        };
        let wire = "POST /a HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n\r\nhello";
        assert!(skip(wire, wire.len()));
        assert!(!skip(&wire.replace(": 5", ": 6"), wire.len()), "one byte is missing");
    }
}
