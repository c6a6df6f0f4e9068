//! `wamp.subscription.*`: what is subscribed to, and by whom.

use std::collections::BTreeMap;

use fanwire_codec::wamp2::Revoked;
use fanwire_core::api::{ApiAnswer, Ask, Revocation, SessionCursor, SessionFilter};
use fanwire_core::directory::{Registration, TopicCursor, TopicFilter, TopicInfo};
use fanwire_core::ids::{SessionId, ShardId, SubscriptionId};
use fanwire_core::meta::EntryDetails;
use fanwire_core::uri::{self, MatchPolicy, UriRule};
use serde::Serialize;

use super::sessions::{LIST_MAX, check_length};
use super::words::{Arguments, Refused, Said, error};
use super::{Caller, Desk, breathe};
use crate::calendar;

/// Entries of one look into the directory, and sessions of one question to a shard.
pub(super) const PAGE: usize = 1_024;

/// What is told of a subscription or registration (WAMP, "Subscription Meta API" and "Registration Meta API").
#[derive(Serialize)]
pub(super) struct EntryRow<'a> {
    id: u64,
    created: String,
    uri: &'a str,
    #[serde(rename = "match")]
    policy: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    invoke: Option<&'static str>,
}

impl<'a> EntryRow<'a> {
    pub(super) fn of_news(id: u64, details: &'a EntryDetails) -> Self {
        Self {
            id,
            created: calendar::to_the_second(fanwire_io::wall_clock(details.created)),
            uri: &details.uri,
            policy: details.policy.name(),
            invoke: details.invoke.map(|policy| policy.name()),
        }
    }

    pub(super) fn of_registration(registration: &'a Registration) -> Self {
        Self {
            id: registration.id().get(),
            created: calendar::to_the_second(fanwire_io::wall_clock(registration.created())),
            uri: registration.uri(),
            policy: registration.policy().name(),
            invoke: Some(registration.invoke().name()),
        }
    }

    fn of_topic(info: &'a TopicInfo) -> Self {
        Self {
            id: info.id.get(),
            created: calendar::to_the_second(fanwire_io::wall_clock(info.created)),
            uri: &info.uri,
            policy: info.policy.name(),
            invoke: None,
        }
    }
}

/// Ids by policy, each of which is there.
pub(super) fn by_policy(ids: impl Iterator<Item = (MatchPolicy, u64)>) -> BTreeMap<&'static str, Vec<u64>> {
    let policies = [MatchPolicy::Exact, MatchPolicy::Prefix, MatchPolicy::Wildcard];
    let mut lists: BTreeMap<_, _> = policies.map(|policy| (policy.name(), Vec::new())).into();
    ids.for_each(|(policy, id)| lists.entry(policy.name()).or_default().push(id));
    lists
}

impl Desk {
    pub(super) async fn list_subscriptions(
        &self,
        caller: Caller,
        arguments: &Arguments<'_>,
    ) -> Result<Said, Refused> {
        arguments.expect(0, &[])?;
        let filter = TopicFilter { realm: Some(caller.realm), ..TopicFilter::default() };
        let mut all = Vec::new();
        self.visit_topics(filter, |info| {
            all.push((info.policy, info.id.get()));
            all.len() <= LIST_MAX
        })
        .await;
        check_length(all.len(), "subscriptions")?;
        Ok(Said::one(&by_policy(all.into_iter())))
    }

    /// Shows the subscriptions that the filter admits, until `each` has enough. Others have their turn in between.
    pub(super) async fn visit_topics(
        &self,
        filter: TopicFilter<'_>,
        mut each: impl FnMut(TopicInfo) -> bool,
    ) {
        let mut after = Some(TopicCursor::default());
        while let Some(cursor) = after {
            let page = self.shards.directory().topics(filter, cursor, PAGE);
            for info in page.topics {
                if !each(info) {
                    return;
                }
            }
            after = page.next;
            breathe().await;
        }
    }

    pub(super) fn lookup_subscription(
        &self,
        caller: Caller,
        arguments: &Arguments<'_>,
    ) -> Result<Said, Refused> {
        arguments.expect(2, &[])?;
        let (pattern, policy) = (arguments.text(0, "a topic")?, arguments.policy(1)?);
        uri::check_pattern(&pattern, policy, UriRule::Loose)
            .map_err(|why| Refused::new(error::INVALID_URI, format!("{pattern:?}: {why}")))?;
        let topic = self.shards.directory().lookup(caller.realm, policy, &pattern);
        let topic = topic.filter(|topic| topic.interest() != 0);
        Ok(Said::one(&topic.map(|topic| topic.id().get())))
    }

