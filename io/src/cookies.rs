//! The cookie by which a router knows a browser again: what is read of a handshake's `Cookie`, and what its answer sets
//! (RFC 6265). No socket here, and nothing of who logs in.
//!
//! A browser sends its cookies along whichever page asks it to connect, so a page's origin decides whether they count
//! ([`CookieRule::allows`]), more narrowly than whether it may connect.

use std::fmt::Write as _;
use std::time::Duration;

use fanwire_codec::http::Fields;
use fanwire_codec::ws::handshake::Upgrade;
use fanwire_core::directory::CookieId;
use sha2::{Digest as _, Sha256};

use crate::config::Origins;
use crate::request::{is_listed, is_same_host};

/// The cookie of a listener.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CookieRule {
    /// Its name, a token; where it is secure, `__Host-` stands before it.
    pub name: String,
    /// From which pages browsers send it.
    pub same_site: SameSite,
    /// Browsers send it over TLS alone, though this listener has none: a proxy before it has.
    pub secure: bool,
}

/// From which pages browsers send a cookie, by their sites.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SameSite {
    /// Pages of the router's own site.
    Strict,
    /// And such as were come to by a link.
    Lax,
    /// All pages. Needs TLS.
    None,
}

impl SameSite {
    const fn word(self) -> &'static str {
        match self {
            Self::Strict => "Strict",
            Self::Lax => "Lax",
            Self::None => "None",
        }
    }
}

/// A rule, for one connection.
#[derive(Clone, Copy, Debug)]
pub struct CookieCase<'a> {
    rule: &'a CookieRule,
    is_secure: bool,
}

impl CookieRule {
    /// For a connection with TLS, or without.
    pub(crate) fn over(&self, tls: bool) -> CookieCase<'_> {
        CookieCase { rule: self, is_secure: tls || self.secure }
    }

    /// Whether the page that asks may use it: one of the same host and port, or a listed one. A request without an origin is a
    /// program's, which has no cookies but its own.
    pub(crate) fn allows(origins: &Origins, upgrade: &Upgrade<'_>) -> bool {
        let host = upgrade.fields().get("host");
        upgrade.origin().is_none_or(|origin| is_listed(origins, origin) || is_same_host(origin, host))
    }
}

impl CookieCase<'_> {
    /// What the client brings, by its hash. None if that is not as we make them, or is there twice: then the one may be ours,
    /// and the other somebody else's who could set it for a part of our host.
    pub(crate) fn brought(&self, fields: &Fields<'_>) -> Option<CookieId> {
        let pairs = fields.all("cookie").flat_map(|list| list.split(';'));
        let mut values = pairs.filter_map(|pair| {
            let (name, value) = pair.trim_matches([' ', '\t']).split_once('=')?;
            self.is_named(name).then_some(value)
        });
        let value = values.next()?;
        let is_ours = value.len() == 2 * VALUE_BYTES && value.bytes().all(|byte| byte.is_ascii_hexdigit());
        (is_ours && values.next().is_none()).then(|| hash(value))
    }

    /// A new one of these random bytes, with what sets it.
    pub(crate) fn new_one(&self, bytes: [u8; VALUE_BYTES], time: Duration) -> (CookieId, String) {
        let mut value = String::with_capacity(2 * VALUE_BYTES);
        bytes.iter().for_each(|byte| write!(value, "{byte:02x}").expect("a String grows"));
        let prefix = if self.is_secure { HOST_PREFIX } else { "" };
        let secure = if self.is_secure { "; Secure" } else { "" };
        let CookieRule { name, same_site, .. } = self.rule;
        let set = format!(
            "{prefix}{name}={value}; Path=/; Max-Age={}; HttpOnly; SameSite={}{secure}",
            time.as_secs(),
            same_site.word()
        );
        (hash(&value), set)
    }

    fn is_named(&self, name: &str) -> bool {
        let name = if self.is_secure { name.strip_prefix(HOST_PREFIX) } else { Some(name) };
        name == Some(self.rule.name.as_str())
    }
}

fn hash(value: &str) -> CookieId {
    CookieId(Sha256::digest(value).into())
}

/// Browsers take such a cookie only where it is secure, for all paths and for this host alone: nobody else's page, and nobody
/// in between, can plant one (RFC 6265bis, 4.1.3).
const HOST_PREFIX: &str = "__Host-";
/// Random ones: 256 bits.
pub(crate) const VALUE_BYTES: usize = 32;

