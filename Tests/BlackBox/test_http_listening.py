"""The event stream and the long poll of a session (protocol.md, Endpoints)."""

import json
import time

import pytest

from event_client import Event
from holdfast_process import eventually
from http_session import HttpSession, check_headers
from raw_http import Comment, EventStream, HttpConnection, is_closed
from raw_socket import RawSocket
from raw_websocket import read_response
from test_data_bytes import VALUES

#: For an answer that has nothing to wait for. A debug build on a busy machine needs some of it.
AT_ONCE = 2.0


@pytest.fixture
def gateway(gateway_of_four_loops):
    return gateway_of_four_loops


@pytest.fixture
def session(gateway, topic):
    """A session that is subscribed to `topic`."""
    with HttpSession.opened(gateway.port) as opened:
        opened.subscribe(topic)
        yield opened


def is_outstanding(connection: RawSocket, seconds: float = 0.2) -> bool:
    """No answer for that long: for rules of the form "not before …" only."""
    return not connection.buffer and not connection.has_something(seconds)


def publish(gateway, topic: str, start: int, end: int) -> None:
    for number in range(start, end):
        gateway.api.publish(topic, number)


def replaced(connection: HttpConnection) -> bool:
    reply = connection.reply(AT_ONCE)
    assert (reply.status, reply.json["status"], reply.json["code"]) == (409, "error", "replaced"), reply
    check_headers(reply)
    return True


# Polling -------------------------------------------------------------------------------------------------------------


def test_a_poll_is_answered_at_once_if_there_is_anything(gateway, session, topic):
    publish(gateway, topic, 0, 3)
    began = time.monotonic()
    connection = session.start_poll(20)
    assert [event["data"] for event in session.end_poll(connection)] == [0, 1, 2]
    assert time.monotonic() - began < AT_ONCE


def test_an_outstanding_poll_is_answered_by_what_happens(gateway, session, topic):
    for number in range(10):
        connection = session.start_poll(20)
        if number == 0:
            assert is_outstanding(connection)
        gateway.api.publish(topic, number)
        assert [event["data"] for event in session.end_poll(connection, AT_ONCE)] == [number]


@pytest.mark.parametrize("wait", [0, 0.3, 1])
def test_a_poll_is_answered_empty_after_its_wait(session, wait):
    began = time.monotonic()
    assert session.end_poll(session.start_poll(wait)) == []
    # Deadlines are looked at every 100 ms, and met up to one tick early.
    assert wait - 0.11 <= time.monotonic() - began < wait + AT_ONCE


@pytest.mark.parametrize("body", [
    b"", b"x", b"5", b"[]", b"{}", b'{"wait":1}', b'{"received":"0","wait":1}', b'{"received":1.5,"wait":1}', b'{"received":null,"wait":1}',
    b'{"received":0,"wait":"1"}', b'{"received":0,"wait":[]}', b'{"received":0,"wait":1', b'{"received":0,"wait":1}x', b"\xff",
], ids=lambda body: repr(body)[1:40])
def test_a_poll_that_cannot_be_read_is_refused(session, body):
    reply = session.post("poll", body)
    assert reply.status == 400 and reply.json["status"] == "error" and reply.json["code"], reply
    check_headers(reply)
    session.expect_silence()


@pytest.mark.parametrize("wait", [-1, 10**9, 1e300])
def test_a_wait_out_of_range_is_no_way_to_hold_a_poll_for_ever(session, gateway, topic, wait):
    """Refused, or answered within the bound; an event ends it in any case."""
    connection = session.start_poll(wait)
    gateway.api.publish(topic, "there")
    reply = connection.reply(AT_ONCE)
    assert reply.status in (200, 400), reply


def test_a_poll_is_repeated_after_its_answer_was_lost(gateway, session, topic):
    publish(gateway, topic, 0, 3)
    first = session.start_poll(20).reply()
    again = session.start_poll(20).reply()
    assert first.json == again.json and len(first.json["events"]) == 3
    gateway.api.publish(topic, 3)
    assert [event["data"] for event in session.poll()] == [0, 1, 2, 3]
    session.expect_silence()