    pub(super) fn match_subscriptions(
        &self,
        caller: Caller,
        arguments: &Arguments<'_>,
    ) -> Result<Said, Refused> {
        arguments.expect(1, &[])?;
        let uri = arguments.uri(0, "a topic")?;
        let matching = self.shards.directory().matching(caller.realm, &uri);
        let ids: Vec<u64> = matching.iter().map(|topic| topic.id().get()).collect();
        Ok(Said::one(&(!ids.is_empty()).then_some(ids)))
    }

    pub(super) fn get_subscription(
        &self,
        caller: Caller,
        arguments: &Arguments<'_>,
    ) -> Result<Said, Refused> {
        arguments.expect(1, &[])?;
        Ok(Said::one(&EntryRow::of_topic(&self.subscription(caller, arguments)?)))
    }

    pub(super) async fn list_subscribers(
        &self,
        caller: Caller,
        arguments: &Arguments<'_>,
    ) -> Result<Said, Refused> {
        arguments.expect(1, &[])?;
        let ids: Vec<u64> = self.subscribers(caller, arguments).await?.iter().map(|id| id.get()).collect();
        check_length(ids.len(), "subscribers")?;
        Ok(Said::one(&ids))
    }

    pub(super) async fn count_subscribers(
        &self,
        caller: Caller,
        arguments: &Arguments<'_>,
    ) -> Result<Said, Refused> {
        arguments.expect(1, &[])?;
        Ok(Said::one(&self.subscribers(caller, arguments).await?.len()))
    }

    pub(super) async fn remove_subscriber(
        &self,
        caller: Caller,
        arguments: &Arguments<'_>,
    ) -> Result<Said, Refused> {
        arguments.expect(3, &["reason"])?;
        let subscription = self.subscription(caller, arguments)?.id;
        let what = Revoked::Subscription(subscription.get());
        self.revoke(caller, arguments, what, "is not subscribed to").await
    }

    /// Takes it from the session of the second argument. `lacks`: what that is said to be if it has it not.
    pub(super) async fn revoke(
        &self,
        caller: Caller,
        arguments: &Arguments<'_>,
        what: Revoked,
        lacks: &str,
    ) -> Result<Said, Refused> {
        let number = arguments.id(1, "session")?;
        let reason = arguments.reason_at(2)?;
        let lacking = || {
            let words = format!("there is no session {number} in this realm, or it {lacks} that");
            Refused::new(error::NO_SUCH_SESSION, words)
        };
        let directory = self.shards.directory();
        let session = SessionId::new(number).ok_or_else(lacking)?;
        let entry =
            directory.session(session).filter(|entry| entry.realm == caller.realm).ok_or_else(lacking)?;
        let ask = Ask::Revoke(Box::new(Revocation { session, realm: caller.realm, what, reason }));
        match self.ask(entry.shard, ask).await? {
            ApiAnswer::Revoked(true) => Ok(Said::NOTHING),
            _ => Err(lacking()),
        }
    }

    /// The subscription of the first argument. One of another realm is none.
    pub(super) fn subscription(
        &self,
        caller: Caller,
        arguments: &Arguments<'_>,
    ) -> Result<TopicInfo, Refused> {
        let number = arguments.id(0, "subscription")?;
        let found = SubscriptionId::new(number).and_then(|id| self.shards.directory().topic_with(id));
        found.filter(|info| info.realm == caller.realm).ok_or_else(|| {
            let words = format!("there is no subscription {number} in this realm");
            Refused::new(error::NO_SUCH_SUBSCRIPTION, words)
        })
    }

    async fn subscribers(
        &self,
        caller: Caller,
        arguments: &Arguments<'_>,
    ) -> Result<Vec<SessionId>, Refused> {
        let info = self.subscription(caller, arguments)?;
        let filter = SessionFilter {
            realm: Some(caller.realm),
            subscription: Some(info.id),
            ..SessionFilter::default()
        };
        let shards = self.each_shard().filter(|shard| info.interest & (1 << shard.get()) != 0);
        self.sessions_on(shards, filter).await
    }

    /// The sessions of these shards that the filter admits.
    pub(super) async fn sessions_on(
        &self,
        shards: impl Iterator<Item = ShardId>,
        filter: SessionFilter,
    ) -> Result<Vec<SessionId>, Refused> {
        let mut all = Vec::new();
        for shard in shards {
            let mut after = Some(SessionCursor::default());
            while let Some(cursor) = after {
                let ask = Ask::Sessions { filter: filter.clone(), after: cursor, limit: PAGE };
                let ApiAnswer::Sessions { page, next } = self.ask(shard, ask).await? else {
                    unreachable!("sessions are answered as such")
                };
                all.extend(page.iter().map(|info| info.session));
                after = next;
            }
        }
        Ok(all)
    }
}
