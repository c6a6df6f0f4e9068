//! How connections end, and when their numbers are free again.

use super::{Verdict, World};
use crate::{
    client::Client,
    history::{ClientId, End, Event},
};
use fanwire_core::Outlet;

impl World {
    /// The client is gone; the router may hear of it later.
    pub(super) fn ended(&mut self, client: ClientId, end: End) -> Verdict {
        self.live.retain(|live| *live != client);
        self.tell(Event::Ended { client, end })
    }

    /// The client goes, and the router hears of it at once.
    pub(super) fn vanish(&mut self, client: ClientId) -> Verdict {
        let Client { shard, outlet, .. } = self.clients[client.0 as usize];
        self.homes[shard].shard.peer_closed(self.now, outlet);
        self.gone(client, End::Vanished)
    }

    /// The router knows; the outlet is free at the end of the turn.
    pub(super) fn gone(&mut self, client: ClientId, end: End) -> Verdict {
        let Client { shard, outlet, .. } = self.clients[client.0 as usize];
        let home = &mut self.homes[shard];
        home.tenants[outlet.index()] = None;
        home.sockets.close(outlet);
        home.dead.push(outlet);
        home.finished.retain(|finished| *finished != outlet);
        if self.live.contains(&client) { self.ended(client, end) } else { Ok(()) }
    }

    /// The end of a turn: connections to which everything was said, broken ones that nobody wrote to, free outlets.
    pub(super) fn reap(&mut self, at: usize) -> Verdict {
        for outlet in std::mem::take(&mut self.homes[at].finished) {
            self.moves += 1;
            if let Some(client) = self.homes[at].tenants[outlet.index()] {
                if self.live.contains(&client) {
                    self.read(client, usize::MAX)?;
                }
                self.homes[at].shard.peer_closed(self.now, outlet);
                self.gone(client, End::Finished)?;
            }
        }
        for index in 0..self.homes[at].tenants.len() {
            let home = &mut self.homes[at];
            let outlet = Outlet(index as u32);
            if let Some(client) = home.tenants[index]
                && home.sockets.is_broken(outlet)
                && self.rng.chance(50)
            {
                self.moves += 1;
                self.homes[at].shard.peer_closed(self.now, outlet);
                self.gone(client, End::Vanished)?;
            }
        }
        let home = &mut self.homes[at];
        for outlet in home.dead.drain(..) {
            home.shard.release(self.now, outlet);
            home.free.push(outlet);
        }
        Ok(())
    }
}
