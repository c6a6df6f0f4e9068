//! New settings for a shard that runs, between two turns.

use std::sync::Arc;
use std::sync::mpsc;
use std::time::Duration;

use fanwire_core::CoreConfig;

use super::Shard;
use super::throttle::Throttle;
use crate::config::Config;
use crate::listen::set_unread;
use crate::service::Service;
use crate::slots::Stage;

/// What a shard is told. Listeners, rings and all that threads were started with are as they were.
pub(crate) struct Settings {
    pub(crate) config: Arc<Config>,
    pub(crate) core: Arc<CoreConfig>,
    /// Where the shard says that it goes by them.
    pub(crate) taken: mpsc::Sender<()>,
}

impl<S: Service> Shard<S> {
    pub(super) fn renew(&mut self, settings: Settings) {
        let Settings { config, core, taken } = settings;
        let before = std::mem::replace(&mut self.config, config);
        let deadlines = &self.config.deadlines;
        if deadlines.unread != before.deadlines.unread {
            self.set_unread(deadlines.unread);
        }
        let deadlines = &self.config.deadlines;
        let (ping_interval, pong_wait) = (deadlines.ping_interval, deadlines.pong_wait);
        if ping_interval < before.deadlines.ping_interval || pong_wait < before.deadlines.pong_wait {
            self.look_sooner(ping_interval.min(pong_wait));
        }
        self.renew_rates();
        self.tls.set_places(self.config.tls_handshakes_max);
        self.spin.set_limit(self.config.spin);
        self.service.renew(self.now, core);
        // Nobody listens any more who has waited long enough.
        _ = taken.send(());
    }

    /// Who waits by rates that are others now is looked at with the next tick of the clock.
    fn renew_rates(&mut self) {
        let slots = self.slots.hot.len();
        for slot in Throttle::renew(&mut self.throttle, &self.config, slots, self.now) {
            if self.slots.hot[slot as usize].stage == Stage::Open {
                self.wheel.enter(self.now, slot, self.now);
            }
        }
    }

    /// Connections that come inherit it; those that are there have to be told, with a system call each.
    fn set_unread(&self, unread: Duration) {
        let connections = self.slots.hot.iter().filter_map(|hot| hot.socket.as_ref());
        for socket in connections.chain(self.acceptor.sockets()) {
            // A Unix socket has no such time, and a dead one needs none.
            _ = set_unread(socket, unread);
        }
    }

    /// Each open connection is looked at within `time`, so that shorter deadlines count for it: not all in one turn, because who
    /// has been silent for longer is sent a ping then.
    fn look_sooner(&mut self, time: Duration) {
        let open = |slot: &u32| self.slots.hot[*slot as usize].stage == Stage::Open;
        let slots: Vec<u32> = self.slots.all().filter(open).collect();
        let step = time / u32::try_from(slots.len().max(1)).unwrap_or(u32::MAX);
        for (place, slot) in (0u32..).zip(slots) {
            self.wheel.enter(self.now, slot, self.now + step * place);
        }
    }
}
