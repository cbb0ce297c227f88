// What the drop-in class does better than the well-known one: it notices dead lines, lets them go, spreads its attempts, and wakes up.

import assert from "node:assert/strict";
import { test } from "node:test";
import { CloseEvent, ReconnectingWebSocket } from "../../clients/js/reconnecting-websocket.js";
import { FakeSocket, connect, echo, next, page, proxy, until, virtual, virtualOpen } from "./reconnecting-websocket-world.js";

const DAY = 86_400_000;
const heartbeat = { interval: 1_000, timeout: 200 };

// ── Heartbeat ───────────────────────────────────────────────────────────────────────────────────────────────────────

test("without heartbeat a dead line is never noticed, and nothing is sent", async (t) => {
  const { rws, socket, pass, types } = await virtualOpen(t);
  await pass(20 * DAY);
  assert.deepEqual([types(), socket.sent, FakeSocket.all.length, rws.readyState], [[], [], 1, 1]);
});

test("heartbeat: true asks after 15 s of silence, and gives up 5 s later", async (t) => {
  const { rws, socket, pass, take } = await virtualOpen(t, { heartbeat: true });
  await pass(14_980);
  assert.deepEqual(socket.sent, []);
  await pass(20);
  assert.deepEqual(socket.sent, ["ping"]);
  await pass(4_970);
  assert.deepEqual(take(), []);
  await pass(40);
  const [closed, ...more] = take();
  assert.deepEqual(more, []);
  assert.ok(closed instanceof CloseEvent);
  assert.deepEqual([closed.code, closed.reason, closed.wasClean, closed.target], [1006, "heartbeat timeout", false, rws]);
  assert.equal(socket.closedWith.length, 1, "close() is called");
  assert.equal(FakeSocket.all.length, 2, "and there is another at once");
  assert.equal(rws.retryCount, 1);
});

test("anything heard is life", async (t) => {
  const { socket, pass, types } = await virtualOpen(t, { heartbeat });
  for (let i = 0; i < 20; i++) {
    await pass(900);
    socket.say("news");
  }
  assert.deepEqual(socket.sent, []);
  await pass(1_100);
  assert.deepEqual(socket.sent, ["ping"]);
  socket.say("news");
  await pass(1_100);
  assert.deepEqual(socket.sent, ["ping", "ping"]);
  socket.say("pong");
  assert.deepEqual(types(), Array(22).fill("message"), "without isPong the app gets everything");
  assert.equal(FakeSocket.all.length, 1);
});

test("isPong swallows what it knows, which is life all the same", async (t) => {
  const { socket, pass, take } = await virtualOpen(t, { heartbeat: { ...heartbeat, isPong: ({ data }) => data === "pong" } });
  for (let i = 0; i < 20; i++) {
    await pass(1_000);
    socket.say("pong");
  }
  assert.deepEqual(take(), []);
  socket.say("news");
  assert.deepEqual(take().map(({ data }) => data), ["news"]);
  assert.equal(FakeSocket.all.length, 1);
});

for (const [what, ping, expected] of [
  ["a string", "are you there?", ["are you there?", "are you there?"]],
  ["a buffer", new Uint8Array([1]), [new Uint8Array([1]), new Uint8Array([1])]],
  ["a function", (() => { let n = 0; return () => `ping ${++n}`; })(), ["ping 1", "ping 2"]],
]) {
  test(`the ping is ${what}`, async (t) => {
    const { socket, pass } = await virtualOpen(t, { heartbeat: { ...heartbeat, ping } });
    for (let i = 0; i < 2; i++) {
      await pass(1_000);
      socket.say("pong");
    }
    assert.deepEqual(socket.sent, expected);
  });
}

test("a ping that cannot be made is the app's error, and the line is judged all the same", async (t) => {
  const { pass, types } = await virtualOpen(t, { heartbeat: { ...heartbeat, ping: () => { throw new Error("no ping today"); } } });
  await assert.rejects(pass(1_010), /no ping today/);
  await pass(1_000);
  assert.deepEqual(types(), ["close"]);
});

