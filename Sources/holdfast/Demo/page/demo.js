/**
 * The demo's page: a client of the gateway over a line that can be cut, and an honest account of what arrives.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
import { CallBoard } from "./calls.js";
import { MovingLine } from "./chart.js";
import { Ledger } from "./ledger.js";
import { Line } from "./line.js";
import { count, describe, plural, range, seconds } from "./words.js";

const TICK_MS = 100;
const POLL_MS = 500;
/** A minute on a thousand pixels moves one pixel in 60 ms. */
const DRAW_MS = 66;
const FIGURES_MS = 1_000;
/** As long as less than this is under way, nothing is said about it. */
const UNDER_WAY = 3;
const LOG_KEPT = 500;

/** What the switch does: cut, restored. */
const SWITCH = {
  lose: [
    "The line was cut: from now on its bytes are swallowed, and neither end is told.",
    "The line was restored. The old connection stays dead, for bytes of it are lost; a new one gets through.",
  ],
  delay: [
    "The line is held up: from now on nothing passes, but nothing is lost.",
    "The line was restored: what was held up arrives.",
  ],
};

/** @param {string} id @returns {any} */
const $ = (id) => document.getElementById(id);

/** The gateway's clock, as far as it can be known from here: the offset seen with the shortest round trip. */
class ServerClock {
  #offset = 0;
  #best = Infinity;

  /** @param {number} sent @param {number} received page time @param {number} server */
  sample(sent, received, server) {
    // What was measured long ago counts a little less with each sample: clocks drift.
    this.#best += 0.01;
    if (received - sent > this.#best) return;
    this.#best = received - sent;
    this.#offset = server - (sent + received) / 2;
  }

  /** @param {number} server @returns {number} page time */
  toPage(server) {
    return server - this.#offset;
  }

  /** @param {number} page @returns {number} */
  toServer(page) {
    return page + this.#offset;
  }
}

class Demo {
  ledger = new Ledger();
  clock = new ServerClock();
  chart = new MovingLine($("chart"));
  board = new CallBoard($("call-rows"), $("no-calls"));
  /** @type {{at: string, tone: string, text: string}[]} */
  log = [];
  /** @type {{after: number|null, next: number|null}[]} in numbers of events */
  gaps = [];
  /** @type {Line} */
  line;
  config;
  stats = { published: 0, run: "", now: 0, cut: false, mode: "lose", swallowed_bytes: 0, swallowed_ends: 0 };

  #run = "";
  #isCut = false;
  /** What was swallowed in earlier cuts. */
  #swallowedBefore = { swallowed_bytes: 0, swallowed_ends: 0 };
  /** Number minus offset in the topic: the same while nobody else publishes to it. */
  #shift = 0;
  /** Since when this line is up, in the server's clock; what was published before was recovered. */
  #upSince = -Infinity;
  /** @type {{recovered: number, quietFor: number}|null} a new line is up, and what was missed is coming in */
  #catchingUp = null;
  #gapOpen = false;

  /** @param {any} config */
  constructor(config) {
    this.config = config;
    const scheme = location.protocol === "https:" ? "wss" : "ws";
    const host = location.hostname.includes(":") ? `[${location.hostname.replace(/[[\]]/g, "")}]` : location.hostname;
    this.line = new Line(`${scheme}://${host}:${config.proxy_port}/socket`, config.subscription, this);
    this.#say("", "This page was opened. It counts from the first event that it gets.");
  }

