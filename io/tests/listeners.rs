//! Several listeners of one process: their own origins and paths, IPv6, and Unix sockets.
#![allow(clippy::disallowed_methods, reason = "tests on real sockets live in real time")]

mod support;

use std::io::{Read, Write};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::atomic::Ordering;
use std::time::Duration;

use fanwire_io::{Config, Driver, Endpoint, EndpointId, ListenAddress, Listener, Origins, StartError, start};
use support::{Client, Puppet, config, connect, counter, counters, eventually, run, text, upgrade_request};

const DRIVERS: [Driver; 2] = [Driver::Auto, Driver::Epoll];

fn listener(address: impl Into<ListenAddress>, path: &str, origins: &[&str]) -> Listener {
    Listener {
        address: address.into(),
        backlog: None,
        endpoints: vec![Endpoint { path: path.into(), id: EndpointId(0) }],
        longpoll: Vec::new(),
        rawsocket: None,
        control: Vec::new(),
        tls: None,
        cookie: None,
        origins: Origins { any: false, allowed: origins.iter().map(|origin| (*origin).to_owned()).collect() },
    }
}

fn with_listeners(driver: Driver, shards: usize, listeners: Vec<Listener>) -> Config {
    Config { listeners, shards: Some(shards), ..config(driver) }
}

/// A name in the temporary folder that only this test uses.
fn socket_path(name: &str) -> PathBuf {
    std::env::temp_dir().join(format!("fanwire-io-{}-{name}.sock", std::process::id()))
}

fn unix(path: &std::path::Path) -> ListenAddress {
    ListenAddress::Unix { path: path.to_owned(), mode: 0o600 }
}

/// The tests' client reads and writes and asks for nothing that only TCP has.
fn connect_unix(path: &std::path::Path) -> std::net::TcpStream {
    let socket = UnixStream::connect(path).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    socket.set_write_timeout(Some(Duration::from_secs(10))).unwrap();
    OwnedFd::from(socket).into()
}

fn request(path: &str, origin: &str) -> Vec<u8> {
    let request = String::from_utf8(upgrade_request()).unwrap();
    let request = request.replace("GET /ws ", &format!("GET {path} "));
    request.replacen("\r\n\r\n", &format!("\r\nOrigin: {origin}\r\n\r\n"), 1).into_bytes()
}

fn status(address: SocketAddr, request: &[u8]) -> String {
    let mut socket = connect(address);
    socket.write_all(request).unwrap();
    let mut answer = [0; 12];
    socket.read_exact(&mut answer).unwrap();
    String::from_utf8_lossy(&answer[9..]).into_owned()
}

#[test]
fn each_listener_has_its_own_origins_and_paths() {
    for driver in DRIVERS {
        let loopback: SocketAddr = (Ipv4Addr::LOCALHOST, 0).into();
        let running = run(with_listeners(
            driver,
            2,
            vec![
                listener(loopback, "/one", &["https://one.example"]),
                listener(loopback, "/two", &["https://two.example"]),
            ],
        ));
        let [first, second] = [0, 1].map(|index| running.addresses()[index].ip().unwrap());
        // Several connections each: both shards, and those that were handed over, must know whose they are.
        for _ in 0..8 {
            assert_eq!(status(first, &request("/one", "https://one.example")), "101");
            assert_eq!(status(second, &request("/two", "https://two.example")), "101");
            assert_eq!(status(first, &request("/one", "https://two.example")), "403");
            assert_eq!(status(second, &request("/two", "https://one.example")), "403");
            assert_eq!(status(first, &request("/two", "https://one.example")), "404");
            assert_eq!(status(second, &request("/one", "https://two.example")), "404");
        }
        assert!(counter(&running, "connections_handed_over", "to=\"shard\"") > 0);
    }
}

#[test]
fn an_unspecified_ipv6_address_takes_ipv4_too() {
    if TcpListener::bind("[::1]:0").is_err() {
        eprintln!("skipped: this machine has no IPv6");
        return;
    }
    let any: SocketAddr = (Ipv6Addr::UNSPECIFIED, 0).into();
    let only: SocketAddr = (Ipv6Addr::LOCALHOST, 0).into();
    let running =
        run(with_listeners(Driver::Auto, 2, vec![listener(any, "/ws", &[]), listener(only, "/ws", &[])]));
    let [any, only] = [0, 1].map(|index| running.addresses()[index].ip().unwrap().port());
    for address in [
        SocketAddr::from((Ipv4Addr::LOCALHOST, any)),
        (Ipv6Addr::LOCALHOST, any).into(),
        (Ipv6Addr::LOCALHOST, only).into(),
    ] {
        let mut client = Client::with(connect(address), &[]);
        client.send_text("hello");
        assert_eq!(client.hear(), text("hello"), "{address}");
    }
    assert!(std::net::TcpStream::connect((Ipv4Addr::LOCALHOST, only)).is_err());
}

