//! Testaments: publications that a session leaves behind (WAMP, "Session Testament").
//!
//! They are kept on the shard of the session, in the order in which they came, and go to the meta desk when it ends, however
//! it ends. A session is detached and destroyed at once here; the two scopes are kept apart all the same, so that a client can
//! take back those of one of them.

use hashbrown::HashMap;

use crate::access::Action;
use crate::api::ApiPublication;
use crate::ids::{RealmId, SessionId};
use crate::mutation::{Mutation, planted};
use crate::session::{Refusal, State, error};
use crate::shard::Shard;

/// How many testaments there may be, and how long together: topics, payloads and lists of receivers.
#[derive(Clone, Debug)]
pub struct TestamentLimits {
    /// Testaments of one session.
    pub count_per_session: usize,
    /// Bytes of all of them.
    pub bytes_per_session: usize,
    /// Bytes of those of all sessions of a shard.
    pub bytes_per_shard: usize,
}

impl Default for TestamentLimits {
    fn default() -> Self {
        Self { count_per_session: 64, bytes_per_session: 64 << 10, bytes_per_shard: 64 << 20 }
    }
}

/// When a testament is published. Both is when the session ends; what is for the first comes first.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum TestamentScope {
    /// When its client is not there any more.
    Detached,
    /// When the session is forgotten.
    Destroyed,
}

/// What is changed of a session's testaments.
#[derive(Debug)]
pub enum TestamentOrder {
    /// One more.
    Add {
        /// When it is published.
        scope: TestamentScope,
        /// What. The actor's role is that of the session, whatever stands there.
        publication: Box<ApiPublication>,
    },
    /// None of this scope is left.
    Flush {
        /// Which ones.
        scope: TestamentScope,
    },
}

impl TestamentOrder {
    /// Bytes of what it brings.
    pub(crate) fn bytes(&self) -> usize {
        match self {
            Self::Add { publication, .. } => publication.bytes(),
            Self::Flush { .. } => 0,
        }
    }
}

/// What the sessions of a shard leave behind.
#[derive(Debug, Default)]
pub(crate) struct AllTestaments {
    by_session: HashMap<SessionId, Testaments, foldhash::fast::FixedState>,
    bytes: usize,
}

impl AllTestaments {
    /// How many sessions have some.
    pub(crate) fn len(&self) -> usize {
        self.by_session.len()
    }

    /// Those of a session that ends.
    pub(super) fn take(&mut self, session: SessionId) -> Option<Testaments> {
        if self.by_session.is_empty() {
            return None;
        }
        let testaments = self.by_session.remove(&session)?;
        self.bytes -= testaments.bytes;
        Some(testaments)
    }

    fn add(
        &mut self,
        limits: &TestamentLimits,
        session: SessionId,
        scope: TestamentScope,
        publication: ApiPublication,
    ) -> Result<(), Refusal> {
        let bytes = self.bytes + publication.bytes();
        if bytes > limits.bytes_per_shard {
            let words = format!(
                "the testaments of all sessions here would have {bytes} bytes, more than {} (limits.testament_bytes_per_shard): \
                 try again later",
                limits.bytes_per_shard
            );
            return Err(Refusal::new(error::UNAVAILABLE, words));
        }
        self.change(session, |testaments| testaments.add(limits, scope, publication))
    }

    fn flush(&mut self, session: SessionId, scope: TestamentScope) {
        self.change(session, |testaments| testaments.flush(scope));
    }

    fn change<T>(&mut self, session: SessionId, change: impl FnOnce(&mut Testaments) -> T) -> T {
        let testaments = self.by_session.entry(session).or_default();
        let before = testaments.bytes;
        let done = change(testaments);
        self.bytes = self.bytes - before + testaments.bytes;
        if testaments.len() == 0 {
            self.by_session.remove(&session);
        }
        done
    }
}

/// What a session leaves behind.
#[derive(Debug, Default)]
pub(crate) struct Testaments {
    detached: Vec<ApiPublication>,
    destroyed: Vec<ApiPublication>,
    bytes: usize,
}

impl Testaments {
    fn of(&mut self, scope: TestamentScope) -> &mut Vec<ApiPublication> {
        match scope {
            TestamentScope::Detached => &mut self.detached,
            TestamentScope::Destroyed => &mut self.destroyed,
        }
    }

