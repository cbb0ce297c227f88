// Lines over HTTP: the driver with a scripted machine, against the gateway of gateway.js and against answers made by hand.

import assert from "node:assert/strict";
import { after, test } from "node:test";
import { Driver, loadFallback } from "../../clients/js/holdfast.js";
import { Gateway } from "./gateway.js";
import { Server } from "./world.js";

await loadFallback();

const DEADLINE_MS = 5_000;
const closers = [];
after(() => Promise.all(closers.map((close) => close())));

/** Waits for it, with a deadline. */
async function until(condition, what) {
  const end = performance.now() + DEADLINE_MS;
  for (let value; !(value = condition()); ) {
    if (performance.now() > end) throw new Error(`waited in vain for ${what}`);
    await new Promise(setImmediate);
  }
}

async function listen() {
  const clock = { now: 0, after: (ms, action) => ms === 0 && action(), at() {} };
  const heartbeat = { interval: 4, hidden_interval: 25, timeout: 5 };
  const gateway = await new Gateway(new Server(clock, () => 0, { history: 100, outbox: 1_000, ttl: 60_000, heartbeat })).listen();
  closers.push(() => gateway.close());
  return gateway;
}

/** A driver whose machine does what the test says, and notes what it is told. */
function drive(url, options = {}) {
  const inputs = [];
  const errors = [];
  let actions = [];
  let received = 0;
  const machine = {
    handle(input) {
      inputs.push(input);
      return actions.splice(0);
    },
    stats: () => ({ received }),
  };
  const driver = new Driver(machine, {
    url: `${url}/socket`,
    fetch: globalThis.fetch,
    now: () => 0,
    prepare: async () => ({}),
    perform() {},
    report: (error) => errors.push(error),
    ...options,
  });
  /** The machine wants these. */
  const act = (...list) => {
    actions = list;
    driver.input({ type: "script" });
    inputs.splice(inputs.findIndex(({ type }) => type === "script"), 1);
  };
  const next = async (type, count = 1) => {
    const those = () => inputs.filter((input) => input.type === type);
    await until(() => those().length >= count, `${count} ${type} of ${JSON.stringify(inputs)}`);
    return those();
  };
  closers.push(() => act({ type: "close", line: 1 }));
  return { act, next, errors, take: () => inputs.splice(0), count: (n) => (received = n) };
}

const OPEN = { type: "open", line: 1, transport: "stream" };
const send = (event, seq) => ({ type: "send", line: 1, text: JSON.stringify(event), seq });
const HELLO = send({ event: "hello", version: 1 }, 1);
const LISTEN = { type: "listen", line: 1, transport: "stream", received: 1 };
const POLL = { type: "listen", line: 1, transport: "poll", received: 1, wait: 4 };
const subscribe = (seq = 1) => send({ event: "subscribe", subscription: "calls.a", id: "1" }, seq);
const told = (inputs) => inputs.map(({ type, text, code }) => (text === undefined ? code ?? type : JSON.parse(text).event));

/** A line with a session that is subscribed to calls.a. */
async function connect(options) {
  const gateway = await listen();
  const world = drive(`http://127.0.0.1:${gateway.port}`, options);
  world.act(OPEN);
  await world.next("opened");
  world.act(HELLO, subscribe());
  await world.next("heard");
  return { gateway, ...world, first: world.take() };
}

test("hello and what follows it in the same turn are one request; the reply's events come in order, then the count", async () => {
  const { gateway, first } = await connect();
  assert.deepEqual(told(first), ["opened", "hello", "subscribe", "ack", "heard"]);
  const [{ path, body, headers }] = gateway.requests;
  assert.equal(path, "/session");
  assert.deepEqual(body.map(({ event }) => event), ["hello", "subscribe"]);
  assert.equal(headers.authorization, undefined);
  assert.equal(gateway.requests.length, 1);
});

test("a stream: heard for a comment, a message each, the server's last word; the secret is in no URL", async () => {
  const { gateway, act, next, take } = await connect();
  act(LISTEN);
  await next("heard");
  gateway.server.publish("calls.a");
  gateway.server.publish("calls.a");
  await next("receive", 2);
  assert.deepEqual(take().slice(1).map(({ text }) => JSON.parse(text).offset), [1, 2]);
  gateway.server.forget(4008);
  assert.deepEqual((await next("closed")).map(({ line, code }) => [line, code]), [[1, 4008]]);
  assert.ok(gateway.requests.every(({ path }) => !path.includes("secret")));
  const { path, headers } = gateway.requests.at(-1);
  assert.match(path, /^\/session\/s1\/stream\?received=1$/);
  assert.equal(headers.authorization, "Holdfast secret");
});

