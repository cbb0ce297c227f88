/**
 * Stores: what a subscription has told so far, and how the connection is, as values that can be watched.
 *
 *     const calls = subscriptionStore(client, "calls.live", { initial: [], reduce: (all, { data }) => [...all, data] });
 *     const stop = calls.subscribe(({ value, state, gap }) => draw(value));
 *
 * They follow the contract of Svelte's stores; react.js makes hooks of them. A subscription lasts as long as anybody watches.
 *
 * SPDX-License-Identifier: Apache-2.0
 */

/** @typedef {import("./holdfast.js").Holdfast} Holdfast */
/** @typedef {import("./holdfast.js").Subscription} Subscription */
/** @typedef {import("./holdfast.js").Message} Message */
/** @typedef {import("./holdfast.js").GapEvent} GapEvent */
/** @typedef {import("./holdfast.js").Position} Position */
/** @typedef {import("./holdfast.js").StateEvent} StateEvent */
/** @typedef {import("./store.js").ConnectionValue} ConnectionValue */
/**
 * @template Value
 * @typedef {import("./store.js").SubscriptionOptions<Value>} SubscriptionOptions
 */
/**
 * @template Value
 * @typedef {import("./store.js").SubscriptionValue<Value>} SubscriptionValue
 */

/**
 * A value that is replaced, never changed in place, and those who watch it.
 * @template {object} Value
 */
class Cell {
  /** @type {Set<{run: (value: Value) => unknown}>} the same function may watch twice */
  #watchers = new Set();
  #value;
  #start;
  #stop = () => {};

  /**
   * @param {Value} value
   * @param {() => () => void} [start] called for the first watcher; what it returns is called after the last one
   */
  constructor(value, start = () => () => {}) {
    this.#value = Object.freeze(value);
    this.#start = start;
  }

  get = () => this.#value;

