"""What SocketShark's users have: a Redis, a service that answers callbacks, and the gateway in SocketShark's place."""

from __future__ import annotations

import asyncio
import contextlib
import json
import pathlib
import shutil
import sys
import tempfile
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import settings
from fake_service import FakeService
from gateway import REPOSITORY, Gateway, running, until
from holdfast_process import run
from redis_server import RedisServer, free_port
from shark import configured

KEY = "the key of the tests"
PREFIX = "live:"
START_TIMEOUT = 20.0


@contextlib.asynccontextmanager
async def _redis() -> AsyncIterator[RedisServer]:
    with tempfile.TemporaryDirectory(prefix="holdfast-redis-") as folder:
        server = await asyncio.to_thread(RedisServer, pathlib.Path(folder))
        try:
            yield server
        finally:
            server.kill()


@dataclass(frozen=True)
class Backend:
    redis: RedisServer
    service: FakeService
    gateway: Gateway

    def publish(self, subscription: str, data: Any, *, prefix: str = PREFIX, **fields: Any) -> int:
        """A plain PUBLISH, as services do it. Answers how many gateways got it."""
        return self.redis.publish(prefix + subscription, json.dumps({"subscription": subscription, "data": data, **fields}))

    async def only_session(self) -> str:
        """The handle of the one session that has a subscription; a line that lost a race may have left one without."""
        [session] = [each for each in await self.gateway.sessions() if each["state"] != "ended" and each["subscription_count"]]
        return session["id"]

    async def lose_session(self, handle: str) -> None:
        """Ends it in a way that makes its client come back."""
        await self.gateway.post(f"/api/sessions/{handle}/disconnect", {"code": 4008, "reason": "slow consumer"})


@contextlib.asynccontextmanager
async def backend(*callbacks: str, calls: dict[str, Any] | None = None, **sections: Any) -> AsyncIterator[Backend]:
    """The service `calls` asks for authentication and has these callbacks; `calls` and `sections` are further configuration.

    The ticket "ticket-of-alice" is alice's, and nothing is worth any other kind of ticket.
    """
    async with contextlib.AsyncExitStack() as stack:
        redis = await stack.enter_async_context(_redis())
        service = stack.enter_context(FakeService())
        service.always("/ticket", _worth)
        sections = {
            "redis": {"linger": 120},
            "api": {"key": KEY},
            "authentication": {"ticket": {"validation_url": service.url("/ticket"), "auth_fields": ["user_id"]}},
            **sections,
        }
        services = {"calls": {"filter_fields": ["user_id"], **service.urls(*callbacks), **(calls or {})}}
        text = "\n".join(settings.lines(configured(services, redis.port, PREFIX, **sections))) + "\n"
        path = settings.write(redis.folder, text)
        gateway = await stack.enter_async_context(running("serve", "--port", "0", "--config", path, key=KEY))
        yield Backend(redis, service, gateway)


def _worth(request: Any) -> dict[str, str]:
    kind, _, user = str(request.body["ticket"]).rpartition("-")
    return {"status": "ok", "user_id": user} if kind == "ticket-of" else {"status": "error", "error": "No such ticket."}


# The example -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Example:
    address: str
    gateway: Gateway
    redis: RedisServer

    def publish(self, subscription: str, data: Any) -> int:
        return self.redis.publish(subscription, json.dumps({"subscription": subscription, "data": data}))


@contextlib.asynccontextmanager
async def example() -> AsyncIterator[Example]:
    """`examples/socketshark` as it stands, its README followed, on other ports than 6379, 8000 and 9000."""
    async with contextlib.AsyncExitStack() as stack:
        redis = await stack.enter_async_context(_redis())
        folder = redis.folder / "example"
        shutil.copytree(REPOSITORY / "examples" / "socketshark", folder)
        (folder / "holdfast.yml").unlink()
        port = free_port()
        _replace(folder / "shark_config.py", {"8000": port, "6379": redis.port})
        _replace(folder / "service.py", {"8000": port})
        config = str(folder / "holdfast.yml")
        done = await asyncio.to_thread(
            run, "import-socketshark", str(folder / "shark_config.py"), "--output", config, "--python", sys.executable
        )
        assert done.returncode == 0, done.stderr
        gateway = await stack.enter_async_context(running("serve", "--config", config, "--port", "0"))
        _replace(folder / "page.html", {"9000": gateway.port})
        await stack.enter_async_context(_service(folder / "service.py", port))
        yield Example(f"http://127.0.0.1:{port}/", gateway, redis)


def _replace(file: pathlib.Path, numbers: dict[str, int]) -> None:
    text = file.read_text()
    for old, new in numbers.items():
        assert old in text, f"{file.name} has no {old}"
        text = text.replace(old, str(new))
    file.write_text(text)


@contextlib.asynccontextmanager
async def _service(program: pathlib.Path, port: int) -> AsyncIterator[None]:
    command = [sys.executable, str(program)]
    if guard := shutil.which("setpriv"):
        command = [guard, "--pdeathsig", "KILL", "--", *command]
    nowhere = asyncio.subprocess.DEVNULL
    process = await asyncio.create_subprocess_exec(*command, stdin=nowhere, stdout=nowhere, stderr=nowhere)

    async def listens() -> bool:
        assert process.returncode is None, f"{program.name} ended with {process.returncode}"
        with contextlib.suppress(OSError):
            _, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.close()
            return True
        return False

    try:
        await until(listens, START_TIMEOUT, f"{program.name} listens")
        yield
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()
