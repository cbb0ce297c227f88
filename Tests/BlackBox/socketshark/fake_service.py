"""An HTTP service that answers the gateway's callbacks as a test wants, and remembers what it was asked."""

from __future__ import annotations

import collections
import contextlib
import dataclasses
import http.server
import json
import socket
import ssl
import struct
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from certificates import Certificate

DEADLINE = 10.0


@dataclass(frozen=True)
class Request:
    """A request that came in. `peer` is the port of the client: the same for requests over one connection."""

    at: float
    method: str
    path: str
    headers: Mapping[str, str]
    body: Any
    peer: int


@dataclass(frozen=True)
class Answer:
    """`body` is a JSON value, or bytes that go out as they are.

    `after` seconds, and after `gate` is set. `raw` is the whole answer, byte for byte, and `closes` the connection.
    `instead` of an answer: "end" or "reset" the connection, or "hang".
    """

    body: Any = field(default_factory=lambda: {"status": "ok"})
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    content_type: str | None = "application/json"
    after: float = 0
    gate: threading.Event | None = None
    raw: bytes | None = None
    closes: bool = False
    instead: str = ""

    def encoded(self) -> bytes:
        if self.raw is not None:
            return self.raw
        body = self.body if isinstance(self.body, bytes) else json.dumps(self.body).encode()
        fields = {"Content-Length": str(len(body)), **self.headers}
        if self.content_type is not None:
            fields["Content-Type"] = self.content_type
        lines = [f"HTTP/1.1 {self.status} Status", *(f"{name}: {value}" for name, value in fields.items())]
        return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1") + body


def ok(**fields: Any) -> dict:
    return {"status": "ok", **fields}


def refused(*error: str, **fields: Any) -> dict:
    return {"status": "error", **({"error": error[0]} if error else {}), **fields}


Answering = Answer | dict | Callable[[Request], "Answer | dict"]


class FakeService:
    """Listens on a port of its own. A path without an answer of its own is answered `{"status": "ok"}`."""

    def __init__(self, tls: Certificate | None = None):
        self.scheme = "http" if tls is None else "https"
        self.received: list[Request] = []
        self.changed = threading.Condition()
        self.queues: dict[str, collections.deque[Answering]] = collections.defaultdict(collections.deque)
        self.usual: dict[str, Answering] = {}
        self.ending = threading.Event()
        self.server = Server(("127.0.0.1", 0), handler(self))
        self.port = self.server.server_address[1]
        if tls is not None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(tls.cert, tls.key)
            self.server.socket = context.wrap_socket(self.server.socket, server_side=True, do_handshake_on_connect=False)
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.01,), daemon=True)
        self.thread.start()

    def url(self, path: str) -> str:
        return f"{self.scheme}://127.0.0.1:{self.port}{path}"

    def urls(self, *names: str) -> dict[str, str]:
        """Configuration: each callback has a path of its own name."""
        return {name: self.url(f"/{name}") for name in names}

    # What it answers ----------------------------------------------------------------------

    def script(self, path: str, *answers: Answering) -> None:
        """The next answers, in this order; then the usual one again."""
        with self.changed:
            self.queues[path].extend(answers)

    def always(self, path: str, answer: Answering) -> None:
        with self.changed:
            self.usual[path] = answer

    def hold(self, path: str, answer: dict | None = None) -> threading.Event:
        """The next request waits until this is set, and is then answered."""
        gate = threading.Event()
        self.script(path, Answer(answer or ok(), gate=gate))
        return gate

    def answer(self, request: Request) -> Answer:
        with self.changed:
            self.received.append(request)
            self.changed.notify_all()
            queue = self.queues[request.path]
            answering = queue.popleft() if queue else self.usual.get(request.path, Answer())
        if callable(answering):
            answering = answering(request)
        return answering if isinstance(answering, Answer) else Answer(answering)

    # What it was asked --------------------------------------------------------------------

    def requests(self, path: str) -> list[Request]:
        with self.changed:
            return [request for request in self.received if request.path == path]

    def bodies(self, path: str) -> list[Any]:
        return [request.body for request in self.requests(path)]

    def paths(self) -> list[str]:
        """All that was asked, in order."""
        with self.changed:
            return [request.path for request in self.received]

    def wait_for(self, path: str, count: int = 1, timeout: float = DEADLINE) -> list[Request]:
        """Waits until that many requests have come for the path, and answers them all."""
        until = time.monotonic() + timeout
        with self.changed:
            while len(found := [request for request in self.received if request.path == path]) < count:
                left = until - time.monotonic()
                assert left > 0, f"{len(found)} of {count} requests for {path} came within {timeout} s: {self.received}"
                self.changed.wait(left)
        return found

    def close(self) -> None:
        self.ending.set()
        self.server.shutdown()
        self.server.server_close()
        self.thread.join(DEADLINE)

    def __enter__(self) -> FakeService:
        return self

    def __exit__(self, *_) -> None:
        self.close()


class Server(http.server.ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = 128


def handler(service: FakeService) -> type[http.server.BaseHTTPRequestHandler]:
    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def handle(self) -> None:
            self.connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            with contextlib.suppress(ConnectionError, ssl.SSLError):  # A gateway that goes away is no error here.
                super().handle()

        def do_POST(self) -> None:
            text = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            headers = {name.lower(): value for name, value in self.headers.items()}
            body = json.loads(text) if text else None
            peer = self.client_address[1]
            self.respond(service.answer(Request(time.monotonic(), self.command, self.path, headers, body, peer)))

        do_GET = do_POST

        def respond(self, answer: Answer) -> None:
            if answer.after:
                service.ending.wait(answer.after)
            if answer.gate is not None:
                answer.gate.wait(DEADLINE)
            if not answer.instead:
                self.wfile.write(answer.encoded())
            self.close_connection = answer.closes or answer.raw is not None or bool(answer.instead)
            if answer.instead == "hang":
                service.ending.wait()
            elif answer.instead == "reset":
                self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

        def log_message(self, *_: Any) -> None:
            """Tests look at `requests`."""

    return Handler


#: Bound, so that nobody else gets the port, and not listening.
_deaf = socket.socket()
_deaf.bind(("127.0.0.1", 0))


def unreachable() -> str:
    """A URL where every connection is refused."""
    return f"http://127.0.0.1:{_deaf.getsockname()[1]}/nobody"


def later(answer: dict, seconds: float) -> Answer:
    return dataclasses.replace(Answer(answer), after=seconds)
