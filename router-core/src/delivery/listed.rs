//! Frames with lists of receivers: for some members of a stream only.
//!
//! Routing touches no members that are not named. Three ways, by what the lists say:
//!
//! * *few are eligible*: the frame goes into their outboxes, beside the stream, and nobody else is visited for it;
//! * *few are excluded*: their entries are marked, like that of an excepted publisher; all others are as fast as ever;
//! * *anything else*: the frame keeps its lists, and each member is asked when the flush comes by. Only then is it known who
//!   matches, so only then are the event's deliveries counted as matched.

use std::sync::Arc;

use bytes::BytesMut;

use super::{Delivery, Outlet, StreamId, forget_large, index_of};
use crate::counters::DropReason;
use crate::encoding::Framing;
use crate::mutation::{Mutation, planted};
use crate::receivers::Receivers;

/// The lists of one publication, and whom of this shard they name.
#[derive(Debug)]
pub(crate) struct Named {
    pub(crate) receivers: Arc<Receivers>,
    pub(crate) known: Known,
}

/// Connections of this shard that lists name, members of a stream or not.
#[derive(Debug)]
pub(crate) enum Known {
    /// Nobody else is eligible, and all these are.
    Eligible(Vec<Outlet>),
    /// All others are eligible.
    Excluded(Vec<Outlet>),
    /// They are too many, or the lists go by something else.
    Unknown,
}

impl Delivery {
    /// Appends one frame for the members that the lists admit, less `except`.
    pub(crate) fn append_listed(
        &mut self,
        id: StreamId,
        except: Option<Outlet>,
        named: &Named,
        write: impl FnOnce(&mut BytesMut),
    ) {
        let excluded = match &named.known {
            Known::Eligible(outlets) => return self.append_direct(id, except, outlets, write),
            Known::Excluded(outlets) => Some(&outlets[..]),
            Known::Unknown => None,
        };
        let excepted = except.and_then(|outlet| self.member_index(outlet, id));
        let places: Vec<usize> = excluded
            .unwrap_or_default()
            .iter()
            .filter_map(|outlet| self.member_index(*outlet, id))
            .filter(|place| Some(*place) != excepted)
            .collect();
        let rest = self.stream(id).members.len() - usize::from(excepted.is_some()) - places.len();
        if rest == 0 {
            return;
        }
        if self.is_overflowing(id) {
            return self.drop_event(id, except, Some(&named.receivers), DropReason::StreamOverflow);
        }
        let is_counted = excluded.is_some() || planted(Mutation::ListsNotKept);
        if !self.append_frame(id, except, excepted, write) {
            return self.drop_event(id, except, Some(&named.receivers), DropReason::MessageTooLong);
        }
        if is_counted {
            self.counters.matched += rest as u64;
            self.counters.queued += rest as u64;
        }
        let stream = self.streams[id.index()].as_mut().expect("the stream is alive");
        for place in places {
            stream.members[place].excepted = true;
        }
        if !planted(Mutation::ListsNotKept) {
            stream.list_last(&named.receivers, is_counted);
        }
        self.note_size(id);
    }

    /// Puts one frame into the outboxes of those of `to` that are members of the stream: as an event, after everything
    /// routed to them before.
    pub(crate) fn append_direct(
        &mut self,
        id: StreamId,
        except: Option<Outlet>,
        to: &[Outlet],
        write: impl FnOnce(&mut BytesMut),
    ) {
        let is_due = |outlet: &&Outlet| {
            let is_member = self.member_index(**outlet, id).is_some() || planted(Mutation::DirectToStrangers);
            is_member && Some(**outlet) != except
        };
        let members: Vec<Outlet> = to.iter().filter(is_due).copied().collect();
        if members.is_empty() {
            return;
        }
        self.frame.clear();
        write(&mut self.frame);
        let framing = self.stream(id).framing;
        if framing != Framing::Plain
            && !self.compressors.frame_for_all(framing, &mut self.frame, 0, &mut self.counters)
        {
            self.counters.matched += members.len() as u64;
            forget_large(&mut self.frame);
            return self.counters.drop_events(DropReason::MessageTooLong, members.len() as u64);
        }
        self.sequence += 1;
        for outlet in members {
            self.counters.matched += 1;
            if self.is_closed(outlet) {
                self.counters.drop_events(DropReason::ConnectionGone, 1);
                continue;
            }
            self.counters.queued += 1;
            let outbox = self.outlets[outlet.index()]
                .outbox
                .get_or_insert_with(|| self.outboxes.pop().unwrap_or_default());
            outbox.replies.extend_from_slice(&self.frame);
            let sequence = if planted(Mutation::DirectOvertakes) { 0 } else { self.sequence };
            outbox.mark_reply(sequence, Some(id));
            self.make_dirty(outlet);
        }
        forget_large(&mut self.frame);
    }

