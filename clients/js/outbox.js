/**
 * The outbox: messages that have no reply yet are kept in IndexedDB, and a later page sends them again, with their ids.
 *
 * `holdfast.js` loads this module where the option `persist` is on. Every message goes through it, first into the store,
 * then to the line, so the line never carries what the store does not have. What goes wrong with the store is told once and
 * takes nothing away but the keeping.
 *
 * Whose a message is: each client has a name of its own, and holds a Web Lock of that name as long as it lives. Who is
 * granted the lock of another client knows that it is gone, and changes the owner of its messages in one transaction of the
 * database. So two tabs never take the same one, whatever they know of each other.
 *
 * SPDX-License-Identifier: Apache-2.0
 */

/** @typedef {Record<string, any>} WireEvent one event of the protocol, as parsed */
/** @typedef {{type: "message", id: string, subscription: string, data: unknown, fields?: WireEvent}} MessageInput */
/** @typedef {MessageInput | {type: "subscribe"|"unsubscribe", id: string, subscription: string}} CommandInput */
/** @typedef {{type: string, state?: string, id?: string, event?: WireEvent}} Action what the machine has done */
/** @typedef {{maxBytes: number, maxMessages: number, maxAge: number}} Limits */
/**
 * @typedef {object} Client what is used of it
 * @property {() => {queuedBytes: number}} stats
 * @property {(type: "delivered", event: any) => unknown} _emit
 * @property {(error: any) => void} _report
 */
/** @typedef {{persist?: boolean|Partial<Limits>, identity?: string, queueBytes?: number}} Options */
/** @typedef {new (code: string, message: string, event?: WireEvent) => Error} ErrorClass */
/**
 * @typedef {object} Kept a message in the store
 * @property {number} [key] given by the store, in the order of all tabs
 * @property {string} scope the gateway and the identity
 * @property {string} owner the client whose it is
 * @property {string} subscription
 * @property {any} data
 * @property {Record<string, any>} [fields]
 * @property {string} id
 * @property {number} at ms since 1970
 * @property {number} bytes as the line carries it
 * @property {number} attempts clients that have had it
 */
/**
 * @typedef {object} Entry a message that this client has, or what must not overtake one
 * @property {Kept} kept
 * @property {boolean} own its promise is on this page
 * @property {boolean} written or it cannot be
 * @property {Promise<number|undefined>} [key] in the store
 * @property {CommandInput} [command] none, but what has to wait for messages before it
 */

const PATIENCE_MS = 3_000; // for the database to open, and for each of its answers; Safari's have been known to stay away
/** A page that is being reloaded may give its lock back a moment later than the next one asks; newer messages wait for it. */
const GRACE_MS = 500;
/** Messages, and their bytes, that have no reply at the same time: more than a gateway lets wait for a service would be refused. */
const UNDER_WAY = 100;
const UNDER_WAY_BYTES = 262_144;
const BATCH = 16; // messages in a transaction: fewer are slow, and of more a page that goes at once loses more
const PREDECESSORS = "holdfast:outbox"; // in sessionStorage
const PREDECESSORS_KEPT = 20;
const encoder = new TextEncoder();

/** Without Web Locks nobody knows whether another tab lives. The earlier pages of this tab are gone for certain. */
const predecessors = readPredecessors();

function readPredecessors() {
  try {
    return JSON.parse(sessionStorage.getItem(PREDECESSORS) ?? "[]").slice(1 - PREDECESSORS_KEPT).map(String);
  } catch {
    return [];
  }
}

/** @param {string} owner */
function leaveName(owner) {
  try {
    const names = JSON.parse(sessionStorage.getItem(PREDECESSORS) ?? "[]").slice(1 - PREDECESSORS_KEPT);
    sessionStorage.setItem(PREDECESSORS, JSON.stringify([...names, owner]));
  } catch {} // Then what this page leaves behind is not sent again by this tab either.
}

