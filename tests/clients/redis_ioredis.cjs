// The client of npm's ioredis at the Redis port, with its ready check, as it comes.
const assert = require("node:assert");
const { once } = require("node:events");
const Redis = require("ioredis");

const port = Number(process.argv[process.argv.indexOf("--port") + 1]);
const failed = (error) => {
  console.error(error);
  process.exit(1);
};

async function main() {
  const publisher = new Redis(port);
  const subscriber = new Redis(port);
  for (const client of [publisher, subscriber]) client.on("error", failed);
  await Promise.all([publisher, subscriber].map((client) => once(client, "ready")));
  assert.equal(await publisher.ping(), "PONG");
  assert.equal(await subscriber.subscribe("channel", "other"), 2);
  assert.equal(await subscriber.psubscribe("n.*"), 3);
  const heard = [];
  const expected = 1002;
  const all = new Promise((resolve) => {
    const hear = (...message) => heard.push(message) === expected && resolve();
    subscriber.on("message", hear);
    subscriber.on("pmessage", hear);
  });
  assert.equal(await publisher.publish("channel", "data from Node"), 1);
  assert.equal(await publisher.publish("n.x", "by pattern"), 1);
  const counts = await Promise.all(Array.from({ length: 1000 }, (_, number) => publisher.publish("other", `${number}`)));
  assert.deepEqual(new Set(counts), new Set([1]));
  await all;
  assert.deepEqual(heard[0], ["channel", "data from Node"]);
  assert.deepEqual(heard[1], ["n.*", "n.x", "by pattern"]);
  heard.slice(2).forEach((message, number) => assert.deepEqual(message, ["other", `${number}`]));
  // Not awaited one by one: left and entered again is subscribed.
  const [left, entered] = await Promise.all([subscriber.unsubscribe("channel"), subscriber.subscribe("channel")]);
  assert.deepEqual([left, entered], [2, 3]);
  const once_more = once(subscriber, "message");
  assert.equal(await publisher.publish("channel", "again"), 1);
  assert.deepEqual(await once_more, ["channel", "again"]);
  await Promise.all([publisher.quit(), subscriber.quit()]);
}

setTimeout(() => failed(new Error("no answer in time")), 60_000).unref();
main().catch(failed);
