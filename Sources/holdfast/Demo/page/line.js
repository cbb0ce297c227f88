/**
 * The page's line, told as a story: what the client does, when, and why.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
import { Holdfast } from "/holdfast.js";
import { seconds } from "./words.js";

/** The silence after which the client asks, as the gateway advises by default. */
const INTERVAL_MS = 4_000;
const HIDDEN_INTERVAL_MS = 25_000;
/** The longest that it waits for an answer before it suspects the line. */
const WAIT_MAX_MS = 2_000;
/** How often the page says to the telephone system what it has seen. */
const RECEIPT_MS = 2_000;

/**
 * @typedef {object} Listener
 * @property {(data: any, offset: number|undefined) => void} heard
 * @property {(up: {isFirst: boolean, resumed: boolean, quietFor: number, session: string}) => void} up
 * @property {(after: number|null, next: number|null) => void} gap
 * @property {(ms: number) => void} beat
 * @property {(ms: number) => void} receipt
 * @property {(tone: string, text: string, mark?: string) => void} tell
 * @property {() => number|null} seen the last number seen
 */

export class Line {
  /** @type {Holdfast} */
  client;

  #subscription;
  #listener;
  #heardAt = 0;
  #isFirst = true;
  #hasAsked = false;
  /** A ping was not answered in time. */
  #isSuspect = false;
  #races = 0;
  #reason = "";
  /** @type {number|null} */
  #nextAttemptAt = null;
  /** Attempts made before the line was lost. */
  #attemptsBefore = 0;
  #receiptDue = Infinity;

  /** @param {string} url @param {string} subscription @param {Listener} listener */
  constructor(url, subscription, listener) {
    this.#subscription = subscription;
    this.#listener = listener;
    this.client = new Holdfast(url, { autoConnect: false });
  }

  get state() {
    return this.client.state;
  }

  open() {
    const { client } = this;
    client.on("state", (event) => this.#changed(event));
    client.on("connected", (event) => this.#connected(event));
    client.on("rtt", ({ rtt }) => {
      this.#heard();
      this.#listener.beat(rtt);
    });
    client.on("error", (error) => this.#listener.tell("bad", error.message));
    client.on("goaway", ({ inMs }) => this.#listener.tell("wait", `The gateway is being stopped and says so: the page moves in ${seconds(inMs)}.`));
    const subscription = client.subscribe(this.#subscription);
    subscription.on("message", ({ data, offset }) => {
      this.#heard();
      this.#listener.heard(data, offset ?? undefined);
    });
    subscription.on("gap", ({ after, next }) => this.#listener.gap(after, next));
    client.connect();
  }

  /** @param {number} now @returns {import("./words.js").Facts} */
  facts(now) {
    const stats = this.client.stats();
    const quiet = now - this.#heardAt;
    return {
      state: this.state,
      reason: this.#reason,
      quiet,
      interval: this.#interval(),
      suspect: this.#isSuspect,
      nextAttempt: this.#nextAttemptAt === null ? null : this.#nextAttemptAt - now,
      attempt: stats.attempts - this.#attemptsBefore,
      away: quiet,
    };
  }

  /**
   * Some of what the client does is nothing that an app needs to be told: here it is looked for.
   * @param {number} now
   */
  tick(now) {
    if (this.state !== "connected") return;
    const { races, attempts } = this.client.stats();
    const quietFor = now - this.#heardAt;
    const hasRival = races > this.#races;
    if (!this.#isSuspect && (hasRival || quietFor >= this.#interval() + WAIT_MAX_MS)) {
      this.#isSuspect = this.#hasAsked = true;
      const then = hasRival ? "A second one is tried beside it." : "A second one will be tried beside it.";
      this.#listener.tell("bad", `No answer, ${seconds(quietFor)} of silence: the line is suspect. ${then}`, "suspect");
    }
    this.#races = races;
    if (!this.#isSuspect) this.#attemptsBefore = attempts;
    if (!this.#hasAsked && quietFor >= this.#interval()) {
      this.#hasAsked = true;
      this.#listener.tell("wait", `Nothing heard for ${seconds(this.#interval()).replace(".0", "")}: asking.`, "asks");
    }
    if (now >= this.#receiptDue) this.#sendReceipt(now);
  }

  #interval() {
    return document.hidden ? HIDDEN_INTERVAL_MS : INTERVAL_MS;
  }

  #heard() {
    this.#heardAt = performance.now();
    this.#hasAsked = false;
    if (!this.#isSuspect) return;
    this.#isSuspect = false;
    this.#listener.tell("good", "The old line has spoken: a false alarm. It is kept, and the second one dropped.");
  }

  /** @param {{resumed: boolean, session: string}} event */
  #connected({ resumed, session }) {
    const quietFor = performance.now() - this.#heardAt;
    const isFirst = this.#isFirst;
    this.#isFirst = this.#isSuspect = false;
    this.#heard();
    this.#listener.up({ isFirst, resumed, quietFor, session });
    if (isFirst) this.#receiptDue = performance.now() + RECEIPT_MS / 2;
  }

  /** @param {{state: string, previous: string, reason: string, nextAttemptInMs: number|null}} event */
  #changed({ state, previous, reason, nextAttemptInMs }) {
    const now = performance.now();
    this.#reason = reason;
    if (state === "connected") return;
    this.#isSuspect = false;
    this.#nextAttemptAt = nextAttemptInMs === null ? null : now + nextAttemptInMs;
    if (this.#isFirst && previous === "idle") this.#heardAt = now;
    if (state === "closed") return this.#listener.tell("bad", `The client has stopped: ${reason}.`);
    if (state === "suspended") return this.#listener.tell("wait", "The browser says that it is offline: no attempts until it is not.");
    if (state !== "reconnecting") return;
    const why = WHY[reason] ?? `The line is gone (${reason}).`;
    const then = nextAttemptInMs === null || nextAttemptInMs < 50 ? "Trying again at once." : `The next try is in ${seconds(nextAttemptInMs)}.`;
    const isNew = previous === "connected";
    this.#listener.tell(isNew ? "bad" : "wait", `${why} ${then}`, isNew ? "no line" : undefined);
  }

  /**
   * So that something travels the other way too. One at a time: what is sent into a dead line is answered when there is
   * a new one.
   * @param {number} sent
   */
  async #sendReceipt(sent) {
    this.#receiptDue = Infinity;
    try {
      await this.client.message(this.#subscription, { seen: this.#listener.seen() });
      this.#heard();
      this.#listener.receipt(performance.now() - sent);
    } catch (error) {
      this.#listener.tell("bad", `The page's own message failed: ${error instanceof Error ? error.message : error}`);
    }
    this.#receiptDue = performance.now() + RECEIPT_MS;
  }
}

/** @type {Record<string, string>} */
const WHY = {
  dead: "Not a word for 5 s more: the page lets the old line go.",
  server_closed: "The line was closed from the other side, or could not be opened.",
  connect_timeout: "No answer to this attempt.",
  online: "The browser is online again.",
  shown: "The page is looked at again.",
  connect: "Asked to connect.",
  late_timer: "This machine was asleep.",
};