test("what is sent in one turn is one batch, one request at a time, with the number of its first event", async () => {
  const { gateway, act, next, take } = await connect();
  act(send({ event: "ping", data: "1", received: 1 }, 2), send({ event: "message", subscription: "calls.a", id: "2" }, 2));
  act(send({ event: "message", subscription: "calls.a", id: "3" }, 3));
  await next("receive");
  assert.deepEqual(JSON.parse(take()[0].text), { event: "ack", received: 3 });
  assert.deepEqual(gateway.requests[1].body, { seq: 2, events: [{ event: "ping", data: "1", received: 1 }, { event: "message", subscription: "calls.a", id: "2" }, { event: "message", subscription: "calls.a", id: "3" }] });
  act(send({ event: "message", id: "4" }, 4));
  await until(() => gateway.requests.length === 3, "the request");
  act(send({ event: "message", id: "5" }, 5));
  act(send({ event: "message", id: "6" }, 6));
  await next("receive", 2);
  assert.deepEqual(gateway.requests.slice(2).map(({ body }) => body.seq), [4, 5]);
  assert.equal(gateway.server.sessions.get("s1").received, 6);
});

test("a big queue goes in several requests", async () => {
  const { gateway, act, next } = await connect();
  const big = "x".repeat(40_000);
  act(...[2, 3, 4, 5].map((n) => send({ event: "message", data: big }, n)));
  await next("receive", 2);
  assert.deepEqual(gateway.requests.slice(1).map(({ body }) => [body.seq, body.events.length]), [[2, 2], [4, 2]]);
});

test("a batch is repeated once after a failure, and counts once; then the line has failed", async () => {
  const { gateway, act, next, take } = await connect();
  let failures = 1;
  // The batch arrives; its answer does not.
  gateway.intercept = ({ path, body }, response) => {
    if (!path.endsWith("/send") || failures-- <= 0) return false;
    if (failures === 0) {
      const session = gateway.server.sessions.get("s1");
      for (const event of body.events) gateway.server.receive(session.transport, JSON.stringify(event));
    }
    response.destroy();
    return true;
  };
  act(send({ event: "message", subscription: "calls.a", id: "2" }, 2));
  await next("receive");
  assert.deepEqual(JSON.parse(take()[0].text), { event: "ack", received: 2 });
  assert.equal(gateway.server.executed.length, 1);
  for (const status of [502, 504]) {
    const other = await connect();
    other.gateway.intercept = ({ path }, response) => path.endsWith("/send") && (response.writeHead(status).end("<html>"), true);
    other.act(send({ event: "message", id: "2" }, 2));
    assert.equal((await other.next("closed"))[0].code, 1006);
    assert.deepEqual(other.gateway.take().length, 3);
  }
});

test("what opens a session is not repeated", async () => {
  const gateway = await listen();
  gateway.intercept = (_, response) => (response.writeHead(502).end(), true);
  const { act, next } = drive(`http://127.0.0.1:${gateway.port}`);
  act(OPEN);
  await next("opened");
  act(HELLO);
  assert.equal((await next("closed"))[0].code, 1006);
  assert.deepEqual(gateway.take(), ["POST /session"]);
});

test("a probe is a request of its own, hello another", async () => {
  const gateway = await listen();
  const { act, next, take } = drive(`http://127.0.0.1:${gateway.port}/deep/..`);
  act(OPEN);
  await next("opened");
  act(send({ event: "probe" }));
  await next("receive");
  act(HELLO);
  await next("receive", 2);
  assert.deepEqual(told(take()), ["opened", "probe", "heard", "hello", "heard"]);
  assert.deepEqual(gateway.take(), ["POST /session", "POST /session"]);
});

