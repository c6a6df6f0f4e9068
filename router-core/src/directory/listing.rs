//! Listing the topics that somebody is subscribed to, and what is registered, a page at a time.
//!
//! A page locks one bucket after another, each for as long as its entries are looked at, and looks at a bounded number of
//! them. So it holds up no subscriber for longer than another subscriber would, however many topics there are.

use std::sync::Arc;

use super::{
    Directory, Registration, Topic,
    table::{Entry, Table},
};
use crate::clock::Instant;
use crate::ids::{RealmId, RegistrationId, SubscriptionId};
use crate::uri::MatchPolicy;

/// Which topics are meant: those that agree with everything that is there.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub struct TopicFilter<'a> {
    /// This realm.
    pub realm: Option<RealmId>,
    /// URIs (of patterns too) that begin so.
    pub prefix: &'a str,
}

/// Where a listing stands. A topic that is there from the first page to the last is in exactly one of them; one that comes
/// or goes meanwhile may be. The numbers may be told to clients and taken back from them.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct TopicCursor {
    /// The bucket.
    pub bucket: u32,
    /// The last subscription id of this bucket that was listed.
    pub after: u64,
}

/// Some topics.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TopicPage {
    /// In no order that means anything; maybe fewer than asked for, or none, though more follow.
    pub topics: Vec<TopicInfo>,
    /// Where to go on; `None` at the end.
    pub next: Option<TopicCursor>,
}

/// One topic or pattern that somebody is subscribed to.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TopicInfo {
    /// The subscription's id, the same for all its subscribers.
    pub id: SubscriptionId,
    /// The realm.
    pub realm: RealmId,
    /// The URI, or the pattern.
    pub uri: Box<str>,
    /// How it is compared.
    pub policy: MatchPolicy,
    /// The shards on which somebody is subscribed, as a mask.
    pub interest: u64,
    /// When the first of its subscribers came, to the second.
    pub created: Instant,
}

impl Directory {
    /// At most `limit` of the topics that agree with `filter`, from `after` on.
    pub fn topics(&self, filter: TopicFilter<'_>, after: TopicCursor, limit: usize) -> TopicPage {
        let id = |topic: &Topic| topic.id().get();
        let (page, next) = self.topics.page(after, limit, id, |topic| filter.admits(topic));
        TopicPage { topics: page.iter().map(|topic| TopicInfo::of(topic)).collect(), next }
    }

    /// The topic or pattern with this id, if somebody is subscribed to it.
    pub fn topic_with(&self, id: SubscriptionId) -> Option<TopicInfo> {
        let is_it = |topic: &Topic| topic.id() == id && topic.interest() != 0;
        Some(TopicInfo::of(&*self.topics.with_id(id.get(), is_it)?))
    }

    /// At most `limit` of the realm's registrations, from `after` on, and where to go on.
    pub fn registrations(
        &self,
        realm: RealmId,
        after: TopicCursor,
        limit: usize,
    ) -> (Vec<Arc<Registration>>, Option<TopicCursor>) {
        self.registrations.page(after, limit, |entry| entry.id().get(), |entry| entry.realm() == realm)
    }

    /// The registration with this id.
    pub fn registration_with(&self, id: RegistrationId) -> Option<Arc<Registration>> {
        self.registrations.with_id(id.get(), |entry| entry.id() == id)
    }
}

impl<E: Entry> Table<E> {
    /// The entry that has this id. Looks through one bucket.
    fn with_id(&self, id: u64, is_it: impl Fn(&E) -> bool) -> Option<Arc<E>> {
        let mut found = Vec::new();
        self.collect(self.bucket_of_id(id), &mut found, |entry| is_it(entry).then(|| Arc::clone(entry)));
        found.pop()
    }

    /// Some entries that are meant, by bucket and then by id, and where to go on.
    fn page(
        &self,
        after: TopicCursor,
        limit: usize,
        id: impl Fn(&E) -> u64,
        admits: impl Fn(&E) -> bool,
    ) -> (Vec<Arc<E>>, Option<TopicCursor>) {
        let (mut page, mut looked_at, mut cursor) = (Vec::new(), 0, after);
        while (cursor.bucket as usize) < self.bucket_count() {
            if looked_at >= LOOKED_AT_MAX || page.len() >= limit {
                return (page, Some(cursor));
            }
            let mut found = Vec::new();
            looked_at += self.collect(cursor.bucket as usize, &mut found, |entry| {
                (id(entry) > cursor.after && admits(entry)).then(|| Arc::clone(entry))
            });
            found.sort_unstable_by_key(|entry| id(entry));
            let room = limit - page.len();
            cursor = match found.get(room) {
                Some(_) => TopicCursor { after: id(&found[room - 1]), ..cursor },
                None => TopicCursor { bucket: cursor.bucket + 1, after: 0 },
            };
            page.extend(found.into_iter().take(room));
        }
        (page, None)
    }
}

