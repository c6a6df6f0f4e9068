//! What publishing and subscribing mean: the part of a client's state that the shard has a say in.
//!
//! A client's state changes when its command is read, as in Redis, so what it pipelines means the same: a channel that it leaves and
//! enters again is a new subscription, asked for behind the end of the old one. The shard's answers come in that order too.

use std::collections::HashMap;
use std::sync::Arc;

use bytes::BytesMut;
use fanwire_codec::payload::{OwnedPayload, Plain};
use fanwire_codec::resp::{
    Glob, write_array_head, write_bulk, write_error, write_integer, write_message, write_pattern_message,
};
use fanwire_core::api::{ApiRefusal, Receipt};
use fanwire_core::inner::InnerEvent;

use super::RespFigures;
use super::names::Names;
use super::output::{Change, Confirmation};
use super::session::{Question, Session, Wanted, shown};

/// What one client is subscribed to.
#[derive(Debug)]
pub(super) struct Subscriptions {
    /// From the question to the shard's last word, by tags.
    held: HashMap<u32, Held>,
    /// Those that the client wants, by pattern or channel, and name.
    wanted: HashMap<(bool, Vec<u8>), u32>,
    /// Confirmations that wait for the shard, by their places.
    pending: HashMap<u64, Confirmation>,
    last_tag: u32,
    names: Arc<Names>,
}

#[derive(Debug)]
struct Held {
    is_pattern: bool,
    name: Vec<u8>,
    /// The shard has it.
    confirmed: bool,
    /// Places of further wishes for it, before the shard has answered the first.
    again: Vec<u64>,
}

impl Subscriptions {
    pub(super) fn new(names: Arc<Names>) -> Self {
        Self { held: HashMap::new(), wanted: HashMap::new(), pending: HashMap::new(), last_tag: 0, names }
    }

    /// Whether the client has left everything that it has entered.
    pub(super) fn is_empty(&self) -> bool {
        self.wanted.is_empty()
    }

    fn forget(&mut self, tag: u32) -> Option<Held> {
        let held = self.held.remove(&tag)?;
        if held.confirmed {
            self.names.remove(held.is_pattern, &held.name);
        }
        let key = (held.is_pattern, held.name);
        // It may be wanted anew.
        if self.wanted.get(&key) == Some(&tag) {
            self.wanted.remove(&key);
        }
        Some(Held { name: key.1, ..held })
    }
}

impl Drop for Subscriptions {
    fn drop(&mut self) {
        for held in self.held.values().filter(|held| held.confirmed) {
            self.names.remove(held.is_pattern, &held.name);
        }
    }
}

impl Session {
    pub(super) fn publish(&mut self, channel: &[u8], payload: &[u8]) {
        let Ok(channel) = std::str::from_utf8(channel) else { return self.refuse(NO_CHANNEL) };
        let slot = self.output.reserve();
        let question =
            Question::Publish { slot, channel: channel.into(), payload: OwnedPayload::from_plain(payload) };
        self.questions.push(question);
    }

    /// What became of a publication: how many have it. Where the router cannot tell in time the client is told none.
    pub(super) fn published(&mut self, slot: u64, outcome: &Result<Receipt, ApiRefusal>) {
        match outcome {
            Ok(receipt) => {
                let count = receipt.matched.unwrap_or_default();
                self.output.fill(slot, |out| write_integer(out, count));
            }
            Err(refusal) => self.fill_refusal(slot, refusal),
        }
    }

    fn fill_refusal(&mut self, slot: u64, refusal: &ApiRefusal) {
        RespFigures::add(&self.figures.errors, 1);
        let code = match refusal.error {
            "wamp.error.not_authorized" => "NOPERM",
            "wamp.error.unavailable" => "TRYAGAIN",
            _ => "ERR",
        };
        let words = format!("{code} {}", refusal.words);
        self.output.fill(slot, |out| write_error(out, &words));
    }

    fn confirmation(&self, is_pattern: bool, name: &[u8], change: Change) -> Confirmation {
        let kind = match (change, is_pattern) {
            (Change::Fewer, true) => "punsubscribe",
            (Change::Fewer, false) => "unsubscribe",
            (_, true) => "psubscribe",
            (_, false) => "subscribe",
        };
        Confirmation { version: self.version, kind, name: Some(name.to_vec()), change }
    }

    pub(super) fn subscribe(&mut self, is_pattern: bool, name: &[u8]) {
        if let Some(tag) = self.subscriptions.wanted.get(&(is_pattern, name.to_vec())).copied() {
            return self.subscribe_again(tag, is_pattern, name);
        }
        let names = if is_pattern {
            match Glob::new(name) {
                Ok(glob) => Wanted::Pattern(glob),
                Err(error) => return self.refuse(&format!("ERR {error}")),
            }
        } else {
            match std::str::from_utf8(name) {
                Ok(name) => Wanted::Channel(name.into()),
                Err(_) => return self.refuse(NO_CHANNEL),
            }
        };
        let slot = self.output.reserve();
        let confirmation = self.confirmation(is_pattern, name, Change::More);
        let own = &mut self.subscriptions;
        own.last_tag += 1;
        let tag = own.last_tag;
        own.wanted.insert((is_pattern, name.to_vec()), tag);
        own.held.insert(tag, Held { is_pattern, name: name.to_vec(), confirmed: false, again: Vec::new() });
        own.pending.insert(slot, confirmation);
        self.questions.push(Question::Subscribe { slot, tag, names });
    }

    /// The shard is not asked twice; what it says to the first wish holds for this one.
    fn subscribe_again(&mut self, tag: u32, is_pattern: bool, name: &[u8]) {
        let confirmation = self.confirmation(is_pattern, name, Change::Same);
        let own = &mut self.subscriptions;
        let held = own.held.get_mut(&tag).expect("what is wanted is held");
        if held.confirmed {
            return self.output.confirm(confirmation);
        }
        let slot = self.output.reserve();
        held.again.push(slot);
        own.pending.insert(slot, confirmation);
    }

