//! Values with units and words, as they are written in a configuration: `"1MiB"`, `"10s"`, `"auto"`, `"none"`.
//!
//! Each type is a [`Scalar`]: it reads itself from a text or an integer and writes itself back in the shortest form that
//! reads back to the same value. An error is two lines: what is wrong, and what may be written instead.

use std::fmt;
use std::marker::PhantomData;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use serde::de::{Deserialize, Deserializer, Error, Unexpected, Visitor};
use serde::ser::{Serialize, Serializer};

use super::bind::{Bind, FileMode};
use super::topics::Policy;

/// One configuration value that is written as a text or as an integer.
pub trait Scalar: Sized {
    /// What may be written, for a person: `a size such as "64KiB" or "1MiB"`.
    fn allowed() -> String;
    /// Reads the value from a text. The error says what is wrong, without naming what is allowed.
    fn from_text(text: &str) -> Result<Self, String>;
    /// Reads the value from an integer.
    fn from_integer(number: i64) -> Result<Self, String>;
    /// Reads the value from `true` or `false`; `None` where those cannot stand.
    fn from_bool(_: bool) -> Option<Self> {
        None
    }
    /// The value as it is written in a file.
    fn to_written(&self) -> Written;
}

/// What a [`Scalar`] writes.
pub enum Written {
    /// In quotes.
    Text(String),
    /// Bare.
    Integer(i64),
    /// `true` or `false`.
    Boolean(bool),
}

struct ScalarVisitor<T>(PhantomData<T>);

impl<T: Scalar> Visitor<'_> for ScalarVisitor<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&T::allowed())
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<T, E> {
        T::from_text(text).map_err(|wrong| E::custom(format!("{wrong}\nallowed: {}", T::allowed())))
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<T, E> {
        T::from_bool(value).ok_or_else(|| E::invalid_type(Unexpected::Bool(value), &self))
    }

    fn visit_i64<E: Error>(self, number: i64) -> Result<T, E> {
        T::from_integer(number).map_err(|wrong| E::custom(format!("{wrong}\nallowed: {}", T::allowed())))
    }
}

fn read<'de, T: Scalar, D: Deserializer<'de>>(from: D) -> Result<T, D::Error> {
    from.deserialize_any(ScalarVisitor(PhantomData))
}

fn write<T: Scalar, S: Serializer>(value: &T, to: S) -> Result<S::Ok, S::Error> {
    match value.to_written() {
        Written::Text(text) => to.serialize_str(&text),
        Written::Integer(number) => to.serialize_i64(number),
        Written::Boolean(value) => to.serialize_bool(value),
    }
}

macro_rules! serde_by_scalar {
    ($($name:ident $(<$parameter:ident>)?),*) => {$(
        impl<'de $(, $parameter: Scalar)?> Deserialize<'de> for $name $(<$parameter>)? {
            fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> { read(from) }
        }
        impl $(<$parameter: Scalar>)? Serialize for $name $(<$parameter>)? {
            fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> { write(self, to) }
        }
    )*};
}
serde_by_scalar!(Size, Time, Count, Address, Bind, FileMode, CpuList, Policy, Auto<T>, Limit<T>);

/// A number of bytes. Written with a unit: `"255B"`, `"64KiB"`, `"1MiB"`, `"2GiB"`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Size(pub u64);

const SIZE_UNITS: [(&str, u64); 4] = [("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10), ("B", 1)];

impl Scalar for Size {
    fn allowed() -> String {
        "a size: a whole number and B, KiB, MiB or GiB, such as \"64KiB\" or \"1MiB\"".into()
    }

    fn from_text(text: &str) -> Result<Self, String> {
        let (number, unit) = split_unit(text).ok_or_else(|| format!("{text:?} is not a size"))?;
        let (_, factor) = SIZE_UNITS
            .iter()
            .find(|(name, _)| *name == unit)
            .ok_or_else(|| format!("{text:?} is not a size: {}", unit_words(unit)))?;
        number.checked_mul(*factor).map(Self).ok_or_else(|| format!("{text:?} is more than 64 bits hold"))
    }

    fn from_integer(number: i64) -> Result<Self, String> {
        Err(format!("{number} has no unit"))
    }

    fn to_written(&self) -> Written {
        Written::Text(self.to_string())
    }
}

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (unit, factor) = SIZE_UNITS
            .into_iter()
            .find(|(_, factor)| self.0 >= *factor && self.0.is_multiple_of(*factor))
            .unwrap_or(("B", 1));
        write!(f, "{}{unit}", self.0 / factor)
    }
}

