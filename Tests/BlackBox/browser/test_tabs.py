"""Many tabs, one line, in real browsers: numbered events exactly once in each tab, while those who have the line die, freeze and leave."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import pathlib
import re
import signal
import tempfile
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

import pytest

import measured
from channel import DriverError
from chromium import Chromium
from drivers import Browser, launch
from gateway import REPOSITORY, Gateway, running, until

IN_WAVES = False
TEST_TIMEOUT = 240.0
SOON = 20
TABS = 8
#: Numbered events per second, on a topic with history and on one without.
RATE = 20
KEY = "only-for-this-test"
CONFIGURATION = f"""
ws_port: 0
session_ttl: 60
api: {{key: {KEY}}}
services:
  calls: {{require_authentication: false, history: {{size: 5000, ttl: 600}}}}
  bare: {{require_authentication: false, history: {{size: 0, ttl: 0}}}}
"""
HERE = pathlib.Path(__file__).parent
CLIENT = REPOSITORY / "clients" / "js"
FILES = {
    "/page": (HERE / "tabs_page.html", "text/html; charset=utf-8"),
    "/elsewhere": (HERE / "tabs_elsewhere.html", "text/html; charset=utf-8"),
    **{f"/{name}": (CLIENT / name, "text/javascript") for name in ("holdfast.js", "http.js", "tabs.js", "tabs-worker.js")},
}


class Site:
    """Pages, modules and the gateway under one origin, as behind anybody's proxy."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway
        self._running: set[asyncio.Task[None]] = set()
        self.port = 0

    @property
    def origin(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._running.add(task)
        far: asyncio.StreamWriter | None = None
        try:
            with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
                head = await reader.readuntil(b"\r\n\r\n")
                path = head.split(b" ", 2)[1].decode().split("?")[0]
                if path in FILES:
                    file, kind = FILES[path]
                    body = file.read_bytes()
                    fields = (
                        f"Content-Type: {kind}\r\nContent-Length: {len(body)}\r\nCache-Control: max-age=60\r\n"
                        "Access-Control-Allow-Origin: *\r\nConnection: close"
                    )
                    writer.write(f"HTTP/1.1 200 OK\r\n{fields}\r\n\r\n".encode() + body)
                    await writer.drain()
                    return
                far_reader, far = await asyncio.open_connection("127.0.0.1", self._gateway.port)
                # One request for each connection: the next one may be for a file.
                far.write(re.sub(rb"(?i)\r\nconnection: keep-alive", b"\r\nConnection: close", head))
                await asyncio.gather(self._copy(reader, far), self._copy(far_reader, writer))
        except asyncio.CancelledError:
            pass
        finally:
            self._running.discard(task)
            for end in (writer, far):
                if end is not None:
                    end.close()

    async def _copy(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError):
            while data := await reader.read(65536):
                writer.write(data)
                await writer.drain()
        with contextlib.suppress(OSError, RuntimeError):
            writer.write_eof()

    def end(self) -> None:
        for task in self._running:
            task.cancel()


class Numbers:
    """Publishes 1, 2, 3, … on both topics, until it is stopped."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway
        self._task: asyncio.Task[None] | None = None
        self._stopping = asyncio.Event()
        self.last = 0

    async def _publish(self) -> None:
        while not self._stopping.is_set():
            await self.one()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._stopping.wait(), 1 / RATE)

    async def one(self) -> None:
        number = self.last + 1
        batch = [{"subscription": f"{service}.numbers", "data": number} for service in ("calls", "bare")]
        await self._gateway.post("/api/batch", batch)
        self.last = number

    def start(self) -> None:
        self._stopping.clear()
        self._task = asyncio.create_task(self._publish())

    async def stop(self) -> None:
        self._stopping.set()
        if self._task is not None:
            await self._task
            self._task = None


@dataclass
class Stage:
    browser: Browser
    gateway: Gateway
    site: Site
    numbers: Numbers
    mode: str
    tabs: list[Browser] = field(default_factory=list)
    stack: contextlib.AsyncExitStack = field(default_factory=contextlib.AsyncExitStack)

    async def tab(self, query: str = "") -> Browser:
        """One more window with the page in it."""
        window = self.browser.window()
        tab = await window.__aenter__()
        self.stack.push_async_exit(window)
        self.tabs.append(tab)
        await tab.open(f"{self.site.origin}/page?{'leader' if self.mode == 'leader' else 'worker'}{query}")
        await tab.until("window.ready?.()", SOON, "the page is connected and has subscribed")
        return tab

    async def modes(self) -> list[str]:
        return sorted([await tab.evaluate("mode()") for tab in self.tabs])

    async def leader(self) -> Browser:
        """The tab that has the line, once there is exactly one."""

        async def found() -> list[Browser]:
            return [tab for tab in self.tabs if await tab.evaluate("mode()") == "leader"]

        async def one() -> Browser | None:
            leaders = await found()
            return leaders[0] if len(leaders) == 1 else None

        return await until(one, SOON, "one tab leads")

    async def lines(self) -> tuple[int, int]:
        """How many sessions there are, and how many of them have a connection."""
        sessions = await self.gateway.sessions()
        alive = [session for session in sessions if session["state"] != "ended"]
        return len(alive), sum(session["state"] == "attached" for session in alive)

    async def one_line(self, sessions: int = 1) -> None:
        async def one() -> bool:
            return await self.lines() == (sessions, sessions)

        await until(one, SOON, f"{sessions} session(s), each with one connection")

    async def exactly_once(self, *, bare_gaps: bool = False, tabs: list[Browser] | None = None) -> None:
        """Lets everything arrive and judges what each tab has: numbers without a hole, or a gap that tells of it."""
        await self.numbers.stop()
        await self.numbers.one()
        last = self.numbers.last
        for tab in self.tabs if tabs is None else tabs:
            await tab.until(f"got.calls.at(-1) === {last} && got.bare.at(-1) === {last}", SOON, f"everything up to {last} has arrived")
            got = await tab.evaluate("got")
            gaps = await tab.evaluate("gaps")
            calls, bare = got["calls"], got["bare"]
            assert calls == list(range(calls[0], last + 1)), f"calls: {holes(calls)}"
            assert not [gap for gap in gaps if gap["subscription"].startswith("calls")], gaps
            if bare_gaps:
                assert bare == sorted(set(bare)), f"bare: {holes(bare)}"
                assert gaps or bare == list(range(bare[0], last + 1)), f"bare without a gap: {holes(bare)}"
            else:
                assert bare == list(range(bare[0], last + 1)), f"bare: {holes(bare)} {gaps}"
                assert gaps == []
            assert await tab.evaluate("told.filter(({ type }) => type === 'error')") == []
            assert tab.page_errors == []

    def processes(self) -> list[int]:
        """The browser's processes that run pages or workers."""
        found = []
        for entry in pathlib.Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                command = (entry / "cmdline").read_bytes()
                kind = b"--type=renderer" in command or (b"-contentproc" in command and command.rstrip(b"\0").endswith(b"tab"))
                if kind and self._ours(int(entry.name)):
                    found.append(int(entry.name))
        return found

    def _ours(self, process: int) -> bool:
        """Whether it descends from the browser."""
        assert self.browser._process is not None
        while process > 1:
            if process == self.browser._process.pid:
                return True
            status = pathlib.Path(f"/proc/{process}/stat").read_text()
            process = int(status.rsplit(")", 1)[1].split()[1])
        return False

    async def process_with_the_line(self) -> int:
        """The one that, while it is stopped, answers no ping: no page that runs hears of the hub, or it is the page."""
        for process in self.processes():
            os.kill(process, signal.SIGSTOP)
            try:
                answers = await asyncio.gather(*(self._hears(tab) for tab in self.tabs))
            finally:
                os.kill(process, signal.SIGCONT)
            if not any(answers):
                return process
            for tab in self.tabs:
                await tab.until("window.ready()", SOON, "it goes on")
        raise AssertionError("nobody has the line")

    async def _hears(self, tab: Browser) -> bool:
        """Whether numbers arrive; a page that is stopped does not answer."""
        try:
            seen = json.loads(await tab._evaluate("JSON.stringify(got.bare.length)", 0.5))
            deadline = time.monotonic() + 0.7
            while time.monotonic() < deadline:
                if json.loads(await tab._evaluate("JSON.stringify(got.bare.length)", 0.5)) > seen:
                    return True
                await asyncio.sleep(0.05)
        except DriverError:
            pass
        return False

    async def forget_the_dead(self) -> None:
        """Those that do not answer any more."""

        async def answers(tab: Browser) -> bool:
            try:  # Firefox shows a page of its own in the place of one that has crashed.
                return await tab._evaluate("String(!!window.client)", 2) == "true"
            except DriverError:
                return False

        alive = await asyncio.gather(*(answers(tab) for tab in self.tabs))
        self.tabs = [tab for tab, here in zip(self.tabs, alive, strict=True) if here]

    async def handover(self, what: str, since: float, tabs: list[Browser]) -> None:
        """Waits until the tabs are connected again, and notes how long that took."""
        took = []
        for tab in tabs:
            again = f"(told.findLast(({{ type, at }}) => type === 'connected' && at >= {since * 1000 - 5}) ?? {{}}).at"
            took.append(await tab.until(again, SOON, "connected again") / 1000 - since)
        measured.note(self.browser.name, f"tabs-{self.mode}-{what}", "handover s", max(took))
        print(f"{self.browser.name} {self.mode} {what}: {min(took):.3f} … {max(took):.3f} s")


async def tab_before(page: Browser) -> Browser:
    """Another tab of its window, which hides it."""
    other = type(page)(beside=page)
    if isinstance(page, Chromium):
        other._target = (await page._channel.call("Target.createTarget", {"url": "about:blank"}))["targetId"]
        await other._attach_to_target()
    else:
        parameters = {"type": "tab", "referenceContext": page._context}
        await other._attach_to_context((await page._channel.call("browsingContext.create", parameters))["context"])
    await other.show()
    return other


async def more_numbers(tab: Browser) -> None:
    seen = await tab.evaluate("got.bare.at(-1)")
    await tab.until(f"got.bare.at(-1) > {seen + 10}", SOON, "numbers flow on")


def gone(process: int) -> bool:
    try:
        return b") Z " in pathlib.Path(f"/proc/{process}/stat").read_bytes()
    except OSError:
        return True


def holes(numbers: list[int]) -> list[tuple[int, int]]:
    return [(a, b) for a, b in zip(numbers, numbers[1:], strict=False) if b != a + 1]


@contextlib.asynccontextmanager
async def on_stage(browser_name: str, mode: str, tabs: int = 0) -> AsyncIterator[Stage]:
    with tempfile.TemporaryDirectory() as folder:
        file = pathlib.Path(folder) / "holdfast.yaml"
        file.write_text(CONFIGURATION)
        async with running("serve", "--config", str(file), key=KEY) as gateway, launch(browser_name) as browser:
            site = Site(gateway)
            server = await asyncio.start_server(site._serve, "127.0.0.1", 0)
            site.port = server.sockets[0].getsockname()[1]
            stage = Stage(browser, gateway, site, Numbers(gateway), mode)
            try:
                for _ in range(tabs):
                    await stage.tab()
                yield stage
            except BaseException:
                for tab in stage.tabs:
                    with contextlib.suppress(Exception):
                        print(await tab.evaluate("JSON.stringify([mode(), client.state, told.slice(-12), gaps])", 3))
                raise
            finally:
                await stage.numbers.stop()
                with contextlib.suppress(Exception):
                    await stage.stack.aclose()
                site.end()
                server.close()


browsers = pytest.mark.parametrize("browser", ["chromium", "firefox"])
modes = pytest.mark.parametrize("mode", ["worker", "leader"])


@browsers
@modes
async def test_eight_tabs_have_one_line(browser, mode):
    async with on_stage(browser, mode, TABS) as stage:
        stage.numbers.start()
        assert await stage.modes() == (["worker"] * TABS if mode == "worker" else ["follower"] * (TABS - 1) + ["leader"])
        await stage.one_line()
        other = await stage.tab("&identity=somebody-else")
        await stage.one_line(2)
        await other.until("got.bare.length >= 5", SOON, "numbers flow")
        await stage.tabs[0].evaluate("client.close()")
        await stage.tabs.pop(0).until("client.state === 'closed'", SOON, "closed")
        await more_numbers(stage.tabs[0])
        await stage.exactly_once()
        await stage.one_line(2)


@browsers
async def test_modules_of_another_origin(browser):
    """No worker can be made of these: a tab leads."""
    async with on_stage(browser, "worker") as stage:
        elsewhere = Site(stage.gateway)
        server = await asyncio.start_server(elsewhere._serve, "127.0.0.1", 0)
        elsewhere.port = server.sockets[0].getsockname()[1]
        stage.numbers.start()
        try:
            for _ in range(3):
                await stage.tab(f"&from={elsewhere.origin}")
            assert await stage.modes() == ["follower", "follower", "leader"]
            await stage.tabs[-1].until("got.bare.length >= 5", SOON, "numbers flow")
            await stage.exactly_once()
            await stage.one_line()
        finally:
            elsewhere.end()
            server.close()


@browsers
@modes
async def test_windows_that_close(browser, mode):
    """Also the one that leads, and the one that has started the worker."""
    async with on_stage(browser, mode, 5) as stage:
        stage.numbers.start()
        for _ in range(3):
            await stage.tabs[-1].until("got.bare.length >= 5", SOON, "numbers flow")
            going = await stage.leader() if mode == "leader" else stage.tabs[0]
            stage.tabs.remove(going)
            since = time.time()
            await going._close_window()
            if mode == "leader":
                await stage.handover("closed", since, stage.tabs)
        await stage.exactly_once()
        await stage.one_line()


@browsers
@modes
async def test_a_process_is_killed(browser, mode):
    """The one with the line, and all tabs in it."""
    async with on_stage(browser, mode, TABS) as stage:
        stage.numbers.start()
        await stage.tabs[-1].until("got.bare.length >= 5", SOON, "numbers flow")
        await stage.one_line()
        process = await stage.process_with_the_line()
        since = time.time()
        os.kill(process, signal.SIGKILL)
        await until(lambda: asyncio.to_thread(gone, process), SOON, "the process is gone")
        await stage.forget_the_dead()
        print(f"{browser} {mode}: {len(stage.tabs)} tabs are left of {TABS}")
        assert stage.tabs
        await stage.handover("killed", since, stage.tabs)
        await stage.exactly_once()
        await stage.one_line()


@browsers
@modes
async def test_a_process_is_stopped_and_goes_on(browser, mode):
    """Without a word. The others take the line; when it goes on, it follows, and has missed nothing that it is not told of."""
    async with on_stage(browser, mode, TABS) as stage:
        stage.numbers.start()
        await stage.tabs[-1].until("got.bare.length >= 5", SOON, "numbers flow")
        process = await stage.process_with_the_line()
        everyone = list(stage.tabs)
        since = time.time()
        os.kill(process, signal.SIGSTOP)
        try:
            await stage.forget_the_dead()
            print(f"{browser} {mode}: {len(stage.tabs)} tabs are awake of {TABS}")
            assert stage.tabs
            await stage.handover("stopped", since, stage.tabs)
            await more_numbers(stage.tabs[0])
        finally:
            os.kill(process, signal.SIGCONT)
        for tab in everyone:
            await tab.until("got.bare.at(-1) > 60", SOON, "it goes on")
        await stage.exactly_once()
        sleepers = [tab for tab in everyone if tab not in stage.tabs]
        await stage.exactly_once(tabs=sleepers, bare_gaps=True)
        stage.tabs = everyone
        await stage.one_line()


async def test_a_leader_that_is_frozen(browser="chromium"):
    """By the browser, which says so; and its line goes to another one at once."""
    async with on_stage(browser, "leader", 4) as stage:
        stage.numbers.start()
        await stage.tabs[-1].until("got.bare.length >= 5", SOON, "numbers flow")
        leader = await stage.leader()
        assert isinstance(leader, Chromium)
        others = [tab for tab in stage.tabs if tab is not leader]
        since = time.time()
        await leader._command("Page.setWebLifecycleState", {"state": "frozen"})
        await stage.handover("frozen", since, others)
        await stage.one_line()
        await leader._command("Page.setWebLifecycleState", {"state": "active"})
        await leader.until("told.some(({ type }) => type === 'resume')", SOON, "it is thawed")
        await leader.until("client.state === 'connected'", SOON, "it is connected again")
        assert await leader.evaluate("mode()") == "follower"
        await stage.exactly_once(tabs=others)
        await stage.exactly_once(tabs=[leader], bare_gaps=True)
        await stage.one_line()


@browsers
async def test_a_hidden_leader_lets_a_visible_tab_lead(browser):
    """Two tabs of one window, of which only one is seen."""
    async with on_stage(browser, "leader") as stage:
        stage.numbers.start()
        first = stage.browser
        address = f"{stage.site.origin}/page?leader"
        await first.open(address)
        await first.until("window.ready?.() && mode() === 'leader'", SOON, "the only tab leads")
        second = await tab_before(first)
        stage.tabs = [first, second]
        await second.open(address)
        await second.until("window.ready?.()", SOON, "the other one is connected")
        await first.until("document.visibilityState === 'hidden'", SOON, "the first one is hidden")
        await second.until("mode() === 'leader'", SOON, "the visible tab leads")
        assert await first.evaluate("mode()") == "follower"
        since = time.time()
        await first.show()
        await first.until("mode() === 'leader'", SOON, "and so does the other one when it is shown")
        measured.note(browser, "tabs-leader-hidden", "handover s", time.time() - since)
        await stage.exactly_once()
        await stage.one_line()


@browsers
@modes
async def test_back_and_forward(browser, mode):
    """A page in the back/forward cache holds nothing, and comes back by its positions."""
    async with on_stage(browser, mode, 3) as stage:
        stage.numbers.start()
        tab = await stage.leader() if mode == "leader" else stage.tabs[0]
        others = [other for other in stage.tabs if other is not tab]
        await tab.until("got.bare.length >= 5", SOON, "numbers flow")
        await tab.evaluate("window.before = got.calls.length")
        await tab.open(f"{stage.site.origin}/elsewhere")
        await more_numbers(others[0])
        with contextlib.suppress(DriverError):
            await tab.evaluate("void history.back()")
        await tab.until("window.ready?.()", SOON, "it is back")
        cached = await tab.evaluate("window.before > 0")
        print(f"{browser} {mode}: {'from the cache' if cached else 'loaded anew'}")
        assert cached == await tab.evaluate("told.some(({ type }) => type === 'back')")
        await stage.exactly_once(tabs=others)
        await stage.exactly_once(tabs=[tab], bare_gaps=True)
        await stage.one_line()
