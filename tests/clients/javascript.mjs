// Drives a router with the unmodified npm clients `autobahn` and `wampy`.
//
//     node javascript.mjs --url ws://127.0.0.1:8080/ws --client autobahn|wampy --serializer json|msgpack|cbor
//     node javascript.mjs ... --compression                             with permessage-deflate
//     node javascript.mjs ... --users 40 --ticket TICKET                the checks, each session logged in as joe0, …, joe39
//     node javascript.mjs ... --serve NAME                              a partner for `cross.py`
//
// The clients are looked for in the folder that FANWIRE_NODE_MODULES names. Ends with `N passed, M failed`.

import assert from 'node:assert/strict';
import { createRequire } from 'node:module';
import path from 'node:path';
import { pathToFileURL } from 'node:url';
import { parseArgs } from 'node:util';

const { values: options } = parseArgs({
  options: {
    url: { type: 'string' }, client: { type: 'string' }, serializer: { type: 'string', default: 'json' },
    serve: { type: 'string' }, only: { type: 'string' }, compression: { type: 'boolean', default: false },
    users: { type: 'string' }, ticket: { type: 'string' },
  },
});
const modules = path.resolve(process.env.FANWIRE_NODE_MODULES ?? 'node_modules');
const require = createRequire(path.join(modules, 'anchor.js'));

const REALM = 'realm1';
const SESSIONS = 17; // spread over the shards: all on one of two is a chance of one in 64 thousand
const PATIENCE_MS = 20_000;
const SILENCE_MS = 400;
let logins = 0;
/** Who the next session logs in as, if sessions log in. */
const nextLogin = () => {
  if (!options.users) return undefined;
  logins += 1;
  return { user: `joe${logins % Number(options.users)}`, ticket: options.ticket };
};

/** An error answer, whichever client it came through. */
class Refusal extends Error {
  constructor(uri, args, kwargs) {
    super(`${uri} ${JSON.stringify(args)}`);
    Object.assign(this, { uri, args: args ?? [], kwargs: kwargs ?? {} });
  }
}

/** The package `ws`, which compresses everything that it sends here, and insists on it. */
function compressingWebSocket() {
  return class extends require('ws').WebSocket {
    constructor(url, protocols) {
      super(url, protocols, { perMessageDeflate: { threshold: 0 } });
      this.addEventListener('open', () => assert.match(this.extensions, /permessage-deflate/));
    }
  };
}

const open = new Set();
const pause = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

// ---- one face for both clients: connect, subscribe, publish, register, call, leave --------------------------------

