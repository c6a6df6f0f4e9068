//! The cases: what the basic profile says, in the words that this client has.

use std::future::Future;
use std::pin::Pin;

use serde_json::{Value, json};
use wamp_async::{WampArgs, WampError, WampKwArgs};

use crate::session::{Place, equal, leave, next, refused, words};
use crate::{Failure, logins, meta};

type Check = fn(Place) -> Pin<Box<dyn Future<Output = Result<(), Failure>>>>;

/// A feature, the name of a case, and the case.
pub const CASES: &[(&str, &str, Check)] = &[
    ("sessions", "unknown_realm_is_refused", |place| Box::pin(unknown_realm_is_refused(place))),
    ("publish_subscribe", "subscribers_on_every_shard_get_the_event", |place| {
        Box::pin(subscribers_on_every_shard_get_the_event(place))
    }),
    ("serialization", "every_value_arrives_as_it_was_sent", |place| {
        Box::pin(every_value_arrives_as_it_was_sent(place))
    }),
    ("publish_subscribe", "event_without_payload_arrives_without", |place| {
        Box::pin(event_without_payload_arrives_without(place))
    }),
    ("publisher_exclusion", "publisher_is_excluded_unless_it_asks", |place| {
        Box::pin(publisher_is_excluded_unless_it_asks(place))
    }),
    ("publish_subscribe", "order_holds_across_topics", |place| Box::pin(order_holds_across_topics(place))),
    ("publish_subscribe", "unsubscribed_session_gets_no_event", |place| {
        Box::pin(unsubscribed_session_gets_no_event(place))
    }),
    ("calls", "procedures_are_called_from_every_shard", |place| {
        Box::pin(procedures_are_called_from_every_shard(place))
    }),
    ("serialization", "results_carry_positions_and_keywords", |place| {
        Box::pin(results_carry_positions_and_keywords(place))
    }),
    ("calls", "unknown_procedure_is_an_error", |place| Box::pin(unknown_procedure_is_an_error(place))),
    ("calls", "errors_of_the_callee_reach_the_caller", |place| {
        Box::pin(errors_of_the_callee_reach_the_caller(place))
    }),
    ("calls", "procedure_has_one_callee", |place| Box::pin(procedure_has_one_callee(place))),
    ("calls", "what_a_session_had_goes_with_it", |place| Box::pin(what_a_session_had_goes_with_it(place))),
    ("uris", "reserved_uris_are_refused", |place| Box::pin(reserved_uris_are_refused(place))),
    ("session_meta_api", "sessions_are_counted_listed_and_described", |place| {
        Box::pin(sessions_are_counted_listed_and_described(place))
    }),
    ("testament_meta_api", "a_testament_is_published_when_its_session_ends", |place| {
        Box::pin(a_testament_is_published_when_its_session_ends(place))
    }),
    ("ticket", "a_ticket_lets_its_user_in", |place| Box::pin(logins::a_ticket_lets_its_user_in(place))),
    ("ticket", "another_ticket_lets_nobody_in", |place| {
        Box::pin(logins::another_ticket_lets_nobody_in(place))
    }),
    ("event_history", "events_are_told_in_their_order", |place| {
        Box::pin(meta::events_are_told_in_their_order(place))
    }),
    ("session_meta_api", "who_comes_and_goes_is_told", |place| {
        Box::pin(meta::who_comes_and_goes_is_told(place))
    }),
    ("subscription_meta_api", "subscriptions_are_found_and_their_sessions_listed", |place| {
        Box::pin(meta::subscriptions_are_found_and_their_sessions_listed(place))
    }),
    ("subscription_revocation", "who_loses_a_subscription_gets_no_more_events", |place| {
        Box::pin(meta::who_loses_a_subscription_gets_no_more_events(place))
    }),
    ("registration_meta_api", "registrations_are_found_and_their_callees_listed", |place| {
        Box::pin(meta::registrations_are_found_and_their_callees_listed(place))
    }),
    ("registration_revocation", "a_registration_is_taken_from_its_callee", |place| {
        Box::pin(meta::a_registration_is_taken_from_its_callee(place))
    }),
    ("procedure_reflection", "definitions_of_procedures_are_kept_and_told", |place| {
        Box::pin(meta::definitions_are_kept_and_told(place, "procedure"))
    }),
    ("topic_reflection", "definitions_of_topics_are_kept_and_told", |place| {
        Box::pin(meta::definitions_are_kept_and_told(place, "topic"))
    }),
];

