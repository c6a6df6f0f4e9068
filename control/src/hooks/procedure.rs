//! Procedures that are asked: the conventions are those of Crossbar's dynamic authenticators and authorizers.
//!
//! | asked about | called with | answers |
//! |---|---|---|
//! | a login by ticket, or by nothing | realm, authid, details | a role, or a dictionary of `role`, `authid`, `extra` |
//! | a login that needs a challenge | realm, authid, details | such a dictionary, and what the challenge is made of |
//! | a request | the session's details, URI, action, options | a boolean, or a dictionary of `allow`, `disclose`, `cache` |
//!
//! For a login an error, or `null`, or `false` is a no; for a request only `false` is. The call is the router's own, so no permission of anybody's is asked for it; but whoever
//! has registered the procedure was allowed to.

use fanwire_codec::payload::OwnedPayload;
use fanwire_codec::wamp2::Serializer;
use fanwire_core::access::Access;
use fanwire_core::api::{Actor, ApiAnswer, ApiCall, Ask, CallFailure};
use fanwire_core::ids::{RealmId, RoleId, ShardId};
use fanwire_core::login::Proof;
use fanwire_core::question::{Denial, Grant, Question, Subject};
use serde_json::value::RawValue;
use serde_json::{Map, Value, json};
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::Hook;
use super::reply::{Asked, Failure, Fields, Reply, denial, object};
use crate::login::dynamic::{self, Told};
use crate::login::exchange::{self, DYNAMIC};

/// Of a result. One that needs more is no answer to a question.
const RESULT_BYTES_MAX: usize = 64 << 10;
/// What `fanwire_core` says where there is no callee (WAMP, "Predefined URIs").
const NO_SUCH_PROCEDURE: &str = "wamp.error.no_such_procedure";

impl Hook {
    /// Asks by a call. Which shard makes it is all the same.
    pub(super) async fn call(
        &self,
        shard: ShardId,
        procedure: (RealmId, &str),
        question: &Question,
    ) -> Result<Reply, Failure> {
        let payload = self.arguments(question)?;
        let pass = self.breaker.borrow_mut().admits(Instant::now()).ok_or(Failure::BreakerOpen)?;
        let began = Instant::now();
        self.figures.begin();
        let result = self.result(shard, procedure, payload).await;
        self.figures.end(began.elapsed());
        let outcome = result.and_then(|result| self.understand(question, &result));
        // A client can ask for what the program has no answer for, and must not make it look broken.
        if !matches!(outcome, Err(Failure::Invalid(_))) {
            self.note(pass, &outcome);
        }
        outcome
    }

    async fn result(
        &self,
        shard: ShardId,
        (realm, uri): (RealmId, &str),
        payload: OwnedPayload,
    ) -> Result<OwnedPayload, Failure> {
        let actor = Actor { realm, role: RoleId::ROUTER };
        let timeout = self.config.timeout;
        let call = Ask::Call(ApiCall { actor, procedure: uri.into(), payload, timeout });
        let (sender, receiver) = oneshot::channel();
        let reply = Box::new(move |answer| _ = sender.send(answer));
        let asking = async {
            crate::inner::ask(&*self.shards, shard, call, reply).await;
            receiver.await
        };
        // The shard keeps the time from when it makes the call. It may have to wait for that behind others, whose subscribers do not
        // read: which is not the program's fault.
        match tokio::time::timeout(timeout * 2, asking).await {
            Err(_) => Err(Failure::NotCalled),
            Ok(Ok(ApiAnswer::Called(outcome))) => outcome.map_err(|failure| match failure {
                CallFailure::TimedOut => Failure::Timeout,
                CallFailure::Callee { error, .. } => Failure::Callee(error.into()),
                CallFailure::Refused(refusal) if refusal.error == NO_SUCH_PROCEDURE => {
                    Failure::Unreachable("nobody has registered it".to_owned())
                }
                CallFailure::Refused(refusal) => Failure::Unreachable(refusal.to_string()),
            }),
            Ok(_) => Err(Failure::Unreachable("the router stops".to_owned())),
        }
    }

    /// What it is called with.
    fn arguments(&self, question: &Question) -> Result<OwnedPayload, Failure> {
        let core = self.core.load();
        let realm = core.access.realm_name(question.realm);
        let arguments = request(realm, question).unwrap_or_else(|| self.login(realm, question));
        let payload = OwnedPayload::checked(Serializer::Json, Some(arguments?.to_string().as_bytes()), None);
        payload.map_err(|_| Failure::Untranslatable("what the client says is too deep"))
    }

    /// The same about somebody who logs in.
    fn login(&self, realm: &str, question: &Question) -> Result<Value, Failure> {
        let mut details = Map::new();
        let mut tell = |key: &str, value: Value| _ = details.insert(key.to_owned(), value);
        if let Some(method) = self.method_of(question) {
            tell("authmethod", method.name().into());
        }
        if let Some(client) = question.client {
            tell("client", client.get().to_string().into());
        }
        let authid = match &question.subject {
            Subject::Hello { authid, extra, session, .. } => {
                tell("session", session.get().into());
                let extra = exchange::object(extra).map_err(|why| Failure::Untranslatable(why.words()))?;
                tell("authextra", extra.into());
                authid.as_deref()
            }
            Subject::Login { authid, proof, extra } => {
                if let Some(extra) = extra.as_deref() {
                    let extra =
                        exchange::object(extra).map_err(|why| Failure::Untranslatable(why.words()))?;
                    tell("authextra", extra.into());
                }
                if let Proof::Ticket(ticket) = proof {
                    tell("ticket", ticket.expose().into());
                }
                authid.as_deref()
            }
            _ => None,
        };
        Ok(json!([realm, authid, details]))
    }

