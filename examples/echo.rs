//! An echo server on Fanwire's runtime and codec, without the router: every data message comes back.
//!
//! ```text
//! cargo run --release --example echo -- --listen 127.0.0.1:9001 [--driver auto|io_uring|epoll] [--takeover off|on]
//! ```
//!
//! It is what the WebSocket conformance suite runs against, and the smallest useful [`Service`]: it keeps no session,
//! only the core's delivery, and it shows back-pressure: who does not read its echoes is not read either. Messages are
//! compressed for whoever offers that (RFC 7692), each for itself, or with `--takeover on` after those before it.

use std::collections::{HashMap, HashSet};
use std::error::Error;
use std::net::SocketAddr;

use fanwire_codec::http::HttpError;
use fanwire_codec::ws::deflate::{
    Agreement, Context, DeflatePolicy, Deflater, Direction, write_deflated_message,
};
use fanwire_codec::ws::handshake::Upgrade;
use fanwire_codec::ws::{Kind, write_close, write_message};
use fanwire_core::delivery::{Delivery, Notice};
use fanwire_core::ids::ShardId;
use fanwire_core::{FlushBudget, Instant, Limits, Outlet, RingSpace, Wire};
use fanwire_io::counters::Count;
use fanwire_io::{
    Config, Driver, Effect, Endpoint, EndpointId, Flow, Listener, Metric, Origins, Service, start,
};

struct Echo {
    delivery: Delivery,
    /// Not read until they have read.
    paused: HashSet<u32>,
    effects: Vec<Effect>,
    policy: DeflatePolicy,
    /// How to compress for those that want it, and what they remember.
    compressed: HashMap<u32, (Direction, Option<Context>)>,
    /// By window bits.
    deflaters: HashMap<u8, Deflater>,
}

impl Echo {
    fn new(policy: DeflatePolicy) -> Self {
        let limits = Limits {
            outbox_bytes_max: PAUSE_BYTES + 2 * MESSAGE_BYTES_MAX as usize,
            outbox_messages_max: u32::MAX,
            ..Limits::default()
        };
        Self {
            delivery: Delivery::new(limits),
            paused: HashSet::new(),
            effects: Vec::new(),
            policy,
            compressed: HashMap::new(),
            deflaters: HashMap::new(),
        }
    }

    fn take_notices(&mut self) {
        for notice in self.delivery.notices() {
            match notice {
                Notice::Finished(outlet) => self.effects.push(Effect::Finished(outlet)),
                Notice::Cut(outlet, reason) => self.effects.push(Effect::Abort(outlet, reason)),
                Notice::Congested { .. }
                | Notice::Paused { .. }
                | Notice::Relieved(_)
                | Notice::Unsayable(_) => {}
            }
        }
    }
}

impl Service for Echo {
    /// Shards have nothing to say to each other.
    type Item = std::convert::Infallible;

    const METRICS: &'static [Metric] = &[];

    fn attach(&mut self, _now: Instant, outlet: Outlet) {
        self.delivery.attach(outlet);
    }

    fn push(&mut self, _now: Instant, outlet: Outlet, bytes: &[u8]) {
        self.delivery.reply(outlet, |out| out.extend_from_slice(bytes));
    }

    fn finish(&mut self, outlet: Outlet) {
        self.delivery.finish(outlet);
    }

