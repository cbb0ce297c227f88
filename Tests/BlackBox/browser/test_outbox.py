"""Messages that survive their page (clients/js/outbox.js) in real browsers: reloaded, crashed, closed, and two at once.

A service behind the gateway records what it is given. The line between page and gateway is cut by a relay, without a word.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import pathlib
import signal
import tempfile
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import pytest

import measured
import settings
from drivers import Browser, Chromium, DriverError, launch
from fake_service import FakeService
from gateway import running, until
from outbox_page import outbox_site
from relay import Relay, relay_to

TOPIC = "calls.call_1"
SOON = 15
#: After the line is back: the backoff's cap, and Firefox holds WebSocket attempts back.
RETURN = 60
IN_WAVES = False

pytestmark = pytest.mark.parametrize("browser", ["chromium", "firefox"])


@dataclass
class House:
    browser: Browser
    relay: Relay
    service: FakeService
    address: str

    async def load(self, page: Browser) -> Browser:
        await page.open(self.address)
        await page.until("window.ready", SOON, "the module is loaded")
        await page.evaluate(f"start('http://127.0.0.1:{self.relay.port}/socket', '{TOPIC}')")
        return page

    async def connected(self, page: Browser) -> None:
        await page.evaluate("sub.ready()")

    @contextlib.asynccontextmanager
    async def tab(self) -> AsyncIterator[Browser]:
        async with self.browser.window() as page:
            yield await self.load(page)

    def heard(self) -> list[tuple[Any, int]]:
        """What the service was given, in order: the message's id and its number."""
        return [(body["message_id"], body["data"]["n"]) for body in self.service.bodies("/on_message")]

    def once(self) -> list[int]:
        """The same, each id once."""
        first: dict[Any, int] = {}
        for name, number in self.heard():
            first.setdefault(name, number)
        return list(first.values())

    async def until_heard(self, numbers: list[int]) -> None:
        async def all_of_them() -> bool:
            return set(numbers) <= {number for _, number in self.heard()}

        await until(all_of_them, RETURN, f"the service has {numbers}")

    async def send_into_the_cut(self, page: Browser, *numbers: int) -> list[dict[str, Any]]:
        """Cuts the line, sends, and returns what is kept then."""
        self.relay.cut()
        await page.evaluate(f"say({', '.join(map(str, numbers))})")
        return await page.until(f"kept().then((all) => all.length === {len(numbers)} && all)", SOON, "they are kept")


@contextlib.asynccontextmanager
async def house(browser_name: str) -> AsyncIterator[House]:
    with FakeService() as service, outbox_site() as address, tempfile.TemporaryDirectory(prefix="holdfast-outbox-") as folder:
        service.always("/on_message", lambda request: {"status": "ok", "data": {"re": request.body["data"]["n"]}})
        calls = {"require_authentication": False, **service.urls("on_message")}
        origin = address.rstrip("/")
        text = f"services:\n  calls: {json.dumps(calls)}\ncors:\n  origins: [{json.dumps(origin)}]\n"
        config = settings.write(pathlib.Path(folder), text)
        async with (
            running("serve", "--config", config, "--port", "0") as gateway,
            relay_to(gateway.port) as relay,
            launch(browser_name) as browser,
        ):
            yield House(browser, relay, service, address)


async def crash(page: Browser) -> None:
    """The process of the page is gone in the middle of everything."""
    if isinstance(page, Chromium):
        asking = asyncio.ensure_future(page._command("Page.crash", timeout=2))  # a page that crashes does not answer
        with contextlib.suppress(DriverError):
            await asking
        return
    first = page._first._process
    assert first is not None
    pids = [pid for pid in _descendants(first.pid) if _is_content(pid)]
    assert pids, "no content process"
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def _descendants(pid: int) -> list[int]:
    parents: dict[int, list[int]] = {}
    for entry in pathlib.Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError, ValueError, IndexError):
            parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
            parents.setdefault(parent, []).append(int(entry.name))
    found = [pid]
    for each in found:
        found += parents.get(each, [])
    return found[1:]


def _is_content(pid: int) -> bool:
    """The process of a site of its own, which Firefox calls "Isolated Web Content"."""
    with contextlib.suppress(OSError):
        return pathlib.Path(f"/proc/{pid}/comm").read_text().startswith("Isolated Web")
    return False


async def test_a_reloaded_page_sends_what_had_no_reply_in_order_and_hears_of_it(browser):
    async with house(browser) as home, home.tab() as page:
        await home.connected(page)
        await page.evaluate("say(1, 2, 3)")
        await page.until("replies.length === 3", SOON, "the service answers")
        await page.until("kept().then((all) => all.length === 0)", SOON, "what is answered is not kept")

        kept = await home.send_into_the_cut(page, 4, 5, 6)
        assert [each["data"] for each in kept] == [{"n": 4}, {"n": 5}, {"n": 6}]
        assert await page.evaluate("replies.length") == 3
        await home.load(page)
        await page.evaluate("say(7, 8)")
        await page.until("kept().then((all) => all.length === 5)", SOON, "the newer ones are kept, too")
        assert [number for _, number in home.heard()] == [1, 2, 3]
        home.relay.restore()
        await home.until_heard([1, 2, 3, 4, 5, 6, 7, 8])
        await page.until("delivered.length === 3 && replies.length === 2", SOON, "all is answered")
        assert home.once() == [1, 2, 3, 4, 5, 6, 7, 8]
        told = await page.evaluate("delivered")
        assert [(each["id"], each["data"], each["reply"], each["error"], each["attempts"]) for each in told] == [
            (before["id"], before["data"], {"re": before["data"]["n"]}, None, 2) for before in kept
        ]
        assert await page.evaluate("replies") == [{"re": 7}, {"re": 8}]
        await page.until("kept().then((all) => all.length === 0)", SOON, "nothing is left")
        assert await page.evaluate("problems") == []


