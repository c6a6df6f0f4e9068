//! Routing without sockets: what a publication and a call cost in user space.
#![allow(missing_docs, reason = "criterion's macros write undocumented functions")]

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use fanwire_bench::Bare;

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

criterion_group!(benches, publish, call);
criterion_main!(benches);
