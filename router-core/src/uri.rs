//! URIs of topics, procedures, realms and errors: which are valid, and what a pattern matches.
//!
//! ```text
//! com.myapp.room.42          exact: components between dots, none empty
//! com.myapp.ro               prefix: any beginning of an exact URI, also in the middle of a component, also ""
//! com..room.                 wildcard: an empty component stands for any one component
//! ```
//!
//! **Precedence.** Where one of several patterns has to be picked for a URI, for a call or a permission, it is: the exact
//! one, else the longest prefix, else the wildcard that comes first when two are compared component by component, from the
//! left: at the first component in which only one of them has a name, the one with the name wins. That is WAMP's rule of the
//! longest portion before each wildcard ("Pattern-based Registrations"), because both cover the URI and so differ in nothing
//! else. [`Shape`] orders wildcards so.
//!
//! Nothing here allocates: a URI is checked where it lies, in the message.

use std::fmt;

pub use fanwire_codec::wamp2::{InvokePolicy, MatchPolicy};

/// Longest URI that is accepted, in bytes. WAMP names no limit; a router needs one, because each subscription keeps its URI.
pub const URI_BYTES_MAX: usize = 255;

/// Most components of a wildcard: one bit each in its [`Shape`].
pub const WILDCARD_COMPONENTS_MAX: usize = 32;

/// Which characters a URI may have (WAMP, "URIs").
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum UriRule {
    /// Anything but whitespace, `#`, and empty components: what a router must accept.
    #[default]
    Loose,
    /// The same with `#`, for version 1 of WAMP, where topics are named `http://example.com/event#chat`.
    Version1,
    /// Only `0-9`, `a-z` and `_` in a component: what WAMP recommends applications to use.
    Strict,
}

/// True if `pattern` under this policy covers the exact URI `uri`.
pub fn matches(policy: MatchPolicy, pattern: &str, uri: &str) -> bool {
    match policy {
        MatchPolicy::Exact => pattern == uri,
        // An empty string points nowhere, and comparing it with vector instructions reads there under an empty mask: 80 ns
        // of the processor's microcode, with each publication and call where one rule is for everything.
        MatchPolicy::Prefix => pattern.is_empty() || uri.starts_with(pattern),
        MatchPolicy::Wildcard => wildcard_matches(pattern, uri),
    }
}

/// True if there can be an exact URI that both cover.
pub fn overlaps(one: (MatchPolicy, &str), other: (MatchPolicy, &str)) -> bool {
    use MatchPolicy::{Exact, Prefix, Wildcard};
    match (one, other) {
        ((Exact, uri), (policy, pattern)) | ((policy, pattern), (Exact, uri)) => {
            matches(policy, pattern, uri)
        }
        ((Prefix, one), (Prefix, other)) => one.starts_with(other) || other.starts_with(one),
        ((Prefix, prefix), (Wildcard, wildcard)) | ((Wildcard, wildcard), (Prefix, prefix)) => {
            let mut names = wildcard.split('.');
            let (whole, begun) = prefix.rsplit_once('.').map_or((None, prefix), |(a, b)| (Some(a), b));
            let fits = |part: &str, name: &str| name.is_empty() || name == part;
            whole
                .into_iter()
                .flat_map(|whole| whole.split('.'))
                .all(|part| names.next().is_some_and(|name| fits(part, name)))
                // The last one is the beginning of a component.
                && names.next().is_some_and(|name| name.is_empty() || name.starts_with(begun))
        }
        ((Wildcard, one), (Wildcard, other)) => {
            let fit = |(one, other): (&str, &str)| one.is_empty() || other.is_empty() || one == other;
            component_count(one) == component_count(other) && one.split('.').zip(other.split('.')).all(fit)
        }
    }
}

/// True if `outer` covers every exact URI that `inner` covers.
pub fn contains(outer: (MatchPolicy, &str), inner: (MatchPolicy, &str)) -> bool {
    match (outer, inner) {
        ((policy, pattern), (MatchPolicy::Exact, uri)) => matches(policy, pattern, uri),
        ((MatchPolicy::Prefix, outer), (MatchPolicy::Prefix, inner)) => inner.starts_with(outer),
        // What all URIs of a wildcard begin with: everything before its first empty component.
        ((MatchPolicy::Prefix, outer), (MatchPolicy::Wildcard, inner)) => {
            let names = inner.split('.').take_while(|name| !name.is_empty());
            let common = names.map(|name| name.len() + 1).sum::<usize>().min(inner.len());
            inner[..common].starts_with(outer)
        }
        // An empty component of `inner` is like any other name that `outer` does not have.
        ((MatchPolicy::Wildcard, outer), (MatchPolicy::Wildcard, inner)) => wildcard_matches(outer, inner),
        // A prefix covers URIs of any number of components.
        ((MatchPolicy::Wildcard, _), (MatchPolicy::Prefix, _)) => false,
        // A wildcard without an empty component covers one URI.
        ((MatchPolicy::Exact, uri), (MatchPolicy::Wildcard, inner)) => uri == inner,
        ((MatchPolicy::Exact, _), (MatchPolicy::Prefix, _)) => false,
    }
}

