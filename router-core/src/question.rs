//! Questions: what a shard does not decide by itself, and the verdicts on it.
//!
//! ```text
//! session ─▶ Question ─▶ (control thread: users, hooks) ─▶ Verdict ─▶ the session goes on, or is refused
//! ```
//!
//! A shard compares no secrets and waits for nobody: both are slow. It hands a [`Question`] out, does not listen to the
//! session meanwhile, and goes on when the [`Verdict`] comes. So what a session asks stays in its order, and no other
//! session waits for it. The client may have left by then and its outlet may belong to another one, so each question has
//! a number that no other one of its shard has. A question that is not answered has its deadline
//! ([`Limits::question_max`](crate::Limits::question_max)).
//!
//! What is asked while somebody comes in is in [`login`](crate::login), what is asked about requests in
//! [`hooks`](crate::hooks).

use std::fmt;
use std::sync::{Arc, Weak};
use std::time::Duration;

use fanwire_codec::payload::OwnedPayload;
use fanwire_codec::ws;

use crate::api::Order;
use crate::clock::Instant;
use crate::delivery::Outlet;
use crate::handled::{HandlerId, Happening};
use crate::hooks::{HeldRequest, HookEvent, HookId};
use crate::ids::{ClientId, RealmId, RoleId, SessionId};
use crate::login::{Challenge, ChannelId, Entrance, LoginMethod, Proof};
use crate::meta::News;
use crate::mutation::{Mutation, planted};
pub use crate::session::Identity;
use crate::shard::Shard;
use crate::uri::MatchPolicy;

/// Which question of a shard is meant.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) struct QuestionKey {
    outlet: Outlet,
    pub(crate) number: u64,
}

/// Something that others decide: whoever knows the users, or a hook.
///
/// Answer each with [`Shard::handle_verdict`] of the shard that asked, or not at all: then its deadline answers it.
#[derive(Debug)]
pub struct Question {
    pub(crate) key: QuestionKey,
    /// Which hook is asked; `None`: whoever knows the realm's users, or answers the meta API.
    pub hook: Option<HookId>,
    /// Which queue of the message center gets it, in place of a hook.
    pub queue: Option<usize>,
    /// Which handler of an endpoint it is for.
    pub handler: Option<HandlerId>,
    /// Where it happens.
    pub realm: RealmId,
    /// Whose connection it is about; `None`: a call, which may be a program's.
    pub client: Option<ClientId>,
    /// What is to be decided.
    pub subject: Subject,
    /// The hook is not to let it in: its name is that of a user who is known otherwise.
    pub is_taken: bool,
    /// Bytes of the message that waits on its shard for the verdict; 0: none does.
    pub held: usize,
    wanted: Weak<()>,
}

