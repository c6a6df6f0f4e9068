//! WAMP as the modelled clients speak it: operations to bytes, bytes to what was seen.

use super::{
    history::{Abilities, Asked, ClientId, Keep, Op, Person, Seen, Tag},
    names,
    plan::REALMS,
};
use bytes::BytesMut;
use fanwire_codec::{
    payload::OwnedPayload,
    wamp2::{
        self, CallOptions, DecodeLimits, Feature, FeatureSet, HelloDetails, Message, Payload, PublishOptions,
        RegisterOptions, Roles, Serializer, SubscribeOptions, YieldOptions, code,
    },
    ws::Kind,
};
use std::borrow::Cow;

/// The error with which callees fail on purpose.
pub const CALLEE_ERROR: &str = "sim.error.refused";

/// The one with which a callee passes a call on, if it knows that; also the router's, for want of room.
pub const UNAVAILABLE: &str = "wamp.error.unavailable";
/// Nobody else takes it.
pub const NO_AVAILABLE_CALLEE: &str = "wamp.error.no_available_callee";

/// Every user's.
pub const RIGHT_TICKET: &str = "right";

/// The user as which a client logs in; each has several.
pub fn authid(client: ClientId) -> String {
    format!("user-{}", client.0 / 3)
}

pub fn kind(serializer: Serializer) -> Kind {
    if serializer.is_text() { Kind::Text } else { Kind::Binary }
}

/// The bytes of one operation; publications and calls carry `padding` bytes beside their tag.
pub fn speak(from: ClientId, serializer: Serializer, op: &Op, padding: usize) -> Vec<u8> {
    let payload_bytes = match op {
        Op::Publish { keep: Keep::Ends, tag, .. } => nothing(serializer, tag),
        Op::Publish { tag, .. }
        | Op::Call { tag, .. }
        | Op::CallOn { tag, .. }
        | Op::Yield { tag, .. }
        | Op::Fail { tag, .. }
        | Op::PassOn { tag, .. } => arguments(serializer, tag, padding),
        Op::YieldPart { tag, part, .. } => list_of_one(serializer, &tagged_part(tag, *part, padding)),
        _ => Vec::new(),
    };
    let args = Some(&payload_bytes[..]).filter(|args| !args.is_empty());
    let payload = Payload { args, kwargs: None, ..Payload::EMPTY };
    let message = match op {
        Op::Hello { realm, by_ticket, abilities } => Message::Hello {
            realm: REALMS[usize::from(*realm)].into(),
            details: HelloDetails {
                roles: roles(abilities),
                authid: by_ticket.map(|_| authid(from).into()),
                authmethods: by_ticket.map(|_| "ticket".into()).into_iter().collect(),
                ..Default::default()
            },
        },
        Op::Authenticate { right } => Message::Authenticate {
            signature: if *right { RIGHT_TICKET } else { "another" }.into(),
            extra: &[],
        },
        Op::Subscribe { request, topic, get_retained } => {
            let (match_policy, topic) = names::request(*topic);
            let get_retained = get_retained.then_some(true);
            let options = SubscribeOptions { match_policy, get_retained };
            Message::Subscribe { request: *request, options, topic: topic.into() }
        }
        Op::Unsubscribe { request, subscription, .. } => {
            Message::Unsubscribe { request: *request, subscription: *subscription }
        }
        Op::Publish { request, tag, acknowledge, exclude_me, disclose, lists, key, keep, .. } => {
            Message::Publish {
                request: *request,
                options: PublishOptions {
                    acknowledge: *acknowledge,
                    // Both ways of saying that the publisher is excluded.
                    exclude_me: if *exclude_me {
                        [None, Some(true)][tag.number as usize % 2]
                    } else {
                        Some(false)
                    },
                    disclose_me: disclose.then_some(true),
                    receivers: lists.as_deref().map(|lists| Box::new(lists.to_owned_receivers())),
                    conflate_key: key.map(|key| conflate_key(key).into()),
                    retain: (*keep != Keep::No).then_some(true),
                },
                topic: names::uri(tag.name).into(),
                payload,
            }
        }
        Op::Register { request, procedure, offer } => {
            let (match_policy, procedure) = names::request(*procedure);
            let options = RegisterOptions {
                match_policy,
                invoke: offer.invoke,
                forward_timeout: offer.forward_timeout.then_some(true),
                concurrency: offer.concurrency,
                force_reregister: offer.force.then_some(true),
                ..Default::default()
            };
            Message::Register { request: *request, options, procedure: procedure.into() }
        }
        Op::Unregister { request, registration, .. } => {
            Message::Unregister { request: *request, registration: *registration }
        }
        Op::Call { request, tag, disclose, wants } => Message::Call {
            request: *request,
            options: CallOptions {
                timeout_ms: wants.timeout_ms,
                receive_progress: wants.progress.then_some(true),
                progress: wants.more.then_some(true),
                disclose_me: disclose.then_some(true),
            },
            procedure: names::uri(tag.name).into(),
            payload,
        },
        // Of the options of later parts this one alone counts.
        Op::CallOn { request, tag, more } => Message::Call {
            request: *request,
            options: CallOptions { progress: Some(*more), ..Default::default() },
            procedure: names::uri(tag.name).into(),
            payload,
        },
        Op::Cancel { request, mode } => Message::Cancel { request: *request, mode: *mode },
        Op::Yield { invocation, .. } => {
            Message::Yield { request: *invocation, options: YieldOptions::default(), payload }
        }
        Op::YieldPart { invocation, .. } => {
            Message::Yield { request: *invocation, options: YieldOptions { progress: Some(true) }, payload }
        }
        Op::Fail { invocation, .. } => Message::Error {
            request_type: code::INVOCATION,
            request: *invocation,
            error: CALLEE_ERROR.into(),
            payload,
        },
        Op::PassOn { invocation, .. } => Message::Error {
            request_type: code::INVOCATION,
            request: *invocation,
            error: UNAVAILABLE.into(),
            payload,
        },
        Op::Say { .. } | Op::Prefix { .. } => unreachable!("it is another protocol's"),
        Op::Goodbye => Message::Goodbye { reason: "wamp.close.normal".into(), message: None },
        // Only routers send WELCOME.
        Op::Violate => Message::Welcome { session: 1, details: Default::default() },
    };
    let mut out = BytesMut::new();
    wamp2::encode(&message, serializer, &mut out);
    out.to_vec()
}

