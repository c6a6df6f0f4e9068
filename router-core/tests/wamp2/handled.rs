//! Sessions whose endpoint has a handler: what it is asked and told, and what is done with its answers. The test is the handler.

use fanwire_codec::ws;
use fanwire_core::api::{ApiAnswer, ApiRequest, Ask, Order};
use fanwire_core::handled::{Beginning, HandlerId, Happening};
use fanwire_core::hooks::{HookEvent, HookId, HookRule, HookScope};
use fanwire_core::ids::ClientId;
use fanwire_core::question::{Answer, Denial, Grant, Question, Subject};
use fanwire_core::uri::MatchPolicy;
use fanwire_core::{Effect, Encoding, Flow, Limits, Outlet};

use crate::support::{Client, Router};

/// Closes over which it fails, and one that keeps them, as in the support's configuration.
const CLOSES: HandlerId = HandlerId(0);
const KEEPS: HandlerId = HandlerId(1);

fn enter(router: &mut Router, shard: usize, handler: HandlerId) -> (Client, Flow) {
    let outlet = Outlet(router.next());
    let now = router.now;
    let core = &mut router.shards[shard];
    core.attach(now, outlet);
    core.open(now, outlet, Encoding::HANDLED);
    let beginning = Beginning { target: "/path?x=1".into(), ..Beginning::default() };
    let flow = core.enter_handled(now, outlet, handler, beginning);
    (Client(shard, outlet), flow)
}

/// One whose beginning was handled.
fn entered(router: &mut Router, shard: usize, handler: HandlerId) -> (Client, ClientId) {
    let (client, flow) = enter(router, shard, handler);
    assert_eq!(flow, Flow::Pause);
    let (question, id) = asked(router, shard);
    answer(router, shard, &question, None);
    (client, id)
}

/// What the handler is asked, or told, and of which client.
fn asked(router: &mut Router, shard: usize) -> (Question, ClientId) {
    let question = router.question(shard);
    let Subject::Handled { client, .. } = question.subject else { panic!("{question:?}") };
    (question, client)
}

fn happening(question: &Question) -> &Happening {
    let Subject::Handled { happening, .. } = &question.subject else { panic!("{question:?}") };
    happening
}

fn answer(router: &mut Router, shard: usize, question: &Question, order: Option<Order>) {
    let answer = order.map(|order| Box::new(Answer::Order(order)));
    let grant = Grant { answer, ..Grant::default() };
    router.shards[shard].handle_verdict(router.now, question.verdict(Ok(grant)));
}

fn order(router: &mut Router, shard: usize, client: ClientId, order: Order) -> bool {
    let (sender, receiver) = std::sync::mpsc::channel();
    let reply = Box::new(move |answer| sender.send(answer).expect("it is listened to"));
    let realm = router.shards[shard].config().access.realm("realm1").expect("there is one");
    let ask = Ask::Order { client, realm, order };
    router.shards[shard].retry_parked(router.now);
    router.shards[shard].handle_api(router.now, ApiRequest { ask, reply }, &|_| None).expect("it is ready");
    let ApiAnswer::Ordered(outcome) = receiver.try_recv().expect("at once") else { panic!("another answer") };
    outcome.is_ok()
}

fn text(text: &str) -> Order {
    Order::Send { kind: ws::Kind::Text, bytes: text.as_bytes().into() }
}

