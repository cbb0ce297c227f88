"""The load process: holds the subscribers, reads as cheaply as it can, and counts.

Orders come as lines on standard input, answers leave as lines on standard output:

    warm 10         -> warm               ten connections that subscribe and go away again
    connect 1000    -> connected SECONDS  connections that subscribe and stay
                    -> had NUMBER TIME    every connection has had the messages up to NUMBER, at this monotonic time
    stop            -> total COUNT LOWEST HIGHEST
                    -> failed WHY         whenever something is lost, doubled, out of order, or a connection ends

Nothing is decoded but the frames' lengths and the message's number, eight digits between two `#`. All subscribers of a
topic are sent the same bytes, so what was found in one read is used again for the next read with the same bytes.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import select
import socket
import struct
import sys
import time

GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
TEXT, CLOSE, PING, PONG = 0x81, 0x88, 0x89, 0x8A  # with the bit that says that the frame is the last of its message
READ = 65_536
AT_ONCE = 50  # connections whose opening is under way
PATIENCE = 30.0


class Failed(Exception):
    """What was observed is not what a correct server does."""


def client_frame(first: int, payload: bytes) -> bytes:
    """A frame of a client. The mask is zeros: legal, and the server unmasks it all the same."""
    length = len(payload)
    head = struct.pack("!BB", first, 0x80 | length) if length < 126 else struct.pack("!BBH", first, 0x80 | 126, length)
    return head + bytes(4) + payload


def scan(data: bytes) -> tuple[int, int, int, list[tuple[int, bytes]]]:
    """Whole frames at the start of `data`: where they end, the first message's number, how many messages, other frames."""
    position, size = 0, len(data)
    first = count = 0
    others = []
    while size - position >= 2:
        kind, length, body = data[position], data[position + 1], position + 2
        if length == 126:
            body = position + 4
            if body > size:
                break
            length = data[position + 2] << 8 | data[position + 3]
        elif length == 127:
            body = position + 10
            if body > size:
                break
            length = int.from_bytes(data[position + 2 : body], "big")
        elif length > 127:
            raise Failed("the server masks its frames")
        end = body + length
        if end > size:
            break
        at = data.find(b"#", body, end) if kind == TEXT else -1
        if at >= 0 and data[at + 9 : at + 10] == b"#":
            number = int(data[at + 1 : at + 9])
            if not count:
                first = number
            elif number != first + count:
                raise Failed(f"message {number} came where {first + count} was due")
            count += 1
        else:
            others.append((kind, data[body:end]))
        position = end
    return position, first, count, others


