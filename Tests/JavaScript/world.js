// What a simulation needs: seeded randomness, virtual time, pipes that can be cut, and a server that keeps the protocol.

/** mulberry32: small, seeded, good enough to choose faults. @param {number} seed */
export function generator(seed) {
  return () => {
    seed = (seed + 0x6d2b79f5) | 0;
    let t = Math.imul(seed ^ (seed >>> 15), 1 | seed);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 4294967296;
  };
}

export class Clock {
  now = 0;
  #queue = []; // a binary heap by (at, order)
  #order = 0;

  at(time, action) {
    const queue = this.#queue;
    let i = queue.push({ at: Math.max(time, this.now), order: this.#order++, action }) - 1;
    while (i > 0 && before(queue[i], queue[(i - 1) >> 1])) i = swap(queue, i, (i - 1) >> 1);
  }

  after(delay, action) {
    this.at(this.now + delay, action);
  }

  run(until) {
    const queue = this.#queue;
    while (queue.length && queue[0].at <= until) {
      const { at, action } = queue[0];
      const last = queue.pop();
      if (queue.length) {
        queue[0] = last;
        for (let i = 0, child; (child = 2 * i + 1) < queue.length; i = swap(queue, i, child)) {
          if (child + 1 < queue.length && before(queue[child + 1], queue[child])) child++;
          if (before(queue[i], queue[child])) break;
        }
      }
      this.now = at;
      action();
    }
    this.now = until;
  }
}

const before = (a, b) => a.at < b.at || (a.at === b.at && a.order < b.order);
const swap = (queue, i, j) => ([queue[i], queue[j]] = [queue[j], queue[i]], j);

/** One direction of a connection: in order, and late rather than never, except where it is cut for good. */
export class Pipe {
  cutUntil = 0;
  #last = 0;

  constructor(clock, network) {
    this.clock = clock;
    this.network = network;
  }

  /** What is swallowed for good never comes back. */
  cut(until) {
    this.cutUntil = Math.max(this.cutUntil, until);
  }

  send(deliver) {
    const { clock, network } = this;
    const start = Math.max(clock.now, this.cutUntil, network.cutUntil);
    if (start === Infinity) return;
    this.#last = Math.max(this.#last, start + network.latency());
    clock.at(this.#last, deliver);
  }
}

const NOT_COUNTED = new Set(["hello", "probe", "ping", "pong", "ack", "goaway"]);

export class Server {
  sessions = new Map();
  topics = new Map();
  executed = []; // messages of the client: {session, id}
  gaps = new Set(); // the gaps that were truly told
  replaced = 0; // transports that lost their session to another
  #ids = 0;

  constructor(clock, random, settings) {
    this.clock = clock;
    this.random = random;
    this.settings = settings;
  }

  topic(name) {
    let topic = this.topics.get(name);
    if (!topic) this.topics.set(name, (topic = { name, epoch: "e0", epochs: 0, offset: 0, history: [], all: [], stored: !name.startsWith("bare.") }));
    return topic;
  }

  publish(name) {
    const topic = this.topic(name);
    const publication = { epoch: topic.epoch, offset: ++topic.offset, data: topic.all.length };
    topic.all.push(publication);
    topic.history.push(publication);
    if (topic.history.length > this.settings.history) topic.history.shift();
    for (const session of [...this.sessions.values()]) if (session.topics.has(name)) this.push(session, this.#message(topic, publication));
  }

  #message(topic, { offset, data }) {
    return { event: "message", subscription: topic.name, ...(topic.stored && { offset }), data };
  }

  /** Everything in memory is gone, the offsets begin anew. */
  newEpoch(name) {
    const topic = this.topic(name);
    topic.epoch = `e${++topic.epochs}`;
    topic.offset = 0;
    topic.history = [];
    this.forget();
  }

  /** All sessions are gone; those with a transport are told. */
  forget(code = 4008) {
    for (const session of [...this.sessions.values()]) this.end(session, code);
  }

  end(session, code) {
    this.sessions.delete(session.id);
    if (session.transport) this.close(session.transport, code);
  }

  close(transport, code) {
    if (transport.session?.transport === transport) this.detach(transport.session);
    transport.session = null;
    transport.down.send(() => transport.closed(code));
  }

  detach(session) {
    session.transport = null;
    const generation = ++session.generation;
    this.clock.after(this.settings.ttl, () => {
      if (session.generation === generation && this.sessions.get(session.id) === session) this.end(session);
    });
  }

  /** The transport's connection has ended. */
  gone(transport) {
    if (transport.session?.transport === transport) this.detach(transport.session);
    transport.session = null;
  }

  write(transport, event) {
    const text = JSON.stringify(event);
    transport.down.send(() => transport.received(text));
  }

  push(session, event) {
    session.outbox.push(event);
    session.sent++;
    if (session.transport) this.write(session.transport, event);
    if (session.outbox.length > this.settings.outbox) this.end(session, 4008);
  }

  acknowledge(session, received) {
    if (!(received >= session.sent - session.outbox.length && received <= session.sent)) return false;
    session.outbox.splice(0, received - (session.sent - session.outbox.length));
    return true;
  }

  /** Nothing was heard for 30 s, not even the answer to a WebSocket Ping. */
  watch(transport) {
    const { heardAt } = transport;
    this.clock.at(heardAt + 30_000, () => {
      if (transport.heardAt !== heardAt) this.watch(transport);
      else if (transport.session) this.close(transport, 4009);
    });
  }

  receive(transport, text) {
    transport.heardAt = this.clock.now;
    const event = JSON.parse(text);
    if (event.event === "probe") return this.write(transport, { event: "probe", status: "ok" });
    if (event.event === "hello") return this.#hello(transport, event);
    const { session } = transport;
    if (!session) return;
    if (event.event === "ping") {
      this.acknowledge(session, event.received);
      return this.write(transport, { event: "pong", data: event.data, received: session.received });
    }
    if (event.event === "ack") return void this.acknowledge(session, event.received);
    session.received++;
    if (session.received % 64 === 0) this.write(transport, { event: "ack", received: session.received });
    this.#command(session, event);
  }

  #hello(transport, { resume }) {
    const old = resume && this.sessions.get(resume.session);
    const { heartbeat, spread = 1 } = this.settings;
    const resumed = !!old && this.acknowledge(old, resume.received);
    const session = resumed ? old : { id: `s${++this.#ids}`, outbox: [], sent: 0, received: 0, topics: new Map(), generation: 0 };
    if (old?.transport) {
      this.replaced++;
      this.close(old.transport, 4000);
    }
    this.sessions.set(session.id, session);
    session.transport = transport;
    session.generation++;
    transport.session = session;
    this.watch(transport);
    this.write(transport, { event: "hello", status: "ok", session: session.id, resumed, ...(resumed && { received: session.received }), heartbeat, spread });
    for (const event of session.outbox) this.write(transport, event);
  }

  #command(session, { event, subscription, id, since }) {
    const reply = (more) => this.push(session, { event, subscription, status: "ok", id, ...more });
    switch (event) {
      case "message": {
        this.executed.push({ session: session.id, id });
        const delay = Math.floor(this.random() ** 4 * 3_000);
        return this.clock.after(delay, () => this.sessions.get(session.id) === session && reply());
      }
      case "unsubscribe":
        session.topics.delete(subscription);
        return reply();
      case "subscribe":
        session.topics.set(subscription, true);
        return this.#subscribe(session, this.topic(subscription), since, reply);
    }
  }

  #subscribe(session, topic, since, reply) {
    if (!topic.stored) return reply();
    const { epoch, offset, history } = topic;
    const position = { epoch, offset };
    if (!since) return reply({ position });
    const same = since.epoch === epoch && since.offset <= offset;
    const rest = history.filter((publication) => !same || publication.offset > since.offset);
    const next = rest.length ? rest[0].offset : offset + 1;
    const recovered = same && next === since.offset + 1;
    reply({ position, recovered });
    if (!recovered) {
      const gap = { event: "gap", subscription: topic.name, after: same ? since.offset : null, next };
      this.gaps.add(JSON.stringify(gap));
      this.push(session, gap);
    }
    for (const publication of rest) this.push(session, this.#message(topic, publication));
  }
}
