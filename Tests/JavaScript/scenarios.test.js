// Every scenario of Tests/Scenarios runs against the machine of holdfast.js. The Swift machine runs the same files.

import assert from "node:assert/strict";
import fs from "node:fs";
import { test } from "node:test";
import { ConnectionMachine } from "../../clients/js/holdfast.js";

const folder = new URL("../Scenarios/", import.meta.url);
const files = fs.readdirSync(folder).filter((name) => name.endsWith(".json")).sort();

// A gate that can be skipped silently is no gate: whoever adds a scenario raises these.
const SCENARIOS = 126;
const STEPS = 1197;

const INPUTS = ["connect", "close", "subscribe", "unsubscribe", "message", "opened", "receive", "heard", "cut", "closed", "timer", "hidden", "shown", "offline", "online", "doubt", "changed", "probe", "memory"];
const ACTIONS = ["open", "send", "listen", "close", "timer", "state", "connected", "subscribed", "unsubscribed", "message", "gap", "reply", "rtt", "goaway", "remember", "error"];

function load(name) {
  const scenario = JSON.parse(fs.readFileSync(new URL(`${name}.json`, folder), "utf8"));
  const known = ["name", "why", "after", "random", "options", "steps"];
  assert.deepEqual(Object.keys(scenario).filter((key) => !known.includes(key)), [], `${name}: unknown keys`);
  return scenario;
}

/** `{"$repeat": "x", "times": 3}` stands for "xxx". */
function expand(value) {
  if (Array.isArray(value)) return value.map(expand);
  if (typeof value !== "object" || value === null) return value;
  if ("$repeat" in value) return value.$repeat.repeat(value.times);
  return Object.fromEntries(Object.entries(value).map(([key, item]) => [key, expand(item)]));
}

function randomness(random, name) {
  if (typeof random === "number") return { next: () => random, check() {} };
  const rest = [...(random ?? [])];
  return {
    next() {
      assert.ok(rest.length, `${name}: more random numbers asked than given`);
      return rest.shift();
    },
    check: () => assert.deepEqual(rest, [], `${name}: random numbers left`),
  };
}

function run(name) {
  const { random, ...own } = load(name);
  const chain = [{ ...own, name }];
  while (chain[0].after) chain.unshift({ ...load(chain[0].after), name: chain[0].after });
  const { next, check } = randomness(random, name);
  const options = chain.reduce((all, scenario) => ({ ...all, ...scenario.options }), {});
  const machine = new ConnectionMachine({ random: next, client: { name: "test", version: "1" }, transports: ["websocket"], ...options });
  let armed = null;
  let now = 0;
  for (const { name: part, steps } of chain) {
    for (const { at, late = false, times = 1, input, actions } of steps) {
      const where = `${name}: step at ${at} of ${part}`;
      assert.ok(at >= now, `${where}: time goes back`);
      assert.ok(INPUTS.includes(input.type), `${where}: unknown input ${input.type}`);
      now = at;
      if (input.type === "timer") {
        assert.ok(armed !== null && (late ? at > armed : at === armed), `${where}: the timer is set to ${armed}`);
        armed = null;
      } else assert.ok(armed === null || at <= armed, `${where}: the timer was due at ${armed}`);
      const { event, ...given } = expand(input);
      if (input.type === "receive" && event !== undefined) given.text = JSON.stringify(event);
      for (let i = 0; i < times; i++) {
        const got = machine.handle(given, at).map(({ text, ...action }) => (text === undefined ? action : { ...action, event: JSON.parse(text) }));
        assert.deepEqual(JSON.parse(JSON.stringify(got)), expand(actions), where);
        for (const action of got) {
          assert.ok(ACTIONS.includes(action.type), `${where}: unknown action ${action.type}`);
          if (action.type === "timer") armed = action.at;
        }
      }
    }
  }
  check();
  return { own: own.steps.length, seen: chain.flatMap(({ steps }) => steps) };
}

const inputs = new Set();
const actions = new Set();
let steps = 0;
for (const file of files) {
  const name = file.slice(0, -5);
  test(`scenario ${name}`, () => {
    const { own, seen } = run(name);
    assert.ok(own > 0, "a scenario without steps");
    steps += own;
    for (const step of seen) {
      inputs.add(step.input.type);
      for (const action of step.actions) actions.add(action.type);
    }
  });
}

test("all scenarios have run, and use the whole vocabulary", () => {
  assert.equal(files.length, SCENARIOS);
  assert.equal(steps, STEPS);
  assert.deepEqual([...inputs].sort(), [...INPUTS].sort());
  assert.deepEqual([...actions].sort(), [...ACTIONS].sort());
});
