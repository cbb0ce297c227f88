// What users write. Compiled against the .d.ts and against the module: both must take it, and refuse the rest.

import Default, { ReconnectingWebSocket, CloseEvent, ErrorEvent, Event } from "./reconnecting-websocket.js";

const rws: ReconnectingWebSocket = new ReconnectingWebSocket("wss://example.com/");
new Default(() => "wss://example.com/", "chat");
new Default(async () => "wss://example.com/", ["chat", "other"], {});
new Default("wss://example.com/", null, { WebSocket, maxRetries: Infinity, startClosed: true, debug: true, debugLogger: console.debug });
new Default("wss://example.com/", async () => "chat", { heartbeat: true, jitter: false, random: () => 0.5 });
new Default("wss://example.com/", undefined, { heartbeat: { ping: () => `${Date.now()}`, isPong: ({ data }) => data === "pong" } });
new Default("wss://example.com/", undefined, { heartbeat: { interval: 5_000, timeout: 2_000, ping: new Uint8Array([9]) } });
// @ts-expect-error a number is no URL
new Default(5);
// @ts-expect-error an unknown option
new Default("", [], { maxRetry: 5 });
// @ts-expect-error not a number
new Default("", [], { maxRetries: "5" });
// @ts-expect-error no such part
new Default("", [], { heartbeat: { every: 5 } });

rws.onopen = ({ type, target }: Event) => console.log(type.length, target);
rws.onmessage = ({ data }) => console.log(data.anything);
rws.onclose = ({ code, reason, wasClean }: CloseEvent) => console.log(code.toFixed(), reason.length, wasClean === true);
rws.onerror = ({ message, error }: ErrorEvent) => console.log(message.length, error.stack);
rws.onerror = null;
// @ts-expect-error no function
rws.onopen = 5;

rws.addEventListener("close", ({ code }) => console.log(code.toFixed()));
rws.addEventListener("message", { handleEvent: ({ data }) => console.log(data) });
rws.removeEventListener("open", () => {});
// @ts-expect-error no such event
rws.addEventListener("reconnect", () => {});
const dispatched: boolean = rws.dispatchEvent(new Event("open", rws));

for (const data of ["text", new ArrayBuffer(1), new Uint8Array(1), new DataView(new ArrayBuffer(1)), new Blob([])]) rws.send(data);
// @ts-expect-error an object is no message
rws.send({});
rws.close();
rws.close(4000, "enough");
rws.reconnect();
rws.reconnect(4000, "moved");

rws.binaryType = "arraybuffer";
// @ts-expect-error no such type
rws.binaryType = "text";
// @ts-expect-error of the connection
rws.url = "";
const states: number[] = [rws.CONNECTING, ReconnectingWebSocket.OPEN, rws.CLOSING, Default.CLOSED];
console.log(states, dispatched, rws.readyState === rws.OPEN, rws.retryCount.toFixed(), rws.shouldReconnect, rws.bufferedAmount.toFixed());
console.log(rws.protocol.length, rws.url.length, rws.extensions.length);
