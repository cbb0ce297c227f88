"""What runs in the browser's namespace: real Chromium on a page with the JavaScript client, and what that recorded."""

from __future__ import annotations

import contextlib
import json
from collections.abc import AsyncIterator
from typing import Any

import paths  # noqa: F401
import lines
from drivers import Browser, launch
from judging import Line, Try
from server_side import ANSWERS, NUMBERS, PAGE_URL

#: A page over a bad way needs many round trips until it is there.
LOAD_TIMEOUT = 60.0
#: A client that receives events acknowledges them every 4 s.
SPEAKS_WITHIN_S = 10.0

#: Runs before the page's scripts. `__tries` gets an entry for each request that opens a session or asks for one: the
#: lines over HTTP, which `lines.py` does not see. `__spoken` counts what the client says, on whatever transport. Times
#: are in ms since 1970.
RECORDER = """() => {
  window.__tries = [];
  window.__spoken = 0;
  window.__online = [];
  addEventListener("online", () => window.__online.push(Date.now()));
  const { fetch } = window;
  const { send } = WebSocket.prototype;
  WebSocket.prototype.send = function (data) {
    window.__spoken++;
    send.call(this, data);
  };
  window.fetch = (resource, options) => {
    window.__spoken++;
    const path = new URL(resource.url ?? resource, location.href).pathname;
    if (options?.method === "POST" && path.endsWith("/session")) {
      const entry = { at: Date.now(), ended: null };
      window.__tries.push(entry);
      const end = () => { entry.ended = Date.now(); };
      options.signal?.addEventListener("abort", end);
      const answer = fetch(resource, options);
      answer.catch(end);
      return answer;
    }
    return fetch(resource, options);
  };
}"""

#: Fulfilled when nothing that is published from now on can be missed.
SUBSCRIBE = f"""(async () => {{
  window.got = []; window.answers = [];
  start(OPTIONS);
  const topics = ["{NUMBERS}", "{ANSWERS}"].map((name) => client.subscribe(name));
  topics.forEach((topic, n) => topic.on("message", ({{ data }}) => [got, answers][n].push([data, Date.now()])));
  await Promise.all(topics.map((topic) => topic.ready()));
}})()"""


class Page:
    def __init__(self, browser: Browser) -> None:
        self.browser = browser

    async def start(self, options: dict[str, Any]) -> None:
        await self.browser.preload(RECORDER)
        await lines.watch(self.browser)
        await self.browser.open(PAGE_URL)
        await self.browser.until("window.ready", LOAD_TIMEOUT, "the client's module is loaded")
        await self.browser.evaluate(SUBSCRIBE.replace("OPTIONS", json.dumps(options)), LOAD_TIMEOUT)

    async def numbers(self) -> list[tuple[int, float]]:
        """Each number that came, in the order in which it came, and when."""
        return [(number, at / 1000) for number, at in await self.browser.evaluate("got")]

    async def until_it_has(self, number: int, timeout: float, what: str) -> None:
        await self.browser.until(
            f"got.length > 0 && Math.max(...got.slice(-50).map(([n]) => n)) >= {number}", timeout, what, 0.2
        )

    async def until_it_has_just_spoken(self) -> None:
        before = await self.browser.evaluate("__spoken")
        await self.browser.until(f"__spoken > {before}", SPEAKS_WITHIN_S, "the client says something", 0.01)

    async def gaps(self) -> int:
        return await self.browser.evaluate("told.filter(({ type }) => type === 'gap').length")

    async def told_online(self) -> list[float]:
        """When the browser said that the network is there again."""
        return [at / 1000 for at in await self.browser.evaluate("__online")]

    async def stats(self) -> dict[str, Any]:
        return await self.browser.evaluate("client.stats()")

    async def tries(self) -> list[Try]:
        """In the order in which they were begun."""
        sockets = [
            Try("websocket", each["at"] / 1000, _seconds(each["letGo"] or each["closed"]))
            for each in await lines.lines(self.browser)
        ]
        requests = [
            Try("http", each["at"] / 1000, _seconds(each["ended"])) for each in await self.browser.evaluate("__tries")
        ]
        return sorted(sockets + requests, key=lambda each: each.at)

    async def lines(self) -> list[Line]:
        found = []
        for each in await lines.lines(self.browser):
            times = [at / 1000 for at, _ in each["heard"]]
            if any(event == "message" for _, event in each["heard"]):
                ended = _seconds(each["letGo"] or each["closed"])
                silences = (b - a for a, b in zip(times, [*times[1:], ended or times[-1]], strict=True))
                found.append(Line(times[-1], ended, max(silences)))
        return found


def _seconds(ms: float | None) -> float | None:
    return None if ms is None else ms / 1000


@contextlib.asynccontextmanager
async def open_page(options: dict[str, Any]) -> AsyncIterator[Page]:
    """The calling process has entered the browser's namespace, and with it whatever it starts."""
    async with launch("chromium") as browser:
        page = Page(browser)
        await page.start(options)
        yield page
