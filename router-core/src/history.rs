//! Event history (WAMP, "Event History"): what is kept of a publication, where a rule of its topic says so.
//!
//! Whom it reached does not matter, nor whether anybody was subscribed. What names single sessions is not kept at all: they
//! are others by the time somebody asks.

use crate::broker::Routing;
use crate::clock::Instant;
use crate::directory::Record;
use crate::encoding::Source;
use crate::ids::PublicationId;
use crate::mutation::{Mutation, planted};
use crate::receivers::Audience;
use crate::shard::Shard;

impl Shard {
    /// Keeps a publication that its origin may make, if its topic has a rule for that.
    #[cold]
    pub(crate) fn record(
        &mut self,
        now: Instant,
        publication: PublicationId,
        routing: &Routing<'_>,
        source: &Source<'_>,
    ) {
        let access = &self.config.access;
        let Some(bounds) = access.history(routing.realm, routing.uri) else { return };
        let audience = routing.receivers.map(|lists| Audience::new(lists, access, routing.realm));
        let receivers = match audience {
            None | Some(Audience::Everybody) => None,
            Some(Audience::Nobody) => return,
            Some(Audience::Some(receivers))
                if receivers.names_sessions() && !planted(Mutation::HistoryOfSessions) =>
            {
                return;
            }
            Some(Audience::Some(receivers)) => Some(receivers),
        };
        let provenance = self.provenance(routing.origin, routing.disclosed, routing.trust);
        let (publisher, trust) = provenance.map_or((None, None), |told| (told.identity, told.trust));
        let payload = source.to_owned_payload();
        let record = Record { publication, at: now, payload, publisher, trust, receivers };
        let limits = self.config.limits.history;
        let displaced = self.directory.record(routing.realm, routing.uri, record, &bounds, &limits);
        let counters = &mut self.delivery.counters;
        counters.recorded += u64::from(!displaced.is_too_large);
        counters.history_too_large += u64::from(displaced.is_too_large);
        counters.history_displaced += displaced.by_limits;
    }
}
