//! The control thread's part: users and the hook answer what shards ask, late, in any order, twice or never.

use super::{Verdict, World, shard_id};
use crate::{
    echo::ROOM_REQUEST,
    history::{Answerer, ClientId, Decision, Event, Op, Ruling, Tag},
    messages, speech,
};
use fanwire_codec::payload::OwnedPayload;
use fanwire_core::{
    Instant,
    ids::RoleId,
    login::Proof,
    question::{Denial, Grant, Question, Subject, Told},
};
use std::time::Duration;

/// A question on its way.
pub struct Asked {
    at: usize,
    question: Question,
    /// Whose, and which SUBSCRIBE or PUBLISH it is about.
    client: ClientId,
    request: Option<u64>,
    since: Instant,
}

/// The request that a hook may be asked about.
pub fn request_of(op: &Op) -> Option<u64> {
    match op {
        Op::Subscribe { request, .. } | Op::Publish { request, .. } | Op::Say { request, .. } => {
            Some(*request)
        }
        _ => None,
    }
}

/// What a call says that a hook has to answer.
fn called(question: &Question) -> Option<Tag> {
    match &question.subject {
        Subject::Rpc { payload, .. } => payload.view().args.and_then(speech::read_tag),
        _ => None,
    }
}

impl World {
    /// What a shard wants to have decided. `from`: whose message it has just been given.
    pub(super) fn take_questions(&mut self, at: usize, from: Option<(ClientId, Option<u64>)>) -> Verdict {
        let questions: Vec<Question> = self.homes[at].shard.questions().collect();
        for question in questions {
            let is_for_room = matches!(question.subject, Subject::Subscribe { .. });
            if let Subject::Disconnect { who } = &question.subject {
                self.tell(Event::Told { session: who.session.get() })?;
                continue;
            }
            if let Subject::News { number, news } = question.subject {
                self.hear_news(question.realm, number, news)?;
                continue;
            }
            if let Subject::Rpc { who, payload, .. } = &question.subject {
                let session = who.as_ref().map(|who| who.session.get());
                let tag = payload.view().args.and_then(speech::read_tag);
                let tag =
                    tag.ok_or("the arguments of a call were lost or changed on their way to the hook")?;
                self.tell(Event::AskedToAnswer { tag, session })?;
                let asked = Asked { at, question, client: tag.from, request: None, since: self.now };
                self.questions.push(asked);
                continue;
            }
            if let Subject::Message { bytes, .. } = &question.subject {
                let (client, request, _) = messages::read(bytes).ok_or("a message was changed")?;
                let answerer = question.queue.map_or(Answerer::Hook, Answerer::Queue);
                if question.queue.is_some() == question.hook.is_some()
                    || from != Some((client, Some(request)))
                {
                    return Err(format!("{client:?} said something, and {question:?} is asked"));
                }
                self.tell(Event::Asked { client, request, answerer })?;
            }
            let (client, request) = from.ok_or_else(|| {
                format!("shard {} asks about {:?}, and nobody said anything", shard_id(at), question.subject)
            })?;
            let is_for_room = is_for_room && self.clients[client.0 as usize].room.is_some();
            let (since, request) = (self.now, if is_for_room { Some(ROOM_REQUEST) } else { request });
            self.questions.push(Asked { at, question, client, request, since });
        }
        Ok(())
    }

    /// One of the questions is answered, whether or not anybody still waits for it; now and then twice.
    pub(super) fn decide(&mut self) -> Verdict {
        if self.questions.is_empty() {
            return Ok(());
        }
        let index = self.rng.below(self.questions.len());
        let again = self.rng.chance(10);
        let Asked { client, request, ref question, .. } = self.questions[index];
        let (is_wanted, is_room_asked) = (question.is_wanted(), self.asks_for_room(index));
        if let Subject::Rpc { .. } = &self.questions[index].question.subject {
            return self.answer_call(index, again);
        }
        if (request.is_some() || is_room_asked) && self.rng.chance(self.plan.unanswered) {
            self.questions.swap_remove(index);
            return if is_wanted { self.is_never_answered(client, request) } else { Ok(()) };
        }
        let outcome = match &self.questions[index].question.subject {
            Subject::Login { proof: Proof::Ticket(ticket), .. } => {
                let is_right = ticket.expose() == speech::RIGHT_TICKET;
                self.verify(index, is_right)?
            }
            Subject::Connect { .. } if is_room_asked => self.greet(index)?,
            Subject::Connect { .. } => Ok(Grant::default()),
            _ => self.rule(index)?,
        };
        self.moves += 1;
        let granted = outcome.as_ref().ok().map(|grant| grant.role);
        let ruling = request.map(|_| match &outcome {
            Ok(_) => Ruling::Allowed,
            Err(Denial::Refused) => Ruling::Denied,
            Err(_) => Ruling::Failed,
        });
        let Asked { at, question, .. } = &self.questions[index];
        let (at, verdict) = (*at, question.verdict(outcome));
        if !again {
            self.questions.swap_remove(index);
        }
        let refused = self.refused_for(client);
        self.homes[at].shard.handle_verdict(self.now, verdict);
        // Whose proof was good may be asked about once more.
        self.take_questions(at, Some((client, None)))?;
        match ruling {
            _ if !is_wanted => Ok(()),
            _ if is_room_asked => self.room_is_decided(client, request, granted),
            Some(ruling) => self.is_ruled(client, ruling, refused),
            None => Ok(()),
        }
    }

