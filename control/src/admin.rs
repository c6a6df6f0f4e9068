//! The admin port: `/livez`, `/readyz`, `/metrics`, `/slow`, `/connections`, `/reload`, and `/` to find them.
//!
//! Whoever reaches the port may read it, so it is on loopback unless configured otherwise, and a stranger's connection costs
//! a bounded amount: a head has a deadline, a connection has one, and there are at most 64.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::{DefaultBodyLimit, RawQuery, State};
use axum::http::{HeaderMap, HeaderName, StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::{get, post};
use axum::{Extension, Router};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;

use crate::api::error::ApiError;
use crate::connections::{Connections, NoPage};
use crate::memory::MemoryFigures;
use crate::metrics::Metrics;
use crate::page;
use crate::reload::Reloads;
use crate::slow::{NoList, SlowList};
use crate::state::{Readiness, Reason};

/// Scrapers and probes need a few; more are a mistake or an attack.
const CONNECTIONS_MAX: usize = 64;
/// For a request head, and for the silence between two requests.
const HEAD_TIME: Duration = Duration::from_secs(10);
/// For one connection in all, so that one that does not read its answer ends too.
const CONNECTION_TIME: Duration = Duration::from_secs(300);
/// No request here has a body.
const BODY_BYTES_MAX: usize = 1 << 10;
/// When descriptors have run out, accepting again at once would only spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// What the handlers see.
pub struct Admin {
    /// The page.
    pub metrics: Metrics,
    /// Whether new clients are welcome.
    pub readiness: Arc<Readiness>,
    /// Who does not read in time.
    pub slow: SlowList,
    /// Who is connected.
    pub connections: Connections,
    /// How much memory is left.
    pub memory: Arc<MemoryFigures>,
    /// Reads the configuration again.
    pub reloads: Arc<Reloads>,
}

impl Admin {
    /// Why new clients are not welcome.
    fn not_ready(&self) -> Option<&'static str> {
        self.readiness.reason().map(Reason::words).or_else(|| self.memory.reason())
    }
}

/// Serves until the task is dropped.
pub async fn serve(listener: TcpListener, admin: Arc<Admin>) {
    let router = router(admin);
    let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    loop {
        let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
        let (stream, peer) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(%error, "the admin port cannot accept a connection");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let mut http = hyper::server::conn::http1::Builder::new();
        http.timer(TokioTimer::new()).header_read_timeout(HEAD_TIME).max_buf_size(16 << 10);
        let service = TowerToHyperService::new(router.clone().layer(Extension(Peer(peer))));
        let connection = http.serve_connection(TokioIo::new(stream), service);
        tokio::spawn(async move {
            // A peer's fault ends its connection, and that is all.
            _ = tokio::time::timeout(CONNECTION_TIME, connection).await;
            drop(place);
        });
    }
}

/// The routes.
pub fn router(admin: Arc<Admin>) -> Router {
    Router::new()
        .route("/", get(index))
        .route("/livez", get(livez))
        .route("/readyz", get(readyz))
        .route("/metrics", get(metrics))
        .route("/slow", get(slow))
        .route("/connections", get(connections))
        .route("/reload", post(reload))
        .fallback(not_found)
        .layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
        .with_state(admin)
}

const INDEX: &str = "Fanwire admin port
  /livez    200 while the process answers
  /readyz   200 while new clients are welcome, else 503 and why
  /metrics  counters for Prometheus
  /slow     clients that do not read in time, as JSON; ?limit=20&format=text
  /connections  who is connected, as JSON; ?limit=100&cursor=…
  /reload   POST reads the configuration again; ?check=true&format=text
";

async fn index() -> &'static str {
    INDEX
}

async fn livez() -> &'static str {
    "ok\n"
}

