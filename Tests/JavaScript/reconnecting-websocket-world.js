// What the drop-in class is held in: a real server, or a socket, a clock and a page of ours.

import { createRequire } from "node:module";
import net from "node:net";
import { ReconnectingWebSocket } from "../../clients/js/reconnecting-websocket.js";

export const { WebSocket, WebSocketServer } = (() => {
  const require = createRequire(import.meta.url);
  for (const path of ["ws", "/usr/share/nodejs/ws"]) {
    try {
      return require(path);
    } catch (error) {
      if (error.code !== "MODULE_NOT_FOUND") throw error;
    }
  }
  throw new Error("ws is missing: apt-get install node-ws");
})();

const DEADLINE_MS = 15_000;

/** Waits for it, with a deadline. */
export async function until(condition, what) {
  const end = performance.now() + DEADLINE_MS;
  while (!condition()) {
    if (performance.now() > end) throw new Error(`waited in vain for ${what}`);
    await new Promise(setImmediate);
  }
}

/** The next event of that type. */
export function next(rws, type) {
  return new Promise((resolve, reject) => {
    const deadline = setTimeout(() => reject(new Error(`waited in vain for ${type}`)), DEADLINE_MS);
    rws.addEventListener(type, function listener(event) {
      clearTimeout(deadline);
      rws.removeEventListener(type, listener);
      resolve(event);
    });
  });
}

async function listen(t, server) {
  await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));
  t.after(() => server.close());
  return server.address().port;
}

/** A server that sends back what it gets. `port`: where another one was. */
export async function echo(t, port = 0) {
  const server = new WebSocketServer({ port, host: "127.0.0.1" });
  await new Promise((resolve) => server.once("listening", resolve));
  /** @type {any[]} every connection, the closed ones too */
  const connections = [];
  server.on("connection", (connection) => {
    connections.push(connection);
    connection.heard = [];
    connection.on("error", () => {});
    connection.on("message", (data, isBinary) => {
      connection.heard.push(isBinary ? data : String(data));
      connection.send(data, { binary: isBinary });
    });
  });
  const stop = () => {
    for (const connection of connections) connection.terminate();
    return new Promise((resolve) => server.close(resolve));
  };
  t.after(stop);
  return { server, connections, stop, port: server.address().port, url: `ws://127.0.0.1:${server.address().port}/` };
}

/** Takes connections and never says a word. */
export async function silence(t) {
  const sockets = new Set();
  const server = net.createServer((socket) => sockets.add(socket.on("error", () => {}).on("data", () => {})));
  t.after(() => sockets.forEach((socket) => socket.destroy()));
  return { sockets, url: `ws://127.0.0.1:${await listen(t, server)}/` };
}

/** Where nobody listens. */
export async function nowhere() {
  const server = net.createServer();
  await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));
  const { port } = server.address();
  await new Promise((resolve) => server.close(resolve));
  return { port, url: `ws://127.0.0.1:${port}/` };
}

/** Stands before that port. `freeze()`: from now on every line that there is swallows what comes, in both directions, and stays open. */
export async function proxy(t, target) {
  /** @type {{frozen: boolean, ended: boolean}[]} */
  const lines = [];
  const server = net.createServer((near) => {
    const far = net.connect(target, "127.0.0.1");
    const line = { frozen: false, ended: false, swallowed: 0 };
    lines.push(line);
    for (const [from, to] of [[near, far], [far, near]]) {
      from.on("data", (data) => (line.frozen ? (line.swallowed += data.length) : to.write(data)));
      from.on("end", () => line.frozen || to.end());
      from.on("error", () => {});
      from.on("close", () => line.frozen || to.destroy());
    }
    t.after(() => (near.destroy(), far.destroy()));
  });
  const port = await listen(t, server);
  return { lines, freeze: () => lines.forEach((line) => (line.frozen = true)), url: `ws://127.0.0.1:${port}/` };
}

/** One over real sockets, closed with the test; retries soon, unless the options say otherwise. */
export function connect(t, url, protocols, options) {
  const rws = new ReconnectingWebSocket(url, protocols, { WebSocket, minReconnectionDelay: 20, maxReconnectionDelay: 100, ...options });
  t.after(() => rws.close());
  return rws;
}

export class FakeSocket {
  static CLOSING = 2;
  /** @type {FakeSocket[]} */
  static all = [];
  static get last() {
    return FakeSocket.all.at(-1);
  }

  readyState = 0;
  bufferedAmount = 0;
  extensions = "";
  protocol = "";
  binaryType = "blob";
  onopen = null;
  onmessage = null;
  onclose = null;
  onerror = null;
  sent = [];
  /** @type {unknown[][]} */
  closedWith = [];

