"""The canary of the ladder's tests: the fault proxy does what it is told, counts what it sees, and disturbs nothing else."""

import asyncio
import contextlib
import pathlib
import sys
import threading
import time

import pytest

from event_client import EventClient
from holdfast_process import eventually
from http_session import HttpSession
from raw_http import Comment, HttpConnection, is_closed
from raw_socket import ConnectionLost, Late
from raw_websocket import new_key
from raw_websocket import request_bytes as handshake

sys.path.insert(0, str(pathlib.Path(__file__).parent / "proxies"))

import faults  # noqa: E402

PATH = "/holdfast/socket"


@contextlib.contextmanager
def running(port: int, treatment: str):
    """The proxy in a loop of its own; what it counts is read from here. Answers it and its port."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()

    def run(work):
        return asyncio.run_coroutine_threadsafe(work, loop).result(20)

    manager = faults.fault_proxy(port, treatment=treatment)
    proxy = run(manager.__aenter__())
    block = proxy.block

    async def in_the_loop(treatment: str) -> int:
        return block(treatment)

    proxy.block = lambda treatment: run(in_the_loop(treatment))
    try:
        yield proxy, int(proxy.address.split(":")[1])
        run(manager.__aexit__(None, None, None))
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join(5)


@pytest.fixture
def behind(gateway):
    with contextlib.ExitStack() as stack:
        yield lambda treatment: stack.enter_context(running(gateway.port, treatment))


def knock(port: int) -> HttpConnection:
    """A handshake that was sent; whatever comes of it is to be read."""
    connection = HttpConnection(port)
    connection.send(handshake(port, new_key(), path=PATH))
    return connection


@pytest.mark.parametrize("status", faults.STATUSES)
def test_refused_with_a_status(behind, status):
    proxy, port = behind(status)
    with knock(port) as connection:
        assert connection.reply().status == int(status)
        assert connection.ask("POST", "/holdfast/session", [{"event": "probe"}]).status == 200, "the connection is kept"
    assert [attempt.treatment for attempt in proxy.attempts] == [status]
    assert abs(proxy.attempts[0].at - time.time()) < 5


def test_reset_and_hang(behind):
    proxy, port = behind("reset")
    with knock(port) as connection:
        assert connection.wait_for_end() == "reset"
    proxy, port = behind("hang")
    with knock(port) as connection:
        assert not connection.has_something(0.5) and len(proxy.attempts) == 1


def test_silent(behind, gateway):
    """A good handshake, and then nothing either way: the gateway never hears of it."""
    before = gateway.api.sessions_opened()
    _, port = behind("silent")
    with EventClient.open(port, path=PATH) as client:
        client.send_event({"event": "hello", "version": 1})
        assert client.is_quiet_for(0.5)
    assert gateway.api.sessions_opened() == before


@pytest.mark.parametrize(("treatment", "is_heard"), [("client-only", True), ("server-only", False)])
def test_one_way(behind, start, treatment, is_heard):
    gateway = start()
    with running(gateway.port, treatment) as (_, port), EventClient.open(port, path=PATH) as client:
        client.send_event({"event": "hello", "version": 1})
        if is_heard:
            eventually(lambda: gateway.api.sessions()["total"] == 1, what="the gateway hears it")
        assert client.is_quiet_for(0.5)
        assert gateway.api.sessions()["total"] == int(is_heard)


def test_server_only_carries_what_the_server_says(start):
    """Its Pings are the only thing that it says unasked."""
    gateway = start(ws_ping_interval=0.3, ws_ping_timeout=5)
    with running(gateway.port, "server-only") as (_, port), EventClient.open(port, path=PATH) as client:
        assert client.next_frame().opcode == 0x9


def test_dies(behind):
    _, port = behind("dies")
    with EventClient.open(port, path=PATH) as client:
        began = time.monotonic()
        assert client.hello()["status"] == "ok"
        assert client.wait_for_end() == "reset"
        assert faults.SHORT_LIFE - 0.05 < time.monotonic() - began < faults.SHORT_LIFE + 1


def test_works_then_blocked_then_works(behind, gateway, topic):
    proxy, port = behind("ok")
    with EventClient.open(port, path=PATH) as client:
        client.hello()
        client.subscribe(topic)
        gateway.api.publish(topic, "x" * 200_000)
        assert client.data(1) == ["x" * 200_000]
        assert proxy.block("400") == 1
        assert client.wait_for_end() == "reset"
    with knock(port) as connection:
        assert connection.reply().status == 400
    proxy.treatment = "ok"
    with EventClient.open(port, path=PATH) as client:
        assert client.hello()["status"] == "ok"
    assert [attempt.treatment for attempt in proxy.attempts] == ["ok", "400", "ok"]


def test_everything_else_passes_as_it_comes(behind, gateway, topic):
    proxy, port = behind("400")
    with HttpSession(port, "/holdfast") as session:
        session.hello()
        session.subscribe(topic)
        stream = session.stream()
        assert isinstance(stream.next(), Comment)
        for number in range(10):
            gateway.api.publish(topic, number)
            assert stream.data(1, 1) == [number]
        session.start_poll(20, on=session.main)
        assert stream.last_word()["code"] == 4000
        gateway.api.publish(topic, "x" * 300_000)
        assert session.end_poll(session.main)[0]["data"] == "x" * 300_000
        session.poll(0)
        assert not is_closed(session.main)
        polls = proxy.of("poll")
        assert [poll.status for poll in polls] == [200] * len(polls) and not any(poll.aborted for poll in polls)
        assert len({poll.connection for poll in polls}) == 1, "one connection for all of them"
        assert proxy.attempts == []


def test_an_aborted_poll_is_seen_and_reaches_the_gateway(behind, gateway, topic):
    proxy, port = behind("ok")
    with HttpSession(port, "/holdfast") as session:
        session.hello()
        for _ in range(3):
            poll = session.start_poll(20)
            eventually(lambda: gateway.api.session(session.handle)["state"] == "attached", what="the poll has come")
            assert not poll.has_something(0.2)
            poll.close()
            eventually(lambda: proxy.requests[-1].aborted, what="the proxy sees it")
        assert len(proxy.aborted_polls) == 3


def test_mistakes_of_the_proxy_are_raised(gateway):
    with pytest.raises(ZeroDivisionError):
        with running(gateway.port, "ok") as (proxy, port):
            proxy._site = lambda _: 1 // 0
            with HttpConnection(port) as http, contextlib.suppress(ConnectionLost, Late):
                http.ask("GET", "/")
            eventually(lambda: proxy.mistakes, what="the mistake")
