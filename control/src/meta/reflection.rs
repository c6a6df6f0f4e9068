//! `wamp.reflection.*` and `wamp.reflect.*`: which procedures, topics and errors there are, and what sessions say of them.
//!
//! ```text
//! wamp.reflect.define ─▶ Definitions, by realm, kind and URI ─▶ wamp.reflect.on_define
//!                                       └ with what is registered and subscribed to: lists and descriptions
//! ```
//!
//! A definition is a dictionary that the router keeps and does not look into. It belongs to the realm, not to the session: it stays
//! until somebody who may provide the same takes it back.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};

use fanwire_codec::json;
use fanwire_core::access::Action;
use fanwire_core::directory::TopicFilter;
use fanwire_core::ids::RealmId;
use fanwire_core::meta::{self, News};
use fanwire_core::uri::{self, MatchPolicy};
use serde::Serialize;
use serde_json::value::RawValue;

use super::words::{Arguments, Refused, Said, error, parse_dict};
use super::{Caller, Desk};

/// Definitions of a realm, and bytes of all of them with their URIs.
const DEFINITIONS_MAX: usize = 4_096;
const BYTES_MAX: usize = 16 << 20;
/// Bytes of one of them.
const DEFINITION_BYTES_MAX: usize = 16 << 10;
/// Lists and dictionaries in it, one in another. Descriptions put it into three more, and no payload has more than 128.
const DEFINITION_DEPTH_MAX: u32 = 64;
/// URIs of one list.
const URIS_MAX: usize = 10_000;

/// What can be defined.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) enum Kind {
    Procedure,
    Topic,
    Error,
}

impl Kind {
    const ALL: [Self; 3] = [Self::Procedure, Self::Topic, Self::Error];

    fn name(self) -> &'static str {
        match self {
            Self::Procedure => "procedure",
            Self::Topic => "topic",
            Self::Error => "error",
        }
    }

    /// Who may provide one. Errors come from callees.
    fn provided_by(self) -> Action {
        match self {
            Self::Procedure | Self::Error => Action::Register,
            Self::Topic => Action::Publish,
        }
    }

    /// Who may use one. Errors come to callers.
    fn used_by(self) -> Action {
        match self {
            Self::Procedure | Self::Error => Action::Call,
            Self::Topic => Action::Subscribe,
        }
    }
}

/// What sessions have defined, in all realms. One for all lanes.
#[derive(Clone, Debug, Default)]
pub(super) struct Definitions(Arc<Mutex<Defined>>);

#[derive(Debug, Default)]
struct Defined {
    realms: BTreeMap<RealmId, ByName>,
    bytes: usize,
}

/// Definitions are JSON.
type ByName = BTreeMap<(Kind, Box<str>), Box<RawValue>>;

impl Definitions {
    fn with<T>(&self, look: impl FnOnce(&mut Defined) -> T) -> T {
        // It holds nothing that could be half done.
        look(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn get(&self, realm: RealmId, kind: Kind, uri: &str) -> Option<Box<RawValue>> {
        self.with(|defined| defined.realms.get(&realm)?.get(&(kind, uri.into())).cloned())
    }

    /// The URIs that are defined as this kind.
    fn uris(&self, realm: RealmId, kind: Kind) -> Vec<Box<str>> {
        self.with(|defined| {
            let all = defined.realms.get(&realm).into_iter().flatten();
            all.filter(|((of, _), _)| *of == kind).map(|((_, uri), _)| uri.clone()).collect()
        })
    }
}

impl Defined {
    /// Says anew what something is; `None`: nothing is said of it any more. False: nothing was said before either.
    fn set(
        &mut self,
        realm: RealmId,
        kind: Kind,
        uri: &str,
        definition: Option<Box<RawValue>>,
    ) -> Result<bool, Refused> {
        let size = |definition: &RawValue| uri.len() + definition.get().len();
        let by_name = self.realms.entry(realm).or_default();
        let key = (kind, Box::from(uri));
        let before = by_name.get(&key).map_or(0, |before| size(before));
        let Some(definition) = definition else {
            self.bytes -= before;
            return Ok(by_name.remove(&key).is_some());
        };
        let bytes = self.bytes - before + size(&definition);
        if before == 0 && by_name.len() >= DEFINITIONS_MAX || bytes > BYTES_MAX {
            let words = format!(
                "there are as many definitions as are kept: {DEFINITIONS_MAX} in a realm, {BYTES_MAX} bytes in all"
            );
            return Err(Refused::new(error::UNAVAILABLE, words));
        }
        self.bytes = bytes;
        by_name.insert(key, definition);
        Ok(true)
    }
}

/// What is told of one.
#[derive(Serialize)]
struct Description<'a> {
    uri: &'a str,
    #[serde(rename = "type")]
    kind: &'static str,
    /// Of the registration to which a call goes.
    #[serde(skip_serializing_if = "Option::is_none")]
    registration: Option<u64>,
    /// Of exactly this topic.
    #[serde(skip_serializing_if = "Option::is_none")]
    subscription: Option<u64>,
    definition: Option<Box<RawValue>>,
}

impl Desk {
    /// Calls of `wamp.reflection.KIND.VERB`.
    pub(super) async fn reflect(
        &self,
        caller: Caller,
        arguments: &Arguments<'_>,
        kind: Kind,
        verb: Verb,
    ) -> Result<Said, Refused> {
        match verb {
            Verb::List => self.list_names(caller, arguments, kind).await,
            Verb::Describe => {
                arguments.expect(1, &[])?;
                let uri = arguments.uri(0, "a URI")?;
                Ok(Said::one(&self.describe(caller, kind, &uri)))
            }
        }
    }

