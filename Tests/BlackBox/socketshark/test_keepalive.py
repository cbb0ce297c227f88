"""§11: the Pings of the server."""

import time

import pytest

from holdfast_process import background
from raw_socket import ConnectionLost
from raw_websocket import CLOSE, PING, PONG
from shark import PlainClient

SIMPLE = {"simple": {"require_authentication": False}}
NAME = "simple.x"


def wait_for_the_end(client: PlainClient, timeout: float) -> None:
    """Of a client that answers no Ping: a Close, or the end of the connection without one."""
    until = time.monotonic() + timeout
    try:
        while client.next_frame(until - time.monotonic()).opcode != CLOSE:
            pass
    except ConnectionLost:
        pass


def test_a_client_that_answers_stays(serve):
    shark = serve(SIMPLE, ws_ping={"interval": 0.3, "timeout": 0.5})
    with shark.client() as client:
        for _ in range(4):
            ping = client.next_frame()
            assert ping.opcode == PING
            client.send_frame(PONG, ping.payload)
        client.expect_silence()


def test_the_interval_is_kept(serve):
    shark = serve(SIMPLE, ws_ping={"interval": 0.5, "timeout": 5})
    with shark.client() as client:
        began = time.monotonic()
        for number in range(1, 4):
            ping = client.next_frame()
            assert ping.opcode == PING and 0.5 * number * 0.9 <= time.monotonic() - began < 0.5 * number + 3
            client.send_frame(PONG, ping.payload)


def test_a_client_that_does_not_answer_is_dropped(serve, service):
    shark = serve({"books": {"require_authentication": False, **service.urls("on_unsubscribe")}},
                  ws_ping={"interval": 0.5, "timeout": 0.8})
    with shark.client() as client:
        client.subscribe("books.x")
        began = time.monotonic()
        client.answer_pings = False
        wait_for_the_end(client, 10)
        assert time.monotonic() - began >= 1.2
    service.wait_for("/on_unsubscribe")
    shark.wait_for_subscribers("books.x", 0)


def test_a_wrong_pong_does_not_help(serve):
    shark = serve(SIMPLE, ws_ping={"interval": 0.3, "timeout": 1})
    with shark.client() as client:
        assert client.next_frame().opcode == PING
        client.send_frame(PONG, b"nope")
        wait_for_the_end(client, 10)


@pytest.mark.parametrize("interval", [None, 0, False], ids=str)
def test_no_pings(serve, interval):
    shark = serve(SIMPLE, ws_ping={"interval": interval, "timeout": 0.2})
    with shark.client() as client:
        assert client.is_quiet_for(2)
        client.expect_silence()


def test_there_is_no_second_keepalive(serve):
    """§17.24: SocketShark's library pinged every 20 s, whatever the configuration said."""
    with serve(SIMPLE, ws_ping={"interval": None}).client() as client:
        assert client.is_quiet_for(22)


def test_a_busy_client_is_not_dropped(serve):
    """It answers Pings late by what lies before them in the line, and it lives."""
    shark = serve(SIMPLE, ws_ping={"interval": 0.3, "timeout": 2})

    def publish(stop) -> None:
        while not stop.wait(0.01):
            shark.publish(NAME, "x" * 1_000)

    with shark.client() as client:
        client.subscribe(NAME)
        with background(publish):
            assert client.pushed(200, timeout=20)[-1]
