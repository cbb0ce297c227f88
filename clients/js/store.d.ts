// Types of store.js. Tests/JavaScript/store.test.js keeps the two in step.
// SPDX-License-Identifier: Apache-2.0

import type { GapEvent, Holdfast, HoldfastError, Message, Position, State, Subscription, Transport } from "./holdfast.js";

/** The contract of Svelte's stores, and `get` for the others. */
export interface Store<Value> {
  /** `run` is called at once, and with each new value. Gives what ends it. */
  subscribe(run: (value: Value) => unknown): () => void;
  /** The value now. It is replaced, never changed in place. */
  get(): Value;
}

export type SubscriptionOptions<Value> = {
  /** So many of the last messages are in `messages` (default 0). */
  keep?: number;
  /** Gets every message, once and in order, also when many come before the next rendering. */
  onMessage?: (message: Message) => unknown;
  onGap?: (gap: GapEvent) => unknown;
  /** Go on after this position. Counts for who subscribes first. */
  since?: Position;
  /** Extra fields that the service asks for; the same for all who share a subscription. */
  fields?: Record<string, any>;
} & (
  | {
      /** Makes the next value of the last one and a message. `message.gap` says what is missing before it. */
      reduce: (value: Value, message: Message) => Value;
      /** The value before the first message. */
      initial: Value;
    }
  | { reduce?: undefined; initial?: undefined }
);

export interface SubscriptionValue<Value> {
  /** `idle`: there is no name. `unsubscribed`: it was refused, or it is over; see `error`. */
  readonly state: "idle" | "subscribing" | "subscribed" | "unsubscribed";
  /** What `reduce` has made of the messages. */
  readonly value: Value;
  /** The last message. With `onMessage` alone it stays null, so that messages by themselves render nothing. */
  readonly message: Message | null;
  /** The last messages, at most `keep`. */
  readonly messages: readonly Message[];
  /** The last gap, until `reset`. Each is an object of its own. */
  readonly gap: GapEvent | null;
  /** Of the last message; with `onMessage` alone see `subscription.position`. */
  readonly position: Position | null;
  /** Why it was refused or ended; null: it was not, or by the app. */
  readonly error: HoldfastError | null;
  /** The client's own object. */
  readonly subscription: Subscription | null;
  /** Begins anew with this value (default `initial`), or with what a function makes of the present one; without messages and gap. */
  readonly reset: (value?: Value | ((value: Value) => Value)) => void;
}

export interface ConnectionValue {
  readonly state: State;
  /** Why it is in this state; null: it has been since before anybody asked. */
  readonly reason: string | null;
  readonly transport: Transport | null;
  /** ms from the moment at which the state was told. */
  readonly nextAttemptInMs: number | null;
}

/**
 * What a subscription has told so far. It begins with the first who watches and ends after the last one. A store that is
 * watched again goes on where it stopped: what came in between is recovered, or told as a gap.
 * @param client absent: nothing is subscribed
 * @param name "service.topic"; absent: nothing is subscribed
 */
export function subscriptionStore<Value = undefined>(
  client: Holdfast | null | undefined,
  name: string | null | undefined,
  options?: SubscriptionOptions<Value>,
): Store<SubscriptionValue<Value>>;

/** How the connection is; the same store for the same client. */
export function connectionStore(client: Holdfast | null | undefined): Store<ConnectionValue>;
