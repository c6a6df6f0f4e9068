// Cases of logging in as a user that the routers are configured with: { feature: { case: check } }.

import assert from 'node:assert/strict';
import { REALM, skip } from './support.mjs';

// Of `routers/fanwire.toml` and `routers/crossbar.json`.
const KEY = '5bbde0d00449d62b735105c169232c9587314a2d879f2495f7309930c6c2410e';
const OTHER_KEY = '42'.repeat(32);
// The third is what the specification once had.
const DENIED = ['wamp.error.authentication_denied', 'wamp.error.authentication_failed', 'wamp.error.not_authorized'];

async function welcomed(client, method, user, secret) {
  const { details } = await client.connect(REALM, { method, user, secret });
  assert.deepEqual([details.authid, details.authrole, details.authmethod], [user, 'member', method]);
}

async function refused(client, method, ...logins) {
  for (const [user, secret] of logins) {
    const error = await client.connect(REALM, { method, user, secret }).then(() => undefined, (refusal) => refusal);
    assert.ok(error, `${user} was let in`);
    assert.ok(DENIED.some((reason) => String(error.uri ?? error).includes(reason)), `${user}: ${error.uri ?? error}`);
  }
}

export const CASES = {
  ticket: {
    async a_ticket_lets_its_user_in(client) {
      await welcomed(client, 'ticket', 'ann', 'her ticket');
    },

    async another_ticket_lets_nobody_in(client) {
      await refused(client, 'ticket', ['ann', 'another'], ['nobody', 'her ticket']);
    },
  },

  wampcra: {
    async a_salted_secret_lets_its_user_in(client) {
      await welcomed(client, 'wampcra', 'ann', 'her secret');
    },

    async a_secret_without_salt_lets_its_user_in(client) {
      await welcomed(client, 'wampcra', 'plain', 'a secret');
    },

    async another_secret_lets_nobody_in(client) {
      await refused(client, 'wampcra', ['ann', 'another'], ['nobody', 'her secret']);
    },
  },

  'wamp-scram': {
    async a_password_lets_its_user_in(client) {
      skip('it has no SCRAM');
    },
  },

  cryptosign: {
    async a_key_lets_its_user_in(client) {
      await welcomed(client, 'cryptosign', 'ann', KEY);
    },

    async another_key_lets_nobody_in(client) {
      await refused(client, 'cryptosign', ['ann', OTHER_KEY], ['nobody', KEY]);
    },
  },
};
