// Messages that survive the page (outbox.js): a disk, its locks and its tabs in the hand; then the same in random histories.

import assert from "node:assert/strict";
import { setMaxListeners } from "node:events";
import fs from "node:fs";
import os from "node:os";
import path from "node:path";
import { afterEach, test } from "node:test";
import { fileURLToPath, pathToFileURL } from "node:url";
import { gzipSync } from "node:zlib";
import { execFileSync } from "node:child_process";
import { Holdfast, HoldfastError } from "../../clients/js/holdfast.js";
import { FakeWebSocket, HELLO } from "./fakes.js";
import { Server, generator } from "./world.js";

await import("../../clients/js/outbox.js"); // so that it takes no time later
const DEADLINE_MS = 15_000;

// ── What a browser has for all tabs of an origin: IndexedDB, as far as it is used here, and Web Locks

/** One database for all pages. What is committed outlives them. */
class Disk {
  stores = new Map();
  version = 0;
  locks = new Map(); // name: {holder, waiting}
  #queue = []; // transactions, one at a time
  #running = false;
  #committed = {};

  /** What is committed. */
  messages() {
    return this.#committed.messages ?? [];
  }

  totals() {
    return this.#committed.totals ?? [];
  }

  enter(transaction) {
    this.#queue.push(transaction);
    if (!this.#running) this.#next();
  }

  async #next() {
    this.#running = true;
    for (let transaction; (transaction = this.#queue.shift()); ) {
      await transaction.run();
      this.#committed = Object.fromEntries([...this.stores].map(([name, { records }]) => [name, [...records.values()]]));
      transaction.told?.();
    }
    this.#running = false;
  }
}

const turn = () => new Promise(setImmediate);

class Transaction {
  #requests = [];
  #committing = false;
  error = null;

  constructor(page) {
    this.page = page;
    page.disk.enter(this);
  }

  objectStore(name) {
    const store = this.page.disk.stores.get(name);
    const ask = (act) => {
      const request = { act, onsuccess: null };
      this.#requests.push(request);
      return request;
    };
    return {
      get: (key) => ask(() => structuredClone(store.records.get(key))),
      add: (value) => ask(() => {
        if (this.page.spoilt.add) throw new DOMException("There is no room.", this.page.spoilt.add);
        const key = ++store.last;
        store.records.set(key, structuredClone({ ...value, key }));
        return key;
      }),
      put: (value, key = value.key) => ask(() => void store.records.set(key, structuredClone(value))),
      delete: (key) => ask(() => void store.records.delete(key)),
      index: (name) => ({
        getAll: (key) => ask(() => [...store.records.values()].filter((each) => each[name] === key).map((each) => structuredClone(each))),
      }),
    };
  }

  commit() {
    this.#committing = true;
  }

  async run() {
    const { page } = this;
    const before = [...page.disk.stores.values()].map((store) => [store, new Map(store.records), store.last]);
    await turn();
    while (this.#requests.length && (this.#committing || !page.dead)) {
      if (page.spoilt.answers === "never") return;
      const request = this.#requests.shift();
      try {
        request.result = request.act();
      } catch (error) {
        this.error = error;
        break;
      }
      if (!page.dead) request.onsuccess?.({ target: request });
      await turn();
    }
    if (this.error || (page.dead && !this.#committing)) {
      for (const [store, records, last] of before) Object.assign(store, { records, last });
      this.told = () => page.dead || this.onabort?.();
    } else this.told = () => page.dead || this.oncomplete?.();
  }
}

/** One tab's view of it, until it crashes. `spoilt` says what does not work. */
class Page {
  dead = false;
  #held = new Set();
  #waits = new Set();

  constructor(disk, spoilt = {}) {
    this.disk = disk;
    this.spoilt = spoilt;
    this.indexedDB = spoilt.open === "missing" ? undefined : { open: (name, version) => this.#open(version) };
    this.locks = spoilt.locks ? undefined : { request: (...parameters) => this.#lock(...parameters) };
  }

  #open(version) {
    this.asked = true;
    const { disk, spoilt } = this;
    const request = { result: null, error: null };
    if (spoilt.open === "throws") throw new DOMException("The operation is insecure.", "SecurityError");
    const tell = async () => {
      await turn();
      if (this.dead || spoilt.open === "hangs") return;
      if (spoilt.open === "blocked") return request.onblocked?.();
      if (spoilt.open === "fails") {
        request.error = new DOMException("A mutation operation was attempted.", "InvalidStateError");
        return request.onerror?.();
      }
      request.result = {
        createObjectStore: (name) => {
          disk.stores.set(name, { records: new Map(), last: 0 });
          return { createIndex() {} };
        },
        transaction: () => {
          if (spoilt.transaction) throw new DOMException("The database connection is closing.", "InvalidStateError");
          return new Transaction(this);
        },
        close() {},
      };
      if (disk.version < version) request.onupgradeneeded?.();
      disk.version = version;
      request.onsuccess?.();
    };
    tell();
    return request;
  }

  async #lock(name, ...rest) {
    const callback = rest.pop();
    const { signal } = rest[0] ?? {};
    const { locks } = this.disk;
    if (!locks.has(name)) locks.set(name, []);
    const queue = locks.get(name);
    const granted = Promise.withResolvers ? Promise.withResolvers() : withResolvers();
    const request = { page: this, grant: granted.resolve };
    queue.push(request);
    this.#waits.add([queue, request]);
    if (signal) setMaxListeners(0, signal);
    signal?.addEventListener("abort", () => {
      const at = queue.indexOf(request);
      if (at <= 0) return; // it has been granted, or is gone
      queue.splice(at, 1);
      granted.reject(signal.reason);
    });
    if (queue[0] === request) request.grant();
    await granted.promise;
    await turn();
    if (this.dead) return new Promise(() => {});
    try {
      return await callback();
    } finally {
      if (!this.dead) release(queue, request);
    }
  }