def test_what_a_poll_has_confirmed_is_not_kept(gateway, session, topic):
    publish(gateway, topic, 0, 3)
    assert session.data(3) == [0, 1, 2]
    session.poll(0)  # It tells the count: from here on the three are not kept.
    eventually(lambda: gateway.api.session(session.handle)["outbox_events"] == 0, what="the outbox is trimmed")


@pytest.mark.parametrize("received", [10**6, -1], ids=["beyond what was sent", "negative"])
def test_an_impossible_count_never_gets_wrong_events(gateway, session, topic, received):
    publish(gateway, topic, 0, 3)
    reply = session.start_poll(0, received=received).reply(AT_ONCE)
    # Refused as what cannot be read, or the session is given up: what never comes is an answer with events.
    assert reply.status in (400, 404, 409) or "close" in reply.json, reply
    reply = session.start_poll(0).reply(AT_ONCE)
    if reply.status == 200 and "close" not in reply.json:
        assert [event["data"] for event in reply.json["events"]] == [0, 1, 2]
    else:
        assert reply.status == 404 or "close" in reply.json, reply
        with HttpSession.taking_over(session) as second:
            assert second.hello_reply["resumed"] is False, "gone is gone, on every way"


def test_a_count_from_before_what_is_kept_never_gets_a_hole(gateway, session, topic):
    publish(gateway, topic, 0, 3)
    assert session.data(3) == [0, 1, 2]
    session.poll(0)
    eventually(lambda: gateway.api.session(session.handle)["outbox_events"] == 0, what="the outbox is trimmed")
    gateway.api.publish(topic, 3)
    reply = session.start_poll(0, received=1).reply(AT_ONCE)
    assert reply.status in (400, 404, 409) or "close" in reply.json, f"events with a hole before them: {reply}"


def test_a_newer_poll_ends_an_older_one(gateway, session, topic):
    first = session.start_poll(20)
    assert is_outstanding(first)
    second = session.start_poll(20)
    assert replaced(first)
    third = session.start_poll(20)
    assert replaced(second)
    gateway.api.publish(topic, "for the third")
    assert [event["data"] for event in session.end_poll(third)] == ["for the third"]
    session.expect_silence()


@pytest.mark.parametrize("kind", ["poll", "stream"])
@pytest.mark.parametrize("received", ["the same count", "a count from before what is kept"])
def test_what_comes_late_takes_nothing_away(gateway, session, topic, kind, received):
    """The client gave it up and listens anew; a proxy, or another event loop, brings it behind its successor."""
    count = session.received
    if received != "the same count":
        publish(gateway, topic, 0, 3)
        assert session.data(3) == [0, 1, 2]
        session.poll(0)
        eventually(lambda: gateway.api.session(session.handle)["outbox_events"] == 0, what="the outbox is trimmed")
    older = session.start_poll(20)
    late = session.next_number()
    poll = session.start_poll(20)
    assert replaced(older), "so the newest is there"
    if kind == "poll":
        reply = session.post("poll", {"received": count, "wait": 20, "number": late})
    else:
        reply = session.main.ask("GET", session.url(f"stream?received={count}&number={late}"), headers=session.authorization)
    assert (reply.status, reply.json["code"]) == (409, "replaced"), reply
    assert is_outstanding(poll)
    gateway.api.publish(topic, "for the newer one")
    assert [event["data"] for event in session.end_poll(poll)] == ["for the newer one"]
    session.expect_silence()


def test_polls_need_no_numbers(gateway, session, topic):
    """Then the one that comes last is the newest."""
    first = session.connection()
    first.start("POST", session.url("poll"), {"received": session.received, "wait": 20}, headers=session.authorization)
    assert is_outstanding(first)
    second = session.connection()
    second.start("POST", session.url("poll"), {"received": session.received, "wait": 20}, headers=session.authorization)
    assert replaced(first)
    gateway.api.publish(topic, "x")
    assert [event["data"] for event in second.reply().json["events"]] == ["x"]


