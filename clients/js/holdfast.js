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
 *   error        code error …                   something that the app should know; nothing has to be done
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

/** When to try again. Full jitter: with anything less, clients that were dropped together come back together. */
class Backoff {
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
class RoundTrip {
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
class Liveness {
  visible = 4_000; // ms of quiet until a ping
  hidden = 25_000;
  isHidden = false;
  timeout = 5_000;
  heardAt = 0;
  wait = 0;
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
    this.heardAt = now;
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
    this.wait = wait;
    this.doubted = doubted;
    // A suspect line gets its whole time again: a page that wakes up must not throw a good line away.
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
  unanswered = new Map();

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
    this.unanswered.set(/** @type {string} */ (command.id), command);
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
    if (!Number.isSafeInteger(received)) return false;
    const news = /** @type {number} */ (received) - this.acknowledged;
    if (news < 0 || news > this.unacknowledged.length) return false;
    for (const command of this.unacknowledged.splice(0, news)) this.#release(command);
    this.acknowledged += news;
    return true;
  }

  /** @param {string} id @returns {Command|undefined} */
  answer(id) {
    const command = this.unanswered.get(id);
    if (!command) return undefined;
    this.unanswered.delete(id);
    this.#release(command);
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
      if (command.kind === "message" && command.holds > 1 && command.bytes > (biggest?.bytes ?? 0)) biggest = command;
    }
    if (!biggest) return undefined;
    this.unacknowledged.splice(this.unacknowledged.indexOf(biggest), 1);
    this.#release(biggest);
    return this.answer(/** @type {string} */ (biggest.id));
  }

