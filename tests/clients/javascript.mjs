// Drives a router with the unmodified npm clients `autobahn` and `wampy`, case by case.
//
//     node javascript.mjs --url ws://127.0.0.1:8080/ws --client autobahn|wampy --serializer json|msgpack|cbor
//     node javascript.mjs --url http://127.0.0.1:8080/poll ...          by long-polling (autobahn, in JSON)
//     node javascript.mjs ... --compression                             with permessage-deflate
//     node javascript.mjs ... --users 40 --ticket TICKET                each session logged in as joe0, …, joe39
//     node javascript.mjs ... --only NAME,…                             these cases
//     node javascript.mjs ... --feature NAME,…                          those of these features
//     node javascript.mjs --list                                        what there is
//     node javascript.mjs ... --serve NAME                              a partner for `cross.py`
//
// The clients are looked for in the folder that FANWIRE_NODE_MODULES names. Prints a line of JSON for each case, then
// `N passed, M failed`.

import { CASES as advanced } from './javascript/advanced.mjs';
import { CASES as basic } from './javascript/cases.mjs';
import { autobahnClient, wampyClient } from './javascript/clients.mjs';
import { CASES as history } from './javascript/history.mjs';
import { CASES as logins } from './javascript/logins.mjs';
import { CASES as meta } from './javascript/meta.mjs';
import { CASES as passthru } from './javascript/passthru.mjs';
import { CannotExpress, Refusal, open, options, pause } from './javascript/support.mjs';

const CASES = [basic, advanced, history, logins, meta, passthru].flatMap((table) => Object.entries(table))
  .flatMap(([feature, cases]) => Object.entries(cases).map(([name, check]) => ({ feature, name, check })));
/** Features of which there is no case for these clients, and why. */
const SILENT = {
  progressive_call_invocations: (name) => (name === 'wampy'
    ? 'it sends calls in parts and does not announce it' : 'it cannot send the next part of a call'),
};
const say = console.log.bind(console);
// Autobahn writes its troubles to the console, also those that a case makes on purpose.
for (const sort of ['log', 'warn', 'info', 'debug', 'error']) console[sort] = () => {};

// What a client throws where nobody can catch it, such as for a part of a result that it has not asked for.
// Autobahn throws a mere string where a procedure answers at the end of a connection that polls: of no account.
const ignore = () => {};
let thrown = ignore;
for (const event of ['unhandledRejection', 'uncaughtException']) {
  process.on(event, (error) => { if (error instanceof Error) thrown(error); });
}

/** What becomes of a case, and why. */
async function judge(check, client) {
  let timer;
  const broken = new Promise((_, reject) => { thrown = reject; });
  const late = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new Error(`no answer within ${options.patience} s`)), Number(options.patience) * 1000);
  });
  const leaveAll = async () => { for (const session of [...open]) await session.leave(); };
  try {
    await Promise.race([late, broken, check(client).then(leaveAll)]);
    return { result: 'passed' };
  } catch (error) {
    if (error instanceof CannotExpress) {
      await leaveAll();
      return { result: 'skipped', why: error.message };
    }
    // What still comes of it must not be taken for the next one's.
    thrown = ignore;
    await Promise.race([Promise.allSettled([...open].map((session) => session.leave())), pause(2000)]);
    open.clear();
    return { result: 'failed', why: String(error instanceof Error ? error.stack : JSON.stringify(error)).slice(0, 2000) };
  } finally {
    clearTimeout(timer);
  }
}

async function runAll(client) {
  const only = options.only?.split(',');
  const counts = { passed: 0, failed: 0, skipped: 0 };
  for (const { feature, name, check } of CASES) {
    if ((only && !only.includes(name)) || !(options.feature ?? feature).split(',').includes(feature)) continue;
    const verdict = await judge(check, client);
    counts[verdict.result] += 1;
    say(JSON.stringify({ feature, case: name, ...verdict }));
  }
  for (const [feature, reason] of Object.entries(SILENT)) {
    const why = reason(client.name);
    if (only || !(options.feature ?? feature).split(',').includes(feature)) continue;
    say(JSON.stringify({ feature, case: '', result: 'skipped', why }));
  }
  say(`${counts.skipped} skipped`);
  say(`${counts.passed} passed, ${counts.failed} failed`);
  process.exit(counts.failed ? 1 : 0);
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
  say('ready');
  say('left', await session.whenClosed);
  process.exit(0);
}

if (options.list) {
  for (const { feature, name } of CASES) say(feature.padEnd(32), name);
  process.exit(0);
}
const client = options.client === 'wampy' ? await wampyClient(options.serializer) : autobahnClient(options.serializer);
await (options.serve ? serve(client, options.serve) : runAll(client));