/// What a question is about.
#[derive(Debug)]
#[non_exhaustive]
pub enum Subject {
    /// How does it have to show who it is? Answered by a [`Challenge`].
    Hello {
        /// Who the client says it is, if it says.
        authid: Option<Box<str>>,
        /// The methods that both it and the realm offer, in the client's order; at least one.
        methods: Vec<LoginMethod>,
        /// Its `authextra`: the keyword part is the dictionary.
        extra: OwnedPayload,
        /// The session's id, if it is let in.
        session: SessionId,
        /// What its connection alone has, where that is known; see [`Shard::bind_channel`].
        channel: Option<Box<ChannelId>>,
        /// It speaks WAMP version 1: the challenge is a text, its only argument.
        version_1: bool,
    },
    /// Is the proof good, and which role does it give?
    Login {
        /// Who the client says it is, if it says.
        authid: Option<Box<str>>,
        /// How it shows that.
        proof: Proof,
        /// Its HELLO's `authextra`, for hooks that decide on it: the keyword part is the dictionary.
        extra: Option<Box<OwnedPayload>>,
    },
    /// May it come in?
    Connect {
        /// Who it is; `None`: it does not say.
        authid: Option<Box<str>>,
        /// As what it would come in.
        role: RoleId,
        /// How it showed who it is.
        method: LoginMethod,
    },
    /// May it subscribe? Its role may.
    Subscribe {
        /// Who wants to.
        who: Identity,
        /// To what.
        uri: Box<str>,
        /// How that is meant.
        policy: MatchPolicy,
    },
    /// May it publish? Its role may.
    Publish {
        /// Who wants to.
        who: Identity,
        /// To which topic.
        uri: Box<str>,
        /// What, where the hook wants to know.
        payload: Option<OwnedPayload>,
    },
    /// May it call? Its role may.
    Call {
        /// Who wants to.
        who: Identity,
        /// Which procedure.
        uri: Box<str>,
    },
    /// May it register? Its role may.
    Register {
        /// Who wants to.
        who: Identity,
        /// Which procedure.
        uri: Box<str>,
        /// How that is meant.
        policy: MatchPolicy,
    },
    /// A client of the message center says something. What is it told?
    Message {
        /// Who says it, if it has come in.
        who: Option<Identity>,
        /// Its connection.
        client: ClientId,
        /// Text or binary.
        kind: ws::Kind,
        /// What it says.
        bytes: Box<[u8]>,
        /// It wants to log in, and waits until a backend says who it is.
        waits_for_uid: bool,
    },
    /// It calls a procedure. What is the result?
    Rpc {
        /// Who calls; `None`: a program, by API.
        who: Option<Identity>,
        /// The procedure.
        uri: Box<str>,
        /// The arguments.
        payload: OwnedPayload,
    },
    /// Something happens to a connection that has a handler. What is to be done?
    Handled {
        /// The connection.
        client: ClientId,
        /// What happens.
        happening: Happening,
    },
    /// It calls one of the router's own procedures ([`meta`](crate::meta)). What is the result?
    Meta {
        /// Who calls; `None`: a program, by API.
        caller: Option<SessionId>,
        /// Its role.
        role: RoleId,
        /// A rule about `wamp.` itself allows it.
        is_express: bool,
        /// The procedure.
        uri: Box<str>,
        /// The arguments.
        payload: OwnedPayload,
    },
    /// Something happened that others want to hear of. Nobody waits for an answer.
    News {
        /// Its place in the order of all news of the process, from 1 on, without a gap.
        number: u64,
        /// What.
        news: News,
    },
    /// It has gone. Nobody waits for an answer.
    Disconnect {
        /// Who.
        who: Identity,
    },
}

impl Subject {
    /// The hook's word for it.
    pub fn event(&self) -> HookEvent {
        match self {
            Self::Hello { .. } | Self::Login { .. } => HookEvent::Authenticate,
            Self::Connect { .. } => HookEvent::Connect,
            Self::Subscribe { .. } => HookEvent::Subscribe,
            Self::Publish { .. } => HookEvent::Publish,
            Self::Call { .. } => HookEvent::Call,
            Self::Register { .. } => HookEvent::Register,
            // No hook hears of what has a handler.
            Self::Message { .. } | Self::Handled { .. } => HookEvent::Message,
            // Nor of what the router answers itself, and of news.
            Self::Rpc { .. } | Self::Meta { .. } | Self::News { .. } => HookEvent::Rpc,
            Self::Disconnect { .. } => HookEvent::Disconnect,
        }
    }

    /// Whose request it is that a hook decides on. `None`: it is about something else.
    pub fn who(&self) -> Option<&Identity> {
        match self {
            Self::Subscribe { who, .. }
            | Self::Publish { who, .. }
            | Self::Call { who, .. }
            | Self::Register { who, .. } => Some(who),
            _ => None,
        }
    }
}

impl Question {
    /// False once nobody waits for the verdict: the client has left or its time is over. Asked before the work begins.
    pub fn is_wanted(&self) -> bool {
        self.wanted.strong_count() > 0
    }

    /// The answer to this question.
    pub fn verdict(&self, outcome: Result<Grant, Denial>) -> Verdict {
        Verdict { key: self.key, outcome }
    }
}

/// The answer to a [`Question`].
#[derive(Debug)]
pub struct Verdict {
    key: QuestionKey,
    outcome: Result<Grant, Denial>,
}

