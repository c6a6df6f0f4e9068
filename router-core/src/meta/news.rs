//! What shards tell the meta desk, which publishes it for who is subscribed to hear of it.
//!
//! ```text
//! shards ── News, numbered in one order ──▶ the meta desk ── publications ──▶ one shard ──▶ subscribers
//! ```
//!
//! A shard looks whether anybody is subscribed to the event's topic, exactly or by a pattern, before it tells: what nobody
//! wants to hear costs that look. The number is drawn when it happens, so the desk can put news of several shards in order.

use fanwire_codec::wamp2::{InvokePolicy, Serializer};

use crate::api::ApiPublication;
use crate::clock::Instant;
use crate::delivery::Outlet;
use crate::directory::{Heard, Note, Registration};
use crate::ids::{RealmId, RoleId, SessionId};
use crate::login::LoginMethod;
use crate::mutation::{Mutation, planted};
use crate::shard::Shard;
use crate::uri::MatchPolicy;

/// What happened.
#[derive(Debug)]
#[non_exhaustive]
pub enum News {
    /// A session was opened: `wamp.session.on_join`.
    Joined {
        /// Its id.
        session: SessionId,
        /// Its name.
        authid: Box<str>,
        /// Its role.
        role: RoleId,
        /// How it logged in.
        method: LoginMethod,
        /// Who vouched for it.
        provider: &'static str,
        /// What it speaks, as in the metrics.
        protocol: &'static str,
        /// What its messages are written in.
        serializer: Option<Serializer>,
    },
    /// It has ended: `wamp.session.on_leave`.
    Left {
        /// Its id.
        session: SessionId,
        /// Its name.
        authid: Box<str>,
        /// Its role.
        role: RoleId,
    },
    /// Something became of a subscription or a registration: `wamp.subscription.on_create` and its siblings.
    Entry {
        /// Of which of them.
        kind: EntryKind,
        /// By whose doing; `None`: of something that is no session.
        session: Option<SessionId>,
        /// Which one.
        id: u64,
        /// What.
        change: Change,
    },
    /// What the desk itself has to tell.
    Own {
        /// The topic.
        topic: &'static str,
        /// A list, in JSON.
        args: Box<str>,
    },
    /// It has ended, and this is to be published for it, in this order.
    Testaments(Vec<ApiPublication>),
}

/// What clients hold at the router.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum EntryKind {
    /// Of a topic or a pattern.
    Subscription,
    /// Of a procedure or a pattern.
    Registration,
}

/// What became of one.
#[derive(Debug)]
pub enum Change {
    /// There was none before.
    Created(Box<EntryDetails>),
    /// The session is one of its members now.
    Attached,
    /// The session is none any more.
    Detached,
    /// That was the last one.
    Deleted,
}

/// What is told of one.
#[derive(Debug)]
pub struct EntryDetails {
    /// The URI, or the pattern.
    pub uri: Box<str>,
    /// How it is compared.
    pub policy: MatchPolicy,
    /// How a callee is picked, of registrations.
    pub invoke: Option<InvokePolicy>,
    /// When it was created, to the second.
    pub created: Instant,
}

impl EntryDetails {
    /// What is told of a registration.
    pub fn of(registration: &Registration) -> Self {
        Self {
            uri: registration.uri().into(),
            policy: registration.policy(),
            invoke: Some(registration.invoke()),
            created: registration.created(),
        }
    }
}

/// Which event a change is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum EntryEvent {
    /// There was none before: `on_create`.
    Created,
    /// Somebody is one of its members now: `on_subscribe`, `on_register`.
    Attached,
    /// Somebody is none any more: `on_unsubscribe`, `on_unregister`.
    Detached,
    /// That was the last one: `on_delete`.
    Deleted,
}

impl EntryEvent {
    const ALL: [Self; 4] = [Self::Created, Self::Attached, Self::Detached, Self::Deleted];
}

/// By [`EntryKind`] and [`EntryEvent`].
pub(super) const ENTRY_TOPICS: [[&str; 4]; 2] = [
    [
        "wamp.subscription.on_create",
        "wamp.subscription.on_subscribe",
        "wamp.subscription.on_unsubscribe",
        "wamp.subscription.on_delete",
    ],
    [
        "wamp.registration.on_create",
        "wamp.registration.on_register",
        "wamp.registration.on_unregister",
        "wamp.registration.on_delete",
    ],
];

impl Change {
    /// The topic of its event.
    pub fn topic(&self, kind: EntryKind) -> &'static str {
        let event = match self {
            Self::Created(_) => EntryEvent::Created,
            Self::Attached => EntryEvent::Attached,
            Self::Detached => EntryEvent::Detached,
            Self::Deleted => EntryEvent::Deleted,
        };
        ENTRY_TOPICS[kind as usize][event as usize]
    }
}

