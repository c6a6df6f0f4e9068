//! `wamp.session.add_testament` and `flush_testaments`.

use fanwire_codec::payload::OwnedPayload;
use fanwire_codec::wamp2::{self, Payload, ReceiverLists, Serializer};
use fanwire_core::api::{Actor, ApiAnswer, ApiPublication, Ask, TestamentOrder, TestamentScope};
use fanwire_core::ids::RoleId;
use fanwire_core::uri::{self, UriRule};
use serde::{Deserialize, Serialize};

use super::words::{Arguments, Refused, Said, error, parse_dict};
use super::{Caller, Desk};

/// What PUBLISH takes as options, as far as it means something for a testament. Others are not honoured (WAMP, "Session
/// Testament"): there is nobody to be answered, excluded or disclosed any more.
#[derive(Default, Deserialize)]
#[serde(default)]
struct PublishOptions {
    exclude: Option<OneOrMore<u64>>,
    exclude_authid: Option<OneOrMore<String>>,
    exclude_authrole: Option<OneOrMore<String>>,
    eligible: Option<OneOrMore<u64>>,
    eligible_authid: Option<OneOrMore<String>>,
    eligible_authrole: Option<OneOrMore<String>>,
    x_conflate_key: Option<Box<str>>,
    retain: bool,
    #[serde(flatten)]
    passthru: Passthru,
}

/// What is said of a payload that only its receivers understand (WAMP, "Payload Passthru Mode").
#[derive(Default, Deserialize, Serialize, PartialEq)]
#[serde(default)]
struct Passthru {
    ppt_scheme: Option<Box<str>>,
    ppt_serializer: Option<Box<str>>,
    ppt_cipher: Option<Box<str>>,
    ppt_keyid: Option<Box<str>>,
}

impl Passthru {
    /// The payload with this.
    fn attach(&self, payload: OwnedPayload) -> Result<OwnedPayload, Refused> {
        if *self == Self::default() {
            return Ok(payload);
        }
        if self.ppt_scheme.as_deref().unwrap_or_default().is_empty() {
            let words = "ppt_scheme must be a string that is not empty, since there are other ppt_ options";
            return Err(Refused::argument(words.to_owned()));
        }
        let all = [&self.ppt_scheme, &self.ppt_serializer, &self.ppt_cipher, &self.ppt_keyid];
        if all.into_iter().flatten().any(|text| text.starts_with('\0')) {
            let words = "ppt_ options must not begin with U+0000, which means binary";
            return Err(Refused::argument(words.to_owned()));
        }
        let dict = serde_json::to_vec(self).expect("a few strings");
        let passthru = Some(wamp2::Passthru::in_dict(&dict));
        Ok(OwnedPayload::copy_from(payload.serializer(), &Payload { passthru, ..payload.view() }))
    }
}

/// As in PUBLISH.
#[derive(Deserialize)]
#[serde(untagged)]
enum OneOrMore<T> {
    One(T),
    More(Vec<T>),
}

impl<T> OneOrMore<T> {
    fn into_vec(self) -> Vec<T> {
        match self {
            Self::One(one) => vec![one],
            Self::More(all) => all,
        }
    }
}

impl Desk {
    pub(super) async fn add_testament(
        &self,
        caller: Caller,
        arguments: &Arguments<'_>,
    ) -> Result<Said, Refused> {
        arguments.expect(3, &["publish_options", "scope"])?;
        let topic = arguments.text(0, "a topic")?;
        uri::check_topic(&topic, UriRule::Loose)
            .map_err(|why| Refused::new(error::INVALID_URI, format!("the topic {topic:?}: {why}")))?;
        let part = |place: usize| arguments.positional(place).map(|value| value.get().as_bytes());
        let payload = OwnedPayload::checked(Serializer::Json, part(1), part(2)).map_err(|why| {
            let words = format!("args must be a list and kwargs a dictionary, as events have them: {why}");
            Refused::argument(words)
        })?;
        let words = || "publish_options must be a dictionary of PUBLISH's options".to_owned();
        let options: Option<PublishOptions> =
            arguments.keyword("publish_options").map(|value| parse_dict(value, words)).transpose()?;
        let options = options.unwrap_or_default();
        let payload = options.passthru.attach(payload)?;
        let publication = Box::new(ApiPublication {
            // The session's role, which its shard knows.
            actor: Actor { realm: caller.realm, role: RoleId::new(0) },
            topic: topic.into(),
            payload,
            plain: false,
            receivers: ReceiverLists {
                exclude: options.exclude.map(OneOrMore::into_vec),
                exclude_authid: options.exclude_authid.map(names),
                exclude_authrole: options.exclude_authrole.map(names),
                eligible: options.eligible.map(OneOrMore::into_vec),
                eligible_authid: options.eligible_authid.map(names),
                eligible_authrole: options.eligible_authrole.map(names),
            },
            conflate_key: options.x_conflate_key,
            retain: options.retain,
            receipt: false,
            from: None,
        });
        self.order_testament(caller, TestamentOrder::Add { scope: scope(arguments)?, publication }).await
    }