/// What one message says, or why no router should have sent it.
pub fn understand(serializer: Serializer, got: Kind, bytes: &[u8]) -> Result<Seen, String> {
    if got != kind(serializer) {
        return Err(format!("a {got:?} message came to a client that speaks {serializer}"));
    }
    if let Some(revoked) = revocation(serializer, bytes) {
        return revoked;
    }
    let message = wamp2::decode(serializer, bytes, &DecodeLimits::default())
        .map_err(|error| format!("the router sent what it must not: {error}"))?;
    let tagged = |payload: Payload<'_>| {
        payload.args.and_then(read_tag).ok_or_else(|| format!("a payload was lost or changed: {payload:?}"))
    };
    Ok(match message {
        Message::Challenge { method, .. } if method == "ticket" => Seen::Challenge,
        Message::Welcome { session, details } => Seen::Welcome(Person {
            session,
            authid: details.authid.ok_or("WELCOME names no authid")?.into_owned(),
            authrole: details.authrole.ok_or("WELCOME names no authrole")?.into_owned(),
        }),
        Message::Abort { reason, .. } => Seen::Abort { reason: reason.into_owned() },
        Message::Goodbye { reason, .. } => Seen::Goodbye { reason: reason.into_owned() },
        Message::Subscribed { request, subscription } => Seen::Subscribed { request, subscription },
        Message::Unsubscribed { request } => Seen::Unsubscribed { request },
        Message::Published { request, publication } => {
            Seen::Published { request, publication, matched: None }
        }
        Message::Event { subscription, payload: Payload { kwargs: Some(kwargs), .. }, .. } => {
            gap(serializer, subscription, kwargs)?
        }
        Message::Event { subscription, publication, payload, details } => {
            let topic = details.topic.map(Cow::into_owned);
            if payload.args.is_none_or(is_empty) {
                return Ok(Seen::Bare { subscription: Some(subscription), topic });
            }
            let publisher = told(details.publisher, details.publisher_authid, details.publisher_authrole)?;
            let (tag, retained) = (tagged(payload)?, details.retained == Some(true));
            Seen::Event { subscription, publication, topic, tag, publisher, heard: None, retained }
        }
        Message::Registered { request, registration } => Seen::Registered { request, registration },
        Message::Unregistered { request } => Seen::Unregistered { request },
        Message::Invocation { request, registration, payload, details } => {
            let procedure = details.procedure.map(Cow::into_owned);
            let caller = told(details.caller, details.caller_authid, details.caller_authrole)?;
            let asked = Asked {
                progress: details.receive_progress == Some(true),
                more: details.progress == Some(true),
                timeout_ms: details.timeout_ms,
            };
            Seen::Invocation { request, registration, procedure, tag: tagged(payload)?, caller, asked }
        }
        Message::Interrupt { request, options } => {
            Seen::Interrupt { request, mode: options.mode.ok_or("INTERRUPT has no mode")? }
        }
        Message::Result { request, payload, details } if details.progress == Some(true) => {
            let part = payload.args.and_then(read_part).ok_or("a part of a result was lost or changed")?;
            Seen::Part { request, tag: tagged(payload)?, part }
        }
        Message::Result { request, payload, .. } => Seen::Result { request, tag: tagged(payload)? },
        Message::Error { request_type, request, error, payload } => {
            let tag = payload.args.and_then(read_tag);
            Seen::Error { request_type, request, uri: error.into_owned(), tag }
        }
        other => return Err(format!("a router does not send {}", other.name())),
    })
}

