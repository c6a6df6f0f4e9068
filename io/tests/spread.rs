//! Connections are spread evenly over the shards, wherever the kernel put them, and none is lost on its way.
#![allow(clippy::disallowed_methods, reason = "tests on real sockets live in real time")]

mod support;

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use fanwire_io::{Config, Driver, Running};
use support::{
    Client, Word, address, config, connect, counter, counters, eventually, run, text, upgrade_request,
};

const DRIVERS: [Driver; 2] = [Driver::Auto, Driver::Epoll];

fn shards(driver: Driver, count: usize) -> Config {
    Config { shards: Some(count), ..config(driver) }
}

/// Open connections of each shard, once all of them are `total`.
fn settled(running: &Running, total: u64) -> Vec<u64> {
    eventually("all are placed", || counter(running, "connections_open", "") == total);
    counters(running, "connections_open", "")
}

#[test]
fn eight_connections_on_four_shards_are_two_each() {
    for driver in DRIVERS {
        let running = run(shards(driver, 4));
        for round in 1..=2 {
            let mut clients: Vec<_> = (0..8).map(|_| Client::new(&running)).collect();
            assert_eq!(settled(&running, 8), [2; 4], "round {round}");
            for client in &mut clients {
                client.send_text("hello");
                assert_eq!(client.hear(), text("hello"));
            }
            drop(clients);
            assert_eq!(settled(&running, 0), [0; 4]);
        }
        // Handed once at most: every connection is accepted by one shard alone.
        assert_eq!(counter(&running, "connections_accepted", ""), 16);
        assert!(counter(&running, "connections_handed_over", "to=\"shard\"") <= 16);
        running.stop_now();
        running.wait();
    }
}

#[test]
fn a_thousand_at_once_are_even_and_those_who_left_are_made_up_for() {
    for driver in DRIVERS {
        let running = run(shards(driver, 4));
        let address = support::address(&running);
        let mut clients: Vec<_> = (0..1000).map(|_| connect(address)).collect();
        // What the rule allows: a thirty-second of the fewest, each time.
        let even = |counts: Vec<u64>, times: u64| {
            let (least, most) = (counts.iter().min().unwrap(), counts.iter().max().unwrap());
            assert!(most - least <= times * (least / 32 + 1), "{counts:?}");
        };
        even(settled(&running, 1000), 1);

        // All connections of one shard end.
        let mut at = 0;
        clients.retain_mut(|socket| {
            let mut client = Client::with(socket.try_clone().unwrap(), &[]);
            client.send_text("where");
            at += 1;
            client.hear() != text("3")
        });
        assert_eq!(settled(&running, clients.len() as u64)[3], 0);
        clients.extend((clients.len()..1000).map(|_| connect(address)));
        even(settled(&running, 1000), 2);
    }
}

#[test]
fn without_balance_a_connection_stays_where_the_kernel_put_it() {
    let running = run(Config { balance: false, ..shards(Driver::Auto, 4) });
    let _clients: Vec<_> = (0..100).map(|_| connect(address(&running))).collect();
    settled(&running, 100);
    assert_eq!(counter(&running, "connections_handed_over", "to=\"shard\""), 0);
}

#[test]
fn the_limit_of_connections_is_that_of_all_shards_together() {
    for driver in DRIVERS {
        let running = run(Config { connections_max_per_shard: Some(3), ..shards(driver, 4) });
        let clients: Vec<_> = (0..12).map(|_| Client::new(&running)).collect();
        let refused = support::exchange(&running, &upgrade_request());
        assert!(refused.starts_with("HTTP/1.1 503 "), "{refused}");
        assert_eq!(counter(&running, "connections_rejected", "reason=\"connections_max\""), 1);
        assert_eq!(settled(&running, 12), [3; 4]);
        drop(clients);
        settled(&running, 0);
        Client::new(&running);
    }
}

