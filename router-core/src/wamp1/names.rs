//! What clients of version 1 call topics, procedures and errors, and what the router does.
//!
//! ```text
//! event:chat ── the session's prefixes ─▶ http://example.com/event#chat ── the realm's rules ─▶ com.example.event.chat
//! ```
//!
//! A name that no rule is for is the same on both sides. One with `#` is none that version 2 can say, so such a topic is for clients
//! of version 1, and for who subscribes to its beginning.

use std::borrow::Cow;

use crate::ids::RealmId;
use crate::mutation::{Mutation, planted};
use crate::uri;

/// How version 1 is served.
#[derive(Clone, Debug, Default)]
pub struct Wamp1 {
    /// The realm in which its clients are; `None`: it is not spoken.
    pub realm: Option<RealmId>,
    /// Names that are others in the realm.
    pub names: NameMap,
}

/// Beginnings of names in version 1, and what the realm has in their place.
#[derive(Clone, Debug, Default)]
pub struct NameMap(Vec<(Box<str>, Box<str>)>);

impl NameMap {
    /// Of two that fit, the longer one decides.
    ///
    ///     use fanwire_core::wamp1::NameMap;
    ///     let names = NameMap::new([("http://example.com/event#", "com.example.event.")]);
    ///     assert_eq!(names.to_topic("http://example.com/event#chat"), "com.example.event.chat");
    ///     assert_eq!(names.to_topic("http://example.com/chat"), "http://example.com/chat");
    pub fn new<'a>(rules: impl IntoIterator<Item = (&'a str, &'a str)>) -> Self {
        Self(rules.into_iter().map(|(name, topic)| (name.into(), topic.into())).collect())
    }

    /// What the realm calls it.
    pub fn to_topic<'a>(&self, name: &'a str) -> Cow<'a, str> {
        replace(self.0.iter().map(|(from, to)| (&**from, &**to)), name)
    }

    /// What version 1 calls a name of the realm. WAMP's own have one name, whoever says them.
    pub(super) fn of_realm<'a>(&self, uri: &'a str) -> Cow<'a, str> {
        if uri::is_reserved(uri) || planted(Mutation::ErrorNameUntranslated) {
            return Cow::Borrowed(uri);
        }
        replace(self.0.iter().map(|(to, from)| (&**from, &**to)), uri)
    }
}

/// Puts something in the place of the longest of some beginnings.
fn replace<'a, 'r>(rules: impl Iterator<Item = (&'r str, &'r str)>, name: &'a str) -> Cow<'a, str> {
    let weight = |(from, _): &(&str, &str)| match planted(Mutation::ShorterRuleDecides) {
        true => usize::MAX - from.len(),
        false => from.len(),
    };
    match rules.filter(|(from, _)| name.starts_with(from)).max_by_key(weight) {
        Some((from, to)) => Cow::Owned([to, &name[from.len()..]].concat()),
        None => Cow::Borrowed(name),
    }
}

/// The prefixes that a client has defined.
#[derive(Debug, Default)]
pub(crate) struct Curies(Vec<(Box<str>, Box<str>)>);

impl Curies {
    /// The newer one of two that are alike holds.
    pub(super) fn define(&mut self, prefix: &str, uri: &str) -> Result<(), &'static str> {
        if prefix.len() > CURIE_BYTES_MAX || uri.len() > CURIE_BYTES_MAX {
            return Err("PREFIX: a prefix and its URI have 255 bytes at most");
        }
        match self.0.iter().position(|(known, _)| **known == *prefix) {
            Some(_) if planted(Mutation::OlderPrefixHolds) => {}
            Some(place) => self.0[place].1 = uri.into(),
            None if self.0.len() < CURIES_MAX => self.0.push((prefix.into(), uri.into())),
            None => return Err("PREFIX: a session has 64 prefixes at most"),
        }
        Ok(())
    }

    /// The URI that is meant: `http://…` stays one, whatever prefixes there are.
    pub(super) fn resolve<'a>(&self, said: &'a str) -> Cow<'a, str> {
        let parts = said.split_once(':').filter(|(_, reference)| !reference.starts_with("//"));
        let known = parts.and_then(|(prefix, reference)| {
            let (_, uri) = self.0.iter().find(|(known, _)| **known == *prefix)?;
            Some([uri, reference].concat())
        });
        known.map_or(Cow::Borrowed(said), Cow::Owned)
    }
}

/// 32 KiB of each session at most, and as many comparisons for each of its names.
const CURIES_MAX: usize = 64;
const CURIE_BYTES_MAX: usize = 255;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_curie_stands_for_its_uri_and_anything_else_for_itself() {
        let mut curies = Curies::default();
        for (prefix, uri) in
            [("event", "http://x/old#"), ("event", "http://x/event#"), ("", "com."), ("http", "no:")]
        {
            curies.define(prefix, uri).expect("there is room");
        }
        for (said, meant) in [
            ("event:a", "http://x/event#a"),
            ("event:", "http://x/event#"),
            ("event:a:b", "http://x/event#a:b"),
            (":a", "com.a"),
            ("http://x/y", "http://x/y"),
            ("http:x", "no:x"),
            ("events:a", "events:a"),
            ("event", "event"),
            ("", ""),
        ] {
            assert_eq!(curies.resolve(said), meant, "{said}");
        }
    }

    #[test]
    fn prefixes_are_bounded() {
        let mut curies = Curies::default();
        let long = "x".repeat(256);
        assert!(curies.define(&long, "u").is_err() && curies.define("p", &long).is_err());
        for number in 0..64 {
            curies.define(&number.to_string(), &long[1..]).expect("there is room");
        }
        assert!(curies.define("64", "u").is_err());
        assert_eq!(curies.define("63", "u"), Ok(()), "it is defined anew");
    }

    #[test]
    fn the_longest_rule_decides_both_ways() {
        let names = NameMap::new([("http://x/", "x."), ("http://x/event#", "x.event.")]);
        for (name, topic) in [("http://x/a", "x.a"), ("http://x/event#a", "x.event.a"), ("y", "y")] {
            assert_eq!(names.to_topic(name), topic);
            assert_eq!(names.of_realm(topic), name);
        }
        let names = NameMap::new([("http://x/", "")]);
        for (error, told) in [("a.b", "http://x/a.b"), ("wamp.error.canceled", "wamp.error.canceled")] {
            assert_eq!(names.of_realm(error), told);
        }
    }
}
