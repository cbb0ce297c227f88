"""Real browsers, headless, behind one small class.

Chromium is driven over the DevTools protocol, Firefox over WebDriver BiDi: both are JSON over a
WebSocket, so that no driver program and no package but `websockets` is needed.

    async with launch("firefox") as browser:
        await browser.open("http://127.0.0.1:8080/")
        title = await browser.evaluate("document.title")

Nothing waits without a deadline, and leaving the block kills every process of the browser.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import os
import pathlib
import shutil
import signal
import tempfile
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

from channel import Channel, DriverError

__all__ = ["BROWSERS", "Browser", "Chromium", "DriverError", "Firefox", "Message", "launch"]

START_TIMEOUT = 60.0
COMMAND_TIMEOUT = 20.0
VIEWPORT = (1280, 900)
#: A page that logs in a loop must not take the memory of the machine with it.
MAX_MESSAGES = 10_000


@dataclass(frozen=True)
class Message:
    """Something that the browser's console would show."""

    #: "console": the page called console.*; "exception": nobody caught it;
    #: "browser": the browser's own remark, such as a failed request.
    source: str
    level: str
    text: str
    at: float = field(default_factory=time.time)

    def __str__(self) -> str:
        return f"[{self.source} {self.level}] {self.text}"


class Browser:
    """What the tests see of a browser: one page, its console, its visibility."""

    name = "?"
    programs: tuple[str, ...] = ()

    def __init__(self) -> None:
        self.messages: list[Message] = []
        self._channel = Channel(self._on_event)
        self._process: asyncio.subprocess.Process | None = None
        self._profile = pathlib.Path(tempfile.mkdtemp(prefix=f"holdfast-{self.name}-"))

    # What the two differ in.

    def _arguments(self) -> list[str]:
        raise NotImplementedError

    def _endpoint(self) -> str | None:
        """The address of the remote end as soon as the browser has written it down."""
        raise NotImplementedError

    async def _attach(self) -> None:
        raise NotImplementedError

    def _on_event(self, method: str, params: dict[str, Any]) -> None:
        raise NotImplementedError

    async def _navigate(self, url: str) -> None:
        raise NotImplementedError

    async def _evaluate(self, expression: str, timeout: float) -> str | None:
        raise NotImplementedError

    async def _screenshot(self) -> str:
        raise NotImplementedError

    async def hide(self) -> None:
        """Brings another tab to the front, as a user would: the page is hidden, its timers are throttled."""
        raise NotImplementedError

    async def show(self) -> None:
        """Brings the page back to the front."""
        raise NotImplementedError

    # What they share.

    @property
    def page_errors(self) -> list[Message]:
        """What the page is to blame for: uncaught errors and its own console.error."""
        return [m for m in self.messages if m.source == "exception" or (m.source == "console" and m.level == "error")]

    @property
    def browser_errors(self) -> list[Message]:
        """What the browser complained about on its own, such as requests that failed."""
        return [m for m in self.messages if m.source == "browser" and m.level == "error"]

    async def open(self, url: str) -> None:
        """Returns when the page has loaded."""
        await self._navigate(url)

    async def evaluate(self, expression: str, timeout: float = COMMAND_TIMEOUT) -> Any:
        """The value of a JavaScript expression, a promise awaited, through JSON."""
        wrapped = f"(async () => JSON.stringify(await (\n{expression}\n)))()"
        text = await self._evaluate(wrapped, timeout)
        return None if text is None else json.loads(text)

    async def until(self, expression: str, timeout: float, what: str, every: float = 0.05) -> Any:
        """Asks until the expression is truthy and returns it; says `what` it waited for if it never is."""
        deadline = time.monotonic() + timeout
        while True:
            value = await self.evaluate(expression)
            if value:
                return value
            if time.monotonic() >= deadline:
                raise AssertionError(f"{self.name}: {what}: not within {timeout:g} s; last value: {value!r}")
            await asyncio.sleep(every)

    async def screenshot(self, path: str | os.PathLike[str]) -> pathlib.Path:
        target = pathlib.Path(path)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(base64.b64decode(await self._screenshot()))
        return target

    async def start(self) -> None:
        program = next((found for name in self.programs if (found := shutil.which(name))), None)
        if program is None:
            raise DriverError(f"{self.name} is not installed: none of {', '.join(self.programs)} is on the PATH")
        command = [program, *self._arguments()]
        if guard := shutil.which("setpriv"):  # A killed test run takes its browsers with it.
            command = [guard, "--pdeathsig", "KILL", "--", *command]
        with (self._profile / "output.log").open("wb") as output:
            self._process = await asyncio.create_subprocess_exec(
                *command,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
                env={**os.environ, "HOME": str(self._profile), "XDG_CONFIG_HOME": str(self._profile), "MOZ_HEADLESS": "1"},
            )
        await self._channel.connect(await self._wait_for_endpoint())
        await self._attach()

    async def _wait_for_endpoint(self) -> str:
        deadline = time.monotonic() + START_TIMEOUT
        while (url := self._endpoint()) is None:
            assert self._process is not None
            if self._process.returncode is not None or time.monotonic() >= deadline:
                tail = (self._profile / "output.log").read_text(errors="replace")[-2000:]
                raise DriverError(f"{self.name} did not start (exit status {self._process.returncode}):\n{tail}")
            await asyncio.sleep(0.05)
        return url

    async def close(self) -> None:
        """Kills the whole process group and removes the profile. May be called twice."""
        await self._channel.close()
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            await self._process.wait()
            await self._kill_strays()
            self._process = None
        deadline = time.monotonic() + 5
        while self._profile.exists() and time.monotonic() < deadline:
            shutil.rmtree(self._profile, ignore_errors=True)
            await asyncio.sleep(0.02)

    async def _kill_strays(self) -> None:
        """A crash handler leaves the group; it still names the profile, which is ours alone."""
        deadline = time.monotonic() + 5
        while (pids := _processes_naming(str(self._profile))) and time.monotonic() < deadline:
            for pid in pids:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            await asyncio.sleep(0.02)

    def _note(self, source: str, level: str, text: str) -> None:
        if len(self.messages) < MAX_MESSAGES:
            self.messages.append(Message(source, level, text))


