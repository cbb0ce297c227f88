"""One `holdfast demo`, one browser on its page, and the switch that cuts the line between them."""

from __future__ import annotations

import asyncio
import contextlib
import re
import time
from collections.abc import AsyncIterator
from datetime import datetime
from typing import Any

import lines
import measured
from drivers import Browser, launch
from gateway import Gateway, running, until
from judge import require_exactly_once, told_missing
from side_by_side import all_are_ready

#: Numbered events per second: what faults.md prescribes, one every 200 ms.
RATE = 5
#: The backoff's cap is 10 s; an attempt that was under way when the line came back may have to fail first.
RETURN_TIMEOUT = 25.0
#: Until a suspicion is to be read on the page; the limit for the suspicion itself is judged by the second line.
SUSPICION_SHOWN = 20.0
#: Seconds without a race after one that the old line won.
RACE_PAUSE = 10
SERVER_LET_GO_LIMIT = 30.0

#: Samples the page's own story, so that a moment between two questions from outside is not missed.
SAMPLER = """void (() => {
  const seen = window.__seen = { states: [], growth: [] };
  setInterval(() => {
    const at = Date.now(), { state, numbers } = window.demo;
    if (seen.states.at(-1)?.state !== state && seen.states.length < 10000) seen.states.push({ at, state });
    if (seen.growth.at(-1)?.count !== numbers.length && seen.growth.length < 10000)
      seen.growth.push({ at, count: numbers.length });
  }, 20);
})()"""

#: The page draws its moving line 60 times a second, which takes half a core where there is no graphics card. That
#: would slow down what is measured in the page beside it, and nothing that is measured hangs on drawing.
SLOW_FRAMES = """() => {
  window.requestAnimationFrame = (draw) => setTimeout(() => draw(performance.now()), 200);
}"""

COUNTERS = ["published", "received", "recovered", "doubled", "lost", "outOfOrder", "state", "numbers", "gaps"]
SNAPSHOT = "({" + ", ".join(f"{name}: demo.{name}" for name in COUNTERS) + "})"
#: Whether the counters on the screen are those of the page's account.
VISIBLE = "['doubled', 'outOfOrder', 'lost', 'recovered'].every((name) => " + (
    "document.getElementById(name.replace('OfOrder', '-of-order')).textContent === demo[name].toLocaleString('en'))"
)
LOG = "demo.log.map(entry => typeof entry === 'string' ? entry : JSON.stringify(entry))"