    fn len(&self) -> usize {
        self.detached.len() + self.destroyed.len()
    }

    fn add(
        &mut self,
        limits: &TestamentLimits,
        scope: TestamentScope,
        publication: ApiPublication,
    ) -> Result<(), Refusal> {
        let (count_max, bytes_max) = (limits.count_per_session, limits.bytes_per_session);
        let bytes = self.bytes + publication.bytes();
        let words = if self.len() >= count_max {
            format!(
                "this session has {count_max} testaments, the most allowed (limits.testaments_per_session)"
            )
        } else if bytes > bytes_max {
            format!(
                "the testaments of this session would have {bytes} bytes, more than {bytes_max} (limits.testament_bytes_per_session)"
            )
        } else {
            self.bytes = bytes;
            self.of(scope).push(publication);
            return Ok(());
        };
        Err(Refusal::new(error::UNAVAILABLE, words + ": flush some with wamp.session.flush_testaments"))
    }

    fn flush(&mut self, scope: TestamentScope) {
        if planted(Mutation::FlushForgotten) {
            return;
        }
        let gone: usize = self.of(scope).drain(..).map(|publication| publication.bytes()).sum();
        self.bytes -= gone;
    }

    /// Those for the detached session before those for the destroyed one.
    pub(crate) fn into_publications(self) -> Vec<ApiPublication> {
        let Self { mut detached, mut destroyed, .. } = self;
        if planted(Mutation::ScopesSwapped) {
            std::mem::swap(&mut detached, &mut destroyed);
        }
        detached.extend(destroyed);
        detached
    }
}

impl ApiPublication {
    /// What it takes of memory, about: its topic, payload and lists of receivers.
    pub fn bytes(&self) -> usize {
        let receivers = &self.receivers;
        let ids = [&receivers.exclude, &receivers.eligible];
        let names = [
            &receivers.exclude_authid,
            &receivers.exclude_authrole,
            &receivers.eligible_authid,
            &receivers.eligible_authrole,
        ];
        let ids: usize = ids.into_iter().flatten().map(|ids| ids.len() * size_of::<u64>()).sum();
        let names: usize =
            names.into_iter().flatten().flatten().map(|name| size_of::<String>() + name.len()).sum();
        let key = self.conflate_key.as_ref().map_or(0, |key| key.len());
        size_of::<Self>() + self.topic.len() + self.payload.len() + ids + names + key
    }
}

impl Shard {
    /// Changes what a session leaves behind. Whether its role may publish it is asked now, so that it is told, and once more
    /// when it is published.
    pub(crate) fn change_testaments(
        &mut self,
        session: SessionId,
        realm: RealmId,
        order: TestamentOrder,
    ) -> Result<(), Refusal> {
        let outlet = self.outlets.get(&session).copied();
        let is_here = |outlet| {
            self.session(outlet).is_some_and(|session| session.realm == realm && session.state == State::Open)
        };
        let Some(outlet) = outlet.filter(|outlet| is_here(*outlet)) else {
            return Err(Refusal::new(error::NO_SUCH_SESSION, "the session has ended"));
        };
        let (role, announced) = {
            let here = self.session(outlet).expect("just seen");
            (here.role, here.announced)
        };
        match order {
            TestamentOrder::Flush { scope } => {
                self.testaments.flush(session, scope);
                Ok(())
            }
            TestamentOrder::Add { scope, mut publication } => {
                if !planted(Mutation::TestamentUnauthorized) {
                    self.permit(realm, role, Action::Publish, &publication.topic)?;
                }
                if self.config.access.hooks(realm).of_publication(role, &publication.topic).is_some() {
                    let words = "a hook decides on publications to this topic, and there is nobody to ask it for when the \
                                 session has ended";
                    return Err(Refusal::new(error::NOT_AUTHORIZED, words));
                }
                if publication.payload.view().passthru.is_some() && !announced.publishes_passthru() {
                    let words = "publish_options have ppt_ options, and HELLO announced no payload_passthru_mode as publisher";
                    return Err(Refusal::new(error::FEATURE_NOT_SUPPORTED, words));
                }
                publication.actor.role = role;
                self.testaments.add(&self.config.limits.testaments, session, scope, *publication)
            }
        }
    }
}
