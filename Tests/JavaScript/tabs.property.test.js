// Seeded histories of many tabs: they open, close, crash, freeze, thaw and are stopped; workers are killed, lines cut, sessions
// lost. Each tab has every event exactly once and in order, or is told a gap; one hub keeps a line; nothing stays subscribed.
//
// HOLDFAST_SEED chooses the first seed, HOLDFAST_RUNS how many.

import assert from "node:assert/strict";
import { test } from "node:test";
import { Browser, client, inBrowser } from "./tabs-world.js";
import { generator } from "./world.js";

const first = Number(process.env.HOLDFAST_SEED ?? 1);
const runs = Number(process.env.HOLDFAST_RUNS ?? 150);
const NAMES = ["calls.a", "calls.b", "bare.c"];
const TROUBLE = 60_000;
const QUIET = 60_000;
/** Two hubs may keep lines at the same time for no longer: a stopped one that wakes finds out at once, a steal takes seconds. */
const TWO_HUBS_MS = 5_000;

/** What one tab has seen of one topic, against what was published. */
class Reader {
  next = null; // index in topic.all of what has to come; null: not known
  epoch = "";

  constructor(topic, gaps, who) {
    this.topic = topic;
    this.gaps = gaps;
    this.who = who;
  }

  fail(text) {
    throw new Error(`${this.who} ${this.topic.name}: ${text}`);
  }

  index(epoch, offset) {
    const { all } = this.topic;
    const index = all.findIndex((each) => each.epoch === epoch && each.offset >= offset);
    if (index >= 0) return index;
    // What comes after an epoch that is over is the next one.
    const last = all.findLastIndex((each) => each.epoch === epoch);
    return last < 0 ? all.length : last + 1;
  }

  subscribed({ position }) {
    const { stored } = this.topic;
    if (!stored) return;
    if (this.next === null) this.next = this.index(position.epoch, position.offset + 1);
    this.epoch = position.epoch;
  }

  message({ data, offset }) {
    if (this.next === null) this.next = data;
    if (data !== this.next) this.fail(`expected message ${this.next}, got ${data} (offset ${offset})`);
    this.next++;
  }

  gap({ after, next }) {
    const { stored, all } = this.topic;
    if (!stored) {
      if (after !== null || next !== null) this.fail("a gap with positions, and no history");
      this.next = null;
      return;
    }
    if (![...this.gaps].some((gap) => JSON.parse(gap).next === next)) this.fail(`false gap ${after}…${next}`);
    if (after !== null && this.next < all.length && all[this.next].offset !== after + 1) {
      this.fail(`gap after ${after}, but ${all[this.next].offset} was to come`);
    }
    const index = this.index(this.epoch, next);
    if (index < this.next) this.fail(`gap back to ${next}`);
    this.next = index;
  }

  get complete() {
    return this.next === null || this.next === this.topic.all.length;
  }
}