    /// `wamp.reflect.describe`: all kinds of things of this name.
    pub(super) fn describe_all(&self, caller: Caller, arguments: &Arguments<'_>) -> Result<Said, Refused> {
        arguments.expect(1, &[])?;
        let uri = arguments.uri(0, "a URI")?;
        let known: BTreeMap<&str, Description<'_>> = Kind::ALL
            .into_iter()
            .filter_map(|kind| Some((kind.name(), self.describe(caller, kind, &uri)?)))
            .collect();
        Ok(Said::one(&(!known.is_empty()).then_some(known)))
    }

    /// `wamp.reflect.define`.
    pub(super) fn define(&self, caller: Caller, arguments: &Arguments<'_>) -> Result<Said, Refused> {
        arguments.expect(2, &["type"])?;
        let uri = arguments.uri(0, "a URI")?;
        let kind = match arguments.text_of("type")? {
            None => Kind::Procedure,
            Some(name) => Kind::ALL.into_iter().find(|kind| kind.name() == name).ok_or_else(|| {
                Refused::argument("type must be \"procedure\", \"topic\" or \"error\"".to_owned())
            })?,
        };
        let dictionary =
            || "positional argument 1 must be the definition, a dictionary, or left out".to_owned();
        let definition: Option<BTreeMap<String, Box<RawValue>>> =
            arguments.positional(1).map(|value| parse_dict(value, dictionary)).transpose()?;
        let definition = definition
            .filter(|pairs| !pairs.is_empty())
            .map(|pairs| serde_json::value::to_raw_value(&pairs).expect("it was JSON before"));
        if let Some(long) = definition.as_ref().filter(|text| text.get().len() > DEFINITION_BYTES_MAX) {
            let words =
                format!("the definition has {} bytes, more than {DEFINITION_BYTES_MAX}", long.get().len());
            return Err(Refused::new(error::PAYLOAD_SIZE_EXCEEDED, words));
        }
        let is_deep = |text: &RawValue| json::validate(text.get().as_bytes(), DEFINITION_DEPTH_MAX).is_err();
        if definition.as_deref().is_some_and(is_deep) {
            let words =
                format!("the definition has lists or dictionaries more than {DEFINITION_DEPTH_MAX} deep");
            return Err(Refused::argument(words));
        }
        let action = kind.provided_by();
        if !self.core.load().access.authorize(caller.realm, caller.role, action, &uri) {
            let words = format!("who may not {} {uri} does not say what it is", action.verb());
            return Err(Refused::new(error::NOT_AUTHORIZED, words));
        }
        let (topic, args) = match &definition {
            Some(definition) => (ON_DEFINE, serde_json::to_string(&(&uri, kind.name(), definition))),
            None => (ON_UNDEFINE, serde_json::to_string(&(&uri, kind.name()))),
        };
        let args = args.expect("definitions are JSON").into_boxed_str();
        let directory = self.shards.directory();
        // Under the lock: what is told is in the order of what is kept.
        self.definitions.with(|defined| {
            let is_news = defined.set(caller.realm, kind, &uri, definition)?;
            if is_news && !directory.matching(caller.realm, topic).is_empty() {
                self.news.tell(directory.next_news(), caller.realm, News::Own { topic, args });
            }
            Ok(Said::NOTHING)
        })
    }

    /// Whether this is for the caller: it may use it, or provide it.
    fn concerns(&self, caller: Caller, kind: Kind, uri: &str) -> bool {
        let core = self.core.load();
        let may = |action| core.access.authorize(caller.realm, caller.role, action, uri);
        may(kind.used_by()) || may(kind.provided_by())
    }

