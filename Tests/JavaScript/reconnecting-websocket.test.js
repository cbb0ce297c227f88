// The drop-in class as its users know the well-known one, over real sockets: Debian's `ws` on both sides. What must not happen, and
// when things happen: reconnecting-websocket-time.test.js. What is new: reconnecting-websocket-lines.test.js.

import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { test } from "node:test";
import { fileURLToPath } from "node:url";
import { gzipSync } from "node:zlib";
import Default, * as module from "../../clients/js/reconnecting-websocket.js";
import { WebSocket, connect, echo, next, nowhere, silence, until } from "./reconnecting-websocket-world.js";

const { ReconnectingWebSocket } = module;
const LIMIT_BYTES = 3 * 1024;

/** A global of this name, for the length of a test. */
function setGlobal(t, name, value) {
  const before = Object.getOwnPropertyDescriptor(globalThis, name);
  Object.defineProperty(globalThis, name, { value, configurable: true, writable: true });
  t.after(() => (before ? Object.defineProperty(globalThis, name, before) : delete globalThis[name]));
}

test("it is small: esbuild --minify | gzip -9", (t) => {
  const source = fileURLToPath(new URL("../../clients/js/reconnecting-websocket.js", import.meta.url));
  let minified;
  try {
    minified = execFileSync("esbuild", ["--minify", "--format=esm", source]);
  } catch (error) {
    assert.notEqual(error.code, "ENOENT", "esbuild is missing: apt-get install esbuild");
    throw error;
  }
  const { length } = gzipSync(minified, { level: 9 });
  t.diagnostic(`${length} bytes (${(length / 1024).toFixed(2)} KiB), limit ${LIMIT_BYTES}`);
  assert.ok(length <= LIMIT_BYTES, `${length} bytes`);
});

test("the default export and the named one are the same class", () => {
  assert.equal(Default, ReconnectingWebSocket);
  assert.equal(new module.CloseEvent(1000, "", null) instanceof module.Event, true);
});

// ── Construction ────────────────────────────────────────────────────────────────────────────────────────────────────

test("without `new` it throws", () => {
  assert.throws(() => ReconnectingWebSocket("ws://example.com/"), TypeError);
});

for (const [what, global, option] of [["nothing", undefined], ["no class in the option", undefined, 123], ["a global that is no class", {}]]) {
  test(`without a WebSocket class it throws and says what to do: ${what}`, (t) => {
    setGlobal(t, "WebSocket", global);
    const make = () => new ReconnectingWebSocket("ws://example.com/", undefined, { WebSocket: option });
    assert.throws(make, /No valid WebSocket class provided.*option WebSocket/);
  });
}

test("the global class is used", async (t) => {
  setGlobal(t, "WebSocket", WebSocket);
  const rws = connect(t, (await echo(t)).url, undefined, { WebSocket: undefined });
  await next(rws, "open");
  assert.ok(rws._ws instanceof WebSocket);
});

test("the class given as an option comes before the global one", async (t) => {
  setGlobal(t, "WebSocket", class Other { static CLOSING = 2; });
  const rws = connect(t, (await echo(t)).url);
  await next(rws, "open");
  assert.ok(rws._ws instanceof WebSocket);
});

test("constants are on the class and on each object", () => {
  const rws = new ReconnectingWebSocket("ws://example.com/", undefined, { WebSocket, startClosed: true });
  for (const [value, name] of ["CONNECTING", "OPEN", "CLOSING", "CLOSED"].entries()) {
    assert.equal(ReconnectingWebSocket[name], value);
    assert.equal(rws[name], value);
  }
  assert.throws(() => (ReconnectingWebSocket.OPEN = 7), TypeError);
});

test("before there is a connection the getters have values", async (t) => {
  const rws = connect(t, (await echo(t)).url);
  const { bufferedAmount, protocol, url, extensions, binaryType, readyState, retryCount, shouldReconnect } = rws;
  assert.deepEqual(
    { bufferedAmount, protocol, url, extensions, binaryType, readyState, retryCount, shouldReconnect },
    { bufferedAmount: 0, protocol: "", url: "", extensions: "", binaryType: "blob", readyState: 0, retryCount: 0, shouldReconnect: true },
  );
  assert.deepEqual([rws.onopen, rws.onmessage, rws.onclose, rws.onerror], [null, null, null, null]);
});

