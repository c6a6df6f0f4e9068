// Autobahn for JavaScript and wampy behind one face: connect, subscribe, publish, register, call, leave.

import assert from 'node:assert/strict';
import path from 'node:path';
import { pathToFileURL } from 'node:url';
import { XMLHttpRequest } from './xhr.mjs';
import { REALM, Refusal, modules, nextLogin, open, options, require } from './support.mjs';

/** The package `ws`, which compresses everything that it sends here, and insists on it. */
function compressingWebSocket() {
  return class extends require('ws').WebSocket {
    constructor(url, protocols) {
      super(url, protocols, { perMessageDeflate: { threshold: 0 } });
      this.addEventListener('open', () => assert.match(this.extensions, /permessage-deflate/));
    }
  };
}

const keyPair = (hex) => require('tweetnacl').sign.keyPair.fromSeed(Uint8Array.from(Buffer.from(hex, 'hex')));

/** What Autobahn wants to know for a login. */
function autobahnLogin({ auth_cra: cra, auth_cryptosign: cryptosign }, { method, user, secret }) {
  const key = method === 'cryptosign' ? keyPair(secret) : undefined;
  const onchallenge = (session, asked, extra) => {
    assert.equal(asked, method);
    if (method === 'ticket') return secret;
    if (key) return cryptosign.sign_challenge(key, extra);
    return cra.sign(extra.salt ? cra.derive_key(secret, extra.salt, extra.iterations, extra.keylen) : secret, extra.challenge);
  };
  const authextra = key && { pubkey: cryptosign.public_key(key), channel_binding: null };
  return { authmethods: [method], authid: user, authextra, onchallenge };
}

/** What wampy does, with its functions that sign. */
function wampyLogin({ method, user, secret }, signers) {
  const authextra = method === 'cryptosign' ? { pubkey: Buffer.from(keyPair(secret).publicKey).toString('hex') } : {};
  const sign = signers[method];
  return { authmethods: [method], authid: user, authextra, onChallenge: sign ? sign(secret) : () => secret };
}

