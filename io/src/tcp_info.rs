//! What the kernel knows of a TCP connection (tcp(7), `TCP_INFO`).

use std::os::fd::{AsRawFd, OwnedFd};

/// How the peer takes what we send.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Taking {
    /// Bytes that the peer's kernel has acknowledged since the beginning; the lower half, for comparing.
    pub(crate) acked: u32,
    /// Bytes in our kernel that may not be sent yet: the peer has no room for them.
    pub(crate) unsent: u32,
}

impl Taking {
    /// Of this socket; `None` if it is not TCP, or the kernel is too old to tell (before 4.6).
    pub(crate) fn of(socket: &OwnedFd) -> Option<Self> {
        let mut info = [0u8; INFO_BYTES];
        let mut length = INFO_BYTES as libc::socklen_t;
        // SAFETY: the descriptor is open, `info` is valid for `length` bytes, and the kernel writes no more than that.
        let result = unsafe {
            libc::getsockopt(
                socket.as_raw_fd(),
                libc::IPPROTO_TCP,
                libc::TCP_INFO,
                info.as_mut_ptr().cast(),
                &raw mut length,
            )
        };
        if result != 0 || (length as usize) < INFO_BYTES {
            return None;
        }
        let number = |at: usize| u32::from_ne_bytes(info[at..at + 4].try_into().expect("four bytes"));
        let low_half = if cfg!(target_endian = "little") { 0 } else { 4 };
        Some(Self { acked: number(BYTES_ACKED_AT + low_half), unsent: number(NOTSENT_BYTES_AT) })
    }
}

// Offsets in `struct tcp_info` of <linux/tcp.h>, which only grows at its end: 8 single bytes and 24 times u32 come before
// tcpi_pacing_rate and tcpi_max_pacing_rate, u64 both.
const BYTES_ACKED_AT: usize = 8 + 24 * 4 + 2 * 8;
/// Behind tcpi_bytes_received (u64), tcpi_segs_out and tcpi_segs_in (u32 both).
const NOTSENT_BYTES_AT: usize = BYTES_ACKED_AT + 8 + 8 + 4 + 4;
const INFO_BYTES: usize = NOTSENT_BYTES_AT + 4;

#[cfg(test)]
#[allow(clippy::disallowed_methods, reason = "the kernel's acknowledgements come in real time")]
mod tests {
    use super::*;
    use std::io::Read;
    use std::net::TcpListener;
    use std::time::Duration;

    #[test]
    fn what_a_peer_takes_is_told_from_what_it_has_no_room_for() {
        // Inherited by the accepted end: a peer with little room.
        let listener = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
        listener.set_recv_buffer_size(4096).unwrap();
        listener.bind(&std::net::SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
        listener.listen(1).unwrap();
        let listener = TcpListener::from(listener);
        let ours = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let mut peer = listener.accept().unwrap().0;
        let ours = OwnedFd::from(ours);
        assert_eq!(Taking::of(&ours).unwrap().unsent, 0);

        let sent = crate::socket::send(&ours, &[std::io::IoSlice::new(&[7; 40_000])]).unwrap();
        assert_eq!(sent, 40_000);
        let soon = |what: &str, condition: &dyn Fn(Taking) -> bool| {
            for _ in 0..2000 {
                let now = Taking::of(&ours).unwrap();
                if condition(now) {
                    return now;
                }
                std::thread::sleep(Duration::from_millis(5));
            }
            panic!("still not: {what}")
        };
        let before = soon("the peer is full", &|now| now.unsent > 0);
        peer.read_exact(&mut [0; 40_000]).unwrap();
        let after = soon("the peer has all", &|now| now.unsent == 0);
        assert!(after.acked > before.acked, "{before:?} {after:?}");
        let eventfd = rustix::event::eventfd(0, rustix::event::EventfdFlags::CLOEXEC).unwrap();
        assert_eq!(Taking::of(&eventfd), None);
    }
}