    /// Counts an event that nobody gets, for `reason`. Asks each member, which is what routing else avoids, up to a number
    /// of them; where there are more, all count.
    pub(crate) fn drop_event(
        &mut self,
        id: StreamId,
        except: Option<Outlet>,
        receivers: Option<&Arc<Receivers>>,
        reason: DropReason,
    ) {
        let members = &self.stream(id).members;
        let receivers = receivers.filter(|_| members.len() <= COUNTED_MEMBERS_MAX);
        let count = match receivers {
            None => {
                let excepted = except.and_then(|outlet| self.member_index(outlet, id));
                members.len() - usize::from(excepted.is_some())
            }
            Some(receivers) => members
                .iter()
                .filter(|member| Some(member.outlet) != except)
                .filter(|member| receivers.admit(&self.labels[member.outlet.index()]))
                .count(),
        };
        self.counters.matched += count as u64;
        self.counters.drop_events(reason, count as u64);
    }

    fn member_index(&self, outlet: Outlet, id: StreamId) -> Option<usize> {
        index_of(&self.outlets.get(outlet.index())?.memberships, id)
    }
}

/// Members that are asked while routing, about 20 ns each, in order to count a dropped event exactly.
const COUNTED_MEMBERS_MAX: usize = 4_096;

#[cfg(test)]
mod tests {
    use fanwire_codec::wamp2::ReceiverLists;

    use super::super::tests::{NOW, Sockets, delivery, flush_all, leave, members, reply, say};
    use super::super::{FlushBudget, Notice};
    use super::*;
    use crate::access::{Access, RealmConfig};
    use crate::config::Limits;
    use crate::ids::{RealmId, RoleId, SessionId};
    use crate::receivers::Audience;
    use crate::session::Label;

    /// Lists over session ids, which are outlet numbers plus 1 here.
    fn receivers(exclude: Option<Vec<u64>>, eligible: Option<Vec<u64>>) -> Arc<Receivers> {
        let access = Access::new(&[RealmConfig::open("r")], 1).expect("the realm is sound");
        let lists = ReceiverLists { exclude, eligible, ..ReceiverLists::default() };
        let Audience::Some(receivers) = Audience::new(&lists, &access, RealmId::new(0)) else {
            panic!("the lists say something");
        };
        receivers
    }

    /// As many members, each with its label.
    fn labelled(delivery: &mut Delivery, stream: StreamId, count: u32) {
        members(delivery, stream, count);
        for number in 0..count {
            let session = SessionId::new(u64::from(number) + 1).expect("an id");
            delivery.set_label(Outlet(number), Label { session, role: RoleId::new(0), principal: None });
        }
    }

    fn say_to(delivery: &mut Delivery, stream: StreamId, eligible: &[u64], text: &str) {
        let named = Named { receivers: receivers(None, Some(eligible.to_vec())), known: Known::Unknown };
        delivery.append_listed(stream, None, &named, |out| out.extend_from_slice(text.as_bytes()));
    }

    fn say_direct(delivery: &mut Delivery, stream: StreamId, outlets: &[u32], text: &str) {
        let outlets: Vec<Outlet> = outlets.iter().copied().map(Outlet).collect();
        let sessions = outlets.iter().map(|outlet| u64::from(outlet.0) + 1).collect();
        let named = Named { receivers: receivers(None, Some(sessions)), known: Known::Eligible(outlets) };
        delivery.append_listed(stream, None, &named, |out| out.extend_from_slice(text.as_bytes()));
    }

    fn say_but(delivery: &mut Delivery, stream: StreamId, except: Option<u32>, excluded: &[u32], text: &str) {
        let outlets: Vec<Outlet> = excluded.iter().copied().map(Outlet).collect();
        let sessions = outlets.iter().map(|outlet| u64::from(outlet.0) + 1).collect();
        let named = Named { receivers: receivers(Some(sessions), None), known: Known::Excluded(outlets) };
        delivery
            .append_listed(stream, except.map(Outlet), &named, |out| out.extend_from_slice(text.as_bytes()));
    }

