/**
 * The SharedWorker that has the line of many tabs. It gets all that it has to know from the tab that starts it.
 *
 * SPDX-License-Identifier: Apache-2.0
 */

import { serve } from "./tabs.js";

globalThis.addEventListener("connect", (event) => serve(/** @type {MessageEvent} */ (event).ports[0]));
