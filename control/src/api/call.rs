//! `POST /v1/call`.

use std::time::Duration;

use fanwire_codec::http::RequestHead;
use fanwire_codec::payload::OwnedPayload;
use fanwire_core::api::{ApiAnswer, ApiCall, Ask, CallFailure};
use serde::Deserialize;
use serde_json::value::RawValue;

use super::connection::{Connection, Failure, Response};
use super::error::{ApiError, Code, Payload};
use super::fields::{self, Field, Given};
use super::publish::{json, no_idempotency_key};
use super::{ANSWER_TIME, Api, Caller, Reply, check_json, publication};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Call<'a> {
    #[serde(borrow)]
    realm: Field<'a>,
    #[serde(borrow)]
    procedure: Field<'a>,
    #[serde(borrow)]
    args: Field<'a>,
    #[serde(borrow)]
    kwargs: Field<'a>,
    #[serde(borrow, default)]
    data: Given<'a>,
    #[serde(borrow)]
    timeout: Field<'a>,
}

impl Api {
    pub(super) async fn call(
        &self,
        connection: &mut Connection,
        caller: &Caller<'_>,
        head: &RequestHead<'_>,
    ) -> Result<Reply, Failure> {
        check_json(head)?;
        no_idempotency_key(head)?;
        let body = connection.whole_body(self.config.limits.body_bytes_max).await?;
        self.check_still(caller)?;
        let call = self.read_call(caller, fields::text(&body)?)?;
        drop(body);
        let time = call.timeout + ANSWER_TIME;
        let ApiAnswer::Called(outcome) = self.ask(caller.shard, Ask::Call(call), time).await? else {
            unreachable!("a call is answered as one")
        };
        Ok(Reply::Whole(Response::ok(json(&payload(&outcome.map_err(failure)?)))))
    }

    fn read_call(&self, caller: &Caller<'_>, text: &str) -> Result<ApiCall, ApiError> {
        let call: Call<'_> = fields::object(text, "a call: {\"procedure\": …, \"args\": […]}")?;
        Ok(ApiCall {
            actor: publication::actor(call.realm, caller.principal, self.access())?,
            procedure: fields::required("procedure", call.procedure)?.into(),
            payload: publication::payload(call.args, call.kwargs, call.data)?,
            timeout: timeout(call.timeout, self.config.limits.call_time_max)?,
        })
    }
}

/// Seconds, with or without a fraction.
fn timeout(value: Field<'_>, most: Duration) -> Result<Duration, ApiError> {
    let Some(value) = value else { return Ok(most) };
    let seconds: f64 = serde_json::from_str(value.get()).unwrap_or(f64::NAN);
    match Duration::try_from_secs_f64(seconds) {
        Ok(time) if time <= most && time >= Duration::from_millis(1) => Ok(time),
        _ => {
            let most = most.as_secs_f64();
            let what = format!("a number of seconds from 0.001 to {most} (http_api.call_time)");
            Err(fields::invalid("timeout", &what))
        }
    }
}

fn failure(failure: CallFailure) -> ApiError {
    match failure {
        CallFailure::Callee { error, payload } => ApiError {
            uri: Some(String::from(error).into()),
            payload: Some(Box::new(self::payload(&payload))),
            ..ApiError::new(Code::CalleeError, "the callee answered with an error; its URI is in \"uri\"")
        },
        CallFailure::Refused(refusal) => ApiError::from(refusal).field("procedure"),
        CallFailure::TimedOut => {
            let words = "the callee has not answered in time; it may still do what it was asked, or raise \"timeout\"";
            ApiError::new(Code::Timeout, words)
        }
    }
}

fn payload(payload: &OwnedPayload) -> Payload {
    let view = payload.view();
    Payload { args: view.args.and_then(raw), kwargs: view.kwargs.and_then(raw) }
}

/// The codec has validated it; where serde is stricter, there is nothing that could be answered.
fn raw(json: &[u8]) -> Option<Box<RawValue>> {
    RawValue::from_string(std::str::from_utf8(json).ok()?.to_owned()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timeouts_are_seconds_up_to_the_limit() {
        let read = |text: &str| {
            let raw: &RawValue = serde_json::from_str(text).expect("JSON");
            timeout(Some(raw), Duration::from_secs(30))
        };
        assert_eq!(timeout(None, Duration::from_secs(30)).expect("the default"), Duration::from_secs(30));
        assert_eq!(read("1.5").expect("right"), Duration::from_millis(1_500));
        assert_eq!(read("30").expect("right"), Duration::from_secs(30));
        for wrong in ["0", "-1", "30.1", "\"5\"", "1e300", "{}", "true"] {
            assert_eq!(read(wrong).expect_err(wrong).code, Code::InvalidField, "{wrong}");
        }
    }
}
