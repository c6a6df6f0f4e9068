//! Shards on real sockets, on both drivers, driving a service that does what its clients say.
#![allow(clippy::disallowed_methods, reason = "tests on real sockets live in real time")]

mod support;

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::Arc;
use std::time::{Duration, Instant as Clock};

use fanwire_codec::ws::Kind;
use fanwire_codec::ws::handshake::write_request;
use fanwire_core::access::Access;
use fanwire_core::message_center::MessageCenter;
use fanwire_core::{CoreConfig, Limits};
use fanwire_io::{Config, Deadlines, Driver, Rung, StartError, start};
use support::{
    Client, KEY, PATIENCE, Puppet, Word, address, config, connect, counter, eventually, exchange, frame, run,
    text, upgrade_request,
};

const DRIVERS: [Driver; 2] = [Driver::Auto, Driver::Epoll];

fn ms(milliseconds: u64) -> Duration {
    Duration::from_millis(milliseconds)
}

fn with_deadlines(driver: Driver, change: impl FnOnce(&mut Deadlines)) -> Config {
    let mut config = config(driver);
    change(&mut config.deadlines);
    config
}

#[test]
fn messages_come_back_and_the_close_handshake_ends_cleanly() {
    for driver in DRIVERS {
        let running = run(config(driver));
        let mut client = Client::new(&running);
        client.send_text("hello");
        assert_eq!(client.hear(), text("hello"));
        client.send_ping(b"payload");
        assert_eq!(client.hear(), Word::Pong(b"payload".to_vec()));
        client.send_close(3000);
        assert_eq!(client.hear(), Word::Close(Some(3000)));
        assert_eq!(client.hear(), Word::End);
        drop(client);
        eventually("the connection is closed", || counter(&running, "connections_open", "") == 0);
        assert_eq!(counter(&running, "connections_closed", "reason=\"peer\""), 1);
        assert_eq!(counter(&running, "puppet_messages", ""), 1);
        running.stop_now();
        running.wait();
    }
}

#[test]
fn epoll_is_used_when_asked_for() {
    let running = run(config(Driver::Epoll));
    assert_eq!(running.shards()[0].driver.rung, Rung::Epoll);
    running.stop_now();
    running.wait();
}

#[test]
fn bytes_that_come_one_by_one_are_the_same_conversation() {
    for driver in DRIVERS {
        let running = run(config(driver));
        let mut socket = Client::raw(&running);
        socket.set_nodelay(true).unwrap();
        for byte in upgrade_request() {
            socket.write_all(&[byte]).unwrap();
        }
        let mut client = Client::upgraded(socket, &[]);
        for byte in [frame(Kind::Text, "Grüße".as_bytes()), frame(Kind::Binary, &[7; 300])].concat() {
            client.socket.write_all(&[byte]).unwrap();
        }
        assert_eq!(client.hear(), text("Grüße"));
        assert_eq!(client.hear(), Word::Binary(vec![7; 300]));
    }
}

#[test]
fn frames_right_behind_the_request_are_heard() {
    for driver in DRIVERS {
        let running = run(config(driver));
        let mut socket = Client::raw(&running);
        socket.write_all(&[upgrade_request(), frame(Kind::Text, b"hasty")].concat()).unwrap();
        assert_eq!(Client::upgraded(socket, &[]).hear(), text("hasty"));
    }
}

