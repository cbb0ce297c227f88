"""A proxy that does to WebSockets what bad proxies do, and nothing to any other request.

    async with fault_proxy(gateway.port) as proxy:
        proxy.treatment = "400"                      # from now on; `block` also ends what is open

It understands HTTP/1.1 as far as it must: one request after the other on a connection that is kept, bodies passed on as they
come, and a client that goes away in the middle of an answer is seen. What it saw is in `attempts`, `requests` and `aborted`.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import hashlib
import itertools
import socket
import struct
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field

GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
REASONS = {200: "OK", 400: "Bad Request", 404: "Not Found", 426: "Upgrade Required", 501: "Not Implemented", 502: "Bad Gateway",
           503: "Service Unavailable"}
STATUSES = ("200", "400", "404", "426", "501", "502")
#: What may become of a request to upgrade.
TREATMENTS = ("ok", *STATUSES, "hang", "reset", "silent", "client-only", "server-only", "dies")
#: How long a line lives under the treatment "dies".
SHORT_LIFE = 0.2
MAX_HEAD = 65_536


class Gone(Exception):
    """The peer has ended the connection."""


@dataclass
class Attempt:
    """A WebSocket handshake that reached the proxy."""

    at: float
    treatment: str


@dataclass
class Request:
    """Any other request. `ended` is None while it is under way; `aborted`: the client went away before the answer was whole."""

    at: float
    method: str
    path: str
    connection: int
    status: int | None = None
    ended: float | None = None
    aborted: bool = False

    @property
    def kind(self) -> str:
        """"poll", "stream", "send" or "session", else "other"."""
        last = self.path.partition("?")[0].rsplit("/", 1)[-1]
        return last if last in ("poll", "stream", "send", "session") else "other"


@dataclass(eq=False)
class Wire:
    """One end of a connection: bytes that were read and not yet used, and what is written."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    buffer: bytearray = field(default_factory=bytearray)

    async def fill(self) -> None:
        data = await self.reader.read(65_536)
        if not data:
            raise Gone
        self.buffer += data

    async def head(self) -> bytes:
        """The next request or answer up to its empty line."""
        while b"\r\n\r\n" not in self.buffer:
            if len(self.buffer) > MAX_HEAD:
                raise Gone
            await self.fill()
        return self.take(self.buffer.index(b"\r\n\r\n") + 4)

    async def line(self) -> bytes:
        while b"\n" not in self.buffer:
            await self.fill()
        return self.take(self.buffer.index(b"\n") + 1)

    def take(self, count: int) -> bytes:
        taken = bytes(self.buffer[:count])
        del self.buffer[:count]
        return taken

    async def until_gone(self) -> None:
        """Returns when the peer has ended the connection. What it still says is kept for later."""
        with contextlib.suppress(Gone, OSError):
            while True:
                await self.fill()

    async def write(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    def reset(self) -> None:
        """Ends with RST instead of FIN."""
        with contextlib.suppress(OSError):
            linger = struct.pack("ii", 1, 0)
            self.writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        self.writer.transport.abort()


class FaultProxy:
    """`site` answers the paths that are not the gateway's: the page. `prefix` is taken off the gateway's paths."""

    def __init__(self, port: int, site: Callable[[str], bytes | None], prefix: str) -> None:
        self.treatment = "ok"
        self.attempts: list[Attempt] = []
        self.requests: list[Request] = []
        self.address = ""
        self._target = port
        self._site = site
        self._prefix = prefix
        #: Mistakes of this program; they are raised at its end.
        self.mistakes: list[Exception] = []
        self._tunnels: set[Wire] = set()
        self._numbers = itertools.count(1)
        self._running: set[asyncio.Task] = set()

    # What the tests ask ---------------------------------------------------------------------

    def of(self, kind: str) -> list[Request]:
        return [request for request in self.requests if request.kind == kind]

    @property
    def aborted_polls(self) -> list[Request]:
        """Those that the client let go. If it polls again at once, the gateway may answer the old one with 409 before we hear of it."""
        return [request for request in self.of("poll") if request.aborted or request.status == 409]

    def block(self, treatment: str) -> int:
        """From now on; and the WebSockets that are open are reset. Says how many there were."""
        self.treatment = treatment
        open_now = list(self._tunnels)
        for wire in open_now:
            wire.reset()
        return len(open_now)

    # One connection ---------------------------------------------------------------------------

    async def accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._running.add(task)
        client, gateway, number = Wire(reader, writer), None, next(self._numbers)
        try:
            while True:
                head = await client.head()
                method, path, fields = parse(head)
                if "upgrade" in fields:
                    if not await self._upgrade(client, head, fields):
                        return
                elif (body := self._site(path)) is not None:
                    await client.write(answer(200, body, "text/html; charset=utf-8"))
                else:
                    request = Request(time.time(), method, path, number)
                    self.requests.append(request)
                    gateway = await self._pass_on(client, gateway, head, fields, request)
                    if gateway is None:
                        return
        except (Gone, OSError, asyncio.CancelledError):
            pass
        except Exception as mistake:
            self.mistakes.append(mistake)
        finally:
            self._running.discard(task)
            for wire in (client, gateway):
                if wire is not None:
                    wire.writer.close()

    async def _dial(self) -> Wire:
        return Wire(*await asyncio.open_connection("127.0.0.1", self._target))

    def _shortened(self, head: bytes) -> bytes:
        return head.replace(b" " + self._prefix.encode() + b"/", b" /", 1)

    async def _pass_on(self, client: Wire, gateway: Wire | None, head: bytes, fields: dict[str, str], request: Request) -> Wire | None:
        """One request and its answer. Returns the connection to the gateway, None if there is nothing more to be had from either."""
        if gateway is None or gateway.reader.at_eof():
            gateway = await self._dial()
        await gateway.write(self._shortened(head))
        await copy_body(client, gateway, fields)
        answering = asyncio.create_task(self._answer(client, gateway, request))
        leaving = asyncio.create_task(client.until_gone())
        try:
            await asyncio.wait({answering, leaving}, return_when=asyncio.FIRST_COMPLETED)
            if answering.done():
                return gateway if answering.result() else None
            request.aborted = True
            gateway.writer.close()
            return None
        finally:
            request.ended = time.time()
            for task in (answering, leaving):
                task.cancel()
            await asyncio.gather(answering, leaving, return_exceptions=True)

    async def _answer(self, client: Wire, gateway: Wire, request: Request) -> bool:
        """Passes the answer on as it comes. Whether the connection may carry another one."""
        try:
            head = await gateway.head()
        except Gone:
            if request.kind != "stream":
                await client.write(answer(502, b"The gateway has closed the connection.", "text/plain"))
            return False
        first, _, _ = head.partition(b"\r\n")
        request.status = int(first.split()[1])
        fields = header_fields(head)
        await client.write(head)
        whole = await copy_body(gateway, client, fields, to_the_end=request.status not in (204, 304))
        return whole and fields.get("connection", "").lower() != "close"

    # WebSockets ---------------------------------------------------------------------------------

    async def _upgrade(self, client: Wire, head: bytes, fields: dict[str, str]) -> bool:
        """Treats one handshake. Whether the connection may carry another request."""
        treatment = self.treatment
        self.attempts.append(Attempt(time.time(), treatment))
        if treatment in STATUSES:
            await client.write(answer(int(treatment), b"No WebSocket here.", "text/plain"))
            return True
        if treatment == "reset":
            client.reset()
        elif treatment == "hang":
            await client.until_gone()
        elif treatment == "silent":
            key = fields["sec-websocket-key"].encode()
            accept = base64.b64encode(hashlib.sha1(key + GUID).digest()).decode()
            lines = ["HTTP/1.1 101 Switching Protocols", "Upgrade: websocket", "Connection: Upgrade", f"Sec-WebSocket-Accept: {accept}"]
            await client.write(("\r\n".join(lines) + "\r\n\r\n").encode())
            await client.until_gone()
        else:
            await self._tunnel(client, await self._dial(), head, treatment)
        return False

    async def _tunnel(self, client: Wire, gateway: Wire, head: bytes, treatment: str) -> None:
        self._tunnels.add(client)
        try:
            await gateway.write(self._shortened(head))
            await client.write(await gateway.head())
            upward = pump(client, gateway, carries=treatment != "server-only")
            downward = pump(gateway, client, carries=treatment != "client-only")
            limit = SHORT_LIFE if treatment == "dies" else None
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(limit):
                    await first_of(upward, downward)
            if treatment == "dies":
                client.reset()
        finally:
            self._tunnels.discard(client)
            gateway.writer.close()


async def first_of(*work) -> None:
    """Until one of them has ended; the others are stopped."""
    tasks = [asyncio.create_task(each) for each in work]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def pump(source: Wire, target: Wire, carries: bool) -> None:
    """Carries bytes one way until one end is gone, or swallows them."""
    with contextlib.suppress(Gone, OSError):
        while True:
            if source.buffer:
                data = source.take(len(source.buffer))
                if carries:
                    await target.write(data)
            await source.fill()


async def copy_body(source: Wire, target: Wire, fields: dict[str, str], to_the_end: bool = False) -> bool:
    """Passes the body on as it comes. Whether its end was to be seen, and not just the end of the connection."""
    if "chunked" in fields.get("transfer-encoding", "").lower():
        while True:
            line = await source.line()
            size = int(line.split(b";")[0], 16)
            await target.write(line)
            if size == 0:
                while (trailer := await source.line()).strip():
                    await target.write(trailer)
                await target.write(trailer)
                return True
            await copy_bytes(source, target, size + 2)
    if "content-length" in fields:
        await copy_bytes(source, target, int(fields["content-length"]))
        return True
    if not to_the_end:
        return True
    with contextlib.suppress(Gone):
        while True:
            await target.write(source.take(len(source.buffer)))
            await source.fill()
    return False


async def copy_bytes(source: Wire, target: Wire, count: int) -> None:
    while count:
        if not source.buffer:
            await source.fill()
        data = source.take(min(count, len(source.buffer)))
        count -= len(data)
        await target.write(data)


def header_fields(head: bytes) -> dict[str, str]:
    """Names in lower case."""
    lines = head.decode("latin-1").split("\r\n")[1:]
    return {name.strip().lower(): value.strip() for name, colon, value in (line.partition(":") for line in lines) if colon}


def parse(head: bytes) -> tuple[str, str, dict[str, str]]:
    method, path, _ = head.split(b"\r\n", 1)[0].decode("latin-1").split(" ", 2)
    return method, path, header_fields(head)


def answer(status: int, body: bytes, kind: str) -> bytes:
    lines = [f"HTTP/1.1 {status} {REASONS[status]}", f"Content-Type: {kind}", f"Content-Length: {len(body)}", "Cache-Control: no-store"]
    return ("\r\n".join(lines) + "\r\n\r\n").encode() + body


@contextlib.asynccontextmanager
async def fault_proxy(port: int, *, host: str = "127.0.0.1", treatment: str = "ok", site: Callable[[str], bytes | None] = lambda _: None,
                      prefix: str = "/holdfast") -> AsyncIterator[FaultProxy]:
    """A proxy before the gateway on that port, for the length of a block."""
    proxy = FaultProxy(port, site, prefix)
    proxy.treatment = treatment
    server = await asyncio.start_server(proxy.accept, host, 0)
    proxy.address = f"{host}:{server.sockets[0].getsockname()[1]}"
    try:
        yield proxy
    finally:
        server.close()
        running = list(proxy._running)
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)
    if proxy.mistakes:
        raise proxy.mistakes[0]