  /** @param {(value: Value) => unknown} run called now, and with each new value */
  subscribe = (run) => {
    const watcher = { run };
    if (!this.#watchers.size) this.#stop = this.#start();
    this.#watchers.add(watcher);
    run(this.#value);
    return () => {
      if (this.#watchers.delete(watcher) && !this.#watchers.size) this.#stop();
    };
  };

  /** @param {Partial<Value>} changes */
  set(changes) {
    const before = this.#value;
    const changed = Object.entries(changes).some(([key, value]) => !Object.is(value, /** @type {any} */ (before)[key]));
    if (!changed) return;
    // Frozen: Vue would otherwise walk through all of it, and make every message watched, too.
    this.#value = Object.freeze({ ...before, ...changes });
    const errors = [];
    for (const watcher of [...this.#watchers]) {
      try {
        if (this.#watchers.has(watcher)) watcher.run(this.#value);
      } catch (error) {
        errors.push(error); // It must not keep the value from the others.
      }
    }
    if (errors.length) throw errors[0]; // The client reports it.
  }
}

/**
 * A subscription of the client's that several watch. It is ended in a later task than that in which the last of them has
 * left: what leaves and comes again in one go (React's StrictMode, another page of an app) costs nothing.
 * @typedef {object} Share
 * @property {Subscription} subscription
 * @property {string} fields
 * @property {boolean} own false: the app had subscribed before, and will unsubscribe
 * @property {number} users
 * @property {number} told messages and gaps so far
 * @property {any} [end] the timer
 */

/** @type {WeakMap<Holdfast, Map<string, Share>>} */
const shares = new WeakMap();

/**
 * @param {Holdfast} client
 * @param {string} name
 * @param {Position|undefined} since
 * @param {Record<string, any>|undefined} fields
 * @returns {{share: Share, fresh: boolean}} `fresh`: it begins now, and after `since`
 */
function take(client, name, since, fields = {}) {
  const names = shares.get(client) ?? new Map();
  shares.set(client, names);
  const text = JSON.stringify(fields);
  /** @type {Share|undefined} */
  const existing = names.get(name);
  if (existing?.users && existing.fields !== text) throw new Error(`${name} is in use with other fields: ${existing.fields}.`);
  if (existing?.fields === text) {
    clearTimeout(existing.end);
    existing.users++;
    return { share: existing, fresh: false };
  }
  if (existing) end(client, existing);
  const { subscription, own } = subscribe(client, name, since, fields);
  /** @type {Share} */
  const share = { subscription, own, fields: text, users: 1, told: 0 };
  names.set(name, share);
  const count = () => void share.told++;
  subscription.on("message", count).on("gap", count);
  // Refused, or ended by the service: who comes later subscribes anew.
  subscription.on("unsubscribed", () => names.get(name) === share && names.delete(name));
  return { share, fresh: own };
}

/**
 * @param {Holdfast} client
 * @param {string} name
 * @param {Position|undefined} since
 * @param {Record<string, any>} fields
 */
function subscribe(client, name, since, fields) {
  try {
    // With options, even if there are none in them, the client refuses a name that is subscribed already.
    return { subscription: client.subscribe(name, { ...fields, since }), own: true };
  } catch (error) {
    if (error instanceof TypeError || Object.keys(fields).length) throw error;
    return { subscription: client.subscribe(name), own: false };
  }
}

/** @param {Holdfast} client @param {Share} share */
function leave(client, share) {
  share.users--;
  if (!share.users) share.end = setTimeout(() => end(client, share), 0);
}

/** @param {Holdfast} client @param {Share} share */
function end(client, share) {
  clearTimeout(share.end);
  const names = shares.get(client);
  if (names?.get(share.subscription.name) === share) names.delete(share.subscription.name);
  if (share.own) share.subscription.unsubscribe().catch(() => {}); // The client is closed: nothing is left to end.
}

/** @param {string} subscription @param {number|null} after @param {number|null} next @returns {GapEvent} */
function gapOf(subscription, after, next) {
  return { subscription, after, next, missing: after === null || next === null ? null : next - after - 1 };
}

/** @type {Message[]} */
const NONE = [];
const OPTIONS = ["reduce", "initial", "keep", "onMessage", "onGap", "since", "fields"];

/** @param {Record<string, any>} options */
function check(options) {
  for (const name of Object.keys(options)) {
    if (!OPTIONS.includes(name)) throw new TypeError(`There is no option "${name}"; there are ${OPTIONS.join(", ")}.`);
  }
  for (const name of ["reduce", "onMessage", "onGap"]) {
    if (options[name] !== undefined && typeof options[name] !== "function") throw new TypeError(`"${name}" must be a function.`);
  }
  const { keep = 0, reduce, initial } = options;
  if (!Number.isSafeInteger(keep) || keep < 0) throw new TypeError('"keep" must be a whole number.');
  if (reduce && initial === undefined) throw new TypeError('"reduce" needs "initial", the value before the first message.');
}

/**
 * What a subscription has told so far. It begins with the first watcher and ends after the last one. A store that is
 * watched again goes on where it stopped: what came in between is recovered, or told as a gap.
 * @template [Value=undefined]
 * @param {Holdfast|null|undefined} client absent: nothing is subscribed
 * @param {string|null|undefined} name "service.topic"; absent: nothing is subscribed
 * @param {SubscriptionOptions<Value>} [options]
 * @returns {import("./store.js").Store<SubscriptionValue<Value>>}
 */
export function subscriptionStore(client, name, options = {}) {
  check(options);
  const { keep = 0, onMessage, onGap, since, fields } = options;
  const initial = /** @type {Value} */ (options.initial);
  const reduce = /** @type {((value: Value, message: Message) => Value)|undefined} */ (options.reduce);
  // Who has the callback alone needs no value for each message.
  const quiet = onMessage && !reduce && !keep;

  /** @type {Position|null} of the last message here; that of the subscription goes on while nobody watches */
  let position = since ?? null;
  /** @type {{share: Share, told: number}|null} what it left, when nobody watched any more */
  let left = null;
  /** @type {GapEvent|null} found here, and not yet told with a message */
  let missed = null;
  /** There was a message, or it was sure that the next one would come. */
  let begun = !!since;

  /** @param {Subscription} subscription */
  const at = (subscription) => (position = subscription.position ?? position);

  /** @param {GapEvent} gap */
  const tell = (gap) => {
    try {
      cell.set({ gap, position });
    } finally {
      onGap?.(gap);
    }
  };

  /**
   * It is watched again, or shares a subscription that is older: is this where it stopped?
   * @param {Share} share
   * @param {boolean} fresh
   */
  const goOn = (share, fresh) => {
    if (!begun || (left?.share === share && left.told === share.told)) return;
    if (fresh && position) return; // It was asked to go on after this, and tells what is missing.
    const now = fresh ? null : share.subscription.position;
    const known = position && now?.epoch === position.epoch ? position.offset : null;
    if (known !== null && now && now.offset <= known) return;
    missed = gapOf(share.subscription.name, known, known === null || !now ? null : now.offset + 1);
    at(share.subscription);
    tell(missed);
  };

  const start = () => {
    if (!client || !name) return () => {};
    const { share, fresh } = take(client, name, position ?? undefined, fields);
    const { subscription } = share;
    /** @type {Message} */
    let current;
    const listeners = {
      /** @param {Message} message */
      message: (message) => {
        if (missed) message = { ...message, gap: gapOf(name, missed.after, message.gap ? message.gap.next : missed.next) };
        current = message;
        missed = null;
        begun = true;
        at(subscription);
        if (quiet) return;
        const { value, messages } = cell.get();
        cell.set({
          message, position,
          value: reduce ? reduce(value, message) : value,
          messages: keep ? [...messages, message].slice(-keep) : messages,
        });
      },
      gap: (/** @type {GapEvent} */ gap) => {
        at(subscription);
        tell(gap);
      },
      subscribed: () => {
        begun = true;
        cell.set({ state: "subscribed", position: at(subscription), error: null });
      },
      unsubscribed: (/** @type {import("./holdfast.js").UnsubscribedEvent} */ { error }) => cell.set({ state: "unsubscribed", error }),
    };
    // A listener of its own: what one of them throws must not keep the message from the other.
    const call = () => onMessage?.(current);
    for (const [type, listener] of Object.entries(listeners)) subscription.on(/** @type {any} */ (type), listener);
    subscription.on("message", call);
    const stop = () => {
      for (const [type, listener] of Object.entries(listeners)) subscription.off(/** @type {any} */ (type), listener);
      subscription.off("message", call);
      left = { share, told: share.told };
      leave(client, share);
    };
    try {
      goOn(share, fresh);
    } catch (error) {
      stop();
      throw error; // That of onGap: who watches gets it.
    }
    begun ||= subscription.state === "subscribed";
    cell.set({ state: subscription.state, position: at(subscription), error: null, subscription });
    return stop;
  };

  /** @type {SubscriptionValue<Value>} */
  const nothing = {
    state: name ? "subscribing" : "idle", value: initial, message: null, messages: NONE, gap: null, position, error: null, subscription: null,
    reset: (/** @type {any} */ value = initial) => {
      cell.set({ value: typeof value === "function" ? value(cell.get().value) : value, message: null, messages: NONE, gap: null });
    },
  };
  const cell = new Cell(nothing, start);
  return { subscribe: cell.subscribe, get: cell.get };
}

/** @type {ConnectionValue} */
const IDLE = { state: "idle", reason: null, transport: null, nextAttemptInMs: null };
const idle = new Cell(IDLE);
/** @type {WeakMap<Holdfast, Cell<ConnectionValue>>} One for each client, so that who comes late knows the reason, too. */
const connections = new WeakMap();

/**
 * How the connection is.
 * @param {Holdfast|null|undefined} client absent: idle
 * @returns {import("./store.js").Store<ConnectionValue>}
 */
export function connectionStore(client) {
  const existing = client ? connections.get(client) : idle;
  if (existing || !client) return /** @type {Cell<ConnectionValue>} */ (existing);
  const transport = () => client.stats().transport;
  const cell = new Cell({ ...IDLE, state: client.state, transport: transport() });
  client.on("state", ({ state, reason, nextAttemptInMs }) => cell.set({ state, reason, nextAttemptInMs, transport: transport() }));
  client.on("connected", (event) => cell.set({ transport: event.transport }));
  connections.set(client, cell);
  return cell;
}
