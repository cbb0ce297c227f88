// Stores: what they fold, who shares a subscription, and that nothing is lost in silence.

import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import fs from "node:fs";
import os from "node:os";
import path from "node:path";
import { test } from "node:test";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { connectionStore, subscriptionStore } from "../../clients/js/store.js";
import { FakeWebSocket, HELLO, confirm, message, setUp, setUpConnected, settle } from "./fakes.js";

const SUM = { initial: 0, reduce: (sum, { data }) => sum + data };

/** Watches a store; `values` is all that it has told. */
function watch(store) {
  const values = [];
  const stop = store.subscribe((value) => values.push(value));
  return { values, stop, last: () => values.at(-1) };
}

const names = (socket) => socket.take().map(({ event }) => event).filter((name) => /subscribe/.test(name));

/** Answers the unsubscribe that was sent last. */
function confirmEnd(socket) {
  const { subscription, id } = socket.sent.findLast(({ event }) => event === "unsubscribe");
  socket.say({ event: "unsubscribe", subscription, status: "ok", id });
  socket.take();
}

test("the contract of Svelte: told at once, then of each change, until one stops; the subscription lasts as long", async () => {
  const { client, socket, pass } = await setUpConnected();
  const store = subscriptionStore(client, "calls.a", SUM);
  await settle();
  assert.deepEqual(socket.sent, [], "nobody watches");
  const first = watch(store);
  assert.equal(first.values.length, 1, "told before subscribe() returns");
  assert.deepEqual(
    [first.last().state, first.last().value, first.last().message, first.last().gap, first.last().error],
    ["subscribing", 0, null, null, null],
  );
  confirm(socket);
  assert.equal(first.last().state, "subscribed");
  socket.say(message(42), message(43));
  assert.deepEqual(first.values.map(({ value }) => value), [0, 0, 42, 85]);
  assert.deepEqual(first.last().position, { epoch: "e1", offset: 43 });
  assert.equal(first.last().message.offset, 43);
  assert.equal(store.get(), first.last());

  const second = watch(store);
  assert.equal(second.last(), first.last());
  first.stop();
  first.stop();
  socket.say(message(44));
  assert.equal(first.values.length, 4);
  assert.equal(second.last().value, 129);
  second.stop();
  assert.deepEqual(names(socket), [], "not in the same task");
  await pass(1);
  assert.deepEqual(names(socket), ["unsubscribe"]);
});

test("several share one subscription of the client; each has its own account, from when it came", async () => {
  const { client, socket, pass } = await setUpConnected();
  const sum = watch(subscriptionStore(client, "calls.a", SUM));
  const last = watch(subscriptionStore(client, "calls.a", { keep: 2 }));
  await settle();
  assert.deepEqual(socket.sent.map(({ event }) => event), ["subscribe"]);
  confirm(socket);
  socket.say(message(42), message(43), message(44));
  const late = watch(subscriptionStore(client, "calls.a", SUM));
  assert.equal(late.last().state, "subscribed");
  assert.equal(late.last().gap, null, "what was before it came is not its business");
  socket.say(message(45));
  assert.deepEqual([sum.last().value, late.last().value], [174, 45]);
  assert.deepEqual(last.last().messages.map(({ offset }) => offset), [44, 45]);
  sum.stop();
  last.stop();
  await pass(5);
  assert.deepEqual(names(socket), [], "one is still there");
  late.stop();
  await pass(5);
  assert.deepEqual(names(socket), ["unsubscribe"]);
});

test("leaving and coming back within one task costs nothing, and nothing is told as lost", async () => {
  const { client, socket, pass } = await setUpConnected();
  const store = subscriptionStore(client, "calls.a", SUM);
  watch(store).stop();
  const watcher = watch(store);
  await pass(5);
  assert.deepEqual(socket.sent.map(({ event }) => event), ["subscribe"]);
  confirm(socket);
  socket.say(message(42));
  watcher.stop();
  const again = watch(store);
  await pass(5);
  socket.say(message(43));
  assert.deepEqual([again.last().value, again.last().gap], [85, null]);
  assert.deepEqual(names(socket), []);
});

test("watched again later, it goes on after its last message: recovered, or a gap", async () => {
  const { client, socket, pass } = await setUpConnected();
  const store = subscriptionStore(client, "calls.a", SUM);
  const first = watch(store);
  await settle();
  confirm(socket);
  socket.say(message(42));
  first.stop();
  await pass(1);
  confirmEnd(socket);
  const again = watch(store);
  await settle();
  const [subscribe] = socket.sent;
  assert.deepEqual(subscribe.since ?? subscribe.position, { epoch: "e1", offset: 42 }, JSON.stringify(subscribe));
  confirm(socket, { position: { epoch: "e1", offset: 44 }, recovered: true });
  socket.say(message(43), message(44));
  assert.deepEqual([again.last().value, again.last().gap], [42 + 43 + 44, null]);
});

