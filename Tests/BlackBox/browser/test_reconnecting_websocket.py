"""The drop-in class in real browsers, against a server that is not ours: the echo of Python's `websockets`."""

import asyncio
import contextlib
import json
import socket
import time
from collections.abc import AsyncIterator, Sequence
from typing import Any

import pytest
from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed
from websockets.typing import Subprotocol

import measured
from drivers import Browser, launch
from gateway import until
from relay import Relay, relay_to
from shared import window_of
from site_with_the_drop_in import site

#: How long anything may take that needs no more than a few round trips on a busy machine.
SOON = 10
#: Firefox itself holds back a WebSocket to where one has just failed.
FIREFOX_HOLDS_BACK = 30
IN_WAVES = False
#: Windows, not browsers: there are two of those, and one more for each test that hides its page.
AT_ONCE = 3
TYPES = "told.map(({ type }) => type).join(' ')"
#: Retries come soon, so that tests do not wait for them.
EAGER = {"minReconnectionDelay": 20, "maxReconnectionDelay": 100}
#: Retries are far away: what comes sooner has another reason.
SLOW = {"minReconnectionDelay": 600_000, "maxReconnectionDelay": 600_000, "jitter": False}

pytestmark = pytest.mark.parametrize("browser", ["chromium", "firefox"])


class Echo:
    """Sends back what it gets, but for `close CODE REASON`, which it does."""

    def __init__(self) -> None:
        self.url = ""
        self.port = 0
        self.connections: list[ServerConnection] = []
        self.heard: list[list[str | bytes]] = []

    async def serve(self, connection: ServerConnection) -> None:
        self.connections.append(connection)
        heard: list[str | bytes] = []
        self.heard.append(heard)
        with contextlib.suppress(ConnectionClosed):
            async for message in connection:
                heard.append(message)
                if isinstance(message, str) and message.startswith("close "):
                    _, code, reason = message.split(" ")
                    await connection.close(int(code), reason)
                    return
                await connection.send(message)

    async def until_heard(self, number: int, message: str | bytes, times: int = 1) -> None:
        async def heard() -> bool:
            return len(self.heard) > number and self.heard[number].count(message) >= times

        await until(heard, SOON, f"connection {number} says {message!r}")


@contextlib.asynccontextmanager
async def echo() -> AsyncIterator[Echo]:
    server = Echo()
    # Without pings of its own: what is on the line is what the page says.
    async with serve(server.serve, "127.0.0.1", 0, ping_interval=None, select_subprotocol=chat) as running:
        server.port = next(iter(running.sockets)).getsockname()[1]
        server.url = f"ws://127.0.0.1:{server.port}/"
        yield server
        running.close(close_connections=True)


def chat(_: ServerConnection, offered: Sequence[Subprotocol]) -> Subprotocol | None:
    return Subprotocol("chat") if "chat" in offered else None


@contextlib.asynccontextmanager
async def on_page(browser: str, *, alone: bool = False) -> AsyncIterator[tuple[Browser, Echo]]:
    """A page that has the class. `alone`: in a browser of its own, so that it can be hidden."""
    async with echo() as server, launch(browser) if alone else window_of(browser) as page:
        with site() as address:
            await page.open(address)
            await page.until("window.ready", SOON, "the module is loaded")
            try:
                yield page, server
                assert page.page_errors == []
            except Exception as error:
                with contextlib.suppress(Exception):
                    error.add_note(f"told = {json.dumps(await page.evaluate('told'))}")
                raise
            finally:
                with contextlib.suppress(Exception):
                    await page.evaluate("window.rws?.close()")


async def start(page: Browser, url: str, protocols: Any = None, /, provider: str | None = None, **options: Any) -> None:
    await page.evaluate(f"start({provider or json.dumps(url)}, {json.dumps(protocols)}, {json.dumps({**EAGER, **options})})")


async def told(page: Browser, *types: str) -> list[dict[str, Any]]:
    """What the app was told, of these types."""
    return [event for event in await page.evaluate("told") if not types or event["type"] in types]


async def until_told(page: Browser, types: str, timeout: float = SOON) -> list[dict[str, Any]]:
    """Waits until the app was told these events in this order, and no others."""
    await page.until(f"{TYPES} === {json.dumps(types)}", timeout, f"the events {types}")
    return await told(page)


