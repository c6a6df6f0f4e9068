//! The hot path allocates nothing: decode, route, encode, flush. Counted by the allocator itself, in steady state.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::io::IoSlice;
use std::sync::Arc;

use fanwire_codec::rawsocket::MaxLength;
use fanwire_codec::wamp2::Serializer;
use fanwire_codec::ws::Kind;
use fanwire_core::access::{Access, RealmConfig};
use fanwire_core::directory::Directory;
use fanwire_core::echo::{EchoRooms, MessageTemplate};
use fanwire_core::encoding::Framing;
use fanwire_core::ids::ShardId;
use fanwire_core::message_center::{ChannelRule, MessageCenter, OnError};
use fanwire_core::wamp1::Wamp1;
use fanwire_core::{
    CoreConfig, Encoding, Flow, FlushBudget, Instant, Limits, Outlet, RingItem, RingSpace, Sent, Shard, Wire,
};

struct Counting;

thread_local! {
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
}

// SAFETY: every call is passed to the system's allocator as it is; counting touches only a `Cell` of this thread.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.with(|count| count.set(count.get() + 1));
        // SAFETY: the caller's promises are passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the caller's promises are passed on.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        ALLOCATIONS.with(|count| count.set(count.get() + 1));
        // SAFETY: the caller's promises are passed on.
        unsafe { System.realloc(pointer, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Takes everything and remembers how much that was.
struct Sink(u64);

impl Wire for Sink {
    fn send(&mut self, _: Outlet, pieces: &[IoSlice<'_>]) -> Sent {
        let bytes = pieces.iter().map(|piece| piece.len()).sum();
        self.0 += bytes as u64;
        Sent::Took(bytes)
    }
}

fn shard() -> Shard {
    shard_of(0, 1, &Arc::new(Directory::new(1)))
}

fn shard_of(number: u8, shards: u8, directory: &Arc<Directory>) -> Shard {
    let access = Access::new(&[RealmConfig::open("realm1")], 1).expect("the realm is sound");
    let realm = access.realm("realm1").expect("it is the only one");
    let rule = ChannelRule::new("{name}@topic", "a.{name}", false).expect("a rule");
    let config = Arc::new(CoreConfig {
        access,
        limits: Limits::default(),
        compression: None,
        agent: String::new(),
        message_center: MessageCenter::new(realm, OnError::Keep, vec![rule]),
        echo: EchoRooms {
            template: MessageTemplate::parse("{name}: {payload}").expect("a template"),
            ..EchoRooms::default()
        },
        wamp1: Wamp1 { realm: Some(realm), ..Wamp1::default() },
        handlers: Vec::new(),
    });
    let mut state = 1 + u64::from(number);
    let random = Box::new(move || {
        state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        state
    });
    let id = ShardId::new(number).expect("a shard's number");
    Shard::new(config, id, shards, Arc::clone(directory), random)
}

fn join(shard: &mut Shard, number: u32) -> Outlet {
    join_in(shard, number, Serializer::Json)
}

fn join_in(shard: &mut Shard, number: u32, encoding: impl Into<Encoding>) -> Outlet {
    let outlet = Outlet(number);
    shard.attach(Instant::START, outlet);
    shard.open(Instant::START, outlet, encoding);
    say(shard, outlet, r#"[1,"realm1",{"roles":{"caller":{}}}]"#);
    outlet
}

fn say(shard: &mut Shard, outlet: Outlet, message: &str) {
    let mut bytes = message.as_bytes().to_vec();
    assert_eq!(shard.receive(Instant::START, outlet, Kind::Text, &mut bytes), Flow::Continue);
}

fn flush(shard: &mut Shard, sink: &mut Sink) {
    while shard.flush(Instant::START, sink, &FlushBudget::default()) {}
}

/// Runs `step` until its pools and maps are warm, then counts what 100 more allocate.
fn steady_allocations(mut step: impl FnMut()) -> u64 {
    (0..200).for_each(|_| step());
    let before = ALLOCATIONS.get();
    (0..100).for_each(|_| step());
    ALLOCATIONS.get() - before
}

/// Allocations of a publication by `publisher`, which so many receive.
fn allocations_of(
    shard: &mut Shard,
    sink: &mut Sink,
    publisher: Outlet,
    message: &mut [u8],
    receivers: u64,
) -> u64 {
    steady_allocations(|| {
        let before = shard.counters().delivered;
        assert_eq!(shard.receive(Instant::START, publisher, Kind::Text, message), Flow::Continue);
        flush(shard, sink);
        assert_eq!(shard.counters().delivered, before + receivers, "everybody got it");
    })
}

#[test]
fn a_publication_to_a_thousand_subscribers_allocates_nothing() {
    let (mut shard, mut sink) = (shard(), Sink(0));
    for number in 0..1_000 {
        let outlet = join(&mut shard, number);
        say(&mut shard, outlet, r#"[32,1,{},"a.topic"]"#);
    }
    let publisher = join(&mut shard, 1_000);
    flush(&mut shard, &mut sink);
    shard.effects();
    let mut message = *br#"[16,77,{"acknowledge":true},"a.topic",[1,"payload"],{"k":"v"}]"#;
    assert_eq!(allocations_of(&mut shard, &mut sink, publisher, &mut message, 1_000), 0);
}

#[test]
fn a_publication_to_clients_of_both_protocols_allocates_nothing() {
    let (mut shard, mut sink) = (shard(), Sink(0));
    for number in 0..100 {
        let outlet = join(&mut shard, 2 * number);
        say(&mut shard, outlet, r#"[32,1,{},"a.topic"]"#);
        let outlet = Outlet(2 * number + 1);
        shard.attach(Instant::START, outlet);
        shard.open(Instant::START, outlet, Encoding::MESSAGE_CENTER);
        say(&mut shard, outlet, r#"{"op":"subscribe","channel":"topic@topic"}"#);
    }
    let publisher = join(&mut shard, 200);
    flush(&mut shard, &mut sink);
    shard.effects();
    let mut message = *br#"[16,77,{"acknowledge":true},"a.topic",[{"a":1}]]"#;
    assert_eq!(allocations_of(&mut shard, &mut sink, publisher, &mut message, 200), 0);
}

#[test]
fn a_publication_over_each_transport_allocates_nothing() {
    let (mut shard, mut sink) = (shard(), Sink(0));
    let framings = [
        Framing::Plain,
        Framing::Batched,
        Framing::Raw(MaxLength::MOST),
        Framing::Raw(MaxLength::at_most(4096)),
    ];
    for (number, framing) in (0..100).zip(framings.iter().cycle()) {
        let outlet = join_in(&mut shard, number, Encoding::Wamp2(Serializer::Json, *framing));
        say(&mut shard, outlet, r#"[32,1,{},"a.topic"]"#);
    }
    let publisher = join_in(&mut shard, 100, Encoding::Wamp2(Serializer::Json, framings[2]));
    flush(&mut shard, &mut sink);
    shard.effects();
    let mut message = *br#"[16,77,{"acknowledge":true},"a.topic",[1,"payload"],{"k":"v"}]"#;
    assert_eq!(allocations_of(&mut shard, &mut sink, publisher, &mut message, 100), 0);
}

#[test]
fn a_publication_among_clients_of_version_1_allocates_nothing() {
    let (mut shard, mut sink) = (shard(), Sink(0));
    for number in 0..100 {
        let outlet = Outlet(number);
        shard.attach(Instant::START, outlet);
        shard.open(Instant::START, outlet, Encoding::WAMP1);
        assert_eq!(shard.enter_wamp(Instant::START, outlet), Flow::Continue);
        say(&mut shard, outlet, r#"[5,"http://example.com/a#topic"]"#);
    }
    flush(&mut shard, &mut sink);
    shard.effects();
    let mut message = *br#"[7,"http://example.com/a#topic",{"a":1},false]"#;
    assert_eq!(allocations_of(&mut shard, &mut sink, Outlet(0), &mut message, 100), 0);
}

#[test]
fn what_is_said_in_an_echo_room_allocates_nothing() {
    let (mut shard, mut sink) = (shard(), Sink(0));
    for number in 0..100 {
        let outlet = Outlet(number);
        shard.attach(Instant::START, outlet);
        shard.open(Instant::START, outlet, Encoding::ECHO);
        assert_eq!(shard.enter_room(Instant::START, outlet, "/"), Flow::Continue);
    }
    flush(&mut shard, &mut sink);
    shard.effects();
    let mut message = *b"hello world!";
    assert_eq!(allocations_of(&mut shard, &mut sink, Outlet(0), &mut message, 100), 0);
}

#[test]
fn a_publication_to_patterns_allocates_nothing() {
    let (mut shard, mut sink) = (shard(), Sink(0));
    for number in 0..100 {
        let outlet = join(&mut shard, number);
        say(&mut shard, outlet, r#"[32,1,{"match":"prefix"},"a."]"#);
        say(&mut shard, outlet, r#"[32,2,{"match":"wildcard"},".topic"]"#);
    }
    let publisher = join(&mut shard, 100);
    flush(&mut shard, &mut sink);
    shard.effects();
    let mut message = *br#"[16,77,{"acknowledge":true},"a.topic",[1,"payload"],{"k":"v"}]"#;
    assert_eq!(allocations_of(&mut shard, &mut sink, publisher, &mut message, 200), 0);
}

#[test]
fn a_call_and_its_result_allocate_nothing() {
    let (mut shard, mut sink) = (shard(), Sink(0));
    let (callee, caller) = (join(&mut shard, 0), join(&mut shard, 1));
    say(&mut shard, callee, r#"[64,1,{},"a.procedure"]"#);
    flush(&mut shard, &mut sink);
    shard.effects();
    let mut request = 100_000u32;
    let mut call = *br#"[48,100000,{},"a.procedure",[1,2]]"#;
    let mut answer = *br#"[70,100000,{},[3]]"#;
    // The callee's invocation ids are counted from 1: warm up to where they have six digits like the requests.
    for invocation in 1..100_000u32 {
        say(&mut shard, caller, &format!(r#"[48,{invocation},{{}},"a.procedure"]"#));
        say(&mut shard, callee, &format!("[70,{invocation},{{}}]"));
        if invocation % 64 == 0 {
            flush(&mut shard, &mut sink);
        }
    }
    flush(&mut shard, &mut sink);
    let allocations = steady_allocations(|| {
        let mut digits = request;
        for place in (0..6).rev() {
            let digit = b'0' + (digits % 10) as u8;
            digits /= 10;
            call[4 + place] = digit;
            answer[4 + place] = digit;
        }
        request += 1;
        assert_eq!(shard.receive(Instant::START, caller, Kind::Text, &mut call), Flow::Continue);
        assert_eq!(shard.receive(Instant::START, callee, Kind::Text, &mut answer), Flow::Continue);
        flush(&mut shard, &mut sink);
    });
    assert_eq!(shard.counters().calls_pending, 0);
    assert_eq!(allocations, 0);
}

/// Carries what one shard has for the other, as the driver does.
fn carry(from: &mut Shard, to: &mut Shard, ring: &mut Vec<RingItem>) {
    from.set_ring_space(to.id(), RingSpace { slots: 1_000, bytes_queued: 0 });
    from.push_items(&mut |_, item| {
        ring.push(item);
        Ok(())
    });
    ring.drain(..).for_each(|item| to.handle_item(Instant::START, from.id(), item));
}

#[test]
fn a_call_across_two_shards_allocates_nothing() {
    let directory = Arc::new(Directory::new(1));
    let [mut here, mut there] = [0, 1].map(|number| shard_of(number, 2, &directory));
    let (mut sink, mut ring) = (Sink(0), Vec::new());
    let (caller, callee) = (join(&mut here, 0), join(&mut there, 0));
    say(&mut there, callee, r#"[64,1,{},"a.procedure"]"#);
    let mut call = *br#"[48,77,{},"a.procedure",[1,2],{"a":3}]"#;
    let mut answer = *b"[70,1000,{},[3]]";
    let mut invocation = 0;
    let mut step = || {
        here.set_ring_space(there.id(), RingSpace { slots: 1_000, bytes_queued: 0 });
        assert_eq!(here.receive(Instant::START, caller, Kind::Text, &mut call), Flow::Continue);
        carry(&mut here, &mut there, &mut ring);
        invocation += 1;
        if invocation < 1_000 {
            say(&mut there, callee, &format!("[70,{invocation},{{}},[3]]"));
        } else {
            let mut digits = invocation;
            for place in (4..8).rev() {
                answer[place] = b'0' + (digits % 10) as u8;
                digits /= 10;
            }
            assert_eq!(there.receive(Instant::START, callee, Kind::Text, &mut answer), Flow::Continue);
        }
        carry(&mut there, &mut here, &mut ring);
        assert_eq!(here.counters().calls_pending, 0, "it has its answer");
        flush(&mut here, &mut sink);
        flush(&mut there, &mut sink);
    };
    (0..1_000).for_each(|_| step());
    assert_eq!(steady_allocations(step), 0);
    assert_eq!((here.counters().calls, here.counters().call_errors), (1_300, 0));
}