    #[test]
    fn members_are_asked_when_the_flush_comes_by() {
        for small_stream_members in [0, 256] {
            let mut delivery = delivery(small_stream_members);
            let mut sockets = Sockets::default();
            let stream = delivery.create_stream(1);
            labelled(&mut delivery, stream, 4);
            say(&mut delivery, stream, "a");
            say_to(&mut delivery, stream, &[1, 3], "b");
            say_to(&mut delivery, stream, &[3, 4], "c");
            say(&mut delivery, stream, "d");
            assert_eq!((delivery.counters.matched, delivery.counters.queued), (8, 8), "nobody was asked yet");
            flush_all(&mut delivery, &mut sockets);
            let texts = [0, 1, 2, 3].map(|number| sockets.text(Outlet(number)).to_owned());
            assert_eq!(texts, ["abd", "ad", "abcd", "acd"]);
            assert_eq!((delivery.counters.matched, delivery.counters.delivered), (12, 12));
            say(&mut delivery, stream, "e");
            flush_all(&mut delivery, &mut sockets);
            assert_eq!(sockets.text(Outlet(1)), "ade");
        }
    }

    #[test]
    fn few_excluded_ones_are_marked_and_the_others_counted_at_once() {
        let mut delivery = delivery(256);
        let mut sockets = Sockets::default();
        let stream = delivery.create_stream(1);
        labelled(&mut delivery, stream, 4);
        say_but(&mut delivery, stream, Some(0), &[0, 2, 77], "a");
        assert_eq!(delivery.counters.matched, 2);
        say(&mut delivery, stream, "b");
        flush_all(&mut delivery, &mut sockets);
        let texts = [0, 1, 2, 3].map(|number| sockets.text(Outlet(number)).to_owned());
        assert_eq!(texts, ["b", "ab", "b", "ab"]);
        assert_eq!(delivery.asked, 4, "the two that are marked, for two frames each");
        say_but(&mut delivery, stream, None, &[0, 1, 2, 3], "c");
        assert!(!delivery.has_work(), "nobody is left");
    }

    #[test]
    fn an_event_for_a_few_visits_nobody_else_and_keeps_its_place() {
        let mut delivery = delivery(0);
        let mut sockets = Sockets::default();
        let stream = delivery.create_stream(1);
        labelled(&mut delivery, stream, 3);
        delivery.attach(Outlet(9));
        say_direct(&mut delivery, stream, &[1, 9], "x");
        assert_eq!((delivery.counters.matched, delivery.counters.queued), (1, 1), "9 is no member");
        delivery.flush_dirty(NOW, &mut sockets);
        assert!(!delivery.has_work());
        assert_eq!((sockets.text(Outlet(1)), delivery.counters.sends), ("x", 1));
        say(&mut delivery, stream, "1");
        reply(&mut delivery, Outlet(1), "2");
        say_direct(&mut delivery, stream, &[1, 2], "3");
        reply(&mut delivery, Outlet(1), "4");
        say(&mut delivery, stream, "5");
        flush_all(&mut delivery, &mut sockets);
        assert_eq!(sockets.text(Outlet(1)), "x12345");
        assert_eq!(sockets.text(Outlet(2)), "135");
        assert_eq!(sockets.text(Outlet(0)), "15");
        assert_eq!(delivery.counters.delivered, 9);
    }

    #[test]
    fn what_a_full_socket_leaves_of_such_events_is_kept_and_counted() {
        let mut delivery = delivery(0);
        let mut sockets = Sockets::default();
        let stream = delivery.create_stream(1);
        labelled(&mut delivery, stream, 2);
        sockets.room.insert(Outlet(0), 5);
        say_direct(&mut delivery, stream, &[0], "one ");
        say_direct(&mut delivery, stream, &[0], "two ");
        reply(&mut delivery, Outlet(0), "three ");
        say_to(&mut delivery, stream, &[3], "not yours ");
        say_to(&mut delivery, stream, &[1, 2], "four");
        flush_all(&mut delivery, &mut sockets);
        assert_eq!((sockets.text(Outlet(0)), sockets.text(Outlet(1))), ("one t", "four"));
        assert_eq!((delivery.counters.delivered, delivery.counters.queued), (2, 2));
        sockets.room.clear();
        delivery.writable(Outlet(0));
        flush_all(&mut delivery, &mut sockets);
        assert_eq!(sockets.text(Outlet(0)), "one two three four");
        assert_eq!((delivery.counters.delivered, delivery.counters.queued), (4, 0));
    }

