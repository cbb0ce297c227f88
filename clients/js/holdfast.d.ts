// Types of holdfast.js. Tests/JavaScript/types.test.js keeps the two in step.
// SPDX-License-Identifier: Apache-2.0

import type { Diagnosis } from "./diagnose.js";

/** Where a subscription is: the offset in the history of this epoch. */
export type Position = { epoch: string; offset: number };

/** One event of the protocol, as it came. */
export type WireEvent = Record<string, any>;

/**
 * - `idle`: not connected yet, and not asked to
 * - `connecting`: the first line opens
 * - `connected`
 * - `suspended`: the network is away, nothing is tried until it is back
 * - `reconnecting`: without a line; the next attempt is planned or under way
 * - `closed`: by the app, or for good by the server
 */
export type State = "idle" | "connecting" | "connected" | "suspended" | "reconnecting" | "closed";

/** An event stream and long polls take the place of WebSockets where these do not get through. */
export type Transport = "websocket" | "stream" | "poll";

/** What is used of `localStorage`. */
export type MemoryStorage = Pick<Storage, "getItem" | "setItem" | "removeItem">;

export type StateEvent = { state: State; previous: State; reason: string; nextAttemptInMs: number | null };

export type ConnectedEvent = {
  /** The session was resumed: nothing can be missing. */
  resumed: boolean;
  /** The session's public handle. */
  session: string;
  /** The gateway that answered. */
  node: string | undefined;
  /** What carries the session now. */
  transport: Transport | null;
};

/** Nothing was lost. */
export type RecoveredEvent = {
  by: "session" | "position";
  /** null: all of the session. */
  subscription: string | null;
  /** How many were missed and follow now, where that is known. */
  messages: number | null;
};

/** The messages after+1 … next-1 are lost. */
export type GapEvent = {
  subscription: string;
  /** null: not known, as the history is another one or there is none. */
  after: number | null;
  next: number | null;
  missing: number | null;
};

export type Message = {
  subscription: string;
  data: any;
  /** null: a topic without history. */
  offset: number | null;
  publishedAt: unknown;
  /** What is missing before this message. */
  gap: GapEvent | null;
  event: WireEvent;
};

export type SubscribedEvent = {
  position: Position | null;
  /** null: it was not asked to go on after a position. */
  recovered: boolean | null;
  /** What the service gave with its reply. */
  data: any;
};

/** `error` null: by the app. */
export type UnsubscribedEvent = { error: HoldfastError | null };

/** The end of a message that an earlier page has left (option `persist`): the promise of its `message()` is gone. */
export type DeliveredEvent = {
  subscription: string;
  data: any;
  /** What services get as `message_id`. */
  id: string;
  /** The data of the service's reply. */
  reply: any;
  /** null: it was delivered. Code `expired`: it was older than `maxAge`, and was never answered. */
  error: HoldfastError | null;
  /** Clients that have had it, this one among them. */
  attempts: number;
};

export interface ClientEvents {
  state: StateEvent;
  /** A line carries the session. */
  connected: ConnectedEvent;
  recovered: RecoveredEvent;
  gap: GapEvent;
  /** A ping was answered; ms. */
  rtt: { rtt: number; srtt: number };
  /** The server wants this client elsewhere; another line is opened then. */
  goaway: { reason: string | undefined; inMs: number };
  delivered: DeliveredEvent;
  /** Also what callbacks of the app throw (code `callback_failed`). Without a listener: the console. */
  error: HoldfastError;
}

export interface SubscriptionEvents {
  message: Message;
  gap: GapEvent;
  recovered: RecoveredEvent;
  /** Each time that the server confirms it, so also after a lost session. */
  subscribed: SubscribedEvent;
  unsubscribed: UnsubscribedEvent;
  /** It was refused or ended. Without a listener: the client's `error`. */
  error: HoldfastError;
}

export interface Options {
  /** Connect without being asked (default true). */
  autoConnect?: boolean;
  /** Called for each attempt: a ticket for `auth` with method "ticket". */
  getTicket?: () => string | Promise<string>;
  /** Called for each attempt: a token for `auth` with method "token". */
  getToken?: () => string | Promise<string>;
  /** That may be used (default "websocket", "stream" and "poll"). */
  transports?: Transport[];
  /** For the gateway's services: on each HTTP request, and within `hello`. A function is called for each attempt. */
  headers?: Record<string, string> | (() => Record<string, string> | Promise<Record<string, string>>);
  /** Cookies on HTTP requests to another origin (default false). */
  withCredentials?: boolean;
  /** Where it is remembered that WebSockets do not get through (default `localStorage`); null: nowhere. */
  storage?: MemoryStorage | null;
  /** ms for a line to open, and again for the first answer (default 10,000). */
  connectTimeout?: number;
  /** Commands kept while away or unacknowledged, in bytes (default 1 MiB). */
  queueBytes?: number;
  /** Give up after so many lines in a row that were of no use (default: never). */
  maxAttempts?: number;
  /** Messages that a `for await` may fall behind (default 1,024). */
  bufferSize?: number;
  /**
   * Messages without a reply are kept in IndexedDB, and sent again by the next page (default false). The limits hold for all
   * tabs together: 1 MiB, 1,000 messages, and ms that a message is kept (a day).
   */
  persist?: boolean | { maxBytes?: number; maxMessages?: number; maxAge?: number };
  /**
   * Whose messages and whose line these are: kept messages go out, and tabs share a line, under the same identity only (default "").
   * Required with `persist` and `tabs` where credentials or headers are given.
   */
  identity?: string;
  /** Shown on the server's side. */
  client?: { name: string; version: string };
  /** The class, where there is no global one (Node before 22). */
  WebSocket?: any;
  /** Instead of the global one. */
  fetch?: typeof globalThis.fetch;
  /** In [0, 1), for tests. */
  random?: () => number;
  /** ms of a monotonic clock, for tests. */
  now?: () => number;
  /** One line for all tabs of the origin with the same URL, identity and options (default false). */
  tabs?: boolean;
}

