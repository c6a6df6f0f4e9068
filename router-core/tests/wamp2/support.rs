//! A router of a few shards in one thread, and clients that speak JSON to it.

use std::collections::{HashMap, HashSet};
use std::io::IoSlice;
use std::sync::Arc;
use std::sync::mpsc::channel;
use std::time::Duration;

use fanwire_codec::rawsocket;
use fanwire_codec::wamp2::Serializer;
use fanwire_codec::ws::deflate::Agreement;
use fanwire_codec::ws::{Kind, Limits as WsLimits, Pool, Received, Receiver, Role};
use fanwire_core::access::{Access, Disclosure, Permission, RealmConfig, RoleConfig};
use fanwire_core::api::{ApiAnswer, ApiRequest, Ask, SessionCursor, SessionFilter};
use fanwire_core::directory::Directory;
use fanwire_core::echo::EchoRooms;
use fanwire_core::encoding::Framing;
use fanwire_core::handled::{Handler, OnFailure};
use fanwire_core::hooks::HookRule;
use fanwire_core::ids::{RoleId, SessionId, ShardId};
use fanwire_core::login::LoginMethod;
use fanwire_core::message_center::MessageCenter;
use fanwire_core::question::{Grant, Question, Subject};
use fanwire_core::topics::TopicRules;
use fanwire_core::uri::MatchPolicy;
use fanwire_core::wamp1::{NameMap, Wamp1};
use fanwire_core::{
    Compression, CoreConfig, Effect, Encoding, Flow, FlushBudget, Instant, Limits, Outlet, RingItem,
    RingSpace, Sent, Shard, Wire,
};

/// One client: (shard, outlet).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Client(pub usize, pub Outlet);

#[derive(Default)]
struct Sockets {
    sent: HashMap<Outlet, Vec<u8>>,
    /// They take nothing.
    full: HashSet<Outlet>,
    /// They take so much more.
    room: HashMap<Outlet, usize>,
}

impl Wire for Sockets {
    fn send(&mut self, outlet: Outlet, pieces: &[IoSlice<'_>]) -> Sent {
        if self.full.contains(&outlet) {
            return Sent::Took(0);
        }
        if let Some(room) = self.room.get_mut(&outlet) {
            let bytes: Vec<u8> = pieces.iter().flat_map(|piece| piece.iter().copied()).take(*room).collect();
            *room -= bytes.len();
            self.sent.entry(outlet).or_default().extend_from_slice(&bytes);
            return Sent::Took(bytes.len());
        }
        let buffer = self.sent.entry(outlet).or_default();
        let before = buffer.len();
        pieces.iter().for_each(|piece| buffer.extend_from_slice(piece));
        Sent::Took(buffer.len() - before)
    }
}

pub struct Router {
    pub shards: Vec<Shard>,
    pub directory: Arc<Directory>,
    sockets: Vec<Sockets>,
    encodings: HashMap<Client, Encoding>,
    /// The words of the close frames that were heard.
    pub farewells: HashMap<Client, String>,
    next: u32,
    pub effects: Vec<(usize, Effect)>,
    /// Slots of each ring.
    ring_capacity: usize,
    rings: Vec<Vec<std::collections::VecDeque<RingItem>>>,
    pub now: Instant,
}

impl Router {
    pub fn new(shards: u8) -> Self {
        Self::with(shards, Limits::default())
    }

    /// With [`realms`].
    pub fn with(shards: u8, limits: Limits) -> Self {
        Self::hooked(shards, limits, &[])
    }

    /// The same, with hooks.
    pub fn hooked(shards: u8, limits: Limits, hooks: &[HookRule]) -> Self {
        Self::centered(shards, limits, hooks, |_| MessageCenter::default())
    }

    /// The same, with channels for message-center clients.
    pub fn centered(
        shards: u8,
        limits: Limits,
        hooks: &[HookRule],
        center: impl FnOnce(&Access) -> MessageCenter,
    ) -> Self {
        Self::built(shards, limits, hooks, |access| (center(access), EchoRooms::default()))
    }

    /// The same, with echo rooms.
    pub fn built(
        shards: u8,
        limits: Limits,
        hooks: &[HookRule],
        protocols: impl FnOnce(&Access) -> (MessageCenter, EchoRooms),
    ) -> Self {
        Self::with_version_1(shards, limits, hooks, "realm1", &[], protocols)
    }

