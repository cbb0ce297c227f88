"""The browser client as its users use it: imported by a page of another origin, against `holdfast serve --dev`."""

import contextlib
import json
import time
from collections.abc import AsyncIterator

import pytest

import lines
from drivers import Browser, launch
from gateway import Gateway, running, until
from relay import relay_to
from site_of_another_origin import site

TOPIC = "calls.call_1"
#: How long anything may take that needs no more than a few round trips on a busy machine.
SOON = 10
IN_WAVES = False

pytestmark = pytest.mark.parametrize("browser", ["chromium", "firefox"])


@contextlib.asynccontextmanager
async def on_page(browser_name: str, *, complaints: bool = False) -> AsyncIterator[tuple[Browser, Gateway]]:
    """A page that has the client's module. `complaints`: the browser will remark on what the test does."""
    async with running("serve", "--dev", "--port", "0") as gateway, launch(browser_name) as browser:
        with site(gateway.origin) as address:
            await lines.watch(browser)
            await browser.open(address)
            await browser.until("window.ready", SOON, "the module is loaded")
            yield browser, gateway
            if not complaints:
                assert browser.page_errors + browser.browser_errors == []


async def subscribe(browser: Browser, url: str | None = None) -> dict:
    """Makes `client` and `sub`, with `got` as what its listener was given."""
    return await browser.evaluate(
        f"""(async () => {{
          start({{}}, {json.dumps(url) if url else "undefined"});
          window.sub = client.subscribe("{TOPIC}");
          window.got = [];
          sub.on("message", ({{ data }}) => got.push(data));
          return await sub.ready();
        }})()"""
    )


async def only_session(gateway: Gateway) -> str:
    [session] = await gateway.sessions()
    return session["id"]


async def told(browser: Browser, kind: str) -> list[dict]:
    return await browser.evaluate(f"told.filter(({{ type }}) => type === '{kind}')")


# The longest comes first, so that the others run beside it.


async def test_a_hidden_page_asks_seldom_and_at_once_when_shown(browser):
    async with on_page(browser) as (page, gateway):
        await subscribe(page)
        await page.until("told.some(({ type }) => type === 'rtt')", 4 + SOON, "a visible page pings within 4 s of silence")

        await page.hide()
        hidden_at = time.time()
        await gateway.publish(TOPIC, 1)
        await page.until("got.length === 1", SOON, "events reach a hidden page")
        heard_at = max(at for line in await lines.lines(page) for at, _ in line["heard"]) / 1000

        # Nothing is heard from now on: the next ping comes after the hidden interval of 25 s, not after 4 s.
        def first_ping_after(moment: float) -> str:
            return f"__lines[0].sent.find(([at, event]) => event === 'ping' && at > {moment * 1000})"

        at, _ = await page.until(first_ping_after(max(heard_at, hidden_at)), 25 + SOON, "the ping of a hidden page")
        assert 20 <= at / 1000 - heard_at <= 28

        await page.until(f"__lines[0].heard.some(([heard]) => heard >= {at})", SOON, "its answer")
        shown_at = time.time()
        await page.show()
        at, _ = await page.until(first_ping_after(shown_at), SOON, "the ping of a page that is shown again")
        assert at / 1000 - shown_at <= 1
        assert len(await lines.lines(page)) == 1, "the line was good all the time"


async def test_messages_reach_listeners_and_loops_in_order(browser):
    async with on_page(browser) as (page, gateway):
        reply = await subscribe(page)
        assert reply["position"]["offset"] == 0
        assert await page.evaluate("[client.state, sub.state, sub.name]") == ["connected", "subscribed", TOPIC]
        await page.evaluate("void (window.looped = take(300, sub))")

        payloads = [{"n": n, "text": 'é € 😀 \u2028 " \\ </script>'} for n in range(1, 301)]
        last = await gateway.publish(TOPIC, *payloads)
        looped = await page.evaluate("looped")
        assert [message["data"] for message in looped] == payloads
        assert [message["offset"] for message in looped] == list(range(1, 301))
        assert all(message["subscription"] == TOPIC and message["gap"] is None for message in looped)
        assert await page.evaluate("got") == payloads
        assert await page.evaluate("sub.position.offset") == last == 300


async def test_two_subscriptions_do_not_mix(browser):
    async with on_page(browser) as (page, gateway):
        await subscribe(page)
        await page.evaluate("(async () => { window.other = client.subscribe('jobs.job_1'); await other.ready(); })()")
        assert await page.evaluate(f"client.subscribe('{TOPIC}') === sub"), "the same while it lasts"
        await page.evaluate("void (window.jobs = take(2, other))")
        await gateway.publish(TOPIC, "call 1")
        await gateway.publish("jobs.job_1", "job 1", "job 2")
        assert [message["data"] for message in await page.evaluate("jobs")] == ["job 1", "job 2"]
        assert await page.evaluate("got") == ["call 1"]


