"""Chromium over the DevTools protocol."""

from __future__ import annotations

import asyncio
import contextlib
import time
from typing import Any

from browser import COMMAND_TIMEOUT, START_TIMEOUT, VIEWPORT, Browser
from channel import DriverError


class Chromium(Browser):
    name = "chromium"
    programs = ("chromium", "chromium-browser", "google-chrome")

    def __init__(self, beside: Browser | None = None) -> None:
        super().__init__(beside)
        self._session = ""
        self._target = ""
        self._cover: str | None = None
        self._loaded: set[str] = set()

    def _arguments(self) -> list[str]:
        # Throttling of hidden pages stays on: it is part of what is tested.
        return [
            "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run",
            "--no-default-browser-check", "--disable-breakpad", "--disable-crash-reporter", "--disable-sync",
            "--disable-extensions", "--disable-component-update", "--disable-background-networking",
            "--disable-default-apps", "--mute-audio", "--hide-scrollbars", "--password-store=basic",
            "--no-proxy-server", "--force-prefers-reduced-motion", f"--window-size={VIEWPORT[0]},{VIEWPORT[1]}",
            f"--user-data-dir={self._profile}", "--remote-debugging-port=0", "about:blank",
        ]  # fmt: skip

    def _endpoint(self) -> str | None:
        with contextlib.suppress(OSError):
            lines = (self._profile / "DevToolsActivePort").read_text().splitlines()
            if len(lines) >= 2:
                return f"ws://127.0.0.1:{lines[0]}{lines[1]}"
        return None

    async def _attach(self) -> None:
        deadline = time.monotonic() + START_TIMEOUT
        while not self._target:
            targets = (await self._channel.call("Target.getTargets"))["targetInfos"]
            self._target = next((t["targetId"] for t in targets if t["type"] == "page"), "")
            if not self._target and time.monotonic() >= deadline:
                raise DriverError("chromium: no page")
        await self._attach_to_target()

    async def _attach_to_new_window(self) -> None:
        # Not a tab of the first window: that would be hidden.
        created = await self._channel.call("Target.createTarget", {"url": "about:blank", "newWindow": True}, timeout=COMMAND_TIMEOUT)
        self._target = created["targetId"]
        await self._attach_to_target()

    async def _close_window(self) -> None:
        await self._channel.call("Target.closeTarget", {"targetId": self._target})

    def _page_of(self, params: dict[str, Any], session: str) -> str:
        return session

    async def _attach_to_target(self) -> None:
        attached = await self._channel.call("Target.attachToTarget", {"targetId": self._target, "flatten": True})
        self._session = attached["sessionId"]
        self._first._pages[self._session] = self
        for domain in ("Page", "Runtime", "Log"):
            await self._command(f"{domain}.enable")
        await self._command("Page.setLifecycleEventsEnabled", {"enabled": True})
        size = {"width": VIEWPORT[0], "height": VIEWPORT[1], "deviceScaleFactor": 1, "mobile": False}
        await self._command("Emulation.setDeviceMetricsOverride", size)

    async def _command(
        self, method: str, params: dict[str, Any] | None = None, timeout: float = COMMAND_TIMEOUT
    ) -> dict[str, Any]:
        return await self._channel.call(method, params, timeout=timeout, sessionId=self._session)

    def _on_event(self, method: str, params: dict[str, Any]) -> None:
        if method == "Page.lifecycleEvent" and params["name"] == "load":
            self._loaded.add(params["loaderId"])
        elif method == "Runtime.consoleAPICalled":
            texts = (str(a.get("value", a.get("description", a.get("type")))) for a in params["args"])
            level = {"warning": "warn"}.get(params["type"], params["type"])
            self._note("console", level, " ".join(texts))
        elif method == "Runtime.exceptionThrown":
            details = params["exceptionDetails"]
            self._note("exception", "error", details.get("exception", {}).get("description") or details["text"])
        elif method == "Log.entryAdded":
            entry = params["entry"]
            self._note("browser", entry["level"], f"{entry['text']} {entry.get('url', '')}".strip())

    async def _navigate(self, url: str) -> None:
        reply = await self._command("Page.navigate", {"url": url})
        if "errorText" in reply:
            raise DriverError(f"chromium: {url}: {reply['errorText']}")
        deadline = time.monotonic() + COMMAND_TIMEOUT
        while reply.get("loaderId", "") not in self._loaded | {""}:
            if time.monotonic() >= deadline:
                raise DriverError(f"chromium: {url}: not loaded within {COMMAND_TIMEOUT:g} s")
            await asyncio.sleep(0.01)

    async def _evaluate(self, expression: str, timeout: float) -> str:
        parameters = {"expression": expression, "awaitPromise": True, "returnByValue": True}
        reply = await self._command("Runtime.evaluate", parameters, timeout)
        if details := reply.get("exceptionDetails"):
            raise DriverError(f"chromium: {details.get('exception', {}).get('description') or details['text']}")
        return reply["result"]["value"]

    async def _screenshot(self) -> str:
        size = (await self._command("Page.getLayoutMetrics"))["cssContentSize"]
        parameters = {"format": "png", "captureBeyondViewport": True, "clip": {**size, "scale": 1}}
        return (await self._command("Page.captureScreenshot", parameters))["data"]

    async def preload(self, function: str) -> None:
        await self._command("Page.addScriptToEvaluateOnNewDocument", {"source": f"({function})()"})

    async def hide(self) -> None:
        if self._cover is None:
            self._cover = (await self._channel.call("Target.createTarget", {"url": "about:blank"}))["targetId"]
        await self._channel.call("Target.activateTarget", {"targetId": self._cover})
        await self.until("document.visibilityState === 'hidden'", 5, "the page is hidden")

    async def show(self) -> None:
        await self._channel.call("Target.activateTarget", {"targetId": self._target})
        await self.until("document.visibilityState === 'visible'", 5, "the page is shown")