// ── URL and protocols ───────────────────────────────────────────────────────────────────────────────────────────────

for (const [what, wrap] of [
  ["a string", (url) => url], ["a function", (url) => () => url], ["a function that gives a promise", (url) => async () => url],
]) {
  test(`the URL is ${what}`, async (t) => {
    const { url } = await echo(t);
    const rws = connect(t, wrap(url));
    await next(rws, "open");
    assert.equal(rws.url, url);
  });
}

test("a URL is asked for at each attempt", async (t) => {
  const { url, connections } = await echo(t);
  let asked = 0;
  const rws = connect(t, () => `${url}?${++asked}`);
  await next(rws, "open");
  assert.equal(rws.url, `${url}?1`);
  connections[0].close();
  await next(rws, "open");
  assert.equal(rws.url, `${url}?2`);
});

test("what is no URL is refused by name", async () => {
  const rws = new ReconnectingWebSocket("ws://example.com/", undefined, { WebSocket, startClosed: true });
  const url = "example.com";
  for (const provider of [url, () => url, () => Promise.resolve(url)]) assert.equal(await rws._getNextUrl(provider), url);
  for (const provider of [123, () => 123, undefined, () => null]) assert.throws(() => rws._getNextUrl(provider), /Invalid URL/);
});

for (const [what, protocols, expected] of [
  ["a string", "chat", "chat"], ["an array", ["chat", "other"], "chat"],
  ["undefined", undefined, ""], ["null", null, ""], ["an empty array", [], ""],
  ["a function", () => "chat", "chat"], ["a function that gives a promise", async () => ["chat"], "chat"],
  ["a function that gives null", () => null, ""],
]) {
  test(`protocols: ${what}`, async (t) => {
    const rws = connect(t, (await echo(t)).url, protocols);
    await next(rws, "open");
    assert.equal(rws.protocol, expected);
  });
}

// ── A life ──────────────────────────────────────────────────────────────────────────────────────────────────────────

test("connect, send, receive, close", async (t) => {
  const { url, connections } = await echo(t);
  const rws = connect(t, url, "chat");
  assert.equal(rws.readyState, rws.CONNECTING);
  const opened = await next(rws, "open");
  assert.equal(opened.type, "open");
  assert.equal(opened.target, rws._ws, "as in the original, what the WebSocket says comes as it is");
  assert.deepEqual([rws.readyState, rws.protocol, rws.url, rws.extensions, rws.bufferedAmount], [1, "chat", url, "", 0]);
  rws.send("hello");
  assert.equal((await next(rws, "message")).data, "hello");
  rws.close(1000, "enough");
  assert.equal(rws.readyState, rws.CLOSING);
  const closed = await next(rws, "close");
  assert.equal(rws.readyState, rws.CLOSED);
  assert.deepEqual([closed.code, closed.reason, closed.wasClean, rws.url, rws.shouldReconnect], [1000, "enough", true, url, false]);
  assert.equal(connections.length, 1);
});

test("close() says 1000, and may be called again and again: `close` is told once", async (t) => {
  const rws = connect(t, (await echo(t)).url);
  await next(rws, "open");
  const events = [];
  rws.onclose = ({ code }) => events.push(code);
  for (let i = 0; i < 3; i++) rws.close();
  await next(rws, "close");
  rws.close();
  assert.deepEqual(events, [1000]);
});

test("connect, send, receive, reconnect: three times", async (t) => {
  const { url, connections } = await echo(t);
  const rws = connect(t, url, "chat");
  for (const round of [1, 2]) {
    await next(rws, "open");
    rws.send(`hello ${round}`);
    assert.equal((await next(rws, "message")).data, `hello ${round}`);
    let closed;
    rws.onclose = (event) => (closed = event);
    rws.reconnect(4000, `round ${round}`);
    assert.equal(rws.retryCount, 0);
    assert.equal(rws.readyState, rws.CLOSING);
    assert.deepEqual(
      [closed.type, closed.code, closed.reason, closed.wasClean, closed.target], ["close", 4000, `round ${round}`, true, rws],
      "at once: nothing is waited for",
    );
    assert.equal(rws.url, url);
  }
  await next(rws, "open");
  rws.onclose = null;
  rws.close(1000, "close");
  assert.equal((await next(rws, "close")).reason, "close");
  assert.equal(connections.length, 3);
  await until(() => connections.every(({ readyState }) => readyState === 3), "the old ones to end");
});

