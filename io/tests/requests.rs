//! What the control thread asks of a shard: in order, bounded, and also of one that sleeps.
#![allow(clippy::disallowed_methods, reason = "tests on real sockets live in real time")]

mod support;

use std::sync::Mutex;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

use fanwire_core::api::{ApiAnswer, ApiRequest, Ask, CLOSE_KILLED, SessionCursor, SessionFilter};
use fanwire_core::ids::{SessionId, ShardId};
use fanwire_io::{Config, Deadlines, Driver, Running};
use support::{Client, PATIENCE, STALLED, Word, config, counter, eventually, run, text};

/// A shard that stands still does so for all tests of this program.
static STALL: Mutex<()> = Mutex::new(());

const DRIVERS: [Driver; 2] = [Driver::Auto, Driver::Epoll];

fn shard(index: u8) -> ShardId {
    ShardId::new(index).expect("a shard")
}

fn listing(number: u32, answers: &Sender<(u32, ApiAnswer)>) -> ApiRequest {
    let answers = answers.clone();
    let filter = SessionFilter::default();
    let ask = Ask::Sessions { filter, after: SessionCursor::default(), limit: 1 };
    ApiRequest { ask, reply: Box::new(move |answer| answers.send((number, answer)).expect("it is awaited")) }
}

/// How many connections of the shard have a peer.
fn peers(running: &Running, index: u8) -> u32 {
    let (sender, receiver) = channel();
    running.ask(shard(index), listing(0, &sender)).expect("there is room");
    match receiver.recv_timeout(PATIENCE).expect("a sleeping shard wakes up") {
        (_, ApiAnswer::Sessions { next: Some(SessionCursor(known)), .. }) => known,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_sleeping_shard_answers_and_knows_who_is_connected() {
    for driver in DRIVERS {
        let running = run(Config { shards: Some(2), ..config(driver) });
        let _clients: Vec<_> = (0..4).map(|_| Client::new(&running)).collect();
        eventually("all are placed", || counter(&running, "connections_open", "") == 4);
        for _ in 0..3 {
            assert_eq!([peers(&running, 0), peers(&running, 1)], [2, 2]);
        }
        running.stop_now();
        running.wait();
    }
}

#[test]
fn requests_are_handled_in_order_and_no_more_than_a_thousand_wait() {
    let _one = STALL.lock();
    let running = run(config(Driver::Auto));
    let mut client = Client::new(&running);
    let (sender, receiver): (_, Receiver<(u32, ApiAnswer)>) = channel();
    client.send_text("stall");
    eventually("the shard stands still", || STALLED.load(Ordering::SeqCst));
    for number in 0..1_024 {
        running.ask(shard(0), listing(number, &sender)).expect("there is room");
    }
    assert!(running.ask(shard(0), listing(1_024, &sender)).is_err(), "there is no more room");
    STALLED.store(false, Ordering::SeqCst);
    for number in 0..1_024 {
        assert_eq!(receiver.recv_timeout(PATIENCE).expect("it goes on").0, number);
    }
    assert_eq!(peers(&running, 0), 1);
}

#[test]
fn who_does_not_answer_a_goodbye_is_closed() {
    for driver in DRIVERS {
        let deadlines = Deadlines { close: Duration::from_millis(200), ..config(driver).deadlines };
        let running = run(Config { deadlines, ..config(driver) });
        let mut client = Client::new(&running);
        client.send_text("hello");
        assert_eq!(client.hear(), text("hello"));
        let session = SessionId::new(1).expect("an id");
        let ask = Ask::Disconnect { session, reason: CLOSE_KILLED.into() };
        running.ask(shard(0), ApiRequest { ask, reply: Box::new(drop) }).expect("there is room");
        assert_eq!(client.hear(), text("goodbye"));
        assert_eq!(client.hear(), Word::Close(Some(1000)));
        client.send_close(1000);
        assert_eq!(client.hear(), Word::End);
        eventually("it is counted", || counter(&running, "connections_closed", "reason=\"router\"") == 1);
    }
}

#[test]
fn a_shard_that_ends_leaves_no_request_unheard() {
    let _one = STALL.lock();
    let running = run(config(Driver::Auto));
    let mut client = Client::new(&running);
    client.send_text("stall");
    eventually("the shard stands still", || STALLED.load(Ordering::SeqCst));
    let (sender, receiver) = channel();
    running.stop_now();
    running.ask(shard(0), listing(0, &sender)).expect("there is room");
    drop(sender);
    STALLED.store(false, Ordering::SeqCst);
    // Answered or dropped, but not kept.
    let answer = receiver.recv_timeout(PATIENCE);
    assert_ne!(answer.map(drop).unwrap_err(), std::sync::mpsc::RecvTimeoutError::Timeout);
    running.wait();
}