  start() {
    $("rate").textContent = count(this.config.rate);
    $("node-source").textContent = `${count(this.config.rate)} a second`;
    $("cut").addEventListener("click", () => this.#throwSwitch());
    $("cut").disabled = false;
    this.line.open();
    setInterval(() => this.#tick(), TICK_MS);
    setInterval(() => requestAnimationFrame(() => this.chart.draw(performance.now())), DRAW_MS);
    setInterval(() => this.#showFigures(performance.now()), FIGURES_MS);
  }

  get published() {
    return this.ledger.publishedSinceFirst(this.stats.run === this.#run ? this.stats.published : 0);
  }

  // ── What the line tells

  /** @param {any} data @param {number|undefined} offset */
  heard(data, offset) {
    const now = performance.now();
    if (typeof data?.n !== "number" || typeof data.at !== "number") {
      this.#say("", `Somebody else published: ${JSON.stringify(data)?.slice(0, 200)}`);
      return;
    }
    if (data.run !== this.#run) this.#startRun(data.run);
    if (offset !== undefined) this.#shift = data.n - offset;
    const recovered = data.at < this.#upSince;
    const kind = this.ledger.take(data.n, recovered);
    this.chart.event(now, Math.max(0, now - this.clock.toPage(data.at)), recovered);
    this.#caughtUp(recovered);
    if (kind === "jump") this.#missed();
    if (kind === "doubled") this.#say("bad", `Event ${count(data.n)} came a second time. That must not be.`);
    if (kind === "late") this.#say("bad", `Event ${count(data.n)} came after a later one. That must not be.`);
    if (kind === "doubled" || kind === "late") return;
    this.board.apply(data, this.clock.toServer(now));
    if (!document.hidden) drop($("link"), recovered ? "drop recovered" : "drop");
  }

  /**
   * A line carries the session.
   * @param {{isFirst: boolean, resumed: boolean, quietFor: number, session: string}} up
   */
  up({ isFirst, resumed, quietFor, session }) {
    const now = performance.now();
    $("session").textContent = `session ${session}`;
    if (isFirst) {
      this.#say("good", "The line is up.");
      return;
    }
    this.#upSince = this.clock.toServer(now);
    this.#catchingUp = { recovered: 0, quietFor };
    this.chart.mark(now, "new line");
    this.#say(
      "good",
      resumed
        ? `New line up, ${seconds(quietFor)} after the last word of the old one. The session was waiting: it goes on where it stood.`
        : `New line up, ${seconds(quietFor)} after the last word of the old one. The session had expired: the page asks by position for what came after its last event.`,
    );
  }

  /**
   * The gateway says that something is missing.
   * @param {number|null} after @param {number|null} next offsets
   */
  gap(after, next) {
    const told = {
      after: after === null ? this.ledger.last : after + this.#shift,
      next: next === null ? null : next + this.#shift,
    };
    this.gaps.push(told);
    this.#gapOpen = true;
    this.chart.mark(performance.now(), "gap");
    this.board.doubt(this.clock.toServer(performance.now()));
    const what =
      told.after !== null && told.next !== null
        ? `${range([told.after + 1, told.next - 1])} missing`
        : "some events are missing, it cannot say which";
    this.#say("bad", `Gap: ${what}. The history kept ${plural(this.config.history, "event")} and does not reach back that far, and the gateway says so instead of leaving a hole in silence.`);
  }

  /** @param {number} ms */
  beat(ms) {
    this.chart.beat(performance.now(), ms);
    const lamp = document.querySelector(".lamp");
    lamp?.classList.remove("beat");
    requestAnimationFrame(() => lamp?.classList.add("beat"));
  }

  /**
   * The page's own message was answered.
   * @param {number} ms
   */
  receipt(ms) {
    this.chart.roundTrip(performance.now(), ms);
  }

  seen() {
    return this.ledger.last;
  }

  /** @param {string} tone @param {string} text @param {string} [mark] on the moving line */
  tell(tone, text, mark) {
    if (mark) this.chart.mark(performance.now(), mark);
    this.#say(tone, text);
  }

  // ── Accounts

  /** @param {string} run */
  #startRun(run) {
    if (this.#run) {
      this.ledger = new Ledger();
      this.#say("wait", "The telephone system was started anew: its numbers begin again, and so does this count.");
    }
    this.#run = run;
  }

  /** @param {boolean} recovered whether the event that has just come was */
  #caughtUp(recovered) {
    if (!this.#catchingUp) return;
    if (recovered) {
      this.#catchingUp.recovered++;
      return;
    }
    const { recovered: events } = this.#catchingUp;
    this.#catchingUp = null;
    this.#say("good", events ? `${plural(events, "event")} recovered, each once and in order. Live again.` : "Nothing had been missed. Live again.");
  }

  /** Numbers were skipped: a gap has said so, or nobody has. */
  #missed() {
    const lost = this.ledger.missing[this.ledger.missing.length - 1];
    if (this.#gapOpen) {
      this.#gapOpen = false;
      return;
    }
    this.#say("bad", `Without a word ${range(lost)} missing. That must not be.`);
    this.board.doubt(this.clock.toServer(performance.now()));
  }

  /** @param {string} tone @param {string} text */
  #say(tone, text) {
    const at = new Date().toLocaleTimeString("en-GB");
    this.log.push({ at, tone, text });
    const item = document.createElement("li");
    item.dataset.tone = tone;
    const time = document.createElement("time");
    time.textContent = at;
    const words = document.createElement("span");
    words.textContent = text;
    item.append(time, words);
    $("log").prepend(item);
    if (this.log.length > LOG_KEPT) {
      this.log.shift();
      $("log").lastChild?.remove();
    }
  }

  // ── The switch and the statistics: past the line, to the gateway directly

  async #throwSwitch() {
    const button = $("cut");
    button.disabled = true;
    try {
      const sent = performance.now();
      const response = await fetch("/demo/cut", {
        method: "POST",
        headers: { "Content-Type": "application/json" },
        body: JSON.stringify({ cut: !this.#isCut }),
      });
      if (!response.ok) throw new Error(`${response.status}`);
      this.#learn(await response.json(), sent);
    } catch (error) {
      this.#say("bad", `The switch does not answer: ${error}`);
    } finally {
      button.disabled = false;
    }
  }

  /** Asks once. */
  async poll() {
    const sent = performance.now();
    const response = await fetch("/demo/stats", { cache: "no-store" });
    if (response.ok) this.#learn(await response.json(), sent);
  }

  async pollForEver() {
    for (;;) {
      await new Promise((resolve) => setTimeout(resolve, POLL_MS));
      // The gateway may be away; the line says more about that than this.
      await this.poll().catch(() => {});
    }
  }

  /** @param {any} stats @param {number} sent */
  #learn(stats, sent) {
    const now = performance.now();
    this.clock.sample(sent, now, stats.now);
    const published = stats.run === this.stats.run ? stats.published - this.stats.published : 0;
    this.stats = stats;
    if (!document.hidden) {
      for (let i = 0; i < Math.min(published, 5); i++) setTimeout(() => drop($("link-source"), "drop"), (i * POLL_MS) / published);
    }
    if (stats.cut === this.#isCut) return;
    this.#isCut = stats.cut;
    this.#swallowedBefore = stats;
    this.chart.cut(now, stats.cut);
    this.#say(stats.cut ? "bad" : "", SWITCH[stats.mode === "delay" ? "delay" : "lose"][stats.cut ? 0 : 1]);
  }

  // ── What is to be seen

  #tick() {
    const now = performance.now();
    this.line.tick(now);
    const facts = this.line.facts(now);
    const { tone, title, detail } = describe(facts);
    $("hero").dataset.tone = tone;
    setText("state-title", title);
    setText("state-detail", detail);
    // Counting seconds aloud helps nobody.
    setText("state-spoken", title.replace(/\d+ s$/, "a moment"));
    const isStale = facts.quiet > 1_500 && this.ledger.last !== null;
    $("calls").toggleAttribute("data-stale", isStale);
    setText("stale", isStale ? `as of ${seconds(facts.quiet)} ago` : "");
    this.board.tick(this.clock.toServer(now), !isStale);
    this.#showSwitch();
    this.#showCounters();
  }

  #showSwitch() {
    const bytes = this.stats.swallowed_bytes - this.#swallowedBefore.swallowed_bytes;
    const ends = this.stats.swallowed_ends - this.#swallowedBefore.swallowed_ends;
    $("cut").toggleAttribute("data-cut", this.#isCut);
    $("link").toggleAttribute("data-cut", this.#isCut);
    setText("cut-text", this.#isCut ? "Restore the line" : "Cut the line");
    setText("swallowed", this.#isCut && bytes > 0 ? `${bytesText(bytes)}${ends ? ` and ${ends} FIN` : ""} swallowed` : "");
  }

  #showCounters() {
    const { ledger } = this;
    const waiting = this.published - ledger.received - ledger.lost;
    setText("published", count(this.published));
    setText("received", count(ledger.received));
    setText("recovered", count(ledger.recovered));
    for (const [id, value] of /** @type {const} */ ([["doubled", ledger.doubled], ["out-of-order", ledger.outOfOrder], ["lost", ledger.lost]])) {
      setText(id, count(value));
      $(id).closest(".tile").toggleAttribute("data-bad", value > 0);
    }
    const isBehind = waiting > UNDER_WAY;
    setText("received-note", isBehind ? `${count(waiting)} to come` : ledger.lost ? "all but the lost" : "all of them");
    setText("lost-note", ledger.missing.length ? ledger.missing.slice(-2).map(([from, to]) => (from === to ? `${from}` : `${from}–${to}`)).join(", ") : "will not come");
    setText("node-gateway", isBehind ? `keeps ${count(waiting)} for this page` : "nothing waits");
    setText("node-page", `${count(ledger.received)} received`);
  }

  /** @param {number} now */
  #showFigures(now) {
    const { delay, worst, roundTrip, beats } = this.chart.figures(now);
    const parts = [plural(beats, "heartbeat")];
    if (roundTrip !== null) parts.push(`there and back in ${duration(roundTrip)}`);
    if (delay !== null && worst !== null) parts.push(`events took ${duration(delay)}, at worst ${duration(worst)}`);
    setText("chart-figures", `In the last minute: ${parts.join("; ")}.`);
  }
}

/** @param {number} bytes */
function bytesText(bytes) {
  return bytes < 1000 ? plural(bytes, "byte") : `${(bytes / 1000).toFixed(bytes < 100_000 ? 1 : 0)} kB`;
}

/** @param {number} ms */
function duration(ms) {
  return ms < 1 ? "less than 1 ms" : ms < 999.5 ? `${Math.round(ms)} ms` : seconds(ms);
}

/** @param {string} id @param {string} text */
function setText(id, text) {
  const node = $(id);
  if (node.textContent !== text) node.textContent = text;
}

/**
 * An event on its way along a wire.
 * @param {HTMLElement} link @param {string} className
 */
function drop(link, className) {
  if (matchMedia("(prefers-reduced-motion: reduce)").matches || link.getElementsByClassName("drop").length > 12) return;
  const dot = document.createElement("i");
  dot.className = className;
  link.append(dot);
  dot.animate({ transform: ["translateX(0)", "translateX(100%)"] }, { duration: 420, easing: "ease-in-out" }).finished.finally(() => dot.remove());
}

async function main() {
  const response = await fetch("/demo/config", { cache: "no-store" });
  const demo = new Demo(await response.json());
  // The first answer comes over a connection that has to be opened: not the one to set a clock by.
  for (let i = 0; i < 3; i++) await demo.poll();
  demo.start();
  void demo.pollForEver();
  // For tests, and for the curious.
  Object.defineProperty(window, "demo", {
    value: {
      get published() { return demo.published; },
      get received() { return demo.ledger.received; },
      get recovered() { return demo.ledger.recovered; },
      get doubled() { return demo.ledger.doubled; },
      get lost() { return demo.ledger.lost; },
      get outOfOrder() { return demo.ledger.outOfOrder; },
      get numbers() { return demo.ledger.numbers; },
      get missing() { return demo.ledger.missing; },
      get gaps() { return demo.gaps; },
      get state() { return demo.line.state; },
      get log() { return demo.log; },
      get client() { return demo.line.client; },
    },
  });
}

main().catch((error) => {
  $("state-title").textContent = "The demo does not start";
  $("state-detail").textContent = String(error);
  throw error;
});