/// A length of time. Written with a unit: `"500ms"`, `"10s"`, `"5m"`, `"1h"`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Time(pub Duration);

impl Time {
    /// Whole seconds.
    pub const fn seconds(seconds: u64) -> Self {
        Self(Duration::from_secs(seconds))
    }
}

/// In microseconds.
const TIME_UNITS: [(&str, u64); 5] =
    [("h", 3_600_000_000), ("m", 60_000_000), ("s", 1_000_000), ("ms", 1_000), ("us", 1)];

impl Scalar for Time {
    fn allowed() -> String {
        "a time: a whole number and us, ms, s, m or h, such as \"500ms\" or \"10s\"".into()
    }

    fn from_text(text: &str) -> Result<Self, String> {
        let (number, unit) = split_unit(text).ok_or_else(|| format!("{text:?} is not a time"))?;
        let (_, factor) = TIME_UNITS
            .iter()
            .find(|(name, _)| *name == unit)
            .ok_or_else(|| format!("{text:?} is not a time: {}", unit_words(unit)))?;
        number
            .checked_mul(*factor)
            .map(|microseconds| Self(Duration::from_micros(microseconds)))
            .ok_or_else(|| format!("{text:?} is more than 64 bits hold"))
    }

    fn from_integer(number: i64) -> Result<Self, String> {
        Err(format!("{number} has no unit"))
    }

    fn to_written(&self) -> Written {
        Written::Text(self.to_string())
    }
}

impl fmt::Display for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let microseconds = u64::try_from(self.0.as_micros()).unwrap_or(u64::MAX);
        if microseconds == 0 {
            return f.write_str("0s");
        }
        let (unit, factor) = TIME_UNITS
            .into_iter()
            .find(|(_, factor)| microseconds.is_multiple_of(*factor))
            .expect("every number is a multiple of one microsecond");
        write!(f, "{}{unit}", microseconds / factor)
    }
}

/// How many of something; never negative, and zero means zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Count(pub u32);

impl Scalar for Count {
    fn allowed() -> String {
        "a whole number, such as 1024".into()
    }

    fn from_text(text: &str) -> Result<Self, String> {
        // Environment variables arrive as text; a number in quotes in a file is as clear.
        let plain: String = text.chars().filter(|c| *c != '_').collect();
        plain
            .parse()
            .map(Self)
            .map_err(|_| format!("{text:?} is not a whole number between 0 and {}", u32::MAX))
    }

    fn from_integer(number: i64) -> Result<Self, String> {
        u32::try_from(number).map(Self).map_err(|_| format!("{number} is not between 0 and {}", u32::MAX))
    }

    fn to_written(&self) -> Written {
        Written::Integer(i64::from(self.0))
    }
}

impl fmt::Display for Count {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// An address to listen at: IP address and port. Port 0 takes a free one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Address(pub SocketAddr);

impl Address {
    /// `127.0.0.1` and this port.
    pub const fn loopback(port: u16) -> Self {
        Self(SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), port))
    }

    /// Whether only this machine can connect.
    pub fn is_loopback(&self) -> bool {
        self.0.ip().to_canonical().is_loopback()
    }
}

impl Scalar for Address {
    fn allowed() -> String {
        "an IP address and a port, such as \"127.0.0.1:8080\", \"0.0.0.0:8080\" or \"[::1]:8080\"".into()
    }

    fn from_text(text: &str) -> Result<Self, String> {
        let numeric = match text.strip_prefix("localhost:") {
            Some(port) => format!("127.0.0.1:{port}"),
            None => text.to_owned(),
        };
        numeric.parse().map(Self).map_err(|_| {
            if text.parse::<IpAddr>().is_ok() {
                format!("{text:?} has no port")
            } else {
                format!("{text:?} is not an address to listen at")
            }
        })
    }

    fn from_integer(number: i64) -> Result<Self, String> {
        Err(format!("{number} has no IP address"))
    }

