//! From a configuration to running shards, and the handle to end them.

use std::fmt;
use std::io;
use std::sync::{Arc, Mutex, mpsc};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use fanwire_core::CoreConfig;
use fanwire_core::api::ApiRequest;
use fanwire_core::ids::ShardId;
use fanwire_core::question::Verdict;

use crate::affinity::{self, Machine};
use crate::config::{Config, ListenAddress, SHARDS_MAX};
use crate::counters::ShardCounters;
use crate::doorbell::Doorbell;
use crate::engine::{DriverReport, Engine};
use crate::listen::{self, Listening};
use crate::park::Park;
use crate::posts::Posts;
use crate::pressure::{Level, Pressure};
use crate::ring::{self, Mesh};
use crate::service::Service;
use crate::shard::{EventFd, Links, Mailbox, Order, Settings, Shard, Spread, run, shard_id};
use crate::socket;

/// Why the shards did not start. Nothing runs or listens then.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// Nothing to listen on.
    #[error("no listener is configured; name at least one address")]
    NoListener,
    /// More addresses than a shard can tell apart.
    #[error("{count} listeners are too many; at most {LISTENERS_MAX} addresses are possible")]
    ListenerCount {
        /// How many were named.
        count: usize,
    },
    /// A shard count that cannot be.
    #[error("{count} shards are not possible; choose 1 to {SHARDS_MAX}, or leave it open for one per CPU")]
    ShardCount {
        /// What was asked for.
        count: usize,
    },
    /// The list of CPUs is empty.
    #[error("the list of CPUs is empty; name at least one, or leave it out")]
    NoCpu,
    /// The address cannot be listened on.
    #[error("cannot listen on {address}: {source}")]
    Listen {
        /// Which listener, counted from 0.
        listener: usize,
        /// The address.
        address: ListenAddress,
        /// The kernel's reason.
        source: io::Error,
    },
    /// The shard cannot run on its CPU.
    #[error("shard {shard} cannot be pinned to CPU {cpu}: {source}; choose CPUs that this process may use")]
    Pin {
        /// The shard.
        shard: usize,
        /// The CPU.
        cpu: usize,
        /// The kernel's reason.
        source: io::Error,
    },
    /// No runtime for the shard.
    #[error("the kernel refuses the driver that was asked for: {source}; choose `auto` or `epoll`")]
    Driver {
        /// What was tried, and why each was refused.
        source: io::Error,
    },
    /// A descriptor or thread could not be made.
    #[error("not enough resources for the shards: {0}")]
    Resources(#[from] io::Error),
}

/// Why settings are not in use everywhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RenewalError {
    /// A shard has not looked at several earlier ones.
    #[error("a shard has not taken earlier settings yet; try again, and if that lasts, restart")]
    Busy,
    /// A shard has not answered in time. It will go by them with its next turn.
    #[error("a shard has not taken the settings within {RENEWAL_WAIT:?}; it will with its next turn")]
    Late,
}

/// A turn takes milliseconds, on a machine without a CPU to spare some hundred of them.
const RENEWAL_WAIT: Duration = Duration::from_secs(5);
/// Orders that a shard may have before no more settings are given to it, so that there is always room for its end.
const RENEWALS_WAITING_MAX: usize = 8;

/// What one shard runs on.
#[derive(Clone, Debug)]
pub struct ShardReport {
    /// The CPU that it is pinned to.
    pub cpu: Option<usize>,
    /// io_uring or epoll, and why.
    pub driver: DriverReport,
}

/// Shards that run. Dropping it does not end them.
pub struct Running {
    addresses: Vec<ListenAddress>,
    reports: Vec<ShardReport>,
    counters: Vec<Arc<ShardCounters>>,
    mailboxes: Vec<Arc<Mailbox>>,
    doorbells: Arc<[Doorbell<EventFd>]>,
    pressure: Arc<Pressure>,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

impl fmt::Debug for Running {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Running").field("addresses", &self.addresses).finish_non_exhaustive()
    }
}

impl Running {
    /// Where each listener of the configuration really listens.
    pub fn addresses(&self) -> &[ListenAddress] {
        &self.addresses
    }

    /// What each shard runs on.
    pub fn shards(&self) -> &[ShardReport] {
        &self.reports
    }

    /// The counters of each shard.
    pub fn counters(&self) -> &[Arc<ShardCounters>] {
        &self.counters
    }

    /// Stops listening and closes all connections politely, spread over the configured time; the shards end when none
    /// is left, or when the time is over.
    pub fn drain(&self) {
        self.order(|| Order::Drain);
    }

    /// Ends all shards now.
    pub fn stop_now(&self) {
        self.order(|| Order::Stop);
    }

