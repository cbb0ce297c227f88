// How soon the client has another line when the one it has falls silent: on a visible page within 7 s, whatever the phase.

import assert from "node:assert/strict";
import { test } from "node:test";
import { ConnectionMachine } from "../../clients/js/holdfast.js";
import { Clock, Pipe, Server, generator } from "./world.js";

const SETTINGS = { history: 1_000, ttl: 60_000, outbox: 10_000, heartbeat: { interval: 4, hidden_interval: 25, timeout: 5 } };

/**
 * A client and a server, quiet or with traffic, until everything that is open is swallowed.
 * @returns {{suspectAfter: number, backAfter: number, deadAfter: number, events: string[]}} ms after the cut
 */
function cutOnce(seed, { reachable = true, doubt = false }) {
  const random = generator(seed);
  const pick = (from, to) => Math.floor(from + random() * (to - from));
  const clock = new Clock();
  const latency = pick(1, 60);
  const network = { cutUntil: 0, latency: () => latency + pick(0, 3) };
  const server = new Server(clock, random, SETTINGS);
  const machine = new ConnectionMachine({ random });
  const links = new Map();
  const out = { events: [] };
  const cutAt = pick(15_000, 40_000);
  let timer = 0;
  const input = (value) => machine.handle(value, clock.now).forEach((action) => effects[action.type]?.(action));
  const note = (name) => (clock.now >= cutAt ? (out[name] ??= clock.now - cutAt) : undefined);
  const effects = {
    timer: ({ at }) => {
      const generation = ++timer;
      if (at !== null) clock.at(at, () => generation === timer && input({ type: "timer" }));
    },
    open: ({ line }) => {
      note("suspectAfter");
      const link = { up: new Pipe(clock, network), down: new Pipe(clock, network), session: null };
      link.received = (text) => input({ type: "receive", line, text });
      link.closed = (code) => input({ type: "closed", line, code });
      links.set(line, link);
      if (clock.now < cutAt || reachable) link.down.send(() => input({ type: "opened", line }));
    },
    send: ({ line, text }) => links.get(line).up.send(() => server.receive(links.get(line), text)),
    close: ({ line }) => links.get(line).up.send(() => server.gone(links.get(line))),
    connected: () => note("backAfter"),
    state: ({ state, reason }) => {
      if (reason === "dead") note("deadAfter");
      if (clock.now > cutAt) out.events.push(state);
    },
    message: ({ event }) => out.events.push(event.data),
  };
  input({ type: "connect" });
  input({ type: "subscribe", id: "s", subscription: "calls.a" });
  const every = pick(50, 20_000);
  for (let at = every; at < 70_000; at += every) clock.at(at, () => server.publish("calls.a"));
  if (random() < 0.5) for (let at = 1_000; at < 70_000; at += pick(100, 9_000)) clock.at(at, () => input({ type: "message", id: `m${at}`, subscription: "calls.a", data: at }));
  clock.at(cutAt, () => {
    for (const link of links.values()) {
      link.up.cut(Infinity);
      link.down.cut(Infinity);
    }
  });
  if (doubt) clock.at(cutAt + 10, () => input({ type: "doubt" }));
  clock.run(70_000);
  return out;
}

test("suspect within 6 s, another line within 7 s, and the app sees no interruption", () => {
  let worst = 0;
  for (let seed = 1; seed <= 500; seed++) {
    const { suspectAfter, backAfter, events } = cutOnce(seed, {});
    assert.ok(suspectAfter <= 6_000, `seed ${seed}: suspect after ${suspectAfter} ms`);
    assert.ok(backAfter <= 7_000, `seed ${seed}: back after ${backAfter} ms`);
    const messages = events.filter((event) => typeof event === "number");
    assert.deepEqual(messages, messages.map((_, i) => i), `seed ${seed}`);
    assert.deepEqual(events.filter((event) => typeof event === "string"), [], `seed ${seed}`);
    worst = Math.max(worst, backAfter);
  }
  assert.ok(worst > 4_000, "the cuts come at all phases");
});

test("in doubt, another line within 2 s", () => {
  for (let seed = 1; seed <= 500; seed++) {
    const { backAfter } = cutOnce(seed, { doubt: true });
    assert.ok(backAfter <= 2_000, `seed ${seed}: back after ${backAfter} ms`);
  }
});

test("where no other line can be had, the silent one is dead within 11 s", () => {
  for (let seed = 1; seed <= 500; seed++) {
    const { suspectAfter, deadAfter, events } = cutOnce(seed, { reachable: false });
    assert.ok(suspectAfter <= 6_000, `seed ${seed}: suspect after ${suspectAfter} ms`);
    assert.ok(deadAfter <= 11_000 && deadAfter >= 5_000, `seed ${seed}: dead after ${deadAfter} ms`);
    assert.ok(events.includes("reconnecting"));
  }
});
