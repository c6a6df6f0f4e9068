//! Slow subscribers, one policy at a time.

use std::time::Duration;

use fanwire_codec::wamp2::Serializer;

use super::tests::{NOW, Sockets, delivery, flush_all, leave, members, reply, say};
use super::*;
use crate::encoding::{Encoding, Framing};
use crate::ids::SubscriptionId;
use crate::topics::{Handling, SlowConsumer};

const SLOW: Outlet = Outlet(0);
const FAST: Outlet = Outlet(1);

fn id(number: u64) -> SubscriptionId {
    SubscriptionId::new(number).expect("an id")
}

fn handling(slow_consumer: SlowConsumer, messages: u32) -> Handling {
    Handling { slow_consumer, outbox_messages_max: Some(messages), ..Handling::default() }
}

/// A stream with this rule, a member that takes nothing and one that takes everything. The slow one holds a frame that has
/// begun: "[", of which "<" was taken.
fn stuck(delivery: &mut Delivery, sockets: &mut Sockets, handling: Handling) -> StreamId {
    let stream = ruled(delivery, 7, handling);
    members(delivery, stream, 2);
    sockets.room.insert(SLOW, 1);
    say(delivery, stream, "<>");
    flush_all(delivery, sockets);
    assert_eq!((sockets.text(SLOW), sockets.text(FAST)), ("<", "<>"));
    stream
}

fn ruled(delivery: &mut Delivery, subscription: u64, handling: Handling) -> StreamId {
    let stream = delivery.create_stream(subscription);
    let encoding = Encoding::Wamp2(Serializer::Json, Framing::Plain);
    delivery.set_rule(stream, id(subscription), encoding, handling);
    stream
}

fn say_each(delivery: &mut Delivery, sockets: &mut Sockets, stream: StreamId, texts: &[&str]) {
    for text in texts {
        say(delivery, stream, text);
        flush_all(delivery, sockets);
        check(delivery);
    }
}

/// The slow one reads again, all of it.
fn read_all(delivery: &mut Delivery, sockets: &mut Sockets) {
    sockets.room.remove(&SLOW);
    delivery.writable(SLOW);
    flush_all(delivery, sockets);
    check(delivery);
    assert_eq!((delivery.counters.queued, delivery.counters.outbox_bytes), (0, 0));
}

fn check(delivery: &Delivery) {
    let outboxes = delivery.outlets.iter().filter_map(|state| state.outbox.as_ref());
    outboxes.filter_map(|outbox| outbox.waiting.as_ref()).for_each(|waiting| waiting.check());
}

fn dropped(delivery: &Delivery, reason: DropReason) -> u64 {
    delivery.counters.dropped[reason as usize]
}

/// What was told of gaps, without the frame around it.
fn gaps(text: &str) -> Vec<&str> {
    let begin = |part: &'static str| text.match_indices(part).map(|(at, _)| &text[at..]);
    begin("{\"subscription\"").map(|gap| &gap[..=gap.find('}').expect("it ends")]).collect()
}

#[test]
fn drop_oldest_keeps_the_newest_and_what_has_begun() {
    let mut delivery = delivery(256);
    let mut sockets = Sockets::default();
    let stream = stuck(&mut delivery, &mut sockets, handling(SlowConsumer::DropOldest, 3));
    say_each(&mut delivery, &mut sockets, stream, &["a", "b", "c", "d", "e"]);
    assert_eq!(dropped(&delivery, DropReason::DropOldest), 2);
    assert_eq!(delivery.waiting_bytes(SLOW), 4, "the rest of the first, and three");
    read_all(&mut delivery, &mut sockets);
    assert_eq!(sockets.text(SLOW), "<>cde");
    assert_eq!(sockets.text(FAST), "<>abcde");
}

#[test]
fn drop_newest_keeps_what_came_first() {
    let mut delivery = delivery(256);
    let mut sockets = Sockets::default();
    let stream = stuck(&mut delivery, &mut sockets, handling(SlowConsumer::DropNewest, 2));
    say_each(&mut delivery, &mut sockets, stream, &["a", "b", "c", "d"]);
    assert_eq!(dropped(&delivery, DropReason::DropNewest), 2);
    read_all(&mut delivery, &mut sockets);
    say_each(&mut delivery, &mut sockets, stream, &["e"]);
    assert_eq!(sockets.text(SLOW), "<>abe");
}

