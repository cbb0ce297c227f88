"""Counting and acknowledgement (protocol.md, Counting): what is counted, what is kept, what is trimmed."""

import json

import pytest

from event_client import EventClient
from raw_websocket import BINARY, TEXT, make_frame


def server_count(client: EventClient) -> int:
    """What the server has counted from us, as a pong tells it."""
    return [client.send_event({"event": "ping", "data": "count"}), client.next_event()][1]["received"]


# Inbound --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("event", [
    {"event": "nothing"},
    {"event": ""},
    {"event": "x" * 40},
    {"event": "subscribe"},
    {"event": "subscribe", "subscription": 5},
    {"event": "message", "subscription": "not.subscribed", "data": 1},
    {"event": "unsubscribe", "subscription": "not.subscribed"},
    {"event": "auth", "method": "ticket", "ticket": ""},
    {"event": "é" * 40},
], ids=lambda event: json.dumps(event)[:50])
def test_events_of_the_client_are_counted_whatever_becomes_of_them(gateway, event):
    with EventClient.native(gateway.port) as client:
        assert server_count(client) == 0
        client.ask(event)
        assert server_count(client) == 1


@pytest.mark.parametrize("event", [
    {"event": "probe"},
    {"event": "ping"},
    {"event": "ping", "received": 0},
    {"event": "ack", "received": 0},
    {"event": "hello", "version": 1},
    {"event": "hello", "version": 7},
], ids=json.dumps)
def test_these_events_of_the_client_are_not_counted(gateway, event):
    with EventClient.native(gateway.port) as client:
        client.send_event(event)
        client.barrier()
        assert server_count(client) == 0


@pytest.mark.parametrize("text", [b"", b"x", b"[]", b"{}", b'{"event":5}', b'{"event":null}',
                                  b'{"event":"' + b"x" * 41 + b'"}', b'{"event":"a"} x'], ids=range(8))
def test_what_is_no_event_is_not_counted(gateway, text):
    with EventClient.native(gateway.port) as client:
        client.send_frame(TEXT, text)
        client.barrier()
        assert server_count(client) == 0


def test_binary_events_are_counted_like_text(gateway):
    with EventClient.native(gateway.port) as client:
        client.send_frame(BINARY, b'{"event":"nothing"}')
        client.next_event()
        assert server_count(client) == 1


def test_the_server_acknowledges_after_every_64_counted_events(gateway):
    with EventClient.native(gateway.port) as client:
        frame = make_frame(TEXT, b'{"event":"message","subscription":"not.subscribed"}')
        for number in range(1, 4):
            client.send(frame * 63)
            assert [client.next_event()["event"] for _ in range(63)] == ["message"] * 63
            client.send(frame)
            last_two = [client.next_event(), client.next_event()]
            assert {"event": "ack", "received": 64 * number} in last_two, last_two


# Outbound: the count decides what a resume repeats ---------------------------------------------------------


def resumed_with(client: EventClient, count: int) -> EventClient:
    client.reset()
    return EventClient.resuming(client, received=count)


COUNTED = {
    "a reply": lambda client, gateway, topic: client.subscribe(topic),
    "an error reply": lambda client, gateway, topic: client.ask({"event": "nothing"}),
    "an error reply without event": lambda client, gateway, topic: (client.send_text("no JSON"), client.next_event()),
}


@pytest.mark.parametrize("cause", COUNTED.values(), ids=COUNTED)
def test_events_of_the_server_that_are_counted(gateway, topic, cause):
    with EventClient.native(gateway.port) as client:
        cause(client, gateway, topic)
        assert client.received == 1
        with resumed_with(client, 1) as second:
            assert second.hello_reply["resumed"] is True
            second.expect_silence()
            with resumed_with(second, 0) as third:
                # Nothing was acknowledged before the resume with 1, which acknowledged it.
                assert third.hello_reply["resumed"] is False


@pytest.mark.parametrize("event", [{"event": "probe"}, {"event": "ping"}, {"event": "hello", "version": 1},
                                   {"event": "hello", "version": 7}], ids=json.dumps)
def test_events_of_the_server_that_are_not_counted(gateway, event):
    with EventClient.native(gateway.port) as client:
        client.ask(event)
        with resumed_with(client, 1) as second:
            assert second.hello_reply["resumed"] is False, "a count of 1 cannot be"


