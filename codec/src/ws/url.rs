//! Where a WebSocket is: `ws://host[:port][/path]` or `unix:/socket[:/path]`, taken apart. Nothing is looked up here.

use std::path::PathBuf;

use thiserror::Error;

/// A WebSocket address (RFC 6455, 3), or our way to write one behind a Unix socket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Url {
    /// What to connect to.
    pub place: Place,
    /// Path and query, beginning with a slash.
    pub target: String,
    /// For the `Host` header: as written, or `localhost` for a Unix socket.
    pub authority: String,
}

/// What to connect to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// By TCP.
    Ip {
        /// Name or address, without brackets.
        host: String,
        /// Port; that of the scheme if none is written.
        port: u16,
    },
    /// A Unix socket.
    Unix(PathBuf),
}

/// Why a text is no [`Url`].
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum UrlError {
    /// `wss://` or `https://`.
    #[error("TLS is not spoken here")]
    Tls,
    /// Another scheme than `ws`.
    #[error("{0}:// is no WebSocket address")]
    Scheme(String),
    /// A space, a control character, one beyond ASCII, user information or a fragment.
    #[error("it has characters that cannot stand there")]
    Characters,
    /// `[` without `]`.
    #[error("a bracket is missing")]
    Bracket,
    /// Nothing before the port or the path.
    #[error("the host is missing")]
    NoHost,
    /// Behind the colon is no number up to 65,535.
    #[error("{0:?} is no port")]
    Port(String),
    /// `unix:` and nothing behind it.
    #[error("the path of the socket is missing")]
    NoSocket,
}

impl Url {
    /// Reads `ws://host[:port][/path]`, also without the scheme, or `unix:/socket[:/path]`, also as `ws+unix:`. One
    /// without any path means `default_path`, which begins with a slash.
    pub fn parse(text: &str, default_path: &str) -> Result<Self, UrlError> {
        if let Some(rest) = text.strip_prefix("unix:").or_else(|| text.strip_prefix("ws+unix:")) {
            return Self::parse_unix(rest, default_path);
        }
        match text.split_once("://") {
            Some(("ws", rest)) => Self::parse_ip(rest, default_path),
            Some(("wss" | "https", _)) => Err(UrlError::Tls),
            Some((scheme, _)) => Err(UrlError::Scheme(scheme.to_owned())),
            None => Self::parse_ip(text, default_path),
        }
    }

    /// What follows `ws://` or another scheme of port 80: `host[:port][/path]`.
    pub fn parse_ip(rest: &str, default_path: &str) -> Result<Self, UrlError> {
        Self::parse_host(rest, default_path, 80)
    }

    /// What follows `wss://`, for who speaks TLS. [`parse`](Self::parse) refuses it.
    pub fn parse_tls(rest: &str, default_path: &str) -> Result<Self, UrlError> {
        Self::parse_host(rest, default_path, 443)
    }

    fn parse_host(rest: &str, default_path: &str, default_port: u16) -> Result<Self, UrlError> {
        let (authority, target) = match rest.find(['/', '?']) {
            Some(at) if rest[at..].starts_with('/') => (&rest[..at], rest[at..].to_owned()),
            Some(at) => (&rest[..at], format!("{default_path}{}", &rest[at..])),
            None => (rest, default_path.to_owned()),
        };
        if !is_visible(authority) || authority.contains(['@', '#']) || !is_target(&target) {
            return Err(UrlError::Characters);
        }
        let (host, port) = match authority.strip_prefix('[') {
            Some(rest) => {
                let (host, port) = rest.split_once(']').ok_or(UrlError::Bracket)?;
                (host, port.strip_prefix(':'))
            }
            None => match authority.split_once(':') {
                Some((host, port)) => (host, Some(port)),
                None => (authority, None),
            },
        };
        if host.is_empty() {
            return Err(UrlError::NoHost);
        }
        let port =
            port.map_or(Ok(default_port), |port| port.parse().map_err(|_| UrlError::Port(port.to_owned())))?;
        Ok(Self { place: Place::Ip { host: host.to_owned(), port }, target, authority: authority.to_owned() })
    }

