//! Connections that leave their shard for the control thread, because their first request is for it.
//!
//! ```text
//! accept ─▶ request line names a control path ─▶ out of the epoll set ─▶ Service::hand_over ─┬ taken ─▶ slot freed
//!                                                                                            └ given back ─▶ 503
//! ```
//!
//! That is decided by the request line alone: a body may follow that is larger than any head, or may wait for
//! `100 Continue`. Whatever was received goes along, and nothing was said yet. A connection never comes back.

use std::net::SocketAddr;
use std::os::fd::OwnedFd;

use fanwire_core::ids::ShardId;

use crate::config::Listener;
use crate::request::longpoll_path;

/// A connection on its way to the control thread.
#[derive(Debug)]
pub struct HandedOver {
    /// A TCP or Unix socket that does not block.
    pub stream: OwnedFd,
    /// What was received: at least the beginning of a request up to its path.
    pub read: Vec<u8>,
    /// The other end, unless the socket is a Unix socket or the peer is gone.
    pub peer: Option<SocketAddr>,
    /// The shard that had it. Whatever the connection asks of one shard, it asks of this one: that keeps its order.
    pub shard: ShardId,
    /// Index of the listener in the configuration.
    pub listener: usize,
}

/// The other end of a connection; `None` for Unix sockets and for a peer that is gone.
pub(crate) fn peer(socket: &OwnedFd) -> Option<SocketAddr> {
    rustix::net::getpeername(socket).ok()??.try_into().ok()
}

/// Whether what was received of a connection's first request shows that it is for the control thread.
///
/// An endpoint of exactly this path, or of long-polling above it, goes first; one of all paths (`*`) does not.
pub(crate) fn is_for_control(listener: &Listener, received: &[u8]) -> bool {
    if listener.control.is_empty() {
        return false;
    }
    let Some(path) = path(received) else { return false };
    let is_below = |prefix: &String| path.starts_with(prefix.as_bytes());
    let is_polled = || str::from_utf8(path).is_ok_and(|path| longpoll_path(listener, path).is_some());
    let is_endpoint =
        || listener.endpoints.iter().any(|endpoint| endpoint.path.as_bytes() == path) || is_polled();
    listener.control.iter().any(is_below) && !is_endpoint()
}

/// The path of a request line whose target is complete. Whether the request is well-formed is for whoever serves it to say.
fn path(received: &[u8]) -> Option<&[u8]> {
    let line = received.split(|byte| matches!(byte, b'\r' | b'\n')).next()?;
    let mut words = line.split(|byte| *byte == b' ');
    let (method, target) = (words.next()?, words.next()?);
    // The blank behind the target was there, and before it something that can be a method.
    words.next().filter(|_| method.first().is_some_and(u8::is_ascii_alphabetic))?;
    let scheme_end = target.windows(3).position(|window| window == b"://");
    let path_and_query = match scheme_end {
        // RFC 9112, 3.2.2: a whole URL, as if we were a proxy.
        Some(scheme_end) if !target.starts_with(b"/") => {
            let url = &target[scheme_end + 3..];
            &url[url.iter().position(|byte| *byte == b'/')?..]
        }
        _ => target,
    };
    path_and_query.split(|byte| *byte == b'?').next()
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;
    use crate::config::{Endpoint, EndpointId, ListenAddress, Origins};

    fn listener(control: &[&str], endpoints: &[&str]) -> Listener {
        let endpoint = |path: &&str| Endpoint { path: (*path).to_owned(), id: EndpointId(0) };
        Listener {
            address: ListenAddress::Ip((Ipv4Addr::LOCALHOST, 0).into()),
            backlog: None,
            endpoints: endpoints.iter().map(endpoint).collect(),
            longpoll: Vec::new(),
            rawsocket: None,
            origins: Origins::default(),
            tls: None,
            cookie: None,
            control: control.iter().map(|&prefix| prefix.to_owned()).collect(),
        }
    }

    #[test]
    fn a_request_line_that_names_a_control_path_is_known_as_soon_as_its_path_is_complete() {
        let listener = listener(&["/v1/"], &["/ws"]);
        let head = b"POST /v1/publish?x=/ws HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\n\r\n{\"a\"";
        for length in 0..=head.len() {
            let known = length >= b"POST /v1/publish?x=/ws ".len();
            assert_eq!(is_for_control(&listener, &head[..length]), known, "{length} bytes");
        }
    }

    #[test]
    fn what_is_for_control() {
        let listener = listener(&["/v1/", "/admin/"], &["/ws", "/v1/ws", "*"]);
        for (line, expected) in [
            ("GET /v1/topics HTTP/1.1", true),
            ("DELETE /admin/x HTTP/1.0", true),
            ("POST http://a.example/v1/publish HTTP/1.1", true),
            ("GET /v1/ HTTP/1.1", true),
            ("GET /v1/ws/more HTTP/1.1", true),
            ("GET /v1/ws HTTP/1.1", false),
            ("GET /v1/ws?a HTTP/1.1", false),
            ("GET /v1 HTTP/1.1", false),
            ("GET /ws?to=/v1/ HTTP/1.1", false),
            ("GET /V1/topics HTTP/1.1", false),
            ("GET http://v1/ HTTP/1.1", false),
            ("GET http://a.example HTTP/1.1", false),
            ("GET /redirect?to=http://a/v1/ HTTP/1.1", false),
            ("GET /v1/topics", false),
            ("GET", false),
            (" /v1/topics HTTP/1.1", false),
        ] {
            assert_eq!(is_for_control(&listener, format!("{line}\r\n").as_bytes()), expected, "{line}");
        }
    }

    #[test]
    fn a_listener_that_offers_none_hands_nothing_over() {
        assert!(!is_for_control(&listener(&[], &["/ws"]), b"GET /v1/topics HTTP/1.1\r\n"));
    }
}