#[test]
fn conflate_keeps_the_newest_of_each_key_in_order() {
    let mut delivery = delivery(256);
    let mut sockets = Sockets::default();
    let all = Handling { slow_consumer: SlowConsumer::Conflate, ..Handling::default() };
    let stream = stuck(&mut delivery, &mut sockets, all);
    for (key, text) in [(1, "a1 "), (2, "b1 "), (1, "a2 "), (3, "c1 "), (2, "b2 "), (1, "a3 ")] {
        delivery.conflate_by(key);
        say_each(&mut delivery, &mut sockets, stream, &[text]);
    }
    assert_eq!(dropped(&delivery, DropReason::Conflated), 3);
    read_all(&mut delivery, &mut sockets);
    assert_eq!(sockets.text(SLOW), "<>c1 b2 a3 ");
    assert_eq!(sockets.text(FAST), "<>a1 b1 a2 c1 b2 a3 ");
}

#[test]
fn a_key_that_changes_all_the_time_takes_no_more_room() {
    let mut delivery = delivery(256);
    let mut sockets = Sockets::default();
    let all = Handling { slow_consumer: SlowConsumer::Conflate, ..Handling::default() };
    let stream = stuck(&mut delivery, &mut sockets, all);
    delivery.conflate_by(9);
    say_each(&mut delivery, &mut sockets, stream, &["rare"]);
    for _ in 0..1_000 {
        delivery.conflate_by(1);
        say_each(&mut delivery, &mut sockets, stream, &["x"]);
    }
    assert_eq!(delivery.waiting_bytes(SLOW), 6);
    read_all(&mut delivery, &mut sockets);
    assert_eq!(sockets.text(SLOW), "<>rarex");
}

