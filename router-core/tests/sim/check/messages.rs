//! Messages to queues and hooks: each becomes exactly one question or one refusal, and its client is told the verdict on it,
//! or what the hook says.
//!
//! | the message | becomes |
//! |---|---|
//! | a queue takes it | a question to that queue |
//! | else there is a hook | a question to the hook |
//! | else | an unknown `op`, error 3 |
//! | its client has not come in | error 1, and no question |
//!
//! That there is one answer to each is `replies`'.

use super::{Checker, Facts, Verdict};
use crate::{
    history::{Answerer, ClientId, Event, Op, Ruling, Say, Seen},
    messages::Queues,
};
use std::collections::BTreeMap;

pub struct Messages {
    queues: Queues,
    said: BTreeMap<(ClientId, u64), Said>,
}

struct Said {
    say: Say,
    /// Its client knew that it was in.
    was_in: bool,
    asked: Option<Answerer>,
    ruling: Option<Ruling>,
}

impl Messages {
    pub fn new(queues: Queues) -> Self {
        Self { queues, said: BTreeMap::new() }
    }
}

impl Checker for Messages {
    fn observe(&mut self, event: &Event, facts: &Facts) -> Verdict {
        match event {
            Event::Did { client, op: Op::Say { request, say } } => {
                let was_in = facts.person(*client).is_some();
                let said = Said { say: *say, was_in, asked: None, ruling: None };
                self.said.insert((*client, *request), said);
            }
            Event::Asked { client, request, answerer } => {
                let expected = self.answerer(*client, *request, facts)?;
                let said = self.said.get_mut(&(*client, *request)).ok_or("a message that nobody said")?;
                if said.asked.replace(*answerer).is_some() {
                    return Err(format!("two questions are asked about message {request} of {client:?}"));
                }
                if expected != Some(*answerer) {
                    return Err(format!(
                        "message {request} of {client:?} went to {answerer:?}, and should to {expected:?}"
                    ));
                }
            }
            Event::Ruled { client, request, ruling } => {
                if let Some(said) = self.said.get_mut(&(*client, *request)) {
                    said.ruling.get_or_insert(*ruling);
                }
            }
            Event::Saw { client, seen: Seen::Answered { request, answer } } => {
                return self.is_the_answer(*client, *request, *answer, facts);
            }
            _ => {}
        }
        Ok(())
    }
}

impl Messages {
    /// Who is to be asked about it.
    fn answerer(&self, client: ClientId, request: u64, facts: &Facts) -> Result<Option<Answerer>, String> {
        let said = self.said.get(&(client, request)).ok_or("a message that nobody said")?;
        let hook = facts.hooked.then_some(Answerer::Hook);
        Ok(self.queues.of(said.say).map(Answerer::Queue).or(hook))
    }

    fn is_the_answer(
        &self,
        client: ClientId,
        request: u64,
        answer: Result<Option<u64>, u16>,
        facts: &Facts,
    ) -> Verdict {
        let answerer = self.answerer(client, request, facts)?;
        let said = &self.said[&(client, request)];
        let is_right = match (said.asked, said.ruling) {
            (None, _) if answerer.is_none() => answer == Err(3),
            (None, _) => answer == Err(1) && !said.was_in,
            (Some(_), None) => false,
            (Some(Answerer::Hook), Some(Ruling::Allowed)) => answer == Ok(Some(request)),
            (Some(Answerer::Queue(_)), Some(Ruling::Allowed)) => answer == Ok(None),
            (Some(_), Some(Ruling::Denied)) => answer == Err(8),
            (Some(_), Some(Ruling::Failed)) => answer == Err(6),
            (Some(_), Some(Ruling::Full)) => answer == Err(7),
        };
        if is_right {
            return Ok(());
        }
        Err(format!(
            "message {request} of {client:?} was for {answerer:?}, {:?} was asked and said {:?}: it was answered {answer:?}",
            said.asked, said.ruling
        ))
    }
}