#[test]
fn requests_that_are_no_upgrade_get_words_and_a_close() {
    let running = run(config(Driver::Auto));
    let upgrade = String::from_utf8(upgrade_request()).unwrap();
    let with = |field: &str| upgrade.replace("\r\n\r\n", &format!("\r\n{field}\r\n\r\n"));
    let table = [
        (upgrade.replace("/ws", "/elsewhere"), "404", "/ws"),
        ("GET /ws HTTP/1.1\r\nHost: a\r\n\r\n".to_owned(), "426", "WebSocket"),
        (with("Origin: https://evil.test"), "403", "listener.allowed_origins"),
        (with("Sec-WebSocket-Protocol: unknown"), "400", "puppet"),
        ("\x16\x03\x01\x02\x00".to_owned(), "400", ""),
        (format!("GET /ws HTTP/1.1\r\nHost: a\r\nx: {}\r\n\r\n", "y".repeat(9000)), "431", ""),
        (
            format!("{upgrade}GET /ws HTTP/1.1\r\n\r\n").replace("Upgrade: websocket", "Upgrade: h2c"),
            "426",
            "",
        ),
    ];
    for (request, status, words) in table {
        let answer = exchange(&running, request.as_bytes());
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{request:?}: {answer}");
        assert!(answer.contains(words), "{answer}");
        assert_eq!(
            answer.matches("\r\nContent-Length: ").count(),
            1,
            "one response, whatever was sent: {answer}"
        );
    }
    assert_eq!(counter(&running, "connections_rejected", "reason=\"origin\""), 1);
    assert_eq!(counter(&running, "connections_rejected", "reason=\"path\""), 1);
}

/// Sends byte by byte until something comes back. False = all was sent before.
fn drip(socket: &mut TcpStream, bytes: &[u8], pause: Duration) -> bool {
    for byte in bytes {
        socket.set_nonblocking(true).unwrap();
        let heard = socket.peek(&mut [0]);
        socket.set_nonblocking(false).unwrap();
        if heard.is_ok() || socket.write_all(&[*byte]).is_err() {
            return true;
        }
        std::thread::sleep(pause);
    }
    false
}

#[test]
fn a_request_that_drips_is_cut_off_at_an_absolute_deadline() {
    for driver in DRIVERS {
        let running = run(with_deadlines(driver, |deadlines| deadlines.handshake = ms(300)));
        let mut socket = Client::raw(&running);
        let began = Clock::now();
        // A head that takes half a minute at this pace.
        let mut request = upgrade_request();
        request.truncate(request.len() - 2);
        request.extend_from_slice(&[b"x: ", &[b'y'; 1_200][..], b"\r\n\r\n"].concat());
        let answered = drip(&mut socket, &request, ms(20));
        assert!(answered, "the whole request was waited for");
        assert!(began.elapsed() >= ms(300), "cut before the deadline");
        let mut answer = Vec::new();
        let _ = socket.read_to_end(&mut answer);
        let answer = String::from_utf8(answer).unwrap();
        assert!(answer.starts_with("HTTP/1.1 408 "), "{answer}");
        drop(socket);
        eventually("it is counted", || {
            counter(&running, "connections_closed", "reason=\"handshake_timeout\"") == 1
        });
    }
}

#[test]
fn a_session_that_does_not_log_in_is_closed() {
    for driver in DRIVERS {
        let running = run(with_deadlines(driver, |deadlines| deadlines.login = ms(300)));
        let mut idle = Client::with(Client::raw(&running), &["puppet"]);
        // The login comes in one piece with the request: however slow this thread is, it is in time.
        let mut socket = Client::raw(&running);
        let mut request = bytes::BytesMut::new();
        write_request(&mut request, "localhost", "/ws", &["puppet"], KEY, &[]).unwrap();
        socket.write_all(&[&request[..], &frame(Kind::Text, b"login")].concat()).unwrap();
        let mut logged_in = Client::upgraded(socket, &["puppet"]);
        assert_eq!(idle.hear(), Word::Close(Some(1008)));
        logged_in.send_text("still here");
        assert_eq!(logged_in.hear(), text("still here"));
    }
}

#[test]
fn before_login_messages_are_small() {
    let running = run(config(Driver::Auto));
    let mut client = Client::with(Client::raw(&running), &["puppet"]);
    client.socket.write_all(&frame(Kind::Text, &[b'a'; 17 << 10])).unwrap();
    assert_eq!(client.hear(), Word::Close(Some(1009)));
    let mut client = Client::with(Client::raw(&running), &["puppet"]);
    client.send_text("login");
    client.send_text("x");
    assert_eq!(client.hear(), text("x"));
    client.socket.write_all(&frame(Kind::Binary, &[1; 17 << 10])).unwrap();
    assert_eq!(client.hear(), Word::Binary(vec![1; 17 << 10]));
}