    fn negotiate(
        &mut self,
        _endpoint: EndpointId,
        upgrade: &mut Upgrade<'_>,
    ) -> Result<Option<&'static str>, HttpError> {
        upgrade.negotiate_deflate(&self.policy)?;
        Ok(None)
    }

    fn open(
        &mut self,
        _now: Instant,
        outlet: Outlet,
        _endpoint: EndpointId,
        _subprotocol: Option<&'static str>,
    ) {
        self.effects.push(Effect::Established(outlet));
    }

    fn use_compression(&mut self, _now: Instant, outlet: Outlet, agreement: &Agreement) {
        self.compressed.insert(outlet.0, (agreement.server, agreement.server.context()));
    }

    fn receive(&mut self, _now: Instant, outlet: Outlet, kind: Kind, message: &mut [u8]) -> Flow {
        let Self { delivery, compressed, deflaters, .. } = self;
        delivery.reply(outlet, |out| match compressed.get_mut(&outlet.0) {
            Some((direction, context)) => {
                let bits = direction.window_bits;
                let deflater = deflaters.entry(bits).or_insert_with(|| Deflater::new(1, bits));
                write_deflated_message(out, kind, &[message], deflater, context.as_mut());
            }
            None => write_message(out, kind, &[message]),
        });
        if self.delivery.waiting_bytes(outlet) > PAUSE_BYTES {
            self.paused.insert(outlet.0);
            return Flow::Pause;
        }
        Flow::Continue
    }

    fn violate(&mut self, now: Instant, outlet: Outlet, code: u16, words: &str) {
        self.close(now, outlet, code, words);
    }

    fn peer_closed(&mut self, now: Instant, outlet: Outlet) {
        self.delivery.detach(now, outlet);
        self.paused.remove(&outlet.0);
    }

    fn release(&mut self, now: Instant, outlet: Outlet) {
        self.peer_closed(now, outlet);
        self.compressed.remove(&outlet.0);
    }

    fn shut_down(&mut self, now: Instant, outlet: Outlet) {
        self.close(now, outlet, 1001, "the server stops");
    }

    fn close(&mut self, _now: Instant, outlet: Outlet, code: u16, words: &str) {
        self.delivery.reply(outlet, |out| write_close(out, code, words));
        self.delivery.finish(outlet);
        self.paused.remove(&outlet.0);
    }

    fn begin_turn(&mut self, _now: Instant) {}

    fn handle_item(&mut self, _now: Instant, _from: ShardId, item: Self::Item) {
        match item {}
    }

    fn set_ring_space(&mut self, _to: ShardId, _space: RingSpace) {}

    fn item_bytes(_item: &Self::Item) -> usize {
        0
    }

    fn push_items(&mut self, _push: &mut dyn FnMut(ShardId, Self::Item) -> Result<(), Self::Item>) {}

    fn writable(&mut self, outlet: Outlet) {
        self.delivery.writable(outlet);
    }

    fn flush(&mut self, now: Instant, wire: &mut impl Wire, budget: &FlushBudget) -> bool {
        let more = self.delivery.flush(now, wire, budget);
        self.take_notices();
        let Self { delivery, paused, effects, .. } = self;
        paused.retain(|&slot| {
            let wait = delivery.waiting_bytes(Outlet(slot)) > PAUSE_BYTES;
            if !wait {
                effects.push(Effect::Resume(Outlet(slot)));
            }
            wait
        });
        more
    }

    fn next_deadline(&self) -> Option<Instant> {
        self.delivery.next_deadline()
    }

    fn handle_timeout(&mut self, now: Instant) {
        self.delivery.handle_timeout(now);
        self.take_notices();
    }

    fn effects(&mut self, effects: &mut Vec<Effect>) {
        effects.append(&mut self.effects);
    }

    fn read_counters(&self, _into: &[Count]) {}
}

fn main() -> Result<(), Box<dyn Error>> {
    let mut address: SocketAddr = "127.0.0.1:9001".parse()?;
    let mut driver = Driver::Auto;
    let mut policy = DeflatePolicy::default();
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        let value = arguments.next().ok_or_else(|| format!("{argument} needs a value"))?;
        match argument.as_str() {
            "--listen" => address = value.parse()?,
            "--driver" => {
                driver = match value.as_str() {
                    "auto" => Driver::Auto,
                    "io_uring" => Driver::IoUring,
                    "epoll" => Driver::Epoll,
                    _ => return Err(format!("--driver {value}: choose auto, io_uring or epoll").into()),
                }
            }
            "--takeover" => {
                policy.takeover = match value.as_str() {
                    "on" => true,
                    "off" => false,
                    _ => return Err(format!("--takeover {value}: choose on or off").into()),
                }
            }
            _ => {
                let words = format!("{argument} is not known; there are --listen, --driver and --takeover");
                return Err(words.into());
            }
        }
    }
    let config = Config {
        listeners: vec![Listener {
            address: address.into(),
            backlog: None,
            endpoints: vec![Endpoint { path: "*".to_owned(), id: EndpointId(0) }],
            longpoll: Vec::new(),
            rawsocket: None,
            control: Vec::new(),
            tls: None,
            cookie: None,
            origins: Origins { any: true, allowed: Vec::new() },
        }],
        shards: Some(1),
        driver,
        message_bytes_max: MESSAGE_BYTES_MAX,
        message_bytes_max_before_login: MESSAGE_BYTES_MAX,
        ..Config::default()
    };
    let running = start(config, move |_, _| Echo::new(policy))?;
    for address in running.addresses() {
        println!("echo server on ws://{address} ({})", running.shards()[0].driver.rung.as_str());
    }
    running.wait();
    Ok(())
}

const MESSAGE_BYTES_MAX: u64 = 16 << 20;
const PAUSE_BYTES: usize = 1 << 20;
