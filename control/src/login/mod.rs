//! Logins, verified off the shards.
//!
//! ```text
//! shards ─Question─▶ tickets (bounded) ─▶ desk ─▶ key derivation (so many at once) ─▶ Verdict ─▶ shard's mailbox
//!            ├─────▶ all others (bounded) ────▶ answered on the control thread ────────┘
//!            └ full: refused at once, "try again later"
//! ```
//!
//! A derivation is slow and takes memory on purpose. So its cost is bounded whatever clients do: `at_once` threads of
//! low priority, each with the memory of one hash, and a queue in front. What nobody waits for any more is skipped, or
//! a storm of logins would be worked off long after its clients have given up. What takes no derivation, challenges and their
//! answers, has a queue of its own: who guesses tickets must not keep those waiting who log in by keys.

pub mod cra;
pub mod credentials;
pub mod cryptosign;
mod decoys;
pub(crate) mod dynamic;
pub(crate) mod exchange;
pub mod hash;
pub mod jwt;
pub mod prover;
pub(crate) mod refusals;
pub mod scram;
pub mod users;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;
use fanwire_core::ids::ShardId;
use fanwire_core::login::Proof;
use fanwire_core::question::{Denial, Grant, Question, Subject, Verdict};
use tokio::sync::{Semaphore, mpsc};
use tokio::time::Instant;

use crate::Shards;
use jwt::is_token;
use refusals::Refusals;
use users::{Users, Why};

/// Bounds of the desk.
#[derive(Clone, Copy, Debug)]
pub struct LoginLimits {
    /// Requests that may wait; further ones are refused at once.
    pub waiting: usize,
    /// Key derivations at once. Worst case: this times the memory of one, 19 MiB unless a hash says otherwise.
    pub at_once: usize,
}

/// Where shards put what has to be verified.
#[derive(Clone, Debug)]
pub struct LoginQueue {
    queue: mpsc::Sender<(ShardId, Question)>,
    quick: mpsc::Sender<(ShardId, Question)>,
    users: Arc<ArcSwap<Users>>,
}

impl LoginQueue {
    /// Whether a question that is for a hook is about a user of the configuration, or a token of an issuer's: then the hook is
    /// not asked.
    pub fn knows(&self, question: &Question) -> bool {
        matches!(question.subject, Subject::Hello { .. } | Subject::Login { .. })
            && self.users.load().knows(question)
    }

    /// Whether the user whom it [knows](Self::knows) can be challenged by one of the client's methods.
    pub fn offers(&self, question: &Question) -> bool {
        self.users.load().offers(question)
    }

    /// Queues a login. Never blocks.
    ///
    /// # Errors
    ///
    /// The verdict, if there is no room or nobody verifies any more.
    pub fn submit(&self, from: ShardId, question: Question) -> Result<(), Verdict> {
        let full = |error: mpsc::error::TrySendError<_>| error.into_inner();
        let queue = if is_quick(&question) { &self.quick } else { &self.queue };
        let queued = queue.try_send((from, question)).map_err(full);
        queued.map_err(|(_, question): (ShardId, Question)| question.verdict(Err(Denial::Busy)))
    }
}

/// Takes no derivation, and asks nobody for keys: less than half a millisecond.
fn is_quick(question: &Question) -> bool {
    matches!(question.subject, Subject::Hello { .. } | Subject::Login { proof: Proof::Answer(_), .. })
}

/// What the desk has done, for the metrics page.
#[derive(Clone, Debug)]
pub struct LoginFigures {
    queue: mpsc::WeakSender<(ShardId, Question)>,
    done: Arc<Done>,
}

#[derive(Debug, Default)]
struct Done {
    derivations: AtomicU64,
    nanoseconds: AtomicU64,
}

impl LoginFigures {
    /// Requests for a derivation that wait now.
    pub fn waiting(&self) -> u64 {
        self.queue.upgrade().map_or(0, |queue| (queue.max_capacity() - queue.capacity()) as u64)
    }

    /// Key derivations so far, for users that exist and for others.
    pub fn derivations(&self) -> u64 {
        self.done.derivations.load(Ordering::Relaxed)
    }

    /// The time that they took, each by its own.
    pub fn derivation_time(&self) -> Duration {
        Duration::from_nanos(self.done.nanoseconds.load(Ordering::Relaxed))
    }
}

/// Takes requests from the queue and answers them. Runs on the control thread.
#[derive(Debug)]
pub struct LoginDesk {
    requests: mpsc::Receiver<(ShardId, Question)>,
    quick: mpsc::Receiver<(ShardId, Question)>,
    users: Arc<ArcSwap<Users>>,
    at_once: usize,
    done: Arc<Done>,
}

/// A desk that knows these users, and the queue in front of it.
pub fn desk(users: Users, limits: LoginLimits) -> (LoginQueue, LoginDesk) {
    let (queue, requests) = mpsc::channel(limits.waiting.max(1));
    let (quick, quick_requests) = mpsc::channel(limits.waiting.max(1));
    let desk = LoginDesk {
        requests,
        quick: quick_requests,
        users: Arc::new(ArcSwap::from_pointee(users)),
        at_once: limits.at_once.max(1),
        done: Arc::new(Done::default()),
    };
    (LoginQueue { queue, quick, users: desk.users() }, desk)
}

