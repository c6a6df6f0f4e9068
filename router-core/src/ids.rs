//! Identifiers: newtypes, never bare integers, so that a session id cannot stand where a shard belongs.
//!
//! WAMP ("IDs") has three scopes. *Global*: [`SessionId`], [`PublicationId`], drawn uniformly from 1..=2^53.
//! *Router*: [`SubscriptionId`], [`RegistrationId`], dense and never used again. *Session*: [`RequestId`], counted by
//! the peer. No id is a capability: never authorise by one.

use std::{fmt, num::NonZeroU64};

/// Largest id that WAMP allows, 2^53: the largest integer range that an IEEE double counts without holes.
pub const WAMP_ID_MAX: u64 = 1 << 53;

macro_rules! wamp_id {
    ($(#[$doc:meta])* $name:ident, $what:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(NonZeroU64);

        impl $name {
            /// Largest value, 2^53.
            pub const MAX: Self = Self(NonZeroU64::new(WAMP_ID_MAX).expect("2^53 is not zero"));

            /// The id with this number; `None` outside 1..=2^53.
            pub const fn new(number: u64) -> Option<Self> {
                if number > WAMP_ID_MAX {
                    return None;
                }
                match NonZeroU64::new(number) {
                    Some(number) => Some(Self(number)),
                    None => None,
                }
            }

            /// The number, as it goes on the wire.
            pub const fn get(self) -> u64 {
                self.0.get()
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!($what, " {}"), self.0)
            }
        }
    };
}

macro_rules! random_id {
    ($name:ident) => {
        impl $name {
            /// An id from 64 random bits: uniform over 1..=2^53, because 2^53 divides 2^64.
            pub const fn from_random(bits: u64) -> Self {
                Self(NonZeroU64::new((bits & (WAMP_ID_MAX - 1)) + 1).expect("one was added"))
            }
        }
    };
}

wamp_id!(
    /// One session's id: global scope, random.
    SessionId,
    "session"
);
wamp_id!(
    /// One publication's id: global scope, random.
    PublicationId,
    "publication"
);
wamp_id!(
    /// Id of a subscription, that is of one (realm, policy, URI) while anybody is subscribed: router scope, dense.
    SubscriptionId,
    "subscription"
);
wamp_id!(
    /// Id of a registration: router scope, dense.
    RegistrationId,
    "registration"
);
wamp_id!(
    /// Id of a request: session scope, counted up by the peer that asks.
    RequestId,
    "request"
);
random_id!(SessionId);
random_id!(PublicationId);

macro_rules! index {
    ($(#[$doc:meta])* $name:ident, $inner:ty, $what:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name($inner);

        impl $name {
            /// The index, to look it up in an array.
            pub const fn index(self) -> usize {
                self.0 as usize
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!($what, " {}"), self.0)
            }
        }
    };
}

index!(
    /// Index of a realm in this process, 0-based and dense.
    RealmId, u32, "realm"
);
index!(
    /// Index of a role in its realm, 0-based and dense.
    RoleId, u16, "role"
);
index!(
    /// Index of a shard in this process, 0-based and dense.
    ShardId, u8, "shard"
);

impl RealmId {
    /// The realm with this index.
    pub const fn new(index: u32) -> Self {
        Self(index)
    }

    /// Its index.
    pub const fn get(self) -> u32 {
        self.0
    }
}

impl RoleId {
    /// Of the router itself, which publishes by no rule. No role of a realm has it.
    pub const ROUTER: Self = Self(u16::MAX);

    /// The role with this index.
    pub const fn new(index: u16) -> Self {
        Self(index)
    }
}

/// Most shards of a process: one bit each in a topic's interest word, whose last bit says RETIRED.
pub const SHARD_COUNT_MAX: u8 = 63;

impl ShardId {
    /// The last shard that there can be.
    pub const MAX: Self = Self(SHARD_COUNT_MAX - 1);

    /// The shard with this index; `None` from [`SHARD_COUNT_MAX`] on.
    pub const fn new(index: u8) -> Option<Self> {
        if index < SHARD_COUNT_MAX { Some(Self(index)) } else { None }
    }

    /// The number itself.
    pub const fn get(self) -> u8 {
        self.0
    }

    /// The shard's bit in an interest mask.
    pub const fn bit(self) -> u64 {
        1 << self.0
    }

    /// The shards of a mask, lowest first.
    pub fn in_mask(mask: u64) -> impl Iterator<Item = ShardId> {
        let mut rest = mask & ((1 << SHARD_COUNT_MAX) - 1);
        std::iter::from_fn(move || {
            let index = rest.trailing_zeros();
            // Clears the lowest bit; of an empty mask, whose 64 trailing zeros are no shard, it clears nothing.
            rest &= rest.wrapping_sub(1);
            ShardId::new(index as u8)
        })
    }
}

