/**
 * Holdfast, many tabs, one line: all tabs of an origin with the same URL, identity and options have one session.
 *
 * Loaded by holdfast.js where `tabs: true` is given. In three sections:
 *   1. The hub. It has the real machine and its driver, and lives in a SharedWorker or in one of the tabs, the leader.
 *   2. The tab. It takes the place of the machine in each client: inputs go to the hub, actions come back.
 *   3. The entries, for holdfast.js and for the worker.
 *
 * SPDX-License-Identifier: Apache-2.0
 */

/*
 * All talk goes through one BroadcastChannel, in both modes alike, also between the leader's tab and the hub within it: so
 * there is one way to get things wrong. Who is the hub is decided by one Web Lock: each tab has one exclusive request for
 * it waiting, and the browser grants it to the next one the moment that the holder is gone, however it went. The tab that
 * is granted it tries to start the worker, which takes the lock from it (`steal`); where that fails, the tab is the hub.
 * Each tab holds a lock of its own too, by which the hub learns that it is gone.
 *
 * Messages of the hub carry {hub, term, generation, n}: `term` grows with each reign, and what comes from an older one is
 * ignored; `generation` numbers the sessions; `n` is the machine's count of the server's events after this message, which
 * goes out *before* the machine acknowledges it. Each tab keeps a mirror of this: the session's name, its count, and the
 * topics. The next hub resumes the session from the mirror that has counted most; the server repeats what came after, and
 * a tab ignores what it has counted already. So nothing is lost or doubled by a handover, also on topics without history.
 *
 * Of a tab: join, leave, input, page, ping, prepared. Of the hub: muster (who is there?), welcome, do (actions; `to`: only
 * for these tabs), pong, prepare, remember, full, bye.
 */

import * as holdfast from "./holdfast.js";

// holdfast.d.ts declares what is for apps, and these are not.
const { ConnectionMachine, Driver, loadFallback, shifted } = /** @type {any} */ (holdfast);

/** @typedef {import("./holdfast.js").Position} Position */
/** @typedef {any} Input of the machine */
/** @typedef {any} Action of the machine */
/** @typedef {any} ConnectionMachine */
/** @typedef {any} Driver */
/** @typedef {Record<string, any>} Message what tabs and hub say to each other */
/**
 * @typedef {object} Mirror what a tab knows of the session, for the next hub
 * @property {number} generation
 * @property {string|null} session HANDLE.SECRET
 * @property {number} n
 * @property {Map<string, MirroredTopic>} topics
 */
/**
 * @typedef {object} MirroredTopic
 * @property {string} name
 * @property {Message} fields
 * @property {Position|null} position
 * @property {Message|null} event the reply that confirmed it
 * @property {boolean} sure false: something is under way, and nobody knows whether the server has it
 */
/**
 * @typedef {object} Sub of a tab
 * @property {string} id
 * @property {string} name
 * @property {Message} fields
 * @property {Position|null} position of the last message that the app was given
 * @property {boolean} [active] it is confirmed, and nothing has been missed since
 * @property {boolean} [before] it was confirmed once
 * @property {boolean} [turned] to another epoch, of which a gap has yet to tell
 * @property {string} [told] the hub that knows of it
 */
/**
 * @typedef {object} Entry a topic as the hub sees it
 * @property {string} name
 * @property {Message} fields
 * @property {Set<string>} users tabs
 * @property {Message|null} event the reply that confirmed it
 * @property {boolean} sure that the server has it
 * @property {Position|null} [since] from where it is being asked for
 * @property {boolean} [leaving] nobody wants it any more
 */
/**
 * @typedef {object} Member a tab as the hub sees it
 * @property {string} id
 * @property {boolean} hidden
 * @property {Map<string, string>} subs ids by name
 * @property {AbortController} done
 */

const VERSION = 1; // of what is said here: tabs with an older file keep to themselves
const TABS = 64; // of one hub; those beyond have their own lines
const SETTLE_MS = 150; // What a hub that died has said last may still be on its way to some tab.
const MUSTER_MS = 500; // A tab that does not answer so long joins later, with its positions.
const WORKER_WAIT_MS = 1_000; // By then the worker has taken the lock, or it is asked again,
const WORKER_TRIES = 3; // and in the end there is none.
const PING_MS = 4_000; // A visible tab that has heard nothing so long asks.
const PONG_MS = 2_000; // Without an answer by then the hub is frozen.
const JITTER_MS = 400; // between the tabs that notice it
const HANDOVER_MS = 2_000; // A leader that is hidden for so long lets a visible tab lead: people leaf through their tabs.
const HEIR_MS = 2_000;
const LINGER_MS = 10_000; // A session without tabs: one may come back from the back/forward cache.
const PREPARE_MS = 5_000; // for one tab to give credentials
const ASLEEP_MS = 5_000; // A hub whose clock has jumped so far asks whether it is still the hub.
const RESTARTS = 3; // in RESTART_MS; then somebody else has our session, and will not stop
const RESTART_MS = 60_000;

const token = () => Math.random().toString(36).slice(2, 12);
const wall = (/** @type {number} */ now) => Date.now() - now;
/** @param {string} key */
const hubLock = (key) => `holdfast:hub:${key}`;
/** @param {string} key */
const tabLock = (key, id = "") => `holdfast:tab:${key}:${id}`;
/** Of an epoch that there never was: brings all that there is. */
const ALL = { epoch: "", offset: 0 };
/** @param {Position|null|undefined} a @param {Position|null|undefined} b @returns {boolean} whether a reaches as far back as b */
const covers = (a, b) => !b || (!!a && (!a.epoch || (a.epoch === b.epoch && a.offset <= b.offset)));
/**
 * From where to ask for both. Of two epochs nobody knows which one the server is in: asked from the position in that one, it
 * would go on from there, and a tab that comes from the other one would miss what was before.
 * @param {Position|null|undefined} a @param {Position} b that is not covered by a
 */
const beyond = (a, b) => (a && a.epoch !== b.epoch ? ALL : b);
/** Their order does not count. */
const canonical = (/** @type {Message} */ fields) => JSON.stringify(Object.entries(fields).sort(([a], [b]) => (a < b ? -1 : 1)));

/* ── 1. The hub ────────────────────────────────────────────────────────────────────────────────────────────────────── */

/**
 * @typedef {object} HubOptions
 * @property {string} key
 * @property {Message} plain options of machine and driver that can be sent to a worker
 * @property {Message} [own] those that cannot
 * @property {string} owner the tab that it lives in; in a worker: none
 * @property {string} [worker] its name
 * @property {number} settle ms
 * @property {string} [except] the tab that is known not to answer
 * @property {(heir: string) => void} [retire] a visible tab is to lead
 * @property {() => void} [ended] it has stopped by itself
 */