test("the heartbeat ends with the connection, and begins with the next", async (t) => {
  const { socket, pass, untilNext } = await virtualOpen(t, { heartbeat, connectionTimeout: DAY });
  socket.end();
  await untilNext();
  await pass(10_000);
  assert.deepEqual(FakeSocket.last.sent, [], "not before it is open");
  FakeSocket.last.open();
  await pass(1_000);
  assert.deepEqual([socket.sent, FakeSocket.last.sent], [[], ["ping"]]);
});

test("a line that the app has closed is not asked, whatever it still says", async (t) => {
  const { rws, socket, pass, types, timers } = await virtualOpen(t, { heartbeat });
  rws.close();
  socket.say("a last word");
  await pass(DAY);
  assert.deepEqual([socket.sent, types(), timers.size], [[], ["message"], 0]);
});

test("a timer that comes too late has slept: the line is asked once more, and only once", async (t) => {
  const { socket, pass, sleep, types } = await virtualOpen(t, { heartbeat });
  await pass(1_100);
  sleep(3_600_000);
  await pass(10);
  assert.deepEqual(socket.sent, ["ping", "ping"]);
  assert.deepEqual(types(), [], "what it said meanwhile may still be unread");
  socket.say("pong");
  await pass(1_100);
  assert.equal(socket.sent.length, 3);
  for (const pings of [4, 4]) {
    sleep(60_000); // as in a hidden page, where every timer is late
    await pass(10);
    assert.equal(socket.sent.length, pings);
  }
  assert.deepEqual(types(), ["message", "close"]);
});

test("deaths count as retries", async (t) => {
  const { rws, pass, types } = await virtualOpen(t, { heartbeat, maxRetries: 2 });
  for (let i = 0; i < 3; i++) {
    await pass(1_250);
    if (FakeSocket.last.readyState === 0) FakeSocket.last.open();
  }
  assert.deepEqual(types().filter((type) => type === "close").length, 3);
  assert.deepEqual([FakeSocket.all.length, rws.retryCount], [3, 2]);
});

test("over a real line that forwards nothing in either direction, and stays open", async (t) => {
  const { port, connections } = await echo(t);
  const line = await proxy(t, port);
  // The timeout is generous for a busy machine: a false alarm would be another connection.
  const rws = connect(t, line.url, undefined, { heartbeat: { interval: 300, timeout: 1_000, isPong: ({ data }) => data === "ping" } });
  const told = [];
  rws.onmessage = ({ data }) => told.push(data);
  await next(rws, "open");
  await until(() => connections[0].heard.length >= 2, "two pings that are answered");
  assert.equal(line.lines.length, 1);
  line.freeze();
  const frozen = performance.now();
  const closed = await next(rws, "close");
  t.diagnostic(`noticed after ${Math.round(performance.now() - frozen)} ms`);
  assert.deepEqual([closed.code, closed.reason, closed.wasClean], [1006, "heartbeat timeout", false]);
  await next(rws, "open");
  t.diagnostic(`open again after ${Math.round(performance.now() - frozen)} ms`);
  assert.equal(connections[0].readyState, 1, "the server knows nothing of it");
  rws.send("hello");
  await until(() => told.length, "the echo");
  assert.deepEqual(told, ["hello"]);
  assert.deepEqual(line.lines.map(({ frozen }) => frozen), [true, false]);
});

// ── Letting go ──────────────────────────────────────────────────────────────────────────────────────────────────────

for (const [what, options, kill] of [
  ["reconnect()", {}, async ({ rws }) => rws.reconnect(4000, "moved")],
  ["its death", { heartbeat }, ({ pass }) => pass(1_250)],
]) {
  test(`after ${what} the old line's late events reach nobody`, async (t) => {
    const world = await virtualOpen(t, options);
    await kill(world);
    assert.deepEqual(world.types(), ["close"], "at once, and once");
    const old = world.socket;
    old.say("late");
    old.fail();
    await world.pass(10);
    assert.deepEqual(world.types(), []);
    assert.equal(FakeSocket.all.length, 2);
    FakeSocket.last.open();
    old.end();
    old.say("late");
    assert.deepEqual(world.types(), ["open"]);
    assert.equal(world.rws.readyState, 1);
    assert.deepEqual([old.onopen, old.onmessage, old.onclose], [null, null, null]);
  });
}