impl LoginDesk {
    /// What the metrics page reads.
    pub fn figures(&self, queue: &LoginQueue) -> LoginFigures {
        LoginFigures { queue: queue.queue.downgrade(), done: Arc::clone(&self.done) }
    }

    /// Where other users are put: for all verdicts from then on.
    pub fn users(&self) -> Arc<ArcSwap<Users>> {
        Arc::clone(&self.users)
    }

    /// Most derivations at once.
    pub fn at_once(&self) -> usize {
        self.at_once
    }

    /// Verifies until the shards are gone. Needs a runtime with so many blocking threads as there are derivations at once.
    pub(crate) async fn run(self, shards: Arc<impl Shards>) {
        let refusals = Arc::new(Refusals::default());
        let Self { requests, quick, users, at_once, done } = self;
        let counter = Counter { users, done, refusals };
        tokio::join!(counter.serve(requests, at_once, &shards), counter.serve(quick, QUICK_AT_ONCE, &shards));
    }
}

/// Those that are done one after the other, before others on the thread have their turn.
const QUICK_AT_ONCE: usize = 1;

/// Where requests of one queue are worked off.
struct Counter {
    users: Arc<ArcSwap<Users>>,
    done: Arc<Done>,
    refusals: Arc<Refusals>,
}

impl Counter {
    async fn serve(
        &self,
        mut requests: mpsc::Receiver<(ShardId, Question)>,
        at_once: usize,
        shards: &Arc<impl Shards>,
    ) {
        let permits = Arc::new(Semaphore::new(at_once));
        loop {
            let permit = Arc::clone(&permits).acquire_owned().await.expect("it is never closed");
            let Some((shard, request)) = requests.recv().await else { return };
            if !request.is_wanted() {
                continue;
            }
            let (users, done) = (Arc::clone(&self.users), Arc::clone(&self.done));
            let (shards, refusals) = (Arc::clone(shards), Arc::clone(&self.refusals));
            tokio::spawn(async move {
                let request = Arc::new(request);
                let (known, outcome) = verdict(&users, done, &request).await;
                drop(permit);
                if let (Err(why), Subject::Login { authid, .. } | Subject::Hello { authid, .. }) =
                    (&outcome, &request.subject)
                {
                    let user = authid.as_deref().unwrap_or_default();
                    refusals.log(known.realm_name(request.realm), user, why.words());
                }
                answer(&*shards, shard, request.verdict(outcome.map_err(Why::denial))).await;
            });
        }
    }
}

/// What the users of now say, and who they are: who is no user any more by the time of the verdict is none.
async fn verdict(
    users: &ArcSwap<Users>,
    done: Arc<Done>,
    request: &Arc<Question>,
) -> (Arc<Users>, Result<Grant, Why>) {
    let mut known = users.load_full();
    known.refresh_tokens(request, false).await;
    for _ in 0..DERIVATIONS_MAX {
        let mut outcome = derive(Arc::clone(&known), Arc::clone(&done), Arc::clone(request)).await;
        // Whoever signs has new keys now and then.
        if outcome == Err(Why::UnknownKey) && known.refresh_tokens(request, true).await {
            outcome = derive(Arc::clone(&known), Arc::clone(&done), Arc::clone(request)).await;
        }
        let newest = users.load_full();
        if !request.is_wanted() || known.agree(&newest, request) {
            return (newest, outcome);
        }
        known = newest;
    }
    (known, Err(Why::Changed))
}

/// Of one login. Only a user who is changed meanwhile needs another one, and one that is changed all the time must not keep a
/// place from others.
const DERIVATIONS_MAX: usize = 2;

/// One derivation, on a thread of its own; what needs none is done here. Fails closed: one that panics is no login.
async fn derive(users: Arc<Users>, done: Arc<Done>, request: Arc<Question>) -> Result<Grant, Why> {
    if is_quick(&request) {
        let work = catch_unwind(AssertUnwindSafe(|| users.answer(&request)));
        return work.unwrap_or(Err(Why::Panicked));
    }
    let work = tokio::task::spawn_blocking(move || {
        let began = Instant::now();
        let outcome = users.answer(&request);
        // A token is checked without one.
        if !matches!(&request.subject, Subject::Login { proof: Proof::Ticket(ticket), .. } if !is_token(ticket.expose()))
        {
            return outcome;
        }
        done.derivations.fetch_add(1, Ordering::Relaxed);
        let took = u64::try_from(began.elapsed().as_nanos()).unwrap_or(u64::MAX);
        done.nanoseconds.fetch_add(took, Ordering::Relaxed);
        outcome
    });
    work.await.unwrap_or(Err(Why::Panicked))
}

/// Puts the verdict into the shard's mailbox, which only a shard that hangs leaves full. Given up, the question's deadline
/// ends it.
pub(crate) async fn answer(shards: &(impl Shards + ?Sized), shard: ShardId, mut verdict: Verdict) {
    for _ in 0..ANSWER_TRIES {
        match shards.answer(shard, verdict) {
            Ok(()) => return,
            Err(back) => verdict = back,
        }
        tokio::time::sleep(ANSWER_RETRY).await;
    }
    tracing::warn!("{shard} takes no verdicts; a question was not answered");
}

const ANSWER_RETRY: Duration = Duration::from_millis(1);
/// As long as a client has for its login.
const ANSWER_TRIES: u32 = 10_000;
