// When the drop-in class tries, waits and stops, in virtual time: what takes seconds, and what must never happen.

import assert from "node:assert/strict";
import { test } from "node:test";
import { ReconnectingWebSocket } from "../../clients/js/reconnecting-websocket.js";
import { FakeSocket, virtual, virtualOpen } from "./reconnecting-websocket-world.js";

const DAY = 86_400_000;

/** Lets attempts fail, and says how long each was waited for. */
async function waits(world, count) {
  const waited = [];
  for (let i = 0; i < count; i++) {
    FakeSocket.last.fail();
    waited.push(await world.untilNext());
  }
  return waited;
}

// ── The delays of the original ──────────────────────────────────────────────────────────────────────────────────────

test("the first attempt is made at once, further ones wait longer and longer, up to the limit", async (t) => {
  const world = virtual(t, { minReconnectionDelay: 100, maxReconnectionDelay: 1_000, reconnectionDelayGrowFactor: 2 });
  const { rws } = world;
  assert.equal(rws._getNextDelay(), 0);
  assert.equal(await world.untilNext(), 1);
  const delays = [];
  rws.onerror = () => delays.push(rws._getNextDelay());
  assert.deepEqual(await waits(world, 6), [100, 200, 400, 800, 1_000, 1_000]);
  assert.deepEqual(delays, [100, 200, 400, 800, 1_000, 1_000]);
});

test("the defaults: 1 to 5 s, then 1.3 times as long each time, up to 10 s", async (t) => {
  for (const [drawn, first] of [[0, 1_000], [0.5, 3_000], [0.999, 4_996]]) {
    const world = virtual(t, { minReconnectionDelay: undefined, random: () => drawn });
    await world.untilNext();
    const expected = Array.from({ length: 12 }, (_, n) => Math.round(Math.min(10_000, first * 1.3 ** n)));
    assert.deepEqual(await waits(world, 12), expected);
    world.rws.close();
    t.mock.restoreAll();
  }
});

test("minUptime: the retries begin anew after a connection that was stable", async (t) => {
  const options = { minReconnectionDelay: 100, maxReconnectionDelay: 2_000, reconnectionDelayGrowFactor: 2, minUptime: 500 };
  const world = virtual(t, options);
  const { rws } = world;
  const told = [];
  rws.onclose = () => told.push([rws._getNextDelay(), rws._retryCount]);
  for (const uptime of [100, 200, 300, 400, 500, 600, 100]) {
    await world.untilNext();
    FakeSocket.last.open();
    await world.pass(uptime);
    FakeSocket.last.end(1000);
  }
  assert.deepEqual(told, [[100, 1], [200, 2], [400, 3], [800, 4], [100, 1], [100, 1], [200, 2]]);
});

test("minUptime is 5 s unless told", async (t) => {
  const { rws, pass } = await virtualOpen(t);
  rws._retryCount = 7;
  await pass(4_999);
  assert.equal(rws.retryCount, 7);
  await pass(1);
  assert.equal(rws.retryCount, 0);
});

for (const count of [0, 1, 5]) {
  test(`maxRetries: ${count}`, async (t) => {
    const world = virtual(t, { maxRetries: count });
    await world.untilNext();
    await waits(world, count);
    FakeSocket.last.fail();
    assert.equal(world.rws.retryCount, count);
    await world.pass(DAY);
    assert.equal(FakeSocket.all.length, count + 1);
    assert.equal(world.timers.size, 0);
    assert.deepEqual(world.types(), Array(count + 1).fill(["close", "error"]).flat());
  });
}

test("reconnect() begins anew after maxRetries", async (t) => {
  const world = virtual(t, { maxRetries: 1 });
  await world.untilNext();
  await waits(world, 1);
  FakeSocket.last.fail();
  await world.pass(DAY);
  world.rws.reconnect();
  await world.untilNext();
  assert.deepEqual(await waits(world, 1), [1_000]);
});

