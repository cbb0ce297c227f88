"""The native dialect: how a session opens, and how replies look (protocol.md: Dialects, hello, Heartbeats)."""

import json
import re

import pytest

from event_client import HELLO_KEYS, EventClient, parse_event
from raw_socket import byte_by_byte
from raw_websocket import TEXT, fragments, make_frame, read_response, request_bytes, new_key

HELLO = b'{"event":"hello","version":1}'


def open_socket(gateway) -> EventClient:
    return EventClient.open(gateway.port)


# hello ----------------------------------------------------------------------------------------


def test_the_fields_of_a_new_session(gateway):
    with EventClient.native(gateway.port, client={"name": "tests", "version": "0"}) as client:
        reply = client.hello_reply
        assert set(reply) == HELLO_KEYS
        assert (reply["event"], reply["status"], reply["resumed"]) == ("hello", "ok", False)
        assert reply["heartbeat"] == {"interval": 4, "hidden_interval": 25, "timeout": 5}
        assert reply["session_ttl"] == 60
        assert isinstance(reply["spread"], (int, float)) and reply["spread"] >= 1
        assert isinstance(reply["node"], str) and reply["node"]


def test_the_name_of_a_session_is_a_handle_and_a_secret(gateway):
    names = set()
    for _ in range(20):
        with EventClient.native(gateway.port) as client:
            names.add(client.session)
    assert len(names) == 20
    handles, secrets = zip(*(name.split(".") for name in names))
    assert len(set(handles)) == len(set(secrets)) == 20
    # 64 and 128 random bits need at least 11 and 22 characters of base 64; both stand in URLs and headers.
    assert all(re.fullmatch(r"[A-Za-z0-9_-]{11,22}", handle) for handle in handles), handles
    assert all(re.fullmatch(r"[A-Za-z0-9_-]{22,43}", secret) for secret in secrets)


def test_a_hello_resumed_tells_what_the_server_has_received(gateway, topic):
    with EventClient.native(gateway.port) as first:
        first.subscribe(topic)
        first.reset()
        with EventClient.resuming(first) as second:
            assert set(second.hello_reply) == HELLO_KEYS | {"received"}
            assert second.hello_reply["resumed"] is True and second.hello_reply["received"] == 1


@pytest.mark.parametrize("text", [
    HELLO,
    b' \r\n\t{ "version" : 1 , "event" : "hello" } ',
    b'{"event":"hello","version":1,"client":{"name":"x","version":"y","z":[1,{}]},"unknown":null}',
    rb'{"\u0065vent":"h\u0065llo","version":1}',
    b'{"event":"hello","version":1,"resume":null}',
], ids=["plain", "white space", "unknown fields", "escapes", "null resume"])
def test_ways_to_write_hello(gateway, deliver, text):
    with open_socket(gateway) as client:
        client.send_frame(TEXT, text, deliver)
        reply = client.next_event()
        assert (reply["event"], reply["status"]) == ("hello", "ok"), reply


def test_hello_in_fragments(gateway, deliver):
    with open_socket(gateway) as client:
        client.send(b"".join(fragments(TEXT, [HELLO[:5], b"", HELLO[5:20], HELLO[20:]])), deliver)
        assert client.next_event()["status"] == "ok"


def test_handshake_hello_and_events_in_one_flight(gateway, deliver, topic):
    """Client events may be pipelined behind a fresh hello, and the hello behind the handshake."""
    with EventClient(gateway.port) as client:
        events = [
            {"event": "hello", "version": 1},
            {"event": "subscribe", "subscription": topic, "id": "a"},
            {"event": "ping", "data": "p"},
            {"event": "message", "subscription": topic, "data": 1, "id": 2},
            {"event": "unsubscribe", "subscription": topic, "id": 3},
            {"event": "nothing", "id": 4},
        ]
        frames = b"".join(make_frame(TEXT, json.dumps(event).encode()) for event in events)
        client.send(request_bytes(gateway.port, new_key()) + frames, deliver)
        assert read_response(client).status == 101
        replies = [client.next_event() for _ in events]
        assert [reply["event"] for reply in replies] == ["hello", "subscribe", "pong", "message", "unsubscribe", "nothing"]
        assert [reply.get("id") for reply in replies] == [None, "a", None, 2, 3, 4]


@pytest.mark.parametrize("version", [0, 2, 99, -1, "1", 1.5, None, [1]])
def test_another_version_is_refused_and_hello_may_be_said_again(gateway, version):
    with open_socket(gateway) as client:
        reply = client.hello(version=version)
        assert (reply["status"], reply["code"]) == ("error", "unsupported_version"), reply
        assert client.hello()["status"] == "ok"


