// What a page has to load. Needs esbuild (Debian: esbuild).

import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { readdirSync } from "node:fs";
import { test } from "node:test";
import { fileURLToPath } from "node:url";
import { gzipSync } from "node:zlib";

const client = fileURLToPath(new URL("../../clients/js/", import.meta.url));
/** Most bytes of what is loaded by every page that uses it; the others are loaded when they are needed. */
const LIMITS = { "holdfast.js": 12 * 1024, "reconnecting-websocket.js": 3 * 1024 };

function size(name) {
  try {
    return gzipSync(execFileSync("esbuild", ["--minify", "--format=esm", client + name]), { level: 9 }).length;
  } catch (error) {
    assert.notEqual(error.code, "ENOENT", "esbuild is missing: apt-get install esbuild");
    throw error;
  }
}

for (const name of readdirSync(client).filter((name) => name.endsWith(".js"))) {
  test(`${name} is small: esbuild --minify | gzip -9`, (t) => {
    const [length, limit] = [size(name), LIMITS[name]];
    t.diagnostic(`${name}: ${length} bytes (${(length / 1024).toFixed(2)} KiB)${limit ? `, limit ${limit}` : ""}`);
    assert.ok(length <= (limit ?? Infinity), `${length} bytes`);
  });
}

test("each limit is that of a module", () => assert.ok(Object.keys(LIMITS).every(size)));
