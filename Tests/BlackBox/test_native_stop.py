"""A planned stop: advice first, then the close codes, within a deadline, exit code 0 (protocol.md, Server advice)."""

import signal
import time

import pytest

from event_client import EventClient
from raw_websocket import CLOSE

DEADLINE = 20.0


def test_native_sessions_get_advice_and_then_4012(start, topic):
    gateway = start(drain_deadline=2)
    clients = [EventClient.native(gateway.port) for _ in range(20)]
    for client in clients:
        client.subscribe(topic)
    gateway.ask_to_stop()
    for client in clients:
        advice = client.next_event(timeout=DEADLINE)
        assert (advice["event"], advice["reason"]) == ("goaway", "drain"), advice
        low, high = advice["retry_after"]
        assert 0 <= low <= high <= 600
        client.expect_close(4012, timeout=DEADLINE)
    assert gateway.wait(DEADLINE) == 0


def test_plain_sessions_are_closed_without_native_events(start, topic):
    gateway = start(drain_deadline=2)
    with EventClient.open(gateway.port) as client:
        client.ask({"event": "subscribe", "subscription": topic})
        gateway.ask_to_stop()
        frame = client.next_frame(DEADLINE)
        assert frame.opcode == CLOSE, frame
        # SocketShark closes with 1000; its successor may say more (socketshark.md §18).
        assert int.from_bytes(frame.payload[:2], "big") in (1000, 1001, 1012, 4012)
        client.send_frame(CLOSE, frame.payload[:2])
        client.wait_for_end()
    assert gateway.wait(DEADLINE) == 0


def test_what_was_published_before_the_stop_is_delivered_before_the_close(start, topic):
    gateway = start(drain_deadline=2)
    with EventClient.native(gateway.port) as client:
        client.subscribe(topic)
        for number in range(100):
            gateway.api.publish(topic, number)
        gateway.ask_to_stop()
        assert client.data(100, timeout=DEADLINE) == list(range(100))
        assert client.next_event(timeout=DEADLINE)["event"] == "goaway"
        client.expect_close(4012, timeout=DEADLINE)
    assert gateway.wait(DEADLINE) == 0


def test_clients_that_never_answer_do_not_hold_up_the_stop(start):
    gateway = start(drain_deadline=2)
    mute = [EventClient.native(gateway.port) for _ in range(10)]
    began = time.monotonic()
    gateway.ask_to_stop()
    assert gateway.wait(DEADLINE) == 0
    assert time.monotonic() - began < 2 + 4
    for client in mute:
        client.close()


def test_waiting_sessions_do_not_hold_up_the_stop(start):
    gateway = start(drain_deadline=2)
    with EventClient.native(gateway.port) as client:
        client.reset()
    began = time.monotonic()
    gateway.ask_to_stop()
    assert gateway.wait(DEADLINE) == 0
    assert time.monotonic() - began < 6


@pytest.mark.parametrize("name", ["SIGTERM", "SIGINT"])
def test_an_idle_gateway_stops_at_once(start, name):
    gateway = start()
    began = time.monotonic()
    gateway.process.send_signal(getattr(signal, name))
    assert gateway.wait(DEADLINE) == 0
    assert time.monotonic() - began < 5


def test_nobody_new_is_let_in_after_the_stop(start):
    gateway = start(drain_deadline=2)
    mute = EventClient.native(gateway.port)
    gateway.ask_to_stop()
    mute.next_frame(DEADLINE)  # The stop has begun.
    try:
        with EventClient(gateway.port, timeout=2) as late:
            late.send(b"GET /ready HTTP/1.1\r\nHost: x\r\n\r\n")
            late.wait_for_end(DEADLINE)
            assert not late.buffer or late.buffer.startswith(b"HTTP/1.1 503"), bytes(late.buffer[:200])
    except (TimeoutError, ConnectionRefusedError, ConnectionResetError):
        pass
    assert gateway.wait(DEADLINE) == 0
    mute.close()
