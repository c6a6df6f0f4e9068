//! Where clients connect.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::NO_FILE;
use super::endpoint::{Endpoint, Protocol};
use crate::config::bind::{Bind, FileMode};
use crate::config::describe::described;
use crate::config::units::{Auto, Count};

described! {
    /// One address where clients connect.
    #[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
    #[serde(deny_unknown_fields)]
    pub struct Listener {
        /// IP address and port where clients connect, or a Unix socket: `"unix:/run/fanwire.sock"`.
        ///
        /// Port 0 takes a free one, which the banner prints. `[::]` takes IPv4 too. The file of a Unix socket is removed at
        /// the end, and at the start if nobody listens there any more; its folder must exist.
        #[acts(restart)]
        pub bind: Bind,
        /// Permissions of the file of a Unix socket; who may write may connect. `auto`: `"0660"`, the owner and the group.
        #[acts(restart)]
        #[serde(default = "Listener::default_mode")]
        pub mode: Auto<FileMode>,
        /// Connections that may wait in the kernel until a shard accepts them, for each shard. `auto`: `net.core.somaxconn`.
        ///
        /// The kernel cuts it at that (4096 on most systems). Beyond it a client tries again after a second or more; on a Unix
        /// socket it waits, or is refused if it does not want to. Raise both where thousands connect in one moment.
        #[acts(restart)]
        #[serde(default = "Listener::default_backlog")]
        pub backlog: Auto<Count>,
        /// Further web pages that may connect: origins such as `"https://app.example.org"`, or `"*"` for all.
        ///
        /// Pages loaded from the same host or from this machine always may, and so may programs, which send no Origin. Others
        /// are answered 403.
        #[acts(new_connections)]
        #[serde(default)]
        pub allowed_origins: Vec<String>,
        /// Path → protocol: `wamp`, `wamp-longpoll`, `message-center`, `echo` or `lua`.
        ///
        /// The last three are configured in `[message_center]`, `[echo]` and, by the same path, `[[lua]]`. The path `*` is all that no other endpoint has; without it they are answered 404. WAMP's subprotocols are `wamp.2.json`,
        /// `wamp.2.msgpack` and `wamp.2.cbor`, the same with `.batched`, and `wamp` for version 1 (`[wamp1]`); the others have
        /// none. A WAMP endpoint may be for one realm, or some serializers: `"/devices" = { protocol = "wamp", realm = "devices", serializers = ["cbor"] }`. Who joins
        /// another realm there is told `wamp.error.no_such_realm`. `wamp-longpoll` is WAMP for clients without WebSocket, below the path: see
        /// [transports](transports.md#long-polling).
        #[acts(restart)]
        #[serde(default = "Listener::default_endpoints")]
        pub endpoints: BTreeMap<String, Endpoint>,
        /// WAMP over RawSocket at this address: `auto`, `off`, or the path of a WAMP endpoint, whose rules hold for it.
        ///
        /// The first byte tells it from HTTP, with TLS as without. `auto`: on where there is a WAMP endpoint, unless several differ in
        /// their realm or serializers: then name the path of one, or nobody is let in that way. [Transports](transports.md) has
        /// examples.
        #[acts(restart)]
        #[serde(default = "Listener::default_rawsocket")]
        pub rawsocket: String,
        /// Whether the HTTP API is here, at `/v1/`: `true`, `false`, or `auto`: where only this machine can connect.
        ///
        /// It is not served over TLS, so not where `tls` is without `plain`. Where other machines can connect it needs a key, `[[http_api.key]]`, or Fanwire does not start.
        #[acts(restart)]
        #[serde(default = "Listener::default_api")]
        pub api: Auto<bool>,
        /// Logins by cookie: on where it has a name, for realms that have a `cookie_time`. See [logins](logins.md#cookies).
        #[acts(inside)]
        #[serde(default)]
        pub cookie: Cookie,
        /// TLS, for `wss://`: on where `cert` and `key` are named.
        #[acts(inside)]
        #[serde(default)]
        pub tls: Tls,
    }
}

described! {
    /// TLS of a listener.
    #[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
    #[serde(deny_unknown_fields, default)]
    pub struct Tls {
        /// File with the certificate in PEM, and behind it those that lead to its authority; `"none"`: no TLS.
        ///
        /// A relative path begins at the folder of the file that names it. The files are read again with each
        /// [reload](operators.md#reload).
        #[acts(new_connections)]
        pub cert: String,
        /// File with its private key in PEM, without a passphrase.
        #[acts(new_connections)]
        pub key: String,
        /// Certificates for other names: `further = [{ cert = "…", key = "…" }]`.
        ///
        /// A client gets the one that is for the host it asks for, also by a wildcard such as `*.example.org`; if none is, or
        /// it names no host, the first.
        #[acts(new_connections)]
        pub further: Vec<CertificatePair>,
        /// Whether clients without TLS are served at this port too; the first byte tells.
        ///
        /// Without it they are answered 400, in words.
        #[acts(new_connections)]
        pub plain: bool,
        /// File with the authorities of client certificates, in PEM; `"none"`: clients are asked for none.
        ///
        /// Who connects without TLS shows no certificate: leave `plain` out where it counts.
        #[acts(new_connections)]
        pub client_ca: String,
        /// Whether a client must show a certificate of `client_ca`: `required` or `optional`.
        #[acts(new_connections)]
        pub client_certificates: ClientCertificates,
    }
}