    /// `/socket[:/path]`, also with the two slashes of a URL in front.
    fn parse_unix(rest: &str, default_path: &str) -> Result<Self, UrlError> {
        let rest = rest.strip_prefix("//").filter(|rest| rest.starts_with('/')).unwrap_or(rest);
        let (socket, target) = match rest.find(":/") {
            Some(at) => (&rest[..at], &rest[at + 1..]),
            None => (rest, default_path),
        };
        if socket.is_empty() {
            return Err(UrlError::NoSocket);
        }
        if !is_target(target) {
            return Err(UrlError::Characters);
        }
        let place = Place::Unix(socket.into());
        Ok(Self { place, target: target.to_owned(), authority: "localhost".to_owned() })
    }
}

/// Whether it can stand in the first line of a request.
fn is_target(text: &str) -> bool {
    is_visible(text) && !text.contains('#')
}

fn is_visible(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_graphic())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Url, UrlError> {
        Url::parse(text, "/ws")
    }

    #[test]
    fn urls_are_taken_apart() {
        for (text, host, port, target) in [
            ("ws://127.0.0.1:8080/ws", "127.0.0.1", 8080, "/ws"),
            ("ws://example.org", "example.org", 80, "/ws"),
            ("ws://example.org/", "example.org", 80, "/"),
            ("ws://example.org?a=b", "example.org", 80, "/ws?a=b"),
            ("ws://[::1]:9/a/b?c", "::1", 9, "/a/b?c"),
            ("localhost:8080", "localhost", 8080, "/ws"),
        ] {
            let url = parse(text).expect(text);
            let place = Place::Ip { host: host.to_owned(), port };
            assert_eq!((url.place, url.target.as_str()), (place, target), "{text}");
        }
        let tls = Url::parse_tls("example.org/a", "/ws").expect("a URL");
        assert_eq!(tls.place, Place::Ip { host: "example.org".to_owned(), port: 443 });
        assert_eq!(Url::parse("ws://a", "/").expect("a URL").target, "/");
        assert_eq!(parse("ws://[::1]:9/").expect("a URL").authority, "[::1]:9");
    }

    #[test]
    fn unix_sockets_are_named_with_or_without_a_path_behind() {
        for (text, socket, target) in [
            ("unix:/run/fanwire.sock", "/run/fanwire.sock", "/ws"),
            ("unix:/run/fanwire.sock:/a?b=c", "/run/fanwire.sock", "/a?b=c"),
            ("unix:///run/fanwire.sock", "/run/fanwire.sock", "/ws"),
            ("ws+unix:/run/fanwire.sock:/ws", "/run/fanwire.sock", "/ws"),
            ("unix:here.sock", "here.sock", "/ws"),
        ] {
            let url = parse(text).expect(text);
            assert_eq!((url.place, url.target.as_str()), (Place::Unix(socket.into()), target), "{text}");
            assert_eq!(url.authority, "localhost");
        }
    }

    #[test]
    fn what_is_no_url_is_refused_in_words() {
        for (text, why) in [
            ("wss://a/ws", "TLS is not spoken here"),
            ("http://a/ws", "http:// is no WebSocket address"),
            ("ws://:80/", "the host is missing"),
            ("ws:///x", "the host is missing"),
            ("ws://a:b/", "\"b\" is no port"),
            ("ws://a:65536/", "\"65536\" is no port"),
            ("ws://[::1/", "a bracket is missing"),
            ("ws://me@a/", "it has characters that cannot stand there"),
            ("ws://a/#b", "it has characters that cannot stand there"),
            ("ws://a/\r\nX: y", "it has characters that cannot stand there"),
            ("ws://a\r\nX: y/", "it has characters that cannot stand there"),
            ("unix:", "the path of the socket is missing"),
            ("unix:/a:/b c", "it has characters that cannot stand there"),
        ] {
            assert_eq!(parse(text).expect_err(text).to_string(), why, "{text}");
        }
    }
}
