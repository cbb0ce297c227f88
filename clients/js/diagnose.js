/**
 * What stands between this page and a Holdfast gateway: tries each way once, and says the result in words that can be
 * forwarded. It opens lines of its own, so no client is disturbed; the one session that it opens expires by itself.
 *
 *     const { text } = await diagnose("https://example.com/socket");
 *
 * SPDX-License-Identifier: Apache-2.0
 */

/** @typedef {"http"|"websocket"|"session"|"stream"|"poll"} CheckName */
/**
 * @typedef {object} Check
 * @property {CheckName} name
 * @property {boolean|null} ok null: it runs
 * @property {number|null} ms how long it took, or how long it was waited for
 * @property {string} detail in words
 */
/**
 * @typedef {object} Diagnosis
 * @property {"websocket"|"stream"|"poll"|"none"} verdict the best transport that works
 * @property {string} text one or two sentences
 * @property {Check[]} checks
 * @property {string[]} advice what those can do who run the server, or what stands before it
 */
/**
 * @typedef {object} DiagnoseOptions the client's options of these names; others are ignored
 * @property {Record<string, string>|(() => Record<string, string>|Promise<Record<string, string>>)} [headers]
 * @property {boolean} [withCredentials]
 * @property {any} [WebSocket]
 * @property {typeof globalThis.fetch} [fetch]
 * @property {() => number} [now]
 * @property {(check: Check) => void} [onCheck] called when a check begins, and when it has ended
 */

const REQUEST_MS = 5_000;
const HANDSHAKE_MS = 5_000; // The client itself does not wait longer than 2 s before it tries something else.
const ECHO_MS = 3_000;
const FIRST_BYTE_MS = 3_000; // as the client
const POLL_WAIT_S = 2;
const HEAD_START_MS = 100; // The poll has to wait already when the ping comes that ends it.
const EXCERPT_CHARS = 60;

/** A failure that is put into words here; any other comes from the platform. */
class Failure extends Error {}

/**
 * @param {string} [url] as of the client (default "/socket")
 * @param {DiagnoseOptions} [options]
 * @returns {Promise<Diagnosis>} never rejects because of the network
 */
export async function diagnose(url = "", options = {}) {
  const { now = () => performance.now(), onCheck = () => {} } = options;
  const gateway = await Gateway.at(url, options);
  /** @type {Check[]} */
  const checks = [];
  /** @param {CheckName} name @param {() => Promise<{detail: string, ms?: number}>} attempt */
  const check = async (name, attempt) => {
    onCheck({ name, ok: null, ms: null, detail: "" });
    const start = now();
    /** @param {boolean} ok @param {string} detail @param {number} [ms] */
    const done = (ok, detail, ms = now() - start) => {
      const result = { name, ok, ms: Math.round(ms), detail };
      checks.push(result);
      onCheck(result);
    };
    await attempt().then(({ detail, ms }) => done(true, detail, ms), (error) => done(false, wordsOf(error)));
  };
  await check("http", () => gateway.health());
  await check("websocket", () => gateway.webSocket());
  await check("session", () => gateway.session());
  await check("stream", () => gateway.stream());
  await check("poll", () => gateway.poll());
  return { ...judge(checks, gateway.found), checks };
}

/**
 * What the checks have learned beyond good and bad.
 * @typedef {object} Found
 * @property {"refused"|"hangs"|"silent"|"cut"} [webSocket] how it failed
 * @property {string} [atSocket] who else than the gateway answers a plain request where WebSockets are opened
 * @property {string} [stranger] who else answered another request
 * @property {boolean} [reached] the gateway itself answered a plain request
 * @property {boolean} [answered] somebody answered, though this page may not read what
 * @property {boolean} [buffered] the stream was accepted, and its first byte held back
 */

/** The gateway's doors, each tried once. */
class Gateway {
  /** @type {Found} */
  found = {};
  #session = "";
  #secret = "";
  #url;
  #options;
  #headers;

  /** @param {URL} url @param {DiagnoseOptions} options @param {Record<string, string>} headers */
  constructor(url, options, headers) {
    this.#url = url;
    this.#options = options;
    this.#headers = headers;
  }

