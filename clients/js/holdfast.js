/**
 * Holdfast: events reach the page, and reach it again after the line was cut.
 *
 * One module without dependencies, in three sections:
 *   1. The machines. They do no IO and know no clock and no randomness: facts and the time go in, actions come out.
 *      The same scenarios (Tests/Scenarios) run against these and against the Swift machines.
 *   2. The driver. It carries actions out with a WebSocket, a timer and the page's events, and hands facts back.
 *   3. The public API: `Holdfast` and `Subscription`.
 *
 * SPDX-License-Identifier: Apache-2.0
 */

/*
 * ── 1. The machines ─────────────────────────────────────────────────────────────────────────────────────────────────
 *
 * `machine.handle(input, now)` returns a list of actions, to be carried out in that order. `now` and every other time
 * is in whole milliseconds of a monotonic clock. A "line" is one transport connection; the session outlives its lines.
 *
 * Inputs
 *   connect                                     the app wants to be connected (again), and at once
 *   close                                       the app has finished
 *   subscribe    id subscription since? fields? `since`: the position after which the app wants messages
 *   unsubscribe  id subscription
 *   message      id subscription data fields?   answered by `reply` with the same id
 *   opened       line auth?                     the line is open; `auth`: the event that authenticates a new session
 *   receive      line text                      a text frame
 *   heard        line                           a comment of a stream; or an answer has ended, of a poll or of the first request
 *   cut          line                           the request that listens ended without a word of the server, or failed
 *   closed       line code reason? retryAfter?  the line failed or ended; `retryAfter`: seconds, or [from, to]
 *   timer                                       the time of the last `timer` action has come
 *   hidden, shown                               the page
 *   offline, online                             the network, as far as the platform knows
 *   doubt                                       something happened that often kills lines: ask
 *   changed                                     this is another network now
 *   probe                                       the app wants a WebSocket to be tried now
 *   memory       memory                         what was remembered: before `connect`, and when another tab has changed it
 *
 * Actions
 *   open         line transport                 open a line; answered by `opened` or `closed`
 *   send         line text seq?                 one event; `seq`: its number, or that of the next counted one (HTTP, behind hello)
 *   listen       line transport received wait?  "stream", or one "poll" of so many seconds. It ends the one before
 *   close        line code?                     forget the line: detach from it, close it, wait for nothing
 *   timer        at                             the one timer, replaces the one before; null: none
 *   state        state previous reason nextAttemptAt?
 *   connected    resumed event                  a line carries the session; `event`: the reply to hello
 *   subscribed   subscription since? event      `event`: the reply. With `since` and event.recovered: nothing was lost
 *   unsubscribed subscription event             it has ended: by the app, by the server, or refused
 *   message      event                          a message, once and in order
 *   gap          subscription after next        messages after+1 … next-1 are lost; null: not known
 *   reply        id event                       the answer to a command: the server's, or made here (event.code)
 *   rtt          rtt srtt                       a ping was answered
 *   goaway       at event                       the server wants us elsewhere; a new line is opened at that time
 *   remember     memory                         keep this in place of the memory before; null: forget it
 *   error        code error …                   something that the app should know; nothing has to be done
 *
 * A line is a WebSocket, or HTTP: "stream" or "poll". On HTTP nothing is connected, so `opened` comes at once. The events
 * that one turn sends travel together, the first of them to POST /session (hello, or a probe), later ones to …/send. Of its
 * answers each event is a `receive`; the count that /send answers is an event `ack`. The first `heard` ends the answer to
 * hello: now the machine listens, because now it knows what it has received.
 *
 * Reasons of `state`: connect, new_session, resumed, line_closed, dead, connect_timeout, hello_refused, bad_count, offline,
 *   online, shown, doubt, late_timer; and of closed: closed_by_app, replaced, forbidden, authentication_expired, max_attempts.
 * Codes of `error` made here: unreadable, bad_count, hello_refused, server_error (where the server gives no code),
 *   protocol_error, replaced, forbidden, authentication_expired, max_attempts. Codes of replies made here: closed, queue_full, too_big.
 */

/** @typedef {{epoch: string, offset: number}} Position */
/** @typedef {Record<string, any>} WireEvent one event of the protocol, as parsed */
/** @typedef {"idle"|"connecting"|"connected"|"suspended"|"reconnecting"|"closed"} State */
/** @typedef {number|[number, number]} RetryAfter seconds */
/** @typedef {"websocket"|"stream"|"poll"} Transport */
/** @typedef {"unknown"|"works"|"blocked"|"resting"} WebSocketStanding what is known of WebSockets on the way to the server */
/**
 * @typedef {object} Memory what is known of WebSockets on the way to this server; times of the machine's clock
 * @property {1} v
 * @property {number[]} attempts the last WebSockets that were of no use, or have not proven it yet; in order
 * @property {number} strikes WebSockets in a row that never answered, while the fallback works
 * @property {number|null} until the end of the verdict "blocked"; it stands until a WebSocket has lived, also when it is over
 * @property {number} term of the verdict, in ms
 * @property {number} deaths WebSockets in a row that died young
 * @property {number|null} life the shortest of these, in ms
 * @property {number|null} rest no WebSocket before this, because of deaths
 * @property {number|null} pollUntil no stream before this
 */
/**
 * @typedef {{type: "connect"} | {type: "close"} | {type: "timer"} | {type: "doubt"}
 *   | {type: "hidden"} | {type: "shown"} | {type: "offline"} | {type: "online"}
 *   | {type: "subscribe", id: string, subscription: string, since?: Position, fields?: WireEvent}
 *   | {type: "unsubscribe", id: string, subscription: string}
 *   | {type: "message", id: string, subscription: string, data: unknown, fields?: WireEvent}
 *   | {type: "opened", line: number, auth?: WireEvent}
 *   | {type: "receive", line: number, text: string}
 *   | {type: "heard", line: number} | {type: "cut", line: number}
 *   | {type: "changed"} | {type: "probe"} | {type: "memory", memory: unknown}
 *   | {type: "closed", line: number, code: number, reason?: string, retryAfter?: RetryAfter}} Input
 */
/**
 * @typedef {{type: "open", line: number, transport: Transport}
 *   | {type: "send", line: number, text: string, seq?: number}
 *   | {type: "listen", line: number, transport: Transport, received: number, wait?: number}
 *   | {type: "remember", memory: Memory|null}
 *   | {type: "close", line: number, code?: number}
 *   | {type: "timer", at: number|null}
 *   | {type: "state", state: State, previous: State, reason: string, nextAttemptAt?: number}
 *   | {type: "connected", resumed: boolean, event: WireEvent}
 *   | {type: "subscribed", subscription: string, since?: Position, event: WireEvent}
 *   | {type: "unsubscribed", subscription: string, event: WireEvent}
 *   | {type: "message", event: WireEvent}
 *   | {type: "gap", subscription: string, after: number|null, next: number|null}
 *   | {type: "reply", id: string, event: WireEvent}
 *   | {type: "rtt", rtt: number, srtt: number}
 *   | {type: "goaway", at: number, event: WireEvent}
 *   | {type: "error", code: string, error: string, closeCode?: number, event?: WireEvent}} Action
 */
/**
 * @typedef {object} MachineOptions
 * @property {() => number} random in [0, 1); asked only when a delay is drawn from a range that is not empty
 * @property {{name: string, version: string}} [client] for `hello`
 * @property {boolean} [credentials] whether `opened` brings `auth`, so that 4001 can be answered by asking anew
 * @property {number} [connectTimeout] ms for a line to open, and again for each answer that it then owes (default 10,000)
 * @property {number} [queueBytes] limit of commands kept (default 1 MiB)
 * @property {number} [maxAttempts] lines in a row that were of no use (default: no limit)
 * @property {Transport[]} [transports] that may be used (default: all)
 */

const NEVER = Infinity; // the time of what is not planned
const USEFUL_MS = 10_000; // A connection that lived this long was useful: the backoff starts over.
const RACE_PAUSE_MS = 10_000; // No second race within this time after one that the old line won.
const STALE_ATTEMPT_MS = 1_000; // In doubt, an attempt older than this is begun anew: its SYN may wait for a retransmission.
const WAIT_MIN_MS = 1_000;
const WAIT_MAX_MS = 2_000;
const ACK_EVENTS = 256;
const ACK_BYTES = 65_536;
/** A slow uplink needs time for what stands in the queue before the ping: 64 KiB/s, in steps so that little events do not count. */
const UPLINK_STEP_BYTES = 16_384;
const UPLINK_STEP_MS = 250;
const FALLBACK_MS = 2_000; // A WebSocket that has not answered by then gets the fallback beside it.
const FIRST_WORD_MS = 3_000; // A stream that says nothing for so long is kept in some proxy's buffer.
const STREAM_SLACK_MS = 1_000; // The server's comments come every interval.
const CUT_MS = 1_000; // A request to listen that ended sooner has failed. Otherwise some proxy does not like long ones.
const LIVED_MS = 60_000; // A WebSocket that lived this long works here.
const SECOND_TRY_MS = 30_000;
const BUDGET_MS = 900_000; // In any time so long at most BUDGET WebSockets of no use, while the fallback works.
const BUDGET = 2;
const ATTEMPTS_KEPT = 8;
const TERM_MS = 3_600_000;
const TERM_MAX_MS = 86_400_000;
const REST_MS = 900_000;
const STREAM_DIED_MS = 900_000;
const STREAM_BUFFERED_MS = 3_600_000;
const STAGGER_MS = 10_000; // Tabs that wait for the same moment try one after the other: the next one knows how it went.
const SAME_ATTEMPT_MS = 100; // Times pass through the wall clock of each tab, and come back a little different.

/** When to try again. Full jitter: with anything less, clients that were dropped together come back together. */
class Backoff {
  failures = 0; // lines since the last useful one that did not open, or did not live long enough to be useful
  spread = 1_000; // ms, from the last hello: over how long the server wants its clients to come back

  #random;

  /** @param {() => number} random */
  constructor(random) {
    this.#random = random;
  }

  /** @param {number} from @param {number} to */
  between(from, to) {
    return to > from ? from + Math.floor(this.#random() * (to - from)) : from;
  }

  /** The server's advice in ms. A single number is spread too, else all that got it would come at the same moment.
   * @param {unknown} advice seconds
   * @returns {[number, number]|undefined} */
  range(advice) {
    const [from, to] = typeof advice === "number" ? [advice, advice + this.spread / 1000] : Array.isArray(advice) ? advice : [];
    const good = typeof from === "number" && typeof to === "number" && from >= 0 && to >= from && to < Infinity;
    return good ? [Math.round(from * 1000), Math.round(to * 1000)] : undefined;
  }

  /**
   * @param {boolean} suspected it was our own suspicion that ended the line, so nobody else lost theirs
   * @param {boolean} hidden
   * @param {[number, number]} [advice] moves the range, and never shortens it
   */
  delay(suspected, hidden, advice) {
    const cap = hidden ? 300_000 : Math.min(Math.max(10_000, 2 * this.spread), 120_000);
    let to = suspected ? 0 : this.spread;
    if (this.failures > 0) to = Math.min(cap, Math.max(this.spread, 500 * 2 ** Math.min(this.failures, 16)));
    return advice ? this.between(advice[0], Math.max(advice[1], to)) : this.between(0, to);
  }
}

/** The round-trip time, estimated as in RFC 6298. Pings carry a number of their own, so no sample is ambiguous. */
class RoundTrip {
  /** @type {number|null} */
  srtt = null;
  #rttvar = 0;

  /** @param {number} rtt */
  sample(rtt) {
    if (this.srtt === null) {
      this.srtt = rtt;
      this.#rttvar = rtt / 2;
    } else {
      this.#rttvar = 0.75 * this.#rttvar + 0.25 * Math.abs(this.srtt - rtt);
      this.srtt = 0.875 * this.srtt + 0.125 * rtt;
    }
  }

