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
use fanwire_codec::payload::OwnedPayload;
use fanwire_codec::wamp2::Serializer;
use fanwire_core::access::Action;
use fanwire_core::directory::TopicFilter;
use fanwire_core::ids::{RealmId, SessionId};
use fanwire_core::meta::{self, News};
use fanwire_core::uri::{self, MatchPolicy};
use serde::Serialize;
use serde_json::value::RawValue;

use super::words::{Arguments, Refused, Said, error, parse_dict};
use super::{Caller, Desk};

/// Definitions of a realm, and those of them that one session has said.
const DEFINITIONS_MAX: usize = 4_096;
const DEFINITIONS_OF_SESSION_MAX: usize = DEFINITIONS_MAX / 4;
/// Bytes of all definitions with their URIs, and of one realm's.
const BYTES_MAX: usize = 16 << 20;
const BYTES_OF_REALM_MAX: usize = BYTES_MAX / 4;
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
    realms: BTreeMap<RealmId, OfRealm>,
    bytes: usize,
}

#[derive(Debug, Default)]
struct OfRealm {
    by_name: BTreeMap<(Kind, Box<str>), Definition>,
    bytes: usize,
}

#[derive(Debug)]
struct Definition {
    /// JSON.
    text: Box<RawValue>,
    /// Who said it last; `None`: a program.
    by: Option<SessionId>,
}

