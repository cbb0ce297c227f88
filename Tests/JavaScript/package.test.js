// The npm package as its users get it: packed, unpacked, imported and required, in Node and by TypeScript.
// Needs npm, esbuild, tsc and, from Debian: node-ws, node-react.

import assert from "node:assert/strict";
import { execFile, spawn } from "node:child_process";
import fs from "node:fs";
import { createRequire } from "node:module";
import os from "node:os";
import path from "node:path";
import { after, before, test } from "node:test";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { Gateway } from "./gateway.js";
import { Server } from "./world.js";

const repository = fileURLToPath(new URL("../../", import.meta.url));
const ENTRIES = ["holdfast", "holdfast/diagnose.js", "holdfast/react", "holdfast/store", "holdfast/reconnecting-websocket"];
const NAMES = {
  holdfast: ["ConnectionMachine", "Driver", "Holdfast", "HoldfastError", "Subscription", "default", "loadFallback", "shifted"], // the first two for tests, the last for tabs.js
  "holdfast/diagnose.js": ["diagnose"],
  "holdfast/react": ["useConnection", "useSubscription"],
  "holdfast/store": ["connectionStore", "subscriptionStore"],
};
const MODULES = ["diagnose", "holdfast", "react", "reconnecting-websocket", "store"];
/** What only other modules load. */
const INNER = ["http", "outbox", "tabs", "tabs-worker"];
const FILES = [
  ...INNER.flatMap((name) => [`${name}.js`, `dist/${name}.js`, `dist/${name}.cjs`]),
  ...MODULES.flatMap((name) => [`${name}.js`, `${name}.d.ts`, `dist/${name}.cjs`, `dist/${name}.d.cts`]),
  "LICENSE", "README.md", "diagnose.html", "dist/diagnose.js", "dist/holdfast.min.js", "package.json",
].sort();

const DEADLINE_MS = 30_000;
/** For the programs; another one than that which runs the tests, if wanted. */
const NODE = process.env.HOLDFAST_NODE ?? process.execPath;

let folder, app, modules, packed;

async function run(program, parameters, options) {
  try {
    return (await promisify(execFile)(program, parameters, { timeout: 60_000, ...options })).stdout;
  } catch (error) {
    assert.notEqual(error.code, "ENOENT", `${program} is missing`);
    assert.fail(`${program} ${parameters.join(" ")}: ${error.stdout}${error.stderr}`);
  }
}

before(async () => {
  folder = fs.mkdtempSync(path.join(os.tmpdir(), "holdfast-package-"));
  // A copy, so that what is written in packing is not in the way of others; and without what was written before.
  const copy = path.join(folder, "repository");
  for (const name of ["LICENSE", "scripts/package-js", "clients/js"]) {
    const ignored = (source) => /clients.js.(dist.(?!\.npmignore)|LICENSE)/.test(path.relative(repository, source));
    fs.cpSync(path.join(repository, name), path.join(copy, name), { recursive: true, filter: (source) => !ignored(source) });
  }
  const environment = { ...process.env, HOME: folder, npm_config_cache: path.join(folder, "cache"), npm_config_update_notifier: "false" };
  const parameters = ["pack", "--offline", "--json", "--loglevel=error", "--foreground-scripts=false", "--pack-destination", folder];
  const told = await run("npm", parameters, { cwd: path.join(copy, "clients/js"), env: environment });
  [packed] = JSON.parse(told.slice(told.indexOf("[\n")));

  app = path.join(folder, "app");
  modules = path.join(app, "node_modules");
  fs.mkdirSync(path.join(modules, "@types"), { recursive: true }); // So that no types of other packages are found.
  await run("tar", ["xzf", path.join(folder, packed.filename), "-C", modules]);
  fs.renameSync(path.join(modules, "package"), path.join(modules, "holdfast"));
  for (const name of ["react", "loose-envify", "js-tokens", "ws"]) {
    const source = path.join("/usr/share/nodejs", name);
    assert.ok(fs.existsSync(source), `${name} is missing: apt-get install node-react node-ws`);
    fs.cpSync(source, path.join(modules, name), { recursive: true, dereference: true });
  }
});
after(() => fs.rmSync(folder, { recursive: true, force: true }));

/** Writes a program beside node_modules and gives its path. */
function write(name, text) {
  fs.writeFileSync(path.join(app, name), text);
  return path.join(app, name);
}

test("exactly these files are in the package, and every file that an entry names is there", () => {
  assert.deepEqual(packed.files.map((file) => file.path).sort(), FILES);
  const named = (entry) => (typeof entry === "string" ? [entry] : Object.values(entry).flatMap(named));
  const { exports, main, module, types } = JSON.parse(fs.readFileSync(path.join(modules, "holdfast/package.json"), "utf8"));
  for (const file of [...named(exports), main, module, types]) assert.ok(FILES.includes(file.replace("./", "")), file);
});

