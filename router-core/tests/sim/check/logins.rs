//! Who is let in, and as whom.

use super::{Checker, Facts, Verdict};
use crate::history::{ClientId, Decision, Event, Op, Person, Seen};
use crate::names::ROLES;
use crate::speech::authid;
use std::collections::BTreeMap;

#[derive(Default)]
pub struct Logins(BTreeMap<ClientId, Login>);

/// Of a client that logs in by ticket.
#[derive(Default)]
struct Login {
    challenged: bool,
    /// Whether its ticket was the right one, once it was given.
    proof: Option<bool>,
    decision: Option<Decision>,
    answered: bool,
}

impl Checker for Logins {
    fn observe(&mut self, event: &Event, facts: &Facts) -> Verdict {
        match event {
            Event::Did { client, op: Op::Hello { by_ticket: Some(_), .. } } => {
                self.0.insert(*client, Login::default());
            }
            Event::Did { client, op: Op::Authenticate { right } } => {
                self.login(*client)?.proof = Some(*right);
            }
            Event::Decided { client, verdict } => {
                // The router may not know yet that the client has gone.
                let Some(login) = self.0.get_mut(client) else { return Ok(()) };
                if matches!(verdict, Decision::Granted(_)) != (login.proof == Some(true))
                    && *verdict != Decision::Busy
                {
                    return Err(format!("the harness decided {verdict:?} for {client:?}"));
                }
                // A second answer to the same question counts for nothing, but a hook may have to be asked too, and not answer.
                if *verdict == Decision::Busy {
                    login.decision = Some(Decision::Busy);
                } else {
                    login.decision.get_or_insert(*verdict);
                }
            }
            Event::Saw { client, seen } => self.saw(*client, seen, facts)?,
            Event::Ended { client, .. } => drop(self.0.remove(client)),
            _ => {}
        }
        Ok(())
    }

    fn settled(&mut self, facts: &Facts) -> Verdict {
        let waits = |(client, login): &(&ClientId, &Login)| {
            login.decision.is_some() && !login.answered && !facts.is_leaving(**client)
        };
        match self.0.iter().find(waits) {
            None => Ok(()),
            Some((client, login)) => {
                Err(format!("{client:?} was never told that its login is {:?}", login.decision))
            }
        }
    }
}

impl Logins {
    fn login(&mut self, client: ClientId) -> Result<&mut Login, String> {
        self.0.get_mut(&client).ok_or_else(|| format!("{client:?} does not log in by ticket"))
    }

    fn saw(&mut self, client: ClientId, seen: &Seen, facts: &Facts) -> Verdict {
        let Some(login) = self.0.get_mut(&client) else {
            return match seen {
                // It is told nothing of all this.
                _ if facts.is_echo(client) => Ok(()),
                Seen::Challenge => Err(format!("{client:?} is challenged and has not said who it is")),
                Seen::Welcome(Person { authid, authrole, .. })
                    if !authid.starts_with("anonymous-") || authrole != "anonymous" =>
                {
                    Err(format!("{client:?} said nothing and is welcomed as {authid} ({authrole})"))
                }
                _ => Ok(()),
            };
        };
        match seen {
            Seen::Challenge if std::mem::replace(&mut login.challenged, true) => {
                Err(format!("{client:?} is challenged twice"))
            }
            Seen::Welcome(Person { authid: name, authrole, .. }) => {
                login.answered = true;
                match login.decision {
                    Some(Decision::Granted(role))
                        if *name == authid(client) && authrole == ROLES[usize::from(role)] =>
                    {
                        Ok(())
                    }
                    decision => Err(format!(
                        "{client:?} is welcomed as {name} ({authrole}); its login is {decision:?}"
                    )),
                }
            }
            Seen::Abort { reason } => {
                login.answered = true;
                let expected = match login.decision {
                    Some(Decision::Refused) => "wamp.error.authentication_denied",
                    Some(Decision::Busy) => "wamp.error.authentication_failed",
                    // It broke the rules as a session that was welcomed, or was sent away.
                    Some(Decision::Granted(_)) | None if facts.is_leaving(client) => return Ok(()),
                    Some(Decision::Granted(_)) | None => "no ABORT",
                };
                if reason != expected {
                    return Err(format!("{client:?} saw {reason} and should have seen {expected}"));
                }
                Ok(())
            }
            _ => Ok(()),
        }
    }
}