test("watched again, while another one had kept the subscription: a gap with the right numbers, also before the message", async () => {
  const { client, socket, pass } = await setUpConnected();
  const gaps = [];
  const seen = [];
  const store = subscriptionStore(client, "calls.a", { ...SUM, onGap: (gap) => gaps.push(gap), onMessage: (it) => seen.push(it) });
  const first = watch(store);
  const other = watch(subscriptionStore(client, "calls.a"));
  await settle();
  confirm(socket);
  socket.say(message(42));
  first.stop();
  await pass(1);
  socket.say(message(43), message(44));
  const again = watch(store);
  const gap = { subscription: "calls.a", after: 42, next: 45, missing: 2 };
  assert.deepEqual(again.last().gap, gap);
  assert.deepEqual(gaps, [gap]);
  socket.say(message(45), message(46));
  assert.deepEqual(seen.map((it) => it.gap), [null, gap, null]);
  assert.equal(other.last().gap, null);
  again.last().reset(7);
  assert.deepEqual([again.last().gap, again.last().message, again.last().value], [null, null, 7]);
  socket.say(message(47));
  assert.equal(again.last().value, 54);
  again.last().reset((sum) => sum + 1);
  assert.equal(again.last().value, 55);
  again.last().reset();
  assert.equal(again.last().value, 0);
});

test("a topic without history: what came while nobody watched is a gap of unknown size, not silence", async () => {
  const { client, socket, pass } = await setUpConnected();
  const store = subscriptionStore(client, "calls.a", SUM);
  const first = watch(store);
  await settle();
  confirm(socket, { position: undefined });
  socket.say({ event: "message", subscription: "calls.a", data: 1 });
  assert.equal(first.last().value, 1);
  first.stop();
  await pass(1);
  confirmEnd(socket);
  const again = watch(store);
  assert.deepEqual(again.last().gap, { subscription: "calls.a", after: null, next: null, missing: null });
});

test("since: asked of the server by the first; who shares an older subscription is told what is missing", async () => {
  const { client, socket } = await setUpConnected();
  const since = { epoch: "e1", offset: 40 };
  const first = watch(subscriptionStore(client, "calls.a", { ...SUM, since }));
  const beside = watch(subscriptionStore(client, "calls.a", { ...SUM, since }));
  await settle();
  assert.equal(socket.sent.length, 1);
  confirm(socket, { recovered: true });
  socket.say(message(41));
  assert.deepEqual([first.last().value, first.last().gap], [41, null]);
  assert.deepEqual([beside.last().value, beside.last().gap], [41, null]);
  const late = watch(subscriptionStore(client, "calls.a", { ...SUM, since }));
  assert.deepEqual(late.last().gap, { subscription: "calls.a", after: 40, next: 42, missing: 1 });
});

test("gaps of the client's are told, with the value, and to the callback", async () => {
  const { client, socket } = await setUpConnected();
  const gaps = [];
  const watcher = watch(subscriptionStore(client, "calls.a", { ...SUM, onGap: (gap) => gaps.push(gap) }));
  await settle();
  confirm(socket);
  socket.say(message(42), message(50));
  assert.deepEqual(gaps.map(({ after, next, missing }) => [after, next, missing]), [[42, 50, 7]]);
  assert.equal(watcher.last().gap, gaps[0]);
  assert.equal(watcher.last().value, 92);
});

test("with onMessage alone, a message changes no value: nothing renders", async () => {
  const { client, socket } = await setUpConnected();
  const seen = [];
  const watcher = watch(subscriptionStore(client, "calls.a", { onMessage: ({ offset }) => seen.push(offset) }));
  await settle();
  confirm(socket);
  const { length } = watcher.values;
  socket.say(message(42), message(43), message(44));
  assert.deepEqual(seen, [42, 43, 44]);
  assert.equal(watcher.values.length, length);
  assert.deepEqual(watcher.last().subscription.position, { epoch: "e1", offset: 44 });
});