def test_a_stream_for_http_1_0_ends_with_its_connection(gateway, session, topic):
    """What nginx asks for unless told otherwise. There are no chunks in HTTP/1.0."""
    stream = session.connection()
    path = session.url(f"stream?received={session.received}&number={session.next_number()}")
    authorization = session.authorization["Authorization"]
    stream.send(f"GET {path} HTTP/1.0\r\nHost: x\r\nConnection: close\r\nAuthorization: {authorization}\r\n\r\n".encode())
    response = read_response(stream)
    assert response.status == 200 and "transfer-encoding" not in response.headers and "content-length" not in response.headers
    check_headers(response)
    gateway.api.publish(topic, "as it comes")
    until = time.monotonic() + AT_ONCE
    while b"\n\n" not in stream.buffer or b"as it comes" not in stream.buffer:
        stream.fill(until)
    assert stream.buffer.startswith(b":"), "without chunk sizes"
    session.start_poll(0)
    assert stream.ended_by_server(AT_ONCE)
    assert b"event: close" in stream.buffer and not stream.buffer.endswith(b"0\r\n\r\n")


def test_forty_polls_at_once_leave_one(gateway, session, topic):
    connections = [session.start_poll(20) for _ in range(40)]

    def ended() -> int:
        return sum(not is_outstanding(each, 0) for each in connections)

    eventually(lambda: ended() == 39, what="all but one are ended")
    gateway.api.publish(topic, "for the last")
    answers = [each.reply(AT_ONCE) for each in connections]
    assert sorted(answer.status for answer in answers) == [200] + [409] * 39
    [answer] = [answer for answer in answers if answer.status == 200]
    assert [event["data"] for event in answer.json["events"]] == ["for the last"]


def test_a_poll_that_nobody_reads_does_not_end_the_session(start, topic):
    """Its TCP connection is open and its machine is gone: the poll ends by itself, and the session waits for its client."""
    gateway = start(session_ttl=1)
    with HttpSession.opened(gateway.port) as session:
        session.subscribe(topic)
        lost = session.start_poll(0.5)
        gateway.api.publish(topic, "into the void")
        eventually(lost.has_something, what="the answer is written")
        assert session.data(1) == ["into the void"]


# Streaming ------------------------------------------------------------------------------------------------------------


def test_a_stream_says_something_at_once(session):
    began = time.monotonic()
    stream = session.stream()
    assert isinstance(stream.next(AT_ONCE), Comment)
    assert time.monotonic() - began < AT_ONCE
    check_headers(stream.response)


def test_a_stream_carries_events_as_they_come(gateway, session, topic):
    stream = session.stream()
    for number in range(50):
        gateway.api.publish(topic, number)
        assert stream.data(1, AT_ONCE) == [number]
    stream.is_open()


def test_a_stream_begins_with_what_was_missed(gateway, session, topic):
    publish(gateway, topic, 0, 5)
    stream = session.stream()
    publish(gateway, topic, 5, 10)
    assert stream.data(10) == list(range(10))
    stream.close()
    session.received -= 4  # The last four never arrived, as far as the client knows.
    assert session.stream().data(4) == [6, 7, 8, 9]


def test_a_comment_comes_with_every_interval_without_events(start, topic):
    interval = 0.5
    gateway = start(heartbeat_interval=interval)
    with HttpSession.opened(gateway.port) as session:
        session.subscribe(topic)
        stream = session.stream()
        assert isinstance(stream.next(), Comment)
        last = time.monotonic()
        for _ in range(4):
            assert isinstance(stream.next(), Comment)
            now = time.monotonic()
            assert interval * 0.5 <= now - last <= interval + 1
            last = now
        gateway.api.publish(topic, "x")
        assert stream.data(1) == ["x"]
        stream.is_open()


def test_no_comments_stand_between_events_that_keep_coming(start, topic):
    gateway = start(heartbeat_interval=0.5)
    with HttpSession.opened(gateway.port) as session:
        session.subscribe(topic)
        stream = session.stream()
        assert isinstance(stream.next(), Comment)
        items = []
        until = time.monotonic() + 2
        while time.monotonic() < until:
            gateway.api.publish(topic, 1)
            items.append(stream.next())
        assert sum(isinstance(item, Comment) for item in items) <= 1 and sum(isinstance(item, Event) for item in items) > 20


@pytest.mark.parametrize("value", VALUES.values(), ids=VALUES)
def test_data_comes_as_it_was_published(gateway, session, topic, value):
    """Byte for byte, but for line breaks between tokens: in an event stream those end a line."""
    gateway.api.publish_bytes(topic, value)
    [polled] = session.start_poll(5).reply().json["events"]
    assert polled["event"] == "message"
    assert value in session.start_poll(5).reply().body
    streamed = session.stream().event()
    if b"\n" in value:
        assert streamed["data"] == json.loads(value) == polled["data"]
    else:
        assert value in streamed.raw