/** @param {string} owner */
const lockOf = (owner) => "holdfast:outbox:" + owner;
/** @param {number} ms @returns {Promise<void>} */
const pass = (ms) => new Promise((resolve) => void setTimeout(resolve, ms));

/**
 * @template T
 * @param {Promise<T>} promise
 * @returns {Promise<T>}
 */
function inTime(promise) {
  /** @type {ReturnType<typeof setTimeout>|undefined} */
  let timer;
  const late = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new Error(`no answer within ${PATIENCE_MS} ms`)), PATIENCE_MS);
  });
  return Promise.race([promise, /** @type {Promise<never>} */ (late)]).finally(() => clearTimeout(timer));
}

/** What stands between a client and its line. */
export class Outbox {
  #client;
  #queueBytes;
  #subscriptions;
  #input;
  #reply;
  #HoldfastError;
  /** @type {Limits} */
  #limits = { maxBytes: 1_048_576, maxMessages: 1_000, maxAge: 86_400_000 };
  #scope;
  #locks = globalThis.navigator?.locks;
  #owner = "";
  /** @type {AbortController|null} from the client's beginning, or `connect`, to its end */
  #life = null;
  /** @type {Promise<IDBDatabase>|undefined} */
  #database;
  /** @type {Promise<Store>} */
  #store = new Promise(() => {});
  /** @type {Kept[]} to be written next */
  #batch = [];
  /** @type {Promise<Added[]|undefined>} and what came of it */
  #added = new Promise(() => {});
  /** Everything written so far is settled, in the order of the calls. */
  #settled = Promise.resolve();
  #broken = false;
  #ready = false; // what is left of others is known

  /** @type {Entry[]} taken from others, not yet handed to the machine */
  #taken = [];
  /** @type {Entry[]} the same of this page */
  #own = [];
  /** @type {Map<string, Entry>} the machine has them */
  #sent = new Map();
  /** Subscriptions for which somebody who is gone has left messages. */
  #left = new Set();
  /** @type {Set<string>} clients that are gone */
  #gone = new Set();
  /** @type {Map<string, Promise<unknown>>} clients whose end we wait for */
  #watched = new Map();
  /** @type {Promise<void>|null} */
  #taking = null;
  #again = false;

