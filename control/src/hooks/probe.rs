//! Asks a hook once, as the router would, and tells everything about it: for `fanwire hook test`.

use std::fmt::Write;
use std::time::Duration;

use fanwire_codec::payload::OwnedPayload;
use fanwire_codec::wamp2::Serializer;
use fanwire_codec::ws;
use fanwire_core::access::Access;
use fanwire_core::hooks::HookEvent;
use fanwire_core::ids::{ClientId, RealmId, RoleId, SessionId};
use fanwire_core::login::{LoginMethod, Proof, Ticket};
use fanwire_core::question::{Denial, Identity, Subject};
use fanwire_core::uri::MatchPolicy;
use tokio::time::Instant;

use super::client::Client;
use super::message::Message;
use super::reply::{Asked, Failure, Received, Reply};
use super::{HookConfig, HookUrl, TlsError};

/// What is asked. Not to be printed: it holds a ticket.
#[derive(Clone)]
pub struct Sample {
    /// About what.
    pub event: HookEvent,
    /// The realm's name.
    pub realm: String,
    /// Who wants something.
    pub authid: String,
    /// In this role.
    pub role: String,
    /// To log in by this.
    pub token: String,
    /// The topic.
    pub topic: String,
    /// What is published there, a list in JSON.
    pub args: String,
}

/// What was sent and what came of it.
#[derive(Clone, Debug)]
pub struct Probe {
    /// The request as it was sent, but for what every HTTP client adds.
    pub request: String,
    /// The reply, if one came.
    pub reply: Option<String>,
    /// How long it took.
    pub took: Duration,
    /// What the router would do.
    pub verdict: Result<Decision, Failure>,
}

/// What a reply decides, in words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    /// Yes, with what it says beside.
    Allowed(String),
    /// No, and what the client is told.
    Denied(String),
}

/// Asks once. Takes the hook's `timeout` at most.
///
/// # Errors
///
/// If there is nobody to trust for an `https` address.
///
/// # Panics
///
/// If the hook is no URL.
pub async fn probe(hook: &HookConfig, access: &Access, sample: &Sample) -> Result<Probe, TlsError> {
    let url = hook.target.url().expect("the caller has looked");
    let client = Client::new(std::slice::from_ref(hook))?;
    let realm = access.realm(&sample.realm).expect("the caller has looked for it");
    let subject = sample.subject(access, realm);
    let asked = Asked { access, realm: &sample.realm, subject: &subject, role: hook.role.as_deref() };
    let message =
        match Message::of((realm, Some(Sample::client())), &subject, access, hook.body, &hook.fields) {
            Ok(message) => message,
            Err(failure) => {
                let nothing = format!("POST {}\n", url.uri());
                return Ok(Probe {
                    request: nothing,
                    reply: None,
                    took: Duration::ZERO,
                    verdict: Err(failure),
                });
            }
        };
    let request = request_words(hook, url, &message);
    let began = Instant::now();
    let received = client.ask(hook, url, &message, sample.event != HookEvent::Disconnect).await;
    let took = began.elapsed();
    let reply = received.as_ref().ok().map(reply_words);
    let verdict = received
        .and_then(|received| asked.understand(&received))
        .map(|reply| decision(&reply, &asked, realm));
    Ok(Probe { request, reply, took, verdict })
}

impl Sample {
    fn who(&self) -> Identity {
        let session = SessionId::new(SAMPLE_SESSION).expect("a valid id");
        Identity { session, authid: self.authid.as_str().into(), authrole: self.role.as_str().into() }
    }

    fn client() -> ClientId {
        ClientId::from_number(SAMPLE_SESSION + 1).expect("a valid id")
    }

