// What cases are made of: options, the waiting, the comparing, and what a session of either client is asked with.

import assert from 'node:assert/strict';
import { createRequire } from 'node:module';
import path from 'node:path';
import { parseArgs } from 'node:util';

export const { values: options } = parseArgs({
  options: {
    url: { type: 'string' }, client: { type: 'string' }, serializer: { type: 'string', default: 'json' },
    serve: { type: 'string' }, only: { type: 'string' }, compression: { type: 'boolean', default: false },
    feature: { type: 'string' },
    patience: { type: 'string', default: '20' }, list: { type: 'boolean', default: false },
    users: { type: 'string' }, ticket: { type: 'string' },
  },
});
export const modules = path.resolve(process.env.FANWIRE_NODE_MODULES ?? 'node_modules');
export const require = createRequire(path.join(modules, 'anchor.js'));

export const REALM = 'realm1';
export const SESSIONS = 17; // spread over the shards: all on one of two is a chance of one in 64 thousand
export const SILENCE_MS = 400;
let logins = 0;
/** Who the next session logs in as, if sessions log in. */
export const nextLogin = () => {
  if (!options.users) return undefined;
  logins += 1;
  return { method: 'ticket', user: `joe${logins % Number(options.users)}`, secret: options.ticket };
};

/** An error answer, whichever client it came through. */
export class Refusal extends Error {
  constructor(uri, args, kwargs) {
    super(`${uri} ${JSON.stringify(args)}`);
    Object.assign(this, { uri, args: args ?? [], kwargs: kwargs ?? {} });
  }
}

/** The client has no words for what a case is about. */
export class CannotExpress extends Error {}

export function skip(why) {
  throw new CannotExpress(why);
}

/** Sessions that are open. */
export const open = new Set();
export const pause = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

/** Events of one subscription, in the order in which they came. */
export class Inbox {
  constructor() {
    this.events = [];
    this.waiting = null;
  }

  handler = (args, kwargs, publication, publisher, topic, details) => {
    this.events.push({ args, kwargs, publication, publisher, topic, details, isRetained: Boolean(details.retained) });
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

export async function subscribe(session, topic, wanted) {
  const inbox = new Inbox();
  inbox.subscription = await session.subscribe(topic, inbox.handler, wanted);
  return inbox;
}

export async function refused(promise, ...uris) {
  try {
    await promise;
  } catch (error) {
    assert.ok(uris.includes(error.uri), `expected ${uris}, got ${error.uri ?? error.stack}`);
    return error;
  }
  return assert.fail(`expected ${uris}, but it succeeded`);
}

export const joinMany = (client, count) => Promise.all(Array.from({ length: count }, () => client.connect()));
/** Bytes whichever of the many byte types of JavaScript they are in. */
export const plain = (value) => (ArrayBuffer.isView(value) || value instanceof ArrayBuffer ? [...new Uint8Array(
  value.buffer ? value.buffer.slice(value.byteOffset, value.byteOffset + value.byteLength) : value)] : value);

export const VALUES = [
  null, true, false, 0, -1, Number.MAX_SAFE_INTEGER, Number.MIN_SAFE_INTEGER, 1.5, '', 'text',
  'ünï©ødé \u2028 😀', 'quote" back\\ slash/ \n\t', [], {}, [1, [2, [3, { four: [5] }]]],
  { a: null, b: { c: [true, { d: '' }] } }, 'x'.repeat(70_000),
];