described! {
    /// The cookie by which a browser is known again.
    #[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
    #[serde(deny_unknown_fields, default)]
    pub struct Cookie {
        /// Its name, such as `"fanwire"`; `"none"`: clients get no cookie.
        ///
        /// Where browsers send it over TLS alone, `__Host-` stands before it.
        #[acts(new_connections)]
        pub name: String,
        /// From which pages browsers send it: `strict` (the router's own site), `lax` (and by a link) or `none` (all).
        ///
        /// `none` needs TLS. Whatever browsers send, only pages of the same host and port and those in `allowed_origins` can use it.
        #[acts(new_connections)]
        pub same_site: SameSite,
        /// Browsers are to send it over TLS alone, though this listener has none: a proxy before it has.
        ///
        /// With TLS it is always so.
        #[acts(new_connections)]
        pub secure: bool,
    }
}

impl Default for Cookie {
    fn default() -> Self {
        Self { name: NO_FILE.to_owned(), same_site: SameSite::Strict, secure: false }
    }
}

impl Cookie {
    /// Its name, if clients get one.
    pub fn name(&self) -> Option<&str> {
        (self.name != NO_FILE).then_some(self.name.as_str())
    }
}

/// From which pages browsers send a cookie.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum SameSite {
    /// Pages of the same site.
    Strict,
    /// And such as were come to by a link.
    Lax,
    /// All.
    None,
}

impl Default for Tls {
    fn default() -> Self {
        let none = || NO_FILE.to_owned();
        Self {
            cert: none(),
            key: none(),
            further: Vec::new(),
            plain: false,
            client_ca: none(),
            client_certificates: ClientCertificates::Required,
        }
    }
}

impl Tls {
    /// The certificate's file.
    pub fn cert(&self) -> Option<&str> {
        (self.cert != NO_FILE).then_some(self.cert.as_str())
    }

    /// The key's file.
    pub fn key(&self) -> Option<&str> {
        (self.key != NO_FILE).then_some(self.key.as_str())
    }

    /// Both, if this listener speaks TLS.
    pub fn pair(&self) -> Option<(&str, &str)> {
        Some((self.cert()?, self.key()?))
    }

    /// The file with the authorities of client certificates.
    pub fn client_ca(&self) -> Option<&str> {
        (self.client_ca != NO_FILE).then_some(self.client_ca.as_str())
    }
}

/// A certificate and its key. Explained at `listener.tls.further`.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct CertificatePair {
    /// File with the certificate.
    pub cert: String,
    /// File with its private key.
    pub key: String,
}

/// Whether clients must show a certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ClientCertificates {
    /// Who has none is refused.
    Required,
    /// Who has none is let in; a wrong one is refused.
    Optional,
}

impl Listener {
    /// A listener with everything but the address at its default.
    pub fn at(bind: Bind) -> Self {
        let (mode, backlog) = (Auto::Auto, Auto::Auto);
        let (allowed_origins, endpoints) = (Vec::new(), Self::default_endpoints());
        let (rawsocket, api, tls) = (Self::default_rawsocket(), Self::default_api(), Tls::default());
        let cookie = Cookie::default();
        Self { bind, mode, backlog, allowed_origins, endpoints, rawsocket, api, cookie, tls }
    }

    /// What RawSocket clients are served as; `None`: they are not.
    pub fn rawsocket(&self) -> Option<&Endpoint> {
        let is_wamp = |endpoint: &&Endpoint| endpoint.protocol == Protocol::Wamp;
        match self.rawsocket.as_str() {
            RAWSOCKET_OFF => None,
            RAWSOCKET_AUTO => {
                let mut wamp = self.endpoints.values().filter(is_wamp);
                let first = wamp.next()?;
                wamp.all(|other| other == first).then_some(first)
            }
            path => self.endpoints.get(path).filter(is_wamp),
        }
    }

    /// Whether the HTTP API is here.
    pub fn offers_api(&self) -> bool {
        self.api.given().copied().unwrap_or_else(|| self.bind.is_local() && self.speaks_plain())
    }

    /// Whether connections without TLS are served.
    pub fn speaks_plain(&self) -> bool {
        self.tls.plain || self.tls.pair().is_none()
    }

    fn default_api() -> Auto<bool> {
        Auto::Auto
    }

    fn default_mode() -> Auto<FileMode> {
        Auto::Auto
    }

    fn default_backlog() -> Auto<Count> {
        Auto::Auto
    }

    fn default_endpoints() -> BTreeMap<String, Endpoint> {
        BTreeMap::from([("/ws".to_owned(), Protocol::Wamp.into())])
    }

    fn default_rawsocket() -> String {
        RAWSOCKET_AUTO.to_owned()
    }
}

/// In `rawsocket`: as the WAMP endpoints are, if they are alike.
pub const RAWSOCKET_AUTO: &str = "auto";
/// In `rawsocket`: not at all.
pub const RAWSOCKET_OFF: &str = "off";
/// In `allowed_origins`: every page on the web.
pub const ORIGIN_ANY: &str = "*";
