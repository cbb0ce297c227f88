"""Fixtures: a private Redis, a service that answers callbacks, gateways in front of both."""

from __future__ import annotations

import itertools
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))
sys.path.insert(1, str(HERE.parent))

from fake_service import FakeService  # noqa: E402
from redis_server import RedisServer  # noqa: E402
from shark import Shark, configured  # noqa: E402

_numbers = itertools.count(1)


@pytest.fixture(scope="session")
def shared_redis(tmp_path_factory) -> Iterator[RedisServer]:
    with RedisServer(tmp_path_factory.mktemp("redis")) as server:
        yield server


@pytest.fixture(scope="session")
def shared_redis_alt(tmp_path_factory) -> Iterator[RedisServer]:
    with RedisServer(tmp_path_factory.mktemp("redis_alt")) as server:
        yield server


@pytest.fixture
def redis(shared_redis) -> RedisServer:
    """A Redis that no test may disturb; channels are kept apart by `prefix`."""
    return shared_redis


@pytest.fixture
def redis_alt(shared_redis_alt) -> RedisServer:
    return shared_redis_alt


@pytest.fixture
def own_redis(tmp_path) -> Iterator[RedisServer]:
    """One to freeze, kill and start again."""
    (tmp_path / "redis").mkdir()
    with RedisServer(tmp_path / "redis") as server:
        yield server


@pytest.fixture
def prefix() -> str:
    """A channel prefix that no other test uses."""
    return f"t{next(_numbers)}:"


@pytest.fixture
def service() -> Iterator[FakeService]:
    with FakeService() as service:
        yield service


Serve = Callable[..., Shark]


@pytest.fixture
def serve(tmp_path, redis, prefix) -> Iterator[Serve]:
    """Starts gateways: `serve({"books": {...}}, http={"tries": 2})`.

    At the test's end they must be alive, or have been stopped. Keyword arguments are further sections of the configuration;
    `on` is another Redis than the shared one.
    """
    running: list[Shark] = []

    def launch(services: dict[str, Any], *, on: RedisServer | None = None, **sections: Any) -> Shark:
        folder = tmp_path / f"shark{len(running)}"
        folder.mkdir()
        server = on or redis
        running.append(Shark(folder, configured(services, server.port, prefix, **sections), server, prefix))
        return running[-1]

    yield launch
    crashed = [one for one in running if one.crashed]
    for one in running:
        one.__exit__()
        print(f"--- log of process {one.process.pid}", *one.log, sep="\n")  # Shown where the test failed.
    assert not crashed, f"a gateway died:\n{crashed[0].tail()}"


@pytest.fixture
def simple(serve) -> Shark:
    """One service, `simple`, open to everybody and without callbacks."""
    return serve({"simple": {"require_authentication": False}})
