//! One event stream: the frames of one subscription in one encoding, and who has had how much of them.
//!
//! ```text
//! frames      first ............. round ............. end
//! bytes       begin                                   end_byte
//!             │ sealed chunks … │ open chunk … │
//! ```
//!
//! Invariants: `first <= round <= end`, and `first <= pos <= end` for every member. A member's `pos` is the number of
//! the first frame it has not been given; it is the only ordering state. The scan visits `left` members from `cursor`
//! on, round and round; when it comes to an end every member stands at `end`.

use std::collections::VecDeque;
use std::io::IoSlice;
use std::num::NonZeroU32;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};

use super::Outlet;
use super::waiting::Rule;
use crate::encoding::Framing;
use crate::mutation::{Mutation, planted};
use crate::receivers::Receivers;
use crate::session::Label;
use crate::topics::SlowConsumer;

/// Key of a stream in its shard's [`Delivery`](super::Delivery).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct StreamId(NonZeroU32);

const _: () =
    assert!(size_of::<Option<StreamId>>() == 4, "a subscription has a place for one in each encoding");

impl StreamId {
    /// The first place of the streams is never used, so that a number is none's.
    pub(super) fn at(index: usize) -> Self {
        let number = u32::try_from(index).ok().and_then(NonZeroU32::new);
        Self(number.expect("place 0 is taken, and memory ends before the numbers do"))
    }

    /// Its place.
    #[inline]
    pub(super) fn index(self) -> usize {
        self.0.get() as usize
    }
}

/// One member of a stream. 16 bytes: the scan reads one of these per send.
#[derive(Clone, Copy, Debug)]
pub(super) struct Member {
    /// Number of the first frame not given yet.
    pub(super) pos: u64,
    pub(super) outlet: Outlet,
    /// Some frame in `pos..end` may not be for this member: look at the marks.
    pub(super) excepted: bool,
}

const _: () = assert!(size_of::<Member>() == 16, "the scan's working set");

/// Where a frame ends, when it was routed, and who must not get it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Mark {
    pub(super) sequence: u64,
    pub(super) end: u64,
    pub(super) except: Option<Outlet>,
}

/// A frame with lists of receivers.
#[derive(Debug)]
struct Listed {
    frame: u64,
    receivers: Arc<Receivers>,
    /// Those that do not get it are marked as excepted, and all others were counted.
    is_counted: bool,
}

/// What is to be done with the stream by the flush.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Queue {
    Idle,
    Small,
    Big,
}

#[derive(Debug)]
pub(super) struct Stream {
    /// The owner's name for the stream, given back in congestion notices.
    pub(super) tag: u64,
    /// What its frames are made when they are appended.
    pub(super) framing: Framing,
    /// None while it has none: of a million streams hardly any does.
    frames: Option<Box<Frames>>,
    first: u64,
    end: u64,
    begin: u64,
    pub(super) members: Vec<Member>,
    /// About how many members do not stand where they would by slot.
    disordered: usize,
    pub(super) cursor: usize,
    pub(super) left: usize,
    /// The end at the cursor's last passing of zero: older frames may go at its next.
    pub(super) round: u64,
    pub(super) queue: Queue,
    /// Its place in the list of active streams, unless idle.
    pub(super) active_at: usize,
    pub(super) congested: bool,
    /// Half of what it may hold, or more: see [`Delivery::takes_more`](super::Delivery::takes_more).
    pub(super) brimming: bool,
    /// Past the last frame whose lists say for each member whether it is due: who stands before it looks at them.
    pub(super) listed_end: u64,
    /// Frames with lists, oldest first; none while there are none.
    #[allow(clippy::box_collection, reason = "hardly any stream has one: 8 bytes instead of 32")]
    listed: Option<Box<VecDeque<Listed>>>,
    listed_bytes: usize,
    rule: Option<Box<Ruled>>,
}

/// The frames that are kept.
#[derive(Debug, Default)]
struct Frames {
    chunks: VecDeque<Chunk>,
    open: BytesMut,
    open_at: u64,
    marks: VecDeque<Mark>,
}

/// What a stream has whose topic has a rule.
#[derive(Debug)]
struct Ruled {
    rule: Rule,
    /// By which each frame replaces others, oldest frame first; none unless the rule is to conflate.
    keys: VecDeque<u64>,
    /// Members for which the publishers wait.
    pausing: u32,
}