test("what a reducer, a callback or a watcher throws is an error of the client's, and disturbs nothing else", async () => {
  const { client, socket, take } = await setUpConnected();
  const seen = [];
  const broken = () => {
    throw new Error("broken");
  };
  const options = { initial: 0, reduce: broken, onMessage: ({ offset }) => seen.push(offset) };
  const first = watch(subscriptionStore(client, "calls.a", options));
  const second = watch(subscriptionStore(client, "calls.a", { ...SUM, onMessage: broken }));
  const store = subscriptionStore(client, "calls.a", SUM);
  let calls = 0;
  store.subscribe(() => ++calls > 1 && broken());
  const third = watch(store);
  await settle();
  confirm(socket);
  take();
  socket.say(message(42));
  assert.deepEqual(seen, [42]);
  assert.deepEqual([first.last().value, second.last().value, third.last().value], [0, 42, 42]);
  assert.deepEqual(take().map(([type, { code }]) => [type, code]), Array(3).fill(["error", "callback_failed"]));
});

test("what onGap throws while one begins to watch goes to who watches, and keeps nothing", async () => {
  const { client, socket, pass } = await setUpConnected();
  const other = watch(subscriptionStore(client, "calls.a"));
  await settle();
  confirm(socket);
  socket.say(message(42));
  const broken = () => {
    throw new Error("broken");
  };
  const store = subscriptionStore(client, "calls.a", { since: { epoch: "e1", offset: 40 }, onGap: broken });
  assert.throws(() => watch(store), /broken/);
  other.stop();
  await pass(5);
  assert.deepEqual(names(socket), ["unsubscribe"]);
});

test("refused: the error is in the value, and who comes later subscribes anew", async () => {
  const { client, socket, take } = await setUpConnected();
  const store = subscriptionStore(client, "calls.a", SUM);
  const watcher = watch(store);
  await settle();
  const { id } = socket.sent.at(-1);
  socket.say({ event: "subscribe", subscription: "calls.a", status: "error", error: "No.", code: "forbidden", id });
  assert.equal(watcher.last().state, "unsubscribed");
  assert.equal(watcher.last().error.code, "forbidden");
  assert.deepEqual(take().map(([type]) => type), ["error"], "not silent for those who do not look at the value");
  socket.take();
  const other = watch(subscriptionStore(client, "calls.a"));
  await settle();
  assert.deepEqual(names(socket), ["subscribe"]);
  assert.equal(other.last().state, "subscribing");
  assert.equal(watcher.last().state, "unsubscribed");
});

test("no client or no name: nothing happens", () => {
  const { client } = setUp({ autoConnect: false });
  assert.equal(watch(subscriptionStore(client, null, SUM)).last().state, "idle");
  assert.equal(watch(subscriptionStore(null, "calls.a", SUM)).last().state, "subscribing");
  assert.equal(watch(connectionStore(null)).last().state, "idle");
});

test("what the app has subscribed itself stays subscribed", async () => {
  const { client, socket, pass } = await setUpConnected();
  const own = client.subscribe("calls.a");
  const watcher = watch(subscriptionStore(client, "calls.a", SUM));
  assert.equal(watcher.last().subscription, own);
  await settle();
  confirm(socket);
  socket.say(message(42));
  assert.equal(watcher.last().value, 42);
  watcher.stop();
  await pass(5);
  assert.deepEqual(names(socket), []);
  assert.equal(own.state, "subscribed");
});

test("fields: the same may share; others may not while it is in use, and replace it when it no longer is", async () => {
  const { client, socket, pass } = await setUpConnected();
  const first = watch(subscriptionStore(client, "calls.a", { fields: { agent: 7 } }));
  const same = watch(subscriptionStore(client, "calls.a", { fields: { agent: 7 } }));
  const other = subscriptionStore(client, "calls.a", { fields: { agent: 8 } });
  assert.throws(() => watch(other), /calls\.a is in use with other fields/);
  await settle();
  assert.deepEqual(socket.sent.map(({ event, agent }) => [event, agent]), [["subscribe", 7]]);
  confirm(socket);
  first.stop();
  same.stop();
  const next = watch(other);
  await pass(5);
  assert.deepEqual(socket.take().map(({ event, agent }) => [event, agent]), [["unsubscribe", undefined], ["subscribe", 8]]);
  assert.equal(next.last().state, "subscribing");
});

test("a client that was closed: leaving is quiet, and nobody is left when it connects again", async () => {
  const { client, pass } = await setUpConnected();
  const watcher = watch(subscriptionStore(client, "calls.a", SUM));
  await settle();
  client.close();
  watcher.stop();
  await pass(5);
  client.connect();
  FakeWebSocket.last.open();
  await settle();
  FakeWebSocket.last.say(HELLO);
  await settle();
  assert.deepEqual(names(FakeWebSocket.last), []);
});

