// Cases of what is told of sessions, subscriptions and registrations, of ending them, and of reflection: { feature: { case: check } }.

import assert from 'node:assert/strict';
import { SILENCE_MS, joinMany, pause, skip, subscribe } from './support.mjs';

/** Waits until the router has ended these sessions. */
const gone = (sessions) => Promise.all(sessions.map(({ whenClosed }) => whenClosed));

/** A definition is told, described and listed, until it is taken back. */
async function definedAndTakenBack(client, kind) {
  const [author, reader] = await joinMany(client, 2);
  const told = await subscribe(reader, 'wamp.reflect.on_define');
  const taken = await subscribe(reader, 'wamp.reflect.on_undefine');
  const uri = `com.fanwire.js.defined.${kind}`;
  const definition = { args: ['integer', { unit: 'm' }], description: 'adds ä' };
  const ask = async (name, ...args) => (await reader.call(`wamp.reflection.${kind}.${name}`, args)).args[0];
  await author.call('wamp.reflect.define', [uri, definition], { type: kind });
  assert.deepEqual((await told.next()).args, [uri, kind, definition]);
  const described = await ask('describe', uri);
  assert.deepEqual([described.uri, described.type, described.definition], [uri, kind, definition]);
  assert.ok((await ask('list')).includes(uri), 'it is listed');
  await author.call('wamp.reflect.define', [uri, {}], { type: kind });
  assert.deepEqual((await taken.next()).args, [uri, kind]);
  assert.equal(await ask('describe', uri) ?? null, null);
  assert.ok(!(await ask('list')).includes(uri), 'it is listed no more');
}

