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
 *   adopt        session received topics        before `connect`: go on with the session of a machine that is no more (tabs.js)
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
/** @typedef {"alone"|"worker"|"leader"|"follower"} TabsMode where the line is that this tab shares */
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
 *   | {type: "adopt", session: string, received: number, topics: Topic[]}
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

/** @param {unknown} value @returns {value is number} */
const isNumber = (value) => typeof value === "number";

/** @param {unknown} value @returns {value is Function} */
const isFunction = (value) => typeof value === "function";

/** @param {unknown} value @returns {value is string} */
const isText = (value) => typeof value === "string";

const { isSafeInteger } = Number;
const { abs, ceil, floor, max, min, round } = Math;
const { parse, stringify } = JSON;

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
 * @typedef {object} Line
 * @property {number} id
 * @property {Transport} transport of a stream that is buffered: "poll"
 * @property {number} at when it was asked to open
 * @property {"open"|"probe"|"hello"|"live"} phase
 * @property {number} since start of the phase
 * @property {boolean} [resumed] its hello asked for our session
 * @property {WireEvent} [auth]
 * @property {number} listenAt HTTP: when it began to listen, the last time
 * @property {number} [wait] ms, of the poll
 * @property {boolean} [heard] something came to the one who listens
 * @property {number} by by then the stream has to have said something
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
 *
 * It is one function, because every page has to load it: a minifier gives variables one letter and lets constants
 * vanish, and can do neither with what belongs to an object. Each part has its variables first, then its functions.
 *
 * @constructor
 * @param {MachineOptions} options
 */