  /** How long a pong may take before the line is suspect. Short, because a suspicion costs only a race. */
  wait() {
    if (this.srtt === null) return WAIT_MAX_MS;
    return Math.min(Math.max(Math.ceil(this.srtt + 4 * this.#rttvar + 500), WAIT_MIN_MS), WAIT_MAX_MS);
  }
}

/** Whether the line lives: quiet → ping → suspect → dead. Anything heard starts over. */
class Liveness {
  visible = 4_000; // ms of quiet until a ping
  hidden = 25_000;
  isHidden = false;
  timeout = 5_000;
  slack = 0; // of the transport: how much longer it may be quiet
  #heardAt = 0;
  #wait = 0;
  /** @type {number|null} a ping is out and nothing was heard since */
  askedAt = null;
  doubted = false;
  /** @type {number|null} */
  suspectAt = null;

  get interval() {
    return this.isHidden ? this.hidden : this.visible;
  }

  /**
   * @param {number} now
   * @param {boolean} [answer] to our last ping
   * @returns {boolean} whether the line was suspect until now
   */
  heard(now, answer = false) {
    const wasSuspect = this.suspectAt !== null;
    this.#heardAt = now;
    // In doubt only the answer is proof: what else comes may have been on its way, or in a buffer while we slept.
    if (this.doubted && !wasSuspect && !answer) return false;
    this.askedAt = this.suspectAt = null;
    this.doubted = false;
    return wasSuspect;
  }

  /**
   * @param {number} now
   * @param {number} wait
   * @param {boolean} doubted
   */
  asked(now, wait, doubted) {
    this.askedAt = now;
    this.#wait = wait;
    this.doubted = doubted;
    // A suspect line gets its whole time again: a page that wakes up must not throw a good line away.
    if (this.suspectAt !== null) this.suspectAt = now;
  }

  next() {
    if (this.suspectAt !== null) return this.suspectAt + this.timeout;
    if (this.askedAt !== null) return this.askedAt + this.#wait;
    return this.#heardAt + this.interval + this.slack;
  }

  /** @param {number} now @returns {"ping"|"suspect"|"dead"|null} */
  due(now) {
    if (now < this.next()) return null;
    if (this.suspectAt !== null) return "dead";
    if (this.askedAt === null) return "ping";
    this.suspectAt = now;
    return "suspect";
  }
}

/** @returns {Memory} */
const nothingKnown = () => ({ v: 1, attempts: [], strikes: 0, until: null, term: TERM_MS, deaths: 0, life: null, rest: null, pollUntil: null });

/**
 * Which transport is tried when. "The server is away" and "this network eats WebSockets" are two facts: a WebSocket that
 * failed says the second only if the fallback works meanwhile. What failed waits for this evidence; where the fallback
 * fails too, nothing is counted. What counts is remembered, and so holds over reloads and tabs.
 */
class Ladder {
  #memory = nothingKnown();
  #news = false; // it has changed, and nobody was told
  #transports;
  #climbs; // whether there is anything to choose
  /** @type {number|null} the WebSocket that has not answered yet. Attempts are named by their time */
  #attempt = null;
  /** @type {number[]} those that failed, and it is not known yet whether the fallback works */
  #unanswered = [];
  /** @type {number|null} the same of one that died young, and not for the first time */
  #dying = null;
  /** @type {{attempt: number, since: number}|null} the WebSocket that has answered, until it has lived */
  #life = null;
  /** @type {number[]} attempts that we have put into the memory. Another tab may write without knowing them */
  #own = [];
  #diedAt = -NEVER; // the last death that we know of, ours or another tab's
  /** @type {number|null} an attempt is wanted, in spite of a verdict */
  #asked = null;
  #outages = 0; // rounds in a row in which the fallback failed

  /** @param {Transport[]} transports */
  constructor(transports) {
    this.#transports = transports;
    this.polls = transports.includes("poll");
    this.#climbs = transports.includes("websocket") && transports.length > 1;
  }

  // ── Questions

  /** @param {number} now @returns {Transport|undefined} */
  fallback(now) {
    if (this.polls && now < (this.#memory.pollUntil ?? 0)) return "poll";
    return this.#transports.find((transport) => transport !== "websocket");
  }

  /** Nothing but a WebSocket is left, whatever is known of it. */
  get desperate() {
    return this.#climbs && this.#outages >= 2;
  }

  /** From when on a WebSocket may be tried. It does not move with the clock. */
  get due() {
    if (!this.#climbs) return this.#transports[0] === "websocket" ? -NEVER : NEVER;
    if (this.#dying !== null) return NEVER;
    const { attempts, strikes, until, rest } = this.#memory;
    const budget = (attempts.at(-BUDGET) ?? -NEVER) + BUDGET_MS;
    if (this.#asked !== null) return Math.max(budget, this.#asked);
    const again = strikes ? (attempts.at(-1) ?? -NEVER) + SECOND_TRY_MS : -NEVER;
    return Math.max(budget, again, until ?? -NEVER, rest ?? -NEVER);
  }

  /**
   * What a round starts with.
   * @param {number} now
   * @param {boolean} suspect the line that carries the session is
   */
  start(now, suspect) {
    const { deaths, until } = this.#memory;
    const dies = suspect && this.#young(now) && (deaths > 0 || until !== null);
    return ((this.due > now || dies) && this.fallback(now)) || "websocket";
  }

  /** The longest quiet that a WebSocket may have, where they died young. */
  get quiet() {
    const { deaths, life } = this.#memory;
    return deaths >= 2 && life !== null ? Math.max(1_000, Math.floor(life / 2)) : NEVER;
  }

  /** When the WebSocket has lived, if there is something to forget then. */
  get livedAt() {
    return this.#life && !this.#blank ? this.#life.since + LIVED_MS : NEVER;
  }

  /**
   * @param {number} now
   * @param {Transport|null} carrier what carries the session
   * @returns {{websocket: WebSocketStanding, blockedUntil: number|null}}
   */
  verdict(now, carrier) {
    const { until, rest } = this.#memory;
    if (carrier === "websocket") return { websocket: "works", blockedUntil: null };
    if (now < (until ?? 0)) return { websocket: "blocked", blockedUntil: until };
    return { websocket: now < (rest ?? 0) ? "resting" : "unknown", blockedUntil: null };
  }

  /** @returns {Memory|null|undefined} what is to be kept from now on; undefined: as before */
  news() {
    if (!this.#news) return undefined;
    this.#news = false;
    return this.#blank ? null : { ...this.#memory, attempts: [...this.#memory.attempts] };
  }

  // ── Facts

  /**
   * A WebSocket is tried.
   * @param {number} now
   * @param {boolean} desperate no fallback works that could be counted against it
   */
  opened(now, desperate) {
    if (!this.#climbs) return;
    this.#grown(now);
    this.#asked = null;
    this.#attempt = now;
    if (!desperate) this.#enter(now);
  }

  /**
   * It has answered hello.
   * @param {number} now
   */
  answered(now) {
    if (this.#attempt !== null) this.#life = { attempt: this.#attempt, since: now };
    this.passed();
  }

  /** WebSockets answer here: the undecided ones were of no use for another reason. */
  passed() {
    if (this.#attempt !== null) this.#unanswered.push(this.#attempt);
    this.#attempt = null;
    this.#forgive();
  }

  /** It was not answered. */
  failed() {
    if (this.#attempt !== null && this.#own.includes(this.#attempt)) this.#unanswered.push(this.#attempt);
    this.#attempt = null;
  }

  /**
   * The WebSocket that carried the session is gone.
   * @param {number} now
   * @param {boolean} abnormal nobody said why
   */
  ended(now, abnormal) {
    const life = this.#young(now) && abnormal ? this.#life : null;
    this.#life = null;
    if (!life) return;
    const memory = this.#memory;
    this.#enter(life.attempt);
    memory.life = Math.min(memory.life ?? NEVER, now - life.since);
    // What kills the lines of all tabs at once is one death.
    if (life.since >= this.#diedAt) memory.deaths = Math.min(memory.deaths + 1, 3);
    this.#diedAt = now;
    if (memory.deaths >= 2 || memory.until !== null) this.#dying = life.attempt;
  }

  /** It has lived, so WebSockets work here: all is forgotten, but for what the budget has spent. */
  lived() {
    this.#life = this.#dying = null;
    this.#memory = { ...nothingKnown(), attempts: this.#memory.attempts };
    this.#news = true;
  }

  /**
   * The fallback works, so what failed has itself to blame.
   * @param {number} now
   */
  works(now) {
    const memory = this.#memory;
    let guilty = memory.until !== null;
    if (this.#unanswered.length) guilty ||= ++memory.strikes >= 2;
    else if (this.#dying === null) return;
    if (this.#dying !== null) guilty ||= memory.deaths >= 3;
    if (guilty) this.#block(now);
    else if (this.#dying !== null) memory.rest = now + REST_MS;
    this.#unanswered = [];
    this.#dying = null;
    this.#news = true;
  }

  /** It has carried more than hello. */
  carries() {
    this.#outages = 0;
  }

  /** The fallback has failed too: the server is away, or the whole network. */
  away() {
    this.#outages++;
    if (this.#dying !== null) {
      this.#memory.deaths = Math.max(0, this.#memory.deaths - 1);
      this.#unanswered.push(this.#dying);
    }
    this.#dying = null;
    this.#forgive();
  }

  /** The app has finished in the middle of it: what stands in the memory stays there, as if the page were gone. */
  left() {
    this.#attempt = this.#dying = this.#life = null;
    this.#unanswered = [];
  }

  /**
   * Another network, or the app's wish.
   * @param {number} now
   */
  ask(now) {
    if (this.#attempt === null && !this.#life) this.#asked = now;
  }

  /**
   * Streams do not come through.
   * @param {number} until
   */
  poll(until) {
    this.#memory.pollUntil = until;
    this.#news = this.#climbs;
  }

  /**
   * What we, or another tab, have remembered. Perhaps nonsense.
   * @param {any} memory
   * @param {number} now
   */
  recall(memory, now) {
    if (!this.#climbs) return;
    /** @param {unknown} value @param {number} from @param {number} to @returns {number|null} */
    const number = (value, from, to) => (typeof value === "number" && value >= from ? Math.floor(Math.min(value, to)) : null);
    const given = memory?.v === 1 ? memory : {};
    // A clock that was put back has left attempts in the future.
    const recent = (/** @type {unknown} */ at) => typeof at === "number" && at > now - BUDGET_MS && at <= now + SAME_ATTEMPT_MS;
    const attempts = Array.isArray(given.attempts) ? given.attempts.filter(recent).map(Math.floor) : [];
    const { deaths } = this.#memory;
    this.#grown(now);
    this.#memory = {
      v: 1,
      attempts,
      strikes: number(given.strikes, 0, 2) ?? 0,
      until: number(given.until, -NEVER, now + TERM_MAX_MS),
      term: number(given.term, TERM_MS, TERM_MAX_MS) ?? TERM_MS,
      deaths: number(given.deaths, 0, 3) ?? 0,
      life: number(given.life, 0, LIVED_MS),
      rest: number(given.rest, -NEVER, now + REST_MS),
      pollUntil: number(given.pollUntil, -NEVER, now + STREAM_BUFFERED_MS),
    };
    if (this.#memory.deaths > deaths) this.#diedAt = now;
    this.#sort();
    // The other tab could not know what we have just written. What it has left out as too old stays out, or this had no end.
    const full = this.#memory.attempts.length === ATTEMPTS_KEPT;
    for (const at of this.#own.splice(0).filter(recent)) {
      if (this.#find(at) >= 0) this.#own.push(at);
      else if (!full || at > this.#memory.attempts[0]) this.#enter(at);
    }
  }

  // ── Within

  get #blank() {
    const { attempts, strikes, until, deaths, rest, pollUntil } = this.#memory;
    return !attempts.length && !strikes && !deaths && (until ?? rest ?? pollUntil) === null;
  }

  /** @param {number} now */
  #young(now) {
    return this.#life !== null && now - this.#life.since < LIVED_MS;
  }

  /**
   * A WebSocket that has lived vouches for what was before, and not for what comes.
   * @param {number} now
   */
  #grown(now) {
    if (!this.#young(now)) this.#life = null;
  }

  /** @param {number} now */
  #block(now) {
    const memory = this.#memory;
    // Doubled where the attempt at its end has failed; another one changes nothing that was not known.
    if (memory.until !== null && memory.until <= now) memory.term = Math.min(2 * memory.term, TERM_MAX_MS);
    memory.until = now + memory.term;
    memory.strikes = 0;
  }

  /** @param {number} attempt */
  #enter(attempt) {
    this.#own.push(attempt);
    this.#memory.attempts.push(attempt);
    this.#sort();
    this.#news = true;
  }

  #sort() {
    const { attempts } = this.#memory;
    attempts.sort((a, b) => a - b).splice(0, attempts.length - ATTEMPTS_KEPT);
  }

  /** @param {number} attempt */
  #find(attempt) {
    return this.#memory.attempts.findIndex((at) => Math.abs(at - attempt) <= SAME_ATTEMPT_MS);
  }

  /** Takes the undecided ones out of the memory. */
  #forgive() {
    for (const attempt of this.#unanswered.splice(0)) {
      this.#own = this.#own.filter((at) => at !== attempt);
      const index = this.#find(attempt);
      if (index < 0) continue;
      this.#memory.attempts.splice(index, 1);
      this.#news = true;
    }
  }
}

/**
 * @typedef {object} Command
 * @property {string} id absent: no reply is awaited
 * @property {string} kind
 * @property {string} subscription
 * @property {string} text
 * @property {number} bytes of UTF-8
 * @property {Topic} [topic] that an unsubscribe ends
 * @property {number} holds the lists of the outbox that it is in
 */

/**
 * What was sent and is not yet counted by the server (repeated after a resume), and what has no reply yet (repeated
 * in a new session). A command takes room until it is neither.
 */
class Outbox {
  bytes = 0;
  /** Events of this session that the server has counted. */
  acknowledged = 0;
  /** @type {Command[]} number acknowledged+1, +2, … of this session */
  unacknowledged = [];
  /** @type {Map<string, Command>} in the order of the app's calls */
  #unanswered = new Map();

  /** @param {number} limit bytes */
  constructor(limit) {
    this.limit = limit;
  }

  /**
   * Awaits the reply.
   * @param {Command} command
   */
  await(command) {
    this.#hold(command);
    this.#unanswered.set(command.id, command);
  }

  /**
   * Counts it into the session.
   * @param {Command} command @param {boolean} [first] before all that is not acknowledged
   */
  post(command, first = false) {
    this.#hold(command);
    if (first) this.unacknowledged.unshift(command);
    else this.unacknowledged.push(command);
  }

  /** @param {unknown} received the server's count @returns {boolean} false: the count cannot be */
  acknowledge(received) {
    const news = /** @type {number} */ (received) - this.acknowledged;
    if (!Number.isSafeInteger(received) || news < 0 || news > this.unacknowledged.length) return false;
    for (const command of this.unacknowledged.splice(0, news)) this.#release(command);
    this.acknowledged += news;
    return true;
  }

  /** @param {string} id @returns {Command|undefined} */
  answer(id) {
    const command = this.#unanswered.get(id);
    if (!command) return undefined;
    this.#unanswered.delete(id);
    this.#release(command);
    return command;
  }

  /** How many events this session has. */
  get posted() {
    return this.acknowledged + this.unacknowledged.length;
  }

  /** What the server has perhaps yet to receive. */
  unacknowledgedBytes() {
    return this.unacknowledged.reduce((sum, command) => sum + command.bytes, 0);
  }

  /** Takes a message out that the server will not have. Those after it move up: it was never counted. */
  removeBiggest() {
    let biggest;
    for (const command of this.unacknowledged) {
      if (command.kind === "message" && command.holds > 1 && command.bytes > (biggest?.bytes ?? 0)) biggest = command;
    }
    if (!biggest) return undefined;
    this.unacknowledged.splice(this.unacknowledged.indexOf(biggest), 1);
    this.#release(biggest);
    return this.answer(biggest.id);
  }

  /**
   * A new session counts from nought.
   * @returns {Command[]} what has no reply, in order
   */
  restart() {
    for (const command of this.unacknowledged.splice(0)) this.#release(command);
    this.acknowledged = 0;
    return [...this.#unanswered.values()];
  }

  /** @param {Command} command */
  #hold(command) {
    if (!command.holds++) this.bytes += command.bytes;
  }

  /** @param {Command} command */
  #release(command) {
    if (!--command.holds) this.bytes -= command.bytes;
  }
}

/**
 * @typedef {object} Line
 * @property {number} id
 * @property {Transport} transport of a stream that is buffered: "poll"
 * @property {number} openedAt when it was asked to open
 * @property {"opening"|"probing"|"hello"|"live"} phase
 * @property {number} phaseAt start of the phase
 * @property {boolean} [resuming] its hello asked for our session
 * @property {WireEvent} [auth]
 * @property {number} listenAt HTTP: when it began to listen, the last time
 * @property {number} [wait] ms, of the poll
 * @property {boolean} [spoke] something came to the one who listens
 * @property {number} wordBy by then the stream has to have said something
 */
/**
 * @typedef {object} Topic one subscription
 * @property {string} id of its command, also when the machine repeats it
 * @property {string} name
 * @property {WireEvent} fields
 * @property {Position|null} position of the last message that went to the app
 * @property {Position} [since] sent with the subscribe that is under way
 * @property {boolean} [active] the server has confirmed it in this session
 * @property {boolean} [before] it was confirmed in an earlier session
 */

/**
 * The client's side of a session.
 *
 * At most two lines exist: `main`, which carries the session or is about to, and beside a live main a `rival`, which is
 * to replace it because main is suspect or the server says goaway. A rival asks `probe` first. Whoever speaks first
 * wins: main speaks, the rival is dropped and the server never noticed; the rival speaks, main is dropped *before* the
 * session is moved by hello, so that nothing is taken from main that the server will repeat on the rival.
 *
 * A round is one try for a line, on one transport and then, if that one fails or does not answer, on the other. What it
 * starts with, the ladder says. A WebSocket that is tried beside a working fallback is a rival too, and probes.
 */
export class ConnectionMachine {
  /** @type {State} */
  state = "idle";
  /** @type {Map<string, Topic>} */
  topics = new Map();
  #backoff;
  #outbox;
  #roundTrip = new RoundTrip();
  #liveness = new Liveness();
  #ladder;
  #counts = { attempts: 0, races: 0, resumed: 0, sessions: 0, duplicates: 0, gaps: 0 };

  /** @type {Action[]} */
  #actions = [];
  #now = 0;
  #options;
  /** @type {Line|null} */
  #main = null;
  /** @type {Line|null} */
  #rival = null;
  #lastLine = 0;
  #offline = false;
  /** @type {string|null} */
  #session = null;
  #received = 0; // events of the server in this session
  #acked = 0; // of these, what we have told it
  #ackBytes = 0; // their bytes since
  #ackAt = NEVER;
  #countAt = NEVER; // by then we want a count from the server
  /** @type {{data: string, at: number}|null} */
  #ping = null;
  #pings = 0;
  #pongBy = NEVER; // by then our own direction is taken for dead, even if the line carries events
  #attemptAt = NEVER;
  #attemptNotBefore = 0; // the server's advice, which no doubt may shorten
  #raceNotBefore = 0;
  /** @type {"goaway"|"deaf"|null} main works, and yet the session is to move */
  #moving = null;
  /** @type {"fallback"|"websocket"|null} whose turn it is in this round when what is tried fails */
  #next = null;
  /** @type {[number, number]|undefined} of the server, in this round */
  #advice;
  #climbDue = NEVER; // from when on a WebSocket may be tried beside the fallback
  #climbAt = NEVER; // and when it will
  #waitCap = NEVER; // ms; longer polls are cut by somebody
  #liveAt = 0; // when the last hello was answered
  #forgiven = false; // a late timer was excused, and nothing was heard since
  #reauthenticate = false;
  #refreshed = false; // credentials were asked anew because of 4001
  /** Lines that we gave up after their hello: it may yet arrive, and take the session (4000) from the line that has it. */
  #ghosts = 0;
  #timerAt = NEVER;

  /** @param {MachineOptions} options */
  constructor(options) {
    const {
      random,
      client = { name: "holdfast-js", version: "0.1.0" },
      credentials,
      connectTimeout = 10_000,
      queueBytes = 1_048_576,
      maxAttempts = Infinity,
      transports = TRANSPORTS,
    } = options;
    this.#options = { client, credentials, connectTimeout, maxAttempts };
    this.#backoff = new Backoff(random);
    this.#outbox = new Outbox(queueBytes);
    this.#ladder = new Ladder(transports);
  }

  /** @param {Input} input @param {number} now @returns {Action[]} */
  handle(input, now) {
    this.#now = now;
    this.#actions = [];
    switch (input.type) {
      case "connect": this.#connect(); break;
      case "close": this.#stop("closed_by_app"); break;
      case "subscribe": this.#subscribe(input); break;
      case "unsubscribe": this.#unsubscribe(input); break;
      case "message": this.#message(input); break;
      case "opened": this.#opened(input); break;
      case "receive": this.#receive(input); break;
      case "heard": this.#spoken(input.line); break;
      case "cut": this.#cut(input.line); break;
      case "closed": this.#closed(input); break;
      case "timer": this.#timer(); break;
      case "hidden": case "shown": this.#page(input.type); break;
      case "offline": case "online": this.#network(input.type); break;
      case "changed": this.#ladder.ask(now); // falls through
      case "doubt": this.#doubt("doubt"); break;
      case "probe":
        this.#ladder.ask(now);
        this.#planClimb(0);
        break;
      case "memory": this.#ladder.recall(input.memory, now); break;
    }
    this.#planClimb(STAGGER_MS);
    const memory = this.#ladder.news();
    if (memory !== undefined) this.#do({ type: "remember", memory });
    this.#arm();
    return this.#actions;
  }

  stats() {
    const transport = this.#live ? /** @type {Line} */ (this.#main).transport : null;
    return {
      ...this.#counts,
      transport,
      ...this.#ladder.verdict(this.#now, transport),
      state: this.state,
      session: this.#session,
      received: this.#received,
      sent: this.#outbox.posted,
      queuedBytes: this.#outbox.bytes,
      srtt: this.#roundTrip.srtt && Math.round(this.#roundTrip.srtt),
    };
  }

  /** @param {Action} action */
  #do(action) {
    this.#actions.push(action);
  }

  /** @param {State} state @param {string} reason */
  #become(state, reason) {
    const nextAttemptAt = state === "reconnecting" && this.#attemptAt < NEVER ? this.#attemptAt : undefined;
    this.#do({ type: "state", state, previous: this.state, reason, nextAttemptAt });
    this.state = state;
  }

  /**
   * An error that the server has sent, or none and then this one.
   * @param {string} code
   * @param {string} error
   * @param {WireEvent} event
   */
  #error(code, error, event) {
    this.#do({ type: "error", code: event.code ?? code, error: String(event.error ?? error), event });
  }

  /** @param {WireEvent} event */
  #badCount(event) {
    this.#error("bad_count", "The server's count of our events cannot be.", event);
  }

  // ── Commands of the app

  #connect() {
    if (this.state === "idle" || this.state === "closed") {
      this.#backoff.failures = 0;
      this.#refreshed = this.#reauthenticate = false;
      if (this.#offline) {
        this.#attemptAt = this.#now;
        return this.#become("suspended", "offline");
      }
      this.#become("connecting", "connect");
      return this.#attempt();
    }
    // The app knows better than the platform's idea of being offline.
    this.#offline = false;
    this.#doubt("connect");
  }

  /** @param {string} reason @param {Extract<Action, {type: "error"}>} [error] */
  #stop(reason, error) {
    if (this.state === "closed") return;
    for (const line of this.#lines) this.#letGo(line, 1000);
    this.#main = this.#rival = this.#session = null;
    this.#attemptAt = NEVER;
    this.#moving = null;
    this.#attemptNotBefore = this.#ghosts = 0;
    this.#ladder.left();
    if (error) this.#do(error);
    this.#become("closed", reason);
    for (const message of this.#withdraw()) {
      this.#outbox.answer(message.id);
      this.#fail(message, "closed", "The connection was closed before the reply.");
    }
    for (const topic of this.topics.values()) topic.active = false;
  }

  /** @param {Extract<Input, {type: "subscribe"}>} input */
  #subscribe({ id, subscription, since, fields = {} }) {
    /** @type {Topic} */
    const topic = { id, name: subscription, fields, position: since ? { ...since } : null };
    if (this.#counting() && !this.#submit(this.#subscribeCommand(topic))) return;
    this.topics.set(subscription, topic);
  }

  /** @param {Topic} topic @returns {Command} */
  #subscribeCommand(topic) {
    topic.active = false;
    topic.since = topic.position ? { ...topic.position } : undefined;
    const { name, id, since } = topic;
    return command({ ...topic.fields, event: "subscribe", subscription: name, since, id });
  }

  /** @param {Extract<Input, {type: "unsubscribe"}>} input */
  #unsubscribe({ id, subscription }) {
    const unsubscribe = command({ event: "unsubscribe", subscription, id });
    unsubscribe.topic = this.topics.get(subscription);
    // Without a session there is nobody to ask.
    if (!this.#counting()) this.#ended(unsubscribe);
    else this.#submit(unsubscribe);
  }

  /** @param {Extract<Input, {type: "message"}>} input */
  #message({ id, subscription, data, fields }) {
    const message = command({ ...fields, event: "message", subscription, data, id });
    if (this.state === "closed") return this.#fail(message, "closed", "The connection is closed.");
    this.#submit(message);
  }

  /** An event counts from the moment that it belongs to a session, or to a hello whose session has no name yet. */
  #counting() {
    return this.#session !== null || this.#main?.phase === "hello";
  }

  /** @param {Command} command @returns {boolean} */
  #submit(command) {
    const { limit, bytes } = this.#outbox;
    const actual = bytes + command.bytes;
    if (actual > limit) {
      this.#fail(command, "queue_full", `The queue holds at most ${limit} bytes, this would make it ${actual}.`, { limit, actual });
      return false;
    }
    this.#outbox.await(command);
    if (this.#counting()) this.#post(command);
    // Half of the room is taken by what the server may have counted long ago: ask.
    if (this.#live && actual * 2 > limit && this.#liveness.askedAt === null) this.#sendPing();
    return true;
  }

  /** @param {Command} command */
  #post(command) {
    this.#outbox.post(command);
    // Behind a resuming hello nothing is sent before the reply: we do not know yet what to repeat.
    if (this.#live || (this.#main?.phase === "hello" && !this.#main.resuming)) this.#write(command);
  }

  /** @param {Command} command @param {number} [number] in the session; the last one's if absent */
  #write(command, number = this.#outbox.posted) {
    const line = /** @type {Line} */ (this.#main);
    this.#do({ type: "send", line: line.id, text: command.text, seq: line.transport === "websocket" ? undefined : number });
    if (this.#countAt === NEVER) this.#wantCount();
  }

  /** @param {Command} command @param {string} code @param {string} error @param {object} [more] */
  #fail(command, code, error, more) {
    const { kind, id, subscription } = command;
    const event = { event: kind, status: "error", code, error, ...more };
    this.#do(kind === "subscribe" ? { type: "unsubscribed", subscription, event } : { type: "reply", id, event });
  }

  /** @param {string} subscription @param {WireEvent} event */
  #drop(subscription, event) {
    this.topics.delete(subscription);
    this.#do({ type: "unsubscribed", subscription, event });
  }

  /**
   * An unsubscribe has done its work.
   * @param {Command} command @param {WireEvent} [event] absent: it needed no server
   */
  #ended({ id, subscription, topic }, event = { event: "unsubscribe", subscription, status: "ok" }) {
    // The app may have subscribed anew meanwhile: that is another topic.
    if (topic && this.topics.get(subscription) === topic) this.#drop(subscription, event);
    this.#do({ type: "reply", id, event });
  }

  /**
   * The session is gone: all that it had to do is done or void, but for the messages.
   * @returns {Command[]} these
   */
  #withdraw() {
    const messages = [];
    for (const command of this.#outbox.restart()) {
      if (command.kind === "message") {
        messages.push(command);
        continue;
      }
      this.#outbox.answer(command.id);
      if (command.kind === "unsubscribe") this.#ended(command);
    }
    return messages;
  }

  // ── Lines

  /** A round begins: for a main, or for a rival beside a live main. */
  #attempt() {
    this.#attemptAt = NEVER;
    if (this.#main && !this.#moving) this.#counts.races++;
    this.#round(this.#ladder.start(this.#now, this.#live && this.#liveness.suspectAt !== null));
  }

  /** @param {Transport} transport that it starts with */
  #round(transport) {
    this.#advice = undefined;
    if (transport === "websocket") this.#next = this.#ladder.fallback(this.#now) ? "fallback" : null;
    else this.#next = this.#ladder.desperate ? "websocket" : null;
    this.#open(transport);
  }

  /** @returns {boolean} whether there is another transport to be tried in this round; then it is */
  #tryNext() {
    const next = this.#next;
    this.#next = null;
    if (next) this.#open((next === "fallback" && this.#ladder.fallback(this.#now)) || "websocket", next === "websocket");
    return next !== null;
  }

  /** @param {Transport} transport @param {boolean} [desperate] a WebSocket because the fallback has failed */
  #open(transport, desperate = false) {
    const now = this.#now;
    this.#counts.attempts++;
    /** @type {Line} */
    const line = {
      id: ++this.#lastLine, transport, openedAt: now, phase: "opening", phaseAt: now, listenAt: NEVER, wordBy: NEVER,
    };
    if (this.#main) this.#rival = line;
    else this.#main = line;
    if (transport === "websocket") this.#ladder.opened(now, desperate);
    this.#do({ type: "open", line: line.id, transport });
  }

  /**
   * Until when the WebSocket that is tried has to answer, or the fallback gets its turn. Beside a fallback that carries
   * the session it has all the time of a line.
   */
  #fallbackAt() {
    const line = this.#trying();
    return line && this.#next === "fallback" && !this.#calm ? line.openedAt + FALLBACK_MS : NEVER;
  }

  /** The WebSocket that has not answered. */
  #trying() {
    return this.#lines.find(({ transport, phase }) => transport === "websocket" && phase !== "live");
  }

