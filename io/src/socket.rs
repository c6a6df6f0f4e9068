//! System calls on connections: accepting, sending, cutting.

use std::io::IoSlice;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use fanwire_codec::rawsocket;
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendAncillaryBuffer, SendFlags, Shutdown, SocketFlags, accept_with, sockopt};

/// A pending connection. Its options are those of the listening socket.
pub(crate) fn accept(listener: &OwnedFd) -> Result<OwnedFd, Errno> {
    accept_with(listener, SocketFlags::NONBLOCK | SocketFlags::CLOEXEC)
}

/// Offers `pieces` to the socket and tells how many bytes it took; `Err` means that it is dead.
#[inline]
pub(crate) fn send(socket: &OwnedFd, pieces: &[IoSlice<'_>]) -> Result<usize, Errno> {
    if let [piece] = pieces {
        return send_piece(socket, piece);
    }
    let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
    let mut taken = 0;
    // More pieces than the kernel takes at once are not a full socket.
    for pieces in pieces.chunks(IOV_MAX) {
        let offered: usize = pieces.iter().map(|piece| piece.len()).sum();
        let sent = loop {
            match rustix::net::sendmsg(socket, pieces, &mut SendAncillaryBuffer::default(), flags) {
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => break 0,
                other => break other?,
            }
        };
        taken += sent;
        if sent < offered {
            break;
        }
    }
    Ok(taken)
}

/// The common case of [`send`]: a broadcast's bytes lie in one piece.
#[inline]
fn send_piece(socket: &OwnedFd, piece: &[u8]) -> Result<usize, Errno> {
    loop {
        match rustix::net::send(socket, piece, SendFlags::DONTWAIT | SendFlags::NOSIGNAL) {
            Err(Errno::INTR) => {}
            Err(Errno::AGAIN) => return Ok(0),
            other => return other,
        }
    }
}

/// Refuses a connection that cannot be served: an answer if it goes out at once, and the end.
///
/// A RawSocket client whose handshake is there already gets its own words for "no room".
pub(crate) fn refuse(socket: OwnedFd, answer: &[u8], takes_raw: bool) {
    let mut first = [0];
    let peeked = rustix::net::recv(&socket, &mut first, RecvFlags::DONTWAIT | RecvFlags::PEEK);
    let is_raw = takes_raw && peeked.is_ok_and(|(count, _)| count == 1) && first[0] == rawsocket::MAGIC;
    let full = rawsocket::Refusal::TooManyConnections.encode();
    let answer = if is_raw && !answer.is_empty() { &full } else { answer };
    let _ = rustix::net::send(&socket, answer, SendFlags::DONTWAIT | SendFlags::NOSIGNAL);
    let _ = rustix::net::shutdown(&socket, Shutdown::Write);
    // A request that was not read would turn the close into a reset, and the answer might be lost with it.
    let mut sink = [0u8; 4096];
    let _ = rustix::net::recv(&socket, &mut sink, RecvFlags::DONTWAIT);
}

/// Makes the coming close a reset: what is unsent is thrown away at once.
pub(crate) fn cut(socket: impl AsFd) {
    let _ = sockopt::set_socket_linger(socket, Some(Duration::ZERO));
}

/// Lets this process have as many descriptors as it may, and tells how many that are.
pub(crate) fn raise_descriptor_limit() -> u64 {
    use rustix::process::{Resource, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    if limit.current != limit.maximum {
        let _ = setrlimit(Resource::Nofile, rustix::process::Rlimit { current: limit.maximum, ..limit });
    }
    getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX)
}

/// UIO_MAXIOV of Linux.
const IOV_MAX: usize = 1024;
/// There is no room for another connection.
pub(crate) const FULL: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 5\r\nConnection: close\r\n\
Content-Type: text/plain\r\nContent-Length: 50\r\n\r\nThe server has no room for another connection now\n";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::listen::listen_tcp;
    use std::io::{self, Read, Write};
    use std::net::{Ipv4Addr, SocketAddr, TcpStream};

    fn listen() -> (OwnedFd, SocketAddr) {
        listen_tcp((Ipv4Addr::LOCALHOST, 0).into(), 16, std::time::Duration::from_secs(10)).unwrap()
    }

    #[test]
    fn an_accepted_socket_does_not_block() {
        let (listener, bound) = listen();
        assert_eq!(accept(&listener).unwrap_err(), Errno::AGAIN);
        let mut client = TcpStream::connect(bound).unwrap();
        let socket = accept(&listener).unwrap();
        let mut buffer = [0u8; 8];
        let nothing = rustix::net::recv(&socket, &mut buffer, rustix::net::RecvFlags::empty());
        assert_eq!(nothing.unwrap_err(), Errno::AGAIN);

        let pieces: Vec<_> = (0..2500).map(|_| IoSlice::new(b"ab")).collect();
        assert_eq!(send(&socket, &pieces).unwrap(), 5000);
        let mut got = vec![0; 5000];
        client.read_exact(&mut got).unwrap();
        assert!(got.chunks(2).all(|pair| pair == b"ab"));

        let flood = vec![0u8; 64 << 20];
        let took = send(&socket, &[IoSlice::new(&flood)]).unwrap();
        assert!(took < flood.len());
        assert_eq!(send(&socket, &[IoSlice::new(&flood)]).unwrap(), 0);
    }

    #[test]
    fn a_refused_client_reads_the_whole_answer() {
        let (listener, bound) = listen();
        let mut client = TcpStream::connect(bound).unwrap();
        client.write_all(b"GET / HTTP/1.1\r\n\r\n").unwrap();
        let socket = accept(&listener).unwrap();
        refuse(socket, FULL, true);
        let mut answer = String::new();
        client.read_to_string(&mut answer).unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        assert!(head.starts_with("HTTP/1.1 503 "), "{head}");
        assert!(
            head.contains(&format!("Content-Length: {}\r\n", body.len()))
                || head.ends_with(&format!("Content-Length: {}", body.len()))
        );
    }

    #[test]
    fn a_refused_rawsocket_client_reads_its_own_words_where_rawsocket_is_spoken() {
        let (listener, bound) = listen();
        for (takes_raw, expected) in [(true, &[0x7F, 0x40, 0, 0][..]), (false, FULL)] {
            let mut client = TcpStream::connect(bound).unwrap();
            client.write_all(&[rawsocket::MAGIC, 0xF1, 0, 0]).unwrap();
            refuse(accept(&listener).unwrap(), FULL, takes_raw);
            let mut answer = Vec::new();
            client.read_to_end(&mut answer).unwrap();
            assert_eq!(answer, expected);
        }
    }

    #[test]
    fn a_cut_connection_is_reset() {
        let (listener, bound) = listen();
        let mut client = TcpStream::connect(bound).unwrap();
        let socket = accept(&listener).unwrap();
        cut(&socket);
        drop(socket);
        let error = client.read(&mut [0u8; 1]).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
    }
}
