"""examples/swift-dashboard: a Swift program of somebody's own against a gateway in another process, whose line is cut."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from holdfast_process import binary, clean_environment, eventually

sys.path.insert(0, str(Path(__file__).parent / "browser"))

from relay import Relay, relay_to  # noqa: E402


@pytest.fixture
def program() -> Path:
    path = Path(os.environ.get("HOLDFAST_DASHBOARD_BIN") or Path(binary()).with_name("ExampleDashboard"))
    assert path.is_file(), f"no binary at {path}: build it with swift build --product ExampleDashboard"
    return path


class Dashboard:
    """The program, piped: it prints a line for each thing that happens."""

    def __init__(self, program: Path, *arguments: str) -> None:
        self.process = subprocess.Popen(
            [program, *arguments], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=clean_environment()
        )
        self.lines: list[str] = []
        self.reader = threading.Thread(target=self.read, daemon=True)
        self.reader.start()

    def read(self) -> None:
        for line in self.process.stdout:
            self.lines.append(line.rstrip())

    def wait_for(self, text: str, times: int = 1) -> None:
        eventually(lambda: sum(text in line for line in self.lines) >= times, 20, what=f"{text!r} in {self.lines}")

    def numbers(self) -> list[int]:
        return [int(found[1]) for line in self.lines if (found := re.match(r"message (\d+):", line))]

    def __enter__(self) -> Dashboard:
        return self

    def __exit__(self, *_) -> None:
        self.process.kill()
        self.process.wait()


class Cable:
    """A relay in a loop of its own."""

    def __init__(self, port: int) -> None:
        self.loop = asyncio.new_event_loop()
        threading.Thread(target=self.loop.run_forever, daemon=True).start()
        self.manager = relay_to(port)
        self.relay: Relay = self.run(self.manager.__aenter__())

    def run(self, work):
        return asyncio.run_coroutine_threadsafe(work, self.loop).result(20)

    def call(self, function):
        async def inside():
            return function()

        return self.run(inside())

    def __enter__(self) -> Cable:
        return self

    def __exit__(self, *_) -> None:
        self.run(self.manager.__aexit__(None, None, None))
        self.loop.call_soon_threadsafe(self.loop.stop)


def publish(gateway, numbers) -> None:
    for number in numbers:
        gateway.api.publish("calls.dash", {"call": f"c-{number}", "state": "ringing", "from": {"name": "Ada"}})


def test_a_cut_line_is_replaced_and_each_message_shown_once(gateway, program):
    with Cable(gateway.port) as cable:
        with Dashboard(program, f"http://127.0.0.1:{cable.relay.port}", "calls.dash") as dashboard:
            dashboard.wait_for("state: connected")
            publish(gateway, range(1, 4))
            dashboard.wait_for("message 3: c-3  ringing  Ada")
            assert cable.call(cable.relay.cut) > 0
            publish(gateway, range(4, 31))
            cable.call(cable.relay.restore)
            dashboard.wait_for("message 30:")
            dashboard.wait_for("recovered")
            assert dashboard.numbers() == list(range(1, 31))
            assert not any("GAP" in line for line in dashboard.lines), dashboard.lines
            dashboard.process.send_signal(signal.SIGTERM)
            assert dashboard.process.wait(20) == 0, dashboard.lines


def test_what_cannot_work_is_said(gateway, program):
    with Dashboard(program, f"http://127.0.0.1:{gateway.port}", "nodot") as dashboard:
        assert dashboard.process.wait(20) == 1
        dashboard.reader.join(5)
        assert "bad_subscription" in dashboard.lines[-1], dashboard.lines
    with Dashboard(program, "events.example.com") as dashboard:
        assert dashboard.process.wait(20) == 2
        dashboard.reader.join(5)
        assert "the scheme is missing" in dashboard.lines[-1], dashboard.lines
    with Dashboard(program, "--help") as dashboard:
        assert dashboard.process.wait(20) == 0
        dashboard.reader.join(5)
        assert dashboard.lines[0].startswith("usage:")
