//! What the two sides of a connection have agreed on.

use super::super::Role;
use super::Context;

/// How one side compresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Direction {
    /// Whether a message may refer to the messages before it, so that both sides have to keep those.
    pub takeover: bool,
    /// How far back it may refer, as a power of two: 9 to 15, and 8 for a peer's own messages.
    pub window_bits: u8,
}

impl Direction {
    /// What has to be kept between the messages of this direction; `None` where each stands for itself.
    pub fn context(&self) -> Option<Context> {
        self.takeover.then(|| Context::new(self.window_bits))
    }
}

/// The parameters of permessage-deflate on one connection (RFC 7692, 7.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Agreement {
    /// How the server compresses.
    pub server: Direction,
    /// How the client compresses.
    pub client: Direction,
}

impl Agreement {
    /// How `role` compresses what it sends.
    pub fn sent_by(&self, role: Role) -> Direction {
        match role {
            Role::Server => self.server,
            Role::Client => self.client,
        }
    }
}