async fn readyz(State(admin): State<Arc<Admin>>) -> (StatusCode, String) {
    match admin.not_ready() {
        None => (StatusCode::OK, "ok\n".to_owned()),
        Some(reason) => (StatusCode::SERVICE_UNAVAILABLE, format!("not ready: {}\n", reason)),
    }
}

async fn metrics(State(admin): State<Arc<Admin>>) -> ([(HeaderName, &'static str); 2], String) {
    let head = [(header::CONTENT_TYPE, page::CONTENT_TYPE), (header::CACHE_CONTROL, "no-store")];
    (head, admin.metrics.render(admin.not_ready().is_none(), &admin.memory, &admin.reloads))
}

async fn slow(State(admin): State<Arc<Admin>>, RawQuery(query): RawQuery) -> impl IntoResponse {
    let (status, kind, body) = match admin.slow.answer(&query.unwrap_or_default()).await {
        Ok((kind, body)) => (StatusCode::OK, kind, body),
        Err(NoList::Query(words)) => (StatusCode::BAD_REQUEST, "text/plain", words + "\n"),
        Err(NoList::Silent(words)) => (StatusCode::SERVICE_UNAVAILABLE, "text/plain", words),
    };
    (status, [(header::CONTENT_TYPE, kind)], body)
}

async fn connections(State(admin): State<Arc<Admin>>, RawQuery(query): RawQuery) -> impl IntoResponse {
    let (status, kind, body) = match admin.connections.answer(&query.unwrap_or_default()).await {
        Ok(body) => (StatusCode::OK, "application/json", body),
        Err(NoPage::Query(words)) => (StatusCode::BAD_REQUEST, "text/plain", words + "\n"),
        Err(NoPage::Silent(words)) => (StatusCode::SERVICE_UNAVAILABLE, "text/plain", words),
    };
    (status, [(header::CONTENT_TYPE, kind)], body)
}

/// Who is at the other end.
#[derive(Clone, Copy)]
struct Peer(SocketAddr);

/// For the operators of this machine: no other one, and no web page, whose browser sends an Origin with each POST.
async fn reload(
    State(admin): State<Arc<Admin>>,
    Extension(Peer(peer)): Extension<Peer>,
    headers: HeaderMap,
    RawQuery(query): RawQuery,
) -> (StatusCode, [(HeaderName, &'static str); 1], String) {
    let text = |status, words: String| (status, [(header::CONTENT_TYPE, "text/plain; charset=utf-8")], words);
    if !peer.ip().to_canonical().is_loopback() || headers.contains_key(header::ORIGIN) {
        let words = "only programs of this machine may ask for a reload here\n";
        return text(StatusCode::FORBIDDEN, words.to_owned());
    }
    let (mut check_only, mut as_text) = (false, false);
    for part in query.unwrap_or_default().split('&').filter(|part| !part.is_empty()) {
        match part {
            "check=true" => check_only = true,
            "check=false" => check_only = false,
            "format=text" => as_text = true,
            "format=json" => as_text = false,
            _ => {
                let words = format!("{part}: only check=true and format=json or format=text are known\n");
                return text(StatusCode::BAD_REQUEST, words);
            }
        }
    }
    let outcome = admin.reloads.reload("admin port", check_only).await;
    // As by the API.
    let status = match &outcome {
        Ok(_) => StatusCode::OK,
        Err(refused) => {
            let status = ApiError::from(refused).status();
            StatusCode::from_u16(status).expect("errors have statuses of HTTP")
        }
    };
    if as_text {
        return text(status, outcome.map_or_else(|refused| format!("{refused}\n"), |report| report.text()));
    }
    let json = match &outcome {
        Ok(report) => serde_json::to_string_pretty(report).expect("plain values are written"),
        Err(refused) => String::from_utf8(ApiError::from(refused).body()).expect("JSON is text"),
    };
    (status, [(header::CONTENT_TYPE, "application/json")], json + "\n")
}

async fn not_found() -> (StatusCode, &'static str) {
    (StatusCode::NOT_FOUND, INDEX)
}
