//! O2, O4, O5, O10: what may come between which two messages of a session.

use super::{Checker, Facts, Verdict};
use crate::{
    history::{ClientId, End, Event, Op, Person, Seen},
    names,
};
use std::collections::BTreeMap;

#[derive(Default)]
pub struct Lifecycle {
    sessions: BTreeMap<ClientId, Session>,
    /// Which topic a subscription id stands for, for everybody: router scope, never used again.
    topics: BTreeMap<u64, u8>,
    procedures: BTreeMap<u64, u8>,
    /// Session ids in use.
    ids: BTreeMap<u64, ClientId>,
}

#[derive(Default)]
struct Session {
    welcomed: Option<u64>,
    /// GOODBYE or ABORT was seen: only the close frame may follow.
    over: bool,
    closed: bool,
    /// What the requests on their way ask for.
    subscribing: BTreeMap<u64, u8>,
    unsubscribing: BTreeMap<u64, u64>,
    registering: BTreeMap<u64, u8>,
    unregistering: BTreeMap<u64, u64>,
    /// What stands, as far as the session's client knows.
    subscriptions: BTreeMap<u64, u8>,
    registrations: BTreeMap<u64, u8>,
    /// Id of the last invocation: further parts of a call have older ones, and come whatever became of the registration.
    last_invocation: u64,
}

impl Checker for Lifecycle {
    fn observe(&mut self, event: &Event, facts: &Facts) -> Verdict {
        match event {
            Event::Opened { client, .. } => {
                self.sessions.insert(*client, Session::default());
            }
            Event::Did { client, op } => {
                let session = self.sessions.get_mut(client).expect("it was opened");
                match op {
                    Op::Subscribe { request, topic, .. } => {
                        session.subscribing.insert(*request, *topic);
                    }
                    Op::Unsubscribe { request, subscription, .. } => {
                        session.unsubscribing.insert(*request, *subscription);
                    }
                    Op::Register { request, procedure, .. } => {
                        session.registering.insert(*request, *procedure);
                    }
                    Op::Unregister { request, registration, .. } => {
                        session.unregistering.insert(*request, *registration);
                    }
                    _ => {}
                }
            }
            // Sources have no session.
            Event::Saw { client, .. } if facts.is_source(*client) => {}
            Event::Saw { client, seen } => self.saw(*client, seen, facts)?,
            Event::Ended { client, end } => {
                let session = self.sessions.remove(client).expect("it was opened");
                if let Some(id) = session.welcomed {
                    self.ids.remove(&id);
                }
                if *end == End::Finished && !session.closed {
                    return Err(format!("O10: {client:?} was finished without a close frame"));
                }
            }
            _ => {}
        }
        Ok(())
    }
}

