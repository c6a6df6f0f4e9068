//! What a client of WAMP version 1 can do: publish, subscribe and call, and shorten names.

use super::{Asked, Client, lists, take_one};
use crate::{
    center,
    history::{Keep, Lists, Op, Person, Wants},
    plan::{Act, Plan},
    rng::Rng,
    wamp1,
};

impl Client {
    pub(super) fn act_in_version_1(&mut self, act: Act, plan: &Plan, people: &[Person], rng: &mut Rng) {
        if !self.joined {
            return;
        }
        let name = rng.below(plan.topics) as u8;
        let padding = rng.pick(&plan.payload_bytes);
        let op = match act {
            Act::Subscribe => {
                let request = self.ask(Some(Asked::Subscribe(name)));
                Op::Subscribe { request, topic: name, get_retained: false }
            }
            Act::Unsubscribe => {
                let Some((_, topic)) = take_one(&mut self.subscriptions, rng) else { return };
                let topic = topic.unwrap_or(name);
                let subscription = center::subscription(topic);
                Op::Unsubscribe { request: self.ask(None), subscription, topic: Some(topic) }
            }
            Act::Publish => {
                let lists = rng.chance(plan.listed).then(|| sessions_of(lists(people, rng)));
                // Who names the excluded ones names all of them.
                let names_excluded = lists.as_ref().is_some_and(|lists| lists.exclude.is_some());
                Op::Publish {
                    request: self.ask(None),
                    tag: self.tag(name),
                    acknowledge: false,
                    exclude_me: !names_excluded && !rng.chance(plan.include_me),
                    disclose: false,
                    lists: lists.map(Box::new),
                    receipt: false,
                    key: None,
                    keep: Keep::No,
                }
            }
            Act::Call => {
                let procedure = rng.below(plan.procedures) as u8;
                let request = self.ask(Some(Asked::Call { more: None }));
                Op::Call { request, tag: self.tag(procedure), disclose: false, wants: Wants::default() }
            }
            Act::Register => Op::Prefix {
                prefix: rng.below(wamp1::PREFIX_COUNT),
                beginning: rng.below(wamp1::BEGINNING_COUNT),
            },
            Act::Unregister | Act::Cancel | Act::Answer => return,
            // There is no farewell.
            Act::Goodbye => {
                self.wants_out = true;
                return;
            }
            Act::Violate => {
                self.joined = false;
                Op::Violate
            }
        };
        self.pipeline.push_back((op, padding));
    }
}

/// Version 1 knows sessions alone.
fn sessions_of(lists: Lists) -> Lists {
    Lists { exclude: lists.exclude, eligible: lists.eligible, ..Lists::default() }
}