#[test]
fn a_message_that_is_never_completed_is_given_up() {
    for driver in DRIVERS {
        let running = run(with_deadlines(driver, |deadlines| deadlines.message = ms(300)));
        let mut client = Client::new(&running);
        let whole = frame(Kind::Text, &[b'a'; 100]);
        client.socket.write_all(&whole[..50]).unwrap();
        std::thread::sleep(ms(150));
        client.socket.write_all(&whole[50..60]).unwrap();
        assert_eq!(client.hear(), Word::Close(Some(1008)));
        drop(client);
        eventually("it is counted", || {
            counter(&running, "connections_closed", "reason=\"message_timeout\"") == 1
        });
    }
}

#[test]
fn silent_clients_are_pinged_and_closed_if_they_stay_silent() {
    for driver in DRIVERS {
        let running = run(with_deadlines(driver, |deadlines| {
            deadlines.ping_interval = ms(200);
            deadlines.pong_wait = ms(2_000);
        }));
        let mut alive = Client::new(&running);
        for _ in 0..2 {
            assert_eq!(alive.hear(), Word::Ping);
            alive.send_pong();
        }
        drop(alive);
        let mut silent = Client::new(&running);
        assert_eq!(silent.hear(), Word::Ping);
        assert_eq!(silent.hear(), Word::Close(Some(1008)));
    }
}

#[test]
fn shorter_deadlines_count_for_connections_that_are_there() {
    for driver in DRIVERS {
        let before = with_deadlines(driver, |deadlines| deadlines.ping_interval = 60 * PATIENCE);
        let running = run(before.clone());
        let mut client = Client::new(&running);
        client.send_text("there");
        assert_eq!(client.hear(), text("there"));
        let mut after = before;
        after.deadlines.ping_interval = ms(100);
        let core = CoreConfig {
            access: Access::new(&[], 1).unwrap(),
            limits: Limits::default(),
            compression: None,
            agent: String::new(),
            message_center: MessageCenter::default(),
            echo: Default::default(),
            wamp1: Default::default(),
            handlers: Vec::new(),
        };
        running.renew(after, Arc::new(core)).unwrap();
        assert_eq!(client.hear(), Word::Ping);
    }
}

#[test]
fn who_speaks_is_not_pinged() {
    for driver in DRIVERS {
        let running = run(with_deadlines(driver, |deadlines| deadlines.ping_interval = ms(500)));
        let mut busy = Client::new(&running);
        let began = Clock::now();
        let mut longest = Duration::ZERO;
        while began.elapsed() < ms(1_500) {
            let silent = Clock::now();
            std::thread::sleep(ms(20));
            busy.send_text("x");
            let mut word = busy.hear();
            while word == Word::Ping {
                word = busy.hear();
            }
            assert_eq!(word, text("x"));
            longest = longest.max(silent.elapsed());
        }
        // On a machine that kept this thread waiting it was not busy, and proves nothing.
        let pings = counter(&running, "pings", "");
        assert!(pings == 0 || longest > ms(400), "{pings} pings though never silent for over {longest:?}");
    }
}

/// A shard that had no time for its sockets must not take it for their peers' silence.
#[test]
fn what_has_come_during_a_stall_counts_before_the_deadlines() {
    for driver in DRIVERS {
        let running = run(with_deadlines(driver, |deadlines| {
            deadlines.ping_interval = ms(100);
            deadlines.pong_wait = ms(3_000);
            deadlines.message = ms(3_000);
        }));
        let mut staller = Client::new(&running);
        let mut writing = Client::new(&running);
        let mut alive = Client::new(&running);
        assert_eq!(alive.hear(), Word::Ping);
        let whole = frame(Kind::Text, &[b'a'; 100]);
        writing.socket.write_all(&whole[..50]).unwrap();
        staller.send_text("stall 4000");
        alive.send_pong();
        alive.send_text("here");
        writing.socket.write_all(&whole[50..]).unwrap();
        let mut words = Word::Ping;
        while words == Word::Ping {
            words = alive.hear();
        }
        assert_eq!(words, text("here"));
        let mut words = Word::Ping;
        while words == Word::Ping {
            words = writing.hear();
        }
        assert_eq!(words, text(&"a".repeat(100)));
    }
}

