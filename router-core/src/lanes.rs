//! What goes from shard to shard, and the way out of this one.
//!
//! One bounded FIFO ring per ordered pair of shards carries everything that two sessions cause in each other:
//! publications, invocations, answers. Nothing overtakes anything. Data sees a ring full some slots before answers do,
//! so that a flood of publications cannot hold up the end of a call.

use std::collections::VecDeque;
use std::sync::Arc;

use fanwire_codec::payload::SharedPayload;

use crate::directory::{Found, PatternMatches, Topic};
use crate::ids::{PublicationId, SessionId, ShardId, SubscriptionId};
use crate::inner::InnerId;
use crate::mutation::{Mutation, planted};
use crate::parcel::Parcel;
use crate::receivers::Receivers;
use crate::session::Provenance;

/// One item of a ring. Opaque to the driver, which only carries it.
#[derive(Debug)]
pub struct RingItem(pub(crate) Item);

const _: () = assert!(size_of::<RingItem>() <= 16, "a ring slot");

impl RingItem {
    /// Bytes of the payload that it keeps in memory.
    pub fn bytes(&self) -> usize {
        match &self.0 {
            Item::Publish(publication) => publication.payload.original().len(),
            Item::Call(parcel) => parcel.len(),
            Item::Receipt { .. } | Item::LoggedOut(_) => 0,
        }
    }

    /// Whether it answers something that this shard was asked, or ends it, which no bound of bytes holds up.
    pub fn is_answer(&self) -> bool {
        match &self.0 {
            Item::Publish(_) => false,
            Item::Call(parcel) => parcel.ends_call(),
            Item::Receipt { .. } | Item::LoggedOut(_) => true,
        }
    }
}

/// How full the ring to another shard is, as the driver sees it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RingSpace {
    /// Slots that are free.
    pub slots: usize,
    /// [`RingItem::bytes`] of all items in the ring.
    pub bytes_queued: usize,
}

#[cfg(feature = "mutations")]
impl RingItem {
    /// The subscription that a publication goes to: the simulation plants "routed by topic owner" with it.
    pub fn subscription(&self) -> Option<u64> {
        match &self.0 {
            Item::Publish(publication) => {
                let first = publication.patterns.as_ref().map(|matches| matches.entries()[0].id());
                publication.subscription.or(first).map(|id| id.get())
            }
            Item::Call(_) | Item::Receipt { .. } | Item::LoggedOut(_) => None,
        }
    }
}

#[derive(Debug)]
pub(crate) enum Item {
    /// Deliver to this shard's subscribers.
    Publish(Arc<Publication>),
    /// Invoke a procedure of this shard's session, or end a call of this shard's session.
    Call(Box<Parcel>),
    /// So many subscribers of this shard has a publication matched that the other one asked a receipt for.
    Receipt { number: u64, matched: u32 },
    /// End this shard's session: it was open by a login that has ended. There are as many as a login has sessions.
    LoggedOut(SessionId),
}

/// One routed event, shared by all shards that have subscribers.
#[derive(Debug)]
pub(crate) struct Publication {
    pub(crate) id: PublicationId,
    /// The exact subscription.
    pub(crate) subscription: Option<SubscriptionId>,
    /// The subscriptions by prefix and wildcard.
    pub(crate) patterns: Option<Arc<PatternMatches<Topic>>>,
    pub(crate) payload: SharedPayload,
    /// It came without structure.
    pub(crate) plain: bool,
    /// What is told of the publisher.
    pub(crate) publisher: Option<Provenance>,
    /// Whom it is for, unless for all subscribers.
    pub(crate) receivers: Option<Arc<Receivers>>,
    /// The publisher's shard wants to hear under this number whom it matched.
    pub(crate) receipt: Option<u64>,
    /// A hash of what it is about, where its publisher says so.
    pub(crate) key: Option<u64>,
    /// The inner subscriber that it came from, which does not get it.
    pub(crate) except_inner: Option<InnerId>,
    /// Where it stands among all that was kept; 0: it was not.
    pub(crate) version: u64,
}

impl Publication {
    /// What it reaches, with the entry of its exact subscription.
    pub(crate) fn found<'a>(&'a self, exact: Option<&'a Arc<Topic>>) -> Found<'a> {
        Found { exact, patterns: self.patterns.as_ref() }
    }
}

/// Items that wait for the next push into one ring.
#[derive(Debug, Default)]
struct Lane {
    staged: VecDeque<RingItem>,
    /// Payload bytes of these items.
    staged_bytes: usize,
    /// When the driver last said so. Only the other side changes it, and only for the better.
    space: RingSpace,
}

/// The ways to all other shards.
#[derive(Debug)]
pub(crate) struct Lanes {
    lanes: Vec<Lane>,
    reserve: usize,
    bytes_max: usize,
}

impl Lanes {
    /// Data leaves `reserve` slots of each ring to answers, and waits while a ring holds `bytes_max` or more.
    pub(crate) fn new(shards: usize, reserve: usize, bytes_max: usize) -> Self {
        Self { lanes: (0..shards).map(|_| Lane::default()).collect(), reserve, bytes_max }
    }

    pub(crate) fn set_space(&mut self, to: ShardId, space: RingSpace) {
        self.lanes[to.index()].space = space;
    }

    /// Whether data may still go there in this turn. The bytes are asked for before the item is known, so a ring holds at
    /// most one payload more, and an empty one takes an item of any size.
    pub(crate) fn has_room(&self, to: ShardId) -> bool {
        let lane = &self.lanes[to.index()];
        let fits = lane.staged_bytes + lane.space.bytes_queued < self.bytes_max;
        lane.staged.len() + self.reserve < lane.space.slots && (fits || planted(Mutation::RingBytesUnbounded))
    }

    /// Stages an item. Data asks [`Self::has_room`] first; answers need not, their number is bounded by the calls.
    pub(crate) fn stage(&mut self, to: ShardId, item: Item) {
        let (lane, item) = (&mut self.lanes[to.index()], RingItem(item));
        lane.staged_bytes += item.bytes();
        lane.staged.push_back(item);
    }

    /// Pushes what fits, in order, and says whether something is left.
    pub(crate) fn push(&mut self, push: &mut dyn FnMut(ShardId, RingItem) -> Result<(), RingItem>) -> bool {
        let mut left = false;
        for (index, lane) in self.lanes.iter_mut().enumerate() {
            let to = ShardId::new(index as u8).expect("there are as many lanes as shards");
            while let Some(item) = lane.staged.pop_front() {
                let bytes = item.bytes();
                match push(to, item) {
                    Ok(()) => {
                        lane.staged_bytes -= bytes;
                        lane.space.slots = lane.space.slots.saturating_sub(1);
                        lane.space.bytes_queued += bytes;
                    }
                    Err(_) if planted(Mutation::RingItemLost) => {}
                    Err(item) => {
                        lane.staged.push_front(item);
                        lane.space.slots = 0;
                        left = true;
                        break;
                    }
                }
            }
        }
        left
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.lanes.iter().all(|lane| lane.staged.is_empty())
    }

    /// Items not pushed yet.
    pub(crate) fn staged(&self) -> usize {
        self.lanes.iter().map(|lane| lane.staged.len()).sum()
    }
}
