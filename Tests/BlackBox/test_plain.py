"""The plain dialect: SocketShark's replies and pushes, to the letter, for services without callbacks.

The section numbers are those of the specification of SocketShark that the project works from; rows that
need a callback (authorizer, before_subscribe, on_message, a ticket service) belong to another part.
"""

import json
import re

import pytest

from event_client import EventClient
from json_bytes import member
from raw_websocket import BINARY, TEXT, fragments

BAD = {"status": "error", "error": "Messages must be JSON and contain an event field."}


@pytest.fixture
def client(gateway):
    with EventClient.open(gateway.port) as client:
        yield client


def ok(event: str, subscription: str, **extras) -> dict:
    return {"event": event, "status": "ok", **extras, "subscription": subscription}


def error(event: str, text: str, **more) -> dict:
    return {"event": event, "status": "error", "error": text, **more}


# §3.1 Dispatch ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", [
    b"", b" ", b"x", b"{", b"}", b'{"event"', b'{"event":"ping"', b'{"event":"ping"}}', b"{'event':'ping'}",
    b'{"event":"ping",}', b'{"event":NaN}', b'{"event":"ping","data":NaN}', b'{"event":"ping","data":-Infinity}',
    b'{"event":"ping","data":01}', b'{"event":"ping","data":"\x01"}', b"\xef\xbb\xbf{}",
], ids=range(16))
def test_not_json(client, deliver, text):
    client.send_frame(TEXT, text, deliver)
    assert client.next_event() == BAD
    client.expect_silence()


@pytest.mark.parametrize("text", [
    b"null", b"true", b"5", b'"hello"', b"[]", b'[{"event":"ping"}]', b"{}", b'{"Event":"ping"}', b'{"data":{"event":"ping"}}',
    b'{"event":null}', b'{"event":5}', b'{"event":true}', b'{"event":[]}', b'{"event":{}}', b'{"event":["ping"]}',
], ids=lambda text: text.decode())
def test_json_that_is_no_event(client, deliver, text):
    client.send_frame(TEXT, text, deliver)
    assert client.next_event() == BAD


@pytest.mark.parametrize("character", ["x", "é", "😀"])
def test_the_name_of_an_event_has_at_most_40_code_points(client, character):
    assert client.ask({"event": character * 40}) == error(character * 40, "Event not found.")
    assert client.ask({"event": character * 41}) == BAD


@pytest.mark.parametrize("name", ["", "x", "Ping", "PING", " ping", "ping ", "gap", "goaway", "pong", "é", "\u0000", '"\\'])
def test_unknown_events(client, name):
    assert client.ask({"event": name}) == error(name, "Event not found.")


def test_an_event_spelt_with_escapes_is_the_same_event(client):
    client.send_text(rb'{"\u0065vent":"\u0070ing","data":"\u0041\/"}')
    assert client.next_event() == {"event": "pong", "data": "A/"}


def test_of_doubled_keys_the_last_one_counts(client, topic):
    client.send_text(b'{"event":"no such","event":"ping","data":"a","data":"b"}')
    assert client.next_event() == {"event": "pong", "data": "b"}


@pytest.mark.parametrize("text", ['{"event":"ping","data":"x"}', '{"event":"no such"}', "{}", '{"event":"subscribe"}'])
def test_binary_frames_are_read_as_json_too(client, deliver, text):
    client.send_frame(TEXT, text.encode(), deliver)
    expected = client.next_event()
    client.send_frame(BINARY, text.encode(), deliver)
    assert client.next_event() == expected
    client.send(b"".join(fragments(BINARY, [text[:3].encode(), text[3:].encode()])), deliver)
    assert client.next_event() == expected


@pytest.mark.parametrize("bad", [b"\xff", b"\x80\x81{", b'{"event":"\xff"}', bytes(range(256))])
def test_a_binary_frame_that_is_no_json(client, deliver, bad):
    client.send_frame(BINARY, bad, deliver)
    assert client.next_event() == BAD
    client.expect_silence()


