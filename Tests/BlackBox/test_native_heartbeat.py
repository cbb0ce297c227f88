"""The server's own Pings: who is asked, when, and what becomes of a line that does not answer (protocol.md, Heartbeats)."""

import time

import pytest

from event_client import EventClient, expect_drop
from raw_websocket import PING, PONG, RawWebSocket

INTERVAL, TIMEOUT = 0.5, 0.7
SLACK = 2.0  # What a busy machine may add.

DIALECTS = pytest.mark.parametrize("dialect", ["native", "plain"])


@pytest.fixture
def quick(start):
    return start(ws_ping_interval=INTERVAL, ws_ping_timeout=TIMEOUT)


def connect(gateway, dialect: str) -> EventClient:
    client = EventClient.native(gateway.port) if dialect == "native" else EventClient.open(gateway.port)
    if dialect == "plain":
        assert client.ask({"event": "ping"})["event"] == "pong"
    return client


def next_ping(client: RawWebSocket) -> tuple[bytes, float]:
    frame = client.next_frame(timeout=INTERVAL + SLACK)
    assert frame.opcode == PING, frame
    return frame.payload, time.monotonic()


@DIALECTS
def test_an_idle_line_is_asked_with_four_random_bytes_and_kept_while_it_answers(quick, dialect):
    with connect(quick, dialect) as client:
        last = time.monotonic()
        payloads = []
        for _ in range(4):
            payload, now = next_ping(client)
            assert len(payload) == 4
            assert now - last >= INTERVAL * 0.5, "asked before it was idle for the interval"
            client.send_frame(PONG, payload)
            payloads.append(payload)
            last = time.monotonic()
        assert len(set(payloads)) == 4
        assert client.barrier() == []


@DIALECTS
def test_a_line_that_does_not_answer_is_dropped_without_a_handshake(quick, dialect):
    with connect(quick, dialect) as client:
        _, asked = next_ping(client)
        expect_drop(client, TIMEOUT + SLACK)
        assert TIMEOUT * 0.8 <= time.monotonic() - asked <= TIMEOUT + SLACK


@pytest.mark.parametrize("wrong", [
    lambda payload: b"",
    lambda payload: payload[:3],
    lambda payload: payload + b"x",
    lambda payload: payload[::-1],
    lambda payload: bytes(byte ^ 0xFF for byte in payload),
], ids=["empty", "too short", "too long", "reversed", "inverted"])
def test_a_pong_with_other_bytes_is_no_answer(quick, wrong):
    with EventClient.native(quick.port) as client:
        payload, asked = next_ping(client)
        while wrong(payload) == payload:  # A palindrome: ask for another one.
            client.send_frame(PONG, payload)
            payload, asked = next_ping(client)
        client.send_frame(PONG, wrong(payload))
        expect_drop(client, TIMEOUT + SLACK)
        assert time.monotonic() - asked >= TIMEOUT * 0.8


def test_a_late_pong_does_not_help(quick):
    with EventClient.native(quick.port) as client:
        payload, asked = next_ping(client)
        client.wait_for_end(TIMEOUT + SLACK)
        client.send_frame(PONG, payload)
        assert quick.alive and time.monotonic() - asked >= TIMEOUT * 0.8


def test_a_client_that_talks_is_not_asked(quick):
    with EventClient.native(quick.port) as client:
        until = time.monotonic() + 4 * INTERVAL
        while time.monotonic() < until:
            assert client.is_quiet_for(INTERVAL / 5)
            client.send_event({"event": "ping"})
            assert client.next_frame().opcode != PING


def test_a_dropped_transport_leaves_the_session_waiting(quick, topic):
    with EventClient.native(quick.port) as first:
        first.subscribe(topic)
        next_ping(first)
        first.wait_for_end(TIMEOUT + SLACK)
        quick.api.publish(topic, "missed")
        with EventClient.resuming(first) as second:
            assert second.hello_reply["resumed"] is True
            assert second.data(1) == ["missed"]


def test_a_connection_that_never_says_a_word_is_asked_too(quick):
    """After the opening handshake, before any event."""
    with EventClient.open(quick.port) as client:
        payload, _ = next_ping(client)
        assert len(payload) == 4
        expect_drop(client, TIMEOUT + SLACK)


def test_one_dead_line_does_not_disturb_the_others(quick, topic):
    with EventClient.native(quick.port) as dead, EventClient.native(quick.port) as good:
        for client in (dead, good):
            client.subscribe(topic)
        next_ping(dead)
        for number in range(20):
            quick.api.publish(topic, number)
        assert good.data(20) == list(range(20))
        assert good.barrier() == []


def test_what_became_of_the_line_is_in_the_timeline(quick):
    with EventClient.native(quick.port) as client:
        next_ping(client)
        client.wait_for_end(TIMEOUT + SLACK)
        session = quick.api.session(client.handle)
        assert session["state"] == "waiting"
        told = " | ".join(entry["what"] for entry in session["timeline"]).lower()
        assert "ping" in told or "heartbeat" in told, told
