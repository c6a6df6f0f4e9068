// As much of XMLHttpRequest as `autobahn` needs to poll, which it does in browsers: over node's own client.
//
// A browser sends on several connections at once, so messages of one session may overtake each other. Here each path of a session has
// a connection of its own, and they do not.

import { Agent, request } from 'node:http';

const agents = new Map();
const agentOf = (url) => {
  if (!agents.has(url)) agents.set(url, new Agent({ keepAlive: true, maxSockets: 1 }));
  return agents.get(url);
};

export class XMLHttpRequest {
  open(method, url) {
    this.request = request(url, { method, agent: agentOf(url) });
  }

  setRequestHeader(name, value) {
    this.request.setHeader(name, value);
  }

  send(body = '') {
    const done = (status, text) => {
      Object.assign(this, { readyState: 4, status, statusText: String(status), responseText: text });
      this.onreadystatechange();
    };
    this.request.setTimeout(this.timeout, () => this.ontimeout?.());
    this.request.on('error', () => done(0, ''));
    this.request.on('response', (response) => {
      const pieces = [];
      response.on('data', (piece) => pieces.push(piece));
      response.on('end', () => done(response.statusCode, Buffer.concat(pieces).toString()));
    });
    this.request.end(body);
  }
}
