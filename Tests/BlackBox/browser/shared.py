"""What takes long to start is started once and shared, as long as anybody has it."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from typing import Generic, TypeVar

from drivers import Browser, launch

Thing = TypeVar("Thing")


class Shared(Generic[Thing]):
    """One for each name, while anybody has it."""

    def __init__(self, make: Callable[[str], contextlib.AbstractAsyncContextManager[Thing]]) -> None:
        self._make = make
        #: Each module's tests have a loop of their own, and a lock belongs to one.
        self._locks: dict[tuple[asyncio.AbstractEventLoop, str], asyncio.Lock] = {}
        self._open: dict[str, tuple[Thing, contextlib.AsyncExitStack]] = {}
        self._guests: dict[str, int] = {}

    @contextlib.asynccontextmanager
    async def of(self, name: str) -> AsyncIterator[Thing]:
        lock = self._locks.setdefault((asyncio.get_running_loop(), name), asyncio.Lock())
        async with lock:
            if name not in self._open:
                stack = contextlib.AsyncExitStack()
                self._open[name] = await stack.enter_async_context(self._make(name)), stack
            self._guests[name] = self._guests.get(name, 0) + 1
        thing, stack = self._open[name]
        try:
            yield thing
        finally:
            async with lock:
                self._guests[name] -= 1
                if not self._guests[name]:
                    del self._open[name]
                    await stack.aclose()


_browsers = Shared(launch)


@contextlib.asynccontextmanager
async def window_of(browser: str) -> AsyncIterator[Browser]:
    """A window of its own in a browser that others use as well. What it stores it shares with those of the same host and port."""
    async with _browsers.of(browser) as first, first.window() as page:
        yield page
