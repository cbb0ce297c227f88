// diagnose.js: what it says about networks of all kinds.

import assert from "node:assert/strict";
import { after, test } from "node:test";
import { diagnose } from "../../clients/js/diagnose.js";
import { Holdfast } from "../../clients/js/holdfast.js";
import { Gateway } from "./gateway.js";
import { Server } from "./world.js";

const closers = [];
after(() => Promise.all(closers.map((close) => close())));

/** WebSockets as a network makes them. */
class Socket {
  static sent = [];
  constructor(url) {
    this.url = url;
    setImmediate(() => this.begin());
  }
  begin() {
    this.onopen?.({});
  }
  send(text) {
    Socket.sent.push(text);
    setImmediate(() => this.onmessage?.({ data: '{"event":"probe","status":"ok"}' }));
  }
  close() {
    this.closed = true;
  }
}
class Refused extends Socket {
  begin() {
    this.onclose?.({ code: 1006 });
  }
}
class Hanging extends Socket {
  begin() {}
}
class Silent extends Socket {
  send() {}
}
class Cut extends Socket {
  send() {
    this.onclose?.({ code: 1006 });
  }
}

async function examine(WebSocket, intercept = () => false, options = {}) {
  const clock = { now: 0, after: (ms, action) => ms === 0 && action(), at() {} };
  const heartbeat = { interval: 4, hidden_interval: 25, timeout: 5 };
  const gateway = await new Gateway(new Server(clock, () => 0, { history: 9, outbox: 99, ttl: 60_000, heartbeat })).listen();
  closers.push(() => gateway.close());
  gateway.intercept = intercept;
  const diagnosis = await diagnose(`http://127.0.0.1:${gateway.port}/socket`, { WebSocket, ...options });
  return { ...diagnosis, gateway, good: diagnosis.checks.filter(({ ok }) => ok).map(({ name }) => name) };
}

const page = (status, text, headers = {}) => (_, response) => (response.writeHead(status, headers).end(text), true);
const only = (pattern, answer) => (request, response) => pattern.test(request.path) && answer(request, response);
const ALL = ["http", "websocket", "session", "stream", "poll"];

test("all is well: every check is told when it begins and when it ends, one session is opened, no secret is in a URL", async () => {
  const told = [];
  const { verdict, text, advice, checks, good, gateway } = await examine(Socket, undefined, {
    onCheck: ({ name, ok }) => told.push(`${name} ${ok}`),
    headers: () => ({ "x-tenant": "t1" }),
  });
  assert.equal(verdict, "websocket");
  assert.match(text, /^WebSockets work \(\d+ ms\), and so do the event stream and long polling\.$/);
  assert.deepEqual([good, advice], [ALL, []]);
  assert.deepEqual(told, ALL.flatMap((name) => [`${name} null`, `${name} true`]));
  assert.ok(checks.every(({ ms, detail }) => Number.isInteger(ms) && ms < 5_000 && detail));
  assert.deepEqual(gateway.requests.map(({ method, path }) => `${method} ${path}`), [
    "GET /health", "POST /session", "POST /session", "GET /session/s1/stream?received=0", "POST /session/s1/poll", "POST /session/s1/send",
  ]);
  assert.ok(gateway.requests.every(({ headers }) => headers["x-tenant"] === "t1"));
  assert.equal(gateway.requests[2].body[0].headers["x-tenant"], "t1");
  assert.deepEqual(Socket.sent, ['{"event":"probe"}']);
});

test("WebSockets that do not get through, in each way", async () => {
  const ways = [
    [Refused, /^Something between you and the server refuses WebSocket upgrades; the event stream works \(\d+ ms\)\.$/, /proxy_set_header Upgrade/],
    [Hanging, /^Something between you and the server lets WebSocket handshakes hang; the event stream works/, /virus scanner/],
    [Silent, /^Something between you and the server lets WebSockets open and then carries nothing over them; the event stream/, /virus scanner/],
    [Cut, /^Something between you and the server cuts WebSockets as soon as they are open; the event stream/, /virus scanner/],
  ];
  await Promise.all(ways.map(async ([kind, words, hint]) => {
    const { verdict, text, advice, good } = await examine(kind);
    assert.equal(verdict, "stream");
    assert.match(text, words);
    assert.match(advice[0], /^Nothing has to be done: the client uses the event stream by itself/);
    assert.match(advice.join(), hint);
    assert.deepEqual(good, ALL.filter((name) => name !== "websocket"));
  }));
});

