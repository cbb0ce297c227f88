"""What a reviewer found by attacking it, so that it stays mended."""

import threading
import time

import pytest

from event_client import EventClient
from fake_service import Answer, ok
from holdfast_process import Api, eventually
from native import Native
from shark import client_message, subscribe

OPEN = {"require_authentication": False}
KEY = "k" * 16


def test_a_session_that_moves_while_redis_is_away_goes_on(serve, own_redis):
    """Four loops: some of these sessions come back on another one. Moving needs no Redis."""
    shark = serve({"s": OPEN}, on=own_redis, threads=4)
    sessions = [Native.opened("websocket", shark.port) for _ in range(8)]
    for number, session in enumerate(sessions):
        session.subscribe(f"s.{number}")
    own_redis.kill()
    resumed = []
    for session in sessions:
        session.lose_line()
        begun = time.monotonic()
        resumed.append(session.resumed("websocket"))
        assert time.monotonic() - begun < 3
    own_redis.start()
    for number, session in enumerate(resumed):
        assert session.hear(30)["event"] == "gap"
        shark.publish(f"s.{number}", number)
        assert session.data(1) == [number]
        session.close()


def test_the_time_of_a_callback_ends_with_its_answers_last_byte(serve, service):
    """The head comes, three of a hundred bytes, and then nothing."""
    shark = serve({"s": {**OPEN, **service.urls("before_subscribe")}}, http={"timeout": 0.5, "tries": 1})
    service.always("/before_subscribe", lambda _: Answer(b'{"s', headers={"Content-Length": "100"}))
    with shark.client() as client:
        assert client.ask(subscribe("s.a"))["error"] == "Service unavailable."


def test_a_slow_service_takes_nothing_from_another(serve, service):
    shark = serve(
        {"slow": {**OPEN, "before_subscribe": service.url("/slow")},
         "fast": {**OPEN, "before_subscribe": service.url("/fast")}},
        limits={"callbacks": 2, "waiting_callbacks": 4}, drain={"window": 0, "deadline": 1},
    )  # fmt: skip
    gates = [service.hold("/slow") for _ in range(2)]
    with shark.client() as hog, shark.client() as other:
        for number in range(20):
            hog.send_event(subscribe(f"slow.{number}"))
        service.wait_for("/slow", 2)
        assert other.ask(subscribe("fast.x"))["status"] == "ok"
        for gate in gates:
            gate.set()


def test_a_count_that_cannot_be_leaves_nothing_behind(serve):
    shark = serve({"s": OPEN}, redis={"linger": 0})
    for _ in range(10):
        first = EventClient.native(shark.port)
        first.subscribe("s.a")
        with EventClient.resuming(first, received=10**6) as second:
            assert second.hello_reply["resumed"] is False
        first.close()
    shark.wait_for_subscribers("s.a", 0)


def test_messages_that_are_released_together_give_the_position_last(serve):
    """Three keys, thrice each in one moment: the offset comes with the last of those that were held."""
    shark = serve({"s": OPEN})
    with Native.opened("websocket", shark.port) as client:
        start = client.subscribe("s.a")["position"]["offset"]
        for number in range(2):
            for key in "abc":
                shark.publish("s.a", f"{key}{number}", options={"throttle": 0.4, "throttle_key": key})
        events = [client.hear() for _ in range(6)]
        assert [event["data"] for event in events] == ["a0", "b0", "c0", "a1", "b1", "c1"]
        assert [event.get("offset") for event in events[:3]] == [start + 1, start + 2, start + 3]
        assert [event.get("offset") for event in events[3:]] == [None, None, start + 6]
        assert events[5]["after"] == start + 3


def test_a_publication_is_repeated_while_it_is_under_way(serve, own_redis):
    shark = serve({"s": OPEN}, on=own_redis, api={"key": KEY})
    with shark.client() as client:
        client.subscribe("s.a")
        own_redis.freeze()
        receipts = []

        def publish() -> None:
            receipts.append(Api(shark.port, KEY).publish("s.a", 1, idempotency_key="k"))

        threads = [threading.Thread(target=publish) for _ in range(3)]
        for thread in threads:
            thread.start()
        own_redis.thaw()
        for thread in threads:
            thread.join(20)
        assert len(receipts) == 3 and len({str(receipt) for receipt in receipts}) == 1, receipts
        assert client.push()["data"] == 1
        shark.expect_no_push(client, "s.a")


def test_events_under_way_are_bounded(serve, service):
    """Each of another topic, so that none waits for another."""
    shark = serve({"s": {**OPEN, **service.urls("on_message")}}, limits={"waiting_bytes": 100_000})
    with shark.client() as client:
        for number in range(10):
            client.subscribe(f"s.{number}")
        gate = service.hold("/on_message", ok(data=1))
        service.always("/on_message", lambda _: Answer(ok(data=1), gate=gate))
        for number in range(10):
            client.send_event(client_message(f"s.{number}", "x" * 30_000))
        refused = [client.next_event() for _ in range(7)]
        assert all(reply["status"] == "error" and "bytes" in reply["error"] for reply in refused), refused
        gate.set()
        assert [client.next_event()["status"] for _ in range(3)] == ["ok"] * 3


def test_names_that_only_look_alike_are_two(serve):
    """é as one code point and as two: two channels in Redis, two topics here."""
    composed, decomposed = "s.\u00e9", "s.e\u0301"
    shark = serve({"s": OPEN})
    with shark.client() as first, shark.client() as second:
        first.subscribe(composed)
        second.subscribe(decomposed)
        assert shark.subscribers(composed) == shark.subscribers(decomposed) == 1
        shark.publish(composed, 1)
        shark.publish(decomposed, 2)
        assert first.push()["data"] == 1
        assert second.push()["data"] == 2
        shark.expect_no_push(first, composed)
        assert first.ask(subscribe(decomposed))["status"] == "ok"


@pytest.mark.parametrize("count", [1000])
def test_many_throttle_keys_do_not_hold_the_loop_up(serve, count):
    shark = serve({"s": OPEN}, threads=1)
    clients = [shark.client() for _ in range(20)]
    for client in clients:
        client.subscribe("s.a")
    for _ in range(2):
        for key in range(count):
            shark.publish("s.a", key, options={"throttle": 60, "throttle_key": str(key)})
    for client in clients:
        assert client.pushed(count) == list(range(count))
        client.close()
    metrics = shark.api
    eventually(lambda: metrics.get("/health").status == 200, 5)
