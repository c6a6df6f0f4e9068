//! What to do with the first request of a connection: route by path, check that it is a WebSocket upgrade, and from
//! where. No socket here.

use std::net::IpAddr;

use fanwire_codec::http::{HttpError, RequestHead};
use fanwire_codec::ws::handshake::Upgrade;

use crate::config::{Endpoint, EndpointId, Listener, Origins};

/// Why a request is refused, with the response that says so.
#[derive(Debug)]
pub(crate) struct Refusal {
    pub(crate) error: HttpError,
    pub(crate) reason: RefusalReason,
}

/// For the counters.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum RefusalReason {
    BadRequest,
    Origin,
    Path,
    Upgrade,
    Subprotocol,
    ControlBusy,
    Memory,
}

/// Finds the endpoint and checks the upgrade.
pub(crate) fn route<'a>(
    listener: &Listener,
    request: &RequestHead<'a>,
) -> Result<(EndpointId, Upgrade<'a>), Refusal> {
    let Some(endpoint) = endpoint(listener, request.path()) else {
        let known = |endpoints: &[Endpoint]| -> Vec<_> {
            endpoints.iter().map(|endpoint| endpoint.path.clone()).collect()
        };
        let mut words = format!(
            "nothing is served at this path; WebSocket endpoints: {}",
            known(&listener.endpoints).join(", ")
        );
        if !listener.longpoll.is_empty() {
            words += &format!("; long-polling below: {}", known(&listener.longpoll).join(", "));
        }
        return Err(Refusal { error: HttpError::new(404, words), reason: RefusalReason::Path });
    };
    let upgrade = Upgrade::from_request(request).map_err(|error| Refusal {
        reason: if error.status() == 426 { RefusalReason::Upgrade } else { RefusalReason::BadRequest },
        error,
    })?;
    if let Some(origin) = upgrade.origin()
        && let Some(error) = origin_refusal(&listener.origins, origin, request.host())
    {
        return Err(Refusal { error, reason: RefusalReason::Origin });
    }
    Ok((endpoint, upgrade))
}

/// Why pages of this origin may not ask, if they may not.
pub(crate) fn origin_refusal(origins: &Origins, origin: &str, host: Option<&str>) -> Option<HttpError> {
    (!origin_allowed(origins, origin, host)).then(|| {
        let words = format!(
            "the origin {origin} may not connect here: only pages of this host and of loopback hosts may, and those \
             listed in the setting listener.allowed_origins"
        );
        HttpError::new(403, words)
    })
}

/// The long-polling endpoint that a path is below, and what follows it behind a slash. The longest one counts.
pub(crate) fn longpoll_path<'a>(listener: &Listener, path: &'a str) -> Option<(EndpointId, &'a str)> {
    let below = |endpoint: &Endpoint| {
        let rest = path.strip_prefix(endpoint.path.trim_end_matches('/'))?.strip_prefix('/')?;
        Some((endpoint.id, rest))
    };
    listener.longpoll.iter().filter_map(below).min_by_key(|(_, rest)| rest.len())
}

fn endpoint(listener: &Listener, path: &str) -> Option<EndpointId> {
    let exact = listener.endpoints.iter().find(|endpoint| endpoint.path == path);
    let any = || listener.endpoints.iter().find(|endpoint| endpoint.path == "*");
    exact.or_else(any).map(|endpoint| endpoint.id)
}

/// The rule of [`Origins`]. `Origin` is `scheme "://" host [":" port]` or `null` (RFC 6454, 7).
pub(crate) fn origin_allowed(origins: &Origins, origin: &str, host: Option<&str>) -> bool {
    let is_local = || web_origin(origin).is_some_and(|(origin_host, ..)| is_loopback(origin_host));
    origins.any || is_listed(origins, origin) || is_local() || is_same_host(origin, host)
}

/// Whether the origin is one of those that the operator has named.
pub(crate) fn is_listed(origins: &Origins, origin: &str) -> bool {
    origins.allowed.iter().any(|allowed| allowed.eq_ignore_ascii_case(origin))
}

