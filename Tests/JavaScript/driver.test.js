// The driver: sockets that are let go, timers, the page and the network.

import assert from "node:assert/strict";
import { test } from "node:test";
import { FakeWebSocket, HELLO, confirm, fakeFetch, fakeStorage, message, setUp, setUpConnected, settle } from "./fakes.js";

test("a dead line is let go: no handler is left, nobody waits for its close, nothing that it says counts", async () => {
  const { client, socket, pass, take } = await setUpConnected();
  const calls = client.subscribe("calls.a");
  const seen = [];
  calls.on("message", ({ offset }) => seen.push(offset));
  confirm(socket);
  await pass(4_000);
  assert.equal(socket.take().at(-1).event, "ping");
  await pass(1_000);
  const rival = FakeWebSocket.last;
  assert.notEqual(rival, socket, "suspect: a second line");
  await pass(5_000);
  assert.equal(socket.closedWith, "no code");
  assert.deepEqual([socket.onopen, socket.onmessage, socket.onclose], [null, null, null]);
  assert.equal(client.state, "reconnecting");
  socket.say(message(42));
  socket.end(1006);
  rival.open();
  await settle();
  rival.say({ ...HELLO, resumed: true, received: 1 }, message(42));
  assert.deepEqual(seen, [42]);
  assert.equal(client.state, "connected");
  assert.ok(take().every(([type]) => type !== "error"));
});

test("sockets that throw: in the constructor, in send, in close", async () => {
  class Broken extends FakeWebSocket {
    static constructs = false;
    constructor(url) {
      super(url);
      if (!Broken.constructs) throw new Error("blocked by policy");
    }
    send() {
      throw new Error("closing");
    }
    close() {
      throw new Error("bad code");
    }
  }
  const { client, pass } = setUp({ WebSocket: Broken });
  await settle();
  assert.equal(client.state, "reconnecting");
  Broken.constructs = true;
  await pass(2_000);
  FakeWebSocket.last.open();
  await settle();
  FakeWebSocket.last.say(HELLO);
  assert.equal(client.state, "connected");
  client.close();
  assert.equal(client.state, "closed");
});

test("a frame that is not text is life, and an error", async () => {
  const { socket, take } = await setUpConnected();
  socket.onmessage({ data: new ArrayBuffer(3) });
  assert.deepEqual(take().map(([type, { code }]) => [type, code]), [["error", "unreadable"]]);
});

test("close() sends 1000, and no timer is left", async () => {
  const { client, socket, pass } = await setUpConnected();
  client.close();
  assert.equal(socket.closedWith, 1000);
  await pass(120_000);
  assert.equal(FakeWebSocket.all.length, 1);
  assert.deepEqual(socket.sent, []);
});

test("a timer that is late by more than the interval asks before it judges", async () => {
  const { client, socket, pass, sleep } = await setUpConnected();
  await pass(4_000);
  socket.take();
  sleep(600_000);
  await pass(1_000);
  assert.equal(socket.take().at(-1).event, "ping");
  assert.equal(FakeWebSocket.all.length, 1, "not suspect yet");
  await pass(1_000);
  assert.equal(FakeWebSocket.all.length, 2);
  client.close();
});

/** What a page has, on top of Node's globals. */
async function withPage(run) {
  const page = new EventTarget();
  const connection = Object.assign(new EventTarget(), { type: "wifi", effectiveType: "4g" });
  const document = Object.assign(new EventTarget(), { visibilityState: "visible" });
  const listeners = new Set();
  const globals = {
    document,
    navigator: { connection },
    addEventListener: (type, listener, options) => {
      listeners.add(type);
      options.signal.addEventListener("abort", () => listeners.delete(type));
      page.addEventListener(type, listener, options);
    },
  };
  const before = Object.fromEntries(Object.keys(globals).map((name) => [name, Object.getOwnPropertyDescriptor(globalThis, name)]));
  for (const [name, value] of Object.entries(globals)) Object.defineProperty(globalThis, name, { value, configurable: true });
  try {
    await run({ page, document, connection, listeners });
  } finally {
    for (const [name, descriptor] of Object.entries(before)) {
      delete globalThis[name];
      if (descriptor) Object.defineProperty(globalThis, name, descriptor);
    }
  }
}

const happen = (target, type, more = {}) => target.dispatchEvent(Object.assign(new Event(type), more));