export function autobahnClient(serializer) {
  if (options.compression) globalThis.WebSocket = compressingWebSocket();
  globalThis.WebSocket ??= require('ws').WebSocket; // Node has one of its own from version 22
  // An address of HTTP is where it polls.
  const polls = options.url.startsWith('http');
  if (polls) globalThis.XMLHttpRequest = XMLHttpRequest;
  const autobahn = require('autobahn');
  const { JSONSerializer, MsgpackSerializer, CBORSerializer } = autobahn.serializer;
  const Kind = { json: JSONSerializer, msgpack: MsgpackSerializer, cbor: CBORSerializer }[serializer];
  const refuse = (error) => { throw new Refusal(error.error, error.args, error.kwargs); };
  const plainResult = (result) => (result instanceof autobahn.Result ? { args: result.args, kwargs: result.kwargs }
    : { args: result === null ? [] : [result], kwargs: {} });

  return {
    name: 'autobahn', canIncludeItself: true, tellsReason: true, sendsEmptyLists: true, canEndPatterns: true,
    // After CANCEL in another mode than this it rejects the call by itself, and takes the router's ERROR for a violation.
    cancels: ['kill'], sendsAnyOption: true, retains: true, passesThrough: false, hearsRevocations: true,
    tellsTrust: false, // it picks from the details what it knows
    connect: (realm = REALM, login = nextLogin()) => new Promise((resolve, reject) => {
      const quiet = () => {};
      const connection = new autobahn.Connection({
        ...(polls ? { transports: [{ type: 'longpoll', url: options.url }] } : { url: options.url }), realm, max_retries: 0, on_user_error: quiet, on_internal_error: reject,
        serializers: [new Kind()],
        ...(login && autobahnLogin(autobahn, login)),
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
            }, event.topic, event), wanted)
            .catch(refuse);
          return {
            id: subscription.id, unsubscribe: () => session.unsubscribe(subscription), whenTaken: subscription.on_unsubscribe,
          };
        },
        publish: async (topic, args, kwargs, wanted = {}) => {
          const publication = await session.publish(topic, args, kwargs, { acknowledge: true, ...wanted }).catch(refuse);
          return publication.id;
        },
        publishQuietly: (topic, args, kwargs) => { session.publish(topic, args, kwargs); },
        call: async (procedure, args, kwargs, wanted = {}, onProgress = undefined) => {
          const options = onProgress ? { ...wanted, receive_progress: true } : wanted;
          return plainResult(await session.call(procedure, args, kwargs, options)
            .then(undefined, refuse, onProgress && ((part) => onProgress(plainResult(part)))));
        },
        start: (procedure) => {
          const call = session.call(procedure);
          return { answer: call.then(plainResult, refuse), cancel: (mode) => call.cancel({ mode }) };
        },
        register: async (procedure, endpoint, wanted) => {
          const registration = await session.register(procedure, async (args, kwargs, invocation) => {
            try {
              const { procedure: name, caller, progress } = invocation;
              const result = await endpoint(args ?? [], kwargs ?? {}, { procedure: name, caller, progress });
              return new autobahn.Result(result.args, result.kwargs);
            } catch (error) {
              throw error instanceof Refusal ? new autobahn.Error(error.uri, error.args, error.kwargs) : error;
            }
          }, wanted).catch(refuse);
          return { unregister: () => registration.unregister(), whenTaken: registration.on_unregister };
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

export async function wampyClient(serializer) {
  const load = (file) => import(pathToFileURL(path.join(modules, 'wampy/dist/esm', file)));
  const { Wampy } = await load('wampy.js');
  const { JsonSerializer } = await load('serializers/json-serializer.js');
  const { MsgpackSerializer } = await load('serializers/msgpack-serializer.js');
  const { CborSerializer } = await load('serializers/cbor-serializer.js');
  const signers = {
    wampcra: (await load('auth/wampcra/wampy-cra.js')).sign, cryptosign: (await load('auth/cryptosign/wampy-cryptosign.js')).sign,
  };
  const Kind = { json: JsonSerializer, msgpack: MsgpackSerializer, cbor: CborSerializer }[serializer];
  const Socket = options.compression ? compressingWebSocket() : require('websocket').w3cwebsocket;
  const refuse = (error) => {
    throw error.errorUri ? new Refusal(error.errorUri, error.argsList, error.argsDict) : error;
  };
  const plainResult = ({ argsList, argsDict }) => ({ args: argsList ?? [], kwargs: argsDict ?? {} });
  // wampy leaves out what is not there; both empty and absent are right.
  const payload = (args, kwargs) => (args || kwargs ? { argsList: args ?? [], argsDict: kwargs } : undefined);

  return {
    name: 'wampy', cancels: ['skip', 'kill', 'killnowait', undefined], passesThrough: true,
    sendsAnyOption: false, hearsRevocations: false, tellsTrust: true,
    retains: false, // it checks the option and does not send it
    // it never sends `exclude_me: false`, nor an empty list
    canIncludeItself: false, tellsReason: false, sendsEmptyLists: false,
    canEndPatterns: false, // at UNSUBSCRIBED it has forgotten how the topic was meant; it unregisters no URI with `..`
    connect: async (realm = REALM, login = nextLogin()) => {
      let closed;
      const whenClosed = new Promise((done) => { closed = done; });
      const wampy = new Wampy(options.url, {
        realm, ws: Socket, autoReconnect: false,
        serializer: new Kind(),
        payloadSerializers: { json: new JsonSerializer(), msgpack: new MsgpackSerializer(), cbor: new CborSerializer() },
        ...(login && wampyLogin(login, signers)),
        onClose: () => { open.delete(face); closed('closed'); },
      });
      const face = {
        subscribe: async (topic, handler, wanted) => {
          const { subscriptionId } = await wampy
            .subscribe(topic, ({ argsList, argsDict, details }) => handler(argsList ?? [], argsDict ?? {}, undefined, {
              id: details.publisher, authid: details.publisher_authid, authrole: details.publisher_authrole,
            }, details.topic, details), wanted)
            .catch(refuse);
          return { id: subscriptionId, unsubscribe: () => wampy.unsubscribe(subscriptionId) };
        },
        publish: async (topic, args, kwargs, wanted) => {
          const { publicationId } = await wampy.publish(topic, payload(args, kwargs), wanted).catch(refuse);
          return publicationId;
        },
        publishQuietly: (topic, args, kwargs) => { wampy.publish(topic, payload(args, kwargs)).catch(() => {}); },
        call: async (procedure, args, kwargs, wanted = {}, onProgress = undefined) => {
          const options = onProgress ? { ...wanted, progress_callback: (part) => onProgress(plainResult(part)) } : wanted;
          return plainResult(await wampy.call(procedure, payload(args, kwargs), options).catch(refuse));
        },
        start: (procedure) => {
          const answer = wampy.call(procedure).then(plainResult, refuse);
          const { reqId } = wampy.getOpStatus();
          return { answer, cancel: (mode) => wampy.cancel(reqId, mode && { mode }) };
        },
        register: async (procedure, endpoint, wanted) => {
          await wampy.register(procedure, async ({ details, argsList, argsDict, result_handler: answer }) => {
            const progress = (args, kwargs) => answer({ ...payload(args, kwargs), options: { progress: true } });
            const { procedure: name, caller, trustlevel } = details;
            try {
              // It announces nothing of parts, so it is not told whether they are wanted, and sends them all the same.
              const told = { procedure: name, caller, trustlevel, progress };
              const result = await endpoint(argsList ?? [], argsDict ?? {}, told);
              const packed = payload(result.args, result.kwargs);
              return result.options ? { ...packed, options: result.options } : packed;
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