/// A pong that waits behind data which the peer is still taking is not overdue; that of a peer which takes nothing is.
#[test]
fn a_slow_reader_is_not_taken_for_a_dead_one() {
    for driver in DRIVERS {
        let running = run(with_deadlines(driver, |deadlines| {
            deadlines.ping_interval = ms(200);
            deadlines.pong_wait = ms(500);
            deadlines.close = ms(200);
        }));
        let small = || {
            let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
            socket.set_recv_buffer_size(4096).unwrap();
            socket.connect(&address(&running).into()).unwrap();
            let socket = TcpStream::from(socket);
            socket.set_read_timeout(Some(PATIENCE)).unwrap();
            Client::with(socket, &[])
        };
        // Less than our kernel takes, so that nothing waits in the outbox; more than the peer has room for.
        let words = "x".repeat(60_000);
        let mut slow = small();
        slow.send_text(&words);
        let mut unread = 55_000;
        while unread > 0 {
            let mut piece = vec![0; 1_000.min(unread)];
            let count = slow.socket.read(&mut piece).unwrap();
            assert!(count > 0, "it was cut with {unread} bytes to go");
            unread -= count;
            std::thread::sleep(ms(40));
        }
        assert_eq!(counter(&running, "connections_closed", "reason=\"pong_timeout\""), 0);
        assert!(counter(&running, "pings", "") >= 1, "it was pinged meanwhile");

        let mut stuck = small();
        stuck.send_text(&words);
        eventually("who takes nothing is cut", || {
            counter(&running, "connections_closed", "reason=\"pong_timeout\"") >= 1
        });
    }
}

#[test]
fn the_service_can_close_and_the_peer_answers() {
    for driver in DRIVERS {
        let running = run(config(driver));
        let mut client = Client::new(&running);
        client
            .socket
            .write_all(&[frame(Kind::Text, b"close"), frame(Kind::Text, b"unheard")].concat())
            .unwrap();
        assert_eq!(client.hear(), Word::Close(Some(4000)));
        client.send_close(4000);
        assert_eq!(client.hear(), Word::End);
        drop(client);
        eventually("it is counted", || counter(&running, "connections_closed", "reason=\"router\"") == 1);
    }
}

#[test]
fn a_peer_that_does_not_answer_the_close_is_dropped() {
    for driver in DRIVERS {
        let running = run(with_deadlines(driver, |deadlines| deadlines.close = ms(200)));
        let mut client = Client::new(&running);
        client.send_text("close");
        assert_eq!(client.hear(), Word::Close(Some(4000)));
        eventually("it is dropped", || counter(&running, "connections_open", "") == 0);
    }
}

#[test]
fn a_protocol_error_ends_one_connection_with_its_code() {
    for driver in DRIVERS {
        let running = run(config(driver));
        let mut other = Client::new(&running);
        for (bytes, code) in [
            (&b"\x81\x05hello"[..], 1002),
            (b"\xc1\x80\0\0\0\0", 1002),
            (b"\x81\x82\0\0\0\0\xff\xff", 1007),
            (b"\x82\xff\x7f\xff\xff\xff\xff\xff\xff\xff\0\0\0\0", 1009),
        ] {
            let mut client = Client::new(&running);
            client.socket.write_all(bytes).unwrap();
            assert_eq!(client.hear(), Word::Close(Some(code)));
            assert_eq!(client.hear(), Word::End);
        }
        other.send_text("unharmed");
        assert_eq!(other.hear(), text("unharmed"));
    }
}

