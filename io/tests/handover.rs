//! Connections whose first request is for the control thread leave their shard, with all that was received.
#![allow(clippy::disallowed_methods, reason = "tests on real sockets live in real time")]

mod support;

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::os::unix::net::UnixStream;
use std::sync::mpsc::{Receiver, sync_channel};

use fanwire_io::{Config, Driver, HandedOver, ListenAddress, Running, start};
use support::{Client, PATIENCE, Puppet, address, config, counter, counters, eventually, text};

const DRIVERS: [Driver; 2] = [Driver::Auto, Driver::Epoll];
const TO_CONTROL: &str = "to=\"control\"";

/// Shards that hand over what begins with `/v1/`, and where it comes to; `room` connections may wait there.
fn run(mut config: Config, room: usize) -> (Running, Receiver<HandedOver>) {
    config.listeners.iter_mut().for_each(|listener| listener.control = vec!["/v1/".to_owned()]);
    let (sender, receiver) = sync_channel(room);
    let running = start(config, move |id, _| {
        let mut puppet = Puppet::new(id);
        puppet.control = Some(sender.clone());
        puppet
    });
    (running.expect("the shards start"), receiver)
}

fn take(queue: &Receiver<HandedOver>) -> HandedOver {
    queue.recv_timeout(PATIENCE).expect("the connection is handed over")
}

fn nobody_is_left(running: &Running) {
    eventually("its slot is freed", || counter(running, "connections_open", "") == 0);
}

#[test]
fn a_connection_is_handed_over_as_soon_as_its_request_line_names_a_control_path() {
    for driver in DRIVERS {
        let (running, queue) = run(config(driver), 8);
        let mut client = Client::raw(&running);
        client.write_all(b"POST /v1/pub").unwrap();
        eventually("it was received", || counter(&running, "received_bytes", "") == 12);
        client.write_all(b"lish HTTP/1.1\r\nExpect: 100-cont").unwrap();
        let handed = take(&queue);
        assert_eq!(handed.read, b"POST /v1/publish HTTP/1.1\r\nExpect: 100-cont");
        assert_eq!(handed.peer, Some(client.local_addr().unwrap()));
        assert_eq!((handed.shard.get(), handed.listener), (0, 0));
        nobody_is_left(&running);
        assert_eq!(counter(&running, "connections_handed_over", TO_CONTROL), 1);
        assert_eq!(counter(&running, "connections_closed", "reason=\"lost\""), 0);

        // Its slot serves another connection, and neither hears of the other.
        let mut other = Client::new(&running);
        let mut stream = TcpStream::from(handed.stream);
        stream.set_nonblocking(false).unwrap();
        client.write_all(b"inue\r\n\r\n").unwrap();
        let mut rest = [0; 8];
        stream.read_exact(&mut rest).unwrap();
        assert_eq!(&rest, b"inue\r\n\r\n");
        stream.write_all(b"HTTP/1.1 100 Continue\r\n\r\n").unwrap();
        let mut answer = [0; 25];
        client.read_exact(&mut answer).unwrap();
        assert_eq!(&answer, b"HTTP/1.1 100 Continue\r\n\r\n");
        drop((client, stream));
        other.send_text("hello");
        assert_eq!(other.hear(), text("hello"));
        running.stop_now();
        running.wait();
    }
}

#[test]
fn what_follows_the_head_goes_along() {
    for driver in DRIVERS {
        let (running, queue) = run(config(driver), 8);
        let mut client = Client::raw(&running);
        let requests =
            "POST /v1/publish HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\n{}".to_owned().repeat(20);
        client.write_all(requests.as_bytes()).unwrap();
        client.shutdown(Shutdown::Write).unwrap();
        let handed = take(&queue);
        let mut stream = TcpStream::from(handed.stream);
        stream.set_nonblocking(false).unwrap();
        let mut all = handed.read;
        stream.read_to_end(&mut all).unwrap();
        assert_eq!(all, requests.as_bytes(), "and its end is heard by who has it now");
        nobody_is_left(&running);
    }
}

#[test]
fn so_are_connections_of_unix_sockets() {
    for driver in DRIVERS {
        let folder = std::env::temp_dir().join(format!("fanwire-handover-{}-{driver:?}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let path = folder.join("socket");
        let mut config = config(driver);
        config.listeners[0].address = ListenAddress::Unix { path: path.clone(), mode: 0o600 };
        let (running, queue) = run(config, 8);
        let mut client = UnixStream::connect(&path).unwrap();
        client.write_all(b"GET /v1/topics HTTP/1.1\r\n\r\n").unwrap();
        let handed = take(&queue);
        assert_eq!((handed.peer, &*handed.read), (None, &b"GET /v1/topics HTTP/1.1\r\n\r\n"[..]));
        let mut stream = UnixStream::from(handed.stream);
        stream.write_all(b"here").unwrap();
        let mut answer = [0; 4];
        client.read_exact(&mut answer).unwrap();
        assert_eq!(&answer, b"here");
        nobody_is_left(&running);
        running.stop_now();
        running.wait();
        std::fs::remove_dir_all(&folder).unwrap();
    }
}

#[test]
fn without_room_the_shard_says_503() {
    for driver in DRIVERS {
        let (running, queue) = run(config(driver), 1);
        let ask = || {
            let mut client = Client::raw(&running);
            client.write_all(b"GET /v1/topics HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
            client
        };
        let waiting = ask();
        eventually("one waits", || counter(&running, "connections_handed_over", TO_CONTROL) == 1);
        let mut answer = String::new();
        ask().read_to_string(&mut answer).unwrap();
        assert!(answer.starts_with("HTTP/1.1 503 "), "{answer}");
        assert!(answer.contains("\r\nRetry-After: 1\r\n"), "{answer}");
        assert_eq!(counter(&running, "connections_rejected", "reason=\"control_busy\""), 1);
        nobody_is_left(&running);
        // The first one is still who it was.
        assert_eq!(take(&queue).peer, Some(waiting.local_addr().unwrap()));
    }
}

#[test]
fn where_no_control_paths_are_offered_they_are_404() {
    for driver in DRIVERS {
        let running = support::run(config(driver));
        let mut client = support::connect(address(&running));
        client.write_all(b"POST /v1/publish HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\n{}").unwrap();
        let mut answer = String::new();
        client.read_to_string(&mut answer).unwrap();
        assert!(answer.starts_with("HTTP/1.1 404 "), "{answer}");
        assert_eq!(counter(&running, "connections_handed_over", TO_CONTROL), 0);
    }
}

#[test]
fn connections_that_were_handed_over_count_for_no_shard() {
    for driver in DRIVERS {
        let (running, queue) = run(Config { shards: Some(4), ..config(driver) }, 1_000);
        let mut clients: Vec<TcpStream> = (0..100).map(|_| Client::raw(&running)).collect();
        for client in &mut clients {
            client.write_all(b"GET /v1/topics HTTP/1.1\r\n\r\n").unwrap();
        }
        let handed: Vec<HandedOver> = clients.iter().map(|_| take(&queue)).collect();
        nobody_is_left(&running);
        // The balance knows it too: of new ones each shard gets its share.
        let _others: Vec<_> = (0..8).map(|_| Client::new(&running)).collect();
        eventually("all are placed", || counter(&running, "connections_open", "") == 8);
        assert_eq!(counters(&running, "connections_open", ""), [2; 4]);
        drop(handed);
        let mut end = Vec::new();
        assert_eq!(clients[0].read_to_end(&mut end).map_or(0, |count| count), 0, "nobody else has it");
    }
}
