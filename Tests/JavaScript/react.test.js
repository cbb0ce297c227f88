// The hooks, with Debian's React (apt-get install node-react node-react-dom node-react-test-renderer).

import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import fs from "node:fs";
import { createRequire } from "node:module";
import os from "node:os";
import path from "node:path";
import { after, before, mock, test } from "node:test";
import { fileURLToPath, pathToFileURL } from "node:url";
import { promisify } from "node:util";
import { FakeWebSocket, confirm, message, setUp, setUpConnected, settle } from "./fakes.js";

const client = fileURLToPath(new URL("../../clients/js/", import.meta.url));
const FILES = ["package.json", "holdfast.js", "holdfast.d.ts", "diagnose.js", "diagnose.d.ts", "store.js", "store.d.ts", "react.js", "react.d.ts"];
const PACKAGES = ["react", "react-dom", "react-test-renderer", "react-is", "react-shallow-renderer", "scheduler", "object-assign", "loose-envify", "js-tokens", "@types/react"];
const SUM = { initial: 0, reduce: (sum, { data }) => sum + data };

let folder, React, createElement, TestRenderer, act, hooks, require;
before(async () => {
  // Bare imports are looked up in a node_modules above, and nowhere else.
  folder = fs.mkdtempSync(path.join(os.tmpdir(), "holdfast-react-"));
  const modules = path.join(folder, "node_modules");
  fs.mkdirSync(path.join(modules, "holdfast"), { recursive: true });
  for (const name of FILES) fs.copyFileSync(path.join(client, name), path.join(modules, "holdfast", name));
  for (const name of PACKAGES) {
    const source = path.join("/usr/share/nodejs", name);
    assert.ok(fs.existsSync(source), `${name} is missing: apt-get install node-react node-react-dom node-react-test-renderer`);
    fs.cpSync(source, path.join(modules, name), { recursive: true, dereference: true });
  }
  require = createRequire(path.join(folder, "index.js"));
  React = require("react");
  ({ createElement } = React);
  TestRenderer = require("react-test-renderer");
  ({ act } = TestRenderer);
  hooks = await import(pathToFileURL(path.join(modules, "holdfast/react.js")));
  globalThis.IS_REACT_ACT_ENVIRONMENT = true;
});
after(() => fs.rmSync(folder, { recursive: true, force: true }));

// What React complains about is a failure; a remark of Node's on its own mocks is not.
const complaints = [];
before(() => mock.method(console, "error", (...parts) => complaints.push(parts.join(" ").slice(0, 300))));
function noComplaints() {
  assert.deepEqual(complaints.splice(0).filter((text) => !text.includes("ExperimentalWarning")), []);
}

/** Renders, with what each rendering has returned in `seen`. */
async function render(useHook, wrap = (element) => element) {
  const seen = [];
  const Component = ({ use }) => {
    seen.push(use());
    return null;
  };
  const element = (use) => wrap(createElement(Component, { use }));
  let root;
  await act(async () => {
    root = TestRenderer.create(element(useHook), { unstable_isConcurrent: true });
  });
  const update = (use) => act(async () => root.update(element(use)));
  return { seen, last: () => seen.at(-1), update, unmount: () => act(async () => root.unmount()) };
}

const strict = (element) => createElement(React.StrictMode, null, element);
const kinds = (socket) => socket.take().map(({ event, subscription }) => [event, subscription]).filter(([event]) => /subscribe/.test(event));

test("a value made of messages: none is missed, however many come between two renderings", async () => {
  const { client, socket } = await setUpConnected();
  const { seen, last } = await render(() => hooks.useSubscription(client, "calls.a", SUM));
  assert.deepEqual([seen[0].state, seen[0].value], ["subscribing", 0]);
  await act(async () => confirm(socket));
  assert.equal(last().state, "subscribed");
  const before = seen.length;
  await act(async () => {
    for (let i = 42; i < 142; i++) socket.say(message(i, 1));
  });
  assert.equal(last().value, 100);
  assert.deepEqual(last().position, { epoch: "e1", offset: 141 });
  assert.ok(seen.length - before < 100, `${seen.length - before} renderings: nothing was batched, so nothing was tested`);
  noComplaints();
});

test("onMessage: every message once, in order, and by itself it renders nothing; also into a reducer of React's own", async () => {
  const { client, socket } = await setUpConnected();
  const told = [];
  const alone = await render(() => hooks.useSubscription(client, "calls.a", { onMessage: ({ offset }) => told.push(offset) }));
  const own = await render(() => {
    const [all, dispatch] = React.useReducer((all, { offset }) => [...all, offset], []);
    hooks.useSubscription(client, "calls.a", { onMessage: dispatch });
    return all;
  });
  await act(async () => confirm(socket));
  const renderings = alone.seen.length;
  await act(async () => {
    for (let i = 42; i < 142; i++) socket.say(message(i));
  });
  const expected = Array.from({ length: 100 }, (_, i) => 42 + i);
  assert.deepEqual(told, expected);
  assert.deepEqual(own.last(), expected);
  assert.equal(alone.seen.length, renderings);
  noComplaints();
});