function autobahnClient(serializer) {
  if (options.compression) globalThis.WebSocket = compressingWebSocket();
  globalThis.WebSocket ??= require('ws').WebSocket; // Node has one of its own from version 22
  const autobahn = require('autobahn');
  const { JSONSerializer, MsgpackSerializer, CBORSerializer } = autobahn.serializer;
  const Kind = { json: JSONSerializer, msgpack: MsgpackSerializer, cbor: CBORSerializer }[serializer];
  const refuse = (error) => { throw new Refusal(error.error, error.args, error.kwargs); };

  return {
    canIncludeItself: true, tellsReason: true, sendsEmptyLists: true, canEndPatterns: true,
    connect: (realm = REALM, login = nextLogin()) => new Promise((resolve, reject) => {
      const quiet = () => {};
      const connection = new autobahn.Connection({
        url: options.url, realm, max_retries: 0, on_user_error: quiet, on_internal_error: reject,
        serializers: [new Kind()],
        ...(login && { authmethods: ['ticket'], authid: login.user, onchallenge: () => login.ticket }),
      });
      let closed;
      const whenClosed = new Promise((done) => { closed = done; });
      connection.onclose = (_, details) => {
        open.delete(face);
        closed(details.reason);
        reject(new Refusal(details.reason ?? 'closed', [details.message]));
        return true;
      };
      let session;
      const face = {
        subscribe: async (topic, handler, wanted) => {
          const subscription = await session
            .subscribe(topic, (args, kwargs, event) => handler(args ?? [], kwargs ?? {}, event.publication, {
              id: event.publisher, authid: event.publisher_authid, authrole: event.publisher_authrole,
            }, event.topic), wanted)
            .catch(refuse);
          return { id: subscription.id, unsubscribe: () => session.unsubscribe(subscription) };
        },
        publish: async (topic, args, kwargs, wanted = {}) => {
          const publication = await session.publish(topic, args, kwargs, { acknowledge: true, ...wanted });
          return publication.id;
        },
        publishQuietly: (topic, args, kwargs) => { session.publish(topic, args, kwargs); },
        call: async (procedure, args, kwargs) => {
          const result = await session.call(procedure, args, kwargs).catch(refuse);
          return result instanceof autobahn.Result ? { args: result.args, kwargs: result.kwargs }
            : { args: result === null ? [] : [result], kwargs: {} };
        },
        register: async (procedure, endpoint, wanted) => {
          const registration = await session.register(procedure, async (args, kwargs, invocation) => {
            try {
              const result = await endpoint(args ?? [], kwargs ?? {}, invocation.procedure);
              return new autobahn.Result(result.args, result.kwargs);
            } catch (error) {
              throw error instanceof Refusal ? new autobahn.Error(error.uri, error.args, error.kwargs) : error;
            }
          }, wanted).catch(refuse);
          return { unregister: () => registration.unregister() };
        },
        leave: () => { connection.close(); return whenClosed; },
        whenClosed,
      };
      connection.onopen = (opened, details) => {
        session = opened;
        Object.assign(face, { id: opened.id, details, authid: details.authid, authrole: details.authrole });
        open.add(face);
        resolve(face);
      };
      connection.open();
    }),
  };
}

async function wampyClient(serializer) {
  const load = (file) => import(pathToFileURL(path.join(modules, 'wampy/dist/esm', file)));
  const { Wampy } = await load('wampy.js');
  const { JsonSerializer } = await load('serializers/json-serializer.js');
  const { MsgpackSerializer } = await load('serializers/msgpack-serializer.js');
  const { CborSerializer } = await load('serializers/cbor-serializer.js');
  const Kind = { json: JsonSerializer, msgpack: MsgpackSerializer, cbor: CborSerializer }[serializer];
  const Socket = options.compression ? compressingWebSocket() : require('websocket').w3cwebsocket;
  const refuse = (error) => {
    throw error.errorUri ? new Refusal(error.errorUri, error.argsList, error.argsDict) : error;
  };
  // wampy leaves out what is not there; both empty and absent are right.
  const payload = (args, kwargs) => (args || kwargs ? { argsList: args ?? [], argsDict: kwargs } : undefined);

  return {
    // it never sends `exclude_me: false`, nor an empty list
    canIncludeItself: false, tellsReason: false, sendsEmptyLists: false,
    canEndPatterns: false, // at UNSUBSCRIBED it has forgotten how the topic was meant; it unregisters no URI with `..`
    connect: async (realm = REALM, login = nextLogin()) => {
      let closed;
      const whenClosed = new Promise((done) => { closed = done; });
      const wampy = new Wampy(options.url, {
        realm, ws: Socket, autoReconnect: false,
        serializer: new Kind(),
        ...(login && { authmethods: ['ticket'], authid: login.user, onChallenge: () => login.ticket }),
        onClose: () => { open.delete(face); closed('closed'); },
      });
      const face = {
        subscribe: async (topic, handler, wanted) => {
          const { subscriptionId } = await wampy
            .subscribe(topic, ({ argsList, argsDict, details }) => handler(argsList ?? [], argsDict ?? {}, undefined, {
              id: details.publisher, authid: details.publisher_authid, authrole: details.publisher_authrole,
            }, details.topic), wanted)
            .catch(refuse);
          return { id: subscriptionId, unsubscribe: () => wampy.unsubscribe(subscriptionId) };
        },
        publish: async (topic, args, kwargs, wanted) => {
          const { publicationId } = await wampy.publish(topic, payload(args, kwargs), wanted).catch(refuse);
          return publicationId;
        },
        publishQuietly: (topic, args, kwargs) => { wampy.publish(topic, payload(args, kwargs)).catch(() => {}); },
        call: async (procedure, args, kwargs) => {
          const result = await wampy.call(procedure, payload(args, kwargs)).catch(refuse);
          return { args: result.argsList ?? [], kwargs: result.argsDict ?? {} };
        },
        register: async (procedure, endpoint, wanted) => {
          await wampy.register(procedure, async ({ details, argsList, argsDict }) => {
            try {
              const result = await endpoint(argsList ?? [], argsDict ?? {}, details.procedure);
              return payload(result.args, result.kwargs);
            } catch (error) {
              if (!(error instanceof Refusal)) throw error;
              throw Object.assign(new Error(), { error: error.uri, argsList: error.args, argsDict: error.kwargs });
            }
          }, wanted).catch(refuse);
          return { unregister: () => wampy.unregister(procedure) };
        },
        leave: async () => { await wampy.disconnect(); }, // ends when the router has answered; the reason stays inside
        whenClosed,
      };
      const details = await wampy.connect().catch(refuse);
      Object.assign(face, { id: wampy.getSessionId(), details, authid: details.authid, authrole: details.authrole });
      assert.ok(details.roles.broker && details.roles.dealer, 'roles of the router');
      open.add(face);
      return face;
    },
  };
}

