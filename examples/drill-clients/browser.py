"""A page with the JavaScript client in headless Chromium, for `holdfast drill --with`.

    holdfast drill --with 'python3 examples/drill-clients/browser.py'

Needs Chromium, and the package `websockets`. The page is driven over the DevTools protocol: orders go in by
`Runtime.evaluate`, what it sees comes out by a binding. `hide` brings another tab to the front, as a person would.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import http.server
import itertools
import json
import os
import pathlib
import shutil
import signal
import sys
import tempfile
import threading
from typing import Any

import websockets

PROGRAMS = ("chromium", "chromium-browser", "google-chrome")
START_DEADLINE = 30.0
COMMAND_DEADLINE = 20.0
ROOT = pathlib.Path(__file__).resolve().parents[2]


def write(line: str) -> None:
    print(line, flush=True)


class Files(http.server.SimpleHTTPRequestHandler):
    """The page and the client, from this repository. Quiet: standard error is for what goes wrong."""

    def log_message(self, *_: Any) -> None: ...


class Chromium:
    def __init__(self, profile: str):
        self.profile = pathlib.Path(profile)
        self.numbers = itertools.count(1)
        self.waiting: dict[int, asyncio.Future[dict[str, Any]]] = {}

    async def start(self) -> None:
        program = next((found for name in PROGRAMS if (found := shutil.which(name))), None)
        if program is None:
            raise SystemExit(f"none of {', '.join(PROGRAMS)} is on PATH")
        # Throttling of hidden pages stays on: it is part of what is drilled. The drill may stop this process group, and
        # with it the browser, as a laptop's lid does.
        self.process = await asyncio.create_subprocess_exec(
            program, "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run",
            "--no-default-browser-check", "--disable-sync", "--disable-extensions", "--disable-background-networking",
            "--no-proxy-server", f"--user-data-dir={self.profile}", "--remote-debugging-port=0", "about:blank",
            stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.DEVNULL,
        )  # fmt: skip
        self.socket = await websockets.connect(
            await self.endpoint(), max_size=1 << 24, ping_interval=None, compression=None, proxy=None
        )
        self.reader = asyncio.create_task(self.read())

    async def endpoint(self) -> str:
        async with asyncio.timeout(START_DEADLINE):
            while True:
                with contextlib.suppress(OSError):
                    lines = (self.profile / "DevToolsActivePort").read_text().splitlines()
                    if len(lines) >= 2:
                        return f"ws://127.0.0.1:{lines[0]}{lines[1]}"
                await asyncio.sleep(0.05)

    async def read(self) -> None:
        async for text in self.socket:
            message = json.loads(text)
            if answer := self.waiting.pop(message.get("id", 0), None):
                answer.set_result(message)
            elif message.get("method") == "Runtime.bindingCalled":
                write(message["params"]["payload"])

    async def call(self, method: str, session: str | None = None, **params: Any) -> dict[str, Any]:
        number = next(self.numbers)
        answer = self.waiting[number] = asyncio.get_running_loop().create_future()
        page = {"sessionId": session} if session else {}
        await self.socket.send(json.dumps({"id": number, "method": method, "params": params, **page}))
        message = await asyncio.wait_for(answer, COMMAND_DEADLINE)
        if "error" in message:
            raise RuntimeError(f"{method}: {message['error']}")
        return message["result"]

    async def open(self, url: str) -> str:
        """Opens a page that can call `sawLine`. Answers its session."""
        self.target = (await self.call("Target.createTarget", url="about:blank"))["targetId"]
        session = (await self.call("Target.attachToTarget", targetId=self.target, flatten=True))["sessionId"]
        await self.call("Runtime.enable", session)
        await self.call("Runtime.addBinding", session, name="sawLine")
        await self.call("Page.navigate", session, url=url)
        await self.call("Target.activateTarget", targetId=self.target)
        async with asyncio.timeout(START_DEADLINE):
            while not await self.evaluate(session, "typeof drillOrder === 'function'"):
                await asyncio.sleep(0.05)
        return session

    async def evaluate(self, session: str, expression: str) -> Any:
        answer = await self.call("Runtime.evaluate", session, expression=expression, returnByValue=True)
        return answer["result"].get("value")

    async def hide(self) -> None:
        cover = (await self.call("Target.createTarget", url="about:blank"))["targetId"]
        await self.call("Target.activateTarget", targetId=cover)

    async def close(self) -> None:
        self.process.send_signal(signal.SIGKILL)
        await self.process.wait()


async def orders() -> asyncio.StreamReader:
    reader = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    return reader


async def main() -> None:
    handler = functools.partial(Files, directory=str(ROOT))
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    with tempfile.TemporaryDirectory(prefix="holdfast-drill-", ignore_cleanup_errors=True) as profile:
        browser = Chromium(profile)
        await browser.start()
        try:
            session = await browser.open(f"http://127.0.0.1:{server.server_port}/examples/drill-clients/browser.html")
            reader = await orders()
            while line := await reader.readline():
                order = json.loads(line)
                if order["do"] == "hide":
                    await browser.hide()
                else:
                    await browser.evaluate(session, f"drillOrder({json.dumps(order)})")
                if order["do"] == "close":
                    break
        finally:
            await browser.close()
    os._exit(0)  # The files' threads have nothing left to do.


if __name__ == "__main__":
    asyncio.run(main())
