//! What a shard counts, readable by the control thread without a lock.
//!
//! Each number has one writer, its shard, which does a relaxed load and store instead of a locked addition; a reader
//! sees each number whole, but not all numbers of one moment. The service's own counters are copied in when the shard
//! goes to sleep and every few turns while it does not ([`ShardCounters::service`]).
//!
//! Read first: [`ShardCounters`], then [`ShardCounters::each`], which is all that a metrics page needs.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// How a number behaves.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// Only grows.
    Counter,
    /// Goes up and down.
    Gauge,
}

/// What a number is called outside. Numbers of one name differ in their labels.
#[derive(Clone, Copy, Debug)]
pub struct Metric {
    /// Name without prefix and without `_total`.
    pub name: &'static str,
    /// `key="value"` pairs in Prometheus' notation, or empty.
    pub labels: &'static str,
    /// One sentence.
    pub help: &'static str,
    /// Counter or gauge.
    pub kind: Kind,
}

/// One number with one writer.
#[derive(Debug, Default)]
pub struct Count(AtomicU64);

impl Count {
    /// The present value.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    pub(crate) fn add(&self, by: u64) {
        // Not `fetch_add`: the shard is the only writer, and a locked instruction per counter would be felt.
        self.0.store(self.get().wrapping_add(by), Ordering::Relaxed);
    }

    /// Only the shard itself may call this.
    pub fn set(&self, to: u64) {
        self.0.store(to, Ordering::Relaxed);
    }

    pub(crate) fn raise(&self, to: u64) {
        if to > self.get() {
            self.set(to);
        }
    }
}

