// The public API: connecting, options, events, callbacks, credentials.

import assert from "node:assert/strict";
import { mock, test } from "node:test";
import Default, { Holdfast, HoldfastError } from "../../clients/js/holdfast.js";
import { FakeWebSocket, HELLO, confirm, message, setUp, setUpConnected, settle } from "./fakes.js";

const make = (url, options) => new Holdfast(url, { WebSocket: FakeWebSocket, autoConnect: false, ...options });

test("it connects by itself, and what was subscribed meanwhile goes in one flight with hello", async () => {
  const { client } = setUp();
  assert.equal(client.state, "idle");
  client.subscribe("calls.a");
  await settle();
  assert.equal(client.state, "connecting");
  assert.equal(FakeWebSocket.all.length, 1);
  FakeWebSocket.last.open();
  await settle();
  assert.deepEqual(FakeWebSocket.last.sent.map(({ event }) => event), ["hello", "subscribe"]);
});

test("autoConnect: false waits for connect(), and close() before the first turn wins", async () => {
  const { client } = setUp({ autoConnect: false });
  await settle();
  assert.equal(FakeWebSocket.all.length, 0);
  assert.equal(client.connect(), client);
  assert.equal(FakeWebSocket.all.length, 1);
  const second = setUp();
  second.client.close();
  await settle();
  assert.equal(FakeWebSocket.all.length, 0);
  assert.equal(second.client.state, "closed");
});

test("URLs", () => {
  const urlOf = (url) => {
    FakeWebSocket.all = [];
    const client = make(url);
    client.connect();
    client.close();
    return FakeWebSocket.last.url;
  };
  assert.equal(urlOf("https://example.com/socket"), "wss://example.com/socket");
  assert.equal(urlOf("http://example.com:8080"), "ws://example.com:8080/");
  assert.equal(urlOf("wss://example.com/a?b=c#d"), "wss://example.com/a?b=c");
  assert.throws(() => make("ftp://example.com"), /cannot connect to "ftp:\/\/example.com".*http\(s\) or ws\(s\)/);
  assert.throws(() => make("/socket"), /in a page a path/);
  assert.throws(() => make(), TypeError);
  globalThis.location = new URL("https://app.example.com:8443/deep/page?x#y");
  try {
    assert.equal(urlOf(undefined), "wss://app.example.com:8443/socket");
    assert.equal(urlOf(""), "wss://app.example.com:8443/socket");
    assert.equal(urlOf("/live"), "wss://app.example.com:8443/live");
    assert.equal(urlOf("live"), "wss://app.example.com:8443/deep/live");
    assert.equal(urlOf("//other.example.com/s"), "wss://other.example.com/s");
    assert.throws(() => make("mailto:x"), /in a page a path/);
  } finally {
    delete globalThis.location;
  }
});

test("wrong options name the nearest right one, or say what they must be", () => {
  assert.throws(() => make("ws://h", { autoconnect: false }), /no option "autoconnect". Did you mean "autoConnect"\?/);
  assert.throws(() => make("ws://h", { conectTimeout: 1 }), /"connectTimeout"/);
  assert.throws(() => make("ws://h", { maxRetries: 1 }), /"maxAttempts"/);
  assert.throws(() => make("ws://h", { queueSize: 1 }), /"queueBytes"/);
  assert.throws(() => make("ws://h", { token: 1 }), /"getToken"/);
  assert.throws(() => make("ws://h", { websocket: 1 }), /"WebSocket"/);
  for (const [name, bad] of [["connectTimeout", 0], ["queueBytes", -1], ["maxAttempts", 1.5], ["bufferSize", "9"], ["getToken", "t"], ["autoConnect", 1], ["random", 1], ["now", null], ["client", { name: "x" }], ["WebSocket", {}], ["transports", []], ["transports", ["ws"]], ["transports", "poll"], ["headers", "x"], ["headers", null], ["withCredentials", 1], ["storage", {}], ["storage", 1], ["fetch", null]]) {
    assert.throws(() => make("ws://h", { [name]: bad }), new RegExp(`option "${name}" must be `), name);
  }
  assert.throws(() => make("ws://h", { getTicket() {}, getToken() {} }), /not both/);
  assert.doesNotThrow(() => make("ws://h", { connectTimeout: undefined, maxAttempts: undefined, client: undefined, storage: undefined }));
  assert.doesNotThrow(() => make("ws://h", { storage: null, transports: ["poll"], headers: {} }));
  assert.throws(() => make("ws://h", { localStorage: null }), /"storage"/);
  if (!("WebSocket" in globalThis)) assert.throws(() => new Holdfast("ws://h"), /give one as option "WebSocket"/);
  assert.doesNotThrow(() => new Holdfast("ws://h", { autoConnect: false, transports: ["stream", "poll"] }));
  assert.equal(Default, Holdfast);
});