/** @param {number} seed */
async function history(seed, tamper) {
  const random = generator(seed ^ 0x5bd1e995);
  const chance = (p) => random() < p;
  const pick = (from, to) => Math.floor(from + random() * (to - from));
  const browser = new Browser(seed, { history: chance(0.7) ? 1_000 : pick(5, 60), ttl: chance(0.7) ? 60_000 : pick(500, 20_000) });
  browser.workers = ["works", "missing", "broken"][pick(0, 3)];
  const { clock, server, network } = browser;
  if (tamper) browser.tamper = tamper;
  const seen = { messages: 0, gaps: 0, bareGaps: 0, replies: 0, resumed: 0, sessions: 0, tabs: 0, hubs: 0, [browser.workers]: 1 };
  const tabs = [];
  const failures = [];
  const attempt = (callback) => (...all) => {
    try {
      callback(...all);
    } catch (error) {
      failures.push(error);
    }
  };

  function load(realm) {
    const tab = { realm, readers: new Map(), waiting: 0, open: true, known: true };
    seen.tabs++;
    tab.client = client();
    tab.client.on("error", ({ code, message }) => failures.push(new Error(`${realm.id}: ${code}: ${message}`)));
    tab.client.on("connected", ({ resumed }) => seen[resumed ? "resumed" : "sessions"]++);
    tab.subscribe = (name) => {
      if (tab.readers.has(name)) return;
      const reader = new Reader(server.topic(name), server.gaps, realm.id);
      tab.readers.set(name, reader);
      const subscription = tab.client.subscribe(name);
      reader.subscription = subscription;
      const mine = () => tab.readers.get(name) === reader;
      subscription.on("subscribed", attempt((event) => mine() && reader.subscribed(event)));
      subscription.on("message", attempt((event) => mine() && (seen.messages++, reader.message(event))));
      subscription.on("gap", attempt((event) => mine() && (seen[reader.topic.stored ? "gaps" : "bareGaps"]++, reader.gap(event))));
    };
    tab.unsubscribe = (name) => {
      const reader = tab.readers.get(name);
      if (!reader || reader.leaving) return;
      reader.leaving = true;
      reader.subscription.unsubscribe().then(() => tab.readers.delete(name), (error) => failures.push(error));
    };
    tab.message = () => {
      const id = `m${seen.replies + tab.waiting}`;
      tab.waiting++;
      const done = () => (tab.waiting--, seen.replies++);
      tab.client.message("calls.a", id).then(done, ({ code }) => {
        if (code === "closed") done();
        else failures.push(new Error(`${realm.id}: ${code}`));
      });
    };
    for (const name of NAMES) if (chance(0.7)) tab.subscribe(name);
    tabs.push(tab);
  }

  const living = () => tabs.filter(({ realm }) => !realm.dead);
  const any = (all) => all[pick(0, all.length)];
  const awake = () => living().filter(({ realm }) => !realm.frozen);
  const carriers = () => browser.carriers.flatMap((realm) => [...realm.sockets]);
  const stop = (realm, kindly) => {
    if (!realm || realm.dead || realm.frozen) return;
    browser.freeze(realm, kindly);
    clock.after(chance(0.5) ? pick(100, 5_000) : pick(5_000, 40_000), () => browser.thaw(realm, kindly));
  };
  const lead = () => browser.holder("holdfast:hub:");
  const faults = [
    () => living().length > 1 && browser.kill(any(living()).realm),
    () => living().length > 1 && lead() && browser.kill(lead()),
    () => browser.worker && browser.kill(browser.worker),
    () => living().length > 1 && browser.close(any(living()).realm),
    () => stop(any(living())?.realm, true),
    () => stop(any(living())?.realm, false),
    () => stop(lead(), false),
    () => stop(lead()?.owners.size ? null : lead(), true),
    () => awake().length && browser.hide(any(awake()).realm),
    () => awake().length && browser.hide(any(awake()).realm, false),
    () => tabs.length < 9 && (pending = browser.open(load, chance(0.3))),
    () => tabs.length < 9 && (pending = browser.open(load, chance(0.3))),
    () => carriers().forEach(({ transport }) => (server.gone(transport), transport.closed(1006))),
    () => carriers().forEach(({ transport, up }) => (transport.down.cut(Infinity), up.cut(Infinity))),
    () => carriers().forEach(({ transport }) => transport.down.cut(clock.now + pick(500, 10_000))),
    () => void (network.cutUntil = clock.now + pick(1_000, 15_000)),
    () => server.forget(),
    () => chance(0.3) && server.newEpoch(NAMES[pick(0, 2)]),
    () => awake().forEach(({ realm }) => browser.fire(realm, "offline")),
    () => awake().forEach(({ realm }) => browser.fire(realm, "online")),
    () => {
      const tab = any(awake());
      if (tab) browser.run(tab.realm, () => (tab.open ? tab.client.close() : tab.client.connect()));
      if (tab) tab.open = !tab.open;
    },
  ];
  let pending;

  return inBrowser(browser, async () => {
    await browser.open(load);
    for (let i = pick(0, 4); i > 0; i--) await browser.open(load, chance(0.3));
    const plan = [];
    const each = (from, to, step, action) => {
      for (let at = pick(...from); at < to; at += pick(...step)) plan.push([at, action]);
    };
    each([0, 300], TROUBLE + QUIET - 10_000, [20, 600], () => server.publish(NAMES[pick(0, 3)]));
    each([0, 3_000], TROUBLE + QUIET - 10_000, [50, 3_000], () => {
      const tab = any(awake().filter(({ open }) => open));
      if (tab) browser.run(tab.realm, tab.message);
    });
    each([2_000, 10_000], TROUBLE, [50, chance(0.5) ? 15_000 : 4_000], () => any(faults)());
    each([0, 10_000], TROUBLE, [500, 20_000], () => {
      const tab = any(awake());
      const name = NAMES[pick(0, 3)];
      if (tab) browser.run(tab.realm, () => (tab.readers.has(name) ? tab.unsubscribe(name) : tab.subscribe(name)));
    });
    plan.push([TROUBLE, () => {
      network.cutUntil = 0;
      for (const { realm } of living()) browser.thaw(realm, true);
      if (browser.worker) browser.thaw(browser.worker);
    }], [TROUBLE + 100, () => {
      for (const tab of living()) {
        browser.hide(tab.realm, false);
        browser.fire(tab.realm, "online");
        if (!tab.open) browser.run(tab.realm, () => tab.client.connect());
        tab.open = true;
      }
    }]);
    plan.sort(([a], [b]) => a - b);
    let two = 0;
    let hub = null;
    for (let now = 0, i = 0; now < TROUBLE + QUIET; now += 500) {
      for (; i < plan.length && plan[i][0] < now + 500; i++) {
        await browser.pass(Math.max(0, plan[i][0] - clock.now));
        pending = null;
        plan[i][1]();
        if (pending) await pending;
        if (failures.length) throw failures[0];
      }
      await browser.pass(now + 500 - clock.now);
      if (failures.length) throw failures[0];
      two = browser.carriers.length > 1 ? two + 500 : 0;
      if (two > TWO_HUBS_MS) throw new Error(`two hubs at ${clock.now}: ${browser.carriers.map(({ id }) => id)}`);
      if (lead() && lead() !== hub) {
        seen.hubs++;
        if (now > TROUBLE + QUIET / 2) throw new Error(`another hub at ${clock.now}, and nothing has happened`);
      }
      hub = lead() ?? hub;
    }
    for (const tab of living()) {
      const { state } = tab.client;
      if (state !== "connected") throw new Error(`${tab.realm.id} is ${state} ${QUIET} ms after all was good again`);
      if (tab.waiting) throw new Error(`${tab.realm.id}: ${tab.waiting} commands have no reply`);
      for (const reader of tab.readers.values()) {
        if (!reader.complete) reader.fail(`the last messages are missing: ${reader.next} of ${reader.topic.all.length}`);
      }
    }
    const attached = [...server.sessions.values()].filter(({ transport }) => transport);
    if (attached.length !== 1) throw new Error(`${attached.length} sessions are attached`);
    const wanted = [...new Set(living().flatMap(({ readers }) => [...readers.keys()]))].sort();
    assert.deepEqual([...attached[0].topics.keys()].sort(), wanted, "what is subscribed is what some tab wants");
    return seen;
  });
}