/// Features of which this client can say nothing, and why.
pub const SILENT: &[(&str, &str)] = &[
    ("progressive_call_results", NO_OPTIONS),
    ("progressive_call_invocations", NO_OPTIONS),
    ("call_timeout", NO_OPTIONS),
    ("call_canceling", NO_CANCEL),
    ("caller_identification", NO_OPTIONS),
    ("call_trustlevels", NO_DETAILS),
    ("pattern_based_registration", NO_OPTIONS),
    ("shared_registration", NO_OPTIONS),
    ("call_reroute", NO_OPTIONS),
    ("subscriber_blackwhite_listing", NO_OPTIONS),
    ("publisher_identification", NO_OPTIONS),
    ("publication_trustlevels", NO_DETAILS),
    ("pattern_based_subscription", NO_OPTIONS),
    ("event_retention", NO_OPTIONS),
    ("payload_passthru_mode", NO_OPTIONS),
    ("extensions", NO_OPTIONS),
    ("wampcra", NO_SIGNATURE),
    ("wamp-scram", OTHER_METHODS),
    ("cryptosign", OTHER_METHODS),
];
const NO_OPTIONS: &str = "it sends no options";
const NO_CANCEL: &str = "it has no CANCEL";
const NO_SIGNATURE: &str = "it leaves signing to its user";
const OTHER_METHODS: &str = "it knows the methods ticket and wampcra alone";
const NO_DETAILS: &str = "it does not show the details";

pub type Answer = Result<(Option<WampArgs>, Option<WampKwArgs>), WampError>;

pub fn list(value: Value) -> Option<WampArgs> {
    value.as_array().cloned()
}

pub fn dict(value: Value) -> Option<WampKwArgs> {
    value.as_object().cloned()
}

async fn unknown_realm_is_refused(place: Place) -> Result<(), Failure> {
    refused(place.join("no.such.realm.here").await, "wamp.error.no_such_realm")
}

async fn subscribers_on_every_shard_get_the_event(place: Place) -> Result<(), Failure> {
    let sessions = place.join_many(17).await?;
    let mut inboxes = Vec::new();
    for session in &sessions[1..] {
        inboxes.push(session.subscribe("com.fanwire.rust.fan").await.map_err(words)?.1);
    }
    let kwargs = json!({"three": [3]});
    let published =
        sessions[0].publish("com.fanwire.rust.fan", list(json!([1, "two"])), dict(kwargs.clone()), true);
    published.await.map_err(words)?.ok_or("no id of a publication")?;
    for inbox in &mut inboxes {
        let (args, found) = next(inbox).await?;
        equal((json!(args), json!(found)), (json!([1, "two"]), kwargs.clone()), "event")?;
    }
    leave(sessions).await
}

fn values() -> Value {
    json!([
        null, true, false, 0, -1, 9007199254740991_i64, -9007199254740991_i64, 1.5, "", "text", "ünï©ødé \u{2028} 😀",
        "quote\" back\\ slash/ \n\t", [], {}, [1, [2, [3, {"four": [5]}]]], {"a": null, "b": {"c": [true, {"d": ""}]}},
        "x".repeat(70_000),
    ])
}

async fn every_value_arrives_as_it_was_sent(place: Place) -> Result<(), Failure> {
    let sessions = place.join_many(2).await?;
    let (_, mut inbox) = sessions[1].subscribe("com.fanwire.rust.values").await.map_err(words)?;
    let kwargs = json!({"every": values()});
    let published =
        sessions[0].publish("com.fanwire.rust.values", list(values()), dict(kwargs.clone()), true);
    published.await.map_err(words)?;
    let (args, found) = next(&mut inbox).await?;
    equal((json!(args), json!(found)), (values(), kwargs), "event")?;
    leave(sessions).await
}

async fn event_without_payload_arrives_without(place: Place) -> Result<(), Failure> {
    let sessions = place.join_many(2).await?;
    let (_, mut inbox) = sessions[1].subscribe("com.fanwire.rust.empty").await.map_err(words)?;
    sessions[0].publish("com.fanwire.rust.empty", None, None, true).await.map_err(words)?;
    equal(next(&mut inbox).await?, Default::default(), "event")?;
    leave(sessions).await
}