export function ConnectionMachine({
  random,
  client = { name: "holdfast-js", version: "0.1.0" },
  credentials,
  connectTimeout = 10_000,
  queueBytes: limit = 1_048_576,
  maxAttempts = Infinity,
  transports = TRANSPORTS,
}) {
  const NEVER = Infinity; // the time of what is not planned, and of what is not known to have happened
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

  let now = 0;
  /** @type {Action[]} */
  let actions = [];
  /** @type {State} */
  let state = (this.state = "idle");
  /** @type {Map<string, Topic>} */
  const topics = (this.topics = new Map());
  const counts = { attempts: 0, races: 0, resumed: 0, sessions: 0, duplicates: 0, gaps: 0 };

  /** @type {Line|null} */
  let main = null;
  /** @type {Line|null} */
  let rival = null;
  let lastLine = 0;
  let offline = false;
  /** @type {string|null} */
  let session = null;
  let received = 0; // events of the server in this session
  let unacked = 0; // of these, what we have not told it
  let ackBytes = 0; // their bytes
  let ackAt = NEVER;
  let countAt = NEVER; // by then we want a count from the server
  let pings = 0; // also what the last one carries
  let pingAt = NEVER; // that of the last one, until it is answered
  let pongBy = NEVER; // by then our own direction is taken for dead, even if the line carries events
  let attemptAt = NEVER;
  let attemptNotBefore = 0; // the server's advice, which no doubt may shorten
  let raceNotBefore = 0;
  /** @type {"goaway"|"deaf"|null|undefined} main works, and yet the session is to move */
  let moving;
  /** @type {"fallback"|"websocket"|null|undefined|false} whose turn it is in this round when what is tried fails */
  let next;
  /** @type {[number, number]|undefined} of the server, in this round */
  let roundAdvice;
  let climbDue = NEVER; // from when on a WebSocket may be tried beside the fallback
  let climbAt = NEVER; // and when it will
  let waitCap = NEVER; // ms; longer polls are cut by somebody
  let liveAt = 0; // when the last hello was answered
  let forgiven = false; // a late timer was excused, and nothing was heard since
  let reauthenticate = false;
  let refreshed = false; // credentials were asked anew because of 4001
  let ghosts = 0; // Lines that we gave up after their hello: it may yet arrive, and take the session (4000) from the line that has it.
  let timerAt = NEVER;

  /**
   * @template {Action["type"]} Type
   * @param {Type} type
   * @param {Omit<Extract<Action, {type: Type}>, "type">} action
   */
  const act = (type, action) => {
    actions.push(/** @type {any} */ ({ type, ...action }));
  };

  /** @param {State} after @param {string} reason */
  const become = (after, reason) => {
    act("state", {
      state: after,
      previous: state,
      reason,
      nextAttemptAt: after === "reconnecting" && attemptAt < NEVER ? attemptAt : undefined,
    });
    state = after;
  };

  /**
   * An error that the server has sent, or none and then this one.
   * @param {string} code
   * @param {string} error
   * @param {WireEvent} event
   */
  const complain = (code, error, event) => {
    act("error", { code: event.code ?? code, error: String(event.error ?? error), event });
  };

  /** @param {WireEvent} event */
  const badCount = (event) => {
    complain("bad_count", "The server's count of our events cannot be.", event);
  };

  // ── The backoff: when to try again. Clients that were dropped together spread out with their first attempt, and stay so:
  // the next ones come a turn later at least, else those who come for the second time meet those who come for the first.

  let failures = 0; // lines since the last useful one that did not open, or did not live long enough to be useful
  let spread = 1_000; // ms, from the last hello: over how long the server wants its clients to come back

  /** @param {number} from @param {number} to */
  const between = (from, to) => {
    return to > from ? from + floor(random() * (to - from)) : from;
  };

  /** The server's advice in ms. A single number is spread too, else all that got it would come at the same moment.
   * @param {any} advice seconds
   * @returns {[number, number]|undefined} */
  const rangeOf = (advice) => {
    const [from, to] = isNumber(advice) ? [advice, advice + spread / 1000] : [advice].flat();
    const good = isNumber(from) && isNumber(to) && from >= 0 && to >= from && to < NEVER;
    return good ? [round(from * 1000), round(to * 1000)] : undefined;
  };

  /** Between two knocks at a server that is away lies at least this: then all others have had theirs. Half more than the
   * spread, so that at no time much more than two thirds of them come of whom the server can take back. */
  const turn = () => {
    return floor(1.5 * spread);
  };

  /**
   * @param {boolean} suspected it was our own suspicion that ended the line, so nobody else lost theirs
   * @param {[number, number]} [advice] moves the range, and never shortens it
   * @param {number} [spent] how long the attempt took that has failed, which counts; undefined: the server has answered
   */
  const delay = (suspected, advice, spent) => {
    const cap = isHidden ? 300_000 : min(max(10_000, 2 * spread), 120_000);
    const to = failures ? min(cap, max(2 * spread, 500 * 2 ** failures)) : suspected ? 0 : turn();
    if (advice) return between(advice[0], max(advice[1], to));
    // Three quarters of it where the cap has cut it.
    const from = spent === undefined ? 0 : min(turn(), floor(0.75 * to));
    const saved = min(from, spent ?? 0);
    return between(from - saved, to - saved);
  };

  // ── The round-trip time, estimated as in RFC 6298. Pings carry a number of their own, so no sample is ambiguous.

  /** @type {number|null} */
  let srtt = null;
  let rttvar = NEVER; // not known yet

  /** @param {number} rtt */
  const sample = (rtt) => {
    rttvar = srtt === null ? rtt / 2 : 0.75 * rttvar + 0.25 * abs(srtt - rtt);
    srtt = 0.875 * (srtt ?? rtt) + 0.125 * rtt;
  };

  /** How long a pong may take before the line is suspect. Short, because a suspicion costs only a race. */
  const pongWait = () => {
    return min(max(ceil((srtt ?? 0) + 4 * rttvar + 500), WAIT_MIN_MS), WAIT_MAX_MS);
  };

  // ── Whether the line lives: quiet → ping → suspect → dead. Anything heard starts over.

  let visibleInterval = 4_000; // ms of quiet until a ping
  let hiddenInterval = 25_000;
  let isHidden = false;
  let timeout = 5_000;
  let slack = 0; // of the transport: how much longer it may be quiet
  let heardAt = 0;
  let askedAt = NEVER; // a ping is out and nothing was heard since
  let askedWait = 0;
  let doubted = false;
  let suspectAt = NEVER;

  const interval = () => {
    return isHidden ? hiddenInterval : visibleInterval;
  };

  const suspect = () => {
    return suspectAt < NEVER;
  };

  /**
   * @param {boolean} [answer] to our last ping
   * @returns {boolean} whether the line was suspect until now
   */
  const alive = (answer) => {
    const wasSuspect = suspect();
    heardAt = now;
    // In doubt only the answer is proof: what else comes may have been on its way, or in a buffer while we slept.
    if (wasSuspect || answer || !doubted) {
      askedAt = suspectAt = NEVER;
      doubted = false;
    }
    return wasSuspect;
  };

  /** @param {number} wait @param {boolean} inDoubt */
  const asked = (wait, inDoubt) => {
    askedAt = now;
    askedWait = wait;
    doubted = inDoubt;
    // A suspect line gets its whole time again: a page that wakes up must not throw a good line away.
    if (suspect()) suspectAt = now;
  };

  /** When it is to be asked, is suspect, or is dead. */
  const livenessAt = () => {
    return suspect() ? suspectAt + timeout : askedAt < NEVER ? askedAt + askedWait : heardAt + interval() + slack;
  };

  // ── The ladder: which transport is tried when. "The server is away" and "this network eats WebSockets" are two facts: a
  // WebSocket that failed says the second only if the fallback works meanwhile. What failed waits for this evidence; where
  // the fallback fails too, nothing is counted. What counts is remembered, and so holds over reloads and tabs.

  /** @returns {Memory} */
  const onlyKnown = (/** @type {number[]} */ attempts) => ({
    v: 1, attempts, strikes: 0, until: null, term: TERM_MS, deaths: 0, life: null, rest: null, pollUntil: null,
  });
  let memory = onlyKnown([]);
  let news = false; // it has changed, and nobody was told
  const polls = transports.includes("poll");
  const climbs = transports.includes("websocket") && transports.length > 1; // whether there is anything to choose
  let pending = NEVER; // the WebSocket that has not answered yet. Attempts are named by their time
  /** @type {number[]} those that failed, and it is not known yet whether the fallback works */
  let undecided = [];
  let dying = NEVER; // the same of one that died young, and not for the first time
  let answeredAt = -NEVER; // of the WebSocket that has answered, until it has lived
  let answeredAttempt = NEVER;
  /** @type {number[]} attempts that we have put into the memory. Another tab may write without knowing them */
  let own = [];
  let diedAt = -NEVER; // the last death that we know of, ours or another tab's
  let wantedAt = NEVER; // an attempt is wanted, in spite of a verdict
  let outages = 0; // rounds in a row in which the fallback failed

  /** @param {number|null|undefined} time */
  const past = (time) => {
    return time ?? -NEVER;
  };

  /** @returns {Transport|undefined} */
  const fallback = () => {
    return polls && now < past(memory.pollUntil) ? "poll" : transports.find((transport) => transport !== "websocket");
  };

  /** From when on a WebSocket may be tried. It does not move with the clock. */
  const due = () => {
    if (!climbs) return transports[0] === "websocket" ? -NEVER : NEVER;
    if (dying < NEVER) return NEVER;
    const { attempts, strikes, until, rest } = memory;
    const budget = past(attempts.at(-BUDGET)) + BUDGET_MS;
    if (wantedAt < NEVER) return max(budget, wantedAt);
    return max(budget, past(strikes ? attempts.at(-1) : null) + SECOND_TRY_MS, past(until), past(rest));
  };

  /** Whether the WebSocket that has answered has yet to live. */
  const young = () => {
    return now - answeredAt < LIVED_MS;
  };

  /** A WebSocket that has lived vouches for what was before, and not for what comes. */
  const grown = () => {
    if (!young()) answeredAt = -NEVER;
  };

  /** When the WebSocket has lived, if there is something to forget then. */
  const livedAt = () => {
    return answeredAt > -NEVER && !blank() ? answeredAt + LIVED_MS : NEVER;
  };

  const blank = () => {
    const { attempts, strikes, until, deaths, rest, pollUntil } = memory;
    return !(attempts.length + strikes + deaths) && (until ?? rest ?? pollUntil) === null;
  };

  /** WebSockets answer here: the undecided ones were of no use for another reason. */
  const passed = () => {
    undecided.push(pending);
    pending = NEVER;
    forgive();
  };

  /**
   * The WebSocket that carried the session is gone.
   * @param {boolean} abnormal nobody said why
   */
  const died = (abnormal) => {
    if (young() && abnormal) {
      enter(answeredAttempt);
      memory.life = min(memory.life ?? NEVER, now - answeredAt);
      // What kills the lines of all tabs at once is one death.
      if (answeredAt >= diedAt) memory.deaths = min(memory.deaths + 1, 3);
      diedAt = now;
      if (memory.deaths >= 2 || memory.until !== null) dying = answeredAttempt;
    }
    answeredAt = -NEVER;
  };

  /** The fallback works, so what failed has itself to blame. */
  const works = () => {
    const died = dying < NEVER;
    const { until } = memory;
    if (!undecided.length && !died) return;
    if (until !== null || (undecided.length && ++memory.strikes >= 2) || (died && memory.deaths >= 3)) {
      // Doubled where the attempt at its end has failed; another one changes nothing that was not known.
      if (until !== null && until <= now) memory.term = min(2 * memory.term, TERM_MAX_MS);
      memory.until = now + memory.term;
      memory.strikes = 0;
    } else if (died) memory.rest = now + REST_MS;
    undecided = [];
    dying = NEVER;
    news = true;
  };

  /** The fallback has failed too: the server is away, or the whole network. */
  const away = () => {
    outages++;
    if (dying < NEVER) {
      memory.deaths = max(0, memory.deaths - 1);
      undecided.push(dying);
    }
    dying = NEVER;
    forgive();
  };

  /** Another network, or the app's wish. */
  const want = () => {
    if (pending === NEVER && answeredAt === -NEVER) wantedAt = now;
  };

  /**
   * Streams do not come through.
   * @param {number} until
   */
  const pollUntil = (until) => {
    memory.pollUntil = until;
    news = climbs;
  };

  /** @param {number} attempt */
  const enter = (attempt) => {
    own.push(attempt);
    memory.attempts.push(attempt);
    sort();
    news = true;
  };

  const sort = () => {
    const { attempts } = memory;
    attempts.sort((a, b) => a - b).splice(0, attempts.length - ATTEMPTS_KEPT);
  };

  /** @param {number} attempt */
  const find = (attempt) => {
    return memory.attempts.findIndex((at) => abs(at - attempt) <= SAME_ATTEMPT_MS);
  };

  /** Takes the undecided ones out of the memory. */
  const forgive = () => {
    for (const attempt of undecided.splice(0)) {
      own = own.filter((at) => at !== attempt);
      const index = find(attempt);
      if (index < 0) continue;
      memory.attempts.splice(index, 1);
      news = true;
    }
  };

  // ── The outbox: what was sent and is not yet counted by the server (repeated after a resume), and what has no reply yet
  // (repeated in a new session). A command takes room until it is neither.

  let queued = 0; // bytes
  let counted = 0; // events of this session that the server has counted
  /** @type {Command[]} number counted+1, +2, … of this session */
  let uncounted = [];
  /** @type {Map<string, Command>} in the order of the app's calls */
  const unanswered = new Map();

  /** @param {Command} command */
  const hold = (command) => {
    if (!command.holds++) queued += command.bytes;
  };

  /** @param {Command} command */
  const release = (command) => {
    if (!--command.holds) queued -= command.bytes;
  };

  /** @param {Command} command */
  const awaitReply = (command) => {
    hold(command);
    unanswered.set(command.id, command);
  };

  /** @param {unknown} count the server's @returns {boolean} false: the count cannot be */
  const acknowledge = (count) => {
    // How many an adopted session has had, only the server knows.
    if (isNaN(counted)) counted = /** @type {number} */ (count);
    const more = /** @type {number} */ (count) - counted;
    if (!isSafeInteger(count) || more < 0 || more > uncounted.length) return false;
    uncounted.splice(0, more).forEach(release);
    counted += more;
    return true;
  };

  /** @param {string} id @returns {Command|undefined} */
  const answer = (id) => {
    const command = unanswered.get(id);
    if (command) release(command);
    unanswered.delete(id);
    return command;
  };

  /** How many events this session has. */
  const posted = () => {
    return counted + uncounted.length;
  };

  // ── Commands of the app

  /** @param {string} reason @param {{code: string, error: string, closeCode?: number}} [error] */
  const stop = (reason, error) => {
    if (state === "closed") return;
    for (const line of lines()) letGo(line, 1000);
    main = rival = session = moving = null;
    attemptAt = NEVER;
    attemptNotBefore = ghosts = 0;
    // The app has finished in the middle of it: what stands in the memory stays there, as if the page were gone.
    pending = dying = NEVER;
    answeredAt = -NEVER;
    undecided = [];
    if (error) act("error", error);
    become("closed", reason);
    for (const message of withdraw()) {
      answer(message.id);
      fail(message, "closed", "The connection was closed before the reply.");
    }
    for (const topic of topics.values()) topic.active = false;
  };

  /** @param {Topic} topic @returns {Command} */
  const subscribeCommand = (topic) => {
    const { name, id, position, fields } = topic;
    topic.active = false;
    topic.since = position ? { ...position } : undefined;
    return command({ ...fields, event: "subscribe", subscription: name, since: topic.since, id });
  };

  /** An event counts from the moment that it belongs to a session, or to a hello whose session has no name yet. */
  const counting = () => {
    return session !== null || main?.phase === "hello";
  };

  /** @param {Command} command @returns {boolean|void} */
  const submit = (command) => {
    const actual = queued + command.bytes;
    if (actual > limit) {
      return fail(command, "queue_full", `The queue holds at most ${limit} bytes, this would make it ${actual}.`, { limit, actual });
    }
    awaitReply(command);
    if (counting()) post(command);
    // Half of the room is taken by what the server may have counted long ago: ask.
    if (live() && actual * 2 > limit && askedAt === NEVER) sendPing();
    return true;
  };

  /**
   * Counts it into the session.
   * @param {Command} command
   */
  const post = (command) => {
    hold(command);
    uncounted.push(command);
    // Behind a resuming hello nothing is sent before the reply: we do not know yet what to repeat.
    if (live() || (main?.phase === "hello" && !main.resumed)) write(command, posted());
  };

  /** @param {Command} command @param {number} number in the session */
  const write = (command, number) => {
    send(/** @type {Line} */ (main), command.text, number);
    if (countAt === NEVER) wantCount();
  };

  /** @param {Command} command @param {string} code @param {string} error @param {object} [more] */
  const fail = ({ kind, id, subscription }, code, error, more) => {
    const event = { event: kind, status: "error", code, error, ...more };
    if (kind === "subscribe") act("unsubscribed", { subscription, event });
    else act("reply", { id, event });
  };

  /** @param {string} subscription @param {WireEvent} event */
  const drop = (subscription, event) => {
    topics.delete(subscription);
    act("unsubscribed", { subscription, event });
  };

  /**
   * An unsubscribe has done its work.
   * @param {Command} command @param {WireEvent} [event] absent: it needed no server
   */
  const ended = ({ id, subscription, topic }, event = { event: "unsubscribe", subscription, status: "ok" }) => {
    // The app may have subscribed anew meanwhile: that is another topic.
    if (topic && topics.get(subscription) === topic) drop(subscription, event);
    act("reply", { id, event });
  };

  /**
   * The session is gone: all that it had to do is done or void, but for the messages. A new session counts from nought.
   * @returns {Command[]} the messages that have no reply, in order
   */
  const withdraw = () => {
    uncounted.splice(0).forEach(release);
    counted = 0;
    const [...commands] = unanswered.values();
    return commands.filter((command) => {
      const { id, kind } = command;
      if (kind !== "message") answer(id);
      if (kind === "unsubscribe") ended(command);
      return kind === "message";
    });
  };

  // ── Lines

  const live = () => {
    return main?.phase === "live";
  };

  const lines = () => {
    return /** @type {Line[]} */ ([rival, main].filter(Boolean));
  };

  /** @param {Line} line */
  const isSocket = ({ transport }) => transport === "websocket";

  /** A round begins: for a main, or for a rival beside a live main. */
  const attempt = () => {
    attemptAt = NEVER;
    if (main && !moving) counts.races++;
    const dies = live() && suspect() && young() && (memory.deaths || memory.until !== null);
    startRound(((due() > now || dies) && fallback()) || "websocket");
  };

  /** @param {Transport} transport that it starts with */
  const startRound = (transport) => {
    roundAdvice = undefined;
    // After two outages nothing but a WebSocket is left, whatever is known of it.
    next = transport === "websocket" ? fallback() && "fallback" : climbs && outages >= 2 && "websocket";
    open(transport);
  };

  /** @returns {boolean} whether there is another transport to be tried in this round; then it is */
  const tryNext = () => {
    const turn = next;
    next = null;
    if (turn) open((turn === "fallback" && fallback()) || "websocket", turn === "websocket");
    return !!turn;
  };

  /** @param {Transport} transport @param {boolean} [desperate] a WebSocket because the fallback has failed */
  const open = (transport, desperate) => {
    counts.attempts++;
    const id = ++lastLine;
    /** @type {Line} */
    const line = { id, transport, at: now, phase: "open", since: now, listenAt: NEVER, by: NEVER };
    if (main) rival = line;
    else main = line;
    if (climbs && isSocket(line)) {
      grown();
      wantedAt = NEVER;
      pending = now;
      // Where no fallback works, it could not be counted against it.
      if (!desperate) enter(now);
    }
    act("open", { line: id, transport });
  };

  /**
   * Until when the WebSocket that is tried has to answer, or the fallback gets its turn. Beside a fallback that carries
   * the session it has all the time of a line.
   */
  const fallbackAt = () => {
    const line = trying();
    // Beside a live line the server is there for others. Without one the fallback is a second knock, and takes its turn.
    return line && next === "fallback" && !calm() ? line.at + max(FALLBACK_MS, live() ? 0 : turn()) : NEVER;
  };

  /** The WebSocket that has not answered. */
  const trying = () => {
    return lines().find((line) => isSocket(line) && line.phase !== "live");
  };

  /** The fallback carries the session, and nothing speaks against it. */
  const calm = () => {
    return main && live() && !isSocket(main) && !suspect() && !moving;
  };

  /** @param {Line} line the WebSocket that has not answered */
  const fallBack = (line) => {
    if (line === rival) {
      letGo(line);
      gone(line);
      rival = null;
    } else if (line.phase === "open") {
      // Nothing was said on it. If it opens later, it probes.
      rival = line;
      main = null;
    }
    tryNext();
  };

  /**
   * What the end of a line says about its transport.
   * @param {Line} line
   * @param {boolean} [abnormal] nobody said why
   */
  const gone = (line, abnormal = true) => {
    if (isSocket(line)) {
      if (line.phase === "live") died(abnormal && moving !== "goaway");
      else {
        if (own.includes(pending)) undecided.push(pending);
        pending = NEVER;
      }
      if (calm()) works();
    } else if (line.transport === "stream" && line.phase === "live" && suspect()) pollUntil(now + STREAM_DIED_MS);
  };

  /**
   * While the fallback carries the session: when to try a WebSocket beside it. Tabs that wait for the same moment do not
   * try together, for the memory tells each how it went with the one before.
   * @param {number} [stagger] ms
   */
  const planClimb = (stagger = STAGGER_MS) => {
    const from = calm() && !rival && !offline && attemptAt === NEVER ? due() : NEVER;
    if (from === climbDue && stagger) return;
    climbDue = from;
    // The app's own wish waits with all others.
    climbAt = from < NEVER ? between(max(from, now), max(from, now) + (from > now ? STAGGER_MS : stagger)) : NEVER;
  };

  /** @param {Line} line @param {Line["phase"]} phase */
  const enterPhase = (line, phase) => {
    line.phase = phase;
    line.since = now;
  };

  /** @param {Line} line @param {number} [code] */
  const letGo = (line, code) => {
    haunt(line);
    act("close", { line: line.id, code });
  };

  const letRivalGo = () => {
    if (rival) letGo(rival);
    rival = null;
  };

  /** @param {Line} line */
  const haunt = (line) => {
    if (line.phase === "hello" && line.resumed) ghosts++;
  };

  /** @param {Line} line @param {string} text @param {number} [number] in the session */
  const send = (line, text, number) => {
    act("send", { line: line.id, text, seq: isSocket(line) ? undefined : number });
  };

  /** @param {Line} line @param {WireEvent} event not counted */
  const sendEvent = (line, event) => {
    send(line, stringify(event), line.phase === "live" ? posted() + 1 : undefined);
  };

  /** @param {Line} line */
  const hello = (line) => {
    line.resumed = session !== null;
    enterPhase(line, "hello");
    sendEvent(line, { event: "hello", version: 1, resume: line.resumed ? { session, received } : undefined, client });
    if (line.resumed) told();
    else beginSession(line);
  };

  /**
   * Everything that a new session has to know, in one flight.
   * @param {Line} line
   */
  const beginSession = (line) => {
    received = 0;
    told();
    reauthenticate = false;
    const messages = withdraw();
    if (line.auth) post(command(line.auth));
    for (const topic of topics.values()) {
      const subscribe = subscribeCommand(topic);
      awaitReply(subscribe);
      post(subscribe);
    }
    messages.forEach(post);
  };

  /**
   * The reply to hello.
   * @param {Line} line @param {WireEvent} event
   */
  const welcome = (line, event) => {
    if (event.status !== "ok" || !isText(event.session)) {
      if (event.code === "unknown_session") session = null;
      complain("hello_refused", "The server refused hello.", event);
      refused(line);
      return giveUp(line, "hello_refused", rangeOf(event.retry_after));
    }
    const resumed = line.resumed === true && event.resumed === true;
    if (resumed && !acknowledge(event.received)) {
      badCount(event);
      session = null;
      refused(line);
      return giveUp(line, "bad_count");
    }
    const heartbeat = event.heartbeat ?? {};
    let quiet = NEVER; // the longest that a WebSocket may have, where they died young
    slack = 0;
    if (isSocket(line)) {
      if (memory.deaths >= 2 && memory.life !== null) quiet = max(1_000, floor(memory.life / 2));
      if (pending < NEVER) {
        answeredAttempt = pending;
        answeredAt = now;
      }
      passed();
      letRivalGo();
    } else works();
    visibleInterval = min(milliseconds(heartbeat.interval, visibleInterval), quiet);
    hiddenInterval = min(milliseconds(heartbeat.hidden_interval, hiddenInterval), quiet);
    timeout = milliseconds(heartbeat.timeout, timeout);
    spread = milliseconds(event.spread, spread);
    sample(now - line.since);
    alive(true);
    pingAt = pongBy = NEVER;
    liveAt = now;
    enterPhase(line, "live");
    if (!resumed) ghosts = 0;
    session = event.session;
    attemptNotBefore = 0;
    counts[resumed ? "resumed" : "sessions"]++;
    if (state !== "connected") become("connected", resumed ? "resumed" : "new_session");
    act("connected", { resumed, event });
    if (resumed) {
      if (reauthenticate && line.auth) {
        const auth = command(line.auth);
        hold(auth);
        uncounted.unshift(auth);
      }
      reauthenticate = false;
      uncounted.forEach((command, index) => write(command, counted + index + 1));
    } else if (line.resumed) beginSession(line);
    wantCount();
  };

  /**
   * The server itself does not want us, so it is no use to come by another transport.
   * @param {Line} line
   */
  const refused = (line) => {
    next = null;
    if (isSocket(line)) passed();
  };

  const wasUseful = () => {
    return live() && now - liveAt >= USEFUL_MS;
  };

  /**
   * A line is gone: go on with the other one, or with the other transport, or try again.
   * @param {Line} line @param {string} reason @param {[number, number]} [advice] @param {number} [objections] failures at least
   * @param {boolean} [abnormal] nobody said why
   */
  const lost = (line, reason, advice, objections = 0, abnormal = true) => {
    const wasLive = line.phase === "live";
    if (!wasLive) advice = roundAdvice = advice ?? roundAdvice;
    if (line === rival) {
      rival = null;
      gone(line);
      // Main is well, or it is still being tried.
      if (calm() || !live() || tryNext()) return;
      away();
      failures++;
      return schedule(false, advice, now - line.at);
    }
    const useful = wasUseful();
    gone(line, abnormal);
    main = rival;
    rival = null;
    // The round goes on.
    if (!wasLive && (main || tryNext())) return;
    if (!wasLive || (!isSocket(line) && !line.heard)) away();
    const dead = reason === "dead";
    // A dead line was suspect before: the failures are those of that race.
    if (!dead) failures = useful ? objections : failures + 1;
    const planned = moving || (dead && failures > 0);
    moving = null;
    if (main) return become("reconnecting", reason);
    if (failures >= maxAttempts) {
      const code = "max_attempts";
      return stop(code, { code, error: `No useful connection in ${failures} attempts.` });
    }
    // A goaway has told us when to come; a race that failed has its next attempt waiting.
    // Where the server has answered, it is not away.
    const answered = wasLive || reason === "hello_refused" || reason === "bad_count";
    if (advice || !planned || attemptAt === NEVER) schedule(dead, advice, answered ? undefined : now - line.at);
    waitForAttempt(reason);
  };

  /** @param {Line} line @param {string} reason @param {[number, number]} [advice] */
  const giveUp = (line, reason, advice) => {
    letGo(line);
    lost(line, reason, advice);
  };

  /** @param {boolean} suspected @param {[number, number]} [advice] @param {number} [spent] */
  const schedule = (suspected, advice, spent) => {
    attemptAt = now + delay(suspected, advice, spent);
    if (advice) attemptNotBefore = attemptAt;
  };

  /**
   * Waits for attemptAt, which may be now.
   * @param {string} reason
   */
  const waitForAttempt = (reason) => {
    if (offline) return become("suspended", "offline");
    become("reconnecting", reason);
    if (attemptAt <= now) attempt();
  };

  // ── What the server says

  const heard = () => {
    const line = /** @type {Line} */ (main);
    if (line.listenAt < NEVER && !line.heard) {
      line.heard = true;
      line.by = NEVER;
      outages = 0; // it has carried more than hello
    }
    forgiven = false;
    if (!alive() || moving) return;
    // A false alarm: it has cost one connection, and the server's session was never touched.
    attemptAt = NEVER;
    if (isSocket(line)) passed();
    else {
      works();
      if (rival && isSocket(rival)) return; // we want that one anyway
    }
    if (rival) raceNotBefore = now + RACE_PAUSE_MS;
    letRivalGo();
  };

  // ── Listening, on HTTP

  /**
   * Begins to listen, and tells what was received so far.
   * @param {Line} line
   * @param {boolean} [anew] it was cut, and not because nothing lives there
   */
  const listen = (line, anew) => {
    const first = line.listenAt === NEVER;
    // What has happened since it was opened may speak against streams.
    if (first) line.transport = fallback() ?? line.transport;
    const { id, transport } = line;
    let wait;
    slack = transport === "stream" ? STREAM_SLACK_MS : 0;
    if (transport === "poll") {
      line.wait = min(interval(), waitCap);
      wait = line.wait / 1000;
      // The answer is the sign of life. Only what was heard, or a shorter wait, gives it new time.
      if (anew || askedAt === NEVER) asked(line.wait + pongWait(), doubted);
    } else if (first && polls) line.by = now + FIRST_WORD_MS;
    line.listenAt = now;
    act("listen", { line: id, transport, received, wait });
    told();
  };

  /** @param {Line} line a stream of which nothing comes */
  const listenByPoll = (line) => {
    line.transport = "poll";
    line.by = NEVER;
    listen(line);
  };

  /** What the server has not counted after an interval, we ask for. */
  const wantCount = () => {
    countAt = uncounted.length ? now + interval() : NEVER;
  };

  /** @param {WireEvent} event counted */
  const take = (event) => {
    const { status, subscription, id, offset } = event;
    if (status === undefined) {
      const topic = topics.get(subscription);
      if (!topic?.active) return;
      const { position } = topic;
      switch (event.event) {
        case "message":
          if (position && isSafeInteger(offset)) {
            if (offset <= position.offset) {
              counts.duplicates++;
              return;
            }
            // `after`: what is in between is not for this session.
            if (offset > position.offset + 1 && !(event.after <= position.offset)) tellGap(topic, position.offset, offset);
            position.offset = offset;
          }
          return act("message", { event });
        case "gap": {
          let { after = null, next = null, epoch } = event;
          if (position) {
            if (isText(epoch) && epoch !== position.epoch) topic.position = { epoch, offset: 0 };
            else if (after !== null && next !== null) {
              after = max(after, position.offset);
              if (next <= after + 1) return; // we have it all
            }
          }
          if (topic.position && next !== null) topic.position.offset = next - 1;
          return tellGap(topic, after, next);
        }
        case "unsubscribe":
          drop(subscription, event);
      }
      return;
    }
    const ok = status === "ok";
    const command = answer(id);
    if (command?.kind === "subscribe") {
      const { subscription } = command;
      const topic = topics.get(subscription);
      if (!topic || topic.id !== id) return; // the app has subscribed anew meanwhile
      if (!ok) return drop(subscription, event);
      const { since, before } = topic;
      topic.active = topic.before = true;
      const position = positionOf(event);
      // Recovered or not, in the same epoch the messages go on from where we were; a gap says from where else.
      if (!since || !position) topic.position = position;
      else if (position.epoch !== since.epoch) topic.position = { ...position, offset: 0 };
      act("subscribed", { subscription, since, event });
      // A topic without history has no position to ask from. What was published while we were away is lost.
      if (before && !since) tellGap(topic, null, null);
    } else if (command?.kind === "unsubscribe" && ok) ended(command, event);
    else if (command) act("reply", { id, event });
    else if (status === "error") complain("server_error", "The server gave no reason.", event);
  };

  /** @param {Topic} topic @param {number|null} after @param {number|null} next */
  const tellGap = (topic, after, next) => {
    counts.gaps++;
    act("gap", { subscription: topic.name, after, next });
  };

  // ── Time

  /**
   * Until when a line must have opened, or given the answer that it owes.
   * @param {Line} line
   */
  const patience = (line) => {
    return line.phase !== "live" ? line.since + connectTimeout : NEVER;
  };

  const heartbeatDue = () => {
    const line = /** @type {Line} */ (main);
    if (!offline) {
      if (now >= line.by) {
        pollUntil(now + STREAM_BUFFERED_MS);
        listenByPoll(line);
      }
      if (now >= livenessAt()) {
        if (suspect()) return giveUp(line, "dead");
        if (askedAt === NEVER) sendPing();
        else {
          suspectAt = now;
          if (wasUseful()) failures = 0;
          if (!rival) attemptAt = max(now + delay(true), raceNotBefore);
        }
      }
      // A line that owes an answer has been asked for it, and must not get its time anew.
      if (now >= countAt) askedAt === NEVER ? sendPing() : wantCount();
      if (now >= pongBy) {
        // Events come and no pong: the server does not hear us. Go elsewhere, and take what still comes until then.
        pongBy = NEVER;
        if (!rival) {
          moving = "deaf";
          attemptAt = now;
        }
      }
    }
    if (now >= ackAt) sendCount({ event: "ack" });
  };

  const sendPing = (inDoubt = false) => {
    pingAt = now;
    if (pongBy === NEVER) pongBy = now + 3 * timeout;
    const bytes = uncounted.reduce((sum, command) => sum + command.bytes, 0); // the server has perhaps yet to receive them
    asked(pongWait() + floor(bytes / UPLINK_STEP_BYTES) * UPLINK_STEP_MS, inDoubt);
    sendCount({ event: "ping", data: "" + ++pings });
    wantCount();
  };

  /** @param {WireEvent} event that tells the server our count */
  const sendCount = (event) => {
    sendEvent(/** @type {Line} */ (main), { ...event, received });
    told();
  };

  /** The server has (or will have) our count. */
  const told = () => {
    unacked = ackBytes = 0;
    ackAt = NEVER;
  };

  /**
   * Ask now. A good line answers and nothing more happens.
   * @param {string} reason
   */
  const doubt = (reason) => {
    if (offline) return;
    if (live()) {
      if (askedAt === NEVER || !doubted || now - askedAt >= WAIT_MIN_MS) sendPing(true);
      return;
    }
    if (main && now - main.since >= STALE_ATTEMPT_MS) {
      for (const stale of lines()) {
        letGo(stale);
        gone(stale);
      }
      main = rival = null;
      attemptAt = now;
    }
    hasten(reason);
  };

  /**
   * Without a line: do not wait any longer than the server's advice demands.
   * @param {string} reason
   */
  const hasten = (reason) => {
    if (main || offline || attemptAt === NEVER) return;
    const at = max(now, attemptNotBefore);
    if (at === attemptAt && state === "reconnecting") return;
    attemptAt = at;
    waitForAttempt(reason);
  };

  /**
   * The one timer. It is moved only to an earlier time: when it fires and nothing is due, it is set anew. So the
   * flow of messages, each of which postpones the next ping, does not set a timer each.
   */
  const arm = () => {
    let at = min(...lines().map(patience));
    if (live()) at = min(at, ackAt, climbAt, livedAt());
    if (!offline) {
      at = min(at, attemptAt, fallbackAt());
      if (live()) at = min(at, livenessAt(), countAt, pongBy, main?.by ?? NEVER);
    }
    if (at === NEVER ? timerAt === NEVER : timerAt <= at) return;
    timerAt = at;
    act("timer", { at: at < NEVER ? at : null });
  };

  // ── In and out

  /** @type {{[Type in Input["type"]]: (input: Extract<Input, {type: Type}>, line: Line) => void}} what has happened, on one of our lines */
  const inputs = {
    connect() {
      if (state !== "idle" && state !== "closed") {
        // The app knows better than the platform's idea of being offline.
        offline = false;
        return doubt("connect");
      }
      failures = 0;
      refreshed = reauthenticate = false;
      if (offline) {
        attemptAt = now;
        return become("suspended", "offline");
      }
      become("connecting", "connect");
      attempt();
    },
    close: () => stop("closed_by_app"),
    subscribe({ id, subscription, since, fields = {} }) {
      /** @type {Topic} */
      const topic = { id, name: subscription, fields, position: since ? { ...since } : null };
      if (!counting() || submit(subscribeCommand(topic))) topics.set(subscription, topic);
    },
    unsubscribe({ id, subscription }) {
      const unsubscribe = command({ event: "unsubscribe", subscription, id });
      unsubscribe.topic = topics.get(subscription);
      // Without a session there is nobody to ask.
      if (counting()) submit(unsubscribe);
      else ended(unsubscribe);
    },
    message({ id, subscription, data, fields }) {
      const message = command({ ...fields, event: "message", subscription, data, id });
      if (state === "closed") fail(message, "closed", "The connection is closed.");
      else submit(message);
    },
    opened({ auth }, line) {
      if (line.phase !== "open") return;
      line.auth = auth;
      if (line === main) return hello(line);
      enterPhase(line, "probe");
      sendEvent(line, { event: "probe" });
    },
    receive({ text }, line) {
      /** @type {WireEvent|undefined} */
      let event;
      try {
        event = parse(text);
      } catch {}
      const isLive = line.phase === "live";
      // On HTTP a count answers what was sent, and says nothing about the way down.
      if (isLive && (isSocket(line) || event?.event !== "ack")) heard();
      if (typeof event !== "object" || event === null) {
        // It was sent as an event, so it counts as one.
        act("error", { code: "unreadable", error: "The server sent what is not an event." });
        event = {};
      }
      const kind = event.event;
      if (!isLive) {
        if (line.phase === "probe" && kind === "probe") {
          // The rival has spoken first: the session goes to it.
          if (line === rival) {
            const old = /** @type {Line} */ (main);
            if (wasUseful()) failures = 0;
            else if (live() && suspect() && !moving) failures++;
            gone(old);
            letGo(old);
            main = line;
            rival = moving = null;
          }
          return hello(line);
        }
        if (line.phase === "hello" && kind === "hello") welcome(line, event);
        return;
      }
      switch (kind) {
        case "hello":
          if (isSocket(line) || event.status !== "error") return;
          session = null; // the server does not know it any more
          return giveUp(line, "line_closed");
        case "probe": case "ping": return;
        case "pong":
          pongBy = NEVER;
          if (pingAt < NEVER && event.data === "" + pings) {
            const rtt = now - pingAt;
            pingAt = NEVER;
            alive(true);
            sample(rtt);
            act("rtt", { rtt, srtt: round(/** @type {any} */ (srtt)) });
          } // falls through
        case "ack":
          if (event.received === undefined) return;
          if (acknowledge(event.received)) wantCount();
          else badCount(event);
          return;
        case "goaway": {
          const at = now + between(...(rangeOf(event.retry_after) ?? /** @type {[number, number]} */ ([0, spread])));
          act("goaway", { at, event });
          moving = "goaway";
          if (wasUseful()) failures = 0;
          if (!rival) attemptAt = attemptNotBefore = at;
          return;
        }
      }
      take(event);
      // One more counted event of the server.
      received++;
      const first = !unacked++;
      if (main?.transport === "poll") return; // the next one tells it
      if (first) ackAt = now + interval();
      ackBytes += text.length; // of UTF-16: near enough for a threshold
      if (unacked >= ACK_EVENTS || ackBytes >= ACK_BYTES) sendCount({ event: "ack" });
    },
    // A comment, or the end of an answer.
    heard(_, line) {
      if (line.phase !== "live") return;
      heard();
      if (line.transport === "poll" || line.listenAt === NEVER) listen(line);
    },
    cut(_, line) {
      if (line.phase !== "live") return;
      const age = now - line.listenAt;
      if (line.transport === "stream" && polls && !line.heard) return listenByPoll(line);
      if (age < CUT_MS) return giveUp(line, "line_closed");
      const early = line.transport === "poll" && age < /** @type {number} */ (line.wait);
      if (early) waitCap = max(CUT_MS, floor(0.7 * age));
      listen(line, early);
    },
    closed({ code: closeCode, reason, retryAfter }, line) {
      const advice = rangeOf(retryAfter);
      let objections = 0; // how many failures it counts for at least
      /** @param {string} code @param {string} text */
      const error = (code, text) => ({ code, error: reason ? `${text} (${reason})` : text, closeCode });
      /** @param {string} code @param {string} text no new line is wanted */
      const end = (code, text) => {
        main = null; // it is closed already
        stop(code, error(code, text));
      };
      if (line === main) {
        switch (closeCode) {
          case 1009: {
            // The same message would close every further line too. Those after it move up: it was never counted.
            const messages = uncounted.filter(({ kind, holds }) => kind === "message" && holds > 1);
            const [biggest] = messages.sort((a, b) => b.bytes - a.bytes);
            if (biggest) {
              const actual = biggest.bytes;
              uncounted.splice(uncounted.indexOf(biggest), 1);
              release(biggest);
              answer(biggest.id);
              fail(biggest, "too_big", `The server does not take a message of ${actual} bytes.`, { actual });
            }
          } // falls through
          case 1002: case 1003: case 1007:
            act("error", error("protocol_error", "The server ended the line because of a protocol error."));
            // falls through
          case 4029:
            objections = 1; // not even the first attempt may be as soon as after a good line
            break;
          case 4000:
            if (!ghosts) return end("replaced", "The session was taken over by another connection.");
            ghosts--;
            break;
          case 4001:
            if (!credentials || (refreshed && !wasUseful())) return end("authentication_expired", "The authentication has expired.");
            refreshed = reauthenticate = true;
            break;
          case 4003:
            return end("forbidden", "The server forbids this connection.");
          case 4008:
            session = null; // We were too slow and the server has dropped it: recover by position.
        }
      }
      haunt(line);
      const spoke = closeCode >= 4000 && closeCode !== 4009;
      if (spoke && line.phase !== "live") refused(line);
      lost(line, "line_closed", advice, objections, !spoke && closeCode !== 1000 && closeCode !== 1001);
    },
    timer() {
      // The machine slept: whatever was due is judged from now on. Only once, since a hidden page's timers are always late.
      const woken = now - timerAt > interval() && !forgiven;
      timerAt = NEVER;
      if (woken) {
        forgiven = true;
        pongBy = climbDue = climbAt = NEVER;
        if (main && main.by < NEVER) main.by = now + FIRST_WORD_MS;
        doubt("late_timer");
      }
      for (const line of lines()) if (now >= patience(line)) giveUp(line, "connect_timeout");
      if (now >= fallbackAt() && !offline) fallBack(/** @type {Line} */ (trying()));
      if (live()) heartbeatDue();
      if (now >= attemptAt && !offline) attempt();
      planClimb();
      if (now >= climbAt) startRound("websocket");
      if (now >= livedAt()) {
        // WebSockets work here: all is forgotten, but for what the budget has spent.
        answeredAt = -NEVER;
        dying = NEVER;
        memory = onlyKnown(memory.attempts);
        news = true;
      }
      if (woken) hasten("late_timer");
    },
    hidden() {
      isHidden = true;
    },
    shown() {
      isHidden = false;
      doubt("shown");
    },
    offline() {
      offline = true;
      if (!main && state === "reconnecting") become("suspended", "offline");
    },
    online() {
      if (offline) want();
      offline = false;
      doubt("online");
    },
    doubt: () => doubt("doubt"),
    changed() {
      want();
      doubt("doubt");
    },
    probe() {
      want();
      planClimb(0);
    },
    /** @param {Extract<Input, {type: "adopt"}>} input */
    adopt(input) {
      session = input.session;
      received = input.received;
      counted = NaN;
      for (const topic of input.topics) topics.set(topic.name, { ...topic, active: true, before: true });
    },
    // What we, or another tab, have remembered. Perhaps nonsense.
    memory({ memory: recalled }) {
      if (!climbs) return;
      /** @type {any} */
      const anything = recalled;
      const given = anything?.v === 1 ? anything : {};
      /** @param {"strikes"|"until"|"term"|"deaths"|"life"|"rest"|"pollUntil"} key @param {number} from @param {number} to */
      const adopt = (key, from, to) => {
        const value = given[key];
        if (isNumber(value) && value >= from) memory[key] = floor(min(value, to));
      };
      // A clock that was put back has left attempts in the future.
      const recent = (/** @type {unknown} */ at) => isNumber(at) && at > now - BUDGET_MS && at <= now + SAME_ATTEMPT_MS;
      const { deaths } = memory;
      grown();
      memory = onlyKnown([given.attempts].flat().filter(recent).map(floor));
      adopt("strikes", 0, 2);
      adopt("until", -NEVER, now + TERM_MAX_MS);
      adopt("term", TERM_MS, TERM_MAX_MS);
      adopt("deaths", 0, 3);
      adopt("life", 0, LIVED_MS);
      adopt("rest", -NEVER, now + REST_MS);
      adopt("pollUntil", -NEVER, now + STREAM_BUFFERED_MS);
      if (memory.deaths > deaths) diedAt = now;
      sort();
      // The other tab could not know what we have just written. What it has left out as too old stays out, or this had no end.
      const full = memory.attempts.length === ATTEMPTS_KEPT;
      for (const at of own.splice(0).filter(recent)) {
        if (find(at) >= 0) own.push(at);
        else if (!full || at > memory.attempts[0]) enter(at);
      }
    },
  };

  /** @param {Input} input @param {number} time @returns {Action[]} */
  this.handle = (input, time) => {
    now = time;
    actions = [];
    const { type, line: id } = /** @type {any} */ (input);
    const line = lines().find((line) => line.id === id);
    // Of a line that we have let go we want to hear nothing.
    if (line || id === undefined) /** @type {any} */ (inputs)[type](input, line);
    planClimb();
    if (news) act("remember", { memory: blank() ? null : { ...memory, attempts: [...memory.attempts] } });
    news = false;
    arm();
    this.state = state;
    return actions;
  };

  this.stats = () => {
    const transport = live() ? /** @type {Line} */ (main).transport : null;
    const { until, rest } = memory;
    const works = transport === "websocket";
    const blocked = !works && now < past(until);
    const blockedUntil = blocked ? until : null;
    /** @type {WebSocketStanding} */
    const websocket = works ? "works" : blocked ? "blocked" : now < past(rest) ? "resting" : "unknown";
    return {
      ...counts,
      transport,
      websocket,
      blockedUntil,
      state,
      session,
      received,
      sent: posted(),
      queuedBytes: queued,
      srtt: srtt && round(srtt),
    };
  };
}

