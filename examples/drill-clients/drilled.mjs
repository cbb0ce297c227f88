// The JavaScript client as a drill drives it: in Node (holdfast-js.mjs) and in a page (browser.html).

/**
 * @param {typeof import("../../clients/js/holdfast.js").Holdfast} Holdfast
 * @param {typeof WebSocket} WebSocket
 * @param {(line: string) => void} write takes a line of the drill's protocol
 */
export const drilled = (Holdfast, WebSocket, write) => {
  let client;
  const say = (saw, more = {}) => write(JSON.stringify({ saw, ...more }));

  class Watched extends WebSocket {
    constructor(...args) {
      // A line beside the one that works is opened when that one is doubted.
      if (client?.state === "connected") say("lost");
      say("attempt", { transport: "websocket" });
      super(...args);
    }
  }

  const connect = async ({ url, subscription }) => {
    client = new Holdfast(url.replace(/^ws/, "http"), { WebSocket: Watched, storage: null });
    client.on("state", ({ state }) => {
      if (state === "reconnecting" || state === "suspended") say("lost");
    });
    client.on("connected", ({ transport }) => say("open", { transport: transport ?? undefined }));
    client.on("error", ({ code, message }) => say("problem", { text: `${code}: ${message}` }));
    const topic = client.subscribe(subscription);
    topic.on("message", ({ data }) => say("message", { data }));
    topic.on("gap", ({ after, next }) => say("gap", { after: after ?? undefined, next: next ?? undefined }));
    topic.on("error", ({ message }) => say("failed", { text: message }));
    await topic.ready();
    say("ready");
  };

  return {
    /** @param {{do: string, url?: string, subscription?: string}} order */
    order(order) {
      if (order.do === "connect") connect(order).catch((error) => say("failed", { text: String(error) }));
      else if (order.do === "wake") client?.connect();
      else if (order.do === "close") client?.close();
    },
  };
};