    /// The shard has answered. A subscription that it refuses is none, and its events are not sent.
    pub(super) fn subscribed(&mut self, slot: u64, tag: u32, outcome: &Result<(), ApiRefusal>) {
        let own = &mut self.subscriptions;
        let held = own.held.get_mut(&tag).expect("it is held until the shard has answered");
        let again = std::mem::take(&mut held.again);
        if outcome.is_ok() {
            held.confirmed = true;
            own.names.add(held.is_pattern, &held.name);
        } else {
            own.forget(tag);
        }
        for slot in std::iter::once(slot).chain(again) {
            let confirmation = self.subscriptions.pending.remove(&slot).expect("it waits for this");
            match outcome {
                Ok(()) => self.output.fill_confirmation(slot, confirmation),
                Err(refusal) => self.fill_refusal(slot, refusal),
            }
        }
    }

    pub(super) fn unsubscribe(&mut self, is_pattern: bool, names: &[&[u8]]) {
        if !names.is_empty() {
            return names.iter().for_each(|name| self.end(is_pattern, name));
        }
        let wanted = self.subscriptions.wanted.iter().filter(|((pattern, _), _)| *pattern == is_pattern);
        let mut all: Vec<(u32, Vec<u8>)> = wanted.map(|((_, name), tag)| (*tag, name.clone())).collect();
        all.sort_unstable();
        all.iter().for_each(|(_, name)| self.end(is_pattern, name));
        if all.is_empty() {
            let confirmation = self.confirmation(is_pattern, b"", Change::Fewer);
            self.output.confirm(Confirmation { name: None, change: Change::Same, ..confirmation });
        }
    }

    fn end(&mut self, is_pattern: bool, name: &[u8]) {
        let confirmation = self.confirmation(is_pattern, name, Change::Fewer);
        match self.subscriptions.wanted.remove(&(is_pattern, name.to_vec())) {
            Some(tag) => {
                let slot = self.output.reserve();
                self.subscriptions.pending.insert(slot, confirmation);
                self.questions.push(Question::Unsubscribe { slot, tag });
            }
            None => self.output.confirm(Confirmation { change: Change::Same, ..confirmation }),
        }
    }

    /// The shard has ended a subscription: nothing of it follows.
    pub(super) fn unsubscribed(&mut self, slot: u64, tag: u32) {
        let mut confirmation = self.subscriptions.pending.remove(&slot).expect("it waits for this");
        // It was refused, or withdrawn meanwhile, and the client was told so.
        if !self.subscriptions.forget(tag).is_some_and(|held| held.confirmed) {
            confirmation.change = Change::Same;
        }
        self.output.fill_confirmation(slot, confirmation);
    }

    /// Newer permissions have ended a subscription.
    pub(super) fn withdrawn(&mut self, tag: u32) {
        if let Some(held) = self.subscriptions.forget(tag) {
            let confirmation = self.confirmation(held.is_pattern, &held.name, Change::Fewer);
            self.output.confirm(confirmation);
        }
    }

    /// A message of one of the subscriptions.
    pub(super) fn message(&mut self, event: &InnerEvent) {
        let held = self.subscriptions.held.get(&event.tag).filter(|held| held.confirmed);
        let Some(held) = held else { return };
        let Ok(Plain { bytes: payload, .. }) = event.payload.plain() else {
            // NaN among several arguments, for example: Redis has no word for it, and neither has JSON.
            return RespFigures::add(&self.figures.untranslatable, 1);
        };
        RespFigures::add(&self.figures.messages, 1);
        let (version, topic) = (self.version, event.topic().as_bytes());
        self.output.say_message(|out| match held.is_pattern {
            true => write_pattern_message(out, version, &held.name, topic, &payload),
            false => write_message(out, version, topic, &payload),
        });
    }

    pub(super) fn pubsub(&mut self, what: &[u8], args: &[&[u8]]) {
        let names = Arc::clone(&self.subscriptions.names);
        match (&what.to_ascii_lowercase()[..], args) {
            (b"channels", []) => self.say_channels(&names, None),
            (b"channels", [pattern]) => match Glob::new(pattern) {
                Ok(glob) => self.say_channels(&names, Some(&glob)),
                Err(error) => self.refuse(&format!("ERR {error}")),
            },
            (b"numsub", channels) => self.output.say(|out| {
                write_array_head(out, 2 * channels.len());
                for channel in channels {
                    write_bulk(out, channel);
                    write_integer(out, names.subscribers(channel));
                }
            }),
            (b"numpat", []) => self.output.say(|out| write_integer(out, names.patterns() as u64)),
            (other, _) => {
                let words = format!(
                    "ERR unknown subcommand or wrong number of arguments for '{}'. There are PUBSUB CHANNELS, NUMSUB and NUMPAT",
                    shown(other)
                );
                self.refuse(&words);
            }
        }
    }

    fn say_channels(&mut self, names: &Names, pattern: Option<&Glob>) {
        match names.channels(pattern, CHANNELS_BYTES_MAX) {
            Some(channels) => self.output.say(|out: &mut BytesMut| {
                write_array_head(out, channels.len());
                channels.iter().for_each(|name| write_bulk(out, name));
            }),
            None => self.refuse(
                "ERR the names of all these channels are too long for one answer: ask with a pattern",
            ),
        }
    }
}

/// Of the answer to one PUBSUB CHANNELS.
const CHANNELS_BYTES_MAX: usize = 1 << 20;
const NO_CHANNEL: &str = "ERR a channel here is a topic: its name is UTF-8";
