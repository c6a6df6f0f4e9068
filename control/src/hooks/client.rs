//! The HTTP client: one request, one reply, bounded in time and bytes.

use std::error::Error;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::http::{HeaderMap, Request, Uri};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::client::legacy::{Client as Pool, Error as PoolError};
use hyper_util::rt::{TokioExecutor, TokioTimer};
use rustls::{ClientConfig, RootCertStore};

use super::HookConfig;
use super::message::Message;
use super::reply::{Failure, Received};

/// Body of a reply. One that needs more is no answer to a question.
const REPLY_BYTES_MAX: usize = 64 << 10;
/// Head of a reply.
const HEAD_BYTES_MAX: usize = 64 << 10;
/// Shorter than servers keep idle connections, which is 5 s with many of them: a request on one that is being closed fails.
const IDLE_TIME: Duration = Duration::from_secs(4);

/// Where a hook is: `http://` or `https://`, a host, and no user.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HookUrl(Uri);

impl HookUrl {
    /// Whether it is reached by TLS.
    pub fn is_tls(&self) -> bool {
        self.0.scheme_str() == Some("https")
    }

    /// Whether what is sent there leaves this machine.
    pub fn is_local(&self) -> bool {
        let host = self.0.host().unwrap_or_default().trim_matches(['[', ']']);
        host == "localhost" || host.parse().is_ok_and(|ip: std::net::IpAddr| ip.is_loopback())
    }

    pub(crate) fn uri(&self) -> &Uri {
        &self.0
    }
}

impl FromStr for HookUrl {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text.contains('#') {
            return Err(format!("{text:?} has a fragment, which is never sent"));
        }
        let uri: Uri = text.parse().map_err(|error| format!("{text:?} is no URL: {error}"))?;
        match (uri.scheme_str(), uri.authority()) {
            (Some("http" | "https"), Some(authority)) if authority.as_str().contains('@') => {
                Err("users in URLs are not supported: use headers = { authorization = \"…\" }".to_owned())
            }
            (Some("http" | "https"), Some(authority)) if authority.host().is_empty() => {
                Err(format!("{text:?} names no host"))
            }
            (Some("http" | "https"), Some(_)) => Ok(Self(uri)),
            _ => Err(format!("{text:?} does not begin with http:// or https://")),
        }
    }
}

/// For the log: without the query, in which there may be a key.
impl fmt::Display for HookUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = self.0.to_string();
        f.write_str(text.split_once('?').map_or(&text, |(before, _)| before))
    }
}

/// There is a hook at an `https` address, and this machine has no certificates that say whom to trust.
#[derive(Debug, thiserror::Error)]
#[error(
    "the hook at {url} cannot be trusted, because this machine has no certificates of authorities{why}; install \
     ca-certificates, or name a file in SSL_CERT_FILE"
)]
pub struct TlsError {
    url: HookUrl,
    why: String,
}

/// Connections to all hooks. Cloning shares them.
#[derive(Clone, Debug)]
pub(crate) struct Client(Pool<HttpsConnector<HttpConnector>, Full<Bytes>>);

/// A reply, as it came.
#[derive(Clone, Debug)]
pub(crate) struct Fetched {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

impl Client {
    /// Reads the machine's certificates, if one of the hooks needs them.
    pub(super) fn new(hooks: &[HookConfig]) -> Result<Self, TlsError> {
        let mut urls = hooks.iter().filter_map(|hook| hook.target.url());
        let roots = match urls.find(|url| url.is_tls()) {
            Some(url) => native_roots().map_err(|why| TlsError { url: url.clone(), why })?,
            None => RootCertStore::empty(),
        };
        let idle_max = hooks.iter().map(|hook| hook.max_in_flight).max().unwrap_or_default();
        Ok(Self::trusting(roots, idle_max))
    }

    /// For addresses that are not known yet: `https` is trusted as this machine says.
    ///
    /// # Errors
    ///
    /// Why nobody can be trusted, as the end of a sentence.
    pub(crate) fn anywhere(is_tls: bool, idle_max: usize) -> Result<Self, String> {
        let roots = if is_tls { native_roots()? } else { RootCertStore::empty() };
        Ok(Self::trusting(roots, idle_max))
    }

    fn trusting(roots: RootCertStore, idle_max: usize) -> Self {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let tls = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("the provider has the usual versions")
            .with_root_certificates(roots)
            .with_no_client_auth();
        let mut http = HttpConnector::new();
        http.enforce_http(false);
        http.set_nodelay(true);
        let connector = HttpsConnectorBuilder::new()
            .with_tls_config(tls)
            .https_or_http()
            .enable_http1()
            .wrap_connector(http);
        let pool = Pool::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(IDLE_TIME)
            .pool_max_idle_per_host(idle_max)
            .http1_max_buf_size(HEAD_BYTES_MAX)
            .build(connector);
        Self(pool)
    }

    /// Asks; once more, if it may be asked twice, where the server has closed the connection without an answer: it was about
    /// to when the request came.
    pub(super) async fn ask(
        &self,
        hook: &HookConfig,
        url: &HookUrl,
        message: &Message,
        may_repeat: bool,
    ) -> Result<Received, Failure> {
        let request = || message.request(url.uri(), hook.body, &hook.headers);
        let fetched = self.fetch(request, may_repeat, hook.timeout, REPLY_BYTES_MAX).await?;
        Ok(Received { status: fetched.status, body: fetched.body })
    }

