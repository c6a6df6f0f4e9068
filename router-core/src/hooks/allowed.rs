//! What a session need not ask about again.

use hashbrown::HashMap;

use crate::access::Action;
use crate::uri::MatchPolicy;

/// What a hook has allowed a session for as long as it lasts.
#[derive(Debug, Default)]
pub(crate) struct AllowedFor(HashMap<Box<str>, [Kept; KINDS], foldhash::fast::FixedState>);

#[derive(Clone, Copy, Debug, Default)]
enum Kept {
    #[default]
    Unknown,
    Allowed(Option<bool>),
}

/// Four actions by three policies.
const KINDS: usize = 12;
/// URIs of one session: so 80 KiB at most. Beyond it all are forgotten, and asked about again.
const ALLOWED_MAX: usize = 256;

impl AllowedFor {
    pub(super) fn get(&self, action: Action, policy: MatchPolicy, uri: &str) -> Option<Option<bool>> {
        match self.0.get(uri)?[Self::place(action, policy)] {
            Kept::Unknown => None,
            Kept::Allowed(disclose) => Some(disclose),
        }
    }

    pub(super) fn keep(&mut self, action: Action, policy: MatchPolicy, uri: &str, disclose: Option<bool>) {
        if self.0.len() >= ALLOWED_MAX && !self.0.contains_key(uri) {
            self.0.clear();
        }
        self.0.entry(uri.into()).or_default()[Self::place(action, policy)] = Kept::Allowed(disclose);
    }

    fn place(action: Action, policy: MatchPolicy) -> usize {
        action as usize * 3 + policy as usize
    }
}
