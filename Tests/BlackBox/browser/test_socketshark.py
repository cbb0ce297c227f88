"""Pages in front of a backend made for SocketShark: with the browser's own WebSocket, and with the browser client."""

import contextlib
import json
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass

import pytest

import faults
import lines
import measured
from backend import Backend, backend, example
from drivers import Browser
from fake_service import Request, ok, refused
from gateway import Gateway, until
from judge import require_exactly_once
from ladder import own_host
from relay import Relay, relay_to
from shared import window_of
from site_of_another_origin import page_for

#: How long anything may take that needs no more than a few round trips on a busy machine.
SOON = 10
#: After a restore: the backoff's cap, and a line that was under way may have to fail first.
RETURN_TIMEOUT = 25
IN_WAVES = False
#: Windows, not browsers: there are two of those.
AT_ONCE = 6

TOPIC = "calls.alice"
SNAPSHOT = {"state": "idle", "queue": [1.5, "é €"]}

pytestmark = pytest.mark.parametrize("browser", ["chromium", "firefox"])


@contextlib.asynccontextmanager
async def explained(page: Browser, gateway: Gateway) -> AsyncIterator[None]:
    """Says of a failure what the page and the gateway know."""
    try:
        yield
    except Exception as error:
        for question in ("client.stats()", "told.slice(-12)", "got.slice(-5)", "window.__lines?.map(({ heard, sent, ...line }) => line)"):
            with contextlib.suppress(Exception):
                error.add_note(f"{question} = {json.dumps(await page.evaluate(question))}")
        error.add_note("\n".join([*map(str, page.messages[-8:]), *list(gateway.output)[-15:]]))
        raise


async def until_not_ready(gateway: Gateway) -> None:
    async def not_ready() -> bool:
        try:
            await gateway.get("/ready")
        except AssertionError as refusal:
            return ": 503 " in str(refusal)
        return False

    await until(not_ready, SOON, "the gateway notices that Redis is gone")


# The browser's own WebSocket, and the example -----------------------------------------------------------------------------