test("reconnect() while it is not ready yet makes one connection", async (t) => {
  const { url, connections } = await echo(t);
  const rws = connect(t, url);
  rws.reconnect();
  rws.reconnect();
  await next(rws, "open");
  rws.send("?");
  await next(rws, "message");
  assert.equal(connections.length, 1);
});

test("startClosed waits for reconnect()", async (t) => {
  const { url, connections } = await echo(t);
  const rws = connect(t, url, "chat", { startClosed: true });
  assert.deepEqual([rws.readyState, rws.shouldReconnect], [rws.CLOSED, false]);
  rws.send("early");
  const other = connect(t, url);
  await next(other, "open");
  assert.equal(connections.length, 1, "the other one's");
  assert.equal(rws.readyState, rws.CLOSED);
  rws.reconnect();
  assert.equal(rws.readyState, rws.CONNECTING);
  await next(rws, "open");
  assert.deepEqual([rws.readyState, rws.protocol], [rws.OPEN, "chat"]);
  assert.equal((await next(rws, "message")).data, "early");
});

test("reconnect() after close()", async (t) => {
  const rws = connect(t, (await echo(t)).url);
  await next(rws, "open");
  rws.close();
  await next(rws, "close");
  rws.reconnect();
  await next(rws, "open");
  rws.close();
  rws.reconnect();
  await next(rws, "open");
});

for (const code of [1000, 1001, 4000]) {
  test(`the server closes with ${code}: it comes back`, async (t) => {
    const { url, connections } = await echo(t);
    const rws = connect(t, url);
    await next(rws, "open");
    connections[0].close(code, "bye");
    const closed = await next(rws, "close");
    assert.deepEqual([closed.code, closed.reason, closed.wasClean, closed.target], [code, "bye", true, rws._ws]);
    await next(rws, "open");
    assert.equal(connections.length, 2);
  });
}

test("close() when told of the server's close keeps it closed", async (t) => {
  const { url, connections, server } = await echo(t);
  server.on("connection", (connection) => connection.close(3999 + connections.length, "go"));
  const rws = connect(t, url);
  const codes = [];
  rws.onclose = ({ code }) => {
    codes.push(code);
    if (code === 4001) rws.close();
  };
  await until(() => codes.length === 2, "the second close");
  assert.deepEqual(codes, [4000, 4001]);
  assert.deepEqual([rws._connectLock, rws._due, rws._live], [null, 0, false], "nothing is planned");
});

test("a server that comes back finds everyone back", async (t) => {
  const { port, url } = await nowhere();
  const rws = connect(t, url);
  await next(rws, "error");
  await next(rws, "error");
  const { connections } = await echo(t, port);
  rws.send("kept");
  await until(() => connections[0]?.heard.length, "what was sent meanwhile");
  assert.deepEqual(connections[0].heard, ["kept"]);
});

test("a connection that is torn comes back", async (t) => {
  const { url, connections } = await echo(t);
  const rws = connect(t, url);
  await next(rws, "open");
  connections[0].terminate();
  await next(rws, "open");
  assert.equal(rws.retryCount, 1);
});

// ── Errors ──────────────────────────────────────────────────────────────────────────────────────────────────────────

test("connectionTimeout: an error TIMEOUT, and another attempt", async (t) => {
  const { url, sockets } = await silence(t);
  const rws = connect(t, url, undefined, { connectionTimeout: 100, maxRetries: 1 });
  const told = [];
  rws.onclose = (event) => told.push(event);
  rws.onerror = (event) => told.push(event);
  await until(() => told.length === 4, "two timeouts");
  assert.deepEqual(told.map(({ type }) => type), ["close", "error", "close", "error"]);
  const [closed, failed] = told;
  assert.deepEqual([closed.code, closed.reason, closed.target], [1000, "timeout", rws]);
  assert.deepEqual([failed.message, failed.error.message, failed.target], ["TIMEOUT", "TIMEOUT", rws]);
  assert.ok(failed instanceof module.ErrorEvent && closed instanceof module.CloseEvent);
  assert.equal(rws.retryCount, 1);
  assert.equal(sockets.size, 2);
});