    pub(super) async fn flush_testaments(
        &self,
        caller: Caller,
        arguments: &Arguments<'_>,
    ) -> Result<Said, Refused> {
        arguments.expect(0, &["scope"])?;
        self.order_testament(caller, TestamentOrder::Flush { scope: scope(arguments)? }).await
    }

    async fn order_testament(&self, caller: Caller, order: TestamentOrder) -> Result<Said, Refused> {
        let gone = || Refused::new(error::NO_SUCH_SESSION, "only a session has testaments".to_owned());
        let session = caller.session.ok_or_else(gone)?;
        let entry = self.shards.directory().session(session).ok_or_else(gone)?;
        let ask = Ask::Testament { session, realm: caller.realm, order };
        match self.ask(entry.shard, ask).await? {
            ApiAnswer::Ordered(Ok(())) => Ok(Said::NOTHING),
            ApiAnswer::Ordered(Err(refusal)) => Err(Refused::new(refusal.error, refusal.words)),
            _ => unreachable!("orders are answered as such"),
        }
    }
}

fn names(names: OneOrMore<String>) -> Vec<std::borrow::Cow<'static, str>> {
    names.into_vec().into_iter().map(Into::into).collect()
}

fn scope(arguments: &Arguments<'_>) -> Result<TestamentScope, Refused> {
    let Some(value) = arguments.keyword("scope") else { return Ok(TestamentScope::Destroyed) };
    match value.get() {
        "\"detached\"" => Ok(TestamentScope::Detached),
        "\"destroyed\"" => Ok(TestamentScope::Destroyed),
        other => {
            Err(Refused::argument(format!("scope is {other}, and must be \"detached\" or \"destroyed\"")))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_said_of_a_payload_stays_with_it_and_needs_a_scheme() {
        for (options, expected) in [
            ("{}", Ok(None)),
            (r#"{"ppt_scheme":null,"exclude":1}"#, Ok(None)),
            (
                r#"{"ppt_keyid":"k\"","ppt_scheme":"x","exclude":1}"#,
                Ok(Some(r#"{"ppt_scheme":"x","ppt_keyid":"k\""}"#)),
            ),
            (r#"{"ppt_keyid":"k"}"#, Err(error::INVALID_ARGUMENT)),
            (r#"{"ppt_scheme":""}"#, Err(error::INVALID_ARGUMENT)),
        ] {
            let read: PublishOptions = serde_json::from_str(options).expect("options");
            let payload = OwnedPayload::checked(Serializer::Json, Some(b"[1]"), None).expect("JSON");
            let attached = read.passthru.attach(payload).map_err(|refused| refused.uri);
            let said = attached.map(|payload| {
                let view = payload.view();
                assert_eq!(view.args, Some(&b"[1]"[..]));
                let dict = view.passthru.map(|passthru| passthru.to_dict(Serializer::Json));
                dict.map(|dict| String::from_utf8(dict.to_vec()).expect("JSON"))
            });
            assert_eq!(said, expected.map(|dict| dict.map(str::to_owned)), "{options}");
        }
        assert!(serde_json::from_str::<PublishOptions>(r#"{"ppt_scheme":1}"#).is_err());
    }
}