test("something else answers where WebSockets are opened: it is named", async () => {
  const proxy = page(404, "<html><head><title>404  Not\nFound</title></head><body>x</body></html>", { server: "nginx" });
  const { text, checks, advice } = await examine(Refused, only(/socket/, proxy));
  assert.match(text, /^At the address of the WebSocket something else answers than the gateway \(HTTP 404 from nginx, “404 Not Found”\); the event stream works/);
  assert.match(checks[1].detail, /^The handshake was refused. A plain request to the same address is answered by HTTP 404 from nginx/);
  assert.match(advice.join(), /Let the path of the socket lead to the gateway/);
});

test("answers that are held back: long polling is left", async () => {
  const held = only(/stream/, () => true);
  const both = await Promise.all([examine(Refused, held), examine(Socket, held)]);
  assert.deepEqual(both.map(({ verdict }) => verdict), ["poll", "websocket"]);
  assert.match(both[0].text, /refuses WebSocket upgrades and holds event streams back; long polling works \(\d+ ms\)\.$/);
  assert.match(both[1].text, /^WebSockets work \(\d+ ms\)\. Should they fail one day, long polling is left/);
  for (const { checks, advice } of both) {
    assert.match(checks[3].detail, /^No byte came within 3 s/);
    assert.match(advice.join(), /proxy_buffering off/);
  }
});

test("only WebSockets get through", async () => {
  const { verdict, text, good } = await examine(Socket, only(/session/, page(404, "<html>nothing here")));
  assert.equal(verdict, "websocket");
  assert.deepEqual(good, ["http", "websocket"]);
  assert.match(text, /Should they fail one day, nothing would take their place: not the gateway answered, but HTTP 404, “nothing here”\.$/);
});

test("nothing works: the gateway is reached, or somebody else, or nobody", async () => {
  const draining = page(503, JSON.stringify({ status: "error", error: "This gateway is being stopped.", code: "draining" }));
  const [reached, elsewhere, portal, nobody] = await Promise.all([
    examine(Refused, only(/session/, draining)),
    examine(Refused, only(/session|socket/, page(404, "<html>nothing here"))),
    examine(Refused, page(200, "<title>Hotel WiFi</title>Please log in")),
    diagnose("http://127.0.0.1:1/socket", { WebSocket: Refused }),
  ]);
  assert.equal(reached.verdict, "none");
  assert.match(reached.text, /refuses WebSocket upgrades, and nothing takes their place: the gateway answered HTTP 503: This gateway is being stopped\.$/);
  assert.match(elsewhere.text, /^The server answers plain requests, but something else answers those with events: HTTP 404, “nothing here”\.$/);
  assert.equal(portal.text, "Something else answers in the place of the server: HTTP 200, “Hotel WiFi”.");
  assert.match(nobody.text, /^The server does not answer, not even a plain request: the request failed/);
  assert.ok(nobody.checks.every(({ ok, ms }) => ok === false && Number.isInteger(ms)));
});

test("a page whose origin is not let in", async () => {
  const fetch = async (_url, { mode }) => {
    if (mode === "no-cors") return Response.error();
    throw new TypeError("Failed to fetch");
  };
  const { text, advice, checks } = await diagnose("https://example.com/socket", { WebSocket: Refused, fetch });
  assert.match(text, /^The server answers, but it does not let pages of this origin in/);
  assert.match(checks[0].detail, /cors\.origins/);
  assert.match(advice.join(), /cors\.origins/);
});

test("client.diagnose() uses the client's address and options, and leaves its line alone", async () => {
  const { gateway } = await examine(Socket);
  gateway.requests.length = 0;
  const client = new Holdfast(`ws://127.0.0.1:${gateway.port}/socket`, { WebSocket: Socket, autoConnect: false, headers: { "x-tenant": "t2" } });
  const { verdict } = await client.diagnose();
  assert.equal(verdict, "websocket");
  assert.ok(gateway.requests.length >= 6 && gateway.requests.every(({ headers }) => headers["x-tenant"] === "t2"));
  assert.equal(client.state, "idle");
});