/// Whether the origin is the host that is asked.
pub(crate) fn is_same_host(origin: &str, host: Option<&str>) -> bool {
    let Some((origin_host, origin_port, default_port)) = web_origin(origin) else { return false };
    let Some((own_host, own_port)) = host.and_then(split_authority) else { return false };
    // Behind a proxy that ends TLS, `Host` has no port and the origin's default is 443: an absent port is taken as the
    // origin's own default.
    origin_host.eq_ignore_ascii_case(own_host)
        && origin_port.unwrap_or(default_port) == own_port.unwrap_or(default_port)
}

/// Host, port and default port. `null` (a sandboxed frame, a local file, a redirect) can be anybody: only by being listed.
fn web_origin(origin: &str) -> Option<(&str, Option<u16>, u16)> {
    let (scheme, authority) = origin.split_once("://")?;
    let default_port = match scheme.to_ascii_lowercase().as_str() {
        "http" => 80,
        "https" => 443,
        // Another scheme's "same host" means nothing to us.
        _ => return None,
    };
    let (host, port) = split_authority(authority)?;
    Some((host, port, default_port))
}

/// Whether an authority, such as the value of `Host`, names this machine by what only this machine can mean.
pub fn is_loopback_authority(authority: &str) -> bool {
    split_authority(authority).is_some_and(|(host, _)| is_loopback(host))
}

/// `host[:port]` with a bracketed IPv6 address; `None` if there is anything else in it.
fn split_authority(authority: &str) -> Option<(&str, Option<u16>)> {
    if authority.is_empty() || authority.contains(['/', '@', '?', '#', ' ', '\\', ',']) {
        return None;
    }
    let (host, port) = match authority.strip_prefix('[') {
        Some(rest) => {
            let (address, rest) = rest.split_once(']')?;
            address.parse::<std::net::Ipv6Addr>().ok()?;
            (address, rest.strip_prefix(':').or_else(|| rest.is_empty().then_some("")))
        }
        None => match authority.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (authority, Some("")),
        },
    };
    if host.is_empty() {
        return None;
    }
    match port? {
        "" if !authority.ends_with(':') => Some((host, None)),
        port if port.bytes().all(|byte| byte.is_ascii_digit()) => Some((host, Some(port.parse().ok()?))),
        _ => None,
    }
}

