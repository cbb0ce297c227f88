"""Runs the coroutine tests of a module side by side.

Most of these tests wait for a network that is cut, not for the processor. What they measure must not be
disturbed by the browser that the next test starts. So a module whose tests call `all_are_ready` runs in waves: a
wave starts its browsers, waits until all of them are ready, and only then lets the faults begin. Other modules
say `IN_WAVES = False`, and a test begins where another has ended. A module whose tests share browsers says how many
of them may run at a time (`AT_ONCE`).
"""

from __future__ import annotations

import asyncio
import contextvars
import os
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

#: Browsers at a time. A headless browser in rest takes a few per cent of a core and about 300 MiB.
AT_ONCE = int(os.environ.get("HOLDFAST_BROWSERS_AT_ONCE", "8"))
TEST_TIMEOUT = 180.0

Test = Callable[[], Awaitable[None]]


class Wave:
    """Opens when each test in it has said that it is ready, or has ended."""

    def __init__(self, size: int, timeout: float) -> None:
        self._missing = size
        self._timeout = timeout
        self._open = asyncio.Event()

    def _arrived(self) -> None:
        self._missing -= 1
        if self._missing == 0:
            self._open.set()

    async def run(self, test: Test) -> BaseException | None:
        place = _Place(self)
        _places.set(place)
        try:
            async with asyncio.timeout(self._timeout):
                await test()
            return None
        except Exception as reason:
            return reason
        finally:
            place.arrive()


@dataclass
class _Place:
    wave: Wave
    arrived: bool = False

    def arrive(self) -> None:
        if not self.arrived:
            self.arrived = True
            self.wave._arrived()


_places: contextvars.ContextVar[_Place] = contextvars.ContextVar("place")


async def all_are_ready() -> None:
    """Called by a test when its browser shows what it should: returns when the whole wave does."""
    place = _places.get()
    place.arrive()
    await place.wave._open.wait()


def run(
    tests: dict[str, Test], *, in_waves: bool = True, at_once: int = AT_ONCE, test_timeout: float = TEST_TIMEOUT
) -> dict[str, BaseException | None]:
    """Runs them all and says for each what it raised, None for success."""
    return asyncio.run((_run_in_waves if in_waves else _run_sliding)(tests, at_once, test_timeout))


async def _run_in_waves(tests: dict[str, Test], at_once: int, timeout: float) -> dict[str, BaseException | None]:
    outcomes: dict[str, BaseException | None] = {}
    names = list(tests)
    for start in range(0, len(names), at_once):
        group = names[start : start + at_once]
        wave = Wave(len(group), timeout)
        # `gather` gives each a task, and with it a context and a place of its own.
        outcomes.update(zip(group, await asyncio.gather(*(wave.run(tests[name]) for name in group)), strict=True))
    return outcomes


async def _run_sliding(tests: dict[str, Test], at_once: int, timeout: float) -> dict[str, BaseException | None]:
    slots = asyncio.Semaphore(at_once)

    async def one(test: Test) -> BaseException | None:
        async with slots:
            return await Wave(1, timeout).run(test)

    return dict(zip(tests, await asyncio.gather(*(one(test) for test in tests.values())), strict=True))
