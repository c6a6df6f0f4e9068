//! Why the router did not start, and what to do about it.

use std::fmt;
use std::io::{Error, ErrorKind};
use std::net::SocketAddr;
use std::path::Path;

use fanwire_io::{ListenAddress, StartError};

use crate::port_owner::{port_owner, socket_owner};

/// Why the router did not start, and what to do.
pub struct Refusal(pub String);

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// For the shards, one of so many listeners.
pub fn of_shards(error: StartError, listeners: usize) -> Refusal {
    let StartError::Listen { listener, address, source } = error else { return Refusal(error.to_string()) };
    let key = format!("listener.{listener}.bind");
    let name = if listeners > 1 { format!("{key}: ") } else { String::new() };
    match address {
        ListenAddress::Ip(address) => {
            let instead = SocketAddr::new(address.ip(), address.port().wrapping_add(10).max(1024));
            let remedy = match listener {
                0 => format!("--port 0 for a free port or --bind {instead}"),
                _ => format!("--set {key}={instead}"),
            };
            cannot_listen(&name, address, &source, &remedy)
        }
        ListenAddress::Unix { path, .. } => {
            Refusal(format!("{name}unix:{} {}", path.display(), no_socket(&path, &source)))
        }
    }
}

/// For the admin port.
pub fn of_admin(address: SocketAddr, error: &Error) -> Refusal {
    cannot_listen("the admin port ", address, error, "--admin 127.0.0.1:0 for a free port, or --admin none")
}

/// For the port of clients of Redis.
pub fn of_resp(address: SocketAddr, error: &Error) -> Refusal {
    let remedy = "--set resp.bind=127.0.0.1:0 for a free port, or stop the Redis that is there";
    cannot_listen("the Redis port ", address, error, remedy)
}

fn cannot_listen(name: &str, address: SocketAddr, error: &Error, remedy: &str) -> Refusal {
    let what = format!("{name}{address}");
    Refusal(match error.kind() {
        ErrorKind::AddrInUse => {
            let owner = port_owner(address).map(|owner| format!(" by {owner}")).unwrap_or_default();
            format!("{what} is in use{owner}. Use {remedy}.")
        }
        ErrorKind::PermissionDenied => format!(
            "{what}: this user may not listen at port {}. Use a port from 1024 on, or grant CAP_NET_BIND_SERVICE.",
            address.port()
        ),
        ErrorKind::AddrNotAvailable => {
            format!("{what} is no address of this machine. Use one of `ip address`, or 0.0.0.0 for all.")
        }
        _ => format!("cannot listen at {what}: {error}. Use {remedy}."),
    })
}

fn no_socket(path: &Path, error: &Error) -> String {
    let folder = path.parent().unwrap_or(path).display();
    match error.kind() {
        ErrorKind::AddrInUse => {
            let owner = socket_owner(path).map(|owner| format!(" by {owner}")).unwrap_or_default();
            format!("is in use{owner}. Stop that, or use another path.")
        }
        ErrorKind::AlreadyExists => {
            "is there already and is no socket. Remove it, or use another path.".to_owned()
        }
        ErrorKind::NotFound => {
            format!("cannot be made: there is no folder {folder}. Make it (systemd: RuntimeDirectory=).")
        }
        ErrorKind::PermissionDenied => {
            format!(
                "cannot be made: this user may not write to {folder}, or may not connect to what is there."
            )
        }
        _ => format!("cannot be listened at: {error}."),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(listener: usize, listeners: usize, path: &str, kind: ErrorKind) -> String {
        let address = ListenAddress::Unix { path: path.into(), mode: 0o600 };
        of_shards(StartError::Listen { listener, address, source: kind.into() }, listeners).to_string()
    }

    #[test]
    fn each_way_to_fail_at_a_socket_file_has_its_remedy() {
        for (kind, expected) in [
            (ErrorKind::AddrInUse, "unix:/no/such.sock is in use. Stop that, or use another path."),
            (ErrorKind::AlreadyExists, "unix:/no/such.sock is there already and is no socket."),
            (ErrorKind::NotFound, "unix:/no/such.sock cannot be made: there is no folder /no."),
            (ErrorKind::PermissionDenied, "this user may not write to /no"),
        ] {
            let words = words(0, 1, "/no/such.sock", kind);
            assert!(words.contains(expected), "{words}");
        }
        assert!(words(1, 2, "/a", ErrorKind::AddrInUse).starts_with("listener.1.bind: unix:/a is in use"));
    }
}