    /// The same for any request. No redirect is followed.
    pub(crate) async fn fetch(
        &self,
        request: impl Fn() -> Request<Bytes>,
        may_repeat: bool,
        timeout: Duration,
        reply_bytes_max: usize,
    ) -> Result<Fetched, Failure> {
        let send = || self.0.request(request().map(Full::new));
        let exchange = async {
            let response = match send().await {
                Err(error) if may_repeat && is_cut_off(&error) => send().await,
                other => other,
            };
            let response = response.map_err(|error| unreachable(&error))?;
            let (head, body) = response.into_parts();
            let body = Limited::new(body, reply_bytes_max).collect().await;
            let body = body.map_err(|error| match error.is::<LengthLimitError>() {
                true => Failure::TooLarge,
                false => Failure::Unreachable(innermost(&*error)),
            })?;
            Ok(Fetched { status: head.status.as_u16(), headers: head.headers, body: body.to_bytes() })
        };
        tokio::time::timeout(timeout, exchange).await.unwrap_or(Err(Failure::Timeout))
    }
}

/// What a URL holds: a text of some size at most, in some seconds at most. On a thread of its own, where looking up a host's name
/// blocks nobody.
///
/// # Errors
///
/// In words, why it cannot be had.
pub(crate) async fn fetch(url: HookUrl) -> Result<String, String> {
    let (answer, answered) = tokio::sync::oneshot::channel();
    let work = move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let fetched = match runtime {
            Ok(runtime) => runtime.block_on(async {
                let timed_out = || Err("it did not answer in time".to_owned());
                tokio::time::timeout(FETCH_TIME, get(&url)).await.unwrap_or_else(|_| timed_out())
            }),
            Err(error) => Err(error.to_string()),
        };
        _ = answer.send(fetched);
    };
    std::thread::Builder::new().name("fetch".into()).spawn(work).map_err(|error| error.to_string())?;
    answered.await.unwrap_or_else(|_| Err("the request panicked".to_owned()))
}

const FETCH_TIME: Duration = Duration::from_secs(5);

async fn get(url: &HookUrl) -> Result<String, String> {
    let client = Client::anywhere(url.is_tls(), 1)?;
    let request =
        hyper::Request::get(url.uri().clone()).header("accept", "application/json").body(Full::default());
    let response =
        client.0.request(request.expect("the URL was read")).await.map_err(|error| innermost(&error))?;
    let status = response.status();
    if !status.is_success() {
        return Err(format!("it answers {status}"));
    }
    let body = Limited::new(response.into_body(), REPLY_BYTES_MAX).collect().await;
    let body = body.map_err(|error| innermost(&*error))?.to_bytes();
    String::from_utf8(body.to_vec()).map_err(|_| "it is not UTF-8".to_owned())
}

fn native_roots() -> Result<RootCertStore, String> {
    let found = rustls_native_certs::load_native_certs();
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(found.certs);
    if roots.is_empty() {
        return Err(found.errors.first().map(|error| format!(" ({error})")).unwrap_or_default());
    }
    Ok(roots)
}

/// A head that is too large, or no HTTP at all, is a reply that cannot be understood.
fn unreachable(error: &PoolError) -> Failure {
    match http_error(error) {
        Some(http) if http.is_parse() || http.is_parse_too_large() => Failure::Invalid(innermost(http)),
        _ => Failure::Unreachable(innermost(error)),
    }
}

/// The connection ended before a reply began.
fn is_cut_off(error: &PoolError) -> bool {
    http_error(error).is_some_and(hyper::Error::is_incomplete_message)
}

fn http_error(error: &PoolError) -> Option<&hyper::Error> {
    let mut source: Option<&(dyn Error + 'static)> = Some(error);
    while let Some(error) = source {
        if let Some(http) = error.downcast_ref() {
            return Some(http);
        }
        source = error.source();
    }
    None
}

/// What lies at the bottom says most: "connection refused".
fn innermost(error: &(dyn Error + 'static)) -> String {
    let mut error = error;
    while let Some(source) = error.source() {
        error = source;
    }
    error.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls() {
        for url in ["http://127.0.0.1:8000/hook", "https://a.example", "http://[::1]:1/x?y=z", "HTTP://a/"] {
            assert!(url.parse::<HookUrl>().is_ok(), "{url}");
        }
        for url in [
            "",
            "/hook",
            "a.example/hook",
            "ftp://a/",
            "http://",
            "http://joe:x@a/",
            "http://a/#x",
            "file:///x",
        ] {
            assert!(url.parse::<HookUrl>().is_err(), "{url}");
        }
        let url: HookUrl = "http://a.example/x?key=secret".parse().expect("a URL");
        assert_eq!(url.to_string(), "http://a.example/x");
        let is_local = |url: &str| url.parse::<HookUrl>().expect(url).is_local();
        assert!(
            is_local("http://localhost/") && is_local("http://[::1]:1/") && is_local("http://127.0.0.9/")
        );
        assert!(!is_local("http://localhost.example/") && !is_local("http://10.0.0.1/"));
    }
}