async fn publisher_is_excluded_unless_it_asks(place: Place) -> Result<(), Failure> {
    let sessions = place.join_many(2).await?;
    let topic = "com.fanwire.rust.own";
    let (_, mut own) = sessions[0].subscribe(topic).await.map_err(words)?;
    let (_, mut other) = sessions[1].subscribe(topic).await.map_err(words)?;
    sessions[0].publish(topic, list(json!([1])), None, true).await.map_err(words)?;
    sessions[1].publish(topic, list(json!([2])), None, true).await.map_err(words)?;
    equal(json!(next(&mut own).await?.0), json!([2]), "the first publisher's own events")?;
    equal(json!(next(&mut other).await?.0), json!([1]), "the other one's")?;
    leave(sessions).await
}

async fn order_holds_across_topics(place: Place) -> Result<(), Failure> {
    let sessions = place.join_many(3).await?;
    let mut inboxes = Vec::new();
    for session in &sessions[1..] {
        inboxes.push(session.subscribe("com.fanwire.rust.order").await.map_err(words)?.1);
    }
    for number in 0..600 {
        let args = list(json!([number]));
        sessions[0].publish("com.fanwire.rust.order", args, None, false).await.map_err(words)?;
    }
    for inbox in &mut inboxes {
        for number in 0..600 {
            equal(json!(next(inbox).await?.0), json!([number]), "order")?;
        }
    }
    leave(sessions).await
}

async fn unsubscribed_session_gets_no_event(place: Place) -> Result<(), Failure> {
    let sessions = place.join_many(2).await?;
    let topic = "com.fanwire.rust.leave";
    let (id, mut gone) = sessions[1].subscribe(topic).await.map_err(words)?;
    sessions[0].publish(topic, list(json!([1])), None, true).await.map_err(words)?;
    next(&mut gone).await?;
    sessions[1].unsubscribe(id).await.map_err(words)?;
    sessions[0].publish(topic, list(json!([2])), None, true).await.map_err(words)?;
    let (_, mut again) = sessions[1].subscribe(topic).await.map_err(words)?;
    sessions[0].publish(topic, list(json!([3])), None, true).await.map_err(words)?;
    equal(json!(next(&mut again).await?.0), json!([3]), "the event after subscribing again")?;
    leave(sessions).await
}

async fn procedures_are_called_from_every_shard(place: Place) -> Result<(), Failure> {
    async fn add(args: Option<WampArgs>, _: Option<WampKwArgs>) -> Answer {
        let sum: i64 = args.unwrap_or_default().iter().filter_map(Value::as_i64).sum();
        Ok((Some(vec![json!(sum)]), None))
    }
    let sessions = place.join_many(17).await?;
    sessions[0].register("com.fanwire.rust.add", add).await.map_err(words)?;
    for (number, session) in sessions.iter().enumerate() {
        let result =
            session.call("com.fanwire.rust.add", list(json!([number, 100])), None).await.map_err(words)?;
        equal(json!(result.0), json!([number + 100]), "sum")?;
    }
    leave(sessions).await
}

async fn results_carry_positions_and_keywords(place: Place) -> Result<(), Failure> {
    async fn mirror(args: Option<WampArgs>, kwargs: Option<WampKwArgs>) -> Answer {
        Ok((args, kwargs))
    }
    let sessions = place.join_many(2).await?;
    sessions[0].register("com.fanwire.rust.mirror", mirror).await.map_err(words)?;
    let kwargs = json!({"every": values()});
    let result = sessions[1].call("com.fanwire.rust.mirror", list(values()), dict(kwargs.clone()));
    let (args, found) = result.await.map_err(words)?;
    equal((json!(args), json!(found)), (values(), kwargs), "result")?;
    leave(sessions).await
}

async fn unknown_procedure_is_an_error(place: Place) -> Result<(), Failure> {
    let sessions = place.join_many(1).await?;
    refused(sessions[0].call("com.fanwire.rust.unknown", None, None).await, "wamp.error.no_such_procedure")?;
    leave(sessions).await
}