/// A connection with a session, as backends name it: the same from its beginning to its end, whoever logs in meanwhile, and
/// another one in every process. Not a capability: never authorise by it.
///
/// ```text
/// 63 bits:  shard (6) | outlet (28) | number (29), counted by the shard
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ClientId(NonZeroU64);

impl ClientId {
    pub(crate) const fn new(shard: ShardId, outlet: u32, number: u32) -> Self {
        let outlet = outlet as u64 & ((1 << OUTLET_BITS) - 1);
        let bits = (shard.0 as u64) << (OUTLET_BITS + NUMBER_BITS) | outlet << NUMBER_BITS;
        Self(NonZeroU64::new(bits | number as u64 | (number == 0) as u64).expect("a number is not zero"))
    }

    /// The id of this number; `None` if it is none.
    pub fn from_number(number: u64) -> Option<Self> {
        let id = Self(NonZeroU64::new(number)?);
        let is_whole = number >> (SHARD_BITS + OUTLET_BITS + NUMBER_BITS) == 0 && id.number() != 0;
        (is_whole && id.shard_index() < SHARD_COUNT_MAX).then_some(id)
    }

    /// The number, as it goes on the wire: below 2^63.
    pub const fn get(self) -> u64 {
        self.0.get()
    }

    /// Where the connection lives.
    pub fn shard(self) -> ShardId {
        ShardId(self.shard_index())
    }

    fn shard_index(self) -> u8 {
        (self.get() >> (OUTLET_BITS + NUMBER_BITS)) as u8
    }

    pub(crate) fn outlet(self) -> u32 {
        (self.get() >> NUMBER_BITS) as u32 & ((1 << OUTLET_BITS) - 1)
    }

    pub(crate) fn number(self) -> u32 {
        self.get() as u32 & ((1 << NUMBER_BITS) - 1)
    }

    /// The number behind this one: 1 to 2^29 - 1, and round.
    pub(crate) const fn next_number(number: u32) -> u32 {
        let next = number.wrapping_add(1) & ((1 << NUMBER_BITS) - 1);
        if next == 0 { 1 } else { next }
    }
}

const SHARD_BITS: u32 = 6;
const OUTLET_BITS: u32 = 28;
const NUMBER_BITS: u32 = 29;

impl fmt::Display for ClientId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "client {}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wamp_ids_are_one_to_two_to_the_53() {
        assert_eq!(SessionId::new(0), None);
        assert_eq!(SessionId::new(WAMP_ID_MAX + 1), None);
        assert_eq!(SessionId::new(1).map(SessionId::get), Some(1));
        assert_eq!(SessionId::new(WAMP_ID_MAX), Some(SessionId::MAX));
    }

    #[test]
    fn any_random_bits_make_a_valid_id() {
        for bits in [0, 1, WAMP_ID_MAX - 1, WAMP_ID_MAX, u64::MAX] {
            let id = PublicationId::from_random(bits);
            assert_eq!(PublicationId::new(id.get()), Some(id));
        }
        assert_eq!(SessionId::from_random(u64::MAX), SessionId::MAX);
    }

    #[test]
    fn there_is_no_shard_63() {
        assert_eq!(ShardId::new(62), Some(ShardId::MAX));
        assert_eq!(ShardId::new(63), None);
    }

    #[test]
    fn a_mask_lists_its_shards_and_never_the_retired_bit() {
        let shards = |mask| ShardId::in_mask(mask).map(ShardId::get).collect::<Vec<_>>();
        assert_eq!(shards(0), [0u8; 0]);
        assert_eq!(shards(1 << 63), [0u8; 0]);
        assert_eq!(shards(0b1011 | 1 << 62), [0, 1, 3, 62]);
    }

    #[test]
    fn a_client_id_leads_back_to_its_connection() {
        for (shard, outlet, number) in [(0, 0, 1), (62, (1 << 28) - 1, (1 << 29) - 1), (3, 70_000, 5)] {
            let id = ClientId::new(ShardId(shard), outlet, number);
            assert_eq!((id.shard().get(), id.outlet(), id.number()), (shard, outlet, number));
            assert_eq!(ClientId::from_number(id.get()), Some(id));
            assert!(i64::try_from(id.get()).is_ok(), "languages without unsigned numbers can hold it");
        }
        for wrong in [0, 1 << 29, 1 << 63 | 1, u64::MAX, 63 << 57 | 1] {
            assert_eq!(ClientId::from_number(wrong), None, "{wrong}");
        }
        assert_eq!([0, 5, (1 << 29) - 1, u32::MAX - 1].map(ClientId::next_number), [1, 6, 1, (1 << 29) - 1]);
    }

    #[test]
    fn ids_read_well() {
        assert_eq!(SubscriptionId::new(7).unwrap().to_string(), "subscription 7");
        assert_eq!(ShardId::new(2).unwrap().to_string(), "shard 2");
    }
}
