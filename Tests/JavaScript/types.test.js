// The modules are type-checked, and their .d.ts are in step with them. Needs tsc (Debian: node-typescript).

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
const STRICT = ["--strict", "--target", "ES2022", "--module", "ES2022", "--moduleResolution", "node", "--lib", "ES2022,DOM,DOM.Iterable", "--noEmit", "--allowJs", "--checkJs"];

let folder;
before(() => (folder = fs.mkdtempSync(path.join(os.tmpdir(), "holdfast-types-"))));
after(() => fs.rmSync(folder, { recursive: true, force: true }));

async function tsc(...parameters) {
  try {
    await promisify(execFile)("tsc", parameters, { cwd: folder });
  } catch (error) {
    assert.notEqual(error.code, "ENOENT", "tsc is missing: apt-get install node-typescript");
    assert.fail(error.stdout || String(error));
  }
}

/** A folder of its own with these files of the client. */
function place(name, ...files) {
  fs.mkdirSync(path.join(folder, name), { recursive: true });
  for (const file of files) fs.copyFileSync(path.join(client, file), path.join(folder, name, file));
  // So that no types of other packages are found.
  fs.mkdirSync(path.join(folder, "node_modules/@types"), { recursive: true });
}

test("the modules are clean under strict checks", () => tsc("-p", client));

test("what users write fits both, and the .d.ts declare what the modules are, no less and no more", async () => {
  place("declared", "holdfast.d.ts", "diagnose.d.ts");
  place("real", "holdfast.js", "http.js", "diagnose.js", "outbox.js", "tabs.js");
  const usage = ["declared", "real"].map((name) => path.join(folder, name, "usage.ts"));
  for (const file of usage) fs.copyFileSync(path.join(types, "usage.ts"), file);
  fs.copyFileSync(path.join(types, "same.ts"), path.join(folder, "same.ts"));
  await tsc(...STRICT, "same.ts", ...usage);
});

test("package.json names files that exist, and the versions agree", () => {
  const manifest = JSON.parse(fs.readFileSync(path.join(client, "package.json"), "utf8"));
  for (const file of manifest.files) assert.ok(fs.existsSync(path.join(client, file)), file);
  assert.equal(manifest.types, manifest.exports["."].types);
  const source = fs.readFileSync(path.join(client, "holdfast.js"), "utf8");
  assert.ok(source.includes(`{ name: "holdfast-js", version: "${manifest.version}" }`));
});
