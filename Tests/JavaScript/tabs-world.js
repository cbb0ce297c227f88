// A browser with many tabs in virtual time: locks, channels, shared workers, freezing and crashing. The client and the hub
// are the real ones and find all this as globals. Whoever a callback belongs to is `current` while it runs.

import { setImmediate as turn } from "node:timers/promises";
import { Holdfast } from "../../clients/js/holdfast.js";
import { serve } from "../../clients/js/tabs.js";
import { Clock, Pipe, Server, generator } from "./world.js";

/** As the gateway: what is subscribed is not subscribed twice; a message that comes again is answered again, and not executed. */
class StrictServer extends Server {
  push(session, event) {
    if (event.event === "message" && event.status) session.ids?.set(event.id, event);
    super.push(session, event);
  }

  receive(transport, text) {
    const { session } = transport;
    const event = JSON.parse(text);
    const { event: kind, subscription, id } = event;
    const refuse = (code) => {
      transport.heardAt = this.clock.now;
      session.received++;
      if (code) this.push(session, { event: kind, subscription, id, status: "error", code, error: code });
    };
    if (session) {
      if (kind === "subscribe" && session.topics.has(subscription)) return refuse("already_subscribed");
      if (kind === "unsubscribe" && !session.topics.has(subscription)) return refuse("not_subscribed");
      if (kind === "message") {
        session.ids ??= new Map();
        const reply = session.ids.get(id);
        if (reply) this.push(session, reply);
        if (session.ids.has(id)) return refuse();
        session.ids.set(id, null);
      }
    }
    super.receive(transport, text);
  }
}

/** One that can be asked what comes next, as promises have to settle in between. */
class StepClock extends Clock {
  #plan = []; // in order

