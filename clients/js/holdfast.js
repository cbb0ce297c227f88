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
 *   closed       line code reason? retryAfter?  the line failed or ended; `retryAfter`: seconds, or [from, to]
 *   timer                                       the time of the last `timer` action has come
 *   hidden, shown                               the page
 *   offline, online                             the network, as far as the platform knows
 *   doubt                                       something happened that often kills lines: ask
 *
 * Actions
 *   open         line transport                 open a line; answered by `opened` or `closed`
 *   send         line text                      one text frame
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
 *   error        code error …                   something that the app should know; the machine goes on by itself
 */

/** @typedef {{epoch: string, offset: number}} Position */
/** @typedef {Record<string, any>} WireEvent one event of the protocol, as parsed */
/** @typedef {"idle"|"connecting"|"connected"|"suspended"|"reconnecting"|"closed"} State */
/** @typedef {number|[number, number]} RetryAfter seconds */
/**
 * @typedef {{type: "connect"} | {type: "close"} | {type: "timer"} | {type: "doubt"}
 *   | {type: "hidden"} | {type: "shown"} | {type: "offline"} | {type: "online"}
 *   | {type: "subscribe", id: string, subscription: string, since?: Position, fields?: WireEvent}
 *   | {type: "unsubscribe", id: string, subscription: string}
 *   | {type: "message", id: string, subscription: string, data: unknown, fields?: WireEvent}
 *   | {type: "opened", line: number, auth?: WireEvent}
 *   | {type: "receive", line: number, text: string}
 *   | {type: "closed", line: number, code: number, reason?: string, retryAfter?: RetryAfter}} Input
 */
/**
 * @typedef {{type: "open", line: number, transport: "websocket"}
 *   | {type: "send", line: number, text: string}
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
 */

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

/** When to try again. Full jitter: with anything less, clients that were dropped together come back together. */
export class Backoff {
  failures = 0; // lines since the last useful one that did not open, or did not live long enough to be useful
  spread = 1_000; // ms, from the last hello: over how long the server wants its clients to come back

  /** @param {() => number} random */
  constructor(random) {
    this.random = random;
  }

