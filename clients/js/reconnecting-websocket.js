/**
 * A WebSocket that comes back, for any server: a drop-in for the well-known class of this name.
 *
 * It has that class's API, options and defaults, and adds what it lacks: it notices a line that only looks alive
 * (`heartbeat`), it spreads its attempts (`jitter`), it tries at once when the page is shown or the network is back, and it
 * waits for nothing from a line that it has let go. It knows nothing of Holdfast. See docs/reconnecting-websocket.md.
 *
 * Names that begin with an underscore are not for users. Some are those of the well-known class, which tests reach for.
 *
 * SPDX-License-Identifier: Apache-2.0
 */

/** @typedef {string | (() => string) | (() => Promise<string>)} UrlProvider called for each attempt */
/** @typedef {string | string[] | null | undefined} Protocols */
/** @typedef {Protocols | (() => Protocols) | (() => Promise<Protocols>)} ProtocolsProvider called for each attempt */
/** @typedef {string | ArrayBuffer | Blob | ArrayBufferView} Message */
/**
 * @typedef {object} HeartbeatOptions
 * @property {number} [interval] ms without a word until a ping is sent (default 15,000)
 * @property {number} [timeout] ms without a word after it until the line is dead (default 5,000)
 * @property {Message | (() => Message)} [ping] what is sent (default "ping"). The server has to answer something
 * @property {(event: MessageEvent) => boolean} [isPong] whether this message is an answer, and nothing for the app
 */
/**
 * @typedef {object} Options
 * @property {any} [WebSocket] the class (default: the global one)
 * @property {number} [maxReconnectionDelay] ms (default 10,000)
 * @property {number} [minReconnectionDelay] ms (default 1,000 + random · 4,000)
 * @property {number} [reconnectionDelayGrowFactor] (default 1.3)
 * @property {number} [minUptime] ms until a connection counts as stable, and the retries begin anew (default 5,000)
 * @property {number} [connectionTimeout] ms for a connection to open (default 4,000)
 * @property {number} [maxRetries] (default Infinity)
 * @property {number} [maxEnqueuedMessages] that wait for a connection; further ones are dropped (default Infinity)
 * @property {boolean} [startClosed] wait for `reconnect()` (default false)
 * @property {boolean} [debug] (default false)
 * @property {(...parameters: any[]) => void} [debugLogger] (default console.log)
 * @property {boolean | HeartbeatOptions} [heartbeat] (default false)
 * @property {boolean} [jitter] wait a random part of the delay (default true)
 * @property {() => number} [random] in [0, 1) (default Math.random)
 */
/**
 * @typedef {object} EventMap
 * @property {Event} open
 * @property {MessageEvent} message
 * @property {CloseEvent} close
 * @property {ErrorEvent} error
 */
/**
 * @template {keyof EventMap} T
 * @typedef {((event: EventMap[T]) => void) | {handleEvent(event: EventMap[T]): void}} Listener
 */

const HASTE_MS = 1_000; // between attempts that did not wait for their time
const LATE_MS = 1_000; // A timer that fires so much too late has slept, and what was said meanwhile may still be unread.
const LONGEST_MS = 2 ** 31 - 1; // What is longer would fire at once.

/** @param {() => void} act @param {number} ms */
const later = (act, ms) => setTimeout(act, Math.min(ms, LONGEST_MS));

/** Made here, unlike those that come from the WebSocket and are handed on as they are. */
export class Event {
  /** @param {string} type @param {any} target */
  constructor(type, target) {
    this.type = type;
    this.target = target;
  }
}

export class ErrorEvent extends Event {
  /** @param {Error} error @param {any} target */
  constructor(error, target) {
    super("error", target);
    this.message = error.message;
    this.error = error;
  }
}

export class CloseEvent extends Event {
  /** @param {number} code @param {string} reason @param {any} target */
  constructor(code, reason, target, wasClean = true) {
    super("close", target);
    this.code = code;
    this.reason = reason;
    this.wasClean = wasClean;
  }
}

/** @param {string} name @param {unknown} value @param {string} wanted @param {boolean} right */
function check(name, value, wanted, right) {
  if (value === undefined || right) return;
  throw new TypeError(`ReconnectingWebSocket: ${name} must be ${wanted}, not ${typeof value} ${String(value)}`);
}

/** @param {any} options @param {string[]} names @param {string} [of] */
function checkNumbers(options, names, of = "") {
  for (const name of names) check(of + name, options[name], "a number from 0", typeof options[name] === "number" && options[name] >= 0);
}