#[test]
fn a_client_that_goes_away_is_noticed() {
    for driver in DRIVERS {
        let running = run(config(driver));
        drop(Client::new(&running));
        drop(Client::raw(&running));
        let half = Client::new(&running);
        half.socket.shutdown(Shutdown::Write).unwrap();
        eventually("half-closed clients are closed too", || {
            counter(&running, "connections_accepted", "") == 3
                && counter(&running, "connections_open", "") == 0
        });
        // A reset in the middle of a frame.
        let mut client = Client::new(&running);
        client.socket.write_all(&frame(Kind::Text, &[b'a'; 100])[..20]).unwrap();
        socket2::SockRef::from(&client.socket).set_linger(Some(Duration::ZERO)).unwrap();
        drop(client);
        eventually("a reset is noticed", || {
            counter(&running, "connections_accepted", "") == 4
                && counter(&running, "connections_open", "") == 0
        });
        assert_eq!(counter(&running, "puppet_messages", ""), 0);
    }
}

#[test]
fn what_is_due_goes_out_to_a_client_that_only_stopped_sending() {
    for driver in DRIVERS {
        let running = run(config(driver));
        let mut client = Client::new(&running);
        let big = vec![7; 4 << 20];
        let mut writer = client.socket.try_clone().unwrap();
        let config_limit = 1 << 20;
        for part in big.chunks(config_limit / 2) {
            writer.write_all(&frame(Kind::Binary, part)).unwrap();
        }
        writer.shutdown(Shutdown::Write).unwrap();
        let mut got = 0;
        loop {
            match client.hear() {
                Word::Binary(part) => got += part.len(),
                Word::Close(_) => {}
                Word::End => break,
                other => panic!("{other:?}"),
            }
        }
        assert_eq!(got, big.len());
    }
}

#[test]
fn a_paused_connection_is_not_read_and_keeps_its_order() {
    for driver in DRIVERS {
        let running = run(config(driver));
        let mut client = Client::new(&running);
        let began = Clock::now();
        let burst: Vec<_> = ["a", "pause", "b", "pause", "c"]
            .iter()
            .flat_map(|words| frame(Kind::Text, words.as_bytes()))
            .collect();
        client.socket.write_all(&burst).unwrap();
        client.send_text("d");
        for expected in ["a", "pause", "b", "pause", "c", "d"] {
            assert_eq!(client.hear(), text(expected));
        }
        assert!(began.elapsed() >= ms(100));
        // A paused connection that goes away is noticed at the latest when it is resumed.
        client.send_text("pause");
        drop(client);
        eventually("it is gone", || counter(&running, "connections_open", "") == 0);
    }
}

#[test]
fn large_messages_arrive_whole() {
    for driver in DRIVERS {
        let mut config = config(driver);
        config.message_bytes_max = 16 << 20;
        let running = run(config);
        let mut client = Client::new(&running);
        let payload: Vec<u8> = (0..12u32 << 20).map(|i| (i ^ (i >> 9)) as u8).collect();
        let sent = frame(Kind::Binary, &payload);
        let mut writer = client.socket.try_clone().unwrap();
        let sending = std::thread::spawn(move || writer.write_all(&sent).unwrap());
        assert!(client.hear() == Word::Binary(payload), "the message came back changed");
        sending.join().unwrap();
    }
}

/// A receive that ends a large message brings what follows it too.
#[test]
fn what_follows_a_large_message_waits_for_it_and_is_heard() {
    for driver in DRIVERS {
        let running = run(config(driver));
        let mut client = Client::new(&running);
        let large = |first: &str, round: usize| format!("{first} {}", "é".repeat(100_000 + round));
        for round in 0..4 {
            let words =
                [large("pause", round), "a".into(), large("on", round), large("and on", round), "b".into()];
            let sent: Vec<_> = words.iter().flat_map(|words| frame(Kind::Text, words.as_bytes())).collect();
            let mut writer = client.socket.try_clone().unwrap();
            let sending = std::thread::spawn(move || writer.write_all(&sent).unwrap());
            for expected in &words {
                assert!(client.hear() == text(expected), "round {round}, {} bytes", expected.len());
            }
            sending.join().unwrap();
        }
    }
}

