//! What one thread of a handler has, from its start until it ends or is given up.
//!
//! It is counted apart for each thread. What one that hangs has taken (places of its line, requests by HTTP) is given back at
//! once when another one takes over; what it does later is its own affair and nobody's figures.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::hooks::{Place, Room};

/// One thread's.
#[derive(Debug)]
pub(super) struct Tenure {
    pub(super) room: Arc<Room>,
    started: Instant,
    /// When it began with the Lua that it is in, in milliseconds from 1; 0: it is in none.
    since: AtomicU64,
    /// It hangs, and no other thread may take over: nothing is let in.
    is_stuck: AtomicBool,
    /// Another one has taken over.
    is_given_up: AtomicBool,
    is_alive: AtomicBool,
    /// The kernel's number of the thread, once it runs.
    thread: AtomicI32,
    /// Events that wait or are under way.
    waiting: AtomicU64,
    /// Requests by HTTP under way.
    in_flight: AtomicU64,
    /// Bytes of its VM.
    memory: AtomicU64,
}

impl Tenure {
    /// Of a thread that is about to be started.
    #[allow(clippy::disallowed_methods, reason = "how long a thread hangs is real time")]
    pub(super) fn new() -> Self {
        Self {
            room: Arc::default(),
            started: Instant::now(),
            since: AtomicU64::new(0),
            is_stuck: AtomicBool::new(false),
            is_given_up: AtomicBool::new(false),
            is_alive: AtomicBool::new(true),
            thread: AtomicI32::new(0),
            waiting: AtomicU64::new(0),
            in_flight: AtomicU64::new(0),
            memory: AtomicU64::new(0),
        }
    }

    /// Of a thread that is not there.
    pub(super) fn over() -> Self {
        let tenure = Self::new();
        tenure.end();
        tenure
    }

    /// The thread is not there any more, or could not be started.
    pub(super) fn end(&self) {
        self.is_alive.store(false, Ordering::Release);
    }

    /// Called on the thread: it is alive until this is dropped, however it ends.
    pub(super) fn begin(self: &Arc<Self>) -> Alive {
        let thread = rustix::thread::gettid().as_raw_nonzero().get();
        self.thread.store(thread, Ordering::Release);
        Alive(Arc::clone(self))
    }

    pub(super) fn is_alive(&self) -> bool {
        self.is_alive.load(Ordering::Acquire)
    }

    pub(super) fn is_given_up(&self) -> bool {
        self.is_given_up.load(Ordering::Acquire)
    }

    pub(super) fn is_stuck(&self) -> bool {
        self.is_stuck.load(Ordering::Relaxed)
    }

    /// Whether new events are refused; says whether they were.
    pub(super) fn set_stuck(&self, is_stuck: bool) -> bool {
        self.is_stuck.swap(is_stuck, Ordering::Relaxed)
    }

    /// Another thread takes over: this one has the machine's last place from now on, and ends as soon as it comes back.
    pub(super) fn give_up(&self) {
        self.is_given_up.store(true, Ordering::Release);
        if let Some(thread) = rustix::thread::Pid::from_raw(self.thread.load(Ordering::Acquire)) {
            // On Linux this is about that thread alone (sched(7)).
            _ = rustix::process::setpriority_process(Some(thread), NICENESS_MAX);
        }
    }

    /// Runs some Lua, which the keeper sees. None: the thread was given up, and nothing more is to be done.
    pub(super) fn run<T>(&self, run: impl FnOnce() -> T) -> Option<T> {
        if self.is_given_up() {
            return None;
        }
        self.since.store(self.now(), Ordering::Relaxed);
        let result = run();
        self.since.store(0, Ordering::Relaxed);
        (!self.is_given_up()).then_some(result)
    }

    /// Whether it is in Lua for so long.
    pub(super) fn hangs(&self, time: Duration) -> bool {
        let since = self.since.load(Ordering::Relaxed);
        since != 0 && u128::from(self.now().saturating_sub(since)) >= time.as_millis()
    }

    #[allow(clippy::disallowed_methods, reason = "how long a thread hangs is real time")]
    fn now(&self) -> u64 {
        self.started.elapsed().as_millis() as u64 + 1
    }

    pub(super) fn note_memory(&self, bytes: u64) {
        self.memory.store(bytes, Ordering::Relaxed);
    }

    pub(super) fn waiting(&self) -> u64 {
        self.waiting.load(Ordering::Relaxed)
    }

    pub(super) fn in_flight(&self) -> u64 {
        self.in_flight.load(Ordering::Relaxed)
    }

    pub(super) fn memory(&self) -> u64 {
        self.memory.load(Ordering::Relaxed)
    }

    /// A place in its line, if there is one.
    pub(super) fn wait(self: &Arc<Self>, bytes: usize, events_max: usize) -> Option<Waiting> {
        let place = self.room.enter(bytes, events_max)?;
        self.waiting.fetch_add(1, Ordering::Relaxed);
        Some(Waiting { _place: place, tenure: Arc::clone(self) })
    }

    /// One more request by HTTP; whoever asks has looked whether there may be one.
    pub(super) fn request(self: &Arc<Self>) -> InFlight {
        self.in_flight.fetch_add(1, Ordering::Relaxed);
        InFlight(Arc::clone(self))
    }
}

const NICENESS_MAX: i32 = 19;

/// A thread that runs.
pub(super) struct Alive(Arc<Tenure>);

impl Drop for Alive {
    fn drop(&mut self) {
        self.0.end();
    }
}

/// A place in a line.
#[derive(Debug)]
pub(super) struct Waiting {
    _place: Place,
    tenure: Arc<Tenure>,
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.tenure.waiting.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A request under way, or an answer that nobody has looked at yet.
#[derive(Debug)]
pub(super) struct InFlight(Arc<Tenure>);

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.in_flight.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_thread_does_after_it_was_given_up_is_not_done() {
        let tenure = Arc::new(Tenure::new());
        assert_eq!(tenure.run(|| 1), Some(1));
        assert_eq!(tenure.run(|| tenure.give_up()), None, "what it was in when it was given up");
        assert_eq!(tenure.run(|| unreachable!("it runs nothing more")), None::<()>);
    }

    #[test]
    fn a_thread_is_alive_until_it_ends_even_by_a_panic() {
        let tenure = Arc::new(Tenure::new());
        let on_thread = Arc::clone(&tenure);
        let ended = std::thread::spawn(move || {
            let _alive = on_thread.begin();
            panic!("on purpose");
        });
        assert!(ended.join().is_err());
        assert!(!tenure.is_alive());
    }
}
