"""Real browsers, headless, behind one small class.

Chromium is driven over the DevTools protocol, Firefox over WebDriver BiDi: both are JSON over a
WebSocket, so that no driver program and no package but `websockets` is needed.

    async with launch("firefox") as browser:
        await browser.open("http://127.0.0.1:8080/")
        title = await browser.evaluate("document.title")

Nothing waits without a deadline, and leaving the block kills every process of the browser.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator

from browser import Browser, Message
from channel import DriverError
from chromium import Chromium
from firefox import Firefox

__all__ = ["BROWSERS", "Browser", "Chromium", "DriverError", "Firefox", "Message", "launch"]

BROWSERS: dict[str, type[Browser]] = {kind.name: kind for kind in (Chromium, Firefox)}


@contextlib.asynccontextmanager
async def launch(name: str) -> AsyncIterator[Browser]:
    """Starts a browser by its name and ends it with the block, whatever happens."""
    browser = BROWSERS[name]()
    try:
        await browser.start()
        yield browser
    finally:
        await browser.close()
