//! One connection's input: bytes in, messages and control frames out.
//!
//! ```text
//! idle ──cut header──▶ stash ──rest of it──┐
//!  │                                       ▼
//!  ├──whole frame──▶ handed out in place   frame cut or message fragmented ──▶ Partial ──last byte──▶ idle
//!  └──close frame or error──▶ done: everything that follows is discarded
//! ```

use super::deflate::{Agreement, Context};
use super::header::{self, Expected, HEADER_BYTES_MAX, Opcode, Parsed};
use super::partial::{Completed, DirectRoom, Partial};
use super::{Kind, Pool, ProtocolError, Role, close, utf8};

/// What a connection may send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of one message, all fragments together and inflated if it is compressed; beyond it the connection ends with
    /// 1009. Default 1 MiB. Worst case memory: connections × this, if each leaves a message of this size unfinished (and
    /// an eighth more where compression was negotiated).
    pub message_bytes_max: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self { message_bytes_max: 1024 * 1024 }
    }
}

impl Limits {
    /// What a compressed message may have as it comes. A message that DEFLATE cannot make smaller grows a little, by
    /// less than this even where it is flushed often.
    pub(super) fn compressed(&self) -> Self {
        let most = self.message_bytes_max;
        Self { message_bytes_max: most.saturating_add(most / 8).saturating_add(1024) }
    }

    /// Whether a frame of `more` bytes may follow `have` bytes of its message.
    #[inline]
    pub(super) fn check(&self, have: u64, more: u64) -> Result<(), ProtocolError> {
        let bytes = have.saturating_add(more);
        let bytes_max = self.message_bytes_max;
        if bytes <= bytes_max { Ok(()) } else { Err(ProtocolError::MessageTooLarge { bytes, bytes_max }) }
    }
}