async def test_a_listener_that_throws_disturbs_nobody(browser):
    async with on_page(browser) as (page, gateway):
        await subscribe(page)
        await page.evaluate("void sub.on('message', () => { throw new Error('broken listener'); })")
        await page.evaluate("void (window.after = []), void sub.on('message', ({ data }) => after.push(data))")
        await gateway.publish(TOPIC, 1, 2)
        await page.until("after.length === 2", SOON, "the listener behind the broken one is called")
        errors = await told(page, "error")
        assert [error["code"] for error in errors] == ["callback_failed", "callback_failed"]
        assert "broken listener" in errors[0]["message"]
        assert await page.evaluate("client.state") == "connected"


async def test_commands_are_promises(browser):
    async with on_page(browser) as (page, _):
        await subscribe(page)
        assert await page.evaluate("sub.message({ hello: 'service' })") is None
        assert await page.evaluate(f"client.message('{TOPIC}', [1, 2])") is None
        refused = await page.evaluate("failure(client.message('calls.never_subscribed', 1))")
        assert (refused["isHoldfastError"], refused["code"]) == (True, "not_subscribed")
        refused = await page.evaluate("failure(client.subscribe('no-topic').ready())")
        assert (refused["isHoldfastError"], refused["code"]) == (True, "bad_subscription")
        mistake = await page.evaluate("(() => { try { start({ getTiket() {} }); } catch (error) { return error.message; } })()")
        assert '"getTicket"' in mistake, "a mistyped option names the right one"


async def test_unsubscribe_ends_the_loops_and_the_delivery(browser):
    async with on_page(browser) as (page, gateway):
        await subscribe(page)
        await page.evaluate("(async () => { window.other = client.subscribe('jobs.job_1'); await other.ready(); })()")
        await page.evaluate("void (window.looped = take(100, sub))")
        await gateway.publish(TOPIC, 1)
        await page.until("got.length === 1", SOON, "the first message")
        await page.evaluate("sub.unsubscribe()")
        assert [message["data"] for message in await page.evaluate("looped")] == [1], "the loop has ended well"
        assert await page.evaluate("sub.state") == "unsubscribed"
        session = await gateway.session(await only_session(gateway))
        assert session is not None and session["subscriptions"] == ["jobs.job_1"]

        # Delivery is in order: what comes on the other topic has overtaken nothing.
        await page.evaluate("void (window.jobs = take(1, other))")
        await gateway.publish(TOPIC, 2)
        await gateway.publish("jobs.job_1", "after it")
        await page.evaluate("jobs")
        assert await page.evaluate("got") == [1]

        # From where it was left, and not from the start.
        await page.evaluate(f"void (window.again = take(1, client.subscribe('{TOPIC}', {{ since: sub.position }})))")
        assert [message["data"] for message in await page.evaluate("again")] == [2]


async def test_close_ends_everything_and_connect_goes_on(browser):
    async with on_page(browser) as (page, gateway):
        await subscribe(page)
        await page.evaluate("void (window.looped = take(100, sub))")
        await gateway.publish(TOPIC, 1)
        await page.until("got.length === 1", SOON, "the first message")
        await page.evaluate("void client.close()")
        assert await page.evaluate("client.state") == "closed"
        assert [message["data"] for message in await page.evaluate("looped")] == [1], "the loop has ended well"

        async def nobody_is_attached() -> bool:
            return not any(session["state"] == "attached" for session in await gateway.sessions())

        await until(nobody_is_attached, SOON, "the server knows")
        # What wakes a client that waits must not wake one that was closed.
        await page.evaluate("['online', 'pageshow', 'focus'].forEach((type) => dispatchEvent(new Event(type)))")
        await page.hide()
        await page.show()
        await gateway.publish(TOPIC, 2, 3)
        assert len(await lines.lines(page)) == 1
        assert await page.evaluate("got") == [1]

        await page.evaluate("void client.connect()")
        await page.until("got.length >= 3", SOON, "what was published meanwhile")
        assert await page.evaluate("got") == [1, 2, 3]


