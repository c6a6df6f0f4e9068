//! What two shards touch together: the directory, and the ring between them.
#![allow(missing_docs, reason = "criterion's macros write undocumented functions")]
#![allow(clippy::disallowed_methods, reason = "a benchmark reads the clock")]

use std::hint::{black_box, spin_loop};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use fanwire_core::directory::{Directory, TopicCache};
use fanwire_core::ids::{RealmId, ShardId};
use fanwire_io::Ring;

const TOPICS: usize = 100_000;

fn topics() -> Vec<String> {
    (0..TOPICS).map(|number| format!("com.example.room.{number}")).collect()
}

fn directory(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("directory");
    let (directory, realm, shard) = (Directory::new(1), RealmId::new(0), ShardId::MAX);
    let topics = topics();
    let entries: Vec<_> = topics.iter().map(|uri| directory.subscribe(realm, uri, shard)).collect();
    let mut cache = TopicCache::new(64);
    group.bench_function("a topic that the cache knows", |bencher| {
        bencher.iter(|| {
            let found = cache.get_exact(&directory, realm, black_box(&topics[0]));
            assert_eq!(found.map(|topic| topic.id()), Some(entries[0].id()));
        });
    });
    let mut next = 0;
    // Far more topics than names in the cache, in a row: it never knows the next one.
    group.bench_function("a topic that the cache does not know", |bencher| {
        bencher.iter(|| {
            next = (next + 1) % TOPICS;
            let found = cache.get_exact(&directory, realm, &topics[next]);
            assert_eq!(found.map(|topic| topic.id()), Some(entries[next].id()));
        });
    });
    group.bench_function("the first subscriber comes and goes", |bencher| {
        bencher.iter(|| {
            let topic = directory.subscribe(realm, black_box("com.example.another"), shard);
            directory.unsubscribe(&topic, shard);
        });
    });
    assert_eq!(directory.topic_count(), TOPICS);
}

fn ring(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("ring");
    group.throughput(Throughput::Elements(1));
    group.bench_function("push and pop on one thread", |bencher| {
        let ring = Ring::new(1_024);
        bencher.iter(|| {
            ring.push(black_box([1_u64; 4])).expect("there is room");
            assert_eq!(ring.pop(), Some([1; 4]));
        });
    });
    group.bench_function("from a thread to another", |bencher| {
        bencher.iter_custom(|count| {
            let (ring, begun) = (Ring::new(1_024), AtomicBool::new(false));
            std::thread::scope(|scope| {
                scope.spawn(|| {
                    begun.store(true, Ordering::Release);
                    for number in 0..count {
                        while ring.push([number; 4]).is_err() {
                            spin_loop();
                        }
                    }
                });
                while !begun.load(Ordering::Acquire) {
                    spin_loop();
                }
                let start = Instant::now();
                for number in 0..count {
                    let item = loop {
                        match ring.pop() {
                            Some(item) => break item,
                            None => spin_loop(),
                        }
                    };
                    assert_eq!(item, [number; 4]);
                }
                start.elapsed()
            })
        });
    });
}

criterion_group!(benches, directory, ring);
criterion_main!(benches);