    /// What decides on the meaning of the reply.
    fn subject(&self, access: &Access, realm: RealmId) -> Subject {
        let authid = (!self.authid.is_empty()).then(|| self.authid.as_str().into());
        match self.event {
            HookEvent::Authenticate => {
                Subject::Login { authid, proof: Proof::Ticket(Ticket::new(&self.token)), extra: None }
            }
            HookEvent::Connect => {
                let role = access.role(realm, &self.role).unwrap_or(RoleId::new(0));
                Subject::Connect { authid, role, method: LoginMethod::Ticket }
            }
            HookEvent::Subscribe => {
                let uri = self.topic.as_str().into();
                Subject::Subscribe { who: self.who(), uri, policy: MatchPolicy::Exact }
            }
            HookEvent::Publish => {
                let payload = OwnedPayload::checked(Serializer::Json, Some(self.args.as_bytes()), None).ok();
                Subject::Publish { who: self.who(), uri: self.topic.as_str().into(), payload }
            }
            HookEvent::Call => Subject::Call { who: self.who(), uri: self.topic.as_str().into() },
            HookEvent::Register => {
                let uri = self.topic.as_str().into();
                Subject::Register { who: self.who(), uri, policy: MatchPolicy::Exact }
            }
            HookEvent::Message => {
                let bytes = format!("{{\"op\":\"demo\",\"args\":{}}}", self.args).into_bytes().into();
                let kind = ws::Kind::Text;
                Subject::Message {
                    who: Some(self.who()),
                    client: Self::client(),
                    kind,
                    bytes,
                    waits_for_uid: false,
                }
            }
            HookEvent::Rpc => {
                let payload = OwnedPayload::checked(Serializer::Json, Some(self.args.as_bytes()), None);
                let payload = payload.unwrap_or_else(|_| OwnedPayload::from_plain(self.args.as_bytes()));
                Subject::Rpc { who: Some(self.who()), uri: self.topic.as_str().into(), payload }
            }
            HookEvent::Disconnect => Subject::Disconnect { who: self.who() },
        }
    }
}

/// One that looks like one.
const SAMPLE_SESSION: u64 = 4_503_599_627_370_496;

fn request_words(hook: &HookConfig, url: &HookUrl, message: &Message) -> String {
    let request = message.request(url.uri(), hook.body, &hook.headers);
    let mut out = format!("{} {}\n", request.method(), url.uri());
    for (name, value) in request.headers() {
        let value = String::from_utf8_lossy(value.as_bytes());
        writeln!(out, "{name}: {value}").expect("writing to a string succeeds");
    }
    if !request.body().is_empty() {
        write!(out, "\n{}\n", String::from_utf8_lossy(request.body())).expect("writing to a string succeeds");
    }
    out
}

fn reply_words(received: &Received) -> String {
    let body = String::from_utf8_lossy(&received.body);
    // Control characters could do anything to a terminal.
    let body = printable(body.trim_end());
    let mut out = format!("status {}\n", received.status);
    let shown: String = body.chars().take(SHOWN_CHARACTERS_MAX).collect();
    if !shown.is_empty() {
        write!(out, "\n{shown}\n").expect("writing to a string succeeds");
    }
    let more = body.chars().count() - shown.chars().count();
    if more > 0 {
        writeln!(out, "… and {more} characters more").expect("writing to a string succeeds");
    }
    out
}

/// Without what a terminal would obey, or be misled by.
fn printable(text: &str) -> String {
    let is_harmless = |c: &char| {
        *c == '\n' || !c.is_control() && !matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
    };
    text.chars().filter(is_harmless).collect()
}

const SHOWN_CHARACTERS_MAX: usize = 2_000;

fn decision(reply: &Reply, asked: &Asked<'_>, realm: RealmId) -> Decision {
    match reply.outcome() {
        Ok(grant) => {
            let mut words = Vec::new();
            let claimed = match asked.subject {
                Subject::Login { authid, .. } => authid.as_deref(),
                _ => None,
            };
            words.extend(grant.authid.as_deref().or(claimed).map(|authid| format!("authid {authid:?}")));
            words.extend(grant.role.map(|role| format!("role {:?}", asked.access.role_name(realm, role))));
            let extra = grant.extra.as_ref().and_then(|extra| extra.view().kwargs);
            words.extend(extra.map(|extra| format!("extra {}", printable(&String::from_utf8_lossy(extra)))));
            Decision::Allowed(words.join(", "))
        }
        Err(Denial::Told(told)) => {
            let error = told.error.as_deref().unwrap_or("the usual error");
            Decision::Denied(format!(
                "the client is told {error}: {:?}",
                told.message.as_deref().unwrap_or("")
            ))
        }
        Err(_) => Decision::Denied("the client is told the usual error".to_owned()),
    }
}

/// Runs what [`probe`] gives, for programs without a runtime.
///
/// # Panics
///
/// If the kernel has nothing left for one.
pub fn run<T>(future: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.expect("a runtime takes some descriptors").block_on(future)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reply_does_nothing_to_the_terminal() {
        let body = "a\u{1b}[2Jb\u{9b}c\nd\u{202e}é".into();
        assert_eq!(reply_words(&Received { status: 200, body }), "status 200\n\na[2Jbc\ndé\n");
    }
}
