// Thousands of seeded histories: cuts, delays, half-open lines, lost sessions, sleep, all at random.
// Every event comes exactly once and in order, or a gap says what is missing; and the client is back once the network is good.
//
// HOLDFAST_SEED chooses the first seed, HOLDFAST_RUNS how many.

import assert from "node:assert/strict";
import { test } from "node:test";
import { simulate } from "./simulation.js";

const first = Number(process.env.HOLDFAST_SEED ?? 1);
const runs = Number(process.env.HOLDFAST_RUNS ?? 2_000);

test(`${runs} histories from seed ${first}`, () => {
  const sum = {};
  for (let seed = first; seed < first + runs; seed++) {
    let seen;
    try {
      seen = simulate(seed);
    } catch (error) {
      throw new Error(`seed ${seed}: ${error.message}`, { cause: error });
    }
    for (const [name, value] of Object.entries(seen)) sum[name] = (sum[name] ?? 0) + value;
  }
  // The histories must be worth something: each of these has to happen often.
  for (const name of ["messages", "gaps", "recovered", "resumed", "sessions", "executed", "races", "replaced"]) {
    assert.ok(sum[name] >= runs / 20, `${name}: only ${sum[name]} in ${runs} histories`);
  }
});

/** The machine, but its frames are tampered with. */
const tampered = (change) => (machine) => ({
  handle: (input, now) => machine.handle(input, now).flatMap((action) => {
    if (action.type !== "send") return change.action?.(action) ?? [action];
    const event = JSON.parse(action.text);
    change.event?.(event);
    return [{ ...action, text: JSON.stringify(event) }];
  }),
});

// A test that cannot fail proves nothing: each of these mistakes must be found within the first 200 histories.
const canaries = {
  "counts one event too many": tampered({ event: ({ resume }) => resume && resume.received++ }),
  "counts one event too few": tampered({ event: ({ resume }) => resume && (resume.received = Math.max(0, resume.received - 1)) }),
  "forgets the position": tampered({ event: (event) => delete event.since }),
  "asks from one too far": tampered({ event: ({ since }) => since && since.offset++ }),
  "swallows a gap": tampered({ action: ({ type }) => (type === "gap" ? [] : undefined) }),
  "delivers twice": tampered({ action: (action) => (action.type === "message" && action.event.data % 7 === 3 ? [action, action] : undefined) }),
  "never sets a timer": tampered({ action: ({ type }) => (type === "timer" ? [] : undefined) }),
  "never opens a second line": tampered({ action: ({ type, line }) => (type === "open" && line > 1 ? [] : undefined) }),
};
for (const [mistake, wrap] of Object.entries(canaries)) {
  test(`canary: a machine that ${mistake} is found out`, () => {
    for (let seed = 1; seed <= 200; seed++) {
      try {
        simulate(seed, { wrap });
      } catch {
        return;
      }
    }
    assert.fail("the property test does not see it");
  });
}
