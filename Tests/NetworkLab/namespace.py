"""A network namespace: made under a name of its own, entered for a moment, removed with all that runs in it."""

from __future__ import annotations

import contextlib
import ctypes
import os
import pathlib
import re
import signal
import subprocess
import time
from collections.abc import Iterator

CLONE_NEWNET = 0x40000000
COMMAND_TIMEOUT = 20.0
#: How long the processes of a namespace may take to be gone once they were killed.
REMOVAL_TIMEOUT = 5.0
#: Names say whose they are, so that what a killed lab has left can be told from what another one uses.
NAME = re.compile(r"^holdfast-(\d+)-")

#: Stands before a command that must not outlive who started it, however that ends.
DIES_WITH_US = ("setpriv", "--pdeathsig", "KILL", "--")

_libc = ctypes.CDLL(None, use_errno=True)


class LabError(Exception):
    """The lab itself does not work: this says nothing about what it was to judge."""


def command(*arguments: str, timeout: float = COMMAND_TIMEOUT) -> str:
    """Runs it to its end and returns its output; a failure says what the program said."""
    done = subprocess.run(arguments, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=timeout)
    if done.returncode:
        raise LabError(f"{' '.join(arguments)}: exit status {done.returncode}: {(done.stderr or done.stdout).strip()}")
    return done.stdout


class Namespace:
    def __init__(self, role: str, owner: int | None = None) -> None:
        """`owner`: the process that removes it, this one unless told otherwise."""
        self.name = f"holdfast-{owner or os.getpid()}-{role}"

    @property
    def entering(self) -> list[str]:
        """What stands before a command that is to run inside."""
        return ["nsenter", f"--net=/run/netns/{self.name}", "--"]

    def run(self, *arguments: str) -> str:
        return command(*self.entering, *arguments)

    def add(self) -> None:
        command("ip", "netns", "add", self.name)
        command("ip", "-n", self.name, "link", "set", "lo", "up")

    def set(self, key: str, value: str) -> None:
        """A setting of the kernel, such as `ipv4/ip_forward`."""
        with self.inside():
            pathlib.Path("/proc/sys/net", key).write_text(value)

    def enter(self) -> None:
        """For good: the calling thread, and what it starts from now on."""
        with open(f"/run/netns/{self.name}") as namespace:
            _enter(namespace.fileno())

    @contextlib.contextmanager
    def inside(self) -> Iterator[None]:
        """The calling thread only. A socket belongs to where it was made, so nothing may be awaited within."""
        with open("/proc/thread-self/ns/net") as outside:
            self.enter()
            try:
                yield
            finally:
                _enter(outside.fileno())

    def remove(self) -> None:
        """Kills what still runs inside, except the caller, and removes the name. The devices go with it."""
        deadline = time.monotonic() + REMOVAL_TIMEOUT
        while (pids := self._pids()) and time.monotonic() < deadline:
            for pid in pids:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            time.sleep(0.02)
        if pathlib.Path("/run/netns", self.name).exists():
            command("ip", "netns", "delete", self.name)

    def _pids(self) -> list[int]:
        with contextlib.suppress(LabError):
            return [pid for pid in map(int, command("ip", "netns", "pids", self.name).split()) if pid != os.getpid()]
        return []


def remove_orphans(owner: int | None = None) -> list[str]:
    """Removes what a lab left that was killed before it could: of this owner, or of every one that is no more."""
    removed = []
    for path in pathlib.Path("/run/netns").glob("holdfast-*"):
        found = NAME.match(path.name)
        if found and (int(found[1]) == owner or not pathlib.Path("/proc", found[1]).exists()):
            Namespace(path.name[found.end() :], owner=int(found[1])).remove()
            removed.append(path.name)
    return removed


def _enter(namespace: int) -> None:
    if _libc.setns(namespace, CLONE_NEWNET):
        raise LabError(f"setns: {os.strerror(ctypes.get_errno())}")