/// Right behind it, or anywhere.
#[test]
fn a_violation_behind_a_large_message_does_not_lose_that() {
    for driver in DRIVERS {
        let running = run(config(driver));
        for behind in [&b"\x83\x80\0\0\0\0"[..], &frame(Kind::Text, b"a\xffb")] {
            let mut client = Client::new(&running);
            let words = "x".repeat(200_000);
            let sent = [&frame(Kind::Text, words.as_bytes()), behind].concat();
            let mut writer = client.socket.try_clone().unwrap();
            let sending = std::thread::spawn(move || writer.write_all(&sent).unwrap());
            assert!(client.hear() == text(&words));
            let code = if behind[0] == 0x83 { 1002 } else { 1007 };
            assert_eq!(client.hear(), Word::Close(Some(code)));
            sending.join().unwrap();
        }
    }
}

#[test]
fn a_flood_is_answered_in_order() {
    for driver in DRIVERS {
        let running = run(config(driver));
        let mut client = Client::new(&running);
        let mut writer = client.socket.try_clone().unwrap();
        let sending = std::thread::spawn(move || {
            for block in 0..200 {
                let burst: Vec<_> = (0..100)
                    .flat_map(|i| frame(Kind::Text, format!("{}", block * 100 + i).as_bytes()))
                    .collect();
                writer.write_all(&burst).unwrap();
            }
        });
        for i in 0..20_000 {
            assert_eq!(client.hear(), text(&i.to_string()));
        }
        sending.join().unwrap();
        assert!(counter(&running, "sends", "") < 10_000, "echoes of one turn share a send");
    }
}

#[test]
fn a_ping_flood_costs_no_memory_and_the_latest_is_answered() {
    for driver in DRIVERS {
        let running = run(config(driver));
        let mut client = Client::new(&running);
        let mut out = bytes::BytesMut::new();
        for i in 0..50_000u32 {
            let control = fanwire_codec::ws::Control::Ping;
            fanwire_codec::ws::write_client_control(&mut out, control, &i.to_be_bytes(), [0; 4]);
        }
        let mut writer = client.socket.try_clone().unwrap();
        let sending = std::thread::spawn(move || writer.write_all(&out).unwrap());
        let mut pongs = 0;
        loop {
            match client.hear() {
                Word::Pong(payload) if payload == 49_999u32.to_be_bytes() => break,
                Word::Pong(_) => pongs += 1,
                other => panic!("{other:?}"),
            }
        }
        sending.join().unwrap();
        assert!(pongs < 50_000, "a flood is not answered one by one");
    }
}

#[test]
fn shards_wake_each_other() {
    for driver in DRIVERS {
        let running = run(Config { shards: Some(2), ..config(driver) });
        // The kernel spreads connections by hash: connect until both shards have one.
        let mut clients: [Option<Client>; 2] = [None, None];
        while clients.iter().any(Option::is_none) {
            let mut client = Client::new(&running);
            client.send_text("where");
            let Word::Text(shard) = client.hear() else { panic!("a shard number") };
            clients[shard.parse::<usize>().unwrap()].get_or_insert(client);
        }
        let [Some(first), Some(second)] = &mut clients else { panic!("both are there") };
        let parks = || counter(&running, "parks", "");
        let wakes = counter(&running, "wakes", "");
        for i in 0..300 {
            if i % 10 == 0 {
                // Let both fall asleep: nothing is due, so the count of parks comes to rest.
                let mut before = parks();
                loop {
                    std::thread::sleep(ms(3));
                    let now = parks();
                    if now == before {
                        break;
                    }
                    before = now;
                }
            }
            first.send_text(&format!("to 1 ping {i}"));
            assert_eq!(second.hear(), text(&format!("ping {i}")));
            second.send_text(&format!("to 0 pong {i}"));
            assert_eq!(first.hear(), text(&format!("pong {i}")));
        }
        assert_eq!(counter(&running, "ring_items", "direction=\"in\""), 600);
        assert!(counter(&running, "wakes", "") > wakes, "nobody was ever woken");
    }
}

