//! Rules over URIs, of which the most specific one decides: an exact one, else the longest prefix, else the wildcard of the
//! first shape (see [`uri`]).

use hashbrown::HashMap;

use crate::uri::{self, MatchPolicy};

/// What each rule says, by its URI or pattern.
#[derive(Debug, PartialEq)]
pub(crate) struct Rules<T> {
    exact: HashMap<Box<str>, T, foldhash::fast::FixedState>,
    /// Longest first, once [`Self::sort`] was called.
    prefixes: Vec<(Box<str>, T)>,
    /// In the order of their shapes, likewise.
    wildcards: Vec<(Box<str>, T)>,
}

impl<T: Copy> Rules<T> {
    pub(crate) fn new(hasher: foldhash::fast::FixedState) -> Self {
        Self { exact: HashMap::with_hasher(hasher), prefixes: Vec::new(), wildcards: Vec::new() }
    }

    /// Adds a rule whose URI [`uri::check_pattern`] has seen; false if there is one for it already.
    #[must_use]
    pub(crate) fn insert(&mut self, policy: MatchPolicy, uri: &str, rule: T) -> bool {
        match policy {
            MatchPolicy::Exact => self.exact.insert(uri.into(), rule).is_none(),
            MatchPolicy::Prefix => push_once(&mut self.prefixes, uri, rule),
            MatchPolicy::Wildcard => push_once(&mut self.wildcards, uri, rule),
        }
    }

    /// After the last [`insert`](Self::insert).
    pub(crate) fn sort(&mut self) {
        self.prefixes.sort_by_key(|(uri, _)| std::cmp::Reverse(uri.len()));
        self.wildcards.sort_by_key(|(uri, _)| uri::Shape::of(uri));
    }

    /// All of them, in the order of their URIs.
    pub(crate) fn all(&self) -> Vec<(MatchPolicy, &str, T)> {
        let exact = self.exact.iter().map(|(uri, rule)| (MatchPolicy::Exact, &**uri, *rule));
        let prefixes = self.prefixes.iter().map(|(uri, rule)| (MatchPolicy::Prefix, &**uri, *rule));
        let wildcards = self.wildcards.iter().map(|(uri, rule)| (MatchPolicy::Wildcard, &**uri, *rule));
        let mut all: Vec<_> = exact.chain(prefixes).chain(wildcards).collect();
        all.sort_by_key(|(policy, uri, _)| (*uri, *policy as u8));
        all
    }

    /// The rule that decides on this URI.
    pub(crate) fn get(&self, uri: &str) -> Option<T> {
        if let Some(&rule) = self.exact.get(uri) {
            return Some(rule);
        }
        // The first byte tells most prefixes apart, for less than a comparison of strings: this is asked with each publication.
        let first = uri.as_bytes().first();
        let begins = |(prefix, _): &&(Box<str>, T)| {
            prefix.is_empty() || prefix.as_bytes().first() == first && uri.starts_with(&**prefix)
        };
        let covers = |(pattern, _): &&(Box<str>, T)| uri::matches(MatchPolicy::Wildcard, pattern, uri);
        let rule = self.prefixes.iter().find(begins).or_else(|| self.wildcards.iter().find(covers));
        rule.map(|&(_, rule)| rule)
    }

    /// The prefix or wildcard rule that decides on all that `uri` covers under `policy`.
    pub(crate) fn covering(&self, policy: MatchPolicy, uri: &str) -> Option<T> {
        let covers =
            |outer| move |(pattern, _): &&(Box<str>, T)| uri::contains((outer, &**pattern), (policy, uri));
        self.prefixes
            .iter()
            .find(covers(MatchPolicy::Prefix))
            .or_else(|| self.wildcards.iter().find(covers(MatchPolicy::Wildcard)))
            .map(|&(_, rule)| rule)
    }
}

fn push_once<T>(rules: &mut Vec<(Box<str>, T)>, uri: &str, rule: T) -> bool {
    let is_new = rules.iter().all(|(known, _)| **known != *uri);
    rules.push((uri.into(), rule));
    is_new
}