/** @param {any} options @param {string[]} names @param {string} [of] */
function checkFunctions(options, names, of = "") {
  for (const name of names) check(of + name, options[name], "a function", typeof options[name] === "function");
}

export class ReconnectingWebSocket {
  static get CONNECTING() { return 0; }
  static get OPEN() { return 1; }
  static get CLOSING() { return 2; }
  static get CLOSED() { return 3; }

  get CONNECTING() { return 0; }
  get OPEN() { return 1; }
  get CLOSING() { return 2; }
  get CLOSED() { return 3; }

  /** @type {((event: Event) => void) | null} */
  onopen = null;
  /** @type {((event: MessageEvent) => void) | null} */
  onmessage = null;
  /** @type {((event: CloseEvent) => void) | null} */
  onclose = null;
  /** @type {((event: ErrorEvent) => void) | null} */
  onerror = null;

  /** @type {WebSocket|undefined} the last one: it may have ended long ago */
  _ws;
  _live = false; // whether `_ws` has handlers: its end is not yet told
  _retryCount = -1;
  _shouldReconnect = true;
  /** @type {object|null} the attempt under way, until there is a socket */
  _connectLock = null;
  /** @type {BinaryType} */
  _binaryType = "blob";
  /** @type {Message[]} */
  _messageQueue = [];
  /** @type {Record<string, Listener<any>[]>} */
  _listeners = { open: [], message: [], close: [], error: [] };

  _due = 0; // when the attempt that waits begins; 0: none waits
  _hastened = -HASTE_MS; // when an attempt last did not wait for its time
  _offline = false;
  _asked = 0; // pings since anything was heard

  /**
   * @param {UrlProvider} url
   * @param {ProtocolsProvider} [protocols]
   * @param {Options} [options]
   */
  constructor(url, protocols, options = {}) {
    const { heartbeat, random = Math.random } = options;
    checkNumbers(options, [
      "maxReconnectionDelay", "minReconnectionDelay", "reconnectionDelayGrowFactor", "minUptime", "connectionTimeout", "maxRetries",
      "maxEnqueuedMessages",
    ]);
    checkFunctions(options, ["debugLogger", "random"]);
    check("heartbeat", heartbeat, "true, false or an object", typeof heartbeat === "boolean" || Object(heartbeat) === heartbeat);
    if (heartbeat) {
      const { interval = 15_000, timeout = 5_000, ping = "ping", isPong } = /** @type {HeartbeatOptions} */ (heartbeat);
      this._heartbeat = { interval, timeout, ping, isPong };
      checkNumbers(this._heartbeat, ["interval", "timeout"], "heartbeat.");
      checkFunctions(this._heartbeat, ["isPong"], "heartbeat.");
      check("heartbeat.ping", ping, "a message or a function", /^(string|object|function)$/.test(typeof ping));
    }
    this._url = url;
    this._protocols = protocols;
    this._options = options;
    this._random = random;
    this._minDelay = 1_000 + random() * 4_000;
    this._shouldReconnect = !options.startClosed;
    this._connect();
  }

  get binaryType() {
    return this._ws ? this._ws.binaryType : this._binaryType;
  }

  set binaryType(value) {
    this._binaryType = value;
    if (this._ws) this._ws.binaryType = value;
  }

  get bufferedAmount() {
    let sum = this._ws?.bufferedAmount ?? 0;
    for (const message of /** @type {any[]} */ (this._messageQueue)) sum += message.byteLength ?? message.size ?? message.length;
    return sum;
  }

  get extensions() {
    return this._ws?.extensions ?? "";
  }

  get protocol() {
    return this._ws?.protocol ?? "";
  }

  get url() {
    return this._ws?.url ?? "";
  }

  get readyState() {
    return this._ws?.readyState ?? (this._shouldReconnect ? 0 : 3);
  }

  /** Attempts since the last stable connection, without the first one. */
  get retryCount() {
    return Math.max(this._retryCount, 0);
  }

  /** False after `close()`, and before `reconnect()` with `startClosed`. */
  get shouldReconnect() {
    return this._shouldReconnect;
  }

  /** Sends it now, or when there is a connection.
   * @param {Message} data */
  send(data) {
    if (this._ws?.readyState === 1) {
      this._debug("send", data);
      this._ws.send(data);
    } else if (this._messageQueue.length < (this._options.maxEnqueuedMessages ?? Infinity)) {
      this._debug("enqueue", data);
      this._messageQueue.push(data);
    } else {
      this._debug("dropped: the queue is full", data);
    }
  }

