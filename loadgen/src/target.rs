//! Where the server is: `ws://host:port/path`, `unix:/socket:/path`, `rs://host:port` or `rs://unix:/socket`, looked up once.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, ToSocketAddrs};

use fanwire_codec::ws::{Place, Url};
use rustix::net::SocketAddrUnix;

use crate::failure::Failure;
use crate::ports::connections_per_source;

/// A server, ready to be connected to.
#[derive(Clone, Debug)]
pub struct Target {
    /// `host:port` as the Host header says it.
    pub host: String,
    /// Path with query, beginning with `/`.
    pub path: String,
    /// The first address that the name has, or the socket.
    pub address: Address,
    /// No WebSocket: the bytes of a target's file as they are.
    pub is_plain_tcp: bool,
    /// WAMP over RawSocket.
    pub is_raw_socket: bool,
}

/// What is connected to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Address {
    /// By TCP.
    Ip(SocketAddr),
    /// A Unix socket, and its path for people.
    Unix(SocketAddrUnix, String),
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Address::Ip(address) => address.fmt(f),
            Address::Unix(_, path) => f.write_str(path),
        }
    }
}

impl Target {
    /// Takes a URL apart and resolves its name. One without a path means `default_path`.
    pub fn parse(url: &str, default_path: &str) -> Result<Self, Failure> {
        if let Some(rest) = url.strip_prefix("tcp://") {
            let parsed =
                Url::parse_ip(rest, "/").map_err(|why| Failure::usage(format!("--url {url}: {why}")))?;
            return Ok(Self { is_plain_tcp: true, ..Self::locate(url, parsed)? });
        }
        if let Some(rest) = url.strip_prefix("rs://") {
            let parsed =
                if rest.starts_with("unix:") { Url::parse(rest, "/") } else { Url::parse_ip(rest, "/") };
            let parsed = parsed.map_err(|why| {
                let example = "rs://127.0.0.1:8080, or rs://unix:/run/fanwire.sock";
                Failure::usage(format!("--url {url}: {why}; write it like {example}"))
            })?;
            return Ok(Self { is_raw_socket: true, ..Self::locate(url, parsed)? });
        }
        let parsed = Url::parse(url, default_path).map_err(|why| {
            let example =
                if url.contains("unix:") { "unix:/run/fanwire.sock:/ws" } else { "ws://127.0.0.1:8080/ws" };
            Failure::usage(format!("--url {url}: {why}; write it like {example}"))
        })?;
        Self::locate(url, parsed)
    }

    /// Takes an `http://` address apart, for who publishes by HTTP.
    pub fn parse_http(url: &str) -> Result<Self, Failure> {
        let rest = url
            .strip_prefix("http://")
            .ok_or_else(|| Failure::usage(format!("{url}: not an http:// address")))?;
        let parsed = Url::parse_ip(rest, "/").map_err(|why| Failure::usage(format!("{url}: {why}")))?;
        Self::locate(url, parsed)
    }

    fn locate(named: &str, url: Url) -> Result<Self, Failure> {
        let address = match &url.place {
            Place::Unix(path) => SocketAddrUnix::new(path)
                .map(|address| Address::Unix(address, path.display().to_string()))
                .map_err(|why| Failure::usage(format!("{named}: no path of a socket: {why}")))?,
            Place::Ip { host, port } => (host.as_str(), *port)
                .to_socket_addrs()
                .map_err(|why| {
                    Failure::cannot_connect(format!("{named}: {host} cannot be looked up: {why}"))
                })?
                .next()
                .map(Address::Ip)
                .ok_or_else(|| Failure::cannot_connect(format!("{named}: {host} has no address")))?,
        };
        let (is_plain_tcp, is_raw_socket) = (false, false);
        Ok(Self { host: url.authority, path: url.target, address, is_plain_tcp, is_raw_socket })
    }

