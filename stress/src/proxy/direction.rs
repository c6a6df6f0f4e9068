//! One direction of a connection: a reader that stamps what comes with the time at which it may go on, a bounded store, and
//! a writer that obeys the stamps.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, watch};
use tokio::time::{Instant, sleep, sleep_until};

use super::faults::Faults;
use super::{Order, Random};

/// Bytes that a direction holds at most. With a latency of 50 ms it passes 20 MiB/s.
const HELD_BYTES_MAX: usize = 1 << 20;
/// The same where the bandwidth is limited: such a line should be full soon.
const HELD_BYTES_SLOW: usize = 16 << 10;
/// Of one read.
const PIECE_BYTES: usize = 16 << 10;
/// A limited bandwidth is spread over as many pieces a second, where it has as many bytes.
const PIECES_PER_SECOND: u64 = 50;

/// The connection ends by a reset, on both sides: on purpose, or because one of them did that.
#[derive(Debug)]
pub(super) struct Reset;

impl From<io::Error> for Reset {
    fn from(_: io::Error) -> Self {
        Self
    }
}

/// Some bytes on their way.
struct Piece {
    bytes: Vec<u8>,
    due: Instant,
    /// Their room in the store.
    _room: OwnedSemaphorePermit,
}

/// Carries the bytes until the sender has ended; the receiver gets them all before it gets the end.
pub(super) async fn run(
    from: &TcpStream,
    to: &TcpStream,
    faults: &Faults,
    mut random: Random,
    ordered: watch::Receiver<Order>,
) -> Result<(), Reset> {
    let room = if faults.bandwidth.is_some() { HELD_BYTES_SLOW } else { HELD_BYTES_MAX };
    let (store, stored) = mpsc::unbounded_channel();
    let writer = Writer { to, faults, random: Random::new(random.bits()), passed: 0 };
    let reader = read(from, store, Arc::new(Semaphore::new(room)), faults, random, ordered.clone());
    tokio::try_join!(reader, writer.run(stored, ordered)).map(|_| ())
}

async fn read(
    from: &TcpStream,
    store: mpsc::UnboundedSender<Piece>,
    room: Arc<Semaphore>,
    faults: &Faults,
    mut random: Random,
    ordered: watch::Receiver<Order>,
) -> Result<(), Reset> {
    let mut due = Instant::now();
    loop {
        let mut bytes = vec![0; PIECE_BYTES];
        from.readable().await?;
        let count = match from.try_read(&mut bytes) {
            Ok(0) => return Ok(()),
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => continue,
            // Nobody learns of it.
            Err(_) if *ordered.borrow() == Order::Vanish => return Ok(()),
            Err(error) => return Err(error.into()),
        };
        if *ordered.borrow() == Order::Vanish {
            continue;
        }
        bytes.truncate(count);
        // What jitters never overtakes.
        due = due.max(Instant::now() + faults.latency + random.time(faults.jitter));
        let wanted = u32::try_from(count).expect("a piece is small");
        let held = Arc::clone(&room).acquire_many_owned(wanted).await.expect("it is never closed");
        // The writer swallows what it does not want, so it is there as long as its receiver is.
        if store.send(Piece { bytes, due, _room: held }).is_err() {
            return Ok(());
        }
    }
}

struct Writer<'a> {
    to: &'a TcpStream,
    faults: &'a Faults,
    random: Random,
    /// Bytes that the receiver was given.
    passed: u64,
}

impl Writer<'_> {
    async fn run(
        mut self,
        mut stored: mpsc::UnboundedReceiver<Piece>,
        ordered: watch::Receiver<Order>,
    ) -> Result<(), Reset> {
        let mut swallows = self.cut()?;
        while let Some(mut piece) = stored.recv().await {
            sleep_until(piece.due).await;
            if *ordered.borrow() == Order::Vanish {
                swallows = true;
            }
            let mut rest = &mut piece.bytes[..];
            while !rest.is_empty() && !swallows {
                let count = self.size(rest.len());
                let (now, later) = rest.split_at_mut(count);
                self.corrupt(now);
                self.write(now).await?;
                self.passed += count as u64;
                swallows = self.cut()?;
                self.rest_after(count).await;
                rest = later;
            }
        }
        if !swallows && *ordered.borrow() != Order::Vanish {
            self.shut();
        }
        Ok(())
    }

    /// How many of the next bytes are written at once.
    fn size(&self, count: usize) -> usize {
        let paced =
            self.faults.bandwidth.map_or(u64::MAX, |bandwidth| bandwidth.get().div_ceil(PIECES_PER_SECOND));
        let sliced = self.faults.slice.map_or(usize::MAX, |slice| slice.get());
        let most = paced.min(self.faults.until_cut(self.passed));
        count.min(sliced).min(usize::try_from(most).unwrap_or(usize::MAX))
    }

    /// Flips what is to be flipped.
    fn corrupt(&mut self, bytes: &mut [u8]) {
        let first = self.passed * 8;
        for bit in &self.faults.corrupt_bits {
            if let Some(byte) = bit.checked_sub(first).and_then(|bit| bytes.get_mut((bit / 8) as usize)) {
                *byte ^= 0x80 >> (bit % 8);
            }
        }
        if let Some(every) = self.faults.corrupt_every {
            for byte in bytes {
                if self.random.below(every.get()) == 0 {
                    *byte ^= 1 << self.random.below(8);
                }
            }
        }
    }

    async fn write(&self, mut bytes: &[u8]) -> Result<(), Reset> {
        while !bytes.is_empty() {
            self.to.writable().await?;
            match self.to.try_write(bytes) {
                Ok(count) => bytes = &bytes[count..],
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    fn shut(&self) {
        // The receiver may have gone first.
        _ = rustix::net::shutdown(self.to, rustix::net::Shutdown::Write);
    }

    /// What happens where the stream has come to now. True = the rest is swallowed.
    fn cut(&self) -> Result<bool, Reset> {
        if self.faults.reset_at == Some(self.passed) {
            return Err(Reset);
        }
        if self.faults.half_close_at == Some(self.passed) {
            self.shut();
            return Ok(true);
        }
        Ok(self.faults.blackhole_after == Some(self.passed))
    }

    /// As long as these bytes take on this line.
    async fn rest_after(&self, count: usize) {
        if let Some(bandwidth) = self.faults.bandwidth {
            sleep(Duration::from_nanos(1_000_000_000 * count as u64 / bandwidth)).await;
        } else if self.faults.slice.is_some() {
            // So that the pieces do not meet again in the receiver's buffer, if it is awake.
            tokio::task::yield_now().await;
        }
    }
}
