"""The examples for React, Vue, Svelte's stores and many tabs in real browsers: what they show is what was published, through a cut and a gap.

React and Vue come from Debian (node-react, node-react-dom, libjs-vue).
"""

from __future__ import annotations

import contextlib
import functools
import http.server
import pathlib
import tempfile
import threading
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from typing import Any

import pytest

import measured
from drivers import Browser, launch
from gateway import REPOSITORY, Gateway, running, until
from judge import require_exactly_once
from relay import Relay, relay_to

TOPIC = "calls.live"
SOON = 15
#: So little is kept, so that a long cut leaves a gap.
HISTORY = 40
#: The backoff's cap is 10 s; an attempt that was under way when the line came back may have to fail first.
RETURN_TIMEOUT = 25
IN_WAVES = False

VENDOR = {
    "/examples/react/vendor/react.development.js": "/usr/share/nodejs/react/umd/react.development.js",
    "/examples/react/vendor/react-dom.development.js": "/usr/share/nodejs/react-dom/umd/react-dom.development.js",
    "/examples/vue/vendor/vue.js": "/usr/share/javascript/vue/vue.js",
}
PAGES = {
    "react": "examples/react/",
    "vue": "examples/vue/",
    "store": "examples/svelte-store/",
    "tabs": "examples/tabs/",
}

#: What the page shows: the rows from the oldest on, a number or the text of a gap.
ROWS = """[...document.querySelectorAll("ol li:not(.empty)")].reverse().map((row) =>
  row.classList.contains("gap") ? row.textContent.trim() : Number(row.dataset.offset))"""
LINE = "document.querySelector('.line')?.textContent"
NOTICE = "[...document.querySelectorAll('.notice')].filter((notice) => !notice.hidden).map((notice) => notice.textContent).join()"


class _Files(http.server.SimpleHTTPRequestHandler):
    """The repository as any static server would show it, and the frameworks where the READMEs say that they are copied to."""

    def translate_path(self, path: str) -> str:
        vendor = VENDOR.get(path.partition("?")[0])
        return vendor or super().translate_path(path)

    def log_message(self, *_: object) -> None:
        pass


@contextlib.contextmanager
def static_server() -> Iterator[str]:
    for file in VENDOR.values():
        assert pathlib.Path(file).exists(), f"{file} is missing: apt-get install node-react node-react-dom libjs-vue"
    handler = functools.partial(_Files, directory=str(REPOSITORY))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


@dataclass
class Stage:
    name: str
    browser: Browser
    gateway: Gateway
    relay: Relay
    published: int = 0

    async def publish(self, count: int) -> None:
        numbers = range(self.published + 1, self.published + count + 1)
        self.published += count
        last = await self.gateway.publish(TOPIC, *({"text": f"Call number {n}"} for n in numbers))
        assert last == self.published

    async def session(self) -> dict[str, Any]:
        """The one that has a subscription; a line that lost a race may have left one without."""
        [session] = [each for each in await self.gateway.sessions() if each["state"] != "ended" and each["subscription_count"]]
        return session

    async def until_shown(self, timeout: float, gaps: list[dict[str, int]] | None = None) -> list[Any]:
        """Every number once, in order, but for the gaps, of which there is a row each."""
        rows = await self.browser.until(f"((rows) => rows.includes({self.published}) && rows)({ROWS})", timeout, "the last event is shown")
        require_exactly_once([row for row in rows if isinstance(row, int)], self.published, gaps or [])
        assert rows[0] == 1 and sum(isinstance(row, str) for row in rows) == len(gaps or [])
        return rows

    async def screenshot(self, what: str) -> None:
        await self.browser.screenshot(measured.folder() / f"frameworks-{self.browser.name}-{self.name}-{what}.png")

    async def cut(self) -> None:
        """The line is reset, and no new one gets through."""
        self.relay.cut()
        assert self.relay.tear() > 0
        await self.browser.until(f"!/^connected/.test({LINE})", SOON, "the page shows that the line is away")


