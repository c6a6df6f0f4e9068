//! Logging in as a user that the routers are configured with.

use serde_json::json;
use wamp_async::{AuthenticationChallengeResponse, AuthenticationMethod, WampError};

use crate::Failure;
use crate::cases::list;
use crate::session::{Place, equal, leave, words};

async fn by_ticket(
    place: &Place,
    user: &str,
    ticket: &'static str,
) -> Result<wamp_async::Client<'static>, WampError> {
    let mut client = place.connect().await?;
    let answer =
        move |_, _| async move { Ok(AuthenticationChallengeResponse::with_signature(ticket.to_owned())) };
    let methods = vec![AuthenticationMethod::Ticket];
    client.join_realm_with_authentication("realm1", methods, user, answer).await?;
    Ok(client)
}

pub async fn a_ticket_lets_its_user_in(place: Place) -> Result<(), Failure> {
    let session = by_ticket(&place, "ann", "her ticket").await.map_err(words)?;
    let members = session.call("wamp.session.count", list(json!([["member"]])), None).await;
    let count = members.map_err(words)?.0.ok_or("no count")?;
    equal(count[0].as_u64() >= Some(1), true, "it is a member")?;
    leave(vec![session]).await
}

pub async fn another_ticket_lets_nobody_in(place: Place) -> Result<(), Failure> {
    for (user, ticket) in [("ann", "another"), ("nobody", "her ticket")] {
        let Err(error) = by_ticket(&place, user, ticket).await else {
            return Err(format!("{user} was let in"));
        };
        let said = words(error);
        let known = ["authentication_denied", "authentication_failed", "not_authorized"];
        if !known.iter().any(|reason| said.contains(reason)) {
            return Err(format!("{user}: {said}"));
        }
    }
    Ok(())
}