  /** @param {number} from @param {number} to */
  between(from, to) {
    return to > from ? from + Math.floor(this.random() * (to - from)) : from;
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
export class RoundTrip {
  /** @type {number|null} */
  srtt = null;
  rttvar = 0;

  /** @param {number} rtt */
  sample(rtt) {
    if (this.srtt === null) {
      this.srtt = rtt;
      this.rttvar = rtt / 2;
    } else {
      this.rttvar = 0.75 * this.rttvar + 0.25 * Math.abs(this.srtt - rtt);
      this.srtt = 0.875 * this.srtt + 0.125 * rtt;
    }
  }

  /** How long a pong may take before the line is suspect. Short, because a suspicion costs only a race. */
  wait() {
    if (this.srtt === null) return WAIT_MAX_MS;
    return Math.min(Math.max(Math.ceil(this.srtt + 4 * this.rttvar + 500), WAIT_MIN_MS), WAIT_MAX_MS);
  }
}

/** Whether the line lives: quiet → ping → suspect → dead. Anything heard starts over. */
export class Liveness {
  interval = 4_000;
  timeout = 5_000;
  heardAt = 0;
  wait = 0;
  /** @type {number|null} a ping is out and nothing was heard since */
  askedAt = null;
  /** @type {number|null} */
  suspectAt = null;

  /** @param {number} now @returns {boolean} whether the line was suspect until now */
  heard(now) {
    const wasSuspect = this.suspectAt !== null;
    this.heardAt = now;
    this.askedAt = this.suspectAt = null;
    return wasSuspect;
  }

  /** @param {number} now @param {number} wait */
  asked(now, wait) {
    this.askedAt = now;
    this.wait = wait;
    // Asked in doubt: a suspect line gets its whole time again, a page that wakes up must not throw a good line away.
    if (this.suspectAt !== null) this.suspectAt = now;
  }

  next() {
    if (this.suspectAt !== null) return this.suspectAt + this.timeout;
    if (this.askedAt !== null) return this.askedAt + this.wait;
    return this.heardAt + this.interval;
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

/**
 * @typedef {object} Command
 * @property {string} [id] absent: no reply is awaited
 * @property {string} kind
 * @property {string} [subscription]
 * @property {string} text
 * @property {number} bytes of UTF-8
 * @property {Topic} [topic] that an unsubscribe ends
 * @property {boolean} [unacknowledged]
 * @property {boolean} [unanswered]
 */

/**
 * What was sent and is not yet counted by the server (repeated after a resume), and what has no reply yet (repeated
 * in a new session). A command takes room until it is neither.
 */
export class Outbox {
  bytes = 0;
  /** Events of this session that the server has counted. */
  acknowledged = 0;
  /** @type {Command[]} number acknowledged+1, +2, … of this session */
  unacknowledged = [];
  /** @type {Map<string, Command>} in the order of the app's calls */
  unanswered = new Map();

  /** @param {number} limit bytes */
  constructor(limit) {
    this.limit = limit;
  }

  /** @param {Command} command */
  hasRoom(command) {
    return this.bytes + command.bytes <= this.limit;
  }

  /**
   * Awaits the reply.
   * @param {Command} command
   */
  await(command) {
    this.#keep(command, "unanswered");
    this.unanswered.set(/** @type {string} */ (command.id), command);
  }

  /**
   * Counts it into the session.
   * @param {Command} command @param {boolean} [first] before all that is not acknowledged
   */
  post(command, first = false) {
    this.#keep(command, "unacknowledged");
    if (first) this.unacknowledged.unshift(command);
    else this.unacknowledged.push(command);
  }

  /** @param {unknown} received the server's count @returns {boolean} false: the count cannot be */
  acknowledge(received) {
    if (!Number.isSafeInteger(received)) return false;
    const news = /** @type {number} */ (received) - this.acknowledged;
    if (news < 0 || news > this.unacknowledged.length) return false;
    for (const command of this.unacknowledged.splice(0, news)) this.#release(command, "unacknowledged");
    this.acknowledged += news;
    return true;
  }

  /** @param {string} id @returns {Command|undefined} */
  answer(id) {
    const command = this.unanswered.get(id);
    if (!command) return undefined;
    this.unanswered.delete(id);
    this.#release(command, "unanswered");
    return command;
  }

  /** What the server has perhaps yet to receive. */
  unacknowledgedBytes() {
    return this.unacknowledged.reduce((sum, command) => sum + command.bytes, 0);
  }

  /** Takes a message out that the server will not have. Those after it move up: it was never counted. */
  removeBiggest() {
    let biggest;
    for (const command of this.unacknowledged) {
      if (command.kind === "message" && command.unanswered && command.bytes > (biggest?.bytes ?? 0)) biggest = command;
    }
    if (!biggest) return undefined;
    this.unacknowledged.splice(this.unacknowledged.indexOf(biggest), 1);
    this.#release(biggest, "unacknowledged");
    return this.answer(/** @type {string} */ (biggest.id));
  }

  /**
   * A new session counts from nought.
   * @returns {Command[]} what has no reply, in order
   */
  restart() {
    for (const command of this.unacknowledged.splice(0)) this.#release(command, "unacknowledged");
    this.acknowledged = 0;
    return [...this.unanswered.values()];
  }

  /** @param {Command} command @param {"unacknowledged"|"unanswered"} why */
  #keep(command, why) {
    if (!command.unacknowledged && !command.unanswered) this.bytes += command.bytes;
    command[why] = true;
  }

  /** @param {Command} command @param {"unacknowledged"|"unanswered"} why */
  #release(command, why) {
    command[why] = false;
    if (!command.unacknowledged && !command.unanswered) this.bytes -= command.bytes;
  }
}

/**
 * @typedef {object} Line
 * @property {number} id
 * @property {"opening"|"probing"|"hello"|"live"} phase
 * @property {number} since start of the attempt
 * @property {number} phaseAt start of the phase
 * @property {boolean} resuming its hello asked for our session
 * @property {WireEvent} [auth]
 */
/**
 * @typedef {object} Topic one subscription
 * @property {string} id of its command, also when the machine repeats it
 * @property {string} name
 * @property {WireEvent} fields
 * @property {Position|null} position of the last message that went to the app
 * @property {Position|undefined} since sent with the subscribe that is under way
 * @property {boolean} active the server has confirmed it in this session
 * @property {boolean} before it was confirmed in an earlier session
 */

/**
 * The client's side of a session.
 *
 * At most two lines exist: `main`, which carries the session or is about to, and beside a live main a `rival`, which is
 * to replace it because main is suspect or the server says goaway. A rival asks `probe` first. Whoever speaks first
 * wins: main speaks, the rival is dropped and the server never noticed; the rival speaks, main is dropped *before* the
 * session is moved by hello, so that nothing is taken from main that the server will repeat on the rival.
 */
export class ConnectionMachine {
  /** @type {State} */
  state = "idle";
  /** @type {Map<string, Topic>} */
  topics = new Map();
  backoff;
  outbox;
  roundTrip = new RoundTrip();
  liveness = new Liveness();
  counts = { attempts: 0, races: 0, resumed: 0, sessions: 0, duplicates: 0, gaps: 0 };

  /** @type {Action[]} */
  #actions = [];
  #now = 0;
  #options;
  /** @type {Line|null} */
  #main = null;
  /** @type {Line|null} */
  #rival = null;
  #lastLine = 0;
  #hidden = false;
  #offline = false;
  #heartbeat = { interval: 4_000, hidden: 25_000 };
  /** @type {string|null} */
  #session = null;
  #received = 0; // events of the server in this session
  #acked = 0; // of these, what we have told it
  #ackBytes = 0; // their bytes since
  /** @type {number|null} */
  #ackAt = null;
  /** @type {number|null} by then we want a count from the server */
  #countAt = null;
  /** @type {{data: string, at: number}|null} */
  #ping = null;
  #pings = 0;
  /** @type {number|null} */
  #attemptAt = null;
  #attemptNotBefore = 0; // the server's advice, which no doubt may shorten
  #raceNotBefore = 0;
  #moving = false; // the server said goaway
  #liveAt = 0; // when the last hello was answered
  #forgiven = false; // a late timer was excused, and nothing was heard since
  #reauthenticate = false;
  #penalty = false; // the server objects: not even the first attempt may be soon
  #refreshed = false; // credentials were asked anew because of 4001
  /** Lines that we gave up after their hello: it may yet arrive, and take the session (4000) from the line that has it. */
  #ghosts = 0;
  /** @type {number|null} */
  #timerAt = null;

  /** @param {MachineOptions} options */
  constructor(options) {
    this.#options = {
      client: { name: "holdfast-js", version: "0.1.0" },
      credentials: false,
      connectTimeout: 10_000,
      queueBytes: 1_048_576,
      maxAttempts: Infinity,
      ...options,
    };
    this.backoff = new Backoff(options.random);
    this.outbox = new Outbox(this.#options.queueBytes);
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
      case "closed": this.#closed(input); break;
      case "timer": this.#timer(); break;
      case "hidden": this.#hide(); break;
      case "shown": this.#show(); break;
      case "offline": this.#goOffline(); break;
      case "online": this.#goOnline(); break;
      case "doubt": this.#doubt("doubt"); break;
    }
    this.#arm();
    return this.#actions;
  }

  stats() {
    return {
      ...this.counts,
      state: this.state,
      session: this.#session,
      received: this.#received,
      sent: this.outbox.acknowledged + this.outbox.unacknowledged.length,
      unacknowledged: this.outbox.unacknowledged.length,
      unanswered: this.outbox.unanswered.size,
      queuedBytes: this.outbox.bytes,
      srtt: this.roundTrip.srtt === null ? null : Math.round(this.roundTrip.srtt),
      spread: this.backoff.spread,
      suspect: this.liveness.suspectAt !== null,
    };
  }

  /** @param {Action} action */
  #do(action) {
    this.#actions.push(action);
  }