#[derive(Debug)]
struct Chunk {
    at: u64,
    bytes: Bytes,
}

impl Stream {
    pub(super) fn new(tag: u64, framing: Framing) -> Self {
        Self {
            tag,
            framing,
            frames: None,
            first: 0,
            end: 0,
            begin: 0,
            members: Vec::new(),
            disordered: 0,
            cursor: 0,
            left: 0,
            round: 0,
            queue: Queue::Idle,
            active_at: 0,
            congested: false,
            brimming: false,
            listed_end: 0,
            listed: None,
            listed_bytes: 0,
            rule: None,
        }
    }

    /// Says how frames wait for slow members; before the first one is appended.
    pub(super) fn set_rule(&mut self, rule: Rule) {
        debug_assert_eq!(self.end(), 0, "each frame has a key, or none has");
        self.rule = Some(Box::new(Ruled { rule, keys: VecDeque::new(), pausing: 0 }));
    }

    /// How frames wait for slow members, if not as always.
    pub(super) fn rule(&self) -> Option<&Rule> {
        self.rule.as_ref().map(|ruled| &ruled.rule)
    }

    /// By which frame `frame` replaces others.
    pub(super) fn key(&self, frame: u64) -> Option<u64> {
        self.rule.as_ref()?.keys.get((frame - self.first) as usize).copied()
    }

    /// The publishers must wait for one member more; whether it is the first one.
    pub(super) fn add_pause(&mut self) -> bool {
        let ruled = self.rule.as_mut().expect("only a rule pauses");
        ruled.pausing += 1;
        ruled.pausing == 1
    }

    /// And for one less; whether it was the last one.
    pub(super) fn end_pause(&mut self) -> bool {
        let ruled = self.rule.as_mut().expect("only a rule pauses");
        ruled.pausing -= 1;
        ruled.pausing == 0
    }

    /// Number of the oldest frame that is kept.
    pub(super) fn beginning(&self) -> u64 {
        self.first
    }

    /// Number of the next frame.
    pub(super) fn end(&self) -> u64 {
        self.end
    }

    /// Frames kept for members that have not had them.
    pub(super) fn frame_count(&self) -> usize {
        (self.end - self.first) as usize
    }

    fn end_byte(&self) -> u64 {
        self.frames.as_ref().map_or(self.begin, |frames| frames.end_byte())
    }

    /// Of a stream with a frame.
    #[inline]
    fn frames(&self) -> &Frames {
        self.frames.as_ref().expect("what has a frame has a place for it")
    }

    /// Bytes kept for members that have not had them, and what the lists of those frames take.
    pub(super) fn held_bytes(&self) -> usize {
        (self.end_byte() - self.begin) as usize + self.listed_bytes
    }

    /// The mark of frame `frame`, which is in `first..end`.
    pub(super) fn mark(&self, frame: u64) -> &Mark {
        &self.frames().marks[(frame - self.first) as usize]
    }

    /// Where frame `frame` begins; `end` gives the end of all bytes.
    fn byte_of(&self, frame: u64) -> u64 {
        if frame == self.first { self.begin } else { self.mark(frame - 1).end }
    }

    /// Bytes of the frames `from..to`.
    pub(super) fn byte_count(&self, from: u64, to: u64) -> usize {
        (self.byte_of(to) - self.byte_of(from)) as usize
    }

    /// How many of the frames `from..to` lie wholly in their first `bytes` bytes.
    pub(super) fn frames_within(&self, from: u64, to: u64, bytes: usize) -> u64 {
        let reached = self.byte_of(from) + bytes as u64;
        (from..to).take_while(|frame| self.mark(*frame).end <= reached).count() as u64
    }

