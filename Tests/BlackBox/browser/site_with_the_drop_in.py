"""A page and a worker that use the drop-in class, and nothing else of ours."""

from __future__ import annotations

import contextlib
import http.server
import pathlib
import threading
from collections.abc import Iterator

MODULE = pathlib.Path(__file__).parents[3] / "clients/js/reconnecting-websocket.js"

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
    files = {
        "/": ("text/html", PAGE.encode()),
        "/worker.js": ("text/javascript", WORKER.encode()),
        "/reconnecting-websocket.js": ("text/javascript", MODULE.read_bytes()),
    }

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            kind, body = files.get(self.path, ("", b""))
            self.send_response(200 if kind else 404)
            self.send_header("Content-Type", f"{kind or 'text/plain'}; charset=utf-8")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/"
        finally:
            server.shutdown()
            thread.join()