/** @param {WireEvent} event @returns {Command} */
const command = (event) => {
  const text = stringify(event);
  const { event: kind, id, subscription } = event;
  return { kind, id, subscription, text, bytes: new TextEncoder().encode(text).length, holds: 0 };
};

/** @param {unknown} seconds @param {number} otherwise where the server says nothing that can be @returns {number} */
const milliseconds = (seconds, otherwise) => {
  return isNumber(seconds) && seconds > 0 && seconds < Infinity ? ceil(seconds * 1000) : otherwise;
};

/**
 * @param {WireEvent} event
 * @returns {Position|null} a copy
 */
const positionOf = ({ position }) => {
  const { epoch, offset } = position ?? {};
  return isText(epoch) && isSafeInteger(offset) ? { epoch, offset } : null;
};

/* ── 2. The driver ─────────────────────────────────────────────────────────────────────────────────────────────────── */

const ignore = () => {};

/** @typedef {(type: Input["type"], input?: Record<string, unknown>) => void} Tell gives the machine an input, of this line */

const isHidden = () => globalThis.document?.visibilityState === "hidden";

/**
 * What is remembered, with all times moved: a page's own clock means nothing to another page, the time of day does.
 * @param {any} memory
 * @param {number} by
 */
export const shifted = (memory, by) => {
  const move = (/** @type {unknown} */ time) => (isNumber(time) ? round(time + by) : null);
  const { attempts, until, rest, pollUntil } = memory;
  return { ...memory, attempts: attempts.map(move), until: move(until), rest: move(rest), pollUntil: move(pollUntil) };
};

