//! The client's side of logins, for the small clients of the command line and for tests.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ed25519_dalek::{Signer, SigningKey};
use fanwire_core::login::{ChannelId, LoginMethod};
use serde_json::{Map, Value, json};
use zeroize::Zeroizing;

use super::cra;
use super::cryptosign::{hex, unhex};
use super::exchange::Binding;
use super::hash::{MEMORY_KIB_MAX, PASSES_MAX};
use super::scram::{self, Kdf};

/// Who logs in, and what it knows. It is good for one login.
pub struct Prover {
    authid: String,
    knows: Knows,
    /// Random, in base64.
    nonce: String,
    /// The connection's, to which the login is to be bound.
    channel: Option<ChannelId>,
    /// What the router has to show in turn.
    verifier: Option<String>,
}

enum Knows {
    /// Sent as it is.
    Ticket(Zeroizing<String>),
    /// Never sent.
    Password(Zeroizing<String>),
    Key(Box<SigningKey>),
}

impl Prover {
    /// By a ticket, which goes to whoever asks for it.
    pub fn with_ticket(authid: &str, ticket: &str, random: [u8; 16]) -> Self {
        Self::new(authid, Knows::Ticket(Zeroizing::new(ticket.to_owned())), random)
    }

    /// By a password, which is not sent, whatever the router asks for.
    pub fn with_password(authid: &str, password: &str, random: [u8; 16]) -> Self {
        Self::new(authid, Knows::Password(Zeroizing::new(password.to_owned())), random)
    }

    /// By a private key of 64 hexadecimal digits.
    ///
    /// # Errors
    ///
    /// In words, if it is none.
    pub fn with_key(authid: &str, key: &str, random: [u8; 16]) -> Result<Self, String> {
        let key = Zeroizing::new(unhex::<32>(key.trim()).ok_or("a private key is 64 hexadecimal digits")?);
        Ok(Self::new(authid, Knows::Key(Box::new(SigningKey::from_bytes(&key))), random))
    }

    fn new(authid: &str, knows: Knows, random: [u8; 16]) -> Self {
        Self {
            authid: authid.to_owned(),
            knows,
            nonce: STANDARD.encode(random),
            channel: None,
            verifier: None,
        }
    }

    /// For this connection alone (RFC 9266): by methods that can be bound to it.
    pub fn bound_to(self, channel: ChannelId) -> Self {
        Self { channel: Some(channel), ..self }
    }

    /// What it can log in by, the safest first.
    pub fn methods(&self) -> &'static [LoginMethod] {
        match self.knows {
            Knows::Ticket(_) => &[LoginMethod::Ticket],
            Knows::Password(_) if self.channel.is_some() => &[LoginMethod::WampScram],
            Knows::Password(_) => &[LoginMethod::WampScram, LoginMethod::WampCra],
            Knows::Key(_) => &[LoginMethod::Cryptosign],
        }
    }

    /// HELLO's `authextra`.
    pub fn hello(&self) -> Value {
        let mut extra = match &self.knows {
            Knows::Ticket(_) => json!({}),
            Knows::Password(_) => json!({ "nonce": self.nonce }),
            Knows::Key(key) => json!({ "pubkey": hex(key.verifying_key().as_bytes()) }),
        };
        if self.channel.is_some() {
            extra["channel_binding"] = Binding::NAME.into();
        }
        extra
    }

    /// Signature and `Extra` of AUTHENTICATE, in answer to a challenge.
    ///
    /// # Errors
    ///
    /// In words, if the challenge cannot be answered, or should not.
    pub fn answer(
        &mut self,
        method: &str,
        challenge: &Map<String, Value>,
    ) -> Result<(String, Value), String> {
        let method = self.methods().iter().find(|known| known.name() == method);
        let method = method.ok_or("the router asks for a method that was not offered")?;
        let text = |key: &str| {
            challenge.get(key).and_then(Value::as_str).ok_or_else(|| format!("the challenge has no {key}"))
        };
        let number = |key: &str| {
            let number =
                challenge.get(key).and_then(Value::as_u64).and_then(|number| u32::try_from(number).ok());
            number.ok_or_else(|| format!("the challenge has no {key}"))
        };
        match (method, &self.knows) {
            (LoginMethod::Ticket, Knows::Ticket(ticket)) => Ok((ticket.to_string(), json!({}))),
            (LoginMethod::WampCra, Knows::Password(secret)) => {
                let key = match challenge.get("salt") {
                    None | Some(Value::Null) => secret.clone(),
                    Some(_) => cra::derive(secret, text("salt")?, costly(number("iterations")?)?),
                };
                Ok((cra::sign(&key, text("challenge")?), json!({})))
            }
            (LoginMethod::WampScram, Knows::Password(secret)) => {
                let nonce = text("nonce")?;
                if !nonce.starts_with(&self.nonce) || nonce.len() == self.nonce.len() {
                    return Err("the challenge is the answer to another login".into());
                }
                let kdf = match text("kdf")? {
                    "pbkdf2" => Kdf::Pbkdf2 { rounds: costly(number("iterations")?)? },
                    _ => {
                        let (memory_kib, passes) = (number("memory")?, number("iterations")?);
                        if memory_kib > MEMORY_KIB_MAX || passes > PASSES_MAX {
                            return Err("the challenge asks for too much work".into());
                        }
                        Kdf::Argon2id { memory_kib, passes }
                    }
                };
                let said = scram::first_messages(
                    &self.authid,
                    &self.nonce,
                    nonce,
                    text("salt")?,
                    number("iterations")?,
                );
                let bound = self.channel.map(|channel| [Binding::FLAG.as_bytes(), &channel].concat());
                let bound = STANDARD.encode(bound.as_deref().unwrap_or(b"n,,"));
                let messages = format!("{said},c={bound},r={nonce}");
                let (proof, verifier) = scram::prove(secret, kdf, text("salt")?, &messages)?;
                self.verifier = Some(verifier);
                let (name, data) =
                    (self.channel.map(|_| Binding::NAME), self.channel.map(|data| STANDARD.encode(data)));
                Ok((proof, json!({ "nonce": nonce, "channel_binding": name, "cbind_data": data })))
            }
            (LoginMethod::Cryptosign, Knows::Key(key)) => {
                let mut message = unhex::<32>(text("challenge")?).ok_or("the challenge is not 32 bytes")?;
                if let Some(channel) = &self.channel {
                    if challenge.get("channel_binding").and_then(Value::as_str) != Some(Binding::NAME) {
                        return Err("the router does not bind the login to this connection".into());
                    }
                    message.iter_mut().zip(channel).for_each(|(byte, channel)| *byte ^= channel);
                }
                Ok((hex(&key.sign(&message).to_bytes()) + &hex(&message), json!({})))
            }
            _ => Err("the router asks for a method that was not offered".into()),
        }
    }

    /// Whether the router has shown, by WELCOME's `authextra`, that it knows the user too. It need not, but for SCRAM.
    pub fn trusts(&self, welcome: &Map<String, Value>) -> bool {
        let shown = welcome.get("verifier").and_then(Value::as_str);
        self.verifier.as_deref().is_none_or(|verifier| shown == Some(verifier))
    }
}

/// A router must not occupy its clients.
fn costly(rounds: u32) -> Result<u32, String> {
    let known = 1..=cra::ROUNDS_MAX;
    if known.contains(&rounds) { Ok(rounds) } else { Err("the challenge asks for too much work".into()) }
}