test("refusals: 503 and 429 with Retry-After, 413, 409, 404 and 400 with a word of ours, and pages of others", async () => {
  const date = new Date(Date.parse("2026-01-01T00:00:00Z")).toUTCString();
  const later = new Date(Date.parse("2026-01-01T00:00:30Z")).toUTCString();
  const unknown = { event: "hello", status: "error", error: "Unknown session.", code: "unknown_session" };
  const cases = [
    [503, { "retry-after": "7" }, "<html>", { code: 1006, retryAfter: 7 }],
    [503, { "retry-after": later, date }, "", { code: 1006, retryAfter: 30 }],
    [503, { "retry-after": date, date: later }, "", { code: 1006, retryAfter: 0 }],
    [503, {}, "", { code: 1006, retryAfter: undefined }],
    [429, { "retry-after": "1" }, "", { code: 4029, retryAfter: 1 }],
    [413, {}, "", { code: 1009, retryAfter: undefined }],
    [409, {}, JSON.stringify({ status: "error", error: "x", code: "replaced" }), { code: 4000 }],
    [409, {}, JSON.stringify({ status: "error", error: "x", code: "batch_missing", received: 1 }), { code: 1006 }],
    [404, {}, JSON.stringify(unknown), { code: 1006 }, unknown],
    [400, {}, JSON.stringify({ ...unknown, code: "unsupported_version" }), { code: 1006 }, { ...unknown, code: "unsupported_version" }],
    [404, {}, "<html>not here", { code: 1006 }],
    [200, {}, "<html>please log in", { code: 1006 }],
    [200, {}, "null", "ack"],
  ];
  for (const [status, headers, text, closed, event] of cases) {
    const { gateway, act, next, take } = await connect();
    gateway.intercept = (_, response) => (response.writeHead(status, headers).end(text), true);
    act(send({ event: "message", id: "2" }, 2));
    if (closed === "ack") {
      await next("receive");
      continue;
    }
    const [{ code, retryAfter }] = await next("closed");
    assert.deepEqual({ code, retryAfter }, { retryAfter: undefined, ...closed }, `${status} ${text}`);
    assert.deepEqual(take().filter(({ type }) => type === "receive").map(({ text }) => JSON.parse(text)), event ? [event] : []);
  }
});

test("a poll: events and heard, an empty answer, the last word, a cut, a newer one", async () => {
  const { gateway, act, next, take } = await connect();
  act(POLL);
  await until(() => gateway.requests.length === 2, "the poll");
  gateway.server.publish("calls.a");
  await next("heard");
  assert.deepEqual(told(take()), ["message", "heard"]);
  act({ ...POLL, received: 2, wait: 0.01 });
  await next("heard");
  assert.deepEqual(told(take()), ["heard"]);
  assert.deepEqual(gateway.requests.at(-1).body, { received: 2, wait: 0.01 });
  gateway.intercept = (_, response) => (response.destroy(), true);
  act(POLL);
  await next("cut");
  assert.deepEqual(told(take()), ["cut"]);
  gateway.intercept = (_, response) => (response.writeHead(504).end("<html>"), true);
  act(POLL);
  await next("cut");
  gateway.intercept = (_, response) => (response.end('{"events":7}'), true);
  act(POLL);
  await next("cut", 2);
  gateway.intercept = () => false;
  take();
  // The one that is replaced says nothing more, though it is answered.
  act({ ...POLL, received: 2 });
  await until(() => gateway.server.sessions.get("s1").transport.listener, "the poll");
  act({ ...LISTEN, received: 2 });
  await next("heard");
  gateway.server.forget(4008);
  await next("closed");
  assert.deepEqual(told(take()), ["heard", 4008]);
});

test("requests to listen carry rising numbers, so that one that was given up and comes late is known", async () => {
  const { gateway, act, next } = await connect();
  act({ ...POLL, wait: 0.01 });
  await next("heard");
  act(LISTEN);
  await next("heard");
  const other = await connect();
  other.act({ ...POLL, wait: 0.01 });
  await other.next("heard");
  const numbers = [...gateway.requests.slice(-2), other.gateway.requests.at(-1)].map(({ number }) => number);
  assert.ok(numbers[0] > 0 && numbers[0] < numbers[1] && numbers[1] < numbers[2], String(numbers));
});

test("a session that has gone to another transport is told so", async () => {
  const replaced = JSON.stringify({ status: "error", error: "A newer transport carries this session.", code: "replaced" });
  const { gateway, act, next } = await connect();
  gateway.intercept = (_, response) => (response.writeHead(409).end(replaced), true);
  act(POLL);
  assert.equal((await next("closed"))[0].code, 4000);
});