/// Looking on before sleeping loses nothing, neither from sockets nor from rings, and ends.
#[test]
fn shards_that_look_on_before_they_sleep_hear_of_everything() {
    for driver in DRIVERS {
        let running = run(Config { shards: Some(2), spin: ms(1), ..config(driver) });
        let mut clients: [Option<Client>; 2] = [None, None];
        while clients.iter().any(Option::is_none) {
            let mut client = Client::new(&running);
            client.send_text("where");
            let Word::Text(shard) = client.hear() else { panic!("a shard number") };
            clients[shard.parse::<usize>().unwrap()].get_or_insert(client);
        }
        let [Some(first), Some(second)] = &mut clients else { panic!("both are there") };
        let mut round = 0;
        eventually("looking on has found something, and nothing", || {
            for _ in 0..50 {
                first.send_text(&format!("to 1 ping {round}"));
                assert_eq!(second.hear(), text(&format!("ping {round}")));
                second.send_text(&format!("to 0 pong {round}"));
                assert_eq!(first.hear(), text(&format!("pong {round}")));
                round += 1;
            }
            let spins = |outcome| counter(&running, "spins", outcome);
            spins("outcome=\"paid\"") > 0 && spins("outcome=\"vain\"") > 0
        });
        eventually("both sleep", || {
            let parks = counter(&running, "parks", "");
            std::thread::sleep(ms(20));
            counter(&running, "parks", "") == parks
        });
    }
}

#[test]
fn many_connections_at_once_are_all_served() {
    for driver in DRIVERS {
        let running = run(Config { shards: Some(2), ..config(driver) });
        let address = support::address(&running);
        let sockets: Vec<_> = (0..500).map(|_| connect(address)).collect();
        let mut clients: Vec<_> = sockets.into_iter().map(|socket| Client::with(socket, &[])).collect();
        for (i, client) in clients.iter_mut().enumerate() {
            client.send_text(&i.to_string());
        }
        for (i, client) in clients.iter_mut().enumerate() {
            assert_eq!(client.hear(), text(&i.to_string()));
        }
        drop(clients);
        eventually("all are gone", || counter(&running, "connections_open", "") == 0);
    }
}

#[test]
fn beyond_the_limit_of_connections_the_answer_is_503() {
    let running = run(Config { connections_max_per_shard: Some(2), ..config(Driver::Auto) });
    let first = Client::new(&running);
    let _second = Client::new(&running);
    assert!(exchange(&running, &upgrade_request()).starts_with("HTTP/1.1 503 "));
    assert_eq!(counter(&running, "connections_rejected", "reason=\"connections_max\""), 1);
    drop(first);
    eventually("there is room", || counter(&running, "connections_open", "") == 1);
    Client::new(&running);
}

#[test]
fn an_idle_shard_uses_no_cpu() {
    for driver in DRIVERS {
        let running = run(config(driver));
        let _clients: Vec<_> = (0..100).map(|_| Client::new(&running)).collect();
        eventually("it has served the last of them", || {
            let parks = counter(&running, "parks", "");
            std::thread::sleep(ms(100));
            counter(&running, "parks", "") == parks
        });
        let before = counter(&running, "parks", "");
        let cpu = cpu_time();
        std::thread::sleep(ms(1000));
        let used = cpu_time() - cpu;
        let parks = counter(&running, "parks", "") - before;
        assert!(parks <= 3, "the shard woke {parks} times for nothing");
        // The clock ticks of /proc are 10 ms, and other tests may run in this process: for whoever reads the output.
        println!("idle for a second: {used:?} of CPU");
    }
}

/// User and system time of this process.
fn cpu_time() -> Duration {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    let fields: Vec<&str> = stat.rsplit_once(") ").unwrap().1.split(' ').collect();
    let ticks: u64 = fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap();
    ms(ticks * 10)
}

