"""The transport ladder (client.md) in real browsers behind real and behind faulty proxies (faults.md F6 to F9).

Every kind of proxy is a test; all of them run side by side, as windows of one Chromium and one Firefox.
"""

import contextlib
import json
import time

import pytest

import measured
from gateway import until
from ladder import FIRST_EVENT_LIMIT, KINDS, RATE, SOON, fault, faulty, houses, on_page
from side_by_side import all_are_ready

#: The second attempt comes 30 s after the first has failed.
OBSERVED = 42.0
#: Windows, not browsers: there are two of those.
AT_ONCE = 100
TEST_TIMEOUT = 240.0
MINUTE = 60_000

BROWSERS = ["chromium", "firefox"]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("browser", BROWSERS)
async def test_events_flow_and_the_knocking_stops(browser, kind):
    how = KINDS[kind]
    async with on_page(browser, how) as run:
        await all_are_ready()
        await run.begin(how.first_event)
        measured.note(browser, kind, "first event ms", run.first_event_ms)
        if how.meanwhile:
            await how.meanwhile(run)
        least, most = how.attempts
        if least > 1:
            await run.until_attempts(least, OBSERVED + SOON)
        await run.observe(OBSERVED)
        assert await run.transport() == how.transport
        await run.require_exactly_once()
        aborted, polls = run.proxy.aborted(), run.proxy.polls()
        measured.note(browser, kind, "polls", polls)
        attempts = len(await run.attempts_by_the_end())
        measured.note(browser, kind, "WebSocket attempts", attempts)
        assert aborted == 0, f"{aborted} of {polls} polls were aborted"
        assert least <= attempts <= most, f"{attempts} WebSocket attempts in {time.time() - run.begun:.0f} s"
        if how.transport == "poll":
            assert polls > 0, "the proxy must have seen the polls that it judges"


def verdict(now: float) -> dict:
    """What a client remembers that was told twice, long ago, that WebSockets are blocked. Times in ms since 1970."""
    return {"v": 1, "attempts": [round(now - 40 * MINUTE), round(now - 20 * MINUTE)], "strikes": 2, "until": round(now + 40 * MINUTE),
            "term": 60 * MINUTE, "deaths": 0, "life": None, "rest": None, "pollUntil": None}


async def remember_a_verdict(run) -> None:
    """Leaves it where the client itself keeps its memory, and comes back."""
    [[key, _]] = await run.page.until("memory().length && memory()", SOON, "the client remembers its attempt")
    await run.page.open("about:blank")
    await run.page.open(f"http://{run.proxy.address}/page.html?seed")
    await run.page.until("window.ready", SOON, "the page is loaded")
    await run.page.evaluate(f"localStorage.setItem({json.dumps(key)}, {json.dumps(json.dumps(verdict(time.time() * 1000)))})")
    await run.load()


@pytest.mark.parametrize("treatment", ["400", "hang"])
@pytest.mark.parametrize("browser", BROWSERS)
async def test_a_reload_under_a_verdict_does_not_knock_and_another_network_knocks_once(browser, treatment):
    async with on_page(browser, faulty(treatment)) as run:
        await all_are_ready()
        await run.begin(FIRST_EVENT_LIMIT)
        await remember_a_verdict(run)
        before = len(run.proxy.attempts())
        await run.begin(FIRST_EVENT_LIMIT)
        assert await run.transport() == "stream"
        assert await run.page.evaluate("client.stats().websocket") == "blocked"
        await run.until_more(6 * RATE)
        assert len(run.proxy.attempts()) == before, "a reload under the verdict makes no attempt"

        await run.page.evaluate("['offline', 'online'].forEach((type) => dispatchEvent(new Event(type)))")
        await run.until_attempts(before + 1, SOON)
        await run.until_more(15 * RATE)
        assert len(run.proxy.attempts()) == before + 1, "another network is worth exactly one"
        assert await run.transport() == "stream"
        await run.require_exactly_once()
        assert run.proxy.aborted() == 0


@pytest.mark.parametrize("browser", BROWSERS)
async def test_a_network_that_lets_websockets_through_ends_the_verdict(browser):
    async with on_page(browser, faulty("400")) as run:
        await all_are_ready()
        await run.begin(FIRST_EVENT_LIMIT)
        await remember_a_verdict(run)
        before = len(run.proxy.attempts())
        run.proxy.faults.treatment = "ok"
        await run.begin(FIRST_EVENT_LIMIT)
        await run.until_more(3 * RATE)
        assert await run.transport() == "stream"
        await run.page.evaluate("['offline', 'online'].forEach((type) => dispatchEvent(new Event(type)))")
        await run.until_transport("websocket", SOON)
        assert len(run.proxy.attempts()) == before + 1
        await run.require_exactly_once()


FORBIDDEN = """() => {
  Object.defineProperty(window, "localStorage", { get() { throw new DOMException("The operation is insecure.", "SecurityError"); } });
}"""
FULL = """() => {
  Storage.prototype.setItem = () => { throw new DOMException("The quota has been exceeded.", "QuotaExceededError"); };
}"""


