//! Who listens at an address that we wanted. Best effort: what belongs to another user cannot be seen.

use std::fs;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;

/// State LISTEN in `/proc/net/tcp` (proc(5)).
const LISTEN: &str = "0A";
/// `__SO_ACCEPTCON` among the flags in `/proc/net/unix`.
const UNIX_LISTENING: &str = "00010000";

/// The process that listens at this port, as `pid 812 (java)`.
pub fn port_owner(address: SocketAddr) -> Option<String> {
    let table = if address.is_ipv4() { "/proc/net/tcp" } else { "/proc/net/tcp6" };
    let tables = [table, "/proc/net/tcp6"];
    let inode = tables.iter().find_map(|table| listening_inode(&fs::read_to_string(table).ok()?, address))?;
    owner(inode)
}

/// The process that listens at this Unix socket.
pub fn socket_owner(path: &Path) -> Option<String> {
    owner(unix_inode(&fs::read_to_string("/proc/net/unix").ok()?, path)?)
}

/// The process that has this socket open.
fn owner(inode: u64) -> Option<String> {
    let wanted = format!("socket:[{inode}]");
    for process in fs::read_dir("/proc").ok()?.flatten() {
        let Some(pid) = process.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else {
            continue;
        };
        let Ok(descriptors) = fs::read_dir(process.path().join("fd")) else { continue };
        let mut links = descriptors.flatten().filter_map(|descriptor| fs::read_link(descriptor.path()).ok());
        if links.any(|link| link.as_os_str() == wanted.as_str()) {
            let name = fs::read_to_string(process.path().join("comm")).unwrap_or_default();
            let name: String = name.trim().chars().filter(|c| !c.is_control()).collect();
            return Some(format!("pid {pid} ({name})"));
        }
    }
    None
}

/// The socket's inode in a table of `/proc/net`. An address of all zeros takes the port from every other.
fn listening_inode(table: &str, wanted: SocketAddr) -> Option<u64> {
    table.lines().skip(1).find_map(|line| {
        let fields: Vec<&str> = line.split_ascii_whitespace().collect();
        let (local, state) = (fields.get(1)?, fields.get(3)?);
        let (address, port) = local.rsplit_once(':')?;
        let same_port = u16::from_str_radix(port, 16) == Ok(wanted.port());
        let in_the_way =
            address.bytes().all(|b| b == b'0') || wanted.ip().is_unspecified() || address == hex(wanted.ip());
        (*state == LISTEN && same_port && in_the_way).then(|| fields.get(9)?.parse().ok()).flatten()
    })
}

/// The socket's inode in `/proc/net/unix`: address, references, protocol, flags, type, state, inode, path.
fn unix_inode(table: &str, wanted: &Path) -> Option<u64> {
    table.lines().skip(1).find_map(|line| {
        let fields: Vec<&str> = line.split_ascii_whitespace().collect();
        // A path may hold blanks; it is the rest of the line.
        let path = line.get(line.find(" /")? + 1..)?;
        let is_listening = *fields.get(3)? == UNIX_LISTENING;
        (is_listening && Path::new(path) == wanted).then(|| fields.get(6)?.parse().ok()).flatten()
    })
}

/// Each group of four bytes as a number of the machine's own byte order.
fn hex(address: IpAddr) -> String {
    let bytes = match address {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    };
    bytes
        .chunks_exact(4)
        .map(|group| format!("{:08X}", u32::from_ne_bytes(group.try_into().expect("chunks of four"))))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_is_found() {
        for address in ["127.0.0.1:0", "[::1]:0"] {
            let Ok(listener) = std::net::TcpListener::bind(address) else { continue };
            let owner = port_owner(listener.local_addr().expect("it is bound"));
            let pid = format!("pid {} (", std::process::id());
            assert!(owner.as_ref().is_some_and(|owner| owner.starts_with(&pid)), "{address}: {owner:?}");
        }
    }

    #[test]
    fn the_owner_of_a_unix_socket_is_found() {
        let path = std::env::temp_dir().join(format!("fanwire {} owner.sock", std::process::id()));
        let _listener = std::os::unix::net::UnixListener::bind(&path).expect("a path of our own");
        let owner = socket_owner(&path);
        std::fs::remove_file(&path).expect("it is ours");
        let pid = format!("pid {} (", std::process::id());
        assert!(owner.as_ref().is_some_and(|owner| owner.starts_with(&pid)), "{owner:?}");
    }

    #[test]
    fn an_address_in_the_table_is_recognised() {
        if cfg!(target_endian = "big") {
            return;
        }
        let table = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 4711 1 0 100 0 0 10 0
   1: 0100007F:1F91 0100007F:9999 01 00000000:00000000 00:00000000 00000000     0        0 4712 1 0 100 0 0 10 0
   2: 00000000:1F92 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 4713 1 0 100 0 0 10 0
";
        let inode = |address: &str| listening_inode(table, address.parse().expect("an address"));
        assert_eq!(inode("127.0.0.1:8080"), Some(4711));
        assert_eq!(inode("0.0.0.0:8080"), Some(4711));
        assert_eq!(inode("127.0.0.2:8080"), None);
        assert_eq!(inode("127.0.0.1:8081"), None);
        assert_eq!(inode("127.0.0.1:8082"), Some(4713));
    }
}
