//! From HELLO to the verdict on its answer: which method, with what challenge, and whether the answer is good.
//!
//! Whoever is no user is challenged like one. What it sees are the kinds of secrets that the realm's users have, and salts that are
//! the same each time it comes under a name ([`Decoys`](super::users)); its answer is checked in the same way, and is wrong.

use std::cell::RefCell;
use std::sync::Arc;

use fanwire_codec::payload::OwnedPayload;
use fanwire_codec::wamp2::{Payload, Serializer};
use fanwire_core::ids::RealmId;
use fanwire_core::login::{Answer, Challenge, ChannelId, Exchange, LoginMethod, Proof, Ticket};
use fanwire_core::question::{Grant, Question, Remember, Subject};
use serde_json::{Map, Value};

use super::cra::CraSecret;
use super::cryptosign::{CryptosignStep, PublicKey};
use super::jwt::is_token;
use super::scram::{Dialect, ScramStep};
use super::users::{User, Users, Why};

/// What a challenge's answer is compared with.
struct Kept {
    /// Who it says it is, or was found to be by its key.
    authid: Box<str>,
    /// `None`: nobody.
    user: Option<Arc<User>>,
    /// Where a program knows the user, and not the configuration: what WELCOME says of it.
    dynamic: Option<Option<OwnedPayload>>,
    step: Step,
}

/// What somebody says who wants to log in, beside its name.
pub(super) struct Greeting<'a> {
    /// Its `authextra`.
    pub(super) extra: &'a Map<String, Value>,
    /// The id that its session will have.
    pub(super) session: u64,
    /// What its connection alone has.
    pub(super) channel: Option<&'a ChannelId>,
    /// It speaks WAMP version 1.
    pub(super) version_1: bool,
}

/// Whom a program has vouched for.
pub(super) struct Vouched {
    pub(super) authid: Box<str>,
    /// `None`: for nobody.
    pub(super) user: Option<Arc<User>>,
    /// For WELCOME.
    pub(super) extra: Option<OwnedPayload>,
}

enum Step {
    WampCra { secret: CraSecret, challenge: String },
    Scram(ScramStep),
    Cryptosign(CryptosignStep),
}

impl Users {
    /// What there is to say to a question about a login.
    pub(super) fn answer(&self, question: &Question) -> Result<Grant, Why> {
        match &question.subject {
            Subject::Hello { .. } => self.challenge(question),
            Subject::Login { authid, proof: Proof::Ticket(ticket), .. } => {
                self.compare(question.realm, authid.as_deref(), ticket)
            }
            Subject::Login { proof: Proof::Answer(answer), .. } => self.check(question.realm, answer),
            _ => Err(Why::UnknownProof),
        }
    }

    /// Does one key derivation, for users that do not exist too.
    fn compare(&self, realm: RealmId, authid: Option<&str>, ticket: &Ticket) -> Result<Grant, Why> {
        let realm = self.realm(realm).ok_or(Why::UnknownUser)?;
        if !realm.tokens.is_empty() && is_token(ticket.expose()) {
            let mut outcome = Err(Why::UnknownKey);
            for tokens in &realm.tokens {
                match tokens.verify(ticket.expose(), authid) {
                    Err(Why::UnknownKey | Why::WrongSecret) => {}
                    // What is known of it is said.
                    other @ Err(_) => outcome = other,
                    granted => return granted,
                }
            }
            return outcome;
        }
        let user = authid.and_then(|authid| realm.user(authid));
        let hash = user.and_then(|user| user.credentials.ticket.as_ref()).unwrap_or(&realm.decoys.ticket);
        let matches = hash.matches(ticket.expose()).map_err(|_| Why::NoMemory)?;
        match user {
            Some(user) if matches => Ok(Grant::of_user(user.role)),
            Some(_) => Err(Why::WrongSecret),
            None => Err(Why::UnknownUser),
        }
    }

