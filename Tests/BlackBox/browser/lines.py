"""Watches the page's WebSockets from inside the page, so that the client is not asked how the client did."""

from __future__ import annotations

from typing import Any

from drivers import Browser

#: Entries kept per connection; a test sees minutes, not hours.
LIMIT = 5_000

#: Runs before the page's scripts. `window.__lines` gets one entry per WebSocket, times in ms since 1970.
RECORDER = """() => {
  const limit = LIMIT;
  const eventOf = (text) => { try { return JSON.parse(text).event ?? null; } catch { return null; } };
  const note = (list, entry) => { if (list.length < limit) list.push(entry); };
  window.__lines = [];
  window.WebSocket = class extends window.WebSocket {
    #line;
    constructor(...parameters) {
      super(...parameters);
      const line = { at: Date.now(), opened: null, closed: null, letGo: null, sent: [], heard: [] };
      this.#line = line;
      window.__lines.push(line);
      this.addEventListener("open", () => { line.opened = Date.now(); });
      this.addEventListener("close", (e) => { line.closed = Date.now(); line.code = e.code; });
      this.addEventListener("message", (e) => note(line.heard, [Date.now(), eventOf(e.data)]));
    }
    send(data) {
      note(this.#line.sent, [Date.now(), eventOf(data)]);
      super.send(data);
    }
    close(...parameters) {
      this.#line.letGo ??= Date.now();
      super.close(...parameters);
    }
  };
}""".replace("LIMIT", str(LIMIT))


async def watch(browser: Browser) -> None:
    """To be called before the page is opened."""
    await browser.preload(RECORDER)


async def lines(browser: Browser) -> list[dict[str, Any]]:
    return await browser.evaluate("window.__lines")


def sent(line: dict[str, Any], event: str) -> list[float]:
    """When the page sent such an event on this line, in seconds since 1970."""
    return [at / 1000 for at, name in line["sent"] if name == event]