test("wrong options are named", () => {
  assert.throws(() => subscriptionStore(null, "a.b", { reducer() {} }), /no option "reducer"; there are reduce, /);
  assert.throws(() => subscriptionStore(null, "a.b", { reduce: 1, initial: 1 }), /"reduce" must be a function/);
  assert.throws(() => subscriptionStore(null, "a.b", { reduce() {} }), /"reduce" needs "initial"/);
  assert.throws(() => subscriptionStore(null, "a.b", { keep: -1 }), /"keep" must be a whole number/);
});

test("the connection: one store for a client, told of each change, with the reason also for who comes late", async () => {
  const { client, socket, pass } = await setUpConnected();
  const store = connectionStore(client);
  assert.equal(connectionStore(client), store);
  const watcher = watch(store);
  assert.deepEqual(watcher.last(), { state: "connected", reason: null, transport: "websocket", nextAttemptInMs: null });
  socket.end();
  const { state, reason, transport, nextAttemptInMs } = watcher.last();
  assert.deepEqual([state, reason, transport], ["reconnecting", "line_closed", null]);
  assert.ok(nextAttemptInMs >= 0);
  watcher.stop();
  client.close();
  assert.deepEqual(watch(store).last(), { state: "closed", reason: "closed_by_app", transport: null, nextAttemptInMs: null });
  await pass(1);
});

test("values are frozen, so that nothing that makes objects watched goes through them; and one that is the same is not told", () => {
  const { client } = setUp({ autoConnect: false });
  const store = subscriptionStore(client, "calls.a");
  const { values, last } = watch(store);
  last().reset(1);
  last().reset(2);
  assert.ok([...values, connectionStore(client).get()].every(Object.isFrozen));
  const { length } = values;
  last().reset(2);
  // `messages` is an empty list again, and not another one.
  assert.equal(values.length, length);
});

test("the .d.ts declare what the module is, and refuse the rest", async (t) => {
  const folder = fs.mkdtempSync(path.join(os.tmpdir(), "holdfast-store-"));
  t.after(() => fs.rmSync(folder, { recursive: true, force: true }));
  const client = fileURLToPath(new URL("../../clients/js/", import.meta.url));
  fs.mkdirSync(path.join(folder, "node_modules/@types"), { recursive: true }); // So that no types of other packages are found.
  for (const name of ["holdfast.d.ts", "diagnose.d.ts", "store.d.ts"]) fs.copyFileSync(path.join(client, name), path.join(folder, name));
  fs.copyFileSync(path.join(client, "store.js"), path.join(folder, "real.js"));
  fs.writeFileSync(path.join(folder, "usage.ts"), `
import { Holdfast } from "./holdfast.js";
import * as declared from "./store.js";
import * as real from "./real.js";
type Same<A, B> = (<T>() => T extends A ? 1 : 2) extends <T>() => T extends B ? 1 : 2 ? true : false;
export const same: [Same<keyof typeof real, keyof typeof declared>, Same<typeof real.connectionStore, typeof declared.connectionStore>] = [true, true];
export const stores: typeof declared.subscriptionStore = real.subscriptionStore;

const client = new Holdfast("ws://h/");
const store = declared.subscriptionStore(client, "calls.a", { initial: [] as number[], reduce: (all, { data, gap }) => (gap ? [] : [...all, data]) });
const stop: () => void = store.subscribe(({ value, state, message, gap, position, error, reset }) => {
  console.log(value.map((n) => n.toFixed()), state === "idle", message?.offset, gap?.missing, position?.epoch, error?.code);
  reset([1]);
  reset((before) => [...before, 1]);
  // @ts-expect-error no such state
  if (state === "connected") reset();
  // @ts-expect-error another type
  reset("x");
});
stop();
declared.subscriptionStore(null, undefined, { keep: 5, onMessage: ({ data }) => data, since: { epoch: "e", offset: 1 }, fields: { agent: 1 } });
// @ts-expect-error a reducer needs a value to begin with
declared.subscriptionStore(client, "calls.a", { reduce: (all: number[]) => all });
// @ts-expect-error no such option
declared.subscriptionStore(client, "calls.a", { reducer: 1 });
const { state, reason, transport, nextAttemptInMs } = declared.connectionStore(client).get();
console.log(state === "closed", reason?.length, transport === "poll", nextAttemptInMs?.toFixed());
// @ts-expect-error values are not changed in place
store.get().value = [];
`);
  const strict = ["--strict", "--target", "ES2022", "--module", "ES2022", "--moduleResolution", "node", "--lib", "ES2022,DOM", "--noEmit", "--allowJs", "--checkJs"];
  await promisify(execFile)("tsc", [...strict, "usage.ts"], { cwd: folder }).catch((error) => {
    assert.notEqual(error.code, "ENOENT", "tsc is missing: apt-get install node-typescript");
    assert.fail(error.stdout || String(error));
  });
});