test("state, connected, rtt and goaway events", async () => {
  const { client, take, pass } = setUp({ client: { name: "shop", version: "7" } });
  await settle();
  const socket = FakeWebSocket.last;
  socket.open();
  await settle();
  assert.deepEqual(socket.sent[0], { event: "hello", version: 1, client: { name: "shop", version: "7" } });
  socket.say(HELLO);
  assert.deepEqual(take(), [
    ["state", { state: "connecting", previous: "idle", reason: "connect", nextAttemptInMs: null }],
    ["state", { state: "connected", previous: "connecting", reason: "new_session", nextAttemptInMs: null }],
    ["connected", { resumed: false, session: "h1", node: "n1", transport: "websocket" }],
  ]);
  await pass(4_000);
  await pass(30);
  socket.say({ event: "pong", data: "1", received: 0 }, { event: "goaway", reason: "drain", retry_after: [0, 20] });
  assert.deepEqual(take(), [["rtt", { rtt: 30, srtt: 4 }], ["goaway", { reason: "drain", inMs: 10_000 }]]);
  socket.end();
  assert.deepEqual(take(), [["state", { state: "reconnecting", previous: "connected", reason: "line_closed", nextAttemptInMs: 10_000 }]]);
  assert.equal(client.stats().session, "h1", "the secret is shown nowhere");
});

test("recovered by session, recovered by position, gap", async () => {
  const { client, socket, take, pass } = await setUpConnected();
  const heard = [];
  const calls = client.subscribe("calls.a");
  for (const type of ["subscribed", "recovered", "gap", "message"]) calls.on(type, (event) => heard.push([type, event]));
  confirm(socket, { data: "snapshot" });
  assert.deepEqual(heard.splice(0), [["subscribed", { position: { epoch: "e1", offset: 41 }, recovered: null, data: "snapshot" }]]);
  socket.end();
  await pass(1_000);
  FakeWebSocket.last.open();
  await settle();
  FakeWebSocket.last.say({ ...HELLO, resumed: true, received: 1 });
  const bySession = { by: "session", subscription: null, messages: null };
  assert.deepEqual(take().slice(-2), [["connected", { resumed: true, session: "h1", node: "n1", transport: "websocket" }], ["recovered", bySession]]);
  assert.deepEqual(heard.splice(0), [["recovered", { ...bySession, subscription: "calls.a" }]]);

  FakeWebSocket.last.end(4008);
  await pass(2_000);
  FakeWebSocket.last.open();
  await settle();
  FakeWebSocket.last.say({ ...HELLO, session: "h2.secret" });
  assert.deepEqual(FakeWebSocket.last.sent.at(-1).since, { epoch: "e1", offset: 41 });
  take();
  confirm(FakeWebSocket.last, { recovered: true, position: { epoch: "e1", offset: 44 } });
  const byPosition = { by: "position", subscription: "calls.a", messages: 3 };
  assert.deepEqual(take(), [["recovered", byPosition]]);
  assert.deepEqual(heard.splice(0).at(-1), ["recovered", byPosition]);

  FakeWebSocket.last.say({ event: "gap", subscription: "calls.a", after: 41, next: 97 }, message(97));
  const gap = { subscription: "calls.a", after: 41, next: 97, missing: 55 };
  assert.deepEqual(take(), [["gap", gap]]);
  assert.deepEqual(heard[0], ["gap", gap]);
  assert.deepEqual(heard[1][1].gap, gap);
});

test("a callback that throws is reported and disturbs nothing", async () => {
  const { client, socket, take } = await setUpConnected();
  const calls = client.subscribe("calls.a");
  const seen = [];
  calls.on("message", () => {
    throw new Error("mine");
  });
  calls.on("message", async () => {
    throw new Error("later");
  });
  calls.on("message", ({ offset }) => seen.push(offset));
  confirm(socket);
  socket.say(message(42), message(43));
  await settle();
  assert.deepEqual(seen, [42, 43]);
  const errors = take().map(([type, error]) => [type, error.code, error.cause.message]);
  assert.deepEqual(errors.sort(), ["later", "later", "mine", "mine"].map((text) => ["error", "callback_failed", text]));
});

test("without a listener for errors, and with a broken one, the console is told", async () => {
  const { client, socket } = await setUpConnected();
  const log = mock.method(console, "error", () => {});
  try {
    client.off("error");
    socket.say({ status: "error", error: "What?", code: "bad_event" });
    assert.equal(log.mock.calls[0].arguments[0].code, "bad_event");
    client.on("error", () => {
      throw new Error("broken listener");
    });
    socket.say({ status: "error", error: "What?", code: "bad_event" });
    assert.equal(log.mock.calls[1].arguments[0].message, "broken listener");
    assert.equal(log.mock.callCount(), 2);
  } finally {
    log.mock.restore();
  }
});

test("a callback may use the client: what it does comes after what is under way", async () => {
  const { client, socket, pass } = await setUpConnected();
  const order = [];
  client.on("connected", () => {
    order.push("connected");
    client.message("calls.a", "from the callback").catch(() => {});
  });
  client.message("calls.a", "before").catch(() => {});
  socket.end();
  await pass(1_000);
  FakeWebSocket.last.open();
  await settle();
  FakeWebSocket.last.say({ ...HELLO, resumed: true, received: 0 });
  assert.deepEqual(FakeWebSocket.last.sent.slice(1).map(({ data }) => data), ["before", "from the callback"]);
  // Of two timers the one that was set last counts: the ping comes.
  FakeWebSocket.last.take();
  await pass(4_000);
  assert.equal(FakeWebSocket.last.sent[0].event, "ping");
});