  constructor(url, protocols) {
    if (url === "bad") throw new SyntaxError("an invalid URL");
    this.url = url;
    this.protocols = protocols;
    FakeSocket.all.push(this);
  }

  send(data) {
    this.sent.push(data);
  }

  /** The other side does not agree by itself. */
  close(code, reason) {
    if (code === 1001) throw new Error("not allowed");
    this.closedWith.push([code, reason]);
    if (this.readyState < 2) this.readyState = 2;
  }

  // What the network does

  open() {
    this.readyState = 1;
    this.onopen?.({ type: "open", target: this });
  }

  say(data) {
    this.onmessage?.({ type: "message", data, target: this });
  }

  end(code = 1006, reason = "") {
    this.readyState = 3;
    this.onclose?.({ type: "close", code, reason, wasClean: code !== 1006, target: this });
  }

  fail() {
    this.readyState = 3;
    this.onerror?.({ type: "error", target: this });
    this.end();
  }
}

async function settle() {
  for (let i = 0; i < 10; i++) await null;
}

/** One in virtual time. `told`: what the app was told. Delays are those of the options, without jitter, unless these say so. */
export function virtual(t, options = {}, url = "ws://example.com/") {
  let now = 0;
  let ids = 0;
  const timers = new Map();
  t.mock.method(performance, "now", () => now);
  t.mock.method(globalThis, "setTimeout", (act, ms = 0) => {
    // As those of a browser: what is too long fires at once.
    timers.set(++ids, { at: now + (ms > 2 ** 31 - 1 ? 1 : Math.max(ms, 1)), act });
    return ids;
  });
  const clear = globalThis.clearTimeout; // for those that a test over real sockets has left behind
  t.mock.method(globalThis, "clearTimeout", (id) => timers.delete(id) || clear(id));
  /** The next timer fires, if it is due by then. */
  const step = async (end) => {
    await settle();
    let [first, timer] = [0, { at: Infinity, act() {} }];
    for (const [id, other] of timers) if (other.at < timer.at) [first, timer] = [id, other];
    if (!first || timer.at > end) return false;
    now = Math.max(now, timer.at);
    timers.delete(first);
    timer.act();
    await settle();
    return true;
  };
  const pass = async (ms) => {
    const end = now + ms;
    while (await step(end));
    now = end;
  };

  FakeSocket.all = [];
  const told = [];
  const rws = new ReconnectingWebSocket(url, options.protocols, {
    WebSocket: FakeSocket, minReconnectionDelay: 1_000, jitter: false, random: () => 0.5, ...options,
  });
  for (const type of ["open", "message", "close", "error"]) rws.addEventListener(type, (event) => told.push(event));
  return {
    rws,
    pass,
    timers,
    take: () => told.splice(0),
    types: () => told.splice(0).map(({ type }) => type),
    /** The machine sleeps: time passes, and no timer fires. */
    sleep: (ms) => (now += ms),
    /** Passes time until there is another socket; says how long it took, in whole ms. */
    untilNext: async () => {
      const [began, before] = [now, FakeSocket.all.length];
      while (FakeSocket.all.length === before) if (!(await step(began + 100_000))) throw new Error("no further socket");
      return Math.round(now - began);
    },
  };
}

/** One in virtual time that is open. */
export async function virtualOpen(t, options, url) {
  const world = virtual(t, options, url);
  await world.pass(10);
  FakeSocket.last.open();
  world.take();
  return { ...world, socket: FakeSocket.last };
}

/** The events of a page or a worker. `hidden` and `onLine` are for the test to set. Before the class is made. */
export function page(t) {
  const target = new EventTarget();
  /** @type {Map<string, Set<unknown>>} */
  const listeners = new Map();
  const world = {
    hidden: false,
    onLine: true,
    listeners: () => [...listeners.values()].reduce((sum, { size }) => sum + size, 0),
    happen: (type, more = {}) => {
      if (type === "online" || type === "offline") world.onLine = type === "online";
      target.dispatchEvent(Object.assign(new globalThis.Event(type), more));
    },
  };
  const globals = {
    addEventListener(type, listener) {
      if (!listeners.has(type)) listeners.set(type, new Set());
      listeners.get(type).add(listener);
      target.addEventListener(type, listener);
    },
    removeEventListener(type, listener) {
      listeners.get(type)?.delete(listener);
      target.removeEventListener(type, listener);
    },
    document: { get hidden() { return world.hidden; } },
    navigator: { get onLine() { return world.onLine; } },
  };
  for (const [name, value] of Object.entries(globals)) {
    const before = Object.getOwnPropertyDescriptor(globalThis, name);
    Object.defineProperty(globalThis, name, { value, configurable: true, writable: true });
    t.after(() => (before ? Object.defineProperty(globalThis, name, before) : delete globalThis[name]));
  }
  return world;
}
