// Subscriptions: messages, loops, promises, positions, and messages to the service.

import assert from "node:assert/strict";
import { test } from "node:test";
import { HoldfastError } from "../../clients/js/holdfast.js";
import { FakeWebSocket, HELLO, confirm, message, setUp, setUpConnected, settle } from "./fakes.js";

async function setUpSubscribed(options) {
  const world = await setUpConnected(options);
  const calls = world.client.subscribe("calls.a");
  confirm(world.socket);
  return { ...world, calls };
}

const code = (expected) => (error) => {
  assert.ok(error instanceof HoldfastError, String(error));
  assert.equal(error.code, expected);
  return true;
};

test("messages, position and ready()", async () => {
  const { client, socket } = await setUpConnected();
  const calls = client.subscribe("calls.a", { agent: 4 });
  assert.deepEqual([calls.name, calls.state, calls.position], ["calls.a", "subscribing", null]);
  const ready = calls.ready();
  const seen = [];
  calls.on("message", (event) => seen.push([event, calls.position]));
  assert.equal(socket.sent.at(-1).agent, 4);
  confirm(socket, { data: [1] });
  assert.deepEqual(await ready, { position: { epoch: "e1", offset: 41 }, recovered: null, data: [1] });
  assert.deepEqual(await calls.ready(), await ready);
  const wire = { ...message(42, { state: "ringing" }), published_at: "2024-01-01T00:00:00Z" };
  socket.say(wire, { event: "message", subscription: "calls.other", data: 0 });
  assert.deepEqual(seen, [[
    { subscription: "calls.a", data: { state: "ringing" }, offset: 42, publishedAt: "2024-01-01T00:00:00Z", gap: null, event: wire },
    { epoch: "e1", offset: 42 },
  ]]);
  calls.position.offset = 0;
  assert.equal(calls.position.offset, 42, "the position is a copy");
});

test("since, and what cannot be subscribed", async () => {
  const { client, socket } = await setUpConnected();
  const since = { epoch: "e1", offset: 7 };
  client.subscribe("calls.a", { since });
  since.offset = 99;
  assert.deepEqual(socket.sent.at(-1).since, { epoch: "e1", offset: 7 });
  for (const name of [undefined, "", 7]) assert.throws(() => client.subscribe(name), TypeError);
  for (const bad of [7, {}, { epoch: "e", offset: "1" }, null]) assert.throws(() => client.subscribe("calls.b", { since: bad }), /position/);
  const cyclic = {};
  cyclic.self = cyclic;
  assert.throws(() => client.subscribe("calls.b", { cyclic }), TypeError);
});

test("the same name is the same subscription while it lasts", async () => {
  const { client, socket, calls } = await setUpSubscribed();
  assert.equal(client.subscribe("calls.a"), calls);
  assert.throws(() => client.subscribe("calls.a", { since: calls.position }), /subscribed already/);
  const left = calls.unsubscribe();
  const again = client.subscribe("calls.a");
  assert.notEqual(again, calls);
  const [unsubscribe, subscribe] = socket.take();
  socket.say({ event: "unsubscribe", subscription: "calls.a", status: "ok", id: unsubscribe.id });
  await left;
  assert.deepEqual([calls.state, again.state], ["unsubscribed", "subscribing"]);
  socket.say({ event: "subscribe", subscription: "calls.a", status: "ok", id: subscribe.id, position: { epoch: "e1", offset: 50 } }, message(51));
  assert.deepEqual([calls.position, again.position], [{ epoch: "e1", offset: 41 }, { epoch: "e1", offset: 51 }]);
});

test("unsubscribe: delivers until it is confirmed, may be refused, and is over then", async () => {
  const { socket, calls } = await setUpSubscribed();
  const seen = [];
  calls.on("message", ({ offset }) => seen.push(offset)).on("unsubscribed", (event) => seen.push(event));
  const refused = calls.unsubscribe();
  socket.say(message(42), { event: "unsubscribe", subscription: "calls.a", status: "error", error: "Not now.", id: socket.take()[0].id });
  await assert.rejects(refused, /Not now/);
  assert.equal(calls.state, "subscribed");
  const done = calls.unsubscribe();
  socket.say(message(43), { event: "unsubscribe", subscription: "calls.a", status: "ok", id: socket.take()[0].id }, message(44));
  await done;
  assert.deepEqual(seen, [42, 43, { error: null }]);
  assert.deepEqual(calls.position, { epoch: "e1", offset: 43 });
  await calls.unsubscribe();
  await assert.rejects(calls.ready(), code("not_subscribed"));
  for await (const _ of calls) assert.fail("it is over");
});

