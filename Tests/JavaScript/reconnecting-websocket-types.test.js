// The drop-in class is type-checked, and its .d.ts is in step with it. Needs tsc (Debian: node-typescript).

import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import fs from "node:fs";
import os from "node:os";
import path from "node:path";
import { after, before, test } from "node:test";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";

const client = fileURLToPath(new URL("../../clients/js/", import.meta.url));
const types = fileURLToPath(new URL("./types/", import.meta.url));
const STRICT = [
  "--strict", "--noUnusedLocals", "--noUnusedParameters", "--noImplicitReturns", "--noEmit", "--allowJs", "--checkJs",
  "--target", "ES2022", "--module", "ES2022", "--moduleResolution", "node", "--lib", "ES2022,DOM,DOM.Iterable",
];

let folder;
before(() => {
  folder = fs.mkdtempSync(path.join(os.tmpdir(), "holdfast-types-"));
  fs.mkdirSync(path.join(folder, "node_modules/@types"), { recursive: true }); // so that no types of other packages are found
  for (const [name, file] of [["declared", "reconnecting-websocket.d.ts"], ["real", "reconnecting-websocket.js"]]) {
    fs.mkdirSync(path.join(folder, name));
    fs.copyFileSync(path.join(client, file), path.join(folder, name, file));
    fs.copyFileSync(path.join(types, "reconnecting-websocket-usage.ts"), path.join(folder, name, "usage.ts"));
  }
  fs.copyFileSync(path.join(types, "reconnecting-websocket-same.ts"), path.join(folder, "same.ts"));
});
after(() => fs.rmSync(folder, { recursive: true, force: true }));

async function tsc(...files) {
  try {
    await promisify(execFile)("tsc", [...STRICT, ...files], { cwd: folder });
  } catch (error) {
    assert.notEqual(error.code, "ENOENT", "tsc is missing: apt-get install node-typescript");
    assert.fail(error.stdout || String(error));
  }
}

test("what users write fits both, and the .d.ts declares what the module is, no less and no more", () =>
  tsc("same.ts", "declared/usage.ts", "real/usage.ts"));
