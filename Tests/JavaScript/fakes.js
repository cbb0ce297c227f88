// A WebSocket, a clock and a page to hold the client in the hand.

import { mock } from "node:test";
import { Holdfast, loadFallback } from "../../clients/js/holdfast.js";

await loadFallback(); // The fakes know no waiting for a module.

export const HELLO = { event: "hello", status: "ok", session: "h1.secret", resumed: false, heartbeat: { interval: 4, hidden_interval: 25, timeout: 5 }, spread: 1, node: "n1" };

export class FakeWebSocket {
  sent = [];
  closedWith = null;
  onopen = null;
  onmessage = null;
  onclose = null;
  onerror = null;

  constructor(url) {
    this.url = url;
    FakeWebSocket.all.push(this);
  }

  static all = [];
  static get last() {
    return FakeWebSocket.all.at(-1);
  }

  send(text) {
    this.sent.push(JSON.parse(text));
  }

  close(code) {
    this.closedWith = code ?? "no code";
  }

  // What the network does
  open() {
    this.onopen?.({});
  }

  say(...events) {
    for (const event of events) this.onmessage?.({ data: JSON.stringify(event) });
  }

  end(code = 1006, reason = "") {
    this.onerror?.({});
    this.onclose?.({ code, reason });
  }

  /** What was sent since, by event name. */
  take() {
    return this.sent.splice(0);
  }
}

/** A Storage; `spoilt` holds the names of methods that throw. */
export function fakeStorage(items = {}, spoilt = []) {
  const method = (name, act) => (...parameters) => {
    if (spoilt.includes(name)) throw new Error(`${name} is forbidden`);
    return act(...parameters);
  };
  return {
    items,
    spoilt,
    getItem: method("getItem", (key) => items[key] ?? null),
    setItem: method("setItem", (key, value) => void (items[key] = value)),
    removeItem: method("removeItem", (key) => void delete items[key]),
  };
}

/** A gateway that takes every line over HTTP, and says nothing more. */
export function fakeFetch() {
  const requests = [];
  const fetch = async (url, { method, body, headers, signal }) => {
    requests.push({ method, url: String(url), body: body && JSON.parse(body), headers });
    if (String(url).endsWith("/session")) return Response.json([HELLO]);
    return new Promise((_, reject) => signal.addEventListener("abort", () => reject(signal.reason)));
  };
  return { fetch, requests };
}

/** Lets promises settle; no time passes. */
export async function settle() {
  for (let i = 0; i < 20; i++) await null;
}

/** A client in virtual time; over WebSockets only, unless the test says otherwise. */
export function setUp(options = {}, url = "wss://example.com/socket") {
  FakeWebSocket.all = [];
  mock.timers.reset();
  mock.timers.enable({ apis: ["setTimeout"] });
  let now = 0;
  const events = [];
  const client = new Holdfast(url, {
    WebSocket: FakeWebSocket, now: () => now, random: () => 0.5, transports: ["websocket"], ...options,
  });
  for (const type of ["state", "connected", "recovered", "gap", "rtt", "goaway", "error"]) {
    client.on(type, (event) => events.push([type, event]));
  }
  const pass = async (ms) => {
    for (let i = 0; i < ms; i++) {
      now++;
      mock.timers.tick(1);
    }
    await settle();
  };
  /** Time passes, but no timer fires. */
  const sleep = (ms) => (now += ms);
  const take = () => events.splice(0);
  return { client, events, pass, sleep, take };
}

/** A client with a session, and nothing else done yet. */
export async function setUpConnected(options) {
  const world = setUp(options);
  await settle();
  const socket = FakeWebSocket.last;
  socket.open();
  await settle();
  socket.say(HELLO);
  if (world.client.state !== "connected") throw new Error(`the set-up is wrong: ${world.client.state}`);
  socket.take();
  world.take();
  return { ...world, socket };
}

/** Answers the subscribe that was sent last. */
export function confirm(socket, more = {}) {
  const { subscription, id } = socket.sent.findLast(({ event }) => event === "subscribe");
  socket.say({ event: "subscribe", subscription, status: "ok", id, position: { epoch: "e1", offset: 41 }, ...more });
  socket.take();
}

/** @param {number} offset */
export const message = (offset, data = offset, subscription = "calls.a") => ({ event: "message", subscription, offset, data });
