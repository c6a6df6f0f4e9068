//! A TCP proxy that mistreats what goes through it.
//!
//! ```text
//! client ──▶ read ─▶ hold (latency, jitter) ─▶ write (bandwidth, slices, bit errors) ──▶ server    up
//!        ◀── write ◀─ hold ◀─ read ◀──                                                          down
//! ```
//!
//! Each direction has its own [`Faults`], and each connection its own random numbers, from the seed and its number. What a
//! direction holds is bounded, so that whoever sends is slowed down by TCP like on a slow line.
//!
//! It cannot lose or reorder segments: TCP would hide that from both sides. What both sides can see of a bad network (late,
//! slow, in small pieces, cut, one-sided, silent, damaged) it makes. A line that swallows ([`Faults::blackhole_after`],
//! [`Proxy::vanish`]) still acknowledges to the kernels; only what the programs say to each other is missing.

mod direction;
mod faults;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use rustix::net::sockopt;
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::watch;

pub use faults::{Faults, Line};

use crate::random::Random;
use direction::Reset;

/// What befalls one connection: made from its number, which counts from 0.
pub type Choose = Arc<dyn Fn(u64) -> Line + Send + Sync>;

/// What is done to all connections now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Order {
    Pass,
    Vanish,
    Reset,
}

/// A proxy that runs on a thread of its own. Dropping it ends its connections.
pub struct Proxy {
    address: SocketAddr,
    orders: watch::Sender<Order>,
    accepted: Arc<AtomicU64>,
    thread: Option<JoinHandle<()>>,
    stop: Option<tokio::sync::oneshot::Sender<()>>,
}

impl Proxy {
    /// Between a free port of this machine and `to`, with the same faults for every connection.
    ///
    /// # Errors
    ///
    /// If no port or thread is to be had.
    pub fn start(to: SocketAddr, line: Line, seed: u64) -> io::Result<Self> {
        Self::start_with(to, Arc::new(move |_| line.clone()), seed)
    }

    /// As [`start`](Self::start), with faults for each connection.
    ///
    /// # Errors
    ///
    /// If no port or thread is to be had.
    pub fn start_with(to: SocketAddr, choose: Choose, seed: u64) -> io::Result<Self> {
        let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        let (orders, ordered) = watch::channel(Order::Pass);
        let accepted = Arc::new(AtomicU64::new(0));
        let (stop, stopped) = tokio::sync::oneshot::channel();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let count = Arc::clone(&accepted);
        let thread = std::thread::Builder::new().name("faultproxy".into()).spawn(move || {
            runtime.block_on(async move {
                let listener = TcpListener::from_std(listener).expect("a runtime runs here");
                tokio::select! {
                    () = serve(listener, to, choose, seed, ordered, count) => {}
                    _ = stopped => {}
                }
            });
        })?;
        Ok(Self { address, orders, accepted, thread: Some(thread), stop: Some(stop) })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Connections so far.
    pub fn accepted(&self) -> u64 {
        self.accepted.load(Ordering::Relaxed)
    }

    /// From now on nothing passes in either direction, not even the end of a connection; new connections too are taken and
    /// left without an answer.
    pub fn vanish(&self) {
        self.orders.send_replace(Order::Vanish);
    }

    /// Ends all connections by resets, those that come as well.
    pub fn reset_all(&self) {
        self.orders.send_replace(Order::Reset);
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            _ = thread.join();
        }
    }
}

/// Serves until it is dropped; for the program, which listens where it is told.
pub async fn serve_for_ever(listener: TcpListener, to: SocketAddr, line: Line, seed: u64) {
    // The sender stays, or the order could never be waited for.
    let (_orders, ordered) = watch::channel(Order::Pass);
    serve(listener, to, Arc::new(move |_| line.clone()), seed, ordered, Arc::default()).await;
}

async fn serve(
    listener: TcpListener,
    to: SocketAddr,
    choose: Choose,
    seed: u64,
    ordered: watch::Receiver<Order>,
    accepted: Arc<AtomicU64>,
) {
    loop {
        let Ok((client, _)) = listener.accept().await else {
            // Out of descriptors: the ones that are open come first.
            tokio::time::sleep(Duration::from_millis(50)).await;
            continue;
        };
        let number = accepted.fetch_add(1, Ordering::Relaxed);
        let (line, ordered) = (choose(number), ordered.clone());
        // A connection that fails is one that is mistreated enough.
        tokio::spawn(async move { _ = connection(client, to, line, seed, number, ordered).await });
    }
}

async fn connection(
    client: TcpStream,
    to: SocketAddr,
    line: Line,
    seed: u64,
    number: u64,
    ordered: watch::Receiver<Order>,
) -> io::Result<()> {
    let socket = if to.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    if let Some(bytes) = line.receive_buffer {
        // Before the connection is made, because it decides the window that is offered.
        socket.set_recv_buffer_size(bytes)?;
    }
    let server = socket.connect(to).await?;
    client.set_nodelay(true)?;
    server.set_nodelay(true)?;
    let up = direction::run(&client, &server, &line.up, Random::part(seed, number * 2), ordered.clone());
    let down =
        direction::run(&server, &client, &line.down, Random::part(seed, number * 2 + 1), ordered.clone());
    let ended = tokio::select! {
        ended = async { tokio::try_join!(up, down) } => ended.map(|_| ()),
        reset = ordered_reset(ordered) => Err(reset),
    };
    if let Err(Reset) = ended {
        for stream in [&client, &server] {
            sockopt::set_socket_linger(stream, Some(Duration::ZERO))?;
        }
    }
    Ok(())
}

async fn ordered_reset(mut ordered: watch::Receiver<Order>) -> Reset {
    // An error is the end of the proxy, which ends the connections too.
    _ = ordered.wait_for(|order| *order == Order::Reset).await;
    Reset
}

#[cfg(test)]
mod tests;