test("the callbacks of the last rendering are called, the first ones no more", async () => {
  const { client, socket } = await setUpConnected();
  const told = [];
  const use = (factor) => () =>
    hooks.useSubscription(client, "calls.a", {
      initial: 0, reduce: (sum, { data }) => sum + factor * data,
      onMessage: ({ data }) => told.push([factor, data]), onGap: ({ missing }) => told.push([factor, "gap", missing]),
    });
  const component = await render(use(1));
  await act(async () => confirm(socket));
  await act(async () => socket.say(message(42)));
  await component.update(use(10));
  await act(async () => socket.say(message(50)));
  assert.deepEqual(told, [[1, 42], [10, "gap", 7], [10, 50]]);
  assert.equal(component.last().value, 42 + 500);
  assert.equal(component.last().gap.missing, 7);
  await act(async () => component.last().reset());
  assert.deepEqual([component.last().value, component.last().gap], [0, null]);
  noComplaints();
});

test("StrictMode mounts twice: one subscribe, no unsubscribe, each message once", async () => {
  const { client, socket, pass } = await setUpConnected();
  const { last, unmount } = await render(() => hooks.useSubscription(client, "calls.a", { ...SUM, keep: 10 }), strict);
  await act(() => pass(5));
  assert.deepEqual(socket.sent.map(({ event }) => event), ["subscribe"]);
  await act(async () => confirm(socket));
  await act(async () => socket.say(message(42), message(43)));
  assert.equal(last().value, 85);
  assert.deepEqual(last().messages.map(({ offset }) => offset), [42, 43]);
  assert.equal(last().gap, null);
  await unmount();
  await pass(5);
  assert.deepEqual(kinds(socket), [["unsubscribe", "calls.a"]]);
  noComplaints();
});

test("components share a subscription, until the last one is gone", async () => {
  const { client, socket, pass } = await setUpConnected();
  const first = await render(() => hooks.useSubscription(client, "calls.a", SUM));
  const second = await render(() => hooks.useSubscription(client, "calls.a", { keep: 1 }));
  assert.deepEqual(socket.sent.map(({ event }) => event), ["subscribe"]);
  await act(async () => confirm(socket));
  await act(async () => socket.say(message(42)));
  assert.equal(first.last().subscription, second.last().subscription);
  assert.deepEqual([first.last().value, second.last().message.data], [42, 42]);
  await first.unmount();
  await pass(5);
  assert.deepEqual(kinds(socket), []);
  await second.unmount();
  await pass(5);
  assert.deepEqual(kinds(socket), [["unsubscribe", "calls.a"]]);
  noComplaints();
});

test("another name, none, another client: it switches, and begins anew", async () => {
  const { client, socket, pass } = await setUpConnected();
  const use = (name, from = client) => () => hooks.useSubscription(from, name, SUM);
  const component = await render(use(null), strict);
  assert.equal(component.last().state, "idle");
  assert.deepEqual(socket.sent, []);
  await component.update(use("calls.a"));
  assert.equal(component.last().state, "subscribing");
  await act(async () => confirm(socket));
  await act(async () => socket.say(message(42)));
  assert.equal(component.last().value, 42);

  const { seen } = component;
  const { length } = seen;
  await component.update(use("calls.b"));
  await act(() => pass(5));
  assert.deepEqual(kinds(socket), [["subscribe", "calls.b"], ["unsubscribe", "calls.a"]]);
  assert.ok(seen.slice(length).every(({ value, state }) => value === 0 && state === "subscribing"), "never the other one's value");
  await component.update(use(undefined));
  await act(() => pass(5));
  assert.deepEqual(kinds(socket), [["unsubscribe", "calls.b"]]);
  assert.equal(component.last().state, "idle");

  await component.update(use("calls.a", null));
  assert.equal(component.last().state, "subscribing", "the client may come later");
  await component.update(use("calls.a"));
  await act(() => pass(5));
  assert.deepEqual(kinds(socket), [["subscribe", "calls.a"]]);
  noComplaints();
});

test("fields that are equal are the same fields, others begin anew", async () => {
  const { client, socket, pass } = await setUpConnected();
  const use = (agent) => () => hooks.useSubscription(client, "calls.a", { fields: { agent } });
  const component = await render(use(7));
  await component.update(use(7));
  await act(() => pass(5));
  assert.deepEqual(socket.take().map(({ event, agent }) => [event, agent]), [["subscribe", 7]]);
  await component.update(use(8));
  await act(() => pass(5));
  assert.deepEqual(socket.take().map(({ event, agent }) => [event, agent]), [["unsubscribe", undefined], ["subscribe", 8]]);
  await component.unmount();
  noComplaints();
});

