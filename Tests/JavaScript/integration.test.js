// The client over real sockets: Debian's `ws` (apt-get install node-ws) on both sides, and the server of world.js behind it.
// A `ws` in a node_modules above, or in NODE_PATH, comes first.

import assert from "node:assert/strict";
import { once } from "node:events";
import { createRequire } from "node:module";
import { after, test } from "node:test";
import { Holdfast } from "../../clients/js/holdfast.js";
import { Gateway } from "./gateway.js";
import { Server } from "./world.js";

function load(name) {
  const require = createRequire(import.meta.url);
  for (const path of [name, `/usr/share/nodejs/${name}`]) {
    try {
      return require(path);
    } catch (error) {
      if (error.code !== "MODULE_NOT_FOUND") throw error;
    }
  }
  throw new Error(`${name} is missing: apt-get install node-${name}`);
}

const { WebSocket, WebSocketServer } = load("ws");
const DEADLINE_MS = 10_000;
const closers = [];
after(() => Promise.all(closers.map((close) => close())));

/** Waits for it, with a deadline. */
async function until(condition, what) {
  const end = performance.now() + DEADLINE_MS;
  while (!condition()) {
    if (performance.now() > end) throw new Error(`waited in vain for ${what}`);
    await new Promise(setImmediate);
  }
}

function serverOf(settings) {
  const clock = {
    get now() {
      return Math.floor(performance.now());
    },
    after: (ms, action) => setTimeout(action, ms).unref(), // nobody waits for a session to expire
    at: (time, action) => clock.after(time - performance.now(), action),
  };
  const heartbeat = { interval: 4, hidden_interval: 25, timeout: 5 };
  return new Server(clock, () => 0.1, { history: 1_000, ttl: 60_000, outbox: 10_000, heartbeat, spread: 0.02, ...settings });
}

/** A gateway on a port of its own. */
async function listen(settings) {
  const server = serverOf(settings);
  const sockets = new WebSocketServer({ port: 0, host: "127.0.0.1" });
  sockets.on("connection", (socket) => {
    const transport = {
      session: null,
      heardAt: 0,
      down: { send: (deliver) => deliver() },
      received: (text) => socket.readyState === WebSocket.OPEN && socket.send(text),
      closed: (code) => socket.close(code),
    };
    socket.on("message", (data) => server.receive(transport, String(data)));
    socket.on("close", () => server.gone(transport));
    socket.on("error", () => {});
  });
  await once(sockets, "listening");
  const { port } = sockets.address();
  closers.push(() => {
    for (const socket of sockets.clients) socket.terminate();
    return new Promise((resolve) => sockets.close(resolve));
  });
  const cut = () => sockets.clients.forEach((socket) => socket.terminate());
  return { server, cut, port, url: `http://127.0.0.1:${port}/socket` };
}

async function connect(url, options) {
  const client = new Holdfast(url, { WebSocket, random: () => 0.01, ...options }); // a short backoff
  closers.push(() => client.close());
  const errors = [];
  client.on("error", (error) => errors.push(error));
  await until(() => client.state === "connected" || errors.length, "the connection");
  assert.deepEqual(errors, []);
  return { client, errors };
}

test("events over real sockets, through cuts, a lost session and a drain: once and in order", async () => {
  const { server, cut, url } = await listen();
  const { client, errors } = await connect(url);
  const told = [];
  client.on("recovered", ({ by }) => told.push(by)).on("gap", (gap) => told.push(gap));
  const calls = client.subscribe("calls.a");
  const seen = [];
  calls.on("message", ({ data }) => seen.push(data));
  await calls.ready();
  const replies = [];
  const troubles = [cut, cut, () => server.forget(), () => server.forget(1001), cut];
  for (let round = 0; round < troubles.length; round++) {
    for (let i = 0; i < 20; i++) server.publish("calls.a");
    replies.push(calls.message(round));
    troubles[round]();
    for (let i = 0; i < 20; i++) server.publish("calls.a");
    await until(() => client.state !== "connected", "the cut");
    await until(() => client.state === "connected" && seen.length === 40 * (round + 1), `the events of round ${round}`);
  }
  const [session] = server.sessions.values();
  server.write(session.transport, { event: "goaway", reason: "drain", retry_after: [0, 0.02] });
  const before = session.transport;
  await until(() => session.transport && session.transport !== before, "the move");
  for (let i = 0; i < 20; i++) server.publish("calls.a");
  await until(() => seen.length === 220, "the events after the move");
  assert.deepEqual(seen, seen.map((_, i) => i));
  await Promise.all(replies);
  assert.deepEqual(new Set(server.executed.map(({ id }) => id)).size, troubles.length);
  assert.ok(told.includes("session") && told.includes("position"), String(told));
  assert.ok(told.every((item) => typeof item === "string"), "no gap");
  assert.deepEqual(errors, []);
});

