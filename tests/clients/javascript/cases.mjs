// Cases of the basic profile, of publish/subscribe and of patterns: { feature: { case: check } }.

import assert from 'node:assert/strict';
import {
  Inbox, Refusal, SESSIONS, SILENCE_MS, VALUES, joinMany, nextLogin, options, pause, plain, refused, skip, subscribe, REALM,
} from './support.mjs';

export const CASES = {
  sessions: {
    async sessions_have_ids_of_their_own(client) {
      const sessions = await joinMany(client, SESSIONS);
      assert.equal(new Set(sessions.map((session) => session.id)).size, SESSIONS);
      // A BigInt where the client makes one of every integer of 64 bits.
      for (const { id } of sessions) assert.ok(Number(id) >= 1 && Number(id) <= 2 ** 53, `session id ${id}`);
    },

    async unknown_realm_is_refused(client) {
      await refused(client.connect('no.such.realm.here'), 'wamp.error.no_such_realm');
    },

    async sessions_are_who_they_log_in_as(client) {
      const login = nextLogin();
      const { details } = await client.connect(REALM, login);
      if (!login) {
        assert.deepEqual([details.authrole, details.authmethod], ['anonymous', 'anonymous']);
        return;
      }
      assert.deepEqual([details.authid, details.authmethod, details.authprovider], [login.user, 'ticket', 'static']);
      for (const wrong of [{ ...login, secret: 'another' }, { ...login, user: 'nobody' }]) {
        await refused(client.connect(REALM, wrong), 'wamp.error.authentication_denied');
      }
    },

    async goodbye_is_answered(client) {
      const [session] = await joinMany(client, 1);
      const reason = await session.leave();
      if (client.tellsReason) assert.equal(reason, 'wamp.close.goodbye_and_out');
    },
  },

  publish_subscribe: {
    async subscribers_on_every_shard_get_the_event(client) {
      const [publisher, ...subscribers] = await joinMany(client, SESSIONS);
      const inboxes = await Promise.all(subscribers.map((session) => subscribe(session, 'com.fanwire.js.fan')));
      assert.equal(new Set(inboxes.map((inbox) => inbox.subscription.id)).size, 1, 'one subscription id');
      const id = await publisher.publish('com.fanwire.js.fan', [1, 'two'], { three: [3] });
      assert.ok(id >= 1 && id <= 2 ** 53, `publication id ${id}`);
      for (const inbox of inboxes) {
        const { args, kwargs, publication } = await inbox.next();
        assert.deepEqual([args, kwargs], [[1, 'two'], { three: [3] }]);
        if (publication !== undefined) assert.equal(publication, id);
      }
    },

    async event_without_payload_arrives_without(client) {
      const [publisher, subscriber] = await joinMany(client, 2);
      const inbox = await subscribe(subscriber, 'com.fanwire.js.empty');
      await publisher.publish('com.fanwire.js.empty');
      await publisher.publish('com.fanwire.js.empty', undefined, { only: 1 });
      const [none, only] = await inbox.take(2);
      assert.deepEqual([none.args, none.kwargs, only.args, only.kwargs], [[], {}, [], { only: 1 }]);
    },

    async order_holds_across_topics(client) {
      const [publisher, ...subscribers] = await joinMany(client, 9);
      const inboxes = subscribers.map(() => new Inbox());
      for (const [index, session] of subscribers.entries()) {
        for (const topic of ['a', 'b', 'c']) await session.subscribe(`com.fanwire.js.order.${topic}`, inboxes[index].handler);
      }
      const count = 600;
      for (let n = 0; n < count; n += 1) publisher.publishQuietly(`com.fanwire.js.order.${'abc'[n % 7 ? n % 3 : 0]}`, [n]);
      const wanted = Array.from({ length: count }, (_, n) => n);
      for (const inbox of inboxes) assert.deepEqual((await inbox.take(count)).map(({ args }) => args[0]), wanted);
    },

    async unsubscribed_session_gets_no_event(client) {
      const [publisher, leaver, stayer] = await joinMany(client, 3);
      const gone = await subscribe(leaver, 'com.fanwire.js.leave');
      const kept = await subscribe(stayer, 'com.fanwire.js.leave');
      await publisher.publish('com.fanwire.js.leave', [1]);
      await gone.next();
      await gone.subscription.unsubscribe();
      await publisher.publish('com.fanwire.js.leave', [2]);
      assert.deepEqual((await kept.take(2)).map(({ args }) => args[0]), [1, 2]);
      await pause(SILENCE_MS);
      assert.equal(gone.events.length, 0, 'events after unsubscribing');
      const again = await subscribe(leaver, 'com.fanwire.js.leave');
      await publisher.publish('com.fanwire.js.leave', [3]);
      assert.deepEqual((await again.next()).args, [3]);
    },
  },

  serialization: {
    async every_value_arrives_as_it_was_sent(client) {
      const [publisher, ...subscribers] = await joinMany(client, 4);
      const inboxes = await Promise.all(subscribers.map((session) => subscribe(session, 'com.fanwire.js.values')));
      await publisher.publish('com.fanwire.js.values', VALUES, { every: VALUES });
      for (const inbox of inboxes) {
        const { args, kwargs } = await inbox.next();
        assert.deepEqual(args, VALUES);
        assert.deepEqual(kwargs, { every: VALUES });
      }
    },

    async binary_arrives_as_binary(client) {
      if (options.serializer === 'json') skip('it has no binary values in JSON');
      const [publisher, subscriber] = await joinMany(client, 2);
      const inbox = await subscribe(subscriber, 'com.fanwire.js.binary');
      const blob = Buffer.from(Array.from({ length: 600 }, (_, n) => n % 256));
      await publisher.publish('com.fanwire.js.binary', [blob]);
      assert.deepEqual(plain((await inbox.next()).args[0]), [...blob]);
    },

    async results_carry_positions_and_keywords(client) {
      const [callee, caller] = await joinMany(client, 2);
      await callee.register('com.fanwire.js.mirror', (args, kwargs) => ({ args, kwargs }));
      assert.deepEqual(await caller.call('com.fanwire.js.mirror', VALUES, { every: VALUES }),
        { args: VALUES, kwargs: { every: VALUES } });
      assert.deepEqual(await caller.call('com.fanwire.js.mirror'), { args: [], kwargs: {} });
    },
  },

  publisher_exclusion: {
    async publisher_is_excluded_unless_it_asks(client) {
      const sessions = await joinMany(client, 6);
      const inboxes = await Promise.all(sessions.map((session) => subscribe(session, 'com.fanwire.js.self')));
      const publish = (text, wanted) => sessions[0].publish('com.fanwire.js.self', [text], undefined, wanted);
      await publish('default');
      await publish('asked', { exclude_me: true });
      if (client.canIncludeItself) await publish('all', { exclude_me: false });
      await sessions[1].publish('com.fanwire.js.self', ['end']);
      const others = client.canIncludeItself ? ['default', 'asked', 'all'] : ['default', 'asked'];
      const texts = async (inbox, count) => (await inbox.take(count)).map(({ args }) => args[0]);
      assert.deepEqual(await texts(inboxes[0], others.length - 1), [...others.slice(2), 'end'], 'own events');
      assert.deepEqual(await texts(inboxes[1], others.length), others);
      for (const inbox of inboxes.slice(2)) assert.deepEqual(await texts(inbox, others.length + 1), [...others, 'end']);
    },
  },

  subscriber_blackwhite_listing: {
    async lists_of_receivers_decide_who_gets_it(client) {
      const [publisher, ...subscribers] = await joinMany(client, 9);
      const inboxes = await Promise.all(subscribers.map((session) => subscribe(session, 'com.fanwire.js.lists')));
      const [ids, authids] = [subscribers.map(({ id }) => id), subscribers.map(({ authid }) => authid)];
      const everybody = [0, 1, 2, 3, 4, 5, 6, 7];
      const empty = client.sendsEmptyLists ? [[{ eligible: [] }, []], [{ exclude: [] }, everybody]] : [];
      for (const [lists, meant] of [
        [{ exclude: ids.slice(0, 3) }, [3, 4, 5, 6, 7]],
        [{ eligible: ids.slice(2, 5) }, [2, 3, 4]],
        [{ eligible: ids.slice(0, 4), exclude: ids.slice(1, 2) }, [0, 2, 3]],
        [{ exclude_authid: authids.slice(5) }, [0, 1, 2, 3, 4]],
        [{ eligible_authid: authids.slice(5), eligible: ids.slice(0, 6) }, [5]],
        [{ exclude_authrole: ['anonymous'] }, []],
        [{ eligible_authrole: ['anonymous', 'nobody'] }, everybody],
        ...empty,
      ]) {
        await publisher.publish('com.fanwire.js.lists', ['listed'], undefined, lists);
        await publisher.publish('com.fanwire.js.lists', ['end']);
        const got = [];
        for (const [index, inbox] of inboxes.entries()) {
          if ((await inbox.next()).args[0] !== 'listed') continue;
          got.push(index);
          assert.equal((await inbox.next()).args[0], 'end');
        }
        assert.deepEqual(got, meant, JSON.stringify(Object.keys(lists)));
      }
    },
  },

  publisher_identification: {
    async publisher_is_named_if_it_asks(client) {
      const [publisher, subscriber] = await joinMany(client, 2);
      const inbox = await subscribe(subscriber, 'com.fanwire.js.named');
      await publisher.publish('com.fanwire.js.named', ['nobody']);
      await publisher.publish('com.fanwire.js.named', ['me'], undefined, { disclose_me: true });
      const [nobody, me] = await inbox.take(2);
      assert.equal(nobody.publisher.id ?? null, null);
      const { id, authid, authrole } = publisher;
      assert.deepEqual({ ...me.publisher, id: Number(me.publisher.id) }, { id: Number(id), authid, authrole });
    },
  },

  pattern_based_subscription: {
    async patterns_bring_the_event_with_its_topic(client) {
      const [publisher, ...subscribers] = await joinMany(client, 9);
      const inboxes = await Promise.all(subscribers.map(async (session) => ({
        prefix: await subscribe(session, 'com.fanwire.js.pat', { match: 'prefix' }),
        wildcard: await subscribe(session, 'com.fanwire..pattern.b', { match: 'wildcard' }),
        exact: await subscribe(session, 'com.fanwire.js.pattern.b'),
      })));
      for (const topic of ['js.pattern.a', 'js.pattern.b', 'other.pattern.b', 'js.pattern.b.c', 'js.pa', 'js.pattern.end']) {
        await publisher.publish(`com.fanwire.${topic}`, [topic]);
      }
      const came = async (inbox, topics) => {
        const events = await inbox.take(topics.length);
        assert.deepEqual(events.map(({ args }) => args[0]), topics);
        return events;
      };
      for (const { prefix, wildcard, exact } of inboxes) {
        const events = await came(prefix, ['js.pattern.a', 'js.pattern.b', 'js.pattern.b.c', 'js.pattern.end']);
        events.push(...await came(wildcard, ['js.pattern.b', 'other.pattern.b']));
        for (const { args, topic } of events) assert.equal(topic, `com.fanwire.${args[0]}`);
        await came(exact, ['js.pattern.b']);
        for (const inbox of [prefix, wildcard, exact]) assert.equal(inbox.events.length, 0);
        if (client.canEndPatterns) await prefix.subscription.unsubscribe();
      }
      if (!client.canEndPatterns) return;
      await publisher.publish('com.fanwire.js.pattern.b', ['after']);
      for (const { prefix, wildcard } of inboxes) {
        await came(wildcard, ['after']);
        assert.equal(prefix.events.length, 0, 'events after unsubscribing');
      }
    },
  },

  pattern_based_registration: {
    async calls_go_to_the_most_precise_registration(client) {
      const [caller, ...callees] = await joinMany(client, 5);
      const answering = (name) => (args, kwargs, { procedure }) => ({ args: [name, procedure ?? null] });
      const registrations = [];
      for (const [name, uri, match] of [
        ['wildcard', 'com.fanwire..tools.add', 'wildcard'], ['short', 'com.fanwire.js.too', 'prefix'],
        ['long', 'com.fanwire.js.tools', 'prefix'], ['exact', 'com.fanwire.js.tools.add', 'exact'],
      ]) {
        const callee = callees[registrations.length];
        const registration = await callee.register(uri, answering(name), { match });
        registrations.push([name, () => (client.canEndPatterns ? registration.unregister() : callee.leave())]);
      }
      const procedure = 'com.fanwire.js.tools.add';
      for (const [name, end] of registrations.reverse()) {
        const { args } = await caller.call(procedure);
        assert.equal(args[0], name);
        if (name !== 'exact') assert.equal(args[1], procedure);
        await end();
      }
      await refused(caller.call(procedure), 'wamp.error.no_such_procedure');
    },
  },

  uris: {
    async reserved_uris_are_refused(client) {
      if (!client.sendsAnyOption) skip('it sends no such URI');
      const [session] = await joinMany(client, 1);
      const reasons = ['wamp.error.invalid_uri', 'wamp.error.not_authorized'];
      await refused(session.publish('wamp.forged.event', ['x']), ...reasons);
      await refused(session.register('wamp.forged.procedure', () => ({})), ...reasons);
      await session.publish('com.fanwire.js.still.here', ['x']);
    },
  },

  calls: {
    async procedures_are_called_from_every_shard(client) {
      const sessions = await joinMany(client, SESSIONS);
      for (const n of [0, 1, 2, 3]) {
        await sessions[n].register(`com.fanwire.js.add${n}`, ([a, b]) => ({ args: [n, a + b] }));
      }
      const calls = sessions.flatMap((session, index) => [0, 1, 2, 3].map(async (n) => {
        assert.deepEqual((await session.call(`com.fanwire.js.add${n}`, [index, 100])).args, [n, index + 100]);
      }));
      await Promise.all(calls);
    },

    async answers_come_back_in_any_order(client) {
      const [callee, ...callers] = await joinMany(client, 5);
      await callee.register('com.fanwire.js.slow', async ([n]) => {
        await pause((n * 7) % 50);
        return { args: [n] };
      });
      await Promise.all(Array.from({ length: 100 }, async (_, n) => {
        assert.deepEqual((await callers[n % 4].call('com.fanwire.js.slow', [n])).args, [n]);
      }));
    },

    async unknown_procedure_is_an_error(client) {
      const [session] = await joinMany(client, 1);
      await refused(session.call('com.fanwire.js.unknown', [1]), 'wamp.error.no_such_procedure');
    },

    async errors_of_the_callee_reach_the_caller(client) {
      const [callee, caller] = await joinMany(client, 2);
      await callee.register('com.fanwire.js.fail', (args, kwargs) => {
        throw new Refusal('com.fanwire.js.error.own', args, kwargs);
      });
      const error = await refused(caller.call('com.fanwire.js.fail', [1, 'two'], { key: [3] }), 'com.fanwire.js.error.own');
      assert.deepEqual([error.args, error.kwargs], [[1, 'two'], { key: [3] }]);
    },

    async procedure_has_one_callee(client) {
      const [first, ...others] = await joinMany(client, 8);
      const registration = await first.register('com.fanwire.js.single', () => ({ args: ['first'] }));
      for (const session of others) {
        await refused(session.register('com.fanwire.js.single', () => ({})), 'wamp.error.procedure_already_exists');
      }
      assert.deepEqual((await others[0].call('com.fanwire.js.single')).args, ['first']);
      await registration.unregister();
      await refused(others[0].call('com.fanwire.js.single'), 'wamp.error.no_such_procedure');
      await others[1].register('com.fanwire.js.single', () => ({ args: ['second'] }));
      assert.deepEqual((await first.call('com.fanwire.js.single')).args, ['second']);
    },

    async what_a_session_had_goes_with_it(client) {
      const [leaver, stayer] = await joinMany(client, 2);
      let started;
      const running = new Promise((resolve) => { started = resolve; });
      await leaver.register('com.fanwire.js.gone', () => {
        started();
        return new Promise(() => {});
      });
      const call = refused(stayer.call('com.fanwire.js.gone'), 'wamp.error.canceled');
      await running;
      await leaver.leave();
      await call;
      await refused(stayer.call('com.fanwire.js.gone'), 'wamp.error.no_such_procedure');
      await stayer.register('com.fanwire.js.gone', () => ({ args: ['mine now'] }));
      assert.deepEqual((await stayer.call('com.fanwire.js.gone')).args, ['mine now']);
    },
  },

  event_retention: {
    async retained_events_come_to_those_who_ask(client) {
      await retained(client, ['com.fanwire.js.kept.one'], 'com.fanwire.js.kept.one', {});
    },

    async retained_events_come_for_patterns(client) {
      const topics = ['com.fanwire.js.kept.many.1', 'com.fanwire.js.kept.many.2'];
      await retained(client, topics, 'com.fanwire.js.kept.many', { match: 'prefix' });
    },
  },
};

