"""A quarter of an hour behind every kind of proxy, for real: what CI does for 42 s and in virtual time (scripts/nightly-ladder).

All kinds run side by side, as windows of one Chromium and one Firefox. Prints a table; exits with 1 if a limit was missed.
"""

from __future__ import annotations

import argparse
import asyncio
import pathlib
import sys
from dataclasses import dataclass

HERE = pathlib.Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent / "proxies")]

from drivers import BROWSERS  # noqa: E402
from judge import judge  # noqa: E402
from ladder import KINDS, RATE, on_page  # noqa: E402

MOST_ATTEMPTS = 2
QUARTER = 15 * 60.0
HEADINGS = ("kind", "browser", "first event ms", "WebSocket attempts in 15 min", "polls", "polls aborted", "lost", "doubled", "ended on", "remarks")


@dataclass
class Row:
    kind: str
    browser: str
    first_event_ms: float | None = None
    attempts: int | None = None
    polls: int | None = None
    aborted: int | None = None
    lost: int | None = None
    doubled: int | None = None
    transport: str | None = None
    remark: str = ""

    @property
    def cells(self) -> list[str]:
        first = None if self.first_event_ms is None else round(self.first_event_ms)
        values = [self.kind, self.browser, first, self.attempts, self.polls, self.aborted, self.lost, self.doubled, self.transport, self.remark]
        return ["–" if value is None else str(value) for value in values]

    def judge(self) -> None:
        limit = KINDS[self.kind].first_event * 1000
        missed = [
            said
            for said, good in {
                f"more than {MOST_ATTEMPTS} attempts": self.attempts is not None and self.attempts <= MOST_ATTEMPTS,
                "aborted polls": self.aborted == 0,
                "lost": self.lost == 0,
                "doubled": self.doubled == 0,
                f"first event later than {limit:.0f} ms": self.first_event_ms is not None and self.first_event_ms <= limit,
                f"not on {KINDS[self.kind].transport}": self.transport == KINDS[self.kind].transport,
            }.items()
            if not good
        ]
        if missed and not self.remark:
            self.remark = "FAILED: " + ", ".join(missed)


class Gate:
    """Opens when all pages are loaded, so that no page's beginning is disturbed by the loading of another."""

    def __init__(self, size: int) -> None:
        self._missing, self._open = size, asyncio.Event()

    async def passed(self) -> None:
        self.arrive()
        await self._open.wait()

    def arrive(self) -> None:
        self._missing -= 1
        if self._missing == 0:
            self._open.set()


async def watch(kind: str, browser: str, seconds: float, gate: Gate) -> Row:
    row = Row(kind, browser)
    how = KINDS[kind]
    arrived = False
    try:
        async with on_page(browser, how) as run:
            arrived = True
            await gate.passed()
            await run.begin(how.first_event + 30)
            row.first_event_ms = run.first_event_ms
            if how.meanwhile:
                await how.meanwhile(run)
            await run.observe(seconds)
            await run.until_more(RATE)
            row.transport = await run.transport()
            numbers = await run.page.evaluate("got")
            verdict = judge(numbers, max(numbers))
            row.lost, row.doubled = len(verdict.missing), len(verdict.doubled) + len(verdict.backwards)
            row.polls, row.aborted = run.proxy.polls(), run.proxy.aborted()
            row.attempts = most_in_a_quarter(await run.attempts_by_the_end())
    except Exception as error:
        first_line = (str(error) or repr(error)).splitlines()[0]
        row.remark = f"FAILED: {type(error).__name__}: {first_line[:140]}"
        print(f"--- {kind}, {browser}: {error!r}", *getattr(error, "__notes__", []), sep="\n", file=sys.stderr)
    finally:
        if not arrived:
            gate.arrive()
    row.judge()
    return row


def most_in_a_quarter(times: list[float]) -> int:
    """The most attempts in any 15 minutes, wherever those begin: the client counts like that, too."""
    return max((sum(begin <= at < begin + QUARTER for at in times) for begin in times), default=0)


def table(rows: list[Row]) -> str:
    lines = [list(HEADINGS), *(row.cells for row in rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(HEADINGS))]
    text = ["  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines]
    text.insert(1, "  ".join("-" * width for width in widths))
    return "\n".join(text)


async def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=15)
    parser.add_argument("--kind", action="append", choices=KINDS, help="only this one; may be repeated")
    parser.add_argument("--browser", action="append", choices=BROWSERS, help="only this one; may be repeated")
    options = parser.parse_args()
    pairs = [(kind, browser) for kind in options.kind or KINDS for browser in options.browser or BROWSERS]
    gate = Gate(len(pairs))
    rows = await asyncio.gather(*(watch(kind, browser, options.minutes * 60, gate) for kind, browser in pairs))
    failed = sum(row.remark.startswith("FAILED") for row in rows)
    print(table(rows))
    print(f"\n{options.minutes:g} minutes, an event every {1000 // RATE} ms\n{len(rows) - failed} passed, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
