//! How the shard's one task sleeps until its epoll set has something, and how it lets the runtime breathe while busy.

use std::future::{Future, poll_fn};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream as StdStream;
use std::pin::pin;
use std::task::Poll;

use monoio::net::UnixStream;
use rustix::event::{EventfdFlags, eventfd};

/// The two waits of a shard. Must be made and used inside the runtime.
pub(crate) struct Park {
    /// A duplicate of the shard's epoll descriptor, as something that monoio can wait for. It is never read.
    epoll: UnixStream,
    /// A semaphore that is always readable. See [`Park::breathe`].
    always: UnixStream,
    always_fd: OwnedFd,
    /// The epoll driver remembers that a descriptor was readable and would not park for one that still is.
    cached: bool,
}

impl Park {
    /// `epoll` is the shard's epoll set, `cached` whether the runtime is the epoll driver.
    pub(crate) fn new(epoll: &OwnedFd, cached: bool) -> io::Result<Self> {
        let always_fd = eventfd(1, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        Ok(Self {
            epoll: UnixStream::from_std(StdStream::from(epoll.try_clone()?))?,
            always: UnixStream::from_std(StdStream::from(always_fd.try_clone()?))?,
            always_fd,
            cached,
        })
    }

    /// Sleeps until the epoll set has an event.
    pub(crate) async fn sleep(&self) {
        // `false`: ask poll(2) instead of trusting a remembered readiness, which would spin for ever.
        if let Err(error) = self.epoll.readable(false).await {
            // An error here would turn the loop into a busy one without a sound.
            panic!("waiting for the shard's epoll set failed: {error}");
        }
    }

    /// Lets the runtime park for nothing, so that it reaps completions and runs timers and other tasks. A busy task that
    /// merely yields would starve them all (`reference/crates.md` §1.5).
    pub(crate) async fn breathe(&self) {
        if !self.cached {
            let _ = self.always.readable(false).await;
            return;
        }
        // Forget the remembered readiness by emptying the eventfd, wait, and fill it again for a fresh edge.
        let mut count = [0u8; 8];
        let _ = rustix::io::read(&self.always_fd, &mut count);
        let mut wait = pin!(self.always.readable(false));
        poll_fn(|context| {
            let poll = wait.as_mut().poll(context);
            if poll.is_pending() {
                let _ = rustix::io::write(&self.always_fd, &1u64.to_ne_bytes());
            }
            match poll {
                Poll::Ready(_) => Poll::Ready(()),
                Poll::Pending => Poll::Pending,
            }
        })
        .await;
    }
}

#[cfg(test)]
#[allow(clippy::disallowed_methods, reason = "the thread that rings lives in real time")]
mod tests {
    use super::*;
    use crate::config::Driver;
    use crate::engine::Engine;
    use rustix::event::epoll;

    fn both(test: fn(Driver)) {
        for driver in [Driver::Auto, Driver::Epoll] {
            std::thread::spawn(move || test(driver)).join().unwrap();
        }
    }

    #[test]
    fn a_sleeping_task_wakes_by_an_event_of_its_set_each_time() {
        both(|driver| {
            let (mut engine, _) = Engine::build(driver).unwrap();
            let cached = matches!(engine, Engine::Epoll(_));
            let set = epoll::create(epoll::CreateFlags::CLOEXEC).unwrap();
            let bell = eventfd(0, EventfdFlags::NONBLOCK).unwrap();
            let edge = epoll::EventFlags::IN | epoll::EventFlags::ET;
            epoll::add(&set, &bell, epoll::EventData::new_u64(1), edge).unwrap();
            let ringer = bell.try_clone().unwrap();
            engine.run(async {
                let park = Park::new(&set, cached).unwrap();
                let rings = std::thread::spawn(move || {
                    for _ in 0..20 {
                        std::thread::sleep(std::time::Duration::from_millis(2));
                        rustix::io::write(&ringer, &1u64.to_ne_bytes()).unwrap();
                    }
                });
                let mut heard = 0;
                while heard < 20 {
                    park.sleep().await;
                    let mut events = Vec::with_capacity(4);
                    epoll::wait(
                        &set,
                        rustix::buffer::spare_capacity(&mut events),
                        Some(&rustix::event::Timespec::default()),
                    )
                    .unwrap();
                    assert_eq!(events.len(), 1, "woken for nothing");
                    let mut count = [0u8; 8];
                    rustix::io::read(&bell, &mut count).unwrap();
                    heard += u64::from_ne_bytes(count);
                }
                rings.join().unwrap();
            });
            std::mem::forget(engine);
        });
    }

    #[test]
    fn breathing_comes_back_and_lets_other_tasks_run() {
        both(|driver| {
            let (mut engine, _) = Engine::build(driver).unwrap();
            let cached = matches!(engine, Engine::Epoll(_));
            let set = epoll::create(epoll::CreateFlags::CLOEXEC).unwrap();
            engine.run(async {
                let park = Park::new(&set, cached).unwrap();
                let done = std::rc::Rc::new(std::cell::Cell::new(0));
                let other = done.clone();
                let (mut a, mut b) = UnixStream::pair().unwrap();
                monoio::spawn(async move {
                    use monoio::io::{AsyncReadRent, AsyncWriteRentExt};
                    for _ in 0..10 {
                        a.write_all(vec![1]).await.0.unwrap();
                        b.read(vec![0]).await.0.unwrap();
                        other.set(other.get() + 1);
                    }
                });
                let mut breaths = 0;
                while done.get() < 10 {
                    park.breathe().await;
                    breaths += 1;
                    assert!(breaths < 1000, "the other task starves: {} of 10", done.get());
                }
            });
            std::mem::forget(engine);
        });
    }
}