async def test_the_example_works_as_its_readme_says(browser):
    """Nothing on the page is Holdfast's, and its configuration is SocketShark's."""
    async with example() as shown, window_of(browser) as page:
        await lines.watch(page)

        async def heard(**members) -> list[dict]:
            said = await page.evaluate("document.getElementById('log').textContent")
            events = [json.loads(line[2:]) for line in said.splitlines() if line.startswith("← ")]
            return [event for event in events if members.items() <= event.items()]

        async def until_heard(count: int, timeout: float = SOON, **members) -> list[dict]:
            async def enough() -> list[dict] | None:
                found = await heard(**members)
                return found if len(found) >= count else None

            return await until(enough, timeout, f"{count} of {members} on the page")

        async def say(**event) -> None:
            await page.evaluate(f"void send({json.dumps(event)})")

        async def pushed() -> list:
            return [event["data"] for event in await heard(event="message", subscription=TOPIC) if "status" not in event]

        async def until_pushed(count: int) -> list:
            async def enough() -> bool:
                return len(await pushed()) >= count

            await until(enough, SOON, f"{count} pushes")
            return await pushed()

        async def choose(user: str) -> None:
            await page.evaluate(f"void (element('log').textContent = '', element('user').value = '{user}')")
            await page.evaluate("void element('user').dispatchEvent(new Event('change'))")

        await page.open(shown.address)
        [reply] = await until_heard(1, event="subscribe")
        assert reply == {"event": "subscribe", "status": "ok", "subscription": TOPIC, "data": {"state": "idle"}}
        assert await heard(event="auth") == [{"event": "auth", "status": "ok"}]
        assert await page.evaluate("element('state').textContent") == "idle", "the snapshot is shown"

        calls = [{"state": "ringing", "n": n, "text": 'é € 😀 " \\ </pre>'} for n in range(1, 31)]
        assert [shown.publish(TOPIC, call) for call in calls] == [1] * 30, "Redis knows one subscriber"
        assert await until_pushed(30) == calls
        assert await page.evaluate("element('state').textContent") == "ringing"
        times = [event for event in await heard(event="message") if {"received_at", "sent_at", "queue_size"} <= event.keys()]
        assert len(times) == 30, "SocketShark's own members are there"

        await page.evaluate("element('note').click()")
        [reply] = await until_heard(1, event="message", status="ok")
        assert (reply["subscription"], reply["data"]) == (TOPIC, {"noted": "called back", "by": "alice"})
        await say(event="ping", data="seven")
        await until_heard(1, event="pong", data="seven")
        await say(event="subscribe", subscription="calls.bob")
        await until_heard(1, event="subscribe", status="error", error="Not your calls.", subscription="calls.bob")
        await page.screenshot(measured.folder() / f"socketshark-{browser}-page.png")

        await say(event="unsubscribe", subscription=TOPIC)
        await until_heard(1, event="unsubscribe", status="ok", subscription=TOPIC)
        shown.publish(TOPIC, "not for the page")
        await say(event="subscribe", subscription=TOPIC)
        await until_heard(2, event="subscribe", status="ok", subscription=TOPIC)
        shown.publish(TOPIC, "again")
        assert await until_pushed(31) == [*calls, "again"], "what comes after unsubscribe does not come"

        # "Then stop Redis and start it again: the page stays connected to Holdfast."
        shown.redis.kill()

        await until_not_ready(shown.gateway)
        shown.redis.start()

        async def arrives() -> bool:
            return shown.publish(TOPIC, "after") == 1

        await until(arrives, RETURN_TIMEOUT, "the gateway has subscribed again")
        assert (await until_pushed(32))[31:] == ["after"]
        [line] = await lines.lines(page)
        assert line["closed"] is None

        # "Choose mallory, who has no good ticket."
        await choose("mallory")
        await until_heard(1, event="auth", status="error", error="No such ticket.")
        await say(event="subscribe", subscription=TOPIC)
        await until_heard(1, event="subscribe", status="error", error="Authentication required.", subscription=TOPIC)

        async def nobody_is_left() -> bool:
            return shown.publish(TOPIC, "not for mallory") == 0

        await until(nobody_is_left, SOON, "alice's channel is let go")
        await choose("bob")
        await until_heard(1, event="subscribe", status="ok", subscription="calls.bob")
        assert await pushed() == []
        assert page.page_errors + page.browser_errors == []


# The browser client -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Way:
    """How a page comes to its events: what the proxy does to WebSockets, and options of the client."""

    treatment: str = "ok"
    options: str = ""


WAYS = {"websocket": Way(), "stream": Way("400"), "poll": Way(options="transports: ['poll'],")}
each_way = pytest.mark.parametrize("way", WAYS)


@contextlib.asynccontextmanager
async def before(back: Backend, way: str) -> AsyncIterator[str]:
    """A proxy before the gateway that serves the page as well; gives the page's address."""

    def site(path: str) -> bytes | None:
        return page_for("/holdfast") if path == "/" else None

    async with faults.fault_proxy(back.gateway.port, host=own_host(), treatment=WAYS[way].treatment, site=site) as proxy:
        yield f"http://{proxy.address}/"


async def load(page: Browser, address: str) -> None:
    await page.open(address)
    await page.until("window.ready", SOON, "the module is loaded")


async def sign_in(page: Browser, user: str, way: str = "websocket") -> None:
    """Makes `client`; `asked` counts how often it wanted a ticket."""
    options = f"{{ {WAYS[way].options} getTicket: async () => {{ asked++; return 'ticket-of-{user}'; }} }}"
    await page.evaluate(f"void (window.asked = 0, start({options}, '/holdfast/socket'))")


