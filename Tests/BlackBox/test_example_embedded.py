"""examples/embedded: a gateway inside somebody's own Hummingbird application."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import urllib.error
import urllib.request
from pathlib import Path

from event_client import EventClient
from holdfast_process import binary, clean_environment, eventually


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def test_own_routes_and_the_gateway_share_a_port():
    program = Path(os.environ.get("HOLDFAST_EXAMPLE_BIN") or Path(binary()).with_name("ExampleEmbedded"))
    assert program.is_file(), f"no binary at {program}: build it with swift build --product ExampleEmbedded"
    port = free_port()
    process = subprocess.Popen(
        [program],
        env=clean_environment({"HOLDFAST_WS_PORT": str(port)}),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )

    def call(path: str, data: bytes | None = None) -> str | None:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", data, timeout=5) as answer:
                return answer.read().decode()
        except urllib.error.URLError:
            return None

    try:
        assert "ok" in eventually(lambda: call("/health"), what="the application")
        client = EventClient.native(port)
        client.subscribe("calls.call_1")
        assert call("/calls/call_1/answer", b"").startswith("published as ")
        assert client.messages(1)[0]["data"] == {"state": "answered"}
        process.send_signal(signal.SIGTERM)
        # Stopped politely: the gateway sends its clients away first.
        while (event := client.next_event())["event"] != "goaway":
            pass
        assert event["reason"] == "drain"
        client.close()
        assert process.wait(20) == 0, process.stderr.read()
    finally:
        process.kill()
        process.wait()
