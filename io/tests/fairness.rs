//! Who is read when everybody sends.

mod support;

use std::io::Write;
use std::sync::atomic::Ordering;

use fanwire_codec::ws::Kind;
use fanwire_io::Driver;
use support::{Client, PAGE_BYTES, STALLED, Word, config, eventually, frame, run, text};

/// 64 connections of one realm have 256 KiB in their sockets, the only one of another realm has 8 receives' worth. Were they
/// read one after another without regard to realms, it would be read to its end when they are.
#[test]
fn a_crowd_of_one_realm_takes_every_second_receive_from_the_only_one_of_another() {
    for driver in [Driver::Auto, Driver::Epoll] {
        let running = run(config(driver));
        let join = |group: &str| {
            let mut client = Client::new(&running);
            client.send_text(group);
            assert_eq!(client.hear(), text(group));
            client
        };
        let mut crowd: Vec<_> = (0..64).map(|_| join("group 1")).collect();
        let mut single = join("group 2");
        let mut staller = Client::new(&running);
        staller.send_text("stall");
        eventually("the shard stands still", || STALLED.load(Ordering::SeqCst));
        // 257 small messages for each of the crowd, nobody of whom wants an answer that is read.
        let small = frame(Kind::Binary, &[7; 1_016]);
        for client in &mut crowd {
            client.socket.write_all(&small.repeat(257)).unwrap();
        }
        let half = frame(Kind::Binary, &[8; 32 << 10]);
        single.socket.write_all(&half.repeat(16)).unwrap();
        single.send_text("count");
        STALLED.store(false, Ordering::SeqCst);
        let count = loop {
            match single.hear() {
                Word::Text(count) => break count.parse::<u64>().unwrap(),
                Word::Binary(_) => {}
                other => panic!("{other:?}"),
            }
        };
        // 9 to 10 receives of its own, and one of the crowd, 64 messages, for each; they have 16,448 in all.
        assert!(count < 2_500, "{count} messages were handled before the last of its 17");
        running.stop_now();
        running.wait();
    }
}

/// Only a flush finds out that a client does not read, so it comes before more is answered than an outbox is for. All is answered, and in
/// order.
#[test]
fn what_is_said_in_one_turn_is_bounded_however_much_was_asked() {
    for driver in [Driver::Auto, Driver::Epoll] {
        let running = run(config(driver));
        let mut client = Client::new(&running);
        let mut staller = Client::new(&running);
        staller.send_text("stall");
        eventually("the shard stands still", || STALLED.load(Ordering::SeqCst));
        // All of it is there when it goes on: 60 KB that ask for 6 MB.
        let (pages, page) = (6_000, frame(Kind::Text, b"page"));
        client.socket.write_all(&page.repeat(pages)).unwrap();
        client.send_text("said");
        STALLED.store(false, Ordering::SeqCst);
        let heard = (0..pages)
            .filter(|_| matches!(client.hear(), Word::Text(page) if page.len() == PAGE_BYTES))
            .count();
        assert_eq!(heard, pages);
        let Word::Text(said) = client.hear() else { panic!("it says how much") };
        let said = said.parse::<usize>().unwrap();
        assert!(said < 512 << 10, "{said} bytes at once");
        running.stop_now();
        running.wait();
    }
}