    /// Gives the shards other settings, and waits until all of them go by them, [`RENEWAL_WAIT`] at most.
    ///
    /// Listeners (but for their origins and TLS), shards, CPUs, driver, balance and rings must be as they were. So must `core`'s
    /// realms and compression; its permissions are [renewed](fanwire_core::access::Access::renewed) from those in use.
    ///
    /// # Errors
    ///
    /// [`RenewalError::Busy`]: nothing has changed. [`RenewalError::Late`]: the others go by them.
    pub fn renew(&self, config: Config, core: Arc<CoreConfig>) -> Result<(), RenewalError> {
        if self.mailboxes.iter().any(|mailbox| mailbox.orders.len() >= RENEWALS_WAITING_MAX) {
            return Err(RenewalError::Busy);
        }
        let config = Arc::new(config);
        let (taken, takers) = mpsc::channel();
        self.order(|| {
            let (config, core, taken) = (Arc::clone(&config), Arc::clone(&core), taken.clone());
            Order::Renew(Box::new(Settings { config, core, taken }))
        });
        let until = crate::clock::now() + RENEWAL_WAIT;
        for _ in &self.mailboxes {
            takers.recv_timeout(until.since(crate::clock::now())).map_err(|_| RenewalError::Late)?;
        }
        Ok(())
    }

    /// Answers a question of this shard.
    ///
    /// # Errors
    ///
    /// The verdict, while the shard's mailbox is full: try again soon.
    pub fn answer(&self, shard: ShardId, verdict: Verdict) -> Result<(), Verdict> {
        self.mailboxes[shard.index()].verdicts.push(verdict)?;
        self.doorbells[shard.index()].ring();
        Ok(())
    }

    /// Asks something of this shard. Requests of one shard are handled in the order in which they were given.
    ///
    /// # Errors
    ///
    /// The request, while 1,024 others wait for the shard: try again soon, or refuse it.
    pub fn ask(&self, shard: ShardId, request: ApiRequest) -> Result<(), ApiRequest> {
        self.mailboxes[shard.index()].requests.push(Box::new(request)).map_err(|request| *request)?;
        self.doorbells[shard.index()].ring();
        Ok(())
    }

    /// Tells the shards how short of memory the process is. At [`Level::Shed`] they give up `shed_bytes` of what waits for slow
    /// clients, each its part; 0 asks for nothing more than before.
    pub fn set_pressure(&self, level: Level, shed_bytes: u64) {
        self.pressure.set(level, shed_bytes.div_ceil(self.doorbells.len() as u64));
        self.nudge();
    }

    /// Wakes every shard that sleeps, for a turn: whether one still can is seen from its count of turns.
    pub fn nudge(&self) {
        self.doorbells.iter().for_each(|doorbell| _ = doorbell.ring());
    }

    /// Whether all shards have ended.
    pub fn has_ended(&self) -> bool {
        self.threads.lock().map_or(true, |threads| threads.iter().all(JoinHandle::is_finished))
    }

    /// Blocks until all shards have ended.
    ///
    /// The process should end then: the runtimes of the shards are not freed (monoio may still have buffers with the
    /// kernel).
    pub fn wait(&self) {
        let threads =
            self.threads.lock().map_or_else(|_| Vec::new(), |mut threads| std::mem::take(&mut *threads));
        for thread in threads {
            // A shard that panics aborts the process.
            let _ = thread.join();
        }
    }

    fn order(&self, order: impl Fn() -> Order) {
        for (mailbox, doorbell) in self.mailboxes.iter().zip(self.doorbells.iter()) {
            // A mailbox that is full of orders to end holds this one too.
            let _ = mailbox.orders.push(order());
            doorbell.ring();
        }
    }
}

impl Config {
    /// How many shards this configuration means on this machine.
    pub fn shard_count(&self) -> usize {
        self.shards.unwrap_or_else(|| Machine::detect().shards())
    }
}

