/**
 * Holdfast's lines over HTTP: the event stream and the long poll, for where a WebSocket does not get through.
 *
 * A module of its own, loaded while the first line opens: most pages never need it.
 *
 * SPDX-License-Identifier: Apache-2.0
 */

/** @typedef {(type: "opened"|"receive"|"heard"|"cut"|"closed", input?: Record<string, unknown>) => void} Tell gives the machine an input, of this line */

const ignore = () => {};

const isHidden = () => globalThis.document?.visibilityState === "hidden";

/** Requests to listen. One that was given up may arrive behind its successor, and the gateway tells by the number that it is stale. */
let listens = 0;

/** @param {Headers} headers @returns {number|undefined} seconds */
const retryAfterOf = (headers) => {
  const value = headers.get("retry-after");
  if (!value) return undefined;
  if (!isNaN(+value)) return +value;
  // By the server's own clock, where it shows it.
  return Math.max(0, Date.parse(value) - (Date.parse(/** @type {string} */ (headers.get("date"))) || Date.now())) / 1000;
};

/**
 * One of the few connections that the tabs of a browser share, if one is free.
 * @param {URL} url
 * @returns {Promise<(() => void)|undefined>} gives it back
 */
const takeSlot = async (url) => {
  const SLOTS = 4; // A browser has six connections to a host over HTTP/1.1, for all tabs together: two are left to the app.
  const locks = globalThis.navigator?.locks;
  if (!locks) return ignore;
  for (let slot = 1; slot <= SLOTS; slot++) {
    /** @type {(() => void)|null} */
    const release = await new Promise((resolve) => {
      const name = `holdfast:slot:${url.origin}:${slot}`;
      const hold = (/** @type {any} */ lock) => new Promise((done) => resolve(lock && done));
      locks.request(name, { ifAvailable: true }, hold).catch(() => resolve(ignore)); // A page without an origin has no locks.
    });
    if (release) return release;
  }
  return undefined;
};

/**
 * A line over HTTP: short requests for what we send, and one that stays open for what we hear. URLs are written to logs:
 * the secret is in a header.
 * @param {object} options
 * @param {Tell} options.tell
 * @param {URL} options.url of /session
 * @param {typeof globalThis.fetch} options.fetch
 * @param {boolean} [options.withCredentials]
 * @param {() => number} options.received the machine's count
 */