  /** The tab is gone without a word; the browser needs a moment to notice. */
  async crash(late = 0) {
    this.dead = true;
    for (let i = 0; i < late; i++) await turn();
    for (const [queue, request] of this.#waits) release(queue, request);
  }
}

function withResolvers() {
  let resolve, reject;
  const promise = new Promise((...functions) => ([resolve, reject] = functions));
  return { promise, resolve, reject };
}

function release(queue, request) {
  const at = queue.indexOf(request);
  if (at >= 0) queue.splice(at, 1);
  if (at === 0) queue[0]?.grant();
}

// ── Clients on such pages

let number = 0;
/** Each client its own message ids, and then a short backoff. */
const ownRandom = () => {
  let first = 0.1 + ++number / 100_000;
  return () => ([first, first] = [0.5, first])[1];
};

const before = Object.getOwnPropertyDescriptor(globalThis, "navigator");
function enter(page) {
  globalThis.indexedDB = page.indexedDB;
  Object.defineProperty(globalThis, "navigator", { value: { locks: page.locks }, configurable: true, writable: true });
}
function leave() {
  delete globalThis.indexedDB;
  if (before) Object.defineProperty(globalThis, "navigator", before);
  else delete globalThis.navigator;
}
const clients = [];
afterEach(() => {
  for (const client of clients.splice(0)) client.off("error").on("error", () => {}).close();
  leave();
});

async function until(condition, what) {
  const end = performance.now() + DEADLINE_MS;
  for (let value; !(value = condition()); ) {
    if (performance.now() > end) throw new Error(`waited in vain for ${what}`);
    await turn();
  }
}

/** So many turns of the event loop: whatever was going to happen without time has happened. */
async function quiet() {
  for (let i = 0; i < 60; i++) await turn();
}

/** A tab with a client that is connected, over one FakeWebSocket. */
async function open(disk, options = {}, { spoilt, url, subscribe = ["calls.a"], connect = true } = {}) {
  const page = new Page(disk, spoilt);
  enter(page);
  FakeWebSocket.all = [];
  const settings = { WebSocket: FakeWebSocket, transports: ["websocket"], persist: true, random: ownRandom(), ...options };
  const client = new Holdfast(url ?? "wss://example.com/socket", settings);
  clients.push(client);
  const errors = [];
  client.on("error", (error) => errors.push(error));
  const delivered = [];
  client.on("delivered", (event) => delivered.push(event));
  // Most promises here end with their page.
  const message = client.message.bind(client);
  client.message = (...parameters) => {
    const promise = message(...parameters);
    promise.catch(() => {});
    return promise;
  };
  for (const name of subscribe) client.subscribe(name);
  if (page.indexedDB) await until(() => page.asked || errors.length, "the outbox"); // or the error that there is none
  await quiet();
  const socket = FakeWebSocket.last;
  const tab = { client, errors, page, socket, delivered, confirm: (name) => confirm(tab.socket, name), sent: () => sent(tab.socket) };
  if (connect) {
    socket.open();
    await quiet();
    socket.say(HELLO);
    for (const name of subscribe) tab.confirm(name);
    await quiet();
  }
  return tab;
}

function confirm(socket, name) {
  const { id } = socket.sent.findLast(({ event, subscription }) => event === "subscribe" && subscription === name);
  socket.say({ event: "subscribe", subscription: name, status: "ok", id, position: { epoch: "e1", offset: 0 } });
}

/** The messages that went out over a socket: [data …]. */
const sent = (socket) => socket.sent.filter(({ event }) => event === "message").map(({ data }) => data);
const messageOf = (socket, data) => socket.sent.findLast((each) => each.event === "message" && each.data === data);

function answer(socket, data, more = {}) {
  const { subscription, id } = messageOf(socket, data);
  socket.say({ event: "message", subscription, status: "ok", id, data: `re ${data}`, ...more });
}

/** The page is gone in the middle of everything. */
async function crash(tab) {
  await tab.page.crash();
  tab.client.off("error").on("error", () => {}).close();
  await quiet();
}

const outcome = (promise) => promise.then((value) => ({ value }), ({ code, limit, actual }) => ({ code, limit, actual }));

// ── Tests

test("wrong options throw at once, and nobody's messages are sent by the next user", () => {
  const make = (options) => new Holdfast("ws://h", { WebSocket: FakeWebSocket, autoConnect: false, ...options });
  for (const credentials of [{ getTicket: () => "t" }, { getToken: () => "t" }, { headers: { a: "b" } }]) {
    assert.throws(() => make({ persist: true, ...credentials }), (error) => error instanceof TypeError && /"identity"/.test(error.message));
    assert.doesNotThrow(() => make(credentials));
  }
  for (const persist of [null, "yes", 1]) assert.throws(() => make({ persist }), /option "persist" must be true, false or limits/);
  assert.throws(() => make({ identity: 7 }), /option "identity" must be a string/);
  assert.doesNotThrow(() => make({ persist: false, identity: "u" }));
});

test("limits that are none are told, and the client goes on without keeping", async () => {
  for (const [persist, text] of [[{ maxSize: 1 }, /maxSize.*maxBytes, maxMessages, maxAge/], [{ maxBytes: 1.5 }, /maxBytes.*whole number/]]) {
    const disk = new Disk();
    const tab = await open(disk, { persist });
    tab.client.message("calls.a", 1);
    await quiet();
    assert.deepEqual(tab.sent(), [1]);
    const { errors } = tab;
    assert.deepEqual(errors.map(({ code }) => code), ["persist_unavailable"]);
    assert.match(errors[0].message, text);
  }
});

test("a message is written first, then sent, in the order of the calls; the reply removes it", async () => {
  const disk = new Disk();
  const { client, socket, sent } = await open(disk);
  const data = { n: 1 };
  const first = client.message("calls.a", data, { agent: 7 });
  data.n = "changed";
  const second = client.message("calls.a", 2);
  assert.deepEqual(sent(), [], "not before it is written");
  await until(() => sent().length === 2, "both");
  const [kept] = disk.messages();
  const { id, agent } = socket.sent.find(({ event }) => event === "message");
  assert.equal(agent, 7);
  assert.deepEqual(sent(), [{ n: 1 }, 2], "as it was when it was given");
  const { key, scope, owner, at, bytes, ...rest } = kept;
  assert.deepEqual(rest, { subscription: "calls.a", data: { n: 1 }, fields: { agent: 7 }, id, attempts: 1 });
  assert.equal(scope, JSON.stringify(["wss://example.com/socket", ""]));
  assert.ok(Math.abs(Date.now() - at) < 60_000 && owner && key === 1);
  assert.deepEqual(disk.totals(), [{ messages: 2, bytes: bytes + disk.messages()[1].bytes }]);
  answer(socket, 2, { status: "error", code: "busy", error: "No." });
  assert.deepEqual(await outcome(second), { code: "busy", limit: undefined, actual: undefined });
  socket.say({ event: "message", subscription: "calls.a", status: "ok", id, data: "yes" });
  assert.equal(await first, "yes");
  await until(() => disk.messages().length + disk.totals().length === 0, "the removal");
  await assert.rejects(client.message("calls.a", 1n), TypeError);
  assert.deepEqual(disk.messages(), []);
});

test("a page that follows sends them again, with their ids, when it has subscribed, before newer ones, and tells the app", async () => {
  const disk = new Disk();
  const one = await open(disk, { identity: "u" });
  for (const n of [1, 2, 3]) one.client.message("calls.a", n, { agent: n });
  await until(() => one.sent().length === 3, "the first sending");
  const ids = one.socket.sent.filter(({ event }) => event === "message").map(({ id }) => id);
  answer(one.socket, 2);
  await until(() => disk.messages().length === 2, "a reply");
  await crash(one);

  const two = await open(disk, { identity: "u" }, { connect: false });
  const newer = two.client.message("calls.a", 4);
  two.socket.open();
  await quiet();
  two.socket.say(HELLO);
  await quiet();
  assert.deepEqual(two.sent(), [], "not before the subscription is confirmed");
  two.confirm("calls.a");
  await until(() => two.sent().length === 3, "all");
  assert.deepEqual(two.sent(), [1, 3, 4]);
  assert.equal(messageOf(two.socket, 3).id, ids[2]);
  assert.equal(messageOf(two.socket, 3).agent, 3);
  answer(two.socket, 1);
  answer(two.socket, 3, { status: "error", code: "busy", error: "No.", data: 9 });
  answer(two.socket, 4);
  assert.equal(await newer, "re 4");
  await until(() => disk.messages().length === 0, "the removal");
  const [good, bad, ...more] = two.delivered;
  assert.deepEqual(good, { subscription: "calls.a", data: 1, id: ids[0], reply: "re 1", error: null, attempts: 2 });
  assert.deepEqual([bad.id, bad.data, bad.error.code, bad.error.message, bad.error.data], [ids[2], 3, "busy", "No.", 9]);
  assert.deepEqual(more, [], "nothing is told of what has a promise");
});

test("they belong to a gateway and an identity; the query does not count", async () => {
  const disk = new Disk();
  const one = await open(disk, { identity: "u" }, { url: "wss://example.com/socket?key=secret" });
  one.client.message("calls.a", 1);
  await until(() => one.sent().length === 1, "the message");
  assert.ok(!JSON.stringify(disk.messages()).includes("secret"));
  await crash(one);
  for (const [identity, url] of [["v", undefined], ["", undefined], ["u", "wss://example.com/other"], ["u", "wss://other.com/socket"]]) {
    const tab = await open(disk, { identity }, { url });
    assert.deepEqual(tab.sent(), [], `${identity} ${url}`);
    await crash(tab);
  }
  const same = await open(disk, { identity: "u" });
  assert.deepEqual(same.sent(), [1]);
});

test("each waits for its own subscription; what the app has no subscription for is refused at once", async () => {
  const disk = new Disk();
  const one = await open(disk, {}, { subscribe: ["calls.a", "calls.b"] });
  for (const name of ["a", "b", "a", "b"]) one.client.message(`calls.${name}`, name);
  await until(() => one.sent().length === 4, "the messages");
  await crash(one);

  const two = await open(disk, {}, { subscribe: ["calls.b"] });
  assert.deepEqual(two.sent(), ["b", "b"]);
  two.client.message("calls.a", "newer");
  await until(() => two.sent().length === 3, "no wait for a subscription that is not asked for");
  answer(two.socket, "newer", { status: "error", code: "not_subscribed" });
  two.client.subscribe("calls.a");
  await quiet();
  two.client.message("calls.a", "newest");
  await quiet();
  assert.equal(two.sent().length, 3, "behind the older ones, which wait for the subscription");
  two.confirm("calls.a");
  await until(() => two.sent().length === 6, "the rest");
  assert.deepEqual(two.sent().slice(3), ["a", "a", "newest"]);
});

test("a refused subscription sets newer messages free, and leaves the older ones for another page", async () => {
  const disk = new Disk();
  const one = await open(disk);
  one.client.message("calls.a", 1);
  await until(() => one.sent().length === 1, "the message");
  await crash(one);
  const two = await open(disk, {}, { connect: false });
  two.client.message("calls.a", 2);
  two.socket.open();
  await quiet();
  two.socket.say(HELLO);
  const { id } = two.socket.sent.find(({ event }) => event === "subscribe");
  two.client.subscribe("calls.a").on("error", () => {});
  two.socket.say({ event: "subscribe", subscription: "calls.a", status: "error", code: "unauthorized", error: "No.", id });
  await until(() => two.sent().length === 1, "the newer one");
  assert.deepEqual(two.sent(), [2]);
  await crash(two);
  const three = await open(disk);
  assert.deepEqual(three.sent(), [1, 2]);
});

test("bounds, for all tabs together: queue_full with limit and actual; room comes back with replies", async () => {
  const disk = new Disk();
  const persist = { maxMessages: 2 };
  const one = await open(disk, { persist });
  const two = await open(disk, { persist });
  one.client.message("calls.a", 1);
  const second = two.client.message("calls.a", 2);
  await until(() => disk.messages().length === 2, "both");
  assert.deepEqual(await outcome(one.client.message("calls.a", 3)), { code: "queue_full", limit: 2, actual: 3 });
  assert.deepEqual(one.sent(), [1]);
  answer(two.socket, 2);
  assert.equal(await second, "re 2");
  await until(() => disk.messages().length === 1, "room");
  one.client.message("calls.a", 4);
  await until(() => one.sent().length === 2, "the next");

  const three = await open(new Disk(), { persist: { maxBytes: 200 } });
  const { actual, ...refused } = await outcome(three.client.message("calls.a", "x".repeat(300)));
  assert.deepEqual(refused, { code: "queue_full", limit: 200 });
  assert.ok(actual > 300 && actual < 450, String(actual));
  three.client.message("calls.a", "é".repeat(40)); // 80 bytes
  await until(() => three.sent().length === 1, "a smaller one");
  assert.equal((await outcome(three.client.message("calls.a", "x".repeat(80)))).code, "queue_full");
});

test("the defaults: 1 MiB, 1,000 messages, a day", async () => {
  const disk = new Disk();
  const tab = await open(disk, {}, { connect: false });
  const outcomes = [];
  for (let n = 0; n <= 1_000; n++) outcome(tab.client.message("calls.a", n)).then((each) => outcomes.push(each));
  await until(() => outcomes.length, "the one too many");
  assert.deepEqual(outcomes, [{ code: "queue_full", limit: 1_000, actual: 1_001 }]);
  const large = await open(new Disk(), {}, { connect: false });
  assert.equal((await outcome(large.client.message("calls.a", "x".repeat(1_048_576)))).limit, 1_048_576);
});

test("what is too old is not sent, and told as expired, whatever it was for", async () => {
  const disk = new Disk();
  const one = await open(disk, {}, { subscribe: ["calls.a", "calls.b"] });
  one.client.message("calls.a", 1);
  one.client.message("calls.b", 2);
  one.client.message("calls.a", 3);
  await until(() => one.sent().length === 3, "the messages");
  await crash(one);
  const { records } = disk.stores.get("messages");
  records.get(1).at -= 86_400_001;
  records.get(2).at += 2 * 86_400_000; // by a clock that was wrong
  const two = await open(disk);
  assert.deepEqual(two.sent(), [3]);
  assert.deepEqual(two.delivered.map(({ data, error, reply, attempts }) => [data, error.code, reply, attempts]), [
    [1, "expired", undefined, 1], [2, "expired", undefined, 1],
  ]);
  assert.equal(disk.messages().length, 1);
  assert.equal(disk.totals()[0].messages, 1);
  await crash(two);
  await quiet();
  records.get(3).at -= 60_000;
  const three = await open(disk, { persist: { maxAge: 59_000 } });
  assert.deepEqual(three.delivered.map(({ error }) => error.code), ["expired"]);
});

test("more than the line's queue takes goes out piece by piece, in order, and nothing is refused", async () => {
  const disk = new Disk();
  const one = await open(disk, {}, { connect: false });
  const text = "x".repeat(100);
  for (let n = 0; n < 30; n++) one.client.message("calls.a", `${n} ${text}`);
  await until(() => disk.messages().length === 30, "the store");
  await crash(one);
  const two = await open(disk, { queueBytes: 1_000 });
  let answered = 0;
  while (answered < 30) {
    await until(() => two.sent().length > answered, `message ${answered}`);
    assert.ok(two.client.stats().queuedBytes <= 1_000);
    answer(two.socket, `${answered++} ${text}`);
    two.socket.say({ event: "ack", received: answered + 1 });
  }
  assert.deepEqual(two.sent().map((data) => parseInt(data)), Array.from({ length: 30 }, (_, n) => n));
  await until(() => disk.messages().length === 0, "the end");
  assert.equal(two.delivered.length, 30);
  assert.ok(two.delivered.every(({ error }) => error === null));
});

test("what the client itself refuses is removed: a message that the server closes the line for", async () => {
  const disk = new Disk();
  const { client, socket, sent } = await open(disk);
  const big = outcome(client.message("calls.a", "big"));
  await until(() => sent().length === 1, "the message");
  socket.end(1009);
  assert.equal((await big).code, "too_big");
  await until(() => disk.messages().length === 0, "the removal");
});

test("close() rejects and keeps; connect() sends what was kept, and the app hears by delivered", async () => {
  const disk = new Disk();
  const one = await open(disk);
  const sentOne = outcome(one.client.message("calls.a", 1));
  await until(() => one.sent().length === 1, "the first");
  const written = outcome(one.client.message("calls.a", 2)); // and the close comes before it is sent
  one.client.close();
  assert.deepEqual((await Promise.all([sentOne, written])).map(({ code }) => code), ["closed", "closed"]);
  assert.equal((await outcome(one.client.message("calls.a", 3))).code, "closed");
  await quiet();
  assert.deepEqual(disk.messages().map(({ data }) => data), [1, 2], "what came after the close was not accepted");
  one.client.connect();
  await quiet();
  const socket = FakeWebSocket.last;
  socket.open();
  await quiet();
  socket.say({ ...HELLO, session: "h2.secret" });
  confirm(socket, "calls.a");
  await until(() => sent(socket).length === 2, "what was kept");
  answer(socket, 1);
  answer(socket, 2);
  await until(() => disk.messages().length === 0, "the end");
  assert.deepEqual(one.delivered.map(({ data, reply }) => [data, reply]), [[1, "re 1"], [2, "re 2"]]);
});

test("another client on the same page takes them after a close()", async () => {
  const disk = new Disk();
  const one = await open(disk);
  outcome(one.client.message("calls.a", 1));
  await until(() => one.sent().length === 1, "the first");
  one.client.close();
  const two = await open(disk);
  assert.deepEqual(two.sent(), [1]);
});

test("two tabs that start at once take each message once; a tab that lives keeps its own", async () => {
  const disk = new Disk();
  const one = await open(disk);
  for (let n = 0; n < 10; n++) one.client.message("calls.a", n);
  await until(() => one.sent().length === 10, "the messages");
  await crash(one);
  const tabs = [await open(disk, {}, { connect: false }), await open(disk, {}, { connect: false })];
  for (const { socket } of tabs) socket.open();
  await quiet();
  for (const { socket } of tabs) {
    socket.say(HELLO);
    confirm(socket, "calls.a");
  }
  const all = () => tabs.flatMap(({ sent }) => sent());
  await until(() => all().length >= 10, "all");
  await quiet();
  assert.deepEqual(all(), [0, 1, 2, 3, 4, 5, 6, 7, 8, 9]);
  assert.equal(disk.messages().length, 10);
});

test("a tab that goes while another lives: the other takes what it has left", async () => {
  const disk = new Disk();
  const one = await open(disk);
  one.client.message("calls.a", 1);
  await until(() => one.sent().length === 1, "the message");
  const two = await open(disk, {}, { connect: false });
  two.socket.open();
  await quiet();
  two.socket.say(HELLO);
  two.confirm("calls.a");
  const own = two.client.message("calls.a", 2);
  // Half a second later: the other might have been on its way out.
  await until(() => two.sent().length === 1, "its own");
  assert.deepEqual(two.sent(), [2], "the other lives");
  await crash(one);
  await until(() => two.sent().length === 2, "the other's");
  answer(two.socket, 1);
  answer(two.socket, 2);
  assert.equal(await own, "re 2");
  await until(() => disk.messages().length === 0, "the end");
  assert.deepEqual(two.delivered.map(({ data }) => data), [1]);
});

test("a reloaded page whose lock comes back late: newer messages wait for what it has left", async () => {
  const disk = new Disk();
  const one = await open(disk);
  one.client.message("calls.a", 1);
  await until(() => one.sent().length === 1, "the message");
  const gone = one.page.crash(400);
  const two = await open(disk);
  two.client.message("calls.a", 2);
  await quiet();
  assert.deepEqual(two.sent(), []);
  await gone;
  await until(() => two.sent().length === 2, "both");
  assert.deepEqual(two.sent(), [1, 2]);
});

/** The half second for a page on its way out, in which a starved machine may not get far. */
function patient() {
  const { setTimeout } = globalThis;
  globalThis.setTimeout = (act, ms, ...rest) => setTimeout(act, ms === 500 ? 10_000 : ms, ...rest);
  return () => (globalThis.setTimeout = setTimeout);
}

test("of several that are gone, the later is known first: the order is that of the sending", async (t) => {
  t.after(patient());
  const disk = new Disk();
  const one = await open(disk);
  one.client.message("calls.a", 1);
  await until(() => one.sent().length === 1, "the first");
  const two = await open(disk);
  two.client.message("calls.a", 2);
  await quiet();
  assert.equal(disk.messages().length, 2);
  const three = await open(disk);
  await crash(two);
  assert.deepEqual(three.sent(), []);
  await crash(one);
  await until(() => three.sent().length === 2, "both");
  assert.deepEqual(three.sent(), [1, 2]);
});

const troubles = {
  "no IndexedDB": { open: "missing" },
  "IndexedDB is forbidden": { open: "throws" },
  "IndexedDB is broken": { open: "fails" },
  "an older version holds the database": { open: "blocked" },
  "the disk is full": { add: "QuotaExceededError" },
  "the connection to the database is gone": { transaction: true },
  "the database does not open": { open: "hangs", time: true },
  "the database does not answer": { answers: "never", time: true },
};
for (const [name, spoilt] of Object.entries(troubles)) {
  test(`${name}: sending goes on, and one error says so`, async () => {
    const tab = await open(new Disk(), {}, { spoilt });
    const replies = [1, 2].map((n) => tab.client.message("calls.a", n));
    if (spoilt.time) {
      await quiet();
      assert.deepEqual(tab.sent(), [], "it is waited for, 3 s");
    }
    await until(() => tab.sent().length === 2, "both");
    assert.deepEqual(tab.sent(), [1, 2]);
    for (const n of [1, 2]) answer(tab.socket, n);
    assert.deepEqual(await Promise.all(replies), ["re 1", "re 2"]);
    const third = tab.client.message("calls.a", 3);
    await until(() => tab.sent().length === 3, "the third");
    answer(tab.socket, 3);
    assert.equal(await third, "re 3");
    assert.deepEqual(tab.errors.map(({ code }) => code), ["persist_unavailable"]);
    assert.match(tab.errors[0].message, /do not survive this page: \S/);
  });
}

test("the store breaks in the middle: what it has is still removed, and the order stays", async () => {
  const disk = new Disk();
  const tab = await open(disk);
  tab.client.message("calls.a", 1);
  await until(() => tab.sent().length === 1, "the first");
  tab.page.spoilt.add = "QuotaExceededError";
  for (const n of [2, 3]) tab.client.message("calls.a", n);
  await until(() => tab.sent().length === 3, "the others");
  assert.deepEqual(tab.sent(), [1, 2, 3]);
  answer(tab.socket, 1);
  await until(() => disk.messages().length === 0, "the removal");
  assert.deepEqual(tab.errors.map(({ code }) => code), ["persist_unavailable"]);
});

test("the module cannot be loaded: as without", async () => {
  const folder = fs.mkdtempSync(path.join(os.tmpdir(), "holdfast-outbox-"));
  try {
    fs.writeFileSync(path.join(folder, "package.json"), '{"type":"module"}');
    fs.copyFileSync(fileURLToPath(new URL("../../clients/js/holdfast.js", import.meta.url)), path.join(folder, "holdfast.js"));
    const { Holdfast } = await import(pathToFileURL(path.join(folder, "holdfast.js")));
    FakeWebSocket.all = [];
    const client = new Holdfast("ws://h", { WebSocket: FakeWebSocket, transports: ["websocket"], persist: true });
    clients.push(client);
    const errors = [];
    client.on("error", ({ code, message }) => errors.push([code, message]));
    const reply = client.message("calls.a", 1);
    await until(() => FakeWebSocket.last, "the line");
    FakeWebSocket.last.open();
    await quiet();
    FakeWebSocket.last.say(HELLO);
    await until(() => sent(FakeWebSocket.last).length === 1, "the message");
    answer(FakeWebSocket.last, 1);
    assert.equal(await reply, "re 1");
    assert.deepEqual(errors.map(([code]) => code), ["persist_unavailable"]);
    assert.match(errors[0][1], /outbox\.js/);
  } finally {
    fs.rmSync(folder, { recursive: true });
  }
});

test("without Web Locks a tab sends what its own earlier pages have left, and drops what is too old", async () => {
  const disk = new Disk();
  const items = {};
  const sessionStorage = { getItem: (key) => items[key] ?? null, setItem: (key, value) => void (items[key] = value) };
  let copies = 0;
  /** A page of the tab with these items; each page loads the module anew. */
  const load = async (storage) => {
    globalThis.sessionStorage = storage;
    enter(new Page(disk, { locks: true }));
    const { Outbox } = await import(`../../clients/js/outbox.js?${++copies}`);
    const told = [];
    const input = (message) => told.push(message.data);
    const client = { stats: () => ({ queuedBytes: 0 }), _emit: (_, event) => told.push(event.error.code), _report: (error) => told.push(error) };
    const outbox = new Outbox(client, "ws://h/", { persist: true }, new Map([["calls.a", { state: "subscribed" }]]), input, () => {}, HoldfastError);
    await quiet();
    return { outbox, told };
  };
  try {
    const one = await load(sessionStorage);
    one.outbox.send({ type: "message", id: "1", subscription: "calls.a", data: 1 });
    await until(() => one.told.length, "the message");
    const other = await load({ getItem: () => null, setItem() {} });
    assert.deepEqual(other.told, [], "perhaps it lives");
    const two = await load(sessionStorage);
    assert.deepEqual(two.told, [1]);
    assert.equal(JSON.parse(items["holdfast:outbox"]).length, 2);
    for (const kept of disk.stores.get("messages").records.values()) kept.at -= 86_400_001;
    assert.deepEqual((await load({ getItem: () => "nonsense", setItem() {} })).told, ["expired"]);
  } finally {
    delete globalThis.sessionStorage;
  }
});

// ── Random histories

const TOPICS = ["calls.a", "calls.b"];

/** The gateway of world.js; it keeps what the clients said, and remembers which were subscribed. */
class Recorder extends Server {
  log = []; // {id, subscription, data}: the order of arrival
  wild = []; // without a subscription

