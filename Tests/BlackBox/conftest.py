"""Fixtures: shared gateways that are checked after every test, and topics of one's own."""

from __future__ import annotations

import itertools
import re

import pytest

from holdfast_process import Api, Holdfast
from raw_socket import byte_by_byte, whole
from settings import configuration


class Shared:
    """One process for many tests; a crash fails the test that caused it, and the next gets a new process."""

    def __init__(self, *arguments: str, env: dict[str, str] | None = None):
        self.arguments = arguments
        self.env = env
        self.running: Holdfast | None = None

    def get(self) -> Holdfast:
        if self.running is None or not self.running.alive:
            self.running = Holdfast(*self.arguments, env=self.env)
        return self.running

    def check(self) -> None:
        assert self.running is not None and self.running.alive, f"the server died:\n{self.running.tail()}"

    def end(self) -> None:
        if self.running is not None:
            self.running.__exit__()


@pytest.fixture(scope="session")
def shared_echo():
    shared = Shared("echo", "--port", "0")
    yield shared
    shared.end()


@pytest.fixture(scope="session")
def shared_gateway():
    shared = Shared("serve", "--dev", "--port", "0")
    yield shared
    shared.end()


@pytest.fixture
def echo(shared_echo) -> Holdfast:
    """`holdfast echo`."""
    yield shared_echo.get()
    shared_echo.check()


@pytest.fixture
def gateway(shared_gateway) -> Holdfast:
    """`holdfast serve --dev`, with the defaults."""
    yield shared_gateway.get()
    shared_gateway.check()


@pytest.fixture(scope="session")
def shared_gateway_of_four_loops():
    shared = Shared("serve", "--dev", "--port", "0", env={"HOLDFAST_THREADS": "4"})
    yield shared
    shared.end()


@pytest.fixture
def gateway_of_four_loops(shared_gateway_of_four_loops) -> Holdfast:
    """The same with four event loops on any machine: requests of one session come in on all of them."""
    yield shared_gateway_of_four_loops.get()
    shared_gateway_of_four_loops.check()


@pytest.fixture
def api(gateway) -> Api:
    return gateway.api


@pytest.fixture
def start(tmp_path):
    """Starts gateways of the test's own: `start(session_ttl=1)`. They must be alive at its end, or have been stopped."""
    running: list[Holdfast] = []

    def launch(*arguments: str, dev: bool = True, env=None, key=None, files: int = 0, **settings) -> Holdfast:
        command = ["serve", "--port", "0", *(["--dev"] if dev else []), *arguments]
        if settings:
            folder = tmp_path / f"gateway{len(running)}"
            folder.mkdir()
            command += ["--config", configuration(folder, **settings)]
        running.append(Holdfast(*command, env=env, key=key, files=files))
        return running[-1]

    yield launch
    crashed = [one.tail() for one in running if one.crashed]
    for one in running:
        one.__exit__()
    assert not crashed, f"a gateway died:\n{crashed[0]}"


_numbers = itertools.count(1)


@pytest.fixture
def topic(request) -> str:
    """A subscription name that no other test uses."""
    name = re.sub(r"[^a-z0-9]+", "_", request.node.name.lower()).strip("_")[:60]
    return f"t{next(_numbers)}.{name}"


@pytest.fixture(params=[whole, byte_by_byte], ids=["whole", "byte_by_byte"])
def deliver(request):
    """How the bytes reach the server; a test that takes this runs once per way."""
    return request.param
