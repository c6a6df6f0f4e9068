//! API keys: who may use the API, from where, for what.
//!
//! A key is 32 random bytes that we make (`fanwire apikey`), so its SHA-256 is as good as a slow hash: there is nothing to
//! guess. What is configured is the hash. A key that comes is hashed and compared with every configured one, to the last byte
//! of the last one, whatever it is.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use fanwire_core::ids::{RealmId, RoleId};
use sha2::{Digest, Sha256};
use subtle::{Choice, ConditionallySelectable, ConstantTimeEq};

/// Begins every key, so that it is known for what it is where it turns up.
const KEY_PREFIX: &str = "fwk_";
/// Begins the text of a hash.
const HASH_PREFIX: &str = "sha256:";
/// Random bytes of a key.
pub const KEY_BYTES: usize = 32;

/// A new key as text, from random bytes.
pub fn key_text(random: [u8; KEY_BYTES]) -> String {
    format!("{KEY_PREFIX}{}", hex(&random))
}

fn hex(bytes: &[u8]) -> String {
    use fmt::Write;
    bytes.iter().fold(String::with_capacity(2 * bytes.len()), |mut text, byte| {
        write!(text, "{byte:02x}").expect("writing to a string succeeds");
        text
    })
}

/// SHA-256 of a key. Written `sha256:` and 64 hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct KeyHash([u8; 32]);

impl KeyHash {
    /// The hash of a key, as it is sent.
    pub fn of(key: &str) -> Self {
        Self(Sha256::digest(key.as_bytes()).into())
    }
}

impl FromStr for KeyHash {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("this is no hash of a key: {HASH_PREFIX} and 64 hexadecimal digits");
        if text.starts_with(KEY_PREFIX) {
            return Err("this is a key itself, not its hash; a configuration holds no keys".into());
        }
        let digits = text.strip_prefix(HASH_PREFIX).ok_or_else(wrong)?;
        let mut hash = [0; 32];
        if digits.len() != 2 * hash.len() || !digits.bytes().all(|digit| digit.is_ascii_hexdigit()) {
            return Err(wrong());
        }
        for (index, byte) in hash.iter_mut().enumerate() {
            *byte = u8::from_str_radix(&digits[2 * index..2 * index + 2], 16).map_err(|_| wrong())?;
        }
        Ok(Self(hash))
    }
}

impl fmt::Display for KeyHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{HASH_PREFIX}{}", hex(&self.0))
    }
}

impl fmt::Debug for KeyHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("KeyHash(…)")
    }
}

/// What somebody may do with the API.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Right {
    /// Publish, as far as the role may.
    Publish,
    /// Call, as far as the role may.
    Call,
    /// List sessions and topics.
    Read,
    /// Send sessions away.
    Disconnect,
    /// Send to single clients, subscribe them, and get what they send.
    Clients,
    /// Have the configuration read again.
    Reload,
}

impl Right {
    /// All of them.
    pub const ALL: [Self; 6] =
        [Self::Publish, Self::Call, Self::Read, Self::Disconnect, Self::Clients, Self::Reload];

    /// As in the configuration.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Publish => "publish",
            Self::Call => "call",
            Self::Read => "read",
            Self::Disconnect => "disconnect",
            Self::Clients => "clients",
            Self::Reload => "reload",
        }
    }
}

/// What somebody is in a realm.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Grant {
    /// The realm.
    pub realm: RealmId,
    /// Whose permissions count for publications and calls.
    pub role: RoleId,
    /// Whether its sessions and topics may be seen and ended.
    pub manages: bool,
}

/// Who uses the API, and as what.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Principal {
    /// Who, in words, such as `the key "ci"`.
    pub name: String,
    /// For what.
    pub rights: Vec<Right>,
    /// Where.
    pub grants: Vec<Grant>,
}

impl Principal {
    /// Programs of this machine while there are no keys; `realms`: how many there are, with those that grant nothing. Who may
    /// not do everything in every realm must not see the configuration, and so what a reload changes.
    pub fn local(grants: Vec<Grant>, realms: usize) -> Self {
        let mut rights = Right::ALL.to_vec();
        if grants.len() < realms || !grants.iter().all(|grant| grant.manages) {
            rights.retain(|right| *right != Right::Reload);
        }
        Self { name: "a program without a key".to_owned(), rights, grants }
    }

    /// What it is in a realm.
    pub fn grant(&self, realm: RealmId) -> Option<&Grant> {
        self.grants.iter().find(|grant| grant.realm == realm)
    }
}

/// A key that is configured.
#[derive(Clone, Debug)]
pub struct ApiKey {
    /// What it is compared with.
    pub hash: KeyHash,
    /// What it stands for.
    pub principal: Principal,
    /// From where it may be used; empty: from everywhere.
    pub addresses: Vec<AddressRange>,
}

impl ApiKey {
    /// Whether it may be used from there; `None`: from a Unix socket, at whose other end is only this machine.
    pub fn may_come_from(&self, address: Option<IpAddr>) -> bool {
        let ranges = &self.addresses;
        let is_there = |address| ranges.iter().any(|range| range.contains(address));
        ranges.is_empty() || address.is_none_or(is_there)
    }
}

/// All keys.
#[derive(Clone, Debug, Default)]
pub struct ApiKeys(pub Vec<ApiKey>);