    /// The same, with clients of WAMP version 1 in this realm, who have these names for what the realm calls otherwise.
    pub fn with_version_1(
        shards: u8,
        limits: Limits,
        hooks: &[HookRule],
        realm: &str,
        names: &[(&str, &str)],
        protocols: impl FnOnce(&Access) -> (MessageCenter, EchoRooms),
    ) -> Self {
        let realms = realms();
        let mut access = Access::new(&realms, 1).expect("the realms are sound");
        access.set_hooks(hooks);
        let (message_center, echo) = protocols(&access);
        let wamp1 = Wamp1 { realm: access.realm(realm), names: NameMap::new(names.iter().copied()) };
        let first = access.realm("realm1").expect("one of them");
        let role = access.anonymous_role(first).expect("it is open");
        let handler = |on_failure| Handler { realm: first, role, on_failure };
        let handlers = vec![handler(OnFailure::Close), handler(OnFailure::Keep)];
        let (ring_capacity, agent) = (limits.ring_capacity, "fanwire-test".to_owned());
        let config = Arc::new(CoreConfig {
            access,
            limits,
            compression: Some(Compression::default()),
            agent,
            message_center,
            echo,
            wamp1,
            handlers,
        });
        let directory = Arc::new(Directory::new(7));
        let shards: Vec<_> = (0..shards)
            .map(|number| {
                let mut state = u64::from(number) + 1;
                let random = Box::new(move || {
                    state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
                    state ^ (state >> 29)
                });
                let id = ShardId::new(number).expect("few shards");
                Shard::new(Arc::clone(&config), id, shards, Arc::clone(&directory), random)
            })
            .collect();
        let count = shards.len();
        Self {
            sockets: (0..count).map(|_| Sockets::default()).collect(),
            rings: (0..count).map(|_| (0..count).map(|_| Default::default()).collect()).collect(),
            shards,
            directory,
            encodings: HashMap::new(),
            farewells: HashMap::new(),
            next: 0,
            effects: Vec::new(),
            ring_capacity,
            now: Instant::from_nanos(1),
        }
    }

    /// A connection whose WebSocket or RawSocket is open.
    pub fn connect(&mut self, shard: usize, encoding: impl Into<Encoding>) -> Client {
        let encoding = encoding.into();
        let outlet = Outlet(self.next);
        self.next += 1;
        self.shards[shard].attach(self.now, outlet);
        self.shards[shard].open(self.now, outlet, encoding);
        let client = Client(shard, outlet);
        self.encodings.insert(client, encoding);
        client
    }

    /// A message-center client whose WebSocket is open.
    pub fn connect_to_center(&mut self, shard: usize) -> Client {
        let outlet = Outlet(self.next);
        self.next += 1;
        self.shards[shard].attach(self.now, outlet);
        self.shards[shard].open(self.now, outlet, Encoding::MESSAGE_CENTER);
        Client(shard, outlet)
    }

    /// An echo client that asks for this path, and whether it is listened to.
    pub fn connect_to_room(
        &mut self,
        shard: usize,
        target: &str,
        compression: Option<&Agreement>,
    ) -> (Client, Flow) {
        let outlet = Outlet(self.next);
        self.next += 1;
        let core = &mut self.shards[shard];
        core.attach(self.now, outlet);
        core.open(self.now, outlet, Encoding::ECHO);
        if let Some(agreement) = compression {
            core.use_compression(self.now, outlet, agreement);
        }
        let flow = core.enter_room(self.now, outlet, target);
        (Client(shard, outlet), flow)
    }

    /// A client of WAMP version 1, and whether it is listened to.
    pub fn connect_version_1(&mut self, shard: usize, compression: Option<&Agreement>) -> (Client, Flow) {
        let outlet = Outlet(self.next);
        self.next += 1;
        let core = &mut self.shards[shard];
        core.attach(self.now, outlet);
        core.open(self.now, outlet, Encoding::WAMP1);
        if let Some(agreement) = compression {
            core.use_compression(self.now, outlet, agreement);
        }
        let flow = core.enter_wamp(self.now, outlet);
        (Client(shard, outlet), flow)
    }

    /// The number of the next connection.
    pub fn next(&mut self) -> u32 {
        self.next += 1;
        self.next - 1
    }

    /// A client that is welcome in `realm1`.
    pub fn join(&mut self, shard: usize) -> Client {
        self.join_realm(shard, "realm1")
    }

    pub fn join_realm(&mut self, shard: usize, realm: &str) -> Client {
        self.join_in(shard, realm, Serializer::Json.into())
    }

