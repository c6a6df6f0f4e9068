// Cases of payload passthru, by a client that packs and unpacks by what is said of the payload: { feature: { case: check } }.

import assert from 'node:assert/strict';
import { joinMany, options, refused, skip, subscribe } from './support.mjs';

/** What is said of payloads that the client can pack in this session: it makes no binary of bytes in JSON. */
function attributes() {
  const serializers = options.serializer === 'json' ? ['json'] : ['json', 'msgpack', 'cbor'];
  return [
    { ppt_scheme: 'mqtt' },
    { ppt_scheme: 'x_other', ppt_serializer: 'native', ppt_keyid: 'key' },
    ...serializers.map((name) => ({ ppt_scheme: 'x_own', ppt_serializer: name, ppt_cipher: 'none', ppt_keyid: 'a\n"é' })),
    ...(serializers.includes('cbor') ? [{ ppt_scheme: 'wamp', ppt_serializer: 'cbor' }] : []),
  ];
}

const ARGS = [1, 'two', [3]];
const KWARGS = { four: { five: 6 } };

export const CASES = {
  payload_passthru_mode: {
    async events_say_how_their_payload_is_packed(client) {
      if (!client.passesThrough) skip('it has no payload passthru');
      const [publisher, ...subscribers] = await joinMany(client, 4);
      const inboxes = await Promise.all(subscribers.map((session) => subscribe(session, 'com.fanwire.js.ppt')));
      for (const said of attributes()) {
        await publisher.publish('com.fanwire.js.ppt', ARGS, KWARGS, said);
        for (const inbox of inboxes) {
          const { args, kwargs, details } = await inbox.next();
          assert.deepEqual([args, kwargs], [ARGS, KWARGS]);
          for (const name of ['ppt_scheme', 'ppt_serializer', 'ppt_cipher', 'ppt_keyid']) {
            assert.equal(details[name], said[name], name);
          }
        }
      }
    },

    async calls_and_results_say_it_too(client) {
      if (!client.passesThrough) skip('it has no payload passthru');
      const [callee, caller] = await joinMany(client, 2);
      for (const [index, said] of attributes().entries()) {
        const procedure = `com.fanwire.js.ppt.${index}`;
        await callee.register(procedure, (args, kwargs) => ({ args: [args, 'back'], kwargs, options: said }));
        const { args, kwargs } = await caller.call(procedure, ARGS, KWARGS, said);
        assert.deepEqual([args, kwargs], [[ARGS, 'back'], KWARGS]);
      }
    },

    async nobody_is_asked_in_vain(client) {
      if (!client.passesThrough) skip('it has no payload passthru');
      const [caller] = await joinMany(client, 1);
      const [said] = attributes();
      await refused(caller.call('com.fanwire.js.ppt.nobody', ARGS, KWARGS, said), 'wamp.error.no_such_procedure');
      await refused(caller.call('wamp.session.count', [], {}, said), 'wamp.error.feature_not_supported');
    },
  },
};
