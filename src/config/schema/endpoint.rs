//! What is spoken at a path: a word, or a table that says more.

use std::fmt;

use fanwire_codec::wamp2::Serializer;
use serde::de::value::{MapAccessDeserializer, StrDeserializer};
use serde::de::{Deserializer, MapAccess, Visitor};
use serde::{Deserialize, Serialize};

/// What is spoken at a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Protocol {
    /// WAMP over WebSocket.
    Wamp,
    /// WAMP over HTTP long-polling, at paths below this one.
    #[serde(rename = "wamp-longpoll")]
    WampLongpoll,
    /// The message center's JSON over WebSocket.
    #[serde(rename = "message-center")]
    MessageCenter,
    /// Plain messages over WebSocket.
    Echo,
    /// Messages over WebSocket that a script decides on.
    Lua,
}

impl Protocol {
    /// Whether it is WAMP, by whatever transport.
    pub fn is_wamp(self) -> bool {
        matches!(self, Self::Wamp | Self::WampLongpoll)
    }
}

/// A serializer of WAMP.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum SerializerName {
    /// JSON.
    Json,
    /// MessagePack.
    Msgpack,
    /// CBOR.
    Cbor,
}

impl From<SerializerName> for Serializer {
    fn from(name: SerializerName) -> Self {
        match name {
            SerializerName::Json => Self::Json,
            SerializerName::Msgpack => Self::MsgPack,
            SerializerName::Cbor => Self::Cbor,
        }
    }
}

/// What is at a path. Explained at `listener.endpoints`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// What is spoken there.
    pub protocol: Protocol,
    /// The only realm that WAMP clients may join there.
    pub realm: Option<String>,
    /// What WAMP clients may speak there; `None`: everything.
    pub serializers: Option<Vec<SerializerName>>,
}

impl From<Protocol> for Endpoint {
    fn from(protocol: Protocol) -> Self {
        Self { protocol, realm: None, serializers: None }
    }
}

impl Endpoint {
    /// Whether it is no more than its protocol.
    pub fn is_plain(&self) -> bool {
        *self == Self::from(self.protocol)
    }
}

/// The table.
#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct Table {
    protocol: Protocol,
    #[serde(skip_serializing_if = "Option::is_none")]
    realm: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    serializers: Option<Vec<SerializerName>>,
}

impl Serialize for Endpoint {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if self.is_plain() {
            return self.protocol.serialize(serializer);
        }
        let Self { protocol, realm, serializers } = self.clone();
        Table { protocol, realm, serializers }.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Endpoint {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Either;
        impl<'de> Visitor<'de> for Either {
            type Value = Endpoint;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a protocol, such as \"wamp\", or a table such as { protocol = \"wamp\", realm = \"realm1\" }")
            }

            fn visit_str<E: serde::de::Error>(self, word: &str) -> Result<Endpoint, E> {
                Protocol::deserialize(StrDeserializer::new(word)).map(Endpoint::from)
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Endpoint, A::Error> {
                let Table { protocol, realm, serializers } =
                    Table::deserialize(MapAccessDeserializer::new(map))?;
                Ok(Endpoint { protocol, realm, serializers })
            }
        }
        deserializer.deserialize_any(Either)
    }
}