    /// Appends one frame, written by `write`. `key` is for streams that conflate.
    pub(super) fn append(
        &mut self,
        sequence: u64,
        except: Option<Outlet>,
        key: u64,
        pool: &mut ChunkPool,
        write: impl FnOnce(&mut BytesMut),
    ) {
        let begin = self.begin;
        let frames = self.frames.get_or_insert_with(|| pool.take_frames(begin));
        if frames.open.capacity() == 0 {
            frames.open = pool.take();
        } else if frames.open.capacity() - frames.open.len() < FRAME_SHARES_CHUNK
            && frames.open.len() >= CHUNK_BYTES - FRAME_SHARES_CHUNK
        {
            frames.seal();
            frames.open = pool.take();
        }
        let before = frames.open.len();
        write(&mut frames.open);
        let frame_bytes = frames.open.len() - before;
        debug_assert!(frame_bytes > 0, "a frame has a header at least");
        frames.marks.push_back(Mark { sequence, end: frames.end_byte(), except });
        self.end += 1;
        if frame_bytes > FRAME_SHARES_CHUNK {
            frames.seal();
        }
        if let Some(ruled) = &mut self.rule
            && ruled.rule.handling.slow_consumer == SlowConsumer::Conflate
        {
            ruled.keys.push_back(key);
        }
    }

    /// Says whom the last frame is for. Where `is_counted`, the members that it is not for are marked as excepted.
    pub(super) fn list_last(&mut self, receivers: &Arc<Receivers>, is_counted: bool) {
        let frame = self.end() - 1;
        if !is_counted {
            self.listed_end = frame + 1;
        }
        self.listed_bytes += receivers.bytes();
        let listed = Listed { frame, receivers: Arc::clone(receivers), is_counted };
        self.listed.get_or_insert_default().push_back(listed);
    }

    /// Whether a member must be asked for frame by frame.
    pub(super) fn is_choosy(&self, member: &Member) -> bool {
        member.excepted || member.pos < self.listed_end
    }

    /// Calls `each` for the runs of frames that are due to the member and for it; returns how many of these frames were not
    /// counted as matched when they were appended.
    pub(super) fn for_each_due(&self, member: &Member, label: &Label, mut each: impl FnMut(u64, u64)) -> u64 {
        let listed = self.listed.as_deref();
        let at = listed.map_or(0, |listed| listed.partition_point(|entry| entry.frame < member.pos));
        let mut listed = listed.into_iter().flat_map(|listed| listed.range(at..)).peekable();
        let (mut from, mut uncounted) = (member.pos, 0);
        for frame in member.pos..self.end() {
            let lists = listed.next_if(|entry| entry.frame == frame);
            let is_listed = lists.is_none_or(|entry| entry.receivers.admit(label));
            if is_listed && self.mark(frame).except != Some(member.outlet) {
                uncounted += u64::from(lists.is_some_and(|entry| !entry.is_counted));
                continue;
            }
            if from < frame {
                each(from, frame);
            }
            from = frame + 1;
        }
        if from < self.end() {
            each(from, self.end());
        }
        uncounted
    }

    /// The bytes of the frames `from..to`, if they lie in one piece.
    #[inline]
    pub(super) fn one_piece(&self, from: u64, to: u64) -> Option<&[u8]> {
        let (at, end) = (self.byte_of(from), self.byte_of(to));
        let frames = self.frames.as_ref()?;
        if at >= frames.open_at {
            return Some(&frames.open[(at - frames.open_at) as usize..(end - frames.open_at) as usize]);
        }
        // Who is not far behind needs only the last chunk that was sealed, or the only one.
        let chunk = frames.chunks.back().filter(|chunk| chunk.at <= at)?;
        chunk.bytes.get((at - chunk.at) as usize..(end - chunk.at) as usize)
    }

    /// Calls `each` for the consecutive pieces of the frames `from..to`, less their first `skip` bytes.
    pub(super) fn for_each_slice<'a>(
        &'a self,
        from: u64,
        to: u64,
        skip: usize,
        mut each: impl FnMut(&'a [u8]),
    ) {
        let mut at = self.byte_of(from) + skip as u64;
        let end = self.byte_of(to);
        let Some(frames) = &self.frames else { return };
        if at < frames.open_at {
            let start = frames.chunks.partition_point(|chunk| chunk.at + chunk.bytes.len() as u64 <= at);
            for chunk in frames.chunks.range(start..) {
                if at >= end {
                    return;
                }
                let inside = (at - chunk.at) as usize;
                let take = ((end - at) as usize).min(chunk.bytes.len() - inside);
                each(&chunk.bytes[inside..inside + take]);
                at += take as u64;
            }
        }
        if at < end {
            each(&frames.open[(at - frames.open_at) as usize..(end - frames.open_at) as usize]);
        }
    }

