//! What all three servers speak: text messages over plain WebSocket, no TLS, no compression.
//!
//! ```text
//! client: S topic           subscribes; the answer is `subscribed`
//! client: P topic payload   publishes: each other subscriber gets a text message that is the payload
//! ```
//!
//! A topic has no blank in it. What cannot be understood is ignored: these servers are measured, not deployed.

/// What a client asks for.
#[derive(Debug)]
pub enum Request<'a> {
    /// Its connection shall get what is published to the topic.
    Subscribe(&'a [u8]),
    /// The topic's other subscribers shall get the payload.
    Publish {
        /// The topic.
        topic: &'a [u8],
        /// What its subscribers get.
        payload: &'a [u8],
    },
}

/// The answer to a subscription.
pub const SUBSCRIBED: &str = "subscribed";

impl<'a> Request<'a> {
    /// Reads a message.
    pub fn read(message: &'a [u8]) -> Option<Self> {
        match message.split_at_checked(2)? {
            (b"S ", topic) => Some(Self::Subscribe(topic)),
            (b"P ", rest) => {
                let blank = rest.iter().position(|byte| *byte == b' ')?;
                Some(Self::Publish { topic: &rest[..blank], payload: &rest[blank + 1..] })
            }
            _ => None,
        }
    }
}
