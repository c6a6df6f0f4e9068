//! TLS of one connection, without sockets: ciphertext in, plaintext out, and the other way.
//!
//! rustls keeps the keys and the handshake; it is driven through its unbuffered interface, so that input is decrypted out
//! of the shard's scratch buffer and output is encrypted into another one. A session owns memory only for what is
//! incomplete: the beginning of a record that has not come whole, and the end of one that the socket did not take.

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use rustls::server::{ServerConnectionData, UnbufferedServerConnection};
use rustls::unbuffered::{
    ConnectionState, EncodeError, EncodeTlsData, EncryptError, UnbufferedStatus, WriteTraffic,
};
use rustls::{Error, ServerConfig};

use super::exporter;

/// Most plaintext of one record (RFC 8446, 5.1).
pub(crate) const RECORD_BYTES: usize = 16 << 10;
/// What encryption adds to a record: header, type and tag, and in TLS 1.2 a nonce and padding. With room for a key update
/// that may go before it.
pub(crate) const RECORD_EXTRA: usize = 512;
/// Most input that may wait for its rest: a record (RFC 5246, 6.2.3), or a handshake message over several of them, which
/// is large only where a client sends a long chain of certificates.
pub(crate) const INCOMPLETE_BYTES_MAX: usize = 32 << 10;

/// TLS of one connection.
pub(crate) struct Session {
    connection: UnbufferedServerConnection,
    /// Received and not complete.
    incoming: Vec<u8>,
    /// Encrypted and not taken by the socket: `outgoing[sent..]`.
    outgoing: Vec<u8>,
    sent: usize,
    established: bool,
    /// From the middle of the handshake until it is asked for.
    channel: Option<Box<[u8; 32]>>,
    /// It is among those that are counted.
    pub(crate) counted: bool,
    /// The peer has said that nothing follows. Acted on when all that came before is handled.
    pub(crate) peer_closed: bool,
    /// The router has said all: to be told when `outgoing` is empty.
    pub(crate) finishing: bool,
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session").field("established", &self.established).finish_non_exhaustive()
    }
}

/// What came of a piece of input.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub(crate) struct Heard {
    /// The handshake has ended with it.
    pub(crate) established: bool,
    /// The peer has said that nothing follows.
    pub(crate) closed: bool,
}

impl Session {
    /// Before a client's first byte.
    pub(crate) fn new(config: Arc<ServerConfig>) -> Result<Self, Error> {
        Ok(Self {
            connection: UnbufferedServerConnection::new(config)?,
            incoming: Vec::new(),
            outgoing: Vec::new(),
            sent: 0,
            established: false,
            channel: None,
            counted: false,
            peer_closed: false,
            finishing: false,
        })
    }

    /// Whether application data may be sent.
    pub(crate) fn is_established(&self) -> bool {
        self.established
    }

    /// Its `tls-exporter` (RFC 9266), once. There is none before TLS 1.3.
    pub(crate) fn take_channel(&mut self) -> Option<[u8; 32]> {
        self.channel.take().map(|channel| *channel)
    }

    /// What was received earlier and has to stand before the next input.
    pub(crate) fn incomplete(&self) -> &[u8] {
        &self.incoming
    }

    /// Takes `input`, which begins with [`incomplete`](Self::incomplete), and appends what it holds to `plain` and what
    /// the handshake answers to `cipher`; both also after an error, which `cipher` then tells the peer.
    pub(crate) fn receive(
        &mut self,
        input: &mut [u8],
        plain: &mut Vec<u8>,
        cipher: &mut Vec<u8>,
    ) -> Result<Heard, Error> {
        let shaking_hands = !self.established;
        let outcome = self.receive_records(input, plain, cipher);
        if shaking_hands && let Some(channel) = exporter::take() {
            self.channel = Some(Box::new(channel));
        }
        outcome
    }

    fn receive_records(
        &mut self,
        input: &mut [u8],
        plain: &mut Vec<u8>,
        cipher: &mut Vec<u8>,
    ) -> Result<Heard, Error> {
        self.incoming = Vec::new();
        let mut heard = Heard::default();
        let mut at = 0;
        loop {
            let UnbufferedStatus { discard, state } = self.connection.process_tls_records(&mut input[at..]);
            match state {
                Ok(ConnectionState::ReadTraffic(mut traffic)) => {
                    while let Some(record) = traffic.next_record() {
                        plain.extend_from_slice(record?.payload);
                    }
                }
                Ok(ConnectionState::EncodeTlsData(data)) => append(data, cipher),
                Ok(ConnectionState::TransmitTlsData(data)) => data.done(),
                Ok(ConnectionState::PeerClosed) => heard.closed = true,
                Ok(ConnectionState::WriteTraffic(_)) => {
                    heard.established |= !std::mem::replace(&mut self.established, true);
                    return self.keep(&input[at + discard..], heard);
                }
                // Early data is never accepted, so it never comes; any other new state means that nothing more is to be had.
                Ok(_) => return self.keep(&input[at + discard..], heard),
                Err(error) => {
                    self.say_alert(&mut input[at + discard..], cipher);
                    return Err(error);
                }
            }
            at += discard;
        }
    }