impl Definitions {
    fn with<T>(&self, look: impl FnOnce(&mut Defined) -> T) -> T {
        // It holds nothing that could be half done.
        look(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn get(&self, realm: RealmId, kind: Kind, uri: &str) -> Option<Box<RawValue>> {
        self.with(|defined| Some(defined.realms.get(&realm)?.by_name.get(&(kind, uri.into()))?.text.clone()))
    }

    /// The URIs that are defined as this kind.
    fn uris(&self, realm: RealmId, kind: Kind) -> Vec<Box<str>> {
        self.with(|defined| {
            let all = defined.realms.get(&realm).into_iter().flat_map(|of| &of.by_name);
            all.filter(|((of, _), _)| *of == kind).map(|((_, uri), _)| uri.clone()).collect()
        })
    }
}

impl Defined {
    /// Says anew what something is; `None`: nothing is said of it any more. False: nothing was said before either.
    fn set(
        &mut self,
        realm: RealmId,
        by: Option<SessionId>,
        (kind, uri): (Kind, &str),
        definition: Option<Box<RawValue>>,
    ) -> Result<bool, Refused> {
        let size = |definition: &RawValue| uri.len() + definition.get().len();
        let of_realm = self.realms.entry(realm).or_default();
        let key = (kind, Box::from(uri));
        let known = of_realm.by_name.get(&key);
        let before = known.map_or(0, |before| size(&before.text));
        let Some(text) = definition else {
            self.bytes -= before;
            of_realm.bytes -= before;
            return Ok(of_realm.by_name.remove(&key).is_some());
        };
        let is_another = by.is_some() && known.is_none_or(|known| known.by != by);
        let of_session = || of_realm.by_name.values().filter(|known| known.by == by).count();
        if is_another && of_session() >= DEFINITIONS_OF_SESSION_MAX {
            let words = format!(
                "this session has said {DEFINITIONS_OF_SESSION_MAX} of them, the most that are kept of one"
            );
            return Err(Refused::new(error::UNAVAILABLE, words));
        }
        let bytes = size(&text);
        if known.is_none() && of_realm.by_name.len() >= DEFINITIONS_MAX
            || of_realm.bytes - before + bytes > BYTES_OF_REALM_MAX
            || self.bytes - before + bytes > BYTES_MAX
        {
            let words = format!(
                "there are as many definitions as are kept: {DEFINITIONS_MAX} in a realm, with {BYTES_OF_REALM_MAX} bytes, and \
                 {BYTES_MAX} bytes in all"
            );
            return Err(Refused::new(error::UNAVAILABLE, words));
        }
        self.bytes = self.bytes - before + bytes;
        of_realm.bytes = of_realm.bytes - before + bytes;
        of_realm.by_name.insert(key, Definition { text, by });
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
        // Else their readers would be told of an error, or of nothing.
        let args = definition.as_ref().map(|text| [b"[", text.get().as_bytes(), b"]"].concat());
        let payload = args.as_deref().map(|args| OwnedPayload::checked(Serializer::Json, Some(args), None));
        if payload
            .is_some_and(|checked| checked.map_or(true, |one| one.transcode(Serializer::MsgPack).is_err()))
        {
            return Err(Refused::argument(
                "the definition has strings that other serializers have no form for: one that begins with U+0000 means binary"
                    .to_owned(),
            ));
        }
        let action = kind.provided_by();
        if !self.core.load().access.authorize(caller.realm, caller.role, action, &uri) {
            let words = format!("who may not {} {uri} does not say what it is", action.verb());
            return Err(Refused::new(error::NOT_AUTHORIZED, words));
        }
        if self.core.load().access.asks_about(caller.realm, caller.role, action, &uri) {
            let verb = action.verb();
            let words = format!("a hook decides who may {verb} {uri}, and is not asked about definitions");
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
            let is_news = defined.set(caller.realm, caller.session, (kind, &uri), definition)?;
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
                self.visit_registrations(caller, |entry| {
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
        let realms = [0, 1, 2, 3, 4, 5].map(RealmId::new);
        let [one, other, ..] = realms;
        let mut defined = Defined::default();
        for number in 0..DEFINITIONS_MAX {
            let name = format!("a.{number}");
            assert_eq!(defined.set(one, None, (Kind::Topic, &name), definition(1)), Ok(true));
        }
        let full = |outcome: Result<bool, Refused>| outcome.is_err_and(|why| why.uri == error::UNAVAILABLE);
        assert!(full(defined.set(one, None, (Kind::Error, "b"), definition(1))));
        let known = (Kind::Topic, "a.7");
        assert_eq!(defined.set(one, None, known, definition(9)), Ok(true), "it is there already");
        assert_eq!(defined.set(other, None, known, definition(9)), Ok(true), "another realm");
        let large = definition(DEFINITION_BYTES_MAX);
        let mut fill = |realm| {
            (0..DEFINITIONS_MAX)
                .position(|number| {
                    full(defined.set(realm, None, (Kind::Topic, &format!("c.{number}")), large.clone()))
                })
                .expect("it is full")
        };
        let fitted = realms[1..].iter().map(|realm| fill(*realm) * DEFINITION_BYTES_MAX);
        let fitted: Vec<usize> = fitted.collect();
        assert!(fitted[0] > BYTES_OF_REALM_MAX / 2 && fitted[0] <= BYTES_OF_REALM_MAX);
        assert!(fitted[1] > BYTES_OF_REALM_MAX / 2, "the next realm has room: {fitted:?}");
        assert!(defined.bytes <= BYTES_MAX);
        for realm in realms {
            let keys: Vec<_> = defined.realms[&realm].by_name.keys().cloned().collect();
            for (kind, uri) in keys {
                assert_eq!(defined.set(realm, None, (kind, &uri), None), Ok(true));
                assert_eq!(defined.set(realm, None, (kind, &uri), None), Ok(false), "it is gone");
            }
            assert_eq!(defined.realms[&realm].bytes, 0);
        }
        assert_eq!(defined.bytes, 0);
    }

    #[test]
    fn one_session_does_not_fill_its_realm() {
        let (realm, [one, other]) = (RealmId::new(0), [1, 2].map(SessionId::new));
        let mut defined = Defined::default();
        let mut define =
            |by, uri: &str| defined.set(realm, by, (Kind::Procedure, uri), definition(1)).is_ok();
        for number in 0..DEFINITIONS_OF_SESSION_MAX {
            assert!(define(one, &format!("a.{number}")));
        }
        assert!(!define(one, "b"));
        assert!(define(one, "a.7"), "it is its own already");
        assert!(define(other, "b") && define(other, "a.7"));
        assert!(define(one, "b"), "one of its own was said anew by another one");
        assert!(!define(one, "a.7"), "it is another one's");
        assert!(define(None, "d"));
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