#[test]
fn each_thing_that_happens_is_asked_and_its_answer_carried_out() {
    let mut router = Router::new(2);
    let (client, flow) = enter(&mut router, 0, CLOSES);
    assert_eq!(flow, Flow::Pause, "it is not read before its beginning is handled");
    let (question, id) = asked(&mut router, 0);
    assert_eq!(question.handler, Some(CLOSES));
    assert!(
        matches!(happening(&question), Happening::Begins(how) if *how.target == *"/path?x=1"),
        "{question:?}"
    );
    answer(&mut router, 0, &question, Some(text("welcome")));
    assert_eq!(router.hear_one(client), "welcome");
    assert_eq!(router.effects.last(), Some(&(0, Effect::Resume(client.1))));
    assert_eq!(router.say(client, "join"), Flow::Pause);
    let (question, same) = asked(&mut router, 0);
    assert_eq!(same, id);
    assert!(
        matches!(happening(&question), Happening::Says { bytes, .. } if **bytes == *b"join"),
        "{question:?}"
    );
    let orders = vec![text("one"), Order::Subscribe(vec!["room".into()]), text("two")];
    answer(&mut router, 0, &question, Some(Order::All(orders)));
    assert_eq!(router.hear(client), ["one", "two"]);
    let wamp = router.join(1);
    router.say(wamp, r#"[16,1,{},"room",["plain"]]"#);
    assert_eq!(router.hear_one(client), "plain");
    assert!(order(&mut router, 0, id, Order::Unsubscribe(vec!["room".into(), "other".into()])));
    router.say(wamp, r#"[16,2,{},"room",["unheard"]]"#);
    assert!(router.hear(client).is_empty());
    assert_eq!(router.shards[0].counters().handled.messages_received, 1);
}

#[test]
fn what_backends_say_of_it_and_its_end_are_told() {
    let mut router = Router::new(1);
    let (client, id) = entered(&mut router, 0, CLOSES);
    assert!(order(&mut router, 0, id, Order::SetContext(vec![("uid".into(), "7".into())])));
    let (question, _) = asked(&mut router, 0);
    assert!(
        matches!(happening(&question), Happening::Told(values) if values[0].1 == "7".into()),
        "{question:?}"
    );
    assert!(!order(&mut router, 0, id, Order::SetContext(vec![("x".into(), "x".repeat(1_000).into())])));
    // Nobody waits for an answer to that.
    assert_eq!(router.say(client, "5"), Flow::Pause);
    let (question, _) = asked(&mut router, 0);
    router.vanish(client);
    assert!(!question.is_wanted());
    let (end, same) = asked(&mut router, 0);
    assert!(matches!(happening(&end), Happening::Ends) && same == id, "{end:?}");
    answer(&mut router, 0, &question, Some(text("too late")));
    assert_eq!(router.shards[0].counters().handled.sessions, 0);
}

#[test]
fn a_handler_that_fails_ends_the_connection_or_not() {
    for (handler, denial, heard) in [
        (CLOSES, Denial::Failed, Some("close 1011")),
        (CLOSES, Denial::Busy, Some("close 1013")),
        (CLOSES, Denial::Refused, Some("close 1008")),
        (KEEPS, Denial::Refused, Some("close 1008")),
        (KEEPS, Denial::Busy, Some("close 1013")),
        (KEEPS, Denial::Failed, None),
        (KEEPS, Denial::Unavailable, None),
    ] {
        let mut router = Router::new(1);
        let (client, _) = entered(&mut router, 0, handler);
        assert_eq!(router.say(client, "5"), Flow::Pause);
        let (question, _) = asked(&mut router, 0);
        router.shards[0].handle_verdict(router.now, question.verdict(Err(denial.clone())));
        assert_eq!(router.hear(client).first().map(String::as_str), heard, "{denial:?}");
        if heard.is_none() {
            assert_eq!(router.say(client, "6"), Flow::Pause, "it goes on");
        }
    }
}

#[test]
fn nobody_comes_in_whose_beginning_failed() {
    for handler in [CLOSES, KEEPS] {
        for denial in [Denial::Failed, Denial::Unavailable] {
            let mut router = Router::new(1);
            let (client, _) = enter(&mut router, 0, handler);
            let (question, _) = asked(&mut router, 0);
            router.shards[0].handle_verdict(router.now, question.verdict(Err(denial)));
            assert_eq!(router.hear_one(client), "close 1011");
        }
    }
}

#[test]
fn nothing_follows_a_close_and_what_cannot_be_done_ends_it() {
    let mut router = Router::new(1);
    let (client, _) = entered(&mut router, 0, CLOSES);
    router.say(client, "5");
    let (question, _) = asked(&mut router, 0);
    let orders = vec![text("one"), Order::Close { code: 1000, words: "".into() }, text("two")];
    answer(&mut router, 0, &question, Some(Order::All(orders)));
    assert_eq!(router.hear(client), ["one", "close 1000"]);
    router.shards[0].questions().for_each(drop);
    let (client, _) = entered(&mut router, 0, CLOSES);
    router.say(client, "5");
    let (question, _) = asked(&mut router, 0);
    answer(&mut router, 0, &question, Some(Order::Subscribe(vec!["a b".into()])));
    assert_eq!(router.hear_one(client), "close 1011");
}

#[test]
fn who_nobody_answers_is_not_kept_waiting_forever() {
    let mut router = Router::new(1);
    let (client, _) = entered(&mut router, 0, CLOSES);
    router.say(client, "5");
    router.question(0);
    router.now = router.now + Limits::default().question_max;
    router.shards[0].handle_timeout(router.now);
    assert_eq!(router.hear_one(client), "close 1011");
}

#[test]
fn a_hook_for_connects_decides_first() {
    let rule = HookRule {
        hook: HookId::new(0),
        events: vec![HookEvent::Connect],
        realms: vec!["realm1".to_owned()],
        uri: String::new(),
        match_policy: MatchPolicy::Prefix,
        payload: false,
        scope: HookScope::default(),
    };
    for (outcome, heard) in [(Ok(Grant::default()), None), (Err(Denial::Refused), Some("close 1008"))] {
        let mut router = Router::hooked(1, Limits::default(), std::slice::from_ref(&rule));
        let (client, flow) = enter(&mut router, 0, CLOSES);
        assert_eq!(flow, Flow::Pause);
        let question = router.question(0);
        assert!(question.handler.is_none() && matches!(question.subject, Subject::Connect { .. }));
        let is_in = outcome.is_ok();
        router.shards[0].handle_verdict(router.now, question.verdict(outcome));
        assert_eq!(router.shards[0].has_questions(), is_in, "its handler hears of it only then");
        assert_eq!(router.hear(client).first().map(String::as_str), heard);
    }
}