  receive(transport, text) {
    const count = this.executed.length;
    const { session } = transport;
    super.receive(transport, text);
    if (this.executed.length === count) return;
    const { id, subscription, data } = JSON.parse(text);
    this.log.push({ id, subscription, data });
    if (!session.topics.has(subscription)) this.wild.push(data);
  }
}

/** A WebSocket that leads to the recorder while the network is whole and the page lives. */
function socketsOf(world, page) {
  return class {
    constructor() {
      this.open = null;
      world.sockets.add(this);
      setTimeout(() => {
        if (world.down || page.dead) return this.end();
        const deliver = (act) => setImmediate(() => this.open && !page.dead && act());
        this.transport = this.open = {
          session: null, heardAt: 0, down: { send: deliver },
          received: (text) => this.onmessage?.({ data: text }),
          closed: (code) => this.end(code),
        };
        this.onopen?.();
      }, 0);
    }

    send(text) {
      const { transport } = this;
      setImmediate(() => this.open && !page.dead && world.server.receive(transport, text));
    }

    end(code = 1006) {
      world.sockets.delete(this);
      if (this.open) world.server.gone(this.transport);
      this.open = null;
      if (!page.dead) this.onclose?.({ code, reason: "" });
    }

    close() {
      setImmediate(() => this.end(1000));
    }
  };
}

/** One history. `tabs` 1: then the order holds over all pages; more: for each page's own messages. */
async function history(seed, tabs, length) {
  const random = generator(seed);
  const pick = (list) => list[Math.floor(random() * list.length)];
  const disk = new Disk();
  const clock = {
    get now() {
      return Math.floor(performance.now());
    },
    after: (ms, action) => void setTimeout(action, ms).unref(),
    at: (time, action) => clock.after(time - performance.now(), action),
  };
  const heartbeat = { interval: 4, hidden_interval: 25, timeout: 5 };
  const server = new Recorder(clock, () => 0.2 * random(), { history: 100, ttl: 60_000, outbox: 10_000, heartbeat, spread: 0.01 });
  const world = { server, down: false, sockets: new Set() };
  const cut = () => [...world.sockets].forEach((socket) => socket.end());
  const calls = []; // {page, subscription, data}, in the order of the calls
  const settled = new Map(); // data: outcome
  const delivered = [];
  const committed = new Set(); // what the disk has ever had
  const watch = () => disk.messages().forEach(({ data }) => committed.add(data));

  const load = async () => {
    const page = new Page(disk);
    enter(page);
    const values = ownRandom();
    let asked = 0;
    const client = new Holdfast("ws://h/", {
      WebSocket: socketsOf(world, page), transports: ["websocket"], persist: true, random: () => (asked++ ? 0.01 : values()),
    });
    clients.push(client);
    const problems = [];
    client.on("error", (error) => page.dead || problems.push(error));
    client.on("delivered", (event) => page.dead || delivered.push({ ...event, page, early: !calls[event.data - 1].page.dead }));
    const tab = { page, client, problems, names: [] };
    const subscribe = () => {
      tab.names = random() < 0.3 ? [pick(TOPICS)] : TOPICS;
      for (const name of tab.names) client.subscribe(name);
    };
    // A page subscribes sooner or later.
    if (random() < 0.5) subscribe();
    else setTimeout(() => page.dead || subscribe(), random() * 8);
    await turn();
    await turn(); // the outbox has its page's things
    return tab;
  };
  const unload = (tab) => {
    const gone = tab.page.crash(Math.floor(random() * 40));
    tab.client.close();
    return gone;
  };
  let data = 0;
  const live = [await load()];
  const troubles = [];
  for (let step = 0; step < length; step++) {
    const tab = pick(live);
    const choice = random();
    if (choice < 0.55) {
      const subscription = pick(tab.names.length ? tab.names : TOPICS);
      tab.client.subscribe(subscription);
      const call = { page: tab.page, subscription, data: ++data };
      calls.push(call);
      tab.client.message(subscription, call.data).then(
        () => tab.page.dead || settled.set(call.data, "ok"),
        (error) => tab.page.dead || settled.set(call.data, error.code),
      );
    } else if (choice < 0.65) {
      unload(tab); // the next one may come before the locks are back
      live.splice(live.indexOf(tab), 1);
      if (!live.length || random() < 0.5) live.push(await load());
    } else if (choice < 0.7 && live.length < tabs) live.push(await load());
    else if (choice < 0.77) cut();
    else if (choice < 0.82) {
      world.down = true;
      cut();
    } else if (choice < 0.9) world.down = false;
    else if (choice < 0.93) server.forget();
    else if (choice < 0.97) await new Promise((resolve) => setTimeout(resolve, random() * 12));
    for (let i = Math.floor(random() * 4); i > 0; i--) {
      await turn();
      watch();
    }
    watch();
  }
  world.down = false;
  const last = pick(live);
  for (const name of TOPICS) last.client.subscribe(name);
  const mine = (page) => calls.filter((call) => call.page === page);
  const rest = () => live.flatMap(({ page }) => mine(page)).filter(({ data }) => !settled.has(data));
  try {
    await until(() => watch() || (rest().length === 0 && disk.messages().length === 0), "the end");
  } catch (error) {
    throw new Error(`${error.message}: ${rest().length} promises, ${disk.messages().length} on disk, ${JSON.stringify(live.map(({ client }) => client.stats()))}`);
  }
  watch();
  const told = JSON.stringify({ seed, tabs });
  const first = new Map(); // data: place of its first arrival
  const ids = new Map();
  server.log.forEach(({ id, data, subscription }, place) => {
    if (!first.has(data)) first.set(data, place);
    ids.set(data, (ids.get(data) ?? new Set()).add(id));
    assert.equal(calls[data - 1].subscription, subscription, told);
  });
  for (const [data, set] of ids) assert.equal(set.size, 1, `${told}: message ${data} has one id`);
  assert.equal(new Set(server.log.map(({ id }) => id)).size, first.size, `${told}: and no two share one`);
  for (const data of committed) assert.ok(first.has(data), `${told}: message ${data} was accepted and is lost`);
  assert.deepEqual(server.wild, [], `${told}: sent without a subscription`);
  for (const { problems } of live) assert.deepEqual(problems, [], told);
  for (const [data, how] of settled) assert.equal(how, "ok", `${told}: message ${data}`);
  const tellings = new Map();
  for (const { data, error, attempts, page, early } of delivered) {
    assert.equal(error, null, `${told}: ${data}`);
    assert.ok(attempts > 1 && !early, `${told}: message ${data} was taken from a page that lives`);
    // A page that crashes between the reply and the removal leaves it to be told again.
    tellings.set(data, [...(tellings.get(data) ?? []), page]);
  }
  for (const [data, pages] of tellings) {
    assert.ok(pages.slice(0, -1).every(({ dead }) => dead), `${told}: message ${data} was told twice`);
  }
  const groups = tabs === 1 ? [calls] : [...new Set(calls.map(({ page }) => page))].map(mine);
  for (const group of groups) {
    // What a page could not keep any more are its last ones.
    for (const page of new Set(group.map(({ page }) => page))) {
      const lost = mine(page).findIndex(({ data }) => !first.has(data));
      if (lost >= 0) assert.ok(mine(page).slice(lost).every(({ data }) => !first.has(data)), `${told}: a hole`);
    }
    for (const topic of TOPICS) {
      const places = group.filter(({ subscription, data }) => subscription === topic && first.has(data)).map(({ data }) => first.get(data));
      assert.deepEqual(places, places.toSorted?.((a, b) => a - b) ?? [...places].sort((a, b) => a - b), `${told}: order of ${topic}`);
    }
  }
  live.forEach(({ client }) => client.close());
  return { calls: calls.length, arrived: first.size, doubled: server.log.length - first.size, delivered: delivered.length };
}

const FIRST_SEED = Number(process.env.HOLDFAST_SEED ?? 1);
const SEEDS = Number(process.env.HOLDFAST_SEEDS ?? 25);
for (const tabs of [1, 3]) {
  test(`random histories of ${tabs === 1 ? "one tab" : "three tabs"}: each accepted message arrives, in order, under one id`, async (t) => {
    const sum = { calls: 0, arrived: 0, doubled: 0, delivered: 0 };
    const impatient = patient();
    t.after(impatient);
    for (let seed = FIRST_SEED; seed < FIRST_SEED + SEEDS; seed++) {
      const run = await history(seed, tabs, 120);
      for (const name of Object.keys(sum)) sum[name] += run[name];
    }
    t.diagnostic(JSON.stringify(sum));
    assert.ok(sum.delivered > 0 && sum.doubled > 0, "the histories are worth something");
  });
}

test("what a page that wants it has to load: esbuild --minify | gzip -9", (t) => {
  const source = fileURLToPath(new URL("../../clients/js/outbox.js", import.meta.url));
  const { length } = gzipSync(execFileSync("esbuild", ["--minify", "--format=esm", source]), { level: 9 });
  t.diagnostic(`${length} bytes`);
  assert.ok(length <= 3_328, `${length} bytes`);
});

test("what follows a message of the same subscription does not overtake it, and goes in its order", async () => {
  const disk = new Disk();
  const tab = await open(disk, {}, { subscribe: ["calls.a", "calls.b"] });
  const { client } = tab;
  const subscription = client.subscribe("calls.a");
  client.message("calls.a", 1).catch(() => {});
  subscription.unsubscribe().catch(() => {});
  client.subscribe("calls.a");
  client.subscribe("calls.b").unsubscribe().catch(() => {});
  const events = (name) => FakeWebSocket.last.sent.filter((event) => event.subscription === name).map(({ event }) => event);
  await until(() => events("calls.a").length >= 4 && events("calls.b").length >= 2, "all of them");
  assert.deepEqual(events("calls.a").slice(-3), ["message", "unsubscribe", "subscribe"]);
  assert.deepEqual(events("calls.b").slice(-1), ["unsubscribe"]);
});