impl Lifecycle {
    fn saw(&mut self, client: ClientId, seen: &Seen, facts: &Facts) -> Verdict {
        let role = facts.role(client);
        let session = self.sessions.get_mut(&client).expect("it was opened");
        if session.closed {
            return Err(format!("O10: {client:?} saw {seen:?} after the close frame"));
        }
        match seen {
            Seen::Close { .. } => session.closed = true,
            // At the message center, who was not let in is told so each time that it says something.
            Seen::Ping | Seen::Challenge | Seen::Answered { answer: Err(_), .. } => {}
            _ if session.over => return Err(format!("O10: {client:?} saw {seen:?} after its session's end")),
            Seen::Abort { .. } | Seen::Goodbye { .. } => session.over = true,
            Seen::Welcome(Person { session: id, .. }) => {
                if session.welcomed.replace(*id).is_some() {
                    return Err(format!("{client:?} was welcomed twice"));
                }
                if let Some(other) = self.ids.insert(*id, client) {
                    return Err(format!("{client:?} and {other:?} have the same session id {id}"));
                }
            }
            _ if session.welcomed.is_none() => return Err(format!("{client:?} saw {seen:?} before WELCOME")),
            Seen::Subscribed { request, subscription } => {
                let topic = asked(&mut session.subscribing, *request, client, seen)?;
                stands_for(&mut self.topics, *subscription, topic, "subscription")?;
                may_ask(client, role, topic, seen)?;
                session.subscriptions.insert(*subscription, topic);
            }
            Seen::Revoked { is_subscription: true, id } => {
                session.subscriptions.remove(id);
            }
            Seen::Revoked { is_subscription: false, id } => {
                session.registrations.remove(id);
            }
            Seen::Unsubscribed { request } => {
                let subscription = asked(&mut session.unsubscribing, *request, client, seen)?;
                // What is on its way comes after that, and `wamp1` judges it.
                if facts.is_version_1(client) {
                    return Ok(());
                }
                if session.subscriptions.remove(&subscription).is_none() {
                    return Err(format!("{client:?} saw UNSUBSCRIBED from what it was not subscribed to"));
                }
            }
            Seen::Event { subscription, tag, topic: told, .. } => {
                match session.subscriptions.get(subscription) {
                    None => {
                        return Err(format!(
                            "O2, O5: {client:?} saw {tag:?} outside its subscription {subscription}"
                        ));
                    }
                    Some(topic) => {
                        let told = told.as_deref().filter(|_| !facts.is_version_1(client));
                        comes_by(client, role, *topic, tag.name, told, seen)?;
                    }
                }
            }
            Seen::Bare { subscription: Some(subscription), .. } => {
                if !session.subscriptions.contains_key(subscription) {
                    return Err(format!("O2, O5: {client:?} saw {seen:?} outside that subscription"));
                }
            }
            Seen::Gap { subscription, of, .. } => {
                let listens =
                    session.subscriptions.get(subscription).is_some_and(|name| names::is_gaps(*name));
                if !listens {
                    return Err(format!("O2, O5: {client:?} was told of a gap and had not asked: {seen:?}"));
                }
                if !self.topics.contains_key(of) {
                    return Err(format!(
                        "{client:?} was told of a gap in no subscription of its own: {seen:?}"
                    ));
                }
            }
            Seen::Registered { request, registration } => {
                let procedure = asked(&mut session.registering, *request, client, seen)?;
                stands_for(&mut self.procedures, *registration, procedure, "registration")?;
                may_ask(client, role, procedure, seen)?;
                session.registrations.insert(*registration, procedure);
            }
            Seen::Unregistered { request } => {
                let registration = asked(&mut session.unregistering, *request, client, seen)?;
                if session.registrations.remove(&registration).is_none() {
                    return Err(format!("{client:?} saw UNREGISTERED of what it had not registered"));
                }
            }
            Seen::Invocation { request, .. } if *request <= session.last_invocation => {}
            Seen::Invocation { request, registration, tag, procedure: told, .. } => {
                session.last_invocation = *request;
                match session.registrations.get(registration) {
                    None => {
                        return Err(format!(
                            "O4, O5: {client:?} saw {tag:?} outside its registration {registration}"
                        ));
                    }
                    Some(procedure) => comes_by(client, role, *procedure, tag.name, told.as_deref(), seen)?,
                }
            }
            Seen::Published { .. }
            | Seen::Interrupt { .. }
            | Seen::Part { .. }
            | Seen::Result { .. }
            | Seen::Error { .. }
            | Seen::Stayed
            | Seen::Bare { .. }
            | Seen::Answered { .. }
            | Seen::Sent { .. } => {}
        }
        Ok(())
    }
}

fn may_ask(client: ClientId, role: u8, asked: u8, seen: &Seen) -> Verdict {
    if names::may_ask(role, asked) {
        return Ok(());
    }
    Err(format!(
        "{client:?} of role {} was granted what it may not have: {seen:?}",
        names::ROLES[usize::from(role)]
    ))
}

/// What was published or called as `name` came by `asked`.
fn comes_by(client: ClientId, role: u8, asked: u8, name: u8, told: Option<&str>, seen: &Seen) -> Verdict {
    let (policy, uri) = names::request(asked);
    if !names::covers(asked, name) {
        return Err(format!("{client:?} saw {seen:?} by {} {uri:?}, which does not cover it", policy.name()));
    }
    if !names::may_have(role, name) {
        let role = names::ROLES[usize::from(role)];
        return Err(format!("{client:?} saw {seen:?}, which a direct request of role {role} is refused"));
    }
    let must_be_told = names::is_pattern(asked).then(|| names::uri(name));
    if told != must_be_told.as_deref() {
        return Err(format!("{client:?} was told {told:?} where {must_be_told:?} was due: {seen:?}"));
    }
    Ok(())
}

fn asked<T: Copy>(
    pending: &mut BTreeMap<u64, T>,
    request: u64,
    client: ClientId,
    seen: &Seen,
) -> Result<T, String> {
    pending.remove(&request).ok_or_else(|| format!("{client:?} saw {seen:?}, for which it had not asked"))
}

fn stands_for(names: &mut BTreeMap<u64, u8>, id: u64, name: u8, what: &str) -> Verdict {
    match names.insert(id, name) {
        Some(known) if known != name => Err(format!("{what} {id} stands for {known} and for {name}")),
        _ => Ok(()),
    }
}