/// It may. The fields are for who comes in; what is left out stays as it is.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Grant {
    /// The role in the realm. A login needs one.
    pub role: Option<RoleId>,
    /// Who it is.
    pub authid: Option<Box<str>>,
    /// Who vouches for that, as `authprovider` says it.
    pub provider: &'static str,
    /// It has to show who it is, first or once more; then nothing else is granted yet but its name.
    pub challenge: Option<Box<Challenge>>,
    /// Its session ends after this time, if it still is open.
    pub ends_after: Option<Duration>,
    /// Told to the client as `authextra`: the keyword part is the dictionary.
    pub extra: Option<Box<OwnedPayload>>,
    /// The login may be remembered by the cookie of its connection.
    pub remember: Option<Remember>,
    /// What is to be said or done.
    pub answer: Option<Box<Answer>>,
    /// For a publication or a call: whether others are told whose it is. Left out: what the role's permission says.
    pub disclose: Option<bool>,
    /// A request that is allowed is so for as long as the session lasts.
    pub keep: bool,
}

impl Grant {
    /// The user of the configuration has this role.
    pub fn of_user(role: RoleId) -> Self {
        let remember = Some(Remember::default());
        Self { role: Some(role), provider: "static", remember, ..Self::default() }
    }
}

/// What is remembered of a login beside who it is.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Remember {
    /// What WELCOME tells as `authextra` in later sessions, too.
    pub extra: Option<Box<OwnedPayload>>,
}

/// What is to be said or done.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Answer {
    /// What a message or a call is answered; a message's answer is plain.
    Payload(OwnedPayload),
    /// What a handler wants done with the connection.
    Order(Order),
}

impl Grant {
    /// What is answered, if it is a payload.
    pub fn payload(&self) -> Option<&OwnedPayload> {
        match self.answer.as_deref() {
            Some(Answer::Payload(payload)) => Some(payload),
            Some(Answer::Order(_)) | None => None,
        }
    }
}

/// It may not.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Denial {
    /// It may not. For a login: no such user, or another secret, with the same words for both.
    Refused,
    /// It may not, and this is what it is told.
    Told(Box<Told>),
    /// Too many others wait: the client may come again.
    Busy,
    /// It could not be verified, which is never taken for good.
    Failed,
    /// Who decides cannot be asked now: the client may come again.
    Unavailable,
}

/// A denial in the words of who denied it.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Told {
    /// A valid error URI.
    pub error: Option<Box<str>>,
    /// For people.
    pub message: Option<Box<str>>,
}

/// What a session is on its way to do, and what it waits for meanwhile.
pub(crate) struct Asking {
    /// Of the question that is not answered yet; 0 while nothing is asked.
    pub(crate) number: u64,
    /// Alive while somebody waits for the verdict.
    _wanted: Option<Arc<()>>,
    pub(crate) matter: Matter,
}

/// What hangs on the verdict.
pub(crate) enum Matter {
    /// Whether it comes in.
    Entrance(Entrance),
    /// Whether its request is done.
    Request(HeldRequest),
    /// What its message is answered.
    Message,
    /// What its handler wants done.
    Handled {
        /// Of a connection that has just come.
        begins: bool,
    },
}

impl Asking {
    /// On its way in; nothing is asked yet.
    pub(crate) fn entrance(entrance: Entrance) -> Box<Self> {
        Box::new(Self { number: 0, _wanted: None, matter: Matter::Entrance(entrance) })
    }
}

impl fmt::Debug for Asking {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Asking").field("number", &self.number).finish_non_exhaustive()
    }
}

impl Shard {
    /// Asks, and does not listen to the session until the verdict.
    pub(crate) fn ask(
        &mut self,
        now: Instant,
        outlet: Outlet,
        (hook, realm): (Option<HookId>, RealmId),
        subject: Subject,
        matter: Matter,
    ) {
        self.last_question += 1;
        let key = QuestionKey { outlet, number: self.last_question };
        let wanted = Arc::new(());
        let (client, weak) = (Some(self.client_id(outlet)), Arc::downgrade(&wanted));
        let question = Question {
            key,
            hook,
            queue: None,
            handler: None,
            realm,
            client,
            subject,
            is_taken: false,
            held: 0,
            wanted: weak,
        };
        self.pose(now, question);
        let still_read = matches!(matter, Matter::Request(_)) && planted(Mutation::AskedStillRead);
        let session = self.session_mut(outlet).expect("its message is being handled");
        session.parked = !still_read;
        session.asking = Some(Box::new(Asking { number: key.number, _wanted: Some(wanted), matter }));
    }