    fn understand(&self, question: &Question, result: &OwnedPayload) -> Result<Reply, Failure> {
        if result.len() > RESULT_BYTES_MAX {
            return Err(Failure::TooLarge);
        }
        let args = result.view().args.unwrap_or(b"[null]");
        let args: Vec<&RawValue> =
            serde_json::from_slice(args).map_err(|error| Failure::Invalid(error.to_string()))?;
        let said = args.first().map_or("null", |first| first.get());
        // Roles may be others by now.
        let core = self.core.load();
        let (access, realm) = (&core.access, core.access.realm_name(question.realm));
        let asked = Asked { access, realm, subject: &question.subject, role: self.config.role.as_deref() };
        let reply = match &question.subject {
            Subject::Login { .. } | Subject::Hello { .. } => asked.principal(said)?,
            _ => return asked.permission(said),
        };
        let (Subject::Hello { .. }, Reply(Ok(grant))) = (&question.subject, &reply) else { return Ok(reply) };
        let told = self.told(question, access, grant, said)?;
        Ok(Reply(self.challenge(question, Some(told))))
    }

    /// Whom it lets in, if the client's answer is good.
    fn told(&self, question: &Question, access: &Access, grant: &Grant, said: &str) -> Result<Told, Failure> {
        let method = self.method_of(question).expect("it was asked about that method");
        let said = serde_json::from_str(said).ok();
        let said: Map<_, _> = said.ok_or_else(|| {
            Failure::Invalid(format!("a login by {} needs more than a role", method.name()))
        })?;
        let role = grant.role.expect("a login has a role");
        Ok(Told {
            authid: grant.authid.clone(),
            role,
            role_name: access.role_name(question.realm, role).into(),
            extra: grant.extra.as_deref().cloned(),
            credentials: dynamic::credentials(method, &said).map_err(Failure::Invalid)?,
        })
    }

    fn challenge(&self, question: &Question, told: Option<Told>) -> Result<Grant, Denial> {
        let method = self.method_of(question).expect("it was asked about that method");
        let core = self.core.load();
        let role = self.config.role.as_deref();
        let role = role.unwrap_or_else(|| core.access.role_name(question.realm, RoleId::new(0)));
        self.likeness.borrow_mut().challenge(question, method, told, role).map_err(|why| why.denial())
    }

    /// It is refused, and is not told so before it has answered.
    pub(super) fn challenge_nobody(&self, question: &Question) -> Result<Grant, Denial> {
        self.challenge(question, None)
    }
}

/// What a procedure is called with about a request of a session's; `None`: it is about something else.
fn request(realm: &str, question: &Question) -> Option<Result<Value, Failure>> {
    let (who, uri, policy) = match &question.subject {
        Subject::Publish { who, uri, .. } | Subject::Call { who, uri } => (who, uri, None),
        Subject::Subscribe { who, uri, policy } | Subject::Register { who, uri, policy } => {
            (who, uri, Some(policy))
        }
        _ => return None,
    };
    let details = json!({
        "realm": realm, "session": who.session.get(), "authid": who.authid, "authrole": who.authrole,
    });
    let options = policy.map_or_else(|| json!({}), |policy| json!({ "match": policy.name() }));
    Some(Ok(json!([details, uri, question.subject.event().name(), options])))
}

impl Asked<'_> {
    /// Whether a request is allowed, by what a procedure said.
    fn permission(&self, said: &str) -> Result<Reply, Failure> {
        match said.as_bytes()[0] {
            b't' => self.grant(Fields::default()),
            b'f' => Ok(Reply(Err(Denial::Refused))),
            b'{' => {
                let fields = object(said.as_bytes()).map_err(Failure::Invalid)?;
                match fields.allow {
                    Some(true) => self.grant(fields),
                    Some(false) => Ok(Reply(Err(denial(fields)))),
                    None => Err(Failure::Invalid("its dictionary has no \"allow\"".to_owned())),
                }
            }
            _ => Err(Failure::Invalid("it answers neither a boolean nor a dictionary".to_owned())),
        }
    }

    /// Who is let in, by what a procedure said.
    fn principal(&self, said: &str) -> Result<Reply, Failure> {
        let fields = match said.as_bytes()[0] {
            b'"' => {
                let role = serde_json::from_str(said).map_err(|error| Failure::Invalid(error.to_string()))?;
                Fields { allow: Some(true), role: Some(role), ..Fields::default() }
            }
            b'{' => {
                self.check_realm(said)?;
                let fields = object(said.as_bytes()).map_err(Failure::Invalid)?;
                if fields.allow == Some(false) || fields.error.is_some() && fields.allow != Some(true) {
                    return Ok(Reply(Err(denial(fields))));
                }
                Fields { allow: Some(true), ..fields }
            }
            b'n' | b'f' => return Ok(Reply(Err(Denial::Refused))),
            _ => return Err(Failure::Invalid("it answers neither a role nor a dictionary".to_owned())),
        };
        let Reply(outcome) = self.grant(fields)?;
        Ok(Reply(outcome.map(|grant| Grant { provider: DYNAMIC, ..grant })))
    }

    /// Nobody is sent to another realm than the one that it asks for.
    fn check_realm(&self, said: &str) -> Result<(), Failure> {
        #[derive(serde::Deserialize)]
        struct Place {
            #[serde(default)]
            realm: Option<String>,
        }
        let place: Place = serde_json::from_str(said).map_err(|error| Failure::Invalid(error.to_string()))?;
        match place.realm {
            Some(realm) if realm != self.realm => Err(Failure::Invalid(format!(
                "it names the realm {realm:?}, where the client does not want to go"
            ))),
            _ => Ok(()),
        }
    }
}