fn is_loopback(host: &str) -> bool {
    host.eq_ignore_ascii_case("localhost")
        || host.len() > 10 && host.as_bytes()[host.len() - 10..].eq_ignore_ascii_case(b".localhost")
        || host.parse::<IpAddr>().is_ok_and(|address| address.to_canonical().is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::ListenAddress;
    use fanwire_codec::http::{HeadLimits, parse_request};
    use std::net::Ipv4Addr;

    fn listener(allowed: &[&str]) -> Listener {
        Listener {
            address: ListenAddress::Ip((Ipv4Addr::LOCALHOST, 0).into()),
            backlog: None,
            endpoints: vec![
                Endpoint { path: "/ws".into(), id: EndpointId(1) },
                Endpoint { path: "/other".into(), id: EndpointId(2) },
            ],
            longpoll: Vec::new(),
            rawsocket: None,
            control: Vec::new(),
            tls: None,
            cookie: None,
            origins: Origins {
                any: false,
                allowed: allowed.iter().map(|&origin| origin.to_owned()).collect(),
            },
        }
    }

    fn outcome(listener: &Listener, request: &str) -> Result<EndpointId, (u16, RefusalReason, String)> {
        let head = parse_request(request.as_bytes(), &HeadLimits::default()).unwrap();
        match route(listener, &head) {
            Ok((endpoint, _)) => Ok(endpoint),
            Err(refusal) => Err((refusal.error.status(), refusal.reason, refusal.error.to_string())),
        }
    }

    fn upgrade(path: &str, host: &str, origin: Option<&str>) -> String {
        let origin = origin.map(|origin| format!("Origin: {origin}\r\n")).unwrap_or_default();
        format!(
            "GET {path} HTTP/1.1\r\nHost: {host}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n{origin}\r\n"
        )
    }

    #[test]
    fn a_known_path_is_upgraded_with_or_without_query() {
        assert_eq!(outcome(&listener(&[]), &upgrade("/ws", "a.example", None)), Ok(EndpointId(1)));
        assert_eq!(outcome(&listener(&[]), &upgrade("/other?x=1", "a.example", None)), Ok(EndpointId(2)));
    }

    #[test]
    fn an_unknown_path_is_404_and_names_the_known_ones() {
        let (status, reason, words) =
            outcome(&listener(&[]), &upgrade("/wss", "a.example", None)).unwrap_err();
        assert_eq!((status, reason), (404, RefusalReason::Path));
        assert!(words.contains("/ws, /other"), "{words}");
    }

    #[test]
    fn a_star_endpoint_serves_every_other_path() {
        let mut listener = listener(&[]);
        listener.endpoints.push(Endpoint { path: "*".into(), id: EndpointId(3) });
        assert_eq!(outcome(&listener, &upgrade("/anything", "a.example", None)), Ok(EndpointId(3)));
        assert_eq!(outcome(&listener, &upgrade("/ws", "a.example", None)), Ok(EndpointId(1)));
    }

    #[test]
    fn a_plain_get_of_a_websocket_path_is_426() {
        let (status, reason, _) = outcome(&listener(&[]), "GET /ws HTTP/1.1\r\nHost: a\r\n\r\n").unwrap_err();
        assert_eq!((status, reason), (426, RefusalReason::Upgrade));
    }

    #[test]
    fn origins() {
        let listener = listener(&["https://app.example.org"]);
        let host = "router.example.org:8080";
        let table: &[(&str, &str, bool)] = &[
            (host, "http://router.example.org:8080", true),
            (host, "http://ROUTER.example.org:8080", true),
            (host, "http://router.example.org", false),
            (host, "http://router.example.org:8081", false),
            (host, "http://localhost", true),
            (host, "http://localhost:3000", true),
            (host, "https://app.localhost", true),
            (host, "http://127.0.0.1:5000", true),
            (host, "http://[::1]:5000", true),
            (host, "https://app.example.org", true),
            (host, "https://APP.example.org", true),
            (host, "http://app.example.org", false),
            (host, "https://app.example.org:444", false),
            (host, "https://app.example.org.evil.test", false),
            (host, "https://evil.test", false),
            (host, "https://notrouter.example.org:8080", false),
            (host, "http://router.example.org:8080.evil.test", false),
            (host, "http://router.example.org:8080@evil.test", false),
            (host, "http://evil.test/router.example.org:8080", false),
            (host, "http://localhost.evil.test", false),
            (host, "http://notlocalhost", false),
            (host, "http://127.0.0.1.evil.test", false),
            (host, "null", false),
            (host, "file://localhost", false),
            (host, "chrome-extension://router.example.org:8080", false),
            ("router.example.org", "https://router.example.org", true),
            ("router.example.org", "http://router.example.org", true),
            ("router.example.org", "http://router.example.org:80", true),
            ("router.example.org:443", "https://router.example.org", true),
            ("[2001:db8::1]:8080", "http://[2001:db8::1]:8080", true),
            ("[2001:db8::1]:8080", "http://[2001:db8::2]:8080", false),
        ];
        for (host, origin, allowed) in table {
            let got = outcome(&listener, &upgrade("/ws", host, Some(origin)));
            match (allowed, got) {
                (true, Ok(_)) => {}
                (false, Err((403, RefusalReason::Origin, words))) => {
                    assert!(words.contains("listener.allowed_origins"), "{words}");
                }
                (_, got) => panic!("{origin} at {host}: {got:?}"),
            }
        }
    }

    #[test]
    fn any_origin_if_the_operator_says_so() {
        let mut listener = listener(&[]);
        listener.origins.any = true;
        assert!(outcome(&listener, &upgrade("/ws", "a", Some("null"))).is_ok());
    }
}
