//! The WebSocket of the server API beside shards that have no room.
#![allow(clippy::disallowed_methods, reason = "tests on real sockets live in real time")]

use std::io::Read;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;
use bytes::BytesMut;
use fanwire_codec::http::HeadLimits;
use fanwire_codec::ws::{self, handshake};
use fanwire_control::api::connection::Times;
use fanwire_control::api::keys::{ApiKeys, Grant, Principal};
use fanwire_control::api::{self, ApiConfig, ApiLimits};
use fanwire_control::login::users::Users;
use fanwire_control::login::{self, LoginLimits};
use fanwire_control::memory::{MemoryBudget, MemoryWatch};
use fanwire_control::metrics::{Build, Metrics};
use fanwire_control::{Desks, Early, Shards, reload, start};
use fanwire_core::access::{Access, RealmConfig};
use fanwire_core::api::ApiRequest;
use fanwire_core::directory::Directory;
use fanwire_core::ids::{ClientId, ShardId};
use fanwire_core::question::Verdict;
use fanwire_core::{CoreConfig, Limits};
use fanwire_io::{HandedOver, Origins};

/// They never have room; counts how often they were asked.
struct Full {
    directory: Directory,
    asked: Arc<AtomicUsize>,
}

impl Shards for Full {
    fn drain(&self) {}
    fn stop_now(&self) {}
    fn reload(&self, _: bool) -> reload::Outcome {
        Err(reload::Refused::Unable("there is nothing".into()))
    }
    fn answer(&self, _: ShardId, _: Verdict) -> Result<(), Verdict> {
        Ok(())
    }
    fn count(&self) -> usize {
        1
    }
    fn ask(&self, _: ShardId, request: ApiRequest) -> Result<(), ApiRequest> {
        self.asked.fetch_add(1, Ordering::Relaxed);
        Err(request)
    }
    fn directory(&self) -> &Directory {
        &self.directory
    }
}

fn config() -> ApiConfig {
    let access = Access::new(&[RealmConfig::open("realm1")], 1).expect("the realm is sound");
    let realm = access.realm("realm1").expect("it is the only one");
    let role = access.role(realm, "anonymous").expect("it is open");
    let core = CoreConfig {
        access,
        limits: Limits::default(),
        compression: None,
        agent: String::new(),
        message_center: Default::default(),
        echo: Default::default(),
        wamp1: Default::default(),
        handlers: Vec::new(),
    };
    let long = Duration::from_secs(300);
    ApiConfig {
        core: Arc::new(core),
        keys: ApiKeys(Vec::new()),
        mesh_realm: realm,
        local: Principal::local(vec![Grant { realm, role, manages: true }], 1),
        origins: vec![Origins { any: true, allowed: Vec::new() }],
        limits: ApiLimits {
            head: HeadLimits::default(),
            body_bytes_max: 1 << 20,
            batch_max: 1,
            connections_max: 1,
            times: Times { head: long, body: long, idle: long },
            call_time_max: long,
            idempotency_window: long,
            idempotency_entries_max: 1,
        },
    }
}

#[test]
fn requests_do_not_wait_one_after_the_other_for_a_shard_without_room() {
    const REQUESTS: usize = 20;
    let config = config();
    let core = Arc::new(ArcSwap::new(Arc::clone(&config.core)));
    let (handed_over, desk) = api::desk(config);
    let (queue, logins) = login::desk(Users::new([], || 1), LoginLimits { waiting: 1, at_once: 1 });
    let build = Build { version: "1".into(), driver: "epoll".into() };
    let figures = logins.figures(&queue);
    let metrics =
        Metrics::new(Vec::new(), build, Box::new(|| 0), figures, desk.figures(), Box::new(Vec::new));
    let asked = Arc::new(AtomicUsize::new(0));
    let control = start(
        Early::begin(1, Vec::new()).expect("there are resources"),
        None,
        Full { directory: Directory::new(1), asked: Arc::clone(&asked) },
        metrics,
        Desks { logins, api: Some(desk), hooks: None, lua: None, meta: None, resp: None, ticks: None },
        core,
        MemoryWatch::new(MemoryBudget::new(None), Box::new(|_, _| {})),
    )
    .expect("it starts");

    let (mut ours, theirs) = UnixStream::pair().expect("descriptors are left");
    theirs.set_nonblocking(true).expect("a socket");
    ours.set_read_timeout(Some(Duration::from_secs(60))).expect("a valid time");
    let mut said = BytesMut::new();
    handshake::write_request(&mut said, "localhost", "/ws/v1", &[], [7; 16], &[]).expect("a request");
    let shard = ShardId::new(0).expect("the first");
    let client = ClientId::from_number(1).expect("the first of the first shard").get();
    for number in 0..REQUESTS {
        let request = format!(r#"{{"m":"mesh.send","p":{{"c":"{client}","d":"x"}},"i":{number}}}"#);
        ws::write_client_message(&mut said, ws::Kind::Text, &[request.as_bytes()], [1, 2, 3, 4]);
    }
    let handed = HandedOver { stream: theirs.into(), read: said.to_vec(), peer: None, shard, listener: 0 };
    handed_over.submit(handed).expect("there is room");
    let (mut heard, mut buffer) = (String::new(), [0; 4_096]);
    while heard.matches("no room for another request").count() < REQUESTS {
        let count = ours.read(&mut buffer).expect("answers");
        assert!(count > 0, "it ended: {heard}");
        heard += &String::from_utf8_lossy(&buffer[..count]);
    }
    // One of them waited, and then it was known.
    let asked = asked.load(Ordering::Relaxed);
    assert!(asked < 2 * 3_000, "{asked} times");
    control.stop();
}