/// What HELLO says of it.
fn roles(abilities: &Abilities) -> Roles {
    let callee = [
        (abilities.canceling, Feature::CallCanceling),
        (abilities.progress, Feature::ProgressiveCallResults),
        (abilities.parts, Feature::ProgressiveCallInvocations),
        (abilities.timeout, Feature::CallTimeout),
        (abilities.reroute, Feature::CallReroute),
        (abilities.registrations, Feature::RegistrationRevocation),
    ];
    let callee: Vec<Feature> =
        callee.into_iter().filter_map(|(has, feature)| has.then_some(feature)).collect();
    let caller: &[Feature] =
        if abilities.calls_in_parts { &[Feature::ProgressiveCallInvocations] } else { &[] };
    let subscriber: &[Feature] =
        if abilities.subscriptions { &[Feature::SubscriptionRevocation] } else { &[] };
    Roles {
        callee: Some(FeatureSet::of(&callee)),
        caller: Some(FeatureSet::of(caller)),
        subscriber: Some(FeatureSet::of(subscriber)),
        ..Roles::CLIENT
    }
}

/// How a publication names what it is about.
pub fn conflate_key(key: u8) -> String {
    format!("key {key}")
}

/// UNSUBSCRIBED or UNREGISTERED with request 0, which no client sends a request with.
fn revocation(serializer: Serializer, bytes: &[u8]) -> Option<Result<Seen, String>> {
    let heads: [&[u8]; 2] = match serializer {
        Serializer::Json => [b"[35,0,", b"[67,0,"],
        Serializer::MsgPack => [&[0x93, 35, 0], &[0x93, 67, 0]],
        Serializer::Cbor => [&[0x83, 0x18, 35, 0], &[0x83, 0x18, 67, 0]],
    };
    let which = heads.iter().position(|head| bytes.starts_with(head))?;
    let end = bytes.len() - usize::from(serializer == Serializer::Json);
    let text = match in_json(serializer, &bytes[heads[which].len()..end]) {
        Ok(text) => text,
        Err(words) => return Some(Err(words)),
    };
    let is_subscription = which == 0;
    let key = if is_subscription { "\"subscription\":" } else { "\"registration\":" };
    let id = number_in(&text, key).filter(|_| text.contains("\"reason\":"));
    Some(match id {
        Some(id) => Ok(Seen::Revoked { is_subscription, id }),
        None => Err(format!("a revocation without number or reason: {text}")),
    })
}

/// A dictionary as text.
fn in_json(serializer: Serializer, kwargs: &[u8]) -> Result<String, String> {
    let payload = Payload { args: Some(empty_list(serializer)), kwargs: Some(kwargs), ..Payload::EMPTY };
    let payload = OwnedPayload::copy_from(serializer, &payload);
    let payload =
        payload.transcode(Serializer::Json).map_err(|error| format!("keywords cannot be read: {error}"))?;
    Ok(String::from_utf8_lossy(payload.view().kwargs.unwrap_or_default()).into_owned())
}

fn number_in(text: &str, key: &str) -> Option<u64> {
    let from = text.find(key)? + key.len();
    let digits = text[from..].bytes().take_while(u8::is_ascii_digit).count();
    text[from..from + digits].parse().ok()
}