def test_unknown_fields_are_ignored(client, topic):
    reply = client.ask({"event": "subscribe", "subscription": topic, "id": 5, "since": 7, "x": [1, {"y": None}], "": 0})
    assert reply == ok("subscribe", topic)


# §3.2, §3.3, §5.1 Names --------------------------------------------------------------------------------


EVENTS_WITH_NAMES = pytest.mark.parametrize("event", ["subscribe", "message", "unsubscribe"])


@EVENTS_WITH_NAMES
@pytest.mark.parametrize("name", ["x", "nodot", ".", ".x", "x.", "..", ".x.y"])
def test_invalid_names(client, event, name):
    assert client.ask({"event": event, "subscription": name}) == error(
        event, "Invalid subscription format.", subscription=name)


@EVENTS_WITH_NAMES
@pytest.mark.parametrize("falsy", ["", None, 0, False, [], {}], ids=json.dumps)
def test_a_falsy_name_is_an_empty_one_and_is_not_in_the_reply(client, event, falsy):
    assert client.ask({"event": event, "subscription": falsy}) == error(event, "Invalid subscription format.")


@EVENTS_WITH_NAMES
def test_a_missing_name(client, event):
    assert client.ask({"event": event}) == error(event, "Invalid subscription format.")


@EVENTS_WITH_NAMES
@pytest.mark.parametrize("name", [123, 1.5, True, ["a.b"], {"a": "b"}, [["a"]]], ids=json.dumps)
def test_a_name_that_is_no_string(client, event, name):
    """It broke SocketShark (§17.1); here it is an error like any other, without `subscription`."""
    assert client.ask({"event": event, "subscription": name}) == error(event, "Invalid subscription format.")
    client.expect_silence()


@pytest.mark.parametrize("suffix", [".a.b.c", ". ", ".é😀", '."\\\n\u0000', ".x..", ".*", ".%s{}"])
def test_the_first_dot_divides_and_the_topic_may_hold_anything(gateway, client, topic, suffix):
    name = topic + suffix
    assert client.ask({"event": "subscribe", "subscription": name}) == ok("subscribe", name)
    gateway.api.publish(name, 1)
    assert client.next_event()["subscription"] == name
    assert client.ask({"event": "unsubscribe", "subscription": name}) == ok("unsubscribe", name)


def test_names_are_case_sensitive(gateway, client, topic):
    client.ask({"event": "subscribe", "subscription": topic + ".A"})
    assert client.ask({"event": "message", "subscription": topic + ".a"})["error"] == "Subscription does not exist."
    gateway.api.publish(topic + ".a", 1)
    client.expect_silence()


# §5.2–5.4 without callbacks ------------------------------------------------------------------------------


def test_the_life_of_a_subscription(gateway, client, topic):
    assert client.ask({"event": "subscribe", "subscription": topic}) == ok("subscribe", topic)
    assert client.ask({"event": "subscribe", "subscription": topic}) == error(
        "subscribe", "Already subscribed.", subscription=topic)
    gateway.api.publish(topic, {"a": 1})
    assert client.next_event()["data"] == {"a": 1}
    assert client.ask({"event": "unsubscribe", "subscription": topic}) == ok("unsubscribe", topic)
    gateway.api.publish(topic, {"a": 2})
    client.expect_silence()
    assert client.ask({"event": "subscribe", "subscription": topic}) == ok("subscribe", topic)


@pytest.mark.parametrize("event", ["message", "unsubscribe"])
def test_a_name_that_is_not_subscribed(client, topic, event):
    assert client.ask({"event": event, "subscription": topic}) == error(
        event, "Subscription does not exist.", subscription=topic)


@pytest.mark.parametrize("data", [{}, {"data": None}, {"data": {"a": [1]}}, {"data": 0}, {"data": 1, "id": "x"}], ids=json.dumps)
def test_a_message_without_a_callback_is_accepted_silently(client, topic, data):
    client.ask({"event": "subscribe", "subscription": topic})
    client.send_event({"event": "message", "subscription": topic, **data})
    client.expect_silence()