test("a refused subscription rejects ready(), ends loops with the error, and tells it once", async () => {
  const { client, socket, take } = await setUpConnected();
  const calls = client.subscribe("nope.a");
  const ready = calls.ready();
  const loop = calls[Symbol.asyncIterator]().next();
  const [{ id }] = socket.take();
  socket.say({ event: "subscribe", subscription: "nope.a", status: "error", error: "Invalid service.", code: "unknown_service", id });
  await assert.rejects(ready, code("unknown_service"));
  await assert.rejects(loop, code("unknown_service"));
  await assert.rejects(calls.ready(), code("unknown_service"));
  assert.deepEqual(take().map(([type, error]) => [type, error.code]), [["error", "unknown_service"]]);
  assert.notEqual(client.subscribe("nope.a"), calls);
});

test("the server ends a subscription", async () => {
  const { socket, calls, take } = await setUpSubscribed();
  const seen = [];
  calls.on("error", (error) => seen.push(error.message)).on("unsubscribed", ({ error }) => seen.push(error.message));
  socket.say({ event: "unsubscribe", subscription: "calls.a", error: "Unauthorized." });
  assert.deepEqual(seen, ["Unauthorized.", "Unauthorized."]);
  assert.deepEqual(take(), [], "the subscription has a listener of its own");
});

test("for await gives every message, says what is missing, and ends with the client", async () => {
  const { client, socket, calls } = await setUpSubscribed();
  const seen = [];
  const loop = (async () => {
    for await (const { offset, gap } of calls) seen.push([offset, gap?.missing ?? 0]);
    seen.push("end");
  })();
  await settle();
  socket.say(message(42), message(43));
  await settle();
  socket.say({ event: "gap", subscription: "calls.a", after: 43, next: 50 }, message(50));
  await settle();
  assert.deepEqual(seen, [[42, 0], [43, 0], [50, 6]]);
  client.close();
  await loop;
  assert.equal(seen.at(-1), "end");
});

test("two gaps in a row are one for the next message; a reply without a position harms nobody", async () => {
  const { client, socket, calls } = await setUpSubscribed();
  const gaps = [];
  calls.on("gap", ({ missing }) => gaps.push(missing)).on("message", ({ gap }) => gaps.push(gap));
  socket.say({ event: "gap", subscription: "calls.a", after: 41, next: 50 }, { event: "gap", subscription: "calls.a", after: 49, next: 60 }, message(60));
  assert.deepEqual(gaps, [8, 10, { subscription: "calls.a", after: 41, next: 60, missing: 18 }]);
  client.subscribe("calls.b", { since: { epoch: "e1", offset: 1 } });
  confirm(socket, { recovered: true, position: undefined });
  socket.say(message(61));
  assert.equal(calls.position.offset, 61);
});

test("break leaves a loop, others go on, each has its own buffer", async () => {
  const { socket, calls } = await setUpSubscribed();
  const second = calls[Symbol.asyncIterator]();
  const first = second.next();
  const seen = [];
  const loop = (async () => {
    for await (const { offset } of calls) {
      seen.push(offset);
      break;
    }
  })();
  await settle();
  socket.say(message(42), message(43));
  await loop;
  assert.deepEqual(seen, [42]);
  assert.equal((await first).value.offset, 42);
  assert.equal((await second.next()).value.offset, 43);
});

