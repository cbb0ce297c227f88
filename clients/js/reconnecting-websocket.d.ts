// Types of reconnecting-websocket.js. Tests/JavaScript/reconnecting-websocket-types.test.js keeps the two in step.
// SPDX-License-Identifier: Apache-2.0

/** Called for each attempt. */
export type UrlProvider = string | (() => string) | (() => Promise<string>);
export type Protocols = string | string[] | null | undefined;
/** Called for each attempt. */
export type ProtocolsProvider = Protocols | (() => Protocols) | (() => Promise<Protocols>);
export type Message = string | ArrayBuffer | Blob | ArrayBufferView;

/** `open` and `message`, and `close` and `error` of the server, come from the WebSocket as they are; these are made by the class. */
export class Event {
  constructor(type: string, target: any);
  type: string;
  target: any;
}

export class ErrorEvent extends Event {
  constructor(error: Error, target: any);
  /** "TIMEOUT" after `connectionTimeout`. Those of browsers have none. */
  message: string;
  error: Error;
}

export class CloseEvent extends Event {
  constructor(code: number, reason: string, target: any, wasClean?: boolean);
  code: number;
  /** "heartbeat timeout", with the code 1006, of a line that was dead. */
  reason: string;
  wasClean: boolean;
}

export type EventMap = {
  open: Event;
  message: MessageEvent;
  close: CloseEvent;
  error: ErrorEvent;
};

export type Listener<T extends keyof EventMap> = ((event: EventMap[T]) => void) | { handleEvent(event: EventMap[T]): void };

export type HeartbeatOptions = {
  /** ms without a word until a ping is sent (default 15,000). */
  interval?: number;
  /** ms without a word after it until the line is dead (default 5,000). */
  timeout?: number;
  /** What is sent (default "ping"). The server has to answer something. */
  ping?: Message | (() => Message);
  /** Whether this message is an answer, and nothing for the app. */
  isPong?: (event: MessageEvent) => boolean;
};

export type Options = {
  /** The class (default: the global one), for example that of the package ws. */
  WebSocket?: any;
  /** ms (default 10,000). */
  maxReconnectionDelay?: number;
  /** ms (default 1,000 + random · 4,000). */
  minReconnectionDelay?: number;
  /** Default 1.3. */
  reconnectionDelayGrowFactor?: number;
  /** ms until a connection counts as stable, and the retries begin anew (default 5,000). */
  minUptime?: number;
  /** ms for a connection to open (default 4,000). */
  connectionTimeout?: number;
  /** Default Infinity. */
  maxRetries?: number;
  /** Messages that wait for a connection; further ones are dropped (default Infinity). */
  maxEnqueuedMessages?: number;
  /** Wait for `reconnect()` (default false). */
  startClosed?: boolean;
  /** Default false. */
  debug?: boolean;
  /** Default console.log. */
  debugLogger?: (...parameters: any[]) => void;
  /** Notice a line that only looks alive (default false). */
  heartbeat?: boolean | HeartbeatOptions;
  /** Wait a random part of the delay (default true). */
  jitter?: boolean;
  /** In [0, 1) (default Math.random). */
  random?: () => number;
};

/** A WebSocket that comes back, for any server. */
export class ReconnectingWebSocket {
  constructor(url: UrlProvider, protocols?: ProtocolsProvider, options?: Options);

  static get CONNECTING(): number;
  static get OPEN(): number;
  static get CLOSING(): number;
  static get CLOSED(): number;
  get CONNECTING(): number;
  get OPEN(): number;
  get CLOSING(): number;
  get CLOSED(): number;

  onopen: ((event: Event) => void) | null;
  onmessage: ((event: MessageEvent) => void) | null;
  onclose: ((event: CloseEvent) => void) | null;
  onerror: ((event: ErrorEvent) => void) | null;

  binaryType: BinaryType;
  /** With what waits for a connection; strings count by their length. */
  get bufferedAmount(): number;
  get extensions(): string;
  get protocol(): string;
  get url(): string;
  get readyState(): number;
  /** Attempts since the last stable connection, without the first one. */
  get retryCount(): number;
  /** False after `close()`, and before `reconnect()` with `startClosed`. */
  get shouldReconnect(): boolean;

  /** Sends it now, or when there is a connection. */
  send(data: Message): void;
  /** For good, or until `reconnect()`. As of a WebSocket: `close` is told when the server has agreed. */
  close(code?: number, reason?: string): void;
  /** Lets the connection go, if there is one, and makes a new one. The retries begin anew. */
  reconnect(code?: number, reason?: string): void;

  addEventListener<T extends keyof EventMap>(type: T, listener: Listener<T>): void;
  removeEventListener<T extends keyof EventMap>(type: T, listener: Listener<T>): void;
  /** Calls the listeners, though not `onopen` and the like. */
  dispatchEvent(event: { type: string }): boolean;
}

export default ReconnectingWebSocket;
