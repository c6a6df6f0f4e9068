//! `wamp.session.add_testament` and `flush_testaments`.

use fanwire_codec::payload::OwnedPayload;
use fanwire_codec::wamp2::{ReceiverLists, Serializer};
use fanwire_core::api::{Actor, ApiAnswer, ApiPublication, Ask, TestamentOrder, TestamentScope};
use fanwire_core::ids::RoleId;
use fanwire_core::uri::{self, UriRule};
use serde::Deserialize;

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
