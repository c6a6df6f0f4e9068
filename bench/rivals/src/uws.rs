//! uWebSockets, used as its manual recommends: topics and `publish`, no compression. `uws-broadcast PORT`.

mod protocol;

use protocol::{Request, SUBSCRIBED};
use uwebsockets_rs::app::App;
use uwebsockets_rs::http_request::HttpRequest;
use uwebsockets_rs::http_response::HttpResponse;
use uwebsockets_rs::us_socket_context_options::UsSocketContextOptions;
use uwebsockets_rs::websocket::{Opcode, WebSocket};
use uwebsockets_rs::websocket_behavior::{CompressOptions, UpgradeContext, WebSocketBehavior};

/// A socket publishes only if it is subscribed to something. Nobody publishes to this topic.
const PUBLISHERS: &str = "publishers";

/// A subscriber that is further behind is closed rather than silently left out.
const BACKPRESSURE_BYTES_MAX: u32 = 16 * 1024 * 1024;

fn main() {
    let port = std::env::args().nth(1).and_then(|port| port.parse().ok()).expect("usage: uws-broadcast PORT");
    let behavior = WebSocketBehavior {
        compression: CompressOptions::Disabled.into(),
        max_payload_length: 16 * 1024 * 1024,
        idle_timeout: 0,
        max_backpressure: BACKPRESSURE_BYTES_MAX,
        close_on_backpressure_limit: true,
        reset_idle_timeout_on_send: false,
        send_pings_automatically: false,
        max_lifetime: 0,
        upgrade: Some(Box::new(upgrade)),
        open: None,
        message: Some(Box::new(handle_message)),
        ping: None,
        pong: None,
        close: None,
        drain: None,
        subscription: None,
    };
    let options = UsSocketContextOptions {
        key_file_name: None,
        cert_file_name: None,
        passphrase: None,
        dh_params_file_name: None,
        ca_file_name: None,
        ssl_ciphers: None,
        ssl_prefer_low_memory_usage: None,
    };
    let announce = move |_| println!("listening ws://127.0.0.1:{port}/");
    App::new(options).ws("/*", behavior).listen(port, Some(announce)).run();
}

fn upgrade(response: HttpResponse, request: HttpRequest, context: UpgradeContext) {
    let Some(key) = request.get_header("sec-websocket-key") else { return };
    let (protocol, extensions) =
        (request.get_header("sec-websocket-protocol"), request.get_header("sec-websocket-extensions"));
    response.upgrade(key, protocol, extensions, context, None::<&mut ()>);
}

fn handle_message(socket: WebSocket, message: &[u8], _: Opcode) {
    match Request::read(message) {
        Some(Request::Subscribe(topic)) => {
            socket.subscribe(text(topic));
            socket.send(SUBSCRIBED.as_bytes(), Opcode::Text);
        }
        Some(Request::Publish { topic, payload }) => {
            let publish = || socket.publish_with_options(text(topic), payload, Opcode::Text, false);
            if !publish() {
                socket.subscribe(PUBLISHERS);
                publish();
            }
        }
        None => {}
    }
}

/// uWebSockets has checked a text message's UTF-8, and the protocol cuts it at blanks only.
fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap_or_default()
}
