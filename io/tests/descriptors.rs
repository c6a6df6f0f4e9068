//! What happens when the process has no descriptor left. A test program of its own, because it lowers the limit.
#![allow(clippy::disallowed_methods, reason = "tests on real sockets live in real time")]

mod support;

use std::io::{Read, Write};
use std::time::Duration;

use fanwire_io::{Config, Driver};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use support::{Client, PATIENCE, address, config, connect, counter, eventually, run, text, upgrade_request};

/// Lowers the limit of descriptors until exactly `room` more can be opened; returns what fills the rest.
///
/// Counting the open ones would not do: the limit bounds the descriptors' *numbers*, and a program may have inherited
/// some with high numbers.
fn leave_room_for(room: usize, limit: &Rlimit) -> Vec<std::fs::File> {
    let highest = std::fs::read_dir("/proc/self/fd")
        .unwrap()
        .filter_map(|entry| entry.unwrap().file_name().to_str()?.parse::<u64>().ok())
        .max()
        .unwrap();
    let current = Some(highest + 1 + room as u64);
    setrlimit(Resource::Nofile, Rlimit { current, ..*limit }).unwrap();
    let mut fillers = Vec::new();
    while let Ok(file) = std::fs::File::open("/dev/null") {
        fillers.push(file);
    }
    assert!(fillers.len() >= room, "there is room to leave");
    fillers.truncate(fillers.len() - room);
    fillers
}

#[test]
fn without_descriptors_new_clients_are_refused_and_old_ones_served() {
    for driver in [Driver::Auto, Driver::Epoll] {
        let running = run(Config { shards: Some(1), ..config(driver) });
        let mut first = Client::new(&running);

        let limit = getrlimit(Resource::Nofile);
        let mut pairs = Vec::new();
        let clients: Vec<_> = (0..40).map(|_| connect(address(&running))).collect();
        eventually("all are accepted", || counter(&running, "connections_accepted", "") == 41);
        // Both ends are in this process: one pair finds room, then a client's end takes the last descriptor.
        let fillers = leave_room_for(3, &limit);
        let mut refused = 0;
        for _ in 0..3 {
            // The connection's client end takes one; some of the server's ends find none.
            let Ok(mut socket) = std::net::TcpStream::connect(address(&running)) else { break };
            // Each answer is waited for, so that who gets the last descriptor does not depend on who is quicker.
            socket.set_read_timeout(Some(PATIENCE)).unwrap();
            socket.write_all(&upgrade_request()).unwrap();
            let mut answer = [0; 12];
            if socket.read_exact(&mut answer).is_ok() && &answer == b"HTTP/1.1 503" {
                refused += 1;
            }
            pairs.push(socket);
        }
        assert!(refused >= 1, "somebody was refused");
        assert!(counter(&running, "connections_rejected", "reason=\"descriptors\"") >= 1);
        first.send_text("unharmed");
        assert_eq!(first.hear(), text("unharmed"));
        let parks = counter(&running, "parks", "");
        std::thread::sleep(Duration::from_millis(500));
        assert!(counter(&running, "parks", "") - parks < 20, "it does not spin");

        drop((clients, pairs, fillers));
        eventually("it recovers alone", || {
            counter(&running, "connections_open", "") == 1 && {
                let mut client = Client::new(&running);
                client.send_text("welcome back");
                client.hear() == text("welcome back")
            }
        });
        setrlimit(Resource::Nofile, limit).unwrap();
        running.stop_now();
        running.wait();
    }
}
