"""The Swift client (`holdfast tail`) behind a proxy that does bad things to WebSockets: the same ladder as in the browser."""

import contextlib
import pathlib
import subprocess
import sys
import threading
import time

import pytest

from holdfast_process import Api, binary, clean_environment, eventually
from test_fault_proxy import running

sys.path.insert(0, str(pathlib.Path(__file__).parent / "proxies"))

import faults  # noqa: E402

#: What the proxy does → seconds until the first event, and what the client says that carries it.
KINDS = {
    **{status: (3.0, "over an event stream") for status in faults.STATUSES},
    "hang": (3.0, "over an event stream"),
    "reset": (3.0, "over an event stream"),
    "silent": (10.0, "over an event stream"),
    "client-only": (10.0, "over an event stream"),
    "server-only": (10.0, "over an event stream"),
    "dies": (3.0, ""),
    "ok": (3.0, "connected ("),
}
EVERY = 0.1


class Tail:
    """`holdfast tail` of one topic, with the times of what it prints."""

    def __init__(self, port: int, topic: str, *more: str) -> None:
        command = [binary(), "tail", topic, "--url", f"http://127.0.0.1:{port}/holdfast/socket", *more]
        self.started = time.monotonic()
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=clean_environment())
        self.numbers: list[int] = []
        self.first: float | None = None
        self.said: list[str] = []
        for read in (self.read_events, self.read_words):
            threading.Thread(target=read, daemon=True).start()

    def read_events(self) -> None:
        for line in self.process.stdout:
            self.first = self.first or time.monotonic() - self.started
            self.numbers.append(int(line.split()[2]))

    def read_words(self) -> None:
        for line in self.process.stderr:
            self.said.append(line.rstrip())

    def stop(self) -> None:
        self.process.terminate()
        self.process.wait(10)


@contextlib.contextmanager
def numbers_at(gateway, topic: str):
    """Publishes 0, 1, 2 … until the end. Answers the list of what is published."""
    published: list[int] = []
    stop = threading.Event()
    api = Api(gateway.port)

    def publish() -> None:
        while not stop.wait(EVERY):
            api.publish(topic, len(published))
            published.append(len(published))

    thread = threading.Thread(target=publish, daemon=True)
    thread.start()
    try:
        yield published
    finally:
        stop.set()
        thread.join(5)


def judge(tail: Tail, published: list[int]) -> None:
    """Every event from the first that came to the last that was published: once, in order."""
    last = published[-1]
    eventually(lambda: tail.numbers and tail.numbers[-1] >= last, what=f"event {last}: {tail.numbers[-3:]}, {tail.said}")
    assert tail.numbers == list(range(tail.numbers[0], tail.numbers[-1] + 1)), tail.said


@contextlib.contextmanager
def tail_behind(gateway, topic: str, treatment: str, *more: str):
    """`holdfast tail` behind the proxy, while numbers are published. Answers the proxy, the tail and the numbers."""
    with running(gateway.port, treatment) as (proxy, port), numbers_at(gateway, topic) as published:
        tail = Tail(port, topic, *more)
        try:
            yield proxy, tail, published
        finally:
            tail.stop()


@pytest.mark.parametrize("kind", KINDS)
def test_the_first_event_comes_in_time_and_all_come_once(gateway, topic, kind):
    limit, words = KINDS[kind]
    with tail_behind(gateway, topic, kind) as (proxy, tail, published):
        eventually(lambda: len(tail.numbers) >= 20, timeout=limit + 10, what=f"20 events: {tail.said}")
        judge(tail, list(published))
        assert tail.first <= limit + EVERY, tail.said
        assert any(words in line for line in tail.said), tail.said
        assert len(proxy.attempts) <= 2 and proxy.aborted_polls == [], proxy.attempts


@pytest.mark.parametrize("transports", ["poll", "stream"])
def test_a_transport_that_was_asked_for(gateway, topic, transports):
    with tail_behind(gateway, topic, "ok", "--transport", transports) as (proxy, tail, published):
        eventually(lambda: len(tail.numbers) >= 20, what="20 events")
        judge(tail, list(published))
        assert proxy.attempts == [] and proxy.of(transports) and proxy.aborted_polls == []


def test_up_when_the_way_opens(gateway, topic):
    """Blocked at first: the second attempt, after 30 to 40 s, takes the session over. Nothing is lost on the way."""
    with tail_behind(gateway, topic, "400") as (proxy, tail, published):
        eventually(lambda: len(tail.numbers) >= 5, what=f"5 events: {tail.said}")
        proxy.treatment = "ok"
        moved = "moved to another line, nothing is lost"
        eventually(lambda: moved in tail.said, timeout=60, what=f"the way up: {tail.said}")
        judge(tail, list(published))
        assert len(proxy.attempts) == 2 and not any("reconnecting" in line for line in tail.said), tail.said


def test_down_when_the_way_is_blocked(gateway, topic):
    with tail_behind(gateway, topic, "ok") as (proxy, tail, published):
        eventually(lambda: len(tail.numbers) >= 5, what=f"5 events: {tail.said}")
        proxy.block("400")
        eventually(lambda: any("over an event stream" in line for line in tail.said), what=f"the stream: {tail.said}")
        so_far = len(tail.numbers)
        eventually(lambda: len(tail.numbers) > so_far + 10, what="events over the stream")
        judge(tail, list(published))
        assert len(proxy.attempts) == 2 and proxy.aborted_polls == []
