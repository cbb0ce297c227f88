"""What the tests see of a browser, and the life of its process."""

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
    """What the tests see of a browser: one page, its console, its visibility; and, if asked, more windows of the same browser."""

    name = "?"
    programs: tuple[str, ...] = ()

    def __init__(self, beside: Browser | None = None) -> None:
        self.messages: list[Message] = []
        self._process: asyncio.subprocess.Process | None = None
        #: Pages by their names in the protocol; only the browser's first one has this.
        self._pages: dict[str, Browser] = {}
        self._first = beside or self
        #: Windows are opened one after the other.
        self._opening = asyncio.Lock()
        if beside is None:
            self._channel = Channel(self._dispatch)
            self._profile = pathlib.Path(tempfile.mkdtemp(prefix=f"holdfast-{self.name}-"))
        else:
            self._channel, self._profile = beside._channel, beside._profile

    # What the two differ in.

    def _arguments(self) -> list[str]:
        raise NotImplementedError

    def _endpoint(self) -> str | None:
        """The address of the remote end as soon as the browser has written it down."""
        raise NotImplementedError

    async def _attach(self) -> None:
        raise NotImplementedError

    async def _attach_to_new_window(self) -> None:
        raise NotImplementedError

    async def _close_window(self) -> None:
        raise NotImplementedError

    def _page_of(self, params: dict[str, Any], session: str) -> str:
        """The name of the page that an event is about."""
        raise NotImplementedError

    def _on_event(self, method: str, params: dict[str, Any]) -> None:
        raise NotImplementedError

    async def _navigate(self, url: str) -> None:
        raise NotImplementedError

    async def _evaluate(self, expression: str, timeout: float) -> str:
        raise NotImplementedError

    async def _screenshot(self) -> str:
        raise NotImplementedError

    async def preload(self, function: str) -> None:
        """Runs a JavaScript function in every page opened from now on, before the page's own scripts."""
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

    @contextlib.asynccontextmanager
    async def window(self) -> AsyncIterator[Browser]:
        """Another window for the length of a block. It is visible, like the first, and has a console of its own."""
        other = type(self)(beside=self._first)
        async with self._first._opening:
            await other._attach_to_new_window()
        try:
            yield other
        finally:
            with contextlib.suppress(DriverError):
                await other._close_window()

    def _dispatch(self, method: str, params: dict[str, Any], session: str) -> None:
        self._pages.get(self._page_of(params, session), self)._on_event(method, params)

    async def open(self, url: str) -> None:
        """Returns when the page has loaded."""
        await self._navigate(url)

    async def evaluate(self, expression: str, timeout: float = COMMAND_TIMEOUT) -> Any:
        """The value of a JavaScript expression, a promise awaited, through JSON."""
        wrapped = (
            f"(async () => {{ try {{ return JSON.stringify({{ value: await (\n{expression}\n) }}); }}"
            " catch (error) { return JSON.stringify({ error: `${error}` }); } })()"
        )
        result = json.loads(await self._evaluate(wrapped, timeout))
        if "error" in result:
            raise DriverError(f"{self.name}: {result['error']} in {expression}")
        return result.get("value")

    async def until(self, expression: str, timeout: float, what: str, every: float = 0.05) -> Any:
        """Asks until the expression is truthy and returns it; says `what` it waited for if it never is."""
        deadline = time.monotonic() + timeout
        while True:
            value = await self.evaluate(expression)
            if value:
                return value
            if time.monotonic() >= deadline:
                said = "".join(f"\n{message}" for message in (self.page_errors + self.browser_errors)[-5:])
                raise AssertionError(f"{self.name}: {what}: not within {timeout:g} s; last value: {value!r}{said}")
            await asyncio.sleep(every)

    async def screenshot(self, path: str | os.PathLike[str]) -> pathlib.Path:
        """The whole page, as far as it scrolls, as PNG."""
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


def _processes_naming(path: str) -> list[int]:
    found = []
    for entry in pathlib.Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if path.encode() in (entry / "cmdline").read_bytes():
                found.append(int(entry.name))
    return found
