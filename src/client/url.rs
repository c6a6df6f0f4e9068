//! `ws://host[:port][/path]` or `unix:/socket[:/path]`, taken apart.

use std::path::PathBuf;

use super::failure::Failure;

/// Where `fanwire` serves WAMP unless configured otherwise.
const DEFAULT_PATH: &str = "/ws";

/// A WebSocket address.
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
        /// Port.
        port: u16,
    },
    /// A Unix socket.
    Unix(PathBuf),
}

impl Url {
    /// Reads a URL. One without any path means `/ws`.
    pub fn parse(text: &str) -> Result<Self, Failure> {
        let wrong =
            |why: &str| Failure::Usage(format!("--url {text}: {why}; write it like ws://127.0.0.1:8080/ws"));
        if let Some(rest) = text.strip_prefix("unix:").or_else(|| text.strip_prefix("ws+unix:")) {
            return Self::parse_unix(rest).map_err(wrong);
        }
        let rest = match text.split_once("://") {
            Some(("ws", rest)) => rest,
            Some(("wss" | "https", _)) => return Err(wrong("TLS is not spoken yet")),
            Some((scheme, _)) => return Err(wrong(&format!("{scheme}:// is no WebSocket address"))),
            None => text,
        };
        let (authority, target) = match rest.find(['/', '?']) {
            Some(at) if rest[at..].starts_with('/') => (&rest[..at], rest[at..].to_owned()),
            Some(at) => (&rest[..at], format!("{DEFAULT_PATH}{}", &rest[at..])),
            None => (rest, DEFAULT_PATH.to_owned()),
        };
        if !text.bytes().all(|byte| byte.is_ascii_graphic())
            || authority.contains(['@', '#'])
            || target.contains('#')
        {
            return Err(wrong("it has characters that cannot stand there"));
        }
        let (host, port) = match authority.strip_prefix('[') {
            Some(rest) => {
                let (host, port) = rest.split_once(']').ok_or_else(|| wrong("a bracket is missing"))?;
                (host, port.strip_prefix(':'))
            }
            None => match authority.split_once(':') {
                Some((host, port)) => (host, Some(port)),
                None => (authority, None),
            },
        };
        if host.is_empty() {
            return Err(wrong("the host is missing"));
        }
        let port = match port {
            Some(port) => port.parse().map_err(|_| wrong(&format!("{port:?} is no port")))?,
            None => 80,
        };
        let place = Place::Ip { host: host.to_owned(), port };
        Ok(Self { place, target, authority: authority.to_owned() })
    }

    /// `/socket[:/path]`, also with the two slashes of a URL in front.
    fn parse_unix(rest: &str) -> Result<Self, &'static str> {
        let rest = rest.strip_prefix("//").filter(|rest| rest.starts_with('/')).unwrap_or(rest);
        let (socket, target) = match rest.find(":/") {
            Some(at) => (&rest[..at], &rest[at + 1..]),
            None => (rest, DEFAULT_PATH),
        };
        if socket.is_empty() {
            return Err("the path of the socket is missing");
        }
        if !target.bytes().all(|byte| byte.is_ascii_graphic()) || target.contains('#') {
            return Err("it has characters that cannot stand there");
        }
        let place = Place::Unix(socket.into());
        Ok(Self { place, target: target.to_owned(), authority: "localhost".to_owned() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
            let url = Url::parse(text).expect(text);
            let place = Place::Ip { host: host.to_owned(), port };
            assert_eq!((url.place, url.target.as_str()), (place, target), "{text}");
        }
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
            let url = Url::parse(text).expect(text);
            assert_eq!((url.place, url.target.as_str()), (Place::Unix(socket.into()), target), "{text}");
            assert_eq!(url.authority, "localhost");
        }
    }

    #[test]
    fn what_is_no_url_is_refused_in_words() {
        for (text, why) in [
            ("wss://a/ws", "TLS is not spoken yet"),
            ("http://a/ws", "http:// is no WebSocket address"),
            ("ws://:80/", "the host is missing"),
            ("ws://a:b/", "\"b\" is no port"),
            ("ws://[::1/", "a bracket is missing"),
            ("ws://me@a/", "it has characters that cannot stand there"),
            ("unix:", "the path of the socket is missing"),
            ("unix:/a:/b c", "it has characters that cannot stand there"),
            ("ws://a/\r\nX: y", "it has characters that cannot stand there"),
        ] {
            let Err(Failure::Usage(words)) = Url::parse(text) else { panic!("{text} was accepted") };
            assert!(words.contains(why), "{words}");
        }
    }
}