/// Why a string is no URI. Sent as `wamp.error.invalid_uri` with these words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum UriError {
    /// No character at all, where a name is needed.
    Empty,
    /// Longer than [`URI_BYTES_MAX`].
    TooLong {
        /// Its length.
        bytes: usize,
    },
    /// Two dots in a row, or a dot at the beginning or the end.
    EmptyComponent {
        /// Byte offset of the dot, or of the end, that closes the empty component.
        offset_bytes: usize,
    },
    /// A wildcard of more than [`WILDCARD_COMPONENTS_MAX`] components.
    TooManyComponents,
    /// A character that the rule forbids.
    Forbidden {
        /// The character.
        character: char,
        /// Its byte offset.
        offset_bytes: usize,
        /// The rule that forbids it.
        rule: UriRule,
    },
}

impl fmt::Display for UriError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            UriError::Empty => write!(f, "the URI is empty"),
            UriError::TooLong { bytes } => {
                write!(f, "the URI has {bytes} bytes; at most {URI_BYTES_MAX} are allowed")
            }
            UriError::EmptyComponent { offset_bytes } => {
                write!(
                    f,
                    "the URI has an empty component before byte {offset_bytes}; each part between dots needs a name"
                )
            }
            UriError::TooManyComponents => {
                write!(f, "the wildcard has more than {WILDCARD_COMPONENTS_MAX} components")
            }
            UriError::Forbidden { character, offset_bytes, rule: UriRule::Loose } => {
                write!(
                    f,
                    "the URI has {character:?} at byte {offset_bytes}; whitespace and '#' are not allowed"
                )
            }
            UriError::Forbidden { character, offset_bytes, rule: UriRule::Version1 } => {
                write!(f, "the URI has {character:?} at byte {offset_bytes}; whitespace is not allowed")
            }
            UriError::Forbidden { character, offset_bytes, rule: UriRule::Strict } => {
                write!(
                    f,
                    "the URI has {character:?} at byte {offset_bytes}; only 0-9, a-z, '_' and '.' are allowed"
                )
            }
        }
    }
}

impl std::error::Error for UriError {}

/// Checks the URI of a topic, procedure, realm or error: exact, no empty component.
pub fn check_topic(uri: &str, rule: UriRule) -> Result<(), UriError> {
    if uri.is_empty() {
        return Err(UriError::Empty);
    }
    check(uri, rule, EmptyComponents::Nowhere)
}

/// Checks the URI of a subscription, registration or permission under its policy.
///
/// A prefix may end in the middle of a component or in a dot, and may be empty (it covers everything); a wildcard may
/// have empty components anywhere (WAMP, "Pattern-based Subscriptions").
pub fn check_pattern(uri: &str, policy: MatchPolicy, rule: UriRule) -> Result<(), UriError> {
    match policy {
        MatchPolicy::Exact => check_topic(uri, rule),
        MatchPolicy::Prefix => check(uri, rule, EmptyComponents::Last),
        MatchPolicy::Wildcard => {
            check(uri, rule, EmptyComponents::Anywhere)?;
            if component_count(uri) > WILDCARD_COMPONENTS_MAX {
                return Err(UriError::TooManyComponents);
            }
            Ok(())
        }
    }
}

/// How many components a URI or wildcard has.
pub fn component_count(uri: &str) -> usize {
    1 + uri.bytes().filter(|byte| *byte == b'.').count()
}

/// Where a wildcard has names and where it has none; all wildcards of one shape are told apart by their names alone.
///
/// Of two shapes with as many components, the lesser one has precedence (see the module).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Shape {
    /// How many components.
    pub components: u8,
    /// The first component's bit is the highest; set where the component is empty.
    empty: u32,
}

impl Shape {
    /// The shape of a wildcard, which [`check_pattern`] has seen.
    pub fn of(wildcard: &str) -> Self {
        let mut shape = Self { components: 0, empty: 0 };
        for component in wildcard.split('.') {
            debug_assert!(usize::from(shape.components) < WILDCARD_COMPONENTS_MAX, "check_pattern looked");
            shape.empty |= u32::from(component.is_empty()) << (31 - u32::from(shape.components));
            shape.components += 1;
        }
        shape
    }

