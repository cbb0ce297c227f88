"""The demo page in real browsers: the line is cut without a word, and nothing is lost.

`holdfast demo` puts a TCP fault proxy between its page and its gateway. A cut swallows bytes: no FIN, no RST.
Each test has a demo and a browser of its own; they run side by side (side_by_side.py).
"""

import time

import pytest

from gateway import until
from judge import told_missing
from stage import RATE, RETURN_TIMEOUT, on_stage

SUSPECT_LIMIT = 6.0
NEW_LINE_LIMIT = 7.0
#: Suspect, and not a word in the 5 s after it; half a second for a page that is not asked for its opinion at once.
CLIENT_LET_GO_LIMIT = SUSPECT_LIMIT + 5.5
#: Shorter than any cut in which the server lets go, so that the session is gone when the line is back.
SHORT_TTL = 3

pytestmark = pytest.mark.parametrize("browser", ["chromium", "firefox"])


async def test_both_ends_let_go_of_a_dead_line(browser):
    async with on_stage(browser, "let-go") as stage:
        handle = await stage.handle()
        await stage.cut()
        assert await stage.until_client_lets_go(CLIENT_LET_GO_LIMIT) <= CLIENT_LET_GO_LIMIT
        await stage.until_server_lets_go(handle)
        # The session outlives its transport: the page takes it up again.
        await stage.restore()
        page = await stage.require_exactly_once()
        assert await stage.handle() == handle
        assert page["recovered"] > 0


async def test_an_expired_session_recovers_by_position(browser):
    async with on_stage(browser, "expired", "--session-ttl", str(SHORT_TTL)) as stage:
        handle = await stage.handle()
        await stage.cut()
        await stage.note_what_arrived()
        await stage.until_server_lets_go(handle)
        await stage.until_expired(handle, SHORT_TTL + 5)
        restored = await stage.restore()
        missed = await stage.published() - stage.last_at_cut
        page = await stage.require_exactly_once()
        stage.measure("back after restore s", stage.cut_at + await stage.new_line_after() - restored)
        assert await stage.handle() != handle, "the session must be another one, or nothing was tested"
        assert page["recovered"] >= missed - RATE


async def test_a_history_too_short_gives_a_gap_with_the_right_numbers(browser):
    history = 20
    options = ("--session-ttl", str(SHORT_TTL), "--history", str(history))
    async with on_stage(browser, "gap", *options) as stage:
        handle = await stage.handle()
        await stage.cut()
        await stage.note_what_arrived()
        before = await stage.page()
        await stage.until_server_lets_go(handle)
        await stage.until_expired(handle, SHORT_TTL + 5)
        await stage.until_published(before["numbers"][-1] + 2 * history, 2 * history / RATE + 10)
        oldest_kept_at_restore = await stage.published() - history + 1
        await stage.restore()
        await stage.browser.until("demo.gaps.length > 0", RETURN_TIMEOUT, "the page is told of a gap")
        page = await stage.require_exactly_once(gaps=True)
        await stage.screenshot("gap")

        # `require_exactly_once` has compared the gap with the numbers; here with what was published.
        [gap] = page["gaps"]
        assert gap["after"] == before["numbers"][-1]
        assert oldest_kept_at_restore <= gap["next"]
        assert len(told_missing(page["gaps"])) >= history
        resumed = page["numbers"].index(gap["next"])
        assert page["numbers"][:resumed] == before["numbers"], "up to the gap, the page has what it had"
        assert page["recovered"] >= history - RATE, "what the history still had was recovered"
        assert any("gap" in line.lower() for line in await stage.log())


async def test_a_cut_of_20_s_loses_and_doubles_nothing(browser):
    async with on_stage(browser, "cut") as stage:
        handle = await stage.handle()
        await stage.screenshot("connected")

        await stage.cut()
        first_missed = await stage.published() + 1
        await stage.until_suspected()
        assert await stage.second_line_after() <= SUSPECT_LIMIT
        await stage.note_what_arrived()

        async def twenty_seconds_and_sixty_events():
            return time.time() - stage.cut_at >= 20 and await stage.published() >= first_missed + 60

        await until(twenty_seconds_and_sixty_events, 20 + 60 / RATE, "20 s and 60 events pass")
        assert await stage.browser.evaluate("demo.numbers.length") == stage.count_at_cut, "the cut must swallow everything"
        await stage.screenshot("cut")

        missed = stage.measure("published during the cut", await stage.published() - stage.last_at_cut)
        restored = time.time()
        assert await stage.press_the_button() is False, "the page's own button restores the line"
        page = await stage.require_exactly_once()
        stage.measure("back after restore s", stage.cut_at + await stage.new_line_after() - restored)
        await stage.screenshot("recovered")

        assert page["state"] == "connected"
        assert page["recovered"] >= missed >= 60
        assert any("recovered" in line.lower() for line in await stage.log()), "`recovered` is told to the app"
        assert await stage.handle() == handle, "the session outlived the cut"

        # And the button cuts it, too: what is heard stops.
        assert await stage.press_the_button() is True
        await stage.until_suspected()
        assert await stage.press_the_button() is False
        await stage.require_exactly_once()


async def test_a_swallowed_line_is_replaced_within_7_s(browser):
    async with on_stage(browser, "new-line") as stage:
        handle = await stage.handle()
        await stage.cut(existing_only=True)
        # The first silence can last no longer than the client takes to find a new line.
        await stage.browser.until(f"__seen.growth.at(-1).at > {(stage.cut_at + 2) * 1000}", 20, "events again")
        growth = await stage.browser.evaluate("__seen.growth")
        stage.count_at_cut = max(g["count"] for g in growth if g["at"] < (stage.cut_at + 1) * 1000)

        assert await stage.new_line_after() <= NEW_LINE_LIMIT
        assert await stage.second_line_after() <= SUSPECT_LIMIT
        page = await stage.require_exactly_once()
        assert await stage.handle() == handle
        assert page["recovered"] > 0, "what was swallowed was repeated"
        await stage.restore()


async def test_a_line_that_was_slow_for_3_s_is_kept(browser):
    async with on_stage(browser, "slow") as stage:
        handle = await stage.handle()
        timeline = await stage.timeline(handle)
        await stage.cut(mode="delay")
        before = await stage.published()
        await stage.until_published(before + 3 * RATE, 10)
        await stage.restore()
        await stage.require_exactly_once()
        assert await stage.handle() == handle
        assert await stage.timeline(handle) == timeline, "nothing happened to the session"
        # If the page was waiting for an answer when it was cut, it may have become suspicious.
        await stage.require_first_line_kept()


async def test_a_suspected_line_that_speaks_first_is_kept(browser):
    async with on_stage(browser, "suspected") as stage:
        handle = await stage.handle()
        timeline = await stage.timeline(handle)
        await stage.cut(mode="delay")
        await stage.until_suspected()
        await stage.restore()
        await stage.require_exactly_once()
        assert await stage.handle() == handle
        assert await stage.timeline(handle) == timeline, "nothing happened to the session"
        assert await stage.require_first_line_kept() > 0, "the race must have begun, or nothing was tested"
