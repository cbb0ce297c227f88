"""What people who had never seen the project found when they tried to break it."""

from __future__ import annotations

import json
import time

import pytest

from event_client import EventClient
from http_session import HttpSession
from raw_socket import RawSocket
from raw_websocket import CLOSE, PING, TEXT, make_frame, read_response


def resume_text(client: EventClient) -> bytes:
    return json.dumps(
        {"event": "hello", "version": 1, "resume": {"session": client.session, "received": client.received}}
    ).encode()


def outcome(line: EventClient) -> bool | int:
    """Whether the line's hello was answered by a resumed session, or the close code that came instead."""
    frame = line.next_frame()
    if frame.opcode == CLOSE:
        return int.from_bytes(frame.payload[:2], "big")
    assert frame.opcode == TEXT
    return json.loads(frame.payload)["resumed"]


@pytest.mark.parametrize("lines", [2, 3, 6])
def test_lines_that_resume_at_once(start, topic, lines):
    """One has the session in the end, the others are told 4000, nobody gets another session."""
    gateway = start(threads=3)
    for _ in range(15):
        first = EventClient.native(gateway.port)
        first.subscribe(topic)
        racers = [EventClient.open(gateway.port) for _ in range(lines)]
        for racer in racers:
            racer.send_text(resume_text(first))
        outcomes = [outcome(racer) for racer in racers]
        assert all(one is True or one == 4000 for one in outcomes), outcomes
        assert True in outcomes
        gateway.api.publish(topic, "for the last")
        heard = 0
        for racer, one in zip(racers, outcomes):
            if one is True:
                frame = racer.next_frame()
                if frame.opcode == TEXT:
                    heard += 1
                else:
                    assert frame.payload[:2] == (4000).to_bytes(2, "big")
            racer.close()
        assert heard == 1
        first.close()


@pytest.mark.parametrize("gap", [0, 0.0005, 0.002, 0.01])
def test_a_retry_right_behind_an_abandoned_attempt(start, topic, gap):
    gateway = start(threads=3)
    for _ in range(25):
        first = EventClient.native(gateway.port)
        first.subscribe(topic)
        text = resume_text(first)
        first.close()
        abandoned, retry = EventClient.open(gateway.port), EventClient.open(gateway.port)
        abandoned.send_text(text)
        abandoned.close()
        until = time.monotonic() + gap
        while time.monotonic() < until:
            pass
        retry.send_text(text)
        said = outcome(retry)
        gateway.api.publish(topic, "to the living")
        # The gateway may have heard the abandoned one last. Then it says "come again", never "you were replaced".
        while said is not True or (frame := retry.next_frame()).opcode == CLOSE:
            code = said if said is not True else int.from_bytes(frame.payload[:2], "big")
            assert code == 1001
            retry.close()
            retry = EventClient.open(gateway.port)
            retry.send_text(text)
            said = outcome(retry)
        assert json.loads(frame.payload)["data"] == "to the living"
        retry.close()


def test_subscribing_on_the_old_line_during_a_resume_tells_no_false_gap(start, topic):
    gateway = start(threads=3)
    for _ in range(30):
        first = EventClient.native(gateway.port)
        second = EventClient.open(gateway.port)
        second.send_text(resume_text(first))
        for number in range(5):
            first.send_text(json.dumps({"event": "subscribe", "subscription": f"{topic}.{number}"}).encode())
        assert outcome(second) is True
        second.send_text(b'{"event":"ping","data":"all"}')
        while (event := json.loads(second.next_frame().payload))["event"] != "pong":
            assert event["event"] == "subscribe" and event["status"] == "ok"
        first.close()
        second.close()


@pytest.mark.parametrize("what", ["pings", "texts"])
def test_a_peer_that_never_reads_its_answers_takes_no_memory(start, what):
    gateway = start()
    before = gateway.resident_bytes()
    frame = make_frame(PING, b"x" * 125) if what == "pings" else make_frame(TEXT, b"no event at all")
    client = EventClient.open(gateway.port, receive_buffer=4096)
    client.sock.setblocking(False)
    flight, sent, until = frame * 400, 0, time.monotonic() + 4
    while sent < 60 << 20 and time.monotonic() < until:
        try:
            sent += client.sock.send(flight)
        except BlockingIOError:
            time.sleep(0.001)  # Its own limit: the gateway reads no more, or not yet.
    assert gateway.resident_bytes() - before < 16 << 20, f"after {sent} bytes"
    client.sock.setblocking(True)
    client.close()