test("after a timeout the old attempt's late opening reaches nobody", async (t) => {
  const { pass, types } = virtual(t);
  await pass(4_010);
  assert.deepEqual(types(), ["close", "error"]);
  const [old] = FakeSocket.all;
  old.open();
  old.say("late");
  old.end();
  assert.deepEqual(types(), []);
});

test("reconnect() with a code that is not allowed closes the old line all the same", async (t) => {
  const { rws, socket, types, pass } = await virtualOpen(t);
  rws.reconnect(1001, "no");
  assert.deepEqual(socket.closedWith, [[undefined, undefined]]);
  await pass(10);
  assert.deepEqual([types(), FakeSocket.all.length], [["close"], 2]);
});

test("what is sent behind a line that was let go waits for the next one", async (t) => {
  const { rws, socket, pass } = await virtualOpen(t);
  rws.reconnect();
  rws.send("kept");
  await pass(10);
  FakeSocket.last.open();
  assert.deepEqual([socket.sent, FakeSocket.last.sent], [[], ["kept"]]);
});

// ── Jitter ──────────────────────────────────────────────────────────────────────────────────────────────────────────

test("jitter: a random part of the delay, unless told otherwise; _getNextDelay() is the whole", async (t) => {
  for (const [drawn, expected] of [[0, 1], [0.25, 250], [0.999, 999]]) {
    const world = virtual(t, { jitter: undefined, random: () => drawn });
    await world.untilNext();
    FakeSocket.last.fail();
    assert.equal(world.rws._getNextDelay(), 1_000);
    assert.equal(await world.untilNext(), expected);
    world.rws.close();
    t.mock.restoreAll();
  }
});

test("1,000 clients that lose their server together come back apart", async (t) => {
  const { pass } = virtual(t, { startClosed: true });
  let seed = 1;
  const random = () => (seed = (seed * 16_807) % 2_147_483_647) / 2_147_483_647;
  const options = { WebSocket: FakeSocket, minReconnectionDelay: 1_000, random };
  const all = Array.from({ length: 1_000 }, () => new ReconnectingWebSocket("ws://x/", [], options));
  await pass(10);
  for (const socket of FakeSocket.all.splice(0)) socket.fail();
  const peaks = [];
  for (let i = 0; i < 10; i++) {
    await pass(100);
    peaks.push(FakeSocket.all.splice(0).length);
  }
  t.diagnostic(`attempts per 100 ms: ${peaks.join(" ")}`);
  assert.ok(Math.max(...peaks) < 150, String(peaks));
  all.forEach((rws) => rws.close());
});

// ── The page ────────────────────────────────────────────────────────────────────────────────────────────────────────

const slow = { minReconnectionDelay: 60_000, maxReconnectionDelay: 60_000 };

for (const [what, type, more] of [
  ["the network is back", "online"], ["the page is shown", "visibilitychange"], ["the page comes from the cache", "pageshow", { persisted: true }],
]) {
  test(`${what}: it tries now`, async (t) => {
    const { happen } = page(t);
    const { socket, pass } = await virtualOpen(t, slow);
    socket.end();
    await pass(10_000);
    assert.equal(FakeSocket.all.length, 1);
    happen(type, more);
    await pass(10);
    assert.equal(FakeSocket.all.length, 2);
  });

  test(`${what}: it asks at once, and judges by the timeout`, async (t) => {
    const { happen } = page(t);
    const { socket, pass, types } = await virtualOpen(t, { heartbeat });
    await pass(500);
    happen(type, more);
    assert.deepEqual(socket.sent, ["ping"]);
    happen(type, more);
    assert.deepEqual(socket.sent, ["ping"], "one question at a time");
    socket.say("pong");
    await pass(900);
    assert.deepEqual(socket.sent, ["ping"], "and the next one after a whole interval");
    assert.deepEqual(types(), ["message"], "a good line is kept");
    happen(type, more);
    await pass(250);
    assert.deepEqual(types(), ["close"]);
    assert.equal(FakeSocket.all.length, 2);
  });
}

test("a page that is hidden, or shown for the first time, is no reason", async (t) => {
  const world = page(t);
  const { socket, pass } = await virtualOpen(t, { ...slow, heartbeat });
  world.hidden = true;
  world.happen("visibilitychange");
  world.happen("pageshow", { persisted: false });
  assert.deepEqual(socket.sent, []);
  socket.end();
  await pass(10);
  world.happen("visibilitychange");
  world.happen("pageshow", { persisted: false });
  await pass(10_000);
  assert.equal(FakeSocket.all.length, 1);
});