  /** For good, or until `reconnect()`. As of a WebSocket: `close` is told when the server has agreed.
   * @param {number} [code] @param {string} [reason] */
  close(code = 1000, reason) {
    this._shouldReconnect = false;
    this._connectLock = null;
    this._due = 0;
    this._clearTimeouts();
    clearTimeout(this._waitTimeout);
    this._watch(false);
    this._debug("close", code, reason);
    this._ws?.close(code, reason);
  }

  /** Lets the connection go, if there is one, and makes a new one. The retries begin anew.
   * @param {number} [code] @param {string} [reason] */
  reconnect(code, reason) {
    this._shouldReconnect = true;
    this._offline = false;
    this._retryCount = this._connectLock ? 0 : -1;
    this._letGo(code, reason);
    this._hasten();
    this._connect();
  }

  /**
   * @template {keyof EventMap} T
   * @param {T} type
   * @param {Listener<T>} listener
   */
  addEventListener(type, listener) {
    if (listener) this._listeners[type]?.push(listener);
  }

  /**
   * @template {keyof EventMap} T
   * @param {T} type
   * @param {Listener<T>} listener
   */
  removeEventListener(type, listener) {
    if (this._listeners[type]) this._listeners[type] = this._listeners[type].filter((other) => other !== listener);
  }

  /** Calls the listeners, though not `onopen` and the like.
   * @param {{type: string}} event */
  dispatchEvent(event) {
    this._tell(event.type, event);
    return true;
  }

  /** @param {string} type @param {unknown} event */
  _tell(type, event) {
    this._listeners[type]?.forEach((listener) => ("handleEvent" in listener ? listener.handleEvent(event) : listener(event)));
  }

  /** @param {string} type @param {unknown} event */
  _emit(type, event) {
    this._debug(`${type} event`);
    /** @type {any} */ (this)["on" + type]?.(event);
    this._tell(type, event);
  }

  /** @param {...unknown} parameters */
  _debug(...parameters) {
    const { debug, debugLogger = console.log } = this._options;
    if (debug) debugLogger("RWS>", ...parameters);
  }

  // When to try

  /** The delay before the next attempt, without jitter. */
  _getNextDelay() {
    const { reconnectionDelayGrowFactor = 1.3, minReconnectionDelay = this._minDelay, maxReconnectionDelay = 10_000 } = this._options;
    if (this._retryCount < 1) return 0;
    return Math.min(minReconnectionDelay * reconnectionDelayGrowFactor ** (this._retryCount - 1), maxReconnectionDelay);
  }

  /** Plans an attempt, if none is under way.
   * @param {boolean} [atOnce] */
  _connect(atOnce) {
    if (this._connectLock || !this._shouldReconnect) return;
    const { WebSocket = globalThis.WebSocket, maxRetries = Infinity, jitter = true } = this._options;
    if (this._retryCount >= maxRetries) {
      this._debug("max retries reached", this._retryCount, ">=", maxRetries);
      this._watch(false);
      return;
    }
    if (WebSocket?.CLOSING !== 2) {
      throw Error("No valid WebSocket class provided, and no global one here. In Node, give the option WebSocket, of the package ws");
    }
    this._retryCount++;
    this._debug("connect", this._retryCount);
    this._class = WebSocket;
    this._connectLock = {};
    this._watch(true);
    const delay = atOnce ? 0 : this._getNextDelay() * (jitter ? this._random() : 1);
    this._debug("next delay", delay);
    this._due = performance.now() + delay;
    this._wait();
  }

  _wait() {
    clearTimeout(this._waitTimeout);
    if (!this._offline) this._waitTimeout = later(() => this._open(), this._due - performance.now());
  }

  /** Tries now, where an attempt waits. But neither a page that is shown again and again, nor an app that calls `reconnect()`
   * whenever it is told of a failure, shall hammer at the server. */
  _hasten() {
    if (!this._due) return;
    this._due = this._hastened = Math.min(this._due, Math.max(performance.now(), this._hastened + HASTE_MS));
    this._wait();
  }

  // One connection

  /** @param {any} provider
   * @returns {Promise<string>} */
  _getNextUrl(provider) {
    const url = typeof provider === "function" ? provider() : provider;
    if (typeof url === "string" || url?.then) return Promise.resolve(url);
    throw Error(`Invalid URL: neither a string nor a promise, but ${typeof url} ${String(url)}`);
  }

