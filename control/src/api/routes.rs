//! What there is: methods and paths, and what they need. `openapi.json` says the same to clients; a test compares them.

use super::keys::Right;

/// What a request is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Endpoint {
    /// One publication, or a stream of them.
    Publish,
    /// Several publications.
    Batch,
    /// A call.
    Call,
    /// The sessions, by pages.
    Sessions,
    /// The end of a session.
    Disconnect,
    /// The topics, by pages.
    Topics,
    /// The configuration, read again.
    Reload,
    /// The description of all this.
    OpenApi,
    /// A publication in CONNMIX's words.
    MeshPublish,
    /// A message to one client.
    MeshSend,
    /// The end of one client, or of all of a user.
    ConnDisconnect,
    /// The nodes that there are.
    Nodes,
    /// The versions of the API.
    Version,
    /// The same and more by a WebSocket.
    Socket,
}

impl Endpoint {
    /// Whether errors are told in CONNMIX's words.
    pub const fn is_mesh(self) -> bool {
        matches!(self, Self::MeshPublish | Self::MeshSend | Self::ConnDisconnect)
    }
}

/// One method of one path.
#[derive(Debug)]
pub struct Route {
    /// The method.
    pub method: &'static str,
    /// The path; a last part in braces stands for any.
    pub path: &'static str,
    /// What it is for.
    pub endpoint: Endpoint,
    /// In the metrics.
    pub name: &'static str,
    /// What one needs. `None`: it is open to everybody who can connect.
    pub right: Option<Right>,
}

macro_rules! routes {
    ($($method:literal $path:literal $endpoint:ident $name:literal $right:expr,)*) => {
        /// All of them.
        pub const ROUTES: &[Route] = &[
            $(Route { method: $method, path: $path, endpoint: Endpoint::$endpoint, name: $name, right: $right },)*
        ];
    };
}

routes! {
    "POST" "/v1/publish" Publish "publish" Some(Right::Publish),
    "POST" "/v1/publish/batch" Batch "publish_batch" Some(Right::Publish),
    "POST" "/v1/call" Call "call" Some(Right::Call),
    "GET" "/v1/sessions" Sessions "sessions" Some(Right::Read),
    "DELETE" "/v1/sessions/{id}" Disconnect "disconnect" Some(Right::Disconnect),
    "GET" "/v1/topics" Topics "topics" Some(Right::Read),
    "POST" "/v1/reload" Reload "reload" Some(Right::Reload),
    "GET" "/v1/openapi.json" OpenApi "openapi" None,
    "POST" "/v1/mesh/publish" MeshPublish "mesh_publish" Some(Right::Publish),
    "POST" "/v1/mesh/send" MeshSend "mesh_send" Some(Right::Clients),
    "POST" "/v1/conn/disconnect" ConnDisconnect "conn_disconnect" Some(Right::Disconnect),
    "GET" "/v1/nodes" Nodes "nodes" None,
    "GET" "/version" Version "version" None,
    "GET" "/ws/v1" Socket "socket" None,
}

/// Begin the paths of the API. What begins with none of them belongs to no connection that was handed to it.
pub const PATH_PREFIXES: [&str; 3] = ["/v1/", WEBSOCKET, "/version"];

/// Where the API is spoken by a WebSocket.
pub const WEBSOCKET: &str = "/ws/v1";

/// What a request's method and path are.
#[derive(Debug)]
pub enum Found<'a> {
    /// A route, by its index in [`ROUTES`], and what stands for the part in braces.
    Route(usize, &'a str),
    /// The path has other methods.
    OtherMethods(String),
    /// There is nothing.
    Nothing,
}

/// Finds the route. HEAD is GET without the body (RFC 9110, 9.3.2).
pub fn find<'a>(method: &str, path: &'a str) -> Found<'a> {
    let wanted = if method == "HEAD" { "GET" } else { method };
    let mut others: Vec<&str> = Vec::new();
    for (index, route) in ROUTES.iter().enumerate() {
        let Some(part) = matches(route.path, path) else { continue };
        if route.method == wanted {
            return Found::Route(index, part);
        }
        others.push(route.method);
        others.extend((route.method == "GET").then_some("HEAD"));
    }
    if others.is_empty() { Found::Nothing } else { Found::OtherMethods(others.join(", ")) }
}

fn matches<'a>(pattern: &str, path: &'a str) -> Option<&'a str> {
    match pattern.split_once('{') {
        None => (pattern == path).then_some(""),
        Some((before, _)) => path.strip_prefix(before).filter(|part| !part.is_empty() && !part.contains('/')),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(method: &str, path: &str) -> String {
        match find(method, path) {
            Found::Route(index, part) => format!("{} {part}", ROUTES[index].name).trim_end().to_owned(),
            Found::OtherMethods(methods) => format!("405 {methods}"),
            Found::Nothing => "404".to_owned(),
        }
    }

    #[test]
    fn requests_find_their_route() {
        for (method, path, wanted) in [
            ("POST", "/v1/publish", "publish"),
            ("GET", "/v1/publish", "405 POST"),
            ("HEAD", "/v1/topics", "topics"),
            ("POST", "/v1/topics", "405 GET, HEAD"),
            ("DELETE", "/v1/sessions/12", "disconnect 12"),
            ("GET", "/v1/sessions/12", "405 DELETE"),
            ("DELETE", "/v1/sessions/", "404"),
            ("DELETE", "/v1/sessions/1/2", "404"),
            ("POST", "/v1/publish/", "404"),
            ("post", "/v1/publish", "405 POST"),
        ] {
            assert_eq!(found(method, path), wanted, "{method} {path}");
        }
    }

    #[test]
    fn the_description_has_each_route_and_no_other() {
        let described: serde_json::Value = serde_json::from_str(super::super::OPENAPI).expect("it is JSON");
        let mut described: Vec<String> = described["paths"]
            .as_object()
            .expect("paths")
            .iter()
            .flat_map(|(path, methods)| {
                let methods = methods.as_object().expect("methods").keys();
                methods.map(move |method| format!("{} {path}", method.to_uppercase()))
            })
            .collect();
        let mut there: Vec<String> =
            ROUTES.iter().map(|route| format!("{} {}", route.method, route.path)).collect();
        described.sort_unstable();
        there.sort_unstable();
        assert_eq!(described, there);
    }
}
