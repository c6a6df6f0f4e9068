//! `[wamp1]`: clients of WAMP version 1.

use fanwire_core::access::Access;
use fanwire_core::login::LoginMethod;
use fanwire_core::uri::{MatchPolicy, UriRule, check_pattern};
use fanwire_core::wamp1::{self, NameMap};
use serde::{Deserialize, Serialize};

use super::describe::{Described, described};
use super::load::Origins;
use super::problem::{Problem, nearest};
use super::schema::{Config, Hook, Realm};

described! {
    /// Clients of WAMP version 1.
    #[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
    #[serde(deny_unknown_fields, default)]
    pub struct Wamp1 {
        /// The realm in which its clients are, as the realm's role for anonymous clients; `"none"`: version 1 is not spoken.
        ///
        /// `""`: the realm, where there is one alone and it takes anonymous clients; otherwise `"none"`. Users with secrets for
        /// `wampcra` can log in; where the realm takes no anonymous clients they have to.
        #[acts(restart)]
        pub realm: String,
        /// Names that are others in the realm: `[[wamp1.name]]` with `v1` and `v2`.
        ///
        /// What begins with `v1` begins with `v2` there: with `v1 = "http://example.com/event#"` and `v2 = "com.example.event."` the
        /// topic `http://example.com/event#chat` is `com.example.event.chat`. That goes for topics, procedures and the errors of
        /// calls, and the longest one that fits decides. All other names are the same.
        #[acts(restart)]
        pub name: Vec<Name>,
    }
}

/// A name that is another one in the realm. Explained at `wamp1.name`.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Name {
    /// The beginning in version 1.
    pub v1: String,
    /// The beginning in the realm.
    pub v2: String,
}

impl Described for Name {}

/// The word for "version 1 is not spoken".
const NO_REALM: &str = "none";

impl Wamp1 {
    /// As the router wants it, once it was checked.
    pub fn read(&self, config: &Config, access: &Access) -> wamp1::Wamp1 {
        wamp1::Wamp1 {
            realm: realm(config).and_then(|realm| access.realm(&realm.name)),
            names: NameMap::new(self.name.iter().map(|name| (name.v1.as_str(), name.v2.as_str()))),
        }
    }
}

/// The realm of its clients, if version 1 is spoken.
pub fn realm(config: &Config) -> Option<&Realm> {
    match (config.wamp1.realm.as_str(), &config.realm[..]) {
        (NO_REALM, _) => None,
        ("", [realm]) => Some(realm).filter(|realm| realm.anonymous().is_some()),
        ("", _) => None,
        (name, realms) => realms.iter().find(|realm| realm.name == name),
    }
}

/// Whether its clients may be able to log in, which they do by WAMP-CRA.
fn may_log_in(config: &Config, realm: &Realm) -> bool {
    let is_asked = |hook: &Hook| {
        let is_meant = hook.realms.is_empty() || hook.realms.contains(&realm.name);
        is_meant && hook.methods.iter().any(|method| method == LoginMethod::WampCra.name())
    };
    !realm.user.is_empty() || realm.users_file().is_some() || config.hook.iter().any(is_asked)
}

/// All that is wrong with it.
pub fn check(config: &Config, origins: &Origins) -> Vec<Problem> {
    let mut checker = Checker { origins, problems: Vec::new() };
    checker.realm(config);
    for (index, name) in config.wamp1.name.iter().enumerate() {
        checker.name(index, name, &config.wamp1.name[..index]);
    }
    checker.problems
}

struct Checker<'a> {
    origins: &'a Origins,
    problems: Vec<Problem>,
}