@pytest.mark.parametrize("storage", [FORBIDDEN, FULL], ids=["forbidden", "full"])
@pytest.mark.parametrize("browser", BROWSERS)
async def test_storage_that_cannot_be_had_does_not_hurt(browser, storage):
    async with on_page(browser, faulty("426")) as run:
        await run.page.preload(storage)
        await run.load()
        await all_are_ready()
        await run.begin(FIRST_EVENT_LIMIT)
        await run.observe(OBSERVED)
        assert await run.transport() == "stream"
        assert len(run.proxy.attempts()) == 2
        await run.require_exactly_once()


@pytest.mark.parametrize("browser", BROWSERS)
async def test_eight_tabs_over_six_connections_all_live_and_send(browser):
    """HTTP/1.1: six connections to a host. At most four tabs hold one, the others take turns with short polls."""
    async with contextlib.AsyncExitStack() as stack:
        house = await stack.enter_async_context(houses.of(browser))
        proxy = await stack.enter_async_context(fault(house.gateway.port, "400"))

        @contextlib.asynccontextmanager
        async def same(_: int):
            yield proxy

        kind = faulty("400")
        tabs = [await stack.enter_async_context(on_page(browser, type(kind)(same, "stream", (2, 2)))) for _ in range(8)]
        await all_are_ready()
        for tab in tabs:
            await tab.begin(SOON)
        attempts = len(proxy.attempts())
        assert attempts <= 2, f"the tabs share one budget, and knocked {attempts} times"

        # All are live: each has everything within a few seconds, for a while.
        for tab in tabs:
            await tab.until_more(2 * RATE)
        # All can send, while the others hold their connections: a second subscription.
        for tab in tabs:
            await tab.page.evaluate(f"alsoSubscribe('{tab.topic}.b')")
            house.ticker.add(f"{tab.topic}.b")
        for tab in tabs:
            await tab.page.until("also.length >= 10", 2 + SOON, "events of the second subscription")

        def listening() -> int:
            return sum(request.ended is None for request in proxy.faults.requests if request.kind in ("poll", "stream"))

        async def settled() -> bool:
            return listening() <= 4

        await until(settled, SOON, "no more than four connections are held")
        for tab in tabs:
            numbers = await tab.require_exactly_once()
            assert len(numbers) > 4 * RATE
            also = await tab.page.evaluate("also")
            assert also == list(range(also[0], also[0] + len(also)))
        assert proxy.aborted() == 0
        assert len(proxy.attempts()) <= 2


# The proxies themselves: a judge that sees nothing would make every test here green -----------------------------------------


@pytest.mark.parametrize("browser", ["chromium"])
async def test_the_proxies_see_what_a_restless_page_does(browser):
    """A page that knocks five times and aborts its polls is seen to do so, by the fault proxy and by nginx' and HAProxy's logs."""
    for name in ("status 400", "nginx without upgrade", "haproxy"):
        async with on_page(browser, KINDS[name]) as run:
            await run.page.evaluate(
                """(async () => {
                  for (let n = 0; n < 5; n++) {
                    await new Promise((done) => {
                      const socket = new WebSocket(`ws://${location.host}/holdfast/socket`);
                      socket.onopen = () => socket.close();
                      socket.onclose = done;
                    });
                  }
                })()""",
                timeout=60,
            )
            await run.until_attempts(5, SOON)
            assert len(run.proxy.attempts()) == 5
            await run.page.evaluate(
                """(async () => {
                  const pause = (ms) => new Promise((done) => setTimeout(done, ms));
                  const hello = [{ event: "hello", version: 1 }];
                  const [reply] = await (await fetch("/holdfast/session", { method: "POST", body: JSON.stringify(hello) })).json();
                  const [handle, secret] = reply.session.split(".");
                  const headers = { Authorization: `Holdfast ${secret}` };
                  for (let n = 0; n < 3; n++) {
                    const abort = new AbortController();
                    const body = JSON.stringify({ received: 0, wait: 20 });
                    const poll = fetch(`/holdfast/session/${handle}/poll`, { method: "POST", headers, body, signal: abort.signal });
                    await pause(200);
                    abort.abort();
                    await poll.catch(() => {});
                  }
                })()"""
            )

            async def seen() -> bool:
                return run.proxy.aborted() == 3

            await until(seen, SOON, f"{name}: three aborted polls are seen")
    await all_are_ready()


@pytest.mark.parametrize(
    ("treatment", "words"),
    [
        ("ok", "WebSockets work"),
        ("400", "Something between you and the server refuses WebSocket upgrades"),
        ("hang", "Something between you and the server lets WebSocket handshakes hang"),
        ("silent", "Something between you and the server"),
    ],
)
@pytest.mark.parametrize("browser", BROWSERS)
async def test_the_page_for_a_support_call_names_the_cause(browser, treatment, words):
    async with on_page(browser, faulty(treatment)) as run:
        await all_are_ready()
        await run.page.open(f"http://{run.proxy.address}/holdfast/diagnose")
        done = "document.querySelector('#verdict')?.dataset.verdict"
        verdict = await run.page.until(done, 40, "the page has come to a verdict")
        text = await run.page.evaluate("document.querySelector('#text').textContent")
        await run.page.screenshot(measured.folder() / f"diagnose-{browser}-{treatment}.png")
        assert verdict == ("websocket" if treatment == "ok" else "stream"), text
        assert words in text, text
        assert await run.page.evaluate("document.documentElement.scrollWidth <= innerWidth"), "nothing is wider than the page"