/** Keeps an event of each topic; a subscription brings them, and then what is new. */
async function retained(client, topics, uri, wanted) {
  const [publisher, subscriber] = await joinMany(client, 2);
  const retain = (topic, args, kwargs) => (client.retains
    ? publisher.publish(topic, args, kwargs, { retain: true }) : retainByHttp(topic, args, kwargs));
  for (const topic of topics) {
    await retain(topic, ['old']);
    await retain(topic, [topic], { k: 1 });
    await publisher.publish(topic, ['passes by']);
  }
  const inbox = await subscribe(subscriber, uri, { get_retained: true, ...wanted });
  for (const topic of topics) {
    const { args, kwargs, isRetained } = await inbox.next();
    assert.deepEqual([args, kwargs, isRetained], [[topic], { k: 1 }, true]);
  }
  await publisher.publish(topics.at(-1), ['live']);
  const { args, isRetained } = await inbox.next();
  assert.deepEqual([args, isRetained], [['live'], false]);
  assert.equal(inbox.events.length, 0);
}

/** For a client that does not send the option: by Fanwire's HTTP API, which publishes without a key where strangers may come in. */
async function retainByHttp(topic, args, kwargs) {
  if (options.users) skip('it does not send retain, and the HTTP API wants a key');
  const target = options.url.replace(/^ws/, 'http').replace(/\/ws$/, '/v1/publish');
  const body = JSON.stringify({ topic, args, kwargs, options: { retain: true } });
  const answer = await fetch(target, { method: 'POST', headers: { 'Content-Type': 'application/json' }, body })
    .catch(() => ({ status: 404 }));
  if ([404, 405].includes(answer.status)) skip('it does not send retain, and this router has no such HTTP API');
  assert.equal(answer.status, 200, await answer.text());
}
