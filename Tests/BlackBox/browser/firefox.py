"""Firefox over WebDriver BiDi."""

from __future__ import annotations

import contextlib
import json
from typing import Any

from browser import COMMAND_TIMEOUT, START_TIMEOUT, VIEWPORT, Browser
from channel import DriverError

#: Firefox as a person would have it, less what calls home or moves on its own and would disturb the measuring.
FIREFOX_PREFERENCES: dict[str, bool | int | str] = {
    "app.update.auto": False,
    "app.update.disabledForTesting": True,
    "app.normandy.enabled": False,
    "browser.safebrowsing.malware.enabled": False,
    "browser.safebrowsing.phishing.enabled": False,
    "browser.sessionstore.resume_from_crash": False,
    "browser.shell.checkDefaultBrowser": False,
    "browser.startup.page": 0,
    "browser.aboutwelcome.enabled": False,
    "datareporting.policy.dataSubmissionEnabled": False,
    "datareporting.policy.dataSubmissionPolicyBypassNotification": True,
    "extensions.update.enabled": False,
    "extensions.systemAddon.update.enabled": False,
    "network.captive-portal-service.enabled": False,
    "network.connectivity-service.enabled": False,
    "network.proxy.type": 0,
    "services.settings.server": "http://127.0.0.1:9/",
    "ui.prefersReducedMotion": 1,
    "toolkit.telemetry.server": "http://127.0.0.1:9/",
}


class Firefox(Browser):
    name = "firefox"
    programs = ("firefox-esr", "firefox")

    def __init__(self, beside: Browser | None = None) -> None:
        super().__init__(beside)
        self._context = ""
        self._cover: str | None = None

    def _arguments(self) -> list[str]:
        lines = (f"user_pref({json.dumps(k)}, {json.dumps(v)});\n" for k, v in FIREFOX_PREFERENCES.items())
        (self._profile / "user.js").write_text("".join(lines))
        return [
            "--headless", "--no-remote", "--profile", str(self._profile),
            "--remote-debugging-port", "0", "--width", str(VIEWPORT[0]), "--height", str(VIEWPORT[1]), "about:blank",
        ]  # fmt: skip

    def _endpoint(self) -> str | None:
        with contextlib.suppress(OSError, ValueError, KeyError):
            written = json.loads((self._profile / "WebDriverBiDiServer.json").read_text())
            return f"ws://{written['ws_host']}:{written['ws_port']}/session"
        return None

    async def _attach(self) -> None:
        await self._channel.call("session.new", {"capabilities": {}}, timeout=START_TIMEOUT)
        events = ["log.entryAdded", "network.responseCompleted", "network.fetchError"]
        await self._channel.call("session.subscribe", {"events": events})
        tree = await self._channel.call("browsingContext.getTree")
        await self._attach_to_context(tree["contexts"][0]["context"])

    async def _attach_to_new_window(self) -> None:
        created = await self._channel.call("browsingContext.create", {"type": "window"}, timeout=COMMAND_TIMEOUT)
        await self._attach_to_context(created["context"])

    async def _close_window(self) -> None:
        await self._channel.call("browsingContext.close", {"context": self._context})

    def _page_of(self, params: dict[str, Any], session: str) -> str:
        return params.get("context") or params.get("source", {}).get("context") or ""

    async def _attach_to_context(self, context: str) -> None:
        self._context = context
        self._first._pages[context] = self
        size = {"width": VIEWPORT[0], "height": VIEWPORT[1]}
        await self._channel.call("browsingContext.setViewport", {"context": self._context, "viewport": size})

    def _on_event(self, method: str, params: dict[str, Any]) -> None:
        if method == "log.entryAdded":
            if params["type"] == "console":
                self._note("console", params["method"], params["text"] or "")
            else:
                text = params["text"] or ""
                # The remark on a WebSocket that failed comes as if a script had thrown it.
                own = "establish a connection" in text or "was interrupted while" in text
                self._note("browser" if own else "exception", params["level"], text)
        elif method == "network.fetchError":
            self._note("browser", "error", f"{params['errorText']} {params['request']['url']}")
        elif method == "network.responseCompleted" and params["response"]["status"] >= 400:
            self._note("browser", "error", f"status {params['response']['status']} {params['request']['url']}")

    async def _navigate(self, url: str) -> None:
        parameters = {"context": self._context, "url": url, "wait": "complete"}
        await self._channel.call("browsingContext.navigate", parameters, timeout=COMMAND_TIMEOUT)

    async def _evaluate(self, expression: str, timeout: float) -> str:
        parameters = {"expression": expression, "target": {"context": self._context}, "awaitPromise": True}
        reply = await self._channel.call("script.evaluate", parameters, timeout=timeout)
        if reply["type"] == "exception":
            raise DriverError(f"firefox: {reply['exceptionDetails']['text']}")
        return reply["result"]["value"]

    async def _screenshot(self) -> str:
        parameters = {"context": self._context, "origin": "document"}
        return (await self._channel.call("browsingContext.captureScreenshot", parameters, timeout=COMMAND_TIMEOUT))["data"]

    async def preload(self, function: str) -> None:
        await self._channel.call("script.addPreloadScript", {"functionDeclaration": function, "contexts": [self._context]})

    async def hide(self) -> None:
        if self._cover is None:
            self._cover = (await self._channel.call("browsingContext.create", {"type": "tab"}))["context"]
        await self._channel.call("browsingContext.activate", {"context": self._cover})
        await self.until("document.visibilityState === 'hidden'", 5, "the page is hidden")

    async def show(self) -> None:
        await self._channel.call("browsingContext.activate", {"context": self._context})
        await self.until("document.visibilityState === 'visible'", 5, "the page is shown")