def test_a_message_of_a_client_reaches_no_other_client(gateway, client, topic):
    """Without on_message there is nobody to pass it to."""
    client.ask({"event": "subscribe", "subscription": topic})
    with EventClient.open(gateway.port) as other:
        other.ask({"event": "subscribe", "subscription": topic})
        client.send_event({"event": "message", "subscription": topic, "data": 1})
        client.expect_silence()
        other.expect_silence()


def test_two_sessions_do_not_share_subscriptions(gateway, client, topic):
    client.ask({"event": "subscribe", "subscription": topic})
    with EventClient.open(gateway.port) as other:
        assert other.ask({"event": "subscribe", "subscription": topic}) == ok("subscribe", topic)
        other.ask({"event": "unsubscribe", "subscription": topic})
        gateway.api.publish(topic, 1)
        assert client.data(1) == [1]
        other.expect_silence()


def test_a_session_dies_with_its_socket(gateway, topic):
    with EventClient.open(gateway.port) as first:
        first.ask({"event": "subscribe", "subscription": topic})
        first.say_goodbye()
    with EventClient.open(gateway.port) as second:
        assert second.ask({"event": "unsubscribe", "subscription": topic})["error"] == "Subscription does not exist."


# §4 auth, as far as no service is asked ------------------------------------------------------------------------


@pytest.mark.parametrize("fields", [{}, {"method": "ticket"}, {"method": "nope", "ticket": "x"}, {"method": None},
                                    {"method": 5}, {"method": ["ticket"]}, {"ticket": ""}], ids=json.dumps)
def test_auth_without_a_configured_method(client, fields):
    assert client.ask({"event": "auth", **fields}) == error("auth", "Authentication method unsupported.")
    client.expect_silence()


# §3.4 ping ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("data", ["", "a", "é😀\u0000\"\\/", "x" * 128])
def test_pong_has_the_data(client, data):
    assert client.ask({"event": "ping", "data": data}) == {"event": "pong", "data": data}


@pytest.mark.parametrize("character", ["x", "é", "😀", "e\u0301"])
def test_pong_cuts_to_128_code_points(client, character):
    assert client.ask({"event": "ping", "data": character * 200}) == {"event": "pong", "data": (character * 200)[:128]}


@pytest.mark.parametrize("fields", [{}, *({"data": data} for data in (None, 0, 5, 1.5, True, False, [], ["a"], {}, {"a": 1}))],
                         ids=json.dumps)
def test_pong_has_null_for_anything_else(client, fields):
    assert client.ask({"event": "ping", **fields}) == {"event": "pong", "data": None}


# §3.3, §8 Pushes ------------------------------------------------------------------------------------------------------


TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{6})?\+00:00")


def push(gateway, client, topic, **publication) -> dict:
    if "subscribed" not in client.__dict__:
        client.ask({"event": "subscribe", "subscription": topic})
        client.subscribed = True
    gateway.api.publish(topic, **publication)
    return client.next_event()


def test_the_fields_of_a_push(gateway, client, topic):
    event = push(gateway, client, topic, data={"title": "x"})
    required = {"event", "subscription", "data", "received_at", "queue_size", "sent_at"}
    assert required <= set(event) <= required | {"published_at"}, event
    assert (event["event"], event["subscription"], event["data"]) == ("message", topic, {"title": "x"})
    assert event["queue_size"] == 0 and type(event["queue_size"]) is int
    for name in ("received_at", "sent_at"):
        assert TIME.fullmatch(event[name]), event
    assert event["received_at"] <= event["sent_at"]


def test_a_push_of_null_has_data(gateway, client, topic):
    assert push(gateway, client, topic, data=None)["data"] is None


@pytest.mark.parametrize("given, expected", [
    ("2026-04-21T10:00:00+00:00", "2026-04-21T10:00:00+00:00"),
    ("2026-04-21T10:00:00Z", "2026-04-21T10:00:00+00:00"),
    ("2026-04-21T10:00:00.5+00:00", "2026-04-21T10:00:00.500000+00:00"),
    ("2026-04-21T10:00:00.123456Z", "2026-04-21T10:00:00.123456+00:00"),
    ("2026-04-21T10:00:00.000000Z", "2026-04-21T10:00:00+00:00"),
    ("2026-04-21T12:00:00+02:00", "2026-04-21T12:00:00+02:00"),
    ("2026-04-21T10:00:00", "2026-04-21T10:00:00"),
    ("2026-04-21", "2026-04-21T00:00:00"),
])
def test_published_at_is_passed_on_in_the_usual_form(gateway, client, topic, given, expected):
    assert push(gateway, client, topic, data=1, published_at=given)["published_at"] == expected


