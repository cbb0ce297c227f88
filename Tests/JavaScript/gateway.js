// The gateway's HTTP transports in one process: sessions and topics are those of world.js, this is what carries them.
// A test double: it trusts its callers, and a test may look into it and spoil it.

import http from "node:http";

const JSON_TYPE = { "content-type": "application/json" };

/** What a session of world.js has for a line: whoever listens at the moment. */
class Carrier {
  heardAt = 0;
  session = null;
  down = { send: (deliver) => deliver() };
  /** @type {object[]|null} the answer to POST /session, while it is collected */
  answer = null;
  /** @type {{say: (event: object) => void, end: (code: number, reason: string) => void}|null} */
  listener = null;

  received(text) {
    const event = JSON.parse(text);
    if (event.event === "hello" && event.session) event.session += ".secret";
    if (this.answer) this.answer.push(event);
    else this.listener?.say(event); // else it is in the session's outbox
  }

  closed(code) {
    this.listener?.end(code, "");
  }
}

export class Gateway {
  /** Every request: {method, path, headers, body}. */
  requests = [];
  /** (request, response) => true: a test answers in the gateway's place. */
  intercept = () => false;
  heartbeat = 4_000;

  /** @param {import("./world.js").Server} server */
  constructor(server) {
    this.server = server;
    this.http = http.createServer((request, response) => this.#serve(request, response));
  }

  async listen() {
    await new Promise((resolve) => this.http.listen(0, "127.0.0.1", resolve));
    this.port = this.http.address().port;
    return this;
  }

  close() {
    this.http.closeAllConnections();
    return new Promise((resolve) => this.http.close(resolve));
  }

  /**
   * A WebSocket of Debian's `ws`, on the same sessions.
   * @param {any} socket
   */
  attach(socket) {
    const transport = {
      session: null,
      heardAt: 0,
      down: { send: (deliver) => deliver() },
      received: (text) => socket.send(text.replace(/"session":"(\w+)"/, '"session":"$1.secret"')),
      closed: (code) => socket.close(code),
    };
    socket.on("message", (data) => this.server.receive(transport, String(data).replace('.secret"', '"')));
    socket.on("close", () => this.server.gone(transport));
    socket.on("error", () => {});
  }

  /** The requests since, as "METHOD /path". */
  take() {
    return this.requests.splice(0).map(({ method, path }) => `${method} ${path}`);
  }

  async #serve(request, response) {
    const { method, headers } = request;
    let text = "";
    for await (const chunk of request) text += chunk;
    // The number of a request to listen says nothing to most tests.
    const [path, inQuery] = request.url.split("&number=");
    const { number = Number(inQuery), ...body } = text ? JSON.parse(text) : {};
    const seen = { method, path, headers, number, body: text.startsWith("[") ? JSON.parse(text) : text ? body : undefined };
    this.requests.push(seen);
    if (this.intercept(seen, response)) return;
    const { pathname, searchParams } = new URL(path, "http://h");
    const answer = (status, body) => response.writeHead(status, JSON_TYPE).end(JSON.stringify(body));
    if (pathname === "/health") return answer(200, { status: "ok" });
    if (pathname === "/session") return answer(200, this.#open(seen.body));
    const [, handle, verb] = pathname.match(/^\/session\/(\w+)\/(send|stream|poll)$/) ?? [];
    if (!verb) return response.writeHead(426).end("This is a Holdfast gateway. Connect to it with a WebSocket.\n");
    const session = headers.authorization === "Holdfast secret" && this.server.sessions.get(handle);
    if (!session) return answer(404, { event: "hello", status: "error", error: "Unknown session.", code: "unknown_session" });
    const carrier = session.transport;
    if (!(carrier instanceof Carrier)) return answer(409, { status: "error", error: "Replaced.", code: "replaced" });
    if (verb === "send") return this.#send(carrier, seen.body, answer);
    carrier.listener?.end(4000, "a newer one");
    if (verb === "stream") this.#stream(carrier, response);
    else this.#poll(carrier, seen.body.wait, answer);
    this.#repeat(session, carrier, Number(seen.body?.received ?? searchParams.get("received")));
  }

  #open(events) {
    const carrier = new Carrier();
    carrier.answer = [];
    for (const event of events) {
      // world.js knows sessions by their handle.
      if (event.resume) event.resume.session = event.resume.session.replace(".secret", "");
      this.server.receive(carrier, JSON.stringify(event));
    }
    const { answer, session } = carrier;
    carrier.answer = null;
    if (session?.received) answer.push({ event: "ack", received: session.received });
    return answer;
  }

  #send(carrier, { seq, events }, answer) {
    const { session } = carrier;
    if (seq > session.received + 1) return answer(409, { status: "error", error: "There is a hole.", received: session.received });
    if (seq === session.received + 1) for (const event of events) this.server.receive(carrier, JSON.stringify(event));
    answer(200, { received: session.received });
  }

  #repeat(session, carrier, received) {
    this.server.acknowledge(session, received);
    for (const event of session.outbox) carrier.listener?.say(event);
  }

  #stream(carrier, response) {
    response.writeHead(200, { "content-type": "text/event-stream" }).write(": here\n\n");
    const beat = setInterval(() => response.write(": hb\n\n"), this.heartbeat);
    response.on("close", () => clearInterval(beat));
    carrier.listener = {
      say: (event) => response.write(`data: ${JSON.stringify(event)}\n\n`),
      end: (code, reason) => {
        carrier.listener = null;
        response.end(`event: close\ndata: ${JSON.stringify({ code, reason })}\n\n`);
      },
    };
  }

  #poll(carrier, wait, answer) {
    const events = [];
    const finish = (status, body) => {
      clearTimeout(timer);
      carrier.listener = null;
      answer(status, body);
    };
    const timer = setTimeout(() => finish(200, { events }), wait * 1_000);
    const waits = () => carrier.listener?.say === say;
    const say = (event) => events.push(event) === 1 && setImmediate(() => waits() && finish(200, { events }));
    const replaced = { status: "error", error: "A newer transport carries this session.", code: "replaced" };
    const end = (code, reason) => (code === 4000 ? finish(409, replaced) : finish(200, { events, close: { code, reason } }));
    carrier.listener = { say, end };
  }
}
