"""What runs in the server's namespace: the gateway, the site with the page, and who publishes numbered events."""

from __future__ import annotations

import asyncio
import contextlib
import os
import pathlib
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from typing import Any

import paths  # noqa: F401
from gateway import Gateway, binary, until
from namespace import DIES_WITH_US, Namespace
from network import SERVER
from site_of_another_origin import page_for

#: In a namespace of our own every port is free.
GATEWAY_PORT, SITE_PORT = 8080, 8000
GATEWAY_ORIGIN = f"http://{SERVER}:{GATEWAY_PORT}"
PAGE_URL = f"http://{SERVER}:{SITE_PORT}/"
#: The gateway opens its API without a key on loopback only.
API_KEY = "the-key-of-the-network-lab"
START_TIMEOUT = 20.0

#: What faults.md prescribes.
EVENTS_EVERY_S = 0.2
NUMBERS, ANSWERS = "lab.numbers", "lab.answers"


class GatewayInside(Gateway):
    """Its HTTP side is asked from within its own namespace, so that no cut stands between it and the judge."""

    def __init__(self, process: asyncio.subprocess.Process, namespace: Namespace) -> None:
        super().__init__(process, API_KEY)
        self.port = GATEWAY_PORT
        self._namespace = namespace

    def _request(self, method: str, path: str, body: Any) -> Any:
        with self._namespace.inside():
            return super()._request(method, path, body)

    async def _wait_until_ready(self) -> None:
        async def answers() -> bool:
            if crash := self.crash():
                raise AssertionError(crash)
            with contextlib.suppress(OSError):
                await self.get("/ready")
                return True
            return False

        await until(answers, START_TIMEOUT, "the gateway answers")


async def start_inside(
    namespace: Namespace, *command: str, environment: dict[str, str] | None = None
) -> asyncio.subprocess.Process:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("HOLDFAST_")}
    return await asyncio.create_subprocess_exec(
        *DIES_WITH_US,
        *namespace.entering,
        *command,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        start_new_session=True,
        env={**kept, **(environment or {})},
    )


@contextlib.asynccontextmanager
async def running_gateway(namespace: Namespace, settings: dict[str, str]) -> AsyncIterator[GatewayInside]:
    """`holdfast serve --dev` with its defaults. `settings`: variables of the environment, for canaries."""
    command = [binary(), "serve", "--dev", "--host", "0.0.0.0", "--port", str(GATEWAY_PORT)]
    process = await start_inside(namespace, *command, environment={"HOLDFAST_API_KEY": API_KEY, **settings})
    gateway = GatewayInside(process, namespace)
    try:
        await gateway._wait_until_ready()
        yield gateway
        if crash := gateway.crash():
            raise AssertionError(crash)
    finally:
        await gateway._stop()


@contextlib.asynccontextmanager
async def running_site(namespace: Namespace) -> AsyncIterator[None]:
    """Serves the page, of another origin than the gateway as with most of its users."""
    with tempfile.TemporaryDirectory(prefix="holdfast-lab-") as folder:
        (pathlib.Path(folder) / "index.html").write_bytes(page_for(GATEWAY_ORIGIN))
        program = (sys.executable, "-m", "http.server", str(SITE_PORT), "--bind", SERVER, "--directory", folder)
        process = await start_inside(namespace, *program)
        drained = asyncio.create_task(process.stdout.read() if process.stdout else asyncio.sleep(0))
        try:
            yield
        finally:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()
            drained.cancel()
            await asyncio.gather(drained, return_exceptions=True)


class Publisher:
    """Publishes 1, 2, 3 … for as long as its block lasts, one every 200 ms."""

    def __init__(self, gateway: Gateway, withheld: int | None = None) -> None:
        """`withheld`: a number that it counts and does not publish, for the canary."""
        self._gateway = gateway
        self._withheld = withheld
        self.published = 0
        self._stopping = False
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Publisher:
        self._task = asyncio.create_task(self._publish())
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def stop(self) -> int:
        """The last number. Raises what went wrong meanwhile."""
        self._stopping = True
        assert self._task is not None
        await self._task
        return self.published

    async def _publish(self) -> None:
        due = time.monotonic()
        while not self._stopping:
            if self.published + 1 != self._withheld:
                await self._gateway.publish(NUMBERS, self.published + 1)
            self.published += 1
            due += EVENTS_EVERY_S
            await asyncio.sleep(max(0.0, due - time.monotonic()))