    fn to_written(&self) -> Written {
        Written::Text(self.to_string())
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// CPUs to run shards on, in order, without repetition: shard *i* is pinned to the *i*-th.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CpuList(pub Vec<usize>);

/// Larger numbers are refused: no Linux machine has them, and a typing error must not become a long list.
const CPU_MAX: usize = 8_191;

impl Scalar for CpuList {
    fn allowed() -> String {
        "CPU numbers and ranges such as \"0-3,8\"".into()
    }

    fn from_text(text: &str) -> Result<Self, String> {
        let wrong = || format!("{text:?} is not a list of CPUs");
        let mut cpus = Vec::new();
        for part in text.split(',') {
            let (first, last) = part.split_once('-').unwrap_or((part, part));
            let first: usize = first.trim().parse().map_err(|_| wrong())?;
            let last: usize = last.trim().parse().map_err(|_| wrong())?;
            if first > last || last > CPU_MAX {
                return Err(wrong());
            }
            for cpu in first..=last {
                if cpus.contains(&cpu) {
                    return Err(format!("{text:?} names CPU {cpu} twice"));
                }
                cpus.push(cpu);
            }
        }
        Ok(Self(cpus))
    }

    fn from_integer(number: i64) -> Result<Self, String> {
        Self::from_text(&number.to_string())
    }

    fn to_written(&self) -> Written {
        Written::Text(self.to_string())
    }
}

impl fmt::Display for CpuList {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&ranges(&self.0))
    }
}

/// `[0, 1, 2, 5]` as `0-2,5`.
pub fn ranges(cpus: &[usize]) -> String {
    let mut parts: Vec<(usize, usize)> = Vec::new();
    for &cpu in cpus {
        match parts.last_mut() {
            Some((_, last)) if *last + 1 == cpu => *last = cpu,
            _ => parts.push((cpu, cpu)),
        }
    }
    let written: Vec<String> = parts
        .into_iter()
        .map(|(first, last)| if first == last { first.to_string() } else { format!("{first}-{last}") })
        .collect();
    written.join(",")
}

/// A value that Fanwire chooses by itself unless it is given. Written `"auto"`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Auto<T> {
    /// Chosen at start-up.
    Auto,
    /// As given.
    Given(T),
}

impl<T> Auto<T> {
    /// The given value, if any.
    pub fn given(&self) -> Option<&T> {
        match self {
            Self::Auto => None,
            Self::Given(value) => Some(value),
        }
    }
}

impl Scalar for bool {
    fn allowed() -> String {
        "true or false".into()
    }

    fn from_text(text: &str) -> Result<Self, String> {
        text.parse().map_err(|_| format!("{text:?} is neither true nor false"))
    }

    fn from_integer(number: i64) -> Result<Self, String> {
        Err(format!("{number} is neither true nor false"))
    }

    fn from_bool(value: bool) -> Option<Self> {
        Some(value)
    }

    fn to_written(&self) -> Written {
        Written::Boolean(*self)
    }
}

impl<T: Scalar> Scalar for Auto<T> {
    fn allowed() -> String {
        format!("\"auto\" or {}", T::allowed())
    }

    fn from_text(text: &str) -> Result<Self, String> {
        if text == "auto" { Ok(Self::Auto) } else { T::from_text(text).map(Self::Given) }
    }

    fn from_integer(number: i64) -> Result<Self, String> {
        T::from_integer(number).map(Self::Given)
    }

    fn from_bool(value: bool) -> Option<Self> {
        T::from_bool(value).map(Self::Given)
    }

    fn to_written(&self) -> Written {
        match self {
            Self::Auto => Written::Text("auto".into()),
            Self::Given(value) => value.to_written(),
        }
    }
}

/// A value that may be absent on purpose: a limit that is off, an address that is not listened at. Written `"none"`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limit<T>(pub Option<T>);

impl<T: Scalar> Scalar for Limit<T> {
    fn allowed() -> String {
        format!("\"none\" or {}", T::allowed())
    }

    fn from_text(text: &str) -> Result<Self, String> {
        if text == "none" { Ok(Self(None)) } else { T::from_text(text).map(|value| Self(Some(value))) }
    }

    fn from_integer(number: i64) -> Result<Self, String> {
        T::from_integer(number).map(|value| Self(Some(value)))
    }

    fn to_written(&self) -> Written {
        match &self.0 {
            None => Written::Text("none".into()),
            Some(value) => value.to_written(),
        }
    }
}