/// The only events with keywords are the router's own.
fn gap(serializer: Serializer, subscription: u64, kwargs: &[u8]) -> Result<Seen, String> {
    let text = in_json(serializer, kwargs)?;
    match (number_in(&text, "\"subscription\":"), number_in(&text, "\"lost\":")) {
        (Some(of), Some(lost)) => Ok(Seen::Gap { subscription, of, lost }),
        _ => Err(format!("a gap without numbers: {text}")),
    }
}

/// All of it, or nothing.
fn told(
    session: Option<u64>,
    authid: Option<Cow<'_, str>>,
    authrole: Option<Cow<'_, str>>,
) -> Result<Option<Person>, String> {
    match (session, authid, authrole) {
        (None, None, None) => Ok(None),
        (Some(session), Some(authid), Some(authrole)) => {
            Ok(Some(Person { session, authid: authid.into_owned(), authrole: authrole.into_owned() }))
        }
        other => Err(format!("somebody is disclosed by half: {other:?}")),
    }
}

/// `<from.number.name>` and padding.
pub fn tagged(tag: &Tag, padding: usize) -> String {
    format!("<{}.{}.{}>{}", tag.from.0, tag.number, tag.name, "x".repeat(padding))
}

/// The same for a part of a result.
fn tagged_part(tag: &Tag, part: u32, padding: usize) -> String {
    format!("{}{part}:{}", tagged(tag, 0), "x".repeat(padding))
}

/// A list of one such string.
pub fn arguments(serializer: Serializer, tag: &Tag, padding: usize) -> Vec<u8> {
    list_of_one(serializer, &tagged(tag, padding))
}

fn list_of_one(serializer: Serializer, text: &str) -> Vec<u8> {
    match serializer {
        Serializer::Json => format!("[\"{text}\"]").into_bytes(),
        Serializer::MsgPack | Serializer::Cbor => {
            // A list of one, and a string whose length has 32 bits.
            let head = if serializer == Serializer::Cbor { [0x81, 0x7a] } else { [0x91, 0xdb] };
            let mut bytes = head.to_vec();
            bytes.extend_from_slice(&(text.len() as u32).to_be_bytes());
            bytes.extend_from_slice(text.as_bytes());
            bytes
        }
    }
}

/// No arguments, said in both ways.
fn nothing(serializer: Serializer, tag: &Tag) -> Vec<u8> {
    if tag.number.is_multiple_of(2) { Vec::new() } else { empty_list(serializer).to_vec() }
}

fn empty_list(serializer: Serializer) -> &'static [u8] {
    match serializer {
        Serializer::Json => b"[]",
        Serializer::MsgPack => &[0x90],
        Serializer::Cbor => &[0x80],
    }
}

/// Whether these are the arguments of a publication without any.
pub fn is_empty(args: &[u8]) -> bool {
    args.is_empty() || Serializer::ALL.iter().any(|serializer| args == empty_list(*serializer))
}

pub fn read_tag(args: &[u8]) -> Option<Tag> {
    if let Some(bytes) = binary_in_json(args) {
        return read_tag(&bytes);
    }
    // The last one: the length before the string may be the same byte.
    let start = args.iter().rposition(|&byte| byte == b'<')? + 1;
    let length = args[start..].iter().position(|&byte| byte == b'>')?;
    let text = std::str::from_utf8(&args[start..start + length]).ok()?;
    let mut numbers = text.split('.');
    let from = ClientId(numbers.next()?.parse().ok()?);
    let number = numbers.next()?.parse().ok()?;
    let name = numbers.next()?.parse().ok()?;
    Some(Tag { from, number, name })
}

/// The number of a part of a result, if it is one.
fn read_part(args: &[u8]) -> Option<u32> {
    let start = args.iter().rposition(|&byte| byte == b'>')? + 1;
    let length = args[start..].iter().position(|&byte| byte == b':')?;
    std::str::from_utf8(&args[start..start + length]).ok()?.parse().ok()
}

/// WAMP, "Binary conversion of JSON Strings": what a list of one has, if that is binary. What is not in the alphabet ends it.
fn binary_in_json(args: &[u8]) -> Option<Vec<u8>> {
    const ALPHABET: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let text = args.strip_prefix(br#"["\u0000"#)?;
    let digits = text.iter().map_while(|byte| ALPHABET.iter().position(|letter| letter == byte));
    let (mut bytes, mut bits, mut count) = (Vec::new(), 0_u32, 0);
    for digit in digits {
        (bits, count) = (bits << 6 | digit as u32, count + 6);
        if count >= 8 {
            count -= 8;
            bytes.push((bits >> count) as u8);
        }
    }
    Some(bytes)
}
