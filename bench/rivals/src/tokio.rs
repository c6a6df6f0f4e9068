//! fastwebsockets on tokio, one thread: the broadcast server that is usually written in Rust. `tokio-broadcast PORT`.
//!
//! ```text
//! reader task ─▶ message ─▶ frame, made once ─▶ bounded queue of each subscriber ─▶ its writer task: all that waits, one write
//! ```

mod handshake;
mod protocol;

use std::cell::RefCell;
use std::collections::HashMap;
use std::convert::Infallible;
use std::io;
use std::net::Ipv4Addr;
use std::rc::Rc;

use bytes::{Bytes, BytesMut};
use fastwebsockets::{FragmentCollectorRead, Frame, OpCode, Payload, Role, after_handshake_split};
use protocol::{Request, SUBSCRIBED};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::OwnedWriteHalf;
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::mpsc;
use tokio::task::LocalSet;

/// Frames that wait for one subscriber. Who is further behind gets no more.
const QUEUE_FRAMES_MAX: usize = 16 * 1024;
/// Frames that go out in one write.
const WRITE_FRAMES_MAX: usize = 64;
const HEAD_BYTES_MAX: usize = 16 * 1024;

type Topics = Rc<RefCell<HashMap<Vec<u8>, Vec<mpsc::Sender<Bytes>>>>>;

fn main() -> io::Result<()> {
    let port =
        std::env::args().nth(1).and_then(|port| port.parse().ok()).expect("usage: tokio-broadcast PORT");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
    LocalSet::new().block_on(&runtime, async {
        let socket = TcpSocket::new_v4()?;
        socket.set_reuseaddr(true)?;
        socket.bind((Ipv4Addr::LOCALHOST, port).into())?;
        accept(socket.listen(4096)?).await
    })
}

async fn accept(listener: TcpListener) -> io::Result<()> {
    let topics = Topics::default();
    loop {
        let (stream, _) = listener.accept().await?;
        let topics = topics.clone();
        tokio::task::spawn_local(async move {
            let _ = serve(stream, &topics).await;
        });
    }
}

/// Reads one connection to its end.
async fn serve(mut stream: TcpStream, topics: &Topics) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut head = Vec::new();
    let answer = loop {
        stream.read_buf(&mut head).await?;
        match handshake::answer(&head) {
            Some((answer, _)) => break answer,
            None if head.is_empty() || head.len() > HEAD_BYTES_MAX => return Ok(()),
            None => {}
        }
    };
    stream.write_all(answer.as_bytes()).await?;
    drop(head);
    let (read, write) = stream.into_split();
    let (queue, frames) = mpsc::channel(QUEUE_FRAMES_MAX);
    let writer = tokio::task::spawn_local(write_all(write, frames));
    let (read, _) = after_handshake_split(read, tokio::io::sink(), Role::Server);
    let mut messages = FragmentCollectorRead::new(read);
    // Pongs and the answer to a close frame.
    let mut send = |frame: Frame<'_>| {
        let _ = queue.try_send(encode(frame));
        std::future::ready(Ok::<_, Infallible>(()))
    };
    while let Ok(frame) = messages.read_frame(&mut send).await {
        if frame.opcode == OpCode::Close {
            break;
        }
        match Request::read(&frame.payload) {
            Some(Request::Subscribe(topic)) => {
                topics.borrow_mut().entry(topic.to_vec()).or_default().push(queue.clone());
                let _ = queue.try_send(encode(Frame::text(Payload::Borrowed(SUBSCRIBED.as_bytes()))));
            }
            Some(Request::Publish { topic, payload }) => {
                let frame = encode(Frame::text(Payload::Borrowed(payload)));
                if let Some(subscribers) = topics.borrow_mut().get_mut(topic) {
                    // Who has no room, or has gone, is a subscriber no more.
                    subscribers.retain(|subscriber| subscriber.try_send(frame.clone()).is_ok());
                }
            }
            None => {}
        }
    }
    writer.abort();
    Ok(())
}

/// Writes what waits for one connection, as much as there is at once.
async fn write_all(mut socket: OwnedWriteHalf, mut queue: mpsc::Receiver<Bytes>) -> io::Result<()> {
    let (mut frames, mut joined) = (Vec::new(), BytesMut::new());
    while queue.recv_many(&mut frames, WRITE_FRAMES_MAX).await > 0 {
        match &frames[..] {
            [frame] => socket.write_all(frame).await?,
            frames => {
                joined.clear();
                frames.iter().for_each(|frame| joined.extend_from_slice(frame));
                socket.write_all(&joined).await?;
            }
        }
        frames.clear();
    }
    Ok(())
}

fn encode(mut frame: Frame<'_>) -> Bytes {
    let mut buffer = Vec::new();
    Bytes::copy_from_slice(frame.write(&mut buffer))
}
