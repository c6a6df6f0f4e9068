// A live room: two clients of npm's ws, or the client's program of the tutorial twice, with ws in the place of the browser's WebSocket.
//
//     node live_room.mjs ws|node --url ws://127.0.0.1:1234

import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { join } from "node:path";
import vm from "node:vm";

const require = createRequire(join(process.env.FANWIRE_NODE_MODULES, "of.js"));
const WebSocket = require("ws");

const [where, flag, url] = process.argv.slice(2);
if (flag !== "--url" || !url) throw new Error("use: live_room.mjs ws|node --url URL");

const PATIENCE = 60_000;
const HELLO = "RECEIVED: hello world!";
const program = readFileSync(new URL("live_room.js", import.meta.url), "utf8").trim().split("\n");
// The last line sends, which nobody can before the connection is open: in a console it is typed later.
const send = program.pop();
const setUp = program.join("\n").replace("ws://localhost:1234", url);

function fail(words) {
  console.error(words);
  process.exit(1);
}
setTimeout(() => fail("it took too long"), PATIENCE).unref();

/** Lines that come, and who waits for one. */
class Lines {
  #heard = [];
  #waiting = [];

  say(line) {
    this.#heard.push(line);
    this.#waiting = this.#waiting.filter(({ wanted, done }) => line !== wanted || done());
  }

  async expect(wanted) {
    const seen = this.#heard.includes(wanted);
    if (!seen) await new Promise((resolve) => this.#waiting.push({ wanted, done: () => void resolve() }));
    console.log(`  ${wanted}`);
  }

  get all() {
    return this.#heard;
  }
}

/** Two consoles in which the program was typed: both hear what is sent in the first. */
async function chat(consoles) {
  for (const { evaluate } of consoles) await evaluate(setUp);
  for (const { lines } of consoles) await lines.expect("Connected to WebSocket server.");
  await consoles[0].evaluate(send);
  for (const { lines } of consoles) await lines.expect(`Retrieved data from server: ${HELLO}`);
  for (const { lines } of consoles) {
    if (lines.all.length !== 2) fail(`more was said: ${JSON.stringify(lines.all)}`);
  }
}

async function inWs() {
  const clients = [new WebSocket(url), new WebSocket(url)];
  const heard = clients.map((client) => new Promise((resolve, reject) => {
    client.on("error", reject);
    client.on("message", (data, isBinary) => resolve([data.toString(), isBinary]));
  }));
  await Promise.all(clients.map((client) => new Promise((resolve) => client.on("open", resolve))));
  clients[0].send("hello world!");
  for (const [text, isBinary] of await Promise.all(heard)) {
    if (text !== HELLO || isBinary) fail(`heard ${JSON.stringify(text)}, binary: ${isBinary}`);
  }
}

async function inNode() {
  const consoles = [0, 1].map(() => {
    const lines = new Lines();
    const context = vm.createContext({ WebSocket, console: { log: (line) => lines.say(line) } });
    return { lines, evaluate: async (code) => vm.runInContext(code, context) };
  });
  await chat(consoles);
}

await { ws: inWs, node: inNode }[where]();
process.exit(0);