// ---- helpers --------------------------------------------------------------------------------------------------------

/** Events of one subscription, in the order in which they came. */
class Inbox {
  constructor() {
    this.events = [];
    this.waiting = null;
  }

  handler = (args, kwargs, publication, publisher, topic) => {
    this.events.push({ args, kwargs, publication, publisher, topic });
    this.waiting?.();
  };

  async take(count) {
    while (this.events.length < count) await new Promise((resolve) => { this.waiting = resolve; });
    return this.events.splice(0, count);
  }

  async next() {
    return (await this.take(1))[0];
  }
}

async function subscribe(session, topic, wanted) {
  const inbox = new Inbox();
  inbox.subscription = await session.subscribe(topic, inbox.handler, wanted);
  return inbox;
}

async function refused(promise, ...uris) {
  try {
    await promise;
  } catch (error) {
    assert.ok(uris.includes(error.uri), `expected ${uris}, got ${error.uri ?? error.stack}`);
    return error;
  }
  return assert.fail(`expected ${uris}, but it succeeded`);
}

const joinMany = (client, count) => Promise.all(Array.from({ length: count }, () => client.connect()));
/** Bytes whichever of the many byte types of JavaScript they are in. */
const plain = (value) => (ArrayBuffer.isView(value) || value instanceof ArrayBuffer ? [...new Uint8Array(
  value.buffer ? value.buffer.slice(value.byteOffset, value.byteOffset + value.byteLength) : value)] : value);

const VALUES = [
  null, true, false, 0, -1, Number.MAX_SAFE_INTEGER, Number.MIN_SAFE_INTEGER, 1.5, '', 'text',
  'ünï©ødé \u2028 😀', 'quote" back\\ slash/ \n\t', [], {}, [1, [2, [3, { four: [5] }]]],
  { a: null, b: { c: [true, { d: '' }] } }, 'x'.repeat(70_000),
];

// ---- the checks -----------------------------------------------------------------------------------------------------

