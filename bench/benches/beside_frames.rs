//! What it costs to receive a frame, beside other crates.
//!
//! All of them read from the same memory, which gives out at most 64 KiB at once as `recv` would: what each does to get the
//! bytes into its buffer counts too. Text is checked for UTF-8 by each. Where a crate can only be driven as a stream, it is, without
//! a runtime: the memory is always ready.
#![allow(missing_docs, reason = "criterion's macros write undocumented functions")]

use std::io::{self, Read, Write};
use std::pin::{Pin, pin};
use std::task::{Context, Poll, Waker};

use bytes::BytesMut;
use criterion::measurement::WallTime;
use criterion::{BenchmarkGroup, Criterion, Throughput, criterion_group, criterion_main};
use fanwire_codec::ws::{Kind, Limits, Pool, Received, Receiver, Role, write_client_message};
use futures_core::Stream;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_util::codec::Decoder;

const READ_BYTES_MAX: usize = 64 << 10;

/// The same masked frame, again and again.
struct Frames {
    bytes: Vec<u8>,
    at: usize,
}

impl Frames {
    fn new(kind: Kind, size: usize) -> Self {
        let mut bytes = BytesMut::new();
        while bytes.len() < 4 * READ_BYTES_MAX {
            write_client_message(&mut bytes, kind, &[&vec![b'x'; size]], [0x37, 0xfa, 0x21, 0x3d]);
        }
        Self { bytes: bytes.to_vec(), at: 0 }
    }

    /// What a read into so much room gives.
    fn next(&mut self, room: usize) -> &[u8] {
        let from = self.at;
        let to = self.bytes.len().min(from + room.min(READ_BYTES_MAX));
        self.at = if to == self.bytes.len() { 0 } else { to };
        &self.bytes[from..to]
    }

    fn copy_to(&mut self, room: &mut [u8]) -> usize {
        self.copy_to_two(room, &mut [])
    }

    /// What one read into two buffers gives, the second when the first is full.
    fn copy_to_two(&mut self, first: &mut [u8], second: &mut [u8]) -> usize {
        let read = self.next(first.len() + second.len());
        let (begin, rest) = read.split_at(first.len().min(read.len()));
        first[..begin.len()].copy_from_slice(begin);
        second[..rest.len()].copy_from_slice(rest);
        read.len()
    }
}

impl Read for Frames {
    fn read(&mut self, room: &mut [u8]) -> io::Result<usize> {
        Ok(self.copy_to(room))
    }
}

impl Write for Frames {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl AsyncRead for Frames {
    fn poll_read(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        room: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        room.put_slice(self.next(room.remaining()));
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Frames {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

/// Ours, as a shard of `fanwire-io` drives it: one buffer for all reads, and large messages straight into their place.
struct Fanwire {
    frames: Frames,
    scratch: Vec<u8>,
    from: usize,
    to: usize,
    receiver: Receiver,
    pool: Pool,
}

impl Fanwire {
    fn new(frames: Frames) -> Self {
        let (receiver, pool) = (Receiver::new(Role::Server), Pool::default());
        Self { frames, scratch: vec![0; READ_BYTES_MAX], from: 0, to: 0, receiver, pool }
    }

    /// Length of the next message.
    fn message(&mut self) -> usize {
        loop {
            if self.from == self.to
                && let Some(length) = self.read()
            {
                return length;
            }
            if self.from < self.to {
                let input = &mut self.scratch[self.from..self.to];
                let received = self.receiver.receive(input, &Limits::default(), &mut self.pool);
                let (used, received) = received.expect("sound frames");
                self.from += used;
                if let Some(received) = received {
                    return length(&received);
                }
            }
        }
    }

    /// One read; length of the message that it completes in its place.
    fn read(&mut self) -> Option<usize> {
        self.receiver.recycle(&mut self.pool);
        self.from = 0;
        let Some(room) = self.receiver.direct_room() else {
            self.to = self.frames.copy_to(&mut self.scratch);
            return None;
        };
        let size = room.bytes.len();
        let count = self.frames.copy_to_two(room.bytes, &mut self.scratch[..room.behind_bytes_max]);
        let direct = count.min(size);
        self.to = count - direct;
        self.receiver.direct_filled(direct).expect("sound frames").map(|received| length(&received))
    }
}

fn length(received: &Received<'_>) -> usize {
    match received {
        Received::Message { payload, .. } => payload.len(),
        other => panic!("{other:?} was not sent"),
    }
}

/// The result of a future that never waits.
fn ready<T>(future: impl Future<Output = T>) -> T {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(result) => result,
        Poll::Pending => panic!("the memory is always ready"),
    }
}

fn frames(criterion: &mut Criterion) {
    for (kind, name) in [(Kind::Text, "text"), (Kind::Binary, "binary")] {
        for size in [64usize, 1 << 10, 64 << 10] {
            let mut group = criterion.benchmark_group(format!("receive {name}, {size} B"));
            group.throughput(Throughput::Bytes(size as u64));
            receive(&mut group, kind, size);
        }
    }
}

fn receive(group: &mut BenchmarkGroup<'_, WallTime>, kind: Kind, size: usize) {
    let frames = || Frames::new(kind, size);
    let mut ours = Fanwire::new(frames());
    group.bench_function("fanwire", |bencher| bencher.iter(|| assert_eq!(ours.message(), size)));

    let (mut decoder, mut source) = (yawc::codec::Decoder::new(yawc::Role::Server, 1 << 20), frames());
    let mut buffer = BytesMut::new();
    group.bench_function("yawc", |bencher| {
        bencher.iter(|| {
            let frame = loop {
                if let Some(frame) = decoder.decode(&mut buffer).expect("sound frames") {
                    break frame;
                }
                buffer.extend_from_slice(source.next(READ_BYTES_MAX));
            };
            assert!(frame.payload().len() == size && (kind == Kind::Binary || frame.is_utf8()));
        });
    });

    let role = tungstenite::protocol::Role::Server;
    let mut socket = tungstenite::WebSocket::from_raw_socket(frames(), role, None);
    group.bench_function("tungstenite", |bencher| {
        bencher.iter(|| assert_eq!(socket.read().expect("sound frames").len(), size));
    });

    let mut socket = tokio_websockets::ServerBuilder::new().serve(frames());
    group.bench_function("tokio-websockets", |bencher| {
        bencher.iter(|| {
            let next = Pin::new(&mut socket).poll_next(&mut Context::from_waker(Waker::noop()));
            let Poll::Ready(Some(Ok(message))) = next else { panic!("sound frames, always ready") };
            assert_eq!(message.as_payload().len(), size);
        });
    });

    let mut socket = fastwebsockets::WebSocket::after_handshake(frames(), fastwebsockets::Role::Server);
    group.bench_function("fastwebsockets", |bencher| {
        bencher.iter(|| assert_eq!(ready(socket.read_frame()).expect("sound frames").payload.len(), size));
    });
}

criterion_group!(benches, frames);
criterion_main!(benches);