test("without heartbeat nothing is sent, and a good line is kept", async (t) => {
  const { happen } = page(t);
  const { socket, pass, types } = await virtualOpen(t);
  for (const type of ["offline", "online", "visibilitychange"]) happen(type);
  await pass(DAY);
  assert.deepEqual([socket.sent, types()], [[], []]);
});

test("a page that is shown again and again tries once a second", async (t) => {
  const { happen } = page(t);
  const { socket, pass } = await virtualOpen(t, slow);
  socket.end();
  for (let i = 0; i < 100; i++) {
    happen("visibilitychange");
    await pass(100);
    if (FakeSocket.last.readyState === 0) FakeSocket.last.fail();
  }
  assert.ok(FakeSocket.all.length >= 10 && FakeSocket.all.length <= 12, String(FakeSocket.all.length));
});

test("an attempt that is due sooner is not put off", async (t) => {
  const { happen } = page(t);
  const { socket, pass } = await virtualOpen(t, { minReconnectionDelay: 300 });
  socket.end();
  happen("online");
  await pass(10);
  FakeSocket.last.fail();
  await pass(10);
  happen("online");
  await pass(400);
  assert.equal(FakeSocket.all.length, 3);
});

test("offline: no attempts until online; the line is kept", async (t) => {
  const { happen } = page(t);
  const { rws, socket, pass, types } = await virtualOpen(t);
  happen("offline");
  await pass(10_000);
  assert.deepEqual([types(), rws.readyState], [[], 1]);
  socket.end();
  await pass(DAY);
  assert.equal(FakeSocket.all.length, 1);
  happen("visibilitychange");
  await pass(10);
  assert.equal(FakeSocket.all.length, 1, "shown, but still offline");
  happen("online");
  await pass(10);
  assert.equal(FakeSocket.all.length, 2);
});

test("offline while it waits", async (t) => {
  const { happen } = page(t);
  const { socket, pass } = await virtualOpen(t);
  socket.end();
  await pass(500);
  happen("offline");
  await pass(DAY);
  assert.equal(FakeSocket.all.length, 1);
  happen("online");
  await pass(10);
  assert.equal(FakeSocket.all.length, 2);
});

test("a page that was frozen when the network came back is shown", async (t) => {
  const world = page(t);
  const { socket, pass } = await virtualOpen(t);
  world.happen("offline");
  socket.end();
  await pass(10_000);
  world.onLine = true;
  world.happen("pageshow", { persisted: true });
  await pass(10);
  assert.equal(FakeSocket.all.length, 2);
});

test("reconnect() tries although it is offline", async (t) => {
  const { happen } = page(t);
  const { rws, socket, pass } = await virtualOpen(t);
  happen("offline");
  socket.end();
  await pass(10_000);
  rws.reconnect();
  await pass(10);
  assert.equal(FakeSocket.all.length, 2);
});

test("the page's listeners are there while it is needed, once, and not longer", async (t) => {
  const world = page(t);
  const { rws, socket, pass } = await virtualOpen(t, { maxRetries: 1 });
  assert.equal(world.listeners(), 4);
  socket.end();
  await pass(1_010);
  assert.equal(world.listeners(), 4);
  FakeSocket.last.fail();
  assert.equal(world.listeners(), 0, "maxRetries: it has given up");
  rws.reconnect();
  assert.equal(world.listeners(), 4);
  rws.close();
  assert.equal(world.listeners(), 0);
  virtual(t, { startClosed: true });
  assert.equal(world.listeners(), 0);
});

test("1,000 that were opened and closed leave no timer and no listener", async (t) => {
  const world = page(t);
  const { rws, pass, timers } = virtual(t, { heartbeat });
  for (let i = 0; i < 1_000; i++) {
    await pass(2);
    FakeSocket.last.open();
    rws.close();
    FakeSocket.last.end(1000);
    rws.reconnect();
  }
  rws.close();
  assert.deepEqual([timers.size, world.listeners()], [0, 0]);
});
