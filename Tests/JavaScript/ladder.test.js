// Seeded histories of the transport ladder: proxies that change their minds, servers that go and come, reloads, tabs with
// one memory. In none of them
//   - are more than two WebSockets of no use tried in 15 minutes while the fallback works,
//   - is a client without news for longer than a bound while some transport works,
//   - does a probe touch the fallback that carries the session,
//   - is an event lost, doubled or out of order, up or down the ladder;
// and in the end, when all is well, every tab is on a WebSocket.
//
// HOLDFAST_SEED chooses the first seed, HOLDFAST_LADDER_RUNS how many.

import assert from "node:assert/strict";
import { test } from "node:test";
import { simulate } from "./ladder.js";

const first = Number(process.env.HOLDFAST_SEED ?? 1);
const runs = Number(process.env.HOLDFAST_LADDER_RUNS ?? 30);

/** @returns what has happened in all of them */
function histories(from, count, options) {
  const sum = {};
  for (let seed = from; seed < from + count; seed++) {
    let seen;
    try {
      seen = simulate(seed, options);
    } catch (error) {
      throw new Error(`seed ${seed}: ${error.message}`, { cause: error });
    }
    for (const [name, value] of Object.entries(seen)) sum[name] = (sum[name] ?? 0) + value;
  }
  return sum;
}

test(`${runs} histories of the ladder from seed ${first}`, () => {
  const sum = histories(first, runs);
  // They must be worth something: each of these has to happen often.
  for (const [name, value] of Object.entries(sum)) assert.ok(value >= runs / 3, `${name}: only ${value} in ${runs} histories`);
});

/** The machine, but what goes in or comes out is tampered with. */
const tampered = ({ input = (given) => given, action = (got) => got }) => (machine) => ({
  handle: (given, now) => machine.handle(input(given), now).flatMap((got) => action(got) ?? []),
  stats: () => machine.stats(),
  get state() {
    return machine.state;
  },
});

// Each of these mistakes must be found soon.
const canaries = {
  "remembers nothing": { action: (got) => (got.type === "remember" ? null : got) },
  "reads no memory": { input: (given) => (given.type === "memory" ? { type: "nothing" } : given) },
  "listens from where it was an event ago": { action: (got) => (got.type === "listen" ? { ...got, received: Math.max(0, got.received - 1) } : got) },
  "numbers its events one too low": { action: (got) => (got.seq > 1 ? { ...got, seq: got.seq - 1 } : got) },
  "numbers its events one too high": { action: (got) => (got.seq ? { ...got, seq: got.seq + 1 } : got) },
  "does not listen again": { input: (given) => (given.type === "cut" ? { type: "nothing" } : given) },
  "says hello where it should probe": {
    action: (got) => (got.text === '{"event":"probe"}' ? { ...got, text: '{"event":"hello","version":1}' } : got),
  },
  "does not notice another network": { input: (given) => (given.type === "changed" ? { type: "doubt" } : given) },
};
for (const [mistake, change] of Object.entries(canaries)) {
  test(`canary: a ladder that ${mistake} is found out`, () => {
    assert.throws(() => histories(1, 60, { wrap: tampered(change) }), /^Error: seed/, "the property test does not see it");
  });
}
