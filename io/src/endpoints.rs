//! What endpoints of WAMP offer, where that is not everything.

use fanwire_codec::wamp2::Serializer;
use fanwire_codec::ws::Kind;

use crate::config::EndpointId;

/// What a WAMP endpoint offers. The default: everything.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct WampRules {
    /// The only realm that its clients may join.
    pub realm: Option<String>,
    /// The serializers that its clients may speak, whatever the transport. Empty: all.
    pub serializers: Vec<Serializer>,
}

impl WampRules {
    /// Whether clients may speak it.
    pub fn allow(&self, serializer: Serializer) -> bool {
        self.serializers.is_empty() || self.serializers.contains(&serializer)
    }

    /// The subprotocols of its WebSockets, in batches and without.
    pub(crate) fn subprotocols(&self) -> impl Iterator<Item = Subprotocol> {
        let allowed = Serializer::ALL.into_iter().filter(|serializer| self.allow(*serializer));
        let both = |serializer| [false, true].map(|batched| Subprotocol { serializer, batched });
        allowed.flat_map(both)
    }
}

/// A WebSocket subprotocol of WAMP v2.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Subprotocol {
    pub(crate) serializer: Serializer,
    /// Its messages come in batches.
    pub(crate) batched: bool,
}

impl Subprotocol {
    pub(crate) fn from_name(name: &str) -> Option<Self> {
        WampRules::default().subprotocols().find(|known| known.name() == name)
    }

    pub(crate) fn name(self) -> &'static str {
        if self.batched { self.serializer.batched_subprotocol() } else { self.serializer.subprotocol() }
    }

    /// What its WebSocket messages are.
    pub(crate) fn kind(self) -> Kind {
        if self.serializer.is_text() { Kind::Text } else { Kind::Binary }
    }
}

/// The rules of the WAMP endpoints that have some, by their ids.
#[derive(Clone, Debug, Default)]
pub struct WampEndpoints(Vec<WampRules>);

impl WampEndpoints {
    /// The id of endpoints with these rules.
    ///
    /// # Panics
    ///
    /// With more than [`WAMP_RULES_MAX`] different rules.
    pub fn id(&mut self, rules: &WampRules) -> EndpointId {
        if *rules == WampRules::default() {
            return crate::Router::WAMP;
        }
        let at = self.0.iter().position(|known| known == rules).unwrap_or_else(|| {
            self.0.push(rules.clone());
            self.0.len() - 1
        });
        EndpointId(u8::try_from(at + FIRST).expect("no more than WAMP_RULES_MAX"))
    }

    /// The rules of a WAMP endpoint, if it has some.
    pub(crate) fn rules(&self, id: EndpointId) -> Option<&WampRules> {
        self.0.get(usize::from(id.0).checked_sub(FIRST)?)
    }
}

/// The ids before it are the same everywhere, and the last ones are those of handlers.
const FIRST: usize = 8;
/// Different rules that have an id.
pub const WAMP_RULES_MAX: usize = 256 - FIRST - crate::Router::HANDLERS_MAX as usize;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_rules_have_one_id_and_no_rules_that_of_all() {
        let mut endpoints = WampEndpoints::default();
        let rules = |realm: &str| WampRules { realm: Some(realm.to_owned()), ..WampRules::default() };
        assert_eq!(endpoints.id(&WampRules::default()), crate::Router::WAMP);
        let (one, two) = (endpoints.id(&rules("one")), endpoints.id(&rules("two")));
        assert_eq!(endpoints.id(&rules("one")), one);
        assert_ne!(one, two);
        assert_eq!(endpoints.rules(two), Some(&rules("two")));
        assert_eq!(endpoints.rules(crate::Router::WAMP), None);
        assert_eq!(endpoints.rules(EndpointId(FIRST as u8 + 2)), None);
    }

    #[test]
    fn a_subprotocol_is_found_again_by_its_name() {
        let rules = WampRules { serializers: vec![Serializer::Cbor], ..WampRules::default() };
        let names: Vec<_> = rules.subprotocols().map(Subprotocol::name).collect();
        assert_eq!(names, ["wamp.2.cbor", "wamp.2.cbor.batched"]);
        for known in WampRules::default().subprotocols() {
            assert_eq!(Subprotocol::from_name(known.name()), Some(known));
        }
        assert_eq!(Subprotocol::from_name("wamp.2.cbor.batch"), None);
    }
}