async fn errors_of_the_callee_reach_the_caller(place: Place) -> Result<(), Failure> {
    async fn fail(_: Option<WampArgs>, _: Option<WampKwArgs>) -> Answer {
        Err(WampError::ServerError("com.fanwire.rust.error.own".to_owned(), Default::default()))
    }
    let sessions = place.join_many(2).await?;
    sessions[0].register("com.fanwire.rust.fail", fail).await.map_err(words)?;
    let answer = sessions[1].call("com.fanwire.rust.fail", None, None).await;
    // Whatever URI the client makes of it, it is an ERROR, and the next call is answered.
    if answer.is_ok() {
        return Err("the callee's error became a result".to_owned());
    }
    refused(sessions[1].call("com.fanwire.rust.unknown", None, None).await, "wamp.error.no_such_procedure")?;
    leave(sessions).await
}

pub async fn one(_: Option<WampArgs>, _: Option<WampKwArgs>) -> Answer {
    Ok((Some(vec![json!(1)]), None))
}

async fn procedure_has_one_callee(place: Place) -> Result<(), Failure> {
    let sessions = place.join_many(2).await?;
    let id = sessions[0].register("com.fanwire.rust.single", one).await.map_err(words)?;
    let again = sessions[1].register("com.fanwire.rust.single", one).await;
    refused(again, "wamp.error.procedure_already_exists")?;
    sessions[0].unregister(id).await.map_err(words)?;
    refused(sessions[1].call("com.fanwire.rust.single", None, None).await, "wamp.error.no_such_procedure")?;
    sessions[1].register("com.fanwire.rust.single", one).await.map_err(words)?;
    equal(
        json!(sessions[0].call("com.fanwire.rust.single", None, None).await.map_err(words)?.0),
        json!([1]),
        "result",
    )?;
    leave(sessions).await
}

async fn what_a_session_had_goes_with_it(place: Place) -> Result<(), Failure> {
    let mut sessions = place.join_many(2).await?;
    let leaver = sessions.remove(0);
    leaver.register("com.fanwire.rust.gone", one).await.map_err(words)?;
    leaver.disconnect().await;
    refused(sessions[0].call("com.fanwire.rust.gone", None, None).await, "wamp.error.no_such_procedure")?;
    leave(sessions).await
}

async fn reserved_uris_are_refused(place: Place) -> Result<(), Failure> {
    let sessions = place.join_many(1).await?;
    match sessions[0].register("wamp.forged.procedure", one).await {
        Ok(_) => return Err("wamp.forged.procedure was registered".to_owned()),
        Err(WampError::ServerError(uri, _)) => {
            let known = ["wamp.error.invalid_uri", "wamp.error.not_authorized"].contains(&uri.as_str());
            equal(known, true, &uri)?;
        }
        Err(error) => return Err(words(error)),
    }
    leave(sessions).await
}

async fn sessions_are_counted_listed_and_described(place: Place) -> Result<(), Failure> {
    let sessions = place.join_many(5).await?;
    let call = |name: &'static str, args| sessions[0].call(name, args, None);
    let count = call("wamp.session.count", None).await.map_err(words)?.0.ok_or("no count")?;
    equal(count[0].as_u64().is_some_and(|count| count >= 5), true, "five sessions at least")?;
    let listed = call("wamp.session.list", None).await.map_err(words)?.0.ok_or("no list")?;
    let ids = listed[0].as_array().ok_or("no list of ids")?;
    equal(ids.len() as u64 >= 5, true, "five ids at least")?;
    let details =
        call("wamp.session.get", Some(vec![ids[0].clone()])).await.map_err(words)?.0.ok_or("no details")?;
    equal(&details[0]["session"], &ids[0], "session")?;
    refused(call("wamp.session.get", Some(vec![json!(1)])).await, "wamp.error.no_such_session")?;
    leave(sessions).await
}

async fn a_testament_is_published_when_its_session_ends(place: Place) -> Result<(), Failure> {
    let mut sessions = place.join_many(2).await?;
    let testator = sessions.remove(0);
    let (_, mut heir) = sessions[0].subscribe("com.fanwire.rust.will").await.map_err(words)?;
    let will = list(json!(["com.fanwire.rust.will", ["the last"], {"a": 1.5}]));
    testator.call("wamp.session.add_testament", will, None).await.map_err(words)?;
    testator.disconnect().await;
    let (args, kwargs) = next(&mut heir).await?;
    equal((json!(args), json!(kwargs)), (json!(["the last"]), json!({"a": 1.5})), "the testament")?;
    leave(sessions).await
}