    #[test]
    fn who_goes_or_breaks_takes_its_events_along_once() {
        let mut delivery = delivery(256);
        let mut sockets = Sockets::default();
        sockets.broken.push(Outlet(1));
        let stream = delivery.create_stream(1);
        labelled(&mut delivery, stream, 3);
        say_direct(&mut delivery, stream, &[0, 1, 2], "a");
        say_to(&mut delivery, stream, &[1, 3], "b");
        delivery.detach(NOW, Outlet(0));
        flush_all(&mut delivery, &mut sockets);
        assert_eq!(delivery.counters.dropped[DropReason::ConnectionGone as usize], 3, "a; a and b");
        assert_eq!(sockets.text(Outlet(2)), "ab");
        say_direct(&mut delivery, stream, &[1], "c");
        assert_eq!(delivery.counters.dropped[DropReason::ConnectionGone as usize], 4);
        assert_eq!(delivery.counters.balance(), 0);
    }

    #[test]
    fn a_consumer_that_never_reads_is_cut_by_events_of_its_own_too() {
        let mut delivery = Delivery::new(Limits { outbox_bytes_max: 1_000, ..Limits::default() });
        let mut sockets = Sockets::default();
        let stream = delivery.create_stream(1);
        labelled(&mut delivery, stream, 2);
        sockets.room.insert(Outlet(0), 0);
        for _ in 0..12 {
            say_direct(&mut delivery, stream, &[0], &"y".repeat(100));
            flush_all(&mut delivery, &mut sockets);
        }
        let cut = Notice::Cut(Outlet(0), DropReason::SlowConsumerBytes);
        assert_eq!(delivery.notices().collect::<Vec<_>>(), [cut]);
        assert_eq!(delivery.counters.dropped[DropReason::SlowConsumerBytes as usize], 11);
    }

    #[test]
    fn who_leaves_in_between_gets_what_was_meant_for_it() {
        let mut delivery = delivery(0);
        let mut sockets = Sockets::default();
        let stream = delivery.create_stream(1);
        labelled(&mut delivery, stream, 3);
        say_to(&mut delivery, stream, &[1], "no ");
        say_to(&mut delivery, stream, &[2], "yes ");
        leave(&mut delivery, Outlet(1), stream);
        reply(&mut delivery, Outlet(1), "bye");
        flush_all(&mut delivery, &mut sockets);
        assert_eq!(sockets.text(Outlet(1)), "yes bye");
        assert_eq!(sockets.text(Outlet(0)), "no ");
    }

    #[test]
    fn lists_count_as_bytes_of_their_stream() {
        let limits = Limits { stream_congested_bytes: 4_000, stream_bytes_max: 20_000, ..Limits::default() };
        let mut delivery = Delivery::new(limits);
        let mut sockets = Sockets::default();
        let stream = delivery.create_stream(7);
        labelled(&mut delivery, stream, 3);
        let ids: Vec<u64> = (2..1_002).collect();
        say_to(&mut delivery, stream, &ids, "a");
        assert_eq!(delivery.notices().collect::<Vec<_>>(), [Notice::Congested { tag: 7, congested: true }]);
        for _ in 0..4 {
            say_to(&mut delivery, stream, &ids, "b");
        }
        assert_eq!(
            delivery.counters.dropped[DropReason::StreamOverflow as usize],
            4,
            "two members, two frames"
        );
        flush_all(&mut delivery, &mut sockets);
        assert_eq!(delivery.notices().collect::<Vec<_>>(), [Notice::Congested { tag: 7, congested: false }]);
        assert_eq!((sockets.text(Outlet(0)), sockets.text(Outlet(1))), ("", "abb"));
        assert_eq!(delivery.stream(stream).held_bytes(), 0);
    }

    #[test]
    fn asking_uses_up_a_slice_too() {
        let mut delivery = delivery(0);
        let mut sockets = Sockets::default();
        let stream = delivery.create_stream(1);
        labelled(&mut delivery, stream, 10);
        for _ in 0..200 {
            say_to(&mut delivery, stream, &[99], "nobody here");
        }
        delivery.flush(NOW, &mut sockets, &FlushBudget { small_sends: 0, slice_sends: 1 });
        assert!(delivery.has_work(), "one member with two hundred frames is more than a send's worth");
        flush_all(&mut delivery, &mut sockets);
        assert_eq!(delivery.counters.matched, 0);
    }
}
