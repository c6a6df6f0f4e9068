//! A connection to a router: TCP, with TLS or without, or a Unix socket; blocking.

use std::io::{self, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use super::tls::TlsStream;
use crate::users::plain;
use fanwire_codec::ws::Place;

/// A connected socket.
#[derive(Debug)]
pub enum Stream {
    /// Over TCP.
    Tcp(TcpStream),
    /// On this machine.
    Unix(UnixStream),
    /// Over TCP, with TLS.
    Tls(TlsStream),
}

impl Stream {
    /// Connects. The error is in words for the user.
    pub fn connect(place: &Place, patience: Duration) -> Result<Self, String> {
        let (host, port) = match place {
            Place::Unix(path) => {
                return UnixStream::connect(path).map(Self::Unix).map_err(|error| plain(&error));
            }
            Place::Ip { host, port } => (host, *port),
        };
        let addresses = (host.as_str(), port)
            .to_socket_addrs()
            .map_err(|error| format!("{host} is not found: {}", plain(&error)))?;
        let mut last = "it has no address".to_owned();
        for address in addresses {
            match TcpStream::connect_timeout(&address, patience) {
                Ok(stream) => {
                    // Small messages, each waited for.
                    stream.set_nodelay(true).map_err(|error| plain(&error))?;
                    return Ok(Self::Tcp(stream));
                }
                Err(error) => last = plain(&error),
            }
        }
        Err(last)
    }

    /// The same socket once more, for another thread.
    pub fn try_clone(&self) -> io::Result<Self> {
        match self {
            Self::Tcp(stream) => stream.try_clone().map(Self::Tcp),
            Self::Unix(stream) => stream.try_clone().map(Self::Unix),
            Self::Tls(stream) => stream.try_clone().map(Self::Tls),
        }
    }

    /// How long a read may wait; `None`: for ever.
    pub fn set_read_timeout(&self, wait: Option<Duration>) -> io::Result<()> {
        match self {
            Self::Tcp(stream) => stream.set_read_timeout(wait),
            Self::Unix(stream) => stream.set_read_timeout(wait),
            Self::Tls(stream) => stream.set_read_timeout(wait),
        }
    }
}

impl Read for Stream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(stream) => stream.read(buffer),
            Self::Unix(stream) => stream.read(buffer),
            Self::Tls(stream) => stream.read(buffer),
        }
    }
}

impl Write for Stream {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(stream) => stream.write(bytes),
            Self::Unix(stream) => stream.write(bytes),
            Self::Tls(stream) => stream.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