export class Hub {
  #options;
  #id = token();
  #term = 0;
  #channel;
  /** @type {Map<string, Member>} */
  #tabs = new Map();
  /** @type {Map<string, Entry>} */
  #names = new Map();
  /** @type {ConnectionMachine} */
  #machine;
  /** @type {Driver} */
  #driver;
  /** @type {Map<string, Message>|null} joins by tab, while it gathers them */
  #joins = null;
  #gathered = () => {};
  #settled = () => {};
  #reigning = false;
  #stopped = false;
  #founding = false; // the tabs that were there before are taken over
  #inherited = false; // the session is of another hub, and nobody knows all that it has sent last
  #hidden = false;
  #offline = false;
  #generation = 0;
  #n = 0;
  /** @type {string|null} */
  #session = null;
  /** @type {Message|undefined} the last reply to hello */
  #welcome;
  /** @type {Map<string, {name: string, tab?: string, sub?: string, reply?: string}>} unsubscribes that we have sent, by id */
  #leaving = new Map();
  #commands = new Set(); // ids of messages without reply
  #prefix = token() + ".";
  #lastId = 0;
  /** @type {string|null} an unsubscribe of our own is under way, of which nobody is told */
  #muted = null;
  /** @type {Map<string, (answer: Message) => void>} */
  #questions = new Map();
  #remembered = "";
  /** @type {ReturnType<typeof setTimeout>|undefined} */
  #beat;
  /** @type {ReturnType<typeof setTimeout>|undefined} */
  #retiring;
  /** @type {ReturnType<typeof setTimeout>|undefined} */
  #lingering;
  #aliveAt = 0;
  /** @type {(() => void)[]|null} what waits until it is known whether we are still the hub */
  #held = null;
  #quitting = false; // the line is let go, and not the session
  /** @type {string|null} of the lock, by which its holder is told from another one */
  #holder = null;
  /** @type {number[]} */
  #restarts = [];