test("CommonJS imports nothing: not every test runner could", () => {
  for (const name of [...MODULES, ...INNER]) {
    const text = fs.readFileSync(path.join(modules, `holdfast/dist/${name}.cjs`), "utf8");
    const code = text.replace(/\/\*.*?\*\/|^\s*\/\/.*?$/gms, ""); // Types in comments look the same.
    assert.equal(/^import\s.*$|\bimport\(.*$/m.exec(code)?.[0], undefined, name);
  }
});

test("each entry can be imported and required, with the same names", async () => {
  const names = (wildcard) => `console.log(JSON.stringify(Object.keys(${wildcard}).sort()));\n`;
  const imported = ENTRIES.map((entry, i) => `import * as m${i} from "${entry}";\n${names(`m${i}`)}`).join("");
  const required = ENTRIES.map((entry) => names(`require("${entry}")`)).join("");
  const lines = async (file) => (await run(NODE, [file])).trim().split("\n").map((line) => JSON.parse(line));
  const [esm, cjs] = await Promise.all([lines(write("names.mjs", imported)), lines(write("names.cjs", required))]);
  ENTRIES.forEach((entry, i) => {
    assert.deepEqual(esm[i], cjs[i], entry);
    if (NAMES[entry]) assert.deepEqual(esm[i], NAMES[entry], entry);
  });
});

test("require gives what is called as in the package whose place it takes", async () => {
  const text = `
    const ReconnectingWebSocket = require("holdfast/reconnecting-websocket");
    if (ReconnectingWebSocket !== ReconnectingWebSocket.default) throw new Error("not the class");
    new ReconnectingWebSocket("ws://127.0.0.1:9/", [], { startClosed: true, WebSocket: require("ws") });
  `;
  await run(NODE, [write("class.cjs", text)]);
});

test("the hooks and the client of CommonJS fit together", async () => {
  const text = `
    const { Holdfast, HoldfastError } = require("holdfast");
    const { subscriptionStore } = require("holdfast/store");
    const client = new Holdfast("ws://h/", { WebSocket: require("ws"), autoConnect: false });
    subscriptionStore(client, "calls.a").subscribe(() => {})();
    client.diagnose().then(({ verdict }) => console.log(verdict, new HoldfastError("a", "b") instanceof Error));
  `;
  assert.equal(await run(NODE, [write("fit.cjs", text)]), "none true\n", "diagnose() loads its module");
});

test("the minified module is the same module, and finds what it loads", async () => {
  const text = `
    import { Holdfast, HoldfastError, Subscription } from "holdfast/holdfast.min.js";
    const client = new Holdfast("ws://127.0.0.1:9/", { transports: ["poll"], autoConnect: false });
    console.log((await client.diagnose()).verdict, [Holdfast, HoldfastError, Subscription].length);
  `;
  assert.equal(await run(NODE, [write("minified.mjs", text)]), "none 3\n");
});

test("what one file of the package loads is there", () => {
  for (const file of FILES.filter((name) => /\.[cm]?js$/.test(name))) {
    const text = fs.readFileSync(path.join(modules, "holdfast", file), "utf8");
    // Types in comments name files as well, and are looked at by tsc.
    const code = text.replace(/\/\*.*?\*\/|^\s*\/\/.*?$/gms, "");
    for (const [, name] of code.matchAll(/(?:from|import\(|require\(|new URL\()\s*"(\.\/[^"]+)"/g)) {
      const loaded = path.join(modules, "holdfast", path.dirname(file), name.replace(/\?$/, ""));
      assert.ok(fs.existsSync(loaded), `${file} loads ${name}`);
    }
  }
});

/** A gateway that takes WebSockets, streams and polls. */
async function listen(t) {
  const { WebSocketServer } = createRequire(path.join(app, "index.js"))("ws");
  const clock = {
    get now() {
      return Math.floor(performance.now());
    },
    after: (ms, action) => setTimeout(action, ms).unref(),
    at: (time, action) => clock.after(time - performance.now(), action),
  };
  const heartbeat = { interval: 4, hidden_interval: 25, timeout: 5 };
  const settings = { history: 1_000, ttl: 60_000, outbox: 10_000, heartbeat, spread: 0.02 };
  const gateway = await new Gateway(new Server(clock, () => 0.1, settings)).listen();
  const sockets = new WebSocketServer({ noServer: true });
  gateway.http.on("upgrade", (request, socket, head) => sockets.handleUpgrade(request, socket, head, (it) => gateway.attach(it)));
  t.after(() => {
    for (const socket of sockets.clients) socket.terminate();
    return gateway.close();
  });
  return { server: gateway.server, url: `http://127.0.0.1:${gateway.port}/socket` };
}

/** Runs a program. `lines` is what it has said so far; `until` waits for a line; `end` for its end, which must be a good one. */
function start(t, ...parameters) {
  const child = spawn(NODE, parameters, { cwd: app, stdio: ["ignore", "pipe", "pipe"] });
  const program = { child, lines: [], complaints: "" };
  let told = () => {};
  const deadline = setTimeout(() => child.kill("SIGKILL"), DEADLINE_MS);
  let rest = "";
  child.stdout.on("data", (text) => {
    const lines = (rest + text).split("\n");
    rest = lines.pop();
    program.lines.push(...lines);
    told();
  });
  child.stderr.on("data", (text) => (program.complaints += text));
  const ended = new Promise((resolve) => child.on("close", (code, signal) => resolve(code ?? signal)));
  ended.then(() => (clearTimeout(deadline), told()));
  t.after(() => child.kill("SIGKILL"));
  program.until = async (condition) => {
    while (!program.lines.some(condition)) {
      if (child.exitCode !== null || child.signalCode) assert.fail(`it said only: ${program.lines.join(" | ")}; ${program.complaints}`);
      await new Promise((resolve) => (told = resolve));
    }
  };
  program.end = async () => assert.equal(await ended, 0, program.complaints);
  return program;
}

// Each talks with a gateway: subscribes, receives, sends, and ends by itself.
const HOW = {
  "with ws": { flags: [], options: "{ WebSocket }", first: { mjs: 'import { WebSocket } from "ws";', cjs: 'const { WebSocket } = require("ws");' } },
  "with the global WebSocket": { flags: "WebSocket" in globalThis ? [] : ["--experimental-websocket"], options: "{}" },
  "without any WebSocket": { flags: [], options: '{ transports: ["stream", "poll"] }' },
};
for (const [how, { flags, options, first }] of Object.entries(HOW)) {
  for (const kind of ["mjs", "cjs"]) {
    test(`a program of kind ${kind}, ${how}`, async (t) => {
      const gateway = await listen(t);
      const load = kind === "mjs" ? 'import { Holdfast } from "holdfast";' : 'const { Holdfast } = require("holdfast");';
      const program = write(`program-${how.replace(/\W/g, "-")}.${kind}`, `
        ${first?.[kind] ?? ""}
        ${load}
        const client = new Holdfast(process.argv[2], ${options});
        const calls = client.subscribe("calls.a");
        const main = async () => {
          await calls.ready();
          console.log("ready");
          const seen = [];
          for await (const { data } of calls) if (seen.push(data) === 5) break;
          await calls.message({ got: seen.length });
          console.log(JSON.stringify([seen, client.stats().transport]));
          client.close();
        };
        main();
      `);
      const running = start(t, ...flags, program, gateway.url);
      await running.until((line) => line === "ready");
      for (let i = 0; i < 5; i++) gateway.server.publish("calls.a");
      await running.end();
      const [seen, transport] = JSON.parse(running.lines.at(-1));
      assert.deepEqual(seen, [0, 1, 2, 3, 4]);
      assert.equal(transport, how === "without any WebSocket" ? "stream" : "websocket");
      assert.equal(gateway.server.executed.length, 1, "what it has sent");
    });
  }
}

for (const name of ["index.mjs", "index.cjs"]) {
  test(`examples/node/${name}`, async (t) => {
    const { server, url } = await listen(t);
    fs.copyFileSync(path.join(repository, "examples/node", name), path.join(app, name));
    const running = start(t, name, url);
    const deadline = performance.now() + DEADLINE_MS;
    while (!server.executed.length && performance.now() < deadline) await new Promise(setImmediate);
    assert.equal(server.executed.length, 1, "what it has sent");
    for (let i = 0; i < 3; i++) server.publish("calls.live");
    await running.until((line) => line === "3 2");
    assert.deepEqual(running.lines, ["1 0", "2 1", "3 2"]);
    running.child.kill("SIGINT");
    await running.end();
    assert.match(running.complaints, /^connecting .*\nconnected .*\nclosed \(closed_by_app\)\n$/);
  });
}

test("types are found, with import and with require, and in older TypeScript as well", async () => {
  const usage = `
import { Holdfast, HoldfastError, type Message } from "holdfast";
import { diagnose } from "holdfast/diagnose.js";
import { useConnection, useSubscription } from "holdfast/react";
import { connectionStore, subscriptionStore } from "holdfast/store";
import ReconnectingWebSocket from "holdfast/reconnecting-websocket";

const client: Holdfast = new Holdfast("ws://h/");
const store = subscriptionStore(client, "calls.a", { initial: 0, reduce: (sum: number, { data }: Message) => sum + data });
export const sum: number = store.get().value + useSubscription(client, "calls.a", { initial: 1, reduce: (n: number) => n }).value;
export const told = [useConnection(client).state === "closed", connectionStore(client).get().transport === "poll"];
export const socket = new ReconnectingWebSocket("ws://h/");
export const text = async () => ((await diagnose("ws://h/")).text + (await client.diagnose()).text).length;
// @ts-expect-error the types are there, and say that it is not a number
export const wrong: number = client.state;
export const failed = (error: unknown) => error instanceof HoldfastError && error.code.length;
`;
  for (const kind of ["mts", "cts"]) write(`usage.${kind}`, usage);
  write("usage.ts", usage);
  const strict = ["--strict", "--target", "ES2022", "--lib", "ES2022,DOM,DOM.Iterable", "--noEmit"];
  await Promise.all([
    run("tsc", [...strict, "--module", "node16", "--moduleResolution", "node16", "usage.mts", "usage.cts"], { cwd: app }),
    run("tsc", [...strict, "--module", "ES2022", "--moduleResolution", "node", "usage.ts"], { cwd: app }),
  ]);
});
