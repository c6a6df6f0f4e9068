//! Where a listener listens: an IP address and a port, or a Unix socket.

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;

use super::units::{Address, Scalar, Written};

/// Where a listener listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Bind {
    /// IP address and port.
    Ip(Address),
    /// The absolute path of a Unix socket. Written `"unix:/run/fanwire.sock"`.
    Unix(PathBuf),
}

/// `sockaddr_un` holds 108 bytes, and the last one ends the path (unix(7)).
const PATH_BYTES_MAX: usize = 107;

impl Bind {
    /// The IP address and port, unless it is a Unix socket.
    pub fn ip(&self) -> Option<SocketAddr> {
        match self {
            Self::Ip(address) => Some(address.0),
            Self::Unix(_) => None,
        }
    }

    /// Whether only this machine can connect.
    pub fn is_local(&self) -> bool {
        match self {
            Self::Ip(address) => address.is_loopback(),
            Self::Unix(_) => true,
        }
    }

    /// Whether one of the two takes what the other wants.
    pub fn overlaps(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Unix(path), Self::Unix(other)) => path == other,
            (Self::Ip(Address(one)), Self::Ip(Address(other))) => {
                // Port 0 is another one each time. An address of all zeros takes the port of all others of its family,
                // the one of IPv6 takes IPv4's too.
                let takes = |one: &SocketAddr, other: &SocketAddr| {
                    one.ip().is_unspecified() && (one.is_ipv6() || other.ip().to_canonical().is_ipv4())
                };
                let same = one.ip().to_canonical() == other.ip().to_canonical();
                let port = one.port() == other.port() && one.port() != 0;
                port && (same || takes(one, other) || takes(other, one))
            }
            _ => false,
        }
    }
}

impl Scalar for Bind {
    fn allowed() -> String {
        format!("{}; or a Unix socket, such as \"unix:/run/fanwire.sock\"", Address::allowed())
    }

    fn from_text(text: &str) -> Result<Self, String> {
        let Some(path) = text.strip_prefix("unix:") else { return Address::from_text(text).map(Self::Ip) };
        // Some write it like a URL.
        let path = path.strip_prefix("//").filter(|path| path.starts_with('/')).unwrap_or(path);
        if !path.starts_with('/') || path.ends_with('/') {
            return Err(format!("{text:?} names no absolute path of a file"));
        }
        if path.bytes().any(|byte| byte.is_ascii_control()) {
            return Err(format!("{text:?} has control characters"));
        }
        if path.len() > PATH_BYTES_MAX {
            return Err(format!(
                "the path of {text:?} has {} bytes; the system allows {PATH_BYTES_MAX}",
                path.len()
            ));
        }
        Ok(Self::Unix(path.into()))
    }

    fn from_integer(number: i64) -> Result<Self, String> {
        Address::from_integer(number).map(Self::Ip)
    }

    fn to_written(&self) -> Written {
        Written::Text(self.to_string())
    }
}

impl fmt::Display for Bind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ip(address) => address.fmt(f),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

/// The permissions of a file. Written as `chmod` takes them: `"0660"`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FileMode(pub u32);

impl Scalar for FileMode {
    fn allowed() -> String {
        "permissions as chmod takes them, in quotes, such as \"0660\" or \"0600\"".into()
    }

    fn from_text(text: &str) -> Result<Self, String> {
        match u32::from_str_radix(text, 8) {
            Ok(mode) if mode <= 0o777 && text.len() >= 3 => Ok(Self(mode)),
            _ => Err(format!("{text:?} is not a file mode")),
        }
    }

    fn from_integer(number: i64) -> Result<Self, String> {
        // 660 in decimal is another mode than the one that was meant.
        Err(format!("{number} is not in quotes"))
    }

    fn to_written(&self) -> Written {
        Written::Text(format!("{:04o}", self.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bind(text: &str) -> Bind {
        Bind::from_text(text).expect(text)
    }

    #[test]
    fn unix_sockets_are_named_by_an_absolute_path() {
        for text in ["unix:/run/fanwire.sock", "unix:///run/fanwire.sock"] {
            assert_eq!(bind(text), Bind::Unix("/run/fanwire.sock".into()));
            assert_eq!(bind(text).to_string(), "unix:/run/fanwire.sock");
        }
        for wrong in ["unix:", "unix:fanwire.sock", "unix:/", "unix:/run/", "unix:@name", "unix:/a\nb"] {
            assert!(Bind::from_text(wrong).is_err(), "{wrong}");
        }
        assert!(Bind::from_text(&format!("unix:/{}", "x".repeat(106))).is_ok());
        let long = Bind::from_text(&format!("unix:/{}", "x".repeat(107))).expect_err("too long");
        assert!(long.contains("108 bytes; the system allows 107"), "{long}");
    }

    #[test]
    fn what_would_not_be_free_for_both_overlaps() {
        for (one, other, overlap) in [
            ("127.0.0.1:80", "127.0.0.1:80", true),
            ("127.0.0.1:80", "127.0.0.1:81", false),
            ("127.0.0.1:80", "127.0.0.2:80", false),
            ("0.0.0.0:80", "127.0.0.1:80", true),
            ("[::]:80", "127.0.0.1:80", true),
            ("[::]:80", "[::1]:80", true),
            ("[::]:80", "0.0.0.0:80", true),
            ("0.0.0.0:80", "[::1]:80", false),
            ("0.0.0.0:80", "[::ffff:127.0.0.1]:80", true),
            ("127.0.0.1:80", "[::ffff:127.0.0.1]:80", true),
            ("127.0.0.1:80", "[::1]:80", false),
            ("127.0.0.1:0", "127.0.0.1:0", false),
            ("0.0.0.0:0", "127.0.0.1:0", false),
            ("unix:/a", "unix:/a", true),
            ("unix:/a", "unix:/b", false),
            ("unix:/a", "127.0.0.1:80", false),
        ] {
            assert_eq!(bind(one).overlaps(&bind(other)), overlap, "{one} {other}");
            assert_eq!(bind(other).overlaps(&bind(one)), overlap, "{other} {one}");
        }
    }

    #[test]
    fn modes_are_octal() {
        assert_eq!(FileMode::from_text("0660"), Ok(FileMode(0o660)));
        assert_eq!(FileMode::from_text("600"), Ok(FileMode(0o600)));
        for wrong in ["", "6", "0680", "rw", "1777", "-600"] {
            assert!(FileMode::from_text(wrong).is_err(), "{wrong}");
        }
        assert!(FileMode::from_integer(660).is_err());
    }
}
