// node index.mjs [url]: shows what is published to calls.live, until Ctrl-C.
import { Holdfast } from "holdfast";
import { WebSocket } from "ws"; // Node 22 and later have one of their own: leave it out

const client = new Holdfast(process.argv[2] ?? "http://127.0.0.1:8080/socket", { WebSocket });
client.on("state", ({ state, reason }) => console.error(`${state} (${reason})`));

const calls = client.subscribe("calls.live");
calls.on("message", ({ offset, data }) => console.log(offset, JSON.stringify(data)));
calls.on("gap", ({ missing }) => console.log(`lost: ${missing ?? "nobody knows how many"}`));
process.once("SIGINT", () => client.close()); // Then nothing keeps the process alive.

await calls.ready();
await calls.message({ hello: "from an ES module" });
