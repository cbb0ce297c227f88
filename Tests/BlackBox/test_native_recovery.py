"""Positions, recovery and gaps (protocol.md, Positions and recovery)."""

import json
import time

import pytest

from event_client import EventClient
from holdfast_process import Api, background, eventually


def publish_numbers(gateway, topic: str, numbers) -> None:
    for number in numbers:
        gateway.api.publish(topic, number)


def offsets(events) -> list[int]:
    return [event["offset"] for event in events]


# Positions ------------------------------------------------------------------------------------------


def test_the_position_of_a_new_topic(gateway, topic):
    with EventClient.native(gateway.port) as client:
        reply = client.subscribe(topic)
        assert set(reply) == {"event", "subscription", "status", "position"}
        assert set(reply["position"]) == {"epoch", "offset"}
        assert reply["position"]["offset"] == 0
        assert isinstance(reply["position"]["epoch"], str) and reply["position"]["epoch"]


def test_each_message_carries_its_offset(gateway, topic):
    with EventClient.native(gateway.port) as client:
        epoch = client.subscribe(topic)["position"]["epoch"]
        answers = [gateway.api.publish(topic, number) for number in range(5)]
        assert [answer["position"] for answer in answers] == [{"epoch": epoch, "offset": n} for n in range(1, 6)]
        events = client.messages(5)
        assert offsets(events) == [1, 2, 3, 4, 5]
        for event in events:
            assert {"event", "subscription", "offset", "data"} <= set(event) <= {
                "event", "subscription", "offset", "data", "published_at"}


def test_the_position_is_that_of_the_moment(gateway, topic):
    publish_numbers(gateway, topic, range(7))
    with EventClient.native(gateway.port) as client:
        assert client.subscribe(topic)["position"]["offset"] == 7
        client.expect_silence()
        publish_numbers(gateway, topic, [7])
        assert offsets(client.messages(1)) == [8]


def test_without_since_the_reply_says_nothing_of_recovery(gateway, topic):
    with EventClient.native(gateway.port) as client:
        assert "recovered" not in client.subscribe(topic)


def test_topics_are_numbered_apart(gateway, topic):
    publish_numbers(gateway, topic + ".a", range(3))
    publish_numbers(gateway, topic + ".b", range(5))
    with EventClient.native(gateway.port) as client:
        assert client.subscribe(topic + ".a")["position"]["offset"] == 3
        assert client.subscribe(topic + ".b")["position"]["offset"] == 5


# Recovery ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("since", range(6))
def test_since_is_followed_by_everything_after_it(gateway, topic, since):
    publish_numbers(gateway, topic, range(1, 6))
    with EventClient.native(gateway.port) as client:
        epoch = client.subscribe(topic)["position"]["epoch"]
        assert client.ask({"event": "unsubscribe", "subscription": topic})["status"] == "ok"
        reply = client.subscribe(topic, since={"epoch": epoch, "offset": since})
        assert reply["recovered"] is True and reply["position"] == {"epoch": epoch, "offset": 5}
        publish_numbers(gateway, topic, [6])
        events = client.messages(6 - since)
        assert offsets(events) == list(range(since + 1, 7))
        assert [event["data"] for event in events] == list(range(since + 1, 7))
        client.expect_silence()


def test_recovery_in_a_session_of_its_own(gateway, topic):
    """The example of protocol.md: the session is lost, the position is not."""
    with EventClient.native(gateway.port) as first:
        epoch = first.subscribe(topic)["position"]["epoch"]
        publish_numbers(gateway, topic, range(1, 42))
        first.messages(41)
    publish_numbers(gateway, topic, range(42, 45))
    with EventClient.native(gateway.port) as second:
        reply = second.subscribe(topic, since={"epoch": epoch, "offset": 41}, id=1)
        assert reply == {"event": "subscribe", "subscription": topic, "status": "ok", "id": 1,
                         "recovered": True, "position": {"epoch": epoch, "offset": 44}}
        assert second.data(3) == [42, 43, 44]


def test_recovered_messages_are_the_same_as_live_ones(gateway, topic):
    with EventClient.native(gateway.port) as client:
        epoch = client.subscribe(topic)["position"]["epoch"]
        gateway.api.publish_bytes(topic, b'{"a":1.10, "a":2}')
        live = client.messages(1)[0].raw
    with EventClient.native(gateway.port) as client:
        client.subscribe(topic, since={"epoch": epoch, "offset": 0})
        assert client.messages(1)[0].raw == live


BAD_SINCE = [5, "x", [], {}, {"epoch": "e"}, {"offset": 1}, {"epoch": 5, "offset": 1}, {"epoch": "e", "offset": "1"},
             {"epoch": "e", "offset": -1}, {"epoch": "e", "offset": 1.5}, {"epoch": None, "offset": 1},
             {"epoch": "e", "offset": None}, {"epoch": "e", "offset": 10**30}, {"epoch": ["e"], "offset": 1}, True]