impl TopicFilter<'_> {
    fn admits(&self, topic: &Topic) -> bool {
        topic.interest() != 0
            && self.realm.is_none_or(|realm| realm == topic.realm())
            && topic.uri().starts_with(self.prefix)
    }
}

impl TopicInfo {
    fn of(topic: &Topic) -> Self {
        Self {
            id: topic.id(),
            realm: topic.realm(),
            uri: topic.uri().into(),
            policy: topic.policy(),
            interest: topic.interest(),
            created: topic.created(),
        }
    }
}

/// Entries that one page looks at before it ends, found or not: a millisecond or two.
const LOOKED_AT_MAX: usize = 16_384;

#[cfg(all(test, not(loom)))]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::ids::ShardId;

    fn directory(topics: usize) -> Directory {
        let directory = Directory::new(3);
        let shard = |index| ShardId::new(index).expect("a shard");
        for number in 0..topics {
            let uri = format!("{}.{number}", ["room", "news"][number % 2]);
            directory.subscribe(RealmId::new((number % 3) as u32), &uri, shard(0));
            if number % 5 == 0 {
                directory.subscribe(RealmId::new((number % 3) as u32), &uri, shard(7));
            }
        }
        directory
    }

    /// All pages, one after another.
    fn walk(directory: &Directory, filter: TopicFilter<'_>, limit: usize) -> Vec<TopicInfo> {
        let mut all = Vec::new();
        let mut at = Some(TopicCursor::default());
        while let Some(after) = at {
            let page = directory.topics(filter, after, limit);
            assert!(page.topics.len() <= limit, "a page is as long as asked for at most");
            assert!(page.next.is_none_or(|next| next > after), "each page goes on");
            all.extend(page.topics);
            at = page.next;
        }
        all
    }

    #[test]
    fn each_topic_is_listed_once_whatever_the_pages_length() {
        let directory = directory(40_000);
        for limit in [1_000, 7_001, usize::MAX] {
            let all = walk(&directory, TopicFilter::default(), limit);
            let ids: BTreeSet<_> = all.iter().map(|topic| topic.id).collect();
            assert_eq!((all.len(), ids.len()), (40_000, 40_000), "pages of {limit}");
        }
    }

    #[test]
    fn many_topics_of_one_bucket_are_listed_in_pages() {
        let directory = directory(5_000);
        let all = walk(&directory, TopicFilter::default(), 1);
        let ids: BTreeSet<_> = all.iter().map(|topic| topic.id).collect();
        assert_eq!((all.len(), ids.len()), (5_000, 5_000));
    }

    #[test]
    fn a_listing_has_what_its_filter_admits_and_nothing_else() {
        let directory = directory(3_000);
        let filter = TopicFilter { realm: Some(RealmId::new(1)), prefix: "news." };
        let listed: BTreeSet<_> = walk(&directory, filter, 50).into_iter().map(|topic| topic.uri).collect();
        let expected: BTreeSet<Box<str>> = (0..3_000)
            .filter(|number| number % 3 == 1 && number % 2 == 1)
            .map(|number| format!("news.{number}").into())
            .collect();
        assert_eq!(listed, expected);
        let pattern = directory
            .subscribe_pattern(RealmId::new(0), MatchPolicy::Prefix, "room.1", ShardId::MAX, 9)
            .expect("there is room");
        let filter = TopicFilter { realm: Some(RealmId::new(0)), prefix: "room.1" };
        let listed = walk(&directory, filter, 50);
        assert!(listed.contains(&TopicInfo {
            id: pattern.id(),
            realm: RealmId::new(0),
            uri: "room.1".into(),
            policy: MatchPolicy::Prefix,
            interest: ShardId::MAX.bit(),
            created: Instant::START,
        }));
    }

    #[test]
    fn each_topic_is_found_by_its_id_and_no_id_is_there_twice() {
        let directory = directory(5_000);
        let mut ids = BTreeSet::new();
        for topic in walk(&directory, TopicFilter::default(), usize::MAX) {
            assert_eq!(directory.topic_with(topic.id), Some(topic.clone()));
            ids.insert(topic.id);
        }
        assert_eq!(ids.len(), 5_000);
        let missing =
            (1..10_000_000).step_by(997).filter_map(SubscriptionId::new).filter(|id| !ids.contains(id));
        assert!(missing.map(|id| directory.topic_with(id)).all(|found| found.is_none()));
    }

    #[test]
    fn nothing_is_listed_of_a_topic_that_nobody_is_subscribed_to() {
        let directory = Directory::new(3);
        let topic = directory.subscribe(RealmId::new(0), "a", ShardId::MAX);
        directory.unsubscribe(&topic, ShardId::MAX);
        assert_eq!(walk(&directory, TopicFilter::default(), 10), []);
    }
}
