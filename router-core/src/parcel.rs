//! What carries a call to its callee's shard, and the answer back.
//!
//! ```text
//! caller's shard ── Invoke, Interrupt ──▶ callee's shard        spare parcels of one shard become
//!       ▲                                     │                 the next ones that it sends
//!       └──────────────── Answer ─────────────┘                 (and one callee may Revoke another's registration)
//! ```
//!
//! A parcel has room for the payload and goes back with the next answer, so calls between busy shards allocate nothing, and no
//! shard frees what another one has allocated, which would cost as much as the rest of the way.

use std::num::NonZeroU64;

use fanwire_codec::wamp2::{Passthru, Payload, Serializer};

use crate::encoding::Source;
use crate::ids::{RegistrationId, SessionId, ShardId};
use crate::session::Provenance;

/// A call of a session, unique in the process.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) struct CallKey {
    /// The caller's shard, which alone decides the final answer.
    pub(crate) shard: ShardId,
    /// That shard's number for the call.
    pub(crate) number: u64,
}

/// A call on its way to its callee; its arguments are in the parcel.
#[derive(Debug)]
pub(crate) struct Invocation {
    pub(crate) call: CallKey,
    pub(crate) registration: RegistrationId,
    pub(crate) callee: SessionId,
    /// What was called, for a registration by prefix or wildcard.
    pub(crate) procedure: Option<Box<str>>,
    /// What is told of the caller.
    pub(crate) caller: Option<Provenance>,
    pub(crate) asks: Asks,
}

/// What the callee is asked beside the procedure itself.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Asks {
    /// The caller takes results in parts.
    pub(crate) receive_progress: bool,
    /// More parts of the call follow.
    pub(crate) more: bool,
    /// This is another part of a call that it has been asked for.
    pub(crate) continues: bool,
    /// It has this much time, which it looks after itself.
    pub(crate) timeout_ms: Option<NonZeroU64>,
}

/// Something that a callee is to know of a call that it works on; ignored where that has ended.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Interruption {
    pub(crate) call: CallKey,
    pub(crate) callee: SessionId,
    pub(crate) why: Interrupt,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Interrupt {
    /// Its answer is awaited, but it should be soon.
    Kill,
    /// Nobody waits for its answer.
    KillNoWait,
    /// It is not told, but its results in parts go nowhere.
    DropProgress,
}

/// What a callee's shard says to the caller's: parts of a result, then exactly one other outcome per invocation.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) number: u64,
    pub(crate) outcome: Outcome,
}

#[derive(Debug)]
pub(crate) enum Outcome {
    /// The callee's result; what it says is in the parcel.
    Result,
    /// A part of it; others follow. The invocation is the one that its callee answers.
    Progress {
        invocation: u64,
    },
    /// The callee's error of this URI; what it says is in the parcel.
    Error(Box<str>),
    Failed(Failure),
}

/// Why no callee answers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Failure {
    /// Its message is longer than the callee takes.
    TooLong,
    /// The callee left before it answered.
    Gone,
    /// The callee left before it was asked.
    NotThere,
    /// The registration was taken back before the invocation arrived.
    NotRegistered,
    /// The arguments have no form in the callee's serializer.
    Untranslatable,
    /// The callee has too many invocations that it did not answer.
    Overloaded,
    /// There is no room on the way to another callee's shard.
    NoRoom,
    /// The callee takes the parts of the call too slowly.
    Stuck,
}

impl Failure {
    /// Whether another callee may take the call: this one is not there any more, or has too much to do.
    pub(crate) fn is_the_callees(self) -> bool {
        matches!(self, Self::NotThere | Self::NotRegistered | Self::Overloaded)
    }
}

/// What a parcel is sent for.
#[derive(Debug)]
pub(crate) enum Errand {
    Invoke(Invocation),
    Interrupt(Interruption),
    /// Another callee has taken this registration's place: this one loses it, and is told.
    Revoke {
        callee: SessionId,
        registration: RegistrationId,
    },
    Answer(Answer),
    /// Parts were taken.
    Credit(Credit),
}

/// So much of the parts that somebody has sent was taken on their receiver's shard.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Credit {
    pub(crate) sender: Sender,
    pub(crate) bytes: usize,
}

/// Who has sent parts.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Sender {
    /// The caller, who sent them in this call.
    Caller { number: u64 },
    /// This callee, as results of this invocation.
    Callee { session: SessionId, invocation: u64 },
}

/// An errand with its payload.
#[derive(Debug)]
pub(crate) struct Parcel {
    /// None in a spare one.
    errand: Option<Errand>,
    serializer: Serializer,
    /// The list of arguments, the dictionary, and what is said of them; empty: not there (a value takes at least one byte).
    bytes: Vec<u8>,
    args_end: u32,
    kwargs_end: u32,
    /// Of a part: what its sender wants to hear was taken, once this is; 0: nothing.
    pub(crate) credit: usize,
}

impl Parcel {
    pub(crate) fn errand(&self) -> Option<&Errand> {
        self.errand.as_ref()
    }

    /// Whether it is a part of a call, but for the first, or of a result, but for the last.
    #[inline]
    pub(crate) fn is_part(&self) -> bool {
        match &self.errand {
            Some(Errand::Invoke(invocation)) => invocation.asks.continues,
            Some(Errand::Answer(answer)) => matches!(answer.outcome, Outcome::Progress { .. }),
            _ => false,
        }
    }

    /// The call of which it is a step, that must not pass the one before; `here` is where it was received.
    pub(crate) fn call(&self, here: ShardId) -> Option<CallKey> {
        match self.errand.as_ref()? {
            Errand::Invoke(invocation) => Some(invocation.call),
            Errand::Answer(answer) => Some(CallKey { shard: here, number: answer.number }),
            Errand::Interrupt(_) | Errand::Revoke { .. } | Errand::Credit(_) => None,
        }
    }

