//! Each fault, on a server that says back what it hears.

use std::io::{ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::num::{NonZeroU64, NonZeroUsize};
use std::time::Instant;

use super::*;

/// A server that sends everything back, and the end too.
fn echo() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = listener.local_addr().expect("bound");
    std::thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            std::thread::spawn(move || {
                let mut buffer = [0; 4096];
                while let Ok(count @ 1..) = (&stream).read(&mut buffer) {
                    if (&stream).write_all(&buffer[..count]).is_err() {
                        break;
                    }
                }
            });
        }
    });
    address
}

fn through(line: Line) -> (Proxy, TcpStream) {
    let proxy = Proxy::start(echo(), line, 1).expect("a free port");
    let stream = TcpStream::connect(proxy.address()).expect("it listens");
    stream.set_read_timeout(Some(Duration::from_secs(60))).expect("a valid timeout");
    (proxy, stream)
}

/// Sends the bytes and the end, and reads to the end.
fn said_back(line: Line, bytes: &[u8]) -> std::io::Result<Vec<u8>> {
    let (_proxy, stream) = through(line);
    // A cut may come while the bytes are sent. Whoever is told of a reset first has been told: reading finds the end then.
    let sent = (&stream).write_all(bytes);
    _ = stream.shutdown(std::net::Shutdown::Write);
    let mut answer = Vec::new();
    (&stream).read_to_end(&mut answer)?;
    match sent {
        Err(error) if error.kind() == ErrorKind::ConnectionReset => Err(error),
        _ => Ok(answer),
    }
}

fn bytes(count: usize) -> Vec<u8> {
    (0..count).map(|index| index as u8).collect()
}

#[test]
fn without_faults_all_bytes_pass_and_then_the_end() {
    let sent = bytes(1 << 20);
    // Sent and read at once, as the echo server's buffers are smaller.
    let (_proxy, stream) = through(Line::default());
    let writer = stream.try_clone().expect("a descriptor is left");
    let copy = sent.clone();
    std::thread::spawn(move || {
        (&writer).write_all(&copy).expect("it reads");
        writer.shutdown(std::net::Shutdown::Write).expect("connected");
    });
    let mut answer = Vec::new();
    (&stream).read_to_end(&mut answer).expect("an orderly end");
    assert!(answer == sent);
}

#[test]
fn late_jittery_and_sliced_bytes_keep_their_order() {
    let faults = Faults {
        latency: Duration::from_millis(20),
        jitter: Duration::from_millis(20),
        slice: NonZeroUsize::new(7),
        ..Faults::default()
    };
    let begun = Instant::now();
    assert_eq!(said_back(Line::both(faults), &bytes(1000)).expect("an orderly end"), bytes(1000));
    assert!(begun.elapsed() >= Duration::from_millis(40), "20 ms each way");
}

#[test]
fn bandwidth_is_a_limit() {
    let faults = Faults { bandwidth: NonZeroU64::new(1000), ..Faults::default() };
    let begun = Instant::now();
    assert_eq!(said_back(Line::up(faults), &bytes(300)).expect("an orderly end"), bytes(300));
    assert!(begun.elapsed() >= Duration::from_millis(250), "{:?}", begun.elapsed());
}

#[test]
fn a_reset_comes_at_its_byte_and_not_before() {
    for at in [0, 1, 17, 299] {
        let faults = Faults { reset_at: Some(at), ..Faults::default() };
        let error = said_back(Line::down(faults.clone()), &bytes(300)).expect_err("a reset");
        assert_eq!(error.kind(), ErrorKind::ConnectionReset, "at {at}");
    }
    // So many bytes never come.
    let faults = Faults { reset_at: Some(301), ..Faults::default() };
    assert_eq!(said_back(Line::down(faults), &bytes(300)).expect("an orderly end"), bytes(300));
}

#[test]
fn a_half_close_ends_one_direction_after_its_bytes() {
    let faults = Faults { half_close_at: Some(100), ..Faults::default() };
    // The echo server sees the end after 100 bytes, and ends too.
    assert_eq!(said_back(Line::up(faults), &bytes(300)).expect("an orderly end"), bytes(100));
}

#[test]
fn a_black_hole_swallows_the_rest_and_the_end() {
    let (proxy, stream) = through(Line::up(Faults { blackhole_after: Some(5), ..Faults::default() }));
    (&stream).write_all(&bytes(300)).expect("taken");
    stream.shutdown(std::net::Shutdown::Write).expect("connected");
    let mut answer = [0; 5];
    (&stream).read_exact(&mut answer).expect("the bytes before");
    stream.set_read_timeout(Some(Duration::from_millis(300))).expect("a valid timeout");
    let error = (&stream).read(&mut answer).expect_err("nothing more, and no end");
    assert_eq!(error.kind(), ErrorKind::WouldBlock);
    drop(proxy);
}

#[test]
fn a_line_that_vanishes_is_silent_and_one_that_is_reset_ends() {
    let (proxy, stream) = through(Line::default());
    let mut byte = [0];
    (&stream).write_all(b"a").expect("taken");
    (&stream).read_exact(&mut byte).expect("an answer");
    proxy.vanish();
    (&stream).write_all(b"b").expect("taken");
    stream.set_read_timeout(Some(Duration::from_millis(300))).expect("a valid timeout");
    assert_eq!((&stream).read(&mut byte).expect_err("silence").kind(), ErrorKind::WouldBlock);
    assert_eq!(proxy.accepted(), 1);
    proxy.reset_all();
    stream.set_read_timeout(Some(Duration::from_secs(60))).expect("a valid timeout");
    assert_eq!((&stream).read(&mut byte).expect_err("a reset").kind(), ErrorKind::ConnectionReset);
}

#[test]
fn bits_are_flipped_where_they_are_named_and_as_the_seed_says() {
    let faults = Faults { corrupt_bits: vec![0, 8 * 299 + 7, 8 * 300], ..Faults::default() };
    let answer = said_back(Line::down(faults), &[0; 300]).expect("an orderly end");
    assert_eq!((answer[0], answer[299]), (0x80, 1));
    assert!(answer[1..299].iter().all(|byte| *byte == 0));
    let some = Faults { corrupt_every: NonZeroU64::new(10), ..Faults::default() };
    let first = said_back(Line::down(some.clone()), &[0; 300]).expect("an orderly end");
    let wrong = first.iter().filter(|byte| **byte != 0).count();
    assert!((5..100).contains(&wrong), "{wrong} of 300");
    assert_eq!(said_back(Line::down(some), &[0; 300]).expect("an orderly end"), first);
}
