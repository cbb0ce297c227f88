"""A TCP connection with a deadline on everything, and ways to deliver bytes.

Nothing here waits by sleeping. Byte by byte means exactly that: before the next
byte goes out, the kernel is asked whether the server has taken the last one, so
that the server's parser really sees every boundary.
"""

from __future__ import annotations

import select
import socket
import struct
import sys
import time

DEADLINE = 10.0
LOOPBACK = "127.0.0.1"


class ConnectionLost(Exception):
    """The peer is gone. `how` is "end" (FIN) or "reset" (RST)."""

    def __init__(self, how: str):
        super().__init__(f"the connection ended: {how}")
        self.how = how


class Late(AssertionError):
    """Something did not happen within its deadline."""


class RawSocket:
    """A client's TCP connection. Reads have deadlines; `buffer` holds what was read and not yet used."""

    def __init__(self, port: int, *, receive_buffer: int | None = None, timeout: float = DEADLINE):
        self.port = port
        self.sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if receive_buffer is not None:
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        self.sock.settimeout(timeout)
        self.sock.connect((LOOPBACK, port))
        self.buffer = bytearray()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    # Writing ------------------------------------------------------------------------------

    def send(self, data: bytes, deliver=None) -> None:
        """Sends all of it. A peer that has already gone is no error here: what it said is found by reading."""
        try:
            (deliver or whole)(self.sock, data)
        except (BrokenPipeError, ConnectionResetError):
            pass

    # Reading ------------------------------------------------------------------------------

    def fill(self, until: float) -> None:
        """Reads whatever is there into the buffer; raises `ConnectionLost` or `Late`."""
        left = until - time.monotonic()
        if left <= 0 or not self.has_something(left):
            raise Late(f"nothing came in time; unread so far: {bytes(self.buffer[:200])!r}")
        try:
            data = self.sock.recv(262_144)
        except ConnectionResetError:
            raise ConnectionLost("reset") from None
        if not data:
            raise ConnectionLost("end")
        self.buffer += data

    def has_something(self, seconds: float = 0) -> bool:
        """Whether there is something to read, or the end, within that time. `poll` takes any number of open files."""
        waiting = select.poll()
        waiting.register(self.sock, select.POLLIN)
        return bool(waiting.poll(seconds * 1000))

    def read_exactly(self, count: int, until: float) -> bytes:
        while len(self.buffer) < count:
            self.fill(until)
        return self.take(count)

    def take(self, count: int) -> bytes:
        taken = bytes(self.buffer[:count])
        del self.buffer[:count]
        return taken

    def wait_for_end(self, timeout: float = DEADLINE) -> str:
        """Waits until the peer has closed TCP; answers "end" or "reset". What it still says is kept in the buffer."""
        until = time.monotonic() + timeout
        while True:
            try:
                self.fill(until)
            except ConnectionLost as lost:
                return lost.how

    # Ending -------------------------------------------------------------------------------

    def reset(self) -> None:
        """Ends the connection with RST, without a FIN and without a word."""
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.sock.close()

    def finish_writing(self) -> None:
        """Sends FIN. A peer that has already gone is no error here either."""
        try:
            self.sock.shutdown(socket.SHUT_WR)
        except OSError:
            pass

    def close(self) -> None:
        self.sock.close()


# Ways to deliver bytes --------------------------------------------------------------------

SINGLE_BYTES = 1_024  # beyond this, the middle of the data goes in odd pieces
PIECE = 1_021


def whole(sock: socket.socket, data: bytes) -> None:
    """All at once, as far as TCP allows."""
    sock.sendall(data)


def byte_by_byte(sock: socket.socket, data: bytes) -> None:
    """One byte at a time, each only after the server has read the one before.

    Long data: the first and the last bytes like that, the middle in pieces of a length
    that is coprime to every buffer size.
    """
    if len(data) <= SINGLE_BYTES:
        singles(sock, data)
        return
    head = tail = SINGLE_BYTES // 2
    singles(sock, data[:head])
    for start in range(head, len(data) - tail, PIECE):
        sock.sendall(data[start : min(start + PIECE, len(data) - tail)])
    singles(sock, data[-tail:])


def singles(sock: socket.socket, data: bytes) -> None:
    for index in range(len(data)):
        sock.sendall(data[index : index + 1])
        wait_until_taken(sock)


def wait_until_taken(sock: socket.socket, timeout: float = 2.0) -> None:
    """Waits until the peer (on this machine) has read everything that we sent, or has closed.

    Linux says how much lies unread in the other socket; elsewhere this returns at once,
    and TCP_NODELAY alone separates the bytes. A server may stop reading for a while
    (that is backpressure, not a fault), hence no error when the time is up.
    """
    if not sys.platform.startswith("linux"):
        return
    until = time.monotonic() + timeout
    asked = 0
    while _unread_at_peer(sock) and time.monotonic() < until:
        asked += 1
        if asked > 10:  # It is usually taken within some microseconds.
            select.select([], [], [], 0.0002)


_diag: socket.socket | None = None


def _unread_at_peer(sock: socket.socket) -> int:
    """Asks the kernel (sock_diag) for the receive queue of the socket at the other end."""
    global _diag
    if _diag is None:
        _diag = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 4)  # NETLINK_SOCK_DIAG
    try:
        there, here = sock.getpeername(), sock.getsockname()
    except OSError:
        return 0
    pad = bytes(12)
    identity = (
        struct.pack("!HH", there[1], here[1])
        + socket.inet_aton(there[0]) + pad
        + socket.inet_aton(here[0]) + pad
        + struct.pack("=III", 0, 0xFFFFFFFF, 0xFFFFFFFF)
    )
    request = struct.pack("=BBBBI", socket.AF_INET, socket.IPPROTO_TCP, 0, 0, 0xFFFFFFFF) + identity
    _diag.send(struct.pack("=IHHII", 16 + len(request), 20, 1, 1, 0) + request)
    answer = _diag.recv(8_192)
    kind = struct.unpack_from("=H", answer, 4)[0]
    if kind == 2:  # NLMSG_ERROR: no such socket any more
        return 0
    return struct.unpack_from("=I", answer, 16 + 4 + 48 + 4)[0]
