// Cases of the advanced profile: calls, and the meta API: { feature: { case: check } }.

import assert from 'node:assert/strict';
import { Refusal, joinMany, refused, skip, subscribe } from './support.mjs';

/** A procedure that ends when the case says so. */
function hanging() {
  const parts = {};
  parts.started = new Promise((resolve) => { parts.start = resolve; });
  parts.goesOn = new Promise((resolve) => { parts.end = resolve; });
  parts.endpoint = async () => {
    parts.start();
    await parts.goesOn;
    return { args: ['too late'] };
  };
  return parts;
}

/** Calls what hangs, cancels it in this mode, and sees that nobody is the worse for it. */
async function cancelled(client, mode, name) {
  if (!client.cancels.includes(mode)) skip(mode ? `it does not cancel in mode ${mode}` : 'it does not cancel without a mode');
  const [callee, caller] = await joinMany(client, 2);
  const procedure = hanging();
  await callee.register(name, procedure.endpoint);
  const call = caller.start(name);
  await procedure.started;
  call.cancel(mode);
  await refused(call.answer, 'wamp.error.canceled');
  procedure.end();
  await callee.register(`${name}.alive`, () => ({ args: ['alive'] }));
  assert.deepEqual((await caller.call(`${name}.alive`)).args, ['alive']);
}

/** Four callees of one procedure, which say their places; another session that calls, and the registrations. */
async function shared(client, policy) {
  const [caller, ...callees] = await joinMany(client, 5);
  const name = `com.fanwire.js.shared.${policy}`;
  const registrations = [];
  for (const [place, callee] of callees.entries()) {
    registrations.push(await callee.register(name, () => ({ args: [place] }), { invoke: policy }));
  }
  const ask = async (times) => {
    const asked = [];
    for (let n = 0; n < times; n += 1) asked.push((await caller.call(name)).args[0]);
    return asked;
  };
  return { ask, registrations };
}