export interface Stats {
  state: State;
  /**
   * - `alone`: a line of its own
   * - `worker`: the line is in a SharedWorker
   * - `leader`: this tab has it
   * - `follower`: another tab has it, or there is none at the moment
   */
  tabs: { mode: "alone" | "worker" | "leader" | "follower" };
  /** Of the line that carries the session; null: there is none. */
  transport: Transport | null;
  /**
   * - `unknown`: nothing speaks against it
   * - `works`: it carries the session
   * - `blocked`: it does not get through, and is not tried until `blockedUntil`
   * - `resting`: it is cut after a short time, and is not tried for a while
   */
  websocket: "unknown" | "works" | "blocked" | "resting";
  /** ms until then; null: it is not blocked. */
  blockedUntil: number | null;
  session: string | null;
  /** Events of the server in this session. */
  received: number;
  /** Events of ours in this session. */
  sent: number;
  queuedBytes: number;
  /** ms; null: not known yet. */
  srtt: number | null;
  attempts: number;
  /** Second lines opened because the first was suspect. */
  races: number;
  resumed: number;
  sessions: number;
  /** Messages that came again and were dropped. */
  duplicates: number;
  gaps: number;
}

/** What went wrong: `code` is for programs, `message` for people. */
export class HoldfastError extends Error {
  constructor(code: string, message: string, event?: WireEvent, cause?: unknown);
  code: string;
  /** Where a limit was exceeded. */
  limit: number | undefined;
  actual: number | undefined;
  /** What the service said. */
  data: unknown;
}

declare class Emitter<Events> {
  on<Type extends keyof Events>(type: Type, listener: (event: Events[Type]) => unknown): this;
  once<Type extends keyof Events>(type: Type, listener: (event: Events[Type]) => unknown): this;
  /** Without a listener: all of this type. */
  off<Type extends keyof Events>(type: Type, listener?: (event: Events[Type]) => unknown): this;
}

/**
 * A subscription, from `client.subscribe(name)`. It survives lost lines and lost sessions.
 *
 * `for await (const message of subscription)` gives the messages from then on, until the subscription ends or the client
 * is closed. Each loop has a buffer of `bufferSize` messages; a loop that falls further behind ends with an error
 * (`buffer_full`), never by skipping messages.
 */
export class Subscription extends Emitter<SubscriptionEvents> {
  private constructor();
  readonly name: string;
  get state(): "subscribing" | "subscribed" | "unsubscribed";
  /** The position of the last message that you were given: hand it to `subscribe` as `since`, to go on after it. */
  get position(): Position | null;
  /** Resolves when the server has confirmed the subscription, rejects when it refuses. */
  ready(): Promise<SubscribedEvent>;
  /** Resolves when the server has confirmed. Messages are delivered until then. */
  unsubscribe(): Promise<void>;
  /** Sends a message to the service, with the extra fields that it asks for; resolves with the data of its reply. */
  message(data: any, fields?: Record<string, any>): Promise<any>;
  [Symbol.asyncIterator](): AsyncGenerator<Message, void, void>;
}

/**
 * A connection to a Holdfast gateway that holds.
 *
 *     const client = new Holdfast("https://example.com/socket");
 *     const calls = client.subscribe("calls.call_1");
 *     calls.on("message", ({ data }) => show(data));
 */
export class Holdfast extends Emitter<ClientEvents> {
  /** @param url http(s), ws(s), or a path on the page's own host (default "/socket") */
  constructor(url?: string, options?: Options);
  get state(): State;
  /** Connects; while it waits for the next attempt: tries at once. */
  connect(): this;
  /** Tries a WebSocket now, also where it is known that they do not get through. Events flow on meanwhile. */
  probe(): void;
  /** Tries each transport once, beside the running line, and says in words what stands in between. */
  diagnose(): Promise<Diagnosis>;
  /** Ends the session. What waits for a reply fails. Subscriptions stay, `connect` takes them up again where they were. */
  close(): void;
  /**
   * The subscription of this name; the same as before, while it lasts.
   * @param name "service.topic"
   * @param options `since`: go on after this position. Others: extra fields
   */
  subscribe(name: string, options?: { since?: Position; [field: string]: any }): Subscription;
  /** Sends a message to a subscription's service, with the extra fields that it asks for; resolves with the data of its reply. */
  message(name: string, data: any, fields?: Record<string, any>): Promise<any>;
  stats(): Stats;
}

export default Holdfast;

/** Loads the transports over HTTP, which otherwise come while the first line opens. */
export declare function loadFallback(): Promise<void>;
