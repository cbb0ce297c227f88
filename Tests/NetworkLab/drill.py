"""One drill, in a process of its own: builds its network, enters the browser's namespace, does the fault, judges.

Started by lab.py, which reads what it prints: a JSON object per line, `say` meanwhile, `connected` once, `row` last.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import AsyncIterator
from datetime import datetime
from typing import Any

import paths  # noqa: F401
from client_side import Page, open_page
from gateway import until
from impairment import F14, impaired, measure
from judging import BACK_UNTOLD_LIMIT_S, LET_GO_LIMIT_S, Cut, Row, judge_bad_way, judge_cut, judge_numbers
from network import Network
from plans import PLANS, BadWay, Plan
from server_side import ANSWERS, EVENTS_EVERY_S, GatewayInside, Publisher, running_gateway, running_site

CONNECT_TIMEOUT = 60.0
#: Seconds of events before the fault: a connection that lived for 10 s is a useful one, which is what users have.
USEFUL_S = 10.0
#: What the last events may take once the way is open, or is merely bad.
TAIL_TIMEOUT = 30.0
HIDDEN_AFTER_S = 10.0
#: TCP acknowledges at the latest with the next event, or after 200 ms (RFC 9293 §3.8.6.3 allows 500).
ACKNOWLEDGED_S = 0.5
# Chromium takes about a second for it.
ONLINE_LIMIT_S = 5.0


class Stage:
    def __init__(
        self, plan: Plan | BadWay, network: Network, gateway: GatewayInside, page: Page, publisher: Publisher
    ) -> None:
        self.plan, self.network, self.gateway, self.page, self.publisher = plan, network, gateway, page, publisher
        self.row = Row(plan.name, plan.fault, must_complain=plan.must_complain)

    def say(self, text: str) -> None:
        tell("say", text)

    async def handle(self) -> str:
        sessions = [
            each for each in await self.gateway.sessions() if each["state"] != "ended" and each["subscription_count"]
        ]
        assert len(sessions) == 1, f"one page, one session, but: {sessions}"
        return sessions[0]["id"]

    async def server_closed(self, handle: str) -> list[tuple[float, str]]:
        """When the server closed transports of the session, and what it said."""
        session = await self.gateway.session(handle)
        timeline = session["timeline"] if session else []
        return [(datetime.fromisoformat(e["at"]).timestamp(), e["what"]) for e in timeline if "closed" in e["what"]]

    async def until_useful(self) -> None:
        """Connected, and events have come for as long as makes a connection a useful one."""
        await self.page.until_it_has(1, CONNECT_TIMEOUT, "events come")
        tell("connected", True)
        enough = int(USEFUL_S / EVENTS_EVERY_S)
        await self.page.until_it_has(
            self.publisher.published + enough, USEFUL_S + CONNECT_TIMEOUT, "events come for 10 s"
        )
        self.row.transport = (await self.page.stats())["transport"]

    async def keep(self) -> None:
        """Until the lab is stopped."""
        for namespace in (self.network.browser, self.network.router, self.network.server):
            self.say(f"look into it with: {' '.join(namespace.entering)} COMMAND")
        tell("row", self.row.as_json())
        await asyncio.Event().wait()

    async def finish(self) -> None:
        """Everything has arrived, or never will; then the numbers are judged."""
        last = await self.publisher.stop()
        try:
            await self.page.until_it_has(last, TAIL_TIMEOUT, "the last event comes")
        except AssertionError as reason:
            self.row.complaints.append(str(reason))
        numbers = [number for number, _ in await self.page.numbers()]
        judge_numbers(self.row, numbers, last, await self.page.gaps())


async def cut(stage: Stage, plan: Plan) -> None:
    network, page = stage.network, stage.page
    handle = await stage.handle()
    if plan.must_complain is None:
        await until_the_worst_moment(stage, plan)
    at = time.time() if plan.no_cut else network.cut(plan.direction)
    stage.say(f"cut ({plan.direction}, {plan.seconds:g} s)")
    if plan.told_by == "shown":
        await sleep_until(at + HIDDEN_AFTER_S)
        await page.browser.hide()
    if plan.answered:
        await answer_the_call(stage, handle, at)
    await sleep_until(at + plan.seconds)
    # The session may be forgotten by the time that the client is back.
    closed = await stage.server_closed(handle)
    dropped = network.dropped()
    restored_at = network.restore()
    stage.say("restored")
    await tell_the_client(stage, plan.told_by)
    try:
        await page.until_it_has(stage.publisher.published + 1, BACK_UNTOLD_LIMIT_S + 5, "events come again")
    except AssertionError as reason:
        stage.row.complaints.append(str(reason))
    seen = Cut(at, restored_at, dropped, await page.tries(), await page.numbers(), closed)
    judge_cut(stage.row, seen, plan.demands)
    stage.row.remarks += [
        f"server, {closed_at - at:.1f} s after the cut: {what}" for closed_at, what in closed if closed_at > at
    ]
    if plan.told_by == "network":
        online = await told_online(page, restored_at)
        stage.row.require(bool(online), "the browser did not notice that the network has changed")
        stage.row.remarks += [f"the browser said so after {told_at - restored_at:.2f} s" for told_at in online]
    if plan.answered:
        await judge_the_answer(stage, restored_at)


async def told_online(page: Page, restored_at: float) -> list[float]:
    """When the browser said that the network is there again. An attempt of the client may have been faster."""
    while True:
        told = [told_at for told_at in await page.told_online() if told_at > restored_at]
        if told or time.time() > restored_at + ONLINE_LIMIT_S:
            return told
        await asyncio.sleep(0.05)


async def until_the_worst_moment(stage: Stage, plan: Plan) -> None:
    """The server's patience has just begun anew, so it lasts longest."""
    await stage.page.until_it_has_just_spoken()
    if plan.direction == "to_client":
        # What the client says next still arrives. It would not if it had to stand behind something unacknowledged.
        await asyncio.sleep(ACKNOWLEDGED_S)