impl Checker<'_> {
    fn realm(&mut self, config: &Config) {
        let name = &config.wamp1.realm;
        if name.is_empty() || name == NO_REALM {
            return;
        }
        let Some(realm) = realm(config) else {
            let names: Vec<&str> = config.realm.iter().map(|realm| realm.name.as_str()).collect();
            let near = nearest(name, &names).map(|near| format!("did you mean {near}?"));
            let help = near.into_iter().chain([format!("realms: {}", names.join(", "))]);
            return self.refuse("wamp1.realm", format!("there is no realm {name:?}"), help);
        };
        if realm.anonymous().is_none() && !may_log_in(config, realm) {
            let wrong =
                format!("realm {name:?} has neither anonymous clients nor users, so nobody could come in");
            let help = "give the realm an anonymous_role or users with secrets for wampcra, or name another realm, or \"none\"";
            self.refuse("wamp1.realm", wrong, [help.into()]);
        }
    }

    fn name(&mut self, index: usize, name: &Name, before: &[Name]) {
        let key = |part: &str| format!("wamp1.name.{index}.{part}");
        if let Err(wrong) = check_pattern(&name.v2, MatchPolicy::Prefix, UriRule::Loose) {
            let help = "allowed: the beginning of a URI, such as \"com.example.event.\"";
            self.refuse(&key("v2"), format!("{:?}: {wrong}", name.v2), [help.into()]);
        }
        if name.v1.is_empty() {
            let help = "allowed: the beginning of a URI, such as \"http://example.com/event#\"";
            self.refuse(&key("v1"), "it is empty, which every name begins with", [help.into()]);
        }
        for (part, twice) in [
            ("v1", before.iter().any(|other| other.v1 == name.v1)),
            ("v2", before.iter().any(|other| other.v2 == name.v2)),
        ] {
            if twice {
                let help = "put both into one [[wamp1.name]]: a beginning has one other side";
                self.refuse(&key(part), "there is a name for that already", [help.into()]);
            }
        }
    }

    fn refuse(&mut self, key: &str, wrong: impl Into<String>, help: impl IntoIterator<Item = String>) {
        self.problems.push(Problem {
            place: self.origins.place(key),
            key: Some(key.to_owned()),
            wrong: wrong.into(),
            help: help.into_iter().collect(),
        });
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::with_file;
    use super::*;

    fn loaded(text: &str) -> Result<Config, String> {
        with_file(text, &[], Vec::new()).map(|loaded| loaded.config)
    }

    const REALM: &str =
        "[[realm]]\nname = \"NAME\"\nanonymous_role = \"ROLE\"\n[[realm.role]]\nname = \"anonymous\"\n";

    fn realms(realms: &[(&str, &str)], more: &str) -> String {
        let realm = |(name, role): &(&str, &str)| REALM.replace("NAME", name).replace("ROLE", role);
        realms.iter().map(realm).collect::<String>() + more
    }

    #[test]
    fn the_realm_is_the_only_one_or_the_one_that_is_named() {
        let named = |name: &str| format!("[wamp1]\nrealm = \"{name}\"\n");
        let (open, other, closed) = (("a", "anonymous"), ("b", "anonymous"), ("c", "none"));
        for (all, more, expected) in [
            (&[open][..], String::new(), Some("a")),
            (&[open, other], String::new(), None),
            (&[closed], String::new(), None),
            (&[open, other], named("b"), Some("b")),
            (&[open], named("none"), None),
        ] {
            let config = loaded(&realms(all, &more)).expect("right");
            assert_eq!(realm(&config).map(|realm| realm.name.as_str()), expected, "{all:?} {more}");
        }
        for (name, words) in
            [("d", "there is no realm \"d\""), ("c", "has neither anonymous clients nor users")]
        {
            let refused = loaded(&realms(&[open, closed], &named(name))).expect_err("it is wrong");
            assert!(refused.contains("wamp1.realm") && refused.contains(words), "{refused}");
        }
    }

    #[test]
    fn names_are_checked() {
        let name = |v1: &str, v2: &str| format!("[[wamp1.name]]\nv1 = \"{v1}\"\nv2 = \"{v2}\"\n");
        let config = loaded(&(name("http://x/a#", "x.a.") + &name("http://x/", "x."))).expect("right");
        assert_eq!(config.wamp1.name.len(), 2);
        for (text, key) in [
            (name("", "x."), "wamp1.name.0.v1"),
            (name("http://x/", "http://x/#"), "wamp1.name.0.v2"),
            (name("http://x/", "x..y"), "wamp1.name.0.v2"),
            (name("a", "x.") + &name("a", "y."), "wamp1.name.1.v1"),
            (name("a", "x.") + &name("b", "x."), "wamp1.name.1.v2"),
        ] {
            let refused = loaded(&text).expect_err("it is wrong");
            assert!(refused.contains(key), "{key}: {refused}");
        }
    }
}