  /**
   * A new session counts from nought.
   * @returns {Command[]} what has no reply, in order
   */
  restart() {
    for (const command of this.unacknowledged.splice(0)) this.#release(command);
    this.acknowledged = 0;
    return [...this.unanswered.values()];
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
 * @property {"opening"|"probing"|"hello"|"live"} phase
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
  #backoff;
  #outbox;
  #roundTrip = new RoundTrip();
  #liveness = new Liveness();
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
  #moving = false; // the server said goaway
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
      credentials = false,
      connectTimeout = 10_000,
      queueBytes = 1_048_576,
      maxAttempts = Infinity,
    } = options;
    this.#options = { client, credentials, connectTimeout, maxAttempts };
    this.#backoff = new Backoff(random);
    this.#outbox = new Outbox(queueBytes);
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
      case "hidden": case "shown": this.#page(input.type); break;
      case "offline": case "online": this.#network(input.type); break;
      case "doubt": this.#doubt("doubt"); break;
    }
    this.#arm();
    return this.#actions;
  }

  stats() {
    return {
      ...this.#counts,
      state: this.state,
      session: this.#session,
      received: this.#received,
      sent: this.#outbox.acknowledged + this.#outbox.unacknowledged.length,
      queuedBytes: this.#outbox.bytes,
      srtt: this.#roundTrip.srtt === null ? null : Math.round(this.#roundTrip.srtt),
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
    if (this.#rival) this.#letGo(this.#rival, 1000);
    if (this.#main) this.#letGo(this.#main, 1000);
    this.#main = this.#rival = this.#session = null;
    this.#attemptAt = NEVER;
    this.#moving = false;
    this.#attemptNotBefore = this.#ghosts = 0;
    if (error) this.#do(error);
    this.#become("closed", reason);
    for (const message of this.#withdraw()) {
      this.#outbox.answer(/** @type {string} */ (message.id));
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

  /** @param {Command} command */
  #write(command) {
    const line = /** @type {Line} */ (this.#main);
    this.#do({ type: "send", line: line.id, text: command.text });
    if (this.#countAt === NEVER) this.#wantCount();
  }

  /** @param {Command} command @param {string} code @param {string} error @param {object} [more] */
  #fail(command, code, error, more) {
    const { kind, id, subscription } = command;
    const event = { event: kind, status: "error", code, error, ...more };
    if (kind === "subscribe") this.#do({ type: "unsubscribed", subscription: /** @type {string} */ (subscription), event });
    else this.#do({ type: "reply", id: /** @type {string} */ (id), event });
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
  #ended({ id = "", subscription = "", topic }, event = { event: "unsubscribe", subscription, status: "ok" }) {
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
      this.#outbox.answer(/** @type {string} */ (command.id));
      if (command.kind === "unsubscribe") this.#ended(command);
    }
    return messages;
  }

  // ── Lines

  /** Opens a line: main, or a rival beside a live main. */
  #attempt() {
    this.#attemptAt = NEVER;
    this.#counts.attempts++;
    /** @type {Line} */
    const line = { id: ++this.#lastLine, phase: "opening", phaseAt: this.#now, resuming: false };
    if (this.#main) {
      this.#rival = line;
      if (!this.#moving) this.#counts.races++;
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
      this.#letGo(line);
      return this.#lost(line, "hello_refused", this.#backoff.range(event.retry_after));
    }
    const resumed = line.resuming && event.resumed === true;
    if (resumed && !this.#outbox.acknowledge(event.received)) {
      this.#badCount(event);
      this.#session = null;
      this.#letGo(line);
      return this.#lost(line, "bad_count");
    }
    const { interval, hidden_interval, timeout } = event.heartbeat ?? {};
    const liveness = this.#liveness;
    liveness.visible = milliseconds(interval, liveness.visible);
    liveness.hidden = milliseconds(hidden_interval, liveness.hidden);
    liveness.timeout = milliseconds(timeout, liveness.timeout);
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
      if (this.#reauthenticate && line.auth) this.#outbox.post(command("auth", line.auth), true);
      this.#reauthenticate = false;
      for (const command of this.#outbox.unacknowledged) this.#write(command);
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
    this.#lost(line, "line_closed", advice, objections);
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
   * A line is gone: go on with the rival, or try again.
   * @param {Line} line @param {string} reason @param {[number, number]} [advice] @param {number} [objections] failures at least
   */
  #lost(line, reason, advice, objections = 0) {
    if (line === this.#rival) {
      this.#rival = null;
      this.#backoff.failures++;
      return this.#schedule(false, advice);
    }
    // A dead line was suspect before: the failures are those of that race.
    if (reason !== "dead") this.#backoff.failures = this.#wasUseful() ? objections : this.#backoff.failures + 1;
    this.#main = this.#rival;
    this.#rival = null;
    const moving = this.#moving;
    this.#moving = false;
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
    if (!this.#liveness.heard(this.#now) || this.#moving) return;
    // A false alarm: it has cost one connection, and the server's session was never touched.
    this.#attemptAt = NEVER;
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
      if (this.#wasUseful()) this.#backoff.failures = 0;
      else if (!this.#moving) this.#backoff.failures++;
      this.#letGo(/** @type {Line} */ (this.#main));
      this.#main = rival;
      this.#rival = null;
      this.#moving = false;
    }
    this.#hello(rival);
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
    this.#moving = true;
    if (this.#wasUseful()) this.#backoff.failures = 0;
    if (!this.#rival) this.#attemptAt = this.#attemptNotBefore = at;
  }

  /**
   * One more counted event of the server.
   * @param {number} bytes its UTF-16 length, near enough for a threshold
   */
  #count(bytes) {
    if (this.#received++ === this.#acked) this.#ackAt = this.#now + this.#liveness.interval;
    this.#ackBytes += bytes;
    if (this.#received - this.#acked >= ACK_EVENTS || this.#ackBytes >= ACK_BYTES) this.#sendAck();
  }

  /** @param {WireEvent} event counted */
  #event(event) {
    const { status, subscription } = event;
    const command = status === undefined ? undefined : this.#outbox.answer(event.id);
    if (command) return this.#answer(command, event);
    if (status === undefined && typeof subscription === "string") {
      const topic = this.topics.get(subscription);
      if (!topic?.active) return;
      switch (event.event) {
        case "message": return this.#deliver(topic, event);
        case "gap": return this.#gap(topic, event);
        case "unsubscribe": return this.#drop(subscription, event);
      }
    }
    if (status === "error") this.#error("server_error", "The server gave no reason.", event);
  }

  /** @param {Command} command @param {WireEvent} event */
  #answer(command, event) {
    const { kind, id = "", subscription = "" } = command;
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
      this.#pongBy = NEVER;
      this.#doubt("late_timer");
    }
    for (const line of [this.#rival, this.#main]) {
      if (!line || this.#now < this.#patience(line)) continue;
      this.#letGo(line);
      this.#lost(line, "connect_timeout");
    }
    if (this.#live) this.#heartbeatDue();
    if (this.#now >= this.#attemptAt && !this.#offline) this.#attempt();
    if (woken) this.#hasten("late_timer");
  }

  /**
   * Until when a line must have opened, or given the answer that it owes.
   * @param {Line|null} line
   */
  #patience(line) {
    return line && line.phase !== "live" ? line.phaseAt + this.#options.connectTimeout : NEVER;
  }

  #heartbeatDue() {
    const line = /** @type {Line} */ (this.#main);
    if (!this.#offline) {
      switch (this.#liveness.due(this.#now)) {
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
    this.#moving = true;
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
    let at = Math.min(this.#patience(this.#main), this.#patience(this.#rival));
    if (this.#live) at = Math.min(at, this.#ackAt);
    if (this.#live && !this.#offline) at = Math.min(at, this.#liveness.next(), this.#countAt, this.#pongBy);
    if (!this.#offline) at = Math.min(at, this.#attemptAt);
    if (at === NEVER ? this.#timerAt === NEVER : this.#timerAt <= at) return;
    this.#timerAt = at;
    this.#do({ type: "timer", at: at === NEVER ? null : at });
  }
}

const encoder = new TextEncoder();

/** @param {string} kind @param {WireEvent} event @returns {Command} */
function command(kind, event) {
  const text = JSON.stringify(event);
  return { kind, id: event.id, subscription: event.subscription, text, bytes: encoder.encode(text).length, holds: 0 };
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

/**
 * Carries out what the machine wants with lines, and tells it what happens to them.
 * A line that was let go is forgotten: whatever its socket still does finds no handler.
 */
class Driver {
  /** @type {Map<number, WebSocket>} */
  #sockets = new Map();
  /** @type {ReturnType<typeof setTimeout>|undefined} */
  #timer;
  /** @type {Action[]} */
  #queue = [];
  #busy = false;
  /** @type {AbortController|null} ends the listeners to the page */
  #attached = null;
  #machine;
  #options;

  /**
   * @param {ConnectionMachine} machine
   * @param {object} options
   * @param {string} options.url
   * @param {typeof WebSocket} options.WebSocket
   * @param {() => number} options.now
   * @param {(() => Promise<WireEvent>)|undefined} options.authenticate
   * @param {(action: Action) => void} options.perform actions that are not about lines
   * @param {(error: HoldfastError) => void} options.report
   */
  constructor(machine, options) {
    this.#machine = machine;
    this.#options = options;
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
      for (let action; (action = this.#queue.shift()); ) this.#perform(action);
    } finally {
      this.#busy = false;
    }
  }

  /** @param {Action} action */
  #perform(action) {
    switch (action.type) {
      case "open": return this.#open(action.line);
      case "close": return this.#close(action);
      case "send":
        try {
          this.#sockets.get(action.line)?.send(action.text);
        } catch {} // it is closing, and will say so
        return;
      case "timer":
        clearTimeout(this.#timer);
        if (action.at !== null) this.#timer = setTimeout(() => this.input({ type: "timer" }), Math.max(0, action.at - this.now()));
        return;
      default: this.#options.perform(action);
    }
  }

  /** @param {number} line */
  #open(line) {
    const { url, WebSocket, authenticate, report } = this.#options;
    /** @param {unknown} error */
    const fail = (error) => {
      this.#close({ line });
      this.input({ type: "closed", line, code: 1006, reason: String(error) });
    };
    /** @type {WebSocket} */
    let socket;
    try {
      socket = new WebSocket(url);
    } catch (error) {
      return fail(error);
    }
    this.#sockets.set(line, socket);
    // The credentials are fetched while the line opens. Should they never come, the machine's patience ends.
    const credentials = (async () => authenticate?.())();
    credentials.catch((error) => {
      if (this.#sockets.get(line) !== socket) return;
      report(new HoldfastError("credentials_failed", `The credentials could not be had: ${error}`, {}, error));
      fail(error);
    });
    socket.onopen = () =>
      credentials.then((auth) => this.#sockets.get(line) === socket && this.input({ type: "opened", line, auth }), ignore);
    socket.onmessage = ({ data }) => this.input({ type: "receive", line, text: typeof data === "string" ? data : "" });
    socket.onclose = ({ code, reason }) => {
      this.#sockets.delete(line);
      this.input({ type: "closed", line, code, reason });
    };
    socket.onerror = ignore; // close follows
  }

  /**
   * A dead line's closing handshake can take minutes, so nobody waits for it.
   * @param {{line: number, code?: number}} action
   */
  #close({ line, code }) {
    const socket = this.#sockets.get(line);
    if (!socket) return;
    this.#sockets.delete(line);
    socket.onopen = socket.onmessage = socket.onclose = null;
    socket.onerror = ignore; // `ws` throws where an error finds no handler
    try {
      socket.close(code);
    } catch {}
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
    listen(connection, "change", () => before !== (before = network()) && doubt());
    // What happened while nobody listened.
    this.input({ type: "online" });
    if (document) visibility();
  }

  detach() {
    this.#attached?.abort();
    this.#attached = null;
  }
}

const ignore = () => {};

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
   * @param {(error: unknown) => void} failed gets what a listener throws: it must disturb nothing else
   * @returns {boolean} whether anybody listens
   */
  _emit(type, event, failed) {
    const listeners = this.#listeners[type] ?? [];
    for (const listener of listeners) {
      try {
        const result = /** @type {any} */ (listener(event));
        if (typeof result?.then === "function") result.then(undefined, failed);
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
 * @property {boolean} ended
 * @property {HoldfastError|null} error comes after what is in the buffer
 */
/**
 * @param {Loop} loop
 * @param {HoldfastError|null} error
 */
function endLoop(loop, error) {
  if (loop.ended) return;
  loop.ended = true;
  loop.error = error;
  loop.wake();
}

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
  /** @type {Set<Loop>} */
  #loops = new Set();
  /** @type {{resolve: (value: SubscribedEvent) => void, reject: (error: HoldfastError) => void}[]} */
  #waiting = [];
  /** @type {SubscribedEvent|null} */
  #subscribed = null;
  /** @type {HoldfastError|null} */
  #error = null;
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
  }

  get state() {
    return this.#state;
  }

  /** The position of the last message that you were given: hand it to `subscribe` as `since`, to go on after it. */
  get position() {
    return this.#client._position(this.name, this.#id) ?? this.#last;
  }

  /**
   * Resolves when the server has confirmed the subscription, rejects when it refuses.
   * @returns {Promise<SubscribedEvent>}
   */
  ready() {
    return new Promise((resolve, reject) => {
      if (this.#state === "unsubscribed") reject(this.#error ?? new HoldfastError("not_subscribed", `${this.name} was unsubscribed.`));
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
    return this.#client._command("message", this.name, { data, fields });
  }

  /** @returns {AsyncGenerator<Message, void, void>} */
  async *[Symbol.asyncIterator]() {
    /** @type {Loop} */
    const loop = { messages: [], wake() {}, ended: this.#state === "unsubscribed", error: this.#error };
    this.#loops.add(loop);
    try {
      for (;;) {
        for (let message; (message = loop.messages.shift()); ) yield message;
        if (loop.error) throw loop.error;
        if (loop.ended) return;
        await new Promise((resolve) => (loop.wake = resolve));
      }
    } finally {
      this.#loops.delete(loop);
    }
  }

  /**
   * @internal
   * @template {keyof SubscriptionEvents} Type
   * @param {Type} type
   * @param {SubscriptionEvents[Type]} event
   */
  _tell(type, event) {
    return this._emit(type, event, (error) => this.#client._failed(error));
  }

  /**
   * @internal
   * @param {WireEvent} event
   * @param {Position|undefined} since
   */
  _subscribed(event, since) {
    this.#state = "subscribed";
    this.#last = this.position;
    const position = positionOf(event);
    const recovered = since ? event.recovered === true : null;
    this.#subscribed = { position, recovered, data: event.data };
    for (const { resolve } of this.#waiting.splice(0)) resolve(this.#subscribed);
    this._tell("subscribed", this.#subscribed);
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
    for (const loop of this.#loops) this.#offer(loop, message);
    this._tell("message", message);
  }

  /**
   * @internal
   * @param {GapEvent} gap
   */
  _gap(gap) {
    this.#gap = this.#gap ? gapOf(this.name, this.#gap.after, gap.next) : gap;
    this._tell("gap", gap);
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
    this._interrupt(error, new HoldfastError("not_subscribed", `${this.name} was unsubscribed.`));
    if (error && !this._tell("error", error)) this.#client._report(error);
    this._tell("unsubscribed", { error });
  }

  /**
   * Nothing more will come for those who wait.
   * @internal
   * @param {HoldfastError|null} error for the loops; null: they end well
   * @param {HoldfastError} reason for `ready`
   */
  _interrupt(error, reason) {
    for (const { reject } of this.#waiting.splice(0)) reject(error ?? reason);
    for (const loop of this.#loops) endLoop(loop, error);
  }

  /**
   * @param {Loop} loop
   * @param {Message} message
   */
  #offer(loop, message) {
    if (loop.ended) return;
    const limit = this.#client._bufferSize;
    if (loop.messages.length === limit) {
      const text = `A loop over ${this.name} fell behind by more than ${limit} messages.`;
      return endLoop(loop, new HoldfastError("buffer_full", text, { limit, actual: limit + 1 }));
    }
    loop.messages.push(message);
    loop.wake();
  }
}

/**
 * @typedef {object} Options
 * @property {boolean} [autoConnect] connect without being asked (default true)
 * @property {() => string|Promise<string>} [getTicket] called for each attempt: a ticket for `auth` with method "ticket"
 * @property {() => string|Promise<string>} [getToken] called for each attempt: a token for `auth` with method "token"
 * @property {number} [connectTimeout] ms for a line to open, and again for the first answer (default 10,000)
 * @property {number} [queueBytes] commands kept while away or unacknowledged, in bytes (default 1 MiB)
 * @property {number} [maxAttempts] give up after so many lines in a row that were of no use (default: never)
 * @property {number} [bufferSize] messages that a `for await` may fall behind (default 1,024)
 * @property {{name: string, version: string}} [client] shown on the server's side
 * @property {any} [WebSocket] the class, where there is no global one (Node before 22)
 * @property {() => number} [random] in [0, 1), for tests
 * @property {() => number} [now] ms of a monotonic clock, for tests
 */

const aFunction = /** @type {const} */ (["a function", (/** @type {any} */ value) => typeof value === "function"]);
const aCount = /** @type {const} */ (["a whole number above 0", (/** @type {any} */ value) => value > 0 && Number.isSafeInteger(value)]);
/** @type {Record<keyof Options, readonly [string, (value: any) => boolean]>} */
const OPTIONS = {
  autoConnect: ["true or false", (value) => typeof value === "boolean"],
  getTicket: aFunction,
  getToken: aFunction,
  connectTimeout: aCount,
  queueBytes: aCount,
  maxAttempts: aCount,
  bufferSize: aCount,
  client: ["{name, version} of strings", (value) => typeof value?.name === "string" && typeof value.version === "string"],
  WebSocket: aFunction,
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
  let pairs = 0;
  for (let i = 1; i < left.length; i++) if (right.includes(left.slice(i - 1, i + 1))) pairs++;
  return pairs / (a.length + b.length);
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
  /** @type {Map<string, {resolve: (data: any) => void, reject: (error: HoldfastError) => void}>} */
  #replies = new Map();
  #lastId = 0;
  #machine;
  /** @type {Driver} */
  #driver;
  #prefix;

  /**
   * @param {string} [url] http(s), ws(s), or a path on the page's own host (default "/socket")
   * @param {Options} [options]
   */
  constructor(url = "", options = {}) {
    super();
    checkOptions(options);
    const { autoConnect = true, getTicket, getToken, bufferSize = 1_024, random = Math.random } = options;
    const { WebSocket = globalThis.WebSocket, now = () => performance.now() } = options;
    const { client, connectTimeout, queueBytes, maxAttempts } = options;
    if (!WebSocket) throw new TypeError('There is no WebSocket here: give one as option "WebSocket".');
    const method = getTicket ? "ticket" : "token";
    const get = getTicket ?? getToken;
    const authenticate = get && (async () => {
      const value = await get();
      if (typeof value !== "string") throw new TypeError(`the ${method} is not a string`);
      return { event: "auth", method, [method]: value };
    });
    /** @internal */
    this._bufferSize = bufferSize;
    // Services know a repeated message by its id, so no two clients may have the same ones.
    this.#prefix = random().toString(36).slice(2) + ".";
    this.#machine = new ConnectionMachine({ client, connectTimeout, queueBytes, maxAttempts, random, credentials: !!authenticate });
    this.#driver = new Driver(this.#machine, {
      url: socketURL(url), WebSocket, now, authenticate,
      perform: (action) => this.#perform(action),
      report: (error) => this._report(error),
    });
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
    return this._command("message", name, { data, fields });
  }

  stats() {
    const stats = this.#machine.stats();
    return { ...stats, session: stats.session && handleOf(stats.session) };
  }

  #id() {
    return this.#prefix + (++this.#lastId).toString(36);
  }

  /**
   * @internal
   * @param {string} name
   * @param {string} id
   * @returns {Position|null}
   */
  _position(name, id) {
    const topic = this.#machine.topics.get(name);
    return topic?.id === id && topic.position ? { ...topic.position } : null;
  }

  /**
   * @internal
   * @param {"unsubscribe"|"message"} type
   * @param {string} subscription
   * @param {{data?: any, fields?: Record<string, any>}} [more]
   * @returns {Promise<any>}
   */
  async _command(type, subscription, more = {}) {
    const id = this.#id();
    return new Promise((resolve, reject) => {
      this.#replies.set(id, { resolve, reject });
      try {
        this.#driver.input({ type, id, subscription, data: undefined, ...more });
      } catch (error) {
        // JSON cannot say this.
        this.#replies.delete(id);
        throw error;
      }
    });
  }

  /**
   * @param {Action} action
   * @returns {void}
   */
  #perform(action) {
    switch (action.type) {
      case "state": {
        const { type, nextAttemptAt, ...event } = action;
        if (event.state === "closed") this.#closed(event.reason);
        return this.#tell(type, { ...event, nextAttemptInMs: nextAttemptAt === undefined ? null : this.#until(nextAttemptAt) });
      }
      case "connected": {
        const { resumed, event } = action;
        this.#tell("connected", { resumed, session: handleOf(event.session), node: event.node });
        if (!resumed) return;
        const recovered = /** @type {RecoveredEvent} */ ({ by: "session", subscription: null, messages: null });
        this.#tell("recovered", recovered);
        for (const [name, subscription] of this.#subscriptions) {
          if (subscription.state === "subscribed") subscription._tell("recovered", { ...recovered, subscription: name });
        }
        return;
      }
      case "subscribed": {
        const { subscription: name, since, event } = action;
        const subscription = this.#subscriptions.get(name);
        const position = positionOf(event);
        subscription?._subscribed(event, since);
        if (!since || !position || !event.recovered) return;
        const messages = position.offset - since.offset;
        const recovered = /** @type {RecoveredEvent} */ ({ by: "position", subscription: name, messages });
        subscription?._tell("recovered", recovered);
        return this.#tell("recovered", recovered);
      }
      case "unsubscribed": {
        const { subscription: name, event } = action;
        const subscription = this.#subscriptions.get(name);
        this.#subscriptions.delete(name);
        return subscription?._end(event.error === undefined ? null : errorOf(event));
      }
      case "message": return this.#subscriptions.get(action.event.subscription)?._message(action.event);
      case "gap": {
        const { subscription, after, next } = action;
        const gap = gapOf(subscription, after, next);
        this.#subscriptions.get(subscription)?._gap(gap);
        return this.#tell("gap", gap);
      }
      case "reply": {
        const reply = this.#replies.get(action.id);
        this.#replies.delete(action.id);
        if (action.event.status === "ok") reply?.resolve(action.event.data);
        else reply?.reject(errorOf(action.event));
        return;
      }
      case "rtt": return this.#tell("rtt", { rtt: action.rtt, srtt: action.srtt });
      case "goaway": return this.#tell("goaway", { reason: action.event.reason, inMs: this.#until(action.at) });
      case "error": return this._report(new HoldfastError(action.code, action.error, action.event));
    }
  }

  /** @param {number} time */
  #until(time) {
    return Math.max(0, time - this.#driver.now());
  }

  /** @param {string} reason */
  #closed(reason) {
    this.#driver.detach();
    const error = new HoldfastError("closed", `The client is closed: ${reason}.`);
    // By the app: the loops end well.
    for (const subscription of this.#subscriptions.values()) subscription._interrupt(reason === "closed_by_app" ? null : error, error);
  }

  /**
   * @template {keyof ClientEvents} Type
   * @param {Type} type
   * @param {ClientEvents[Type]} event
   */
  #tell(type, event) {
    this._emit(type, event, (error) => this._failed(error));
  }

  /**
   * A callback of the app has thrown.
   * @internal
   * @param {unknown} error
   */
  _failed(error) {
    this._report(new HoldfastError("callback_failed", `A callback has thrown: ${error}`, {}, error));
  }

  /**
   * Nobody listens, or the listener is broken too: the console.
   * @internal
   * @param {HoldfastError} error
   */
  _report(error) {
    if (!this._emit("error", error, (broken) => console.error(broken))) console.error(error);
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

/**
 * The session's name without its secret.
 * @param {string} session
 */
function handleOf(session) {
  return session.split(".")[0];
}

export default Holdfast;