  /**
   * @param {Client} client
   * @param {string} url
   * @param {Options} options
   * @param {Map<string, {state: string}>} subscriptions of the app
   * @param {(input: CommandInput) => void} input to the machine
   * @param {(reply: {id: string, event: WireEvent}) => void} reply to the promise of `message()`
   * @param {ErrorClass} HoldfastError not imported: that would be another one where the module's URL has a query
   */
  constructor(client, url, { persist, identity = "", queueBytes = 1_048_576 }, subscriptions, input, reply, HoldfastError) {
    this.#client = client;
    this.#queueBytes = queueBytes;
    this.#subscriptions = subscriptions;
    this.#input = input;
    this.#reply = reply;
    this.#HoldfastError = HoldfastError;
    for (const [name, value] of Object.entries(Object(persist))) {
      const known = Object.hasOwn(this.#limits, name);
      if (!known) throw new TypeError(`Holdfast's option "persist" has no "${name}": it takes ${Object.keys(this.#limits).join(", ")}.`);
      if (value === undefined) continue;
      if (!(value > 0 && Number.isSafeInteger(value))) throw new TypeError(`"${name}" of "persist" must be a whole number above 0.`);
      this.#limits[/** @type {keyof Limits} */ (name)] = value;
    }
    // A query may hold what belongs in no database.
    this.#scope = JSON.stringify([url.split("?")[0], identity]);
    this.#begin();
  }

  /**
   * A call of `message()`, or of `subscribe()` or `unsubscribe()`, which must not overtake one.
   * @param {CommandInput} input a copy that nobody changes
   */
  send(input) {
    if (!this.#life) return this.#input(input); // it is closed, and the machine says so
    if (input.type !== "message") {
      // Nothing of this subscription waits: at once, as without an outbox.
      if (!this.#own.some(({ kept }) => kept.subscription === input.subscription)) return this.#input(input);
      this.#own.push({ kept: /** @type {any} */ (input), own: true, written: true, command: input });
      return;
    }
    const { id, subscription, data, fields } = input;
    const text = JSON.stringify({ ...fields, event: "message", subscription, data, id });
    const bytes = encoder.encode(text).length;
    /** @type {Kept} */
    const kept = { scope: this.#scope, owner: this.#owner, subscription, data, fields, id, at: Date.now(), bytes, attempts: 1 };
    /** @type {Entry} */
    const entry = { kept, own: true, written: false };
    this.#own.push(entry);
    const added = this.#broken ? undefined : this.#add(kept);
    entry.key = added?.then((result) => result?.key);
    this.#settled = Promise.all([added, this.#settled]).then(([result]) => this.#written(entry, result));
  }

  /**
   * What is sent in one turn is written together.
   * @param {Kept} kept
   * @returns {Promise<Added|undefined>}
   */
  #add(kept) {
    const batch = this.#batch;
    const at = batch.push(kept) - 1;
    if (batch.length === BATCH) this.#batch = [];
    if (!at) {
      this.#added = this.#ask((store) => {
        if (this.#batch === batch) this.#batch = [];
        return store.add(batch, this.#limits);
      });
    }
    return this.#added.then((results) => results?.[at]);
  }

  /**
   * What the machine has done, after the client has.
   * @param {Action} action
   */
  heard(action) {
    const { type } = action;
    if (type === "state" && action.state === "closed") return this.#end();
    if (type === "state" && !this.#life) this.#begin();
    if (!this.#life || type === "message") return;
    if (type === "reply") this.#answered(/** @type {string} */ (action.id), /** @type {WireEvent} */ (action.event));
    if (type === "subscribed" || type === "connected") this.#take();
    this.#pump();
  }

  // ── Beginning and end

  #begin() {
    this.#life = new AbortController();
    this.#owner = Math.random().toString(36).slice(2) + Date.now().toString(36);
    this.#gone = new Set();
    this.#watched = new Map();
    this.#ready = false;
    this.#batch = [];
    this.#store = inTime(this.#open(this.#life.signal, this.#owner));
    this.#store.catch(() => {}); // who asks it is told
    this.#look(this.#life);
  }

  /** @param {AbortSignal} life @param {string} owner @returns {Promise<Store>} */
  async #open(life, owner) {
    this.#database ??= openDatabase();
    const database = await this.#database;
    const locks = this.#locks;
    // The lock is held before the first message is written: else somebody could take it from the living.
    if (locks) {
      await new Promise((resolve, reject) => {
        const hold = () => new Promise((/** @type {(end?: unknown) => void} */ end) => {
          resolve(undefined);
          if (life.aborted) end();
          life.addEventListener("abort", end);
        });
        locks.request(lockOf(owner), hold).catch(reject);
      });
    } else {
      this.#gone = new Set(predecessors);
      leaveName(owner);
    }
    return new Store(database, this.#scope, !locks);
  }

  /**
   * Looks what others have left, before anything of our own goes out.
   * @param {AbortController} life
   */
  async #look(life) {
    await this.#take();
    if (this.#watched.size) {
      await Promise.race([Promise.all(this.#watched.values()), pass(GRACE_MS)]);
      await this.#take();
    }
    if (this.#life !== life) return;
    this.#ready = true;
    this.#pump();
  }

  /** What has no reply stays in the store for the next one, who may be ourselves. */
  #end() {
    if (!this.#life) return;
    this.#life.abort();
    this.#life = null;
    const own = this.#own;
    this.#own = [];
    this.#taken = [];
    this.#sent.clear();
    this.#left.clear();
    for (const { command, kept: { id } } of own) {
      // Of what is subscribed the machine has to know, also when it is closed.
      if (command) this.#input(command);
      else this.#refuse(id, "closed", "The connection was closed before the reply.");
    }
  }

  // ── The store

  /**
   * @template T
   * @param {(store: Store) => Promise<T>} question
   * @returns {Promise<T|undefined>} undefined: it cannot answer
   */
  #ask(question) {
    return this.#store.then((store) => inTime(question(store))).catch((error) => this.#fail(error));
  }

  /**
   * From now on it is as without a store. What it has is still removed where that can be.
   * @param {unknown} error
   * @returns {undefined}
   */
  #fail(error) {
    this.#left.clear();
    if (this.#broken) return undefined;
    this.#broken = true;
    this.#client._report(new this.#HoldfastError("persist_unavailable", `Messages do not survive this page: ${error}`));
    return undefined;
  }

  /** @param {Entry} entry @param {Added|undefined} result */
  #written(entry, result) {
    entry.written = true;
    const at = this.#own.indexOf(entry);
    if (at >= 0 && result?.limit !== undefined) {
      const { limit, actual, unit } = result;
      this.#own.splice(at, 1);
      const error = `The outbox holds at most ${limit} ${unit}, this would make it ${actual}.`;
      this.#refuse(entry.kept.id, "queue_full", error, { limit, actual });
    }
    this.#pump();
  }

  /**
   * Takes what clients that are gone have left for subscriptions that we have. Once more, if asked meanwhile.
   * @returns {Promise<void>}
   */
  #take() {
    this.#again = true;
    return (this.#taking ??= this.#takeAll());
  }

  async #takeAll() {
    await null; // the promise is kept before it can end
    while (this.#again && this.#life && !this.#broken) {
      this.#again = false;
      const owner = this.#owner;
      const found = await this.#ask((store) => {
        return store.take(owner, this.#gone, (name) => this.#stateOf(name) === "subscribed", Date.now(), this.#limits.maxAge);
      });
      // A life that has ended meanwhile has left its name, and what it has just taken, to the next.
      if (!found || owner !== this.#owner || !this.#life) continue;
      this.#left = found.left;
      for (const kept of found.taken) this.#taken.push({ kept, own: false, written: true, key: Promise.resolve(kept.key) });
      // Of several that are gone, the later may be known first.
      this.#taken.sort((a, b) => /** @type {number} */ (a.kept.key) - /** @type {number} */ (b.kept.key));
      for (const kept of found.expired) {
        const error = `The message was older than ${this.#limits.maxAge} ms.`;
        this.#deliver(kept, { status: "error", code: "expired", error });
      }
      for (const other of found.others) this.#watch(other);
      this.#pump();
    }
    this.#taking = null;
  }

  /**
   * Waits for the end of another client, at once if it is gone.
   * @param {string} other
   */
  #watch(other) {
    const locks = this.#locks;
    if (!locks || this.#watched.has(other)) return;
    const { signal } = /** @type {AbortController} */ (this.#life);
    const gone = this.#gone;
    const granted = locks.request(lockOf(other), { signal }, () => void gone.add(other));
    this.#watched.set(other, granted.then(() => void (signal.aborted || this.#take()), () => {}));
  }

  // ── The line

  /** Hands to the machine what may go, in order: what others have left before what is newer for the same subscription. */
  #pump() {
    if (!this.#ready || !this.#life) return;
    for (const entries of [this.#taken, this.#own]) {
      /** @type {Set<string>} subscriptions of which something has to wait, and so all that follows */
      const waiting = new Set();
      for (const entry of [...entries]) {
        const { subscription } = entry.kept;
        const state = this.#stateOf(subscription);
        if (!entry.written) return;
        if (waiting.has(subscription)) continue;
        if (entry.command) {
          entries.splice(entries.indexOf(entry), 1);
          this.#input(entry.command);
          continue;
        }
        const { data, fields, id, bytes } = entry.kept;
        if (!entry.own && state !== "subscribed") continue;
        // To a subscription that the app does not have, the server has an answer at once.
        if (entry.own && state && this.#before(subscription)) {
          waiting.add(subscription);
          continue;
        }
        if (this.#sent.size >= UNDER_WAY) return;
        const { queuedBytes } = this.#client.stats();
        // The machine's queue has no room; alone, a message has all that there is.
        if (queuedBytes && queuedBytes + bytes > Math.min(this.#queueBytes, UNDER_WAY_BYTES)) return;
        entries.splice(entries.indexOf(entry), 1);
        this.#sent.set(id, entry);
        this.#input({ type: "message", id, subscription, data, fields });
      }
    }
  }

  /** @param {string} subscription @returns {string|undefined} undefined: the app has none of this name */
  #stateOf(subscription) {
    return this.#subscriptions.get(subscription)?.state;
  }

  /** @param {string} subscription @returns {boolean} whether older messages for it are still to be sent */
  #before(subscription) {
    return this.#left.has(subscription) || this.#taken.some(({ kept }) => kept.subscription === subscription);
  }

  /** @param {string} id @param {WireEvent} event */
  #answered(id, event) {
    const entry = this.#sent.get(id);
    if (!entry) return;
    this.#sent.delete(id);
    entry.key?.then((key) => (key === undefined ? undefined : this.#ask((store) => store.remove(key))));
    if (!entry.own) this.#deliver(entry.kept, event);
  }

  /** @param {Kept} kept @param {WireEvent} event */
  #deliver({ subscription, data, id, attempts }, event) {
    const { status, code = "server_error", error: text = "The server gave no reason." } = event;
    const error = status === "ok" ? null : new this.#HoldfastError(code, String(text), event);
    this.#client._emit("delivered", { subscription, data, id, reply: event.data, error, attempts });
  }

  /** @param {string} id @param {string} code @param {string} error @param {object} [more] */
  #refuse(id, code, error, more) {
    this.#reply({ id, event: { event: "message", status: "error", code, error, ...more } });
  }
}

/** @returns {Promise<IDBDatabase>} */
function openDatabase() {
  return new Promise((resolve, reject) => {
    const { indexedDB } = globalThis;
    if (!indexedDB) throw new Error("there is no IndexedDB here");
    const request = indexedDB.open("holdfast-outbox", 1);
    request.onupgradeneeded = () => {
      const messages = request.result.createObjectStore("messages", { keyPath: "key", autoIncrement: true });
      messages.createIndex("scope", "scope");
      request.result.createObjectStore("totals"); // by scope: what its messages take
    };
    request.onblocked = () => reject(new Error("an older version holds the database"));
    request.onerror = () => reject(request.error);
    request.onsuccess = () => {
      const { result } = request;
      result.onversionchange = () => result.close(); // a newer version is not to wait for us
      resolve(result);
    };
  });
}

/** @typedef {{key?: number, limit?: number, actual?: number, unit?: string}} Added */
/** @typedef {{taken: Kept[], expired: Kept[], left: Set<string>, others: Set<string>}} Found */

/** The messages of one scope. Each method is one transaction: all of it happens, or nothing. */
class Store {
  #database;
  #scope;
  #lockless;

  /** @param {IDBDatabase} database @param {string} scope @param {boolean} lockless nobody knows who lives */
  constructor(database, scope, lockless) {
    this.#database = database;
    this.#scope = scope;
    this.#lockless = lockless;
  }

  /**
   * The limits hold for all tabs together.
   * @param {Kept[]} batch @param {Limits} limits
   * @returns {Promise<Added[]>} one for each
   */
  add(batch, { maxBytes, maxMessages }) {
    return this.#transaction((messages, totals, give, commit) => {
      totals.get(this.#scope).onsuccess = ({ target }) => {
        /** @type {Added[]} */
        const results = [];
        let { messages: count, bytes } = /** @type {any} */ (target).result ?? { messages: 0, bytes: 0 };
        batch.forEach((kept, at) => {
          if (bytes + kept.bytes > maxBytes) results[at] = { limit: maxBytes, actual: bytes + kept.bytes, unit: "bytes" };
          else if (count >= maxMessages) results[at] = { limit: maxMessages, actual: count + 1, unit: "messages" };
          else {
            count++;
            bytes += kept.bytes;
            messages.add(kept).onsuccess = ({ target }) => void (results[at] = { key: /** @type {any} */ (target).result });
          }
        });
        this.#total(totals, count, bytes);
        give(results);
        commit(); // it does not wait for a page that may be on its way out
      };
    });
  }

  /** @param {number} key @returns {Promise<void>} */
  remove(key) {
    return this.#transaction((messages, totals) => {
      messages.get(key).onsuccess = ({ target }) => {
        const kept = /** @type {any} */ (target).result;
        if (!kept) return; // another tab was told the reply, too
        messages.delete(key);
        totals.get(this.#scope).onsuccess = ({ target }) => {
          const before = /** @type {any} */ (target).result ?? { messages: 1, bytes: kept.bytes };
          this.#total(totals, before.messages - 1, before.bytes - kept.bytes);
        };
      };
    });
  }

  /**
   * What those who are gone have left: it is ours, or too old, or for a subscription that we do not have (yet).
   * @param {string} me
   * @param {Set<string>} gone
   * @param {(subscription: string) => boolean} wanted
   * @param {number} now
   * @param {number} maxAge
   * @returns {Promise<Found>}
   */
  take(me, gone, wanted, now, maxAge) {
    return this.#transaction((messages, totals, give) => {
      messages.index("scope").getAll(this.#scope).onsuccess = ({ target }) => {
        /** @type {Found} */
        const found = { taken: [], expired: [], left: new Set(), others: new Set() };
        let count = 0;
        let bytes = 0;
        for (const kept of /** @type {Kept[]} */ (/** @type {any} */ (target).result)) {
          const isGone = gone.has(kept.owner);
          // A clock that was put right may have left a message in a far future.
          const old = Math.abs(now - kept.at) > maxAge;
          if (old && kept.owner !== me && (isGone || this.#lockless)) {
            found.expired.push(kept);
            messages.delete(/** @type {number} */ (kept.key));
            continue;
          }
          count++;
          bytes += kept.bytes;
          if (kept.owner === me) continue;
          if (!isGone) found.others.add(kept.owner);
          else if (!wanted(kept.subscription)) found.left.add(kept.subscription);
          else {
            kept.owner = me;
            kept.attempts++;
            messages.put(kept);
            found.taken.push(kept);
          }
        }
        this.#total(totals, count, bytes);
        give(found);
      };
    });
  }

  /** @param {IDBObjectStore} totals @param {number} messages @param {number} bytes */
  #total(totals, messages, bytes) {
    if (messages > 0) totals.put({ messages, bytes }, this.#scope);
    else totals.delete(this.#scope);
  }

  /**
   * @param {(messages: IDBObjectStore, totals: IDBObjectStore, give: (result: any) => void, commit: () => void) => void} work
   * @returns {Promise<any>} what it gives, once it has truly happened
   */
  #transaction(work) {
    return new Promise((resolve, reject) => {
      const transaction = this.#database.transaction(["messages", "totals"], "readwrite");
      /** @type {unknown} */
      let result;
      transaction.oncomplete = () => resolve(result);
      transaction.onabort = () => reject(transaction.error ?? new Error("the transaction was ended"));
      const give = (/** @type {unknown} */ value) => void (result = value);
      work(transaction.objectStore("messages"), transaction.objectStore("totals"), give, () => transaction.commit?.());
    });
  }
}