test("the page: shown again, from the cache, resumed, another network: ask at once", () =>
  withPage(async ({ page, document, connection, listeners }) => {
    const { client, socket, pass } = await setUpConnected();
    const pings = () => socket.take().filter(({ event }) => event === "ping");
    const answer = async () => {
      const asked = pings();
      assert.equal(asked.length, 1);
      socket.say({ event: "pong", data: asked[0].data, received: 0 });
      await pass(10);
    };
    document.visibilityState = "hidden";
    happen(document, "visibilitychange");
    await pass(20_000);
    assert.deepEqual(pings(), [], "a hidden page asks every 25 s only");
    document.visibilityState = "visible";
    happen(document, "visibilitychange");
    await answer();
    happen(page, "pageshow", { persisted: false });
    assert.deepEqual(pings(), [], "that is the first showing");
    happen(page, "pageshow", { persisted: true });
    await answer();
    happen(document, "resume");
    await answer();
    happen(connection, "change");
    assert.deepEqual(pings(), [], "only the measured bandwidth has changed");
    connection.type = "cellular";
    happen(connection, "change");
    await answer();
    assert.deepEqual([...listeners].sort(), ["offline", "online", "pageshow", "storage"]);
    client.close();
    assert.deepEqual([...listeners], []);
    happen(page, "online");
    happen(document, "resume");
    assert.deepEqual(pings(), []);
    client.connect();
    assert.equal(listeners.size, 4);
    client.close();
  }));

test("the network: offline keeps the line and stops attempts, online asks", () =>
  withPage(async ({ page }) => {
    const { client, socket, pass } = await setUpConnected();
    happen(page, "offline");
    await pass(20_000);
    assert.deepEqual(socket.take(), []);
    happen(page, "online");
    assert.equal(socket.take()[0].event, "ping");
    happen(page, "offline");
    socket.end();
    assert.equal(client.state, "suspended");
    await pass(20_000);
    assert.equal(FakeWebSocket.all.length, 1);
    happen(page, "online");
    assert.equal(FakeWebSocket.all.length, 2);
    client.close();
  }));

test("a page that is hidden from the start", () =>
  withPage(async ({ document }) => {
    document.visibilityState = "hidden";
    const { client, socket, pass } = await setUpConnected();
    await pass(20_000);
    assert.deepEqual(socket.take(), []);
    client.close();
  }));

test("what the page did while the client was closed", () =>
  withPage(async ({ page, document }) => {
    const { client, socket, pass } = await setUpConnected();
    happen(page, "offline");
    document.visibilityState = "hidden";
    happen(document, "visibilitychange");
    client.close();
    document.visibilityState = "visible";
    client.connect();
    assert.equal(client.state, "connecting", "not taken for offline still");
    assert.notEqual(FakeWebSocket.last, socket);
    FakeWebSocket.last.open();
    await settle();
    FakeWebSocket.last.say({ ...HELLO, session: "h2.secret" });
    FakeWebSocket.last.take();
    await pass(4_000);
    assert.equal(FakeWebSocket.last.take()[0]?.event, "ping", "not taken for hidden still");
    client.close();
  }));

// ── Memory. What the machine makes of it is in the scenarios; here it is kept, found again, and lost without harm.

const KEY = "holdfast:https://example.com";
const HOUR_MS = 3_600_000;
const ALL = ["websocket", "stream", "poll"];
const verdict = (until) => JSON.stringify({ v: 1, attempts: [], strikes: 2, until, term: HOUR_MS, deaths: 0, life: null, rest: null, pollUntil: null });
/** Fetching takes turns of the event loop, but no time. */
const turns = async () => {
  for (let i = 0; i < 20; i++) await new Promise(setImmediate);
};

test("a verdict that another page has left: the fallback at once, and the time that is left by our own clock", async () => {
  const { fetch, requests } = fakeFetch();
  const storage = fakeStorage({ [KEY]: verdict(Date.now() + HOUR_MS) });
  const { client } = setUp({ transports: ALL, fetch, storage });
  await turns();
  assert.equal(FakeWebSocket.all.length, 0);
  const urls = requests.map(({ url }) => url.replace(/&number=\d+$/, ""));
  assert.deepEqual(urls, ["https://example.com/session", "https://example.com/session/h1/stream?received=0"]);
  const { transport, websocket, blockedUntil } = client.stats();
  assert.deepEqual([client.state, transport, websocket], ["connected", "stream", "blocked"]);
  assert.ok(Math.abs(blockedUntil - HOUR_MS) < 5_000, String(blockedUntil));
  client.close();
});