def test_a_hello_without_version_is_refused(gateway):
    with open_socket(gateway) as client:
        reply = client.ask({"event": "hello"})
        assert reply["event"] == "hello" and reply["code"] in ("unsupported_version", "bad_hello")


@pytest.mark.parametrize("resume", [
    5, "text", [], {}, {"session": "x.y"}, {"received": 0}, {"session": 5, "received": 0},
    {"session": "x.y", "received": "0"}, {"session": "x.y", "received": -1}, {"session": "x.y", "received": 0.5},
], ids=json.dumps)
def test_a_resume_of_the_wrong_form_is_an_error_or_a_new_session(gateway, resume):
    """It never ends the connection, and never resumes."""
    with open_socket(gateway) as client:
        reply = client.hello(resume=resume)
        assert reply.get("code") == "bad_hello" or reply["resumed"] is False, reply
        client.barrier()


def test_a_second_hello_is_refused_and_changes_nothing(gateway, topic):
    with EventClient.native(gateway.port) as client:
        client.subscribe(topic)
        reply = client.ask({"event": "hello", "version": 1})
        assert (reply["event"], reply["status"], reply["code"]) == ("hello", "error", "already_open")
        gateway.api.publish(topic, 1)
        assert client.data(1) == [1]


# Dialects and probe ---------------------------------------------------------------------------------


def test_a_probe_leaves_the_dialect_open(gateway):
    with open_socket(gateway) as client:
        for _ in range(3):
            assert client.ask({"event": "probe"}) == {"event": "probe", "status": "ok"}
        assert client.hello()["status"] == "ok"


def test_a_probe_before_a_plain_event(gateway, topic):
    with open_socket(gateway) as client:
        assert client.ask({"event": "probe"}) == {"event": "probe", "status": "ok"}
        reply = client.ask({"event": "subscribe", "subscription": topic})
        assert reply == {"event": "subscribe", "status": "ok", "subscription": topic}


def test_a_probe_within_a_session(gateway):
    with EventClient.native(gateway.port) as client:
        assert client.ask({"event": "probe"}) == {"event": "probe", "status": "ok"}


@pytest.mark.parametrize("first", [{"event": "ping"}, {"event": "subscribe", "subscription": "x.y"}, {"event": "nothing"}],
                         ids=["ping", "subscribe", "unknown"])
def test_any_other_first_event_decides_for_plain(gateway, first):
    with open_socket(gateway) as client:
        client.ask(first)
        reply = client.ask({"event": "hello", "version": 1})
        assert reply == {"event": "hello", "status": "error", "error": "Event not found."}
        assert "code" not in client.ask({"event": "nothing"})


# ping ---------------------------------------------------------------------------------------------------


def test_a_pong_carries_the_data_and_the_count(gateway):
    with EventClient.native(gateway.port) as client:
        reply = client.ask({"event": "ping", "data": "abc", "received": 0})
        assert reply == {"event": "pong", "data": "abc", "received": 0}
        client.ask({"event": "nothing"})
        assert client.ask({"event": "ping", "data": "é😀", "received": 1}) == {"event": "pong", "data": "é😀", "received": 1}


@pytest.mark.parametrize("data", [None, 5, True, [], {}, 1.5], ids=json.dumps)
def test_a_ping_with_other_data_gets_null(gateway, data):
    with EventClient.native(gateway.port) as client:
        assert client.ask({"event": "ping", "data": data})["data"] is None


@pytest.mark.parametrize("character", ["x", "é", "😀"])
def test_the_data_of_a_pong_is_cut_to_128_code_points(gateway, character):
    with EventClient.native(gateway.port) as client:
        for length, expected in ((127, 127), (128, 128), (129, 128), (5_000, 128)):
            reply = client.ask({"event": "ping", "data": character * length})
            assert reply["data"] == character * expected


def test_a_thousand_pings_in_one_flight_are_all_answered_in_order(gateway):
    with EventClient.native(gateway.port) as client:
        client.send(b"".join(make_frame(TEXT, b'{"event":"ping","data":"%d"}' % n) for n in range(1_000)))
        assert [client.next_event()["data"] for _ in range(1_000)] == [str(n) for n in range(1_000)]


# id and errors ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("identity", ["a", "", "x" * 64, "é" * 64, 0, 1, -5, 9_007_199_254_740_993, "\u0000\"\\"], ids=repr)
def test_the_id_is_echoed_in_replies(gateway, topic, identity):
    with EventClient.native(gateway.port) as client:
        for event in ("subscribe", "message", "unsubscribe", "unsubscribe", "message"):
            assert client.ask({"event": event, "subscription": topic, "id": identity})["id"] == identity
        assert client.ask({"event": "no such", "id": identity})["id"] == identity


