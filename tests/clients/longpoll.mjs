// The npm client `autobahn` over HTTP long-polling, beside one over WebSocket.
//
//     node longpoll.mjs --poll http://127.0.0.1:8080/poll --url ws://127.0.0.1:8080/ws
//
// Ends with `N passed`.

import assert from 'node:assert/strict';
import { createRequire } from 'node:module';
import path from 'node:path';
import { parseArgs } from 'node:util';
import { XMLHttpRequest } from './javascript/xhr.mjs';

const { values: options } = parseArgs({ options: { poll: { type: 'string' }, url: { type: 'string' } } });
const modules = path.resolve(process.env.FANWIRE_NODE_MODULES ?? 'node_modules');
const require = createRequire(path.join(modules, 'anchor.js'));

globalThis.XMLHttpRequest = XMLHttpRequest;
globalThis.WebSocket ??= require('ws').WebSocket;
const autobahn = require('autobahn');

const PATIENCE_MS = 20_000;
const within = (promise, what) => Promise.race([
  promise,
  new Promise((_, reject) => { setTimeout(() => reject(new Error(`no ${what}`)), PATIENCE_MS).unref(); }),
]);

/** A session over long-polling or WebSocket. */
function join(type) {
  const transports = [type === 'longpoll' ? { type, url: options.poll } : { type, url: options.url }];
  const connection = new autobahn.Connection({ transports, realm: 'realm1', max_retries: 0 });
  const closed = new Promise((resolve) => { connection.onclose = (reason, details) => resolve({ reason, details }); });
  const opened = new Promise((resolve) => { connection.onopen = resolve; });
  connection.open();
  return within(opened, 'session').then((session) => ({
    session,
    leave: () => { connection.close(); return within(closed, 'end'); },
  }));
}

let passed = 0;
async function check(what, body) {
  await body();
  passed += 1;
  console.log(`ok ${what}`);
}

const polled = await join('longpoll');
const web = await join('websocket');
const other = await join('longpoll');

await check('events both ways, in order', async () => {
  for (const [from, to] of [[polled, web], [web, polled], [other, polled]]) {
    const heard = [];
    let all;
    const whenAll = new Promise((resolve) => { all = resolve; });
    const subscription = await to.session.subscribe('com.fanwire.poll', ([number]) => {
      heard.push(number);
      if (heard.length === 50) all();
    });
    // One after another: in a browser they come in any order otherwise.
    for (let number = 0; number < 50; number += 1) {
      await from.session.publish('com.fanwire.poll', [number], {}, { acknowledge: true });
    }
    await within(whenAll, 'event');
    assert.deepEqual(heard, [...Array(50).keys()]);
    await to.session.unsubscribe(subscription);
  }
});

await check('calls both ways, with results and errors', async () => {
  for (const [caller, callee] of [[polled, web], [web, polled], [polled, other]]) {
    const twice = await callee.session.register('com.fanwire.twice', ([number]) => {
      if (number < 0) throw new autobahn.Error('com.fanwire.negative', [number]);
      return 2 * number;
    });
    const results = await within(
      Promise.all([1, 2, 3, 4].map((number) => caller.session.call('com.fanwire.twice', [number]))), 'result');
    assert.deepEqual(results, [2, 4, 6, 8]);
    await assert.rejects(caller.session.call('com.fanwire.twice', [-1]), { error: 'com.fanwire.negative' });
    await callee.session.unregister(twice);
  }
});

await check('large arguments', async () => {
  const echo = await polled.session.register('com.fanwire.echo', (args) => args[0]);
  const text = 'é'.repeat(200_000);
  assert.equal(await within(web.session.call('com.fanwire.echo', [text]), 'result'), text);
  await polled.session.unregister(echo);
});

await check('goodbye', async () => {
  for (const client of [polled, other, web]) {
    const { reason } = await client.leave();
    assert.equal(reason, 'closed');
  }
});

console.log(`${passed} passed`);
process.exit(0);
