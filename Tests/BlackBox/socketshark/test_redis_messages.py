"""§8: what services publish, what of it is delivered, and what else a push says."""

import json
import re

import pytest

from shark import PlainClient, Shark, message

NAME = "simple.x"
TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{6})?\+00:00")


@pytest.fixture
def shark(simple) -> Shark:
    return simple


@pytest.fixture
def client(shark) -> PlainClient:
    with shark.client() as client:
        client.subscribe(NAME)
        yield client


# The payload --------------------------------------------------------------------------------------


@pytest.mark.parametrize("data", [None, True, False, 0, -1.5, 12345678901234567890, "", "é😀\u0000", [], {},
                                  [1, [2, {"a": None}]]], ids=json.dumps)
def test_any_data_is_delivered_unchanged(shark, client, data):
    shark.publish(NAME, data)
    assert client.push() == message(NAME, data)


def test_unknown_fields_are_not_forwarded(shark, client):
    shark.publish(NAME, 1, event="spoofed", status="ok", error="x", other={"a": 1}, user_id=7, offset=5)
    assert client.push() == message(NAME, 1)


DROPPED = {
    "no data": '{"subscription": "simple.x"}',
    "no subscription": '{"data": 1}',
    "empty object": "{}",
    "empty": "",
    "not JSON": "nonsense",
    "cut short": '{"subscription": "simple.x", "data": 1',
    "two objects": '{"subscription": "simple.x", "data": 1}{"subscription": "simple.x", "data": 2}',
    "bad UTF-8": b'{"subscription": "simple.x", "data": "\xff"}',
    "null": "null",
    "number": "5",
    "string": '"simple.x"',
    "list": '["subscription", "data"]',
    "name null": '{"subscription": null, "data": 1}',
    "name of another topic": '{"subscription": "simple.y", "data": 1}',
    "name of another case": '{"subscription": "Simple.x", "data": 1}',
}


@pytest.mark.parametrize("payload", DROPPED.values(), ids=DROPPED)
def test_payloads_that_are_dropped(shark, client, payload):
    """None of them affects the messages around it."""
    shark.publish(NAME, "before")
    shark.publish_text(NAME, payload)
    shark.publish(NAME, "after")
    assert client.pushed(2) == ["before", "after"]
    client.expect_silence()


@pytest.mark.parametrize("name", [5, ["simple.x"], {"a": 1}, True], ids=json.dumps)
def test_a_name_that_is_no_string_is_dropped(shark, client, name):
    shark.publish_text(NAME, json.dumps({"subscription": name, "data": 1}))
    shark.expect_no_push(client, NAME)


def test_whitespace_and_escapes_in_the_payload_do_not_matter(shark, client):
    shark.publish_text(NAME, '\r\n {"d\\u0061ta" : [1 , 2],\t"subscription":"simple\\u002ex" } \n')
    assert client.push() == message(NAME, [1, 2])


def test_the_last_of_doubled_keys_counts(shark, client):
    shark.publish_text(NAME, '{"subscription": "simple.y", "data": 1, "data": 2, "subscription": "simple.x"}')
    assert client.push() == message(NAME, 2)


def test_the_prefix_is_part_of_the_channel_and_not_of_the_name(shark, client, redis):
    redis.publish(NAME, json.dumps({"subscription": NAME, "data": "without prefix"}))
    redis.publish("other:" + NAME, json.dumps({"subscription": NAME, "data": "other prefix"}))
    shark.expect_no_push(client, NAME)


def test_an_empty_prefix(serve, redis):
    shark = serve({"simple": {"require_authentication": False}}, redis={"channel_prefix": ""})
    with shark.client() as client:
        client.subscribe("simple.no_prefix_at_all")
        redis.publish("simple.no_prefix_at_all", json.dumps({"subscription": "simple.no_prefix_at_all", "data": 1}))
        assert client.push() == message("simple.no_prefix_at_all", 1)


def test_glob_characters_in_a_topic_are_no_pattern(shark, client):
    with shark.client() as other:
        other.subscribe("simple.*")
        shark.publish(NAME, 1)
        assert client.push() == message(NAME, 1)
        shark.expect_no_push(other, "simple.*")


def test_every_session_gets_it_once_and_in_order(shark, client):
    others = [shark.client() for _ in range(10)]
    for other in others:
        other.subscribe(NAME)
    for number in range(200):
        shark.publish(NAME, number)
    for one in [client, *others]:
        assert one.pushed(200) == list(range(200))
        one.expect_silence()
        one.close()


def test_topics_are_delivered_in_the_order_of_publishing(shark, client):
    client.subscribe("simple.y")
    names = [NAME, "simple.y"] * 50
    for number, name in enumerate(names):
        shark.publish(name, number)
    assert [client.push() for _ in names] == [message(name, number) for number, name in enumerate(names)]


# Times (SocketShark's master; PyPI's 0.5.0 has none of them) -------------------------------------------------


def test_the_times_of_a_live_push(shark, client):
    shark.publish(NAME, 1)
    event = client.next_event()
    assert set(event) == {"event", "subscription", "data", "received_at", "queue_size", "sent_at"}
    assert type(event["queue_size"]) is int and event["queue_size"] >= 0
    for name in ("received_at", "sent_at"):
        assert TIME.fullmatch(event[name]), event
    assert event["received_at"] <= event["sent_at"]


PUBLISHED_AT = {
    "2026-04-21T10:00:00+00:00": "2026-04-21T10:00:00+00:00",
    "2026-04-21T10:00:00Z": "2026-04-21T10:00:00+00:00",
    "2026-04-21T10:00:00.5+00:00": "2026-04-21T10:00:00.500000+00:00",
    "2026-04-21T10:00:00.123456Z": "2026-04-21T10:00:00.123456+00:00",
    "2026-04-21T12:00:00+02:00": "2026-04-21T12:00:00+02:00",
    "2026-04-21T10:00:00": "2026-04-21T10:00:00",
    "2026-04-21": "2026-04-21T00:00:00",
}


@pytest.mark.parametrize("given, expected", PUBLISHED_AT.items(), ids=PUBLISHED_AT)
def test_published_at_is_passed_on(shark, client, given, expected):
    shark.publish(NAME, 1, published_at=given)
    assert client.push() == message(NAME, 1, published_at=expected)


@pytest.mark.parametrize("given", [None, "yesterday", "", "2026-13-01T00:00:00Z"], ids=json.dumps)
def test_an_unreadable_published_at_is_left_out(shark, client, given):
    shark.publish(NAME, 1, published_at=given)
    assert client.push() == message(NAME, 1)


def test_times_can_be_left_out(serve):
    """As SocketShark 0.5.0 sends messages."""
    shark = serve({"simple": {"require_authentication": False, "extra_fields": ["x"]}}, push_times=False)
    with shark.client() as client:
        client.subscribe(NAME, x=1)
        shark.publish(NAME, 2, published_at="2026-04-21T10:00:00Z")
        assert client.next_event() == {"event": "message", "subscription": NAME, "data": 2, "x": 1}