def test_a_large_body_is_asked_for(gateway, topic):
    body = json.dumps({"subscription": topic, "data": "x" * 1_500_000}).encode()
    with RawSocket(gateway.port) as client:
        head = f"POST /api/publish HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: {len(body)}\r\nExpect: 100-continue\r\n\r\n"
        client.send(head.encode())
        assert read_response(client).status == 100
        client.send(body)
        assert read_response(client).status == 200


def test_a_body_announced_as_too_large_is_not_asked_for(gateway):
    with RawSocket(gateway.port) as client:
        head = f"POST /api/publish HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: {1 << 30}\r\nExpect: 100-continue\r\n\r\n"
        client.send(head.encode())
        assert read_response(client).status == 413


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1.evil.example", "127.evil", "localhost.evil"])
def test_a_name_that_leads_here_does_not_open_the_api(gateway, host):
    """DNS rebinding: the page's own origin is the attacker's name, which now leads to 127.0.0.1."""
    headers = {"Host": f"{host}:{gateway.port}", "Origin": f"http://{host}:{gateway.port}"}
    answer = gateway.api.get("/api/sessions", headers=headers)
    assert answer.status == 403 and answer.json["code"] == "foreign_origin"


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST", "127.0.0.1", "127.1.2.3", "[::1]"])
def test_names_of_this_machine_do(gateway, host):
    assert gateway.api.get("/api/sessions", headers={"Host": f"{host}:{gateway.port}"}).status == 200


def test_idempotency_keys_that_only_look_alike(gateway, topic):
    first = gateway.api.publish(topic, 1, idempotency_key="caf\u00e9")
    second = gateway.api.publish(topic, 2, idempotency_key="cafe\u0301")
    assert first["id"] != second["id"]


@pytest.mark.parametrize("received", [2**64 - 1, 2**63, 1000, 2**64, -1, 1.5])
def test_counts_of_a_poll_that_cannot_be(gateway, topic, received):
    """With an event waiting, a sum with the largest count did not fit into an integer."""
    with HttpSession.opened(gateway.port, {"event": "subscribe", "subscription": topic}) as session:
        gateway.api.publish(topic, "waiting")
        reply = session.post("poll", {"received": received, "wait": 0})
        assert reply.status == (404 if isinstance(received, int) and 0 < received < 2**64 else 400), reply


def test_a_stream_that_is_cut_in_the_middle_of_several_recoveries(gateway_of_four_loops, topic):
    """The session moves from loop to loop, with what four subscriptions are still to be sent."""
    gateway, count = gateway_of_four_loops, 400
    topics = [f"{topic}_{index}" for index in range(4)]
    for name in topics:
        answer = gateway.api.post("/api/batch", [{"subscription": name, "data": "x" * 1000} for _ in range(count)])
        epoch = answer.json[0]["position"]["epoch"]
    since = [{"event": "subscribe", "subscription": name, "since": {"epoch": epoch, "offset": 0}} for name in topics]
    with HttpSession.opened(gateway.port, *since) as session:
        seen: dict[str, list[int]] = {name: [] for name in topics}
        events = [event for event in session.first if event["event"] == "message"]
        while sum(map(len, seen.values())) + len(events) < 4 * count:
            stream = session.stream()
            while len(events) < 100 and sum(map(len, seen.values())) + len(events) < 4 * count:
                event = stream.event()
                assert event["event"] != "gap", event
                if event["event"] == "message":
                    events.append(event)
            stream.reset()
            for event in events:
                seen[event["subscription"]].append(event["offset"])
            events = []
        for event in events:
            seen[event["subscription"]].append(event["offset"])
        assert seen == {name: list(range(1, count + 1)) for name in topics}


def test_a_batch_announced_as_too_large_is_not_asked_for(gateway):
    with RawSocket(gateway.port) as client:
        head = f"POST /session HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: {1 << 30}\r\nExpect: 100-continue\r\n\r\n"
        client.send(head.encode())
        assert read_response(client).status == 413


@pytest.mark.parametrize("path", ["/session", "/health"])
def test_a_client_that_has_said_all_is_answered(gateway, path):
    body = json.dumps([{"event": "hello", "version": 1}]) if path == "/session" else ""
    with RawSocket(gateway.port) as client:
        method = "POST" if body else "GET"
        client.send(f"{method} {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: {len(body)}\r\n\r\n{body}".encode())
        client.finish_writing()
        assert read_response(client).status == 200


@pytest.mark.parametrize("number", [0, -1, 1.5, "1", None])
def test_numbers_of_a_poll_that_cannot_be(gateway, number):
    with HttpSession.opened(gateway.port) as session:
        reply = session.post("poll", {"received": 0, "wait": 0, "number": number})
        assert reply.status == 400 and "number from 1 on" in reply.json["error"], reply
        assert session.post("poll", {"received": 0, "wait": 0}).status == 200
