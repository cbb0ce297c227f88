"""The program under test as a process of its own, and its HTTP side."""

from __future__ import annotations

import asyncio
import collections
import contextlib
import http.client
import json
import os
import pathlib
import re
import shutil
import signal
import time
from collections.abc import AsyncIterator
from typing import Any

START_TIMEOUT = 30.0
HTTP_TIMEOUT = 10.0
#: The last lines of its output, for the report of a failure.
OUTPUT_LINES = 400

REPOSITORY = pathlib.Path(__file__).resolve().parents[3]


def binary() -> str:
    path = os.environ.get("HOLDFAST_BIN") or str(REPOSITORY / ".build" / "debug" / "holdfast")
    if not os.access(path, os.X_OK):
        raise FileNotFoundError(f"{path} is not there: `swift build`, or say where it is with HOLDFAST_BIN")
    return path


class Gateway:
    """`holdfast demo` or `holdfast serve`, on a port that it took itself."""

    def __init__(self, process: asyncio.subprocess.Process, key: str | None) -> None:
        self._process = process
        self._key = key
        self.output: collections.deque[str] = collections.deque(maxlen=OUTPUT_LINES)
        self.port = 0
        self._ready = asyncio.Event()
        self._reader = asyncio.create_task(self._read())

    @property
    def origin(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def get(self, path: str) -> Any:
        """The JSON behind a path; None for a 404."""
        return await asyncio.to_thread(self._request, "GET", path, None)

    async def post(self, path: str, body: Any) -> Any:
        return await asyncio.to_thread(self._request, "POST", path, body)

    def _request(self, method: str, path: str, body: Any) -> Any:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=HTTP_TIMEOUT)
        try:
            headers = {} if body is None else {"Content-Type": "application/json"}
            if self._key is not None:
                headers["Authorization"] = f"Bearer {self._key}"
            connection.request(method, path, None if body is None else json.dumps(body), headers)
            response = connection.getresponse()
            text = response.read().decode()
            if response.status == 404 and method == "GET":
                return None
            if response.status >= 300:
                raise AssertionError(f"{method} {path}: {response.status} {text}")
            return json.loads(text) if text else None
        finally:
            connection.close()

    # The server API, as far as the tests need it.

    async def sessions(self) -> list[dict[str, Any]]:
        return (await self.get("/api/sessions"))["sessions"]

    async def session(self, handle: str) -> dict[str, Any] | None:
        """One session with its timeline; None if it has ended."""
        reply = await self.get(f"/api/sessions/{handle}")
        return None if reply is None else reply["session"]

    async def publish(self, subscription: str, *payloads: Any) -> int:
        """Publishes in order and returns the offset of the last."""
        offset = 0
        for start in range(0, len(payloads), 100):
            batch = [{"subscription": subscription, "data": data} for data in payloads[start : start + 100]]
            replies = await self.post("/api/batch", batch)
            answers = replies if isinstance(replies, list) else replies["replies"]
            offset = answers[-1]["position"]["offset"]
        return offset

    async def _read(self) -> None:
        assert self._process.stdout is not None
        async for line in self._process.stdout:
            text = line.decode(errors="replace").rstrip()
            self.output.append(text)
            if not self.port and (found := re.search(r"http://127\.0\.0\.1:(\d+)", text)):
                self.port = int(found[1])
                self._ready.set()
        self._ready.set()

    async def _wait_until_ready(self) -> None:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._ready.wait(), START_TIMEOUT)
        if not self.port:
            raise AssertionError("no address on its output:\n" + "\n".join(self.output))

    async def _stop(self) -> None:
        if self._process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
        await self._process.wait()
        self._reader.cancel()
        await asyncio.gather(self._reader, return_exceptions=True)

    def crash(self) -> str | None:
        """What to say if the process ended on its own."""
        status = self._process.returncode
        return None if status is None else f"holdfast ended by itself with {status}:\n" + "\n".join(self.output)


@contextlib.asynccontextmanager
async def running(*arguments: str, key: str | None = None) -> AsyncIterator[Gateway]:
    """Runs `holdfast ARGUMENTS` for the length of a block; it must still run at its end. `key` opens its server API."""
    guard = shutil.which("setpriv")
    command = [guard, "--pdeathsig", "KILL", "--", binary()] if guard else [binary()]
    process = await asyncio.create_subprocess_exec(
        *command,
        *arguments,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        start_new_session=True,
    )
    gateway = Gateway(process, key)
    try:
        await gateway._wait_until_ready()
        yield gateway
        if crash := gateway.crash():
            raise AssertionError(crash)
    finally:
        await gateway._stop()


async def until(question: Any, timeout: float, what: str, every: float = 0.05) -> Any:
    """Awaits `question()` again and again until it is truthy, and returns it."""
    deadline = time.monotonic() + timeout
    while True:
        value = await question()
        if value:
            return value
        if time.monotonic() >= deadline:
            raise AssertionError(f"{what}: not within {timeout:g} s; last value: {value!r}")
        await asyncio.sleep(every)