const CHECKS = {
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
    for (const wrong of [{ ...login, ticket: 'another' }, { ...login, user: 'nobody' }]) {
      await refused(client.connect(REALM, wrong), 'wamp.error.authentication_denied');
    }
  },

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

  async event_without_payload_arrives_without(client) {
    const [publisher, subscriber] = await joinMany(client, 2);
    const inbox = await subscribe(subscriber, 'com.fanwire.js.empty');
    await publisher.publish('com.fanwire.js.empty');
    await publisher.publish('com.fanwire.js.empty', undefined, { only: 1 });
    const [none, only] = await inbox.take(2);
    assert.deepEqual([none.args, none.kwargs, only.args, only.kwargs], [[], {}, [], { only: 1 }]);
  },

  async binary_arrives_as_binary(client) {
    if (options.serializer === 'json') return; // neither client has a binary type in JSON
    const [publisher, subscriber] = await joinMany(client, 2);
    const inbox = await subscribe(subscriber, 'com.fanwire.js.binary');
    const blob = Buffer.from(Array.from({ length: 600 }, (_, n) => n % 256));
    await publisher.publish('com.fanwire.js.binary', [blob]);
    assert.deepEqual(plain((await inbox.next()).args[0]), [...blob]);
  },

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

  async calls_go_to_the_most_precise_registration(client) {
    const [caller, ...callees] = await joinMany(client, 5);
    const answering = (name) => (args, kwargs, procedure) => ({ args: [name, procedure ?? null] });
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

  async results_carry_positions_and_keywords(client) {
    const [callee, caller] = await joinMany(client, 2);
    await callee.register('com.fanwire.js.mirror', (args, kwargs) => ({ args, kwargs }));
    assert.deepEqual(await caller.call('com.fanwire.js.mirror', VALUES, { every: VALUES }),
      { args: VALUES, kwargs: { every: VALUES } });
    assert.deepEqual(await caller.call('com.fanwire.js.mirror'), { args: [], kwargs: {} });
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

  async goodbye_is_answered(client) {
    const [session] = await joinMany(client, 1);
    const reason = await session.leave();
    if (client.tellsReason) assert.equal(reason, 'wamp.close.goodbye_and_out');
  },
};

async function checkAll(client) {
  const only = options.only?.split(',');
  let [passed, failed] = [0, 0];
  for (const [name, check] of Object.entries(CHECKS)) {
    if (only && !only.includes(name)) continue;
    let timer;
    const late = new Promise((_, reject) => { timer = setTimeout(() => reject(new Error('too late')), PATIENCE_MS); });
    try {
      const leaveAll = async () => { for (const session of [...open]) await session.leave(); };
      await Promise.race([late, check(client).then(leaveAll)]);
      passed += 1;
    } catch (error) {
      failed += 1;
      open.clear();
      console.log(`FAIL ${name}: ${error.stack ?? error}`);
    }
    clearTimeout(timer);
  }
  console.log(`${passed} passed, ${failed} failed`);
  process.exit(failed ? 1 : 0);
}

/** Answers calls of PREFIX.NAME.echo and .fail, and repeats what is published to PREFIX.cast on PREFIX.NAME.seen. */
async function serve(client, name) {
  const prefix = 'com.fanwire.cross';
  const session = await client.connect();
  await session.register(`${prefix}.${name}.echo`, (args, kwargs) => ({ args, kwargs }));
  await session.register(`${prefix}.${name}.fail`, (args, kwargs) => {
    throw new Refusal(`${prefix}.error`, args, kwargs);
  });
  await session.subscribe(`${prefix}.cast`, (args, kwargs) => session.publishQuietly(`${prefix}.${name}.seen`, args, kwargs));
  console.log('ready');
  console.log('left', await session.whenClosed);
  process.exit(0);
}

for (const sort of ['log', 'warn', 'info', 'debug']) {
  const say = console[sort].bind(console);
  // autobahn writes its troubles to the console, also those that a check makes on purpose
  console[sort] = (...words) => { if (/^(FAIL|ready|left|\d+ passed)/.test(String(words[0]))) say(...words); };
}
const client = options.client === 'wampy' ? await wampyClient(options.serializer) : autobahnClient(options.serializer);
await (options.serve ? serve(client, options.serve) : checkAll(client));