export const CASES = {
  call_canceling: {
    async skip_frees_the_caller_and_leaves_the_callee_alone(client) {
      await cancelled(client, 'skip', 'com.fanwire.js.skip');
    },

    async kill_of_a_callee_that_cannot_be_interrupted_is_skip(client) {
      await cancelled(client, 'kill', 'com.fanwire.js.kill');
    },

    async killnowait_of_a_callee_that_cannot_be_interrupted_is_skip(client) {
      await cancelled(client, 'killnowait', 'com.fanwire.js.killnowait');
    },

    async a_call_is_cancelled_without_a_mode(client) {
      await cancelled(client, undefined, 'com.fanwire.js.without');
    },
  },

  call_timeout: {
    async a_call_ends_when_its_time_is_over(client) {
      const [callee, caller] = await joinMany(client, 2);
      const procedure = hanging();
      await callee.register('com.fanwire.js.late', procedure.endpoint);
      await refused(caller.call('com.fanwire.js.late', [], {}, { timeout: 50 }), 'wamp.error.timeout');
      procedure.end();
    },

    async an_answer_in_time_is_the_answer(client) {
      const [callee, caller] = await joinMany(client, 2);
      await callee.register('com.fanwire.js.early', () => ({ args: ['in time'] }));
      assert.deepEqual((await caller.call('com.fanwire.js.early', [], {}, { timeout: 3_600_000 })).args, ['in time']);
    },
  },

  progressive_call_results: {
    async results_come_in_parts(client) {
      const [callee, ...callers] = await joinMany(client, 5);
      await callee.register('com.fanwire.js.parts', ([upTo], kwargs, { progress }) => {
        for (let n = 0; n < upTo; n += 1) progress([n], { square: n * n });
        return { args: [upTo] };
      });
      for (const caller of callers) {
        const parts = [];
        const result = await caller.call('com.fanwire.js.parts', [50], {}, {}, (part) => parts.push(part));
        assert.deepEqual(result.args, [50]);
        assert.deepEqual(parts, Array.from({ length: 50 }, (_, n) => ({ args: [n], kwargs: { square: n * n } })));
      }
    },

    async long_results_wait_for_their_caller(client) {
      const [callee, caller] = await joinMany(client, 2);
      const [count, text] = [1000, 'x'.repeat(8192)]; // 8 MiB: more than may wait for one session
      await callee.register('com.fanwire.js.long', (args, kwargs, { progress }) => {
        // All at once: meanwhile nobody reads, for it is this program that should.
        for (let n = 0; n < count; n += 1) progress([n, text]);
        return { args: [count] };
      });
      const parts = [];
      const add = ({ args: [n, part] }) => parts.push([n, part.length]);
      assert.deepEqual((await caller.call('com.fanwire.js.long', [], {}, {}, add)).args, [count]);
      assert.deepEqual(parts, Array.from({ length: count }, (_, n) => [n, text.length]));
    },

    async who_does_not_ask_for_parts_gets_one_result(client) {
      const [callee, caller] = await joinMany(client, 2);
      await callee.register('com.fanwire.js.whole', (args, kwargs, { progress }) => {
        progress?.(['a part']); // from a callee that does not know better
        return { args: ['the whole'] };
      });
      assert.deepEqual((await caller.call('com.fanwire.js.whole')).args, ['the whole']);
    },
  },

  caller_identification: {
    async the_caller_is_named_if_it_asks(client) {
      const [callee, caller] = await joinMany(client, 2);
      await callee.register('com.fanwire.js.who', (args, kwargs, { caller: id }) => ({ args: [id ? Number(id) : 'nobody'] }));
      assert.deepEqual((await caller.call('com.fanwire.js.who')).args, ['nobody']);
      assert.deepEqual((await caller.call('com.fanwire.js.who', [], {}, { disclose_me: true })).args, [Number(caller.id)]);
    },
  },

  shared_registration: {
    async roundrobin_asks_one_after_the_other(client) {
      const { ask, registrations } = await shared(client, 'roundrobin');
      assert.deepEqual(await ask(12), [0, 1, 2, 3, 0, 1, 2, 3, 0, 1, 2, 3]);
      await registrations[0].unregister();
      assert.deepEqual(new Set(await ask(6)), new Set([1, 2, 3]), 'who is left');
    },

    async first_and_last_ask_the_oldest_and_the_newest(client) {
      for (const [policy, one, other] of [['first', 0, 1], ['last', 3, 2]]) {
        const { ask, registrations } = await shared(client, policy);
        assert.deepEqual(await ask(4), [one, one, one, one], policy);
        await registrations[one].unregister();
        assert.deepEqual(await ask(4), [other, other, other, other], `${policy} after it has gone`);
      }
    },

    async random_asks_all_of_them(client) {
      const { ask } = await shared(client, 'random');
      const asked = new Set();
      for (let n = 0; n < 1000 && asked.size < 4; n += 1) (await ask(1)).forEach((place) => asked.add(place));
      assert.equal(asked.size, 4, `only ${[...asked]} were asked`);
    },

    async another_policy_than_the_first_ones_is_refused(client) {
      const [first, second, third] = await joinMany(client, 3);
      await first.register('com.fanwire.js.policy', () => ({}), { invoke: 'roundrobin' });
      for (const [session, wanted] of [[second, {}], [third, { invoke: 'random' }]]) {
        const refusal = session.register('com.fanwire.js.policy', () => ({}), wanted);
        // The second is Crossbar's: the specification names none for this.
        const reasons = ['procedure_already_exists', 'procedure_exists_with_different_invocation_policy'];
        await refused(refusal, ...reasons.map((reason) => `wamp.error.${reason}`));
      }
    },
  },

  extensions: {
    async a_procedure_can_be_taken_over(client) {
      if (!client.sendsAnyOption) skip('it does not send force_reregister');
      const [old, young] = await joinMany(client, 2);
      const lost = await old.register('com.fanwire.js.taken', () => ({ args: ['old'] }), { force_reregister: true });
      await young.register('com.fanwire.js.taken', () => ({ args: ['new'] }), { force_reregister: true });
      assert.deepEqual((await old.call('com.fanwire.js.taken')).args, ['new']);
      await lost.whenTaken; // who hears it is told
    },

    async nobody_works_on_more_than_it_wants(client) {
      if (!client.sendsAnyOption) skip('it does not send concurrency');
      const [callee, caller] = await joinMany(client, 2);
      const procedure = hanging();
      await callee.register('com.fanwire.js.concurrency', procedure.endpoint, { concurrency: 1 });
      const call = caller.call('com.fanwire.js.concurrency');
      await procedure.started;
      const reasons = ['wamp.error.no_available_callee', 'crossbar.error.max_concurrency_reached'];
      await refused(caller.call('com.fanwire.js.concurrency'), ...reasons);
      procedure.end();
      assert.deepEqual((await call).args, ['too late']);
    },

    async who_works_on_least_is_asked(client) {
      if (!client.sendsAnyOption) skip('it knows its own policies alone');
      const [caller, busy, idle] = await joinMany(client, 3);
      const procedure = hanging();
      await busy.register('com.fanwire.js.least', procedure.endpoint, { invoke: 'queue_least_loaded' });
      const call = caller.call('com.fanwire.js.least');
      await procedure.started;
      await idle.register('com.fanwire.js.least', () => ({ args: ['idle'] }), { invoke: 'queue_least_loaded' });
      for (let n = 0; n < 4; n += 1) assert.deepEqual((await caller.call('com.fanwire.js.least')).args, ['idle']);
      procedure.end();
      assert.deepEqual((await call).args, ['too late']);
    },
  },

  call_reroute: {
    async a_callee_that_announced_nothing_answers_for_itself(client) {
      const [caller, ...callees] = await joinMany(client, 3);
      for (const callee of callees) {
        await callee.register('com.fanwire.js.unavailable', () => {
          throw new Refusal('wamp.error.unavailable', ['too busy'], {});
        }, { invoke: 'roundrobin' });
      }
      const { args } = await refused(caller.call('com.fanwire.js.unavailable'), 'wamp.error.unavailable');
      assert.deepEqual(args, ['too busy']);
    },
  },

  session_meta_api: {
    async sessions_are_counted_listed_and_described(client) {
      const sessions = await joinMany(client, 5);
      const [count] = (await sessions[0].call('wamp.session.count')).args;
      assert.ok(count >= 5, `${count} sessions`);
      const [listed] = (await sessions[0].call('wamp.session.list')).args;
      for (const { id } of sessions) {
        assert.ok(listed.map(Number).includes(Number(id)), `${id} is listed`);
        const [details] = (await sessions[1].call('wamp.session.get', [id])).args;
        assert.deepEqual([Number(details.session), details.authrole], [Number(id), 'anonymous']);
      }
      await refused(sessions[0].call('wamp.session.get', [1]), 'wamp.error.no_such_session');
    },

    async a_killed_session_hears_why(client) {
      const [killer, victim] = await joinMany(client, 2);
      await killer.call('wamp.session.kill', [victim.id], { reason: 'com.example.out', message: 'bye' });
      const reason = await victim.whenClosed;
      if (client.tellsReason) assert.equal(reason, 'com.example.out');
    },

    async who_comes_and_goes_is_told(client) {
      const [observer] = await joinMany(client, 1);
      const joins = await subscribe(observer, 'wamp.session.on_join');
      const leaves = await subscribe(observer, 'wamp.session.on_leave');
      for (let n = 0; n < 3; n += 1) {
        const [member] = await joinMany(client, 1);
        const { args: [details] } = await joins.next();
        assert.deepEqual([Number(details.session), details.authid], [Number(member.id), member.authid]);
        await member.leave();
        const { args: [id, authid, authrole] } = await leaves.next();
        assert.deepEqual([Number(id), authid, authrole], [Number(member.id), member.authid, 'anonymous']);
      }
    },
  },

  subscription_meta_api: {
    async subscriptions_are_found_and_their_sessions_listed(client) {
      const [observer, member] = await joinMany(client, 2);
      const inbox = await subscribe(member, 'com.fanwire.js.meta');
      const { id } = inbox.subscription;
      const ask = async (name, ...args) => (await observer.call(`wamp.subscription.${name}`, args)).args[0];
      assert.equal(Number(await ask('lookup', 'com.fanwire.js.meta')), Number(id));
      assert.deepEqual((await ask('match', 'com.fanwire.js.meta')).map(Number), [Number(id)]);
      assert.ok((await ask('list')).exact.map(Number).includes(Number(id)));
      assert.deepEqual((await ask('list_subscribers', id)).map(Number), [Number(member.id)]);
      assert.equal(Number(await ask('count_subscribers', id)), 1);
      assert.equal((await ask('get', id)).uri, 'com.fanwire.js.meta');
      await refused(observer.call('wamp.subscription.get', [2 ** 53]), 'wamp.error.no_such_subscription');
    },
  },

  registration_meta_api: {
    async registrations_are_found_and_their_callees_listed(client) {
      const [observer, callee] = await joinMany(client, 2);
      const uri = 'com.fanwire.js.registered';
      await callee.register(uri, () => ({ args: ['here'] }));
      const ask = async (name, ...args) => (await observer.call(`wamp.registration.${name}`, args)).args[0];
      const id = await ask('lookup', uri);
      assert.equal(Number(await ask('match', uri)), Number(id));
      assert.ok((await ask('list')).exact.map(Number).includes(Number(id)));
      assert.deepEqual((await ask('list_callees', id)).map(Number), [Number(callee.id)]);
      assert.equal(Number(await ask('count_callees', id)), 1);
      assert.equal((await ask('get', id)).uri, uri);
      await refused(observer.call('wamp.registration.get', [2 ** 53]), 'wamp.error.no_such_registration');
    },
  },

  testament_meta_api: {
    async a_testament_is_published_when_its_session_ends(client) {
      const [heir, testator] = await joinMany(client, 2);
      const inbox = await subscribe(heir, 'com.fanwire.js.will');
      await testator.call('wamp.session.add_testament', ['com.fanwire.js.will', ['the last'], { a: 1.5 }]);
      await testator.leave();
      const { args, kwargs } = await inbox.next();
      assert.deepEqual([args, kwargs], [['the last'], { a: 1.5 }]);
    },
  },
};
