//! Listening sockets: who has which, and how they are made.
//!
//! ```text
//! TCP   every shard has a socket of its own at the address (SO_REUSEPORT); the kernel spreads connections by a hash
//! Unix  one socket, accepted by one shard, the n-th Unix listener by the n-th shard
//! ```
//!
//! Either way the shard that accepts evens out ([`loads`](crate::loads)). One shard for a Unix socket, because the kernel
//! would wake all of them for each connection: EPOLLEXCLUSIVE wakes one only if it waits in `epoll_wait` itself, and a
//! shard's set is waited for through another one.
//!
//! What is not here: accepting (`shard/accept.rs`).

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use rustix::net::sockopt;
use socket2::{Domain, Protocol, SockAddr, Socket, Type};

use crate::config::{ListenAddress, Listener};
use crate::socket_file::SocketFile;

/// One shard's listening socket.
pub(crate) struct Listening {
    /// Removed before the socket is closed, so that nobody finds a file behind which nobody is.
    _file: Option<SocketFile>,
    pub(crate) socket: OwnedFd,
    /// Index of the listener in the configuration.
    pub(crate) listener: u8,
}

/// Makes the sockets of the listener with this index, a vector of them for each shard. Returns where it really listens.
/// `unread`: see [`Deadlines`](crate::Deadlines).
pub(crate) fn listen(
    index: u8,
    listener: &Listener,
    unix_before: usize,
    unread: Duration,
    shards: &mut [Vec<Listening>],
) -> io::Result<ListenAddress> {
    // The kernel cuts it at net.core.somaxconn.
    let backlog = listener.backlog.map_or(i32::MAX, |most| i32::try_from(most).unwrap_or(i32::MAX));
    match &listener.address {
        ListenAddress::Ip(address) => {
            claim(*address)?;
            let mut address = *address;
            for sockets in shards {
                // The first one chooses the port, if it is open.
                let (socket, bound) = listen_tcp(address, backlog, unread)?;
                sockets.push(Listening { _file: None, socket, listener: index });
                address = bound;
            }
            Ok(ListenAddress::Ip(address))
        }
        ListenAddress::Unix { path, mode } => {
            let (socket, file) = SocketFile::listen(path, *mode, backlog)?;
            let shard = unix_before % shards.len();
            shards[shard].push(Listening { _file: Some(file), socket, listener: index });
            Ok(listener.address.clone())
        }
    }
}

/// Checks that nobody else listens at `address`.
///
/// The shards' own sockets share the address by `SO_REUSEPORT`, and with that a second router of the same user would get
/// half of the connections without a word. A socket without the option is refused then.
fn claim(address: SocketAddr) -> io::Result<()> {
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

/// One shard's listening socket at `address`; many may share it. Data that a peer's kernel does not take for as long as
/// `unread` ends its connection.
pub(crate) fn listen_tcp(
    address: SocketAddr,
    backlog: i32,
    unread: Duration,
) -> io::Result<(OwnedFd, SocketAddr)> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(true)?;
    if address.is_ipv6() {
        // `[::]` takes IPv4 too, wherever the system's default stands.
        socket.set_only_v6(false)?;
    }
    // Both are inherited by the accepted sockets, which saves two system calls for each.
    socket.set_tcp_nodelay(true)?;
    set_unread(&socket, unread)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(backlog)?;
    let bound = socket.local_addr()?.as_socket().ok_or_else(|| io::Error::other("not an IP socket"))?;
    Ok((socket.into(), bound))
}

/// Ends connections of this socket whose peers' kernels take nothing for so long.
pub(crate) fn set_unread(socket: impl AsFd, unread: Duration) -> Result<(), rustix::io::Errno> {
    // 0 would be the system's own, many minutes.
    let unread_ms = u32::try_from(unread.as_millis()).unwrap_or(u32::MAX).max(1);
    sockopt::set_tcp_user_timeout(socket, unread_ms)
}

/// A Unix socket that is bound to nothing yet.
pub(crate) fn unix_socket() -> io::Result<Socket> {
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    socket.set_nonblocking(true)?;
    Ok(socket)
}

/// Whether somebody listens at the socket file.
pub(crate) fn is_alive(path: &std::path::Path) -> io::Result<bool> {
    match unix_socket()?.connect(&SockAddr::unix(path)?) {
        Ok(()) => Ok(true),
        // Its queue is full.
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => Ok(false),
        // Somebody's, of another kind: sequenced packets or datagrams.
        Err(error) if error.raw_os_error() == Some(rustix::io::Errno::PROTOTYPE.raw_os_error()) => Ok(true),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{Ipv4Addr, TcpStream};

    const UNREAD: Duration = Duration::from_secs(7);

    fn localhost() -> SocketAddr {
        (Ipv4Addr::LOCALHOST, 0).into()
    }

    #[test]
    fn shards_share_an_address_and_strangers_do_not() {
        let (_first, bound) = listen_tcp(localhost(), 16, UNREAD).unwrap();
        let (_second, again) = listen_tcp(bound, 16, UNREAD).unwrap();
        assert_eq!(bound, again);
        assert_eq!(claim(bound).unwrap_err().kind(), io::ErrorKind::AddrInUse);
        claim(localhost()).unwrap();
    }

    #[test]
    fn accepted_sockets_have_the_options_of_their_listener() {
        let (listener, bound) = listen_tcp(localhost(), 16, UNREAD).unwrap();
        let _client = TcpStream::connect(bound).unwrap();
        let socket = crate::socket::accept(&listener).unwrap();
        assert!(sockopt::tcp_nodelay(&socket).unwrap());
        assert_eq!(sockopt::tcp_user_timeout(&socket).unwrap(), 7_000);
    }
}
