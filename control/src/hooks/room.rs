//! How much may wait for a hook, in questions and in bytes.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use fanwire_codec::payload::OwnedPayload;
use fanwire_core::login::Proof;
use fanwire_core::question::Subject;

/// What the questions of one hook may hold of messages, payloads and tickets, until they are answered, with the requests that
/// wait on their shards. What is under way is there as JSON, too.
const BYTES_MAX: usize = 32 << 20;

/// The room of one hook. Shards take places in it, and the thread gives them back.
#[derive(Debug, Default)]
pub(crate) struct Room {
    questions: AtomicUsize,
    bytes: AtomicUsize,
}

/// The place of one question, given back when it is dropped.
#[derive(Debug)]
pub(crate) struct Place {
    room: Arc<Room>,
    bytes: usize,
    waits: bool,
}

impl Room {
    /// A place for a question of so many bytes, if fewer than `questions_max` wait. One that is too large for any room gets
    /// the whole of it.
    pub(crate) fn enter(self: &Arc<Self>, bytes: usize, questions_max: usize) -> Option<Place> {
        let one_more = |count: usize| (count < questions_max).then(|| count + 1);
        self.questions.fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_more).ok()?;
        let mut place = Place { room: Arc::clone(self), bytes: 0, waits: true };
        let fits = |held: usize| (held == 0 || held + bytes <= BYTES_MAX).then(|| held + bytes);
        self.bytes.fetch_update(Ordering::Relaxed, Ordering::Relaxed, fits).ok()?;
        place.bytes = bytes;
        Some(place)
    }
}

impl Place {
    /// It is being asked: others may wait in its place, though its bytes are still there.
    pub(super) fn leave_queue(&mut self) {
        if std::mem::take(&mut self.waits) {
            self.room.questions.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.leave_queue();
        self.room.bytes.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

/// What a client can make large of what a question tells. The message that waits for it is counted apart.
pub(super) fn bytes_of(subject: &Subject) -> usize {
    match subject {
        Subject::Login { authid, proof, extra } => {
            let ticket = if let Proof::Ticket(ticket) = proof { ticket.expose().len() } else { 0 };
            let extra = extra.as_deref().map_or(0, OwnedPayload::len);
            ticket + authid.as_deref().map_or(0, str::len) + extra
        }
        Subject::Hello { authid, extra, .. } => extra.len() + authid.as_deref().map_or(0, str::len),
        Subject::Publish { uri, payload, .. } => {
            uri.len() + payload.as_ref().map_or(0, |payload| payload.len())
        }
        Subject::Message { bytes, .. } => bytes.len(),
        Subject::Rpc { uri, payload, .. } => uri.len() + payload.len(),
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use arc_swap::ArcSwap;
    use fanwire_codec::wamp2::Serializer;
    use fanwire_codec::ws::Kind;
    use fanwire_core::access::{Access, RealmConfig};
    use fanwire_core::directory::Directory;
    use fanwire_core::hooks::{HookEvent, HookId, HookRule, HookScope};
    use fanwire_core::ids::ShardId;
    use fanwire_core::uri::MatchPolicy;
    use fanwire_core::{CoreConfig, Flow, Instant, Limits, Outlet, Shard};

    use super::*;
    use crate::hooks::{BodyForm, HookConfig, Target, desk};

    const CALL: HookEvent = HookEvent::Call;

    /// A router whose calls are asked about.
    fn config() -> CoreConfig {
        let mut access = Access::new(&[RealmConfig::open("realm1")], 1).expect("the realm is sound");
        access.set_hooks(&[HookRule {
            hook: HookId::new(0),
            events: vec![CALL],
            realms: Vec::new(),
            uri: String::new(),
            match_policy: MatchPolicy::Prefix,
            payload: true,
            scope: HookScope::default(),
        }]);
        CoreConfig {
            access,
            limits: Limits::default(),
            compression: None,
            agent: String::new(),
            message_center: Default::default(),
            echo: Default::default(),
            wamp1: Default::default(),
            handlers: Vec::new(),
        }
    }

    /// The hook that is asked: a procedure.
    fn authorizer(core: &CoreConfig) -> HookConfig {
        let realm = core.access.realm("realm1").expect("it is the only one");
        HookConfig {
            name: "rules".to_owned(),
            target: Target::Procedure { realm, uri: "com.shop.authorize".into() },
            events: vec![CALL],
            body: BodyForm::Json,
            fields: Vec::new(),
            headers: Vec::new(),
            timeout: Duration::from_secs(1),
            max_in_flight: 1,
            queue: 1_000,
            cache: Duration::ZERO,
            allow_on_failure: false,
            role: None,
            methods: Vec::new(),
        }
    }

    #[test]
    fn messages_that_wait_on_their_shard_take_room() {
        let core = Arc::new(config());
        let id = ShardId::new(0).expect("a shard's number");
        let mut last = 0;
        let random = Box::new(move || {
            last += 1;
            last
        });
        let mut shard = Shard::new(Arc::clone(&core), id, 1, Arc::new(Directory::new(1)), random);
        let (queue, _desk) = desk(vec![authorizer(&core)], Arc::new(ArcSwap::from(core))).expect("no TLS");
        let room = &queue.0[0].room;
        let (now, call) = (Instant::START, format!(r#"[48,1,{{}},"a.b",["{}"]]"#, "x".repeat(900 << 10)));
        let fitting = BYTES_MAX / call.len();
        for index in 0..=fitting {
            let outlet = Outlet(u32::try_from(index).expect("a few"));
            shard.attach(now, outlet);
            shard.open(now, outlet, Serializer::Json);
            let hello = r#"[1,"realm1",{"roles":{"caller":{}}}]"#;
            for message in [hello, &call] {
                let flow = shard.receive(now, outlet, Kind::Text, &mut message.as_bytes().to_vec());
                assert_eq!(flow == Flow::Pause, *message == *call, "it waits for the verdict");
            }
            let asks = |question: &_| matches!(question, Subject::Call { .. });
            let question =
                shard.questions().find(|question| asks(&question.subject)).expect("it is asked about");
            let taken = queue.submit(id, question);
            assert_eq!(taken.is_ok(), index < fitting, "call {index} of {fitting}");
            let expected = call.len() * (index + 1).min(fitting);
            assert_eq!(room.bytes.load(Ordering::Relaxed), expected);
        }
    }

    #[test]
    fn room_is_bounded_in_questions_and_in_bytes() {
        let room = Arc::new(Room::default());
        let mut one = room.enter(10, 2).expect("the first");
        let two = room.enter(BYTES_MAX - 10, 2).expect("the second");
        assert!(room.enter(0, 2).is_none(), "two wait");
        one.leave_queue();
        assert!(room.enter(1, 2).is_none(), "all bytes are held");
        let three = room.enter(0, 2).expect("it holds nothing");
        drop((one, two, three));
        let large = room.enter(2 * BYTES_MAX, 2).expect("there is nobody else");
        assert!(room.enter(1, 2).is_none());
        drop(large);
        assert_eq!((room.questions.load(Ordering::Relaxed), room.bytes.load(Ordering::Relaxed)), (0, 0));
    }
}