test("connectionTimeout is 4 s unless told, and ends with the connection", async (t) => {
  const { rws, pass, take } = virtual(t);
  await pass(10);
  const [first] = FakeSocket.all;
  await pass(3_985);
  assert.deepEqual(take(), []);
  await pass(10);
  assert.deepEqual(take().map(({ type, message, reason }) => message ?? [type, reason]), [["close", "timeout"], "TIMEOUT"]);
  assert.deepEqual(first.closedWith, [[1000, "timeout"]]);
  await pass(1_010);
  FakeSocket.last.open();
  await pass(DAY);
  assert.deepEqual(take().map(({ type }) => type), ["open"]);
  assert.equal(rws.readyState, 1);
});

test("Infinity, where it is a time, is never", async (t) => {
  const { rws, pass } = virtual(t, { connectionTimeout: Infinity, minUptime: Infinity });
  await pass(20 * DAY);
  assert.equal(FakeSocket.all.length, 1);
  FakeSocket.last.open();
  rws._retryCount = 3;
  await pass(20 * DAY);
  assert.equal(rws.retryCount, 3);
});

// ── What close() and reconnect() end ────────────────────────────────────────────────────────────────────────────────

test("close() before there is a socket: nothing is opened, and nothing is told", async (t) => {
  const { rws, pass, types, timers } = virtual(t);
  rws.close();
  assert.equal(rws.readyState, 3);
  await pass(DAY);
  assert.deepEqual([FakeSocket.all.length, types(), timers.size], [0, [], 0]);
});

test("close() while it connects closes the socket, and is told once", async (t) => {
  const { rws, pass, types, timers } = virtual(t);
  await pass(10);
  rws.close(4000, "never mind");
  assert.deepEqual(FakeSocket.last.closedWith, [[4000, "never mind"]]);
  FakeSocket.last.end();
  await pass(DAY);
  assert.deepEqual([FakeSocket.all.length, types(), timers.size], [1, ["close"], 0]);
});

test("close() while it waits ends that, and reconnect() begins anew", async (t) => {
  const { rws, pass, timers } = await virtualOpen(t);
  FakeSocket.last.end();
  await pass(500);
  rws.close();
  assert.equal(timers.size, 0);
  await pass(DAY);
  assert.equal(FakeSocket.all.length, 1);
  rws.reconnect();
  assert.equal(rws.retryCount, 0);
  await pass(10);
  assert.equal(FakeSocket.all.length, 2);
});

test("close() while a provider is asked: its answer is for nobody", async (t) => {
  const answers = [];
  const { rws, pass } = virtual(t, {}, () => new Promise((resolve, reject) => answers.push({ resolve, reject })));
  await pass(10);
  rws.close();
  rws.reconnect();
  await pass(10);
  assert.equal(answers.length, 2);
  answers[0].resolve("ws://old/");
  await pass(10);
  assert.equal(FakeSocket.all.length, 0);
  answers[1].resolve("ws://new/");
  await pass(10);
  assert.deepEqual(FakeSocket.all.map(({ url }) => url), ["ws://new/"]);
});

test("close() while a provider is asked: its failure is for nobody", async (t) => {
  let fail;
  const { rws, pass, types, timers } = virtual(t, {}, () => new Promise((_, reject) => (fail = reject)));
  await pass(10);
  rws.close();
  fail(new Error("late"));
  await pass(DAY);
  assert.deepEqual([types(), timers.size], [[], 0]);
});

test("reconnect() while a provider is asked waits for its answer", async (t) => {
  let asked = 0;
  let answer;
  const { rws, pass } = virtual(t, {}, () => new Promise((resolve) => (asked++, (answer = resolve))));
  await pass(10);
  rws.reconnect();
  await pass(10);
  assert.equal(asked, 1);
  answer("ws://one/");
  await pass(10);
  assert.equal(FakeSocket.all.length, 1);
});