async def until_open(page: Browser, times: int = 1, timeout: float = SOON) -> None:
    await page.until(f"told.filter(({{ type }}) => type === 'open').length >= {times}", timeout, f"open {times} times")


def picked(event: dict[str, Any], *names: str) -> list[Any]:
    return [event.get(name) for name in names]


async def test_a_hidden_page_that_is_shown_tries_now(browser):
    async with on_page(browser, alone=True) as (page, server):
        await start(page, server.url, **SLOW)
        await until_open(page)
        await page.hide()
        await page.until("document.hidden", SOON, "the page is hidden")
        await server.connections[0].close()
        await page.until("told.length === 2", SOON, "the close")
        await page.show()
        await until_open(page, 2)
        assert await page.evaluate("rws.retryCount") == 1


async def test_a_page_that_is_shown_asks_at_once_and_keeps_a_good_line(browser):
    async with on_page(browser, alone=True) as (page, server):
        await start(page, server.url, **SLOW, heartbeat={"interval": 600_000, "timeout": 5_000})
        await until_open(page)
        await page.hide()
        await page.until("document.hidden", SOON, "the page is hidden")
        assert server.heard[0] == []
        await page.show()
        await server.until_heard(0, "ping")
        await until_told(page, "open message")
        assert len(server.connections) == 1


async def test_connect_send_receive_close(browser):
    async with on_page(browser) as (page, server):
        getters = "[rws.readyState, rws.url, rws.protocol, rws.binaryType, rws.bufferedAmount]"
        early = await page.evaluate(f"(start('{server.url}', 'chat', {json.dumps(EAGER)}), {getters})")
        assert early == [0, "", "", "blob", 0]
        await until_open(page)
        assert await page.evaluate("[rws.readyState, rws.url, rws.protocol]") == [1, server.url, "chat"]
        await page.evaluate("rws.send('hello')")
        _, message = await until_told(page, "open message")
        assert message["data"] == "hello"
        assert await page.evaluate("(rws.close(1000, 'enough'), rws.close(), rws.readyState)") == 2
        *_, closed = await until_told(page, "open message close")
        assert picked(closed, "code", "reason", "wasClean", "state", "own") == [1000, "enough", True, 3, False]
        assert len(server.connections) == 1


async def test_what_is_sent_early_waits_and_keeps_its_order(browser):
    async with on_page(browser) as (page, server):
        await start(page, server.url, startClosed=True)
        sizes = await page.evaluate(
            """["four", new ArrayBuffer(5), new Uint16Array(3), new DataView(new ArrayBuffer(7)), new Blob(["12345678"])].map((message) => {
              const before = rws.bufferedAmount;
              rws.send(message);
              return rws.bufferedAmount - before;
            })"""
        )
        assert sizes == [4, 5, 6, 7, 8]
        assert await page.evaluate("(rws.onopen = () => rws.send('last'), rws.readyState)") == 3
        await page.evaluate("rws.reconnect()")
        await server.until_heard(0, "last")
        assert server.heard[0] == ["four", bytes(5), bytes(6), bytes(7), b"12345678", "last"]
        await page.until("rws.bufferedAmount === 0", SOON, "all is sent")


async def test_binary_type_is_kept_over_reconnects(browser):
    async with on_page(browser) as (page, server):
        await start(page, server.url)
        await until_open(page)
        await page.evaluate("rws.send(new Uint8Array([1, 2, 3]))")
        await until_told(page, "open message")
        await page.evaluate("(rws.binaryType = 'arraybuffer', rws.reconnect(4000, 'again'))")
        await until_open(page, 2)
        await page.evaluate("rws.send(new Uint8Array([1, 2, 3]))")
        await page.until("told.length === 5", SOON, "the echo")
        assert [event["data"] for event in await told(page, "message")] == ["Blob of 3", [1, 2, 3]]


async def test_reconnect_again_and_again(browser):
    async with on_page(browser) as (page, server):
        await start(page, server.url)
        for round_ in (1, 2, 3):
            await until_open(page, round_)
            await page.evaluate(f"rws.send('round {round_}')")
            await page.until(f"told.filter(({{ type }}) => type === 'message').length === {round_}", SOON, "the echo")
            # At once: the closing handshake is waited for by nobody.
            before = await page.evaluate("told.length")
            after = await page.evaluate("(rws.reconnect(4000, 'moved'), [told.length, rws.readyState, rws.retryCount])")
            assert after == [before + 1, 2, 0]
        await until_open(page, 4)
        events = await told(page)
        assert [event["type"] for event in events] == ["open", "message", "close"] * 3 + ["open"]
        for event in await told(page, "close"):
            assert picked(event, "code", "reason", "wasClean", "own") == [4000, "moved", True, True]
        for connection in server.connections[:3]:
            await asyncio.wait_for(connection.wait_closed(), SOON)
            assert connection.close_code == 4000