/// One complete thing from the peer.
#[derive(Debug, PartialEq, Eq)]
pub enum Received<'a> {
    /// A message, unmasked. [`Kind::Text`] is UTF-8.
    Message {
        /// Text or binary.
        kind: Kind,
        /// All of it, in one piece. It may be scribbled on.
        payload: &'a mut [u8],
    },
    /// To be answered by a pong with the same payload; of several unanswered ones the latest is enough
    /// (RFC 6455, 5.5.3).
    Ping(&'a [u8]),
    /// Answer to a ping, or a heartbeat that wants no answer.
    Pong(&'a [u8]),
    /// The peer closes: code and reason if it gave them. Answer with the same code unless a close frame was sent
    /// before. What follows on the wire is discarded by the receiver (RFC 6455, 5.5.1).
    Close(Option<(u16, &'a str)>),
}

/// State of one connection's input.
///
/// The driving contract: hand over what was read, from its front, until all of it is consumed; each call returns at
/// most one thing. Then, if [`direct_room`](Self::direct_room) offers room, the next read may go there.
///
/// ```
/// use fanwire_codec::ws::{Limits, Pool, Received, Receiver, Role};
///
/// let mut receiver = Receiver::new(Role::Client);
/// let (limits, mut pool) = (Limits::default(), Pool::default());
/// let mut read = *b"\x81\x05Hello\x89\x00";
/// let mut rest = &mut read[..];
/// let mut seen = Vec::new();
/// while !rest.is_empty() {
///     let (consumed, received) = receiver.receive(rest, &limits, &mut pool)?;
///     seen.push(format!("{received:?}"));
///     rest = &mut rest[consumed..];
/// }
/// receiver.recycle(&mut pool);
/// assert_eq!(seen.len(), 2);
/// # Ok::<(), fanwire_codec::ws::ProtocolError>(())
/// ```
#[derive(Debug)]
pub struct Receiver {
    partial: Option<Box<Partial>>,
    /// What the peer's next compressed message may refer to, if the peer takes its context over.
    context: Option<Box<Context>>,
    /// The beginning of a header that was cut by the end of the input.
    stash: [u8; HEADER_BYTES_MAX],
    stash_len: u8,
    role: Role,
    /// Compression was negotiated.
    compression: bool,
    /// But no compressed message is accepted now.
    compressed_held: bool,
    /// A close frame or a violation came: nothing is read any more.
    done: bool,
}

const _: () = assert!(size_of::<Receiver>() <= 48, "an idle connection's input state stays small");

/// What one step found, without borrowing it yet.
enum Step {
    Exhausted,
    /// A whole frame, unmasked, at this range of the input.
    InPlace {
        opcode: Opcode,
        start: usize,
        end: usize,
    },
    Partial(Completed),
}

impl Receiver {
    /// The input of a fresh connection, after the HTTP heads.
    pub const fn new(role: Role) -> Self {
        Self {
            partial: None,
            context: None,
            stash: [0; HEADER_BYTES_MAX],
            stash_len: 0,
            role,
            compression: false,
            compressed_held: false,
            done: false,
        }
    }

    /// The handshake agreed on permessage-deflate: the peer's messages may be compressed from now on. They are handed out
    /// inflated. Costs nothing more at rest, or [`Context`]'s memory where the peer takes its context over.
    pub fn use_compression(&mut self, agreement: &Agreement) {
        let peer = match self.role {
            Role::Server => agreement.client,
            Role::Client => agreement.server,
        };
        self.compression = true;
        self.context = peer.context().map(Box::new);
    }

    /// While `held`, a compressed message ends the connection with 1008, though compression was negotiated.
    pub fn hold_compressed(&mut self, held: bool) {
        self.compressed_held = held;
    }

    /// Consumes from the front of `input`, unmasking in place, until one thing is complete.
    ///
    /// Returns the bytes consumed and what is complete; `None` means that all of `input` was consumed (a cut tail is
    /// kept inside), so the caller keeps nothing. After an error or a close frame everything is consumed and discarded.
    ///
    /// # Errors
    ///
    /// The peer broke the protocol: send a close frame with the error's code and end the connection.
    #[inline]
    pub fn receive<'a>(
        &'a mut self,
        input: &'a mut [u8],
        limits: &Limits,
        pool: &mut Pool,
    ) -> Result<(usize, Option<Received<'a>>), ProtocolError> {
        let (consumed, step) = match self.step(input, limits, pool) {
            Ok(found) => found,
            Err(error) => {
                self.discard(pool);
                return Err(error);
            }
        };
        let received = match step {
            Step::Exhausted => return Ok((consumed, None)),
            Step::InPlace { opcode, start, end } => {
                let payload = &mut input[start..end];
                match opcode {
                    Opcode::Text => Received::Message { kind: Kind::Text, payload },
                    Opcode::Binary => Received::Message { kind: Kind::Binary, payload },
                    control => control_received(control, payload, &mut self.done)?,
                }
            }
            Step::Partial(completed) => completed_received(&mut self.partial, completed, &mut self.done)?,
        };
        Ok((consumed, Some(received)))
    }

    /// Where the next read goes while a large frame (16 KiB or more) is incomplete: straight into its message, so that it is
    /// copied no more. Then call [`direct_filled`](Self::direct_filled), and [`receive`](Self::receive) for what has come
    /// behind the frame. `None`: read into any buffer, for `receive`.
    ///
    /// The room is never larger than what has come of the message, unless the pool's buffer has it already.
    pub fn direct_room(&mut self) -> Option<DirectRoom<'_>> {
        self.partial.as_mut()?.direct_room()
    }

    /// `count` bytes have been read into the room given by [`direct_room`](Self::direct_room).
    ///
    /// # Errors
    ///
    /// As [`receive`](Self::receive).
    ///
    /// # Panics
    ///
    /// When no room was given or `count` is larger than it.
    pub fn direct_filled(&mut self, count: usize) -> Result<Option<Received<'_>>, ProtocolError> {
        let partial = self.partial.as_mut().expect("direct room was given");
        match partial.direct_filled(count).and_then(|()| partial.finish_frame()) {
            Ok(None) => Ok(None),
            Ok(Some(completed)) => completed_received(&mut self.partial, completed, &mut self.done).map(Some),
            Err(error) => {
                self.done = true;
                self.partial = None;
                Err(error)
            }
        }
    }

    /// Something has begun and is not complete: a header, a frame or a message. For the message deadline.
    pub fn is_mid_message(&self) -> bool {
        !self.done && (self.stash_len > 0 || self.partial.as_ref().is_some_and(|partial| !partial.is_spent()))
    }

    /// Bytes of memory that an incomplete message holds.
    pub fn held_bytes(&self) -> usize {
        self.partial.as_ref().map_or(0, |partial| partial.held_bytes())
    }

    /// A close frame or a violation came; what comes now is discarded.
    pub fn is_done(&self) -> bool {
        self.done
    }

    /// Gives the buffer of a message that was handled back to the pool. Cheap; call it when the input is exhausted.
    #[inline]
    pub fn recycle(&mut self, pool: &mut Pool) {
        if self.partial.as_ref().is_some_and(|partial| self.done || partial.is_spent()) {
            pool.give(self.partial.take().expect("just seen"));
        }
    }

    /// Ends the input: gives all buffers back, also that of an unfinished message, and discards what still comes.
    pub fn discard(&mut self, pool: &mut Pool) {
        self.done = true;
        self.stash_len = 0;
        self.recycle(pool);
    }

    #[inline]
    fn step(
        &mut self,
        input: &mut [u8],
        limits: &Limits,
        pool: &mut Pool,
    ) -> Result<(usize, Step), ProtocolError> {
        // The way of nearly all frames: nothing is pending, and the frame is whole.
        if self.partial.is_none()
            && self.stash_len == 0
            && !self.done
            && let Some(header) = self.whole_message(input)?
            && let Some(end) = whole_frame_end(&header, input.len())
        {
            let step = take_in_place(&header, 0, end, input, limits, pool)?;
            return Ok((end, step));
        }
        self.step_slow(input, limits, pool)
    }

    /// The header of a message that is not compressed, when none is unfinished; or of a control frame.
    #[inline]
    fn whole_message(&self, input: &[u8]) -> Result<Option<Parsed>, ProtocolError> {
        if self.role == Role::Server
            && let Some(usual) = header::parse_usual(input)
        {
            return Ok(Some(usual));
        }
        Ok(header::parse(input, self.expected(false))?.filter(|header| !header.compressed))
    }

    fn step_slow(
        &mut self,
        input: &mut [u8],
        limits: &Limits,
        pool: &mut Pool,
    ) -> Result<(usize, Step), ProtocolError> {
        self.recycle(pool);
        if self.done {
            return Ok((input.len(), Step::Exhausted));
        }
        let mut position = 0;
        loop {
            if let Some(partial) = self.partial.as_mut().filter(|partial| partial.is_mid_frame()) {
                position += partial.feed(&input[position..], limits)?;
                if let Some(completed) = partial.finish_frame()? {
                    let completed = match completed {
                        Completed::Compressed(kind) => self.inflate_partial(kind, limits, pool)?,
                        other => other,
                    };
                    return Ok((position, Step::Partial(completed)));
                }
                if partial.is_mid_frame() {
                    return Ok((position, Step::Exhausted));
                }
            }
            let Some((header, from_input)) = self.next_header(&input[position..])? else {
                return Ok((input.len(), Step::Exhausted));
            };
            position += from_input;
            if header.compressed && self.compressed_held {
                return Err(ProtocolError::CompressedTooEarly);
            }
            // A control frame, or a message of one frame, needs no copy if it is whole.
            if (header.opcode.is_control() || (header.fin && header.opcode != Opcode::Continuation))
                && header.length <= (input.len() - position) as u64
            {
                let end = position + header.length as usize;
                if header.compressed {
                    limits.compressed().check(0, header.length)?;
                    let payload = &mut input[position..end];
                    pool.unmasker().apply(payload, header.key);
                    let kind = if header.opcode == Opcode::Text { Kind::Text } else { Kind::Binary };
                    return Ok((end, Step::Partial(self.inflate(kind, payload, limits, pool)?)));
                }
                let step = take_in_place(&header, position, end, input, limits, pool)?;
                return Ok((end, step));
            }
            self.partial.get_or_insert_with(|| pool.take()).begin(&header, limits)?;
        }
    }

    /// Inflates the message that has come in pieces.
    fn inflate_partial(
        &mut self,
        kind: Kind,
        limits: &Limits,
        pool: &mut Pool,
    ) -> Result<Completed, ProtocolError> {
        let mut came = self.partial.take().expect("it has just completed a message");
        let inflated = self.inflate(kind, came.message_bytes(), limits, pool);
        pool.give(came);
        inflated
    }

    /// Inflates a whole message into a buffer of its own.
    fn inflate(
        &mut self,
        kind: Kind,
        input: &[u8],
        limits: &Limits,
        pool: &mut Pool,
    ) -> Result<Completed, ProtocolError> {
        debug_assert!(self.partial.is_none(), "a message is open");
        let mut partial = pool.take();
        let context = self.context.as_deref();
        let inflated = partial.inflate(input, context, pool.inflater(), limits);
        let partial = self.partial.insert(partial);
        inflated?;
        let message = partial.message_bytes();
        if let Some(context) = &mut self.context {
            context.push(message);
        }
        if kind == Kind::Text {
            utf8::check(message).map_err(|offset_bytes| ProtocolError::InvalidUtf8 { offset_bytes })?;
        }
        Ok(Completed::Message(kind))
    }

    #[inline]
    fn expected(&self, mid_message: bool) -> Expected {
        Expected { role: self.role, mid_message, rsv1: self.compression }
    }

    /// The next header, put together with what is stashed, and how many bytes of `input` belong to it. `None` when it
    /// is cut; then all of `input` has gone to the stash.
    fn next_header(&mut self, input: &[u8]) -> Result<Option<(Parsed, usize)>, ProtocolError> {
        let mid_message = self.partial.as_ref().is_some_and(|partial| partial.is_mid_message());
        let stashed = usize::from(self.stash_len);
        let copied = input.len().min(HEADER_BYTES_MAX - stashed);
        if stashed == 0
            && let Some(header) = header::parse(input, self.expected(mid_message))?
        {
            return Ok(Some((header, header.size)));
        }
        self.stash[stashed..stashed + copied].copy_from_slice(&input[..copied]);
        if let Some(header) = header::parse(&self.stash[..stashed + copied], self.expected(mid_message))? {
            self.stash_len = 0;
            return Ok(Some((header, header.size - stashed)));
        }
        // A whole header has at most HEADER_BYTES_MAX bytes, so a cut one fits.
        self.stash_len = (stashed + copied) as u8;
        Ok(None)
    }
}