  async _open() {
    const attempt = this._connectLock;
    const { _class: Class, _protocols: provider } = this;
    this._due = 0;
    /** @type {WebSocket} */
    let ws;
    try {
      const url = await this._getNextUrl(this._url);
      const protocols = await (typeof provider === "function" ? provider() : provider);
      if (attempt !== this._connectLock) return; // closed meanwhile
      this._debug("connect", { url, protocols });
      ws = protocols ? new Class(url, protocols) : new Class(url);
    } catch (error) {
      if (attempt !== this._connectLock) return;
      this._connectLock = null;
      this._handleError(new ErrorEvent(error instanceof Error ? error : Error(String(error)), this));
      return;
    }
    this._connectLock = null;
    this._live = true;
    this._ws = ws;
    ws.binaryType = this._binaryType;
    ws.onopen = (event) => this._handleOpen(event);
    ws.onmessage = (event) => this._handleMessage(event);
    ws.onclose = (event) => this._handleClose(event);
    ws.onerror = (event) => this._handleError(event);
    this._connectTimeout = later(() => this._handleError(new ErrorEvent(Error("TIMEOUT"), this)), this._options.connectionTimeout ?? 4_000);
  }

  /** @param {unknown} event */
  _handleOpen(event) {
    this._clearTimeouts();
    this._uptimeTimeout = later(() => (this._retryCount = 0), this._options.minUptime ?? 5_000);
    this._heard();
    for (const message of this._messageQueue.splice(0)) this._ws?.send(message);
    this._emit("open", event);
  }

  /** @param {MessageEvent} event */
  _handleMessage(event) {
    this._heard();
    if (!this._heartbeat?.isPong?.(event)) this._emit("message", event);
  }

  /** @param {any} event */
  _handleError(event) {
    this._letGo(undefined, event.message === "TIMEOUT" ? "timeout" : undefined);
    this._connect(); // where there was no socket to let go
    this._emit("error", event);
  }

  /** @param {unknown} event @param {boolean} [atOnce] */
  _handleClose(event, atOnce) {
    this._clearTimeouts();
    this._live = false;
    this._connect(atOnce); // before the app is told, so that it sees the count, and may close
    this._emit("close", event);
  }

  /** Waits for nothing: a browser may hold a dead line's closing handshake for minutes. What is still said on it reaches nobody.
   * @param {number} [code] @param {string} [reason] @param {boolean} [dead] */
  _letGo(code = 1000, reason = "", dead) {
    const ws = this._ws;
    if (!this._live || !ws) return;
    ws.onopen = ws.onmessage = ws.onclose = null;
    ws.onerror = () => {}; // In Node an error that nobody hears ends the process.
    try {
      ws.close(code, reason);
    } catch {
      ws.close(); // The code was not allowed.
    }
    this._handleClose(new CloseEvent(dead ? 1006 : code, reason, this, !dead), dead);
  }

  _clearTimeouts() {
    clearTimeout(this._connectTimeout);
    clearTimeout(this._uptimeTimeout);
    clearTimeout(this._beatTimeout);
  }

  // Whether it lives

  _heard() {
    this._asked = 0;
    const { interval } = this._heartbeat ?? {};
    if (interval === undefined || !this._shouldReconnect) return; // A line that the app has closed needs no care.
    clearTimeout(this._beatTimeout);
    this._beatTimeout = later(() => this._ask(), interval);
  }

  _ask() {
    const { timeout = 0, ping = "" } = this._heartbeat ?? {};
    const asked = performance.now();
    this._asked++;
    clearTimeout(this._beatTimeout);
    this._beatTimeout = later(() => {
      // Once more, not again and again: in a hidden page every timer is late.
      if (this._asked < 2 && performance.now() - asked > timeout + LATE_MS) this._ask();
      else this._letGo(undefined, "heartbeat timeout", true);
    }, timeout);
    this._ws?.send(typeof ping === "function" ? ping() : ping);
  }

  // The page

  /** @param {boolean} on */
  _watch(on) {
    const act = on ? "addEventListener" : "removeEventListener";
    for (const type of ["online", "offline", "pageshow", "visibilitychange"]) globalThis[act]?.(type, this._handlePage);
  }

  /** @param {any} event */
  _handlePage = ({ type, persisted }) => {
    if (type === "offline") {
      this._offline = true;
      clearTimeout(this._waitTimeout);
    } else if (type === "pageshow" ? persisted : type === "online" || !document.hidden) {
      this._offline &&= !navigator.onLine; // A page that was frozen may not have been told.
      this._hasten();
      // Doubt means ask: a page that wakes up must not throw a good line away.
      if (this._heartbeat && this._live && !this._asked && this.readyState === 1) this._ask();
    }
  };
}

export default ReconnectingWebSocket;