test("close() while it connects: what `ws` says of it is told, and nothing follows", async (t) => {
  const { url } = await silence(t);
  const rws = connect(t, url);
  const told = [];
  rws.onclose = ({ code }) => told.push(code);
  rws.onerror = ({ message }) => told.push(message);
  await until(() => rws._ws, "the socket");
  rws.close();
  await until(() => told.length === 2, "both");
  assert.deepEqual(told, [1000, "WebSocket was closed before the connection was established"]);
  assert.deepEqual([rws._connectLock, rws._due, rws.readyState], [null, 0, 3]);
});

test("a connection that fails at once does not time out", async (t) => {
  const { url } = await nowhere();
  const rws = connect(t, url, [], { maxRetries: 2, connectionTimeout: 1_000 });
  const errors = [];
  rws.addEventListener("error", ({ message }) => errors.push([message, rws.retryCount]));
  await until(() => errors.length === 3, "three attempts");
  assert.deepEqual(errors.map(([, count]) => count), [1, 2, 2]);
  for (const [message] of errors) assert.match(message, /ECONNREFUSED/);
});

for (const [what, provider, message] of [
  ["throws", () => { throw new RangeError("no token"); }, /no token/],
  ["rejects", () => Promise.reject(new RangeError("no token")), /no token/],
  ["gives no URL", () => 123, /Invalid URL/],
  ["gives a URL that is none", () => "no url", /URL/],
]) {
  test(`a provider that ${what} is an error, and asked again`, async (t) => {
    const { url } = await echo(t);
    let asked = 0;
    const rws = connect(t, () => (++asked < 3 ? provider() : url));
    const failed = await next(rws, "error");
    assert.match(failed.message, message);
    assert.equal(failed.error.message, failed.message);
    assert.equal(failed.target, rws);
    assert.equal(rws.retryCount, 1);
    await next(rws, "open");
    assert.equal(asked, 3);
  });
}

// ── Listeners ───────────────────────────────────────────────────────────────────────────────────────────────────────

test("onopen and the like are kept over reconnects", async (t) => {
  const { url, connections } = await echo(t);
  const rws = connect(t, url);
  const told = [];
  const handlers = {};
  for (const type of ["open", "message", "close", "error"]) handlers[type] = rws[`on${type}`] = (event) => told.push(event.type);
  await until(() => rws.readyState === 1, "the first");
  connections[0].close();
  await until(() => connections.length === 2 && rws.readyState === 1, "the second");
  rws.send("x");
  await until(() => told.length === 4, "the echo");
  assert.deepEqual(told, ["open", "close", "open", "message"]);
  for (const type of Object.keys(handlers)) assert.equal(rws[`on${type}`], handlers[type]);
});

test("listeners: functions and objects with handleEvent, on… before them, removed ones not", async (t) => {
  const { url } = await echo(t);
  const rws = connect(t, url);
  const told = [];
  const fail = () => told.push("removed");
  const failing = { handleEvent: fail };
  rws.addEventListener("unknown", fail);
  rws.removeEventListener("unknown", fail);
  rws.removeEventListener("open", fail);
  for (const listener of [fail, failing]) {
    rws.addEventListener("open", listener);
    rws.addEventListener("open", listener);
    rws.removeEventListener("open", listener);
  }
  const object = { handleEvent(event) { told.push(["object", event.type, this === object]); } };
  rws.addEventListener("open", object);
  rws.addEventListener("open", (event) => told.push(["function", event.type]));
  rws.addEventListener("open", null);
  rws.onopen = function (event) {
    told.push(["onopen", event.type, this === rws]);
  };
  await next(rws, "open");
  assert.deepEqual(told, [["onopen", "open", true], ["object", "open", true], ["function", "open"]]);
});

test("dispatchEvent calls the listeners of that type", () => {
  const rws = new ReconnectingWebSocket("ws://example.com/", undefined, { WebSocket, startClosed: true });
  const told = [];
  rws.addEventListener("message", (event) => told.push(event));
  const event = { type: "message", data: 1 };
  assert.equal(rws.dispatchEvent(event), true);
  assert.equal(rws.dispatchEvent({ type: "unknown" }), true);
  assert.deepEqual(told, [event]);
});

