// Types of react.js. Tests/JavaScript/react.test.js keeps the two in step.
// SPDX-License-Identifier: Apache-2.0

import type { Holdfast } from "./holdfast.js";
import type { ConnectionValue, SubscriptionOptions, SubscriptionValue } from "./store.js";

export type { ConnectionValue, SubscriptionOptions, SubscriptionValue };

/**
 * What a subscription has told since this component is there. Components that use the same name share one subscription.
 * The callbacks may be new ones in each rendering; `initial`, `keep` and `since` count when it begins.
 * @param client made outside of components; absent: nothing is subscribed
 * @param name "service.topic"; absent: nothing is subscribed. Another name begins anew
 */
export function useSubscription<Value = undefined>(
  client: Holdfast | null | undefined,
  name: string | null | undefined,
  options?: SubscriptionOptions<Value>,
): SubscriptionValue<Value>;

/** How the connection is. */
export function useConnection(client: Holdfast | null | undefined): ConnectionValue;
