"""Every limit at its value and one beyond; a slow consumer; a full gateway (protocol.md, Close codes, Server advice)."""

import json
import time

import pytest

from event_client import EventClient
from holdfast_process import Api, background, eventually
from raw_socket import RawSocket
from raw_websocket import CLOSE, TEXT, RawWebSocket, new_key, read_response, request_bytes


def exceeded(reply: dict, limit: int, actual: int) -> bool:
    return (reply["status"], reply["code"], reply["limit"], reply["actual"]) == ("error", "limit_exceeded", limit, actual)


def name_of(bytes_long: int, topic: str, character: str = "x") -> str:
    """A name of that many bytes of UTF-8."""
    size = len(character.encode())
    rest = bytes_long - len(topic.encode()) - 1
    return topic + "." + character * (rest // size) + "y" * (rest % size)


# Names ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("character", ["x", "é", "😀"])
def test_the_length_of_a_name(gateway, topic, character):
    with EventClient.native(gateway.port) as client:
        longest = name_of(256, topic, character)
        client.subscribe(longest)
        gateway.api.publish(longest, 1)
        assert client.data(1) == [1]
        longer = name_of(257, topic, character)
        for event in ("subscribe", "message", "unsubscribe"):
            reply = client.ask({"event": event, "subscription": longer, "id": 1})
            assert exceeded(reply, 256, 257) and reply["id"] == 1, reply


def test_the_length_of_a_name_can_be_set(start):
    gateway = start(max_name=10)
    with EventClient.native(gateway.port) as client:
        client.subscribe("s.45678910")
        assert exceeded(client.ask({"event": "subscribe", "subscription": "s.456789101"}), 10, 11)


def test_a_name_too_long_in_the_plain_dialect(gateway, topic):
    with EventClient.open(gateway.port) as client:
        reply = client.ask({"event": "subscribe", "subscription": name_of(257, topic)})
        assert reply["event"] == "subscribe" and reply["status"] == "error" and reply["error"]
        assert set(reply) <= {"event", "status", "error", "subscription"}
        assert client.ask({"event": "ping"})["event"] == "pong"


# Subscriptions ------------------------------------------------------------------------------------------


def test_the_number_of_subscriptions(start, topic):
    gateway = start(max_subscriptions=3)
    with EventClient.native(gateway.port) as client:
        for number in range(3):
            client.subscribe(f"{topic}.{number}")
        assert exceeded(client.ask({"event": "subscribe", "subscription": f"{topic}.3"}), 3, 4)
        assert client.ask({"event": "unsubscribe", "subscription": f"{topic}.0"})["status"] == "ok"
        client.subscribe(f"{topic}.3")
        assert exceeded(client.ask({"event": "subscribe", "subscription": f"{topic}.0"}), 3, 4)
        with EventClient.native(gateway.port) as other:
            other.subscribe(f"{topic}.0")


# Messages -------------------------------------------------------------------------------------------------


def ping_of(size: int) -> bytes:
    return b'{"event":"ping","data":"' + b"x" * (size - 26) + b'"}'


def test_the_size_of_a_message_can_be_set(start):
    gateway = start(max_message=1_000)
    assert len(ping_of(1_000)) == 1_000
    with EventClient.native(gateway.port) as client:
        client.send_text(ping_of(1_000))
        assert client.next_event()["event"] == "pong"
        client.send_text(ping_of(1_001))
        client.expect_close(1009)


def test_a_message_too_big_does_not_end_the_session(start, topic):
    gateway = start(max_message=1_000)
    with EventClient.native(gateway.port) as client:
        client.subscribe(topic)
        client.send_text(ping_of(1_001))
        client.expect_close(1009)
        with EventClient.resuming(client) as second:
            assert second.hello_reply["resumed"] is True


def nested(depth: int) -> str:
    """An event whose deepest value is that many levels deep; the event itself is the first."""
    return '{"event":"ping","data":' + "[" * (depth - 1) + "]" * (depth - 1) + "}"


def test_the_depth_of_an_event(start):
    gateway = start(max_nesting=20)
    with EventClient.native(gateway.port) as client:
        for depth in (2, 19, 20):
            client.send_text(nested(depth))
            assert client.next_event().get("event") == "pong", depth
        for depth in (21, 22, 1_000, 100_000):
            client.send_text(nested(depth))
            reply = client.next_event()
            assert reply["status"] == "error" and reply["code"] in ("limit_exceeded", "bad_event"), reply
        client.barrier()


def test_depth_counts_objects_and_arrays_alike_and_not_what_stands_in_strings(start):
    gateway = start(max_nesting=20)
    with EventClient.native(gateway.port) as client:
        mixed = '{"event":"ping","data":' + '[{"a":' * 10 + "1" + "}]" * 10 + "}"
        client.send_text(mixed)
        assert client.next_event()["status"] == "error"
        client.send_text(json.dumps({"event": "ping", "data": "[" * 500}))
        assert client.next_event()["data"] == "[" * 128
        client.send_text('{"event":"ping","data":[' + "[]," * 500 + "[]]}")
        assert client.next_event()["event"] == "pong"


def test_the_default_depth_is_enough_for_two_hundred_levels_and_not_for_a_hundred_thousand(gateway):
    with EventClient.native(gateway.port) as client:
        client.send_text(nested(201))
        assert client.next_event()["event"] == "pong"
        client.send_text(nested(100_000))
        assert client.next_event()["status"] == "error"
        client.barrier()


# The handshake's time ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("said", [0, 1, 40, -2], ids=["nothing", "a byte", "a line", "all but the last two bytes"])
def test_a_handshake_that_is_not_finished_in_time(start, said):
    gateway = start(handshake_timeout=1)
    data = request_bytes(gateway.port, new_key())
    with RawSocket(gateway.port) as connection:
        began = time.monotonic()
        connection.send(data[:said] if said else b"")
        connection.wait_for_end(timeout=5)
        assert 0.8 <= time.monotonic() - began <= 4


def test_dribbling_does_not_buy_time(start):
    gateway = start(handshake_timeout=1)
    with EventClient(gateway.port) as connection:
        data = request_bytes(gateway.port, new_key(), extra=(("X-Padding", "x" * 1_000),))
        began = time.monotonic()
        for index in range(len(data)):
            connection.send(data[index : index + 1])
            if not connection.is_quiet_for(0.05):
                break
        connection.wait_for_end(timeout=2)
        assert 0.8 <= time.monotonic() - began <= 4


# Sessions -------------------------------------------------------------------------------------------------------


def attempt(port: int):
    connection = EventClient(port)
    connection.send(request_bytes(port, new_key()))
    return connection, read_response(connection)


def test_a_full_gateway_refuses_new_sessions_and_lets_its_own_change_lines(start):
    gateway = start(max_sessions=3)
    inside = [EventClient.native(gateway.port) for _ in range(3)]

    def enters():
        client = EventClient.open(gateway.port)
        client.send_event({"event": "hello", "version": 1})
        reply = client.next_event()
        if reply["status"] == "ok":
            client.close()
            return True
        assert reply["code"] == "limit_exceeded" and (reply["limit"], reply["actual"]) == (3, 4)
        assert client.next_frame().payload[:2] == (4029).to_bytes(2, "big")
        client.close()
        return False

    assert not enters()
    # The old lines are still open, as when they are dead and nobody knows yet.
    again = [EventClient.resuming(client) for client in inside]
    assert all(client.hello_reply["resumed"] is True for client in again)
    for client in inside:
        client.close()
    inside = again
    for client in inside:
        client.barrier()
    # One out, one in.
    assert gateway.api.post(f"/api/sessions/{inside[0].handle}/disconnect", {"code": 4003, "reason": ""}).status == 200

    eventually(enters, what="a place for one more")
    for client in inside:
        client.close()


def test_too_many_websockets_are_refused_with_advice(start):
    """A tenth more than sessions, but at least 16 more, whoever they are."""
    gateway = start(max_sessions=3)
    inside = [EventClient.open(gateway.port) for _ in range(19)]
    connection, response = attempt(gateway.port)
    assert response.status == 503
    assert int(response.headers["retry-after"]) >= 1
    connection.close()
    inside.pop().close()

    def enters():
        connection, response = attempt(gateway.port)
        connection.close()
        return response.status == 101

    eventually(enters, what="a place for one more")
    for client in inside:
        client.close()


def test_health_is_told_also_when_the_gateway_is_full(start):
    gateway = start(max_sessions=1)
    with EventClient.native(gateway.port):
        assert gateway.api.get("/health").status == 200


# Slow consumer ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dialect", ["native", "plain"])
def test_a_slow_consumer_is_told_and_the_others_do_not_notice(start, topic, dialect):
    gateway = start()
    slow = EventClient.open(gateway.port, receive_buffer=4_096)
    if dialect == "native":
        slow.hello()
    position = slow.subscribe(topic).get("position")
    others = [EventClient.native(gateway.port) for _ in range(3)]
    for other in others:
        other.subscribe(topic)
    total, seen = 400, []
    filler = "x" * 32_000

    def publish(stop):
        api = Api(gateway.port)
        for number in range(total):
            api.publish(topic, {"number": number, "filler": filler})

    def read(client):
        def body(stop):
            seen.append([event["data"]["number"] for event in client.messages(total, timeout=60, acknowledge_every=4)])
        return body

    with background(publish), background(read(others[0])), background(read(others[1])), background(read(others[2])):
        pass
    assert seen == [list(range(total))] * 3
    # Now it reads: what had been written is whole and in order, and then it is told.
    numbers = []
    while (frame := slow.next_frame()).opcode != CLOSE:
        if frame.opcode == TEXT:
            numbers.append(json.loads(frame.payload)["data"]["number"])
    assert frame.payload[:2] == (4008).to_bytes(2, "big"), frame.payload
    assert numbers == list(range(len(numbers))) and len(numbers) < total
    if dialect == "native":
        with EventClient.resuming(slow) as again:
            assert again.hello_reply["resumed"] is False
            offset = position["offset"] + len(numbers)
            assert again.subscribe(topic, since={**position, "offset": offset})["recovered"] is True
            rest = [event["data"]["number"] for event in again.messages(total - len(numbers), 30, acknowledge_every=4)]
            assert rest == list(range(len(numbers), total))
    slow.close()
    for other in others:
        other.close()


def test_the_memory_of_a_slow_consumer_is_bounded(start, topic):
    gateway = start(history_count=1)
    slow = [EventClient.open(gateway.port, receive_buffer=4_096) for _ in range(5)]
    for client in slow:
        client.hello()
        client.subscribe(topic)
    for _ in range(5):  # The request's own buffers are not what is measured.
        gateway.api.publish(topic + ".nobody", "x" * 900_000)
    before = gateway.resident_bytes()
    for _ in range(20):
        gateway.api.publish(topic, "x" * 900_000)
    assert gateway.resident_bytes() - before < 30 * 1_048_576, "18 MB were published to five sessions that read nothing"
    for client in slow:
        client.close()


def test_a_large_message_to_a_client_that_reads_is_not_slowness(gateway, topic):
    with EventClient.native(gateway.port) as client:
        client.subscribe(topic)
        for _ in range(5):
            gateway.api.publish(topic, "x" * 1_000_000)
            assert len(client.data(1)[0]) == 1_000_000
            client.acknowledge()
        client.barrier()


def test_the_raw_client_can_be_slow(gateway):
    """A canary for the two tests above: the small receive buffer really is small."""
    with RawWebSocket.open(gateway.port, receive_buffer=4_096) as client:
        assert client.sock.getsockopt(1, 8) <= 16_384