export const httpLine = ({ tell, url, fetch, withCredentials, received: count }) => {
  /** @type {{text: string, seq?: number}[]} */
  const queue = [];
  let sending = false;
  let path = ""; // of our session, from the moment that it has a name
  let secret = "";
  const posts = new AbortController();
  let listening = new AbortController();
  /** @type {(() => void)|undefined} gives the slot back that we have */
  let release;
  let wake = ignore; // ends the pause between two short polls

  const close = () => {
    posts.abort();
    listening.abort();
    release?.();
    wake();
  };

  /** @param {{code: number, reason: string, retryAfter?: number}} why */
  const end = ({ code, reason, retryAfter }) => {
    close();
    tell("closed", { code, reason, retryAfter });
  };

  const heard = () => {
    tell("heard");
  };

  /** @param {unknown} event */
  const receive = (event) => {
    tell("receive", { text: JSON.stringify(event) });
  };

  const flush = async () => {
    sending = true;
    await null; // What is sent in one turn travels together.
    while (queue.length) {
      const { seq } = queue[0];
      const BATCH_CHARS = 65_536; // The rest goes in another request: what stands in between may refuse a big one.
      let batch = "";
      for (let next; batch.length < BATCH_CHARS && (next = queue.shift()); ) batch += (batch && ",") + next.text;
      const known = path;
      const ask = () => request(known && "/send", known ? `{"seq":${seq},"events":[${batch}]}` : `[${batch}]`, posts.signal);
      let answer;
      try {
        // The server knows a batch by its number, so it may be repeated. What opens a session has none.
        answer = await (known ? ask().catch(ask) : ask());
      } catch (error) {
        return end({ code: 1006, reason: String(error) });
      }
      if (posts.signal.aborted) return;
      for (const event of [known ? { event: "ack", received: answer?.received } : answer].flat()) {
        if (event?.event === "hello" && event.status === "ok") {
          [path, secret] = `/${event.session}`.split(".");
        }
        receive(event);
      }
      if (!known) heard(); // That was all: now it is known from where to listen.
      wake(); // There may be a reply.
    }
    sending = false;
  };

  /**
   * A newer request to listen ends an older one.
   * @param {{transport: string, received: number, wait?: number}} action
   */
  const listen = async ({ transport, received, wait = 0 }) => {
    listening.abort();
    const { signal } = (listening = new AbortController());
    try {
      // Without a slot we poll and hang up, again and again. A stream is still one to the machine.
      while (!(await hasSlot(signal))) {
        await poll(received, 0, signal);
        if (transport === "stream") heard();
        await pause();
        signal.throwIfAborted();
        if (transport === "poll") return heard();
        received = count();
      }
      if (transport === "poll") {
        await poll(received, wait, signal);
        return heard();
      }
      await stream(received, signal);
    } catch {}
    if (!signal.aborted) tell("cut");
  };

  /** @param {AbortSignal} signal */
  const hasSlot = async (signal) => {
    if (!release) {
      const slot = await takeSlot(url);
      if (signal.aborted) slot?.();
      signal.throwIfAborted();
      release = slot;
    }
    return release;
  };

  /** Between the polls of a page without a slot. */
  const pause = () => {
    return new Promise((resolve) => {
      const SHORT_POLL_MS = 1_000;
      const HIDDEN_SHORT_POLL_MS = 5_000;
      const timer = setTimeout(resolve, isHidden() ? HIDDEN_SHORT_POLL_MS : SHORT_POLL_MS);
      wake = () => resolve(clearTimeout(timer));
    });
  };

  /** @param {number} received @param {number} wait @param {AbortSignal} signal */
  const poll = async (received, wait, signal) => {
    const { events, close } = await request("/poll", JSON.stringify({ received, wait, number: ++listens }), signal);
    for (const event of events) {
      // A newer request is given the rest.
      signal.throwIfAborted();
      receive(event);
    }
    signal.throwIfAborted();
    if (close) end(close);
    signal.throwIfAborted();
  };

  /**
   * Until it has ended, or is none.
   * @param {number} received @param {AbortSignal} signal
   */
  const stream = async (received, signal) => {
    const { headers, body } = await request(`/stream?received=${received}&number=${++listens}`, undefined, signal);
    if (!headers.get("content-type")?.startsWith("text/event-stream")) return;
    const STREAM_LINE_CHARS = 2 ** 24; // Longer than any event: that is no event stream, and it must not fill the memory.
    const reader = body.getReader();
    const decoder = new TextDecoder();
    let rest = "";
    let type = "";
    let data = "";
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return;
      const text = decoder.decode(value, { stream: true });
      rest += text;
      if (text.includes("\n")) {
        const lines = rest.split(/\r?\n/);
        rest = /** @type {string} */ (lines.pop());
        for (const line of lines) {
          signal.throwIfAborted();
          const [, field, content] = /^(\w*): ?(.*)/s.exec(line) ?? [];
          if (field === "") heard();
          if (field === "event") type = content;
          if (field === "data") data += content;
          if (line) continue;
          if (type === "close") return end(JSON.parse(data));
          if (data && !type) tell("receive", { text: data });
          type = data = "";
        }
      }
      if (rest.length > STREAM_LINE_CHARS) return;
    }
  };

  /**
   * Throws where the gateway has not spoken, and where it has ended the line.
   * @param {string} what @param {string|undefined} body @param {AbortSignal} signal
   * @returns {Promise<any>} the answer to what was posted; without a body: the response
   */
  const request = async (what, body, signal) => {
    const headers = new Headers(line.headers);
    if (body) headers.set("Content-Type", "application/json");
    if (path) headers.set("Authorization", "Holdfast " + secret);
    const response = await fetch(url + path + what, {
      method: body ? "POST" : "GET",
      headers,
      body,
      cache: "no-store",
      redirect: "error", // A portal's redirect must not be given the headers.
      credentials: withCredentials ? "include" : "same-origin",
      signal,
    });
    const { status } = response;
    const reason = "HTTP " + status;
    if (response.ok) return body ? response.json() : response;
    const code = /** @type {Record<number, number>} */ ({ 413: 1009, 429: 4029, 503: 1006 })[status];
    if (code) end({ code, reason, retryAfter: retryAfterOf(response.headers) });
    else {
      const event = await response.json();
      // Another 409 is about the count: a new line will bring both sides together.
      if (event.code === "replaced") end({ code: 4000, reason: event.error });
      if (event.event === "hello") {
        receive(event);
        end({ code: 1006, reason: event.error });
      }
    }
    throw new Error(reason);
  };

  const line = {
    /** @type {Record<string, string>|undefined} the app's */
    headers: undefined,
    /** @param {string} text @param {number} [seq] */
    send(text, seq) {
      queue.push({ text, seq });
      if (!sending) flush();
    },
    close,
    listen,
  };
  return line;
};
