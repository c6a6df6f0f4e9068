//! What the benchmarks share: a router of one shard without sockets.
//!
//! Run them with `cargo bench -p fanwire-bench`; `cargo xtask instructions` counts what the hot functions execute. Each
//! checks its own answer, so that a wrong fast path cannot win.

mod messages;

pub use messages::{objects, publish, transcoded};

use std::io::IoSlice;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use fanwire_codec::wamp2::Serializer;
use fanwire_codec::ws::Kind;
use fanwire_core::access::{Access, RealmConfig};
use fanwire_core::directory::Directory;
use fanwire_core::ids::{RealmId, SessionId, ShardId};
use fanwire_core::message_center::{ChannelRule, MessageCenter, OnError};
use fanwire_core::{CoreConfig, Encoding, Flow, FlushBudget, Instant, Limits, Outlet, Sent, Shard, Wire};

/// Takes every byte and counts them.
#[derive(Debug, Default)]
pub struct Sink {
    /// Bytes so far.
    pub bytes: u64,
    /// Sends so far.
    pub sends: u64,
}

impl Wire for Sink {
    fn send(&mut self, _: Outlet, pieces: &[IoSlice<'_>]) -> Sent {
        let bytes = pieces.iter().map(|piece| piece.len()).sum();
        self.bytes += bytes as u64;
        self.sends += 1;
        Sent::Took(bytes)
    }
}

/// One shard whose sockets are a [`Sink`].
#[derive(Debug)]
pub struct Bare {
    /// The shard.
    pub shard: Shard,
    /// Its sockets.
    pub sink: Sink,
    /// The last random number that it drew.
    drawn: Arc<AtomicU64>,
}

impl Bare {
    /// A router with the open realm `realm1` and nobody in it.
    pub fn new() -> Self {
        Self::with(Limits::default(), None)
    }

    /// The same with a rule for message-center clients, and so many subscriptions for each session.
    pub fn with_channels(pattern: &str, channel: &str, subscriptions_max: usize) -> Self {
        let rule = ChannelRule::new(pattern, channel, false).expect("a rule");
        Self::with(Limits { subscriptions_max, ..Limits::default() }, Some(rule))
    }

    fn with(limits: Limits, rule: Option<ChannelRule>) -> Self {
        let access = Access::new(&[RealmConfig::open("realm1")], 1).expect("the realm is sound");
        let config = Arc::new(CoreConfig {
            access,
            limits,
            compression: None,
            agent: String::new(),
            message_center: MessageCenter::new(RealmId::new(0), OnError::Keep, rule.into_iter().collect()),
            echo: Default::default(),
            wamp1: Default::default(),
            handlers: Vec::new(),
        });
        let drawn = Arc::new(AtomicU64::new(1));
        let state = Arc::clone(&drawn);
        let random = Box::new(move || {
            let next = state.load(Ordering::Relaxed).wrapping_mul(6364136223846793005);
            state.store(next.wrapping_add(1442695040888963407), Ordering::Relaxed);
            state.load(Ordering::Relaxed)
        });
        let id = ShardId::new(0).expect("0 is a shard");
        let shard = Shard::new(config, id, 1, Arc::new(Directory::new(1)), random);
        Self { shard, sink: Sink::default(), drawn }
    }

    /// A session in `realm1` on this outlet, speaking JSON.
    pub fn join(&mut self, number: u32) -> Outlet {
        let outlet = Outlet(number);
        self.shard.attach(Instant::START, outlet);
        self.shard.open(Instant::START, outlet, Serializer::Json);
        self.say(outlet, &mut br#"[1,"realm1",{"roles":{"caller":{}}}]"#.to_vec());
        outlet
    }

    /// A message-center client on this outlet.
    pub fn join_center(&mut self, number: u32) -> Outlet {
        let outlet = Outlet(number);
        self.shard.attach(Instant::START, outlet);
        self.shard.open(Instant::START, outlet, Encoding::MESSAGE_CENTER);
        outlet
    }

    /// The session of the last [`join`](Self::join), if nothing was published since.
    pub fn last_session(&self) -> SessionId {
        SessionId::from_random(self.drawn.load(Ordering::Relaxed))
    }

    /// One message of a session.
    pub fn say(&mut self, outlet: Outlet, message: &mut [u8]) {
        assert_eq!(self.shard.receive(Instant::START, outlet, Kind::Text, message), Flow::Continue);
    }

    /// Turns until nothing is left to send.
    pub fn flush(&mut self) {
        while self.shard.flush(Instant::START, &mut self.sink, &FlushBudget::default()) {}
        self.shard.effects();
    }
}

impl Default for Bare {
    fn default() -> Self {
        Self::new()
    }
}