#[test]
fn a_unix_socket_serves_evenly_and_its_file_goes_with_it() {
    for driver in DRIVERS {
        let path = socket_path(&format!("even-{driver:?}"));
        let running = run(with_listeners(driver, 4, vec![listener(unix(&path), "/ws", &[])]));
        assert_eq!(running.addresses()[0].to_string(), format!("unix:{}", path.display()));
        let mut clients: Vec<_> = (0..40).map(|_| Client::with(connect_unix(&path), &[])).collect();
        eventually("all are placed", || counter(&running, "connections_open", "") == 40);
        assert_eq!(counters(&running, "connections_open", ""), [10; 4]);
        for (number, client) in clients.iter_mut().enumerate() {
            client.send_text(&number.to_string());
        }
        for (number, client) in clients.iter_mut().enumerate() {
            assert_eq!(client.hear(), text(&number.to_string()));
        }
        // More than the socket's buffers hold: partial sends, and waiting until the socket is writable again.
        let large = "x".repeat(900_000);
        for _ in 0..4 {
            clients[0].send_text(&large);
        }
        for _ in 0..4 {
            assert_eq!(clients[0].hear(), text(&large));
        }
        clients[1].send_close(1000);
        assert_eq!(clients[1].hear(), support::Word::Close(Some(1000)));
        assert_eq!(clients[1].hear(), support::Word::End);
        drop(clients);
        eventually("all are gone", || counter(&running, "connections_open", "") == 0);
        running.drain();
        running.wait();
        assert!(!path.exists(), "the file is gone");
    }
}

/// One shard stands still: what is handed to it waits, up to a bound; the other shard keeps the rest, and nobody is lost.
#[test]
fn a_shard_that_stands_still_is_not_handed_everything() {
    const CLIENTS: usize = 2_400;
    let path = socket_path("stalled");
    let running = run(with_listeners(Driver::Auto, 2, vec![listener(unix(&path), "/ws", &[])]));
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile).current;
    if limit.is_some_and(|limit| limit < 3 * CLIENTS as u64) {
        eprintln!("skipped: this process may not have enough descriptors");
        return;
    }
    // The Unix socket is accepted by shard 0, so it is shard 1 that must not be looked for elsewhere.
    let mut pair: Vec<_> = (0..2).map(|_| Client::with(connect_unix(&path), &[])).collect();
    let mut on_second = |client: &mut Client| {
        client.send_text("where");
        client.hear() == text("1")
    };
    let at = pair.iter_mut().position(&mut on_second).expect("one each");
    pair[at].send_text("stall");
    eventually("shard 1 stands still", || support::STALLED.load(Ordering::SeqCst));
    let clients: Vec<_> = (0..CLIENTS).map(|_| connect_unix(&path)).collect();
    eventually("the other shard keeps some", || counter(&running, "connections_kept", "") > 0);
    eventually("all are placed", || {
        let placed = counters(&running, "connections_open", "")[0]
            + counters(&running, "connections_handed_over", "to=\"shard\"")[0];
        placed == CLIENTS as u64 + 2
    });
    support::STALLED.store(false, Ordering::SeqCst);
    for socket in clients {
        let mut client = Client::with(socket, &[]);
        client.send_text("served");
        assert_eq!(client.hear(), text("served"));
    }
    assert_eq!(counter(&running, "connections_accepted", ""), CLIENTS as u64 + 2);
    running.stop_now();
    running.wait();
}

#[test]
fn a_start_that_fails_leaves_no_socket_file() {
    let path = socket_path("failed");
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let listeners =
        vec![listener(unix(&path), "/ws", &[]), listener(taken.local_addr().unwrap(), "/ws", &[])];
    match start(with_listeners(Driver::Auto, 2, listeners), |id, _| Puppet::new(id)) {
        Err(StartError::Listen { listener: 1, .. }) => {}
        other => panic!("{other:?}"),
    }
    assert!(!path.exists());
}

#[test]
fn a_second_router_does_not_take_a_live_socket() {
    let path = socket_path("live");
    let running = run(with_listeners(Driver::Auto, 1, vec![listener(unix(&path), "/ws", &[])]));
    let second = with_listeners(Driver::Auto, 1, vec![listener(unix(&path), "/ws", &[])]);
    match start(second, |id, _| Puppet::new(id)) {
        Err(StartError::Listen { source, .. }) => {
            assert_eq!(source.kind(), std::io::ErrorKind::AddrInUse);
        }
        other => panic!("{other:?}"),
    }
    let mut client = Client::with(connect_unix(&path), &[]);
    client.send_text("still here");
    assert_eq!(client.hear(), text("still here"));
    running.stop_now();
    running.wait();
    assert!(!path.exists(), "the file is gone");
}

/// Several Unix sockets are accepted by several shards; each connection is of its own listener.
#[test]
fn unix_sockets_are_shared_out() {
    let paths: Vec<_> = (0..3).map(|number| socket_path(&format!("shared-{number}"))).collect();
    let listeners = (0..3).map(|i| listener(unix(&paths[i]), &format!("/{i}"), &[])).collect();
    let running = run(with_listeners(Driver::Auto, 2, listeners));
    for (number, path) in paths.iter().enumerate() {
        for (asked, expected) in [(number, "101"), ((number + 1) % 3, "404")] {
            let mut socket = connect_unix(path);
            socket.write_all(&request(&format!("/{asked}"), "http://localhost")).unwrap();
            let mut answer = [0; 12];
            socket.read_exact(&mut answer).unwrap();
            assert_eq!(&answer[9..], expected.as_bytes());
        }
    }
    running.stop_now();
    running.wait();
    assert!(paths.iter().all(|path| !path.exists()));
}