  /** @param {State} state @param {string} reason */
  #become(state, reason) {
    /** @type {Action} */
    const action = { type: "state", state, previous: this.state, reason };
    if (state === "reconnecting" && this.#attemptAt !== null) action.nextAttemptAt = this.#attemptAt;
    this.state = state;
    this.#do(action);
  }

  // ── Commands of the app

  #connect() {
    if (this.state === "idle" || this.state === "closed") {
      this.backoff.failures = 0;
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
    if (this.#rival) this.#letGo(this.#rival, 1000);
    if (this.#main) this.#letGo(this.#main, 1000);
    this.#main = this.#rival = this.#session = this.#attemptAt = null;
    this.#moving = false;
    this.#attemptNotBefore = this.#ghosts = 0;
    if (error) this.#do(error);
    this.#become("closed", reason);
    for (const message of this.#withdraw()) {
      this.outbox.answer(/** @type {string} */ (message.id));
      this.#fail(message, "closed", "The connection was closed before the reply.");
    }
    for (const topic of this.topics.values()) topic.active = false;
  }

  /** @param {Extract<Input, {type: "subscribe"}>} input */
  #subscribe({ id, subscription, since, fields = {} }) {
    /** @type {Topic} */
    const topic = { id, name: subscription, fields, position: since ? { ...since } : null, since: undefined, active: false, before: false };
    if (this.#counting() && !this.#submit(this.#subscribeCommand(topic))) return;
    this.topics.set(subscription, topic);
  }

  /** @param {Topic} topic @returns {Command} */
  #subscribeCommand(topic) {
    topic.active = false;
    topic.since = topic.position ? { ...topic.position } : undefined;
    const { name, id, since } = topic;
    return command("subscribe", { ...topic.fields, event: "subscribe", subscription: name, since, id });
  }

  /** @param {Extract<Input, {type: "unsubscribe"}>} input */
  #unsubscribe({ id, subscription }) {
    const unsubscribe = command("unsubscribe", { event: "unsubscribe", subscription, id });
    unsubscribe.topic = this.topics.get(subscription);
    // Without a session there is nobody to ask.
    if (!this.#counting()) this.#ended(unsubscribe);
    else this.#submit(unsubscribe);
  }

  /** @param {Extract<Input, {type: "message"}>} input */
  #message({ id, subscription, data, fields }) {
    const message = command("message", { ...fields, event: "message", subscription, data, id });
    if (this.state === "closed") return this.#fail(message, "closed", "The connection is closed.");
    this.#submit(message);
  }

