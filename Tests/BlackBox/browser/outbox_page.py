"""A page with an outbox, served with its modules by an origin of its own, and what its browser has kept of it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from static_site import HTML, client_modules, serving

#: `start()` makes a client that keeps its messages; `kept()` reads the database past the client.
PAGE = """<!doctype html>
<meta charset="utf-8">
<title>A page with an outbox</title>
<link rel="icon" href="data:,">
<script type="module">
import { Holdfast } from "/holdfast.js";

window.delivered = [];
window.replies = [];
window.problems = [];
window.start = (url, topic, options) => {
  window.client = new Holdfast(url, { persist: true, identity: "user-42", ...options });
  client.on("delivered", ({ error, ...event }) => delivered.push({ ...event, error: error?.code ?? null }));
  client.on("error", ({ code, message }) => problems.push(`${code}: ${message}`));
  window.sub = client.subscribe(topic);
};
window.say = (...numbers) => {
  for (const n of numbers) sub.message({ n }).then((reply) => replies.push(reply), ({ code }) => replies.push({ n, code }));
};
window.kept = () => new Promise((resolve, reject) => {
  const request = indexedDB.open("holdfast-outbox");
  request.onerror = () => reject(request.error);
  request.onsuccess = () => {
    const { result } = request;
    if (!result.objectStoreNames.contains("messages")) return resolve([]);
    result.transaction("messages").objectStore("messages").getAll().onsuccess = ({ target }) => {
      result.close();
      resolve(target.result);
    };
  };
});
window.ready = true;
</script>
<h1>A page with an outbox</h1>
"""


@contextlib.contextmanager
def outbox_site() -> Iterator[str]:
    """Serves the page for the length of a block and gives its address. What is stored belongs to it."""
    with serving({"/": (HTML, PAGE.encode()), **client_modules("holdfast.js", "http.js", "outbox.js")}) as address:
        yield address