    /// Writes the one wildcard of this shape that covers `uri`, which has as many components, to `out`.
    pub fn write_wildcard(self, uri: &str, out: &mut String) {
        out.clear();
        for (index, component) in uri.split('.').enumerate() {
            if index > 0 {
                out.push('.');
            }
            if self.empty & (1 << (31 - index)) == 0 {
                out.push_str(component);
            }
        }
    }
}

/// True for URIs that begin with `wamp.` (WAMP, "URIs", reserved) or `fanwire.`: the router's own, which clients may neither
/// publish nor register.
pub fn is_reserved(uri: &str) -> bool {
    uri.starts_with("wamp.") || uri.starts_with("fanwire.")
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum EmptyComponents {
    Nowhere,
    Last,
    Anywhere,
}

fn check(uri: &str, rule: UriRule, empty: EmptyComponents) -> Result<(), UriError> {
    if uri.len() > URI_BYTES_MAX {
        return Err(UriError::TooLong { bytes: uri.len() });
    }
    let bytes = uri.as_bytes();
    let mut component_start = 0;
    for (offset_bytes, &byte) in bytes.iter().enumerate() {
        match byte {
            b'.' => {
                if offset_bytes == component_start && empty != EmptyComponents::Anywhere {
                    return Err(UriError::EmptyComponent { offset_bytes });
                }
                component_start = offset_bytes + 1;
            }
            b'0'..=b'9' | b'a'..=b'z' | b'_' => {}
            b'#' | 0x00..=0x20 => forbidden_or_control(uri, rule, offset_bytes, byte)?,
            _ if rule == UriRule::Strict => return Err(forbidden(uri, rule, offset_bytes)),
            0x80.. => return check_beyond_ascii(uri, rule, empty),
            _ => {}
        }
    }
    if component_start == bytes.len() && empty == EmptyComponents::Nowhere {
        return Err(UriError::EmptyComponent { offset_bytes: bytes.len() });
    }
    Ok(())
}

/// Control characters are not whitespace for the loose rule, except those that Unicode calls so (tab to carriage return).
fn forbidden_or_control(uri: &str, rule: UriRule, offset_bytes: usize, byte: u8) -> Result<(), UriError> {
    let is_taken = match (rule, byte) {
        (UriRule::Strict, _) => false,
        (rule, b'#') => rule == UriRule::Version1,
        _ => !char::from(byte).is_whitespace(),
    };
    if is_taken { Ok(()) } else { Err(forbidden(uri, rule, offset_bytes)) }
}

fn forbidden(uri: &str, rule: UriRule, offset_bytes: usize) -> UriError {
    let character = uri[offset_bytes..].chars().next().expect("the offset is that of a character");
    UriError::Forbidden { character, offset_bytes, rule }
}

/// The looser rules over characters: Unicode has whitespace beyond ASCII. Only URIs with such characters pay for it.
fn check_beyond_ascii(uri: &str, rule: UriRule, empty: EmptyComponents) -> Result<(), UriError> {
    let mut component_start = 0;
    for (offset_bytes, character) in uri.char_indices() {
        if character == '.' {
            if offset_bytes == component_start && empty != EmptyComponents::Anywhere {
                return Err(UriError::EmptyComponent { offset_bytes });
            }
            component_start = offset_bytes + 1;
        } else if character == '#' && rule != UriRule::Version1 || character.is_whitespace() {
            return Err(UriError::Forbidden { character, offset_bytes, rule });
        }
    }
    if component_start == uri.len() && empty == EmptyComponents::Nowhere {
        return Err(UriError::EmptyComponent { offset_bytes: uri.len() });
    }
    Ok(())
}

fn wildcard_matches(pattern: &str, uri: &str) -> bool {
    let mut wanted = pattern.split('.');
    let mut given = uri.split('.');
    loop {
        match (wanted.next(), given.next()) {
            (None, None) => return true,
            (Some(w), Some(g)) if w.is_empty() || w == g => {}
            _ => return false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn loose_uris() {
        for uri in ["a", "com.myapp.topic1", "Com.My-App.ä.日本", "com.0.$x", "a\u{1}b"] {
            assert_eq!(check_topic(uri, UriRule::Loose), Ok(()), "{uri:?}");
        }
        for uri in [
            "",
            ".",
            "a.",
            ".a",
            "a..b",
            "a b",
            "a.b#",
            "a\tb",
            "a\u{a0}b",
            "ä.",
            ".ä",
            "ä..b",
            "日 本",
            "a\u{2028}",
        ] {
            assert!(check_topic(uri, UriRule::Loose).is_err(), "{uri:?}");
        }
    }

    #[test]
    fn strict_uris() {
        assert_eq!(check_topic("com.my_app.topic1", UriRule::Strict), Ok(()));
        for uri in ["Com.app", "com.my-app", "com.ä", "a\u{1}", "a#", ""] {
            assert!(check_topic(uri, UriRule::Strict).is_err(), "{uri:?}");
        }
    }

    #[test]
    fn at_most_255_bytes() {
        assert_eq!(check_topic(&"a".repeat(255), UriRule::Loose), Ok(()));
        assert_eq!(check_topic(&"a".repeat(256), UriRule::Loose), Err(UriError::TooLong { bytes: 256 }));
    }

    #[test]
    fn empty_components_are_for_patterns() {
        use MatchPolicy::{Exact, Prefix, Wildcard};
        let ok = |uri, policy| check_pattern(uri, policy, UriRule::Loose).is_ok();
        assert!(ok("a.b", Exact) && !ok("a.", Exact) && !ok("", Exact));
        assert!(ok("a.b.", Prefix) && ok("a.b", Prefix) && ok("", Prefix) && ok("ä.", Prefix));
        assert!(!ok("a..b", Prefix) && !ok(".a", Prefix) && !ok(".", Prefix));
        assert!(ok("a..b", Wildcard) && ok("..", Wildcard) && ok("", Wildcard) && ok(".ä.", Wildcard));
        assert!(!ok("a. b", Wildcard));
    }

    #[test]
    fn what_patterns_match() {
        use MatchPolicy::{Exact, Prefix, Wildcard};
        assert!(matches(Exact, "a.b", "a.b") && !matches(Exact, "a.b", "a.b.c"));
        assert!(matches(Prefix, "a.b", "a.bc") && matches(Prefix, "", "x") && !matches(Prefix, "a.b", "a.c"));
        assert!(matches(Wildcard, "a..c", "a.b.c") && !matches(Wildcard, "a..c", "a.b.d"));
        assert!(!matches(Wildcard, "a..c", "a.b.c.d") && !matches(Wildcard, "a..c", "a.c"));
    }

    #[test]
    fn wildcards_have_32_components_at_most() {
        let check = |dots| check_pattern(&".".repeat(dots), MatchPolicy::Wildcard, UriRule::Loose);
        assert_eq!(check(31), Ok(()));
        assert_eq!(check(32), Err(UriError::TooManyComponents));
        assert_eq!(Shape::of(&".".repeat(31)).components, 32);
    }

    /// The examples of WAMP, "Pattern-based Registrations".
    #[test]
    fn the_longer_portion_before_a_wildcard_has_precedence() {
        assert!(Shape::of("a1.b2.c33..e5") < Shape::of("a1.b2..d4.e5"));
        assert!(Shape::of("a1.b2..d4.e5..g7") < Shape::of("a1.b2..d4..f6.g7"));
        assert!(Shape::of("a1.b2..d4") < Shape::of("a1...d4"));
    }

    #[test]
    fn a_shape_and_a_uri_give_the_wildcard() {
        let mut out = "rest".to_owned();
        Shape::of("a..c.").write_wildcard("w.x.y.z", &mut out);
        assert_eq!(out, "w..y.");
        Shape::of("").write_wildcard("w", &mut out);
        assert_eq!(out, "");
    }

    #[test]
    fn errors_name_the_place() {
        let error = check_topic("a.b c", UriRule::Loose).unwrap_err();
        assert_eq!(error.to_string(), "the URI has ' ' at byte 3; whitespace and '#' are not allowed");
        let error = check_topic("a..c", UriRule::Loose).unwrap_err();
        assert!(error.to_string().contains("before byte 2"), "{error}");
    }

    /// The rule as WAMP writes it, one component at a time.
    fn naive_loose(uri: &str, empty_ok: impl Fn(usize, usize) -> bool) -> bool {
        let components: Vec<_> = uri.split('.').collect();
        uri.len() <= URI_BYTES_MAX
            && components.iter().enumerate().all(|(i, c)| {
                if c.is_empty() {
                    empty_ok(i, components.len())
                } else {
                    !c.chars().any(|c| c == '#' || c.is_whitespace())
                }
            })
    }

    /// Topics that a pattern covers, enough to tell: all else in them is `z`, which is in no pattern.
    fn covered_by(policy: MatchPolicy, pattern: &str) -> Vec<String> {
        let filled = |part: &str| {
            pattern
                .split('.')
                .map(|name| if name.is_empty() { part } else { name })
                .collect::<Vec<_>>()
                .join(".")
        };
        let all = match policy {
            MatchPolicy::Exact => vec![pattern.to_owned()],
            MatchPolicy::Wildcard => vec![filled("z")],
            MatchPolicy::Prefix => {
                ["", "z", "z.z", "z.z.z", "z.z.z.z", ".z"].map(|rest| format!("{pattern}{rest}")).to_vec()
            }
        };
        all.into_iter().filter(|uri| check_topic(uri, UriRule::Loose).is_ok()).collect()
    }

    /// All of up to seven characters, of which "z" is in no pattern.
    static SHORT_URIS: std::sync::LazyLock<Vec<String>> = std::sync::LazyLock::new(|| {
        let mut all = vec![String::new()];
        let mut begin = 0;
        for _ in 0..7 {
            let end = all.len();
            for index in begin..end {
                all.extend(["a", "b", "z", "."].map(|last| format!("{}{last}", all[index])));
            }
            begin = end;
        }
        all.retain(|uri| check_topic(uri, UriRule::Loose).is_ok());
        all
    });

    #[test]
    fn long_patterns_overlap_too() {
        use MatchPolicy::{Prefix, Wildcard};
        let both = |one, other| overlaps(one, other) && overlaps(other, one);
        let neither = |one, other| !overlaps(one, other) && !overlaps(other, one);
        assert!(both((Prefix, "aa"), (Wildcard, "...")) && both((Prefix, "aa.b"), (Wildcard, ".bb..")));
        assert!(
            both((Wildcard, "aa..c."), (Wildcard, ".bb..d")) && both((Prefix, "aa.bb."), (Prefix, "aa."))
        );
        assert!(
            neither((Prefix, "a.b.c."), (Wildcard, "..")) && neither((Prefix, "aa.b"), (Wildcard, ".a.."))
        );
        assert!(
            neither((Wildcard, "aa..c"), (Wildcard, "..d")) && neither((Wildcard, ".."), (Wildcard, "."))
        );
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(256))]
        #[test]
        fn agrees_with_the_naive_rule(uri in "[a-c.# \u{1}ä\u{2003}Z]{0,8}") {
            prop_assert_eq!(check_topic(&uri, UriRule::Loose).is_ok(), naive_loose(&uri, |_, _| false));
            prop_assert_eq!(
                check_pattern(&uri, MatchPolicy::Prefix, UriRule::Loose).is_ok(),
                naive_loose(&uri, |i, n| i + 1 == n)
            );
            prop_assert_eq!(
                check_pattern(&uri, MatchPolicy::Wildcard, UriRule::Loose).is_ok(),
                naive_loose(&uri, |_, _| true)
            );
        }

        #[test]
        fn who_overlaps_has_something_in_common(
            one in (0..3u8, "[ab.]{0,2}"), other in (0..3u8, "[ab.]{0,2}")
        ) {
            let policy = |number| [MatchPolicy::Exact, MatchPolicy::Prefix, MatchPolicy::Wildcard][usize::from(number)];
            let (one, other) = ((policy(one.0), &*one.1), (policy(other.0), &*other.1));
            let valid = |(policy, uri)| check_pattern(uri, policy, UriRule::Loose).is_ok();
            prop_assume!(valid(one) && valid(other));
            let both = |uri: &String| matches(one.0, one.1, uri) && matches(other.0, other.1, uri);
            prop_assert_eq!(overlaps(one, other), SHORT_URIS.iter().any(both));
            prop_assert_eq!(overlaps(one, other), overlaps(other, one));
        }

        #[test]
        fn who_contains_covers_what_the_other_covers(
            outer in (0..3u8, "[ab.]{0,4}"), inner in (0..3u8, "[ab.]{0,4}")
        ) {
            let policy = |number| [MatchPolicy::Exact, MatchPolicy::Prefix, MatchPolicy::Wildcard][usize::from(number)];
            let (outer, inner) = ((policy(outer.0), &*outer.1), (policy(inner.0), &*inner.1));
            let valid = |(policy, uri)| check_pattern(uri, policy, UriRule::Loose).is_ok();
            prop_assume!(valid(outer) && valid(inner));
            let covered = covered_by(inner.0, inner.1);
            prop_assert!(covered.iter().all(|uri| matches(inner.0, inner.1, uri)));
            let covers_all = covered.iter().all(|uri| matches(outer.0, outer.1, uri));
            prop_assert_eq!(contains(outer, inner), covers_all);
        }
    }
}