#[cfg(test)]
mod tests {
    use super::*;
    use fanwire_codec::http::{HeadLimits, parse_request};

    const VALUE: &str = "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff";

    fn rule(secure: bool) -> CookieRule {
        CookieRule { name: "fanwire".into(), same_site: SameSite::Strict, secure }
    }

    fn with<T>(lines: &str, look: impl FnOnce(&Upgrade<'_>) -> T) -> T {
        let head = format!(
            "GET /ws HTTP/1.1\r\nHost: a.example:8080\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n{lines}\r\n"
        );
        let request = parse_request(head.as_bytes(), &HeadLimits::default()).expect("a request");
        look(&Upgrade::from_request(&request).expect("an upgrade"))
    }

    #[test]
    fn what_is_set_is_known_again() {
        for (tls, secure, prefix) in [(false, false, ""), (true, false, "__Host-"), (false, true, "__Host-")]
        {
            let rule = rule(secure);
            let case = rule.over(tls);
            let (id, set) = case.new_one([0xa5; VALUE_BYTES], Duration::from_secs(90));
            let (pair, attributes) = set.split_once("; ").expect("attributes");
            let end = if prefix.is_empty() { "" } else { "; Secure" };
            assert_eq!(attributes, format!("Path=/; Max-Age=90; HttpOnly; SameSite=Strict{end}"));
            assert!(pair.starts_with(&format!("{prefix}fanwire=a5a5")), "{pair}");
            let brought = with(&format!("Cookie: {pair}\r\n"), |upgrade| case.brought(upgrade.fields()));
            assert_eq!(brought, Some(id));
            let other = rule.over(!tls).brought_of(pair);
            assert_eq!(other.is_some(), secure, "{pair}: with TLS and without are two cookies");
        }
    }

    impl CookieCase<'_> {
        fn brought_of(&self, pair: &str) -> Option<CookieId> {
            with(&format!("Cookie: {pair}\r\n"), |upgrade| self.brought(upgrade.fields()))
        }
    }

    #[test]
    fn one_cookie_of_ours_is_taken_and_nothing_else() {
        let rule = rule(false);
        let case = rule.over(false);
        for lines in [
            format!("Cookie: fanwire={VALUE}\r\n"),
            format!("cookie: a=b; fanwire={VALUE}; fanwire2=x\r\n"),
            format!("Cookie: a=b\r\nCookie: fanwire={VALUE}\r\n"),
            format!("Cookie: a;;  fanwire={VALUE} ;b\r\n"),
        ] {
            let brought = with(&lines, |upgrade| case.brought(upgrade.fields()));
            assert_eq!(brought, Some(hash(VALUE)), "{lines}");
        }
        for lines in [
            String::new(),
            "Cookie: \r\n".to_owned(),
            "Cookie: fanwire\r\n".to_owned(),
            "Cookie: fanwire=\r\n".to_owned(),
            format!("Cookie: Fanwire={VALUE}\r\n"),
            format!("Cookie: __Host-fanwire={VALUE}\r\n"),
            format!("Cookie: fanwire={VALUE}0\r\n"),
            format!("Cookie: fanwire={}\r\n", &VALUE[1..]),
            format!("Cookie: fanwire={}\r\n", VALUE.replace('a', "g")),
            format!("Cookie: fanwire=\"{VALUE}\"\r\n"),
            format!("Cookie: fanwire={VALUE}; fanwire={VALUE}\r\n"),
            format!("Cookie: fanwire={VALUE}\r\nCookie: fanwire=x\r\n"),
        ] {
            let brought = with(&lines, |upgrade| case.brought(upgrade.fields()));
            assert_eq!(brought, None, "{lines}");
        }
    }

    #[test]
    fn only_pages_of_the_own_host_and_listed_ones_use_it() {
        let origins = Origins {
            any: true,
            allowed: vec!["https://app.example".into(), "http://localhost:3000".into()],
        };
        for (origin, is_allowed) in [
            ("http://a.example:8080", true),
            ("https://APP.example", true),
            ("http://localhost:3000", true),
            ("http://localhost:4000", false),
            ("http://127.0.0.1", false),
            ("http://a.example", false),
            ("https://evil.example", false),
            ("null", false),
        ] {
            let allowed =
                with(&format!("Origin: {origin}\r\n"), |upgrade| CookieRule::allows(&origins, upgrade));
            assert_eq!(allowed, is_allowed, "{origin}");
        }
        assert!(with("", |upgrade| CookieRule::allows(&origins, upgrade)));
    }
}
