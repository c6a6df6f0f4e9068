//! Connections that come and go while the load runs, at a rate of their own.
//!
//! ```text
//!          timetable             session ready          stay is over          the socket is gone
//! Vacant ─────────────▶ Joining ───────────▶ Staying ───────────▶ Leaving ───────────────▶ Vacant
//!                          └─ refused, cut, or not ready in time: a failed login ────────────┘
//! ```
//!
//! One thread's part: which place is free, who is due and who is overdue. It opens and closes nothing itself; the
//! worker does. A visit that finds no free place waits for one, and its latency counts from its place in the timetable.

use std::collections::VecDeque;

use crate::meter::Timing;
use crate::plan::VisitPlan;
use crate::schedule::Schedule;

/// A server may take so long to end a connection after our good-bye; then we do it.
const LEAVE_NS_MAX: u64 = 1_000_000_000;

/// Where a place's visitor is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "drawn in the module's picture")]
pub enum Place {
    Vacant,
    Joining,
    Staying,
    Leaving,
}

#[derive(Clone, Debug)]
struct Slot {
    place: Place,
    /// Number of the visit, so that an old entry of `leaves` is not taken for the present visitor.
    visit: u32,
    intended_ns: u64,
    /// When to give up waiting for the session, or for the end of the connection.
    deadline_ns: u64,
}

/// A visit that begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Begin {
    /// Index of the connection.
    pub index: usize,
    /// When it was meant to begin.
    pub intended_ns: u64,
    /// It is late because no place was free, not because the generator was busy.
    pub has_waited: bool,
}

/// The visits of one thread.
#[derive(Debug)]
pub struct Visits {
    plan: VisitPlan,
    thread: u32,
    threads: usize,
    schedule: Option<Schedule>,
    /// Index of the first connection that is a place for visitors.
    first: usize,
    slots: Vec<Slot>,
    free: Vec<u32>,
    /// Who leaves when, in the order of time: everybody stays equally long.
    leaves: VecDeque<(u64, u32, u32)>,
    called: u32,
    begun: u32,
    /// A visit is due and no place is free.
    is_full: bool,
    to_ns: u64,
}

impl Visits {
    /// For `thread` of `threads`, whose connections from `first` on are `places` for visitors.
    pub fn new(plan: VisitPlan, thread: usize, threads: usize, first: usize, places: usize) -> Self {
        let slot = Slot { place: Place::Vacant, visit: 0, intended_ns: 0, deadline_ns: u64::MAX };
        Self {
            plan,
            thread: thread as u32,
            threads,
            schedule: None,
            first,
            slots: vec![slot; places],
            free: (0..places as u32).rev().collect(),
            leaves: VecDeque::new(),
            called: 0,
            begun: 0,
            is_full: false,
            to_ns: 0,
        }
    }

    /// The load begins.
    pub fn begin(&mut self, timing: Timing) {
        self.to_ns = timing.to_ns;
        self.schedule = Some(Schedule::new(timing.start_ns, self.plan.rate, self.threads, vec![self.thread]));
    }

    /// When there is something to do by the clock alone.
    pub fn next_due_ns(&self) -> Option<u64> {
        let begin = self.schedule.as_ref().and_then(Schedule::next_due_ns).filter(|due| *due < self.to_ns);
        let leave = self.leaves.front().map(|(at_ns, ..)| *at_ns);
        begin.into_iter().chain(leave).min()
    }

    /// The next visit that is due and has a place. Nothing is due from the end of the load on, but what was before it is
    /// begun also by a thread that looks late.
    pub fn take_begin(&mut self, now_ns: u64) -> Option<Begin> {
        let schedule = self.schedule.as_mut()?;
        let until_ns = now_ns.min(self.to_ns.saturating_sub(1));
        while schedule.take_due(until_ns).is_some() {
            self.called += 1;
        }
        if self.begun == self.called {
            return None;
        }
        let has_waited = self.is_full;
        self.is_full = self.free.is_empty();
        let place = self.free.pop()?;
        let intended_ns = schedule.intended_ns(self.thread, self.begun);
        self.begun += 1;
        let slot = &mut self.slots[place as usize];
        let deadline_ns = now_ns + self.plan.login_timeout_ns;
        *slot = Slot { place: Place::Joining, visit: self.begun, intended_ns, deadline_ns };
        Some(Begin { index: self.first + place as usize, intended_ns, has_waited })
    }