    /// A call that a hook answers.
    fn answer_call(&mut self, index: usize, again: bool) -> Verdict {
        let Asked { at, ref question, since, .. } = self.questions[index];
        let is_wanted = question.is_wanted();
        let tag = called(question).expect("it was read before");
        let is_lost = self.rng.chance(self.plan.unanswered);
        let ruling = if is_lost || self.rng.chance(self.plan.failed) {
            Ruling::Failed
        } else if self.rng.chance(self.plan.denied) {
            Ruling::Denied
        } else {
            Ruling::Allowed
        };
        if is_wanted {
            self.tell(Event::AnsweredCall { tag, ruling })?;
        }
        if is_lost {
            let deadline = since + self.plan.config.limits.question_max;
            self.unanswered_until = self.unanswered_until.max(Some(deadline));
            self.questions.swap_remove(index);
            return Ok(());
        }
        let words = speech::tagged(&tag, 0);
        let outcome = match ruling {
            Ruling::Allowed => {
                let answer =
                    fanwire_core::question::Answer::Payload(OwnedPayload::from_plain(words.as_bytes()));
                Ok(Grant { answer: Some(Box::new(answer)), ..Grant::default() })
            }
            Ruling::Denied => {
                let error = Some(speech::CALLEE_ERROR.into());
                Err(Denial::Told(Box::new(Told { error, message: Some(words.into()) })))
            }
            Ruling::Failed | Ruling::Full => Err(Denial::Unavailable),
        };
        let verdict = self.questions[index].question.verdict(outcome);
        if !again {
            self.questions.swap_remove(index);
        }
        self.moves += 1;
        self.homes[at].shard.handle_verdict(self.now, verdict);
        self.take_questions(at, None)
    }

    /// Whether it is about an echo client that comes in.
    fn asks_for_room(&self, index: usize) -> bool {
        let Asked { client, question, .. } = &self.questions[index];
        let is_entrance = matches!(question.subject, Subject::Connect { .. } | Subject::Subscribe { .. });
        is_entrance && self.clients[client.0 as usize].room.is_some()
    }

    /// Whether the hook's word on this request is awaited.
    pub(super) fn is_asked_about(&self, client: ClientId, request: u64) -> bool {
        let is_it = |asked: &Asked| asked.client == client && asked.request == Some(request);
        self.questions.iter().any(|asked| is_it(asked) && asked.question.is_wanted())
    }

    /// What becomes of an echo client by the verdict on its session, or on its room.
    fn room_is_decided(
        &mut self,
        client: ClientId,
        request: Option<u64>,
        granted: Option<Option<RoleId>>,
    ) -> Verdict {
        // The router may not know yet that it has gone.
        if !self.live.contains(&client) {
            return Ok(());
        }
        match (granted, request) {
            (Some(_), Some(_)) => self.is_in_room(client),
            (Some(role), None) => self.is_let_in(client, role.map_or(0, |role| role.index() as u8)),
            (None, _) => {
                self.clients[client.0 as usize].refused = true;
                Ok(())
            }
        }
    }

    /// Nobody will answer: for the judges it is as if nobody could be asked.
    fn is_never_answered(&mut self, client: ClientId, request: Option<u64>) -> Verdict {
        let state = &mut self.clients[client.0 as usize];
        state.refused |= state.room.is_some() && request.is_none_or(|request| request == ROOM_REQUEST);
        match request {
            Some(request) => {
                self.tell(Event::Ruled { client, request, ruling: Ruling::Failed })?;
                self.is_ruled(client, Ruling::Failed, 0)
            }
            None => self.tell(Event::Decided { client, verdict: Decision::Busy }),
        }
    }

    /// The shard is about to be told the time: what waits for too long is answered as if nobody could be asked.
    pub(super) fn questions_are_given_up(&mut self, at: usize) -> Verdict {
        let question_max = self.plan.config.limits.question_max;
        let is_late = |asked: &&Asked| {
            asked.at == at && asked.question.is_wanted() && asked.since + question_max <= self.now
        };
        let late = self.questions.iter().filter(is_late);
        let late: Vec<_> = late.map(|asked| (asked.client, asked.request, called(&asked.question))).collect();
        for (client, request, tag) in late {
            if let Some(tag) = tag {
                self.tell(Event::AnsweredCall { tag, ruling: Ruling::Failed })?;
                continue;
            }
            self.is_never_answered(client, request)?;
        }
        Ok(())
    }