test(`${runs} histories of many tabs from seed ${first}`, async (t) => {
  const sum = {};
  for (let seed = first; seed < first + runs; seed++) {
    let seen;
    try {
      seen = await history(seed);
    } catch (error) {
      throw new Error(`seed ${seed}: ${error.message}`, { cause: error });
    }
    for (const [name, value] of Object.entries(seen)) sum[name] = (sum[name] ?? 0) + value;
  }
  t.diagnostic(JSON.stringify(sum));
  if (runs < 50) return;
  for (const name of ["messages", "gaps", "replies", "resumed", "sessions", "hubs"]) {
    assert.ok(sum[name] >= runs / 4, `${name}: only ${sum[name]}`);
  }
  for (const name of ["works", "missing", "broken"]) assert.ok(sum[name] >= runs / 10, `workers that are ${name}: only ${sum[name]}`);
});

const dropping = (type) => (message) => {
  const { actions } = message;
  return actions ? { ...message, actions: actions.filter((action) => action.type !== type) } : message;
};
// A test that cannot fail proves nothing: each of these mistakes must be found soon.
const canaries = {
  "a tab counts one event too many": (message) => {
    if (message.mirror?.n) message.mirror.n++;
    return message;
  },
  // In what a tab tells the next hub it would do no harm: the hub would choose a worse session to go on with, and say so by a gap.
  "a tab is told one session less": (message) => {
    if (message.t === "welcome") message.generation--;
    return message;
  },
  "repeated events are not ignored": (message) => (message.t === "do" ? { ...message, counted: false } : message),
  "a gap is swallowed": dropping("gap"),
  "replies are swallowed": dropping("reply"),
  "positions are forgotten": (message) => {
    for (const sub of message.subs ?? []) sub.position = null;
    return message;
  },
  "commands are not handed over": (message) => ({ ...message, ...(message.commands && { commands: [] }) }),
  "the hub does not answer who comes": (message) => (message.t === "welcome" ? null : message),
  "the hub is not told of new subscriptions": (message) => (message.input?.type === "subscribe" ? null : message),
};
for (const [mistake, tamper] of Object.entries(canaries)) {
  test(`canary: it is found out when ${mistake}`, async () => {
    for (let seed = 1; seed <= 150; seed++) {
      try {
        await history(seed, tamper);
      } catch {
        return;
      }
    }
    assert.fail("the property test does not see it");
  });
}
