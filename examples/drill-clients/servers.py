"""What the scripts share that drill another server: its processes, and the drill itself."""

from __future__ import annotations

import contextlib
import os
import pathlib
import socket
import subprocess
import time
from collections.abc import Iterator

HOST = "127.0.0.1"
START_DEADLINE = 20.0


def free_port() -> int:
    with socket.create_server((HOST, 0)) as taken:
        return taken.getsockname()[1]


@contextlib.contextmanager
def running(command: list[str], folder: str, **environment: str) -> Iterator[subprocess.Popen[bytes]]:
    """A program for the length of a block; what it says is in `log` of the folder."""
    with open(f"{folder}/log", "ab") as log:
        process = subprocess.Popen(
            command, cwd=folder, env={**os.environ, **environment}, stdin=subprocess.DEVNULL, stdout=log, stderr=log
        )
    try:
        yield process
    finally:
        process.kill()
        process.wait()


@contextlib.contextmanager
def until_it_listens(port: int, folder: str) -> Iterator[None]:
    deadline = time.monotonic() + START_DEADLINE
    while True:
        try:
            socket.create_connection((HOST, port), timeout=1).close()
            break
        except OSError as error:
            if time.monotonic() > deadline:
                said = pathlib.Path(folder, "log").read_text(errors="replace")[-2000:]
                raise subprocess.SubprocessError(
                    f"nobody listens on port {port} after {START_DEADLINE} s: {error}\n{said}"
                ) from None
            time.sleep(0.05)
    yield


def holdfast(program: str, url: str, client: str, publish: str, drills: list[str]) -> int:
    return subprocess.call([program, "drill", "--url", url, "--with", client, "--publish", publish, *drills])