macro_rules! counters {
    ($($kind:ident $field:ident = $name:literal $labels:literal $help:literal;)*) => {
        /// The counters of one shard. On cache lines of its own, shared by an `Arc`.
        #[derive(Debug, Default)]
        #[repr(align(128))]
        pub struct ShardCounters {
            $(#[doc = $help] pub $field: Count,)*
            /// Turns by duration: [`TURN_BOUNDS`], then everything above.
            pub turns: [Count; TURN_BOUNDS.len() + 1],
            /// Time spent in turns, in nanoseconds.
            pub busy_nanos: Count,
            /// The service's own numbers, described by [`Self::service_metrics`].
            pub service: Box<[Count]>,
            /// What [`Self::service`] holds.
            pub service_metrics: &'static [Metric],
        }

        impl ShardCounters {
            /// Calls `visit` for every number, the service's too; numbers of one name come one after another.
            pub fn each(&self, mut visit: impl FnMut(&Metric, u64)) {
                $(visit(
                    &Metric { name: $name, labels: $labels, help: $help, kind: Kind::$kind },
                    self.$field.get(),
                );)*
                for (metric, count) in self.service_metrics.iter().zip(&self.service) {
                    visit(metric, count.get());
                }
            }
        }
    };
}

counters! {
    Gauge connections_open = "connections_open" "" "Connections that are open now.";
    Counter connections_accepted = "connections_accepted" "" "Connections accepted, by the shard that serves them.";
    Counter handed_to_shard = "connections_handed_over" "to=\"shard\"" "Connections accepted here that go on elsewhere: on a shard that had fewer, or on the control thread.";
    Counter handed_to_control = "connections_handed_over" "to=\"control\"" "Connections accepted here that go on elsewhere: on a shard that had fewer, or on the control thread.";
    Counter connections_kept = "connections_kept" "" "Connections kept although another shard had fewer, because too many were on their way to that one.";
    Counter rejected_full = "connections_rejected" "reason=\"connections_max\"" "Connections refused at accept, or requests refused with an HTTP error.";
    Counter rejected_descriptors = "connections_rejected" "reason=\"descriptors\"" "Connections refused at accept, or requests refused with an HTTP error.";
    Counter rejected_draining = "connections_rejected" "reason=\"draining\"" "Connections refused at accept, or requests refused with an HTTP error.";
    Counter rejected_request = "connections_rejected" "reason=\"bad_request\"" "Connections refused at accept, or requests refused with an HTTP error.";
    Counter rejected_origin = "connections_rejected" "reason=\"origin\"" "Connections refused at accept, or requests refused with an HTTP error.";
    Counter rejected_path = "connections_rejected" "reason=\"path\"" "Connections refused at accept, or requests refused with an HTTP error.";
    Counter rejected_upgrade = "connections_rejected" "reason=\"upgrade\"" "Connections refused at accept, or requests refused with an HTTP error.";
    Counter rejected_subprotocol = "connections_rejected" "reason=\"subprotocol\"" "Connections refused at accept, or requests refused with an HTTP error.";
    Counter rejected_control = "connections_rejected" "reason=\"control_busy\"" "Connections refused at accept, or requests refused with an HTTP error.";
    Counter rejected_memory = "connections_rejected" "reason=\"memory\"" "Connections refused at accept, or requests refused with an HTTP error.";
    Counter rejected_address = "connections_rejected" "reason=\"address\"" "Connections refused at accept, or requests refused with an HTTP error.";
    Gauge rawsocket_connections = "rawsocket_connections" "" "Connections with RawSocket whose handshake is over.";
    Counter rawsocket_accepted = "rawsocket_handshakes" "outcome=\"accepted\"" "RawSocket handshakes by how they ended.";
    Counter rawsocket_serializer = "rawsocket_handshakes" "outcome=\"serializer\"" "RawSocket handshakes by how they ended.";
    Counter rawsocket_length = "rawsocket_handshakes" "outcome=\"length\"" "RawSocket handshakes by how they ended.";
    Counter rawsocket_reserved = "rawsocket_handshakes" "outcome=\"reserved_bits\"" "RawSocket handshakes by how they ended.";
    Counter rawsocket_full = "rawsocket_handshakes" "outcome=\"full\"" "RawSocket handshakes by how they ended.";
    Counter rawsocket_late = "rawsocket_handshakes" "outcome=\"timeout\"" "RawSocket handshakes by how they ended.";
    Counter rawsocket_draining = "rawsocket_handshakes" "outcome=\"draining\"" "RawSocket handshakes by how they ended.";
    Counter rawsocket_needs_tls = "rawsocket_handshakes" "outcome=\"tls\"" "RawSocket handshakes by how they ended.";
    Counter throttled = "connections_throttled" "" "Times that a connection was not read for a while, because it sent more than its rate.";
    Counter closed_by_peer = "connections_closed" "reason=\"peer\"" "Connections that ended, by who or what ended them.";
    Counter closed_lost = "connections_closed" "reason=\"lost\"" "Connections that ended, by who or what ended them.";
    Counter closed_by_service = "connections_closed" "reason=\"router\"" "Connections that ended, by who or what ended them.";
    Counter closed_protocol_error = "connections_closed" "reason=\"protocol_error\"" "Connections that ended, by who or what ended them.";
    Counter closed_handshake_timeout = "connections_closed" "reason=\"handshake_timeout\"" "Connections that ended, by who or what ended them.";
    Counter closed_login_timeout = "connections_closed" "reason=\"login_timeout\"" "Connections that ended, by who or what ended them.";
    Counter closed_message_timeout = "connections_closed" "reason=\"message_timeout\"" "Connections that ended, by who or what ended them.";
    Counter closed_pong_timeout = "connections_closed" "reason=\"pong_timeout\"" "Connections that ended, by who or what ended them.";
    Counter closed_aborted = "connections_closed" "reason=\"slow_consumer\"" "Connections that ended, by who or what ended them.";
    Counter closed_refused = "connections_closed" "reason=\"refused\"" "Connections that ended, by who or what ended them.";
    Counter closed_drain = "connections_closed" "reason=\"drain\"" "Connections that ended, by who or what ended them.";
    Counter closed_panic = "connections_closed" "reason=\"decoder_panic\"" "Connections that ended, by who or what ended them.";
    Counter closed_memory = "connections_closed" "reason=\"memory\"" "Connections that ended, by who or what ended them.";
    Counter closed_idle = "connections_closed" "reason=\"idle\"" "Connections that ended, by who or what ended them.";
    Gauge http_connections = "http_connections" "" "Connections whose HTTP requests are answered by this shard.";
    Counter http_forwarded = "http_requests_forwarded" "outcome=\"sent\"" "HTTP requests for sessions of other shards.";
    Counter http_forward_refused = "http_requests_forwarded" "outcome=\"refused\"" "HTTP requests for sessions of other shards.";
    Gauge longpoll_sessions = "longpoll_sessions" "" "Sessions that are polled by HTTP requests, also before their login.";
    Counter longpoll_opened = "longpoll_sessions_opened" "" "Sessions opened by HTTP requests.";
    Counter longpoll_ended_by_client = "longpoll_sessions_ended" "reason=\"client\"" "Sessions polled by HTTP requests that ended, by who or what ended them.";
    Counter longpoll_ended_idle = "longpoll_sessions_ended" "reason=\"idle\"" "Sessions polled by HTTP requests that ended, by who or what ended them.";
    Counter longpoll_ended_slow = "longpoll_sessions_ended" "reason=\"slow_consumer\"" "Sessions polled by HTTP requests that ended, by who or what ended them.";
    Counter longpoll_ended_login = "longpoll_sessions_ended" "reason=\"login_timeout\"" "Sessions polled by HTTP requests that ended, by who or what ended them.";
    Counter longpoll_ended_by_router = "longpoll_sessions_ended" "reason=\"router\"" "Sessions polled by HTTP requests that ended, by who or what ended them.";
    Counter longpoll_open = "longpoll_requests" "kind=\"open\"" "Requests of long-polling clients.";
    Counter longpoll_receive = "longpoll_requests" "kind=\"receive\"" "Requests of long-polling clients.";
    Counter longpoll_send = "longpoll_requests" "kind=\"send\"" "Requests of long-polling clients.";
    Counter longpoll_close = "longpoll_requests" "kind=\"close\"" "Requests of long-polling clients.";
    Gauge tls_connections = "tls_connections" "" "Connections with TLS whose handshake is over.";
    Counter tls_completed = "tls_handshakes" "outcome=\"completed\"" "TLS handshakes by how they ended.";
    Counter tls_failed = "tls_handshakes" "outcome=\"failed\"" "TLS handshakes by how they ended.";
    Counter tls_timed_out = "tls_handshakes" "outcome=\"timeout\"" "TLS handshakes by how they ended.";
    Counter tls_abandoned = "tls_handshakes" "outcome=\"abandoned\"" "TLS handshakes by how they ended.";
    Counter tls_waited = "tls_handshakes_waited" "" "TLS handshakes that had to wait because as many as allowed were under way.";
    Counter decoder_panics = "decoder_panics" "" "Panics while decoding input, each of which ended one connection: a bug of ours.";
    Counter received_bytes = "received_bytes" "" "Bytes received from clients.";
    Counter receives = "receives" "" "Receive calls.";
    Counter received_messages = "received_messages" "" "Messages received, WebSocket messages with several as each of these.";
    Counter inflated_messages = "inflated_messages" "" "Compressed messages received.";
    Counter inflated_bytes_wire = "inflated_bytes" "layer=\"wire\"" "Bytes of compressed messages received, as they came and as they were inflated.";
    Counter inflated_bytes_payload = "inflated_bytes" "layer=\"payload\"" "Bytes of compressed messages received, as they came and as they were inflated.";
    Counter received_control_frames = "received_control_frames" "" "Control frames received: pings, pongs, close frames.";
    Counter sent_bytes = "sent_bytes" "" "Bytes taken by sockets.";
    Counter sends = "sends" "" "Send calls.";
    Counter sends_short = "sends_short" "" "Send calls that took less than was offered.";
    Counter pings = "pings" "" "Pings sent to silent clients.";
    Counter ring_items_in = "ring_items" "direction=\"in\"" "Items passed between shards.";
    Counter ring_items_out = "ring_items" "direction=\"out\"" "Items passed between shards.";
    Gauge ring_depth = "ring_depth" "" "Items waiting in the rings to this shard.";
    Gauge ring_bytes = "ring_bytes" "" "Payload bytes in the rings to this shard; one payload may be in several.";
    Gauge ring_depth_max = "ring_depth_max" "" "Most items ever found in one ring to this shard.";
    Counter wakes = "wakes" "" "Other shards woken from their sleep.";
    Counter parks = "parks" "" "Times the shard went to sleep.";
    Counter spins_paid = "spins" "outcome=\"paid\"" "Times the shard looked for more before it slept.";
    Counter spins_vain = "spins" "outcome=\"vain\"" "Times the shard looked for more before it slept.";
    Gauge turn_longest_nanos = "turn_longest_nanoseconds" "" "Longest turn of the shard's loop so far.";
}

impl ShardCounters {
    /// All zero, with room for the numbers that `service_metrics` describes.
    pub(crate) fn new(service_metrics: &'static [Metric]) -> Self {
        let service = service_metrics.iter().map(|_| Count::default()).collect();
        Self { service, service_metrics, ..Self::default() }
    }

    pub(crate) fn turn(&self, took: Duration) {
        let nanos = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
        self.busy_nanos.add(nanos);
        self.turn_longest_nanos.raise(nanos);
        let bucket = TURN_BOUNDS.iter().position(|bound| took <= *bound).unwrap_or(TURN_BOUNDS.len());
        self.turns[bucket].add(1);
    }
}

/// Upper bounds of the histogram of turns.
pub const TURN_BOUNDS: [Duration; 10] = [
    Duration::from_micros(20),
    Duration::from_micros(50),
    Duration::from_micros(100),
    Duration::from_micros(250),
    Duration::from_micros(500),
    Duration::from_millis(1),
    Duration::from_micros(2500),
    Duration::from_millis(5),
    Duration::from_millis(10),
    Duration::from_millis(100),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_turn_is_counted_in_its_bucket() {
        let counters = ShardCounters::new(&[]);
        counters.turn(Duration::from_micros(50));
        counters.turn(Duration::from_secs(1));
        counters.turn(Duration::from_micros(3));
        assert_eq!(counters.turns.each_ref().map(Count::get), [1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 1]);
        assert_eq!(counters.turn_longest_nanos.get(), 1_000_000_000);
        assert_eq!(counters.busy_nanos.get(), 1_000_053_000);
    }

    #[test]
    fn numbers_of_one_name_stand_together_and_differ_in_labels() {
        const OWN: &[Metric] =
            &[Metric { name: "sessions", labels: "", help: "Sessions.", kind: Kind::Gauge }];
        let counters = ShardCounters::new(OWN);
        counters.service[0].set(7);
        let mut seen = std::collections::HashSet::new();
        let mut names = Vec::new();
        let mut last = 0;
        counters.each(|metric, value| {
            assert!(seen.insert((metric.name, metric.labels)), "{metric:?} twice");
            if names.last() != Some(&metric.name) {
                assert!(!names.contains(&metric.name), "{} is torn apart", metric.name);
                names.push(metric.name);
            }
            last = value;
        });
        assert_eq!((names.last(), last), (Some(&"sessions"), 7));
    }
}