/** @type {typeof import("./http.js").httpLine|undefined} */
let httpLine;

/** @type {Promise<void>|null|undefined} */
let loading;
let failedLoads = 0;

/** Loads the transports over HTTP, which otherwise come while the first line opens. */
export const loadFallback = () =>
  (loading ??= (failedLoads
    // Firefox remembers of a module that it could not be loaded, for as long as the page lives.
    ? import(/* @vite-ignore */ /* webpackIgnore: true */ "./http.js?" + failedLoads)
    : import("./http.js")
  ).then(
    (module) => void ({ httpLine } = module),
    (error) => {
      loading = null;
      failedLoads++;
      throw error;
    },
  ));

/**
 * Carries out what the machine wants with lines, and tells it what happens to them.
 * A line that was let go is forgotten: whatever it still does finds no handler.
 *
 * @constructor
 * @param {ConnectionMachine} machine
 * @param {object} options
 * @param {string} options.url
 * @param {typeof WebSocket} options.WebSocket
 * @param {typeof fetch} [options.fetch]
 * @param {boolean} [options.withCredentials]
 * @param {Transport[]} [options.transports]
 * @param {MemoryStorage|null} [options.storage]
 * @param {() => number} [options.now]
 * @param {() => Promise<{auth?: WireEvent, headers?: Record<string, string>}>} options.prepare an attempt
 * @param {(action: Action) => void} options.perform actions that are not about lines
 * @param {(error: HoldfastError) => void} options.report
 */