    fn challenge(&self, question: &Question) -> Result<Grant, Why> {
        let Subject::Hello { authid, methods, extra, session, channel, version_1 } = &question.subject else {
            return Err(Why::UnknownProof);
        };
        let realm = self.realm(question.realm).ok_or(Why::UnknownUser)?;
        // A token is a ticket, and says itself whose it is.
        let takes_tokens = !realm.tokens.is_empty();
        if takes_tokens && methods[0] == LoginMethod::Ticket {
            return Ok(asks_for_ticket());
        }
        let hello = object(extra)?;
        let (name, user) = match authid {
            Some(authid) => (authid.clone(), realm.user(authid)),
            None => realm.by_key(PublicKey::of_hello(&hello)?),
        };
        // Made for those who exist too, so that it takes as long.
        let own = user.map(|user| user.credentials.shape());
        let decoy = realm.decoys.user(&name, own, methods);
        let offers = |user: &User| methods.iter().copied().find(|method| user.credentials.offers(*method));
        // Who has none of these methods is as good as unknown.
        let known = user.and_then(|user| Some((user, offers(user)?)));
        let (user, shown, method) = match (known, &decoy) {
            (Some((user, method)), _) => (Some(Arc::clone(user)), &**user, method),
            (None, Some((decoy, method))) => (None, decoy, *method),
            (None, None) if takes_tokens && methods.contains(&LoginMethod::Ticket) => {
                return Ok(asks_for_ticket());
            }
            (None, None) => return Err(Why::UnknownProof),
        };
        let (extra, step) = begin(
            shown,
            &name,
            method,
            &Greeting {
                extra: &hello,
                session: session.get(),
                channel: channel.as_deref(),
                version_1: *version_1,
            },
        )?;
        let exchange =
            step.map(|step| Exchange::new(Kept { authid: name.clone(), user, dynamic: None, step }));
        let challenge = Challenge { method, extra, exchange };
        Ok(Grant { authid: Some(name), challenge: Some(Box::new(challenge)), ..Grant::default() })
    }

    fn check(&self, realm: RealmId, answer: &Answer) -> Result<Grant, Why> {
        let kept = answer.exchange.get::<Kept>().ok_or(Why::UnknownProof)?;
        let extra = object(&answer.extra)?;
        let signature = answer.signature.expose();
        let mut told = None;
        let mut is_right = match &kept.step {
            Step::WampCra { secret, challenge } => secret.has_signed(challenge, signature),
            Step::Scram(step) => {
                told = step.verify(signature, &extra)?;
                told.is_some()
            }
            Step::Cryptosign(step) => step.verify(signature),
        };
        let Some(user) = &kept.user else { return Err(Why::UnknownUser) };
        if let Step::Cryptosign(step) = &kept.step {
            is_right &= user.credentials.keys.contains(&step.key());
        }
        if !is_right {
            return Err(Why::WrongSecret);
        }
        if let Some(extra) = &kept.dynamic {
            // What belongs to the method is true of this login alone.
            let remember = Some(Remember { extra: extra.clone().map(Box::new) });
            let extra = merged(extra.as_ref(), told)?.map(Box::new);
            let (authid, provider) = (Some(kept.authid.clone()), DYNAMIC);
            return Ok(Grant { authid, extra, provider, remember, ..Grant::of_user(user.role) });
        }
        // Whoever was changed since has to begin anew.
        let now = self.realm(realm).and_then(|realm| realm.user(&kept.authid));
        if now != Some(user) {
            return Err(Why::Changed);
        }
        let extra = told.map(|told| Box::new(payload(&told)));
        Ok(Grant { authid: Some(kept.authid.clone()), extra, ..Grant::of_user(user.role) })
    }
}

/// The challenge for somebody of whom a program has told. `shown`: by whose secrets; `name`: whom the client says it is.
pub(super) fn challenge(
    method: LoginMethod,
    name: &str,
    shown: &User,
    vouched: Vouched,
    greeting: &Greeting<'_>,
) -> Result<Grant, Why> {
    let (extra, step) = begin(shown, name, method, greeting)?;
    let Vouched { authid, user, extra: told } = vouched;
    let kept = |step| Kept { authid: authid.clone(), user, dynamic: Some(told), step };
    let exchange = step.map(|step| Exchange::new(kept(step)));
    let challenge = Challenge { method, extra, exchange };
    Ok(Grant { authid: Some(authid), challenge: Some(Box::new(challenge)), ..Grant::default() })
}

/// Who vouches for users that are not in the configuration, as Crossbar says it.
pub(crate) const DYNAMIC: &str = "dynamic";

/// The challenge of who has to send a ticket, which is nobody's in particular.
pub(crate) fn asks_for_ticket() -> Grant {
    let challenge =
        Challenge { method: LoginMethod::Ticket, extra: payload(&Map::new().into()), exchange: None };
    Grant { challenge: Some(Box::new(challenge)), ..Grant::default() }
}

/// What WELCOME says: what a program has said of the user, and what belongs to the method.
fn merged(said: Option<&OwnedPayload>, told: Option<Value>) -> Result<Option<OwnedPayload>, Why> {
    let Some(Value::Object(told)) = told else { return Ok(said.cloned()) };
    let mut all = said.map_or_else(|| Ok(Map::new()), object)?;
    all.extend(told);
    Ok(Some(payload(&all.into())))
}