    /// Tells what needs no answer.
    pub(crate) fn tell(&mut self, outlet: Outlet, hook: Option<HookId>, realm: RealmId, subject: Subject) {
        self.last_question += 1;
        let key = QuestionKey { outlet, number: self.last_question };
        let (client, wanted) = (Some(self.client_id(outlet)), Weak::new());
        let question = Question {
            key,
            hook,
            queue: None,
            handler: None,
            realm,
            client,
            subject,
            is_taken: false,
            held: 0,
            wanted,
        };
        self.questions.push(question);
    }

    /// Tells the meta desk.
    pub(crate) fn tell_news(&mut self, realm: RealmId, number: u64, news: News) {
        self.last_question += 1;
        let key = QuestionKey { outlet: Outlet(u32::MAX), number: self.last_question };
        let (subject, wanted) = (Subject::News { number, news }, Weak::new());
        self.questions.push(Question {
            key,
            hook: None,
            queue: None,
            handler: None,
            realm,
            client: None,
            subject,
            is_taken: false,
            held: 0,
            wanted,
        });
    }

    /// Asks what a call is answered. Nobody stops listening for it: `number` is the call's.
    pub(crate) fn ask_for_result(
        &mut self,
        now: Instant,
        hook: Option<HookId>,
        realm: RealmId,
        number: u64,
        subject: Subject,
    ) {
        self.last_question += 1;
        let key = QuestionKey { outlet: Outlet(u32::MAX), number: self.last_question };
        let wanted = Arc::new(());
        let weak = Arc::downgrade(&wanted);
        let (handler, client) = (None, None);
        let question = Question {
            key,
            hook,
            queue: None,
            handler,
            realm,
            client,
            subject,
            is_taken: false,
            held: 0,
            wanted: weak,
        };
        self.pose(now, question);
        self.asked_calls.insert(key.number, (number, wanted));
    }

    fn pose(&mut self, now: Instant, question: Question) {
        if self.awaited.len() == self.awaited.capacity() {
            self.forget_all_answered();
        }
        self.awaited.push_back((now + self.config.limits.question_max, question.key));
        self.questions.push(question);
    }

    /// Whether [`questions`](Self::questions) has any.
    pub fn has_questions(&self) -> bool {
        !self.questions.is_empty()
    }