/// Topic of [`News::Joined`].
pub const ON_JOIN: &str = "wamp.session.on_join";
/// Topic of [`News::Left`].
pub const ON_LEAVE: &str = "wamp.session.on_leave";

impl Shard {
    /// Whether somebody is subscribed to hear of this.
    fn is_heard(&mut self, realm: RealmId, topic: &str) -> bool {
        self.topics.get(&self.directory, realm, topic).interest() != 0
    }

    /// Whether somebody is subscribed to hear of this, which happens to a subscription or registration of `uri`. Nobody hears
    /// of those of the meta API itself.
    pub(crate) fn hears_of(&mut self, kind: EntryKind, event: EntryEvent, realm: RealmId, uri: &str) -> bool {
        !uri.starts_with("wamp.") && self.is_heard(realm, ENTRY_TOPICS[kind as usize][event as usize])
    }

    /// What somebody wants to hear of that happens to a registration of `uri`.
    pub(crate) fn heard_of_registration(&mut self, realm: RealmId, uri: &str) -> Heard {
        let kind = EntryKind::Registration;
        EntryEvent::ALL.into_iter().fold(Heard::default(), |heard, event| {
            let wants = self.hears_of(kind, event, realm, uri);
            heard.with(event, wants)
        })
    }

    /// Tells what has become of registrations, as far as somebody wanted to hear of it.
    pub(crate) fn tell_notes(&mut self, notes: Vec<Note>) {
        for Note { number, event, session, registration } in notes {
            let change = match event {
                EntryEvent::Created => Change::Created(Box::new(EntryDetails::of(&registration))),
                EntryEvent::Attached => Change::Attached,
                EntryEvent::Detached => Change::Detached,
                EntryEvent::Deleted => Change::Deleted,
            };
            let (kind, id) = (EntryKind::Registration, registration.id().get());
            let news = News::Entry { kind, session: Some(session), id, change };
            self.tell_news(registration.realm(), number, news);
        }
    }

    /// A session has become a member. `of`: its realm, and what it is a member of.
    pub(crate) fn announce_attached(
        &mut self,
        outlet: Outlet,
        kind: EntryKind,
        id: u64,
        of: (RealmId, &str),
    ) {
        self.announce_member(outlet, kind, id, of, (EntryEvent::Attached, Change::Attached));
    }

    /// A session is no member any more, but the entry is still there.
    pub(crate) fn announce_detached(
        &mut self,
        outlet: Outlet,
        kind: EntryKind,
        id: u64,
        of: (RealmId, &str),
    ) {
        self.announce_member(outlet, kind, id, of, (EntryEvent::Detached, Change::Detached));
    }

    fn announce_member(
        &mut self,
        outlet: Outlet,
        kind: EntryKind,
        id: u64,
        (realm, uri): (RealmId, &str),
        (event, change): (EntryEvent, Change),
    ) {
        if self.hears_of(kind, event, realm, uri) {
            let session = self.session(outlet).map(|session| session.id);
            self.tell_news(realm, self.directory.next_news(), News::Entry { kind, session, id, change });
        }
    }

    /// A session has just been opened.
    pub(crate) fn announce_begin(&mut self, outlet: Outlet) {
        let realm = self.session(outlet).expect("it was opened").realm;
        if !self.is_heard(realm, ON_JOIN) || planted(Mutation::JoinUntold) {
            return;
        }
        let session = self.session(outlet).expect("as above");
        let news = News::Joined {
            session: session.id,
            authid: session.authid().into(),
            role: session.role,
            method: session.principal.as_ref().map_or(LoginMethod::Anonymous, |principal| principal.method),
            provider: session.provider(),
            protocol: session.encoding.protocol(),
            serializer: session.encoding.named_serializer(),
        };
        self.tell_news(realm, self.directory.next_news(), news);
    }

    /// A session ends: what it has left is published, then who wants to hears of it.
    pub(crate) fn announce_end(&mut self, outlet: Outlet) {
        let session = self.session(outlet).expect("it ends now");
        let (realm, role, id) = (session.realm, session.role, session.id);
        let testaments = self.testaments.take(id);
        if self.is_hushed && !planted(Mutation::QuietEndsTold) {
            return;
        }
        if let Some(testaments) = testaments
            && !planted(Mutation::TestamentsLost)
        {
            let testaments = News::Testaments(testaments.into_publications());
            self.tell_news(realm, self.directory.next_news(), testaments);
        }
        if self.is_heard(realm, ON_LEAVE) {
            let session = self.session(outlet).expect("as above");
            let news = News::Left { session: session.id, authid: session.authid().into(), role };
            self.tell_news(realm, self.directory.next_news(), news);
        }
    }
}