test("after close() the server's close is told, and nothing follows", async (t) => {
  const { rws, socket, pass, types, timers } = await virtualOpen(t);
  rws.close();
  assert.deepEqual(types(), [], "as of a WebSocket: not before the server has agreed");
  socket.say("a last word");
  socket.end(1000);
  await pass(DAY);
  assert.deepEqual([types(), FakeSocket.all.length, timers.size], [["message", "close"], 1, 0]);
});

test("reconnect() while it waits tries now; an app that calls it at each failure does so once a second", async (t) => {
  const world = virtual(t, { minReconnectionDelay: 8_000, maxReconnectionDelay: 8_000 });
  await world.untilNext();
  const { rws } = world;
  FakeSocket.last.fail();
  rws.reconnect();
  assert.equal(rws.retryCount, 0);
  assert.equal(await world.untilNext(), 1);
  rws.onclose = () => rws.reconnect();
  const waited = await waits(world, 5);
  assert.ok(waited.every((ms) => ms >= 998 && ms <= 1_001), String(waited));
  assert.deepEqual(world.types(), Array(6).fill(["close", "error"]).flat(), "each socket's close is told once");
});

test("the app is told after the next attempt is planned: it sees the count, and may end it", async (t) => {
  const { rws, socket, pass } = await virtualOpen(t);
  rws.onclose = () => {
    assert.equal(rws.retryCount, 1);
    rws.close();
  };
  socket.end(4001);
  await pass(DAY);
  assert.equal(FakeSocket.all.length, 1);
});

// ── Options ─────────────────────────────────────────────────────────────────────────────────────────────────────────

test("a wrong option is refused, with its name, what it must be, and what it is", () => {
  const refused = (options, pattern) =>
    assert.throws(() => new ReconnectingWebSocket("ws://x/", [], { WebSocket: FakeSocket, startClosed: true, ...options }), (error) => {
      assert.ok(error instanceof TypeError);
      assert.match(error.message, pattern);
      return true;
    });
  const numbers = [
    "maxReconnectionDelay", "minReconnectionDelay", "reconnectionDelayGrowFactor", "minUptime", "connectionTimeout", "maxRetries",
    "maxEnqueuedMessages",
  ];
  for (const name of numbers) {
    refused({ [name]: "5" }, new RegExp(`^ReconnectingWebSocket: ${name} must be a number from 0, not string 5$`));
    refused({ [name]: -1 }, /not number -1/);
    refused({ [name]: NaN }, /not number NaN/);
    refused({ [name]: null }, /not object null/);
  }
  refused({ debugLogger: console }, /debugLogger must be a function, not object/);
  refused({ random: 0.5 }, /random must be a function, not number 0.5/);
  refused({ heartbeat: 5 }, /heartbeat must be true, false or an object, not number 5/);
  refused({ heartbeat: null }, /heartbeat must be .* not object null/);
  refused({ heartbeat: { interval: "5s" } }, /heartbeat.interval must be a number from 0, not string 5s/);
  refused({ heartbeat: { timeout: -5 } }, /heartbeat.timeout must be .* not number -5/);
  refused({ heartbeat: { ping: 5 } }, /heartbeat.ping must be a message or a function, not number 5/);
  refused({ heartbeat: { isPong: /pong/ } }, /heartbeat.isPong must be a function, not object \/pong\//);
});

test("options that are undefined, zero, infinite, or not ours are taken", () => {
  const taken = { maxRetries: undefined, heartbeat: undefined, connectionTimeout: Infinity, minUptime: 0, other: "fork" };
  const options = { WebSocket: FakeSocket, startClosed: true, ...taken };
  new ReconnectingWebSocket("ws://x/", [], options);
  new ReconnectingWebSocket("ws://x/", [], { ...options, heartbeat: false });
  new ReconnectingWebSocket("ws://x/", [], { ...options, heartbeat: { ping: new Uint8Array(1), interval: undefined } });
});