/// `"64KiB"` as `(64, "KiB")`. `None` if it does not begin with a number.
fn split_unit(text: &str) -> Option<(u64, &str)> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let number = text[..digits].parse().ok()?;
    Some((number, text[digits..].trim_start()))
}

fn unit_words(unit: &str) -> String {
    match unit {
        "" => "the unit is missing".into(),
        "KB" | "MB" | "GB" | "kB" | "K" | "M" | "G" | "k" | "kb" | "mb" => {
            format!("{unit:?} is read as 1000 by some and as 1024 by others")
        }
        other => format!("{other:?} is not a unit"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_read_and_write() {
        for (text, bytes, shortest) in [
            ("255B", 255, "255B"),
            ("64KiB", 65_536, "64KiB"),
            ("64 KiB", 65_536, "64KiB"),
            ("1024KiB", 1 << 20, "1MiB"),
            ("1500B", 1_500, "1500B"),
            ("2GiB", 2 << 30, "2GiB"),
            ("0B", 0, "0B"),
        ] {
            let size = Size::from_text(text).expect(text);
            assert_eq!(size, Size(bytes), "{text}");
            assert_eq!(size.to_string(), shortest);
        }
    }

    #[test]
    fn sizes_refused_say_why() {
        for (text, why) in [
            ("1MB", "\"1MB\" is not a size: \"MB\" is read as 1000 by some and as 1024 by others"),
            ("12", "\"12\" is not a size: the unit is missing"),
            ("big", "\"big\" is not a size"),
            ("", "\"\" is not a size"),
            ("-1B", "\"-1B\" is not a size"),
            ("1.5MiB", "\"1.5MiB\" is not a size: \".5MiB\" is not a unit"),
            ("99999999999GiB", "\"99999999999GiB\" is more than 64 bits hold"),
        ] {
            assert_eq!(Size::from_text(text), Err(why.to_owned()));
        }
    }

    #[test]
    fn times_read_and_write() {
        for (text, milliseconds, shortest) in [
            ("10s", 10_000, "10s"),
            ("500ms", 500, "500ms"),
            ("90s", 90_000, "90s"),
            ("60s", 60_000, "1m"),
            ("2h", 7_200_000, "2h"),
            ("0s", 0, "0s"),
        ] {
            let time = Time::from_text(text).expect(text);
            assert_eq!(time, Time(Duration::from_millis(milliseconds)), "{text}");
            assert_eq!(time.to_string(), shortest);
        }
        assert_eq!(Time::from_text("50us"), Ok(Time(Duration::from_micros(50))));
        assert_eq!(Time(Duration::from_micros(1_500)).to_string(), "1500us");
        assert!(Time::from_text("10").is_err());
        assert!(Time::from_text("10 min").is_err());
    }

    #[test]
    fn cpu_lists_read_and_write() {
        assert_eq!(CpuList::from_text("0-2,8"), Ok(CpuList(vec![0, 1, 2, 8])));
        assert_eq!(CpuList(vec![0, 1, 2, 8]).to_string(), "0-2,8");
        assert_eq!(CpuList::from_text("1,1"), Err("\"1,1\" names CPU 1 twice".into()));
        for wrong in ["", "a", "none", "3-1", "0-99999", "1,,2"] {
            assert!(CpuList::from_text(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn words_stand_for_absence_and_choice() {
        assert_eq!(Limit::<Count>::from_text("none"), Ok(Limit(None)));
        assert_eq!(Limit::<Count>::from_integer(0), Ok(Limit(Some(Count(0)))));
        assert_eq!(Auto::<Count>::from_text("auto"), Ok(Auto::Auto));
        assert_eq!(Auto::<Count>::from_text("4"), Ok(Auto::Given(Count(4))));
        assert!(Auto::<Count>::from_integer(-1).is_err());
    }

    #[test]
    fn addresses_need_a_port() {
        assert_eq!(Address::from_text("localhost:1"), Ok(Address::loopback(1)));
        assert_eq!(Address::from_text("0.0.0.0"), Err("\"0.0.0.0\" has no port".into()));
        assert!(Address::from_text("[::]:80").is_ok_and(|address| !address.is_loopback()));
        assert!(Address::from_text("[::ffff:127.0.0.1]:80").is_ok_and(|address| address.is_loopback()));
        assert!(Address::from_text("example.org:80").is_err());
    }
}
