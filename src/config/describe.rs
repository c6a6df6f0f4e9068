//! What each key means: the comments of the fields in [`schema`](super::schema), as values.
//!
//! A comment's first paragraph is one line, for `fanwire config default`; all of it is the meaning in
//! `fanwire config doc`. A field without a comment does not compile, and neither does one that does not say when it acts after
//! a reload: `#[acts(now)]`, `new_connections` or `restart`; a table whose keys say so themselves has `inside`.

use std::collections::BTreeMap;

use fanwire_control::reload::Acts;

use super::bind::{Bind, FileMode};
use super::redis::BridgeMap;
use super::schema::{
    Action, ApiKey, CertificatePair, ClientCertificates, Disclose, Driver, Endpoint, HookBody, HookEvent,
    Jwt, LogFormat, Match, OnFailure, SameSite, User,
};
use super::topics::{Policy, Topic};
use super::units::{Address, Auto, Count, Limit, Size, Time};

/// What a field's comment says.
#[derive(Debug)]
pub struct Field {
    /// The comment, line by line.
    pub lines: &'static [&'static str],
    /// When a changed value acts; of a list of tables: one that is added or removed. `None`: its fields say so.
    pub acts: Option<Acts>,
    /// The fields of the table that it holds; none if it holds a plain value.
    pub inner: &'static [Field],
}

impl Field {
    /// The first paragraph.
    pub fn summary(&self) -> String {
        joined(self.lines.iter().take_while(|line| !line.trim().is_empty()))
    }

    /// The whole comment, on one line.
    pub fn meaning(&self) -> String {
        joined(self.lines.iter())
    }
}

fn joined<'a>(lines: impl Iterator<Item = &'a &'a str>) -> String {
    let words: Vec<&str> = lines.flat_map(|line| line.split_whitespace()).collect();
    words.join(" ")
}

/// What may stand in a configuration: a plain value, or a table whose fields are commented.
pub trait Described {
    /// The fields in the order in which they are declared and written. None: a plain value.
    const FIELDS: &'static [Field] = &[];
}

impl<T: Described> Described for Vec<T> {
    const FIELDS: &'static [Field] = T::FIELDS;
}

macro_rules! plain_values {
    ($($value:ty),*) => {$(impl Described for $value {})*};
}
plain_values!(
    String,
    bool,
    Action,
    ApiKey,
    BridgeMap,
    CertificatePair,
    ClientCertificates,
    Disclose,
    Driver,
    HookBody,
    HookEvent,
    LogFormat,
    Match,
    OnFailure,
    SameSite,
    User,
    Jwt,
    Topic,
    Policy,
    Address,
    Bind,
    FileMode,
    Count,
    Size,
    Time
);

impl<T> Described for Auto<T> {}
impl<T> Described for Limit<T> {}
impl Described for BTreeMap<String, Endpoint> {}
impl Described for BTreeMap<String, String> {}

/// Defines a struct as it stands, and makes it [`Described`] by the comments of its fields.
macro_rules! described {
    (
        $(#[doc = $about:literal])+
        #[derive($($derive:tt)*)]
        #[serde($($serde:tt)*)]
        pub struct $name:ident {
            $(
                $(#[doc = $line:literal])+
                #[acts($acts:ident)]
                $(#[serde($($field_serde:tt)*)])?
                pub $field:ident: $value:ty,
            )+
        }
    ) => {
        $(#[doc = $about])+
        #[derive($($derive)*)]
        #[serde($($serde)*)]
        pub struct $name {
            $(
                $(#[doc = $line])+
                $(#[serde($($field_serde)*)])?
                pub $field: $value,
            )+
        }

        impl $crate::config::describe::Described for $name {
            const FIELDS: &'static [$crate::config::describe::Field] = &[$(
                $crate::config::describe::Field {
                    lines: &[$($line),+],
                    acts: $crate::config::describe::acts!($acts),
                    inner: <$value as $crate::config::describe::Described>::FIELDS,
                },
            )+];
        }
    };
}
pub(super) use described;

/// The word of an attribute as a value.
macro_rules! acts {
    (now) => {
        Some(fanwire_control::reload::Acts::Now)
    };
    (new_connections) => {
        Some(fanwire_control::reload::Acts::NewConnections)
    };
    (restart) => {
        Some(fanwire_control::reload::Acts::Restart)
    };
    (inside) => {
        None
    };
}
pub(super) use acts;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_paragraph_is_the_summary() {
        let field = Field { lines: &[" One", " line.", "", " And", " more."], acts: None, inner: &[] };
        assert_eq!(field.summary(), "One line.");
        assert_eq!(field.meaning(), "One line. And more.");
    }
}