class Chromium(Browser):
    name = "chromium"
    programs = ("chromium", "chromium-browser", "google-chrome")

    def __init__(self) -> None:
        super().__init__()
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
            "--no-proxy-server", f"--window-size={VIEWPORT[0]},{VIEWPORT[1]}",
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
        attached = await self._channel.call("Target.attachToTarget", {"targetId": self._target, "flatten": True})
        self._session = attached["sessionId"]
        for domain in ("Page", "Runtime", "Log"):
            await self._command(f"{domain}.enable")
        await self._command("Page.setLifecycleEventsEnabled", {"enabled": True})

    async def _command(self, method: str, params: dict[str, Any] | None = None, timeout: float = COMMAND_TIMEOUT) -> dict[str, Any]:
        return await self._channel.call(method, params, timeout=timeout, sessionId=self._session)

    def _on_event(self, method: str, params: dict[str, Any]) -> None:
        if method == "Page.lifecycleEvent" and params["name"] == "load":
            self._loaded.add(params["loaderId"])
        elif method == "Runtime.consoleAPICalled":
            texts = (str(a.get("value", a.get("description", a.get("type")))) for a in params["args"])
            self._note("console", params["type"], " ".join(texts))
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

    async def _evaluate(self, expression: str, timeout: float) -> str | None:
        parameters = {"expression": expression, "awaitPromise": True, "returnByValue": True}
        reply = await self._command("Runtime.evaluate", parameters, timeout)
        if details := reply.get("exceptionDetails"):
            raise DriverError(f"chromium: {details.get('exception', {}).get('description') or details['text']}")
        return reply["result"].get("value")

    async def _screenshot(self) -> str:
        return (await self._command("Page.captureScreenshot", {"format": "png"}))["data"]

    async def hide(self) -> None:
        if self._cover is None:
            self._cover = (await self._channel.call("Target.createTarget", {"url": "about:blank"}))["targetId"]
        await self._channel.call("Target.activateTarget", {"targetId": self._cover})
        await self.until("document.visibilityState === 'hidden'", 5, "the page is hidden")

    async def show(self) -> None:
        await self._channel.call("Target.activateTarget", {"targetId": self._target})
        await self.until("document.visibilityState === 'visible'", 5, "the page is shown")


#: Firefox as a person would have it, less what calls home on its own and would disturb the measuring.
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
    "toolkit.telemetry.server": "http://127.0.0.1:9/",
}


class Firefox(Browser):
    name = "firefox"
    programs = ("firefox-esr", "firefox")

    def __init__(self) -> None:
        super().__init__()
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
        self._context = tree["contexts"][0]["context"]
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

    async def _evaluate(self, expression: str, timeout: float) -> str | None:
        parameters = {"expression": expression, "target": {"context": self._context}, "awaitPromise": True}
        reply = await self._channel.call("script.evaluate", parameters, timeout=timeout)
        if reply["type"] == "exception":
            raise DriverError(f"firefox: {reply['exceptionDetails']['text']}")
        return reply["result"].get("value")

    async def _screenshot(self) -> str:
        parameters = {"context": self._context}
        return (await self._channel.call("browsingContext.captureScreenshot", parameters, timeout=COMMAND_TIMEOUT))["data"]

    async def hide(self) -> None:
        if self._cover is None:
            self._cover = (await self._channel.call("browsingContext.create", {"type": "tab"}))["context"]
        await self._channel.call("browsingContext.activate", {"context": self._cover})
        await self.until("document.visibilityState === 'hidden'", 5, "the page is hidden")

    async def show(self) -> None:
        await self._channel.call("browsingContext.activate", {"context": self._context})
        await self.until("document.visibilityState === 'visible'", 5, "the page is shown")


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


def _processes_naming(path: str) -> list[int]:
    found = []
    for entry in pathlib.Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if path.encode() in (entry / "cmdline").read_bytes():
                found.append(int(entry.name))
    return found
