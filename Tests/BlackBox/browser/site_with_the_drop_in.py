"""A page and a worker that use the drop-in class, and nothing else of ours."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from static_site import HTML, SCRIPT, client_modules, serving

#: `start()` makes an object whose events are kept in `told`, and `work()` makes one in a worker, which tells them to the page.
PAGE = """<!doctype html>
<meta charset="utf-8">
<title>The drop-in class</title>
<link rel="icon" href="data:,">
<script type="module">
import ReconnectingWebSocket, * as module from "/reconnecting-websocket.js";

window.told = [];
window.module = module;
window.note = (event) => {
  const { type, data, code, reason, wasClean, message, target } = event;
  const text = data instanceof ArrayBuffer ? [...new Uint8Array(data)] : data instanceof Blob ? `Blob of ${data.size}` : data;
  const { readyState: state, retryCount: retries } = rws;
  told.push({ type, data: text, code, reason, wasClean, message, at: Date.now(), state, retries, own: target === rws });
};
window.start = (...parameters) => {
  window.rws = new ReconnectingWebSocket(...parameters);
  for (const type of ["open", "message", "close", "error"]) rws.addEventListener(type, note);
};
window.work = (...parameters) => {
  window.worker = new Worker("/worker.js", { type: "module" });
  worker.onmessage = ({ data }) => told.push(data);
  worker.onerror = (event) => told.push({ type: "worker", message: event.message });
  worker.postMessage(parameters);
};
window.ready = true;
</script>
<h1>The drop-in class</h1>
"""

WORKER = """import ReconnectingWebSocket from "/reconnecting-websocket.js";
self.onmessage = ({ data: parameters }) => {
  const rws = new ReconnectingWebSocket(...parameters);
  for (const type of ["open", "message", "close", "error"]) {
    rws.addEventListener(type, ({ data, code, reason }) => postMessage({ type, data, code, reason, at: Date.now() }));
  }
  self.onmessage = ({ data: text }) => rws.send(text);
};
"""


@contextlib.contextmanager
def site() -> Iterator[str]:
    """Serves them for the length of a block and gives the page's address."""
    pages = {"/": (HTML, PAGE.encode()), "/worker.js": (SCRIPT, WORKER.encode())}
    with serving({**pages, **client_modules("reconnecting-websocket.js")}) as address:
        yield address
