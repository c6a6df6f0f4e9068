//! What a channel with one subscriber costs: memory for each, and the time of a publication among all of them.
//!
//!     cargo bench -p fanwire-bench --bench channels -- 1000000 19000 wamp2
//!
//! The numbers are those of channels and of connections that share them, of message-center clients or of WAMP's. One shard, no
//! sockets, the allocator of the router; resident memory before and after, divided by the channels.

#![allow(clippy::disallowed_methods, reason = "it measures time")]

use std::fs;
use std::hint::black_box;
use std::time::{Duration, Instant as Clock};

use fanwire_bench::Bare;
use fanwire_core::Outlet;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Publications whose time is taken.
const PUBLICATIONS: usize = 1_000_000;

fn main() {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let numbers: Vec<u32> = words.iter().filter_map(|word| word.parse().ok()).collect();
    let [channels, connections] = match numbers[..] {
        [channels, connections] if connections > 0 && channels >= connections => [channels, connections],
        // As `cargo test --benches` runs it: only to see that it does.
        _ => [1_000, 10],
    };
    let protocol = if words.iter().any(|word| word == "wamp2") { "wamp2" } else { "message_center" };
    measure(protocol, channels, connections);
}

fn measure(protocol: &str, channels: u32, connections: u32) {
    let mut router = Bare::with_channels("{user}@all", "user:{user}", channels as usize);
    let empty = resident_bytes();
    for number in 0..connections {
        match protocol {
            "wamp2" => router.join(number),
            _ => router.join_center(number),
        };
    }
    router.flush();
    let connected = resident_bytes();
    for user in 0..channels {
        let outlet = Outlet(user % connections);
        let message = match protocol {
            "wamp2" => format!(r#"[32,1,{{}},"user:{user}"]"#),
            _ => format!(r#"{{"op":"subscribe","channel":"{user}@all"}}"#),
        };
        let mut message = message.into_bytes();
        router.say(outlet, &mut message);
        if user % 64 == 0 {
            router.flush();
        }
    }
    router.flush();
    let subscribed = resident_bytes();
    let took = publish(&mut router, channels, connections);
    let per = |bytes: u64, things: u32| bytes as f64 / f64::from(things);
    println!(
        "{protocol}: {channels} channels of {connections} connections: {:.0} bytes per channel ({:.0} per connection without \
         any); a publication takes p50 {:?}, p99 {:?}, p99.9 {:?}",
        per(subscribed.saturating_sub(connected), channels),
        per(connected.saturating_sub(empty), connections),
        took[took.len() / 2],
        took[took.len() * 99 / 100],
        took[took.len() * 999 / 1_000],
    );
}

/// Publishes to channels all over the place; how long each took, from its message to the socket, sorted.
fn publish(router: &mut Bare, channels: u32, connections: u32) -> Vec<Duration> {
    let publisher = router.join(connections);
    router.flush();
    let mut user = 1_u64;
    let count = PUBLICATIONS.min(channels as usize);
    let mut took: Vec<Duration> = (0..count)
        .map(|number| {
            user = user.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let channel = (user >> 33) % u64::from(channels);
            let mut message =
                format!(r#"[16,{},{{}},"user:{channel}",["a notice"]]"#, number + 1).into_bytes();
            let sends = router.sink.sends;
            let begun = Clock::now();
            router.say(publisher, &mut message);
            router.flush();
            let time = begun.elapsed();
            assert_eq!(black_box(router.sink.sends), sends + 1, "it has one subscriber");
            time
        })
        .collect();
    took.sort_unstable();
    took
}

fn resident_bytes() -> u64 {
    let pages = fs::read_to_string("/proc/self/statm").expect("this is Linux");
    let pages: u64 = pages.split(' ').nth(1).and_then(|pages| pages.parse().ok()).expect("a number of pages");
    pages * 4_096
}