    fn describe<'a>(&self, caller: Caller, kind: Kind, uri: &'a str) -> Option<Description<'a>> {
        if !self.concerns(caller, kind, uri) {
            return None;
        }
        let directory = self.shards.directory();
        let (mut registration, mut subscription, mut is_own) = (None, None, false);
        match kind {
            Kind::Procedure => {
                registration = self.registration_for(caller.realm, uri).map(|entry| entry.id().get());
                is_own = meta::procedures().any(|own| own == uri);
            }
            Kind::Topic => {
                let topic = directory.lookup(caller.realm, MatchPolicy::Exact, uri);
                subscription = topic.filter(|topic| topic.interest() != 0).map(|topic| topic.id().get());
                is_own = meta::topics().any(|own| own == uri);
            }
            Kind::Error => {}
        }
        let definition = self.definitions.get(caller.realm, kind, uri);
        let is_known = is_own || registration.is_some() || subscription.is_some() || definition.is_some();
        is_known.then_some(Description { uri, kind: kind.name(), registration, subscription, definition })
    }

    async fn list_names(
        &self,
        caller: Caller,
        arguments: &Arguments<'_>,
        kind: Kind,
    ) -> Result<Said, Refused> {
        arguments.expect(0, &[])?;
        let mut names: BTreeSet<Box<str>> = self.definitions.uris(caller.realm, kind).into_iter().collect();
        names.retain(|uri| self.concerns(caller, kind, uri));
        let add = |uri: &str, names: &mut BTreeSet<Box<str>>| {
            if self.concerns(caller, kind, uri) {
                names.insert(uri.into());
            }
            names.len() <= URIS_MAX
        };
        match kind {
            Kind::Procedure => {
                meta::procedures().for_each(|uri| _ = add(uri, &mut names));
                self.visit_registrations(caller, None, |entry| {
                    entry.policy() != MatchPolicy::Exact || add(entry.uri(), &mut names)
                })
                .await;
            }
            Kind::Topic => {
                meta::topics().for_each(|uri| _ = add(uri, &mut names));
                let filter = TopicFilter { realm: Some(caller.realm), ..TopicFilter::default() };
                self.visit_topics(filter, |info| {
                    let is_name = info.policy == MatchPolicy::Exact && !uri::is_reserved(&info.uri);
                    !is_name || add(&info.uri, &mut names)
                })
                .await;
            }
            Kind::Error => {}
        }
        if names.len() > URIS_MAX {
            let words = format!("there are more than {URIS_MAX} of them, the most that a list has");
            return Err(Refused::new(error::PAYLOAD_SIZE_EXCEEDED, words));
        }
        Ok(Said::one(&names))
    }
}

/// What is asked about a kind of things.
#[derive(Clone, Copy, Debug)]
pub(super) enum Verb {
    List,
    Describe,
}

/// The kind and the verb in the name of a procedure.
pub(super) fn reflecting(uri: &str) -> Option<(Kind, Verb)> {
    let (kind, verb) = uri.strip_prefix("wamp.reflection.")?.split_once('.')?;
    let kind = Kind::ALL.into_iter().find(|known| known.name() == kind)?;
    match verb {
        "list" => Some((kind, Verb::List)),
        "describe" => Some((kind, Verb::Describe)),
        _ => None,
    }
}

const ON_DEFINE: &str = "wamp.reflect.on_define";
const ON_UNDEFINE: &str = "wamp.reflect.on_undefine";

#[cfg(test)]
mod tests {
    use super::*;

    fn definition(length: usize) -> Option<Box<RawValue>> {
        let text = format!("{{\"a\":\"{}\"}}", "x".repeat(length));
        Some(RawValue::from_string(text).expect("JSON"))
    }

    #[test]
    fn definitions_are_bounded_in_number_and_in_bytes_and_give_back_what_they_held() {
        let (one, other) = (RealmId::new(0), RealmId::new(1));
        let mut defined = Defined::default();
        for number in 0..DEFINITIONS_MAX {
            assert_eq!(defined.set(one, Kind::Topic, &format!("a.{number}"), definition(1)), Ok(true));
        }
        let full = |outcome: Result<bool, Refused>| outcome.is_err_and(|why| why.uri == error::UNAVAILABLE);
        assert!(full(defined.set(one, Kind::Error, "b", definition(1))));
        assert_eq!(defined.set(one, Kind::Topic, "a.7", definition(9)), Ok(true), "it is there already");
        assert_eq!(defined.set(other, Kind::Topic, "a.7", definition(9)), Ok(true), "another realm");
        let large = definition(DEFINITION_BYTES_MAX);
        let refused = (0..DEFINITIONS_MAX)
            .position(|number| full(defined.set(other, Kind::Topic, &format!("c.{number}"), large.clone())));
        assert!(refused.is_some_and(|number| number * DEFINITION_BYTES_MAX <= BYTES_MAX));
        assert!(defined.bytes <= BYTES_MAX);
        for realm in [one, other] {
            let keys: Vec<_> = defined.realms[&realm].keys().cloned().collect();
            for (kind, uri) in keys {
                assert_eq!(defined.set(realm, kind, &uri, None), Ok(true));
                assert_eq!(defined.set(realm, kind, &uri, None), Ok(false), "it is gone");
            }
        }
        assert_eq!(defined.bytes, 0);
    }

    #[test]
    fn names_of_procedures_say_what_is_asked() {
        assert!(matches!(reflecting("wamp.reflection.topic.list"), Some((Kind::Topic, Verb::List))));
        assert!(matches!(reflecting("wamp.reflection.error.describe"), Some((Kind::Error, Verb::Describe))));
        for uri in ["wamp.reflection.topic", "wamp.reflection.topics.list", "wamp.reflection.topic.lists"] {
            assert!(reflecting(uri).is_none(), "{uri}");
        }
    }
}
