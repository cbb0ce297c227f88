// A history of the transport ladder: tabs that share a memory, one server, and a way to it whose proxies change their minds.
// All that happens follows from the seed. What a driver does with HTTP is here as small as it can be.

import { ConnectionMachine } from "../../clients/js/holdfast.js";
import { Reader, checkExecuted } from "./simulation.js";
import { Clock, Pipe, Server, generator } from "./world.js";

const MINUTE = 60_000;
const BUDGET_MS = 15 * MINUTE;
const ROUGHLY_MS = 10; // clocks of tabs
/** How long a tab may be without news while some transport works: three rounds of 20 s with their pauses. Hidden pages pause for up to 5 minutes. */
const BOUND_MS = { visible: 2 * MINUTE, hidden: 12 * MINUTE };

/** The server's end of a session that belongs to HTTP: requests come and go, this stays. */
class Requests {
  http = true;
  session = null;
  heardAt = 0;
  down = { send: (act) => act() };
  #loose = []; // not counted, so not in the outbox
  #answer = null; // of POST /session, while it is made
  #listener = null;

  constructor(clock) {
    this.clock = clock;
  }

  /** What the server has to say. */
  write(event) {
    if (this.#answer) return void this.#answer.push(event);
    if (!counted(event)) this.#loose.push(event);
    if (!this.#listener) return;
    const { stream, tell } = this.#listener;
    if (stream) tell({ events: this.#loose.length ? this.#loose.splice(0) : [event] });
    else this.clock.after(0, () => this.#answerPoll());
  }

  /** @returns the events that `act` makes the server say at once */
  collect(act) {
    const answer = (this.#answer = []);
    act();
    this.#answer = null;
    return answer;
  }

  listen(listener) {
    this.#listener?.tell({ replaced: true });
    this.#listener = listener;
    const { stream, tell, wait } = listener;
    if (stream) {
      tell({ comment: true });
      const events = this.#all();
      if (events.length) tell({ events });
      return;
    }
    this.#answerPoll();
    this.clock.after(wait, () => this.#listener === listener && this.#answerPoll(true));
  }

  #all() {
    return [...(this.session?.outbox ?? []), ...this.#loose.splice(0)];
  }

  #answerPoll(late = false) {
    const listener = this.#listener;
    if (!listener || listener.stream || (!late && !this.session?.outbox.length && !this.#loose.length)) return;
    this.#listener = null;
    listener.tell({ events: this.#all(), end: true });
  }

  comment() {
    if (this.#listener?.stream) this.#listener.tell({ comment: true });
  }

  hungUp(listener) {
    if (this.#listener === listener) this.#listener = null;
  }

  closed(code) {
    this.#listener?.tell({ close: code });
    this.#listener = null;
  }
}

const counted = ({ event }) => !["hello", "probe", "ping", "pong", "ack", "goaway"].includes(event);

class Gateway extends Server {
  write(transport, event) {
    if (transport.http) transport.write(event);
    else super.write(transport, event);
  }

  /** Requests are watched by their own arrival. */
  watch(transport) {
    if (!transport.http) return super.watch(transport);
    const { heardAt } = transport;
    this.clock.at(heardAt + this.settings.ttl, () => {
      if (transport.heardAt !== heardAt) this.watch(transport);
      else if (transport.session) this.end(transport.session, 4009);
    });
  }
}

/** One page: a machine, and the least that drives it. */
class Tab {
  main = null; // the line whose hello was answered last
  dead = false; // closed, or reloaded
  lines = new Map();
  attempts = new Map(); // lines that are WebSockets
  readers = new Map();
  waiting = new Set();
  websocket = true; // what has carried the session last
  wellAt; // when everything had arrived
  #timer = 0; // generation

  constructor(world, id) {
    this.world = world;
    this.id = id;
    this.zero = world.clock.now - world.pick(0, 1_000_000);
    const { transports, wrap, random } = world;
    this.machine = wrap(new ConnectionMachine({ random, transports, connectTimeout: 10_000 }), world);
    this.wellAt = world.clock.now;
    this.recall();
  }

  get now() {
    return this.world.clock.now - this.zero;
  }

  recall() {
    this.input({ type: "memory", memory: this.#shifted(JSON.parse(this.world.storage), -this.zero) });
  }

  /** Every tab reads the wall clock a little differently. */
  #shifted(memory, by) {
    const shift = (at) => at === null ? null : at + by + this.world.pick(-1, 2);
    if (!memory) return null;
    const { attempts, until, rest, pollUntil } = memory;
    return { ...memory, attempts: attempts.map(shift), until: shift(until), rest: shift(rest), pollUntil: shift(pollUntil) };
  }

  input(input) {
    if (this.dead) return;
    const actions = this.machine.handle(input, this.now);
    this.world.judge(this, input, actions);
    for (const action of actions) this[action.type]?.(action);
  }

  // ── Actions

  timer({ at }) {
    const { clock, pick } = this.world;
    const generation = ++this.#timer;
    if (at !== null) clock.at(at + this.zero + pick(0, 5), () => generation === this.#timer && this.input({ type: "timer" }));
  }

  open({ line, transport }) {
    const link = transport === "websocket" ? this.#socket(line) : this.#http(line);
    this.lines.set(line, link);
    const open = [...this.lines.values()].filter((each) => each.open);
    if (open.length > 2) throw new Error(`${open.length} lines at once`);
  }

  send({ line, text, seq }) {
    this.lines.get(line).send(text, seq);
  }

  listen({ line, transport, received, wait = 0 }) {
    this.lines.get(line).listen(transport, received, wait * 1000);
  }

  close({ line }) {
    const link = this.lines.get(line);
    link.open = false;
    link.leave();
  }

  remember({ memory }) {
    const { world } = this;
    const stored = this.#shifted(memory, this.zero);
    world.storage = JSON.stringify(stored);
    for (const tab of world.tabs) if (tab !== this) world.clock.after(world.pick(1, 4), () => tab.dead || tab.recall());
  }

  subscribed({ subscription, since, event }) {
    this.readers.get(subscription).subscribed(event, since);
  }

  message({ event }) {
    this.world.seen.messages++;
    this.readers.get(event.subscription).message(event);
  }

  gap(action) {
    this.world.seen.gaps++;
    this.readers.get(action.subscription).gap(action);
  }

  reply({ id, event }) {
    if (!this.waiting.delete(id)) throw new Error(`second reply to ${id}`);
    if (event.status !== "ok") throw new Error(`${id}: ${event.error}`);
  }

  error({ code, error }) {
    throw new Error(`error ${code}: ${error}`);
  }

  // ── The app

  subscribe(name) {
    this.readers.set(name, new Reader(this.world.server.topic(name), this.world.server.gaps));
    this.input({ type: "subscribe", id: `s${++this.world.commands}`, subscription: name });
  }

  say(name) {
    const id = `m${++this.world.commands}`;
    this.waiting.add(id);
    this.input({ type: "message", id, subscription: name, data: id });
  }

  /** The page is gone, without a word. */
  leave() {
    this.dead = true;
    for (const link of this.lines.values()) if (link.open) (link.open = false), link.leave();
  }

  // ── Lines

  #socket(line) {
    const { clock, server, pick, way } = this.world;
    const { websocket } = way;
    const link = { open: true, up: new Pipe(clock, this.world), down: new Pipe(clock, this.world), session: null, heardAt: 0, websocket: true };
    const fail = (code) => link.open && (link.open = false, server.gone(link), this.input({ type: "closed", line, code }));
    link.received = (text) => link.open && this.input({ type: "receive", line, text });
    link.closed = fail;
    link.send = (text) => link.up.send(() => server.receive(link, text));
    link.leave = () => link.up.send(() => server.gone(link));
    link.fail = fail;
    if (way.down || websocket === "refused") clock.after(pick(5, 200), () => fail(1006));
    else if (way.hang || websocket === "hang") return link;
    else {
      if (websocket === "silent" || websocket === "deaf") link.up.cut(Infinity);
      link.down.send(() => link.open && this.input({ type: "opened", line }));
      if (websocket === "silent" || websocket === "mute") clock.after(0, () => link.down.cut(Infinity));
      if (websocket === "dies") clock.after(way.life(), () => fail(1006));
      if (websocket === "starves") clock.after(way.life(), () => (link.up.cut(Infinity), link.down.cut(Infinity)));
    }
    return link;
  }

  #http(line) {
    const { world } = this;
    const { clock, server } = world;
    const link = { open: true, http: true, handle: null, queue: [], busy: false, listener: null };
    const fail = (retryAfter) => link.open && (link.open = false, link.leave(), this.input({ type: "closed", line, code: 1006, retryAfter }));
    const hear = (events) => events.forEach((event) => link.open && this.input({ type: "receive", line, text: JSON.stringify(event) }));
    /** One request and its answer, through what the way is at that moment. */
    const request = (serve, done, failed) => {
      const { way } = world;
      const lost = () => link.open && failed?.(way.unavailable ? 3 : undefined);
      if (way.down || way.blocked || way.unavailable) return clock.after(world.pick(5, 200), lost);
      if (way.hang) return;
      clock.after(world.latency(), () => serve((answer) => clock.after(world.latency(), () => {
        if (!link.open) return;
        if (world.way.down || world.way.blocked) lost();
        else if (!world.way.hang) done(answer);
      })));
    };
    const session = () => server.sessions.get(link.handle);
    const unknown = [{ event: "hello", status: "error", error: "Unknown session.", code: "unknown_session" }];
    /** The session's transport, if it belongs to HTTP. */
    const owner = () => {
      const { transport } = session() ?? {};
      if (transport?.http) transport.heardAt = clock.now;
      return transport?.http ? transport : null;
    };

    const flush = () => {
      if (link.busy || !link.queue.length || !link.open) return;
      link.busy = true;
      const batch = [...link.queue];
      const first = JSON.parse(batch[0].text);
      const again = () => clock.after(1_000, () => (link.busy = false, flush()));
      if (!link.handle) {
        const hello = first.event === "hello";
        link.queue = [];
        return request((answer) => {
          const transport = new Requests(clock);
          transport.heardAt = clock.now;
          const events = transport.collect(() => batch.forEach(({ text }) => server.receive(transport, text)));
          if (hello && batch.length > 1) events.push({ event: "ack", received: transport.session.received });
          answer(events);
        }, (events) => {
          link.busy = false;
          if (hello) link.handle = events[0].session;
          hear(events);
          if (link.open && hello) this.input({ type: "heard", line });
          flush();
        }, fail);
      }
      const { seq } = batch[0];
      request((answer) => {
        const known = session();
        if (!known) return answer({ unknown });
        const transport = owner();
        if (!transport) return answer({ replaced: true });
        if (seq > known.received + 1) throw new Error(`a batch from ${seq}, but only ${known.received} were received`);
        if (seq === known.received + 1) for (const { text } of batch) server.receive(transport, text);
        answer({ received: known.received });
      }, ({ unknown: gone, replaced, received }) => {
        if (gone) return hear(gone);
        if (replaced) return link.close(4000);
        // What was counted, or is not counted and was in the batch, is done.
        link.queue = link.queue.filter((event, index) => (counted(JSON.parse(event.text)) ? event.seq > received : index >= batch.length));
        link.busy = false;
        hear([{ event: "ack", received }]);
        flush();
      }, (retryAfter) => (world.chance(0.5) ? again() : fail(retryAfter)));
    };
    link.close = (code) => link.open && (link.open = false, this.input({ type: "closed", line, code }));
    link.send = (text, seq) => {
      link.queue.push({ text, seq });
      if (link.queue.length === 1) clock.after(0, flush);
      else if (!link.busy) clock.after(0, flush);
    };
    link.leave = () => owner()?.hungUp(link.listener);
    link.listen = (kind, received, wait) => {
      const stream = kind === "stream";
      const listener = (link.listener = { stream, wait });
      const current = () => link.open && link.listener === listener;
      const { limit } = world.way;
      const cut = () => current() && (link.listener = null, owner()?.hungUp(listener), this.input({ type: "cut", line }));
      let last = 0;
      /** In order, as one connection is. */
      const pass = (act) => {
        const { way } = world;
        // What has not come does not come: and then nothing that is behind it.
        listener.starved ||= way.hang || (stream && way.stream === "buffered");
        if (listener.starved) return;
        last = Math.max(last, clock.now + world.latency());
        clock.at(last, () => current() && act());
      };
      listener.tell = ({ events = [], comment, end, close, replaced }) => pass(() => {
        if (replaced) return;
        if (close) return link.close(close);
        hear(events);
        if (current() && end) link.listener = null;
        if (link.open && (comment || end)) this.input({ type: "heard", line });
      });
      if (stream && world.way.stream === "starves") clock.after(world.way.life(), () => (listener.starved = true));
      if (limit && (stream || wait > limit)) clock.after(limit, cut);
      listener.fail = cut;
      request((answer) => {
        if (!current()) return;
        const known = session();
        const transport = owner();
        if (!known) return answer({ unknown });
        if (!transport) return answer({ replaced: true });
        if (!server.acknowledge(known, received)) throw new Error(`received=${received} cannot be`);
        transport.listen(listener);
      }, ({ unknown: gone }) => current() && (gone ? hear(gone) : link.close(4000)), cut);
    };
    clock.after(world.pick(0, 3), () => link.open && this.input({ type: "opened", line }));
    return link;
  }
}

class World {
  clock = new Clock();
  cutUntil = 0;
  storage = "null";
  tabs = [];
  commands = 0;
  seen = { messages: 0, gaps: 0, climbs: 0, falls: 0, useless: 0, verdicts: 0, rests: 0, polls: 0, reloads: 0 };
  /** The way to the server. */
  way = {
    websocket: "ok", // refused, hang, silent (both ways), deaf (nothing goes up), mute (nothing comes down), dies or starves after life()
    stream: "ok", // buffered, or starves
    limit: 0, // ms after which every request is cut
    down: false, // the server is
    hang: false, // nothing passes
    blocked: false, // HTTP is refused
    unavailable: false, // and this is 503
    life: () => this.pick(500, 90_000),
  };
  changedAt = 0; // the last time that the way or the server changed
  badAt = -Infinity; // the last time that the fallback did not work
  #attempts = []; // WebSockets: {tab, at, liveAt, over, useless}

  constructor(seed, { wrap, transports }) {
    this.random = generator(seed);
    this.wrap = wrap;
    this.transports = transports;
    this.server = new Gateway(this.clock, this.random, {
      history: this.pick(20, 200), ttl: 60_000, outbox: 400, heartbeat: { interval: 4, hidden_interval: 25, timeout: 5 },
    });
  }

  pick = (from, to) => Math.floor(from + this.random() * (to - from));
  chance = (p) => this.random() < p;
  latency = () => this.pick(5, 150);

  get #bad() {
    const { down, hang, blocked, unavailable } = this.way;
    return down || hang || blocked || unavailable;
  }

  /** Changes the way, or something else that a client needs time to get over. */
  change(way = {}) {
    if (this.#bad) this.badAt = this.clock.now;
    Object.assign(this.way, way);
    if (this.#bad) this.badAt = this.clock.now;
    this.changedAt = this.clock.now;
  }

  add(subscriptions) {
    const tab = new Tab(this, this.tabs.length);
    this.tabs.push(tab);
    for (const name of subscriptions) tab.subscribe(name);
    tab.input({ type: "connect" });
    return tab;
  }

  get open() {
    return this.tabs.filter((tab) => !tab.dead);
  }

  // ── What must never be

  /** Of one input: what a WebSocket did, and that a probe touches nothing. */
  judge(tab, input, actions) {
    const { now } = this.clock;
    const find = (line) => tab.attempts.get(line);
    const main = tab.main !== null && tab.lines.get(tab.main)?.open ? tab.main : null;
    const fallback = main !== null && !tab.lines.get(main).websocket;
    const answer = input.type === "receive" ? JSON.parse(input.text).event : null;
    const rival = main !== null && input.line !== undefined && input.line !== main && answer !== "probe";
    const has = (...pairs) => actions.some((action) => pairs.every(([key, value]) => action[key] === value));
    if (fallback && has(["type", "open"], ["transport", "websocket"]) && has(["type", "close"], ["line", main]) && !has(["type", "state"])) {
      throw new Error("a main that works was let go for a WebSocket that is only tried");
    }
    for (const action of actions) {
      if (action.type === "open" && action.transport === "websocket") this.#try(tab, action.line);
      if (action.type === "connected") {
        tab.main = input.line;
        const attempt = find(input.line);
        if (attempt) attempt.liveAt = now;
        if (tab.websocket !== !!attempt) this.seen[attempt ? "climbs" : "falls"]++;
        tab.websocket = !!attempt;
      }
      if (action.type === "listen" && action.transport === "poll") this.seen.polls++;
      if (action.type === "remember") this.#note(action.memory);
      if (!fallback) continue;
      if (rival && (action.type === "close" || action.type === "listen") && action.line === main) throw new Error(`${action.type} of a main that works, for ${input.type}`);
      const hello = action.type === "send" && action.line !== main && JSON.parse(action.text).event === "hello";
      if (hello && !has(["type", "close"], ["line", main])) throw new Error("hello beside a main that works");
    }
    // What has ended, by the input or by an action.
    if (input.type === "closed") this.#end(find(input.line), input.code === 1006 || input.code === 4009);
    for (const { type, line } of actions) if (type === "close") this.#end(find(line), true);
  }

  #try(tab, line) {
    const attempt = { tab, at: this.clock.now, liveAt: null, over: null, useless: false };
    this.#attempts.push(attempt);
    tab.attempts.set(line, attempt);
  }

  #note(memory) {
    if (memory?.until && memory.until > this.noted) this.seen.verdicts++;
    if (memory?.rest) this.seen.rests++;
    this.noted = memory?.until ?? 0;
  }

  noted = 0;

  #end(attempt, abnormal) {
    if (!attempt || attempt.over !== null) return;
    const { now } = this.clock;
    attempt.over = now;
    const { at, liveAt } = attempt;
    // Where another WebSocket has spoken meanwhile, nothing is known of this one.
    const spared = () => !attempt.tab.dead && attempt.tab.machine.stats().transport === "websocket";
    const useless = liveAt === null ? !spared() : abnormal && now - liveAt < 60_000;
    // The fallback has to have worked, also for what began just before.
    const works = !this.#bad && this.badAt < at - 25_000;
    if (!useless || !works) return;
    this.seen.useless++;
    attempt.useless = true;
    for (const each of this.#attempts) if (each.useless) this.#budget(each);
  }

  /** When a WebSocket was tried, at most one other of the last 15 minutes was useless, or not yet answered and so of unknown use. */
  #budget(attempt) {
    const since = attempt.at - BUDGET_MS + ROUGHLY_MS;
    const till = attempt.at - ROUGHLY_MS;
    const known = ({ useless, at, liveAt, over }) => useless && at > since && at < till && (over < till || liveAt === null || liveAt > attempt.at);
    // Tabs whose attempts come within SAME_ATTEMPT_MS cannot always tell them apart.
    const others = this.#attempts.filter(known).filter((each, i, all) => i === 0 || each.at - all[i - 1].at > 100);
    if (others.length < 2) return;
    throw new Error(`budget: a useless WebSocket at ${attempt.at} after those of ${others.map(({ at }) => at)}`);
  }

  /** Every tab gets everything, if there is any way. */
  look() {
    const { now } = this.clock;
    const { websocket, down, hang } = this.way;
    const some = !down && !hang && (websocket === "ok" || !this.#bad);
    if (!some) this.changedAt = now;
    for (const tab of this.open) {
      const well = tab.machine.state === "connected" && [...tab.readers.values()].every(({ complete }) => complete);
      if (well) tab.wellAt = now;
      const bound = tab.hidden ? BOUND_MS.hidden : BOUND_MS.visible;
      const since = Math.max(tab.wellAt, this.changedAt);
      if (now - since > bound) throw new Error(`I2: tab ${tab.id} ${tab.machine.state} without news since ${since}, ${JSON.stringify(this.way)}`);
    }
  }

  /** A reload is an end too: what it leaves undecided stands in the memory. */
  leave(tab) {
    tab.leave();
    for (const attempt of this.#attempts) if (attempt.tab === tab && attempt.over === null && attempt.liveAt === null) this.#end(attempt, true);
  }
}

/** Runs one history. Throws when a promise was broken. @param {number} seed */
export function simulate(seed, { wrap = (machine) => machine, transports = ["websocket", "stream", "poll"] } = {}) {
  const world = new World(seed, { wrap, transports });
  const { clock, server, pick, chance, way } = world;
  const trouble = pick(10, 45) * MINUTE;
  const calm = trouble + 2 * MINUTE; // by then the last WebSocket that was born to die has done so
  const end = calm + 17 * MINUTE; // and the budget allows everything
  const names = ["calls.a", "bare.b"];
  const any = (list) => list[pick(0, list.length)];
  const each = (act) => world.open.forEach((tab) => clock.after(pick(0, 20), () => act(tab)));
  const restart = (lose) => {
    world.change({ down: true });
    for (const tab of world.open) {
      for (const link of tab.lines.values()) if (link.open) clock.after(pick(0, 30), () => (link.websocket ? link.fail(1006) : link.listener?.fail?.()));
    }
    for (const session of server.sessions.values()) if (session.transport) server.detach(session);
    if (lose) server.sessions.clear();
    clock.after(pick(100, 20_000), () => world.change({ down: false }));
  };
  const during = (way, otherwise, from, to) => () => {
    world.change(way);
    clock.after(pick(from, to), () => world.change(otherwise));
  };
  const faults = [
    () => world.change({ websocket: any(["ok", "ok", "refused", "hang", "silent", "deaf", "mute", "dies", "dies", "starves"]) }),
    () => world.change({ websocket: any(["ok", "refused", "hang", "silent", "deaf", "mute", "dies", "starves"]) }),
    () => world.change({ stream: any(["ok", "ok", "buffered", "starves"]), limit: any([0, 0, pick(1_500, 60_000)]) }),
    () => restart(chance(0.3)),
    during({ blocked: true }, { blocked: false }, 1_000, 5 * MINUTE),
    during({ unavailable: true }, { unavailable: false }, 1_000, MINUTE),
    () => {
      const pause = pick(500, 40_000);
      world.cutUntil = clock.now + pause;
      during({ hang: true }, { hang: false }, pause, pause + 1)();
    },
    () => each((tab) => (tab.hidden = chance(0.5), tab.input({ type: tab.hidden ? "hidden" : "shown" }))),
    () => each((tab) => tab.input({ type: "changed" })),
    () => each((tab) => (tab.input({ type: "offline" }), world.change(), clock.after(pick(10, 5_000), () => (world.change(), tab.input({ type: "online" }))))),
    () => each((tab) => tab.input({ type: "doubt" })),
    () => each((tab) => tab.input({ type: "probe" })),
    () => world.open.length < 3 && world.add(names),
    () => {
      const tab = any(world.open);
      if (!tab) return;
      world.seen.reloads++;
      world.leave(tab);
      world.add(names);
    },
  ];
  for (let at = 0; at < trouble; at += pick(1_000, 4 * MINUTE)) clock.at(at, any(faults));
  for (let at = pick(0, 5_000); at < end - MINUTE; at += pick(500, 20_000)) clock.at(at, () => server.publish(any(names)));
  for (let at = pick(0, 9_000); at < end - MINUTE; at += pick(500, 40_000)) clock.at(at, () => any(world.open)?.say(names[0]));
  for (let at = 5_000; at < end; at += 5_000) clock.at(at, () => world.look());
  for (let at = 4_000; at < end; at += 4_000) clock.at(at, () => server.sessions.forEach(({ transport }) => transport?.http && transport.comment()));
  for (let tabs = pick(1, 4); tabs > 0; tabs--) clock.at(chance(0.5) ? 0 : pick(0, MINUTE), () => world.add(names));
  clock.at(trouble, () => {
    world.cutUntil = 0;
    world.change({ websocket: "ok", stream: "ok", limit: 0, down: false, hang: false, blocked: false, unavailable: false });
    each((tab) => {
      tab.hidden = false;
      for (const type of ["shown", "online"]) tab.input({ type });
    });
  });
  clock.at(calm, () => each((tab) => tab.input({ type: "changed" })));
  clock.run(end);
  for (const { id, machine, readers, waiting } of world.open) {
    const { state, transport } = machine.stats();
    if (state !== "connected" || transport !== "websocket") throw new Error(`tab ${id} is ${state} on ${transport} in the end: ${world.storage}`);
    for (const [name, { complete }] of readers) if (!complete) throw new Error(`tab ${id}, ${name}: the last messages are missing`);
    if (waiting.size) throw new Error(`tab ${id}: no reply to ${[...waiting]}`);
  }
  checkExecuted(server.executed);
  return { ...world.seen, executed: server.executed.length };
}