test("on, once, off", async () => {
  const { client } = setUp({ autoConnect: false });
  const seen = [];
  const always = ({ state }) => seen.push(`always ${state}`);
  const never = () => seen.push("never");
  client.on("state", always).once("state", ({ state }) => seen.push(`once ${state}`)).once("state", never).off("state", never);
  client.connect();
  client.close();
  client.off("state", always).connect();
  assert.deepEqual(seen, ["always connecting", "once connecting", "always closed"]);
  assert.throws(() => client.on("state", "x"), /listener must be a function/);
  client.close();
});

test("credentials are asked for each attempt, while the line opens", async () => {
  let tickets = 0;
  const { pass } = setUp({ getTicket: async () => `t${++tickets}` });
  await settle();
  assert.equal(tickets, 1);
  FakeWebSocket.last.end();
  await pass(2_000);
  assert.equal(tickets, 2);
  FakeWebSocket.last.open();
  await settle();
  assert.deepEqual(FakeWebSocket.last.sent[1], { event: "auth", method: "ticket", ticket: "t2" });
});

test("a line that opens waits for its credentials; 4001 asks anew and resumes", async () => {
  const waiting = [];
  const { client, pass } = setUp({ getToken: () => new Promise((resolve) => waiting.push(resolve)) });
  await settle();
  FakeWebSocket.last.open();
  await settle();
  assert.deepEqual(FakeWebSocket.last.sent, []);
  waiting[0]("first");
  await settle();
  assert.deepEqual(FakeWebSocket.last.sent.map(({ event, token }) => [event, token]), [["hello", undefined], ["auth", "first"]]);
  FakeWebSocket.last.say(HELLO);
  FakeWebSocket.last.end(4001);
  await pass(1_000);
  waiting[1]("second");
  FakeWebSocket.last.open();
  await settle();
  FakeWebSocket.last.say({ ...HELLO, resumed: true, received: 1 });
  assert.deepEqual(FakeWebSocket.last.sent.map(({ event, token }) => [event, token]), [["hello", undefined], ["auth", "second"]]);
  assert.equal(client.state, "connected");
});

test("credentials that cannot be had are an error, and the next attempt asks again", async () => {
  let asked = 0;
  const answers = [() => Promise.reject(new Error("offline")), () => { throw new Error("broken"); }, () => undefined, () => "good"];
  const { client, take, pass } = setUp({ getToken: () => answers[asked++]() });
  await settle();
  for (const text of ["offline", "broken", "not a string"]) {
    const [error] = take().filter(([type]) => type === "error");
    assert.equal(error[1].code, "credentials_failed");
    assert.match(error[1].message, new RegExp(text));
    assert.equal(FakeWebSocket.last.closedWith, "no code");
    await pass(5_000);
  }
  FakeWebSocket.last.open();
  await settle();
  assert.equal(FakeWebSocket.last.sent[1].token, "good");
  assert.equal(client.state, "reconnecting");
});

test("errors carry a code", async () => {
  const { client, socket, take } = await setUpConnected();
  socket.end(4003, "go away");
  assert.equal(client.state, "closed");
  const [, error] = take().find(([type]) => type === "error");
  assert.ok(error instanceof HoldfastError && error instanceof Error);
  assert.equal(error.name, "HoldfastError");
  assert.equal(error.code, "forbidden");
  assert.match(error.message, /go away/);
});

test("headers go into hello, from an object, a Headers or a function that is called for each attempt", async () => {
  let asked = 0;
  const kinds = [{ "X-Tenant": "t1" }, new Headers({ "x-tenant": "t1" }), () => ({ "x-tenant": `t${++asked}` }), async () => ({ "x-tenant": "t1" })];
  for (const headers of kinds) {
    setUp({ headers });
    await settle();
    FakeWebSocket.last.open();
    await settle();
    assert.deepEqual(FakeWebSocket.last.sent[0].headers, { "x-tenant": "t1" });
  }
  const { pass } = setUp({ headers: kinds[2] });
  await settle();
  FakeWebSocket.last.end();
  await pass(2_000);
  FakeWebSocket.last.open();
  await settle();
  assert.deepEqual(FakeWebSocket.last.sent[0].headers, { "x-tenant": "t3" });
});

test("headers that cannot be had, or cannot be sent, are an error like credentials", async () => {
  for (const headers of [{ "no name": "x" }, { name: "☎" }, () => Promise.reject(new Error("no"))]) {
    const { client, take } = setUp({ headers });
    await settle();
    assert.deepEqual(take().filter(([type]) => type === "error").map(([, { code }]) => code), ["credentials_failed"]);
    client.close();
  }
});