    /// The same in an encoding of JSON.
    pub fn join_in(&mut self, shard: usize, realm: &str, encoding: Encoding) -> Client {
        let client = self.connect(shard, encoding);
        self.say(client, &format!(r#"[1,"{realm}",{{"roles":{{"publisher":{{}}}}}}]"#));
        let heard = self.hear(client);
        assert!(heard[0].starts_with("[2,"), "{heard:?}");
        client
    }

    /// A client that is welcome in `realm1` and announces these features as caller and as callee.
    pub fn join_able(&mut self, shard: usize, caller: &[&str], callee: &[&str]) -> Client {
        let features = |names: &[&str]| {
            let pairs: Vec<String> = names.iter().map(|name| format!("\"{name}\":true")).collect();
            format!(r#"{{"features":{{{}}}}}"#, pairs.join(","))
        };
        let client = self.connect(shard, Serializer::Json);
        let (caller, callee) = (features(caller), features(callee));
        self.say(client, &format!(r#"[1,"realm1",{{"roles":{{"caller":{caller},"callee":{callee}}}}}]"#));
        let welcome = self.hear_one(client);
        assert!(welcome.starts_with("[2,"), "{welcome}");
        client
    }

    /// The time goes on, and what is due by then is done.
    pub fn pass(&mut self, time: Duration) {
        self.now = self.now + time;
        for shard in &mut self.shards {
            if shard.next_deadline().is_some_and(|at| at <= self.now) {
                shard.handle_timeout(self.now);
            }
        }
    }

    /// Calls of its sessions that are not done with, and of those of all shards.
    pub fn calls_pending(&self) -> u64 {
        self.shards.iter().map(|shard| shard.counters().calls_pending).sum()
    }

    /// A client that says HELLO to log in by ticket and is challenged.
    pub fn challenged(&mut self, shard: usize, realm: &str, authid: &str) -> Client {
        let client = self.connect(shard, Serializer::Json);
        let hello = format!(
            r#"[1,"{realm}",{{"roles":{{"publisher":{{}}}},"authmethods":["ticket"],"authid":"{authid}"}}]"#
        );
        assert_eq!(self.say(client, &hello), Flow::Continue);
        assert_eq!(self.hear_one(client), r#"[4,"ticket",{}]"#);
        client
    }

    /// The one thing that the shard wants to have decided, or tells, but for news.
    pub fn question(&mut self, shard: usize) -> Question {
        let is_news = |question: &Question| matches!(question.subject, Subject::News { .. });
        let mut questions: Vec<_> = self.shards[shard].questions().filter(|asked| !is_news(asked)).collect();
        assert_eq!(questions.len(), 1, "{questions:?}");
        questions.remove(0)
    }

    /// Lets the client of this request in, in this role of realm `named`.
    pub fn grant(&mut self, shard: usize, question: &Question, role: u16) {
        let grant = Grant::of_user(RoleId::new(role));
        self.shards[shard].handle_verdict(self.now, question.verdict(Ok(grant)));
    }

    /// Hands one message over; nothing is flushed.
    pub fn say(&mut self, client: Client, message: &str) -> Flow {
        self.say_bytes(client, Kind::Text, message.as_bytes())
    }

    pub fn say_bytes(&mut self, client: Client, kind: Kind, message: &[u8]) -> Flow {
        self.shards[client.0].receive(self.now, client.1, kind, &mut message.to_vec())
    }

    /// One turn of one shard without its flush: rings in, parked requests, rings out.
    pub fn exchange(&mut self, shard: usize) {
        for from in 0..self.shards.len() {
            while let Some(item) = self.rings[from][shard].pop_front() {
                let from = ShardId::new(from as u8).expect("few shards");
                self.shards[shard].handle_item(self.now, from, item);
            }
        }
        for to in 0..self.shards.len() {
            let ring = &self.rings[shard][to];
            let space = RingSpace {
                slots: self.ring_capacity - ring.len(),
                bytes_queued: ring.iter().map(RingItem::bytes).sum(),
            };
            self.shards[shard].set_ring_space(ShardId::new(to as u8).expect("few shards"), space);
        }
        self.shards[shard].retry_parked(self.now);
        let (rings, capacity) = (&mut self.rings[shard], self.ring_capacity);
        self.shards[shard].push_items(&mut |to, item| {
            let ring = &mut rings[to.index()];
            if ring.len() < capacity {
                ring.push_back(item);
                Ok(())
            } else {
                Err(item)
            }
        });
    }

    /// Gives a shard new permissions, and other limits.
    pub fn renew(&mut self, shard: usize, config: &Arc<CoreConfig>) {
        self.shards[shard].renew(self.now, Arc::clone(config));
    }

    /// The configuration that follows that of a shard.
    pub fn renewed(&self, shard: usize, realms: &[RealmConfig], limits: Limits) -> Arc<CoreConfig> {
        let before = self.shards[shard].config();
        let access = before.access.renewed(realms).expect("the realms are sound");
        let (agent, message_center) = (before.agent.clone(), before.message_center.clone());
        let (echo, wamp1) = (before.echo.clone(), before.wamp1.clone());
        Arc::new(CoreConfig {
            access,
            limits,
            compression: None,
            agent,
            message_center,
            echo,
            wamp1,
            handlers: before.handlers.clone(),
        })
    }

    /// Turns of all shards until nothing happens any more.
    pub fn settle(&mut self) {
        for _ in 0..100 {
            self.turn();
            // Calls and slow consumers have longer.
            let soon = self.now + Duration::from_millis(1);
            let is_due = |shard: &Shard| shard.next_deadline().is_some_and(|at| at <= soon);
            let waiting = self.shards.iter().any(is_due);
            if !waiting && self.rings.iter().flatten().all(|ring| ring.is_empty()) {
                return;
            }
        }
        panic!("the router does not come to rest");
    }

    /// So many turns of all shards, where somebody waits for what does not come.
    pub fn turns(&mut self, count: usize) {
        (0..count).for_each(|_| self.turn());
    }

    fn turn(&mut self) {
        for shard in 0..self.shards.len() {
            self.exchange(shard);
            while self.shards[shard].flush(self.now, &mut self.sockets[shard], &FlushBudget::default()) {}
            let effects: Vec<_> = self.shards[shard].effects().collect();
            self.effects.extend(effects.into_iter().map(|effect| (shard, effect)));
            assert_eq!(self.shards[shard].counters().balance(), 0);
        }
    }

    /// What the client was sent since it was last asked: messages, and `close CODE` for a close frame.
    pub fn hear(&mut self, client: Client) -> Vec<String> {
        self.settle();
        self.hear_now(client)
    }

    /// The same without a turn of any other shard, nor anything from them.
    pub fn hear_now(&mut self, client: Client) -> Vec<String> {
        while self.shards[client.0].flush(self.now, &mut self.sockets[client.0], &FlushBudget::default()) {}
        let mut bytes = std::mem::take(self.sockets[client.0].sent.entry(client.1).or_default());
        if let Some(Encoding::Wamp2(_, Framing::Raw(max))) = self.encodings.get(&client) {
            return raw_messages(&mut bytes, max.bytes());
        }
        let mut receiver = Receiver::new(Role::Client);
        let (mut pool, limits) = (Pool::default(), WsLimits::default());
        let (mut at, mut heard) = (0, Vec::new());
        while at < bytes.len() {
            let (used, received) =
                receiver.receive(&mut bytes[at..], &limits, &mut pool).expect("sound frames");
            at += used;
            heard.extend(received.map(|received| match received {
                Received::Message { kind: Kind::Text, payload } => {
                    String::from_utf8(payload.to_vec()).expect("UTF-8")
                }
                Received::Message { kind: Kind::Binary, payload } => {
                    payload.iter().map(|byte| format!("{byte:02x}")).collect()
                }
                Received::Close(Some((code, words))) => {
                    self.farewells.insert(client, words.to_owned());
                    format!("close {code}")
                }
                other => format!("{other:?}"),
            }));
        }
        heard
    }

    /// The one message that the client was sent.
    pub fn hear_one(&mut self, client: Client) -> String {
        let mut heard = self.hear(client);
        assert_eq!(heard.len(), 1, "{heard:?}");
        heard.remove(0)
    }

    /// Its socket takes nothing any more, or everything again.
    pub fn fill(&mut self, client: Client, is_full: bool) {
        let full = &mut self.sockets[client.0].full;
        if is_full {
            full.insert(client.1);
        } else if full.remove(&client.1) {
            self.shards[client.0].writable(client.1);
        }
    }

    /// From now on its socket takes so many bytes more.
    pub fn trickle(&mut self, client: Client, bytes: usize) {
        self.sockets[client.0].room.insert(client.1, bytes);
        self.shards[client.0].writable(client.1);
    }

    /// The id of its session, if that is open.
    pub fn session_id(&mut self, client: Client) -> Option<SessionId> {
        let (sender, receiver) = channel();
        let reply = Box::new(move |answer| sender.send(answer).expect("it is listened to"));
        let (filter, after) = (SessionFilter::default(), SessionCursor::default());
        let ask = Ask::Sessions { filter, after, limit: usize::MAX };
        // Known again by the number of its connection.
        let peer = |outlet: Outlet| Some(([10, 0, 0, 1], outlet.0 as u16 + 1).into());
        // A turn takes a few requests only.
        self.shards[client.0].retry_parked(self.now);
        self.shards[client.0].handle_api(self.now, ApiRequest { ask, reply }, &peer).expect("it is ready");
        let answer = receiver.try_recv().expect("at once");
        let ApiAnswer::Sessions { page, .. } = answer else { panic!("{answer:?}") };
        page.iter().find(|info| info.peer == peer(client.1)).map(|info| info.session)
    }

    /// The connection breaks off.
    pub fn vanish(&mut self, client: Client) {
        self.shards[client.0].peer_closed(self.now, client.1);
    }
}

/// What came over RawSocket, each within the length that the client takes.
fn raw_messages(bytes: &mut [u8], bytes_max: usize) -> Vec<String> {
    let mut receiver = rawsocket::Receiver::new(true);
    let (mut at, mut heard) = (0, Vec::new());
    while at < bytes.len() {
        let (used, received) = receiver.receive(&mut bytes[at..], bytes_max as u64).expect("sound frames");
        at += used;
        heard.extend(received.map(|received| match received {
            rawsocket::Received::Message(message) => String::from_utf8(message.to_vec()).expect("JSON"),
            other => format!("{other:?}"),
        }));
    }
    heard
}

/// Realm `realm1` is open; in `closed` nobody may do anything but `ok.*`; in `partly` all may publish and call
/// everything, and subscribe to and register all but `top.secret.*`; to `named` one logs in by ticket, as `user` or
/// as `operator`; `both` takes anonymous sessions too; `shut` takes nobody. In `discreet` publishers and callers are
/// always disclosed at `told.*` and never at `secret.*`. In `signed` one signs challenges; `remembered` knows cookies.
pub fn realms() -> [RealmConfig; 10] {
    let mut closed = RealmConfig::open("closed");
    let rule = closed.roles[0].permissions[0].clone();
    closed.roles[0].permissions =
        vec![Permission { uri: "ok.".to_owned(), match_policy: MatchPolicy::Prefix, ..rule.clone() }];
    let role = |name: &str| RoleConfig { name: name.to_owned(), permissions: vec![rule.clone()] };
    let mut partly = RealmConfig::open("partly");
    partly.roles[0].permissions.push(Permission {
        uri: "top.secret.".to_owned(),
        subscribe: false,
        register: false,
        ..rule.clone()
    });
    let named = RealmConfig {
        topics: TopicRules::default(),
        name: "named".to_owned(),
        roles: vec![role("user"), role("operator")],
        anonymous_role: None,
        login_methods: vec![LoginMethod::Ticket],
        tickets_say_who: false,
        cookie_time: None,
    };
    let both = RealmConfig {
        name: "both".to_owned(),
        login_methods: vec![LoginMethod::Ticket],
        ..RealmConfig::open("")
    };
    let remembered = RealmConfig {
        name: "remembered".to_owned(),
        cookie_time: Some(Duration::from_secs(3_600)),
        ..named.clone()
    };
    let shut = RealmConfig { name: "shut".to_owned(), login_methods: Vec::new(), ..named.clone() };
    let mut discreet = RealmConfig::open("discreet");
    let rule = |uri: &str, disclose| Permission {
        uri: uri.to_owned(),
        match_policy: MatchPolicy::Prefix,
        disclose,
        ..rule.clone()
    };
    let rules = [rule("told.", Disclosure::Always), rule("secret.", Disclosure::Never)];
    discreet.roles[0].permissions.extend(rules);
    let every = RealmConfig { login_methods: LoginMethod::ALL.to_vec(), ..RealmConfig::open("every") };
    let signed =
        RealmConfig { name: "signed".to_owned(), login_methods: vec![LoginMethod::WampCra], ..named.clone() };
    [RealmConfig::open("realm1"), closed, partly, named, both, shut, discreet, every, signed, remembered]
}

/// The number that is element `index` of a JSON message.
pub fn number(message: &str, index: usize) -> u64 {
    message
        .trim_matches(['[', ']'])
        .split(',')
        .nth(index)
        .and_then(|text| text.parse().ok())
        .expect("a number")
}
