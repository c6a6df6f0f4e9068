// Logging in by the methods that clients for JavaScript have: Autobahn and wampy. Each as itself, with another secret, and as nobody.
//
//     node logins.mjs --url URL --key PRIVATE
//
// The users are those of `tests/end_to_end/login_clients.rs`.

import assert from 'node:assert/strict';
import { createRequire } from 'node:module';
import path from 'node:path';
import { pathToFileURL } from 'node:url';
import { parseArgs } from 'node:util';

const { values: options } = parseArgs({ options: { url: { type: 'string' }, key: { type: 'string' } } });
const modules = path.resolve(process.env.FANWIRE_NODE_MODULES ?? 'node_modules');
const require = createRequire(path.join(modules, 'anchor.js'));
const { WebSocket } = require('ws');
globalThis.WebSocket ??= WebSocket;
const autobahn = require('autobahn');
const nacl = require('tweetnacl');
const load = async (file) => import(pathToFileURL(path.join(modules, file)));
const { Wampy } = await load('wampy/dist/esm/wampy.js');
const wampyCra = await load('wampy/dist/esm/auth/wampcra/wampy-cra.js');
const wampyKeys = await load('wampy/dist/esm/auth/cryptosign/wampy-cryptosign.js');

const REALM = 'realm1';
const DENIED = 'wamp.error.authentication_denied';
const pair = (hex) => nacl.sign.keyPair.fromSeed(Uint8Array.from(Buffer.from(hex, 'hex')));
const stranger = '42'.repeat(32);

/** How a login of Autobahn's ends: the details of WELCOME, or the reason of ABORT. */
function autobahnLogsIn(method, authid, secret) {
  const key = method === 'cryptosign' ? pair(secret) : undefined;
  const onchallenge = (session, asked, extra) => {
    assert.equal(asked, method);
    if (method === 'ticket') return secret;
    if (key) return autobahn.auth_cryptosign.sign_challenge(key, extra);
    const derived = extra.salt ? autobahn.auth_cra.derive_key(secret, extra.salt, extra.iterations, extra.keylen) : secret;
    return autobahn.auth_cra.sign(derived, extra.challenge);
  };
  const authextra = key && { pubkey: autobahn.auth_cryptosign.public_key(key), channel_binding: null };
  return new Promise((resolve) => {
    const connection = new autobahn.Connection({
      url: options.url, realm: REALM, authmethods: [method], authid, authextra, onchallenge, max_retries: 0,
    });
    connection.onopen = (session, details) => {
      resolve(details);
      connection.close();
    };
    connection.onclose = (reason, details) => {
      resolve(details?.reason ?? reason);
      return true;
    };
    connection.open();
  });
}

/** The same of wampy's. */
async function wampyLogsIn(method, authid, secret) {
  const sign = { wampcra: wampyCra.sign, cryptosign: wampyKeys.sign }[method];
  const client = new Wampy(options.url, {
    realm: REALM,
    authid,
    authmethods: [method],
    authextra: method === 'cryptosign' ? { pubkey: Buffer.from(pair(secret).publicKey).toString('hex') } : {},
    onChallenge: sign ? sign(secret) : () => secret,
    maxRetries: 0,
    ws: WebSocket,
  });
  try {
    const details = await client.connect();
    await client.disconnect();
    return details;
  } catch (error) {
    return error.errorUri ?? error.error ?? String(error);
  }
}

for (const [name, logsIn] of [['autobahn', autobahnLogsIn], ['wampy', wampyLogsIn]]) {
  for (const [method, authid, secret] of [
    ['ticket', 'ann', 'her ticket'],
    ['wampcra', 'ann', 'her secret'],
    ['wampcra', 'plain', 'a secret'],
    ['cryptosign', 'ann', options.key],
  ]) {
    const details = await logsIn(method, authid, secret);
    assert.equal(details.authmethod, method, `${name}: ${method} as ${authid}: ${JSON.stringify(details)}`);
    assert.deepEqual([details.authid, details.authrole], [authid, 'member']);
  }
  for (const [method, authid, secret] of [
    ['ticket', 'ann', 'another'],
    ['ticket', 'nobody', 'another'],
    ['wampcra', 'ann', 'another'],
    ['wampcra', 'nobody', 'another'],
    ['cryptosign', 'ann', stranger],
    ['cryptosign', 'nobody', options.key],
  ]) {
    const reason = await logsIn(method, authid, secret);
    assert.ok(String(reason).includes(DENIED), `${name}: ${method} as ${authid}: ${JSON.stringify(reason)}`);
  }
  console.log(`${name} logs in by every method that it has`);
}
process.exit(0);