export const CASES = {
  session_meta_api: {
    async sessions_are_killed_by_authid(client) {
      const [killer, victim] = await joinMany(client, 2);
      const { args: [killed] } = await killer.call('wamp.session.kill_by_authid', [victim.authid]);
      assert.deepEqual(killed.map(Number), [Number(victim.id)]);
      await gone([victim]);
    },

    async sessions_are_killed_by_authrole(client) {
      const [killer, ...victims] = await joinMany(client, 4);
      assert.deepEqual((await killer.call('wamp.session.kill_by_authrole', ['nobody'])).args, [0]);
      assert.deepEqual((await killer.call('wamp.session.kill_by_authrole', ['anonymous'])).args, [3]);
      await gone(victims);
    },

    async all_are_killed_but_the_caller(client) {
      const [killer, ...victims] = await joinMany(client, 4);
      assert.deepEqual((await killer.call('wamp.session.kill_all')).args, [3]);
      await gone(victims);
      assert.deepEqual((await killer.call('wamp.session.list')).args[0].map(Number), [Number(killer.id)]);
    },
  },

  testament_meta_api: {
    async testaments_are_taken_back_by_scope(client) {
      const [heir] = await joinMany(client, 1);
      const inbox = await subscribe(heir, 'com.fanwire.js.will');
      for (const [flushed, left] of [['detached', 'destroyed'], ['destroyed', 'detached']]) {
        const [testator] = await joinMany(client, 1);
        for (const scope of ['destroyed', 'detached']) {
          await testator.call('wamp.session.add_testament', ['com.fanwire.js.will', [scope], {}], { scope });
        }
        await testator.call('wamp.session.flush_testaments', [], { scope: flushed });
        await testator.leave();
        assert.deepEqual((await inbox.next()).args, [left]);
      }
      await pause(SILENCE_MS);
      assert.equal(inbox.events.length, 0, 'testaments that were taken back');
    },
  },

  registration_meta_api: {
    async registrations_are_told_and_described(client) {
      const [observer, callee] = await joinMany(client, 2);
      const names = ['on_create', 'on_register', 'on_unregister', 'on_delete'];
      const told = {};
      for (const name of names) told[name] = await subscribe(observer, `wamp.registration.${name}`);
      const uri = 'com.fanwire.js.told';
      const registration = await callee.register(uri, () => ({ args: ['here'] }));
      const { args: [creator, details] } = await told.on_create.next();
      const { id, match, invoke } = details;
      assert.deepEqual([Number(creator), details.uri, match, invoke], [Number(callee.id), uri, 'exact', 'single']);
      const both = [Number(callee.id), Number(id)];
      assert.deepEqual((await told.on_register.next()).args.map(Number), both);
      assert.deepEqual((await observer.call('wamp.registration.get', [id])).args, [details]);
      await registration.unregister();
      assert.deepEqual((await told.on_unregister.next()).args.map(Number), both);
      assert.deepEqual((await told.on_delete.next()).args.map(Number), both);
    },
  },

  subscription_meta_api: {
    async subscriptions_are_told_and_described(client) {
      const [observer, member] = await joinMany(client, 2);
      const told = {};
      for (const name of ['on_create', 'on_subscribe', 'on_unsubscribe', 'on_delete']) {
        told[name] = await subscribe(observer, `wamp.subscription.${name}`);
      }
      const { subscription } = await subscribe(member, 'com.fanwire.js.told');
      const { args: [creator, details] } = await told.on_create.next();
      const both = [Number(member.id), Number(subscription.id)];
      assert.deepEqual([Number(creator), Number(details.id), details.uri, details.match], [...both, 'com.fanwire.js.told', 'exact']);
      assert.deepEqual((await told.on_subscribe.next()).args.map(Number), both);
      await subscription.unsubscribe();
      assert.deepEqual((await told.on_unsubscribe.next()).args.map(Number), both);
      assert.deepEqual((await told.on_delete.next()).args.map(Number), both);
    },
  },

  subscription_revocation: {
    async who_loses_a_subscription_gets_no_more_events(client) {
      const [publisher, member, other] = await joinMany(client, 3);
      const [inbox, kept] = await Promise.all([member, other].map((session) => subscribe(session, 'com.fanwire.js.revoked')));
      await publisher.publish('com.fanwire.js.revoked', [1]);
      await inbox.next();
      const { id } = inbox.subscription;
      await publisher.call('wamp.subscription.remove_subscriber', [id, member.id, 'com.fanwire.moved']);
      await publisher.publish('com.fanwire.js.revoked', [2]);
      assert.deepEqual((await kept.take(2)).map(({ args }) => args[0]), [1, 2]);
      await pause(SILENCE_MS);
      assert.equal(inbox.events.length, 0, 'events after the revocation');
      await member.call('wamp.session.count');
    },

    async who_loses_a_subscription_is_told_why(client) {
      if (!client.hearsRevocations) skip('it does not announce subscription_revocation');
      const [observer, member] = await joinMany(client, 2);
      const { subscription } = await subscribe(member, 'com.fanwire.js.revoked.told');
      await observer.call('wamp.subscription.remove_subscriber', [subscription.id, member.id, 'com.fanwire.moved']);
      assert.equal(await subscription.whenTaken, 'com.fanwire.moved');
    },
  },

  registration_revocation: {
    async a_registration_is_taken_from_its_callee(client) {
      const [observer, callee, next] = await joinMany(client, 3);
      const uri = 'com.fanwire.js.taken.away';
      const registration = await callee.register(uri, () => ({ args: ['here'] }));
      const { args: [id] } = await observer.call('wamp.registration.lookup', [uri]);
      await observer.call('wamp.registration.remove_callee', [id, callee.id, 'com.fanwire.moved']);
      if (client.hearsRevocations) assert.equal(await registration.whenTaken, 'com.fanwire.moved');
      await next.register(uri, () => ({ args: ['again'] }));
      assert.deepEqual((await observer.call(uri)).args, ['again']);
    },
  },

  procedure_reflection: {
    async definitions_of_procedures_are_kept_and_told(client) {
      await definedAndTakenBack(client, 'procedure');
    },

    async definitions_of_errors_are_kept_and_told(client) {
      await definedAndTakenBack(client, 'error');
    },

    async procedures_are_listed_while_somebody_has_registered_them(client) {
      const [callee, reader] = await joinMany(client, 2);
      const uri = 'com.fanwire.js.reflected';
      const list = async () => (await reader.call('wamp.reflection.procedure.list')).args[0];
      const registration = await callee.register(uri, () => ({}));
      assert.ok((await list()).includes(uri), 'it is listed');
      await registration.unregister();
      assert.ok(!(await list()).includes(uri), 'it is listed no more');
    },
  },

  topic_reflection: {
    async definitions_of_topics_are_kept_and_told(client) {
      await definedAndTakenBack(client, 'topic');
    },

    async topics_are_listed_while_somebody_is_subscribed(client) {
      const [subscriber, reader] = await joinMany(client, 2);
      const uri = 'com.fanwire.js.reflected';
      const list = async () => (await reader.call('wamp.reflection.topic.list')).args[0];
      const { subscription } = await subscribe(subscriber, uri);
      assert.ok((await list()).includes(uri), 'it is listed');
      await subscription.unsubscribe();
      assert.ok(!(await list()).includes(uri), 'it is listed no more');
    },
  },

  publication_trustlevels: {
    async subscribers_are_told_how_far_the_publisher_is_trusted(client) {
      if (!client.tellsTrust) skip('it does not show the detail trustlevel');
      const [publisher, subscriber] = await joinMany(client, 2);
      for (const [topic, level] of [['com.fanwire.trusted.topic', 3], ['com.fanwire.js.trusted', undefined]]) {
        const inbox = await subscribe(subscriber, topic);
        await publisher.publish(topic, ['x']);
        assert.equal((await inbox.next()).details.trustlevel, level, topic);
      }
    },
  },

  call_trustlevels: {
    async callees_are_told_how_far_the_caller_is_trusted(client) {
      if (!client.tellsTrust) skip('it does not show the detail trustlevel');
      const [callee, caller] = await joinMany(client, 2);
      for (const [uri, level] of [['com.fanwire.trusted.procedure', 3], ['com.fanwire.js.trusted', null]]) {
        await callee.register(uri, (args, kwargs, { trustlevel }) => ({ args: [trustlevel ?? null] }));
        assert.deepEqual((await caller.call(uri)).args, [level], uri);
      }
    },
  },
};