/// The first step of `method`, by the secrets of `user`.
fn begin(
    user: &User,
    name: &str,
    method: LoginMethod,
    greeting: &Greeting<'_>,
) -> Result<(OwnedPayload, Option<Step>), Why> {
    let Greeting { extra: hello, session, channel, version_1 } = *greeting;
    let (extra, step) = match method {
        LoginMethod::Ticket => Ok((Value::Object(Map::new()), None)),
        LoginMethod::WampCra if version_1 => {
            let secret = user.credentials.cra.clone().ok_or(Why::UnknownProof)?;
            let challenge = secret.challenge_of_version_1(name, session, &random());
            let args = Value::from(vec![challenge.as_str()]).to_string();
            let told = Payload { args: Some(args.as_bytes()), ..Payload::EMPTY };
            let step = Step::WampCra { secret, challenge };
            return Ok((OwnedPayload::copy_from(Serializer::Json, &told), Some(step)));
        }
        LoginMethod::WampCra => {
            let secret = user.credentials.cra.clone().ok_or(Why::UnknownProof)?;
            let (extra, challenge) = secret.challenge(name, &user.role_name, session, &random());
            Ok((extra, Some(Step::WampCra { secret, challenge })))
        }
        LoginMethod::WampScram | LoginMethod::Scram => {
            let standard = method == LoginMethod::WampScram;
            let dialect = if standard { Dialect::Standard } else { Dialect::Autobahn };
            let keys = user.credentials.scram.as_ref().ok_or(Why::UnknownProof)?;
            let (extra, step) = keys.challenge(dialect, name, hello, channel, &random())?;
            Ok((extra, Some(Step::Scram(step))))
        }
        LoginMethod::Cryptosign => {
            let (extra, step) = PublicKey::of_hello(hello)?.challenge(hello, channel, random())?;
            Ok((extra, Some(Step::Cryptosign(step))))
        }
        _ => Err(Why::UnknownProof),
    }?;
    Ok((payload(&extra), step))
}

/// The channel of a connection to which the client wants its login bound (RFC 9266).
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Binding(pub(super) ChannelId);

impl Binding {
    /// What it is called.
    pub(super) const NAME: &str = "tls-exporter";
    /// How SCRAM begins what is bound (RFC 5802, section 7).
    pub(super) const FLAG: &str = "p=tls-exporter,,";

    /// By the client's `authextra`. What it wants and cannot have is refused: going on without would be what somebody in the
    /// middle wishes for.
    pub(super) fn wanted(
        hello: &Map<String, Value>,
        channel: Option<&ChannelId>,
    ) -> Result<Option<Self>, Why> {
        match (text_of(hello, "channel_binding")?, channel) {
            (None, _) => Ok(None),
            (Some(Self::NAME), Some(channel)) => Ok(Some(Self(*channel))),
            (Some(Self::NAME), None) => {
                Err(Why::Malformed("channel_binding \"tls-exporter\" needs TLS 1.3 up to this router"))
            }
            (Some("tls-unique"), _) => Err(Why::Malformed(
                "channel_binding \"tls-unique\" is not there in TLS 1.3 and unsafe before: use \"tls-exporter\"",
            )),
            (Some(_), _) => Err(Why::Malformed("channel_binding is not known: use \"tls-exporter\"")),
        }
    }
}

/// A string of a client's dictionary. Null is not there.
pub(super) fn text_of<'a>(dictionary: &'a Map<String, Value>, key: &str) -> Result<Option<&'a str>, Why> {
    match dictionary.get(key) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => Ok(Some(text)),
        Some(_) => Err(Why::Malformed(
            "authextra, or what came with AUTHENTICATE, has a value of another type than a string",
        )),
    }
}

/// A client's dictionary.
pub(crate) fn object(extra: &OwnedPayload) -> Result<Map<String, Value>, Why> {
    let wrong =
        || Why::Malformed("authextra, or what came with AUTHENTICATE, has values that JSON does not have");
    let extra = extra.transcode(Serializer::Json).map_err(|_| wrong())?;
    match extra.view().kwargs {
        None => Ok(Map::new()),
        Some(bytes) => serde_json::from_slice(bytes).map_err(|_| wrong()),
    }
}

fn payload(dictionary: &Value) -> OwnedPayload {
    let bytes = dictionary.to_string();
    OwnedPayload::copy_from(
        Serializer::Json,
        &Payload { args: None, kwargs: Some(bytes.as_bytes()), ..Payload::EMPTY },
    )
}

pub(super) fn random<const N: usize>() -> [u8; N] {
    thread_local! {
        static RANDOM: RefCell<Box<dyn FnMut() -> u64>> = RefCell::new(Box::new(fanwire_io::random_source()));
    }
    let mut bytes = [0; N];
    RANDOM.with_borrow_mut(|random| {
        for chunk in bytes.chunks_mut(8) {
            chunk.copy_from_slice(&random().to_ne_bytes()[..chunk.len()]);
        }
    });
    bytes
}
