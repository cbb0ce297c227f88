// What users write. Compiled against holdfast.d.ts and against holdfast.js: both must take it, and refuse the rest.

import Default, { Holdfast, HoldfastError, Subscription } from "./holdfast.js";

const client: Holdfast = new Holdfast("/socket", { getToken: async () => "t", maxAttempts: 3, client: { name: "a", version: "1" } });
new Default();
new Holdfast("", { transports: ["stream", "poll"], headers: async () => ({ "X-Tenant": "t1" }), withCredentials: true, storage: localStorage, fetch });
new Holdfast("", { headers: { "X-Tenant": "t1" }, storage: null });
// @ts-expect-error no such transport
new Holdfast("", { transports: ["sse"] });
// @ts-expect-error a header is a string
new Holdfast("", { headers: { "X-Tenant": 1 } });
// @ts-expect-error an unknown option
new Holdfast("", { autoconnect: true });
// @ts-expect-error not a number
new Holdfast("", { connectTimeout: "10s" });

client.on("state", ({ state, previous, reason, nextAttemptInMs }) => {
  const wait: number = nextAttemptInMs ?? 0;
  if (state === "reconnecting" && previous === "connected") console.log(reason, wait);
  // @ts-expect-error no such state
  if (state === "open") return;
});
client.once("connected", ({ resumed, session, node }) => console.log(resumed === true, session.length, node?.length));
client.on("gap", ({ subscription, missing }) => console.log(subscription.length, missing ?? 0)).on("rtt", ({ srtt }) => srtt.toFixed());
client.on("error", (error) => console.log(error instanceof HoldfastError, error.code.length, error.limit, error.actual));
client.on("delivered", ({ subscription, id, reply, error, attempts }) => console.log(subscription.length, id.length, reply, error?.code, attempts.toFixed()));
new Holdfast("/socket", { persist: { maxAge: 60_000 }, identity: "user-42" }).close();
// @ts-expect-error no such limit
new Holdfast("/socket", { persist: { maxSize: 1 } });
client.on("goaway", ({ inMs }) => inMs.toFixed()).off("goaway");
// @ts-expect-error no such event
client.on("message", () => {});

const calls: Subscription = client.subscribe("calls.call_1", { since: { epoch: "e", offset: 1 }, agent: 7 });
calls.on("message", ({ data, offset, gap }) => console.log(data.anything, offset?.toFixed(), gap?.after));
calls.on("recovered", ({ by, messages }) => console.log(by === "session", messages));
calls.on("unsubscribed", ({ error }) => console.log(error?.code));
// @ts-expect-error no such event
calls.on("state", () => {});
// @ts-expect-error a position has an epoch
client.subscribe("calls.call_1", { since: { offset: 1 } });
// @ts-expect-error a subscription's name cannot be changed
calls.name = "other";

export async function use() {
  const { position, recovered } = await calls.ready();
  console.log(position?.epoch.length, recovered);
  for await (const message of calls) {
    const offset: number | null = message.offset;
    // @ts-expect-error no such field
    console.log(message.payload, offset);
    break;
  }
  const reply: string = await calls.message({ answer: true }, { agent: 7 });
  const other: number = await client.message("calls.call_1", null);
  const { srtt, queuedBytes, gaps, transport, websocket, blockedUntil } = client.stats();
  if (transport !== "websocket" && websocket === "blocked" && (blockedUntil ?? 0) > 60_000) client.probe();
  const { verdict, text, checks, advice } = await client.diagnose();
  console.log(verdict === "poll", text.length, checks.map(({ name, ok, ms, detail }) => [name, ok === true, ms?.toFixed(), detail]), advice.join());
  await calls.unsubscribe();
  client.connect().close();
  return [reply, other, srtt, queuedBytes + gaps, calls.position?.offset];
}
