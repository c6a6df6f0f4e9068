//! `ws://host[:port][/path]`, taken apart.

use super::failure::Failure;

/// Where `fanwire` serves WAMP unless configured otherwise.
const DEFAULT_PATH: &str = "/ws";

/// A WebSocket address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Url {
    /// Name or address, without brackets.
    pub host: String,
    /// Port.
    pub port: u16,
    /// Path and query, beginning with a slash.
    pub target: String,
    /// For the `Host` header: as written.
    pub authority: String,
}

impl Url {
    /// Reads a URL. One without any path means `/ws`.
    pub fn parse(text: &str) -> Result<Self, Failure> {
        let wrong =
            |why: &str| Failure::Usage(format!("--url {text}: {why}; write it like ws://127.0.0.1:8080/ws"));
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
        Ok(Self { host: host.to_owned(), port, target, authority: authority.to_owned() })
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
            assert_eq!((url.host.as_str(), url.port, url.target.as_str()), (host, port, target), "{text}");
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
            ("ws://a/\r\nX: y", "it has characters that cannot stand there"),
        ] {
            let Err(Failure::Usage(words)) = Url::parse(text) else { panic!("{text} was accepted") };
            assert!(words.contains(why), "{words}");
        }
    }
}