test("the history is too short: a gap with the right numbers", async () => {
  const { server, url } = await listen({ history: 5 });
  const { client } = await connect(url);
  const calls = client.subscribe("calls.a");
  const seen = [];
  calls.on("message", ({ offset }) => seen.push(offset)).on("gap", ({ after, next, missing }) => seen.push({ after, next, missing }));
  await calls.ready();
  server.publish("calls.a");
  await until(() => seen.length === 1, "the first event");
  server.forget();
  for (let i = 0; i < 20; i++) server.publish("calls.a");
  await until(() => seen.length === 7, "the rest");
  assert.deepEqual(seen, [1, { after: 1, next: 17, missing: 15 }, 17, 18, 19, 20, 21]);
});

test("a refused connection is tried again; 4003 ends it; a socket that is being opened can be closed", async () => {
  const { server, port, url } = await listen();
  const { client, errors } = await connect(url);
  const [session] = server.sessions.values();
  server.end(session, 4003);
  await until(() => client.state === "closed", "the end");
  assert.deepEqual(errors.map(({ code }) => code), ["forbidden"]);

  const refused = new Holdfast(`ws://127.0.0.1:${port === 1 ? 2 : 1}/`, { WebSocket, maxAttempts: 2, random: () => 0 });
  const codes = [];
  refused.on("error", ({ code }) => codes.push(code));
  await until(() => refused.state === "closed", "two refused attempts");
  assert.deepEqual(codes, ["max_attempts"]);

  // `ws` emits an error for a socket that is closed before it is open: nobody may be hit by it.
  const hasty = new Holdfast(url, { WebSocket, autoConnect: false });
  hasty.connect().close();
  assert.equal(hasty.state, "closed");
});

/** A gateway behind what lets no WebSocket through, until it does. */
async function behindProxy() {
  const gateway = await new Gateway(serverOf()).listen();
  closers.push(() => gateway.close());
  const sockets = new WebSocketServer({ noServer: true });
  let open = false;
  gateway.http.on("upgrade", (request, socket, head) => {
    if (open) sockets.handleUpgrade(request, socket, head, (webSocket) => gateway.attach(webSocket));
    else socket.end("HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n");
  });
  closers.push(() => sockets.clients.forEach((socket) => socket.terminate()));
  return { gateway, url: `http://127.0.0.1:${gateway.port}/socket`, letWebSocketsThrough: () => (open = true) };
}

/** Publishes and sends while `trouble` happens, and wants it all, once and in order. */
async function carry(client, { gateway }, trouble) {
  const { server } = gateway;
  const calls = client.subscribe("calls.a");
  const seen = [];
  calls.on("message", ({ data }) => seen.push(data));
  await calls.ready();
  const replies = [];
  const flow = async (count) => {
    for (let i = 0; i < count; i++) {
      server.publish("calls.a");
      replies.push(calls.message(i));
      if (i % 5 === 0) await new Promise(setImmediate);
    }
  };
  const expected = server.topic("calls.a").all.length;
  await flow(30);
  await trouble();
  await flow(30);
  await until(() => seen.length >= 60, "all events");
  await Promise.all(replies);
  assert.deepEqual(seen, Array.from({ length: 60 }, (_, i) => expected + i));
  assert.equal(server.executed.length, 60);
}

test("no WebSocket gets through: the event stream, through a cut; then a WebSocket takes over", async () => {
  const proxy = await behindProxy();
  const { client, errors } = await connect(proxy.url);
  assert.equal(client.stats().transport, "stream");
  await carry(client, proxy, async () => {
    proxy.gateway.http.closeAllConnections();
    await new Promise(setImmediate);
    proxy.letWebSocketsThrough();
    client.probe();
    await until(() => client.stats().transport === "websocket", "the move");
  });
  assert.equal(client.stats().sessions, 1);
  assert.ok(proxy.gateway.requests.every(({ path }) => !path.includes("secret")));
  assert.deepEqual(errors, []);
});

test("streams are held back too: long polls", async () => {
  const proxy = await behindProxy();
  proxy.gateway.intercept = ({ path }) => path.includes("/stream");
  const { client, errors } = await connect(proxy.url);
  await until(() => proxy.gateway.requests.some(({ path }) => path.includes("/poll")), "a poll");
  await carry(client, proxy, async () => proxy.gateway.http.closeAllConnections());
  assert.equal(client.stats().transport, "poll");
  assert.equal(client.stats().sessions, 1);
  assert.deepEqual(errors, []);
});