  /** @param {string} url @param {DiagnoseOptions} options */
  static async at(url, options) {
    const http = new URL(url || "/socket", globalThis.location?.href);
    http.protocol = http.protocol.replace("ws", "http");
    const { headers } = options;
    const own = Object.fromEntries(new Headers(await (typeof headers === "function" ? headers() : headers)));
    return new Gateway(http, options, own);
  }

  /**
   * @param {string} path relative to the socket's
   * @param {unknown} [body] absent: GET
   * @param {AbortSignal} [signal]
   */
  async #ask(path, body, signal = patience()) {
    const { fetch = globalThis.fetch, withCredentials } = this.#options;
    const headers = new Headers(this.#headers);
    if (body !== undefined) headers.set("Content-Type", "application/json");
    if (path.startsWith("session/")) headers.set("Authorization", `Holdfast ${this.#secret}`);
    return fetch(new URL(path, this.#url), {
      method: body === undefined ? "GET" : "POST",
      body: JSON.stringify(body),
      headers,
      cache: "no-store",
      credentials: withCredentials ? "include" : "same-origin",
      signal,
    });
  }

  /** @param {string} path @param {unknown} [body] */
  async #json(path, body) {
    const response = await this.#ask(path, body);
    const text = await response.text();
    let answer;
    try {
      answer = JSON.parse(text);
    } catch {
      this.found.stranger ??= stranger(response, text);
      throw new Failure(`Not the gateway answered, but ${stranger(response, text)}.`);
    }
    const { error = "without a reason" } = [answer].flat()[0] ?? {};
    if (!response.ok) throw new Failure(`The gateway answered HTTP ${response.status}: ${error}`);
    return answer;
  }

  async health() {
    try {
      await this.#json("health");
    } catch (error) {
      if (error instanceof TypeError) await this.#knock();
      throw error;
    }
    this.found.reached = true;
    return { detail: "The gateway answers plain requests." };
  }

  /** A page of another origin may not be allowed to read an answer; but that there is one, it can see. */
  async #knock() {
    const { fetch = globalThis.fetch } = this.#options;
    try {
      await fetch(new URL("health", this.#url), { mode: "no-cors", cache: "no-store", signal: patience() });
    } catch {
      return;
    }
    this.found.answered = true;
    throw new Failure("Something answers, but this page may not read it: the origin is not among the gateway's cors.origins.");
  }

  async webSocket() {
    try {
      const ms = await this.#echo();
      return { detail: `It opened, and an event came back ${ms} ms later.` };
    } catch (error) {
      if (!(error instanceof Failure)) throw error;
      await this.#whoRefuses();
      const { atSocket, webSocket } = this.found;
      const who = atSocket ? ` A plain request to the same address is answered by ${atSocket}.` : "";
      throw new Failure(error.message + (webSocket === "refused" ? who : ""));
    }
  }

  /** @returns {Promise<number>} ms from our probe to its answer */
  #echo() {
    const { WebSocket = globalThis.WebSocket, now = () => performance.now() } = this.#options;
    if (!WebSocket) return Promise.reject(new Failure("There is no WebSocket class here."));
    const url = new URL(this.#url);
    url.protocol = url.protocol.replace("http", "ws");
    url.hash = "";
    return new Promise((resolve, reject) => {
      let opened = 0;
      const socket = new WebSocket(url.href);
      /** @param {NonNullable<Found["webSocket"]>} how @param {string} words */
      const fail = (how, words) => {
        this.found.webSocket ??= how;
        end();
        reject(new Failure(words));
      };
      const hangs = () => fail("hangs", `The handshake was not answered within ${HANDSHAKE_MS / 1_000} s.`);
      const silent = () => fail("silent", `It opened, but no event came back within ${ECHO_MS / 1_000} s.`);
      let timer = setTimeout(hangs, HANDSHAKE_MS);
      const end = () => {
        clearTimeout(timer);
        socket.onopen = socket.onmessage = socket.onclose = null;
        socket.close();
      };
      socket.onopen = () => {
        opened = now();
        clearTimeout(timer);
        timer = setTimeout(silent, ECHO_MS);
        socket.send('{"event":"probe"}');
      };
      socket.onmessage = (/** @type {{data: unknown}} */ { data }) => {
        if (!/"probe"/.test(String(data))) return fail("silent", "It opened, but the answer was not the gateway's.");
        end();
        resolve(Math.round(now() - opened));
      };
      socket.onclose = (/** @type {{code: number}} */ { code }) => {
        if (opened) fail("cut", `It opened, and was closed before an event came back (${code}).`);
        else fail("refused", "The handshake was refused.");
      };
      socket.onerror = () => {}; // close follows
    });
  }

  /** A browser does not show what a refused handshake was answered. A plain request shows who is there: ours says 426. */
  async #whoRefuses() {
    try {
      const response = await this.#ask(this.#url.href);
      const text = await response.text();
      if (response.status === 426 && text.includes("Holdfast")) this.found.reached = true;
      else this.found.atSocket = stranger(response, text);
    } catch {} // nobody, or nobody that this page may know
  }

  async session() {
    const answer = await this.#json("session", [{ event: "probe" }]);
    if (answer?.[0]?.event !== "probe") throw new Failure("The answer was not the gateway's.");
    this.found.reached = true;
    return { detail: "Requests with events are answered." };
  }

  async #open() {
    if (this.#session) return;
    const hello = { event: "hello", version: 1, client: { name: "holdfast-diagnose", version: "0.1.0" }, headers: this.#headers };
    const [reply] = await this.#json("session", [hello]);
    if (reply?.status !== "ok") throw new Failure(`The gateway refused hello: ${reply?.error}`);
    [this.#session, this.#secret] = reply.session.split(".");
  }

  async stream() {
    await this.#open();
    const controller = new AbortController();
    // The browser calls it an error if we end it, so which one it was is remembered.
    let late = false;
    const timer = setTimeout(() => controller.abort((late = true)), FIRST_BYTE_MS);
    try {
      const response = await this.#ask(`session/${this.#session}/stream?received=0`, undefined, controller.signal);
      const type = response.headers.get("content-type") ?? "";
      if (!response.ok || !type.startsWith("text/event-stream")) {
        throw new Failure(`The stream was answered by ${stranger(response, await response.text())}.`);
      }
      const { done } = await /** @type {ReadableStream<Uint8Array>} */ (response.body).getReader().read();
      if (done) throw new Failure("The stream ended before its first byte.");
      return { detail: "The first bytes came without waiting for the end." };
    } catch (error) {
      if (!late) throw error;
      this.found.buffered = true;
      throw new Failure(`No byte came within ${FIRST_BYTE_MS / 1_000} s: something holds the answer back until it is complete.`);
    } finally {
      clearTimeout(timer);
      controller.abort();
    }
  }

  async poll() {
    const { now = () => performance.now() } = this.#options;
    await this.#open();
    const path = `session/${this.#session}`;
    const waiting = this.#json(`${path}/poll`, { received: 0, wait: POLL_WAIT_S });
    waiting.catch(() => {}); // It is looked at below.
    await new Promise((resolve) => setTimeout(resolve, HEAD_START_MS));
    const start = now();
    await this.#json(`${path}/send`, { seq: 1, events: [{ event: "ping", data: "diagnose", received: 0 }] });
    const { events } = await waiting;
    if (!Array.isArray(events)) throw new Failure("The answer was not the gateway's.");
    const came = events.length ? "brought the answer to another one" : "came back empty, at its time";
    return { detail: `A waiting request ${came}.`, ms: now() - start };
  }
}

const OBSTACLES = {
  refused: "refuses WebSocket upgrades",
  hangs: "lets WebSocket handshakes hang",
  silent: "lets WebSockets open and then carries nothing over them",
  cut: "cuts WebSockets as soon as they are open",
};
const NAMES = { websocket: "WebSocket", stream: "the event stream", poll: "long polling" };
const NGINX_UPGRADE =
  'proxy_http_version 1.1; proxy_set_header Upgrade $http_upgrade; proxy_set_header Connection "upgrade";';
const TRANSPORTS = /** @type {const} */ (["websocket", "stream", "poll"]);

/**
 * @param {Check[]} checks
 * @param {Found} found
 * @returns {Omit<Diagnosis, "checks">}
 */
function judge(checks, found) {
  /** @param {CheckName} name */
  const of = (name) => /** @type {Check} */ (checks.find((check) => check.name === name));
  const verdict = TRANSPORTS.find((name) => of(name).ok) ?? "none";
  return { verdict, text: sentence(verdict, of, found), advice: adviceFor(verdict, found) };
}

/** @param {Diagnosis["verdict"]} verdict @param {(name: CheckName) => Check} of @param {Found} found */
function sentence(verdict, of, found) {
  if (verdict === "none") return nothingWorks(of, found);
  const { ms } = of(verdict);
  if (verdict !== "websocket") {
    return `${obstacle(found)}${found.buffered ? " and holds event streams back" : ""}; ${NAMES[verdict]} works (${ms} ms).`;
  }
  const works = `WebSockets work (${ms} ms)`;
  if (!of("poll").ok) return `${works}. Should they fail one day, nothing would take their place: ${why(of)}`;
  if (of("stream").ok) return `${works}, and so do the event stream and long polling.`;
  return `${works}. Should they fail one day, long polling is left: something holds event streams back.`;
}

/** @param {(name: CheckName) => Check} of @param {Found} found */
function nothingWorks(of, found) {
  if (globalThis.navigator?.onLine === false) return "This device is offline.";
  if (found.answered) {
    return "The server answers, but it does not let pages of this origin in, and WebSockets do not get through.";
  }
  const stranger = found.stranger ?? found.atSocket;
  if (stranger && found.reached) {
    return `The server answers plain requests, but something else answers those with events: ${stranger}.`;
  }
  if (stranger) return `Something else answers in the place of the server: ${stranger}.`;
  if (found.reached) return `${obstacle(found)}, and nothing takes their place: ${why(of)}`;
  return `The server does not answer, not even a plain request: ${lower(of("http").detail)}`;
}

/**
 * Why the fallback fails.
 * @param {(name: CheckName) => Check} of
 */
function why(of) {
  return lower(of(of("session").ok ? "poll" : "session").detail);
}

/** @param {Found} found */
function obstacle({ webSocket = "refused", atSocket }) {
  if (webSocket === "refused" && atSocket) {
    return `At the address of the WebSocket something else answers than the gateway (${atSocket})`;
  }
  return `Something between you and the server ${OBSTACLES[webSocket]}`;
}

/** @param {Diagnosis["verdict"]} verdict @param {Found} found */
function adviceFor(verdict, { webSocket, atSocket, buffered, answered, reached }) {
  const advice = [];
  if (verdict === "stream" || verdict === "poll") {
    const now = `the client uses ${NAMES[verdict]} by itself`;
    advice.push(`Nothing has to be done: ${now}, and tries WebSocket again from time to time.`);
  }
  if (answered) advice.push("Add the origin of this page to the gateway's cors.origins.");
  if (webSocket && reached) {
    if (webSocket !== "refused") {
      advice.push("A firewall or a virus scanner that looks into the traffic does this: it needs an exception for this host.");
    } else if (atSocket) advice.push("Let the path of the socket lead to the gateway, in whatever answers there now.");
    else advice.push(`Let proxies pass the upgrade on; nginx: ${NGINX_UPGRADE}`);
    const plain = globalThis.location?.protocol === "http:" && !atSocket;
    if (plain) advice.push("Use https: most of what stands in between looks into plain HTTP only.");
  }
  if (buffered) advice.push("Let proxies pass answers on while they grow; nginx, for /session/: proxy_buffering off;");
  return advice;
}

/** @param {string} text */
function lower(text) {
  return text.charAt(0).toLowerCase() + text.slice(1);
}

/**
 * Who it is that answers and is not the gateway: what a person who knows the network can recognise.
 * @param {Response} response
 * @param {string} text
 */
function stranger({ status, headers }, text) {
  const server = headers.get("server") ?? headers.get("via");
  const title = /<title[^>]*>([^<]*)/i.exec(text)?.[1] ?? text.replace(/<[^>]*>/g, " ");
  const says = title.replace(/\s+/g, " ").trim().slice(0, EXCERPT_CHARS);
  return `HTTP ${status}${server ? ` from ${server}` : ""}${says ? `, “${says}”` : ""}`;
}

/** @returns {AbortSignal} */
function patience() {
  return /** @type {any} */ (AbortSignal).timeout(REQUEST_MS);
}

/** @param {any} error */
function wordsOf(error) {
  if (error instanceof Failure) return error.message;
  if (error?.name === "TimeoutError") return `No answer came within ${REQUEST_MS / 1_000} s.`;
  const { code } = error?.cause ?? {};
  return `The request failed${code ? ` (${code})` : "; a browser does not say why"}.`;
}
