//! The cookie by which a router knows a browser again: what is read of a handshake's `Cookie`, and what its answer sets
//! (RFC 6265). No socket here, and nothing of who logs in.
//!
//! A browser sends its cookies along whichever page asks it to connect, so a page's origin decides whether they count
//! ([`CookieCase::allows`]), more narrowly than whether it may connect.

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
}

impl CookieCase<'_> {
    /// Whether the page that asks may use it: one of the same host and port, or a listed one. A request without an origin is a
    /// program's, which has no cookies but its own.
    ///
    /// A page that came without TLS can be anybody's who is in between, so it does not use a secure one.
    pub(crate) fn allows(&self, origins: &Origins, upgrade: &Upgrade<'_>) -> bool {
        let host = upgrade.fields().get("host");
        upgrade.origin().is_none_or(|origin| {
            let is_sure = !self.is_secure
                || origin.get(..8).is_some_and(|scheme| scheme.eq_ignore_ascii_case("https://"));
            is_listed(origins, origin) || is_sure && is_same_host(origin, host)
        })
    }

    /// What the client brings. None if that is not as we make them, or is there twice: then the one may be ours,
    /// and the other somebody else's who could set it for a part of our host.
    pub(crate) fn brought<'f>(&self, fields: &Fields<'f>) -> Option<&'f str> {
        let pairs = fields.all("cookie").flat_map(|list| list.split(';'));
        let mut values = pairs.filter_map(|pair| {
            let (name, value) = pair.trim_matches([' ', '\t']).split_once('=')?;
            self.is_named(name).then_some(value)
        });
        let value = values.next()?;
        let is_ours = value.len() == 2 * VALUE_BYTES && value.bytes().all(|byte| byte.is_ascii_hexdigit());
        (is_ours && values.next().is_none()).then_some(value)
    }

    /// A new one of these random bytes, with what sets it.
    pub(crate) fn new_one(&self, bytes: [u8; VALUE_BYTES], time: Duration) -> (CookieId, String) {
        let mut value = String::with_capacity(2 * VALUE_BYTES);
        bytes.iter().for_each(|byte| write!(value, "{byte:02x}").expect("a String grows"));
        (hash(&value), self.set(&value, time))
    }

    /// What sets this value, for this time from now on.
    pub(crate) fn set(&self, value: &str, time: Duration) -> String {
        let prefix = if self.is_secure { HOST_PREFIX } else { "" };
        let secure = if self.is_secure { "; Secure" } else { "" };
        let CookieRule { name, same_site, .. } = self.rule;
        format!(
            "{prefix}{name}={value}; Path=/; Max-Age={}; HttpOnly; SameSite={}{secure}",
            time.as_secs(),
            same_site.word()
        )
    }

    fn is_named(&self, name: &str) -> bool {
        let name = if self.is_secure { name.strip_prefix(HOST_PREFIX) } else { Some(name) };
        name == Some(self.rule.name.as_str())
    }
}

/// What a value is known by.
pub(crate) fn hash(value: &str) -> CookieId {
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
            assert_eq!(case.brought_of(&format!("Cookie: {pair}\r\n")), Some(id));
            assert_eq!(case.set(&"a5".repeat(VALUE_BYTES), Duration::from_secs(90)), set);
            let other = rule.over(!tls).brought_of(&format!("Cookie: {pair}\r\n"));
            assert_eq!(other.is_some(), secure, "{pair}: with TLS and without are two cookies");
        }
    }

    impl CookieCase<'_> {
        fn brought_of(&self, lines: &str) -> Option<CookieId> {
            with(lines, |upgrade| self.brought(upgrade.fields()).map(hash))
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
            assert_eq!(case.brought_of(&lines), Some(hash(VALUE)), "{lines}");
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
            assert_eq!(case.brought_of(&lines), None, "{lines}");
        }
    }

    #[test]
    fn a_secure_cookie_is_not_for_pages_that_came_without_tls() {
        let origins = Origins { any: false, allowed: vec!["http://kiosk.example".into()] };
        let rule = rule(true);
        for (origin, is_allowed) in [
            ("https://A.example:8080", true),
            ("http://a.example:8080", false),
            ("http://kiosk.example", true),
        ] {
            let allows = |upgrade: &Upgrade<'_>| rule.over(false).allows(&origins, upgrade);
            assert_eq!(with(&format!("Origin: {origin}\r\n"), allows), is_allowed, "{origin}");
        }
    }

    #[test]
    fn only_pages_of_the_own_host_and_listed_ones_use_it() {
        let rule = rule(false);
        let case = rule.over(false);
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
            let allowed = with(&format!("Origin: {origin}\r\n"), |upgrade| case.allows(&origins, upgrade));
            assert_eq!(allowed, is_allowed, "{origin}");
        }
        assert!(with("", |upgrade| case.allows(&origins, upgrade)));
    }
}