async def test_it_comes_back_after_the_servers_close_unless_told_not_to(browser):
    async with on_page(browser) as (page, server):
        await start(page, server.url)
        await until_open(page)
        await page.evaluate("rws.addEventListener('close', { handleEvent({ code }) { if (code === 4001) rws.close(); } })")
        for times, (code, reason) in enumerate([(1000, "normal"), (1001, "away"), (4000, "later")], 2):
            await page.evaluate(f"rws.send('close {code} {reason}')")
            await until_open(page, times)
            assert picked((await told(page, "close"))[-1], "code", "reason", "wasClean") == [code, reason, True]
        await page.evaluate("rws.send('close 4001 never')")
        await page.until("told.at(-1).code === 4001", SOON, "the last close")
        assert await page.evaluate("[rws.shouldReconnect, rws._connectLock, rws._due]") == [False, None, 0]


async def test_a_torn_line_comes_back(browser):
    async with on_page(browser) as (page, server), relay_to(server.port) as relay:
        await start(page, f"ws://127.0.0.1:{relay.port}/")
        await until_open(page)
        assert relay.tear() == 1
        await until_open(page, 2, FIREFOX_HOLDS_BACK)
        await page.evaluate("rws.send('back')")
        await server.until_heard(1, "back")


async def test_nobody_there(browser):
    async with on_page(browser) as (page, _):
        with socket.socket() as nobody:
            nobody.bind(("127.0.0.1", 0))  # and does not listen
            await start(page, f"ws://127.0.0.1:{nobody.getsockname()[1]}/", maxRetries=1)
            events = await until_told(page, "close error close error", FIREFOX_HOLDS_BACK)
            assert [event["retries"] for event in events] == [1, 1, 1, 1]
            assert "TIMEOUT" not in [event.get("message") for event in events]
            assert await page.evaluate("[rws._due, rws._connectLock]") == [0, None], "it has given up"
            assert await page.evaluate("rws.readyState") == 3


async def test_a_server_that_never_answers_is_a_timeout(browser):
    async with on_page(browser) as (page, _):
        with socket.create_server(("127.0.0.1", 0)) as mute:
            port = mute.getsockname()[1]
            await start(page, f"ws://127.0.0.1:{port}/", connectionTimeout=300, maxRetries=1)
            closed, failed, *_ = await until_told(page, "close error close error", FIREFOX_HOLDS_BACK)
            assert picked(closed, "code", "reason", "wasClean", "own") == [1000, "timeout", True, True]
            assert picked(failed, "message", "own") == ["TIMEOUT", True]


async def test_a_provider_is_asked_each_time_and_what_is_no_url_is_an_error(browser):
    async with on_page(browser) as (page, server):
        answers = f"""[
          () => {{ throw new RangeError("no token"); }},
          () => Promise.reject(new Error("refused")),
          () => 5,
          () => "http://[",
          async () => "{server.url}a",
          () => "{server.url}b",
        ]"""
        await page.evaluate(f"void (window.answers = {answers}, window.asked = 0)")
        await start(page, "", provider="() => answers[asked++]()")
        await until_open(page)
        events = await until_told(page, "error error error error open")
        assert [event["message"] for event in events[:2]] == ["no token", "refused"]
        assert "Invalid URL" in events[2]["message"]
        assert all(event["own"] for event in events[:4])
        await page.evaluate("rws.reconnect()")
        await until_open(page, 2)
        assert [connection.request.path for connection in server.connections] == ["/a", "/b"]


