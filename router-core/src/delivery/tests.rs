use std::collections::HashMap;
use std::io::IoSlice;

use super::*;

/// Sockets that take what the test allows.
#[derive(Default)]
pub(super) struct Sockets {
    got: HashMap<Outlet, Vec<u8>>,
    /// Bytes that an outlet still takes; absent: any number.
    pub(super) room: HashMap<Outlet, usize>,
    pub(super) broken: Vec<Outlet>,
    order: Vec<Outlet>,
}

impl Sockets {
    /// The same, where frames' heads are no text.
    pub(super) fn got_lossy(&self, outlet: Outlet) -> String {
        String::from_utf8_lossy(&self.got[&outlet]).into_owned()
    }

    pub(super) fn text(&self, outlet: Outlet) -> &str {
        self.got.get(&outlet).map_or("", |bytes| std::str::from_utf8(bytes).expect("tests send text"))
    }
}

impl Wire for Sockets {
    fn send(&mut self, outlet: Outlet, pieces: &[IoSlice<'_>]) -> Sent {
        if self.broken.contains(&outlet) {
            return Sent::Broken;
        }
        self.order.push(outlet);
        let mut taken = 0;
        for piece in pieces {
            let room = self.room.get(&outlet).map_or(piece.len(), |room| piece.len().min(*room));
            self.got.entry(outlet).or_default().extend_from_slice(&piece[..room]);
            taken += room;
            if let Some(left) = self.room.get_mut(&outlet) {
                *left -= room;
            }
            if room < piece.len() {
                break;
            }
        }
        Sent::Took(taken)
    }
}

pub(super) const NOW: Instant = Instant::START;

pub(super) fn delivery(small_stream_members: usize) -> Delivery {
    Delivery::new(Limits { small_stream_members, ..Limits::default() })
}

pub(super) fn members(delivery: &mut Delivery, stream: StreamId, count: u32) {
    for number in 0..count {
        delivery.attach(Outlet(number));
        delivery.join(Outlet(number), stream);
    }
}

pub(super) fn say(delivery: &mut Delivery, stream: StreamId, text: &str) -> u64 {
    delivery.append(stream, None, |out| out.extend_from_slice(text.as_bytes()))
}

pub(super) fn leave(delivery: &mut Delivery, outlet: Outlet, stream: StreamId) {
    delivery.settle_due(NOW, outlet);
    delivery.part(NOW, outlet, stream);
}

pub(super) fn reply(delivery: &mut Delivery, outlet: Outlet, text: &str) {
    delivery.reply(outlet, |out| out.extend_from_slice(text.as_bytes()));
}

pub(super) fn flush_all(delivery: &mut Delivery, sockets: &mut Sockets) {
    while delivery.flush(NOW, sockets, &FlushBudget::default()) {}
    for stream in delivery.streams.iter().flatten() {
        stream.check();
    }
    assert_eq!(delivery.counters.balance(), 0);
}

#[test]
fn every_member_gets_every_frame_once() {
    let mut delivery = delivery(256);
    let mut sockets = Sockets::default();
    let stream = delivery.create_stream(1);
    members(&mut delivery, stream, 3);
    assert_eq!(say(&mut delivery, stream, "a"), 3);
    assert_eq!(say(&mut delivery, stream, "b"), 3);
    flush_all(&mut delivery, &mut sockets);
    say(&mut delivery, stream, "c");
    flush_all(&mut delivery, &mut sockets);
    for number in 0..3 {
        assert_eq!(sockets.text(Outlet(number)), "abc");
    }
    assert_eq!(delivery.counters.sends, 6, "two frames of one turn share a send");
    assert_eq!(delivery.counters.delivered, 9);
}

#[test]
fn a_frame_in_mid_round_moves_only_the_end() {
    let mut delivery = delivery(0);
    let mut sockets = Sockets::default();
    let stream = delivery.create_stream(1);
    members(&mut delivery, stream, 4);
    say(&mut delivery, stream, "a");
    delivery.flush_slice(NOW, &mut sockets, 2);
    say(&mut delivery, stream, "b");
    delivery.flush_slice(NOW, &mut sockets, 2);
    assert_eq!(sockets.order, [Outlet(0), Outlet(1), Outlet(2), Outlet(3)], "the cursor goes on");
    assert_eq!(sockets.text(Outlet(2)), "ab", "who comes later gets both at once");
    flush_all(&mut delivery, &mut sockets);
    assert!((0..4).all(|number| sockets.text(Outlet(number)) == "ab"));
}

#[test]
fn a_small_stream_is_visited_whole_with_one_frame_and_in_slices_with_several() {
    let (mut delivery, mut sockets) = (delivery(256), Sockets::default());
    let stream = delivery.create_stream(0);
    members(&mut delivery, stream, 4);
    let budget = FlushBudget { small_sends: 256, slice_sends: 4 };
    say(&mut delivery, stream, "a");
    assert!(!delivery.flush(NOW, &mut sockets, &budget));
    assert_eq!(sockets.order.len(), 4, "one frame: all at once");
    say(&mut delivery, stream, "b");
    say(&mut delivery, stream, "c");
    assert!(delivery.flush(NOW, &mut sockets, &budget));
    assert_eq!(sockets.order.len(), 6, "several: half a slice");
    say(&mut delivery, stream, "d");
    flush_all(&mut delivery, &mut sockets);
    for number in 0..4 {
        assert_eq!(sockets.text(Outlet(number)), "abcd");
    }
    assert_eq!(sockets.order.len(), 10, "what came meanwhile shares the sends of those not visited yet");
    assert_eq!((delivery.counters.delivered, delivery.counters.queued), (16, 0));
}

#[test]
fn members_at_different_places_each_get_what_they_lack_in_one_round() {
    let (mut delivery, mut sockets) = (delivery(0), Sockets::default());
    let stream = delivery.create_stream(0);
    members(&mut delivery, stream, 3);
    say(&mut delivery, stream, "a");
    delivery.flush_slice(NOW, &mut sockets, 1);
    say(&mut delivery, stream, "b");
    delivery.attach(Outlet(3));
    delivery.join(Outlet(3), stream);
    say(&mut delivery, stream, "c");
    delivery.flush_slice(NOW, &mut sockets, 4);
    assert_eq!([0, 1, 2, 3].map(|number| sockets.text(Outlet(number))), ["abc", "abc", "abc", "c"]);
    assert_eq!(sockets.order, [0, 1, 2, 3, 0].map(Outlet));
    assert_eq!((delivery.counters.sends, delivery.counters.delivered, delivery.counters.queued), (5, 10, 0));
}

#[test]
fn a_reply_pulls_the_due_frames_forward() {
    let mut delivery = delivery(0);
    let mut sockets = Sockets::default();
    let stream = delivery.create_stream(1);
    members(&mut delivery, stream, 3);
    say(&mut delivery, stream, "event ");
    reply(&mut delivery, Outlet(2), "reply ");
    say(&mut delivery, stream, "later ");
    delivery.flush_dirty(NOW, &mut sockets);
    assert_eq!(sockets.text(Outlet(2)), "event reply later ");
    flush_all(&mut delivery, &mut sockets);
    assert_eq!(sockets.text(Outlet(2)), "event reply later ");
    assert_eq!(sockets.text(Outlet(0)), "event later ");
}

#[test]
fn frames_of_several_streams_keep_their_order() {
    let mut delivery = delivery(256);
    let mut sockets = Sockets::default();
    let (one, two) = (delivery.create_stream(1), delivery.create_stream(2));
    delivery.attach(Outlet(0));
    delivery.join(Outlet(0), one);
    delivery.join(Outlet(0), two);
    for (stream, text) in [(one, "1"), (two, "2"), (two, "3"), (one, "4"), (two, "5")] {
        say(&mut delivery, stream, text);
    }
    flush_all(&mut delivery, &mut sockets);
    assert_eq!(sockets.text(Outlet(0)), "12345");
    assert_eq!(delivery.counters.sends, 1);
}

#[test]
fn the_excepted_publisher_gets_nothing_of_its_own() {
    let mut delivery = delivery(256);
    let mut sockets = Sockets::default();
    let stream = delivery.create_stream(1);
    members(&mut delivery, stream, 2);
    say(&mut delivery, stream, "a");
    let matched = delivery.append(stream, Some(Outlet(0)), |out| out.extend_from_slice(b"mine"));
    assert_eq!(matched, 1);
    say(&mut delivery, stream, "b");
    flush_all(&mut delivery, &mut sockets);
    assert_eq!(sockets.text(Outlet(0)), "ab");
    assert_eq!(sockets.text(Outlet(1)), "amineb");
}

#[test]
fn a_full_socket_gets_the_rest_later_and_holds_nobody_back() {
    let mut delivery = delivery(256);
    let mut sockets = Sockets::default();
    let stream = delivery.create_stream(1);
    members(&mut delivery, stream, 2);
    sockets.room.insert(Outlet(0), 3);
    say(&mut delivery, stream, "hello ");
    flush_all(&mut delivery, &mut sockets);
    say(&mut delivery, stream, "world ");
    reply(&mut delivery, Outlet(0), "bye");
    flush_all(&mut delivery, &mut sockets);
    assert_eq!(sockets.text(Outlet(0)), "hel");
    assert_eq!(sockets.text(Outlet(1)), "hello world ");
    assert_eq!((delivery.counters.delivered, delivery.counters.queued), (2, 2));
    sockets.room.clear();
    delivery.writable(Outlet(0));
    flush_all(&mut delivery, &mut sockets);
    assert_eq!(sockets.text(Outlet(0)), "hello world bye");
    assert_eq!((delivery.counters.delivered, delivery.counters.queued), (4, 0));
    assert_eq!(delivery.counters.outbox_bytes, 0);
}

#[test]
fn large_frames_are_shared_with_the_backlog_and_arrive_whole() {
    let mut delivery = delivery(256);
    let mut sockets = Sockets::default();
    let stream = delivery.create_stream(1);
    members(&mut delivery, stream, 2);
    sockets.room.insert(Outlet(1), 5_000);
    let large = "x".repeat(20_000);
    for text in ["small ", &large, " end"] {
        say(&mut delivery, stream, text);
    }
    flush_all(&mut delivery, &mut sockets);
    sockets.room.clear();
    delivery.writable(Outlet(1));
    flush_all(&mut delivery, &mut sockets);
    assert_eq!(sockets.text(Outlet(1)), format!("small {large} end"));
    assert_eq!(sockets.text(Outlet(1)), sockets.text(Outlet(0)));
}

#[test]
fn a_consumer_that_never_reads_is_cut_at_its_limit_and_its_frames_are_counted() {
    let mut delivery = Delivery::new(Limits { outbox_bytes_max: 1_000, ..Limits::default() });
    let mut sockets = Sockets::default();
    let stream = delivery.create_stream(1);
    members(&mut delivery, stream, 2);
    sockets.room.insert(Outlet(0), 0);
    for _ in 0..30 {
        say(&mut delivery, stream, &"y".repeat(100));
        flush_all(&mut delivery, &mut sockets);
    }
    let cut = Notice::Cut(Outlet(0), DropReason::SlowConsumerBytes);
    assert_eq!(delivery.notices().collect::<Vec<_>>(), [cut]);
    assert_eq!(delivery.counters.dropped[DropReason::SlowConsumerBytes as usize], 11);
    assert_eq!(sockets.text(Outlet(1)).len(), 3_000, "nobody else lost anything");
    delivery.detach(NOW, Outlet(0));
    assert_eq!(delivery.counters.balance(), 0);
}

#[test]
fn the_oldest_byte_waits_no_longer_than_the_age_limit() {
    let mut delivery = delivery(256);
    let mut sockets = Sockets::default();
    let stream = delivery.create_stream(1);
    members(&mut delivery, stream, 1);
    sockets.room.insert(Outlet(0), 0);
    say(&mut delivery, stream, "a");
    flush_all(&mut delivery, &mut sockets);
    let mut now = NOW;
    while delivery.notices().next().is_none() {
        now = delivery.next_deadline().expect("a blocked connection has a deadline");
        assert!(now.since(NOW).as_secs() <= 12, "an eighth late at most");
        delivery.handle_timeout(now);
    }
    assert!(now.since(NOW).as_secs() >= 10);
    assert_eq!(delivery.counters.dropped[DropReason::SlowConsumerAge as usize], 1);
    assert_eq!(delivery.counters.balance(), 0);
}

#[test]
fn who_leaves_gets_what_was_due_and_nothing_more() {
    let mut delivery = delivery(0);
    let mut sockets = Sockets::default();
    let stream = delivery.create_stream(1);
    members(&mut delivery, stream, 3);
    say(&mut delivery, stream, "due ");
    leave(&mut delivery, Outlet(1), stream);
    reply(&mut delivery, Outlet(1), "left");
    say(&mut delivery, stream, "late");
    flush_all(&mut delivery, &mut sockets);
    assert_eq!(sockets.text(Outlet(1)), "due left");
    assert_eq!(sockets.text(Outlet(0)), "due late");
}

#[test]
fn who_fills_the_hole_behind_the_cursor_is_not_forgotten() {
    let mut delivery = delivery(0);
    let mut sockets = Sockets::default();
    let stream = delivery.create_stream(1);
    members(&mut delivery, stream, 4);
    say(&mut delivery, stream, "a");
    delivery.flush_slice(NOW, &mut sockets, 2);
    leave(&mut delivery, Outlet(0), stream);
    for _ in 0..3 {
        delivery.flush_slice(NOW, &mut sockets, 1);
    }
    flush_all(&mut delivery, &mut sockets);
    assert!((0..4).all(|number| sockets.text(Outlet(number)) == "a"));
}

#[test]
fn members_of_a_large_stream_that_joined_anyhow_are_visited_by_slot() {
    let (mut delivery, mut sockets) = (delivery(0), Sockets::default());
    let stream = delivery.create_stream(0);
    for number in [3, 1, 4, 0, 2].map(Outlet) {
        delivery.attach(number);
        delivery.join(number, stream);
    }
    say(&mut delivery, stream, "a");
    flush_all(&mut delivery, &mut sockets);
    sockets.order.clear();
    say(&mut delivery, stream, "b");
    // In mid-scan, and at the places where they are now.
    delivery.flush_slice(NOW, &mut sockets, 2);
    leave(&mut delivery, Outlet(0), stream);
    say(&mut delivery, stream, "c");
    flush_all(&mut delivery, &mut sockets);
    assert_eq!(sockets.order[..2], [Outlet(0), Outlet(1)]);
    assert_eq!(
        [0, 1, 2, 3, 4].map(|number| sockets.text(Outlet(number))),
        ["ab", "abc", "abc", "abc", "abc"]
    );
    sockets.order.clear();
    say(&mut delivery, stream, "d");
    flush_all(&mut delivery, &mut sockets);
    assert_eq!(sockets.order, [1, 2, 3, 4].map(Outlet), "who filled the hole is back at its place");
}

#[test]
fn who_joins_in_mid_scan_starts_at_the_end_and_costs_nobody_a_visit() {
    let mut delivery = delivery(0);
    let mut sockets = Sockets::default();
    let stream = delivery.create_stream(1);
    members(&mut delivery, stream, 3);
    say(&mut delivery, stream, "a");
    delivery.flush_slice(NOW, &mut sockets, 1);
    say(&mut delivery, stream, "b");
    delivery.attach(Outlet(9));
    delivery.join(Outlet(9), stream);
    flush_all(&mut delivery, &mut sockets);
    assert_eq!(sockets.text(Outlet(9)), "");
    assert!((0..3).all(|number| sockets.text(Outlet(number)) == "ab"));
}

#[test]
fn a_stream_is_trimmed_under_continuous_publishing() {
    let mut delivery = delivery(0);
    let mut sockets = Sockets::default();
    let stream = delivery.create_stream(7);
    members(&mut delivery, stream, 10);
    let mut most = 0;
    for _ in 0..1_000 {
        say(&mut delivery, stream, &"z".repeat(100));
        delivery.flush_slice(NOW, &mut sockets, 5);
        most = most.max(delivery.stream(stream).held_bytes());
    }
    assert!(most <= 500, "two rounds at most are kept, {most} bytes were");
    flush_all(&mut delivery, &mut sockets);
    assert!((0..10).all(|number| sockets.text(Outlet(number)).len() == 100_000));
}

#[test]
fn a_stream_above_its_cap_says_so_and_drops_beyond_its_limit() {
    let mut delivery = Delivery::new(Limits {
        small_stream_members: 0,
        stream_congested_bytes: 1_000,
        stream_bytes_max: 2_000,
        ..Limits::default()
    });
    let mut sockets = Sockets::default();
    let stream = delivery.create_stream(7);
    members(&mut delivery, stream, 2);
    for _ in 0..25 {
        say(&mut delivery, stream, &"z".repeat(100));
    }
    assert_eq!(delivery.counters.dropped[DropReason::StreamOverflow as usize], 10);
    flush_all(&mut delivery, &mut sockets);
    let notices: Vec<_> = delivery.notices().collect();
    let congested = |congested| Notice::Congested { tag: 7, congested };
    assert_eq!(notices, [congested(true), congested(false)]);
}

#[test]
fn more_is_taken_while_no_stream_is_half_full() {
    let mut delivery =
        Delivery::new(Limits { small_stream_members: 0, stream_bytes_max: 2_000, ..Limits::default() });
    let mut sockets = Sockets::default();
    let streams = [delivery.create_stream(1), delivery.create_stream(2)];
    for (number, stream) in streams.into_iter().enumerate() {
        delivery.attach(Outlet(number as u32));
        delivery.join(Outlet(number as u32), stream);
        for _ in 0..9 {
            assert_eq!(delivery.takes_more(), number == 0);
            say(&mut delivery, stream, &"z".repeat(100));
        }
        say(&mut delivery, stream, &"z".repeat(100));
        assert!(!delivery.takes_more());
    }
    // One of them is deleted, the other is sent.
    leave(&mut delivery, Outlet(0), streams[0]);
    delivery.delete_stream(streams[0]);
    assert!(!delivery.takes_more());
    flush_all(&mut delivery, &mut sockets);
    assert!(delivery.takes_more());
}

#[test]
fn a_broken_socket_is_reported_once_and_its_frames_counted() {
    let mut delivery = delivery(256);
    let mut sockets = Sockets { broken: vec![Outlet(0)], ..Sockets::default() };
    let stream = delivery.create_stream(1);
    members(&mut delivery, stream, 2);
    say(&mut delivery, stream, "a");
    flush_all(&mut delivery, &mut sockets);
    say(&mut delivery, stream, "b");
    flush_all(&mut delivery, &mut sockets);
    let cut = Notice::Cut(Outlet(0), DropReason::ConnectionGone);
    assert_eq!(delivery.notices().collect::<Vec<_>>(), [cut]);
    assert_eq!(delivery.counters.dropped[DropReason::ConnectionGone as usize], 2);
}

#[test]
fn a_finished_connection_is_reported_when_all_is_written() {
    let mut delivery = delivery(256);
    let mut sockets = Sockets::default();
    delivery.attach(Outlet(0));
    sockets.room.insert(Outlet(0), 2);
    reply(&mut delivery, Outlet(0), "bye");
    delivery.finish(Outlet(0));
    flush_all(&mut delivery, &mut sockets);
    assert!(delivery.notices().next().is_none());
    sockets.room.clear();
    delivery.writable(Outlet(0));
    flush_all(&mut delivery, &mut sockets);
    assert_eq!(delivery.notices().collect::<Vec<_>>(), [Notice::Finished(Outlet(0))]);
}

#[test]
fn a_slot_used_again_starts_clean() {
    let mut delivery = delivery(256);
    let mut sockets = Sockets::default();
    let stream = delivery.create_stream(1);
    members(&mut delivery, stream, 2);
    sockets.room.insert(Outlet(0), 0);
    say(&mut delivery, stream, "old");
    flush_all(&mut delivery, &mut sockets);
    delivery.detach(NOW, Outlet(0));
    sockets.room.clear();
    delivery.attach(Outlet(0));
    delivery.join(Outlet(0), stream);
    say(&mut delivery, stream, "new");
    flush_all(&mut delivery, &mut sockets);
    assert_eq!(sockets.text(Outlet(0)), "new");
    assert_eq!(delivery.counters.blocked, 0);
}

#[test]
fn a_connection_with_many_subscriptions_is_merged_over_the_active_ones() {
    let mut delivery = delivery(256);
    let mut sockets = Sockets::default();
    delivery.attach(Outlet(0));
    let streams: Vec<_> = (0..100).map(|tag| delivery.create_stream(tag)).collect();
    for stream in &streams {
        delivery.join(Outlet(0), *stream);
    }
    for (number, stream) in [70usize, 3, 70, 99].into_iter().enumerate() {
        say(&mut delivery, streams[stream], &format!("{number}"));
    }
    reply(&mut delivery, Outlet(0), "!");
    flush_all(&mut delivery, &mut sockets);
    assert_eq!(sockets.text(Outlet(0)), "0123!");
    leave(&mut delivery, Outlet(0), streams[50]);
    say(&mut delivery, streams[99], "x");
    flush_all(&mut delivery, &mut sockets);
    assert_eq!(sockets.text(Outlet(0)), "0123!x");
}

#[test]
fn who_reads_everything_is_not_slow_however_much_is_due_at_once() {
    let limits = Limits { outbox_messages_max: 100, outbox_bytes_max: 1_000, ..Limits::default() };
    let mut delivery = Delivery::new(limits);
    let mut sockets = Sockets::default();
    delivery.attach(Outlet(0));
    let streams: Vec<_> = (0..3).map(|tag| delivery.create_stream(tag)).collect();
    for stream in &streams {
        delivery.join(Outlet(0), *stream);
    }
    let mut expected = String::new();
    for number in 0..180 {
        let text = format!("{number:03} and some more ");
        say(&mut delivery, streams[number % 3], &text);
        expected.push_str(&text);
    }
    flush_all(&mut delivery, &mut sockets);
    assert_eq!(sockets.text(Outlet(0)), expected);
    assert!(delivery.notices().next().is_none(), "nobody was cut");
}

#[test]
fn a_backlog_is_offered_to_the_socket_before_more_is_counted() {
    let mut delivery = Delivery::new(Limits { outbox_bytes_max: 1_000, ..Limits::default() });
    let mut sockets = Sockets::default();
    let stream = delivery.create_stream(1);
    members(&mut delivery, stream, 1);
    sockets.room.insert(Outlet(0), 0);
    for _ in 0..9 {
        say(&mut delivery, stream, &"y".repeat(100));
        flush_all(&mut delivery, &mut sockets);
    }
    sockets.room.clear();
    delivery.writable(Outlet(0));
    for _ in 0..9 {
        say(&mut delivery, stream, &"z".repeat(100));
    }
    flush_all(&mut delivery, &mut sockets);
    assert_eq!(sockets.text(Outlet(0)).len(), 1_800);
    assert!(delivery.notices().next().is_none());
}

#[test]
fn a_stream_deleted_while_queued_leaves_its_number_to_another() {
    let mut delivery = delivery(256);
    let mut sockets = Sockets::default();
    let old = delivery.create_stream(1);
    members(&mut delivery, old, 1);
    say(&mut delivery, old, "old ");
    leave(&mut delivery, Outlet(0), old);
    delivery.delete_stream(old);
    let new = delivery.create_stream(2);
    assert_ne!(old, new, "the queue still names the old one");
    delivery.join(Outlet(0), new);
    say(&mut delivery, new, "new");
    flush_all(&mut delivery, &mut sockets);
    assert_eq!(sockets.text(Outlet(0)), "old new");
    assert_eq!(delivery.create_stream(3), old);
}

#[test]
fn full_sockets_use_up_a_slice_too() {
    let mut delivery = delivery(0);
    let mut sockets = Sockets::default();
    let stream = delivery.create_stream(1);
    members(&mut delivery, stream, 100);
    for number in 0..100 {
        sockets.room.insert(Outlet(number), 0);
    }
    say(&mut delivery, stream, "a");
    flush_all(&mut delivery, &mut sockets);
    say(&mut delivery, stream, "b");
    delivery.flush_slice(NOW, &mut sockets, 10);
    assert!(delivery.has_work(), "a hundred visits are more than ten sends' worth");
}

#[test]
fn who_reads_no_answers_is_held_until_they_are_gone() {
    let limits = Limits { reply_reserve_bytes: 100, ..Limits::default() };
    let mut delivery = Delivery::new(limits);
    let mut sockets = Sockets::default();
    let outlet = Outlet(0);
    delivery.attach(outlet);
    let answer = |delivery: &mut Delivery| {
        let before = delivery.unsaid(outlet);
        delivery.reply(outlet, |out| out.extend_from_slice(&[b'a'; 30]));
        before.is_some_and(|before| delivery.hold(outlet, before))
    };
    assert!((0..100).all(|_| !answer(&mut delivery)), "a socket that takes bytes is read");
    sockets.room.insert(outlet, 10);
    flush_all(&mut delivery, &mut sockets);
    // What somebody else says to it does not count.
    delivery.reply(outlet, |out| out.extend_from_slice(&[b'x'; 1_000]));
    let answers = (0..100).take_while(|_| !answer(&mut delivery)).count();
    assert_eq!(answers, 3, "the fourth passes the limit");
    assert!(delivery.is_held(outlet));
    delivery.collect(NOW, outlet);
    let waiting = delivery.waiting_bytes(outlet);
    sockets.room.insert(outlet, waiting - 1);
    delivery.writable(outlet);
    flush_all(&mut delivery, &mut sockets);
    assert!(delivery.is_held(outlet));
    sockets.room.insert(outlet, 1);
    delivery.writable(outlet);
    flush_all(&mut delivery, &mut sockets);
    assert!(!delivery.is_held(outlet));
    assert!(delivery.notices().any(|notice| matches!(notice, Notice::Relieved(Outlet(0)))));
}