@pytest.mark.parametrize("given", ["yesterday", "", "2026-13-01T00:00:00Z", "2026-04-21T25:00:00Z", None, 5, 1.5, [], {}, True],
                         ids=json.dumps)
def test_a_published_at_that_is_no_time_does_not_stop_the_message(gateway, client, topic, given):
    """A number lost it for everybody in SocketShark (§8)."""
    event = push(gateway, client, topic, data="arrives", published_at=given)
    assert event["data"] == "arrives" and "published_at" not in event


# Extra fields (§3.3), with a configuration ----------------------------------------------------------------------------------


@pytest.fixture
def books(start):
    gateway = start(dev=False, key="k" * 16, api_key="k" * 16, services={
        "books": {"require_authentication": False, "extra_fields": ["first", "second"]},
        "simple": {"require_authentication": False},
        "private": {},
    })
    with EventClient.open(gateway.port) as client:
        yield gateway, client


def test_services_of_the_configuration(books):
    _, client = books
    ask = lambda event, name: client.ask({"event": event, "subscription": name})  # noqa: E731
    assert ask("subscribe", "simple.x") == ok("subscribe", "simple.x")
    assert ask("subscribe", "nope.x") == error("subscribe", "Invalid service.", subscription="nope.x")
    assert ask("message", "nope.x") == error("message", "Invalid service.", subscription="nope.x")
    assert ask("unsubscribe", "Simple.x") == error("unsubscribe", "Invalid service.", subscription="Simple.x")
    assert ask("subscribe", "private.x") == error("subscribe", "Authentication required.", subscription="private.x")
    assert ask("message", "private.x") == error("message", "Subscription does not exist.", subscription="private.x")


def test_extras_are_echoed_as_they_were_at_subscribe_time(books):
    gateway, client = books
    extras = {"first": "a", "second": None}
    name = "books.life"

    def ask(event, **fields):
        return client.ask({"event": event, "subscription": name, **fields})

    assert ask("message", first=1, other=2) == error("message", "Subscription does not exist.", first=1, subscription=name)
    assert ask("subscribe", **extras, other="dropped") == ok("subscribe", name, **extras)
    assert ask("subscribe", first="ignored") == error("subscribe", "Already subscribed.", **extras, subscription=name)
    gateway.api.publish(name, 5)
    event = client.next_event()
    assert {**extras, "data": 5}.items() <= event.items() and "other" not in event
    assert ask("unsubscribe", first="ignored") == ok("unsubscribe", name, **extras)
    assert ask("unsubscribe", second=[1]) == error(
        "unsubscribe", "Subscription does not exist.", second=[1], subscription=name)


@pytest.mark.parametrize("value", [b"null", b"0", b'""', b"false", b"[]", b"{}", b"1.10", b"12345678901234567890",
                                   rb'"\u0041\/"', b'{"b":1,"a":[1.0]}'])
def test_extras_come_back_unchanged(books, value):
    gateway, client = books
    client.send_text(b'{"event":"subscribe","subscription":"books.x","first":' + value + b"}")
    assert member(client.next_event().raw, "first") == value
    gateway.api.publish("books.x", 1)
    assert member(client.next_event().raw, "first") == value


def test_extras_that_were_not_given_are_absent_and_services_do_not_share_them(books):
    _, client = books
    assert client.ask({"event": "subscribe", "subscription": "books.none"}) == ok("subscribe", "books.none")
    assert client.ask({"event": "subscribe", "subscription": "simple.x", "first": 1}) == ok("subscribe", "simple.x")
    assert client.ask({"event": "subscribe", "subscription": "nope.x", "first": 1}) == error(
        "subscribe", "Invalid service.", subscription="nope.x")