test("a loop that falls behind ends with an error, after what it had: bufferSize and one more", async () => {
  const { socket, calls } = await setUpSubscribed({ bufferSize: 3 });
  const loop = calls[Symbol.asyncIterator]();
  const first = loop.next();
  socket.say(message(42));
  assert.equal((await first).value.offset, 42);
  socket.say(message(43), message(44), message(45));
  for (const offset of [43, 44, 45]) assert.equal((await loop.next()).value.offset, offset);
  socket.say(message(46), message(47), message(48), message(49), message(50));
  for (const offset of [46, 47, 48]) assert.equal((await loop.next()).value.offset, offset);
  await assert.rejects(loop.next(), (error) => code("buffer_full")(error) && error.limit === 3 && error.actual === 4);
  assert.equal((await loop.next()).done, true);
  assert.equal(calls.state, "subscribed");
});

test("loops and ready() end with an error when the client is closed by the server", async () => {
  const { client, socket, calls } = await setUpSubscribed();
  const loop = calls[Symbol.asyncIterator]().next();
  const ready = client.subscribe("calls.b").ready();
  socket.end(4003);
  await assert.rejects(loop, code("closed"));
  await assert.rejects(ready, code("closed"));
});

test("after close, connect takes the subscriptions up again where they were", async () => {
  const { client, socket, calls } = await setUpSubscribed();
  socket.say(message(42));
  client.close();
  assert.equal(calls.state, "subscribed");
  socket.say(message(43));
  client.connect();
  FakeWebSocket.last.open();
  await settle();
  FakeWebSocket.last.say({ ...HELLO, session: "h2.secret" });
  assert.deepEqual(FakeWebSocket.last.sent[1].since, { epoch: "e1", offset: 42 });
});

test("message() resolves with the data of the reply, or rejects with its error", async () => {
  const { client, socket, calls } = await setUpSubscribed();
  const replies = [calls.message({ n: 1 }), client.message("calls.a", [2], { agent: 4 }), calls.message(3), calls.message(undefined)];
  const sent = socket.take();
  assert.deepEqual(sent.map(({ event, subscription, data, agent }) => [event, subscription, data, agent]), [
    ["message", "calls.a", { n: 1 }, undefined], ["message", "calls.a", [2], 4], ["message", "calls.a", 3, undefined], ["message", "calls.a", undefined, undefined],
  ]);
  assert.equal(new Set(sent.map(({ id }) => id)).size, 4);
  socket.say(
    { event: "message", subscription: "calls.a", status: "ok", id: sent[1].id },
    { event: "message", subscription: "calls.a", status: "ok", id: sent[0].id, data: "one" },
    { event: "message", subscription: "calls.a", status: "error", id: sent[2].id, error: "No.", code: "denied", data: { why: 1 } },
  );
  assert.deepEqual(await Promise.all(replies.slice(0, 2)), ["one", undefined]);
  await assert.rejects(replies[2], (error) => code("denied")(error) && error.message === "No." && error.data.why === 1);
  client.close();
  await assert.rejects(replies[3], code("closed"));
  await assert.rejects(calls.message(4), code("closed"));
});

test("what JSON cannot say is rejected and leaves no trace", async () => {
  const { client, socket } = await setUpConnected();
  const cyclic = {};
  cyclic.self = cyclic;
  await assert.rejects(client.message("calls.a", cyclic), TypeError);
  await assert.rejects(client.message("calls.a", 1n), TypeError);
  assert.deepEqual(socket.sent, []);
  assert.equal(client.stats().queuedBytes, 0);
});

test("the queue: exactly its limit, one more, and bytes are bytes of UTF-8", async () => {
  const { client } = setUp({ queueBytes: 1_000, autoConnect: false });
  const queued = () => client.stats().queuedBytes;
  const send = (data) => client.message("calls.a", data).catch(() => {});
  send("x");
  const overhead = queued() - 1;
  for (const [text, bytes] of [["é", 2], ["€", 3], ["😀", 4], ["\ud800", 6]]) {
    const before = queued();
    send(text);
    assert.equal(queued() - before - overhead, bytes, text);
  }
  const room = 1_000 - queued() - overhead;
  await assert.rejects(client.message("calls.a", "x".repeat(room + 1)), (error) => {
    assert.deepEqual([error.code, error.limit, error.actual], ["queue_full", 1_000, 1_001]);
    return /1000 bytes.*1001/.test(error.message);
  });
  send("x".repeat(room));
  assert.equal(queued(), 1_000);
  client.close();
  assert.equal(queued(), 0);
  await settle();
});
