//! Routing without sockets: what a publication and a call cost in user space.
#![allow(missing_docs, reason = "criterion's macros write undocumented functions")]

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use fanwire_bench::Bare;
use fanwire_codec::wamp2::RECEIVERS_MAX;
use fanwire_core::directory::{Directory, TopicCache};
use fanwire_core::ids::{RealmId, ShardId};
use fanwire_core::uri::MatchPolicy;

fn publish(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("publish");
    for subscribers in [1u32, 100, 1_000, 10_000] {
        let mut bare = Bare::new();
        for number in 0..subscribers {
            let outlet = bare.join(number);
            bare.say(outlet, &mut br#"[32,1,{},"a.topic"]"#.to_vec());
        }
        let publisher = bare.join(subscribers);
        bare.flush();
        let mut message =
            br#"[16,77,{},"a.topic",[1,"a payload of about sixty bytes, as is usual in chats"]]"#.to_vec();
        group.throughput(Throughput::Elements(u64::from(subscribers)));
        group.bench_function(format!("{subscribers} subscribers"), |bencher| {
            bencher.iter(|| {
                let before = bare.shard.counters().delivered;
                bare.say(publisher, &mut message);
                bare.flush();
                assert_eq!(bare.shard.counters().delivered - before, u64::from(subscribers));
            });
        });
    }
}

/// Publications with lists of receivers to 1,000 subscribers.
fn publish_to_some(criterion: &mut Criterion) {
    const SUBSCRIBERS: u32 = 1_000;
    let mut bare = Bare::new();
    let mut sessions = Vec::new();
    for number in 0..SUBSCRIBERS {
        let outlet = bare.join(number);
        sessions.push(bare.last_session().get());
        bare.say(outlet, &mut br#"[32,1,{},"a.topic"]"#.to_vec());
    }
    let publisher = bare.join(SUBSCRIBERS);
    bare.flush();
    let ids = |count: usize| sessions[..count].iter().map(u64::to_string).collect::<Vec<_>>().join(",");
    let authids = |count: usize| {
        sessions[..count].iter().map(|id| format!("\"anonymous-{id:x}\"")).collect::<Vec<_>>().join(",")
    };
    let strangers = |prefix: &str| {
        let names: Vec<String> = (0..RECEIVERS_MAX).map(|number| format!("\"{prefix}{number}\"")).collect();
        names.join(",")
    };
    let mut group = criterion.benchmark_group("publish to some of 1000");
    for (name, options, expected) in [
        ("1 excluded session", format!("\"exclude\":[{}]", ids(1)), 999),
        ("500 excluded sessions", format!("\"exclude\":[{}]", ids(500)), 500),
        ("1 eligible session", format!("\"eligible\":[{}]", ids(1)), 1),
        ("50 eligible sessions", format!("\"eligible\":[{}]", ids(50)), 50),
        ("500 eligible sessions", format!("\"eligible\":[{}]", ids(500)), 500),
        ("500 eligible authids", format!("\"eligible_authid\":[{}]", authids(500)), 500),
        ("an eligible role", "\"eligible_authrole\":[\"anonymous\"]".to_owned(), 1_000),
        ("1 eligible authid", format!("\"eligible_authid\":[{}]", authids(1)), 1),
        ("as many authids as a list may have", format!("\"exclude_authid\":[{}]", strangers("user-")), 1_000),
    ] {
        let message = format!(
            r#"[16,77,{{{options}}},"a.topic",[1,"a payload of about sixty bytes, as is usual in chats"]]"#
        );
        let mut message = message.into_bytes();
        group.bench_function(name, |bencher| {
            bencher.iter(|| {
                let before = bare.shard.counters().delivered;
                bare.say(publisher, &mut message);
                bare.flush();
                assert_eq!(bare.shard.counters().delivered - before, expected);
            });
        });
    }
}

fn call(criterion: &mut Criterion) {
    let mut bare = Bare::new();
    let (callee, caller) = (bare.join(0), bare.join(1));
    bare.say(callee, &mut br#"[64,1,{},"a.procedure"]"#.to_vec());
    bare.flush();
    let mut request = 0u64;
    criterion.bench_function("call and result", |bencher| {
        bencher.iter(|| {
            request += 1;
            let mut call = format!(r#"[48,{request},{{}},"a.procedure",[1,2]]"#).into_bytes();
            let mut answer = format!("[70,{request},{{}},[3]]").into_bytes();
            bare.say(caller, &mut call);
            bare.flush();
            bare.say(callee, &mut answer);
            bare.flush();
            assert_eq!(bare.shard.counters().calls_pending, 0);
        });
    });
}

/// A topic that no cache knows: half of the patterns are prefixes, half wildcards of four shapes; 20 of them cover it.
fn match_patterns(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("match");
    for patterns in [100u32, 100_000] {
        let (directory, realm, shard) = (Directory::new(1), RealmId::new(0), ShardId::MAX);
        let subscribe = |policy, uri: &str| {
            directory.subscribe_pattern(realm, policy, uri, shard, usize::MAX).expect("there is no limit");
        };
        for length in 1..=16 {
            subscribe(MatchPolicy::Prefix, &"com.myapp.room.1"[..length]);
        }
        for wildcard in ["com.myapp.room.", "com..room.", "com.myapp..", ".myapp.room."] {
            subscribe(MatchPolicy::Wildcard, wildcard);
        }
        for number in 20..patterns {
            let other =
                ["com.myapp.hall.", "com..hall.", "com.other..", ".myapp.hall."][number as usize / 2 % 4];
            if number % 2 == 0 {
                subscribe(MatchPolicy::Prefix, &format!("com.hall.{number}"));
            } else {
                subscribe(
                    MatchPolicy::Wildcard,
                    &other.replacen("hall", &format!("hall{number}"), 1).replacen(
                        "other",
                        &format!("other{number}"),
                        1,
                    ),
                );
            }
        }
        let topics: Vec<_> = (0..64).map(|number| format!("com.myapp.room.1{number}")).collect();
        // Four names: by its next turn each topic is forgotten.
        let mut cache = TopicCache::new(1);
        let mut next = 0;
        group.bench_function(format!("20 of {patterns} patterns"), |bencher| {
            bencher.iter(|| {
                next = (next + 1) % topics.len();
                let found = cache.get(&directory, realm, &topics[next]);
                assert_eq!(found.patterns.map_or(0, |matches| matches.entries().len()), 20);
            });
        });
    }
}

criterion_group!(benches, publish, publish_to_some, call, match_patterns);
criterion_main!(benches);