    /// Whether an echo client may come in, and as what.
    fn greet(&mut self, index: usize) -> Result<Result<Grant, Denial>, String> {
        let Asked { question, client, .. } = &self.questions[index];
        let (client, is_wanted) = (*client, question.is_wanted());
        let role = if self.rng.chance(self.plan.limited) { 1 + self.rng.below(2) as u8 } else { 0 };
        let verdict = if self.rng.chance(self.plan.failed) {
            Decision::Busy
        } else if self.rng.chance(self.plan.denied) {
            Decision::Refused
        } else {
            Decision::Granted(role)
        };
        if is_wanted {
            self.tell(Event::Decided { client, verdict })?;
        }
        Ok(match verdict {
            Decision::Granted(role) => Ok(Grant { role: Some(RoleId::new(role.into())), ..Grant::default() }),
            Decision::Refused => Err(Denial::Refused),
            Decision::Busy => Err(Denial::Unavailable),
        })
    }

    fn verify(&mut self, index: usize, is_right: bool) -> Result<Result<Grant, Denial>, String> {
        let Asked { question, client, .. } = &self.questions[index];
        let (client, is_wanted) = (*client, question.is_wanted());
        let role = self.clients[client.0 as usize].role;
        let verdict = if self.rng.chance(self.plan.busy) {
            Decision::Busy
        } else if is_right {
            Decision::Granted(role)
        } else {
            Decision::Refused
        };
        if is_wanted {
            self.tell(Event::Decided { client, verdict })?;
        }
        // At the message center the hook alone knows who it is.
        let authid = self.clients[client.0 as usize].is_centered().then(|| speech::authid(client).into());
        Ok(match verdict {
            Decision::Granted(role) => Ok(Grant { authid, ..Grant::of_user(RoleId::new(role.into())) }),
            Decision::Refused => Err(Denial::Refused),
            Decision::Busy => Err(Denial::Busy),
        })
    }

    fn rule(&mut self, index: usize) -> Result<Result<Grant, Denial>, String> {
        let Asked { question, client, request, .. } = &self.questions[index];
        let (client, is_wanted) = (*client, question.is_wanted());
        let request = request.ok_or("a hook is asked about no request")?;
        let is_for_queue = question.queue.is_some();
        let is_said = matches!(question.subject, Subject::Message { .. });
        let answer = (is_said && !is_for_queue).then(|| Box::new(messages::answer(request)));
        let ruling = if self.rng.chance(self.plan.failed) {
            Ruling::Failed
        } else if self.rng.chance(self.plan.denied) {
            if is_for_queue { Ruling::Full } else { Ruling::Denied }
        } else {
            Ruling::Allowed
        };
        if is_wanted {
            self.tell(Event::Ruled { client, request, ruling })?;
        }
        Ok(match ruling {
            Ruling::Allowed => {
                let answer =
                    answer.map(|payload| Box::new(fanwire_core::question::Answer::Payload(*payload)));
                Ok(Grant { answer, ..Grant::default() })
            }
            Ruling::Denied => Err(Denial::Refused),
            Ruling::Full => Err(Denial::Busy),
            Ruling::Failed => Err(Denial::Unavailable),
        })
    }

    /// At rest: the time of what was never answered passes.
    pub(super) fn give_up_questions(&mut self) -> Verdict {
        let waits = |client: &ClientId| {
            let state = &self.clients[client.0 as usize];
            state.paused && !state.deaf
        };
        let lost = self.plan.unanswered > 0 && self.questions.is_empty();
        if !lost || !self.live.iter().any(waits) && self.unanswered_until.is_none() {
            return Ok(());
        }
        self.now = self.now + self.plan.config.limits.question_max / 16 + Duration::from_micros(1);
        for at in 0..self.homes.len() {
            self.fire(at)?;
            self.obey()?;
        }
        self.unanswered_until = self.unanswered_until.filter(|until| *until > self.now);
        Ok(())
    }

    /// Each session that has ended was told of.
    pub(super) fn all_ends_are_told(&self) -> Verdict {
        if !self.plan.hooked {
            return Ok(());
        }
        let opened: u64 = self.homes.iter().map(|home| home.shard.counters().sessions_opened).sum();
        let told = self.log.iter().filter(|event| matches!(event, Event::Told { .. })).count() as u64;
        if told == opened {
            Ok(())
        } else {
            Err(format!("{opened} sessions have ended and {told} were told of"))
        }
    }
}
