"""A page of another origin that uses the gateway's client, as the pages of its users do."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from static_site import HTML, serving

#: `start()` makes a client whose events are kept in `told`; `take(n, loop)` is a `for await` of n messages.
PAGE = """<!doctype html>
<meta charset="utf-8">
<title>A page of another origin</title>
<link rel="icon" href="data:,">
<script type="module">
import { Holdfast, HoldfastError } from "GATEWAY/holdfast.js";

window.told = [];
window.start = (options, url = "GATEWAY/socket") => {
  window.client = new Holdfast(url, options);
  for (const type of ["state", "connected", "recovered", "gap", "rtt", "error"]) {
    client.on(type, (event) => told.push({ type, at: Date.now(), ...event, message: event.message }));
  }
  return client;
};
window.take = async (count, loop) => {
  const messages = [];
  if (count > 0) for await (const message of loop) if (messages.push(message) === count) break;
  return messages;
};
window.failure = (promise) => promise.then(
  () => null,
  (error) => ({ isHoldfastError: error instanceof HoldfastError, code: error.code, message: error.message }),
);
window.ready = true;
</script>
<h1>A page of another origin</h1>
"""


def page_for(gateway: str) -> bytes:
    """`gateway`: its origin, or the path below which the page's own origin has it."""
    return PAGE.replace("GATEWAY", gateway).encode()


@contextlib.contextmanager
def site(gateway_origin: str) -> Iterator[str]:
    """Serves the page for the length of a block and gives its address."""
    with serving({"/": (HTML, page_for(gateway_origin))}) as address:
        yield address