    /// The session of a visitor is ready. Returns when the visit was meant to begin.
    pub fn handle_ready(&mut self, index: usize, now_ns: u64) -> u64 {
        let place = index - self.first;
        let slot = &mut self.slots[place];
        slot.place = Place::Staying;
        slot.deadline_ns = u64::MAX;
        self.leaves.push_back((now_ns + self.plan.stay_ns, place as u32, slot.visit));
        slot.intended_ns
    }

    /// The next visitor whose time is over.
    pub fn take_leave(&mut self, now_ns: u64) -> Option<usize> {
        while let Some((_, place, visit)) = self.leaves.pop_front_if(|(at_ns, ..)| *at_ns <= now_ns) {
            let slot = &mut self.slots[place as usize];
            if slot.place == Place::Staying && slot.visit == visit {
                slot.place = Place::Leaving;
                slot.deadline_ns = now_ns + LEAVE_NS_MAX;
                return Some(self.first + place as usize);
            }
        }
        None
    }

    /// Connections for which nothing has happened in time.
    pub fn overdue(&self, now_ns: u64) -> Vec<usize> {
        let overdue = |(place, slot): (usize, &Slot)| {
            (slot.place != Place::Vacant && slot.deadline_ns <= now_ns).then_some(self.first + place)
        };
        self.slots.iter().enumerate().filter_map(overdue).collect()
    }

    /// The connection is closed. Returns where its visitor was.
    pub fn end(&mut self, index: usize) -> Place {
        let place = index - self.first;
        let was = std::mem::replace(&mut self.slots[place].place, Place::Vacant);
        if was != Place::Vacant {
            self.free.push(place as u32);
        }
        was
    }

    /// Visits that were due and never began, because no place became free.
    pub fn unbegun(&self) -> u64 {
        u64::from(self.called - self.begun)
    }

    /// Visitors without a session so far.
    pub fn joining(&self) -> u64 {
        self.slots.iter().filter(|slot| slot.place == Place::Joining).count() as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: u64 = 1_000_000;

    fn visits(places: usize) -> Visits {
        let plan = VisitPlan {
            rate: 1_000.0,
            stay_ns: 2 * MS,
            login_timeout_ns: 5 * MS,
            is_measured: true,
            cut: false,
        };
        let mut visits = Visits::new(plan, 0, 1, 10, places);
        visits.begin(Timing { start_ns: 0, from_ns: 0, to_ns: 100 * MS });
        visits
    }

    #[test]
    fn visits_begin_by_the_timetable_and_leave_after_their_stay() {
        let mut visits = visits(2);
        assert_eq!(visits.take_begin(0), Some(Begin { index: 10, intended_ns: 0, has_waited: false }));
        assert_eq!(visits.take_begin(0), None);
        assert_eq!(visits.next_due_ns(), Some(MS));
        assert_eq!(visits.handle_ready(10, MS / 2), 0);
        assert_eq!(visits.take_leave(2 * MS), None);
        assert_eq!(visits.take_leave(3 * MS), Some(10));
        assert_eq!(visits.end(10), Place::Leaving);
        assert_eq!(visits.end(10), Place::Vacant, "a place is freed once");
    }

    #[test]
    fn a_visit_without_a_place_waits_and_keeps_its_time() {
        let mut visits = visits(1);
        visits.take_begin(0).unwrap();
        assert_eq!(visits.take_begin(3 * MS), None);
        assert_eq!(visits.unbegun(), 3);
        visits.end(10);
        assert_eq!(visits.take_begin(4 * MS), Some(Begin { index: 10, intended_ns: MS, has_waited: true }));
    }

    #[test]
    fn a_late_look_begins_what_was_due_before_the_end_and_nothing_more() {
        let mut visits = visits(101);
        let mut begun = 0;
        while let Some(begin) = visits.take_begin(250 * MS) {
            assert_eq!(begin.intended_ns, begun * MS);
            begun += 1;
        }
        assert_eq!((begun, visits.unbegun()), (100, 0));
    }

    #[test]
    fn who_is_not_ready_in_time_is_overdue_and_an_old_leave_does_not_touch_the_next_visitor() {
        let mut visits = visits(1);
        visits.take_begin(0).unwrap();
        assert!(visits.overdue(4 * MS).is_empty());
        assert_eq!((visits.overdue(5 * MS), visits.joining()), (vec![10], 1));
        visits.handle_ready(10, 5 * MS);
        visits.end(10);
        visits.take_begin(6 * MS).unwrap();
        visits.handle_ready(10, 6 * MS);
        assert_eq!(visits.take_leave(7 * MS), None, "that was the first visitor's time");
        assert_eq!(visits.take_leave(8 * MS), Some(10));
    }
}
