"""A private `redis-server` that can be frozen, killed and started again, and a client of it in plain bytes."""

from __future__ import annotations

import contextlib
import signal
import socket
import subprocess
from pathlib import Path
from typing import Any

from holdfast_process import eventually

DEADLINE = 10.0


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        return taken.getsockname()[1]


class RedisError(Exception):
    """Redis answered with an error."""


class RedisClient:
    """One connection, one command at a time."""

    def __init__(self, port: int):
        self.sock = socket.create_connection(("127.0.0.1", port), timeout=DEADLINE)
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.answers = self.sock.makefile("rb")

    def command(self, *words: str | bytes | int) -> Any:
        parts = [word if isinstance(word, bytes) else str(word).encode() for word in words]
        self.sock.sendall(b"*%d\r\n" % len(parts) + b"".join(b"$%d\r\n%s\r\n" % (len(part), part) for part in parts))
        return self.answer()

    def answer(self) -> Any:
        line = self.answers.readline()
        if not line.endswith(b"\r\n"):
            raise ConnectionError("Redis has closed the connection")
        kind, rest = line[:1], line[1:-2]
        if kind == b"+":
            return rest.decode()
        if kind == b"-":
            raise RedisError(rest.decode())
        if kind == b":":
            return int(rest)
        if kind == b"$":
            return None if rest == b"-1" else self.answers.read(int(rest) + 2)[:-2]
        assert kind == b"*", line
        return [self.answer() for _ in range(int(rest))]

    def close(self) -> None:
        self.answers.close()
        self.sock.close()


class RedisServer:
    """Listens on a port of its own, which it keeps when it is started again. Nothing is stored."""

    def __init__(self, folder: Path, *arguments: str):
        self.folder = folder
        self.arguments = arguments
        self.port = free_port()
        self.start()

    def start(self) -> None:
        command = ["redis-server", "--port", str(self.port), "--bind", "127.0.0.1", "--dir", str(self.folder), "--save", "",
                   "--appendonly", "no", "--logfile", str(self.folder / "redis.log"), *self.arguments]
        self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
        self.client = eventually(self.connected, what="a connection to redis-server")

    def connected(self) -> RedisClient | None:
        assert self.process.poll() is None, (self.folder / "redis.log").read_text()
        with contextlib.suppress(OSError):
            return RedisClient(self.port)
        return None

    def publish(self, channel: str, payload: str | bytes) -> int:
        """Answers how many subscribers got it."""
        return self.client.command("PUBLISH", channel, payload)

    def subscribers(self, channel: str) -> int:
        return self.client.command("PUBSUB", "NUMSUB", channel)[1]

    def clients(self) -> list[dict[str, str]]:
        """The other connections, as CLIENT LIST tells of them."""
        mine = str(self.client.command("CLIENT", "ID"))
        lines = self.client.command("CLIENT", "LIST").decode().splitlines()
        listed = [dict(pair.split("=", 1) for pair in line.split(" ") if "=" in pair) for line in lines]
        return [client for client in listed if client["id"] != mine]

    def freeze(self) -> None:
        """It keeps its connections and says nothing any more."""
        self.process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        self.process.send_signal(signal.SIGCONT)

    def kill(self) -> None:
        self.client.close()
        self.process.kill()
        self.process.wait(DEADLINE)

    def restart(self) -> None:
        self.kill()
        self.start()

    def __enter__(self) -> RedisServer:
        return self

    def __exit__(self, *_) -> None:
        self.kill()