  /** An event counts from the moment that it belongs to a session, or to a hello whose session has no name yet. */
  #counting() {
    return this.#session !== null || this.#main?.phase === "hello";
  }

  /** @param {Command} command @returns {boolean} */
  #submit(command) {
    if (!this.outbox.hasRoom(command)) {
      const { limit, bytes } = this.outbox;
      const actual = bytes + command.bytes;
      this.#fail(command, "queue_full", `The queue holds at most ${limit} bytes, this would make it ${actual}.`, { limit, actual });
      return false;
    }
    this.outbox.await(command);
    if (this.#counting()) this.#post(command);
    // Half of the room is taken by what the server may have counted long ago: ask.
    if (this.#main?.phase === "live" && this.outbox.bytes * 2 > this.outbox.limit && this.liveness.askedAt === null) this.#sendPing();
    return true;
  }

  /** @param {Command} command */
  #post(command) {
    this.outbox.post(command);
    // Behind a resuming hello nothing is sent before the reply: we do not know yet what to repeat.
    if (this.#main?.phase === "live" || (this.#main?.phase === "hello" && !this.#main.resuming)) this.#write(command);
  }

  /** @param {Command} command */
  #write(command) {
    const line = /** @type {Line} */ (this.#main);
    this.#do({ type: "send", line: line.id, text: command.text });
    this.#countAt ??= this.#now + this.liveness.interval;
  }

  /** @param {Command} command @param {string} code @param {string} error @param {object} [more] */
  #fail(command, code, error, more) {
    const { kind, id, subscription } = command;
    const event = { event: kind, status: "error", code, error, ...more };
    if (kind === "subscribe") this.#do({ type: "unsubscribed", subscription: /** @type {string} */ (subscription), event });
    else this.#do({ type: "reply", id: /** @type {string} */ (id), event });
  }

  /**
   * An unsubscribe has done its work.
   * @param {Command} command @param {WireEvent} [event] absent: it needed no server
   */
  #ended({ id = "", subscription = "", topic }, event = { event: "unsubscribe", subscription, status: "ok" }) {
    // The app may have subscribed anew meanwhile: that is another topic.
    if (topic && this.topics.get(subscription) === topic) {
      this.topics.delete(subscription);
      this.#do({ type: "unsubscribed", subscription, event });
    }
    this.#do({ type: "reply", id, event });
  }

  /**
   * The session is gone: all that it had to do is done or void, but for the messages.
   * @returns {Command[]} these
   */
  #withdraw() {
    const messages = [];
    for (const command of this.outbox.restart()) {
      if (command.kind === "message") {
        messages.push(command);
        continue;
      }
      this.outbox.answer(/** @type {string} */ (command.id));
      if (command.kind === "unsubscribe") this.#ended(command);
    }
    return messages;
  }

  // ── Lines

  /** Opens a line: main, or a rival beside a live main. */
  #attempt() {
    this.#attemptAt = null;
    this.counts.attempts++;
    /** @type {Line} */
    const line = { id: ++this.#lastLine, phase: "opening", since: this.#now, phaseAt: this.#now, resuming: false };
    if (this.#main) {
      this.#rival = line;
      if (!this.#moving) this.counts.races++;
    } else this.#main = line;
    this.#do({ type: "open", line: line.id, transport: "websocket" });
  }

  /** @param {Line} line @param {Line["phase"]} phase */
  #enter(line, phase) {
    line.phase = phase;
    line.phaseAt = this.#now;
  }

  /** @param {number} id @returns {Line|null} null: one that we have let go */
  #line(id) {
    if (this.#main?.id === id) return this.#main;
    return this.#rival?.id === id ? this.#rival : null;
  }

  /** @param {Line} line @param {number} [code] */
  #letGo(line, code) {
    this.#haunt(line);
    this.#do(code === undefined ? { type: "close", line: line.id } : { type: "close", line: line.id, code });
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
    this.#do({ type: "send", line: line.id, text: JSON.stringify(event) });
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
    if (line.auth) this.#post(command("auth", line.auth));
    for (const topic of this.topics.values()) {
      const subscribe = this.#subscribeCommand(topic);
      this.outbox.await(subscribe);
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
      this.#do({ type: "error", code: event.code ?? "hello_refused", error: String(event.error ?? "The server refused hello."), event });
      this.#letGo(line);
      return this.#lost(line, "hello_refused", this.backoff.range(event.retry_after));
    }
    const resumed = line.resuming && event.resumed === true;
    if (resumed && !this.outbox.acknowledge(event.received)) {
      this.#do({ type: "error", code: "bad_count", error: "The server's count of our events cannot be.", event });
      this.#session = null;
      this.#letGo(line);
      return this.#lost(line, "bad_count");
    }
    const { interval, hidden_interval, timeout } = event.heartbeat ?? {};
    this.#heartbeat = { interval: milliseconds(interval, 4_000), hidden: milliseconds(hidden_interval, 25_000) };
    this.liveness.timeout = milliseconds(timeout, 5_000);
    this.backoff.spread = milliseconds(event.spread, this.backoff.spread);
    this.#setInterval();
    this.roundTrip.sample(this.#now - line.phaseAt);
    this.liveness.heard(this.#now);
    this.#ping = null;
    this.#liveAt = this.#now;
    this.#enter(line, "live");
    if (!resumed) this.#ghosts = 0;
    this.#session = event.session;
    this.#attemptNotBefore = 0;
    this.counts[resumed ? "resumed" : "sessions"]++;
    if (this.state !== "connected") this.#become("connected", resumed ? "resumed" : "new_session");
    this.#do({ type: "connected", resumed, event });
    this.#countAt = null;
    if (resumed) {
      if (this.#reauthenticate && line.auth) this.outbox.post(command("auth", line.auth), true);
      this.#reauthenticate = false;
      for (const command of this.outbox.unacknowledged) this.#write(command);
    } else if (line.resuming) this.#beginSession(line);
    else if (this.outbox.unacknowledged.length) this.#countAt = this.#now + this.liveness.interval;
  }

  /** @param {Extract<Input, {type: "closed"}>} input */
  #closed({ line: id, code, reason, retryAfter }) {
    const line = this.#line(id);
    if (!line) return;
    const advice = this.backoff.range(retryAfter);
    if (line === this.#main && !this.#survives(code, reason)) return;
    this.#haunt(line);
    this.#lost(line, "line_closed", advice);
  }

  /**
   * What the close code of main asks for, but for a new line.
   * @param {number} code @param {string} [reason]
   * @returns {boolean} false: no new line is wanted
   */
  #survives(code, reason) {
    /** @param {string} name @param {string} text @returns {Extract<Action, {type: "error"}>} */
    const error = (name, text) => ({ type: "error", code: name, error: reason ? `${text} (${reason})` : text, closeCode: code });
    /** @param {string} name @param {string} text */
    const end = (name, text) => {
      this.#main = null; // it is closed already
      this.#stop(name, error(name, text));
      return false;
    };
    switch (code) {
      case 1009: {
        // The same message would close every further line too.
        const message = this.outbox.removeBiggest();
        if (message) this.#fail(message, "too_big", `The server does not take a message of ${message.bytes} bytes.`, { actual: message.bytes });
      } // falls through
      case 1002: case 1003: case 1007:
        this.#do(error("protocol_error", "The server ended the line because of a protocol error."));
        this.#penalty = true;
        return true;
      case 4000:
        if (this.#ghosts === 0) return end("replaced", "The session was taken over by another connection.");
        this.#ghosts--;
        return true;
      case 4001:
        if (!this.#options.credentials || (this.#refreshed && !this.#wasUseful())) {
          return end("authentication_expired", "The authentication has expired.");
        }
        this.#refreshed = this.#reauthenticate = true;
        return true;
      case 4003:
        return end("forbidden", "The server forbids this connection.");
      case 4008:
        this.#session = null; // We were too slow and the server has dropped it: recover by position.
        return true;
      case 4029:
        this.#penalty = true;
        return true;
    }
    return true;
  }

  #wasUseful() {
    return this.#main?.phase === "live" && this.#now - this.#liveAt >= USEFUL_MS;
  }

  /**
   * A line is gone: go on with the rival, or try again.
   * @param {Line} line @param {string} reason @param {[number, number]} [advice]
   */
  #lost(line, reason, advice) {
    if (line === this.#rival) {
      this.#rival = null;
      this.backoff.failures++;
      return this.#schedule(false, advice);
    }
    // A dead line was suspect before: the failures are those of that race.
    if (reason !== "dead") this.backoff.failures = this.#wasUseful() ? 0 : this.backoff.failures + 1;
    if (this.#penalty) this.backoff.failures = Math.max(this.backoff.failures, 1);
    this.#penalty = false;
    this.#main = this.#rival;
    this.#rival = null;
    const moving = this.#moving;
    this.#moving = false;
    if (this.#main) return this.#become("reconnecting", reason);
    const { failures } = this.backoff;
    if (failures >= this.#options.maxAttempts) {
      return this.#stop("max_attempts", { type: "error", code: "max_attempts", error: `No useful connection in ${failures} attempts.` });
    }
    // A goaway has told us when to come; a race that failed has its next attempt waiting.
    const planned = moving || (reason === "dead" && failures > 0);
    if (advice || !planned || this.#attemptAt === null) this.#schedule(reason === "dead", advice);
    this.#await(reason);
  }

  /** @param {boolean} suspected @param {[number, number]} [advice] */
  #schedule(suspected, advice) {
    this.#attemptAt = this.#now + this.backoff.delay(suspected, this.#hidden, advice);
    if (advice) this.#attemptNotBefore = this.#attemptAt;
  }

  /**
   * Waits for #attemptAt, which may be now.
   * @param {string} reason
   */
  #await(reason) {
    if (this.#offline) return this.#become("suspended", "offline");
    this.#become("reconnecting", reason);
    if (/** @type {number} */ (this.#attemptAt) <= this.#now) this.#attempt();
  }

  // ── What the server says

  /** @param {Extract<Input, {type: "receive"}>} input */
  #receive({ line: id, text }) {
    const line = this.#line(id);
    if (!line) return;
    if (line.phase === "live") this.#heard();
    /** @type {WireEvent|undefined} */
    let event;
    try {
      event = JSON.parse(text);
    } catch {}
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
          case "hello": case "probe": case "ping": return;
          case "pong": return this.#pong(event);
          case "ack": return this.#acknowledged(event);
          case "goaway": return this.#goaway(event);
        }
        this.#event(event);
        this.#count(text.length);
    }
  }

  #heard() {
    this.#forgiven = false;
    if (!this.liveness.heard(this.#now) || this.#moving) return;
    // A false alarm: it has cost one connection, and the server's session was never touched.
    this.#attemptAt = null;
    if (!this.#rival) return;
    this.#letGo(this.#rival);
    this.#rival = null;
    this.#raceNotBefore = this.#now + RACE_PAUSE_MS;
  }

  /**
   * The rival has spoken first: the session goes to it.
   * @param {Line} rival
   */
  #move(rival) {
    if (rival === this.#rival) {
      if (this.#wasUseful()) this.backoff.failures = 0;
      else if (!this.#moving) this.backoff.failures++;
      this.#letGo(/** @type {Line} */ (this.#main));
      this.#main = rival;
      this.#rival = null;
      this.#moving = false;
      this.liveness.heard(this.#now);
    }
    this.#hello(rival);
  }

  /** @param {WireEvent} event */
  #pong(event) {
    if (this.#ping && event.data === this.#ping.data) {
      const rtt = this.#now - this.#ping.at;
      this.#ping = null;
      this.roundTrip.sample(rtt);
      this.#do({ type: "rtt", rtt, srtt: Math.round(/** @type {number} */ (this.roundTrip.srtt)) });
    }
    this.#acknowledged(event);
  }

  /** @param {WireEvent} event */
  #acknowledged(event) {
    if (event.received === undefined) return;
    if (!this.outbox.acknowledge(event.received)) {
      return this.#do({ type: "error", code: "bad_count", error: "The server's count of our events cannot be.", event });
    }
    this.#countAt = this.outbox.unacknowledged.length ? this.#now + this.liveness.interval : null;
  }

  /** @param {WireEvent} event */
  #goaway(event) {
    const [from, to] = this.backoff.range(event.retry_after) ?? [0, this.backoff.spread];
    const at = this.#now + this.backoff.between(from, to);
    this.#do({ type: "goaway", at, event });
    this.#moving = true;
    if (this.#wasUseful()) this.backoff.failures = 0;
    if (!this.#rival) this.#attemptAt = this.#attemptNotBefore = at;
  }

  /**
   * One more counted event of the server.
   * @param {number} bytes its UTF-16 length, near enough for a threshold
   */
  #count(bytes) {
    if (this.#received++ === this.#acked) this.#ackAt = this.#now + this.liveness.interval;
    this.#ackBytes += bytes;
    if (this.#received - this.#acked >= ACK_EVENTS || this.#ackBytes >= ACK_BYTES) this.#sendAck();
  }

  /** @param {WireEvent} event counted */
  #event(event) {
    const { status, subscription } = event;
    const command = status === undefined || event.id === undefined ? undefined : this.outbox.answer(event.id);
    if (command) return this.#answer(command, event);
    if (status === undefined && typeof subscription === "string") {
      const topic = this.topics.get(subscription);
      if (!topic?.active) return;
      switch (event.event) {
        case "message": return this.#deliver(topic, event);
        case "gap": return this.#gap(topic, event);
        case "unsubscribe":
          this.topics.delete(subscription);
          return this.#do({ type: "unsubscribed", subscription, event });
      }
    }
    if (status === "error") this.#do({ type: "error", code: event.code ?? "server_error", error: String(event.error), event });
  }

  /** @param {Command} command @param {WireEvent} event */
  #answer(command, event) {
    const { kind, id = "", subscription = "" } = command;
    if (kind === "subscribe") {
      const topic = this.topics.get(subscription);
      if (topic?.id !== id) return; // the app has subscribed anew meanwhile
      if (event.status === "ok") return this.#subscribed(topic, event);
      this.topics.delete(subscription);
      return this.#do({ type: "unsubscribed", subscription, event });
    }
    if (kind === "unsubscribe" && event.status === "ok") return this.#ended(command, event);
    this.#do({ type: "reply", id, event });
  }

  /** @param {Topic} topic @param {WireEvent} event */
  #subscribed(topic, event) {
    const { since, before, name } = topic;
    topic.active = topic.before = true;
    const position = isPosition(event.position) ? event.position : null;
    // Recovered or not, in the same epoch the messages go on from where we were; a gap says from where else.
    if (!since || !position) topic.position = position && { ...position };
    else if (position.epoch !== since.epoch) topic.position = { epoch: position.epoch, offset: 0 };
    this.#do(since ? { type: "subscribed", subscription: name, since, event } : { type: "subscribed", subscription: name, event });
    // A topic without history has no position to ask from. What was published while we were away is lost.
    if (before && !since) this.#tellGap(topic, null, null);
  }

  /** @param {Topic} topic @param {WireEvent} event */
  #deliver(topic, event) {
    const { position } = topic;
    if (position && Number.isSafeInteger(event.offset)) {
      if (event.offset <= position.offset) {
        this.counts.duplicates++;
        return;
      }
      if (event.offset > position.offset + 1) this.#tellGap(topic, position.offset, event.offset);
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
    this.counts.gaps++;
    this.#do({ type: "gap", subscription: topic.name, after, next });
  }

  // ── Time

  #timer() {
    const late = this.#timerAt !== null && this.#now - this.#timerAt > this.liveness.interval;
    this.#timerAt = null;
    // The machine slept: whatever was due is judged from now on. Only once, since a hidden page's timers are always late.
    const woken = late && !this.#forgiven;
    if (woken) {
      this.#forgiven = true;
      this.#doubt("late_timer");
    }
    const expired = (/** @type {Line|null} */ line) =>
      line && line.phase !== "live" && this.#now >= line.phaseAt + this.#options.connectTimeout ? line : null;
    for (const line of [expired(this.#rival), expired(this.#main)]) {
      if (!line) continue;
      this.#letGo(line);
      this.#lost(line, "connect_timeout");
    }
    if (this.#main?.phase === "live") this.#heartbeatDue();
    if (this.#attemptAt !== null && this.#now >= this.#attemptAt && !this.#offline) this.#attempt();
    if (woken) this.#hasten("late_timer");
  }

  #heartbeatDue() {
    const line = /** @type {Line} */ (this.#main);
    if (!this.#offline) {
      switch (this.liveness.due(this.#now)) {
        case "ping":
          this.#sendPing();
          break;
        case "suspect":
          this.#race();
          break;
        case "dead":
          this.#letGo(line);
          return this.#lost(line, "dead");
      }
      if (this.#countAt !== null && this.#now >= this.#countAt) this.#sendPing();
    }
    if (this.#ackAt !== null && this.#now >= this.#ackAt) this.#sendAck();
  }

  /** Main is suspect. */
  #race() {
    if (this.#wasUseful()) this.backoff.failures = 0;
    if (this.#rival) return;
    this.#attemptAt = Math.max(this.#now + this.backoff.delay(true, this.#hidden), this.#raceNotBefore);
  }

  #sendPing() {
    const line = /** @type {Line} */ (this.#main);
    this.#ping = { data: String(++this.#pings), at: this.#now };
    const slack = Math.floor(this.outbox.unacknowledgedBytes() / UPLINK_STEP_BYTES) * UPLINK_STEP_MS;
    this.liveness.asked(this.#now, this.roundTrip.wait() + slack);
    this.#sendEvent(line, { event: "ping", data: this.#ping.data, received: this.#received });
    this.#told();
    if (this.#countAt !== null) this.#countAt = this.#now + this.liveness.interval;
  }

  #sendAck() {
    this.#sendEvent(/** @type {Line} */ (this.#main), { event: "ack", received: this.#received });
    this.#told();
  }

  /** The server has (or will have) our count. */
  #told() {
    this.#acked = this.#received;
    this.#ackBytes = 0;
    this.#ackAt = null;
  }

  #setInterval() {
    this.liveness.interval = this.#hidden ? this.#heartbeat.hidden : this.#heartbeat.interval;
  }

  #hide() {
    this.#hidden = true;
    this.#setInterval();
  }

  #show() {
    this.#hidden = false;
    this.#setInterval();
    this.#doubt("shown");
  }

  #goOffline() {
    this.#offline = true;
    if (!this.#main && (this.state === "reconnecting" || this.state === "connecting")) this.#become("suspended", "offline");
  }

  #goOnline() {
    this.#offline = false;
    this.#doubt("online");
  }

  /**
   * Ask now. A good line answers and nothing more happens.
   * @param {string} reason
   */
  #doubt(reason) {
    if (this.#offline) return;
    const line = this.#main;
    if (line?.phase === "live") {
      const { askedAt } = this.liveness;
      if (askedAt === null || this.#now - askedAt >= WAIT_MIN_MS) this.#sendPing();
    } else if (line && this.#now - line.since >= STALE_ATTEMPT_MS) {
      this.#letGo(line);
      this.#main = null;
      this.#attemptAt = this.#now;
      this.#hasten(reason);
    } else this.#hasten(reason);
  }

  /**
   * Without a line: do not wait any longer than the server's advice demands.
   * @param {string} reason
   */
  #hasten(reason) {
    if (this.#main || this.#offline || this.#attemptAt === null) return;
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
    let at = Infinity;
    const main = this.#main;
    for (const line of [main, this.#rival]) {
      if (line && line.phase !== "live") at = Math.min(at, line.phaseAt + this.#options.connectTimeout);
    }
    if (main?.phase === "live") {
      if (!this.#offline) at = Math.min(at, this.liveness.next(), this.#countAt ?? Infinity);
      at = Math.min(at, this.#ackAt ?? Infinity);
    }
    if (!this.#offline) at = Math.min(at, this.#attemptAt ?? Infinity);
    if (at === Infinity ? this.#timerAt === null : this.#timerAt !== null && this.#timerAt <= at) return;
    this.#timerAt = at === Infinity ? null : at;
    this.#do({ type: "timer", at: this.#timerAt });
  }
}

/** @param {string} kind @param {WireEvent} event @returns {Command} */
function command(kind, event) {
  const text = JSON.stringify(event);
  return { kind, id: event.id, subscription: event.subscription, text, bytes: utf8Length(text) };
}

/** @param {string} text */
function utf8Length(text) {
  let bytes = text.length;
  for (let i = 0; i < text.length; i++) {
    const unit = text.charCodeAt(i);
    if (unit > 0x7f) bytes++;
    if (unit > 0x7ff && (unit & 0xf800) !== 0xd800) bytes++; // half of a surrogate pair stands for two bytes of four
  }
  return bytes;
}

/** @param {unknown} seconds @param {number} otherwise where the server says nothing that can be @returns {number} */
function milliseconds(seconds, otherwise) {
  return typeof seconds === "number" && seconds > 0 && seconds < Infinity ? Math.ceil(seconds * 1000) : otherwise;
}

/** @param {any} value @returns {value is Position} */
function isPosition(value) {
  return typeof value?.epoch === "string" && Number.isSafeInteger(value.offset);
}