  get #lines() {
    return /** @type {Line[]} */ ([this.#rival, this.#main].filter(Boolean));
  }

  /** The fallback carries the session, and nothing speaks against it. */
  get #calm() {
    return this.#live && this.#main?.transport !== "websocket" && this.#liveness.suspectAt === null && !this.#moving;
  }

  /** @param {Line} line the WebSocket that has not answered */
  #fallBack(line) {
    if (line === this.#rival) {
      this.#letGo(line);
      this.#gone(line);
      this.#rival = null;
    } else if (line.phase === "opening") {
      // Nothing was said on it. If it opens later, it probes.
      this.#rival = line;
      this.#main = null;
    }
    this.#tryNext();
  }

  /**
   * What the end of a line says about its transport.
   * @param {Line} line
   * @param {boolean} [abnormal] nobody said why
   */
  #gone(line, abnormal = true) {
    if (line.transport === "websocket") {
      if (line.phase === "live") this.#ladder.ended(this.#now, abnormal && this.#moving !== "goaway");
      else this.#ladder.failed();
      if (this.#calm) this.#ladder.works(this.#now);
    } else if (line.transport === "stream" && line.phase === "live" && this.#liveness.suspectAt !== null) {
      this.#ladder.poll(this.#now + STREAM_DIED_MS);
    }
  }