    /// Fills `slices` from `used` on with the frames `from..to`, less their first `skip` bytes; returns how many are used
    /// then. Stops when it is full.
    pub(super) fn fill<'a>(
        &'a self,
        from: u64,
        to: u64,
        skip: usize,
        slices: &mut [IoSlice<'a>],
        mut used: usize,
    ) -> usize {
        self.for_each_slice(from, to, skip, |piece| {
            if let Some(slot) = slices.get_mut(used) {
                *slot = IoSlice::new(piece);
                used += 1;
            }
        });
        used
    }

    /// References to the bytes of the frames `from..to`, less their first `skip`.
    pub(super) fn share(&mut self, from: u64, to: u64, skip: usize, mut each: impl FnMut(Bytes)) {
        let mut at = self.byte_of(from) + skip as u64;
        let end = self.byte_of(to);
        let Some(frames) = &mut self.frames else { return };
        if end > frames.open_at {
            frames.seal();
        }
        let start = frames.chunks.partition_point(|chunk| chunk.at + chunk.bytes.len() as u64 <= at);
        for chunk in frames.chunks.range(start..) {
            if at >= end {
                return;
            }
            let inside = (at - chunk.at) as usize;
            let take = ((end - at) as usize).min(chunk.bytes.len() - inside);
            each(chunk.bytes.slice(inside..inside + take));
            at += take as u64;
        }
    }

    /// Forgets the frames before `frame`. Nobody's `pos` is below it.
    pub(super) fn trim(&mut self, frame: u64, pool: &mut ChunkPool) {
        debug_assert!(self.members.iter().all(|member| member.pos >= frame), "a member still needs it");
        if let Some(ruled) = &mut self.rule {
            let gone = (frame.saturating_sub(self.first) as usize).min(ruled.keys.len());
            ruled.keys.drain(..gone);
        }
        if let Some(frames) = &mut self.frames {
            while self.first < frame {
                let mark = frames.marks.pop_front().expect("first < frame <= end, so there is a mark");
                self.begin = mark.end;
                self.first += 1;
            }
            let begin = self.begin;
            while frames.chunks.front().is_some_and(|chunk| chunk.at + chunk.bytes.len() as u64 <= begin) {
                frames.chunks.pop_front();
            }
        }
        if let Some(listed) = &mut self.listed {
            let early = planted(Mutation::ListsTrimmedTooEarly);
            while let Some(entry) = listed.pop_front_if(|entry| entry.frame < frame || early) {
                self.listed_bytes -= entry.receivers.bytes();
            }
            if listed.is_empty() {
                self.listed = None;
            }
        }
        if self.first == self.end {
            if let Some(ruled) = self.rule.as_mut().filter(|ruled| ruled.keys.capacity() > KEEP_MARKS) {
                ruled.keys = VecDeque::new();
            }
            if let Some(frames) = self.frames.take() {
                pool.give_frames(frames);
            }
        }
    }

    /// Takes a member in; returns its index.
    pub(super) fn push_member(&mut self, member: Member) -> usize {
        self.disordered += usize::from(self.members.last().is_some_and(|last| last.outlet > member.outlet));
        if self.members.is_empty() {
            // Of a million topics nearly all have one.
            self.members.reserve_exact(1);
        }
        self.members.push(member);
        if self.left > 0 {
            // One place more to visit before the cursor has been everywhere.
            self.left += 1;
        }
        self.members.len() - 1
    }

    /// Whether putting the members in order is worth its price, and does not hold up others.
    pub(super) fn is_disordered(&self) -> bool {
        self.members.len() <= ORDERED_MEMBERS_MAX && self.disordered > self.members.len() / DISORDERED_PART
    }

    /// Puts the members in the order of their slots. Only between two scans; every index changes.
    pub(super) fn order_members(&mut self) {
        debug_assert_eq!(self.left, 0, "the cursor would miss somebody");
        self.members.sort_unstable_by_key(|member| member.outlet);
        self.cursor = 0;
        self.disordered = 0;
    }

    /// Takes member `index` out; the last one moves into its place and is returned with its new index.
    pub(super) fn swap_remove(&mut self, index: usize) -> Option<Outlet> {
        self.members.swap_remove(index);
        let count = self.members.len();
        self.disordered += usize::from(index < count);
        self.left = self.left.min(count);
        if self.cursor >= count {
            // Not a passing of zero: the cursor has not visited what it would drop at one.
            self.cursor = 0;
        }
        self.members.get(index).map(|moved| moved.outlet)
    }

