//! System calls on sockets: listening, accepting, sending, cutting.

use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use rustix::io::Errno;
use rustix::net::{SendAncillaryBuffer, SendFlags, Shutdown, SocketFlags, accept_with, sockopt};
use socket2::{Domain, Protocol, Socket, Type};

/// Checks that nobody else listens at `address`.
///
/// The shards' own sockets share the address by `SO_REUSEPORT`, and with that a second router of the same user would get
/// half of the connections without a word. A socket without the option is refused then.
pub(crate) fn claim(address: SocketAddr) -> io::Result<()> {
    if address.port() == 0 {
        return Ok(());
    }
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    // Without it, connections of the last run that are in TIME_WAIT would count as a listener.
    socket.set_reuse_address(true)?;
    if address.is_ipv6() {
        socket.set_only_v6(false)?;
    }
    socket.bind(&address.into())?;
    socket.listen(1)
}

/// One shard's listening socket at `address`; many may share it.
pub(crate) fn listen(address: SocketAddr, backlog: i32) -> io::Result<(OwnedFd, SocketAddr)> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(true)?;
    if address.is_ipv6() {
        // `[::]` takes IPv4 too, wherever the system's default stands.
        socket.set_only_v6(false)?;
    }
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(backlog)?;
    let bound = socket.local_addr()?.as_socket().ok_or_else(|| io::Error::other("not an IP socket"))?;
    Ok((socket.into(), bound))
}

/// A pending connection, set up for messages that must not wait.
pub(crate) fn accept(listener: &OwnedFd) -> Result<OwnedFd, Errno> {
    let socket = accept_with(listener, SocketFlags::NONBLOCK | SocketFlags::CLOEXEC)?;
    // Both can only fail on a connection that is already gone; its first receive will say so.
    let _ = sockopt::set_tcp_nodelay(&socket, true);
    let _ = sockopt::set_tcp_user_timeout(&socket, USER_TIMEOUT_MS);
    Ok(socket)
}

/// Offers `pieces` to the socket and tells how many bytes it took; `Err` means that it is dead.
pub(crate) fn send(socket: &OwnedFd, pieces: &[IoSlice<'_>]) -> Result<usize, Errno> {
    let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
    let mut taken = 0;
    // More pieces than the kernel takes at once are not a full socket.
    for pieces in pieces.chunks(IOV_MAX) {
        let offered: usize = pieces.iter().map(|piece| piece.len()).sum();
        let sent = loop {
            let result = match pieces {
                [piece] => rustix::net::send(socket, piece, flags),
                _ => rustix::net::sendmsg(socket, pieces, &mut SendAncillaryBuffer::default(), flags),
            };
            match result {
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

/// Refuses a connection that cannot be served: an answer if it goes out at once, and the end.
pub(crate) fn refuse(socket: OwnedFd) {
    let _ = rustix::net::send(&socket, OVERLOADED, SendFlags::DONTWAIT | SendFlags::NOSIGNAL);
    let _ = rustix::net::shutdown(&socket, Shutdown::Write);
    // A request that was not read would turn the close into a reset, and the answer might be lost with it.
    let mut sink = [0u8; 4096];
    let _ = rustix::net::recv(&socket, &mut sink, rustix::net::RecvFlags::DONTWAIT);
}

/// Makes the coming close a reset: what is unsent is thrown away at once.
pub(crate) fn cut(socket: impl AsFd) {
    let _ = sockopt::set_socket_linger(socket, Some(Duration::ZERO));
}

/// Lets this process have as many descriptors as it may.
pub(crate) fn raise_descriptor_limit() {
    use rustix::process::{Resource, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    if limit.current != limit.maximum {
        let _ = setrlimit(Resource::Nofile, rustix::process::Rlimit { current: limit.maximum, ..limit });
    }
}

/// Data that the peer's kernel does not acknowledge for so long ends the connection (half-open peers).
const USER_TIMEOUT_MS: u32 = 10_000;
/// UIO_MAXIOV of Linux.
const IOV_MAX: usize = 1024;
const OVERLOADED: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 5\r\nConnection: close\r\n\
Content-Type: text/plain\r\nContent-Length: 50\r\n\r\nThe server has no room for another connection now\n";

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};
    use std::net::{Ipv4Addr, TcpStream};

    fn localhost() -> SocketAddr {
        (Ipv4Addr::LOCALHOST, 0).into()
    }

    #[test]
    fn shards_share_an_address_and_strangers_do_not() {
        let (_first, bound) = listen(localhost(), 16).unwrap();
        let (_second, again) = listen(bound, 16).unwrap();
        assert_eq!(bound, again);
        assert_eq!(claim(bound).unwrap_err().kind(), io::ErrorKind::AddrInUse);
        claim(localhost()).unwrap();
    }

    #[test]
    fn an_accepted_socket_does_not_block() {
        let (listener, bound) = listen(localhost(), 16).unwrap();
        assert_eq!(accept(&listener).unwrap_err(), Errno::AGAIN);
        let mut client = TcpStream::connect(bound).unwrap();
        let socket = accept(&listener).unwrap();
        assert!(sockopt::tcp_nodelay(&socket).unwrap());
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
        let (listener, bound) = listen(localhost(), 16).unwrap();
        let mut client = TcpStream::connect(bound).unwrap();
        client.write_all(b"GET / HTTP/1.1\r\n\r\n").unwrap();
        let socket = accept(&listener).unwrap();
        refuse(socket);
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
    fn a_cut_connection_is_reset() {
        let (listener, bound) = listen(localhost(), 16).unwrap();
        let mut client = TcpStream::connect(bound).unwrap();
        let socket = accept(&listener).unwrap();
        cut(&socket);
        drop(socket);
        let error = client.read(&mut [0u8; 1]).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
    }
}