impl ApiKeys {
    /// The index of the key, found in a time that hangs on nothing but the number of keys and the length of what was sent.
    pub fn find(&self, key: &str) -> Option<usize> {
        let hash = KeyHash::of(key);
        let (mut found, mut index) = (Choice::from(0), 0_u32);
        for (at, known) in (0_u32..).zip(&self.0) {
            let same = known.hash.0.ct_eq(&hash.0);
            index.conditional_assign(&at, same);
            found |= same;
        }
        bool::from(found).then_some(index as usize)
    }
}

/// A range of addresses: `10.0.0.0/8`, `2001:db8::/32`, or one address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AddressRange {
    address: IpAddr,
    bits: u8,
}

impl AddressRange {
    /// Whether it has this address. IPv4 addresses that come by an IPv6 socket are what they are.
    pub fn contains(&self, address: IpAddr) -> bool {
        match (self.address, address.to_canonical()) {
            (IpAddr::V4(own), IpAddr::V4(other)) => {
                same_bits(u128::from(own.to_bits()) << 96, u128::from(other.to_bits()) << 96, self.bits)
            }
            (IpAddr::V6(own), IpAddr::V6(other)) => same_bits(own.to_bits(), other.to_bits(), self.bits),
            _ => false,
        }
    }
}

fn same_bits(one: u128, other: u128, bits: u8) -> bool {
    (one ^ other).checked_shr(128 - u32::from(bits)).unwrap_or(0) == 0
}

impl FromStr for AddressRange {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (address, bits) = text.split_once('/').map_or((text, None), |(a, b)| (a, Some(b)));
        let address: IpAddr = address.parse().map_err(|_| format!("{text:?} is no range of addresses"))?;
        let most = if address.is_ipv4() { 32 } else { 128 };
        let bits = match bits {
            None => most,
            Some(bits) => match bits.parse() {
                Ok(bits) if bits <= most => bits,
                _ => return Err(format!("{text:?}: the number behind the slash is 0 to {most}")),
            },
        };
        let range = Self { address, bits };
        let host_bits = match address {
            IpAddr::V4(address) => u128::from(address.to_bits()) << 96,
            IpAddr::V6(address) => address.to_bits(),
        };
        if host_bits.checked_shl(u32::from(bits)).unwrap_or(0) != 0 {
            return Err(format!(
                "{text:?} has bits behind its first {bits}; write the first address of the range"
            ));
        }
        Ok(range)
    }
}

impl fmt::Display for AddressRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.bits)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(text: &str) -> ApiKey {
        let principal = Principal { name: text.to_owned(), rights: Vec::new(), grants: Vec::new() };
        ApiKey { hash: KeyHash::of(text), principal, addresses: Vec::new() }
    }

    #[test]
    fn a_hash_is_written_as_it_is_read() {
        let hash = KeyHash::of("fwk_abc");
        assert_eq!(hash.to_string().parse(), Ok(hash));
        // As `printf abc | sha256sum` says.
        assert_eq!(
            KeyHash::of("abc").to_string(),
            "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
        );
        for wrong in
            ["", "sha256:", "sha256:zz", "fwk_00", &"0".repeat(64), &format!("sha256:{}", "é".repeat(32))]
        {
            assert!(wrong.parse::<KeyHash>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn only_who_may_do_everything_in_every_realm_may_reload_without_a_key() {
        let access = fanwire_core::access::Access::new(
            &["one", "two"].map(fanwire_core::access::RealmConfig::open),
            1,
        )
        .expect("open realms are right");
        let grant = |name: &str, manages: bool| {
            let realm = access.realm(name).expect("it is there");
            Grant { realm, role: access.anonymous_role(realm).expect("an open one has one"), manages }
        };
        let may =
            |grants: Vec<Grant>, realms| Principal::local(grants, realms).rights.contains(&Right::Reload);
        assert!(may(vec![grant("one", true), grant("two", true)], 2));
        assert!(!may(vec![grant("one", true), grant("two", false)], 2));
        assert!(!may(vec![grant("one", true)], 2), "nobody may anything in the other one");
        assert!(!may(Vec::new(), 1));
    }

    #[test]
    fn each_key_is_found_and_no_other() {
        let keys = ApiKeys(["one", "two", "three"].map(key).to_vec());
        assert_eq!(
            ["one", "two", "three", "four", ""].map(|key| keys.find(key)),
            [Some(0), Some(1), Some(2), None, None]
        );
        assert_eq!(ApiKeys::default().find("one"), None);
    }

    #[test]
    fn ranges_have_their_addresses() {
        for (range, inside, outside) in [
            ("10.0.0.0/8", "10.255.0.1", "11.0.0.0"),
            ("10.0.0.0/8", "::ffff:10.1.2.3", "::10.1.2.3"),
            ("192.168.1.7", "192.168.1.7", "192.168.1.6"),
            ("0.0.0.0/0", "8.8.8.8", "::1"),
            ("2001:db8::/32", "2001:db8:ffff::1", "2001:db9::"),
            ("::1/128", "::1", "::2"),
            ("::/0", "2001::", "1.2.3.4"),
        ] {
            let range: AddressRange = range.parse().expect(range);
            assert!(range.contains(inside.parse().expect(inside)), "{range} {inside}");
            assert!(!range.contains(outside.parse().expect(outside)), "{range} {outside}");
        }
        for wrong in ["", "10.0.0.0/33", "10.0.0.1/8", "10.0.0/8", "::1/64", "example.org", "10.0.0.0/-1"] {
            assert!(wrong.parse::<AddressRange>().is_err(), "{wrong}");
        }
    }
}
