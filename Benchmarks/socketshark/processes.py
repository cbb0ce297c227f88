"""The processes of a comparison: a private Redis, the two servers, the load; and what /proc tells of them."""

from __future__ import annotations

import contextlib
import ctypes
import http.client
import os
import queue
import resource
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import NamedTuple

HERE = Path(__file__).resolve().parent
START = 30.0  # seconds that a server may take until it is ready
TICK = 1 / os.sysconf("SC_CLK_TCK")

SOCKETSHARK_CONFIGURATION = """\
WS_HOST = '127.0.0.1'
WS_PORT = {port}
REDIS = {{'host': '127.0.0.1', 'port': {redis}, 'channel_prefix': ''}}
SERVICES = {{'bench': {{'require_authentication': False}}}}
"""

HOLDFAST_CONFIGURATION = """\
ws_host: 127.0.0.1
ws_port: {port}
threads: {threads}
redis: {{host: 127.0.0.1, port: {redis}, channel_prefix: ""}}
services:
  bench: {{require_authentication: false}}
"""


class Failed(Exception):
    """The comparison cannot go on, or what it saw is wrong."""


class Cpu(NamedTuple):
    user: float
    kernel: float

    @property
    def total(self) -> float:
        return self.user + self.kernel

    def __sub__(self, other: Cpu) -> Cpu:
        return Cpu(self.user - other.user, self.kernel - other.kernel)


class Memory(NamedTuple):
    """Bytes."""

    resident: int
    proportional: int


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as one:
        return one.getsockname()[1]


def processors(pin: bool) -> tuple[set[int] | None, set[int] | None]:
    """Those for the server, and those for everything else; `None` leaves it to the kernel."""
    allowed = sorted(os.sched_getaffinity(0))
    return ({allowed[0]}, set(allowed[1:])) if pin and len(allowed) > 1 else (None, None)


class Child:
    """A process that does not outlive us. Its standard error goes to a file."""

    def __init__(self, name: str, command: list[str], directory: Path, *, cores: set[int] | None, files: int, **options):
        self.name, self.log = name, directory / f"{name}.log"

        def prepare():
            with contextlib.suppress(OSError, AttributeError):
                ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG
            if cores:
                os.sched_setaffinity(0, cores)
            soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
            if soft < files:
                resource.setrlimit(resource.RLIMIT_NOFILE, (files, max(hard, files)))

        options.setdefault("stdin", subprocess.DEVNULL)
        options.setdefault("stdout", subprocess.DEVNULL)
        with self.log.open("wb") as log:
            try:
                self.process = subprocess.Popen(command, cwd=directory, stderr=log, preexec_fn=prepare, **options)
            except subprocess.SubprocessError:
                raise Failed(f"{name} was not started: are {files} open files allowed (ulimit -Hn)?") from None

    def cpu(self) -> Cpu:
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return Cpu(int(fields[11]) * TICK, int(fields[12]) * TICK)

    def memory(self) -> Memory:
        return Memory(self.kilobytes("status", "VmRSS:") * 1024, self.kilobytes("smaps_rollup", "Pss:") * 1024)

    def kilobytes(self, file: str, name: str) -> int:
        for line in Path(f"/proc/{self.process.pid}/{file}").read_text().splitlines():
            if line.startswith(name):
                return int(line.split()[1])
        raise Failed(f"no {name} in /proc/{self.process.pid}/{file}")

    def wait_until(self, ready) -> None:
        until = time.monotonic() + START
        while True:
            if self.process.poll() is not None:
                raise Failed(f"{self.name} ended with {self.process.returncode} instead of starting:\n{self.tail()}")
            with contextlib.suppress(OSError, http.client.HTTPException):
                if ready():
                    return
            if time.monotonic() > until:
                raise Failed(f"{self.name} is not ready after {START:.0f} s:\n{self.tail()}")
            time.sleep(0.05)

    def tail(self) -> str:
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-20:])

    def stop(self, patience: float = 5.0) -> None:
        self.process.terminate()
        try:
            self.process.wait(patience)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stop()


def start_redis(directory: Path, cores: set[int] | None, files: int) -> tuple[Child, int]:
    port = free_port()
    options = ["--port", port, "--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--dir", directory]
    child = Child("redis", ["redis-server", *map(str, options)], directory, cores=cores, files=files)
    child.wait_until(lambda: Publisher(port).close() is None)
    return child, port