async def subscribe(page: Browser, topic: str = TOPIC) -> dict:
    """Makes `sub`, with `got` as what its listener was given, and `gaps`. Gives what `ready` resolves to."""
    return await page.evaluate(
        f"""(() => {{
          window.sub = client.subscribe("{topic}");
          window.got = [], window.gaps = [], window.ends = [];
          sub.on("message", ({{ data, gap }}) => {{ got.push(data); if (gap) gaps.push(gap); }});
          sub.on("gap", (gap) => gaps.push(gap));
          for (const type of ["error", "unsubscribed"]) sub.on(type, (e) => ends.push({{ type, code: (e.error ?? e).code }}));
          return sub.ready();
        }})()"""
    )


@contextlib.asynccontextmanager
async def signed_in(
    browser: str, way: str, *callbacks: str, user: str = "alice", **configuration
) -> AsyncIterator[tuple[Browser, Backend]]:
    """A page whose client has signed in and not yet subscribed."""
    async with backend(*callbacks, **configuration) as back, before(back, way) as address, window_of(browser) as page:
        async with explained(page, back.gateway):
            await load(page, address)
            await sign_in(page, user, way)
            yield page, back
            assert page.page_errors == []


async def told(page: Browser, kind: str) -> list[dict]:
    return await page.evaluate(f"told.filter(({{ type }}) => type === '{kind}')")


async def until_got(page: Browser, value: object, timeout: float = SOON) -> None:
    written = json.dumps(json.dumps(value, separators=(",", ":")))
    await page.until(f"got.some((data) => JSON.stringify(data) === {written})", timeout, f"{value} arrives")


async def require_no_gap(page: Browser) -> None:
    """Neither told to anybody nor counted, and nothing came twice to the listener."""
    assert await page.evaluate("[gaps, told.filter(({ type }) => type === 'gap'), client.stats().gaps]") == [[], [], 0]


def only_own(request: Request) -> dict:
    return ok() if request.body["subscription"] == f"calls.{request.body['user_id']}" else refused("Not your calls.")


@each_way
async def test_a_ticket_a_snapshot_and_answers(browser, way):
    callbacks = ("authorizer", "before_subscribe", "on_message", "before_unsubscribe", "on_unsubscribe")
    async with signed_in(browser, way, *callbacks) as (page, back):
        back.service.always("/authorizer", only_own)
        back.service.always("/before_subscribe", ok(data=SNAPSHOT))
        reply = await subscribe(page)
        assert (reply["data"], reply["recovered"]) == (SNAPSHOT, None)
        # On a machine that is slow a second line may have been opened beside the first.
        assert all(body == {"ticket": "ticket-of-alice"} for body in back.service.bodies("/ticket"))
        assert back.service.bodies("/authorizer")[-1] == {"subscription": TOPIC, "user_id": "alice"}
        assert await page.evaluate("asked === client.stats().attempts"), "a ticket for each attempt"

        for number in range(1, 41):
            assert back.publish(TOPIC, number) == 1
        await until_got(page, 40)
        numbers = await page.evaluate("got")
        require_exactly_once(numbers, 40)
        assert numbers[0] == 1
        assert await page.evaluate("sub.position.offset") == reply["position"]["offset"] + 40

        # Each message has its own reply.
        back.service.always("/on_message", lambda request: ok(data={"noted": request.body["data"], "by": request.body["user_id"]}))
        answers = await page.evaluate("Promise.all([1, 2, 3, 4, 5].map((n) => sub.message({ n })))")
        assert answers == [{"noted": {"n": n}, "by": "alice"} for n in range(1, 6)]
        back.service.script("/on_message", refused("The line is busy.", data=[1]), ok())
        refusal = await page.evaluate("sub.message(6).catch(({ code, message, data }) => [code, message, data])")
        assert refusal == ["refused", "The line is busy.", [1]]
        assert await page.evaluate("sub.message(7)") is None
        assert len(back.service.requests("/on_message")) == 7

        refusal = await page.evaluate("failure(client.subscribe('calls.bob').ready())")
        assert (refusal["code"], refusal["message"]) == ("unauthorized", "Not your calls.")

        back.service.script("/before_unsubscribe", refused("Not now."))
        refusal = await page.evaluate("failure(sub.unsubscribe())")
        assert (refusal["isHoldfastError"], refusal["message"]) == (True, "Not now.")
        back.publish(TOPIC, 41)
        await until_got(page, 41)
        await page.evaluate("sub.unsubscribe()")
        back.service.wait_for("/on_unsubscribe")
        assert await page.evaluate("ends") == [{"type": "unsubscribed"}]
        assert await page.evaluate("client.stats().transport") == way
        await require_no_gap(page)