  /**
   * While the fallback carries the session: when to try a WebSocket beside it. Tabs that wait for the same moment do not
   * try together, for the memory tells each how it went with the one before.
   * @param {number} stagger ms
   */
  #planClimb(stagger) {
    const free = this.#calm && !this.#rival && !this.#offline && this.#attemptAt === NEVER;
    const due = free ? this.#ladder.due : NEVER;
    if (due === this.#climbDue && stagger) return;
    this.#climbDue = due;
    if (due > this.#now) stagger = STAGGER_MS; // the app's own wish waits with all others
    const from = Math.max(due, this.#now);
    this.#climbAt = due === NEVER ? NEVER : this.#backoff.between(from, from + stagger);
  }

  /** @param {Line} line @param {Line["phase"]} phase */
  #enter(line, phase) {
    line.phase = phase;
    line.phaseAt = this.#now;
  }

  /** @param {number} id @returns {Line|undefined} undefined: one that we have let go */
  #line(id) {
    return this.#lines.find((line) => line.id === id);
  }

  /** @param {Line} line @param {number} [code] */
  #letGo(line, code) {
    this.#haunt(line);
    this.#do({ type: "close", line: line.id, code });
  }

  /** @param {Line} line */
  #haunt(line) {
    if (line.phase === "hello" && line.resuming) this.#ghosts++;
  }

  /** @param {Extract<Input, {type: "opened"}>} input */
  #opened({ line: id, auth }) {
    const line = this.#line(id);
    if (line?.phase !== "opening") return;
    line.auth = auth;
    if (line === this.#main) return this.#hello(line);
    this.#enter(line, "probing");
    this.#sendEvent(line, { event: "probe" });
  }

  /** @param {Line} line @param {WireEvent} event not counted */
  #sendEvent(line, event) {
    const seq = line.transport === "websocket" || line.phase !== "live" ? undefined : this.#outbox.posted + 1;
    this.#do({ type: "send", line: line.id, text: JSON.stringify(event), seq });
  }

  /** @param {Line} line */
  #hello(line) {
    line.resuming = this.#session !== null;
    const resume = line.resuming ? { session: this.#session, received: this.#received } : undefined;
    this.#enter(line, "hello");
    this.#sendEvent(line, { event: "hello", version: 1, resume, client: this.#options.client });
    if (line.resuming) this.#told();
    else this.#beginSession(line);
  }

  /**
   * Everything that a new session has to know, in one flight.
   * @param {Line} line
   */
  #beginSession(line) {
    this.#received = 0;
    this.#told();
    this.#reauthenticate = false;
    const messages = this.#withdraw();
    if (line.auth) this.#post(command(line.auth));
    for (const topic of this.topics.values()) {
      const subscribe = this.#subscribeCommand(topic);
      this.#outbox.await(subscribe);
      this.#post(subscribe);
    }
    for (const message of messages) this.#post(message);
  }

  /**
   * The reply to hello.
   * @param {Line} line @param {WireEvent} event
   */
  #welcome(line, event) {
    if (event.status !== "ok" || typeof event.session !== "string") {
      if (event.code === "unknown_session") this.#session = null;
      this.#error("hello_refused", "The server refused hello.", event);
      this.#refused(line);
      return this.#giveUp(line, "hello_refused", this.#backoff.range(event.retry_after));
    }
    const resumed = line.resuming === true && event.resumed === true;
    if (resumed && !this.#outbox.acknowledge(event.received)) {
      this.#badCount(event);
      this.#session = null;
      this.#refused(line);
      return this.#giveUp(line, "bad_count");
    }
    const { interval, hidden_interval, timeout } = event.heartbeat ?? {};
    const liveness = this.#liveness;
    const quiet = line.transport === "websocket" ? this.#ladder.quiet : NEVER;
    liveness.visible = Math.min(milliseconds(interval, liveness.visible), quiet);
    liveness.hidden = Math.min(milliseconds(hidden_interval, liveness.hidden), quiet);
    liveness.timeout = milliseconds(timeout, liveness.timeout);
    liveness.slack = 0;
    if (line.transport === "websocket") {
      this.#ladder.answered(this.#now);
      if (this.#rival) this.#letGo(this.#rival);
      this.#rival = null;
    } else this.#ladder.works(this.#now);
    this.#backoff.spread = milliseconds(event.spread, this.#backoff.spread);
    this.#roundTrip.sample(this.#now - line.phaseAt);
    liveness.heard(this.#now, true);
    this.#ping = null;
    this.#pongBy = NEVER;
    this.#liveAt = this.#now;
    this.#enter(line, "live");
    if (!resumed) this.#ghosts = 0;
    this.#session = event.session;
    this.#attemptNotBefore = 0;
    this.#counts[resumed ? "resumed" : "sessions"]++;
    if (this.state !== "connected") this.#become("connected", resumed ? "resumed" : "new_session");
    this.#do({ type: "connected", resumed, event });
    if (resumed) {
      if (this.#reauthenticate && line.auth) this.#outbox.post(command(line.auth), true);
      this.#reauthenticate = false;
      this.#outbox.unacknowledged.forEach((command, index) => this.#write(command, this.#outbox.acknowledged + index + 1));
    } else if (line.resuming) this.#beginSession(line);
    this.#wantCount();
  }

  /** @param {Extract<Input, {type: "closed"}>} input */
  #closed({ line: id, code, reason, retryAfter }) {
    const line = this.#line(id);
    if (!line) return;
    const advice = this.#backoff.range(retryAfter);
    const objections = line === this.#main ? this.#judge(code, reason) : 0;
    if (objections === null) return;
    this.#haunt(line);
    const spoke = code >= 4000 && code !== 4009;
    if (spoke && line.phase !== "live") this.#refused(line);
    this.#lost(line, "line_closed", advice, objections, !spoke && code !== 1000 && code !== 1001);
  }

  /**
   * The server itself does not want us, so it is no use to come by another transport.
   * @param {Line} line
   */
  #refused(line) {
    this.#next = null;
    if (line.transport === "websocket") this.#ladder.passed();
  }

  /**
   * What the close code of main asks for, but for a new line.
   * @param {number} code @param {string} [reason]
   * @returns {number|null} how many failures it counts for at least; null: no new line is wanted
   */
  #judge(code, reason) {
    /** @param {string} name @param {string} text @returns {Extract<Action, {type: "error"}>} */
    const error = (name, text) => ({ type: "error", code: name, error: reason ? `${text} (${reason})` : text, closeCode: code });
    /** @param {string} name @param {string} text */
    const end = (name, text) => {
      this.#main = null; // it is closed already
      this.#stop(name, error(name, text));
      return null;
    };
    switch (code) {
      case 1009: {
        // The same message would close every further line too.
        const message = this.#outbox.removeBiggest();
        const actual = message?.bytes;
        if (message) this.#fail(message, "too_big", `The server does not take a message of ${actual} bytes.`, { actual });
      } // falls through
      case 1002: case 1003: case 1007:
        this.#do(error("protocol_error", "The server ended the line because of a protocol error."));
        // falls through
      case 4029:
        return 1; // not even the first attempt may be as soon as after a good line
      case 4000:
        if (!this.#ghosts) return end("replaced", "The session was taken over by another connection.");
        this.#ghosts--;
        break;
      case 4001:
        if (!this.#options.credentials || (this.#refreshed && !this.#wasUseful())) {
          return end("authentication_expired", "The authentication has expired.");
        }
        this.#refreshed = this.#reauthenticate = true;
        break;
      case 4003:
        return end("forbidden", "The server forbids this connection.");
      case 4008:
        this.#session = null; // We were too slow and the server has dropped it: recover by position.
    }
    return 0;
  }

  get #live() {
    return this.#main?.phase === "live";
  }

  #wasUseful() {
    return this.#live && this.#now - this.#liveAt >= USEFUL_MS;
  }

  /**
   * A line is gone: go on with the other one, or with the other transport, or try again.
   * @param {Line} line @param {string} reason @param {[number, number]} [advice] @param {number} [objections] failures at least
   * @param {boolean} [abnormal] nobody said why
   */
  #lost(line, reason, advice, objections = 0, abnormal = true) {
    const live = line.phase === "live";
    if (!live) advice = this.#advice = advice ?? this.#advice;
    if (line === this.#rival) {
      this.#rival = null;
      this.#gone(line);
      // Main is well, or it is still being tried.
      if (this.#calm || !this.#live || this.#tryNext()) return;
      this.#ladder.away();
      this.#backoff.failures++;
      return this.#schedule(false, advice);
    }
    const useful = this.#wasUseful();
    this.#gone(line, abnormal);
    this.#main = this.#rival;
    this.#rival = null;
    // The round goes on.
    if (!live && (this.#main || this.#tryNext())) return;
    if (!live || (line.transport !== "websocket" && !line.spoke)) this.#ladder.away();
    // A dead line was suspect before: the failures are those of that race.
    if (reason !== "dead") this.#backoff.failures = useful ? objections : this.#backoff.failures + 1;
    const moving = this.#moving;
    this.#moving = null;
    if (this.#main) return this.#become("reconnecting", reason);
    const { failures } = this.#backoff;
    if (failures >= this.#options.maxAttempts) {
      const code = "max_attempts";
      return this.#stop(code, { type: "error", code, error: `No useful connection in ${failures} attempts.` });
    }
    // A goaway has told us when to come; a race that failed has its next attempt waiting.
    const planned = moving || (reason === "dead" && failures > 0);
    if (advice || !planned || this.#attemptAt === NEVER) this.#schedule(reason === "dead", advice);
    this.#await(reason);
  }

  /** @param {Line} line @param {string} reason @param {[number, number]} [advice] */
  #giveUp(line, reason, advice) {
    this.#letGo(line);
    this.#lost(line, reason, advice);
  }

  /** @param {boolean} suspected @param {[number, number]} [advice] */
  #schedule(suspected, advice) {
    this.#attemptAt = this.#now + this.#backoff.delay(suspected, this.#liveness.isHidden, advice);
    if (advice) this.#attemptNotBefore = this.#attemptAt;
  }

  /**
   * Waits for #attemptAt, which may be now.
   * @param {string} reason
   */
  #await(reason) {
    if (this.#offline) return this.#become("suspended", "offline");
    this.#become("reconnecting", reason);
    if (this.#attemptAt <= this.#now) this.#attempt();
  }

  // ── What the server says

  /** @param {Extract<Input, {type: "receive"}>} input */
  #receive({ line: id, text }) {
    const line = this.#line(id);
    if (!line) return;
    /** @type {WireEvent|undefined} */
    let event;
    try {
      event = JSON.parse(text);
    } catch {}
    // On HTTP a count answers what was sent, and says nothing about the way down.
    if (line.phase === "live" && (line.transport === "websocket" || event?.event !== "ack")) this.#heard();
    if (typeof event !== "object" || event === null) {
      // It was sent as an event, so it counts as one.
      this.#do({ type: "error", code: "unreadable", error: "The server sent what is not an event." });
      event = {};
    }
    switch (line.phase) {
      case "opening": return;
      case "probing":
        if (event.event === "probe") this.#move(line);
        return;
      case "hello":
        if (event.event === "hello") this.#welcome(line, event);
        return;
      case "live":
        switch (event.event) {
          case "hello":
            if (line.transport === "websocket" || event.status !== "error") return;
            this.#session = null; // the server does not know it any more
            return this.#giveUp(line, "line_closed");
          case "probe": case "ping": return;
          case "pong": return this.#pong(event);
          case "ack": return this.#acknowledged(event);
          case "goaway": return this.#goaway(event);
        }
        this.#event(event);
        this.#count(text.length);
    }
  }

  #heard() {
    const line = /** @type {Line} */ (this.#main);
    if (line.listenAt < NEVER && !line.spoke) {
      line.spoke = true;
      line.wordBy = NEVER;
      this.#ladder.carries();
    }
    this.#forgiven = false;
    if (!this.#liveness.heard(this.#now) || this.#moving) return;
    // A false alarm: it has cost one connection, and the server's session was never touched.
    this.#attemptAt = NEVER;
    const rival = this.#rival;
    if (line.transport === "websocket") this.#ladder.passed();
    else {
      this.#ladder.works(this.#now);
      if (rival?.transport === "websocket") return; // we want that one anyway
    }
    if (!rival) return;
    this.#letGo(rival);
    this.#rival = null;
    this.#raceNotBefore = this.#now + RACE_PAUSE_MS;
  }

  /**
   * The rival has spoken first: the session goes to it.
   * @param {Line} rival
   */
  #move(rival) {
    const main = /** @type {Line} */ (this.#main);
    if (rival === this.#rival) {
      if (this.#wasUseful()) this.#backoff.failures = 0;
      else if (this.#live && this.#liveness.suspectAt !== null && !this.#moving) this.#backoff.failures++;
      this.#gone(main);
      this.#letGo(main);
      this.#main = rival;
      this.#rival = null;
      this.#moving = null;
    }
    this.#hello(rival);
  }

  // ── Listening, on HTTP

  /**
   * Begins to listen, and tells what was received so far.
   * @param {Line} line
   * @param {boolean} [anew] it was cut, and not because nothing lives there
   */
  #listen(line, anew = false) {
    const liveness = this.#liveness;
    const first = line.listenAt === NEVER;
    // What has happened since it was opened may speak against streams.
    if (first) line.transport = this.#ladder.fallback(this.#now) ?? line.transport;
    const { id, transport } = line;
    let wait;
    liveness.slack = transport === "stream" ? STREAM_SLACK_MS : 0;
    if (transport === "poll") {
      line.wait = Math.min(liveness.interval, this.#waitCap);
      wait = line.wait / 1000;
      // The answer is the sign of life. Only what was heard, or a shorter wait, gives it new time.
      if (anew || liveness.askedAt === null) liveness.asked(this.#now, line.wait + this.#roundTrip.wait(), liveness.doubted);
    } else if (first && this.#ladder.polls) line.wordBy = this.#now + FIRST_WORD_MS;
    line.listenAt = this.#now;
    this.#do({ type: "listen", line: id, transport, received: this.#received, wait });
    this.#told();
  }

  /**
   * A comment, or the end of an answer.
   * @param {number} id
   */
  #spoken(id) {
    const line = this.#main;
    if (line?.id !== id || line.phase !== "live") return;
    this.#heard();
    if (line.transport === "poll" || line.listenAt === NEVER) this.#listen(line);
  }

  /** @param {number} id */
  #cut(id) {
    const line = this.#main;
    if (line?.id !== id || line.phase !== "live") return;
    const age = this.#now - line.listenAt;
    if (line.transport === "stream" && !line.spoke && this.#ladder.polls) return this.#listenByPoll(line);
    if (age < CUT_MS) return this.#giveUp(line, "line_closed");
    const early = line.transport === "poll" && age < /** @type {number} */ (line.wait);
    if (early) this.#waitCap = Math.max(CUT_MS, Math.floor(0.7 * age));
    this.#listen(line, early);
  }

  /** @param {Line} line a stream of which nothing comes */
  #listenByPoll(line) {
    line.transport = "poll";
    line.wordBy = NEVER;
    this.#listen(line);
  }

  /** @param {WireEvent} event */
  #pong(event) {
    this.#pongBy = NEVER;
    if (this.#ping && event.data === this.#ping.data) {
      const rtt = this.#now - this.#ping.at;
      this.#ping = null;
      this.#liveness.heard(this.#now, true);
      this.#roundTrip.sample(rtt);
      this.#do({ type: "rtt", rtt, srtt: Math.round(/** @type {number} */ (this.#roundTrip.srtt)) });
    }
    this.#acknowledged(event);
  }

  /** @param {WireEvent} event */
  #acknowledged(event) {
    if (event.received === undefined) return;
    if (!this.#outbox.acknowledge(event.received)) return this.#badCount(event);
    this.#wantCount();
  }

  /** What the server has not counted after an interval, we ask for. */
  #wantCount() {
    this.#countAt = this.#outbox.unacknowledged.length ? this.#now + this.#liveness.interval : NEVER;
  }

  /** @param {WireEvent} event */
  #goaway(event) {
    const [from, to] = this.#backoff.range(event.retry_after) ?? [0, this.#backoff.spread];
    const at = this.#now + this.#backoff.between(from, to);
    this.#do({ type: "goaway", at, event });
    this.#moving = "goaway";
    if (this.#wasUseful()) this.#backoff.failures = 0;
    if (!this.#rival) this.#attemptAt = this.#attemptNotBefore = at;
  }

  /**
   * One more counted event of the server.
   * @param {number} bytes its UTF-16 length, near enough for a threshold
   */
  #count(bytes) {
    const first = this.#received++ === this.#acked;
    if (this.#main?.transport === "poll") return; // the next one tells it
    if (first) this.#ackAt = this.#now + this.#liveness.interval;
    this.#ackBytes += bytes;
    if (this.#received - this.#acked >= ACK_EVENTS || this.#ackBytes >= ACK_BYTES) this.#sendAck();
  }

  /** @param {WireEvent} event counted */
  #event(event) {
    const { status, subscription } = event;
    if (status === undefined) {
      const topic = this.topics.get(subscription);
      if (!topic?.active) return;
      switch (event.event) {
        case "message": return this.#deliver(topic, event);
        case "gap": return this.#gap(topic, event);
        case "unsubscribe": return this.#drop(subscription, event);
        default: return;
      }
    }
    const command = this.#outbox.answer(event.id);
    if (command) this.#answer(command, event);
    else if (status === "error") this.#error("server_error", "The server gave no reason.", event);
  }

  /** @param {Command} command @param {WireEvent} event */
  #answer(command, event) {
    const { kind, id, subscription } = command;
    if (kind === "subscribe") {
      const topic = this.topics.get(subscription);
      if (topic?.id !== id) return; // the app has subscribed anew meanwhile
      if (event.status === "ok") return this.#subscribed(topic, event);
      return this.#drop(subscription, event);
    }
    if (kind === "unsubscribe" && event.status === "ok") return this.#ended(command, event);
    this.#do({ type: "reply", id, event });
  }

  /** @param {Topic} topic @param {WireEvent} event */
  #subscribed(topic, event) {
    const { since, before, name } = topic;
    topic.active = topic.before = true;
    const position = positionOf(event);
    // Recovered or not, in the same epoch the messages go on from where we were; a gap says from where else.
    if (!since || !position) topic.position = position;
    else if (position.epoch !== since.epoch) topic.position = { epoch: position.epoch, offset: 0 };
    this.#do({ type: "subscribed", subscription: name, since, event });
    // A topic without history has no position to ask from. What was published while we were away is lost.
    if (before && !since) this.#tellGap(topic, null, null);
  }

  /** @param {Topic} topic @param {WireEvent} event */
  #deliver(topic, event) {
    const { position } = topic;
    if (position && Number.isSafeInteger(event.offset)) {
      if (event.offset <= position.offset) {
        this.#counts.duplicates++;
        return;
      }
      // `after`: what is in between is not for this session.
      if (event.offset > position.offset + 1 && !(event.after <= position.offset))
        this.#tellGap(topic, position.offset, event.offset);
      position.offset = event.offset;
    }
    this.#do({ type: "message", event });
  }

  /** @param {Topic} topic @param {WireEvent} event */
  #gap(topic, { after = null, next = null, epoch }) {
    const { position } = topic;
    if (position) {
      if (typeof epoch === "string" && epoch !== position.epoch) topic.position = { epoch, offset: 0 };
      else if (after !== null && next !== null) {
        after = Math.max(after, position.offset);
        if (next <= after + 1) return; // we have it all
      }
    }
    if (topic.position && next !== null) topic.position.offset = next - 1;
    this.#tellGap(topic, after, next);
  }

  /** @param {Topic} topic @param {number|null} after @param {number|null} next */
  #tellGap(topic, after, next) {
    this.#counts.gaps++;
    this.#do({ type: "gap", subscription: topic.name, after, next });
  }

  // ── Time

  #timer() {
    const late = this.#now - this.#timerAt > this.#liveness.interval;
    this.#timerAt = NEVER;
    // The machine slept: whatever was due is judged from now on. Only once, since a hidden page's timers are always late.
    const woken = late && !this.#forgiven;
    if (woken) {
      this.#forgiven = true;
      this.#pongBy = this.#climbDue = this.#climbAt = NEVER;
      if (this.#main && this.#main.wordBy < NEVER) this.#main.wordBy = this.#now + FIRST_WORD_MS;
      this.#doubt("late_timer");
    }
    for (const line of this.#lines) if (this.#now >= this.#patience(line)) this.#giveUp(line, "connect_timeout");
    if (this.#now >= this.#fallbackAt() && !this.#offline) this.#fallBack(/** @type {Line} */ (this.#trying()));
    if (this.#live) this.#heartbeatDue();
    if (this.#now >= this.#attemptAt && !this.#offline) this.#attempt();
    this.#planClimb(STAGGER_MS);
    if (this.#now >= this.#climbAt) this.#round("websocket");
    if (this.#now >= this.#ladder.livedAt) this.#ladder.lived();
    if (woken) this.#hasten("late_timer");
  }

  /**
   * Until when a line must have opened, or given the answer that it owes.
   * @param {Line} line
   */
  #patience(line) {
    return line.phase !== "live" ? line.phaseAt + this.#options.connectTimeout : NEVER;
  }

  #heartbeatDue() {
    const line = /** @type {Line} */ (this.#main);
    if (!this.#offline) {
      if (this.#now >= line.wordBy) {
        this.#ladder.poll(this.#now + STREAM_BUFFERED_MS);
        this.#listenByPoll(line);
      }
      switch (this.#liveness.due(this.#now)) {
        case "ping":
          this.#sendPing();
          break;
        case "suspect":
          this.#race();
          break;
        case "dead":
          return this.#giveUp(line, "dead");
      }
      // A line that owes an answer has been asked for it, and must not get its time anew.
      if (this.#now >= this.#countAt) this.#liveness.askedAt === null ? this.#sendPing() : this.#wantCount();
      if (this.#now >= this.#pongBy) this.#deaf();
    }
    if (this.#now >= this.#ackAt) this.#sendAck();
  }

  /** Main is suspect. */
  #race() {
    if (this.#wasUseful()) this.#backoff.failures = 0;
    if (this.#rival) return;
    this.#attemptAt = Math.max(this.#now + this.#backoff.delay(true, this.#liveness.isHidden), this.#raceNotBefore);
  }

  /** Events come and no pong: the server does not hear us. Go elsewhere, and take what still comes until then. */
  #deaf() {
    this.#pongBy = NEVER;
    if (this.#rival) return;
    this.#moving = "deaf";
    this.#attemptAt = this.#now;
  }

  #sendPing(doubted = false) {
    const line = /** @type {Line} */ (this.#main);
    this.#ping = { data: String(++this.#pings), at: this.#now };
    if (this.#pongBy === NEVER) this.#pongBy = this.#now + 3 * this.#liveness.timeout;
    const slack = Math.floor(this.#outbox.unacknowledgedBytes() / UPLINK_STEP_BYTES) * UPLINK_STEP_MS;
    this.#liveness.asked(this.#now, this.#roundTrip.wait() + slack, doubted);
    this.#sendEvent(line, { event: "ping", data: this.#ping.data, received: this.#received });
    this.#told();
    this.#wantCount();
  }

  #sendAck() {
    this.#sendEvent(/** @type {Line} */ (this.#main), { event: "ack", received: this.#received });
    this.#told();
  }

  /** The server has (or will have) our count. */
  #told() {
    this.#acked = this.#received;
    this.#ackBytes = 0;
    this.#ackAt = NEVER;
  }

  /** @param {"hidden"|"shown"} type */
  #page(type) {
    this.#liveness.isHidden = type === "hidden";
    if (type === "shown") this.#doubt(type);
  }

  /** @param {"offline"|"online"} type */
  #network(type) {
    if (this.#offline && type === "online") this.#ladder.ask(this.#now);
    this.#offline = type === "offline";
    if (!this.#offline) this.#doubt(type);
    else if (!this.#main && this.state === "reconnecting") this.#become("suspended", type);
  }

  /**
   * Ask now. A good line answers and nothing more happens.
   * @param {string} reason
   */
  #doubt(reason) {
    if (this.#offline) return;
    const line = this.#main;
    if (line?.phase === "live") {
      const { askedAt, doubted } = this.#liveness;
      if (askedAt === null || !doubted || this.#now - askedAt >= WAIT_MIN_MS) this.#sendPing(true);
    } else if (line && this.#now - line.phaseAt >= STALE_ATTEMPT_MS) {
      for (const stale of this.#lines) {
        this.#letGo(stale);
        this.#gone(stale);
      }
      this.#main = this.#rival = null;
      this.#attemptAt = this.#now;
      this.#hasten(reason);
    } else this.#hasten(reason);
  }

  /**
   * Without a line: do not wait any longer than the server's advice demands.
   * @param {string} reason
   */
  #hasten(reason) {
    if (this.#main || this.#offline || this.#attemptAt === NEVER) return;
    const at = Math.max(this.#now, this.#attemptNotBefore);
    if (at === this.#attemptAt && this.state === "reconnecting") return;
    this.#attemptAt = at;
    this.#await(reason);
  }

  /**
   * The one timer. It is moved only to an earlier time: when it fires and nothing is due, it is set anew. So the
   * flow of messages, each of which postpones the next ping, does not set a timer each.
   */
  #arm() {
    let at = Math.min(...this.#lines.map((line) => this.#patience(line)));
    if (this.#live) at = Math.min(at, this.#ackAt, this.#climbAt, this.#ladder.livedAt);
    if (this.#live && !this.#offline) at = Math.min(at, this.#liveness.next(), this.#countAt, this.#pongBy, this.#main?.wordBy ?? NEVER);
    if (!this.#offline) at = Math.min(at, this.#attemptAt, this.#fallbackAt());
    if (at === NEVER ? this.#timerAt === NEVER : this.#timerAt <= at) return;
    this.#timerAt = at;
    this.#do({ type: "timer", at: at === NEVER ? null : at });
  }
}

const encoder = new TextEncoder();

/** @param {WireEvent} event @returns {Command} */
function command(event) {
  const text = JSON.stringify(event);
  const { event: kind, id, subscription } = event;
  return { kind, id, subscription, text, bytes: encoder.encode(text).length, holds: 0 };
}

/** @param {unknown} seconds @param {number} otherwise where the server says nothing that can be @returns {number} */
function milliseconds(seconds, otherwise) {
  return typeof seconds === "number" && seconds > 0 && seconds < Infinity ? Math.ceil(seconds * 1000) : otherwise;
}

/**
 * @param {WireEvent} event
 * @returns {Position|null} a copy
 */
function positionOf({ position }) {
  const good = typeof position?.epoch === "string" && Number.isSafeInteger(position.offset);
  return good ? { epoch: position.epoch, offset: position.offset } : null;
}

/* ── 2. The driver ─────────────────────────────────────────────────────────────────────────────────────────────────── */

const ignore = () => {};

/** Requests to listen. One that was given up may arrive behind its successor, and the gateway tells by the number that it is stale. */
let listens = 0;

/** @typedef {{type: string, [field: string]: unknown}} LineInput an input of the machine, without its line */

/**
 * A line over HTTP: short requests for what we send, and one that stays open for what we hear. URLs are written to logs:
 * the secret is in a header.
 */
class HTTPLine {
  /** @type {Record<string, string>|undefined} the app's */
  headers;
  /** @type {{text: string, seq?: number}[]} */
  #queue = [];
  #sending = false;
  #path = ""; // of our session, from the moment that it has a name
  #secret = "";
  #posts = new AbortController();
  #listening = new AbortController();
  /** @type {(() => void)|null|undefined} gives the slot back that we have */
  #release;
  #wake = ignore; // ends the pause between two short polls
  #options;
  #tell;

  /**
   * @param {object} options
   * @param {URL} options.url of /session
   * @param {typeof fetch} options.fetch
   * @param {RequestCredentials} options.credentials
   * @param {() => number} options.received the machine's count
   * @param {(input: LineInput) => void} options.tell
   */
  constructor(options) {
    this.#options = options;
    this.#tell = options.tell;
  }

  /** @param {string} text @param {number} [seq] */
  send(text, seq) {
    this.#queue.push({ text, seq });
    if (!this.#sending) this.#flush();
  }

  close() {
    this.#posts.abort();
    this.#listening.abort();
    this.#release?.();
    this.#wake();
  }

  /** @param {{code: number, reason: string, retryAfter?: number}} why */
  #end({ code, reason, retryAfter }) {
    this.close();
    this.#tell({ type: "closed", code, reason, retryAfter });
  }

  #heard() {
    this.#tell({ type: "heard" });
  }

  /** @param {unknown} event */
  #receive(event) {
    this.#tell({ type: "receive", text: JSON.stringify(event) });
  }

  async #flush() {
    this.#sending = true;
    await null; // What is sent in one turn travels together.
    while (this.#queue.length) {
      const { seq } = this.#queue[0];
      const BATCH_CHARS = 65_536; // The rest goes in another request: what stands in between may refuse a big one.
      let batch = "";
      for (let next; batch.length < BATCH_CHARS && (next = this.#queue.shift()); ) batch += (batch && ",") + next.text;
      const known = this.#path;
      const ask = () => this.#fetch(known && "/send", known ? `{"seq":${seq},"events":[${batch}]}` : `[${batch}]`, this.#posts.signal);
      let answer;
      try {
        // The server knows a batch by its number, so it may be repeated. What opens a session has none.
        answer = await (known ? ask().catch(ask) : ask());
      } catch (error) {
        return this.#end({ code: 1006, reason: String(error) });
      }
      if (this.#posts.signal.aborted) return;
      for (const event of known ? [{ event: "ack", received: answer?.received }] : [answer].flat()) {
        if (event?.event === "hello" && event.status === "ok") {
          const [handle, secret] = String(event.session).split(".");
          this.#path = "/" + handle;
          this.#secret = secret;
        }
        this.#receive(event);
      }
      if (!known) this.#heard(); // That was all: now it is known from where to listen.
      this.#wake(); // There may be a reply.
    }
    this.#sending = false;
  }

  /**
   * A newer request to listen ends an older one.
   * @param {{transport: string, received: number, wait?: number}} action
   */
  async listen({ transport, received, wait = 0 }) {
    this.#listening.abort();
    const { signal } = (this.#listening = new AbortController());
    try {
      // Without a slot we poll and hang up, again and again. A stream is still one to the machine.
      while (!(await this.#hasSlot(signal))) {
        await this.#poll(received, 0, signal);
        if (transport === "stream") this.#heard();
        await this.#pause();
        signal.throwIfAborted();
        if (transport === "poll") return this.#heard();
        received = this.#options.received();
      }
      if (transport === "poll") {
        await this.#poll(received, wait, signal);
        return this.#heard();
      }
      await this.#stream(received, signal);
    } catch {}
    if (!signal.aborted) this.#tell({ type: "cut" });
  }

  /** @param {AbortSignal} signal */
  async #hasSlot(signal) {
    if (this.#release) return true;
    const release = await takeSlot(this.#options.url);
    if (signal.aborted) release?.();
    signal.throwIfAborted();
    this.#release = release;
    return release !== null;
  }

  /** Between the polls of a page without a slot. */
  #pause() {
    return new Promise((resolve) => {
      const SHORT_POLL_MS = 1_000;
      const HIDDEN_SHORT_POLL_MS = 5_000;
      const hidden = globalThis.document?.visibilityState === "hidden";
      const timer = setTimeout(resolve, hidden ? HIDDEN_SHORT_POLL_MS : SHORT_POLL_MS);
      this.#wake = () => resolve(clearTimeout(timer));
    });
  }

  /** @param {number} received @param {number} wait @param {AbortSignal} signal */
  async #poll(received, wait, signal) {
    const { events, close } = await this.#fetch("/poll", JSON.stringify({ received, wait, number: ++listens }), signal);
    for (const event of events) {
      // A newer request is given the rest.
      signal.throwIfAborted();
      this.#receive(event);
    }
    signal.throwIfAborted();
    if (close) this.#end(close);
    signal.throwIfAborted();
  }

  /**
   * Until it has ended, or is none.
   * @param {number} received @param {AbortSignal} signal
   */
  async #stream(received, signal) {
    const { headers, body } = await this.#fetch(`/stream?received=${received}&number=${++listens}`, undefined, signal);
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
          if (field === "") this.#heard();
          if (field === "event") type = content;
          if (field === "data") data += content;
          if (line) continue;
          if (type === "close") return this.#end(JSON.parse(data));
          if (data && !type) this.#tell({ type: "receive", text: data });
          type = data = "";
        }
      }
      if (rest.length > STREAM_LINE_CHARS) return;
    }
  }

  /**
   * Throws where the gateway has not spoken, and where it has ended the line.
   * @param {string} path @param {string|undefined} body @param {AbortSignal} signal
   * @returns {Promise<any>} the answer to what was posted; without a body: the response
   */
  async #fetch(path, body, signal) {
    const { fetch, url, credentials } = this.#options;
    const headers = new Headers(this.headers);
    if (body) headers.set("Content-Type", "application/json");
    if (this.#path) headers.set("Authorization", `Holdfast ${this.#secret}`);
    // A portal's redirect must not be given the headers.
    const init = /** @type {const} */ ({ method: body ? "POST" : "GET", headers, body, cache: "no-store", redirect: "error", credentials, signal });
    const response = await fetch(url + this.#path + path, init);
    const { ok, status } = response;
    const reason = `HTTP ${status}`;
    if (ok) return body ? response.json() : response;
    const code = /** @type {Record<number, number>} */ ({ 413: 1009, 429: 4029, 503: 1006 })[status];
    if (code) this.#end({ code, reason, retryAfter: retryAfterOf(response.headers) });
    else {
      const event = await response.json();
      // Another 409 is about the count: a new line will bring both sides together.
      if (event.code === "replaced") this.#end({ code: 4000, reason: event.error });
      if (event.event === "hello") {
        this.#receive(event);
        this.#end({ code: 1006, reason: event.error });
      }
    }
    throw new Error(reason);
  }
}

/** @param {Headers} headers @returns {number|undefined} seconds */
function retryAfterOf(headers) {
  const value = headers.get("retry-after");
  if (!value) return undefined;
  if (!isNaN(+value)) return +value;
  // By the server's own clock, where it shows it.
  return Math.max(0, Date.parse(value) - (Date.parse(/** @type {string} */ (headers.get("date"))) || Date.now())) / 1000;
}

/**
 * One of the few connections that the tabs of a browser share, if one is free.
 * @param {URL} url
 * @returns {Promise<(() => void)|null>} gives it back
 */
async function takeSlot(url) {
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
  return null;
}

/**
 * What is remembered, with all times moved: a page's own clock means nothing to another page, the time of day does.
 * @param {any} memory
 * @param {number} by
 */
function shifted(memory, by) {
  const move = (/** @type {unknown} */ time) => (typeof time === "number" ? Math.round(time + by) : null);
  const { attempts, until, rest, pollUntil } = memory;
  return { ...memory, attempts: attempts.map(move), until: move(until), rest: move(rest), pollUntil: move(pollUntil) };
}

/**
 * Carries out what the machine wants with lines, and tells it what happens to them.
 * A line that was let go is forgotten: whatever it still does finds no handler.
 */
export class Driver {
  /** @type {Map<number, any>} WebSockets and HTTPLines; each has the `headers` of its attempt */
  #lines = new Map();
  /** @type {ReturnType<typeof setTimeout>|undefined} */
  #timer;
  /** @type {Action[]} */
  #queue = [];
  #busy = false;
  /** @type {AbortController|null} ends the listeners to the page */
  #attached = null;
  #machine;
  #options;
  #storage;
  #session;
  #key;

  /**
   * @param {ConnectionMachine} machine
   * @param {object} options
   * @param {string} options.url
   * @param {typeof WebSocket} options.WebSocket
   * @param {typeof fetch} options.fetch
   * @param {boolean} [options.withCredentials]
   * @param {MemoryStorage|null|undefined} options.storage
   * @param {() => number} options.now
   * @param {() => Promise<{auth?: WireEvent, headers?: Record<string, string>}>} options.prepare an attempt
   * @param {(action: Action) => void} options.perform actions that are not about lines
   * @param {(error: HoldfastError) => void} options.report
   */
  constructor(machine, options) {
    this.#machine = machine;
    this.#options = options;
    this.#storage = options.storage;
    this.#session = new URL("session", options.url.replace(/^ws/, "http"));
    this.#key = "holdfast:" + this.#session.origin;
  }

  now() {
    return Math.floor(this.#options.now());
  }

  /**
   * Actions are carried out one after the other, also where a callback of the app gives an input in between: else
   * the older of two timers could be set last.
   * @param {Input} input
   */
  input(input) {
    this.#queue.push(...this.#machine.handle(input, this.now()));
    if (this.#busy) return;
    this.#busy = true;
    try {
      for (let action; (action = this.#queue.shift()); ) {
        (/** @type {any} */ (this.#perform)[action.type] ?? this.#options.perform)(action);
      }
    } finally {
      this.#busy = false;
    }
  }

  /** What the machine wants with lines, by the type of the action. */
  #perform = {
    /** @param {{line: number, transport: Transport}} action */
    open: ({ line, transport }) => {
      const { url, WebSocket, fetch, withCredentials, prepare, report } = this.#options;
      /** @param {unknown} error */
      const fail = (error) => {
        this.#perform.close({ line });
        this.input({ type: "closed", line, code: 1006, reason: String(error) });
      };
      /** @type {any} */
      let socket;
      /** @param {LineInput} input */
      const tell = (input) => {
        if (this.#lines.get(line) !== socket) return;
        if (input.type === "closed") this.#lines.delete(line);
        this.input(/** @type {Input} */ ({ ...input, line }));
      };
      try {
        socket = transport === "websocket" ? new WebSocket(url) : new HTTPLine({
          url: this.#session,
          fetch,
          credentials: withCredentials ? "include" : "same-origin",
          received: () => this.#machine.stats().received,
          tell,
        });
      } catch (error) {
        return fail(error);
      }
      this.#lines.set(line, socket);
      // The credentials are fetched while the line opens. Should they never come, the machine's patience ends.
      const prepared = prepare();
      prepared.catch((error) => {
        if (this.#lines.get(line) !== socket) return;
        report(new HoldfastError("credentials_failed", `The credentials could not be had: ${error}`, {}, error));
        fail(error);
      });
      const opened = (/** @type {Awaited<typeof prepared>} */ { auth, headers }) => {
        socket.headers = headers;
        tell({ type: "opened", auth });
      };
      socket.onopen = () => prepared.then(opened, ignore);
      if (transport !== "websocket") return socket.onopen(); // There is nothing to connect.
      socket.onmessage = (/** @type {{data: unknown}} */ { data }) => {
        tell({ type: "receive", text: typeof data === "string" ? data : "" });
      };
      socket.onclose = (/** @type {{code: number, reason: string}} */ { code, reason }) => tell({ type: "closed", code, reason });
      socket.onerror = ignore; // close follows
    },
    /** @param {{line: number, text: string, seq?: number}} action */
    send: ({ line, text, seq }) => {
      const socket = this.#lines.get(line);
      const headers = socket?.headers;
      // A WebSocket of a browser cannot send headers, so hello does, on every transport.
      if (headers && text.startsWith('{"event":"hello"')) text = JSON.stringify({ ...JSON.parse(text), headers });
      try {
        socket?.send(text, seq);
      } catch {} // it is closing, and will say so
    },
    /**
     * A dead line's closing handshake can take minutes, so nobody waits for it.
     * @param {{line: number, code?: number}} action
     */
    close: ({ line, code }) => {
      const socket = this.#lines.get(line);
      if (!socket) return;
      this.#lines.delete(line);
      socket.onopen = socket.onmessage = socket.onclose = null;
      socket.onerror = ignore; // `ws` throws where an error finds no handler
      try {
        socket.close(code);
      } catch {}
    },
    /** @param {Extract<Action, {type: "listen"}>} action */
    listen: (action) => this.#lines.get(action.line)?.listen(action),
    /** @param {{memory: Memory|null}} action */
    remember: ({ memory }) => {
      try {
        if (memory) this.#storage?.setItem(this.#key, JSON.stringify(shifted(memory, Date.now() - this.now())));
        else this.#storage?.removeItem(this.#key);
      } catch {
        this.#storage = null; // Full, or forbidden: only the machine remembers.
      }
    },
    /** @param {{at: number|null}} action */
    timer: ({ at }) => {
      clearTimeout(this.#timer);
      if (at !== null) this.#timer = setTimeout(() => this.input({ type: "timer" }), Math.max(0, at - this.now()));
    },
  };

  /** What this page or another one has remembered; what cannot be read is nothing. */
  #recall() {
    if (!this.#storage) return;
    let memory = null;
    try {
      memory = shifted(JSON.parse(/** @type {string} */ (this.#storage.getItem(this.#key))), this.now() - Date.now());
    } catch {}
    this.input({ type: "memory", memory });
  }

  /** What the page and the network tell. A worker has no document, Node has neither. */
  attach() {
    if (this.#attached) return;
    const { signal } = (this.#attached = new AbortController());
    const { document, navigator } = globalThis;
    /** @type {any} */
    const connection = /** @type {any} */ (navigator)?.connection;
    /** @param {EventTarget|undefined} target @param {string} type @param {(event: any) => void} listener */
    const listen = (target, type, listener) => target?.addEventListener?.(type, listener, { signal });
    const visibility = () => this.input({ type: document.visibilityState === "hidden" ? "hidden" : "shown" });
    const doubt = () => this.input({ type: "doubt" });
    const network = () => `${connection?.type} ${connection?.effectiveType}`;
    let before = network();
    listen(document, "visibilitychange", visibility);
    listen(document, "resume", doubt);
    listen(globalThis, "pageshow", ({ persisted }) => persisted && doubt());
    listen(globalThis, "online", () => this.input({ type: "online" }));
    listen(globalThis, "offline", () => this.input({ type: "offline" }));
    // It also fires whenever the measured bandwidth changes, which says nothing about the line.
    listen(connection, "change", () => before !== (before = network()) && this.input({ type: "changed" }));
    // Another tab has learned something. No key: all was cleared.
    listen(globalThis, "storage", ({ key }) => (key ?? this.#key) === this.#key && this.#recall());
    // What happened while nobody listened.
    this.#recall();
    this.input({ type: "online" });
    if (document) visibility();
  }

  detach() {
    this.#attached?.abort();
    this.#attached = null;
  }
}

/* ── 3. The public API ─────────────────────────────────────────────────────────────────────────────────────────────── */

/** What went wrong: `code` is for programs, `message` for people. */
export class HoldfastError extends Error {
  /**
   * @param {string} code
   * @param {string} message
   * @param {WireEvent} [event]
   * @param {unknown} [cause]
   */
  constructor(code, message, event = {}, cause) {
    super(message, { cause });
    this.name = "HoldfastError";
    this.code = code;
    /** @type {number|undefined} where a limit was exceeded */
    this.limit = event.limit;
    /** @type {number|undefined} */
    this.actual = event.actual;
    /** @type {unknown} what the service said */
    this.data = event.data;
  }
}

/** @param {WireEvent} event @returns {HoldfastError} */
function errorOf(event) {
  return new HoldfastError(event.code ?? "server_error", String(event.error ?? "The server gave no reason."), event);
}

/**
 * @typedef {object} StateEvent
 * @property {State} state
 * @property {State} previous
 * @property {string} reason
 * @property {number|null} nextAttemptInMs
 */
/**
 * @typedef {object} ConnectedEvent
 * @property {boolean} resumed whether the session was resumed, so that nothing can be missing
 * @property {string} session its public handle
 * @property {string|undefined} node the gateway that answered
 * @property {Transport|null} transport what carries the session now
 */
/**
 * @typedef {object} RecoveredEvent nothing was lost
 * @property {"session"|"position"} by
 * @property {string|null} subscription null: all of the session
 * @property {number|null} messages how many were missed and follow now, where that is known
 */
/**
 * @typedef {object} GapEvent messages after+1 … next-1 are lost
 * @property {string} subscription
 * @property {number|null} after null: not known, as the history is another one or there is none
 * @property {number|null} next
 * @property {number|null} missing
 */
/**
 * @typedef {object} Message
 * @property {string} subscription
 * @property {any} data
 * @property {number|null} offset null: a topic without history
 * @property {unknown} publishedAt
 * @property {GapEvent|null} gap what is missing before this message
 * @property {WireEvent} event as it came
 */
/** @typedef {{position: Position|null, recovered: boolean|null, data: any}} SubscribedEvent */
/** @typedef {{error: HoldfastError|null}} UnsubscribedEvent */
/**
 * @typedef {object} ClientEvents
 * @property {StateEvent} state
 * @property {ConnectedEvent} connected
 * @property {RecoveredEvent} recovered
 * @property {GapEvent} gap
 * @property {{rtt: number, srtt: number}} rtt ms; a ping was answered
 * @property {{reason: string|undefined, inMs: number}} goaway
 * @property {HoldfastError} error
 */
/**
 * @typedef {object} SubscriptionEvents
 * @property {Message} message
 * @property {GapEvent} gap
 * @property {RecoveredEvent} recovered
 * @property {SubscribedEvent} subscribed
 * @property {UnsubscribedEvent} unsubscribed
 * @property {HoldfastError} error
 */

/** @template Events */
class Emitter {
  /** @type {{[Type in keyof Events]?: ((event: any) => unknown)[]}} never changed in place: a listener may add or remove others */
  #listeners = {};
  /**
   * @internal
   * @type {(error: unknown) => void}
   */
  _failed = console.error;

  /**
   * @template {keyof Events} Type
   * @param {Type} type
   * @param {(event: Events[Type]) => unknown} listener
   */
  on(type, listener) {
    if (typeof listener !== "function") throw new TypeError("A listener must be a function.");
    this.#listeners[type] = [...(this.#listeners[type] ?? []), listener];
    return this;
  }

  /**
   * @template {keyof Events} Type
   * @param {Type} type
   * @param {(event: Events[Type]) => unknown} listener
   */
  once(type, listener) {
    /** @param {Events[Type]} event */
    const first = (event) => {
      this.off(type, first);
      return listener(event);
    };
    first.listener = listener;
    return this.on(type, first);
  }

  /**
   * @template {keyof Events} Type
   * @param {Type} type
   * @param {(event: Events[Type]) => unknown} [listener] absent: all of this type
   */
  off(type, listener) {
    /** @param {any} each */
    const stays = (each) => listener && each !== listener && each.listener !== listener;
    this.#listeners[type] = this.#listeners[type]?.filter(stays);
    return this;
  }

  /**
   * @internal
   * @template {keyof Events} Type
   * @param {Type} type
   * @param {Events[Type]} event
   * @param {(error: unknown) => void} [failed] gets what a listener throws: it must disturb nothing else
   * @returns {boolean} whether anybody listens
   */
  _emit(type, event, failed = this._failed) {
    const listeners = this.#listeners[type] ?? [];
    for (const listener of listeners) {
      try {
        Promise.resolve(listener(event)).catch(failed);
      } catch (error) {
        failed(error);
      }
    }
    return listeners.length > 0;
  }
}

/**
 * One `for await` over a subscription.
 * @internal
 * @typedef {object} Loop
 * @property {Message[]} messages
 * @property {(value?: unknown) => void} wake
 * @property {HoldfastError|null|undefined} error comes after what is in the buffer. null: it ends well; undefined: it goes on
 */

/**
 * A subscription, from `client.subscribe(name)`. It survives lost lines and lost sessions.
 *
 * `for await (const message of subscription)` gives the messages from then on, until the subscription ends or the client
 * is closed. Each loop has a buffer of `bufferSize` messages; a loop that falls further behind ends with an error
 * (`buffer_full`), never by skipping messages.
 *
 * @extends {Emitter<SubscriptionEvents>}
 */
export class Subscription extends Emitter {
  /** @type {"subscribing"|"subscribed"|"unsubscribed"} */
  #state = "subscribing";
  /** @type {Position|null} what is left of the position when it is over */
  #last = null;
  /** @type {GapEvent|null} not yet told to the loops */
  #gap = null;
  /** @type {Set<Loop>} those that go on */
  #loops = new Set();
  /** @type {{resolve: (value: SubscribedEvent) => void, reject: (error: HoldfastError) => void}[]} */
  #waiting = [];
  /** @type {SubscribedEvent|undefined} */
  #subscribed;
  /** @type {HoldfastError|null|undefined} why it is over; null: by the app */
  #error;
  #client;
  #id;
  /**
   * An unsubscribe is under way.
   * @internal
   */
  _leaving = false;

  /**
   * @internal
   * @param {Holdfast} client
   * @param {string} name
   * @param {string} id
   */
  constructor(client, name, id) {
    super();
    /** @readonly */
    this.name = name;
    this.#client = client;
    this.#id = id;
    this._failed = client._failed;
  }

  get state() {
    return this.#state;
  }

  /** The position of the last message that you were given: hand it to `subscribe` as `since`, to go on after it. */
  get position() {
    const topic = this.#client._topics.get(this.name);
    return topic?.id === this.#id && topic.position ? { ...topic.position } : this.#last;
  }

  /**
   * Resolves when the server has confirmed the subscription, rejects when it refuses.
   * @returns {Promise<SubscribedEvent>}
   */
  ready() {
    return new Promise((resolve, reject) => {
      if (this.#state === "unsubscribed") reject(this.#error ?? this.#over());
      else if (this.#subscribed) resolve(this.#subscribed);
      else this.#waiting.push({ resolve, reject });
    });
  }

  /**
   * Resolves when the server has confirmed. Messages are delivered until then.
   * @returns {Promise<void>}
   */
  async unsubscribe() {
    if (this.#state === "unsubscribed") return;
    this._leaving = true;
    try {
      await this.#client._command("unsubscribe", this.name);
      this._end(null);
    } finally {
      this._leaving = false;
    }
  }

  /**
   * Sends a message to the service.
   * @param {any} data
   * @param {Record<string, any>} [fields] extra fields that the service asks for
   * @returns {Promise<any>} the data of its reply
   */
  message(data, fields) {
    return this.#client.message(this.name, data, fields);
  }

  /** @returns {AsyncGenerator<Message, void, void>} */
  async *[Symbol.asyncIterator]() {
    /** @type {Loop} */
    const loop = { messages: [], wake() {}, error: this.#error };
    this.#loops.add(loop);
    try {
      for (;;) {
        for (let message; (message = loop.messages.shift()); ) yield message;
        if (loop.error) throw loop.error;
        if (loop.error === null) return;
        await new Promise((resolve) => (loop.wake = resolve));
      }
    } finally {
      this.#loops.delete(loop);
    }
  }

  /**
   * @internal
   * @param {WireEvent} event
   * @param {Position|undefined} since
   */
  _subscribed(event, since) {
    this.#state = "subscribed";
    this.#last = this.position;
    this.#subscribed = { position: positionOf(event), recovered: since ? event.recovered === true : null, data: event.data };
    for (const { resolve } of this.#waiting.splice(0)) resolve(this.#subscribed);
    this._emit("subscribed", this.#subscribed);
  }

  /**
   * @internal
   * @param {WireEvent} event
   */
  _message(event) {
    const { data, offset = null, published_at: publishedAt } = event;
    const message = { subscription: this.name, data, offset, publishedAt, gap: this.#gap, event };
    this.#gap = null;
    this.#last = this.position;
    const limit = this.#client._bufferSize;
    for (const loop of this.#loops) {
      if (loop.messages.length < limit) {
        loop.messages.push(message);
        loop.wake();
      } else {
        const text = `A loop over ${this.name} fell behind by more than ${limit} messages.`;
        this.#endLoop(loop, new HoldfastError("buffer_full", text, { limit, actual: limit + 1 }));
      }
    }
    this._emit("message", message);
  }

  /**
   * @internal
   * @param {GapEvent} gap
   */
  _gap(gap) {
    this.#gap = this.#gap ? gapOf(this.name, this.#gap.after, gap.next) : gap;
    this._emit("gap", gap);
  }

  /**
   * It is over: by the app (null), or not.
   * @internal
   * @param {HoldfastError|null} error
   */
  _end(error) {
    if (this.#state === "unsubscribed") return;
    this.#state = "unsubscribed";
    this.#error = error;
    this._interrupt(error, this.#over());
    if (error && !this._emit("error", error)) this.#client._report(error);
    this._emit("unsubscribed", { error });
  }

  /**
   * Nothing more will come for those who wait.
   * @internal
   * @param {HoldfastError|null} error for the loops; null: they end well
   * @param {HoldfastError} reason for `ready`
   */
  _interrupt(error, reason) {
    for (const { reject } of this.#waiting.splice(0)) reject(error ?? reason);
    for (const loop of this.#loops) this.#endLoop(loop, error);
  }

  /**
   * @param {Loop} loop
   * @param {HoldfastError|null} error
   */
  #endLoop(loop, error) {
    this.#loops.delete(loop);
    loop.error = error;
    loop.wake();
  }

  #over() {
    return new HoldfastError("not_subscribed", `${this.name} was unsubscribed.`);
  }
}

/** @typedef {Pick<Storage, "getItem"|"setItem"|"removeItem">} MemoryStorage */
/**
 * @typedef {object} Options
 * @property {boolean} [autoConnect] connect without being asked (default true)
 * @property {() => string|Promise<string>} [getTicket] called for each attempt: a ticket for `auth` with method "ticket"
 * @property {() => string|Promise<string>} [getToken] called for each attempt: a token for `auth` with method "token"
 * @property {Transport[]} [transports] that may be used (default "websocket", "stream" and "poll")
 * @property {Record<string, string>|(() => Record<string, string>|Promise<Record<string, string>>)} [headers] for the
 *   gateway's services: on each HTTP request, and within `hello`. A function is called for each attempt
 * @property {boolean} [withCredentials] cookies on HTTP requests to another origin (default false)
 * @property {MemoryStorage|null} [storage] where it is remembered that WebSockets do not get through (default `localStorage`)
 * @property {number} [connectTimeout] ms for a line to open, and again for the first answer (default 10,000)
 * @property {number} [queueBytes] commands kept while away or unacknowledged, in bytes (default 1 MiB)
 * @property {number} [maxAttempts] give up after so many lines in a row that were of no use (default: never)
 * @property {number} [bufferSize] messages that a `for await` may fall behind (default 1,024)
 * @property {{name: string, version: string}} [client] shown on the server's side
 * @property {any} [WebSocket] the class, where there is no global one (Node before 22)
 * @property {typeof globalThis.fetch} [fetch] instead of the global one
 * @property {() => number} [random] in [0, 1), for tests
 * @property {() => number} [now] ms of a monotonic clock, for tests
 */

const aFunction = /** @type {const} */ (["a function", (/** @type {any} */ value) => typeof value === "function"]);
const aCount = /** @type {const} */ (["a whole number above 0", (/** @type {any} */ value) => value > 0 && Number.isSafeInteger(value)]);
const aFlag = /** @type {const} */ (["true or false", (/** @type {any} */ value) => typeof value === "boolean"]);
/** @type {Transport[]} */
const TRANSPORTS = ["websocket", "stream", "poll"];
/** @type {Record<keyof Options, readonly [string, (value: any) => boolean]>} */
const OPTIONS = {
  autoConnect: aFlag,
  getTicket: aFunction,
  getToken: aFunction,
  transports: [
    `a list of ${TRANSPORTS.join(", ")}`,
    (value) => Array.isArray(value) && value.length > 0 && value.every((each) => TRANSPORTS.includes(each)),
  ],
  headers: ["{name: value} or a function", (value) => value && /object|function/.test(typeof value)],
  withCredentials: aFlag,
  storage: ["a Storage, or null", (value) => value === null || typeof value.getItem === "function"],
  connectTimeout: aCount,
  queueBytes: aCount,
  maxAttempts: aCount,
  bufferSize: aCount,
  client: ["{name, version} of strings", (value) => typeof value?.name === "string" && typeof value.version === "string"],
  WebSocket: aFunction,
  fetch: aFunction,
  random: aFunction,
  now: aFunction,
};

/**
 * A mistake in the options shows at once, not as a client that behaves strangely.
 * @param {any} options
 */
function checkOptions(options) {
  for (const [name, value] of Object.entries(options)) {
    const rule = OPTIONS[/** @type {keyof Options} */ (name)];
    if (!rule) {
      const nearest = Object.keys(OPTIONS).sort((a, b) => likeness(b, name) - likeness(a, name))[0];
      throw new TypeError(`Holdfast has no option "${name}". Did you mean "${nearest}"?`);
    }
    if (value !== undefined && !rule[1](value)) throw new TypeError(`Holdfast's option "${name}" must be ${rule[0]}.`);
  }
  if (options.getTicket && options.getToken) throw new TypeError('Holdfast takes "getTicket" or "getToken", not both.');
}

/**
 * How much two names have in common: pairs of letters, and how they begin.
 * @param {string} a
 * @param {string} b
 */
function likeness(a, b) {
  const [left, right] = [a, b].map((name) => " " + name.toLowerCase());
  return [...left].filter((letter, i) => right.includes(letter + left[i + 1])).length / a.length; // "undefined" ends no name
}

/** @param {string} url @returns {string} */
function socketURL(url) {
  try {
    const { href } = new URL(url || "/socket", globalThis.location?.href);
    const socket = href.replace(/^http/, "ws").replace(/#.*/, "");
    if (/^wss?:/.test(socket)) return socket;
  } catch {}
  throw new TypeError(`Holdfast cannot connect to "${url}": give an http(s) or ws(s) URL, or in a page a path.`);
}

/** Reading the property throws where the user has forbidden it. A worker has none; Node's would be a file. */
function pageStorage() {
  try {
    return globalThis.window?.localStorage;
  } catch {
    return null;
  }
}

/**
 * A connection to a Holdfast gateway that holds.
 *
 *     const client = new Holdfast("https://example.com/socket");
 *     const calls = client.subscribe("calls.call_1");
 *     calls.on("message", ({ data }) => show(data));
 *
 * @extends {Emitter<ClientEvents>}
 */
export class Holdfast extends Emitter {
  /** @type {Map<string, Subscription>} */
  #subscriptions = new Map();
  /** @type {Map<string, (reply: WireEvent) => void>} */
  #replies = new Map();
  #lastId = 0;
  #machine;
  /** @type {Driver} */
  #driver;
  #prefix;
  #url;
  #options;

  /**
   * @param {string} [url] http(s), ws(s), or a path on the page's own host (default "/socket")
   * @param {Options} [options]
   */
  constructor(url = "", options = {}) {
    super();
    checkOptions(options);
    const { autoConnect = true, getTicket, getToken, bufferSize = 1_024, random = Math.random, transports = TRANSPORTS } = options;
    const { WebSocket = globalThis.WebSocket, fetch = globalThis.fetch, now = () => performance.now() } = options;
    const { headers, storage = pageStorage() } = options;
    if (!WebSocket && transports.includes("websocket")) {
      throw new TypeError('There is no WebSocket here: give one as option "WebSocket", or "transports" without it.');
    }
    this.#url = socketURL(url);
    this.#options = options;
    const method = getTicket ? "ticket" : "token";
    const get = getTicket ?? getToken;
    const prepare = async () => {
      const [value, own] = await Promise.all([get?.(), typeof headers === "function" ? headers() : headers]);
      if (get && typeof value !== "string") throw new TypeError(`the ${method} is not a string`);
      const auth = get && { event: "auth", method, [method]: value };
      return { auth, headers: own && Object.fromEntries(new Headers(own)) };
    };
    // Services know a repeated message by its id, so no two clients may have the same ones.
    this.#prefix = random().toString(36).slice(2) + ".";
    this.#machine = new ConnectionMachine({ ...options, random, credentials: !!get, transports });
    this.#driver = new Driver(this.#machine, {
      ...options, url: this.#url, WebSocket, fetch, storage, now, prepare,
      perform: (action) => /** @type {any} */ (this.#perform)[action.type](action),
      report: (error) => this._report(error),
    });
    /** @internal */
    this._bufferSize = bufferSize;
    /** @internal */
    this._topics = this.#machine.topics;
    /**
     * A callback of the app has thrown.
     * @internal
     * @param {unknown} error
     */
    this._failed = (error) => this._report(new HoldfastError("callback_failed", `A callback has thrown: ${error}`, {}, error));
    // Not before the app had the chance to listen and to subscribe, which then goes in one flight with hello.
    if (autoConnect) queueMicrotask(() => this.state === "idle" && this.connect());
  }

  /** @returns {State} */
  get state() {
    return this.#machine.state;
  }

  /** Connects; while it waits for the next attempt: tries at once. */
  connect() {
    this.#driver.attach();
    this.#driver.input({ type: "connect" });
    return this;
  }

  /** Tries a WebSocket now, also where it is known that they do not get through. Events flow on meanwhile. */
  probe() {
    this.#driver.input({ type: "probe" });
  }

  /**
   * Tries each transport once, beside the running line, and says in words what stands in between.
   * @returns {Promise<import("./diagnose.js").Diagnosis>}
   */
  async diagnose() {
    const { diagnose } = await import("./diagnose.js");
    return diagnose(this.#url, this.#options);
  }

  /** Ends the session. What waits for a reply fails. Subscriptions stay, `connect` takes them up again where they were. */
  close() {
    this.#driver.input({ type: "close" });
  }

  /**
   * The subscription of this name; the same as before, while it lasts.
   * @param {string} name "service.topic"
   * @param {{since?: Position, [field: string]: any}} [options] `since`: go on after this position. Others: extra fields
   * @returns {Subscription}
   */
  subscribe(name, options = {}) {
    if (typeof name !== "string" || !name) throw new TypeError('A subscription needs a name such as "calls.call_1".');
    const { since, ...fields } = options;
    if (since !== undefined && !positionOf({ position: since })) throw new TypeError('"since" is a position: {epoch, offset}.');
    JSON.stringify(fields); // what cannot be sent throws here, not later
    const existing = this.#subscriptions.get(name);
    if (existing && !existing._leaving) {
      if (Object.keys(options).length) throw new Error(`${name} is subscribed already: unsubscribe before you give other options.`);
      return existing;
    }
    const id = this.#id();
    const subscription = new Subscription(this, name, id);
    this.#subscriptions.set(name, subscription);
    this.#driver.input({ type: "subscribe", id, subscription: name, since, fields });
    return subscription;
  }

  /**
   * Sends a message to a subscription's service.
   * @param {string} name
   * @param {any} data
   * @param {Record<string, any>} [fields] extra fields that the service asks for
   * @returns {Promise<any>} the data of its reply
   */
  message(name, data, fields) {
    return this._command("message", name, data, fields);
  }

  stats() {
    const { session, blockedUntil, ...stats } = this.#machine.stats();
    // The session's name without its secret.
    return { ...stats, session: session && session.split(".")[0], blockedUntil: this.#until(blockedUntil) };
  }

  #id() {
    return this.#prefix + (++this.#lastId).toString(36);
  }

  /**
   * @internal
   * @param {"unsubscribe"|"message"} type
   * @param {string} subscription
   * @param {any} [data]
   * @param {Record<string, any>} [fields]
   * @returns {Promise<any>}
   */
  _command(type, subscription, data, fields) {
    const id = this.#id();
    return new Promise((resolve, reject) => {
      this.#replies.set(id, (reply) => (reply.status === "ok" ? resolve(reply.data) : reject(errorOf(reply))));
      try {
        this.#driver.input({ type, id, subscription, data, fields });
      } catch (error) {
        // JSON cannot say this.
        this.#replies.delete(id);
        throw error;
      }
    });
  }

  /** @type {{[Type in Action["type"]]?: (action: Extract<Action, {type: Type}>) => unknown}} what is not about lines */
  #perform = {
    state: ({ type, nextAttemptAt, ...event }) => {
      const { state, reason } = event;
      if (state === "closed") {
        this.#driver.detach();
        const error = new HoldfastError("closed", `The client is closed: ${reason}.`);
        // By the app: the loops end well.
        for (const subscription of this.#subscriptions.values()) subscription._interrupt(reason === "closed_by_app" ? null : error, error);
      }
      this._emit(type, { ...event, nextAttemptInMs: this.#until(nextAttemptAt) });
    },
    connected: ({ resumed, event: { session, node } }) => {
      this._emit("connected", { resumed, session: session.split(".")[0], node, transport: this.#machine.stats().transport });
      if (!resumed) return;
      const recovered = /** @type {RecoveredEvent} */ ({ by: "session", subscription: null, messages: null });
      this._emit("recovered", recovered);
      for (const [name, subscription] of this.#subscriptions) {
        if (subscription.state === "subscribed") subscription._emit("recovered", { ...recovered, subscription: name });
      }
    },
    subscribed: ({ subscription: name, since, event }) => {
      const subscription = this.#subscriptions.get(name);
      const position = positionOf(event);
      subscription?._subscribed(event, since);
      if (!since || !position || !event.recovered) return;
      const messages = position.offset - since.offset;
      const recovered = /** @type {RecoveredEvent} */ ({ by: "position", subscription: name, messages });
      subscription?._emit("recovered", recovered);
      this._emit("recovered", recovered);
    },
    unsubscribed: ({ subscription: name, event }) => {
      const subscription = this.#subscriptions.get(name);
      this.#subscriptions.delete(name);
      subscription?._end(event.error === undefined ? null : errorOf(event));
    },
    message: ({ event }) => this.#subscriptions.get(event.subscription)?._message(event),
    gap: ({ subscription, after, next }) => {
      const gap = gapOf(subscription, after, next);
      this.#subscriptions.get(subscription)?._gap(gap);
      this._emit("gap", gap);
    },
    reply: ({ id, event }) => {
      this.#replies.get(id)?.(event);
      this.#replies.delete(id);
    },
    rtt: ({ rtt, srtt }) => this._emit("rtt", { rtt, srtt }),
    goaway: ({ at, event: { reason } }) => this._emit("goaway", { reason, inMs: /** @type {number} */ (this.#until(at)) }),
    error: ({ code, error, event }) => this._report(new HoldfastError(code, error, event)),
  };

  /** @param {number|null|undefined} time @returns {number|null} ms until then */
  #until(time) {
    return time == null ? null : Math.max(0, time - this.#driver.now());
  }

  /**
   * Nobody listens, or the listener is broken too: the console.
   * @internal
   * @param {HoldfastError} error
   */
  _report(error) {
    if (!this._emit("error", error, console.error)) console.error(error);
  }
}

/**
 * @param {string} subscription
 * @param {number|null} after
 * @param {number|null} next
 * @returns {GapEvent}
 */
function gapOf(subscription, after, next) {
  return { subscription, after, next, missing: after === null || next === null ? null : next - after - 1 };
}

export { Holdfast as default };