test("a poll's last word comes after its events", async () => {
  const { gateway, act, next, take } = await connect();
  const body = { events: [{ event: "goaway" }], close: { code: 4012, reason: "drain" } };
  gateway.intercept = (_, response) => (response.end(JSON.stringify(body)), true);
  act(POLL);
  assert.deepEqual((await next("closed"))[0], { type: "closed", line: 1, code: 4012, reason: "drain", retryAfter: undefined });
  assert.deepEqual(told(take()), ["goaway", 4012]);
});

/** A line whose stream is made of these chunks; `end`: and then ends. */
async function streaming(chunks, end = true) {
  const world = await connect({
    fetch: async (url, options) => {
      if (!url.includes("/stream")) return globalThis.fetch(url, options);
      const encoder = new TextEncoder();
      const body = new ReadableStream({
        async start(controller) {
          for (const chunk of chunks) {
            controller.enqueue(typeof chunk === "string" ? encoder.encode(chunk) : chunk);
            await new Promise(setImmediate);
          }
          if (end) controller.close();
        },
      });
      return new Response(body, { headers: { "content-type": "text/event-stream" } });
    },
  });
  world.act(LISTEN);
  return world;
}

test("the parser: cut at every byte, CRLF, comments, a byte order mark, other fields, an end within an event", async () => {
  const text = '\ufeff: here\r\n\r\n:\ndata: {"event":"a","text":"ü😀\u2028: x"}\n\nid: 7\nretry: 1\ndata:{"event":"b"}\r\n\r\nevent: other\ndata: {}\n\nnonsense\n\ndata: {"event":\ndata: "c"}\n\ndata: {"event":"d"}\n';
  const bytes = new TextEncoder().encode(text);
  for (const size of [1, 2, 3, 5, 7, bytes.length]) {
    const chunks = [];
    for (let i = 0; i < bytes.length; i += size) chunks.push(bytes.slice(i, i + size));
    const { next, take } = await streaming(chunks);
    await next("cut");
    const inputs = take();
    assert.deepEqual(told(inputs), ["heard", "heard", "a", "b", "c", "cut"], `in chunks of ${size}`);
    assert.equal(JSON.parse(inputs[2].text).text, "ü😀\u2028: x");
  }
});

test("a stream without lines, and a last word that cannot be read, are cut", async () => {
  const endless = Array.from({ length: 18 }, () => "x".repeat(1_000_000));
  for (const chunks of [endless, ["event: close\ndata: {\n\n"]]) {
    const { next, take } = await streaming(chunks, false);
    await next("cut");
    assert.deepEqual(told(take()), ["cut"]);
  }
});

test("a page of somebody else is no stream", async () => {
  const { gateway, act, next, take } = await connect();
  gateway.intercept = (_, response) => (response.writeHead(200, { "content-type": "text/html" }).end(":root{}\n\n"), true);
  act(LISTEN);
  await next("cut");
  assert.deepEqual(told(take()), ["cut"]);
});

test("a line that is let go aborts what is outstanding, and says nothing more", async () => {
  const { gateway, act, next, take } = await connect();
  act(LISTEN);
  await next("heard");
  let gone = 0;
  gateway.intercept = (_, response) => (response.on("close", () => gone++), true);
  act(send({ event: "message", id: "2" }, 2));
  await until(() => gateway.requests.length === 3, "the batch");
  take();
  act({ type: "close", line: 1, code: 1000 });
  await until(() => gone === 1, "the abort");
  gateway.server.publish("calls.a");
  await new Promise((resolve) => setTimeout(resolve, 20));
  assert.deepEqual(take(), []);
  assert.deepEqual(gateway.requests.length, 3);
});

test("headers: on each request and within hello, asked for each attempt; ours has the last word", async () => {
  let asked = 0;
  const own = () => ({ "X-Tenant": `t${++asked}`, Authorization: "Bearer app" });
  const { gateway, act, next } = await connect({ prepare: async () => ({ headers: own() }), withCredentials: true });
  act(LISTEN);
  await next("heard");
  assert.deepEqual(gateway.requests[0].body[0], { event: "hello", version: 1, headers: { "X-Tenant": "t1", Authorization: "Bearer app" } });
  assert.deepEqual(gateway.requests.map(({ headers }) => [headers["x-tenant"], headers.authorization]), [["t1", "Bearer app"], ["t1", "Holdfast secret"]]);
  act({ type: "close", line: 1 }, OPEN);
  await next("opened");
  assert.equal(asked, 2);
});

