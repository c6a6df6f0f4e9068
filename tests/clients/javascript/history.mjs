// Cases of event history: { feature: { case: check } }. The routers keep what is published below `com.fanwire.history.`.

import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import { joinMany, pause, refused, subscribe } from './support.mjs';

const GET = 'wamp.subscription.get_events';

/** Publishes so many events, in turn to these topics; the mark by which they are found among those of other runs. */
async function published(publisher, topics, count = 5) {
  const mark = randomUUID();
  for (let n = 0; n < count; n += 1) {
    await publisher.publish(topics[n % topics.length], [mark, n], { k: [n] });
    await pause(20); // so that their times differ
  }
  return mark;
}

/** What the history has of this mark. */
async function kept(session, id, mark, filters = {}) {
  const { args: [events] } = await session.call(GET, [id], { limit: 1000, ...filters });
  return events.filter(({ args }) => args[0] === mark);
}

const numbers = (events) => events.map(({ args }) => args[1]);

export const CASES = {
  event_history: {
    async events_are_told_in_their_order(client) {
      const topic = 'com.fanwire.history.plain';
      const [publisher, reader] = await joinMany(client, 2);
      const mark = await published(publisher, [topic]); // nobody was there to hear it
      const { subscription: { id } } = await subscribe(reader, topic);
      const events = await kept(publisher, id, mark);
      assert.deepEqual(events.map(({ args }) => args), [0, 1, 2, 3, 4].map((n) => [mark, n]));
      assert.deepEqual(events.map(({ kwargs }) => kwargs), [0, 1, 2, 3, 4].map((n) => ({ k: [n] })));
      for (const { subscription } of events) assert.equal(Number(subscription), Number(id));
    },

    async events_are_chosen_by_count_publication_and_time(client) {
      const topic = 'com.fanwire.history.chosen';
      const [publisher, reader] = await joinMany(client, 2);
      const mark = await published(publisher, [topic]);
      const { subscription: { id } } = await subscribe(reader, topic);
      const newest = await kept(reader, id, mark, { limit: 5, reverse: true });
      assert.deepEqual(numbers(newest), [4, 3, 2, 1, 0], 'the newest first');
      const [ids, times] = ['publication', 'timestamp'].map((name) => newest.map((event) => event[name]).reverse());
      for (const [filters, wanted] of [
        [{ from_publication: ids[0], limit: 2 }, [0, 1]],
        [{ reverse: true, limit: 2 }, [4, 3]],
        [{ after_publication: ids[1] }, [2, 3, 4]],
        [{ from_publication: ids[1], until_publication: ids[3] }, [1, 2, 3]],
        [{ after_publication: ids[1], before_publication: ids[3] }, [2]],
        [{ from_time: times[3] }, [3, 4]],
        [{ after_time: times[3] }, [4]],
        [{ from_time: times[0], before_time: times[2] }, [0, 1]],
        [{ from_time: times[0], until_time: times[2] }, [0, 1, 2]],
      ]) {
        assert.deepEqual(numbers(await kept(reader, id, mark, filters)), wanted, Object.keys(filters).join());
      }
    },

    async patterns_have_the_history_of_their_topics(client) {
      const prefix = 'com.fanwire.history.many';
      const topics = [`${prefix}.a`, `${prefix}.b`];
      const [publisher, reader] = await joinMany(client, 2);
      const mark = await published(publisher, topics);
      const { subscription: { id } } = await subscribe(reader, prefix, { match: 'prefix' });
      const newest = await kept(reader, id, mark, { limit: 5, reverse: true });
      assert.deepEqual(newest.map(({ args, details }) => [args[1], details.topic]), [4, 3, 2, 1, 0].map((n) => [n, topics[n % 2]]));
      assert.deepEqual(numbers(await kept(reader, id, mark, { topic: topics[1] })), [1, 3], 'of one topic');
    },

    async who_could_not_hear_it_is_not_told(client) {
      const topic = 'com.fanwire.history.listed';
      const [publisher, reader] = await joinMany(client, 2);
      const { subscription: { id } } = await subscribe(reader, topic);
      const mark = randomUUID();
      const lists = [
        {}, { eligible_authrole: ['nobody'] }, { exclude_authid: [reader.authid] }, { eligible_authid: [reader.authid] },
      ];
      for (const [n, list] of lists.entries()) await publisher.publish(topic, [mark, n], undefined, list);
      assert.deepEqual(numbers(await kept(reader, id, mark)), [0, 3]);
    },

    async there_is_no_history_of_what_is_no_subscription(client) {
      const [reader] = await joinMany(client, 1);
      await refused(reader.call(GET, [2 ** 53 - 1]), 'wamp.error.no_such_subscription');
    },
  },
};
