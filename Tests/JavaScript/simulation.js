// A history: one client machine, a server, and a network that misbehaves. All that happens follows from the seed.

import { ConnectionMachine } from "../../clients/js/holdfast.js";
import { Clock, Pipe, Server, generator } from "./world.js";

/** What the application has seen of one subscription, checked against all that was published. */
export class Reader {
  #next = null; // index in topic.all of what has to come next; null: not known before the first message
  #epoch = "";

  constructor(topic, gaps) {
    this.topic = topic;
    this.gaps = gaps;
  }

  subscribed(event, since) {
    this.#epoch = event.position?.epoch;
    if (!since && this.#next === null) {
      this.#next = this.topic.stored ? this.topic.all.findIndex((p) => p.epoch === event.position.epoch && p.offset > event.position.offset) : null;
      if (this.#next === -1) this.#next = this.topic.all.length;
    }
  }

  message(event) {
    const { name, all } = this.topic;
    if (this.#next === null) this.#next = event.data; // a topic without history starts anywhere
    if (event.data !== this.#next) throw new Error(`${name}: expected message ${this.#next}, got ${event.data} of ${all.length}`);
    this.#next++;
  }

  gap({ after, next }) {
    const { name, stored, all } = this.topic;
    if (!stored) {
      if (after !== null || next !== null) throw new Error(`${name}: gap with positions in a topic without history`);
      this.#next = null;
      return;
    }
    if (!this.gaps.has(JSON.stringify({ event: "gap", subscription: name, after, next }))) throw new Error(`${name}: false gap ${after}…${next}`);
    const from = all[this.#next];
    if (after !== null && from?.offset !== after + 1) throw new Error(`${name}: gap after ${after}, but ${from?.offset} was next`);
    let index = all.findIndex((p) => p.epoch === this.#epoch && p.offset === next);
    if (index === -1) index = all.length;
    this.#next = index;
  }

  get complete() {
    return this.#next === null || this.#next === this.topic.all.length;
  }
}

/** Runs one history. Throws when the promise was broken. @param {number} seed */
export function simulate(seed, { wrap = (machine) => machine } = {}) {
  const random = generator(seed);
  const chance = (p) => random() < p;
  const pick = (from, to) => Math.floor(from + random() * (to - from));
  const clock = new Clock();
  const trouble = 60_000;
  const quiet = 60_000; // by then everything must be well again
  const slow = pick(5, 400);
  const network = { cutUntil: 0, open: "good", latency: () => slow + pick(0, 1 + slow / 2) + (clock.now < trouble && chance(0.002) ? pick(0, 12_000) : 0) };
  const server = new Server(clock, random, {
    history: pick(3, 60), ttl: pick(500, 40_000), outbox: pick(20, 400),
    heartbeat: { interval: 4, hidden_interval: 25, timeout: 5 },
  });
  const machine = wrap(new ConnectionMachine({ random, connectTimeout: pick(2_000, 10_000), transports: ["websocket"] }), random);
  const names = ["calls.a", "calls.b", "bare.c"];
  const readers = new Map();
  const waiting = new Set();
  const links = new Map();
  const seen = { messages: 0, gaps: 0, recovered: 0, resumed: 0, sessions: 0 };
  const errors = [];
  let timer = 0; // generation
  let raced = 0;
  let frozen = null; // inputs that wait for the sleeping client
  let state = "idle";

  const input = (value) => (frozen ? frozen.push(value) : perform(machine.handle(value, clock.now)));
  const perform = (actions) => actions.forEach((action) => effects[action.type](action));
  const effects = {
    state: (action) => (state = action.state),
    timer: ({ at }) => {
      const generation = ++timer;
      if (at !== null) clock.at(at + pick(0, 5), () => generation === timer && input({ type: "timer" }));
    },
    open: ({ line }) => {
      if (current().length) raced++;
      open(line);
    },
    send: ({ line, text }) => links.get(line).up.send(() => server.receive(links.get(line), text)),
    close: ({ line }) => {
      const link = links.get(line);
      link.open = false;
      link.up.send(() => server.gone(link));
    },
    connected: ({ resumed }) => seen[resumed ? "resumed" : "sessions"]++,
    subscribed: ({ subscription, since, event }) => {
      if (event.recovered) seen.recovered++;
      readers.get(subscription).subscribed(event, since);
    },
    unsubscribed: ({ subscription }) => ((leaving = false), readers.delete(subscription)),
    message: ({ event }) => (seen.messages++, readers.get(event.subscription).message(event)),
    gap: (action) => (seen.gaps++, readers.get(action.subscription).gap(action)),
    reply: ({ id, event }) => {
      if (!waiting.delete(id)) throw new Error(`second reply to ${id}`);
      if (event.status !== "ok") throw new Error(`${id}: ${event.error}`);
    },
    rtt: () => {}, goaway: () => {},
    error: ({ code }) => errors.push(code),
  };

  function open(line) {
    const link = { open: true, up: new Pipe(clock, network), down: new Pipe(clock, network), session: null, heardAt: 0 };
    link.received = (text) => link.open && input({ type: "receive", line, text });
    link.closed = (code) => link.open && (link.open = false, input({ type: "closed", line, code }));
    links.set(line, link);
    if (network.open === "refuse") return clock.after(network.latency(), () => link.closed(1006));
    if (network.open === "hang") return;
    link.down.send(() => link.open && input({ type: "opened", line }));
  }

  const current = () => [...links.values()].filter((link) => link.open);
  const faults = [
    () => current().forEach((link) => (link.down.cut(Infinity), link.up.cut(Infinity))), // swallowed, no word
    () => current().forEach((link) => link.down.cut(Infinity)),
    () => current().forEach((link) => link.up.cut(Infinity)),
    () => current().forEach((link) => link[chance(0.5) ? "up" : "down"].cut(clock.now + pick(500, 15_000))), // late, not lost
    () => current().forEach((link) => (server.gone(link), link.closed(chance(0.5) ? 1006 : 1001))),
    () => current().forEach((link) => link.session && server.close(link, [1000, 4009, 4012, 1011][pick(0, 4)])),
    () => void (network.cutUntil = clock.now + pick(1_000, 20_000)),
    () => {
      network.open = chance(0.5) ? "hang" : "refuse";
      clock.after(pick(500, 15_000), () => (network.open = "good"));
    },
    () => server.forget(),
    () => server.newEpoch(names[pick(0, 2)]),
    () => [...server.sessions.values()].forEach((session) => session.transport && server.write(session.transport, { event: "goaway", reason: "drain", retry_after: [0, pick(0, 8)] })),
    () => input({ type: "hidden" }),
    () => input({ type: "shown" }),
    () => input({ type: "offline" }),
    () => input({ type: "online" }),
    () => input({ type: "doubt" }),
    () => {
      frozen ??= [];
      clock.after(pick(1_000, 90_000), wake);
    },
  ];

  function wake() {
    const inputs = frozen;
    if (!inputs) return;
    frozen = null;
    if (chance(0.5)) inputs.sort((a, b) => (a.type === "timer" ? -1 : 0) - (b.type === "timer" ? -1 : 0));
    inputs.forEach(input);
  }

  let commands = 0;
  let leaving = false; // an unsubscribe is under way
  const subscribe = (name) => {
    if (readers.has(name)) return;
    readers.set(name, new Reader(server.topic(name), server.gaps));
    input({ type: "subscribe", id: `s${++commands}`, subscription: name });
  };
  for (let at = pick(0, 300); at < trouble + quiet - 10_000; at += pick(20, 1_500)) clock.at(at, () => server.publish(names[pick(0, 3)]));
  for (let at = pick(0, 3_000); at < trouble + quiet - 10_000; at += pick(50, 5_000)) {
    clock.at(at, () => {
      const id = `m${++commands}`;
      waiting.add(id);
      input({ type: "message", id, subscription: names[0], data: id });
    });
  }
  for (let at = pick(0, 10_000); at < trouble; at += pick(50, 20_000)) clock.at(at, faults[pick(0, faults.length)]);
  const unsubscribe = (name) => {
    const id = `u${++commands}`;
    waiting.add(id);
    leaving = true;
    input({ type: "unsubscribe", id, subscription: name });
  };
  for (let at = pick(0, 40_000); at < trouble; at += pick(1_000, 40_000)) {
    clock.at(at, () => (readers.has("calls.b") && !leaving ? unsubscribe("calls.b") : subscribe("calls.b")));
  }
  input({ type: "connect" });
  for (const name of names) clock.at(pick(0, 20_000), () => subscribe(name));
  clock.at(trouble, () => {
    network.open = "good";
    network.cutUntil = 0;
    wake();
    input({ type: "shown" });
    input({ type: "online" });
  });
  clock.run(trouble + quiet);

  if (state !== "connected") throw new Error(`stuck: ${state} ${quiet} ms after the network was good again (${errors})`);
  if (waiting.size) throw new Error(`no reply to ${[...waiting]}`);
  for (const [name, reader] of readers) if (!reader.complete) throw new Error(`${name}: the last messages are missing, and nobody said so`);
  checkExecuted(server.executed);
  if (errors.length) throw new Error(`errors: ${errors}`);
  return { ...seen, executed: server.executed.length, races: raced, replaced: server.replaced };
}

/** In one session every message is executed once and in the order of the calls. */
export function checkExecuted(executed) {
  const last = new Map();
  for (const { session, id } of executed) {
    const number = Number(id.slice(1));
    if (number <= (last.get(session) ?? 0)) throw new Error(`${session}: message ${id} came after ${last.get(session)}`);
    last.set(session, number);
  }
}