/// Where the frame at the front of the input ends, if it is whole and needs no other frame.
#[inline]
fn whole_frame_end(header: &Parsed, input_len: usize) -> Option<usize> {
    if header.fin && header.length <= (input_len - header.size) as u64 {
        Some(header.size + header.length as usize)
    } else {
        None
    }
}

/// Unmasks and checks a whole frame whose payload is `input[start..end]`; with `start` 0 the header is before it.
#[inline]
fn take_in_place(
    header: &Parsed,
    start: usize,
    end: usize,
    input: &mut [u8],
    limits: &Limits,
    pool: &Pool,
) -> Result<Step, ProtocolError> {
    let start = start.max(end - header.length as usize);
    if !header.opcode.is_control() {
        limits.check(0, header.length)?;
    }
    let payload = &mut input[start..end];
    if header.opcode == Opcode::Text {
        unmask_text(payload, header.key, pool)?;
    } else {
        pool.unmasker().apply(payload, header.key);
    }
    Ok(Step::InPlace { opcode: header.opcode, start, end })
}

/// Most text is ASCII, which is seen while it is unmasked.
#[inline]
fn unmask_text(payload: &mut [u8], key: [u8; 4], pool: &Pool) -> Result<(), ProtocolError> {
    if pool.unmasker().apply_to_text(payload, key) {
        return Ok(());
    }
    utf8::check_beyond_ascii(payload).map_err(|offset_bytes| ProtocolError::InvalidUtf8 { offset_bytes })
}

fn control_received<'a>(
    opcode: Opcode,
    payload: &'a [u8],
    done: &mut bool,
) -> Result<Received<'a>, ProtocolError> {
    Ok(match opcode {
        Opcode::Ping => Received::Ping(payload),
        Opcode::Pong => Received::Pong(payload),
        Opcode::Close => {
            *done = true;
            Received::Close(close::parse(payload)?)
        }
        Opcode::Continuation | Opcode::Text | Opcode::Binary => {
            unreachable!("a data frame is no control frame")
        }
    })
}

fn completed_received<'a>(
    partial: &'a mut Option<Box<Partial>>,
    completed: Completed,
    done: &mut bool,
) -> Result<Received<'a>, ProtocolError> {
    let partial = partial.as_mut().expect("it has just completed something");
    match completed {
        Completed::Message(kind) => Ok(Received::Message { kind, payload: partial.message_bytes() }),
        Completed::Compressed(_) => unreachable!("inflated before it is handed out"),
        Completed::Control(opcode) => control_received(opcode, partial.control_bytes(), done),
    }
}