async def test_a_ticket_that_is_worth_nothing_is_told(browser):
    async with signed_in(browser, "websocket", user="nobody") as (page, back):
        back.service.always("/ticket", refused("No such ticket."))
        refusal = await page.evaluate("failure(client.subscribe('calls.alice').ready())")
        assert (refusal["code"], refusal["message"]) == ("authentication_required", "Authentication required.")
        errors = [(error["code"], error["message"]) for error in await told(page, "error")]
        assert errors == [("authentication_failed", "No such ticket."), ("authentication_required", "Authentication required.")]
        assert back.service.requests("/ticket") and await page.evaluate("client.state") == "connected"


@each_way
async def test_a_revocation_is_told_to_the_app(browser, way):
    calls = {"authorization_renewal_period": 0.5}
    async with signed_in(browser, way, "authorizer", "on_unsubscribe", calls=calls) as (page, back):
        await subscribe(page)
        session = await back.only_session()
        await page.evaluate("void (window.looped = take(100, sub).catch(({ code, message }) => ({ code, message })))")
        back.publish(TOPIC, 1)
        await until_got(page, 1)
        back.service.always("/authorizer", refused("Your contract has ended."))
        await page.until("sub.state === 'unsubscribed'", SOON, "the app is told")
        back.publish(TOPIC, "no longer for alice")
        assert await page.evaluate("ends.map(({ type }) => type)") == ["error", "unsubscribed"]
        ended = await page.evaluate("looped")
        assert ended["message"] == "Your contract has ended.", ended
        refusal = await page.evaluate("failure(client.subscribe('calls.alice').ready())")
        assert refusal["message"] == "Your contract has ended."

        # The client itself goes on; who is welcome again gets what comes from then on.
        back.service.always("/authorizer", ok())
        before_it = await page.evaluate("got")
        await subscribe(page)
        back.publish(TOPIC, 2)
        await until_got(page, 2)
        assert (before_it, await page.evaluate("got")) == ([1], [2])
        assert await back.only_session() == session
        await require_no_gap(page)


@each_way
async def test_filters_leave_no_false_gap(browser, way):
    """Two users, one topic. Each gets its own messages and those for all, also what came while its session was lost."""
    topic, users = "calls.team", ("alice", "bob")
    async with (
        backend() as back,
        before(back, way) as address,
        window_of(browser) as first,
        window_of(browser) as second,
        explained(first, back.gateway),
        explained(second, back.gateway),
    ):
        pages = dict(zip(users, (first, second), strict=True))
        sessions = {}
        for user, page in pages.items():
            await load(page, address)
            await sign_in(page, user, way)
            await subscribe(page, topic)
            sessions[user] = await page.evaluate("client.stats().session")
        expected: dict[str, list[int]] = {user: [] for user in users}

        def publish(numbers: range, *to: str) -> None:
            """Each to the next of `to`; "all" is for all."""
            for index, number in enumerate(numbers):
                user = to[index % len(to)]
                back.publish(topic, number, **({} if user == "all" else {"user_id": user}))
                for each in users if user == "all" else (user,):
                    expected[each].append(number)

        async def require_expected() -> None:
            for user, page in pages.items():
                await until_got(page, expected[user][-1])
                assert await page.evaluate("got") == expected[user]
                await require_no_gap(page)

        publish(range(1, 41), "alice", "bob", "bob", "all")
        publish(range(41, 51), "bob")  # Alice's position stays behind.
        await require_expected()

        await back.lose_session(sessions["alice"])
        publish(range(51, 61), "bob")
        publish(range(61, 71), "alice", "all", "bob")
        publish(range(71, 76), "bob")
        recovered = "told.some(({ type, by }) => type === 'recovered' && by === 'position')"
        await first.until(recovered, RETURN_TIMEOUT, "alice has a new session")
        publish(range(76, 91), "all", "bob", "alice")
        publish(range(91, 92), "all")
        await require_expected()
        assert await first.evaluate("client.stats().session") not in sessions.values()
        assert await second.evaluate("client.stats().session") == sessions["bob"]
        assert await first.evaluate("asked === client.stats().attempts"), "a ticket for each attempt"
        for page in pages.values():
            assert await page.evaluate("client.stats().transport") == way
            assert page.page_errors == []