async def test_a_position_older_than_the_history_gives_a_gap(browser):
    async with on_page(browser) as (page, gateway):
        await gateway.publish(TOPIC, *range(1, 1201))
        history = await gateway.get(f"/api/history?subscription={TOPIC}&limit=1")
        epoch, newest = history["position"]["epoch"], history["position"]["offset"]
        assert newest == 1200
        since = f'{{ epoch: "{epoch}", offset: 41 }}'
        await page.evaluate(
            f"""void (() => {{
              start({{ bufferSize: 2000 }});
              window.sub = client.subscribe("{TOPIC}", {{ since: {since} }});
              window.gaps = [];
              sub.on("gap", (gap) => gaps.push(gap));
              window.kept = take(1000, sub);
            }})()"""
        )
        assert (await page.evaluate("sub.ready()"))["recovered"] is False
        kept = await page.evaluate("kept")
        # The history of --dev is 1,000 publications: 201 to 1200 are left.
        gap = {"subscription": TOPIC, "after": 41, "next": 201, "missing": 159}
        assert await page.evaluate("gaps") == [gap]
        assert [{key: value for key, value in each.items() if key in gap} for each in await told(page, "gap")] == [gap]
        assert [message["offset"] for message in kept] == [message["data"] for message in kept] == list(range(201, 1201))
        assert [message["gap"] for message in kept] == [gap] + [None] * 999, "a loop sees the gap on the message after it"


async def test_a_lost_line_resumes_its_session(browser):
    async with on_page(browser, complaints=True) as (page, gateway), relay_to(gateway.port) as relay:
        await subscribe(page, f"ws://127.0.0.1:{relay.port}/socket")
        await gateway.publish(TOPIC, *range(1, 11))
        session = await only_session(gateway)
        assert relay.tear() == 1
        await gateway.publish(TOPIC, *range(11, 51))
        await page.until("told.some(({ type }) => type === 'recovered')", SOON, "the app is told that it has recovered")
        await gateway.publish(TOPIC, *range(51, 61))
        await page.until("got.includes(60)", SOON, "the last message")
        assert await page.evaluate("got") == list(range(1, 61))
        assert await only_session(gateway) == session
        [recovered] = await told(page, "recovered")
        assert recovered["by"] == "session"
        assert [event["resumed"] for event in await told(page, "connected")] == [False, True]
        assert page.page_errors == []


async def test_a_lost_session_recovers_by_position(browser):
    async with on_page(browser) as (page, gateway):
        await subscribe(page)
        await gateway.publish(TOPIC, *range(1, 11))
        await page.until("got.includes(10)", SOON, "the first messages")
        session = await only_session(gateway)
        await gateway.post(f"/api/sessions/{session}/disconnect", {"code": 4008, "reason": "slow consumer"})
        await gateway.publish(TOPIC, *range(11, 51))
        await page.until("told.some(({ type }) => type === 'recovered')", SOON, "the app is told that it has recovered")
        await gateway.publish(TOPIC, *range(51, 61))
        await page.until("got.includes(60)", SOON, "the last message")
        assert await page.evaluate("got") == list(range(1, 61))
        assert await only_session(gateway) != session
        [recovered] = await told(page, "recovered")
        assert (recovered["by"], recovered["subscription"]) == ("position", TOPIC)
        assert [event["resumed"] for event in await told(page, "connected")] == [False, False]
        assert await told(page, "gap") == []


async def test_a_client_that_is_forbidden_stops(browser):
    async with on_page(browser) as (page, gateway):
        await subscribe(page)
        await page.evaluate("void (window.looped = failure(take(1, sub)))")
        session = await only_session(gateway)
        await gateway.post(f"/api/sessions/{session}/disconnect", {"code": 4003, "reason": "no longer yours"})
        await page.until("client.state === 'closed'", SOON, "the client stops")
        assert [error["code"] for error in await told(page, "error")] == ["forbidden"]
        assert await page.evaluate("looped") is not None, "a loop does not end as if all were well"
        await page.evaluate("['online', 'pageshow'].forEach((type) => dispatchEvent(new Event(type)))")
        assert len(await lines.lines(page)) == 1


async def test_doubt_means_ask_and_keep(browser):
    async with on_page(browser) as (page, _):
        await subscribe(page)
        for doubt in ("new Event('online')", "new PageTransitionEvent('pageshow', { persisted: true })"):
            answered = len(await told(page, "rtt"))
            asked_at = await page.evaluate(f"(dispatchEvent({doubt}), Date.now())")
            told_again = f"told.filter(({{ type }}) => type === 'rtt').length > {answered}"
            await page.until(told_again, 2, f"asked and answered: {doubt}")
            [line] = await lines.lines(page)
            assert min(abs(at * 1000 - asked_at) for at in lines.sent(line, "ping")) <= 1000, f"at once: {doubt}"
        assert await page.evaluate("client.state") == "connected"