    /// Panics where the invariants of the module do not hold.
    #[cfg(test)]
    pub(super) fn check(&self) {
        assert!(self.first <= self.round && self.round <= self.end());
        assert!(self.left <= self.members.len());
        assert!(self.cursor < self.members.len().max(1));
        for member in &self.members {
            assert!(self.first <= member.pos && member.pos <= self.end());
            assert!(self.left > 0 || member.pos == self.end(), "an ended scan left nobody behind");
        }
        assert_eq!(self.byte_of(self.end()), self.end_byte());
        assert_eq!(self.frames.as_ref().map_or(0, |frames| frames.marks.len()), self.frame_count());
        if let Some(ruled) = &self.rule {
            let conflates = ruled.rule.handling.slow_consumer == SlowConsumer::Conflate;
            assert_eq!(ruled.keys.len(), if conflates { self.frame_count() } else { 0 });
        }
        let listed = self.listed.iter().flat_map(|listed| listed.iter());
        assert_eq!(self.listed_bytes, listed.map(|entry| entry.receivers.bytes()).sum::<usize>());
    }
}

impl Frames {
    fn end_byte(&self) -> u64 {
        self.open_at + self.open.len() as u64
    }

    /// Makes the open chunk shareable; the next frame starts another.
    fn seal(&mut self) {
        if !self.open.is_empty() {
            let bytes = self.open.split().freeze();
            let at = self.open_at;
            self.open_at += bytes.len() as u64;
            self.chunks.push_back(Chunk { at, bytes });
        }
    }
}

/// Empty chunks for the next frames, and room for what is known of them; bounded, so an old burst does not stay.
#[derive(Debug, Default)]
pub(super) struct ChunkPool {
    free: Vec<BytesMut>,
    #[allow(clippy::vec_box, reason = "they go back and forth as boxes")]
    frames: Vec<Box<Frames>>,
}

impl ChunkPool {
    pub(super) fn take(&mut self) -> BytesMut {
        self.free.pop().unwrap_or_else(|| BytesMut::with_capacity(FRAME_SHARES_CHUNK))
    }

    pub(super) fn give(&mut self, mut chunk: BytesMut) {
        if self.free.len() < POOL_CHUNKS && (FRAME_SHARES_CHUNK..=2 * CHUNK_BYTES).contains(&chunk.capacity())
        {
            chunk.clear();
            self.free.push(chunk);
        }
    }

    /// For a stream whose bytes go on at `begin`.
    fn take_frames(&mut self, begin: u64) -> Box<Frames> {
        let mut frames = self.frames.pop().unwrap_or_default();
        frames.open_at = begin;
        frames
    }

    /// Of a stream that has none left.
    fn give_frames(&mut self, mut frames: Box<Frames>) {
        debug_assert!(frames.marks.is_empty() && frames.chunks.is_empty(), "somebody may still need them");
        self.give(std::mem::take(&mut frames.open));
        if self.frames.len() < POOL_FRAMES {
            if frames.marks.capacity() > KEEP_MARKS {
                frames.marks = VecDeque::new();
            }
            self.frames.push(frames);
        }
    }

    pub(super) fn clear(&mut self) {
        (self.free, self.frames) = (Vec::new(), Vec::new());
    }
}

/// Room for this many marks is kept to be used again, 1.5 KiB: a burst's must not stay for ever.
const KEEP_MARKS: usize = 64;
/// Small frames share chunks of this size.
const CHUNK_BYTES: usize = 64 << 10;
/// A frame above this is a chunk of its own, so that a slow member pins no more than it needs.
pub(super) const FRAME_SHARES_CHUNK: usize = 4 << 10;
/// Ordering takes 30 ns for each member, so 2 ms at most.
const ORDERED_MEMBERS_MAX: usize = 1 << 16;
/// Members are put in order when more than this part of them is out of it: some 250 ns for each that joined or left.
const DISORDERED_PART: usize = 8;
/// 4 MiB per shard at most.
const POOL_CHUNKS: usize = 64;
/// 1.6 MiB per shard at most.
const POOL_FRAMES: usize = 1_024;