    fn keep(&mut self, rest: &[u8], heard: Heard) -> Result<Heard, Error> {
        // RFC 8446, 6.1: what comes behind the peer's last word is ignored.
        if heard.closed {
            return Ok(heard);
        }
        if rest.len() > INCOMPLETE_BYTES_MAX {
            return Err(Error::General("a handshake message is too large".into()));
        }
        self.incoming = rest.to_vec();
        Ok(heard)
    }

    /// Throws that away: nothing more will be received.
    pub(crate) fn forget_incomplete(&mut self) {
        self.incoming = Vec::new();
    }

    /// What rustls wants the peer to know of an error; `rest` is the input that it has not taken.
    fn say_alert(&mut self, rest: &mut [u8], cipher: &mut Vec<u8>) {
        // Once: everything said earlier has gone out before the input was looked at, and then it would be looked at again.
        let status = self.connection.process_tls_records(rest);
        if let Ok(ConnectionState::EncodeTlsData(data)) = status.state {
            append(data, cipher);
        }
    }

    /// Encrypts at most [`RECORD_BYTES`] into `cipher`, which has room for [`RECORD_EXTRA`] more. Returns how many bytes
    /// that are; `None` if the session cannot go on.
    pub(crate) fn encrypt(&mut self, plain: &[u8], cipher: &mut [u8]) -> Option<usize> {
        self.write(cipher, |traffic, cipher| traffic.encrypt(plain, cipher))
    }

    /// Tells the peer that nothing follows (RFC 8446, 6.1).
    pub(crate) fn say_closed(&mut self, cipher: &mut [u8]) -> Option<usize> {
        self.write(cipher, |traffic, cipher| traffic.queue_close_notify(cipher))
    }

    fn write(
        &mut self,
        cipher: &mut [u8],
        write: impl FnOnce(&mut WriteTraffic<'_, ServerConnectionData>, &mut [u8]) -> Result<usize, EncryptError>,
    ) -> Option<usize> {
        let Self { connection, incoming, .. } = self;
        let mut at = 0;
        let written = catch_unwind(AssertUnwindSafe(|| {
            loop {
                // Not without what is incomplete: rustls remembers how far in it a part of a handshake message reaches.
                match connection.process_tls_records(incoming).state {
                    Ok(ConnectionState::WriteTraffic(mut traffic)) => {
                        return Some(at + write(&mut traffic, &mut cipher[at..]).ok()?);
                    }
                    Ok(ConnectionState::EncodeTlsData(mut data)) => {
                        at += data.encode(&mut cipher[at..]).ok()?;
                    }
                    Ok(ConnectionState::TransmitTlsData(data)) => data.done(),
                    _ => return None,
                }
            }
        }));
        // A panic is the end of this connection alone, as for everything that a peer's input can lead to.
        written.ok().flatten()
    }

    /// Encrypted bytes that the socket has not taken.
    pub(crate) fn unsent(&self) -> &[u8] {
        &self.outgoing[self.sent..]
    }

    /// Keeps what the socket did not take, behind what is kept already.
    pub(crate) fn keep_unsent(&mut self, rest: &[u8]) {
        self.outgoing.extend_from_slice(rest);
    }

    /// The socket took so many of the [`unsent`](Self::unsent) bytes.
    pub(crate) fn took(&mut self, count: usize) {
        self.sent += count;
        if self.sent == self.outgoing.len() {
            (self.outgoing, self.sent) = (Vec::new(), 0);
        }
    }
}

fn append(mut data: EncodeTlsData<'_, ServerConnectionData>, cipher: &mut Vec<u8>) {
    if let Err(EncodeError::InsufficientSize(size)) = data.encode(&mut []) {
        let from = cipher.len();
        cipher.resize(from + size.required_size, 0);
        data.encode(&mut cipher[from..]).expect("it has the size that was asked for");
    }
}