@contextlib.asynccontextmanager
async def on_stage(name: str, browser_name: str, folder: pathlib.Path) -> AsyncIterator[Stage]:
    config = folder / "holdfast.yml"
    config.write_text(f"history: {{size: {HISTORY}, ttl: 300}}\n")
    async with (
        running("serve", "--dev", "--port", "0", "--config", str(config)) as gateway,
        relay_to(gateway.port) as relay,
        launch(browser_name) as browser,
    ):
        with static_server() as site:
            stage = Stage(name, browser, gateway, relay)
            try:
                await browser.open(f"{site}/{PAGES[name]}?gateway=http://127.0.0.1:{relay.port}")
                await browser.until(f"/^connected · websocket$/.test({LINE})", SOON, "the page is connected")

                async def subscribed() -> bool:
                    return any(each["subscription_count"] for each in await gateway.sessions())

                await until(subscribed, SOON, "the page has subscribed")
                yield stage
            except BaseException:
                with contextlib.suppress(Exception):
                    await stage.screenshot("failed")
                raise
            assert browser.page_errors == []


@pytest.mark.parametrize("browser", ["chromium", "firefox"])
@pytest.mark.parametrize("page", list(PAGES))
async def test_a_page_shows_each_event_once(page, browser):
    with tempfile.TemporaryDirectory(prefix="holdfast-frameworks-") as folder:
        async with on_stage(page, browser, pathlib.Path(folder)) as stage:
            window = stage.browser
            assert await window.evaluate("document.querySelector('ol .empty').textContent") == "Publish something"

            await stage.publish(10)
            assert await stage.until_shown(SOON) == list(range(1, 11))
            await stage.screenshot("connected")
            session = await stage.session()
            assert session["subscription_count"] == 1

            # The line is away for a while: nothing is lost.
            await stage.cut()
            await stage.publish(20)
            await stage.screenshot("cut")
            stage.relay.restore()
            assert await stage.until_shown(RETURN_TIMEOUT) == list(range(1, 31))
            assert (await stage.session())["id"] == session["id"], "the session outlived the cut"
            assert await window.evaluate(NOTICE) == ""

            # The session is gone, and the history is too short: what is lost is said, with its numbers.
            await stage.cut()
            await stage.gateway.post(f"/api/sessions/{session['id']}/disconnect", {"code": 4008, "reason": "slow consumer"})
            await stage.publish(100)
            stage.relay.restore()
            gap = {"after": 30, "next": 130 - HISTORY + 1}
            rows = await stage.until_shown(RETURN_TIMEOUT, [gap])
            text = f"{gap['next'] - 31} events lost, 31 to {gap['next'] - 1}"
            assert rows == [*range(1, 31), text, *range(gap["next"], 131)]
            assert text in await window.evaluate(NOTICE)
            await window.evaluate("document.querySelector('ol .gap').scrollIntoView({ block: 'center' })")
            await stage.screenshot("gap")
            await window.evaluate("document.querySelector('.notice button').click()")
            await window.until(f"!({NOTICE})", SOON, "the gap is acknowledged")
            assert await window.evaluate(ROWS) == rows, "what is shown stays"

            # What is sent.
            await window.evaluate(
                """(() => {
                  const input = document.querySelector("form input");
                  Object.getOwnPropertyDescriptor(HTMLInputElement.prototype, "value").set.call(input, "hello");
                  input.dispatchEvent(new Event("input", { bubbles: true }));
                  document.querySelector("form button").click();
                })()"""
            )
            await window.until("document.querySelector('#reply').textContent === 'The gateway has it.'", SOON, "the message has arrived")

            await stage.publish(1)
            await stage.until_shown(SOON, [gap])
            assert await window.evaluate("document.querySelector('#count').textContent") == f"{130 - gap['next'] + 32} events"
            await stage.screenshot("end")