async def answer_the_call(stage: Stage, handle: str, at: float) -> None:
    """When the server has let go, an event goes out that nobody is connected for."""

    async def let_go() -> bool:
        return any(closed > at for closed, _ in await stage.server_closed(handle))

    await until(let_go, LET_GO_LIMIT_S + 5, "the server lets go", 0.2)
    await stage.gateway.publish(ANSWERS, {"call": "answered"})
    stage.say(f"the server has let go; the call was answered {time.time() - at:.1f} s after the cut")


async def judge_the_answer(stage: Stage, restored_at: float) -> None:
    came = [at / 1000 for _, at in await stage.page.browser.evaluate("answers")]
    stage.row.require(len(came) == 1, f"the answered call came {len(came)} times")
    if came:
        stage.row.require(came[0] > restored_at, "the answered call came through the cut")
        stage.row.remarks.append(f"the answered call came {came[0] - restored_at:.2f} s after the restore")


async def tell_the_client(stage: Stage, told_by: str) -> None:
    match told_by:
        case "network":
            stage.network.bounce_the_link()
        case "app":
            await stage.page.browser.evaluate("void client.connect()")
        case "shown":
            await stage.page.browser.show()


async def bad_way(stage: Stage, plan: BadWay) -> None:
    handle = await stage.handle()
    begun, races = time.time(), (await stage.page.stats())["races"]
    minute = 60.0
    for passed in range(1, int(plan.seconds / minute) + 1):
        await sleep_until(begun + passed * minute)
        stats = await stage.page.stats()
        stage.say(
            f"{passed} min: {stage.publisher.published} published, {stats['races'] - races} races, {stats['transport']}"
        )
    races = (await stage.page.stats())["races"] - races
    closed = [each for each in await stage.server_closed(handle) if each[0] > begun]
    lines = [line for line in await stage.page.lines() if line.ended is None or line.ended > begun]
    judge_bad_way(stage.row, lines, races, plan.seconds / minute, closed)
    stage.row.attempts = sum(each.at > begun for each in await stage.page.tries())
    stage.row.remarks += [f"server: {what}" for _, what in closed]


async def sleep_until(at: float) -> None:
    """The length of a fault, not a wait for something."""
    await asyncio.sleep(max(0.0, at - time.time()))


@contextlib.asynccontextmanager
async def on_stage(plan: Plan | BadWay, seed: int) -> AsyncIterator[Stage]:
    with contextlib.ExitStack() as stack:
        # A browser that is killed leaves its sockets in the folder for temporary files.
        tempfile.tempdir = stack.enter_context(
            tempfile.TemporaryDirectory(prefix="holdfast-lab-", ignore_cleanup_errors=True)
        )
        os.environ["TMPDIR"] = tempfile.tempdir
        network = stack.enter_context(Network())
        network.browser.enter()
        remark = ""
        if isinstance(plan, BadWay):
            how = stack.enter_context(impaired(network, F14, seed))
            way = await asyncio.to_thread(measure, network, F14)
            remark = f"{F14}, by {how}, seed {seed}; measured: {way}"
            tell("say", remark)
        settings = plan.settings if isinstance(plan, Plan) else {}
        withheld = plan.withheld if isinstance(plan, Plan) else None
        async with (
            running_gateway(network.server, settings) as gateway,
            running_site(network.server),
            open_page(plan.options) as page,
            Publisher(gateway, withheld) as publisher,
        ):
            stage = Stage(plan, network, gateway, page, publisher)
            stage.row.remarks += [remark] if remark else []
            yield stage


async def run(plan: Plan | BadWay, seed: int, keep: bool) -> None:
    """Tells the row in any case."""
    row = Row(plan.name, plan.fault, must_complain=plan.must_complain)
    try:
        async with on_stage(plan, seed) as stage:
            row = stage.row
            await stage.until_useful()
            await (cut(stage, plan) if isinstance(plan, Plan) else bad_way(stage, plan))
            await stage.finish()
            if keep:
                await stage.keep()
    except Exception as reason:
        traceback.print_exc()
        row.complaints.append(f"{type(reason).__name__}: {reason}")
        row.must_complain = None  # A canary that could not run has caught nothing.
    tell("row", row.as_json())


def tell(kind: str, value: Any) -> None:
    print(json.dumps({kind: value}), flush=True)


async def main(plan: Plan | BadWay, seed: int, keep: bool) -> None:
    task = asyncio.current_task()
    assert task is not None
    stopped = False

    def stop() -> None:
        # A second signal must not disturb the tidying up.
        nonlocal stopped
        if not stopped:
            task.cancel()
        stopped = True

    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop)
    await run(plan, seed, keep)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("name", choices=PLANS)
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--keep", action="store_true")
    given = parser.parse_args()
    try:
        asyncio.run(main(PLANS[given.name], given.seed, given.keep))
    except asyncio.CancelledError:
        sys.exit(130)