// ── Sending ─────────────────────────────────────────────────────────────────────────────────────────────────────────

test("what is sent before it is open waits, and goes first, in order", async (t) => {
  const { url, connections } = await echo(t);
  const rws = connect(t, url);
  const messages = ["message1", "message2", "message3"];
  for (const message of messages) rws.send(message);
  assert.equal(rws._messageQueue.length, 3);
  assert.equal(rws.bufferedAmount, 24);
  rws.onopen = () => rws.send("ok");
  await until(() => connections[0]?.heard.length === 4, "all of them");
  assert.deepEqual(connections[0].heard, [...messages, "ok"]);
  assert.equal(rws._messageQueue.length, 0);
  assert.equal(rws.bufferedAmount, 0);
});

test("bufferedAmount counts strings, buffers, views and Blobs", async (t) => {
  const { url, connections } = await echo(t);
  const rws = connect(t, url, undefined, { startClosed: true });
  for (const [message, size] of [["four", 4], [new ArrayBuffer(5), 5], [new Uint16Array(3), 6], [new DataView(new ArrayBuffer(7)), 7]]) {
    const before = rws.bufferedAmount;
    rws.send(message);
    assert.equal(rws.bufferedAmount - before, size);
  }
  rws.reconnect();
  await until(() => connections[0]?.heard.length === 4, "all of them");
  assert.deepEqual(connections[0].heard.map(({ length }) => length), [4, 5, 6, 7]);
  const other = connect(t, url, undefined, { startClosed: true });
  other.send(new Blob(["12345678"]));
  assert.equal(other.bufferedAmount, 8);
});

test("maxEnqueuedMessages: further ones are dropped, and the log says so", (t) => {
  const log = [];
  const rws = connect(t, "ws://example.com/", undefined, {
    startClosed: true, maxEnqueuedMessages: 2, debug: true, debugLogger: (...parameters) => log.push(parameters),
  });
  for (let i = 0; i < 10; i++) rws.send("message");
  assert.equal(rws.bufferedAmount, 14);
  assert.deepEqual(log.at(-1), ["RWS>", "dropped: the queue is full", "message"]);
  assert.equal(log.filter(([, what]) => what.startsWith("dropped")).length, 8);
});

test("binaryType is that of the socket, and kept over reconnects", async (t) => {
  const { url } = await echo(t);
  const rws = connect(t, url);
  rws.binaryType = "arraybuffer";
  assert.equal(rws.binaryType, "arraybuffer");
  await next(rws, "open");
  assert.equal(rws._ws.binaryType, "arraybuffer");
  rws.reconnect();
  await next(rws, "open");
  assert.equal(rws._ws.binaryType, "arraybuffer");
  rws.send(new Uint8Array([1, 2, 3]));
  assert.deepEqual(new Uint8Array((await next(rws, "message")).data), new Uint8Array([1, 2, 3]));
  rws.binaryType = "nodebuffer";
  assert.deepEqual([rws.binaryType, rws._ws.binaryType], ["nodebuffer", "nodebuffer"]);
});

// ── Debug ───────────────────────────────────────────────────────────────────────────────────────────────────────────

for (const debug of [true, false]) {
  test(`debug: ${debug}`, async (t) => {
    const log = t.mock.method(console, "log", () => {});
    const rws = connect(t, (await echo(t)).url, undefined, { debug });
    await next(rws, "open");
    rws.close();
    await next(rws, "close");
    const calls = log.mock.calls.map(({ arguments: parameters }) => parameters);
    log.mock.restore();
    if (debug) {
      assert.deepEqual(calls[0], ["RWS>", "connect", 0]);
      assert.ok(calls.some(([, what]) => what === "open event"));
    } else {
      assert.deepEqual(calls, []);
    }
  });
}

test("debugLogger gets what console.log would", async (t) => {
  const log = [];
  const rws = connect(t, (await echo(t)).url, undefined, { debug: true, debugLogger: (...parameters) => log.push(parameters) });
  await next(rws, "open");
  assert.deepEqual(log[0], ["RWS>", "connect", 0]);
  const silent = connect(t, rws.url, undefined, { debugLogger: () => assert.fail("debug is off") });
  await next(silent, "open");
});
