"""A page with the client behind a proxy, numbered events for it, and what both the page and the proxy saw.

Every proxy has a loopback address of its own: to the browser they are different hosts, with their own storage, their own six
connections, and (Firefox) their own queue of WebSocket attempts.
"""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import itertools
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import faults
import real
from drivers import Browser, launch
from gateway import Gateway, running, until
from judge import require_exactly_once
from shared import Shared

#: Numbered events per second: what faults.md prescribes, one every 200 ms.
RATE = 5
FIRST_EVENT_LIMIT = 3.0
#: A stream that is held back is noticed after 3 s (faults.md F8).
BUFFERED_LIMIT = 5.0
#: The line opens and says nothing (faults.md F7).
SILENT_LIMIT = 10.0
#: For anything else that needs no more than a few round trips on a busy machine.
SOON = 10.0
#: Pages that begin at once: limits are in seconds, and a starved browser would miss them through no fault of ours.
BEGINNING_AT_ONCE = 3

PAGE = b"""<!doctype html>
<meta charset="utf-8">
<title>A page behind a proxy</title>
<link rel="icon" href="data:,">
<script type="module">
import { Holdfast } from "/holdfast/holdfast.js";

window.told = [];
window.got = [];
window.also = [];
window.begin = (topic, options) => {
  const begun = performance.now();
  window.client = new Holdfast(`ws://${location.host}/holdfast/socket`, options);
  for (const type of ["state", "connected", "recovered", "gap", "error"]) {
    client.on(type, (event) => told.push({ type, at: Date.now(), ...event, message: event.message }));
  }
  client.subscribe(topic).on("message", ({ data }) => {
    window.first ??= performance.now() - begun;
    got.push(data);
  });
};
window.alsoSubscribe = (topic) => void client.subscribe(topic).on("message", ({ data }) => also.push(data));
window.memory = () => Object.entries(localStorage).filter(([key]) => key.startsWith("holdfast:"));
window.ready = true;
</script>
<h1>A page behind a proxy</h1>
"""


def site(path: str) -> bytes | None:
    return PAGE if path.startswith("/page.html") else None


# What a proxy saw ------------------------------------------------------------------------------------------------------


@dataclass
class Proxy:
    """What the tests ask of any proxy, real or not."""

    address: str
    attempts: Callable[[], list[float]]
    polls: Callable[[], int]
    aborted: Callable[[], int]
    #: The fault proxy itself, where it is one.
    faults: faults.FaultProxy | None = None
    #: A real proxy writes a WebSocket that was let through into its log when that has ended.
    tells_late: bool = False


_hosts = itertools.count(1)


def own_host() -> str:
    number = next(_hosts)
    return f"127.0.{7 + number // 250}.{1 + number % 250}"


@contextlib.asynccontextmanager
async def fault(port: int, treatment: str) -> AsyncIterator[Proxy]:
    async with faults.fault_proxy(port, host=own_host(), treatment=treatment, site=site) as proxy:
        yield Proxy(
            proxy.address,
            attempts=lambda: [attempt.at for attempt in proxy.attempts],
            polls=lambda: len(proxy.of("poll")),
            aborted=lambda: len(proxy.aborted_polls),
            faults=proxy,
        )


@contextlib.asynccontextmanager
async def process(make: Callable[..., Any], port: int, **options: Any) -> AsyncIterator[Proxy]:
    """A real proxy; starting and stopping it takes a while, and must not stop the other tests."""
    manager = make(port, site=PAGE, host=own_host(), **options)
    proxy = await asyncio.to_thread(manager.__enter__)
    try:
        yield Proxy(
            proxy.address,
            attempts=lambda: [entry.at for entry in proxy.log().attempts],
            polls=lambda: len(proxy.log().of("poll")),
            aborted=lambda: len(proxy.log().aborted_polls),
            tells_late=True,
        )
    except BaseException as error:
        await asyncio.to_thread(manager.__exit__, type(error), error, error.__traceback__)
        raise
    else:
        await asyncio.to_thread(manager.__exit__, None, None, None)


# The kinds ---------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Kind:
    open: Callable[[int], contextlib.AbstractAsyncContextManager[Proxy]]
    #: Where the client must end.
    transport: str
    #: WebSocket attempts in the time observed: at least, at most.
    attempts: tuple[int, int]
    first_event: float = FIRST_EVENT_LIMIT
    #: What happens meanwhile.
    meanwhile: Callable[[Run], Awaitable[None]] | None = None