test("fetch is asked for no cache, no redirect, and cookies only where they are wanted", async () => {
  for (const [withCredentials, credentials] of [[true, "include"], [false, "same-origin"]]) {
    const asked = [];
    const { act, next } = drive("https://example.com/rt", {
      withCredentials,
      fetch: async (url, options) => (asked.push([url, options]), Response.json([{ event: "probe", status: "ok" }])),
    });
    act(OPEN);
    await next("opened");
    act(send({ event: "probe" }));
    await next("receive");
    const [[url, options]] = asked;
    assert.equal(url, "https://example.com/rt/session");
    assert.deepEqual([options.method, options.cache, options.redirect, options.credentials], ["POST", "no-store", "error", credentials]);
  }
});

/** Web Locks, as the tabs of one browser share them. */
function locksOf(held = new Set()) {
  return {
    held,
    async request(name, { ifAvailable }, callback) {
      assert.equal(ifAvailable, true);
      if (held.has(name)) return callback(null);
      held.add(name);
      try {
        return await callback({ name });
      } finally {
        held.delete(name);
      }
    },
  };
}

async function withNavigator(navigator, run) {
  const before = Object.getOwnPropertyDescriptor(globalThis, "navigator");
  Object.defineProperty(globalThis, "navigator", { value: navigator, configurable: true });
  try {
    await run();
  } finally {
    delete globalThis.navigator;
    if (before) Object.defineProperty(globalThis, "navigator", before);
  }
}

test("slots: four lines listen for long, the fifth asks again and again, until one is free", () => {
  const locks = locksOf();
  return withNavigator({ locks }, async () => {
    const worlds = [];
    const gateway = await listen();
    for (let i = 0; i < 5; i++) {
      const world = drive(`http://127.0.0.1:${gateway.port}`);
      world.act(OPEN);
      await world.next("opened");
      world.act(HELLO, subscribe());
      await world.next("heard");
      world.take();
      gateway.requests.length = 0;
      world.act(LISTEN);
      await world.next("heard");
      worlds.push(world);
    }
    const origin = `http://127.0.0.1:${gateway.port}`;
    assert.deepEqual([...locks.held], [1, 2, 3, 4].map((n) => `holdfast:slot:${origin}:${n}`));
    const fifth = worlds[4];
    assert.deepEqual(gateway.requests.map(({ path, body }) => [path, body]), [["/session/s5/poll", { received: 1, wait: 0 }]]);
    fifth.take();
    // From the next pause on it is a long one.
    globalThis.document = { visibilityState: "hidden" };
    gateway.server.publish("calls.a");
    fifth.count(1);
    await fifth.next("heard");
    assert.deepEqual(told(fifth.take()), ["message", "heard"]);
    // A reply to what we send does not wait for its end.
    fifth.count(2);
    const start = performance.now();
    fifth.act(send({ event: "message", subscription: "calls.a", id: "2" }, 2));
    await fifth.next("receive", 2);
    fifth.count(3);
    worlds[1].act({ type: "close", line: 1 });
    fifth.act(send({ event: "ping", data: "1", received: 3 }, 3));
    await until(() => gateway.requests.some(({ path }) => path === "/session/s5/stream?received=3"), "the stream");
    assert.ok(performance.now() - start < 4_500);
    assert.equal(locks.held.size, 4);
    for (const { act } of worlds) act({ type: "close", line: 1 });
    await until(() => locks.held.size === 0, "all slots");
  }).finally(() => delete globalThis.document);
});

test("slots: a poll without one is short, and the machine is told after a pause", () =>
  withNavigator({ locks: locksOf({ has: () => true }) }, async () => {
    const { gateway, act, next, take } = await connect();
    const start = performance.now();
    act(POLL);
    await next("heard");
    assert.ok(performance.now() - start > 900);
    assert.deepEqual(gateway.requests.at(-1).body, { received: 1, wait: 0 });
    act({ type: "close", line: 1 });
  }));

test("slots: a line that is let go while it asks for one gives it back; locks that are refused are none", async () => {
  const locks = locksOf();
  await withNavigator({ locks }, async () => {
    const { act } = await connect();
    act(LISTEN, { type: "close", line: 1 });
    await new Promise(setImmediate);
    assert.equal(locks.held.size, 0);
  });
  await withNavigator({ locks: { request: () => Promise.reject(new Error("SecurityError")) } }, async () => {
    const { act, next, gateway } = await connect();
    act(LISTEN);
    await next("heard");
    assert.match(gateway.requests.at(-1).path, /stream/);
  });
});
