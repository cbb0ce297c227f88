/**
 * Hooks for React 18 and later: the stores of store.js, in components.
 *
 *     const { value: calls, gap } = useSubscription(client, "calls.live", { reduce, initial: [] });
 *     const { state } = useConnection(client);
 *
 * SPDX-License-Identifier: Apache-2.0
 */

import { useInsertionEffect, useRef, useState, useSyncExternalStore } from "react";
import { connectionStore, subscriptionStore } from "./store.js";

/** @typedef {import("./holdfast.js").Holdfast} Holdfast */
/** @typedef {import("./holdfast.js").Message} Message */
/** @typedef {import("./holdfast.js").GapEvent} GapEvent */

/**
 * What a subscription has told since this component is there. Components that use the same name share one subscription.
 * @template [Value=undefined]
 * @param {Holdfast|null|undefined} client made outside of components; absent: nothing is subscribed
 * @param {string|null|undefined} name "service.topic"; absent: nothing is subscribed. Another name begins anew
 * @param {import("./store.js").SubscriptionOptions<Value>} [options]
 * @returns {import("./store.js").SubscriptionValue<Value>}
 */
export function useSubscription(client, name, options = {}) {
  // The callbacks may be new ones each time. Those of a rendering that React throws away must not be called.
  const latest = useRef(options);
  useInsertionEffect(() => void (latest.current = options));
  const { reduce, onMessage, onGap, fields } = options;
  const key = JSON.stringify([name, fields]);
  const make = () => {
    /** @type {any} */
    const stable = { ...options };
    if (reduce) stable.reduce = (/** @type {Value} */ value, /** @type {Message} */ it) => (latest.current.reduce ?? reduce)(value, it);
    if (onMessage) stable.onMessage = (/** @type {Message} */ message) => latest.current.onMessage?.(message);
    if (onGap) stable.onGap = (/** @type {GapEvent} */ gap) => latest.current.onGap?.(gap);
    return { client, key, store: subscriptionStore(client, name, /** @type {typeof options} */ (stable)) };
  };
  // Not a memo: React may forget those, and with it what was made of the messages so far.
  const [held, hold] = useState(make);
  let current = held;
  if (held.client !== client || held.key !== key) hold((current = make()));
  const { subscribe, get } = current.store;
  return useSyncExternalStore(subscribe, get, get);
}

/**
 * How the connection is.
 * @param {Holdfast|null|undefined} client
 * @returns {import("./store.js").ConnectionValue}
 */
export function useConnection(client) {
  const { subscribe, get } = connectionStore(client);
  return useSyncExternalStore(subscribe, get, connectionStore(null).get);
}