/// Bytes that are sent before the connection is handed over are read by whoever gets it.
#[test]
fn what_a_hasty_client_has_sent_moves_with_its_connection() {
    let running = run(shards(Driver::Auto, 4));
    let mut clients: Vec<_> = (0..64)
        .map(|number| {
            let mut socket = Client::raw(&running);
            let words = support::frame(fanwire_codec::ws::Kind::Text, format!("hasty {number}").as_bytes());
            socket.write_all(&[upgrade_request(), words].concat()).unwrap();
            socket
        })
        .collect();
    for (number, socket) in clients.drain(..).enumerate() {
        assert_eq!(Client::upgraded(socket, &[]).hear(), text(&format!("hasty {number}")));
    }
    assert!(counter(&running, "connections_handed_over", "to=\"shard\"") > 0, "some had to move");
}

/// Clients come and go in all ways while others talk; in the end nothing is left, and nothing was counted twice.
#[test]
fn nothing_is_lost_or_left_behind_in_a_storm() {
    for driver in DRIVERS {
        let running = run(shards(driver, 4));
        let address = support::address(&running);
        let before = open_descriptors();
        std::thread::scope(|scope| {
            for thread in 0..4 {
                scope.spawn(move || {
                    for number in 0..150 {
                        match (thread + number) % 4 {
                            // Gone before anybody could look at it.
                            0 => drop(connect(address)),
                            1 => support::reset(connect(address)),
                            _ => {
                                let mut client = Client::with(connect(address), &[]);
                                client.send_text("here");
                                assert_eq!(client.hear(), text("here"));
                            }
                        }
                    }
                });
            }
        });
        assert_eq!(settled(&running, 0), [0; 4]);
        // A reset connection may be gone before it is accepted.
        assert!((450..=600).contains(&counter(&running, "connections_accepted", "")));
        let mut clients: Vec<_> = (0..8).map(|_| Client::new(&running)).collect();
        assert_eq!(settled(&running, 8), [2; 4], "the counts are right after it");
        clients.iter_mut().for_each(|client| client.send_close(1000));
        drop(clients);
        settled(&running, 0);
        eventually("descriptors are closed", || open_descriptors() <= before);
    }
}

fn open_descriptors() -> usize {
    std::fs::read_dir("/proc/self/fd").unwrap().count()
}

/// A drain begins while connections come in: each client gets an end, and the shards end in time.
#[test]
fn a_drain_in_a_storm_ends_everybody() {
    for driver in DRIVERS {
        for _ in 0..3 {
            let running = run(Config { drain_time: Duration::from_secs(1), ..shards(driver, 4) });
            let address = support::address(&running);
            let over = AtomicBool::new(false);
            std::thread::scope(|scope| {
                let storms: Vec<_> = (0..3)
                    .map(|_| {
                        scope.spawn(|| {
                            let mut sockets = Vec::new();
                            while !over.load(Ordering::Relaxed) {
                                let Ok(socket) = TcpStream::connect(address) else { break };
                                socket.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
                                sockets.push(socket);
                            }
                            sockets
                        })
                    })
                    .collect();
                eventually("the storm blows", || counter(&running, "connections_accepted", "") > 100);
                running.drain();
                running.wait();
                over.store(true, Ordering::Relaxed);
                for mut socket in storms.into_iter().flat_map(|storm| storm.join().unwrap()) {
                    let mut answer = Vec::new();
                    // The kernel may have made the connection while the listener closed, and then knows nothing of it:
                    // only a client that says something is told.
                    let _ = socket.write_all(b"GET");
                    // A reset is an end too: the connection was not accepted yet.
                    if let Err(error) = socket.read_to_end(&mut answer) {
                        assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset, "{error}");
                    }
                }
            });
            assert_eq!(counter(&running, "connections_open", ""), 0);
        }
    }
}

/// Both shards sleep when the client comes; whoever gets it is woken.
#[test]
fn a_sleeping_shard_is_woken_for_a_connection() {
    for driver in DRIVERS {
        let running = run(shards(driver, 2));
        for _ in 0..50 {
            let mut first = Client::new(&running);
            let mut second = Client::new(&running);
            let mut places = Vec::new();
            for client in [&mut first, &mut second] {
                client.send_text("where");
                let Word::Text(place) = client.hear() else { panic!("a shard number") };
                places.push(place);
            }
            places.sort();
            assert_eq!(places, ["0", "1"]);
            drop((first, second));
            settled(&running, 0);
        }
    }
}
