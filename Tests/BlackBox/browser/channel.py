"""Commands and events over one WebSocket, as the DevTools protocol and WebDriver BiDi both do it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Any

import websockets

#: A screenshot of a tall page is a few MiB of base64.
MAX_MESSAGE_BYTES = 64 * 1024 * 1024


class DriverError(Exception):
    """The browser refused a command, died, or did not answer in time."""


class Channel:
    """One conversation with a browser. Events go to `on_event(method, params, session)` in their order.

    `session` is DevTools' name for the page that an event is about; BiDi says it in the parameters.
    """

    def __init__(self, on_event: Callable[[str, dict[str, Any], str], None]) -> None:
        self._on_event = on_event
        self._waiting: dict[int, tuple[str, asyncio.Future[dict[str, Any]]]] = {}
        self._last_id = 0
        self._socket: websockets.ClientConnection | None = None
        self._reader: asyncio.Task[None] | None = None
        self._end: str | None = None

    async def connect(self, url: str, timeout: float = 10) -> None:
        # A browser that paints on a loaded machine may not answer a ping for a while: every command
        # has its own deadline instead. `proxy=None`: it is a process of ours on this host.
        self._socket = await asyncio.wait_for(
            websockets.connect(url, max_size=MAX_MESSAGE_BYTES, ping_interval=None, compression=None, proxy=None),
            timeout,
        )
        self._reader = asyncio.create_task(self._read(self._socket))

    async def call(
        self, method: str, params: dict[str, Any] | None = None, *, timeout: float = 10, **extra: Any
    ) -> dict[str, Any]:
        """Sends one command and returns its result. `extra` stands beside the method (DevTools' `sessionId`)."""
        if self._socket is None or self._end is not None:
            raise DriverError(f"{method}: {self._end or 'not connected'}")
        self._last_id += 1
        number = self._last_id
        answer: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()
        self._waiting[number] = (method, answer)
        try:
            async with asyncio.timeout(timeout):
                await self._socket.send(json.dumps({"id": number, "method": method, "params": params or {}, **extra}))
                return await answer
        except TimeoutError:
            raise DriverError(f"{method}: no answer within {timeout} s") from None
        except websockets.ConnectionClosed as reason:
            raise DriverError(f"{method}: {reason}") from None
        finally:
            self._waiting.pop(number, None)

    async def close(self) -> None:
        if self._reader is not None:
            self._reader.cancel()
            await asyncio.gather(self._reader, return_exceptions=True)
        if self._socket is not None:
            # The browser is about to be killed: nobody waits for its closing handshake.
            self._socket.transport.abort()

    async def _read(self, socket: websockets.ClientConnection) -> None:
        try:
            async for text in socket:
                self._receive(json.loads(text))
            self._fail("the browser closed the connection")
        except websockets.ConnectionClosed as reason:
            self._fail(f"the browser is gone: {reason}")
        except Exception as reason:  # A bug in a listener must fail the test, not stop the reading in silence.
            self._fail(f"a listener failed: {reason!r}")

    def _receive(self, message: dict[str, Any]) -> None:
        if "id" not in message:
            if "method" in message:
                self._on_event(message["method"], message.get("params", {}), message.get("sessionId", ""))
            return
        method, answer = self._waiting.get(message["id"], ("", None))
        if answer is None or answer.done():
            return
        if "result" in message:
            answer.set_result(message["result"])
        else:  # DevTools: {"error": {"message"}}; BiDi: {"error": code, "message"}.
            error = message.get("error")
            detail = error.get("message") if isinstance(error, dict) else f"{error}: {message.get('message')}"
            answer.set_exception(DriverError(f"{method}: {detail}"))

    def _fail(self, reason: str) -> None:
        self._end = reason
        for method, answer in self._waiting.values():
            if not answer.done():
                answer.set_exception(DriverError(f"{method}: {reason}"))