test("an attempt is remembered with the time of day; after a minute of life all is forgotten", async () => {
  const { fetch } = fakeFetch();
  const storage = fakeStorage();
  const { client, pass } = setUp({ transports: ALL, fetch, storage });
  await settle();
  const { attempts } = JSON.parse(storage.items[KEY]);
  assert.equal(attempts.length, 1);
  assert.ok(Math.abs(attempts[0] - Date.now()) < 5_000);
  FakeWebSocket.last.open();
  await settle();
  FakeWebSocket.last.say(HELLO);
  await pass(1);
  assert.deepEqual(storage.items, {});
  client.close();
});

test("memory that cannot be had or kept, and garbage in it, do no harm", async () => {
  const garbage = ["", "{", "null", "7", "[]", '{"v":1}', '{"v":2,"attempts":[]}', '{"v":1,"attempts":{}}', '{"v":1,"attempts":[null,"x",{}],"until":"y","rest":[]}'];
  const storages = [
    ...garbage.map((text) => fakeStorage({ [KEY]: text })),
    ...["getItem", "setItem", "removeItem"].map((name) => fakeStorage({}, [name])),
    null,
  ];
  for (const storage of storages) {
    const { client, take } = setUp({ transports: ALL, fetch: fakeFetch().fetch, storage });
    await settle();
    assert.equal(FakeWebSocket.all.length, 1, JSON.stringify(storage?.items));
    FakeWebSocket.last.end();
    await turns();
    assert.equal(client.state, "connected");
    assert.deepEqual(take().filter(([type]) => type === "error"), []);
    client.close();
    client.connect();
    client.close();
  }
});

test("a storage that is full: from then on only the machine remembers, also when the client is closed and connects again", async () => {
  const { fetch } = fakeFetch();
  const storage = fakeStorage({}, ["setItem"]);
  const { client, pass } = setUp({ transports: ALL, fetch, storage });
  await settle();
  FakeWebSocket.last.end();
  await turns();
  await pass(1);
  client.close();
  client.connect();
  await turns();
  assert.equal(FakeWebSocket.all.length, 1, "the strike is not forgotten");
  assert.equal(client.stats().transport, "stream");
  client.close();
});

test("another tab has learned something; reading localStorage is forbidden", () =>
  withPage(async ({ page }) => {
    const { fetch } = fakeFetch();
    const storage = fakeStorage();
    const { client } = setUp({ transports: ALL, fetch, storage });
    await settle();
    FakeWebSocket.last.end();
    await turns();
    storage.items[KEY] = verdict(Date.now() + HOUR_MS);
    happen(page, "storage", { key: "other" });
    assert.equal(client.stats().websocket, "unknown");
    happen(page, "storage", { key: KEY });
    assert.equal(client.stats().websocket, "blocked");
    storage.items[KEY] = verdict(null);
    happen(page, "storage", { key: null });
    assert.equal(client.stats().websocket, "unknown");
    client.close();
    Object.defineProperty(globalThis, "window", { configurable: true, value: { get localStorage() { throw new Error("SecurityError"); } } });
    try {
      assert.equal(setUp({ transports: ALL, fetch }).client.connect().close(), undefined);
      Object.defineProperty(globalThis, "window", { configurable: true, value: { localStorage: fakeStorage({ [KEY]: verdict(Date.now() + HOUR_MS) }) } });
      const other = setUp({ transports: ALL, fetch });
      await turns();
      assert.equal(other.client.stats().websocket, "blocked");
      other.client.close();
    } finally {
      delete globalThis.window;
    }
  }));

test("probe() and another network try a WebSocket beside the running line, in spite of a verdict", () =>
  withPage(async ({ connection }) => {
    const tries = [(client) => client.probe(), () => happen(connection, "change", (connection.type = "cellular"))];
    for (const attempt of tries) {
      connection.type = "wifi";
      const { fetch, requests } = fakeFetch();
      const { client, pass } = setUp({ transports: ALL, fetch, storage: fakeStorage({ [KEY]: verdict(Date.now() + HOUR_MS) }) });
      await turns();
      assert.equal(FakeWebSocket.all.length, 0);
      attempt(client);
      // Tabs do not all try at the same moment.
      for (let i = 0; i < 100 && !FakeWebSocket.last; i++) await pass(100);
      assert.equal(FakeWebSocket.all.length, 1);
      FakeWebSocket.last.open();
      await settle();
      assert.deepEqual(FakeWebSocket.last.take(), [{ event: "probe" }]);
      FakeWebSocket.last.say({ event: "probe", status: "ok" });
      assert.equal(FakeWebSocket.last.take()[0].resume.session, "h1.secret");
      FakeWebSocket.last.say({ ...HELLO, resumed: true, received: 0 });
      assert.equal(client.stats().transport, "websocket");
      assert.ok(requests.every(({ url }) => !url.includes("secret")));
      client.close();
    }
  }));