    /// What has to be decided or told, oldest first. Drain it after each method that can ask: [`receive`](Self::receive),
    /// [`handle_verdict`](Self::handle_verdict), and once a turn.
    pub fn questions(&mut self) -> std::vec::Drain<'_, Question> {
        self.questions.drain(..)
    }

    /// The answer to a question of this shard, however late: one that nobody waits for is ignored.
    pub fn handle_verdict(&mut self, now: Instant, verdict: Verdict) {
        self.decide(now, verdict.key, verdict.outcome);
        self.forget_answered();
        self.apply_notices(now);
    }

    fn decide(&mut self, now: Instant, key: QuestionKey, outcome: Result<Grant, Denial>) {
        let QuestionKey { outlet, number } = key;
        if let Some((call, _)) = self.asked_calls.remove(&number) {
            let is_forgotten = planted(Mutation::AskedCallDenialForgotten);
            let outcome = if is_forgotten { Ok(Grant::default()) } else { outcome };
            return self.answer_asked_call(call, outcome);
        }
        let Some(session) = self.session_mut(outlet) else { return };
        let is_meant = |asking: &Asking| {
            asking.number == number || asking.number != 0 && planted(Mutation::VerdictOfAnother)
        };
        if !session.asking.as_deref().is_some_and(is_meant) {
            return;
        }
        session.parked = false;
        let asking = session.asking.take().expect("it was seen");
        match asking.matter {
            Matter::Entrance(entrance) => self.decide_entrance(now, outlet, entrance, outcome),
            Matter::Request(held) => self.decide_request(now, outlet, held, outcome),
            Matter::Message => self.decide_message(now, outlet, outcome),
            Matter::Handled { begins } => self.decide_handled(now, outlet, begins, outcome),
        }
    }

    /// Somebody has said who the client is that waits for just that. False: it does not.
    pub(crate) fn tell_uid(&mut self, now: Instant, outlet: Outlet, grant: Grant) -> bool {
        let asking = self.session(outlet).and_then(|session| session.asking.as_deref());
        let Some(&Asking { number, matter: Matter::Entrance(ref entrance), .. }) = asking else {
            return false;
        };
        if !entrance.waits_for_uid {
            return false;
        }
        self.decide(now, QuestionKey { outlet, number }, Ok(grant));
        true
    }

    /// When the oldest question is given up.
    pub(crate) fn next_question_deadline(&self) -> Option<Instant> {
        self.awaited.front().map(|(deadline, _)| *deadline)
    }

    /// Answers what nobody has answered in its time.
    pub(crate) fn expire_questions(&mut self, now: Instant) {
        while let Some(&(deadline, key)) = self.awaited.front()
            && deadline <= now
        {
            self.awaited.pop_front();
            if planted(Mutation::AskedCallNeverEnds) && self.asked_calls.contains_key(&key.number) {
                continue;
            }
            self.decide(now, key, Err(Denial::Unavailable));
        }
        self.forget_answered();
    }

    /// All have the same time, so the oldest is first. Those behind it that are answered go when it does.
    fn forget_answered(&mut self) {
        while let Some(&(_, key)) = self.awaited.front()
            && !self.awaits(key)
        {
            self.awaited.pop_front();
        }
    }

    /// The same behind one that waits long. Room for as many again, so that it costs a question next to nothing.
    fn forget_all_answered(&mut self) {
        let mut awaited = std::mem::take(&mut self.awaited);
        awaited.retain(|(_, key)| self.awaits(*key));
        awaited.reserve(awaited.len() + 1);
        self.awaited = awaited;
    }

    fn awaits(&self, key: QuestionKey) -> bool {
        let asking = self.session(key.outlet).and_then(|session| session.asking.as_deref());
        asking.is_some_and(|asking| asking.number == key.number) || self.asked_calls.contains_key(&key.number)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::access::{Access, RealmConfig};
    use crate::directory::Directory;
    use crate::ids::ShardId;
    use crate::{CoreConfig, Encoding, Limits};

    #[test]
    fn what_is_answered_is_forgotten_behind_one_that_waits() {
        let access = Access::new(&[RealmConfig::open("realm1")], 1).expect("the realm is sound");
        let realm = access.realm("realm1").expect("it is the only one");
        let config = CoreConfig {
            access,
            limits: Limits::default(),
            compression: None,
            agent: String::new(),
            message_center: Default::default(),
            echo: Default::default(),
            wamp1: Default::default(),
            handlers: Vec::new(),
        };
        let id = ShardId::new(0).expect("a shard's number");
        let mut last = 0;
        let random = Box::new(move || {
            last += 1;
            last
        });
        let mut shard = Shard::new(config.into(), id, 1, Arc::new(Directory::new(1)), random);
        let now = Instant::START;
        let ask = |shard: &mut Shard, outlet: Outlet| {
            let (client, kind, bytes) = (shard.client_id(outlet), ws::Kind::Text, Box::default());
            let subject = Subject::Message { who: None, client, kind, bytes, waits_for_uid: false };
            shard.ask(now, outlet, (None, realm), subject, Matter::Message);
            shard.questions().next().expect("just asked")
        };
        let [waits, talks] = [Outlet(0), Outlet(1)];
        for outlet in [waits, talks] {
            shard.attach(now, outlet);
            shard.open(now, outlet, Encoding::MESSAGE_CENTER);
        }
        let first = ask(&mut shard, waits);
        for _ in 0..10_000 {
            let question = ask(&mut shard, talks);
            shard.handle_verdict(now, question.verdict(Err(Denial::Busy)));
        }
        assert!(shard.awaited.capacity() < 100, "{} are remembered", shard.awaited.len());
        assert!(first.is_wanted() && shard.next_question_deadline().is_some());
        shard.expire_questions(now + Limits::default().question_max);
        assert!(!first.is_wanted(), "it has its deadline still");
    }
}