  /** @param {HubOptions} options */
  constructor(options) {
    this.#options = options;
    this.#channel = new BroadcastChannel(`holdfast:${options.key}`);
    this.#channel.onmessage = ({ data }) => this.#hear(data);
    [this.#machine, this.#driver] = this.#begin();
    this.#start(options.settle);
  }

  /** @returns {[ConnectionMachine, Driver]} */
  #begin() {
    const { plain, own } = this.#options;
    const machine = new ConnectionMachine({ random: Math.random, ...plain, ...own });
    const { WebSocket } = globalThis;
    if (plain.transports + "" !== "websocket") loadFallback().catch(() => {}); // tried again when it is needed
    const turn = /** @type {any} */ ({
      handle: (/** @type {Input} */ input, /** @type {number} */ now) => (machine === this.#machine ? this.#turn(input, now) : []),
      stats: () => machine.stats(),
    });
    const driver = new Driver(turn, {
      url: plain.url, withCredentials: plain.withCredentials, WebSocket, ...own,
      storage: null,
      prepare: () => this.#prepare(),
      perform() {},
      report: (/** @type {Message} */ { code, message }) => this.#do([{ type: "error", code, error: message }]),
    });
    return [machine, driver];
  }

  // ── Its reign

  /**
   * Gathers who is there and what they know, and goes on from it.
   * @param {number} settle ms
   */
  async #start(settle) {
    const { key, except, own } = this.#options;
    if (settle) {
      await new Promise((/** @type {(value?: unknown) => void} */ resolve) => {
        this.#settled = resolve;
        setTimeout(resolve, settle);
      });
    }
    if (this.#stopped) return;
    this.#joins = new Map();
    this.#post({ t: "muster" });
    const { held = [] } = await navigator.locks.query();
    this.#holder = held.find(({ name }) => name === hubLock(key))?.clientId ?? null;
    const prefix = tabLock(key);
    const expected = held.filter(({ name = "" }) => name.startsWith(prefix) && name !== prefix + except).length;
    const joins = /** @type {Map<string, Message>} */ (this.#joins);
    await new Promise((/** @type {(value?: unknown) => void} */ resolve) => {
      this.#gathered = () => (joins.size && joins.size >= expected ? resolve() : undefined);
      setTimeout(() => {
        // Where nobody is, there is nothing to begin with.
        this.#gathered = () => (joins.size ? resolve() : undefined);
        this.#gathered();
      }, MUSTER_MS);
      this.#gathered();
    });
    if (this.#stopped) return;
    this.#joins = null;
    this.#aliveAt = (own?.now ?? (() => performance.now()))();
    this.#pulse();
    this.#reign([...joins.values()]);
  }

  /** @param {Message[]} joins */
  #reign(joins) {
    /** @type {Message|null} */
    let best = null;
    for (const { mirror, term, memory } of joins) {
      this.#term = Math.max(this.#term, term);
      this.#generation = Math.max(this.#generation, mirror.generation);
      if (memory && !this.#remembered) this.#recall(memory);
      const further = !best || mirror.generation > best.generation || (mirror.generation === best.generation && mirror.n > best.n);
      if (mirror.session && further) best = mirror;
    }
    // The time of day, so that of two that were crowned by turns the later one has the higher.
    this.#term = Math.max(Date.now(), this.#term + 1);
    this.#reigning = this.#founding = true;
    /** @type {MirroredTopic[]} */
    const topics = best?.topics ?? [];
    this.#inherited = !!best;
    if (best) {
      this.#generation = best.generation;
      this.#session = best.session;
      this.#n = best.n;
      const sure = topics.filter(({ sure }) => sure).map((topic) => ({ ...topic, id: this.#newId() }));
      this.#driver.input({ type: "adopt", session: best.session, received: best.n, topics: sure });
    }
    for (const { name, fields, event, sure } of topics) {
      this.#names.set(name, { name, fields, users: new Set(), event, sure });
    }
    // What all of them have, before what one of them wants to end.
    for (const join of joins) this.#enroll({ ...join, commands: [] });
    for (const { from, commands } of joins) this.#take(from, commands);
    for (const entry of this.#names.values()) if (!entry.users.size && !entry.leaving) this.#forget(entry);
    this.#founding = false;
    this.#look();
    this.#driver.input({ type: "connect" });
  }

  #quit() {
    this.#held = null;
    this.#quitting = true;
    this.#driver.input({ type: "close" });
  }

  /** Everything from the beginning, with what the tabs know. */
  #restart() {
    this.#quit();
    for (const { done } of this.#tabs.values()) done.abort();
    this.#tabs.clear();
    this.#names.clear();
    this.#leaving.clear();
    this.#commands.clear();
    this.#reigning = this.#hidden = this.#offline = false;
    this.#session = null;
    this.#n = 0;
    this.#id = token();
    clearTimeout(this.#beat);
    this.#quitting = false;
    [this.#machine, this.#driver] = this.#begin();
    this.#start(SETTLE_MS);
  }

  /**
   * Lets go of the line, first of all, and not of the session: the next hub goes on with it.
   * @param {string} [heir] the tab that is to take the lock
   */
  stop(heir) {
    if (this.#stopped) return;
    this.#stopped = true;
    this.#quit();
    this.#post({ t: "bye", heir });
    this.#channel.close();
    for (const timer of [this.#beat, this.#retiring, this.#lingering]) clearTimeout(timer);
    for (const { done } of this.#tabs.values()) done.abort();
  }

  /** The last client was closed: the session too. */
  finish() {
    this.#driver.input({ type: "close" });
  }

  get lonely() {
    return this.#tabs.size <= 1;
  }

  /** Notices that it has slept. */
  #pulse() {
    clearTimeout(this.#beat);
    this.#beat = setTimeout(() => {
      if (!this.#asleep()) this.#aliveAt = this.#driver.now();
      this.#pulse();
    }, 1_000);
  }

  /** Whether we have slept long enough for another one to take over; then it is found out. */
  #asleep() {
    if (this.#held) return true;
    if (!this.#reigning || this.#driver.now() - this.#aliveAt < ASLEEP_MS) return false;
    this.#held = [];
    this.#confirm(() => {
      this.#aliveAt = this.#driver.now();
      const held = this.#held ?? [];
      this.#held = null;
      for (const resume of held) resume();
    });
    return true;
  }

  /**
   * Goes on if we are the hub still. Else everything ends here: the tabs follow another one.
   * @param {() => void} yes
   */
  async #confirm(yes) {
    const { held = [] } = await navigator.locks.query();
    if (this.#stopped) return;
    const holder = held.find(({ name }) => name === hubLock(this.#options.key));
    if (holder && holder.clientId === this.#holder) return yes();
    this.stop();
    this.#options.ended?.();
  }

  // ── What the machine does

  /**
   * Before the driver carries out anything, and so before the server is told that we have it, the tabs are.
   * @param {Input} input @param {number} now
   * @returns {Action[]} what is about lines
   */
  #turn(input, now) {
    // It may be old news of a line that is not ours any more.
    if (!this.#quitting && this.#asleep()) {
      this.#held?.push(() => this.#driver.input(input));
      return [];
    }
    this.#aliveAt = Math.max(this.#aliveAt, now);
    const actions = this.#machine.handle(input, now);
    /** @type {Action[]} */
    const lines = [];
    /** @type {any[]} */
    const told = [];
    for (const action of actions) {
      switch (action.type) {
        case "open": case "send": case "listen": case "timer":
          lines.push(action);
          break;
        case "close":
          lines.push(this.#quitting ? { ...action, code: undefined } : action);
          break;
        case "remember":
          this.#remember(action.memory, now);
          break;
        default:
          told.push(action);
      }
    }
    if (this.#quitting) return lines;
    if (told.some(({ type, code }) => type === "error" && code === "replaced") && this.#mayRestart(now)) {
      // Another hub has our session. If it should not, we take it back.
      this.#confirm(() => this.#restart());
      return lines;
    }
    const { received, session } = this.#machine.stats();
    const counted = received > this.#n;
    this.#n = received;
    if (this.#session && !session) this.#doubtAll();
    this.#session = session;
    const { directed, ...news } = this.#digest(told);
    if (counted || news.actions.length) this.#post({ t: "do", counted, ...news });
    for (const each of directed) this.#do(each.actions, each.tab);
    return lines;
  }

  /** The session is lost: all that was subscribed in it will be asked for again, from where it is. */
  #doubtAll() {
    for (const entry of this.#names.values()) {
      entry.sure = false;
      entry.since = this.#machine.topics.get(entry.name)?.position;
    }
  }

  /** @param {number} now */
  #mayRestart(now) {
    this.#restarts = this.#restarts.filter((at) => at > now - RESTART_MS);
    return this.#restarts.push(now) <= RESTARTS;
  }

  /**
   * What the tabs are told of it: all of them, and single ones.
   * @param {any[]} told
   */
  #digest(told) {
    /** @type {any[]} */
    const actions = [];
    /** @type {{tab: string, actions: any[]}[]} */
    const directed = [];
    /** @type {Message} */
    const more = {};
    const done = new Set();
    for (const { type, id } of told) if (type === "reply" && this.#leaving.has(id)) done.add(this.#leaving.get(id)?.name);
    for (const action of told) {
      const { type, subscription: name } = action;
      const entry = this.#names.get(name);
      const position = this.#machine.topics.get(name)?.position;
      switch (type) {
        case "connected":
          this.#welcome = action.event;
          if (!action.resumed) {
            this.#generation++;
            this.#inherited = false;
            this.#doubtAll();
            more.topics = this.topics;
          }
          more.session = this.#session;
          break;
        case "subscribed":
          if (!entry) continue;
          entry.sure = true;
          entry.event = action.event;
          actions.push({ ...action, fields: entry.fields, position });
          continue;
        case "gap":
          // What a topic without history has lost, each tab knows by itself: it was not there, or it was.
          if (action.next === null && told.some((each) => each.type === "subscribed" && each.subscription === name)) continue;
          actions.push({ ...action, position });
          continue;
        case "unsubscribed":
          if (done.has(name) || name === this.#muted) continue;
          actions.push({ ...action, users: entry ? [...entry.users] : [] });
          this.#names.delete(name);
          for (const tab of this.#tabs.values()) tab.subs.delete(name);
          continue;
        case "reply": {
          const leave = this.#leaving.get(action.id);
          if (leave) {
            this.#left(action.id, leave, action.event, directed, actions);
            continue;
          }
          if (action.id.startsWith(this.#prefix)) continue;
          this.#commands.delete(action.id);
          break;
        }
        case "error":
          // To what an earlier hub has sent, and what we have sent again to be sure.
          if (action.code === "already_subscribed" || (action.code === "not_subscribed" && action.event?.event !== "message")) continue;
      }
      actions.push(action);
    }
    const news = actions.some(({ type }) => type !== "message" && type !== "gap");
    return { actions, directed, ...more, ...(news && this.#figures()) };
  }

  #figures() {
    return { stats: this.#machine.stats(), clock: wall(this.#driver.now()) };
  }

  /** @returns {MirroredTopic[]} */
  get topics() {
    return [...this.#names.values()].map(({ name, fields, event, sure }) => {
      return { name, fields, event, sure, position: this.#machine.topics.get(name)?.position ?? null };
    });
  }

  /** @param {any[]} actions @param {string} [tab] absent: all */
  #do(actions, tab) {
    this.#post({ t: "do", counted: false, actions, to: tab && [tab] });
  }

  /** @param {Message} message */
  #post(message) {
    const { owner, worker } = this.#options;
    this.#channel.postMessage({
      ...message, hub: this.#id, term: this.#term, owner, worker, generation: this.#generation, n: this.#n,
    });
  }

  // ── What the tabs say

  /** @param {Message} message @returns {any} */
  #hear(message) {
    const { t, from, hub, term } = message;
    if (this.#stopped) return;
    if (this.#asleep()) return void this.#held?.push(() => this.#hear(message));
    // Another hub, crowned after us. If it is none, we are to be found above it.
    if (hub && !from && hub !== this.#id && t !== "muster" && term > this.#term && this.#reigning) {
      this.#reigning = false;
      return void this.#confirm(() => this.#restart());
    }
    if (t === "bye") this.#settled(); // That was its last word, and it has come after we were crowned.
    if (!from) return;
    if (t === "join") {
      if (this.#joins) {
        this.#joins.set(from, message);
        this.#gathered();
      } else if (this.#reigning) {
        this.#enroll(message);
        this.#look();
        if (/idle|closed/.test(this.#machine.state)) this.#driver.input({ type: "connect" });
      }
      return;
    }
    const tab = this.#tabs.get(from);
    if (t === "leave") {
      if (this.#joins?.delete(from)) this.#gathered();
      if (tab) this.#gone(tab, message.end);
      return;
    }
    if (!tab || hub !== this.#id) return;
    switch (t) {
      case "ping":
        return this.#post({ t: "pong", to: [from], ...this.#figures() });
      case "page":
        tab.hidden = message.hidden;
        this.#look();
        if (!tab.hidden) this.#driver.input({ type: "doubt" });
        return;
      case "prepared":
        return this.#questions.get(message.question)?.(message);
      case "input": {
        const { input } = message;
        if (input.type === "subscribe") {
          return this.#use(tab, { ...input, name: input.subscription, fields: input.fields ?? {}, position: input.since ?? null }, false);
        }
        if (input.type === "memory") return this.#recall(input.memory);
        if (/^(unsubscribe|message)$/.test(input.type)) return this.#command(tab, input);
        if (/^(offline|online)$/.test(input.type)) return this.#network(input.type === "offline");
        return this.#driver.input(input);
      }
    }
  }

  /** @param {boolean} offline */
  #network(offline) {
    this.#offline = offline;
    this.#driver.input({ type: offline ? "offline" : "online" });
  }

  /**
   * A tab comes, or comes back.
   * @param {Message} join
   */
  #enroll({ from: id, hidden, offline, mirror, subs, commands, memory }) {
    let tab = this.#tabs.get(id);
    if (!tab) {
      if (this.#tabs.size >= TABS) return this.#post({ t: "full", to: [id] });
      tab = { id, hidden, subs: new Map(), done: new AbortController() };
      this.#tabs.set(id, tab);
      clearTimeout(this.#lingering);
      const gone = tab;
      // Granted: the tab is gone, whether it has said so or not.
      navigator.locks.request(tabLock(this.#options.key, id), { signal: tab.done.signal }, () => this.#gone(gone)).catch(() => {});
    }
    tab.hidden = hidden;
    const synced = mirror.generation === this.#generation && mirror.n >= this.#n && mirror.session === this.#session;
    const { state } = this.#machine;
    this.#post({
      t: "welcome", to: [id], synced, state, session: this.#session, topics: this.topics, event: this.#welcome, ...this.#figures(),
    });
    if (memory) this.#recall(memory);
    // The one that has told us of it may be gone since.
    if (offline ? this.#machine.state === "idle" : this.#offline) this.#network(offline);
    for (const name of [...tab.subs.keys()]) if (!subs.some((/** @type {Sub} */ sub) => sub.name === name)) this.#unuse(tab, name);
    for (const sub of subs) this.#use(tab, sub, synced);
    this.#take(id, commands);
  }

  /** @param {string} id @param {Message[]} commands */
  #take(id, commands) {
    const tab = this.#tabs.get(id);
    if (tab) for (const command of commands) this.#command(tab, command);
  }

  /** @param {Member} tab @param {boolean} [end] by the app */
  #gone(tab, end) {
    if (this.#stopped || this.#tabs.get(tab.id) !== tab) return;
    this.#tabs.delete(tab.id);
    tab.done.abort();
    for (const name of [...tab.subs.keys()]) this.#unuse(tab, name);
    if (this.#tabs.size) return this.#look();
    if (end) return this.finish();
    this.#lingering = setTimeout(() => this.finish(), LINGER_MS);
  }

  /** Whether somebody looks, and whether it is the right one who leads. */
  #look() {
    const visible = [...this.#tabs.values()].filter(({ hidden }) => !hidden);
    if (this.#tabs.size && this.#hidden !== !visible.length) {
      this.#hidden = !visible.length;
      this.#driver.input({ type: this.#hidden ? "hidden" : "shown" });
    }
    clearTimeout(this.#retiring);
    const { owner, retire } = this.#options;
    if (retire && visible.length && this.#tabs.get(owner)?.hidden) {
      this.#retiring = setTimeout(() => retire(visible[0].id), HANDOVER_MS);
    }
  }

  #newId() {
    return this.#prefix + (++this.#lastId).toString(36);
  }

  // ── Subscriptions

  /**
   * A tab wants a topic.
   * @param {Member} tab @param {Sub} sub
   * @param {boolean} synced it has seen all that we have
   */
  #use(tab, { id, name, fields, position, active }, synced) {
    let entry = this.#names.get(name);
    if (entry && entry.users.size && canonical(entry.fields) !== canonical(fields)) {
      const error = `${name} is subscribed with other fields by another tab: give the same ones, or another "identity".`;
      const event = { event: "subscribe", subscription: name, status: "error", code: "other_fields", error };
      return this.#do([{ type: "unsubscribed", subscription: name, event, sub: id }], tab.id);
    }
    tab.subs.set(name, id);
    const again = !!entry;
    if (!entry || canonical(entry.fields) !== canonical(fields)) {
      entry = { name, fields, users: new Set(), event: null, sure: false, since: null };
      this.#names.set(name, entry);
      entry.users.add(tab.id);
      return this.#subscribe(entry, position, again || this.#inherited);
    }
    const first = !entry.users.size;
    entry.users.add(tab.id);
    if (entry.leaving) {
      entry.leaving = false;
      return this.#subscribe(entry, position, false);
    }
    if (!entry.sure) {
      if (first && this.#founding) this.#subscribe(entry, position, true);
      else if (position && !covers(entry.since, position)) this.#subscribe(entry, beyond(entry.since, position), true);
      return; // else the reply is on its way
    }
    if (synced && active) return;
    const now = this.#machine.topics.get(name)?.position ?? undefined;
    if (position && now && !covers(now, position)) return this.#subscribe(entry, beyond(now, position), true);
    const event = { ...entry.event, position: now, recovered: position ? true : undefined };
    this.#do([{ type: "subscribed", subscription: name, since: position ?? undefined, event }], tab.id);
  }

  /**
   * @param {Entry} entry
   * @param {Position|null} since
   * @param {boolean} again the server may have it already
   */
  #subscribe(entry, since, again) {
    const { name, fields } = entry;
    entry.sure = false;
    entry.since = since;
    // First of all the tabs know that it is not sure any more: should we die now, the next hub asks anew.
    this.#do([{ type: "unsure", name, fields }]);
    if (again) {
      this.#muted = name;
      this.#driver.input({ type: "unsubscribe", id: this.#newId(), subscription: name });
      this.#muted = null;
    }
    this.#driver.input({ type: "subscribe", id: this.#newId(), subscription: name, since: since ?? undefined, fields });
  }

  /**
   * A tab does not want a topic any more.
   * @param {Member} tab @param {string} name @param {string} [reply] the id of its command
   */
  #unuse(tab, name, reply) {
    const entry = this.#names.get(name);
    const sub = tab.subs.get(name);
    tab.subs.delete(name);
    if (!entry?.users.delete(tab.id)) return;
    if (!entry.users.size) return this.#forget(entry, tab.id, sub, reply);
    if (reply) this.#do(ended(name, sub, reply), tab.id);
  }

  /**
   * Nobody wants a topic any more.
   * @param {Entry} entry @param {string} [tab] @param {string} [sub] @param {string} [reply]
   */
  #forget(entry, tab, sub, reply) {
    const { name, fields } = entry;
    entry.leaving = true;
    const id = this.#newId();
    this.#leaving.set(id, { name, tab, sub, reply });
    this.#do([{ type: "unsure", name, fields }]);
    this.#driver.input({ type: "unsubscribe", id, subscription: name });
  }

  /**
   * The reply to that.
   * @param {string} id
   * @param {{name: string, tab?: string, sub?: string, reply?: string}} leave
   * @param {Message} event
   * @param {{tab: string, actions: any[]}[]} directed @param {any[]} actions
   */
  #left(id, { name, tab = "", sub, reply }, event, directed, actions) {
    this.#leaving.delete(id);
    const entry = this.#names.get(name);
    const member = this.#tabs.get(tab);
    const refused = event.status !== "ok" && event.code !== "not_subscribed"; // by then an earlier hub had done it
    if (entry?.leaving) {
      if (refused && member && reply) {
        // The service keeps it: so it is as before.
        entry.leaving = false;
        entry.users.add(tab);
        if (!member.subs.has(name)) member.subs.set(name, /** @type {string} */ (sub));
      } else {
        this.#names.delete(name);
        this.#machine.topics.delete(name);
        actions.push({ type: "forgotten", name });
      }
    }
    if (reply) directed.push({ tab, actions: refused ? [{ type: "reply", id: reply, event }] : ended(name, sub, reply, event) });
  }

  /** @param {Member} tab @param {Message} input */
  #command(tab, { type, id, subscription: name, data, fields, sub }) {
    if (type === "unsubscribe") {
      if (tab.subs.get(name) === sub) this.#unuse(tab, name, id);
      else this.#do(ended(name, sub, id), tab.id);
    } else if (!this.#commands.has(id)) {
      this.#commands.add(id);
      this.#driver.input({ type: "message", id, subscription: name, data, fields });
    }
  }

  // ── What only tabs can do

  #members() {
    return [...this.#tabs.values()].sort((a, b) => Number(a.hidden) - Number(b.hidden));
  }

  /**
   * Asks the tabs for credentials, visible ones first.
   * @returns {Promise<{auth?: Message, headers?: Record<string, string>}>}
   */
  async #prepare() {
    if (!this.#options.plain.prepares) return {};
    for (const { id } of this.#members()) {
      const question = token();
      this.#post({ t: "prepare", to: [id], question });
      const answer = await new Promise((/** @type {(value: Message|void) => void} */ resolve) => {
        this.#questions.set(question, resolve);
        setTimeout(resolve, PREPARE_MS);
      });
      this.#questions.delete(question);
      if (answer?.error !== undefined) throw new Error(answer.error);
      if (answer) return answer.value;
    }
    throw new Error("no tab has answered");
  }

  /** @param {any} memory @param {number} now */
  #remember(memory, now) {
    const given = memory && shifted(memory, wall(now));
    this.#remembered = JSON.stringify(given);
    const { owner } = this.#options;
    const to = this.#tabs.has(owner) ? owner : this.#members()[0]?.id;
    if (to) this.#post({ t: "remember", to: [to], memory: given });
  }

  /**
   * All tabs tell what one has written.
   * @param {any} memory in the time of day
   */
  #recall(memory) {
    const text = JSON.stringify(memory);
    if (text === this.#remembered) return;
    this.#remembered = text;
    this.#driver.input({ type: "memory", memory: memory && shifted(memory, -wall(this.#driver.now())) });
  }
}

/** @param {string} subscription @param {string|undefined} sub @param {string} id @param {Message} [reply] */
function ended(subscription, sub, id, reply) {
  const event = reply?.status === "ok" ? reply : { event: "unsubscribe", subscription, status: "ok" };
  return [{ type: "unsubscribed", subscription, event, sub }, { type: "reply", id, event }];
}

/* ── 2. The tab ────────────────────────────────────────────────────────────────────────────────────────────────────── */

/**
 * @typedef {object} Shared what the client has, and the tab needs
 * @property {string} url
 * @property {Message} options of the app
 * @property {string} identity
 * @property {string[]} transports
 * @property {"ticket"|"token"|undefined} method
 * @property {() => Promise<{auth?: Message, headers?: Record<string, string>}>} prepare
 * @property {(input: Input, now: number) => Action[]} handle of the machine itself
 * @property {() => Message} [stats] the same
 */

class Tab {
  #machine;
  #driver;
  #shared;
  #key;
  #plain;
  #own;
  #id = "";
  /** @type {Map<string, any>} of the machine that is not used: here are ours */
  #subs;
  /** @type {Map<string, {input: Message, bytes: number, told?: string}>} without reply, in the order of the app's calls */
  #commands = new Map();
  #bytes = 0;
  #hidden = false;
  #offline = false;
  /** @type {any} what the storage says, in the time of day */
  #memory = null;
  /** @type {any[]} what this turn gives */
  #out = [];
  #connectedOnce = false;
  #lone = false; // we are none of the tabs any more

  /** @type {AbortController|null} we are one of the tabs */
  #member = null;
  /** @type {BroadcastChannel|undefined} */
  #channel;
  /** @type {Message|null} whom we follow */
  #hub = null;
  #term = 0;
  /** Nothing of this session has passed us by. */
  #synced = false;
  /** @type {Mirror} */
  #mirror = { generation: 0, session: null, n: 0, topics: new Map() };
  /** @type {Message|undefined} */
  #stats;

  /** @type {AbortController|null} of our request for the hub's lock */
  #candidacy = null;
  /** @type {(() => void)|null} gives the hub's lock back that we have */
  #crown = null;
  /** @type {Hub|null} */
  #reign = null;
  #noWorker;
  #employs = ""; // the worker that we have asked for last
  #farewell = false; // the last hub has gone in order: nothing of it is on its way
  /** @type {string|undefined} the tab of a hub that does not answer */
  #frozen;
  /** @type {ReturnType<typeof setTimeout>|undefined} */
  #timer;
  #heardAt = 0;

  /**
   * @param {ConnectionMachine} machine @param {Driver} driver
   * @param {Shared} shared
   */
  constructor(machine, driver, shared) {
    const { url, identity, options, transports, method } = shared;
    const { withCredentials, connectTimeout, queueBytes, maxAttempts, client, WebSocket, fetch, random, now } = options;
    this.#machine = machine;
    this.#driver = driver;
    this.#shared = shared;
    this.#subs = /** @type {Map<string, any>} */ (machine.topics);
    const given = Object.entries({ WebSocket, fetch, random, now }).filter(([, value]) => value);
    this.#own = Object.fromEntries(given);
    this.#plain = {
      url, transports, withCredentials, connectTimeout, queueBytes, maxAttempts, client,
      credentials: !!method, prepares: !!(method || options.headers),
    };
    for (const [name, value] of Object.entries(this.#plain)) if (value === undefined) delete (/** @type {any} */ (this.#plain)[name]);
    this.#key = JSON.stringify([VERSION, identity, method ?? "", this.#plain]);
    // What the app has given cannot go into a worker.
    this.#noWorker = given.length > 0 || !globalThis.SharedWorker;
    const target = /** @type {any} */ (globalThis);
    // A page that is put away must hold nothing: it could not answer. Coming back it is a new tab with old positions.
    const away = () => this.#run(() => this.#leave(false));
    const back = () => this.#run(() => this.#return());
    target.addEventListener?.("pagehide", away);
    target.addEventListener?.("pageshow", back);
    target.document?.addEventListener?.("freeze", away);
    target.document?.addEventListener?.("resume", back);
  }

  get #mode() {
    if (this.#reign) return "leader";
    return this.#hub?.worker ? "worker" : "follower";
  }

  /**
   * Within a turn of the driver, so that the app is told.
   * @param {() => void} run
   */
  #run(run) {
    if (!this.#lone) this.#driver.input(/** @type {any} */ ({ type: "run", run }));
  }

  /** @param {any} input @param {number} now @returns {Action[]} */
  handle(input, now) {
    const { type } = input;
    switch (type) {
      case "run": input.run(); break;
      case "connect": this.#connect(); break;
      case "close": this.#close("closed_by_app"); break;
      case "subscribe": {
        const { id, subscription: name, since, fields = {} } = input;
        this.#subs.set(name, { id, name, fields: plain(fields), position: since ? { ...since } : null });
        this.#tell();
        break;
      }
      case "unsubscribe": case "message": this.#command(plain(input)); break;
      case "hidden": case "shown":
        this.#hidden = type === "hidden";
        this.#say({ t: "page", hidden: this.#hidden });
        this.#watch();
        break;
      case "memory":
        this.#memory = input.memory && shifted(input.memory, wall(now));
        this.#say({ t: "input", input: { type, memory: this.#memory } });
        break;
      case "offline": case "online": this.#offline = type === "offline"; // falls through
      default: this.#say({ t: "input", input });
    }
    return this.#out.splice(0);
  }

  stats() {
    const { session, n: received } = this.#mirror;
    return { ...this.#shared.stats?.(), ...this.#stats, state: this.#machine.state, session, received, tabs: { mode: this.#mode } };
  }

  /** @param {string} state @param {string} reason @param {number} [nextAttemptAt] */
  #become(state, reason, nextAttemptAt) {
    const { state: previous } = this.#machine;
    if (state === "connecting" && this.#connectedOnce) state = "reconnecting";
    if (state === "connected") this.#connectedOnce = true;
    if (state === previous && nextAttemptAt === undefined) return;
    this.#machine.state = /** @type {any} */ (state);
    this.#out.push({ type: "state", state, previous, reason, nextAttemptAt });
  }

  // ── What the app wants

  #connect() {
    const { state } = this.#machine;
    if (this.#member) this.#say({ t: "input", input: { type: "connect" } });
    if (state !== "idle" && state !== "closed") return;
    this.#connectedOnce = false;
    this.#become("connecting", "connect");
    this.#enter();
  }

  /** @param {string} reason @param {boolean} [ours] */
  #close(reason, ours = true) {
    if (this.#machine.state === "closed") return;
    this.#leave(ours);
    this.#synced = false;
    this.#become("closed", reason);
    for (const { input } of [...this.#commands.values()]) {
      if (input.type === "unsubscribe") this.#unsubscribed(input);
      else this.#fail(input, "closed", "The connection was closed before the reply.");
    }
  }

  /** @param {Message} input */
  #command(input) {
    const { type, id, subscription: name } = input;
    const closed = this.#machine.state === "closed";
    if (type === "unsubscribe") {
      input.sub = this.#subs.get(name)?.id;
      if (closed || this.#machine.state === "idle") return this.#unsubscribed(input);
    } else if (closed) return this.#fail(input, "closed", "The connection is closed.");
    const bytes = JSON.stringify(input).length; // UTF-16, near enough: the machine of the hub counts exactly
    const actual = this.#bytes + bytes;
    const limit = this.#plain.queueBytes ?? 1_048_576;
    if (actual > limit) {
      const error = `The queue holds at most ${limit} bytes, this would make it ${actual}.`;
      return this.#fail(input, "queue_full", error, { limit, actual });
    }
    this.#bytes = actual;
    this.#commands.set(id, { input, bytes });
    this.#tell();
  }

  /** @param {Message} input @param {string} code @param {string} error @param {object} [more] */
  #fail({ id, type, subscription }, code, error, more) {
    this.#reply(id, { event: type, subscription, status: "error", code, error, ...more });
  }

  /** @param {string} id @param {Message} event */
  #reply(id, event) {
    this.#bytes -= this.#commands.get(id)?.bytes ?? 0;
    this.#commands.delete(id);
    this.#out.push({ type: "reply", id, event });
  }

  /**
   * Without a hub there is nobody to ask.
   * @param {Message} input
   */
  #unsubscribed({ id, subscription: name, sub }) {
    const event = { event: "unsubscribe", subscription: name, status: "ok" };
    this.#end(name, sub, event);
    this.#reply(id, event);
  }

  /** @param {string} name @param {string|undefined} sub @param {Message} event */
  #end(name, sub, event) {
    // The app may have subscribed anew meanwhile.
    if (!this.#subs.has(name) || (sub !== undefined && this.#subs.get(name)?.id !== sub)) return;
    this.#subs.delete(name);
    this.#out.push({ type: "unsubscribed", subscription: name, event });
  }

  /** The hub is told what it does not know yet. */
  #tell() {
    const hub = this.#hub?.hub;
    if (!hub) return;
    for (const sub of this.#subs.values()) {
      if (sub.told === hub) continue;
      sub.told = hub;
      const { id, name: subscription, fields, position: since } = sub;
      this.#say({ t: "input", input: { type: "subscribe", id, subscription, fields, since } });
    }
    for (const command of this.#commands.values()) {
      if (command.told === hub) continue;
      command.told = hub;
      this.#say({ t: "input", input: command.input });
    }
  }

  // ── Among the tabs

  #enter() {
    const member = (this.#member = new AbortController());
    const { signal } = member;
    const id = (this.#id = token()); // A new one each time: the lock of the old one may still be waited for.
    const channel = (this.#channel = new BroadcastChannel(`holdfast:${this.#key}`));
    this.#heardAt = this.#driver.now();
    channel.onmessage = ({ data }) => this.#member === member && this.#run(() => this.#hear(data));
    const held = () => {
      if (signal.aborted) return;
      this.#join();
      this.#campaign(false);
      this.#watch();
      return new Promise((resolve) => signal.addEventListener("abort", resolve));
    };
    navigator.locks.request(tabLock(this.#key, id), { signal }, held).catch((error) => {
      if (!signal.aborted) this.#alone(error);
    });
  }

  /** @param {boolean} end by the app: if we are the last one, the session ends too */
  #leave(end) {
    const member = this.#member;
    if (!member) return;
    this.#member = null;
    clearTimeout(this.#timer);
    if (end && this.#reign?.lonely) this.#reign.finish();
    this.#doubtMirror();
    this.#abdicate();
    this.#candidacy?.abort();
    this.#channel?.postMessage({ t: "leave", from: this.#id, end });
    this.#channel?.close();
    this.#hub = null;
    member.abort();
    this.#crown?.();
    this.#crown = null;
    for (const sub of this.#subs.values()) sub.active = false;
  }

  /** Another hub may go on with the session, and be gone too before we hear of it: what it has subscribed then we cannot know. */
  #doubtMirror() {
    for (const topic of this.#mirror.topics.values()) topic.sure = false;
  }

  /** From the back/forward cache, or thawed. */
  #return() {
    const { state } = this.#machine;
    if (this.#member || state === "idle" || state === "closed") return;
    this.#synced = false;
    this.#become("reconnecting", "shown");
    this.#enter();
  }

  /**
   * There is no way to share, so this tab has its own line: with the machine that has waited for this.
   * @param {unknown} reason
   */
  #alone(reason) {
    console.warn(`Holdfast: this tab has a line of its own: ${reason}`);
    this.#leave(false);
    const machine = /** @type {any} */ (this.#machine);
    const subs = [...this.#subs.values()];
    this.#subs.clear();
    this.#lone = true;
    machine.state = "idle";
    machine.handle = this.#shared.handle;
    machine.stats = this.#shared.stats;
    const inputs = [{ type: "memory", memory: this.#memory && shifted(this.#memory, -wall(this.#driver.now())) }];
    if (this.#hidden) inputs.push(/** @type {any} */ ({ type: "hidden" }));
    for (const { id, name: subscription, fields, position } of subs) {
      inputs.push(/** @type {any} */ ({ type: "subscribe", id, subscription, fields, since: position ?? undefined }));
    }
    for (const { input } of this.#commands.values()) inputs.push(/** @type {any} */ (input));
    for (const input of [...inputs, { type: "connect" }]) this.#driver.input(/** @type {any} */ (input));
  }

  /** @param {Message} message */
  #say(message) {
    const hub = this.#hub?.hub;
    if (hub) this.#channel?.postMessage({ ...message, from: this.#id, hub });
  }

  /** All that the next hub has to know. */
  #join() {
    const { generation, session, n, topics } = this.#mirror;
    const subs = [...this.#subs.values()].map(({ told, ...sub }) => sub);
    const commands = [...this.#commands.values()].map(({ input }) => input);
    this.#channel?.postMessage({
      t: "join", from: this.#id, term: this.#term, mirror: { generation, session, n, topics: [...topics.values()] }, subs, commands,
      hidden: this.#hidden, offline: this.#offline, memory: this.#memory,
    });
    this.#joined = [...this.#subs.values(), ...this.#commands.values()];
  }

  /** @type {{told?: string}[]} what stood in the last join */
  #joined = [];

  // ── Who is the hub

  /** @param {boolean} steal */
  #campaign(steal) {
    const member = this.#member;
    if (!member) return;
    this.#candidacy?.abort();
    const candidacy = (this.#candidacy = new AbortController());
    const crowned = () => {
      if (this.#member !== member || candidacy.signal.aborted) return;
      return new Promise((/** @type {(value?: unknown) => void} */ resolve) => {
        this.#crown = resolve;
        this.#crowned();
      });
    };
    const options = steal ? { steal } : { signal: candidacy.signal };
    navigator.locks.request(hubLock(this.#key), options, crowned).catch(() => {
      if (this.#member !== member || this.#candidacy !== candidacy || candidacy.signal.aborted) return;
      // Somebody has taken it from us: the worker, the heir, or a tab to which we looked frozen.
      this.#abdicate();
      this.#crown = null;
      this.#campaign(false);
    });
  }

  #crowned() {
    if (this.#noWorker) return this.#lead();
    const crown = this.#crown;
    const waiting = () => this.#crown === crown && !this.#reign;
    let tries = WORKER_TRIES;
    let charged = false;
    const lead = () => {
      if (!waiting()) return;
      this.#noWorker = true;
      this.#lead();
    };
    const ask = () => {
      if (!waiting()) return;
      if (!tries--) return lead();
      // Of a worker whose process has just died Firefox goes on giving us a port, to nobody. So each has a name of its own.
      const name = `holdfast:${token()}`;
      try {
        const worker = this.#employ(name);
        worker.onerror = lead; // its script cannot be had
        worker.port.onmessage = () => {
          if (!charged && waiting()) worker.port.postMessage({ ...this.#charge(), worker: name });
          charged = true;
        };
      } catch {
        return lead();
      }
      setTimeout(ask, WORKER_WAIT_MS);
    };
    ask();
  }

  /** @param {string} name */
  #employ(name) {
    this.#employs = name;
    return new SharedWorker(new URL("./tabs-worker.js", import.meta.url), { type: "module", name });
  }

  #charge() {
    const several = this.#mirror.session !== null || this.#hub !== null;
    const settle = several && !this.#farewell ? SETTLE_MS : 0;
    return { key: this.#key, plain: this.#plain, owner: "", settle, except: this.#frozen };
  }

  #lead() {
    const retire = (/** @type {string} */ heir) => {
      this.#abdicate(heir);
      // Should it not come, we go on.
      const crown = this.#crown;
      setTimeout(() => crown && this.#crown === crown && !this.#reign && this.#lead(), HEIR_MS);
    };
    const ended = () => this.#abdicate();
    this.#reign = new Hub({ ...this.#charge(), own: this.#own, owner: this.#id, retire, ended });
  }

  /** @param {string} [heir] */
  #abdicate(heir) {
    this.#reign?.stop(heir);
    this.#reign = null;
  }

  /** The hub has lost its lock, or does not answer. */
  #usurp() {
    this.#frozen = this.#hub?.owner;
    if (this.#hub?.worker) this.#noWorker = true;
    this.#campaign(true);
  }

  // ── Whether the hub lives

  /** While somebody looks. A timer for each message would cost more than the messages: it looks when the last one came. */
  #watch() {
    clearTimeout(this.#timer);
    if (!this.#member || this.#hidden) return;
    const quiet = this.#driver.now() - this.#heardAt;
    if (quiet >= PING_MS) this.#ask();
    else this.#timer = setTimeout(() => this.#watch(), PING_MS - quiet);
  }

  #ask() {
    const askedAt = this.#driver.now();
    const wait = PONG_MS + Math.floor(Math.random() * JITTER_MS);
    if (this.#hub) this.#say({ t: "ping" });
    else this.#join();
    this.#timer = setTimeout(() => {
      if (this.#heardAt < askedAt && !this.#crown) {
        // We have slept ourselves: its answer may be waiting.
        if (this.#driver.now() - askedAt > wait + 500) return this.#ask();
        this.#usurp();
      }
      if (this.#heardAt < askedAt) this.#heardAt = askedAt;
      this.#watch();
    }, wait);
  }

  // ── What the hub says

  /** @param {Message} message */
  #hear(message) {
    const { t, hub, term, to, from } = message;
    if (from) return;
    if (t === "muster") {
      this.#heardAt = this.#driver.now();
      if (this.#hub?.hub !== hub) this.#lost();
      return this.#join();
    }
    if (term > this.#term && hub !== this.#hub?.hub) this.#doubtMirror(); // it reigns, and does not know us yet
    if (term < this.#term || (to && !to.includes(this.#id))) return;
    if (t === "welcome") return this.#follow(message);
    if (t === "full") return void queueMicrotask(() => this.#alone("too many tabs"));
    if (hub !== this.#hub?.hub) return;
    this.#heardAt = this.#driver.now();
    if (message.stats) {
      const by = message.clock - wall(this.#driver.now());
      const { blockedUntil } = message.stats;
      this.#stats = { ...message.stats, blockedUntil: blockedUntil && blockedUntil + by };
    }
    switch (t) {
      case "do": return this.#do(message);
      case "bye":
        this.#farewell = true;
        this.#lost();
        if (message.heir === this.#id) this.#campaign(true);
        return;
      case "prepare": return this.#prepare(message.question);
      case "remember": {
        const { memory } = message;
        this.#out.push({ type: "remember", memory: memory && shifted(memory, -wall(this.#driver.now())) });
      }
    }
  }

  #lost() {
    if (!this.#hub) return;
    this.#hub = null;
    this.#become("reconnecting", "line_closed");
  }

  /** @param {string} question */
  async #prepare(question) {
    /** @type {Message} */
    let answer;
    try {
      answer = { value: await this.#shared.prepare() };
    } catch (error) {
      answer = { error: String(/** @type {any} */ (error)?.message ?? error) };
    }
    this.#say({ t: "prepared", question, ...answer });
  }

  /** @param {Message} message a welcome */
  #follow(message) {
    const { hub, term, worker, generation, n, session, topics, synced, state, event } = message;
    const mirror = this.#mirror;
    const same = mirror.generation === generation && mirror.session === session;
    this.#hub = message;
    this.#term = term;
    this.#heardAt = this.#driver.now();
    this.#farewell = false;
    this.#frozen = undefined;
    this.#synced = synced;
    // The worker lives as long as a page that has asked for it, so all of them do.
    if (worker && worker !== this.#employs) {
      try {
        this.#employ(worker);
      } catch {}
    }
    this.#mirror = { generation, session, n: same ? Math.max(n, mirror.n) : n, topics: new Map() };
    for (const topic of topics) this.#mirror.topics.set(topic.name, topic);
    if (!synced) for (const sub of this.#subs.values()) sub.active = false;
    if (state === "connected") {
      const was = this.#machine.state;
      this.#become(state, synced ? "resumed" : "new_session");
      if (was !== state) this.#out.push({ type: "connected", resumed: synced, event });
      this.#synced = true;
    } else if (!/idle|closed/.test(state)) this.#become(state, "connect");
    for (const each of this.#joined.splice(0)) each.told = hub;
    this.#tell();
    this.#watch();
  }

  /** @param {Message} message actions */
  #do(message) {
    const { counted, n, generation, actions, session, topics, clock = 0, to } = message;
    const mirror = this.#mirror;
    if (counted) {
      if (generation === mirror.generation && n <= mirror.n) return; // repeated by the server after a handover
      if (generation !== mirror.generation || n > mirror.n + 1) {
        // Something has passed us by.
        this.#hub = null;
        this.#synced = false;
        return this.#join();
      }
      mirror.n = n;
    }
    if (session) mirror.session = session;
    if (topics) {
      Object.assign(mirror, { generation, n });
      mirror.topics = new Map(topics.map((/** @type {MirroredTopic} */ topic) => [topic.name, topic]));
    }
    const by = clock && clock - wall(this.#driver.now());
    for (const action of actions) this.#act(action, by, !!to);
  }

  /**
   * @param {any} action of the hub's machine, or of the hub
   * @param {number} by how far its clock is from ours
   * @param {boolean} directed at us: it did not happen in the session
   */
  #act(action, by, directed) {
    const { type, subscription: name } = action;
    const { topics } = this.#mirror;
    const sub = this.#subs.get(name);
    const topic = topics.get(name);
    switch (type) {
      case "state": {
        const { state, reason, nextAttemptAt } = action;
        if (state === "closed") return this.#close(reason, false);
        return this.#become(state, reason, nextAttemptAt && nextAttemptAt + by);
      }
      case "connected":
        if (!action.resumed) for (const each of this.#subs.values()) each.active = false;
        this.#out.push({ ...action, resumed: action.resumed && this.#synced });
        this.#synced = true;
        return;
      case "unsure":
        topics.set(action.name, { ...action, position: null, event: null, ...topics.get(action.name), sure: false });
        return;
      case "forgotten": return void topics.delete(action.name);
      case "subscribed":
        if (!directed) topics.set(name, { name, fields: action.fields, event: action.event, position: action.position, sure: true });
        if (sub) this.#subscribed(sub, action, directed);
        return;
      case "message": {
        const { event } = action;
        const known = topics.get(event.subscription)?.position;
        if (known && Number.isSafeInteger(event.offset)) known.offset = Math.max(known.offset, event.offset);
        const mine = this.#subs.get(event.subscription);
        if (mine?.active) this.#message(mine, event);
        return;
      }
      case "gap":
        if (topic) topic.position = action.position ?? topic.position;
        if (sub?.active) this.#gap(sub, action);
        return;
      case "unsubscribed":
        if (!directed) topics.delete(name);
        if (directed || action.users.includes(this.#id)) this.#end(name, action.sub, action.event);
        return;
      case "reply":
        if (this.#commands.has(action.id)) this.#reply(action.id, action.event);
        return;
      case "goaway": return void this.#out.push({ ...action, at: action.at + by });
      default: this.#out.push(action);
    }
  }

  /** @param {any} sub @param {any} action @param {boolean} directed */
  #subscribed(sub, { event }, directed) {
    const { name, active, before, position: mine } = sub;
    const position = event.position && { epoch: event.position.epoch, offset: event.position.offset };
    sub.active = sub.before = true;
    sub.turned = mine && position && mine.epoch !== position.epoch;
    if (!mine || !position) sub.position = position ?? null;
    else if (sub.turned) sub.position = { epoch: position.epoch, offset: 0 };
    const lost = () => this.#out.push({ type: "gap", subscription: name, after: null, next: null });
    // Another tab has asked from further back: what comes now is not news to us. Without history it was asked anew.
    if (active) return position || directed || lost();
    // From our own position, and not from the one that was asked for all of us.
    const asked = mine && position ? { ...mine } : undefined;
    const recovered = asked && event.recovered === true;
    this.#out.push({ type: "subscribed", subscription: name, since: asked, event: { ...event, recovered } });
    // A topic without history: what was published while we were away is lost.
    if (before && !mine) lost();
  }

  /** @param {any} sub @param {Message} event */
  #message(sub, event) {
    const { position, name } = sub;
    if (position && Number.isSafeInteger(event.offset)) {
      if (event.offset <= position.offset) return;
      if (event.offset > position.offset + 1 && !(event.after <= position.offset)) {
        this.#out.push({ type: "gap", subscription: name, after: position.offset, next: event.offset });
      }
      position.offset = event.offset;
    }
    this.#out.push({ type: "message", event });
  }

  /** @param {any} sub @param {any} action */
  #gap(sub, { type, subscription, after, next, position: reached }) {
    const { position, turned } = sub;
    sub.turned = false;
    if (position && reached && reached.epoch !== position.epoch) sub.position = { ...reached, offset: next === null ? 0 : next - 1 };
    else if (position && next !== null) {
      if (!turned) {
        if (next <= position.offset + 1) return; // we have it all
        after = Math.max(after ?? 0, position.offset);
      }
      position.offset = next - 1;
    }
    this.#out.push({ type, subscription, after, next });
  }
}

/** As JSON would carry it. */
const plain = (/** @type {any} */ value) => JSON.parse(JSON.stringify(value));

/* ── 3. The entries ────────────────────────────────────────────────────────────────────────────────────────────────── */

/**
 * The client's machine becomes one tab of many. Throws where the browser has not what it takes.
 * @param {ConnectionMachine} machine that has done nothing yet
 * @param {Driver} driver
 * @param {Shared} shared
 */
export function share(machine, driver, shared) {
  if (!globalThis.BroadcastChannel || !globalThis.navigator?.locks) throw new Error("no BroadcastChannel, or no Web Locks");
  const tab = new Tab(machine, driver, { ...shared, stats: machine.stats });
  machine.handle = (/** @type {Input} */ input, /** @type {number} */ now) => tab.handle(input, now);
  machine.stats = () => /** @type {any} */ (tab.stats());
}

/**
 * In the worker: a tab has asked for it.
 * @param {MessagePort} port
 */
export function serve(port) {
  port.onmessage = ({ data }) => {
    /** @type {Hub|undefined} */
    let hub;
    // With the consent of the tab that has it.
    const reign = () => new Promise((resolve) => {
      hub = new Hub({ ...data, ended: () => resolve(undefined) });
    });
    navigator.locks.request(hubLock(data.key), { steal: true }, reign).catch(() => hub?.stop());
  };
  port.postMessage("here");
}