#[test]
fn a_drain_says_goodbye_to_everybody_and_ends() {
    for driver in DRIVERS {
        let running = run(Config { shards: Some(2), drain_time: 2 * PATIENCE, ..config(driver) });
        let clients: Vec<_> = (0..6).map(|_| Client::new(&running)).collect();
        let mut half_done = Client::raw(&running);
        eventually("all are accepted", || counter(&running, "connections_accepted", "") == 7);
        let began = Clock::now();
        running.drain();
        for mut client in clients {
            assert_eq!(client.hear(), text("goodbye"));
            assert_eq!(client.hear(), Word::Close(Some(1001)));
            client.send_close(1001);
            assert_eq!(client.hear(), Word::End);
        }
        assert_eq!(half_done.read(&mut [0]).unwrap(), 0, "it is told nothing");
        drop(half_done);
        running.wait();
        assert!(running.has_ended());
        assert!(began.elapsed() < PATIENCE, "a few connections do not take the whole time");
        assert!(std::net::TcpStream::connect(address(&running)).is_err());
        assert_eq!(counter(&running, "connections_open", ""), 0);
    }
}

#[test]
fn a_drain_ends_in_time_although_nobody_listens_to_it() {
    for driver in DRIVERS {
        let running = run(Config { drain_time: ms(500), ..config(driver) });
        let _clients: Vec<_> = (0..20).map(|_| Client::new(&running)).collect();
        let began = Clock::now();
        running.drain();
        running.wait();
        assert!((ms(450)..PATIENCE).contains(&began.elapsed()), "{:?}", began.elapsed());
    }
}

#[test]
fn stopping_now_needs_no_answers() {
    for driver in DRIVERS {
        let running = run(Config { shards: Some(2), ..config(driver) });
        let mut client = Client::new(&running);
        running.drain();
        running.stop_now();
        running.wait();
        while let Ok(word) = client.try_hear() {
            if word == Word::End {
                break;
            }
        }
    }
}

#[test]
fn an_address_in_use_is_refused_before_anything_runs() {
    let running = run(config(Driver::Auto));
    let mut second = config(Driver::Auto);
    second.listeners[0].address = address(&running).into();
    match start(second, |id, _| Puppet::new(id)) {
        Err(StartError::Listen { listener: 0, address: refused, source }) => {
            assert_eq!(refused.ip(), Some(address(&running)));
            assert_eq!(source.kind(), std::io::ErrorKind::AddrInUse);
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn impossible_configurations_are_refused_with_words() {
    let words = |config: Config| start(config, |id, _| Puppet::new(id)).unwrap_err().to_string();
    assert!(words(Config::default()).contains("listener"));
    assert!(words(Config { shards: Some(0), ..config(Driver::Auto) }).contains("1 to 63"));
    assert!(words(Config { shards: Some(64), ..config(Driver::Auto) }).contains("1 to 63"));
    assert!(words(Config { cpus: Some(vec![]), ..config(Driver::Auto) }).contains("CPU"));
    assert!(words(Config { cpus: Some(vec![1000]), ..config(Driver::Auto) }).contains("CPU 1000"));
}

/// Runs this test program again, as its own process, with only the named test.
fn as_a_process(test: &str) -> std::process::Output {
    std::process::Command::new(std::env::current_exe().unwrap())
        .args(["--exact", test, "--nocapture", "--ignored"])
        .output()
        .unwrap()
}

#[test]
fn a_panic_while_routing_aborts_the_process() {
    use std::os::unix::process::ExitStatusExt;
    let output = as_a_process("helper_that_panics_while_routing");
    // SIGABRT.
    assert_eq!(output.status.signal(), Some(6), "{output:?}");
    assert!(String::from_utf8_lossy(&output.stderr).contains("panicked while routing"));
}

#[test]
#[ignore = "a helper of a_panic_while_routing_aborts_the_process"]
fn helper_that_panics_while_routing() {
    let running = run(config(Driver::Auto));
    Client::new(&running).send_text("panic");
    std::thread::sleep(Duration::from_secs(5));
}