@pytest.mark.parametrize("query", ["", "?received=", "?received=x", "?received=-1", "?received=1.5", "?received=99999", "?received=" + "9" * 40])
def test_a_stream_from_an_impossible_count_is_refused(gateway, session, query):
    stream = session.connection(EventStream)
    response = stream.open_stream(session.url(f"stream{query}"), session.authorization)
    if response.status == 200:  # Then it is the last word that says so.
        assert stream.last_word()["code"] >= 4000
    else:
        assert response.status in (400, 404, 409), response


def test_a_newer_stream_ends_an_older_one(gateway, session, topic):
    first = session.stream()
    assert isinstance(first.next(), Comment)
    second = session.stream()
    assert first.last_word(AT_ONCE)["code"] == 4000
    gateway.api.publish(topic, "for the second")
    assert second.data(1) == ["for the second"]
    second.is_open()


def test_a_poll_ends_a_stream_and_a_stream_ends_a_poll(gateway, session, topic):
    stream = session.stream()
    assert isinstance(stream.next(), Comment)
    poll = session.start_poll(20)
    assert stream.last_word(AT_ONCE)["code"] == 4000
    assert is_outstanding(poll)
    stream = session.stream()
    assert replaced(poll)
    gateway.api.publish(topic, "x")
    assert stream.data(1) == ["x"]


def test_an_ended_stream_leaves_its_connection_usable(session):
    """HTTP's own end of the answer, not the end of TCP: the browser's next request goes over the same connection."""
    first = session.stream()
    session.stream()
    assert first.last_word(AT_ONCE)["code"] == 4000
    if is_closed(first):
        assert "close" in first.response.headers.get("connection", ""), "closed without having said so"
    else:
        assert first.ask("POST", "/session", [{"event": "probe"}]).status == 200


def test_a_stream_outlives_its_client_s_silence(start, topic):
    """`limits.idle_time` ends idle HTTP connections; one with an answer under way is not idle."""
    gateway = start(handshake_timeout=1, idle_time=1, heartbeat_interval=0.4)
    with HttpSession.opened(gateway.port) as session:
        session.subscribe(topic)
        stream, until = session.stream(), time.monotonic() + 3
        while time.monotonic() < until:
            assert isinstance(stream.next(), Comment)
        gateway.api.publish(topic, "x")
        assert stream.data(1) == ["x"]
        stream.close()
        assert session.end_poll(session.start_poll(2.5)) == [], "nor is one with a poll"


def test_an_aborted_stream_loses_nothing(gateway, session, topic):
    for number in range(10):
        stream = session.stream()
        gateway.api.publish(topic, number)
        missed_before = [] if number == 0 else ["missed"]
        assert stream.data(len(missed_before) + 1) == [*missed_before, number]
        stream.reset()
        gateway.api.publish(topic, "missed")
    assert session.data(1) == ["missed"]
    session.expect_silence()


def test_a_stream_that_nobody_reads_is_bounded(start, topic):
    """A slow consumer is told, or cut off; what waits for it does not grow without end, and others are not disturbed."""
    gateway = start(outbox_bytes=200_000)
    with HttpSession.opened(gateway.port) as slow, HttpSession.opened(gateway.port) as fast:
        slow.subscribe(topic)
        fast.subscribe(topic)
        stream = slow.connections.enter_context(EventStream(gateway.port, receive_buffer=4_096))
        stream.open_stream(slow.url(f"stream?received={slow.received}"), slow.authorization)
        listener = fast.stream()
        before = gateway.resident_bytes()
        for number in range(400):
            gateway.api.publish(topic, f"{number}:" + "x" * 20_000)
            assert listener.data(1)[0].startswith(f"{number}:")
            if number % 50 == 0:
                fast.send({"event": "ack", "received": fast.received})
        assert gateway.resident_bytes() - before < 60_000_000
        told = gateway.api.get(f"/api/sessions/{slow.handle}")
        assert told.status == 404 or told.json["session"]["state"] == "ended" or told.json["session"]["outbox_bytes"] <= 300_000, told