async def test_a_page_that_is_reloaded_at_once_has_kept_them(browser):
    """Nobody waits for the store here: the page is gone in the same turn in which it has sent."""
    async with house(browser) as home, home.tab() as page:
        await home.connected(page)
        await page.evaluate("say(1)")
        await page.until("replies.length === 1", SOON, "the store is open")
        home.relay.cut()
        await page.evaluate("void (say(...Array.from({ length: 50 }, (_, i) => i + 2)), setTimeout(() => location.reload()))")
        await page.until("window.ready && !window.client", SOON, "the new page")
        kept = [each["data"]["n"] for each in await page.evaluate("kept()")]
        measured.note(browser, "reload in the same turn", "kept of 50", len(kept))
        assert kept == list(range(2, 2 + len(kept))), "what it could not keep are the last ones"
        await home.load(page)
        home.relay.restore()
        await home.until_heard(kept)
        assert home.once() == [1, *kept]


async def test_a_crashed_tab_leaves_them_to_the_next(browser):
    async with house(browser) as home, contextlib.AsyncExitStack() as tabs:
        one = await tabs.enter_async_context(home.tab())
        await home.connected(one)
        kept = await home.send_into_the_cut(one, *range(1, 11))
        await crash(one)
        two = await tabs.enter_async_context(home.tab())
        await two.evaluate("say(11)")
        home.relay.restore()
        await home.until_heard(list(range(1, 12)))
        await two.until("delivered.length === 10 && replies.length === 1", SOON, "all is answered")
        assert home.once() == list(range(1, 12))
        assert [each["id"] for each in await two.evaluate("delivered")] == [each["id"] for each in kept]
        await two.until("kept().then((all) => all.length === 0)", SOON, "nothing is left")


async def test_a_reply_that_was_lost_with_its_page_is_asked_for_again_under_the_same_id(browser):
    async with house(browser) as home, contextlib.AsyncExitStack() as tabs:
        one = await tabs.enter_async_context(home.tab())
        await home.connected(one)
        gate = home.service.hold("/on_message", {"status": "ok", "data": {"re": 1}})
        await one.evaluate("say(1, 2)")
        await home.until_heard([1])
        [first, second] = await one.until("kept().then((all) => all.length === 2 && all)", SOON, "both are kept")
        await crash(one)
        gate.set()
        two = await tabs.enter_async_context(home.tab())
        await two.until("delivered.length === 2", RETURN, "both are answered")
        assert [each["id"] for each in await two.evaluate("delivered")] == [first["id"], second["id"]]
        # The service was asked once, and what it said then is the answer.
        assert sorted(n for _, n in home.heard()) == [1, 2]
        assert (await two.evaluate("delivered"))[0]["reply"] == {"re": 1}


async def test_two_tabs_that_start_at_once_send_each_message_once(browser):
    async with house(browser) as home, contextlib.AsyncExitStack() as tabs:
        async with home.tab() as one:
            await home.connected(one)
            await home.send_into_the_cut(one, *range(1, 31))
        # It is closed. Both are there before the line is.
        two, three = [await tabs.enter_async_context(home.tab()) for _ in range(2)]
        await two.evaluate("say(101)")
        await three.evaluate("say(102)")
        home.relay.restore()
        await home.until_heard([*range(1, 31), 101, 102])
        count = "delivered.length + replies.length"

        async def all_answered() -> bool:
            return await two.evaluate(count) + await three.evaluate(count) == 32

        await until(all_answered, SOON, "all is answered")
        numbers = [number for _, number in home.heard()]
        assert sorted(numbers) == [*range(1, 31), 101, 102], "no message was sent by both"
        assert [number for number in numbers if number < 100] == list(range(1, 31))
        measured.note(browser, "two tabs at once", "taken by the first", await two.evaluate("delivered.length"))


async def test_a_tab_that_lives_keeps_its_own_and_is_heir_of_one_that_is_closed(browser):
    async with house(browser) as home, contextlib.AsyncExitStack() as tabs:
        one = await tabs.enter_async_context(home.tab())
        await home.connected(one)
        async with home.tab() as two:
            await home.connected(two)
            home.relay.cut()
            await one.evaluate("say(1)")
            await two.evaluate("say(2)")
            await one.until("kept().then((all) => all.length === 2)", SOON, "both are kept")
        home.relay.restore()
        await home.until_heard([1, 2])
        await one.until("replies.length === 1 && delivered.length === 1", SOON, "both are answered")
        assert await one.evaluate("[replies[0].re, delivered[0].reply.re]") == [1, 2]
        assert sorted(number for _, number in home.heard()) == [1, 2]


async def test_a_page_that_may_store_nothing_sends_all_the_same(browser):
    async with house(browser) as home, home.browser.window() as page:
        await page.preload("""() => Object.defineProperty(window, "indexedDB", {
          get() { throw new DOMException("The operation is insecure.", "SecurityError"); },
        })""")
        await home.load(page)
        await home.connected(page)
        await page.evaluate("say(1, 2)")
        await page.until("replies.length === 2", SOON, "they are answered")
        assert [number for _, number in home.heard()] == [1, 2]
        [problem] = await page.evaluate("problems")
        assert problem.startswith("persist_unavailable: ")
