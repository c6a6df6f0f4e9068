//! The shards' own books, against each other and against what the sockets took.

use super::Verdict;
use crate::{plan::REALMS, wire::Sockets};
use fanwire_core::{
    Counters, DropReason,
    directory::{Directory, HistoryLimits, RetentionLimits},
};

/// After every step. `heard` and `refused`: events that outboxes of inner subscribers took, and that they did not.
pub fn step(shard: usize, counters: &Counters, sockets: &Sockets, (heard, refused): (u64, u64)) -> Verdict {
    let counted = counters.dropped[DropReason::InnerOutboxFull as usize];
    if counted != refused {
        return Err(format!(
            "shard {shard} counted {counted} events without room for inner subscribers of {refused}"
        ));
    }
    if counters.balance() != 0 {
        return Err(format!("shard {shard}: matched is not delivered + queued + dropped: {counters:?}"));
    }
    // A backlog counts by pieces: what a socket took of an unfinished piece is delivered, or was cut off, later.
    let unfinished = counters.queued + cut_off(counters);
    let taken = sockets.events_taken + heard;
    if !(counters.delivered..=counters.delivered + unfinished).contains(&taken) {
        return Err(format!(
            "shard {shard} counted {} events as delivered and {unfinished} as not, its receivers took {}",
            counters.delivered, taken
        ));
    }
    if counters.sent_bytes != sockets.bytes_taken {
        return Err(format!(
            "shard {shard} counted {} bytes as sent, its sockets took {}",
            counters.sent_bytes, sockets.bytes_taken
        ));
    }
    Ok(())
}

/// Events that were dropped with their connection.
fn cut_off(counters: &Counters) -> u64 {
    [
        DropReason::ConnectionGone,
        DropReason::SlowConsumerBytes,
        DropReason::SlowConsumerMessages,
        DropReason::SlowConsumerAge,
        DropReason::SlowConsumerPause,
        DropReason::Memory,
    ]
    .iter()
    .map(|reason| counters.dropped[*reason as usize])
    .sum()
}

/// Losses that no connection's end explains. Slow consumers are cut, and then nothing is owed to them.
pub fn losses(counters: &Counters) -> u64 {
    [
        DropReason::StreamOverflow,
        DropReason::RingFull,
        DropReason::StreamCongested,
        DropReason::PublisherGone,
        DropReason::Untranslatable,
    ]
    .iter()
    .map(|reason| counters.dropped[*reason as usize])
    .sum()
}

/// No more is kept than may be.
pub fn retained(directory: &Directory, limits: &RetentionLimits) -> Verdict {
    let usage = directory.retained_usage();
    let events_max = limits.events_per_realm * REALMS.len();
    let bytes_max = limits.bytes.min(limits.bytes_per_realm.saturating_mul(REALMS.len()));
    if usage.events as usize > events_max || usage.bytes as usize > bytes_max {
        return Err(format!("{usage:?} are kept, and {limits:?} are the most"));
    }
    if (usage.events == 0) != (usage.bytes == 0) {
        return Err(format!("{usage:?} are kept: bytes of no events, or events of no bytes"));
    }
    Ok(())
}

/// The same of histories.
pub fn past(directory: &Directory, limits: &HistoryLimits) -> Verdict {
    let usage = directory.history_usage();
    let bytes_max = limits.bytes.min(limits.bytes_per_realm.saturating_mul(REALMS.len()));
    if usage.bytes as usize > bytes_max || (usage.events == 0) != (usage.bytes == 0) {
        return Err(format!("histories have {usage:?}, and {limits:?} are the most"));
    }
    Ok(())
}

/// Everybody has gone: nothing is left.
pub fn empty(shard: usize, counters: &Counters) -> Verdict {
    let left = [
        ("sessions", counters.sessions),
        ("queued", counters.queued),
        ("calls_pending", counters.calls_pending),
        ("outbox_bytes", counters.outbox_bytes),
        ("blocked", counters.blocked),
        ("subscriptions", counters.subscriptions),
        ("registrations", counters.registrations),
        ("streams", counters.streams),
    ];
    match left.iter().find(|(_, count)| *count != 0) {
        Some((name, count)) => Err(format!("shard {shard} still has {name} = {count} after everybody left")),
        None => Ok(()),
    }
}

/// Each call has its answer: none counts for its callee any more.
pub fn no_claims(directory: &Directory) -> Verdict {
    match directory.claim_count() {
        0 => Ok(()),
        count => Err(format!("each call has its answer, and {count} of them still count for their callees")),
    }
}

/// The same for what they have in their tables.
pub fn empty_tables(shard: usize, tables: &[(&'static str, usize)]) -> Verdict {
    match tables.iter().find(|(_, size)| *size != 0) {
        Some((name, size)) => Err(format!("shard {shard} still has {size} of {name} after everybody left")),
        None => Ok(()),
    }
}

/// The same for what the shards share.
pub fn empty_directory(directory: &Directory) -> Verdict {
    let left = (directory.topic_count(), directory.registration_count(), directory.session_count());
    if left != (0, 0, 0) {
        return Err(format!(
            "the directory still has (topics, registrations, sessions) = {left:?} after everybody left"
        ));
    }
    Ok(())
}