@pytest.mark.parametrize("since", BAD_SINCE, ids=json.dumps)
def test_a_since_of_the_wrong_form(gateway, topic, since):
    """It subscribes to nothing; the client may ask again."""
    with EventClient.native(gateway.port) as client:
        reply = client.ask({"event": "subscribe", "subscription": topic, "since": since, "id": 1})
        assert (reply["status"], reply["code"], reply["subscription"], reply["id"]) == ("error", "bad_since", topic, 1)
        gateway.api.publish(topic, 1)
        client.expect_silence()
        client.subscribe(topic)


# No seam ------------------------------------------------------------------------------------------------


def test_no_seam_between_history_and_live_at_full_speed(start, topic):
    """One publisher at full speed; a reader that comes and goes by position sees every number once, in order."""
    gateway = start(history_count=50_000)
    published = 0

    def publish(stop):
        nonlocal published
        api = Api(gateway.port)
        while not stop.is_set():
            api.publish(topic, published)
            published += 1

    seen: list[int] = []
    with EventClient.native(gateway.port) as client:
        position = client.subscribe(topic)["position"]
    with background(publish):
        number = 0
        while number < 40 or len(seen) < 300:
            number += 1
            with EventClient.native(gateway.port) as client:
                reply = client.subscribe(topic, since=position)
                assert reply["recovered"] is True
                # All that was missed, and then some live ones: the seam lies between them.
                events = client.messages(reply["position"]["offset"] - position["offset"] + 1 + number % 10)
                seen += [event["data"] for event in events]
                position = {"epoch": position["epoch"], "offset": events[-1]["offset"]}
    with EventClient.native(gateway.port) as client:
        client.subscribe(topic, since=position)
        seen += client.data(published - len(seen))
        client.expect_silence()
    assert seen == list(range(published)), published


def test_no_seam_within_one_session_that_subscribes_again_and_again(start, topic):
    gateway = start(history_count=50_000)
    published = 0

    def publish(stop):
        nonlocal published
        api = Api(gateway.port)
        while not stop.is_set():
            api.publish(topic, published)
            published += 1

    seen: list[int] = []
    with EventClient.native(gateway.port) as client, background(publish):
        position = client.subscribe(topic)["position"]
        offset, base = position["offset"], position["offset"]
        for _ in range(40):
            for event in client.messages(3):
                seen.append(event["data"])
                offset = event["offset"]
            client.send_event({"event": "unsubscribe", "subscription": topic})
            while (event := client.next_event())["event"] != "unsubscribe":
                if event["event"] == "message":
                    seen.append(event["data"])
                    offset = event["offset"]
            assert client.subscribe(topic, since={**position, "offset": offset})["recovered"] is True
    assert seen == list(range(base, base + len(seen))) and len(seen) >= 120


def test_more_readers_than_one_flush_serves(start, topic):
    """The gateway writes to 128 sessions at a time and reads in between: what is published then must not overtake."""
    gateway = start(history_count=1_000)
    readers = [EventClient.native(gateway.port) for _ in range(300)]
    for reader in readers:
        reader.subscribe(topic)

    def publish(stop):
        api = Api(gateway.port)
        for number in range(50):
            api.publish(topic, number)

    with background(publish), background(publish), background(publish):
        pass
    seen = [offsets(reader.messages(150)) for reader in readers]
    assert all(one == list(range(1, 151)) for one in seen)
    for reader in readers:
        reader.expect_silence()
        reader.close()


def test_two_publishers_and_many_readers_agree_on_the_order(gateway, topic):
    readers = [EventClient.native(gateway.port) for _ in range(5)]
    for reader in readers:
        reader.subscribe(topic)

    def publisher(name):
        def publish(stop):
            api = Api(gateway.port)
            for number in range(150):
                api.publish(topic, [name, number])
        return publish

    with background(publisher("a")), background(publisher("b")):
        seen = [reader.messages(300) for reader in readers]
    assert all(offsets(events) == list(range(1, 301)) for events in seen)
    orders = [[event["data"] for event in events] for events in seen]
    assert all(order == orders[0] for order in orders)
    for name in "ab":
        assert [number for who, number in orders[0] if who == name] == list(range(150))
    for reader in readers:
        reader.close()


# Gaps ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("since, recovered", [(0, False), (3, False), (14, False), (15, True), (16, True), (20, True)])
def test_a_history_too_short_tells_exactly_what_is_missing(start, topic, since, recovered):
    """Twenty published, five kept: 16 to 20."""
    gateway = start(history_count=5)
    publish_numbers(gateway, topic, range(1, 21))
    with EventClient.native(gateway.port) as client:
        epoch = gateway.api.get(f"/api/history?subscription={topic}").json["position"]["epoch"]
        reply = client.subscribe(topic, since={"epoch": epoch, "offset": since})
        assert reply["recovered"] is recovered and reply["position"] == {"epoch": epoch, "offset": 20}
        first = max(since + 1, 16)
        if not recovered:
            gap = client.next_event()
            assert gap == {"event": "gap", "subscription": topic, "after": since, "next": 16}
        publish_numbers(gateway, topic, [21])
        assert offsets(client.messages(21 - first + 1)) == list(range(first, 22))
        client.expect_silence()