  at(time, action) {
    const at = Math.max(time, this.now);
    let [low, high] = [0, this.#plan.length];
    while (low < high) {
      const middle = (low + high) >> 1;
      if (this.#plan[middle].at <= at) low = middle + 1;
      else high = middle;
    }
    this.#plan.splice(low, 0, { at, action });
  }

  /** @returns {boolean} whether there was something until then */
  step(until) {
    if (!this.#plan.length || this.#plan[0].at > until) return false;
    const { at, action } = this.#plan.shift();
    this.now = at;
    action();
    return true;
  }
}

/** Something that runs on its own: a tab, or a worker. */
class Realm {
  frozen = false;
  waking = false;
  dead = false;
  hidden = false;
  waiting = [];
  listeners = new Map();
  channels = new Set();
  sockets = new Set();
  owners = new Set(); // of a worker

  constructor(id) {
    this.id = id;
  }
}

export class Browser {
  clock = new StepClock();
  current = null;
  realms = [];
  #locks = new Map(); // name → {holder, queue}
  #channels = new Map();
  #workers = new Map();
  #ids = 0;
  network = { cutUntil: 0, open: "good", latency: () => 5 + Math.floor(this.random() * 20) };
  /** What is said on a channel, perhaps spoilt; null: it is lost. */
  tamper = (message) => message;
  /** "works", "broken" (its script cannot be had), or "missing" */
  workers = "works";

  constructor(seed, settings = {}) {
    this.random = generator(seed);
    this.server = new StrictServer(this.clock, this.random, {
      history: 1_000, ttl: 60_000, outbox: 10_000, heartbeat: { interval: 4, hidden_interval: 25, timeout: 5 }, spread: 1, ...settings,
    });
  }

  /** Runs a callback of a realm, now or when it is thawed; never when it is dead. */
  run(realm, callback) {
    if (realm.dead) return;
    if (realm.frozen || realm.waking) return void realm.waiting.push(callback);
    this.current = realm;
    callback();
  }

  after(realm, delay, callback) {
    this.clock.after(delay, () => this.run(realm, callback));
  }

  /** Time passes. After each event all promises settle, as they do in the browser. */
  async pass(ms) {
    const until = this.clock.now + ms;
    while (this.clock.step(until)) await turn();
    this.clock.now = until;
    await turn();
  }

  // ── What the tests do to it

  /** @param {(tab: Realm) => void} load the page's script */
  async open(load, hidden = false) {
    const tab = new Realm(`tab${++this.#ids}`);
    tab.hidden = hidden;
    this.realms.push(tab);
    this.current = tab;
    load(tab);
    for (let i = 0; i < 5; i++) await turn(); // import()
    return tab;
  }

  fire(realm, type, event = {}) {
    this.run(realm, () => [...(realm.listeners.get(type) ?? [])].forEach((listener) => listener({ type, ...event })));
  }

  hide(tab, hidden = true) {
    if (tab.hidden === hidden || tab.dead) return;
    tab.hidden = hidden;
    this.fire(tab, "visibilitychange");
  }

  /** No goodbye: its process is gone. */
  kill(realm) {
    if (realm.dead) return;
    realm.dead = true;
    realm.waiting = [];
    for (const channel of realm.channels) channel.close();
    for (const socket of realm.sockets) this.clock.after(1 + this.#some(30), () => this.server.gone(socket.transport));
    this.clock.after(1 + this.#some(30), () => {
      for (const [name, lock] of this.#locks) {
        lock.queue = lock.queue.filter((request) => request.realm !== realm);
        if (lock.holder?.realm === realm) this.#release(name, lock.holder);
      }
    });
    for (const worker of this.#workers.values()) {
      if (worker.owners.delete(realm) && !worker.owners.size) this.kill(worker);
    }
  }

  /** With a goodbye: the user closes it. */
  close(tab) {
    if (tab.dead) return;
    this.fire(tab, "pagehide", { persisted: false });
    this.kill(tab);
  }

  /** `kindly`: as browsers do with pages; else as a debugger or the system does with processes. */
  freeze(realm, kindly) {
    if (realm.frozen || realm.dead) return;
    if (kindly) this.fire(realm, "freeze");
    realm.frozen = true;
  }

  thaw(realm, kindly) {
    if (!realm.frozen) return;
    realm.frozen = false;
    realm.waking = true;
    if (kindly) this.fire(realm, "resume");
    this.#wake(realm);
  }

  /** What has waited comes before what is new, each in a turn of its own. */
  #wake(realm) {
    if (realm.frozen || realm.dead) return;
    realm.waking = false;
    if (!realm.waiting.length) return;
    this.run(realm, realm.waiting.shift());
    realm.waking = true;
    this.clock.after(0, () => this.#wake(realm));
  }

  get worker() {
    return [...this.#workers.values()].find(({ dead }) => !dead);
  }

  /** Those that carry a session, as both ends believe, and are awake. */
  get carriers() {
    const transports = [...this.server.sessions.values()].map(({ transport }) => transport).filter((transport) => transport?.socket.open);
    return [...new Set(transports.map(({ realm }) => realm))].filter(({ dead, frozen }) => !dead && !frozen);
  }

  holder(prefix) {
    return [...this.#locks].find(([name, { holder }]) => name.startsWith(prefix) && holder)?.[1].holder.realm;
  }

  // ── What it gives to them, as globals

  #some(ms) {
    return Math.floor(this.random() * ms);
  }

  globals() {
    const browser = this;
    const { clock } = this;
    let timers = 0;
    const live = new Map();
    const START = 1_700_000_000_000;
    const listen = (type, listener, options) => {
      const { current } = this;
      const all = current.listeners.get(type) ?? new Set();
      current.listeners.set(type, all.add(listener));
      options?.signal?.addEventListener("abort", () => all.delete(listener));
    };

    class FakeChannel {
      onmessage = null;
      closed = false;
      constructor(name) {
        this.name = name;
        this.realm = browser.current;
        this.last = new Map();
        this.realm.channels.add(this);
        if (!browser.#channels.has(name)) browser.#channels.set(name, new Set());
        browser.#channels.get(name).add(this);
      }

      postMessage(message) {
        if (this.closed) throw new Error("InvalidStateError");
        const said = browser.tamper(structuredClone(message));
        for (const other of browser.#channels.get(this.name)) {
          if (other === this || !said) continue;
          const data = structuredClone(said);
          // In order from each sender; how long it takes is another thing.
          const at = Math.max(this.last.get(other) ?? 0, clock.now + browser.#some(4));
          this.last.set(other, at);
          clock.at(at, () => browser.run(other.realm, () => other.closed || other.onmessage?.({ data })));
        }
      }

      close() {
        this.closed = true;
        browser.#channels.get(this.name).delete(this);
        this.realm.channels.delete(this);
      }
    }

    class FakeSharedWorker {
      onerror = null;
      constructor(_, { name }) {
        const tab = browser.current;
        const [ours, theirs] = this.#ports(tab);
        this.port = ours;
        if (browser.workers === "broken") return void browser.after(tab, 20, () => this.onerror?.({}));
        let worker = browser.#workers.get(name);
        if (!worker || worker.dead) browser.#workers.set(name, (worker = new Realm(`worker${++browser.#ids}`)));
        worker.owners.add(tab);
        theirs.realm = worker;
        browser.after(worker, 10 + browser.#some(50), () => serve(theirs));
      }

      #ports(tab) {
        const port = (realm) => ({
          realm,
          onmessage: null,
          postMessage(message) {
            const data = structuredClone(message);
            browser.after(this.other.realm, 1 + browser.#some(3), () => this.other.onmessage?.({ data }));
          },
        });
        const [a, b] = [port(tab), port(tab)];
        a.other = b;
        b.other = a;
        return [a, b];
      }
    }

    class FakeSocket {
      onopen = null;
      onmessage = null;
      onclose = null;
      open = true;
      constructor() {
        const realm = (this.realm = browser.current);
        const { network } = browser;
        const down = new Pipe(clock, network);
        this.up = new Pipe(clock, network);
        const tell = (callback) => browser.run(realm, () => this.open && callback());
        this.transport = {
          session: null, heardAt: 0, down, realm, socket: this,
          received: (text) => tell(() => this.onmessage?.({ data: text })),
          closed: (code) => tell(() => this.#end(code)),
        };
        realm.sockets.add(this);
        if (network.open === "refuse") return void clock.after(network.latency(), () => this.transport.closed(1006));
        if (network.open === "hang") return;
        down.send(() => tell(() => this.onopen?.({})));
      }

      #end(code) {
        this.open = false;
        this.realm.sockets.delete(this);
        this.onclose?.({ code, reason: "" });
      }

      send(text) {
        this.up.send(() => browser.server.receive(this.transport, text));
      }

      close() {
        this.open = false;
        this.realm.sockets.delete(this);
        this.up.send(() => browser.server.gone(this.transport));
      }
    }

    return {
      setTimeout: (callback, delay = 0) => {
        const id = ++timers;
        const realm = this.current;
        live.set(id, true);
        this.after(realm, Math.max(0, Math.ceil(delay)), () => live.delete(id) && callback());
        return id;
      },
      clearTimeout: (id) => live.delete(id),
      BroadcastChannel: FakeChannel,
      SharedWorker: this.workers === "missing" ? undefined : FakeSharedWorker,
      WebSocket: FakeSocket,
      fetch: () => new Promise(() => {}), // nobody is behind it
      navigator: { locks: { request: (...all) => this.#request(...all), query: () => this.#query() } },
      performance: { now: () => clock.now },
      addEventListener: listen,
      document: {
        addEventListener: listen,
        get visibilityState() {
          return browser.current.hidden ? "hidden" : "visible";
        },
      },
      Date: class extends Date {
        static now = () => START + clock.now;
      },
      random: this.random,
    };
  }

  async #query() {
    const held = [...this.#locks].filter(([, { holder }]) => holder).map(([name, { holder }]) => ({ name, clientId: holder.realm.id }));
    return { held };
  }

  #request(name, options, callback = options) {
    const { steal, signal } = options;
    const lock = this.#locks.get(name) ?? { holder: null, queue: [] };
    this.#locks.set(name, lock);
    return new Promise((resolve, reject) => {
      const request = { realm: this.current, callback, resolve, reject };
      if (steal) {
        const { holder } = lock;
        lock.holder = request;
        if (holder) this.after(holder.realm, 1, () => holder.reject(new Error("AbortError: stolen")));
        this.#grant(name, request);
        return;
      }
      lock.queue.push(request);
      signal?.addEventListener("abort", () => {
        if (!lock.queue.includes(request)) return;
        lock.queue = lock.queue.filter((each) => each !== request);
        reject(new Error("AbortError"));
      });
      this.#next(name);
    });
  }

  #next(name) {
    const lock = this.#locks.get(name);
    if (lock.holder || !lock.queue.length) return;
    lock.holder = lock.queue.shift();
    this.#grant(name, lock.holder);
  }

  #grant(name, request) {
    this.after(request.realm, 1 + this.#some(3), async () => {
      try {
        const value = await request.callback({ name });
        request.resolve(value);
      } catch (error) {
        request.reject(error);
      }
      this.#release(name, request);
    });
  }

  #release(name, request) {
    const lock = this.#locks.get(name);
    if (lock.holder !== request) return;
    lock.holder = null;
    this.#next(name);
  }
}

const REAL = {};

/** Puts a browser's globals in the place of Node's for the length of a test. */
export async function inBrowser(browser, body) {
  const { random, ...globals } = browser.globals();
  for (const name of Object.keys(globals)) REAL[name] = Object.getOwnPropertyDescriptor(globalThis, name);
  for (const [name, value] of Object.entries(globals)) {
    Object.defineProperty(globalThis, name, { value, configurable: true, writable: true });
  }
  const real = Math.random;
  Math.random = random;
  try {
    return await body();
  } finally {
    Math.random = real;
    for (const [name, descriptor] of Object.entries(REAL)) {
      if (descriptor) Object.defineProperty(globalThis, name, descriptor);
      else delete globalThis[name];
    }
  }
}

export const client = (options = {}) => new Holdfast("wss://example.com/socket", { tabs: true, transports: ["websocket"], ...options });
