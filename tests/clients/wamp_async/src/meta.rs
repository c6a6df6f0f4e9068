//! What is asked of the router itself: the meta API, event history and reflection.

use serde_json::{Value, json};
use wamp_async::{Client, WampKwArgs};

use crate::Failure;
use crate::cases::{dict, list, one};
use crate::session::{Place, equal, leave, next, refused, words};

/// The first argument of an answer.
async fn ask(
    session: &Client<'_>,
    procedure: &str,
    args: Value,
    kwargs: Option<WampKwArgs>,
) -> Result<Value, Failure> {
    let (args, _) = session.call(procedure, list(args), kwargs).await.map_err(words)?;
    Ok(args.and_then(|args| args.into_iter().next()).unwrap_or(Value::Null))
}

pub async fn events_are_told_in_their_order(place: Place) -> Result<(), Failure> {
    let sessions = place.join_many(2).await?;
    let topic = "com.fanwire.history.plain";
    let (id, _inbox) = sessions[1].subscribe(topic).await.map_err(words)?;
    // By it they are found among those of other runs.
    let mark = json!(format!("{id} {:?}", std::time::SystemTime::now()));
    for number in 0..5 {
        sessions[0].publish(topic, list(json!([mark, number])), None, true).await.map_err(words)?;
    }
    let found =
        ask(&sessions[0], "wamp.subscription.get_events", json!([id]), dict(json!({"limit": 1000}))).await?;
    let events = found.as_array().ok_or("no list of events")?;
    let own = events.iter().map(|event| &event["args"]).filter(|args| args[0] == mark);
    let numbers: Vec<_> = own.map(|args| args[1].clone()).collect();
    equal(json!(numbers), json!([0, 1, 2, 3, 4]), "events")?;
    leave(sessions).await
}

pub async fn who_comes_and_goes_is_told(place: Place) -> Result<(), Failure> {
    let sessions = place.join_many(1).await?;
    let (_, mut joins) = sessions[0].subscribe("wamp.session.on_join").await.map_err(words)?;
    let (_, mut leaves) = sessions[0].subscribe("wamp.session.on_leave").await.map_err(words)?;
    for _ in 0..3 {
        let member = place.join_many(1).await?;
        let (args, _) = next(&mut joins).await?;
        let details = &args[0];
        let (id, authid, role) = (&details["session"], &details["authid"], &details["authrole"]);
        equal(role, &json!("anonymous"), "role")?;
        leave(member).await?;
        equal(json!(next(&mut leaves).await?.0), json!([id, authid, role]), "who has left")?;
    }
    leave(sessions).await
}

pub async fn subscriptions_are_found_and_their_sessions_listed(place: Place) -> Result<(), Failure> {
    let sessions = place.join_many(2).await?;
    let topic = "com.fanwire.rust.meta";
    let (id, _inbox) = sessions[1].subscribe(topic).await.map_err(words)?;
    let observer = &sessions[0];
    equal(ask(observer, "wamp.subscription.lookup", json!([topic]), None).await?, json!(id), "lookup")?;
    equal(ask(observer, "wamp.subscription.match", json!([topic]), None).await?, json!([id]), "match")?;
    equal(ask(observer, "wamp.subscription.count_subscribers", json!([id]), None).await?, json!(1), "count")?;
    let details = ask(observer, "wamp.subscription.get", json!([id]), None).await?;
    equal(&details["uri"], &json!(topic), "topic")?;
    let unknown = observer.call("wamp.subscription.get", list(json!([1_u64 << 53])), None).await;
    refused(unknown, "wamp.error.no_such_subscription")?;
    leave(sessions).await
}

pub async fn who_loses_a_subscription_gets_no_more_events(place: Place) -> Result<(), Failure> {
    let sessions = place.join_many(2).await?;
    let topic = "com.fanwire.rust.revoked";
    let (id, mut inbox) = sessions[1].subscribe(topic).await.map_err(words)?;
    let observer = &sessions[0];
    let members = ask(observer, "wamp.subscription.list_subscribers", json!([id]), None).await?;
    let revoked = json!([id, members[0], "com.fanwire.moved"]);
    ask(observer, "wamp.subscription.remove_subscriber", revoked, None).await?;
    observer.publish(topic, list(json!([1])), None, true).await.map_err(words)?;
    // What comes behind the event that must not come: an event of another topic.
    let (_, mut other) = sessions[1].subscribe("com.fanwire.rust.revoked.not").await.map_err(words)?;
    observer.publish("com.fanwire.rust.revoked.not", None, None, true).await.map_err(words)?;
    next(&mut other).await?;
    equal(inbox.try_recv().is_err(), true, "no event after the revocation")?;
    leave(sessions).await
}

pub async fn registrations_are_found_and_their_callees_listed(place: Place) -> Result<(), Failure> {
    let sessions = place.join_many(2).await?;
    let uri = "com.fanwire.rust.registered";
    let id = sessions[1].register(uri, one).await.map_err(words)?;
    let observer = &sessions[0];
    for name in ["lookup", "match"] {
        let found = ask(observer, &format!("wamp.registration.{name}"), json!([uri]), None).await?;
        equal(found, json!(id), name)?;
    }
    equal(ask(observer, "wamp.registration.count_callees", json!([id]), None).await?, json!(1), "count")?;
    let details = ask(observer, "wamp.registration.get", json!([id]), None).await?;
    equal((&details["uri"], &details["invoke"]), (&json!(uri), &json!("single")), "details")?;
    let unknown = observer.call("wamp.registration.get", list(json!([1_u64 << 53])), None).await;
    refused(unknown, "wamp.error.no_such_registration")?;
    leave(sessions).await
}

pub async fn a_registration_is_taken_from_its_callee(place: Place) -> Result<(), Failure> {
    let sessions = place.join_many(3).await?;
    let uri = "com.fanwire.rust.taken";
    let id = sessions[1].register(uri, one).await.map_err(words)?;
    let observer = &sessions[0];
    let callees = ask(observer, "wamp.registration.list_callees", json!([id]), None).await?;
    ask(observer, "wamp.registration.remove_callee", json!([id, callees[0], "com.fanwire.moved"]), None)
        .await?;
    refused(observer.call(uri, None, None).await, "wamp.error.no_such_procedure")?;
    sessions[2].register(uri, one).await.map_err(words)?;
    equal(ask(observer, uri, json!([]), None).await?, json!(1), "the answer of the next callee")?;
    leave(sessions).await
}

pub async fn definitions_are_kept_and_told(place: Place, kind: &'static str) -> Result<(), Failure> {
    let sessions = place.join_many(2).await?;
    let (author, reader) = (&sessions[0], &sessions[1]);
    let (_, mut told) = reader.subscribe("wamp.reflect.on_define").await.map_err(words)?;
    let uri = format!("com.fanwire.rust.defined.{kind}");
    let definition = json!({"args": ["integer", {"unit": "m"}]});
    ask(author, "wamp.reflect.define", json!([uri, definition]), dict(json!({"type": kind}))).await?;
    equal(json!(next(&mut told).await?.0), json!([uri, kind, definition]), "on_define")?;
    let describe = format!("wamp.reflection.{kind}.describe");
    let described = ask(reader, &describe, json!([uri]), None).await?;
    equal(&described["definition"], &definition, "definition")?;
    ask(author, "wamp.reflect.define", json!([uri]), dict(json!({"type": kind}))).await?;
    equal(ask(reader, &describe, json!([uri]), None).await?, Value::Null, "what was taken back")?;
    leave(sessions).await
}