def test_a_history_grown_old_leaves_a_gap_up_to_the_next_message(start, topic):
    gateway = start(history_age=1)
    publish_numbers(gateway, topic, range(1, 8))
    history = f"/api/history?subscription={topic}"
    epoch = gateway.api.get(history).json["position"]["epoch"]
    eventually(lambda: not gateway.api.get(history).json["publications"], timeout=10, what="the end of the history")
    with EventClient.native(gateway.port) as client:
        reply = client.subscribe(topic, since={"epoch": epoch, "offset": 4})
        assert reply["recovered"] is False and reply["position"] == {"epoch": epoch, "offset": 7}
        assert client.next_event() == {"event": "gap", "subscription": topic, "after": 4, "next": 8}
        publish_numbers(gateway, topic, [8])
        assert offsets(client.messages(1)) == [8]
    with EventClient.native(gateway.port) as client:
        # Who has the newest has missed nothing, however empty the history is.
        assert client.subscribe(topic, since={"epoch": epoch, "offset": 8})["recovered"] is True
        client.expect_silence()


def test_another_epoch_is_a_gap_from_nowhere(gateway, topic):
    publish_numbers(gateway, topic, range(1, 4))
    with EventClient.native(gateway.port) as client:
        reply = client.subscribe(topic, since={"epoch": "another", "offset": 2})
        assert reply["recovered"] is False and reply["position"]["offset"] == 3
        assert client.next_event() == {"event": "gap", "subscription": topic, "after": None, "next": 1}
        assert client.data(3) == [1, 2, 3]
        client.expect_silence()


def test_an_offset_beyond_the_newest_is_a_gap_from_nowhere(gateway, topic):
    publish_numbers(gateway, topic, range(1, 4))
    with EventClient.native(gateway.port) as client:
        epoch = client.subscribe(topic)["position"]["epoch"]
        client.ask({"event": "unsubscribe", "subscription": topic})
        reply = client.subscribe(topic, since={"epoch": epoch, "offset": 4})
        assert reply["recovered"] is False
        assert client.next_event() == {"event": "gap", "subscription": topic, "after": None, "next": 1}
        assert client.data(3) == [1, 2, 3]
        client.expect_silence()


def test_a_restart_of_the_gateway_is_a_new_epoch_and_a_gap(start, topic):
    old = start()
    with EventClient.native(old.port) as first:
        before = first.subscribe(topic)["position"]
        publish_numbers(old, topic, range(10))
        first.messages(10)
        old.kill()
        assert first.wait_for_end() in ("end", "reset")
        new = start()
        with EventClient.resuming(first, port=new.port) as second:
            assert second.hello_reply["resumed"] is False
            reply = second.subscribe(topic, since={**before, "offset": 10})
            assert reply["recovered"] is False and reply["position"]["epoch"] != before["epoch"]
            gap = second.next_event()
            assert gap == {"event": "gap", "subscription": topic, "after": None, "next": reply["position"]["offset"] + 1}
            publish_numbers(new, topic, ["after"])
            event = second.messages(1)[0]
            assert (event["offset"], event["data"]) == (gap["next"], "after")


def test_a_gap_is_counted_and_repeated_like_any_event(start, topic):
    gateway = start(history_count=2)
    publish_numbers(gateway, topic, range(1, 6))
    epoch = gateway.api.get(f"/api/history?subscription={topic}").json["position"]["epoch"]
    with EventClient.native(gateway.port) as first:
        first.subscribe(topic, since={"epoch": epoch, "offset": 1})
        gap = first.next_event()
        assert gap["event"] == "gap"
        first.messages(2)
        first.reset()
        with EventClient.resuming(first, received=1) as second:
            assert second.next_event().raw == gap.raw
            assert offsets(second.messages(2)) == [4, 5]


# Unsubscribe -----------------------------------------------------------------------------------------------


def test_nothing_comes_after_the_reply_to_unsubscribe(gateway, topic):
    with EventClient.native(gateway.port) as client:
        client.subscribe(topic)
        assert client.ask({"event": "unsubscribe", "subscription": topic}) == {
            "event": "unsubscribe", "subscription": topic, "status": "ok"}
        publish_numbers(gateway, topic, range(3))
        client.expect_silence()


def test_every_subscriber_gets_every_message_once(gateway, topic):
    clients = [EventClient.native(gateway.port) for _ in range(100)]
    for client in clients:
        client.subscribe(topic)
    began = time.monotonic()
    publish_numbers(gateway, topic, range(20))
    for client in clients:
        assert client.data(20) == list(range(20))
    for client in clients[:10]:
        client.expect_silence()
    assert time.monotonic() - began < 20
    for client in clients:
        client.close()