def test_pushes_are_counted(gateway, topic):
    with EventClient.native(gateway.port) as client:
        client.subscribe(topic)
        for number in range(5):
            gateway.api.publish(topic, number)
        assert client.data(5) == list(range(5)) and client.received == 6
        with resumed_with(client, 6) as second:
            assert second.hello_reply["resumed"] is True
            second.expect_silence()


@pytest.mark.parametrize("count", range(7))
def test_a_resume_repeats_exactly_what_came_after_its_count(gateway, topic, count):
    with EventClient.native(gateway.port) as client:
        sent = [client.subscribe(topic)]
        for number in range(5):
            gateway.api.publish(topic, number)
        sent += client.messages(5)
        with resumed_with(client, count) as second:
            assert second.hello_reply["resumed"] is True
            assert [second.next_event().raw for _ in sent[count:]] == [event.raw for event in sent[count:]]
            gateway.api.publish(topic, "live")
            assert second.data(1) == ["live"]


# Acknowledgement trims --------------------------------------------------------------------------------------------


ACKNOWLEDGEMENTS = {"ping": {"event": "ping", "received": 6}, "ack": {"event": "ack", "received": 6}}


@pytest.mark.parametrize("acknowledgement", ACKNOWLEDGEMENTS.values(), ids=ACKNOWLEDGEMENTS)
@pytest.mark.parametrize("count, possible", [(4, False), (5, False), (6, True), (10, True), (11, True), (12, False)])
def test_what_was_acknowledged_is_not_kept(gateway, topic, acknowledgement, count, possible):
    """A count before what is kept, or beyond what was sent, cannot be; all between can."""
    with EventClient.native(gateway.port) as client:
        client.subscribe(topic)
        for number in range(10):
            gateway.api.publish(topic, number)
        assert client.data(10) == list(range(10)) and client.received == 11
        client.send_event(acknowledgement)
        client.barrier()
        with resumed_with(client, count) as second:
            assert second.hello_reply["resumed"] is possible
            if possible:
                assert second.data(11 - count) == list(range(count - 1, 10))
            second.expect_silence()


@pytest.mark.parametrize("received", [99, -1, "1", 1.5, None, [], 10**30], ids=json.dumps)
@pytest.mark.parametrize("event", ["ping", "ack"])
def test_an_impossible_acknowledgement_trims_nothing_and_ends_nothing(gateway, topic, event, received):
    with EventClient.native(gateway.port) as client:
        client.subscribe(topic)
        gateway.api.publish(topic, "kept")
        kept = client.messages(1)[0].raw
        client.send_event({"event": event, "received": received})
        client.barrier()
        with resumed_with(client, 1) as second:
            assert second.hello_reply["resumed"] is True
            assert second.next_event().raw == kept


def test_an_older_acknowledgement_after_a_newer_one_changes_nothing(gateway, topic):
    with EventClient.native(gateway.port) as client:
        client.subscribe(topic)
        for number in range(4):
            gateway.api.publish(topic, number)
        client.messages(4)
        client.send_event({"event": "ack", "received": 3})
        client.send_event({"event": "ack", "received": 1})
        client.barrier()
        with resumed_with(client, 3) as second:
            assert second.hello_reply["resumed"] is True
            assert second.data(2) == [2, 3]


# Client to server ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("cut", range(0, 1_200, 75))
def test_events_cut_off_on_the_way_to_the_server_arrive_once(gateway, topic, cut):
    """The line dies in the middle of the flight; the client repeats what the server has not counted."""
    events = [{"event": "subscribe", "subscription": f"{topic}.{number}", "id": number} for number in range(12)]
    texts = [json.dumps(event).encode() for event in events]
    flight = b"".join(make_frame(TEXT, text) for text in texts)
    with EventClient.native(gateway.port) as client:
        client.send(flight[: min(cut, len(flight))])
        client.reset()
        with EventClient.resuming(client) as second:
            counted = second.hello_reply["received"]
            assert second.hello_reply["resumed"] is True and 0 <= counted <= 12
            for text in texts[counted:]:
                second.send_text(text)
            replies = [second.next_event() for _ in events]
            assert [(reply["id"], reply["status"]) for reply in replies] == [(n, "ok") for n in range(12)]
            assert second.barrier() == []
            assert server_count(second) == 12