class Stage:
    def __init__(self, browser: Browser, gateway: Gateway, scenario: str) -> None:
        self.browser = browser
        self.gateway = gateway
        self.scenario = scenario
        self.cut_at = 0.0
        #: Entries in the page's log: a suspicion before the cut is not one of the cut.
        self.log_at_cut = 0
        #: How many numbers the page had, and the last of them.
        self.count_at_cut = 0
        self.last_at_cut = 0

    # The switch.

    async def cut(self, **how: Any) -> None:
        """When it returns, no byte passes any more. `cut_at` is before that: figures err to the long side."""
        await self.before_the_cut()
        await self.gateway.post("/demo/cut", {"cut": True, **how})
        self.measure("cut took s", time.time() - self.cut_at)

    async def before_the_cut(self) -> None:
        """Lets a false alarm of a busy machine pass: by design, no second race follows within 10 s of one."""
        ended = f"(line) => line.letGo && Date.now() - line.letGo > {RACE_PAUSE * 1000}"
        calm = f"__lines.filter({ended}).length === __lines.length - 1"
        if self.cut_at == 0 and (others := await self.browser.evaluate("__lines.length - 1")):
            self.measure("false alarms before the cut", others)
        await self.browser.until(calm, 60, "one line, and nobody has suspected it for a while")
        self.log_at_cut = len(await self.log())
        self.cut_at = time.time()

    async def press_the_button(self) -> bool:
        """Cuts or restores with the page's own button, as a visitor would. Returns whether the line is cut then."""
        was_cut = (await self.gateway.get("/demo/stats"))["cut"]
        if not was_cut:
            await self.before_the_cut()
        await self.browser.evaluate("document.getElementById('cut').click()")

        async def thrown() -> bool:
            return (await self.gateway.get("/demo/stats"))["cut"] != was_cut

        await until(thrown, 5, "the button throws the switch", 0.02)
        return not was_cut

    async def note_what_arrived(self) -> None:
        """Notes what the page had when the cut began to bite: what was on its way then is let in first."""
        numbers, before = await self.browser.evaluate("demo.numbers"), None
        while numbers != before:
            await asyncio.sleep(2 / RATE)
            numbers, before = await self.browser.evaluate("demo.numbers"), numbers
        self.count_at_cut, self.last_at_cut = len(numbers), numbers[-1]

    async def restore(self) -> float:
        await self.gateway.post("/demo/cut", {"cut": False})
        return time.time()

    # What the server says.

    async def published(self) -> int:
        return (await self.gateway.get("/demo/stats"))["published"]

    async def until_published(self, number: int, timeout: float) -> int:
        async def enough() -> int:
            count = await self.published()
            return count if count >= number else 0

        return await until(enough, timeout, f"{number} events published")

    async def handle(self) -> str:
        """The page's session.

        A line that opened when the page had already given it up leaves a session that has no subscription and waits out its ttl.
        """
        sessions = [
            each for each in await self.gateway.sessions() if each["state"] != "ended" and each["subscription_count"]
        ]
        assert len(sessions) == 1, f"one page, one session, but: {sessions}"
        return sessions[0]["id"]

    async def timeline(self, handle: str) -> list[tuple[float, str]]:
        """What happened to the session, each with its time in seconds since 1970."""
        session = await self.gateway.session(handle)
        assert session is not None, "the session is forgotten"
        return [(datetime.fromisoformat(entry["at"]).timestamp(), entry["what"]) for entry in session["timeline"]]

    async def until_server_lets_go(self, handle: str) -> None:
        """Waits until the server has given the transport up, and judges the time by its timeline."""

        async def not_attached() -> bool:
            session = await self.gateway.session(handle)
            return session is None or session["state"] != "attached"

        # The question comes a little later than what it asks for: the timeline is exact.
        patience = SERVER_LET_GO_LIMIT + 1 - (time.time() - self.cut_at)
        await until(not_attached, patience, "the server lets go of the dead transport")
        closed = next(at for at, what in await self.timeline(handle) if at > self.cut_at and "closed" in what)
        took = self.measure("server let go s", closed - self.cut_at)
        assert took <= SERVER_LET_GO_LIMIT, f"the server let go after {took:.3f} s"

    async def until_client_lets_go(self, timeout: float) -> float:
        """Waits until the page has closed the line that was cut; returns the seconds since the cut."""
        await self.browser.until("__lines[0].letGo", timeout - (time.time() - self.cut_at), "the client lets the old line go")
        [old, *_] = await lines.lines(self.browser)
        return self.measure("client let go s", old["letGo"] / 1000 - self.cut_at)

    async def until_expired(self, handle: str, timeout: float) -> float:
        async def gone() -> bool:
            session = await self.gateway.session(handle)
            return session is None or session["state"] == "ended"

        await until(gone, timeout, "the session expires")
        return self.measure("session expired s", time.time() - self.cut_at)

    # What the page says.

    async def page(self) -> dict[str, Any]:
        return await self.browser.evaluate(SNAPSHOT)

    async def log(self) -> list[str]:
        return await self.browser.evaluate(LOG)

    async def until_page_has(self, number: int, timeout: float, what: str) -> float:
        await self.browser.until(f"Math.max(0, ...demo.numbers) >= {number}", timeout, what)
        return time.time()

    async def until_suspected(self) -> None:
        """Waits until the page says that it suspects the line. How soon it did says `second_line_after`, exactly."""
        said = f"{LOG}.slice({self.log_at_cut}).some((line) => /suspect/i.test(line))"
        await self.browser.until(said, SUSPICION_SHOWN, "the page says that it suspects the line", 0.02)
        self.measure("page said suspect s", time.time() - self.cut_at)

    async def new_line_after(self) -> float:
        """The seconds between the cut and the first event that came after it."""
        growth = await self.browser.evaluate("__seen.growth")
        first = next(g["at"] for g in growth if g["count"] > self.count_at_cut)
        return self.measure("events again s", first / 1000 - self.cut_at)

    async def second_line_after(self) -> float:
        """The seconds between the cut and the first WebSocket opened after it."""
        opened = [line["at"] / 1000 for line in await lines.lines(self.browser)]
        first = min((at for at in opened if at > self.cut_at), default=None)
        assert first is not None, "no second line was tried since the cut"
        return self.measure("second line tried s", first - self.cut_at)

    async def require_exactly_once(self, *, gaps: bool = False) -> dict[str, Any]:
        """Lets everything arrive that is published by now and some more, then judges the page's numbers.

        The page's own counters must agree with the judgement; they are never the judgement.
        """
        now = await self.published()
        await self.until_page_has(now + RATE, RETURN_TIMEOUT, "everything published so far has arrived, and more")
        page = await self.page()
        assert gaps or page["gaps"] == [], page["gaps"]
        require_exactly_once(page["numbers"], max(page["numbers"]), page["gaps"])
        assert (page["doubled"], page["outOfOrder"]) == (0, 0), page
        assert page["received"] == len(page["numbers"]), page
        assert page["lost"] == len(told_missing(page["gaps"])), page
        await self.browser.until(VISIBLE, 5, "a visitor sees what the page has counted")
        return page

    async def require_first_line_kept(self) -> int:
        """No session ever moved to another line. Returns how many other lines were tried beside the first."""
        first, *others = await lines.lines(self.browser)
        assert first["letGo"] is None and first["closed"] is None, "the first line is kept"
        assert not any(lines.sent(line, "hello") for line in others), "none of the others has come as far as to say hello"
        assert all(line["letGo"] for line in others), "the others were dropped"
        return len(others)

    async def screenshot(self, what: str) -> None:
        await self.browser.screenshot(measured.folder() / f"demo-{self.browser.name}-{self.scenario}-{what}.png")

    def measure(self, name: str, value: float) -> float:
        """The first value stays: a figure belongs to the scenario's first cut."""
        measured.note(self.browser.name, self.scenario, name, value)
        return value

    # Before and after.

    async def raise_the_curtain(self) -> None:
        """The page is connected, events flow, and nobody has complained."""
        await lines.watch(self.browser)
        await self.browser.preload(SLOW_FRAMES)
        await self.browser.open(f"{self.gateway.origin}/demo")
        await self.browser.until("window.demo?.state === 'connected'", 20, "the page is connected")
        await self.browser.evaluate(SAMPLER)
        await self.browser.until("demo.numbers.length >= 5", 20, "numbered events flow")
        assert self.browser.page_errors + self.browser.browser_errors == []
        await all_are_ready()

    async def require_no_complaints(self) -> None:
        assert self.browser.page_errors == []
        # A browser remarks on each line that it could not open; that is the fault, not the page.
        others = [m for m in self.browser.browser_errors if not re.search(r"WebSocket|wss?://|/session", str(m), re.I)]
        assert others == []

    async def leave_evidence(self) -> None:
        with contextlib.suppress(Exception):
            await self.screenshot("failed")
        name = f"demo-{self.browser.name}-{self.scenario}-failed.txt"
        with (measured.folder() / name).open("w") as file:
            for question in (SNAPSHOT, LOG, "window.__seen", "window.__lines"):
                with contextlib.suppress(Exception):
                    print(question, "=", await self.browser.evaluate(question), file=file)
            print("console:", *self.browser.messages, "gateway:", *self.gateway.output, sep="\n", file=file)


@contextlib.asynccontextmanager
async def on_stage(browser_name: str, scenario: str, *options: str) -> AsyncIterator[Stage]:
    """A demo with a connected page, when the pages of the tests beside it are connected too."""
    async with running("demo", "--port", "0", "--rate", str(RATE), *options) as gateway, launch(browser_name) as browser:
        stage = Stage(browser, gateway, scenario)
        try:
            await stage.raise_the_curtain()
            yield stage
            await stage.require_no_complaints()
        except BaseException:
            await stage.leave_evidence()
            raise