@each_way
async def test_a_throttle_leaves_no_false_gap(browser, way):
    throttle = 0.5
    async with signed_in(browser, way) as (page, back):
        await subscribe(page)
        since = time.monotonic()

        def publish(numbers: range) -> None:
            for number in numbers:
                back.publish(TOPIC, number, options={"throttle": throttle})

        async def require_first_and_last(first: int, last: int) -> None:
            await until_got(page, last)
            numbers = [number for number in await page.evaluate("got") if number >= first]
            at_most = (time.monotonic() - since) / throttle + 2
            assert numbers[0] == first and numbers == sorted(set(numbers)) and len(numbers) <= at_most, numbers
            await require_no_gap(page)

        publish(range(1, 41))
        await require_first_and_last(1, 40)
        back.publish(TOPIC, 41)
        await until_got(page, 41)
        measured.note(browser, f"throttle, {way}", "delivered of 41", len(await page.evaluate("got")))

        # A session that ends while one is held back: the last one arrives all the same.
        publish(range(42, 62))
        await back.lose_session(await back.only_session())
        publish(range(62, 82))
        await until_got(page, 81, RETURN_TIMEOUT)
        back.publish(TOPIC, 82)
        await until_got(page, 82)
        numbers = await page.evaluate("got")
        assert len(numbers) == len(set(numbers)) and numbers[-2:] == [81, 82], numbers
        await require_no_gap(page)
        assert await page.evaluate("client.stats().transport") == way


# The answered call ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Call:
    """A page that waits for a call to be answered, behind a line that may be cut."""

    page: Browser
    back: Backend
    line: Relay
    session: str

    async def is_attached(self) -> bool | None:
        """None: the session is over."""
        session = await self.back.gateway.session(self.session)
        return None if session is None or session["state"] == "ended" else session["state"] == "attached"


@contextlib.asynccontextmanager
async def waiting_for_a_call(browser: str, **configuration) -> AsyncIterator[Call]:
    """The first five events have arrived: `{"n": 1}` … `{"n": 5}`."""
    async with (
        backend("authorizer", "before_subscribe", **configuration) as back,
        before(back, "websocket") as address,
        line_to(address) as (line, far_address),
        window_of(browser) as page,
    ):
        async with explained(page, back.gateway):
            await lines.watch(page)
            await load(page, far_address)
            await sign_in(page, "alice")
            await subscribe(page)
            for number in range(1, 6):
                back.publish(TOPIC, {"n": number})
            await until_got(page, {"n": 5})
            yield Call(page, back, line, await back.only_session())
            assert page.page_errors == []


async def closed_by_others(page: Browser) -> list[dict]:
    """Lines that the page did not close itself."""
    return [line for line in await lines.lines(page) if line["closed"] and not line["letGo"]]


@contextlib.asynccontextmanager
async def line_to(address: str) -> AsyncIterator[tuple[Relay, str]]:
    """With its own address."""
    host, _, port = address.removeprefix("http://").rstrip("/").partition(":")
    async with relay_to(int(port), host) as relay:
        yield relay, f"http://{host}:{relay.port}/"