async def block_what_worked(run: Run) -> None:
    await run.until_transport("websocket", SOON)
    await run.until_more(5 * RATE)
    assert run.proxy.faults is not None
    assert run.proxy.faults.block("400") >= 1, "it worked, and was cut"
    await run.until_transport("stream", SOON)


async def open_what_was_blocked(run: Run) -> None:
    await run.until_transport("stream", SOON)
    await run.until_more(5 * RATE)
    assert run.proxy.faults is not None
    run.proxy.faults.treatment = "ok"
    await run.until_transport("websocket", 45, "the second attempt, after 30 s, works and is taken")
    await run.until_more(3 * RATE)


def faulty(treatment: str, attempts: tuple[int, int] = (2, 2), transport: str = "stream", **more: Any) -> Kind:
    return Kind(lambda port: fault(port, treatment), transport, attempts, **more)


KINDS: dict[str, Kind] = {
    # Real proxies, as they are delivered and as they are found.
    "nginx": Kind(lambda port: process(real.nginx, port), "websocket", (1, 1)),
    "nginx without upgrade": Kind(lambda port: process(real.nginx, port, more=""), "stream", (2, 2)),
    "nginx buffering": Kind(lambda port: process(real.nginx, port, more=real.BUFFERING), "poll", (2, 2), BUFFERED_LIMIT),
    "haproxy": Kind(lambda port: process(real.haproxy, port), "websocket", (1, 1)),
    "haproxy 10 s": Kind(lambda port: process(real.haproxy, port, timeout="10s"), "websocket", (1, 1)),
    "mitmproxy without websocket": Kind(lambda port: process(real.mitmproxy, port), "poll", (2, 2), BUFFERED_LIMIT),
    # One fault at a time.
    **{f"status {status}": faulty(status) for status in faults.STATUSES},
    "hangs": faulty("hang"),
    "resets": faulty("reset"),
    "silent": faulty("silent", first_event=SILENT_LIMIT),
    "only up": faulty("client-only", first_event=SILENT_LIMIT),
    "only down": faulty("server-only", first_event=SILENT_LIMIT),
    "dies after 0.2 s": faulty("dies"),
    # Changes.
    "works, then blocked": faulty("ok", (2, 2), meanwhile=block_what_worked),
    "blocked, then opened": faulty("400", (2, 2), "websocket", meanwhile=open_what_was_blocked),
}


# One browser with many windows, and the gateway behind all of them ----------------------------------------------------------


class Ticker:
    """Publishes the next number of every topic 5 times a second, in one batch."""

    def __init__(self, port: int) -> None:
        self.last: dict[str, int] = {}
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=SOON)
        self._task = asyncio.create_task(self._tick())

    def add(self, topic: str) -> None:
        self.last[topic] = 0

    async def _tick(self) -> None:
        loop = asyncio.get_running_loop()
        due = loop.time()
        while True:
            if self.last:
                numbers = {topic: number + 1 for topic, number in self.last.items()}
                await asyncio.to_thread(self._publish, numbers)
                for topic, number in numbers.items():
                    self.last[topic] = number
            due = max(due + 1 / RATE, loop.time())
            await asyncio.sleep(due - loop.time())

    def _publish(self, numbers: dict[str, int]) -> None:
        batch = [{"subscription": topic, "data": number} for topic, number in numbers.items()]
        self._connection.request("POST", "/api/batch", json.dumps(batch), {"Content-Type": "application/json"})
        response = self._connection.getresponse()
        body = response.read()
        assert response.status == 200, body

    def check(self) -> None:
        if self._task.done():
            self._task.result()

    async def stop(self) -> None:
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)
        self._connection.close()


@dataclass
class House:
    """A gateway, its events, and one browser."""

    browser: Browser
    gateway: Gateway
    ticker: Ticker


@contextlib.asynccontextmanager
async def house_with(browser: str) -> AsyncIterator[House]:
    async with running("serve", "--dev", "--port", "0") as gateway, launch(browser) as started:
        ticker = Ticker(gateway.port)
        try:
            yield House(started, gateway, ticker)
        finally:
            await ticker.stop()


