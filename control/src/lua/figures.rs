//! What handlers have done, for the metrics page.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::tenure::{InFlight, Tenure};
use crate::page::{Kind, Page, label, labels};

/// What became of something that happened to a connection. Each is counted once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// It was handled, or there is no function for it.
    Done,
    /// The script raised an error.
    Error,
    /// It used up its instructions.
    Instructions,
    /// The VM's memory was full.
    Memory,
    /// It took too long.
    Time,
    /// Too many others wait.
    Busy,
    /// The connection came while another thread had it, which hung.
    Lost,
    /// A bug of the router's.
    Panic,
}

impl Outcome {
    const ALL: [Self; 8] = [
        Self::Done,
        Self::Error,
        Self::Instructions,
        Self::Memory,
        Self::Time,
        Self::Busy,
        Self::Lost,
        Self::Panic,
    ];

    fn name(self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::Error => "error",
            Self::Instructions => "instructions",
            Self::Memory => "memory",
            Self::Time => "time",
            Self::Busy => "busy",
            Self::Lost => "lost",
            Self::Panic => "panic",
        }
    }
}

/// What became of a request by HTTP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Requested {
    Answered,
    Failed,
    Timeout,
    /// As many were under way as may be.
    Busy,
}

impl Requested {
    const ALL: [Self; 4] = [Self::Answered, Self::Failed, Self::Timeout, Self::Busy];

    fn name(self) -> &'static str {
        match self {
            Self::Answered => "answered",
            Self::Failed => "failed",
            Self::Timeout => "timeout",
            Self::Busy => "busy",
        }
    }
}

fn in_charge(tenures: &[Arc<Tenure>]) -> impl Iterator<Item = &Tenure> {
    tenures.iter().filter(|tenure| !tenure.is_given_up()).map(|tenure| &**tenure)
}

/// Of one handler.
#[derive(Debug, Default)]
pub struct LuaFigures {
    events: [AtomicU64; Outcome::ALL.len()],
    requests: [AtomicU64; Requested::ALL.len()],
    loads: AtomicU64,
    failed_loads: AtomicU64,
    hung_threads: AtomicU64,
    /// Of all threads that have not ended; also of those that were given up.
    tenures: Mutex<Vec<Arc<Tenure>>>,
}

impl LuaFigures {
    pub(super) fn count(&self, outcome: Outcome) {
        self.events[outcome as usize].fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn count_request(&self, requested: Requested) {
        self.requests[requested as usize].fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn count_load(&self, is_good: bool) {
        let counter = if is_good { &self.loads } else { &self.failed_loads };
        counter.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn count_hung_thread(&self) {
        self.hung_threads.fetch_add(1, Ordering::Relaxed);
    }

    /// A thread is started.
    pub(super) fn add(&self, tenure: &Arc<Tenure>) {
        self.tenures().push(Arc::clone(tenure));
    }

    /// Threads that were given up and have not ended.
    pub(super) fn given_up(&self) -> usize {
        self.tenures().iter().filter(|tenure| tenure.is_given_up()).count()
    }

    /// One more request of this thread, if fewer than `max` are under way. Those of a thread that was given up do not count.
    pub(super) fn request(&self, tenure: &Arc<Tenure>, max: u64) -> Option<InFlight> {
        let tenures = self.tenures();
        let under_way: u64 = in_charge(&tenures).map(Tenure::in_flight).sum();
        (under_way < max).then(|| tenure.request())
    }

    fn tenures(&self) -> MutexGuard<'_, Vec<Arc<Tenure>>> {
        let mut tenures = self.tenures.lock().unwrap_or_else(PoisonError::into_inner);
        tenures.retain(|tenure| tenure.is_alive());
        tenures
    }

    /// Adds the metrics.
    pub(crate) fn collect(&self, handler: &str, page: &mut Page) {
        let name = label("handler", handler);
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed) as f64;
        let help = "What happened to connections that have a Lua handler, by what became of it.";
        for outcome in Outcome::ALL {
            let labels = labels(&name, &label("outcome", outcome.name()));
            let count = read(&self.events[outcome as usize]);
            page.add("fanwire_lua_events_total", Kind::Counter, help, &labels, count);
        }
        let help = "Requests by HTTP that Lua handlers wanted, by what became of them.";
        for requested in Requested::ALL {
            let labels = labels(&name, &label("outcome", requested.name()));
            let count = read(&self.requests[requested as usize]);
            page.add("fanwire_lua_http_requests_total", Kind::Counter, help, &labels, count);
        }
        let help = "Times that a Lua handler's files were loaded anew, or could not be.";
        for (outcome, counter) in [("done", &self.loads), ("failed", &self.failed_loads)] {
            let labels = labels(&name, &label("outcome", outcome));
            page.add("fanwire_lua_loads_total", Kind::Counter, help, &labels, read(counter));
        }
        let help =
            "Threads of Lua handlers that were replaced, because a call into Lua's library did not end.";
        page.add("fanwire_lua_hung_threads_total", Kind::Counter, help, &name, read(&self.hung_threads));
        let tenures = self.tenures();
        let waiting: u64 = in_charge(&tenures).map(Tenure::waiting).sum();
        let memory: u64 = tenures.iter().map(|tenure| tenure.memory()).sum();
        let help = "Threads of Lua handlers that were replaced and have not come to an end.";
        let given_up = tenures.iter().filter(|tenure| tenure.is_given_up()).count();
        page.add("fanwire_lua_given_up_threads", Kind::Gauge, help, &name, given_up as f64);
        let help = "Events of connections that wait for a Lua handler, or that it has begun with.";
        page.add("fanwire_lua_waiting", Kind::Gauge, help, &name, waiting as f64);
        let help = "Memory of a Lua handler's VMs.";
        page.add("fanwire_lua_memory_bytes", Kind::Gauge, help, &name, memory as f64);
    }
}