export function Driver(machine, {
  url,
  WebSocket,
  fetch = globalThis.fetch,
  withCredentials,
  transports = TRANSPORTS,
  storage = pageStorage(),
  now: clock = () => performance.now(),
  prepare,
  perform,
  report,
}) {
  const sessionURL = new URL("session", url.replace(/^ws/, "http"));
  const key = "holdfast:" + sessionURL.origin;
  /** @type {Map<number, any>} WebSockets and HTTP lines; each has the `headers` of its attempt */
  const lines = new Map();
  /** @type {ReturnType<typeof setTimeout>|undefined} */
  let timer;
  /** @type {Action[]} */
  const actions = [];
  let busy = false;
  /** @type {AbortController|null|undefined} ends the listeners to the page */
  let attached;

  const now = () => floor(clock());

  /**
   * Actions are carried out one after the other, also where a callback of the app gives an input in between: else
   * the older of two timers could be set last.
   * @param {Input} value
   */
  const input = (value) => {
    actions.push(...machine.handle(value, now()));
    if (busy) return;
    busy = true;
    try {
      for (let action; (action = actions.shift()); ) {
        (/** @type {any} */ (performers)[action.type] ?? perform)(action);
      }
    } finally {
      busy = false;
    }
  };

  /** @param {Input["type"]} type */
  const tellType = (type) => input(/** @type {Input} */ ({ type }));

  /** What the machine wants with lines, by the type of the action. */
  const performers = {
    /** @param {{line: number, transport: Transport}} action */
    open({ line, transport }) {
      const isSocket = transport === "websocket";
      /** @param {unknown} error */
      const fail = (error) => {
        performers.close({ line });
        input({ type: "closed", line, code: 1006, reason: String(error) });
      };
      /** @type {any} */
      let socket;
      const isOurs = () => lines.get(line) === socket;
      /** @type {Tell} */
      const tell = (type, more) => {
        if (!isOurs()) return;
        if (type === "closed") lines.delete(line);
        input(/** @type {any} */ ({ type, ...more, line }));
      };
      try {
        socket = isSocket
          ? new WebSocket(url)
          : httpLine?.({ tell, url: sessionURL, fetch, withCredentials, received: () => machine.stats().received });
        if (!socket) {
          const retry = () => {
            loading = null; // Should it hang, the next line asks anew.
            failedLoads++;
          };
          lines.set(line, (socket = { close: retry }));
          loadFallback().then(() => isOurs() && performers.open({ line, transport }), (error) => {
            if (!isOurs()) return;
            report(new HoldfastError("fallback_unavailable", `The transports over HTTP cannot be loaded: ${error}`, {}, error));
            fail(error);
          });
          return;
        }
      } catch (error) {
        return fail(error);
      }
      lines.set(line, socket);
      // The credentials are fetched while the line opens. Should they never come, the machine's patience ends.
      const prepared = prepare();
      prepared.catch((error) => {
        if (!isOurs()) return;
        report(new HoldfastError("credentials_failed", `No credentials: ${error}`, {}, error));
        fail(error);
      });
      const opened = (/** @type {Awaited<typeof prepared>} */ { auth, headers }) => {
        socket.headers = headers;
        tell("opened", { auth });
      };
      socket.onopen = () => prepared.then(opened, ignore);
      if (!isSocket) return socket.onopen(); // There is nothing to connect.
      socket.onmessage = (/** @type {{data: unknown}} */ { data }) => tell("receive", { text: isText(data) ? data : "" });
      socket.onclose = (/** @type {{code: number, reason: string}} */ { code, reason }) => tell("closed", { code, reason });
      socket.onerror = ignore; // close follows
    },
    /** @param {{line: number, text: string, seq?: number}} action */
    send({ line, text, seq }) {
      const socket = lines.get(line);
      const headers = socket?.headers;
      // A WebSocket of a browser cannot send headers, so hello does, on every transport.
      if (headers && text.startsWith('{"event":"hello"')) text = stringify({ ...parse(text), headers });
      try {
        socket?.send(text, seq);
      } catch {} // it is closing, and will say so
    },
    /**
     * A dead line's closing handshake can take minutes, so nobody waits for it.
     * @param {{line: number, code?: number}} action
     */
    close({ line, code }) {
      const socket = lines.get(line);
      if (!socket) return;
      lines.delete(line);
      socket.onopen = socket.onmessage = socket.onclose = null;
      socket.onerror = ignore; // `ws` throws where an error finds no handler
      try {
        socket.close(code);
      } catch {}
    },
    /** @param {Extract<Action, {type: "listen"}>} action */
    listen: (action) => lines.get(action.line)?.listen(action),
    /** @param {{memory: Memory|null}} action */
    remember({ memory }) {
      try {
        if (memory) storage?.setItem(key, stringify(shifted(memory, Date.now() - now())));
        else storage?.removeItem(key);
      } catch {
        storage = null; // Full, or forbidden: only the machine remembers.
      }
    },
    /** @param {{at: number|null}} action */
    timer({ at }) {
      clearTimeout(timer);
      if (at !== null) timer = setTimeout(() => tellType("timer"), max(0, at - now()));
    },
  };

  /** What this page or another one has remembered; what cannot be read is nothing. */
  const recall = () => {
    if (!storage) return;
    let memory = null;
    try {
      memory = shifted(parse(/** @type {string} */ (storage.getItem(key))), now() - Date.now());
    } catch {}
    input({ type: "memory", memory });
  };

  /** What the page and the network tell. A worker has no document, Node has neither. */
  const attach = () => {
    if (attached) return;
    const { signal } = (attached = new AbortController());
    const { document, navigator } = globalThis;
    /** @type {any} */
    const connection = /** @type {any} */ (navigator)?.connection;
    /** @param {EventTarget|undefined} target @param {string} type @param {(event: any) => void} listener */
    const listen = (target, type, listener) => target?.addEventListener?.(type, listener, { signal });
    const visibility = () => tellType(isHidden() ? "hidden" : "shown");
    const doubt = () => tellType("doubt");
    const network = () => "" + connection?.type + connection?.effectiveType;
    let before = network();
    listen(document, "visibilitychange", visibility);
    listen(document, "resume", doubt);
    listen(globalThis, "pageshow", ({ persisted }) => persisted && doubt());
    for (const type of /** @type {const} */ (["online", "offline"])) listen(globalThis, type, () => tellType(type));
    // It also fires whenever the measured bandwidth changes, which says nothing about the line.
    listen(connection, "change", () => before !== (before = network()) && tellType("changed"));
    // Another tab has learned something. No key: all was cleared.
    listen(globalThis, "storage", (event) => (event.key ?? key) === key && recall());
    // Should this fail, it is tried again when it is needed, and said then.
    if (transports + "" !== "websocket") loadFallback().catch(ignore);
    // What happened while nobody listened.
    recall();
    tellType("online");
    if (document) visibility();
  };

  const detach = () => {
    attached?.abort();
    attached = null;
  };

  this.now = now;
  this.input = input;
  this.attach = attach;
  this.detach = detach;
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
const errorOf = (event) => {
  return new HoldfastError(event.code ?? "server_error", String(event.error ?? "The server gave no reason."), event);
};

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
 * @typedef {object} DeliveredEvent the end of a message that an earlier page has left
 * @property {string} subscription
 * @property {any} data
 * @property {string} id
 * @property {any} reply the data of the service's reply
 * @property {HoldfastError|null} error
 * @property {number} attempts clients that have had it, this one among them
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
 * @property {DeliveredEvent} delivered
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
    if (!isFunction(listener)) throw new TypeError("The listener must be a function.");
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

  /** @returns {"subscribing"|"subscribed"|"unsubscribed"} */
  get state() {
    return this.#error !== undefined ? "unsubscribed" : this.#subscribed ? "subscribed" : "subscribing";
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
      if (this.#error !== undefined) reject(this.#error ?? this.#over());
      else if (this.#subscribed) resolve(this.#subscribed);
      else this.#waiting.push({ resolve, reject });
    });
  }

  /**
   * Resolves when the server has confirmed. Messages are delivered until then.
   * @returns {Promise<void>}
   */
  async unsubscribe() {
    if (this.#error !== undefined) return;
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
        const text = `A loop over ${this.name} is more than ${limit} messages behind.`;
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
    if (this.#error !== undefined) return;
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
 * @property {boolean|{maxBytes?: number, maxMessages?: number, maxAge?: number}} [persist] messages survive the page (default false)
 * @property {string} [identity] whose messages and whose line these are, where they are shared (default "")
 * @property {{name: string, version: string}} [client] shown on the server's side
 * @property {any} [WebSocket] the class, where there is no global one (Node before 22)
 * @property {typeof globalThis.fetch} [fetch] instead of the global one
 * @property {() => number} [random] in [0, 1), for tests
 * @property {() => number} [now] ms of a monotonic clock, for tests
 * @property {boolean} [tabs] one line for all tabs of the origin with the same URL, identity and options (default false)
 */

/** @typedef {readonly [string, (value: any) => boolean]} Rule */
/** @type {Rule} */
const aFunction = ["a function", isFunction];
/** @type {Rule} */
const aCount = ["a whole number above 0", (value) => value > 0 && isSafeInteger(value)];
/** @type {Rule} */
const aFlag = ["true or false", (value) => typeof value === "boolean"];
/** @type {Transport[]} */
const TRANSPORTS = ["websocket", "stream", "poll"];
/** @type {Record<keyof Options, Rule>} */
const OPTIONS = {
  autoConnect: aFlag,
  getTicket: aFunction,
  getToken: aFunction,
  transports: [
    "a list of " + TRANSPORTS,
    (value) => Array.isArray(value) && value.length > 0 && value.every((each) => TRANSPORTS.includes(each)),
  ],
  headers: ["{name: value} or a function", (value) => value && /object|function/.test(typeof value)],
  withCredentials: aFlag,
  storage: ["a Storage, or null", (value) => value === null || isFunction(value.getItem)],
  connectTimeout: aCount,
  queueBytes: aCount,
  maxAttempts: aCount,
  bufferSize: aCount,
  persist: ["true, false or limits", (value) => value !== null && /object|boolean/.test(typeof value)], // outbox.js checks them
  client: ["{name, version} of strings", (value) => typeof value?.name === "string" && typeof value.version === "string"],
  WebSocket: aFunction,
  fetch: aFunction,
  random: aFunction,
  now: aFunction,
  tabs: aFlag,
  identity: ["a string", isText],
};

/**
 * A mistake in the options shows at once, not as a client that behaves strangely.
 * @param {any} options
 */
const checkOptions = (options) => {
  for (const [name, value] of Object.entries(options)) {
    const rule = OPTIONS[/** @type {keyof Options} */ (name)];
    if (!rule) {
      /** @param {string} option how many pairs of letters the name has in common with it */
      const likeness = (option) =>
        [...name].filter((letter, i) => option.toLowerCase().includes((letter + name[i + 1]).toLowerCase())).length;
      const [nearest] = Object.keys(OPTIONS).sort((a, b) => likeness(b) - likeness(a));
      throw new TypeError(`There is no option "${name}". Did you mean "${nearest}"?`);
    }
    if (value !== undefined && !rule[1](value)) throw new TypeError(`The option "${name}" must be ${rule[0]}.`);
  }
  if (options.getTicket && options.getToken) throw new TypeError('Give "getTicket" or "getToken", not both.');
  if ((options.persist || options.tabs) && options.identity == null && (options.getTicket ?? options.getToken ?? options.headers ?? options.withCredentials)) {
    throw new TypeError('With "persist" or "tabs", say in "identity" whose credentials these are: another user must not get what is this one\'s.');
  }
};

/** @param {string} url @returns {string} */
const socketURL = (url) => {
  try {
    const socket = new URL(url || "/socket", globalThis.location?.href).href.replace(/^http/, "ws").replace(/#.*/, "");
    if (/^wss?:/.test(socket)) return socket;
  } catch {}
  throw new TypeError(`Holdfast cannot connect to "${url}": no http(s) or ws(s) URL, nor in a page a path.`);
};

/** Reading the property throws where the user has forbidden it. A worker has none; Node's would be a file. */
const pageStorage = () => {
  try {
    return globalThis.window?.localStorage;
  } catch {}
  return null;
};

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
  /** @type {Promise<Pick<import("./outbox.js").Outbox, "send"|"heard">>|undefined} */
  #outbox;
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
    const { headers, WebSocket = globalThis.WebSocket, tabs, identity = "" } = options;
    if (!WebSocket && transports.includes("websocket")) {
      throw new TypeError('No WebSocket here: give one as option "WebSocket", or "transports" without it.');
    }
    this.#url = socketURL(url);
    this.#options = options;
    const method = getTicket ? "ticket" : "token";
    const get = getTicket ?? getToken;
    const prepare = async () => {
      const [value, own] = await Promise.all([get?.(), isFunction(headers) ? headers() : headers]);
      if (get && typeof value !== "string") throw new TypeError(`the ${method} is not a string`);
      const auth = get && { event: "auth", method, [method]: value };
      return { auth, headers: own && Object.fromEntries(new Headers(own)) };
    };
    // Services know a repeated message by its id, so no two clients may have the same ones.
    this.#prefix = random().toString(36).slice(2) + ".";
    this.#machine = new ConnectionMachine({ ...options, random, credentials: !!get, transports });
    this.#driver = new Driver(this.#machine, {
      ...options, url: this.#url, WebSocket, prepare,
      perform: (action) => {
        /** @type {any} */ (this.#perform)[action.type](action);
        this.#outbox?.then((outbox) => outbox.heard(action));
      },
      report: (error) => this._report(error),
    });
    const input = (/** @type {Input} */ message) => this.#driver.input(message);
    if (options.persist) {
      const { reply } = /** @type {any} */ (this.#perform);
      const PATIENCE_MS = 3_000; // A module that does not come must not keep messages.
      const late = new Promise((_, reject) => setTimeout(reject, PATIENCE_MS, "outbox.js has not come in time"));
      this.#outbox = /** @type {Promise<typeof import("./outbox.js")>} */ (Promise.race([import("./outbox.js"), late])).then(
        ({ Outbox }) => new Outbox(this, this.#url, options, this.#subscriptions, input, reply, HoldfastError),
      ).catch((error) => {
        this._report(new HoldfastError("persist_unavailable", error));
        return { send: input, heard: ignore };
      });
    }
    if (tabs) {
      const [machine, driver] = [this.#machine, this.#driver];
      const { handle } = machine;
      /** @type {Input[]} */
      const waiting = [];
      machine.handle = (input) => (stringify(input), waiting.push(input), []);
      import("./tabs.js")
        .then(({ share }) => share(machine, driver, { handle, url: this.#url, options, identity, transports, method: get && method, prepare }))
        .catch(() => (machine.handle = handle)) // It stands alone, with its own line.
        .then(() => waiting.forEach(driver.input));
    }
    /** @internal */
    this._bufferSize = bufferSize;
    /** @internal */
    this._topics = this.#machine.topics;
    /**
     * A callback of the app has thrown.
     * @internal
     * @param {unknown} error
     */
    this._failed = (error) => this._report(new HoldfastError("callback_failed", `A callback has failed: ${error}`, {}, error));
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
    if (typeof name !== "string" || !name) throw new TypeError('The name must be such as "calls.call_1".');
    const { since, ...fields } = options;
    if (since !== undefined && !positionOf({ position: since })) throw new TypeError('"since" is a position: {epoch, offset}.');
    stringify(fields); // what cannot be sent throws here, not later
    const existing = this.#subscriptions.get(name);
    if (existing && !existing._leaving) {
      if (Object.keys(options).length) throw new Error(`${name} is subscribed already: unsubscribe it first.`);
      return existing;
    }
    const id = this.#id();
    const subscription = new Subscription(this, name, id);
    this.#subscriptions.set(name, subscription);
    this.#say({ type: "subscribe", id, subscription: name, since, fields });
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
    return { tabs: /** @type {{mode: TabsMode}} */ ({ mode: "alone" }), ...stats, session: session && session.split(".")[0], blockedUntil: this.#until(blockedUntil) };
  }

  #id() {
    return this.#prefix + (++this.#lastId).toString(36);
  }

  /** @param {Input} input */
  #say(input) {
    if (!this.#outbox) return this.#driver.input(input);
    const copy = parse(stringify(input)); // The app may change it until it is sent.
    this.#outbox.then((outbox) => outbox.send(copy));
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
        this.#say(/** @type {Input} */ ({ type, id, subscription, data, fields }));
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
      /** @type {RecoveredEvent} */
      const recovered = { by: "position", subscription: name, messages: position.offset - since.offset };
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
    rtt: ({ type, ...event }) => this._emit(type, event),
    goaway: ({ at, event: { reason } }) => this._emit("goaway", { reason, inMs: /** @type {number} */ (this.#until(at)) }),
    error: ({ code, error, event }) => this._report(new HoldfastError(code, error, event)),
  };

  /** @param {number|null|undefined} time @returns {number|null} ms until then */
  #until(time) {
    return time == null ? null : max(0, time - this.#driver.now());
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
const gapOf = (subscription, after, next) => {
  return { subscription, after, next, missing: after === null || next === null ? null : next - after - 1 };
};

export { Holdfast as default };
