"""An HTTP/1.1 client made of bytes, over one connection that is kept alive.

Requests may be pipelined, cut short or delivered byte by byte; every answer is checked as RFC 9112 wants it. `EventStream`
reads a `text/event-stream` as it comes, chunk by chunk.
"""

from __future__ import annotations

import json
import time
from typing import Any, NamedTuple

from event_client import Event, parse_event
from raw_socket import DEADLINE, ConnectionLost, RawSocket
from raw_websocket import Response, read_response


class Reply(NamedTuple):
    status: int
    headers: dict[str, str]  # names in lower case
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


def request_bytes(port: int, method: str, path: str, body: Any = None, headers: dict[str, str | None] | None = None) -> bytes:
    """`body` may be bytes (sent as they are) or anything that JSON can say. A header that is None is left out."""
    if body is not None and not isinstance(body, bytes):
        body = json.dumps(body, ensure_ascii=False).encode()
    fields: dict[str, str | None] = {"Host": f"127.0.0.1:{port}"}
    if body is not None:
        fields |= {"Content-Type": "application/json", "Content-Length": str(len(body))}
    fields |= headers or {}
    lines = [f"{method} {path} HTTP/1.1", *(f"{name}: {value}" for name, value in fields.items() if value is not None)]
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1") + (body or b"")


class HttpConnection(RawSocket):
    """One connection to the server."""

    def start(self, method: str, path: str, body: Any = None, *, headers=None, deliver=None) -> None:
        """Sends a request and waits for nothing."""
        self.send(request_bytes(self.port, method, path, body, headers), deliver)

    def reply(self, timeout: float = DEADLINE, *, head: bool = False) -> Reply:
        """The next answer, whole."""
        until = time.monotonic() + timeout
        response = read_response(self, timeout)
        return Reply(response.status, response.headers, self._body(response, until, head))

    def ask(self, method: str, path: str, body: Any = None, *, timeout: float = DEADLINE, **options) -> Reply:
        self.start(method, path, body, **options)
        return self.reply(timeout)

    def ended_by_server(self, timeout: float = DEADLINE) -> bool:
        return self.wait_for_end(timeout) in ("end", "reset")

    def _body(self, response: Response, until: float, head: bool) -> bytes:
        if head or response.status in (204, 304) or response.status < 200:
            return b""
        if "chunked" in response.headers.get("transfer-encoding", ""):
            assert "content-length" not in response.headers, response
            pieces = list(iter(lambda: self.chunk(until), b""))
            return b"".join(pieces)
        if "content-length" in response.headers:
            return self.read_exactly(int(response.headers["content-length"]), until)
        raise AssertionError(f"an answer without a length on a connection that is kept: {response}")

    def chunk(self, until: float) -> bytes:
        """The next chunk; empty for the last, with what stands behind it."""
        line = self.line(until)
        size = int(line.split(b";")[0], 16)
        data = self.read_exactly(size, until)
        if size:
            assert self.line(until) == b"", "a chunk is longer than it says"
        else:
            while self.line(until):  # Trailers.
                pass
        return data

    def line(self, until: float) -> bytes:
        while b"\r\n" not in self.buffer:
            self.fill(until)
        return self.take(self.buffer.index(b"\r\n") + 2)[:-2]


class Comment(str):
    """A line of a stream that begins with a colon, without it."""


class LastWord(dict):
    """The server's last word: `code` and `reason`."""


class EventStream(HttpConnection):
    """`GET …/stream`, as it comes."""

    text = b""
    ended = False

    def open_stream(self, path: str, headers: dict[str, str], deliver=None) -> Response:
        self.start("GET", path, headers={"Accept": "text/event-stream", **headers}, deliver=deliver)
        self.response = read_response(self)
        return self.response

    def next(self, timeout: float = DEADLINE) -> Event | Comment | LastWord | None:
        """What comes next: an event, a comment, the last word, or None for the end as HTTP knows it."""
        until = time.monotonic() + timeout
        while True:
            if self.text.startswith(b":"):
                line, found, rest = self.text.partition(b"\n")
                if found:
                    self.text = rest.removeprefix(b"\n")  # A comment may have an empty line behind it, or not.
                    return Comment(line[1:].decode().strip())
            elif self.text.startswith(b"\n"):
                self.text = self.text[1:]
                continue
            else:
                block, found, rest = self.text.partition(b"\n\n")
                if found:
                    self.text = rest
                    return self._parsed(block)
            if self.ended:
                assert not self.text, f"the stream ends in the middle of an event: {self.text!r}"
                return None
            piece = self.chunk(until)
            self.ended = not piece
            self.text += piece

    def event(self, timeout: float = DEADLINE) -> Event:
        """The next event, comments passed over."""
        until = time.monotonic() + timeout
        while isinstance(item := self.next(until - time.monotonic()), Comment):
            pass
        assert isinstance(item, Event), f"an event was expected, not {item!r}"
        return item

    def last_word(self, timeout: float = DEADLINE) -> LastWord:
        """The server's last word, which must come next (comments passed over), and then the end."""
        until = time.monotonic() + timeout
        while isinstance(item := self.next(until - time.monotonic()), Comment):
            pass
        assert isinstance(item, LastWord), f"the last word was expected, not {item!r}"
        assert self.next(until - time.monotonic()) is None, "there is something behind the last word"
        return item

    @staticmethod
    def _parsed(block: bytes) -> Event | LastWord:
        name, data = "message", []
        for line in block.split(b"\n"):
            field, _, value = line.partition(b":")
            value = value.removeprefix(b" ")
            assert b"\r" not in line, f"a CR ends a line too: {block!r}"
            if field == b"event":
                name = value.decode()
            elif field == b"data":
                data.append(value)
            else:
                assert field == b"", f"an unknown field in {block!r}"
        assert data, f"no data in {block!r}"
        text = b"\n".join(data)  # As EventSource does it: more lines than one are allowed.
        if name == "close":
            return LastWord(json.loads(text))
        assert name == "message", block
        return parse_event(text)


def is_closed(connection: RawSocket) -> bool:
    """Whether the server has ended this connection: asked once, waited for nothing."""
    try:
        connection.fill(time.monotonic() + 0.01)
    except ConnectionLost:
        return True
    except AssertionError:
        return False
    return False