def accepts(port: int) -> bool:
    socket.create_connection(("127.0.0.1", port), 1).close()
    return True


def start_socketshark(python: Path, directory: Path, redis: int, cores: set[int] | None, files: int) -> tuple[Child, int]:
    port = free_port()
    (directory / "bench_config.py").write_text(SOCKETSHARK_CONFIGURATION.format(port=port, redis=redis))
    command = [str(python), "-m", "socketshark", "-c", "bench_config"]
    environment = {**os.environ, "PYTHONPATH": str(directory), "PYTHONDONTWRITEBYTECODE": "1"}
    child = Child("socketshark", command, directory, cores=cores, files=files, env=environment)
    child.wait_until(lambda: accepts(port))
    return child, port


def start_holdfast(
    binary: Path, threads: int, directory: Path, redis: int, cores: set[int] | None, files: int
) -> tuple[Child, int]:
    port = free_port()
    file = directory / "bench.yml"
    file.write_text(HOLDFAST_CONFIGURATION.format(port=port, redis=redis, threads=threads))
    environment = {name: value for name, value in os.environ.items() if not name.startswith("HOLDFAST_")}
    command = [str(binary), "serve", "--config", str(file)]
    child = Child("holdfast", command, directory, cores=cores, files=files, env=environment)

    def ready() -> bool:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=1)
        connection.request("GET", "/ready")
        status = connection.getresponse().status
        connection.close()
        return status == 200

    child.wait_until(ready)
    return child, port


class Publisher:
    """PUBLISH over a plain socket."""

    def __init__(self, port: int):
        self.socket = socket.create_connection(("127.0.0.1", port), 10)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.answers = self.socket.makefile("rb")

    def publish(self, channel: bytes, messages: list[bytes]) -> None:
        """All at once. Exactly one receiver has to be there: the server."""
        parts = [
            b"*3\r\n$7\r\nPUBLISH\r\n$%d\r\n%s\r\n$%d\r\n%s\r\n" % (len(channel), channel, len(message), message)
            for message in messages
        ]
        self.socket.sendall(b"".join(parts))
        for _ in messages:
            answer = self.answers.readline()
            if answer != b":1\r\n":
                raise Failed(f"Redis answered {answer!r} to PUBLISH; one receiver was expected")

    def close(self) -> None:
        self.answers.close()
        self.socket.close()


class Load(Child):
    """load.py, and what it has said so far."""

    def __init__(self, directory: Path, port: int, topic: str, nap: float, cores: set[int] | None, files: int):
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
        command = [sys.executable, "-I", str(HERE / "load.py"), str(port), topic, str(nap)]
        super().__init__("load", command, directory, cores=cores, files=files, **pipes)
        self.said: queue.Queue[list[str]] = queue.Queue()
        self.times: dict[int, float] = {}  # when every connection had had the messages up to this one
        self.lowest = 0
        threading.Thread(target=self.follow, daemon=True).start()

    def follow(self) -> None:
        for line in self.process.stdout:
            self.said.put(line.decode().split())
        self.said.put(["failed", "the load process ended"])

    def order(self, *words: object) -> None:
        try:
            self.process.stdin.write(" ".join(map(str, words)).encode() + b"\n")
            self.process.stdin.flush()
        except OSError:
            pass  # It has ended, and what it said tells why.

    def answer(self, wanted: str, timeout: float) -> list[str]:
        """The next answer of this kind. Reports of progress on the way are noted."""
        until = time.monotonic() + timeout
        while True:
            try:
                kind, *words = self.said.get(timeout=max(0.0, until - time.monotonic()))
            except queue.Empty:
                raise Failed(f"the load process did not say {wanted!r} within {timeout:.0f} s") from None
            if kind == "failed":
                raise Failed(f"the load process: {' '.join(words)} {self.tail()}")
            if kind == "had":
                number, moment = int(words[0]), float(words[1])
                for one in range(self.lowest + 1, number + 1):
                    self.times[one] = moment
                self.lowest = number
            if kind == wanted:
                return words

    def wait_for(self, number: int, timeout: float) -> None:
        """Until every connection has had the messages up to this one; the time counts from the last progress."""
        while self.lowest < number:
            try:
                self.answer("had", timeout)
            except Failed as error:
                raise Failed(f"{error}\nwaiting for message {number}; everybody has had {self.lowest}") from None