async def test_a_dead_line_is_noticed_and_replaced(browser):
    async with on_page(browser) as (page, server), relay_to(server.port) as relay:
        # The timeout is generous for a busy machine: a false alarm would be another connection.
        await page.evaluate("void (window.isPong = ({ data }) => data === 'ping')")
        url = json.dumps(f"ws://127.0.0.1:{relay.port}/")
        options = "{ ...%s, heartbeat: { interval: 500, timeout: 5000, isPong } }" % json.dumps(EAGER)
        await page.evaluate(f"start({url}, null, {options})")
        await until_open(page)
        await server.until_heard(0, "ping", 2)
        assert await page.evaluate(TYPES) == "open", "answers are not for the app"
        assert await cut_and_restore(relay) == 1
        cut = time.time()
        await until_told(page, "open close open", 2 * SOON)
        _, closed, opened = await told(page)
        measured.note(browser, "drop-in", "dead line noticed s", closed["at"] / 1000 - cut)
        measured.note(browser, "drop-in", "new line s", opened["at"] / 1000 - cut)
        assert picked(closed, "code", "reason", "wasClean", "own", "retries") == [1006, "heartbeat timeout", False, True, 1]
        assert opened["at"] - closed["at"] < 5000, "at once"
        assert relay.lost_bytes > 0, "the close that nobody waits for"
        await page.evaluate("rws.send('hello')")
        await page.until("told.at(-1).data === 'hello'", SOON, "the echo on the new line")


async def cut_and_restore(relay: Relay) -> int:
    """The lines that are there stay silent for good; new ones get through."""
    dead = relay.cut()
    relay.restore()
    return dead


async def test_offline_waits_and_online_tries_now(browser):
    async with on_page(browser) as (page, server):
        await start(page, server.url)
        await until_open(page)
        # What the browser believes of the machine's network is not for a test to change; what the page is told of it is.
        await page.evaluate("void Object.defineProperty(navigator, 'onLine', { get: () => window.onLine ?? false })")
        await page.evaluate("dispatchEvent(new Event('offline'))")
        assert await page.evaluate("rws.readyState") == 1, "the line is kept"
        await page.evaluate("rws.send('close 4000 gone')")
        await page.until("told.at(-1).type === 'close'", SOON, "the close")
        # Its time has come and gone.
        await page.until("performance.now() > rws._due + 1000", SOON, "the attempt is overdue")
        assert len(server.connections) == 1
        await page.evaluate("dispatchEvent(new Event('visibilitychange'))")
        assert await page.evaluate(TYPES) == "open close"
        await page.evaluate("(window.onLine = true, dispatchEvent(new Event('online')))")
        await until_open(page, 2)


async def test_online_tries_now_and_pageshow_too(browser):
    async with on_page(browser) as (page, server):
        await start(page, server.url, **SLOW)
        await until_open(page)
        for times, event in enumerate(["new Event('online')", "new PageTransitionEvent('pageshow', { persisted: true })"], 2):
            await server.connections[-1].close(4000)
            await page.until(f"told.length === {2 * times - 2}", SOON, "the close")
            await page.evaluate("dispatchEvent(new PageTransitionEvent('pageshow', { persisted: false }))")
            assert await page.evaluate("rws._due > performance.now() + 60_000"), "a page that is shown for the first time is no reason"
            await page.evaluate(f"dispatchEvent({event})")
            await until_open(page, times)


async def test_in_a_worker(browser):
    async with on_page(browser) as (page, server), relay_to(server.port) as relay:
        options = json.dumps({**EAGER, "heartbeat": {"interval": 300, "timeout": 5_000}})
        await page.evaluate(f"work('ws://127.0.0.1:{relay.port}/', 'chat', {options})")
        await until_open(page)
        await page.evaluate("worker.postMessage('hello')")
        await server.until_heard(0, "hello")
        await server.until_heard(0, "ping")
        await cut_and_restore(relay)
        await until_open(page, 2, 2 * SOON)
        [closed] = await told(page, "close")
        assert picked(closed, "code", "reason") == [1006, "heartbeat timeout"]
        await page.evaluate("worker.postMessage('again')")
        await server.until_heard(1, "again")
        await page.evaluate("worker.terminate()")


async def test_close_before_it_is_open(browser):
    async with on_page(browser) as (page, server):
        await page.evaluate(f"(start('{server.url}', [], {json.dumps(EAGER)}), window.early = rws, rws.close())")
        assert await page.evaluate("early.readyState") == 3
        # A later one is open: had the first one begun, it would have been before.
        await start(page, server.url)
        await until_open(page)
        await page.evaluate("rws.send('x')")
        await until_told(page, "open message")
        assert len(server.connections) == 1