    /// What it is sent for. The payload stays.
    pub(crate) fn take_errand(&mut self) -> Errand {
        self.errand.take().expect("a parcel under way has an errand")
    }

    /// Whether it ends a call, on one side or the other, or lets its parts go on. Of these there are as many as calls, and as the
    /// parts under way; of parts there are any number.
    pub(crate) fn ends_call(&self) -> bool {
        match &self.errand {
            Some(Errand::Answer(answer)) => !matches!(answer.outcome, Outcome::Progress { .. }),
            Some(Errand::Interrupt(_) | Errand::Revoke { .. } | Errand::Credit(_)) => true,
            Some(Errand::Invoke(_)) | None => false,
        }
    }

    /// The payload.
    pub(crate) fn source(&self) -> Source<'_> {
        let (rest, passthru) = self.bytes.split_at(self.kwargs_end as usize);
        let (args, kwargs) = rest.split_at(self.args_end as usize);
        let there = |bytes: &'_ [u8]| !bytes.is_empty();
        let payload = Payload {
            args: Some(args).filter(|args| there(args)),
            kwargs: Some(kwargs).filter(|kwargs| there(kwargs)),
            passthru: Some(passthru).filter(|bytes| there(bytes)).map(Passthru::in_dict),
        };
        Source::borrowed(self.serializer, payload)
    }

    /// That of the payload.
    pub(crate) fn serializer(&self) -> Serializer {
        self.serializer
    }

    /// Bytes of the payload, and of what is said of it.
    pub(crate) fn len(&self) -> usize {
        self.bytes.len()
    }
}

/// Parcels that wait to be used again, the last one first: it is in the cache.
#[derive(Debug, Default)]
#[expect(clippy::vec_box, reason = "the boxes themselves are used again: one is what a ring slot holds")]
pub(crate) struct Spares(Vec<Box<Parcel>>);

impl Spares {
    /// A parcel with this errand and a copy of the payload.
    pub(crate) fn pack(
        &mut self,
        errand: Errand,
        serializer: Serializer,
        payload: Payload<'_>,
    ) -> Box<Parcel> {
        let mut parcel = self.0.pop().unwrap_or_else(|| {
            let bytes = Vec::new();
            Box::new(Parcel { errand: None, serializer, bytes, args_end: 0, kwargs_end: 0, credit: 0 })
        });
        let args = payload.args.unwrap_or_default();
        parcel.bytes.extend_from_slice(args);
        parcel.bytes.extend_from_slice(payload.kwargs.unwrap_or_default());
        let end = |length: usize| u32::try_from(length).expect("messages are limited far below 4 GiB");
        (parcel.args_end, parcel.kwargs_end) = (end(args.len()), end(parcel.bytes.len()));
        if let Some(passthru) = payload.passthru {
            parcel.bytes.extend_from_slice(&passthru.to_dict(serializer));
        }
        parcel.serializer = serializer;
        parcel.errand = Some(errand);
        parcel
    }

    /// Keeps an unpacked parcel, if there are few and it is small.
    pub(crate) fn keep(&mut self, mut parcel: Box<Parcel>) {
        if self.0.len() < SPARES_MAX && parcel.bytes.capacity() <= SPARE_BYTES_MAX {
            parcel.bytes.clear();
            parcel.errand = None;
            parcel.credit = 0;
            self.0.push(parcel);
        }
    }
}

/// As many calls as one session may have under way: about 1.2 MiB per shard at worst, with [`SPARE_BYTES_MAX`].
const SPARES_MAX: usize = 1_024;
const SPARE_BYTES_MAX: usize = 1 << 10;

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(number: u64) -> Errand {
        Errand::Answer(Answer { number, outcome: Outcome::Result })
    }

    #[test]
    fn a_parcel_used_again_has_nothing_of_before() {
        let mut spares = Spares::default();
        let payload = Payload { args: Some(b"[1,2]"), kwargs: Some(b"{\"a\":3}"), ..Payload::EMPTY };
        let mut first = spares.pack(answer(1), Serializer::Json, payload);
        assert_eq!(first.len(), 12);
        assert!(first.source().get(Serializer::Json).is_ok_and(|got| got == payload));
        assert!(first.ends_call());
        first.take_errand();
        let place = std::ptr::from_ref(&*first);
        spares.keep(first);
        let second = spares.pack(
            answer(2),
            Serializer::MsgPack,
            Payload { args: None, kwargs: Some(b"\x80"), ..Payload::EMPTY },
        );
        assert!(std::ptr::eq(&*second, place), "it is the same one");
        let got = second.source();
        let got = got.get(Serializer::MsgPack).expect("no translation is needed");
        assert_eq!((got.args, got.kwargs), (None, Some(&b"\x80"[..])));
    }

    #[test]
    fn neither_many_nor_large_parcels_are_kept() {
        let mut spares = Spares::default();
        let large = vec![b'1'; SPARE_BYTES_MAX + 1];
        let large = spares.pack(
            answer(0),
            Serializer::Json,
            Payload { args: Some(&large), kwargs: None, ..Payload::EMPTY },
        );
        spares.keep(large);
        assert!(spares.0.is_empty());
        let parcels: Vec<_> = (0..SPARES_MAX as u64 + 5)
            .map(|number| spares.pack(answer(number), Serializer::Json, Payload::default()))
            .collect();
        parcels.into_iter().for_each(|parcel| spares.keep(parcel));
        assert_eq!(spares.0.len(), SPARES_MAX);
    }
}
