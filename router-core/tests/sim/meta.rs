//! What shards tell the meta desk, as the judges know it.

use super::{
    history::Tag,
    names::{self, META_FIRST, REALM_BIT},
    speech,
};
use fanwire_core::meta::{self, Change, EntryKind};

/// Testaments of one session and scope; those of the second scope are numbered from here on.
pub const TESTAMENTS_MAX: u32 = 1_000_000;

/// What happened to a session, or to what one holds.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum News {
    Joined {
        session: u64,
    },
    Left {
        session: u64,
    },
    /// Of a subscription, or of a registration.
    Entry {
        is_subscription: bool,
        session: Option<u64>,
        id: u64,
        what: Becomes,
    },
    Testaments(Vec<Tag>),
}

/// What becomes of a subscription or registration.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Becomes {
    /// The name that it is for.
    Created(u8),
    Attached,
    Detached,
    Deleted,
}

impl News {
    /// The name of its event's topic, without a realm.
    pub fn topic(&self) -> u8 {
        let place = match self {
            Self::Joined { .. } => 0,
            Self::Left { .. } => 1,
            Self::Entry { is_subscription, what, .. } => {
                let change = match what {
                    Becomes::Created(_) => 0,
                    Becomes::Attached => 1,
                    Becomes::Detached => 2,
                    Becomes::Deleted => 3,
                };
                change + if *is_subscription { 2 } else { 6 }
            }
            Self::Testaments(_) => unreachable!("each has its own topic"),
        };
        META_FIRST + place
    }
}

/// What a shard says, or what is wrong with it.
pub fn read(news: meta::News, realm: u8) -> Result<News, String> {
    Ok(match news {
        meta::News::Joined { session, .. } => News::Joined { session: session.get() },
        meta::News::Left { session, .. } => News::Left { session: session.get() },
        meta::News::Entry { kind, session, id, change } => {
            let what = match change {
                Change::Created(details) => {
                    let name = names::named(details.policy, &details.uri);
                    let name = name.ok_or_else(|| format!("nobody asked for {:?}", details.uri))?;
                    Becomes::Created(name | (realm * REALM_BIT))
                }
                Change::Attached => Becomes::Attached,
                Change::Detached => Becomes::Detached,
                Change::Deleted => Becomes::Deleted,
            };
            let session = session.map(|session| session.get());
            News::Entry { is_subscription: kind == EntryKind::Subscription, session, id, what }
        }
        meta::News::Testaments(publications) => {
            let tag = |one: &fanwire_core::api::ApiPublication| {
                one.payload.view().args.and_then(speech::read_tag).ok_or("a testament was lost or changed")
            };
            News::Testaments(publications.iter().map(tag).collect::<Result<_, _>>()?)
        }
        other => return Err(format!("a shard tells what nobody knows: {other:?}")),
    })
}
