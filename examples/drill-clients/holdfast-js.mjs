// The JavaScript client in Node, for `holdfast drill --with 'node examples/drill-clients/holdfast-js.mjs'`.
// Node 22 and later have a WebSocket of their own; for older ones: npm install ws
import { createInterface } from "node:readline";
import { drilled } from "./drilled.mjs";

const WebSocket = globalThis.WebSocket ?? (await import("ws")).WebSocket;
const { Holdfast } = await import("../../clients/js/holdfast.js");
const client = drilled(Holdfast, WebSocket, (line) => process.stdout.write(`${line}\n`));

for await (const line of createInterface({ input: process.stdin })) {
  const order = JSON.parse(line);
  if (order.do === "close") break;
  client.order(order);
}
client.order({ do: "close" });
process.exit(0);
