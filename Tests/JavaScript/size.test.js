// What a page has to load. Needs esbuild (Debian: esbuild).

import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { test } from "node:test";
import { fileURLToPath } from "node:url";
import { gzipSync } from "node:zlib";

const LIMIT_BYTES = 12_640; // The aim is 12 KiB: 12_288

test("the module is small: esbuild --minify | gzip -9", (t) => {
  const source = fileURLToPath(new URL("../../clients/js/holdfast.js", import.meta.url));
  let minified;
  try {
    minified = execFileSync("esbuild", ["--minify", "--format=esm", source]);
  } catch (error) {
    assert.notEqual(error.code, "ENOENT", "esbuild is missing: apt-get install esbuild");
    throw error;
  }
  const { length } = gzipSync(minified, { level: 9 });
  t.diagnostic(`${length} bytes (${(length / 1024).toFixed(2)} KiB), limit ${LIMIT_BYTES}`);
  assert.ok(length <= LIMIT_BYTES, `${length} bytes`);
});