/// Starts the shards. `make_service` is called once on each shard's thread, with its id and the number of shards.
///
/// Returns when all of them listen.
///
/// # Errors
///
/// See [`StartError`]. Shards that had started are ended.
pub fn start<S, F>(config: Config, make_service: F) -> Result<Running, StartError>
where
    S: Service,
    F: Fn(ShardId, usize) -> S + Send + Sync + 'static,
{
    if config.listeners.is_empty() {
        return Err(StartError::NoListener);
    }
    if config.listeners.len() > LISTENERS_MAX {
        return Err(StartError::ListenerCount { count: config.listeners.len() });
    }
    let machine = Machine::detect();
    let count = config.shards.unwrap_or_else(|| machine.shards());
    if count == 0 || count > SHARDS_MAX {
        return Err(StartError::ShardCount { count });
    }
    let cpus = match &config.cpus {
        Some(cpus) if cpus.is_empty() => return Err(StartError::NoCpu),
        Some(cpus) => Some(cpus.clone()),
        None => machine.pinning(count),
    };
    let descriptors_max = socket::raise_descriptor_limit();
    let (addresses, mut sockets) = listen_all(&config, count)?;

    let config = Arc::new(config);
    let mesh = Mesh::new(count, config.ring_items.unwrap_or_else(|| ring::capacity_for(count)));
    let doorbells: Arc<[_]> =
        (0..count).map(|_| Ok(Doorbell::new(EventFd::new()?))).collect::<io::Result<Vec<_>>>()?.into();
    let counters: Vec<_> = (0..count).map(|_| Arc::new(ShardCounters::new(S::METRICS))).collect();
    let mailboxes: Vec<_> = (0..count).map(|_| Arc::new(Mailbox::new())).collect();
    let spread = Arc::new(Spread::new(count, &config, descriptors_max));
    let posts = Arc::new(Posts::new(count));
    let make_service = Arc::new(make_service);
    let (report, reports) = mpsc::channel();
    let mut running = Running {
        addresses,
        reports: Vec::new(),
        counters,
        mailboxes,
        doorbells,
        pressure: Arc::default(),
        threads: Mutex::new(Vec::new()),
    };
    for index in 0..count {
        let links = Links {
            inbound: mesh.inbound(index),
            outbound: mesh.outbound(index),
            doorbells: Arc::clone(&running.doorbells),
            mailbox: Arc::clone(&running.mailboxes[index]),
            counters: Arc::clone(&running.counters[index]),
            spread: Arc::clone(&spread),
            posts: Arc::clone(&posts),
            beside: machine.beside(index, count, cpus.as_deref()),
            pressure: Arc::clone(&running.pressure),
        };
        let seed = Seed {
            index,
            cpu: cpus.as_ref().map(|cpus| cpus[index % cpus.len()]),
            config: Arc::clone(&config),
            links,
            listeners: std::mem::take(&mut sockets[index]),
        };
        let (make_service, report) = (Arc::clone(&make_service), report.clone());
        let thread = thread::Builder::new().name(format!("fanwire-{index}")).spawn(move || {
            grow(seed, || make_service(shard_id(index), count), report);
        });
        match thread {
            Ok(thread) => running.threads.lock().expect("nobody panics with it").push(thread),
            Err(error) => {
                running.stop_now();
                return Err(error.into());
            }
        }
    }
    drop(report);
    let mut started: Vec<Option<ShardReport>> = vec![None; count];
    for (index, result) in reports.iter().take(count) {
        match result {
            Ok(report) => started[index] = Some(report),
            Err(error) => {
                running.stop_now();
                return Err(error);
            }
        }
    }
    match started.into_iter().collect() {
        Some(reports) => running.reports = reports,
        None => {
            running.stop_now();
            return Err(io::Error::other("a shard's thread ended while it started").into());
        }
    }
    Ok(running)
}

/// All listening sockets, by shard.
fn listen_all(
    config: &Config,
    shards: usize,
) -> Result<(Vec<ListenAddress>, Vec<Vec<Listening>>), StartError> {
    let mut sockets: Vec<Vec<Listening>> = (0..shards).map(|_| Vec::new()).collect();
    let mut addresses = Vec::new();
    for (index, listener) in (0u8..=u8::MAX).zip(&config.listeners) {
        let unix_before = addresses.iter().filter(|address: &&ListenAddress| address.ip().is_none()).count();
        let address = listen::listen(index, listener, unix_before, config.deadlines.unread, &mut sockets)
            .map_err(|source| StartError::Listen {
                listener: usize::from(index),
                address: listener.address.clone(),
                source,
            })?;
        addresses.push(address);
    }
    Ok((addresses, sockets))
}

/// What a shard's thread is started with.
struct Seed<T> {
    index: usize,
    cpu: Option<usize>,
    config: Arc<Config>,
    links: Links<T>,
    listeners: Vec<Listening>,
}

type Reports = mpsc::Sender<(usize, Result<ShardReport, StartError>)>;

/// The life of a shard's thread.
fn grow<S: Service>(seed: Seed<S::Item>, make_service: impl FnOnce() -> S, reports: Reports) {
    let Seed { index, cpu, config, links, listeners } = seed;
    // Consumed by the report: `start` waits until nobody can report any more.
    let report = move |result| {
        // Nobody listens any more if another shard has failed; then the order to stop is on its way.
        let _ = reports.send((index, result));
    };
    // Pinned before anything is allocated or a ring made: memory and the ring belong to this CPU then.
    if let Some(cpu) = cpu
        && let Err(source) = affinity::pin(cpu)
    {
        return report(Err(StartError::Pin { shard: index, cpu, source }));
    }
    let (mut engine, driver) = match Engine::build(config.driver) {
        Ok(built) => built,
        Err(source) => return report(Err(StartError::Driver { source })),
    };
    let remembers_readiness = matches!(engine, Engine::Epoll(_));
    engine.run(async {
        let prepared = Shard::new(shard_id(index), config, make_service(), links, listeners)
            .and_then(|shard| Ok((Park::new(shard.epoll(), remembers_readiness)?, shard)));
        match prepared {
            Ok((park, shard)) => {
                report(Ok(ShardReport { cpu, driver }));
                run(shard, park).await;
            }
            Err(error) => report(Err(error.into())),
        }
    });
    // Its buffers may still be with the kernel; the process ends soon.
    std::mem::forget(engine);
}

/// A connection remembers its listener in one byte.
const LISTENERS_MAX: usize = 256;