houses = Shared(house_with)
beginning = asyncio.Semaphore(BEGINNING_AT_ONCE)
_topics = itertools.count(1)


# One page behind one proxy ---------------------------------------------------------------------------------------------------


class Run:
    def __init__(self, house: House, page: Browser, proxy: Proxy) -> None:
        self.house, self.page, self.proxy = house, page, proxy
        self.topic = f"ladder.t{next(_topics)}"
        self.first_event_ms = 0.0
        self.begun = 0.0

    @property
    def published(self) -> int:
        self.house.ticker.check()
        return self.house.ticker.last[self.topic]

    async def load(self) -> None:
        await self.page.open(f"http://{self.proxy.address}/page.html")
        await self.page.until("window.ready", 3 * SOON, "the module is loaded through the proxy")

    async def begin(self, limit: float, options: str = "{}") -> None:
        """Lets the client connect, and judges how soon it has an event."""
        async with beginning:
            self.house.ticker.last.setdefault(self.topic, 0)
            self.begun = time.time()
            await self.page.evaluate(f"void begin('{self.topic}', {options})")
            self.first_event_ms = await self.page.until("window.first", limit + 2 * SOON, "the first event")
        assert self.first_event_ms <= limit * 1000, f"the first event came after {self.first_event_ms:.0f} ms, the limit is {limit:g} s"

    async def transport(self) -> str | None:
        return await self.page.evaluate("client.stats().transport")

    async def until_transport(self, name: str, timeout: float, what: str | None = None) -> None:
        await self.page.until(f"client.stats().transport === '{name}'", timeout, what or f"the client is on {name}")

    async def until_more(self, count: int) -> None:
        """That many more events are published, and have arrived."""
        number = self.published + count
        await self.until_number(number, count / RATE + SOON)

    async def until_number(self, number: int, timeout: float) -> None:
        await self.page.until(f"got.at(-1) >= {number} && got.at(-1)", timeout, f"event {number} arrives", every=0.2)

    async def until_attempts(self, count: int, timeout: float) -> None:
        async def enough() -> bool:
            return len(self.proxy.attempts()) >= count

        await until(enough, timeout, f"the proxy sees {count} WebSocket attempts", 0.2)

    async def observe(self, seconds: float) -> None:
        """Until the page has been open for that long, and events have kept coming all the time."""
        while time.time() < self.begun + seconds:
            await self.until_more(RATE)

    async def require_exactly_once(self) -> list[int]:
        """Lets everything arrive that is published by now and some more, then judges the page's numbers."""
        await self.until_more(RATE)
        numbers = await self.page.evaluate("got")
        require_exactly_once(numbers, max(numbers))
        assert await self.page.evaluate("told.filter(({ type }) => type === 'gap')") == []
        return numbers

    async def attempts_by_the_end(self) -> list[float]:
        """All of them: the client is closed first, so that a WebSocket that was let through is in the log as well."""
        if self.proxy.tells_late:
            await self.page.evaluate("void client.close()")
            await self.until_attempts(1, SOON)
        return self.proxy.attempts()

    async def evidence(self) -> str:
        """What to say of a failure."""
        said: list[Any] = []
        for question in ("client.stats()", "told.slice(-12)", "got.slice(-5)", "memory()"):
            with contextlib.suppress(Exception):
                said.append(f"{question} = {json.dumps(await self.page.evaluate(question))}")
        said += [str(message) for message in self.page.messages[-8:]]
        said.append(f"attempts, s after the beginning: {[round(at - self.begun, 2) for at in self.proxy.attempts()]}")
        if self.proxy.faults is not None:
            last = self.proxy.faults.requests[-8:]
            said += [f"{r.at - self.begun:.2f} {r.method} {r.path} {r.status} {'aborted' if r.aborted else ''}" for r in last]
        return "\n".join(said)


@contextlib.asynccontextmanager
async def on_page(browser: str, kind: Kind) -> AsyncIterator[Run]:
    """A window with the page, loaded through a proxy of its own; the client has not begun yet."""
    async with houses.of(browser) as house, kind.open(house.gateway.port) as proxy, house.browser.window() as page:
        run = Run(house, page, proxy)
        try:
            await run.load()
            yield run
            assert page.page_errors == []
        except Exception as error:
            error.add_note(await run.evidence())
            raise
