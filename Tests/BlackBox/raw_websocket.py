"""A WebSocket client made of bytes: it can send any frame, legal or not.

It shares no code with the server or with a WebSocket library, so that a bug in a
client cannot hide one in the server. Whatever the server sends is checked against
RFC 6455 before a test sees it.
"""

from __future__ import annotations

import base64
import hashlib
import os
import struct
import time
from typing import NamedTuple

from raw_socket import DEADLINE, ConnectionLost, RawSocket

CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0x0, 0x1, 0x2, 0x8, 0x9, 0xA
GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
MASK = b"\xa1\x5c\x07\xfe"
ENDING = 3.0  # How soon the server has to close TCP once both Close frames are there, or it has failed the connection.


class Frame(NamedTuple):
    opcode: int
    payload: bytes
    fin: bool = True


class Response(NamedTuple):
    status: int
    reason: str
    headers: dict[str, str]  # names in lower case; repeated ones joined with ", "


# Making frames ----------------------------------------------------------------------------


def masked_with(payload: bytes, mask: bytes) -> bytes:
    count = len(payload)
    if not count:
        return b""
    key = (mask * (count // 4 + 1))[:count]
    return (int.from_bytes(payload, "big") ^ int.from_bytes(key, "big")).to_bytes(count, "big")


def make_frame(
    opcode: int,
    payload: bytes = b"",
    *,
    fin: bool = True,
    rsv: int = 0,
    mask: bytes | None = MASK,
    length_form: int | None = None,
    claimed: int | None = None,
) -> bytes:
    """The bytes of one frame. `length_form` 7, 16 or 64 forces an encoding, `claimed` forges the length."""
    length = len(payload) if claimed is None else claimed
    form = length_form or (7 if length < 126 else 16 if length < 65_536 else 64)
    first = (0x80 if fin else 0) | (rsv << 4) | opcode
    flag = 0x80 if mask is not None else 0
    if form == 7:
        head = struct.pack("!BB", first, flag | length)
    elif form == 16:
        head = struct.pack("!BBH", first, flag | 126, length)
    else:
        head = struct.pack("!BBQ", first, flag | 127, length)
    if mask is None:
        return head + payload
    return head + mask + masked_with(payload, mask)


def close_payload(code: int, reason: bytes = b"") -> bytes:
    return struct.pack("!H", code) + reason


def fragments(opcode: int, pieces: list[bytes]) -> list[bytes]:
    """One message as one frame per piece."""
    last = len(pieces) - 1
    return [
        make_frame(opcode if index == 0 else CONTINUATION, piece, fin=index == last)
        for index, piece in enumerate(pieces)
    ]


# The opening handshake --------------------------------------------------------------------


def new_key() -> str:
    return base64.b64encode(os.urandom(16)).decode()


def accept_for(key: str) -> str:
    return base64.b64encode(hashlib.sha1(key.encode() + GUID).digest()).decode()


def request_bytes(
    port: int,
    key: str,
    *,
    path: str = "/",
    method: str = "GET",
    version: str = "HTTP/1.1",
    change: dict[str, str | None] | None = None,
    extra: tuple[tuple[str, str], ...] = (),
) -> bytes:
    """An opening handshake. `change` replaces a header, or leaves it out with None."""
    headers = {
        "Host": f"127.0.0.1:{port}",
        "Upgrade": "websocket",
        "Connection": "Upgrade",
        "Sec-WebSocket-Key": key,
        "Sec-WebSocket-Version": "13",
    }
    headers.update(change or {})
    lines = [f"{method} {path} {version}"]
    lines += [f"{name}: {value}" for name, value in headers.items() if value is not None]
    lines += [f"{name}: {value}" for name, value in extra]
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")


def read_response(connection: RawSocket, timeout: float = DEADLINE) -> Response:
    until = time.monotonic() + timeout
    while b"\r\n\r\n" not in connection.buffer:
        connection.fill(until)
    head = connection.take(connection.buffer.index(b"\r\n\r\n") + 4).decode("latin-1")
    status_line, *lines = head[:-4].split("\r\n")
    version, status, reason = (status_line.split(" ", 2) + [""])[:3]
    assert version in ("HTTP/1.1", "HTTP/1.0"), status_line
    headers: dict[str, str] = {}
    for line in lines:
        name, colon, value = line.partition(":")
        assert colon and name and name == name.strip(), f"bad header line {line!r}"
        name = name.lower()
        headers[name] = f"{headers[name]}, {value.strip()}" if name in headers else value.strip()
    return Response(int(status), reason, headers)


class RawWebSocket(RawSocket):
    """An open WebSocket, used by way of its frames."""

    answer_pings = True

    @classmethod
    def open(cls, port: int, *, path: str = "/", deliver=None, receive_buffer=None, timeout=DEADLINE, **request):
        self = cls(port, receive_buffer=receive_buffer, timeout=timeout)
        try:
            key = new_key()
            self.send(request_bytes(port, key, path=path, **request), deliver)
            self.response = read_response(self, timeout)
            assert self.response.status == 101, self.response
            assert self.response.headers["sec-websocket-accept"] == accept_for(key)
        except BaseException:
            self.close()
            raise
        return self

    # Sending ------------------------------------------------------------------------------

    def send_frame(self, opcode: int, payload: bytes = b"", deliver=None, **options) -> None:
        self.send(make_frame(opcode, payload, **options), deliver)

    def send_text(self, text: str | bytes) -> None:
        self.send_frame(TEXT, text.encode() if isinstance(text, str) else text)

    # Receiving ----------------------------------------------------------------------------

    def next_frame(self, timeout: float = DEADLINE) -> Frame:
        """The next frame, which must be one that a server may send."""
        until = time.monotonic() + timeout
        frame = self.buffered_frame()
        while frame is None:
            self.fill(until)
            frame = self.buffered_frame()
        return frame

    def buffered_frame(self) -> Frame | None:
        """The first frame in the buffer, if it is complete; it is taken off only then."""
        buffer = self.buffer
        if len(buffer) < 2:
            return None
        first, second = buffer[0], buffer[1]
        opcode, fin, length, size = first & 0x0F, bool(first & 0x80), second & 0x7F, 2
        assert not first & 0x70, f"reserved bits set by the server: {first:#x}"
        assert not second & 0x80, "a frame from the server is masked"
        assert opcode in (CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG), f"opcode {opcode}"
        if opcode >= CLOSE:
            assert fin and length <= 125, "a control frame from the server is fragmented or too long"
        if length >= 126:
            size = 4 if length == 126 else 10
            if len(buffer) < size:
                return None
            length = int.from_bytes(buffer[2:size], "big")
            assert length >= (126 if size == 4 else 65_536), "length not in its shortest form"
        if len(buffer) < size + length:
            return None
        payload = bytes(buffer[size : size + length])
        del buffer[: size + length]
        return Frame(opcode, payload, fin)

    def next_message(self, timeout: float = DEADLINE) -> tuple[int, bytes]:
        """The next whole message as (opcode, payload). Pings are answered; a Close is an error here."""
        until = time.monotonic() + timeout
        kind, pieces = None, []
        while True:
            frame = self.next_frame(until - time.monotonic())
            if frame.opcode == PING:
                if self.answer_pings:
                    self.send_frame(PONG, frame.payload)
            elif frame.opcode == CLOSE:
                raise AssertionError(f"closed by the server: {frame.payload!r}")
            elif frame.opcode != PONG:
                assert (frame.opcode == CONTINUATION) == (kind is not None), "fragments out of order"
                kind = frame.opcode if kind is None else kind
                pieces.append(frame.payload)
                if frame.fin:
                    return kind, b"".join(pieces)

    def expect_close(self, *codes: int | None, timeout: float = DEADLINE, end: bool = True) -> bytes:
        """Waits for the server's Close with one of these codes, answers it, waits for the end of TCP.

        Data frames and Pings before it are passed over. Answers the reason.
        """
        until = time.monotonic() + timeout
        while True:
            try:
                frame = self.next_frame(until - time.monotonic())
            except ConnectionLost as lost:
                raise AssertionError(f"the connection ended ({lost.how}) without a Close") from None
            if frame.opcode == CLOSE:
                break
        assert len(frame.payload) != 1, "a Close with one byte"
        code = struct.unpack("!H", frame.payload[:2])[0] if frame.payload else None
        frame.payload[2:].decode()  # The reason must be UTF-8.
        assert code in codes, f"closed with {code} {frame.payload[2:]!r}, expected {codes}"
        if end:
            self.send_frame(CLOSE, frame.payload[:2])
            self.wait_for_end(ENDING)
            assert not self.buffer, f"bytes after the Close: {bytes(self.buffer[:100])!r}"
        return frame.payload[2:]

    def expect_open(self, timeout: float = DEADLINE) -> None:
        """A round trip: everything sent before has been handled, and the connection is still there."""
        token = os.urandom(8)
        self.send_frame(PING, token)
        frame = self.next_frame(timeout)
        assert frame == Frame(PONG, token), frame

    def say_goodbye(self) -> None:
        """A clean closing handshake, started by us."""
        self.send_frame(CLOSE, close_payload(1000))
        self.expect_close(1000, end=False)
        self.wait_for_end()
