// node index.cjs [url]: shows what is published to calls.live, until Ctrl-C.
const { Holdfast } = require("holdfast");
const { WebSocket } = require("ws"); // Node 22 and later have one of their own: leave it out

const client = new Holdfast(process.argv[2] ?? "http://127.0.0.1:8080/socket", { WebSocket });
client.on("state", ({ state, reason }) => console.error(`${state} (${reason})`));

const calls = client.subscribe("calls.live");
calls.on("message", ({ offset, data }) => console.log(offset, JSON.stringify(data)));
calls.on("gap", ({ missing }) => console.log(`lost: ${missing ?? "nobody knows how many"}`));
process.once("SIGINT", () => client.close()); // Then nothing keeps the process alive.

calls.ready().then(() => calls.message({ hello: "from CommonJS" }));
