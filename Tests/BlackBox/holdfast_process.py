"""Starts the real `holdfast` binary and talks to its HTTP side.

The binary is `.build/debug/holdfast`, or what HOLDFAST_BIN names. There is no skip:
where there is no binary, every test fails and says so.
"""

from __future__ import annotations

import collections
import contextlib
import ctypes
import http.client
import json
import os
import queue
import re
import resource
import signal
import subprocess
import threading
import time
from pathlib import Path
from typing import Any, NamedTuple

import prometheus

ROOT = Path(__file__).resolve().parents[2]
LISTENING = re.compile(r"^listening on http://[0-9a-z.\[\]:]+:(\d+)$", re.M)
CRASH = re.compile(r"Fatal error|Precondition failed|Assertion failed|\*\*\* (Signal|Program crashed)|SUMMARY: \w+Sanitizer")
START_DEADLINE = 20.0


def binary() -> str:
    path = Path(os.environ.get("HOLDFAST_BIN") or ROOT / ".build/debug/holdfast")
    assert path.is_file() and os.access(path, os.X_OK), f"no binary at {path}: build it, or set HOLDFAST_BIN"
    return str(path)


def clean_environment(env: dict[str, str] | None = None) -> dict[str, str]:
    """Ours without anything that would configure a gateway, and then `env`."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("HOLDFAST_")}
    kept["SWIFT_BACKTRACE"] = "enable=yes,color=no,interactive=no,threads=crashed,images=none,registers=none"
    return {**kept, **(env or {})}


def run(*arguments: str, env: dict[str, str] | None = None, timeout: float = 20.0) -> subprocess.CompletedProcess:
    """Runs a command to its end: for those that should end."""
    return subprocess.run(
        [binary(), *arguments],
        env=clean_environment(env),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=timeout,
    )


class Answer(NamedTuple):
    status: int
    headers: http.client.HTTPMessage
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class Api:
    """The HTTP side, over one kept-alive connection. Not for use by two threads."""

    def __init__(self, port: int, key: str | None = None):
        self.connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
        self.key = key

    def call(self, method: str, path: str, body: Any = None, headers: dict[str, str] | None = None) -> Answer:
        """`body` may be bytes (sent as they are) or anything that JSON can say."""
        send = dict(headers or {})
        if self.key is not None:
            send.setdefault("Authorization", f"Bearer {self.key}")
        if body is not None:
            send.setdefault("Content-Type", "application/json")
            if not isinstance(body, (bytes, str)):
                body = json.dumps(body)
        try:
            return self.attempt(method, path, body, send)
        except (http.client.RemoteDisconnected, ConnectionResetError, BrokenPipeError):
            # A kept-alive connection may have been closed between two calls: once more on a new one.
            self.connection.close()
            return self.attempt(method, path, body, send)

    def attempt(self, method: str, path: str, body: Any, headers: dict[str, str]) -> Answer:
        try:
            self.connection.request(method, path, body, headers)
            response = self.connection.getresponse()
            return Answer(response.status, response.headers, response.read())
        except BaseException:
            self.connection.close()
            raise

    def get(self, path: str, **options) -> Answer:
        return self.call("GET", path, **options)

    def post(self, path: str, body: Any, **options) -> Answer:
        return self.call("POST", path, body, **options)

    def publish(self, subscription: str, data: Any, **more: Any) -> dict:
        answer = self.post("/api/publish", {"subscription": subscription, "data": data, **more})
        assert answer.status == 200, answer
        return answer.json

    def publish_bytes(self, subscription: str, data: bytes) -> dict:
        """Publishes `data` exactly as given."""
        body = b'{"subscription":' + json.dumps(subscription).encode() + b',"data":' + data + b"}"
        answer = self.post("/api/publish", body)
        assert answer.status == 200, answer
        return answer.json

    def sessions(self) -> dict:
        answer = self.get("/api/sessions")
        assert answer.status == 200, answer
        return answer.json

    def session(self, handle: str) -> dict:
        answer = self.get(f"/api/sessions/{handle}")
        assert answer.status == 200, answer
        return answer.json["session"]

    def sessions_opened(self) -> int:
        """Ever, by anybody; how many there are changes whenever one of an earlier test expires."""
        return int(self.metric("holdfast_sessions_opened_total"))

    def metric(self, name: str) -> float:
        """A figure that stands on the metrics page without labels."""
        return prometheus.parse(self.metrics())[name].value()

    def metrics(self) -> str:
        answer = self.get("/metrics")
        assert answer.status == 200, answer
        return answer.body.decode()

    def close(self) -> None:
        self.connection.close()


class Holdfast:
    """A running `holdfast` command that listens on a port of its own choice."""

    def __init__(self, *arguments: str, env: dict[str, str] | None = None, key: str | None = None, files: int = 0):

        def prepare():
            """In the child: it must not outlive a test run that is killed."""
            with contextlib.suppress(OSError, AttributeError):
                ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG, Linux only
            if files:
                resource.setrlimit(resource.RLIMIT_NOFILE, (files, files))

        self.process = subprocess.Popen(
            [binary(), *arguments],
            env=clean_environment(env),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
            preexec_fn=prepare,
        )
        self.key = key
        self.log: collections.deque[str] = collections.deque(maxlen=3_000)
        self.found: queue.Queue[int | None] = queue.Queue()
        self.readers = [
            threading.Thread(target=self.follow, args=(stream, is_output), daemon=True)
            for stream, is_output in ((self.process.stdout, True), (self.process.stderr, False))
        ]
        for reader in self.readers:
            reader.start()
        try:
            port = self.found.get(timeout=START_DEADLINE)
        except queue.Empty:
            port = None
        if port is None:
            self.kill()
            raise AssertionError(f"{arguments} did not start listening:\n{self.tail()}")
        self.port = port
        self.api = Api(port, key)

    def follow(self, stream, is_output: bool) -> None:
        for line in stream:
            self.log.append(line.rstrip("\n"))
            match = LISTENING.search(line) if is_output else None
            if match:
                self.found.put(int(match.group(1)))
        if is_output:
            self.found.put(None)

    def tail(self) -> str:
        """The last lines of the log; of a crash, what it was and where in our own code."""
        lines = list(self.log)
        if not any(CRASH.search(line) for line in lines):
            return "\n".join(lines[-30:])
        return "\n".join(line for line in lines if CRASH.search(line) or " at " in line and "/Sources/Holdfast" in line)

    @property
    def alive(self) -> bool:
        return self.process.poll() is None and not self.crashed

    @property
    def crashed(self) -> bool:
        """Whether it ended by itself with a failure, or is about to: Swift writes its backtrace first, which takes a while."""
        if any(CRASH.search(line) for line in list(self.log)):
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(60)
            return True
        return self.process.poll() not in (None, 0, -signal.SIGKILL)

    def resident_bytes(self) -> int:
        with open(f"/proc/{self.process.pid}/status") as status:
            for line in status:
                if line.startswith("VmRSS:"):
                    return int(line.split()[1]) * 1024
        raise AssertionError("no VmRSS")

    def ask_to_stop(self) -> None:
        self.process.send_signal(signal.SIGTERM)

    def wait(self, timeout: float) -> int:
        """The exit code, within the deadline."""
        try:
            return self.process.wait(timeout)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"still running after {timeout} s:\n{self.tail()}") from None

    def kill(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        for reader in self.readers:
            reader.join(timeout=5)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.api.close()
        self.kill()


def eventually(check, timeout: float = 10.0, every: float = 0.02, what: str = "it") -> Any:
    """Asks again until `check` answers something true; the deadline is an error, not a wait."""
    until = time.monotonic() + timeout
    pause = threading.Event()
    while True:
        answer = check()
        if answer:
            return answer
        assert time.monotonic() < until, f"{what} did not happen within {timeout} s (last answer: {answer!r})"
        pause.wait(every)


@contextlib.contextmanager
def background(work):
    """Runs `work(stop)` in a thread meanwhile. Its error is raised here at the end."""
    stop, errors = threading.Event(), []

    def body():
        try:
            work(stop)
        except BaseException as error:  # noqa: BLE001 - it is raised again below
            errors.append(error)

    thread = threading.Thread(target=body, daemon=True)
    thread.start()
    try:
        yield stop
    finally:
        stop.set()
        thread.join(timeout=30)
    assert not thread.is_alive(), "the background work does not end"
    if errors:
        raise errors[0]