    /// The local addresses that `connections` connections are spread over; empty means: let the kernel choose.
    pub fn source_addresses(&self, connections: usize, given: &[IpAddr]) -> Result<Vec<IpAddr>, Failure> {
        let Address::Ip(address) = self.address else {
            return match given {
                [] => Ok(Vec::new()),
                _ => Err(Failure::usage("--source: a Unix socket has no source addresses; leave it out")),
            };
        };
        // Ports are as many as `net.ipv4.ip_local_port_range` says; beyond them another source address is needed.
        let each = connections_per_source();
        let needed = connections.div_ceil(each);
        if !given.is_empty() {
            if given.len() < needed {
                return Err(Failure::usage(format!(
                    "{connections} connections need {needed} source addresses (at most {each} each), \
                     --source gives {}",
                    given.len()
                )));
            }
            return Ok(given.to_vec());
        }
        if needed <= 1 {
            return Ok(Vec::new());
        }
        match address.ip() {
            IpAddr::V4(ip) if ip.is_loopback() && needed < 250 => {
                Ok((0..needed).map(|n| IpAddr::V4(Ipv4Addr::new(127, 0, 0, 2 + n as u8))).collect())
            }
            _ => Err(Failure::usage(format!(
                "{connections} connections to {address} need {needed} local source addresses: give them with --source, \
                 or use a 127.x server address"
            ))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn url_is_taken_apart() {
        let target = Target::parse("ws://127.0.0.1:8080/ws?a=1", "/ws").unwrap();
        assert_eq!((target.host.as_str(), target.path.as_str()), ("127.0.0.1:8080", "/ws?a=1"));
        assert_eq!(target.address, Address::Ip("127.0.0.1:8080".parse().unwrap()));
        let target = Target::parse("ws://[::1]", "/ws").unwrap();
        assert_eq!(target.address, Address::Ip("[::1]:80".parse().unwrap()));
        assert_eq!(target.path, "/ws");
    }

    #[test]
    fn a_unix_socket_has_a_path_of_its_own() {
        for (url, socket, path) in [
            ("unix:/run/a.sock", "/run/a.sock", "/ws"),
            ("ws+unix:///run/a.sock:/x", "/run/a.sock", "/x"),
            ("unix:a.sock:/x?y", "a.sock", "/x?y"),
        ] {
            let target = Target::parse(url, "/ws").unwrap();
            assert_eq!((target.address.to_string().as_str(), target.path.as_str()), (socket, path));
            assert!(target.source_addresses(1_000_000, &[]).unwrap().is_empty());
        }
        assert!(Target::parse("unix:", "/ws").unwrap_err().words.contains("unix:/run"));
    }

    #[test]
    fn rawsocket_has_no_path() {
        for (url, address) in
            [("rs://127.0.0.1:8080", "127.0.0.1:8080"), ("rs://unix:/run/a.sock", "/run/a.sock")]
        {
            let target = Target::parse(url, "/ws").unwrap();
            assert_eq!((target.address.to_string().as_str(), target.is_raw_socket), (address, true));
        }
        assert!(!Target::parse("ws://127.0.0.1:1", "/ws").unwrap().is_raw_socket);
        assert!(Target::parse("rs://", "/ws").unwrap_err().words.contains("rs://127.0.0.1:8080"));
    }

    #[test]
    fn other_urls_are_refused_with_a_remedy() {
        assert!(Target::parse("wss://x/", "/ws").unwrap_err().words.contains("TLS"));
        assert!(Target::parse("http://x/", "/ws").unwrap_err().words.contains("ws://127.0.0.1:8080/ws"));
        assert!(Target::parse("ws:///x", "/ws").unwrap_err().words.contains("host"));
    }

    #[test]
    fn many_connections_are_spread_over_loopback_addresses() {
        let target = Target::parse("ws://127.0.0.1:8080/ws", "/ws").unwrap();
        let each = connections_per_source();
        assert!(target.source_addresses(each, &[]).unwrap().is_empty());
        assert_eq!(target.source_addresses(2 * each + 1, &[]).unwrap().len(), 3);
        let far = Target { address: Address::Ip("10.0.0.1:80".parse().unwrap()), ..target };
        assert!(far.source_addresses(2 * each, &[]).unwrap_err().words.contains("--source"));
    }
}