#[test]
fn who_asks_is_told_of_each_gap_before_what_follows_it() {
    for (policy, name, told) in [
        (SlowConsumer::DropOldest, "drop_oldest", vec![3]),
        // Nothing was lost between what it has; what was lost then is told as soon as there is room.
        (SlowConsumer::DropNewest, "drop_newest", vec![3]),
    ] {
        let mut delivery = delivery(256);
        let mut sockets = Sockets::default();
        let stream = stuck(&mut delivery, &mut sockets, handling(policy, 2));
        delivery.tell_gaps(SLOW, Some(id(99)));
        say_each(&mut delivery, &mut sockets, stream, &["a", "b", "c", "d", "e"]);
        read_all(&mut delivery, &mut sockets);
        let text = sockets.got_lossy(SLOW);
        let lost = |count: &u64| format!(r#"{{"subscription":7,"lost":{count},"reason":"{name}"}}"#);
        assert_eq!(gaps(&text), told.iter().map(lost).collect::<Vec<_>>(), "{text}");
        let gap = text.find("lost").expect("as above");
        match policy {
            SlowConsumer::DropOldest => assert!(gap < text.rfind('d').expect("it came"), "{text}"),
            _ => assert!(text[..gap].contains("ab"), "{text}"),
        }
        assert_eq!(delivery.counters.gap_notices, told.len() as u64);
    }
}

#[test]
fn what_was_lost_last_is_told_before_what_comes_when_there_is_room_again() {
    let mut delivery = delivery(256);
    let mut sockets = Sockets::default();
    let stream = stuck(&mut delivery, &mut sockets, handling(SlowConsumer::DropNewest, 2));
    delivery.tell_gaps(SLOW, Some(id(99)));
    say_each(&mut delivery, &mut sockets, stream, &["a", "b", "c", "d", "e"]);
    say(&mut delivery, stream, "next");
    reply(&mut delivery, SLOW, "answer");
    read_all(&mut delivery, &mut sockets);
    let text = sockets.got_lossy(SLOW);
    assert_eq!(gaps(&text), [r#"{"subscription":7,"lost":3,"reason":"drop_newest"}"#], "{text}");
    let place = |part: &str| text.find(part).unwrap_or_else(|| panic!("no {part} in {text}"));
    assert!(place("<>ab") < place("lost") && place("lost") < place("nextanswer"), "{text}");
}

#[test]
fn what_was_lost_last_before_somebody_asked_is_not_told() {
    let mut delivery = delivery(256);
    let mut sockets = Sockets::default();
    let stream = stuck(&mut delivery, &mut sockets, handling(SlowConsumer::DropNewest, 1));
    say_each(&mut delivery, &mut sockets, stream, &["a", "b"]);
    delivery.tell_gaps(SLOW, Some(id(99)));
    reply(&mut delivery, SLOW, "SUBSCRIBED ");
    read_all(&mut delivery, &mut sockets);
    assert_eq!(sockets.text(SLOW), "<>aSUBSCRIBED ");
}

#[test]
fn what_was_lost_before_somebody_asked_is_not_told() {
    let mut delivery = delivery(256);
    let mut sockets = Sockets::default();
    let stream = stuck(&mut delivery, &mut sockets, handling(SlowConsumer::DropOldest, 1));
    say_each(&mut delivery, &mut sockets, stream, &["a", "b"]);
    delivery.tell_gaps(SLOW, Some(id(99)));
    reply(&mut delivery, SLOW, "SUBSCRIBED ");
    read_all(&mut delivery, &mut sockets);
    assert_eq!(sockets.text(SLOW), "<>bSUBSCRIBED ");
}

#[test]
fn replies_wait_in_order_and_are_never_dropped() {
    let mut delivery = delivery(256);
    let mut sockets = Sockets::default();
    let stream = stuck(&mut delivery, &mut sockets, handling(SlowConsumer::DropOldest, 1));
    for (event, answer) in [("a", "1"), ("b", "2"), ("c", "3")] {
        say_each(&mut delivery, &mut sockets, stream, &[event]);
        reply(&mut delivery, SLOW, answer);
        flush_all(&mut delivery, &mut sockets);
        check(&delivery);
    }
    read_all(&mut delivery, &mut sockets);
    assert_eq!(sockets.text(SLOW), "<>12c3");
}

#[test]
fn events_that_may_be_dropped_make_room_for_what_may_not() {
    let limits = Limits { outbox_bytes_max: 100, reply_reserve_bytes: 0, ..Limits::default() };
    let mut delivery = Delivery::new(limits);
    let mut sockets = Sockets::default();
    let all = Handling { slow_consumer: SlowConsumer::DropOldest, ..Handling::default() };
    let stream = stuck(&mut delivery, &mut sockets, all);
    for _ in 0..20 {
        say_each(&mut delivery, &mut sockets, stream, &["0123456789"]);
    }
    assert!(delivery.waiting_bytes(SLOW) <= 100);
    reply(&mut delivery, SLOW, &"r".repeat(50));
    flush_all(&mut delivery, &mut sockets);
    assert!(!delivery.is_closed(SLOW));
    assert!(delivery.waiting_bytes(SLOW) <= 100);
    reply(&mut delivery, SLOW, &"r".repeat(60));
    flush_all(&mut delivery, &mut sockets);
    assert!(delivery.is_closed(SLOW), "answers alone are too much");
    assert_eq!(delivery.counters.balance(), 0);
    assert_eq!((delivery.counters.queued, delivery.counters.outbox_bytes), (0, 0));
}

#[test]
fn the_topic_that_takes_most_room_gives_way() {
    let mut delivery = Delivery::new(Limits { outbox_bytes_max: 60, ..Limits::default() });
    let mut sockets = Sockets::default();
    let all = Handling { slow_consumer: SlowConsumer::DropOldest, ..Handling::default() };
    let flood = stuck(&mut delivery, &mut sockets, all);
    let rare = ruled(&mut delivery, 8, all);
    delivery.join(SLOW, rare);
    say_each(&mut delivery, &mut sockets, rare, &["rare "]);
    for _ in 0..20 {
        say_each(&mut delivery, &mut sockets, flood, &["flood flood "]);
    }
    say_each(&mut delivery, &mut sockets, rare, &["again "]);
    read_all(&mut delivery, &mut sockets);
    assert_eq!(sockets.text(SLOW), format!("<>rare {}again ", "flood flood ".repeat(4)));
}

#[test]
fn publishers_wait_for_a_member_and_go_on_when_it_has_caught_up() {
    let mut delivery = delivery(256);
    let mut sockets = Sockets::default();
    let stream = stuck(&mut delivery, &mut sockets, handling(SlowConsumer::PausePublisher, 8));
    say_each(&mut delivery, &mut sockets, stream, &["a", "b", "c", "d"]);
    assert!(!delivery.has_notices());
    say_each(&mut delivery, &mut sockets, stream, &["e"]);
    assert_eq!(delivery.notices().collect::<Vec<_>>(), [Notice::Paused { tag: 7, paused: true }]);
    read_all(&mut delivery, &mut sockets);
    assert_eq!(delivery.notices().collect::<Vec<_>>(), [Notice::Paused { tag: 7, paused: false }]);
    assert_eq!(sockets.text(SLOW), "<>abcde");
    assert_eq!(delivery.counters.dropped.iter().sum::<u64>(), 0);
}

#[test]
fn a_member_for_which_publishers_wait_too_long_is_cut_or_leaves_and_nobody_waits() {
    for cut in [true, false] {
        let mut delivery = delivery(256);
        let mut sockets = Sockets::default();
        let stream = stuck(&mut delivery, &mut sockets, handling(SlowConsumer::PausePublisher, 4));
        say_each(&mut delivery, &mut sockets, stream, &["a", "b", "c"]);
        let paused = |paused| Notice::Paused { tag: 7, paused };
        assert_eq!(delivery.notices().collect::<Vec<_>>(), [paused(true)]);
        if cut {
            let later = NOW + Limits::default().pause_max + Duration::from_millis(1);
            delivery.handle_timeout(later);
            let cut = Notice::Cut(SLOW, DropReason::SlowConsumerPause);
            assert_eq!(delivery.notices().collect::<Vec<_>>(), [paused(false), cut]);
            assert_eq!(dropped(&delivery, DropReason::SlowConsumerPause), 4);
        } else {
            leave(&mut delivery, SLOW, stream);
            assert_eq!(delivery.notices().collect::<Vec<_>>(), [paused(false)]);
        }
        delivery.detach(NOW, SLOW);
        assert_eq!(delivery.counters.balance(), 0);
        assert_eq!(delivery.counters.queued, 0);
    }
}

#[test]
fn a_share_of_its_own_cuts_earlier_where_the_rule_is_to_disconnect() {
    let mut delivery = delivery(256);
    let mut sockets = Sockets::default();
    let stream = stuck(&mut delivery, &mut sockets, handling(SlowConsumer::Disconnect, 2));
    say_each(&mut delivery, &mut sockets, stream, &["a", "b"]);
    assert!(!delivery.is_closed(SLOW));
    say_each(&mut delivery, &mut sockets, stream, &["c"]);
    assert!(delivery.is_closed(SLOW));
    assert_eq!(dropped(&delivery, DropReason::SlowConsumerMessages), 4);
}

#[test]
fn who_takes_nothing_at_all_is_cut_and_who_takes_some_is_not() {
    let mut delivery = delivery(256);
    let mut sockets = Sockets::default();
    let stream = stuck(&mut delivery, &mut sockets, handling(SlowConsumer::DropOldest, 3));
    say_each(&mut delivery, &mut sockets, stream, &["a", "b", "c", "d"]);
    let age = Limits::default().outbox_age_max;
    let soon = NOW + age * 9 / 10;
    sockets.room.insert(SLOW, 2);
    delivery.writable(SLOW);
    while delivery.flush(soon, &mut sockets, &FlushBudget::default()) {}
    delivery.handle_timeout(NOW + age * 3 / 2);
    assert!(!delivery.is_closed(SLOW), "it took the first one");
    delivery.handle_timeout(soon + age * 2);
    assert_eq!(delivery.notices().next_back(), Some(Notice::Cut(SLOW, DropReason::SlowConsumerAge)));
}

#[test]
fn the_slowest_are_listed_by_what_waits() {
    let mut delivery = delivery(256);
    let mut sockets = Sockets::default();
    let stream = stuck(&mut delivery, &mut sockets, handling(SlowConsumer::DropOldest, 2));
    delivery.attach(Outlet(2));
    sockets.room.insert(Outlet(2), 0);
    reply(&mut delivery, Outlet(2), "more than the others");
    say_each(&mut delivery, &mut sockets, stream, &["a", "b", "c"]);
    let slowest = delivery.slowest(10);
    let listed: Vec<_> =
        slowest.iter().map(|slow| (slow.outlet, slow.bytes, slow.messages, slow.dropped)).collect();
    assert_eq!(listed, [(Outlet(2), 20, 1, 0), (SLOW, 3, 3, 1)]);
    assert_eq!(slowest[1].policy, SlowConsumer::DropOldest);
    assert_eq!(delivery.slowest(1).len(), 1);
    sockets.room.remove(&SLOW);
    delivery.writable(SLOW);
    flush_all(&mut delivery, &mut sockets);
    assert_eq!(delivery.slowest(10).len(), 1);
}

#[test]
fn large_frames_and_events_beside_the_stream_wait_like_others() {
    let mut delivery = delivery(256);
    let mut sockets = Sockets::default();
    let stream = stuck(&mut delivery, &mut sockets, handling(SlowConsumer::DropOldest, 2));
    let large = |letter: &str| letter.repeat(6_000);
    say_each(&mut delivery, &mut sockets, stream, &[&large("a"), &large("b"), "c", &large("d")]);
    assert_eq!(delivery.waiting_bytes(SLOW), 6_002);
    read_all(&mut delivery, &mut sockets);
    assert_eq!(sockets.text(SLOW), format!("<>c{}", large("d")));
}

#[test]
fn nothing_of_a_rule_is_left_in_an_outbox_for_the_next_one() {
    let mut delivery = delivery(256);
    let mut sockets = Sockets::default();
    let stream = stuck(&mut delivery, &mut sockets, handling(SlowConsumer::DropOldest, 2));
    say_each(&mut delivery, &mut sockets, stream, &["a", "b", "c"]);
    delivery.detach(NOW, SLOW);
    assert!(delivery.outboxes.iter().all(|outbox| outbox.waiting.is_none() && outbox.is_empty()));
    assert_eq!(delivery.counters.outbox_bytes, 0);
}

/// Flushes at `now`, when the slow one takes `bytes` more.
fn take(delivery: &mut Delivery, sockets: &mut Sockets, now: Instant, bytes: usize) {
    sockets.room.insert(SLOW, bytes);
    delivery.writable(SLOW);
    while delivery.flush(now, sockets, &FlushBudget::default()) {}
    check(delivery);
    delivery.handle_timeout(now);
}

#[test]
fn who_takes_nothing_from_the_start_is_cut() {
    for policy in SlowConsumer::ALL {
        let mut delivery = delivery(256);
        let mut sockets = Sockets::default();
        let stream = ruled(&mut delivery, 7, Handling { slow_consumer: policy, ..Handling::default() });
        members(&mut delivery, stream, 2);
        sockets.room.insert(SLOW, 0);
        say_each(&mut delivery, &mut sockets, stream, &["a", "b"]);
        assert_eq!(delivery.slowest(1)[0].since, Some(NOW), "{policy}");
        let age = Limits::default().outbox_age_max;
        delivery.handle_timeout(NOW + age * 9 / 10);
        assert!(!delivery.is_closed(SLOW), "{policy}");
        delivery.handle_timeout(NOW + age * 5 / 4);
        assert_eq!(
            delivery.notices().next_back(),
            Some(Notice::Cut(SLOW, DropReason::SlowConsumerAge)),
            "{policy}"
        );
        assert_eq!(delivery.counters.balance(), 0);
    }
}

#[test]
fn an_answer_behind_a_long_queue_does_not_make_it_too_old() {
    let mut delivery = delivery(256);
    let mut sockets = Sockets::default();
    let all = Handling { slow_consumer: SlowConsumer::DropOldest, ..Handling::default() };
    let stream = stuck(&mut delivery, &mut sockets, all);
    let block = "x".repeat(1_000);
    for _ in 0..100 {
        say_each(&mut delivery, &mut sockets, stream, &[&block]);
    }
    reply(&mut delivery, SLOW, "PONG");
    flush_all(&mut delivery, &mut sockets);
    let half = Limits::default().outbox_age_max / 2;
    let mut now = NOW;
    for _ in 0..30 {
        now = now + half;
        take(&mut delivery, &mut sockets, now, 4_000);
        assert!(
            !delivery.is_closed(SLOW),
            "it takes 4,000 bytes in time, {} so far",
            sockets.text(SLOW).len()
        );
    }
    assert!(sockets.text(SLOW).ends_with("xPONG"));
}

#[test]
fn an_event_without_a_rule_behind_a_long_queue_grows_old() {
    let mut delivery = delivery(256);
    let mut sockets = Sockets::default();
    let all = Handling { slow_consumer: SlowConsumer::DropOldest, ..Handling::default() };
    let stream = stuck(&mut delivery, &mut sockets, all);
    let plain = delivery.create_stream(8);
    delivery.join(SLOW, plain);
    let block = "x".repeat(1_000);
    for _ in 0..100 {
        say_each(&mut delivery, &mut sockets, stream, &[&block]);
    }
    reply(&mut delivery, SLOW, "before ");
    say_each(&mut delivery, &mut sockets, plain, &["plain"]);
    let half = Limits::default().outbox_age_max / 2;
    take(&mut delivery, &mut sockets, NOW + half, 4_000);
    assert!(!delivery.is_closed(SLOW));
    take(&mut delivery, &mut sockets, NOW + half * 3, 4_000);
    assert_eq!(delivery.notices().next_back(), Some(Notice::Cut(SLOW, DropReason::SlowConsumerAge)));
}

#[test]
fn who_reads_loses_nothing_to_a_rule_when_somebody_leaves() {
    let rules = [
        Handling { slow_consumer: SlowConsumer::Conflate, ..Handling::default() },
        handling(SlowConsumer::Disconnect, 1),
        handling(SlowConsumer::DropOldest, 1),
        handling(SlowConsumer::DropNewest, 1),
        handling(SlowConsumer::PausePublisher, 1),
    ];
    for rule in rules {
        for leaver in [SLOW, FAST] {
            let mut delivery = delivery(256);
            let mut sockets = Sockets::default();
            let stream = ruled(&mut delivery, 7, rule);
            members(&mut delivery, stream, 2);
            for text in ["a", "b", "c"] {
                delivery.conflate_by(1);
                say(&mut delivery, stream, text);
            }
            // The last member moves into the place of one that leaves, and is given what it is due.
            leave(&mut delivery, leaver, stream);
            check(&delivery);
            flush_all(&mut delivery, &mut sockets);
            assert_eq!((sockets.text(SLOW), sockets.text(FAST)), ("abc", "abc"), "{rule:?}");
            assert!(!delivery.has_notices(), "{rule:?}");
        }
    }
}

#[test]
fn subscriptions_that_were_left_take_no_room() {
    let mut delivery = Delivery::new(Limits { outbox_bytes_max: 60, ..Limits::default() });
    let mut sockets = Sockets::default();
    let all = Handling { slow_consumer: SlowConsumer::DropOldest, ..Handling::default() };
    stuck(&mut delivery, &mut sockets, all);
    for number in 100..200 {
        let stream = ruled(&mut delivery, number, all);
        delivery.join(SLOW, stream);
        say_each(&mut delivery, &mut sockets, stream, &["0123456789", "0123456789"]);
        leave(&mut delivery, SLOW, stream);
        delivery.delete_stream(stream);
    }
    let outbox = delivery.outlets[SLOW.index()].outbox.as_ref().expect("it is slow");
    let shares = outbox.waiting.as_ref().expect("events wait").share_count();
    assert!(shares <= 8, "{shares} for 5 events at most");
    read_all(&mut delivery, &mut sockets);
}

#[test]
fn topics_that_pause_begin_together_before_the_outbox_is_full() {
    let mut delivery = Delivery::new(Limits { outbox_bytes_max: 1_000, ..Limits::default() });
    let mut sockets = Sockets::default();
    let pause = Handling { slow_consumer: SlowConsumer::PausePublisher, ..Handling::default() };
    let first = stuck(&mut delivery, &mut sockets, pause);
    let others: Vec<_> = (100..119).map(|number| ruled(&mut delivery, number, pause)).collect();
    others.iter().for_each(|stream| delivery.join(SLOW, *stream));
    let streams: Vec<_> = others.into_iter().chain([first]).collect();
    let text = "0123456789".repeat(2);
    let mut paused = Vec::new();
    // Publishers of a topic go on until they are told to wait.
    for stream in streams.iter().cycle().take(200) {
        let tag = delivery.stream(*stream).tag;
        if !paused.contains(&tag) {
            say_each(&mut delivery, &mut sockets, *stream, &[&text]);
        }
        let notices: Vec<_> = delivery.notices().collect();
        paused.extend(notices.into_iter().map(|notice| match notice {
            Notice::Paused { tag, paused: true } => tag,
            other => panic!("{other:?}"),
        }));
    }
    assert_eq!(paused.len(), streams.len(), "each topic makes its publishers wait at last");
    read_all(&mut delivery, &mut sockets);
    let resumed = delivery.notices().filter(|notice| matches!(notice, Notice::Paused { paused: false, .. }));
    assert_eq!(resumed.count(), streams.len());
    assert_eq!(delivery.counters.dropped.iter().sum::<u64>(), 0);
}

#[test]
fn pausing_begins_at_half_of_the_smaller_limit() {
    let mut delivery = Delivery::new(Limits { outbox_messages_max: 8, ..Limits::default() });
    let mut sockets = Sockets::default();
    let stream = stuck(&mut delivery, &mut sockets, handling(SlowConsumer::PausePublisher, 1_000));
    say_each(&mut delivery, &mut sockets, stream, &["a", "b", "c", "d"]);
    assert!(!delivery.has_notices());
    say_each(&mut delivery, &mut sockets, stream, &["e"]);
    assert!(delivery.has_notices());
}

#[test]
fn nothing_said_waits_for_nothing() {
    let mut delivery = delivery(256);
    let mut sockets = Sockets::default();
    let stream = stuck(&mut delivery, &mut sockets, handling(SlowConsumer::DropOldest, 3));
    say_each(&mut delivery, &mut sockets, stream, &["a"]);
    reply(&mut delivery, SLOW, "");
    reply(&mut delivery, FAST, "");
    say_each(&mut delivery, &mut sockets, stream, &["b", "c", "d"]);
    read_all(&mut delivery, &mut sockets);
    assert_eq!((sockets.text(SLOW), sockets.text(FAST)), ("<>bcd", "<>abcd"));
}

#[test]
fn keeping_many_events_for_slow_members_counts_against_the_slice() {
    let mut delivery = delivery(0);
    let mut sockets = Sockets::default();
    let stream = ruled(&mut delivery, 7, handling(SlowConsumer::DropOldest, 1_000));
    members(&mut delivery, stream, 10);
    sockets.room.extend((0..10).map(|number| (Outlet(number), 0)));
    say_each(&mut delivery, &mut sockets, stream, &["a"]);
    for _ in 0..80 {
        say(&mut delivery, stream, "b");
    }
    delivery.flush_slice(NOW, &mut sockets, 4);
    let given = (0..10).filter(|number| delivery.waiting_bytes(Outlet(*number)) > 1).count();
    assert_eq!(given, 1, "80 events cost more than four sends");
    flush_all(&mut delivery, &mut sockets);
    assert!((0..10).all(|number| delivery.waiting_bytes(Outlet(number)) == 81));
}
