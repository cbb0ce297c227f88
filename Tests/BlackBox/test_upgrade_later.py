"""A handshake on a connection that has served HTTP before, as behind a proxy that keeps its connections open."""

from __future__ import annotations

import json
import time

import pytest

from event_client import EventClient
from raw_socket import DEADLINE
from raw_websocket import TEXT, make_frame, new_key, read_response, request_bytes


def get(path: str, method: str = "GET") -> bytes:
    return f"{method} {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode()


def post(path: str, body: dict) -> bytes:
    text = json.dumps(body).encode()
    return f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: {len(text)}\r\n\r\n".encode() + text


def answer(client, status: int = 200):
    """One whole answer, its body taken from the connection."""
    response = read_response(client)
    assert response.status == status
    length = int(response.headers["content-length"]) if status != 101 else 0
    return client.read_exactly(length, time.monotonic() + DEADLINE)


@pytest.mark.parametrize("before", [1, 2, 20])
def test_after_other_requests(gateway, topic, before):
    client = EventClient(gateway.port)
    for number in range(before):
        client.send(get("/health") if number % 2 else post("/api/publish", {"subscription": topic, "data": number}))
        answer(client)
    client.send(request_bytes(gateway.port, new_key()))
    answer(client, 101)
    client.hello()
    client.subscribe(topic)
    gateway.api.publish(topic, "later")
    assert client.data(1) == ["later"]
    client.say_goodbye()


def test_all_in_one_flight(gateway, topic, deliver):
    """Two requests, the handshake, and events behind it: answered in this order, nothing lost."""
    client = EventClient(gateway.port)
    hello = make_frame(TEXT, b'{"event":"hello","version":1}', mask=b"abcd")
    ping = make_frame(TEXT, b'{"event":"ping","data":"x"}', mask=b"abcd")
    client.send(get("/health") + get("/ready") + request_bytes(gateway.port, new_key()) + hello + ping, deliver)
    answer(client)
    answer(client)
    answer(client, 101)
    assert client.next_event()["event"] == "hello"
    assert client.next_event() == {"event": "pong", "data": "x", "received": 0}
    client.close()


def test_a_refused_handshake_is_still_told_why(gateway):
    client = EventClient(gateway.port)
    client.send(get("/health"))
    answer(client)
    client.send(request_bytes(gateway.port, new_key(), change={"Sec-WebSocket-Version": "12"}))
    response = read_response(client)
    assert response.status == 426 and response.headers["sec-websocket-version"] == "13"
    client.close()


def test_http_idle_time_does_not_end_a_websocket(start, topic):
    gateway = start(idle_time=0.5)
    client = EventClient(gateway.port)
    client.send(get("/health"))
    answer(client)
    client.send(request_bytes(gateway.port, new_key()))
    answer(client, 101)
    client.hello()
    assert client.is_quiet_for(1.5)
    client.subscribe(topic)
    client.close()


def test_an_idle_http_connection_is_let_go(start):
    gateway = start(idle_time=0.5)
    client = EventClient(gateway.port)
    client.send(get("/health"))
    answer(client)
    client.wait_for_end(timeout=5)


def test_pipelined_requests_are_answered_in_order_also_when_the_client_has_said_all(gateway, topic, deliver):
    client = EventClient(gateway.port)
    requests = [post("/api/publish", {"subscription": topic, "data": number}) for number in range(50)]
    client.send(b"".join(requests), deliver)
    client.finish_writing()
    offsets = [json.loads(answer(client))["position"]["offset"] for _ in requests]
    assert offsets == sorted(offsets) and len(set(offsets)) == 50
    client.close()


def test_the_session_is_whole_and_a_drain_reaches_it(start, topic):
    gateway = start()
    client = EventClient(gateway.port)
    client.send(get("/health"))
    answer(client)
    client.send(request_bytes(gateway.port, new_key()))
    answer(client, 101)
    client.hello()
    client.subscribe(topic)
    again = EventClient.resuming(client)
    assert again.hello_reply["resumed"] is True
    client.close()
    gateway.ask_to_stop()
    while (event := again.next_event())["event"] != "goaway":
        pass
    again.close()
    assert gateway.wait(20) == 0