def test_there_is_no_id_where_none_was_given(gateway, topic):
    with EventClient.native(gateway.port) as client:
        assert "id" not in client.subscribe(topic)
        assert "id" not in client.ask({"event": "no such"})


def test_a_message_with_an_id_gets_a_reply_and_one_without_gets_none(gateway, topic):
    """SocketShark's rule for a service without on_message, and the native dialect's beside it."""
    with EventClient.native(gateway.port) as client:
        client.subscribe(topic)
        client.send_event({"event": "message", "subscription": topic, "data": 1})
        client.expect_silence()
        reply = client.ask({"event": "message", "subscription": topic, "data": 1, "id": "m"})
        assert reply == {"event": "message", "subscription": topic, "status": "ok", "id": "m"}


def error_cases(topic: str) -> list[tuple[dict, dict]]:
    """Events and the fields of their errors, besides the text."""
    return [
        ({"event": "no such"}, {"event": "no such", "code": "unknown_event", "error": "Event not found."}),
        ({"event": ""}, {"event": "", "code": "unknown_event"}),
        ({"event": "x" * 40}, {"event": "x" * 40, "code": "unknown_event"}),
        ({"event": "subscribe"}, {"event": "subscribe", "code": "bad_subscription", "error": "Invalid subscription format."}),
        ({"event": "subscribe", "subscription": "nodot"}, {"subscription": "nodot", "code": "bad_subscription"}),
        ({"event": "subscribe", "subscription": ".x"}, {"subscription": ".x", "code": "bad_subscription"}),
        ({"event": "subscribe", "subscription": "x."}, {"subscription": "x.", "code": "bad_subscription"}),
        ({"event": "subscribe", "subscription": 5}, {"event": "subscribe", "code": "bad_subscription"}),
        ({"event": "unsubscribe", "subscription": topic},
         {"subscription": topic, "code": "not_subscribed", "error": "Subscription does not exist."}),
        ({"event": "message", "subscription": topic}, {"event": "message", "subscription": topic, "code": "not_subscribed"}),
        ({"event": "auth"}, {"event": "auth", "code": "unsupported_method", "error": "Authentication method unsupported."}),
    ]


@pytest.mark.parametrize("number", range(len(error_cases(""))))
def test_errors_have_a_code(gateway, topic, number):
    event, expected = error_cases(topic)[number]
    with EventClient.native(gateway.port) as client:
        reply = client.ask(event)
        assert reply["status"] == "error" and isinstance(reply["error"], str) and reply["error"]
        assert expected.items() <= reply.items(), reply
        client.barrier()


def test_a_second_subscribe_is_an_error(gateway, topic):
    with EventClient.native(gateway.port) as client:
        client.subscribe(topic)
        reply = client.ask({"event": "subscribe", "subscription": topic, "id": 7})
        assert (reply["code"], reply["error"]) == ("already_subscribed", "Already subscribed.")
        assert (reply["subscription"], reply["id"]) == (topic, 7)


NOT_EVENTS = [b"", b"x", b"{", b"null", b"[]", b'"hello"', b"5", b"{}", b'{"event":null}', b'{"event":5}', b'{"event":["a"]}',
              b'{"event":"' + b"x" * 41 + b'"}', b'{"event":"a"}x', b"{'event':'a'}", b'{"event":"a",}', b'{"event":NaN}']


@pytest.mark.parametrize("text", NOT_EVENTS, ids=range(len(NOT_EVENTS)))
def test_what_is_no_event(gateway, deliver, text):
    with EventClient.native(gateway.port) as client:
        client.send_frame(TEXT, text, deliver)
        reply = client.next_event()
        assert reply["status"] == "error" and reply["code"] == "bad_event", reply
        assert reply["error"] == "Messages must be JSON and contain an event field."
        assert "event" not in reply
        client.barrier()


def test_replies_keep_the_order_of_the_events(gateway, topic):
    with EventClient.native(gateway.port) as client:
        names = [f"{topic}.{number}" for number in range(50)]
        frames = [make_frame(TEXT, json.dumps({"event": "subscribe", "subscription": name}).encode()) for name in names]
        client.send(b"".join(frames))
        assert [client.next_event()["subscription"] for _ in names] == names


def test_every_event_cut_at_every_byte_into_two_frames(gateway):
    """Fragments may split a key, an escape or a number anywhere."""
    text = r'{"event":"ping","data":"\u00e9\ud83d\ude00é😀\\\"x","received":0}'.encode()
    with EventClient.native(gateway.port) as client:
        for cut in range(len(text) + 1):
            client.send(b"".join(fragments(TEXT, [text[:cut], text[cut:]])), byte_by_byte if cut % 10 == 0 else None)
            assert client.next_event()["data"] == 'é😀é😀\\"x', cut
    assert parse_event(text)["data"] == 'é😀é😀\\"x'