test("as in the README: what was lost is fetched, beneath what has come since, and nothing that comes meanwhile is lost", async () => {
  const { client, socket } = await setUpConnected();
  const fetches = [];
  const fetchCalls = () => new Promise((resolve) => fetches.push(resolve));
  const { last } = await render(() => {
    const calls = hooks.useSubscription(client, "calls.a", {
      initial: {},
      reduce: (calls, { data }) => ({ ...calls, [data.id]: data.n }),
      onGap: () => (calls.reset(), load()),
    });
    const load = () => fetchCalls().then((all) => calls.reset((since) => ({ ...all, ...since })));
    React.useEffect(() => void (calls.state === "subscribed" && load()), [calls.state]);
    return calls;
  });
  const say = (offset, id) => act(async () => socket.say(message(offset, { id, n: offset })));
  const fetched = (all) => act(async () => fetches.shift()(all));
  await act(async () => confirm(socket));
  await say(42, "a");
  await fetched({ a: 1, b: 2 });
  assert.deepEqual(last().value, { a: 42, b: 2 });
  await say(50, "c");
  assert.deepEqual(last().value, { c: 50 }, "what is left from before the gap is doubtful");
  await say(51, "a");
  await fetched({ a: 47, b: 48, d: 49 });
  assert.deepEqual([last().value, last().gap], [{ a: 51, b: 48, c: 50, d: 49 }, null]);
  assert.equal(fetches.length, 0);
  noComplaints();
});

test("the connection", async () => {
  const { client, socket } = await setUpConnected();
  const { last } = await render(() => hooks.useConnection(client), strict);
  assert.deepEqual(last(), { state: "connected", reason: null, transport: "websocket", nextAttemptInMs: null });
  await act(async () => socket.end());
  assert.deepEqual([last().state, last().reason, last().transport], ["reconnecting", "line_closed", null]);
  await act(async () => client.close());
  assert.equal(last().state, "closed");
  noComplaints();
});

test("a server renders how it begins, and connects nothing", async () => {
  const { renderToString } = require("react-dom/server");
  const { client } = setUp({ autoConnect: false });
  const Page = ({ client }) => {
    const { state, value } = hooks.useSubscription(client, "calls.a", SUM);
    return createElement("p", null, `${hooks.useConnection(client).state} ${state} ${value}`);
  };
  assert.equal(renderToString(createElement(Page, { client })), "<p>idle subscribing 0</p>");
  assert.equal(renderToString(createElement(Page, { client: null })), "<p>idle subscribing 0</p>", "there may be no client there");
  client.connect();
  assert.equal(renderToString(createElement(Page, { client })), "<p>idle subscribing 0</p>", "as the server has rendered it");
  FakeWebSocket.last.open();
  await settle();
  assert.deepEqual(FakeWebSocket.last.sent.map(({ event }) => event), ["hello"]);
  client.close();
  noComplaints();
});

test("the module is clean under strict checks with React's own types, and its .d.ts declare what it is", async () => {
  fs.copyFileSync(path.join(folder, "node_modules/holdfast/react.js"), path.join(folder, "real.js"));
  for (const name of ["holdfast", "diagnose", "store"]) fs.copyFileSync(path.join(client, `${name}.d.ts`), path.join(folder, `${name}.d.ts`));
  fs.writeFileSync(path.join(folder, "react.d.ts"), fs.readFileSync(path.join(client, "react.d.ts")));
  fs.writeFileSync(path.join(folder, "usage.ts"), `
import { Holdfast } from "./holdfast.js";
import * as declared from "./react.js";
import * as real from "./real.js";
type Same<A, B> = (<T>() => T extends A ? 1 : 2) extends <T>() => T extends B ? 1 : 2 ? true : false;
export const same: [Same<keyof typeof real, keyof typeof declared>, Same<typeof real.useConnection, typeof declared.useConnection>] = [true, true];
export const useSubscription: typeof declared.useSubscription = real.useSubscription;
export function Component(client: Holdfast, name?: string) {
  const { value, messages, reset } = declared.useSubscription(client, name, { initial: 0, reduce: (sum, { data }) => sum + data, keep: 3 });
  reset(value + messages.length);
  // @ts-expect-error a number
  value.length;
  // @ts-expect-error no such option
  declared.useSubscription(client, name, { onmessage() {} });
  return declared.useConnection(client).nextAttemptInMs?.toFixed();
}
`);
  const parameters = ["--strict", "--noUnusedLocals", "--noUnusedParameters", "--target", "ES2022", "--module", "ES2022", "--moduleResolution", "node", "--lib", "ES2022,DOM", "--noEmit", "--skipLibCheck", "--allowJs", "--checkJs"];
  await promisify(execFile)("tsc", [...parameters, "usage.ts"], { cwd: folder }).catch((error) => {
    assert.notEqual(error.code, "ENOENT", "tsc is missing: apt-get install node-typescript");
    assert.fail(error.stdout || String(error));
  });
});
