//! What message-center clients say beside the requests of the protocol, which queues and hooks are asked about.

use super::{
    history::{ClientId, Say, Seen},
    rng::Rng,
};
use fanwire_codec::payload::OwnedPayload;
use fanwire_core::message_center::QueueRule;

/// What takes messages to queues in this run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Queues {
    None,
    /// Work, which none but a queue knows.
    Work,
    /// Whatever the protocol does not know.
    Rest,
}

impl Queues {
    pub fn new(rng: &mut Rng) -> Self {
        rng.pick(&[Self::None, Self::Work, Self::Rest])
    }

    pub fn configured(self) -> Vec<QueueRule> {
        match self {
            Self::None => Vec::new(),
            Self::Work => vec![QueueRule::Ops(vec![op(Say::Work).into()])],
            // The first one takes what both would.
            Self::Rest => vec![QueueRule::Ops(vec![op(Say::Work).into()]), QueueRule::Rest],
        }
    }

    /// The queue that such a message goes to.
    pub fn of(self, say: Say) -> Option<usize> {
        match (self, say) {
            (Self::None, _) | (Self::Work, Say::Chat) => None,
            (Self::Work | Self::Rest, Say::Work) => Some(0),
            (Self::Rest, Say::Chat) => Some(1),
        }
    }
}

fn op(say: Say) -> &'static str {
    match say {
        Say::Work => "work",
        Say::Chat => "chat",
    }
}

pub fn message(client: ClientId, request: u64, say: Say) -> String {
    format!(r#"{{"from":{},"op":"{}","request":{request}}}"#, client.0, op(say))
}

/// Whose message it is that somebody is asked about, and which one.
pub fn read(bytes: &[u8]) -> Option<(ClientId, u64, Say)> {
    let text = std::str::from_utf8(bytes).ok()?;
    let (client, rest) = text.strip_prefix(r#"{"from":"#)?.split_once(',')?;
    let request = rest.split_once(r#""request":"#)?.1.strip_suffix('}')?.parse().ok()?;
    let (client, say) =
        (ClientId(client.parse().ok()?), if rest.contains("chat") { Say::Chat } else { Say::Work });
    (message(client, request, say) == text).then_some((client, request, say))
}

const SAID: &str = r#"{"answers":"#;

/// What a hook makes the client be told.
pub fn answer(request: u64) -> OwnedPayload {
    OwnedPayload::from_plain(format!("{SAID}{request}}}").as_bytes())
}

/// A hook's answer, if it is one.
pub fn read_answer(text: &str) -> Option<u64> {
    text.strip_prefix(SAID)?.strip_suffix('}')?.parse().ok()
}

/// What the client saw of its message.
pub fn answered(request: u64, answer: Result<Option<u64>, u16>) -> Seen {
    Seen::Answered { request, answer }
}