class Load:
    def __init__(self, port: int, topic: str, nap: float):
        self.port, self.topic, self.nap = port, topic, nap
        self.sockets: dict[int, socket.socket] = {}
        self.rest: dict[int, bytes] = {}  # the beginning of a frame whose end has not come yet
        self.had: dict[int, int] = {}  # messages each connection has had
        self.at: dict[int, int] = {}  # how many connections have had so many
        self.lowest = 0

    # Opening ------------------------------------------------------------------------------

    def open(self, count: int, topic: str) -> list[tuple[socket.socket, bytes]]:
        """Connections that are subscribed, each with what has already been read beyond the reply."""
        opened = []
        while len(opened) < count:
            opened += self.open_batch(min(AT_ONCE, count - len(opened)), topic)
        return opened

    def open_batch(self, count: int, topic: str) -> list[tuple[socket.socket, bytes]]:
        key = base64.b64encode(os.urandom(16))
        accept = base64.b64encode(hashlib.sha1(key + GUID).digest())
        request = (
            b"GET / HTTP/1.1\r\nHost: 127.0.0.1:%d\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Key: %s\r\nSec-WebSocket-Version: 13\r\n\r\n" % (self.port, key)
        )
        subscribe = client_frame(TEXT, json.dumps({"event": "subscribe", "subscription": topic}).encode())
        made = [socket.create_connection(("127.0.0.1", self.port), PATIENCE) for _ in range(count)]
        for one in made:
            one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            one.sendall(request)
        rests = []
        for one in made:
            data = self.read_until(one, b"", lambda data: b"\r\n\r\n" in data)
            head, _, rest = data.partition(b"\r\n\r\n")
            if not head.startswith(b"HTTP/1.1 101") or accept not in head:
                raise Failed(f"the handshake was answered {head!r}")
            one.sendall(subscribe)
            rests.append(rest)
        return [(one, self.read_reply(one, rest)) for one, rest in zip(made, rests, strict=True)]

    def read_until(self, one: socket.socket, data: bytes, enough) -> bytes:
        while not enough(data):
            more = one.recv(READ)
            if not more:
                raise Failed(f"the server closed a connection while it was opened, after {data!r}")
            data += more
        return data

    def read_reply(self, one: socket.socket, data: bytes) -> bytes:
        """Waits for the reply to subscribe; Pings may come before it. No message is published yet."""
        while True:
            data = self.read_until(one, data, lambda data: scan(data)[0])
            end, _, count, others = scan(data)
            data = data[end:]
            for kind, payload in others:
                if kind == TEXT:
                    if json.loads(payload).get("status") != "ok" or count or len(others) > 1:
                        raise Failed(f"the reply to subscribe was {payload!r}")
                    return data
                self.control(one, kind, payload)

    def warm(self, count: int) -> None:
        """Connections that come and go, so that what a server does once is not put down to the first session."""
        for one, _ in self.open(count, self.topic + "-warm"):
            one.sendall(client_frame(CLOSE, struct.pack("!H", 1000)))
            while one.recv(READ):
                pass
            one.close()

    def connect(self, count: int) -> None:
        for one, rest in self.open(count, self.topic):
            one.setblocking(False)
            number = one.fileno()
            self.sockets[number], self.rest[number], self.had[number] = one, rest, 0
        self.at[0] = count

    # Reading ------------------------------------------------------------------------------

    def control(self, one: socket.socket, kind: int, payload: bytes) -> None:
        if kind == PING:
            one.send(client_frame(PONG, payload))
        elif kind == CLOSE:
            raise Failed(f"the server closed a connection: {payload!r}")
        elif kind != PONG:
            raise Failed(f"an unexpected frame, {kind:#x} {payload[:200]!r}")

    def run(self) -> None:
        """Reads until `stop`. The inner loop is the cost of one read, so it is written for speed.

        Without the nap, a server that is slower than this loop finds it asleep at each send, and is the one that is charged
        for waking it: a cost of loopback, not of the server.
        """
        poll = select.epoll()
        receive = {}
        for number, one in self.sockets.items():
            poll.register(number, select.EPOLLIN)
            receive[number] = one.recv
        orders = sys.stdin.fileno()
        poll.register(orders, select.EPOLLIN)
        rests, had, at = self.rest, self.had, self.at
        seen, found = None, (0, 0, 0, [])
        nap = self.nap
        while True:
            if nap:
                time.sleep(nap)
            for number, _ in poll.poll(-1, 1024):
                if number == orders:
                    if os.read(orders, 100).strip() != b"stop":
                        raise Failed("an unknown order")
                    return
                try:
                    data = receive[number](READ)
                except BlockingIOError:
                    continue
                if not data:
                    raise Failed("the server ended a connection")
                rest = rests[number]
                if rest:
                    data = rest + data
                if data != seen:
                    found, seen = scan(data), data
                end, first, count, others = found
                rests[number] = data[end:] if end != len(data) else b""
                if count:
                    before = had[number]
                    if first != before + 1:
                        raise Failed(f"a connection got message {first} where {before + 1} was due")
                    had[number] = after = before + count
                    at[before] -= 1
                    at[after] = at.get(after, 0) + 1
                    if before == self.lowest and not at[before]:
                        self.advance()
                for kind, payload in others:
                    self.control(self.sockets[number], kind, payload)

    def advance(self) -> None:
        at, lowest = self.at, self.lowest
        while not at.get(lowest):
            at.pop(lowest, None)
            lowest += 1
        self.lowest = lowest
        say(f"had {lowest} {time.monotonic():.6f}")


def say(line: str) -> None:
    os.write(1, line.encode() + b"\n")


def main() -> int:
    load = Load(int(sys.argv[1]), sys.argv[2], float(sys.argv[3]))
    try:
        while True:
            # Not by way of sys.stdin: its buffer would swallow an order that run() waits for.
            order = os.read(0, 100).split()
            if not order:
                return 0
            if order[0] == b"warm":
                load.warm(int(order[1]))
                say("warm")
            elif order[0] == b"connect":
                begun = time.monotonic()
                load.connect(int(order[1]))
                say(f"connected {time.monotonic() - begun:.3f}")
                load.run()
                counts = load.had.values()
                say(f"total {sum(counts)} {min(counts)} {max(counts)}")
                return 0
    except (Failed, OSError) as error:
        counts = load.had.values() or [0]
        say(f"failed {error} (messages a connection has had: from {min(counts)} to {max(counts)})".replace("\n", " "))
        return 1


if __name__ == "__main__":
    sys.exit(main())