@pytest.mark.parametrize("returns", ["in time", "after its session"])
async def test_the_answered_call_arrives(browser, returns):
    """The story this project began with: the gateway's ping went unanswered, it closed, and its FIN never crossed."""
    expires = returns == "after its session"
    pings = {"ws_ping": {"interval": 1, "timeout": 3}, "session_ttl": 2 if expires else 60}
    async with waiting_for_a_call(browser, **pings) as call:
        page, back = call.page, call.back
        permissions = len(back.service.requests("/authorizer"))
        cut_at = time.time()
        assert call.line.cut() >= 1
        assert back.publish(TOPIC, {"n": 6, "state": "ringing"}) == 1, "handed to a line that only looks alive"

        async def let_go() -> bool:
            return not await call.is_attached()

        await until(let_go, SOON, "the gateway lets go of the dead line")
        measured.note(browser, f"answered call {returns}", "server let go s", time.time() - cut_at)
        if expires:

            async def expired() -> bool:
                return await call.is_attached() is None

            await until(expired, SOON, "the session expires")
        assert back.publish(TOPIC, {"n": 7, "state": "answered"}) == 1, "handed to nobody"

        async def swallowed() -> bool:
            return call.line.lost_bytes > 0 and call.line.lost_ends > 0

        await until(swallowed, SOON, "the cut has swallowed the event and the gateway's FIN")
        assert await closed_by_others(page) == [], "the page has been told nothing"
        assert [data["n"] for data in await page.evaluate("got")] == [1, 2, 3, 4, 5]

        call.line.restore()
        restored_at = time.time()
        await until_got(page, {"n": 7, "state": "answered"}, RETURN_TIMEOUT)
        measured.note(browser, f"answered call {returns}", "answered after restore s", time.time() - restored_at)
        back.publish(TOPIC, {"n": 8})
        await until_got(page, {"n": 8})
        assert [data["n"] for data in await page.evaluate("got")] == list(range(1, 9)), "each once and in order"
        await require_no_gap(page)
        assert {each["by"] for each in await told(page, "recovered")} == {"position" if expires else "session"}
        session = await page.evaluate("client.stats().session")
        assert (session == call.session) is not expires
        assert await page.evaluate("asked") >= 2, "a ticket for each attempt"
        assert (len(back.service.requests("/authorizer")) > permissions) is expires, "only a new session asks for permission"


async def test_a_restart_of_redis_is_told_and_nothing_closes(browser):
    async with waiting_for_a_call(browser) as call:
        page, back = call.page, call.back
        assert await back.gateway.get("/ready") == {"status": "ok"}
        snapshots = len(back.service.requests("/before_subscribe"))
        back.redis.kill()

        await until_not_ready(back.gateway)
        assert await told(page, "gap") == [], "not before messages arrive again"
        killed_at = time.time()
        back.redis.start()
        await page.until("gaps.length", RETURN_TIMEOUT, "the page is told of a gap")
        measured.note(browser, "Redis restarted", "gap told s", time.time() - killed_at)
        # Who reads the truth when told of the gap misses nothing after it.
        for number in range(7, 27):
            assert back.publish(TOPIC, {"n": number}) == 1
        await until_got(page, {"n": 26})
        assert [data["n"] for data in await page.evaluate("got")] == [1, 2, 3, 4, 5, *range(7, 27)]
        assert await back.gateway.get("/ready") == {"status": "ok"}

        [gap] = await told(page, "gap")
        assert gap["subscription"] == TOPIC
        assert await page.evaluate("client.stats().gaps") == 1
        states = [event["state"] for event in await told(page, "state")]
        assert states == ["connecting", "connected"], "nothing closes"
        assert await closed_by_others(page) == []
        assert await back.only_session() == call.session
        assert len(back.service.requests("/before_subscribe")) == snapshots, "nobody has subscribed again"
