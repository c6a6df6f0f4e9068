// The console of a page in headless Chromium. Each line of input is a JSON string: JavaScript that the page evaluates. Each line
// of output is a JSON string: what the page's console says. It ends with its input.
//
//   node console.mjs CHROMIUM FOLDER
//
// FOLDER is where the browser may write.

import { spawn } from "node:child_process";
import { createInterface } from "node:readline";

const [program, folder] = process.argv.slice(2);
const browser = spawn(program, [
  "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run",
  `--user-data-dir=${folder}`, "--remote-debugging-pipe",
], { stdio: ["ignore", "ignore", "inherit", "pipe", "pipe"] });
const [, , , toBrowser, fromBrowser] = browser.stdio;
browser.on("exit", (status) => process.exit(status ?? 1));

/** Who waits for which answer. */
const waiting = new Map();
let last = 0;

function ask(method, params = {}, sessionId = undefined) {
  last += 1;
  toBrowser.write(JSON.stringify({ id: last, method, params, sessionId }) + "\0");
  return new Promise((resolve, reject) => waiting.set(last, { resolve, reject }));
}

function hear({ id, result, error, method, params }) {
  if (id !== undefined) {
    const { resolve, reject } = waiting.get(id);
    waiting.delete(id);
    return error ? reject(new Error(error.message)) : resolve(result);
  }
  if (method === "Runtime.consoleAPICalled") {
    say(params.args.map((value) => value.value ?? value.description ?? "").join(" "));
  } else if (method === "Runtime.exceptionThrown") {
    say(params.exceptionDetails.exception?.description ?? params.exceptionDetails.text);
  }
}

function say(text) {
  process.stdout.write(JSON.stringify(String(text)) + "\n");
}

// Messages end with a zero byte.
let rest = Buffer.alloc(0);
fromBrowser.on("data", (bytes) => {
  rest = Buffer.concat([rest, bytes]);
  for (let end = rest.indexOf(0); end >= 0; end = rest.indexOf(0)) {
    hear(JSON.parse(rest.subarray(0, end).toString()));
    rest = rest.subarray(end + 1);
  }
});

const { targetId } = await ask("Target.createTarget", { url: "about:blank" });
const { sessionId } = await ask("Target.attachToTarget", { targetId, flatten: true });
await ask("Runtime.enable", {}, sessionId);
for await (const line of createInterface({ input: process.stdin })) {
  const expression = JSON.parse(line);
  const { exceptionDetails } = await ask("Runtime.evaluate", { expression, replMode: true }, sessionId);
  if (exceptionDetails) say(exceptionDetails.exception?.description ?? exceptionDetails.text);
}
browser.kill();
